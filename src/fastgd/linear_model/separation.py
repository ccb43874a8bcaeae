"""Quasi-complete separation: an unpenalised likelihood without a finite maximum.

Along a direction of recession the loss decreases for ever: some rows fit better and better, and no row fits worse, as
with a column that is 1 in one class only. Far out the loss of these rows is exponential in the score, so a Newton step
changes their scores by 1 at any distance, and leaves the scores of all other rows unchanged. At a minimum a Newton step
changes no score.
"""

import numpy as np

from fastgd.data.moments import parts
from fastgd.data.rows import BLAS_ADVANTAGE
from fastgd.linalg import one_blas_thread, softmax


def direction(objective, scores):
    """The direction along which the loss decreases for ever, or None: (d, k) or with an intercept (d + 1, k), in units
    of 1/spread of each column, the intercept last.

    For separable losses (the log loss, the Poisson deviance) without a penalty. scores() gives h, (n, k).
    """
    o = objective
    d, k = o.rows.d, o.rows.k
    products = o.rows.n * (k * (d + 1)) ** 2
    few = products <= max(1 << 28, 2 * BLAS_ADVANTAGE * o.rows.n * d * k)  # some 0.1 s of work, or two passes over X
    if o.l1 or o.l2 or not o.record.loss.separable or not few:
        return None
    h, Y = scores(), o.Y.astype(np.float64)
    s = np.ones(o.rows.n) if o.sample_weight is None else o.sample_weight
    with np.errstate(all="ignore"):
        slopes = o.record.slope(h, Y)
        # Rows are only looked at where some are far out: by a probability of 0.98, or where y = 0 by a mean of 0.02 of
        # all means.
        counts = o.record.activation == "exp"
        scale = float(np.average(Y[:, 0], weights=s)) if counts else 1.0
        far_out = (s > 0) & (np.max(np.abs(slopes), axis=1) <= 0.02 * scale)
        if scale and not np.any(far_out & (Y[:, 0] == 0) if counts else far_out):
            return None
        with one_blas_thread(products):
            move, change = _newton_step(o, h, slopes, s)
    if move is None or not np.all(np.isfinite(change[s > 0])):
        return None
    gains = o.record.loss.recession(o.record.activation, change[s > 0], Y[s > 0])
    # A row that is far out moves by 1; those of a minimum do not move.
    return move if gains is not None and gains[0] >= 0.5 and gains[1] >= -0.05 else None


def _newton_step(o, h, slopes, s):
    """The step in standardised columns, and its change of scores; None where the Hessian is of no use."""
    k, m = h.shape[1], o.rows.d + o.fit_intercept
    curvature = o.record.curvature(h, np.zeros_like(h))
    H, gradient = np.zeros((k, m, k, m)), np.zeros((m, k))
    p = softmax(h) if o.record.joint else None
    for A, part in _pieces(o):
        for c in range(k):
            H[c, :, c] += A.T @ (A * (s[part] * curvature[part, c])[:, None])
            for e in range(c if o.record.joint else 0):
                H[c, :, e] -= A.T @ (A * (s[part] * p[part, c] * p[part, e])[:, None])
        gradient += A.T @ (s[part, None] * slopes[part])
    for c in range(k):
        for e in range(c):
            H[e, :, c] = H[c, :, e]
    H = H.reshape(k * m, k * m)
    root = np.sqrt(np.where(np.diag(H) > 0, np.diag(H), 1.0))
    sizes, basis = np.linalg.eigh(H / root / root[:, None]) if np.all(np.isfinite(H)) else (None, None)
    if sizes is None or not sizes[-1] > 0:
        return None, None
    kept = sizes > 1e-12 * len(sizes) * sizes[-1]  # others are rounding error
    flat = -basis[:, kept] @ ((basis[:, kept].T @ (gradient.T.reshape(-1) / root)) / sizes[kept]) / root
    V = flat.reshape(k, m).T
    return V, np.concatenate([A @ V for A, _ in _pieces(o)])


def _pieces(o):
    """Iterate over pieces of the standardised columns, with a column of ones for the intercept, and their slices."""
    rows = o.rows
    means, spreads, still = rows.measures(o.fit_intercept, sample=1 << 14)
    scale = np.where(still, np.inf, spreads)
    for part in parts(rows.n, rows.d):
        A = (rows.view(part) - (means if o.fit_intercept else 0.0)) / scale
        yield (np.column_stack([A, np.ones(len(A))]) if o.fit_intercept else A), part
