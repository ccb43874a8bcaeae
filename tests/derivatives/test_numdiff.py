"""Numerical derivatives against exact arithmetic, closed forms and SciPy; what peers get silently wrong."""

import fractions
import math
import re

import hypothesis.strategies as st
import mpmath
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from scipy.optimize import check_grad
from scipy.optimize._numdiff import approx_derivative

from fastgd import LinearObjective, kernels, numerical_diff, numerical_gradient

pytestmark = pytest.mark.with_reference

SCHEMES = ("central", "forward")
EVALUATIONS = {"central": lambda d: 2 * d + 3, "forward": lambda d: d + 4}
PROPERTY = settings(
    max_examples=25,
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
# What the default steps give for functions of ordinary scale: ε^(2/3) and ε^(1/2), with room for the third derivative.
ACCURACY = {"central": 1e-9, "forward": 1e-6}


def sum_of_squares(x):
    return float(np.sum(x * x))


# ----------------------------------------------------------------------------------------------------- exact arithmetic


def test_central_difference_of_a_cubic_is_the_slope_plus_h_squared_to_the_last_bit():
    # Every number here has few bits, so nothing is rounded: ((x+h)³ − (x−h)³)/2h = 3x² + h².
    h = 2.0**-10
    for x in (1.0, -3.0, 0.0, 5.5):
        assert numerical_diff(lambda t: t**3, x, h) == 3 * x * x + h * h
        assert numerical_gradient(lambda t: t[0] ** 3, [x], h)[0] == 3 * x * x + h * h


def test_forward_difference_of_a_square_is_the_slope_plus_h_to_the_last_bit():
    h = 2.0**-10
    for x in (1.0, -3.0, 0.0, 5.5):
        assert numerical_gradient(lambda t: t[0] ** 2, [x], h, scheme="forward")[0] == 2 * x + h


@PROPERTY
@given(st.lists(st.integers(-1000, 1000), min_size=1, max_size=6), st.data())
def test_quadratic_forms_with_few_bits_are_exact(x, data):
    d = len(x)
    A = data.draw(st.lists(st.lists(st.integers(-8, 8), min_size=d, max_size=d), min_size=d, max_size=d))
    exact = [sum(fractions.Fraction(A[i][j] + A[j][i]) * x[j] for j in range(d)) for i in range(d)]
    A = np.array(A, float)
    gradient = numerical_gradient(lambda p: float(p @ A @ p), x, 2.0**-6)
    assert gradient.tolist() == [float(g) for g in exact]


def test_the_divisor_is_the_distance_between_the_points_as_they_are():
    # At 1e8 the neighbours of x are 1.5e-8 apart: dividing by the nominal 2h would be wrong in the fourth digit.
    assert numerical_diff(lambda x: 2 * x, 1e8, 1.1e-4) == 2.0
    for scheme in SCHEMES:
        assert numerical_gradient(lambda x: 2 * x[0], [1e8], 1.1e-4, scheme=scheme)[0] == 2.0
    assert (1e8 + 1.1e-4) - (1e8 - 1.1e-4) != 2 * 1.1e-4


# ----------------------------------------------------------------------------------------------- closed forms and peers

FUNCTIONS = {
    "exp": (math.exp, mpmath.exp),
    "sin": (math.sin, mpmath.sin),
    "atan": (math.atan, mpmath.atan),
    "log(1+x²)": (lambda x: math.log1p(x * x), lambda x: mpmath.log(1 + x * x)),
    "polynomial": (lambda x: x**3 + x**2 + x, lambda x: x**3 + x**2 + x),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_slopes_against_mpmath(name):
    f, exact = FUNCTIONS[name]
    for x in (-2.0, -0.3, 0.0, 0.7, 1.0, 2.5):
        slope = float(mpmath.diff(exact, mpmath.mpf(x)))
        scale = max(1.0, abs(slope))
        assert abs(numerical_diff(f, x) - slope) <= 1e-7 * scale  # h = 1e-4: h²/6 of the third derivative
        for scheme in SCHEMES:
            ours = numerical_gradient(lambda p: f(float(p[0])), [x], scheme=scheme)[0]
            assert abs(ours - slope) <= 10 * ACCURACY[scheme] * scale


def log_sum_exp(x):
    return float(np.log(np.sum(np.exp(x))))


def soft_max(x):
    e = np.exp(x - np.max(x))
    return e / e.sum()


@pytest.mark.parametrize("scheme, method", [("central", "3-point"), ("forward", "2-point")])
def test_the_same_gradient_as_scipy_and_as_the_closed_form(scheme, method):
    x = np.array([0.3, -1.2, 4.0, 0.0, -300.0 / 256])
    ours = numerical_gradient(log_sum_exp, x, scheme=scheme)
    np.testing.assert_allclose(ours, approx_derivative(log_sum_exp, x, method=method), atol=10 * ACCURACY[scheme])
    np.testing.assert_allclose(ours, soft_max(x), atol=10 * ACCURACY[scheme])
    assert check_grad(log_sum_exp, lambda p: numerical_gradient(log_sum_exp, p, scheme=scheme), x) < 1e-6


def test_each_coordinate_has_a_step_of_its_size():
    # A single step for all would be lost beside 1e9, or swamp what happens near 0.
    x = np.array([1e9, 1.0, 0.0])
    gradient = numerical_gradient(lambda p: p[0] ** 2 + math.sin(p[1]) + math.exp(p[2]), x)
    # The rounding of f ≈ 1e18 drowns the two others: it is taken apart to see them.
    assert gradient[0] == pytest.approx(2e9, rel=1e-9)
    small = numerical_gradient(lambda p: math.sin(p[1]) + math.exp(p[2]), x)
    np.testing.assert_allclose(small, [0, math.cos(1), 1], atol=1e-9)


def test_default_steps_are_the_documented_ones():
    eps = np.finfo(float).eps
    x = np.array([-200.0, 0.0, 0.5])
    for scheme, root in (("central", 1 / 3), ("forward", 1 / 2)):
        points = []
        numerical_gradient(
            lambda p, points=points: points.append(p) or float(np.sum(np.exp(p / 200))), x, scheme=scheme
        )
        above = points[:6:2] if scheme == "central" else points[1:4]
        h = eps**root * np.array([200.0, 1, 1])
        np.testing.assert_array_equal(above, x + np.diag(h))
        if scheme == "central":
            np.testing.assert_array_equal(points[1:6:2], x - np.diag(h))


# ---------------------------------------------------------------------- what other libraries get silently wrong (peers)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_integers_are_promoted(scheme):
    for x in ([3, -4, 0], (3, -4, 0), np.array([3, -4, 0]), np.array([3, -4, 0], np.int8)):
        gradient = numerical_gradient(sum_of_squares, x, scheme=scheme)
        np.testing.assert_allclose(gradient, [6, -8, 0], atol=1e-6)
        np.testing.assert_allclose(numerical_gradient(sum_of_squares, x, 1e-4), [6, -8, 0], atol=1e-9)
    assert numerical_diff(lambda t: t * t, 3) == pytest.approx(6, abs=1e-9)
    np.testing.assert_allclose(numerical_diff(lambda t: t * t, np.array([3, -4])), [6, -8], atol=1e-9)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_f_may_write_to_its_argument(scheme):
    def f(p):
        value = float(p @ p)
        p[:] = 1e9
        return value

    x = np.array([3.0, -4.0, 0.0])
    np.testing.assert_allclose(numerical_gradient(f, x, scheme=scheme), [6, -8, 0], atol=1e-6)
    assert x.tolist() == [3, -4, 0]

    def elementwise(p):
        p *= p
        return p

    np.testing.assert_allclose(numerical_diff(elementwise, x), [6, -8, 0], atol=1e-9)
    assert x.tolist() == [3, -4, 0]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # to set a shape in place is on its way out of NumPy
@pytest.mark.parametrize(
    "name, changed",
    [
        ("shape", (6,)),
        ("shape", (3, 2)),
        ("dtype", np.int64),
        ("dtype", ">f8"),
        ("strides", (8, 16)),
        ("strides", (0, 0)),
    ],
)
@pytest.mark.parametrize("scheme", SCHEMES)
def test_f_may_change_more_of_its_argument_than_the_numbers(name, changed, scheme):
    x = np.arange(6.0).reshape(2, 3)
    calls = []

    def f(p):
        assert p.shape == (2, 3)
        assert p.dtype == np.float64
        assert p.flags.c_contiguous
        calls.append(p.tolist())
        value = float(np.sum(p * p))
        setattr(p, name, changed)
        return value

    np.testing.assert_allclose(numerical_gradient(f, x, scheme=scheme), 2 * x, atol=1e-6)
    assert len(calls) == EVALUATIONS[scheme](6)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_f_may_make_its_argument_read_only(scheme):
    def f(p):
        assert p.flags.writeable
        p.flags.writeable = False
        return float(p @ p)

    np.testing.assert_allclose(numerical_gradient(f, np.arange(4.0), scheme=scheme), 2 * np.arange(4.0), atol=1e-6)


@pytest.mark.parametrize("shape", [(), (1,), (1, 1)])
@pytest.mark.parametrize("scheme", SCHEMES)
def test_f_may_return_the_same_buffer_each_time(scheme, shape):
    buffer = np.empty(shape)

    def f(p):
        buffer[...] = p @ p
        return buffer

    np.testing.assert_allclose(numerical_gradient(f, [3.0, -4.0], scheme=scheme), [6, -8], atol=1e-6)


def test_an_elementwise_f_may_return_the_same_buffer_each_time():
    buffer = np.empty(3)
    x = np.array([3.0, -4.0, 0.0])
    np.testing.assert_allclose(numerical_diff(lambda p: np.multiply(p, p, out=buffer), x), [6, -8, 0], atol=1e-9)


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("error", [RuntimeError("mine"), ValueError("mine"), TypeError("mine"), KeyboardInterrupt()])
def test_what_f_raises_arrives_as_it_is_and_x_is_not_left_perturbed(error, scheme):
    calls = []

    def f(p):
        calls.append(p)
        if len(calls) == 3:
            raise error
        return float(p @ p)

    x = np.array([3.0, -4.0, 1.0])
    with pytest.raises(type(error)) as raised:
        numerical_gradient(f, x, scheme=scheme)
    assert raised.value is error
    assert x.tolist() == [3, -4, 1]
    with pytest.raises(type(error)) as raised:
        numerical_diff(lambda t: (_ for _ in ()).throw(error), 1.0)
    assert raised.value is error


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_nan_on_one_side_is_named_with_its_point_and_coordinate(bad, scheme):
    def f(p):
        return bad if p[1] > 2 else float(p @ p)

    with pytest.raises(ValueError, match=r"f returned (nan|inf|-inf) at x = \[1\. .*coordinate 1 .*finite"):
        numerical_gradient(f, [1.0, 2.0], scheme=scheme)
    gradient = numerical_gradient(f, [1.0, 2.0], scheme=scheme, nan_policy="propagate")
    assert gradient[0] == pytest.approx(2, abs=1e-6)
    assert not np.isfinite(gradient[1])
    with pytest.raises(ValueError, match=r"nan|inf"):
        numerical_diff(lambda t: bad if t > 1 else t, 1.0)
    with pytest.raises(ValueError, match=r"nan|inf"):
        numerical_diff(lambda t: np.where(t > 1, bad, t), np.ones(2))


NOT_NUMBERS = {
    "complex": 1 + 0j,
    "complex array": np.array(1 + 0j),
    "list": [1.0],
    "tuple": (1.0,),
    "None": None,
    "string": "1",
    "string array": np.array("1"),
    "bool": True,
    "numpy bool": np.True_,
    "dict": {},
}


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("returned", NOT_NUMBERS.values(), ids=NOT_NUMBERS)
def test_what_is_no_real_number_is_a_type_error_that_says_what_it_is(returned, scheme):
    with pytest.raises(TypeError, match=r"f must return one real number; it returned .*at x = "):
        numerical_gradient(lambda p: returned, [1.0, 2.0], scheme=scheme)
    with pytest.raises(TypeError, match="one real number"):
        numerical_diff(lambda p: returned, 1.0)


@pytest.mark.parametrize("returned", [np.ones(2), np.empty(0), np.ones((2, 1)), 10**400], ids=["2", "0", "2x1", "int"])
def test_several_numbers_or_none_or_one_too_large(returned):
    with pytest.raises(ValueError, match=r"f must return one real number|too large for a float"):
        numerical_gradient(lambda p: returned, [1.0, 2.0])


NUMBERS = {
    "float": float,
    "int": lambda v: int(v * 2**30),
    "float64": np.float64,
    "longdouble": np.longdouble,
    "Fraction": fractions.Fraction,
    "0-d": np.array,
    "one element": lambda v: np.array([v]),
    "one element, two dimensions": lambda v: np.array([[v]]),
    "int64": lambda v: np.int64(v * 2**30),
}


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("wrap", NUMBERS.values(), ids=NUMBERS)
def test_every_kind_of_real_number_is_taken(wrap, scheme):
    gradient = numerical_gradient(lambda p: wrap(float(p @ p)), [3.0, -4.0], 2.0**-12, scheme=scheme)
    unit = 2**30 if isinstance(wrap(1.0), (int, np.int64)) else 1
    np.testing.assert_allclose(gradient / unit, [6, -8], atol=1e-3)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, ">f4", ">f8", np.longdouble])
