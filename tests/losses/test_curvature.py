"""Bounds of curvature against fine grids, mpmath and dense eigenvalues."""

import mpmath
import numpy as np
import pytest

from fastgd.losses import of
from fastgd.objective import curvature

pytestmark = pytest.mark.one_build

TARGETS = (0.0, 1.0, 0.5, -1.0, 0.3, 1.2, -3.0, 50.0, -50.0, 1e6)


def second_derivative(activation, y):
    """φ''(h) of φ(h) = ½(f(h) − y)² in mpmath, by differentiating the definition."""
    f = {"sigmoid": lambda h: 1 / (1 + mpmath.exp(-h)), "tanh": mpmath.tanh}[activation]
    return lambda h: mpmath.diff(lambda t: (f(t) - y) ** 2 / 2, h, 2)


@pytest.mark.parametrize("activation", ["sigmoid", "tanh"])
@pytest.mark.parametrize("y", TARGETS)
def test_the_bound_of_the_squared_loss_is_reached_and_not_passed(activation, y):
    bound = of("sse", activation).bound(y, y)
    exact = second_derivative(activation, mpmath.mpf(y))
    grid = np.linspace(-7, 7, 281)
    values = [abs(float(exact(mpmath.mpf(float(h))))) for h in grid]
    # The best of the grid, and then between its neighbours.
    best = grid[int(np.argmax(values))]
    fine = [abs(float(exact(mpmath.mpf(float(h))))) for h in np.linspace(best - 0.05, best + 0.05, 101)]
    assert max(fine + values) <= bound * (1 + 1e-12)
    assert max(fine) >= bound * (1 - 1e-5)


def test_the_bound_over_several_targets_is_that_of_the_worst():
    for activation in ("sigmoid", "tanh"):
        for low, high in ((0.0, 1.0), (-2.0, 0.5), (0.2, 7.0)):
            each = [of("sse", activation).bound(y, y) for y in np.linspace(low, high, 21)]
            assert of("sse", activation).bound(low, high) == pytest.approx(max(each), rel=1e-12)
    assert of("sse", "identity").bound(-5.0, 5.0) == 1.0


def test_known_bounds():
    # σ at y = ½: φ'' = σ'² + (σ − ½)σ'' is largest at h = 0, where it is 1/16. tanh at y = 0: 1, at h = 0.
    assert of("sse", "sigmoid").bound(0.5, 0.5) == pytest.approx(1 / 16, rel=1e-8)
    assert of("sse", "tanh").bound(0.0, 0.0) == pytest.approx(1.0, rel=1e-8)


D = 120
SPECTRA = {
    "one": np.r_[1.0, np.zeros(D - 1)],
    "equal": np.ones(D),
    "geometric": 0.5 ** np.arange(D),
    "linear": np.linspace(0, 1, D),
    "one above a crowd": np.r_[1.0, np.linspace(0, 0.5, D - 1)],
    "zero": np.zeros(D),
}


@pytest.mark.parametrize("name", SPECTRA)
def test_lanczos_is_never_below_the_largest_eigenvalue_and_at_most_12_percent_above(name):
    eigenvalues = SPECTRA[name]
    for seed in range(2):
        Q = np.linalg.qr(np.random.default_rng(seed).standard_normal((D, D)))[0]
        A = (Q * eigenvalues) @ Q.T
        bound = curvature.largest_eigenvalue(lambda v, A=A: A @ v, D, float(eigenvalues.sum()))
        assert eigenvalues.max() * (1 - 1e-12) <= bound <= 1.12 * eigenvalues.max()


def test_lanczos_in_one_dimension():
    assert curvature.largest_eigenvalue(lambda v: 3 * v, 1, 3.0) == 3.0


@pytest.mark.parametrize("lowest", [0.5, 0.9, 0.99])
def test_lanczos_is_as_close_where_the_spectrum_is_narrow(lowest):
    # What n ≫ d independent columns of one size give, so what most tables give after scaling.
    eigenvalues = np.linspace(lowest, 1, 600)
    bound = curvature.largest_eigenvalue(lambda v: eigenvalues * v, 600, float(eigenvalues.sum()))
    assert 1 - 1e-12 <= bound <= 1.12


@pytest.mark.parametrize("size", [1e-200, 1e200])
def test_lanczos_of_columns_of_1e_100_or_1e100(size):
    # The route of up to 512 columns has no trouble with these.
    eigenvalues = size * np.linspace(0, 1, D)
    bound = curvature.largest_eigenvalue(lambda v: eigenvalues * v, D, float(eigenvalues.sum()))
    assert size * (1 - 1e-12) <= bound <= 1.12 * size


@pytest.mark.parametrize("size", [1e-300, 1e300])
def test_lanczos_does_not_mind_the_error_state(size):
    eigenvalues = size * 0.5 ** np.arange(D)  # the smallest products with 1e-300 underflow
    trace = float(eigenvalues.sum())
    with np.errstate(all="raise"):
        bound = curvature.largest_eigenvalue(lambda v: eigenvalues * v, D, trace)
    assert size <= bound <= 1.12 * size


def test_a_trace_that_overflowed_bounds_nothing():
    assert curvature.largest_eigenvalue(lambda v: v, D, np.inf) == np.inf
