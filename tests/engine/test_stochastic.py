"""`gradient_descent` with batch_size, against a loop in NumPy that is written from what the documentation says."""

import itertools

import numpy as np
import pytest
import scipy.sparse
from numpy.testing import assert_allclose, assert_array_equal

from fastgd import DivergenceError, LinearObjective, Status, gradient_descent, kernels
from fastgd.data.order import SHUFFLED_ROWS, epoch_order

pytestmark = pytest.mark.with_reference

# Both loops take the same steps; they add up a row in other orders.
SAME = {np.dtype(np.float64): {"rtol": 1e-11, "atol": 1e-12}, np.dtype(np.float32): {"rtol": 1e-3, "atol": 2e-5}}
N = 45  # no multiple of 7, so the last batch of an epoch is a short one


def data(n=N, d=4, k=None, dtype=np.float64):
    rng = np.random.default_rng(3)
    X = rng.normal(0.2, 1.0, (n, d)).astype(dtype)
    X[rng.random((n, d)) < 0.3] = 0  # so that CSR rows have different lengths
    y = (X @ rng.normal(size=(d, k) if k else d) + rng.normal(size=(n, k) if k else n)).astype(dtype)
    return X, y


def problem(name, X=None, dtype=np.float64):
    """An objective by the name of what is special about it; X replaces the data it stands on."""
    options = {
        "mse": {},
        "sse": {"loss": "sse"},
        "penalty": {"l2": 0.3},
        "penalty of a sum": {"loss": "sse", "l2": 3.0},
        "weights": {"weighted": True, "l2": 0.1},
        "weights of a sum": {"weighted": True, "loss": "sse"},
        "intercept": {"fit_intercept": True, "l2": 0.2},
        "outputs": {"k": 3, "fit_intercept": True, "weighted": True},
        "log": {"loss": "log", "activation": "sigmoid", "fit_intercept": True},
        "softmax": {"loss": "log", "activation": "softmax", "k": 3, "fit_intercept": True, "l2": 0.05},
    }[name].copy()
    weighted, k = options.pop("weighted", False), options.pop("k", None)
    table, y = data(k=k, dtype=dtype)
    if name == "log":
        y = (y > 0).astype(dtype)
    if name == "softmax":
        y = np.argmax(y, axis=1)
    s = np.random.default_rng(4).uniform(0.5, 2, N).astype(dtype) if weighted else None
    options.setdefault("loss", "mse")
    return LinearObjective(table if X is None else X, y, sample_weight=s, **options)


PROBLEMS = (
    "mse", "sse", "penalty", "penalty of a sum", "weights", "weights of a sum", "intercept", "outputs", "log", "softmax"
)  # fmt: skip


def slopes(objective, h, y):
    """∂l/∂h of rows, l being as the class documents it."""
    if objective.loss == "sse":
        return h - y
    if objective.loss == "mse":
        return 2 * (h - y)
    if objective.activation == "sigmoid":
        return 1 / (1 + np.exp(-h)) - y
    e = np.exp(h - h.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True) - y


def walk(objective, batch, rate, steps, seed=0, start=None):
    """Iterates of stochastic descent in float64: each step follows the mean (or the sum) over its rows."""
    X = objective.X.toarray() if scipy.sparse.issparse(objective.X) else objective.X
    n, d = X.shape
    X = np.column_stack([X, np.ones(n)]).astype(np.float64) if objective.fit_intercept else X.astype(np.float64)
    y = objective.y.reshape(n, -1).astype(np.float64)
    s = objective.rows.weights.astype(np.float64) if objective.rows.weights.size else np.ones(n)
    penalised = np.arange(X.shape[1])[:, None] < d
    w = np.zeros((X.shape[1], y.shape[1])) if start is None else np.array(start, np.float64).reshape(X.shape[1], -1)
    points = [w]
    for epoch in itertools.count():
        for order in epoch_order(seed, epoch, n):
            for first in range(0, len(order), batch):
                if len(points) > steps:
                    return np.array(points).reshape(-1, *objective.shape)
                part = order[first : first + batch]
                m = len(part)
                gradient = X[part].T @ (s[part, None] * slopes(objective, X[part] @ w, y[part]))
                if objective.loss == "sse":
                    gradient += objective.l2 * (m / n) * penalised * w
                else:
                    gradient = gradient / m * (n / s.sum()) + objective.l2 * penalised * w
                w = w - (rate(len(points) - 1) if callable(rate) else rate) * gradient
                points.append(w)


