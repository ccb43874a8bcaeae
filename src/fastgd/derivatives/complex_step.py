"""Slopes from the imaginary part of f at a complex point, and the check that f is one that has them.

f'(x) = Im f(x + ih)/h + O(h²) (Squire & Trapp 1998, SIAM Review 40, 110): nothing is subtracted, so h may be so small
that truncation vanishes, and the slope has the digits of f. It holds where f is analytic. An f that takes |x|, a real
part, a maximum or a comparison of the complex x gives a wrong value without an error, so the slopes are compared with
differences of real values.
"""

import numbers

import numpy as np

from fastgd import validation
from fastgd.derivatives import refinement, sampling
from fastgd.derivatives.refinement import Slopes
from fastgd.kernels.codes import EPSILON, RELATIVE_STEP

STEP = 1e-30  # times max(1, |x|): the truncation error, its square, vanishes


def slopes(real, as_number, steps, limits, options):
    """∂f/∂xᵢ by complex steps, in d evaluations and six or more for the check, which are counted in `real`.

    Parameters
    ----------
    real : sampling.Sampler
        Of the real points of the check, where f may be no finite number.
    as_number : callable
        What judges both parts of a complex value, as that of a Sampler.
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
    complex_ = sampling.sampler(_noted(real.f), x, real.args, ComplexNumber(as_number), **options)
    try:
        values = complex_.at(np.arange(len(steps)), complex_.x + 1j * steps)
    finally:
        real.nfev += complex_.nfev
    slope = values.imag / steps
    if len(steps) and np.all(np.isfinite(slope)):  # what is not finite is for `nan_policy`
        as_number(real.here(), real.point(-1, 0.0), -1)
        check(real, slope, limits)
    return Slopes(slope, 16 * EPSILON * np.abs(slope), steps)


def check(real, slope, limits):
    """Compare the slopes with a difference along a line on which all coordinates move, and if that fails, each alone.

    The line costs six evaluations whatever d is, but it may leave the domain of f, or cross a jump, where the axes do
    not. So f is refused for a slope along an axis alone.
    """
    weights = 0.5 + 0.5 * np.modf(0.618034 * np.arange(1, len(slope) + 1))[0]
    weights[1::2] *= -1
    # The second: there may be a border at 0 that a small coordinate must not cross.
    for lengths in (np.maximum(1.0, np.abs(real.x)), np.where(real.x == 0, 1.0, np.abs(real.x))):
        line = Line(real, weights * lengths, limits)
        difference, error = line.slope()
        if np.isfinite(difference):
            break
    share = 1e-6  # how far the slopes may be off beyond the error of the difference, of what they add to it
    size = float(np.abs(slope) @ np.abs(line.direction))
    if abs(difference - float(slope @ line.direction)) <= 10 * error + share * max(1.0, size):
        return
    steps = RELATIVE_STEP * np.where(real.x == 0, 1.0, np.minimum(1.0, np.abs(real.x)))
    found = refinement.richardson(real, steps, EPSILON * np.abs(real.here()), limits, False, False)
    with np.errstate(all="ignore"):
        off = ~(np.abs(found.value - slope) <= 10 * found.error + share * np.maximum(1.0, np.abs(found.value)))
    if off.any():
        i = int(np.argmax(off))
        refuse(f"coordinate {i}", slope[i], found.value[i])


def refuse(what, slope, difference):
    """Raise the error for an f that is not analytic."""
    raise ValueError(
        f"scheme='complex' does not suit f: for {what} it gives a slope of {slope:.6g}, differences of real values "
        f"{difference:.6g}. f must be analytic: no abs, max, comparison, conj or real part of x"
    )


class Line:
    """t ↦ f(x + t·direction) around t = 0, as a Sampler for `refinement.Ladder`; with bounds the direction is turned to
    the side with more room."""

    def __init__(self, real, direction, limits):
        self.x, self.here = np.zeros(1), real.here
        self._real, self._limits, self._bounds, self.direction = real, limits, None, direction
        if limits is not None:
            below, above = real.x - limits[0], limits[1] - real.x
            self.direction = np.where(above >= below, 1.0, -1.0) * np.abs(direction)
            behind, ahead = (side(above, below) / np.abs(direction) for side in (np.minimum, np.maximum))
            self._bounds = np.array([-np.min(behind)]), np.array([np.min(ahead)])

    def attempt(self, coordinates, values):
        points = self._real.x + values[:, None] * self.direction
        return self._real.on(points if self._limits is None else np.clip(points, *self._limits))

    def slope(self):
        """The slope along the line by differences, and its estimated error."""
        step, level = np.array([RELATIVE_STEP]), np.array([EPSILON * np.abs(self.here())])
        ladder = refinement.Ladder(self, np.zeros(1, np.intp), step, level, 4, -8, self._bounds)
        difference, error, _ = ladder.search((0, 1, 2))
        return float(difference[0]), float(error[0])


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
    """f, with a note on the complex x where it raises a TypeError."""

    def __init__(self, f):
        self.f = f

    def __call__(self, x, *args):
        try:
            return self.f(x, *args)
        except TypeError as error:
            error.add_note("f got a complex x, as scheme='complex' asks: it must carry complex numbers through")
            raise
