"""What a run does with a gradient: the optimizer and its state, and what limits a step."""

import math

import numpy as np

from fastgd import kernels, validation
from fastgd.kernels.codes import PLAIN
from fastgd.linalg import least_subgradient, soft_threshold


class Update:
    """The step of one run, w ← clamp(soft(w − t·p)); see `kernels/reference/updates.py` for the formula.

    Parameters
    ----------
    optimizer : Optimizer
    start : ndarray
        Where the run begins, in its variables; a start outside the bounds is moved onto them, in place.
    penalised : int, optional
        l1 is for so many entries of the flat variables, from the first; all of them without it.
    l1 : float
        λ of the penalty λ·‖w‖₁.
    thresholds : ndarray, optional
        Of the shape of `start`, in place of l1: the λ of each variable. The rule's steps must be proportional to the
        gradient.
    bounds : pair, optional
        (lower, upper), numbers or arrays of the shape of `start`, or None for no bound on that side.
    clip_value, clip_norm : float, optional
        Each entry of a gradient is cut off at ±clip_value; a gradient longer than clip_norm is shortened to it.

    Attributes
    ----------
    state : State
        Of the optimizer.
    plain : bool
        Whether it is w ← w − η·g and no more.
    limited : bool
        Whether there is a penalty or a bound, so that a minimum need not have a gradient of zero.
    """

    def __init__(
        self, optimizer, start, penalised=None, *, l1=0.0, thresholds=None, bounds=None, clip_value=None, clip_norm=None
    ):  # fmt: skip
        if clip_value is not None and clip_norm is not None:
            raise ValueError("clip_value and clip_norm: give one of them, not both")
        self.optimizer, self.state = optimizer, optimizer.fresh_state(start.size, start.dtype)
        self.l1 = l1 if l1 == 0 else validation.scalar(l1, "l1", minimum=0)
        clips = [math.inf, math.inf]
        if clip_value is not None:
            clips[0] = validation.scalar(clip_value, "clip_value", positive=True)
        if clip_norm is not None:
            clips[1] = validation.scalar(clip_norm, "clip_norm", positive=True)
        self._parameters = np.array([*optimizer.kernel_constants, *clips, self.l1])
        self._penalised = start.size if penalised is None else penalised
        self._lower, self._upper = box(bounds, start.shape, start.dtype)
        if self._lower.size:
            np.clip(start, self._lower.reshape(start.shape), self._upper.reshape(start.shape), out=start)
        self._thresholds = thresholds
        self.limited = bool(self.l1) or self._lower.size > 0 or thresholds is not None
        self.plain = optimizer.kind == PLAIN[start.dtype][0] and not self.limited and min(clips) == math.inf

    @property
    def kernel_arguments(self):
        """The rule as a kernel of many steps takes it; the steps that it took must be told: `took`."""
        return (
            self.optimizer.kind, self._parameters, self.state.moments, self.state.step, self._penalised, self._lower,
            self._upper,
        )  # fmt: skip

    def took(self, steps):
        self.state.step += steps

    def __call__(self, z, gradient, lr):
        """One step from z, in place."""
        self.state.step += 1
        if self.plain:
            kernels.active.update(z.reshape(-1), gradient.reshape(-1), lr)
            return
        kind, parameters, moments, step, *limits = self.kernel_arguments
        kernels.active.optimizer_step(
            kind, parameters, z.reshape(-1), gradient.reshape(-1), moments, lr, step, *limits
        )  # fmt: skip
        if self._thresholds is not None:
            # A velocity comes to 1/(1 − momentum) times the gradient, and so must the penalty's.
            times = lr / (1 - getattr(self.optimizer, "momentum", 0.0))
            z[...] = soft_threshold(z, times * self._thresholds)

    def limits(self, shape):
        """(lower, upper) of that shape."""
        if not self._lower.size:
            return np.full(shape, -np.inf), np.full(shape, np.inf)
        return self._lower.reshape(shape), self._upper.reshape(shape)

    def least_subgradient(self, z, gradient):
        """The gradient less what the penalty and the bounds take up: zero at a minimum."""
        if self._thresholds is not None:
            t, (lower, upper) = self._thresholds, self.limits(z.shape)
            least = np.where(z != 0, gradient + t * np.sign(z), soft_threshold(gradient, t))
            return np.where(((z <= lower) & (least > 0)) | ((z >= upper) & (least < 0)), 0.0, least)
        flat = z.reshape(-1), gradient.reshape(-1)
        return least_subgradient(*flat, self.l1, self._penalised, self._lower, self._upper)

    def free_subgradient(self, z, gradient, width):
        """`least_subgradient`, without the entries along which a step down meets a bound or 0 within `width`."""
        least, flat = self.least_subgradient(z, gradient).reshape(-1), z.reshape(-1)
        room = np.full(flat.shape, np.inf)
        if self._lower.size:
            room = np.where(least > 0, flat - self._lower, self._upper - flat)
        if self.l1:
            towards_zero = (flat * least > 0) & (np.arange(flat.size) < self._penalised)
            room = np.minimum(room, np.where(towards_zero, np.abs(flat), np.inf))
        return np.where(room > width, least, 0.0)

    def into_bounds(self, z, gradient):
        """The entries of a gradient that bounds hold: along it F rises from these bounds, if it is its gradient."""
        if not self._lower.size:
            return np.zeros(0)
        flat, g = z.reshape(-1), gradient.reshape(-1)
        free = self._lower < self._upper
        held = free & (((flat <= self._lower) & (g > 0)) | ((flat >= self._upper) & (g < 0)))
        return np.where(held, g, 0.0)

    def room_inside(self, direction):
        """How far a unit vector may be followed from bounds that hold its entries."""
        width = self._upper - self._lower
        return float(np.min(width[direction != 0] / np.abs(direction[direction != 0]), initial=np.inf))

    @property
    def averages(self):
        """Whether a run reports something else than its last point."""
        return self.optimizer.name == "asgd" and self.state.step > 0

    def reported(self, z):
        """What a run that ends at z reports."""
        return self.state.moments[0].reshape(z.shape).copy() if self.averages else z


def box(bounds, shape, dtype):
    """Flat lower and upper bounds of that dtype, or two empty arrays where nothing is bounded."""
    pair = validation.bounds(bounds, shape)
    if pair is None or (np.all(pair[0] == -np.inf) and np.all(pair[1] == np.inf)):
        return np.empty(0, dtype), np.empty(0, dtype)
    return tuple(side.astype(dtype).reshape(-1) for side in pair)
