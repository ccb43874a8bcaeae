"""One table: every optimizer on problems that are easy, badly scaled, curved, flat, full of minima, and real.

`python tests/engine/test_convergence.py` prints it, as it stands in docs/optimizers.md.
"""

import functools
import itertools

import numpy as np
import pytest

from fastgd import LinearObjective, gradient_descent, multi_start, optimizers, schedules
from fastgd.engine.line_search import METHODS

pytestmark = pytest.mark.one_build
STEPS = 3000
SCALES = np.array([1.0, 10.0, 100.0])
TURNS = 2 * np.pi


# ------------------------------------------------------------------------- functions, in terms that numba compiles too


def parabola(x):
    return np.sum(x * x)


def parabola_slope(x):
    return 2 * x


def ellipsoid(x):
    return 0.5 * np.sum(SCALES * x * x)


def ellipsoid_slope(x):
    return SCALES * x


def rosenbrock(x):
    return 100 * (x[1] - x[0] ** 2) ** 2 + (1 - x[0]) ** 2


def rosenbrock_slope(x):
    a = x[1] - x[0] ** 2
    return np.array([-400 * x[0] * a - 2 * (1 - x[0]), 200 * a])


def beale(x):
    """Σ(cᵢ − x + x·yⁱ)² with c = 1.5, 2.25, 2.625, zero at (3, ½) (Beale 1958)."""
    y = x[1]
    a, b, c = 1.5 - x[0] * (1 - y), 2.25 - x[0] * (1 - y**2), 2.625 - x[0] * (1 - y**3)
    return a**2 + b**2 + c**2


def beale_slope(x):
    y = x[1]
    a, b, c = 1.5 - x[0] * (1 - y), 2.25 - x[0] * (1 - y**2), 2.625 - x[0] * (1 - y**3)
    return np.array(
        [2 * (a * (y - 1) + b * (y**2 - 1) + c * (y**3 - 1)), 2 * x[0] * (a + 2 * b * y + 3 * c * y**2)]
    )  # fmt: skip


def rastrigin(x):
    return np.sum(x * x + 10 * (1 - np.cos(TURNS * x)))


def rastrigin_slope(x):
    return 2 * x + 10 * TURNS * np.sin(TURNS * x)


RNG = np.random.default_rng(8)
ROWS = np.column_stack([RNG.normal(size=(120, 3)) + 0.3, np.ones(120)])
CLASSES = (RNG.random(120) < 1 / (1 + np.exp(-ROWS[:, :3] @ [1.0, -2.0, 0.5]))).astype(float)
SHARE = np.array([1.0, 1.0, 1.0, 0.0])  # of the penalty: the intercept has none


def logistic(w):
    h = np.sum(ROWS * w, 1)
    return np.mean(np.log1p(np.exp(-np.abs(h))) + np.maximum(h, 0) - CLASSES * h) + 0.005 * np.sum(SHARE * w * w)


def logistic_slope(w):
    error = 1 / (1 + np.exp(-np.sum(ROWS * w, 1))) - CLASSES
    return np.sum(ROWS.T * error, 1) / len(CLASSES) + 0.01 * SHARE * w


@functools.cache
def logistic_objective(dtype=np.float64):
    X, y = ROWS[:, :3].astype(dtype), CLASSES.astype(dtype)
    return LinearObjective(X, y, activation="sigmoid", loss="log", fit_intercept=True, l2=0.01)


@functools.cache
def lowest_loss():
    return gradient_descent(logistic_objective(), solver="preconditioned", tol=1e-14).fun


@functools.cache
def in_c(f, slope=False):
    """The function, or gradient, as a C callback."""
    numba = pytest.importorskip("numba")
    kinds = numba.types
    body, array = numba.njit(f), kinds.CPointer(kinds.double)
    if not slope:
        return numba.cfunc(kinds.double(kinds.intp, array, kinds.voidptr))(
            lambda n, x, data: body(numba.carray(x, n))
        )  # fmt: skip

    def fill(n, x, gradient, data):
        numba.carray(gradient, n)[:] = body(numba.carray(x, n))

    return numba.cfunc(kinds.void(kinds.intp, array, array, kinds.voidptr))(fill)


# ------------------------------------------------------------------------------------------------------------ the table

