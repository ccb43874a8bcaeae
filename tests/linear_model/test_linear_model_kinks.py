"""Losses with straight parts: hinge, epsilon-insensitive and Huber's, against linear programming and libsvm."""

import warnings

import numpy as np
import pytest
from scipy import sparse
from scipy.optimize import linprog
from sklearn.svm import SVC

from fastgd import GDClassifier, GDRegressor
from fastgd.engine.result import Status

TUBE, DELTA = 0.1, 1.35


def columns(rng, n, d):
    """Columns of sizes over four decades, some off centre."""
    return rng.normal(size=(n, d)) * 10.0 ** rng.uniform(-2, 2, d) + rng.choice([0, 5], d)


def targets(rng, X, loss):
    h = (X - X.mean(axis=0)) / X.std(axis=0) @ rng.normal(size=X.shape[1])
    if loss == "hinge":
        return np.where(h + rng.logistic(size=len(h)) > 0, 1.0, -1.0)
    return h + rng.normal(size=len(h)) + 3


def objective(model, X, y):
    """F in float64, of the weights as they are."""
    w, b = np.ravel(model.coef_).astype(float), float(np.ravel(model.intercept_)[0])
    h = X.astype(float) @ w + b
    losses = {
        "hinge": np.maximum(0, 1 - y * h),
        "epsilon_insensitive": np.maximum(0, np.abs(y - h) - TUBE),
        "huber": np.where(np.abs(y - h) <= DELTA, 0.5 * (y - h) ** 2, DELTA * np.abs(y - h) - 0.5 * DELTA**2),
    }
    penalty = {None: 0.0, "l1": np.abs(w).sum(), "l2": 0.5 * w @ w}[model.penalty]
    return losses[model.loss].mean() + model.alpha * penalty


def least_by_linear_programming(X, y, loss, alpha, tube=TUBE):
    """min F over w = u − v and b with u, v ≥ 0, and slacks ξ ≥ 0 of the rows, by HiGHS."""
    n, d = X.shape
    ones, none = np.ones((n, 1)), sparse.identity(n)
    if loss == "hinge":  # y(Xw + b) + ξ ≥ 1
        Z = y[:, None] * X
        A, bounds = sparse.hstack([-Z, Z, -y[:, None], -none]), -np.ones(n)
    else:  # ±(y − Xw − b) ≤ ε + ξ
        A = sparse.vstack([sparse.hstack([-X, X, -ones, -none]), sparse.hstack([X, -X, ones, -none])])
        bounds = np.concatenate([tube - y, tube + y])
    cost = np.concatenate([np.full(2 * d, alpha), [0.0], np.full(n, 1 / n)])
    limits = [(0, None)] * (2 * d) + [(None, None)] + [(0, None)] * n
    found = linprog(cost, A_ub=A.tocsr(), b_ub=bounds, bounds=limits, method="highs")
    assert found.status == 0
    return found.fun


def estimator(loss, **settings):
    return (GDClassifier if loss == "hinge" else GDRegressor)(loss, **settings)


@pytest.mark.one_build
@pytest.mark.parametrize("penalty", [None, "l1"])
@pytest.mark.parametrize("loss", ["hinge", "epsilon_insensitive"])
@pytest.mark.parametrize(("n", "d"), [(60, 4), (500, 12), (5000, 4)])
def test_the_minimum_is_that_of_linear_programming(loss, penalty, n, d):
    rng = np.random.default_rng(n)
    X = columns(rng, n, d)
    y = targets(rng, X, loss)
    model = estimator(loss, penalty=penalty, alpha=1e-3, tol=1e-5).fit(X, y)
    least = least_by_linear_programming(X, y, loss, 1e-3 if penalty else 0.0)
    assert objective(model, X, y) <= least * (1 + 1e-5)
    assert model.history_["loss"][-1] == pytest.approx(objective(model, X, y), rel=1e-9)
    if model.result_.certified:
        assert objective(model, X, y) - least <= model.result_.gap + 1e-12


@pytest.mark.one_build
@pytest.mark.parametrize("penalty", [None, "l1"])
@pytest.mark.parametrize("epsilon", [1e-4, 0.5, 30.0])
def test_tubes_of_other_widths(epsilon, penalty):
    rng = np.random.default_rng(0)
    X = columns(rng, 300, 5)
    y = epsilon * targets(rng, X, "epsilon_insensitive")
    alpha = 1e-3 * epsilon
    model = GDRegressor("epsilon_insensitive", epsilon=epsilon, penalty=penalty, alpha=alpha, tol=1e-5).fit(X, y)
    w, b = model.coef_, model.intercept_
    loss = np.maximum(0, np.abs(y - X @ w - b) - epsilon).mean() + (alpha * np.abs(w).sum() if penalty else 0)
    least = least_by_linear_programming(X, y, "epsilon_insensitive", alpha if penalty else 0.0, tube=epsilon)
    assert loss <= least * (1 + 1e-5)
    assert model.history_["loss"][-1] == pytest.approx(loss, rel=1e-9)


