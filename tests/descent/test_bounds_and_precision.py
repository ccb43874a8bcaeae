"""Numerical gradients of a run: within its bounds, and no closer to a minimum than they can tell; wrong gradients."""

import time

import numba
import numpy as np
import pytest
from scipy import LowLevelCallable
from scipy.optimize import Bounds, minimize

from fastgd import DivergenceError, Status, gradient_descent

pytestmark = pytest.mark.one_build
RATES = [0.05, "auto", "bb", "armijo", "adgd"]
RULES = ["gd", "momentum", "nesterov", "adam", "rmsprop", "adagrad"]


def quadratic(rng, d):
    """A convex quadratic of curvatures 1 to 10, and its gradient."""
    Q = np.linalg.qr(rng.standard_normal((d, d)))[0]
    A, c = Q @ np.diag(np.geomspace(1, 10, d)) @ Q.T, rng.standard_normal(d)
    return (lambda x: 0.5 * float((x - c) @ A @ (x - c))), (lambda x: A @ (x - c))


# -------------------------------------------------------------------------------------------------------------- bounds


@pytest.mark.parametrize("lr", RATES)
@pytest.mark.parametrize("d", [1, 3, 7])
def test_f_is_called_at_no_point_outside_of_the_bounds(lr, d):
    rng = np.random.default_rng(d)
    f, grad = quadratic(rng, d)
    lower = np.where(rng.random(d) < 0.3, -np.inf, rng.uniform(-1, 0, d))
    upper = np.where(rng.random(d) < 0.3, np.inf, rng.uniform(0, 0.5, d))
    called = []

    def watched(x):
        called.append(x.copy())
        return f(x)

    result = gradient_descent(
        watched, rng.standard_normal(d), lr=lr, step_num=400, bounds=(lower, upper), tol=1e-6, f_tol=1e-14, x_tol=1e-14
    )
    assert all(np.all((lower <= x) & (x <= upper)) for x in called)
    expected = minimize(f, np.clip(0, lower, upper), jac=grad, bounds=Bounds(lower, upper), tol=1e-12)
    np.testing.assert_allclose(result.x, expected.x, atol=1e-5)
    assert result.success and result.fun == f(result.x)


def test_a_function_that_is_not_defined_outside_of_its_bounds():
    def entropy(x):
        assert np.all(x >= 0)
        return float(np.sum(x * np.log(np.maximum(x, 1e-300))) + 3 * x[0])

    result = gradient_descent(entropy, [0.5, 0.5], lr="auto", bounds=(0.0, None), step_num=200, tol=1e-6)
    np.testing.assert_allclose(result.x, [np.exp(-4), np.exp(-1)], rtol=1e-5)


def test_a_variable_that_its_bounds_leave_no_room():
    f, _ = quadratic(np.random.default_rng(0), 3)
    lower, upper = np.array([-np.inf, 0.25, -np.inf]), np.array([np.inf, 0.25, np.inf])
    result = gradient_descent(f, np.zeros(3), lr="auto", bounds=(lower, upper), step_num=300, tol=1e-7)
    assert result.status == Status.CONVERGED and result.x[1] == 0.25 and result.jac[1] == 0


@pytest.mark.parametrize("bounds", [(0.0, [1.0, 0.5]), Bounds(0.0, [1.0, 0.5])])
def test_bounds_are_a_tuple_or_those_of_scipy(bounds):
    result = gradient_descent(lambda x: float((x - 3) @ (x - 3)), [0.0, 0.0], lr=0.1, bounds=bounds)
    np.testing.assert_array_equal(result.x, [1.0, 0.5])


@pytest.mark.parametrize("bounds", [[(-5, 5), (0, 10)], np.array([[-5, 5], [0, 10]]), [0.0, 1.0]])
def test_a_list_or_an_array_of_bounds_is_refused_with_both_readings(bounds):
    with pytest.raises(TypeError, match="bounds must be a pair"):
        gradient_descent(lambda x: float(x @ x), [1.0, 2.0], bounds=bounds)


# ---------------------------------------------------------------------------------------------------- wrong gradients


def sine(x):
    return float(np.sum(np.sin(x)))


WRONG = {
    "bowl": (lambda x: float((x - 3) @ (x - 3)), lambda x: -2 * (x - 3)),
    "sine": (sine, lambda x: -np.cos(x)),
    "logarithm": (lambda x: float(np.sum(np.log1p((x - 3) ** 2))), lambda x: -2 * (x - 3) / (1 + (x - 3) ** 2)),
}
LIMITS = {
    "none": {}, "inside": {"bounds": (0.5, 2.5)}, "at one": {"bounds": (1.0, 2.0)}, "l1": {"l1": 0.1},
    "both": {"bounds": (0.5, 2.5), "l1": 0.05},
}  # fmt: skip


@pytest.mark.parametrize("limits", LIMITS)
@pytest.mark.parametrize("lr", RATES)
@pytest.mark.parametrize("name", WRONG)
def test_a_gradient_of_the_wrong_sign_is_never_converged(name, lr, limits):
    f, grad = WRONG[name]
    for start in ([1.0, 2.0], [1.0, 1.0], [2.0, 1.5]):
        try:
            result = gradient_descent(f, start, lr=lr, grad=grad, step_num=1000, tol=1e-6, **LIMITS[limits])
        except DivergenceError:
            continue
        assert result.status in (Status.NO_WAY_DOWN, Status.STEP_LIMIT) and not result.success


