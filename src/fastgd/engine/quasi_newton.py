"""Quasi-Newton steps (L-BFGS), preconditioned with the Hessian of a sample of rows."""

import functools
import math

import numpy as np

from fastgd.engine.gap import TRUSTED, newton_note
from fastgd.engine.point import Point
from fastgd.engine.preconditioner import Model, conditioning, is_joint
from fastgd.objective.sample import Sample, sample_rows
from fastgd.objective.standardised import Standardised

# The preconditioner is rebuilt at a better point where the steps that are left, extrapolated from the last ones, would
# cost more than a new preconditioner and steps that each lower the gap to this share of itself; but not before as many
# passes have been spent on the old one as a new one costs, so that the run never costs more than twice the best choice.
# One that costs no more passes than the second number is rebuilt after the first step.
RENEWED_GAIN, FREE_RENEWAL = 0.15, 2.0
# The minimum over every 16th row is found first, if these are at least four times the rows of a preconditioner: it
# costs little, and is as near to the minimum over all rows as a sixteenth of them can tell (Byrd, Chin, Nocedal & Wu,
# Math. Program. 134 (2012)).
FEWER, FEWER_SAMPLES = 16, 4
# Time of a product in BLAS, and of a step beside its pass, in values of X in a pass.
PRODUCT_TIME, STEP_TIME = 1 / 8, 5e5
# The damping of the Hessian where a loss is linear is at least this; see `damped`.
LEAST_DAMPING = 1e-9
# Of an estimate of the gap for a loss that is not convex.
UNSURE = 10
# The share of the decrease that its slope promises, below which a step is too long.
LITTLE = 0.2


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
        monitor.condition, monitor.lost = conditioning(search.sample, search.model.preconditioner)
    toward = getattr(search.model, "toward", None)
    if monitor.tolerates and toward is not None:
        variables.note = newton_note(variables, toward)


