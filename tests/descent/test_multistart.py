"""`sweep`: each run is the one that would be made alone, and the passes over X are shared."""

import tracemalloc

import numpy as np
import pytest
import scipy.sparse

from fastgd import DivergenceError, LinearObjective, Status, gradient_descent, sweep
from fastgd.data import Dense
from fastgd.descent import sweep_routes

# Runs side by side and runs alone add up in other orders.
SAME = {np.float64: {"rtol": 1e-11, "atol": 1e-12}, np.float32: {"rtol": 2e-4, "atol": 2e-5}}

MODELS = {
    "mse": {},
    "sse": {"loss": "sse"},
    "intercept": {"fit_intercept": True},
    "penalty": {"fit_intercept": True, "l2": 0.3},
    "float32": {"dtype": np.float32},
    "outputs": {"k": 3, "fit_intercept": True},
    "log": {"loss": "log", "activation": "sigmoid", "fit_intercept": True},
    "huber": {"loss": "huber", "activation": "tanh", "k": 2},
    "softmax": {"loss": "log", "activation": "softmax", "k": 3, "fit_intercept": True},
    "poisson": {"loss": "poisson", "activation": "exp"},
    "sparse": {"sparse": True, "fit_intercept": True},
    "sparse outputs": {"sparse": True, "k": 3},
    "weights": {"weighted": True},
}


def problem(n=60, d=4, k=None, dtype=np.float64, sparse=False, weighted=False, loss="mse", **options):
    rng = np.random.default_rng(1)
    X = rng.normal(0.3, 1.0, (n, d)).astype(dtype)
    if sparse:
        X = scipy.sparse.csr_array(np.where(rng.random((n, d)) < 0.4, X, 0))
    y = rng.uniform(0, 1, (n, k) if k else n).astype(dtype)
    if options.get("activation") == "softmax":
        y /= y.sum(axis=1, keepdims=True)
    weights = rng.uniform(0.5, 2, n) if weighted else None
    return LinearObjective(X, y, loss=loss, sample_weight=weights, **options)


def with_l2(o, l2):
    weights = o.rows.weights if o.rows.weights.size else None
    return LinearObjective(
        o.X, o.y, activation=o.activation, loss=o.loss, fit_intercept=o.fit_intercept, l2=l2, sample_weight=weights
    )  # fmt: skip


def alone(*arguments, **options):
    try:
        return gradient_descent(*arguments, **options)
    except DivergenceError as error:
        error.result.message = str(error)
        return error.result


def assert_same_run(ours, single):
    same = SAME[single.x.dtype.type]
    assert ours.x.dtype == ours.jac.dtype == single.x.dtype
    assert type(ours.fun) is float
    assert (ours.nit, ours.status, ours.success) == (single.nit, single.status, single.success)
    for name in ("x", "fun", "jac"):
        np.testing.assert_allclose(ours[name], single[name], **same, err_msg=name)
    assert (ours.history is None) == (single.history is None)
    for name, values in (single.history or {}).items():
        np.testing.assert_allclose(ours.history[name], values, **same, err_msg=name)


# -------------------------------------------------------------------------------------------------------- single runs


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("runs", [2, 5])
def test_each_run_is_the_one_made_alone(name, runs):
    # 2 runs are fewer than the outputs of some models, 5 are more: the kernels are then called in another way.
    o = problem(**MODELS[name])
    rates = np.linspace(0.2, 1.0, runs) / (o.lipschitz() if np.isfinite(o.lipschitz()) else 10)
    starts = np.random.default_rng(2).normal(0, 0.3, (runs, *o.shape))
    before = starts.copy()
    found = sweep(o, lr=rates, init_w=starts, step_num=12, history=True, route="direct")
    assert len(found) == runs
    np.testing.assert_array_equal(starts, before)
    for ours, lr, start in zip(found, rates, starts, strict=True):
        single = gradient_descent(o, start, lr=float(lr), step_num=12, history=True)
        assert_same_run(ours, single)
        assert (ours.nfev, ours.njev) == (13, 13)


@pytest.mark.parametrize("route", ["direct", "gram"])
@pytest.mark.parametrize("name", ["mse", "intercept", "outputs", "float32", "sparse", "weights"])
def test_each_penalty_is_that_of_an_objective_of_its_own(name, route):
    o = problem(**MODELS[name])
    penalties = [0.0, 0.2, 5.0]
    found = sweep(o, lr=0.05, l2=penalties, step_num=15, history=True, route=route)
    for ours, l2 in zip(found, penalties, strict=True):
        assert_same_run(ours, gradient_descent(with_l2(o, l2), lr=0.05, step_num=15, history=True))


