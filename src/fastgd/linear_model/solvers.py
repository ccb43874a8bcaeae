"""How a Problem is minimised with full passes over the data. A solver shows its epochs to a Watch and returns weights.

    gram             squared loss, in normal_equations.py: XᵀX once, then refinement by the true residual
    preconditioned   steps in the metric of the curvature of some rows, with the memory of the last ones (L-BFGS)
    accelerated      Nesterov's steps with restart, in centred and scaled columns
    gd               plain steps there

All but the first take an l1 penalty by its proximal map.
"""

import math

import numpy as np

from fastgd.linear_model.problem import METRIC_COLUMNS, Space, sample_rows
from fastgd.linear_model.quadratic import JOINT_WEIGHTS, ROUNDING, Metric
from fastgd.stochastic import HIGHER

MEMORY = 10
# A metric is made anew at a better point, after a step that has not lowered the estimated gap by this factor, once as
# many passes have been spent on the old one as the new one costs; and after the first step, if it costs no more than
# two. So no more than twice the time is spent that would have been best. A metric that costs more is not even made
# before then: a diagonal one will do for columns that are nearly independent.
RENEWAL_GAIN, FREE_RENEWAL = 0.3, 2.0
# The time of a product in BLAS, and of a value in a pass.
PRODUCT_TIME = 1 / 8
SMALL_PRODUCTS = 1e6
SUFFICIENT = 1e-4
LEAST_STEP = 2.0**-40


def preconditioned(problem, watch, W, b):
    """Quasi-Newton descent: w ← w − t·B∇F, B being L-BFGS's update of the inverse curvature of a sample of rows.

    With an l1 penalty each step minimises the quadratic model with the penalty instead (a proximal Newton step).
    """
    space = Space(problem)
    V = space.from_weights(W, b)
    value, gradient = space.evaluate(V)
    price, since, last = _price(space), 0, math.inf
    diagonal = price > FREE_RENEWAL and not problem.l1
    metric = Metric(space, V, diagonal)
    memory = Memory(metric)
    # A relative gap bounds only the root of the weights' error. Where nothing else holds the weights, and steps cost
    # next to nothing, take more of them as long as each gains.
    polish = price == 0 and not problem.has_dual and problem.loss.smooth and watch.tol is not None
    least = 1.0  # the smallest curvature met, in units of the metric
    if not problem.has_dual:
        watch.condition, watch.lost = _condition(space)
    while True:
        if problem.l1:
            move, slope, estimate = metric.proximal_move(V, gradient)
        else:
            toward = metric.solve(gradient)
            estimate = 0.5 * float(np.vdot(gradient, toward)) / least
            move = -memory.apply(gradient)
            slope = float(np.vdot(gradient, move))
        total = value + space.l1_penalty(V)
        quick = polish and estimate <= RENEWAL_GAIN * last and estimate > problem.eps**2 * abs(total)
        if watch.epochs and not quick and watch.reached(*space.to_weights(V), total, estimate, crude(space, gradient)):
            break
        if watch.out_of_epochs:
            break
        found = _line_search(space, V, total, gradient, move, slope, metric) if slope < 0 else None
        if found is None:
            watch.at_rounding(estimate)
            break
        rate, new, new_value, new_gradient = found
        step, change = new - V, new_gradient - gradient
        curvature = float(np.vdot(step, change))
        if curvature > 0:
            memory.add(step, change, curvature)
            least = min(least, max(curvature / metric.square(step), 1e-8))
        V, value, gradient = new, new_value, new_gradient
        norm = space.user_norm(space.subgradient(V, gradient))
        if watch.epoch(*space.to_weights(V), value + space.l1_penalty(V), norm, rate):
            break
        since += 1
        slow = price == 0 or (estimate > RENEWAL_GAIN * last and since >= price)
        if slow or (watch.epochs == 1 and price <= FREE_RENEWAL):
            metric, since = Metric(space, V), 0
            memory, least = Memory(metric), 1.0
            if problem.objective.quadratic:
                price = math.inf  # it would always be the same
        last = estimate
    return space.to_weights(V)


