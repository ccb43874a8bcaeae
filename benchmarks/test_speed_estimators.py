"""GDRegressor and GDClassifier against scikit-learn's linear models.

Fits to a stated accuracy, where each solver runs at the loosest tolerance that gets it there (see `contest`); epochs of
stochastic descent; and `partial_fit` on a small batch. What is timed is `fit`, from the arrays to the estimator.
"""

import importlib.util

import numpy as np
import pytest
import test_speed_stochastic as stochastic
from contest import ITERATIONS, LOGISTIC_PEERS, RIDGE_PEERS, contests, linear_regression, of_sklearn
from sklearn.linear_model import SGDRegressor
from sklearn.neural_network import MLPRegressor

from fastgd import GDClassifier, GDRegressor

pytestmark = pytest.mark.benchmark(min_rounds=3)

LOGISTIC = {
    ("correlated, ρ = 0.9", (100_000, 50)): 3.0,
    ("columns over 6 decades", (100_000, 50)): 3.0,
    ("independent columns", (100_000, 50)): 2.0,
    ("independent columns", (20_000, 500)): 2.0,
    ("independent columns", (1_000_000, 20)): 2.0,
}
SQUARES = [(100_000, 50), (20_000, 500), (1_000_000, 20)]
BATCH, RATE = (32, 10), 0.01


def classified(problem, tol):
    return of_sklearn(GDClassifier(alpha=problem.l2, tol=tol, max_iter=ITERATIONS), problem)


def regressed(problem, tol):
    # Half the squared error is a sum in the problem and a mean in the estimator.
    n = len(problem.y)
    return of_sklearn(GDRegressor(penalty="l2" if problem.l2 else None, alpha=problem.l2 / n, tol=tol), problem)


def by_network(problem, tol):
    """A network without hidden layers, whose l2 is 0."""
    network = MLPRegressor(hidden_layer_sizes=(), solver="lbfgs", alpha=0, tol=tol, max_iter=ITERATIONS, random_state=0)
    network.fit(problem.X, problem.y)
    return np.append(network.coefs_[0], network.intercepts_[0]), network.n_iter_


def by_cyanure(problem, tol):
    """The solver that cyanure picks; it too stops by a duality gap."""
    from cyanure.estimators import Classifier

    classifier = Classifier(
        loss="logistic", penalty="l2", lambda_1=problem.l2, fit_intercept=True, tol=tol, max_iter=ITERATIONS,
        n_threads=1, verbose=False,
    )  # fmt: skip
    return of_sklearn(classifier, problem)


def by_statsmodels(problem, tol):
    from statsmodels.api import OLS, add_constant

    found = OLS(problem.y, add_constant(problem.X, prepend=False, has_constant="add")).fit(method="qr")
    return found.params, None


def installed(**fits):
    """Those whose package, the name of the member, is there."""
    return {who: fit for who, fit in fits.items() if importlib.util.find_spec(who)}


LOGISTIC_FITS = {
    "ours": classified,
    **LOGISTIC_PEERS,
    **installed(cyanure=by_cyanure),
}
SQUARES_FITS = {
    "ours": regressed,
    "LinearRegression": linear_regression,
    "MLPRegressor(())": by_network,
    **installed(statsmodels=by_statsmodels),
}
RIDGE_FITS = {
    "ours": regressed,
    **RIDGE_PEERS,
}

logistic_contest, squares_contest = contests(LOGISTIC_FITS, SQUARES_FITS, RIDGE_FITS)


@pytest.mark.parametrize("who", LOGISTIC_FITS)
@pytest.mark.parametrize(("columns", "shape"), LOGISTIC, ids=str)
def test_logistic_regression(compare, columns, shape, who):
    ratio = LOGISTIC[columns, shape]
    contest = logistic_contest(columns, compare.shape(*shape))
    target = {peer: ratio for peer in contest.members if peer not in ("ours", "cyanure")}
    contest.time(compare, "GDClassifier, logistic regression to 1e-8 of the minimum", columns, who, target=target)


@pytest.mark.parametrize("who", SQUARES_FITS)
@pytest.mark.parametrize("shape", SQUARES, ids=str)
def test_least_squares(compare, shape, who):
    contest = squares_contest(compare.shape(*shape), 0.0)
    section = "GDRegressor, least squares to 1e-10 of the minimum"
    contest.time(compare, section, "no penalty", who, target={"LinearRegression": 5.0})


@pytest.mark.parametrize("who", RIDGE_FITS)
@pytest.mark.parametrize("shape", SQUARES, ids=str)
def test_ridge(compare, shape, who):
    contest = squares_contest(compare.shape(*shape), 1.0)
    target = {peer: 1.0 for peer in contest.members if peer != "ours"}
    contest.time(
        compare, "GDRegressor, ridge regression to 1e-10 of the minimum", "alpha = 1", who, target=target
    )  # fmt: skip


# ------------------------------------------------------------------------------------------------------- stochastic


def compare_epochs(compare, what, shape, density, who, target):
    X, y, rate, reached = stochastic.problem(shape, density)

    def ours():
        model = GDRegressor(
            solver="sgd", learning_rate=rate, max_iter=stochastic.EPOCHS, tol=None, fit_intercept=False, random_state=0
        )
        return model.fit(X, y).coef_

    compare(
        f"GDRegressor, {stochastic.EPOCHS} epochs of one row a step", what, who,
        {"ours": ours, "SGDRegressor": lambda: stochastic.by_sklearn(X, y, rate, seed=0)}, reached,
        judge=lambda w: stochastic.mean_square(X, y, w), tolerance=stochastic.ORDERS_DIFFER, shape=shape,
        target={"SGDRegressor": target}, note="ours also takes the loss and the gradient of all rows after each epoch",
    )  # fmt: skip


@pytest.mark.parametrize("who", ("ours", "SGDRegressor"))
@pytest.mark.parametrize("shape", stochastic.SHAPES, ids=str)
def test_dense_epochs(compare, shape, who):
    compare_epochs(compare, "dense", compare.shape(*shape, least=2000), 1, who, stochastic.SHAPES[shape])


@pytest.mark.parametrize("who", ("ours", "SGDRegressor"))
def test_sparse_epochs(compare, who):
    shape, density = stochastic.SPARSE_SHAPE, stochastic.DENSITY
    if compare.quick:
        shape, density = (2_000, 20), 0.2
    compare_epochs(compare, f"CSR, {density:.0%} of the columns in a row", shape, density, who, 2.5)


@pytest.mark.parametrize("who", ("ours", "SGDRegressor"))
def test_partial_fit(compare, who):
    rng = np.random.default_rng(0)
    X = rng.normal(size=BATCH)
    y = X @ rng.normal(size=BATCH[1]) + 1
    model = {
        "ours": GDRegressor(learning_rate=RATE),
        "SGDRegressor": SGDRegressor(penalty=None, learning_rate="constant", eta0=RATE, shuffle=False),
    }[who].partial_fit(X, y)
    w, b = np.zeros(BATCH[1]), 0.0
    for _ in range(2):  # that call, and the one that is compared
        for x, target in zip(X, y, strict=True):
            r = x @ w + b - target
            w, b = w - RATE * r * x, b - RATE * r

    def fed():
        model.partial_fit(X, y)
        return model

    compare(
        "partial_fit", "steps on one row after the other", who, {"ours": fed, "SGDRegressor": fed}, np.append(w, b),
        judge=lambda found: np.append(found.coef_, found.intercept_), shape=BATCH, target={"SGDRegressor": 15.0},
    )  # fmt: skip
