"""Whatever the rate and the units, a run ends lower than it began, or as a divergence with a name."""

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from fastgd import DivergenceError, LinearObjective, Status, gradient_descent, optimizers, schedules
from fastgd.engine.divergence import OF_DESCENT

pytestmark = pytest.mark.one_build
RNG = np.random.default_rng(0)
X = RNG.standard_normal((40, 3))
TARGETS = X @ [1.0, -2.0, 0.5] + 0.1 * RNG.standard_normal(40)
CLASSES = (TARGETS > 0).astype(float)
SCALES = [1e-6, 1e-3, 1.0, 1e3, 1e6]
# The first is stable in all of those units, where curvatures are up to some 10¹³.
RATES = [10.0**power for power in range(-16, 9)]
# What one value may be off by rounding, relative to the first.
ROUNDING = {np.dtype(np.float64): 1e-14, np.dtype(np.float32): 1e-6}


def bowl(x):
    return float(x @ x)


def bowl_slope(x):
    return 2 * x


def bent(x):
    """A bowl that is logarithmic far away: steps that are much too long land where the gradient is short."""
    return float(np.log1p(x @ x))


def bent_slope(x):
    return 2 * x / (1 + x @ x)


def quartic(x):
    """No rate is stable everywhere: the curvature grows with the distance."""
    return float(np.sum(x**4) + x @ x)


def quartic_slope(x):
    return 4 * x**3 + 2 * x


FUNCTIONS = {"bowl": (bowl, bowl_slope), "bent": (bent, bent_slope), "quartic": (quartic, quartic_slope)}
MODELS = {
    "least squares": {"loss": "mse", "fit_intercept": True},
    "logistic": {"loss": "log", "activation": "sigmoid"},
    "tanh": {"loss": "mse", "activation": "tanh"},
    "huber with l2": {"loss": "huber", "l2": 0.1},
    "poisson": {"loss": "poisson", "activation": "exp"},
}


def in_units(name, scale, analytic):
    """A function in units that are `scale` times smaller: options of a run, and its value at the start."""
    f, grad = FUNCTIONS[name]
    start = np.array([4.0, -3.0]) / scale
    options = {"f": lambda x: f(scale * x - 1), "init_x": start}
    if analytic:
        options["grad"] = lambda x: scale * grad(scale * x - 1)
    return options, options["f"](start)


def on_columns(name, scale, dtype):
    """A model on columns in such units, likewise."""
    y = TARGETS if MODELS[name]["loss"] in ("mse", "huber") and "activation" not in MODELS[name] else CLASSES
    o = LinearObjective((scale * X).astype(dtype), y.astype(dtype), **MODELS[name])
    return {"f": o}, o.value(np.zeros(o.shape))


def assert_ends_well(options, first, lr, steps=40):
    """The run ends where it says, no higher than it began, or names step and rate."""
    try:
        result = gradient_descent(**options, lr=lr, step_num=steps)
    except DivergenceError as error:
        assert 0 < error.step <= steps and np.all(np.isfinite(error.result.x))
        assert f"at step {error.step} with learning rate {error.lr:.6g}" in str(error)
        if not callable(lr):
            assert error.lr == lr
        assert error.stable_lr is None or error.stable_lr > 0
        return "diverged"
    # Labels that can be told apart come to zero; steps that leap to where an activation is flat find no slope there.
    flat = result.status == Status.NO_WAY_DOWN and not result.success and not result.jac.any()
    assert result.status in (Status.STEP_LIMIT, Status.CONVERGED) or flat
    assert np.all(np.isfinite(result.x)) and np.all(np.isfinite(result.jac))
    rounding = ROUNDING[getattr(options["f"], "dtype", np.dtype(np.float64))]
    if callable(options["f"]) and "grad" not in options:
        rounding = 1e-7  # what its numerical gradient, with its error, says of the precision of f
    if "is above the first" in result.message:  # small batches scatter, and steps of Adam and its like swing
        swings = optimizers.get(options["optimizer"]).stable_formula is None
        assert "batch_size" in options or (swings and result.fun <= first + 0.1 * max(1.0, abs(first)))
    else:
        assert result.fun <= first + rounding * abs(first)
    return "lower"


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("optimizer", optimizers.BY_NAME)
def test_every_decade_of_rates_and_units(optimizer, scale):
    problems = [in_units(name, scale, analytic) for name in FUNCTIONS for analytic in (True, False)]
    problems += [on_columns(name, scale, dtype) for name in MODELS for dtype in (np.float64, np.float32)]
    ends = set()
    for number, (options, first) in enumerate(problems):
        for lr in RATES if optimizer == "gd" else RATES[number % 2 :: 6]:
            ends.add(assert_ends_well(options | {"optimizer": optimizer}, first, lr))
    assert "lower" in ends


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("optimizer", ["gd", "momentum", "adam"])
def test_every_decade_on_batches(optimizer, scale):
    options, first = on_columns("logistic", scale, np.float64)
    for lr in RATES[::2]:
        assert_ends_well(options | {"optimizer": optimizer, "batch_size": 5}, first, lr, steps=60)


