"""partial_fit called again and again, with everything that may change between two calls."""

import copy
import pickle

import numpy as np
import pytest
import scipy.sparse
from numpy.testing import assert_allclose, assert_array_equal

from fastgd import DivergenceWarning, GDClassifier, GDRegressor, optimizers, schedules

N, D = 96, 3
RULES = ["gd", "momentum", "nesterov", "adagrad", "adadelta", "rmsprop", "adam", "adamax", "nadam", "amsgrad", "adamw",
         "asgd"]  # fmt: skip


def data(dtype=np.float64):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(N, D)).astype(dtype)
    return X, (X @ np.array([1, -2, 0.5], dtype) + 1).astype(dtype)


def batches(*arrays, length=16):
    return [tuple(array[i : i + length] for array in arrays) for i in range(0, N, length)]


def fed(model, pieces, **options):
    for piece in pieces:
        model.partial_fit(*piece, **options)
    return model


def falling(step):
    return 0.05 / (1 + 0.1 * step)


COPIES = {
    "pickle": lambda model: pickle.loads(pickle.dumps(model)),
    "deepcopy": copy.deepcopy,
    "copy": copy.copy,
}


@pytest.mark.one_build
@pytest.mark.parametrize("rate", ["auto", 0.01, falling])
@pytest.mark.parametrize("optimizer", RULES)
@pytest.mark.parametrize("how", COPIES)
def test_a_copied_stream_goes_on_as_the_stream_does(how, optimizer, rate):
    X, y = data()
    pieces = batches(X, y)
    model = fed(GDRegressor(learning_rate=rate, optimizer=optimizer, batch_size=4), pieces[:3])
    twin = COPIES[how](model)
    assert_array_equal(twin.coef_, model.coef_)
    before = model.coef_.copy()
    fed(twin, pieces[3:])
    assert_array_equal(model.coef_, before)  # they learn apart
    assert np.any(twin.coef_ != before)
    assert_array_equal(twin.coef_, fed(model, pieces[3:]).coef_)
    assert_array_equal(twin.intercept_, model.intercept_)


@pytest.mark.one_build
def test_a_copied_stream_of_a_classifier_goes_on():
    X, y = data()
    labels = np.array(["low", "middle", "top"])[np.digitize(y, [0.0, 2.0])]
    for target in (labels, y > 0, (y > 0) * 1):
        pieces = batches(X, target)
        model = fed(GDClassifier(optimizer="adam", learning_rate=0.1), pieces[:3], classes=np.unique(target))
        twin = pickle.loads(pickle.dumps(model))
        assert_array_equal(fed(twin, pieces[3:]).coef_, fed(model, pieces[3:]).coef_)


@pytest.mark.one_build
def test_weights_that_were_set_by_hand_survive_a_copy():
    X, y = data()
    model = GDRegressor(learning_rate=0.01).partial_fit(X, y)
    model.coef_ = np.array([7.0, 8.0, 9.0])
    assert_array_equal(pickle.loads(pickle.dumps(model)).coef_, [7.0, 8.0, 9.0])


def sgd(X, y, w, b, rate, l2=0.0):
    """Steps on single rows, ½(y − f)²; returns the weights at their end."""
    for x, target in zip(X, y, strict=True):
        e = x @ w + b - target
        w, b = w - rate * (e * x + l2 * w), b - rate * e
    return w, b


@pytest.mark.parametrize("assign", [False, True])
def test_parameters_that_change_count_from_the_next_call(assign):
    X, y = data()

    def change(model, **parameters):
        if not assign:
            return model.set_params(**parameters)
        for name, value in parameters.items():
            setattr(model, name, value)
        return model

    model = GDRegressor(learning_rate=0.01).partial_fit(X, y)
    w, b = sgd(X, y, np.zeros(D), 0.0, 0.01)
    assert_allclose(model.coef_, w, rtol=1e-10)
    change(model, learning_rate=0.02).partial_fit(X, y)
    w, b = sgd(X, y, w, b, 0.02)
    assert_allclose(model.coef_, w, rtol=1e-10)
    change(model, penalty="l2", alpha=0.3).partial_fit(X, y)
    w, b = sgd(X, y, w, b, 0.02, 0.3)
    assert_allclose(model.coef_, w, rtol=1e-10)
    assert_allclose(model.intercept_, b, rtol=1e-10)
    change(model, alpha=-1.0)
    with pytest.raises(ValueError, match="alpha"):
        model.partial_fit(X, y)
    assert_allclose(model.coef_, w, rtol=1e-10)


