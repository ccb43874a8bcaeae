"""Update rules in every loop, with bounds, penalties and clipping, and where they diverge."""

import numpy as np
import pytest
import scipy.optimize
import scipy.sparse
from kernel_problems import NAMES, SAME, close, problem

from fastgd import DivergenceError, LinearObjective, Status, gradient_descent, optimizers, schedules


def bowl(x):
    return 0.5 * float(3 * x[0] ** 2 + x[1] ** 2 + x[0] * x[1])


def bowl_slope(x):
    return np.array([3 * x[0] + 0.5 * x[1], x[1] + 0.5 * x[0]])


def walk(rule, start, slope, rates):
    """The loop that a user writes with `init` and `step`."""
    w = np.array(start)
    state = rule.init(w)
    points = [w.copy()]
    for lr in rates:
        rule.step(w, slope(w), state, lr)
        points.append(w.copy())
    return points


@pytest.mark.parametrize("name", NAMES)
def test_a_run_on_a_function_is_the_users_own_loop(name):
    rate = schedules.inverse_time_decay(0.1, 0.05)
    points = walk(optimizers.BY_NAME[name](), [1.0, -2.0], bowl_slope, map(rate, range(30)))
    result = gradient_descent(
        bowl, [1.0, -2.0], rate, 30, grad=bowl_slope, optimizer=name, history=True, callback=lambda r: None
    )
    np.testing.assert_array_equal(result.history.x, points)
    mean = np.mean(points[1:], axis=0) if name == "asgd" else points[-1]
    np.testing.assert_allclose(result.x, mean, rtol=1e-14)
    assert result.fun == bowl(result.x)
    np.testing.assert_array_equal(result.jac, bowl_slope(result.x))
    assert result.njev == 31 + (name == "asgd")
    numerical = gradient_descent(bowl, [1.0, -2.0], rate, 30, optimizer=name)
    np.testing.assert_allclose(numerical.x, result.x, rtol=0, atol=1e-6)


@pytest.mark.parametrize("dtype", SAME)
@pytest.mark.parametrize("name", NAMES)
def test_a_run_on_an_objective_is_the_users_own_loop(name, dtype):
    X, Y, *_ = problem(40, 4, 2, dtype, False)
    o = LinearObjective(X, Y, loss="mse", fit_intercept=True, l2=0.1)
    points = walk(optimizers.BY_NAME[name](), np.full(o.shape, 0.25, dtype), o.gradient, [0.02] * 20)
    for options in ({}, {"callback": lambda r: None}):  # many steps in a kernel, and one by one
        result = gradient_descent(
            o, np.full(o.shape, 0.25), 0.02, 20, optimizer=name, history=True, **options
        )  # fmt: skip
        close(result.history.x, points, 10 * SAME[dtype])
        x = np.mean(points[1:], axis=0) if name == "asgd" else points[-1]
        close(result.x, x, 10 * SAME[dtype])
        assert result.x.dtype == dtype
        assert np.isclose(result.fun, o.value(result.x), rtol=1e-12)


@pytest.mark.parametrize("sparse", [False, True], ids=["dense", "CSR"])
@pytest.mark.parametrize("name", NAMES)
def test_a_stochastic_run_is_the_users_own_loop(name, sparse):
    from fastgd.data.order import epoch_order

    rng = np.random.default_rng(5)
    X, y = rng.normal(size=(30, 3)), rng.normal(size=30)
    o = LinearObjective(scipy.sparse.csr_array(X) if sparse else X, y, loss="mse", fit_intercept=True, l2=0.1)
    batches = [order[i : i + 8] for epoch in range(3) for order in epoch_order(7, epoch, 30) for i in range(0, 30, 8)]
    slopes = iter([LinearObjective(X[b], y[b], loss="mse", fit_intercept=True, l2=0.1).gradient for b in batches])
    points = walk(optimizers.BY_NAME[name](), np.zeros(4), lambda w: next(slopes)(w), [0.03] * len(batches))
    result = gradient_descent(o, lr=0.03, step_num=12, optimizer=name, batch_size=8, seed=7, history=True)
    close(result.history.x, points, 1e-11)
    end = gradient_descent(o, lr=0.03, step_num=12, optimizer=name, batch_size=8, seed=7)
    close(end.x, np.mean(points[1:], axis=0) if name == "asgd" else points[-1], 1e-11)


