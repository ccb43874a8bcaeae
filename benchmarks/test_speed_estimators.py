"""GDRegressor and GDClassifier against other linear models: fits to a stated accuracy, on generated tables.

The time is that of `fit`. Each member runs with the loosest sufficient setting (see `contest`); their parameters are in
`members`.
"""

import numpy as np
import pytest
from contest import Contests
from members import HINGE, L1_LOGISTIC, LASSO, LEAST_SQUARES, LOGISTIC, OURS, POISSON, RIDGE, SQUARED_HINGE, near
from problems import CORRELATED, DECADES, INDEPENDENT, Problem, classes, logistic, sparse_classes, squares

pytestmark = pytest.mark.benchmark(min_rounds=3)


# ------------------------------------------------------------------------------------------------------ squared error


SQUARES = [(100_000, 50), (20_000, 500), (1_000_000, 20)]
least_squares = Contests("GDRegressor, least squares to 1e-10 of the minimum", 1e-10, squares, LEAST_SQUARES)
ridge = Contests("GDRegressor, ridge regression to 1e-10 of the minimum", 1e-10, squares, OURS | RIDGE)


@pytest.mark.parametrize("who", least_squares.members)
@pytest.mark.parametrize("shape", SQUARES, ids=str)
def test_least_squares(compare, shape, who):
    least_squares.time(compare, who, "no penalty", shape, target={"LinearRegression": 5.0})


@pytest.mark.parametrize("who", ridge.members)
@pytest.mark.parametrize("shape", SQUARES, ids=str)
def test_ridge(compare, shape, who):
    ridge.time(compare, who, "alpha = 1", shape, target=dict.fromkeys(RIDGE, 1.0))


PENALTIES = {"l1": (0.02, 0.0), "elastic net": (0.01, 0.01)}


def few_weights(what, shape):
    """One column in five has a weight; columns are correlated."""
    X, _ = classes(CORRELATED, shape)
    n, d = shape
    rng = np.random.default_rng(1)
    w = np.where(np.arange(d) % 5 == 0, rng.normal(size=d), 0) / np.sqrt(d / 5)
    l1, l2 = PENALTIES[what]
    return Problem(X, X @ w + 0.5 + rng.normal(size=n), "squared_error", l1=l1, l2=l2, near=near)


lasso = Contests("GDRegressor, lasso and elastic net to 1e-8 of the minimum", 1e-8, few_weights, LASSO)


@pytest.mark.parametrize("who", lasso.members)
@pytest.mark.parametrize(
    ("what", "shape"), [("l1", (100_000, 50)), ("l1", (20_000, 500)), ("elastic net", (20_000, 500))], ids=str
)
def test_lasso(compare, what, shape, who):
    lasso.time(compare, who, what, shape)


def counts(what, shape):
    X, _ = classes(INDEPENDENT, shape)
    n, d = shape
    rng = np.random.default_rng(1)
    y = rng.poisson(np.exp(X @ rng.normal(size=d) / (2 * np.sqrt(d)) + 0.5)).astype(np.float64)
    return Problem(X, y, "poisson", l2=1 / n if what == "alpha = 1/n" else 0)


poisson = Contests("GDRegressor, Poisson regression to 1e-8 of the minimum", 1e-8, counts, POISSON)


@pytest.mark.parametrize("who", poisson.members)
@pytest.mark.parametrize(
    ("what", "shape"),
    [("alpha = 1/n", (100_000, 50)), ("alpha = 1/n", (20_000, 500)), ("no penalty", (100_000, 50))], ids=str,
)  # fmt: skip
def test_poisson(compare, what, shape, who):
    poisson.time(compare, who, what, shape)


# ----------------------------------------------------------------------------------------------------------- log loss


LOGISTIC_CASES = {
    (CORRELATED, (100_000, 50)): 3.0,
    (DECADES, (100_000, 50)): 3.0,
    (INDEPENDENT, (100_000, 50)): 2.0,
    (INDEPENDENT, (20_000, 500)): 2.0,
    (INDEPENDENT, (1_000_000, 20)): 2.0,
}
SCIKIT_LEARN = ("lbfgs", "newton-cholesky", "newton-cg", "sag", "saga")
with_intercept = Contests("GDClassifier, logistic regression to 1e-8 of the minimum", 1e-8, logistic, LOGISTIC)


