# Losses of points: the one place where a name becomes a formula.
#
# A kernel makes a `Formula` of what it was given once, at its entry, where a name that is not known is an error. From
# there on the loss is a pointer to a loop over points, `points`, and one to its slope at a point, `slope_at`: built in
# or the user's, all have the same signature. A new loss is a row of `formula_of`, and its two loops.

from cpython.object cimport PyObject
from cpython.ref cimport Py_DECREF, Py_INCREF
from libc.math cimport NAN, exp, fabs

from fastgd.kernels.callbacks cimport CCallback, c_callback, c_loss
from fastgd.kernels.formulas cimport (
    EXP, IDENTITY, SIGMOID, SOFTMAX,
    epsilon_insensitive, epsilon_insensitive_slope, gamma, hinge, hinge_slope, huber, huber_slope, poisson, quantile,
    quantile_slope, sigmoid_log, sigmoid_of, softplus_of, squared, squared_hinge_slope,
)

from fastgd.kernels.c_code import CLoss as _CLoss
from fastgd.kernels.c_code import array_of as _array_of
from fastgd.kernels.codes import CUSTOM as _CUSTOM
from fastgd.kernels.codes import PointLoss as _PointLoss

cdef enum:
    PYTHON_PIECE = 2048         # points that a Python function is given at once, as a call takes some µs

cdef struct Formula

ctypedef void (*points_type)(Formula*, Py_ssize_t, const double*, const double*, double*, double*) noexcept nogil
ctypedef double (*slope_type)(double, double, double) noexcept nogil

cdef struct Formula:
    int activation              # that comes before `points`: IDENTITY where the loss is a function of h itself
    bint squares                # ½(h − y)², for which there are shorter ways
    double parameter
    points_type points          # (l, n, f, y, value, slope); slope NULL: values alone. NULL: softmax with log loss
    slope_type slope_at         # NULL for functions of the user's own
    Py_ssize_t piece            # points that go through the error term together, at most
    CCallback function
    PyObject* python            # f(h, y)
    PyObject* error             # the first that it raised


cdef void squared_points(Formula* l, Py_ssize_t n, const double* f, const double* y, double* value,
                         double* slope) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(n):
        value[i] = squared(f[i], y[i])
    if slope != NULL:
        for i in range(n):
            slope[i] = f[i] - y[i]


cdef double squared_slope_at(double f, double y, double parameter) noexcept nogil:
    return f - y


cdef void huber_points(Formula* l, Py_ssize_t n, const double* f, const double* y, double* value,
                       double* slope) noexcept nogil:
    cdef Py_ssize_t i
    cdef double delta = l.parameter
    for i in range(n):
        value[i] = huber(f[i], y[i], delta)
    if slope != NULL:
        for i in range(n):
            slope[i] = huber_slope(f[i], y[i], delta)


cdef double huber_slope_at(double f, double y, double delta) noexcept nogil:
    return huber_slope(f, y, delta)


cdef void epsilon_insensitive_points(Formula* l, Py_ssize_t n, const double* f, const double* y, double* value,
                                     double* slope) noexcept nogil:
    cdef Py_ssize_t i
    cdef double epsilon = l.parameter
    for i in range(n):
        value[i] = epsilon_insensitive(f[i], y[i], epsilon)
    if slope != NULL:
        for i in range(n):
            slope[i] = epsilon_insensitive_slope(f[i], y[i], epsilon)


cdef double epsilon_insensitive_slope_at(double f, double y, double epsilon) noexcept nogil:
    return epsilon_insensitive_slope(f, y, epsilon)


cdef void hinge_points(Formula* l, Py_ssize_t n, const double* f, const double* y, double* value,
                       double* slope) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(n):
        value[i] = hinge(f[i], y[i])
    if slope != NULL:
        for i in range(n):
            slope[i] = hinge_slope(f[i], y[i])


cdef double hinge_slope_at(double f, double y, double parameter) noexcept nogil:
    return hinge_slope(f, y)


cdef void squared_hinge_points(Formula* l, Py_ssize_t n, const double* f, const double* y, double* value,
                               double* slope) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(n):
        value[i] = hinge(f[i], y[i]) * hinge(f[i], y[i])
    if slope != NULL:
        for i in range(n):
            slope[i] = squared_hinge_slope(f[i], y[i])


cdef double squared_hinge_slope_at(double f, double y, double parameter) noexcept nogil:
    return squared_hinge_slope(f, y)


