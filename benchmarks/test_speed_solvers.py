"""Linear objectives descended to a stated accuracy: preconditioned descent against scikit-learn's solvers.

Each solver runs at the loosest tolerance, a power of ten, at which its objective is within the accuracy of the minimum.
That is looked for before anything is timed; a solver that does not get there is left out, and the report says why.
"""

import functools

import pytest
from contest import ITERATIONS, LOGISTIC_PEERS, RIDGE_PEERS, contests, linear_regression

from fastgd import LinearObjective, gradient_descent

pytestmark = pytest.mark.benchmark(min_rounds=3)

LOGISTIC = [
    ("correlated, ρ = 0.9", (100_000, 50)),
    ("columns over 6 decades", (100_000, 50)),
    ("independent columns", (20_000, 500)),
    ("independent columns", (1_000_000, 20)),
]
SQUARES = [(100_000, 50), (20_000, 500), (1_000_000, 20)]


def ours(problem, tol, **model):
    """Preconditioned descent, from the arrays to the weights."""
    objective = LinearObjective(problem.X, problem.y, fit_intercept=True, l2=problem.l2, **model)
    result = gradient_descent(objective, lr="auto", precondition="gram", step_num=ITERATIONS, tol=tol)
    return result.x, result.nit


LOGISTIC_FITS = {
    "ours": functools.partial(ours, activation="sigmoid", loss="log"),
    **LOGISTIC_PEERS,
}
SQUARES_FITS = {"ours": ours, "LinearRegression": linear_regression}
RIDGE_FITS = {
    "ours": ours,
    **RIDGE_PEERS,
}

logistic_contest, squares_contest = contests(LOGISTIC_FITS, SQUARES_FITS, RIDGE_FITS)


@pytest.mark.parametrize("who", LOGISTIC_FITS)
@pytest.mark.parametrize(("columns", "shape"), LOGISTIC, ids=str)
def test_logistic_regression(compare, columns, shape, who):
    contest = logistic_contest(columns, compare.shape(*shape))
    contest.time(compare, "gradient_descent on the log loss to 1e-8 of the minimum", columns, who)


@pytest.mark.parametrize("who", SQUARES_FITS)
@pytest.mark.parametrize("shape", SQUARES, ids=str)
def test_least_squares(compare, shape, who):
    contest = squares_contest(compare.shape(*shape), 0.0)
    contest.time(compare, "gradient_descent on the squared error to 1e-10 of the minimum", "no penalty", who)


@pytest.mark.parametrize("who", RIDGE_FITS)
@pytest.mark.parametrize("shape", SQUARES, ids=str)
def test_ridge(compare, shape, who):
    contest = squares_contest(compare.shape(*shape), 1.0)
    contest.time(compare, "gradient_descent on the squared error to 1e-10 of the minimum", "l2 = 1", who)
