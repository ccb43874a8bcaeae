"""What f raises, what a run cannot take, and what once went wrong."""

import numpy as np
import pytest
import scipy.optimize
from descent_problems import ellipse, ellipse_slope, problem, sum_of_squares, twice

from fastgd import DivergenceError, LinearObjective, gradient_descent
from fastgd.objective import Function
from fastgd.objective.compressed import Compressed
from fastgd.objective.standardised import Standardised
from fastgd.objective.variables import Columns, OfFunction

# ------------------------------------------------------------------------------------------------- errors and bad input


class OwnError(Exception):
    pass


@pytest.mark.parametrize("error", [OwnError("mine"), ValueError("mine"), TypeError("mine"), FloatingPointError("mine")])
def test_exceptions_of_the_users_functions_arrive_as_they_are(error):
    def failing(*_):
        raise error

    def late(step):
        return 0.1 if step < 2 else failing()

    runs = [
        {"f": failing},
        {"f": sum_of_squares, "grad": failing},
        {"f": sum_of_squares, "callback": failing},
        {"f": sum_of_squares, "lr": late},
        {"f": failing, "grad": twice},
        {"f": problem(d=1), "callback": failing},
    ]
    for arguments in runs:
        with pytest.raises(type(error)) as raised:
            gradient_descent(**{"init_x": [1.0], **arguments})
        assert raised.value is error


def test_grad_may_fill_and_return_one_buffer():
    buffer = np.empty(2)

    def grad(x):
        buffer[:] = ellipse_slope(x)
        return buffer

    kept = []
    result = gradient_descent(ellipse, [1.0, 2.0], 0.1, 5, grad=grad, callback=kept.append)
    np.testing.assert_array_equal(result.x, gradient_descent(ellipse, [1.0, 2.0], 0.1, 5, grad=ellipse_slope).x)
    assert len({tuple(r.jac) for r in kept}) == 5
    # Nor does the buffer hide a divergence, which shows in two gradients side by side.
    steps = []
    for slope in (grad, ellipse_slope):
        with pytest.raises(DivergenceError) as raised:
            gradient_descent(ellipse, [1.0, 2.0], 1.0, 1000, grad=slope)
        steps.append(raised.value.step)
    assert steps[0] == steps[1] < 20


@pytest.mark.parametrize("wrap", [list, tuple, np.float32, lambda g: g.astype(">f8"), lambda g: g[::-1][::-1]])
def test_grad_may_return_anything_that_is_an_array(wrap):
    result = gradient_descent(ellipse, [1.0, 2.0], 0.25, 3, grad=lambda x: wrap(ellipse_slope(x)))
    np.testing.assert_allclose(result.x, [0.0, 2 * 0.75**3], rtol=1e-6)


