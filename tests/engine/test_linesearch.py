"""Steepest descent without a rate: what each method promises, and that lr="auto" works on any function."""

import numpy as np
import pytest
from scipy.optimize import rosen, rosen_der

from fastgd import DivergenceError, LinearObjective, Status, gradient_descent
from fastgd.engine.line_search import AUTO, METHODS

EACH = pytest.mark.parametrize("method", METHODS)


def beale(x):
    """Beale's function: minimum 0 at (3, ½)."""
    return sum((c - x[0] * (1 - x[1] ** k)) ** 2 for k, c in ((1, 1.5), (2, 2.25), (3, 2.625)))


def beale_slope(x):
    a, b = x
    terms = [(c - a * (1 - b**k), b**k - 1, k * a * b ** (k - 1)) for k, c in ((1, 1.5), (2, 2.25), (3, 2.625))]
    return np.array([sum(2 * r * by_a for r, by_a, _ in terms), sum(2 * r * by_b for r, _, by_b in terms)])


def ill_conditioned(condition=1e4, d=20):
    curvatures = np.geomspace(1, condition, d)
    return (lambda x: 0.5 * float(curvatures @ (x * x))), (lambda x: curvatures * x)


class Counted:
    def __init__(self, function):
        self.function, self.calls = function, 0

    def __call__(self, x):
        self.calls += 1
        return self.function(x)


# ----------------------------------------------------------------------------------------------------- where it arrives


@pytest.mark.one_build
@EACH
@pytest.mark.parametrize("numerical", [False, True])
@pytest.mark.parametrize(
    ("f", "grad", "start", "end"),
    [
        (lambda x: float(x @ x), lambda x: 2 * x, [3.0, -4.0], [0.0, 0.0]),
        (beale, beale_slope, [1.0, 1.0], [3.0, 0.5]),
        (lambda x: float(x[0] - np.log(x[0])), lambda x: 1 - 1 / x, [0.001], [1.0]),
        (lambda x: float(np.sum(np.cosh(x - 2))), lambda x: np.sinh(x - 2), [9.0, -5.0], [2.0, 2.0]),
    ],
)
@pytest.mark.filterwarnings("ignore:invalid value encountered in log:RuntimeWarning")
def test_minima_are_reached_without_a_rate(f, grad, start, end, numerical, method):
    result = gradient_descent(f, start, lr=method, step_num=2000, tol=1e-6, grad=None if numerical else grad)
    assert result.status == Status.CONVERGED
    np.testing.assert_allclose(result.x, end, atol=1e-5)
    assert result.fun == f(result.x)


@pytest.mark.one_build
@pytest.mark.parametrize("grad", [rosen_der, None])
def test_auto_on_a_function_reaches_the_minimum_of_rosenbrock(grad):
    result = gradient_descent(rosen, [-1.2, 1.0], lr="auto", step_num=1000, tol=1e-6, grad=grad)
    assert result.success
    np.testing.assert_allclose(result.x, [1.0, 1.0], atol=1e-5)
    named = gradient_descent(rosen, [-1.2, 1.0], lr=AUTO, step_num=1000, tol=1e-6, grad=grad)
    assert named.x.tolist() == result.x.tolist()


@pytest.mark.one_build
@pytest.mark.parametrize("unit", [1e-6, 1e-3, 1e3, 1e6])
@pytest.mark.parametrize("size", [1e-6, 1.0, 1e6])
def test_units_do_not_matter_much(unit, size):
    f, grad = ill_conditioned(100.0, 5)

    def slope(x):
        return size / unit * grad(x / unit)

    result = gradient_descent(lambda x: size * f(x / unit), np.full(5, unit), lr="auto", step_num=500, grad=slope)
    assert result.fun <= 1e-12 * size * f(np.ones(5))


@pytest.mark.one_build
def test_barzilai_and_borwein_need_far_fewer_steps_where_curvatures_differ():
    f, grad = ill_conditioned()
    options = {"step_num": 3000, "tol": 1e-6, "grad": grad}
    steps = {method: gradient_descent(f, np.ones(20), lr=method, **options).nit for method in METHODS}
    assert AUTO == "bb"
    assert steps["bb"] < 1000
    assert steps["armijo"] == steps["adgd"] == 3000


# ------------------------------------------------------------------------------------------------------------ the rules


