"""Estimators in files: what comes back is what was written, and what is no such file is a clear error."""

import json
import pickle
import zipfile

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from sklearn.exceptions import NotFittedError

from fastgd import DivergenceWarning, GDClassifier, GDRegressor

pytestmark = pytest.mark.one_build
SUFFIXES = (".json", ".npz")


def data(dtype=np.float64):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(50, 3)).astype(dtype) / 3
    return X, X @ np.array([1, 2, -1], dtype) + 1


def cases():
    X, y = data()
    narrow = data(np.float32)[0]
    words = np.array(["a", "b – ü", "c"])[np.digitize(y, [0, 1.5])]
    return {
        "regressor": GDRegressor(alpha=0.1, penalty="elasticnet").fit(X, y),
        "several targets": GDRegressor().fit(X, np.column_stack([y, -y])),
        "poisson": GDRegressor("poisson", penalty="l2").fit(X, np.exp(y)),
        "single precision": GDRegressor("huber", penalty="l2").fit(narrow, y),
        "two numbers": GDClassifier().fit(X, (y > 1) * 3 - 5),
        "three words": GDClassifier().fit(X, words),
        "objects": GDClassifier().fit(X, words.astype(object)),
        "booleans": GDClassifier("hinge", alpha=0.1).fit(X, y > 1),
        "one against the rest": GDClassifier(multi_class="ovr").fit(X, words),
        "early stopping": GDClassifier(early_stopping=True, random_state=0, validation_fraction=0.3).fit(X, y > 1),
        "no intercept": GDRegressor(fit_intercept=False, penalty="l2").fit(X, y),
        "stream": GDClassifier(learning_rate=0.1).partial_fit(X, words, classes=["a", "b – ü", "c"]),
        "numpy parameters": GDRegressor(penalty="l2", alpha=np.float32(0.1), max_iter=np.int64(7)).fit(X, y),
    }


CASES = cases()


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("name", CASES)
def test_what_comes_back_predicts_the_same_to_the_bit(name, suffix, tmp_path):
    model, (X, _) = CASES[name], data()
    X = X.astype(model.coef_.dtype)
    model.save(tmp_path / f"model{suffix}")
    found = type(model).load(tmp_path / f"model{suffix}")
    for attribute in ("coef_", "intercept_"):
        one, other = getattr(found, attribute), getattr(model, attribute)
        assert_array_equal(one, other)
        assert one.dtype == other.dtype
    assert_array_equal(found.predict(X), model.predict(X))
    if hasattr(model, "predict_proba"):
        assert_array_equal(found.predict_proba(X), model.predict_proba(X))
    if hasattr(model, "classes_"):
        assert_array_equal(found.classes_, model.classes_)
    assert found.get_params() == pytest.approx(model.get_params())
    assert found.n_iter_ == model.n_iter_ and found.n_features_in_ == 3
    assert set(found.history_) == set(getattr(model, "history_", {}))
    for key, values in found.history_.items():
        assert_array_equal(values, model.history_[key])


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_loaded_model_goes_on(suffix, tmp_path):
    X, y = data()
    model = GDRegressor(learning_rate=0.01).partial_fit(X, y)
    model.save(tmp_path / f"m{suffix}")
    found = GDRegressor.load(tmp_path / f"m{suffix}")
    assert_array_equal(found.partial_fit(X, y).coef_, model.partial_fit(X, y).coef_)
    labels = CASES["three words"]
    labels.save(tmp_path / f"l{suffix}")
    again = GDClassifier.load(tmp_path / f"l{suffix}").set_params(warm_start=True, solver="accelerated")
    assert again.fit(X, labels.predict(X)).score(X, labels.predict(X)) > 0.9


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_feature_names_are_kept(suffix, tmp_path):
    pandas = pytest.importorskip("pandas", reason="pandas is not needed and not installed")
    X, y = data()
    frame = pandas.DataFrame(X, columns=["one", "two", "drei"])
    GDRegressor().fit(frame, y).save(tmp_path / f"m{suffix}")
    found = GDRegressor.load(tmp_path / f"m{suffix}")
    assert_array_equal(found.feature_names_in_, ["one", "two", "drei"])
    with pytest.raises(ValueError, match="feature names"):
        found.predict(frame[["drei", "one", "two"]])


