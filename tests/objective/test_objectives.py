"""LinearObjective and its change of variables against formulas of their own, numerical derivatives and closed forms."""

import itertools
import os
import subprocess
import sys

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from scipy import sparse

from fastgd import LinearObjective, kernels, numerical_gradient
from fastgd.data import moments, rows, threads
from fastgd.objective import curvature
from fastgd.objective.standardised import Standardised
from fastgd.objective.variables import Columns

pytestmark = pytest.mark.with_reference

PROPERTY = settings(
    max_examples=20,
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
ACTIVATIONS = {
    "identity": (lambda h: h, lambda h: np.ones_like(h)),
    "sigmoid": (lambda h: (1 + np.tanh(h / 2)) / 2, lambda h: 1 / (4 * np.cosh(h / 2) ** 2)),
    "tanh": (np.tanh, lambda h: 1 / np.cosh(h) ** 2),
}
# |error| ≤ TOLERANCE·Σ|terms|.
TOLERANCE = {np.float64: 1e-12, np.float32: 1e-5}


def formula(X, y, w, activation, loss, fit_intercept, l2, s):
    """Value, gradient, and the sizes Σ|terms| of both, straight from the definition in float64."""
    X, w = np.asarray(X, float), np.asarray(w, float).reshape(len(w), -1)
    Y = np.asarray(y, float).reshape(len(X), -1)
    s = np.ones(len(X)) if s is None else np.asarray(s, float)
    A = np.column_stack([X, np.ones(len(X))]) if fit_intercept else X
    f, f_prime = ACTIVATIONS[activation]
    h = A @ w
    residual = f(h) - Y
    scale = 1.0 if loss == "sse" else 2 / s.sum()
    penalised = w.copy()
    if fit_intercept:
        penalised[-1] = 0
    value = scale * np.sum(s[:, None] * residual**2) / 2 + l2 / 2 * np.sum(penalised**2)
    gradient = scale * A.T @ (s[:, None] * residual * f_prime(h)) + l2 * penalised
    size = np.abs(A) @ np.abs(w) + np.abs(Y) + 1
    value_size = scale * np.sum(s[:, None] * size**2) + l2 * np.sum(w**2)
    gradient_size = scale * np.abs(A).T @ (s[:, None] * size) + l2 * np.abs(w)
    shape = (len(w), *np.shape(y)[1:])
    return value, gradient.reshape(shape), value_size, gradient_size.reshape(shape)


def problem(n=23, d=4, k=None, dtype=np.float64, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, d)).astype(dtype)
    y = rng.uniform(-0.5, 1.5, n if k is None else (n, k)).astype(dtype)
    return X, y, rng


# ------------------------------------------------------------------------------------------------- value and gradient


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("loss", ["sse", "mse"])
def test_value_and_gradient_are_those_of_the_formula(activation, loss, dtype):
    for fit_intercept, l2, k, weighted in itertools.product((False, True), (0.0, 0.3), (None, 1, 3), (False, True)):
        X, y, rng = problem(k=k, dtype=dtype)
        s = rng.integers(0, 4, len(X)).astype(dtype) if weighted else None
        o = LinearObjective(
            X, y, activation=activation, loss=loss, fit_intercept=fit_intercept, l2=l2, sample_weight=s
        )  # fmt: skip
        assert o.shape == (4 + fit_intercept, *y.shape[1:])
        w = rng.standard_normal(o.shape).astype(dtype)
        value, gradient, value_size, gradient_size = formula(X, y, w, activation, loss, fit_intercept, l2, s)
        ours, ours_gradient = o.value_and_gradient(w)
        assert type(ours) is float
        assert type(o.value(w)) is float
        assert abs(ours - value) <= TOLERANCE[dtype] * value_size
        assert abs(o.value(w) - value) <= TOLERANCE[dtype] * value_size
        assert ours_gradient.dtype == o.dtype == dtype
        assert ours_gradient.shape == o.shape
        assert np.all(np.abs(ours_gradient - gradient) <= TOLERANCE[dtype] * gradient_size)
        np.testing.assert_array_equal(o.gradient(w), ours_gradient)


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_gradient_is_the_numerical_one(activation, dtype):
    for k in (None, 2):
        X, y, rng = problem(k=k, dtype=dtype)
        s = rng.uniform(0.5, 2, len(X))
        o = LinearObjective(X, y, activation=activation, loss="mse", fit_intercept=True, l2=0.2, sample_weight=s)
        w = rng.standard_normal(o.shape).astype(dtype)
        tolerance = 1e-8 if dtype == np.float64 else 2e-6
        numerical = o.numerical_gradient(w)
        assert numerical.dtype == dtype
        np.testing.assert_allclose(o.gradient(w), numerical, atol=tolerance)
        np.testing.assert_allclose(o.numerical_gradient(w, 1e-4), numerical, atol=1e-6)
        if dtype == np.float64:
            np.testing.assert_allclose(numerical_gradient(o.value, w), numerical, atol=1e-9)


def test_the_intercept_is_the_last_row_and_unpenalised():
    X, y, rng = problem(k=2)
    free = LinearObjective(X, y, fit_intercept=True)
    penalised = LinearObjective(X, y, fit_intercept=True, l2=2.0)
    with_ones = LinearObjective(np.column_stack([X, np.ones(len(X))]), y)
    w = rng.standard_normal(free.shape)
    assert free.value(w) == pytest.approx(with_ones.value(w), rel=1e-13)
    np.testing.assert_allclose(free.gradient(w), with_ones.gradient(w), rtol=1e-12)
    assert penalised.value(w) - free.value(w) == pytest.approx(np.sum(w[:-1] ** 2), rel=1e-12)
    np.testing.assert_allclose(penalised.gradient(w)[:-1] - free.gradient(w)[:-1], 2 * w[:-1], rtol=1e-10)
    np.testing.assert_array_equal(penalised.gradient(w)[-1], free.gradient(w)[-1])


