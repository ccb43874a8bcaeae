"""The kernels of finite differences, compiled and in NumPy: the same points, values, side effects and verdicts."""

import ctypes

import numpy as np
import pytest

from fastgd import kernels
from fastgd.kernels import codes
from fastgd.kernels.c_code import CFunction
from fastgd.kernels.reference import differences as reference

pytestmark = pytest.mark.every_build

NO_STEPS = np.empty(0)


def as_number(returned, point, i):
    return float(returned)


def c_function(python, wide=True, takes_data=False, data=0):
    """A Python function as a C function, which calls back into Python."""
    kinds = [ctypes.c_ssize_t if wide else ctypes.c_int, ctypes.POINTER(ctypes.c_double)]
    kinds += [ctypes.c_void_p] if takes_data else []
    pointer = ctypes.CFUNCTYPE(ctypes.c_double, *kinds)(python)
    return CFunction(ctypes.cast(pointer, ctypes.c_void_p).value, wide, takes_data, data, pointer)


def recorded(points):
    """f that keeps what it was given; once as a Python function, once as a C function."""

    def plain(point, *scale):
        points.append(point.copy().ravel())
        return float(np.prod(scale) * np.sin(point).sum())

    def compiled(n, x):
        points.append(np.array(x[:n]))
        return float(np.sin(points[-1]).sum())

    return {"Python": plain, "C": c_function(compiled)}


def both(build, run):
    """What run(build, points) gives with this build and with the reference, and the points that they evaluated."""
    results = []
    for twin in (build, kernels.load("reference")):
        points = []
        results.append((run(twin, points), points))
    (ours, our_points), (theirs, their_points) = results
    np.testing.assert_array_equal(our_points, their_points)
    return ours, theirs


@pytest.mark.parametrize("kind", ["Python", "C"])
@pytest.mark.parametrize("d", [0, 1, 2, 7])
@pytest.mark.parametrize("given", [True, False])
def test_central_differences_are_those_of_the_reference(build, kind, d, given):
    x = np.linspace(-1, 2, d)
    steps = np.full(d, 1e-4) if given else NO_STEPS

    def run(twin, points):
        values, out = np.full((d, 2), np.nan), np.full(d, np.nan)
        args = (2.0,) if kind == "Python" else ()
        doubtful = twin.central_differences(recorded(points)[kind], x, steps, (d,), args, as_number, values, out)
        slopes = np.full(d, np.nan)
        assert twin.central_slopes(x, steps, values, slopes) == doubtful
        np.testing.assert_array_equal(slopes, out)
        assert len(points) == 2 * d
        return values, out, doubtful

    ours, theirs = both(build, run)
    for mine, other in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(mine, other)
    np.testing.assert_array_equal(x, np.linspace(-1, 2, d))
    np.testing.assert_allclose(ours[1], (2 if kind == "Python" else 1) * np.cos(x), atol=1e-8)


@pytest.mark.parametrize("kind", ["Python", "C"])
def test_samples_are_taken_where_they_are_asked_for(build, kind):
    x = np.array([1.0, 2.0, 3.0])
    coordinates, values = np.array([2, -1, 0, 0]), np.array([0.5, 99.0, -1.0, 4.0])

    def run(twin, points):
        out = np.full(4, np.nan)
        twin.sample(recorded(points)[kind], x, coordinates, values, (3,), (), as_number, out)
        assert [point.tolist() for point in points] == [[1, 2, 0.5], [1, 2, 3], [-1, 2, 3], [4, 2, 3]]
        return out

    ours, theirs = both(build, run)
    np.testing.assert_array_equal(ours, theirs)
    np.testing.assert_array_equal(coordinates, [2, -1, 0, 0])
    np.testing.assert_array_equal(values, [0.5, 99, -1, 4])
    np.testing.assert_array_equal(x, [1, 2, 3])


@pytest.mark.parametrize("wide", [True, False])
@pytest.mark.parametrize("takes_data", [True, False])
def test_every_kind_of_c_function_is_called_with_what_it_takes(build, wide, takes_data):
    seen = []

    def f(n, x, *data):
        seen.append((n, x[:n], data))
        x[0] = 1e9  # it may write to its point
        return 1.5

    function = c_function(f, wide, takes_data, data=12345)
    x = np.array([3.0, 4.0])
    assert build.evaluate(function, x, (2,), (), as_number) == 1.5
    assert seen == [(2, [3, 4], (12345,) if takes_data else ())]
    assert x.tolist() == [3, 4]