@pytest.mark.one_build
def test_armijo_takes_only_steps_that_lower_the_value_enough():
    history = gradient_descent(rosen, [-1.2, 1.0], lr="armijo", step_num=200, grad=rosen_der, history=True).history
    promised = 1e-4 * history.lr * history.grad_norm[:-1] ** 2
    assert np.all(np.diff(history.fun) <= -promised + 1e-12 * history.fun[:-1])


@pytest.mark.one_build
def test_barzilai_and_borwein_rise_now_and_then_but_not_above_the_last_ten():
    fun = gradient_descent(rosen, [-1.2, 1.0], lr="bb", step_num=100, grad=rosen_der, history=True).history.fun
    assert np.any(np.diff(fun) > 0)
    for step in range(1, len(fun)):
        assert fun[step] <= max(fun[max(0, step - 10) : step])


@pytest.mark.one_build
def test_barzilai_and_borwein_lengths_are_the_two_of_the_paper():
    h = gradient_descent(*ill_conditioned(30.0, 4)[:1], np.ones(4), lr="bb", step_num=30, history=True,
                         grad=ill_conditioned(30.0, 4)[1]).history  # fmt: skip
    g = h.x * np.geomspace(1, 30.0, 4)
    s, y = np.diff(h.x, axis=0), np.diff(g, axis=0)
    long = np.sum(s * s, axis=1) / np.sum(s * y, axis=1)
    short = np.sum(s * y, axis=1) / np.sum(y * y, axis=1)
    taken = 0
    for step in range(1, len(h.lr)):
        lengths = [long[step - 1], *short[max(0, step - 5) : step]]
        taken += np.any(np.isclose(h.lr[step], lengths, rtol=1e-9))
    assert taken >= len(h.lr) - 6  # the others are those that were shortened


@pytest.mark.one_build
def test_adgd_is_the_rule_of_the_paper():
    h = gradient_descent(rosen, [-1.2, 1.0], lr="adgd", step_num=60, grad=rosen_der, history="x").history
    slopes = np.array([rosen_der(x) for x in h.x])
    rate, growth = h.lr[0], np.inf
    for step in range(1, len(h.lr)):
        moved = np.linalg.norm(h.x[step] - h.x[step - 1])
        expected = min(growth * rate, moved / (2 * np.linalg.norm(slopes[step] - slopes[step - 1])))
        np.testing.assert_allclose(h.lr[step], expected, rtol=1e-9)
        growth, rate = np.sqrt(1 + expected / rate), expected


@pytest.mark.one_build
@EACH
@pytest.mark.parametrize("numerical", [False, True])
@pytest.mark.parametrize("history", [False, True])
def test_evaluations_are_counted_as_they_happen(method, numerical, history):
    f, grad = Counted(rosen), Counted(rosen_der)
    result = gradient_descent(
        f, [-1.2, 1.0], lr=method, step_num=25, history=history, grad=None if numerical else grad
    )  # fmt: skip
    assert f.calls == result.nfev
    assert (grad.calls if not numerical else result.njev) == result.njev == 26
    if method == "adgd" and not history:
        # The value at the end, and that at the start because a step went over the valley.
        assert result.nfev == (26 * 4 if numerical else 0) + 2


def test_objectives_by_name_stay_in_their_own_columns():
    rng = np.random.default_rng(0)
    X = rng.standard_normal((50, 3)) * [1.0, 3.0, 10.0]
    o = LinearObjective(X, X @ [1.0, -2.0, 0.5], loss="mse", fit_intercept=True)
    for method in METHODS:
        result = gradient_descent(o, lr=method, step_num=3000, tol=1e-6, history=True)
        assert result.status == Status.CONVERGED, method
        np.testing.assert_allclose(result.x, [1.0, -2.0, 0.5, 0.0], atol=0.02)
        step = 3
        moved = result.history.x[step] - result.history.lr[step] * o.gradient(result.history.x[step])
        np.testing.assert_allclose(result.history.x[step + 1], moved, rtol=1e-12)


def test_objectives_of_float32():
    rng = np.random.default_rng(1)
    X = rng.standard_normal((60, 2)).astype(np.float32)
    o = LinearObjective(
        X, (X[:, 0] + 0.5 * rng.standard_normal(60) > 0).astype(float), activation="sigmoid", loss="log"
    )
    double = LinearObjective(o.X.astype(float), o.y, activation="sigmoid", loss="log")
    least = gradient_descent(double, lr="bb", tol=1e-12, step_num=10_000).fun
    result = gradient_descent(o, lr="bb", step_num=500, tol=1e-6)
    assert result.x.dtype == np.float32
    assert result.success
    assert double.value(result.x) <= least * (1 + 1e-5)


