"""Linear models fitted to a stated accuracy: preconditioned descent against scikit-learn's solvers.

Each solver runs at the loosest tolerance, a power of ten, at which its objective is within the accuracy of the minimum.
That is looked for before anything is timed; a solver that does not get there is left out, and the report says why.
"""

import functools
import time
import warnings

import numpy as np
import pytest
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge
from workload import LeastSquares, Logistic

from fastgd import LinearObjective, gradient_descent

pytestmark = pytest.mark.benchmark(min_rounds=3)

ITERATIONS = 300
# A fit that is not there after so many times our time, and at least a second, is given up with its solver.
PATIENCE = 10
LOGISTIC_GAP, SQUARES_GAP = 1e-8, 1e-10
LOGISTIC = {
    ("correlated, ρ = 0.9", (100_000, 50)): 3.0,
    ("columns over 6 decades", (100_000, 50)): 3.0,
    ("independent columns", (20_000, 500)): 2.0,
    ("independent columns", (1_000_000, 20)): 2.0,
}
DIRECT = ("LinearRegression", "Ridge cholesky", "Ridge svd")  # a tolerance means nothing to them
SQUARES = [(100_000, 50), (20_000, 500), (1_000_000, 20)]


class Contest:
    """A problem, and the tolerance at which each solver solves it.

    Parameters
    ----------
    problem : Logistic or LeastSquares
    accuracy : float
        Of the objective, relative to its minimum.
    fits : dict of str → callable
        fit(problem, tol) → weights with the intercept last, and the number of iterations where that is known.
    """

    def __init__(self, problem, accuracy, fits):
        self.problem, self.accuracy = problem, accuracy
        self.members, said, ours = {}, [], None
        self.missing = {}
        for who, fit in fits.items():
            tol, seconds, why = self._search(functools.partial(fit, problem), ours)
            if who == "ours":
                ours = seconds
            if tol is None:
                self.missing[who] = why
                said.append(f"{who} is left out: {why}")
            else:
                self.members[who] = functools.partial(fit, problem, tol)
                said += [f"{who} at tol = {tol:.0e}"] if who not in DIRECT else []
        self.note = "; ".join(said)

    def _search(self, fit, ours):
        """The tolerance, the time of the last fit, and why there is none."""
        for tol in 10.0 ** -np.arange(1, 15):
            start = time.perf_counter()
            w, iterations = fit(tol)
            seconds = time.perf_counter() - start
            gap = self.problem.value(w) / self.problem.minimum - 1
            if gap <= self.accuracy:
                return tol, seconds, None
            if iterations is not None and iterations >= ITERATIONS:
                return None, seconds, f"{gap:.0e} above the minimum after {ITERATIONS} iterations"
            if ours is not None and seconds > max(1.0, PATIENCE * ours):
                return None, seconds, f"{gap:.0e} above the minimum after {seconds / ours:.0f} times our time"
        return None, seconds, f"{gap:.0e} above the minimum at tol = {tol:.0e}"

    def time(self, compare, section, what, who, **options):
        """Time one member, or skip it if it does not solve the problem."""
        if who in self.missing:
            (pytest.fail if who == "ours" else pytest.skip)(f"{who}: {self.missing[who]}")
        compare(
            section, what, who, self.members, self.problem.minimum, judge=lambda found: self.problem.value(found[0]),
            tolerance=self.accuracy, shape=self.problem.X.shape, note=self.note, **options,
        )  # fmt: skip


def ours(problem, tol, **model):
    """Preconditioned descent, from the arrays to the weights."""
    objective = LinearObjective(problem.X, problem.y, fit_intercept=True, l2=problem.l2, **model)
    result = gradient_descent(objective, lr="auto", precondition="gram", step_num=ITERATIONS, tol=tol)
    return result.x, result.nit


def of_sklearn(estimator, problem):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that a solver has not converged is found out from its objective
        estimator.fit(problem.X, problem.y)
    iterations = getattr(estimator, "n_iter_", None)
    w = np.append(estimator.coef_.reshape(-1), estimator.intercept_)
    return w, None if iterations is None else int(np.max(iterations))


def logistic_by(solver):
    # C weighs the sum of the losses, l2 = 1/n is beside their mean: with C = 1 the objectives are the same.
    return lambda problem, tol: of_sklearn(
        LogisticRegression(C=1, solver=solver, tol=tol, max_iter=ITERATIONS), problem
    )


def ridge_by(solver):
    return lambda problem, tol: of_sklearn(Ridge(problem.l2, solver=solver, tol=tol), problem)


LOGISTIC_FITS = {
    "ours": functools.partial(ours, activation="sigmoid", loss="log"),
    **{solver: logistic_by(solver) for solver in ("lbfgs", "newton-cholesky", "newton-cg")},
}
SQUARES_FITS = {"ours": ours, "LinearRegression": lambda problem, tol: of_sklearn(LinearRegression(), problem)}
RIDGE_FITS = {
    "ours": ours,
    **{f"Ridge {solver}": ridge_by(solver) for solver in ("cholesky", "lsqr", "sparse_cg", "svd")},
}


@functools.lru_cache(maxsize=1)
def logistic_contest(columns, shape):
    return Contest(Logistic(columns, shape), LOGISTIC_GAP, LOGISTIC_FITS)


@functools.lru_cache(maxsize=1)
def squares_contest(shape, l2):
    return Contest(LeastSquares(shape, l2), SQUARES_GAP, RIDGE_FITS if l2 else SQUARES_FITS)


@pytest.mark.parametrize("who", LOGISTIC_FITS)
@pytest.mark.parametrize(("columns", "shape"), LOGISTIC, ids=str)
def test_logistic_regression(compare, columns, shape, who):
    ratio = LOGISTIC[columns, shape]
    contest = logistic_contest(columns, compare.shape(*shape))
    target = {peer: ratio for peer in contest.members if peer != "ours"}
    contest.time(compare, "Logistic regression to 1e-8 of the minimum", columns, who, target=target)


@pytest.mark.parametrize("who", SQUARES_FITS)
@pytest.mark.parametrize("shape", SQUARES, ids=str)
def test_least_squares(compare, shape, who):
    contest = squares_contest(compare.shape(*shape), 0.0)
    contest.time(compare, "Least squares to 1e-10 of the minimum", "no penalty", who, target={"LinearRegression": 5.0})


@pytest.mark.parametrize("who", RIDGE_FITS)
@pytest.mark.parametrize("shape", SQUARES, ids=str)
def test_ridge(compare, shape, who):
    contest = squares_contest(compare.shape(*shape), 1.0)
    target = {peer: 1.0 for peer in contest.members if peer != "ours"}
    contest.time(compare, "Ridge regression to 1e-10 of the minimum", "alpha = 1", who, target=target)