def test_other_floats_are_promoted_before_the_step_is_taken(dtype):
    gradient = numerical_gradient(sum_of_squares, np.array([3, -4, 0.5], dtype))
    assert gradient.dtype == np.float64
    np.testing.assert_allclose(gradient, [6, -8, 1], atol=1e-9)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_x_of_any_shape(scheme):
    x = np.arange(6.0).reshape(2, 3)
    seen = set()

    def f(p):
        seen.add(p.shape)
        return float(np.sum(p**2))

    gradient = numerical_gradient(f, x, scheme=scheme)
    assert gradient.shape == (2, 3)
    np.testing.assert_allclose(gradient, 2 * x, atol=1e-6)
    assert seen == {(2, 3)}
    number = numerical_gradient(lambda p: float(p) ** 2, 3.0, scheme=scheme)
    assert type(number) is float
    assert number == pytest.approx(6, abs=1e-6)
    assert numerical_gradient(lambda p: 0.0, [], scheme=scheme).shape == (0,)


# ------------------------------------------------------------------------------------------------------ what f is given


@pytest.mark.parametrize("scheme, calls", [("central", 8), ("forward", 5)])
def test_the_points_and_their_number(scheme, calls):
    kept = []

    def f(p):
        assert type(p) is np.ndarray
        assert p.dtype == np.float64
        assert p.flags.c_contiguous
        kept.append(p)
        return float(p @ p)

    x = np.array([1.0, 2.0, 3.0, 4.0])
    numerical_gradient(f, x, 0.25, scheme=scheme)
    assert len(kept) == calls == EVALUATIONS[scheme](4) - 3  # at a given step nothing is looked for
    expected = []
    if scheme == "forward":
        expected.append(x)
    for i in range(4):
        for sign in (1, -1) if scheme == "central" else (1,):
            expected.append(x + 0.25 * sign * np.eye(4)[i])
    np.testing.assert_array_equal(kept, expected)  # they were kept, so each must be memory of its own
    assert not any(np.shares_memory(p, x) for p in kept)