@pytest.mark.parametrize("who", with_intercept.members)
@pytest.mark.parametrize(("what", "shape"), LOGISTIC_CASES, ids=str)
def test_logistic_regression(compare, what, shape, who):
    with_intercept.time(compare, who, what, shape, target=dict.fromkeys(SCIKIT_LEARN, LOGISTIC_CASES[what, shape]))


def through_origin(loss, **penalty):
    """Of classes, for members that have no intercept or penalise it."""

    def make(what, shape):
        X, y = classes(what, shape)
        return Problem(X, y, loss, **(penalty or {"l2": 1 / len(y)}), fit_intercept=False, near=near)

    return make


CASES = [(CORRELATED, (100_000, 50)), (INDEPENDENT, (20_000, 500))]
no_intercept = Contests(
    "GDClassifier, logistic regression without intercept to 1e-8 of the minimum", 1e-8,
    through_origin("log_loss"), LOGISTIC,
)  # fmt: skip


@pytest.mark.parametrize("who", no_intercept.members)
@pytest.mark.parametrize(("what", "shape"), CASES, ids=str)
def test_logistic_regression_without_intercept(compare, what, shape, who):
    no_intercept.time(compare, who, what, shape)


l1_logistic = Contests(
    "GDClassifier, logistic regression with l1, without intercept, to 1e-8 of the minimum", 1e-8,
    through_origin("log_loss", l1=0.002), L1_LOGISTIC,
)  # fmt: skip


@pytest.mark.parametrize("who", l1_logistic.members)
@pytest.mark.parametrize(("what", "shape"), CASES, ids=str)
def test_l1_logistic_regression(compare, what, shape, who):
    l1_logistic.time(compare, who, what, shape)


def several_classes(what, shape):
    n, d, k = shape
    rng = np.random.default_rng(0)
    X = rng.normal(size=(n, d))
    h = X @ (2 * rng.normal(size=(d, k)) / np.sqrt(d))
    return Problem(X, np.argmax(h + rng.gumbel(size=h.shape), axis=1), "softmax", l2=1 / n)


softmax = Contests("GDClassifier, multinomial regression to 1e-8 of the minimum", 1e-8, several_classes, LOGISTIC)


@pytest.mark.parametrize("who", softmax.members)
@pytest.mark.parametrize("shape", [(20_000, 50, 5)], ids=str)
def test_multinomial_regression(compare, shape, who):
    softmax.time(compare, who, "independent columns, 5 classes", shape)


def sparse_rows(what, shape):
    X, y = sparse_classes(shape, 0.01 if shape[1] > 100 else 0.2)
    return Problem(X, y, "log_loss", l2=1 / len(y), fit_intercept=False)


csr = Contests("GDClassifier, logistic regression on CSR rows to 1e-8 of the minimum", 1e-8, sparse_rows, LOGISTIC)


@pytest.mark.parametrize("who", csr.members)
def test_sparse_logistic_regression(compare, who):
    csr.time(compare, who, "1 % of the columns in a row, no intercept", (20_000, 2_000))


# -------------------------------------------------------------------------------------------------------------- hinges

squared_hinge = Contests(
    "GDClassifier, squared hinge without intercept to 1e-8 of the minimum", 1e-8, through_origin("squared_hinge"),
    SQUARED_HINGE,
)  # fmt: skip
hinge = Contests(
    "GDClassifier, hinge without intercept to 1e-3 of the minimum", 1e-3, through_origin("hinge"), HINGE,
    patience=100,
)  # fmt: skip


@pytest.mark.parametrize("who", squared_hinge.members)
@pytest.mark.parametrize(("what", "shape"), CASES, ids=str)
def test_squared_hinge(compare, what, shape, who):
    squared_hinge.time(compare, who, what, shape)


@pytest.mark.parametrize("who", hinge.members)
@pytest.mark.parametrize("what", (CORRELATED, INDEPENDENT))
def test_hinge(compare, what, who):
    hinge.time(compare, who, what, (10_000, 20))
