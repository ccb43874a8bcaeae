"""Derivatives of any function, from its values alone."""

from __future__ import annotations

import math
import types
import typing
from typing import Generic, Literal, NamedTuple, TypeVar, Unpack

import numpy as np

from fastgd import forms, kernels, validation
from fastgd.derivatives import complex_step, noise, refinement, sampling, stencils
from fastgd.derivatives.refinement import Slopes
from fastgd.derivatives.stencils import EPSILON, Stencil
from fastgd.kernels import c_functions
from fastgd.kernels.c_code import CFunction
from fastgd.kernels.codes import DOUBT, OWN_STEPS, RELATIVE_STEP

if typing.TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import ArrayLike

    from fastgd.types import Doubles, Number, ScalarFunction, SchemeOptions, Steps

SCHEMES = ("central", "forward", "backward", "five-point", "richardson", "complex")
NAN_POLICIES = {"raise": validation.finite_number, "propagate": validation.any_number}


Slope = TypeVar("Slope")  # a float where x is a number, else an array


class Derivative(NamedTuple, Generic[Slope]):
    """A gradient with what is known of it.

    Attributes
    ----------
    gradient : ndarray or float
    error : ndarray or float
        Absolute error of each component: the true one is within it in 99 % of cases, whatever the precision of f; inf
        where it cannot be determined.
    steps : ndarray or float
        The step of each component: that of the difference, or the smallest of those it was extrapolated from.
    nfev : int
        How often f was called.
    """

    gradient: Slope
    error: Slope
    steps: Slope
    nfev: int


@typing.overload
def numerical_diff(f: Callable[[float], typing.SupportsFloat], x: Number, h: float = 1e-4) -> float: ...
@typing.overload
def numerical_diff(f: Callable[[Doubles], ArrayLike], x: ArrayLike, h: float = 1e-4) -> Doubles: ...
def numerical_diff(f, x, h=1e-4):
    """Derivative of a function of one number, by the central difference of the textbook.

    (f(x + h) − f(x − h)) / ((x + h) − (x − h)): the divisor is the distance between the two points as they are in
    floating point, which differs from 2h in the last digits of x.

    Parameters
    ----------
    f : callable
        Takes a float and returns a real number; for an array x it takes the array and works elementwise.
    x : float or array_like of float
        Where; integers are promoted. Never written to.
    h : float, default 1e-4
        The step, positive. The error is about f'''(x)·h²/6 from truncation and ε·|f(x)|/h from rounding.

    Returns
    -------
    float or ndarray
        df/dx, an array of the shape of x where x is one.

    Raises
    ------
    TypeError, ValueError
        f, x or h is not of that kind, h vanishes beside x or leads beyond the largest float, or f does not return one
        finite real number for each x.

    Examples
    --------
    >>> round(numerical_diff(lambda x: x**3 + x**2 + x, 1.0), 6)
    6.0
    """
    validation.callable_(f, "f")
    h = validation.scalar(h, "h", positive=True)
    x = validation.real_array(x, "x", dtype=np.float64)
    with np.errstate(all="ignore"):
        above, below = x + h, x - h
        distance = above - below
    if not np.all(distance):
        raise ValueError(f"h = {h!r} is too small to move x = {validation.show_point(x)}")
    if not np.all(np.isfinite(distance)):
        raise ValueError(f"h = {h!r} is too large for x = {validation.show_point(x)}: the points overflow")
    if x.ndim == 0:
        values = [validation.finite_number(f(float(at)), at, -1) for at in (above, below)]
        return (values[0] - values[1]) / float(distance)
    values = []
    for at in (above, below):
        value = validation.real_array(f(at.copy()), "what f returned for an array x", dtype=np.float64)
        if value.shape != x.shape:
            raise ValueError(f"f must work elementwise: for x of shape {x.shape} it returned shape {value.shape}")
        values.append(value.copy())  # f may fill and return the same buffer each time
    with np.errstate(all="ignore"):
        return (values[0] - values[1]) / distance