@pytest.mark.parametrize("route", ["direct", "gram"])
def test_more_runs_than_a_kernel_call_takes(route):
    o = problem(n=700, d=7)
    runs = 2 * sweep_routes.CALL_COLUMNS + 3
    rates = np.linspace(0.1, 1.9, runs) / o.lipschitz()
    for ours, lr in zip(sweep(o, lr=rates, step_num=5, route=route), rates, strict=True):
        assert_same_run(ours, gradient_descent(o, lr=float(lr), step_num=5))


@pytest.mark.parametrize("k", [None, 5])
def test_several_blocks_and_blas(k):
    o = problem(n=40_000, d=8, k=k)
    assert len(o.rows.blocks()) > 1
    rates = np.linspace(0.1, 1.0, 6) / o.lipschitz()
    found = sweep(o, lr=rates, step_num=2, route="direct")
    for ours, lr in zip(found, rates, strict=True):
        assert_same_run(ours, gradient_descent(o, lr=float(lr), step_num=2))


@pytest.mark.parametrize("route", ["direct", "gram"])
def test_callables_are_schedules_of_their_run(route):
    o = problem()

    def falling(step):
        return 0.4 / (1 + step)

    ours, constant = sweep(o, lr=[falling, 0.1], step_num=4, history=True, route=route)
    np.testing.assert_allclose(ours.history.lr, [0.4, 0.2, 0.4 / 3, 0.1])
    assert_same_run(ours, gradient_descent(o, lr=falling, step_num=4, history=True))
    assert_same_run(constant, gradient_descent(o, lr=0.1, step_num=4, history=True))


def test_one_rate_one_start_and_one_penalty_are_for_all_runs():
    o = problem()
    start = np.arange(4)
    (run,) = sweep(o, lr=0.1, init_w=start, l2=0.5, step_num=3)
    assert_same_run(run, gradient_descent(with_l2(o, 0.5), start, lr=0.1, step_num=3))
    first, second = sweep(o, lr=[0.1, 0.2], init_w=start, l2=[0.5], step_num=3)
    assert_same_run(first, run)
    assert_same_run(second, gradient_descent(with_l2(o, 0.5), start, lr=0.2, step_num=3))


def test_no_steps_leave_the_start():
    o = problem()
    (run,) = sweep(o, lr=[0.1], init_w=np.ones((1, 4)), step_num=0)
    np.testing.assert_array_equal(run.x, np.ones(4))
    assert run.nit == 0
    assert run.fun == pytest.approx(o.value(np.ones(4)), rel=1e-13)


# ------------------------------------------------------------------------------------------------- the ends of a run


@pytest.mark.parametrize("route", ["direct", "gram"])
@pytest.mark.parametrize("l2", [None, [0.0, 0.1, 0.1]])
def test_each_run_stops_at_its_own_tolerance(route, l2):
    o = problem(fit_intercept=True)
    rates = np.array([0.2, 1.0, 0.01]) / o.lipschitz()
    found = sweep(o, lr=rates, l2=l2, tol=1e-6, step_num=400, history=True, route=route)
    assert [run.status for run in found] == [Status.CONVERGED, Status.CONVERGED, Status.STEP_LIMIT]
    assert found[1].nit < found[0].nit < 400
    for i, (ours, lr) in enumerate(zip(found, rates, strict=True)):
        of_its_own = o if l2 is None else with_l2(o, l2[i])
        single = gradient_descent(of_its_own, lr=float(lr), tol=1e-6, step_num=400, history=True)
        assert_same_run(ours, single)
        assert ours.message.split(" is at most")[0] == single.message.split(" is at most")[0]


def test_a_minimum_at_the_start_ends_the_run():
    o = LinearObjective([[1.0, 0.0], [0.0, 1.0]], [1.0, 2.0])
    there, away = sweep(o, lr=0.1, init_w=[[1.0, 2.0], [0.0, 0.0]], tol=1e-3, step_num=5)
    assert (there.nit, there.status) == (0, Status.CONVERGED)
    assert (away.nit, away.status) == (5, Status.STEP_LIMIT)
    assert not away.success


