"""Value and gradient of a one-layer model's squared error in one pass over X, and the update step."""

import numpy as np
import pytest
from workload import in_double, kernel_arguments, reading, table, value_and_gradient

from fastgd import LinearObjective, kernels

# Shapes, and the targets: NumPy's time for a pass in float64 over ours.
SHAPES = {
    (2_000, 10): 2.4,
    (20_000, 8): 1.9,
    (100_000, 10): 2.4,
    (100_000, 50): 2.4,
    (20_000, 500): 2.4,
    (200_000, 50): None,
    (1_000_000, 20): 2.1,
    (2_000_000, 50): 3.3,
    (200_000, 50, 16): 1.8,
    (20_000, 500, 16): 1.8,
}
FAR_BEYOND_CACHE = (2_000_000, 50)
IDENTITY = [("identity", shape, dtype) for dtype in ("float64", "float32") for shape in SHAPES]
SIGMOID = [("sigmoid", shape, "float64") for shape in ((100_000, 10), (100_000, 50))]
# Targets of the log loss with the sigmoid: at most this multiple of the time of the squared error with the identity.
LOG_LOSS = {(100_000, 10): 2.0, (100_000, 50): 1.25, (200_000, 50): 1.25, (20_000, 500): 1.25}
WHO = ("ours", "reading X", "reference", "NumPy", "ours in float64")
CASES = [
    pytest.param(*case, who, id=f"{case[0]}-{case[1]}-{case[2]}-{who}")
    for case in IDENTITY + SIGMOID
    for who in WHO
    if (who, case[2]) != ("ours in float64", "float64")
    and (who != "reference" or np.prod(case[1][:2]) <= 1e7)  # the reference is too slow there
]


@pytest.mark.parametrize(("activation", "shape", "dtype", "who"), CASES)
def test_value_and_gradient(compare, activation, shape, dtype, who):
    target = {}
    if activation == "identity" and dtype == "float64":
        target["NumPy"] = SHAPES[shape]
        if shape == FAR_BEYOND_CACHE:
            target["reading X"] = 0.9
    shape = compare.shape(*shape)
    X, y, w = table(shape, dtype, activation)
    double = in_double(X, y, w)
    objective = LinearObjective(X, y, activation=activation)
    arguments = kernel_arguments(X, y, w, activation)
    reference = kernels.load("reference")
    grad_W, grad_b = np.empty(arguments[2].shape), np.empty(arguments[3].shape)

    def by_reference():
        reference.total_loss_and_gradient(*arguments, grad_W, grad_b)
        return float(arguments[-1].sum()), grad_W.reshape(w.shape)

    members = {
        "ours": lambda: objective.value_and_gradient(w),
        "reference": by_reference,
        "NumPy": lambda: value_and_gradient(X, y, w, activation),
    }
    if dtype == "float32":
        objective_in_double = LinearObjective(*double[:2], activation=activation)
        members["ours in float64"] = lambda: objective_in_double.value_and_gradient(double[2])
        target["ours in float64"] = 1.8 if len(shape) == 2 else None
    compare(
        "Squared error and its gradient", activation, who, members, value_and_gradient(*double, activation),
        shape=shape, dtype=dtype, floors={"reading X": reading(X)}, target=target, reads=X.nbytes,
    )  # fmt: skip


@pytest.mark.parametrize("who", ("ours", "our identity step", "NumPy"))
@pytest.mark.parametrize("shape", LOG_LOSS, ids=str)
def test_log_loss(compare, shape, who):
    most = LOG_LOSS[shape]
    shape = compare.shape(*shape)
    X, y, w = table(shape)
    labels = (y > np.median(y)).astype(np.float64)
    objective, linear = LinearObjective(X, labels, activation="sigmoid", loss="log"), LinearObjective(X, y)

    def in_numpy():
        h = X @ w
        value = np.mean(np.logaddexp(0, h) - labels * h)
        return value, X.T @ ((1 / (1 + np.exp(-h)) - labels) / len(labels))

    step = (lambda: linear.value_and_gradient(w)), value_and_gradient(X, y, w, "identity")
    compare(
        "Log loss and its gradient", "sigmoid", who,
        {"ours": lambda: objective.value_and_gradient(w), "NumPy": in_numpy}, in_numpy(),
        shape=shape, yardsticks={"our identity step": step}, target={"our identity step": most}, reads=X.nbytes,
    )  # fmt: skip


@pytest.mark.parametrize("who", ("ours", "reference", "NumPy"))
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("d", [10, 500, 100_000])
def test_update(compare, d, dtype, who):
    d = compare.shape(1, d)[1]
    rng = np.random.default_rng(0)
    w, g = (rng.normal(size=d).astype(dtype) for _ in range(2))
    lr = 1e-3
    after = w.astype(np.float64) - lr * g.astype(np.float64)
    active, reference = kernels.active, kernels.load("reference")

    def in_numpy():
        nonlocal w
        w -= lr * g
        return w

    def by(build):
        build.update(w, g, lr)
        return w

    compare(
        "Update step", "w ← w − η·g", who,
        {"ours": lambda: by(active), "reference": lambda: by(reference), "NumPy": in_numpy},
        after, shape=(d,), dtype=dtype,
    )  # fmt: skip
