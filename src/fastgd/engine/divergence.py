"""Distinguishes a run that diverges from one whose value rises for some steps only."""

import typing

import numpy as np

from fastgd.linalg import euclidean_norm


class Patience(typing.NamedTuple):
    """A run diverges after `steps` overshooting steps in a row, over which the gradient norm has grown by the factor
    `growth`, if its value is above the first."""

    steps: int
    growth: float
    sentence: str


# A step overshoots if the new gradient points back. If the gradient is longer, too, the curvature along it is above
# 2/η: that may happen a few times on the way into a valley.
OF_DESCENT = Patience(5, 100.0, "each step overshoots further than the last")
# With momentum or rates for each coordinate the value may rise for some steps: counted are steps on which the gradient
# grows.
OF_RULES_THAT_RISE = Patience(10, 1e4, "the gradient grows with each step")
# Stochastic steps diverge if the value is above this multiple of the first; above the second multiple for rules under
# which it may rise, or a rate that falls.
HIGHER, HIGHER_WHILE = 10.0, 1e4


def patience(rule):
    return OF_RULES_THAT_RISE if rule.may_rise else OF_DESCENT


class Overshoots:
    """The overshooting steps of one run.

    Attributes
    ----------
    steps, growth : int, float
        The number of overshooting steps in a row, and the factor by which the gradient norm grew over them.
    met : float or None
        The curvature along such a step, ‖Δg‖/‖Δx‖: a lower bound of the largest curvature.
    """

    def __init__(self, rule):
        self.rule, self.patience = rule, patience(rule)
        self.steps, self.growth, self.met = 0, 1.0, None

    def reset(self):
        self.steps, self.growth = 0, 1.0

    def look(self, point, last, turned, moved_by_gradient):
        """Whether the run has diverged with the step from `last` to `point`."""
        if not (point.norm > last.norm and (turned or self.rule.may_rise) and last.lr * last.norm > 0):
            self.reset()
            return False
        self.steps += 1
        self.growth *= point.norm / last.norm
        limit, growth, _ = self.patience
        if self.steps == 1 or self.growth < growth**3:
            length = last.lr * last.norm if moved_by_gradient else euclidean_norm(point.z - last.z)
            self.met = euclidean_norm(point.gradient - last.gradient) / length if length else 0.0
        return self.steps >= limit and self.growth >= growth


class OvershootsOfMany:
    """The overshooting steps of many runs, as arrays with an entry for each run."""

    def __init__(self, rule, count):
        self.rule, self.patience = rule, patience(rule)
        self.steps, self.growth = np.zeros(count, int), np.ones(count)

    def look(self, runs, norm, last_norm, turned, lr):
        """Which of the runs (indices) have diverged; the other arguments are arrays with an entry for each of them."""
        with np.errstate(all="ignore"):
            over = (norm > last_norm) & (lr * last_norm > 0)
            over &= self.rule.may_rise | turned
            self.growth[runs] = np.where(over, self.growth[runs] * (norm / last_norm), 1.0)
        self.steps[runs] = np.where(over, self.steps[runs] + 1, 0)
        return (self.steps[runs] >= self.patience.steps) & (self.growth[runs] >= self.patience.growth)