def test_no_bound_of_the_curvature_is_no_convergence():
    o = problem(**MODELS["poisson"])
    (run,) = sweep(o, lr=[1e-3], tol=1e-9, step_num=5)
    assert run.nit == 5
    assert run.status == Status.STEP_LIMIT


@pytest.mark.parametrize("route", ["direct", "gram"])
@pytest.mark.parametrize("factor", [3.0, 2.2, 1e200])  # overshooting, still on its way at the last step, not finite
def test_a_run_that_diverges_is_a_result_and_the_others_go_on(route, factor):
    o = problem()
    rates = np.array([0.5, factor, 1.0]) / o.lipschitz()
    fine, away, also_fine = sweep(o, lr=rates, step_num=20, route=route)
    for ours, lr in ((fine, rates[0]), (also_fine, rates[2])):
        assert_same_run(ours, gradient_descent(o, lr=float(lr), step_num=20))
    single = alone(o, lr=float(rates[1]), step_num=20)
    assert (away.nit, away.status, away.success) == (single.nit, Status.DIVERGED, False)
    np.testing.assert_allclose(away.x, single.x, rtol=1e-9)
    assert away.message == single.message
    assert f"learning rate {rates[1]:.6g}" in away.message
    assert f"{2 / o.lipschitz():.3g}" in away.message


def test_the_stable_rate_of_a_diverged_run_is_that_of_its_penalty():
    o = problem()
    lr = 1 / o.lipschitz()
    fine, away = sweep(o, lr=lr, l2=[0.0, 40 / lr], step_num=50)
    assert fine.success
    assert away.status == Status.DIVERGED
    assert f"{2 / with_l2(o, 40 / lr).lipschitz():.3g}" in away.message


@pytest.mark.parametrize("factor", [3.0, 1e200])
def test_the_history_of_a_diverged_run_ends_with_it(factor):
    o = problem()
    (run,) = sweep(o, lr=[factor / o.lipschitz()], step_num=50, history=True, route="direct")
    assert len(run.history.x) == len(run.history.fun) == len(run.history.grad_norm) == run.nit + 1
    assert len(run.history.lr) == run.nit
    np.testing.assert_array_equal(run.history.x[-1], run.x)


# ---------------------------------------------------------------------------------------------------- shared passes


@pytest.fixture
def calls(monkeypatch):
    """The blocks that kernels are called with."""
    seen = []
    sums = Dense.sums

    def counted(self, block, *rest):
        seen.append(block)
        return sums(self, block, *rest)

    monkeypatch.setattr(Dense, "sums", counted)
    return seen


@pytest.mark.one_build
def test_a_step_of_all_runs_is_one_pass(calls):
    sweep(problem(), lr=np.linspace(0.01, 0.1, 8), step_num=5, route="direct")
    assert calls == [(0, 60)] * 6


@pytest.mark.one_build
def test_the_gram_route_passes_over_the_data_a_fixed_number_of_times(calls):
    for steps in (5, 50):
        calls.clear()
        sweep(problem(), lr=np.linspace(0.01, 0.1, 8), step_num=steps, route="gram")
        assert calls == [(0, 60)] * 3


@pytest.mark.one_build
def test_auto_takes_the_gram_matrix_where_it_pays(calls):
    o = problem(n=500)
    sweep(o, lr=np.linspace(0.01, 0.1, 20), step_num=100)
    assert len(calls) == 3
    calls.clear()
    sweep(o, lr=[0.1], step_num=4)
    assert len(calls) == 5
    calls.clear()
    sweep(problem(**MODELS["huber"]), lr=[0.01], step_num=200)
    assert len(calls) > 200


def test_auto_leaves_an_ill_conditioned_gram_matrix_and_says_so():
    X = np.random.default_rng(0).normal(size=(300, 3))
    X[:, 2] = X[:, 1] + 1e-5 * X[:, 2]
    o = LinearObjective(X, X[:, 0], loss="mse")
    (run,) = sweep(o, lr=[0.3], step_num=500)
    assert "condition number" in run.message
    # A penalty is part of what is stepped on, and takes the reason away.
    (run,) = sweep(o, lr=[0.3], l2=0.1, step_num=500)
    assert "condition number" not in run.message


