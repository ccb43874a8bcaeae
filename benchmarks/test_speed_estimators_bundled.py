"""GDRegressor and GDClassifier on the small tables that come with scikit-learn and with fastgd: the user's whole call.

Each table is fitted twice: as it is, and with a StandardScaler before every member, ours too, whose time counts. With a
penalty these are two objectives, each with its own minimum.
"""

import functools

import numpy as np
import pytest
from contest import Contests
from members import LEAST_SQUARES, LOGISTIC, OURS, RIDGE, by_epochs, stochastic
from problems import Problem
from sklearn import datasets
from sklearn.preprocessing import StandardScaler

from fastgd.datasets import load_women

pytestmark = pytest.mark.benchmark(min_rounds=3)

RAW, SCALED = "as it is", "standardised in the call"
TABLES = {
    "women": (load_women, (15, 1)),
    "diabetes": (functools.partial(datasets.load_diabetes, return_X_y=True, scaled=False), (442, 10)),
    "breast cancer": (functools.partial(datasets.load_breast_cancer, return_X_y=True), (569, 30)),
    "wine": (functools.partial(datasets.load_wine, return_X_y=True), (178, 13)),
    "digits": (functools.partial(datasets.load_digits, return_X_y=True), (1797, 64)),
}


def bundled(loss, penalised=True):
    def make(what, shape):
        name, columns = what.split(", ")
        X, y = TABLES[name][0]()
        X, y = np.ascontiguousarray(X[: shape[0], : shape[1]]), y[: shape[0]]
        scaler = StandardScaler if columns == SCALED else None
        return Problem(X, y, loss, l2=1 / len(y) if penalised else 0.0, scaler=scaler)

    return make


SGD = {name: by_epochs(stochastic) for name in ("SGDRegressor", "SGDClassifier")}
least_squares = Contests(
    "Bundled tables: least squares to 1e-6 of the minimum", 1e-6, bundled("squared_error", False),
    LEAST_SQUARES | {"SGDRegressor": SGD["SGDRegressor"]},
)  # fmt: skip
ridge = Contests(
    "Bundled tables: ridge regression to 1e-6 of the minimum", 1e-6, bundled("squared_error"), OURS | RIDGE
)
logistic = Contests(
    "Bundled tables: logistic regression to 1e-6 of the minimum", 1e-6, bundled("log_loss"),
    LOGISTIC | {"SGDClassifier": SGD["SGDClassifier"]},
)  # fmt: skip
softmax = Contests("Bundled tables: multinomial regression to 1e-6 of the minimum", 1e-6, bundled("softmax"), LOGISTIC)


def tables(*names):
    cases = [(f"{name}, {columns}", TABLES[name][1]) for name in names for columns in (RAW, SCALED)]
    return pytest.mark.parametrize(("what", "shape"), cases, ids=str)


@pytest.mark.parametrize("who", least_squares.members)
@tables("women", "diabetes")
def test_least_squares(compare, what, shape, who):
    least_squares.time(compare, who, what, shape)


@pytest.mark.parametrize("who", ridge.members)
@tables("diabetes")
def test_ridge(compare, what, shape, who):
    ridge.time(compare, who, what, shape)


@pytest.mark.parametrize("who", logistic.members)
@tables("breast cancer")
def test_logistic_regression(compare, what, shape, who):
    logistic.time(compare, who, what, shape)


@pytest.mark.parametrize("who", softmax.members)
@tables("wine", "digits")
def test_multinomial_regression(compare, what, shape, who):
    softmax.time(compare, who, what, shape)
