"""Functions of any precision: a numerical derivative is right to its stated error, or says that it cannot be."""

import math
import zlib

import numpy as np
import pytest
import scipy.sparse

from fastgd import check_gradient, hessian_vector_product, numerical_gradient, numerical_hessian, numerical_jacobian
from fastgd.derivatives import noise

pytestmark = pytest.mark.one_build

X = np.array([0.3, 0.4])
DESIGN = np.random.default_rng(3).standard_normal((64, 5)).astype(np.float32)
TARGET = (DESIGN @ np.arange(1, 6) / 3).astype(np.float32)
WEIGHTS = np.array([0.3, -0.2, 0.1, 0.7, 0.9])


def squares(x):
    return float(1000 + x @ x)


def in_batches(w):
    """Mean of squares in float32 over four batches, added up in float64."""
    batches = np.split(np.arange(64), 4)
    return sum(float(np.mean((DESIGN[rows] @ w.astype(np.float32) - TARGET[rows]) ** 2)) for rows in batches) / 4


IN_BATCHES = 2 * DESIGN.astype(float).T @ (DESIGN.astype(float) @ WEIGHTS - TARGET) / 64

# f, x, the gradient of what it is meant to be, and how large an error may be, of max |g|.
IMPRECISE = {
    "float32": (lambda x: np.float32(squares(x)), X, 2 * X, 2e-3),
    "float32 as a float": (lambda x: float(np.float32(squares(x))), X, 2 * X, 2e-3),
    "float32 / n": (lambda x: np.float32(squares(x)).item() / 37, X, 2 * X / 37, 2e-3),
    "float32 + a penalty": (lambda x: np.float32(squares(x)) + 0.01 * (x @ x), X, 2.02 * X, 2e-3),
    "float32 + a penalty, one variable": (
        lambda x: np.float32(squares(x)) + 0.1 * np.sin(x[0]), X[:1], 2 * X[:1] + 0.1 * np.cos(X[:1]), 5e-3,
    ),
    "float32 arguments": (lambda x: np.exp(x.astype(np.float32)).sum(), X, np.exp(X), 1e-3),
    "float32 in batches": (in_batches, WEIGHTS, IN_BATCHES, 1e-3),
    "float16": (lambda x: np.float16(1 + x @ x), X, 2 * X, 2e-2),
    "float16, 50 variables": (lambda x: np.float16(np.sum(x * x)), np.linspace(-1, 1, 50), np.linspace(-2, 2, 50), 0.1),
    "6 digits": (lambda x: float(f"{squares(x):.6g}"), X, 2 * X, 5e-2),
    "6 digits, steep": (lambda x: float(f"{np.exp(x).sum():.6g}"), X, np.exp(X), 1e-2),
    "3 decimals": (lambda x: round(float(np.exp(x).sum()), 3), X, np.exp(X), 3e-2),
    "a quantum of 1e-9": (lambda x: round(float(np.exp(x).sum()), 9), X, np.exp(X), 1e-5),
    "mixed scales": (
        lambda x: np.float32(x[0] ** 2 / 1e6 + np.sin(x[1]) + x[2]), np.array([1e3, 1.0, -0.2]),
        np.array([2e-3, np.cos(1.0), 1.0]), 2e-3,
    ),
}  # fmt: skip


@pytest.mark.parametrize("scheme", ["central", "forward", "backward", "five-point", "richardson"])
@pytest.mark.parametrize("name", IMPRECISE)
def test_imprecise_functions(name, scheme):
    f, x, exact, allowed = IMPRECISE[name]
    found = numerical_gradient(f, x, scheme=scheme, full_output=True)
    if scheme in ("forward", "backward"):
        allowed *= 20
    true = np.abs(found.gradient - exact)
    assert np.all(true <= found.error)
    assert np.max(true) <= allowed * np.max(np.abs(exact))
    np.testing.assert_array_equal(numerical_gradient(f, x, scheme=scheme), found.gradient)


def noisy(size, seed):
    rng = np.random.default_rng(seed)
    return lambda x: float((np.sum(np.sin(x)) + np.sum(x * x)) * (1 + size * rng.standard_normal()))


