"""Generalised linear models against figures of statsmodels and against scikit-learn."""

import numpy as np
import pytest
import scipy.sparse
from numpy.testing import assert_allclose
from sklearn.linear_model import TweedieRegressor

import fastgd
from fastgd import GDRegressor, LinearObjective, losses


def table():
    """X, the targets of each family, and weights."""
    rng = np.random.default_rng(11)
    X = np.round(rng.normal(size=(40, 3)), 3)
    mean = np.exp(X @ [0.5, -0.3, 0.2] + 1)
    counts = rng.poisson(mean)
    y = {"tweedie": np.round(np.array([rng.gamma(2, 0.5, count).sum() for count in counts]), 4)}
    return X, y, np.round(rng.uniform(0.5, 2, 40), 2)


# statsmodels 0.15, GLM(y, add_constant(X), family, freq_weights) of `table()`: parameters (intercept first), deviance.
PUBLISHED = [
    (losses.Tweedie(1.5), False, [0.9365842245251816, 0.4001060759560572, -0.3284521862582195, 0.34081535081344516],
     46.77105255072313),
    (losses.Tweedie(1.5), True, [0.9513681488603458, 0.3892867293019795, -0.29237161092838343, 0.3660557755754246],
     51.24608001374217),
    (losses.Tweedie(1.2), False, [0.9446104758851632, 0.3809731553826867, -0.3201107635248178, 0.3571619644874714],
     45.269426179395616),
    (losses.Tweedie(1.2), True, [0.9584460988951388, 0.3727688296393803, -0.28879026651688866, 0.38128308228766405],
     50.270920954924534),
]  # fmt: skip


@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize(("loss", "weighted", "parameters", "deviance"), PUBLISHED)
def test_weights_and_deviance_are_those_of_statsmodels(loss, weighted, parameters, deviance, sparse):
    X, targets, s = table()
    y, s = targets[loss.name], s if weighted else None
    data = scipy.sparse.csr_array(X) if sparse else X
    model = GDRegressor(loss, tol=1e-14).fit(data, y, s)
    assert_allclose([*model.intercept_, *model.coef_], parameters, rtol=2e-7)
    o = LinearObjective(data, y, loss=loss, fit_intercept=True, sample_weight=s)
    w = np.r_[parameters[1:], parameters[0]]
    assert_allclose(o.value(w), deviance / (2 * (40 if s is None else s.sum())), rtol=1e-12)
    assert np.max(np.abs(o.gradient(w))) < 1e-8
    assert_allclose(o.numerical_gradient(w + 0.1), o.gradient(w + 0.1), rtol=1e-8, atol=1e-9)
    assert fastgd.check_gradient(o.value, o.gradient, w + 0.1).ok
    assert_allclose(model.predict(data), np.exp(X @ model.coef_ + model.intercept_))


@pytest.mark.parametrize(("loss", "weighted", "parameters", "deviance"), PUBLISHED[::2])
@pytest.mark.parametrize("options", [{"solver": "accelerated"}, {"lr": "bb"}, {"lr": "armijo"}, {"solver": "gd"}])
def test_other_solvers_come_to_the_same(options, loss, weighted, parameters, deviance):
    X, targets, _ = table()
    o = LinearObjective(X, targets[loss.name], loss=loss, fit_intercept=True)
    result = fastgd.gradient_descent(o, **({"lr": "auto", "step_num": 3000, "tol": 1e-12} | options))
    assert result.success and result.fun == pytest.approx(deviance / 80, rel=1e-9)


@pytest.mark.parametrize(("power", "alpha", "scale"), [(1.5, 1e-3, 1.0), (1.1, 0.3, 1.0), (1.9, 0.01, 1e3)])
def test_weights_with_a_penalty_are_those_of_scikit_learn(power, alpha, scale):
    X, targets, s = table()
    y = scale * targets["tweedie"]
    theirs = TweedieRegressor(power=power, link="log", alpha=alpha, tol=1e-12, max_iter=10_000).fit(X, y, s)
    ours = GDRegressor(losses.Tweedie(power), penalty="l2", alpha=alpha, tol=1e-13).fit(X, y, s)
    assert ours.result_.certified
    assert_allclose(ours.coef_, theirs.coef_, rtol=1e-5, atol=1e-8)
    assert_allclose(ours.intercept_, theirs.intercept_, rtol=1e-6)
    l1 = GDRegressor(losses.Tweedie(power), penalty="l1", alpha=alpha, tol=1e-10).fit(X, y, s)
    assert l1.result_.certified and l1.result_.solver == "coordinate"


@pytest.mark.parametrize(("loss", "weighted", "parameters", "deviance"), PUBLISHED[::2])
@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e4])
def test_targets_of_any_scale_are_learnt_in_steps_on_rows(scale, loss, weighted, parameters, deviance):
    X, targets, _ = table()
    y = scale * targets[loss.name]
    model = GDRegressor(loss, solver="sgd", batch_size=8, random_state=0, tol=1e-5, max_iter=3000).fit(X, y)
    assert_allclose(model.coef_, parameters[1:], atol=0.08)


@pytest.mark.parametrize(("loss", "weighted", "parameters", "deviance"), PUBLISHED[::2])
def test_a_stream_comes_near_the_minimum(loss, weighted, parameters, deviance):
    X, targets, _ = table()
    stream = GDRegressor(loss, batch_size=8, random_state=0)
    for _ in range(300):
        stream.partial_fit(X, targets[loss.name])
    assert_allclose(stream.coef_, parameters[1:], atol=0.15)


@pytest.mark.parametrize(("loss", "bad"), [(losses.Tweedie(), -0.5)])
def test_targets_that_a_family_does_not_take_are_refused(loss, bad):
    X, targets, _ = table()
    y = targets[loss.name].copy()
    y[3] = bad
    for fit in (lambda: LinearObjective(X, y, loss=loss), lambda: GDRegressor(loss).fit(X, y)):
        with pytest.raises(ValueError, match=rf"y must {loss.targets}; y\[3\] is {bad}"):
            fit()
