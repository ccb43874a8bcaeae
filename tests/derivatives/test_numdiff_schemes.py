"""The schemes of numerical_gradient: their formulas, steps, bounds, evaluation counts and estimates of error."""

import math

import mpmath
import numpy as np
import pytest
from scipy.optimize._numdiff import approx_derivative

from fastgd import numerical_gradient
from fastgd.derivatives.gradient import SCHEMES

EPSILON = float(np.finfo(float).eps)
DIFFERENCES = [scheme for scheme in SCHEMES if scheme != "complex"]
# Evaluations for d variables without bounds, where the scheme has a fixed number.
COUNTS = {
    "forward": lambda d: d + 1,
    "backward": lambda d: d + 1,
    "central": lambda d: 2 * d,
    "five-point": lambda d: 4 * d,
}
# Largest error on smooth functions of ordinary scale.
ACCURACY = {
    "forward": 1e-6, "backward": 1e-6, "central": 1e-9, "five-point": 1e-11, "richardson": 1e-10, "complex": 1e-14,
}  # fmt: skip


def counted(f, calls):
    def g(x, *args):
        calls.append(np.array(x))
        return f(x, *args)

    return g


def smooth(p):
    return np.sum(np.sin(p)) + p[0] * p[1] + np.exp(p[2] / 2)


def slopes_of_smooth(p):
    return np.cos(p) + np.array([p[1], p[0], np.exp(p[2] / 2) / 2, 0])


SMOOTH_AT = np.array([0.3, -1.2, 2.0, 0.0])


@pytest.mark.parametrize("scheme", SCHEMES)
def test_each_scheme_has_its_accuracy(scheme):
    found = numerical_gradient(smooth, SMOOTH_AT, scheme=scheme)
    np.testing.assert_allclose(found, slopes_of_smooth(SMOOTH_AT), rtol=0, atol=ACCURACY[scheme])


# f, its derivative in h of each formula for f = x^power, worked out by hand: the formulas are linear in f, and exact to
# their order, so the first power that they miss tells them apart.
def remainder(scheme, power, x, h):
    at = lambda t: float((x + t) ** power)  # noqa: E731
    return {
        "forward": (at(h) - at(0)) / h,
        "backward": (at(0) - at(-h)) / h,
        "central": (at(h) - at(-h)) / (2 * h),
        "five-point": (8 * (at(h) - at(-h)) - at(2 * h) + at(-2 * h)) / (12 * h),
    }[scheme]


@pytest.mark.parametrize("scheme", COUNTS)
@pytest.mark.parametrize("power", [1, 2, 3, 4, 5, 6])
def test_the_formulas_on_powers(scheme, power):
    h = 2.0**-3  # no number here has more than 53 bits
    for x in (0.0, 1.5, -2.0):
        found = numerical_gradient(lambda p: float(p[0] ** power), [x], h, scheme=scheme)[0]
        assert found == pytest.approx(remainder(scheme, power, x, h), rel=1e-14, abs=1e-14)


@pytest.mark.parametrize("scheme", COUNTS)
@pytest.mark.parametrize("d", [1, 2, 5])
@pytest.mark.parametrize("h", [None, 1e-4])
def test_evaluations_are_counted_and_are_as_many_as_documented(scheme, d, h):
    calls = []
    f = counted(lambda p: float(np.sum(np.sin(p))), calls)
    found = numerical_gradient(f, np.linspace(0.5, 1.5, d), h, scheme=scheme, full_output=True)
    assert found.nfev == len(calls) == COUNTS[scheme](d)


def test_richardson_at_a_given_step_takes_eight_evaluations_each():
    calls = []
    x, h = np.array([1.0, -2.0]), 2.0**-2
    found = numerical_gradient(counted(smooth_pair, calls), x, h, scheme="richardson", full_output=True)
    assert found.nfev == len(calls) == 16
    moved = sorted({abs(p - x).max() for p in calls}, reverse=True)
    assert moved == [h, h / 4, h / 16, h / 64]
    # Extrapolated from four steps: the error is of the order (h·h/4·h/16·h/64)² of a derivative of order 9.
    np.testing.assert_allclose(found.gradient, [math.cos(1), math.exp(-2)], rtol=0, atol=1e-12)