def test_mse_is_a_mean_over_samples_not_over_outputs_and_has_no_half():
    o = LinearObjective([[1.0], [2.0]], [[1.0, 0.0], [0.0, 0.0]], loss="mse")
    assert o.value([[0.0, 0.0]]) == 0.5  # one error of 1, two samples
    assert LinearObjective([[1.0], [2.0]], [[1.0, 0.0], [0.0, 0.0]]).value([[0.0, 0.0]]) == 0.5  # ½·1
    weighted = LinearObjective([[1.0], [2.0]], [1.0, 0.0], loss="mse", sample_weight=[3.0, 1.0])
    assert weighted.value([0.0]) == 0.75


def test_outputs_are_independent_columns():
    X, y, rng = problem(k=3)
    together = LinearObjective(X, y, activation="sigmoid", fit_intercept=True, l2=0.1)
    w = rng.standard_normal(together.shape)
    alone = [LinearObjective(X, y[:, c], activation="sigmoid", fit_intercept=True, l2=0.1) for c in range(3)]
    assert together.value(w) == pytest.approx(sum(o.value(w[:, c]) for c, o in enumerate(alone)), rel=1e-13)
    for c, o in enumerate(alone):
        np.testing.assert_allclose(together.gradient(w)[:, c], o.gradient(w[:, c]), rtol=1e-11, atol=1e-13)


