"""What the estimators minimise, how they stop, and what they say of it; judged by formulas written here."""

import functools
import sys
import warnings

import numpy as np
import pytest
import scipy.sparse
from numpy.testing import assert_allclose, assert_array_equal
from scipy.optimize import linprog, minimize
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import PoissonRegressor, SGDRegressor
from sklearn.metrics import accuracy_score, d2_tweedie_score, r2_score
from sklearn.model_selection import train_test_split
from sklearn.svm import SVC, SVR

from fastgd import DivergenceWarning, GDClassifier, GDRegressor, schedules
from fastgd.engine.result import Status
from fastgd.errors import ConditionWarning

N, SCALES = 80, np.array([1e-6, 1.0, 1e3, 1e6])
OFFSETS = np.array([0.0, 2.0, -1.0, 3.0])
REGRESSION = ("squared_error", "huber", "epsilon_insensitive", "poisson")
CLASSIFICATION = ("log_loss", "hinge", "squared_hinge")
KINKED = ("hinge", "epsilon_insensitive")
PENALTIES = {"none": (None, 0.0), "l2": ("l2", 1e-3), "much l2": ("l2", 1e3), "l1": ("l1", 1e-3),
             "elastic net": ("elasticnet", 1e-2)}  # fmt: skip
DETERMINISTIC = ("gram", "preconditioned", "accelerated", "gd")


@functools.cache
def table(loss):
    rng = np.random.default_rng(0)
    Z = rng.normal(size=(N, 4))
    Z[:, 1] += 0.7 * Z[:, 0]
    h = Z @ [1, -0.5, 0.3, 0] + 0.2
    y = {
        "poisson": lambda: rng.poisson(np.exp(0.5 * h)).astype(float),
        **dict.fromkeys(CLASSIFICATION, lambda: (rng.random(N) < 1 / (1 + np.exp(-2 * h))).astype(int)),
    }.get(loss, lambda: h + 0.3 * rng.standard_t(3, size=N))()
    return (Z + OFFSETS) * SCALES, y


def estimator(loss, **options):
    return (GDRegressor if loss in REGRESSION else GDClassifier)(loss, **options)


def row_losses(loss, h, y):
    """(values, slopes by h), as the documentation has them."""
    r, sign = h - y, 2 * y - 1
    margin = np.maximum(0, 1 - sign * h)
    least = y - y * np.log(np.where(y > 0, y, 1))
    return {
        "squared_error": lambda: (r**2 / 2, r),
        "huber": lambda: (np.where(abs(r) <= 1.35, r**2 / 2, 1.35 * (abs(r) - 0.675)), np.clip(r, -1.35, 1.35)),
        "epsilon_insensitive": lambda: (np.maximum(0, abs(r) - 0.1), None),
        "poisson": lambda: (np.exp(h) - y * h - least, np.exp(h) - y),
        "log_loss": lambda: (np.logaddexp(0, h) - y * h, 1 / (1 + np.exp(-h)) - y),
        "hinge": lambda: (margin, None),
        "squared_hinge": lambda: (margin**2, -2 * sign * margin),
    }[loss]()


def shares(penalty, alpha, l1_ratio=0.15):
    ratio = {None: 0.0, "l2": 0.0, "l1": 1.0, "elasticnet": l1_ratio}[penalty]
    return alpha * ratio, alpha * (1 - ratio)


def objective(loss, penalty, alpha, coef, intercept, X=None, y=None, s=None):
    if X is None:
        X, y = table(loss)
    coef = np.ravel(coef)
    l1, l2 = shares(penalty, alpha)
    values = row_losses(loss, X @ coef + np.ravel(intercept)[0], y)[0]
    return np.average(values, weights=s) + l1 * np.abs(coef).sum() + l2 / 2 * np.sum(coef**2)


def minimum_of_a_kinked_loss(loss, Z, y, l1, l2, fit_intercept):
    """min F by linear programming; the squares of a penalty are the highest of their tangents (Kelley, 1960).

    A program with some tangents bounds the minimum from below, and F at its solution from above. Tangents at that
    solution are added until the two bounds meet.
    """
    n, d = Z.shape
    H = np.column_stack([Z, -Z, np.ones(n), -np.ones(n)])
    if loss == "hinge":
        A, b = np.hstack([-(2 * y - 1)[:, None] * H, -np.eye(n), np.zeros((n, d))]), -np.ones(n)
    else:
        A = np.hstack([np.vstack([H, -H]), np.tile(-np.eye(n), (2, 1)), np.zeros((2 * n, d))])
        b = np.concatenate([y + 0.1, 0.1 - y])
    # The weights are the first d variables less the next, the last d are the squares, ½·l2·w².
    cost = np.concatenate([l1, l1, [0, 0], np.full(n, 1 / n), np.ones(d)])
    bounds = [(0, None)] * len(cost)
    bounds[2 * d : 2 * d + 2] = [(0, None if fit_intercept else 0)] * 2
    exact = {"primal_feasibility_tolerance": 1e-10, "dual_feasibility_tolerance": 1e-10}
    for _ in range(200):
        solved = linprog(cost, A, b, bounds=bounds, options=exact)
        assert solved.success, solved.message
        w, squares = solved.x[:d] - solved.x[d : 2 * d], solved.x[-d:]
        above = np.sum(l2 * w**2 / 2 - squares)  # squares that are too low by this much are all that F has more
        if above <= 1e-9 * solved.fun:
            return solved.fun
        tangents = np.zeros((d, A.shape[1]))
        tangents[:, :d], tangents[:, d : 2 * d], tangents[:, -d:] = np.diag(l2 * w), -np.diag(l2 * w), -np.eye(d)
        A, b = np.vstack([A, tangents]), np.concatenate([b, l2 * w**2 / 2])
    raise AssertionError("the bounds do not meet")


