"""Losses with a kink, through smooth approximations: |r| becomes Huber's loss of a width t, and t falls.

A loss is Σ ½|h − y − shift| + tilt(y)·h + level(y), by its `losses.Smoothing`:

    hinge                 max(0, 1 − y·h)     = ½|h − y| + ½(1 − y·h)                for y = −1 or 1
    epsilon-insensitive   max(0, |h − y| − ε) = ½|h − y − ε| + ½|h − y + ε| − ε

Each width is minimised from the minimum of the one before. The slopes of the smooth loss are a feasible point of the
dual of the loss with the kink: its duality gap says when the width is small enough.
"""

import dataclasses
import math

import numpy as np

from fastgd import losses
from fastgd.engine.point import Point
from fastgd.engine.preconditioner import Preconditioner
from fastgd.engine.quasi_newton import LEAST_DAMPING, quasi_newton
from fastgd.losses.formulas import parabola
from fastgd.objective import certificate
from fastgd.objective.linear import LinearObjective
from fastgd.objective.sample import Sample
from fastgd.objective.standardised import Standardised

# The smallest width is at least this many rounding errors of the data.
ROUNDINGS = 10
# A width is minimised to this share of the error that it makes: the dual point is made of its slopes.
SHARE = 1e-7
# With an l1 penalty: the damping below which the quadratic model shows how far the minimum is, and the number of
# preconditioners after which no other is tried for one width (in float32 they differ by rounding errors).
LOW_DAMPING, MOST_REBUILT = 1e-6, 20
# Steps of one width that have to lower the value.
STEPS = 10


def smoothed(variables, monitor):
    """The minimum of a loss with a kink, convex by h.

    Parameters
    ----------
    variables : Standardised
    """
    o = variables.objective
    spread = float(o.record.smoothing.spread(o.Y.astype(np.float64)))
    least = max(1e-9, ROUNDINGS * o.eps) * spread
    monitor.keeps_best = monitor.score is None  # the values need not fall from step to step
    if kept := monitor.resumed:
        stage = _Stage(variables, monitor, kept["width"], kept["damping"])
        stage.resume(kept)
    else:
        start = monitor.point(0, variables.start, want_fun=True)
        if monitor.see(start, tolerance=False):
            return
        stage = _Stage(variables, monitor, 0.5 * spread, 1.0)
        stage.latest = start
    while not monitor.ended:
        level = stage.descend()
        if monitor.ended or monitor.out_of_steps(stage.latest):
            break
        monitor.condition, monitor.lost = level.condition, level.lost
        if not stage.judge(level) and not monitor.ended:
            if stage.smooth.width <= least:
                _end(monitor, stage)
            stage.narrow()


def _end(monitor, stage):
    """End the run at the smallest width."""
    o, rule, fun = monitor.variables.objective, monitor.gap, stage.lowest
    # An estimate that is below 0 tells of nothing but rounding: the bound is left.
    gap = stage.gap if stage.gap >= 0 else fun - stage.dual
    if monitor.reached_exactly(stage.at, gap, certified=False, how="by an estimate"):
        return
    if not monitor.goal(fun) or gap <= ROUNDINGS * o.eps * max(rule.above_least(fun), rule.scale):
        monitor.at_rounding(stage.latest, gap)
    else:
        monitor.stalled(stage.at, gap)


