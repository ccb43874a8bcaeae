"""Formulas of losses as functions of h = Xw + b that solvers need beside the kernels' sums, on float64 arrays (n, k).

The kernels' loss l is meant throughout: ½(f − y)² for the squared ones. A slope is ∂l/∂h. A conjugate is
l*(u) = max_h u·h − l(h), infinite outside of its domain.
"""

import math

import numpy as np

from fastgd import kernels
from fastgd.kernels.codes import ACTIVATIONS
from fastgd.linalg import softmax

# Slopes that differ from the border of a conjugate's domain by rounding are on it.
BORDER = 1e-12
# A probability or mean of 0 or 1 has no finite log-odds: where all targets are equal, it is moved by this much.
MOST_CERTAIN = 1e-6


def activated(h, activation, derivative=False):
    """f(h) or f'(h) of each number of an array, by the kernels; not for the softmax."""
    h = np.ascontiguousarray(h, dtype=np.float64)
    out = np.empty_like(h)
    apply = kernels.active.apply_derivative if derivative else kernels.active.apply_activation
    apply(h.reshape(-1), ACTIVATIONS[activation], out.reshape(-1))
    return out


def within(inside, value):
    """`value` in the domain of a conjugate, inf outside."""
    return np.where(inside, value, math.inf)


def xlogx(q):
    """q·log q; 0 at 0 and inf below."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(q > 0, q * np.log(np.where(q > 0, q, 1.0)), np.where(q == 0, 0.0, math.inf))


def uncertain(p):
    """Probabilities kept away from 0 and 1."""
    return np.clip(p, MOST_CERTAIN, 1 - MOST_CERTAIN)


def conjugate_of(value, slope, curvature):
    """The conjugate of a convex loss that has no formula for it: u·h − l(h) where the slope is u, found by Newton's
    method within a bracket; inf where no slope comes to u."""

    def conjugate(u, y):
        u, y = np.broadcast_arrays(u, y)
        h, low, high = np.zeros(u.shape), np.full(u.shape, -math.inf), np.full(u.shape, math.inf)
        with np.errstate(all="ignore"):
            for _ in range(200):
                excess = slope(h, y) - u
                low, high = np.where(excess < 0, h, low), np.where(excess > 0, h, high)
                most = 1 + np.abs(h)  # the farthest that a step goes
                step = np.clip(np.nan_to_num(-excess / curvature(h, y), nan=0.0), -most, most)
                new = h + step
                new = np.where((new <= low) | (new >= high), 0.5 * (low + high), new)
                new = np.where(excess == 0, h, np.where(np.isfinite(new), np.clip(new, -700.0, 700.0), h))
                if np.all(np.abs(new - h) <= 1e-15 * most):
                    break
                h = new
            beyond = (np.abs(h) >= 700) & (np.abs(slope(h, y) - u) > BORDER * (1 + np.abs(u)))
            return np.where(beyond, math.inf, u * h - value(h, y))

    return conjugate


def parabola(r, width):
    """Curvature of the parabola about r = 0 that touches Huber's loss of this width from above at an r beyond it."""
    return np.where(r > width, width / np.maximum(r, width), 0.0)


# ------------------------------------------------------------------------------------------ losses of the residual


def of_residual(activation, slope, curvature, straight=None, **of_identity):
    """The facts of a loss ρ(f(h) − y) behind any activation f, as `Loss.facts` returns them.

    Its curvature is that of Gauss and Newton, ρ''·f'², which is not negative: the Hessian's where f is the identity,
    and elsewhere what a descent step may be made with.

    Parameters
    ----------
    slope, curvature, straight : callable
        ρ', ρ'' and, for a ρ that is linear in parts, the curvature there of the parabola that touches it from above,
        as functions of r = f − y.
    **of_identity
        Facts that hold behind the identity alone, where the loss is convex.
    """

    def slope_by_h(h, y):
        if activation == "identity":
            return slope(h - y)
        if activation == "softmax":
            p = softmax(h)
            inner = slope(p - y)
            return p * (inner - np.sum(p * inner, axis=1, keepdims=True))
        return slope(activated(h, activation) - y) * activated(h, activation, derivative=True)

    def by_h(bend):
        def bend_by_h(h, y):
            if activation == "identity":
                return bend(h - y)
            if activation == "softmax":  # the diagonal of JᵀJ, J being diag(p) − ppᵀ
                p = softmax(h)
                jacobian = p * p * (1 - 2 * p + np.sum(p * p, axis=1, keepdims=True))
                return np.mean(bend(p - y), axis=1, keepdims=True) * jacobian
            return bend(activated(h, activation) - y) * activated(h, activation, derivative=True) ** 2

        return bend_by_h

    found = {"slope": slope_by_h, "curvature": by_h(curvature), "start": inverse_mean(activation), "convex": False}
    if straight is not None:
        found["straight"] = by_h(straight)
    return {**found, "convex": True, **of_identity} if activation == "identity" else found


# ------------------------------------------------------------------------------------------------- best constants h


def zero(y, s):
    return np.zeros(y.shape[1])


def mean(y, s):
    if hasattr(y, "mean_of_weight"):  # targets that are elsewhere
        return y.mean_of_weight()[0]
    return y.mean(axis=0) if s is None else np.average(y, axis=0, weights=s)


def median(y, s):
    y, s = some_of(y, s)
    return np.median(y, axis=0) if s is None else quantile(y, s, 0.5)


def some_of(y, s):
    """Targets and weights, of a sample of the rows where they are elsewhere."""
    return y.sample() if hasattr(y, "sample") else (y, s)


def quantile(y, s, q):
    """The least target that has a share q of the weight at it or below it."""
    y, s = some_of(y, s)
    order = np.argsort(y, axis=0)
    below = np.cumsum(np.ones(len(y))[order] if s is None else s[order], axis=0)
    at = np.argmax(below >= q * below[-1], axis=0)
    return np.take_along_axis(np.take_along_axis(y, order, 0), at[None], 0)[0]


def log_odds(y, s):
    """The best constant h behind the sigmoid, (k,): the log-odds of the mean target."""
    p = np.clip(mean(y, s), MOST_CERTAIN, 1 - MOST_CERTAIN)
    return np.log(p / (1 - p))


def log_priors(y, s):
    """The best constant h behind softmax, (k,): the logs of the mean targets, with a sum of 0."""
    logs = np.log(np.maximum(mean(y, s), MOST_CERTAIN))
    return logs - logs.mean()


def log_mean(y, s):
    """The best constant h behind the activation exp, (k,): the log of the mean target."""
    return np.log(np.maximum(mean(y, s), MOST_CERTAIN))


def inverse_mean(activation):
    """h with f(h) = the mean of y, for losses of f − y: where rows of every kind have a slope to learn by."""
    inverse = {
        "identity": lambda m: m,
        "sigmoid": lambda m: np.log(p := np.clip(m, MOST_CERTAIN, 1 - MOST_CERTAIN)) - np.log1p(-p),
        "tanh": lambda m: np.arctanh(np.clip(m, -1 + MOST_CERTAIN, 1 - MOST_CERTAIN)),
        "relu": lambda m: np.maximum(m, MOST_CERTAIN),
        "softplus": lambda m: np.log(np.expm1(np.clip(m, MOST_CERTAIN, 500.0))),
        "exp": lambda m: np.log(np.maximum(m, MOST_CERTAIN)),
        "softmax": lambda m: np.log(np.maximum(m, MOST_CERTAIN)),
    }[activation]
    return lambda y, s: inverse(mean(y, s))