def steps_of(batch, epochs=2.5):
    return int(epochs * -(-N // batch))


# ------------------------------------------------------------------------------------------------------ the iterates


@pytest.mark.parametrize("batch", [1, 7, N])
@pytest.mark.parametrize("name", PROBLEMS)
def test_each_step_follows_its_rows(name, batch):
    objective = problem(name)
    rate, steps = (0.01 if "sse" in name or "sum" in name else 0.05), steps_of(batch)
    expected = walk(objective, batch, rate, steps, seed=5)
    run = gradient_descent(objective, lr=rate, step_num=steps, batch_size=batch, seed=5, history=True)
    assert run.nit == steps
    assert_allclose(run.history.x, expected, **SAME[objective.dtype])
    assert_allclose(run.history.fun, [objective.value(w) for w in run.history.x], rtol=1e-13)
    # It must not take the steps of the full gradient, nor stay where it is.
    assert np.max(np.abs(expected[-1] - expected[0])) > 1e-2


@pytest.mark.parametrize("batch", [1, 7, N])
@pytest.mark.parametrize("name", ["penalty", "outputs", "log", "softmax"])
def test_float32(name, batch):
    objective = problem(name, dtype=np.float32)
    run = gradient_descent(objective, lr=0.05, step_num=steps_of(batch), batch_size=batch)
    assert run.x.dtype == np.float32
    assert_allclose(run.x, walk(objective, batch, 0.05, steps_of(batch))[-1], **SAME[objective.dtype])


def test_a_batch_of_all_rows_is_full_batch_descent():
    for name in PROBLEMS:
        objective = problem(name)
        rate = 0.1 / objective.lipschitz()
        stochastic_run = gradient_descent(objective, lr=rate, step_num=20, batch_size=N, seed=1)
        assert_allclose(stochastic_run.x, gradient_descent(objective, lr=rate, step_num=20).x, rtol=1e-10, atol=1e-12)
        more = gradient_descent(objective, lr=rate, step_num=20, batch_size=10 * N, seed=1)
        assert_array_equal(more.x, stochastic_run.x)


def test_it_starts_where_it_is_told_and_never_writes_there():
    objective = problem("intercept")
    start = np.array([1.0, -2.0, 0.5, 0.0, 3.0])
    start.flags.writeable = False
    run = gradient_descent(objective, start, lr=0.05, step_num=13, batch_size=7)
    assert_allclose(run.x, walk(objective, 7, 0.05, 13, start=start)[-1], rtol=1e-11)
    assert start.tolist() == [1.0, -2.0, 0.5, 0.0, 3.0]


@pytest.mark.parametrize("batch", [1, 7])
def test_a_batch_ends_with_its_piece_of_the_epoch(batch, monkeypatch):
    monkeypatch.setattr("fastgd.data.order.SHUFFLED_ROWS", 10)  # 5 pieces, the last of 5 rows
    objective = problem("penalty of a sum")
    assert [len(order) for order in epoch_order(0, 0, N)] != [N]
    run = gradient_descent(objective, lr=0.01, step_num=60, batch_size=batch)
    assert_allclose(run.x, walk(objective, batch, 0.01, 60)[-1], rtol=1e-11)


@pytest.mark.parametrize("steps", [0, 1, 6, 7, 8, 14, 15, 20])
def test_any_number_of_steps(steps):
    # An epoch of 45 rows has 7 batches of 7.
    objective = problem("mse")
    run = gradient_descent(objective, lr=0.05, step_num=steps, batch_size=7)
    assert run.nit == steps
    assert run.status is Status.STEP_LIMIT and run.success
    assert_allclose(run.x, walk(objective, 7, 0.05, steps)[-1], rtol=1e-11, atol=1e-14)
    value, gradient = objective.value_and_gradient(run.x)
    assert run.fun == value
    assert_array_equal(run.jac, gradient)


@pytest.mark.parametrize("history", [False, True])
def test_a_function_gives_the_rate_of_each_step(history):
    objective, asked = problem("mse"), []

    def rate(step):
        asked.append(step)
        return 0.1 / (1 + 0.1 * step)

    run = gradient_descent(objective, lr=rate, step_num=33, batch_size=7, history=history)
    assert sorted(set(asked)) == list(range(33))
    assert_allclose(run.x, walk(objective, 7, lambda step: 0.1 / (1 + 0.1 * step), 33)[-1], rtol=1e-11)
    if history:
        assert_allclose(run.history.lr, 0.1 / (1 + 0.1 * np.arange(33)), rtol=1e-15)


# --------------------------------------------------------------------------------------------------------- the order


def whole(seed, epoch, n):
    return np.concatenate(list(epoch_order(seed, epoch, n)))


@pytest.mark.parametrize("n", [1, 2, 3, 10, 1000, SHUFFLED_ROWS, 2 * SHUFFLED_ROWS + 77])
def test_each_epoch_has_every_row_once(n):
    if n > 1000 and kernels.active.name == "reference":
        n = 1000 + n % 1000  # the NumPy twin takes seconds for more
    assert_array_equal(np.sort(whole(2, 3, n)), np.arange(n))


@pytest.mark.parametrize(("seed", "epoch", "n"), [(0, 0, 12), (7, 1, 300), (2**40, 9, 5)])
def test_the_order_is_the_same_on_every_build_and_when_asked_again(seed, epoch, n):
    orders = [whole(seed, epoch, n), whole(seed, epoch, n)]
    active = kernels.active.name
    for name in kernels.available():
        kernels.select(name)
        orders.append(whole(seed, epoch, n))
    kernels.select(active)
    for order in orders[1:]:
        assert_array_equal(order, orders[0])


def test_the_order_changes_with_seed_and_epoch():
    orders = {tuple(whole(seed, epoch, 40)) for seed in range(5) for epoch in range(5)}
    assert len(orders) == 25


def test_rows_are_as_likely_early_as_late():
    positions = np.array([np.argsort(whole(0, epoch, 20)) for epoch in range(400)])
    # The mean position of a row has a standard deviation of √((20² − 1)/12/400) = 0.29.
    assert np.max(np.abs(positions.mean(axis=0) - 9.5)) < 5 * 0.29
    # And each row is somewhere near each position: 20 positions, 400 epochs, 20 expected.
    counts = np.array([np.bincount(column, minlength=20) for column in positions.T])
    assert counts.min() > 2
    assert counts.max() < 50


def test_a_seed_is_a_run_and_no_seed_is_zero():
    objective = problem("mse")

    def end(**options):
        return gradient_descent(objective, lr=0.05, step_num=30, batch_size=7, **options).x

    assert_array_equal(end(), end())
    assert_array_equal(end(), end(seed=0))
    assert_array_equal(end(seed=8), end(seed=8))
    assert not np.allclose(end(seed=8), end(seed=9))


# ------------------------------------------------------------------------------------------------------ kinds of rows


def kinds():
    X, _ = data()
    wide = scipy.sparse.csr_array(X)
    wide.indices, wide.indptr = wide.indices.astype(np.int64), wide.indptr.astype(np.int64)
    spaced = np.zeros((2 * N, 8))
    spaced[::2, ::2] = X
    backwards = np.ascontiguousarray(X[::-1])
    return {
        "fortran": np.asfortranarray(X),
        "strided": spaced[::2, ::2],
        "reversed": backwards[::-1],
        "csr_array": scipy.sparse.csr_array(X),
        "csr_matrix": scipy.sparse.csr_matrix(X),
        "64-bit indices": wide,
    }


@pytest.mark.parametrize("name", ["penalty", "weights of a sum", "outputs", "softmax"])
@pytest.mark.parametrize("kind", kinds())
def test_the_iterates_do_not_depend_on_how_rows_are_kept(kind, name):
    X = kinds()[kind]
    for batch in (1, 7):
        options = {"lr": 0.02, "step_num": 80, "batch_size": batch, "seed": 4}
        run, plain = gradient_descent(problem(name, X), **options), gradient_descent(problem(name), **options)
        assert_allclose(run.x, plain.x, rtol=1e-11, atol=1e-13)
        assert run.fun == pytest.approx(plain.fun, rel=1e-12)


@pytest.mark.parametrize("kind", ["dense", "csr"])
def test_data_are_never_written_to(kind):
    X, y = data()
    s = np.linspace(0.5, 1.5, N)
    X = scipy.sparse.csr_array(X) if kind == "csr" else X
    arrays = [y, s, *((X.data, X.indices, X.indptr) if kind == "csr" else (X,))]
    before = [array.copy() for array in arrays]
    for array in arrays:
        array.flags.writeable = False
    objective = LinearObjective(X, y, loss="mse", l2=0.1, sample_weight=s, fit_intercept=True)
    gradient_descent(objective, lr=0.02, step_num=60, batch_size=7, history=True)
    for array, copy in zip(arrays, before, strict=True):
        assert_array_equal(array, copy)


def test_a_memory_mapped_file_is_read_where_it_is(tmp_path):
    X, y = data()
    np.save(tmp_path / "X.npy", X)
    mapped = np.load(tmp_path / "X.npy", mmap_mode="r")
    objective = LinearObjective(mapped, y, loss="mse")
    assert np.shares_memory(objective.X, mapped)
    options = {"lr": 0.05, "step_num": 60, "batch_size": 7}
    assert_array_equal(gradient_descent(objective, **options).x, gradient_descent(problem("mse"), **options).x)


# ------------------------------------------------------------------------------------------- watching, and the end


@pytest.mark.parametrize("batch", [1, 7])
@pytest.mark.parametrize("name", ["penalty", "outputs", "log"])
def test_a_run_that_is_watched_is_the_run_that_is_not(name, batch, capsys):
    objective, seen = problem(name), []
    options = {"lr": 0.05, "step_num": 50, "batch_size": batch, "seed": 2}
    plain = gradient_descent(objective, **options)
    with_history = gradient_descent(objective, **options, history=True)
    with_callback = gradient_descent(objective, **options, callback=seen.append)
    with_lines = gradient_descent(objective, **options, verbose=1)
    for run in (with_callback, with_lines):
        assert_array_equal(run.x, with_history.x)
    # Steps on single rows that nobody looks at are taken four at a time, and rounded otherwise.
    for run in (with_history, with_callback, with_lines):
        assert_allclose(run.x, plain.x, rtol=1e-12 if batch == 1 else 0)
        assert_allclose(run.fun, plain.fun, rtol=1e-12 if batch == 1 else 0)
        assert_allclose(run.jac, plain.jac, rtol=1e-11 if batch == 1 else 0, atol=1e-14)
    assert [result.nit for result in seen] == list(range(1, 51))
    assert_array_equal([result.x for result in seen], with_history.history.x[1:])
    assert sum(line.startswith("step ") for line in capsys.readouterr().out.splitlines()) == 51


def test_a_callback_may_end_it():
    def stop(result):
        if result.nit == 9:
            raise StopIteration

    run = gradient_descent(problem("mse"), lr=0.05, step_num=50, batch_size=7, callback=stop)
    assert (run.nit, run.status) == (9, Status.STOPPED_BY_CALLBACK)
    assert_allclose(run.x, walk(problem("mse"), 7, 0.05, 9)[-1], rtol=1e-11)


def consistent():
    """Data without noise: stochastic descent with a fixed rate goes all the way to the minimum."""
    X, _ = data()
    return LinearObjective(X, X @ np.array([1.0, -2.0, 0.5, 3.0]) + 10, loss="mse", fit_intercept=True)


def test_tol_ends_the_run_after_an_epoch():
    objective = consistent()
    run = gradient_descent(objective, lr=0.05, step_num=100_000, batch_size=7, tol=1e-6)
    assert run.success and run.status is Status.CONVERGED
    assert 7 < run.nit < 100_000
    assert run.nit % 7 == 0
    before = gradient_descent(objective, lr=0.05, step_num=run.nit - 7, batch_size=7, tol=1e-6)
    assert not before.success and before.status is Status.STEP_LIMIT


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_tol_ends_a_watched_run_at_the_same_step(seed):
    objective = consistent()
    options = {"lr": 0.05, "step_num": 100_000, "batch_size": 7, "tol": 1e-6, "seed": seed}
    plain, watched = gradient_descent(objective, **options), gradient_descent(objective, **options, history=True)
    assert watched.nit == plain.nit
    assert_array_equal(watched.x, plain.x)


def test_a_tolerance_out_of_reach_is_no_success():
    run = gradient_descent(problem("mse"), lr=0.05, step_num=100, batch_size=7, tol=1e-12)
    assert not run.success
    assert run.status is Status.STEP_LIMIT
    assert "raise step_num" in run.message


# -------------------------------------------------------------------------------------------------------- divergence


def wide_columns(kind):
    """Features of standard deviation 100, on which the usual rate of 0.01 goes to infinity."""
    rng = np.random.default_rng(0)
    X = rng.normal(0, 100, (200, 10))
    y = X @ rng.normal(size=10)
    return LinearObjective(scipy.sparse.csr_array(X) if kind == "csr" else X, y, loss="mse"), X


@pytest.mark.parametrize("history", [False, True])
@pytest.mark.parametrize("kind", ["dense", "csr"])
@pytest.mark.parametrize(("batch", "steps"), [(1, 1000), (20, 500), (1, 3)])
def test_a_divergence_is_named_with_a_rate_that_is_stable(batch, steps, kind, history):
    objective, X = wide_columns(kind)
    with pytest.raises(DivergenceError, match=r"diverged at step \d+ with learning rate 0\.01.*stable rate") as caught:
        gradient_descent(objective, lr=0.01, step_num=steps, batch_size=batch, history=history)
    error = caught.value
    assert 1 <= error.step <= steps
    assert error.lr == 0.01
    assert error.result.status is Status.DIVERGED
    assert not error.result.success
    assert np.all(np.isfinite(error.result.x))
    # The loss (y − xw)² of one row bends by 2‖x‖²: a step on that row overshoots above 2/(2‖x‖²).
    assert error.stable_lr == pytest.approx(1 / np.max(np.sum(X**2, axis=1)), rel=1e-12)
    run = gradient_descent(objective, lr=0.9 * error.stable_lr, step_num=2000, batch_size=batch)
    assert run.fun < 0.01 * objective.value(np.zeros(10))


@pytest.mark.parametrize("batch", [1, 5, 60])
def test_the_stable_rate_of_a_sum_is_stable(batch):
    objective = problem("weights of a sum")
    with pytest.raises(DivergenceError) as caught:
        gradient_descent(objective, lr=5.0, step_num=2000, batch_size=batch)
    gradient_descent(objective, lr=caught.value.stable_lr, step_num=2000, batch_size=batch)


def test_noise_around_the_minimum_is_no_divergence():
    objective = problem("intercept")
    start = gradient_descent(objective, lr="auto", tol=1e-12, step_num=10_000).x
    run = gradient_descent(objective, start, lr=0.1, step_num=2000, batch_size=1)
    assert run.success
    assert run.fun > objective.value(start)


# ------------------------------------------------------------------------------------------------------ bad arguments


@pytest.mark.one_build
@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"batch_size": 0}, ValueError, "batch_size must be at least 1; got 0"),
        ({"batch_size": -3}, ValueError, "batch_size must be at least 1"),
        ({"batch_size": 2.5}, TypeError, "batch_size must be an integer"),
        ({"batch_size": True}, TypeError, "batch_size must be an integer"),
        ({"batch_size": "all"}, TypeError, "batch_size must be an integer"),
        ({"lr": "bb"}, ValueError, "lr='bb' is for full passes in the user's own columns; leave out batch_size"),
        ({"lr": "auto", "solver": "gram"}, ValueError, 'batch_size is for solver="sgd" or "auto"; got solver=\'gram\''),
        ({"solver": "gram"}, ValueError, 'lr is for solver="gd" or "sgd" or "auto"; got solver=\'gram\''),
        (
            {"lr": "auto", "precondition": "gram"},
            TypeError,
            "precondition is called solver: use solver='preconditioned'",
        ),
        ({"f": lambda x: float(x @ x), "init_x": [1.0]}, TypeError, "batch_size takes a LinearObjective"),
        ({"seed": -1}, ValueError, "seed must be at least 0"),
        ({"seed": 1.5}, TypeError, "seed must be an integer"),
        ({"lr": lambda step: np.nan}, ValueError, r"lr\(0\) must be finite"),
        ({"lr": lambda step: "fast"}, TypeError, r"lr\(0\) must be a real number"),
        ({"lr": -0.1}, ValueError, "lr must be finite and at least 0"),
        ({"init_x": [1.0]}, ValueError, "init_x"),
        ({"tol": 0.0}, ValueError, "tol must be finite and positive"),
    ],
)
def test_bad_input_gets_one_sentence(change, error, message):
    arguments = {"f": problem("mse"), "lr": 0.05, "step_num": 5, "batch_size": 7} | change
    with pytest.raises(error, match=message):
        gradient_descent(**arguments)


@pytest.mark.parametrize("dtype, large", [(np.float32, 1e20), (np.float64, 1e160)])
@pytest.mark.parametrize("fit_intercept", [False, True])
def test_rows_whose_products_overflow_are_taken_as_well(dtype, large, fit_intercept):
    # Four rows at a time, the kernel multiplies them with each other: inf, and inf times no move is no number.
    rng = np.random.default_rng(0)
    X = rng.standard_normal((8, 19)).astype(dtype)
    y, start = np.where(X[:, 0] > 0, 1.0, -1.0), np.zeros(19 + fit_intercept)
    X[4:] *= dtype(large)
    start[0] = 1e4
    objective = LinearObjective(X, y, loss="hinge", fit_intercept=fit_intercept)
    result = gradient_descent(objective, start, lr=1e-3, batch_size=1, step_num=18)
    assert result.fun == 0
    assert_array_equal(result.x, start)  # no row is on the wrong side of its margin
