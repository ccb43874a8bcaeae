"""What the solvers of the estimators rest on: spaces, certificates, starts and steps, each against a plain formula."""

import math

import numpy as np
import pytest
import scipy.sparse
from numpy.testing import assert_allclose

pytest.importorskip("sklearn")

from fastgd import GDClassifier, GDRegressor, LinearObjective, linalg, losses, schedules
from fastgd.data import moments
from fastgd.engine import quasi_newton
from fastgd.engine.gap import GapRule
from fastgd.engine.monitor import Monitor
from fastgd.engine.rates import rate_of
from fastgd.objective import certificate, standardised
from fastgd.objective.penalty import Penalty
from fastgd.objective.standardised import Standardised

SIZES = np.array([1.0, 10.0, 0.1, 3.0, 1.0])


def table(loss, n=300, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, 5)) * SIZES + 2 * SIZES
    y = {
        "squared_error": rng.normal(size=n) + X[:, 1],
        "log_loss": (rng.random(n) < 0.3).astype(float),
        "poisson": rng.poisson(2.0, n).astype(float),
    }[loss]
    return X, y, rng.uniform(0.5, 2.0, n)


ACTIVATIONS = {"log_loss": "sigmoid", "poisson": "exp"}


def of_estimators(X, y, loss, *, sample_weight=None, fit_intercept=True, **penalties):
    """An objective as the estimators have it: a deviance, whose least value is 0."""
    record = losses.of(loss, ACTIVATIONS.get(loss, "identity"))
    s = np.empty(0) if sample_weight is None else sample_weight
    penalty = Penalty(penalties.get("l1", 0.0), penalties.get("l2", 0.0))
    return LinearObjective.of_arrays(X, y, s, record, fit_intercept=fit_intercept, deviance=True, penalty=penalty)


def search_from(variables):
    """Quasi-Newton steps that begin at the start of the variables."""
    search = quasi_newton._Search(variables, Monitor(variables, limit=100, gap=GapRule(variables.objective, 1e-4)))
    search.begin(None)
    return search


# ------------------------------------------------------------------------------------------------------ certificates


@pytest.mark.parametrize("sparse", (False, True))
@pytest.mark.parametrize("weighted", (False, True))
@pytest.mark.parametrize("fit_intercept", (False, True))
@pytest.mark.parametrize("loss", ("squared_error", "log_loss", "poisson"))
def test_the_gap_from_a_gradient_is_that_from_the_rows(loss, fit_intercept, weighted, sparse):
    X, y, s = table(loss)
    objective = of_estimators(
        scipy.sparse.csr_array(X) if sparse else X, y, loss, fit_intercept=fit_intercept, l2=0.1,
        sample_weight=s if weighted else None,
    )  # fmt: skip
    variables = Standardised(objective)
    V = variables.start + 0.02 * np.random.default_rng(1).normal(size=(variables.size, 1))
    _, gradient = variables.evaluate(V)
    before = variables.passes
    gap = variables.duality_gap(V, gradient)
    assert variables.passes - before == fit_intercept
    assert_allclose(gap, certificate.duality_gap(objective, *variables.to_weights(V)), rtol=1e-9)


@pytest.mark.parametrize("loss", ("squared_error", "log_loss", "poisson"))
def test_the_gap_is_an_upper_bound(loss):
    X, y, _ = table(loss)
    objective = of_estimators(X, y, loss, l2=0.1)
    variables = Standardised(objective)
    kind = GDClassifier if loss == "log_loss" else GDRegressor
    best = kind(loss, penalty="l2", alpha=0.1, tol=1e-14).fit(X, y)
    W, b = best.coef_.reshape(5, 1), best.intercept_
    least = objective.sums(W, b, gradient=False) + objective.penalty.value(W)
    rng = np.random.default_rng(2)
    for size in (1e-4, 1e-2, 0.1):
        V = variables.from_weights(W, b) + size * rng.normal(size=(variables.size, 1))
        value, gradient = variables.evaluate(V)
        assert variables.duality_gap(V, gradient) >= (value - least) * (1 - 1e-6)


def test_slopes_of_curvature_are_curvature():
    X, y, s = table("log_loss")
    for loss in ("squared_error", "log_loss", "poisson"):
        objective = of_estimators(X, y, loss, sample_weight=s)
        rng = np.random.default_rng(3)
        W, b, shift = 0.1 * rng.normal(size=(5, 1)) / SIZES[:, None], np.array([0.2]), 2 * SIZES
        by_W, total = certificate.curvature_sums(objective, W, b + shift @ W, shift)
        D = s * objective.record.curvature(X @ W + b, y[:, None])[:, 0]
        assert_allclose(total, D.sum() / s.sum(), rtol=1e-12)
        assert_allclose(by_W[:, 0], (X - shift).T @ D / s.sum(), rtol=1e-9, atol=1e-12)


