"""A step of `gradient_descent` where the work of a step is small: on Python functions, and on small tables."""

import types

import numpy as np
import pytest
from workload import descend, table, textbook_gradient, value_and_gradient

from fastgd import LinearObjective, gradient_descent

STEPS, RATE = 1000, 0.01
# Steps by NumPy in a time of ours, at least.
TABLES = {(100, 2): 22.0, (80, 3): 22.0, (300, 5): 15.0, (50, 10): 12.0, (1000, 4): 12.0, (200, 20): 6.0}


class Bowl:
    """½ Σ cᵢxᵢ² with curvatures from 1 to 10, and loops on it as they are written by hand."""

    def __init__(self, d):
        curvatures = self.curvatures = np.linspace(1.0, 10.0, d)
        self.start = np.linspace(-3.0, 4.0, d)
        self.f = lambda x: 0.5 * x.dot(curvatures * x)
        self.grad = lambda x: curvatures * x

    def by_hand(self, steps, slope=None):
        slope, x = self.grad if slope is None else slope, self.start.copy()
        for _ in range(steps):
            x = x - RATE * slope(x)
        return x

    def by_textbook(self, steps):
        return self.by_hand(steps, lambda x: textbook_gradient(self.f, x))

    def adam_by_hand(self, steps):
        w, m, v = self.start.copy(), np.zeros_like(self.start), np.zeros_like(self.start)
        for t in range(1, steps + 1):
            g = self.grad(w)
            m += 0.1 * (g - m)
            v *= 0.999
            v += 0.001 * g * g
            w -= RATE / (1 - 0.9**t) * m / (np.sqrt(v) / np.sqrt(1 - 0.999**t) + 1e-8)
        return w

    def recorded_by_hand(self, steps):
        x, points, values, norms = self.start.copy(), [], [], []
        for _ in range(steps):
            g = self.grad(x)
            points.append(x.copy())
            values.append(self.f(x))
            norms.append(np.sqrt(g.dot(g)))
            x = x - RATE * g
        return np.array([*points, x])

    def shown_by_hand(self, steps, callback):
        x = self.start.copy()
        g = self.grad(x)
        for step in range(1, steps + 1):
            x = x - RATE * g
            g = self.grad(x)
            callback(types.SimpleNamespace(x=x.copy(), fun=self.f(x), jac=g.copy(), nit=step))
        return x

    def calls(self, function, count):
        def run():
            for _ in range(count):
                found = function(self.start)
            return found

        return run, function(self.start)


@pytest.mark.parametrize("who", ("ours", "NumPy loop", "calls of grad"))
@pytest.mark.parametrize("d", [1, 2, 10, 100, 300, 1000, 3000, 10000])
def test_steps_with_a_gradient(compare, d, who):
    bowl, steps = Bowl(d), 20 if compare.quick else STEPS
    compare(
        "Descent on a Python function", f"grad=, {STEPS:,} steps", who,
        {
            "ours": lambda: gradient_descent(bowl.f, bowl.start, RATE, steps, grad=bowl.grad).x,
            "NumPy loop": lambda: bowl.by_hand(steps),
        },
        bowl.start * (1 - RATE * bowl.curvatures) ** steps, shape=(d,),
        floors={"calls of grad": bowl.calls(bowl.grad, steps)}, target={"NumPy loop": 1.0},
    )  # fmt: skip


@pytest.mark.parametrize("who", ("ours", "NumPy loop"))
@pytest.mark.parametrize("d", [2, 100])
def test_steps_of_adam(compare, d, who):
    bowl, steps = Bowl(d), 20 if compare.quick else STEPS
    compare(
        "Descent on a Python function", f"Adam, {STEPS:,} steps", who,
        {
            "ours": lambda: gradient_descent(bowl.f, bowl.start, RATE, steps, grad=bowl.grad, optimizer="adam").x,
            "NumPy loop": lambda: bowl.adam_by_hand(steps),
        },
        bowl.adam_by_hand(steps), shape=(d,), target={"NumPy loop": 3.0},
    )  # fmt: skip


