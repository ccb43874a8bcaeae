"""`summary` against published tables, and against its formulas where none are published.

The published ones: R's `summary(lm(weight ~ height, women))`; statsmodels' documentation of OLS on Longley's data and
of Logit on Spector and Mazzeo's (https://www.statsmodels.org/stable/examples/), which print three decimals.
"""

import copy
import pickle

import numpy as np
import pytest
from certified_tables import SPECTOR_GPA, SPECTOR_GRADE, SPECTOR_TUCE, longley, numbers
from numpy.testing import assert_allclose
from scipy import stats
from scipy.special import gammaln
from sklearn.exceptions import ConvergenceWarning

from fastgd import GDClassifier, GDRegressor, datasets
from fastgd.errors import ConditionWarning


def test_women_as_r_has_it():
    X, y = datasets.load_women()
    table = GDRegressor().fit(X, y).summary()
    assert table.names == ["x0", "intercept"] and table.kind == "t"
    assert_allclose(table.coef, [3.45, -87.51667], rtol=1e-7)
    assert_allclose(table.std_err, [0.09114, 5.93694], rtol=1e-4)
    assert_allclose(table.statistic, [37.85, -14.74], rtol=3e-4)
    assert_allclose(table.p_values, [1.09e-14, 1.71e-09], rtol=5e-3)
    assert_allclose([table.r2, table.adjusted_r2], [0.991, 0.9903], atol=5e-5)
    assert_allclose(table.f_statistic, 1433, rtol=5e-4)
    assert table.df_resid == 13
    text = str(table)
    assert "15 samples, 13 degrees of freedom left" in text and "P>|t|" in text and text == repr(table)


def test_longley_as_statsmodels_has_it():
    table = GDRegressor().fit(*longley()).summary()
    assert_allclose(table.statistic, [0.177, -1.070, -4.136, -4.822, -0.226, 4.016, -3.911], atol=6e-4)
    assert_allclose(table.p_values, [0.863, 0.313, 0.003, 0.001, 0.826, 0.003, 0.004], atol=6e-4)
    interval = [(-177.029, 207.153), (-0.112, 0.040), (-3.125, -0.915), (-1.518, -0.549), (-0.563, 0.460),
                (798.788, 2859.515), (-5496529.482, -1467987.787)]  # fmt: skip
    assert_allclose(table.conf_int, interval, atol=1.5e-3)
    assert_allclose([table.r2, table.adjusted_r2, table.f_statistic], [0.995, 0.992, 330.3], atol=0.05)
    assert_allclose(table.f_p_value, 4.98e-10, rtol=2e-3)
    assert_allclose([table.log_likelihood, table.aic, table.bic], [-109.62, 233.2, 238.6], atol=0.06)


def test_spector_as_statsmodels_has_it():
    X = np.column_stack([numbers(SPECTOR_GPA), numbers(SPECTOR_TUCE), np.repeat([0.0, 1.0], [18, 14])])
    table = GDClassifier(penalty=None).fit(X, numbers(SPECTOR_GRADE)).summary()
    assert table.kind == "z"
    assert_allclose(table.statistic, [2.238, 0.672, 2.234, -2.641], atol=6e-4)
    assert_allclose(table.p_values, [0.025, 0.501, 0.025, 0.008], atol=6e-4)
    assert_allclose(table.conf_int, [(0.351, 5.301), (-0.182, 0.373), (0.292, 4.465), (-22.687, -3.356)], atol=6e-4)
    assert_allclose([table.r2, table.log_likelihood, table.f_p_value], [0.3740, -12.890, 0.001502], atol=4e-4)


def problem():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(60, 2)) * [1e-4, 1e5] + [0, 1e6]
    h = (X - [0, 1e6]) @ [5e3, 5e-6] + 0.3
    return X, h, rng


def design(X, fit_intercept):
    return np.column_stack([X, np.ones(len(X))]) if fit_intercept else X


@pytest.mark.parametrize("fit_intercept", [True, False])
def test_squared_error_by_its_formulas(fit_intercept):
    X, h, rng = problem()
    y = h + rng.normal(size=60)
    X = X if fit_intercept else X - [0, 1e6]
    table = GDRegressor(fit_intercept=fit_intercept).fit(X, y).summary(level=0.9)
    A = design(X, fit_intercept)
    w, p = np.linalg.lstsq(A, y)[0], A.shape[1]
    rss = np.sum((y - A @ w) ** 2)
    error = np.sqrt(np.diag(np.linalg.pinv(A, rcond=1e-18) @ np.linalg.pinv(A, rcond=1e-18).T) * rss / (60 - p))
    assert_allclose(table.std_err, error, rtol=1e-7)
    half = stats.t.ppf(0.95, 60 - p) * error
    assert_allclose(table.conf_int, np.column_stack([w - half, w + half]), rtol=1e-6)
    total = np.sum((y - fit_intercept * y.mean()) ** 2)
    assert_allclose(table.r2, 1 - rss / total, rtol=1e-10)
    likelihood = stats.norm.logpdf(y, A @ w, np.sqrt(rss / 60)).sum()
    assert_allclose([table.log_likelihood, table.aic], [likelihood, 2 * p - 2 * likelihood], rtol=1e-10)
    restricted = (total - rss) / (p - fit_intercept) / (rss / (60 - p))
    assert_allclose(table.f_statistic, restricted, rtol=1e-9)


