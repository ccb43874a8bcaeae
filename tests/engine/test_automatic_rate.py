"""Runs with a tolerance, and runs whose rate is found for them."""

import itertools

import hypothesis.strategies as st
import mpmath
import numpy as np
import pytest
from descent_problems import PROPERTY, ellipse, ellipse_slope, least_squares, problem, sum_of_squares, twice
from hypothesis import given

from fastgd import LinearObjective, Status, datasets, gradient_descent

# ------------------------------------------------------------------------------------------------------------- stopping


def test_tol_on_a_function_is_a_bound_of_the_gradient_norm():
    for tol in (1.0, 1e-3, 1e-8):
        result = gradient_descent(ellipse, [1.0, 2.0], 0.2, 10_000, grad=ellipse_slope, tol=tol, history=True)
        assert result.status is Status.CONVERGED
        assert result.success
        assert result.history.grad_norm[-1] <= tol
        assert np.all(result.history.grad_norm[:-1] > tol)
        assert result.nit == len(result.history.x) - 1


def test_a_start_that_is_good_enough_is_kept():
    result = gradient_descent(sum_of_squares, [0.0], tol=1e-3, grad=twice)
    assert (result.nit, result.status, result.x.tolist()) == (0, Status.CONVERGED, [0.0])
    o = LinearObjective([[1.0], [2.0]], [1.0, 2.0])
    result = gradient_descent(o, [1.0], tol=1e-3)
    assert (result.nit, result.status, result.fun) == (0, Status.CONVERGED, 0.0)


def test_a_tolerance_that_is_not_reached_is_no_success():
    result = gradient_descent(sum_of_squares, [1.0], lr=0.01, step_num=5, tol=1e-9)
    assert not result.success
    assert result.status is Status.STEP_LIMIT
    assert "without reaching tol = 1e-09" in result.message


@PROPERTY
@given(
    st.integers(0, 1000),
    st.integers(1, 5),
    st.booleans(),
    st.sampled_from([0.0, 0.3]),
    st.sampled_from(["sse", "mse"]),
    st.sampled_from([1e-2, 1e-6, 1e-10]),
)
def test_tol_on_an_objective_bounds_the_gap_to_the_minimum(seed, d, fit_intercept, l2, loss, tol):
    rng = np.random.default_rng(seed)
    X = (rng.standard_normal((25, d)) + rng.choice([0, 2.0])) * 10.0 ** rng.uniform(-3, 3, d)
    o = LinearObjective(X, rng.standard_normal(25), loss=loss, fit_intercept=fit_intercept, l2=l2)
    result = gradient_descent(o, lr="auto", tol=tol, step_num=20_000)
    A = np.column_stack([X, np.ones(25)]) if fit_intercept else X
    ridge = np.sqrt(l2 * (1 if loss == "sse" else 12.5)) * np.eye(d, A.shape[1])
    w = np.linalg.lstsq(np.vstack([A, ridge]), np.append(o.y, np.zeros(d)), rcond=None)[0]
    assert result.success
    assert result.fun - o.value(w) <= tol * result.fun * (1 + 1e-6)


def nearly_collinear(width):
    """A column, it with `width` times the targets added, and those: the minimum is nearly 0, at ±1/width."""
    t, u = np.random.default_rng(0).standard_normal((2, 40))
    return LinearObjective(np.column_stack([t, t + width * u]), u)


def test_columns_that_are_nearly_collinear_are_fitted():
    result = gradient_descent(nearly_collinear(1e-8), lr="auto", tol=1e-6, step_num=200)
    assert result.success and result.fun < 1e-12
    np.testing.assert_allclose(result.x, [-1e8, 1e8], rtol=1e-6)


@pytest.mark.parametrize("width", [1e-12, 1e-14, 1e-15])
def test_a_bound_of_the_gap_names_directions_that_drown_in_rounding(width):
    o = nearly_collinear(width)
    result = gradient_descent(o, lr="auto", tol=1e-6, step_num=200)
    with mpmath.workdps(60):
        X, y = mpmath.matrix(o.X.tolist()), mpmath.matrix(o.y.tolist())
        residual = X * mpmath.lu_solve(X.T * X, X.T * y) - y
        least = float(mpmath.norm(residual) ** 2 / 2)
    bounded = result.fun - least <= result.gap + 1e-14 * o.value(np.zeros(2))
    assert bounded or not result.certified or "1 direction in which the columns are collinear" in result.message


@pytest.mark.parametrize("scale", [1e-170, 1e170])
def test_columns_whose_squares_leave_the_floats_are_fitted_too(scale):
    o = LinearObjective(np.arange(5.0)[:, None] * scale, np.arange(5.0), fit_intercept=True)
    for state in ("warn", "raise"):
        with np.errstate(all=state):
            result = gradient_descent(o, lr="auto", tol=1e-6, step_num=1000)
        assert result.success
        np.testing.assert_allclose(result.x[0] * scale, 1, rtol=1e-6)
        np.testing.assert_allclose(o.predict(result.x), np.arange(5.0), atol=1e-6)


def test_the_least_squares_fit_of_noiseless_data_ends_at_rounding():
    o = problem(fit_intercept=True)
    w = np.array([1.0, -2.0, 0.5, 3.0])
    exact = LinearObjective(o.X, o.predict(w), fit_intercept=True)
    result = gradient_descent(exact, lr="auto", tol=1e-8, step_num=5000)
    assert result.success
    # F(w*) = 0, so the gap is judged against the rounding of F(0): ‖w − w*‖ of some √ε.
    np.testing.assert_allclose(result.x, w, rtol=1e-6)


# -------------------------------------------------------------------------------------------------- the automatic rate