def test_args_are_passed_on():
    f = lambda p, scale, shift: scale * float(p @ p) + shift  # noqa: E731
    np.testing.assert_allclose(numerical_gradient(f, [3.0, -4.0], args=(2.0, 7.0)), [12, -16], atol=1e-8)


def test_f_may_itself_take_a_numerical_gradient():
    def squared_slope(p):
        return float(np.sum(numerical_gradient(sum_of_squares, p, 2.0**-7) ** 2))  # 4‖p‖²

    np.testing.assert_allclose(numerical_gradient(squared_slope, [1.0, 2.0], 2.0**-7), [8, 16], rtol=1e-9)


def layouts(x, directory):
    """The same numbers in every memory layout that a caller may have."""
    wide = np.full((2 * x.shape[0], 3 * x.shape[1]), np.nan)
    wide[::2, ::3] = x
    frozen = x.copy()
    frozen.flags.writeable = False
    mapped = np.memmap(directory / "x", np.float64, "w+", shape=x.shape)
    mapped[:] = x
    packed = np.zeros(x.shape, np.dtype([("pad", "i1"), ("x", "f8")]))
    packed["x"] = x
    return {
        "F": np.asfortranarray(x),
        "strided": wide[::2, ::3],
        "reversed": x[::-1, ::-1].copy()[::-1, ::-1],
        "read-only": frozen,
        "memory-mapped": mapped,
        "big-endian": x.astype(">f8"),
        "unaligned": packed["x"],
        "list": x.tolist(),
        "object": x.astype(object),
    }


