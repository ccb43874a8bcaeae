"""Losses of the user's own: what is built in, written again in Python and C, gives the same, and what else they do."""

import ctypes
import functools
import pickle

import numba
import numpy as np
import pytest
import scipy
import scipy.optimize
import scipy.sparse
from numba import types
from numpy.testing import assert_allclose
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV

import fastgd
from fastgd import GDClassifier, GDRegressor, LinearObjective, losses

ARRAYS = [types.CPointer(types.double)] * 4


def square(h, y):
    r = h - y
    return 0.5 * r * r, r


def cauchy(h, y):
    r = h - y
    return np.log1p(r * r), 2 * r / (1 + r * r)


def square_loop(n, h, y, value, slope):
    for i in range(n):
        r = h[i] - y[i]
        value[i] = 0.5 * r * r
        slope[i] = r


@functools.cache
def in_c(kind):
    if kind == "numba":
        return numba.cfunc(types.void(types.intp, *ARRAYS))(square_loop)
    if kind == "numba, int":
        return numba.cfunc(types.void(types.intc, *ARRAYS))(square_loop)

    @numba.cfunc(types.void(types.intp, *ARRAYS, types.CPointer(types.double)))
    def scaled(n, h, y, value, slope, factor):
        for i in range(n):
            r = h[i] - y[i]
            value[i] = 0.5 * factor[0] * r * r
            slope[i] = factor[0] * r

    factor = np.array([3.0])
    signature = "void (intptr_t, const double *, const double *, double *, double *, void *)"
    data = ctypes.cast(factor.ctypes.data, ctypes.c_void_p)
    function = scipy.LowLevelCallable(scaled.ctypes, data, signature)
    return function, factor, scaled


def made(kind):
    """The loss, and what it is times the squared error."""
    if kind == "LowLevelCallable":
        return losses.custom(in_c(kind)[0], convex=True, curvature_bound=3.0), 3.0
    return losses.custom(square if kind == "Python" else in_c(kind), convex=True, curvature_bound=1.0), 1.0


KINDS = ("Python", "numba", "numba, int", "LowLevelCallable")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("layout", ["C", "F", "sparse"])
@pytest.mark.parametrize("k", [1, 3])
def test_values_and_gradients_are_those_of_the_loss_that_is_built_in(kind, dtype, layout, k):
    rng = np.random.default_rng(5)
    loss, times = made(kind)
    for n, d in ((1, 1), (5, 3), (130, 50), (5000, 4)):
        X = (rng.normal(size=(n, d)) * (rng.random((n, d)) < 0.6)).astype(dtype)  # with rows of no entries
        y = rng.normal(size=(n, k)).astype(dtype)
        s = rng.uniform(0, 2, n) * (rng.random(n) < 0.8) + (np.arange(n) == 0)
        X = {"C": X, "F": np.asfortranarray(X), "sparse": scipy.sparse.csr_array(X)}[layout]
        options = {"fit_intercept": True, "sample_weight": s}
        ours = LinearObjective(X, y, loss=loss, n_jobs=2, **options)
        theirs = LinearObjective(X, y, loss="squared_error", **options)
        w, tolerance = rng.normal(size=ours.shape).astype(dtype), 1e-12 if dtype is np.float64 else 1e-5
        size = 1 + theirs.value(w)
        assert_allclose(ours.value(w), times * theirs.value(w), rtol=tolerance)
        assert_allclose(ours.gradient(w), times * theirs.gradient(w), rtol=0, atol=10 * tolerance * size)
        assert_allclose(ours.numerical_gradient(w), times * theirs.gradient(w), rtol=0, atol=1e-4 * size)
        assert ours.lipschitz() == pytest.approx(times * theirs.lipschitz())
        assert ours.gradient(w).dtype == dtype


ROUTES = [
    {"lr": "auto"}, {"lr": "auto", "solver": "gd"}, {"lr": "auto", "solver": "accelerated"}, {"lr": 0.3}, {"lr": "bb"},
    {"lr": "auto", "solver": "preconditioned"}, {"lr": "armijo"}, {"lr": "adgd"}, {"lr": 0.1, "optimizer": "adam"},
]  # fmt: skip


@pytest.mark.parametrize("kind", ["Python", "numba"])
@pytest.mark.parametrize("options", ROUTES)
def test_every_solver_that_needs_no_more_comes_to_the_minimum(kind, options):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(300, 4))
    y = X @ rng.normal(size=4) + 1 + rng.normal(size=300)
    for loss in (made(kind)[0], losses.custom(made(kind)[0].f, convex=True), losses.custom(made(kind)[0].f)):
        o = LinearObjective(X, y, loss=loss, fit_intercept=True)
        result = fastgd.gradient_descent(o, step_num=5000, tol=1e-9, **options)
        assert result.success and not result.certified
        assert_allclose(result.x, np.linalg.lstsq(np.column_stack([X, np.ones(300)]), y, rcond=None)[0], atol=1e-3)


