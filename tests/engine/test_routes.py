"""The ways by which `gradient_descent` goes about an objective: which one it took must not show in the answer."""

import re

import numpy as np
import pytest
import scipy.optimize
from numpy.testing import assert_allclose, assert_array_equal

from fastgd import DivergenceError, LinearObjective, Status, gradient_descent
from fastgd.objective.compressed import Compressed

N, D = 8000, 6  # enough values, and rows for each column, for the Gram route


def squares(k=None, weighted=False, scales=None, n=N, d=D, dtype=np.float64, **options):
    rng = np.random.default_rng(11)
    X = rng.normal(0.3, 1.0, (n, d)) * (np.ones(d) if scales is None else scales)
    y = X @ rng.normal(size=(d, k) if k else d) / np.std(X) + 2 + rng.normal(size=(n, k) if k else n)
    s = rng.uniform(0.5, 2, n) if weighted else None
    options.setdefault("loss", "mse")
    return LinearObjective(X.astype(dtype), y.astype(dtype), sample_weight=s, **options)


@pytest.fixture
def direct(monkeypatch):
    """A function like gradient_descent that always passes over X."""

    def descend(*arguments, **options):
        with monkeypatch.context() as patch:
            patch.setattr(Compressed, "of", classmethod(lambda cls, inner, steps: inner))
            return gradient_descent(*arguments, **options)

    return descend


@pytest.fixture
def compressed(monkeypatch):
    """The condition number of each Gram matrix that a run went by."""
    formed, make = [], Compressed.__init__

    def record(self, inner):
        make(self, inner)
        formed.append(self.condition)

    monkeypatch.setattr(Compressed, "__init__", record)
    return formed


# ---------------------------------------------------------------------------------------------------- the Gram route

SQUARES = {
    "mse": {},
    "sse": {"loss": "sse"},
    "intercept": {"fit_intercept": True},
    "penalty": {"fit_intercept": True, "l2": 0.4},
    "weights": {"weighted": True, "l2": 0.1, "fit_intercept": True},
    "outputs": {"k": 3, "fit_intercept": True, "l2": 0.1},
}


@pytest.mark.parametrize("start", ["zeros", "elsewhere"])
@pytest.mark.parametrize("lr", ["number", "schedule"])
@pytest.mark.parametrize("name", SQUARES)
def test_iterates_on_the_gram_matrix_are_those_of_passes(name, lr, start, direct, compressed):
    objective = squares(**SQUARES[name])
    fixed = 1 / objective.lipschitz()
    rate = {"number": fixed, "schedule": lambda step: fixed / (1 + 0.1 * step)}[lr]
    w = None if start == "zeros" else np.random.default_rng(0).normal(size=objective.shape)
    options = {"lr": rate, "step_num": 30, "history": True}
    run = gradient_descent(objective, w, **options)
    assert len(compressed) == 1
    reference = direct(objective, w, **options)
    assert len(compressed) == 1
    assert run.nit == reference.nit == 30
    assert_allclose(run.history.x, reference.history.x, rtol=1e-9, atol=1e-9)
    assert_allclose(run.history.fun, reference.history.fun, rtol=1e-9)
    assert_allclose(run.history.lr, reference.history.lr, rtol=1e-9)
    value, gradient = objective.value_and_gradient(run.x)
    assert run.fun == value
    assert_array_equal(run.jac, gradient)
    assert np.linalg.norm(run.x - run.history.x[0]) > 1e-2


@pytest.mark.parametrize("solver", [None, "gd", "accelerated", "preconditioned", "gram"])
@pytest.mark.parametrize("name", SQUARES)
def test_gradient_norms_are_in_the_users_units(name, solver, compressed):
    objective = squares(**SQUARES[name])
    options = {"lr": 1 / objective.lipschitz()} if solver is None else {"solver": solver}
    run = gradient_descent(objective, **options, step_num=6, history=True)
    assert bool(compressed) == (solver is None)
    norms = [np.linalg.norm(objective.gradient(w)) for w in run.history.x]
    assert_allclose(run.history.grad_norm, norms, rtol=1e-6, atol=1e-9)