@pytest.mark.one_build
def test_class_weights_that_change_count_from_the_next_call():
    X, y = data()
    y = (y > 0) * 1
    model = GDClassifier(learning_rate=0.01).partial_fit(X, y, classes=[0, 1])
    before = model.coef_.copy()
    model.set_params(class_weight={0: 0.0, 1: 0.0}).partial_fit(X, y)
    assert_allclose(model.coef_, before * (1 - 0.01 * 1e-4) ** N, rtol=1e-10)  # what the penalty takes


@pytest.mark.parametrize("optimizer", ["gd", "momentum", "adam", "asgd"])
@pytest.mark.parametrize("change", ["alpha", "dtype", "callbacks"])
def test_a_schedule_and_a_rule_go_on_where_something_else_changes(change, optimizer):
    """The state of the rule and the step of the schedule are those of a stream in which nothing has changed."""
    X, y = data()
    options = {"learning_rate": schedules.inverse_time_decay(0.1, 0.5), "optimizer": optimizer, "penalty": "l2"}
    pieces = batches(X, y)
    whole = fed(GDRegressor(alpha=1e-9, **options), pieces)
    model = fed(GDRegressor(alpha=1e-9, **options), pieces[:3])
    if change == "alpha":
        model.set_params(alpha=2e-9)
    elif change == "callbacks":
        model.set_params(callbacks=[print])
    else:
        pieces = batches(*data(np.float32))
    fed(model, pieces[3:])
    assert model.coef_.dtype == pieces[-1][0].dtype
    assert_allclose(model.coef_, whole.coef_, rtol=1e-5 if change == "dtype" else 1e-6)


@pytest.mark.one_build
@pytest.mark.parametrize("rate", ["auto", 0.01])
def test_rows_of_every_kind_in_one_stream(rate):
    X, y = data()
    plain = fed(GDRegressor(learning_rate=rate), batches(X, y))
    kinds = [
        lambda A, t: (scipy.sparse.csr_array(A), t),
        lambda A, t: (np.asfortranarray(A), t.tolist()),
        lambda A, t: (A.tolist(), t),
        lambda A, t: (scipy.sparse.csc_matrix(A), t[:, None]),
        lambda A, t: (A.astype(object), t.astype(np.longdouble)),
        lambda A, t: (np.repeat(A, 2, axis=1)[:, ::2], np.repeat(t, 2)[::2]),
    ]
    mixed = GDRegressor(learning_rate=rate)
    for kind, piece in zip(kinds, batches(X, y), strict=True):
        mixed.partial_fit(*kind(*piece))
    assert mixed.coef_.shape == (D,)
    assert_allclose(mixed.coef_, plain.coef_, rtol=1e-10)


@pytest.mark.one_build
def test_targets_are_looked_at_in_every_call():
    X, y = data()
    counts = GDRegressor("poisson", learning_rate=1e-3).partial_fit(X, y + 20)
    plain = GDRegressor(learning_rate=1e-3).partial_fit(X, y)
    narrow = GDRegressor(learning_rate=1e-3).partial_fit(X.astype(np.float32), y)
    huber, tube = (GDRegressor(loss, learning_rate=1e-3).partial_fit(X, y) for loss in ("huber", "epsilon_insensitive"))
    for model, target, words in [
        (huber, np.full(N, np.inf), "y contains infinity"),
        (tube, np.full(N, -np.inf), "y contains infinity"),
        (counts, y, "y must not be negative"),
        (counts, np.full(N, np.nan), "y contains NaN"),
        (plain, y * 1j, "(?i)complex"),
        (plain, np.full(N, np.inf), r"y contains infinity: y\[0\] is inf"),
        (plain, np.full(N, "tall"), "y must hold real numbers; got dtype <U4"),
        (narrow, np.full(N, 1e300), r"y\[0\] is 1e\+300, which is too large for float32"),
    ]:
        table = X.astype(np.float32) if model is narrow else X
        before = model.coef_.copy()
        with pytest.raises((ValueError, TypeError), match=words):
            model.partial_fit(table, target)
        assert_array_equal(model.coef_, before)
        model.partial_fit(table, y + 20)  # and the stream goes on
        assert np.any(model.coef_ != before)


