"""Fits of one objective for a sequence of penalties, each from the minimum of the one before."""

from __future__ import annotations

import typing

import numpy as np

from fastgd import validation
from fastgd.descent.listed import Runs
from fastgd.engine.path import Path
from fastgd.linalg import one_blas_thread
from fastgd.objective import LinearObjective

if typing.TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from fastgd.engine.result import Result
    from fastgd.types import Doubles, Floats


class PenaltyPath(typing.NamedTuple):
    """What `penalty_path` and `GDRegressor.path` return; as of `lasso_path` the first three are often all.

    Attributes
    ----------
    alphas : (m,)
        The penalties, the largest first.
    coefs : (d, m), or (k, d, m) of several outputs
    gaps : (m,)
        How far each is above its minimum, at most (see `Result.gap`).
    intercepts : (m,) or (k, m)
    results : list of Result
        The run for each penalty, with `settings`: alpha, l1_ratio.
    """

    alphas: Doubles
    coefs: Floats
    gaps: Doubles
    intercepts: Floats
    results: Runs[Result]


@validation.names_arguments
def penalty_path(
    objective: LinearObjective,
    *,
    alphas: ArrayLike | int = 100,
    eps: float = 1e-3,
    l1_ratio: float = 1.0,
    tol: float = 1e-4,
    step_num: int = 1000,
) -> PenaltyPath:
    """Minimise an objective for a sequence of penalties, each from the minimum of the one before.

    A penalty α adds α·(l1_ratio·‖w‖₁ + (1 − l1_ratio)·½‖w‖²), in the place of the objective's own l1 and l2; its
    intercept is not penalised. What is computed of X, as the standard deviations of the columns, the Gram matrix of
    those that are needed and the scores of the last minimum, serves all penalties.

    Parameters
    ----------
    objective : LinearObjective
        Of any loss, with its weights and its offset.
    alphas : array_like, (m,), or int
        The penalties, positive, in any order; or how many, equally spaced in their logarithm from the least for which
        all weights are 0 down to `eps` times that. A loss with a kink, or without l1, has no such: give an array.
    eps : float
        The smallest penalty, of the largest, where `alphas` is a number.
    l1_ratio : float
        1 for the lasso, less for the elastic net, 0 for l2 alone.
    tol : float
        Of each fit, as in `gradient_descent` on an objective: its gap to the minimum is at most tol·F.
    step_num : int
        Steps at most, for each penalty.

    Returns
    -------
    PenaltyPath
        A named tuple: alphas, the largest first; coefs (d, m), of several outputs (k, d, m); gaps (m,); intercepts;
        results. `plot.path` draws it.

    Raises
    ------
    TypeError, ValueError
        An argument is not what it should be; or there is no largest penalty to begin with.
    KeyboardInterrupt
        With the path so far as its `result`.

    Examples
    --------
    >>> objective = LinearObjective([[1.0, 0.0], [2.0, 1.0], [3.0, 0.0]], [2.0, 4.5, 6.0], loss="squared_error")
    >>> path = penalty_path(objective, alphas=[1.0, 0.1], tol=1e-9)
    >>> path.coefs.round(3) + 0.0
    array([[1.821, 1.98 ],
           [0.   , 0.239]])
    """
    if not isinstance(objective, LinearObjective):
        raise TypeError(f"objective must be a LinearObjective; got {validation.describe(objective)}")
    l1_ratio, tol = validation.scalar(l1_ratio, "l1_ratio", minimum=0), validation.scalar(tol, "tol", minimum=0)
    if l1_ratio > 1:
        raise ValueError(f"l1_ratio must be between 0 and 1; got {l1_ratio}")
    return path_of(objective, alphas, eps, l1_ratio, tol, validation.count(step_num, "step_num", minimum=1))


def path_of(objective, alphas, eps, l1_ratio, tol, limit):
    """The PenaltyPath, given arguments that have been checked, but for alphas and eps."""
    alphas, number = _penalties(alphas)
    eps = validation.scalar(eps, "eps", positive=True)
    if eps >= 1:
        raise ValueError(f"eps must be below 1; got {eps}")
    o = objective
    path = Path(o, l1_ratio, number=number, tol=tol, limit=limit)
    with one_blas_thread(o.rows.n * (o.rows.d * o.rows.k) ** 2), np.errstate(all="ignore"):
        if alphas is None:
            alphas = _spaced(path, number, eps)
        results = Runs()
        try:
            for alpha in alphas.tolist():
                results.append(path.fit(alpha))
        except KeyboardInterrupt as error:
            if results:
                error.result = _gathered(objective, alphas[: len(results)], results)
                error.add_note("the exception's attribute `result` has the path so far")
            raise
    return _gathered(objective, alphas, results)


def _gathered(o, alphas, results):
    parts = [o.split(result.x) for result in results]
    coefs = np.stack([W.T for W, _ in parts], axis=-1)  # (k, d, m)
    intercepts = np.stack([b for _, b in parts], axis=-1)
    if len(o.shape) == 1:
        coefs, intercepts = coefs[0], intercepts[0]
    gaps = np.array([np.nan if result.gap is None else result.gap for result in results])
    return PenaltyPath(alphas, coefs, gaps, intercepts, results)


def _penalties(alphas):
    """(the penalties, the largest first, or None; how many)."""
    if np.ndim(alphas) == 0:
        return None, validation.count(alphas, "alphas", minimum=1)
    alphas = validation.real_array(alphas, "alphas", ndim=1, dtype=np.float64)
    if not len(alphas) or not np.all(alphas > 0):
        raise ValueError(f"alphas must be positive numbers, or how many of them; got {alphas}")
    return np.sort(alphas)[::-1].copy(), len(alphas)


def _spaced(path, number, eps):
    """So many penalties, from the largest that is of use."""
    if not path.by_coordinates:
        raise ValueError(
            "alphas must be given as an array: only with l1_ratio > 0 and a smooth convex loss is there a penalty from "
            f"which on all weights are 0; got alphas={number}, l1_ratio={path.l1_ratio:g}, loss={path.objective.loss!r}"
        )
    largest = path.largest()
    if not 0 < largest < np.inf:
        raise ValueError(
            f"alphas must be given as an array: all weights are 0 from the penalty {largest:g} on, as the targets do "
            "not vary with any column"
        )
    return np.geomspace(largest, eps * largest, number)
