"""The minimum of a quadratic function with an l1 penalty and bounds, also where its matrix is singular."""

import math

import numpy as np

from fastgd.linalg import Inverse, equilibrium, soft_threshold

# Passes over the coordinates of a quadratic function; what its slopes may be off by, in units of their terms; the share
# of the first slopes at which its minimum is near enough to tell how far that of F is; and the share of the largest
# slope up to which a slope is rounding error.
EPOCHS, ROUNDING, NEAR, FLAT = 100, 1e-14, 1e-4, 1e-6
# After so many passes that each lower the value by no more than a share of what has been gained, none will.
PATIENCE, LITTLE = 5, 1e-9
# Steps for each coordinate, each of which solves equations: more are a sign that the steps go round in circles.
JUMPS = 8


def minimum(H, linear, thresholds, lower, upper, start, ridge, resolution=0.0):
    """argmin ½zᵀHz + linear·z + Σ thresholds·|z| within bounds, from a start inside, and whether it was found.

    Passes over the coordinates find which of them are at a bound, or at 0; all others then have the minimum of a
    quadratic function, which is taken where it is inside. Slopes of columns of that resolution are off by as much, as a
    share of their terms.
    """
    z, diagonal = start.copy(), np.where(np.diag(H) > 0, np.diag(H), 1.0)
    slopes = H @ z + linear
    first = float(np.max(_violations(z, slopes, thresholds, lower, upper), initial=0.0))
    allowed = max(ROUNDING, resolution) * (np.abs(H) @ np.abs(z) + np.abs(linear) + thresholds)

    def value_at(z, slopes):
        return 0.5 * float((slopes + linear) @ z) + float(thresholds @ np.abs(z))

    highest, lowest, still = value_at(z, slopes), math.inf, 0
    jumps = JUMPS * len(z)
    limited = thresholds.any() or np.isfinite(lower).any() or np.isfinite(upper).any()
    for _ in range(EPOCHS if limited else 1):  # without limits one jump leads to the minimum
        for _ in range(min(2 * len(z), jumps)):  # each but the last puts a coordinate to a bound, or to 0
            jumps -= 1
            held = _held(z, slopes, thresholds, lower, upper)
            jump, whole = _newton_jump(H, linear, thresholds, lower, upper, z, held, ridge)
            new = H @ jump + linear
            if not value_at(jump, new) <= value_at(z, slopes):  # on a way that only rounding tells from a flat one
                break
            z, slopes = jump, new
            if whole or not jumps:
                break
        rest = _violations(z, slopes, thresholds, lower, upper)
        value = value_at(z, slopes)
        highest = max(highest, value)
        still = 0 if value < lowest - max(ROUNDING * abs(value), LITTLE * (highest - value)) else still + 1
        if np.all(rest <= allowed) or still == PATIENCE or not jumps or not limited:
            break
        lowest = min(value, lowest)
        for j in np.flatnonzero(rest > 0):
            new = soft_threshold(z[j] - slopes[j] / diagonal[j], thresholds[j] / diagonal[j])
            new = min(max(new, lower[j]), upper[j])
            if new != z[j]:
                slopes += H[j] * (new - z[j])
                z[j] = new
    rest = _violations(z, slopes, thresholds, lower, upper)
    return z, bool(np.all(rest <= np.maximum(10 * allowed, NEAR * first)))


def _held(z, slopes, thresholds, lower, upper):
    """The coordinates that the bounds, or the kink of the penalty, keep where they are."""
    at_zero = (z == 0) & (np.abs(slopes) <= thresholds)
    signed = slopes + thresholds * np.sign(z)
    return at_zero | ((z <= lower) & (signed >= 0)) | ((z >= upper) & (signed <= 0))


def _newton_jump(H, linear, thresholds, lower, upper, z, held, ridge):
    """The minimum over the coordinates that are free, with the signs that they have; cut off at the first bound or 0.

    Where these coordinates are collinear it is the nearest one. Also whether it was not cut off.
    """
    free = np.flatnonzero(~held)
    while len(free):
        signs = np.sign(z[free])
        signs = np.where(signs == 0, -np.sign(H[free] @ z + linear[free]), signs) * (thresholds[free] > 0)
        low = np.maximum(lower[free], np.where(signs > 0, 0.0, -np.inf)) - z[free]
        high = np.minimum(upper[free], np.where(signs < 0, 0.0, np.inf)) - z[free]
        slopes = H[free] @ z + linear[free] + thresholds[free] * signs
        move, straight = _way(H[np.ix_(free, free)], slopes, low, high, ridge[free])
        if move is None:
            return z, True
        room = _room(move, low, high)
        if room > 0:
            found = z.copy()
            found[free] += np.clip(min(1.0, room) * move, low, high)
            return found, room >= 1 and not straight
        stuck = ((move < 0) & (low >= 0)) | ((move > 0) & (high <= 0))
        if not stuck.any():  # a way so short that its share of the move is 0 in floating point
            return z, True
        free = free[~stuck]
    return z, True


def _way(matrix, slopes, low, high, ridge):
    """The step to the minimum of a quadratic function, and False; one on which it falls on a straight line until a
    coordinate is at its bound, and True, where there is such a one; None where the matrix has no eigenvalues."""
    try:
        move = -Inverse(matrix, False, ridge)(slopes)
    except np.linalg.LinAlgError:
        return None, False
    if not np.all(np.isfinite(move)):
        return None, False
    rest = -slopes - matrix @ move
    ray = np.where(np.abs(rest) > FLAT * np.max(np.abs(slopes)), rest / equilibrium(matrix) ** 2, 0.0)
    length = _room(ray, low, high) if ray.any() else math.inf
    return (ray * (length or 1.0), True) if length < math.inf else (move, False)


def _room(move, low, high):
    """How many times a move fits in."""
    with np.errstate(all="ignore"):
        room = np.where(move < 0, low / move, np.where(move > 0, high / move, np.inf))
    return float(np.min(room, initial=math.inf))


def _violations(z, slopes, thresholds, lower, upper):
    """How far the slopes are from those of a minimum."""
    signed = np.where(z != 0, slopes + thresholds * np.sign(z), soft_threshold(slopes, thresholds))
    inward = ((z <= lower) & (signed > 0)) | ((z >= upper) & (signed < 0))
    return np.where(inward, 0.0, np.abs(signed))
