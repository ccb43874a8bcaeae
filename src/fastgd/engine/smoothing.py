"""Losses with a kink, by smooth ones that come ever nearer: Huber's, which is |r| but within a width t of 0.

A loss is Σ ½|h − y − shift| + tilt(y)·h + level(y), by its `losses.Smoothing`:

    hinge                 max(0, 1 − y·h)     = ½|h − y| + ½(1 − y·h)                for y = −1 or 1
    epsilon-insensitive   max(0, |h − y| − ε) = ½|h − y − ε| + ½|h − y + ε| − ε

Each width is minimised from the minimum of the one before, and the slopes of the smooth loss are a point of the dual of
the one with the kink: the duality gap says when the width is small enough.
"""

import dataclasses
import math

import numpy as np

from fastgd import losses
from fastgd.engine.metric import Metric
from fastgd.engine.point import Point
from fastgd.engine.quasi_newton import LEAST_DAMPING, LESS, MORE, quasi_newton
from fastgd.losses.formulas import parabola
from fastgd.objective import certificate
from fastgd.objective.linear import LinearObjective
from fastgd.objective.sample import Sample
from fastgd.objective.standardised import Standardised

FIRST_WIDTH, NARROWER, LAST_WIDTH = 0.5, 0.2, 1e-9
# A width must be so many rounding errors of the data.
ROUNDINGS = 10
# A width is minimised to this share of what it may be off: its slopes make the dual point, which must nearly balance.
# And to a smaller one where the width is narrow enough and the dual point is still poor.
SHARE, CLOSER = 1e-7, 1e-3
# With an l1 penalty: rows outside of the width that bend more than this hide how far its minimum is.
TELLING = 1e-6
# More metrics than this are not tried for one width: in float32 they only tell of rounding.
METRICS = 20
# So many steps that leave the value as it is are of rounding.
SAME = 10


def smoothed(variables, monitor):
    """The minimum of a loss with a kink, convex by h.

    Parameters
    ----------
    variables : Standardised
    """
    o = variables.objective
    spread = float(o.record.smoothing.spread(o.Y.astype(np.float64)))
    least = max(LAST_WIDTH, ROUNDINGS * o.eps) * spread
    monitor.keeps_best = monitor.score is None  # the values need not fall from step to step
    if kept := monitor.resumed:
        stage = _Stage(variables, monitor, kept["width"], kept["damping"])
        stage.resume(kept)
    else:
        start = monitor.point(0, variables.start, want_fun=True)
        if monitor.see(start, tolerance=False):
            return
        stage = _Stage(variables, monitor, FIRST_WIDTH * spread, 1.0)
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
    """The end at the least width."""
    o, rule, gap, fun = monitor.variables.objective, monitor.gap, stage.gap, stage.lowest
    if not monitor.goal(fun) or gap <= ROUNDINGS * o.eps * max(rule.above_least(fun), rule.scale):
        monitor.at_rounding(stage.latest, gap)
    else:
        monitor.stalled(stage.latest, gap)


