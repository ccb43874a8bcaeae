"""Update rules: step by step against torch.optim and exact arithmetic, and their explicit state."""

import json
from pathlib import Path

import mpmath
import numpy as np
import pytest
from kernel_problems import NAMES, close

from fastgd import optimizers

pytestmark = pytest.mark.with_reference

# Written by data/make_torch_optim.py.
TORCH = json.loads((Path(__file__).parent / "data" / "torch_optim.json").read_text())


def steps_along(rule, start, gradients, rates, dtype=np.float64):
    """The points of a rule that is given these gradients, and its state."""
    w = np.array(start, dtype)
    state = rule.init(w)
    points = []
    for g, lr in zip(gradients, rates, strict=True):
        rule.step(w, g, state, lr)
        points.append(w.copy())
    return points, state


# --------------------------------------------------------------------------------------------- values from elsewhere


@pytest.mark.parametrize("name", TORCH["rules"])
def test_step_by_step_as_torch(name):
    found = TORCH["rules"][name]
    rule = optimizers.BY_NAME[name.split(",")[0]](**found["constants"])
    points, state = steps_along(rule, TORCH["start"], TORCH["gradients"], TORCH["rates"])
    close(points, found["points"], 1e-12)
    assert state.step == len(points) == 25
    if "means" in found:
        close(state.moments[0], found["means"][-1], 1e-12)


def test_every_rule_but_nadam_is_held_against_torch():
    assert {name.split(",")[0] for name in TORCH["rules"]} == set(NAMES) - {"nadam"}


def test_nadam_is_dozats_with_a_constant_momentum():
    """Algorithm 2 of Dozat (2016) with μₜ = β₁, in 40 digits."""
    mpmath.mp.dps = 40
    beta1, beta2, eps = map(mpmath.mpf, (0.8, 0.97, 1e-5))
    points, _ = steps_along(
        optimizers.Nadam(0.8, 0.97, 1e-5), TORCH["start"], TORCH["gradients"], TORCH["rates"]
    )  # fmt: skip
    for i, w in enumerate(map(mpmath.mpf, TORCH["start"])):
        m = v = mpmath.mpf(0)
        for t, (g, lr) in enumerate(zip(TORCH["gradients"], TORCH["rates"], strict=True), 1):
            g = mpmath.mpf(g[i])
            m = beta1 * m + (1 - beta1) * g
            v = beta2 * v + (1 - beta2) * g * g
            ahead = beta1 * m / (1 - beta1 ** (t + 1)) + (1 - beta1) * g / (1 - beta1**t)
            w -= lr * ahead / (mpmath.sqrt(v / (1 - beta2**t)) + eps)
            assert abs(points[t - 1][i] - w) <= 1e-12 * max(1, abs(w))


@pytest.mark.parametrize("name", NAMES)
def test_float32_is_float64_but_for_rounding(name):
    rule = optimizers.BY_NAME[name]()
    gradients = np.random.default_rng(1).normal(size=(30, 7)).astype(np.float32)
    start, rates = np.linspace(-1, 1, 7).astype(np.float32), [0.05] * 30
    single, state = steps_along(rule, start, gradients, rates, np.float32)
    double, _ = steps_along(rule, start, gradients, rates)
    assert single[-1].dtype == state.moments.dtype == np.float32
    close(single, double, 1e-5)


def test_first_steps_by_hand():
    """What the equations of the docstrings come to for g = 2, then g = −1, with η = ½ from w = 1."""

    def after(rule, steps=2):
        points, _ = steps_along(rule, [1.0], [[2.0], [-1.0]][:steps], [0.5] * steps)
        return points[-1][0]

    assert after(optimizers.GD()) == 0.5
    assert after(optimizers.Momentum(0.5)) == 0.0  # v = 2, then 0
    assert after(optimizers.Nesterov(0.5)) == 1 - 0.5 * 3 - 0.5 * -1
    assert np.isclose(after(optimizers.Adagrad(), 1), 0.5)  # 2/√4 = 1
    assert np.isclose(after(optimizers.Adagrad()), 0.5 + 0.5 / np.sqrt(5))
    assert np.isclose(after(optimizers.RMSprop(0.75), 1), 1 - 0.5 * 2 / np.sqrt(0.25 * 4))
    for rule in (optimizers.Adam(), optimizers.AdaMax(), optimizers.AMSGrad()):  # corrected, the first step is η
        assert np.isclose(after(rule, 1), 0.5)
    assert np.isclose(after(optimizers.AdamW(weight_decay=0.5), 1), 1 - 0.25 - 0.5)
    assert np.isclose(after(optimizers.Adadelta(eps=1e-6), 1), 1 - 0.5 * 2 * np.sqrt(1e-6 / (0.4 + 1e-6)))


