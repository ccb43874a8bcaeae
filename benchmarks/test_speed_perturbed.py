"""The numerical gradient of an objective: every weight moved in one pass, beside the analytic gradient."""

import numpy as np
import pytest
from workload import table, value_and_gradient

from fastgd import LinearObjective, numerical_gradient

SHAPES = [(100_000, 10), (20_000, 50), (4_000, 500), (200, 10_000)]
# Targets: at most this multiple of the time of the analytic gradient.
MODELS = {("identity", "sse"): 4.0, ("sigmoid", "sse"): 25.0, ("sigmoid", "log"): 25.0}
WHO = ("ours", "one weight at a time", "our analytic gradient")
# One weight at a time takes 2d passes: only for few columns.
CASES = [
    pytest.param(*model, shape, who, id=f"{model[0]}-{model[1]}-{shape}-{who}")
    for model in MODELS
    for shape in SHAPES
    for who in WHO
    if who != "one weight at a time" or shape[1] <= 50
]


@pytest.mark.parametrize(("activation", "loss", "shape", "who"), CASES)
def test_numerical_gradient_of_an_objective(compare, activation, loss, shape, who):
    shape = compare.shape(*shape)
    X, y, w = table(shape, "float64", activation)
    if loss == "log":
        y = (y > np.median(y)).astype(np.float64)
        answer = X.T @ (1 / (1 + np.exp(-(X @ w))) - y) / len(y)
    else:
        answer = value_and_gradient(X, y, w, activation)[1]
    objective = LinearObjective(X, y, activation=activation, loss=loss)
    members = {"ours": lambda: objective.numerical_gradient(w)}
    if shape[1] <= 50:
        members["one weight at a time"] = lambda: numerical_gradient(objective.value, w)
    compare(
        "Numerical gradient of an objective", f"{activation}, {loss}", who, members, answer, shape=shape,
        yardsticks={"our analytic gradient": ((lambda: objective.gradient(w)), answer)},
        target={"our analytic gradient": MODELS[activation, loss]}, tolerance=1e-7, reads=X.nbytes,
    )  # fmt: skip
