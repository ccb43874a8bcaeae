"""Bounds from below of what an objective can come down to, by Fenchel duality.

With F(W, b) = f·Σ s·l(h, y) + Ω(W), h = XW + b, and the penalty Ω, every u with Σ s·u = 0 (where there is an intercept)
gives the lower bound D(u) = −f·Σ s·l*(u) − Ω*(−v), v = f·Xᵀ(s·u). The gap F − D is computed as

    f·Σ s·(l(h) + l*(u) − h·u) + Ω(W) + Ω*(−v) + W·v,

in which no term is larger than it must be; F − D itself would cancel.
"""

import math

import numpy as np

from fastgd.kernels.codes import ACTIVATIONS, PointLoss


def duality_gap(objective, W, b, record=None):
    """F(W, b) − D(u) ≥ F(W, b) − min F for a dual point u made of the slopes at (W, b); inf where that fails.

    The slopes ∂l/∂h are such a u but for their sum, which is made 0 along the curvature, and, where there is no l2, but
    for ‖v‖∞ ≤ l1, for which they are shrunk. It takes three passes over X at most.

    Parameters
    ----------
    record : Loss, optional
        In place of the objective's own: one with other slopes and curvatures, from which the dual point is made.
    """
    o = objective
    record = o.record if record is None else record
    h, Y, s = o.scores(W, b), o.Y.astype(np.float64), o.sample_weight
    s = None if s is None else s[:, None]
    with np.errstate(all="ignore"):
        # The slopes of a loss with a kink are those of a smooth one beside it: only for its own is the sum 0.
        u, excess = record.slope(h, Y), 0.0 if record.smooth else None
        if o.fit_intercept:
            u, excess = _balanced(o, record, u, h, Y, s)
        v = o.factor * o.rows.transposed_product(u)
        if not o.l2:
            largest = float(np.max(o.penalty.dual_norm(v), initial=0.0))
            if largest > o.l1:
                u, v, excess = u * (o.l1 / largest), v * (o.l1 / largest), None
        if excess is None:
            value = o.sums(W, b, gradient=False) - o.constant
            excess = value + o.mean(record.conjugate(u, Y)) - float(np.vdot(W, v))
            if o.rows.offset is not None:
                excess -= o.mean(u * o.rows.offset[:, None])
            if o.fit_intercept:
                excess -= o.factor * float(b @ (u if s is None else u * s).sum(axis=0))
        return excess + o.penalty.fenchel_gap(W, v) if math.isfinite(excess) else math.inf


def gap_of_slopes(objective, W, b, h, u, v, value):
    """`duality_gap` without a pass over X, given all that it takes at a point with the best intercept.

    Parameters
    ----------
    h, u : (n, k)
        Scores, and slopes of the loss by them.
    v : (d, k)
        f·Xᵀ(s·u).
    value : float
        F(W, b).
    """
    o = objective
    s = 1.0 if o.sample_weight is None else o.sample_weight[:, None]
    if o.fit_intercept:
        total = np.sum(s * u, axis=0)
        if np.any(np.abs(total) > 1e-9 * np.sum(s * np.abs(u), axis=0)):  # more than rounding leaves of a sum of 0
            return duality_gap(o, W, b)
    if o.l2:
        return o.penalty.fenchel_gap(W, v)
    largest = o.penalty.dual_norm(v)
    if o.record.joint:
        largest = np.max(largest)
    share = np.minimum(1.0, o.l1 / np.maximum(largest, np.finfo(np.float64).tiny))
    data = value - o.constant - o.penalty.value(W)
    excess = data + o.mean(o.record.conjugate(share * u, o.Y.astype(np.float64)))
    excess -= o.factor * float(np.sum(share * s * u * h))
    return excess + o.penalty.fenchel_gap(W, share * v)


def gap_of_squares(objective, W, v, value):
    """`gap_of_slopes` of a squared loss, which takes neither h nor u.

    At a share c of the slopes u = h − y the terms l(h) + l*(cu) − c·h·u are (1 − c)²·l(h).
    """
    o = objective
    largest = float(o.penalty.dual_norm(v).max(initial=0.0))
    share = 1.0 if o.l2 else min(1.0, o.l1 / max(largest, np.finfo(np.float64).tiny))
    return (1 - share) ** 2 * (value - o.constant - o.penalty.value(W)) + o.penalty.fenchel_gap(W, share * v)


def curvature_sums(objective, W, b, shift=None):
    """f·Σ s·l''(h)·(x − shift), (d, k), and f·Σ s·l''(h), (k,), by one pass over X, for a loss with `by_pass`."""
    o = objective
    activation, kernel, target, unit = o.record.by_pass
    if o.record.quadratic:  # the same at all weights; and at h = 0 the slope is −target
        W, b = np.zeros_like(W), np.zeros_like(b)
    codes = ACTIVATIONS[activation], PointLoss(kernel)
    source = o.rows.with_targets(np.broadcast_to(o.dtype.type(target), o.Y.shape))
    _, by_W, by_b = o.sums_of(source, codes, W, b, shift)
    return by_W / unit, by_b / unit


def _balanced(o, record, u, h, Y, s):
    """Slopes moved along the curvature D until Σ s·u = 0 for each output, u − cD; and f·Σ s·(l(h) + l*(u) − hu).

    At u = ∂l/∂h the latter is 0. Moved by cD it is at most c²D for quadratic losses and, if |c| ≤ 1, for those with
    |l'''| ≤ l'', of which it is at most D·((1 − |c|)·log(1 − |c|) + |c|): these are marked `entropy`, as the conjugates
    of most are a relative entropy. None where that does not hold.
    """
    total = np.sum(u if s is None else s * u, axis=0)
    if record.joint:
        p = u + Y
        weighted = p if s is None else s * p
        C = np.diag(weighted.sum(axis=0)) - weighted.T @ p
        c = np.linalg.lstsq(C, total, rcond=None)[0]
        return u - p * (c - (p @ c)[:, None]), o.factor * float(c @ C @ c) if np.ptp(c) <= 1 else None
    D = record.curvature(h, Y)
    curvature = np.sum(D if s is None else s * D, axis=0)
    if not (record.smooth and np.all(curvature > 0)):
        return _evened(u, s), None
    c = total / curvature
    certain = record.quadratic or (record.entropy and np.max(np.abs(c)) <= 1)
    return u - D * c, o.factor * float(np.sum(c * c * curvature)) if certain else None


def _evened(u, s):
    """Slopes of which those of the sign with the larger sum are shrunk: that leaves no conjugate's domain."""
    weighted = u if s is None else s * u
    above, below = np.sum(np.maximum(weighted, 0), axis=0), -np.sum(np.minimum(weighted, 0), axis=0)
    least = np.minimum(above, below)
    shares = [np.divide(least, side, out=np.zeros_like(least), where=side > 0) for side in (above, below)]
    return np.where(u > 0, shares[0], shares[1]) * u