def smooth_pair(p):
    return math.sin(p[0]) + math.exp(p[1])


@pytest.mark.parametrize("scheme", ["central", "richardson"])
def test_evaluations_where_steps_are_searched_for(scheme):
    calls = []
    found = numerical_gradient(counted(badly_scaled, calls), [1e-5, 1.0], scheme=scheme, full_output=True)
    assert found.nfev == len(calls)
    assert 4 < found.nfev <= 2 * 24
    np.testing.assert_allclose(found.gradient, [1e5, 2], rtol=1e-8)


def badly_scaled(p):
    return math.log(p[0]) + p[1] ** 2 if p[0] > 0 else math.nan


def test_only_the_doubtful_coordinate_is_looked_at_again():
    calls = []
    x = np.array([1e-5, 1.0, 2.0])
    numerical_gradient(counted(lambda p: badly_scaled(p) + p[2], calls), x)
    for point in calls[6:]:
        np.testing.assert_array_equal(point[1:], x[1:])


# ----------------------------------------------------------------------------------------- steps that are searched for

# f, x, and the derivative there: what SciPy's three points miss by more than 1e-6 of max(1, |f'|).
HARD = {
    "log, small x": (mpmath.log, 1e-4),
    "log, smaller x": (mpmath.log, 1e-6),
    "log, tiny x": (mpmath.log, 1e-12),
    "sqrt, small x": (mpmath.sqrt, 1e-5),
    "1/x, small x": (lambda x: 1 / x, 1e-4),
    "exp of a large multiple": (lambda x: mpmath.exp(3000 * x), 0.002),
    "a large constant": (lambda x: 1e8 + mpmath.sin(x), 0.5),
    "a power": (lambda x: x**30, 30.0),
}


@pytest.mark.parametrize("scheme", ["central", "richardson"])
@pytest.mark.parametrize("name", HARD)
def test_slopes_that_the_usual_step_misses(name, scheme):
    f, x = HARD[name]
    with mpmath.workdps(40):
        exact = float(mpmath.diff(f, mpmath.mpf(x)))

    def g(p):  # the second variable lets 2d values tell a bend in the first from the level of f
        return float(f(mpmath.mpf(float(p[0])))) + float(p[1]) if p[0] > 0 else math.nan

    scale = max(1.0, abs(exact))
    found = numerical_gradient(g, [x, 1.0], scheme=scheme, full_output=True)
    error = abs(found.gradient[0] - exact) / scale
    assert error <= 1e-6
    assert error * scale <= 10 * found.error[0]
    if name != "a power":
        theirs = approx_derivative(g, [x, 1.0], method="3-point")[0]
        assert not abs(theirs - exact) / scale <= 1e-6


def test_an_f_of_single_precision_has_its_error_estimated():
    # The digits that a step of 6e-6 sees are noise, and the slope at a larger one is right.
    x = np.array([0.3, -1.2, 2.0, 0.5])
    found = numerical_gradient(lambda p: float(np.float32(smooth(p))), x, scheme="richardson", full_output=True)
    error = np.abs(found.gradient - slopes_of_smooth(x))
    assert np.all(error <= 5 * found.error)
    assert np.all(error <= 1e-3)


def test_the_ordinary_is_not_looked_at_again():
    # Rosenbrock's valley is steep across, and a parabola flat at its floor; neither hides anything from a difference.
    calls = []
    rosenbrock = counted(lambda p: 100 * (p[1] - p[0] ** 2) ** 2 + (1 - p[0]) ** 2, calls)
    for x in ([-1.2, 1.0], [1.0, 1.0], [0.5, 0.25], [0.0, 0.0]):
        calls.clear()
        numerical_gradient(rosenbrock, x)
        assert len(calls) == 4
    for x in ([0.0, 0.0], [1e-16, 3.0], [1e-9, 1e-3], [1e8, -1e8]):
        calls.clear()
        numerical_gradient(counted(lambda p: float(p @ p), calls), x)
        assert len(calls) == 4


