"""Hessians and Hessian-vector products against exact ones; the evaluations they take; bad input."""

import itertools

import mpmath
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import rosen, rosen_der, rosen_hess, rosen_hess_prod

from fastgd import hessian_vector_product, numerical_hessian, numerical_jacobian

pytestmark = pytest.mark.one_build

SCHEMES = ("central", "richardson")
PROPERTY = settings(max_examples=25, derandomize=True, deadline=None, database=None)
X = np.array([1.3, -0.7, 0.8, 1.9, 1.2])


class Counted:
    def __init__(self, f):
        self.f, self.calls, self.seen = f, 0, []

    def __call__(self, x):
        self.calls += 1
        self.seen.append(x.copy())
        return self.f(x)


def exact_hessian(f, x):
    """By mpmath, in 50 digits: f takes its numbers one by one."""
    d = len(x)
    with mpmath.workdps(50):
        orders = [[int(k == i) + int(k == j) for k in range(d)] for i in range(d) for j in range(d)]
        return np.array([float(mpmath.diff(f, tuple(map(float, x)), tuple(order))) for order in orders]).reshape(d, d)


# -------------------------------------------------------------------------------------------------------------- values


@pytest.mark.parametrize(("scheme", "tolerance"), [("central", 1e-7), ("richardson", 1e-8)])
def test_rosenbrock(scheme, tolerance):
    exact = rosen_hess(X)
    hessian = numerical_hessian(rosen, X, scheme=scheme)
    assert np.abs(hessian - exact).max() <= tolerance * np.abs(exact).max()


@pytest.mark.parametrize("scheme", SCHEMES)
def test_against_mpmath(scheme):
    def f(a, b, c):
        return mpmath.sin(a * b) + mpmath.exp(b - c) * a + mpmath.log(c) * b**2

    def in_floats(x):
        a, b, c = x.tolist()
        return float(np.sin(a * b) + np.exp(b - c) * a + np.log(c) * b**2)

    x = [0.4, -1.1, 2.3]
    tolerance = {"central": 1e-6, "richardson": 1e-9}[scheme]
    np.testing.assert_allclose(numerical_hessian(in_floats, x, scheme=scheme), exact_hessian(f, x), atol=tolerance)


@PROPERTY
@given(st.integers(1, 5), st.data())
def test_quadratic_forms_with_few_bits_are_exact(d, data):
    entries = st.integers(-16, 16)
    A = np.array(data.draw(st.lists(entries, min_size=d * d, max_size=d * d)), float).reshape(d, d)
    x = np.array(data.draw(st.lists(entries, min_size=d, max_size=d)), float)
    for bounds in (None, (x, x + 1), (x - 1, x)):
        hessian = numerical_hessian(lambda p: float(p @ A @ p), x, 2.0**-8, bounds=bounds)
        assert np.array_equal(hessian, A + A.T)


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("d", range(6))
def test_it_is_symmetric_to_the_last_bit(scheme, d):
    hessian = numerical_hessian(lambda x: float(np.sum(np.sin(np.outer(x, x)))), np.linspace(0.1, 1, d), scheme=scheme)
    assert hessian.shape == (d, d) and np.array_equal(hessian, hessian.T)


def test_badly_scaled_variables():
    def f(x):
        return np.log(x[0]) + x[0] * x[1] + 1e-9 * x[2] ** 2

    x = [1e-6, 2.0, 1e5]
    with np.errstate(invalid="ignore"):
        hessian = numerical_hessian(f, x)
        better = numerical_hessian(f, x, scheme="richardson")
    exact = np.array([[-1e12, 1, 0], [1, 0, 0], [0, 0, 2e-9]])
    np.testing.assert_allclose(hessian, exact, rtol=1e-4, atol=1e-3)
    np.testing.assert_allclose(np.diag(better), np.diag(exact), rtol=1e-6, atol=1e-9)


def test_richardson_estimates_its_error():
    for x in (X, np.ones(5), np.zeros(5)):
        found = numerical_hessian(rosen, x, scheme="richardson", full_output=True)
        assert np.all(np.abs(found.hessian - rosen_hess(x)) <= 10 * found.error)
        assert np.max(found.error) <= 1e-5 * np.abs(rosen_hess(x)).max()


