"""GDRegressor and GDClassifier on tables that are hard to be right about: what a fit says of itself is held to F."""

import warnings

import numpy as np
import pytest
from scipy import sparse
from scipy.optimize import minimize
from scipy.special import logsumexp
from sklearn.base import clone
from sklearn.linear_model import lars_path

from fastgd import GDClassifier, GDRegressor
from fastgd.engine.result import Status
from fastgd.errors import ConditionWarning


def lasso_loss(model, X, y):
    residual = X @ model.coef_ + model.intercept_ - y
    return 0.5 * np.mean(residual**2) + model.alpha * np.abs(model.coef_).sum()


def hinges(model, X, y):
    margins = np.where(y[:, None] == model.classes_, 1, -1) * (X @ model.coef_.T + model.intercept_)
    return np.mean(np.sum(np.maximum(0, 1 - margins) ** 2, axis=1))


def log_loss(model, X, y):
    h = X @ model.coef_.T + model.intercept_
    return np.mean(logsumexp(h, axis=1) - h[np.arange(len(y)), y])


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("solver", ["gram", "preconditioned", "accelerated"])
def test_lasso_with_more_columns_than_rows_claims_no_gap_below_the_true_one(solver, seed):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(30, 60)) + 3.0
    X[:, 0] = X[:, 1]
    y = X[:, :20] @ rng.normal(size=20) + 0.1 * rng.normal(size=30)
    # Least angle regression comes to the minimum in a number of exact steps. It wants no column twice.
    Z, centred = X[:, 1:] - X[:, 1:].mean(axis=0), y - y.mean()
    w = lars_path(Z, centred, alpha_min=1e-5, method="lasso")[2][:, -1]
    least = 0.5 * np.mean((centred - Z @ w) ** 2) + 1e-5 * np.abs(w).sum()
    for tol in (1e-1, 1e-4, 1e-8):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a fit that does not get there, which is not what is asked here
            model = GDRegressor(penalty="l1", alpha=1e-5, solver=solver, max_iter=200, tol=tol).fit(X, y)
        true, result = lasso_loss(model, X, y) - least, model.result_
        assert true >= -1e-9 * least
        assert result.certified and true - 1e-9 * least <= result.gap
        if solver == "accelerated":  # 200 steps are far too few, and it says so
            assert true > 0.1 * least and result.status == Status.STEP_LIMIT
        else:
            assert result.status == Status.CONVERGED and result.gap <= tol * (least + true)


@pytest.mark.parametrize("alpha", [1e-3, 1e-2, 0.1])
def test_softmax_with_l1_takes_few_steps(alpha):
    rng = np.random.default_rng(3)
    X = rng.normal(size=(60, 6)) * [1, 10, 0.1, 30, 1, 1]
    X[:, 4] = X[:, 5]
    y = rng.permutation(np.arange(60) % 8)
    model = GDClassifier(penalty="l1", alpha=alpha, tol=1e-9).fit(X, y)
    assert model.result_.certified and model.n_iter_ <= 30
    assert model.history_["loss"][-1] == pytest.approx(
        log_loss(model, X, y) + alpha * np.abs(model.coef_).sum(), rel=1e-12
    )


@pytest.mark.parametrize("seed", range(3))
def test_the_outputs_of_a_squared_hinge_bend_each_in_its_own_way(seed):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(80, 8)) * (rng.random((80, 8)) < 0.3) * 10.0 ** rng.uniform(-4, 4, 8)
    y = np.where(rng.random(80) < 0.1, 2, rng.integers(0, 2, 80))
    model = GDClassifier("squared_hinge", penalty=None).fit(X, y)
    each = [GDClassifier("squared_hinge", penalty=None, tol=1e-10).fit(X, y == c) for c in range(3)]
    least = sum(one.history_["loss"][-1] for one in each)
    assert hinges(model, X, y) <= least * (1 + 1e-3)
    assert model.n_iter_ <= 30


