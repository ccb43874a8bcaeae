"""Small pieces of linear algebra that several rooms need."""

import contextlib
import functools
import math

import numpy as np

FEW_VALUES = 32  # for which math.hypot is the quickest


def euclidean_norm(array):
    """Euclidean norm in float64, without overflow on the way."""
    if array.size <= FEW_VALUES:
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
    """The shortest subgradient of F + l1·‖w‖₁ within the bounds, g being the gradient of F: zero at the minimum."""
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
    """Roots of the diagonal of a positive semidefinite matrix, 1 where that is 0."""
    diagonal = np.diag(G)
    return np.sqrt(np.where(diagonal > 0, diagonal, 1.0))


# From so many multiplications on, a tenth of a millisecond, it is worth telling the BLAS how to do them.
MUCH_WORK = 1 << 20


def one_blas_thread(products):
    """Hold the BLAS to one thread while matrices are formed, where that is much work and threadpoolctl is there.

    Its threads wait for each other between blocks of rows; on a machine that has other things to do that takes ten
    times as long. And results would depend on how many there are.
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
