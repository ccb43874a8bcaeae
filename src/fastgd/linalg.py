"""Linear algebra that several rooms use."""

import contextlib
import functools
import math

import numpy as np


def euclidean_norm(array):
    """Euclidean norm in float64, without intermediate overflow or underflow."""
    if array.size <= 32:  # faster than the calls of NumPy below
        return math.hypot(*array.reshape(-1).tolist())
    with np.errstate(all="ignore"):
        flat = array.reshape(-1).astype(np.float64)
        norm = float(np.sqrt(flat @ flat))
        if norm == 0 or not np.isfinite(norm):
            largest = float(np.max(np.abs(flat), initial=0.0))
            if 0 < largest < np.inf:
                norm = largest * float(np.sqrt(np.sum((flat / largest) ** 2)))
        return norm


def soft_threshold(V, thresholds):
    """sign(V)·max(|V| − thresholds, 0): the proximal step of a penalty Σ thresholds·|V|."""
    return np.sign(V) * np.maximum(np.abs(V) - thresholds, 0)


def least_subgradient(w, g, l1, penalised, lower, upper):
    """The shortest subgradient of F + l1·‖w‖₁ within the bounds, given the gradient g of F; it is 0 at the minimum.

    The penalty applies to the first `penalised` entries; `lower` and `upper` are empty where there are no bounds.
    """
    least = g.astype(np.float64)
    if l1:
        p, inner = w[:penalised], least[:penalised]
        least[:penalised] = np.where(p == 0, soft_threshold(inner, l1), inner + l1 * np.sign(p))
    if lower.size:
        least[((w <= lower) & (least > 0)) | ((w >= upper) & (least < 0))] = 0
    return least


def softmax(h):
    """e^h / Σ e^h of each row."""
    e = np.exp(h - h.max(axis=1, keepdims=True))
    e /= e.sum(axis=1, keepdims=True)
    return e


def equilibrium(G):
    """Square roots of the diagonal of a positive semidefinite matrix, 1 where it is 0: G/(qqᵀ) has unit diagonal."""
    diagonal = np.diag(G)
    return np.sqrt(np.where(diagonal > 0, diagonal, 1.0))


# Multiplications, some 25 µs of BLAS, from which setting its number of threads, which takes some 7 µs, is worth it.
MUCH_WORK = 1 << 20


def one_blas_thread(products):
    """A context in which BLAS uses one thread, if threadpoolctl is installed and there is enough work.

    BLAS threads synchronise after each piece of rows, which on a busy machine can take ten times as long as the
    product; and results would depend on their number.

    Parameters
    ----------
    products : int
        Multiplications that will be made in the context.
    """
    if products < MUCH_WORK:
        return contextlib.nullcontext()
    try:
        controller = _controller()
    except ImportError:
        return contextlib.nullcontext()
    return controller.limit(limits=1, user_api="blas")


@functools.cache
def _controller():
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()


def in_single(values):
    """Whether f seems to compute in float32: all values (d, 2) are float32 numbers, and the two of some pair differ.

    An f that computes in float64 practically never returns only float32 numbers, unless it is constant.
    """
    with np.errstate(all="ignore"):
        return bool(np.all(np.float32(values) == values) and np.any(values[:, 0] != values[:, 1]))
