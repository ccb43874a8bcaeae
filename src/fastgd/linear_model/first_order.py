"""Gradient descent in centred and scaled columns, accelerated or plain."""

import functools
import math

import numpy as np

from fastgd.linear_model.quadratic import Metric, conditioning
from fastgd.linear_model.solvers import TRUSTED, crude
from fastgd.linear_model.space import METRIC_COLUMNS, Space
from fastgd.stochastic import HIGHER

# Where a duality gap is not to be had, the minimum of a quadratic model is looked for after every so-many-th step.
LOOKS = 10


def first_order(problem, watch, W, b, *, accelerate, rate=None):
    """Proximal gradient descent in the scaled columns, accelerated (FISTA with adaptive restart) or plain.

    Parameters
    ----------
    rate : callable, optional
        step → learning rate in the scaled columns. Without it 1/L, or what backtracking finds where there is no L.
    """
    space = Space(problem)
    y = space.from_weights(W, b)
    metric = Metric(space, y) if problem.d <= METRIC_COLUMNS else None
    if metric is not None and not problem.has_dual:
        watch.condition, watch.lost = conditioning(space, metric)
    known = problem.has_dual or problem.objective.quadratic
    problem.outside = min(problem.outside, TRUSTED)
    thresholds = space.thresholds()
    bound = _largest_curvature(space)
    bounded = math.isfinite(bound) or rate is not None
    step = 1 / bound if math.isfinite(bound) and bound > 0 else 1.0
    x, t, last, least = y, 1.0, None, math.inf
    value, gradient = space.evaluate(y)
    if not math.isfinite(value):
        watch.end("diverged", "the loss is not finite at the start")
        return space.to_weights(x)
    first = max(value + space.l1_penalty(y), problem.value_at_zero)
    while not watch.out_of_epochs:
        if rate is not None:
            step = rate(watch.epochs)
        new = _prox(y - step * gradient, step * thresholds)
        while not bounded and not _falls_enough(space, y, value, gradient, new, step):
            step /= 2
            if step < 1e-30:
                watch.at_rounding(math.inf if metric is None else metric.gap(gradient))
                return space.to_weights(x)
            new = _prox(y - step * gradient, step * thresholds)
        used = step
        following = new
        if accelerate:
            if np.vdot(y - new, new - x) > 0:
                t = 1.0
            t_next = (1 + math.sqrt(1 + 4 * t * t)) / 2
            following, t = new + (t - 1) / t_next * (new - x), t_next
        last = y, gradient
        x, y = new, following
        step = step if bounded else 1.5 * step
        value, gradient = space.evaluate(y)
        subgradient = space.subgradient(y, gradient)
        total = value + space.l1_penalty(y)
        if rate is not None and total > HIGHER * first + 1e-300:
            total = math.inf  # what has risen so far is lost
        if watch.epoch(*space.to_weights(y), total, space.user_norm(subgradient), used):
            break
        if rate is not None:
            rate.observe(total)
        move = y - last[0]
        length = float(np.vdot(move, move))
        met = float(np.vdot(gradient - last[1], move)) / length if length else 0.0
        least = min(least, met) if met > 0 else least
        if metric is not None:
            estimate = metric.gap(subgradient)
            in_vain = watch.uncertified and not problem.objective.quadratic
            if (not known or in_vain) and watch.would_do(total, estimate):
                # The curvature has changed on the way, and nothing else will tell how far the minimum is.
                metric = Metric(space, y)
                estimate = metric.gap(subgradient)
            if problem.l1 and watch.uncertified and watch.would_do(total, estimate):
                # The shortest subgradient jumps where a weight leaves 0: what it says of the minimum may be far off.
                estimate = math.inf
                if watch.epochs % LOOKS == 0:
                    metric = metric if problem.objective.quadratic else Metric(space, y)
                    estimate = metric.proximal_move(y, gradient)[2]
        else:
            estimate = 0.5 * float(np.vdot(subgradient, subgradient)) / least if math.isfinite(least) else math.inf
        certificate = functools.partial(space.duality_gap, y, gradient)
        if watch.reached(*space.to_weights(y), total, estimate, crude(space, gradient), certificate):
            break
        if not length or float(np.linalg.norm(subgradient)) <= 4 * problem.eps**2:
            watch.at_rounding(estimate)
            break
    return space.to_weights(y)


def _prox(V, thresholds):
    return np.sign(V) * np.maximum(np.abs(V) - thresholds, 0) if thresholds.any() else V


def _falls_enough(space, y, value, gradient, new, step):
    move = new - y
    quadratic = value + float(np.vdot(gradient, move)) + 0.5 * float(np.vdot(move, move)) / step
    return space.value(new) <= quadratic + 8 * np.finfo(np.float64).eps * abs(value)


def _largest_curvature(space):
    """An upper bound of the Hessian's largest eigenvalue by V; inf where there is none."""
    p = space.problem
    found = p.objective.curvature_in(space.shift, space.scale, 1.0).largest
    return found + float(space.ridge().max(initial=0.0))
