"""Any function of an array, with its gradient or a numerical one."""

import numpy as np

from fastgd import kernels, validation
from fastgd.derivatives.gradient import gradient_and_count
from fastgd.kernels import c_functions
from fastgd.kernels.c_code import CFunction, CGradient


class Function:
    """F(x) = f(x) + l1·‖x‖₁ and the gradient of f. It does not change.

    Parameters
    ----------
    f : callable or C function
    grad : callable or C function, optional
        Without it gradients are numerical.
    shape : tuple
        Of x.
    l1 : float
    jobs : int
        Threads for a numerical gradient, which help where f waits or releases the GIL.

    Attributes
    ----------
    in_c : bool
        Whether a kernel can take many steps without coming back to Python.
    """

    def __init__(self, f, grad, shape, l1=0.0, jobs=1):
        size = int(np.prod(shape))
        self.shape, self.l1 = shape, l1
        self.f = c_functions.c_function(f, size) if c_functions.is_c(f) else validation.callable_(f, "f")
        self.grad = grad
        if grad is not None:
            self.grad = (
                c_functions.c_gradient(grad, size) if c_functions.is_c(grad) else validation.callable_(grad, "grad")
            )
        # The kernel that takes many steps has a numerical gradient of its own, for functions that are quick.
        self._workers = None if jobs == 1 or grad is not None else jobs
        self.in_c = isinstance(self.f, CFunction) and (grad is None or isinstance(self.grad, CGradient)) and size > 0
        self.in_c = self.in_c and self._workers is None

    def value(self, x):
        """f at x, without the penalty."""
        return kernels.active.evaluate(self.f, x.reshape(-1), x.shape, (), validation.any_number)

    def gradient(self, x):
        """The gradient of f at x, and the evaluations of f that it took."""
        if self.grad is None:
            return gradient_and_count(self.f, x, self._workers)
        gradient = validation.real_array(self.grad(x.copy()), "what grad returned", dtype=np.float64, finite=False)
        if gradient.shape != x.shape:
            raise ValueError(f"grad must return an array of the shape of x, {x.shape}; it returned {gradient.shape}")
        return np.array(gradient, order="C"), 0  # grad may fill and return the same buffer each time
