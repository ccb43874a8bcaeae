"""Finite differences of a Python callable, one coordinate at a time.

The work is in calling f; everything around the call is kept to a copy of the point and a few comparisons.

f is handed a private copy of the point. The same array serves for the next call as long as nobody else holds it and it
is what it was: after each call the reference counts tell whether f kept the array (or a view of it), and its fields
whether f made it read-only or gave it another shape or dtype; then the next call gets a new one. So an f that writes to
its argument, or collects its arguments in a list, is as safe as with a copy for each call.

`reference.py` is the specification of every function here.
"""

import numpy as np

from fastgd.kernels import reference as _reference

from cpython.buffer cimport PyBUF_C_CONTIGUOUS, PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.float cimport PyFloat_AS_DOUBLE, PyFloat_Check
from cpython.ref cimport Py_REFCNT
from libc.math cimport fabs, isfinite
from libc.string cimport memcpy


cdef extern from *:
    """
    /* The head of every NumPy array, as the manual of its C API publishes it (PyArrayObject) and as every extension
       compiled with NumPy's headers reads it. To ask for the buffer or the attributes would cost as much again as all
       else around a call of f. `fields_are_known` makes sure of it; where it fails, f gets a new array each time. */
    typedef struct {
        PyObject_HEAD
        char *data;
        int ndim;
        Py_ssize_t *shape;
        Py_ssize_t *strides;
        PyObject *base;
        PyObject *dtype;
        int flags;
    } fastgd_array;
    """
    ctypedef struct ArrayFields "fastgd_array":
        void* data
        int ndim
        Py_ssize_t* shape
        void* dtype
        int flags

cdef enum:
    MAX_AXES = 64  # NumPy's own limit

cdef int PLAIN = 0x0001 | 0x0100 | 0x0400  # NPY_ARRAY_C_CONTIGUOUS, _ALIGNED, _WRITEABLE
cdef object _empty = np.empty
cdef object _float64 = np.dtype(np.float64)
cdef double CENTRAL = _reference.RELATIVE_STEP["central"]
cdef double FORWARD = _reference.RELATIVE_STEP["forward"]


cdef inline ArrayFields* fields(array) noexcept:
    return <ArrayFields*> <void*> array


cdef void* memory_of(array) except NULL:
    cdef Py_buffer buffer
    PyObject_GetBuffer(array, &buffer, PyBUF_WRITABLE | PyBUF_C_CONTIGUOUS)
    PyBuffer_Release(&buffer)  # the memory is there for as long as the array is
    return buffer.buf


cdef bint fields_are_known() except *:
    """Whether the fields of an array are where they are expected."""
    array = _empty((2, 3))
    cdef ArrayFields* found = fields(array)
    if found.data != memory_of(array) or found.ndim != 2:
        return False
    if found.shape[0] != 2 or found.shape[1] != 3 or found.dtype != <void*> _float64 or found.flags & PLAIN != PLAIN:
        return False
    array.flags.writeable = False
    return found.flags & PLAIN == PLAIN & ~0x0400

cdef bint FIELDS_ARE_KNOWN = fields_are_known()


cdef class Evaluator:
    """f at x with one coordinate replaced, as a C double."""

    cdef object f, as_number, base, point
    cdef tuple shape, args
    cdef const double[::1] x
    cdef double* memory
    cdef Py_ssize_t[MAX_AXES] lengths
    cdef Py_ssize_t ndim, base_references, point_references

    cdef int renew(self) except -1:
        # `point` is a view, so that f cannot resize it: the memory stays ours for as long as we hold `base`.
        self.base = _empty(self.x.shape[0])
        self.memory = <double*> memory_of(self.base)
        self.point = self.base.reshape(self.shape)
        # What the counts are while nobody else holds them, temporaries of Cython included.
        self.base_references = Py_REFCNT(self.base)
        self.point_references = Py_REFCNT(self.point)
        return 0

    cdef bint is_plain(self) noexcept:
        """Whether the point is still the array that f was meant to get."""
        cdef ArrayFields* point = fields(self.point)
        cdef Py_ssize_t axis
        if not FIELDS_ARE_KNOWN or point.data != <void*> self.memory or point.flags & PLAIN != PLAIN:
            return False
        if point.dtype != <void*> _float64 or point.ndim != self.ndim:
            return False
        for axis in range(point.ndim):
            if point.shape[axis] != self.lengths[axis]:
                return False
        return True

    cdef double at(self, Py_ssize_t i, double value) except? -1:
        """f(x) with x[i] = value, or f(x) where i is −1."""
        cdef double result
        cdef Py_ssize_t d = self.x.shape[0]
        if d:
            memcpy(self.memory, &self.x[0], d * sizeof(double))
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
        if (
            Py_REFCNT(self.point) > self.point_references
            or Py_REFCNT(self.base) > self.base_references
            or not self.is_plain()
        ):
            self.renew()
        return result


