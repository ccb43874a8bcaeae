"""Products of a Hessian with a vector, by differences of the gradient along it."""

from __future__ import annotations

import typing

import numpy as np

from fastgd import forms, validation
from fastgd.derivatives import stencils
from fastgd.kernels import c_functions
from fastgd.kernels.codes import EPSILON, RELATIVE_STEP

if typing.TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from fastgd.types import Doubles, Gradient, Steps


def hessian_vector_product(
    grad: Gradient, x: ArrayLike, v: ArrayLike, h: Steps = None, *, args: tuple[typing.Any, ...] = ()
) -> Doubles:
    """Product of a Hessian with a vector, by central differences of the gradient along it: two calls of `grad` or more.

    (∇f(x + tv) − ∇f(x − tv)) / 2t, with t such that no coordinate moves by more than hᵢ. Hv for a d of millions takes
    no more memory than a few gradients. Two more calls are made where a coordinate is small, for the scale of f may
    then be its size; and two for each group of coordinates whose steps differ from others' by a factor of 1000.

    Parameters
    ----------
    grad : callable or C function
        grad(x, *args) returns an array of the shape of x. Each call gets a private copy, and what it returns is copied.
        A scipy.LowLevelCallable or numba cfunc is `void (n, double *x, double *gradient, void *user_data)`.
    x, v : array_like of float
        Of one shape. Never written to.
    h : float or array_like, optional
        How far each coordinate may move; ε^(1/3)·max(1, |xᵢ|) without it.
    args : tuple
        Further arguments of `grad`.

    Returns
    -------
    ndarray of float64, of the shape of x

    Raises
    ------
    TypeError, ValueError
        x, v or h is not of that kind, or `grad` did not return finite real numbers in the shape of x.

    Examples
    --------
    >>> hessian_vector_product(lambda x: np.array([4.0, 2.0]) * x, [3.0, 5.0], [1.0, -1.0]).round(6)
    array([ 4., -2.])
    """
    if not c_functions.is_c(grad):
        validation.callable_(grad, "grad")
    names = forms.flattened(x)
    if names is not None:
        found = hessian_vector_product(
            names.gradient(grad), names.flat, names.flatten(v, "v"), names.flatten(h, "h"), args=args
        )
        return names.restore(found)
    x = validation.real_array(x, "x", dtype=np.float64)
    v = validation.real_array(v, "v", dtype=np.float64)
    if v.shape != x.shape:
        raise ValueError(f"v must have the shape of x, {x.shape}; got shape {v.shape}")
    grad = c_functions.gradient_function(grad, x.size, args)
    steps = stencils.steps(x, "central", h).reshape(x.shape)
    product, spread = np.zeros_like(x), 1e3  # steps that differ by less are taken together
    with np.errstate(all="ignore"):
        lengths = np.where(v == 0, np.inf, steps / np.abs(v))
    while np.any(np.isfinite(lengths)):
        shortest = np.min(lengths)
        # A step for all that would hardly move the others leaves them for another.
        together = lengths <= spread * shortest
        lengths[together] = np.inf
        # The scale of a small coordinate may be its own size.
        small = together & (x != 0) & (np.abs(x) * RELATIVE_STEP < steps / spread) & (h is None)
        if np.any(together & ~small):
            product += _slope(grad, x, np.where(together & ~small, v, 0.0), shortest, steps, args)[0]
        if np.any(small):
            product += _small(grad, x, np.where(small, v, 0.0), shortest, steps, args)
    return product


def _small(grad, x, v, t, steps, args):
    """The slope of a gradient along v, by a difference of t, or by a shorter one where that shows another."""
    moving = v != 0
    shorter = RELATIVE_STEP * np.min(np.abs(x[moving] / v[moving]))
    wide, _ = _slope(grad, x, v, t, steps, args, False)
    close, rounding = _slope(grad, x, v, shorter, steps, args)
    with np.errstate(all="ignore"):
        agree = np.abs(wide - close) <= 8 * rounding + 1e-6 * np.abs(wide)
    return np.where(agree, wide, close)


def _slope(grad, x, v, t, steps, args, finite=True):
    with np.errstate(all="ignore"):
        points = x + t * v, x - t * v
        # By the move that was made: in floating point it is not quite 2tv.
        wanted = t * v / steps
        times = t * float(np.sum((points[0] - points[1]) / steps * wanted) / np.sum(wanted * wanted))
    if not np.isfinite(times) or times == 0:
        raise ValueError(f"a step of {t!r} times v leads nowhere from x = {validation.show_point(x)}")
    above, below = (gradient_at(grad, point, args, finite) for point in points)
    with np.errstate(all="ignore"):
        return (above - below) / times, EPSILON * np.maximum(np.abs(above), np.abs(below)) / t


def gradient_at(grad, x, args, finite=True):
    """What a gradient returned at x, checked, as a new array of float64."""
    value = validation.real_array(grad(x.copy(), *args), "what grad returned", dtype=np.float64, finite=finite)
    if value.shape != x.shape:
        raise ValueError(f"grad must return an array of the shape of x, {x.shape}; it returned shape {value.shape}")
    return np.array(value)
