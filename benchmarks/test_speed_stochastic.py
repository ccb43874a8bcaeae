"""Stochastic descent, one row a step: epochs over shuffled rows, against scikit-learn's SGDRegressor."""

import functools

import numpy as np
import pytest
from problems import sparse_table
from sklearn.linear_model import SGDRegressor

from fastgd import LinearObjective, gradient_descent

pytestmark = pytest.mark.benchmark(min_rounds=3)

EPOCHS = 10  # ours takes two passes more, for the values at the start and the end
SHAPES = {(100_000, 10): 5.0, (100_000, 50): 4.5, (20_000, 500): 3.0}
SPARSE_SHAPE, DENSITY = (20_000, 10_000), 0.01
NOISE = 0.1
# Relative difference of the objectives that runs with different orders of the rows reach.
ORDERS_DIFFER = 0.1


@functools.lru_cache(maxsize=1)
def problem(shape, density):
    """X, y, a rate that is stable for every row, and the objective that another run reaches."""
    n, d = shape
    rng = np.random.default_rng(0)
    X, values = (rng.normal(size=shape), d) if density == 1 else sparse_table(shape, density)
    w = rng.normal(size=d)
    y = X @ w + NOISE * np.sqrt(values) * rng.normal(size=n)
    rate = 0.1 / values
    reached = mean_square(X, y, by_sklearn(X, y, rate, seed=1))
    assert reached < 0.5 * np.mean(y**2), "the epochs must get somewhere, or nothing is compared"
    return X, y, rate, reached


def mean_square(X, y, w):
    return np.mean((X @ w - y) ** 2)


def by_sklearn(X, y, rate, seed):
    return SGDRegressor(
        penalty=None, learning_rate="constant", eta0=rate, max_iter=EPOCHS, tol=None, shuffle=True, fit_intercept=False,
        random_state=seed,
    ).fit(X, y).coef_  # fmt: skip


def compare_epochs(compare, what, shape, density, who, target):
    X, y, rate, reached = problem(shape, density)
    steps = EPOCHS * len(y)
    members = {
        "ours": lambda: gradient_descent(LinearObjective(X, y), lr=rate, step_num=steps, batch_size=1, seed=0).x,
        "SGDRegressor": lambda: by_sklearn(X, y, rate, seed=0),
    }
    compare(
        f"Stochastic descent, {EPOCHS} epochs of one row a step", what, who, members, reached,
        judge=lambda w: mean_square(X, y, w), tolerance=ORDERS_DIFFER, shape=shape, target={"SGDRegressor": target},
    )  # fmt: skip


@pytest.mark.parametrize("who", ("ours", "SGDRegressor"))
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_dense_epochs(compare, shape, who):
    compare_epochs(compare, "dense", compare.shape(*shape, least=2000), 1, who, SHAPES[shape])


@pytest.mark.parametrize("who", ("ours", "SGDRegressor"))
def test_sparse_epochs(compare, who):
    shape, density = (SPARSE_SHAPE, DENSITY) if not compare.quick else ((2_000, 20), 0.2)
    compare_epochs(compare, f"CSR, {density:.0%} of the columns in a row", shape, density, who, 2.5)
