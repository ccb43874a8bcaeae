"""The measurements behind `constants.py`: a function for each tuned constant, which returns what it measures now.

Times of one thread are CPU times, so other work on the machine disturbs them through the caches only; those of two
threads need idle cores. The unit "values of a pass" is the time of `LinearObjective.value_and_gradient` on an array of
100,000 × 50 float64, divided by its number of values.
"""

import functools
import itertools
import os
import subprocess
import sys
import time
from unittest import mock

import numpy as np

import fastgd
from fastgd import kernels, linalg, validation
from fastgd.data import moments, rows_of, threads
from fastgd.derivatives import sampling
from fastgd.descent import sweep as sweep_module
from fastgd.descent import sweep_routes
from fastgd.kernels.codes import ACTIVATIONS, PointLoss
from fastgd.threads import Threads

MEASURED = {}


def measures(name):
    """Register a function that returns what is measured, as a sentence."""

    def register(function):
        MEASURED[name] = function
        return function

    return register


def least(function, seconds=0.2, clock=time.thread_time):
    """The least time of a call, over calls that take that long together."""
    function()
    times, until = [], time.perf_counter() + seconds
    calls = 1 + int(1e-4 / time_of(function, 1, clock))  # of short functions so many at once that the clock can tell
    while time.perf_counter() < until or len(times) < 3:
        times.append(time_of(function, calls, clock))
    return min(times)


def time_of(function, calls, clock):
    """Seconds of a call, as the mean of several."""
    start = clock()
    for _ in itertools.repeat(None, calls):
        function()
    return max(clock() - start, 1e-9) / calls


def crossing(sizes, first, second, clock=time.thread_time):
    """The least size from which second(size) takes less time than first(size), and the ratios at all sizes."""
    ratios = {size: least(first(size), 0.1, clock) / least(second(size), 0.1, clock) for size in sizes}
    lost = [size for size, ratio in ratios.items() if ratio < 1]
    won = [size for size in sizes if not lost or size > max(lost)]
    found = f"from {won[0]:,}" if won else f"not up to {sizes[-1]:,}"
    return found, ", ".join(f"{ratio:.2f} at {size:,}" for size, ratio in ratios.items())


def relative(module, name, values, function):
    """The time of a call with each of some values of a constant, as a multiple of the least of these times."""
    times = {}
    for value in values:
        with mock.patch.object(module, name, value):
            times[value] = least(function, 0.4)
    best = min(times.values())
    return ", ".join(f"{seconds / best:.2f} with {value:,}" for value, seconds in times.items())


@functools.cache
def table(n, d, k=1):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(n, d))
    Y = X @ rng.normal(size=(d, k)) + rng.normal(size=(n, k))
    return X, Y[:, 0] if k == 1 else Y


@functools.cache
def value_of_a_pass():
    """Seconds: the unit of costs."""
    objective = fastgd.LinearObjective(*table(100_000, 50))
    w = np.ones(50)
    return least(lambda: objective.value_and_gradient(w), 1.0) / 5_000_000


def in_values(seconds):
    return seconds / value_of_a_pass()


@measures("BLOCK_VALUES")
def block_values():
    blocks = range(64)
    task = least(lambda: threads.over_blocks(lambda block: None, blocks, 2), clock=time.perf_counter) / len(blocks)
    work = (1 << 17) * value_of_a_pass()
    return f"a block of 2¹⁷ values takes {work * 1e6:.0f} µs, handing it to a thread {task * 1e6:.1f} µs"


