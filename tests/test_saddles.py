"""Points told apart by curvature, against Hessians that are known; and the way on from a saddle."""

import numpy as np
import pytest
from scipy.optimize import brentq, rosen, rosen_der, rosen_hess

from fastgd import LinearObjective
from fastgd.paths import Columns, FunctionPath
from fastgd.saddles import DENSE_VARIABLES, classify, escape

MANY = 200


def pass_between_two_minima(x):
    """x² − y² + y⁴/4: a saddle at the origin, minima with the value −1 at (0, ±√2)."""
    return x[0] ** 2 - x[1] ** 2 + x[1] ** 4 / 4


def its_slope(x):
    return np.array([2 * x[0], -2 * x[1] + x[1] ** 3])


def quadratic(eigenvalues, seed=0):
    """½xᵀAx with these eigenvalues, its gradient, and the eigenvectors as columns."""
    Q, _ = np.linalg.qr(np.random.default_rng(seed).standard_normal((len(eigenvalues),) * 2))
    A = Q * np.asarray(eigenvalues) @ Q.T
    return (lambda x: 0.5 * float(x @ A @ x)), (lambda x: A @ x), Q


# ------------------------------------------------------------------------------------------------------------- classify

POINTS = {
    "saddle": (pass_between_two_minima, its_slope, [0.0, 0.0], "saddle"),
    "minimum": (pass_between_two_minima, its_slope, [0.0, 2**0.5], "minimum"),
    "maximum": (lambda x: -float(x @ x), lambda x: -2 * x, [0.0, 0.0, 0.0], "maximum"),
    "ridge": (lambda x: -(x[0] ** 2), lambda x: np.array([-2 * x[0], 0.0]), [0.0, 0.0], "maximum"),
    "flat": (lambda x: 3.0, np.zeros_like, [1.0, 2.0], "flat"),
    "fourth power": (lambda x: float(np.sum(x**4)), lambda x: 4 * x**3, [0.0, 0.0], "flat"),
    "valley": (lambda x: x[0] ** 2, lambda x: np.array([2 * x[0], 0.0]), [0.0, 5.0], "flat"),
    "monkey saddle": (
        lambda x: x[0] ** 3 - 3 * x[0] * x[1] ** 2,
        lambda x: np.array([3 * x[0] ** 2 - 3 * x[1] ** 2, -6 * x[0] * x[1]]),
        [0.0, 0.0],
        "flat",
    ),
    "Rosenbrock": (rosen, rosen_der, [1.0] * 4, "minimum"),
    "one variable": (lambda x: float(np.cos(x[0])), lambda x: -np.sin(x), [np.pi], "minimum"),
}


@pytest.mark.one_build
@pytest.mark.parametrize("numerical", [False, True])
@pytest.mark.parametrize("name", POINTS)
def test_the_kind_of_a_point(name, numerical):
    f, grad, x, kind = POINTS[name]
    found = classify(f, x, None if numerical else grad)
    assert found.kind == kind
    assert found["kind"] == kind and kind in repr(found)


@pytest.mark.one_build
@pytest.mark.parametrize(("grad", "accuracy"), [(rosen_der, 1e-7), (None, 1e-4)])
def test_eigenvalues_are_those_of_the_hessian(grad, accuracy):
    x = np.array([-1.2, 1.0, 0.3, 0.7, 1.5])
    expected, vectors = np.linalg.eigh(rosen_hess(x))
    found = classify(rosen, x, grad)
    np.testing.assert_allclose(found.eigenvalues, expected, atol=accuracy * expected[-1])
    assert abs(found.direction @ vectors[:, 0]) > 1 - accuracy
    np.testing.assert_allclose(found.grad_norm, np.linalg.norm(rosen_der(x)), rtol=1e-6)


@pytest.mark.one_build
@pytest.mark.parametrize("numerical", [False, True])
@pytest.mark.parametrize("least", [-3.0, -0.3])
def test_one_direction_among_many_that_falls_is_found(least, numerical):
    assert MANY > DENSE_VARIABLES
    f, grad, Q = quadratic(np.concatenate([[least], np.linspace(1, 50, MANY - 1)]))
    found = classify(f, np.zeros(MANY), None if numerical else grad)
    assert found.kind == "saddle"
    np.testing.assert_allclose(found.eigenvalues, [least, 50.0], rtol=0.01)
    assert abs(found.direction @ Q[:, 0]) > 0.99


@pytest.mark.one_build
def test_many_variables_at_a_minimum_and_at_a_maximum():
    f, grad, _ = quadratic(np.linspace(1, 50, MANY))
    assert classify(f, np.zeros(MANY), grad).kind == "minimum"
    assert classify(lambda x: -f(x), np.zeros(MANY), lambda x: -grad(x)).kind == "maximum"
    flat = np.concatenate([np.zeros(3), np.linspace(1, 50, MANY - 3)])
    f, grad, _ = quadratic(flat)
    assert classify(f, np.zeros(MANY), grad).kind == "flat"