@pytest.mark.parametrize("penalty", ["l1", "elasticnet"])
@pytest.mark.one_build
@pytest.mark.parametrize("loss", ["hinge", "epsilon_insensitive"])
def test_losses_with_a_kink_and_an_l1_penalty_do_not_run_out_of_epochs(loss, penalty):
    rng = np.random.default_rng(1)
    X = rng.normal(size=(60, 30)) * 10.0 ** rng.uniform(-3, 3, 30)
    h = X @ (rng.normal(size=30) / X.std(axis=0))
    settings = {"penalty": penalty, "alpha": 1e-5, "l1_ratio": 0.5}
    if loss == "hinge":
        model = GDClassifier(loss, **settings).fit(X, h + 2 * rng.logistic(size=60) > 0)
    else:
        model = GDRegressor(loss, **settings).fit(X, h + 0.1 * rng.normal(size=60))
    assert model.result_.status == Status.CONVERGED
    assert model.result_.gap <= 1e-4 * model.history_["loss"].min()


@pytest.mark.parametrize(
    "model",
    [
        GDRegressor(penalty="l1", alpha=1e6, solver="preconditioned"),
        GDRegressor("poisson", penalty="l1", alpha=1e6, fit_intercept=False),
        GDRegressor("epsilon_insensitive", penalty="l2", alpha=1e-12),
    ],
)
def test_a_start_that_is_the_minimum_is_an_epoch_of_the_history(model):
    seen = []
    model = clone(model).set_params(callbacks=lambda epoch: seen.append(epoch.loss))
    model.fit(np.arange(12.0)[:, None] / 1e4, np.full(12, 3.0))
    assert model.n_iter_ == 1 == len(model.history_["loss"]) == len(seen)
    assert model.history_["loss"][0] == seen[0]


@pytest.mark.one_build
def test_a_small_l1_penalty_that_duality_says_nothing_of_is_no_cause_for_a_warning():
    rng = np.random.default_rng(2)
    X = rng.normal(size=(30_000, 5)).astype(np.float32) + 30
    y = rng.normal(size=30_000)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = GDRegressor(penalty="l1", alpha=1e-12).fit(X, y)
    assert model.result_.status == Status.CONVERGED and not model.result_.certified


def separated(rng, n, d, classes):
    """Rows of classes that hyperplanes tell apart, with a margin; and the weights that do."""
    X = rng.normal(size=(n, d)) * 10.0 ** rng.uniform(-3, 3, d)
    W = rng.normal(size=(d, classes)) / X.std(axis=0)[:, None]
    scores = X @ W
    ordered = np.sort(scores, axis=1)
    clear = ordered[:, -1] - ordered[:, -2] > 0.3
    return X[clear], scores.argmax(axis=1)[clear], W


def penalised_log_loss(X, y, W, penalty, alpha):
    """F of a softmax of weights W, without an intercept."""
    h = X @ W
    loss = np.mean(np.logaddexp.reduce(h, axis=1) - h[np.arange(len(y)), y])
    l1 = {"l2": 0, "l1": 1, "elasticnet": 0.15}[penalty]
    return loss + alpha * (l1 * np.abs(W).sum() + (1 - l1) / 2 * np.sum(W**2))


@pytest.mark.parametrize("classes", [2, 5])
@pytest.mark.parametrize(("penalty", "alpha"), [("l2", 1e-10), ("l2", 1e-12), ("l1", 1e-8), ("elasticnet", 1e-12)])
def test_a_log_loss_whose_minimum_is_near_0_takes_few_epochs(penalty, alpha, classes):
    X, y, W = separated(np.random.default_rng(classes), 120, 6, classes)
    model = GDClassifier(penalty=penalty, alpha=alpha).fit(X, y)
    assert model.result_.status == Status.CONVERGED
    assert model.n_iter_ <= 120
    # The minimum is no higher than any multiple of the weights that tell the classes apart; of two classes a model has
    # the difference of the scores.
    W = W if classes > 2 else np.column_stack([np.zeros(6), W[:, 1] - W[:, 0]])
    known = min(penalised_log_loss(X, y, t * W, penalty, alpha) for t in 2.0 ** np.arange(30))
    assert model.history_["loss"][-1] <= known * (1 + 1e-4)
    assert model.score(X, y) == 1


