"""Finite differences of a Python callable, one coordinate at a time.

The work is in calling f; everything around the call is kept to a copy of the point and two comparisons.

f is handed a private copy of the point. The same memory serves for the next call as long as nobody else holds it:
after each call the reference counts tell whether f kept the array (or a view of it), and then the next call gets a new
one. So an f that writes to its argument, or collects its arguments in a list, is as safe as with a copy for each call.

`reference.py` is the specification of every function here.
"""

import numpy as np

from cpython.float cimport PyFloat_AS_DOUBLE, PyFloat_Check
from cpython.ref cimport Py_REFCNT
from libc.math cimport isfinite
from libc.string cimport memcpy


cdef class Evaluator:
    """f at x with one coordinate replaced, as a C double."""

    cdef object f, as_number, base, point
    cdef tuple shape, args
    cdef const double[::1] x
    cdef double[::1] memory
    cdef Py_ssize_t base_references, point_references

    def __cinit__(self, f, const double[::1] x not None, tuple shape, tuple args, as_number):
        self.f, self.x, self.shape, self.args, self.as_number = f, x, shape, args, as_number
        self.renew()

    cdef int renew(self) except -1:
        # `point` is a view, so that f cannot resize it: the memory stays ours for as long as we hold `base`.
        self.base = np.empty(self.x.shape[0])
        self.memory = self.base
        self.point = self.base.reshape(self.shape)
        # What the counts are while nobody else holds them, temporaries of Cython included.
        self.base_references = Py_REFCNT(self.base)
        self.point_references = Py_REFCNT(self.point)
        return 0

    cdef double at(self, Py_ssize_t i, double value) except? -1:
        """f(x) with x[i] = value, or f(x) where i is −1."""
        cdef double result
        cdef Py_ssize_t d = self.x.shape[0]
        if d:
            memcpy(&self.memory[0], &self.x[0], d * sizeof(double))
        if i >= 0:
            self.memory[i] = value
        returned = self.f(self.point, *self.args) if self.args else self.f(self.point)
        if PyFloat_Check(returned) and isfinite(PyFloat_AS_DOUBLE(returned)):
            result = PyFloat_AS_DOUBLE(returned)
        else:
            # f may have written to its argument; the message must name the point that it was given.
            point = np.array(self.x)
            if i >= 0:
                point[i] = value
            result = self.as_number(returned, point.reshape(self.shape), i)
        returned = None
        if Py_REFCNT(self.point) > self.point_references or Py_REFCNT(self.base) > self.base_references:
            self.renew()
        return result


cdef int check_lengths(const double[::1] x, const double[::1] steps, double[::1] out) except -1:
    if steps.shape[0] != x.shape[0] or out.shape[0] != x.shape[0]:
        raise ValueError(f"x has {x.shape[0]} entries, steps {steps.shape[0]} and out {out.shape[0]}")
    return 0


cdef double moved(double difference, Py_ssize_t i, double x, double h) except? -1:
    """The distance that the point really moved, in floating point; 0 would divide by nothing."""
    if difference == 0:
        raise ValueError(f"h = {h!r} is too small to move coordinate {i}, which is {x!r}")
    return difference


def evaluate(f, const double[::1] x not None, tuple shape, tuple args, as_number):
    """f(x) on a private copy. See `reference.evaluate`."""
    return (<Evaluator> Evaluator(f, x, shape, args, as_number)).at(-1, 0.0)


def central_differences(f, const double[::1] x not None, const double[::1] steps not None, tuple shape, tuple args,
                        as_number, double[::1] out not None):
    """out[i] = (f(x + hᵢeᵢ) − f(x − hᵢeᵢ)) / 2hᵢ, in 2d evaluations. See `reference.central_differences`."""
    check_lengths(x, steps, out)
    cdef Evaluator value = Evaluator(f, x, shape, args, as_number)
    cdef Py_ssize_t i
    cdef double above, below, dx
    for i in range(x.shape[0]):
        above = x[i] + steps[i]
        below = x[i] - steps[i]
        dx = moved(above - below, i, x[i], steps[i])
        out[i] = (value.at(i, above) - value.at(i, below)) / dx


def forward_differences(f, const double[::1] x not None, const double[::1] steps not None, tuple shape, tuple args,
                        as_number, double[::1] out not None):
    """out[i] = (f(x + hᵢeᵢ) − f(x)) / hᵢ, in d + 1 evaluations. See `reference.forward_differences`."""
    check_lengths(x, steps, out)
    cdef Evaluator value = Evaluator(f, x, shape, args, as_number)
    cdef Py_ssize_t i
    cdef double above, dx, here = value.at(-1, 0.0)
    for i in range(x.shape[0]):
        above = x[i] + steps[i]
        dx = moved(above - x[i], i, x[i], steps[i])
        out[i] = (value.at(i, above) - here) / dx
