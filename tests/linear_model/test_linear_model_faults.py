"""What fits of tables must not do that are small, empty, collinear, separated or of extreme numbers."""

import math
import warnings

import numpy as np
import pytest
import scipy.optimize
import scipy.sparse
from numpy.testing import assert_allclose

from fastgd import ConditionWarning, GDClassifier, GDRegressor, Status, losses

pytestmark = pytest.mark.one_build


def small_tables(seed, count):
    """(X, y, weights or None, whether there is an intercept) of few rows, with duplicates, zeros and ones, scales."""
    rng = np.random.default_rng(seed)
    for number in range(count):
        n, d = (int(size) for size in rng.integers(1, 12, 2))
        X = rng.standard_normal((n, d)) * 10.0 ** rng.uniform(-3, 3, d)
        if number % 3 == 0:
            X = (rng.random((n, d)) < 0.4) * 1.0
        if number % 4 == 0:
            X[:, -1] = 2 * X[:, 0]
        yield X, rng.integers(-3, 4, n) * 1.0, rng.uniform(0.1, 3, n) if number % 2 else None, bool(number % 5)


def test_no_fit_of_a_small_table_is_lost():
    for X, y, s, intercept in small_tables(0, 60):
        for loss in ("squared_error", "huber", "epsilon_insensitive", "poisson"):
            for penalty in (None, "l1"):
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    model = GDRegressor(loss, penalty=penalty, alpha=0.01, fit_intercept=intercept)
                    model.fit(X, np.abs(y) if loss == "poisson" else y, sample_weight=s)
                assert np.all(np.isfinite(model.coef_))
                assert model.result_.status in (Status.CONVERGED, Status.STALLED) or model.result_.fun < 1e-10


def test_unpenalised_weights_are_those_of_the_least_norm():
    """Of numpy's pseudo-inverse of the centred rows, as its columns are of like size here."""
    worst, rng = 0.0, np.random.default_rng(3)
    for number in range(60):
        n, d = (int(size) for size in rng.integers(2, 20, 2))
        X = rng.standard_normal((n, d)) * rng.uniform(0.3, 3, d) + rng.uniform(-2, 2, d)
        if d > 2 and number % 2:
            X[:, -1] = X[:, 0] - 2 * X[:, 1]
        y, s = rng.standard_normal(n), rng.uniform(0.5, 2, n)
        intercept = bool(number % 3)
        root = np.sqrt(s)[:, None]
        A = root * (X - np.average(X, axis=0, weights=s) * intercept)
        expected = np.linalg.pinv(A, rcond=1e-10) @ (root[:, 0] * (y - np.average(y, weights=s) * intercept))
        for solver in ("auto", "preconditioned"):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ConditionWarning)
                model = GDRegressor(fit_intercept=intercept, solver=solver).fit(X, y, sample_weight=s)
            worst = max(worst, float(np.max(np.abs(model.coef_ - expected))) / float(np.max(np.abs(expected))))
    assert worst <= 1e-7


@pytest.mark.parametrize("kind", [scipy.sparse.csr_array, scipy.sparse.csc_array, scipy.sparse.csr_matrix])
@pytest.mark.parametrize("shape", [(6, 3), (1, 3), (6, 1), (1, 1)])
@pytest.mark.filterwarnings("ignore")
def test_sparse_tables_without_an_entry(kind, shape):
    X, y = kind(shape), np.arange(shape[0]) * 1.0
    for solver in ("auto", "gram", "preconditioned", "accelerated", "gd", "sgd"):
        model = GDRegressor(solver=solver).fit(X, y)
        assert_allclose(model.predict(X), y.mean(), atol=1e-2 if solver == "sgd" else 1e-12)
        model.partial_fit(X, y).predict(X)
    for loss in ("squared_error", "huber", "poisson", "epsilon_insensitive"):
        assert not GDRegressor(loss, penalty="l1", alpha=0.1).fit(X, y).coef_.any()


def separated(kind, rng):
    """(estimator, X, y) with a column that is 1 for some rows of one class, or for counts of 0, alone."""
    n = int(rng.integers(40, 200))
    X = np.column_stack([rng.standard_normal((n, 2)), np.zeros(n)])
    h = X[:, 0] + rng.logistic(size=n)
    if kind == "poisson":
        y = rng.poisson(2, n) * 1.0
        X[np.flatnonzero(y == 0)[:4], 2] = 1
        return GDRegressor("poisson"), X, y
    y = (h > 0) * 1 if kind == "sigmoid" else np.digitize(h, [-1, 1])
    X[np.flatnonzero(y == 1)[: int(rng.integers(2, 9))], 2] = 1
    return GDClassifier(penalty=None), X, y


