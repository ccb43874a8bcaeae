"""What a newcomer gets wrong: each call is refused in one sentence with a name, and leaves the model as it was."""

import warnings
from decimal import Decimal

import numpy as np
import pytest
import scipy.sparse
from numpy.testing import assert_array_equal
from sklearn.exceptions import NotFittedError

from fastgd import GDClassifier, GDRegressor, losses, optimizers, schedules

pytestmark = pytest.mark.one_build

N = 60
KINDS = [GDRegressor, GDClassifier]
RNG = np.random.default_rng(0)
X = RNG.normal(size=(N, 3))
Y = X @ [1, 2, -1] + 0.1 * RNG.normal(size=N)
LABELS = np.where(Y > 0, "yes", "no")
HOLE, FAR = X.copy(), X.copy()
HOLE[3, 2], FAR[3, 2] = np.nan, np.inf
NAN, INF = float("nan"), float("inf")


def target(kind):
    return Y if kind is GDRegressor else LABELS


def refused(call, error, words):
    """The call raises, at once, with one sentence that has the words."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(error, match=words) as caught:
            call()
    assert "\n" not in str(caught.value)


# ---------------------------------------------------------------------------------------------------------- parameters

BAD_PARAMETERS = {
    ValueError: {
        "loss": ["absolute", None, "Huber", 3], "penalty": ["l3", 2, "none", True], "alpha": [-1e-4, NAN, INF],
        "l1_ratio": [1.5, -0.1, NAN], "solver": ["newton-cg", None, "SGD"], "batch_size": [0, -8],
        "learning_rate": ["optimal", "constant", 0.0, -1, INF, NAN, lambda step: -1.0, lambda step: NAN],
        "optimizer": ["sgd", "Adam"], "max_iter": [0, -1], "tol": [-1e-3, NAN, INF],
        "validation_fraction": [0.0, 1.0, -0.5, 2, NAN], "n_iter_no_change": [0], "n_jobs": [0], "verbose": [-1],
        "random_state": ["seed", -1, 1.5, 2**40], "target": [NAN, INF], "max_seconds": [-1, NAN, INF],
        "checkpoint": ["no/such/folder/fit.npz", "", "."], "resume": [True],
    },
    TypeError: {
        "alpha": ["much", None, [1e-4], 1j, True], "l1_ratio": ["a", None], "fit_intercept": ["yes", 1, None],
        "learning_rate": [[0.1], None, True, lambda step: "fast", lambda: 0.1], "optimizer": [None, optimizers.Adam, 1],
        "batch_size": [2.5, "auto", True], "max_iter": [1e3, None, "many"], "tol": ["auto", True],
        "early_stopping": [1, None], "validation_fraction": ["a", None], "n_iter_no_change": [None, 1.5],
        "warm_start": [None, 1], "n_jobs": ["all", 1.5], "verbose": ["loud", None], "shuffle": ["no", 0],
        "target": ["low", True, [1.0]], "max_seconds": ["long", False], "checkpoint": [3, True, ["fit.npz"]],
        "resume": ["yes", 1, None],
        "callbacks": ["print", [1], {"a": print}, lambda: None, [print, lambda a, b: None]],
    },
}  # fmt: skip
OF_ONE = {
    GDRegressor: {ValueError: {"epsilon": [0, -1.0, NAN]}, TypeError: {"epsilon": ["wide", True]}},
    GDClassifier: {
        ValueError: {"class_weight": ["Balanced", 3, [1, 2], {"maybe": 1.0}, {"no": -1.0}, {"no": NAN},
                                      {"no": 0, "yes": 0}],
                     "multi_class": ["multinomial", None]},
        TypeError: {"class_weight": [{"no": "a"}, {"no": None}]},
    },
}  # fmt: skip


def bad_parameters():
    for kind in KINDS:
        for table in (BAD_PARAMETERS, OF_ONE[kind]):
            for error, names in table.items():
                for name, values in names.items():
                    for i, value in enumerate(values):
                        yield pytest.param(kind, name, value, error, id=f"{kind.__name__}-{name}-{error.__name__}-{i}")


@pytest.mark.parametrize(("kind", "name", "value", "error"), list(bad_parameters()))
def test_bad_parameters_are_named(kind, name, value, error):
    def never(state):
        raise AssertionError("a fit has begun")

    model = kind(solver="sgd", random_state=0, callbacks=never).set_params(**{name: value})
    refused(lambda: model.fit(X, target(kind)), error, rf"\b{name}\b")
    assert not [name for name in vars(model) if name.endswith("_")]


@pytest.mark.parametrize(("options", "words"), [
    ({"solver": "gram", "loss": "huber"}, "gram.*squared error"),
    ({"solver": "accelerated", "loss": "epsilon_insensitive"}, "kink"),
    ({"solver": "gram", "learning_rate": 0.1}, "learning_rate"),
    ({"solver": "preconditioned", "optimizer": "adam"}, "optimizer"),
    ({"solver": "gd", "batch_size": 8}, "batch_size"),
    ({"resume": True}, "resume=True needs checkpoint=, the file to go on from"),
    ({"solver": "sgd", "checkpoint": "fit.npz"}, "checkpoint needs a random_state where rows are shuffled"),
    ({"early_stopping": True, "checkpoint": "fit.npz"}, "checkpoint needs a random_state"),
    ({"optimizer": "adam", "penalty": "l1"}, "with a penalty, Adam needs a rate"),
])  # fmt: skip
def test_parameters_that_do_not_go_together(options, words):
    refused(lambda: GDRegressor(**options).fit(X, Y), ValueError, words)


# ---------------------------------------------------------------------------------------------------------------- data

TABLES = [
    (None, ValueError, r"X must be 2-dimensional; got None"),
    (3, ValueError, r"X must be 2-dimensional; got 3 \(int\)"),
    (X[:, 0], ValueError, r"X must be 2-dimensional; got an array of shape \(60,\).*X.reshape\(-1, 1\)"),
    (X[None], ValueError, r"X must be 2-dimensional; got an array of shape \(1, 60, 3\)"),
    (X[:, 0].tolist(), ValueError, r"X must be 2-dimensional; got an array of shape \(60,\)"),
    (X[:, :0], ValueError, r"^X: .*0 feature\(s\)"),
    (X[:0], ValueError, r"^X: .*0 sample\(s\)"),
    (X.T, ValueError, r"^X and y: .*\[3, 60\]"),
    (X[:-1], ValueError, r"^X and y: .*\[59, 60\]"),
    (HOLE, ValueError, r"X contains NaN: X\[3, 2\] is nan"),
    (FAR, ValueError, r"X contains infinity.*: X\[3, 2\] is inf"),
    (HOLE.astype(np.float32), ValueError, r"X contains NaN: X\[3, 2\] is nan"),
    (scipy.sparse.csr_array(HOLE), ValueError, "X contains NaN"),
    (np.ma.masked_greater(X, 1), ValueError, "X has masked values"),
    (X * 1j, ValueError, "X must hold real numbers: Complex"),
    (np.full((N, 2), "a"), ValueError, "X must hold real numbers: could not convert string to float: .*'a'"),
    (np.full((N, 2), "2020-01-01", dtype="M8[D]"), TypeError, r"X must hold real numbers; got dtype datetime64\[D\]"),
    ([[1.0, 2.0], [3.0]], ValueError, "X must hold real numbers: .*inhomogeneous"),
    (np.full((N, 1), 10**400, dtype=object), ValueError, "X must hold real numbers: int too large"),
    ({"a": X[:, 0]}, TypeError, "X must hold real numbers: .*'dict'"),
    ("data.csv", ValueError, "X must hold real numbers: could not convert string to float: 'data.csv'"),
    (scipy.sparse.coo_array(X[:, 0]), ValueError, "X must be 2-dimensional"),
]


@pytest.mark.parametrize(("table", "error", "words"), TABLES, ids=lambda value: type(value).__name__)
@pytest.mark.parametrize("kind", KINDS)
def test_bad_tables_are_named(kind, table, error, words):
    y = target(kind)
    for options in ({}, {"solver": "sgd"}, {"early_stopping": True}):
        refused(lambda options=options: kind(**options).fit(table, y), error, words)
    streamed = kind(learning_rate=0.01)
    classes = {} if kind is GDRegressor else {"classes": ["no", "yes"]}
    refused(lambda: streamed.partial_fit(table, y, **classes), error, words)
    streamed.partial_fit(X, y, **classes)
    before = streamed.coef_.copy()
    refused(lambda: streamed.partial_fit(table, y), error, words)
    assert_array_equal(streamed.coef_, before)
    if "X and y" not in words:
        refused(lambda: kind().fit(X, y).predict(table), error, words)


TARGETS = [
    (None, ValueError, "y to be passed"),
    (Y[:-1], ValueError, "X and y: .*"),
    (1.0, TypeError, "scalar"),
    (np.where(Y > 0, NAN, 1), ValueError, r"y contains NaN: y\["),
    (np.where(Y > 0, INF, 1), ValueError, "y contains inf"),
    (Y[:, None, None], ValueError, "^y: .*dim 3"),
    (Y * 1j, ValueError, "y must hold real numbers: Complex"),
    (np.ma.masked_greater(Y, 1), ValueError, "y has masked values"),
]


@pytest.mark.parametrize(("y", "error", "words"), TARGETS, ids=lambda value: type(value).__name__)
@pytest.mark.parametrize("kind", KINDS)
def test_bad_targets_are_named(kind, y, error, words):
    refused(lambda: kind().fit(X, y), error, words)


NOT_OF_REGRESSORS = [
    (LABELS, TypeError, "y must hold real numbers; got dtype <U3"),
    (LABELS.astype(object), ValueError, "y must hold real numbers: could not convert string to float: 'yes'|'no'"),
    (np.full(N, "2020-01-01", dtype="M8[D]"), TypeError, r"y must hold real numbers; got dtype datetime64\[D\]"),
    (np.full(N, None), ValueError, "y must be finite"),
]
NOT_OF_CLASSIFIERS = [
    (Y, ValueError, "continuous"),
    (np.ones(N), ValueError, "only one class: 1.0"),
    (np.full(N, None), ValueError, "label"),
    (np.array([1, 2] * 30, dtype=object), ValueError, r"y.astype\(int\) say; got 1 \(int\)"),
    (np.column_stack([LABELS, LABELS]), ValueError, r"y should be a 1d array.*\(60, 2\)"),
    (np.array([b"a", b"b"] * 30), TypeError, "bytes"),
    ([Decimal(i) for i in range(N)], ValueError, "label"),
]


@pytest.mark.parametrize(("y", "error", "words"), NOT_OF_REGRESSORS, ids=lambda value: type(value).__name__)
def test_targets_that_are_no_numbers(y, error, words):
    refused(lambda: GDRegressor().fit(X, y), error, words)


@pytest.mark.parametrize(("y", "error", "words"), NOT_OF_CLASSIFIERS, ids=lambda value: type(value).__name__)
def test_targets_that_are_no_labels(y, error, words):
    refused(lambda: GDClassifier().fit(X, y), error, words)


WEIGHTS = [np.ones(3), -np.ones(N), np.full(N, NAN), np.full(N, INF), np.zeros(N), np.full(N, "a"), np.ones((N, 2)),
           [None] * N, np.ones(N) * 1j, np.ma.masked_greater(Y, 1)]  # fmt: skip


@pytest.mark.parametrize("weights", WEIGHTS, ids=range(len(WEIGHTS)))
@pytest.mark.parametrize("kind", KINDS)
def test_bad_weights_are_named(kind, weights):
    y = target(kind)
    refused(lambda: kind().fit(X, y, sample_weight=weights), ValueError, "(?i)sample.weight")
    classes = {} if kind is GDRegressor else {"classes": ["no", "yes"]}
    if isinstance(weights, np.ndarray) and weights.shape == (N,) and not np.any(weights):
        with pytest.warns(UserWarning, match="all weights are 0, so that nothing was learnt"):
            model = kind().partial_fit(X, y, sample_weight=weights, **classes)
        assert not model.coef_.any()
        return
    refused(lambda: kind().partial_fit(X, y, sample_weight=weights, **classes), ValueError, "(?i)sample.weight")


@pytest.mark.parametrize(("call", "words"), [
    (lambda: GDRegressor("poisson").fit(X, Y), "y must not be negative"),
    (lambda: GDRegressor().fit(X.astype(np.float32), np.full(N, 1e300)), r"y\[0\] is 1e\+300, which is too large"),
    (lambda: GDRegressor().partial_fit(X, Y, sample_weight=np.full(N, 1e307)), "sample_weight must have a finite sum"),
    (lambda: GDRegressor().partial_fit(X.astype("f"), Y, sample_weight=np.full(N, 1e60)), "finite sum in float32"),
    (lambda: GDRegressor(losses.Huber(), epsilon=2.0).fit(X, Y), "epsilon is for a loss that is given by its name"),
    (lambda: GDRegressor().fit(X, Y).predict(X[:, :2]), "X has 2 features"),
    (lambda: GDRegressor().fit(X, Y).score(X, Y[:3]), "inconsistent numbers of samples"),
    (lambda: GDRegressor().partial_fit(X, Y).partial_fit(X[:, :2], Y), "X has 2 features"),
    (lambda: GDRegressor().partial_fit(X, Y).partial_fit(X, X), r"y must have 1 column; got shape \(60, 3\)"),
    (lambda: GDRegressor(early_stopping=True).fit(X[:9], Y[:9]), "holds out 1 of 9 samples.*score needs 2"),
    (lambda: GDRegressor(early_stopping=True, validation_fraction=0.99).fit(X, Y), "validation_fraction=0.99"),
    (lambda: GDRegressor(learning_rate=schedules.plateau(0.1)).partial_fit(X, Y), "learning_rate looks at the losses"),
    (lambda: GDRegressor(optimizer="adam", penalty="l2").partial_fit(X, Y), "with a penalty, Adam needs a rate"),
    (lambda: GDClassifier("hinge", multi_class="softmax").fit(X, LABELS), "softmax"),
    (lambda: GDClassifier().partial_fit(X, LABELS), "classes must be passed"),
    (lambda: GDClassifier().partial_fit(X, LABELS, classes=["no", "yes"]).partial_fit(X, LABELS, classes=["no", "ja"]),
     "first call"),
    (lambda: GDClassifier(class_weight="balanced").partial_fit(X, LABELS, classes=["no", "yes"]), "balanced"),
    (lambda: GDClassifier(early_stopping=True).fit(X[:5], list("aabbb")), "validation_fraction=0.1 of 5 samples"),
    (lambda: GDClassifier(early_stopping=True).fit(X, np.where(np.arange(N) == 0, "rare", LABELS)), "only 1 member"),
    (lambda: GDRegressor().fit(X, Y).summary(y=Y), "X must be given"),
    (lambda: GDRegressor().fit(X, Y).summary(sample_weight=np.ones(N)), "X must be given"),
    (lambda: GDClassifier(penalty=None).fit(X[:, :1], LABELS).summary(X[:, :1], Y > 0), "not among the classes"),
], ids=range(22))  # fmt: skip
def test_calls_that_do_not_fit_are_explained(call, words):
    refused(call, ValueError, words)


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_not_fitted_says_so(kind, tmp_path):
    for call in (
        lambda: kind().predict(X), lambda: kind().score(X, target(kind)), lambda: kind().summary(),
        lambda: kind().save(tmp_path / "m.json"), lambda: kind().to_onnx(),
    ):  # fmt: skip
        refused(call, NotFittedError, "is not fitted yet")
    for path in (None, 3):
        refused(lambda path=path: kind.load(path), TypeError, "path must be the name of a file")


# ----------------------------------------------------------------------------------------------- what a failure leaves


def broken(state):
    raise RuntimeError("a callback of the user's")


@pytest.mark.parametrize("early_stopping", [False, True])
def test_a_fit_that_fails_leaves_the_model_as_it_was(early_stopping):
    """Classes of one fit beside weights of another would predict without a word."""
    model = GDClassifier(early_stopping=early_stopping, random_state=0).fit(X, LABELS)
    before = model.predict(X)
    model.set_params(callbacks=broken)
    with pytest.raises(RuntimeError, match="a callback of the user's"):
        model.fit(X[:, :2], np.digitize(Y, [-1, 1]))
    assert_array_equal(model.predict(X), before)
    assert model.n_features_in_ == 3 and model.classes_.tolist() == ["no", "yes"]
    fresh = GDClassifier(early_stopping=early_stopping, callbacks=broken)
    with pytest.raises(RuntimeError, match="a callback of the user's"):
        fresh.fit(X, LABELS)
    with pytest.raises(NotFittedError):
        fresh.predict(X)


def test_a_summary_of_other_labels_changes_no_classes():
    model = GDClassifier(penalty=None, max_iter=20, tol=None).fit(X[:, :1], LABELS)
    with pytest.raises(ValueError, match="not among the classes"):
        model.summary(X[:, :1], Y > 0)
    assert model.classes_.tolist() == ["no", "yes"]
