# Losses of points: the one place where a name becomes a formula.
#
# A kernel makes a `Formula` of what it was given once, at its entry, where a name that is not known is an error. From
# there on the loss is a pointer to a loop over points, `points`, and one to its slope at a point, `slope_at`: built in
# or the user's, all have the same signature. A new loss is a row of `formula_of`, and its two loops.

from cpython.object cimport PyObject
from cpython.ref cimport Py_DECREF, Py_INCREF
from libc.math cimport NAN, exp, expm1, fabs, log

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


cdef void negative_binomial_points(Formula* l, Py_ssize_t n, const double* h, const double* y, double* value,
                                   double* slope) noexcept nogil:
    """(y + 1/a)·log(1 + a·e^h) − y·h; its slope by h is (e^h − y)/(1 + a·e^h). e is e^−|z|, z = h + log a."""
    cdef double[PIECE] e
    cdef double a = l.parameter, log_a = log(a)
    cdef Py_ssize_t start = 0, m, i
    while start < n:
        m = min(<Py_ssize_t> PIECE, n - start)
        for i in range(m):
            e[i] = -fabs(h[start + i] + log_a)
        exp_block(e, e, m)
        for i in range(m):
            value[start + i] = ((y[start + i] + 1.0 / a) * softplus_of(h[start + i] + log_a, log1p_of_unit(e[i]))
                                - y[start + i] * h[start + i])
        if slope != NULL:
            for i in range(m):
                slope[start + i] = negative_binomial_slope(h[start + i] + log_a, y[start + i], a, e[i])
        start += m


cdef inline double negative_binomial_slope(double z, double y, double a, double e) noexcept nogil:
    """Without the cancellation of (y + 1/a)·σ(z) − y where a is small."""
    return (e / a - y if z < 0 else 1.0 / a - y * e) / (1.0 + e)


cdef double negative_binomial_slope_at(double h, double y, double a) noexcept nogil:
    return negative_binomial_slope(h + log(a), y, a, exp(-fabs(h + log(a))))


cdef inline double tail_ratio(double a) noexcept nogil:
    """e^(a²)·erfc(a) for a ≥ 0: a polynomial in t = (a − 3.5)/(a + 3.5), over 1 + 2a; relative error 4e-16."""
    cdef double t, g
    a = a if a < 1e150 else 1e150
    t = (a - 3.5) / (a + 3.5)
    g = 2.0835126120367879962e-10
    g = g * t - 9.051331763827203e-11
    g = g * t - 2.470289096653225e-09
    g = g * t + 6.015181123994349e-10
    g = g * t + 1.7218394739236483e-08
    g = g * t - 7.49947523643767e-10
    g = g * t - 1.0212703261352564e-07
    g = g * t - 6.485685496741016e-09
    g = g * t + 6.073190142459013e-07
    g = g * t - 4.5117627491856075e-08
    g = g * t - 3.817985587595258e-06
    g = g * t + 2.3286054063457546e-06
    g = g * t + 2.4262131879706926e-05
    g = g * t - 4.278227504341432e-05
    g = g * t - 0.0001215126877653439
    g = g * t + 0.000564384414795248
    g = g * t - 0.0003022678388388429
    g = g * t - 0.0042150199057071416642
    g = g * t + 0.019099330938957040055
    g = g * t - 0.048823325828200463907
    g = g * t + 0.087983153825037555712
    g = g * t - 0.11508959816017429075
    g = g * t + 0.097519095153254622555
    g = g * t - 0.010555596332218661125
    g = g * t - 0.1400091801376193923
    g = g * t + 1.2423492448711543807
    return g / (1.0 + 2.0 * a)


cdef void probit_points(Formula* l, Py_ssize_t n, const double* h, const double* y, double* value,
                        double* slope) noexcept nogil:
    """−y·log Φ(h) − (1 − y)·log Φ(−h), Φ the normal distribution, and its slope.

    Both logarithms are had of the far side, Φ(−|h|) = ½·gauss·r with gauss = e^(−h²/2), and of 1 − that.
    """
    cdef double[PIECE] gauss, ratio, far
    cdef double q, near, at, above, below
    cdef Py_ssize_t start = 0, m, i
    while start < n:
        m = min(<Py_ssize_t> PIECE, n - start)
        for i in range(m):
            at = h[start + i]
            gauss[i] = -0.5 * at * at
            ratio[i] = tail_ratio(0.70710678118654752440 * fabs(at))
            far[i] = 0.5 * ratio[i]
        exp_block(gauss, gauss, m)
        log_block(far, far, m)
        for i in range(m):
            at = h[start + i]
            q = 0.5 * gauss[i] * ratio[i]
            near = -log1p_of_unit(q / (1.0 - q))
            far[i] -= 0.5 * at * at
            above, below = (near if at > 0 else far[i]), (far[i] if at > 0 else near)
            value[start + i] = -y[start + i] * above - (1.0 - y[start + i]) * below
            gauss[i] = 0.39894228040143267794 * gauss[i] / (1.0 - q)
        if slope != NULL:
            for i in range(m):
                q = 0.79788456080286535588 / ratio[i]
                above, below = (gauss[i] if h[start + i] > 0 else q), (q if h[start + i] > 0 else gauss[i])
                slope[start + i] = (1.0 - y[start + i]) * below - y[start + i] * above
        start += m


