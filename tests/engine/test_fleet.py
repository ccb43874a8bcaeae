"""Many runs that take each step together: each is the run that it would be alone, and ends once, as it should."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from fastgd import DivergenceError, Status, gradient_descent, optimizers
from fastgd.engine.fleet import Fleet

pytestmark = pytest.mark.one_build

SCALES = np.array([1.0, 3.0])


class Bowls:
    """½·Σ scales·x², as a fleet asks for it, with what it has asked and how its runs have ended."""

    def __init__(self, count, gives_values=True, on=()):
        self.gives_values, self.asked, self.valued, self.ended, self.on = gives_values, [], [], [None] * count, on

    def evaluate(self, points, runs):
        self.asked.append(runs.tolist())
        values = 0.5 * np.sum(SCALES * points**2, axis=1) if self.gives_values else None
        return values, SCALES * points

    def values(self, points, runs):
        self.valued.append(runs.tolist())
        return 0.5 * np.sum(SCALES * points**2, axis=1)

    def end(self, run, ending):
        if ending.why == "near" and run in self.on:
            self.on = [other for other in self.on if other != run]
            return False
        assert self.ended[run] is None, "a run ends once"
        self.ended[run] = ending
        return None

    def descend(self, points, rates, limit, **options):
        points = np.array(points, float)
        values = None if self.gives_values else self.values
        fleet = Fleet(points, self.evaluate, values, rates, self.end, **options)
        fleet.descend(limit)
        assert all(ending is not None for ending in self.ended)
        return fleet


def bowl(x):
    return 0.5 * float(np.sum(SCALES * x**2))


def slope(x):
    return SCALES * x


STARTS = np.array([[1.0, 2.0], [-3.0, 0.5], [10.0, -20.0], [4.0, -0.5]])
RULES = ["gd", "momentum", "nesterov", "adagrad", "adadelta", "rmsprop", "adam", "adamax", "nadam", "amsgrad"]


@pytest.mark.parametrize("gives_values", [True, False])
@pytest.mark.parametrize("rule", RULES)
def test_each_run_is_the_one_it_is_alone(rule, gives_values):
    bowls = Bowls(4, gives_values)
    bowls.descend(STARTS, lambda step, runs: 0.1 / (1 + step), 12, rule=optimizers.get(rule))
    for start, ending in zip(STARTS, bowls.ended, strict=True):
        alone = gradient_descent(bowl, start, grad=slope, lr=lambda step: 0.1 / (1 + step), step_num=12, optimizer=rule)
        assert_allclose(ending.x, alone.x, rtol=1e-13)
        assert_allclose(ending.gradient, alone.jac, rtol=1e-13)
        assert (ending.why, ending.step, ending.first_fun) == ("limit", 12, bowl(start))
        assert ending.lr == pytest.approx(0.1 / 12)
        assert ending.fun is None or ending.fun == pytest.approx(alone.fun, rel=1e-12)
    assert bowls.asked == 13 * [[0, 1, 2, 3]]


def test_each_run_has_a_rate_of_its_own():
    rates = np.array([0.1, 0.2, 0.3, 0.05])
    bowls = Bowls(4)
    bowls.descend(STARTS, lambda step, runs: rates[runs], 7)
    for start, rate, ending in zip(STARTS, rates, bowls.ended, strict=True):
        assert_allclose(ending.x, start * (1 - rate * SCALES) ** 7, rtol=1e-13)
        assert ending.lr == rate


@pytest.mark.parametrize("rule", [rule for rule in RULES if rule != "adadelta"])  # whose first steps are tiny
def test_runs_that_have_ended_take_no_part_and_the_state_of_the_others_is_theirs(rule):
    bowls = Bowls(4)

    def near(runs, values, norms):
        return norms <= 0.5

    starts = np.array([[0.4, 0.2], [0.6, -0.4], [9.0, 9.0], [1e-3, 0.0]])
    bowls.descend(starts, lambda step, runs: 0.05, 60, rule=optimizers.get(rule), near=near)
    ends = [ending.step for ending in bowls.ended]
    assert ends[3] == 0 and len(set(ends)) > 2
    for start, ending in zip(starts, bowls.ended, strict=True):
        alone = gradient_descent(bowl, start, grad=slope, lr=0.05, step_num=60, optimizer=rule, tol=0.5)
        assert ending.step == alone.nit
        assert (ending.why == "near") is (alone.status is Status.CONVERGED)
        assert_allclose(ending.x, alone.x, rtol=1e-13)
    for step, asked in enumerate(bowls.asked):
        assert asked == [run for run in range(4) if ends[run] >= step]


def test_a_run_that_is_near_may_be_sent_on():
    bowls = Bowls(2, on=[0, 0, 1])
    bowls.descend(STARTS[:2], lambda step, runs: 0.3, 50, near=lambda runs, values, norms: norms < 1e-2)
    alone = [gradient_descent(bowl, x, grad=slope, lr=0.3, step_num=50, tol=1e-2).nit for x in STARTS[:2]]
    assert [ending.why for ending in bowls.ended] == ["near", "near"]
    assert [ending.step for ending in bowls.ended] == [alone[0] + 1, alone[1] + 1]


def test_a_run_that_overshoots_leaves_and_the_others_go_on():
    rates = np.array([0.1, 0.9, 0.5])
    for gives_values in (True, False):
        bowls = Bowls(3, gives_values)
        bowls.descend(STARTS[:3], lambda step, runs: rates[runs], 100)
        assert [ending.why for ending in bowls.ended] == ["limit", "overshooting", "limit"]
        with pytest.raises(DivergenceError) as raised:
            gradient_descent(bowl, STARTS[1], grad=slope, lr=0.9, step_num=100)
        assert f"at step {bowls.ended[1].step} " in str(raised.value)
        assert_allclose(bowls.ended[1].x, raised.value.result.x, rtol=1e-13)
        assert_allclose(bowls.ended[0].x, STARTS[0] * (1 - 0.1 * SCALES) ** 100, rtol=1e-10, atol=1e-30)


def test_a_run_that_leaves_the_floats_ends_at_its_last_finite_point():
    def evaluate(points, runs):
        return np.sum(points**2, axis=1), np.where(points > 3, np.inf, -1.0)

    ended = {}
    points = np.array([[0.0], [-5.0]])
    Fleet(points, evaluate, None, lambda step, runs: 1.0, ended.__setitem__).descend(6)
    assert (ended[0].why, ended[0].step, ended[0].x.tolist(), ended[0].fun) == ("not finite", 4, [3.0], 9.0)
    assert (ended[1].why, ended[1].step, ended[1].x.tolist()) == ("limit", 6, [1.0])


@pytest.mark.parametrize("bad", ["value", "gradient", "point"])
def test_a_start_that_is_not_finite_ends_there(bad):
    def evaluate(points, runs):
        values, gradients = np.sum(points**2, axis=1), 2 * points
        if bad == "value":
            values[points[:, 0] == 7] = np.nan
        if bad == "gradient":
            gradients[points[:, 0] == 7] = np.inf
        return values, gradients

    ended = {}
    points = np.array([[1.0], [np.nan if bad == "point" else 7.0], [2.0]])
    Fleet(points, evaluate, None, lambda step, runs: 0.25, ended.__setitem__).descend(3)
    assert (ended[1].why, ended[1].step, ended[1].lr) == ("start", 0, None)
    assert [ended[run].x.tolist() for run in (0, 2)] == [[0.125], [0.25]]


def test_values_are_asked_for_once_at_the_starts_before_any_gradient_and_where_a_run_may_diverge():
    bowls, order = Bowls(2, gives_values=False), []
    values, evaluate = bowls.values, bowls.evaluate
    bowls.values = lambda *a: order.append("values") or values(*a)
    bowls.evaluate = lambda *a: order.append("gradients") or evaluate(*a)
    bowls.descend(STARTS[:2], lambda step, runs: np.array([0.1, 0.9])[runs], 30)
    assert order[:2] == ["values", "gradients"]
    assert bowls.valued == [[0, 1], [1]]


def test_points_stay_within_bounds_from_the_start_on():
    low, high = np.array([0.5, -2.0]), np.array([3.0, 2.0])
    bowls, trace = Bowls(4), []
    clip = lambda x: np.clip(x, low, high, out=x)  # noqa: E731
    bowls.descend(STARTS, lambda step, runs: 0.1, 40, clip=clip, trace=trace)
    for start, ending in zip(STARTS, bowls.ended, strict=True):
        alone = gradient_descent(bowl, start, grad=slope, lr=0.1, step_num=40, bounds=(low, high))
        assert_allclose(ending.x, alone.x, rtol=1e-13)
    assert all(np.all((x >= low) & (x <= high)) for _, x, *_ in trace)


def test_a_trace_has_each_point_before_its_step():
    bowls, trace = Bowls(2), []
    bowls.descend(STARTS[:2], lambda step, runs: 0.1 * (step + 1), 3, trace=trace)
    assert len(trace) == 3
    for step, (runs, x, values, norms, rates) in enumerate(trace):
        assert runs.tolist() == [0, 1] and rates.tolist() == [0.1 * (step + 1)] * 2
        expected = STARTS[:2] * np.prod([1 - 0.1 * (t + 1) * SCALES for t in range(step)], axis=0)
        assert_allclose(x, expected, rtol=1e-14)
        assert_allclose(values, 0.5 * np.sum(SCALES * x**2, axis=1), rtol=1e-15)
        assert_allclose(norms, np.linalg.norm(SCALES * x, axis=1), rtol=1e-15)


def test_no_step_at_all():
    bowls = Bowls(4)
    bowls.descend(STARTS, None, 0)
    assert [(ending.why, ending.step, ending.lr) for ending in bowls.ended] == 4 * [("limit", 0, None)]
    assert_array_equal([ending.x for ending in bowls.ended], STARTS)


def test_float32_points_stay_float32():
    ended = {}

    def evaluate(points, runs):
        return np.sum(points**2, axis=1, dtype=np.float64), 2.0 * points.astype(np.float64)

    points = np.ones((2, 3), np.float32)
    Fleet(points, evaluate, None, lambda step, runs: 0.1, ended.__setitem__).descend(2)
    x = np.float32(1)
    for _ in range(2):
        x = x - np.float32(0.1) * (np.float32(2) * x)
    assert ended[0].x.dtype == ended[0].gradient.dtype == np.float32
    assert ended[0].x.tolist() == [float(x)] * 3
