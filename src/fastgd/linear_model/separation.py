"""Quasi-complete separation: an unpenalised likelihood without a finite maximum.

Along a direction of recession the loss decreases for ever: some rows fit better and better, and no row fits worse, as
with a column that is 1 in one class only. Far out the loss of these rows is exponential in the score, so a Newton step
changes their scores by 1 at any distance, and leaves the scores of all other rows unchanged. At a minimum a Newton step
changes no score.
"""

import numpy as np

from fastgd.linalg import one_blas_thread, softmax


def direction(objective, h):
    """The direction along which the loss decreases for ever, or None: (d, k) or with an intercept (d + 1, k), in units
    of 1/spread of each column, the intercept last.

    For separable losses (the log loss, the Poisson deviance) without a penalty.
    """
    o = objective
    d, k = o.rows.d, o.rows.k
    products = o.rows.n * (k * (d + 1)) ** 2
    if o.l1 or o.l2 or not o.record.loss.separable or products > 1 << 28:  # more than some 0.1 s of work
        return None
    Y = o.Y.astype(np.float64)
    s = np.ones(o.rows.n) if o.sample_weight is None else o.sample_weight
    with np.errstate(all="ignore"):
        slopes = o.record.slope(h, Y)
        # Rows are only looked at where some are fitted well: by a probability of 0.98, or a mean of 0.02 of all means.
        scale = float(np.average(Y[:, 0], weights=s)) if o.record.activation == "exp" else 1.0
        if scale and not np.any(np.max(np.abs(slopes), axis=1)[s > 0] <= 0.02 * scale):
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
    k, d = h.shape[1], o.rows.d
    X = o.rows.dense(slice(None), np.float64)
    centre = np.average(X, axis=0, weights=s) if o.fit_intercept else np.zeros(d)
    spread = np.sqrt(np.average((X - centre) ** 2, axis=0, weights=s))
    A = (X - centre) / np.where(spread > 0, spread, np.inf)
    A = np.column_stack([A, np.ones(len(A))]) if o.fit_intercept else A
    m = A.shape[1]
    curvature = o.record.curvature(h, np.zeros_like(h))
    H = np.zeros((k, m, k, m))
    p = softmax(h) if o.record.joint else None
    for c in range(k):
        H[c, :, c] = A.T @ (A * (s * curvature[:, c])[:, None])
        for e in range(c if o.record.joint else 0):
            H[c, :, e] = H[e, :, c] = -(A.T @ (A * (s * p[:, c] * p[:, e])[:, None]))
    H = H.reshape(k * m, k * m)
    root = np.sqrt(np.where(np.diag(H) > 0, np.diag(H), 1.0))
    sizes, basis = np.linalg.eigh(H / root / root[:, None]) if np.all(np.isfinite(H)) else (None, None)
    if sizes is None or not sizes[-1] > 0:
        return None, None
    kept = sizes > 1e-12 * len(sizes) * sizes[-1]  # others are rounding error
    gradient = (A.T @ (s[:, None] * slopes)).T.reshape(-1) / root
    flat = -basis[:, kept] @ ((basis[:, kept].T @ gradient) / sizes[kept]) / root
    V = flat.reshape(k, m).T
    return V, A @ V
