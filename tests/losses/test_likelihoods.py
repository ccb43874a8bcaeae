"""Generalised linear models against figures of statsmodels and against scikit-learn."""

import numpy as np
import pytest
import scipy.sparse
import scipy.stats
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.linear_model import HuberRegressor, SGDClassifier, TweedieRegressor
from sklearn.metrics import d2_tweedie_score

import fastgd
from fastgd import GDClassifier, GDRegressor, LinearObjective, losses


def table():
    """X, the targets of each family, and weights."""
    rng = np.random.default_rng(11)
    X = np.round(rng.normal(size=(40, 3)), 3)
    mean = np.exp(X @ [0.5, -0.3, 0.2] + 1)
    counts = rng.poisson(mean)
    y = {"tweedie": np.round(np.array([rng.gamma(2, 0.5, count).sum() for count in counts]), 4)}
    s = np.round(rng.uniform(0.5, 2, 40), 2)
    y["inverse_gaussian"] = np.round(rng.wald(mean, 8), 4)
    y["negative_binomial"] = rng.negative_binomial(2, 2 / (2 + mean))
    y["probit"] = y["cloglog"] = (rng.random(40) < 0.5 * (1 + np.tanh(X @ [1, -0.5, 0.3]))) * 1.0
    return X, y, s


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
    (losses.InverseGaussian(), False, [1.0035835671974005, 0.407032907184829, -0.195582700894948, 0.15506071820161935],
     6.070931670386667),
    (losses.InverseGaussian(), True, [0.9839227866509546, 0.36583196647943245, -0.17421864233317413,
     0.21380420665547228], 6.908791016154968),
    (losses.NegativeBinomial(0.7), False, [0.9850374718901809, 0.2587252320580979, -0.20189059759780514,
     0.3742056962847454], 34.22975599659953),
    (losses.NegativeBinomial(0.7), True, [1.0014874785827677, 0.2885409006795606, -0.18367514639412139,
     0.3758757335821596], 37.2689443037703),
    (losses.Probit(), False, [0.18747053693965238, 1.601822258907009, -0.8439290285249084, 0.5048333873160233],
     27.11671005749716),
    (losses.Probit(), True, [0.1509269560279649, 1.6944857876242785, -0.8577531994888798, 0.3880525274848385],
     28.102959063380787),
    (losses.CLogLog(), False, [-0.27554670087852556, 2.0875108187726323, -1.1215257944849408, 0.5554154721880824],
     25.74049811644764),
    (losses.CLogLog(), True, [-0.352348326928838, 2.2473658218795878, -1.205494534148187, 0.41114482281498116],
     26.196887653074715),
]  # fmt: skip


@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize(("loss", "weighted", "parameters", "deviance"), PUBLISHED)
def test_weights_and_deviance_are_those_of_statsmodels(loss, weighted, parameters, deviance, sparse):
    X, targets, s = table()
    y, s = targets[loss.name], s if weighted else None
    data = scipy.sparse.csr_array(X) if sparse else X
    classes = loss.task == "classification"
    model = (GDClassifier(loss, penalty=None, tol=1e-14) if classes else GDRegressor(loss, tol=1e-14)).fit(data, y, s)
    assert_allclose([*model.intercept_, *np.ravel(model.coef_)], parameters, rtol=5e-7)
    o = LinearObjective(data, y, loss=loss, fit_intercept=True, sample_weight=s)
    w = np.r_[parameters[1:], parameters[0]]
    assert_allclose(o.value(w), deviance / (2 * (40 if s is None else s.sum())), rtol=1e-12)
    assert np.max(np.abs(o.gradient(w))) < 1e-8
    assert_allclose(o.numerical_gradient(w + 0.1), o.gradient(w + 0.1), rtol=1e-8, atol=1e-9)
    assert fastgd.check_gradient(o.value, o.gradient, w + 0.1).ok
    h = X @ np.ravel(model.coef_) + model.intercept_
    if classes:
        p = scipy.stats.norm.cdf(h) if loss.name == "probit" else 1 - np.exp(-np.exp(h))
        assert_allclose(model.predict_proba(data), np.column_stack([1 - p, p]), atol=1e-15)
        assert_array_equal(model.predict(data), (p > 0.5) * 1.0)
        assert_allclose(np.exp(model.predict_log_proba(data)), model.predict_proba(data))
    else:
        assert_allclose(model.predict(data), np.exp(h))


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


