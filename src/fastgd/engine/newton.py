"""Newton steps within bounds, and with a penalty of its own for each coefficient.

Each step goes towards the minimum of the quadratic function with the Hessian of all rows at the point, the penalties
and the bounds as they are (Lee, Sun & Saunders, SIAM J. Optim. 24 (2014)); a line search shortens it.
"""

import math

import numpy as np

from fastgd.engine.preconditioner import Inverse, is_joint
from fastgd.linalg import equilibrium, soft_threshold, softmax

# Passes over the coordinates of a quadratic function; what its slopes may be off by, in units of their terms; the share
# of the first slopes at which its minimum is near enough to tell how far that of F is; and the share of the largest
# slope up to which a slope is rounding error.
EPOCHS, ROUNDING, NEAR, FLAT = 1000, 1e-14, 1e-4, 1e-6


def newton(variables, monitor):
    """Minimise F in the variables, a Standardised whose monitor's `update` holds the bounds."""
    v, o = variables, variables.objective
    lower, upper = monitor.update.limits(v.start.shape)
    thresholds = np.broadcast_to(v.thresholds(), v.start.shape)
    H = None
    z = v.start if monitor.resumed is None else monitor.resumed["z"]
    point = monitor.point(0 if monitor.resumed is None else monitor.resumed["step"], z, want_fun=True)
    monitor.see(point, tolerance=False)
    while not monitor.ended:
        monitor.keep(point.step, z=point.z)
        if H is None or not o.quadratic:
            H = _hessians(v, point.z)
        new, near = _model_minimum(H, point, thresholds, lower, upper, v.ridge())
        step = new - point.z
        change = _penalty(new, thresholds) - _penalty(point.z, thresholds)
        slope = float(np.vdot(point.gradient, step)) + change
        gain = -slope - 0.5 * sum(float(s @ A @ s) for s, A in zip(step.T.reshape(len(H), -1), H, strict=True))
        gain = max(gain, 0.0)
        if not near:  # what has been gained of the quadratic function is not all
            known = False
        elif o.quadratic:
            known = monitor.reached_exactly(point, gain, how="by its minimum")
        else:  # twice the gain: a loss may fall like an exponential
            known = monitor.reached(point, 2 * gain)
        if known or monitor.out_of_steps(point):
            return
        rounding = np.finfo(np.float64).eps * max(abs(point.fun), abs(o.value_at_zero))
        found = _on_the_way(v, point, step, slope, thresholds) if -slope > rounding else None
        if found is None:
            if near or monitor.gap.above_least(point.fun) <= 1e5 * rounding:
                monitor.at_rounding(point, gain)
            else:
                monitor.stalled(point, monitor.gap.above_least(point.fun))
            return
        monitor.took(point.step, found[0])
        point = monitor.evaluated(point.step + 1, *found[1:])
        if monitor.see(point, tolerance=False):
            return


def _model_minimum(H, point, thresholds, lower, upper, ridge):
    """The minimum of the quadratic model at a point, in which each matrix of H is of one output, or of all that follow
    one another; and whether it was found."""
    matrices, together = len(H), point.z.shape[1] // len(H)
    parts = (side.T.reshape(matrices, -1) for side in (point.z, point.gradient, thresholds, lower, upper))
    found = [
        _minimum(matrix, gradient - matrix @ z, t, low, high, z, np.tile(ridge, together))
        for matrix, z, gradient, t, low, high in zip(H, *parts, strict=True)
    ]
    new = np.concatenate([z for z, _ in found]).reshape(point.z.T.shape).T
    return new, all(near for _, near in found)


def _on_the_way(variables, point, step, slope, thresholds):
    """(rate, z, value, gradient) where F has fallen enough (Armijo); None where no step lowers it."""
    rate = 1.0
    while rate > 1e-10 and slope < 0:
        z = point.z + rate * step
        fun, gradient = variables.evaluate(z)
        if fun <= point.fun + 1e-4 * rate * slope:
            return rate, z, fun, gradient
        rate *= 0.5
    return None


