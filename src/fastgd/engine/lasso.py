"""The minimum of a quadratic function with an l1 penalty, to the last digit."""

import numpy as np
import scipy.linalg

from fastgd.linalg import soft_threshold

# Of the search for the signs of the weights.
PROXIMAL_STEPS, SAME_SIGNS, SEARCH_STEPS = 300, 10, 1000
# What is added to its diagonal, of the largest entry: where columns are collinear, or more than the rows, the matrix is
# singular, and a solution for given signs is none. The minimum is then one step of a proximal point method, from where
# the next one leads on.
HELD = 1e-11


def minimise_with_l1(H, c, thresholds, start):
    """argmin ½vᵀHv + cᵀv + Σ tⱼ|vⱼ|, exactly but for HELD, which draws towards the start.

    Accelerated proximal steps find nearly all of the signs, and feature-sign search (Lee, Battle, Raina & Ng, NIPS
    2006) the rest: it solves for the weights that are not 0 given their signs, walks there as far as the function
    falls, drops those that became 0 and adds the one that most wants to move.

    Parameters
    ----------
    H : (d, d), positive semidefinite
    c, thresholds, start : (d,)
    """
    held = HELD * float(np.max(np.diag(H), initial=0.0))
    H, c = H + held * np.eye(len(c)), c - held * start
    v = _proximal_steps(H, c, thresholds, start)
    free = thresholds == 0
    signs = np.sign(v)
    slack = 1e-13 * (np.max(np.abs(c), initial=0.0) + np.max(thresholds, initial=0.0))
    for _ in range(SEARCH_STEPS + len(c)):
        support = (signs != 0) | free
        target = np.zeros_like(v)
        if support.any():
            target[support] = _solve(H[np.ix_(support, support)], -(c + thresholds * signs)[support])
        wrong = (target * signs < 0) & ~free
        if wrong.any():
            v = _lowest_between(H, c, thresholds, v, target)
            signs = np.where(np.abs(v) > 0, np.sign(v), 0)
            continue
        v = target
        slope = np.where(support, 0.0, np.abs(H @ v + c) - thresholds)
        worst = int(np.argmax(slope))
        if slope[worst] <= slack:
            break
        signs = np.where(support, np.sign(v), 0)
        signs[worst] = -np.sign(H[worst] @ v + c[worst])
    return v


def _proximal_steps(H, c, thresholds, start):
    L = float(np.linalg.norm(H, 1))  # not below the largest eigenvalue
    x = y = start
    t = 1.0
    signs = np.sign(start)
    for i in range(1, PROXIMAL_STEPS + 1):
        v = y - (H @ y + c) / L
        new = soft_threshold(v, thresholds / L)
        if (y - new) @ (new - x) > 0:
            t = 1.0
        t_next = (1 + np.sqrt(1 + 4 * t * t)) / 2
        y = new + (t - 1) / t_next * (new - x)
        x, t = new, t_next
        if i % SAME_SIGNS == 0:
            before, signs = signs, np.sign(x)
            if np.array_equal(before, signs):
                break
    return x


def _solve(H, right):
    try:
        return scipy.linalg.cho_solve(scipy.linalg.cho_factor(H, check_finite=False), right, check_finite=False)
    except np.linalg.LinAlgError:
        return np.linalg.lstsq(H, right, rcond=None)[0]


def _lowest_between(H, c, thresholds, v, target):
    """The lowest of the points of the way from v to target where a weight is 0, and of its end."""
    move = target - v
    with np.errstate(divide="ignore", invalid="ignore"):
        crossings = np.where(v * target < 0, -v / move, np.nan)
    shares = np.unique(np.append(crossings[~np.isnan(crossings)], 1.0))
    points = v + shares[:, None] * move
    slope, bend = float((H @ v + c) @ move), float(move @ (H @ move))
    values = slope * shares + 0.5 * bend * shares**2 + np.abs(points) @ thresholds
    best = int(np.argmin(values))
    point = points[best]
    point[crossings == shares[best]] = 0.0
    return point
