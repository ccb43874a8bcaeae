"""Tables, targets and weights for the kernels, in every layout; the same work in 40 digits, and what may differ."""

import mpmath
import numpy as np
import pytest
import scipy.sparse

from fastgd import kernels, optimizers
from fastgd.kernels.codes import ACTIVATIONS
from fastgd.losses.table import LOSSES as TABLE

# |error| ≤ SAME·max(1, |value|), after some tens of steps.
SAME = {np.float64: 1e-12, np.float32: 3e-5}
NAMES = tuple(optimizers.BY_NAME)
# |error| ≤ TOLERANCE·Σ|terms|, for each entry of a result that is a sum.
TOLERANCE = {np.float64: 1e-12, np.float32: 1e-5}
# Every activation with every loss that it may have.
LOSSES = {loss.kernel: loss.point_loss for loss in TABLE.values()}
PAIRS = sorted({(activation, loss.kernel) for loss in TABLE.values() for activation in loss.activations})
MODEL = ACTIVATIONS["identity"], LOSSES["squared"]
HUBER_DELTA, TUBE = LOSSES["huber"].parameter, LOSSES["epsilon_insensitive"].parameter
LAYOUTS = (
    "C", "F", "strided", "reversed", "rows reversed", "columns reversed", "read-only", "offset", "part of F",
    "one row repeated", "one column repeated",
)  # fmt: skip


def laid_out(array, layout):
    """The same values in another memory layout; or, with a stride of 0, the first row or column again and again."""
    if layout == "F":
        return np.asfortranarray(array)
    if layout == "strided":
        wide = np.full((2 * array.shape[0], 3 * array.shape[1]), np.nan, array.dtype)
        wide[::2, 1::3] = array
        return wide[::2, 1::3]
    if layout == "reversed":
        return np.ascontiguousarray(array[::-1, ::-1])[::-1, ::-1]
    if layout == "rows reversed":
        return np.ascontiguousarray(array[::-1])[::-1]
    if layout == "columns reversed":
        return np.asfortranarray(array[:, ::-1])[:, ::-1]
    if layout == "part of F":
        tall = np.full((array.shape[0] + 3, array.shape[1]), np.nan, array.dtype, order="F")
        tall[1:-2] = array
        return tall[1:-2]
    if layout == "read-only":
        array = array.copy()
        array.flags.writeable = False
    if layout == "offset":
        wide = np.full((array.shape[0], array.shape[1] + 1), np.nan, array.dtype)
        wide[:, 1:] = array
        return wide[:, 1:]
    if layout == "one row repeated":
        return np.broadcast_to(array[:1], array.shape)
    if layout == "one column repeated":
        return np.broadcast_to(array[:, :1], array.shape)
    return array


def targets(rng, n, k, activation, loss):
    """Targets that the loss is for: of several kinds the first that its record does not refuse."""
    if (activation, loss) == ("softmax", "log"):  # a class, or the probabilities of all
        return np.where(rng.random((n, 1)) < 0.5, np.eye(k)[rng.integers(0, k, n)], rng.dirichlet(np.ones(k), n))
    record = next(record for record in TABLE.values() if record.kernel == loss)
    for y in (
        3 * rng.standard_normal((n, k)),
        rng.poisson(2, (n, k)) * 1.0,
        np.where(rng.random((n, k)) < 0.5, rng.integers(0, 2, (n, k)), rng.random((n, k))),
        rng.choice([-1.0, 1.0], (n, k)),
        rng.gamma(2, size=(n, k)),
    ):
        if record.refused(y) is None or not record.refused(y).any():
            return y
    raise AssertionError(loss)


def problem(n, d, k, dtype, weighted=False, shifted=False, activation="identity", loss="squared", seed=0):
    """X, Y, W, b, shift and sample_weight."""
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, d))
    W = 2 * rng.standard_normal((d, k)) / np.sqrt(d)
    b = rng.standard_normal(k)
    shift = rng.standard_normal(d) if shifted else np.empty(0)
    s = rng.integers(0, 4, n) if weighted else np.empty(0)
    return [array.astype(dtype) for array in (X, targets(rng, n, k, activation, loss), W, b, shift, s)]


def products(k, dtype):
    """What a kernel may be given to multiply matrices with."""
    return (None, kernels.gemm(np.dtype(dtype))) if k > 1 else (None,)


