"""A loss that a kernel does not know is an error at its entry, in every build, and nothing is written to."""

import numpy as np
import pytest

from fastgd import kernels
from fastgd.kernels.codes import ACTIVATIONS, CUSTOM, PLAIN, PointLoss

WRONG = [
    (0, PointLoss("mae"), "no loss has the name 'mae'"),
    (6, PointLoss("mae"), "no loss has the name 'mae'"),
    (0, PointLoss(0), "no loss has the name 0"),
    (0, PointLoss(CUSTOM), "needs its function; got None"),
    (0, 0, "loss must be a PointLoss"),
    (0, 99, "loss must be a PointLoss"),
    (0, None, "loss must be a PointLoss"),
    (42, PointLoss("squared"), "no activation has the number 42"),
    (ACTIVATIONS["tanh"], PointLoss("log"), "goes with activation 1; got 2"),
    (ACTIVATIONS["identity"], PointLoss("poisson"), "goes with activation 5; got 0"),
    (ACTIVATIONS["identity"], PointLoss("gamma"), "goes with activation 5; got 0"),
    (ACTIVATIONS["softmax"], PointLoss(CUSTOM, 0.0, lambda h, y: (h, y)), "goes with activation 0; got 6"),
]


def calls(model, dtype=np.float64):
    """Every kernel that takes a loss, and what it may write to."""
    X, Y = np.ones((4, 2), dtype), np.ones((4, 1), dtype)
    W, b, none, w = np.ones((2, 1), dtype), np.zeros(1, dtype), np.empty(0, dtype), np.ones((2, 1), dtype)
    csr = np.ones(4, dtype), np.zeros(4, np.int32), np.arange(5, dtype=np.int32)
    edges, order, rates = np.array([0, 4]), np.arange(4), np.full(4, 0.1)
    totals, grad_W, grad_b, sums = np.zeros(1), np.zeros((2, 1)), np.zeros(1), np.zeros((1, 4))
    doubles = W.astype(float), b.astype(float), np.full((2, 1), 1e-3), np.full(1, 1e-3)
    gradient, previous, state = np.zeros((2, 1), dtype), np.zeros((2, 1), dtype), np.array([0, 0, 1, 0, 0, 0, 0, 0.0])
    run = rates, 0.0, 0.0, 10.0, 2.0, state, gradient, previous, np.zeros(4), np.zeros(4), np.zeros((0, 0, 0), dtype)
    plain = PLAIN[np.dtype(dtype)]
    written = totals, grad_W, grad_b, sums, w - 1, gradient
    return written, w, {
        "total_loss": (X, Y, W, b, none, none, *model, None, totals),
        "total_loss_and_gradient": (X, Y, W, b, none, none, *model, None, totals, grad_W, grad_b),
        "block_sums": (X, Y, W, b, none, none, *model, None, edges, sums),
        "value_and_gradient": (X, Y, W[:, 0], none, *model, None, 1.0, 0.0, edges, gradient[:, 0]),
        "descend": (X, Y, w, none, *model, None, 1.0, 0.0, 0.0, *run, *plain),
        "stochastic": (X, Y, w, none, *model, 1.0, 0.0, order, 1, True, rates, *plain),
        "sparse_pass": (*csr, Y, W, b, none, *model, totals, grad_W, grad_b),
        "sparse_stochastic": (*csr, Y, w, 2, none, *model, 1.0, 0.0, order, 1, True, rates, *plain),
        "perturbed_pass": (X, Y, *doubles, none, *model, grad_W, grad_b),
        "sparse_perturbed_pass": (*csr, Y, *doubles, none, *model, grad_W, grad_b),
    }  # fmt: skip


KERNELS = calls((0, PointLoss("squared")))[2]


@pytest.mark.parametrize("name", KERNELS)
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_what_is_not_known_is_refused_before_anything_is_written_to(name, dtype):
    for *model, match in WRONG:
        written, w, arguments = calls(model, dtype)
        with pytest.raises(ValueError, match=match):
            getattr(kernels.active, name)(*arguments[name])
        assert not any(array.any() for array in written) and np.all(w == 1)
    getattr(kernels.active, name)(*calls((0, PointLoss("squared")), dtype)[2][name])


def test_all_kernels_that_take_a_loss_are_among_them():
    import inspect

    from fastgd.kernels.reference import one_layer, perturbed

    taking = {
        name
        for module in (one_layer, perturbed)
        for name, f in inspect.getmembers(module, inspect.isfunction)
        if name in (*kernels.ONE_LAYER, *kernels.PERTURBED) and "loss" in inspect.signature(f).parameters
    }
    assert taking == set(KERNELS)
