"""scikit-learn's contract: its own estimator checks, its meta-estimators, and every kind of table that it takes."""

import doctest
import pickle
import tracemalloc
import warnings

import numpy as np
import pytest
import scipy.sparse
import sklearn
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import TransformedTargetRegressor, make_column_transformer
from sklearn.ensemble import BaggingRegressor, VotingClassifier
from sklearn.exceptions import NotFittedError
from sklearn.feature_selection import SelectFromModel
from sklearn.model_selection import GridSearchCV, KFold, cross_val_predict, cross_val_score, cross_validate
from sklearn.multiclass import OneVsRestClassifier
from sklearn.multioutput import MultiOutputClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, PolynomialFeatures, StandardScaler
from sklearn.utils.estimator_checks import check_estimator

from fastgd import GDClassifier, GDRegressor, datasets
from fastgd.linear_model import classifier, regressor

WEIGHTS = ("check_sample_weight_equivalence_on_dense_data", "check_sample_weight_equivalence_on_sparse_data")
STEPS = "a row of weight 2 is one step of twice the length, and the same row twice is two steps"
PART = "which rows are held out depends on how many there are, and a weight of 2 is one row"
FLAT = "the loss with a kink is flat around its minimum: many weights have the same loss to within tol"
NEGATIVE = "the check has negative targets, whatever the tags say; a Poisson mean has none"
# scikit-learn asks for equal predictions to seven digits, which a relative gap of 1e-4 does not say.
EXACT = {"tol": 1e-14}

CONFIGURATIONS = [
    (GDRegressor(), {}),
    (GDClassifier(), {}),
    (GDRegressor(penalty="l2", solver="preconditioned"), {}),
    (GDRegressor(penalty="elasticnet", solver="accelerated"), {}),
    (GDRegressor(penalty="l1"), {}),
    (GDRegressor(solver="gd"), {}),
    (GDRegressor(solver="gd", optimizer="momentum", max_iter=100, tol=None), {}),
    (GDRegressor(loss="huber"), {}),
    (GDRegressor(loss="poisson", alpha=0.1, penalty="l2", **EXACT), {"check_regressor_multioutput": NEGATIVE}),
    (GDRegressor(loss="epsilon_insensitive", penalty="l2", alpha=0.01, tol=0.01), dict.fromkeys(WEIGHTS, FLAT)),
    (GDRegressor(solver="sgd", **EXACT), {}),
    (GDRegressor(solver="sgd", learning_rate=0.01, max_iter=50, tol=None), dict.fromkeys(WEIGHTS, STEPS)),
    (GDRegressor(batch_size=8, optimizer="adam", max_iter=50, tol=None), dict.fromkeys(WEIGHTS, STEPS)),
    (GDRegressor(early_stopping=True, validation_fraction=0.3), dict.fromkeys(WEIGHTS, PART)),
    (GDClassifier(solver="accelerated"), {}),
    (GDClassifier(loss="squared_hinge", alpha=0.1), {}),
    (GDClassifier(loss="hinge", alpha=0.1, tol=1e-2), {}),
    (GDClassifier(penalty="elasticnet", alpha=0.01), {}),
    (GDClassifier(multi_class="ovr", alpha=0.1), {}),
    (GDClassifier(solver="sgd", learning_rate=0.01, max_iter=50, tol=None), dict.fromkeys(WEIGHTS, STEPS)),
    (GDClassifier("hinge", solver="sgd", learning_rate=0.01, max_iter=50, tol=None), dict.fromkeys(WEIGHTS, STEPS)),
    (GDClassifier(early_stopping=True, validation_fraction=0.4, n_iter_no_change=2), dict.fromkeys(WEIGHTS, PART)),
]  # fmt: skip