@pytest.mark.parametrize("size", [1e-14, 1e-12, 1e-10, 1e-9, 1e-8, 1e-6, 1e-4])
def test_noise_is_measured(size):
    x = np.array([1.0, 1.2, 0.8])
    exact = np.cos(x) + 2 * x
    ours, inside, fixed = [], [], {h: [] for h in 10.0 ** np.arange(-6, 0.5, 0.5)}
    for seed in range(200):
        found = numerical_gradient(noisy(size, seed), x, full_output=True)
        true = np.abs(found.gradient - exact)
        ours.append(np.max(true))
        inside.append(true <= found.error)
        for h, errors in fixed.items():
            errors.append(np.max(np.abs(numerical_gradient(noisy(size, seed), x, h) - exact)))
    assert np.mean(inside) >= 0.95
    # Where noise hardly matters, 2d + 3 evaluations do, and the error is below 1e-6.
    assert np.median(ours) <= max(3 * min(map(np.median, fixed.values())), 1e-6)


def test_noise_is_a_function_of_the_point():
    def f(x):
        return float(np.sum(np.cosh(x))) * (1 + 1e-7 * (zlib.crc32(x.tobytes()) / 2**31 - 1))

    inside = []
    for seed in range(50):
        x = np.random.default_rng(seed).standard_normal(1 + seed % 7)
        found = numerical_gradient(f, x, full_output=True)
        inside.append(np.mean(np.abs(found.gradient - np.sinh(x)) <= found.error))
        assert np.max(np.abs(found.gradient - np.sinh(x))) < 1e-3
    assert np.mean(inside) >= 0.95


ONE_VARIABLE = {
    "log at an edge": (lambda t: np.log(1 - t), 1 - 1e-5, -1 / (1 - (1 - 1e-5))),
    "math.log at an edge": (lambda t: math.log(1 - t), 1 - 1e-5, -1 / (1 - (1 - 1e-5))),
    "sin far out": (np.sin, 1e6, np.cos(1e6)),
    "where f has no bend": (lambda t: np.sin(t), 1e6 * np.pi, np.cos(1e6 * np.pi)),
    "exp of much": (lambda t: np.exp(1e5 * t), 1e-4, 1e5 * np.exp(10.0)),
    "1/t": (lambda t: 1 / t, 1e-5, -1e10),
    "√t": (np.sqrt, 1e-9, 0.5 / np.sqrt(1e-9)),
    "a kink beside": (lambda t: abs(t - 1e-6), 0.0, -1.0),
}


@pytest.mark.parametrize("name", ONE_VARIABLE)
@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning", "ignore:divide by zero:RuntimeWarning")
def test_truncation_is_looked_at_whatever_d_is(name):
    f, t, exact = ONE_VARIABLE[name]
    found = numerical_gradient(f, t, full_output=True)
    assert found.gradient == pytest.approx(exact, rel=1e-6)
    assert abs(found.gradient - exact) <= found.error + 1e-15 * abs(exact)
    for d in (2, 5):  # f separable, and all coordinates equal
        found = numerical_gradient(lambda x: sum(f(s) for s in x), np.full(d, t), full_output=True)
        np.testing.assert_allclose(found.gradient, exact, rtol=1e-6)


SCALES = {
    "large": (1e300, 1e300),
    "subnormal": (1e-310, 1e-310),
    "small": (1e-150, 1e-150),
}


@pytest.mark.parametrize("name", SCALES)
def test_claims_at_the_ends_of_the_floats(name):
    scale, unit = SCALES[name]
    found = numerical_gradient(lambda x: scale * float(x @ x), X, full_output=True)
    assert np.all(np.abs(found.gradient - scale * 2 * X) <= found.error)
    assert np.all(found.error <= 1e-3 * unit)


def test_functions_that_do_not_change():
    for value in (0.0, 0.1, 1e300):
        found = numerical_gradient(lambda x, value=value: value, X, full_output=True)
        assert found.gradient.tolist() == [0, 0]
        assert np.all(np.isfinite(found.error))
    found = numerical_gradient(lambda x: np.exp(x[0]), X, full_output=True)
    assert found.gradient[1] == 0 and found.error[1] < 1e-9 and found.nfev == 7
    # A step function may be a rounded slope: what it could be is in the error.
    found = numerical_gradient(lambda x: float(np.round(10 * (x @ x))), np.array([0.31, 0.42]), full_output=True)
    assert np.all(np.abs(found.gradient - 20 * np.array([0.31, 0.42])) <= found.error)


def test_what_cannot_be_determined_has_an_infinite_error_and_is_no_exception():
    found = numerical_gradient(lambda x: float(np.float16(500 + 0.1 * x[0])) + 0.0 * x[1], X, full_output=True)
    assert np.all(np.abs(found.gradient - [0.1, 0]) <= found.error)
    found = numerical_gradient(lambda x: np.inf, X, nan_policy="propagate", full_output=True)
    assert np.all(np.isinf(found.error)) and np.all(np.isnan(found.gradient))