def test_values_of_a_c_function_that_are_no_numbers_go_through_as_number(build):
    asked = []

    def judge(returned, point, i):
        if np.isfinite(returned):
            return returned
        asked.append((returned, point.tolist(), i))
        return 7.0

    f = c_function(lambda n, x: x[1] if x[1] < 2.5 else np.inf)
    out = np.empty(2)
    build.sample(f, np.array([1.0, 2.0]), np.array([1, 1]), np.array([2.25, 3.0]), (1, 2), (), judge, out)
    assert out.tolist() == [2.25, 7]
    assert asked == [(np.inf, [[1, 3]], 1)]


def test_evaluate_gives_f_a_private_copy_in_its_shape(build):
    x = np.arange(6.0)

    def f(point):
        assert point.shape == (2, 3)
        value = point.sum()
        point[:] = 0
        return value

    assert build.evaluate(f, x, (2, 3), (), as_number) == 15.0
    np.testing.assert_array_equal(x, np.arange(6.0))


@pytest.mark.parametrize("keep", [lambda p: p, lambda p: p[1:], lambda p: p.reshape(-1, 1), memoryview])
def test_f_may_keep_what_it_is_given(build, keep):
    kept = []

    def f(point):
        kept.append(keep(point))
        return float(point @ point)

    out = np.empty(3)
    x = np.array([1.0, 2.0, 3.0])
    build.central_differences(f, x, np.full(3, 0.5), (3,), (), as_number, np.empty((3, 2)), out)
    values = [np.asarray(array).ravel()[-1] for array in kept]
    assert values == [3.0, 3.0, 3.0, 3.0, 3.5, 2.5]
    np.testing.assert_allclose(out, [2, 4, 6])


def test_f_cannot_resize_the_memory_it_is_lent(build):
    def f(point):
        with pytest.raises(ValueError):
            point.resize(10, refcheck=False)
        return 0.0

    build.evaluate(f, np.ones(3), (3,), (), as_number)


def never(point):
    raise AssertionError("f was called")


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_an_x_that_is_not_finite_is_told_and_nothing_is_done(build, bad):
    values, out = np.full((2, 2), 5.0), np.full(2, 5.0)
    x = np.array([1.0, bad])
    found = build.central_differences(never, x, NO_STEPS, (2,), (), as_number, values, out)
    assert found == codes.X_NOT_FINITE
    assert np.all(values == 5) and np.all(out == 5)


@pytest.mark.parametrize("x, h, what", [(1e20, 1.0, "small to move"), (1.7e308, 1e308, "large for")])
def test_a_step_that_is_of_no_use_is_named_before_f_is_called(build, x, h, what):
    with pytest.raises(ValueError, match=f"too {what} coordinate 1"):
        build.central_differences(
            never, np.array([0.0, x]), np.array([1.0, h]), (2,), (), as_number, np.empty((2, 2)), np.empty(2)
        )


WRONG_LENGTHS = [
    lambda b: b.central_differences(never, np.zeros(3), np.zeros(2), (3,), (), float, np.zeros((3, 2)), np.zeros(3)),
    lambda b: b.central_differences(never, np.zeros(3), NO_STEPS, (3,), (), float, np.zeros((3, 1)), np.zeros(3)),
    lambda b: b.central_differences(never, np.zeros(3), NO_STEPS, (3,), (), float, np.zeros((3, 2)), np.zeros(2)),
    lambda b: b.central_slopes(np.zeros(3), NO_STEPS, np.zeros((2, 2)), np.zeros(3)),
    lambda b: b.sample(never, np.zeros(3), np.zeros(2, int), np.zeros(3), (3,), (), float, np.zeros(3)),
    lambda b: b.sample(never, np.zeros(3), np.zeros(2, int), np.zeros(2), (3,), (), float, np.zeros(3)),
    lambda b: b.sample(never, np.zeros(3), np.array([3]), np.zeros(1), (3,), (), float, np.zeros(1)),
    lambda b: b.sample(never, np.zeros(3), np.array([-2]), np.zeros(1), (3,), (), float, np.zeros(1)),
]


@pytest.mark.parametrize("call", WRONG_LENGTHS)
def test_lengths_that_do_not_fit_are_refused(build, call):
    with pytest.raises(ValueError, match=r"entries|places|beyond"):
        call(build)