@functools.cache
def minimum(loss, penalty, alpha, unscaled=False, fit_intercept=True):
    """min F by scipy, in columns that are scaled, and centred beside an intercept."""
    X, y = table(loss)
    X = X / SCALES if unscaled else X
    l1, l2 = shares(penalty, alpha)
    scale = np.sqrt(X.var(axis=0) + l2)
    Z, d = (X - X.mean(axis=0) * fit_intercept) / scale, X.shape[1]
    l1, l2 = l1 / scale, l2 / scale**2
    if loss in KINKED:
        return minimum_of_a_kinked_loss(loss, Z, y, l1, l2, fit_intercept)

    def value_and_gradient(v):
        w = v[:d] - v[d:-1]
        values, slopes = row_losses(loss, Z @ w + v[-1], y)
        smooth = Z.T @ slopes / N + l2 * w
        value = values.mean() + l1 @ (v[:d] + v[d:-1]) + l2 @ w**2 / 2
        return value, np.concatenate([smooth + l1, l1 - smooth, [slopes.mean() * fit_intercept]])

    bounds = [(0, None)] * (2 * d) + [(None, None)]
    options = {"ftol": 1e-16, "gtol": 1e-11, "maxiter": 20_000, "maxfun": 40_000}
    return minimize(value_and_gradient, np.zeros(2 * d + 1), jac=True, bounds=bounds, options=options).fun


def solvers(loss):
    if loss in KINKED:
        return ("auto",)
    return ("auto", *DETERMINISTIC, "sgd") if loss == "squared_error" else ("auto", *DETERMINISTIC[1:], "sgd")


# ----------------------------------------------------------------------------------------------------------- minimum


def check_gap(loss, penalty, solver, tol):
    name, alpha = PENALTIES[penalty]
    X, y = table(loss)
    model = estimator(loss, penalty=name, alpha=alpha, solver=solver, tol=tol, max_iter=2000, random_state=0).fit(X, y)
    value = objective(loss, name, alpha, model.coef_, model.intercept_)
    assert_allclose(model.history_["loss"][-1], value, rtol=1e-9)
    least = minimum(loss, name, alpha)
    assert -1e-8 * least <= value - least <= tol * value  # scipy's own error is up to 1e-8
    certified, gap = model.result_.certified, model.result_.gap
    assert (
        certified or penalty == "none" or (loss, penalty) == ("hinge", "l1") or solver in ("accelerated", "gd", "sgd")
    )
    # An upper bound where it is certified, and an estimate where it is not.
    assert gap * (1 if certified else 10) >= (value - least) * (1 - 1e-3) - 1e-9 * value


@pytest.mark.parametrize("penalty", PENALTIES)
@pytest.mark.parametrize("loss", [*REGRESSION, *CLASSIFICATION])
def test_raw_columns_converge_by_default(loss, penalty):
    check_gap(loss, penalty, "auto", 1e-4)


@pytest.mark.one_build
@pytest.mark.parametrize("penalty", PENALTIES)
@pytest.mark.parametrize(
    ("loss", "solver"), [(x, s) for x in (*REGRESSION, *CLASSIFICATION) if x not in KINKED for s in solvers(x)]
)
def test_the_gap_is_within_tol_by_every_solver(loss, solver, penalty):
    check_gap(loss, penalty, solver, 1e-6)


@pytest.mark.one_build
@pytest.mark.parametrize("mean", [0.5, 1.5, 50.0])
@pytest.mark.parametrize("solver", solvers("poisson"))
def test_the_gap_is_measured_from_a_deviance_of_0_for_counts_of_any_size(solver, mean):
    # The least loss, of y − y·log y, is above 0 for small counts and below it for large ones.
    X, _ = table("poisson")
    X = (X / SCALES - OFFSETS) / 4
    y = np.random.default_rng(1).poisson(mean * np.exp(X @ [1, -0.5, 0.3, 0])).astype(float)
    peer = PoissonRegressor(alpha=0, solver="newton-cholesky", tol=1e-12, max_iter=1000).fit(X, y)
    least = np.mean(row_losses("poisson", X @ peer.coef_ + peer.intercept_, y)[0])
    model = GDRegressor("poisson", solver=solver, tol=1e-6, max_iter=5000, random_state=0).fit(X, y)
    assert objective("poisson", None, 0, model.coef_, model.intercept_, X, y) <= (1 + 1e-6) * least
    assert_allclose(model.history_["loss"][-1], least, rtol=1e-5)


@pytest.mark.parametrize("alpha", [0.3, 1e-2])
def test_support_vectors_as_libsvm_has_them(alpha):
    X, y = table("hinge")
    X = X / SCALES
    svc = SVC(kernel="linear", C=1 / (alpha * N), tol=1e-10).fit(X, y)
    model = GDClassifier("hinge", alpha=alpha, tol=1e-7).fit(X, y)
    found = [objective("hinge", "l2", alpha, m.coef_, m.intercept_, X, y) for m in (model, svc)]
    assert found[1] * (1 - 1e-6) <= found[0] <= found[1] * (1 + 1e-7)  # libsvm may stop above
    # ½·alpha·‖w − w*‖² is at most the gap.
    gaps = np.array([1e-7 * found[0], max(found[1] - found[0], 0) + 1e-7 * found[0]])
    assert np.linalg.norm(model.coef_ - svc.coef_) <= np.sqrt(2 * gaps / alpha).sum()
    X, y = table("epsilon_insensitive")[0] / SCALES, table("epsilon_insensitive")[1]
    svr = SVR(kernel="linear", C=1 / (alpha * N), epsilon=0.1, tol=1e-10).fit(X, y)
    model = GDRegressor("epsilon_insensitive", penalty="l2", alpha=alpha, tol=1e-7).fit(X, y)
    found = [objective("epsilon_insensitive", "l2", alpha, m.coef_, m.intercept_, X, y) for m in (model, svr)]
    assert found[1] * (1 - 1e-6) <= found[0] <= found[1] * (1 + 1e-7)