@pytest.mark.parametrize("classes", [2, 3])
def test_separated_classes_without_a_penalty_are_warned_of(classes):
    X, y, _ = separated(np.random.default_rng(0), 120, 4, classes)
    with pytest.warns(ConditionWarning, match="Take a penalty"):
        GDClassifier(penalty=None).fit(X, y)
    mixed = y.copy()
    mixed[:20] = (y[:20] + 1) % classes
    GDClassifier(penalty=None).fit(X, mixed)
    GDClassifier(alpha=1e-8).fit(X, y)


@pytest.mark.parametrize("seed", range(4))
def test_accelerated_steps_claim_no_gap_below_the_true_one(seed):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(20, 3)) * [1e-3, 1, 100] + [0, 50, 0]
    y = np.arange(20) % 4
    least = sum(least_squared_hinge(X, np.where(y == c, 1, -1), 1e-4) for c in range(4))
    for solver, max_iter in (("accelerated", 2), ("accelerated", 5), ("preconditioned", 2), ("accelerated", 1000)):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of fits that may not take as many steps as they need
            model = GDClassifier("squared_hinge", alpha=1e-4, solver=solver, max_iter=max_iter).fit(X, y)
        true, gap = hinges(model, X, y) + 0.5e-4 * np.sum(model.coef_**2) - least, model.result_.gap
        assert model.result_.status == Status.CONVERGED or max_iter < 1000
        # The curvature of where a fit ends is not that of the minimum as long as margins are crossed in between.
        assert 0.5 * true - 1e-9 * least <= gap
        assert gap <= 1e-4 * (least + true) or max_iter < 1000


def least_squared_hinge(X, sign, alpha):
    """min of the mean of squared hinges and ½·alpha·‖w‖², by scipy on columns that are centred and scaled."""
    scale = X.std(axis=0)
    Z = np.column_stack([(X - X.mean(axis=0)) / scale, np.ones(len(X))])
    penalty = alpha / np.append(scale, np.inf) ** 2

    def value_and_gradient(v):
        short_of = np.maximum(0, 1 - sign * (Z @ v))
        gradient = -2 * Z.T @ (sign * short_of) / len(X) + penalty * v
        return np.mean(short_of**2) + penalty @ v**2 / 2, gradient

    found = minimize(value_and_gradient, np.zeros(Z.shape[1]), jac=True, method="BFGS", options={"gtol": 1e-10})
    # A strictly convex F is above its minimum by less than ‖F'‖² over twice its least curvature, some 1e-4 here.
    assert np.linalg.norm(found.jac) < 1e-7
    return found.fun


@pytest.mark.parametrize("penalty", [None, "l1", "l2"])
def test_csr_columns_far_off_are_like_dense_ones(penalty):
    # Squares of the third column are 16 digits above its variance.
    rng = np.random.default_rng(0)
    X = rng.normal(size=(145, 4)) * [1e3, 10, 2e-4, 1] + 17_325.0
    y = (X - X.mean(axis=0)) / X.std(axis=0) @ [1.0, -2.0, 0.5, 0.0] + 0.1 * rng.normal(size=145)
    dense, csr = (
        GDRegressor(penalty=penalty, alpha=1e-12, tol=1e-8).fit(table, y) for table in (X, sparse.csr_array(X))
    )
    np.testing.assert_allclose(csr.coef_ * X.std(axis=0), dense.coef_ * X.std(axis=0), atol=1e-3)
    assert csr.result_.status == Status.CONVERGED
    assert csr.history_["loss"][-1] == pytest.approx(dense.history_["loss"][-1], rel=1e-4)


