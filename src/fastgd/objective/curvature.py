"""Bounds of the eigenvalues of an objective's Hessian.

For a loss φ(h) of h = XW + b the Hessian is Xᵀ diag(φ''(h)) X. With c ≥ |φ''| everywhere, c·λmax(XᵀX) bounds its
largest eigenvalue at all weights.
"""

import math
import typing

import numpy as np

from fastgd.linalg import lanczos

# Columns up to which XᵀX is formed and its eigenvalues are computed, in about 10 ms; above, Lanczos.
EXACT_COLUMNS = 512
# Lanczos approaches λmax from below. From a random start, after m steps, the shortfall exceeds a fraction ε of λmax
# with probability at most 1.648·√d·exp(−√ε(2m − 1)) (Kuczyński & Woźniakowski, SIAM J. Matrix Anal. Appl. 13 (1992),
# theorem 4.2). Dividing by 1 − ε gives an upper bound, except with that probability. ε and the probability:
LANCZOS_SHORTFALL, LANCZOS_RISK = 0.1, 1e-12


class Curvature(typing.NamedTuple):
    """Bounds of the Hessian's eigenvalues that hold at every point.

    Attributes
    ----------
    largest : float
        An upper bound.
    smallest : float or None
        The smallest positive eigenvalue, if it is the same everywhere and known.
    lost : int
        The number of eigenvalues below the rounding error of the largest, which cannot be told from 0.
    """

    largest: float
    smallest: float | None
    lost: int = 0

    def times(self, unit):
        """The Curvature after all variables were multiplied by 1/unit: eigenvalues times unit²."""
        with np.errstate(over="ignore", under="ignore"):
            largest = float(np.float64(self.largest) * unit * unit)
            smallest = None if self.smallest is None else float(np.float64(self.smallest) * unit * unit)
        return Curvature(largest, smallest or None, self.lost)


def least_sum(rows, loss):
    """Σ s·(the least that the loss of a row can be)."""
    least = loss.least(rows.Y)
    each, s = least.sum(axis=1), rows.weights
    return (each @ s.astype(np.float64) if s.size else each.sum(),)


def extremes(H, movable, exact):
    """The Curvature of a Hessian H, or of a bound H of it (`exact` False); all but `movable` variables are fixed."""
    eigenvalues = np.linalg.eigvalsh(H)
    # Rounding error of `eigvalsh`, relative to the largest: added to the bound; smaller eigenvalues are not known.
    rounding = 4 * len(H) * np.finfo(np.float64).eps
    largest = float(eigenvalues[-1]) * (1 + rounding)
    positive = eigenvalues[eigenvalues > rounding * largest]
    smallest = float(positive[0]) if exact and len(positive) else None
    return Curvature(largest, smallest, max(0, movable - len(positive)))


def largest_eigenvalue(multiply, d, trace):
    """An upper bound of λmax of a positive semidefinite (d, d) operator, by Lanczos with a margin.

    Parameters
    ----------
    multiply : callable
        v → Av.
    d : int
    trace : float
        The trace of A, itself an upper bound; it is returned if it is 0 or has overflowed.
    """
    if not 0 < trace < math.inf:
        return trace
    log_odds = math.log(1.648 * math.sqrt(d) / LANCZOS_RISK)
    steps = min(d, math.ceil((log_odds / math.sqrt(LANCZOS_SHORTFALL) + 1) / 2))
    start = np.random.default_rng(0).standard_normal(d)
    with np.errstate(under="ignore"):
        # Of the operator A/trace, so that squares do not overflow.
        for T, _, beta in lanczos(lambda v: multiply(v) / trace, start, steps):  # noqa: B007
            if beta <= 1e-13:
                break
    return trace * min(1.0, float(np.linalg.eigvalsh(T)[-1]) / (1 - LANCZOS_SHORTFALL))