@measures("THREAD_VALUES")
def thread_values():
    if len(os.sched_getaffinity(0)) < 2:
        return "two threads need two cores"

    def passes(jobs):
        def of(values):
            objective = fastgd.LinearObjective(*table(values // 32, 32), n_jobs=jobs)
            return lambda: objective.value_and_gradient(np.ones(32))

        return of

    with mock.patch.object(threads, "THREAD_VALUES", 1):
        found, ratios = crossing([1 << i for i in range(18, 24)], passes(1), passes(2), time.perf_counter)
    return f"two threads are faster {found} (one thread ÷ two: {ratios})"


@measures("BLAS_VALUES")
def blas_values():
    gemm = kernels.gemm(np.dtype(np.float64))
    codes = ACTIVATIONS["identity"], PointLoss("squared")

    def passes(blas):
        def of(size):
            d, k = 16, 4
            X, Y = table(size // (d * k), d, k)
            W, none = np.zeros((d, k)), np.empty(0)
            out = np.empty(k), np.empty((d, k)), np.empty(k)
            return lambda: kernels.active.total_loss_and_gradient(
                X, Y, W, np.zeros(k), none, none, *codes, blas, *out
            )  # fmt: skip

        return of

    found, ratios = crossing([1 << i for i in range(12, 24, 2)], passes(None), passes(gemm))
    seconds = import_time("scipy.linalg.cython_blas")
    return f"BLAS is faster {found} (own loops ÷ BLAS: {ratios}); importing it takes {seconds * 1e3:.0f} ms, once"


def import_time(module):
    """Seconds that an import takes in a process that has imported fastgd."""
    program = f"import time, fastgd; start = time.process_time(); import {module}; print(time.process_time() - start)"
    runs = [subprocess.run([sys.executable, "-c", program], capture_output=True, text=True) for _ in range(3)]
    return min(float(run.stdout) for run in runs)


@measures("BLAS_ADVANTAGE")
def blas_advantage():
    X, _ = table(20_000, 200)
    return f"{X.size * 200 / in_values(least(lambda: X.T @ X)):.1f} multiplications in the time of a value of a pass"


@functools.cache
def csr_table(n=20_000, d=2_000, stored=20):
    from scipy import sparse

    rng = np.random.default_rng(0)
    columns = np.sort(rng.integers(0, d, (n, stored)), axis=1)
    X = sparse.csr_array((rng.normal(size=n * stored), columns.ravel(), np.arange(0, n * stored + 1, stored)), (n, d))
    X.sum_duplicates()
    return X, rng.normal(size=n)


@functools.cache
def sparse_value_of_a_pass():
    X, y = csr_table()
    objective = fastgd.LinearObjective(X, y)
    w = np.ones(X.shape[1])
    return least(lambda: objective.value_and_gradient(w)) / X.nnz


@measures("ENTRY_PRODUCT")
def entry_product():
    found = []
    for n, d, stored in ((20_000, 300, 30), (20_000, 2_000, 20)):
        X, _ = csr_table(n, d, stored)
        products = float(np.sum(np.diff(X.indptr) ** 2))
        found.append(f"{least(lambda X=X: X.T @ X, 0.5) / products / sparse_value_of_a_pass():.1f} at d = {d:,}")
    return f"values of a pass over CSR rows for a product: {', '.join(found)}"


@measures("CHOLESKY_ADVANTAGE")
def cholesky_advantage():
    d = 1000
    G = np.eye(d) * d + np.ones((d, d))
    seconds = least(lambda: np.linalg.cholesky(G))
    return f"d³/{d**3 / (seconds / sparse_value_of_a_pass()):.0f} values of a pass over CSR rows, at d = {d:,}"


@measures("PIECE_VALUES")
def piece_values():
    X, y = table(100_000, 50)
    rows = rows_of(X.astype(np.float32), y.astype(np.float32)[:, None], np.empty(0, np.float32))
    shown = relative(moments, "PIECE_VALUES", [1 << i for i in range(13, 24, 2)], rows.moments)
    return f"time of the moments of 100,000 × 50 in float32, of the least: {shown}"


@measures("SYRK_PRODUCTS")
def syrk_products():
    X, _ = table(20_000, 500)
    seconds = {}
    for name, threshold in (("product", np.inf), ("dsyrk", 0)):
        with mock.patch.object(moments, "SYRK_PRODUCTS", threshold):

            def add():
                found = moments.Products(500, X.size)
                for part in moments.slices(len(X), 500):
                    found.add(X[part])
                return found.total

            seconds[name] = least(add, 0.5)
    saved = (seconds["product"] - seconds["dsyrk"]) / (X.size * 500)
    cost = import_time("scipy.linalg.blas")
    crossover = f"it pays from {cost / saved:.1e} multiplications" if saved > 0 else "it is no faster here"
    return f"importing takes {cost * 1e3:.0f} ms, dsyrk saves {saved * 1e12:.0f} ps a multiplication: {crossover}"


@measures("MUCH_WORK")
def much_work():
    def enter():
        with linalg.one_blas_thread(np.inf):
            pass

    X, _ = table(2_000, 200)
    product = least(lambda: X.T @ X) / (X.size * 200)
    work = f"2²⁰ multiplications take {2**20 * product * 1e6:.0f} µs"
    return f"setting the number of threads takes {least(enter) * 1e6:.0f} µs, {work}"


@measures("FEW_VALUES")
def few_values():
    def by_python(size):
        x = table(size, 1)[1]
        return lambda: np.isfinite(sum(x.tolist()))

    def by_numpy(size):
        x = table(size, 1)[1]

        def check():
            with np.errstate(all="ignore"):
                return np.isfinite(np.sum(x))

        return check

    found, ratios = crossing([1 << i for i in range(5, 11)], by_python, by_numpy)
    return f"NumPy is faster {found} (Python ÷ NumPy: {ratios})"


@measures("CHECK_VALUES")
def check_values():
    X, _ = table(100_000, 50)
    shown = relative(validation, "CHECK_VALUES", [1 << i for i in range(12, 23, 2)], lambda: validation.first_bad(X))
    return f"time of the check of 100,000 × 50, of the least: {shown}"


@measures("WORTH_THREADS")
def worth_threads():
    def begin():
        with Threads(2) as pool:
            for future in [pool.submit(int) for _ in range(2)]:
                future.result()

    return f"starting and ending two threads takes {least(begin, clock=time.perf_counter) * 1e3:.2f} ms"


@measures("BATCH_NUMBERS")
def batch_numbers():
    x, sizes = np.ones(1000), [1 << i for i in range(11, 22, 2)]

    def gradient():
        return fastgd.numerical_gradient(lambda points: np.sum(points**2, axis=1), x, vectorized=True)

    shown = relative(sampling, "BATCH_NUMBERS", sizes, gradient)
    return f"time of a gradient of Σx² in 1,000 variables, of the least: {shown}"


@functools.cache
def value_of_a_run():
    """Seconds for a value of X and a run, in a pass of `sweep` that 64 runs share."""
    objective = fastgd.LinearObjective(*table(200_000, 20), loss="mse")
    rates = np.full(64, 1e-3)

    def run(steps):
        return least(lambda: fastgd.sweep(objective, lr=rates, step_num=steps, route="direct"), 1.0)

    return (run(6) - run(2)) / (4 * 64 * 4_000_000)


@measures("GRAM_SETUP")
def gram_setup():
    found = []
    for n, d in ((200_000, 20), (20_000, 500)):
        X, y = table(n, d)
        rows = rows_of(X, y[:, None], np.empty(0))
        measured = least(rows.moments) / X.size / value_of_a_run()
        model = sweep_module.GRAM_SETUP + d / sweep_module.GRAM_COLUMNS_PER_UNIT
        found.append(f"{measured:.0f} at d = {d} where GRAM_SETUP + d/GRAM_COLUMNS_PER_UNIT is {model:.0f}")
    return f"forming XᵀX takes, in values of a run in a shared pass: {'; '.join(found)}"


@measures("CALL_COLUMNS")
def call_columns():
    objective = fastgd.LinearObjective(*table(200_000, 20), loss="mse")

    def runs():
        return fastgd.sweep(objective, lr=np.full(64, 1e-3), step_num=3, route="direct")

    return f"time of 64 runs, of the least: {relative(sweep_routes, 'CALL_COLUMNS', [4, 8, 16, 32, 64], runs)}"


@measures("BURST_WORK")
def burst_work():
    X, y = table(100_000, 50)
    objective = fastgd.LinearObjective(X, y)
    n, d = X.shape

    def run(epochs):
        return least(
            lambda: fastgd.gradient_descent(objective, lr=1e-4, step_num=epochs * n, batch_size=1, seed=0), 0.5
        )

    seconds = run(2) - run(1)
    work = (1 << 25) / (n * (d + 16)) * seconds
    return f"2²⁵ multiplications of steps on single rows take {work * 1e3:.0f} ms"


@measures("FIRST_VALUES")
def first_values():
    X, y = table(1_000, 20)
    # More columns than rows: such a table is never compressed to XᵀX, so that each step goes over all values.
    wide = fastgd.LinearObjective(X.T.copy(), y[:20], loss="mse")
    seconds = least(lambda: fastgd.gradient_descent(wide, lr=1e-5, step_num=400), 0.3)
    seconds -= least(lambda: fastgd.gradient_descent(wide, lr=1e-5, step_num=100), 0.3)
    return f"300,000 values of steps in a kernel take {300_000 / (300 * X.size) * seconds * 1e3:.2f} ms"


@measures("EXACT_COLUMNS")
def exact_columns():
    X, _ = table(2_000, 512)
    G = X.T @ X
    return f"the eigenvalues of a matrix of 512 columns take {least(lambda: np.linalg.eigvalsh(G)) * 1e3:.0f} ms"


@measures("DENSE_COLUMNS")
def metric_columns():
    d = 2048
    G = np.eye(d) * d + np.ones((d, d))
    return f"a Cholesky decomposition of {d:,} columns takes {least(lambda: np.linalg.cholesky(G)) * 1e3:.0f} ms"


@measures("PASSES")
def numerical_passes():
    ratios = {}
    for n, d in ((100_000, 10), (4_000, 500)):
        objective, w = fastgd.LinearObjective(*table(n, d)), np.ones(d)
        numerical = least(lambda o=objective, w=w: o.numerical_gradient(w), 0.5)
        ratios[n, d] = numerical / least(lambda o=objective, w=w: o.value_and_gradient(w))
    shown = ", ".join(f"{ratio:.1f} at {n:,} × {d}" for (n, d), ratio in ratios.items())
    return f"numerical gradient ÷ value and gradient, squared error: {shown}"


@measures("PRODUCT_TIME")
def product_time():
    X, _ = table(16_000, 200)
    s = np.ones(len(X))[:, None]
    return f"{in_values(least(lambda: X.T @ (s * X))) / (X.size * 200):.3f} values of a pass for a multiplication"


@measures("STEP_TIME")
def step_time():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(400, 8)) + 2 * rng.normal(size=(400, 1))
    y = (X[:, 0] - X[:, 1] + rng.logistic(size=400) > 0).astype(float)
    objective = fastgd.LinearObjective(X, y, activation="sigmoid", loss="log", fit_intercept=True, l2=1e-6)

    def fit(steps):
        return least(lambda: fastgd.gradient_descent(objective, solver="preconditioned", tol=None, step_num=steps), 0.5)

    return f"{in_values((fit(10) - fit(2)) / 8):.1e} values of a pass for a step on a table of 400 × 8"


@measures("SMALL_CHOICE")
def small_choice():
    X, _ = table(20_000, 57)
    return f"2²⁶ multiplications of XᵀX take {least(lambda: X.T @ X) * 2**26 / (X.size * 57) * 1e3:.1f} ms"
