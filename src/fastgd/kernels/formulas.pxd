"""Single-point formulas: the mathematics of an activation or a loss, apart from every loop.

They are `cdef inline`, so another Cython module that writes `from fastgd.kernels.formulas cimport sigmoid` gets them
compiled into its own loops, at its own instruction level, without linking to anything.
"""

from cython cimport floating
from libc.math cimport exp, expf, fabs, fabsf, tanh, tanhf


# The rows of the tables in `reference.py` (ACTIVATIONS, LOSSES), by the same numbers. A test compares the two.
cdef enum Activation:
    IDENTITY = 0
    SIGMOID = 1
    TANH = 2

cdef enum Loss:
    SQUARED = 0


cdef inline floating exp_of_minus_abs(floating h) noexcept nogil:
    """exp(−|h|), in (0, 1]: the one exponential that both halves of a sigmoid share, and it cannot overflow."""
    if floating is float:
        return expf(-fabsf(h))
    else:
        return exp(-fabs(h))


cdef inline floating sigmoid(floating h) noexcept nogil:
    """σ(h) = 1 / (1 + e^−h), without overflow at either end."""
    cdef floating e = exp_of_minus_abs(h)
    return (e if h < 0 else <floating> 1) / (1 + e)


cdef inline floating sigmoid_prime(floating h) noexcept nogil:
    """σ'(h) = σ(h)(1 − σ(h)) = e / (1 + e)² with e = exp(−|h|): the second keeps its digits where σ rounds to 1."""
    cdef floating e = exp_of_minus_abs(h)
    return e / ((1 + e) * (1 + e))


cdef inline floating hyperbolic_tangent(floating h) noexcept nogil:
    if floating is float:
        return tanhf(h)
    else:
        return tanh(h)


cdef inline floating tanh_prime(floating h) noexcept nogil:
    """tanh'(h) = 1 − tanh²h = 4e² / (1 + e²)² with e = exp(−|h|): no cancellation in the tails."""
    cdef floating e = exp_of_minus_abs(h)
    cdef floating q = e * e
    return 4 * q / ((1 + q) * (1 + q))


cdef inline floating activate(floating h, int activation) noexcept nogil:
    """f(h). `activation` is a constant wherever this is inlined, so the tests vanish."""
    if activation == SIGMOID:
        return sigmoid(h)
    if activation == TANH:
        return hyperbolic_tangent(h)
    return h


cdef inline floating activation_prime(floating h, int activation) noexcept nogil:
    """f'(h)."""
    if activation == SIGMOID:
        return sigmoid_prime(h)
    if activation == TANH:
        return tanh_prime(h)
    return 1