class Scalar:
    """A number as libraries of tensors return it: 0-d, with a dtype."""

    def __init__(self, value):
        self.value = np.float32(value)

    def __array__(self, dtype=None, copy=None):
        return np.asarray(self.value, dtype=dtype)


def test_numbers_of_other_libraries():
    found = numerical_gradient(lambda x: Scalar(x @ x), X, full_output=True)
    assert np.all(np.abs(found.gradient - 2 * X) <= found.error)
    assert np.all(found.error < 1e-3)


# ------------------------------------------------------------------------------------------------ jacobians, hessians


def test_jacobians_of_imprecise_functions():
    def f(x):
        return np.array([np.float32(squares(x)), np.exp(x[0]), float(f"{np.sin(x[1]):.6g}"), 3.0], dtype=float)

    exact = np.array([2 * X, [np.exp(0.3), 0], [0, np.cos(0.4)], [0, 0]])
    for scheme in ("central", "forward", "backward", "five-point", "richardson"):
        found = numerical_jacobian(f, X, scheme=scheme, full_output=True)
        assert np.all(np.abs(found.jacobian - exact) <= found.error)
        assert np.max(np.abs(found.jacobian - exact)) < 0.05
        assert np.max(np.abs(found.jacobian - exact)[1]) < 1e-6


def test_jacobians_of_noisy_functions():
    inside = []
    for seed in range(40):
        rng = np.random.default_rng(seed)
        f = lambda x, rng=rng: np.sin(x.sum() * np.arange(1, 4)) * (1 + 1e-7 * rng.standard_normal(3))  # noqa: E731
        found = numerical_jacobian(f, X, full_output=True)
        exact = np.cos(0.7 * np.arange(1, 4))[:, None] * np.arange(1, 4)[:, None] * np.ones(2)
        inside.append(np.mean(np.abs(found.jacobian - exact) <= found.error))
        assert np.max(np.abs(found.jacobian - exact)) < 1e-3
    assert np.mean(inside) >= 0.95


@pytest.mark.parametrize("size, allowed", [(1e-12, 1e-6), (1e-8, 2e-4), (1e-6, 5e-3)])
def test_hessians_of_noisy_functions(size, allowed):
    x = np.array([1.0, 1.2, 0.8])
    exact = np.diag(2 - np.sin(x))
    errors, inside = [], []
    for seed in range(30):
        found = numerical_hessian(noisy(size, seed), x, full_output=True)
        errors.append(np.max(np.abs(found.hessian - exact)))
        inside.append(np.mean(np.abs(found.hessian - exact) <= found.error))
    assert np.median(errors) < allowed
    assert np.mean(inside) >= 0.95


def test_a_hessian_in_float32():
    found = numerical_hessian(lambda x: np.float32(np.exp(x).sum() + x[0] * x[1]), X, full_output=True)
    exact = np.diag(np.exp(X)) + np.array([[0, 1], [1, 0]])
    assert np.all(np.abs(found.hessian - exact) <= found.error)
    assert np.max(np.abs(found.hessian - exact)) < 2e-3


def test_products_divide_by_the_move_that_was_made():
    double = lambda x: 2 * x  # noqa: E731
    np.testing.assert_allclose(hessian_vector_product(double, [1e11, 1.0], [1.0, 1.0]), [2, 2], rtol=1e-6)
    np.testing.assert_allclose(hessian_vector_product(double, [1e11, 1.0], [0.0, 1.0]), [0, 2], atol=1e-6)
    np.testing.assert_allclose(
        hessian_vector_product(double, [1e11, 1.0, 1e-9], [1e9, 1.0, 3.0]), [2e9, 2, 6], rtol=1e-6
    )
    x = np.array([1e-7, 2.0])
    found = hessian_vector_product(lambda p: -1 / p**2, x, [1.0, 1.0])
    np.testing.assert_allclose(found, 2 / x**3, rtol=1e-6)
    np.testing.assert_allclose(hessian_vector_product(np.exp, [1e-7], [1.0]), 1.0, rtol=1e-6)