def in_digits(array):
    return np.array([mpmath.mpf(value) for value in array.ravel().tolist()], object).reshape(array.shape)


EXACT = {
    "identity": (lambda h: h, lambda h: mpmath.mpf(1)),
    "sigmoid": (lambda h: 1 / (1 + mpmath.exp(-h)), lambda h: mpmath.exp(-h) / (1 + mpmath.exp(-h)) ** 2),
    "tanh": (mpmath.tanh, lambda h: mpmath.sech(h) ** 2),
    "relu": (lambda h: max(h, mpmath.mpf(0)), lambda h: mpmath.mpf(h > 0)),
    "softplus": (lambda h: mpmath.log1p(mpmath.exp(h)), lambda h: 1 / (1 + mpmath.exp(-h))),
    "exp": (mpmath.exp, mpmath.exp),
}


def exact_loss(f, y, loss):
    """l(f, y) and its slope by f."""
    r = f - y
    if "hinge" in loss:
        short_of = max(1 - y * f, mpmath.mpf(0))
        return (short_of, -y * (short_of > 0)) if loss == "hinge" else (short_of**2, -2 * y * short_of)
    if loss == "modified_huber":
        short_of = max(1 - y * f, mpmath.mpf(0))
        return (-4 * y * f, -4 * y) if y * f < -1 else (short_of**2, -2 * y * short_of)
    if loss == "perceptron":
        return max(-y * f, mpmath.mpf(0)), -y * (y * f <= 0)
    if loss == "epsilon_insensitive":
        return max(abs(r) - TUBE, mpmath.mpf(0)), mpmath.sign(r) * (abs(r) > TUBE)
    if loss == "quantile":
        return max(r, -r) / 2, mpmath.sign(r) / 2
    if loss == "squared" or abs(r) <= HUBER_DELTA:
        return r**2 / 2, r
    return HUBER_DELTA * (abs(r) - mpmath.mpf(HUBER_DELTA) / 2), HUBER_DELTA * mpmath.sign(r)


def exact_row(h, y, activation, loss):
    """[(l, ∂l/∂h)] of the points of one row."""
    if activation == "softmax":
        e = [mpmath.exp(v) for v in h]
        f = [v / mpmath.fsum(e) for v in e]
        if loss == "log":
            return [(-t * mpmath.log(v), v * mpmath.fsum(y) - t) for v, t in zip(f, y, strict=True)]
        points = [exact_loss(v, t, loss) for v, t in zip(f, y, strict=True)]
        mean = mpmath.fsum(slope * v for (_, slope), v in zip(points, f, strict=True))
        return [(value, v * (slope - mean)) for (value, slope), v in zip(points, f, strict=True)]
    if loss == "log":
        return [(mpmath.log1p(mpmath.exp(v)) - t * v, 1 / (1 + mpmath.exp(-v)) - t) for v, t in zip(h, y, strict=True)]
    if loss == "poisson":
        return [(mpmath.exp(v) - t * v, mpmath.exp(v) - t) for v, t in zip(h, y, strict=True)]
    if loss == "gamma":
        return [(t * mpmath.exp(-v) + v, 1 - t * mpmath.exp(-v)) for v, t in zip(h, y, strict=True)]
    if loss == "negative_binomial":
        a, e = LOSSES[loss].parameter, mpmath.exp
        return [((t + 1 / a) * mpmath.log1p(a * e(v)) - t * v, (e(v) - t) / (1 + a * e(v)))
                for v, t in zip(h, y, strict=True)]  # fmt: skip
    if loss == "probit":
        f, F = mpmath.npdf, mpmath.ncdf
        return [(-t * mpmath.log(F(v)) - (1 - t) * mpmath.log(F(-v)), (1 - t) * f(v) / F(-v) - t * f(v) / F(v))
                for v, t in zip(h, y, strict=True)]  # fmt: skip
    if loss == "cloglog":
        m = [mpmath.exp(v) for v in h]
        return [((1 - t) * v - t * mpmath.log(-mpmath.expm1(-v)), (1 - t) * v - t * v / mpmath.expm1(v))
                for v, t in zip(m, y, strict=True)]  # fmt: skip
    if loss == "tweedie":
        e, p = mpmath.exp, LOSSES[loss].parameter
        return [(e((2 - p) * v) / (2 - p) + t * e((1 - p) * v) / (p - 1), e((2 - p) * v) - t * e((1 - p) * v))
                for v, t in zip(h, y, strict=True)]  # fmt: skip
    f, f_prime = EXACT[activation]
    points = [exact_loss(f(v), t, loss) for v, t in zip(h, y, strict=True)]
    return [(value, slope * f_prime(v)) for (value, slope), v in zip(points, h, strict=True)]