def test_gram_is_refused():
    o = LinearObjective([[1.0], [2.0]], [1.0, 3.0], loss=losses.custom(square))
    with pytest.raises(ValueError, match=r"solver='gram' is for the squared error .* got loss=custom\(square\)"):
        fastgd.gradient_descent(o, lr="auto", solver="gram")


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("batch", [1, 7])
@pytest.mark.parametrize("k", [1, 2])
def test_stochastic_steps_are_those_of_the_loss_that_is_built_in(dtype, sparse, batch, k):
    rng = np.random.default_rng(1)
    X = rng.normal(size=(60, 9)).astype(dtype)
    y = rng.normal(size=(60, k)).astype(dtype)
    X = scipy.sparse.csr_array(X) if sparse else X
    found = [
        fastgd.gradient_descent(
            LinearObjective(X, y, loss=loss, l2=0.01, fit_intercept=True), lr=0.02, solver="sgd", batch_size=batch,
            step_num=100, seed=3,
        ).x
        for loss in ("squared_error", made("numba")[0], made("Python")[0])
    ]  # fmt: skip
    assert_allclose(found[1], found[0], rtol=0, atol=1e-12 if dtype is np.float64 else 2e-5)
    assert_allclose(found[2], found[1], rtol=0, atol=1e-14)


def test_a_loss_that_is_not_convex_ends_by_its_gradient_at_a_minimum_of_scipy():
    rng = np.random.default_rng(2)
    X = rng.normal(size=(500, 3))
    y = X @ [1.0, -2.0, 3.0] + 0.5 + rng.standard_t(1.2, size=500)
    o = LinearObjective(X, y, loss=losses.custom(cauchy), fit_intercept=True)
    assert fastgd.check_gradient(o.value, o.gradient, rng.normal(size=4)).ok
    result = fastgd.gradient_descent(o, lr="auto", step_num=500, tol=1e-12)
    assert result.success and result.certified is False and "not convex" in result.message

    def value(w):
        return np.mean(np.log1p((X @ w[:3] + w[3] - y) ** 2))

    options = {"xatol": 1e-9, "fatol": 1e-14, "maxiter": 5000}
    best = scipy.optimize.minimize(value, [1.0, -2.0, 3.0, 0.5], method="Nelder-Mead", options=options)
    assert_allclose(result.fun, best.fun, rtol=1e-9)
    assert_allclose(result.x, best.x, atol=1e-5)


def test_a_kink_takes_a_rate_that_shrinks():
    rng = np.random.default_rng(3)
    X = rng.normal(size=(200, 2))
    y = X @ [1.0, 2.0] + rng.normal(size=200)
    loss = losses.custom(lambda h, y: (np.abs(h - y), np.sign(h - y)), smooth=False, convex=True)
    o = LinearObjective(X, y, loss=loss)
    with pytest.raises(ValueError, match="has a kink, and no smooth losses near it are known: give a lr that shrinks"):
        fastgd.gradient_descent(o, lr="auto")
    result = fastgd.gradient_descent(o, lr=lambda step: 0.5 / (1 + step) ** 0.7, step_num=3000)
    best = fastgd.gradient_descent(LinearObjective(X, y, loss=losses.EpsilonInsensitive(0)), lr="auto", step_num=3000)
    assert result.fun == pytest.approx(best.fun, rel=1e-3)


def wrong(found):
    return lambda h, y: found(h)


@pytest.mark.parametrize(
    ("f", "error", "match"),
    [
        (wrong(lambda h: h), TypeError, r"must return a pair of arrays, \(values, slopes\); got an array"),
        (wrong(lambda h: (h, h, h)), TypeError, "must return a pair"),
        (wrong(lambda h: (h[1:], h)), ValueError, r"must return values that are real numbers .* of shape \(2,\)"),
        (wrong(lambda h: (h, 0.0)), ValueError, "must return slopes that are real numbers"),
        (wrong(lambda h: (1j * h, h)), ValueError, "got complex128"),
        (wrong(lambda h: (h, h + np.nan)), ValueError, r"finite at h = 0 for every y; at y\[0\] = 1.0 .* slope nan"),
        (wrong(lambda h: 1 / 0), ZeroDivisionError, "division by zero"),
    ],
)
def test_what_is_wrong_with_a_function_is_said(f, error, match):
    with pytest.raises(error, match=match):
        LinearObjective([[1.0], [2.0], [3.0]], [1.0, 2.0, 3.0], loss=losses.custom(f))