# ------------------------------------------------------------------------------------------------------------ the floor


@pytest.mark.one_build
@EACH
def test_the_minimum_as_a_start_is_kept(method):
    result = gradient_descent(lambda x: float(x @ x), [0.0, 0.0], lr=method, step_num=10)
    assert (result.status, result.nit, result.x.tolist()) == (Status.CONVERGED, 0, [0.0, 0.0])


@pytest.mark.one_build
@pytest.mark.parametrize("method", ["bb", "armijo"])
@pytest.mark.parametrize("tol", [None, 1e-12])
def test_rounding_is_a_floor(method, tol):
    # With a constant beside it the value has no digits below 1e-10, where x is 1e-5 and the gradient 2e-5.
    result = gradient_descent(lambda x: float(x @ x) + 1e6, [1.0, 2.0], lr=method, step_num=500, tol=tol)
    assert result.status == (Status.CONVERGED if tol is None else Status.STALLED)
    assert result.success is (tol is None)
    assert tol is None or "f is not precise enough to tell whether tol = 1e-12 is met" in result.message
    assert result.nit < 200
    np.testing.assert_allclose(result.x, 0, atol=1e-3)


@pytest.mark.one_build
@pytest.mark.parametrize("method", ["bb", "armijo"])
@pytest.mark.parametrize("wrong", [lambda g: -g, lambda g: g * [1, -1], lambda g: g[::-1].copy()])
def test_a_gradient_that_is_wrong_is_said_to_be_wrong(method, wrong):
    result = gradient_descent(rosen, [-1.2, 1.0], lr=method, step_num=500, tol=1e-8, grad=lambda x: wrong(rosen_der(x)))
    assert result.status == Status.NO_WAY_DOWN and not result.success
    assert "check_gradient" in result.message


@pytest.mark.one_build
@EACH
def test_a_value_that_falls_without_end_is_a_divergence(method):
    with pytest.raises(DivergenceError, match="diverged at step"):
        gradient_descent(lambda x: -float(x @ x), [1.0, 2.0], lr=method, step_num=5000, grad=lambda x: -2 * x)


@pytest.mark.one_build
@EACH
def test_where_f_has_no_value_steps_are_shortened(method):
    def f(x):
        return float(x[0] - np.log(x[0])) if x[0] > 0 else np.nan

    result = gradient_descent(f, [50.0], lr=method, step_num=2000, tol=1e-5)
    np.testing.assert_allclose(result.x, 1.0, atol=1e-4)


@EACH
def test_bounds_and_penalties_hold(method):
    def f(x):
        return 0.5 * float((x - 2) @ (x - 2))

    options = {"lr": method, "step_num": 500, "tol": 1e-9, "grad": lambda x: x - 2}
    result = gradient_descent(f, [0.5, 0.0], bounds=([0.0, 0.0], [1.0, 9.0]), **options)
    np.testing.assert_allclose(result.x, [1.0, 2.0], atol=1e-8)
    assert result.success
    # ½(x − 2)² + 3|x| and ½(x − 2)² + |x| are lowest at 0 and at 1.
    assert gradient_descent(f, [1.0, -1.0], l1=3.0, **options).x.tolist() == [0.0, 0.0]
    np.testing.assert_allclose(gradient_descent(f, [1.0, -1.0], l1=1.0, **options).x, [1.0, 1.0], atol=1e-8)


@pytest.mark.one_build
@EACH
def test_what_does_not_go_with_it_is_refused(method):
    o = LinearObjective([[1.0], [2.0]], [1.0, 2.0])
    with pytest.raises(ValueError, match='optimizer="gd"; got Adam'):
        gradient_descent(rosen, [-1.2, 1.0], lr=method, optimizer="adam")
    with pytest.raises(ValueError, match="leave out batch_size"):
        gradient_descent(o, lr=method, batch_size=1)
    with pytest.raises(ValueError, match="leave out solver"):
        gradient_descent(o, lr=method, solver="preconditioned")


@pytest.mark.one_build
def test_a_name_that_is_none():
    with pytest.raises(ValueError, match="'auto', 'bb', 'armijo', 'adgd'"):
        gradient_descent(rosen, [-1.2, 1.0], lr="fast")


def test_a_run_that_comes_closer_than_squares_can_tell_ends_well():
    result = gradient_descent(lambda x: float(x @ x), [-3.0, 4.0], lr="adgd", grad=lambda x: 2 * x, step_num=3000)
    assert result.success and 0 <= result.fun < 1e-200
