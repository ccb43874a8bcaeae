"""The kernels that move one weight at a time, in plain NumPy: the specification of `perturbed.pxi`.

They see values of the losses and no slopes, so that a gradient that comes of them can be held against one that comes of
slopes.
"""

import numpy as np

from fastgd.kernels.reference.losses import points
from fastgd.kernels.reference.one_layer import _dense


def perturbed_pass(X, Y, W, b, steps, step_b, sample_weight, activation, loss, out_W, out_b):
    """How the summed loss of a one-layer model differs between two values of a weight, for each weight.

    A weight that moves by t moves h of row i by t·x, so from h = XW + b it costs O(n) to move one. The differences are
    formed for each row and then added up.

    Parameters
    ----------
    X : (n, d) float32 or float64, any strides
    Y : (n, k), dtype of X, any strides
    W, b : (d, k) and (k,) float64
    steps : (d, k) float64
        How far each weight moves, up and down.
    step_b : (k,) or (0,) float64
        The same for the intercepts; of length 0 where they stay.
    sample_weight : (n,) or (0,), dtype of X
    activation, loss : int
        As for `reference.points`.
    out_W : (d, k) float64, written to
        out_W[j, c] = Σᵢ sᵢ (lᵢ(hᵢ + t·x_ij·e_c) − lᵢ(hᵢ − t·x_ij·e_c)) with t = steps[j, c], h = XW + b and l the loss
        of a row, its outputs added up. All in float64.
    out_b : (k,) or (0,) float64, written to
        The same with 1 for x_ij.
    """
    X, s = X.astype(np.float64), sample_weight if sample_weight.size else np.ones(len(X), X.dtype)
    columns = [*zip(X.T, steps, out_W, strict=True)] + ([(np.ones(len(X)), step_b, out_b)] if step_b.size else [])
    with np.errstate(all="ignore"):
        h = X @ W + b
        for x, step, out in columns:
            for c, t in enumerate(step):
                above, below = h.copy(), h.copy()
                above[:, c] += t * x
                below[:, c] -= t * x
                rows = points(above, Y, activation, loss)[0] - points(below, Y, activation, loss)[0]
                out[c] = s.astype(np.float64) @ rows.sum(axis=1)


def sparse_perturbed_pass(
    data, indices, indptr, Y, W, b, steps, step_b, sample_weight, activation, loss, out_W, out_b
):  # fmt: skip
    """`perturbed_pass` of CSR rows, as `reference.sparse_pass` takes them."""
    X = _dense(data, indices, indptr, len(Y), len(W))
    perturbed_pass(X, Y, W, b, steps, step_b, sample_weight, activation, loss, out_W, out_b)