@pytest.mark.parametrize("loss", ["log_loss", "poisson"])
@pytest.mark.parametrize("fit_intercept", [True, False])
def test_likelihoods_by_their_formulas(loss, fit_intercept):
    X, h, rng = problem()
    X = X if fit_intercept else X - [0, 1e6]
    y = rng.poisson(np.exp(h)) if loss == "poisson" else (rng.random(60) < 1 / (1 + np.exp(-h))).astype(int)
    kind = GDRegressor if loss == "poisson" else GDClassifier
    table = kind(loss, penalty=None, fit_intercept=fit_intercept, tol=1e-12).fit(X, y).summary()
    A = design((X - X.mean(axis=0) * fit_intercept) / X.std(axis=0), fit_intercept)
    w = np.zeros(A.shape[1])
    for _ in range(50):
        m = np.exp(A @ w) if loss == "poisson" else 1 / (1 + np.exp(-A @ w))
        hessian = (A.T * (m if loss == "poisson" else m * (1 - m))) @ A
        w = w + np.linalg.solve(hessian, A.T @ (y - m))
    assert_allclose(table.coef[:2], w[:2] / X.std(axis=0), rtol=1e-6)
    assert_allclose(table.std_err[:2], np.sqrt(np.diag(np.linalg.inv(hessian)))[:2] / X.std(axis=0), rtol=1e-5)
    rows = y * np.log(m) - m - gammaln(y + 1) if loss == "poisson" else y * np.log(m) + (1 - y) * np.log(1 - m)
    assert_allclose(table.log_likelihood, rows.sum(), rtol=1e-9)
    constant = y.mean() if fit_intercept else (1.0 if loss == "poisson" else 0.5)
    null = (stats.poisson if loss == "poisson" else stats.bernoulli).logpmf(y, constant).sum()
    assert_allclose(table.r2, 1 - rows.sum() / null, rtol=1e-7)
    assert_allclose(table.f_p_value, stats.chi2.sf(2 * (rows.sum() - null), 2), rtol=1e-5)


@pytest.mark.one_build
def test_weights_of_a_squared_error_are_one_over_a_variance_at_any_scale():
    """β and σ²(XᵀSX)⁻¹ with σ² = Σs·r²/(n − p), n being rows: the textbook's weighted least squares."""
    X, h, rng = problem()
    s = rng.uniform(0.5, 3, 60)
    y = h + rng.normal(size=60) / np.sqrt(s)
    A = np.column_stack([X, np.ones(60)])
    inverse = np.linalg.inv(A.T @ (s[:, None] * A))
    r = y - A @ (inverse @ (A.T @ (s * y)))
    expected = np.sqrt(np.diag(inverse) * (s @ r**2) / (60 - A.shape[1]))
    for scale in (1e-6, 1.0, 40.0):
        table = GDRegressor(tol=1e-12).fit(X, y, sample_weight=scale * s).summary()
        assert_allclose(table.std_err, expected, rtol=1e-8)
        assert table.n == 60
        assert table.df_resid == 60 - A.shape[1]


@pytest.mark.one_build
def test_given_data_are_those_of_the_fit():
    X, h, rng = problem()
    y = h + rng.normal(size=60)
    model = GDRegressor().fit(X, y)
    assert_allclose(model.summary(X, y).std_err, model.summary().std_err, rtol=1e-12)
    assert_allclose(model.summary(X, y).r2, model.score(X, y), rtol=1e-12)


@pytest.mark.one_build
def test_the_data_of_the_fit_are_private_copies_that_go_into_pickles():
    X, h, rng = problem()
    y, s = h + rng.normal(size=60), rng.uniform(1, 2, 60)
    model = GDRegressor().fit(X, y, s)
    expected = model.summary(X, y, s)
    copies = [model, copy.copy(model), copy.deepcopy(model), pickle.loads(pickle.dumps(model))]
    X[:], y[:], s[:] = 0.0, 1.0, 2.0
    for twin in copies:
        assert_allclose(twin.summary().std_err, expected.std_err, rtol=1e-12)
        assert_allclose(twin.summary().r2, expected.r2, rtol=1e-12)
    with pytest.raises(ValueError, match="Invalid parameter"):
        model.set_params(_kept=None)
    model.set_params(fit_intercept=False)  # of the next fit
    assert model.summary().names[-1] == "intercept"