def test_float32_on_the_gram_matrix(direct, compressed):
    objective = squares(dtype=np.float32, fit_intercept=True)
    options = {"lr": 1 / objective.lipschitz(), "step_num": 40}
    run = gradient_descent(objective, **options)
    assert compressed and run.x.dtype == run.jac.dtype == np.float32
    assert_allclose(run.x, direct(objective, **options).x, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("solver", ["auto", "gd", "accelerated", "preconditioned", "gram"])
def test_float32_without_a_rate(solver):
    objective = squares(dtype=np.float32, fit_intercept=True)
    run = gradient_descent(objective, solver=solver, step_num=40)
    assert run.x.dtype == run.jac.dtype == np.float32
    assert_allclose(run.x, least_squares(objective), rtol=1e-4, atol=1e-5)


def test_an_ill_conditioned_table_is_walked_by_passes_and_the_message_says_so(compressed):
    objective = squares(scales=10.0 ** np.arange(D))
    run = gradient_descent(objective, lr=1e-12, step_num=20)
    assert compressed[0] > 1e9
    condition = float(re.search(r"by passes over X.*condition number of the Gram matrix is (\S+) ", run.message)[1])
    assert condition == pytest.approx(np.linalg.cond(objective.X.T @ objective.X), rel=0.1)
    # In columns that weigh the same there is nothing to fall back from.
    scaled = gradient_descent(objective, lr="auto", step_num=20)
    assert "condition" not in scaled.message and scaled.condition < 10


def test_few_steps_or_few_data_are_not_worth_a_gram_matrix(compressed):
    gradient_descent(squares(), lr=0.01, step_num=3)
    gradient_descent(squares(n=50), lr=0.01, step_num=100)
    gradient_descent(squares(activation="sigmoid"), lr=0.01, step_num=20)
    assert compressed == []
    gradient_descent(squares(), lr=0.01, step_num=100)
    assert len(compressed) == 1


def test_a_divergence_on_the_gram_matrix_names_the_same_rate(direct, compressed):
    objective = squares(fit_intercept=True)
    limit = 2 / objective.lipschitz()
    errors = []
    for descend in (gradient_descent, direct):
        with pytest.raises(DivergenceError) as caught:
            descend(objective, lr=1.05 * limit, step_num=2000)
        errors.append(caught.value)
    assert compressed
    for error in errors:
        assert error.stable_lr == pytest.approx(limit, rel=1e-9)
    assert errors[0].step == errors[1].step


@pytest.mark.parametrize("tol", [1e-3, 1e-8])
@pytest.mark.parametrize("solver", [None, "auto", "gd", "accelerated", "gram"])
@pytest.mark.parametrize("name", SQUARES)
def test_tol_bounds_the_gap_to_least_squares(name, solver, tol, compressed):
    objective = squares(**SQUARES[name], scales=2.0 ** np.arange(D))
    options = {"lr": 1 / objective.lipschitz()} if solver is None else {"solver": solver}
    run = gradient_descent(objective, **options, tol=tol, step_num=100_000)
    assert bool(compressed) == (solver is None)
    assert run.success and run.certified and run.gap <= tol * run.fun * (1 + 1e-9)
    assert run.fun - objective.value(least_squares(objective)) <= run.gap * (1 + 1e-9) + 1e-14 * run.fun


# ------------------------------------------------------------------------------------------------------------ solvers


def least_squares(objective):
    """The minimum by QR of the weighted, padded table."""
    X, y = objective.X.astype(float), objective.y.reshape(len(objective.y), -1).astype(float)
    s = objective.rows.weights if objective.rows.weights.size else np.ones(len(X))
    root = np.sqrt(objective.factor * s)[:, None]
    d = X.shape[1]
    A = np.column_stack([X, np.ones(len(X))]) if objective.fit_intercept else X
    pad = np.sqrt(objective.l2) * np.eye(d, A.shape[1])
    found = np.linalg.lstsq(np.vstack([root * A, pad]), np.vstack([root * y, np.zeros((d, y.shape[1]))]), rcond=None)
    return found[0].reshape(objective.shape)


@pytest.mark.parametrize("n", [200, N])
@pytest.mark.parametrize("solver", ["auto", "gram", "preconditioned"])
@pytest.mark.parametrize("name", SQUARES)
def test_least_squares_take_two_steps(name, solver, n):
    objective = squares(**SQUARES[name], n=n, scales=10.0 ** np.arange(-3, D - 3))
    best = least_squares(objective)
    run = gradient_descent(objective, solver=solver, step_num=2)
    scale = np.std(objective.X, axis=0)
    lengths = np.append(scale, 1.0) if objective.fit_intercept else scale
    lengths = lengths[:, None] if best.ndim == 2 else lengths
    assert_allclose(run.x * lengths, best * lengths, rtol=1e-10, atol=1e-10)
    assert run.fun == pytest.approx(objective.value(best), rel=1e-12)
    stopped = gradient_descent(objective, solver=solver, tol=1e-10, step_num=50)
    assert stopped.success and stopped.nit <= 2


def curved(name, scales=None, n=400, d=5, l2=0.01):
    """A problem of each loss, with an intercept, on correlated columns."""
    rng = np.random.default_rng(5)
    X = rng.normal(size=(n, d)) + 0.7 * rng.normal(size=(n, 1)) + 0.5
    h = 0.6 * X @ rng.normal(size=d) - 0.3
    X = X * (np.ones(d) if scales is None else scales)
    options = {"fit_intercept": True, "l2": l2}
    if name == "log":
        y, kind = (rng.random(n) < 1 / (1 + np.exp(-h))) * 1.0, ("sigmoid", "log")
    elif name == "softmax":
        y, kind = np.digitize(h + rng.logistic(size=n), [-0.5, 0.8]), ("softmax", "log")
    elif name == "huber":
        y, kind = h + rng.standard_t(2, size=n), ("identity", "huber")
    else:
        y, kind = rng.poisson(np.exp(np.clip(h, None, 3))) * 1.0, ("exp", "poisson")
    return LinearObjective(X, y, activation=kind[0], loss=kind[1], **options)


CURVED = ("log", "softmax", "huber", "poisson")


def optimum(name, **options):
    """The least value, by BFGS on the formulas of the losses and another's gradients of them."""
    objective = curved(name, **options)
    X, y, d = objective.X, objective.y, objective.X.shape[1]

    def value(flat):
        w = flat.reshape(objective.shape)
        h = X @ w[:d] + w[d]
        if name == "log":
            loss = np.logaddexp(0, h) - y * h
        elif name == "softmax":
            loss = np.logaddexp.reduce(h, axis=1) - np.sum(y * h, axis=1)
        elif name == "huber":
            r = np.abs(h - y)
            loss = np.where(r <= 1.35, 0.5 * r**2, 1.35 * (r - 0.675))
        else:
            loss = np.exp(h) - y * h
        return np.mean(loss) + 0.5 * objective.l2 * np.sum(w[:d] ** 2)

    def gradient(flat):
        w = flat.reshape(objective.shape)
        h = X @ w[:d] + w[d]
        if name == "log":
            slope = 1 / (1 + np.exp(-h)) - y
        elif name == "softmax":
            slope = np.exp(h - np.logaddexp.reduce(h, axis=1, keepdims=True)) - y
        elif name == "huber":
            slope = np.clip(h - y, -1.35, 1.35)
        else:
            slope = np.exp(h) - y
        penalty = objective.l2 * np.concatenate([w[:d], np.zeros_like(w[d:])])
        return (np.concatenate([X.T @ slope, slope.sum(axis=0)[None]]) / len(X) + penalty).reshape(-1)

    found = scipy.optimize.minimize(
        value, np.zeros(objective.shape).reshape(-1), jac=gradient, method="BFGS", options={"gtol": 1e-10}
    )
    assert np.linalg.norm(gradient(found.x)) < 1e-7
    return found.fun, found.x.reshape(objective.shape)


SOLVERS = ("auto", "preconditioned", "accelerated", "gd")


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("name", CURVED)
def test_every_solver_reaches_the_optimum(name, solver):
    fun, w = optimum(name)
    objective = curved(name)
    tol = 1e-11
    run = gradient_descent(objective, solver=solver, tol=tol, step_num=5000)
    assert run.success, run.message
    assert run.fun - fun <= 10 * tol * abs(fun)
    # Weights with a gap of ε·F have a relative error of about √ε.
    assert_allclose(run.x, w, atol=10 * np.sqrt(tol))
    value, slope = objective.value_and_gradient(run.x)
    assert run.fun == value
    assert_array_equal(run.jac, slope)


@pytest.mark.parametrize("solver", ["preconditioned", "accelerated"])
@pytest.mark.parametrize("name", CURVED)
def test_columns_of_any_scale_take_no_more_steps(name, solver):
    scales = 10.0 ** np.array([-4, 3, 0, -2, 5])
    tol = 1e-9
    runs = [
        gradient_descent(curved(name, scales=s, l2=0), solver=solver, tol=tol, step_num=5000)
        for s in (np.ones(5), scales)
    ]
    assert runs[0].success and runs[1].success
    assert runs[1].fun == pytest.approx(runs[0].fun, rel=10 * tol)
    in_units = runs[1].x[:5] * (scales if runs[1].x.ndim == 1 else scales[:, None])
    assert_allclose(in_units, runs[0].x[:5], atol=30 * np.sqrt(tol))
    assert runs[1].nit <= 1.2 * runs[0].nit + 5


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("start", [0.0, 2.0])
def test_poisson_goes_down_from_anywhere(start, solver):
    fun, _ = optimum("poisson")
    objective = curved("poisson")
    w = np.full(objective.shape, start)
    run = gradient_descent(objective, w, solver=solver, tol=1e-9, step_num=20_000, history=True)
    assert run.success and run.fun - fun <= 1e-6 * abs(fun)
    assert run.fun < run.history.fun[0]


@pytest.mark.parametrize("solver", ["preconditioned", "accelerated"])
def test_poisson_does_not_stall_before_its_tolerance(solver):
    runs = [
        gradient_descent(curved("poisson", scales=scales, l2=0), solver=solver, tol=tol, step_num=2000)
        for scales in (np.ones(5), 10.0 ** np.array([-4, 3, 0, -2, 5]))
        for tol in (1e-6, 1e-7, 1e-9, 1e-11)
    ]
    assert all(run.success for run in runs)
    assert max(run.nit for run in runs) < 150  # some 50 steps are enough where nothing stalls


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("name", ["squares", *CURVED])
def test_columns_that_are_collinear_or_constant(name, solver):
    tol = 1e-9
    base = squares(n=300, d=5, fit_intercept=True) if name == "squares" else curved(name, l2=0)
    X = base.X
    wide = np.column_stack([X, X[:, 0] - 2 * X[:, 1], np.full(len(X), 7.0), X[:, 2]])
    options = {"activation": base.activation, "loss": base.loss, "fit_intercept": True}
    runs = [
        gradient_descent(LinearObjective(table, base.y, **options), solver=solver, tol=tol, step_num=20_000)
        for table in (X, wide)
    ]
    for run in runs:
        assert run.success, run.message
        assert np.all(np.isfinite(run.x)) and np.all(np.isfinite(run.jac))
    assert runs[1].fun == pytest.approx(runs[0].fun, rel=100 * tol)
    assert np.all(runs[1].x[6] == 0)  # the column that does not vary has nothing to move for


@pytest.mark.parametrize("tol", [1e-2, 1e-4, 1e-7])
@pytest.mark.parametrize("solver", [None, *SOLVERS])
@pytest.mark.parametrize("name", ["log", "softmax"])
def test_the_estimated_gap_is_right_within_a_factor_of_ten(name, solver, tol):
    fun, _ = optimum(name, l2=0.0)
    objective = curved(name, l2=0.0)
    options = {"lr": 1 / objective.lipschitz()} if solver is None else {"solver": solver}
    run = gradient_descent(objective, **options, tol=tol, step_num=50_000)
    assert run.success and not run.certified and "about" in run.message
    assert run.fun - fun <= 10 * tol * run.fun


@pytest.mark.parametrize("tol", [1e-2, 1e-4, 1e-7])
@pytest.mark.parametrize("solver", [None, *SOLVERS])
@pytest.mark.parametrize("name", ["log", "softmax", "huber"])
def test_with_a_penalty_the_gap_is_certified(name, solver, tol):
    fun, _ = optimum(name)
    objective = curved(name)
    options = {"lr": 1 / objective.lipschitz()} if solver is None else {"solver": solver}
    run = gradient_descent(objective, **options, tol=tol, step_num=50_000)
    assert run.success and run.certified and "at most" in run.message
    assert run.fun - fun <= run.gap <= tol * run.fun


@pytest.mark.parametrize("solver", ["preconditioned", "accelerated", "gd"])
def test_a_limit_of_steps_is_kept(solver):
    run = gradient_descent(curved("log"), solver=solver, step_num=2, history=True)
    assert (run.nit, run.status, run.success) == (2, Status.STEP_LIMIT, True)
    assert run.history.x.shape == (3, 6)
    assert run.fun == pytest.approx(run.history.fun[-1], rel=1e-12)


@pytest.mark.parametrize("steps", [1, 5, 40])
@pytest.mark.parametrize(
    "options", [{"lr": 0.02}, {"solver": "accelerated"}, {"solver": "preconditioned"}, {"lr": 0.02, "batch_size": 500}]
)
@pytest.mark.parametrize("name", ["squares", "log", "huber"])
def test_a_run_that_takes_all_its_steps_says_how_far_the_minimum_is(name, options, steps):
    objective = squares(fit_intercept=True) if name == "squares" else curved(name, l2=0.0)
    best = gradient_descent(objective, solver="auto", tol=1e-14, step_num=10_000).fun
    run = gradient_descent(objective, **options, tol=1e-11, step_num=steps)
    assert run.status in (Status.STEP_LIMIT, Status.CONVERGED)
    # Huber's loss is linear far from its minimum, where the curvature tells nothing: inf is all that can be said.
    assert run.fun - best <= 10 * run.gap


def test_a_rate_too_large_for_the_log_loss_is_named_where_it_diverges():
    # The same row with both answers: the loss is symmetric and bends most, by ¼ + l2, at its minimum w = 0.
    X = np.array([[1.0], [1.0]])
    objective = LinearObjective(X, [0.0, 1.0], activation="sigmoid", loss="log", l2=1.0)
    limit = 2 / objective.lipschitz()
    with pytest.raises(DivergenceError, match="largest stable rate") as caught:
        gradient_descent(objective, [1e-3], lr=1.3 * limit, step_num=5000)
    assert caught.value.stable_lr == pytest.approx(limit)
    gradient_descent(objective, [1e-3], lr=0.99 * limit, step_num=5000)


@pytest.mark.one_build
@pytest.mark.parametrize(("precondition", "solver"), [("gram", "preconditioned"), ("diagonal", "accelerated")])
def test_what_precondition_is_called_now(precondition, solver):
    with pytest.raises(TypeError, match=f"use solver='{solver}' in place of precondition='{precondition}'"):
        gradient_descent(curved("log"), lr="auto", precondition=precondition)


@pytest.mark.one_build
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"lr": 0.1, "solver": "preconditioned"}, 'lr is for solver="gd" or "sgd"'),
        ({"lr": lambda step: 0.1, "solver": "accelerated"}, 'lr is for solver="gd" or "sgd"'),
        ({"solver": "hessian"}, "solver must be one of 'auto', 'gd', 'accelerated', 'preconditioned', 'gram', 'sgd'"),
        ({"solver": "preconditioned", "batch_size": 3}, 'batch_size is for solver="sgd"'),
        ({"solver": "gram"}, "solver='gram' is for the squared error with the identity; got loss='log'"),
    ],
)
def test_bad_input_gets_one_sentence(change, message):
    with pytest.raises(ValueError, match=message):
        gradient_descent(**({"f": curved("log"), "lr": "auto"} | change))