@pytest.mark.one_build
@pytest.mark.parametrize("loss", KINKED)
def test_kinks_with_both_penalties(loss):
    X, y = table(loss)
    X = X / SCALES
    model = estimator(loss, penalty="elasticnet", alpha=0.1, l1_ratio=0.15, tol=1e-5).fit(X, y)
    value = objective(loss, "elasticnet", 0.1, model.coef_, model.intercept_, X, y)
    least = minimum(loss, "elasticnet", 0.1, unscaled=True)
    assert least * (1 - 1e-8) <= value <= least * (1 + 1e-5)
    assert value - least <= model.result_.gap + 1e-9 * value


@pytest.mark.parametrize("solver", ["preconditioned", "accelerated"])
def test_softmax_gradient_vanishes(solver):
    rng = np.random.default_rng(1)
    Z = rng.normal(size=(120, 3))
    X, y = (Z + 2) * [1e-5, 1.0, 1e4], np.argmax(Z + rng.normal(size=(120, 3)), axis=1)
    alpha = 1e-3
    model = GDClassifier(alpha=alpha, solver=solver, tol=1e-12, max_iter=5000).fit(X, y)
    P = model.predict_proba(X)
    h = X @ model.coef_.T + model.intercept_
    assert_allclose(P, np.exp(h) / np.exp(h).sum(axis=1, keepdims=True))
    E = (P - np.eye(3)[y]) / 120
    gradient = (E.T @ X + alpha * model.coef_) / np.sqrt(X.var(axis=0) + alpha)
    assert np.abs(gradient).max() < 2e-6 and np.abs(E.sum(axis=0)).max() < 2e-6


@pytest.mark.parametrize("scale", [1e-6, 1e-3, 1.0, 1e3, 1e6])
@pytest.mark.parametrize("loss", ["squared_error", "huber", "log_loss"])
def test_the_scale_of_a_table_does_not_matter(loss, scale):
    X, y = table(loss)
    X = X / SCALES
    options = {"penalty": None, "tol": 1e-10}
    expected = estimator(loss, **options).fit(X, y)
    model = estimator(loss, **options).fit(X * scale, y)
    assert_allclose(model.coef_ * scale, expected.coef_, rtol=1e-4)
    assert model.n_iter_ <= 2 * expected.n_iter_ + 3


@pytest.mark.one_build
def test_threshold_of_the_huber_loss_and_the_tube():
    X, y = table("huber")
    X = X / SCALES
    for loss, power in (("huber", 2), ("epsilon_insensitive", 1)):
        wide = GDRegressor(loss, epsilon=0.5, tol=1e-8).fit(X, y)
        unit = 1.35 if loss == "huber" else 0.1
        other = GDRegressor(loss, tol=1e-8).fit(X, y * unit / 0.5)  # the same in other units of y
        assert_allclose(wide.predict(X), other.predict(X) * 0.5 / unit, atol=1e-3)
        assert_allclose(wide.history_["loss"][-1], other.history_["loss"][-1] * (0.5 / unit) ** power, rtol=1e-6)


@pytest.mark.one_build
@pytest.mark.parametrize("loss", [*REGRESSION, *CLASSIFICATION])
def test_without_an_intercept(loss):
    X, y = table(loss)
    model = estimator(loss, fit_intercept=False, penalty="l2", alpha=0.1).fit(X / SCALES, y)
    assert_array_equal(model.intercept_, [0.0])
    value = objective(loss, "l2", 0.1, model.coef_, 0.0, X / SCALES, y)
    least = minimum(loss, "l2", 0.1, unscaled=True, fit_intercept=False)
    assert least * (1 - 1e-8) <= value <= least * (1 + 1e-4)


@pytest.mark.one_build
def test_no_tolerance_runs_all_epochs():
    X, y = table("log_loss")
    model = GDClassifier(solver="gd", tol=None, max_iter=7).fit(X, y)
    assert model.n_iter_ == 7 == len(model.history_["loss"]) and model.result_.status == Status.STEP_LIMIT
    with pytest.warns(ConvergenceWarning, match="raise max_iter"):
        GDClassifier(solver="gd", tol=1e-9, max_iter=7).fit(X, y)


# --------------------------------------------------------------------------------------------------- weights of samples


@pytest.mark.parametrize("solver", ["auto", "preconditioned", "accelerated"])
@pytest.mark.parametrize("loss", ["squared_error", "huber", "poisson", "log_loss", "squared_hinge"])
def test_a_weight_is_a_repetition(loss, solver):
    X, y = table(loss)
    s = np.random.default_rng(2).integers(0, 4, N)
    options = {"penalty": "l2", "alpha": 0.01, "solver": solver, "tol": 1e-12, "max_iter": 5000}
    model = estimator(loss, **options).fit(X, y, sample_weight=s)
    expected = estimator(loss, **options).fit(X.repeat(s, axis=0), y.repeat(s))
    assert_allclose(model.predict(X), expected.predict(X), rtol=1e-5, atol=1e-6)
    assert_allclose(model.history_["loss"][-1], expected.history_["loss"][-1], rtol=1e-9)
    value = objective(loss, "l2", 0.01, model.coef_, model.intercept_, X, y, s)
    assert_allclose(model.history_["loss"][-1], value, rtol=1e-9)


# ---------------------------------------------------------------------------------------------------------- stochastic


