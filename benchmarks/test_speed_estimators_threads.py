"""GDRegressor and GDClassifier by two threads: against one, and against peers whose BLAS or own code has two."""

import functools

import numpy as np
import pytest
from contest import Contests
from members import LINEAR_REGRESSION, NEWTON, RIDGE, cyanure, installed, member, ours
from problems import CORRELATED, INDEPENDENT, logistic, squares
from test_speed_threads import CORES

pytestmark = [
    pytest.mark.benchmark(min_rounds=3),
    pytest.mark.skipif(CORES < 2, reason="two threads take two cores"),
]

OURS = {
    "ours": member(functools.partial(ours, n_jobs=2)),
    "ours, 1 thread": member(functools.partial(ours, n_jobs=1)),
}
log_loss = Contests(
    "Two threads: GDClassifier, logistic regression to 1e-8 of the minimum", 1e-8, logistic,
    OURS | {who: NEWTON[who] for who in ("lbfgs", "newton-cholesky")}
    | installed(cyanure=member(functools.partial(cyanure, threads=2))),
)  # fmt: skip
least_squares = Contests(
    "Two threads: GDRegressor, least squares to 1e-10 of the minimum", 1e-10, squares, OURS | LINEAR_REGRESSION
)
ridge = Contests(
    "Two threads: GDRegressor, ridge regression to 1e-10 of the minimum", 1e-10, squares,
    OURS | {"Ridge cholesky": RIDGE["Ridge cholesky"]},
)  # fmt: skip


@pytest.mark.parametrize("make", (logistic, squares))
def test_same_bits(make):
    problem = make(INDEPENDENT, (60_000, 20))  # fewer values are not shared out
    one, two = (ours(problem, 1e-3, n_jobs=jobs).fit(problem.X, problem.y) for jobs in (1, 2))
    np.testing.assert_array_equal(one.coef_, two.coef_)
    np.testing.assert_array_equal(one.intercept_, two.intercept_)


@pytest.mark.parametrize("who", log_loss.members)
@pytest.mark.parametrize(("what", "shape"), [(CORRELATED, (100_000, 50)), (INDEPENDENT, (300_000, 20))], ids=str)
def test_logistic_regression(compare, what, shape, who):
    log_loss.time(compare, who, what, shape, threads=2)


@pytest.mark.parametrize("who", least_squares.members)
@pytest.mark.parametrize("shape", [(100_000, 50)], ids=str)
def test_least_squares(compare, shape, who):
    least_squares.time(compare, who, "no penalty", shape, threads=2)


@pytest.mark.parametrize("who", ridge.members)
@pytest.mark.parametrize("shape", [(100_000, 50), (20_000, 500)], ids=str)
def test_ridge(compare, shape, who):
    ridge.time(compare, who, "alpha = 1", shape, threads=2)
