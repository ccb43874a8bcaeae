"""What f, its gradient, a schedule and a callback may take and return: pairs, any real number, named parameters."""

import fractions

import numba
import numpy as np
import pandas as pd
import pytest
from numba import types

from fastgd import DivergenceError, Status, gradient_descent, multi_start

pytestmark = pytest.mark.one_build
POINT = types.CPointer(types.float64)


class Scalar:
    """A number of another library: a float by `__float__`, and nothing else."""

    def __init__(self, value):
        self.value = value

    def __float__(self):
        return float(self.value)


class Tensor(Scalar):
    """One that refuses to become an array."""

    def __array__(self, dtype=None, copy=None):
        raise RuntimeError("Can't call numpy() on a tensor that requires grad")


FORMS = [float, np.float32, np.float64, np.array, lambda v: np.array([v]), Scalar, Tensor, fractions.Fraction]


def bowl(x):
    return float(x @ x)


@pytest.mark.parametrize("form", FORMS)
def test_f_and_a_schedule_may_return_any_real_number(form):
    found = gradient_descent(lambda x: form(bowl(x)), [3.0, -4.0], lr=lambda step: form(0.25), step_num=6)
    assert type(found.fun) is float
    np.testing.assert_allclose(found.x, 0.5**6 * np.array([3.0, -4.0]), rtol=1e-2)
    together = multi_start(
        lambda X: np.sum(X * X, axis=1), ([1.0], [2.0]), 2, lr=lambda step: form(0.25), step_num=3, vectorized=True
    )
    assert together.nit == 3


@pytest.mark.parametrize("returned", [None, "1", 1j, np.complex128(1), True, np.array([1.0, 2.0]), [1.0]])
def test_anything_else_is_refused(returned):
    with pytest.raises((TypeError, ValueError), match="must return one real number"):
        gradient_descent(lambda x: returned, [1.0])
    with pytest.raises((TypeError, ValueError), match=r"lr\(0\)"):
        gradient_descent(bowl, [1.0], lr=lambda step: returned)


@pytest.mark.parametrize("returned", [True, np.True_])
@pytest.mark.parametrize("lr", [0.1, "auto"])
def test_a_callback_that_returns_true_ends_the_run(returned, lr):
    result = gradient_descent(
        lambda x: float(np.sum(np.cosh(x))), [3.0, 1.0], lr=lr, callback=lambda r: returned if r.nit == 3 else None
    )
    assert result.status == Status.STOPPED_BY_CALLBACK and result.nit == 3 and result.success


@pytest.mark.parametrize("returned", [None, False, 1, "yes", np.ones(1, bool)])
def test_no_other_value_of_a_callback_does(returned):
    assert gradient_descent(bowl, [3.0], lr=0.1, step_num=5, callback=lambda r: returned).nit == 5


# ------------------------------------------------------------------------------------------- value and gradient at once


def cosh(x):
    return float(np.sum(np.cosh(x))), np.sinh(x)


@numba.cfunc(types.float64(types.intp, POINT, POINT, types.voidptr))
def c_cosh(n, x, gradient, data):
    total = 0.0
    for i in range(n):
        total += np.cosh(x[i])
        gradient[i] = np.sinh(x[i])
    return total


@pytest.mark.parametrize("options", [
    {"lr": 0.1}, {"lr": "auto"}, {"lr": "armijo"}, {"lr": "adgd"}, {"lr": 0.05, "optimizer": "adam"},
    {"lr": 0.1, "bounds": (-0.5, [2.0, 0.2, 3.0])}, {"lr": "auto", "l1": 0.3}, {"lr": 0.1, "history": True},
    {"lr": 0.1, "f_tol": 1e-9}, {"lr": 0.1, "keep": "best"},
])  # fmt: skip
def test_value_and_gradient_in_one_call_are_those_of_two(options):
    start, calls = [1.0, -2.0, 0.5], []

    def both(x):
        calls.append(0)
        return cosh(x)

    found = gradient_descent(both, start, grad=True, step_num=60, **options)
    apart = gradient_descent(lambda x: cosh(x)[0], start, grad=lambda x: cosh(x)[1], step_num=60, **options)
    np.testing.assert_array_equal(found.x, apart.x)
    assert (found.fun, found.nit, found.status) == (apart.fun, apart.nit, apart.status)
    np.testing.assert_array_equal(found.jac, apart.jac)
    assert found.nfev == len(calls) >= found.njev >= found.nit + 1
    in_c = gradient_descent(c_cosh, start, grad=True, step_num=60, **options)
    np.testing.assert_allclose(in_c.x, found.x, rtol=1e-7, atol=1e-7)
    if not isinstance(options["lr"], str):  # a search is at its rounding error in the end
        assert (in_c.nit, in_c.nfev, in_c.njev) == (found.nit, found.nfev, found.njev)


def test_a_pair_is_wanted_with_grad_true_and_only_then():
    with pytest.raises(TypeError, match=r"with grad=True f must return a pair \(value, gradient\)"):
        gradient_descent(bowl, [1.0], grad=True)
    with pytest.raises(ValueError, match="the gradient that f returned must be of the shape of x"):
        gradient_descent(lambda x: (1.0, np.zeros(3)), [1.0], grad=True)
    with pytest.raises(TypeError, match="C signature double"):
        gradient_descent(c_cosh, [1.0])


