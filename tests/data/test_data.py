"""Kinds of data: what each pass over rows gives, and a third kind that says no more than how to get at some rows."""

import itertools
import threading
import time

import numpy as np
import pytest
import scipy.sparse
from numpy.testing import assert_allclose, assert_array_equal

from fastgd import LinearObjective, gradient_descent, optimizers, sweep
from fastgd.data import Dense, Rows, Sparse, inputs, moments, register, rows, rows_of, threads
from fastgd.engine import gram, quasi_newton
from fastgd.engine.update import Update
from fastgd.kernels.codes import ACTIVATIONS, PointLoss
from fastgd.linear_model import GDClassifier, GDRegressor
from fastgd.objective import sample as sampling

SIGMOID_LOG = ACTIVATIONS["sigmoid"], PointLoss("log")
DTYPES = (np.float64, np.float32)


@register
class Computed(Rows):
    """Rows that are computed whenever they are asked for: each number is a function of its place."""

    def __init__(self, n, d, dtype=np.float64, far_off=0.0):
        super().__init__(n, d, dtype)
        self.far_off, self._asked = far_off, [0]

    @property
    def most(self):
        """Rows that were asked for at once, of this or the same with other targets."""
        return max(self._asked)

    def dense(self, part, dtype=None):
        numbers = np.arange(*part.indices(self.n)) if isinstance(part, slice) else np.asarray(part)
        self._asked[0] = max(self._asked[0], len(numbers))
        z = (numbers[:, None] * self.d + np.arange(self.d)).astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        X = (z >> np.uint64(11)) * 2.0**-52 - 1 + self.far_off * np.arange(self.d)
        X[:, -1] *= numbers % 3 == 0
        return X.astype(self.dtype).astype(self.dtype if dtype is None else dtype, copy=False)


def both(n=101, d=5, k=1, dtype=np.float64, weighted=False, **options):
    """Computed rows and the same in an array, with targets between 0 and 1."""
    rng = np.random.default_rng(2)
    Y = rng.uniform(size=(n, k)).astype(dtype)
    s = rng.integers(0, 3, n).astype(dtype) if weighted else np.empty(0, dtype)
    computed = Computed(n, d, dtype, **options)
    return computed.with_targets(Y, s), Dense(computed.dense(slice(None)), Y, s)


def model(source, scale=0.3):
    rng = np.random.default_rng(3)
    return tuple((scale * rng.normal(size=shape)).astype(source.dtype) for shape in ((source.d, source.k), source.k))


def same(found, expected):
    for one, other in zip(found, expected, strict=True):
        assert_array_equal(one, other, strict=True)


@pytest.fixture
def cut(monkeypatch):
    """Blocks and pieces of few rows."""
    monkeypatch.setattr(rows, "BLOCK_VALUES", 64)
    for module in (rows, moments):
        monkeypatch.setattr(module, "PIECE_VALUES", 64)


# ------------------------------------------------------------------------------- a kind that has `dense` and no more


@pytest.mark.with_reference
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("k", [1, 3])
@pytest.mark.parametrize("weighted", [False, True])
def test_every_pass_is_that_of_an_array(dtype, k, weighted, cut):
    computed, array = both(n=400, k=k, dtype=dtype, weighted=weighted)
    W, b = model(computed)
    blocks = computed.blocks()
    computed._asked[0] = 0
    assert blocks == array.blocks() and len(blocks) > 7
    edges = np.array([0, *(last for _, last in blocks)])
    shift = np.linspace(-1, 1, 5).astype(dtype)
    for about in (None, shift):
        for gradient in (False, True):
            passed = W, b, about, *SIGMOID_LOG, gradient
            same(computed.sums(blocks[2], *passed), array.sums(blocks[2], *passed))
            assert_array_equal(computed.block_sums(edges, *passed), array.block_sums(edges, *passed))
    steps = np.full((5, k), 1e-4), np.full(k, 1e-4)
    moved = W.astype(np.float64), b.astype(np.float64), *steps, *SIGMOID_LOG
    same(computed.differences(blocks[1], *moved), array.differences(blocks[1], *moved))
    assert_array_equal(computed.predict(W, b, 1), array.predict(W, b, 1))
    assert_array_equal(computed.transposed_product(computed.Y), array.transposed_product(array.Y))
    for one, other in zip(computed.pieces(shift, 2.0), array.pieces(shift, 2.0), strict=True):
        same(one[:2], other[:2])
    assert computed.most < 100  # never more than some rows at a time


