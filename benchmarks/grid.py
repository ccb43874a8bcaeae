"""Grids of shapes: GDClassifier against scikit-learn's fastest solver, and steps on single rows against SGDRegressor.

    python benchmarks/grid.py logistic                   n = 10³ … 10⁶, d = 5 … 500, ρ = 0, 0.5, 0.9, and CSR
    python benchmarks/grid.py sgd                        one row a step, dense d = 5 … 700, and CSR
    python benchmarks/grid.py logistic --most 1e6        only tables of at most so many values

Prints a line for each cell (times are the least of some rounds, in which the members take turns), and the worst ratio
and the geometric mean. One thread. Logistic fits reach 1e-8 of the minimum, each solver with the loosest tolerance that
does (`contest.py`); stochastic ones take ten epochs at the same rate.
"""

import argparse
import functools
import os
import time

for variable in ("OMP", "OPENBLAS", "MKL", "VECLIB_MAXIMUM"):
    os.environ[f"{variable}{'' if '_' in variable else '_NUM'}_THREADS"] = "1"

import numpy as np  # noqa: E402
from contest import Contest  # noqa: E402
from members import LOGISTIC  # noqa: E402
from problems import Problem, sparse_classes, sparse_table  # noqa: E402
from scipy.special import expit  # noqa: E402
from sklearn.linear_model import SGDRegressor  # noqa: E402

from fastgd import GDRegressor  # noqa: E402

SOLVERS = ("ours", "lbfgs", "newton-cholesky", "newton-cg", "sag", "saga")


def correlated(n, d, rho):
    """Rows with correlation ρ between any two columns, and classes drawn from a logistic model."""
    rng = np.random.default_rng(0)
    X = np.sqrt(1 - rho) * rng.normal(size=(n, d)) + np.sqrt(rho) * rng.normal(size=(n, 1))
    h = X @ (2 * rng.normal(size=d) / np.sqrt(d)) + 0.5
    return X, (rng.random(n) < expit(h)).astype(np.float64)


def logistic(most):
    """(name of the cell, the members as functions)."""
    members = {who: LOGISTIC[who] for who in SOLVERS}
    dense = [(n, d, rho) for n in (10**3, 10**4, 10**5, 10**6) for d in (5, 20, 50, 100, 500) for rho in (0, 0.5, 0.9)]
    for n, d, rho in dense:
        if n * d <= min(most, 10**8):
            problem = Problem(*correlated(n, d, rho), "log_loss", l2=1 / n)
            yield f"{n:,} × {d}, ρ = {rho}", Contest(problem, 1e-8, members, True, patience=5).fits
    for n, d, density in ((2_000, 500, 0.02), (20_000, 200, 0.05), (20_000, 1_000, 0.01), (200_000, 300, 0.02)):
        if n * d * density <= most:
            problem = Problem(*sparse_classes((n, d), density), "log_loss", l2=1 / n)
            yield f"{n:,} × {d:,}, CSR {density:.0%}", Contest(problem, 1e-8, members, True, patience=5).fits


def sgd(most):
    dense = [(max(1_000, 2_000_000 // d), d, 1) for d in (5, 7, 10, 20, 33, 50, 100, 200, 333, 500, 700)]
    csr = [(20_000, 10_000, 0.01), (20_000, 8_000, 0.01), (50_000, 1_000, 0.02), (50_000, 300, 0.1), (20_000, 500, 0.2)]
    for n, d, density in dense + csr:
        if n * d * density > most:
            continue
        if density == 1:
            X = np.random.default_rng(0).normal(size=(n, d))
        else:
            X, _ = sparse_table((n, d), density)
        rng = np.random.default_rng(1)
        y = X @ rng.normal(size=d) + 0.1 * rng.normal(size=n)
        rate = 0.1 / (density * d)
        same = {"alpha": 0.0, "max_iter": 10, "tol": None, "random_state": 0}
        members = {
            "ours": GDRegressor(penalty=None, solver="sgd", learning_rate=rate, batch_size=1, **same),
            "SGDRegressor": SGDRegressor(penalty=None, learning_rate="constant", eta0=rate, **same),
        }
        left = [float(np.mean((each.fit(X, y).predict(X) - y) ** 2)) for each in members.values()]
        assert max(left) < 1.1 * min(left), f"the members end at different losses: {left}"
        assert max(left) < 0.5 * np.var(y), f"the members have not learnt the table: {left}"
        what = f"{n:,} × {d:,}" + ("" if density == 1 else f", CSR {density:.0%}")
        yield what, {who: functools.partial(each.fit, X, y) for who, each in members.items()}


def rounds(fits, seconds):
    """The least time of each member: rounds in which they take turns, three fits each, until `seconds` are over."""
    least, begun = dict.fromkeys(fits, np.inf), time.perf_counter()
    while True:
        for who, fit in fits.items():
            for _ in range(3):  # the second and third find their code in the caches
                start = time.perf_counter()
                fit()
                least[who] = min(least[who], time.perf_counter() - start)
        if time.perf_counter() - begun > seconds:
            return least


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("grid", choices=["logistic", "sgd"])
    parser.add_argument("--most", type=float, default=1e8, help="values of X (default: %(default)g)")
    parser.add_argument("--seconds", type=float, default=1.0, help="for each cell (default: %(default)s)")
    options = parser.parse_args()
    ratios = {"dense": [], "CSR": []}
    print("| table | ours | fastest other | its time | ratio |\n| --- | ---: | --- | ---: | ---: |", flush=True)
    for what, fits in {"logistic": logistic, "sgd": sgd}[options.grid](options.most):
        times = rounds(fits, options.seconds)
        ours = times.pop("ours")
        peer = min(times, key=times.get)
        ratio = times[peer] / ours
        ratios["CSR" if "CSR" in what else "dense"].append(ratio)
        print(f"| {what} | {ours * 1e3:.3g} ms | {peer} | {times[peer] * 1e3:.3g} ms | {ratio:.2f} |", flush=True)
    for kind, found in ratios.items():
        if found:
            print(f"\n{kind}: worst {min(found):.2f}, geometric mean {np.exp(np.mean(np.log(found))):.2f}")


if __name__ == "__main__":
    main()
