"""What other libraries get wrong without a word: each cell of that table, by every scheme, for gradients and Jacobians.

The wrong answers were measured on SciPy 1.17.1, numdifftools 0.11.2, optimagic 0.5.3 and statsmodels 0.15.
"""

import numpy as np
import pytest

from fastgd import numerical_gradient, numerical_jacobian
from fastgd.derivatives.gradient import SCHEMES

FUNCTIONS = [numerical_gradient, numerical_jacobian]
everywhere = pytest.mark.parametrize("scheme", SCHEMES)
both = pytest.mark.parametrize("derivative", FUNCTIONS)
TOLERANCE = {"forward": 1e-6, "backward": 1e-6}


def close(found, expected, scheme):
    np.testing.assert_allclose(np.reshape(found, np.shape(expected)), expected, atol=TOLERANCE.get(scheme, 1e-8))


@everywhere
@both
def test_integers_are_no_grid(derivative, scheme):
    # The textbook's loop: [25000, −35000, 0].
    close(derivative(lambda x: np.sum(x**2), np.array([3, -4, 0]), scheme=scheme), [6, -8, 0], scheme)


@everywhere
@both
def test_f_may_write_to_its_argument(derivative, scheme):
    # SciPy's approx_fprime: −1.7e9, and the caller's x zeroed; numdifftools and statsmodels: 0.
    def f(x):
        value = np.sum(x**2)
        x[:] = 0
        return value

    x = np.array([3.0, -4.0, 1.0])
    close(derivative(f, x, scheme=scheme), [6, -8, 2], scheme)
    np.testing.assert_array_equal(x, [3, -4, 1])


@everywhere
@both
def test_f_may_return_one_buffer_each_time(derivative, scheme):
    # 0 by every one of them.
    buffers = {kind: np.empty(1, kind) for kind in (float, complex)}

    def f(x):
        buffer = buffers[complex if np.iscomplexobj(x) else float]
        buffer[0] = np.sum(x**2)
        return buffer

    close(derivative(f, [3.0, -4.0], scheme=scheme), [6, -8], scheme)


@everywhere
@both
def test_what_f_raises_arrives_and_x_is_as_it_was(derivative, scheme):
    # The textbook's loop leaves x changed; optimagic returns NaN.
    def f(x):
        if x[1] != 2:
            raise KeyError("of f")
        return np.sum(x**2)

    x = np.array([1.0, 2.0])
    with pytest.raises(KeyError, match="of f"):
        derivative(f, x, scheme=scheme)
    np.testing.assert_array_equal(x, [1, 2])


@everywhere
@both
def test_nan_is_an_error_or_asked_for(derivative, scheme):
    # NaN; SciPy's complex step: 0.
    def f(x):
        return np.sum(x) if np.real(x[0]) == 1 and np.imag(x[0]) == 0 else np.nan * np.sum(x)

    with pytest.raises(ValueError, match=r"nan|NaN"):
        derivative(f, [1.0, 2.0], scheme=scheme)
    found = np.ravel(derivative(f, [1.0, 2.0], scheme=scheme, nan_policy="propagate"))
    assert np.isnan(found[0])
    assert found[1] == pytest.approx(1, abs=1e-7)


@everywhere
@both
@pytest.mark.parametrize("returned", [1 + 2j, np.complex128(3j), np.array([1j])], ids=["Python", "NumPy", "array"])
def test_a_complex_value_at_a_real_point_is_refused(derivative, scheme, returned):
    # The imaginary part is dropped; SciPy's complex step: 5.6e8.
    def f(x):
        return returned * (1 if np.iscomplexobj(x) else np.sum(x))

    with pytest.raises((TypeError, ValueError)):
        derivative(f, [1.0, 2.0], scheme=scheme)


@everywhere
@pytest.mark.parametrize("returned", [[1.0], (1.0,), None, "1", {}], ids=repr)
def test_what_is_no_number_is_refused(scheme, returned):
    # The list is taken for a number; SciPy's complex step: 0 for list and None; statsmodels: 0.
    with pytest.raises(TypeError, match="return"):
        numerical_gradient(lambda x: returned, [1.0, 2.0], scheme=scheme)


@everywhere
@both
def test_float32_points_are_promoted_before_they_are_moved(derivative, scheme):
    # The textbook's loop: errors of 1e-2.
    close(derivative(lambda x: np.sum(x**2), np.array([3, 4], np.float32), scheme=scheme), [6, 8], scheme)


@everywhere
def test_x_of_two_dimensions_has_a_gradient_of_two(scheme):
    # IndexError, ValueError, or a flat gradient.
    x = np.array([[1.0, 2.0], [3.0, 4.0]])
    found = numerical_gradient(lambda x: np.sum(x**2), x, scheme=scheme)
    assert found.shape == x.shape
    close(found, 2 * x, scheme)


@pytest.mark.parametrize("scheme", ["central", "richardson", "complex"])
def test_the_log_of_a_small_number(scheme):
    # SciPy's 3-point, numdifftools and the textbook's loop: NaN.
    with np.errstate(invalid="ignore", divide="ignore"):
        found = numerical_gradient(lambda x: np.log(x[0]), [1e-6], scheme=scheme)
    np.testing.assert_allclose(found, 1e6, rtol=1e-8)