@PROPERTY
@given(
    st.lists(st.integers(0, 4), min_size=2, max_size=12).filter(any),
    st.sampled_from(tuple(ACTIVATIONS)),
    st.sampled_from(["sse", "mse"]),
    st.booleans(),
)
def test_a_weight_is_a_repetition(repetitions, activation, loss, fit_intercept):
    X, y, rng = problem(n=len(repetitions), d=3, seed=len(repetitions))
    options = {"activation": activation, "loss": loss, "fit_intercept": fit_intercept, "l2": 0.1}
    weighted = LinearObjective(X, y, sample_weight=repetitions, **options)
    repeated = LinearObjective(np.repeat(X, repetitions, axis=0), np.repeat(y, repetitions), **options)
    w = rng.standard_normal(weighted.shape)
    assert weighted.value(w) == pytest.approx(repeated.value(w), rel=1e-12)
    np.testing.assert_allclose(weighted.gradient(w), repeated.gradient(w), rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(weighted.predict(w), ACTIVATIONS[activation][0](X @ w[:3] + w[3:].sum()), rtol=1e-10)
    if activation == "identity":
        assert weighted.lipschitz() == pytest.approx(repeated.lipschitz(), rel=1e-10)


@PROPERTY
@given(
    st.integers(1, 40),
    st.integers(1, 9),
    st.sampled_from([None, 1, 2, 5]),
    st.sampled_from([np.float64, np.float32]),
    st.lists(st.integers(-6, 6), min_size=9, max_size=9),
    st.sampled_from(tuple(ACTIVATIONS)),
)
def test_any_shape_dtype_and_scale(n, d, k, dtype, exponents, activation):
    X, y, rng = problem(n, d, k, seed=n * 10 + d)
    X = (X * 10.0 ** np.array(exponents[:d])).astype(dtype)
    o = LinearObjective(X, y, activation=activation, fit_intercept=True)
    w = rng.standard_normal(o.shape).astype(dtype)
    w[:d] /= 10.0 ** np.array(exponents[:d]).reshape(-1, *[1] * (w.ndim - 1))
    y = y.astype(dtype)
    value, gradient, value_size, gradient_size = formula(X, y, w, activation, "sse", True, 0.0, None)
    ours, ours_gradient = o.value_and_gradient(w)
    assert abs(ours - value) <= TOLERANCE[dtype] * value_size
    assert np.all(np.abs(ours_gradient - gradient) <= TOLERANCE[dtype] * gradient_size)


# ------------------------------------------------------------------------------------------------------ memory, chunks


def layouts(array, directory, name):
    wide = np.full(tuple(2 * np.array(array.shape)), np.nan, array.dtype)
    every_other = tuple([slice(None, None, 2)] * array.ndim)
    wide[every_other] = array
    backwards = tuple([slice(None, None, -1)] * array.ndim)
    frozen = array.copy()
    frozen.flags.writeable = False
    mapped = np.memmap(directory / name, array.dtype, "w+", shape=array.shape)
    mapped[:] = array
    packed = np.zeros(array.shape, np.dtype([("pad", "i1"), ("a", array.dtype)]))
    packed["a"] = array
    return {
        "C": array,
        "F": np.asfortranarray(array),
        "strided": wide[every_other],
        "reversed": array[backwards].copy()[backwards],
        "read-only": frozen,
        "memory-mapped": mapped,
        "big-endian": array.astype(array.dtype.newbyteorder(">")),
        "unaligned": packed["a"],
    }


@pytest.mark.parametrize("dtype", TOLERANCE)
def test_memory_layout_does_not_matter_and_inputs_are_never_written_to(dtype, tmp_path):
    X, y, rng = problem(k=2, dtype=dtype)
    s = rng.uniform(0.5, 2, len(X)).astype(dtype)
    w = rng.standard_normal((5, 2)).astype(dtype)
    versions = zip(*(layouts(a, tmp_path, n).items() for a, n in ((X, "X"), (y, "y"), (s, "s"), (w, "w"))), strict=True)
    value, gradient, value_size, gradient_size = formula(X, y, w, "sigmoid", "mse", True, 0.5, s)
    for (name, X_), (_, y_), (_, s_), (_, w_) in versions:
        before = [np.array(a) for a in (X_, y_, s_, w_)]
        o = LinearObjective(X_, y_, activation="sigmoid", loss="mse", fit_intercept=True, l2=0.5, sample_weight=s_)
        assert o.dtype == dtype, name
        ours, ours_gradient = o.value_and_gradient(w_)
        assert abs(ours - value) <= TOLERANCE[dtype] * value_size, name
        assert np.all(np.abs(ours_gradient - gradient) <= TOLERANCE[dtype] * gradient_size), name
        o.lipschitz(), o.numerical_gradient(w_), o.predict(w_)
        for array, copy in zip((X_, y_, s_, w_), before, strict=True):
            np.testing.assert_array_equal(array, copy, err_msg=name)


@pytest.mark.parametrize("layout", ["C", "F", "strided", "reversed", "read-only", "memory-mapped"])
@pytest.mark.one_build
def test_floating_X_is_used_where_it_is(layout, tmp_path):
    for dtype in TOLERANCE:
        X = layouts(problem(dtype=dtype)[0], tmp_path, "X")[layout]
        assert np.shares_memory(LinearObjective(X, np.zeros(len(X))).X, X)


def test_rows_that_are_one_and_the_same():
    row = np.array([1.0, -2.0, 0.5])
    o = LinearObjective(np.broadcast_to(row, (9, 3)), np.arange(9.0))
    w = np.array([0.3, 0.1, 2.0])
    np.testing.assert_allclose(o.gradient(w), row * np.sum(row @ w - np.arange(9.0)), rtol=1e-13)


@pytest.mark.parametrize("dtype, expected", [(np.int32, "f8"), (bool, "f8"), (np.float16, "f4"), (">f4", "f4")])
@pytest.mark.one_build
def test_dtypes_that_are_converted(dtype, expected):
    X = np.array([[1, 0], [1, 1], [0, 1]], dtype)
    o = LinearObjective(X, [1, 2, 3])
    assert o.dtype == expected
    assert o.value([1, 1]) == 2.0
    assert o.gradient([1, 1]).dtype == expected


def cut_into(monkeypatch, values):
    """Make blocks of so many values each, however many and however short."""
    monkeypatch.setattr(rows, "BLOCK_VALUES", values)
    monkeypatch.setattr(moments, "PIECE_VALUES", values)
    monkeypatch.setattr(rows, "MOST_BLOCKS", 10_000)
    monkeypatch.setattr(threads, "THREAD_VALUES", 0)


@pytest.mark.parametrize("n_jobs", [None, 2, 3])
@pytest.mark.parametrize("values", [3, 7, 64, 200])
def test_blocks_change_the_sums_by_rounding_only(values, n_jobs, monkeypatch):
    X, y, rng = problem(n=101, d=3, k=2)
    s = rng.integers(0, 3, 101)
    options = {"activation": "tanh", "loss": "mse", "fit_intercept": True, "l2": 0.1, "sample_weight": s}
    w = rng.standard_normal((4, 2))
    whole = LinearObjective(X, y, **options)
    value, gradient = whole.value_and_gradient(w)
    L, variables = whole.lipschitz(), Standardised(whole)
    cut_into(monkeypatch, values)
    cut = LinearObjective(X, y, **options, n_jobs=n_jobs)
    assert cut.value(w) == pytest.approx(value, rel=1e-13)
    np.testing.assert_allclose(cut.gradient(w), gradient, rtol=1e-11, atol=1e-14)
    assert cut.lipschitz() == pytest.approx(L, rel=1e-12)
    np.testing.assert_allclose(Standardised(cut).scale, variables.scale, rtol=1e-12)
    np.testing.assert_allclose(Standardised(cut).shift, variables.shift, rtol=1e-12, atol=1e-15)
    order = rng.permutation(101)
    shuffled = LinearObjective(X[order], y[order], **{**options, "sample_weight": s[order]})
    assert shuffled.value(w) == pytest.approx(value, rel=1e-13)
    np.testing.assert_allclose(shuffled.gradient(w), gradient, rtol=1e-11, atol=1e-14)


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("kind", ["dense", "sparse"])
def test_no_bit_depends_on_the_number_of_threads(kind, dtype, monkeypatch):
    X, y, rng = problem(n=1009, d=5, k=2, dtype=dtype)
    monkeypatch.setattr(rows, "BLOCK_VALUES", 100)
    monkeypatch.setattr(threads, "THREAD_VALUES", 0)
    X = sparse.csr_array(X * (rng.random(X.shape) < 0.5)) if kind == "sparse" else X
    w = rng.standard_normal((6, 2))
    found = []
    for n_jobs in (None, 1, 2, 3, 7, -1):
        o = LinearObjective(X, y, activation="sigmoid", fit_intercept=True, n_jobs=n_jobs)
        assert len(o.rows.blocks()) > 7
        found.append(o.value_and_gradient(w))
    for value, gradient in found[1:]:
        assert value == found[0][0]
        np.testing.assert_array_equal(gradient, found[0][1])


@pytest.mark.one_build
@pytest.mark.parametrize("n, d", [(1, 1), (33, 3), (100, 1000), (1_000_000, 1), (200_000, 50), (3_000_000, 20)])
def test_blocks_cover_each_row_once_and_their_cut_depends_on_the_shape_alone(n, d):
    blocks = rows.even_blocks(n, n * d, d)
    assert blocks[0][0] == 0
    assert blocks[-1][1] == n
    assert all(a[1] == b[0] and a[0] < a[1] for a, b in itertools.pairwise([*blocks, (n, n + 1)]))
    assert len(blocks) <= rows.MOST_BLOCKS


@pytest.mark.one_build
@pytest.mark.parametrize("count", [1, 2, 3, 7, 64, 5000])
def test_a_tree_of_sums_loses_no_digits(count):
    # A running sum of 5,000 terms would be off by up to 5e3·ε; a tree by some 13 ε.
    total, array = threads.tree_sum([(0.1, np.array([0.1, 0.2]))] * count)
    assert abs(total - count * 0.1) <= 14 * np.finfo(float).eps * count * 0.1
    np.testing.assert_allclose(array, [count * 0.1, count * 0.2], rtol=14 * np.finfo(float).eps)


@pytest.mark.one_build
def test_an_error_in_a_thread_reaches_the_caller():
    def fail(block):
        if block == (3, 4):
            raise ZeroDivisionError("in a thread")
        return block

    blocks = [(i, i + 1) for i in range(9)]
    with pytest.raises(ZeroDivisionError, match="in a thread"):
        threads.over_blocks(fail, blocks, 3)
    assert threads.over_blocks(lambda block: block, blocks, 3) == blocks


@pytest.mark.one_build
@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this platform")
def test_a_fork_after_the_use_of_threads_does_not_hang():
    code = """
import os, numpy as np
from fastgd import LinearObjective
from fastgd.data import rows, threads
threads.THREAD_VALUES, rows.BLOCK_VALUES = 0, 100
X = np.arange(4000.0).reshape(1000, 4)
o = LinearObjective(X, X[:, 0], n_jobs=2)
value = o.value(np.ones(4))
child = os.fork()
if child == 0:
    os._exit(0 if o.value(np.ones(4)) == value else 1)
assert os.waitpid(child, 0)[1] == 0
"""
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True, timeout=60)


