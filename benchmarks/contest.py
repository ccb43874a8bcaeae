"""Fits to a stated accuracy: each solver at the loosest tolerance, a power of ten, that gets it there."""

import functools
import time
import warnings

import numpy as np
import pytest
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge
from workload import LeastSquares, Logistic

ITERATIONS = 300
# A fit that is not there after so many times our time, and at least a second, is given up with its solver.
PATIENCE = 10
LOGISTIC_GAP, SQUARES_GAP = 1e-8, 1e-10
DIRECT = ("LinearRegression", "Ridge cholesky", "Ridge svd", "statsmodels")  # a tolerance means nothing to them


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


def of_sklearn(estimator, problem):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that a solver has not converged is found out from its objective
        estimator.fit(problem.X, problem.y)
    iterations = getattr(estimator, "n_iter_", None)
    w = np.append(estimator.coef_.reshape(-1), estimator.intercept_)
    return w, None if iterations is None else int(np.max(iterations))


def contests(logistic_fits, squares_fits, ridge_fits):
    """logistic(columns, shape) and squares(shape, l2): Contests of those fits. The last of each is kept."""

    @functools.lru_cache(maxsize=1)
    def logistic(columns, shape):
        return Contest(Logistic(columns, shape), LOGISTIC_GAP, logistic_fits)

    @functools.lru_cache(maxsize=1)
    def squares(shape, l2):
        return Contest(LeastSquares(shape, l2), SQUARES_GAP, ridge_fits if l2 else squares_fits)

    return logistic, squares


def logistic_by(solver):
    # C weighs the sum of the losses, l2 = 1/n is beside their mean: with C = 1 the objectives are the same.
    return lambda problem, tol: of_sklearn(
        LogisticRegression(C=1, solver=solver, tol=tol, max_iter=ITERATIONS), problem
    )


def ridge_by(solver):
    return lambda problem, tol: of_sklearn(Ridge(problem.l2, solver=solver, tol=tol), problem)


def linear_regression(problem, tol):
    return of_sklearn(LinearRegression(), problem)


LOGISTIC_PEERS = {solver: logistic_by(solver) for solver in ("lbfgs", "newton-cholesky", "newton-cg")}
RIDGE_PEERS = {f"Ridge {solver}": ridge_by(solver) for solver in ("cholesky", "lsqr", "sparse_cg", "svd")}
