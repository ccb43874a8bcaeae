"""Derivatives of any function, from its values alone."""

from __future__ import annotations

import math
import types
import typing
from typing import Generic, Literal, NamedTuple, TypeVar, Unpack

import numpy as np

from fastgd import kernels, validation
from fastgd.derivatives import complex_step, refinement, sampling, stencils
from fastgd.derivatives.refinement import Slopes
from fastgd.derivatives.stencils import EPSILON, Stencil
from fastgd.kernels import c_functions
from fastgd.kernels.c_code import CFunction
from fastgd.kernels.codes import OWN_STEPS

if typing.TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import ArrayLike

    from fastgd.types import Doubles, Number, SamplingOptions, ScalarFunction, Scheme

SCHEMES = ("central", "forward", "backward", "five-point", "richardson", "complex")
NAN_POLICIES = {"raise": validation.finite_number, "propagate": validation.any_number}


Slope = TypeVar("Slope")  # a float where x is a number, else an array


class Derivative(NamedTuple, Generic[Slope]):
    """A gradient with what is known of it.

    Attributes
    ----------
    gradient : ndarray or float
    error : ndarray or float
        Estimated absolute error of each component; NaN for the schemes "forward" and "backward", whose values cannot
        tell it.
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
    h: ArrayLike | None = None,
    *,
    scheme: Scheme = "central",
    full_output: Literal[False] = False,
    **options: Unpack[SamplingOptions],
) -> float: ...
@typing.overload
def numerical_gradient(
    f: ScalarFunction,
    x: ArrayLike,
    h: ArrayLike | None = None,
    *,
    scheme: Scheme = "central",
    full_output: Literal[False] = False,
    **options: Unpack[SamplingOptions],
) -> Doubles: ...
@typing.overload
def numerical_gradient(
    f: ScalarFunction,
    x: Number,
    h: ArrayLike | None = None,
    *,
    scheme: Scheme = "central",
    full_output: Literal[True],
    **options: Unpack[SamplingOptions],
) -> Derivative[float]: ...
@typing.overload
def numerical_gradient(
    f: ScalarFunction,
    x: ArrayLike,
    h: ArrayLike | None = None,
    *,
    scheme: Scheme = "central",
    full_output: Literal[True],
    **options: Unpack[SamplingOptions],
) -> Derivative[Doubles]: ...
def numerical_gradient(
    f,
    x,
    h=None,
    *,
    scheme="central",
    bounds=None,
    typical_x=None,
    vectorized=False,
    workers=None,
    args=(),
    nan_policy="raise",
    full_output=False,
):
    """Gradient of a scalar function of an array, by finite differences or complex steps.

    Parameters
    ----------
    f : callable, scipy.LowLevelCallable or numba cfunc
        f(x, *args) returns one real number: a Python or NumPy scalar, or an array of one element. Each call gets a
        private float64 copy of x in its shape, so f may write to it or keep it. An exception that f raises reaches
        the caller as it is. A C function is `double (n, double *x, void *user_data)`, n an intptr_t, long or int; x
        may be const, user_data left out; it is called without Python in between.
    x : array_like of float
        Any shape; integers and float32 are promoted to float64. Never written to.
    h : float or array_like, optional
        The step, or one for each coordinate; for "richardson" the largest of four steps h, h/4, h/16, h/64. Without
        it the step is ε^(1/(p+1))·max(1, |xᵢ|) for a scheme of order p, ε being 2.2e-16, and "central" and
        "richardson" look for a better one where that is not good enough.
    scheme : {"central", "forward", "backward", "five-point", "richardson", "complex"}
        ============  ============================================  =======  ==========================
        scheme        formula                                       error    evaluations for d variables
        ============  ============================================  =======  ==========================
        "forward"     (f(x + h) − f(x)) / h                         O(h)     d + 1
        "backward"    (f(x) − f(x − h)) / h                         O(h)     d + 1
        "central"     (f(x + h) − f(x − h)) / 2h                    O(h²)    2d, see below
        "five-point"  (8(f(x+h) − f(x−h)) − f(x+2h) + f(x−2h))/12h  O(h⁴)    4d
        "richardson"  central differences extrapolated to h = 0     –        6d to 26d; 8d for a given h
        "complex"     Im f(x + ih) / h                              O(h²)    d, and 6 to 48 for a check
        ============  ============================================  =======  ==========================

        All divide by the distance between the points as they are in floating point. Without h, "central" estimates the
        error of each slope, by rounding and by truncation, from the 2d values. Where one may exceed 1e-6·max(1, |gᵢ|),
        or f was not finite, it evaluates f(x), and for the coordinates that are still in doubt 2 to 24 points more, at
        other steps. So it does where f returns float32. "complex" is for an analytic f that takes a complex x, and
        refuses another: it compares with a difference along a line on which all coordinates move, and if that is
        something else, with 6 to 26 real values for each coordinate, of which it names one that disagrees.
    bounds : pair (lower, upper) of float or array_like, optional
        f is evaluated at no point outside. Where they leave no room for h on both sides, the difference is one of the
        same order to the roomier side, of a smaller step if need be; it needs f(x) as well, once for all coordinates.
    typical_x : float or array_like, optional
        The size of each coordinate that counts as 1 for the default steps: it replaces 1 in max(1, |xᵢ|).
    vectorized : bool, default False
        f takes points of shape (m, *shape of x) and returns their m values. They come in batches that fit the cache.
    workers : int or callable, optional
        For a dear f. A number of threads, −1 for one a CPU: they help an f that waits or releases the GIL, as most
        compiled code does. Or a map such as the `map` of an executor or of a multiprocessing.Pool, for pure Python;
        it must yield its results in order. An exception then carries a note of the point. A C function, which must be
        safe to call so, uses the threads only where the work is worth them. The result does not depend on workers.
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
    ):  # as most are: all that is below comes to the same
        flags = x.flags
        if flags.c_contiguous and flags.aligned:
            values, gradient = np.empty((x.size, 2)), np.empty(x.size)
            steps, as_number = OWN_STEPS, validation.any_number  # where a step is searched for, NaN is no end
            if h is not None:
                steps, as_number = np.full(x.size, h), NAN_POLICIES[nan_policy]
            kernel = kernels.active.central_differences
            doubtful = kernel(f, x, steps, x.shape, args, as_number, values, gradient)
            if doubtful == 0 or (doubtful > 0 and h is not None):
                return gradient
            if doubtful > 0:
                stencil = Stencil(x, stencils.steps(x, "central"), "central")
                return _mended(sampling.sampler(f, x, args), stencil, values, gradient, nan_policy).value
    validation.choice(scheme, "scheme", SCHEMES)
    validation.choice(nan_policy, "nan_policy", NAN_POLICIES)
    full_output = validation.boolean(full_output, "full_output")
    x = np.asarray(validation.real_array(x, "x", dtype=np.float64), order="C")
    searches = h is None and scheme in ("central", "richardson")
    as_number = validation.any_number if searches else NAN_POLICIES[nan_policy]
    sampler = sampling.sampler(f, x, args, as_number, vectorized, workers)
    limits = stencils.limits(bounds, x)
    if scheme == "complex":
        if isinstance(f, CFunction):
            raise ValueError("scheme='complex' needs an f of complex numbers, which a C function of double is not")
        steps = stencils.sized(x, complex_step.STEP, h, typical_x)
        found = complex_step.slopes(sampler, steps, limits, {"vectorized": vectorized, "workers": workers})
    elif scheme == "richardson":
        steps = stencils.sized(x, refinement.RICHARDSON_STEP, h, typical_x)
        found = refinement.richardson(sampler, steps, limits, h is not None, nan_policy == "raise")
    elif scheme == "central" and limits is None:
        found = _central(sampler, x, h, typical_x, nan_policy, full_output)
    else:
        found = _differences(sampler, stencils.steps(x, scheme, h, typical_x), scheme, limits, searches, nan_policy)
    if full_output:
        return Derivative(*(part.reshape(x.shape) if x.ndim else float(part[0]) for part in found), sampler.nfev)
    return found.value.reshape(x.shape) if x.ndim else float(found.value[0])