@pytest.mark.parametrize("name", [name for name in NAMES if name != "asgd"])
def test_a_rule_may_serve_many_runs(name):
    rule = optimizers.BY_NAME[name]()
    runs = [gradient_descent(bowl, [1.0, 1.0], 0.05, 20, optimizer=rule, history=True) for _ in range(2)]
    np.testing.assert_array_equal(runs[0].history.x, runs[1].history.x)


def test_threads_do_not_change_a_bit():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(60_000, 20))
    y = (X[:, 0] > 0).astype(float)
    one, two = (
        gradient_descent(
            LinearObjective(X, y, activation="sigmoid", loss="log", n_jobs=n), lr=0.1, step_num=5, optimizer="adam"
        ).x
        for n in (1, 2)
    )
    np.testing.assert_array_equal(one, two)


def test_the_gram_route_takes_the_same_steps():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(5000, 8))
    o = LinearObjective(X, X @ np.arange(8.0) + rng.normal(size=5000), loss="mse")
    for name, lr in (("adam", 0.1), ("momentum", 0.05), ("nesterov", 0.05)):
        few, many = (gradient_descent(o, lr=lr, step_num=n, optimizer=name, history=True) for n in (4, 60))
        np.testing.assert_allclose(many.history.x[:5], few.history.x, rtol=0, atol=1e-11)
        points = walk(optimizers.BY_NAME[name](), np.zeros(8), o.gradient, [lr] * 60)
        np.testing.assert_allclose(many.history.x, points, rtol=0, atol=1e-10)


# -------------------------------------------------------------------------------------------- bounds, l1 and clipping


RATES = {"adagrad": 1.0, "adadelta": 5.0}


@pytest.mark.parametrize("name", [name for name in NAMES if name not in ("asgd", "adamw", "rmsprop")])
def test_every_rule_finds_the_minimum_with_an_l1_penalty(name):
    """½‖x − a‖² + λ‖x‖₁ has its minimum at soft(a, λ): the proximal step is taken in the metric of the rule."""
    a = np.array([3.0, -0.5, 0.2, -2.0, 1.0])
    minimum = np.sign(a) * np.maximum(np.abs(a) - 1, 0)
    lr = schedules.polynomial_decay(RATES.get(name, 0.2), 4000)
    r = gradient_descent(
        lambda x: 0.5 * float((x - a) @ (x - a)),
        np.full(5, 0.7),
        lr,
        4000,
        grad=lambda x: x - a,
        optimizer=name,
        l1=1.0,
    )
    np.testing.assert_allclose(r.x, minimum, atol=2e-3 if name == "adadelta" else 1e-6)
    assert np.all(r.x[[1, 2]] == 0)
    assert np.isclose(r.fun, 0.5 * np.sum((r.x - a) ** 2) + np.abs(r.x).sum(), rtol=1e-12)
    np.testing.assert_allclose(r.jac, r.x - a)