@pytest.mark.parametrize("x", [2.0, [2.0], [[2.0]]], ids=str)
def test_x_of_any_shape(x):
    assert numerical_hessian(lambda x: np.sum(x**3), x, 2.0**-10).tolist() == [[12.0]]


@pytest.mark.parametrize("dtype", (np.float32, ">f8", np.int64))
def test_x_of_other_dtypes_and_strides(dtype):
    base = np.ones((5, 2), dtype)
    base.flags.writeable = False
    assert np.abs(numerical_hessian(rosen, base[:, 0]) - rosen_hess(np.ones(5))).max() < 1e-4


# ---------------------------------------------------------------------------------------------- evaluations and points


@pytest.mark.parametrize("d", (0, 1, 2, 5))
def test_evaluations_are_as_documented(d):
    x = np.linspace(0.5, 1.5, d)
    for options, count in (
        ({"h": 1e-4}, d * d + d + 1),
        ({}, d * d + 3 * d + 1 + 7 * (d > 0)),
        ({"scheme": "richardson", "h": 1e-4}, 4 * (d * d + d) + 1),
    ):
        f = Counted(lambda x: float(np.sum(np.cos(x))) * 1e-3)
        numerical_hessian(f, x, **options)
        assert f.calls == count
        f = Counted(f.f)
        for_errors = 0 if "scheme" in options else d * d + d
        assert numerical_hessian(f, x, full_output=True, **options).nfev == f.calls == count + for_errors


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("sides", list(itertools.product((0.0, 1e-5, 1e-3, 1.0), repeat=2))[1:], ids=str)
def test_no_point_is_outside_the_bounds(scheme, sides):
    f = Counted(rosen)
    lower, upper = X - np.array([sides[0], 1, sides[0], 1, 0.5]), X + np.array([sides[1], 1, sides[1], 0, 0.5])
    hessian = numerical_hessian(f, X, scheme=scheme, bounds=(lower, upper))
    assert np.all(np.min(f.seen, axis=0) >= lower) and np.all(np.max(f.seen, axis=0) <= upper)
    assert np.array_equal(hessian, hessian.T)
    if max(sides) > 1e-4:
        assert np.abs(hessian - rosen_hess(X)).max() <= 1e-6 * np.abs(rosen_hess(X)).max()


def test_f_may_write_to_its_argument():
    x = X.copy()

    def careless(p):
        value = rosen(p)
        p[:] = np.nan
        return np.array([value])

    assert np.abs(numerical_hessian(careless, x) - rosen_hess(X)).max() < 1e-3
    assert np.array_equal(x, X)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_vectorized_workers_and_maps_change_no_bit(scheme):
    plain = numerical_hessian(rosen, X, scheme=scheme)
    many = numerical_hessian(lambda p: np.array([rosen(x) for x in p]), X, scheme=scheme, vectorized=True)
    assert np.array_equal(many, plain)
    for workers in (2, map):
        assert np.array_equal(numerical_hessian(rosen, X, scheme=scheme, workers=workers), plain)


# ----------------------------------------------------------------------------------------------------------- bad input

