"""No loss bends more than its bound says: the Hessian by h, at points chosen against the bound, for each pair."""

import math

import numpy as np
import pytest
import scipy.optimize
from numpy.testing import assert_allclose

from fastgd import LinearObjective
from fastgd.losses import LOSSES, of

DELTA = 1.35  # of the Huber loss
TARGETS = [(0.0, 1.0), (-3.0, 2.0), (0.4, 0.4), (-50.0, 7.0), (5.0, 1e3), (-1e4, 1e4)]
# Those of one activation whose second derivatives are in no formula here are held to their slopes in test_losses.py.
ELSEWHERE = ("probit", "cloglog", "modified_huber", "perceptron", "negative_binomial")
PAIRS = [(act, name) for name, loss in LOSSES.items() if name not in ELSEWHERE for act in loss.activations]
LOGS = ("log", "log_loss")  # two names of one loss
KINKED = ("hinge", "epsilon_insensitive", "quantile")
BOUNDED = [(activation, loss) for activation, loss in PAIRS if activation != "exp" and loss not in KINKED]
ALONE = [(activation, loss) for activation, loss in BOUNDED if activation != "softmax"]


def sigmoid(h):
    return 1 / (1 + np.exp(-h))


def derivatives(activation, h):
    """f, f' and f'' at h, as in a book."""
    if activation == "identity":
        return h, np.ones_like(h), np.zeros_like(h)
    if activation == "relu":  # the one-sided derivatives; at the kink there is none
        return np.maximum(h, 0), (h > 0) * 1.0, np.zeros_like(h)
    if activation == "sigmoid":
        p = sigmoid(h)
        return p, p * (1 - p), p * (1 - p) * (1 - 2 * p)
    if activation == "tanh":
        p = np.tanh(h)
        return p, 1 - p**2, -2 * p * (1 - p**2)
    p = sigmoid(h)
    return np.logaddexp(0, h), p, p * (1 - p)


def bend(activation, loss, h, y):
    """|∂²l/∂h²|, with l the kernels' loss of one point: ½r² for the squared losses."""
    f, first, second = derivatives(activation, h)
    if loss in LOGS:
        return first  # ∂l/∂h = σ − y
    if loss == "squared_hinge":
        return 2.0 * (y * h < 1)
    if loss == "huber":
        inside = np.abs(f - y) <= DELTA
        return np.abs(inside * first**2 + np.clip(f - y, -DELTA, DELTA) * second)
    return np.abs(first**2 + (f - y) * second)


def targets_of(loss, low, high):
    """Targets between two: the ends, between them, and what the log loss takes of them."""
    if loss == "squared_hinge":
        return np.array([-1.0, 1.0])
    y = np.linspace(low, high, 17)
    return np.clip(y, 0, 1) if loss in LOGS else y


@pytest.mark.one_build
@pytest.mark.parametrize(("low", "high"), TARGETS)
@pytest.mark.parametrize(("activation", "loss"), ALONE)
def test_no_point_bends_more(activation, loss, low, high):
    y = targets_of(loss, low, high)
    bound = of(loss, activation).bound(y.min(), y.max())
    # A grid around 0, where f curves, one around each target, where the Huber loss changes, and far away.
    around = np.linspace(-12, 12, 4801)
    far = np.array([-700.0, -300.0, -40.0, 40.0, 300.0, 700.0])
    for target in y:
        h = np.concatenate([around, far, target + np.linspace(-2 * DELTA, 2 * DELTA, 201)])
        with np.errstate(over="ignore", under="ignore"):
            assert np.max(bend(activation, loss, h, target)) <= bound * (1 + 1e-12)


@pytest.mark.one_build
@pytest.mark.parametrize(("activation", "loss"), [pair for pair in ALONE if pair[1] != "huber"])
def test_a_bound_is_no_larger_than_it_must_be(activation, loss):
    # Else a constant of 1e9 would pass for one. Huber's adds up the worst of two terms, which no point has at once.
    for low, high in TARGETS:
        y = targets_of(loss, low, high)
        h = np.linspace(-12, 12, 48_001)
        largest = max(np.max(bend(activation, loss, h, target)) for target in (y.min(), y.max()))
        assert of(loss, activation).bound(y.min(), y.max()) <= largest * (1 + 1e-4)


@pytest.mark.one_build
@pytest.mark.parametrize("activation", ["identity", "sigmoid", "tanh", "relu", "softplus"])
def test_the_bound_of_the_huber_loss_is_within_a_factor_of_four(activation):
    h, targets = np.linspace(-12, 12, 4801), np.linspace(-5, 5, 201)
    largest = max(np.max(bend(activation, "huber", h, target)) for target in targets)
    assert largest <= of("huber", activation).bound(-5.0, 5.0) <= 4 * largest


# ------------------------------------------------------------------------------------------------------- the softmax


def softmax_loss(loss, h, y):
    p = np.exp(h - h.max())
    p /= p.sum()
    if loss == "log":
        return -float(y @ np.log(p))
    r = p - y
    if loss == "huber":
        return float(np.sum(np.where(np.abs(r) <= DELTA, 0.5 * r**2, DELTA * (np.abs(r) - 0.5 * DELTA))))
    return 0.5 * float(r @ r)


def softmax_hessian(loss, h, y):
    """∂²l/∂h²: JᵀDJ + Σ_c ρ_c ∇²p_c, with ρ and D the first two derivatives of the loss by p."""
    p = np.exp(h - h.max())
    p /= p.sum()
    J = np.diag(p) - np.outer(p, p)
    if loss == "log":
        return J * y.sum()
    r = p - y
    rho, D = r, np.ones_like(r)
    if loss == "huber":
        rho, D = np.clip(r, -DELTA, DELTA), (np.abs(r) <= DELTA) * 1.0
    centre = rho @ p
    # ∂p_c/∂h_i = p_c(δ_ci − p_i), and once more.
    second = np.diag(p * (rho - centre)) - np.outer(p * (rho - centre), p) - np.outer(p, p * (rho - centre))
    return J @ np.diag(D) @ J + second


