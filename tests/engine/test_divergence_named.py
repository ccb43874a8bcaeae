"""Divergence: what is one, what is none, and what the error says."""

import copy
import itertools
import pickle

import numpy as np
import pytest
from descent_problems import ellipse, ellipse_slope, least_squares, problem, sum_of_squares, twice
from scipy.optimize import rosen, rosen_der

from fastgd import DivergenceError, LinearObjective, Status, gradient_descent


@pytest.mark.parametrize("factor", [1.02, 1.1, 2.0, 10.0, 1e10])
@pytest.mark.parametrize("numerical", [False, True])
def test_a_rate_above_two_over_L_is_named_on_a_function(factor, numerical):
    lr = factor * 2 / 4
    with pytest.raises(DivergenceError) as raised:
        gradient_descent(
            ellipse, [1.0, 0.01], lr, 2000, grad=None if numerical else ellipse_slope, history=True
        )  # fmt: skip
    error = raised.value
    assert isinstance(error, ArithmeticError)
    assert error.lr == lr
    assert f"step {error.step} with learning rate {lr:.6g}" in str(error)
    assert error.stable_lr == pytest.approx(0.5, rel=0.1)
    assert f"{error.stable_lr:.3g}" in str(error)
    assert error.result.status is Status.DIVERGED
    assert not error.result.success
    assert np.all(np.isfinite(error.result.x))
    assert error.result.fun == ellipse(error.result.x)
    assert np.all(np.isfinite(error.result.history.x))
    # It is noticed early: the gradient grows by 2·factor − 1 a step, and a factor of 100 is no bounce any more.
    assert error.step <= 10 + 1.1 * np.log(100) / np.log(2 * factor - 1)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("factor", [1.02, 1.5, 10.0, 1e10, 1e30])
def test_a_rate_above_two_over_L_is_named_on_an_objective(factor, dtype):
    for k, loss in itertools.product((None, 2), ("sse", "mse")):
        o = problem(dtype=dtype, k=k, loss=loss, fit_intercept=True)
        stable = 2 / o.lipschitz()
        with pytest.raises(DivergenceError, match='lr="auto"') as raised:
            gradient_descent(o, lr=factor * stable, step_num=3000)
        assert raised.value.stable_lr == pytest.approx(stable, rel=1e-9)
        assert raised.value.lr == factor * stable
        assert np.all(np.isfinite(raised.value.result.x))
        assert raised.value.result.fun == o.value(raised.value.result.x)


@pytest.mark.parametrize("factor", [0.5, 0.9, 0.99, 0.999])
def test_a_rate_just_below_two_over_L_goes_on(factor):
    result = gradient_descent(ellipse, [1.0, 2.0], factor * 0.5, 200, grad=ellipse_slope)
    assert result.fun < ellipse([1.0, 2.0])
    np.testing.assert_allclose(result.x, [(1 - 2 * factor) ** 200, 2 * (1 - factor / 2) ** 200], rtol=1e-9, atol=1e-300)
    for dtype in (np.float64, np.float32):
        o = problem(dtype=dtype, fit_intercept=True)
        result = gradient_descent(o, lr=factor * 2 / o.lipschitz(), step_num=20_000, tol=1e-5)
        assert result.success
        best = o.value(least_squares(o))
        assert result.fun <= best * (1 + 1e-4)


def test_the_largest_stable_rate_that_is_named_is_stable():
    with pytest.raises(DivergenceError) as raised:
        gradient_descent(ellipse, [1.0, 0.01], 5.0, 100)
    lr = 0.9 * raised.value.stable_lr
    assert gradient_descent(ellipse, [1.0, 0.01], lr, 500).fun < 1e-6


def test_a_short_run_that_ends_higher_is_named_too():
    o = problem()
    with pytest.raises(DivergenceError, match="at step 2"):
        gradient_descent(o, np.ones(3), lr=3 / o.lipschitz() * 2, step_num=2)


def test_overflow_is_a_divergence_whatever_the_error_state():
    with np.errstate(all="raise"):
        for o, lr in itertools.product((problem(), problem(dtype=np.float32)), (1.0, 1e30, 1e200)):
            with pytest.raises(DivergenceError):
                gradient_descent(o, lr=lr, step_num=500, history=True)
        with pytest.raises(DivergenceError):
            gradient_descent(lambda x: x[0] ** 4, [10.0], lr=1.0, step_num=50)
        for lr in (0.001, "auto"):
            for activation in ("identity", "sigmoid", "tanh"):
                o = problem(activation=activation, fit_intercept=True)
                gradient_descent(o, np.full(4, 500.0), lr=lr, step_num=50, tol=1e-9)


@pytest.mark.parametrize("lr", [1e-3, 2e-3])
def test_rosenbrock_is_no_divergence(lr):
    for start in ([-1.2, 1.0], [0.0, 0.0], [-1.0, 1.0]):
        for step_num in (1, 2, 3, 5, 8, 13, 21, 400):
            result = gradient_descent(rosen, start, lr, step_num, grad=rosen_der)
            assert result.nit == step_num
            if lr == 1e-3 or step_num == 400:  # at 2e-3 the first steps may go up
                assert result.fun <= rosen(np.array(start))