@pytest.mark.parametrize(
    "settings",
    [
        {"bounds": (0.0, np.full(2, 1.5))}, {"penalty": "l2", "alpha": 0.1, "penalty_weights": np.array([1.0, 2.0])},
        {"penalty": "group", "groups": [[0], [1]]}, {"penalty": "group", "groups": np.array(["a", "a"])},
    ],
)  # fmt: skip
def test_parameters_that_are_arrays_are_kept(settings, tmp_path):
    X, y = data()
    model = GDRegressor(**settings).fit(X[:, :2], y)
    model.save(tmp_path / "m.json")
    assert_array_equal(GDRegressor.load(tmp_path / "m.json").fit(X[:, :2], y).coef_, model.coef_)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_functions_are_left_out_and_named(suffix, tmp_path):
    X, y = data()
    model = GDClassifier(callbacks=[lambda state: None], class_weight={0: 1.0, 1: 2.0}).fit(X, y > 1)
    model.save(tmp_path / f"m{suffix}")
    with pytest.warns(UserWarning, match="callbacks, class_weight could not be saved and have their defaults"):
        found = GDClassifier.load(tmp_path / f"m{suffix}")
    assert_array_equal(found.predict(X), model.predict(X))


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_history_that_overflowed_is_written(suffix, tmp_path):
    X, y = data()
    for solver, rate in (("sgd", 1e200), ("gd", 1e3)):
        with pytest.warns(DivergenceWarning, match="diverged"):
            model = GDRegressor(solver=solver, learning_rate=rate).fit(X, y)
        model.history_["loss"][-1], model.history_["grad_norm"][-1] = np.nan, np.inf
        model.save(tmp_path / f"m{suffix}")
        found = GDRegressor.load(tmp_path / f"m{suffix}")
        for name, values in model.history_.items():
            assert_array_equal(found.history_[name], values)


def write_json(path, change, case="regressor"):
    CASES[case].save(path)
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


@pytest.mark.parametrize("change", [
    lambda c: c.pop("format"), lambda c: c.update(format="another"), lambda c: c.pop("arrays"),
    lambda c: c["arrays"].pop("coef_"), lambda c: c["arrays"]["coef_"].update(values=[1.0]),
    lambda c: c["arrays"]["coef_"].update(values=[1.0, "x", 2.0]), lambda c: c["arrays"]["coef_"].pop("dtype"),
    lambda c: c["arrays"]["coef_"].update(values=[1.0, None, 2.0]), lambda c: c.update(arrays=3),
    lambda c: c["arrays"]["coef_"].update(dtype="fraction"), lambda c: c["arrays"].pop("intercept_"),
    lambda c: c.update(parameters=5), lambda c: c["parameters"].update(speed=1), lambda c: c.pop("n_iter_"),
    lambda c: c.update(format_version="one"), lambda c: c.update(n_features_in_=7), lambda c: c.pop("class"),
    lambda c: c.update(n_features_in_=1e400), lambda c: c.update(left_out=-1), lambda c: c.update(left_out=[[]]),
    lambda c: c["arrays"]["coef_"].update(dtype="c16"), lambda c: c["arrays"]["coef_"].update(dtype="<i8"),
    lambda c: c["arrays"]["coef_"].update(values=[[[1.0, 2.0, 3.0]]]),
    lambda c: c["arrays"]["coef_"].update(values=10**30),
    lambda c: c["arrays"].update(feature_names_in_={"dtype": "<U1", "values": ["a"]}),
    lambda c: c.update(encoding={}), lambda c: c.update(encoding=3), lambda c: c.update(activation="cube"),
])  # fmt: skip
def test_damaged_json(change, tmp_path):
    path = tmp_path / "m.json"
    write_json(path, change)
    with pytest.raises(ValueError, match=r"m\.json (is not a fastgd model|is damaged)"):
        GDRegressor.load(path)


