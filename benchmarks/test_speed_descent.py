"""Full-batch gradient descent on the squared error: the whole loop, from the first step to the result."""

import numpy as np
import pytest
from workload import descend, descend_in_torch, table

from fastgd import LinearObjective, gradient_descent

STEPS = {(100, 2): 1000, (20_000, 10): 100}
TARGETS = {(100, 2): {"NumPy loop": 30.0, "PyTorch loop": 100.0}}


@pytest.mark.parametrize("who", ("ours", "NumPy loop", "PyTorch loop"))
@pytest.mark.parametrize("shape", STEPS, ids=str)
def test_descent(compare, shape, who):
    if who == "PyTorch loop":
        pytest.importorskip("torch")
    steps, target = STEPS[shape], TARGETS.get(shape)
    shape = compare.shape(*shape)
    X, y, start = table(shape)
    gram, moment = X.T @ X, X.T @ y
    lr = 1 / np.linalg.eigvalsh(gram)[-1]
    answer = start
    for _ in range(steps):  # the same iterates, from XᵀX
        answer = answer - lr * (gram @ answer - moment)
    objective = LinearObjective(X, y)
    compare(
        "Full-batch descent", f"identity, {steps:,} steps", who,
        {
            "ours": lambda: gradient_descent(objective, start, lr=lr, step_num=steps).x,
            "NumPy loop": lambda: descend(X, y, start, lr, steps),
            "PyTorch loop": lambda: descend_in_torch(X, y, start, lr, steps),
        },
        answer, shape=shape, target=target,
    )  # fmt: skip