def test_an_objective_is_not_changed_by_its_use():
    X, y, rng = problem()
    o = LinearObjective(X, y, activation="sigmoid", fit_intercept=True)
    w = rng.standard_normal(5)
    before = w.copy()
    first = o.value_and_gradient(w)
    first[1][:] = 99  # the caller's own
    o.predict(w)[:] = 99
    o.lipschitz()
    second = o.value_and_gradient(w)
    assert second[0] == first[0]
    assert not np.any(second[1] == 99)
    np.testing.assert_array_equal(w, before)


# ------------------------------------------------------------------------------------------------------------- predict


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_predict(activation, dtype):
    for k, fit_intercept in itertools.product((None, 2), (False, True)):
        X, y, rng = problem(k=k, dtype=dtype)
        o = LinearObjective(X, y, activation=activation, fit_intercept=fit_intercept)
        w = rng.standard_normal(o.shape).astype(dtype)
        A = np.column_stack([X, np.ones(len(X))]) if fit_intercept else X
        for part in (slice(None), slice(0, 3), slice(0, 0)):
            predicted = o.predict(w, X[part])
            assert predicted.dtype == dtype
            assert predicted.shape == y[part].shape
            np.testing.assert_allclose(
                predicted, ACTIVATIONS[activation][0](A[part].astype(float) @ w), atol=10 * TOLERANCE[dtype]
            )
        np.testing.assert_array_equal(o.predict(w), o.predict(w, X))


# ----------------------------------------------------------------------------------------------------------- curvature


def hessian(o, w, h=1e-5):
    """By central differences of the gradient, symmetrised."""
    w = np.asarray(w, float)
    columns = [
        (o.gradient(w + h * e.reshape(w.shape)) - o.gradient(w - h * e.reshape(w.shape))).ravel() / (2 * h)
        for e in np.eye(w.size)
    ]
    return (np.array(columns) + np.array(columns).T) / 2


@pytest.mark.parametrize("loss", ["sse", "mse"])
def test_lipschitz_is_exact_for_the_identity(loss):
    for k, fit_intercept, weighted in itertools.product((None, 2), (False, True), (False, True)):
        X, y, rng = problem(k=k)
        s = rng.integers(0, 4, len(X)) if weighted else np.ones(len(X))
        o = LinearObjective(
            X, y, loss=loss, fit_intercept=fit_intercept, l2=0.7, sample_weight=s if weighted else None
        )  # fmt: skip
        A = np.column_stack([X, np.ones(len(X))]) if fit_intercept else X
        H = (1 if loss == "sse" else 2 / s.sum()) * (A.T * s) @ A
        H += 0.7 * np.diag([1.0] * 4 + [0.0] * fit_intercept)
        assert o.lipschitz() == pytest.approx(np.linalg.eigvalsh(H)[-1], rel=1e-12)
        assert o.lipschitz() >= np.linalg.eigvalsh(H)[-1] * (1 - 1e-14)
        np.testing.assert_allclose(hessian(o, np.zeros(o.shape), 1.0), np.kron(H, np.eye(k or 1)), atol=1e-10)


@pytest.mark.parametrize("activation", ["sigmoid", "tanh"])
@pytest.mark.parametrize("y", [0.0, 1.0, 0.5, -1.0, 0.3, 1.2, -3.0, 50.0, -50.0])
@pytest.mark.one_build
def test_lipschitz_is_the_largest_curvature_of_one_sample(activation, y):
    # One variable: the largest second derivative over a fine grid is what L must reach and hardly exceed.
    o = LinearObjective([[1.0]], [y], activation=activation)
    h = np.linspace(-8, 8, 4001)
    gradients = np.array([o.gradient([v])[0] for v in h])
    # A chord of the gradient is a mean of second derivatives, so none may be steeper than L.
    steepest = np.max(np.abs(np.diff(gradients))) / (h[1] - h[0])
    assert steepest <= o.lipschitz() * (1 + 1e-10)
    assert steepest >= o.lipschitz() * (1 - 1e-3)