def gradient_and_count(f, x, workers=None):
    """The gradient of f at a C-contiguous array of float64 by the library's own rule, and the evaluations it took.

    As `numerical_gradient`, for those who have checked f and x and want NaN where f is not finite.
    """
    if workers is not None:
        sampler = sampling.sampler(f, x, workers=workers)
        return _central(sampler, x, None, None, "propagate", False).value.reshape(x.shape), sampler.nfev
    values, gradient = np.empty((x.size, 2)), np.empty(x.size)
    kernel = kernels.active.central_differences
    doubtful = kernel(f, x.reshape(-1), OWN_STEPS, x.shape, (), validation.any_number, values, gradient)
    if doubtful == 0:
        return gradient.reshape(x.shape), 2 * x.size
    if doubtful < 0:
        return np.full(x.shape, np.nan), 0
    gradient, nfev = mended_and_count(f, x, values, gradient)
    return gradient, 2 * x.size + nfev


def mended_and_count(f, x, values, slopes, here=None):
    """The rest of `gradient_and_count`, where values and slopes of central differences (and f(x)) leave doubts."""
    sampler = sampling.sampler(f, x)
    stencil = Stencil(sampler.x, stencils.steps(x, "central"), "central")
    found = _mended(sampler, stencil, values, slopes, "propagate", here)
    return found.value.reshape(x.shape), sampler.nfev