@pytest.mark.one_build
def test_what_is_no_function_or_no_option_is_refused():
    for make, match in (
        (lambda: losses.custom(3), r"f must be a function f\(h, y\) or a C function; got 3"),
        (lambda: losses.custom(square, smooth=1), "smooth must be True or False"),
        (lambda: losses.custom(square, curvature_bound=-1), "curvature_bound must be finite and positive"),
        (lambda: losses.custom(square, smooth=False, curvature_bound=1), "curvature_bound is for a smooth loss"),
        (
            lambda: losses.custom(numba.cfunc("float64(float64)")(lambda x: x)),
            r"C signature void \(n, const double \*h",
        ),
    ):
        with pytest.raises((TypeError, ValueError), match=match):
            make()
    with pytest.raises(ValueError, match="goes with activation 'identity'; got 'tanh'"):
        LinearObjective([[1.0]], [1.0], loss=losses.custom(square), activation="tanh")


class Later:
    """Raises at its so-many-th call."""

    def __init__(self, calls):
        self.left = calls

    def __call__(self, h, y):
        self.left -= 1
        if self.left < 0:
            raise KeyError("later")
        return square(h, y)


@pytest.mark.parametrize("options", [{"lr": 0.1}, {"lr": "auto"}, {"lr": 0.01, "solver": "sgd"}, {"lr": "bb"}])
@pytest.mark.parametrize("sparse", [False, True])
def test_what_a_function_raises_reaches_the_caller(options, sparse):
    X = np.random.default_rng(0).normal(size=(30, 3))
    X = scipy.sparse.csr_array(X) if sparse else X
    o = LinearObjective(X, np.ones(30), loss=losses.custom(Later(8)))
    with pytest.raises(KeyError, match="later"):
        fastgd.gradient_descent(o, step_num=500, **options)


def test_a_failed_partial_fit_leaves_the_weights():
    X = np.random.default_rng(0).normal(size=(30, 3))
    model = GDRegressor(losses.custom(Later(40)), learning_rate=0.01).partial_fit(X, np.ones(30))
    before = model.coef_.copy()
    with pytest.raises(KeyError):
        model.partial_fit(X, np.ones(30))
    assert np.array_equal(model.coef_, before) and np.all(np.isfinite(before))


def test_a_function_may_write_to_its_arguments():
    def greedy(h, y):
        h -= y
        y[:] = 0
        return 0.5 * h * h, h

    X, y = np.random.default_rng(0).normal(size=(40, 2)), np.arange(40.0)
    ours, theirs = (LinearObjective(X, y, loss=loss) for loss in (losses.custom(greedy), "squared_error"))
    assert_allclose(ours.value([1.0, 2.0]), theirs.value([1.0, 2.0]))
    assert_allclose(ours.gradient([1.0, 2.0]), theirs.gradient([1.0, 2.0]))
    assert y.tolist() == list(range(40))


def hinge(h, y):
    short = np.maximum(1 - y * h, 0)
    return short**2, -2 * y * short


def test_estimators_take_it(tmp_path):
    rng = np.random.default_rng(4)
    X = rng.normal(size=(200, 3))
    labels = np.array(["a", "b", "c"])[np.argmax(X + 0.3 * rng.normal(size=(200, 3)), axis=1)]
    ours = GDClassifier(losses.custom(hinge, convex=True), tol=1e-8).fit(X, labels)
    theirs = GDClassifier("squared_hinge", tol=1e-8).fit(X, labels)
    assert_allclose(ours.coef_, theirs.coef_, atol=1e-3)
    assert not hasattr(ours, "predict_proba")
    model = GDRegressor(losses.custom(cauchy), tol=1e-8).fit(X, X @ [1.0, 2.0, 3.0] + 5)
    assert_allclose(model.coef_, [1, 2, 3], atol=1e-3)
    again = pickle.loads(pickle.dumps(model))
    assert again.loss == model.loss and np.array_equal(again.predict(X), model.predict(X))
    for ending in ("json", "npz"):
        with pytest.raises(ValueError, match=r"loss=custom\(cauchy\) is a function of your own.*pickle"):
            model.save(tmp_path / f"model.{ending}")
    assert not list(tmp_path.iterdir())


@pytest.mark.one_build
def test_losses_are_searched_over_in_processes(tmp_path):
    rng = np.random.default_rng(4)
    X = rng.normal(size=(120, 3))
    y = X @ [1.0, 2.0, 3.0] + rng.standard_t(2, size=120)
    grid = ["squared_error", losses.Huber(0.5), losses.Quantile(0.4), losses.custom(cauchy)]
    search = GridSearchCV(GDRegressor(), {"loss": grid}, n_jobs=2, cv=3).fit(X, y)
    assert search.best_params_["loss"] in grid and np.all(np.isfinite(search.cv_results_["mean_test_score"]))
    model = clone(GDRegressor(losses.Huber(0.5))).fit(X, y)
    assert model.loss == losses.Huber(0.5)
    for ending in ("json", "npz"):
        model.save(tmp_path / f"model.{ending}")
        again = GDRegressor.load(tmp_path / f"model.{ending}")
        assert again.loss == model.loss and np.array_equal(again.predict(X), model.predict(X))