@pytest.mark.parametrize("kind", ["sigmoid", "softmax", "poisson"])
def test_quasi_complete_separation_is_named(kind):
    rng = np.random.default_rng(5)
    for _ in range(8):
        model, X, y = separated(kind, rng)
        for tol in (1e-4, 1e-7):
            with pytest.warns(ConditionWarning, match=r"no finite weights minimise the loss.*along column x2 "):
                model.set_params(tol=tol).fit(X, y)
        if kind != "softmax":
            with pytest.raises(ValueError, match="summary means nothing"):
                model.summary()
        X[:, 2] = rng.standard_normal(len(X))
        with warnings.catch_warnings():
            warnings.simplefilter("error", ConditionWarning)
            model.fit(X, y)


def test_separation_is_what_linear_programming_finds():
    """A direction of recession is one with (2y − 1)(x·v + b) ≥ 0 in all rows and > 0 in some."""
    rng, found = np.random.default_rng(8), set()
    for _ in range(40):
        n = int(rng.integers(12, 40))
        X = (rng.random((n, 4)) < 0.25) * 1.0
        y = np.arange(n) % 2
        A = (2 * y - 1)[:, None] * np.column_stack([X, np.ones(n)])
        best = scipy.optimize.linprog(-A.sum(axis=0), A_ub=-A, b_ub=np.zeros(n), bounds=(-1, 1))
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            GDClassifier(penalty=None, tol=1e-8).fit(X, y)
        named = any("separation" in str(one.message) or "told apart" in str(one.message) for one in said)
        found.add(named)
        assert named == (best.fun < -1e-9)
    assert found == {True, False}


@pytest.mark.parametrize(
    "options", [{}, {"penalty": "l2", "alpha": 1e-6}, {"loss": "huber"}, {"solver": "accelerated"}]
)
def test_float32_columns_far_off_are_fitted_in_float64(options):
    """What float32 has rounded are the data; float32 weights could not tell their rows apart."""
    rng = np.random.default_rng(0)
    u = rng.standard_normal(300)
    X = np.column_stack([1e6 + 0.05 * u, rng.standard_normal(300)]).astype(np.float32)
    y = u + 0.3 * rng.standard_normal(300)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = GDRegressor(**options).fit(X, y)
        same = GDRegressor(**options).fit(X.astype(float), y)
    assert model.coef_.dtype == np.float64 and np.array_equal(model.coef_, same.coef_)
    assert model.score(X, y) == pytest.approx(same.score(X.astype(float), y), rel=1e-12) and model.score(X, y) > 0.8
    X[:, 0] = 1e6
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert GDRegressor(**options).fit(X, y).coef_.dtype == np.float32


def test_columns_that_are_dropped_are_named():
    rng = np.random.default_rng(0)
    X = (1e18 + 256 * rng.integers(0, 2, (200, 3))).astype(float)
    X[:, 1] = rng.standard_normal(200)
    with pytest.warns(ConditionWarning, match="columns x0, x2 of X vary by no more than the rounding of float64"):
        GDRegressor().fit(X, rng.standard_normal(200))


@pytest.mark.parametrize("kind", [GDRegressor, GDClassifier])
def test_a_batch_without_weight_changes_nothing(kind):
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((20, 3)), np.arange(20) % 2
    classes = {"classes": [0, 1]} if kind is GDClassifier else {}
    model = kind(learning_rate=0.1).partial_fit(X, y, **classes)
    before = model.coef_.copy()
    for zeros in (np.zeros(20), [0] * 20):
        with pytest.warns(UserWarning, match="all weights are 0"):
            model.partial_fit(X, y, sample_weight=zeros)
    assert np.array_equal(model.coef_, before)


