"""Points told apart by curvature, against Hessians that are known; and the way on from a saddle."""

import numpy as np
import pytest
from scipy.optimize import brentq, minimize, rosen, rosen_der, rosen_hess

from fastgd import LinearObjective, gradient_descent
from fastgd.descent.saddles import DENSE_VARIABLES, classify, escape
from fastgd.objective import Function
from fastgd.objective.variables import Columns, OfFunction

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
    "ridge": (lambda x: -(x[0] ** 2), lambda x: np.array([-2 * x[0], 0.0]), [0.0, 0.0], "saddle or maximum"),
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


def of_function(f, grad, start):
    return OfFunction(Function(f, grad, np.shape(start)), start)


@pytest.mark.one_build
@pytest.mark.parametrize("grad", [its_slope, None])
@pytest.mark.parametrize("start", [[0.0, 0.0], [1e-3, 0.0], [0.0, -1e-9]])
def test_a_saddle_is_left_downwards_and_far(grad, start):
    path = of_function(pass_between_two_minima, grad, start)
    new, _ = escape(path, path.start, None, np.random.default_rng(1))
    assert pass_between_two_minima(new) < -0.1
    assert path.start.tolist() == start


@pytest.mark.one_build
def test_from_among_many_variables():
    f, grad, _ = quadratic(np.concatenate([[-0.3], np.linspace(1, 50, MANY - 1)]))
    path = of_function(lambda x: f(x) + np.sum(x**4), lambda x: grad(x) + 4 * x**3, np.zeros(MANY))
    new, _ = escape(path, path.start, 0.0, np.random.default_rng(1))
    assert f(new) + np.sum(new**4) < -0.05


@pytest.mark.one_build
@pytest.mark.parametrize("name", [name for name, (*_, kind) in POINTS.items() if kind in ("minimum", "flat")])
def test_there_is_no_way_on_from_a_minimum_or_where_it_is_flat(name):
    f, grad, x, _ = POINTS[name]
    path = of_function(f, grad, x)
    assert escape(path, path.start, None, np.random.default_rng(0))[0] is None


def test_from_the_hill_between_two_minima_of_an_objective():
    o = LinearObjective([[1.0], [10.0]], [0.0, 1.0], activation="sigmoid", loss="mse")
    top = brentq(lambda w: o.gradient([w])[0], -1.0, -0.2, xtol=1e-15)
    assert o.value([top]) > max(o.value([-1.5]), o.value([0.2]))
    path = Columns(o, np.array([top]))
    new, spectrum = escape(path, path.start, None, np.random.default_rng(0))
    assert spectrum.kind == "maximum"
    assert o.value(new) < o.value([top]) - 0.01


# ------------------------------------------------------------------------------------------------------ in a whole run

RATES = [
    {"lr": 0.1},
    {"lr": 0.1, "tol": 1e-6, "step_num": 500},
    {"lr": "auto", "tol": 1e-6},
    {"lr": "armijo", "tol": 1e-6},
    {"lr": "adgd", "tol": 1e-6},
    {"lr": 0.05, "optimizer": "adam", "step_num": 500},
    {"lr": 0.02, "optimizer": "momentum", "step_num": 500},
]


@pytest.mark.one_build
@pytest.mark.parametrize("grad", [its_slope, None])
@pytest.mark.parametrize("start", [[1.0, 0.0], [0.0, 0.0]])
@pytest.mark.parametrize("options", RATES)
def test_a_run_from_the_ridge_reaches_a_minimum_where_it_stays_at_the_saddle_otherwise(options, start, grad):
    caught = gradient_descent(pass_between_two_minima, start, grad=grad, **options)
    np.testing.assert_allclose(caught.x, [0.0, 0.0], atol=1e-2)
    result = gradient_descent(pass_between_two_minima, start, grad=grad, escape_saddles=True, **options)
    np.testing.assert_allclose(result.fun, -1.0, atol=1e-9)
    np.testing.assert_allclose(np.abs(result.x), [0.0, 2**0.5], atol=1e-3)
    assert result.success
    assert "a minimum; 1 saddle(s) were left" in result.message


