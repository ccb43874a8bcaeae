"""Comparison of a gradient with differences of its function: which components are wrong, and which of the two is."""

from __future__ import annotations

import dataclasses
import typing
from typing import Literal

import numpy as np

from fastgd import forms, validation
from fastgd.derivatives import sampling, stencils
from fastgd.derivatives.gradient import flat_options, numerical_gradient
from fastgd.derivatives.products import gradient_at
from fastgd.derivatives.stencils import EPSILON
from fastgd.kernels import c_functions

if typing.TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from fastgd.objective import LinearObjective
    from fastgd.types import Bounds, Doubles, Gradient, Map, ScalarFunction

MOST_SHOWN = 5  # components, of those that are wrong or unclear


@dataclasses.dataclass(frozen=True, repr=False)
class GradientCheck:
    """What `check_gradient` found. True in a condition if all is well.

    Attributes
    ----------
    ok : bool
        Whether every component agrees with f.
    max_error : float
        |gradient − numerical| / max(1, |numerical|) at `worst_index`.
    worst_index : int or tuple of int
        Where that is largest: among the wrong components if there are any, else among the unclear, else among all.
        An int where x is a vector.
    gradient, numerical : ndarray
        What was checked, and extrapolated differences of f.
    tolerance : ndarray
        By how much they may differ: ten estimated errors of the differences, and the rounding of the gradient.
    wrong : ndarray of bool
        Where they differ by more, and f is smooth.
    unclear : ndarray of bool
        Where f has no derivative that differences could find: it has a kink, or is not finite. That f is noisy is no
        fault of it or of the gradient: the tolerance is larger then, and the hint says so.
    fault : {None, "gradient", "f", "gradient and f"}
    hint : str
        The mistake that it looks like; empty if none is known.
    nfev : int or None
        How often f was called; None for an objective.
    """

    ok: bool
    max_error: float
    worst_index: int | tuple[int, ...]
    gradient: Doubles
    numerical: Doubles
    tolerance: Doubles
    wrong: NDArray[np.bool_]
    unclear: NDArray[np.bool_]
    fault: Literal["gradient", "f", "gradient and f"] | None
    hint: str
    nfev: int | None

    def __bool__(self) -> bool:
        return self.ok

    def __repr__(self) -> str:
        lines = [f"GradientCheck(ok={self.ok}): {self._summary()}"]
        error = np.abs(self.gradient - self.numerical)
        shown = np.flatnonzero(self.wrong | self.unclear)
        scaled = error.reshape(-1)[shown] / np.maximum(1.0, np.abs(self.numerical.reshape(-1)[shown]))
        order = np.lexsort((-scaled, self.unclear.reshape(-1)[shown]))
        for k in shown[order][:MOST_SHOWN].tolist():
            i = np.unravel_index(k, self.gradient.shape)
            what = "unclear" if self.unclear[i] else "wrong"
            lines.append(
                f"  coordinate {_index(k, self.gradient.shape)}: gradient {self.gradient[i]:.9g}, "
                f"differences {self.numerical[i]:.9g}: "
                f"off by {error[i]:.2g}, {self.tolerance[i]:.2g} allowed ({what})"
            )
        if len(shown) > MOST_SHOWN:
            lines.append(f"  and {len(shown) - MOST_SHOWN} more")
        if self.hint:
            lines.append(f"  {self.hint}")
        return "\n".join(lines)

    def _summary(self):
        count, wrong, unclear = self.gradient.size, int(self.wrong.sum()), int(self.unclear.sum())
        if self.ok:
            if not count:
                return "there is nothing to check"
            at = self.worst_index
            allowed = self.tolerance[at] / max(1.0, abs(self.numerical[at]))
            return (
                f"all {count} components agree; coordinate {at} is off most, by {self.max_error:.2g} "
                f"({allowed:.2g} allowed)"
            )
        parts = []
        if wrong:
            parts.append(f"{wrong} of {count} components wrong, and f is smooth there, so the gradient is at fault")
        if unclear:
            parts.append(f"{unclear} of {count} components cannot be told, and that is the fault of f")
        return "; ".join(parts)


