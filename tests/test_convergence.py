"""One table: every optimizer on problems that are known to be easy, badly scaled, curved, flat, and real.

`python tests/test_convergence.py` prints it.
"""

import numpy as np
import pytest
from scipy.optimize import rosen, rosen_der

from fastgd import LinearObjective, gradient_descent, optimizers, schedules

pytestmark = pytest.mark.one_build
STEPS = 3000
SCALES = np.array([1.0, 10.0, 100.0])


def parabola(x):
    return float(x @ x)


def parabola_slope(x):
    return 2 * x


def ellipsoid(x):
    return 0.5 * float(SCALES @ (x * x))


def ellipsoid_slope(x):
    return SCALES * x


def beale(v):
    """Σ(cᵢ − x + x·yⁱ)² with c = 1.5, 2.25, 2.625, zero at (3, ½) (Beale 1958)."""
    x, y = v
    return float((1.5 - x + x * y) ** 2 + (2.25 - x + x * y**2) ** 2 + (2.625 - x + x * y**3) ** 2)


def beale_slope(v):
    x, y = v
    a, b, c = 1.5 - x + x * y, 2.25 - x + x * y**2, 2.625 - x + x * y**3
    return np.array(
        [2 * (a * (y - 1) + b * (y**2 - 1) + c * (y**3 - 1)), 2 * x * (a + 2 * b * y + 3 * c * y**2)]
    )  # fmt: skip


def classes(dtype=np.float64):
    """A logistic regression with an l2 penalty, whose minimum scipy knows."""
    rng = np.random.default_rng(8)
    X = rng.normal(size=(120, 3)) + 0.3
    y = rng.random(120) < 1 / (1 + np.exp(-X @ [1.0, -2.0, 0.5]))
    return LinearObjective(
        X.astype(dtype), y.astype(dtype), activation="sigmoid", loss="log", fit_intercept=True, l2=0.01
    )  # fmt: skip


# name → (f, its gradient, start, minimum, how far above the minimum counts as there)
PROBLEMS = {
    "parabola": (parabola, parabola_slope, [-3.0, 4.0], 0.0, 1e-8),
    "ellipsoid": (ellipsoid, ellipsoid_slope, [1.0, 1.0, 1.0], 0.0, 1e-6),
    "Rosenbrock": (rosen, rosen_der, [-1.2, 1.0], 0.0, 1e-3),
    "Beale": (beale, beale_slope, [1.0, 1.0], 0.0, 1e-5),
    "logistic": (None, None, [0.0] * 4, None, 1e-7),
}
# The rates, problem by problem in that order; a rule that scatters at a constant rate has it fall along a cosine.
RATES = {
    "gd": (0.1, 0.01, 0.001, 0.03, 1.0),
    "momentum": (0.1, 0.01, 0.001, 0.003, 0.3),
    "nesterov": (0.1, 0.01, 0.001, 0.003, 0.3),
    "adagrad": (1.0, 1.0, 1.0, 0.3, 0.3),
    "adadelta": (1.0, 1.0, 1.0, 1.0, 10.0),
    "rmsprop": (0.03, 0.01, 0.01, 0.01, 0.01),
    "adam": (0.3, 0.1, 0.03, 0.1, 0.01),
    "adamax": (0.3, 0.3, 0.3, 0.1, 0.1),
    "nadam": (0.1, 0.1, 0.03, 0.03, 0.01),
    "amsgrad": (0.3, 0.1, 0.1, 0.1, 0.1),
    "adamw": (0.1, 0.1, 0.03, 0.1, 0.1),
    "asgd": (0.8, 0.015, 0.001, 0.03, 3.0),
}
FALLING = ("adadelta", "rmsprop")
# Where a rule gets less far in so many steps, and how far it does get.
SHORT = {
    ("gd", "Rosenbrock"): 0.05, ("asgd", "Rosenbrock"): 0.1,
    ("adamw", "Beale"): 1e-4, ("adamw", "logistic"): 1e-4,  # weight decay moves the minimum
}  # fmt: skip


def rule_of(name):
    if name == "asgd":  # the mean of the last tenth
        return optimizers.ASGD(start=STEPS * 9 // 10)
    return optimizers.BY_NAME[name]()


def above_the_minimum(name, problem, dtype, gradient):
    """How far above the minimum a run ends."""
    f, slope, start, minimum, _ = PROBLEMS[problem]
    rate = RATES[name][list(PROBLEMS).index(problem)]
    lr = schedules.cosine_decay(rate, STEPS) if name in FALLING else rate
    options = {"lr": lr, "step_num": STEPS, "optimizer": rule_of(name)}
    start = np.array(start, dtype)
    if problem == "logistic":
        o, exact = classes(dtype), classes()
        minimum = exact.value(gradient_descent(exact, lr="auto", precondition="gram", tol=1e-14).x)
        r = gradient_descent(o, start, **options) if gradient == "analytic" else gradient_descent(
            exact.value, start, **options
        )  # fmt: skip
        return exact.value(r.x.astype(float)) - minimum
    r = gradient_descent(f, start, grad=slope if gradient == "analytic" else None, **options)
    assert r.fun == f(r.x)
    return r.fun - minimum


@pytest.mark.parametrize("gradient", ["analytic", "numerical"])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("problem", PROBLEMS)
@pytest.mark.parametrize("name", optimizers.BY_NAME)
def test_convergence(name, problem, dtype, gradient):
    gap = above_the_minimum(name, problem, dtype, gradient)
    assert -1e-12 <= gap <= SHORT.get((name, problem), PROBLEMS[problem][-1])


def test_every_optimizer_is_in_the_table():
    assert set(RATES) == set(optimizers.BY_NAME)


if __name__ == "__main__":
    columns = [(p, dtype, gradient) for p in PROBLEMS for dtype, gradient in ((np.float64, "analytic"),)]
    columns += [(p, np.float32, "numerical") for p in PROBLEMS]
    print("| optimizer |", " | ".join(f"{p}, {np.dtype(d).name}, {g}" for p, d, g in columns), "|")
    print("| --- |" + " --- |" * len(columns))
    for rule in optimizers.BY_NAME:
        print(f"| {rule} |", " | ".join(f"{above_the_minimum(rule, *column):.0e}" for column in columns), "|")