@pytest.mark.one_build
@pytest.mark.parametrize("loss", ["sse", "huber", "log"])
def test_the_formula_of_the_softmax_is_that_of_its_loss(loss):
    rng = np.random.default_rng(0)
    for _ in range(5):
        h, y = rng.normal(size=4), rng.dirichlet(np.ones(4)) * (1 if loss == "log" else 3)
        step, eye = 1e-4, np.eye(4)
        numerical = [
            [
                (
                    softmax_loss(loss, h + step * (a + b), y)
                    - softmax_loss(loss, h + step * (a - b), y)
                    - softmax_loss(loss, h - step * (a - b), y)
                    + softmax_loss(loss, h - step * (a + b), y)
                )
                / (4 * step**2)
                for b in eye
            ]
            for a in eye
        ]
        assert_allclose(softmax_hessian(loss, h, y), numerical, atol=2e-6)


@pytest.mark.one_build
@pytest.mark.parametrize("loss", ["sse", "mse", "huber", "log"])
@pytest.mark.parametrize(("low", "high"), TARGETS)
def test_no_point_of_a_softmax_bends_more(loss, low, high):
    rng = np.random.default_rng(1)
    for k in (2, 3, 6):
        y = rng.choice([low, high], size=(3, k))
        y[0], y[1, 0] = low, high  # one against all, where a difference of slopes is largest
        if loss == "log":
            y = np.eye(k)[:3]
        bound = of(loss, "softmax").bound(float(y.min()), float(y.max()))

        def least(h, target):
            return -float(np.max(np.abs(np.linalg.eigvalsh(softmax_hessian(loss, h, target)))))

        for target in y:
            starts = [np.zeros(k), *rng.normal(0, 1.5, (60, k))]
            best = min(starts, key=lambda h, target=target: least(h, target))
            climbed = scipy.optimize.minimize(
                least, best, args=(target,), method="Nelder-Mead", options={"maxiter": 150}
            )
            assert -min(climbed.fun, least(best, target)) <= bound * (1 + 1e-9)


# --------------------------------------------------------------------------------------------------- whole objectives


def numerical_hessian(objective, w):
    step = 1e-5
    flat = w.reshape(-1)
    columns = []
    for i in range(flat.size):
        move = np.zeros(flat.size)
        move[i] = step
        above = objective.gradient((flat + move).reshape(w.shape))
        below = objective.gradient((flat - move).reshape(w.shape))
        columns.append((above - below).reshape(-1) / (2 * step))
    H = np.array(columns)
    return (H + H.T) / 2


@pytest.mark.parametrize("fit_intercept", [False, True])
@pytest.mark.parametrize(("activation", "loss"), BOUNDED)
def test_no_weights_bend_an_objective_more(activation, loss, fit_intercept):
    rng = np.random.default_rng(2)
    X = rng.normal(0.5, 1.0, (12, 2))
    y = rng.choice([-2.0, 3.0], size=(12, 3) if activation == "softmax" else 12)
    if loss in LOGS:
        y = np.eye(3)[rng.integers(0, 3, 12)] if activation == "softmax" else (y > 0) * 1.0
    if loss == "squared_hinge":
        y = np.sign(y)
    s = rng.uniform(0.2, 3, 12)
    objective = LinearObjective(
        X, y, activation=activation, loss=loss, fit_intercept=fit_intercept, l2=0.1, sample_weight=s
    )
    bound = objective.lipschitz()
    # Differences of gradients across a kink of relu have no Hessian to show; all its points must be away from it.
    for w in [np.zeros(objective.shape), *rng.normal(0, 1, (15, *objective.shape))]:
        W, b = objective.split(w)
        if activation == "relu" and np.min(np.abs(X @ W + b)) < 1e-3:
            continue
        assert np.max(np.abs(np.linalg.eigvalsh(numerical_hessian(objective, w)))) <= bound * (1 + 1e-7)


@pytest.mark.one_build
@pytest.mark.parametrize(("activation", "loss"), [pair for pair in PAIRS if pair[0] == "exp"])
def test_nothing_bounds_an_exponential(activation, loss):
    assert of(loss, activation).bound(0.0, 1.0) == math.inf
    objective = LinearObjective([[1.0], [2.0]], [1.0, 2.0], activation=activation, loss=loss, l2=1.0)
    assert objective.lipschitz() == math.inf


@pytest.mark.one_build
@pytest.mark.parametrize(("activation", "loss"), [pair for pair in PAIRS if pair[1] in KINKED])
def test_nothing_bounds_a_slope_that_jumps(activation, loss):
    assert of(loss, activation).bound(-1.0, 1.0) == math.inf
    y = [[1.0, -1.0], [-1.0, 1.0]]
    assert LinearObjective([[1.0], [2.0]], y, activation=activation, loss=loss).lipschitz() == math.inf


@pytest.mark.one_build
def test_every_pair_is_bounded_or_an_exponential_or_kinked():
    assert {pair for pair in PAIRS if math.isfinite(of(*pair[::-1]).bound(0.0, 1.0))} == set(BOUNDED)
    # sse, mse, squared_error, huber, epsilon_insensitive and quantile go with all, log by two names with two
    assert len([pair for pair in PAIRS if len(LOSSES[pair[1]].activations) > 1]) == 7 * 6 + 2 * 2