# ----------------------------------------------------------------------------------------------------- explicit state


@pytest.mark.parametrize("name", NAMES)
def test_a_step_moves_w_and_the_state_in_place_and_nothing_else(name):
    rule = optimizers.BY_NAME[name]()
    w, g = np.array([[1.0, -2.0], [0.5, 3.0]]), np.array([[1.0, 1.0], [-1.0, 2.0]])
    state = rule.init(w)
    kept = state.copy()
    assert not state.moments.any()
    found = rule.step(w, g, state, 0.1)
    assert found[0] is w
    assert found[1] is state
    assert (state.step, kept.step) == (1, 0)
    assert not kept.moments.any()
    np.testing.assert_array_equal(g, [[1.0, 1.0], [-1.0, 2.0]])
    # From the copy of the state the same step again, on another memory layout; and on a list for g.
    for again in (
        np.asfortranarray([[1.0, -2.0], [0.5, 3.0]]),
        np.repeat([[1.0, -2.0], [0.5, 3.0]], 2, axis=1)[:, ::2],
    ):
        rule.step(again, g.tolist(), kept.copy(), 0.1)
        np.testing.assert_array_equal(again, w)


@pytest.mark.parametrize(
    "change, kind, message",
    [
        ({"w": [1.0, 2.0]}, TypeError, r"w must be an array of float32 or float64; got \[1.0, 2.0\] \(list\)"),
        ({"w": np.array([1, 2])}, TypeError, "w must be an array of float32 or float64; got .* int64"),
        ({"w": np.broadcast_to(1.0, 2)}, ValueError, "w must be writeable"),
        ({"g": [1.0]}, ValueError, r"g must have the shape of w, \(2,\); got shape \(1,\)"),
        ({"g": ["a", "b"]}, TypeError, "g must hold real numbers"),
        ({"state": None}, TypeError, r"state must be what init\(w\) returns; got None"),
        ({"state": optimizers.Adam().init([1.0])}, ValueError, r"state must be of 2 rows of 2 entries in float64"),
        ({"state": optimizers.GD().init([1.0, 1.0])}, ValueError, r"got shape \(0, 2\)"),
        ({"state": optimizers.Adam().init(np.ones(2, np.float32))}, ValueError, "in float32"),
        ({"lr": -1.0}, ValueError, "lr must be finite and at least 0; got -1.0"),
        ({"lr": np.nan}, ValueError, "lr must be finite"),
    ],
    ids=str,
)
def test_a_step_says_what_it_cannot_take(change, kind, message):
    rule = optimizers.Adam()
    given = {"w": np.ones(2), "g": np.ones(2), "state": rule.init(np.ones(2)), "lr": 0.1, **change}
    with pytest.raises(kind, match=message):
        rule.step(**given)


@pytest.mark.one_build
@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: optimizers.Momentum(1.0), "momentum must be at least 0 and below 1; got 1.0"),
        (lambda: optimizers.Nesterov(-0.1), "momentum must be finite and at least 0; got -0.1"),
        (lambda: optimizers.Adagrad(0), "eps must be finite and positive; got 0.0"),
        (lambda: optimizers.Adadelta(rho=2), "rho must be at least 0 and below 1; got 2.0"),
        (lambda: optimizers.RMSprop(eps=-1), "eps must be finite and positive"),
        (lambda: optimizers.Adam(beta1=1), "beta1 must be"),
        (lambda: optimizers.AdaMax(beta2=np.nan), "beta2 must be finite"),
        (lambda: optimizers.AdamW(weight_decay=-1), "weight_decay must be finite and at least 0"),
        (lambda: optimizers.ASGD(start=-1), "start must be at least 0; got -1"),
        (lambda: optimizers.get("sgd"), "optimizer must be one of 'gd', 'momentum', .* got 'sgd'"),
    ],
)
def test_constants_that_make_no_sense(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.one_build
def test_names_and_rules():
    assert optimizers.get("adam") == optimizers.Adam() != optimizers.AMSGrad()
    assert len({optimizers.Adam(), optimizers.Adam(0.9), optimizers.Adam(0.8), optimizers.AdaMax()}) == 3
    assert repr(optimizers.AdamW(0.8)) == "AdamW(beta1=0.8, beta2=0.999, eps=1e-08, weight_decay=0.01)"
    assert repr(optimizers.GD()) == "GD()"
    rule = optimizers.Adam()
    assert optimizers.get(rule) is rule
    for bad, message in ((optimizers.Adam, r"call it, Adam\(\)"), (1, "a name or one of fastgd.optimizers; got 1")):
        with pytest.raises(TypeError, match=message):
            optimizers.get(bad)