BAD = [
    ({"f": 3}, TypeError, "f must be callable"),
    ({"init_x": None}, TypeError, "init_x is needed"),
    ({"init_x": "ab"}, TypeError, "init_x must hold real numbers"),
    ({"init_x": [1.0, np.nan]}, ValueError, r"init_x must be finite; init_x\[1\] is nan"),
    ({"init_x": [[1.0], [1.0, 2.0]]}, ValueError, "init_x must be an array of numbers with rows of equal length"),
    ({"lr": -0.1}, ValueError, "lr must be finite and at least 0"),
    ({"lr": np.nan}, ValueError, "lr must be finite"),
    ({"lr": True}, TypeError, "lr must be a real number"),
    ({"lr": None}, TypeError, "lr must be a real number"),
    ({"lr": [0.1]}, TypeError, "lr must be a real number"),
    ({"lr": "fast"}, ValueError, "lr must be a number, a function of the step, or"),
    ({"lr": lambda step: None}, TypeError, r"lr\(0\) must be a real number; got None"),
    ({"lr": lambda step: 0.1 if step < 2 else np.nan}, ValueError, r"lr\(2\) must be finite"),
    ({"lr": lambda step: -0.1}, ValueError, r"lr\(0\) must be finite and at least 0"),
    ({"step_num": 1.5}, TypeError, "step_num must be an integer"),
    ({"step_num": -1}, ValueError, "step_num must be at least 0"),
    ({"step_num": True}, TypeError, "step_num must be an integer"),
    ({"step_num": None}, TypeError, "step_num must be an integer"),
    ({"tol": 0}, ValueError, "tol must be finite and positive"),
    ({"tol": "small"}, TypeError, "tol must be a real number"),
    ({"callback": 3}, TypeError, "callback must be callable"),
    ({"history": 1.5}, TypeError, 'history must be True, False, "x", "fun" or a number of steps; got 1.5'),
    ({"history": 0}, ValueError, "history must be at least 1"),
    ({"history": "y"}, ValueError, "history must be one of 'x', 'fun'"),
    ({"f_tol": 0}, ValueError, "f_tol must be finite and positive"),
    ({"x_tol": -1.0}, ValueError, "x_tol must be finite and positive"),
    ({"target": np.inf}, ValueError, "target must be finite"),
    ({"max_seconds": -1}, ValueError, "max_seconds must be finite and at least 0"),
    ({"verbose": "yes"}, TypeError, "verbose must be an integer"),
    ({"grad": 3}, TypeError, "grad must be callable"),
    ({"grad": lambda x: 1.0}, ValueError, r"grad must return an array of the shape of x, \(2,\); it returned \(\)"),
    ({"grad": lambda x: np.ones((2, 1))}, ValueError, "grad must return an array of the shape of x"),
    ({"grad": lambda x: x * 1j}, TypeError, "what grad returned must hold real numbers"),
    ({"grad": lambda x: ["a", "b"]}, TypeError, "what grad returned must hold real numbers"),
    ({"f": lambda x: None}, TypeError, "f must return one real number; it returned None"),
    ({"f": lambda x: x}, ValueError, "f must return one real number"),
]


@pytest.mark.parametrize("change, error, message", BAD, ids=[f"{i} {', '.join(row[0])}" for i, row in enumerate(BAD)])
def test_bad_input(change, error, message):
    with pytest.raises(error, match=message):
        gradient_descent(**{"f": sum_of_squares, "init_x": [1.0, 2.0], **change})


def test_bad_input_with_an_objective():
    o = problem()
    with pytest.raises(TypeError, match="an objective has its own gradient"):
        gradient_descent(o, grad=twice)
    with pytest.raises(ValueError, match=r"init_x must have shape \(3,\); got \(3, 1\)"):
        gradient_descent(o, np.ones((3, 1)))
    with pytest.raises(ValueError, match=r"init_x must be finite; init_x\[1\] is inf"):
        gradient_descent(o, [1.0, np.inf, 1.0], lr="auto")


@pytest.mark.parametrize("loss", ["hinge", "epsilon_insensitive"])
def test_losses_with_a_kink_take_a_rate_that_shrinks_and_a_number_of_steps(loss):
    """With X the identity matrix each weight goes its own way: to a margin of 1, or into the tube around its target."""
    o = LinearObjective(np.eye(3), [1.0, -1.0, 1.0], loss=loss)
    result = gradient_descent(o, lr=lambda step: 1 / (1 + step), step_num=200)
    distance = np.maximum(1 - o.y * result.x, 0) if loss == "hinge" else np.abs(result.x - o.y) - 0.1
    assert np.all(distance <= 1 / 3)  # no more than the last step that was taken over the kink
    assert result.fun == o.value(result.x) < 0.05
    for arguments in ({"tol": 1e-3}, {"lr": "bb"}, {"lr": "armijo"}, {"lr": "adgd", "tol": 1}):
        with pytest.raises(ValueError, match=f"for loss='{loss}', whose slope jumps: .* or a rate that shrinks"):
            gradient_descent(o, **arguments)
    for arguments in ({"solver": "accelerated"}, {"solver": "gram"}):
        with pytest.raises(ValueError, match=f"loss='{loss}'"):
            gradient_descent(o, **arguments)


