"""The minimum of a quadratic function with an l1 penalty, by a parametric active set: however collinear columns are."""

import numpy as np
import scipy.linalg

# Breakpoints for each weight: more are a sign that they go round in circles.
BREAKPOINTS = 20


def minimum(H, gradient, thresholds, start, held):
    """argmin ½vᵀHv + cᵀv + Σ tⱼ·|vⱼ| and the gradient there, from a start with the gradient H·start + c.

    The start is the minimum for another linear part, c + e. On the way from there to c the minimum is a straight line
    between breakpoints, where a weight comes to 0 or a slope to its threshold; each needs one solution of equations,
    however near to singular these are (Best, "An algorithm for the solution of the parametric quadratic programming
    problem", 1996; for a falling penalty it is the homotopy of Osborne, Presnell & Turlach, IMA J. Numer. Anal. 20
    (2000)).

    Parameters
    ----------
    held : float
        Added to the diagonal of the equations, as in a proximal point method.
    """
    v, g, free = start.copy(), gradient.copy(), thresholds == 0
    signs, active = np.sign(v) * ~free, (v != 0) | free
    beyond = np.max(np.abs(g)[~active] / thresholds[~active], initial=1.0)  # all by one factor: few come at once
    wanted = np.where(active, -thresholds * signs, g / beyond)
    e, g, left = wanted - g, wanted, 1.0
    came = went = -1
    for _ in range(BREAKPOINTS * len(v)):
        support = np.flatnonzero(active)
        step = np.zeros_like(v)
        step[support] = solve(H[np.ix_(support, support)], e[support], held)
        if came >= 0 and step[came] * signs[came] < 0:  # it would leave at once on the wrong side: it stays at 0
            active[came], went, came = False, came, -1
            continue
        change = H @ step - e
        change[support] = 0.0
        with np.errstate(divide="ignore", invalid="ignore"):
            to_zero = np.where(active & (step * signs < 0), -v / step, np.inf)
            to_threshold = np.where(active, np.inf, (np.sign(change) * thresholds - g) / change)
        to_threshold[np.isnan(to_threshold)] = np.inf
        if went >= 0:
            to_threshold[went] = np.inf if np.sign(change[went]) != np.sign(g[went]) else to_threshold[went]
        first, second = int(np.argmin(to_zero)), int(np.argmin(to_threshold))
        length = max(min(to_zero[first], to_threshold[second], left), 0.0)
        v += length * step
        g += length * change
        left -= length
        if left <= 0:
            break
        came = went = -1
        if to_zero[first] <= to_threshold[second]:
            v[first], active[first], went = 0.0, False, first
        else:
            came, active[second] = second, True
            signs[second] = -np.sign(g[second])
    return v, gradient + H @ (v - start)


def solve(H, right, held):
    """(H + held·I)⁻¹·right; H is overwritten."""
    if not len(H):
        return right
    H[np.diag_indices_from(H)] += held
    try:
        return scipy.linalg.cho_solve(scipy.linalg.cho_factor(H, check_finite=False), right, check_finite=False)
    except np.linalg.LinAlgError:
        return np.linalg.lstsq(H, right, rcond=None)[0]
