"""Losses of the user's own."""

from __future__ import annotations

import dataclasses
import math
import typing

import numpy as np

from fastgd import validation
from fastgd.kernels import c_functions
from fastgd.kernels.codes import CUSTOM, RELATIVE_STEP, PointLoss
from fastgd.losses import formulas
from fastgd.losses.record import Loss


class _Checked:
    """A Python function of points whose answer is checked: what the kernels call."""

    __slots__ = ("f",)

    def __init__(self, f):
        self.f = f

    def __call__(self, h, y):
        """Values and slopes, float64 arrays (m,), of points (m,)."""
        found = self.f(h, y)
        if not isinstance(found, tuple) or len(found) != 2:
            raise TypeError(
                f"a loss f(h, y) must return a pair of arrays, (values, slopes); got {validation.describe(found)}"
            )
        return tuple(map(self._numbers, found, ("values", "slopes"), (h.shape, h.shape)))

    @staticmethod
    def _numbers(array, name, shape):
        array = np.asarray(array)
        if array.dtype.kind not in "fiu" or array.shape != shape:
            raise ValueError(
                f"a loss f(h, y) of points of shape {shape} must return {name} that are real numbers of that shape; "
                f"got {array.dtype} of shape {array.shape}"
            )
        return np.ascontiguousarray(array, np.float64)


@dataclasses.dataclass(frozen=True, repr=False, eq=False)
class Custom(Loss):
    """What `custom` makes; see there."""

    f: typing.Any
    smooth: bool = True
    convex: bool = False
    curvature_bound: float | None = None
    name = ""
    kernel = "custom"
    activations = ("identity",)
    task = None
    signed = True

    def __post_init__(self):
        if not (callable(self.f) or c_functions.is_c(self.f)):
            raise TypeError(f"f must be a function f(h, y) or a C function; got {validation.describe(self.f)}")
        for name in ("smooth", "convex"):
            object.__setattr__(self, name, validation.boolean(getattr(self, name), name))
        if self.curvature_bound is not None:
            bound = validation.scalar(self.curvature_bound, "curvature_bound", positive=True)
            if not self.smooth:
                raise ValueError("curvature_bound is for a smooth loss; got smooth=False")
            object.__setattr__(self, "curvature_bound", bound)
        # The function as the kernels take it; a TypeError where its signature is another. No field: f says it all.
        function = c_functions.c_loss(self.f) if c_functions.is_c(self.f) else _Checked(self.f)
        object.__setattr__(self, "_points", PointLoss(CUSTOM, 0.0, function))

    @property
    def _key(self):
        try:
            hash(self.f)
            f = self.f
        except TypeError:  # a LowLevelCallable has no hash: it is equal to itself alone
            f = id(self.f)
        return f, self.smooth, self.convex, self.curvature_bound

    def __eq__(self, other):
        return type(other) is Custom and self._key == other._key

    def __hash__(self):
        return hash(self._key)

    def __reduce__(self):
        return Custom, (self.f, self.smooth, self.convex, self.curvature_bound)

    def __repr__(self):
        f = getattr(self.f, "__name__", None) or type(self.f).__name__
        defaults = {field.name: field.default for field in dataclasses.fields(self)}
        given = [f"{name}={value!r}" for name, value in self.parameters.items() if name != "f"
                 and value != defaults[name]]  # fmt: skip
        return f"custom({', '.join([f, *given])})"

    @property
    def point_loss(self):
        return self._points

    def check(self, y):
        """Refuse targets at which it is not finite at h = 0, where every run may be asked for its value."""
        values, slopes = self.at(np.zeros(y.size), np.array(y, np.float64).ravel())
        bad = ~(np.isfinite(values) & np.isfinite(slopes)).reshape(y.shape)
        if bad.any():
            index = tuple(np.argwhere(bad)[0].tolist())
            value, slope = (array.reshape(y.shape)[index] for array in (values, slopes))
            raise ValueError(
                f"loss={self!r} must be finite at h = 0 for every y; at {validation.entry('y', index)} = {y[index]} "
                f"its value is {value} and its slope {slope}"
            )

    def at(self, h, y):
        """Values and slopes of points, flat contiguous arrays of float64."""
        if not h.size:
            return np.empty(0), np.empty(0)
        # Copies, as f may write to its arguments.
        return self._points.function(h.copy(), y.copy())

    def least(self, y):
        return -math.inf

    def bound(self, activation, y_min, y_max):
        return math.inf if self.curvature_bound is None else self.curvature_bound

    def facts(self, activation):
        return {
            "slope": self._slope, "curvature": self._curvature, "start": self._start, "smooth": self.smooth,
            "convex": self.convex,
        }  # fmt: skip

    def _start(self, y, s):
        """The best of 0, the mean and the median of y, for each output."""
        y, s = formulas.some_of(y, s)
        guesses = np.stack([formulas.zero(y, s), formulas.mean(y, s), formulas.median(y, s)])
        s = np.ones(len(y)) if s is None else s
        heights = [s @ self.at(np.broadcast_to(guess, y.shape).ravel(), y.ravel())[0].reshape(y.shape)
                   for guess in guesses]  # fmt: skip
        heights = np.nan_to_num(np.stack(heights), nan=np.inf, posinf=np.inf)
        return np.take_along_axis(guesses, np.argmin(heights, axis=0)[None], 0)[0]

    def _slope(self, h, y):
        shape = np.broadcast_shapes(h.shape, y.shape)
        h, y = (np.ascontiguousarray(np.broadcast_to(array, shape), np.float64).ravel() for array in (h, y))
        return self.at(h, y)[1].reshape(shape)

    def _curvature(self, h, y):
        """By central differences of slopes; 0 where it is negative, as a step is made with it."""
        step = RELATIVE_STEP * np.maximum(1.0, np.abs(h))
        above, below = h + step, h - step
        return np.maximum((self._slope(above, y) - self._slope(below, y)) / (above - below), 0.0)


