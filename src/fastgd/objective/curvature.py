"""How strongly an objective can bend: bounds of its Hessian's eigenvalues.

For a loss that is a function of h = XW + b the Hessian is Xᵀ diag(φ''(h)) X, so with c ≥ |φ''| everywhere
c·λmax(XᵀX) bounds its largest eigenvalue, whatever the weights.
"""

import math
import typing

import numpy as np

# Up to this many columns the Gram matrix is formed and its eigenvalues are exact; above, Lanczos.
EXACT_COLUMNS = 512

# Lanczos approaches λmax from below. From a random start, after m steps it is short of λmax by more than a fraction ε
# with a probability of at most 1.648·√d·exp(−√ε(2m − 1)) (Kuczyński & Woźniakowski, SIAM J. Matrix Anal. Appl. 13
# (1992), theorem 4.2), so dividing by 1 − ε makes it an upper bound but for that probability.
LANCZOS_SHORTFALL = 0.1
LANCZOS_RISK = 1e-12


class Curvature(typing.NamedTuple):
    """Of an objective, at every point.

    largest: a bound of the Hessian's largest eigenvalue. smallest: its smallest positive one, where that is the same
    everywhere and known. lost: how many eigenvalues drown in rounding beside the largest, so that nothing can be said
    of the directions that belong to them.
    """

    largest: float
    smallest: float | None
    lost: int = 0

    def times(self, unit):
        """That of the same function with its variables in other units: eigenvalues times unit²."""
        with np.errstate(over="ignore", under="ignore"):
            largest = float(np.float64(self.largest) * unit * unit)
            smallest = None if self.smallest is None else float(np.float64(self.smallest) * unit * unit)
        return Curvature(largest, smallest or None, self.lost)


def extremes(H, movable, exact):
    """The Curvature of a Hessian, or of a bound of one (`exact` False), of which `movable` variables can move."""
    eigenvalues = np.linalg.eigvalsh(H)
    # The last digits of an eigenvalue are rounding: a bound must not be below it, and what is smaller is not known.
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
        The trace of A, itself an upper bound. inf, where it overflowed, is then all that can be said.
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
            u = multiply(basis[step]) / trace  # of an operator of trace 1, so that no square leaves the floats
            diagonal.append(float(basis[step] @ u))
            # Orthogonal to all earlier ones, or rounding brings copies of the largest eigenvalue back; and twice,
            # because what cancels in the first pass leaves its rounding in their directions ("twice is enough": Giraud,
            # Langou & Rozložník, Comput. Math. Appl. 50 (2005)).
            for _ in range(2):
                u -= earlier.T @ (earlier @ u)
            norm = float(np.linalg.norm(u))
        if norm <= 1e-13 or step + 1 == steps:
            break  # with so small a rest the space is exhausted: the eigenvalues are exact
        off_diagonal.append(norm)
        basis[step + 1] = u / norm
    k = len(diagonal)
    T = np.diag(diagonal) + np.diag(off_diagonal[: k - 1], 1) + np.diag(off_diagonal[: k - 1], -1)
    return trace * min(1.0, float(np.linalg.eigvalsh(T)[-1]) / (1 - LANCZOS_SHORTFALL))