@pytest.mark.parametrize(("call", "words"), [
    (lambda X, y: GDRegressor().fit(X, 1e300 * y), r"y must be no larger than 1e\+150 in size"),
    (lambda X, y: GDRegressor("huber").partial_fit(X, 1e300 * y), "measure it in larger units"),
    (lambda X, y: GDRegressor().fit(X.astype("f"), 1e20 * y), r"no larger than 1e\+15 in size in float32"),
    (lambda X, y: GDClassifier(class_weight={0: 1e300, 1: 1.0}).partial_fit(X, y, classes=[0, 1]), "class_weight must"),
    (lambda X, y: GDClassifier(class_weight={0: 1e300, 1: 1.0}).fit(X, y), "class_weight must have weights that are 0"),
])  # fmt: skip
def test_numbers_beyond_use_get_one_sentence(call, words):
    with pytest.raises(ValueError, match=words):
        call(np.random.default_rng(0).standard_normal((20, 2)), np.arange(20) % 2)


def test_the_message_estimates_what_the_weights_are_off_by():
    rng = np.random.default_rng(1)
    X = rng.standard_normal((3000, 5))
    y = X @ [1, 2, 0, 0, -1] + rng.logistic(size=3000) > 0
    message = GDClassifier(tol=1e-2).fit(X, y).result_.message
    assert "A Newton step from here would change the weights by up to" in message


def test_columns_that_are_collinear_in_float32_have_the_least_weights():
    """A column and −3 times it differ by how float32 rounds them: no weights are made of that."""
    for seed in range(5):
        rng = np.random.default_rng(seed)
        X = rng.standard_normal((12, 3)).astype(np.float32)
        X[:, 2] = -3 * X[:, 0] + 0.0
        y = (X.astype(float) @ [1, 2, 0] + 0.3 * rng.standard_normal(12)).astype(np.float32)
        with pytest.warns(ConditionWarning, match="collinear"):
            model = GDRegressor().fit(X, y)
        A = np.column_stack([X[:, :2].astype(float) - X[:, :2].mean(0, dtype=float)])
        first, second = np.linalg.lstsq(A, y - y.mean(dtype=float), rcond=None)[0]
        assert_allclose(model.coef_, [first / 10, second, -0.3 * first], rtol=1e-4, atol=1e-4)
        residual = X.astype(float) @ model.coef_.astype(float) + model.intercept_ - y
        assert model.result_.fun == pytest.approx(0.5 * np.mean(residual**2), rel=1e-5)


def test_a_path_takes_float32_columns_far_off_as_a_fit_does():
    rng = np.random.default_rng(4)
    X = (1e6 + 0.5 * rng.standard_normal((200, 2))).astype(np.float32)
    y = X[:, 0].astype(float) - 1e6 + 0.1 * rng.standard_normal(200)
    model = GDRegressor(penalty="l1", alpha=0.01, tol=1e-10)
    assert_allclose(model.path(X, y, alphas=[0.01]).coefs[:, 0], model.fit(X, y).coef_, rtol=1e-4, atol=1e-6)


def test_classes_apart_by_cloglog_end_at_a_loss_of_zero():
    """Far out e^h overflows in rows of the class that it does not count for."""
    rng = np.random.default_rng(3)
    X = rng.standard_normal((32, 4)) * 10.0 ** np.arange(4)
    y = (X @ 10.0 ** -np.arange(4) > 0).astype(int)
    with pytest.warns(ConditionWarning, match="told apart"):
        model = GDClassifier("cloglog", penalty=None, fit_intercept=False, tol=1e-6).fit(X, y)
    assert model.result_.status == Status.CONVERGED and model.result_.fun < 1e-15 and model.n_iter_ < 100
    facts = losses.CLogLog().facts("identity")
    assert np.all(np.abs(facts["slope"](np.array([-800.0, 800.0]), np.array([0.0, 1.0]))) < 1e-290)