# ------------------------------------------------------------------------------------------------------------ spaces


@pytest.mark.parametrize("weighted", (False, True))
@pytest.mark.parametrize("fit_intercept", (False, True))
def test_entries_of_csr_tell_the_spread_of_columns(monkeypatch, fit_intercept, weighted):
    monkeypatch.setattr(standardised, "DENSE_COLUMNS", 1)
    rng = np.random.default_rng(0)
    X = np.where(rng.random((200, 30)) < 0.3, rng.normal(3.0, 1.0, (200, 30)), 0.0)
    X[:, 0], X[:, 1] = 7.0, 0.0  # columns that do not vary
    s = rng.uniform(0.5, 2.0, 200) if weighted else None
    y = rng.normal(size=200)
    variables = Standardised(
        of_estimators(scipy.sparse.csr_array(X), y, "squared_error", fit_intercept=fit_intercept, sample_weight=s)
    )
    mean = np.average(X, axis=0, weights=s) if fit_intercept else np.zeros(30)
    spread = np.sqrt(np.average((X - mean) ** 2, axis=0, weights=s))
    assert_allclose(variables.shift, mean, atol=1e-14)
    assert_allclose(variables.scale[2:], spread[2:], rtol=1e-13)
    assert np.isinf(variables.scale[1])
    assert np.isinf(variables.scale[0]) == fit_intercept


@pytest.mark.one_build
@pytest.mark.parametrize("order", ("C", "F"))
@pytest.mark.parametrize("offset", (0.0, 1e4))
def test_moments_are_the_same_by_either_product(monkeypatch, offset, order):
    rng = np.random.default_rng(0)
    X = np.asarray(rng.normal(size=(5000, 40)) + offset, order=order)
    s = rng.uniform(0.5, 2.0, 5000)
    mean = np.average(X, axis=0, weights=s)
    expected = (X - mean).T @ ((X - mean) * s[:, None])
    for least in (0, 1 << 60):
        monkeypatch.setattr(moments, "SYRK_PRODUCTS", least)
        found = LinearObjective(X, X[:, 0], sample_weight=s).moments
        assert_allclose(found.mean, mean, rtol=1e-13, atol=1e-13)
        assert_allclose(found.centred, expected, rtol=1e-9, atol=1e-9 * np.abs(expected).max())


@pytest.mark.one_build
def test_the_blas_has_one_thread_where_matrices_are_formed():
    info = pytest.importorskip("threadpoolctl").threadpool_info

    def threads():
        return {pool["num_threads"] for pool in info() if pool["user_api"] == "blas"}

    before = threads()
    with linalg.one_blas_thread(linalg.MUCH_WORK):
        assert threads() <= {1}
    with linalg.one_blas_thread(linalg.MUCH_WORK - 1):
        assert threads() == before
    assert threads() == before


# ------------------------------------------------------------------------------------------------------------ starts


def many_rows(positives, n=70_000):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(n, 3)) * [1.0, 100.0, 0.01] + 1
    h = X @ [1.0, 0.01, 30.0]
    y = (h + rng.logistic(size=n) > np.quantile(h, 1 - positives)).astype(float)
    return X, y


def test_a_start_from_fewer_rows_leads_to_the_same_minimum(monkeypatch):
    monkeypatch.setattr(quasi_newton, "FEWER_SAMPLES", 1)
    X, y = many_rows(0.3)
    quick = GDClassifier(alpha=1e-3, tol=1e-10).fit(X, y)
    monkeypatch.setattr(quasi_newton, "FEWER_SAMPLES", 10**6)
    plain = GDClassifier(alpha=1e-3, tol=1e-10).fit(X, y)
    assert quick.n_iter_ < plain.n_iter_
    assert quick.result_.certified
    assert_allclose(quick.coef_, plain.coef_, rtol=1e-5)