def numpy_sgd(X, y, slope, rate, batch, epochs, l2, s=None):
    w, b = np.zeros(X.shape[1]), 0.0
    s = np.ones(len(y)) if s is None else s
    for _ in range(epochs):
        for i in range(0, len(y), batch):
            part = slice(i, i + batch)
            e = s[part] * slope(X[part] @ w + b, y[part]) / len(y[part])
            w, b = w - rate * (X[part].T @ e + l2 * w), b - rate * e.sum()
    return w, b


@pytest.mark.one_build
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("size", [1e-300, 1e-60, 1e60, 1e300, 1e307])
@pytest.mark.parametrize("solver", ["auto", "accelerated", "sgd"])
def test_only_ratios_of_weights_matter(solver, size, dtype):
    for loss in ("squared_error", "log_loss"):
        X, y = table(loss)
        X = (X / SCALES).astype(dtype)
        s = np.random.default_rng(5).uniform(0.5, 2, N)
        options = {"solver": solver, "penalty": "l2", "alpha": 0.01, "random_state": 0, "tol": 1e-5}
        plain, sized = (estimator(loss, **options).fit(X, y, sample_weight=factor * s) for factor in (1.0, size))
        assert_allclose(sized.coef_, plain.coef_, rtol=1e-3)
        assert_allclose(sized.history_["loss"][-1], plain.history_["loss"][-1], rtol=1e-5)


@pytest.mark.parametrize("batch", [1, 7])
@pytest.mark.parametrize("loss", ["squared_error", "huber", "log_loss", "squared_hinge"])
def test_a_numeric_rate_takes_the_columns_as_they_are(loss, batch):
    X, y = table(loss)
    X = X / SCALES
    w, b = numpy_sgd(X, y, lambda h, y: row_losses(loss, h, y)[1], 0.02, batch, 3, 0.1)
    options = {"solver": "sgd", "learning_rate": 0.02, "batch_size": batch, "max_iter": 3, "tol": None, "alpha": 0.1}
    model = estimator(loss, penalty="l2", shuffle=False, **options).fit(X, y)
    assert_allclose(model.coef_.ravel(), w, rtol=1e-10)
    assert_allclose(model.intercept_, b, rtol=1e-10)


@pytest.mark.parametrize("optimizer", ["gd", "momentum", "adam", "asgd"])
@pytest.mark.parametrize("penalty", [None, "l2", "elasticnet"])
@pytest.mark.parametrize("sparse", [False, True])
def test_partial_fit_is_fit_given_the_same_batches(sparse, penalty, optimizer):
    X, y = table("squared_error")
    X = X / SCALES
    X = scipy.sparse.csr_array(np.where(np.abs(X) < 0.5, 0, X)) if sparse else X
    options = {"solver": "sgd", "learning_rate": schedules.inverse_time_decay(0.02, 0.01), "optimizer": optimizer,
               "penalty": penalty, "alpha": 0.05, "batch_size": 8, "shuffle": False, "tol": None}  # fmt: skip
    fitted = GDRegressor(max_iter=2, **options).fit(X, y)
    online = GDRegressor(**options)
    for _ in range(2):
        for i in range(0, N, 16):
            online.partial_fit(X[i : i + 16], y[i : i + 16])
    assert_allclose(online.coef_, fitted.coef_, rtol=1e-9)
    assert_allclose(online.intercept_, fitted.intercept_, rtol=1e-9)


@pytest.mark.parametrize("loss", CLASSIFICATION)
def test_partial_fit_of_a_classifier(loss):
    X, y = table(loss)
    X, names = X / SCALES, np.array(["no", "yes"])[y]
    options = {"solver": "sgd", "learning_rate": 0.01, "shuffle": False, "tol": None}
    fitted = GDClassifier(loss, max_iter=1, **options).fit(X, names)
    online = GDClassifier(loss, **options)
    numbers = GDClassifier(loss, **options)  # labels that are numbers go straight to the kernel
    for i in range(0, N, 16):
        online.partial_fit(X[i : i + 16], names[i : i + 16], classes=["no", "yes"])
        numbers.partial_fit(X[i : i + 16], y[i : i + 16], classes=[0, 1] if i == 0 else None)
    assert_allclose(online.coef_, fitted.coef_, rtol=1e-10)
    assert_allclose(numbers.coef_, fitted.coef_, rtol=1e-10)


@pytest.mark.parametrize("loss", ["squared_error", "log_loss"])
def test_partial_fit_on_raw_columns_without_a_rate(loss):
    rng = np.random.default_rng(4)
    Z = rng.normal(size=(20_000, 4))
    h = Z @ [1, -2, 0.5, 0] + 1
    y = h + 0.1 * rng.normal(size=len(h)) if loss == "squared_error" else (h + rng.logistic(size=len(h)) > 0) * 1
    X = (Z + OFFSETS) * SCALES
    model, plain = estimator(loss, penalty=None), estimator(loss, penalty=None)
    for i in range(0, len(X), 100):
        classes = {"classes": [0, 1]} if loss == "log_loss" else {}
        model.partial_fit(X[i : i + 100], y[i : i + 100], **classes)
        plain.partial_fit(Z[i : i + 100], y[i : i + 100], **classes)
    # Columns are centred and scaled by what has been seen of them: units change nothing but rounding.
    assert_allclose(model.coef_ * SCALES, plain.coef_, rtol=1e-9)
    best = estimator(loss, penalty=None).fit(X, y)
    found, least = (objective(loss, None, 0.0, m.coef_, m.intercept_, X, y) for m in (model, best))
    assert found - least <= 0.1 * (objective(loss, None, 0.0, np.zeros(4), 0.0, X, y) - least)


