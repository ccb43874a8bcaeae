"""Every kernel in plain NumPy: the specification of the compiled builds.

Same names, same parameters, same side effects. Outputs go into explicit `out` or `grad_…` arguments or come back as
scalars, and nothing else is written to. Where a compiled kernel and its twin here disagree by more than rounding, the
kernel is wrong.

An array argument that is "absent" has length 0 (`shift`, `sample_weight`): a memoryview cannot be None.
"""

import numpy as np

# The number of a name is what the compiled kernels switch on (`formulas.pxd`).
ACTIVATIONS = {"identity": 0, "sigmoid": 1, "tanh": 2}
LOSSES = {"squared": 0}


# ---------------------------------------------------------------------------------------------------------- formulas


def sigmoid(h):
    """σ(h) = 1 / (1 + e^−h), by e^−|h| so that neither end overflows."""
    e = np.exp(-np.abs(h))
    return np.where(h < 0, e, 1) / (1 + e)


def sigmoid_prime(h):
    """σ'(h) = e / (1 + e)² with e = e^−|h|: equal to σ(1 − σ), without its cancellation where σ rounds to 1."""
    e = np.exp(-np.abs(h))
    return e / ((1 + e) * (1 + e))


def tanh_prime(h):
    """tanh'(h) = 1 − tanh²h = 4e² / (1 + e²)² with e = e^−|h|."""
    q = np.exp(-np.abs(h)) ** 2
    return 4 * q / ((1 + q) * (1 + q))


# f and f' by number. A new activation is a row here and its scalar twin in formulas.pxd.
FORMULAS = {
    ACTIVATIONS["identity"]: (lambda h: h, np.ones_like),
    ACTIVATIONS["sigmoid"]: (sigmoid, sigmoid_prime),
    ACTIVATIONS["tanh"]: (np.tanh, tanh_prime),
}


# --------------------------------------------------------------------------------------------------- one-layer model


def _forward(X, W, b, shift):
    rows = X - shift if shift.size else X
    return rows, rows @ W + b


def total_loss(X, Y, W, b, shift, sample_weight, activation, loss):
    """Summed loss of a one-layer model.

    Parameters
    ----------
    X : (n, d) float32 or float64, any strides
    Y : (n, k), dtype of X, any strides
    W : (d, k), dtype of X, C-contiguous
    b : (k,), dtype of X
    shift : (d,) or (0,), dtype of X
        Subtracted from each row of X before anything else.
    sample_weight : (n,) or (0,), dtype of X
        Weight s of each row; length 0 means all ones.
    activation, loss : int
        Numbers from ACTIVATIONS and LOSSES. The squared loss is l = ½(f − y)².

    Returns
    -------
    float
        Σᵢ sᵢ Σ꜀ l(f(hᵢ꜀), yᵢ꜀) with h = (X − shift)W + b, accumulated in float64.
    """
    f, _ = FORMULAS[activation]
    with np.errstate(all="ignore"):
        _, h = _forward(X, W, b, shift)
        residual = (f(h) - Y).astype(np.float64)
        s = sample_weight[:, None] if sample_weight.size else 1.0
        return float(np.sum(0.5 * s * residual**2))


def total_loss_and_gradient(X, Y, W, b, shift, sample_weight, activation, loss, grad_W, grad_b):
    """`total_loss`, with its gradient by W written to grad_W (d, k) and by b to grad_b (k,), both float64.

    With δ = s·l'(f(h))·f'(h) the gradients are (X − shift)ᵀδ and the column sums of δ.
    """
    f, f_prime = FORMULAS[activation]
    with np.errstate(all="ignore"):
        rows, h = _forward(X, W, b, shift)
        s = sample_weight[:, None] if sample_weight.size else 1.0
        delta = s * (f(h) - Y) * f_prime(h)
        grad_W[:] = rows.T.astype(np.float64) @ delta.astype(np.float64)
        grad_b[:] = delta.sum(axis=0, dtype=np.float64)
    return total_loss(X, Y, W, b, shift, sample_weight, activation, loss)


def predict(X, W, b, activation, out):
    """Write f(XW + b) to out (n, k)."""
    f, _ = FORMULAS[activation]
    with np.errstate(all="ignore"):
        out[:] = f(X @ W + b)


def update(w, g, lr):
    """One step of gradient descent on a flat array, in place: w ← w − lr·g. All in the dtype of w."""
    with np.errstate(all="ignore"):
        w -= w.dtype.type(lr) * g


def apply_activation(h, activation, out):
    """Write f(h) to out; both flat, of one dtype."""
    with np.errstate(all="ignore"):
        out[:] = FORMULAS[activation][0](h)


def apply_derivative(h, activation, out):
    """Write f'(h) to out; both flat, of one dtype."""
    with np.errstate(all="ignore"):
        out[:] = FORMULAS[activation][1](h)


# ------------------------------------------------------------------------------------------------ finite differences


def _at(f, x, shape, args, as_number, i=-1, value=0.0):
    """f at a private copy of x, with coordinate i replaced where i is not −1."""
    point = x.copy()
    if i >= 0:
        point[i] = value
    given = point.copy()  # f may write to what it is given
    return as_number(f(given.reshape(shape), *args), point.reshape(shape), i)


def _moved(difference, i, x, h):
    if difference == 0:
        raise ValueError(f"h = {float(h)!r} is too small to move coordinate {i}, which is {float(x)!r}")
    return difference


def evaluate(f, x, shape, args, as_number):
    """f(x, *args) as a float, f being given a private copy of x in its shape.

    Parameters
    ----------
    f : callable
        Takes an array of `shape`.
    x : (d,) float64
    shape : tuple
        What f sees; its product is d.
    args : tuple
        Further arguments of f.
    as_number : callable
        as_number(returned, point, i) → float: turns what f returned into a float or raises, with the point and the
        coordinate that was moved (−1: none) for its message. A kernel need not call it for a finite Python float.
    """
    return _at(f, x, shape, args, as_number)


def central_differences(f, x, steps, shape, args, as_number, out):
    """Write (f(x + hᵢeᵢ) − f(x − hᵢeᵢ)) / ((xᵢ + hᵢ) − (xᵢ − hᵢ)) to out (d,); 2d evaluations.

    The divisor is the distance between the two points as they are in floating point, not 2h.
    """
    for i in range(x.size):
        above, below = x[i] + steps[i], x[i] - steps[i]
        dx = _moved(above - below, i, x[i], steps[i])
        f_above = _at(f, x, shape, args, as_number, i, above)
        f_below = _at(f, x, shape, args, as_number, i, below)
        out[i] = (f_above - f_below) / dx


def forward_differences(f, x, steps, shape, args, as_number, out):
    """Write (f(x + hᵢeᵢ) − f(x)) / ((xᵢ + hᵢ) − xᵢ) to out (d,); d + 1 evaluations."""
    here = _at(f, x, shape, args, as_number)
    for i in range(x.size):
        above = x[i] + steps[i]
        dx = _moved(above - x[i], i, x[i], steps[i])
        out[i] = (_at(f, x, shape, args, as_number, i, above) - here) / dx
