"""Matrices of the design, √s·[(X − shift)/scale, 1/intercept_scale]: functions of rows, which `Rows.reduced` computes
wherever these are.

`columns` is (shift, scale, intercept_scale), the last None without an intercept.
"""

import numpy as np

from fastgd.kernels.codes import ACTIVATIONS
from fastgd.linalg import softmax


def pieces(rows, columns):
    """The design in float64, √s, and the rows' slice, a few rows at a time."""
    shift, scale, intercept_scale = columns
    for A, root, part in rows.pieces(shift, scale):
        yield A if intercept_scale is None else np.column_stack([A, root / intercept_scale]), root, part


def normal_product(rows, columns, v):
    """AᵀAv."""
    return (sum(A.T @ (A @ v) for A, *_ in pieces(rows, columns)),)


def squares(rows, columns):
    """Σ A²."""
    return (sum(float(np.sum(A**2)) for A, *_ in pieces(rows, columns)),)


def largest(rows, columns):
    """max |A|."""
    return (max(float(np.max(np.abs(A))) for A, *_ in pieces(rows, columns)),)


def normal_equations(rows, columns):
    """AᵀA, AᵀY and ΣY², Y being the targets times √s."""
    G, c, total = 0.0, 0.0, 0.0
    for A, root, part in pieces(rows, columns):
        Y = root[:, None] * rows.Y[part]
        G, c, total = G + A.T @ A, c + A.T @ Y, total + float(np.sum(Y**2))
    return G, c, total


def triangle(rows, columns, root):
    """R of A/root = QR."""
    R = np.zeros((0, len(root)))
    for A, *_ in pieces(rows, columns):
        (R,) = stacked((R,), (A / root,))
    return (R,)


def stacked(a, b):
    """R of two matrices, one below the other."""
    return (np.linalg.qr(np.vstack([a[0], b[0]]), mode="r"),)


def hessians(rows, columns, record, W, b):
    """AᵀDA for each output, (k, d', d'), D being the curvatures of the rows at weights W and b."""
    h, Y = _scores(rows, W, b), rows.Y.astype(np.float64)
    with np.errstate(all="ignore"):
        bends = record.curvature(h, Y)
        if record.straight is not None:
            bends = bends + 1e-3 * record.straight(h, Y)
        else:  # far out on the wrong side of a log loss there is next to no curvature
            bends = np.maximum(bends, 1e-3 * np.abs(record.slope(h, Y)))
    bends, found = np.nan_to_num(bends, posinf=1e300), 0.0
    for A, _, part in pieces(rows, columns):
        found = found + np.stack([A.T @ (A * bends[part, c, None]) for c in range(bends.shape[1])])
    return (found,)


def softmax_hessian(rows, columns, W, b):
    """Σ s(diag(p) − ppᵀ) ⊗ xxᵀ at weights W and b, (kd', kd'): the weights of one output after those of the other."""
    P, found = softmax(_scores(rows, W, b)), 0.0
    for A, _, part in pieces(rows, columns):
        k, size = P.shape[1], A.shape[1]
        H = np.empty((k, size, k, size))
        for c in range(k):
            for e in range(c + 1):
                p = P[part, c] * ((c == e) - P[part, e])
                H[c, :, e] = A.T @ (A * p[:, None])
                H[e, :, c] = H[c, :, e]
        found = found + H.reshape(k * size, k * size)
    return (found,)


def _scores(rows, W, b):
    """h of the rows, (n, k) float64."""
    return rows.predict(W.astype(rows.dtype), b.astype(rows.dtype), ACTIVATIONS["identity"]).astype(np.float64)