@pytest.mark.parametrize("change", [
    lambda c: c.pop("classes_"), lambda c: c["classes_"].update(values=["a", "b"]),
    lambda c: c["classes_"].update(values=["a", "a", "b"]), lambda c: c["classes_"].update(values="a"),
    lambda c: c["classes_"].update(values=[]), lambda c: c["coef_"].update(values=[1.0, 2.0, 3.0]),
])  # fmt: skip
def test_damaged_classes(change, tmp_path):
    path = tmp_path / "m.json"
    write_json(path, lambda content: change(content["arrays"]), "three words")
    with pytest.raises(ValueError, match=r"m\.json is damaged"):
        GDClassifier.load(path)


def test_no_byte_that_flips_raises_anything_else(tmp_path):
    """An archive may then be encrypted, of a later version, or of an unknown compression, to its reader."""
    rng = np.random.default_rng(0)
    for suffix in SUFFIXES:
        CASES["regressor"].save(tmp_path / f"m{suffix}")
        whole = (tmp_path / f"m{suffix}").read_bytes()
        for place in rng.choice(len(whole), 150, replace=False):
            broken = bytearray(whole)
            broken[place] ^= 1 << rng.integers(8)
            (tmp_path / f"m{suffix}").write_bytes(broken)
            try:
                found = GDRegressor.load(tmp_path / f"m{suffix}")
            except ValueError as error:
                assert f"m{suffix}" in str(error)
            else:
                assert np.all(np.isfinite(found.predict(data()[0])))


def test_files_of_others_and_broken_ones(tmp_path):
    CASES["regressor"].save(tmp_path / "m.npz")
    whole = (tmp_path / "m.npz").read_bytes()
    contents = {
        "empty": b"", "half": whole[: len(whole) // 2], "noise": bytes(range(256)),
        "flipped": whole.replace(b"<f8", b"<f9"), "pickle": pickle.dumps({"format": "fastgd estimator"}),
    }  # fmt: skip
    for name, content in contents.items():
        for suffix in SUFFIXES:
            path = tmp_path / f"{name}{suffix}"
            path.write_bytes(content)
            with pytest.raises(ValueError, match="is not a fastgd model, or is damaged"):
                GDRegressor.load(path)
    np.savez(tmp_path / "other.npz", a=np.ones(3))
    np.savez(tmp_path / "objects.npz", head=np.array([{"a": 1}], dtype=object))
    with zipfile.ZipFile(tmp_path / "zip.npz", "w") as archive:
        archive.writestr("head.npy", b"nothing")
    (tmp_path / "list.json").write_text("[1, 2]")
    (tmp_path / "deep.json").write_text("[" * 100_000)
    for name in ("other.npz", "objects.npz", "zip.npz", "list.json", "deep.json"):
        with pytest.raises(ValueError, match="is not a fastgd model, or is damaged"):
            GDRegressor.load(tmp_path / name)


def test_other_versions_and_classes(tmp_path):
    path = tmp_path / "m.json"
    write_json(path, lambda c: c.update(format_version=99))
    with pytest.raises(ValueError, match=r"format 99.*install a newer one"):
        GDRegressor.load(path)
    CASES["regressor"].save(path)
    with pytest.raises(ValueError, match="holds a GDRegressor, not a GDClassifier"):
        GDClassifier.load(path)


def test_what_cannot_be_saved(tmp_path):
    X, y = data()
    with pytest.raises(NotFittedError):
        GDRegressor().save(tmp_path / "m.json")
    with pytest.raises(ValueError, match=r"path must end in \.json or \.npz; got 'm.pkl'"):
        CASES["regressor"].save(tmp_path / "m.pkl")
    with pytest.raises(ValueError, match=r"path must end in \.json or \.npz"):
        GDRegressor.load(tmp_path / "m")
    with pytest.raises(OSError, match=r"m\.json"):
        GDRegressor.load(tmp_path / "m.json")
    CASES["regressor"].save(tmp_path / "m.json")
    before = (tmp_path / "m.json").read_bytes()
    mixed = GDClassifier().fit(X, y > 1)
    mixed.classes_ = np.array([1, "b"], dtype=object)
    with pytest.raises(ValueError, match="classes_ must hold numbers, strings or booleans"):
        mixed.save(tmp_path / "m.json")
    assert (tmp_path / "m.json").read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["m.json"]