def test_memory_layout_changes_no_bit_and_x_is_never_written_to(tmp_path):
    x = np.random.default_rng(0).standard_normal((3, 4))

    def f(p):
        value = float(np.sum(np.sin(p) * np.arange(12).reshape(3, 4)))
        p[:] = np.nan
        return value

    for scheme in SCHEMES:
        expected = numerical_gradient(f, x, scheme=scheme)
        for name, version in layouts(x, tmp_path).items():
            before = np.array(version)
            np.testing.assert_array_equal(numerical_gradient(f, version, scheme=scheme), expected, err_msg=name)
            np.testing.assert_array_equal(np.asarray(version), before, err_msg=name)


@PROPERTY
@given(
    st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=8),
    st.sampled_from(SCHEMES),
    st.floats(1e-3, 1e3),
)
def test_a_linear_function_has_its_coefficients_as_gradient(x, scheme, scale):
    c = scale * np.cos(np.arange(len(x)))
    gradient = numerical_gradient(lambda p: float(c @ p), x, scheme=scheme)
    # Rounding of the sum over the smallest step, the only error there is.
    step = np.finfo(float).eps ** {"central": 1 / 3, "forward": 1 / 2}[scheme]
    size = np.sum(np.abs(c) * (np.abs(x) + 1))
    assert np.all(np.abs(gradient - c) <= 20 * np.finfo(float).eps * size / step)


