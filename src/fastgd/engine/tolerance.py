"""The tolerance of a function: the norm of its gradient, beyond the error that a numerical gradient has."""

import math

import numpy as np

from fastgd.linalg import euclidean_norm


class GradientRule:
    """Whether ‖∇f‖ ≤ tol, the gradient being the shortest subgradient where there are bounds or an l1 penalty.

    A numerical gradient is known up to an error. Where its norm comes within tol, it is evaluated again with an
    estimate of that error, by central differences and, where they do not suffice, by Richardson's extrapolation: the
    tolerance is met where the largest norm that the error allows is within it.

    Parameters
    ----------
    variables : Variables
    update : Update
        Knows the bounds and the penalty.
    tol : float or None

    Attributes
    ----------
    below : float
        No norm above this is looked at; −1 without a tolerance.
    imprecise : bool
        Whether the error is too large to tell, so that no further step will.
    sentence : str
    """

    def __init__(self, variables, update, tol):
        self.variables, self.update, self.tol = variables, update, tol
        self.below, self.imprecise, self.sentence = -1.0 if tol is None else tol, False, ""

    def reached(self, point):
        """Whether the tolerance is met at a Point; it then has the more precise gradient."""
        if not point.least <= self.below:
            return False
        self.sentence = f"the gradient norm {point.least:.3g} is within tol = {self.tol:g}"
        if not self.variables.numerical:
            return True
        least = errors = 0.0
        for scheme in ("central", "richardson"):
            gradient, error = self.variables.gradient_and_error(point.z, scheme)
            least, largest = self._least(point.z, gradient), self._largest(point.z, gradient, error)
            if largest <= self.tol:
                point.gradient, point.norm, point.least = gradient, euclidean_norm(gradient), least
                self.sentence = f"the gradient norm {least:.3g} is within tol = {self.tol:g}"
                return True
            errors = errors or largest - least
        # Steps by gradients of that error would not come closer.
        self.imprecise = not errors <= self.tol / 2
        self.sentence = self._too_imprecise(point.least, errors)
        self.below = 0.7 * point.least if point.least else -1.0  # an evaluation with an error is dear
        return False

    def doubt(self, point):
        """What is to be said at the end of a run that has not met the tolerance: nothing where the error is small."""
        if self.tol is None or not self.variables.numerical or not np.all(np.isfinite(point.z)):
            return ""
        gradient, error = self.variables.gradient_and_error(point.z)
        least = self._least(point.z, gradient)
        error = self._largest(point.z, gradient, error) - least
        return "" if error <= self.tol else self._too_imprecise(least, error)

    def _least(self, z, gradient):
        return euclidean_norm(self.update.least_subgradient(z, gradient))

    def _largest(self, z, gradient, error):
        """The largest norm within the error: the size of each entry is greatest at an end of its interval."""
        with np.errstate(all="ignore"):
            sizes = [np.abs(self.update.least_subgradient(z, g)) for g in (gradient - error, gradient + error)]
            norm = euclidean_norm(np.maximum(*sizes))
        return norm if norm == norm else math.inf

    def _too_imprecise(self, norm, error):
        how = "cannot be determined" if not math.isfinite(error) else f"has an error of about {error:.2g}"
        return (
            f"the gradient norm is {norm:.3g}, but by differences of f it {how}: f is not precise enough to tell "
            f"whether tol = {self.tol:g} is met. Give grad=, a larger tol, or an f of more digits"
        )


def slope_from(variables, z, here, direction, width):
    """The slope of F from z along a unit vector, by a difference to that side, and what it may be off by.

    (4F(w/2) − 3F(0) − F(w)) / w, of second order in the width w; `here` is F(z).
    """
    with np.errstate(over="ignore", invalid="ignore"):
        half, whole = (
            variables.value(z + (w * direction).reshape(z.shape).astype(z.dtype)) for w in (width / 2, width)
        )
    bend = 4 * abs(whole - 2 * half + here) / width
    rounding = 32 * float(np.finfo(z.dtype).eps) * max(abs(here), abs(half), abs(whole)) / width
    return (4 * half - 3 * here - whole) / width, bend + rounding