@pytest.mark.parametrize("activation", ["sigmoid", "tanh"])
def test_plateaus_are_no_divergence(activation):
    # Saturated: the gradient is next to nothing, then grows by powers of ten on the way down.
    for start, rate in itertools.product((3.0, 12.0, 700.0), (0.2, 0.9)):
        o = LinearObjective([[1.0], [-1.0], [2.0]], [0.0, 0.7, 0.1], activation=activation, loss="mse")
        result = gradient_descent(o, [start], lr=rate * 2 / o.lipschitz(), step_num=1500)
        assert result.fun <= o.value([start])
    hill = gradient_descent(lambda x: -np.exp(-(x[0] ** 2)), [4.0], lr=0.5, step_num=3000)
    assert hill.nit == 3000


def test_bouncing_around_a_minimum_is_no_divergence():
    # |x| with a fixed step ends in a bounce between two points, as the textbook draws it.
    result = gradient_descent(lambda x: abs(float(x[0])), [0.95], lr=0.3, step_num=101, grad=np.sign)
    assert abs(result.x[0]) <= 0.3
    exact = gradient_descent(ellipse, [1.0, 2.0], 0.5, 100, grad=ellipse_slope, history=True)
    assert exact.history.x[:, 0].tolist() == [(-1.0) ** i for i in range(101)]


def test_one_leap_over_a_valley_is_no_divergence():
    # From a plane of slope 0.01 into a parabola: the gradient turns and grows a hundredfold, once.
    result = gradient_descent(
        lambda x: 0.0, [-0.5], lambda step: 160.0 if step == 0 else 0.5, 30, grad=lambda x: np.where(x < 0, -0.01, x)
    )
    assert 0 < result.x[0] < 1e-6


def test_a_rate_that_is_too_large_only_at_first_is_no_divergence():
    # Ten steps away from the minimum, each 1.2 times as far as the last, and then towards it.
    result = gradient_descent(
        ellipse, [1.0, 0.01], lambda step: 0.55 if step < 10 else 0.4, 200, grad=ellipse_slope, history=True
    )  # fmt: skip
    assert result.history.fun[10] > 30 * result.history.fun[0]
    assert result.fun < 1e-30


def test_an_end_that_is_not_finite_is_a_divergence_and_a_start_is_an_error():
    with pytest.raises(DivergenceError, match="no longer finite") as raised:
        gradient_descent(sum_of_squares, [1.0], 0.1, 10, grad=lambda x: 2 * x if x[0] > 0.7 else x * np.nan)
    assert raised.value.step == 2
    assert raised.value.stable_lr is None
    assert raised.value.result.x[0] == pytest.approx(0.8)
    with pytest.raises(ValueError, match=r"the gradient is not finite at the start, x = \[1\.\]"):
        gradient_descent(sum_of_squares, [1.0], grad=lambda x: x * np.nan)
    with pytest.raises(ValueError, match=r"the gradient is not finite at the start"):
        gradient_descent(lambda x: np.nan, [1.0])
    with pytest.raises(ValueError, match=r"the value is inf at the start"):
        gradient_descent(lambda x: np.inf, [1.0], grad=twice, history=True)


def test_stochastic_gradients_are_no_divergence():
    rng = np.random.default_rng(0)
    for step_num in range(10, 40):
        gradient_descent(sum_of_squares, [1.0], 0.01, step_num, grad=lambda x: 2 * x + rng.standard_normal(1))


def test_a_run_that_ends_lower_is_not_said_to_end_higher():
    # ½(uv − 1)²: a steep start, a few bounces, and then a flat valley. After two steps it is at 0.07, from 23.5.
    start, lr = np.array([-3.29735719, 1.77659007]), 0.2525064426041798

    def f(x):
        return 0.5 * (x[0] * x[1] - 1) ** 2

    result = gradient_descent(f, start, lr, 2, grad=lambda x: (x[0] * x[1] - 1) * x[::-1])
    assert result.fun < f(start)


@pytest.mark.parametrize("start", [[1.0, 2.0], [0.1, 1.0], [0.03, 1.0]])
def test_the_stable_rate_is_within_ten_percent_from_any_start(start):
    with pytest.raises(DivergenceError) as raised:
        gradient_descent(ellipse, start, 5.0, 100, grad=ellipse_slope)
    assert raised.value.stable_lr == pytest.approx(0.5, rel=0.1)


def test_a_rate_of_zero_is_no_trouble_where_gradients_are_noisy():
    rng = np.random.default_rng(0)
    result = gradient_descent(sum_of_squares, [1.0], 0.0, 50, grad=lambda x: rng.standard_normal(1))
    assert result.x.tolist() == [1.0]


def test_a_divergence_survives_pickle_and_copy():
    with pytest.raises(DivergenceError) as raised:
        gradient_descent(ellipse, [1.0, 2.0], 5.0, 100)
    for twin in (copy.copy(raised.value), pickle.loads(pickle.dumps(raised.value))):
        assert str(twin) == str(raised.value)
        assert (twin.step, twin.lr, twin.stable_lr) == (raised.value.step, raised.value.lr, raised.value.stable_lr)