class _Stage:
    """The sequence of widths.

    Attributes
    ----------
    lowest, dual, about : float
        The lowest value of F so far, the largest dual value (a lower bound of min F), and an estimate of min F
        by the present width.
    latest, at : Point
        The last point, with the value of the loss with the kink; and the lowest one, as its gap is judged.
    """

    def __init__(self, variables, monitor, width, damping):
        self.variables, self.monitor = variables, monitor
        self.lowest, self.dual, self.about, self.gap = math.inf, 0.0, 0.0, math.inf
        self.share, self._resumed, self.z = SHARE, None, variables.start
        self._set(width, damping)

    def _set(self, width, damping):
        self.smooth = SmoothedObjective(self.variables.objective, width)
        self.damping = damping

    def resume(self, kept):
        self.lowest, self.dual, self.about, self.share = (kept[name] for name in ("lowest", "dual", "about", "share"))
        self.latest, self.z, self._resumed = kept["latest"], kept["from"], kept["level"]

    def state(self, level):
        """What a checkpoint keeps while a width is minimised; `level` is the state of that."""
        return {
            "width": self.smooth.width, "damping": self.damping, "lowest": self.lowest, "dual": self.dual,
            "about": self.about, "share": self.share, "latest": self.latest, "from": self.z, "level": level,
        }  # fmt: skip

    def descend(self):
        """Minimise the loss of the present width, in the variables of the loss with the kink."""
        variables = Standardised(self.smooth, self._weights(), like=self.variables)
        level = Level(self, variables, self._resumed)
        self._resumed = None
        quasi_newton(variables, level)
        self.z, self.damping = level.at, level.damping
        return level

    def _weights(self):
        return self.variables.to_weights(self.z)

    def judge(self, level):
        """True if the run ends here, or goes on with the same width."""
        monitor, sharp, smooth, (W, b) = self.monitor, self.variables.objective, self.smooth, self._weights()
        value = self.variables.value(self.z)
        self.lowest = min(value, self.lowest if monitor.best is None or monitor.score is not None else monitor.best.fun)
        # The dual value of any width is a lower bound. That of a narrow one, with sensitive slopes, may be worse.
        if sharp.has_dual:
            self.variables.passes += 3
            self.dual = max(self.dual, value - certificate.duality_gap(sharp, W, b, smooth.dual_record))
        self.at = at = Point(self.latest.step, self.latest.z, self.lowest, self.latest.gradient, least=0.0, norm=0.0)
        if monitor.reached_exactly(at, self.lowest - self.dual, how="by a duality gap"):
            return True
        excess = smooth.excess(W, b)
        if sharp.has_dual and not level.at_end and monitor.would_do(self.lowest, excess):
            self.share *= 1e-3  # the width is small enough, but its minimum is not known well enough for the dual
            return True
        # Not the largest of all widths: a wide one may be flat where rows far from its minimum have their kinks.
        self.about = value - excess - max(level.gap, self._gap_of_width(W, b))
        self.gap = self.lowest - max(self.dual, self.about)
        if self.gap < -ROUNDINGS * sharp.eps * monitor.gap.scale:
            return False  # the minimum is lower than this width says
        if sharp.has_dual and sharp.eps < 1e-10 and not level.settled:
            return False  # where few rows are within the width, a Newton step tells of next to nothing
        return monitor.reached_exactly(at, self.gap, certified=False, how="by an estimate")

    def _gap_of_width(self, W, b):
        """An estimate of the gap to the smooth loss's minimum, by a Hessian of low damping."""
        variables = Standardised(self.smooth, (W, b), like=self.variables)
        model = Preconditioner(Sample(variables), variables.start, damping=LEAST_DAMPING)
        gradient = variables.evaluate(variables.start)[1]
        if not self.smooth.l1:
            move = model.solve(gradient)
            bends = np.all(np.abs(model.multiply(move) - gradient) <= 0.5 * np.max(np.abs(gradient)))
            return 0.5 * float(np.vdot(gradient, move)) if bends else math.inf
        gap = model.proximal_move(variables.start, gradient)[2]
        self.damping = min(self.damping, 10 * LEAST_DAMPING)
        return gap

    def narrow(self):
        self._set(self.smooth.width / 5, self.damping)
        self.share = SHARE


