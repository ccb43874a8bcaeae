"""Finite differences of a Python callable or a C function, one coordinate at a time.

The work is in calling f; everything around the call is kept to a copy of the point and a few comparisons.

f is handed a private copy of the point. The same array serves for the next call as long as nobody else holds it and it
is what it was: after each call the reference counts tell whether f kept the array (or a view of it), and its fields
whether f made it read-only or gave it another shape or dtype; then the next call gets a new one. So an f that writes to
its argument, or collects its arguments in a list, is as safe as with a copy for each call.

`reference/differences.py` is the specification of every function here.
"""

import numpy as np

from fastgd import validation
from fastgd.kernels import c_code, codes

from cpython.buffer cimport PyBUF_C_CONTIGUOUS, PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.float cimport PyFloat_AS_DOUBLE, PyFloat_Check
from cpython.mem cimport PyMem_Free, PyMem_Malloc
from cpython.ref cimport Py_REFCNT
from libc.math cimport NAN, isfinite
from libc.string cimport memcpy

from fastgd.kernels.callbacks cimport CCallback, Watch, begin, c_callback, c_value, heed
from fastgd.kernels.central cimport all_finite, probe_point, slopes_and_doubts, step_at, useless_step


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

cdef int WRITEABLE = 0x0400  # NPY_ARRAY_WRITEABLE
cdef int PLAIN = 0x0001 | 0x0100 | WRITEABLE  # with NPY_ARRAY_C_CONTIGUOUS and _ALIGNED
cdef int OWNED = PLAIN | 0x0004  # NPY_ARRAY_OWNDATA
cdef object _ndarray = np.ndarray
cdef object _empty = np.empty
cdef object _float64 = np.dtype(np.float64)
cdef object _CFunction = c_code.CFunction
cdef int X_NOT_FINITE = codes.X_NOT_FINITE


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
    return found.flags & PLAIN == PLAIN & ~WRITEABLE

cdef bint FIELDS_ARE_KNOWN = fields_are_known()