def test_what_f_is_beyond_a_border_costs_nothing_where_a_smaller_step_stays_inside():
    f = lambda p: math.sqrt(p[0]) if p[0] > 0 else math.inf  # noqa: E731
    assert numerical_gradient(f, [4e-6])[0] == pytest.approx(0.5 / math.sqrt(4e-6), rel=1e-8)
    with pytest.raises(ValueError, match=r"f returned inf at x = \[.*coordinate 0 having been moved"):
        numerical_gradient(f, [0.0])


def test_an_f_that_is_never_a_number_is_refused_and_does_not_cost_much():
    calls = []
    with pytest.raises(ValueError, match="f returned nan at x = "):
        numerical_gradient(counted(lambda p: math.nan, calls), [1.0, 2.0])
    assert len(calls) <= 2 * 24 + 1
    assert np.isnan(numerical_gradient(lambda p: math.nan, [1.0, 2.0], nan_policy="propagate")).all()


@pytest.mark.parametrize("scheme", DIFFERENCES)
def test_typical_x_is_the_size_that_counts_as_one(scheme):
    def f(p):
        return float(np.sum(np.sin(np.asarray(p) * 1e4)))

    x = np.array([2e-5, -1e-4])
    found = numerical_gradient(f, x, scheme=scheme, typical_x=1e-4)
    np.testing.assert_allclose(found, 1e4 * np.cos(1e4 * x), rtol=10 * ACCURACY[scheme])
    steps = numerical_gradient(f, x, scheme=scheme, typical_x=[1e-4, 1e-2], full_output=True).steps
    assert steps[0] < steps[1]


# ------------------------------------------------------------------------------------------------------------- bounds

BOUNDED = np.array([0.3, 1.0, 2.0, 0.5])
BOUNDS = {
    "lower": (BOUNDED - np.array([0, 0, 1, 1e-9]), np.inf),
    "upper": (-np.inf, BOUNDED + np.array([0, 1e-12, 5, 0])),
    "narrow": (BOUNDED - 1e-7, BOUNDED + 1e-7),
    "narrow, at the end": (BOUNDED, BOUNDED + 3e-7),
    "scalars": (0.3, 2.0),
    "wide": (-100, 100.0),
}


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("name", BOUNDS)
def test_no_point_is_outside_of_the_bounds_and_the_order_is_kept(name, scheme):
    lower, upper = BOUNDS[name]
    calls = []
    found = numerical_gradient(counted(smooth, calls), BOUNDED, scheme=scheme, bounds=(lower, upper), full_output=True)
    assert found.nfev == len(calls)
    assert all(np.all(p.real >= lower) and np.all(p.real <= upper) for p in calls)
    # A step of 1e-7 leaves what rounding makes of it.
    tolerance = 1e-6 if "narrow" in name else 30 * ACCURACY[scheme]
    np.testing.assert_allclose(found.gradient, slopes_of_smooth(BOUNDED), rtol=0, atol=tolerance)


@pytest.mark.parametrize("scheme, powers", [("central", 2), ("five-point", 4)])
def test_one_sided_differences_are_exact_to_the_order_of_the_scheme(scheme, powers):
    h = 2.0**-4
    for side in (-1, 1):
        bounds = (1.5, np.inf) if side > 0 else (-np.inf, 1.5)
        for power in range(powers + 2):
            found = numerical_gradient(lambda p, n=power: float(p[0] ** n), [1.5], h, scheme=scheme, bounds=bounds)[0]
            exact = power * 1.5 ** (power - 1) if power else 0.0
            assert (found == pytest.approx(exact, rel=1e-12)) == (power <= powers)