def test_the_builds_agree_to_the_last_bit(build):
    x = np.random.default_rng(1).standard_normal(7)
    for scheme in SCHEMES:
        ours = numerical_gradient(log_sum_exp, x, scheme=scheme)
        before = kernels.active.name
        kernels.select("reference")
        theirs = numerical_gradient(log_sum_exp, x, scheme=scheme)
        kernels.select(before)
        np.testing.assert_array_equal(ours, theirs)


def test_a_step_for_each_coordinate():
    def f(p):
        return float(np.sum(p**3))

    x, h = np.array([1.0, 2.0]), np.array([2.0**-3, 2.0**-5])
    expected = 3 * x**2 + h**2
    assert numerical_gradient(f, x, h).tolist() == expected.tolist()
    assert numerical_gradient(f, x[:, None], h[:, None]).tolist() == expected[:, None].tolist()
    assert h.tolist() == [2.0**-3, 2.0**-5]


# ------------------------------------------------------------------------------------------------------------ bad input

BAD = [
    ({"f": 3}, TypeError, "f must be callable"),
    ({"f": None}, TypeError, "f must be callable"),
    ({"x": "abc"}, TypeError, "x must hold real numbers"),
    ({"x": ["1", "2"]}, TypeError, "x must hold real numbers"),
    ({"x": [1j, 0]}, TypeError, "x must hold real numbers"),
    ({"x": {1.0, 2.0}}, TypeError, "x must hold real numbers"),
    ({"x": {"a": "one"}}, TypeError, r"x\['a'\] must hold real numbers"),
    ({"x": np.array(["2020-01-01"], "M8[D]")}, TypeError, "x must hold real numbers"),
    ({"x": np.zeros(2, "f8,f8")}, TypeError, "x must hold real numbers"),
    ({"x": [[1.0], [1.0, 2.0]]}, ValueError, "x must be an array of numbers with rows of equal length"),
    ({"x": [1.0, np.nan]}, ValueError, r"x must be finite; x\[1\] is nan"),
    ({"x": [[1.0, 2.0], [-np.inf, 2.0]]}, ValueError, r"x must be finite; x\[1, 0\] is -inf"),
    ({"h": 0}, ValueError, "h must be positive"),
    ({"h": -1e-4}, ValueError, "h must be positive"),
    ({"h": [1e-4, 0.0]}, ValueError, "h must be positive"),
    ({"h": np.nan}, ValueError, "h must be finite"),
    ({"h": "small"}, TypeError, "h must hold real numbers"),
    ({"h": [1e-4] * 3}, ValueError, r"h must be a number or an array of the shape of x, \(2,\); got shape \(3,\)"),
    ({"h": [[1e-4], [1e-4]]}, ValueError, "h must be a number or an array of the shape of x"),
    ({"h": 1e-30}, ValueError, "too small to move coordinate 0"),
    ({"scheme": "backwards"}, ValueError, "scheme must be one of 'central', 'forward'"),
    ({"scheme": 3}, ValueError, "scheme must be one of"),
    ({"nan_policy": "ignore"}, ValueError, "nan_policy must be one of 'raise', 'propagate'"),
    ({"args": [2.0]}, TypeError, "args must be a tuple"),
]