@pytest.mark.parametrize("limits", LIMITS)
@pytest.mark.parametrize("lr", ["auto", "armijo"])
def test_with_the_right_gradient_the_same_runs_converge(lr, limits):
    for f, wrong in WRONG.values():
        result = gradient_descent(f, [1.0, 2.0], lr=lr, grad=lambda x, g=wrong: -g(x), step_num=1000, tol=1e-6,
                                  **LIMITS[limits])  # fmt: skip
        assert result.status == Status.CONVERGED and result.success


@pytest.mark.parametrize("optimizer", RULES)
def test_no_rule_converges_by_a_gradient_of_the_wrong_sign(optimizer):
    for f, grad in (WRONG["sine"], WRONG["logarithm"]):
        try:
            result = gradient_descent(f, [1.0, 2.0], lr=0.01, grad=grad, optimizer=optimizer, step_num=3000, tol=1e-4)
        except DivergenceError as error:
            assert error.result.status == Status.DIVERGED
        else:
            assert not result.success


# --------------------------------------------------------------------------------------- the error of a gradient itself


@pytest.mark.parametrize("lr", [0.1, "auto", "adgd"])
@pytest.mark.parametrize("offset", [1e3, 1e6, -1e6])
def test_a_tolerance_below_the_error_of_the_gradient_is_not_met(lr, offset):
    result = gradient_descent(lambda x: float(x @ x) + offset, [0.3, 0.4], lr=lr, step_num=300, tol=1e-13)
    assert not result.success and "f is not precise enough to tell" in result.message
    # One above it is, as before.
    result = gradient_descent(lambda x: float(x @ x) + offset, [0.3, 0.4], lr=lr, step_num=300, tol=1e-2)
    assert result.status == Status.CONVERGED and np.linalg.norm(2 * result.x) <= 1e-2


@pytest.mark.parametrize("d", [1, 4, 12])
def test_a_gradient_within_tol_is_so_in_truth(d):
    rng = np.random.default_rng(d)
    f, grad = quadratic(rng, d)
    for tol in (1e-2, 1e-5, 1e-8):
        result = gradient_descent(f, rng.standard_normal(d), lr="auto", step_num=2000, tol=tol)
        assert result.status != Status.CONVERGED or np.linalg.norm(grad(result.x)) <= tol
        assert result.success or "precise enough" in result.message
    assert gradient_descent(f, np.zeros(d), lr="auto", step_num=2000, tol=1e-5).success


# ------------------------------------------------------------------------------------------------- rises near a minimum


@pytest.mark.parametrize("optimizer", ["adam", "rmsprop", "adamax", "nadam", "amsgrad", "adamw"])
@pytest.mark.parametrize("f", [lambda x: float(x @ x), lambda x: float(np.sum(np.cosh(x))), lambda x: 1e3 + 5 * x @ x])
def test_a_small_rise_next_to_a_minimum_is_no_divergence(f, optimizer):
    start = np.array([1e-3, -1e-3])
    for lr in (1e-3, 1e-2, 0.05):
        for step_num in (8, 30, 100, 600):
            result = gradient_descent(f, start, lr=lr, optimizer=optimizer, step_num=step_num)
            assert result.status == Status.STEP_LIMIT
            assert result.fun <= f(start) + 1e-12 or "is above the first" in result.message
    best = gradient_descent(f, start, lr=0.05, optimizer=optimizer, step_num=8, keep="best")
    assert best.fun <= f(start) and best.fun == f(best.x)


def test_a_large_rise_by_adam_is_a_divergence():
    with pytest.raises(DivergenceError, match="higher than it began"):
        gradient_descent(lambda x: float(x @ x), [1e-3, -1e-3], lr=10.0, optimizer="adam", step_num=12)


# ------------------------------------------------------------------------------------------------------------ the clock


@pytest.mark.parametrize("lr", [0.1, "auto"])
@pytest.mark.parametrize("jobs", [None, 2])
def test_the_clock_is_looked_at_within_a_numerical_gradient(lr, jobs):
    def slow(x):
        time.sleep(0.002)
        return float(x @ x)

    began = time.perf_counter()
    result = gradient_descent(slow, np.ones(400), lr=lr, max_seconds=0.2, n_jobs=jobs)
    assert time.perf_counter() - began < 1.2  # a gradient alone takes 1.6 s
    assert result.status == Status.TIME_LIMIT and "within a numerical gradient" in result.message
    assert result.nit == 0 and result.fun == 400.0 and np.all(np.isnan(result.jac)) and result.nfev < 400


def test_a_run_whose_time_is_up_ends_at_its_last_whole_point():
    calls = []

    def slower(x):
        calls.append(0)
        if len(calls) > 200:
            time.sleep(0.02)
        return float(x @ x)

    result = gradient_descent(slower, np.ones(40), lr=0.1, max_seconds=0.4, history=True)
    assert result.status == Status.TIME_LIMIT and result.nit == len(result.history.x) - 1 > 0
    np.testing.assert_array_equal(result.x, result.history.x[-1])
    np.testing.assert_allclose(result.jac, 2 * result.x, rtol=1e-6)
    assert result.nfev == len(calls)


def test_the_clock_is_looked_at_between_calls_of_a_c_function():
    @numba.cfunc(numba.types.float64(numba.types.intp, numba.types.CPointer(numba.types.float64)))
    def slow(n, x):
        total = 0.0
        for _ in range(200_000):
            for i in range(n):
                total += x[i] * x[i]
        return total / 200_000

    began = time.perf_counter()
    result = gradient_descent(LowLevelCallable(slow.ctypes), np.ones(400), lr=0.1, max_seconds=0.2)
    assert result.status == Status.TIME_LIMIT and time.perf_counter() - began < 10
    assert result.nit == 0 and "within a numerical gradient" in result.message