cdef class Evaluator:
    """A Python function at x, or beside it: its value as a C double, or the array that it returns."""

    cdef int renew(self) except -1:
        # `point` is a view, so that f cannot resize it: the memory stays ours for as long as we hold `base`.
        self.base = _empty(self.d)
        self.memory = <double*> memory_of(self.base)
        self.point = self.base.reshape(self.shape)
        # What the counts are while nobody else holds them, temporaries of Cython included.
        self.base_references = Py_REFCNT(self.base)
        self.point_references = Py_REFCNT(self.point)
        self.holds_x = False
        return 0

    cdef bint is_plain(self, array, int flags) noexcept:
        """Whether an array is one of float64 with these flags, in the shape of the point."""
        cdef ArrayFields* found = fields(array)
        cdef Py_ssize_t axis
        if not FIELDS_ARE_KNOWN or found.flags & flags != flags:
            return False
        if found.dtype != <void*> _float64 or found.ndim != self.ndim:
            return False
        for axis in range(found.ndim):
            if found.shape[axis] != self.lengths[axis]:
                return False
        return True

    cdef int keep_private(self) except -1:
        """After a call: make a new point where f has kept the one that it was given, or changed what it is."""
        if (
            Py_REFCNT(self.point) > self.point_references
            or Py_REFCNT(self.base) > self.base_references
            or fields(self.point).data != <void*> self.memory
            or not self.is_plain(self.point, PLAIN)
        ):
            self.renew()
        return 0

    cdef int put_x(self) noexcept:
        if self.d and not self.holds_x:
            memcpy(self.memory, self.x, self.d * sizeof(double))
        self.holds_x = False
        return 0

    cdef double at(self, Py_ssize_t i, double value) except? -1:
        """f(x) with x[i] = value, or f(x) where i is −1."""
        self.put_x()
        if i >= 0:
            self.memory[i] = value
        return self.here(i, value)

    cdef double here(self, Py_ssize_t i, double value) except? -1:
        """f at what `memory` holds, which is x with x[i] = value; another point where i is −2."""
        cdef double result
        returned = self.f(self.point, *self.args) if self.args else self.f(self.point)
        if PyFloat_Check(returned) and isfinite(PyFloat_AS_DOUBLE(returned)):
            result = PyFloat_AS_DOUBLE(returned)
        else:
            # f may have written to its argument; the message must name the point that it was given.
            point = array_from(self.x, self.d, (self.d,))
            if i >= 0:
                point[i] = value
            result = self.as_number(returned, point.reshape(self.shape), max(i, -1))
        returned = None
        self.keep_private()
        return result

    cdef const double* gradient(self, checked, double* room, bint as_it_is) except NULL:
        """Where the array is that f returns at x; `checked` makes that array of anything else, or raises.

        It is in `room`, or, with `as_it_is` and if nobody else holds what f returned, there, for as long as `own` is.
        """
        cdef const double* found = room
        self.put_x()
        self.own = None
        returned = self.f(self.point)
        if not self.is_gradient(returned):
            self.write(checked(returned, array_from(self.x, self.d, self.shape)), room)
        else:
            if Py_REFCNT(returned) == 1 and fields(returned).flags & OWNED == OWNED:
                self.own = returned
            if self.own is not None and as_it_is:
                found = <const double*> fields(returned).data
            else:
                self.write(returned, room)
        returned = None
        self.keep_private()
        return found

    cdef double value_and_gradient(self, checked, double* out) except? -1:
        """The value that f returns at x; the gradient that it returns behind it is written."""
        self.put_x()
        returned = self.f(self.point)
        pair = returned
        if not (type(pair) is tuple and len(<tuple> pair) == 2 and PyFloat_Check((<tuple> pair)[0])
                and self.write((<tuple> pair)[1], out)):
            pair = checked(returned, array_from(self.x, self.d, self.shape))
            self.write(pair[1], out)
        cdef double value = pair[0]
        returned = pair = None
        self.keep_private()
        return value

    cdef bint is_gradient(self, array) noexcept:
        """Whether it is an array of float64 in the shape of x."""
        return type(array) is _ndarray and self.is_plain(array, PLAIN & ~WRITEABLE)

    cdef bint write(self, array, double* out) except -1:
        """Write an array of float64 in the shape of x; whether it is one."""
        if not self.is_gradient(array):
            return False
        if self.d:
            memcpy(out, fields(array).data, self.d * sizeof(double))
        return True

    cdef Py_ssize_t differences(self, const double* steps, double* values, double* probes, Py_ssize_t count,
                                double* slopes) except -1:
        """Central differences at x and f at `count` probes: how many of them to doubt."""
        cdef Py_ssize_t d = self.d, i
        cdef const double* x = self.x
        cdef double h
        for i in range(d):
            h = step_at(steps, i, x[i])
            values[2 * i] = self.at(i, x[i] + h)
            values[2 * i + 1] = self.at(i, x[i] - h)
        slopes_and_doubts(x, steps, values, NULL, d, slopes)
        for i in range(count):
            probes[i] = self.probe(steps, slopes, <int> i)
        return slopes_and_doubts(x, steps, values, probes if count else NULL, d, slopes)

    cdef double probe(self, const double* steps, const double* slopes, int which) except? -1:
        """f at a probe; NaN where it raises what a border between may be the reason of."""
        probe_point(self.x, steps, slopes, self.d, which, self.memory)
        try:
            return self.here(-2, 0.0)
        except (ArithmeticError, ValueError):
            self.renew()  # what was raised may hold the point
            return NAN


cdef object array_from(const double* entries, Py_ssize_t d, tuple shape):
    """A new array of d entries."""
    array = _empty(shape)
    if d:
        memcpy(fields(array).data if FIELDS_ARE_KNOWN else memory_of(array), entries, d * sizeof(double))
    return array


cdef Evaluator evaluator(f, const double[::1] x, tuple shape, tuple args, as_number):
    cdef Evaluator value = Evaluator.__new__(Evaluator)
    cdef Py_ssize_t axis
    if len(shape) > MAX_AXES:
        raise ValueError(f"an array has at most {MAX_AXES} axes; got the shape {shape}")
    value.f, value.shape, value.args, value.as_number = f, shape, args, as_number
    value.d = x.shape[0]
    value.x = &x[0] if value.d else NULL
    value.ndim = len(shape)
    for axis in range(value.ndim):
        value.lengths[axis] = shape[axis]
    value.renew()
    return value


# --------------------------------------------------------------------------------------------------------- C functions