@pytest.mark.parametrize("solver", ["preconditioned", "accelerated", "gd"])
@pytest.mark.parametrize("loss", ["squared_error", "log_loss", "poisson"])
def test_dense_and_csr_take_the_same_steps(loss, solver):
    X, y = table(loss)
    X = np.where(np.random.default_rng(5).random(X.shape) < 0.5, 0, X)
    options = {"solver": solver, "penalty": "l2", "alpha": 0.01, "max_iter": 4, "tol": None}
    dense, sparse = (estimator(loss, **options).fit(table, y) for table in (X, scipy.sparse.csr_array(X)))
    for one, other in zip(sparse.history_["loss"], dense.history_["loss"], strict=False):  # up to the rounding floor
        assert_allclose(one, other, rtol=1e-9)
    assert_allclose(sparse.coef_, dense.coef_, rtol=1e-6)


@pytest.mark.parametrize("batch", [1, 9])
def test_dense_and_csr_take_the_same_stochastic_steps(batch):
    X, y = table("log_loss")
    X = np.where(np.random.default_rng(5).random(X.shape) < 0.5, 0, X / SCALES)
    options = {"solver": "sgd", "learning_rate": 0.05, "batch_size": batch, "max_iter": 4, "random_state": 3}
    dense, sparse = (GDClassifier(tol=None, **options).fit(t, y) for t in (X, scipy.sparse.csr_array(X)))
    assert_allclose(sparse.coef_, dense.coef_, rtol=1e-10)
    assert_allclose(sparse.history_["loss"], dense.history_["loss"], rtol=1e-10)


def test_random_state_fixes_the_order():
    X, y = table("log_loss")
    options = {"solver": "sgd", "learning_rate": 0.05, "max_iter": 2, "tol": None}
    first, again, other = (GDClassifier(random_state=seed, **options).fit(X / SCALES, y) for seed in (1, 1, 2))
    assert_array_equal(first.coef_, again.coef_)
    assert np.any(first.coef_ != other.coef_)


@pytest.mark.one_build
@pytest.mark.parametrize("optimizer", ["momentum", "nesterov", "adam", "rmsprop", "asgd", "amsgrad"])
@pytest.mark.parametrize("options", [{"batch_size": 8}, {"batch_size": 8, "learning_rate": 0.01}])
def test_every_optimizer_comes_near_the_minimum(optimizer, options):
    X, y = table("squared_error")
    X = X if "learning_rate" not in options else X / SCALES - OFFSETS
    model = GDRegressor(optimizer=optimizer, max_iter=300, tol=None, random_state=0, **options).fit(X, y)
    assert_allclose(model.history_["loss"][-1], minimum("squared_error", None, 0.0), rtol=0.1)
    assert model.result_.solver == "sgd"


# --------------------------------------------------------------------- early stopping, history, callbacks, interrupts


@pytest.mark.parametrize("solver", ["auto", "gram", "preconditioned", "gd", "sgd"])
@pytest.mark.parametrize("weighted", [False, True])
def test_early_stopping_scores_the_weights_that_are_returned(solver, weighted):
    X, y = table("squared_error")
    s = np.random.default_rng(6).uniform(0.1, 3, N) if weighted else None
    model = GDRegressor(solver=solver, early_stopping=True, validation_fraction=0.3, random_state=7, max_iter=60)
    model.fit(X, y, sample_weight=s)
    parts = train_test_split(X, y, *(() if s is None else (s,)), test_size=0.3, random_state=7)
    held = {"sample_weight": parts[5]} if weighted else {}
    assert_allclose(model.score(parts[1], parts[3], **held), np.nanmax(model.history_["validation_score"]), rtol=1e-12)


@pytest.mark.parametrize("labels", [[0, 1], [-1, 1], ["no", "yes"], [True, False]])
@pytest.mark.parametrize("loss", CLASSIFICATION)
def test_early_stopping_compares_labels_with_labels(loss, labels):
    X, y = table(loss)
    X, y = X / SCALES, np.array(labels)[y]
    solver = "sgd" if loss == "hinge" else "auto"
    model = GDClassifier(loss, solver=solver, early_stopping=True, validation_fraction=0.3, random_state=7).fit(X, y)
    _, X_held, _, y_held = train_test_split(X, y, test_size=0.3, random_state=7, stratify=y)
    assert model.score(X_held, y_held) == model.history_["validation_score"].max() > 0.6


@pytest.mark.one_build
def test_the_validation_score_is_what_score_gives_with_class_weights_too():
    X, y = table("log_loss")
    y = y * (X[:, 1] > 2)  # few ones
    options = {"early_stopping": True, "validation_fraction": 0.3, "random_state": 7, "class_weight": "balanced"}
    model = GDClassifier(**options).fit(X, y)
    _, X_held, _, y_held = train_test_split(X, y, test_size=0.3, random_state=7, stratify=y)
    assert model.score(X_held, y_held) == model.history_["validation_score"].max()
    assert model.score(X_held, y_held) != model.score(X_held, y_held, np.where(y_held, 1.0, 0.1))


def test_callbacks_see_the_epoch_in_which_early_stopping_ends_the_fit():
    X, y = table("squared_error")
    seen = []
    model = GDRegressor(
        early_stopping=True, random_state=7, callbacks=lambda epoch: seen.append(epoch.validation_score)
    )
    model.fit(X, y)
    assert model.result_.status == Status.EARLY_STOPPED
    assert_array_equal(seen, model.history_["validation_score"])