def check_gradient(
    f: ScalarFunction | LinearObjective,
    grad: Gradient | ArrayLike | Literal[True] | None,
    x: ArrayLike,
    *,
    args: tuple[typing.Any, ...] = (),
    bounds: Bounds | None = None,
    typical_x: ArrayLike | None = None,
    vectorized: bool = False,
    workers: int | Map | None = None,
) -> GradientCheck:
    """Compare a gradient with differences of its function.

    The differences are Richardson's, and the tolerance of each component follows from their error estimate.

    Parameters
    ----------
    f : callable or LinearObjective
        As for `numerical_gradient`.
    grad : callable, C function, array_like or None
        grad(x, *args), or the gradient at x itself; a scipy.LowLevelCallable or numba cfunc is `void (n, double *x,
        double *gradient, void *user_data)`. True if f returns (value, gradient). None for that of an objective:
        ``check_gradient(objective, None, w)``.
    x : array_like of float, dict or pandas Series
        Where. With names as in `numerical_gradient`; what is found is then in the order of its values. A
        point with nothing special about it shows most: at 0, at whole numbers and at a minimum many a wrong
        gradient is right.
    args, bounds, typical_x, vectorized, workers
        As for `numerical_gradient`.

    Returns
    -------
    GradientCheck

    Raises
    ------
    TypeError, ValueError
        An argument is not of its kind, or f or grad did not return real numbers in the right shape. A NaN in the
        gradient is wrong and no error.

    Notes
    -----
    f is called 12 times for each coordinate or more often, and most where something is wrong. For a LinearObjective
    the differences are those of its `numerical_gradient`, with its data in float64: a float32 gradient is held to
    float32.

    Examples
    --------
    >>> def f(x):
    ...     return x[0] ** 2 * x[1]
    >>> check_gradient(f, lambda x: [2 * x[0] * x[1], x[0] ** 2], [1.5, -2.5]).ok
    True
    >>> check = check_gradient(f, lambda x: [2 * x[0] * x[1], 2 * x[0]], [1.5, -2.5])
    >>> check.ok, check.fault, check.worst_index
    (False, 'gradient', 1)
    """
    if grad is True:
        f, grad = _part(f, 0), _part(f, 1)
    names = forms.flattened(x)
    if names is not None:
        options = flat_options(names, None, bounds, typical_x, vectorized)
        options.pop("h")
        grad = names.gradient(grad) if callable(grad) else names.flatten(grad, "grad")
        return check_gradient(names.function(f), grad, names.flat, args=args, workers=workers, **options)
    objective = _objective_of(f)
    if objective is not None:
        x = validation.weights(x, "x", objective.shape, objective.dtype)
        if args:
            raise ValueError(f"an objective takes no args; got {validation.describe(args)}")
        grad = objective.gradient if grad is None else grad
    elif grad is None:
        raise TypeError("grad must be callable or an array; only an objective brings its own (grad=None)")
    x = validation.real_array(x, "x")
    grad = c_functions.gradient_function(grad, x.size, args)
    gradient, precision = _given(grad, x, args)
    if objective is not None:
        (numerical, error), nfev = _objective_differences(objective, x), None
    else:
        options = {"bounds": bounds, "typical_x": typical_x, "vectorized": vectorized, "workers": workers, "args": args}
        options |= {"scheme": "richardson", "nan_policy": "propagate", "full_output": True}
        numerical, error, steps, nfev = numerical_gradient(f, x, **options)
        numerical, error = np.array(numerical), np.array(error)
    hints = []
    tolerance, wrong, unclear = _judged(gradient, numerical, error, precision)
    if objective is None:
        point = np.array(x, dtype=np.float64, order="C")
        sampler = sampling.sampler(f, point, args, vectorized=vectorized, workers=workers)
        limits, steps = stencils.limits(bounds, point), np.ravel(steps)
        kinks = _kinks(sampler, steps, limits, *(part.reshape(-1) for part in (numerical, error, wrong | unclear)))
        tolerance, wrong, unclear = _judged(gradient, numerical, error, precision)
        for k, (below, above) in kinks.items():
            i = np.unravel_index(k, x.shape)
            wrong[i], unclear[i] = False, True
            hints.append(
                f"f has a kink at coordinate {_index(k, x.shape)}: its slope is {below:.4g} on one side and "
                f"{above:.4g} on the other"
            )
        hints[MOST_SHOWN:] = []
        nfev += sampler.nfev
    hints += _hints(gradient, numerical, tolerance, wrong, unclear, hints, objective is None)
    return _verdict(gradient, numerical, tolerance, wrong, unclear, "; ".join(filter(None, hints)), nfev)


def _part(f, which):
    """The value (0) or the gradient (1) of an f that returns (value, gradient)."""
    validation.callable_(f, "f")

    def part(point, *args):
        returned = f(point, *args)
        if not isinstance(returned, tuple) or len(returned) != 2:
            got = validation.describe(returned)
            raise TypeError(f"with grad=True f must return (value, gradient); it returned {got}")
        return returned[which]

    return part