@typing.overload
def numerical_gradient(
    f: ScalarFunction,
    x: Number,
    h: Steps = None,
    *,
    full_output: Literal[False] = False,
    **options: Unpack[SchemeOptions],
) -> float: ...
@typing.overload
def numerical_gradient(
    f: ScalarFunction,
    x: ArrayLike,
    h: Steps = None,
    *,
    full_output: Literal[False] = False,
    **options: Unpack[SchemeOptions],
) -> Doubles: ...
@typing.overload
def numerical_gradient(
    f: ScalarFunction, x: Number, h: Steps = None, *, full_output: Literal[True], **options: Unpack[SchemeOptions]
) -> Derivative[float]: ...
@typing.overload
def numerical_gradient(
    f: ScalarFunction, x: ArrayLike, h: Steps = None, *, full_output: Literal[True], **options: Unpack[SchemeOptions]
) -> Derivative[Doubles]: ...
def numerical_gradient(
    f, x, h=None, *, scheme="central", bounds=None, typical_x=None, vectorized=False, workers=None, args=(),
    nan_policy="raise", full_output=False,
):  # fmt: skip
    """Gradient of a scalar function of an array, by finite differences or complex steps.

    Parameters
    ----------
    f : callable, scipy.LowLevelCallable or numba cfunc
        f(x, *args) returns one real number: a Python or NumPy scalar, or an array of one element. Each call gets a
        private float64 copy of x in its shape, so f may write to it or keep it. An exception that f raises reaches
        the caller as it is. A C function is `double (n, double *x, void *user_data)`, n an intptr_t, long or int; x
        may be const, user_data left out; it is called without Python in between.
    x : array_like of float, dict or pandas Series
        Any shape; integers and float32 are promoted to float64. Never written to. A dict of numbers and arrays, or a
        Series, goes to f as such, and what is returned has its names; so may h, bounds and typical_x.
    h : float or array_like, optional
        The step, or one for each coordinate; for "richardson" the largest of four steps h, h/4, h/16, h/64. Without
        it the step is ε^(1/(p+1))·max(1, |xᵢ|) for a scheme of order p, ε being 2.2e-16, and a better one is looked
        for where that is not good enough.
    scheme : {"central", "forward", "backward", "five-point", "richardson", "complex"}
        ============  ============================================  =======  ==========================
        scheme        formula                                       error    evaluations for d variables
        ============  ============================================  =======  ==========================
        "forward"     (f(x + h) − f(x)) / h                         O(h)     d + 1, see below
        "backward"    (f(x) − f(x − h)) / h                         O(h)     d + 1, see below
        "central"     (f(x + h) − f(x − h)) / 2h                    O(h²)    2d, see below
        "five-point"  (8(f(x+h) − f(x−h)) − f(x+2h) + f(x−2h))/12h  O(h⁴)    4d, see below
        "richardson"  central differences extrapolated to h = 0     –        10 and 6d to 26d; 8d for a given h
        "complex"     Im f(x + ih) / h                              O(h²)    d, and 6 to 48 for a check
        ============  ============================================  =======  ==========================

        All divide by the distance between the points as they are in floating point. Without h, or for full_output,
        f is evaluated at three more points on a line, which tell the error of the slopes. Without h, where that may
        exceed 1e-6·max(1, |gᵢ|), or f was not finite or shows fewer digits than float64 has, the noise of f is
        measured by 7 to 90 values, and 2 to 24 points more for each coordinate that is in doubt find a better step.
        Where f raises an ArithmeticError or a ValueError at such a further point, that is taken for a border.
        "complex" is for an analytic f that takes a complex x, and refuses another: it compares with a difference along
        a line on which all coordinates move, and if that is something else, with 6 to 26 real values for each
        coordinate, of which it names one that disagrees.
    bounds : pair (lower, upper) of float or array_like, optional
        f is evaluated at no point outside. Where they leave no room for h on both sides, the difference is one of the
        same order to the roomier side, of a smaller step if need be; it needs f(x) as well, once for all coordinates.
    typical_x : float or array_like, optional
        The size of each coordinate that counts as 1 for the default steps: it replaces 1 in max(1, |xᵢ|).
    vectorized : bool, default False
        f takes points of shape (m, *shape of x) and returns their m values. They come in batches that fit the cache.
    workers : int or callable, optional
        For an expensive f. A number of threads, −1 for one a CPU: they help an f that waits or releases the GIL, as
        most compiled code does. Or a map such as the `map` of an executor or of a multiprocessing.Pool, for pure
        Python; it must yield its results in order. An exception then carries a note of the point. A C function, which
        must be safe to call so, uses the threads only where the work is worth them. The result does not depend on
        workers.
    args : tuple
        Further arguments of f.
    nan_policy : {"raise", "propagate"}
        What to do where f returns NaN or an infinity, and no other step avoids it.
    full_output : bool, default False
        Return a `Derivative`: gradient, error, steps, nfev.

    Returns
    -------
    ndarray of float64, of the shape of x; a float where x is a number. Or a Derivative of such.

    Raises
    ------
    TypeError
        f is not callable or a C function of another signature, x is not real, or f returned something else than a
        real number.
    ValueError
        x or h is not finite, h is not positive, vanishes beside x or leads beyond the largest float, x is not within
        its bounds, or f returned NaN, an infinity, or several numbers; the message gives the point and the coordinate.

    Examples
    --------
    >>> numerical_gradient(lambda x: x[0] ** 2 + x[1] ** 2, [3.0, 4.0]).round(6)
    array([6., 8.])
    """
    if type(f) is not types.FunctionType and c_functions.is_c(f):
        f = c_functions.c_function(f, np.size(x))
    if (
        scheme == "central"
        and bounds is typical_x is workers is None
        and vectorized is full_output is False
        and type(x) is np.ndarray
        and x.dtype is validation.FLOAT64
        and x.ndim == 1
        and (h is None or (type(h) is float and 0 < h < math.inf))
        and (args == () or (type(args) is tuple and type(f) is not CFunction))
        and nan_policy in NAN_POLICIES
        and callable(f)
    ):  # the common case, by one kernel; the code below would return the same
        found = _quick(f, x, h, args, nan_policy)
        if found is not None:
            return found
    validation.choice(scheme, "scheme", SCHEMES)
    validation.choice(nan_policy, "nan_policy", NAN_POLICIES)
    full_output = validation.boolean(full_output, "full_output")
    names = forms.flattened(x)
    if names is not None:
        found = numerical_gradient(
            names.function(f), names.flat, scheme=scheme, workers=workers, args=args, nan_policy=nan_policy,
            full_output=True, **flat_options(names, h, bounds, typical_x, vectorized),
        )  # fmt: skip
        found = Derivative(*map(names.restore, found[:3]), found.nfev)
        return found if full_output else found.gradient
    x = np.asarray(validation.real_array(x, "x", dtype=np.float64), order="C")
    searches = h is None and scheme in ("central", "richardson")
    as_number = NAN_POLICIES[nan_policy]
    first = validation.any_number if searches or scheme == "complex" else as_number  # of values that decide nothing yet
    sampler = sampling.sampler(f, x, args, first, vectorized, workers)
    limits = stencils.limits(bounds, x)
    if scheme == "complex":
        if isinstance(f, CFunction):
            raise ValueError("scheme='complex' needs an f of complex numbers, which a C function of double is not")
        steps = stencils.sized(x, complex_step.STEP, h, typical_x)
        found = complex_step.slopes(sampler, as_number, steps, limits, {"vectorized": vectorized, "workers": workers})
    elif scheme == "richardson":
        steps = stencils.sized(x, RELATIVE_STEP, h, typical_x)
        found = _extrapolated(sampler, steps, limits, searches, nan_policy == "raise")
    elif scheme == "central" and limits is None:
        found = _central(sampler, x, h, typical_x, nan_policy, full_output)
    else:
        steps = stencils.steps(x, scheme, h, typical_x)
        found = _differences(sampler, steps, scheme, limits, h is None, full_output, nan_policy)
    if full_output:
        return Derivative(*(part.reshape(x.shape) if x.ndim else float(part[0]) for part in found), sampler.nfev)
    return found.value.reshape(x.shape) if x.ndim else float(found.value[0])


