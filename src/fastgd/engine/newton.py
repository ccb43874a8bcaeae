"""Newton steps within bounds, and with a penalty of its own for each coefficient.

Each step goes towards the minimum of the quadratic function with the Hessian of all rows at the point, the penalties
and the bounds as they are (Lee, Sun & Saunders, SIAM J. Optim. 24 (2014)); a line search shortens it.
"""

import numpy as np

from fastgd.linalg import equilibrium, soft_threshold
from fastgd.objective import design

# Passes over the coordinates of a quadratic function, and what its slopes may be off by, in units of their terms.
EPOCHS, ROUNDING = 1000, 1e-14


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
        new = np.empty_like(point.z)
        for c, matrix in enumerate(H):
            new[:, c] = _minimum(
                matrix, point.gradient[:, c] - matrix @ point.z[:, c], thresholds[:, c], lower[:, c], upper[:, c],
                point.z[:, c],
            )  # fmt: skip
        step = new - point.z
        change = _penalty(new, thresholds) - _penalty(point.z, thresholds)
        slope = float(np.vdot(point.gradient, step)) + change
        gain = -slope - 0.5 * sum(float(s @ A @ s) for s, A in zip(step.T, H, strict=True))
        gain = max(gain, 0.0)
        known = (
            monitor.reached_exactly(point, gain, how="by its minimum") if o.quadratic else monitor.reached(point, gain)
        )
        if known or monitor.out_of_steps(point):
            return
        found = _on_the_way(v, point, step, slope, thresholds)
        if found is None:
            monitor.at_rounding(point, gain)
            return
        monitor.took(point.step, found[0])
        point = monitor.evaluated(point.step + 1, *found[1:])
        if monitor.see(point, tolerance=False):
            return


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
    """AᵀDA + ridge for each output, D being the curvatures of all rows at z."""
    v, o = variables, variables.objective
    if o.quadratic:
        matrices = [o.factor * o.gram(v.shift, v.scale, 1.0)] * o.rows.k
    else:
        v.passes += 1
        columns = o.columns(v.shift, v.scale, 1.0)
        matrices = o.factor * o.rows.reduced(design.hessians, columns, o.record, *v.to_weights(z))[0]
    return [H + np.diag(v.diagonal()) for H in matrices]


def _penalty(z, thresholds):
    return float(np.sum(thresholds * np.abs(z)))


def _minimum(H, linear, thresholds, lower, upper, start):
    """argmin ½zᵀHz + linear·z + Σ thresholds·|z| within bounds, from a start inside.

    Passes over the coordinates find which of them are at a bound, or at 0; all others then have the minimum of a
    quadratic function, which is taken where it is inside.
    """
    z, diagonal = start.copy(), np.where(np.diag(H) > 0, np.diag(H), 1.0)
    slopes = H @ z + linear
    allowed = ROUNDING * (np.abs(H) @ np.abs(z) + np.abs(linear) + thresholds)
    moved = np.ones(len(z), bool)
    for epoch in range(EPOCHS):
        held = _held(z, slopes, thresholds, lower, upper)
        jump = _newton_jump(H, linear, thresholds, lower, upper, z, held)
        if jump is not None:
            z, slopes = jump, H @ jump + linear
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
    return z


def _held(z, slopes, thresholds, lower, upper):
    """The coordinates that the bounds, or the kink of the penalty, keep where they are."""
    at_zero = (z == 0) & (np.abs(slopes) <= thresholds)
    signed = slopes + thresholds * np.sign(z)
    return at_zero | ((z <= lower) & (signed >= 0)) | ((z >= upper) & (signed <= 0))


def _newton_jump(H, linear, thresholds, lower, upper, z, held):
    """The minimum over the coordinates that are free, with the signs that they have; cut off at the first bound or 0.

    None where the equations have no solution.
    """
    free = np.flatnonzero(~held)
    if not len(free):
        return None
    signs = np.sign(z[free])
    signs = np.where(signs == 0, -np.sign(H[free] @ z + linear[free]), signs) * (thresholds[free] > 0)
    right = -(linear[free] + thresholds[free] * signs + H[np.ix_(free, np.flatnonzero(held))] @ z[held])
    matrix = H[np.ix_(free, free)]
    root = equilibrium(matrix)
    try:
        target = np.linalg.solve(matrix / root / root[:, None], right / root) / root
    except np.linalg.LinAlgError:
        return None
    if not np.all(np.isfinite(target)):
        return None
    low = np.maximum(lower[free], np.where(signs > 0, 0.0, -np.inf))
    high = np.minimum(upper[free], np.where(signs < 0, 0.0, np.inf))
    move = target - z[free]
    with np.errstate(all="ignore"):
        room = np.where(move < 0, (low - z[free]) / move, np.where(move > 0, (high - z[free]) / move, np.inf))
    share = min(1.0, float(np.min(room, initial=1.0)))
    if share <= 0:
        return None
    found = z.copy()
    found[free] = np.clip(target if share == 1 else z[free] + share * move, low, high)
    return found


def _violations(z, slopes, thresholds, lower, upper):
    """How far the slopes are from those of a minimum."""
    signed = np.where(z != 0, slopes + thresholds * np.sign(z), soft_threshold(slopes, thresholds))
    inward = ((z <= lower) & (signed > 0)) | ((z >= upper) & (signed < 0))
    return np.where(inward, 0.0, np.abs(signed))
