"""Newton steps within bounds, and with a penalty of its own for each coefficient.

Each step goes towards the minimum of the quadratic function with the Hessian of all rows at the point, the penalties
and the bounds as they are (Lee, Sun & Saunders, SIAM J. Optim. 24 (2014)); a line search shortens it.
"""

import numpy as np

from fastgd.engine import active_set
from fastgd.engine.gap import newton_note
from fastgd.engine.preconditioner import is_joint
from fastgd.linalg import ROUNDING, equilibrium
from fastgd.objective import design


def newton(variables, monitor):
    """Minimise F in the variables, a Standardised whose monitor's `update` holds the bounds."""
    _descend(variables, monitor)
    o = variables.objective
    within = np.isfinite(monitor.update.limits(variables.start.shape)).any()
    if monitor.gap is not None and not (o.l1 or o.l2 or within):
        monitor.gap.look_at_columns(variables, monitor)


def _descend(variables, monitor):
    v, o = variables, variables.objective
    lower, upper = monitor.update.limits(v.start.shape)
    thresholds = np.broadcast_to(v.thresholds(), v.start.shape)
    ridge, H = v.ridge(), None
    if not np.all(ridge[: o.rows.d]):  # no lower bound of the curvature, if some columns are not penalised
        ridge = np.zeros_like(ridge)
    z = v.start if monitor.resumed is None else monitor.resumed["z"]
    point = monitor.point(0 if monitor.resumed is None else monitor.resumed["step"], z, want_fun=True)
    monitor.see(point, tolerance=False)
    while not monitor.ended:
        monitor.keep(point.step, z=point.z)
        if H is None or not o.quadratic:
            H = _hessians(v, point.z)
            certified = o.quadratic and _is_regular(H, o.resolution)
        new, near = _model_minimum(H, point, thresholds, lower, upper, ridge, o.resolution)
        step = new - point.z
        change = _penalty(new, thresholds) - _penalty(point.z, thresholds)
        slope = float(np.vdot(point.gradient, step)) + change
        gain = -slope - 0.5 * sum(float(s @ A @ s) for s, A in zip(step.T.reshape(len(H), -1), H, strict=True))
        near, gain = near and gain >= -1e-9 * abs(point.fun), max(gain, 0.0)
        if not near:  # what has been gained of the quadratic function is not all
            known = False
        elif o.quadratic:
            known = monitor.reached_exactly(point, gain, certified=certified, how="by its minimum")
        else:  # twice the gain: a loss may fall like an exponential
            known = monitor.reached(point, 2 * gain)
        variables.note = newton_note(variables, step) if monitor.tolerates else ""
        if known or monitor.out_of_steps(point):
            return
        rounding = np.finfo(np.float64).eps * max(abs(point.fun), abs(o.value_at_zero), 4 * o.least_size)
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


def _model_minimum(H, point, thresholds, lower, upper, ridge, resolution):
    """The minimum of the quadratic model at a point, in which each matrix of H is of one output, or of all that follow
    one another; and whether it was found."""
    matrices, together = len(H), point.z.shape[1] // len(H)
    parts = (side.T.reshape(matrices, -1) for side in (point.z, point.gradient, thresholds, lower, upper))
    found = [
        active_set.minimum(matrix, gradient - matrix @ z, t, low, high, z, np.tile(ridge, together), resolution)
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
    columns = o.columns(v.shift, v.scale, 1.0)
    if is_joint(o, v.size):
        v.passes += 1
        (H,) = o.rows.reduced(design.softmax_hessian, columns, *v.to_weights(z))
        return [o.factor * H + np.diag(np.tile(v.diagonal(), o.rows.k))]
    if o.quadratic:
        matrices = [o.factor * o.gram(v.shift, v.scale, 1.0)] * o.rows.k
    else:
        v.passes += 1
        matrices = o.factor * o.rows.reduced(design.hessians, columns, o.record, *v.to_weights(z))[0]
    return [H + np.diag(v.diagonal()) for H in matrices]


def _is_regular(H, resolution):
    """Whether no direction is flat to within the resolution of the columns: rounding would hide what is gained."""
    roots = [equilibrium(matrix) for matrix in H]
    sizes = [np.linalg.eigvalsh(matrix / root / root[:, None]) for matrix, root in zip(H, roots, strict=True)]
    return all(each[0] > 10 * len(each) * max(resolution, ROUNDING) * each[-1] for each in sizes if len(each))


def _penalty(z, thresholds):
    return float(np.sum(thresholds * np.abs(z)))
