"""Steps on functions of Python, many by one call of a kernel: the iterates of a loop by hand, and what f may do."""

import warnings

import numpy as np
import pytest

from fastgd import DivergenceError, Status, gradient_descent, kernels

CURVATURES = {d: np.linspace(1.0, 10.0, d) for d in (1, 2, 3, 10, 100, 1000)}
C = CURVATURES[2]
START = np.array([-3.0, 4.0])
pytestmark = pytest.mark.one_build


def bowl(x):
    return 0.5 * float(np.sum(np.linspace(1.0, 10.0, x.size).reshape(x.shape) * x * x))


def slope(x):
    return np.linspace(1.0, 10.0, x.size).reshape(x.shape) * x


def both(x):
    return bowl(x), slope(x)


def by_hand(start, rates):
    """The points of x ← x − rate·∇f(x), a step being rounded as the build in use does, once or twice."""
    points = [start]
    for rate in rates:
        x = points[-1].copy()
        kernels.active.update(x.reshape(-1), slope(x).reshape(-1), rate)
        np.testing.assert_allclose(x, points[-1] - rate * slope(points[-1]), rtol=1e-14, atol=1e-15)
        points.append(x)
    return np.array(points)


@pytest.mark.with_reference
@pytest.mark.parametrize("grad", [slope, True], ids=["grad", "both"])
@pytest.mark.parametrize("steps", [1, 2, 64, 65, 200])
@pytest.mark.parametrize("shape", [(), (1,), (2,), (3,), (2, 5), (100,)], ids=str)
def test_the_iterates_are_those_of_single_steps_to_the_bit(shape, steps, grad):
    start = np.random.default_rng(steps).normal(size=shape)
    rates = [0.1 / (1 + step) for step in range(steps)]
    f = bowl if grad is slope else both
    asked = []
    found = gradient_descent(f, start, lambda step: asked.append(step) or rates[step], steps, grad=grad, history=True)
    expected = by_hand(start, rates)
    assert found.history.x.tobytes() == expected.tobytes()
    assert (found.x.tobytes(), found.jac.tobytes()) == (expected[-1].tobytes(), slope(expected[-1]).tobytes())
    assert found.history.fun.tolist() == [bowl(x) for x in expected] and found.fun == bowl(expected[-1])
    assert found.history.lr.tolist() == rates and asked == list(range(steps))
    np.testing.assert_allclose(found.history.grad_norm, [np.linalg.norm(slope(x)) for x in expected], rtol=1e-15)
    assert (found.nit, found.nfev, found.njev) == (steps, steps + 1, steps + 1)
    constant = gradient_descent(f, start, 0.01, steps, grad=grad)
    assert constant.x.tobytes() == by_hand(start, [0.01] * steps)[-1].tobytes()


class Buffer:
    """A gradient that returns the same array at each call."""

    def __init__(self):
        self.out = np.empty(2)

    def __call__(self, x):
        return np.multiply(C, x, out=self.out)


def writes_to_x(x):
    x *= C
    return x


def spoils_x(x):
    found = C * x
    x[:] = np.nan
    return found


def changes_x(x):
    found = C * x
    x.flags.writeable = False
    return found


def transposed(x):
    return np.stack([C * x, x], axis=1)[:, 0]


class Kept(list):
    def __call__(self, x):
        self.append(x)
        return C * x


class Array(np.ndarray):
    pass


GRADIENTS = {
    "its own buffer": Buffer(), "a list": lambda x: [float(c) for c in C * x], "a tuple": lambda x: tuple(C * x),
    "strides": transposed, "writes to x": writes_to_x, "spoils x": spoils_x, "makes x read-only": changes_x,
    "keeps x": Kept(), "big-endian": lambda x: (C * x).astype(">f8"), "a subclass": lambda x: (C * x).view(Array),
    "read-only": lambda x: np.frombuffer((C * x).tobytes()), "longdouble": lambda x: (C * x).astype(np.longdouble),
    "no code of Python": C.__mul__,
}  # fmt: skip


