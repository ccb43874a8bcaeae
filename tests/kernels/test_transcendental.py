"""exp, log1p, tanh and what is made of them, point by point, in units of the last place of the exact value."""

import functools

import mpmath
import numpy as np
import pytest

from fastgd.kernels.codes import ACTIVATIONS

pytestmark = pytest.mark.every_build

# The largest double with a finite exp, the smallest with one that is not 0, and the smallest with a normal one.
OVERFLOW, UNDERFLOW, SUBNORMAL = 709.782712893384, -745.1332191019411, -708.3964185322641
EDGES = np.array([OVERFLOW, UNDERFLOW, SUBNORMAL, 709.78, -745.13, -740.0, -720.0, 0.0, 1e-300, 5e-324, 1.0, 0.55])


def sigmoid(h):
    return 1 / (1 + mpmath.exp(-h))


def sigmoid_prime(h):
    e = mpmath.exp(-abs(h))
    return e / (1 + e) ** 2


def softplus(h):
    return mpmath.log1p(mpmath.exp(-abs(h))) + max(h, 0)


def tanh_prime(h):
    return mpmath.sech(h) ** 2


# f, f', and their errors in ulp: 2 for exp, 3 for log1p and tanh, and what the operations around them add.
FORMULAS = {
    "exp": (mpmath.exp, mpmath.exp, 2, 2),
    "tanh": (mpmath.tanh, tanh_prime, 3, 8),
    "sigmoid": (sigmoid, sigmoid_prime, 4, 6),
    "softplus": (softplus, sigmoid, 5, 4),
}


@functools.cache
def points():
    """Points in each range where another branch, or another part of a reduction, decides."""
    rng = np.random.default_rng(0)
    multiples = np.log(2) * (np.arange(-1075, 1025) + 0.5)  # where the reduction of exp goes from one power to the next
    near = np.concatenate([EDGES, [0.55, 1.35], multiples[::8]])
    scales = np.exp(rng.uniform(-40, 0, 500)) * rng.choice([-1, 1], 500)  # down to 1e-17
    spread = [rng.uniform(-s, s, 1500) for s in (0.4, 1.0, 3.0, 40.0)]
    far = rng.uniform(UNDERFLOW - 5, OVERFLOW + 5, 1500)
    deep = rng.uniform(UNDERFLOW, SUBNORMAL, 300)
    every = np.concatenate([near, np.nextafter(near, 1e3), np.nextafter(near, -1e3), scales, *spread, far, deep])
    return np.concatenate([every, -every])


def ulps(ours, true):
    """|ours − true| in units of the last place of true, the exact values being (rounded, rest in ulp)."""
    rounded, rest = true
    finite = np.isfinite(rounded)
    np.testing.assert_array_equal(ours[~finite], rounded[~finite])
    error = (ours[finite] - rounded[finite]) / np.spacing(np.abs(rounded[finite])) - rest[finite]
    return np.abs(error)


def exactly(f, h):
    """f of each double: its value rounded, and what the rounding left, in ulp."""
    rounded, rest = [], []
    with mpmath.workdps(40):
        for point in h.tolist():
            true = f(mpmath.mpf(point))
            rounded.append(float(true))
            finite = np.isfinite(rounded[-1])
            rest.append(float((true - rounded[-1]) / float(np.spacing(abs(rounded[-1])))) if finite else 0.0)
    return np.array(rounded), np.array(rest)


@functools.cache
def truth(activation, derivative):
    return exactly(FORMULAS[activation][derivative], points())


def applied(build, h, activation, derivative=False):
    h = np.array(h)
    out, before = np.full_like(h, 7), h.copy()
    (build.apply_derivative if derivative else build.apply_activation)(h, ACTIVATIONS[activation], out)
    np.testing.assert_array_equal(h, before)
    return out


@pytest.mark.parametrize("derivative", [False, True])
@pytest.mark.parametrize("activation", FORMULAS)
def test_float64_to_a_few_units_of_the_last_place(build, activation, derivative):
    ours = applied(build, points(), activation, derivative)
    error = ulps(ours, truth(activation, derivative))
    limit = FORMULAS[activation][2 + derivative]
    assert error.max() <= limit, f"{error.max():.2f} ulp"
    assert error.max() > 0.5, "no rounding at all: the error is not being measured"


