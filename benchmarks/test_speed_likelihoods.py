"""Deviances and quantiles against scikit-learn and glum; a pass by each smooth loss against one by the log loss."""

import numpy as np
import pytest
from contest import Contests
from members import DEVIANCE, QUANTILE, near
from problems import INDEPENDENT, Problem, classes
from scipy import sparse

from fastgd import LinearObjective, losses

pytestmark = pytest.mark.benchmark(min_rounds=3)

LOSSES = ("gamma", "tweedie", "poisson")
DENSE, ONE_HOT = (100_000, 50), (100_000, 500)


def targets(loss, h):
    rng = np.random.default_rng(1)
    if loss == "gamma":
        return np.maximum(rng.gamma(2, np.exp(h) / 2), 1e-12)
    counts = rng.poisson(np.exp(h)).astype(np.float64)
    return counts if loss == "poisson" else rng.gamma(np.maximum(2 * counts, 1e-300), 0.5) * (counts > 0)


def deviances(what, shape):
    """`what` is a loss and a penalty; "one-hot" has two categories of d/2 levels each, as CSR."""
    loss, penalty, *one_hot = what.split(", ")
    n, d = shape
    rng = np.random.default_rng(0)
    if one_hot:
        levels = np.column_stack([rng.integers(0, d // 2, n), d // 2 + rng.integers(0, d - d // 2, n)])
        pointers = np.arange(0, 2 * n + 1, 2, dtype=np.int32)
        X = sparse.csr_array((np.ones(2 * n), levels.ravel().astype(np.int32), pointers), shape)
        h = X @ rng.normal(size=d) / 2
    else:
        X, _ = classes(INDEPENDENT, shape)
        h = X @ rng.normal(size=d) / (2 * np.sqrt(d)) + 0.5
    l1, l2 = (1e-3, 1e-3) if penalty == "elastic net" else (0, 1e-3)
    return Problem(X, targets(loss, h), loss, l1=l1, l2=l2, near=near)


def quantiles(what, shape):
    X, _ = classes(INDEPENDENT, shape)
    rng = np.random.default_rng(1)
    y = X @ rng.normal(size=shape[1]) / np.sqrt(shape[1]) + rng.standard_t(3, shape[0])
    return Problem(X, y, "quantile")


deviance = Contests("GDRegressor, deviances to 1e-8 of the minimum", 1e-8, deviances, DEVIANCE)
quantile = Contests("GDRegressor, quantiles to 1e-6 of the minimum", 1e-6, quantiles, QUANTILE)


@pytest.mark.parametrize("who", deviance.members)
@pytest.mark.parametrize("shape", [DENSE, ONE_HOT], ids=["dense", "one-hot"])
@pytest.mark.parametrize("penalty", ["l2", "elastic net"])
@pytest.mark.parametrize("loss", LOSSES)
def test_deviances(compare, loss, penalty, shape, who):
    what = f"{loss}, {penalty}" + (", one-hot" if shape is ONE_HOT else "")
    deviance.time(compare, who, what, shape, target=dict.fromkeys(DEVIANCE, 1.0))


@pytest.mark.parametrize("who", quantile.members)
@pytest.mark.parametrize("shape", [(2_000, 10), (10_000, 20)], ids=str)
def test_quantiles(compare, shape, who):
    quantile.time(compare, who, "quantile 0.8", shape, target={"QuantileRegressor": 1.0})


SMOOTH = [loss.name for loss in set(losses.LOSSES.values()) if losses.of(loss, loss.link).smooth and loss.times == 1]


@pytest.mark.parametrize("who", ["ours", "log_loss"])
@pytest.mark.parametrize("shape", [DENSE, (20_000, 5)], ids=str)
@pytest.mark.parametrize("name", sorted(set(SMOOTH) - {"log_loss"}))
def test_a_pass(compare, name, shape, who):
    n, d = compare.shape(*shape)
    X, yes = classes(INDEPENDENT, (n, d))
    w = np.linspace(-0.5, 0.5, d + 1)

    def objective(name):
        loss = losses.get(name)
        y = yes + 1 if loss.link == "exp" else 2 * yes - 1 if loss.signed else yes
        return LinearObjective(X, y, loss=name, activation=loss.link, fit_intercept=True)

    ours, log_loss = objective(name), objective("log_loss")
    compare(
        "LinearObjective.value_and_gradient by each smooth loss", name, who,
        {"ours": lambda: ours.value_and_gradient(w)}, ours.value(w), judge=lambda found: found[0], shape=(n, d),
        target={"log_loss": 2.0},
        yardsticks={"log_loss": (lambda: log_loss.value_and_gradient(w)[0], log_loss.value(w))},
    )  # fmt: skip
