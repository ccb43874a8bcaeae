"""The value of an objective of several outputs with penalties, by its formula."""

import numpy as np
import pytest
from numpy.testing import assert_allclose

from fastgd import LinearObjective


@pytest.mark.parametrize("intercept", [True, False])
@pytest.mark.parametrize("k", [1, 2, 5])
def test_penalties_leave_out_the_intercepts(k, intercept):
    rng = np.random.default_rng(k)
    X, Y, w = rng.standard_normal((20, 3)), rng.standard_normal((20, k)), rng.standard_normal((3 + intercept, k))
    objective = LinearObjective(X, Y, loss="squared_error", l1=0.3, l2=0.2, fit_intercept=intercept)
    residual = X @ w[:3] + (w[3] if intercept else 0.0) - Y
    expected = 0.5 * np.sum(residual**2) / 20 + 0.3 * np.abs(w[:3]).sum() + 0.1 * np.sum(w[:3] ** 2)
    assert objective.value(w) == pytest.approx(expected, rel=1e-13)
    value, gradient = objective.value_and_gradient(w)
    assert value == pytest.approx(expected, rel=1e-13)
    assert_allclose(gradient[:3], X.T @ residual / 20 + 0.2 * w[:3], rtol=1e-12)
