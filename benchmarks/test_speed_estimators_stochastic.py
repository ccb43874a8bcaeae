"""GDRegressor and GDClassifier against scikit-learn's stochastic descent: the same epochs, and the same accuracy."""

import functools

import numpy as np
import pytest
import test_speed_stochastic as same
from contest import Contests
from members import OURS, by_epochs, member, ours, stochastic
from problems import CORRELATED, INDEPENDENT, LOSSES, Problem, classes, logistic
from sklearn.linear_model import SGDClassifier, SGDRegressor

from fastgd import GDClassifier, GDRegressor

pytestmark = pytest.mark.benchmark(min_rounds=3)

BATCH, RATE = (32, 10), 0.01


# ---------------------------------------------------------------------------------------------------- the same epochs


@functools.lru_cache(maxsize=1)
def labelled(shape, density):
    """As `same.problem`, with the signs of its targets as classes."""
    X, y, rate, _ = same.problem(shape, density)
    y = (y > 0).astype(np.float64)
    reached = log_loss(X, y, sgd_classifier(rate, seed=1).fit(X, y).coef_[0])
    assert reached < 0.7 * np.log(2), "the epochs must get somewhere, or nothing is compared"
    return X, y, rate, reached


def log_loss(X, y, w):
    return np.mean(LOSSES["log_loss"].value(X @ w, y))


def sgd_classifier(rate, seed):
    return SGDClassifier(
        "log_loss", penalty=None, learning_rate="constant", eta0=rate, max_iter=same.EPOCHS, tol=None,
        fit_intercept=False, random_state=seed,
    )  # fmt: skip


def compare_epochs(compare, kind, what, shape, density, who, target=None):
    """The same rate in the columns as they are, one row a step, in two orders."""
    make, value, peer = {
        GDRegressor: (same.problem, same.mean_square, "SGDRegressor"),
        GDClassifier: (labelled, log_loss, "SGDClassifier"),
    }[kind]
    X, y, rate, reached = make(shape, density)

    def fit():
        model = kind(
            penalty=None, solver="sgd", learning_rate=rate, max_iter=same.EPOCHS, tol=None, fit_intercept=False,
            random_state=0,
        )  # fmt: skip
        return model.fit(X, y).coef_.reshape(-1)

    theirs = {
        "SGDRegressor": lambda: same.by_sklearn(X, y, rate, seed=0),
        "SGDClassifier": lambda: sgd_classifier(rate, seed=0).fit(X, y).coef_[0],
    }[peer]
    compare(
        f"{kind.__name__}, {same.EPOCHS} epochs of one row a step", what, "ours" if who == "ours" else peer,
        {"ours": fit, peer: theirs}, reached, judge=lambda w: value(X, y, w), tolerance=same.ORDERS_DIFFER, shape=shape,
        target={peer: target}, note="ours also takes the loss and the gradient of all rows after each epoch",
    )  # fmt: skip


@pytest.mark.parametrize("who", ("ours", "peer"))
@pytest.mark.parametrize("shape", same.SHAPES, ids=str)
@pytest.mark.parametrize("kind", (GDRegressor, GDClassifier))
def test_dense_epochs(compare, kind, shape, who):
    target = same.SHAPES[shape] if kind is GDRegressor else None
    compare_epochs(compare, kind, "dense", compare.shape(*shape, least=2000), 1, who, target)


@pytest.mark.parametrize("who", ("ours", "peer"))
@pytest.mark.parametrize("kind", (GDRegressor, GDClassifier))
def test_sparse_epochs(compare, kind, who):
    shape, density = (same.SPARSE_SHAPE, same.DENSITY) if not compare.quick else ((2_000, 20), 0.2)
    target = 2.5 if kind is GDRegressor else None
    compare_epochs(compare, kind, f"CSR, {density:.0%} of the columns in a row", shape, density, who, target)


# --------------------------------------------------------------------------------------------------- the same accuracy


def noisy(what, shape):
    X, _ = classes(what, shape)
    rng = np.random.default_rng(1)
    return Problem(X, X @ rng.normal(size=shape[1]) + rng.normal(size=shape[0]), "squared_error", l2=1 / shape[0])


OURS = OURS | {'ours, solver="sgd"': member(functools.partial(ours, solver="sgd", random_state=0))}


def to_accuracy(section, make, peer):
    """To 1e-2: for more digits a stochastic peer takes thousands of epochs."""
    members = OURS | {peer: by_epochs(stochastic)}
    remark = f"the columns are standardised, which {peer} needs and ours does not"
    return Contests(f"{section} to 1e-2 of the minimum", 1e-2, make, members, remark=remark, patience=300)


regressors = to_accuracy("GDRegressor, squared error", noisy, "SGDRegressor")
classifiers = to_accuracy("GDClassifier, log loss", logistic, "SGDClassifier")
CASES = [(CORRELATED, (20_000, 50)), (INDEPENDENT, (20_000, 50))]


@pytest.mark.parametrize("who", regressors.members)
@pytest.mark.parametrize(("what", "shape"), CASES, ids=str)
def test_squared_error(compare, what, shape, who):
    regressors.time(compare, who, what, shape)


@pytest.mark.parametrize("who", classifiers.members)
@pytest.mark.parametrize(("what", "shape"), CASES, ids=str)
def test_log_loss(compare, what, shape, who):
    classifiers.time(compare, who, what, shape)


# ------------------------------------------------------------------------------------------------------- small batches


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
