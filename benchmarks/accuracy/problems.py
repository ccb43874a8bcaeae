"""Published test problems with exact gradients, at their start points and at others.

Three sets: the unconstrained CUTEst problems of at most 12 variables, as written in JAX by sif2jax (their gradients by
automatic differentiation in float64); the functions of argmin-testfunctions-py, with its hand-derived gradients; and
formulas in badly scaled variables, whose derivatives one can read off.

Published gradients are not taken on trust: see `trustworthy`.
"""

import dataclasses
import itertools
from collections.abc import Callable

import numpy as np

MOST_VARIABLES = 12
POINTS = ("start", "near 1", "near 2")

# An exact gradient counts as such if some five-point difference comes this close to it.
PLAUSIBLE = 1e-3


@dataclasses.dataclass(frozen=True)
class Problem:
    """f at x, where its gradient is `exact`."""

    name: str
    source: str
    point: str
    f: Callable
    x: np.ndarray
    exact: np.ndarray

    def __str__(self):
        return self.name if self.point == "start" else f"{self.name} ({self.point})"

    def error(self, gradient):
        """max |g − e| / max(1, |e|) over the coordinates; inf instead of NaN."""
        gradient = np.asarray(gradient, dtype=float).reshape(self.x.shape)
        error = float(np.max(np.abs(gradient - self.exact) / np.maximum(1.0, np.abs(self.exact))))
        return error if np.isfinite(error) else np.inf


def points(x, name):
    """The start point and two beside it, a tenth away in each coordinate; the same ones in every run."""
    yield POINTS[0], x
    rng = np.random.default_rng(list(name.encode()))
    for label in POINTS[1:]:
        yield label, x + 0.1 * np.where(x == 0, 1.0, x) * rng.standard_normal(x.shape)


def trustworthy(problem):
    """Whether what is given as exact may be so: f and the gradient are finite, and differences come near it.

    A five-point difference at one step or another, from a tenth of the variable to 1e-10 of it, must agree with each
    component to three digits. A wrong sign, factor or term does not; a problem that no difference can solve to six
    digits does.
    """
    if not (np.isfinite(problem.f(problem.x)) and np.all(np.isfinite(problem.exact))):
        return False
    closest = np.full(problem.x.shape, np.inf)
    scales = np.abs(problem.x), np.maximum(1.0, np.abs(problem.x))
    for i, scale, k in itertools.product(range(problem.x.size), scales, np.arange(1, 10.5, 0.5)):
        h = 10**-k * scale[i]
        if closest[i] > PLAUSIBLE and h > 0:
            values = []
            for shift in (-2, -1, 1, 2):
                at = problem.x.copy()
                at[i] += shift * h
                values.append(problem.f(at))
            slope = np.dot([1, -8, 8, -1], values) / (12 * h)
            error = abs(slope - problem.exact[i]) / max(1.0, abs(problem.exact[i]))
            closest[i] = np.fmin(closest[i], error)
    return bool(np.all(closest <= PLAUSIBLE))


def cutest(labels=POINTS):
    """Unconstrained CUTEst problems; the exact gradient is what reverse and forward differentiation agree on."""
    import jax

    jax.config.update("jax_enable_x64", True)
    import sif2jax

    for problem in sif2jax.unconstrained_minimisation_problems:
        if not isinstance(problem.y0, jax.Array) or problem.y0.size > MOST_VARIABLES:
            continue
        x = np.array(problem.y0, dtype=float)
        shape, x = x.shape, x.reshape(-1)

        def objective(y, problem=problem, shape=shape):
            return problem.objective(y.reshape(shape), problem.args)

        compiled = jax.jit(objective)
        reverse, forward = jax.jit(jax.grad(objective)), jax.jit(jax.jacfwd(objective))

        def f(y, compiled=compiled):
            return compiled(y).item()

        for label, at in points(x, problem.name):
            if label in labels:
                exact, also = np.array(reverse(at)), np.array(forward(at))
                agree = np.allclose(exact, also, rtol=1e-9, atol=1e-9)
                yield Problem(problem.name, "CUTEst", label, f, at, exact if agree else np.full(x.shape, np.nan))


