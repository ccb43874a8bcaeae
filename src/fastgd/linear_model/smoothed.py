"""Losses with a kink, by smooth ones that come ever nearer: Huber's, which is |r| but within a width t of 0.

    hinge                 max(0, 1 − y·h)   = ½|h − y| + ½(1 − y·h)                for y = −1 or 1
    epsilon-insensitive   max(0, |h − y| − ε) = ½|h − y − ε| + ½|h − y + ε| − ε

Each width is minimised from the minimum of the one before, and the slopes of the smooth loss are a point of the dual of
the one with the kink: the duality gap says when the width is small enough.
"""

import copy
import math

import numpy as np

from fastgd.kernels.reference import HUBER_DELTA, TUBE
from fastgd.linear_model.losses import parabola
from fastgd.linear_model.problem import LEAST_OUTSIDE, LESS, MORE, Problem
from fastgd.linear_model.quadratic import Metric
from fastgd.linear_model.solvers import preconditioned
from fastgd.linear_model.space import Space
from fastgd.objective import LinearObjective

FIRST_WIDTH, NARROWER, LAST_WIDTH = 0.5, 0.2, 1e-9
# A width must be so many rounding errors of the data.
ROUNDINGS = 10
# A width is minimised to this share of what it may be off: its slopes make the dual point, which must nearly balance.
# And to a smaller one where the width is narrow enough and the dual point is still poor.
SHARE, CLOSER = 1e-7, 1e-3
# With an l1 penalty: rows outside of the width that bend more than this hide how far its minimum is.
TELLING = 1e-6


def smoothed(problem, watch, W, b):
    """The minimum of a loss with a kink."""
    spread = 1.0 if problem.name == "hinge" else max(float(np.std(problem.Y)), TUBE)
    width, least = FIRST_WIDTH * spread, max(LAST_WIDTH, ROUNDINGS * problem.eps) * spread
    # The least loss seen, and what the minimum is above for certain, and about.
    lowest, dual, about = math.inf, 0.0, 0.0
    smooth, share = Smooth(problem, width), SHARE
    while not watch.ended:
        level = Level(smooth, watch, share)
        W, b = preconditioned(smooth, level, W, b)
        if watch.ended or watch.out_of_epochs:
            break
        watch.condition, watch.lost = level.condition, level.lost
        value = problem.sums(W, b, want_gradient=False) + problem.penalty(W)
        lowest = min(value, lowest if watch.best is None else watch.best[2])
        # The bound from below of one width is as good as that of any other: the slopes at narrow ones are sensitive.
        if problem.has_dual:
            dual = max(dual, value - smooth.duality_gap(W, b))
        if watch.reached_exactly(lowest, lowest - dual):
            break
        excess = smooth.excess(W, b)
        if problem.has_dual and not level.at_end and watch.would_do(lowest, excess):
            share *= CLOSER  # narrow enough: the slopes are not yet near enough to those at the minimum
            continue
        about = max(about, value - excess - max(level.gap, smooth.gap(W, b)))
        gap = lowest - max(dual, about)
        if watch.reached_exactly(lowest, gap, certified=False):
            break
        if smooth.width <= least:
            _end(watch, problem, lowest, gap)
        smooth, share = Smooth(problem, NARROWER * smooth.width, smooth.outside), SHARE
    return watch.lowest(W, b)


def _end(watch, problem, value, gap):
    """The end at the least width."""
    if not watch.goal(value) or gap <= ROUNDINGS * problem.eps * max(value, problem.value_at_zero):
        watch.at_rounding(gap)
    else:
        watch.end("stalled", f"the gap to the minimum is still {gap / (abs(value) or 1):.1e} of it")