def checked(estimator, expected):
    """Run scikit-learn's checks; nothing may fail but what is expected to, which must."""
    results = check_estimator(estimator, expected_failed_checks=expected, on_fail=None, on_skip=None)
    assert len(results) > 50
    failed = [(r["check_name"], r["exception"]) for r in results if r["status"] == "failed"]
    assert not failed, failed
    skipped = {r["check_name"]: str(r["exception"]) for r in results if r["status"] == "skipped"}
    # It asks for an environment variable; our kernels take NumPy's memory, and the tags claim no more.
    missing = ("SCIPY_ARRAY_API", "pandas is not installed")
    assert all(any(word in reason for word in missing) for reason in skipped.values()), skipped
    assert {r["check_name"] for r in results if r["status"] == "xfail"} == set(expected)


NOISY = pytest.mark.filterwarnings("ignore")  # scikit-learn's checks look at the warnings that matter themselves


@NOISY
@pytest.mark.parametrize(("estimator", "expected"), CONFIGURATIONS[:2], ids=lambda value: repr(value)[:60])
def test_estimator_checks(estimator, expected):
    checked(estimator, expected)


@NOISY
@pytest.mark.one_build
@pytest.mark.parametrize(
    ("estimator", "expected"),
    [pytest.param(*row, marks=[pytest.mark.slow] * (i % 3 != 0)) for i, row in enumerate(CONFIGURATIONS[2:])],
    ids=lambda value: repr(value)[:90],
)
def test_estimator_checks_of_configurations(estimator, expected):
    checked(estimator, expected)


# ------------------------------------------------------------------------------------- scikit-learn's meta-estimators


@pytest.fixture
def regression():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(60, 4)) * [1, 1e4, 1e-4, 10] + [0, 5e4, 0, -30]
    return X, X @ [1, 1e-4, 1e4, 0.1] + 0.1 * rng.normal(size=60) + 3


@pytest.fixture
def classification(regression):
    X, y = regression
    return X, np.array(["low", "middle", "top"])[np.digitize(y, np.quantile(y, [0.3, 0.7]))]


@pytest.mark.one_build
def test_pipeline_grid_search_and_cross_validation(regression, classification):
    X, y = regression
    pipeline = make_pipeline(PolynomialFeatures(2), GDRegressor(penalty="l2"))
    search = GridSearchCV(pipeline, {"gdregressor__alpha": [1e-6, 1e3], "gdregressor__penalty": ["l2"]}, cv=3)
    assert search.fit(X, y).best_params_["gdregressor__alpha"] == 1e-6
    assert search.score(X, y) > pipeline.set_params(gdregressor__alpha=1e3).fit(X, y).score(X, y)
    assert cross_val_score(GDRegressor(), X, y, cv=4).min() > 0.9
    X, y = classification
    options = {"cv": 3, "scoring": "neg_log_loss"}
    search = GridSearchCV(GDClassifier(), {"alpha": [1e-4, 1e6]}, **options).fit(X, y)
    scores = {alpha: cross_val_score(GDClassifier(alpha=alpha), X, y, **options).mean() for alpha in (1e-4, 1e6)}
    assert search.best_params_ == {"alpha": max(scores, key=scores.get)} and search.best_score_ == max(scores.values())
    assert set(cross_val_predict(GDClassifier(), X, y, cv=3)) == {"low", "middle", "top"}


@pytest.mark.one_build
def test_meta_estimators(regression, classification):
    X, y = regression
    assert TransformedTargetRegressor(GDRegressor(), func=np.sinh, inverse_func=np.arcsinh).fit(X, y / 100)
    assert BaggingRegressor(GDRegressor(), n_estimators=3, random_state=0).fit(X, y).score(X, y) > 0.9
    sparse = SelectFromModel(GDRegressor(penalty="l1", alpha=0.5)).fit(StandardScaler().fit_transform(X), y)
    assert 0 < sparse.get_support().sum() <= 4
    X, labels = classification
    assert VotingClassifier([("a", GDClassifier()), ("b", GDClassifier(alpha=1.0))], voting="soft").fit(X, labels)
    # One against the rest is what the classifier does by itself; strict convexity makes each of its models unique.
    tight = GDClassifier(loss="squared_hinge", tol=1e-12)
    rest = OneVsRestClassifier(tight).fit(X, labels).decision_function(X)
    assert_allclose(rest, clone(tight).fit(X, labels).decision_function(X), rtol=1e-4, atol=1e-4)
    calibrated = CalibratedClassifierCV(GDClassifier(loss="squared_hinge"), cv=3).fit(X, labels)
    assert_allclose(calibrated.predict_proba(X).sum(axis=1), 1)
    both = np.column_stack([labels == "top", labels == "low"])
    assert MultiOutputClassifier(GDClassifier()).fit(X, both).predict(X).shape == (60, 2)