cdef void quantile_points(Formula* l, Py_ssize_t n, const double* f, const double* y, double* value,
                          double* slope) noexcept nogil:
    cdef Py_ssize_t i
    cdef double q = l.parameter
    for i in range(n):
        value[i] = quantile(f[i], y[i], q)
    if slope != NULL:
        for i in range(n):
            slope[i] = quantile_slope(f[i], y[i], q)


cdef double quantile_slope_at(double f, double y, double q) noexcept nogil:
    return quantile_slope(f, y, q)


cdef void log_points(Formula* l, Py_ssize_t n, const double* h, const double* y, double* value,
                     double* slope) noexcept nogil:
    """Cross-entropy of σ(h)."""
    cdef double[PIECE] e
    cdef Py_ssize_t start = 0, m, i
    while start < n:
        m = min(<Py_ssize_t> PIECE, n - start)
        for i in range(m):
            e[i] = -fabs(h[start + i])
        exp_block(e, e, m)
        for i in range(m):
            value[start + i] = sigmoid_log(h[start + i], y[start + i], log1p_of_unit(e[i]))
        if slope != NULL:
            for i in range(m):
                slope[start + i] = sigmoid_of(h[start + i], e[i]) - y[start + i]
        start += m


cdef double log_slope_at(double h, double y, double parameter) noexcept nogil:
    return sigmoid_of(h, exp(-fabs(h))) - y


cdef void poisson_points(Formula* l, Py_ssize_t n, const double* h, const double* y, double* value,
                         double* slope) noexcept nogil:
    cdef double[PIECE] e
    cdef Py_ssize_t start = 0, m, i
    while start < n:
        m = min(<Py_ssize_t> PIECE, n - start)
        exp_block(h + start, e, m)
        for i in range(m):
            value[start + i] = poisson(h[start + i], y[start + i], e[i])
        if slope != NULL:
            for i in range(m):
                slope[start + i] = e[i] - y[start + i]
        start += m


cdef double poisson_slope_at(double h, double y, double parameter) noexcept nogil:
    return exp(h) - y


cdef void gamma_points(Formula* l, Py_ssize_t n, const double* h, const double* y, double* value,
                       double* slope) noexcept nogil:
    cdef double[PIECE] e
    cdef Py_ssize_t start = 0, m, i
    while start < n:
        m = min(<Py_ssize_t> PIECE, n - start)
        for i in range(m):
            e[i] = -h[start + i]
        exp_block(e, e, m)
        for i in range(m):
            value[start + i] = gamma(h[start + i], y[start + i], e[i])
        if slope != NULL:
            for i in range(m):
                slope[start + i] = 1.0 - y[start + i] * e[i]
        start += m


cdef double gamma_slope_at(double h, double y, double parameter) noexcept nogil:
    return 1.0 - y * exp(-h)


cdef void tweedie_points(Formula* l, Py_ssize_t n, const double* h, const double* y, double* value,
                         double* slope) noexcept nogil:
    """e^((2 − p)h)/(2 − p) + y·e^((1 − p)h)/(p − 1), the power p ≠ 1, 2; its slope by h is the difference of the two
    exponentials. A target of 0 leaves the second out, also where it is infinite."""
    cdef double[PIECE] mean, share
    cdef double p = l.parameter
    cdef Py_ssize_t start = 0, m, i
    while start < n:
        m = min(<Py_ssize_t> PIECE, n - start)
        for i in range(m):
            mean[i] = (2.0 - p) * h[start + i]
            share[i] = (1.0 - p) * h[start + i]
        exp_block(mean, mean, m)
        exp_block(share, share, m)
        for i in range(m):
            share[i] = 0.0 if y[start + i] == 0.0 else y[start + i] * share[i]
            value[start + i] = mean[i] / (2.0 - p) + share[i] / (p - 1.0)
        if slope != NULL:
            for i in range(m):
                slope[start + i] = mean[i] - share[i]
        start += m


cdef double tweedie_slope_at(double h, double y, double p) noexcept nogil:
    return exp((2.0 - p) * h) - (0.0 if y == 0.0 else y * exp((1.0 - p) * h))


# ------------------------------------------------------------------------------------------------ of the user's own

cdef void c_points(Formula* l, Py_ssize_t n, const double* h, const double* y, double* value,
                   double* slope) noexcept nogil:
    cdef double[PIECE] unused
    cdef Py_ssize_t start = 0, m
    if slope != NULL:
        c_loss(&l.function, n, h, y, value, slope)
        return
    while start < n:
        m = min(<Py_ssize_t> PIECE, n - start)
        c_loss(&l.function, m, h + start, y + start, value + start, unused)
        start += m