cdef double probit_slope_at(double h, double y, double parameter) noexcept nogil:
    cdef double ratio = tail_ratio(0.70710678118654752440 * fabs(h)), gauss = exp(-0.5 * h * h)
    cdef double far = 0.79788456080286535588 / ratio
    cdef double near = 0.39894228040143267794 * gauss / (1.0 - 0.5 * gauss * ratio)
    return (1.0 - y) * (far if h > 0 else near) - y * (near if h > 0 else far)


cdef void cloglog_points(Formula* l, Py_ssize_t n, const double* h, const double* y, double* value,
                         double* slope) noexcept nogil:
    """(1 − y)·m − y·log p with m = e^h and p = 1 − e^−m, and its slope (1 − y)·m − y·m·e^−m/p.

    Where m is tiny p is m to within rounding, and its logarithm h − ½m.
    """
    cdef double[PIECE] mean, rest, p, log_p
    cdef double free, share
    cdef Py_ssize_t start = 0, m, i
    while start < n:
        m = min(<Py_ssize_t> PIECE, n - start)
        exp_block(h + start, mean, m)
        for i in range(m):
            rest[i] = -mean[i]
        exp_block(rest, rest, m)
        for i in range(m):
            share = mean[i] if mean[i] < 0.3 else 0.3
            share = -expm1_polynomial(-share)
            p[i] = share if mean[i] < 0.3 else 1.0 - rest[i]
            p[i] = p[i] if mean[i] > 1e-300 else 1e-300
        log_block(p, log_p, m)
        for i in range(m):
            free = 0.0 if y[start + i] == 1.0 else (1.0 - y[start + i]) * mean[i]
            share = h[start + i] - 0.5 * mean[i] if mean[i] < 1e-8 else log_p[i]
            value[start + i] = free - y[start + i] * share
        if slope != NULL:
            for i in range(m):
                free = 0.0 if y[start + i] == 1.0 else (1.0 - y[start + i]) * mean[i]
                share = 1.0 - 0.5 * mean[i] if mean[i] < 1e-8 else mean[i] * rest[i] / p[i]
                share = 0.0 if mean[i] > 745.0 else share
                slope[start + i] = free - y[start + i] * share
        start += m


cdef double cloglog_slope_at(double h, double y, double parameter) noexcept nogil:
    cdef double mean = exp(h)
    cdef double share = 0.0 if mean > 700.0 else (mean / expm1(mean) if mean > 0.0 else 1.0)
    return (0.0 if y == 1.0 else (1.0 - y) * mean) - y * share


cdef void modified_huber_points(Formula* l, Py_ssize_t n, const double* h, const double* y, double* value,
                                double* slope) noexcept nogil:
    """max(0, 1 − y·h)² where y·h ≥ −1 and −4y·h beyond, y = −1 or 1."""
    cdef Py_ssize_t i
    for i in range(n):
        value[i] = -4.0 * y[i] * h[i] if y[i] * h[i] < -1.0 else hinge(h[i], y[i]) * hinge(h[i], y[i])
    if slope != NULL:
        for i in range(n):
            slope[i] = modified_huber_slope_at(h[i], y[i], 0.0)


cdef double modified_huber_slope_at(double h, double y, double parameter) noexcept nogil:
    return -4.0 * y if y * h < -1.0 else squared_hinge_slope(h, y)


cdef void perceptron_points(Formula* l, Py_ssize_t n, const double* h, const double* y, double* value,
                            double* slope) noexcept nogil:
    """max(0, −y·h); its slope is −y also at h = 0, where Rosenblatt's rule begins."""
    cdef Py_ssize_t i
    for i in range(n):
        value[i] = 0.0 if y[i] * h[i] >= 0.0 else -y[i] * h[i]
    if slope != NULL:
        for i in range(n):
            slope[i] = perceptron_slope_at(h[i], y[i], 0.0)


cdef double perceptron_slope_at(double h, double y, double parameter) noexcept nogil:
    cdef double margin = y * h
    return -y if margin <= 0.0 else (0.0 if margin > 0.0 else margin)


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
    elif name == "negative_binomial":
        goes_with(loss, &l, EXP)
        l.points, l.slope_at = negative_binomial_points, negative_binomial_slope_at
    elif name == "probit":
        goes_with(loss, &l, IDENTITY)
        l.points, l.slope_at = probit_points, probit_slope_at
    elif name == "cloglog":
        goes_with(loss, &l, IDENTITY)
        l.points, l.slope_at = cloglog_points, cloglog_slope_at
    elif name == "modified_huber":
        l.points, l.slope_at = modified_huber_points, modified_huber_slope_at
    elif name == "perceptron":
        l.points, l.slope_at = perceptron_points, perceptron_slope_at
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