def _quick(f, x, h, args, nan_policy):
    """The gradient at a plain array by one call of a kernel, and more where that leaves doubts; None for others."""
    flags = x.flags
    if not (flags.c_contiguous and flags.aligned):
        return None
    values, gradient = np.empty((x.size, 2)), np.empty(x.size)
    # Where a step is searched for, NaN is no end.
    steps, as_number, probes = OWN_STEPS, validation.any_number, np.empty(3)
    if h is not None:
        steps, as_number, probes = np.full(x.size, h), NAN_POLICIES[nan_policy], probes[:0]
    kernel = kernels.active.central_differences
    doubtful = kernel(f, x, steps, x.shape, args, as_number, values, probes, gradient)
    if doubtful == 0 or (doubtful > 0 and h is not None):
        return gradient
    if doubtful > 0:
        return _mended(sampling.sampler(f, x, args), values, probes, gradient, nan_policy).value
    return None


def flat_options(names, h, bounds, typical_x, vectorized):
    """What is there for each coordinate, as vectors where it has the names of x."""
    if vectorized:
        raise ValueError("vectorized=True gives f points as rows: x must be an array then, without names")
    if isinstance(bounds, tuple):
        bounds = tuple(names.flatten(side, "bounds") for side in bounds)
    return {"h": names.flatten(h, "h"), "bounds": bounds, "typical_x": names.flatten(typical_x, "typical_x")}