@pytest.mark.one_build
def test_labels_that_are_not_among_the_classes_are_named():
    X, y = data()
    words, numbers = np.where(y > 0, "yes", "no"), (y > 0) * 1
    for classes, labels in [
        ([0, 1], words), ([0, 1], words.astype(object)), ([0, 1], numbers.astype(str)), ([0, 1], numbers + 5),
        (["no", "yes"], numbers), (["no", "maybe"], words),
    ]:  # fmt: skip
        known = np.array(classes)[numbers]
        online = GDClassifier(learning_rate=0.01).partial_fit(X, known, classes=classes)
        before = online.coef_.copy()
        for model, options in ((GDClassifier(learning_rate=0.01), {"classes": classes}), (online, {})):
            with pytest.raises(ValueError, match=r"y holds labels that are not among the classes \["):
                model.partial_fit(X, labels, **options)
        assert_array_equal(online.coef_, before)
    with pytest.raises(ValueError, match=r"not among the classes.*: None"):
        online.partial_fit(X, np.full(N, None))


@pytest.mark.one_build
def test_classes_are_a_list_of_labels():
    X, y = data()
    words = np.where(y > 0, "yes", "no")
    for classes in (["no", "yes"], ("yes", "no"), {"no", "yes"}, np.array(["yes", "no"], dtype=object)):
        assert_array_equal(GDClassifier().partial_fit(X, words, classes=classes).classes_, ["no", "yes"])
    for classes, words_of_error in [
        (2, "a list of labels; got 2"), ("yes", "a list of labels; got 'yes'"), ([["no", "yes"]], "a list of labels"),
        (["no"], r"two labels or more; got \['no'\]"), ([0.0, np.nan], "not hold NaN"), ([], "two labels or more"),
    ]:  # fmt: skip
        with pytest.raises(ValueError, match=f"classes must .*{words_of_error}"):
            GDClassifier().partial_fit(X, words, classes=classes)


@pytest.mark.one_build
def test_a_first_call_that_fails_is_no_first_call():
    X, y = data()
    model = GDClassifier(learning_rate=0.01)
    with pytest.raises(ValueError, match="not among the classes"):
        model.partial_fit(X, np.full(N, 9), classes=[0, 1])
    assert not vars(model).keys() & {"classes_", "coef_", "n_features_in_"}
    model.partial_fit(X[:, :2], np.where(y > 0, "yes", "no"), classes=["no", "yes"])
    assert model.n_features_in_ == 2 and model.classes_.tolist() == ["no", "yes"]


@pytest.mark.one_build
def test_a_schedule_that_wants_losses_is_refused():
    X, y = data()
    with pytest.raises(ValueError, match="learning_rate looks at the losses of epochs, which partial_fit does not"):
        GDRegressor(learning_rate=schedules.plateau(0.1)).partial_fit(X, y)


@pytest.mark.one_build
def test_an_overflow_is_undone_in_every_kind_of_stream():
    X, y = data()
    for optimizer in (optimizers.GD(), optimizers.Momentum(), optimizers.ASGD()):
        model = fed(GDRegressor(learning_rate=0.01, optimizer=optimizer), batches(X, y))
        before = model.coef_.copy()
        with pytest.warns(DivergenceWarning, match=r"partial_fit diverged.*before this call are kept"):
            model.partial_fit(1e200 * X, y)
        assert_array_equal(model.coef_, before)
        assert np.all(np.isfinite(fed(model, batches(X, y)).coef_))
