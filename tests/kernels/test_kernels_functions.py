"""The kernel of steps on functions of Python and its twin: values, and all that is written to, also where f raises."""

import numpy as np
import pytest

from fastgd import kernels, optimizers, validation
from fastgd.engine.update import Update
from fastgd.kernels.codes import OnFunction

REFERENCE = kernels.load("reference")


class Stop(Exception):
    pass


def quartic(x):
    return float(np.sum(0.25 * x**4 + 0.5 * x**2 * np.linspace(1, 5, x.size).reshape(x.shape)))


def slope(x):
    return x**3 + x * np.linspace(1, 5, x.size).reshape(x.shape)


def exact(returned, point):
    """What `Function.checked` does for these tests."""
    if isinstance(returned, tuple):
        return float(returned[0]), np.array(returned[1], float)
    return np.array(returned, float)


def failing(function, call):
    """The function, which raises at that call."""
    calls = []

    def f(*arguments):
        calls.append(arguments)
        if len(calls) == call:
            raise Stop
        return function(*arguments)

    return f


def run(build, f, grad, shape, *, steps=12, every=3, optimizer="GD", tol=-1.0, look=None, rate=None, limits=None):
    """What a kernel returns and has written to, by name."""
    rng = np.random.default_rng(len(shape))
    d = int(np.prod(shape))
    update = Update(getattr(optimizers, optimizer)(), np.zeros(d), **(limits or {}))
    found = {
        "x": rng.uniform(-0.5, 0.5, d), "found": np.full(d, 9.0),
        "values": np.full((d + 2, 2) if grad is None else (0, 2), 9.0), "spent": np.array([5, 7, 9, 9], np.int64),
        "rates": np.full(steps, 0.05), "state": np.array([0, 1, 0, 1e3, 1e-3, 1e3, 0], float), "gradient": np.ones(d),
        "previous": np.zeros(d), "funs": np.full(steps, 9.0), "norms": np.full(steps, 9.0),
        "points": np.full((steps, d), 9.0), "moments": update.state.moments,
    }  # fmt: skip
    seen = []

    def shown(step, x, fun, gradient, values, gradients):
        seen.append([step, *x.reshape(-1), fun, *gradient.reshape(-1), values, gradients])
        assert x.shape == gradient.shape == shape
        x[...] = gradient[...] = np.nan  # they are arrays of their own
        return look(step)

    kind, parameters, moments, _, *rest = update.kernel_arguments
    arrays = [found[name] for name in ("state", "gradient", "previous", "funs", "norms", "points")]
    try:
        found["returned"] = build.descend_function(
            f, grad, found["x"], shape, validation.any_number, exact, found["found"], found["values"], found["spent"],
            look and shown, rate, found["rates"], tol, 5, 100.0, every, *arrays, kind, parameters, moments, 4, *rest,
        )  # fmt: skip
    except Stop:
        found["returned"] = "raised"
    return found | {"seen": np.array(seen)}


def assert_twins(build, returned, *arguments, **options):
    functions = arguments[0], arguments[1]
    ours, theirs = (run(twin, *(f() for f in functions), *arguments[2:], **options) for twin in (build, REFERENCE))
    assert ours["returned"] == theirs["returned"] == returned
    for name in theirs:
        tolerance = 1e-7 if functions[1]() is None else 1e-12
        np.testing.assert_allclose(ours[name], theirs[name], rtol=tolerance, atol=tolerance, err_msg=name)
    return ours


def both(x):
    return quartic(x), slope(x)


KINDS = {"grad": (quartic, slope), "both": (both, True), "numerical": (quartic, None)}
LISTS = {"grad": (quartic, lambda x: slope(x).tolist()), "both": (lambda x: (quartic(x), slope(x).tolist()), True)}


@pytest.mark.parametrize("shape", [(1,), (2,), (2, 3), (9,)], ids=str)  # small: a kernel comes back after 50 ms
@pytest.mark.parametrize("optimizer", ["GD", "Adam"])
@pytest.mark.parametrize("kind", KINDS)
def test_steps_on_functions_of_python(kind, optimizer, shape, build):
    f, grad = KINDS[kind]
    limits = {"l1": 0.1, "bounds": (-0.4, 0.4)} if optimizer == "Adam" else None
    found = assert_twins(
        build, (12, OnFunction.ALL_STEPS), lambda: f, lambda: grad, shape, optimizer=optimizer, limits=limits
    )
    values = {"grad": 4, "both": 12, "numerical": 4 + 12 * (2 * found["x"].size + 3)}[kind]
    assert found["spent"].tolist() == [5 + values, 7 + 12, 12, 0]


@pytest.mark.parametrize("kind", LISTS)
def test_what_is_no_array_goes_through_the_check(kind, build):
    f, grad = LISTS[kind]
    ours = assert_twins(build, (12, OnFunction.ALL_STEPS), lambda: f, lambda: grad, (2,))
    plain = run(build, *KINDS[kind], (2,))
    np.testing.assert_array_equal(ours["x"], plain["x"])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("last", [4, 9, 15])
def test_look_sees_each_point_and_ends_the_call(last, kind, build):
    f, grad = KINDS[kind]
    found = assert_twins(
        build, (last - 4, OnFunction.STOPPED), lambda: f, lambda: grad, (3,), every=1, look=lambda step: step == last
    )
    assert found["seen"][:, 0].tolist() == list(range(4, last + 1))
    assert found["spent"][2:].tolist() == [last - 4, 1]


@pytest.mark.parametrize("call", [1, 2, 5])
@pytest.mark.parametrize("who", ["f", "grad", "look", "rate"])
def test_what_is_raised_leaves_what_was_done(who, call, build):
    def options():
        return {
            "look": failing(lambda step: False, call) if who == "look" else lambda step: False,
            "rate": failing(lambda step: 0.01 * step, call) if who == "rate" else lambda step: 0.01 * step,
        }

    f = (lambda: failing(quartic, call)) if who == "f" else (lambda: quartic)
    grad = (lambda: failing(slope, call)) if who == "grad" else (lambda: slope)
    ours, theirs = (run(twin, f(), grad(), (2,), every=1, **options()) for twin in (build, REFERENCE))
    assert ours["returned"] == theirs["returned"] == "raised"
    assert ours["spent"][2:].tolist() == theirs["spent"][2:].tolist() == [call - 1, who in ("look", "rate")]
    for name in ("x", "state", "gradient", "previous", "rates", "seen", "funs"):
        np.testing.assert_allclose(ours[name], theirs[name], rtol=1e-12, atol=1e-12, err_msg=name)


@pytest.mark.parametrize("kind", ["grad", "both"])
def test_it_comes_back_to_what_is_near_enough(kind, build):
    f, grad = KINDS[kind]
    found = run(build, f, grad, (2,), steps=400, tol=1e-3)
    step, reason = found["returned"]
    assert reason == OnFunction.EVALUATED and 0 < step < 400
    np.testing.assert_array_equal(found["found"], slope(found["x"]))
    assert found["spent"][2:].tolist() == [step, 0]
    assert np.linalg.norm(found["found"]) <= 1e-3 < found["norms"][step - 1]