def _hessians(variables, z):
    """AᵀDA + ridge for each output, D being the curvatures of all rows at z; for a softmax of not too many weights that
    of all outputs, the weights of one after those of the other."""
    v, o = variables, variables.objective
    size = v.size
    if is_joint(o, size):
        return [_softmax(v, z) + np.diag(np.tile(v.diagonal(), o.rows.k))]
    if o.quadratic:
        matrices = [o.factor * o.gram(v.shift, v.scale, 1.0)] * o.rows.k
    else:
        h, Y = v.scores(z), o.Y.astype(np.float64)
        with np.errstate(all="ignore"):
            bends = o.record.curvature(h, Y)
            if o.record.straight is not None:
                bends = bends + 1e-3 * o.record.straight(h, Y)
            else:  # far out on the wrong side of a log loss there is next to no curvature
                bends = np.maximum(bends, 1e-3 * np.abs(o.record.slope(h, Y)))
        bends = np.nan_to_num(bends, posinf=1e300)
        matrices = [np.zeros((size, size)) for _ in range(o.rows.k)]
        for A, _, part in o.design(v.shift, v.scale, 1.0):
            for c, H in enumerate(matrices):
                H += o.factor * (A.T @ (A * bends[part, c, None]))
    return [H + np.diag(v.diagonal()) for H in matrices]


def _softmax(v, z):
    """Σ s(diag(p) − ppᵀ) ⊗ xxᵀ over all rows."""
    o, k, P = v.objective, v.objective.rows.k, softmax(v.scores(z))
    H = np.zeros((k, v.size, k, v.size))
    for A, _, part in o.design(v.shift, v.scale, 1.0):
        for a in range(k):
            for b in range(a + 1):
                p = P[part, a] * ((a == b) - P[part, b])
                H[a, :, b] += o.factor * (A.T @ (A * p[:, None]))
                H[b, :, a] = H[a, :, b]
    return H.reshape(k * v.size, k * v.size)


def _penalty(z, thresholds):
    return float(np.sum(thresholds * np.abs(z)))


def _minimum(H, linear, thresholds, lower, upper, start, ridge):
    """argmin ½zᵀHz + linear·z + Σ thresholds·|z| within bounds, from a start inside, and whether it was found.

    Passes over the coordinates find which of them are at a bound, or at 0; all others then have the minimum of a
    quadratic function, which is taken where it is inside.
    """
    z, diagonal = start.copy(), np.where(np.diag(H) > 0, np.diag(H), 1.0)
    slopes = H @ z + linear
    first = float(np.max(_violations(z, slopes, thresholds, lower, upper), initial=0.0))
    allowed = ROUNDING * (np.abs(H) @ np.abs(z) + np.abs(linear) + thresholds)
    moved = np.ones(len(z), bool)
    for epoch in range(EPOCHS):
        for _ in range(2 * len(z)):  # each but the last puts a coordinate to a bound, or to 0
            held = _held(z, slopes, thresholds, lower, upper)
            jump, whole = _newton_jump(H, linear, thresholds, lower, upper, z, held, ridge)
            z, slopes = jump, H @ jump + linear
            if whole:
                break
        rest = _violations(z, slopes, thresholds, lower, upper)
        if np.all(rest <= allowed) or (epoch > 20 and not np.any(moved)):
            break
        before = z.copy()
        for j in np.flatnonzero(rest > 0):
            new = soft_threshold(z[j] - slopes[j] / diagonal[j], thresholds[j] / diagonal[j])
            new = min(max(new, lower[j]), upper[j])
            if new != z[j]:
                slopes += H[j] * (new - z[j])
                z[j] = new
        moved = z != before
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
        free = free[~(((move < 0) & (low >= 0)) | ((move > 0) & (high <= 0)))]  # without those that cannot move
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
