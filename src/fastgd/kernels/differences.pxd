"""A Python function at points of float64, for the kernels that call one: see `differences.pyx`."""

cdef enum:
    MAX_AXES = 64  # NumPy's own limit


cdef class Evaluator:
    cdef object f, as_number, base, point
    cdef object own  # the array of the last `gradient`, where nobody else holds it
    cdef tuple shape, args
    cdef const double* x  # of d entries; whoever made the evaluator keeps them
    cdef Py_ssize_t d
    cdef double* memory  # of `point`
    cdef bint holds_x  # whether it holds x already when f is asked for a gradient
    cdef Py_ssize_t[MAX_AXES] lengths
    cdef Py_ssize_t ndim, base_references, point_references

    cdef int renew(self) except -1
    cdef bint is_plain(self, array, int flags) noexcept
    cdef int keep_private(self) except -1
    cdef int put_x(self) noexcept
    cdef double at(self, Py_ssize_t i, double value) except? -1
    cdef double here(self, Py_ssize_t i, double value) except? -1
    cdef const double* gradient(self, checked, double* room, bint as_it_is) except NULL
    cdef double value_and_gradient(self, checked, double* out) except? -1
    cdef bint is_gradient(self, array) noexcept
    cdef bint write(self, array, double* out) except -1
    cdef Py_ssize_t differences(self, const double* steps, double* values, double* probes, Py_ssize_t count,
                                double* slopes) except -1
    cdef double probe(self, const double* steps, const double* slopes, int which) except? -1


cdef object array_from(const double* entries, Py_ssize_t d, tuple shape)
cdef Evaluator evaluator(f, const double[::1] x, tuple shape, tuple args, as_number)
