"""Small problems with known answers, for the tests of the loop."""

import numpy as np
from hypothesis import HealthCheck, settings

from fastgd import LinearObjective

PROPERTY = settings(
    max_examples=15,
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


def sum_of_squares(x):
    return float(np.sum(x * x))


def twice(x):
    return 2 * x


def ellipse(x):
    """½(4x₀² + x₁²), whose largest curvature is 4."""
    return 0.5 * float(4 * x[0] ** 2 + x[1] ** 2)


def ellipse_slope(x):
    return np.array([4 * x[0], x[1]])


def problem(n=30, d=3, k=None, dtype=np.float64, seed=0, **options):
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, d)).astype(dtype)
    y = rng.uniform(0, 1, n if k is None else (n, k)).astype(dtype)
    return LinearObjective(X, y, **options)


def least_squares(o):
    """The minimiser by LAPACK, of an identity objective without weights; columns scaled for its conditioning."""
    X = o.X.astype(float)
    A = np.column_stack([X, np.ones(len(X))]) if o.fit_intercept else X
    scale = np.linalg.norm(A, axis=0)
    w = np.linalg.lstsq(A / scale, o.y.astype(float), rcond=None)[0]
    return (w.T / scale).T