def test_the_women_table_to_ten_digits_with_the_default_steps():
    X, y = datasets.load_women()
    for loss in ("sse", "mse"):
        result = gradient_descent(LinearObjective(X, y, fit_intercept=True, loss=loss), lr="auto")
        np.testing.assert_allclose(result.x, [3.45, -87.51666666666667], rtol=1e-10)
        assert result.success
    # Without the change of variables the same rate rule is nowhere near.
    o = LinearObjective(X, y, fit_intercept=True, loss="mse")
    assert abs(gradient_descent(o, lr=1 / o.lipschitz()).x[0] - 3.45) > 0.5
    single = LinearObjective(X.astype(np.float32), y, fit_intercept=True)
    np.testing.assert_allclose(gradient_descent(single, lr="auto").x, [3.45, -87.51666666666667], rtol=1e-5)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@PROPERTY
@given(
    st.lists(st.integers(-6, 6), min_size=3, max_size=3),
    st.booleans(),
    st.sampled_from(["identity", "sigmoid", "tanh"]),
    st.sampled_from([None, 2]),
)
def test_columns_of_any_scale_give_the_same_predictions(dtype, exponents, fit_intercept, activation, k):
    base = problem(dtype=dtype, activation=activation, fit_intercept=fit_intercept, k=k)
    X = (base.X * 10.0 ** np.array(exponents)).astype(dtype)
    scaled = LinearObjective(X, base.y, activation=activation, fit_intercept=fit_intercept)
    tolerance = 1e-11 if dtype == np.float64 else 2e-5
    for solver in ("auto", "accelerated"):
        expected = gradient_descent(base, solver=solver, step_num=40, history=True)
        result = gradient_descent(scaled, solver=solver, step_num=40, history=True)
        assert result.x.dtype == dtype
        np.testing.assert_allclose(scaled.predict(result.x), base.predict(expected.x), atol=tolerance)
        steps = min(result.nit, expected.nit) + 1  # rounding decides whether there is another step at the end
        np.testing.assert_allclose(result.history.fun[:steps], expected.history.fun[:steps], rtol=10 * tolerance)
        assert result.fun == pytest.approx(expected.fun, rel=10 * tolerance)


@pytest.mark.parametrize("fit_intercept", [False, True])
def test_the_automatic_rate_reaches_least_squares(fit_intercept):
    for k, offset in itertools.product((None, 2), (0.0, 1e4)):
        if offset and not fit_intercept:
            continue  # without an intercept the columns may not be moved, and such a table is ill-conditioned
        o = problem(k=k)
        o = LinearObjective(o.X * [1e-4, 1, 1e4] + offset, o.y, fit_intercept=fit_intercept)
        result = gradient_descent(o, lr="auto", tol=1e-13, step_num=5000)
        assert result.success
        np.testing.assert_allclose(o.predict(result.x), o.predict(least_squares(o)), atol=1e-6)


@pytest.mark.parametrize("activation", ["identity", "sigmoid", "tanh"])
def test_the_automatic_rate_never_goes_up(activation):
    for seed, scale in itertools.product(range(3), (1.0, 30.0)):
        o = problem(activation=activation, fit_intercept=True, seed=seed)
        o = LinearObjective(o.X * scale, o.y * 3 - 1, activation=activation, fit_intercept=True)
        start = np.random.default_rng(seed).standard_normal(4) * 3
        fun = gradient_descent(o, start, lr="auto", step_num=60, history=True).history.fun
        assert np.all(np.diff(fun) <= 1e-12 * fun[0])


def test_the_start_and_the_path_are_in_the_users_units():
    o = problem(fit_intercept=True, l2=0.1)
    start = np.array([3.0, -1.0, 2.0, 0.5])
    result = gradient_descent(o, start, lr="auto", step_num=50, history=True)
    np.testing.assert_allclose(result.history.x[0], start, rtol=1e-13)
    for x, fun in zip(result.history.x, result.history.fun, strict=True):
        assert fun == pytest.approx(o.value(x), rel=1e-12)


def test_columns_that_do_not_vary():
    o = problem()
    for column in (np.zeros(30), np.full(30, 0.3), np.full(30, 1e6)):
        wide = LinearObjective(np.column_stack([o.X, column]), o.y, fit_intercept=True)
        result = gradient_descent(wide, lr="auto", tol=1e-10, step_num=1000)
        narrow = gradient_descent(LinearObjective(o.X, o.y, fit_intercept=True), lr="auto", tol=1e-10, step_num=1000)
        assert result.x[3] == 0
        np.testing.assert_allclose(wide.predict(result.x), narrow.x[3] + o.X @ narrow.x[:3], rtol=1e-9)
    nothing = LinearObjective(np.zeros((4, 2)), np.ones(4))
    result = gradient_descent(nothing, lr="auto", tol=1e-3)
    assert result.x.tolist() == [0, 0]
    assert result.success


@pytest.mark.parametrize("penalty", [{}, {"l2": 1e-3}, {"l1": 1e-3}], ids=str)
def test_least_squares_by_gram_keep_to_the_number_of_steps(penalty):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(200, 20)) @ rng.normal(size=(20, 20))
    objective = LinearObjective(X, X @ rng.normal(size=20) + rng.normal(size=200), loss="mse", **penalty)
    for limit in (0, 1):
        run = gradient_descent(objective, solver="gram", step_num=limit)
        assert (run.nit, run.status.name, run.success) == (limit, "STEP_LIMIT", True)
    short = gradient_descent(objective, solver="gram", step_num=0, tol=1e-12)
    assert (short.status.name, short.success) == ("STEP_LIMIT", False)
    assert gradient_descent(objective, solver="gram", tol=1e-12).status.name == "CONVERGED"
