"""Frames with columns that are not numbers, given to estimators: encoded as scikit-learn's transformers would."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.compose import make_column_transformer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LinearRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder

from fastgd import GDClassifier, GDRegressor, LinearObjective, data, datasets, gradient_descent
from fastgd.errors import ConditionWarning

pandas = pytest.importorskip("pandas", reason="pandas is not installed")
polars = pytest.importorskip("polars", reason="polars is not installed")
pa = pytest.importorskip("pyarrow", reason="the extra arrow is not installed")
pytestmark = pytest.mark.one_build
MAKERS = {"pandas": lambda f: f, "polars": polars.from_pandas, "pyarrow": pa.Table.from_pandas}


def frame(n=80, seed=0):
    rng = np.random.default_rng(seed)
    made = pandas.DataFrame({
        "height": rng.normal(170, 10, n), "sex": rng.choice(["m", "f"], n), "smokes": rng.random(n) > 0.5,
        "size": pandas.Categorical(rng.choice(["S", "M", "L"], n), categories=["S", "M", "L", "XL"]),
        "age": rng.integers(20, 80, n),
    })  # fmt: skip
    y = made.height / 10 + 3.0 * (made.sex == "m") + 2.0 * made.smokes + (made["size"] == "L") + rng.normal(size=n)
    return made, y.to_numpy()


def holes(made):
    made = made.copy()
    made["sex"] = made.sex.astype(object)
    made.loc[3:7, "height"], made.loc[6:9, "sex"] = np.nan, None
    return made


@pytest.mark.parametrize("library", MAKERS)
def test_frames_of_every_library(library):
    made, y = frame()
    table = MAKERS[library](made)
    model = GDRegressor().fit(table, y)
    names = ["height", "sex=m", "smokes=True", "size=M", "size=S", "age"]
    assert_array_equal(model.coef_names_, names)
    assert_array_equal(model.feature_names_in_, list(made))
    assert model.n_features_in_ == 5 and model.coef_.shape == (6,)
    X = pandas.get_dummies(made.astype({"size": object}), drop_first=True, columns=["sex", "smokes", "size"])
    X = X[["height", "sex_m", "smokes_True", "size_M", "size_S", "age"]].to_numpy(float)
    peer = LinearRegression().fit(X, y)
    assert_allclose(model.coef_, peer.coef_, rtol=1e-8)
    assert_allclose(model.predict(table), peer.predict(X), rtol=1e-10)
    assert_allclose(model.predict(MAKERS[library](made[list(made)[::-1]])), peer.predict(X), rtol=1e-10)
    assert "sex=m" in str(model.summary()) and "first" in str(model.summary(names=["first", *"bcdef"]))
    labels = GDClassifier().fit(table, np.where(y > y.mean(), "high", "low"))
    assert labels.score(table, np.where(y > y.mean(), "high", "low")) > 0.7
    copied = clone(model).fit(table, y)
    assert_array_equal(copied.coef_, model.coef_)


@pytest.mark.parametrize("missing", ["drop", "mean"])
@pytest.mark.parametrize("seed", range(3))
def test_missing_cells_as_in_a_pipeline(missing, seed):
    made, y = frame(seed=seed)
    table = holes(made)
    model = GDRegressor(missing=missing).fit(table, y)
    whole = table.notna().all(axis=1) if missing == "drop" else np.full(len(y), True)
    one_hot = make_pipeline(SimpleImputer(strategy="most_frequent", missing_values=None), OneHotEncoder(drop="first"))
    columns = make_column_transformer(
        (SimpleImputer(), ["height", "age"]), (one_hot, ["sex"]), (OneHotEncoder(drop="first"), ["smokes", "size"])
    )
    peer = make_pipeline(columns, LinearRegression()).fit(table[whole].astype({"size": object}), y[whole])
    expected = peer.predict(table[whole].astype({"size": object}))
    assert_allclose(model.predict(table[whole]), expected, rtol=1e-9)
    if missing == "drop":
        with pytest.raises(ValueError, match=r"cells are missing in 'height' \(5\).*missing='mean'"):
            model.predict(table)


def test_missing_cells_that_are_marked_and_those_of_arrays():
    made, y = frame()
    model = GDRegressor(missing="indicator", penalty="l2").fit(holes(made), y)
    assert_array_equal(model.coef_names_[:4], ["height", "height=missing", "sex=m", "sex=missing"])
    X = made[["height", "age"]].to_numpy(float)
    X[4, 0] = np.nan
    filled = np.where(np.isnan(X), np.nanmean(X, axis=0), X)
    assert_allclose(GDRegressor(missing="mean").fit(X, y).coef_, GDRegressor().fit(filled, y).coef_, rtol=1e-9)
    with pytest.raises(ValueError, match="X contains NaN"):
        GDRegressor().fit(X, y)


def test_all_levels_dates_and_unknown_ones():
    made, y = frame()
    made["when"] = pandas.Timestamp("2020-03-01 12:00") + pandas.to_timedelta(np.arange(len(y)), unit="D")
    model = GDRegressor(drop=None, dates="number", unknown="zeros", penalty="l2").fit(made, y)
    assert list(model.coef_names_) == [
        "height", "sex=f", "sex=m", "smokes=False", "smokes=True", "size=L", "size=M", "size=S", "age", "when"
    ]  # fmt: skip
    other = made.assign(sex="?")
    assert_allclose(model.predict(other) - model.predict(made), -model.coef_[1 + (made.sex == "m")], rtol=1e-6)
    later = made.assign(when=made.when + pandas.Timedelta(days=2))
    assert_allclose(model.predict(later) - model.predict(made), 2 * model.coef_[-1], atol=1e-9)


def test_what_is_refused_names_columns_and_remedies():
    made, y = frame()
    table = holes(made).assign(when=pandas.Timestamp("2020-01-01"), none=np.nan)
    with pytest.raises(ValueError) as refused:
        GDRegressor().fit(table, y)
    assert str(refused.value) == (
        "X: column 'when' holds dates; cells are missing in 'height' (5), 'sex' (4); column 'none' has no values: "
        "pass dates='number', missing='drop', leave out 'none'"
    )
    model = GDRegressor().fit(made, y)
    for wrong, words in (
        (made.assign(sex="x"), "levels that the fit did not have, 'x': pass unknown='zeros'"),
        (made.drop(columns=["sex", "age"]), "X has no column 'sex', 'age'"),
        (made.assign(height="tall"), "column 'height' holds text, and in the fit it held numbers"),
        (made.to_numpy(), "X"),
    ):
        with pytest.raises(ValueError, match=words):
            model.predict(wrong)
    with pytest.raises(ValueError, match=r"cells are missing in 'height' \(5\)"):
        GDRegressor().fit(holes(made)[["height", "age"]], y)
    for parameter in ("missing", "drop", "dates", "unknown"):
        with pytest.raises(ValueError, match=f"{parameter} must be one of"):
            GDRegressor(**{parameter: "guess"}).fit(made, y)


@pytest.mark.parametrize("suffix", [".json", ".npz"])
def test_files_hold_the_encoding(tmp_path, suffix):
    made, y = frame()
    model = GDRegressor(missing="indicator", penalty="l2").fit(holes(made), y)
    model.save(tmp_path / f"m{suffix}")
    found = GDRegressor.load(tmp_path / f"m{suffix}")
    assert_array_equal(found.predict(holes(made)), model.predict(holes(made)))
    assert_array_equal(found.coef_names_, model.coef_names_)


def test_scan(tmp_path):
    made, y = frame()
    made.assign(y=y, s=np.arange(80) % 3)[:50].to_csv(tmp_path / "a.csv", index=False)
    made.assign(y=y, s=np.arange(80) % 3)[50:].to_csv(tmp_path / "b.csv", index=False)
    expected = GDRegressor().fit(made, y, sample_weight=np.arange(80) % 3)
    for source in (tmp_path, tmp_path / "*.csv", made.assign(y=y, s=np.arange(80) % 3)):
        rows = data.scan(source, target="y", sample_weight="s")
        model = GDRegressor().fit(rows)
        assert_allclose(model.coef_, expected.coef_, rtol=1e-9)
        assert_allclose(model.predict(rows), expected.predict(made), rtol=1e-9)
    objective = LinearObjective(data.scan(made.assign(y=y), target="y"), loss="squared_error", fit_intercept=True)
    found = gradient_descent(objective, lr="auto", tol=1e-12)
    assert_allclose(found.x[:-1], GDRegressor().fit(made, y).coef_, rtol=1e-6)
    few = data.scan(made, features=["age", "sex"])
    assert list(GDRegressor().fit(few, y).coef_names_) == ["age", "sex=m"]
    assert GDRegressor().fit(data.scan(datasets.women_path(), target="weight")).coef_ == pytest.approx([3.45])
    for call, words in (
        (lambda: data.scan(tmp_path / "none.csv"), "cannot be read"),
        (lambda: data.scan(made, target="weight"), "no column 'weight'"),
        (lambda: data.scan(3), "source must be a path"),
        (lambda: data.scan(made, memory_limit="1MB"), "memory_limit must be at least"),
    ):
        with pytest.raises((ValueError, TypeError), match=words):
            call()


def test_formulas(tmp_path):
    pytest.importorskip("formulaic", reason="the extra formula is not installed")
    made, y = frame()
    text = "y ~ log(height) + C(sex):age + smokes"
    model = GDRegressor.from_formula(text, made.assign(y=y))
    names = ["log(height)", "smokes[T.True]", "C(sex)[f]:age", "C(sex)[m]:age"]
    assert_array_equal(model.coef_names_, names)
    male = (made.sex == "m").to_numpy()
    X = np.column_stack([np.log(made.height), made.smokes, made.age * ~male, made.age * male]).astype(float)
    assert_allclose(model.coef_, LinearRegression().fit(X, y).coef_, rtol=1e-7)
    model.save(tmp_path / "m.json")
    again = GDRegressor.load(tmp_path / "m.json")
    assert_array_equal(again.predict(made), model.predict(made))
    assert_allclose(model.predict(made[:1]), model.predict(made)[:1], rtol=1e-13)
    assert GDRegressor.from_formula("y ~ height - 1", made.assign(y=y)).intercept_ == 0
    labels = GDClassifier.from_formula("sex ~ height + size", made)
    assert_array_equal(labels.classes_, ["f", "m"])
    for wrong, words in (
        ("height", "must be of the form"), ("y ~ weight", "'weight', which is no column"),
        ("y ~ __import__('os').system('true')", "'__import__', which is no column"),
        ("y ~ height +* age", "cannot be read"), ("y ~ log(height - 300)", "is nan in row 1"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=words):
            GDRegressor.from_formula(wrong, made.assign(y=y))


def test_a_level_that_separates_is_named():
    rng = np.random.default_rng(0)
    made = pandas.DataFrame({"a": rng.normal(size=400), "t": rng.choice(list("pqrs"), 400)})
    y = np.where(made.t == "s", 1, made.a + rng.logistic(size=400) > 0)
    with pytest.warns(ConditionWarning, match="along column 't=s'"):
        GDClassifier(penalty=None).fit(made, y)
