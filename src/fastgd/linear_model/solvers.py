"""How a Problem is minimised with full passes over the data. A solver shows its epochs to a Watch and returns weights.

    gram             squared loss, in normal_equations.py: XᵀX once, then refinement by the true residual
    preconditioned   steps in the metric of the curvature of some rows, with the memory of the last ones (L-BFGS)
    accelerated      Nesterov's steps with restart, in centred and scaled columns
    gd               plain steps there

All but the first take an l1 penalty by its proximal map.
"""

import functools
import math

import numpy as np

from fastgd.linear_model.quadratic import JOINT_WEIGHTS, ROUNDING, Metric
from fastgd.linear_model.space import METRIC_COLUMNS, Space, sample_rows
from fastgd.stochastic import HIGHER

MEMORY = 10
# Where straight parts of a loss are made to bend more than this, a metric says nothing of the gap to the minimum.
TRUSTED = 1e-3
# A metric is made anew at a better point where the steps that are left, at the rate of those since it was made, would
# take longer than the new one and steps that each lower the gap by RENEWED_GAIN, once as many passes have been spent on
# the old one as the new one costs; and after the first step, if it costs no more than two. So no more than twice the
# time is spent that would have been best. A metric that costs more is not even made before then: a diagonal one will do
# for columns that are nearly independent.
RENEWED_GAIN, FREE_RENEWAL = 0.15, 2.0
# Where every so-many-th row tells the curvature, the minimum over these rows is found first: that is cheap, and it is
# as near to the minimum over all as one row in so many can tell (Byrd, Chin, Nocedal & Wu, Math. Program. 134 (2012)).
# There must be so many times the rows of a metric among them, or the metric gets as far in the first step.
FEWER, FEWER_METRICS = 16, 4
# Of such a minimum: its share of the relative gap that so few rows leave, d/n, and its epochs.
ROUGH, ROUGH_EPOCHS = 0.1, 30
# A step that gains less than this is no longer worth taking for the digits of the weights.
POLISH_GAIN = 0.3
# The time of a product in BLAS, and of what is done with a value of the sample around it, in values of a pass.
PRODUCT_TIME, SAMPLE_TIME = 1 / 8, 15.0
# And that of a step beside its pass.
STEP_TIME = 5e5
SMALL_PRODUCTS = 1e6
# Products of a matrix and a vector that a step with an l1 penalty takes, about.
PROXIMAL_PRODUCTS = 100
SUFFICIENT = 1e-4
# A loss that falls by this share of what a straight line would is tried with steps that are so many times as long.
STRAIGHT, LONGER = 0.9, 4.0
# Where a duality gap is not to be had, the minimum of a quadratic model is looked for after every so-many-th step.
LOOKS = 10
LEAST_STEP = 2.0**-40
# A loss that falls to this share of itself is looked at, and no longer reckoned.
CANCELLED = 1e-8


def from_fewer_rows(problem, watch, W, b):
    """`preconditioned`, from the minimum over a part of the rows where that is a good start."""
    cold = W, b
    few = problem.n < FEWER * FEWER_METRICS * sample_rows(problem.d)
    if W.any() or few or (fewer := problem.every(FEWER)) is None:
        return preconditioned(problem, watch, *cold)
    found = from_fewer_rows(fewer, Rough(fewer), *cold)
    return preconditioned(problem, watch, *found, otherwise=cold)


class Rough:
    """The Watch of a minimum over fewer rows: what they leave open need not be known better."""

    tol, uncertified = None, False

    def __init__(self, problem):
        self.epochs, self._share = 0, ROUGH * (problem.d + 1) / problem.n

    def epoch(self, W, b, value, norm, rate):
        self.epochs += 1
        return not math.isfinite(value)

    def goal(self, value):
        return self._share * abs(value)

    def reached(self, W, b, value, estimate, crude=0.0, duality_gap=None):
        return estimate <= self.goal(value)

    @property
    def out_of_epochs(self):
        return self.epochs >= ROUGH_EPOCHS

    def bends_otherwise(self):
        return False

    def would_do(self, value, estimate):
        return False

    def at_rounding(self, estimate):
        pass


