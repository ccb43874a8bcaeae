"""Bounds of how strongly a loss can bend by h, valid at every h."""

import math

import numpy as np
from numpy.polynomial import Polynomial


def of_huber(activation, delta):
    """The largest |φ''(h)| of φ(h) = l(f(h), y) over all h, of Huber's loss l; inf without a bound.

    For the softmax, whose outputs do not stand alone, it bounds the largest eigenvalue of ∂²l/∂h².
    """
    if activation == "exp":
        return math.inf
    if activation == "softmax":
        return _softmax_bound(2 * delta)
    if activation in ("identity", "relu"):
        return 1.0
    # ψ'f'² + ψf'' with ψ' ≤ 1 and |ψ| ≤ δ, from the largest f'² and |f''|
    prime, second = {"sigmoid": (1 / 16, 3**0.5 / 18), "tanh": (1.0, 4 / 27**0.5), "softplus": (1.0, 0.25)}[activation]
    return prime + delta * second


def of_squares(activation, y_min, y_max):
    """The same of ½(f − y)² for targets between y_min and y_max."""
    if activation == "exp":
        return math.inf
    if activation == "softmax":
        return _softmax_bound(1 + y_max - y_min)
    if activation in ("identity", "relu"):
        return 1.0
    return _softplus_bound(y_min, y_max) if activation == "softplus" else _squared_bound(activation, y_min, y_max)


def _softmax_bound(slopes):
    # uᵀJᵀJu ≤ ¼ for the Jacobian J = diag(p) − ppᵀ, and Σ_c r_c uᵀ∇²p_c u = E_p[(r − r̄)(u − ū)²] is at most the range
    # of the slopes r times Var_p(u) ≤ ½.
    return 0.25 + 0.5 * slopes


def _squared_bound(activation, y_min, y_max):
    """The largest |φ''(h)| of φ(h) = ½(f(h) − y)² for the sigmoid and tanh.

    φ'' = f'² + (f − y)f''. In terms of the activation's value p it is a polynomial of degree four, so the extrema are
    among the roots of its derivative; it is linear in y, so they belong to the smallest or the largest y.
    """
    p = Polynomial([0, 1])
    prime, second, ends = {
        "sigmoid": (p * (1 - p), p * (1 - p) * (1 - 2 * p), (0.0, 1.0)),
        "tanh": (1 - p**2, -2 * p * (1 - p**2), (-1.0, 1.0)),
    }[activation]
    largest = 0.0
    for y in (y_min, y_max):
        phi = prime**2 + (p - y) * second
        roots = phi.deriv().roots()
        # A double root may come out as a pair with tiny imaginary parts: its real part is still a point of the domain.
        inside = np.clip(np.real(roots), *ends)
        largest = max(largest, float(np.max(np.abs(phi(np.append(inside, ends))))))
    # The roots are exact to rounding only, and near an extremum the value falls off quadratically.
    return largest * (1 + 1e-9)


def _softplus_bound(y_min, y_max):
    """The same for the softplus: σ² + (softplus − y)σ(1 − σ), by a grid; outside of it the value is within e^−40 of 0
    or 1."""
    h = np.linspace(-40, 40, 80_001)
    p = 1 / (1 + np.exp(-h))
    values = [p**2 + (np.logaddexp(0, h) - y) * p * (1 - p) for y in (y_min, y_max)]
    return float(max(1.0, np.max(np.abs(values)))) * (1 + 1e-6)  # what a step of 0.001 can miss
