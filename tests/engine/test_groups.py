"""Group lasso: held to the conditions of a minimum, to a closed form, and to the lasso where each group is a column."""

import numpy as np
import pytest
import scipy.optimize
import scipy.sparse
from numpy.testing import assert_allclose

from fastgd import GDClassifier, GDRegressor, LinearObjective, gradient_descent

pytestmark = pytest.mark.one_build
LOSSES = {
    "squared_error": "identity", "log_loss": "sigmoid", "softmax": "softmax", "poisson": "exp", "huber": "identity",
    "squared_hinge": "identity",
}  # fmt: skip


def problem(loss, rng, n, d):
    X = rng.standard_normal((n, d)) * 10.0 ** rng.uniform(-2, 2, d) + rng.standard_normal(d)
    z = (X - X.mean(axis=0)) / X.std(axis=0)
    h = z[:, :2] @ [1, -1] + 0.5 * rng.standard_normal(n)
    if loss in ("log_loss", "softmax", "squared_hinge"):
        y = np.digitize(h, [-0.5, 0.5]) if loss == "softmax" else (h > 0) * 1
        return GDClassifier("log_loss" if loss == "softmax" else loss), X, y
    return GDRegressor(loss), X, rng.poisson(np.exp(h)) * 1.0 if loss == "poisson" else h


@pytest.mark.parametrize("loss", LOSSES)
def test_the_conditions_of_a_minimum_hold(loss):
    rng = np.random.default_rng(len(loss))
    for n, d, sparse, ratio in ((60, 9, False, 1.0), (25, 60, True, 0.6), (40, 30, False, 0.6)):
        model, X, y = problem(loss, rng, n, d)
        labels, s = rng.integers(0, 7, d), rng.uniform(0.2, 2, n)
        X[:, 1] = X[:, 0]
        alpha = float(10 ** rng.uniform(-3, -1))
        model.set_params(penalty="elasticnet" if ratio < 1 else "group", alpha=alpha, l1_ratio=ratio, tol=1e-9)
        model.set_params(groups=labels).fit(scipy.sparse.csr_array(X) if sparse else X, y, sample_weight=s)
        assert model.result_.solver == "coordinate"
        assert model.result_.certified
        name = "log" if model.loss == "log_loss" else model.loss
        o = LinearObjective(
            X, 2.0 * y - 1 if loss == "squared_hinge" else y, loss=name, activation=LOSSES[loss], fit_intercept=True,
            l2=alpha * (1 - ratio), sample_weight=s,
        )  # fmt: skip
        W = np.atleast_2d(model.coef_).T
        g = o.gradient(np.vstack([W, model.intercept_]).reshape(o.shape)).reshape(d + 1, -1)[:d]
        for label in np.unique(labels):
            rows = labels == label
            l1, lengths = alpha * ratio * np.sqrt(rows.sum()), np.linalg.norm(W[rows], axis=0)
            with np.errstate(all="ignore"):
                there = np.linalg.norm(g[rows] + l1 * W[rows] / lengths, axis=0)
            absent = np.maximum(np.linalg.norm(g[rows], axis=0) - l1, 0)
            assert np.all(np.where(lengths > 0, there, absent) <= 1e-3 * l1)
            assert np.all((W[rows] != 0).all(axis=0) | (lengths == 0))  # together, or not at all


def test_of_orthogonal_columns_the_weights_are_shrunk():
    rng = np.random.default_rng(1)
    X = np.linalg.qr(rng.standard_normal((40, 8)))[0] * np.sqrt(40)  # XᵀX/n = I
    y, groups, alpha = rng.standard_normal(40), [[7, 0, 3], [1, 2], [4], [5, 6]], 0.1
    single = X.T @ y / 40
    for factors in (None, [1.0, 0.5, 2.0, 0.1]):
        expected = np.empty(8)
        for group, factor in zip(groups, factors or np.sqrt([3, 2, 1, 2]), strict=True):
            norm = np.linalg.norm(single[group])
            expected[group] = single[group] * max(0.0, 1 - alpha * factor / norm)
        o = LinearObjective(X, y, loss="squared_error", l1=alpha, groups=groups, penalty_weights=factors)
        found = gradient_descent(o, solver="auto", step_num=100, tol=1e-12)
        assert_allclose(found.x, expected, atol=1e-6)
        norms = [np.linalg.norm(found.x[group]) for group in groups]
        penalty = alpha * float(np.dot(factors or np.sqrt([3, 2, 1, 2]), norms))
        assert_allclose(o.value(found.x), 0.5 * np.mean((y - X @ found.x) ** 2) + penalty, rtol=1e-13)
        assert_allclose(found.fun, o.value(found.x), rtol=1e-13)


