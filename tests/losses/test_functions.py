"""sigmoid, sigmoid_prime and sse against mpmath, exact fractions and each other."""

from fractions import Fraction

import hypothesis.strategies as st
import mpmath
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings

from fastgd import numerical_diff, sigmoid, sigmoid_prime, sse

PROPERTY = settings(
    max_examples=30,
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


@PROPERTY
@given(st.floats(-745, 745))
def test_sigmoid_and_its_slope_to_the_last_digits(h):
    with mpmath.workdps(40):
        e = mpmath.exp(-abs(mpmath.mpf(h)))
        value = 1 / (1 + mpmath.exp(-mpmath.mpf(h)))
        slope = e / (1 + e) ** 2
        # Below the smallest normal number digits run out.
        assert abs(float(sigmoid(h)) - value) <= 1e-15 * value + 5e-308
        assert abs(float(sigmoid_prime(h)) - slope) <= 2e-15 * slope + 5e-308


@PROPERTY
@given(st.floats(-30, 30))
def test_sigmoid_identities(h):
    assert float(sigmoid(h) + sigmoid(-h)) == pytest.approx(1, abs=4e-16)
    assert float(sigmoid_prime(h)) == float(sigmoid_prime(-h))
    assert float(sigmoid_prime(h)) == pytest.approx(float(sigmoid(h) * sigmoid(-h)), rel=2e-15)
    assert numerical_diff(lambda t: float(sigmoid(t)), h) == pytest.approx(float(sigmoid_prime(h)), abs=1e-9)


@pytest.mark.parametrize("function", [sigmoid, sigmoid_prime])
def test_shapes_and_dtypes(function):
    expected = {sigmoid: 0.7310585786300049, sigmoid_prime: 0.19661193324148188}[function]
    floats = [("f8", "f8"), ("f4", "f4"), ("f2", "f4"), (">f8", "f8"), (">f4", "f4")]
    for dtype, kept in (*floats, ("i4", "f8"), ("?", "f8")):
        for shape in ((), (1,), (2, 3), (0,), (2, 0, 3)):
            h = np.ones(shape, dtype)
            out = function(h)
            assert out.shape == shape
            assert out.dtype == kept
            np.testing.assert_allclose(out, expected, rtol=1e-6 if kept == "f4" else 1e-15)
    assert isinstance(function(1), np.float64)
    assert isinstance(function(np.float32(1)), np.float32)
    np.testing.assert_array_equal(function([[1, 1], [1, 1]]), function(np.ones((2, 2))))


@pytest.mark.parametrize("function", [sigmoid, sigmoid_prime])
def test_layout_does_not_matter_and_the_argument_is_not_written_to(function):
    h = np.linspace(-3, 3, 24).reshape(4, 6)
    frozen = h.copy()
    frozen.flags.writeable = False
    expected = function(h.copy())
    for version in (h[::-1, ::-1][::-1, ::-1], np.asfortranarray(h), frozen, np.repeat(h, 2, axis=1)[:, ::2]):
        before = version.copy()
        np.testing.assert_array_equal(function(version), expected)
        np.testing.assert_array_equal(version, before)


def test_the_ends_of_the_number_line_whatever_the_error_state():
    h = [-np.inf, -1e308, -800, -0.0, 800, 1e308, np.inf, np.nan]
    with np.errstate(all="raise"):
        np.testing.assert_array_equal(sigmoid(h), [0, 0, 0, 0.5, 1, 1, 1, np.nan])
        np.testing.assert_array_equal(sigmoid_prime(h), [0, 0, 0, 0.25, 0, 0, 0, np.nan])


@pytest.mark.parametrize("function", [sigmoid, sigmoid_prime])
@pytest.mark.parametrize(
    "h",
    ["a", ["1"], 1j, {1.0}, None, [None, 1.0], [[1.0], [1.0, 2.0]], np.array(["2020"], "M8[Y]")],
    ids=str,
)
@pytest.mark.one_build
def test_what_is_no_number_is_named(function, h):
    with pytest.raises((TypeError, ValueError), match="h must"):
        function(h)


# ----------------------------------------------------------------------------------------------------------------- sse


@PROPERTY
@given(st.integers(1, 6), st.integers(1, 4), st.integers(1, 3), st.data())
def test_sse_of_small_integers_is_exact(n, d, k, data):
    integers = st.integers(-50, 50)

    def matrix(rows, columns):
        return data.draw(st.lists(st.lists(integers, min_size=columns, max_size=columns), min_size=rows, max_size=rows))

    X, Y, W, b = matrix(n, d), matrix(n, k), matrix(d, k), matrix(1, k)[0]
    exact = sum(
        Fraction(1, 2) * (Y[i][c] - sum(X[i][j] * W[j][c] for j in range(d)) - b[c]) ** 2
        for i in range(n)
        for c in range(k)
    )
    assert sse(X, Y, W, b) == float(exact)
    for dtype in (np.float32, np.float64):
        value = sse(np.array(X, dtype), np.array(Y, dtype), np.array(W, dtype), np.array(b, dtype))
        assert type(value) is float
        assert value == float(exact)
    column = [row[0] for row in Y], [row[0] for row in W]
    flat = sse(X, *column, b[0])
    assert flat == sse(X, *column, b[:1]) == sse(X, *[[[v] for v in values] for values in column], b[0])


def test_sse_of_each_activation():
    X, y, w, b = [[0.5, -1.0], [2.0, 0.25]], [0.3, -0.7], [0.8, -0.4], 0.1
    f = {"identity": lambda h: h, "sigmoid": lambda h: 1 / (1 + mpmath.exp(-h)), "tanh": mpmath.tanh}
    for activation, function in f.items():
        h = [mpmath.fdot(row, w) + b for row in X]
        exact = sum((t - function(v)) ** 2 for t, v in zip(y, h, strict=True)) / 2
        assert sse(X, y, w, b, activation) == pytest.approx(float(exact), rel=1e-14)


@pytest.mark.parametrize(
    "change, error, message",
    [
        ({"X": [1.0]}, ValueError, "X must be 2-dimensional"),
        ({"y": [1.0, 2.0]}, ValueError, "y has 2 rows, X has 1"),
        ({"w": [1.0]}, ValueError, r"w must have shape \(2,\); got \(1,\)"),
        ({"w": [[1.0], [2.0]]}, ValueError, r"w must have shape \(2,\)"),
        ({"w": [np.nan, 1.0]}, ValueError, r"w must be finite; w\[0\] is nan"),
        ({"b": [1.0, 2.0]}, ValueError, r"b must be a number or have shape \(1,\); got shape \(2,\)"),
        ({"b": np.inf}, ValueError, "b must be finite"),
        ({"b": "a"}, TypeError, "b must hold real numbers"),
        ({"activation": "step"}, ValueError, "activation must be one of 'identity', 'sigmoid', 'tanh'"),
        ({"activation": None}, ValueError, "activation must be one of"),
    ],
    ids=str,
)
@pytest.mark.one_build
def test_bad_input_of_sse(change, error, message):
    with pytest.raises(error, match=message):
        sse(**{"X": [[1.0, 2.0]], "y": [1.0], "w": [1.0, 2.0], **change})