@pytest.mark.parametrize("optimizer", ["gd", "adam"])
@pytest.mark.parametrize("name", GRADIENTS)
def test_whatever_a_gradient_does_the_run_is_the_same(name, optimizer):
    seen, start = [], START.copy()
    if name == "keeps x":
        GRADIENTS[name].clear()
    options = {"optimizer": optimizer, "history": True}
    expected = gradient_descent(bowl, START, 0.05, 300, grad=lambda x: C * x, **options)
    for callback in (None, seen.append):
        found = gradient_descent(bowl, start, 0.05, 300, grad=GRADIENTS[name], callback=callback, **options)
        assert found.history.x.tobytes() == expected.history.x.tobytes()
        assert found.jac.tobytes() == expected.jac.tobytes()
    assert start.tolist() == START.tolist()
    assert np.array([r.x for r in seen]).tobytes() == expected.history.x[1:].tobytes()
    assert np.array([r.jac for r in seen]).tobytes() == (C * expected.history.x[1:]).tobytes()
    if name == "keeps x":
        assert np.array(GRADIENTS[name][:301]).tobytes() == expected.history.x.tobytes()


def test_a_gradient_in_float32_is_taken_at_its_digits():
    x = START
    for _ in range(150):
        x = x - 0.05 * (C * x).astype(np.float32).astype(np.float64)
    assert (
        gradient_descent(bowl, START, 0.05, 150, grad=lambda x: (C * x).astype(np.float32)).x.tobytes() == x.tobytes()
    )


def after(count, otherwise):
    """The slope, and from call number `count` on what `otherwise` makes of x."""
    calls = []

    def grad(x):
        calls.append(None)
        return otherwise(x) if len(calls) >= count else C * x

    return grad


def raising(error):
    def otherwise(x):
        raise error

    return otherwise


@pytest.mark.parametrize("count", [1, 2, 3, 100])
@pytest.mark.parametrize(
    ("otherwise", "kind", "message"),
    [
        (lambda x: np.ones(3), ValueError, r"grad must return an array of the shape of x, \(2,\); it returned \(3,\)"),
        (lambda x: np.ones((2, 1)), ValueError, r"of the shape of x, \(2,\); it returned \(2, 1\)"),
        (lambda x: 1.0, ValueError, r"of the shape of x, \(2,\); it returned \(\)"),
        (lambda x: None, TypeError, "what grad returned must hold real numbers"),
        (lambda x: 1j * x, TypeError, "what grad returned must hold real numbers; got dtype complex128"),
        (lambda x: np.ma.masked_array(x, [True, False]), ValueError, "what grad returned has masked values"),
        (raising(KeyError("mine")), KeyError, "mine"),
    ],
    ids=["too long", "a column", "a number", "nothing", "complex", "masked", "raises"],
)  # fmt: skip
def test_what_is_no_gradient_is_named_at_whatever_step(otherwise, kind, message, count):
    with pytest.raises(kind, match=message):
        gradient_descent(bowl, START, 0.05, 300, grad=after(count, otherwise))


@pytest.mark.parametrize("found", [np.nan, np.inf])
def test_what_is_not_finite_is_named(found):
    with pytest.raises(DivergenceError, match=r"at step 99 .*the value or the gradient is no longer finite") as raised:
        gradient_descent(bowl, START, 0.05, 300, grad=after(100, lambda x: np.array([1.0, found])))
    assert raised.value.result.nit == 98
    f = after(50, lambda x: found)
    with pytest.raises(DivergenceError, match="no longer finite"):
        gradient_descent(lambda x: bowl(x) if isinstance(f(x), np.ndarray) else found, START, 0.05, 300, grad=slope,
                         history=True)  # fmt: skip


@pytest.mark.parametrize("pair", [lambda x: bowl(x), lambda x: (bowl(x), slope(x), 1), lambda x: (None, slope(x))])
def test_what_is_no_pair_is_named(pair):
    calls = []

    def f(x):
        calls.append(None)
        return both(x) if len(calls) < 20 else pair(x)

    with pytest.raises(TypeError, match=r"with grad=True f must return a pair|f must return one real number"):
        gradient_descent(f, START, 0.05, 300, grad=True)


