"""Bounds, positive coefficients and a penalty for each of them, against scipy and against what they are the same as."""

import warnings

import numpy as np
import pytest
import scipy.optimize
import scipy.sparse
from numpy.testing import assert_allclose

import fastgd
from fastgd import GDClassifier, GDRegressor, LinearObjective


def table(seed, n, d):
    """Columns of all scales and means, correlated, a target, and counts."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, d)) @ (np.eye(d) + 0.3 * rng.normal(size=(d, d)))
    X = X * 10 ** rng.uniform(-3, 3, d) + rng.normal(size=d)
    Z = (X - X.mean(axis=0)) / X.std(axis=0)
    h = Z @ rng.normal(size=d) / d**0.5
    return X, h + rng.normal(size=n) + 3, rng.poisson(np.exp(np.clip(h, -3, 3))), rng


@pytest.mark.parametrize(("seed", "n", "d"), [(0, 30, 3), (1, 200, 20), (2, 60, 40), (3, 1000, 80)])
@pytest.mark.parametrize("intercept", [False, True])
def test_least_squares_within_bounds_are_those_of_scipy(seed, n, d, intercept):
    X, y, _, rng = table(seed, n, d)
    scale = X.std(axis=0)
    for lower, upper in (
        (np.zeros(d), np.full(d, np.inf)),
        (-rng.uniform(0, 0.3, d) / scale, rng.uniform(0, 0.3, d) / scale),
        (np.full(d, -np.inf), rng.uniform(-0.2, 0.2, d) / scale),
    ):
        A = np.column_stack([X / scale, np.ones(n)]) if intercept else X / scale
        free = [np.inf] * intercept
        sides = np.r_[lower * scale, [-x for x in free]], np.r_[upper * scale, free]
        theirs = scipy.optimize.lsq_linear(A, y, sides, tol=1e-14, max_iter=10_000)
        ours = GDRegressor(bounds=(lower, upper), fit_intercept=intercept, tol=1e-10).fit(X, y)
        assert_allclose(ours.coef_ * scale, theirs.x[:d], atol=2e-6)
        assert ours.result_.fun <= theirs.cost / n * (1 + 1e-10)
        assert ours.result_.certified and ours.result_.solver == "newton"
        assert np.all(ours.coef_ >= lower) and np.all(ours.coef_ <= upper)
    positive = GDRegressor(positive=True, fit_intercept=intercept, tol=1e-10).fit(scipy.sparse.csr_array(X), y)
    same = GDRegressor(bounds=(0, None), fit_intercept=intercept, tol=1e-10).fit(X, y)
    assert_allclose(positive.coef_ * scale, same.coef_ * scale, atol=1e-6)


@pytest.mark.parametrize("loss", ["poisson", "log_loss", "huber", "tweedie", "probit", "negative_binomial"])
@pytest.mark.parametrize("sparse", [False, True])
def test_penalties_and_bounds_of_each_coefficient_give_the_minimum_that_scipy_finds(loss, sparse):
    X, y, counts, rng = table(4, 150, 8)
    classes = loss in ("log_loss", "probit")
    target = (counts > 1) * 1.0 if classes else y if loss == "huber" else counts
    p, scale, s = np.array([0, 1, 2, 0.5, 0, 3, 1, 1.0]), X.std(axis=0), rng.uniform(0.5, 2, 150)
    lower, upper = np.array([-np.inf, 0, 0, -0.01, -np.inf, -0.02, -np.inf, 0]) / scale, 0.3 / scale
    options = {"penalty": "elasticnet", "alpha": 0.02, "l1_ratio": 0.4, "penalty_weights": p, "tol": 1e-11}
    model = (GDClassifier if classes else GDRegressor)(loss, bounds=(lower, upper), **options)
    model.fit(scipy.sparse.csr_array(X) if sparse else X, target, s)
    record = fastgd.losses.get(loss)
    plain = LinearObjective(X, target, loss=loss, activation=record.link, fit_intercept=True, sample_weight=s)
    ours = LinearObjective(
        X, target, loss=loss, activation=record.link, fit_intercept=True, sample_weight=s, l1=0.008, l2=0.012,
        penalty_weights=p,
    )  # fmt: skip
    w = np.append(np.ravel(model.coef_), model.intercept_)

    def penalised(w):
        return plain.value(w) + np.sum(p * (0.008 * np.abs(w[:8]) + 0.006 * w[:8] ** 2))

    assert_allclose(ours.value(w), penalised(w), rtol=1e-13)
    assert_allclose(ours.gradient(w), plain.gradient(w) + np.append(0.012 * p * w[:8], 0), rtol=1e-9, atol=1e-12)
    units = np.append(scale, np.append(scale, 1.0))

    def parts(z):  # the coefficients as differences of numbers that are not negative
        z = z / units
        at = np.append(z[:8] - z[8:16], z[16])
        value, gradient = plain.value_and_gradient(at)
        bent = gradient[:8] + 0.012 * p * at[:8]
        value += np.sum(p * (0.008 * (z[:8] + z[8:16]) + 0.006 * at[:8] ** 2))
        return value, np.concatenate([bent + 0.008 * p, 0.008 * p - bent, gradient[8:]]) / units

    ends = [(0, max(u * k, 0)) for u, k in zip(upper, scale, strict=True)]
    ends += [(0, max(-l * k, 0)) for l, k in zip(lower, scale, strict=True)] + [(None, None)]  # noqa: E741
    theirs = scipy.optimize.minimize(
        parts, np.zeros(17), jac=True, method="L-BFGS-B", bounds=ends,
        options={"ftol": 1e-16, "gtol": 1e-11, "maxiter": 20_000, "maxfun": 100_000},
    )  # fmt: skip
    assert penalised(w) <= theirs.fun + 1e-8 * abs(theirs.fun)
    assert np.all(w[:8] >= lower) and np.all(w[:8] <= upper)


def test_without_a_penalty_on_some_columns_these_are_fitted_as_if_there_were_none():
    X, y, _, _ = table(5, 100, 6)
    Z = (X - X.mean(axis=0)) / X.std(axis=0)
    p = np.array([0, 0, 0, 1, 1, 1.0])
    l1 = GDRegressor(penalty="l1", alpha=100.0, penalty_weights=p, tol=1e-12).fit(Z, y)
    assert np.all(l1.coef_[3:] == 0)
    assert_allclose(l1.coef_[:3], GDRegressor().fit(Z[:, :3], y).coef_, rtol=1e-8)
    ridge = GDRegressor(penalty="l2", alpha=0.3, penalty_weights=p, tol=1e-14).fit(Z, y)
    D = np.diag(0.3 * p)
    C = Z - Z.mean(axis=0)
    assert_allclose(ridge.coef_, np.linalg.solve(C.T @ C / 100 + D, C.T @ (y - y.mean()) / 100), rtol=1e-8)
    ones = GDRegressor(penalty="elasticnet", alpha=0.1, penalty_weights=np.ones(6), tol=1e-12).fit(Z, y)
    assert_allclose(ones.coef_, GDRegressor(penalty="elasticnet", alpha=0.1, tol=1e-12).fit(Z, y).coef_, atol=1e-6)


def test_several_outputs_single_precision_and_classes_keep_to_bounds():
    X, y, counts, _ = table(6, 200, 5)
    Z = ((X - X.mean(axis=0)) / X.std(axis=0)).astype(np.float32)
    both = np.column_stack([y, -2 * y]).astype(np.float32)
    model = GDRegressor(positive=True).fit(Z, both)
    assert model.coef_.dtype == np.float32 and np.all(model.coef_ >= 0)
    for c in range(2):
        assert_allclose(model.coef_[c], GDRegressor(positive=True).fit(Z, both[:, c]).coef_, atol=1e-4)
    three = GDClassifier(bounds=(-0.1, 0.1)).fit(Z, np.clip(counts, 0, 2))
    assert np.all(np.abs(three.coef_) <= np.float32(0.1)) and three.result_.success
    early = GDRegressor("poisson", positive=True, early_stopping=True, random_state=0).fit(Z, counts)
    assert np.all(early.coef_ >= 0)
    steps = GDRegressor(positive=True, solver="sgd", learning_rate=0.01, random_state=0, max_iter=20, tol=None).fit(
        Z, y
    )
    assert np.all(steps.coef_ >= 0)
    held = GDRegressor(bounds=(0.5, 0.5)).fit(Z, y)
    assert np.all(held.coef_ == 0.5)


@pytest.mark.one_build
@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"bounds": (1, 0)}, "lower must not be above upper"),
        ({"bounds": [(0, 1)] * 3}, "bounds must be a pair"),
        ({"bounds": (np.zeros(2), np.ones(2))}, "bounds must be a number, or one for each of the 3 coefficients"),
        ({"bounds": (None, -1.0), "positive": True}, "positive=True and bounds leave nothing"),
        ({"positive": "yes"}, "positive must be"),
        ({"penalty_weights": [1, -1, 1]}, "penalty_weights must be a number for each of the 3 coefficients"),
        ({"penalty_weights": [1, 1]}, "penalty_weights must be a number for each of the 3 coefficients"),
        ({"penalty_weights": [1, 1, 1], "solver": "gram"}, 'penalty_weights are for solver="auto" or "newton"'),
        ({"penalty_weights": [1, 1, 1], "loss": "quantile"}, "penalty_weights are for"),
        ({"bounds": (0, 1), "solver": "gram"}, "bounds are for solver="),
        ({"positive": True, "loss": "quantile"}, "bounds are for solver="),
        ({"positive": True, "solver": "sgd"}, "bounds are for solver="),
    ],
)
def test_what_cannot_be_is_said_in_a_sentence(options, match):
    X, y, _, _ = table(7, 30, 3)
    with pytest.raises((ValueError, TypeError), match=match):
        GDRegressor(**options).fit(X, y)


@pytest.mark.one_build
def test_steps_that_know_one_penalty_refuse_others():
    X, y, _, _ = table(8, 30, 3)
    o = LinearObjective(X, y, loss="squared_error", l2=0.1, penalty_weights=[0, 1, 1])
    with pytest.raises(ValueError, match="penalty_weights"):
        fastgd.gradient_descent(o, lr=1e-9)
    with pytest.raises(ValueError, match="penalty_weights"):
        fastgd.gradient_descent(o, lr="bb")
    with pytest.raises(ValueError, match="penalty_weights"):
        fastgd.sweep(o, lr=[1e-3, 1e-2], step_num=3)
    with pytest.raises(ValueError, match="positive, bounds, penalty_weights and groups are for fit"):
        GDRegressor(positive=True).partial_fit(X, y)
    assert fastgd.gradient_descent(o, lr="auto").solver == "newton"
    assert fastgd.check_gradient(o.value, o.gradient, np.ones(3)).ok


@pytest.mark.parametrize("loss", ["poisson", "tweedie", "modified_huber", "log_loss"])
def test_estimates_within_bounds_hold_for_more_columns_than_rows(loss):
    """Singular Hessians, and three classes: the gap of a fit to a coarse tol holds against one to a fine tol."""
    for seed in range(6):
        rng = np.random.default_rng(seed)
        n, d = int(rng.integers(3, 12)), int(rng.integers(2, 25))
        X = rng.normal(size=(n, d)) * 10 ** rng.uniform(-3, 3, d)
        y = rng.poisson(1.0, n) if loss in ("poisson", "tweedie") else np.arange(n) % (3 if loss == "log_loss" else 2)
        options = {
            "penalty": [None, "l1", "l2"][seed % 3],
            "alpha": 0.01,
            "solver": "newton",
            "positive": seed % 2 == 1,
        }
        kind = GDRegressor if loss in ("poisson", "tweedie") else GDClassifier
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            coarse, fine = (kind(loss, tol=tol, **options).fit(X, y) for tol in (1e-3, 1e-9))
        assert coarse.result_.status in (fastgd.Status.CONVERGED, fastgd.Status.STALLED)
        if coarse.result_.status == fastgd.Status.CONVERGED:
            least = fine.result_.fun
            assert coarse.result_.fun - least <= 3e-3 * coarse.result_.fun + 1e-11
        assert coarse.n_iter_ < 100