def custom(f: typing.Any, *, smooth: bool = True, convex: bool = False, curvature_bound: float | None = None) -> Custom:
    """A loss of your own, as `loss=` of `LinearObjective`, `GDRegressor` and `GDClassifier`.

    F is the weighted mean (1/Σs) ΣΣ s·l(h, y) with h = Xw + b, and the penalties.

    Parameters
    ----------
    f : callable or C function
        f(h, y) → (values, slopes): l and ∂l/∂h of points, from two arrays (m,) of float64, which are private copies;
        m is at most some thousands, and differs from call to call. An exception that it raises reaches the caller.
        Or a numba cfunc or scipy.LowLevelCallable of the signature
        `void (n, const double *h, const double *y, double *value, double *slope, void *user_data)`, n an intptr_t, long
        or int, const and user_data optional: it is called without Python, and by several threads at once with n_jobs.
    smooth : bool
        Whether the slope is continuous. One with a kink takes a rate that shrinks, or "sgd".
    convex : bool
        Whether l is convex by h: a point where the gradient is 0 is then a minimum. What you state is believed.
    curvature_bound : float, optional
        The largest |∂²l/∂h²|: `lipschitz()` is then finite, and "accelerated" takes fixed steps. Without it steps
        are found by backtracking.

    Returns
    -------
    Loss
        Immutable; equal to another of the same f and options. It pickles where f does.

    Raises
    ------
    TypeError
        f is no function, or a C function of another signature.

    Notes
    -----
    No run with it is certified: there is no conjugate, and no lower bound of it is known. Where it is not convex a run
    ends by its gradient. `check_gradient(objective.value, objective.gradient, w)` tells whether the slopes fit.

    Examples
    --------
    >>> import numpy as np
    >>> from fastgd import LinearObjective, losses
    >>> cauchy = losses.custom(lambda h, y: (np.log1p((h - y) ** 2), 2 * (h - y) / (1 + (h - y) ** 2)))
    >>> LinearObjective([[1.0], [2.0]], [1.0, 4.0], loss=cauchy).gradient([1.0])
    array([-0.8])
    """
    return Custom(f, smooth, convex, curvature_bound)
