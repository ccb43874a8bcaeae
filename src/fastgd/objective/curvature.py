"""Bounds of the eigenvalues of an objective's Hessian.

For a loss φ(h) of h = XW + b the Hessian is Xᵀ diag(φ''(h)) X. With c ≥ |φ''| everywhere, c·λmax(XᵀX) bounds its
largest eigenvalue at all weights.
"""

import math
import typing

import numpy as np

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
    v = np.random.default_rng(0).standard_normal(d)
    basis = np.empty((steps, d))
    basis[0] = v / np.linalg.norm(v)
    diagonal, off_diagonal = [], []
    for step in range(steps):
        earlier = basis[: step + 1]
        with np.errstate(under="ignore"):
            u = multiply(basis[step]) / trace  # of the operator A/trace, so that squares do not overflow
            diagonal.append(float(basis[step] @ u))
            # Reorthogonalise, as rounding error would otherwise produce copies of the largest eigenvalue; twice,
            # because cancellation in the first pass leaves rounding error ("twice is enough": Giraud, Langou &
            # Rozložník, Comput. Math. Appl. 50 (2005)).
            for _ in range(2):
                u -= earlier.T @ (earlier @ u)
            norm = float(np.linalg.norm(u))
        if norm <= 1e-13 or step + 1 == steps:
            break  # the Krylov space is invariant: the eigenvalues are exact
        off_diagonal.append(norm)
        basis[step + 1] = u / norm
    k = len(diagonal)
    T = np.diag(diagonal) + np.diag(off_diagonal[: k - 1], 1) + np.diag(off_diagonal[: k - 1], -1)
    return trace * min(1.0, float(np.linalg.eigvalsh(T)[-1]) / (1 - LANCZOS_SHORTFALL))