ROUTES = st.one_of(
    st.tuples(st.just("function"), st.sampled_from(list(FUNCTIONS)), st.booleans()),
    st.tuples(st.just("model"), st.sampled_from(list(MODELS)), st.sampled_from([np.float64, np.float32])),
)
LIMITS = st.sampled_from([{}, {}, {"bounds": (-1e3, 1e3)}, {"clip_norm": 1.0}, {"history": True}, {"tol": 1e-12}])


@settings(max_examples=250, deadline=None, derandomize=True, database=None)
@given(
    route=ROUTES,
    optimizer=st.sampled_from(list(optimizers.BY_NAME)),
    power=st.floats(-8, 8),
    unit=st.floats(-6, 6),
    limits=LIMITS,
    falling=st.booleans(),
    batch=st.sampled_from([None, None, 1, 7, 40]),
    steps=st.integers(OF_DESCENT.steps + 1, 80),  # the first few may leap over a valley and come back
)
# Steps that leap out to where the function is flat, and tolerances that are looked at when the value is inf.
@example(("function", "bent", False), "adamw", 4.0, 0.0, {"tol": 1e-12}, False, None, 6)
@example(("model", "tanh", np.float64), "gd", 8.0, 3.0, {"tol": 1e-12}, False, None, 40)
@example(("model", "least squares", np.float64), "gd", 0.0, 3.0, {"tol": 1e-12}, False, 40, 24)
@example(("model", "least squares", np.float64), "gd", 0.0, 4.0, {"tol": 1e-12}, False, 40, 18)
@example(("model", "tanh", np.float64), "gd", 0.0, 1.0, {"tol": 1e-12}, False, 40, 6)
def test_any_rate_in_any_units(route, optimizer, power, unit, limits, falling, batch, steps):
    kind, name, how = route
    options, first = (in_units if kind == "function" else on_columns)(name, 10.0**unit, how)
    options |= {"optimizer": optimizer} | limits
    if kind == "model" and batch is not None:
        options["batch_size"] = batch
    lr = schedules.inverse_time_decay(10.0**power, 0.1) if falling else 10.0**power
    if "bounds" in limits:  # the run begins at the bound where the start is outside
        start = np.clip(options.get("init_x", 0.0), *limits["bounds"])
        first = options["f"](start) if kind == "function" else first
    assert_ends_well(options, first, lr, steps)


def test_a_mean_of_points_above_the_start_is_told():
    rng = np.random.default_rng(0)
    A = 100 * rng.normal(size=(40, 3))
    o = LinearObjective(A, (A @ [1.0, -2.0, 0.5] > 0) * 1.0, loss="log", activation="sigmoid")
    assert_ends_well({"f": o, "optimizer": "asgd", "batch_size": 7}, o.value(np.zeros(3)), 1.0, steps=68)