@pytest.mark.parametrize("one_by_one", [False, True])
def test_l1_on_an_objective_is_the_lasso(one_by_one):
    from sklearn.linear_model import Lasso

    rng = np.random.default_rng(3)
    X = rng.normal(size=(200, 8)) + 0.5
    y = X @ np.array([2.0, 0, 0, -1, 0.05, 0, 0, 3]) + 4 + 0.1 * rng.normal(size=200)
    theirs = Lasso(alpha=0.1, tol=1e-12, max_iter=100_000).fit(X, y)
    o = LinearObjective(X, y, loss="mse", fit_intercept=True)  # twice theirs
    options = {"callback": lambda r: None} if one_by_one else {}
    for optimizer in ("gd", "momentum", "adam"):
        lr = 0.02 if optimizer == "adam" else "auto"
        r = gradient_descent(o, lr=lr, step_num=6000, optimizer=optimizer, l1=0.2, **options)
        np.testing.assert_allclose(r.x, [*theirs.coef_, theirs.intercept_], atol=1e-6)
        np.testing.assert_array_equal(r.x[:-1] == 0, theirs.coef_ == 0)
        assert np.isclose(r.fun, o.value(r.x) + 0.2 * np.abs(r.x[:-1]).sum(), rtol=1e-12)
    r = gradient_descent(o, lr="auto", step_num=50_000, l1=0.2, tol=1e-10, history=True)
    assert r.status == Status.CONVERGED
    assert r.nit < 50_000
    # What is recorded as the norm is that of the shortest subgradient, which vanishes; the gradient does not.
    assert r.history.grad_norm[-1] < 1e-3 < 0.1 < np.linalg.norm(r.jac)
    assert np.isclose(r.history.fun[-1], r.fun, rtol=1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_bounds_are_kept_at_every_step_and_hold_the_minimum(name):
    rng = np.random.default_rng(4)
    X, y = rng.normal(size=(50, 3)), rng.normal(size=50) * 3
    theirs = scipy.optimize.lsq_linear(X, y, ([-0.1, 0.3, -1], [0.2, 0.5, np.inf]), tol=1e-14)
    bounds = [-0.1, 0.3, -1], [0.2, 0.5, np.inf]
    o = LinearObjective(X, y, loss="mse")
    lr = schedules.polynomial_decay(RATES.get(name, 0.1), 2000)
    for options in ({}, {"callback": lambda r: None}):
        r = gradient_descent(o, lr=lr, step_num=2000, optimizer=name, bounds=bounds, history=True, **options)
        assert np.all((r.history.x >= bounds[0]) & (r.history.x <= bounds[1]))
        assert r.history.x[0].tolist() == [0.0, 0.3, 0.0]  # moved onto the bounds
        np.testing.assert_allclose(r.x, theirs.x, atol={"adadelta": 0.1, "asgd": 0.05, "rmsprop": 1e-3}.get(name, 1e-4))


def test_bounds_on_a_function():
    r = gradient_descent(bowl, [3.0, 3.0], 0.1, 200, bounds=(1, None), tol=1e-9)
    np.testing.assert_allclose(r.x, [1, 1])
    assert r.success
    assert r.nit < 200
    assert "within tol" in r.message
    # All that is bounded is one coordinate from above; the other one is free.
    r = gradient_descent(bowl, [-3.0, -3.0], 0.1, 500, bounds=(None, [-1, np.inf]), tol=1e-9)
    np.testing.assert_allclose(r.x, [-1, 0.5], atol=1e-8)
    for nothing in ((None, None), (-np.inf, np.inf)):
        r = gradient_descent(bowl, [3.0, 3.0], 0.1, 9, bounds=nothing, history=True)
        np.testing.assert_array_equal(r.history.x, gradient_descent(bowl, [3.0, 3.0], 0.1, 9, history=True).history.x)


def test_a_gradient_is_clipped_for_the_step_alone():
    steep = np.array([30.0, -40.0, 0.5])
    common = {"grad": lambda x: steep, "history": True}
    r = gradient_descent(lambda x: float(steep @ x), np.zeros(3), 0.1, 2, clip_norm=5.0, **common)
    np.testing.assert_allclose(r.history.x[1], -0.1 * steep * 5 / np.linalg.norm(steep), rtol=1e-14)
    np.testing.assert_array_equal(r.jac, steep)
    np.testing.assert_allclose(r.history.grad_norm, np.linalg.norm(steep))
    r = gradient_descent(lambda x: float(steep @ x), np.zeros(3), 0.1, 1, clip_value=2.0, **common)
    np.testing.assert_allclose(r.x, [-0.2, 0.2, -0.05], rtol=1e-14)
    r = gradient_descent(lambda x: float(steep @ x), np.zeros(3), 0.1, 1, clip_norm=51.0, **common)
    np.testing.assert_allclose(r.x, -0.1 * steep, rtol=1e-14)
    with np.errstate(all="raise"):
        huge = np.array([1e200, -1e200])
        r = gradient_descent(lambda x: 0.0, np.zeros(2), 1.0, 1, grad=lambda x: huge, clip_value=1.0)
    np.testing.assert_array_equal(r.x, [-1, 1])


BAD = [
    ({"optimizer": "sgd"}, ValueError, "optimizer must be one of 'gd'"),
    ({"optimizer": optimizers.Adam}, TypeError, "call it"),
    ({"l1": -1}, ValueError, "l1 must be finite and at least 0"),
    ({"l1": "much"}, TypeError, "l1 must be a real number"),
    ({"clip_value": 0}, ValueError, "clip_value must be finite and positive"),
    ({"clip_norm": -2}, ValueError, "clip_norm must be finite and positive"),
    ({"clip_norm": 1, "clip_value": 1}, ValueError, "give one of them"),
    ({"bounds": 3}, TypeError, r"bounds must be a pair \(lower, upper\): a tuple of numbers or arrays, .*; got 3"),
    ({"bounds": (0, 1, 2)}, TypeError, "bounds must be a pair"),
    ({"bounds": (0, [1, 2, 3])}, ValueError, r"bounds must fit the shape \(2,\); got \(\) and \(3,\)"),
    ({"bounds": (np.nan, 1)}, ValueError, r"bounds \(lower\) must not be NaN"),
    ({"bounds": ("a", 1)}, TypeError, r"bounds \(lower\) must hold real numbers"),
    ({"bounds": ([0, 2], [1, 1])}, ValueError, r"lower must not be above upper; x\[1\] is 2.0 to 1.0"),
]


@pytest.mark.parametrize("change, kind, message", BAD, ids=str)
def test_what_a_run_cannot_take(change, kind, message):
    calls = []
    with pytest.raises(kind, match=message):
        gradient_descent(lambda x: calls.append(1) or 0.0, [1.0, 2.0], **change)
    assert not calls


def test_what_goes_together_with_the_automatic_rate():
    X, Y, *_ = problem(60, 3, 1, np.float64, False)
    o, unbounded = LinearObjective(X, Y[:, 0]), LinearObjective(X, Y[:, 0] ** 2, activation="exp", loss="poisson")
    best = np.linalg.lstsq(X, Y[:, 0])[0]
    for name in ("gd", "momentum", "nesterov"):
        r = gradient_descent(o, lr="auto", optimizer=name, step_num=3000, tol=1e-14)
        np.testing.assert_allclose(r.x, best, atol=1e-6)
    for name in ("adam", "adagrad", "rmsprop"):
        with pytest.raises(ValueError, match=r'lr="auto" is 1/L, which means nothing to .*give a number or a schedule'):
            gradient_descent(o, lr="auto", optimizer=name)
    for options in ({"optimizer": "momentum"}, {"bounds": (0, 1)}, {"clip_norm": 1.0}):
        for solver in ("preconditioned", "gram", "accelerated"):
            with pytest.raises(
                ValueError, match=rf'is for solver="gd" or "sgd" or ("newton" or )?"auto"; got solver=\'{solver}\''
            ):
                gradient_descent(o, lr="auto", solver=solver, **options)
        with pytest.raises(ValueError, match=r'lr="auto" is 1/L, and the curvature .* has no bound L: give a number'):
            gradient_descent(unbounded, lr="auto", **options)


@pytest.mark.parametrize("solver", ["preconditioned", "gram", "accelerated", "auto"])
def test_an_l1_penalty_goes_with_every_solver(solver):
    """At the minimum the gradient of the rest is −l1·sign(w), and no longer than l1 where w is 0."""
    X, Y, *_ = problem(60, 3, 1, np.float64, False)
    kinds = [{}] if solver == "gram" else [{}, {"activation": "exp", "loss": "poisson"}]
    for options in kinds:
        o = LinearObjective(X, Y[:, 0] ** 2 if options else Y[:, 0], **options)
        l1 = 0.5 * float(np.max(np.abs(o.gradient(np.zeros(3)))))
        r = gradient_descent(o, solver=solver, l1=l1, tol=1e-12, step_num=5000)
        assert r.success and np.any(r.x == 0) and np.any(r.x != 0)
        np.testing.assert_allclose(r.jac[r.x != 0], -l1 * np.sign(r.x[r.x != 0]), rtol=1e-4)
        assert np.all(np.abs(r.jac[r.x == 0]) <= l1)
        assert r.fun == pytest.approx(o.value(r.x) + l1 * np.sum(np.abs(r.x)), rel=1e-14)


# ---------------------------------------------------------------------------------------------------------- divergence


@pytest.mark.parametrize("name", ["gd", "momentum", "nesterov", "asgd"])
@pytest.mark.parametrize("kind", ["function", "objective"])
def test_the_stable_rate_divides_convergence_from_divergence(name, kind):
    """½(4x₀² + x₁²): largest curvature 4. The error names step, rate and limit; just below it the run goes down."""
    rule = optimizers.get(name)
    limit = rule.stable_rate(4.0)
    X = np.diag([2.0, 1.0])
    o = LinearObjective(X, np.zeros(2))
    given = (o,) if kind == "objective" else (lambda x: 0.5 * float(4 * x[0] ** 2 + x[1] ** 2),)
    options = {"optimizer": name, "step_num": 3000}
    if kind == "function":
        options["grad"] = lambda x: np.array([4 * x[0], x[1]])
    r = gradient_descent(*given, [1.0, 1.0], 0.98 * limit, **options)
    assert r.fun < 1e-5
    with pytest.raises(
        DivergenceError, match=r"diverged at step \d+ with learning rate .*largest stable rate"
    ) as error:
        gradient_descent(*given, [1.0, 1.0], 1.05 * limit, **options)
    assert 0 < error.value.step < 3000
    assert error.value.lr == 1.05 * limit
    assert np.isclose(error.value.stable_lr, limit, rtol=0.02)
    assert error.value.result.status == Status.DIVERGED


@pytest.mark.parametrize("lr", [10.0**k for k in range(-8, 9, 2)])
@pytest.mark.parametrize("name", NAMES)
def test_a_run_ends_lower_than_it_began_or_as_a_named_divergence(name, lr):
    rng = np.random.default_rng(6)
    X, y = rng.normal(size=(30, 3)) * [1, 1e-3, 1e3], rng.normal(size=30)
    o = LinearObjective(X, y, loss="mse")
    start = np.array([1.0, 1.0, 1.0])
    cases = [
        (o, {}),
        (o, {"history": True}),
        (lambda x: float(np.sum((X @ x - y) ** 2)), {"grad": lambda x: 2 * X.T @ (X @ x - y)}),
    ]
    for f, options in cases:
        began = o.value(start) * (1 if f is o else 30)
        try:
            r = gradient_descent(f, start, lr, 60, optimizer=name, **options)
        except DivergenceError as error:
            assert f"learning rate {lr:.6g}" in str(error) or name == "asgd"
        else:
            assert r.fun <= began * (1 + 1e-12)


def test_a_rule_that_may_rise_is_given_room():
    """Momentum runs up the other side of a valley, Adam steps over it: both come back."""
    steep = LinearObjective(np.eye(2) * 3, np.zeros(2))
    for name, lr in (("momentum", 0.3), ("adam", 3.0)):
        r = gradient_descent(steep, [1.0, 0.5], lr, 1000, optimizer=name, history=True)
        assert np.any(np.diff(r.history.fun) > 0)
        assert r.fun < 1e-3
    # Past the start, for a while.
    r = gradient_descent(steep, [1.0, 0.5], 3.0, 1000, optimizer="adam", history=True)
    assert r.history.fun.max() > 2 * r.history.fun[0]


def test_squares_that_leave_the_floats_are_named():
    """With v = ∞ every later step is zero: a run that stands still must not look like one that has converged."""
    with pytest.raises(DivergenceError, match="squares of the gradient are no longer finite"):
        gradient_descent(
            lambda x: 1e200 * float(x[0]), [1.0], 0.1, 5, grad=lambda x: np.array([1e200]), optimizer="adam"
        )


def test_no_evaluation_is_spent_that_was_not_asked_for():
    calls = []
    f = lambda x: calls.append(1) or bowl(x)  # noqa: E731
    for name in NAMES:
        calls.clear()
        r = gradient_descent(f, [1.0, -2.0], 0.01, 20, grad=bowl_slope, optimizer=name)
        # An average of points may lie anywhere: its value is compared with that of the start.
        assert len(calls) == r.nfev == (2 if name == "asgd" else 1), name