@pytest.mark.parametrize("activation", ["sigmoid", "tanh"])
@pytest.mark.parametrize("loss", ["sse", "mse"])
def test_lipschitz_is_never_below_the_hessian_at_random_and_adversarial_weights(activation, loss):
    for seed in range(4):
        X, y, rng = problem(n=6, d=3, seed=seed)
        y = y * [1.0, 5.0, 0.1, 20.0][seed]
        o = LinearObjective(X, y, activation=activation, loss=loss, fit_intercept=True, l2=0.1)
        L = o.lipschitz()
        w = rng.standard_normal(4)
        for _ in range(6):
            eigenvalues, vectors = np.linalg.eigh(hessian(o, w))
            assert eigenvalues[-1] <= L * (1 + 1e-6)
            # Uphill in the largest eigenvalue, by trying both ways along its vector and a random one.
            ways = [w + t * v for t in (-0.5, 0.5) for v in (vectors[:, -1], rng.standard_normal(4))]
            w = max(ways, key=lambda v: np.linalg.eigvalsh(hessian(o, v))[-1])


def test_lipschitz_of_float32_data_bounds_that_of_the_same_numbers():
    X, y, _ = problem(dtype=np.float32)
    exact = np.linalg.eigvalsh(X.astype(float).T @ X.astype(float))[-1]
    L = LinearObjective(X, y).lipschitz()
    assert exact * (1 - 1e-14) <= L <= exact * (1 + 1e-12)


@pytest.mark.parametrize("fit_intercept, l2", [(False, 0.0), (False, 0.5), (True, 0.0)])
@pytest.mark.one_build
def test_lipschitz_above_512_columns(fit_intercept, l2):
    # A spectrum that decays, as real tables have: Lanczos with a margin of 10 %.
    X, y, _ = problem(n=40, d=520)
    X *= 0.99 ** np.arange(520)
    A = np.column_stack([X, np.ones(40)]) if fit_intercept else X
    largest = np.linalg.eigvalsh(A @ A.T)[-1] + l2  # AAᵀ is the smaller one and has the same
    bound = LinearObjective(X, y, fit_intercept=fit_intercept, l2=l2).lipschitz()
    assert largest * (1 - 1e-12) <= bound <= 1.12 * largest


@pytest.mark.one_build
def test_the_lanczos_route_gives_an_upper_bound_too(monkeypatch):
    for seed, activation in itertools.product(range(3), ACTIVATIONS):
        X, y, _ = problem(n=30, d=12, seed=seed)
        exact = LinearObjective(X, y, activation=activation, fit_intercept=True).lipschitz()
        with monkeypatch.context() as patch:
            patch.setattr(curvature, "EXACT_COLUMNS", 2)
            bound = LinearObjective(X, y, activation=activation, fit_intercept=True).lipschitz()
        assert exact * (1 - 1e-12) <= bound <= 1.12 * exact


@pytest.mark.one_build
def test_nothing_bends_where_there_is_nothing():
    assert LinearObjective(np.zeros((5, 2)), np.ones(5)).lipschitz() == 0
    assert LinearObjective(np.zeros((5, 520)), np.ones(5)).lipschitz() == 0
    assert LinearObjective(np.zeros((5, 2)), np.ones(5), l2=2.0).lipschitz() == pytest.approx(2)


# ------------------------------------------------------------------------------------------------- change of variables


def awkward_tables():
    rng = np.random.default_rng(5)
    X = rng.standard_normal((17, 3))
    return {
        "plain": X,
        "scales": X * [1e-6, 1.0, 1e6],
        "mean ≫ spread": X + np.array([1e4, -1e5, 0]),
        "constant column": np.column_stack([X[:, :2], np.full(17, 7.0)]),
        "column that differs from a constant by rounding": np.column_stack(
            [X[:, :2], np.where(np.arange(17) % 2, 0.3, np.nextafter(0.3, 1))]
        ),
        "zero column": np.column_stack([X[:, :2], np.zeros(17)]),
        "equal columns": np.column_stack([X[:, 0], X[:, 0], X[:, 1]]),
    }


@pytest.mark.parametrize("name", awkward_tables())
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_the_change_of_variables_is_consistent(name, activation):
    X = awkward_tables()[name]
    rng = np.random.default_rng(6)
    for fit_intercept, l2, k in itertools.product((False, True), (0.0, 0.2), (None, 2)):
        y = rng.uniform(0, 1, 17 if k is None else (17, k))
        s = rng.uniform(0.5, 2, 17)
        o = LinearObjective(
            X, y, activation=activation, loss="mse", fit_intercept=fit_intercept, l2=l2, sample_weight=s
        )  # fmt: skip
        start = rng.standard_normal(o.shape) / np.maximum(1, np.abs(X).max())
        variables = Standardised(o, o.split(start))
        # It starts where it was told to, but for columns that do not vary: the intercept takes their part.
        begun, varies = variables.to_user(variables.start), np.isfinite(variables.scale)
        np.testing.assert_allclose(o.split(begun)[0][varies], o.split(start)[0][varies], rtol=1e-12, atol=1e-12)
        assert not o.split(begun)[0][~varies].any()
        np.testing.assert_allclose(o.predict(begun), o.predict(start), rtol=1e-8, atol=1e-9)
        V = 0.3 * rng.standard_normal((o.shape[0], k or 1))
        w = variables.to_user(V)
        value, gradient = variables.evaluate(V)
        # The same function,
        assert value == pytest.approx(o.value(w), rel=1e-8)
        # whose gradient by V is the numerical one of V → F(w(V)),
        numerical = numerical_gradient(lambda v, o=o, to_user=variables.to_user: o.value(to_user(v)), V, 1e-4)
        np.testing.assert_allclose(gradient, numerical, atol=1e-5 * max(1, np.abs(numerical).max()))
        # and that by w follows from it.
        expected = o.gradient(w)
        size = np.abs(X).T @ np.ones((17, 1)) * (np.abs(y).max() + 1)
        size = np.append(size, [[17.0]], axis=0) if fit_intercept else size
        back = variables.gradient_to_user(gradient)
        assert np.all(np.abs(back - expected).reshape(len(expected), -1) <= 1e-9 * size + 1e-12)
        # What is settled on is what the objective says of exactly that point.
        x, fun, jac = variables.settle(V, value, gradient)
        np.testing.assert_array_equal(x, w)
        assert fun == o.value(x)
        np.testing.assert_array_equal(jac, o.gradient(x))