@pytest.mark.parametrize("change, error, message", BAD, ids=[f"{i} {', '.join(row[0])}" for i, row in enumerate(BAD)])
def test_bad_input_of_numerical_gradient(change, error, message):
    arguments = {"f": sum_of_squares, "x": [1.0, 2.0], **change}
    with pytest.raises(error, match=message):
        numerical_gradient(**arguments)


BAD_DIFF = [
    ({"f": None}, TypeError, "f must be callable"),
    ({"x": "1"}, TypeError, "x must hold real numbers"),
    ({"x": np.nan}, ValueError, "x must be finite; x is nan"),
    ({"h": 0}, ValueError, "h must be finite and positive"),
    ({"h": np.inf}, ValueError, "h must be finite and positive"),
    ({"h": "a"}, TypeError, "h must be a real number"),
    ({"h": True}, TypeError, "h must be a real number"),
    ({"h": [1e-4]}, TypeError, "h must be a real number"),
    ({"x": 1e20}, ValueError, "too small to move x"),
    ({"x": [1.0, 1e20]}, ValueError, "too small to move x"),
    ({"x": [1.0, 2.0], "f": lambda p: p[0]}, ValueError, r"f must work elementwise.*returned shape \(\)"),
    ({"x": [1.0, 2.0], "f": lambda p: p * 1j}, TypeError, "what f returned"),
]


@pytest.mark.parametrize(
    "change, error, message", BAD_DIFF, ids=[f"{i} {', '.join(row[0])}" for i, row in enumerate(BAD_DIFF)]
)
def test_bad_input_of_numerical_diff(change, error, message):
    arguments = {"f": lambda p: p * p, "x": 1.0, **change}
    with pytest.raises(error, match=message):
        numerical_diff(**arguments)