@pytest.mark.one_build
def test_large_tables_are_not_kept():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(1 << 18, 1))
    y = X[:, 0] + rng.normal(size=len(X))
    model = GDRegressor().fit(X, y)
    with pytest.raises(ValueError, match="has kept no data"):
        model.summary()
    assert_allclose(model.summary(X, y).std_err, 1 / np.sqrt(len(X)), rtol=0.01)


@pytest.mark.one_build
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("loss", ["squared_error", "log_loss", "poisson"])
@pytest.mark.parametrize("fit_intercept", [True, False])
def test_fewer_rows_than_columns_with_weights_are_no_failure_of_the_fit(loss, fit_intercept):
    """Rows are counted, and not their weights, which may add up to more than there are columns."""
    rng = np.random.default_rng(0)
    kind = GDClassifier if loss == "log_loss" else GDRegressor
    model = kind(loss, penalty=None, fit_intercept=fit_intercept, max_iter=20)
    for _ in range(30):
        n = rng.integers(2, 7)
        X, y = rng.integers(-2, 3, (n, n + rng.integers(0, 3))).astype(float), np.arange(n) % 2
        s = rng.integers(0, 9, n) + (np.arange(n) < 2)
        with pytest.raises(ValueError, match="more samples than weights"):
            model.fit(X, y, sample_weight=s).summary()
    model.fit([[1, 2, 3], [2, 1, 0]], [1, 2], sample_weight=[3, 4])
    with pytest.raises(ValueError, match="got 2 samples of a positive weight, for"):
        model.summary()


@pytest.mark.one_build
def test_where_there_are_no_standard_errors():
    X, h, rng = problem()
    y = h + rng.normal(size=60)
    fits = [
        (GDRegressor(penalty="l2").fit(X, y), "penalised"),
        (GDRegressor("huber").fit(X, y), "one output and the losses"),
        (GDRegressor().fit(X, np.column_stack([y, y])), "one output"),
        (GDRegressor().fit(X[:4], y[:4]), None),
        (GDClassifier(penalty=None, alpha=0).fit(X, rng.integers(0, 3, 60)), "one output"),
    ]
    for model, words in fits:
        if words:
            with pytest.raises(ValueError, match=words):
                model.summary()
        else:
            assert model.summary().df_resid == 1
    with pytest.warns(ConditionWarning):
        lost = GDRegressor().fit(np.column_stack([X, X[:, 0]]), y)
    with pytest.raises(ValueError, match="singular or not finite, as with collinear columns"):
        lost.summary()
    for level in (0, 1, 1.5):
        with pytest.raises(ValueError, match="level must be between 0 and 1"):
            GDRegressor().fit(X, y).summary(level=level)


@pytest.mark.one_build
def test_statistics_are_those_of_the_weights_that_are_there():
    X, y = datasets.load_women()
    model = GDRegressor(learning_rate=1e-9).partial_fit(X, y)
    with pytest.raises(ValueError, match="has kept no data"):
        model.summary()
    model = GDRegressor().fit(X, y)
    model.summary()
    model.partial_fit(X, y)
    with pytest.raises(ValueError, match="has kept no data"):
        model.summary()
    assert_allclose(model.fit(X, y).summary().r2, 0.991009832686, rtol=1e-10)


@pytest.mark.one_build
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_counts_that_are_all_zero():
    X = np.arange(8.0).reshape(-1, 1)
    with pytest.warns(ConditionWarning, match="no finite weights minimise the loss"):
        model = GDRegressor("poisson", max_iter=50).fit(X, np.zeros(8))
    assert np.all(model.predict(X) < 1e-3)
    with pytest.raises(ValueError, match="all counts in y are 0"):
        model.summary()


@pytest.mark.parametrize("loss", ["squared_error", "log_loss", "poisson"])
def test_weights_that_are_not_at_the_minimum_are_named(loss):
    rng = np.random.default_rng(3)
    X = rng.normal(size=(300, 3))
    h = X @ [1, -0.5, 0] + 0.3
    y = {"squared_error": h + rng.normal(size=300), "log_loss": (h + rng.logistic(size=300) > 0) * 1,
         "poisson": rng.poisson(np.exp(h))}[loss]  # fmt: skip
    kind = GDClassifier if loss == "log_loss" else GDRegressor
    best = kind(loss, penalty=None).fit(X, y)
    best.summary()
    best.summary(X, y)
    early = kind(loss, penalty=None, solver="gd", max_iter=1, tol=None).fit(X, y)
    off = np.max(np.abs(np.ravel(early.coef_ - best.coef_)) / best.summary().std_err[:3])
    assert off > 0.5
    for arguments in ((), (X, y)):
        with pytest.warns(ConvergenceWarning, match="standard errors from those with the highest likelihood"):
            early.summary(*arguments)
    with pytest.warns(ConvergenceWarning, match="pass the data of the fit"):
        best.summary(X[::2], y[::2])