def preconditioned(problem, watch, W, b, otherwise=None):
    """Quasi-Newton descent: w ← w − t·B∇F, B being L-BFGS's update of the inverse curvature of a sample of rows.

    With an l1 penalty each step minimises the quadratic model with the penalty instead (a proximal Newton step).

    Parameters
    ----------
    otherwise : (W, b), optional
        Where to start if W and b are no better; this W is 0.
    """
    space = Space(problem)
    V = space.from_weights(W, b)
    value, gradient = space.evaluate(V)
    if otherwise is not None and not value + space.l1_penalty(V) < problem.value_at_constant(otherwise[1]):
        V = space.from_weights(*otherwise)
        value, gradient = space.evaluate(V)
    price, since, last, first = _price(space), 0, math.inf, math.inf
    diagonal = price > FREE_RENEWAL and not problem.l1
    metric, memory, least = _anew(space, V, diagonal)
    renewable = math.isfinite(price) and not problem.objective.quadratic
    # A relative gap bounds only the root of the weights' error. Where nothing else holds the weights, and steps cost
    # next to nothing, take more of them as long as each gains.
    cheap = price == 0 and problem.objective.rows.values * problem.k <= STEP_TIME
    polish = (cheap or problem.objective.quadratic) and not problem.has_dual
    polish = polish and problem.loss.smooth and watch.tol is not None
    if not problem.has_dual:
        watch.condition, watch.lost = _condition(space)
    while True:
        if problem.l1:
            move, slope, estimate = metric.proximal_move(V, gradient)
            toward = move
        else:
            toward = -metric.solve(gradient)
            estimate = -0.5 * float(np.vdot(gradient, toward)) / least
            move = -memory.apply(gradient)
            slope = float(np.vdot(gradient, move))
        total, bound = value + space.l1_penalty(V), crude(space, gradient)
        if since and renewable and (watch.uncertified or not problem.has_dual) and watch.would_do(total, estimate):
            # The curvature has changed on the way, and nothing else will tell how far the minimum is.
            (metric, memory, least), since = _anew(space, V), 0
            continue
        holds = True
        if problem.loss.smooth and problem.loss.straight is not None and watch.would_do(total, estimate):
            if problem.outside > TRUSTED:
                problem.outside = TRUSTED
                metric, memory, least = _anew(space, V)
                continue
            holds = problem.has_dual or space.bends_alike(V, toward)
        quick = polish and estimate <= POLISH_GAIN * last and estimate > problem.eps**2 * abs(total)
        if watch.epochs and holds and not quick:
            certificate = functools.partial(space.duality_gap, V, gradient)
            if watch.reached(*space.to_weights(V), total, estimate, bound, certificate):
                break
        if watch.bends_otherwise():
            metric, memory, least = _anew(space, V)
            continue
        if watch.out_of_epochs:
            break
        found = _line_search(space, V, total, gradient, move, slope, metric) if slope < 0 else None
        if found is None:
            watch.at_rounding(estimate)
            if not watch.bends_otherwise():
                break
            metric, memory, least = _anew(space, V)
            continue
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
        problem.bend(rate)
        since += 1
        first = estimate if since == 1 else first
        slow = price == 0 or (since > price and _slow(first, estimate, bound, since - 1, price, watch.goal(total)))
        if slow or (watch.epochs == 1 and price <= FREE_RENEWAL):
            (metric, memory, least), since = _anew(space, V), 0
            if problem.objective.quadratic:
                price = math.inf  # it would always be the same
        last = estimate
    return space.to_weights(V)


def _anew(space, V, diagonal=False):
    """A metric at V, the memory of no step, and the smallest curvature met, in units of the metric."""
    metric = Metric(space, V, diagonal)
    return metric, Memory(metric), 1.0


def _slow(first, estimate, bound, steps, price, goal):
    """Whether a new metric is likely to be the shorter way to the goal, given how the gap fell in the last steps."""
    if not goal > 0 or not estimate <= first:
        return True
    if not steps or estimate == first:
        return False
    to_go = math.log(max(estimate, bound / 2, goal) / goal)
    return to_go * steps / math.log(first / estimate) > price - to_go / math.log(RENEWED_GAIN)


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
    """What a metric costs, in steps: in passes, or more where they have an l1 penalty; inf with too many columns."""
    p = space.problem
    if not space.has_sample:
        return math.inf
    joint = p.k if p.name == "softmax" and p.k * space.size <= JOINT_WEIGHTS else 1
    rows, matrices = min(p.n, sample_rows(p.d)), p.k / joint
    square = (joint * space.size) ** 2
    products = rows * square / 2 + matrices * joint * space.size * square / 6
    if products <= SMALL_PRODUCTS:
        return 0.0
    step = STEP_TIME + p.objective.rows.values * p.k
    if p.l1:
        step += PRODUCT_TIME * PROXIMAL_PRODUCTS * matrices * square
    return (PRODUCT_TIME * products + SAMPLE_TIME * rows * space.size * joint) / step


