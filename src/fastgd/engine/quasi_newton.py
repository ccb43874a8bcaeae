"""Quasi-Newton descent in the metric of the curvature of some rows, with the memory of the last steps (L-BFGS)."""

import functools
import math

import numpy as np

from fastgd.engine.gap import TRUSTED
from fastgd.engine.metric import Model, conditioning, is_joint
from fastgd.engine.point import Point
from fastgd.objective.sample import Sample, sample_rows
from fastgd.objective.standardised import Standardised

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
# Of such a minimum: its share of the relative gap that so few rows leave, d/n, and its steps.
ROUGH, ROUGH_STEPS = 0.1, 30
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
# How much of a loss's linear parts is made to bend: less where full steps fall, more where short ones.
FULL_STEP, SHORT_STEP = 0.9, 0.3
LESS, MORE, LEAST_DAMPING = 0.1, 10.0, 1e-9


def quasi_newton(variables, monitor, otherwise=None):
    """w ← w − t·B∇F, B being L-BFGS's update of the inverse curvature of a sample of rows.

    With an l1 penalty each step minimises the quadratic model with the penalty instead (a proximal Newton step).

    Parameters
    ----------
    variables : Standardised
    otherwise : (W, b), optional
        Where to start if `variables.start` is no better; this W is 0.
    """
    search = _Search(variables, monitor)
    if monitor.resumed is None:
        search.begin(otherwise)
    else:
        search.resume(monitor.resumed)
    while not search.is_at_end():
        if not search.step():
            break
    if not variables.objective.has_dual:
        monitor.condition, monitor.lost = conditioning(search.sample, search.model.metric)
    toward = getattr(search.model, "toward", None)
    if monitor.tolerates and toward is not None:
        left = float(np.max(np.abs(variables.to_weights(toward)[0]), initial=0.0))
        variables.note = f". A Newton step from here would change the weights by up to {left:.1e}"


