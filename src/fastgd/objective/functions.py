"""The formulas of a one-layer model as plain functions of arrays."""

from __future__ import annotations

import typing

import numpy as np

from fastgd import kernels, validation
from fastgd.data import inputs
from fastgd.kernels.codes import ACTIVATIONS, PointLoss

if typing.TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from fastgd.types import Activation, Floats, Number, Table


def _elementwise(kernel, h):
    h = validation.real_array(h, "h", finite=False)
    out = np.empty(h.size, h.dtype)
    kernel(np.ascontiguousarray(h).reshape(-1), ACTIVATIONS["sigmoid"], out)
    return out.reshape(h.shape) if h.ndim else out[0]


@typing.overload
def sigmoid(h: Number) -> np.floating: ...
@typing.overload
def sigmoid(h: ArrayLike) -> Floats: ...
def sigmoid(h):
    """The logistic function σ(h) = 1 / (1 + e^−h), elementwise.

    Parameters
    ----------
    h : array_like of float
        Any shape; float32 stays float32, integers become float64. NaN gives NaN, ±inf give 1 and 0.

    Returns
    -------
    ndarray of the shape of h, or a NumPy scalar for a scalar.

    Examples
    --------
    >>> float(sigmoid(0.0))
    0.5
    """
    return _elementwise(kernels.active.apply_activation, h)


@typing.overload
def sigmoid_prime(h: Number) -> np.floating: ...
@typing.overload
def sigmoid_prime(h: ArrayLike) -> Floats: ...
def sigmoid_prime(h):
    """The derivative of the logistic function, σ'(h) = σ(h)(1 − σ(h)), elementwise.

    It is computed as e / (1 + e)² with e = e^−|h|, which keeps full relative precision where σ(h) rounds to 1.

    Parameters
    ----------
    h : array_like of float
        As for `sigmoid`.

    Returns
    -------
    ndarray of the shape of h, or a NumPy scalar for a scalar.

    Examples
    --------
    >>> float(sigmoid_prime(0.0))
    0.25
    """
    return _elementwise(kernels.active.apply_derivative, h)


def sse(X: Table, y: ArrayLike, w: ArrayLike, b: ArrayLike = 0.0, activation: Activation = "identity") -> float:
    """Sum of squared errors of a one-layer model, E = ½ Σ_μ Σ_j (y_j^μ − f(Σ_i w_ij x_i^μ + b_j))².

    Parameters
    ----------
    X : array_like, (n, d)
        One row for each data point.
    y : array_like, (n,) or (n, k)
        Targets.
    w : array_like, (d,) or (d, k)
        Weights; one column for each output.
    b : float or array_like, (k,)
        Intercepts.
    activation : {"identity", "sigmoid", "tanh", "relu", "softplus", "exp", "softmax"}
        f.

    Returns
    -------
    float
        E, accumulated in float64.

    Raises
    ------
    TypeError, ValueError
        An argument is not real and finite, or shapes do not fit.

    Examples
    --------
    >>> sse([[-1.0], [0.0], [1.0]], [-3.0, 0.0, 1.0], [3.0], b=1.0)
    5.5
    """
    validation.choice(activation, "activation", ACTIVATIONS)
    X, y = inputs.data(X, y)
    n, d = X.shape
    w = validation.weights(w, "w", (d, *y.shape[1:]), X.dtype)
    Y = y.reshape(n, -1)
    b = validation.intercepts(b, "b", Y.shape[1], X.dtype)
    source = inputs.rows_of(X, Y, np.empty(0, X.dtype))
    (totals,) = source.sums((0, n), w.reshape(d, -1), b, None, ACTIVATIONS[activation], PointLoss("squared"), False)
    return float(totals.sum())
