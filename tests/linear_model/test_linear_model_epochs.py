"""Epochs of stochastic descent that nobody watches: their losses are taken together, and the history is the same."""

import warnings

import numpy as np
import pytest
import scipy.sparse
from numpy.testing import assert_allclose, assert_array_equal

from fastgd import GDClassifier, GDRegressor, LinearObjective, schedules
from fastgd.data import Dense
from fastgd.engine import monitor
from fastgd.engine.epochs import NUMBERS, TOGETHER
from fastgd.engine.result import Status

N, D = 60, 5
# One product of matrices adds up in another order than the products with each column.
SAME = {np.float64: 1e-12, np.float32: 1e-4}


def data(dtype=np.float64):
    rng = np.random.default_rng(2)
    X = np.where(rng.random((N, D)) < 0.3, 0, rng.normal(0.3, 1, (N, D))).astype(dtype)
    return X, (X @ rng.normal(size=D) + 0.5 * rng.normal(size=N)).astype(dtype)


def ignore(state):
    pass


def fitted(model, X, y, **options):
    """The same fit with its epochs looked at together, and one by one; and what the warnings said."""
    found = []
    for watched in (None, ignore):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            model = type(model)(**model.get_params()).set_params(callbacks=watched).fit(X, y, **options)
        found += [model, [str(warning.message) for warning in caught]]
    together, said, each, said_then = found
    assert said == said_then
    return together, each


def assert_same_fit(together, each, rtol):
    assert_array_equal(together.coef_, each.coef_)
    assert_array_equal(together.intercept_, each.intercept_)
    assert (together.n_iter_, together.result_.status, together.result_.message) == (
        each.n_iter_, each.result_.status, each.result_.message
    )  # fmt: skip
    one, other = together.history_, each.history_
    assert_array_equal(one["learning_rate"], other["learning_rate"])
    assert len(one["loss"]) == together.n_iter_
    assert_allclose(one["loss"], other["loss"], rtol=rtol)
    assert_allclose(one["grad_norm"], other["grad_norm"], rtol=100 * rtol, atol=rtol)
    assert np.all(np.isnan(one["validation_score"])) and np.all(np.diff(one["seconds"]) >= 0)


FITS = {
    "plain": {},
    "l2": {"penalty": "l2", "alpha": 0.3, "batch_size": 7},
    "l1": {"penalty": "l1", "alpha": 0.05},
    "elastic net": {"penalty": "elasticnet", "alpha": 0.05, "fit_intercept": False, "batch_size": 7},
    "momentum": {"loss": "huber", "epsilon": 0.4, "penalty": "l2", "optimizer": "momentum", "batch_size": 7},
    "average": {"loss": "epsilon_insensitive", "epsilon": 0.3, "optimizer": "asgd", "batch_size": 7},
    "schedule": {"learning_rate": schedules.inverse_time_decay(0.05, 0.01), "optimizer": "adam", "batch_size": 7},
    "in order": {"n_jobs": 2, "shuffle": False, "batch_size": 7},
}


