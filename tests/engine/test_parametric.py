"""Quadratic functions with an l1 penalty whose columns are nearly collinear, by a parametric active set."""

import warnings

import numpy as np
import pytest
from numpy.testing import assert_allclose
from sklearn.linear_model import lars_path_gram

from fastgd import GDClassifier, GDRegressor
from fastgd.engine import parametric
from fastgd.engine.lasso import violations

pytestmark = pytest.mark.one_build


def table(seed, decades):
    rng = np.random.default_rng(seed)
    n, d = ((90, 150), (60, 60), (200, 40), (30, 300))[seed % 4]
    X = rng.standard_normal((n, d)) + 10 ** rng.uniform(0, decades, d) * rng.choice([-1, 1], d)
    return X, X[:, :5].sum(axis=1) - X[:, :5].mean(axis=0).sum() + rng.standard_normal(n)


@pytest.mark.parametrize("seed", range(8))
def test_the_minimum_is_that_of_least_angle_regression(seed):
    X, y = table(seed, 1)
    n = len(X)
    H, c, t = X.T @ X / n, -X.T @ y / n, 0.05
    rng = np.random.default_rng(seed)
    start = np.where(rng.random(len(c)) < 0.1, rng.standard_normal(len(c)), 0.0) if seed % 2 else np.zeros(len(c))
    before, v = start.copy(), start
    for _ in range(3):  # the diagonal that is added leaves a share
        v, gradient = parametric.minimum(H, H @ v + c, np.full(len(c), t), v, 1e-13)
    assert np.array_equal(start, before)
    assert_allclose(gradient, H @ v + c, atol=1e-9)
    assert np.max(violations(v, gradient, np.full(len(c), t))) <= 1e-9
    if not seed % 2:
        expected = lars_path_gram(-c * n, H * n, n_samples=n, alpha_min=t, method="lasso")[2][:, -1]
        assert 0.5 * v @ H @ v + c @ v + t * np.abs(v).sum() == pytest.approx(
            0.5 * expected @ H @ expected + c @ expected + t * np.abs(expected).sum(), rel=1e-9
        )


def test_weights_without_a_penalty_are_free_and_matrices_may_be_singular():
    X, y = table(3, 0)
    X[:, 1] = 2 * X[:, 0]
    H, c, t = X.T @ X / 30, -X.T @ y / 30, np.full(300, 0.3)
    t[:4] = 0.0
    v = np.zeros(300)
    for _ in range(4):
        v, gradient = parametric.minimum(H, H @ v + c, t, v, 1e-11)
    assert np.max(violations(v, gradient, t)) <= 1e-7
    assert np.max(np.abs(gradient[:4])) <= 1e-7


@pytest.mark.parametrize("loss", ["squared_error", "huber"])
@pytest.mark.parametrize("seed", [0, 1, 2, 7])
def test_columns_far_off_without_an_intercept(loss, seed):
    """Their Gram matrix has a condition number of up to 1e10, and coordinates hardly move alone."""
    X, y = table(seed, 5)
    model = GDRegressor(loss, penalty="l1", alpha=0.1, fit_intercept=False).fit(X, y)
    assert model.result_.certified and model.result_.gap <= 1e-4 * model.result_.fun
    with_intercept = GDRegressor(loss, penalty="l1", alpha=0.1).fit(X, y)
    assert model.result_.fun >= with_intercept.result_.fun - with_intercept.result_.gap


@pytest.mark.parametrize(("penalty", "alpha"), [("l1", 1e-8), ("l1", 1e-10), ("elasticnet", 1e-12)])
@pytest.mark.parametrize("seed", [6, 8])
def test_a_softmax_of_classes_that_are_told_apart(penalty, alpha, seed):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(120, 6)) * 10.0 ** rng.uniform(-3, 3, 6)
    y = np.argmax(X @ (rng.normal(size=(6, 5)) / X.std(axis=0)[:, None]), axis=1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = GDClassifier(penalty=penalty, alpha=alpha).fit(X, y)
    assert model.result_.certified and model.result_.gap <= 1e-4 * model.result_.fun


@pytest.mark.parametrize("seed", range(6))
def test_gram_with_l1_on_fewer_rows_than_columns_far_off(seed):
    """XᵀX is singular, and from where coordinate descent has led the breakpoints may go nowhere."""
    rng = np.random.default_rng(seed)
    X = np.array([1.3, 625.0, 976.0, 572.0, 155.0, 35.0]) + rng.standard_normal((5, 6))
    y = rng.standard_normal(5)
    values = []
    for solver in ("gram", "coordinate"):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            values.append(GDRegressor("mse", penalty="l1", alpha=3.6e-4, solver=solver, tol=1e-6).fit(X, y).result_)
    assert values[1].certified
    assert values[0].fun <= values[1].fun + 1e-4 * values[1].fun
