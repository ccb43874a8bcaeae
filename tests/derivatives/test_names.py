"""Parameters with names: f gets them as they are, and derivatives come back with them."""

import numpy as np
import pytest

from fastgd import check_gradient, hessian_vector_product, numerical_gradient, numerical_hessian, numerical_jacobian

pytestmark = pytest.mark.one_build

PARAMETERS = {"a": 1.5, "w": np.array([[1.0, 2.0], [3.0, 4.0]])}


def f(p):
    assert list(p) == ["a", "w"] and p["w"].shape == (2, 2)
    return float(p["a"] ** 2 * np.sum(p["w"] ** 2))


def slopes(p):
    return {"a": 2 * p["a"] * np.sum(p["w"] ** 2), "w": 2 * p["a"] ** 2 * p["w"]}


def test_a_dict_of_arrays():
    exact = slopes(PARAMETERS)
    for options in ({}, {"scheme": "forward"}, {"bounds": (0.0, None)}, {"bounds": (PARAMETERS, np.inf)}):
        found = numerical_gradient(f, PARAMETERS, full_output=True, **options)
        for key in PARAMETERS:
            np.testing.assert_allclose(found.gradient[key], exact[key], rtol=1e-5)
            assert np.all(np.abs(found.gradient[key] - exact[key]) <= found.error[key])
        assert numerical_gradient(f, PARAMETERS, **options)["w"].shape == (2, 2)
    assert numerical_hessian(f, PARAMETERS).shape == (5, 5)
    jacobian = numerical_jacobian(lambda p: [p["a"], p["w"].sum()], PARAMETERS)
    assert jacobian["a"].shape == (2,) and jacobian["w"].shape == (2, 2, 2)
    v = {"a": 1.0, "w": np.zeros((2, 2))}
    np.testing.assert_allclose(hessian_vector_product(slopes, PARAMETERS, v)["w"], 4 * 1.5 * PARAMETERS["w"], rtol=1e-6)
    assert check_gradient(f, slopes, PARAMETERS).ok
    assert check_gradient(lambda p: (f(p), slopes(p)), True, PARAMETERS).ok


def test_a_series():
    pandas = pytest.importorskip("pandas")
    x = pandas.Series([1.0, 2.0], index=["u", "v"])
    gradient = numerical_gradient(lambda p: float(p["u"] ** 2 * p.v), x)
    pandas.testing.assert_series_equal(gradient, pandas.Series([4.0, 1.0], index=["u", "v"]))
    jacobian = numerical_jacobian(lambda p: [p.u * p.v, p.u], x)
    assert jacobian.columns.tolist() == ["u", "v"]
    np.testing.assert_allclose(jacobian.to_numpy(), [[2, 1], [1, 0]], atol=1e-8)


def test_names_that_do_not_fit():
    with pytest.raises(ValueError, match="v must have the names of x"):
        hessian_vector_product(slopes, PARAMETERS, {"w": np.zeros((2, 2)), "c": 1.0})
    with pytest.raises(ValueError, match=r"v\['w'\] must have shape"):
        hessian_vector_product(slopes, PARAMETERS, {"w": np.zeros(3), "a": 1.0})
    with pytest.raises(ValueError, match="vectorized=True gives f points as rows"):
        numerical_gradient(f, PARAMETERS, vectorized=True)
    with pytest.raises(TypeError, match=r"x\['b'\] must hold real numbers"):
        numerical_gradient(f, {"b": "one"})