class Smooth:
    """A Problem whose loss has no kink, for `preconditioned`."""

    def __init__(self, problem, width, outside=1.0):
        self.problem, self.width, self.outside = problem, width, outside
        self.least_size = float(problem.k) if problem.name == "hinge" else 0.0
        for name in ("n", "d", "k", "s", "Y", "l1", "l2", "c", "eps", "fit_intercept", "penalty", "name", "factor"):
            setattr(self, name, getattr(problem, name))
        o = problem.objective
        self.unit = HUBER_DELTA / width  # of the kernels' Huber loss
        shifts = (0.0,) if problem.name == "hinge" else (TUBE, -TUBE)
        self._terms = [
            LinearObjective(
                o.X, (self.unit * (self.Y + shift)).astype(o.dtype), loss="huber", fit_intercept=o.fit_intercept,
                sample_weight=o.rows.weights if o.rows.weights.size else None, n_jobs=o.n_jobs,
            )
            for shift in shifts
        ]  # fmt: skip
        self._shifts = shifts
        self.objective = self._terms[0]
        # A proximal step has no memory that would mend a metric in which most rows do not bend at all.
        straight = self._straight if problem.l1 else None
        self.loss = problem.loss._replace(slope=self._slope, curvature=self._curvature, straight=straight)
        if problem.name == "hinge":
            self._mean_xy, self._mean_y = problem.target_means

    scores, bends, bend = Problem.scores, Problem.bends, Problem.bend

    @property
    def has_dual(self):
        return self.problem.has_dual

    @property
    def passes(self):
        return self.problem.passes

    @passes.setter
    def passes(self, number):
        self.problem.passes = number

    def _slope(self, h, y):
        slope = sum(np.clip((h - y - shift) / self.width, -1, 1) for shift in self._shifts) / 2
        return slope - 0.5 * y if self.name == "hinge" else slope

    def _curvature(self, h, y):
        return sum(np.abs(h - y - shift) < self.width for shift in self._shifts) * (0.5 / self.width)

    def _straight(self, h, y):
        return sum(parabola(np.abs(h - y - shift), self.width) for shift in self._shifts) * (0.5 / self.width)

    def gap(self, W, b):
        """About the gap to the minimum of this loss; with an l1 penalty in a metric where rows outside hardly bend."""
        if not self.l1:
            return 0.0
        self.outside, before = LEAST_OUTSIDE, self.outside
        space = Space(self)
        V = space.from_weights(W, b)
        gap = Metric(space, V).proximal_move(V, space.evaluate(V)[1])[2]
        self.outside = min(before, LEAST_OUTSIDE / LESS)
        return gap

    def excess(self, W, b):
        """About how far the minimum of the loss with the kink may be below its value at the minimum of this one.

        Outside of the width the two differ by a constant. Rows that lie on the kink at the one minimum are inside of
        the width at the other, and each has there up to width/4 more than outside.
        """
        h = self.scores(W, b)
        inside = sum(np.abs(h - self.Y - shift) < self.width for shift in self._shifts)
        return self.width / 4 * self.problem.mean(inside)

    def sums(self, W, b, shift=None, want_gradient=True):
        """As Problem.sums."""
        u, factor = self.unit, self.factor / (2 * self.width * self.unit**2)
        value, grad_W, grad_b = 0.0, 0.0, 0.0
        for objective in self._terms:
            self.passes += 1
            dtype = objective.dtype
            found = objective.sums((u * W).astype(dtype), (u * b).astype(dtype), shift, want_gradient)
            value += factor * float(found[0].sum())
            if want_gradient:
                grad_W, grad_b = grad_W + factor * u * found[1], grad_b + factor * u * found[2]
        if self.name == "hinge":
            mean_xy = (
                self._mean_xy if shift is None else self._mean_xy - shift.astype(np.float64)[:, None] * self._mean_y
            )
            value += 0.5 * (self.k - float(np.vdot(W, mean_xy)) - float(b @ self._mean_y))
            if want_gradient:
                grad_W, grad_b = grad_W - 0.5 * mean_xy, grad_b - 0.5 * self._mean_y
            # |r| is underestimated by up to width/2, the whole by half of that.
            value += self.k * self.width / 4
        return (value, grad_W, grad_b) if want_gradient else value

    def duality_gap(self, W, b):
        """Of the loss with the kink, by the slopes of the smooth one."""
        sharp = copy.copy(self.problem)
        sharp.loss = self.loss
        return sharp.duality_gap(W, b)


class Level:
    """The Watch of one width: shows the epochs to the fit's own, with the value of the loss with the kink."""

    def __init__(self, smooth, watch, share):
        self.smooth, self.watch, self.share = smooth, watch, share
        self.epochs, self.ended, self.at_end, self.gap = 0, False, False, math.inf
        self._otherwise = self._no_step = False  # whether another metric is wanted; whether no step fell since the last
        self.condition, self.lost = None, 0

    def epoch(self, W, b, value, norm, rate):
        self.epochs, self._no_step = self.epochs + 1, False
        problem = self.smooth.problem
        value = problem.sums(W, b, want_gradient=False) + problem.penalty(W)
        return self.watch.epoch(W, b, value, norm, rate)

    def goal(self, value):
        smooth = self.smooth
        return max(self.share * smooth.width * smooth.factor * smooth.objective.total_weight, self._rounding(value))

    def _rounding(self, value):
        return np.finfo(np.float64).eps * max(abs(value), self.smooth.least_size)

    def reached(self, W, b, value, estimate, crude=0.0, duality_gap=None):
        self.gap = estimate
        self.ended = estimate <= self.goal(value) or not math.isfinite(value)
        self.at_end = estimate <= self._rounding(value)
        smooth = self.smooth
        if self.ended and smooth.l1 and smooth.outside > TELLING and not self._no_step:
            # Made to bend so much, the rows outside hide how far the minimum is.
            smooth.outside = max(LESS**2 * smooth.outside, TELLING)
            self.ended, self._otherwise = False, True
        return self.ended

    uncertified = False  # what is wanted of a width is no certificate

    def would_do(self, value, estimate):
        return False

    def bends_otherwise(self):
        found, self._otherwise = self._otherwise, False
        return found

    @property
    def out_of_epochs(self):
        return self.watch.out_of_epochs

    def at_rounding(self, estimate):
        self.gap, smooth = estimate, self.smooth
        if smooth.l1 and smooth.outside < 1:  # rows that bend more may let a step fall
            smooth.outside = min(MORE**3 * smooth.outside, 1.0)
            self._otherwise = self._no_step = True
        else:
            self.ended = self.at_end = True
