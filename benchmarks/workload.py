"""Tables for the benchmarks, and the NumPy and PyTorch programs that fastgd is compared with."""

import functools

import numpy as np


@functools.lru_cache(maxsize=2)
def table(shape, dtype="float64", activation="identity"):
    """X (n, d), y and w of a one-layer model, in C order; w differs from the weights that y was generated with.

    Parameters
    ----------
    shape : (n, d) or (n, d, k)
        With k, y is (n, k) and w is (d, k).
    """
    n, d, *k = shape
    rng = np.random.default_rng(0)
    X = rng.normal(0.5, 1.0, (n, d)).astype(dtype)
    w = (rng.normal(size=(d, *k)) / np.sqrt(d)).astype(dtype)
    y = outputs(X, w + np.asarray(rng.normal(size=w.shape) / np.sqrt(d), w.dtype), activation)
    y += rng.normal(0.0, 0.1, y.shape).astype(dtype)
    return X, y, w


def outputs(X, w, activation):
    """f(Xw)."""
    h = X @ w
    return h if activation == "identity" else 1 / (1 + np.exp(-h))


def value(X, y, w, activation):
    """½ ΣΣ (f(Xw) − y)²."""
    return 0.5 * np.sum((outputs(X, w, activation) - y) ** 2)


def value_and_gradient(X, y, w, activation):
    """½ ΣΣ (f(Xw) − y)² and its gradient by w, X.T @ ((f − y)·f')."""
    f = outputs(X, w, activation)
    r = f - y
    return 0.5 * np.vdot(r, r), X.T @ (r if activation == "identity" else r * f * (1 - f))


def in_double(X, y, w):
    """The arrays in float64, for computing the answers."""
    return tuple(array.astype(np.float64, copy=False) for array in (X, y, w))


def kernel_arguments(X, y, w, activation):
    """Arguments of the kernels `total_loss` and `total_loss_and_gradient`, without intercept and sample weights."""
    from fastgd import kernels
    from fastgd.kernels.codes import ACTIVATIONS, PointLoss

    n, d = X.shape
    W, absent = w.reshape(d, -1), np.empty(0, X.dtype)
    b = np.zeros(W.shape[1], X.dtype)
    model = ACTIVATIONS[activation], PointLoss("squared")
    return X, y.reshape(n, -1), W, b, absent, absent, *model, kernels.gemm(X.dtype), np.empty(W.shape[1])


def total_loss(build, arguments):
    """The kernel's answer as one number."""
    build.total_loss(*arguments)
    return float(arguments[-1].sum())


def reading(X):
    """A floor: adding up X, which reads each of its numbers once, and the sum."""
    return X.sum, X.sum(dtype=np.float64)


def textbook_gradient(f, x, h=1e-4):
    """Central differences as in textbooks: x[i] is moved and restored."""
    gradient = np.zeros_like(x)
    for i in range(x.size):
        here = x[i]
        x[i] = here + h
        above = f(x)
        x[i] = here - h
        below = f(x)
        gradient[i] = (above - below) / (2 * h)
        x[i] = here
    return gradient


def descend(X, y, w, lr, step_num):
    """Full-batch descent on the squared error in NumPy."""
    for _ in range(step_num):
        w = w - lr * (X.T @ (X @ w - y))
    return w


def descend_in_torch(X, y, w, lr, step_num):
    """The same in PyTorch, with its automatic gradient, on one thread."""
    import torch

    torch.set_num_threads(1)
    X, y, w = (torch.from_numpy(np.array(array)) for array in (X, y, w))
    w.requires_grad_()
    for _ in range(step_num):
        loss = 0.5 * ((X @ w - y) ** 2).sum()
        loss.backward()
        with torch.no_grad():
            w -= lr * w.grad
            w.grad = None
    return w.detach().numpy()


def assert_same(result, answer, tolerance):
    """Assert equality within `tolerance` times the largest number; tuples part by part."""
    if isinstance(answer, tuple):
        assert len(result) == len(answer)
        for part, expected in zip(result, answer, strict=True):
            assert_same(part, expected, tolerance)
        return
    np.testing.assert_allclose(result, answer, rtol=0, atol=tolerance * np.max(np.abs(answer)))
    assert np.shape(result) == np.shape(answer)
