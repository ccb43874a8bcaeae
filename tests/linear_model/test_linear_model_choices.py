"""What a fit chooses for its user, and what every fit leaves behind, whichever way it went."""

import inspect

import numpy as np
import pytest
import scipy.sparse
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.linear_model import SGDClassifier, SGDRegressor

from fastgd import GDClassifier, GDRegressor, LinearObjective
from fastgd.data import threads

REGRESSION = ("squared_error", "huber", "epsilon_insensitive", "poisson")
CLASSIFICATION = ("log_loss", "hinge", "squared_hinge")
KINKED = ("hinge", "epsilon_insensitive")
N, D = 120, 4
HISTORY = {"loss", "validation_score", "grad_norm", "learning_rate", "seconds"}


def estimator(loss, **options):
    return (GDRegressor if loss in REGRESSION else GDClassifier)(loss, **options)


def table(loss):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(N, D)) * [1, 10, 0.1, 1] + [0, 0, 5, 1]
    h = (X - X.mean(axis=0)) / X.std(axis=0) @ [1, -0.5, 0.3, 0] + 0.4
    if loss in CLASSIFICATION:
        return X, (h + rng.logistic(size=N) > 0) * 1
    return X, rng.poisson(np.exp(h)) * 1.0 if loss == "poisson" else h + 0.3 * rng.normal(size=N)


def solvers(loss):
    if loss in KINKED:
        return ("auto", "preconditioned", "sgd")
    first = ("gram",) if loss == "squared_error" else ()
    return (*first, "auto", "preconditioned", "accelerated", "gd", "sgd")  # "coordinate" is for l1 alone


CASES = [(loss, solver) for loss in (*REGRESSION, *CLASSIFICATION) for solver in solvers(loss)]

# ----------------------------------------------------------------------------------------------------------- the route

ROUTES = [
    ("squared_error", {}, (200, 5), "gram"), ("squared_error", {"penalty": "l2"}, (200, 5), "gram"),
    ("squared_error", {"penalty": "l1"}, (200, 5), "gram"), ("squared_error", {}, (40, 60), "gram"),
    ("squared_error", {}, (12_000, 300), "gram"), ("squared_error", {"penalty": "l2"}, (12_000, 300), "preconditioned"),
    ("squared_error", {"penalty": "l1"}, (12_000, 300), "coordinate"),
    ("squared_error", {"penalty": "l2"}, (30, 2100), "preconditioned"),
    ("squared_error", {"penalty": "elasticnet"}, (300, 600), "coordinate"),
    ("squared_error", {"penalty": "l2"}, (300, 600), "preconditioned"),
    ("squared_error", {"penalty": "l1", "alpha": 1.0}, (30, 2100), "coordinate"),
    ("huber", {}, (200, 5), "preconditioned"), ("poisson", {}, (200, 5), "preconditioned"),
    ("log_loss", {}, (200, 5), "preconditioned"), ("squared_hinge", {"penalty": "l1"}, (200, 5), "coordinate"),
    ("hinge", {}, (200, 5), "preconditioned"), ("epsilon_insensitive", {"penalty": "l2"}, (200, 5), "preconditioned"),
    ("log_loss", {"early_stopping": True}, (200, 5), "accelerated"),
    ("squared_error", {"early_stopping": True}, (200, 5), "accelerated"),
    ("hinge", {"early_stopping": True}, (200, 5), "preconditioned"),
    ("squared_error", {"learning_rate": 0.01}, (200, 5), "gd"), ("log_loss", {"optimizer": "momentum"}, (200, 5), "gd"),
    ("hinge", {"learning_rate": 0.01}, (200, 5), "sgd"), ("squared_error", {"batch_size": 8}, (200, 5), "sgd"),
]  # fmt: skip


@pytest.mark.one_build
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning", "ignore::fastgd.errors.ConditionWarning")
@pytest.mark.parametrize(("loss", "options", "shape", "route"), ROUTES)
def test_auto_takes_the_route_that_the_documentation_names(loss, options, shape, route):
    rng = np.random.default_rng(1)
    X = rng.normal(size=shape)
    y = (X[:, 0] + rng.normal(size=len(X)) > 0) * 1
    model = estimator(loss, max_iter=2, random_state=0, **options).fit(X, y)
    assert model.result_.solver == route


@pytest.mark.one_build
@pytest.mark.parametrize(("penalty", "columns", "route"), [
    (None, 400, "gram"), ("l1", 400, "coordinate"), ("l2", 400, "preconditioned"), ("l2", 100, "gram"),
])  # fmt: skip
def test_entries_of_csr_rows_tell_what_a_product_costs(penalty, columns, route):
    X = scipy.sparse.random(4000, columns, density=0.05, format="csr", random_state=0)
    model = GDRegressor(penalty=penalty, alpha=1e-3).fit(X, X @ np.arange(float(columns)))
    assert model.result_.solver == route


