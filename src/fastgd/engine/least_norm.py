"""Of the weights that fit equally well, those of the smallest norm in the user's own columns."""

import numpy as np

from fastgd.engine.result import Status

# More numbers than this are not looked at: such weights stay as a solver found them. Up to the second number singular
# values tell, which keep more digits.
MOST_NUMBERS, FEW_NUMBERS = 1 << 24, 1 << 20


def take_least_norm(variables, monitor):
    """Move the end of a run on collinear columns without a penalty; the scores of all rows stay what they are."""
    v, o = variables, variables.objective
    d, cut_short = o.rows.d, monitor.status in (Status.DIVERGED, Status.INTERRUPTED)
    if cut_short or o.l1 or o.l2 or min(o.rows.n, d) * d > MOST_NUMBERS:
        return
    V, point = monitor.end_point.z.copy(), monitor.end_point
    moving = np.flatnonzero(np.isfinite(v.scale))
    rank = len(moving) - monitor.lost
    if rank <= 0:
        return
    basis = _row_space(v, moving, rank)
    W = V[moving] / v.scale[moving, None]
    V[moving] = v.scale[moving, None] * (basis @ (basis.T @ W))
    fun, gradient = v.evaluate(V)
    if fun - point.fun <= 1e-8 * abs(point.fun) + o.resolution * abs(
        o.value_at_zero
    ):  # else they are not lost after all
        monitor.end_point = monitor.evaluated(point.step, V, fun, gradient)


def _row_space(v, moving, rank):
    """(d, rank): an orthonormal basis of the rows of the centred columns in the user's units."""
    o = v.objective
    scale = v.scale[moving]
    if o.rows.in_memory and o.rows.n * len(moving) <= (MOST_NUMBERS if o.rows.n < len(moving) else FEW_NUMBERS):
        A = np.vstack([A for A, *_ in o.rows.pieces(v.shift, v.scale)])[:, moving]
        if o.fit_intercept:
            root = np.concatenate([root for _, root, _ in o.rows.pieces()])[:, None]
            A = A - root * ((root.T @ A) / float(np.sum(root**2)))
        kept = np.linalg.svd(A, full_matrices=False)[2][:rank].T
    else:
        H = o.gram(v.shift, v.scale, 1.0)
        G = H[np.ix_(moving, moving)]
        if o.fit_intercept:
            G = G - np.outer(H[-1, moving], H[-1, moving]) / o.total_weight
        kept = np.linalg.eigh(G)[1][:, -rank:]
    # The rows in the user's units are those here times the scales.
    return np.linalg.qr(scale[:, None] * kept)[0]