def test_log1p_by_itself(build):
    """log(1 + e) for e in [0, 1], as the softplus of a negative h makes it of e = exp(h)."""
    h = -np.abs(points())
    e = applied(build, h, "exp")
    error = ulps(applied(build, h, "softplus"), exactly(mpmath.log1p, e))
    assert 0.5 < error.max() <= 3, f"{error.max():.2f} ulp"


@pytest.mark.parametrize("derivative", [False, True])
@pytest.mark.parametrize("activation", FORMULAS)
def test_float32_as_good_as_the_format(build, activation, derivative):
    h = points().astype(np.float32)
    h = h[np.abs(h) < 104]  # a little beyond both ends of a float32 exp
    ours = applied(build, h, activation, derivative)
    assert ours.dtype == np.float32
    with mpmath.workdps(40):
        true = np.array([float(FORMULAS[activation][derivative](mpmath.mpf(point))) for point in h.tolist()])
    with np.errstate(over="ignore"):
        rounded = true.astype(np.float32)
    finite = np.isfinite(rounded)
    np.testing.assert_array_equal(ours[~finite], rounded[~finite])
    info = np.finfo(np.float32)
    error = np.abs(ours[finite].astype(np.float64) - true[finite])
    # NumPy's own float32 exp goes into the reference, with an error of a few units before the formulas begin.
    assert np.all(error <= (8 if derivative else 4) * info.eps * np.abs(true[finite]) + float(info.tiny))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_identity_and_relu_are_exact(build, dtype):
    h = np.concatenate([points().astype(dtype), np.array([0, -0.0, np.inf, -np.inf, np.nan], dtype)])
    np.testing.assert_array_equal(applied(build, h, "identity"), h)
    np.testing.assert_array_equal(applied(build, h, "identity", True), np.ones_like(h))
    np.testing.assert_array_equal(applied(build, h, "relu"), np.where(np.isnan(h), np.nan, np.maximum(h, 0)))
    np.testing.assert_array_equal(applied(build, h, "relu", True), h > 0)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    "activation, values, slopes",
    [
        # at −∞, ∞, NaN, −0, 0
        ("exp", [0, np.inf, np.nan, 1, 1], [0, np.inf, np.nan, 1, 1]),
        ("sigmoid", [0, 1, np.nan, 0.5, 0.5], [0, 0, np.nan, 0.25, 0.25]),
        ("tanh", [-1, 1, np.nan, 0, 0], [0, 0, np.nan, 1, 1]),
        ("softplus", [0, np.inf, np.nan, np.log(2), np.log(2)], [0, 1, np.nan, 0.5, 0.5]),
    ],
)
@pytest.mark.parametrize("copies", [1, 40])  # one point in a loop, and whole registers of them
def test_at_the_ends_of_the_number_line(build, activation, values, slopes, copies, dtype):
    h = np.tile(np.array([-np.inf, np.inf, np.nan, -0.0, 0.0], dtype), copies)
    np.testing.assert_array_equal(applied(build, h, activation), np.tile(np.array(values, dtype), copies))
    np.testing.assert_array_equal(applied(build, h, activation, True), np.tile(np.array(slopes, dtype), copies))


def test_exp_overflows_and_underflows_where_doubles_do(build):
    h = np.array([OVERFLOW, np.nextafter(OVERFLOW, 710), 710, 1e308, UNDERFLOW, np.nextafter(UNDERFLOW, -800), -1e308])
    ours = applied(build, h, "exp")
    assert np.isfinite(ours[0])
    np.testing.assert_array_equal(ours[1:4], np.inf)
    assert ours[4] == 5e-324
    np.testing.assert_array_equal(ours[5:], 0)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("activation", FORMULAS)
def test_a_point_has_one_value_wherever_it_stands(build, activation, dtype):
    """Alone, at the end of a block, or in the middle of a register: whether threads cut here or there."""
    h = points()[:301].astype(dtype)
    h = h[np.abs(h) < 80]
    ours = applied(build, h, activation)
    for first, last in [(0, 1), (1, 2), (3, 140), (5, 14), (100, len(h))]:
        np.testing.assert_array_equal(applied(build, h[first:last], activation), ours[first:last])


def test_the_softmax_is_not_a_function_of_one_point(build):
    with pytest.raises((ValueError, KeyError)):
        applied(build, np.zeros(3), "softmax")
