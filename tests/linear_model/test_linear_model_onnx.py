"""The ONNX graphs of the estimators give what the estimators give, as onnxruntime computes them."""

import sys

import numpy as np
import pytest
from sklearn.exceptions import NotFittedError

from fastgd import GDClassifier, GDRegressor

pytestmark = pytest.mark.one_build

CASES = {
    "one target": (GDRegressor, {}, lambda h: h[:, 0]),
    "several targets": (GDRegressor, {"alpha": 0.1, "penalty": "l2"}, lambda h: h),
    "counts": (GDRegressor, {"loss": "poisson"}, lambda h: np.floor(np.exp(0.5 * h[:, 0]))),
    "no intercept": (GDRegressor, {"fit_intercept": False}, lambda h: h[:, 0]),
    "two labels": (GDClassifier, {}, lambda h: np.where(h[:, 0] > 0, "yes", "no")),
    "softmax": (GDClassifier, {}, lambda h: h.argmax(axis=1) * 10),
    "one against the rest": (GDClassifier, {"multi_class": "ovr"}, lambda h: np.array([*"abc"])[h.argmax(axis=1)]),
    "hinge": (GDClassifier, {"loss": "hinge"}, lambda h: h[:, 1] > 0.1),
    "modified Huber": (GDClassifier, {"loss": "modified_huber"}, lambda h: h[:, 1] > 0.1),
    "modified Huber of three": (GDClassifier, {"loss": "modified_huber"}, lambda h: h.argmax(axis=1)),
    "cloglog": (GDClassifier, {"loss": "cloglog"}, lambda h: h[:, 1] > 0.1),
    "cloglog of three": (GDClassifier, {"loss": "cloglog"}, lambda h: h.argmax(axis=1)),
    "squared hinge": (GDClassifier, {"loss": "squared_hinge"}, lambda h: h.argmax(axis=1)),
}


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("name", CASES)
def test_the_graph_computes_the_model(name, dtype):
    runtime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    pytest.importorskip("onnx", reason="onnx is not installed")
    rng = np.random.default_rng(5)
    X = rng.normal(size=(200, 4)).astype(dtype)
    kind, options, target = CASES[name]
    model = kind(**options).fit(X, target(X @ rng.normal(size=(4, 3))))
    session = runtime.InferenceSession(model.to_onnx().SerializeToString(), providers=["CPUExecutionProvider"])
    found = dict(zip([output.name for output in session.get_outputs()], session.run(None, {"X": X}), strict=True))
    tolerance = {"rtol": 1e-12 if dtype == np.float64 else 1e-5, "atol": 1e-13 if dtype == np.float64 else 1e-5}
    if kind is GDRegressor:
        assert found["prediction"].dtype == dtype
        np.testing.assert_allclose(found["prediction"], model.predict(X), **tolerance)
        return
    np.testing.assert_allclose(found["scores"], model.decision_function(X), **tolerance)
    clear = np.abs(np.diff(np.sort(np.atleast_2d(model.decision_function(X).T).T, axis=1)[:, -2:])).ravel() > 1e-4
    clear = clear if clear.size else np.abs(model.decision_function(X)) > 1e-4
    assert clear.mean() > 0.9
    np.testing.assert_array_equal(found["label"][clear], model.predict(X)[clear])
    assert ("probabilities" in found) == hasattr(model, "predict_proba")
    if "probabilities" in found:
        np.testing.assert_allclose(found["probabilities"], model.predict_proba(X), **tolerance)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_rows_that_no_class_wants_still_have_probabilities(dtype):
    """p ∝ σ(h) of each class against the rest; far out e^h is all of σ(h), and it underflows."""
    runtime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    pytest.importorskip("onnx", reason="onnx is not installed")
    model = GDClassifier(multi_class="ovr").fit(np.eye(3, dtype=dtype).repeat(2, axis=0), [0, 0, 1, 1, 2, 2])
    model.coef_, model.intercept_ = np.eye(3, dtype=dtype), np.zeros(3, dtype)
    X = np.array([[-1001, -1000, -1002], [-1, -1, -1], [800, 0, -800]], dtype)
    e = np.exp([-1.0, 0.0, -2.0])
    expected = np.array([e / e.sum(), np.full(3, 1 / 3), [2 / 3, 1 / 3, 0]])
    np.testing.assert_allclose(model.predict_proba(X), expected, rtol=1e-5 if dtype == np.float32 else 1e-12)
    session = runtime.InferenceSession(model.to_onnx().SerializeToString(), providers=["CPUExecutionProvider"])
    found = session.run(["probabilities"], {"X": X})[0]
    np.testing.assert_allclose(found, expected, rtol=1e-5 if dtype == np.float32 else 1e-12, atol=1e-30)


@pytest.mark.parametrize("name", CASES)
def test_every_constant_is_used(name):
    """Runtimes print a warning for one that is not."""
    pytest.importorskip("onnx", reason="onnx is not installed")
    X = np.random.default_rng(5).normal(size=(40, 4))
    kind, options, target = CASES[name]
    graph = kind(**options).fit(X, target(X[:, :3])).to_onnx().graph
    used = {source for node in graph.node for source in node.input}
    assert {constant.name for constant in graph.initializer} <= used


def test_without_the_package_the_error_names_the_extra(monkeypatch):
    model = GDRegressor().fit([[1.0], [2.0], [3.0]], [1.0, 2.0, 2.5])
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(ImportError, match=r"fastgd\[onnx\]"):
        model.to_onnx()


def test_what_is_not_fitted_is_no_graph():
    with pytest.raises(NotFittedError):
        GDRegressor().to_onnx()
