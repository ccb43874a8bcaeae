"""Learning rates that change during a run: functions of the step, from 0.

Each maker here returns such a function; any other callable of the step serves `gradient_descent(lr=…)` as well. What
counts is the step, not the epoch: with batches of m of n rows an epoch is ⌈n/m⌉ steps.

`plateau` alone looks at the values of a run; see `Plateau`.
"""

from __future__ import annotations

import functools
import math
import typing

from fastgd import validation

if typing.TYPE_CHECKING:
    from collections.abc import Callable

    Arguments = typing.ParamSpec("Arguments")
    RateOfStep = Callable[[int], float]


class Schedule:
    """A rate function together with the call that made it (`maker(*args, **kwargs)`), for pickling and repr."""

    def __init__(self, function: RateOfStep, maker, args, kwargs) -> None:
        self._function, self._maker, self._args, self._kwargs = function, maker, args, kwargs

    def __call__(self, step: int) -> float:
        return self._function(step)

    def __reduce__(self):
        return functools.partial(self._maker, *self._args, **self._kwargs), ()

    def __repr__(self):
        given = [*map(repr, self._args), *(f"{name}={value!r}" for name, value in self._kwargs.items())]
        return f"{self._maker.__name__}({', '.join(given)})"


def _schedule(maker: Callable[Arguments, RateOfStep]) -> Callable[Arguments, Schedule]:
    """Decorator: let a function that returns a function of the step return a Schedule instead."""

    @functools.wraps(maker)
    def make(*args, **kwargs):
        function = maker(*args, **kwargs)
        return function if isinstance(function, Plateau) else Schedule(function, make, args, kwargs)

    return make


@_schedule
def constant(lr: float) -> RateOfStep:
    """η(t) = lr."""
    lr = validation.scalar(lr, "lr", minimum=0)
    return lambda step: lr