@pytest.mark.parametrize("who", ("ours", "textbook loop", "calls of f"))
@pytest.mark.parametrize("d", [2, 10, 100])
def test_steps_with_a_numerical_gradient(compare, d, who):
    bowl, steps = Bowl(d), 20 if compare.quick else STEPS // 10
    compare(
        "Descent on a Python function", f"numerical gradient, {STEPS // 10} steps", who,
        {
            "ours": lambda: gradient_descent(bowl.f, bowl.start, RATE, steps).x,
            "textbook loop": lambda: bowl.by_textbook(steps),
        },
        bowl.start * (1 - RATE * bowl.curvatures) ** steps, shape=(d,), tolerance=1e-6,
        floors={"calls of f": bowl.calls(bowl.f, (2 * d + 3) * steps)}, target={"textbook loop": 1.0},
    )  # fmt: skip


@pytest.mark.parametrize("who", ("ours", "NumPy loop"))
@pytest.mark.parametrize("d", [2, 100])
def test_steps_with_a_history(compare, d, who):
    bowl, steps = Bowl(d), 20 if compare.quick else STEPS
    compare(
        "Descent on a Python function", f"history=True, {STEPS:,} steps", who,
        {
            "ours": lambda: gradient_descent(bowl.f, bowl.start, RATE, steps, grad=bowl.grad, history=True).history.x,
            "NumPy loop": lambda: bowl.recorded_by_hand(steps),
        },
        bowl.recorded_by_hand(steps), shape=(d,), target={"NumPy loop": 1.0},
    )  # fmt: skip


@pytest.mark.parametrize("who", ("ours", "NumPy loop"))
@pytest.mark.parametrize("d", [2, 100])
def test_steps_with_a_callback(compare, d, who):
    bowl, steps = Bowl(d), 20 if compare.quick else STEPS

    def callback(result):
        return None

    compare(
        "Descent on a Python function", f"callback=, {STEPS:,} steps", who,
        {
            "ours": lambda: gradient_descent(bowl.f, bowl.start, RATE, steps, grad=bowl.grad, callback=callback).x,
            "NumPy loop": lambda: bowl.shown_by_hand(steps, callback),
        },
        bowl.by_hand(steps), shape=(d,), target={"NumPy loop": 1.0},
    )  # fmt: skip


@pytest.mark.parametrize("who", ("ours", "NumPy loop"))
@pytest.mark.parametrize("shape", TABLES, ids=str)
def test_steps_on_small_tables(compare, shape, who):
    X, y, start = table(shape)
    lr, steps = 1 / np.linalg.eigvalsh(X.T @ X)[-1], 20 if compare.quick else STEPS
    objective = LinearObjective(X, y)
    compare(
        "Descent on small tables", f"identity, {STEPS:,} steps", who,
        {
            "ours": lambda: gradient_descent(objective, start, lr=lr, step_num=steps).x,
            "NumPy loop": lambda: descend(X, y, start, lr, steps),
        },
        descend(X, y, start, lr, steps), shape=shape, target={"NumPy loop": TABLES[shape]}, tolerance=1e-9,
    )  # fmt: skip


@pytest.mark.parametrize("who", ("ours", "NumPy"))
@pytest.mark.parametrize("shape", [(10, 3), (3000, 7)], ids=str)
def test_one_value_and_gradient(compare, shape, who):
    X, y, w = table(shape)
    objective = LinearObjective(X, y)
    compare(
        "Value and gradient of small tables", "identity", who,
        {
            "ours": lambda: objective.value_and_gradient(w),
            "NumPy": lambda: value_and_gradient(X, y, w, "identity"),
        },
        value_and_gradient(X, y, w, "identity"), shape=shape, target={"NumPy": 1.2},
    )  # fmt: skip