def _objective_of(f):
    """The LinearObjective that f is, or of which it is the value; it takes differences in one pass over X."""
    owner = getattr(f, "__self__", f)
    return owner if hasattr(owner, "differences_in_double") and f in (owner, owner.value) else None


def _given(grad, x, args):
    """The gradient to check as float64, and the unit roundoff of what it was given in."""
    kept = []

    def returned(point, *more):
        kept.append(grad(point, *more) if callable(grad) else grad)
        return kept[-1]

    value = gradient_at(returned, np.array(x, dtype=np.float64), args, finite=False)
    dtype = getattr(kept[-1], "dtype", None)
    single = dtype is not None and np.dtype(dtype).kind == "f" and np.dtype(dtype).itemsize <= 4
    return value, float(np.finfo(np.float32).eps) if single else EPSILON


def _objective_differences(objective, w):
    """Neville's scheme over central differences at three steps, with its error."""
    w = np.array(w, dtype=np.float64)
    h = EPSILON ** (1 / 3) * np.maximum(1.0, np.abs(w))
    near, middle, far = (objective.differences_in_double(w, times * h) for times in (1, 4, 16))
    first, second = near + (near - middle) / 15, middle + (middle - far) / 15
    return first, np.abs(first - second) + EPSILON * abs(objective.value(w)) / h


def _judged(gradient, numerical, error, precision):
    """The tolerance, and where the gradient is wrong or f too rough to tell."""
    with np.errstate(all="ignore"):
        size = np.fmax(np.abs(gradient), np.abs(numerical))
        largest = np.max(np.abs(numerical), initial=0.0, where=np.isfinite(numerical))
        tolerance = 10 * error + np.sqrt(precision) * size + 16 * precision * largest
        unclear = ~np.isfinite(numerical)
        return tolerance, ~(np.abs(gradient - numerical) <= tolerance) & ~unclear, unclear


def _kinks(sampler, steps, limits, slopes, errors, doubtful):
    """The slopes on both sides by coordinate, where f has a kink; where differences at other steps show larger errors
    of `slopes`, `errors` is raised in place.
    """
    sides = Sides(sampler, steps, limits)
    suspects = np.flatnonzero(doubtful | sides.kinked(0.0))
    if not len(suspects):
        return {}
    others, doubt = other_slopes(sampler, suspects, steps[suspects], limits)
    with np.errstate(all="ignore"):  # differences may agree by chance at the steps that Richardson's scheme chose
        off = np.max(np.abs(others - slopes[suspects, None]), axis=1)
        errors[suspects] = np.fmax(errors[suspects], off)
    return {k: (sides.below[k], sides.above[k]) for k in suspects[sides.kinked(doubt, suspects)].tolist()}


class Sides:
    """The slopes to both sides of x over three steps.

    Attributes
    ----------
    below, above : (d,) float64
        Over the shortest step.
    """

    def __init__(self, sampler, steps, limits):
        x, here, each = sampler.x, sampler.here(), np.arange(len(steps))
        steps = _within(x, steps / 2, each, limits)
        self._jumps = []
        with np.errstate(all="ignore"):
            for times in (2, 1, 1 / 8):
                below, above = x - times * steps, x + times * steps
                self.below, self.above = ((sampler.at(each, at) - here) / (at - x) for at in (below, above))
                self._jumps.append(np.abs(self.above - self.below))
            self._rounding = 8 * EPSILON * np.abs(here) / (steps / 8)

    def kinked(self, doubt, rows=np.s_[:]):
        """Whether the slopes differ by as much however close one comes, and by more than they are in doubt.

        In a smooth f the jump is f''·h, and shrinks with the step; noise makes it grow.
        """
        far, near, nearest = (jump[rows] for jump in self._jumps)
        with np.errstate(all="ignore"):
            scale = np.maximum(np.abs(self.above[rows]), np.abs(self.below[rows]))
            constant = (np.abs(near - far) < near / 4) & (np.abs(nearest - near) < near / 4)
            return constant & (nearest > 10 * (self._rounding[rows] + doubt) + 1e-5 * scale)


def _within(x, steps, coordinates, limits):
    """Steps of which two fit between the bounds on both sides."""
    if limits is None:
        return steps
    return np.minimum(steps, np.minimum(x - limits[0][coordinates], limits[1][coordinates] - x) / 2)