# name → (f, its gradient, start, how far above the minimum counts as there)
PROBLEMS = {
    "parabola": (parabola, parabola_slope, [-3.0, 4.0], 1e-8),
    "ellipsoid": (ellipsoid, ellipsoid_slope, [1.0, 1.0, 1.0], 1e-6),
    "Rosenbrock": (rosenbrock, rosenbrock_slope, [-1.2, 1.0], 1e-3),
    "Beale": (beale, beale_slope, [1.0, 1.0], 1e-5),
    "Rastrigin": (rastrigin, rastrigin_slope, [0.0, 0.0], 1e-6),
    "logistic": (logistic, logistic_slope, [0.0] * 4, 1e-7),
}
GRADIENTS = ("analytic", "numerical", "C callback", "C callback and gradient")
# From so many starts between these bounds, on a few steps each.
MANY, BOX, FEW_STEPS = 32, ([-2.3, -2.3], [2.1, 2.1]), 300
# The rates, problem by problem in that order; a rule that scatters at a constant rate has it fall along a cosine.
RATES = {
    "gd": (0.1, 0.01, 0.001, 0.03, 0.002, 1.0),
    "momentum": (0.1, 0.01, 0.001, 0.003, 5e-4, 0.3),
    "nesterov": (0.1, 0.01, 0.001, 0.003, 5e-4, 0.3),
    "adagrad": (1.0, 1.0, 1.0, 0.3, 0.1, 0.3),
    "adadelta": (1.0, 1.0, 1.0, 1.0, 1.0, 10.0),
    "rmsprop": (0.03, 0.01, 0.01, 0.01, 0.01, 0.01),
    "adam": (0.3, 0.1, 0.03, 0.1, 0.02, 0.01),
    "adamax": (0.3, 0.3, 0.3, 0.1, 0.02, 0.1),
    "nadam": (0.1, 0.1, 0.03, 0.03, 0.02, 0.01),
    "amsgrad": (0.3, 0.1, 0.1, 0.1, 0.02, 0.1),
    "adamw": (0.1, 0.1, 0.03, 0.1, 0.02, 0.1),
    "asgd": (0.8, 0.015, 0.001, 0.03, 0.002, 3.0),
} | {method: (method,) * 6 for method in METHODS}
FALLING = ("adadelta", "rmsprop")
# Where a rule gets less far in so many steps, and how far it does get.
SHORT = {
    ("gd", "Rosenbrock"): 0.05, ("asgd", "Rosenbrock"): 0.1,
    ("adamw", "Beale"): 1e-4, ("adamw", "logistic"): 1e-4,  # weight decay moves the minimum
}  # fmt: skip


def options_of(name, problem):
    lr, steps = RATES[name][list(PROBLEMS).index(problem)], FEW_STEPS if problem == "Rastrigin" else STEPS
    rule = "gd" if name in METHODS else optimizers.BY_NAME[name]()
    if name in FALLING:
        lr = schedules.cosine_decay(lr, steps)
    if name == "asgd":  # the mean of the last tenth
        rule = optimizers.ASGD(start=steps * 9 // 10)
    return {"lr": lr, "step_num": steps, "optimizer": rule}


def above_the_minimum(name, problem, dtype, gradient):
    """How far above the minimum a run ends."""
    f, slope, start, _ = PROBLEMS[problem]
    options, g, grad = options_of(name, problem), f, None
    if gradient == "analytic":
        grad = slope
    elif gradient.startswith("C"):
        g, grad = in_c(f), in_c(slope, True) if gradient.endswith("gradient") else None
    if problem == "Rastrigin":
        r = multi_start(g, tuple(np.array(BOX, dtype)), MANY, grad=grad, **options)
    elif problem == "logistic" and gradient == "analytic":
        r = gradient_descent(logistic_objective(dtype), np.array(start, dtype), **options)
        return logistic(r.x.astype(float)) - lowest_loss()
    else:
        r = gradient_descent(g, np.array(start, dtype), grad=grad, **options)
    assert r.fun == pytest.approx(f(r.x), rel=1e-12, abs=1e-15)
    return r.fun - (lowest_loss() if problem == "logistic" else 0.0)


@pytest.mark.parametrize("problem", PROBLEMS)
@pytest.mark.parametrize("name", RATES)
def test_convergence(name, problem):
    for dtype, gradient in [*itertools.product([np.float64], GRADIENTS), (np.float32, "analytic")]:
        gap = above_the_minimum(name, problem, dtype, gradient)
        assert -1e-12 <= gap <= SHORT.get((name, problem), PROBLEMS[problem][-1]), (dtype, gradient)


def test_every_optimizer_is_in_the_table():
    assert set(RATES) == {*optimizers.BY_NAME, *METHODS}


@pytest.mark.parametrize("problem", PROBLEMS)
def test_the_gradients_of_the_table(problem):
    from scipy.optimize import approx_fprime

    f, slope, start, _ = PROBLEMS[problem]
    for point in (np.array(start), np.array(start) + 0.3):
        np.testing.assert_allclose(slope(point), approx_fprime(point, f), rtol=1e-5, atol=1e-5)
    o = logistic_objective()
    assert o.value(np.full(4, 0.3)) == pytest.approx(logistic(np.full(4, 0.3)), rel=1e-14)


def main():
    columns = [(problem, np.float64, "analytic") for problem in PROBLEMS]
    columns += [("logistic", np.float32, "analytic")]
    columns += [("Rosenbrock", np.float64, gradient) for gradient in ("numerical", *GRADIENTS[2:])]
    heads = [f"{problem}, {np.dtype(dtype).name}, {gradient}" for problem, dtype, gradient in columns]
    print("| |", " | ".join(heads), "|\n| --- |" + " --- |" * len(columns))
    for name in RATES:
        gaps = [max(above_the_minimum(name, *column), 0.0) for column in columns]
        print(f"| `{name}` |", " | ".join("0" if gap < 1e-15 else f"{gap:.0e}" for gap in gaps), "|", flush=True)


if __name__ == "__main__":
    main()