# What gives reason to doubt a slope, one by one: x, f on both sides of each coordinate, how many are doubtful.
H = float(np.finfo(float).eps) ** (1 / 3)
VERDICTS = {
    "straight": ([1.0, 2.0, 3.0], [(H, -H)] * 3, 0),
    "NaN": ([1.0, 2.0, 3.0], [(H, -H), (np.nan, 0), (H, -H)], 1),
    "infinite, beside what would be doubtful": ([1.0, 1.0, 1.0], [(1e9, 1e9), (np.inf, 0), (H, -H)], 1),
    "rounding": ([1.0, 1.0, 1.0], [(1e5 + 1e-5, 1e5)] * 3, 3),
    "little rounding": ([1.0, 1.0, 1.0], [(1e4 + 1e-5, 1e4)] * 3, 0),
    "bent": ([1.0, 1.0, 1.0], [(H, -H), (H, -H), (H + 0.5 * H, -H + 0.5 * H)], 1),
    "bent as much, steep": ([1.0, 1.0, 1.0], [(0, 0), (0, 0), (999 * H + 0.5 * H, -999 * H + 0.5 * H)], 0),
    "small x": ([1.0, 1e-3, 1e-2], [(H, -H)] * 3, 1),
    "a parabola around 0": ([1e-6, -1e-9, 0.0], [(2e-6 * H, 0), (2e-9 * H, 0), (0, 0)], 0),
    "none": ([], np.empty((0, 2)), 0),
}


@pytest.mark.parametrize("name", VERDICTS)
def test_which_slopes_are_doubtful(build, name):
    x, values, doubtful = VERDICTS[name]
    out = np.empty(len(x))
    assert build.central_slopes(np.array(x), NO_STEPS, np.array(values, float), out) == doubtful


def test_verdicts_are_those_of_the_reference(build):
    rng = np.random.default_rng(0)
    counts = set()
    for _ in range(300):
        d = rng.integers(1, 40)
        x = rng.standard_normal(d) * 10.0 ** rng.integers(-8, 8, d)
        values = 10.0 ** rng.integers(-3, 7) + rng.standard_normal((d, 2)) * 10.0 ** rng.integers(-9, 1)
        values[rng.random((d, 2)) < 0.002] = np.nan
        steps = NO_STEPS if rng.random() < 0.5 else np.abs(x) * 1e-3
        ours, theirs = np.empty(d), np.empty(d)
        found = build.central_slopes(x, steps, values, ours)
        assert found == reference.central_slopes(x, steps, values, theirs)
        np.testing.assert_array_equal(ours, theirs)
        counts.add(0 if found == 0 else 1 if found < d else 2)
    assert counts == {0, 1, 2}


@pytest.mark.parametrize("d", [0, 1, 2, 7])
@pytest.mark.parametrize("given", [True, False])
@pytest.mark.parametrize("size", [1, 3, 14, 100])
def test_batches_are_those_of_the_reference(build, d, given, size):
    x = np.linspace(-1, 2, d)
    steps = np.full(d, 1e-4) if given else NO_STEPS

    def run(twin, points):
        def f(batch, scale):
            assert batch.shape[0] <= size
            points.extend(batch.reshape(len(batch), -1).copy())
            values = scale * np.sin(batch).sum(axis=(1, 2))
            batch[:] = np.nan  # f may write to what it is given
            return values

        values, out = np.full((d, 2), np.nan), np.full(d, np.nan)
        checks = []

        def as_numbers(returned, m):
            checks.append(m)
            return returned

        doubtful = twin.batched_differences(f, x, steps, (d, 1), (2.0,), as_numbers, size, values, out)
        assert sum(checks) == 2 * d
        return values, out, doubtful

    ours, theirs = both(build, run)
    for mine, other in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(mine, other)
    np.testing.assert_allclose(ours[1], 2 * np.cos(x), atol=1e-8)


def test_a_vectorized_f_may_keep_its_points(build):
    kept = []

    def f(points):
        kept.append(points[:, ::-1])  # a view
        return points.sum(axis=1)

    values, out = np.empty((3, 2)), np.empty(3)
    x = np.array([1.0, 2.0, 3.0])
    build.batched_differences(f, x, np.full(3, 0.5), (3,), (), lambda returned, m: returned, 2, values, out)
    moved = np.repeat(x[None], 6, axis=0)
    moved[np.arange(6), np.repeat(np.arange(3), 2)] += np.tile([0.5, -0.5], 3)
    np.testing.assert_array_equal(np.concatenate(kept)[:, ::-1], moved)
    np.testing.assert_array_equal(out, 1)


def test_steps_that_are_no_use_to_batches_are_refused_before_f_is_called(build):
    def f(points):
        raise AssertionError("called")

    with pytest.raises(ValueError, match="too small to move coordinate 1"):
        build.batched_differences(
            f, np.array([1.0, 1e9]), np.full(2, 1e-9), (2,), (), None, 4, np.empty((2, 2)), np.empty(2)
        )
    with pytest.raises(ValueError, match="size must be at least 1"):
        build.batched_differences(f, np.ones(2), NO_STEPS, (2,), (), None, 0, np.empty((2, 2)), np.empty(2))
