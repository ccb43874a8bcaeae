"""Paths of penalties: against scikit-learn's, and against the same fits one by one."""

import numpy as np
import pytest
import scipy.sparse
from numpy.testing import assert_allclose
from sklearn.linear_model import enet_path

import fastgd
from fastgd import GDClassifier, GDRegressor, LinearObjective, penalty_path

pytestmark = pytest.mark.one_build
LOSSES = ("squared_error", "mse", "log_loss", "softmax", "poisson", "huber")


def data(loss, rng, n=60, d=40):
    """(estimator, X, y); "mse" has two targets."""
    X = rng.standard_normal((n, d)) * 10.0 ** rng.uniform(-2, 2, d) + rng.standard_normal(d)
    h = (X[:, :2] - X[:, :2].mean(axis=0)) @ (1 / X[:, :2].std(axis=0)) + 0.5 * rng.standard_normal(n)
    if loss in ("log_loss", "softmax"):
        return GDClassifier(), X, np.digitize(h, [-0.5, 0.5]) if loss == "softmax" else h > 0
    y = rng.poisson(np.exp(h)) * 1.0 if loss == "poisson" else h
    return GDRegressor(loss), X, np.column_stack([y, y[::-1]]) if loss == "mse" else y


@pytest.mark.parametrize("seed", range(4))
def test_the_coefficients_are_those_of_scikit_learn(seed):
    rng = np.random.default_rng(seed)
    n, d = ((200, 20), (30, 80), (500, 60), (20, 300))[seed]
    ratio = (1.0, 0.5, 0.9, 1.0)[seed]
    X = rng.standard_normal((n, d))
    y = X[:, :3] @ [1.0, -2.0, 0.5] + rng.standard_normal(n)
    alphas, expected, _ = enet_path(X, y, l1_ratio=ratio, alphas=20, eps=1e-2, tol=1e-12, max_iter=100_000)
    objective = LinearObjective(X, y, loss="squared_error")
    path = penalty_path(objective, alphas=20, eps=1e-2, l1_ratio=ratio, tol=1e-11)
    assert_allclose(path.alphas, alphas, rtol=1e-11)
    assert_allclose(path.coefs, expected, atol=1e-5)
    assert not path.coefs[:, 0].any()
    given = penalty_path(objective, alphas=alphas[::-2], l1_ratio=ratio, tol=1e-11)  # in any order
    assert_allclose(given.coefs, path.coefs[:, 1::2], atol=1e-5)


@pytest.mark.parametrize("loss", LOSSES)
def test_each_fit_is_as_good_as_one_alone(loss):
    rng = np.random.default_rng(len(loss))
    for penalty, sparse, weighted, dtype in (
        ("l1", False, True, np.float64), ("elasticnet", True, False, np.float64), ("l1", False, False, np.float32),
    ):  # fmt: skip
        model, X, y = data(loss, rng)
        X = X.astype(dtype)
        y = y.astype(dtype) if isinstance(model, GDRegressor) else y
        s = rng.uniform(0.2, 2, len(X)) if weighted else None
        model.set_params(penalty=penalty, l1_ratio=0.5, tol=1e-5 if dtype == np.float64 else 1e-3)
        path = model.path(scipy.sparse.csr_array(X) if sparse else X, y, s, alphas=8, eps=1e-2)
        assert not hasattr(model, "coef_")
        k = {"softmax": 3, "mse": 2}.get(loss)
        assert path.coefs.shape == ((k, 40, 8) if k else (40, 8))
        assert path.coefs.dtype == dtype
        assert np.all(np.diff(path.alphas) < 0)
        for i in (0, 4, 7):
            alone = model.set_params(alpha=float(path.alphas[i])).fit(X, y, s).result_
            run = path.results[i]
            rounding = np.finfo(dtype).eps * 10 * abs(alone.fun)
            assert run.certified
            assert run.gap == path.gaps[i]
            assert alone.fun - alone.gap - rounding <= run.fun <= alone.fun + run.gap + rounding
            assert run.settings["alpha"] == path.alphas[i]


def test_an_offset_and_groups_and_penalties_without_l1():
    rng = np.random.default_rng(3)
    model, X, y = data("poisson", rng)
    offset = 0.3 * rng.standard_normal(len(X))
    for options in ({"penalty": "group", "groups": np.arange(40) // 4}, {"penalty": "l2"}):
        model.set_params(**{"groups": None, **options}, tol=1e-7)
        path = model.path(X, y, offset=offset, alphas=[0.3, 0.01, 0.1])
        for i, alpha in enumerate((0.3, 0.1, 0.01)):
            alone = model.set_params(alpha=alpha).fit(X, y, offset=offset).result_.fun
            assert_allclose(path.results[i].fun, alone, rtol=2e-7)


def test_a_picture_of_it():
    rng = np.random.default_rng(4)
    model, X, y = data("squared_error", rng, 30, 5)
    path = model.set_params(penalty="l1").path(X, y, alphas=10)
    for shown, names in ((path, "abcde"), (path.results, "abcdef")):  # which have an intercept
        ax = fastgd.plot.path(shown, names=names)
        assert len(ax.get_lines()) == 1 + len(names)  # and the line of 0
        assert_allclose(ax.get_lines()[1].get_xdata(), path.alphas[::-1])
        assert_allclose(ax.get_lines()[1].get_ydata(), path.coefs[0, ::-1])
        ax.figure.clear()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"alphas": 0}, "alphas must be at least 1"),
        ({"alphas": [0.1, -1.0]}, "alphas must be positive numbers, or how many of them"),
        ({"alphas": []}, "alphas must be"),
        ({"eps": 1.0}, "eps must be below 1"),
        ({"l1_ratio": 1.5}, "l1_ratio must be between 0 and 1"),
        ({"l1_ratio": 0.0}, "alphas must be given as an array: only with l1_ratio > 0"),
        ({"tol": -1.0}, "tol must be"),
    ],
)
def test_what_is_no_path_is_refused(options, message):
    objective = LinearObjective([[1.0, 0.0], [2.0, 1.0]], [1.0, 3.0], loss="squared_error")
    with pytest.raises(ValueError, match=message):
        penalty_path(objective, **options)
    with pytest.raises(TypeError, match="objective must be a LinearObjective"):
        penalty_path(lambda w: w @ w)
    with pytest.raises(ValueError, match="all weights are 0 from the penalty 0 on"):
        penalty_path(LinearObjective([[0.0, 0.0], [0.0, 0.0]], [1.0, 3.0]))
    with pytest.raises(ValueError, match="path needs a penalty"):
        GDRegressor().path([[1.0], [2.0]], [1.0, 2.0])