def _central(sampler, x, h, typical_x, nan_policy, want_error):
    """Central differences around x, without bounds: `Slopes`, its error and steps only if they are wanted."""
    steps = OWN_STEPS if h is typical_x is None else stencils.steps(x, "central", h, typical_x)
    values, slopes = np.empty((x.size, 2)), np.empty(x.size)
    if sampler.is_plain:
        arguments = sampler.x, steps, x.shape, sampler.args, sampler.as_number, values, slopes
        doubtful = kernels.active.central_differences(sampler.f, *arguments)
        sampler.nfev += 2 * x.size
    elif isinstance(sampler, sampling.Batches):
        doubtful = sampler.central_differences(steps, values, slopes)
    else:
        h_of_each = steps if len(steps) else stencils.steps(x, "central")
        with np.errstate(all="ignore"):
            points = np.column_stack([sampler.x + h_of_each, sampler.x - h_of_each])
            stencils.refuse_useless(sampler.x, h_of_each, points[:, 0] - points[:, 1])
        values[:] = sampler.around(points)
        doubtful = kernels.active.central_slopes(sampler.x, steps, values, slopes)
    if not want_error and (doubtful == 0 or h is not None):
        return Slopes(slopes, None, None)
    steps = steps if len(steps) else stencils.steps(x, "central")
    if h is None:
        return _mended(sampler, Stencil(sampler.x, steps, "central"), values, slopes, nan_policy)
    errors = refinement.central_errors(*Stencil(sampler.x, steps, "central").ends(values))
    return Slopes(slopes, sum(errors), steps)


def _differences(sampler, steps, scheme, limits, searches, nan_policy):
    """Slopes by one formula, with the error that its values show."""
    stencil = Stencil(sampler.x, steps, scheme, limits)
    here = sampler.here() if stencil.needs_here else None
    values = sampler.around(stencil.points)
    slopes = stencil.slopes(values, here)
    if searches:
        return _mended(sampler, stencil, values, slopes, nan_policy, here, limits)
    error = np.full_like(slopes, np.nan)
    if scheme == "central":
        error = sum(refinement.central_errors(*stencil.ends(values, here)))
    if scheme == "five-point":
        # What the second pair of points changed: more than what it left, for a step that is not too large.
        error = np.abs(slopes - stencil.quotients(values, here)[:, 0])
        error += EPSILON * np.max(np.abs(values), axis=1, initial=0.0) / stencil.steps
    return Slopes(slopes, error, stencil.steps)


def _mended(sampler, stencil, values, slopes, nan_policy, here=None, limits=None):
    """Central differences with the doubtful of them looked at again."""
    found = refinement.mend(sampler, slopes, *stencil.ends(values, here), stencil.steps, limits)
    bad = np.argwhere(~np.isfinite(values) & ~np.isfinite(found.value)[:, None])
    if len(bad) and nan_policy == "raise":
        i, k = bad[0].tolist()
        validation.finite_number(float(values[i, k]), sampler.point(i, stencil.points[i, k]), i)
    return found