cdef int c_sample(f, const double[::1] x, const Py_ssize_t* coordinates, const double* values, Py_ssize_t m,
                  tuple shape, as_number, double* out) except -1:
    """`sample` for a CFunction: no Python but for signals now and then, and for values that are not finite."""
    cdef CCallback callback
    cdef Watch watch
    cdef Py_ssize_t d = x.shape[0], k
    cdef double* point = <double*> PyMem_Malloc((d + 1) * sizeof(double))
    if point is NULL:
        raise MemoryError
    try:
        c_callback(f, &callback)
        with nogil:
            begin(&watch)
            for k in range(m):
                memcpy(point, &x[0], d * sizeof(double))
                if coordinates[k] >= 0:
                    point[coordinates[k]] = values[k]
                out[k] = c_value(&callback, d, point)
                heed(&watch)
    finally:
        PyMem_Free(point)
    for k in range(m):
        if not isfinite(out[k]):
            moved = np.array(x)
            if coordinates[k] >= 0:
                moved[coordinates[k]] = values[k]
            out[k] = as_number(out[k], moved.reshape(shape), coordinates[k])
    return 0


# ---------------------------------------------------------------------------------------------------------- the kernels


def evaluate(f, const double[::1] x not None, tuple shape, tuple args, as_number):
    """f(x) on a private copy. See `reference.differences.evaluate`."""
    cdef Py_ssize_t nothing = -1
    cdef double value = 0
    if type(f) is _CFunction and x.shape[0]:
        c_sample(f, x, &nothing, &value, 1, shape, as_number, &value)
        return value
    return evaluator(f, x, shape, args, as_number).at(-1, 0.0)


def sample(f, const double[::1] x not None, const Py_ssize_t[::1] coordinates not None,
           const double[::1] values not None, tuple shape, tuple args, as_number, double[::1] out not None):
    """out[k] = f(x with x[coordinates[k]] = values[k]). See `reference.differences.sample`."""
    cdef Py_ssize_t k, i, m = coordinates.shape[0]
    cdef Evaluator value
    if values.shape[0] != m or out.shape[0] != m:
        raise ValueError(f"there are {m} coordinates, {values.shape[0]} values and {out.shape[0]} places")
    for k in range(m):
        if not -1 <= coordinates[k] < x.shape[0]:
            raise ValueError(f"a coordinate is beyond the {x.shape[0]} of x")
    if type(f) is _CFunction and m and x.shape[0]:
        c_sample(f, x, &coordinates[0], &values[0], m, shape, as_number, &out[0])
        return
    value = evaluator(f, x, shape, args, as_number)
    for k in range(m):
        i = coordinates[k]
        out[k] = value.at(i, values[k] if i >= 0 else 0.0)


cdef inline const double* given(const double[::1] steps) noexcept:
    return &steps[0] if steps.shape[0] else NULL


def central_differences(f, const double[::1] x not None, const double[::1] steps not None, tuple shape, tuple args,
                        as_number, double[:, ::1] values not None, double[::1] probes not None,
                        double[::1] out not None):
    """out[i] = (f(x + hᵢeᵢ) − f(x − hᵢeᵢ)) / 2hᵢ, in 2d evaluations and 3 probes; returns how many of them to doubt.

    See `reference.differences.central_differences`.
    """
    cdef Py_ssize_t d = x.shape[0]
    cdef const double* h_of_each = given(steps)
    check_lengths(x, steps, values, probes, out)
    if d == 0:
        return 0
    if not all_finite(&x[0], d):
        return X_NOT_FINITE
    refuse_useless(x, h_of_each)
    if type(f) is _CFunction:
        c_pairs(f, x, h_of_each, shape, as_number, &values[0, 0], probes, out)
    else:
        return evaluator(f, x, shape, args, as_number).differences(
            h_of_each, &values[0, 0], &probes[0] if probes.shape[0] else NULL, probes.shape[0], &out[0]
        )
    return doubtful(x, steps, values, probes, out)