@pytest.mark.parametrize("loss", ["hinge", "epsilon_insensitive"])
def test_losses_with_a_kink_are_minimised_without_a_rate(loss):
    o = LinearObjective(np.eye(3), [1.0, -1.0, 1.0], loss=loss)
    for arguments in ({"lr": "auto"}, {"solver": "preconditioned"}, {"lr": "auto", "tol": 1e-3}):
        result = gradient_descent(o, **arguments)
        assert result.success and result.fun == o.value(result.x) <= 1e-12  # the minimum is 0


def test_the_squared_hinge_descends_by_itself():
    X = np.random.default_rng(3).normal(size=(60, 3)) * [1, 100, 0.01]
    y = np.where(X @ [1, -0.01, 50] + 0.3 > 0, 1.0, -1.0)
    o = LinearObjective(X, y, loss="squared_hinge", fit_intercept=True, l2=1e-3)
    units = np.array([1, 0.01, 100, 1])  # of the weights: scipy wants columns of one size

    def value(v):
        w = units * v
        return np.mean(np.maximum(0, 1 - y * (X @ w[:3] + w[3])) ** 2) + 0.5e-3 * np.sum(w[:3] ** 2)

    def slope(v):
        w = units * v
        error = -2 * y * np.maximum(0, 1 - y * (X @ w[:3] + w[3])) / 60
        return units * np.append(X.T @ error + 1e-3 * w[:3], error.sum())

    least = scipy.optimize.minimize(value, np.zeros(4), jac=slope, method="BFGS", options={"gtol": 1e-11}).fun
    for solver in ("auto", "preconditioned", "accelerated"):
        result = gradient_descent(o, solver=solver, tol=1e-12, step_num=50_000)
        assert result.success
        assert result.fun == pytest.approx(least, rel=1e-9)


@pytest.mark.one_build
def test_variables_are_what_the_loops_need():
    names = (
        "objective", "start", "evaluate", "value", "l1_penalty", "subgradient", "to_user", "gradient_to_user", "settle",
        "user_norm", "curvature", "has_bursts", "has_steps", "fun_is_free", "in_user_units", "penalised", "note",
        "nfev", "njev", "passes",
    )  # fmt: skip
    o = problem()
    for variables in (
        OfFunction(Function(ellipse, None, (1,)), [1.0]),
        Columns(o),
        Standardised(o),
        Compressed(Columns(o)),
    ):
        assert [name for name in names if not hasattr(variables, name)] == []


# --------------------------------------------------------------------------------------- what once went wrong


def test_a_schedule_is_asked_for_the_steps_that_are_taken_and_no_more():
    asked = []
    gradient_descent(sum_of_squares, [1.0], lr=lambda step: asked.append(step) or 0.1, step_num=3)
    assert asked == [0, 1, 2]


def test_the_callback_is_called_after_the_last_step_too():
    kept = []
    result = gradient_descent(sum_of_squares, [1.0], 0.25, 100, grad=twice, tol=1e-3, callback=kept.append)
    assert [r.nit for r in kept] == list(range(1, result.nit + 1))


@pytest.mark.parametrize("dtype, mean", [(np.float32, 1e6), (np.float64, 1e15)])
def test_exact_numbers_close_together_are_data(dtype, mean):
    X = (mean + np.tile([0, 1], 10)).astype(dtype).reshape(-1, 1)
    o = LinearObjective(X, np.tile([0.0, 1.0], 10), fit_intercept=True)
    result = gradient_descent(o, lr="auto", tol=1e-6, step_num=1000)
    # y = x − mean, through every point; the intercept has the digits of the type.
    assert result.success and result.fun <= 1e-12
    np.testing.assert_allclose(result.x, [1.0, -mean], rtol=1e-6)


def test_a_large_gradient_is_finite():
    result = gradient_descent(lambda x: 1e160 * float(x[0]), [1.0], lr=1e-170, step_num=1)
    assert result.jac[0] == pytest.approx(1e160)