# Where the functions of argmin are taken at, away from the kinks that some have.
ARGMIN_POINTS = {
    "ackley": [1.3, -0.7, 0.4],
    "beale": [1.1, 0.6],
    "booth": [0.4, -1.3],
    "bukin_n6": [-9.3, 1.7],
    "cross_in_tray": [1.2, 2.3],
    "easom": [2.6, 3.9],
    "eggholder": [312.0, 201.5],
    "goldsteinprice": [0.3, -0.4],
    "himmelblau": [1.4, -2.2],
    "holder_table": [4.3, 6.1],
    "levy": [0.7, -1.9, 2.4, 1.2],
    "levy_n13": [0.6, 1.9],
    "matyas": [1.7, -0.8],
    "mccormick": [0.9, -1.6],
    "picheny": [0.4, 0.7],
    "rastrigin": [0.8, -1.3, 2.2, 0.1],
    "rosenbrock": [-1.2, 1.0, 0.6, 1.4, 2.0],
    "schaffer_n2": [1.9, -3.2],
    "schaffer_n4": [2.1, 0.8],
    "sphere": [0.3, -2.0, 1e3, 1e-3],
    "styblinski_tang": [1.1, -2.4, 0.2],
    "threehumpcamel": [1.3, -0.6],
}


def argmin(labels=POINTS):
    """Functions of argmin, a Rust library of optimizers, with the gradients that it ships."""
    import argmin_testfunctions_py

    for name, start in ARGMIN_POINTS.items():
        function = getattr(argmin_testfunctions_py, name)
        derivative = getattr(argmin_testfunctions_py, f"{name}_derivative")

        def f(x, function=function):
            return float(function(x.tolist()))

        for label, x in points(np.array(start), name):
            if label in labels:
                yield Problem(name, "argmin", label, f, x, np.array(derivative(x.tolist())))


def sum_of(function):
    return lambda x: np.sum(function(x)).item()


# Name: f as a sum over the coordinates, its derivative, and where.
SCALED = {
    "log, small x": (np.log, lambda x: 1 / x, [1e-6, 3e-5, 2e-3]),
    "1/x, small x": (lambda x: 1 / x, lambda x: -1 / x**2, [1e-6, 3e-5, 2e-3]),
    "sqrt, small x": (np.sqrt, lambda x: 0.5 / np.sqrt(x), [1e-6, 3e-8, 2e-3]),
    "log, tiny x": (np.log, lambda x: 1 / x, [1e-12, 1e-10]),
    "x log x, from 1e-6 to 1e6": (lambda x: x * np.log(x), lambda x: np.log(x) + 1, [1e-6, 1.0, 1e6]),
    "exp 1e6 x": (lambda x: np.exp(1e6 * x), lambda x: 1e6 * np.exp(1e6 * x), [1e-6, 2e-7]),
    "sin 1e5 x": (lambda x: np.sin(1e5 * x), lambda x: 1e5 * np.cos(1e5 * x), [1e-5, 3.0, -7e-5]),
    "cos 1000 x, large x": (lambda x: np.cos(1000 * x), lambda x: -1000 * np.sin(1000 * x), [30.0, 8.0]),
    "sin, x ~ 1e6": (np.sin, np.cos, [1e6, 1.2e6]),
    "x², x ~ 1e8": (np.square, lambda x: 2 * x, [1e8, -3e8]),
    "log, x ~ 1e8": (np.log, lambda x: 1 / x, [1e8, 3e8]),
    "(x − 1e8)²": (lambda x: (x - 1e8) ** 2, lambda x: 2 * (x - 1e8), [1e8 + 3, 1e8 - 2]),
    "(1e-8 x)⁴": (lambda x: (1e-8 * x) ** 4, lambda x: 4e-8 * (1e-8 * x) ** 3, [1e8, 3e8]),
    "1e-3 (x / 1e-4)²": (lambda x: 1e-3 * (x / 1e-4) ** 2, lambda x: 2e5 * x, [3e-4, 0.0]),
    "x² + 1e6": (lambda x: x**2 + 1e6, lambda x: 2 * x, [3.0, -1.0]),
    "tanh 1e4 x": (lambda x: np.tanh(1e4 * x), lambda x: 1e4 / np.cosh(1e4 * x) ** 2, [1e-5, 5e-5]),
    "x³, x = 0": (lambda x: x**3, lambda x: 3 * x**2, [0.0, 0.0]),
    "1/(1 + x²), x ~ 1e3": (lambda x: 1 / (1 + x**2), lambda x: -2 * x / (1 + x**2) ** 2, [1e3, -2e3]),
}


def scaled(labels=POINTS):
    """Formulas in variables far from 1, or with features far smaller than 1."""
    if "start" in labels:
        for name, (function, derivative, x) in SCALED.items():
            x = np.array(x)
            yield Problem(name, "scaled", "start", sum_of(function), x, derivative(x))


SETS = {"CUTEst": cutest, "argmin": argmin, "scaled": scaled}


def load(sets=tuple(SETS), labels=POINTS):
    """Problems of these sets at these points, and the names of those that were left out as untrustworthy."""
    taken, left_out = [], []
    with np.errstate(all="ignore"):
        for name in sets:
            for problem in SETS[name](labels):
                (taken if trustworthy(problem) else left_out).append(problem)
    return taken, left_out