def test_early_stopping_holds_out_no_rows_without_weight():
    X, y = table("squared_error")
    s = np.where(np.arange(N) % 3, 1.5, 0.0)
    options = {"early_stopping": True, "validation_fraction": 0.2, "random_state": 7, "max_iter": 60}
    model = GDRegressor(**options).fit(X, y, sample_weight=s)
    fewer = GDRegressor(**options).fit(X[s > 0], y[s > 0])
    assert_allclose(model.history_["validation_score"], fewer.history_["validation_score"], rtol=1e-12)
    assert_allclose(model.coef_, fewer.coef_, rtol=1e-12)


@pytest.mark.parametrize("solver", ["auto", "accelerated", "gd", "sgd"])
@pytest.mark.parametrize("loss", ["squared_error", "log_loss"])
def test_history_belongs_to_the_weights_of_its_epoch(loss, solver):
    X, y = table(loss)
    s = np.random.default_rng(8).uniform(0, 2, N)
    seen = []
    model = estimator(loss, penalty="l2", alpha=0.01, solver=solver, max_iter=5, tol=None, callbacks=seen.append,
                      early_stopping=loss == "squared_error", validation_fraction=0.3, random_state=7)  # fmt: skip
    model.fit(X, y, sample_weight=s)
    assert len(seen) == model.n_iter_ == len(model.history_["seconds"])
    assert np.all(np.diff(model.history_["seconds"]) >= 0)
    held = None
    if loss == "squared_error":
        X, held, y, y_held, s, s_held = train_test_split(X, y, s, test_size=0.3, random_state=7)
    for epoch, state in enumerate(seen):
        value = objective(loss, "l2", 0.01, state.coef, state.intercept, X, y, s)
        assert_allclose([model.history_["loss"][epoch], state.loss], value, rtol=1e-9)
        h = X @ np.ravel(state.coef) + state.intercept[0]
        e = s / s.sum() * row_losses(loss, h, y)[1]
        gradient = np.append(X.T @ e + 0.01 * np.ravel(state.coef), e.sum())
        small = 1e-9 * np.linalg.norm(np.append(np.abs(X).T @ np.abs(e), 0))
        assert_allclose(model.history_["grad_norm"][epoch], np.linalg.norm(gradient), rtol=1e-6, atol=small)
        if held is not None:
            score = r2_score(y_held, held @ np.ravel(state.coef) + state.intercept, sample_weight=s_held)
            assert_allclose(model.history_["validation_score"][epoch], score, rtol=1e-9)


@pytest.mark.parametrize("solver", ["auto", "accelerated", "gd", "sgd"])
def test_an_interrupt_keeps_the_best_weights(solver):
    X, y = table("huber")
    seen = []

    def interrupt(state):
        seen.append(state)
        if state.epoch == 2:
            raise KeyboardInterrupt

    model = GDRegressor("huber", solver=solver, callbacks=interrupt, tol=1e-14, random_state=0)
    with pytest.raises(KeyboardInterrupt) as caught:
        model.fit(X, y)
    assert caught.value.result is model.result_ and model.result_.message == "interrupted after 2 epochs"
    assert model.n_iter_ == 2 and model.result_.status == Status.INTERRUPTED
    best = min(seen, key=lambda state: state.loss)
    assert_allclose(model.coef_, np.ravel(best.coef), rtol=1e-12)
    assert_allclose(objective("huber", None, 0, model.coef_, model.intercept_), best.loss, rtol=1e-9)


@pytest.mark.one_build
@pytest.mark.parametrize("epoch", [1, 3])
def test_an_interrupt_while_an_epoch_is_scored_leaves_whole_epochs(epoch, monkeypatch):
    X, y = table("squared_error")
    model = GDRegressor(early_stopping=True, validation_fraction=0.3, random_state=7)
    whole = model.fit(X, y).history_["validation_score"]
    score, calls = model._score_of, []

    def interrupted(*arguments):
        calls.append(arguments)
        if len(calls) == epoch:
            raise KeyboardInterrupt
        return score(*arguments)

    monkeypatch.setattr(model, "_score_of", interrupted)
    with pytest.raises(KeyboardInterrupt):
        model.fit(X, y)
    assert model.result_.message == f"interrupted after {epoch - 1} epochs"
    # A history has the start at least, which has no score.
    assert_array_equal(model.history_["validation_score"], whole[: epoch - 1] if epoch > 1 else [np.nan])
    assert model.n_iter_ == max(1, epoch - 1)


@pytest.mark.one_build
def test_an_interrupt_ends_a_loop_of_fits_too():
    X, y = table("log_loss")
    fits = []

    def interrupt(state):
        if len(fits) == 2:
            raise KeyboardInterrupt

    model = GDClassifier(callbacks=interrupt)
    with pytest.raises(KeyboardInterrupt):
        for alpha in (1e-3, 1e-2, 1e-1, 1.0):
            fits.append(alpha)
            model.set_params(alpha=alpha).fit(X, y)
    assert fits == [1e-3, 1e-2] and model.n_iter_ == 1
    assert model.predict(X).shape == y.shape  # the weights and all that belongs to them are there


