"""Full-batch gradient descent on the squared error: the whole loop, from the first step to the result."""

import numpy as np
import pytest
from workload import descend, table

from fastgd import LinearObjective, gradient_descent

STEPS = 100


@pytest.mark.parametrize("who", ("ours", "NumPy loop"))
@pytest.mark.parametrize("shape", [(100, 2), (20_000, 10)], ids=str)
def test_descent(compare, shape, who):
    target = {"NumPy loop": 30.0} if shape == (100, 2) else None
    shape = compare.shape(*shape)
    X, y, start = table(shape)
    gram, moment = X.T @ X, X.T @ y
    lr = 1 / np.linalg.eigvalsh(gram)[-1]
    answer = start
    for _ in range(STEPS):  # the same iterates, from XᵀX
        answer = answer - lr * (gram @ answer - moment)
    objective = LinearObjective(X, y)
    compare(
        f"Full-batch descent, {STEPS} steps", "identity", who,
        {
            "ours": lambda: gradient_descent(objective, start, lr=lr, step_num=STEPS).x,
            "NumPy loop": lambda: descend(X, y, start, lr, STEPS),
        },
        answer, shape=shape, target=target,
    )  # fmt: skip