def test_complex_steps_are_checked_in_every_column():
    def f(x):
        return np.array([x[0] ** 2 + x[1], x[1] * x[2], np.abs(x[2] + 2) * x[0]])

    with pytest.raises(ValueError, match="entry 2 and coordinate 2"):
        numerical_jacobian(f, [1.0, 2.0, 3.0], scheme="complex")
    pattern = [[1, 1, 0], [0, 1, 1], [1, 0, 1]]
    with pytest.raises(ValueError, match="entry 2 and coordinate 2"):
        numerical_jacobian(f, [1.0, 2.0, 3.0], scheme="complex", sparsity=pattern)


@pytest.mark.parametrize("scheme", ["central", "forward", "five-point", "richardson", "complex"])
def test_a_pattern_that_leaves_out_an_entry(scheme):
    def f(x):
        return np.array([1e3 * x[0] + 2 * x[1], x[1] ** 2, x[0]])

    for x in ([1.0, 1.0], [1e4, 1.0], [1.0, 1e-6]):
        for missing in ((0, 1), (0, 0), (1, 1), (2, 0)):
            pattern = np.array([[1, 1], [0, 1], [1, 0]])
            pattern[missing] = 0
            if missing == (1, 1) and x[1] < 1e-3:
                continue  # that entry is 2e-6
            with pytest.raises(ValueError, match=f"entries of row {missing[0]} that are not 0"):
                numerical_jacobian(f, x, sparsity=pattern, scheme=scheme)
            if scheme in ("central", "forward"):
                with pytest.raises(ValueError, match=f"entries of row {missing[0]} that are not 0"):
                    numerical_jacobian(f, x, sparsity=pattern, scheme=scheme, bounds=(x, np.inf))
        found = numerical_jacobian(f, x, sparsity=scipy.sparse.csr_array([[1, 1], [0, 1], [1, 0]]), scheme=scheme)
        np.testing.assert_allclose(found.toarray(), [[1e3, 2], [0, 2 * x[1]], [1, 0]], rtol=1e-4, atol=1e-5)


# -------------------------------------------------------------------------------------------------- check_gradient


def test_a_check_says_how_precise_f_is_and_blames_nobody():
    for size in (1e-9, 1e-6, 1e-3):
        check = check_gradient(noisy(size, 0), lambda x: np.cos(x) + 2 * x, [1.0, 1.2, 0.8])
        assert check.ok and check.fault is None and not check.unclear.any()
        assert np.all(np.abs(check.numerical - check.gradient) <= check.tolerance)
    assert "f is noisy or imprecise" in repr(check)
    check = check_gradient(noisy(1e-6, 1), lambda x: 1.5 * np.cos(x) + 2 * x, [1.0, 1.2, 0.8])
    assert check.fault == "gradient"


def test_f_may_return_its_gradient_too():
    f = lambda x: (float(x @ x), 2 * x)  # noqa: E731
    assert check_gradient(f, True, [1.0, 2.5]).ok
    assert check_gradient(lambda x: (float(x @ x), 3 * x), True, [1.0, 2.5]).fault == "gradient"
    with pytest.raises(TypeError, match=r"must return \(value, gradient\); it returned 7.25"):
        check_gradient(lambda x: float(x @ x), True, [1.0, 2.5])


# ---------------------------------------------------------------------------------------------------- the measure


@pytest.mark.parametrize("size", [1e-14, 1e-9, 1e-4])
@pytest.mark.parametrize("d", [1, 3])
def test_the_level_is_that_of_the_noise(size, d):
    x = np.linspace(0.5, 2, d)
    ratios = []
    for seed in range(100):
        f = noisy(size, seed)
        on = lambda points, f=f: np.array([f(point) for point in points])  # noqa: E731
        level, constant = noise.level(on, x, np.array([f(x)]))
        assert not constant
        ratios.append(level / (size * abs(np.sum(np.sin(x)) + x @ x)))
    assert 0.5 < np.median(ratios) < 1.5
    assert np.quantile(ratios, 0.05) > 0.2


@pytest.mark.parametrize("quantum", [2.0**-20, 1e-5, 1e-2])
def test_the_level_of_what_is_rounded(quantum):
    def on(points):
        return np.array([round(float(np.exp(point).sum()) / quantum) * quantum for point in points])

    ratios = [noise.level(on, X + 0.01 * k, on(X[None] + 0.01 * k))[0] / quantum for k in range(30)]
    assert min(ratios) > 0.1 and max(ratios) < 3


def test_quanta():
    assert noise.quantum(np.array([1.0, 0.75, 6.0])) == 0.25
    assert noise.quantum(np.array([0.0, 0.0])) == 0
    assert noise.quantum(np.array([[1.0, 3.0], [2.0, 0.5]])).tolist() == [1.0, 0.5]