@_schedule
def step_decay(lr: float, every: int, factor: float = 0.1) -> RateOfStep:
    """η(t) = lr·factor^⌊t/every⌋: the rate falls by a factor every so many steps.

    torch.optim.lr_scheduler.StepLR is the same, with gamma for `factor`, whose default is torch's.
    """
    lr, factor = validation.scalar(lr, "lr", minimum=0), _share(factor, "factor")
    every = validation.count(every, "every", minimum=1)
    return lambda step: lr * factor ** (step // every)


@_schedule
def exponential_decay(lr: float, factor: float, every: int = 1) -> RateOfStep:
    """η(t) = lr·factor^(t/every): falls by a factor over so many steps. torch's ExponentialLR with every=1."""
    lr, factor = validation.scalar(lr, "lr", minimum=0), _share(factor, "factor")
    every = validation.count(every, "every", minimum=1)
    return lambda step: lr * factor ** (step / every)


@_schedule
def inverse_time_decay(lr: float, decay: float, power: float = 1.0) -> RateOfStep:
    """η(t) = lr/(1 + decay·t)^power.

    With ½ < power ≤ 1 the sum of the rates is infinite and that of their squares finite, which is what stochastic
    descent needs to converge (Robbins & Monro 1951).
    """
    lr = validation.scalar(lr, "lr", minimum=0)
    decay, power = validation.scalar(decay, "decay", minimum=0), validation.scalar(power, "power", minimum=0)
    return lambda step: lr / (1 + decay * step) ** power


@_schedule
def polynomial_decay(lr: float, steps: int, end: float = 0.0, power: float = 1.0) -> RateOfStep:
    """η(t) = end + (lr − end)·(1 − t/steps)^power, and `end` from then on. torch's PolynomialLR with end=0."""
    lr, end = validation.scalar(lr, "lr", minimum=0), validation.scalar(end, "end", minimum=0)
    steps = validation.count(steps, "steps", minimum=1)
    power = validation.scalar(power, "power", minimum=0)
    return lambda step: end + (lr - end) * (1 - step / steps) ** power if step < steps else end


@_schedule
def cosine_decay(lr: float, steps: int, end: float = 0.0) -> RateOfStep:
    """η(t) = end + ½(lr − end)(1 + cos(πt/steps)), and `end` from then on (Loshchilov & Hutter 2017, eq. 5)."""
    lr, end = validation.scalar(lr, "lr", minimum=0), validation.scalar(end, "end", minimum=0)
    steps = validation.count(steps, "steps", minimum=1)
    return lambda step: _cosine(lr, end, min(step / steps, 1.0))


@_schedule
def one_cycle(peak: float, steps: int, rise: float = 0.3, start: float = 25.0, end: float = 1e4) -> RateOfStep:
    """Up from peak/start to `peak` and down to peak/(start·end), along cosines (Smith & Topin 2018, arXiv 1708.07120).

    Parameters
    ----------
    peak : float
        The largest rate.
    steps : int
        The length of the cycle, at least 2; the last of these steps has the smallest rate, and so have those after it.
    rise : float, default 0.3
        The share of the steps that the way up takes.
    start, end : float, default 25 and 1e4
        What the first rate is smaller by than the peak, and the last than the first.

    Notes
    -----
    torch's OneCycleLR with its defaults (pct_start, div_factor, final_div_factor): the peak is at step rise·steps − 1.
    """
    peak = validation.scalar(peak, "peak", minimum=0)
    steps = validation.count(steps, "steps", minimum=2)
    rise = validation.scalar(rise, "rise", minimum=0)
    if rise > 1:
        raise ValueError(f"rise must be a share of the steps, from 0 to 1; got {rise}")
    start, end = validation.scalar(start, "start", positive=True), validation.scalar(end, "end", positive=True)
    top, last = rise * steps - 1, steps - 1

    def rate(step):
        if step <= top:
            return _cosine(peak / start, peak, step / top) if top > 0 else peak
        down = (step - max(top, 0.0)) / (last - max(top, 0.0)) if last > top else 1.0
        return _cosine(peak, peak / start / end, min(down, 1.0))

    return rate


@typing.overload
def warmup(schedule: Plateau, steps: int, start: float = 0.0) -> Plateau: ...
@typing.overload
def warmup(schedule: float | RateOfStep, steps: int, start: float = 0.0) -> Schedule: ...
@_schedule
def warmup(schedule, steps, start=0.0):
    """From `start` in a straight line to the first rate of a schedule, which then begins.

        η(t) = start + (schedule(0) − start)·t/steps for t < steps,    schedule(t − steps) after

    Parameters
    ----------
    schedule : float or callable
        What follows: a rate, a schedule of this module (a plateau too), or any function of the step.
    steps : int
        How many steps lead there; with 0 the schedule begins at once.
    start : float, default 0
        The rate of step 0.
    """
    if not callable(schedule):
        schedule = constant(validation.scalar(schedule, "schedule", minimum=0))
    steps, start = validation.count(steps, "steps"), validation.scalar(start, "start", minimum=0)
    if isinstance(schedule, Plateau):
        return schedule.after(functools.partial(_rising, steps, start))
    return lambda step: start + (schedule(0) - start) * step / steps if step < steps else schedule(step - steps)


def plateau(
    lr: float, factor: float = 0.1, patience: int = 10, threshold: float = 1e-4, cooldown: int = 0, end: float = 0.0
) -> Plateau:
    """A rate that falls by `factor` when the loss has stopped falling. See `Plateau`.

    Parameters
    ----------
    lr : float
        The rate to begin with.
    factor : float, default 0.1
        What the rate is multiplied by, from 0 up to below 1.
    patience : int, default 10
        Losses in a row without improvement that leave the rate as it is; the next one lowers it.
    threshold : float, default 1e-4
        An improvement is a loss below the best one by more than this share of its size.
    cooldown : int, default 0
        Losses after a reduction that are not counted.
    end : float, default 0
        The rate falls no lower.
    """
    return Plateau(lr, factor, patience, threshold, cooldown, end)


class Plateau:
    """A schedule that watches the loss; made by `plateau`.

    Whoever descends calls `observe(loss)`: `gradient_descent` does so with the value at each point of a full-batch run
    before it asks for the rate of the step from there, and with the value after each epoch of a stochastic run, and
    works on a `fresh` copy, so that a schedule can be used again. Losses must be evaluated for that, which costs a
    function an evaluation a step.

    torch's ReduceLROnPlateau with mode="min" and threshold_mode="rel" for positive losses; the threshold is
    threshold·|best| here, so that it is an improvement for negative ones too.

    Attributes
    ----------
    state : tuple of float
        (rate, best loss, losses since it, cooldown left): what `observe` changes. It can be set.
    """

    state: tuple[float, float, float, float]

    def __init__(self, lr, factor, patience, threshold, cooldown, end, shape=None) -> None:
        self.lr = validation.scalar(lr, "lr", minimum=0)
        self.factor = _share(factor, "factor")
        if self.factor == 1:
            raise ValueError("factor must be below 1: the rate would never fall")
        self.patience = validation.count(patience, "patience")
        self.threshold = validation.scalar(threshold, "threshold", minimum=0)
        self.cooldown = validation.count(cooldown, "cooldown")
        self.end = validation.scalar(end, "end", minimum=0)
        self._shape = shape
        self.state = (self.lr, math.inf, 0.0, 0.0)

    def __repr__(self):
        shaped = "" if self._shape is None else ", after a warm-up"
        return f"<plateau from {self.lr:g} by {self.factor:g} after {self.patience} losses{shaped}>"

    def __call__(self, step: int) -> float:
        rate = self.state[0]
        return rate if self._shape is None else self._shape(step, rate)

    def observe(self, loss: float) -> None:
        """Take note of a loss; NaN is no improvement."""
        rate, best, waited, rest = self.state
        if loss < best - (self.threshold * abs(best) if best < math.inf else 0.0):
            best, waited = loss, 0.0
        else:
            waited += 1
        if rest > 0:
            rest, waited = rest - 1, 0.0
        if waited > self.patience:
            rate, waited, rest = max(rate * self.factor, min(self.end, rate)), 0.0, float(self.cooldown)
        self.state = (rate, best, waited, rest)

    def fresh(self) -> Plateau:
        """The same schedule before its first loss."""
        return Plateau(self.lr, self.factor, self.patience, self.threshold, self.cooldown, self.end, self._shape)

    def after(self, shape: Callable[[int, float], float]) -> Plateau:
        """The same with shape(step, rate) for its rate: what `warmup` puts before it."""
        outer = shape if self._shape is None else functools.partial(_nested, shape, self._shape)
        return Plateau(self.lr, self.factor, self.patience, self.threshold, self.cooldown, self.end, outer)


def _rising(steps, start, step, rate):
    return start + (rate - start) * min(step / steps, 1.0) if steps else rate


def _nested(outer, inner, step, rate):
    return outer(step, inner(step, rate))


def _share(value, name) -> float:
    value = validation.scalar(value, name, minimum=0)
    if value > 1:
        raise ValueError(f"{name} must be from 0 to 1; got {value}")
    return value


def _cosine(first, last, done):
    """From the first rate to the last along half a cosine."""
    return last + 0.5 * (first - last) * (1 + math.cos(math.pi * done))