@pytest.mark.parametrize("history", [False, True])
@pytest.mark.parametrize("count", [1, 5, 64, 65, 66, 130])
def test_ctrl_c_in_a_callback_ends_at_its_point(count, history):
    def callback(result):
        if result.nit == count:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt) as raised:
        gradient_descent(bowl, START, 0.05, 300, grad=slope, callback=callback, history=history)
    result, expected = raised.value.result, by_hand(START, [0.05] * count)
    assert (result.nit, result.status) == (count, Status.INTERRUPTED)
    assert (result.x.tobytes(), result.fun) == (expected[-1].tobytes(), bowl(expected[-1]))
    if history:
        assert result.history.x.tobytes() == expected.tobytes() and len(result.history.lr) == count


@pytest.mark.parametrize("stops", [lambda: True, lambda: np.True_, raising(StopIteration)])
@pytest.mark.parametrize("count", [1, 2, 64, 65, 200])
def test_a_callback_stops_at_its_point(count, stops):
    seen = []

    def callback(result):
        seen.append(result.nit)
        if result.nit == count:
            return stops(None) if stops.__code__.co_argcount else stops()
        return 1 if result.nit % 2 else "on"

    found = gradient_descent(bowl, START, 0.05, 300, grad=slope, callback=callback, history=True)
    assert (found.nit, found.status, seen) == (count, Status.STOPPED_BY_CALLBACK, list(range(1, count + 1)))
    assert found.message == f"the callback stopped the run at step {count}"
    assert found.history.x.tobytes() == by_hand(START, [0.05] * count).tobytes()
    assert (found.nfev, found.njev) == (count + 1, count + 1)


def test_what_a_callback_is_shown_is_its_own():
    kept = []

    def callback(result):
        kept.append((result.nit, result.fun, result.nfev, result.njev, result.x.copy()))
        result.x[:] = result.jac[:] = np.nan

    found = gradient_descent(bowl, START, 0.05, 100, grad=slope, callback=callback)
    expected = by_hand(START, [0.05] * 100)
    assert found.x.tobytes() == expected[-1].tobytes()
    assert [row[:4] for row in kept] == [(i, bowl(x), i + 1, i + 1) for i, x in enumerate(expected)][1:]


def test_warnings_of_numpy_are_told_of_callbacks_and_schedules_alone():
    huge = np.array([1e200, 1.0])

    def overflows(*_):
        return 0.01 if (huge * huge)[0] == np.inf else 1.0

    quiet = lambda x: C * x if (huge * huge)[1] == 1 else x  # noqa: E731
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        gradient_descent(bowl, START, 0.05, 100, grad=quiet)
    for options in ({"callback": overflows}, {"lr": overflows}):
        with pytest.warns(RuntimeWarning, match="overflow"):
            gradient_descent(bowl, START, **{"lr": 0.05, "step_num": 100, "grad": slope} | options)


@pytest.mark.parametrize("d", [1, 2, 10])
@pytest.mark.parametrize("optimizer", ["gd", "momentum", "adam"])
def test_a_numerical_gradient_gives_the_run_of_the_exact_one(d, optimizer):
    start, points = np.random.default_rng(d).normal(size=d), []

    def f(x):
        points.append(x)  # each call has a point of its own
        return bowl(x)

    found = gradient_descent(f, start, 0.02, 150, optimizer=optimizer)
    exact = gradient_descent(bowl, start, 0.02, 150, grad=slope, optimizer=optimizer)
    np.testing.assert_allclose(found.x, exact.x, atol=1e-8)
    assert found.nfev == len(points) >= 151 * (2 * d + 3)
    assert len({id(point) for point in points}) == len(points)


def test_the_clock_and_a_slow_function():
    import time

    calls = []

    def grad(x):
        calls.append(None)
        time.sleep(0.02 if len(calls) > 500 else 0.0)
        return C * x

    began = time.perf_counter()
    found = gradient_descent(bowl, START, 1e-4, 10**7, grad=grad, max_seconds=0.2)
    assert found.status == Status.TIME_LIMIT and found.nit == len(calls) - 1
    assert time.perf_counter() - began < 2.0