def other_slopes(sampler, coordinates, steps, limits):
    """Five-point differences of some coordinates at three steps each, (n, 3), and how much they are in doubt, (n,)."""
    x = sampler.x[coordinates]
    shares = np.array([1.0, 0.7, 0.45])  # no powers of the ratios of Richardson's scheme
    h = _within(x, steps, coordinates, limits)[:, None] * shares
    values, moved = {}, {}
    with np.errstate(all="ignore"):
        for k in (1, -1, 2, -2):
            points = x[:, None] + k * h
            moved[k] = points - x[:, None]
            values[k] = sampler.at(np.repeat(coordinates, len(shares)), points.reshape(-1)).reshape(points.shape)
        near, far = ((values[k] - values[-k]) / (moved[k] - moved[-k]) for k in (1, 2))
        slopes = near + (near - far) / 3
        rounding = 2 * EPSILON * np.max(np.abs(list(values.values())), axis=(0, 2)) / h[:, -1]
        return slopes, rounding + np.ptp(slopes, axis=1)


def _hints(gradient, numerical, tolerance, wrong, unclear, known, of_function):
    """What else there is to say."""
    if wrong.any():
        return [_mistake(gradient, numerical, tolerance, wrong, unclear)]
    hints = ["f is NaN or infinite beside x"] if unclear.any() and not known else []
    return [*hints, _precision(numerical, tolerance, unclear)] if of_function else hints


def _mistake(gradient, numerical, tolerance, wrong, unclear):
    """What a wrong gradient looks like."""
    clear = ~unclear
    with np.errstate(all="ignore"):
        telling = clear & (np.abs(numerical) > 100 * tolerance) & np.isfinite(gradient)
        ratios = gradient[telling] / numerical[telling]
        rest_agrees = np.all((np.abs(gradient - numerical) <= tolerance)[clear & ~telling])
    if np.isnan(gradient[wrong]).any():
        return "the gradient holds NaN"
    if np.all(gradient[wrong] == 0) and not np.all(gradient[clear] == 0):
        return "the gradient is 0 in the wrong components: have they been left out?"
    if len(ratios) and rest_agrees:
        factor, little = float(np.median(ratios)), 1e-4  # by which two numbers may differ that are the same factor
        same = np.all(np.abs(ratios - factor) <= little * abs(factor))
        simple = min(abs(factor), 1 / abs(factor) if factor else np.inf) * np.array([1, 2, 3, 4])
        if same and (len(ratios) > 1 or np.any(np.abs(simple - 1) <= little)):
            if abs(factor + 1) <= little:
                return "the sign is flipped"
            if abs(factor) > little and abs(factor - 1) > 10 * little:
                return f"the gradient is {factor:.4g} times what it should be"
    if gradient.ndim == 2 and gradient.shape[0] == gradient.shape[1] > 1:
        with np.errstate(all="ignore"):
            if np.all(np.abs(gradient.T - numerical)[clear] <= np.maximum(tolerance, tolerance.T)[clear]):
                return "the gradient is transposed"
    return ""


def _precision(numerical, tolerance, unclear):
    """How far the gradient could be checked, where that is not far."""
    with np.errstate(all="ignore"):
        share = np.where(unclear, 0.0, tolerance / np.maximum(1.0, np.abs(numerical)))
    if not np.any(share > 1e-4):
        return ""
    k = int(np.argmax(share))
    return (
        f"f is noisy or imprecise: coordinate {_index(k, numerical.shape)} could be checked down to an error of "
        f"{tolerance.reshape(-1)[k]:.2g}, which is ten times that of the differences"
    )


def _index(k, shape):
    index = tuple(int(i) for i in np.unravel_index(k, shape))
    return index[0] if len(shape) == 1 else index


def _verdict(gradient, numerical, tolerance, wrong, unclear, hint, nfev):
    with np.errstate(all="ignore"):
        scaled = np.abs(gradient - numerical) / np.maximum(1.0, np.abs(numerical))
    scaled = np.where(np.isnan(scaled), np.inf, scaled)
    among = wrong if wrong.any() else unclear if unclear.any() else np.ones(gradient.shape, bool)
    worst, max_error = _index(0, (1,) * max(1, gradient.ndim)), 0.0
    if gradient.size:
        k = int(np.argmax(np.where(among, scaled, -1.0)))
        worst, max_error = _index(k, gradient.shape), float(scaled.reshape(-1)[k])
    blamed = [name for name, at in (("gradient", wrong), ("f", unclear)) if at.any()]
    fault = " and ".join(blamed) or None
    return GradientCheck(
        not blamed, max_error, worst, gradient, numerical, tolerance, wrong, unclear, fault, hint, nfev
    )