@pytest.mark.parametrize("alpha", [1e-5, 1e-2, 1.0])
def test_hinge_with_l2_is_a_support_vector_machine(alpha):
    rng = np.random.default_rng(1)
    X = rng.normal(size=(300, 5)) * [1, 3, 0.3, 2, 1]
    y = targets(rng, X, "hinge")
    model = GDClassifier("hinge", alpha=alpha, tol=1e-8).fit(X, y)
    machine = SVC(kernel="linear", C=1 / (len(y) * alpha), tol=1e-10).fit(X, y)
    losses = np.maximum(0, 1 - y * machine.decision_function(X))
    ours, theirs = objective(model, X, y), 0.5 * alpha * np.sum(machine.coef_**2) + losses.mean()
    assert ours <= theirs * (1 + 1e-8)
    # ½·alpha·‖w − w*‖² is at most the gap: that of ours is at most tol, and the minimum is no lower than so much below.
    gaps = np.array([1e-8 * ours, max(theirs - ours, 0) + 1e-8 * ours])
    assert np.linalg.norm(model.coef_ - machine.coef_) <= np.sqrt(2 * gaps / alpha).sum()


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize(
    ("loss", "penalty"),
    [
        ("hinge", "l2"),
        ("hinge", "l1"),
        ("hinge", None),
        ("epsilon_insensitive", "l2"),
        ("epsilon_insensitive", "l1"),
        ("epsilon_insensitive", None),
        ("huber", None),
        ("huber", "l1"),
    ],
)
def test_many_rows_take_few_passes(loss, penalty, dtype):
    # Of some thousand rows that a metric is made of, hardly any lie within a narrow width of the kink.
    rng = np.random.default_rng(0)
    X = rng.normal(size=(30_000, 8)).astype(dtype)
    y = targets(rng, X, loss)
    y = y if loss == "hinge" else (100 * y).astype(dtype)
    model = estimator(loss, penalty=penalty).fit(X, y)
    assert model.result_.status == Status.CONVERGED
    assert "within tol" in model.result_.message or dtype == np.float32  # where rounding may be all that is left
    assert model.n_iter_ <= 60 and model.result_.n_passes <= 400
    better = estimator(loss, penalty=penalty, tol=1e-7).fit(X.astype(np.float64), y.astype(np.float64))
    assert objective(model, X, y) <= objective(better, X, y) * (1 + 1.2e-4)


@pytest.mark.one_build
@pytest.mark.parametrize("penalty", [None, "l1"])
@pytest.mark.parametrize(
    ("n", "d", "scale"), [(50, 20, 1e4), (200, 30, 30.0), (1000, 20, 1e5), (3000, 4, 1e4), (300, 3, 1.0)]
)
def test_huber_of_targets_far_beyond_its_threshold(penalty, n, d, scale):
    # There it is δ|r| but for δ²/2 at most, and least absolute deviations are a linear program.
    rng = np.random.default_rng(n)
    X = columns(rng, n, d)
    y = scale * targets(rng, X, "huber")
    model = GDRegressor("huber", penalty=penalty, alpha=1e-2).fit(X, y)
    deviations = least_by_linear_programming(X, y, "epsilon_insensitive", 1e-2 / DELTA if penalty else 0.0, tube=0.0)
    assert model.result_.status == Status.CONVERGED
    assert objective(model, X, y) <= DELTA * deviations * (1 + 1e-4)
    if scale == 1:  # not far beyond: another solver of ours, which has no metric
        slow = GDRegressor("huber", penalty=penalty, alpha=1e-2, solver="accelerated", tol=1e-8).fit(X, y)
        assert objective(model, X, y) <= objective(slow, X, y) * (1 + 1e-4)


@pytest.mark.parametrize("loss", ["hinge", "epsilon_insensitive"])
def test_a_fit_without_an_error_is_the_minimum(loss):
    rng = np.random.default_rng(0)
    X = columns(rng, 40, 10)
    h = (X - X.mean(axis=0)) / X.std(axis=0) @ rng.normal(size=10)
    y = np.where(h > 0, 1.0, -1.0) if loss == "hinge" else h
    model = estimator(loss, penalty=None).fit(X, y)  # and nothing is warned of
    assert objective(model, X, y) == 0
    assert "within tol" in model.result_.message and model.result_.certified
    assert model.result_.gap <= 1e-12


def test_a_constant_column_far_off_gets_no_weight():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(324, 3))
    y = np.where(X @ [1, -1, 0.5] + rng.logistic(size=324) > 0, 1.0, -1.0)
    for constant in (1e6, 7.3, 1 / 3):
        wide = np.column_stack([X, np.full(324, constant)])
        model = GDClassifier("hinge", penalty=None, tol=1e-5)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that a constant is collinear with the intercept
            model.fit(wide, y)
        assert model.coef_[0, 3] == 0
        assert objective(model, wide, y) <= least_by_linear_programming(X, y, "hinge", 0.0) * (1 + 1e-5)


@pytest.mark.parametrize("penalty", [None, "l1"])
def test_the_gap_of_a_loss_with_kinks_at_one_place_holds(penalty):
    """A column of zeros and ones and targets of whole numbers: many rows have their kinks at the same weights."""
    for seed in range(20):
        rng = np.random.default_rng(seed)
        n = int(rng.integers(5, 60))
        X, y = (rng.random((n, 1)) < 0.5) * 1.0, np.round(2 * rng.standard_normal(n))
        weight = rng.integers(1, 4, n).astype(float)
        model = GDRegressor("epsilon_insensitive", penalty=penalty, alpha=0.05, fit_intercept=False, tol=1e-6)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model.fit(X, y, weight)
        at = np.concatenate([y - 0.1, y + 0.1, [0.0]])[:, None]  # where the slope jumps
        losses = np.maximum(np.abs(X[:, 0] * at - y) - 0.1, 0) @ weight / weight.sum()
        least = np.min(losses + 0.05 * np.abs(at[:, 0]) * (penalty == "l1"))
        assert model.result_.fun - least <= 3e-6 * least + 1e-12