cdef Evaluator evaluator(f, const double[::1] x, tuple shape, tuple args, as_number):
    cdef Evaluator value = Evaluator.__new__(Evaluator)
    cdef Py_ssize_t axis
    if len(shape) > MAX_AXES:
        raise ValueError(f"an array has at most {MAX_AXES} axes; got the shape {shape}")
    value.f, value.x, value.shape, value.args, value.as_number = f, x, shape, args, as_number
    value.ndim = len(shape)
    for axis in range(value.ndim):
        value.lengths[axis] = shape[axis]
    value.renew()
    return value


cdef int check_lengths(const double[::1] x, const double[::1] steps, double[::1] out) except -1:
    if steps.shape[0] not in (0, x.shape[0]) or out.shape[0] != x.shape[0]:
        raise ValueError(f"x has {x.shape[0]} entries, steps {steps.shape[0]} and out {out.shape[0]}")
    return 0


cdef inline double step_of(const double[::1] steps, Py_ssize_t i, double x, double relative) noexcept:
    return steps[i] if steps.shape[0] else relative * max(1.0, fabs(x))


cdef double distance(double above, double below, Py_ssize_t i, double x, double h) except? -1:
    """How far apart the points really are, in floating point: a number to divide by."""
    cdef double difference = above - below
    if difference == 0:
        raise ValueError(f"h = {h!r} is too small to move coordinate {i}, which is {x!r}")
    if not isfinite(difference):
        raise ValueError(f"h = {h!r} is too large for coordinate {i}, which is {x!r}: the points leave the floats")
    return difference


def evaluate(f, const double[::1] x not None, tuple shape, tuple args, as_number):
    """f(x) on a private copy. See `reference.evaluate`."""
    return evaluator(f, x, shape, args, as_number).at(-1, 0.0)


def central_differences(f, const double[::1] x not None, const double[::1] steps not None, tuple shape, tuple args,
                        as_number, double[::1] out not None):
    """out[i] = (f(x + hᵢeᵢ) − f(x − hᵢeᵢ)) / 2hᵢ, in 2d evaluations. See `reference.central_differences`."""
    check_lengths(x, steps, out)
    cdef Evaluator value = evaluator(f, x, shape, args, as_number)
    cdef Py_ssize_t i
    cdef double h, above, below, dx
    for i in range(x.shape[0]):
        h = step_of(steps, i, x[i], CENTRAL)
        above = x[i] + h
        below = x[i] - h
        dx = distance(above, below, i, x[i], h)
        out[i] = (value.at(i, above) - value.at(i, below)) / dx


def forward_differences(f, const double[::1] x not None, const double[::1] steps not None, tuple shape, tuple args,
                        as_number, double[::1] out not None):
    """out[i] = (f(x + hᵢeᵢ) − f(x)) / hᵢ, in d + 1 evaluations. See `reference.forward_differences`."""
    check_lengths(x, steps, out)
    cdef Evaluator value = evaluator(f, x, shape, args, as_number)
    cdef Py_ssize_t i
    cdef double h, above, dx, here = value.at(-1, 0.0)
    for i in range(x.shape[0]):
        h = step_of(steps, i, x[i], FORWARD)
        above = x[i] + h
        dx = distance(above, x[i], i, x[i], h)
        out[i] = (value.at(i, above) - here) / dx