class _Search:
    """The state of one descent."""

    def __init__(self, variables, monitor):
        self.variables, self.monitor, self.objective = variables, monitor, variables.objective
        self.sample = Sample(variables)
        o = self.objective
        self.price = _price(o, self.sample, variables.size)
        self.renewable = math.isfinite(self.price) and not o.quadratic
        if monitor.tolerates and self.renewable:
            monitor.gap.wait(self.price)
        self.straight = o.smooth and o.record.straight is not None
        # A relative gap of ε leaves a relative error of about √ε in the weights. Without a penalty, and where a step
        # costs next to nothing, more steps are taken as long as each lowers the gap to 0.3 of itself or less.
        cheap = self.price <= FREE_RENEWAL and o.rows.values * o.rows.k <= STEP_TIME
        self.polish = (cheap or o.quadratic) and not o.has_dual and o.smooth and monitor.tolerates
        self.floor = o.least
        if not o.quadratic and o.least > -math.inf:  # what is below is rounding
            self.floor += o.eps * (o.value_at_zero - o.least)
        self.last = self.first = math.inf
        self.due = False  # whether the preconditioner is to be rebuilt before the next step

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
        self.last, self.first, self.due = kept["last_estimate"], kept["first_estimate"], kept["due"]
        self.model = Model.of(self.sample, kept["model"])

    def _keep(self):
        if self.monitor.keeps(self.point.step):
            self.monitor.keep(
                self.point.step, point=self.point, price=self.price, damping=self.monitor.damping,
                last_estimate=self.last, first_estimate=self.first, due=self.due, model=self.model.state,
            )  # fmt: skip

    def _renew(self):
        self.model.renew(self.point.z, self.monitor.damping)
        self.due = False
        if self.objective.quadratic:
            self.price = math.inf  # it would always be the same

    def is_at_end(self):
        """Whether the run ends at the present point. Rebuilds the preconditioner until its estimate can be trusted."""
        monitor, o, model = self.monitor, self.objective, self.model
        while True:
            self._keep()
            if monitor.ended:
                return True
            point = self.point
            model.look(point.z, point.gradient)
            # A loss that is not convex may fall by several times what its quadratic model promises.
            estimate = model.estimate if o.convex else UNSURE * model.estimate
            bound = self.variables.crude_gap(point.gradient)
            # Where a certificate will tell whether this is the end, no new estimate is needed.
            if self.due and not (bound > 0 and monitor.would_do(point.fun, max(estimate, bound))):
                self._renew()
                continue
            would_do, holds = monitor.would_do(point.fun, estimate), True
            if would_do and model.steps and self.renewable and (monitor.uncertified or not o.has_dual):
                # The curvature has changed since, and no certificate will tell how far the minimum is.
                self._renew()
                continue
            if would_do and self.straight:
                if monitor.damping > TRUSTED:
                    monitor.damping = TRUSTED
                    self._renew()
                    continue
                still = estimate <= 1e-3 * o.eps * abs(point.fun)  # where rounding takes rows to and fro over kinks
                holds = o.has_dual or still or self.sample.bends_alike(point.z, model.toward)
            quick = self.polish and model.estimate <= 0.3 * self.last
            quick = quick and estimate > o.eps**2 * abs(point.fun)
            exact = point.least == 0 or point.fun <= self.floor
            if exact or (point.step and holds and not quick):
                certificate = functools.partial(self.variables.duality_gap, point.z, point.gradient)
                if monitor.reached(point, estimate, bound, certificate):
                    return True
            if self.due or monitor.wants_new_preconditioner():
                self._renew()
                continue
            return monitor.out_of_steps(point)

    def step(self):
        """Take a step; False where the run ends here."""
        monitor, model, point = self.monitor, self.model, self.point
        found = self._line_search()
        if found is None:
            monitor.at_rounding(point, model.estimate)
            if not monitor.wants_new_preconditioner():
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
        monitor.damping = damped(monitor.damping, rate)
        self.first = estimate if model.steps == 1 else self.first
        self.due = self._is_slow(estimate, self.variables.crude_gap(point.gradient), point.fun)
        self.last = estimate
        return True

    def _is_slow(self, estimate, bound, fun):
        """Whether a new preconditioner is likely to cost less than the steps that are left with this one."""
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

    # ---------------------------------------------------------------------------------------------------- line search

    def _line_search(self):
        """(t, point, value, gradient) with sufficient decrease, halving t; None where rounding hides any.

        On a function that is not convex the L-BFGS direction may point uphill, or far too far: then the last steps are
        forgotten, and the direction is that of the preconditioner alone.
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
        while rate >= 2.0**-40:
            new = point.z + rate * move
            fun, gradient = v.evaluate(new)
            if math.isfinite(fun):
                if fun <= point.fun + 1e-4 * rate * slope:  # Armijo's condition
                    found = rate, new, fun, gradient
                    if o.l1 and not o.convex and fun > point.fun + LITTLE * rate * slope:
                        return self._halfway(move, found)
                    # A loss that is linear outside of an interval may fall by nearly all that its slope promises.
                    straight = not o.record.bends_everywhere and fun <= point.fun + 0.9 * rate * slope
                    return self._further(move, found) if straight else found
                if -rate * slope <= doubtful * slack and fun <= point.fun + slack:
                    # The values differ by rounding alone; gradients still tell which point is better.
                    length = self.model.preconditioner.length
                    norm = length(point.z, point.gradient) if norm is None else norm
                    return (rate, new, fun, gradient) if length(new, gradient) < 0.9 * norm else None
            rate *= 0.5 if math.isfinite(fun) else 0.1
        return None

    def _halfway(self, move, found):
        """The lower one of a point and of that of half the rate: steps with an l1 penalty are not corrected by those
        before, and where the model has too little curvature they would go to and fro."""
        rate = 0.5 * found[0]
        new = self.point.z + rate * move
        fun, gradient = self.variables.evaluate(new)
        return (rate, new, fun, gradient) if fun < found[2] else found

    def _further(self, move, found):
        """Steps four times as long, again and again while the value falls: for a loss that was linear on the way."""
        rate = found[0]
        while rate <= 2.0**40:
            rate *= 4.0
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
        if not lower > 1e-8 * point.fun:  # the difference of two nearly equal values: evaluate F instead
            return rate, new, *v.evaluate(new)
        return rate, new, lower, point.gradient + rate * change


def damped(damping, rate):
    """The damping of the next Hessian after a step of `rate` times the proposed one: less after a full step."""
    if rate >= 0.9:
        return max(0.1 * damping, LEAST_DAMPING)
    return min(10 * damping, 1.0) if rate < 0.3 else damping


def _price(o, sample, size):
    """What a preconditioner costs, in steps; inf with too many columns.

    A step is a pass over X, and with an l1 penalty the minimum of the quadratic model too.
    """
    if not sample.exists:
        return math.inf
    k = o.rows.k
    joint = k if is_joint(o, size) else 1
    rows, matrices = min(o.rows.n, sample_rows(o.rows.d)), k / joint
    square = (joint * size) ** 2
    products = rows * square / 2 + matrices * joint * size * square / 6
    # Up to so many products, microseconds or a millisecond, it is rebuilt in each step. A proximal Newton step, and one
    # on a loss with a kink, is not corrected by L-BFGS as well.
    if products <= (1e4 if o.smooth and not o.l1 else 1e6):
        return 0.0
    step = STEP_TIME + o.rows.values * k
    if o.l1:
        step += PRODUCT_TIME * 100 * matrices * square  # some hundred products of a matrix and a vector
    return (PRODUCT_TIME * products + 15 * rows * size * joint) / step  # 15: to centre, scale and weight a value


# ------------------------------------------------------------------------------------------------ from fewer rows first


def from_fewer_rows(variables, monitor):
    """`quasi_newton`, from the minimum over a part of the rows where that is a good start."""
    o = variables.objective
    W, b = variables.to_weights(variables.start)
    few = o.rows.n < FEWER * FEWER_SAMPLES * sample_rows(o.rows.d)
    if monitor.resumed is not None or W.any() or few or not o.convex or (fewer := o.every(FEWER)) is None:
        quasi_newton(variables, monitor)
        return
    rough = Rough(Standardised(fewer, (W, b)))
    from_fewer_rows(rough.variables, rough)
    variables.start = variables.from_weights(*rough.variables.to_weights(rough.at))
    del rough, fewer  # a copy of rows
    quasi_newton(variables, monitor, otherwise=(W, b))


class Rough:
    """The monitor of a minimum over fewer rows, which is found to a tenth of what so few rows can tell, (d + 1)/n."""

    tolerates = uncertified = False
    resumed, damping = None, 1.0

    def __init__(self, variables):
        self.variables, self.ended, self.at = variables, False, variables.start
        o = variables.objective
        self._share = 0.1 * (o.rows.d + 1) / o.rows.n
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
        return point.step >= 30

    def at_rounding(self, point, estimate):
        self.ended = True

    def wants_new_preconditioner(self):
        return False