def test_counts_at_a_bound():
    for scheme, bounds, count in (
        ("central", (0.0, np.inf), 2 * 2 + 1),
        ("five-point", (0.0, np.inf), 4 * 2 + 1),
        ("forward", (-np.inf, 0.0), 2 + 1),
        ("backward", (0.0, np.inf), 2 + 1),
    ):
        calls = []
        numerical_gradient(counted(lambda p: float(np.sum(p)), calls), [0.0, 0.0], scheme=scheme, bounds=bounds)
        assert len(calls) == count
        assert len({tuple(p) for p in calls}) == count


def test_differences_keep_their_side_while_there_is_room():
    calls = []
    f = counted(lambda p: float(p[0]), calls)
    numerical_gradient(f, [1.0], 0.25, scheme="forward", bounds=(0, 1.5))
    numerical_gradient(f, [1.0], 0.25, scheme="backward", bounds=(0.5, 9))
    numerical_gradient(f, [1.0], 0.25, scheme="forward", bounds=(0, 1.125))
    numerical_gradient(f, [1.0], 0.25, scheme="backward", bounds=(0.875, 9))
    assert [float(p[0]) for p in calls] == [1, 1.25, 1, 0.75, 1, 0.75, 1, 1.25]


def test_a_doubtful_slope_at_a_bound_is_mended_inside():
    calls = []
    x = np.array([1e-5, 2e-5])
    bounds = (1e-5, 1.0)
    found = numerical_gradient(counted(lambda p: float(np.sum(np.log(p))), calls), x, bounds=bounds)
    assert all(np.all(p >= 1e-5) for p in calls)
    np.testing.assert_allclose(found, 1 / x, rtol=1e-6)


# -------------------------------------------------------------------------------------------------------- full output


@pytest.mark.parametrize("scheme", SCHEMES)
def test_full_output_is_the_gradient_with_what_is_known_of_it(scheme):
    x = SMOOTH_AT.reshape(2, 2)
    f = lambda p: smooth(p.reshape(-1))  # noqa: E731
    found = numerical_gradient(f, x, scheme=scheme, full_output=True)
    gradient, error, steps, nfev = found
    np.testing.assert_array_equal(found.gradient, numerical_gradient(f, x, scheme=scheme))
    assert gradient.shape == error.shape == steps.shape == x.shape
    assert np.all(steps > 0) and type(nfev) is int
    if scheme in ("forward", "backward"):
        assert np.isnan(error).all()
    else:
        assert np.all(np.abs(gradient - slopes_of_smooth(SMOOTH_AT).reshape(2, 2)) <= 10 * error + 1e-15)
        assert np.all(error < 1e-5)
    number = numerical_gradient(lambda p: float(p) ** 2 if scheme != "complex" else p[()] ** 2, 3.0, scheme=scheme,
                                full_output=True)  # fmt: skip
    assert [type(part) for part in number] == [float, float, float, int]


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("x", [[], np.empty((0, 3))])
def test_no_variables(scheme, x):
    found = numerical_gradient(lambda p: 0.0, x, scheme=scheme, full_output=True)
    assert found.gradient.shape == np.shape(x)


# ------------------------------------------------------------------------------------------------------- complex steps


def test_complex_steps_have_the_digits_of_f():
    x = np.array([1e-6, 0.3, 200.0])
    with np.errstate(invalid="ignore"):  # the check goes below 0 before it knows better
        found = numerical_gradient(lambda p: np.sum(np.log(p)), x, scheme="complex")
    np.testing.assert_allclose(found, 1 / x, rtol=4 * EPSILON)


NOT_ANALYTIC = {
    "abs": lambda p: np.sum(np.abs(p) + p),
    "real part of one": lambda p: p[0] ** 2 + p[1].real * p[0],
    "max of the real part": lambda p: p[0] + (p[1] if p[1].real > 0 else 0) + abs(p[1]),
    "conjugate": lambda p: np.sum(p * np.conj(p)) + 0j,
    "norm": lambda p: np.linalg.norm(p) + p[0],
}


