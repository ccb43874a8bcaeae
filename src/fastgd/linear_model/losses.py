"""The losses of the estimators, as functions of h = Xw + b: what a solver needs beside the kernels' sums.

`slope`, `curvature` and `conjugate` act on arrays (n, k) in float64; the value and the gradient over all rows come from
the kernels. `start` is the best constant h, `conjugate` the Fenchel conjugate φ*(u) = max_h u·h − φ(h) at slopes u.
"""

import math
import typing

import numpy as np

from fastgd import kernels
from fastgd.kernels.reference import ACTIVATIONS, HUBER_DELTA, TUBE, softmax

# A probability or mean of 0 or 1 has no finite log-odds: where every row says the same, stay this far off.
MOST_CERTAIN = 1e-6


class Loss(typing.NamedTuple):
    """One loss: what LinearObjective calls it, and its formulas.

    unit : the threshold that the kernels' formula has; another one is had by measuring targets in other units.
    smooth : whether the gradient is continuous.
    straight : for a loss that is straight in parts, there the curvature of the parabola that touches it from above.
    """

    objective: str
    activation: str
    slope: typing.Callable
    curvature: typing.Callable
    conjugate: typing.Callable
    start: typing.Callable
    unit: float | None = None
    smooth: bool = True
    straight: typing.Callable | None = None

    @property
    def bends_everywhere(self):
        """Whether a step may reckon with the curvature of some rows."""
        return self.smooth and self.straight is None


def _mean(y, s):
    return np.average(y, axis=0, weights=s)


def _median(y, s):
    if s is None:
        return np.median(y, axis=0)
    order = np.argsort(y, axis=0)
    below = np.cumsum(s[order], axis=0)
    middle = np.argmax(below >= 0.5 * below[-1], axis=0)
    return np.take_along_axis(np.take_along_axis(y, order, 0), middle[None], 0)[0]


def _log_odds(y, s):
    p = np.clip(_mean(y, s), MOST_CERTAIN, 1 - MOST_CERTAIN)
    return np.log(p / (1 - p))


def _log_priors(y, s):
    logs = np.log(np.maximum(_mean(y, s), MOST_CERTAIN))
    return logs - logs.mean()


def _log_mean(y, s):
    return np.log(np.maximum(_mean(y, s), MOST_CERTAIN))


def _activated(h, activation, derivative=False):
    """f(h) or f'(h) of any array, by the kernels."""
    h = np.ascontiguousarray(h, dtype=np.float64)
    out = np.empty_like(h)
    apply = kernels.active.apply_derivative if derivative else kernels.active.apply_activation
    apply(h.reshape(-1), ACTIVATIONS[activation], out.reshape(-1))
    return out


def xlogx(q):
    """q·log q, 0 at 0 and inf below: outside of its domain a conjugate is infinite."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(q > 0, q * np.log(np.where(q > 0, q, 1.0)), np.where(q == 0, 0.0, math.inf))


def parabola(r, width):
    """Curvature of the parabola about r = 0 that touches Huber's loss of this width from above at an r beyond it."""
    return np.where(r > width, width / np.maximum(r, width), 0.0)


def _softmax_conjugate(u, y):
    return xlogx(u + y)  # summed over the outputs by whoever sums


def _huber_conjugate(u, y):
    inside = np.abs(u) <= HUBER_DELTA * (1 + 1e-12)
    return np.where(inside, 0.5 * u * u + u * y, math.inf)


LOSSES = {
    "squared_error": Loss(
        "mse",
        "identity",
        lambda h, y: h - y,
        lambda h, y: np.ones_like(h),
        lambda u, y: 0.5 * u * u + u * y,
        _mean,
    ),
    "huber": Loss(
        "huber",
        "identity",
        lambda h, y: np.clip(h - y, -HUBER_DELTA, HUBER_DELTA),
        lambda h, y: (np.abs(h - y) <= HUBER_DELTA).astype(np.float64),
        _huber_conjugate,
        _median,
        unit=HUBER_DELTA,
        straight=lambda h, y: parabola(np.abs(h - y), HUBER_DELTA),
    ),
    "poisson": Loss(
        "poisson",
        "exp",
        lambda h, y: np.exp(h) - y,
        lambda h, y: np.exp(h),
        lambda u, y: xlogx(u + y) - (u + y),
        _log_mean,
    ),
    "log_loss": Loss(
        "log",
        "sigmoid",
        lambda h, y: _activated(h, "sigmoid") - y,
        lambda h, y: _activated(h, "sigmoid", derivative=True),
        lambda u, y: xlogx(u + y) + xlogx(1 - (u + y)),
        _log_odds,
    ),
    "softmax": Loss(
        "log",
        "softmax",
        lambda h, y: softmax(h) - y,
        lambda h, y: softmax(h) * (1 - softmax(h)),
        _softmax_conjugate,
        _log_priors,
    ),
}


def _hinge_conjugate(u, y):
    q = u * y  # between −1 and 0
    return np.where((q >= -1 - 1e-12) & (q <= 1e-12), q, math.inf)


def _squared_hinge_conjugate(u, y):
    q = u * y
    return np.where(q <= 0, 0.25 * q * q + q, math.inf)


def _tube_conjugate(u, y):
    return np.where(np.abs(u) <= 1 + 1e-12, u * y + TUBE * np.abs(u), math.inf)


LOSSES |= {
    "hinge": Loss(
        "hinge",
        "identity",
        lambda h, y: np.where(y * h < 1, -y, 0.0),
        lambda h, y: np.zeros_like(h),
        _hinge_conjugate,
        lambda y, s: np.zeros(y.shape[1]),
        smooth=False,
    ),
    "squared_hinge": Loss(
        "squared_hinge",
        "identity",
        lambda h, y: -2 * y * np.maximum(1 - y * h, 0),
        lambda h, y: 2.0 * (y * h < 1),
        _squared_hinge_conjugate,
        _mean,
    ),
    "epsilon_insensitive": Loss(
        "epsilon_insensitive",
        "identity",
        lambda h, y: np.where(np.abs(h - y) > TUBE, np.sign(h - y), 0.0),
        lambda h, y: np.zeros_like(h),
        _tube_conjugate,
        _median,
        unit=TUBE,
        smooth=False,
    ),
}