def test_a_start_that_misleads_is_given_up(monkeypatch):
    monkeypatch.setattr(quasi_newton, "FEWER_SAMPLES", 1)
    X, y = many_rows(0.3)
    y[:: quasi_newton.FEWER] = 0.0  # the rows that are looked at first say the same of everything
    y[: quasi_newton.FEWER * 30 : quasi_newton.FEWER] = 1.0
    X[: quasi_newton.FEWER * 30 : quasi_newton.FEWER] += [500.0, 0, 0]
    misled = GDClassifier(alpha=1e-3, tol=1e-10).fit(X, y)
    monkeypatch.setattr(quasi_newton, "FEWER_SAMPLES", 10**6)
    plain = GDClassifier(alpha=1e-3, tol=1e-10).fit(X, y)
    assert misled.result_.certified
    assert_allclose(misled.history_["loss"][-1], plain.history_["loss"][-1], rtol=1e-9)


def test_rows_without_weight_are_no_start():
    X, y, s = table("squared_error")
    s[::4] = 0.0
    assert of_estimators(X, y, "squared_error", sample_weight=s).every(4) is None


def test_the_value_of_a_constant_model_takes_no_pass():
    for loss in ("squared_error", "log_loss", "poisson"):
        X, y, s = table(loss)
        objective = of_estimators(X, y, loss, sample_weight=s)
        b = np.array([0.3])
        expected = objective.sums(np.zeros((5, 1)), b, gradient=False)
        X[:] = np.nan  # of which the objective has no copy
        assert_allclose(objective.value_at_constant(b), expected, rtol=1e-13)


# ------------------------------------------------------------------------------------------------------------- steps


def test_a_quadratic_function_is_walked_to_its_lowest_point():
    X, y, s = table("squared_error")
    variables = Standardised(of_estimators(X, y, "squared_error", l2=0.1, sample_weight=s))
    V = variables.start = np.random.default_rng(4).normal(size=(variables.size, 1))
    search = search_from(variables)
    gradient = search.point.gradient
    rate, new, value, new_gradient = search._exact_step(-gradient, -float(np.vdot(gradient, gradient)))
    assert_allclose(new, V - rate * gradient)
    expected, expected_gradient = variables.evaluate(new)
    assert_allclose(value, expected, rtol=1e-12)
    assert_allclose(new_gradient, expected_gradient, atol=1e-12 * np.abs(gradient).max())
    assert abs(np.vdot(new_gradient, gradient)) < 1e-10 * np.vdot(gradient, gradient)


def test_least_squares_of_many_columns_are_refined_to_rounding():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(6000, 400)) + 1
    y = X @ rng.normal(size=400) + 3 + rng.normal(size=6000)
    model = GDRegressor().fit(X, y)
    A = np.column_stack([X, np.ones(6000)])
    assert_allclose(np.append(model.coef_, model.intercept_), np.linalg.lstsq(A, y, rcond=None)[0], rtol=1e-10)


@pytest.mark.parametrize("goal", (0.0, 1e-6))
def test_a_preconditioner_is_rebuilt_only_where_steps_are_slow(goal):
    X, y, _ = table("log_loss")
    search = search_from(Standardised(of_estimators(X, y, "log_loss")))

    def slow(first, estimate, bound, steps, price, goal):
        search.first, search.price, search.model.steps = first, price, steps
        search.monitor.goal = lambda fun: goal
        return search._is_slow(estimate, bound, 1.0)

    # Six decades to go from the first step on: at a factor of 0.9 a step that takes 130 of them, at 0.01 three.
    assert slow(1.0, 0.9**10, 0.0, 11, 5.0, goal)
    assert slow(1.0, 0.01, 0.0, 2, 1.0, goal) == (goal == 0)
    assert not slow(1.0, 1.0, 0.0, 6, 5.0, 1e-6)
    # And not before as many passes were spent on the old one as the new one costs.
    assert not slow(1.0, 0.9**4, 0.0, 5, 5.0, goal)


def test_rates_of_many_steps_are_those_of_each():
    constant = rate_of(0.25, "learning_rate")
    assert_allclose(constant.rates(7, 3), [0.25] * 3)
    decay = rate_of(schedules.inverse_time_decay(0.5, 0.1), "learning_rate")
    assert_allclose(decay.rates(4, 5), [decay(step) for step in range(4, 9)])
    assert math.isclose(decay(0), 0.5)


@pytest.mark.parametrize(("penalty", "words"), [("l2", "is at most"), (None, "is about")])
def test_the_message_says_at_most_only_of_a_bound(penalty, words):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(500, 3))
    result = GDClassifier(penalty=penalty).fit(X, X[:, 0] + rng.logistic(size=500) > 0).result_
    assert words in result.message
    assert result.certified == (words == "is at most")
