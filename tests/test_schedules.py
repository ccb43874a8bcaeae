"""Schedules against torch's, closed forms, and in the loop."""

import json
import math
import pickle
from pathlib import Path

import numpy as np
import pytest

from fastgd import LinearObjective, gradient_descent, schedules

pytestmark = pytest.mark.one_build
TORCH = json.loads((Path(__file__).parent / "data" / "torch_optim.json").read_text())


@pytest.mark.parametrize("call", TORCH["schedules"])
def test_as_torch(call):
    name, _, arguments = call.partition("(")
    schedule = eval(f"make({arguments}", {"make": getattr(schedules, name)})
    np.testing.assert_allclose([schedule(step) for step in range(40)], TORCH["schedules"][call], rtol=1e-12, atol=1e-17)


@pytest.mark.parametrize("case", TORCH["plateaus"], ids=lambda case: str(case["options"]))
def test_plateau_as_torch(case):
    options = {"end" if name == "min_lr" else name: value for name, value in case["options"].items()}
    schedule = schedules.plateau(0.5, **options)
    rates = []
    for step, loss in enumerate(TORCH["losses"]):
        schedule.observe(loss)
        rates.append(schedule(step))
    np.testing.assert_allclose(rates, case["rates"], rtol=1e-14)
    assert min(rates) < 0.5


@pytest.mark.parametrize(
    "schedule, values",
    [
        (schedules.constant(0.3), {0: 0.3, 7: 0.3, 10**9: 0.3}),
        (schedules.step_decay(1.0, 10, 0.5), {0: 1, 9: 1, 10: 0.5, 35: 0.125}),
        (schedules.exponential_decay(2.0, 0.25, 10), {0: 2, 5: 1, 10: 0.5, 20: 0.125}),
        (schedules.inverse_time_decay(1.0, 0.5), {0: 1, 2: 0.5, 6: 0.25}),
        (schedules.inverse_time_decay(1.0, 3.0, 0.5), {0: 1, 1: 0.5, 5: 0.25}),
        (schedules.polynomial_decay(1.0, 10, 0.2), {0: 1, 5: 0.6, 10: 0.2, 99: 0.2}),
        (schedules.polynomial_decay(1.0, 10, power=2), {0: 1, 5: 0.25, 10: 0}),
        (schedules.cosine_decay(1.0, 100), {0: 1, 25: 0.5 + math.sqrt(0.125), 50: 0.5, 100: 0, 1000: 0}),
        (schedules.cosine_decay(1.0, 100, 0.5), {0: 1, 50: 0.75, 100: 0.5}),
        (schedules.one_cycle(1.0, 101, 0.5, 10.0, 100.0), {49.5: 1, 0: 0.1, 24.75: 0.55, 100: 1e-3, 1000: 1e-3}),
        (schedules.one_cycle(1.0, 11, 0.0), {0: 1, 5: (1 + 4e-6) / 2, 10: 4e-6}),
        (schedules.warmup(0.4, 4), {0: 0, 1: 0.1, 3: 0.3, 4: 0.4, 50: 0.4}),
        (schedules.warmup(schedules.step_decay(1.0, 2, 0.5), 5, 0.5), {0: 0.5, 4: 0.9, 5: 1, 6: 1, 7: 0.5, 9: 0.25}),
        (schedules.warmup(lambda step: 1 / (1 + step), 0), {0: 1, 1: 0.5}),
        (schedules.warmup(schedules.warmup(1.0, 2), 2), {0: 0, 1: 0, 2: 0, 3: 0.5, 4: 1}),
    ],
)
def test_closed_forms(schedule, values):
    for step, rate in values.items():
        assert math.isclose(schedule(step), rate, rel_tol=1e-12, abs_tol=1e-16), step


@pytest.mark.parametrize(
    "name, arguments, message",
    [
        ("constant", (-1,), "lr must be finite and at least 0"),
        ("constant", ("fast",), "lr must be a real number"),
        ("step_decay", (1, 0), "every must be at least 1"),
        ("step_decay", (1, 10, 2), "factor must be from 0 to 1; got 2.0"),
        ("step_decay", (1, 2.5), "every must be an integer"),
        ("exponential_decay", (1, -0.5), "factor must be finite and at least 0"),
        ("inverse_time_decay", (1, -1), "decay must be finite and at least 0"),
        ("polynomial_decay", (1, 0), "steps must be at least 1"),
        ("polynomial_decay", (1, 10, -1), "end must be finite and at least 0"),
        ("cosine_decay", (1, 10, math.nan), "end must be finite"),
        ("one_cycle", (1, 1), "steps must be at least 2"),
        ("one_cycle", (1, 10, 2), "rise must be a share"),
        ("one_cycle", (1, 10, 0.3, 0), "start must be finite and positive"),
        ("warmup", (-1, 10), "schedule must be finite and at least 0"),
        ("warmup", (None, 10), "schedule must be a real number"),
        ("warmup", (1, -1), "steps must be at least 0"),
        ("plateau", (1, 1), "factor must be below 1"),
        ("plateau", (1, 0.5, -1), "patience must be at least 0"),
    ],
)
def test_arguments_that_make_no_sense(name, arguments, message):
    with pytest.raises((ValueError, TypeError), match=message):
        getattr(schedules, name)(*arguments)