@pytest.mark.one_build
def test_clone_and_parameters():
    schedule = [0.1, 0.01].__getitem__
    model = GDRegressor("huber", alpha=0.5, learning_rate=schedule, callbacks=[print], epsilon=2.0)
    copy = clone(model)
    assert copy is not model and repr(copy) == repr(model)
    assert copy.get_params() == model.get_params()
    assert copy.set_params(alpha=1.0).alpha == 1.0
    watched = {"target": 0.1, "max_seconds": 2.5, "checkpoint": "fit.npz", "resume": True}
    for kind in (GDRegressor, GDClassifier):
        assert kind().get_params().items() >= dict.fromkeys(("target", "max_seconds", "checkpoint")).items()
        assert kind().get_params()["resume"] is False
        assert clone(kind().set_params(**watched)).get_params().items() >= watched.items()
    with pytest.raises(ValueError, match="Invalid parameter"):
        copy.set_params(lr=1)
    with pytest.raises(NotFittedError):
        copy.predict([[1.0]])


@pytest.mark.one_build
def test_metadata_routing(regression):
    X, y = regression
    s = np.arange(60.0)
    direct = GDRegressor().fit(X, y, sample_weight=s)
    with sklearn.config_context(enable_metadata_routing=True):
        model = GDRegressor().set_fit_request(sample_weight=True).set_score_request(sample_weight=True)
        pipeline = make_pipeline(model).fit(X, y, sample_weight=s)
        assert_array_equal(pipeline[-1].coef_, direct.coef_)
        search = GridSearchCV(model, {"fit_intercept": [True]}, cv=3).fit(X, y, sample_weight=s)
        assert_array_equal(search.best_estimator_.coef_, direct.coef_)
        scores = cross_validate(model, X, y, cv=3, params={"sample_weight": s})["test_score"]
        parts = KFold(3).split(X)
        expected = [direct.fit(X[a], y[a], s[a]).score(X[b], y[b], s[b]) for a, b in parts]
        assert_allclose(scores, expected, rtol=1e-12)
        online = GDClassifier(learning_rate=1e-9).set_partial_fit_request(sample_weight=True, classes=True)
        each = OneVsRestClassifier(online).partial_fit(X, y > 3, classes=[False, True], sample_weight=s)
        alone = GDClassifier(learning_rate=1e-9).partial_fit(X, y > 3, classes=[False, True], sample_weight=s)
        assert_array_equal(each.estimators_[0].coef_, alone.coef_)
        with pytest.raises(TypeError, match="sample_weight"):
            make_pipeline(GDRegressor().set_fit_request(sample_weight=False)).fit(X, y, sample_weight=s)


# ------------------------------------------------------------------------------------------------- kinds of the tables