def crude(space, gradient):
    """About what the duality gap will be at least, where the penalty is l2 alone: ‖∂F/∂W‖²/2·l2."""
    p = space.problem
    if p.l1 or not p.l2:
        return 0.0
    grad_W = gradient[: p.d] * np.where(np.isfinite(space.scale), space.scale, 0.0)[:, None]
    return float(np.sum(grad_W * grad_W)) / (2 * p.l2)


def _line_search(space, V, total, gradient, move, slope, metric):
    """(t, point, value, gradient) with sufficient decrease, halving t; None where rounding hides any."""
    size = max(abs(total), space.problem.least_size)
    rate, slack, doubtful = 1.0, 8 * np.finfo(np.float64).eps * size, 100
    if space.problem.eps > 1e-10:  # weights are rounded to single precision on their way into the kernels
        slack, doubtful = space.problem.eps * size, 10
    if space.problem.objective.quadratic and not space.problem.l1:
        found = _exact_step(space, V, total, gradient, move, slope)
        if -found[0] * slope > 100 * slack:
            return found
    norm = None
    while rate >= LEAST_STEP:
        new = V + rate * move
        value, new_gradient = space.evaluate(new)
        if math.isfinite(value):
            new_total = value + space.l1_penalty(new)
            if new_total <= total + SUFFICIENT * rate * slope:
                found = rate, new, value, new_gradient
                straight = not space.problem.loss.bends_everywhere and new_total <= total + STRAIGHT * rate * slope
                return _further(space, V, new_total, move, found) if straight else found
            if -rate * slope <= doubtful * slack and new_total <= total + slack:
                # The values differ by rounding alone; gradients still tell which point is better.
                norm = metric.length(space, V, gradient) if norm is None else norm
                if metric.length(space, new, new_gradient) < 0.9 * norm:
                    return rate, new, value, new_gradient
                return None
        rate *= 0.5 if math.isfinite(value) else 0.1
    return None


def _further(space, V, total, move, found):
    """Longer steps where the loss fell as if it were straight, as far as they get lower."""
    rate = found[0]
    while rate <= 1 / LEAST_STEP:
        rate *= LONGER
        new = V + rate * move
        value, gradient = space.evaluate(new)
        new_total = value + space.l1_penalty(new)
        if not new_total < total:
            break
        total, found = new_total, (rate, new, value, gradient)
    return found


def _exact_step(space, V, total, gradient, move, slope):
    """The lowest point on the way of a quadratic function: its gradient is known there from those at both ends."""
    change = space.evaluate(V + move)[1] - gradient
    bend = float(np.vdot(move, change))
    if not bend > 0:
        return 0.0, V, total, gradient
    rate = -slope / bend
    new, lower = V + rate * move, total + 0.5 * rate * slope
    if not lower > CANCELLED * total:  # little but the rounding error of what was there is left
        return rate, new, *space.evaluate(new)
    return rate, new, lower, gradient + rate * change


class Memory:
    """The inverse curvature of the metric, corrected by the last steps (Nocedal 1980, the two-loop recursion).

    A diagonal is scaled to the curvature that the last step has met: that of a log loss falls on the way.
    """

    def __init__(self, metric):
        self.metric, self.pairs, self.scale = metric, [], 1.0

    def add(self, step, change, curvature):
        self.pairs = [*self.pairs[1 - MEMORY :], (step, change, 1 / curvature)]
        if not (self.metric.matrices or self.metric.constant):
            self.scale = curvature / float(np.vdot(change, self.metric.solve(change)))

    def apply(self, gradient):
        q, scales = gradient, []
        for step, change, inverse in reversed(self.pairs):
            scales.append(inverse * float(np.vdot(step, q)))
            q = q - scales[-1] * change
        q = self.scale * self.metric.solve(q)
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
