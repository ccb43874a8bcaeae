"""Update rules: the step alone, for given gradients, and whole runs, whose loop is compiled."""

import functools

import numpy as np
import pytest
from workload import table

from fastgd import LinearObjective, gradient_descent, optimizers

STEPS, RATE = 20, 0.01
RUN_STEPS = 1000
PEERS = ("ours", "NumPy", "torch.optim", "optax")


def numpy_momentum(slope, w, steps):
    """In NumPy, in place."""
    w, v = w.copy(), np.zeros_like(w)
    for _ in range(steps):
        v *= 0.9
        v += slope(w)
        w -= RATE * v
    return w


def numpy_adam(slope, w, steps):
    w, m, v = w.copy(), np.zeros_like(w), np.zeros_like(w)
    for t in range(1, steps + 1):
        g = slope(w)
        m += 0.1 * (g - m)
        v *= 0.999
        v += 0.001 * g * g
        w -= RATE / (1 - 0.9**t) * m / (np.sqrt(v) / np.sqrt(1 - 0.999**t) + 1e-8)
    return w


NUMPY = {"momentum": numpy_momentum, "adam": numpy_adam}


def by_step(name, gradient, w, steps):
    """`Optimizer.step` in a loop."""
    rule = optimizers.get(name)
    w = w.copy()
    state = rule.init(w)
    for _ in range(steps):
        rule.step(w, gradient, state, RATE)
    return w


def in_torch(name, gradient, w, steps):
    import torch

    torch.set_num_threads(1)
    w = torch.nn.Parameter(torch.from_numpy(w.copy()))
    w.grad = torch.from_numpy(gradient)
    make = {"momentum": functools.partial(torch.optim.SGD, momentum=0.9), "adam": torch.optim.Adam}[name]
    optimizer = make([w], lr=RATE)
    for _ in range(steps):
        optimizer.step()
    return w.detach().numpy()


def in_optax(name, gradient, w, steps):
    """optax in eager mode: a Python loop around a function that is not traced."""
    import jax
    import optax

    jax.config.update("jax_enable_x64", True)
    make = {"momentum": functools.partial(optax.sgd, momentum=0.9), "adam": optax.adam}[name]
    optimizer = make(RATE)
    w, gradient = jax.numpy.asarray(w), jax.numpy.asarray(gradient)
    state = optimizer.init(w)
    for _ in range(steps):
        move, state = optimizer.update(gradient, state)
        w = optax.apply_updates(w, move)
    return np.asarray(w)


@pytest.mark.parametrize("who", PEERS)
@pytest.mark.parametrize("d", [2, 100, 100_000])
@pytest.mark.parametrize("name", NUMPY)
def test_steps(compare, name, d, who):
    if who in ("torch.optim", "optax"):
        pytest.importorskip(who.partition(".")[0])
    d = min(d, 100) if compare.quick else d
    rng = np.random.default_rng(0)
    w, gradient = rng.normal(size=d), rng.normal(size=d)
    compare(
        "Optimizer steps", f"{name}, {STEPS} steps", who,
        {
            "ours": lambda: by_step(name, gradient, w, STEPS),
            "NumPy": lambda: NUMPY[name](lambda w: gradient, w, STEPS),
            "torch.optim": lambda: in_torch(name, gradient, w, STEPS),
            "optax": lambda: in_optax(name, gradient, w, STEPS),
        },
        NUMPY[name](lambda w: gradient, w, STEPS), shape=(d,),
        # With few weights the cost of calls dominates, and three calls of NumPy take less time than one of ours.
        target={"torch.optim": 1.2, "optax": 3.0} | ({"NumPy": 1.2} if d > 100 else {}),
    )  # fmt: skip


def run_in_torch(name, X, y, w, steps):
    """Gradient by autograd, step by torch.optim, on one thread."""
    import torch

    torch.set_num_threads(1)
    X, y = torch.from_numpy(X), torch.from_numpy(y)
    w = torch.nn.Parameter(torch.from_numpy(w.copy()))
    make = {"momentum": functools.partial(torch.optim.SGD, momentum=0.9), "adam": torch.optim.Adam}[name]
    optimizer = make([w], lr=RATE)
    for _ in range(steps):
        optimizer.zero_grad()
        (0.5 * ((X @ w - y) ** 2).sum() / len(y)).backward()
        optimizer.step()
    return w.detach().numpy()


@pytest.mark.parametrize("who", ("ours", "ours, gd", "NumPy loop", "PyTorch loop"))
@pytest.mark.parametrize("name", NUMPY)
def test_runs(compare, name, who):
    if who == "PyTorch loop":
        pytest.importorskip("torch")
    X, y, w = table((100, 2))
    objective = LinearObjective(X, y / 10, loss="mse")

    def slope(w):
        return X.T @ (X @ w - y / 10) * (2 / len(y))

    def run(optimizer):
        return gradient_descent(objective, w, RATE, RUN_STEPS, optimizer=optimizer).x

    compare(
        "Full-batch descent by a rule", f"{name}, {RUN_STEPS:,} steps", who,
        {
            "ours": lambda: run(name),
            "NumPy loop": lambda: NUMPY[name](slope, w, RUN_STEPS),
            "PyTorch loop": lambda: run_in_torch(name, np.sqrt(2) * X, np.sqrt(2) * y / 10, w, RUN_STEPS),
        },
        NUMPY[name](slope, w, RUN_STEPS), shape=(100, 2), yardsticks={"ours, gd": (lambda: run("gd"), run("gd"))},
        target={"NumPy loop": 20.0, "PyTorch loop": 60.0, "ours, gd": 2.0}, tolerance=1e-8,
    )  # fmt: skip
