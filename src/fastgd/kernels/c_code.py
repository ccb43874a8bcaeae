"""C functions, with what a kernel must know to call them."""

import ctypes
import threading

import numpy as np

# `check` of a thread, where it is set, is called every 50 ms by the kernels that call C functions there; it may raise.
per_thread = threading.local()


class CCode:
    """The address of a C function of a point, and what must be known to call it.

    Attributes
    ----------
    address : int
    wide : bool
        Whether n has 64 bits (intptr_t) or those of a C int.
    takes_data : bool
        Whether user_data is a parameter.
    data : int
        What is passed for it.
    owner : object
        Whatever keeps function and data alive.
    """

    __slots__ = ("address", "call", "data", "owner", "takes_data", "wide")
    result, outputs = None, 0

    def __init__(self, address, wide, takes_data, data, owner):
        self.address, self.wide, self.takes_data, self.data, self.owner = address, wide, takes_data, data, owner
        self.call = None

    def _called(self, *arrays):
        if self.call is None:
            kinds = [ctypes.c_ssize_t if self.wide else ctypes.c_int, *[ctypes.c_void_p] * (1 + self.outputs)]
            kinds += [ctypes.c_void_p] if self.takes_data else []
            self.call = ctypes.CFUNCTYPE(self.result, *kinds)(self.address)
        pointers = [array.ctypes.data for array in arrays]
        return self.call(arrays[0].size, *pointers, *((self.data,) if self.takes_data else ()))


class CFunction(CCode):
    """`double (n, double *x, void *user_data)`, user_data or not."""

    __slots__ = ()
    result = ctypes.c_double

    def __call__(self, point):
        """f at a C-contiguous array of float64."""
        return self._called(point)


class CValueAndGradient(CCode):
    """`double (n, double *x, double *gradient, void *user_data)`, user_data or not: the value is returned."""

    __slots__ = ()
    result, outputs = ctypes.c_double, 1

    def __call__(self, point):
        """(value, gradient) at a C-contiguous array of float64; entries that are not written to are 0."""
        gradient = np.zeros_like(point)
        return self._called(point, gradient), gradient


class CGradient(CCode):
    """`void (n, double *x, double *gradient, void *user_data)`, user_data or not."""

    __slots__ = ()
    outputs = 1

    def __call__(self, point):
        """The gradient at a C-contiguous array of float64, as a new array; entries that are not written to are 0."""
        gradient = np.zeros_like(point)
        self._called(point, gradient)
        return gradient


class CLoss(CCode):
    """`void (n, const double *h, const double *y, double *value, double *slope, void *user_data)`, user_data or not."""

    __slots__ = ()
    outputs = 3

    def __call__(self, h, y):
        """Losses and slopes of points, C-contiguous arrays of float64, as new arrays."""
        values, slopes = np.zeros_like(h), np.zeros_like(h)
        self._called(h, y, values, slopes)
        return values, slopes


def array_of(view):
    """A copy of what a memoryview shows, as an array: for Python functions that kernels call."""
    return np.array(view)


def let_python_act():
    """Calls the `check` of this thread, if there is one, which may raise to end the kernel's work.

    Kernels that call C functions call it every 50 ms, or after an evaluation that takes longer. As a function begins,
    Python also acts on signals, and raises what other threads have sent to this one.
    """
    check = getattr(per_thread, "check", None)
    if check is not None:
        check()
