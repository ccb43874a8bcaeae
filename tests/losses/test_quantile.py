"""Quantile regression against linear programming: its optimum is one of a linear program."""

import numpy as np
import pytest
import scipy.optimize
from numpy.testing import assert_allclose

import fastgd
from fastgd import GDRegressor, LinearObjective, losses

QUANTILES = (0.05, 0.25, 0.5, 0.8, 0.95)


def least(X, y, q, s, fit_intercept, l1):
    """min (1/Σs) Σ s·(q·up + (1 − q)·down) + l1·Σ|w| with y = Xw + b + up − down, by linear programming."""
    n, d = X.shape
    A = np.hstack([X, -X, np.ones((n, 2)) * [1, -1] * fit_intercept, np.eye(n), -np.eye(n)])
    share = s / s.sum()
    cost = np.r_[np.full(2 * d, l1), 0, 0, q * share, (1 - q) * share]
    found = scipy.optimize.linprog(cost, A_eq=A, b_eq=y, bounds=(0, None), method="highs")
    assert found.success
    return found.fun


def table(n, d, seed):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, d)) * 10.0 ** rng.uniform(-1, 1, d)
    return X, X @ rng.normal(size=d) + rng.standard_t(3, size=n) + 2, rng.uniform(0, 2, n) * (rng.random(n) < 0.9)


@pytest.mark.parametrize(("n", "d"), [(40, 1), (150, 4), (300, 12)])
@pytest.mark.parametrize("fit_intercept", [False, True])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("quantile", QUANTILES)
def test_the_optimum_is_that_of_the_linear_program(n, d, fit_intercept, weighted, quantile):
    X, y, s = table(n, d, n + d)
    s = s if weighted else np.ones(n)
    loss = losses.Quantile(quantile)
    for l1 in (0.0, 0.01):
        o = LinearObjective(X, y, loss=loss, fit_intercept=fit_intercept, l1=l1, sample_weight=s)
        result = fastgd.gradient_descent(o, lr="auto", step_num=5000, tol=1e-6)
        best = least(X, y, quantile, s, fit_intercept, l1)
        gap = result.fun - best
        assert -1e-9 * best <= gap <= 1e-5 * best
        if result.certified:
            assert gap <= result.gap * (1 + 1e-6) + 1e-9 * best


@pytest.mark.parametrize("quantile", QUANTILES)
@pytest.mark.parametrize("fit_intercept", [False, True])
def test_with_a_ridge_the_gap_is_certified_and_true(quantile, fit_intercept):
    X, y, s = table(200, 5, 9)
    o = LinearObjective(
        X, y, loss=losses.Quantile(quantile), fit_intercept=fit_intercept, l2=0.01, sample_weight=s
    )  # fmt: skip
    results = [fastgd.gradient_descent(o, lr="auto", step_num=5000, tol=tol) for tol in (1e-2, 1e-4, 1e-9)]
    assert all(result.certified for result in results)
    for result in results[:-1]:
        assert result.fun - results[-1].fun <= result.gap * (1 + 1e-9)


def test_so_many_targets_are_below_a_quantile():
    X, y, _ = table(400, 3, 0)
    for quantile in QUANTILES:
        model = GDRegressor(losses.Quantile(quantile), tol=1e-8).fit(X, y)
        assert abs(np.mean(y <= model.predict(X)) - quantile) <= 5 / 400


def test_half_of_it_is_the_absolute_error():
    X, y, s = table(80, 3, 1)
    w = np.random.default_rng(0).normal(size=4)
    options = {"fit_intercept": True, "sample_weight": s, "l2": 0.1}
    one = LinearObjective(X, y, loss="quantile", **options)
    other = LinearObjective(X, y, loss=losses.EpsilonInsensitive(0), **(options | {"l2": 0.2}))
    assert_allclose(2 * one.value(w), other.value(w), rtol=1e-14)
    assert_allclose(2 * one.gradient(w), other.gradient(w), rtol=1e-12)


@pytest.mark.filterwarnings("ignore:.*the gap to the minimum is still")  # beside a loss that is nearly 0
@pytest.mark.parametrize("quantile", [1e-6, 1 - 1e-6])
def test_extreme_quantiles_are_the_ends(quantile):
    _, y, _ = table(50, 1, 3)
    model = GDRegressor(losses.Quantile(quantile), tol=1e-8).fit(np.zeros((50, 1)), y)
    assert_allclose(model.intercept_, y.min() if quantile < 0.5 else y.max(), rtol=1e-4)
