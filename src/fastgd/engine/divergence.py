"""What tells a run that diverges from one that goes uphill for a while."""

import typing

import numpy as np

from fastgd.linalg import euclidean_norm


class Patience(typing.NamedTuple):
    """So many steps in a row that overshoot, with a gradient grown by that factor meanwhile and a value above the
    first, are a divergence."""

    steps: int
    growth: float
    sentence: str


# A step that overshoots (the new gradient points back) and lands where the gradient is longer has met a curvature above
# 2/η. That may happen now and then on the way into a valley.
OF_DESCENT = Patience(5, 100.0, "each step overshoots further than the last")
# A rule with momentum or rates of its own may go uphill for a while: there it is steps on which the gradient grows.
OF_RULES_THAT_RISE = Patience(10, 1e4, "the gradient grows with each step")
# With steps on a few rows a value above the first may be noise: above this multiple of it, it is a divergence; and
# above the second where the rule may go uphill, or the rate falls.
HIGHER, HIGHER_WHILE = 10.0, 1e4


def patience(rule):
    return OF_RULES_THAT_RISE if rule.may_rise else OF_DESCENT


class Overshoots:
    """The overshooting steps of one run.

    Attributes
    ----------
    steps, growth : int, float
        Steps in a row that overshot, and what they did to the norm of the gradient.
    met : float or None
        The curvature met along such a step, ‖Δg‖/‖Δx‖. It nears the largest from below, until the run has left the
        place for good.
    """

    def __init__(self, rule):
        self.rule, self.patience = rule, patience(rule)
        self.steps, self.growth, self.met = 0, 1.0, None

    def reset(self):
        self.steps, self.growth = 0, 1.0

    def look(self, point, last, turned, moved_by_gradient):
        """Whether the step from `last` to `point` is one too many."""
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
    """The same of many runs, as arrays with an entry for each."""

    def __init__(self, rule, count):
        self.rule, self.patience = rule, patience(rule)
        self.steps, self.growth = np.zeros(count, int), np.ones(count)

    def look(self, runs, norm, last_norm, turned, lr):
        """Which of the runs, given by number, have taken one step too many; all else are arrays of their length."""
        with np.errstate(all="ignore"):
            over = (norm > last_norm) & (lr * last_norm > 0)
            over &= self.rule.may_rise | turned
            self.growth[runs] = np.where(over, self.growth[runs] * (norm / last_norm), 1.0)
        self.steps[runs] = np.where(over, self.steps[runs] + 1, 0)
        return (self.steps[runs] >= self.patience.steps) & (self.growth[runs] >= self.patience.growth)
