"""The minimum of a quadratic function with an l1 penalty, from its matrix."""

import numpy as np
import scipy.linalg

from fastgd import kernels

# Coordinate descent finds the signs, between steps to the minimum for given signs: so many epochs, and one more for so
# many columns, whose step takes longer.
EPOCHS, COLUMNS, ROUNDS = 5, 6, 500
# So many rounds that do not lower the value are the last.
PATIENCE = 3
# More columns than this are looked at where they have a weight, or a slope of so much of their threshold, unless these
# are the most: their matrix stays in a cache.
SMALL, NEAR, MOST = 128, 0.95, 0.7
# What is added to the diagonal, of the largest entry, for the steps: where columns are collinear, or more than the
# rows, the matrix is singular. A step is then one of a proximal point method, from where the next one leads on.
HELD = 1e-11
# A step that is so many times as long as the weights is one along a direction in which the matrix, by rounding, bends
# down.
LONGEST = 1e12
# The gradient of a minimum, in units of the largest number that it is a sum of.
ROUNDING = 1e-13


def minimise_with_l1(H, gradient, thresholds, start, small=0.0):
    """argmin ½vᵀHv + cᵀv + Σ tⱼ·|vⱼ|.

    Epochs of coordinate descent, each few of them followed by a step to the minimum for the signs that they have found,
    as far as the function falls on the way there (as feature-sign search: Lee, Battle, Raina & Ng, NIPS 2006).

    Parameters
    ----------
    H : (d, d), positive semidefinite
    gradient, thresholds, start : (d,)
        The gradient is that at the start, H·start + c.
    small : float
        By how much the gradient may be beyond a threshold in the end, as a share of that; 0 is to the last digit.
    """
    H, thresholds = np.ascontiguousarray(H), np.ascontiguousarray(thresholds)
    v, gradient = start.astype(np.float64), gradient.astype(np.float64)
    v[(np.diag(H) <= 0) & (np.abs(gradient) <= thresholds)] = 0.0  # there is the penalty alone
    rounding = ROUNDING * (np.max(np.abs(gradient), initial=0.0) + np.max(thresholds, initial=0.0))
    allowed = np.maximum(small * thresholds, rounding)
    for _ in range(ROUNDS if len(v) > SMALL else 0):
        near = np.flatnonzero((v != 0) | (np.abs(gradient) >= NEAR * thresholds))
        if len(near) > MOST * len(v):
            break
        new = _minimise(H[near].take(near, axis=1), gradient[near], thresholds[near], v[near], small, allowed[near])
        gradient += (new - v[near]) @ H[near]
        v[near] = new
        if np.all(_violations(v, gradient, thresholds) <= allowed):
            return v
    return _minimise(H, gradient, thresholds, v, small, allowed)


def _minimise(H, first, thresholds, start, small, allowed):
    """`minimise_with_l1` to the violations that are `allowed`."""
    v, gradient, fresh, least, lowest, still = start.copy(), first.copy(), True, np.inf, np.inf, 0
    held = HELD * float(np.max(np.diag(H), initial=0.0))
    for _ in range(ROUNDS):
        epochs = EPOCHS + int(np.count_nonzero(v)) // COLUMNS
        worst = kernels.active.gram_coordinate_descent(H, thresholds, epochs, small, gradient, v)[1]
        if worst <= small or not np.isfinite(worst):
            break
        fresh = _step(H, held, gradient, thresholds, v) and fresh
        beyond = _violations(v, gradient, thresholds) / allowed
        if (worst := np.max(beyond, initial=0.0)) <= 1:
            if small or fresh or not worst < least:
                break
            gradient, fresh, least = first + H @ (v - start), True, worst
        value = 0.5 * float((first + gradient) @ (v - start)) + float(thresholds @ np.abs(v))
        still = 0 if value < lowest - ROUNDING * abs(value) else still + 1
        if still == PATIENCE:
            break
        lowest = min(value, lowest)
    return v if np.all(np.isfinite(v)) else start


def _step(H, held, gradient, thresholds, v):
    """The step to the minimum for the present signs, as far as the function falls; v and its gradient are moved."""
    free, signs = thresholds == 0, np.sign(v)
    support = np.flatnonzero((v != 0) | free)
    slope = gradient[support] + (thresholds * signs)[support]
    step = _solve(H[support].take(support, axis=1), held, -slope)
    old, target = v[support], v[support] + step
    if not np.max(np.abs(step), initial=0.0) <= LONGEST * (1 + np.max(np.abs(v))) or not slope @ step < 0:
        return True
    change = step @ H[support]
    if np.any((target * old < 0) & ~free[support]):
        target = _lowest_between(slope, change[support], thresholds[support], old, target)
        change = (target - old) @ H[support]
    v[support] = target
    gradient += change
    return False


def _violations(v, gradient, thresholds):
    """The shortest subgradient, in size."""
    at_zero = np.maximum(np.abs(gradient) - thresholds, 0.0)
    return np.where(v != 0, np.abs(gradient + thresholds * np.sign(v)), at_zero)


def _solve(H, held, right):
    H[np.diag_indices_from(H)] += held
    try:
        return scipy.linalg.cho_solve(scipy.linalg.cho_factor(H, check_finite=False), right, check_finite=False)
    except np.linalg.LinAlgError:
        return np.linalg.lstsq(H, right, rcond=None)[0]


def _lowest_between(slope, change, thresholds, v, target):
    """The lowest of the points of the way from v to target where a weight is 0, and of its end.

    `slope` is the subgradient at v for its signs, and `change` that of the gradient on the way.
    """
    move = target - v
    with np.errstate(divide="ignore", invalid="ignore"):
        crossings = np.where(v * target < 0, -v / move, np.inf)
    order = np.argsort(crossings)
    order = order[np.isfinite(crossings[order]) & (thresholds[order] > 0)]
    shares = np.append(crossings[order], 1.0)
    # Beyond a crossing the penalty of that weight rises by what it fell before.
    turns = np.concatenate([[0.0], 2 * thresholds[order] * np.abs(move[order])])
    start = np.concatenate([[0.0], 2 * thresholds[order] * np.abs(v[order])])
    slopes = float(slope @ move) + np.cumsum(turns)
    values = slopes * shares - np.cumsum(start) + 0.5 * float(move @ change) * shares**2
    best = int(np.argmin(values))
    point = v + shares[best] * move
    point[crossings == shares[best]] = 0.0
    return point