def gradient_and_count(f, x, workers=None):
    """The gradient of f at a C-contiguous array of float64 by the library's own rule, and the evaluations it took.

    As `numerical_gradient`, for those who have checked f and x and want NaN where f is not finite.
    """
    if workers is not None:
        sampler = sampling.sampler(f, x, workers=workers)
        return _central(sampler, x, None, None, "propagate", False).value.reshape(x.shape), sampler.nfev
    values, probes, gradient = np.empty((x.size, 2)), np.empty(3), np.empty(x.size)
    kernel = kernels.active.central_differences
    doubtful = kernel(f, x.reshape(-1), OWN_STEPS, x.shape, (), validation.any_number, values, probes, gradient)
    if doubtful < 0:
        return np.full(x.shape, np.nan), 0
    nfev = 2 * x.size + 3 * (x.size > 0)
    if doubtful == 0:
        return gradient.reshape(x.shape), nfev
    gradient, more = mended_and_count(f, x, values, probes, gradient)
    return gradient, nfev + more


def mended_and_count(f, x, values, probes, slopes):
    """The rest of `gradient_and_count`, where values, probes and slopes of central differences leave doubts."""
    sampler = sampling.sampler(f, x)
    found = _mended(sampler, values, probes, slopes, "propagate")
    return found.value.reshape(x.shape), sampler.nfev


def _central(sampler, x, h, typical_x, nan_policy, want_error):
    """Central differences around x, without bounds: `Slopes`, its error and steps only if they are wanted."""
    steps = OWN_STEPS if h is typical_x is None else stencils.steps(x, "central", h, typical_x)
    values, slopes = np.empty((x.size, 2)), np.empty(x.size)
    probes = np.empty(3 if x.size and (h is None or want_error) else 0)
    if sampler.is_plain:
        arguments = sampler.x, steps, x.shape, sampler.args, sampler.as_number, values, probes, slopes
        doubtful = kernels.active.central_differences(sampler.f, *arguments)
        sampler.nfev += values.size + probes.size
    elif isinstance(sampler, sampling.Batches):
        doubtful = sampler.central_differences(steps, values, probes, slopes)
    else:
        h_of_each = steps if len(steps) else stencils.steps(x, "central")
        with np.errstate(all="ignore"):
            points = np.column_stack([sampler.x + h_of_each, sampler.x - h_of_each])
            stencils.refuse_useless(sampler.x, h_of_each, points[:, 0] - points[:, 1])
        values[:] = sampler.around(points)
        if len(probes):
            kernels.active.central_slopes(sampler.x, steps, values, probes[:0], slopes)
            probes[:] = sampler.on(noise.Line(sampler.x, h_of_each, slopes).points)
        doubtful = kernels.active.central_slopes(sampler.x, steps, values, probes, slopes)
    if not want_error and (doubtful == 0 or h is not None):
        return Slopes(slopes, None, None)
    return _mended(sampler, values, probes, slopes, nan_policy if h is None else None, steps)


