"""Linear objectives descended to a stated accuracy by `gradient_descent(lr="auto")`, against scikit-learn's solvers.

Each solver runs at the loosest tolerance, a power of ten, at which its objective is within the accuracy of the minimum.
The tolerance is found before anything is timed; a solver that does not get there is left out, and the report says why.
"""

import pytest
from contest import ITERATIONS, Contests, Member
from members import LINEAR_REGRESSION, NEWTON, RIDGE, member
from members import ours as estimator
from problems import logistic, squares

from fastgd import LinearObjective, gradient_descent

pytestmark = pytest.mark.benchmark(min_rounds=3)

LOGISTIC = [
    ("correlated, ρ = 0.9", (100_000, 50)),
    ("columns over 6 decades", (100_000, 50)),
    ("independent columns", (20_000, 500)),
    ("independent columns", (1_000_000, 20)),
]
SQUARES = [(100_000, 50), (20_000, 500), (1_000_000, 20)]


def ours(problem, tol):
    """`gradient_descent`, from the arrays to the weights."""
    n, log = problem.n, problem.name == "log_loss"
    model = {"activation": "sigmoid", "loss": "log", "l2": problem.l2} if log else {"loss": "sse", "l2": n * problem.l2}
    objective = LinearObjective(problem.X, problem.y, fit_intercept=True, **model)
    result = gradient_descent(objective, lr="auto", step_num=ITERATIONS, tol=tol)
    return result.x, ITERATIONS if result.nit >= ITERATIONS else None


OURS = {"ours": Member(ours)}
log_loss = Contests("gradient_descent on the log loss to 1e-8 of the minimum", 1e-8, logistic, OURS | NEWTON)
squared = "gradient_descent on the squared error to 1e-10 of the minimum"
least_squares = Contests(squared, 1e-10, squares, OURS | LINEAR_REGRESSION)
ridge = Contests(squared, 1e-10, squares, OURS | RIDGE)


# The same objective, solver and tolerance through both interfaces.
FACES = {"ours": Member(ours, ladder=(1e-8,)), "GDClassifier": member(estimator, ladder=(1e-8,))}
faces = Contests('gradient_descent(lr="auto") beside GDClassifier, log loss at tol = 1e-8', 1e-8, logistic, FACES)


@pytest.mark.parametrize("who", faces.members)
@pytest.mark.parametrize("shape", [(20_000, 500), (1_000_000, 20)], ids=str)
def test_two_faces(compare, shape, who):
    faces.time(compare, who, "independent columns", shape, target={"GDClassifier": 0.9})


@pytest.mark.parametrize("who", log_loss.members)
@pytest.mark.parametrize(("what", "shape"), LOGISTIC, ids=str)
def test_logistic_regression(compare, what, shape, who):
    log_loss.time(compare, who, what, shape)


@pytest.mark.parametrize("who", least_squares.members)
@pytest.mark.parametrize("shape", SQUARES, ids=str)
def test_least_squares(compare, shape, who):
    least_squares.time(compare, who, "no penalty", shape)


@pytest.mark.parametrize("who", ridge.members)
@pytest.mark.parametrize("shape", SQUARES, ids=str)
def test_ridge(compare, shape, who):
    ridge.time(compare, who, "l2 = 1", shape)
