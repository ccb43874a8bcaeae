"""C functions of a point, called from compiled loops without Python in between.

    value      double (n, double *x[, void *user_data])
    gradient   void (n, double *x, double *gradient[, void *user_data])
    both       double (n, double *x, double *gradient[, void *user_data])
    loss       void (n, const double *h, const double *y, double *value, double *slope[, void *user_data])

with n an intptr_t or an int. What is known of one at run time is packed into a `CCallback`; all here is `cdef inline`,
so another Cython module that writes `from fastgd.kernels.callbacks cimport CCallback, c_value` gets it compiled in.

Nobody knows how long such a function takes, so a loop that calls one keeps a `Watch` and calls `heed` after each call:
Ctrl-C then waits for the call that is under way and no longer.
"""

from libc.stdint cimport intptr_t

cdef extern from *:
    """
    #ifndef FASTGD_SECONDS
    #define FASTGD_SECONDS
    #include <time.h>
    static inline double fastgd_seconds(void) {
        struct timespec now;
    #ifdef _WIN32
        timespec_get(&now, TIME_UTC);
    #else
        clock_gettime(CLOCK_MONOTONIC, &now);
    #endif
        return (double) now.tv_sec + 1e-9 * (double) now.tv_nsec;
    }
    /* Seconds between looks for signals. */
    #define FASTGD_PATIENCE 0.05
    /* The clock is read about so often, in seconds: a reading takes 2 % of that. And it is read after so many calls at
       the latest, which bounds the delay where a function that was quick becomes slow. */
    #define FASTGD_READING 1e-6
    #define FASTGD_MOST_CALLS 64
    #endif
    """
    double seconds_now "fastgd_seconds"() noexcept nogil
    double PATIENCE "FASTGD_PATIENCE"
    double READING "FASTGD_READING"
    Py_ssize_t MOST_CALLS "FASTGD_MOST_CALLS"

ctypedef double (*value_wide)(intptr_t, double*) noexcept nogil
ctypedef double (*value_wide_data)(intptr_t, double*, void*) noexcept nogil
ctypedef double (*value_int)(int, double*) noexcept nogil
ctypedef double (*value_int_data)(int, double*, void*) noexcept nogil
ctypedef void (*gradient_wide)(intptr_t, double*, double*) noexcept nogil
ctypedef void (*gradient_wide_data)(intptr_t, double*, double*, void*) noexcept nogil
ctypedef void (*gradient_int)(int, double*, double*) noexcept nogil
ctypedef void (*gradient_int_data)(int, double*, double*, void*) noexcept nogil
ctypedef double (*both_wide)(intptr_t, double*, double*) noexcept nogil
ctypedef double (*both_wide_data)(intptr_t, double*, double*, void*) noexcept nogil
ctypedef double (*both_int)(int, double*, double*) noexcept nogil
ctypedef double (*both_int_data)(int, double*, double*, void*) noexcept nogil
ctypedef void (*loss_wide)(intptr_t, const double*, const double*, double*, double*) noexcept nogil
ctypedef void (*loss_wide_data)(intptr_t, const double*, const double*, double*, double*, void*) noexcept nogil
ctypedef void (*loss_int)(int, const double*, const double*, double*, double*) noexcept nogil
ctypedef void (*loss_int_data)(int, const double*, const double*, double*, double*, void*) noexcept nogil

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


cdef inline double c_value_and_gradient(const CCallback* f, Py_ssize_t n, double* x, double* gradient) noexcept nogil:
    if f.wide:
        if f.takes_data:
            return (<both_wide_data> f.function)(n, x, gradient, f.user_data)
        return (<both_wide> f.function)(n, x, gradient)
    if f.takes_data:
        return (<both_int_data> f.function)(<int> n, x, gradient, f.user_data)
    return (<both_int> f.function)(<int> n, x, gradient)


cdef inline void c_loss(const CCallback* f, Py_ssize_t n, const double* h, const double* y, double* value,
                        double* slope) noexcept nogil:
    if f.wide:
        if f.takes_data:
            (<loss_wide_data> f.function)(n, h, y, value, slope, f.user_data)
        else:
            (<loss_wide> f.function)(n, h, y, value, slope)
    elif f.takes_data:
        (<loss_int_data> f.function)(<int> n, h, y, value, slope, f.user_data)
    else:
        (<loss_int> f.function)(<int> n, h, y, value, slope)


cdef inline int c_callback(f, CCallback* out) except -1:
    """Unpack a `c_code.CCode`."""
    out.function = <void*> <size_t> f.address
    out.user_data = <void*> <size_t> f.data
    out.wide, out.takes_data = f.wide, f.takes_data
    return 0


cdef struct Watch:
    double began
    double read  # when the clock was last read
    double looked  # when Python was last asked for signals
    Py_ssize_t calls  # between the last reading and the next
    Py_ssize_t left  # of them


cdef inline void begin(Watch* watch) noexcept nogil:
    watch.began = watch.read = watch.looked = seconds_now()
    watch.calls = watch.left = 1


cdef inline int heed(Watch* watch) except -1 nogil:
    """After each call of a C function: let Python act on signals, if it is time to."""
    cdef double now, each
    watch.left -= 1
    if watch.left > 0:
        return 0
    now = seconds_now()
    each = (now - watch.read) / watch.calls
    watch.calls = watch.left = <Py_ssize_t> (READING / each) if each > READING / MOST_CALLS else MOST_CALLS
    if watch.calls < 1:
        watch.calls = watch.left = 1
    watch.read = now
    if 0 <= now - watch.looked < PATIENCE:
        return 0
    watch.looked = now
    return let_python_act()


cdef inline int let_python_act() except -1 with gil:
    # PyErr_CheckSignals would do for Ctrl-C, but not for what `threads.Threads.stop` raises in a thread: that arrives
    # where Python code runs.
    from fastgd.kernels.c_code import let_python_act as python_code
    python_code()
    return 0
