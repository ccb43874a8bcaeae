"""Numerical gradient by central differences: of Python functions, of vectorized ones, of C functions."""

import ctypes
import importlib
import shutil
import subprocess
import sysconfig

import numpy as np
import pytest
from scipy import LowLevelCallable
from scipy.optimize import approx_fprime
from scipy.optimize._numdiff import approx_derivative
from workload import textbook_gradient

import fastgd
from fastgd import kernels, validation

SECTION = "Numerical gradient of a function"
FUNCTIONS = {"x @ x": lambda x: x @ x, "np.sum(x**2)": lambda x: np.sum(x**2)}
PEERS = ("numdifftools", "optimagic")
WHO = (
    "ours", "2d calls of f", "reference", "textbook loop", "scipy 3-point", "scipy approx_fprime (d + 1 calls)", *PEERS,
)  # fmt: skip


def peer(name, f, x):
    """The peer's central difference, if it is installed."""
    if name == "numdifftools":
        gradient = importlib.import_module(name).Gradient(f, order=2, num_steps=1)
        return lambda: gradient(x)
    first_derivative = importlib.import_module(name).first_derivative
    return lambda: first_derivative(f, x, method="central").derivative


@pytest.mark.parametrize("who", WHO)
@pytest.mark.parametrize("d", [2, 10, 100])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_numerical_gradient(compare, name, d, who):
    f = FUNCTIONS[name]
    x = np.linspace(-1.0, 2.0, d)
    if who in PEERS:
        pytest.importorskip(who)

    def reference():
        values, gradient = np.empty((d, 2)), np.empty(d)
        as_number = validation.any_number
        kernels.load("reference").central_differences(
            f, x, np.empty(0), x.shape, (), as_number, values, np.empty(3), gradient
        )
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
    members = {
        "ours": lambda: fastgd.numerical_gradient(f, x),
        "reference": reference,
        "textbook loop": lambda: textbook_gradient(f, x),
        "scipy 3-point": lambda: approx_derivative(f, x, method="3-point"),
        "scipy approx_fprime (d + 1 calls)": lambda: approx_fprime(x, f),
    }
    if who in PEERS:
        members[who] = peer(who, f, x)
    compare(
        SECTION, f"f = {name}", who, members, 2 * x,
        floors={"2d calls of f": (bare_calls, float(np.dot(x, x)))}, shape=(d,), target=target,
        tolerance=1e-5,  # forward differences are that coarse
    )  # fmt: skip


@pytest.mark.parametrize("who", ["ours", "one call a point"])
@pytest.mark.parametrize("d, target", [(100, 15.0), (1000, 4.0)])
def test_vectorized(compare, d, target, who):
    x = np.linspace(-1.0, 2.0, d)
    members = {
        "ours": lambda: fastgd.numerical_gradient(lambda points: np.sum(points**2, axis=1), x, vectorized=True),
        "one call a point": lambda: fastgd.numerical_gradient(lambda point: np.sum(point**2), x),
    }
    compare(
        SECTION, "vectorized, f = np.sum(x**2)", who, members, 2 * x, shape=(d,), tolerance=1e-5,
        target={"one call a point": target},
    )  # fmt: skip


SOURCE = """
double rosenbrock(long n, const double *x, void *user_data) {
    double total = 0;
    for (long i = 0; i < n - 1; i++) {
        double a = x[i + 1] - x[i] * x[i], b = 1 - x[i];
        total += 100 * a * a + b * b;
    }
    return total;
}
double squares(long n, const double *x, void *user_data) {
    double total = 0;
    for (long i = 0; i < n; i++) total += x[i] * x[i];
    return total;
}
void rosenbrock_gradient(long n, const double *x, double *gradient, void *user_data) {
    for (long i = 0; i < n; i++) gradient[i] = 0;
    for (long i = 0; i < n - 1; i++) {
        double a = x[i + 1] - x[i] * x[i];
        gradient[i] -= 400 * a * x[i] + 2 * (1 - x[i]);
        gradient[i + 1] += 200 * a;
    }
}
"""


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    """C functions, compiled here."""
    compiler = shutil.which((sysconfig.get_config_var("CC") or "cc").split()[0])
    if compiler is None:
        pytest.skip("there is no C compiler")
    folder = tmp_path_factory.mktemp("c")
    (folder / "f.c").write_text(SOURCE)
    subprocess.run([compiler, "-O3", "-shared", "-fPIC", "-o", folder / "f.so", folder / "f.c"], check=True)
    return ctypes.CDLL(str(folder / "f.so"))


def rosenbrock(x):
    return float(np.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2))


def rosenbrock_gradient(x):
    gradient = np.zeros_like(x)
    inner = x[1:] - x[:-1] ** 2
    gradient[:-1] = -400 * x[:-1] * inner - 2 * (1 - x[:-1])
    gradient[1:] += 200 * inner
    return gradient


def low_level(function, arrays=1):
    function.restype = ctypes.c_double if arrays == 1 else None
    function.argtypes = [ctypes.c_long, *[ctypes.POINTER(ctypes.c_double)] * arrays, ctypes.c_void_p]
    return LowLevelCallable(function)


COMPILED = {"rosenbrock": (rosenbrock, rosenbrock_gradient), "squares": (FUNCTIONS["np.sum(x**2)"], lambda x: 2 * x)}


@pytest.mark.parametrize("who", ["ours", "the same f in Python"])
@pytest.mark.parametrize("name", COMPILED)
def test_c_function(compare, library, name, who):
    python, gradient = COMPILED[name]
    compiled = low_level(getattr(library, name))
    x = np.linspace(-1.0, 2.0, 100)
    members = {
        "ours": lambda: fastgd.numerical_gradient(compiled, x),
        "the same f in Python": lambda: fastgd.numerical_gradient(python, x),
    }
    compare(
        SECTION, f"C function, {name}", who, members, gradient(x), shape=(100,), tolerance=1e-5,
        target={"the same f in Python": 40.0},
    )  # fmt: skip


@pytest.mark.parametrize("who", ["ours", "the same functions in Python", "NumPy loop"])
@pytest.mark.parametrize("d", [2, 100])
def test_descent_in_c(compare, library, d, who):
    """10,000 steps on Rosenbrock's function, value and gradient in C."""
    steps, lr, x = 10_000, 5e-4, np.resize([-1.2, 1.0], d)
    f, grad = low_level(library.rosenbrock), low_level(library.rosenbrock_gradient, arrays=2)

    def loop():
        w = x.copy()
        for _ in range(steps):
            w -= lr * rosenbrock_gradient(w)
        return w

    members = {
        "ours": lambda: fastgd.gradient_descent(f, x, lr, steps, grad=grad).x,
        "the same functions in Python": lambda: (
            fastgd.gradient_descent(rosenbrock, x, lr, steps, grad=rosenbrock_gradient).x
        ),
        "NumPy loop": loop,
    }
    compare(SECTION, "10,000 steps on C functions, rosenbrock", who, members, loop(), shape=(d,), tolerance=1e-9)
