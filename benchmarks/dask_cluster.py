"""A fit on two worker processes of Dask: beside the same in memory with two threads, and beside dask-glm.

    python benchmarks/dask_cluster.py --rows 2000000
    python benchmarks/dask_cluster.py --rows 200000 --peers PYTHON

PYTHON is the interpreter of an environment with dask-glm (`pip install dask-glm`).
The blocks are the same; each solver is run with more and more iterations until its loss is within 1e-6 of the least.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time

import numpy as np

COLUMNS, TOL = 50, 1e-8


def data(client, rows, blocks):
    """Persisted (X, y) of a logistic model."""
    import dask.array as da
    from distributed import wait

    rng, w = da.random.default_rng(0), np.random.default_rng(1).normal(size=COLUMNS) / 5
    X = rng.normal(size=(rows, COLUMNS), chunks=(rows // blocks, COLUMNS))
    y = (rng.random(rows, chunks=rows // blocks) < 1 / (1 + da.exp(-(X @ w)))).astype(float)
    X, y = client.persist([X, y])
    wait([X, y])
    return X, y


def loss(w, X, y):
    """The mean log loss of NumPy arrays."""
    h = X @ w
    return float(np.mean(np.logaddexp(0, h) - y * h))


def timed(function, repeats):
    """(median seconds, the last value)."""
    times = []
    for _ in range(repeats):
        begun = time.perf_counter()
        value = function()
        times.append(time.perf_counter() - begun)
    return statistics.median(times), value


def ours(arguments):
    from fastgd import GDClassifier, GDRegressor, LinearObjective, gradient_descent

    with cluster(arguments.workers) as client:
        X, y = data(client, arguments.rows, arguments.blocks)
        here = X.compute(), y.compute()

        def objective(X, y, **options):
            o = LinearObjective(X, y, activation="sigmoid", loss="log", **options)
            return gradient_descent(o, lr="auto", tol=TOL)

        fits = {
            "gradient_descent, log loss": objective,
            "GDClassifier": lambda X, y, n_jobs=None: GDClassifier(tol=TOL, n_jobs=n_jobs).fit(X, y),
            "GDRegressor": lambda X, y, n_jobs=None: GDRegressor(n_jobs=n_jobs).fit(X, y),
        }
        print(f"{arguments.rows:,} x {COLUMNS}, {arguments.blocks} blocks, {arguments.workers} workers\n")
        print("| fit | Dask, s | in memory, 2 threads, s | ratio |\n| --- | ---: | ---: | ---: |")
        for name, fit in fits.items():
            fit(X, y)
            there = timed(lambda fit=fit: fit(X, y), arguments.repeats)
            memory = timed(lambda fit=fit: fit(*here, n_jobs=2), arguments.repeats)
            print(f"| {name} | {there[0]:.3f} | {memory[0]:.3f} | {there[0] / memory[0]:.2f} |")
            if name.startswith("gradient"):
                least, seconds = there[1].fun, there[0]
    return least, seconds


def peers(arguments):
    """Print the time of each solver of dask-glm as JSON."""
    from dask_glm import algorithms

    found = {}
    with cluster(arguments.workers) as client:
        X, y = data(client, arguments.rows, arguments.blocks)
        here = X.compute(), y.compute()
        for name, options in (("lbfgs", {"lamduh": 0.0}), ("newton", {}), ("admm", {"lamduh": 0.0})):
            for iterations in (2, 4, 8, 16, 32, 64, 128):
                begun = time.perf_counter()
                try:
                    w = getattr(algorithms, name)(X, y, max_iter=iterations, **options)
                except Exception as error:
                    found[name] = [None, f"{type(error).__name__}: {str(error)[:80]}"]
                    break
                seconds = time.perf_counter() - begun
                gap = loss(np.asarray(w), *here) / arguments.least - 1
                found[name] = [seconds, gap]
                if gap <= 1e-6 or seconds > arguments.patience:
                    break
    print(json.dumps(found))


def cluster(workers):
    """A Client of a LocalCluster of so many processes of one thread."""
    from distributed import Client

    return Client(n_workers=workers, threads_per_worker=1, processes=True, dashboard_address=None, memory_limit=None)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--rows", type=int, default=2_000_000)
    parser.add_argument("--blocks", type=int, default=20)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--patience", type=float, default=60.0)
    parser.add_argument("--peers")
    parser.add_argument("--least", type=float, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.least is not None:
        peers(arguments)
        return
    least, seconds = ours(arguments)
    if arguments.peers:
        command = [arguments.peers, __file__, "--least", repr(least), "--rows", str(arguments.rows)]
        command += ["--blocks", str(arguments.blocks), "--workers", str(arguments.workers)]
        command += ["--patience", str(arguments.patience)]
        result = subprocess.run(command, capture_output=True, text=True)
        if result.returncode:
            sys.exit(result.stderr)
        print("\n| solver | s | gap of the loss | times ours |\n| --- | ---: | ---: | ---: |")
        for name, (taken, gap) in json.loads(result.stdout.splitlines()[-1]).items():
            shown = "–" if taken is None else f"{taken:.2f}"
            gap, ratio = (gap, "–") if taken is None else (f"{gap:.1e}", f"{taken / seconds:.0f}")
            print(f"| dask-glm {name} | {shown} | {gap} | {ratio} |")


if __name__ == "__main__":
    main()