def sizes(X, Y, W, b, shift, s, activation, loss):
    """Σ|terms| of the totals and of both gradients.

    The terms are those of the whole double sum: the rounding of h = XW + b, and what the slopes make of it, belongs to
    the error. In float64, which is enough for a tolerance.
    """
    X, Y, W, b, shift, s = (array.astype(np.float64) for array in (X, Y, W, b, shift, s))
    rows = X - shift if shift.size else X
    h, terms = rows @ W + b, abs(rows) @ abs(W) + abs(b)
    if activation == "softmax":  # each output depends on every h of its row
        terms = np.broadcast_to(terms.max(axis=1, keepdims=True), terms.shape) + np.log(h.shape[1])
    growth = np.maximum(1, np.exp(h)) if activation == "exp" else 1.0  # max(1, |f|', |f''|)
    if loss == "gamma":
        growth = np.maximum(1, Y * np.exp(-h))
    if loss == "tweedie":
        p = LOSSES[loss].parameter
        growth = 1 + (np.exp((2 - p) * h) + Y * np.exp((1 - p) * h)) / min(2 - p, p - 1)
    if loss == "negative_binomial":
        growth = Y + 1 / LOSSES[loss].parameter + 1
    if loss in ("probit", "cloglog"):
        growth = 1 + h * h if loss == "probit" else 1 + np.exp(h)
    if loss in ("log", "poisson", "gamma", "tweedie", "negative_binomial", "probit", "cloglog"):
        value = (growth + abs(Y)) * (terms + 1)
        delta = growth * (terms + 1) + abs(Y)
    else:
        f = np.exp(h) if activation == "exp" else np.abs(h) if activation in ("identity", "relu", "softplus") else 1.0
        spread = f + 1 + abs(Y) + growth * terms
        value, delta = spread**2, growth * spread
    if s.size:
        value, delta = value * s[:, None], delta * s[:, None]
    return value.sum(axis=0), abs(rows).T @ delta, delta.sum(axis=0)


def one_pass(build, data, activation, loss, gemm=None):
    """Totals and gradients, as written to memory that held NaN; and the totals of the pass without gradients."""
    k, W = data[1].shape[1], data[2]
    totals, alone, G, g = np.full(k, np.nan), np.full(k, np.nan), np.full(W.shape, np.nan), np.full(k, np.nan)
    numbers = ACTIVATIONS[activation], LOSSES[loss], gemm
    build.total_loss_and_gradient(*data, *numbers, totals, G, g)
    build.total_loss(*data, *numbers, alone)
    return totals, G, g, alone


def assert_close(ours, true, size, tolerance):
    error = abs(ours - true)
    assert np.all(error <= tolerance * size), f"{np.max(error / np.maximum(size, 1e-300)):.2g} of the terms"


def csr(X, index=np.int32):
    rows = scipy.sparse.csr_array(X)
    return rows.data, rows.indices.astype(index), rows.indptr.astype(index)


def sparse_problem(n, d, k, dtype, weighted=False, activation="identity", loss="squared", density=0.4):
    """A `problem` with most of X zero, and some rows of nothing else."""
    data = problem(n, d, k, dtype, weighted, activation=activation, loss=loss)
    rng = np.random.default_rng(1)
    data[0][rng.random((n, d)) >= density] = 0
    data[0][::5] = 0
    return data


def close(ours, theirs, tolerance):
    ours, theirs = np.asarray(ours, float), np.asarray(theirs, float)
    assert ours.shape == theirs.shape
    assert np.all(np.abs(ours - theirs) <= tolerance * np.maximum(1, np.abs(theirs)))


def compiled_only(build):
    if build.name == "reference":
        pytest.skip("it raises what NumPy raises; in the compiled builds bounds checks are off")
