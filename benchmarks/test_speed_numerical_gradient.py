"""Numerical gradient of a Python callable, by central differences."""

import numpy as np
import pytest
from scipy.optimize import approx_fprime
from scipy.optimize._numdiff import approx_derivative
from workload import textbook_gradient

import fastgd
from fastgd import kernels, numdiff, validation

FUNCTIONS = {"x @ x": lambda x: x @ x, "np.sum(x**2)": lambda x: np.sum(x**2)}
WHO = ("ours", "2d calls of f", "reference", "textbook loop", "scipy 3-point", "scipy approx_fprime (d + 1 calls)")


@pytest.mark.parametrize("who", WHO)
@pytest.mark.parametrize("d", [2, 10, 100])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_numerical_gradient(compare, name, d, who):
    f = FUNCTIONS[name]
    x = np.linspace(-1.0, 2.0, d)

    def reference():
        gradient = np.empty(d)
        steps = numdiff.steps(x, None, "central")
        kernels.load("reference").central_differences(f, x, steps, x.shape, (), validation.finite_number, gradient)
        return gradient

    def bare_calls():
        for _ in range(2 * d):
            value = f(x)
        return value

    target = {}
    if d >= 10:
        target["2d calls of f"] = 1 / 1.08
    if d == 10:
        target["scipy 3-point"] = {"x @ x": 8.0, "np.sum(x**2)": 3.0}[name]
    compare(
        "Numerical gradient of a Python function", f"f = {name}", who,
        {
            "ours": lambda: fastgd.numerical_gradient(f, x),
            "reference": reference,
            "textbook loop": lambda: textbook_gradient(f, x),
            "scipy 3-point": lambda: approx_derivative(f, x, method="3-point"),
            "scipy approx_fprime (d + 1 calls)": lambda: approx_fprime(x, f),
        },
        2 * x,
        floors={"2d calls of f": (bare_calls, float(np.dot(x, x)))},
        shape=(d,), target=target,
        tolerance=1e-5,  # forward differences are that coarse
    )  # fmt: skip
