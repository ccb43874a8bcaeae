"""`fastgd bench`: times of some kernels on this machine, compared with NumPy and SciPy.

The benchmarks of the repository compare more cases, more precisely. Results are compared before a case is timed. Both
sides use one thread; since BLAS reads its number of threads when NumPy is imported, `in_one_thread` starts a process.
"""

import os
import subprocess
import sys
import time
from typing import NamedTuple

import numpy as np

from fastgd import kernels
from fastgd.derivatives.gradient import numerical_gradient
from fastgd.descent.single import gradient_descent
from fastgd.objective import LinearObjective
from fastgd.objective.functions import sigmoid


class Row(NamedTuple):
    """One case: what it is, against what, and the least seconds of a call of each."""

    what: str
    peer: str
    ours: float
    theirs: float


def rows(seconds):
    """The cases one after the other, each timed for about `seconds`."""
    for what, peer, ours, theirs in _cases():
        a, b = ours(), theirs()
        if not np.allclose(a, b, rtol=1e-6, atol=1e-8):
            raise ArithmeticError(f"{what}: fastgd and {peer} differ by {np.abs(a - b).max():.2g}")
        yield Row(what, peer, *_times((ours, theirs), seconds))


def in_one_thread(seconds):
    """The lines of the report, as they come, from a process whose BLAS has one thread."""
    command = [sys.executable, "-m", "fastgd.cli.bench", repr(float(seconds))]
    # What the BLAS libraries that NumPy comes with read their number of threads from.
    threads = "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS"
    environment = os.environ | dict.fromkeys(threads, "1") | {"PYTHONIOENCODING": "utf-8"}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, encoding="utf-8") as process:
        for line in process.stdout:
            yield line.rstrip("\n")
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)


def report(seconds):
    """A table of all cases, line by line."""
    yield f"kernels {kernels.active.name}, one thread; the least time of a call\n"
    yield f"{'':44} {'fastgd':>10} {'peer':>10} {'ratio':>7}"
    for row in rows(seconds):
        times = f"{_duration(row.ours)} {_duration(row.theirs)} {row.theirs / row.ours:7.2f}"
        yield f"{row.what:<44} {times}  {row.peer}"


def _duration(seconds):
    """Three digits and a unit, ten characters wide."""
    unit, name = (1, "s") if seconds >= 1 else (1e-3, "ms") if seconds >= 1e-3 else (1e-6, "µs")
    return f"{seconds / unit:#.3g}".rstrip(".").rjust(7) + f" {name:<2}"


def _cases():
    """(what, peer, ours, theirs), the last two without arguments and with equal results."""
    rng = np.random.default_rng(0)
    for n, d in ((1_000, 10), (100_000, 20)):
        X = rng.normal(size=(n, d))
        w = rng.normal(size=d)
        y = X @ w + rng.normal(size=n)
        squared = LinearObjective(X, y)
        where = rng.normal(size=d)
        yield (
            f"squared error, gradient, {n:,} x {d}", "NumPy",
            lambda o=squared, at=where: o.gradient(at),
            lambda X=X, y=y, at=where: X.T @ (X @ at - y),
        )  # fmt: skip
    yes = (y > 0).astype(float)
    logistic = LinearObjective(X, yes, activation="sigmoid", loss="log")
    yield (
        f"logistic regression, gradient, {n:,} x {d}", "NumPy",
        lambda: logistic.gradient(where),
        lambda: X.T @ (1 / (1 + np.exp(-(X @ where))) - yes) / n,
    )  # fmt: skip
    n, d, lr = 100, 2, 0.05
    few = X[:n, :d].copy()
    targets = sigmoid(few @ [1.0, -2.0])
    small = LinearObjective(few, targets, activation="sigmoid")
    yield (
        f"1,000 steps of a sigmoid unit, {n} x {d}", "NumPy loop",
        lambda: gradient_descent(small, lr=lr, step_num=1000).x,
        lambda: _loop(few, targets, lr, 1000),
    )  # fmt: skip

    from scipy.optimize._numdiff import approx_derivative  # slow to import, and needed here only

    def rosenbrock(x):
        return float(np.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2))

    at = np.linspace(-1, 1, 10)
    yield (
        "numerical gradient, Rosenbrock, d = 10", "SciPy 3-point",
        lambda: numerical_gradient(rosenbrock, at),
        lambda: approx_derivative(rosenbrock, at),
    )  # fmt: skip


def _loop(X, y, lr, steps):
    """The descent of S0 as one writes it in NumPy."""
    w = np.zeros(X.shape[1])
    for _ in range(steps):
        output = 1 / (1 + np.exp(-(X @ w)))
        w -= lr * (X.T @ ((output - y) * output * (1 - output)))
    return w


def _times(calls, seconds):
    """The least time of a call of each, taken in turns for about `seconds`."""
    least = [np.inf] * len(calls)
    end = time.perf_counter() + seconds
    while True:
        for i, call in enumerate(calls):
            # Short calls are repeated: the clock's resolution is too coarse for one.
            repeats = 20 if least[i] < 1e-3 else 1
            started = time.perf_counter()
            for _ in range(repeats):
                call()
            least[i] = min(least[i], (time.perf_counter() - started) / repeats)
        if time.perf_counter() >= end:
            return least


if __name__ == "__main__":
    try:
        for _line in report(float(sys.argv[1])):
            print(_line, flush=True)
    except KeyboardInterrupt:
        sys.exit(130)