def test_the_callers_error_state_does_not_matter():
    # log and exp come close to the ends here; the differences themselves must not raise FloatingPointError.
    with np.errstate(all="raise"):
        assert numerical_gradient(lambda p: 1e308 * math.tanh(p[0]), [0.0])[0] == pytest.approx(1e308)
        bad = numerical_gradient(lambda p: math.inf, [0.0], nan_policy="propagate")
    assert math.isnan(bad[0])


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("x", [1.7e308, -1.7e308])
def test_a_step_that_leaves_the_floats_is_an_error(scheme, x):
    message = rf"h = 1e\+308 is too large for coordinate 1, which is {re.escape(repr(x))}"
    arguments = lambda p: float(np.tanh(p[1, 0])), [[0.0], [x]], [[1.0], [1e308]]
    if scheme == "forward" and x < 0:  # a step inwards
        assert numerical_gradient(*arguments, scheme=scheme).tolist() == [[0], [0]]
        return
    with pytest.raises(ValueError, match=message):
        numerical_gradient(*arguments, scheme=scheme)


def test_points_that_are_too_far_apart_are_an_error():
    # Both points are numbers; their distance is none.
    with pytest.raises(ValueError, match=r"too large for coordinate 0, which is 0\.0"):
        numerical_gradient(lambda p: 0.0, [0.0], 1e308)


def test_a_step_of_numerical_diff_that_leaves_the_floats_is_an_error():
    for x in (1.7e308, 0.0, [1.0, -1.7e308]):
        with pytest.raises(ValueError, match=r"h = 1e\+308 is too large for x = "):
            numerical_diff(np.tanh, x, 1e308)


def test_a_masked_value_is_no_number():
    for value in (np.ma.masked, np.ma.array([1.0], mask=True)):
        with pytest.raises(TypeError, match="f must return one real number; it returned a masked value"):
            numerical_gradient(lambda p, value=value: value, [1.0])
    with pytest.raises(ValueError, match="what f returned for an array x has masked values"):
        numerical_diff(lambda p: np.ma.array(p, mask=[True, False]), np.ones(2))
    assert numerical_gradient(lambda p: np.ma.array(p @ p), [1.0], 0.5)[0] == 2


def test_an_elementwise_f_without_return_is_a_type_error():
    with pytest.raises(TypeError, match="what f returned for an array x must hold real numbers; got None"):
        numerical_diff(lambda p: None, np.ones(2))


@pytest.mark.parametrize("scheme", SCHEMES)
def test_the_warnings_of_f_are_heard(scheme):
    with pytest.warns(RuntimeWarning, match="invalid value"):
        gradient = numerical_gradient(lambda p: np.log(p[0]), [-1.0], scheme=scheme, nan_policy="propagate")
    assert math.isnan(gradient[0])
    with np.errstate(invalid="raise"), pytest.raises(FloatingPointError):
        numerical_gradient(lambda p: np.log(p[0]), [-1.0], scheme=scheme)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_differences_that_overflow_do_not_warn(scheme):
    f = lambda p: math.copysign(1.7e308, p[0])  # noqa: E731
    with np.errstate(all="raise"):
        assert numerical_gradient(f, [-1e-9], 1e-6, scheme=scheme)[0] == math.inf
        assert numerical_diff(lambda p: np.copysign(1.7e308, p), [-1e-9], 1e-6)[0] == math.inf


def test_an_objective_is_pointed_to_its_value():
    objective = LinearObjective([[1.0], [2.0]], [1.0, 3.0])
    with pytest.raises(TypeError, match=r"f must be callable; got LinearObjective.*; pass its method `value`"):
        numerical_gradient(objective, [1.0])
    assert numerical_gradient(objective.value, [1.0]) == pytest.approx(objective.gradient([1.0]))
