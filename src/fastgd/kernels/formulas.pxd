"""Single-point formulas: the mathematics of an activation or a loss, apart from every loop.

They are `cdef inline`, so another Cython module that writes `from fastgd.kernels.formulas cimport sigmoid` gets them
compiled into its own loops, at its own instruction level, without linking to anything.

Activations are written in e = exp(−|h|), which lies in (0, 1] and cannot overflow. The loops compute e for a whole
block of points at once (`transcendental.pxi`) and then apply these formulas; `sigmoid(h)` and its like compute e
themselves.
"""

from libc.math cimport exp, fabs


# The rows of ACTIVATIONS in `codes.py`, by the same numbers. A test compares the two.
cdef enum Activation:
    IDENTITY = 0
    SIGMOID = 1
    TANH = 2
    RELU = 3
    SOFTPLUS = 4
    EXP = 5
    SOFTMAX = 6


# ------------------------------------------------------------------------------------- activations, e = exp(−|h|)

cdef inline double sigmoid_of(double h, double e) noexcept nogil:
    """σ(h) = 1 / (1 + e^−h)."""
    return (e if h < 0 else 1.0) / (1.0 + e)


cdef inline double sigmoid_prime_of(double e) noexcept nogil:
    """σ'(h) = σ(h)(1 − σ(h)) = e / (1 + e)²: the second form keeps its digits where σ rounds to 1."""
    return e / ((1.0 + e) * (1.0 + e))


cdef inline double tanh_prime_of(double e) noexcept nogil:
    """tanh'(h) = 1 − tanh²h = 4e² / (1 + e²)²: no cancellation in the tails."""
    cdef double q = e * e
    return 4.0 * q / ((1.0 + q) * (1.0 + q))


cdef inline double softplus_of(double h, double log1p_e) noexcept nogil:
    """log(1 + e^h) = max(h, 0) + log(1 + e^−|h|)."""
    return (h if h > 0 else 0.0) + log1p_e


cdef inline double sigmoid(double h) noexcept nogil:
    return sigmoid_of(h, exp(-fabs(h)))


cdef inline double sigmoid_prime(double h) noexcept nogil:
    return sigmoid_prime_of(exp(-fabs(h)))


# --------------------------------------------------------------------------- losses l(f, y), with their slope ∂l/∂f

cdef inline double squared(double f, double y) noexcept nogil:
    """½(f − y)²; its slope is f − y."""
    return 0.5 * (f - y) * (f - y)


cdef inline double huber_slope(double f, double y, double delta) noexcept nogil:
    """f − y, cut off at ±δ."""
    cdef double r = f - y
    return delta if r > delta else (-delta if r < -delta else r)


cdef inline double huber(double f, double y, double delta) noexcept nogil:
    """½r² for |r| ≤ δ, δ(|r| − ½δ) beyond, r = f − y; both are slope·(r − ½slope)."""
    cdef double slope = huber_slope(f, y, delta)
    return slope * ((f - y) - 0.5 * slope)


cdef inline double hinge(double h, double y) noexcept nogil:
    """max(0, 1 − y·h), y = −1 or 1. This and all below are written so that NaN stays."""
    cdef double short_of = 1.0 - y * h
    return 0.0 if short_of <= 0.0 else short_of


cdef inline double hinge_slope(double h, double y) noexcept nogil:
    """−y where y·h < 1; 0 beyond, and at the kink, where every number between is a subgradient."""
    cdef double loss = hinge(h, y)
    return -y if loss > 0.0 else loss


cdef inline double squared_hinge_slope(double h, double y) noexcept nogil:
    """−2y·max(0, 1 − y·h), the slope of hinge²."""
    return -2.0 * y * hinge(h, y)


cdef inline double epsilon_insensitive(double f, double y, double epsilon) noexcept nogil:
    """max(0, |f − y| − ε)."""
    cdef double outside = fabs(f - y) - epsilon
    return 0.0 if outside <= 0.0 else outside


cdef inline double epsilon_insensitive_slope(double f, double y, double epsilon) noexcept nogil:
    """The sign of f − y outside of the tube; 0 inside, and at the two kinks."""
    cdef double loss = epsilon_insensitive(f, y, epsilon)
    if loss > 0.0:
        return 1.0 if f > y else -1.0
    return loss


cdef inline double quantile_slope(double f, double y, double q) noexcept nogil:
    """1 − q where f > y, −q where f < y; 0 at the kink, where every number between is a subgradient."""
    cdef double r = f - y
    return 1.0 - q if r > 0.0 else (-q if r < 0.0 else r)


cdef inline double quantile(double f, double y, double q) noexcept nogil:
    """The pinball loss: q·(y − f) where f < y, (1 − q)·(f − y) else."""
    cdef double r = f - y
    return -q * r if r < 0.0 else (1.0 - q) * r


cdef inline double sigmoid_log(double h, double y, double log1p_e) noexcept nogil:
    """Cross-entropy of σ(h): −y·log σ − (1 − y)·log(1 − σ) = log(1 + e^h) − y·h; its slope by h is σ(h) − y."""
    return softplus_of(h, log1p_e) - y * h


cdef inline double poisson(double h, double y, double exp_h) noexcept nogil:
    """e^h − y·h: the negative log-likelihood less log y!; its slope by h is e^h − y."""
    return exp_h - y * h


cdef inline double gamma(double h, double y, double exp_minus_h) noexcept nogil:
    """y·e^−h + h: the negative log-likelihood of a gamma distribution of mean e^h, over its shape, less what depends on
    y alone; its slope by h is 1 − y·e^−h."""
    return y * exp_minus_h + h