# ----------------------------------------------------------------------------------------------------- named parameters


def layered(p):
    """A function of two named arrays and a number; its gradient has the same names."""
    assert list(p) == ["w", "b", "c"] and p["w"].shape == (2, 3) and isinstance(p["c"], float)
    return float(np.sum((p["w"] - 1) ** 2) + np.sum((p["b"] - p["c"]) ** 2) + (p["c"] - 2) ** 2)


def layered_gradient(p):
    apart = 2 * (p["b"] - p["c"])
    return {"c": 2 * (p["c"] - 2) - apart.sum(), "b": apart, "w": 2 * (p["w"] - 1)}


START = {"w": np.zeros((2, 3)), "b": [0, 1], "c": 0}


@pytest.mark.parametrize("lr", [0.05, "auto", "armijo"])
@pytest.mark.parametrize("given", ["numerical", "grad", "both"])
def test_a_dict_goes_to_f_and_comes_back(lr, given):
    grad = {"numerical": None, "grad": layered_gradient, "both": True}[given]
    f = (lambda p: (layered(p), layered_gradient(p))) if given == "both" else layered
    seen = []
    result = gradient_descent(f, START, lr=lr, grad=grad, step_num=800, tol=1e-6, history=True,
                              callback=lambda r: seen.append(r.x["w"].shape) or r.jac["c"] is None)  # fmt: skip
    assert result.success and set(seen) == {(2, 3)}
    np.testing.assert_allclose(result.x["w"], 1, atol=1e-6)
    np.testing.assert_allclose([*result.x["b"], result.x["c"]], 2, atol=1e-5)
    assert result.jac["w"].shape == (2, 3) and isinstance(result.jac["c"], float)
    rows = result.nit + 1
    assert result.history.x["w"].shape == (rows, 2, 3) and result.history.x["c"].shape == (rows,)
    np.testing.assert_array_equal(result.history.x["b"][0], [0, 1])
    flat = gradient_descent(lambda x: layered({"w": x[:6].reshape(2, 3), "b": x[6:8], "c": float(x[8])}),
                            np.r_[np.zeros(6), 0, 1, 0], lr=0.05, step_num=7)  # fmt: skip
    named = gradient_descent(layered, START, lr=0.05, step_num=7)
    np.testing.assert_array_equal(np.r_[named.x["w"].ravel(), named.x["b"], named.x["c"]], flat.x)


def test_bounds_of_names_and_a_checkpoint(tmp_path):
    bounds = ({"w": 0.0, "b": [0.0, 0.5]}, {"w": np.full((2, 3), 0.25)})
    result = gradient_descent(layered, START, lr=0.05, step_num=300, bounds=bounds)
    np.testing.assert_array_equal(result.x["w"], 0.25)
    path = tmp_path / "run"
    gradient_descent(layered, START, lr=0.05, step_num=5, checkpoint=path)
    resumed = gradient_descent(layered, START, lr=0.05, step_num=9, checkpoint=path, resume=True)
    again = gradient_descent(layered, START, lr=0.05, step_num=9)
    assert resumed.x["c"] == again.x["c"] and resumed.nit == 9


def test_a_series_goes_to_f_and_comes_back():
    start = pd.Series({"mu": 0, "sigma": 1}, name="model")

    def f(s):
        assert list(s.index) == ["mu", "sigma"] and s.name == "model"
        return (s["mu"] - 1) ** 2 + (s.sigma - 3) ** 2

    bounds = (pd.Series({"sigma": 0.5}), pd.Series({"sigma": 2.0, "mu": 10.0}))
    result = gradient_descent(f, start, lr="auto", tol=1e-6, history=True, bounds=bounds)
    assert isinstance(result.x, pd.Series) and list(result.jac.index) == ["mu", "sigma"]
    np.testing.assert_allclose(result.x.to_numpy(), [1, 2], atol=1e-6)
    assert list(result.history.x.columns) == ["mu", "sigma"] and len(result.history.x) == result.nit + 1
    with pytest.raises(DivergenceError) as caught:
        gradient_descent(lambda s: s["mu"] ** 2, start + 1, lr=3.0)
    assert isinstance(caught.value.result.x, pd.Series)
    assert list(start) == [0, 1]


@pytest.mark.parametrize(("start", "options", "error", "message"), [
    ({}, {}, ValueError, "init_x must have at least one entry"),
    ({"w": "text"}, {}, TypeError, r"init_x\['w'\] must hold real numbers"),
    (START, {"bounds": ({"v": 0.0}, None)}, ValueError, "must have the names of x"),
    (START, {"bounds": ({"b": [0.0] * 3}, None)}, ValueError, r"bounds \(lower\)\['b'\] must have shape"),
    (START, {"bounds": [(0, 1)] * 9}, TypeError, "bounds must be a pair"),
    (START, {"grad": lambda p: {"w": p["w"]}}, ValueError, "what grad returned must have the names of x"),
    (START, {"grad": lambda p: 1.0}, TypeError, "what grad returned must be a dict"),
    (pd.Series([1.0, 2.0], index=["a", "a"]), {}, ValueError, "the names of a Series must differ"),
])  # fmt: skip
def test_names_that_do_not_fit(start, options, error, message):
    with pytest.raises(error, match=message):
        gradient_descent(layered, start, **options)
