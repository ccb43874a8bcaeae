"""An l1 penalty at any shape: held to scipy, to linear conditions of a minimum, and to its own gap."""

import numpy as np
import pytest
import scipy.optimize
import scipy.sparse
from numpy.testing import assert_allclose

from fastgd import GDClassifier, GDRegressor, LinearObjective, Status, gradient_descent
from fastgd.engine.lasso import minimise_with_l1

LOSSES = ("squared_error", "huber", "poisson", "log_loss", "softmax", "squared_hinge")
SHAPES = [(30, 4), (25, 60), (12, 200), (300, 40)]


def problem(loss, shape, rng):
    """(estimator, X, y) with a few columns that matter, of scales between 1e-3 and 1e3."""
    n, d = shape
    X = rng.standard_normal(shape) * 10.0 ** rng.uniform(-3, 3, d) + 10.0 ** rng.uniform(-2, 2, d)
    z = (X - X.mean(axis=0)) / X.std(axis=0)
    h = z[:, :3] @ [1, -1, 0.5] + 0.5 * rng.standard_normal(n)
    if loss in ("log_loss", "softmax", "squared_hinge"):
        y = np.digitize(h, [-0.5, 0.5]) if loss == "softmax" else (h > 0) * 1
        return GDClassifier("log_loss" if loss == "softmax" else loss), X, y
    return GDRegressor(loss), X, rng.poisson(np.exp(h)) * 1.0 if loss == "poisson" else h


def violation(objective, w, l1):
    """The largest entry of the shortest subgradient, of l1; by the intercept as it is."""
    W, g = w.reshape(len(w), -1), objective.gradient(w).reshape(len(w), -1)
    at = np.where(W != 0, np.abs(g + l1 * np.sign(W)), np.maximum(np.abs(g) - l1, 0))
    return float(np.max(at[: objective.X.shape[1]]) / l1)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("shape", SHAPES)
def test_the_conditions_of_a_minimum_hold(loss, shape):
    rng = np.random.default_rng(len(loss) * shape[0])
    for penalty, sparse, weighted in (("l1", False, True), ("elasticnet", True, False)):
        model, X, y = problem(loss, shape, rng)
        model.set_params(penalty=penalty, alpha=float(10 ** rng.uniform(-3, -1)), l1_ratio=0.5, tol=1e-8)
        s = rng.uniform(0.2, 2, len(X)) if weighted else None
        model.set_params(solver="coordinate").fit(scipy.sparse.csr_array(X) if sparse else X, y, sample_weight=s)
        assert model.result_.solver == "coordinate"
        assert model.result_.status == Status.CONVERGED
        assert model.result_.certified
        l1 = model.alpha * (1 if penalty == "l1" else 0.5)
        name = "log" if model.loss == "log_loss" else model.loss
        activation = {"log_loss": "softmax" if loss == "softmax" else "sigmoid", "poisson": "exp"}
        objective = LinearObjective(
            X, 2.0 * y - 1 if loss == "squared_hinge" else y, loss=name,
            activation=activation.get(model.loss, "identity"), fit_intercept=True, l2=model.alpha - l1, sample_weight=s,
        )  # fmt: skip
        w = np.vstack([np.atleast_2d(model.coef_).T, model.intercept_]).reshape(objective.shape)
        assert violation(objective, w, l1) <= 1e-3
        assert model.result_.gap >= 0


@pytest.mark.one_build
@pytest.mark.parametrize("loss", LOSSES)
def test_no_gap_is_below_the_true_one(loss):
    rng = np.random.default_rng(7)
    for shape in SHAPES:
        model, X, y = problem(loss, shape, rng)
        model.set_params(penalty="l1", alpha=0.02, tol=1e-2, solver="coordinate")
        rough = model.fit(X, y).result_
        exact = model.set_params(tol=1e-8).fit(X, y).result_
        assert rough.certified
        assert rough.fun - exact.fun <= rough.gap * (1 + 1e-9)