@pytest.mark.parametrize("name", awkward_tables())
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.one_build
def test_curvature_in_the_new_variables_bounds_the_hessian_there(name, activation):
    X = awkward_tables()[name]
    rng = np.random.default_rng(7)
    for fit_intercept, l2 in itertools.product((False, True), (0.0, 0.2)):
        o = LinearObjective(X, rng.uniform(0, 1, 17), activation=activation, fit_intercept=fit_intercept, l2=l2)
        variables = Standardised(o)
        bound = variables.curvature()
        d = o.shape[0]
        # The bound's diagonal is at most that of a loss with l'' ≤ c: its eigenvalues add up to d times that.
        assert bound.largest <= d * 17 * max(1.0, o.loss_curvature) * (1 + 1e-9)
        V = 0.3 * rng.standard_normal((d, 1))
        steps = 1e-4 * np.eye(d)[:, :, None]
        H = np.array([(variables.evaluate(V + e)[1] - variables.evaluate(V - e)[1])[:, 0] / 2e-4 for e in steps])
        eigenvalues = np.linalg.eigvalsh((H + H.T) / 2)
        assert eigenvalues[-1] <= bound.largest * (1 + 1e-5)
        if activation == "identity":
            assert eigenvalues[-1] == pytest.approx(bound.largest, rel=1e-5)
            positive = eigenvalues[eigenvalues > 1e-6]
            assert positive[0] >= bound.smallest * (1 - 1e-5) - 1e-7
        else:
            assert bound.smallest is None


def test_the_change_of_variables_in_float32():
    rng = np.random.default_rng(8)
    X = (rng.standard_normal((50, 3)) * [1e-3, 1, 1e3] + [0, 100, 0]).astype(np.float32)
    o = LinearObjective(X, rng.standard_normal(50), fit_intercept=True)
    variables = Standardised(o)
    V = rng.standard_normal((4, 1))
    w = variables.to_user(V)
    value, gradient = variables.evaluate(V)
    assert w.dtype == variables.gradient_to_user(gradient).dtype == np.float32
    assert value == pytest.approx(o.value(w), rel=1e-3)
    np.testing.assert_allclose(variables.gradient_to_user(gradient), o.gradient(w), rtol=5e-3)


def test_the_intercept_takes_the_part_of_a_column_that_does_not_vary():
    X = np.column_stack([np.arange(6.0), np.full(6, 3.0)])
    variables = Standardised(
        LinearObjective(X, np.arange(6.0), fit_intercept=True), (np.array([[0.0], [5.0]]), np.ones(1))
    )
    assert variables.to_user(variables.start).tolist() == [0.0, 0.0, 16.0]
    assert variables.to_user(np.array([[0.7], [9.9], [-0.2]]))[1] == 0.0
    # Without an intercept a constant column is one, and moves.
    variables = Standardised(LinearObjective(X, np.arange(6.0)), (np.array([[0.0], [5.0]]), np.zeros(1)))
    assert variables.to_user(variables.start).tolist() == [0.0, 5.0]
    assert variables.to_user(np.array([[0.7], [9.9]]))[1] == pytest.approx(9.9 / 3)


def test_passes_are_counted(build, monkeypatch):
    X, y, _ = problem()
    calls = []
    for name in ("value_and_gradient", "block_sums"):
        kernel = getattr(build, name)
        monkeypatch.setattr(build, name, lambda *a, kernel=kernel: calls.append(1) or kernel(*a))
    for kind in (Columns, Standardised):
        variables = kind(LinearObjective(X, y))
        calls.clear()
        variables.settle(variables.start, *variables.evaluate(variables.start))
        assert variables.nfev == variables.njev == variables.passes == len(calls)
    assert kernels.active is build


# ----------------------------------------------------------------------------------------------------------- bad input