@pytest.mark.parametrize("name", NOT_ANALYTIC)
@pytest.mark.parametrize("bounds", [None, ([-1.0, 1.0], [4.0, 4.0])])
def test_an_f_that_is_not_analytic_is_refused(name, bounds):
    f = lambda p: NOT_ANALYTIC[name](p).real if p.dtype == float else NOT_ANALYTIC[name](p)  # noqa: E731
    with pytest.raises(ValueError, match=r"scheme='complex' does not suit f.*must be analytic"):
        numerical_gradient(f, [-0.5, 2.0], scheme="complex", bounds=bounds)


def test_an_f_that_drops_the_imaginary_part_is_refused():
    with pytest.raises(TypeError, match=r"for a complex x it returned the real .*float"):
        numerical_gradient(lambda p: float(abs(p[0])), [1.0], scheme="complex")
    with pytest.raises(TypeError) as raised:
        numerical_gradient(lambda p: math.sin(complex(p[0])), [1.0], scheme="complex")
    assert any("got a complex x" in note for note in raised.value.__notes__)


def test_a_value_that_is_complex_at_a_real_point_is_refused():
    with pytest.raises(TypeError, match=r"one real number; it returned .*complex"):
        numerical_gradient(lambda p: np.sum(p) + 0j, [1.0, 2.0], scheme="complex")


@pytest.mark.parametrize("value", [math.nan, complex(0, math.nan), math.inf])
def test_complex_steps_of_what_is_not_finite(value):
    f = lambda p: np.sum(p) + (value if np.iscomplexobj(p) else np.real(value))  # noqa: E731
    with pytest.raises(ValueError, match=r"f returned (nan|inf) at x = "):
        numerical_gradient(f, [1.0, 2.0], scheme="complex")
    assert not np.isfinite(numerical_gradient(f, [1.0, 2.0], scheme="complex", nan_policy="propagate")).any()


def test_counts_of_the_complex_scheme():
    calls = []
    found = numerical_gradient(
        counted(lambda p: np.sum(np.exp(p)), calls), np.ones(5), scheme="complex", full_output=True
    )
    assert found.nfev == len(calls)
    assert sum(np.iscomplexobj(p) for p in calls) == 5
    assert 6 <= sum(not np.iscomplexobj(p) for p in calls) <= 24


# ---------------------------------------------------------------------------------------------------------- bad input

BAD = [
    ({"scheme": "centre"}, ValueError, "scheme must be one of 'central', 'forward', 'backward', 'five-point', 'rich"),
    ({"h": 1e-4, "typical_x": 1.0}, ValueError, "h and typical_x both set the step"),
    ({"typical_x": 0.0}, ValueError, "typical_x must be positive"),
    ({"typical_x": [1.0, -1.0]}, ValueError, "typical_x must be positive"),
    ({"typical_x": [1.0] * 3}, ValueError, r"typical_x must be a number or an array of the shape of x, \(2,\)"),
    ({"typical_x": "one"}, TypeError, "typical_x must hold real numbers"),
    ({"bounds": 3.0}, TypeError, r"bounds must be a pair \(lower, upper\)"),
    ({"bounds": (0.0, 1.0, 2.0)}, TypeError, r"bounds must be a pair \(lower, upper\)"),
    ({"bounds": (0.0, "one")}, TypeError, r"bounds \(upper\) must hold real numbers"),
    ({"bounds": (np.nan, 5.0)}, ValueError, r"bounds \(lower\) must not be NaN"),
    ({"bounds": ([0.0] * 3, 5.0)}, ValueError, r"bounds must fit the shape \(2,\); got \(3,\) and \(\)"),
    ({"bounds": (5.0, 0.0)}, ValueError, r"lower must not be above upper; x\[0\] is 5.0 to 0.0"),
    (
        {"bounds": [(-5, 5), (0, 10)]},
        TypeError,
        r"=\(\[-5.0, 0.0\], \[5.0, 10.0\]\), or all lower.*=\(\[-5.0, 5.0\], \[",
    ),
    ({"bounds": (0.0, 1.5)}, ValueError, r"bounds \[0.0, 1.5\] of coordinate 1 do not hold x, which is 2.0 there"),
    ({"bounds": ([0.0, 2.0], [9.0, 2.0])}, ValueError, "of coordinate 1 leave no room for a difference"),
    ({"full_output": 1}, TypeError, "full_output must be True or False"),
    ({"vectorized": "yes"}, TypeError, "vectorized must be True or False"),
    ({"workers": 0}, ValueError, "workers must be at least 1"),
    ({"workers": -2}, ValueError, "workers must be at least -1"),
    ({"workers": 1.5}, TypeError, "workers must be an integer or a map"),
    ({"workers": 2, "vectorized": True}, ValueError, "vectorized=True .* goes without workers"),
]


