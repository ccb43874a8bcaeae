"""Whether an unpenalised likelihood has no finite maximum: some rows can be fitted ever better at no cost of others.

Along such a direction (of recession) the loss falls without end, as with a column that is 1 in one class alone. Far out
the loss of these rows is exponential, so that a Newton step moves their scores by 1 however far out it is taken, and
those of all other rows by nothing: at a minimum it moves no row.
"""

import numpy as np

from fastgd.data.streams import Stream
from fastgd.linalg import one_blas_thread, softmax

# Rows are only looked at where some are fitted so well: by a probability of 1 less this, or a mean of this share of
# that of all.
WELL_FITTED = 0.02
# Of a Newton step: what moves a score, and what is none beside that.
MOVES, STILL = 0.5, 0.05
# A row far out bends by less than rounding: this share of the largest curvature is added.
FLAT = 1e-12
# Multiplications for the Hessian that are worth it.
MOST_PRODUCTS = 1 << 28


def direction(objective, W, b):
    """Along which the loss falls without end: (d, k) or with an intercept (d + 1, k), a move of the weights in units of
    one over the spread of each column, the intercept last; None where there is none.

    For the log loss and the Poisson deviance without a penalty.
    """
    o = objective
    d, k = W.shape
    if o.l1 or o.l2 or o.record.loss.kernel not in ("log", "poisson") or not o.record.convex:
        return None
    if o.rows.n * (k * (d + 1)) ** 2 > MOST_PRODUCTS or isinstance(o.rows, Stream):
        return None
    h, Y = o.scores(W, b), o.Y.astype(np.float64)
    s = np.ones(o.rows.n) if o.sample_weight is None else o.sample_weight
    with np.errstate(all="ignore"):
        slopes = o.record.slope(h, Y)
        scale = float(np.average(Y[:, 0], weights=s)) if o.record.loss.kernel == "poisson" else 1.0
        if scale and not np.any(np.max(np.abs(slopes), axis=1)[s > 0] <= WELL_FITTED * scale):
            return None
        with one_blas_thread(o.rows.n * (k * (d + 1)) ** 2):
            move, change = _newton_step(o, h, slopes, s)
    return move if move is not None and _recedes(o.record, change, h, Y, s) else None


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
    kept = sizes > FLAT * len(sizes) * sizes[-1]
    gradient = (A.T @ (s[:, None] * slopes)).T.reshape(-1) / root
    flat = -basis[:, kept] @ ((basis[:, kept].T @ gradient) / sizes[kept]) / root
    V = flat.reshape(k, m).T
    return V, A @ V


def _recedes(record, change, h, Y, s):
    """Whether a change of scores fits some rows better and none worse."""
    change, Y, h = change[s > 0], Y[s > 0], h[s > 0]
    if not np.all(np.isfinite(change)):
        return False
    if record.loss.kernel == "poisson":
        better, free = -change[:, 0], Y[:, 0] > 0  # a count of 0 wants a mean of 0, others have one
        return bool(np.max(better) >= MOVES and np.all(np.where(free, np.abs(better), -better) <= STILL))
    if record.joint:
        own = np.argmax(Y, axis=1)
        better = np.min(change[np.arange(len(own)), own][:, None] - change + 1e300 * Y, axis=1)
        most = np.max(change[np.arange(len(own)), own][:, None] - change, axis=1)
        return bool(np.all(np.max(Y, axis=1) == 1) and np.max(most) >= MOVES and np.min(better) >= -STILL)
    if np.any((Y != 0) & (Y != 1)):
        return False
    better = (2 * Y[:, 0] - 1) * change[:, 0]
    return bool(np.max(better) >= MOVES and np.min(better) >= -STILL)