GOOD_X, GOOD_y = [[1.0, 2.0], [3.0, 4.0]], [1.0, 2.0]
BAD = [
    ({"X": [1.0, 2.0]}, ValueError, r"X must be 2-dimensional; got shape \(2,\); for one column use X.reshape"),
    ({"X": 1.0}, ValueError, "X must be 2-dimensional"),
    ({"X": np.ones((2, 2, 2))}, ValueError, "X must be 2-dimensional"),
    ({"X": np.ones((0, 2)), "y": []}, ValueError, "X must have at least one row and one column"),
    ({"X": np.ones((2, 0))}, ValueError, "X must have at least one row and one column"),
    ({"X": [[1.0], [1.0, 2.0]]}, ValueError, "X must be an array of numbers with rows of equal length"),
    ({"X": [["a", "b"], ["c", "d"]]}, TypeError, "X must hold real numbers"),
    ({"X": np.ones((2, 2)) * 1j}, TypeError, "X must hold real numbers"),
    ({"X": [[1.0, np.nan], [3.0, 4.0]]}, ValueError, r"X must be finite; X\[0, 1\] is nan"),
    ({"X": [[1.0, 2.0], [np.inf, 4.0]]}, ValueError, r"X must be finite; X\[1, 0\] is inf"),
    ({"X": np.array([[1, 2], [3, None]], object)}, (TypeError, ValueError), "X"),
    ({"y": 1.0}, ValueError, "y must be 1-dimensional or 2-dimensional"),
    ({"y": [1.0, 2.0, 3.0]}, ValueError, "y has 3 rows, X has 2: they must be equal"),
    ({"y": np.ones((2, 0))}, ValueError, "y must have at least one column"),
    ({"y": np.ones((2, 1, 1))}, ValueError, "y must be 1-dimensional or 2-dimensional"),
    ({"y": [1.0, np.nan]}, ValueError, r"y must be finite; y\[1\] is nan"),
    ({"y": ["a", "b"]}, TypeError, "y must hold real numbers"),
    ({"sample_weight": [1.0]}, ValueError, "sample_weight has 1 entries, X has 2 rows"),
    ({"sample_weight": 1.0}, ValueError, "sample_weight must be 1-dimensional"),
    ({"sample_weight": [[1.0], [1.0]]}, ValueError, "sample_weight must be 1-dimensional"),
    ({"sample_weight": [1.0, -1.0]}, ValueError, "sample_weight must not be negative"),
    ({"sample_weight": [0.0, 0.0]}, ValueError, "at least one must be positive"),
    ({"sample_weight": [1.0, np.nan]}, ValueError, r"sample_weight must be finite; sample_weight\[1\] is nan"),
    ({"activation": "relu6"}, ValueError, "activation must be one of 'identity', 'sigmoid', 'tanh'"),
    ({"activation": []}, ValueError, "activation must be one of"),
    ({"loss": "mae"}, ValueError, "loss must be one of 'mse', 'sse'"),
    ({"loss": "hinge", "y": [1.0, 0.0]}, ValueError, r"y must hold −1 and 1 for the hinge losses; y\[1\] is 0.0"),
    ({"loss": "squared_hinge", "y": [[1.0, -1.0], [1.0, 2.0]]}, ValueError, r"y\[1, 1\] is 2.0"),
    ({"loss": "hinge", "y": [1, -1], "activation": "sigmoid"}, ValueError, "activation 'identity'; got 'sigmoid'$"),
    ({"fit_intercept": 1}, TypeError, "fit_intercept must be True or False"),
    ({"l2": -1.0}, ValueError, "l2 must be finite and at least 0"),
    ({"l2": np.nan}, ValueError, "l2 must be finite"),
    ({"l2": "1"}, TypeError, "l2 must be a real number"),
    ({"l2": [1.0]}, TypeError, "l2 must be a real number"),
]


@pytest.mark.parametrize("change, error, message", BAD, ids=[f"{i} {', '.join(row[0])}" for i, row in enumerate(BAD)])
@pytest.mark.one_build
def test_bad_input(change, error, message):
    with pytest.raises(error, match=message):
        LinearObjective(**{"X": GOOD_X, "y": GOOD_y, **change})


@pytest.mark.parametrize("kind", [sparse.csr_array, sparse.csr_matrix, sparse.coo_array, sparse.csc_matrix])
@pytest.mark.parametrize("dtype", TOLERANCE)
def test_sparse_rows_are_those_of_the_dense_array(kind, dtype):
    X, y, rng = problem(n=70, d=5, k=2, dtype=dtype)
    X[rng.random(X.shape) < 0.6] = 0
    options = {"activation": "tanh", "fit_intercept": True, "l2": 0.3, "sample_weight": rng.uniform(0.5, 2, 70)}
    dense, ours = LinearObjective(X, y, **options), LinearObjective(kind(X), y, **options)
    w = rng.standard_normal((6, 2))
    tolerance = {"rtol": 1e-5, "atol": 1e-4} if dtype == np.float32 else {"rtol": 1e-11, "atol": 1e-13}
    assert ours.value(w) == pytest.approx(dense.value(w), rel=tolerance["rtol"])
    np.testing.assert_allclose(ours.gradient(w), dense.gradient(w), **tolerance)
    np.testing.assert_allclose(ours.predict(w), dense.predict(w), **tolerance)
    np.testing.assert_allclose(ours.predict(w, kind(X[:7])), dense.predict(w)[:7], **tolerance)
    assert ours.lipschitz() == pytest.approx(dense.lipschitz(), rel=1e-5)
    variables, twin = (Standardised(o, o.split(w)) for o in (ours, dense))
    value, gradient = variables.evaluate(variables.start + 1)
    expected, slope = twin.evaluate(twin.start + 1)
    assert value == pytest.approx(expected, rel=1e-5)
    np.testing.assert_allclose(gradient, slope, rtol=1e-4 if dtype == np.float32 else 1e-9, atol=tolerance["atol"])


@pytest.mark.one_build
def test_a_bad_entry_of_a_sparse_matrix_is_named():
    with pytest.raises(ValueError, match=r"X.data must be finite; X.data\[1\] is nan"):
        LinearObjective(sparse.csr_array([[1.0, 0.0], [0.0, np.nan]]), GOOD_y)