def test_columns_without_a_penalty_beside_penalised_ones_have_full_newton_steps():
    """Two of three means are 0, which the unpenalised columns can reach: the loss falls like an exponential."""
    rng = np.random.default_rng(255)
    X, free = rng.standard_normal((3, 29)), rng.integers(0, 2, 29).astype(float)
    model = GDRegressor(
        losses.Tweedie(1.5), penalty="l2", alpha=0.6, penalty_weights=free, fit_intercept=False, tol=1e-6
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.fit(X, [0.0, 1.2, 0.0])
    assert model.result_.status == Status.CONVERGED and model.n_iter_ < 100


@pytest.mark.parametrize("loss", ["squared_error", "quantile", "epsilon_insensitive", "poisson"])
@pytest.mark.parametrize("seed", range(3))
def test_a_small_float32_table_reports_the_loss_of_its_rounded_weights(loss, seed):
    """Fewer rows than columns, of scales from 1e-6 to 1e6: sums in float32 would cancel."""
    rng = np.random.default_rng(seed)
    X = (rng.standard_normal((9, 25)) * 10.0 ** rng.uniform(-6, 6, 25)).astype(np.float32)
    y = rng.poisson(2.0, 9).astype(np.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = GDRegressor(loss, penalty="l2", alpha=1e-4, fit_intercept=False).fit(X, y)
        double = GDRegressor(loss, penalty="l2", alpha=1e-4, fit_intercept=False).fit(X.astype(float), y.astype(float))
    assert model.coef_.dtype == np.float32 and model.result_.x.dtype == np.float32
    w, y = model.coef_.astype(float), y.astype(float)
    h = np.asarray([math.fsum(row * w) for row in X.astype(float)])
    each = {
        "squared_error": 0.5 * (h - y) ** 2,
        "quantile": 0.5 * np.abs(h - y),
        "epsilon_insensitive": np.maximum(np.abs(h - y) - 0.1, 0),
        "poisson": np.exp(h) - y * h - (y - np.where(y > 0, y * np.log(np.maximum(y, 1)), 0)),
    }[loss]
    value = float(np.mean(each)) + 0.5e-4 * math.fsum(w * w)
    assert model.result_.fun == pytest.approx(value, rel=1e-6, abs=1e-12)
    assert model.result_.gap >= 0 and value - model.result_.gap <= double.result_.fun * (1 + 1e-6)


@pytest.mark.parametrize("classes", [2, 4])
def test_newton_on_separated_classes_says_no_more_than_the_loss(classes):
    """A Hessian of rank 36 of 800 at most: its minimum is one solution of equations, and no gap is above the loss."""
    X = np.random.default_rng(5).standard_normal((20, 60))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = GDClassifier(penalty=None, solver="newton").fit(X, np.arange(20) % classes)
    result = model.result_
    assert result.fun < 1e-14 and result.gap <= result.fun + 1e-15 and model.n_iter_ < 60
    assert np.array_equal(model.predict(X), np.arange(20) % classes)


def test_batches_of_sparse_rows_far_off_do_not_diverge():
    """Sparse rows are not centred: steps must be as short as their mean is long."""
    rng = np.random.default_rng(7)
    X = 100 * rng.uniform(0.1, 4, 12) + rng.standard_normal((3, 12))
    for penalty in ("l2", "elasticnet"):
        model = GDRegressor(penalty=penalty, alpha=0.8, solver="sgd", batch_size=32, max_iter=100, random_state=0)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model.fit(scipy.sparse.csr_matrix(X), [2.6, -3.4, 0.8])
        losses_met = model.history_["loss"]
        assert np.all(np.diff(losses_met) <= 0) and model.result_.fun <= losses_met[0]


def test_bounds_on_the_softmax_of_a_constant_column_and_few_rows():
    """A way that rounding alone tells from a flat one is not followed to weights of 1e8."""
    rng = np.random.default_rng(271)
    for _ in range(10):
        n, d = int(rng.integers(6, 30)), int(rng.integers(3, 12))
        X = rng.standard_normal((n, d)) * 10.0 ** rng.uniform(-6, 6, d)
        y = np.arange(n) % 3
        bounds = (-0.5, np.where(rng.random(d) < 0.5, 0.7, np.inf))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model = GDClassifier(solver="newton", bounds=bounds, alpha=1e-4, tol=1e-6, max_iter=60).fit(X, y)
            tight = GDClassifier(solver="newton", bounds=bounds, alpha=1e-4, tol=1e-10, max_iter=300).fit(X, y)
        result = model.result_
        assert result.fun <= np.log(3) + 1e-9
        if result.status == Status.CONVERGED:
            assert result.fun - tight.result_.fun <= 3e-6 * result.fun


def test_an_l1_penalty_on_a_loss_that_is_not_convex_ends():
    rng = np.random.default_rng(1833)
    for _ in range(6):
        X = (rng.random((7, 6)) < 0.5) * 1.0
        y = np.maximum(rng.gamma(2.0, 0.7, 7), 1e-9)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model = GDRegressor("inverse_gaussian", penalty="l1", alpha=0.2, fit_intercept=False, tol=1e-8).fit(X, y)
        assert model.result_.status == Status.CONVERGED and model.n_iter_ < 200