# -------------------------------------------------------------------------------------------------------- in the loop


def test_a_plateau_is_shown_the_value_at_each_point():
    """|x| with a rate of ½ from 0.75: 0.75, 0.25, −0.25, 0.25, −0.25; then the rate falls, and 0 is met."""
    schedule = schedules.plateau(0.5, factor=0.5, patience=2)
    r = gradient_descent(
        lambda x: abs(float(x[0])), [0.75], schedule, 9, grad=lambda x: np.sign(x), history=True
    )  # fmt: skip
    assert r.history.lr.tolist() == [0.5, 0.5, 0.5, 0.5, 0.25, 0.25, 0.25, 0.25, 0.125]
    assert r.history.x.ravel().tolist() == [0.75, 0.25, -0.25, 0.25, -0.25, 0, 0, 0, 0, 0]
    assert schedule.state == (0.5, math.inf, 0.0, 0.0)  # the run worked on a copy


def test_a_plateau_on_an_objective_and_after_epochs():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(64, 2))
    o = LinearObjective(X, X @ [1.0, -1.0] + rng.normal(size=64), loss="mse")
    schedule = schedules.plateau(0.4, factor=0.5, patience=1, threshold=1e-3)
    r = gradient_descent(o, lr=schedule, step_num=60, history=True)
    assert set(r.history.lr) >= {0.4, 0.2}
    assert np.all(np.diff(r.history.lr) <= 0)
    shown, stochastic = [], schedules.plateau(0.2, factor=0.5, patience=1)

    class Watched(schedules.Plateau):
        def observe(self, loss):
            shown.append(loss)
            super().observe(loss)

        def fresh(self):
            return self

    watched = Watched(0.2, 0.5, 1, 1e-4, 0, 0.0)
    r = gradient_descent(o, lr=watched, step_num=40, batch_size=16, history=True, seed=1)  # four steps an epoch
    np.testing.assert_array_equal(shown, r.history.fun[4::4])
    same = gradient_descent(o, lr=stochastic, step_num=40, batch_size=16, seed=1)
    np.testing.assert_array_equal(same.x, r.x)
    assert r.history.lr[-1] < 0.2


def test_a_plateau_after_a_warmup():
    schedule = schedules.warmup(schedules.plateau(1.0, factor=0.5, patience=0), 4)
    rates = []
    for step, loss in enumerate([5, 4, 3, 3, 3, 2]):
        schedule.observe(loss)
        rates.append(schedule(step))
    assert rates == [0.0, 0.25, 0.5, 0.375, 0.25, 0.25]
    assert schedule.fresh()(4) == 1.0
    schedule.state = (0.125, 1.0, 0.0, 0.0)
    assert schedule(9) == 0.125


def test_any_callable_serves_and_is_checked():
    r = gradient_descent(lambda x: float(x @ x), [1.0], lambda step: [0.25, 0.5][step], 2, grad=lambda x: 2 * x)
    assert r.x.tolist() == [0.0]
    for bad in (lambda step: -1.0, lambda step: None, lambda step: math.nan):
        with pytest.raises((TypeError, ValueError), match=r"lr\(0\) must be"):
            gradient_descent(lambda x: float(x @ x), [1.0], bad, 2)


@pytest.mark.parametrize(
    "schedule",
    [
        schedules.constant(0.1),
        schedules.step_decay(0.1, 10),
        schedules.exponential_decay(0.1, factor=0.5),
        schedules.inverse_time_decay(0.1, 0.01),
        schedules.polynomial_decay(1, 10),
        schedules.cosine_decay(0.1, 100, end=0.01),
        schedules.one_cycle(0.1, 100),
        schedules.warmup(schedules.cosine_decay(0.1, 100), 10),
        schedules.warmup(schedules.warmup(schedules.plateau(0.1), 10), 5),
    ],
    ids=repr,
)
def test_schedules_are_pickled(schedule):
    again = pickle.loads(pickle.dumps(schedule))
    assert [again(step) for step in range(30)] == [schedule(step) for step in range(30)]


def test_a_schedule_shows_how_it_was_made():
    assert repr(schedules.warmup(schedules.step_decay(0.1, every=10), 5)) == "warmup(step_decay(0.1, every=10), 5)"