@pytest.mark.one_build
@pytest.mark.parametrize("index", [np.int32, np.int64])
@pytest.mark.parametrize("array, place, number", [("indices", 1, 2), ("indices", 0, -1), ("indptr", 1, 9)])
def test_indices_out_of_a_sparse_matrix_are_refused_before_anything_is_computed(array, place, number, index):
    # scipy's products write wherever such indices point, and a plain NumPy index takes −1 for the last column.
    X = sparse.csr_array([[1.0, 0.0], [0.0, 1.0]])
    X.indices, X.indptr = X.indices.astype(index), X.indptr.astype(index)
    getattr(X, array)[place] = number
    with pytest.raises(ValueError, match=rf"X.{array} must"):
        LinearObjective(X, [1.0, 2.0])
    objective = LinearObjective([[1.0, 0.0], [0.0, 1.0]], [1.0, 2.0])
    with pytest.raises(ValueError, match=rf"X.{array} must"):
        objective.predict([1.0, 2.0], X)


@pytest.mark.parametrize(
    "w, error, message",
    [
        ([1.0], ValueError, r"w must have shape \(2,\); got \(1,\)"),
        ([[1.0], [2.0]], ValueError, r"w must have shape \(2,\); got \(2, 1\)"),
        (1.0, ValueError, "w must have shape"),
        ([np.nan, 1.0], ValueError, r"w must be finite; w\[0\] is nan"),
        (["a", "b"], TypeError, "w must hold real numbers"),
        ([1j, 0], TypeError, "w must hold real numbers"),
    ],
)
@pytest.mark.one_build
def test_bad_weights(w, error, message):
    o = LinearObjective(GOOD_X, GOOD_y)
    for call in (o.value, o.gradient, o.value_and_gradient, o.numerical_gradient, o.predict):
        with pytest.raises(error, match=message):
            call(w)


@pytest.mark.one_build
def test_predict_names_what_does_not_fit():
    o = LinearObjective(GOOD_X, GOOD_y)
    with pytest.raises(ValueError, match=r"X must have 2 columns; got shape \(2, 3\)"):
        o.predict([1.0, 2.0], np.ones((2, 3)))
    with pytest.raises(ValueError, match="X must be 2-dimensional"):
        o.predict([1.0, 2.0], [1.0, 2.0])


@pytest.mark.one_build
def test_pandas_frames_and_series():
    pandas = pytest.importorskip("pandas")
    X, y, rng = problem()
    frame = pandas.DataFrame(X, columns=list("abcd"), index=range(100, 123))
    o = LinearObjective(frame, pandas.Series(y, index=range(7, 30)), sample_weight=pandas.Series(np.ones(23)))
    w = rng.standard_normal(4)
    assert o.value(w) == pytest.approx(LinearObjective(X, y).value(w), rel=1e-13)
    assert LinearObjective(frame, pandas.DataFrame({"y": y})).shape == (4, 1)
    assert LinearObjective(frame.astype("float32"), y).dtype == np.float32
    with pytest.raises(ValueError, match=r"X must be finite; X\[1, 0\] is nan"):
        LinearObjective(pandas.DataFrame({"a": pandas.array([1, None], "Int64")}), [1, 2])
    with pytest.raises(TypeError, match="X must hold real numbers"):
        LinearObjective(pandas.DataFrame({"a": ["x", "y"], "b": [1, 2]}), [1, 2])


@pytest.mark.one_build
def test_repr_says_what_it_is():
    assert repr(LinearObjective(GOOD_X, GOOD_y, activation="tanh", l2=0.5)) == (
        "LinearObjective(2 x 2 float64, activation='tanh', loss='sse', fit_intercept=False, l2=0.5)"
    )


def test_huge_values_are_infinite_without_a_warning_whatever_the_error_state():
    o = LinearObjective([[1e200], [1.0]], [1.0, 2.0])
    with np.errstate(all="raise"):
        assert o.value([1e100]) == np.inf
        assert not np.isfinite(o.gradient([1e150])[0])


# --------------------------------------------------------------------------------------- what once went wrong


@pytest.mark.parametrize("state", ["warn", "raise"])
@pytest.mark.one_build
def test_weights_beyond_float32_are_named(state):
    o = LinearObjective(np.ones((2, 1), np.float32), [1.0, 2.0])
    with np.errstate(all=state), pytest.raises(ValueError, match="w"):
        o.value([1e300])


@pytest.mark.one_build
def test_weights_below_float32_are_zero_whatever_the_error_state():
    o = LinearObjective(np.ones((2, 1), np.float32), [1.0, 2.0])
    with np.errstate(all="raise"):
        assert o.value([1e-300]) == 2.5


@pytest.mark.parametrize("scale", [1e-200, 1e200])
@pytest.mark.one_build
def test_lipschitz_of_columns_at_the_ends_of_the_floats_is_a_bound_or_a_clear_error(scale):
    o = LinearObjective(np.array([[1.0], [2.0]]) * scale, [1.0, 2.0])
    with np.errstate(all="raise"):
        try:
            assert o.lipschitz() in (0.0, np.inf)
        except ValueError as error:
            assert "X" in str(error)


@pytest.mark.one_build
def test_masked_entries_are_not_data():
    with pytest.raises((TypeError, ValueError), match="X"):
        LinearObjective(np.ma.array(GOOD_X, mask=[[0, 1], [0, 0]]), GOOD_y)


@pytest.mark.one_build
def test_text_in_an_object_array_is_not_data():
    with pytest.raises(TypeError, match="X must hold real numbers"):
        LinearObjective(np.array([["1", 2.0], [3.0, 4.0]], object), GOOD_y)