@pytest.mark.parametrize("name", FITS)
@pytest.mark.parametrize("epochs", [1, TOGETHER, 2 * TOGETHER + 5])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("kind", [np.asarray, scipy.sparse.csr_array])
def test_the_history_is_that_of_epochs_looked_at_one_by_one(kind, dtype, epochs, name):
    X, y = data(dtype)
    s = np.random.default_rng(3).uniform(0, 2, N)
    options = {"learning_rate": 0.01, "solver": "sgd", "max_iter": epochs, "tol": None, "random_state": 1} | FITS[name]
    together, each = fitted(GDRegressor(**options), kind(X), y, sample_weight=s)
    assert_same_fit(together, each, SAME[dtype])
    # Beside the start, and the steps of each epoch, X is read once for all epochs of a group.
    assert each.result_.n_passes == 1 + 2 * epochs
    assert together.result_.n_passes == 1 + epochs + -(-epochs // TOGETHER)


@pytest.mark.parametrize("loss", ["log_loss", "hinge", "squared_hinge"])
@pytest.mark.parametrize("classes", [2, 3])
def test_classes_are_looked_at_as_well(classes, loss):
    # Three have an output each, of softmax or of one class against the rest.
    X, y = data()
    y = np.digitize(y, np.quantile(y, np.linspace(0, 1, classes + 1)[1:-1]))
    model = GDClassifier(loss, learning_rate=0.02, solver="sgd", max_iter=20, tol=None, random_state=1)
    assert_same_fit(*fitted(model, X, y), SAME[np.float64])


def test_several_targets():
    X, y = data()
    model = GDRegressor(learning_rate=0.01, solver="sgd", max_iter=20, tol=None, random_state=1)
    together, each = fitted(model, X, np.column_stack([y, -y]))
    assert_same_fit(together, each, SAME[np.float64])


def test_long_weights_do_not_wait_in_numbers():
    X, y = scipy.sparse.eye_array(N, NUMBERS // 2 + 1, format="csr"), np.arange(N, dtype=float)
    together, each = fitted(GDRegressor(learning_rate=0.1, solver="sgd", max_iter=4, tol=None, random_state=1), X, y)
    assert_same_fit(together, each, SAME[np.float64])
    assert together.result_.n_passes == 9


@pytest.mark.parametrize("who", ["tol", "verbose", "early_stopping", "a schedule"])
def test_who_waits_for_an_epoch_gets_it_at_once(who, capsys):
    X, y = data()
    schedule = schedules.plateau(0.02, factor=0.5, patience=1)
    options = {"learning_rate": schedule} if who == "a schedule" else {who: 1e-1 if who == "tol" else True}
    model = GDRegressor(
        **{"learning_rate": 0.02, "solver": "sgd", "max_iter": 8, "tol": None, "random_state": 1} | options
    )
    model.fit(X, y)
    assert model.result_.n_passes >= model.n_iter_ > 1


# The last epoch whose loss is a number.
DIVERGING = {
    "at once": (1e3, "gd", 1),
    "overflow at once": (1e30, "gd", 1),
    "slowly": (0.3, "momentum", None),
    "late": (lambda step: 0.05 if step < 12 * (TOGETHER + 3) else 1e3, "gd", TOGETHER + 4),
    "overflow late": (lambda step: 0.05 if step < 12 * 6 else 1e30, "gd", 6),
}


@pytest.mark.parametrize("name", DIVERGING)
def test_a_divergence_ends_the_history_in_its_epoch_and_keeps_the_best_weights(name):
    X, y = data()
    rate, optimizer, epoch = DIVERGING[name]
    options = {"learning_rate": rate, "optimizer": optimizer, "solver": "sgd", "max_iter": 50, "tol": None}
    together, each = fitted(GDRegressor(shuffle=False, batch_size=5, **options), X, y)
    assert together.result_.status == Status.DIVERGED and together.n_iter_ == (epoch or each.n_iter_) < 50
    assert_same_fit(together, each, SAME[np.float64])
    assert np.all(np.isfinite(together.coef_))
    # The best of the epochs, or the start, where all weights are 0.
    kept = 0.5 * np.mean((X @ together.coef_ + together.intercept_ - y) ** 2)
    assert_allclose(kept, np.nanmin([*together.history_["loss"], 0.5 * np.mean(y**2)]), rtol=1e-12)


class Interrupt:
    """Raises KeyboardInterrupt in place of the call of that number."""

    def __init__(self, function, number):
        self.function, self.left = function, number

    def __get__(self, instance, owner):
        return lambda *args: self(instance, *args)

    def __call__(self, *args):
        self.left -= 1
        if self.left == 0:
            raise KeyboardInterrupt
        return self.function(*args)


def interrupted(model, X, y):
    with pytest.raises(KeyboardInterrupt) as caught:
        model.fit(X, y)
    assert caught.value.result is model.result_
    return model


@pytest.mark.parametrize("epochs", [0, 1, 5, TOGETHER + 3])
def test_an_interrupt_loses_no_epoch(epochs, monkeypatch):
    X, y = data()
    options = {"learning_rate": 0.01, "solver": "sgd", "max_iter": 50, "tol": None, "random_state": 1}
    models = []
    for watched in (None, ignore):
        with monkeypatch.context() as patch:
            patch.setattr(Dense, "stochastic", Interrupt(Dense.stochastic, epochs + 1))
            models.append(interrupted(GDRegressor(callbacks=watched, **options), X, y))
    together, each = models
    assert len(each.history_["loss"]) == max(1, epochs) and each.result_.status == Status.INTERRUPTED
    if epochs:
        assert_same_fit(together, each, SAME[np.float64])
    assert_array_equal(together.coef_, each.coef_)
    assert together.result_.message == each.result_.message


def test_an_interrupt_while_losses_are_taken_loses_no_epoch(monkeypatch):
    X, y = data()
    options = {"learning_rate": 0.01, "solver": "sgd", "tol": None, "random_state": 1}
    whole = GDRegressor(max_iter=2 * TOGETHER, **options).fit(X, y)
    monkeypatch.setattr(LinearObjective, "sums_of_each", Interrupt(LinearObjective.sums_of_each, 2))
    model = interrupted(GDRegressor(max_iter=50, **options), X, y)
    assert model.n_iter_ == 2 * TOGETHER
    assert_array_equal(model.history_["loss"], whole.history_["loss"])


@pytest.mark.one_build
def test_seconds_are_those_of_the_end_of_an_epoch(monkeypatch):
    X, y = data()
    clock, step, look = [0.0], Dense.stochastic, LinearObjective.sums_of_each

    def stepped(self, *args):
        clock[0] += 1
        step(self, *args)

    def looked(self, *args):
        clock[0] += 100
        return look(self, *args)

    monkeypatch.setattr(Dense, "stochastic", stepped)
    monkeypatch.setattr(LinearObjective, "sums_of_each", looked)
    monkeypatch.setattr(monitor.time, "perf_counter", lambda: clock[0])
    model = GDRegressor(learning_rate=0.01, solver="sgd", tol=None, max_iter=TOGETHER + 3).fit(X, y)
    expected = np.arange(1.0, TOGETHER + 4)
    expected[TOGETHER:] += 100
    assert_array_equal(model.history_["seconds"], expected)


@pytest.mark.one_build
@pytest.mark.parametrize("optimizer", ["gd", "momentum"])
@pytest.mark.parametrize("kind", [np.asarray, scipy.sparse.csr_array])
def test_an_epoch_without_a_rate_ends_near_the_minimum(kind, optimizer):
    # Single rows lead to within a fifth of the minimum and about it; the mean of the weights on the way is far nearer.
    rng = np.random.default_rng(0)
    X = rng.normal(size=(5000, 10)) * 10.0 ** np.arange(-5, 5)
    y = X @ (rng.normal(size=10) / X.std(axis=0)) + rng.normal(size=5000)
    model = GDRegressor(solver="sgd", optimizer=optimizer, random_state=0, tol=0.03).fit(kind(X), y)
    least = GDRegressor().fit(X, y).history_["loss"][-1]
    assert model.n_iter_ <= 3
    assert model.history_["loss"][-1] <= 1.03 * least
    # And steps on all rows lead on from there, as near as is asked for.
    nearer = GDRegressor(solver="sgd", optimizer=optimizer, random_state=0, tol=1e-7).fit(kind(X), y)
    assert nearer.history_["loss"][-1] <= (1 + 1e-7) * least
    assert nearer.n_iter_ <= 80


@pytest.mark.one_build
@pytest.mark.parametrize("fit_intercept", [True, False])
@pytest.mark.parametrize("penalty", [None, "l2"])
def test_columns_of_zeros_have_nothing_to_move_for(penalty, fit_intercept):
    y, tol = np.arange(20.0), 1e-3
    model = GDRegressor(solver="sgd", penalty=penalty, fit_intercept=fit_intercept, tol=tol, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of columns that do not vary, which is another matter
        model.fit(np.zeros((20, 3)), y)
    assert model.result_.status == Status.CONVERGED
    assert np.all(model.coef_ == 0)
    assert fit_intercept or model.intercept_ == 0
    # What is lost by an intercept b is ½(b − mean of y)², and tol is the share of the loss that may be lost.
    best = y.mean() if fit_intercept else 0.0
    assert 0.5 * (model.intercept_[0] - best) ** 2 <= tol * 0.5 * np.mean((model.intercept_[0] - y) ** 2)
