"""Learning rates as functions of the step."""

import numpy as np

from fastgd import validation


class Constant(float):
    """A rate that is the same for every step."""

    observes = False

    def __call__(self, step):
        return float(self)

    def rates(self, step, count):
        """Those of `count` steps from `step` on."""
        rates = np.empty(count)
        rates.fill(self)
        return rates


class Schedule:
    """A user's function of the step, checked at each call. A schedule with a method `observe` is given the values."""

    def __init__(self, function, name):
        self.function = function.fresh() if hasattr(function, "fresh") else function
        self._name = name

    def __call__(self, step):
        rate, name = self.function(step), f"{self._name}({step})"
        if type(rate) is not float:
            try:
                rate = validation.function_value(rate, name)
            except TypeError:
                raise TypeError(f"{name} must be a real number; got {validation.describe(rate)}") from None
        return validation.scalar(rate, name, minimum=0)

    def rates(self, step, count):
        return np.array([self(step + i) for i in range(count)], np.float64)

    @property
    def observes(self):
        """Whether the schedule depends on the values of F."""
        return hasattr(self.function, "observe")

    def observe(self, value):
        self.function.observe(value)

    @property
    def state(self):
        """What a checkpoint keeps of a schedule that depends on the values."""
        return self.function.state if self.observes else None

    @state.setter
    def state(self, saved):
        self.function.state = tuple(saved)


def rate_of(value, name, positive=False):
    """A number or a callable as a rate."""
    if callable(value):
        return Schedule(value, name)
    number = validation.scalar(value, name, positive=True) if positive else validation.scalar(value, name, minimum=0)
    return Constant(number)