@pytest.mark.one_build
def test_the_peers_stop_at_that_saddle():
    for method in ("BFGS", "L-BFGS-B"):
        found = minimize(pass_between_two_minima, [1.0, 0.0], jac=its_slope, method=method)
        assert found.success and abs(found.fun) < 1e-6


@pytest.mark.one_build
def test_evaluations_of_a_run_that_leaves_a_saddle_are_counted_and_its_history_is_whole():
    calls = {"f": 0, "grad": 0}

    def f(x):
        calls["f"] += 1
        return pass_between_two_minima(x)

    def grad(x):
        calls["grad"] += 1
        return its_slope(x)

    result = gradient_descent(f, [1.0, 0.0], lr=0.1, grad=grad, escape_saddles=True, history=True)
    assert (result.nfev, result.njev) == (calls["f"], calls["grad"])
    history = result.history
    assert len(history.x) == 101 and np.count_nonzero(np.isnan(history.lr)) == 1
    jump = int(np.flatnonzero(np.isnan(history.lr))[0])
    for row in set(range(100)) - {jump}:
        moved = history.x[row] - history.lr[row] * its_slope(history.x[row])
        np.testing.assert_allclose(history.x[row + 1], moved, atol=1e-15)
    assert history.fun[jump + 1] < history.fun[jump]
    assert history.fun.tolist() == [pass_between_two_minima(x) for x in history.x]


@pytest.mark.one_build
def test_a_run_that_meets_no_saddle_is_the_same_but_for_the_look():
    plain = gradient_descent(rosen, [-1.2, 1.0], lr=1e-3, step_num=300, grad=rosen_der)
    watched = gradient_descent(rosen, [-1.2, 1.0], lr=1e-3, step_num=300, grad=rosen_der, escape_saddles=True)
    assert watched.x.tolist() == plain.x.tolist()
    assert watched.njev > plain.njev


@pytest.mark.one_build
@pytest.mark.parametrize(
    "options", [{"batch_size": 1, "lr": 0.1}, {"solver": "gram", "lr": "auto"}, {"l1": 0.1}, {"bounds": (0, 1)}]
)
def test_runs_that_cannot_leave_saddles_say_so(options):
    with pytest.raises(ValueError, match="escape_saddles is for full steps without bounds or l1"):
        gradient_descent(LinearObjective([[1.0], [2.0]], [1.0, 2.0]), escape_saddles=True, **options)


# ---------------------------------------------------------------------------- curvatures of different size, and of none


@pytest.mark.one_build
@pytest.mark.parametrize("numerical", [False, True])
def test_one_direction_down_and_one_undetermined_is_said(numerical):
    for sign in (1, -1):
        grad = None if numerical else (lambda v, s=sign: np.array([s * 4 * v[0] ** 3, -2 * v[1]]))
        found = classify(lambda v, s=sign: s * v[0] ** 4 - v[1] ** 2, [0.0, 0.0], grad)
        assert found.kind == "saddle or maximum"
        assert "at least one direction down, one undetermined" in found.message


@pytest.mark.one_build
@pytest.mark.parametrize("numerical", [False, True])
@pytest.mark.parametrize(("curvatures", "kind"), [
    ([1e8, -2.0], "saddle"), ([1e8, 2.0], "minimum"), ([-1e8, -2.0], "maximum"), ([1e8, 3.0, 1.0, -2.0], "saddle"),
    ([1e6, 1e3, 1.0, -0.1], "saddle"), ([1e6, 1e3, 1.0, 0.1], "minimum"), ([-1.0, -3.0, -1e7], "maximum"),
    ([0.1, 1e3, 1.0], "minimum"), ([1e5, -1e5, 1.0, -1.0], "saddle"),
])  # fmt: skip
def test_each_curvature_is_judged_by_its_own_error(curvatures, kind, numerical):
    rng = np.random.default_rng(len(curvatures))
    Q = np.linalg.qr(rng.standard_normal((len(curvatures),) * 2))[0]
    A, at = Q @ np.diag(curvatures) @ Q.T, rng.standard_normal(len(curvatures))
    found = classify(lambda x: 0.5 * (x - at) @ A @ (x - at) + 3, at, None if numerical else lambda x: A @ (x - at))
    assert found.kind == kind
    np.testing.assert_allclose(found.eigenvalues, np.sort(curvatures), rtol=1e-2)