class SmoothedObjective:
    """The smooth approximation of an objective, for `quasi_newton`: Huber losses of shifted targets and a linear term.

    What does not concern the loss is that of the objective.
    """

    convex = True
    # Not called smooth: the curvature is within a width of the kinks, so that a sample tells little of the other rows.
    smooth = quadratic = False
    constant = 0.0

    def __init__(self, objective, width):
        self.sharp, self.width = objective, width
        o = objective
        self._shifts, self._tilt = o.record.smoothing.shifts, o.record.smoothing.tilt
        Y = o.Y.astype(np.float64)
        tilt, level = self._tilt(Y), o.record.smoothing.level(Y)
        self.least_size = float(o.mean(np.abs(level)))
        # Huber's loss over its width is |r| − width/2 outside of the width.
        self._level = float(o.mean(level)) + len(self._shifts) * o.rows.k * width / 4 * o.mass
        self._tilts = o.linear_term(tilt) if tilt.any() else None
        huber = losses.of(losses.Huber(width), "identity")
        self._terms = [
            LinearObjective.of_arrays(
                o.rows, (o.y + o.dtype.type(shift)).astype(o.dtype, copy=False), o.rows.weights, huber,
                fit_intercept=o.fit_intercept, n_jobs=o.n_jobs,
            )
            for shift in self._shifts
        ]  # fmt: skip
        # A proximal Newton step is not corrected by L-BFGS: rows outside of the width must have a curvature, too.
        straight = self._straight if o.l1 else None
        self.dual_record = dataclasses.replace(o.record, slope=self._slope, curvature=self._curvature)
        self.record = dataclasses.replace(self.dual_record, straight=straight, by_pass=None, entropy=False)

    def __getattr__(self, name):
        return getattr(self.sharp, name)

    def _slope(self, h, y):
        return self._tilt(y) + sum(np.clip((h - y - shift) / self.width, -1, 1) for shift in self._shifts) / 2

    def _curvature(self, h, y):
        return sum(np.abs(h - y - shift) < self.width for shift in self._shifts) * (0.5 / self.width)

    def _straight(self, h, y):
        return sum(parabola(np.abs(h - y - shift), self.width) for shift in self._shifts) * (0.5 / self.width)

    def excess(self, W, b):
        """An estimate of F(W, b) − min F for the loss with the kink, (W, b) being the minimum of the smooth one.

        Outside of the width the two losses differ by a constant. Rows that are on the kink at the one minimum are
        within the width, or not far from it, at the other, where each contributes up to width/4 more than outside.
        """
        h = self.scores(W, b)
        inside = sum(np.abs(h - self.Y - shift) < 2 * self.width for shift in self._shifts)
        return self.width / 4 * self.mean(inside)

    def sums(self, W, b, shift=None, gradient=True):
        """As `LinearObjective.sums`. Huber's loss over its width is |r| less width/2, where it is linear."""
        factor = 1 / (2 * self.width)
        value, grad_W, grad_b = 0.0, 0.0, 0.0
        for term in self._terms:
            found = term.sums(W, b, shift, gradient)
            value += factor * (found[0] if gradient else found)
            if gradient:
                grad_W, grad_b = grad_W + factor * found[1], grad_b + factor * found[2]
        value += self._level
        if self._tilts is not None:
            by_W, by_b = self._tilts
            by_W = by_W if shift is None else by_W - shift.astype(np.float64)[:, None] * by_b
            value += float(np.vdot(W, by_W)) + float(b @ by_b)
            if gradient:
                grad_W, grad_b = grad_W + by_W, grad_b + by_b
        return (value, grad_W, grad_b) if gradient else value

    @property
    def least(self):
        return 0.0