BAD = {
    "f not callable": ((3, [1.0]), {}, TypeError, "f must be callable"),
    "scheme": ((rosen, X), {"scheme": "five-point"}, ValueError, "scheme must be one of 'central', 'richardson'"),
    "nan_policy": ((rosen, X), {"nan_policy": None}, ValueError, "nan_policy must be one of"),
    "h": ((rosen, X, 0), {}, ValueError, "h must be positive"),
    "h too small": ((rosen, [1.0, 1.0], 1e-30), {}, ValueError, "too small to move coordinate 0"),
    "h too large": ((lambda x: 1.0, [1e308], 1e308), {}, ValueError, "too large for coordinate 0"),
    "bounds": ((rosen, X), {"bounds": 3}, TypeError, "bounds must be a pair"),
    "args": ((rosen, X), {"args": 3}, TypeError, "args must be a tuple"),
    "vector": ((lambda x: x, X), {}, ValueError, r"must return one real number.*at x = \["),
    "None": ((lambda x: None, X), {}, TypeError, r"must return one real number; it returned None.*at x = \["),
    "bool": ((lambda x: True, X), {}, TypeError, "must return one real number"),
    "complex": ((lambda x: 1j, X), {}, TypeError, "must return one real number"),
    "rows": ((lambda p: p, X), {"vectorized": True}, ValueError, "must return one real number"),
    "NaN": ((lambda x: np.nan, X), {}, ValueError, "NaN or an infinity.*a second derivative needs finite values"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input(case):
    arguments, options, error, message = BAD[case]
    with pytest.raises(error, match=message):
        numerical_hessian(*arguments, **options)


def test_nan_propagates_if_asked_to():
    def f(x):
        return np.nan if x[0] > 1 else x[1] ** 2

    hessian = numerical_hessian(f, [1.0, 2.0], 2.0**-8, nan_policy="propagate")
    assert np.isnan(hessian[0]).all() and hessian[1, 1] == 2


# ------------------------------------------------------------------------------------------------------------ products


def test_products_with_a_vector_take_two_gradients():
    grad = Counted(rosen_der)
    v = np.array([1.0, -2.0, 0.0, 3.0, 0.5])
    np.testing.assert_allclose(hessian_vector_product(grad, X, v), rosen_hess_prod(X, v), rtol=1e-8, atol=1e-5)
    assert grad.calls == 2


@pytest.mark.parametrize("scale", (1e-200, 1e-9, 1.0, 1e9, 1e200))
def test_products_do_not_depend_on_the_length_of_v(scale):
    v = np.array([1.0, -2.0, 0.0, 3.0, 0.5])
    product = hessian_vector_product(rosen_der, X, scale * v) / scale
    np.testing.assert_allclose(product, rosen_hess_prod(X, v), rtol=1e-8, atol=1e-5)


def test_a_product_is_a_column_of_the_jacobian_of_the_gradient():
    jacobian = numerical_jacobian(rosen_der, X)
    for i, e in enumerate(np.eye(5)):
        np.testing.assert_allclose(hessian_vector_product(rosen_der, X, e), jacobian[:, i], rtol=1e-7, atol=1e-6)


def test_products_of_other_shapes_and_of_zero():
    A = np.array([[1.0, 2.0], [3.0, 4.0]])
    assert np.array_equal(hessian_vector_product(lambda x: A * x, A, np.zeros((2, 2))), np.zeros((2, 2)))
    assert hessian_vector_product(lambda x: x**3, 2.0, 1.0, 2.0**-10) == pytest.approx(12, abs=1e-5)
    out = np.empty((2, 2))

    def one_buffer(x):
        out[:] = A * x
        x[:] = 0
        return out

    assert np.allclose(hessian_vector_product(one_buffer, A, A), A * A)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((3, X, X), TypeError, "grad must be callable"),
        ((rosen_der, X, X[:3]), ValueError, "v must have the shape of x"),
        ((rosen_der, X, X * np.inf), ValueError, "v must be finite"),
        ((rosen_der, X, X, -1), ValueError, "h must be positive"),
        ((lambda x: x[:2], X, X), ValueError, r"shape of x, \(5,\); it returned shape \(2,\)"),
        ((lambda x: x * np.nan, X, X), ValueError, "what grad returned must be finite"),
        ((lambda x: None, X, X), TypeError, "what grad returned must hold real numbers"),
    ],
)
def test_bad_products(arguments, error, message):
    with pytest.raises(error, match=message):
        hessian_vector_product(*arguments)


def test_central_second_differences_tell_their_error():
    x = np.array([0.7, -1.3, 0.4])

    def f(x):
        return np.exp(x[0] * x[1]) + np.sin(x[2]) * x[0]

    e = np.exp(x[0] * x[1])
    exact = np.array(
        [
            [x[1] ** 2 * e, (1 + x[0] * x[1]) * e, np.cos(x[2])],
            [(1 + x[0] * x[1]) * e, x[0] ** 2 * e, 0],
            [np.cos(x[2]), 0, -np.sin(x[2]) * x[0]],
        ]
    )
    calls = []
    found = numerical_hessian(lambda x: calls.append(1) or f(x), x, full_output=True)
    assert found.nfev == len(calls) == 2 * (3**2 + 3) + 1 + 2 * 3 + 7
    assert np.all(np.abs(found.hessian - exact) <= 4 * found.error)
    assert np.all(found.error < 1e-5)
    np.testing.assert_array_equal(found.hessian, numerical_hessian(f, x))
    near = numerical_hessian(f, x, bounds=([0.7, -5, -5], 5.0), full_output=True)
    assert np.isinf(near.error[0]).all()
    assert np.isfinite(near.error[1:, 1:]).all()