def _condition(space):
    """Condition number of the columns, centred and scaled, and how many directions they lack; (None, 0) unknown.

    Only where the sample is all rows, so that what is collinear in it is so everywhere.
    """
    A = space.sample if space.has_sample and len(space.sample) == space.problem.n else None
    if A is None:
        return None, 0
    A = A[:, : space.problem.d][:, np.isfinite(space.scale)] * np.sqrt(space.sample_weight)[:, None]
    sizes = np.linalg.eigvalsh(A.T @ A)
    lost = int(np.sum(sizes <= len(sizes) * ROUNDING * sizes[-1:]))
    return (math.inf if lost else math.sqrt(sizes[-1] / sizes[0]) if len(sizes) else 1.0), lost


def _price(space):
    """What a metric costs, in passes; inf where there are too many columns for one."""
    p = space.problem
    if not space.has_sample:
        return math.inf
    joint = p.k if p.name == "softmax" and p.k * space.size <= JOINT_WEIGHTS else 1
    products = min(p.n, sample_rows(p.d)) * (joint * space.size) ** 2 / 2 + p.k / joint * (joint * space.size) ** 3 / 6
    if products <= SMALL_PRODUCTS:
        return 0.0
    return PRODUCT_TIME * products / (p.objective.rows.values * p.k)


def crude(space, gradient):
    """About what the duality gap will be at least, where the penalty is l2 alone: ‖∂F/∂W‖²/2·l2."""
    p = space.problem
    if p.l1 or not p.l2:
        return 0.0
    grad_W = gradient[: p.d] * np.where(np.isfinite(space.scale), space.scale, 0.0)[:, None]
    return float(np.sum(grad_W * grad_W)) / (2 * p.l2)


def _line_search(space, V, total, gradient, move, slope, metric):
    """(t, point, value, gradient) with sufficient decrease, halving t; None where rounding hides any."""
    rate, slack = 1.0, 8 * np.finfo(np.float64).eps * abs(total)
    if space.problem.eps > 1e-10:  # weights are rounded to single precision on their way into the kernels
        slack = space.problem.eps * abs(total)
    norm = None
    while rate >= LEAST_STEP:
        new = V + rate * move
        value, new_gradient = space.evaluate(new)
        if math.isfinite(value):
            new_total = value + space.l1_penalty(new)
            if new_total <= total + SUFFICIENT * rate * slope:
                return rate, new, value, new_gradient
            if -rate * slope <= 100 * slack and new_total <= total + slack:
                # The values differ by rounding alone; gradients still tell which point is better.
                norm = metric.length(space, V, gradient) if norm is None else norm
                if metric.length(space, new, new_gradient) < 0.9 * norm:
                    return rate, new, value, new_gradient
                return None
        rate *= 0.5 if math.isfinite(value) else 0.1
    return None


class Memory:
    """The inverse curvature of the metric, corrected by the last steps (Nocedal 1980, the two-loop recursion)."""

    def __init__(self, metric):
        self.metric, self.pairs = metric, []

    def add(self, step, change, curvature):
        self.pairs = [*self.pairs[1 - MEMORY :], (step, change, 1 / curvature)]

    def apply(self, gradient):
        q, scales = gradient, []
        for step, change, inverse in reversed(self.pairs):
            scales.append(inverse * float(np.vdot(step, q)))
            q = q - scales[-1] * change
        q = self.metric.solve(q)
        for (step, change, inverse), scale in zip(self.pairs, reversed(scales), strict=True):
            q = q + (scale - inverse * float(np.vdot(change, q))) * step
        return q


# ------------------------------------------------------------------------------------------------------- first order


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
    known = problem.has_dual or problem.objective.quadratic
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
            if not known and watch.would_do(total, estimate):
                # The curvature has changed on the way, and nothing else will tell how far the minimum is.
                metric = Metric(space, y)
                estimate = metric.gap(subgradient)
        else:
            estimate = 0.5 * float(np.vdot(subgradient, subgradient)) / least if math.isfinite(least) else math.inf
        if watch.reached(*space.to_weights(y), total, estimate, crude(space, gradient)):
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
