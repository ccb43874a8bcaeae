"""`summary` of fits with an offset, against Newton's method in NumPy and scipy's distributions."""

import numpy as np
import pytest
import scipy.optimize
import scipy.sparse
import scipy.stats
from numpy.testing import assert_allclose

from fastgd import GDClassifier, GDRegressor

pytestmark = pytest.mark.one_build

# Mean and variance as functions of the score, and the logarithm of the density.
FAMILIES = {
    "poisson": (np.exp, np.exp, lambda y, m: scipy.stats.poisson.logpmf(y, m)),
    "log_loss": (scipy.special.expit, lambda h: scipy.special.expit(h) * scipy.special.expit(-h),
                 lambda y, m: scipy.stats.bernoulli.logpmf(y, m)),
    "squared_error": (lambda h: h, np.ones_like, None),
}  # fmt: skip


@pytest.mark.parametrize("loss", FAMILIES)
@pytest.mark.parametrize("intercept", [True, False])
def test_a_summary_with_an_offset(loss, intercept):
    rng, n = np.random.default_rng(3), 200
    X, offset = rng.normal(size=(n, 3)), rng.normal(size=n)
    mean, variance, log_density = FAMILIES[loss]
    h = X @ [0.3, -0.2, 0.1] + offset - 0.5
    y = {"poisson": rng.poisson(np.exp(h)), "log_loss": (h + rng.logistic(size=n) > 0) * 1}.get(
        loss, h + rng.normal(size=n)
    )
    A = np.column_stack([X, np.ones(n)]) if intercept else X
    w = np.zeros(A.shape[1])
    for _ in range(50):
        h = A @ w + offset
        w = w + np.linalg.solve(A.T @ (A * variance(h)[:, None]), A.T @ (y - mean(h)))
    h = A @ w + offset
    covariance = np.linalg.inv(A.T @ (A * variance(h)[:, None]))

    def likelihood(h):
        if log_density is None:
            return np.sum(scipy.stats.norm.logpdf(y, h, np.sqrt(np.mean((y - h) ** 2))))
        return np.sum(log_density(y, mean(h)))

    if log_density is None:
        covariance *= np.sum((y - h) ** 2) / (n - len(w))
    null = offset
    if intercept:
        best = scipy.optimize.minimize_scalar(
            lambda b: -likelihood(offset + b), bounds=(-5, 5), options={"xatol": 1e-12}
        )
        null = offset + best.x
    model = (GDClassifier if loss == "log_loss" else GDRegressor)(
        loss, penalty=None, tol=1e-12, fit_intercept=intercept
    ).fit(X, y, offset=offset)
    for table in (model.summary(), model.summary(scipy.sparse.csr_array(X), y, offset=offset)):
        assert_allclose(table.coef, w, rtol=1e-6)
        assert_allclose(table.std_err, np.sqrt(np.diag(covariance)), rtol=1e-6)
        assert_allclose(table.log_likelihood, likelihood(h), rtol=1e-9)
        if log_density is None:
            assert_allclose(table.r2, 1 - np.sum((y - h) ** 2) / np.sum((y - null) ** 2), rtol=1e-7)
        else:
            assert_allclose(table.f_statistic, 2 * (likelihood(h) - likelihood(null)), rtol=1e-6)
    with pytest.raises(ValueError, match="the fit had an offset: pass that of the data"):
        model.summary(X, y)
