"""How strongly an objective can bend: bounds of its Hessian's eigenvalues.

For a loss that is a function of h = XW + b the Hessian is Xᵀ diag(φ''(h)) X, so with c ≥ |φ''| everywhere
c·λmax(XᵀX) bounds its largest eigenvalue, whatever the weights.
"""

import math

import numpy as np
from numpy.polynomial import Polynomial

# Up to this many columns the Gram matrix is formed and its eigenvalues are exact; above, Lanczos.
EXACT_COLUMNS = 512

# Lanczos approaches λmax from below. From a random start, after m steps it is short of λmax by more than a fraction ε
# with a probability of at most 1.648·√d·exp(−√ε(2m − 1)) (Kuczyński & Woźniakowski, SIAM J. Matrix Anal. Appl. 13
# (1992), theorem 4.2), so dividing by 1 − ε makes it an upper bound but for that probability.
LANCZOS_SHORTFALL = 0.1
LANCZOS_RISK = 1e-12


def squared_loss_bound(activation, y_min, y_max):
    """The largest |φ''(h)| of φ(h) = ½(f(h) − y)² over all h and all y between y_min and y_max.

    φ'' = f'² + (f − y)f''. In terms of the activation's value p it is a polynomial of degree four, so the extrema are
    among the roots of its derivative; it is linear in y, so they belong to the smallest or the largest y.
    """
    if activation == "identity":
        return 1.0
    p = Polynomial([0, 1])
    prime, second, ends = {
        "sigmoid": (p * (1 - p), p * (1 - p) * (1 - 2 * p), (0.0, 1.0)),
        "tanh": (1 - p**2, -2 * p * (1 - p**2), (-1.0, 1.0)),
    }[activation]
    largest = 0.0
    for y in (y_min, y_max):
        phi = prime**2 + (p - y) * second
        roots = phi.deriv().roots()
        # A double root may come out as a pair with tiny imaginary parts: its real part is still a point of the domain.
        inside = np.clip(np.real(roots), *ends)
        largest = max(largest, float(np.max(np.abs(phi(np.append(inside, ends))))))
    # The roots are exact to rounding only, and near an extremum the value falls off quadratically.
    return largest * (1 + 1e-9)


def largest_eigenvalue(multiply, d, trace):
    """An upper bound of λmax of a positive semidefinite (d, d) operator, by Lanczos with a margin.

    Parameters
    ----------
    multiply : callable
        v → Av.
    d : int
    trace : float
        The trace of A, itself an upper bound.
    """
    log_odds = math.log(1.648 * math.sqrt(d) / LANCZOS_RISK)
    steps = min(d, math.ceil((log_odds / math.sqrt(LANCZOS_SHORTFALL) + 1) / 2))
    v = np.random.default_rng(0).standard_normal(d)
    basis = [v / np.linalg.norm(v)]
    diagonal, off_diagonal = [], []
    for _ in range(steps):
        u = multiply(basis[-1])
        diagonal.append(float(basis[-1] @ u))
        for q in basis:  # orthogonal to all earlier ones, or rounding brings copies of the largest back
            u -= (q @ u) * q
        norm = float(np.linalg.norm(u))
        if norm <= 1e-13 * trace:
            break  # the space is exhausted: the eigenvalues are exact
        off_diagonal.append(norm)
        basis.append(u / norm)
    k = len(diagonal)
    T = np.diag(diagonal) + np.diag(off_diagonal[: k - 1], 1) + np.diag(off_diagonal[: k - 1], -1)
    return min(trace, float(np.linalg.eigvalsh(T)[-1]) / (1 - LANCZOS_SHORTFALL))