class _Search:
    """The state of one descent."""

    def __init__(self, variables, monitor):
        self.variables, self.monitor, self.objective = variables, monitor, variables.objective
        self.sample = Sample(variables)
        o = self.objective
        self.price = _price(o, self.sample, variables.size)
        self.renewable = math.isfinite(self.price) and not o.quadratic
        self.straight = o.smooth and o.record.straight is not None
        # A relative gap bounds only the root of the weights' error. Where nothing else holds the weights, and steps
        # cost next to nothing, take more of them as long as each gains.
        cheap = self.price == 0 and o.rows.values * o.rows.k <= STEP_TIME
        self.polish = (cheap or o.quadratic) and not o.has_dual and o.smooth and monitor.tolerates
        self.last = self.first = math.inf

    def begin(self, otherwise):
        monitor, o = self.monitor, self.objective
        self.point = monitor.point(0, self.variables.start, want_fun=True)
        if otherwise is not None and not self.point.fun < o.value_at_constant(otherwise[1]):
            self.point = monitor.point(0, self.variables.from_weights(*otherwise), want_fun=True)
        diagonal = self.price > FREE_RENEWAL and not o.l1
        self.model = Model(self.sample, self.point.z, diagonal, monitor.damping)
        monitor.see(self.point, tolerance=False)

    def resume(self, kept):
        self.point, self.price, self.monitor.damping = kept["point"], kept["price"], kept["damping"]
        self.last, self.first = kept["last_estimate"], kept["first_estimate"]
        self.model = Model.of(self.sample, kept["model"])

    def _keep(self):
        if self.monitor.keeps(self.point.step):
            self.monitor.keep(
                self.point.step, point=self.point, price=self.price, damping=self.monitor.damping,
                last_estimate=self.last, first_estimate=self.first, model=self.model.state,
            )  # fmt: skip

    def _renew(self):
        self.model.renew(self.point.z, self.monitor.damping)

    def is_at_end(self):
        """Whether the run ends at the present point; makes another metric until the model can tell."""
        monitor, o, model = self.monitor, self.objective, self.model
        while True:
            self._keep()
            if monitor.ended:
                return True
            point = self.point
            model.look(point.z, point.gradient)
            estimate, bound = model.estimate, self.variables.crude_gap(point.gradient)
            would_do, holds = monitor.would_do(point.fun, estimate), True
            if would_do and model.steps and self.renewable and (monitor.uncertified or not o.has_dual):
                # The curvature has changed on the way, and nothing else will tell how far the minimum is.
                self._renew()
                continue
            if would_do and self.straight:
                if monitor.damping > TRUSTED:
                    monitor.damping = TRUSTED
                    self._renew()
                    continue
                holds = o.has_dual or self.sample.bends_alike(point.z, model.toward)
            quick = self.polish and estimate <= POLISH_GAIN * self.last
            quick = quick and estimate > o.eps**2 * abs(point.fun)
            exact = point.least == 0 or point.fun <= o.least
            if (point.step or exact) and holds and not quick:
                certificate = functools.partial(self.variables.duality_gap, point.z, point.gradient)
                if monitor.reached(point, estimate, bound, certificate):
                    return True
            if monitor.wants_another_metric():
                self._renew()
                continue
            return monitor.out_of_steps(point)

    def step(self):
        """Take a step; False where the run ends here."""
        monitor, model, point = self.monitor, self.model, self.point
        found = self._line_search()
        if found is None:
            monitor.at_rounding(point, model.estimate)
            if not monitor.wants_another_metric():
                return False
            self._renew()
            return True
        rate, z, fun, gradient = found
        monitor.took(point.step, rate)
        new = monitor.evaluated(point.step + 1, z, fun, gradient)
        model.took(new.z - point.z, new.gradient - point.gradient)
        estimate, self.point = model.estimate, new
        if monitor.see(new, tolerance=False):
            return False
        self._damp(rate)
        self.first = estimate if model.steps == 1 else self.first
        if self._is_slow(estimate, self.variables.crude_gap(point.gradient), point.fun):
            self._renew()
            if self.objective.quadratic:
                self.price = math.inf  # it would always be the same
        self.last = estimate
        return True

    def _is_slow(self, estimate, bound, fun):
        """Whether a new metric is likely to be the shorter way to the goal, given how the gap fell in late steps."""
        steps, price, goal = self.model.steps, self.price, self.monitor.goal(fun)
        if price == 0 or (self.point.step == 1 and price <= FREE_RENEWAL):
            return True
        if steps <= price:
            return False
        if not goal > 0 or not estimate <= self.first:
            return True
        if steps == 1 or estimate == self.first:
            return False
        to_go = math.log(max(estimate, bound / 2, goal) / goal)
        return to_go * (steps - 1) / math.log(self.first / estimate) > price - to_go / math.log(RENEWED_GAIN)

    def _damp(self, rate):
        """Change the damping of the next metrics by what came of the last step."""
        monitor = self.monitor
        if rate >= FULL_STEP:
            monitor.damping = max(LESS * monitor.damping, LEAST_DAMPING)
        elif rate < SHORT_STEP:
            monitor.damping = min(MORE * monitor.damping, 1.0)

    # ---------------------------------------------------------------------------------------------------- line search

    def _line_search(self):
        """(t, point, value, gradient) with sufficient decrease, halving t; None where rounding hides any.

        On a function that is not convex the memory may point uphill, or far too far: then it is dropped, and the step
        is that of the metric alone.
        """
        model, point = self.model, self.point
        found = self._along(model.move, model.slope) if model.slope < 0 else None
        if found is None and not self.objective.convex and model.memory.pairs:
            model.forget()
            model.look(point.z, point.gradient)
            found = self._along(model.move, model.slope) if model.slope < 0 else None
        return found

    def _along(self, move, slope):
        o, v, point = self.objective, self.variables, self.point
        size = max(abs(point.fun), o.least_size)
        rate, slack, doubtful = 1.0, 8 * np.finfo(np.float64).eps * size, 100
        if o.eps > 1e-10:  # weights are rounded to single precision on their way into the kernels
            slack, doubtful = o.eps * size, 10
        if o.quadratic and not o.l1:
            found = self._exact_step(move, slope)
            if -found[0] * slope > 100 * slack:
                return found
        norm = None
        while rate >= LEAST_STEP:
            new = point.z + rate * move
            fun, gradient = v.evaluate(new)
            if math.isfinite(fun):
                if fun <= point.fun + SUFFICIENT * rate * slope:
                    found = rate, new, fun, gradient
                    straight = not o.record.bends_everywhere and fun <= point.fun + STRAIGHT * rate * slope
                    return self._further(move, found) if straight else found
                if -rate * slope <= doubtful * slack and fun <= point.fun + slack:
                    # The values differ by rounding alone; gradients still tell which point is better.
                    metric = self.model.metric
                    norm = metric.length(point.z, point.gradient) if norm is None else norm
                    return (rate, new, fun, gradient) if metric.length(new, gradient) < 0.9 * norm else None
            rate *= 0.5 if math.isfinite(fun) else 0.1
        return None

    def _further(self, move, found):
        """Longer steps where the loss fell as if it were straight, as far as they get lower."""
        rate = found[0]
        while rate <= 1 / LEAST_STEP:
            rate *= LONGER
            new = self.point.z + rate * move
            fun, gradient = self.variables.evaluate(new)
            if not fun < found[2]:
                break
            found = rate, new, fun, gradient
        return found

    def _exact_step(self, move, slope):
        """The lowest point on the way of a quadratic function: its gradient is known there from those at both ends."""
        v, point = self.variables, self.point
        change = v.evaluate(point.z + move)[1] - point.gradient
        bend = float(np.vdot(move, change))
        if not bend > 0:
            return 0.0, point.z, point.fun, point.gradient
        rate = -slope / bend
        new, lower = point.z + rate * move, point.fun + 0.5 * rate * slope
        if not lower > CANCELLED * point.fun:  # little but the rounding error of what was there is left
            return rate, new, *v.evaluate(new)
        return rate, new, lower, point.gradient + rate * change


