"""Gamma regression against statsmodels (published figures of its GLM) and scikit-learn."""

import numpy as np
import pytest
import scipy.sparse
from numpy.testing import assert_allclose
from sklearn.linear_model import GammaRegressor

import fastgd
from fastgd import GDRegressor, LinearObjective, losses

# statsmodels 0.15, GLM(y, add_constant(X), Gamma(Log()), freq_weights) of `table()`: parameters and deviance.
PLAIN = [0.9022041620995533, 0.7394953285535947, -0.24023300789112678, 0.14539824574920907], 10.465038525637308
WEIGHTED = [0.918959589510165, 0.7211086982552977, -0.21925566975483518, 0.13372458173212595], 14.194616253243854


def table():
    rng = np.random.default_rng(7)
    X = np.round(rng.normal(size=(30, 3)), 3)
    mean = np.exp(X @ [0.5, -0.3, 0.2] + 1)
    return X, np.round(rng.gamma(2, mean / 2), 4), np.round(rng.uniform(0.5, 2, 30), 2)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("sparse", [False, True])
def test_weights_and_deviance_are_those_of_statsmodels(weighted, sparse):
    X, y, s = table()
    parameters, deviance = WEIGHTED if weighted else PLAIN
    model = GDRegressor("gamma", tol=1e-14).fit(scipy.sparse.csr_array(X) if sparse else X, y, s if weighted else None)
    assert_allclose([*model.intercept_, *model.coef_], parameters, rtol=1e-8)
    o = LinearObjective(X, y, loss="gamma", fit_intercept=True, sample_weight=s if weighted else None)
    w = np.r_[parameters[1:], parameters[0]]
    assert_allclose(o.value(w), deviance / (2 * (s.sum() if weighted else 30)), rtol=1e-13)
    assert np.max(np.abs(o.gradient(w))) < 1e-8
    assert_allclose(o.numerical_gradient(w + 0.1), o.gradient(w + 0.1), rtol=1e-8)
    assert_allclose(model.predict(X), np.exp(X @ model.coef_ + model.intercept_))


@pytest.mark.parametrize("alpha", [1e-3, 0.3])
def test_weights_with_a_penalty_are_those_of_scikit_learn(alpha):
    X, y, s = table()
    theirs = GammaRegressor(alpha=alpha, tol=1e-12, max_iter=10_000).fit(X, y, s)
    ours = GDRegressor("gamma", penalty="l2", alpha=alpha, tol=1e-13).fit(X, y, s)
    assert ours.result_.certified
    assert_allclose(ours.coef_, theirs.coef_, rtol=1e-5, atol=1e-8)
    assert_allclose(ours.intercept_, theirs.intercept_, rtol=1e-6)


@pytest.mark.parametrize("options", [{"solver": "accelerated"}, {"lr": "bb"}, {"lr": "armijo"}, {"solver": "gd"}])
def test_other_solvers_come_to_the_same(options):
    X, y, _ = table()
    o = LinearObjective(X, y, loss="gamma", fit_intercept=True)
    result = fastgd.gradient_descent(o, **({"lr": "auto", "step_num": 3000, "tol": 1e-12} | options))
    assert result.success and result.fun == pytest.approx(PLAIN[1] / 60, rel=1e-9)


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e4])
def test_targets_of_any_scale_are_learnt_in_steps_on_rows(scale):
    X, y, _ = table()
    model = GDRegressor("gamma", solver="sgd", batch_size=8, random_state=0, tol=1e-5, max_iter=3000)
    model.fit(X, scale * y)
    assert_allclose(model.coef_, PLAIN[0][1:], atol=0.05)


def test_targets_that_are_not_positive_are_refused():
    X, y, _ = table()
    y[3] = 0
    with pytest.raises(ValueError, match=r'y must be positive for loss="gamma"; y\[3\] is 0.0'):
        LinearObjective(X, y, loss="gamma")
    with pytest.raises(ValueError, match=r'y must be positive for loss="gamma"; y\[3\] is 0.0'):
        GDRegressor(losses.Gamma()).fit(X, y)
    with pytest.raises(ValueError, match="loss='gamma' goes with activation 'exp'; got 'identity'"):
        LinearObjective(X, np.abs(y) + 1, loss="gamma", activation="identity")
    tiny = LinearObjective(X, np.full(30, 1e-300), loss="gamma", fit_intercept=True)
    assert tiny.value([0, 0, 0, np.log(1e-300)]) == pytest.approx(0, abs=1e-12)