@pytest.mark.one_build
@pytest.mark.parametrize("loss", ["log_loss", "softmax", "huber"])
def test_many_columns_without_an_intercept(loss):
    rng = np.random.default_rng(3)
    model, X, y = problem(loss, (90, 150), rng)
    X = (X - X.mean(axis=0)) / X.std(axis=0)
    model.set_params(penalty="l1", alpha=0.005, tol=1e-7, solver="coordinate", fit_intercept=False)
    dense = model.fit(X, y).result_
    sparse = model.fit(scipy.sparse.csr_array(X), y).result_
    assert dense.certified
    assert sparse.certified
    assert np.count_nonzero(model.coef_.any(axis=0) if loss == "softmax" else model.coef_) > 20
    assert sparse.fun == pytest.approx(dense.fun, rel=2e-7)


@pytest.mark.one_build
def test_float32_and_a_warm_start():
    rng = np.random.default_rng(2)
    model, X, y = problem("squared_error", (60, 150), rng)
    X = X / X.std(axis=0)
    model.set_params(penalty="l1", alpha=0.05, tol=1e-4)
    single = model.fit(X.astype(np.float32), y.astype(np.float32))
    assert single.coef_.dtype == np.float32
    value = single.result_.fun
    model.set_params(warm_start=True, tol=1e-9).fit(X, y)
    steps, exact = model.n_iter_, model.result_.fun
    assert abs(value - exact) <= 2e-4 * exact
    assert model.fit(X, y).n_iter_ <= steps
    assert_allclose(model.result_.fun, exact, rtol=1e-8)


@pytest.mark.one_build
def test_as_the_solver_of_a_descent_on_an_objective():
    rng = np.random.default_rng(4)
    X, y = rng.standard_normal((20, 70)), rng.standard_normal(20)
    objective = LinearObjective(X, y, loss="squared_error", l1=0.1, fit_intercept=True)
    result = gradient_descent(objective, solver="coordinate", step_num=100, tol=1e-9)
    penalised = 0.1 * (np.arange(142) % 71 < 70)

    def split(z):
        value, gradient = objective.replace(l1=0.0).value_and_gradient(z[:71] - z[71:])
        return value + penalised @ z, np.concatenate([gradient, -gradient]) + penalised

    bounds = [(0, None)] * 142
    least = scipy.optimize.minimize(
        split, np.zeros(142), jac=True, bounds=bounds, options={"maxiter": 5000, "ftol": 1e-14}
    ).fun
    assert result.fun <= least * (1 + 1e-8)
    for bad in (LinearObjective(X, y), LinearObjective(X, y, activation="tanh", l1=0.1)):
        with pytest.raises(ValueError, match="solver='coordinate' is for an l1 penalty"):
            gradient_descent(bad, solver="coordinate", step_num=10)


@pytest.mark.parametrize("seed", range(25))
def test_quadratic_functions_are_minimised_to_rounding(seed):
    rng = np.random.default_rng(seed)
    n, d = rng.integers(1, 60, 2)
    A = rng.standard_normal((n, d)) * 10.0 ** rng.uniform(-2, 2, d) if seed % 2 else (rng.random((n, d)) < 0.4) * 1.0
    if d > 3:
        A[:, 1] = A[:, 0]
    H, c = A.T @ A / n, -A.T @ rng.standard_normal(n) / n
    t, start = np.full(d, max(np.abs(c).max(), 1e-3) * 10.0 ** rng.uniform(-3, 0)), rng.standard_normal(d)
    v = minimise_with_l1(H, H @ start + c, t, start)
    g = H @ v + c
    beyond = np.where(v != 0, np.abs(g + t * np.sign(v)), np.maximum(np.abs(g) - t, 0))
    assert np.max(beyond[np.diag(H) > 0], initial=0.0) <= 1e-11 * (np.abs(c).max() + np.abs(H @ start).max() + t.max())