def _extrapolated(sampler, steps, limits, searches, refuse):
    """Richardson's scheme, and once more with the noise that differences along a line show where they disagree."""
    if not searches or not len(steps):
        return refinement.richardson(sampler, steps, 0.0, limits, True, refuse)
    level, _ = noise.level(sampler.on, sampler.x, np.array([sampler.here()]), limits)
    found = refinement.richardson(sampler, steps, level, limits, False, refuse)
    line = noise.Line(sampler.x, steps, found.value, limits)
    ends, here = sampler.on(line.points[:2]), sampler.here()
    with np.errstate(all="ignore"):
        misfit, _ = line.misfits(found.value, (*ends, ends[0]), here)
        tolerated = np.maximum(DOUBT * np.maximum(1.0, np.abs(found.value)), found.error) * steps
        least = max(16 * EPSILON * abs(here), np.min(tolerated) / 4)
    if line.two_sided and misfit > 16 * max(least, level):
        hidden = noise.jump(sampler.on, sampler.x, line.v, (ends[1], ends[0]), least) / 2
        if hidden > level:
            return refinement.richardson(sampler, steps, hidden, limits, False, refuse)
    return found


def _mended(sampler, values, probes, slopes, nan_policy, steps=OWN_STEPS):
    """Central differences with their errors, and the doubtful of them looked at again but where nan_policy is None."""
    if not len(slopes):
        return Slopes(slopes, slopes, slopes)
    steps = steps if len(steps) else stencils.steps(sampler.x, "central")
    stencil = Stencil(sampler.x, steps, "central")
    return _judged(sampler, stencil, values, slopes, noise.Line(sampler.x, steps, slopes), probes, None, nan_policy)


def _differences(sampler, steps, scheme, limits, searches, want_error, nan_policy):
    """Slopes by one formula, with the error that its values show."""
    stencil = Stencil(sampler.x, steps, scheme, limits)
    here = sampler.here() if stencil.needs_here else None
    values = sampler.around(stencil.points)
    slopes = stencil.slopes(values, here)
    if not len(slopes) or not (searches or want_error):
        return Slopes(slopes, slopes, stencil.steps)
    line = noise.Line(sampler.x, stencil.central_steps(), slopes, limits)
    probes = sampler.on(line.points)
    return _judged(sampler, stencil, values, slopes, line, probes, limits, nan_policy if searches else None)


def _judged(sampler, stencil, values, slopes, line, probes, limits, nan_policy):
    """`Slopes` with their errors, and the doubtful of them looked at again but where nan_policy is None."""
    here = sampler.here() if stencil.needs_here or not line.two_sided else None
    every = np.concatenate([values.reshape(-1), probes, [] if here is None else [here]])
    middle = values[0, :2].mean() if here is None else here
    misfits = line.misfits(slopes, probes, middle)
    found, doubt, limit = refinement.judged(stencil, values, slopes, here, every, misfits, stencil.misfit_share)
    if nan_policy is None or not doubt.any():
        return found
    level, constant = noise.level(sampler.on, sampler.x, every, limits)
    if constant:
        return Slopes(np.zeros_like(slopes), noise.unseen(sampler.x, every[0], level), stencil.steps)
    if line.two_sided and misfits[0] > noise.EXPLAINED * level:
        least = max(16 * EPSILON * noise.largest(every), np.min(limit * stencil.steps) / 4)
        level = max(level, noise.jump(sampler.on, sampler.x, line.v, (probes[1], probes[0]), least) / 2)
    known = values if stencil.scheme == "central" else None
    base, limits = stencil.central_steps(), stencil.kept_side(limits)
    found = refinement.mend(sampler, found, np.flatnonzero(doubt), level, base, limits, known)
    bad = np.argwhere(~np.isfinite(values) & ~np.isfinite(found.value)[:, None])
    if len(bad) and nan_policy == "raise":
        i, k = bad[0].tolist()
        validation.finite_number(float(values[i, k]), sampler.point(i, stencil.points[i, k]), i)
    return found