cdef void python_points(Formula* l, Py_ssize_t n, const double* h, const double* y, double* value,
                        double* slope) noexcept with gil:
    """Once f has raised, all is NaN, which ends every run; `finish_formula` raises what f did."""
    cdef const double[::1] values, slopes
    cdef Py_ssize_t i
    try:
        if l.error == NULL:
            scores, targets = _array_of(<double[:n]> <double*> h), _array_of(<double[:n]> <double*> y)
            values, slopes = (<object> l.python)(scores, targets)
            if values.shape[0] != n or slopes.shape[0] != n:
                raise ValueError(f"a loss of {n} points gave {values.shape[0]} values and {slopes.shape[0]} slopes")
            memcpy(value, &values[0], n * sizeof(double))
            if slope != NULL:
                memcpy(slope, &slopes[0], n * sizeof(double))
            return
    except BaseException as error:
        Py_INCREF(error)
        l.error = <PyObject*> error
    for i in range(n):
        value[i] = NAN
        if slope != NULL:
            slope[i] = NAN


cdef double user_slope_at(Formula* l, double h, double y) noexcept nogil:
    cdef double value, slope
    l.points(l, 1, &h, &y, &value, &slope)
    return slope


# --------------------------------------------------------------------------------------------------------- dispatch

cdef Formula formula_of(loss, int activation) except *:
    """What a kernel needs of a `codes.PointLoss` behind an activation.

    Raises
    ------
    ValueError
        No loss has that name, or it does not go with the activation.
    """
    cdef Formula l
    if type(loss) is not _PointLoss:
        raise ValueError(f"loss must be a PointLoss of fastgd.kernels.codes; got {loss!r}")
    if not 0 <= activation <= SOFTMAX:
        raise ValueError(f"no activation has the number {activation}")
    name, l.parameter = (<tuple> loss)[0], (<tuple> loss)[1]
    l.activation, l.piece, l.python, l.error = activation, PIECE, NULL, NULL
    l.squares = name == "squared" and activation == IDENTITY
    if name == "squared":
        l.points, l.slope_at = squared_points, squared_slope_at
    elif name == "huber":
        l.points, l.slope_at = huber_points, huber_slope_at
    elif name == "epsilon_insensitive":
        l.points, l.slope_at = epsilon_insensitive_points, epsilon_insensitive_slope_at
    elif name == "hinge":
        l.points, l.slope_at = hinge_points, hinge_slope_at
    elif name == "squared_hinge":
        l.points, l.slope_at = squared_hinge_points, squared_hinge_slope_at
    elif name == "quantile":
        l.points, l.slope_at = quantile_points, quantile_slope_at
    elif name == "log" and activation == SOFTMAX:
        l.points, l.slope_at = NULL, NULL
    elif name == "log":
        goes_with(loss, &l, SIGMOID)
        l.points, l.slope_at = log_points, log_slope_at
    elif name == "poisson":
        goes_with(loss, &l, EXP)
        l.points, l.slope_at = poisson_points, poisson_slope_at
    elif name == "gamma":
        goes_with(loss, &l, EXP)
        l.points, l.slope_at = gamma_points, gamma_slope_at
    elif name == "tweedie":
        goes_with(loss, &l, EXP)
        l.points, l.slope_at = tweedie_points, tweedie_slope_at
    elif name == _CUSTOM:
        goes_with(loss, &l, IDENTITY)
        l.slope_at = NULL
        if isinstance(loss.function, _CLoss):
            l.points = c_points
            c_callback(loss.function, &l.function)
        elif callable(loss.function):
            l.points, l.piece = python_points, PYTHON_PIECE
            l.python = <PyObject*> loss.function  # `loss` outlives the kernel's call
        else:
            raise ValueError(f"a loss of the user's own needs its function; got {loss.function!r}")
    else:
        raise ValueError(f"no loss has the name {name!r}")
    return l


cdef int goes_with(loss, Formula* l, int activation) except -1:
    """The activation is in the loss's own formula, which is one of h."""
    if l.activation != activation:
        raise ValueError(f"the loss {loss[0]!r} goes with activation {activation}; got {l.activation}")
    l.activation = IDENTITY
    return 0


cdef int finish_formula(Formula* l) except -1:
    """Raise what a Python function has raised."""
    if l.error != NULL:
        error = <object> l.error
        Py_DECREF(error)
        l.error = NULL
        raise error
    return 0


cdef inline double slope_of(Formula* l, double f, double y) noexcept nogil:
    """∂l/∂f of one point."""
    return l.slope_at(f, y, l.parameter) if l.slope_at != NULL else user_slope_at(l, f, y)
