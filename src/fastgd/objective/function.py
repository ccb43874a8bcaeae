"""Any function of an array, with its gradient or a numerical one."""

import contextlib
import math

import numpy as np

from fastgd import kernels, validation
from fastgd.derivatives.gradient import Derivative, gradient_and_count, numerical_gradient
from fastgd.errors import OutOfTimeError
from fastgd.kernels import c_code, c_functions


class Function:
    """F(x) = f(x) + l1·‖x‖₁ and the gradient of f.

    Parameters
    ----------
    f : callable or C function
    grad : callable, C function or True, optional
        Without it gradients are numerical; with True f returns (value, gradient).
    shape : tuple
        Of x.
    l1 : float
    jobs : int
        Threads for a numerical gradient, which help where f waits or releases the GIL.
    bounds : pair of arrays, optional
        A numerical gradient calls f at no point outside.

    Attributes
    ----------
    gives_both : bool
        Whether one call gives value and gradient.
    numerical : bool
        Whether gradients are numerical.
    has_steps : bool
        Whether there is a kernel that takes many steps on it.
    """

    def __init__(self, f, grad, shape, l1=0.0, jobs=1, bounds=None):
        size = math.prod(shape)
        self.shape, self.l1, self.bounds = shape, l1, bounds
        self.gives_both, self.numerical = grad is True, grad is None
        if self.gives_both:
            self.f = c_functions.c_value_and_gradient(f, size) if c_functions.is_c(f) else validation.callable_(f, "f")
            self.grad = None
        else:
            self.f = c_functions.c_function(f, size) if c_functions.is_c(f) else validation.callable_(f, "f")
            is_c = c_functions.is_c(grad)
            self.grad = c_functions.c_gradient(grad, size) if is_c else grad and validation.callable_(grad, "grad")
        self._workers = None if jobs == 1 or not self.numerical else jobs
        # The kernel that takes many steps has a numerical gradient of its own, which knows of no bounds and no threads.
        self.has_steps = size > 0 and self._workers is None and not (self.numerical and bounds is not None)

    def value(self, x):
        """f at x, without the penalty."""
        if self.gives_both:
            return self.value_and_gradient(x)[0]
        return kernels.active.evaluate(self.f, x.reshape(-1), x.shape, (), validation.any_number)

    def gradient(self, x):
        """The gradient of f at x, and the evaluations of f that it took."""
        if not self.numerical:
            return (self.value_and_gradient(x)[1] if self.gives_both else self.checked(self.grad(x.copy()), x)), 0
        if self.bounds is None:
            return gradient_and_count(self.f, x, self._workers)
        found = self.differences(x)
        return found.gradient, found.nfev

    def value_and_gradient(self, x):
        """Both by one call of an f that gives both."""
        return self.checked(self.f(x.copy()), x)

    def checked(self, returned, x):
        """What grad returned at x as an array, or what an f that gives both returned as (value, gradient)."""
        if not self.gives_both:
            return self._array(returned, "what grad returned", "grad must return an array")
        if not isinstance(returned, (tuple, list)) or len(returned) != 2:
            raise TypeError(
                f"with grad=True f must return a pair (value, gradient); it returned {validation.describe(returned)}"
            )
        what = "the gradient that f returned"
        return validation.any_number(returned[0], x, -1), self._array(returned[1], what, f"{what} must be")

    def differences(self, x, scheme="central"):
        """The numerical gradient at x with what is known of it, a `Derivative` of arrays in the shape of x.

        Entries of variables that the bounds leave no room are 0. Where x is too large for differences, they are NaN.
        """
        if not np.all(np.abs(x) < 1e300):
            return Derivative(np.full(x.shape, np.nan), np.full(x.shape, np.inf), np.zeros(x.shape), 0)
        f, bounds, at, free = self.f, self.bounds, x, np.ones(x.shape, bool)
        if bounds is not None:
            lower, upper = bounds
            at = x = np.clip(x, lower, upper)  # an average of points may round to beyond them
            free = lower < upper
        if not free.all():
            f, bounds, at = _OfSome(f, x, free), (lower[free], upper[free]), x[free]
        found = numerical_gradient(
            f, at, scheme=scheme, bounds=bounds, workers=self._workers, nan_policy="propagate", full_output=True
        )
        parts = [np.zeros(x.shape) for _ in range(3)]
        for part, entries in zip(parts, found, strict=False):
            part[free] = np.reshape(entries, -1)
        return Derivative(*parts, found.nfev)

    @contextlib.contextmanager
    def watched(self, out_of_time):
        """Where evaluations of f raise OutOfTimeError once the time is up; those of a C function about every 50 ms."""
        watched, f = _Watched(self.f, out_of_time), self.f
        if isinstance(f, c_code.CFunction):
            c_code.per_thread.check = watched.check
        else:
            self.f = watched
        try:
            yield watched
        finally:
            self.f, c_code.per_thread.check = f, None

    def _array(self, gradient, what, must_be):
        gradient = validation.real_array(gradient, what, dtype=np.float64, finite=False)
        if gradient.shape != self.shape:
            raise ValueError(f"{must_be} of the shape of x, {self.shape}; it returned {gradient.shape}")
        return np.array(gradient, order="C")  # grad may fill and return the same buffer each time


class _OfSome:
    """A function of some entries of x, the others being as they are."""

    def __init__(self, f, x, free):
        self.f, self.x, self.free = f, x, free

    def __call__(self, entries):
        x = self.x.copy()
        x[self.free] = entries
        return self.f(x)


class _Watched:
    """A function that raises OutOfTimeError in place of a call where the time is up; `calls` counts the others."""

    def __init__(self, f, out_of_time):
        self.f, self.out_of_time, self.calls = f, out_of_time, 0

    def __call__(self, x):
        self.check()
        self.calls += 1
        return self.f(x)

    def check(self):
        if self.out_of_time():
            raise OutOfTimeError