@pytest.mark.one_build
@pytest.mark.parametrize(("loss", "solver"), [
    (loss, solver) for loss in (*REGRESSION, *CLASSIFICATION) for solver in solvers(loss)
])  # fmt: skip
def test_a_target_ends_the_fit_at_the_first_epoch_that_has_it(loss, solver):
    X, y = table(loss)
    options = {"solver": solver, "penalty": "l2", "alpha": 1e-3, "random_state": 0, "tol": 1e-9}
    whole = estimator(loss, **options).fit(X, y)
    values = whole.history_["loss"]
    target = values[len(values) // 2]
    model = estimator(loss, target=target, **options).fit(X, y)
    first = int(np.argmax(values <= target))
    assert model.result_.status == Status.TARGET_REACHED
    assert model.n_iter_ == first + 1
    assert_array_equal(model.history_["loss"], values[: first + 1])
    assert objective(loss, "l2", 1e-3, model.coef_, model.intercept_) <= target * (1 + 1e-9)
    with pytest.warns(ConvergenceWarning, match="without reaching tol = 1e-09 or target = 0: raise max_iter"):
        estimator(loss, target=0.0, **options | {"solver": "sgd", "max_iter": 1}).fit(X, y)


@pytest.mark.one_build
@pytest.mark.parametrize("solver", ["auto", "gram", "preconditioned", "accelerated", "gd", "sgd"])
def test_the_clock_ends_the_fit_and_what_was_reached_is_kept(solver):
    X, y = table("squared_error")
    for options in ({}, {"learning_rate": 1e-13} if solver in ("gd", "sgd") else {}):
        model = GDRegressor(solver=solver, max_seconds=0, random_state=0, **options)
        with pytest.warns(ConvergenceWarning, match="max_seconds = 0 have passed"):
            model.fit(X, y)
        assert model.result_.status == Status.TIME_LIMIT and model.n_iter_ == 1 == len(model.history_["loss"])
        assert_allclose(model.history_["loss"][0], objective("squared_error", None, 0, model.coef_, model.intercept_))
        plenty = GDRegressor(solver=solver, max_seconds=1e6, max_iter=3, tol=None, random_state=0, **options)
        expected = clone(plenty).set_params(max_seconds=None).fit(X, y)
        assert_array_equal(plenty.fit(X, y).coef_, expected.coef_)


@pytest.mark.one_build
def test_a_callback_ends_the_fit():
    X, y = table("log_loss")

    def enough(state):
        if state.loss < 0.6:
            raise StopIteration

    model = GDClassifier(solver="gd", penalty=None, callbacks=[enough]).fit(X, y)
    assert model.result_.status == Status.STOPPED_BY_CALLBACK and model.history_["loss"][-1] < 0.6
    assert np.all(model.history_["loss"][:-1] >= 0.6)


@pytest.mark.one_build
def test_verbose_prints_an_epoch_a_line(capsys):
    X, y = table("log_loss")
    GDClassifier(solver="gd", max_iter=3, tol=None, verbose=1).fit(X, y)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3 and lines[0].startswith("epoch 1: loss 0.6")


@pytest.mark.one_build
def test_verbose_2_shows_a_bar(capsys):
    X, y = table("log_loss")
    GDClassifier(solver="gd", max_iter=3, tol=None, verbose=2).fit(X, y)
    shown = capsys.readouterr()
    assert shown.out == "" and "/3 [" in shown.err


@pytest.mark.one_build
def test_a_bar_without_tqdm_names_the_extra(monkeypatch):
    X, y = table("log_loss")
    monkeypatch.setitem(sys.modules, "tqdm.auto", None)
    with pytest.raises(ImportError, match=r"fastgd\[cli\]"):
        GDClassifier(verbose=2).fit(X, y)


@pytest.mark.parametrize("solver", ["preconditioned", "accelerated", "gd", "sgd"])
def test_warm_start_goes_on_from_the_last_weights(solver):
    X, y = table("log_loss")
    options = {"solver": solver, "tol": 1e-6, "max_iter": 3000, "random_state": 0}
    cold = GDClassifier(**options).fit(X, y)
    model = GDClassifier(warm_start=True, **options).fit(X, y)
    again = model.fit(X, y).n_iter_
    assert again <= max(2, cold.n_iter_ - 1) or solver == "sgd"  # which begins with batches of one again
    assert_allclose(model.history_["loss"][-1], cold.history_["loss"][-1], rtol=2e-6)
    with pytest.raises(ValueError, match="warm_start needs weights of shape"):
        model.fit(X[:, :2], y)


@pytest.mark.parametrize(("loss", "solver"), [("poisson", "auto"), ("hinge", "auto"), ("log_loss", "sgd")])
def test_a_warm_start_that_is_worse_than_a_cold_one_is_left(loss, solver):
    X, y = table(loss)
    options = {"solver": solver, "random_state": 0, "penalty": "l2", "alpha": 0.01}
    cold = estimator(loss, **options).fit(X / SCALES, y)
    model = estimator(loss, warm_start=True, **options).fit(X / SCALES, y)
    model.coef_ = np.full_like(model.coef_, 1e3)  # e^1000 is no mean
    assert_allclose(model.fit(X / SCALES, y).history_["loss"][-1], cold.history_["loss"][-1], rtol=1e-4)


def test_warm_start_of_several_outputs():
    X, y = table("huber")
    Y = np.column_stack([y, -y])
    model = GDRegressor("huber", warm_start=True, tol=1e-8).fit(X, Y)
    assert model.fit(X, Y).n_iter_ <= 3
    labels = GDClassifier(warm_start=True, tol=1e-8).fit(X, np.digitize(y, [-0.5, 0.5]))
    assert labels.fit(X, np.digitize(y, [-0.5, 0.5])).n_iter_ <= 2


def test_warm_epochs_are_epochs_of_one_run():
    X, y = table("squared_error")
    options = {"solver": "sgd", "learning_rate": 0.01, "shuffle": False, "tol": None}
    whole = GDRegressor(max_iter=5, **options).fit(X / SCALES, y)
    parts = GDRegressor(max_iter=2, warm_start=True, **options).fit(X / SCALES, y)
    parts.set_params(max_iter=3).fit(X / SCALES, y)
    assert_allclose(parts.coef_, whole.coef_, rtol=1e-12)


# ------------------------------------------------------------------------------------------------- never silently wrong


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_features_of_deviation_100_do_not_diverge_silently():
    """scikit-learn#3883: coefficients of 1e10 and an R² of −8e20, and no word of it."""
    rng = np.random.default_rng(9)
    X = 100 * rng.normal(size=(200, 5))
    y = X @ np.arange(1.0, 6) + rng.normal(size=200)
    assert SGDRegressor(random_state=0).fit(X, y).score(X, y) < -1e10
    assert GDRegressor(solver="sgd", random_state=0).fit(X, y).score(X, y) > 0.999
    with pytest.warns(DivergenceWarning, match=r"diverged in epoch 1 with learning_rate 0\.01.*Scale the features"):
        model = GDRegressor(solver="sgd", learning_rate=0.01, random_state=0).fit(X, y)
    assert np.all(model.coef_ == 0) and model.score(X, y) < 0.1  # the weights of the start
    assert model.result_.status == Status.DIVERGED


@pytest.mark.parametrize("options", [{"solver": "gd"}, {"solver": "sgd"}, {"solver": "sgd", "batch_size": 16},
                                     {"solver": "sgd", "optimizer": "momentum"}])  # fmt: skip
@pytest.mark.parametrize("loss", ["squared_error", "poisson", "log_loss"])
@pytest.mark.parametrize("rate", [1e-3, 1e3, 1e8])
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_every_rate_ends_lower_or_is_named(loss, options, rate):
    X, y = table(loss)
    X = X / SCALES
    model = estimator(loss, penalty=None, learning_rate=rate, max_iter=20, random_state=0, **options)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model.fit(X, y)
    named = [str(w.message) for w in caught if issubclass(w.category, DivergenceWarning)]
    assert np.all(np.isfinite(model.coef_)) and np.all(np.isfinite(model.intercept_))
    with np.errstate(all="ignore"):
        value, start = (
            objective(loss, None, 0, w, b, X, y) for w, b in ((model.coef_, model.intercept_), ([0] * 4, 0))
        )
    assert value <= start * (1 + 1e-9)
    if rate < 1:
        assert value < start and named == []
    else:
        (sentence,) = named
        assert f" with learning_rate {rate:.0e}: diverged at epoch " in sentence
        assert model.result_.status == Status.DIVERGED


def test_partial_fit_that_overflows_keeps_the_weights_and_recovers():
    X, y = table("squared_error")
    for optimizer in ("gd", "momentum"):
        model = GDRegressor(learning_rate=0.01, optimizer=optimizer).partial_fit(X / SCALES, y)
        before = model.coef_.copy()
        with pytest.warns(DivergenceWarning, match="partial_fit diverged"):
            model.partial_fit(X * 1e30, y)
        assert_array_equal(model.coef_, before)
        assert np.all(np.isfinite(model.partial_fit(X / SCALES, y).coef_))
        with pytest.raises(ValueError, match="NaN"):
            model.partial_fit(np.where(X > 1e6, np.nan, X), y)


@pytest.mark.parametrize("loss", ["squared_error", "huber", "log_loss", "poisson"])
def test_collinear_columns_are_named(loss):
    X, y = table(loss)
    X = np.column_stack([X, X[:, 0] - X[:, 1]]) / [*SCALES, 1.0]
    X[:, 4] = X[:, 0] - 2 * X[:, 1]
    with pytest.warns(ConditionWarning, match="collinear"):
        model = estimator(loss, penalty=None, tol=1e-8).fit(X, y)
    expected = estimator(loss, penalty=None, tol=1e-8).fit(X[:, :4], y)
    assert_allclose(model.history_["loss"][-1], expected.history_["loss"][-1], rtol=1e-7)


@pytest.mark.one_build
@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("size", [1e-300, 1e-200, 1e200, 1e300])
@pytest.mark.parametrize("solver", ["auto", "accelerated", "gd"])
def test_columns_whose_squares_overflow_or_vanish_are_fitted_too(size, sparse, solver):
    X, y = table("huber")
    X = X / SCALES
    units = np.array([1, 1, size, 1])
    scaled = scipy.sparse.csr_array(X * units) if sparse else X * units
    model = GDRegressor("huber", solver=solver, tol=1e-9).fit(scaled, y)
    expected = GDRegressor("huber", tol=1e-9).fit(X, y)
    assert_allclose(model.coef_ * units, expected.coef_, rtol=1e-3, atol=1e-4)


@pytest.mark.one_build
def test_nearly_collinear_columns_are_named():
    X, y = table("squared_error")
    X = X / SCALES
    X[:, 3] = X[:, 0] + 1e-10 * X[:, 3]
    with pytest.warns(ConditionWarning, match=r"condition number, centred and scaled, is \d\.\de\+(09|10)"):
        GDRegressor().fit(X, y)
    GDRegressor(penalty="l2", alpha=1e-3).fit(X, y)  # which the penalty mends, and no warning is given


@pytest.mark.one_build
def test_a_constant_column_has_no_weight():
    X, y = table("log_loss")
    X = np.column_stack([X, np.full(N, 1e3), np.zeros(N)])
    for solver in ("auto", "accelerated", "sgd"):
        model = GDClassifier(solver=solver, tol=1e-3, random_state=0).fit(X, y)
        assert_array_equal(model.coef_[0, 4:], 0.0)


@pytest.mark.one_build
def test_score_is_what_scikit_learn_calls_it():
    X, y = table("poisson")
    s = np.arange(N) + 1.0
    model = GDRegressor("poisson").fit(X, y)
    assert_allclose(model.predict(X), np.exp(X @ model.coef_ + model.intercept_))
    assert_allclose(model.score(X, y, s), d2_tweedie_score(y, model.predict(X), sample_weight=s, power=1), rtol=1e-12)
    X, y = table("log_loss")
    model = GDClassifier().fit(X, y)
    assert model.score(X, y, s) == accuracy_score(y, model.predict(X), sample_weight=s)