def test_value_and_gradient_on_the_gram_route_are_those_of_the_point():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(400, 5))
    o = LinearObjective(X, X @ np.arange(1.0, 6.0), loss="mse")  # fits exactly: any cancellation would show
    for run in sweep(o, lr=np.array([0.5, 1.0]) / o.lipschitz(), step_num=60, route="gram", history=True):
        value, gradient = o.value_and_gradient(run.x)
        assert run.fun == pytest.approx(value, rel=1e-9, abs=1e-18)
        np.testing.assert_allclose(run.jac, gradient, rtol=1e-9, atol=1e-14)
        exact = [o.value(x) for x in run.history.x]
        # Around 0 the values would be off by 1e-15 of the first, which is about 50.
        np.testing.assert_allclose(run.history.fun, exact, rtol=1e-9, atol=1e-18)


def test_threads_do_not_change_a_bit():
    kept = None
    for n_jobs in (1, 2, 3):
        o = problem(n=40_000, d=10, n_jobs=n_jobs)
        assert len(o.rows.blocks()) > 1
        runs = sweep(o, lr=[0.1, 0.2, 0.3], step_num=3, route="direct")
        found = np.array([[*run.x, run.fun, *run.jac] for run in runs])
        kept = found if kept is None else kept
        np.testing.assert_array_equal(found, kept)


@pytest.mark.parametrize("k", [None, 4])
def test_the_targets_are_not_repeated_in_memory(build, k):
    if build.name == "reference":
        pytest.skip("the reference works on whole arrays")
    o = problem(n=50_000, d=3, k=k)
    lr = np.full(16, 0.1)
    sweep(o, lr=lr, step_num=1, route="direct")
    tracemalloc.start()
    sweep(o, lr=lr, step_num=1, route="direct")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < o.rows.n * 8  # one column of the 16·k


# --------------------------------------------------------------------------------------------------------- bad input


@pytest.mark.one_build
@pytest.mark.parametrize(
    ("options", "kind", "message"),
    [
        ({"lr": "auto"}, TypeError, "lr must be a sequence of learning rates"),
        ({"lr": ["auto"]}, ValueError, "use gradient_descent"),
        ({"lr": []}, ValueError, "lr must have at least one"),
        ({"lr": [0.1, -1.0]}, ValueError, r"lr\[1\] must be finite and at least 0"),
        ({"lr": [0.1, np.nan]}, ValueError, r"lr\[1\]"),
        ({"lr": [[0.1]]}, TypeError, r"lr\[0\] must be a real number"),
        ({"lr": None}, TypeError, "lr must be"),
        ({"lr": True}, TypeError, "lr must be"),
        ({"lr": [lambda step: -1.0]}, ValueError, r"lr\[0\]\(0\) must be"),
        ({"l2": [-1.0]}, ValueError, r"l2\[0\] must be"),
        ({"l2": "0.1"}, TypeError, "l2 must be"),
        ({"l2": [0.1, 0.2, 0.3]}, ValueError, "lr has 2 entries, init_w 1 and l2 3"),
        ({"init_w": np.zeros((3, 4))}, ValueError, "lr has 2 entries, init_w 3 and l2 1"),
        ({"init_w": np.zeros((2, 5))}, ValueError, r"init_w must have shape \(4,\) or \(K, 4\)"),
        ({"init_w": np.zeros((0, 4))}, ValueError, "init_w must have shape"),
        ({"init_w": np.full((2, 4), np.nan)}, ValueError, "init_w must be finite"),
        ({"init_w": [[0.0] * 4, [1e200] * 4]}, ValueError, "run 1 is not finite at the start"),
        ({"step_num": -1}, ValueError, "step_num"),
        ({"tol": 0.0}, ValueError, "tol"),
        ({"history": 1}, TypeError, "history"),
        ({"route": "fast"}, ValueError, "route must be one of"),
    ],
)
def test_bad_input_gets_one_sentence(options, kind, message):
    with pytest.raises(kind, match=message) as caught:
        sweep(problem(), **{"lr": [0.1, 0.2]} | options)
    assert "\n" not in str(caught.value)


@pytest.mark.one_build
def test_what_cannot_be_swept():
    with pytest.raises(TypeError, match="objective must be a LinearObjective"):
        sweep(lambda x: x @ x, lr=[0.1])
    with pytest.raises(ValueError, match='route="gram" is for squared losses'):
        sweep(problem(**MODELS["log"]), lr=[0.1], route="gram")
    with pytest.raises(ValueError, match="tol has no bound of the gap for loss='epsilon_insensitive'"):
        sweep(problem(loss="epsilon_insensitive"), lr=[0.1], tol=1e-3)