@pytest.mark.parametrize(("loss", "weighted", "parameters", "deviance"), PUBLISHED[:8:2])
@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e4])
def test_targets_of_any_scale_are_learnt_in_steps_on_rows(scale, loss, weighted, parameters, deviance):
    X, targets, _ = table()
    y = scale * targets[loss.name]
    model = GDRegressor(loss, solver="sgd", batch_size=8, random_state=0, tol=1e-5, max_iter=3000).fit(X, y)
    assert_allclose(model.coef_, parameters[1:], atol=0.08)


@pytest.mark.parametrize(("loss", "weighted", "parameters", "deviance"), PUBLISHED[:8:2])
def test_a_stream_comes_near_the_minimum(loss, weighted, parameters, deviance):
    X, targets, _ = table()
    stream = GDRegressor(loss, batch_size=8, random_state=0)
    for _ in range(300):
        stream.partial_fit(X, targets[loss.name])
    assert_allclose(stream.coef_, parameters[1:], atol=0.15)


@pytest.mark.parametrize(
    ("loss", "bad"), [(losses.Tweedie(), -0.5), (losses.InverseGaussian(), 0.0), (losses.NegativeBinomial(), -1.0)]
)
def test_targets_that_a_family_does_not_take_are_refused(loss, bad):
    X, targets, _ = table()
    y = targets[loss.name].copy()
    y[3] = bad
    for fit in (lambda: LinearObjective(X, y, loss=loss), lambda: GDRegressor(loss).fit(X, y)):
        with pytest.raises(ValueError, match=rf"y must {loss.targets}; y\[3\] is {bad}"):
            fit()


@pytest.mark.parametrize("loss", ["modified_huber", "perceptron"])
@pytest.mark.parametrize("sparse", [False, True])
def test_steps_on_rows_are_those_of_scikit_learn(loss, sparse):
    X, targets, s = table()
    data, y = scipy.sparse.csr_matrix(X) if sparse else X, targets["probit"]
    theirs = SGDClassifier(loss, penalty=None, learning_rate="constant", eta0=0.05, shuffle=False, max_iter=7, tol=None)
    ours = GDClassifier(loss, penalty=None, solver="sgd", learning_rate=0.05, shuffle=False, max_iter=7, tol=None)
    stream = GDClassifier(loss, penalty=None, learning_rate=0.05)
    theirs.fit(data, y, sample_weight=s / s.mean()), ours.fit(data, y, s)
    for _ in range(7):
        stream.partial_fit(data, y, [0, 1], s / s.mean())
    # scikit-learn steps an intercept beside sparse rows more slowly.
    if not sparse:
        assert_allclose(ours.coef_, theirs.coef_, rtol=1e-10)
        assert_allclose(ours.intercept_, theirs.intercept_, rtol=1e-10)
    assert_allclose(stream.coef_, ours.coef_, rtol=1e-12)
    if loss == "modified_huber":
        theirs.coef_, theirs.intercept_ = ours.coef_, ours.intercept_
        assert_allclose(ours.predict_proba(data), theirs.predict_proba(data), atol=1e-15)
    else:
        with pytest.raises(AttributeError, match=r"'perceptron' has none: sklearn.calibration.CalibratedClassifierCV"):
            ours.predict_proba(data)


def test_probabilities_of_three_classes_one_against_the_rest():
    X, _, _ = table()
    y = np.argmax(X, axis=1)
    theirs, ours = SGDClassifier("modified_huber"), GDClassifier("modified_huber").fit(X, y)
    theirs.fit(X, y)
    theirs.coef_, theirs.intercept_ = ours.coef_, ours.intercept_
    far = np.vstack([X, 50 * X, -50 * X])
    assert_allclose(ours.predict_proba(far), theirs.predict_proba(far), atol=1e-15)
    for loss in ("probit", "cloglog"):
        p = GDClassifier(loss).fit(X, y).predict_proba(far)
        assert_allclose(p.sum(axis=1), 1)


@pytest.mark.parametrize("power", [1, 1.5, 2])
def test_a_score_is_the_share_of_the_deviance_explained(power):
    X, targets, s = table()
    y = targets["tweedie"] + (power == 2)
    loss = {1: "poisson", 1.5: losses.Tweedie(), 2: "gamma"}[power]
    model = GDRegressor(loss).fit(X, y, s)
    assert_allclose(model.score(X, y), d2_tweedie_score(y, model.predict(X), power=power), rtol=1e-10)
    theirs = d2_tweedie_score(y, model.predict(X), sample_weight=s, power=power)
    assert_allclose(model.score(X, y, s), theirs, rtol=1e-10)
    both = GDRegressor(loss).fit(X, np.column_stack([y, 2 * y]))
    assert_allclose(both.score(X, np.column_stack([y, 2 * y])), GDRegressor(loss).fit(X, y).score(X, y), rtol=1e-4)
    early = GDRegressor(loss, early_stopping=True, random_state=0).fit(X, y)
    assert np.nanmax(early.history_["validation_score"]) < 1
    assert model.score(X, np.full(40, 2.0)) == 0