@pytest.mark.one_build
@pytest.mark.parametrize(("ours", "theirs"), [(GDRegressor, SGDRegressor), (GDClassifier, SGDClassifier)])
def test_parameters_are_called_as_in_scikit_learn(ours, theirs):
    """All that there are; a rate that is a function needs no names for its constants, nor an optimizer `average`."""
    parameters, peers = (set(inspect.signature(kind).parameters) for kind in (ours, theirs))
    assert peers - parameters <= {"eta0", "power_t", "average", "epsilon"}
    own = {"solver", "optimizer", "batch_size", "callbacks", "n_jobs", "multi_class"}
    own |= {"target", "max_seconds", "checkpoint", "resume", "missing", "drop", "dates", "unknown"}
    own |= {"positive", "bounds", "penalty_weights", "groups"}
    assert parameters - peers <= own
    for name in ("alpha", "l1_ratio", "max_iter", "validation_fraction", "n_iter_no_change", "shuffle", "loss"):
        default, peer = (inspect.signature(kind).parameters[name].default for kind in (ours, theirs))
        assert default == peer or (name, peer) == ("loss", "hinge")


# ------------------------------------------------------------------------------------------------- what a fit leaves


@pytest.mark.one_build
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("early_stopping", [False, True])
@pytest.mark.parametrize(("loss", "solver"), CASES)
def test_every_fit_has_a_whole_history(loss, solver, early_stopping):
    X, y = table(loss)
    options = {"early_stopping": early_stopping, "validation_fraction": 0.3, "random_state": 0, "max_iter": 15}
    model = estimator(loss, solver=solver, penalty="l2", alpha=0.01, **options).fit(X, y)
    assert set(model.history_) == HISTORY
    assert all(values.shape == (model.n_iter_,) and values.dtype == np.float64 for values in model.history_.values())
    assert np.all(np.isfinite(model.history_["loss"])) and np.all(model.history_["grad_norm"] >= 0)
    assert np.all(np.isnan(model.history_["validation_score"])) != early_stopping
    assert model.result_.message and model.result_.n_passes > 0
    assert model.result_.solver == solver or solver == "auto" or loss in KINKED


@pytest.mark.one_build
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize(("loss", "solver"), CASES)
def test_threads_change_no_bit(loss, solver, sparse, monkeypatch):
    rng = np.random.default_rng(2)
    X = rng.normal(size=(20_000, 18))
    y = rng.poisson(np.exp(0.3 * X[:, 0])) * 1.0 if loss in REGRESSION else (X[:, 0] + rng.normal(size=len(X)) > 0) * 1
    X = scipy.sparse.csr_array(np.where(np.abs(X) < 0.1, 0, X)) if sparse else X
    assert len(LinearObjective(X, y).edges) > 2  # several blocks
    options = {"penalty": "l2", "alpha": 0.01, "max_iter": 3, "random_state": 0}
    options |= {"batch_size": 500} if solver == "sgd" else {}
    alone = estimator(loss, solver=solver, n_jobs=1, **options).fit(X, y)
    monkeypatch.setattr(threads, "THREAD_VALUES", 1)
    for n_jobs in (2, 3):
        model = estimator(loss, solver=solver, n_jobs=n_jobs, **options).fit(X, y)
        assert_array_equal(model.coef_, alone.coef_)
        assert_array_equal(model.intercept_, alone.intercept_)
        assert_array_equal(model.history_["loss"], alone.history_["loss"])


CONSTANTS = {
    "squared_error": np.mean, "huber": None, "epsilon_insensitive": None, "poisson": lambda y: np.log(np.mean(y)),
    "log_loss": lambda y: np.log(np.mean(y) / (1 - np.mean(y))), "squared_hinge": lambda y: 2 * np.mean(y) - 1,
    "hinge": lambda y: np.sign(np.mean(y) - 0.5),
}  # fmt: skip


@pytest.mark.one_build
@pytest.mark.parametrize("penalty", ["l2", "l1", "elasticnet"])
@pytest.mark.parametrize(("loss", "solver"), [case for case in CASES if case[1] != "sgd"])
def test_the_intercept_is_never_penalised(loss, solver, penalty):
    """Under a penalty that allows no weights the intercept is the best constant of the loss."""
    X, y = table(loss)
    y = y + 100 if loss in ("squared_error", "huber", "epsilon_insensitive") else y
    model = estimator(loss, solver=solver, penalty=penalty, alpha=1e9, tol=1e-10, max_iter=5000).fit(X, y)
    assert_allclose(model.coef_, 0, atol=1e-7)
    if CONSTANTS[loss] is not None:
        assert_allclose(model.intercept_, CONSTANTS[loss](y), rtol=1e-4)
        return
    b, r = model.intercept_[0], y - model.intercept_[0]
    slopes = np.clip(r, -1.35, 1.35) if loss == "huber" else np.sign(r) * (np.abs(r) > 0.1)
    assert abs(slopes.mean()) < 2 / N and y.min() < b < y.max()