class Level:
    """The monitor of one width: shows each step to the monitor of the run, with the value of the loss with the kink."""

    uncertified = tolerates = False  # the certificate is that of the loss with the kink

    def __init__(self, stage, variables, resumed):
        self.stage, self.variables, self.monitor, self.resumed = stage, variables, stage.monitor, None
        self.smooth, self.share = stage.smooth, stage.share
        self.ended = self.at_end = False
        self.damping, self.gap, self.at = stage.damping, math.inf, variables.start
        # Whether a new preconditioner is wanted; whether no step has lowered the value since the last one.
        self._otherwise = self._no_step = False
        self.settled = self._whole = True  # whether the last two steps were as long as the model proposed
        self.condition, self.lost, self._rebuilt, self._low = None, 0, 0, []
        self._before = stage.latest.step  # steps of the run before this width, whose points are numbered from 0
        if resumed is not None:
            self._otherwise, self._no_step = resumed["otherwise"], resumed["no_step"]
            self._low = list(resumed["low"])
            self.settled, self._whole = resumed["settled"], resumed["whole"]
            self._before, self.resumed = resumed["before"], resumed["search"]
            self.at = self.resumed["point"].z

    def point(self, step, z, want_fun=True):
        return Point(step, z, *self.variables.evaluate(z))

    def evaluated(self, step, z, fun, gradient):
        return Point(step, z, fun, gradient)

    def keeps(self, step):
        return self.monitor.keeps(self._before + step)

    def keep(self, step, **state):
        level = {
            "search": state, "otherwise": self._otherwise, "no_step": self._no_step, "before": self._before,
            "low": self._low[-5 * STEPS - 1 :], "settled": self.settled, "whole": self._whole,
        }  # fmt: skip
        self.monitor.keep(self._before + step, **self.stage.state(level))

    def took(self, step, lr):
        self.settled = lr >= 0.9 and self._whole
        self._whole = lr >= 0.9
        self.monitor.took(self._before + step, lr)

    def see(self, point, tolerance=False):
        if not point.step:
            return False
        self.at, self._no_step = point.z, False
        self._low.append(min(point.fun, self._low[-1] if self._low else math.inf))
        # The gradient shown is that of the smooth loss: at a minimum on the kink there is no other that is small.
        value = self.stage.variables.value(point.z)
        shown = self.monitor.evaluated(self._before + point.step, point.z, value, point.gradient)
        self.stage.latest = shown
        self.ended = self.monitor.see(shown, tolerance=False)
        if self._fallen(STEPS) <= self.smooth.eps * max(abs(point.fun), self.smooth.least_size):
            self.ended = self.at_end = True  # the steps are of rounding errors
        elif self._fallen(5 * STEPS) <= 0.01 * self.monitor.goal(self._low[-1]):
            # A narrower width is worth more; but what is left of this one is not known.
            self.ended, self.at_end, self.gap = True, True, math.inf
        return self.ended

    def _fallen(self, steps):
        """By how much the value has fallen in the last steps; inf before there are so many."""
        return self._low[-1 - steps] - self._low[-1] if len(self._low) > steps else math.inf

    def goal(self, fun):
        smooth = self.smooth
        return max(self.share * smooth.width * smooth.mass, self._rounding(fun))

    def _rounding(self, fun):
        return np.finfo(np.float64).eps * max(abs(fun), self.smooth.least_size)

    def would_do(self, fun, estimate):
        return False

    def reached(self, point, estimate, crude=0.0, certificate=None):
        self.gap = estimate
        self.ended = estimate <= self.goal(point.fun) or not math.isfinite(point.fun)
        self.at_end = estimate <= self._rounding(point.fun)
        rebuild = self.smooth.l1 and self._rebuilt < MOST_REBUILT and not self._no_step
        if self.ended and rebuild and self.damping > LOW_DAMPING:
            # With so much damping the rows outside of the width hide how far the minimum is.
            self.damping = max(0.01 * self.damping, LOW_DAMPING)
            self.ended, self._otherwise = False, True
        return self.ended

    def wants_new_preconditioner(self):
        found, self._otherwise = self._otherwise, False
        self._rebuilt += found
        return found

    def out_of_steps(self, point):
        return self.monitor.out_of_steps(self.stage.latest)

    def at_rounding(self, point, estimate):
        self.gap = estimate
        if self.smooth.l1 and self.damping < 1 and self._rebuilt < MOST_REBUILT:  # a step may lower F with more of it
            self.damping = min(1000 * self.damping, 1.0)
            self._otherwise = self._no_step = True
        else:
            self.ended = self.at_end = True