class _Stage:
    """One width after the other.

    Attributes
    ----------
    lowest, dual, about : float
        The least value seen, and what the minimum is above for certain, and about.
    latest : Point
        In the value of the loss with the kink.
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
        """Minimise the present width."""
        # In the variables of the loss with the kink: these depend on columns and penalty alone.
        variables = Standardised(self.smooth, self._weights(), like=self.variables)
        level = Level(self, variables, self._resumed)
        self._resumed = None
        quasi_newton(variables, level)
        self.z, self.damping = level.at, level.damping
        return level

    def _weights(self):
        return self.variables.to_weights(self.z)

    def judge(self, level):
        """Whether the run ends here, or goes on with the same width."""
        monitor, sharp, smooth, (W, b) = self.monitor, self.variables.objective, self.smooth, self._weights()
        value = self.variables.value(self.z)
        self.lowest = min(value, self.lowest if monitor.best is None or monitor.score is not None else monitor.best.fun)
        # The bound from below of one width is as good as that of any other: the slopes at narrow ones are sensitive.
        if sharp.has_dual:
            self.variables.passes += 3
            self.dual = max(self.dual, value - certificate.duality_gap(sharp, W, b, smooth.dual_record))
        at = Point(self.latest.step, self.latest.z, self.lowest, self.latest.gradient, least=0.0, norm=0.0)
        if monitor.reached_exactly(at, self.lowest - self.dual, how="by a duality gap"):
            return True
        excess = smooth.excess(W, b)
        if sharp.has_dual and not level.at_end and monitor.would_do(self.lowest, excess):
            self.share *= CLOSER  # narrow enough: the slopes are not yet near enough to those at the minimum
            return True
        self.about = max(self.about, value - excess - max(level.gap, self._gap_of_width(W, b)))
        self.gap = self.lowest - max(self.dual, self.about)
        return monitor.reached_exactly(at, self.gap, certified=False, how="by an estimate")

    def _gap_of_width(self, W, b):
        """About the gap to the minimum of the smooth loss, with an l1 penalty in a metric where rows outside of the
        width hardly bend."""
        if not self.smooth.l1:
            return 0.0
        variables = Standardised(self.smooth, (W, b), like=self.variables)
        metric = Metric(Sample(variables), variables.start, damping=LEAST_DAMPING)
        gap = metric.proximal_move(variables.start, variables.evaluate(variables.start)[1])[2]
        self.damping = min(self.damping, LEAST_DAMPING / LESS)
        return gap

    def narrow(self):
        self._set(NARROWER * self.smooth.width, self.damping)
        self.share = SHARE


class SmoothedObjective:
    """An objective whose loss has no kink, as `quasi_newton` takes it: Huber losses of shifted targets, and a linear
    term."""

    convex = True
    smooth = quadratic = False  # rows bend near their kinks alone, so that some of them say little of the others
    constant = 0.0

    def __init__(self, objective, width):
        self.sharp, self.width = objective, width
        o = objective
        for name in (
            "rows",
            "Y",
            "l1",
            "l2",
            "eps",
            "fit_intercept",
            "dtype",
            "mass",
            "sample_weight",
            "has_dual",
            "best_constant",
            "value_at_constant",
            "scores",
            "mean",
            "gram",
            "total_weight",
            "every",
        ):
            setattr(self, name, getattr(o, name))  # fmt: skip
        self._shifts, self._tilt = o.record.smoothing.shifts, o.record.smoothing.tilt
        Y = o.Y.astype(np.float64)
        tilt, level = self._tilt(Y), o.record.smoothing.level(Y)
        self.least_size = float(o.mean(np.abs(level)))
        # Each |r| is underestimated by up to width/2, and its half by half of that.
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
        # A proximal step has no memory that would mend a metric in which most rows do not bend at all.
        straight = self._straight if o.l1 else None
        self.dual_record = dataclasses.replace(o.record, slope=self._slope, curvature=self._curvature)
        self.record = dataclasses.replace(self.dual_record, straight=straight, by_pass=None, entropy=False)

    def penalty(self, W):
        return self.sharp.penalty(W)

    def _slope(self, h, y):
        return self._tilt(y) + sum(np.clip((h - y - shift) / self.width, -1, 1) for shift in self._shifts) / 2

    def _curvature(self, h, y):
        return sum(np.abs(h - y - shift) < self.width for shift in self._shifts) * (0.5 / self.width)

    def _straight(self, h, y):
        return sum(parabola(np.abs(h - y - shift), self.width) for shift in self._shifts) * (0.5 / self.width)

    def excess(self, W, b):
        """About how far the minimum of the loss with the kink may be below its value at the minimum of this one.

        Outside of the width the two differ by a constant. Rows that lie on the kink at the one minimum are inside of
        the width at the other, and each has there up to width/4 more than outside.
        """
        h = self.scores(W, b)
        inside = sum(np.abs(h - self.Y - shift) < self.width for shift in self._shifts)
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
    """The monitor of one width: shows the steps to the run's own, with the value of the loss with the kink."""

    uncertified = tolerates = False  # what is wanted of a width is no certificate

    def __init__(self, stage, variables, resumed):
        self.stage, self.variables, self.monitor, self.resumed = stage, variables, stage.monitor, None
        self.smooth, self.share = stage.smooth, stage.share
        self.ended = self.at_end = False
        self.damping, self.gap, self.at = stage.damping, math.inf, variables.start
        self._otherwise = self._no_step = False  # whether another metric is wanted; whether no step fell since the last
        self.condition, self.lost, self._metrics, self._same, self._fun = None, 0, 0, 0, None
        self._before = stage.latest.step  # steps of the run before this width, whose points are numbered from 0
        if resumed is not None:
            self._otherwise, self._no_step = resumed["otherwise"], resumed["no_step"]
            self._before, self.resumed = resumed["before"], resumed["search"]
            self.at = self.resumed["point"].z

    def point(self, step, z, want_fun=True):
        return Point(step, z, *self.variables.evaluate(z))

    def evaluated(self, step, z, fun, gradient):
        return Point(step, z, fun, gradient)

    def keeps(self, step):
        return self.monitor.keeps(self._before + step)

    def keep(self, step, **state):
        level = {"search": state, "otherwise": self._otherwise, "no_step": self._no_step, "before": self._before}
        self.monitor.keep(self._before + step, **self.stage.state(level))

    def took(self, step, lr):
        self.monitor.took(self._before + step, lr)

    def see(self, point, tolerance=False):
        if not point.step:
            return False
        self.at, self._no_step = point.z, False
        self._same = self._same + 1 if point.fun == self._fun else 0
        self._fun = point.fun
        # The gradient shown is that of the smooth loss: at a minimum on the kink there is no other that is small.
        value = self.stage.variables.value(point.z)
        shown = self.monitor.evaluated(self._before + point.step, point.z, value, point.gradient)
        self.stage.latest = shown
        self.ended = self.monitor.see(shown, tolerance=False)
        if self._same == SAME:
            self.ended = self.at_end = True
        return self.ended

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
        if self.ended and self.smooth.l1 and self.damping > TELLING and not self._no_step and self._metrics < METRICS:
            # Made to bend so much, the rows outside hide how far the minimum is.
            self.damping = max(LESS**2 * self.damping, TELLING)
            self.ended, self._otherwise = False, True
        return self.ended

    def wants_another_metric(self):
        found, self._otherwise = self._otherwise, False
        self._metrics += found
        return found

    def out_of_steps(self, point):
        return self.monitor.out_of_steps(self.stage.latest)

    def at_rounding(self, point, estimate):
        self.gap = estimate
        if self.smooth.l1 and self.damping < 1 and self._metrics < METRICS:  # rows that bend more may let a step fall
            self.damping = min(MORE**3 * self.damping, 1.0)
            self._otherwise = self._no_step = True
        else:
            self.ended = self.at_end = True
