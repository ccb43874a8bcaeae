"""Sum of squared errors of a one-layer model: one pass over X."""

import pytest
from workload import in_double, kernel_arguments, reading, table, total_loss, value

from fastgd import LinearObjective, kernels

SHAPES = [(2_000, 10), (100_000, 10), (100_000, 50), (20_000, 500), (200_000, 50), (200_000, 50, 16)]


@pytest.mark.parametrize("who", ("ours", "the kernel alone", "reading X", "reference", "NumPy"))
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("activation", ["identity", "sigmoid"])
def test_sse(compare, activation, shape, who):
    shape = compare.shape(*shape)
    X, y, w = table(shape, activation=activation)
    answer = value(*in_double(X, y, w), activation)
    arguments = kernel_arguments(X, y, w, activation)
    active, reference = kernels.active, kernels.load("reference")
    objective = LinearObjective(X, y, activation=activation)
    compare(
        "Sum of squared errors", activation, who,
        {
            "ours": lambda: objective.value(w),
            "reference": lambda: total_loss(reference, arguments),
            "NumPy": lambda: value(X, y, w, activation),
        },
        answer,
        floors={"the kernel alone": (lambda: total_loss(active, arguments), answer), "reading X": reading(X)},
        shape=shape, reads=X.nbytes,
    )  # fmt: skip