@pytest.mark.with_reference
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("far_off", [0.0, 1e3])
def test_moments_and_measures_are_those_of_an_array(dtype, weighted, far_off, cut):
    computed, array = both(n=300, dtype=dtype, weighted=weighted, far_off=far_off)
    same(computed.moments(), array.moments())
    for centring in (False, True):
        for sample in (None, 40, 300):
            same(computed.measures(centring, sample), array.measures(centring, sample))
    same((computed.column_means(), computed.column_lengths(0.5)), (array.column_means(), array.column_lengths(0.5)))
    some = slice(3, 40, 2)
    assert_array_equal(computed.columns([0, 4], some), array.columns([0, 4], some))
    every = slice(None, None, 7)
    assert_array_equal(computed.shares(every), array.shares(every))
    W = np.linspace(-1, 1, 10).reshape(5, 2)
    assert_array_equal(computed.product(every, W), array.product(every, W))
    u = computed.Y.astype(np.float64)
    assert_allclose(computed.column_product(u), array.column_product(u), rtol=1e-12)
    assert computed.gram_products() == array.gram_products()
    assert_array_equal(computed.extended(), array.extended(), strict=True)


@pytest.mark.with_reference
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("k", [1, 2])
@pytest.mark.parametrize("batch", [1, 7, 1000])
@pytest.mark.parametrize("rule", [None, optimizers.Adam()])
@pytest.mark.parametrize("mean", [True, False])
def test_stochastic_steps_are_those_on_an_array(dtype, k, batch, rule, mean, cut):
    computed, array = both(k=k, dtype=dtype, weighted=True)
    order = np.random.default_rng(5).permutation(101)[:93]
    rates = np.linspace(0.02, 0.01, -(-93 // batch))
    found = []
    for source in (computed, array):
        w = np.concatenate([model(source)[0], np.ones((1, k), dtype)])
        update = None if rule is None else Update(rule, w, 5 * k).kernel_arguments
        source.stochastic(w, *SIGMOID_LOG, 1.0, 0.1, order, batch, mean, rates, update)
        found.append(w)
    assert np.all(np.isfinite(found[0])) and not np.array_equal(found[0][-1], np.ones(k))
    if mean:
        assert_array_equal(*found)
    else:  # a share of the penalty that is divided in two steps
        assert_allclose(*found, rtol=1e-13 if dtype == np.float64 else 1e-6)


@pytest.mark.parametrize("part", [slice(3, 90), slice(None, None, 4), np.array([7, 3, 3, 60])], ids=str)
@pytest.mark.parametrize("kind", ["computed", "dense", "csr"])
def test_rows_that_are_taken_are_those_rows(kind, part):
    computed, array = both(k=2, weighted=True)
    source = {"computed": computed, "dense": array, "csr": csr(array)}[kind]
    taken, expected = source.take(part), array.X[part]
    assert taken.shape == expected.shape and isinstance(taken, Rows)
    same((taken.dense(slice(None)), taken.Y, taken.weights), (expected, array.Y[part], array.weights[part]))
    assert_array_equal(taken.take(slice(1, 3)).dense(slice(None)), expected[1:3])
    alike = Dense(expected, array.Y[part], array.weights[part])
    for found, right in zip(taken.moments(), alike.moments(), strict=True):
        assert_allclose(found, right, rtol=1e-12, atol=1e-13)


OBJECTIVES = {
    "mse": {"loss": "mse", "fit_intercept": True},
    "weights": {"l2": 0.1, "weighted": True},
    "log": {"loss": "log", "activation": "sigmoid", "fit_intercept": True, "l2": 0.01},
    "outputs": {"activation": "tanh", "k": 3, "fit_intercept": True},
}


def objectives(name, n=101, dtype=np.float64, n_jobs=None):
    """An objective on computed rows and one on an array."""
    options = OBJECTIVES[name].copy()
    k, weighted = options.pop("k", 1), options.pop("weighted", False)
    computed, array = both(n=n, k=k, dtype=dtype)
    y = array.Y if k > 1 else np.round(array.Y[:, 0])
    s = np.random.default_rng(6).uniform(0.5, 2, n) if weighted else None
    return (LinearObjective(X, y, sample_weight=s, n_jobs=n_jobs, **options) for X in (computed, array.X))


@pytest.mark.with_reference
@pytest.mark.parametrize("name", OBJECTIVES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_an_objective_takes_a_third_kind(name, dtype):
    found, right = objectives(name, dtype=dtype)
    assert repr(found) == repr(right)
    w = np.linspace(-1, 1, np.prod(found.shape)).reshape(found.shape).astype(dtype)
    assert found.value(w) == right.value(w)
    same(found.value_and_gradient(w), right.value_and_gradient(w))
    same((found.predict(w), found.numerical_gradient(w)), (right.predict(w), right.numerical_gradient(w)))
    assert_array_equal(found.predict(w, Computed(7, 5, dtype)), right.predict(w, Computed(7, 5, dtype).dense(slice(7))))
    assert found.lipschitz() == right.lipschitz()


@pytest.mark.parametrize("n_jobs", [1, 3])
def test_threads_walk_a_third_kind(n_jobs, cut, monkeypatch):
    monkeypatch.setattr(threads, "THREAD_VALUES", 0)
    found, right = objectives("log", n=500, n_jobs=n_jobs)
    assert len(found.edges) > 8
    w = np.linspace(-1, 1, 6)
    found.rows._asked[0] = 0
    same(found.value_and_gradient(w), right.value_and_gradient(w))
    assert found.rows.most < 100


@pytest.mark.parametrize("name", OBJECTIVES)
@pytest.mark.parametrize(
    "options",
    [{"lr": 1e-3}, {"lr": "auto"}, {"lr": "auto", "solver": "preconditioned"}, {"lr": 1e-2, "batch_size": 8}],
    ids=str,
)
def test_descent_on_a_third_kind(name, options):
    found, right = (gradient_descent(o, step_num=40, seed=1, **options) for o in objectives(name))
    assert found.status is right.status
    # An array is walked by a kernel of many steps, which rounds in another order.
    assert_allclose(found.x, right.x, rtol=1e-9, atol=1e-12)
    assert found.fun == pytest.approx(right.fun, rel=1e-12)


FITTED = {"squared_error": "identity", "log": "sigmoid", "hinge": "identity", "huber": "identity", "poisson": "exp"}
SOLVERS = ("auto", "gd", "accelerated", "preconditioned", "gram", "sgd")


def fitted(loss, n=150, dtype=np.float64, weighted=False, **options):
    """An objective on computed rows and one on an array, with targets that follow a model and noise."""
    computed, array = both(n=n, dtype=dtype)
    rng = np.random.default_rng(8)
    h = array.X @ np.linspace(-1, 1, 5) + (0 if loss == "poisson" else rng.normal(size=n))
    y = {"log": h > 0, "hinge": np.sign(h), "poisson": rng.poisson(np.exp(h))}.get(loss, h)
    options |= {"loss": loss, "activation": FITTED[loss]}
    options["sample_weight"] = rng.uniform(0.5, 2, n) if weighted else None
    computed._asked[0] = 0
    return [LinearObjective(X, y * 1.0, **options) for X in (computed, array.X)]


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("loss", FITTED)
def test_every_solver_fits_a_third_kind(loss, solver):
    penalties = [(0.0, 0.0), (0.0, 0.01), (0.02, 0.0), (0.01, 0.01)]
    for (l1, l2), fit_intercept in itertools.product(penalties, (False, True)):
        assert_fits_a_third_kind(loss, solver, l1, l2, fit_intercept)


def assert_fits_a_third_kind(loss, solver, l1, l2, fit_intercept):
    pair = fitted(loss, l1=l1, l2=l2, fit_intercept=fit_intercept)
    if (solver == "gram" and loss != "squared_error") or (solver in ("gd", "accelerated") and loss == "hinge"):
        for o in pair:
            with pytest.raises(ValueError, match=f"solver.*{solver}"):
                gradient_descent(o, lr="auto", solver=solver)
        return
    # Stochastic steps on a loss with a kink come to no certificate.
    ends = (solver, loss) != ("sgd", "hinge")
    found, right = (gradient_descent(o, lr="auto", solver=solver, tol=1e-5, step_num=300 if ends else 20) for o in pair)
    assert found.success is ends and found.status is right.status
    if right.solver == "coordinate":  # which needs columns, and a third kind has rows
        assert abs(found.fun - right.fun) <= max(found.gap, right.gap) and found.certified and right.certified
        return
    same((found.x, found.jac), (right.x, right.jac))
    assert (found.fun, found.gap, found.nit, found.n_passes, found.solver, found.certified) == (
        right.fun, right.gap, right.nit, right.n_passes, right.solver, right.certified
    )  # fmt: skip
    if ends:
        assert found.gap <= 1e-5 * pair[0].value(found.x)


ESTIMATORS = {"squared_error": GDRegressor, "huber": GDRegressor, "log": GDClassifier, "hinge": GDClassifier}


@pytest.mark.parametrize(
    "options",
    [*({"solver": solver} for solver in SOLVERS), {"early_stopping": True, "validation_fraction": 0.3}],
    ids=str,
)
@pytest.mark.parametrize("loss", ESTIMATORS)
def test_estimators_fit_a_third_kind(loss, options):
    o, array = fitted(loss)
    solver = options.get("solver")
    options = options | {"tol": None if (solver, loss) == ("sgd", "hinge") else 1e-5, "max_iter": 100}
    found, right = (ESTIMATORS[loss](loss=loss, random_state=0, **options) for _ in range(2))
    if (solver == "gram" and loss != "squared_error") or (solver in ("gd", "accelerated") and loss == "hinge"):
        with pytest.raises(ValueError, match=f"solver.*{solver}"):
            found.fit(o.X, o.y)
        assert not hasattr(found, "coef_")
        return
    found.fit(o.X, o.y), right.fit(array.X, o.y)
    same((found.coef_, found.intercept_), (right.coef_, right.intercept_))
    assert (found.n_iter_, found.n_features_in_) == (right.n_iter_, right.n_features_in_)
    assert_allclose(found.predict(o.X), right.predict(array.X), rtol=1e-13)
    assert found.score(o.X, o.y) == pytest.approx(right.score(array.X, o.y), rel=1e-13)
    found.partial_fit(o.X, o.y), right.partial_fit(array.X, o.y)
    assert_allclose(found.coef_, right.coef_, rtol=1e-12)
    with pytest.raises(ValueError, match=r"6 features.*expecting 5"):
        found.predict(Computed(4, 6))


@pytest.mark.one_build
@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("fit_intercept", [False, True])
@pytest.mark.parametrize("solver", SOLVERS)
def test_rows_that_are_not_finite_are_refused_in_a_sentence(solver, fit_intercept, bad):
    class Given(Rows):
        def dense(self, part, dtype=None):
            X = np.arange(10, dtype=dtype or self.dtype).reshape(5, 2) % 7
            X[3, 1] = bad
            return X[part].copy()

    with pytest.raises(ValueError, match="finite"):
        GDRegressor(solver=solver, fit_intercept=fit_intercept).fit(Given(5, 2, np.float64), np.arange(5.0))


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("loss", FITTED)
@pytest.mark.parametrize("dtype", DTYPES)
def test_solvers_ask_for_some_rows_at_a_time(loss, solver, dtype, monkeypatch):
    monkeypatch.setattr(rows, "BLOCK_VALUES", 1000)
    for module in (rows, moments):
        monkeypatch.setattr(module, "PIECE_VALUES", 1000)
    monkeypatch.setattr(sampling, "SPREAD_ROWS", 64)
    monkeypatch.setattr(sampling, "LEAST_ROWS", 16)
    n = 7000
    assert n * 5 > gram.EXTENDED_VALUES and n > quasi_newton.FEWER * quasi_newton.FEWER_SAMPLES * 64
    if (solver == "gram" and loss != "squared_error") or (solver in ("gd", "accelerated") and loss == "hinge"):
        pytest.skip("refused, as another test says")
    found, right = fitted(loss, n, dtype, weighted=True, fit_intercept=True, l2=0.01)
    assert len(found.edges) > 8
    ours, theirs = (gradient_descent(o, lr="auto", solver=solver, tol=1e-4, step_num=10) for o in (found, right))
    assert ours.status is theirs.status
    assert_array_equal(ours.x, theirs.x)
    assert found.rows.most < 1000  # a block, a sample, or four batches


@pytest.mark.parametrize("batch_size", [1, 7, 150])
@pytest.mark.parametrize("penalties", [{}, {"l2": 0.01}, {"l1": 0.01}], ids=str)
@pytest.mark.parametrize("loss", FITTED)
def test_steps_on_batches_with_a_rate_on_a_third_kind(loss, penalties, batch_size):
    pair = fitted(loss, fit_intercept=True, **penalties)
    for solver in (None, "sgd"):
        options = {"lr": 0.05, "batch_size": batch_size, "step_num": 400, "seed": 3, "solver": solver}
        found, right = (gradient_descent(o, **options) for o in pair)
        same((found.x, found.jac), (right.x, right.jac))
        assert found.fun == right.fun < pair[0].value(np.zeros(6))


def test_a_sweep_and_a_checkpoint_on_a_third_kind(tmp_path):
    found, right = objectives("mse")
    rates = [1e-3, 1e-2]
    for one, other in zip(sweep(found, lr=rates, step_num=5), sweep(right, lr=rates, step_num=5), strict=True):
        assert_allclose(one.x, other.x, rtol=1e-12)
    options = {"lr": 1e-3, "checkpoint": tmp_path / "run.npz", "resume": True}
    gradient_descent(found, step_num=5, **options)
    went_on = gradient_descent(next(objectives("mse")), step_num=10, **options)
    assert went_on.nit == 10
    assert_array_equal(went_on.x, gradient_descent(found, lr=1e-3, step_num=10).x)
    others = LinearObjective(Computed(101, 5, far_off=1.0), found.y, **OBJECTIVES["mse"])
    with pytest.raises(ValueError, match="X"):
        gradient_descent(others, step_num=10, **options)


# -------------------------------------------------------------------------------------------------- what is taken for X


@pytest.mark.one_build
def test_a_kind_may_take_something_that_is_not_rows():
    class Range:
        """Not an array, and nothing that NumPy would make one of."""

        def __init__(self, n):
            self.shape, self.dtype = (n, 1), np.dtype(np.float64)

    class OfRange(Rows):
        def __init__(self, X, Y, weights):
            super().__init__(*X.shape, X.dtype, Y, weights)

        takes = staticmethod(lambda X: isinstance(X, Range))
        made_of = classmethod(lambda cls, X, Y, weights: cls(X, Y, weights))

        def dense(self, part, dtype=None):
            return np.arange(self.n, dtype=dtype or self.dtype)[part, None]

    with pytest.raises(TypeError, match="X must hold real numbers"):
        LinearObjective(Range(3), [0.0, 2.0, 4.0])
    register(OfRange)
    register(OfRange)  # once more changes nothing
    try:
        o = LinearObjective(Range(3), [0.0, 2.0, 4.0])
        assert o.value([1.0]) == 2.5 and isinstance(o.rows, OfRange)
        assert_array_equal(o.predict([2.0], Range(2)), [0.0, 2.0])
    finally:
        inputs._kinds.remove(OfRange)
    assert OfRange not in inputs._kinds


@pytest.mark.one_build
def test_what_is_no_data_is_refused_in_a_sentence():
    with pytest.raises(TypeError, match=r"a kind of data must be a subclass of Rows; got .*Dense.*|int"):
        register(int)
    with pytest.raises(NotImplementedError, match=r"Rows must define dense\(part, dtype=None\)"):
        LinearObjective(Rows(3, 2, np.float64), np.zeros(3)).value(np.zeros(2))
    with pytest.raises(TypeError, match="X must be of dtype float32 or float64; got int64"):
        LinearObjective(Computed(3, 2, np.int64), np.zeros(3))
    with pytest.raises(ValueError, match="y has 4 rows, X has 3: they must be equal"):
        LinearObjective(Computed(3, 2), np.zeros(4))
    with pytest.raises(ValueError, match=r"at least one row and one column; got shape \(3, 0\)"):
        LinearObjective(Computed(3, 0), np.zeros(3))
    o = LinearObjective(Computed(3, 2), np.zeros(3))
    with pytest.raises(TypeError, match="X must be of dtype float64; got float32"):
        o.predict([1.0, 1.0], Computed(3, 2, np.float32))
    with pytest.raises(ValueError, match=r"X must have 2 columns; got shape \(3, 4\)"):
        o.predict([1.0, 1.0], Computed(3, 4))


@pytest.mark.one_build
def test_rows_are_taken_as_they_are():
    array = both()[1]
    for source in (array, csr(array)):
        o = LinearObjective(source, array.Y[:, 0], sample_weight=np.full(101, 2.0))
        assert type(o.rows) is type(source) and o.rows.X is source.X
        assert o.total_weight == 202.0
        assert source.weights.size == 0


# ------------------------------------------------------------------------------- arrays and CSR, against plain NumPy


def csr(array):
    return Sparse(scipy.sparse.csr_array(array.X), array.Y, array.weights)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", [Dense, csr])
@pytest.mark.parametrize("order", ["C", "F"])
def test_products_and_parts_are_those_of_numpy(dtype, kind, order):
    array = both(k=2, dtype=dtype, weighted=True)[1]
    X = np.asarray(array.X, order=order)
    source = Dense(X, array.Y, array.weights) if kind is Dense else csr(array)
    for part in (slice(None), slice(5, 50), slice(None, None, 9), np.array([4, 0, 77])):
        for wanted in (None, np.float64, np.float32):
            found = source.dense(part, wanted)
            assert_array_equal(found, X[part].astype(wanted or dtype), strict=True)
            assert found.flags.c_contiguous and not np.may_share_memory(found, X)
        assert_array_equal(source.view(part), X[part], strict=True)
        out = np.ones((len(X[part]), 6))
        source.write(part, out[:, :5])
        assert_array_equal(out, np.column_stack([X[part], np.ones(len(out))]))
        W = np.linspace(-1, 1, 5).reshape(5, 1)
        assert_allclose(source.product(part, W), X[part].astype(np.float64) @ W, rtol=1e-13, atol=1e-14)
    exact, u = X.astype(np.float64), np.random.default_rng(1).normal(size=(101, 2))
    assert_allclose(source.column_product(u), exact.T @ u, rtol=1e-12, atol=1e-13)
    weighted = array.weights.astype(np.float64)[:, None] * u.astype(dtype)
    tolerance = {"rtol": 1e-12, "atol": 1e-12} if dtype == np.float64 else {"rtol": 1e-5, "atol": 1e-4}
    assert_allclose(source.transposed_product(u), exact.T @ weighted, **tolerance)
    assert_array_equal(source.extended(), X.astype(np.longdouble), strict=True)
    assert_array_equal(source.columns(np.array([0, 3])), exact[:, [0, 3]], strict=True)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("centring", [False, True])
def test_measures_are_means_and_spreads(weighted, centring):
    array = both(n=200, weighted=weighted)[1]
    s = array.weights if weighted else np.ones(200)
    mean = np.average(array.X, axis=0, weights=s) if centring else np.zeros(5)
    spread = np.sqrt(np.average((array.X - mean) ** 2, axis=0, weights=s))
    for source, sample in ((array, None), (array, 200), (csr(array), None), (csr(array), 10)):
        means, spreads, still = source.measures(centring, sample)
        assert_allclose(means, mean, rtol=1e-12, atol=1e-15)
        assert_allclose(spreads, spread, rtol=1e-12)
        assert not still.any()


@pytest.mark.parametrize("far_off", [0.0, 4.0])
def test_a_column_that_varies_outside_of_the_sample_only_is_not_still(far_off):
    X = np.full((1000, 2), far_off)
    X[501, 1] += 100.0  # no multiple of the step between rows of the sample
    for source in (Dense(X, np.zeros((1000, 1)), np.empty(0)), csr(Dense(X, np.zeros((1000, 1)), np.empty(0)))):
        assert source.measures(True, 100)[2].tolist() == [True, False]


@pytest.mark.parametrize("weighted", [False, True])
def test_columns_that_a_sample_says_nothing_of_are_looked_into_a_few_rows_at_a_time(weighted, cut):
    class Rare(Computed):
        def dense(self, part, dtype=None):
            numbers = np.arange(self.n)[part]
            return np.where((numbers % 97 == 5)[:, None], super().dense(part, dtype), 0)

    s = np.random.default_rng(3).uniform(0.5, 2, 2000) if weighted else None
    source = Rare(2000, 5).with_targets(np.zeros((2000, 1)), s)
    part = slice(None, None, 100)
    assert not source.dense(part).any()
    source._asked[0] = 0
    means, spreads, still = source.measures(True, 20)
    assert 0 < source.most <= 64 // 5 + 20
    X = source.dense(slice(None))
    expected = np.average(X, axis=0, weights=s)
    assert_allclose(means, expected, rtol=1e-12, atol=1e-16)
    assert_allclose(spreads, np.sqrt(np.average((X - expected) ** 2, axis=0, weights=s)), rtol=1e-12)
    assert not still.any()


@pytest.mark.parametrize("sample", [None, 4000, 20_000])
@pytest.mark.parametrize("number", [0.1, 3.7, 4.0, -1e6])
def test_constant_columns_are_still_however_their_means_are_rounded(number, sample):
    X, none = np.column_stack([np.full(20_000, number), np.arange(20_000) % 7]), np.empty(0)
    for s in (none, np.random.default_rng(1).uniform(0.5, 2, 20_000)):
        array = Dense(X, np.zeros((20_000, 1)), s)
        for source in (array, csr(array)):
            means, spreads, still = source.measures(True, sample)
            assert means[0] == number and spreads[0] == 0
            assert still.tolist() == [True, False]


def test_scaled_rows_take_the_steps_of_a_scaled_array():
    computed, array = both(weighted=True)
    shift, scale = np.linspace(-1, 1, 5), np.array([0.5, 1.0, 2.0, np.inf, 3.0])
    order = np.arange(100)[::-1].copy()
    for source in (computed, array, csr(array)):
        scaled, by = source.scaled(shift, scale)
        assert_array_equal(by, np.zeros(5) if isinstance(source, Sparse) else shift)
        expected = (array.X - by) / scale
        assert_allclose(scaled.dense(slice(None)), expected, rtol=1e-15)
        found = []
        for rows_ in (scaled, Dense(expected, array.Y, array.weights)):
            w = np.zeros((6, 1))
            rows_.stochastic(w, *SIGMOID_LOG, 1.0, 0.0, order, 3, True, np.full(34, 0.1))
            found.append(w)
        assert_allclose(*found, rtol=1e-11, atol=1e-14)
        assert found[0][3] == 0


@pytest.mark.one_build
def test_what_a_gram_matrix_takes_is_counted_in_values_of_a_pass():
    array = both(n=3200, d=5)[1]
    assert array.gram_products() == 3200 * 25 / rows.BLAS_ADVANTAGE
    stored = (array.X != 0).sum(axis=1)
    assert csr(array).gram_products() == pytest.approx(2.5 * np.sum(stored**2) + 125 / 96)


@pytest.mark.one_build
def test_rows_of_an_array_or_a_matrix_are_of_its_kind():
    X, Y, none = np.eye(3), np.zeros((3, 1)), np.empty(0)
    assert type(rows_of(X, Y, none)) is Dense
    assert type(rows_of(np.ma.masked_array(X), Y, none)) is Dense
    assert type(rows_of(scipy.sparse.csr_matrix(X), Y, none)) is Sparse
    assert type(rows_of(Computed(3, 3), Y, none)) is Computed


# ---------------------------------------------------------------------------------------------------------- threads


@pytest.mark.one_build
def test_a_pass_does_not_wait_for_that_of_another_thread(monkeypatch):
    monkeypatch.setattr(threads, "_pool", None)
    begun, release = threading.Barrier(3), threading.Event()

    def held(block):
        begun.wait(60)
        assert release.wait(60)

    large = threading.Thread(target=threads.over_blocks, args=(held, [0, 1], 2))
    large.start()
    begun.wait(60)  # now the only thread of the pool is busy, and so is the caller's
    found = []
    small = threading.Thread(target=lambda: found.append(threads.over_blocks(abs, [-1, -2, -3], 2)))
    small.start()
    small.join(30)
    ended_first = not small.is_alive()
    release.set()
    large.join(60)
    small.join(60)
    assert ended_first and found == [[1, 2, 3]]


@pytest.mark.one_build
def test_a_number_is_handed_out_once():
    numbers, found, together = threads.Numbers(20_000), [[] for _ in range(8)], threading.Barrier(8)

    def take(into):
        together.wait(60)
        while (number := numbers.take()) is not None:
            into.append(number)

    takers = [threading.Thread(target=take, args=(into,)) for into in found]
    for taker in takers:
        taker.start()
    for taker in takers:
        taker.join(60)
    assert sorted(itertools.chain(*found)) == list(range(20_000))
    assert all(into == sorted(into) for into in found)


@pytest.mark.one_build
@pytest.mark.parametrize("bad", [0, 3])
def test_after_an_error_no_further_block_is_begun(bad):
    count, begun = 20_000, []

    def fail(block):
        begun.append(block)
        if block == bad:
            raise ZeroDivisionError(f"in block {block}")
        time.sleep(0.001)  # all of them would take 10 seconds by two threads

    with pytest.raises(ZeroDivisionError, match=f"in block {bad}"):
        threads.over_blocks(fail, range(count), 2)
    assert len(begun) < count / 2
    assert threads.over_blocks(abs, [-1, -2], 2) == [1, 2]


@pytest.mark.one_build
def test_the_first_of_several_errors_is_raised():
    first = threading.Event()

    def fail(block):
        if block == 1:
            try:
                raise ValueError("the first")
            finally:
                first.set()
        assert first.wait(60)
        time.sleep(0.05)  # the other thread has no more to do than to note its error
        raise ZeroDivisionError("the second")

    with pytest.raises(ValueError, match="the first"):
        threads.over_blocks(fail, [0, 1], 2)