def _price(o, sample, size):
    """What a metric costs, in steps: in passes, or more where they have an l1 penalty; inf with too many columns."""
    if not sample.exists:
        return math.inf
    k = o.rows.k
    joint = k if is_joint(o, size) else 1
    rows, matrices = min(o.rows.n, sample_rows(o.rows.d)), k / joint
    square = (joint * size) ** 2
    products = rows * square / 2 + matrices * joint * size * square / 6
    if products <= SMALL_PRODUCTS:
        return 0.0
    step = STEP_TIME + o.rows.values * k
    if o.l1:
        step += PRODUCT_TIME * PROXIMAL_PRODUCTS * matrices * square
    return (PRODUCT_TIME * products + SAMPLE_TIME * rows * size * joint) / step


# ------------------------------------------------------------------------------------------------ from fewer rows first


def from_fewer_rows(variables, monitor):
    """`quasi_newton`, from the minimum over a part of the rows where that is a good start."""
    o = variables.objective
    W, b = variables.to_weights(variables.start)
    few = o.rows.n < FEWER * FEWER_METRICS * sample_rows(o.rows.d)
    if monitor.resumed is not None or W.any() or few or not o.convex or (fewer := o.every(FEWER)) is None:
        quasi_newton(variables, monitor)
        return
    rough = Rough(Standardised(fewer, (W, b)))
    from_fewer_rows(rough.variables, rough)
    variables.start = variables.from_weights(*rough.variables.to_weights(rough.at))
    del rough, fewer  # a copy of rows
    quasi_newton(variables, monitor, otherwise=(W, b))


class Rough:
    """The monitor of a minimum over fewer rows: what they leave open need not be known better."""

    tolerates = uncertified = False
    resumed, damping = None, 1.0

    def __init__(self, variables):
        self.variables, self.ended, self.at = variables, False, variables.start
        o = variables.objective
        self._share = ROUGH * (o.rows.d + 1) / o.rows.n
        self.condition = self.lost = None

    def point(self, step, z, want_fun=True):
        return Point(step, z, *self.variables.evaluate(z))

    def evaluated(self, step, z, fun, gradient):
        return Point(step, z, fun, gradient)

    def see(self, point, tolerance=False):
        self.at, self.ended = point.z, not point.finite
        return self.ended

    def keeps(self, step):
        return False

    def took(self, step, lr):
        pass

    def would_do(self, fun, estimate):
        return False

    def goal(self, fun):
        return self._share * abs(fun)

    def reached(self, point, estimate, crude=0.0, certificate=None):
        self.ended = estimate <= self.goal(point.fun)
        return self.ended

    def out_of_steps(self, point):
        return point.step >= ROUGH_STEPS

    def at_rounding(self, point, estimate):
        self.ended = True

    def wants_another_metric(self):
        return False