@pytest.mark.one_build
@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_frames(library, regression, classification):
    frames = pytest.importorskip(library, reason=f"{library} is not needed and not installed")
    X, y = regression
    names = ["one", "two", "three", "four"]
    table = frames.DataFrame(dict(zip(names, X.T, strict=True)))
    model = GDRegressor().fit(table, frames.Series(y))
    plain = GDRegressor().fit(X, y)
    assert_array_equal(model.feature_names_in_, names)
    assert_allclose(model.coef_, plain.coef_, rtol=1e-12)
    assert_allclose(model.predict(table), plain.predict(X), rtol=1e-12)
    assert "two" in str(model.summary())
    with pytest.raises(ValueError, match="feature names"):
        model.predict(table[names[::-1]])
    with pytest.warns(UserWarning, match="feature names"):
        model.predict(X)
    labels = GDClassifier().fit(table, frames.Series(classification[1]))
    assert_array_equal(labels.classes_, ["low", "middle", "top"])
    assert_array_equal(labels.predict(table), GDClassifier().fit(X, classification[1]).predict(X))
    steps = make_pipeline(StandardScaler(), GDRegressor())
    steps.set_output(transform=library).fit(table, y)
    assert_array_equal(steps[-1].feature_names_in_, names)
    mixed = frames.DataFrame({**dict(zip(names, X.T, strict=True)), "size": classification[1].tolist()})
    columns = make_column_transformer((StandardScaler(), names), (OneHotEncoder(sparse_output=False), ["size"]))
    steps = make_pipeline(columns, GDRegressor(penalty="l2")).set_output(transform=library).fit(mixed, y)
    assert steps[-1].n_features_in_ == 7 and steps.score(mixed, y) > 0.9
    online = GDRegressor(learning_rate=1e-12).partial_fit(table, y)
    assert_array_equal(online.feature_names_in_, names)


def strided(X):
    wide = np.full((2 * len(X), 3 * X.shape[1]), np.nan)
    wide[::2, ::3] = X
    return wide[::2, ::3]


def read_only(X):
    X = X.copy()
    X.flags.writeable = False
    return X


LAYOUTS = {
    "Fortran order": np.asfortranarray,
    "strided": strided,
    "backwards": lambda X: X[::-1].copy()[::-1],
    "read-only": read_only,
    "other byte order": lambda X: X.astype(X.dtype.newbyteorder()),
    "long double": lambda X: X.astype(np.longdouble),
    "list": lambda X: X.tolist(),
    "objects": lambda X: X.astype(object),
}


