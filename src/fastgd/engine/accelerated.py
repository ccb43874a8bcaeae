"""Proximal gradient steps of length 1/L, accelerated or plain, or of a length found by backtracking."""

import math

import numpy as np

from fastgd.linalg import soft_threshold


def accelerated(variables, monitor, momentum=True, point=None):
    """Nesterov's accelerated descent with adaptive restart (O'Donoghue & Candès 2015, the gradient scheme).

        x₊ = prox(y − η·∇F(y));    y₊ = x₊ + (t − 1)/t₊·(x₊ − x),    t₊ = (1 + √(1 + 4t²))/2

    with t = 1 again whenever the momentum points uphill (FISTA: Beck & Teboulle 2009). The points of the run are the y,
    where the gradient is known. If the curvature has no bound, η is halved until F falls as a quadratic function of
    curvature 1/η would, and grows by half after each step.

    Parameters
    ----------
    variables : Standardised
    momentum : bool
        If False, x₊ is the next y.
    point : Point, optional
        The last point of another solver, which the monitor has seen.
    """
    y, thresholds = variables.start.copy() if point is None else point.z, variables.thresholds()
    bound = variables.curvature().largest
    bounded = math.isfinite(bound)
    rate = 1 / (bound or 1.0) if bounded else 1.0
    x, t, step, last = y, 1.0, 0 if point is None else point.step, None
    if (kept := monitor.resumed) and point is None:
        x, y, t, step, last, rate = (kept[name] for name in ("x", "y", "t", "step", "last", "rate"))
    monitor.gap.look_at_columns(variables, monitor)
    while True:
        monitor.keep(step, x=x, y=y, t=t, last=last, rate=rate)
        if point is None:
            point = monitor.point(step, y, want_fun=True)
            if monitor.see(point) or monitor.out_of_steps(point):
                return
        if last is not None and _at_rest(variables, point, last):
            monitor.at_rounding(point, monitor.gap.gap or math.inf)
            return
        new, told = soft_threshold(y - rate * point.gradient, rate * thresholds), True
        while not bounded and not (told := _falls_enough(variables, point, new, rate)):
            if told is None:
                break
            rate /= 2
            if rate < 1e-30:
                monitor.at_rounding(point, monitor.gap.gap or math.inf)
                return
            new = soft_threshold(y - rate * point.gradient, rate * thresholds)
        point.lr = rate
        monitor.took(step, rate)
        following = new
        if momentum:
            if np.vdot(y - new, new - x) > 0:
                t = 1.0
            t_next = (1 + math.sqrt(1 + 4 * t * t)) / 2
            following, t = new + (t - 1) / t_next * (new - x), t_next
        last, x, y, point = point, new, following, None
        rate = 1.5 * rate if told and not bounded else rate
        step += 1


def _at_rest(variables, point, last):
    """Whether the point no longer changes, or its gradient is zero to within rounding error."""
    return np.array_equal(point.z, last.z) or point.least <= 4 * variables.objective.eps**2


def _falls_enough(variables, point, new, rate):
    """Whether F's smooth part falls to `new` as a quadratic of curvature 1/rate would; None where rounding hides it.

    Near the minimum the values differ by rounding alone, which would halve the rate again and again.
    """
    move = new - point.z
    smooth = point.fun - variables.l1_penalty(point.z)
    bent = 0.5 * float(np.vdot(move, move)) / rate
    rounding = 8 * np.finfo(np.float64).eps * abs(smooth)
    if bent <= 100 * rounding:
        return None
    return (
        variables.value(new) - variables.l1_penalty(new)
        <= smooth + float(np.vdot(point.gradient, move)) + bent + rounding
    )
