"""Many learning rates at once: `sweep` against the same runs one after the other."""

import numpy as np
import pytest
from workload import table

from fastgd import LinearObjective, sweep

RATES = 64
STEPS = {"direct": 10, "gram": 20}  # the more, the less it matters that the Gram matrix is formed first
# route and model → the members that it is compared with, and the ratios to reach.
TARGETS = {
    ("direct", "identity"): {"ours, one by one": 2.3, "NumPy loops": 6.0},
    ("direct", "sigmoid, log loss"): {"ours, one by one": 1.6, "NumPy loops": None},
    ("gram", "identity"): {"ours, one by one": 50.0, "NumPy loops": None},
}
CASES = [
    pytest.param(route, model, who, id=f"{route}-{model}-{who}")
    for (route, model), peers in TARGETS.items()
    for who in ("ours", *peers)
]


def loops(X, y, model, rates, steps):
    """One run after the other in NumPy, on the mean loss."""
    found = []
    for lr in rates:
        w = np.zeros(X.shape[1])
        for _ in range(steps):
            h = X @ w
            f, slope = (h, 2.0) if model == "identity" else (1 / (1 + np.exp(-h)), 1.0)
            w = w - lr * (slope / len(y)) * (X.T @ (f - y))
        found.append(w)
    return np.array(found)


def one_by_one(objective, rates, steps):
    """One run after the other, each step a pass over X: `gradient_descent` itself may take the Gram matrix."""
    found = []
    for lr in rates:
        w = np.zeros(objective.shape)
        for _ in range(steps):
            w -= lr * objective.value_and_gradient(w)[1]
        found.append(w)
    return np.array(found)


@pytest.mark.parametrize(("route", "model", "who"), CASES)
def test_sweep(compare, route, model, who):
    shape = compare.shape(200_000, 20)
    steps = 3 if compare.quick else STEPS[route]
    X, y, _ = table(shape)
    options = {"loss": "mse"}
    if model != "identity":
        y, options = (y > y.mean()).astype(float), {"loss": "log", "activation": "sigmoid"}
    objective = LinearObjective(X, y, **options)
    rates = np.geomspace(0.01, 1.0, RATES) / objective.lipschitz()

    members = {
        "ours": lambda: np.array([run.x for run in sweep(objective, lr=rates, step_num=steps, route=route)]),
        "ours, one by one": lambda: one_by_one(objective, rates, steps),
        "NumPy loops": lambda: loops(X, y, model, rates, steps),
    }
    target = {peer: ratio for peer, ratio in TARGETS[route, model].items() if ratio}
    compare(
        f"{RATES} learning rates, {steps} steps each", f"{model}, {route} route", who, members,
        loops(X, y, model, rates, steps), shape=shape, target=target,
    )  # fmt: skip