@pytest.mark.parametrize("change, error, message", BAD, ids=[f"{i} {', '.join(row[0])}" for i, row in enumerate(BAD)])
def test_bad_input_is_named(change, error, message):
    calls = []
    with pytest.raises(error, match=message):
        numerical_gradient(**{"f": counted(lambda p: float(p @ p), calls), "x": [1.0, 2.0], **change})
    assert calls == []


@pytest.mark.parametrize("scheme", [*COUNTS, "richardson"])
@pytest.mark.parametrize("bounds", [None, (0.0, 1.7e308)])
def test_steps_of_no_use_are_named_before_f_is_called(scheme, bounds):
    def never(p):
        raise AssertionError("f was called")

    with pytest.raises(ValueError, match=r"h = 1e-30 is too small to move coordinate 0, which is 1\.0"):
        numerical_gradient(never, [1.0, 2.0], 1e-30, scheme=scheme, bounds=bounds)
    if bounds is None:
        with pytest.raises(ValueError, match="too large for coordinate 1"):
            x = [0.0, 1.5e308 if scheme != "backward" else -1.5e308]
            numerical_gradient(never, x, [1.0, 1e308], scheme=scheme)


# ----------------------------------------------------------------------------------------------- float32, complex steps


@pytest.mark.parametrize("options", [{}, {"bounds": (-10.0, 10.0)}, {"vectorized": True}, {"scheme": "richardson"}])
def test_an_f_that_returns_float32_is_differentiated_with_the_steps_that_it_needs(options):
    x = np.array([0.7, -1.3, 2.1])

    def f(x):
        return np.float32(np.sum(np.sin(x))) if x.ndim == 1 else np.sum(np.sin(x), axis=1).astype(np.float32)

    found = numerical_gradient(f, x, full_output=True, **options)
    error = np.abs(found.gradient - np.cos(x))
    # Differences at the steps of float64 are off by 1e-2; those of f cannot be known better than eps^(4/5) or so.
    assert np.all(error < 2e-4)
    assert np.all(error <= 10 * found.error)
    assert np.all(found.error > 1e-9)
    np.testing.assert_array_equal(numerical_gradient(f, x, **options), found.gradient)


@pytest.mark.parametrize("value", [3.0, 0.0, 1e9])
def test_a_constant_is_no_float32(value):
    found = numerical_gradient(lambda x: value, [0.7, -1.3], full_output=True)
    np.testing.assert_array_equal(found.gradient, 0)


def test_the_complex_check_leaves_alone_what_only_a_line_through_all_coordinates_meets():
    # A wall that no axis crosses: x0 and x1 may not both move by as much as the line does.
    def f(x):
        both = np.abs(np.real(x) - [1.0, 2.0]) > 1e-9
        return np.sum(x**2) + (1e3 if both.all() else 0.0)

    np.testing.assert_allclose(numerical_gradient(f, [1.0, 2.0], scheme="complex"), [2, 4], rtol=1e-15)


@pytest.mark.parametrize("coordinate", [0, 1, 2])
def test_a_coordinate_that_is_not_complex_safe_is_named(coordinate):
    def f(x):
        return np.sum(x**2) + np.abs(x[coordinate])

    with pytest.raises(ValueError, match=f"for coordinate {coordinate} it gives a slope of"):
        numerical_gradient(f, [1.0, -2.0, 3.0], scheme="complex")