@pytest.mark.parametrize("solver", ["gram", "preconditioned", "accelerated"])
@pytest.mark.parametrize("seed", range(4))
def test_an_exact_fit_has_no_negative_loss_and_says_so(solver, seed):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(30, 3)) * [1, 1e-3, 10] + [0, 0, 100]
    y = X @ [1.0, 300.0, -2.0] + 4
    model = GDRegressor(solver=solver).fit(X, y)
    assert np.all(model.history_["loss"] >= 0)
    assert model.result_.status == Status.CONVERGED
    loss = 0.5 * np.mean((y - model.predict(X)) ** 2)
    assert loss <= 1e-14 * np.var(y)
    if model.result_.certified:
        assert loss <= model.result_.gap + 1e-22 * np.var(y)


@pytest.mark.one_build
@pytest.mark.parametrize("n", [300, 12_000])
@pytest.mark.parametrize(
    "model",
    [
        GDClassifier(penalty=None),
        GDClassifier(penalty=None, solver="accelerated"),
        GDClassifier("squared_hinge", penalty=None),
        GDClassifier("hinge", penalty=None),
        GDRegressor("huber"),
        GDRegressor("poisson"),
        GDRegressor(solver="preconditioned"),
        GDRegressor(solver="accelerated"),
    ],
    ids=lambda model: f"{model.loss}-{model.solver}",
)
def test_collinear_columns_are_warned_of_however_many_rows_there_are(model, n):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(n, 5)) * [1, 100, 0.01, 1, 1]
    y = (X[:, 0] + rng.logistic(size=n) > 0).astype(float)
    clone(model).fit(X, y)  # and nothing is warned of
    X[:, 4] = X[:, 0] + X[:, 1]
    with pytest.warns(ConditionWarning, match="collinear"):
        clone(model).fit(X, y)
    # What is collinear in some rows need not be so in all.
    X[1, 4] += 1000
    with warnings.catch_warnings():  # the direction that is no longer collinear tells that row apart from all others
        warnings.filterwarnings("ignore", "no finite weights minimise the loss", ConditionWarning)
        clone(model).fit(X, y)


@pytest.mark.parametrize("solver", ["gram", "preconditioned", "accelerated"])
@pytest.mark.parametrize("number", [0.1, 4.0])
@pytest.mark.parametrize("kind", [np.asarray, sparse.csr_array])
def test_a_constant_column_beside_an_intercept_has_no_weight(kind, number, solver):
    # Not one that only looks as if it varied because its mean is rounded: then the two cancel, at 1e10 and −1e11.
    rng = np.random.default_rng(0)
    X = np.column_stack([np.full(20_000, number), rng.normal(size=20_000)])
    y = X[:, 1] + rng.normal(size=20_000)
    model = GDRegressor(penalty=None, solver=solver, tol=1e-9).fit(kind(X), y)
    alone = np.linalg.lstsq(np.column_stack([X[:, 1], np.ones(20_000)]), y, rcond=None)[0]
    assert model.coef_[0] == 0
    np.testing.assert_allclose([model.coef_[1], model.intercept_[0]], alone, atol=1e-4)


@pytest.mark.parametrize("weighted", [False, True])
def test_a_constant_column_of_csr_has_nothing_to_move_for(weighted):
    for seed in range(10):
        rng = np.random.default_rng(seed)
        X = np.where(rng.random((200, 5)) < 0.3, rng.normal(size=(200, 5)), 0.0)
        X[:, 0] = 7.0
        y, s = X @ rng.normal(size=5) + rng.normal(size=200), rng.uniform(0.5, 2.0, 200)
        model = GDRegressor(solver="accelerated").fit(sparse.csr_array(X), y, s if weighted else None)
        assert model.coef_[0] == 0