def test_the_minimum_of_scipy_and_gaps_that_are_true():
    rng = np.random.default_rng(2)
    for _ in range(6):
        X, labels = rng.standard_normal((15, 8)), rng.integers(0, 3, 8)
        o = LinearObjective(X, (rng.random(15) < 0.5) * 1.0, loss="log", activation="sigmoid", l1=0.05, groups=labels)
        smooth = o.replace(l1=0.0)

        def value(w, o=o, smooth=smooth, labels=labels):  # norms rounded off at 1e-8, which moves the minimum by less
            sizes = np.sqrt(np.bincount(labels, minlength=3))
            lengths = np.sqrt(np.bincount(labels, w * w, 3) + 1e-16)
            fun, gradient = smooth.value_and_gradient(w)
            return fun + 0.05 * sizes @ lengths, gradient + 0.05 * (sizes / lengths)[labels] * w

        least = scipy.optimize.minimize(value, rng.standard_normal(8), jac=True, options={"gtol": 1e-9}).fun
        for tol in (1e-1, 1e-3, 1e-8):
            found = gradient_descent(o, lr="auto", step_num=100, tol=tol)
            assert found.certified
            assert -1e-7 <= found.fun - least <= found.gap + 1e-7


def test_groups_of_one_column_are_a_lasso_and_names_are_columns():
    pandas = pytest.importorskip("pandas")
    rng = np.random.default_rng(3)
    model, X, y = problem("squared_error", rng, 30, 6)
    lasso = GDRegressor(penalty="l1", alpha=0.05, tol=1e-12).fit(X, y)
    assert_allclose(
        model.set_params(penalty="group", groups=range(6), alpha=0.05, tol=1e-12).fit(X, y).coef_, lasso.coef_
    )
    frame = pandas.DataFrame(X, columns=list("abcdef"))
    named = model.set_params(groups=[["a", "c"], ["b"], ["d", "e", "f"]]).fit(frame, y).coef_
    assert_allclose(named, model.set_params(groups=["x", "y", "x", "z", "z", "z"]).fit(X, y).coef_, rtol=1e-9)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"groups": [[0, 1], [1, 2]]}, "groups must not overlap; column 1 is in groups 0 and 1"),
        ({"groups": [[0, 1]]}, "groups must hold every column; column 2 is in none"),
        ({"groups": [[0, 1, 2], [3]]}, r"groups\[1\] holds 3, and X has the columns 0 to 2"),
        ({"groups": [["a"], [1, 2]]}, r"groups\[0\] holds 'a', and X has the columns 0 to 2"),
        ({"groups": [[0, 1, 2], []]}, "groups must be lists of columns, none empty"),
        ({"groups": [0, 1]}, "groups must be a label, .* for each of the 3 columns"),
        ({"groups": [0.5, 1.0, 1.0]}, "groups must be a label"),
        ({"groups": 2}, "groups must be a label"),
        ({"groups": [0, 0, 1], "penalty": "l2"}, 'groups go with penalty="group"'),
        ({"groups": None}, 'groups go with penalty="group"'),
        ({"groups": [0, 0, 1], "penalty_weights": [1.0, 1.0, 1.0]}, "a positive number for each of the 2 groups"),
        ({"groups": [0, 0, 1], "solver": "gram"}, 'groups are for solver="auto" or "coordinate"'),
        ({"groups": [0, 0, 1], "learning_rate": 0.1}, "groups are for solver"),
        ({"groups": [0, 0, 1], "early_stopping": True}, "groups are for solver"),
        ({"groups": [0, 0, 1], "positive": True}, "groups are for solver"),
        ({"groups": [0, 0, 1], "loss": "quantile"}, "groups are for data in memory and a smooth loss"),
    ],
)
def test_what_are_no_groups_is_refused(options, message):
    X, y = np.random.default_rng(0).standard_normal((20, 3)), np.arange(20.0)
    with pytest.raises(ValueError, match=message):
        GDRegressor(**({"penalty": "group"} | options)).fit(X, y)
    o = LinearObjective(X, y, loss="squared_error", l1=0.1, groups=[0, 0, 1])
    with pytest.raises(ValueError, match="groups are for solver"):
        gradient_descent(o, step_num=10)
    with pytest.raises(ValueError, match="groups do not go with lr='bb'"):
        gradient_descent(o, lr="bb", step_num=10)
