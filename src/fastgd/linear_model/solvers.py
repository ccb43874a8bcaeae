"""How a Problem is minimised with full passes over the data. A solver shows its epochs to a Watch and returns weights.

    gram             squared loss, in normal_equations.py: XᵀX once, then refinement by the true residual
    preconditioned   steps in the metric of the curvature of some rows, with the memory of the last ones (L-BFGS)
    accelerated      Nesterov's steps with restart, in centred and scaled columns, in first_order.py
    gd               plain steps there

All but the first take an l1 penalty by its proximal map.
"""

import functools
import math

import numpy as np

from fastgd.linear_model.quadratic import JOINT_WEIGHTS, Model, conditioning
from fastgd.linear_model.space import Space, sample_rows

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
    price, last, first = _price(space), math.inf, math.inf
    model = Model(space, V, diagonal=price > FREE_RENEWAL and not problem.l1)
    renewable = math.isfinite(price) and not problem.objective.quadratic
    straight = problem.loss.smooth and problem.loss.straight is not None
    # A relative gap bounds only the root of the weights' error. Where nothing else holds the weights, and steps cost
    # next to nothing, take more of them as long as each gains.
    cheap = price == 0 and problem.objective.rows.values * problem.k <= STEP_TIME
    polish = (cheap or problem.objective.quadratic) and not problem.has_dual
    polish = polish and problem.loss.smooth and watch.tol is not None
    while True:
        model.look(V, gradient)
        estimate, total, bound = model.estimate, value + space.l1_penalty(V), crude(space, gradient)
        would_do, holds = watch.would_do(total, estimate), True
        if would_do and model.steps and renewable and (watch.uncertified or not problem.has_dual):
            # The curvature has changed on the way, and nothing else will tell how far the minimum is.
            model.renew(V)
            continue
        if would_do and straight:
            if problem.outside > TRUSTED:
                problem.outside = TRUSTED
                model.renew(V)
                continue
            holds = problem.has_dual or space.bends_alike(V, model.toward)
        quick = polish and estimate <= POLISH_GAIN * last and estimate > problem.eps**2 * abs(total)
        if watch.epochs and holds and not quick:
            certificate = functools.partial(space.duality_gap, V, gradient)
            if watch.reached(*space.to_weights(V), total, estimate, bound, certificate):
                break
        if watch.bends_otherwise():
            model.renew(V)
            continue
        if watch.out_of_epochs:
            break
        found = _line_search(space, V, total, gradient, model) if model.slope < 0 else None
        if found is None:
            watch.at_rounding(estimate)
            if not watch.bends_otherwise():
                break
            model.renew(V)
            continue
        rate, new, new_value, new_gradient = found
        model.took(new - V, new_gradient - gradient)
        V, value, gradient = new, new_value, new_gradient
        norm = space.user_norm(space.subgradient(V, gradient))
        if watch.epoch(*space.to_weights(V), value + space.l1_penalty(V), norm, rate):
            break
        problem.bend(rate)
        steps = model.steps
        first = estimate if steps == 1 else first
        slow = price == 0 or (steps > price and _slow(first, estimate, bound, steps - 1, price, watch.goal(total)))
        if slow or (watch.epochs == 1 and price <= FREE_RENEWAL):
            model.renew(V)
            if problem.objective.quadratic:
                price = math.inf  # it would always be the same
        last = estimate
    if not problem.has_dual:
        watch.condition, watch.lost = conditioning(space, model.metric)
    return space.to_weights(V)


def _slow(first, estimate, bound, steps, price, goal):
    """Whether a new metric is likely to be the shorter way to the goal, given how the gap fell in the last steps."""
    if not goal > 0 or not estimate <= first:
        return True
    if not steps or estimate == first:
        return False
    to_go = math.log(max(estimate, bound / 2, goal) / goal)
    return to_go * steps / math.log(first / estimate) > price - to_go / math.log(RENEWED_GAIN)


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


def _line_search(space, V, total, gradient, model):
    """(t, point, value, gradient) with sufficient decrease, halving t; None where rounding hides any."""
    move, slope, metric = model.move, model.slope, model.metric
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