@pytest.mark.one_build
def test_what_many_products_leave_open_is_not_called_a_minimum():
    # The smallest eigenvalue is a millionth of the largest and close to others: Lanczos' steps do not get there.
    f, grad, _ = quadratic(np.concatenate([[-1e-4], np.geomspace(1e-4, 1e3, 799)]))
    found = classify(f, np.zeros(800), grad)
    assert found.kind in ("flat", "saddle")


@pytest.mark.one_build
def test_evaluations_are_counted_and_points_keep_their_shape():
    calls = {"f": 0, "grad": 0}

    def f(x):
        assert x.shape == (2, 2)
        calls["f"] += 1
        return float(np.sum(x * x))

    def grad(x):
        calls["grad"] += 1
        return 2 * x

    for given in (grad, None):
        calls.update(f=0, grad=0)
        x = [[1, 2], [3, 4]]
        found = classify(f, x, given)
        assert found.direction.shape == (2, 2)
        assert calls["f"] == found.nfev
        assert calls["grad"] == (found.njev if given else 0)
        assert x == [[1, 2], [3, 4]]


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_objectives(dtype):
    rng = np.random.default_rng(0)
    X = rng.standard_normal((40, 3)).astype(dtype)
    o = LinearObjective(X, X @ np.ones(3, dtype), loss="mse")
    found = classify(o, np.ones(3))
    expected = np.linalg.eigvalsh(2 / 40 * X.astype(float).T @ X.astype(float))
    np.testing.assert_allclose(found.eigenvalues, expected, rtol=1e-6 if dtype == np.float64 else 1e-2)
    assert found.kind == "minimum"
    # Fewer rows than columns: directions in which nothing changes.
    assert classify(LinearObjective(X[:2], X[:2, 0], loss="mse"), np.zeros(3)).kind == "flat"


@pytest.mark.one_build
@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: classify(3, [0.0]), TypeError, "f must be callable"),
        (lambda: classify(rosen, [0.0, np.nan]), ValueError, r"x must be finite; x\[1\] is nan"),
        (lambda: classify(rosen, []), ValueError, "x must have at least one entry"),
        (lambda: classify(rosen, [0.0, 0.0], seed=-1), ValueError, "seed must be at least 0"),
        (lambda: classify(rosen, [0.0, 0.0], 7), TypeError, "grad must be callable"),
        (lambda: classify(LinearObjective([[1.0]], [1.0]), [0.0], rosen), TypeError, "grad is for a function"),
        (lambda: classify(LinearObjective([[1.0]], [1.0]), [0.0, 0.0]), ValueError, r"x must have shape \(1,\)"),
        (lambda: classify(lambda x: np.inf, [0.0]), ValueError, "the gradient is not finite"),
    ],
)
def test_bad_input(call, error, message):
    with pytest.raises(error, match=message):
        call()


# --------------------------------------------------------------------------------------------------------------- escape


@pytest.mark.one_build
@pytest.mark.parametrize("grad", [its_slope, None])
@pytest.mark.parametrize("start", [[0.0, 0.0], [1e-3, 0.0], [0.0, -1e-9]])
def test_a_saddle_is_left_downwards_and_far(grad, start):
    path = FunctionPath(pass_between_two_minima, grad, start)
    new, _ = escape(path, path.start, None, np.random.default_rng(1))
    assert pass_between_two_minima(new) < -0.1
    assert path.start.tolist() == start


@pytest.mark.one_build
def test_from_among_many_variables():
    f, grad, _ = quadratic(np.concatenate([[-0.3], np.linspace(1, 50, MANY - 1)]))
    path = FunctionPath(lambda x: f(x) + np.sum(x**4), lambda x: grad(x) + 4 * x**3, np.zeros(MANY))
    new, _ = escape(path, path.start, 0.0, np.random.default_rng(1))
    assert f(new) + np.sum(new**4) < -0.05


@pytest.mark.one_build
@pytest.mark.parametrize("name", [name for name, (*_, kind) in POINTS.items() if kind in ("minimum", "flat")])
def test_there_is_no_way_on_from_a_minimum_or_where_it_is_flat(name):
    f, grad, x, _ = POINTS[name]
    path = FunctionPath(f, grad, x)
    assert escape(path, path.start, None, np.random.default_rng(0))[0] is None


def test_from_the_hill_between_two_minima_of_an_objective():
    o = LinearObjective([[1.0], [10.0]], [0.0, 1.0], activation="sigmoid", loss="mse")
    top = brentq(lambda w: o.gradient([w])[0], -1.0, -0.2, xtol=1e-15)
    assert o.value([top]) > max(o.value([-1.5]), o.value([0.2]))
    path = Columns(o, [top])
    new, spectrum = escape(path, path.start, None, np.random.default_rng(0))
    assert spectrum.kind == "maximum"
    assert o.value(new) < o.value([top]) - 0.01
