"""C functions of a point, called from compiled loops without Python in between.

    value      double (n, double *x[, void *user_data])
    gradient   void (n, double *x, double *gradient[, void *user_data])

with n an intptr_t or an int. What is known of one at run time is packed into a `CCallback`; all here is `cdef inline`,
so another Cython module that writes `from fastgd.kernels.callbacks cimport CCallback, c_value` gets it compiled in.
"""

from libc.stdint cimport intptr_t

ctypedef double (*value_wide)(intptr_t, double*) noexcept nogil
ctypedef double (*value_wide_data)(intptr_t, double*, void*) noexcept nogil
ctypedef double (*value_int)(int, double*) noexcept nogil
ctypedef double (*value_int_data)(int, double*, void*) noexcept nogil
ctypedef void (*gradient_wide)(intptr_t, double*, double*) noexcept nogil
ctypedef void (*gradient_wide_data)(intptr_t, double*, double*, void*) noexcept nogil
ctypedef void (*gradient_int)(int, double*, double*) noexcept nogil
ctypedef void (*gradient_int_data)(int, double*, double*, void*) noexcept nogil

cdef struct CCallback:
    void* function
    void* user_data
    bint wide  # n is an intptr_t, not an int
    bint takes_data


cdef inline double c_value(const CCallback* f, Py_ssize_t n, double* x) noexcept nogil:
    if f.wide:
        if f.takes_data:
            return (<value_wide_data> f.function)(n, x, f.user_data)
        return (<value_wide> f.function)(n, x)
    if f.takes_data:
        return (<value_int_data> f.function)(<int> n, x, f.user_data)
    return (<value_int> f.function)(<int> n, x)


cdef inline void c_gradient(const CCallback* f, Py_ssize_t n, double* x, double* gradient) noexcept nogil:
    if f.wide:
        if f.takes_data:
            (<gradient_wide_data> f.function)(n, x, gradient, f.user_data)
        else:
            (<gradient_wide> f.function)(n, x, gradient)
    elif f.takes_data:
        (<gradient_int_data> f.function)(<int> n, x, gradient, f.user_data)
    else:
        (<gradient_int> f.function)(<int> n, x, gradient)


cdef inline int c_callback(f, CCallback* out) except -1:
    """Unpack a `reference_differences.CFunction`."""
    out.function = <void*> <size_t> f.address
    out.user_data = <void*> <size_t> f.data
    out.wide, out.takes_data = f.wide, f.takes_data
    return 0