@pytest.mark.parametrize("scale", [1e-5, 1.0, 1e6])
@pytest.mark.parametrize("weighted", [False, True])
def test_the_scale_of_residuals_is_estimated_with_the_coefficients_as_by_scikit_learn(scale, weighted):
    rng = np.random.default_rng(3)
    X = rng.normal(size=(200, 3))
    y = X @ [1.0, -2.0, 0.5] + 3 + 0.3 * rng.standard_t(1.5, 200)
    s = rng.uniform(0.2, 2, 200) if weighted else None
    theirs = HuberRegressor(alpha=0, tol=1e-10, max_iter=10_000).fit(X, y, s)
    ours = GDRegressor("huber", epsilon="auto", tol=1e-12).fit(X, scale * y, s)
    assert_allclose(ours.coef_ / scale, theirs.coef_, rtol=1e-4)
    assert_allclose(ours.intercept_ / scale, theirs.intercept_, rtol=1e-4)
    assert_allclose(ours.scale_ / scale, theirs.scale_, rtol=1e-4)
    assert ours._loss.delta == 1.35 * ours.scale_


def test_what_epsilon_auto_does_not_go_with_is_said():
    X, targets, _ = table()
    for model, call in (
        (GDRegressor("poisson", epsilon="auto"), "fit"),
        (GDRegressor("huber", epsilon="auto", early_stopping=True), "fit"),
        (GDRegressor("huber", epsilon="auto"), "partial_fit"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match="epsilon"):
            getattr(model, call)(X, targets["tweedie"])


@pytest.mark.parametrize("loss", ["log_loss", "probit", "cloglog"])
def test_proportions_are_trials_counted_together(loss):
    X, _, _ = table()
    rng = np.random.default_rng(2)
    trials = rng.integers(1, 9, 40)
    hits = rng.binomial(trials, 1 / (1 + np.exp(-X @ [1, -0.5, 0.3])))
    model = GDClassifier(loss, penalty=None, tol=1e-12).fit(X, hits / trials, trials)
    rows = np.repeat(np.arange(40), trials)
    y = np.concatenate([np.arange(m) < k for m, k in zip(trials, hits, strict=True)]) * 1
    each = GDClassifier(loss, penalty=None, tol=1e-12).fit(X[rows], y)
    assert_allclose(model.coef_, each.coef_, rtol=1e-5)
    assert model.classes_.tolist() == [0, 1] and set(model.predict(X)) <= {0, 1}
    assert 0 < model.score(X, hits / trials) <= 1
    stream = GDClassifier(loss)
    for _ in range(3):
        stream.partial_fit(X, hits / trials, [0, 1])
    assert stream.coef_.shape == (1, 3)
    early = GDClassifier(loss, early_stopping=True, random_state=0).fit(X, hits / trials)
    assert early.classes_.tolist() == [0, 1]


def test_soft_labels_of_several_classes():
    X, _, s = table()
    Y = np.random.default_rng(4).dirichlet(np.ones(3), 40)
    model = GDClassifier(penalty="l2", alpha=0.01, tol=1e-12).fit(X, Y, s)
    o = LinearObjective(X, Y, loss="log", activation="softmax", fit_intercept=True, l2=0.01, sample_weight=s)
    assert np.max(np.abs(o.gradient(np.vstack([model.coef_.T, model.intercept_])))) < 1e-5
    assert model.classes_.tolist() == [0, 1, 2]
    assert model.score(X, Y) == np.mean(model.predict(X) == Y.argmax(axis=1))
    two = GDClassifier(tol=1e-12).fit(X, np.column_stack([1 - Y[:, 0], Y[:, 0]]))
    assert_allclose(two.coef_, GDClassifier(tol=1e-12).fit(X, Y[:, 0]).coef_)
    for y, options, match in (
        (Y[:, 0], {"loss": "hinge"}, "proportions, which are for losses of a probability"),
        (Y[:, 0], {"class_weight": "balanced"}, "class_weight is for labels"),
        (2 * Y, {}, "with a sum of 1 in each row; row 0 is"),
        (3 * Y[:, 0] - 1, {}, "Unknown label type"),
    ):
        with pytest.raises(ValueError, match=match):
            GDClassifier(**options).fit(X, y)