def batched_differences(f, const double[::1] x not None, const double[::1] steps not None, tuple shape, tuple args,
                        as_numbers, Py_ssize_t size, double[:, ::1] values not None, double[::1] probes not None,
                        double[::1] out not None):
    """`central_differences` of a vectorized f. See `reference.differences.batched_differences`."""
    cdef Py_ssize_t d = x.shape[0], start, m, k, i, references, count = 2 * d + probes.shape[0]
    cdef const double* h_of_each = given(steps)
    cdef const double[::1] numbers
    cdef double* memory
    cdef double h
    check_lengths(x, steps, values, probes, out)
    if size < 1:
        raise ValueError(f"size must be at least 1; got {size}")
    if d == 0:
        return 0
    refuse_useless(x, h_of_each)
    size = min(size, 2 * d)
    base = None
    flat = shape == (d,)
    start = 0
    while start < count:
        if start == 2 * d:
            doubtful(x, steps, values, probes[:0], out)
        if base is None:
            base = _empty((size, d))
            memory = <double*> memory_of(base)
            references = Py_REFCNT(base)
        m = min(size, (2 * d if start < 2 * d else count) - start)
        for k in range(m):
            i = (start + k) // 2
            if start >= 2 * d:
                probe_point(&x[0], h_of_each, &out[0], d, <int> (start + k - 2 * d), memory + k * d)
                continue
            h = step_at(h_of_each, i, x[i])
            memcpy(memory + k * d, &x[0], d * sizeof(double))
            memory[k * d + i] = x[i] - h if (start + k) % 2 else x[i] + h
        points = base[:m] if flat else base[:m].reshape((m, *shape))
        returned = f(points, *args)
        numbers = as_numbers(returned, m)
        for k in range(m):
            if start < 2 * d:
                values[(start + k) // 2, (start + k) % 2] = numbers[k]
            else:
                probes[start + k - 2 * d] = numbers[k]
        points = returned = numbers = None
        if Py_REFCNT(base) > references:  # f has kept the points, or a view of them
            base = None
        start += m
    return doubtful(x, steps, values, probes, out)


cdef int refuse_useless(const double[::1] x, const double* steps) except -1:
    cdef Py_ssize_t i = useless_step(&x[0], steps, x.shape[0])
    cdef double h
    if i >= 0:
        h = step_at(steps, i, x[i])
        validation.refuse_step((x[i] + h) - (x[i] - h), i, x[i], h)
    return 0


def central_slopes(const double[::1] x not None, const double[::1] steps not None,
                   const double[:, ::1] values not None, const double[::1] probes not None,
                   double[::1] out not None):
    """The half of `central_differences` that needs no f. See `reference.differences.central_slopes`."""
    check_lengths(x, steps, values, probes, out)
    return doubtful(x, steps, values, probes, out) if x.shape[0] else 0


cdef int check_lengths(const double[::1] x, const double[::1] steps, const double[:, ::1] values,
                       const double[::1] probes, const double[::1] out) except -1:
    cdef Py_ssize_t d = x.shape[0]
    if (steps.shape[0] not in (0, d) or out.shape[0] != d or values.shape[0] != d or values.shape[1] != 2
            or probes.shape[0] not in (0, 3)):
        raise ValueError(
            f"x has {d} entries, steps {steps.shape[0]}, values ({values.shape[0]}, {values.shape[1]}), probes "
            f"{probes.shape[0]} and out {out.shape[0]}"
        )
    return 0


cdef int c_pairs(f, const double[::1] x, const double* steps, tuple shape, as_number, double* out,
                 double[::1] probes, double[::1] slopes) except -1:
    """Both values of each coordinate from a CFunction, and those of the probes."""
    cdef Py_ssize_t d = x.shape[0], i
    cdef int k
    cdef double h
    cdef CCallback callback
    cdef double* points = <double*> PyMem_Malloc(2 * d * sizeof(double))
    cdef Py_ssize_t* coordinates = <Py_ssize_t*> PyMem_Malloc(2 * d * sizeof(Py_ssize_t))
    try:
        if points is NULL or coordinates is NULL:
            raise MemoryError
        for i in range(d):
            h = step_at(steps, i, x[i])
            points[2 * i], points[2 * i + 1] = x[i] + h, x[i] - h
            coordinates[2 * i] = coordinates[2 * i + 1] = i
        c_sample(f, x, coordinates, points, 2 * d, shape, as_number, out)
        c_callback(f, &callback)
        slopes_and_doubts(&x[0], steps, out, NULL, d, &slopes[0])
        for k in range(probes.shape[0]):
            probe_point(&x[0], steps, &slopes[0], d, k, points)
            probes[k] = c_value(&callback, d, points)
        return 0
    finally:
        PyMem_Free(points)
        PyMem_Free(coordinates)


cdef Py_ssize_t doubtful(const double[::1] x, const double[::1] steps, const double[:, ::1] values,
                         const double[::1] probes, double[::1] slopes) noexcept:
    """Write the slopes and count the doubtful. See `reference.differences.central_slopes`."""
    return slopes_and_doubts(&x[0], given(steps), &values[0, 0], &probes[0] if probes.shape[0] else NULL, x.shape[0],
                             &slopes[0])
