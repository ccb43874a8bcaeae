"""Slopes from the imaginary part of f at a complex point, and the check that f is one that has them.

f'(x) = Im f(x + ih)/h + O(h²) (Squire & Trapp 1998, SIAM Review 40, 110): nothing is subtracted, so h may be so small
that truncation vanishes, and the slope has the digits of f. It holds where f is analytic. An f that takes |x|, a real
part, a maximum or a comparison of the complex x gives something else without a word, so real differences are held
against the slopes.
"""

import numbers

import numpy as np

from fastgd import validation
from fastgd.derivatives import refinement, sampling
from fastgd.derivatives.refinement import Slopes
from fastgd.derivatives.stencils import EPSILON

STEP = 1e-30  # times max(1, |x|)
# How far the difference may be off beyond its own error, of the sum of what the coordinates add to it.
DISAGREEMENT = 1e-6


def slopes(real, steps, limits, options):
    """∂f/∂xᵢ by complex steps, in d evaluations and six or more for the check, which are counted in `real`.

    Parameters
    ----------
    real : sampling.Sampler
    steps : (d,) float64
    limits : pair of (d,) arrays or None
        What the points of the check keep within.
    options : dict
        vectorized and workers, for the Sampler of complex points.

    Returns
    -------
    Slopes

    Raises
    ------
    ValueError, TypeError
        f does not return complex numbers for complex points, or not the analytic continuation of what it is.
    """
    x = real.x.reshape(real.shape).astype(np.complex128)
    as_number = ComplexNumber(real.as_number)
    complex_ = sampling.sampler(_noted(real.f), x, real.args, as_number, **options)
    try:
        values = complex_.at(np.arange(len(steps)), complex_.x + 1j * steps)
    finally:
        real.nfev += complex_.nfev
    slope = values.imag / steps
    if len(steps) and np.all(np.isfinite(slope)):  # what is not finite is for `nan_policy`
        check(real, slope, limits, options)
    return Slopes(slope, 16 * EPSILON * np.abs(slope), steps)


def check(real, slope, limits, options):
    """Hold the slopes against a difference along a line on which all coordinates move, and if that fails, each alone.

    The line costs six evaluations whatever d is, but it may leave the domain of f, or cross a jump, where the axes do
    not. So f is refused for a slope along an axis alone.
    """
    d = len(slope)
    weights = 0.5 + 0.5 * np.modf(0.618034 * np.arange(1, d + 1))[0]
    weights[1::2] *= -1
    direction = weights * np.maximum(1.0, np.abs(real.x))
    difference, error = difference_along(real, direction, limits, options)
    if not np.isfinite(difference):  # there may be a border at 0 that a small coordinate must not cross
        direction = weights * np.where(real.x == 0, 1.0, np.abs(real.x))
        difference, error = difference_along(real, direction, limits, options)
    along, size = float(slope @ direction), float(np.abs(slope) @ np.abs(direction))
    if abs(difference - along) <= 10 * error + DISAGREEMENT * max(1.0, size):
        return
    steps = EPSILON ** (1 / 3) * np.where(real.x == 0, 1.0, np.minimum(1.0, np.abs(real.x)))
    level = EPSILON * np.abs(real.here())
    found = refinement.richardson(_of_values(real, options), steps, level, limits, False, False)
    with np.errstate(all="ignore"):
        allowed = 10 * found.error + DISAGREEMENT * np.maximum(1.0, np.abs(found.value))
        off = ~(np.abs(found.value - slope) <= allowed)
    if off.any():
        i = int(np.argmax(off))
        raise ValueError(
            f"scheme='complex' does not suit f: for coordinate {i} it gives a slope of {slope[i]:.6g}, differences of "
            f"real values {found.value[i]:.6g}. f must be analytic: no abs, max, comparison, conj or real part of x"
        )


def _of_values(real, options):
    """`real` for points where f may be no finite number, its evaluations counted in `real`."""
    some = sampling.sampler(real.f, real.x.reshape(real.shape), real.args, validation.any_number, **options)
    evaluate = some.at

    def at(coordinates, values):
        real.nfev += len(values)
        return evaluate(coordinates, values)

    some.at = at
    return some


def difference_along(real, direction, limits, options):
    """The slope of f at x along a line, by differences, and its estimated error; `direction` may be turned around."""
    bounds = None
    if limits is not None:
        below, above = real.x - limits[0], limits[1] - real.x
        direction[:] = np.where(above >= below, 1.0, -1.0) * np.abs(direction)
        ahead, behind = np.maximum(above, below), np.minimum(above, below)
        bounds = tuple(np.array([t]) for t in (-np.min(behind / np.abs(direction)), np.min(ahead / np.abs(direction))))
    line = Line(real, direction, limits, options)
    ladder = refinement.Ladder(
        line,
        np.zeros(1, np.intp),
        np.array([EPSILON ** (1 / 3)]),
        np.full(1, EPSILON * np.abs(line.here())),
        4,
        -8,
        bounds,
    )
    difference, error, _ = ladder.search((0, 1, 2))
    return float(difference[0]), float(error[0])


class Line:
    """t ↦ f(x + t·direction) at t = 0, for `refinement.Ladder`."""

    def __init__(self, real, direction, limits, options):
        self.real, self.direction, self.limits, self.options = real, direction, limits, options
        self.x = np.zeros(1)

    def at(self, coordinates, values):
        found = np.empty(len(values))
        for k, t in enumerate(values.tolist()):
            x = self.real.x + t * self.direction
            if self.limits is not None:
                np.clip(x, *self.limits, out=x)
            one = sampling.sampler(
                self.real.f, x.reshape(self.real.shape), self.real.args, validation.any_number, **self.options
            )
            found[k] = one.here()
            self.real.nfev += one.nfev
        return found

    attempt = at

    def here(self):
        return self.real.here()


class ComplexNumber:
    """What f returned for a complex point, as a complex number; the real `as_number` judges its parts."""

    def __init__(self, as_number):
        self.as_number = as_number

    def __call__(self, returned, point, coordinate):
        value = np.asarray(returned)
        if value.size != 1 or value.dtype.kind != "c":
            if value.size == 1 and (value.dtype.kind in "fiub" or isinstance(returned, numbers.Real)):
                raise TypeError(
                    "scheme='complex' needs an f that carries complex numbers through; for a complex x it returned "
                    f"the real {validation.describe(returned)}, {validation.at_point(point, coordinate)}"
                )
            return self.as_number(returned, point, coordinate)
        value = value.reshape(())[()]
        for part in (value.real, value.imag):
            if not np.isfinite(part):
                self.as_number(float(part), point, coordinate)
                return complex(np.nan, np.nan)
        return complex(value)


class _noted:
    """f, with a word on the complex x where it fails on one."""

    def __init__(self, f):
        self.f = f

    def __call__(self, x, *args):
        try:
            return self.f(x, *args)
        except TypeError as error:
            error.add_note("f got a complex x, as scheme='complex' asks: it must carry complex numbers through")
            raise