@pytest.mark.parametrize("solver", ["auto", "preconditioned", "accelerated", "sgd"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts_give_the_same_weights(layout, solver, regression):
    X, y = regression
    model = GDRegressor(penalty="l2", solver=solver, max_iter=5, tol=None, random_state=0)
    expected = clone(model).fit(X, y)
    found = model.fit(LAYOUTS[layout](X), y)
    assert found.coef_.dtype == np.float64
    assert_allclose(found.coef_, expected.coef_, rtol=1e-10)
    assert_allclose(found.predict(LAYOUTS[layout](X)), expected.predict(X), rtol=1e-10)


@pytest.mark.one_build
@pytest.mark.parametrize("dtype", [np.int8, np.int64, np.uint16, bool, np.float16])
def test_other_dtypes_become_float64(dtype):
    X = np.random.default_rng(1).integers(0, 2, (30, 3)).astype(dtype)
    y = X.astype(float) @ [1, 2, 3]
    model = GDRegressor().fit(X, y)
    assert model.coef_.dtype == np.float64
    assert_allclose(model.coef_, [1, 2, 3])
    assert GDClassifier().fit(X, y > 2).coef_.dtype == np.float64


@pytest.mark.parametrize("convert", [scipy.sparse.csr_matrix, scipy.sparse.csr_array, scipy.sparse.csc_matrix,
                                     scipy.sparse.coo_array])  # fmt: skip
@pytest.mark.parametrize("estimator", [GDRegressor(), GDRegressor(loss="huber", penalty="l1", alpha=0.01)])
def test_sparse_tables(convert, estimator, regression):
    X, y = regression
    X = np.where(np.random.default_rng(2).random(X.shape) < 0.5, 0, X)
    dense = clone(estimator).fit(X, y)
    model = clone(estimator).fit(convert(X), y)
    assert_allclose(model.coef_, dense.coef_, rtol=1e-7)
    assert_allclose(model.predict(convert(X)), dense.predict(X), rtol=1e-7)
    if estimator.penalty is None:
        wide = scipy.sparse.csr_matrix(X)
        wide.indices, wide.indptr = wide.indices.astype(np.int64), wide.indptr.astype(np.int64)
        assert_allclose(clone(estimator).fit(wide, y).coef_, dense.coef_, rtol=1e-7)


@pytest.mark.parametrize("shape", [(20, 3), (20, 1), (1, 3), (1, 1)])
@pytest.mark.parametrize("convert", [scipy.sparse.csr_array, scipy.sparse.csc_array])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_sparse_tables_without_an_entry(convert, dtype, shape):
    """Columns of zeros have no weight, and the intercept is that of the constant model."""
    X, y = convert(shape, dtype=dtype), np.arange(1.0, shape[0] + 1)
    rate = {"learning_rate": 0.01}
    for options in ({}, {"solver": "gram"}, {"solver": "preconditioned"}, {"solver": "accelerated"}, {"solver": "gd"},
                    {"solver": "sgd"}, {"solver": "gd", **rate}, {"solver": "sgd", **rate}, {"penalty": "l1"},
                    {"penalty": "l2"}, {"solver": "sgd", "optimizer": "adam"}, {"loss": "huber"},
                    {"loss": "poisson"}, {"loss": "epsilon_insensitive"}):  # fmt: skip
        for fit_intercept in (True, False):
            model = GDRegressor(**options, fit_intercept=fit_intercept, random_state=0)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of columns that do not vary, and of too few epochs
                model.fit(X, y)
            assert_array_equal(model.coef_, np.zeros(shape[1]))
            found = np.exp(model.intercept_) if model.loss == "poisson" else model.intercept_
            if fit_intercept and model.loss in ("squared_error", "poisson") and not rate.items() <= options.items():
                assert_allclose(found, y.mean(), rtol=0.05)
            assert_allclose(model.predict(X), np.repeat(found, len(y)), rtol=1e-6)
    if len(y) > 1:
        model = GDClassifier(alpha=0.1).fit(X, y > 5)
        assert_array_equal(model.coef_, np.zeros((1, shape[1])))
        assert_allclose(model.predict_proba(X)[:, 1], 15 / 20, rtol=1e-3)
    for options in ({}, rate):
        streamed, dense = (GDRegressor(**options).partial_fit(table, y) for table in (X, X.toarray()))
        assert_allclose(streamed.intercept_, dense.intercept_, rtol=1e-6)
        assert_array_equal(streamed.partial_fit(X, y).coef_, np.zeros(shape[1]))


@pytest.mark.parametrize("estimator", [
    GDRegressor(), GDRegressor(solver="preconditioned", penalty="l2"), GDRegressor(loss="huber"),
    GDClassifier(), GDClassifier(solver="accelerated", max_iter=3, tol=None), GDClassifier(loss="hinge", tol=0.1),
    GDClassifier(solver="sgd", learning_rate=0.01, max_iter=1, tol=None),
    GDClassifier(solver="sgd", max_iter=1, tol=None),
], ids=repr)  # fmt: skip
@pytest.mark.one_build
def test_float32_stays_and_is_not_copied(estimator):
    rng = np.random.default_rng(3)
    X = rng.normal(size=(60_000, 32)).astype(np.float32)
    y = (X[:, 0] > 0.3).astype(np.float32)
    tracemalloc.start()
    try:
        model = clone(estimator).fit(X, y)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert model.coef_.dtype == model.intercept_.dtype == np.float32
    assert model.decision_function(X[:5]).dtype == np.float32 if hasattr(model, "classes_") else True
    assert model.predict(X[:5]).dtype == np.float32
    assert peak < 0.75 * X.nbytes  # a sample of the rows, and columns of one value a row


# --------------------------------------------------------------------------------------------------------- kinds of y


@pytest.mark.parametrize("loss", ["squared_error", "huber"])
def test_several_targets_are_as_many_models(loss, regression):
    X, y = regression
    Y = np.column_stack([y, -2 * y + X[:, 0], np.sin(y)])
    together = GDRegressor(loss, tol=1e-10).fit(X, Y)
    assert together.coef_.shape == (3, 4) and together.intercept_.shape == (3,)
    assert together.predict(X).shape == Y.shape
    for j in range(3):
        alone = GDRegressor(loss, tol=1e-10).fit(X, Y[:, j])
        assert_allclose(together.predict(X)[:, j], alone.predict(X), rtol=1e-4, atol=1e-4)


LABELS = {
    "strings": np.array(["a", "b", "c"]),
    "objects": np.array(["a", "bb", "ccc"], dtype=object),
    "numbers": np.array([-3, 7, 200]),
    "unsigned": np.array([1, 7, 200], dtype=np.uint8),
    "floats": np.array([-1.0, 0.0, 2.0]),
}


@pytest.mark.one_build
@pytest.mark.parametrize(
    ("kind", "classes"), [*((kind, classes) for kind in LABELS for classes in (2, 3)), ("booleans", 2)]
)
def test_labels(kind, classes, classification):
    X, y = classification
    numbers = np.searchsorted(["low", "middle", "top"], y)
    numbers = np.minimum(numbers, classes - 1)
    labels = numbers.astype(bool) if kind == "booleans" else LABELS[kind][:classes][numbers]
    model = GDClassifier().fit(X, labels)
    expected = GDClassifier().fit(X, numbers)
    assert_array_equal(model.classes_, np.unique(labels))
    assert model.classes_.dtype == labels.dtype == model.predict(X).dtype
    assert_allclose(model.coef_, expected.coef_, rtol=1e-12)
    assert_array_equal(model.predict(X), np.unique(labels)[expected.predict(X)])
    assert model.coef_.shape == (1 if classes == 2 else 3, 4)
    assert model.decision_function(X).shape == ((60,) if classes == 2 else (60, 3))
    proba = model.predict_proba(X)
    assert proba.shape == (60, classes)
    assert_allclose(proba.sum(axis=1), 1)
    assert_array_equal(model.classes_[proba.argmax(axis=1)], model.predict(X))
    assert_allclose(np.exp(model.predict_log_proba(X)), proba)
    online = GDClassifier(learning_rate=1e-10).partial_fit(X, labels, classes=np.unique(labels))
    assert_array_equal(online.classes_, model.classes_)
    assert set(online.partial_fit(X, labels).predict(X)) <= set(labels)


@pytest.mark.parametrize("loss", ["log_loss", "hinge", "squared_hinge"])
def test_one_against_the_rest(loss, classification):
    X, y = classification
    tol = 1e-4 if loss == "hinge" else 1e-9
    model = GDClassifier(loss, multi_class="ovr", alpha=0.01, tol=tol).fit(X, y)
    for j, label in enumerate(model.classes_):
        alone = GDClassifier(loss, alpha=0.01, tol=tol).fit(X, y == label)
        assert_allclose(model.decision_function(X)[:, j], alone.decision_function(X), rtol=0, atol=10 * tol**0.5)
    if loss == "log_loss":
        p = 1 / (1 + np.exp(-model.decision_function(X)))
        assert_allclose(model.predict_proba(X), p / p.sum(axis=1, keepdims=True))
    else:
        assert not hasattr(model, "predict_proba")
        with pytest.raises(AttributeError, match="log_loss"):
            model.predict_proba(X)


@pytest.mark.parametrize("two", [True, False])
def test_class_weights_are_sample_weights(two, classification):
    X, y = classification
    y = np.where(y == "middle", "low", y) if two else y
    weights = {"low": 3.0, "top": 0.5}
    s = np.array([weights.get(label, 1.0) for label in y])
    other = np.random.default_rng(5).uniform(0, 2, 60)
    expected = GDClassifier(tol=1e-10).fit(X, y, s * other)
    model = GDClassifier(tol=1e-10, class_weight=weights).fit(X, y, other)
    assert_allclose(model.coef_, expected.coef_, rtol=1e-10)
    counts = {label: np.sum(y == label) for label in np.unique(y)}
    balanced = np.array([60 / len(counts) / counts[label] for label in y])
    found = GDClassifier(tol=1e-10, class_weight="balanced").fit(X, y)
    assert_allclose(found.coef_, GDClassifier(tol=1e-10).fit(X, y, balanced).coef_, rtol=1e-10)
    counts = {label: np.sum(other[y == label]) for label in counts}
    balanced = np.array([1 / counts[label] for label in y]) * other * other.sum() / len(counts)
    found = GDClassifier(tol=1e-10, class_weight="balanced").fit(X, y, other)
    assert_allclose(found.coef_, GDClassifier(tol=1e-10).fit(X, y, balanced).coef_, rtol=1e-10)
    huge = GDClassifier(tol=1e-10, class_weight=dict.fromkeys(counts, 1e308)).fit(X, y)  # their ratios alone matter
    assert_allclose(huge.coef_, GDClassifier(tol=1e-10).fit(X, y).coef_, rtol=1e-10)
    named = GDClassifier(tol=1e-10, class_weight={**dict.fromkeys(counts, 1.0), "none": 9.0}).fit(X, y)
    assert_allclose(named.coef_, GDClassifier(tol=1e-10).fit(X, y).coef_, rtol=1e-10)  # a fold may lack a class
    labels = np.unique(y)
    online = GDClassifier(learning_rate=1e-9, class_weight=weights).partial_fit(X, y, classes=labels)
    weighted = GDClassifier(learning_rate=1e-9).partial_fit(X, y, classes=labels, sample_weight=s)
    assert_allclose(online.coef_, weighted.coef_, rtol=1e-12)


# ------------------------------------------------------------------------------------------------------------ pickles


@pytest.mark.parametrize("solver", ["auto", "sgd"])
def test_pickles(solver, regression, classification):
    X, y = regression
    model = pickle.loads(pickle.dumps(GDRegressor(solver=solver, max_iter=3, tol=None).fit(X, y)))
    assert model.predict(X).shape == y.shape
    online = GDRegressor(learning_rate=1e-12).partial_fit(X, y)
    copy = pickle.loads(pickle.dumps(online))
    assert_array_equal(copy.coef_, online.coef_)
    assert_array_equal(copy.partial_fit(X, y).coef_, online.partial_fit(X, y).coef_)  # a constant rate has no memory
    X, labels = classification
    model = GDClassifier(solver=solver, max_iter=3, tol=None).fit(X, labels)
    assert_array_equal(pickle.loads(pickle.dumps(model)).predict_proba(X), model.predict_proba(X))


@pytest.mark.one_build
def test_a_copy_learns_apart(regression):
    import copy

    X, y = regression
    model = GDRegressor(learning_rate=1e-12).partial_fit(X, y)
    twin = copy.deepcopy(model)
    before = twin.coef_.copy()
    model.partial_fit(X, y)
    assert_array_equal(twin.coef_, before)
    assert np.any(model.coef_ != before)


@pytest.mark.one_build
def test_inputs_are_never_written_to(regression, classification):
    X, y = regression
    labels = classification[1]
    kept = X.copy(), y.copy(), labels.copy()
    s = np.ones(60)
    for solver in ("auto", "gram", "preconditioned", "accelerated", "gd", "sgd"):
        GDRegressor(solver=solver, max_iter=3, tol=None).fit(X, y, s)
    GDRegressor().partial_fit(X, y, s)
    GDClassifier(max_iter=3, tol=None).fit(X, labels, s).predict(X)
    for array, before in zip((X, y, labels, s), (*kept, np.ones(60)), strict=True):
        assert_array_equal(array, before)


@pytest.mark.one_build
@pytest.mark.parametrize("module", [regressor, classifier], ids=lambda module: module.__name__)
def test_examples_of_the_docstrings(module):
    assert doctest.testmod(module).failed == 0


@pytest.mark.one_build
def test_women_by_default():
    X, y = datasets.load_women()
    model = GDRegressor().fit(X, y)
    assert_allclose([model.coef_[0], model.intercept_[0]], [3.45, -87.51666666666667], rtol=1e-12)
