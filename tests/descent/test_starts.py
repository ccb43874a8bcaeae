"""Many starts: where they are, that no run is lost, and that runs made together are the runs made alone."""

import concurrent.futures
import multiprocessing

import numpy as np
import pytest

from fastgd import DivergenceError, LinearObjective, Status, gradient_descent
from fastgd.descent.starts import multi_start, starts

pytestmark = pytest.mark.one_build

BOX = ([-5.12, -5.12], [5.12, 5.12])


def rastrigin(x):
    """10d + Σ(x² − 10 cos 2πx): a minimum near each point of whole numbers, the lowest, 0, at the origin."""
    return float(10 * len(x) + np.sum(x * x - 10 * np.cos(2 * np.pi * x)))


def rastrigin_of_rows(points):
    return 10 * points.shape[1] + np.sum(points * points - 10 * np.cos(2 * np.pi * points), axis=1)


def rastrigin_slope(x):
    return 2 * x + 20 * np.pi * np.sin(2 * np.pi * x)


def two_valleys(x):
    """(x² − 1)² − x/10: two minima, the one near 1 lower by about 0.2."""
    return float((x[0] ** 2 - 1) ** 2 - 0.1 * x[0])


def wall(x):
    """x − log x to the right of 0, lowest at 1, and nothing to its left."""
    return float(x[0] - np.log(x[0])) if x[0] > 0 else np.nan


# -------------------------------------------------------------------------------------------------------- what it finds


def test_the_lowest_of_many_minima_is_found():
    # 64 points of a Sobol sequence lie one in each cell of an 8 × 8 grid, of which four are within the lowest valley.
    box = ([-1.9, -1.9], [1.9, 1.9])
    best = multi_start(rastrigin, box, 64, lr=0.002, step_num=300, grad=rastrigin_slope)
    np.testing.assert_allclose(best.x, 0, atol=1e-6)
    assert best.fun < 1e-10
    assert len(best.runs) == 64
    assert best.fun == min(run.fun for run in best.runs)
    assert best.runs[best.number].x.tolist() == best.x.tolist()


def test_distinct_minima_are_counted():
    best = multi_start(two_valleys, ([-2.0], [2.0]), 32, lr=0.05, step_num=300)
    # The roots of 4x³ − 4x − 0.1.
    right, _, left = sorted(np.roots([4, 0, -4, -0.1]).real, reverse=True)
    assert [round(float(minimum.x[0]), 5) for minimum in best.minima] == [round(right, 5), round(left, 5)]
    assert sum(minimum.count for minimum in best.minima) == 32
    assert sorted(number for minimum in best.minima for number in minimum.runs) == list(range(32))
    for minimum in best.minima:
        assert minimum.count == len(minimum.runs) > 8
        assert all(abs(best.runs[number].x[0] - minimum.x[0]) < 4e-3 for number in minimum.runs)
    assert "the best of 32 runs" in best.message and "2 distinct ends" in best.message


def test_a_result_of_many_runs_prints_on_one_screen():
    best = multi_start(rastrigin_of_rows, BOX, 200, lr=0.002, step_num=20, vectorized=True)
    assert len(repr(best).splitlines()) < 30
    assert "200 runs: 200 STEP_LIMIT" in repr(best)


# --------------------------------------------------------------------------------------------------------------- starts


@pytest.mark.parametrize("sampler", ["sobol", "lhs", "uniform"])
@pytest.mark.parametrize("n", [1, 7, 64])
def test_starts_between_bounds(sampler, n):
    lower, upper = np.array([-1.0, 10.0, 0.0]), np.array([1.0, 1e6, 1e-6])
    points = starts(rastrigin, (lower, upper), n, 3, sampler)
    assert points.shape == (n, 3)
    assert np.all(points >= lower) and np.all(points <= upper)
    np.testing.assert_array_equal(points, starts(rastrigin, (lower, upper), n, 3, sampler))
    assert not np.any(points == starts(rastrigin, (lower, upper), n, 4, sampler))
    share = (points - lower) / (upper - lower)
    if sampler == "lhs":  # one in each of n layers of every coordinate
        np.testing.assert_array_equal(np.sort(np.floor(share * n).astype(int), axis=0).T, [range(n)] * 3)
    if sampler == "sobol" and n == 64:
        np.testing.assert_array_equal(np.sort(np.floor(share * n).astype(int), axis=0).T, [range(n)] * 3)


def test_widths_beyond_the_largest_float():
    points = starts(rastrigin, ([-1.5e308], [1.5e308]), 50, 0, "uniform")
    assert np.all(np.isfinite(points)) and points.min() < 0 < points.max()


def test_starts_of_the_users_own():
    given = np.array([[0.5, 0.5], [2.0, -2.0], [3.1, 3.1]])
    best = multi_start(rastrigin, given, 2, lr=0.0, step_num=0)
    assert [run.x.tolist() for run in best.runs] == given[:2].tolist()
    best = multi_start(rastrigin, lambda rng, n: rng.normal(size=(n, 2)), 3, lr=0.0, step_num=0, seed=5)
    np.testing.assert_array_equal([run.x for run in best.runs], np.random.default_rng(5).normal(size=(3, 2)))


def test_a_pair_for_each_variable_is_no_pair_of_bounds():
    # As SciPy has them; read as (lower, upper) all starts would be the point (-1, 1).
    with pytest.raises(ValueError, match="not a pair for each variable"):
        multi_start(rastrigin, ((-1, 1), (-1, 1)), 4, lr=0.001, step_num=5)
    with pytest.raises(TypeError, match="a pair for each variable"):
        multi_start(rastrigin, [(-1, 1), (-1, 1)], 4, lr=0.001, step_num=5)


def test_shapes_of_starts():
    def total(x):
        assert x.shape == (2, 3)
        return float(np.sum(x * x))

    assert multi_start(total, (-1.0, 1.0), 3, lr=0.1, step_num=2, shape=(2, 3)).x.shape == (2, 3)
    assert multi_start(total, (np.zeros((2, 3)), 1), 3, lr=0.1, step_num=2).x.shape == (2, 3)
    assert multi_start(lambda x: float(x @ x), (-1, 1), 3, lr=0.1, step_num=2, shape=4).x.shape == (4,)


# ----------------------------------------------------------------------------------------------------------- divergence


@pytest.mark.parametrize("vectorized", [False, True])
def test_runs_that_diverge_are_kept_and_lose_nothing_else(vectorized):
    # Where |x| < 1 the rate is stable for x², beyond it x⁴ takes over and flings the run away.
    def f(x):
        return np.sum(x**2 + x**8, axis=-1) if vectorized else float(np.sum(x**2 + x**8))

    best = multi_start(f, ([-3.0], [3.0]), 16, lr=0.1, step_num=50, vectorized=vectorized)
    ended = [run.status for run in best.runs]
    assert {Status.DIVERGED, Status.STEP_LIMIT} == set(ended)
    assert abs(best.x[0]) < 1e-3
    assert sum(minimum.count for minimum in best.minima) == ended.count(Status.STEP_LIMIT)
    assert f"{ended.count(Status.DIVERGED)} diverged" in best.message
    for run in best.runs:
        assert run.success == (run.status != Status.DIVERGED)
        assert np.all(np.isfinite(run.x))
        assert run.success or "diverged at step" in run.message


@pytest.mark.parametrize("vectorized", [False, True])
def test_starts_without_a_value_are_kept_too(vectorized):
    f = (lambda points: np.array([wall(x) for x in points])) if vectorized else wall
    best = multi_start(f, np.array([[-1.0], [2.0], [0.5]]), 3, lr=0.1, step_num=100, vectorized=vectorized)
    assert [run.status.name for run in best.runs] == ["DIVERGED", "STEP_LIMIT", "STEP_LIMIT"]
    assert "at the start" in best.runs[0].message
    assert best.runs[0].x.tolist() == [-1.0]
    np.testing.assert_allclose(best.x, 1.0, atol=1e-3)


@pytest.mark.parametrize("vectorized", [False, True])
def test_where_all_diverge_it_is_an_error_that_keeps_them(vectorized):
    f = (lambda x: np.sum(x * x, axis=-1)) if vectorized else (lambda x: float(x @ x))
    with pytest.raises(
        DivergenceError, match=r"none of 5 runs came to an end \(5 diverged\); the lowest: .*learning rate 3"
    ) as caught:
        multi_start(f, ([-1.0, -1.0], [1.0, 1.0]), 5, lr=3.0, step_num=100, vectorized=vectorized)
    assert len(caught.value.result.runs) == 5


def test_what_f_raises_arrives_as_it_is():
    def broken(x):
        raise KeyError("mine")

    for workers in (None, 2):
        with pytest.raises(KeyError, match="mine"):
            multi_start(broken, ([0.0], [1.0]), 3, lr=0.1, step_num=2, workers=workers)


# ------------------------------------------------------------------------------------------------------------- together


@pytest.mark.parametrize("analytic", [False, True])
@pytest.mark.parametrize("optimizer", ["gd", "momentum", "adam", "rmsprop"])
def test_runs_together_are_the_runs_alone(optimizer, analytic):
    options = {"lr": lambda step: 0.003 / (1 + 0.01 * step), "step_num": 60, "optimizer": optimizer}
    alone = multi_start(rastrigin, BOX, 12, **options, grad=rastrigin_slope if analytic else None)
    together = multi_start(
        rastrigin_of_rows, BOX, 12, **options, grad=rastrigin_slope if analytic else None, vectorized=True
    )
    for a, b in zip(alone.runs, together.runs, strict=True):
        np.testing.assert_allclose(b.x, a.x, rtol=1e-6, atol=1e-8)
        np.testing.assert_allclose(b.fun, a.fun, rtol=1e-6, atol=1e-8)
        assert (b.nit, b.status, b.success) == (a.nit, a.status, a.success)


def test_runs_together_stop_one_by_one():
    def f(points):
        return np.sum(points**2, axis=1)

    given = np.array([[1e-3, 0.0], [1.0, 1.0], [0.0, 0.0], [100.0, -100.0]])
    best = multi_start(f, given, 4, lr=0.1, step_num=200, tol=1e-2, vectorized=True)
    alone = [gradient_descent(lambda x: float(x @ x), x, lr=0.1, step_num=200, tol=1e-2) for x in given]
    assert [run.nit for run in best.runs] == [run.nit for run in alone]
    assert [run.nit for run in best.runs][:3:2] == [0, 0]
    assert all(run.status == Status.CONVERGED for run in best.runs)
    for run in best.runs:
        np.testing.assert_allclose(run.fun, np.sum(run.x**2), rtol=1e-15)
        np.testing.assert_allclose(run.jac, 2 * run.x, atol=1e-8)


def test_a_step_takes_two_calls_for_all_points():
    calls = []

    def f(points):
        calls.append(points.shape)
        return np.sum(points**2, axis=1)

    best = multi_start(f, ([-1.0] * 3, [1.0] * 3), 10, lr=0.1, step_num=5, vectorized=True)
    # The values at the starts; for each of six gradients the differences and three more points that judge them; the
    # values at the ends.
    assert calls == [(10, 3)] + 6 * [(60, 3), (30, 3)] + [(10, 3)]
    assert sum(shape[0] for shape in calls) == sum(run.nfev for run in best.runs)
    assert {run.njev for run in best.runs} == {6}


def test_f_may_write_to_the_points_and_return_one_buffer():
    buffer = np.empty(60)

    def f(points):
        found = buffer[: len(points)]
        found[:] = np.sum(points**2, axis=1)
        points[:] = np.nan
        return found

    given = np.arange(1.0, 11.0)[:, None] * [1.0, -1.0, 0.5]
    before = given.copy()
    best = multi_start(f, given, 10, lr=0.25, step_num=4, vectorized=True)
    np.testing.assert_array_equal(given, before)
    for run, start in zip(best.runs, given, strict=True):
        np.testing.assert_allclose(run.x, start / 16, rtol=1e-6)


def test_bounds_of_the_descent():
    box = ([0.5, -2.0], [3.0, 2.0])
    for vectorized, f in ((False, lambda x: float(x @ x)), (True, lambda x: np.sum(x * x, axis=1))):
        best = multi_start(f, box, 6, lr=0.1, step_num=200, bounds=box, vectorized=vectorized)
        np.testing.assert_allclose(best.x, [0.5, 0.0], atol=1e-6)
        assert len(best.minima) == 1


# -------------------------------------------------------------------------------------------------------------- workers


class Cluster:
    """What is known of an executor: `submit`, and futures with `result` and `cancel`."""

    def __init__(self):
        self.submitted, self.cancelled = 0, 0

    def submit(self, task, argument):
        self.submitted += 1
        cluster = self

        class Future:
            def result(self):
                return task(argument)

            def cancel(self):
                cluster.cancelled += 1

        return Future()


def test_workers_of_every_kind_make_the_same_runs():
    options = {"lr": 0.002, "step_num": 20}
    expected = multi_start(rastrigin, BOX, 6, **options)
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(1, mp_context=context) as processes:
        for workers in (1, 3, map, lambda *arguments: list(map(*arguments)), Cluster(), processes):
            found = multi_start(rastrigin, BOX, 6, **options, workers=workers)
            for a, b in zip(expected.runs, found.runs, strict=True):
                assert a.x.tolist() == b.x.tolist()


@pytest.mark.filterwarnings("default")
def test_a_dask_client_and_its_executor():
    distributed = pytest.importorskip("distributed")
    options = {"lr": 0.002, "step_num": 20, "seed": 3}
    expected = multi_start(rastrigin, BOX, 6, **options)
    with distributed.Client(processes=False, n_workers=1, threads_per_worker=2, dashboard_address=None) as client:
        for workers in (client, client.get_executor(), client):
            found = multi_start(rastrigin, BOX, 6, **options, workers=workers)
            assert [run.x.tolist() for run in found.runs] == [run.x.tolist() for run in expected.runs]


def test_runs_stop_when_the_best_was_found_again():
    calls = []

    def run_until(workers, stop_after):
        calls.clear()
        return multi_start(
            two_valleys, ([-2.0], [2.0]), 50, lr=0.05, step_num=200, workers=workers, stop_after=stop_after
        )  # fmt: skip

    every = run_until(None, None)
    expected = next(
        count for count in range(1, 51) if sum(run.fun < -0.09 for run in every.runs[:count]) == 4
    )  # fmt: skip
    for workers in (None, Cluster(), 2):
        best = run_until(workers, 3)
        assert len(best.runs) == expected
        assert best.minima[0].count == 4
    cluster = Cluster()
    best = run_until(cluster, 3)
    # What has ended is not cancelled: a cluster would forget it, and another run that asks for the same with it.
    assert cluster.submitted == 50 and cluster.cancelled == 50 - len(best.runs)


def test_an_objective_from_many_starts_in_threads():
    # Two minima, the lower one to the left of the hill at −0.468.
    o = LinearObjective([[1.0], [10.0]], [0.0, 1.0], activation="sigmoid", loss="mse")
    best = multi_start(o, (-4.0, 4.0), 20, lr=0.5, step_num=5000, tol=1e-10, workers=2)
    grid = np.linspace(-4, 4, 2001)
    assert best.fun <= min(o.value([w]) for w in grid) + 1e-9
    assert best.x.shape == o.shape


def test_each_run_has_an_order_of_rows_of_its_own():
    rng = np.random.default_rng(0)
    o = LinearObjective(rng.standard_normal((64, 2)), rng.standard_normal(64), loss="mse")
    runs = multi_start(o, np.zeros((3, 2)), 3, lr=0.05, step_num=30, batch_size=4, seed=7).runs
    for number, run in enumerate(runs):
        alone = gradient_descent(o, np.zeros(2), lr=0.05, step_num=30, batch_size=4, seed=7 + number)
        assert run.x.tolist() == alone.x.tolist()
    assert len({tuple(run.x) for run in runs}) == 3


# ------------------------------------------------------------------------------------------------------------ bad input

GOOD = {"lr": 0.1, "step_num": 3}


@pytest.mark.parametrize(
    ("given", "options", "error", "message"),
    [
        ((-1.0, 1.0), {}, ValueError, "do not tell how many variables"),
        (([0.0, 0.0], [1.0, 1.0, 1.0]), {}, ValueError, "shape"),
        (([0.0, 2.0], [1.0, 1.0]), {}, ValueError, r"x\[1\] is 2.0 to 1.0"),
        (([0.0], [np.inf]), {}, ValueError, "upper must be finite"),
        (([0.0], [1.0], [2.0]), {}, TypeError, "pair"),
        ([(0.0, 1.0), (0.0, 2.0)], {}, TypeError, "a pair for each variable.*all lower and all upper"),
        (np.zeros((2, 2)), {}, ValueError, "must be 4 starts.*bounds are a tuple"),
        (lambda rng, n: np.zeros((3, 2)), {}, ValueError, "what the sampler returned must be 4 starts"),
        (lambda rng, n: np.full((n, 2), np.nan), {}, ValueError, "what the sampler returned must be finite"),
        (BOX, {"sampler": "grid"}, ValueError, "sampler must be one of 'sobol', 'lhs', 'uniform'"),
        (BOX, {"learning_rate": 0.1}, TypeError, "multi_start has no argument 'learning_rate'"),
        (BOX, {"checkpoint": "x"}, TypeError, "multi_start has no argument 'checkpoint'"),
        (BOX, {"workers": "two"}, TypeError, "workers must be a number of threads"),
        (BOX, {"workers": 0}, ValueError, "workers must be at least 1"),
        (BOX, {"workers": lambda task, points: []}, ValueError, "workers must give a result for each of 4 runs"),
        (BOX, {"stop_after": 0}, ValueError, "stop_after must be at least 1"),
        (BOX, {"seed": -1}, ValueError, "seed must be at least 0"),
        (BOX, {"same": -1.0}, ValueError, "same must be finite and at least 0"),
        (BOX, {"vectorized": True, "workers": 2}, ValueError, "workers is for runs that are made one by one"),
        (BOX, {"vectorized": True, "stop_after": 2}, ValueError, "stop_after is for runs that are made one by one"),
        (BOX, {"vectorized": True, "history": True}, TypeError, "vectorized=True takes .* not history"),
        (BOX, {"vectorized": True, "lr": "auto"}, ValueError, "a lr that is a number or a callable"),
        (BOX, {"vectorized": True}, ValueError, "f must return one value for each of 4 points"),
        (BOX, {"vectorized": "yes"}, TypeError, "vectorized must be True or False"),
    ],
)
def test_bad_input(given, options, error, message):
    with pytest.raises(error, match=message):
        multi_start(rastrigin if not options.get("vectorized") else (lambda x: 1.0), given, 4, **{**GOOD, **options})


def test_a_number_of_starts_that_is_none():
    with pytest.raises(ValueError, match="n_starts must be at least 1"):
        multi_start(rastrigin, BOX, 0, **GOOD)


# --------------------------------------------------------------------------- starts that fail, and what is kept of them


def fails_left(x):
    if x[0] < 0:
        raise RuntimeError(f"no model at {x[0]:.3f}")
    return float((x - 1) @ (x - 1))


@pytest.mark.one_build
@pytest.mark.parametrize("workers", [None, 2])
@pytest.mark.parametrize("by_grad", [False, True])
def test_a_start_whose_f_raises_is_reported_and_the_others_are_kept(workers, by_grad):
    f, grad = fails_left, None
    if by_grad:
        f, grad = (lambda x: float((x - 1) @ (x - 1))), (lambda x: 2 * (x - 1) + 0 * fails_left(x))
    best = multi_start(f, ([-1.0, 0.0], [3.0, 2.0]), 8, lr=0.1, step_num=200, workers=workers, grad=grad)
    np.testing.assert_allclose(best.x, 1, atol=1e-6)
    failed = [run for run in best.runs if run.status == Status.FAILED]
    assert len(failed) == 2 and len(best.runs) == 8 and "2 raised" in best.message
    for run in failed:
        assert not run.success and isinstance(run.exception, RuntimeError) and np.isnan(run.fun)
        assert "RuntimeError: no model at" in run.message and run.x[0] < 0


@pytest.mark.one_build
def test_where_every_start_fails_the_first_exception_arrives_and_other_errors_do_at_once():
    with pytest.raises(RuntimeError, match="no model"):
        multi_start(fails_left, ([-2.0], [-1.0]), 3, lr=0.1, step_num=2)
    with pytest.raises(ZeroDivisionError):  # not of f
        multi_start(fails_left, ([-1.0], [3.0]), 4, lr=lambda step: 1 / 0, step_num=2)
    with pytest.raises(TypeError, match="must return one real number"):
        multi_start(lambda x: "one", ([-1.0], [3.0]), 4, lr=0.1, step_num=2)


@pytest.mark.one_build
@pytest.mark.parametrize("vectorized", [False, True])
def test_the_lowest_point_is_kept_whatever_its_run_was_called(vectorized):
    def f(x):  # falls without end on the left
        return np.sum(x**3 - 3 * x, axis=-1) if vectorized else float(np.sum(x**3 - 3 * x))

    best = multi_start(f, ([-3.0], [3.0]), 8, lr=0.05, step_num=200, vectorized=vectorized)
    assert best.fun == min(run.fun for run in best.runs if np.isfinite(run.fun))
    assert best.status == Status.DIVERGED and best.minima[0].fun == pytest.approx(-2)


@pytest.mark.one_build
def test_bounds_of_scipy_are_a_pair_too():
    optimize = pytest.importorskip("scipy.optimize")
    best = multi_start(rastrigin, optimize.Bounds([-1.0, -1.0], [1.0, 1.0]), 4, lr=0.001, step_num=5)
    same = multi_start(rastrigin, ([-1.0, -1.0], [1.0, 1.0]), 4, lr=0.001, step_num=5)
    np.testing.assert_array_equal(best.x, same.x)


@pytest.mark.one_build
@pytest.mark.parametrize("options", [
    {}, {"tol": 1e-6}, {"bounds": (-0.4, 0.9)}, {"bounds": ([-2.0, 0.2], [0.8, 2.0]), "tol": 1e-6},
    {"optimizer": "adam", "tol": 1e-5},
])  # fmt: skip
@pytest.mark.parametrize("name", ["wells", "large", "float32", "kinked", "small"])
def test_a_vectorized_function_is_differentiated_as_carefully_as_one(name, options):
    f = {
        "wells": lambda X: np.sum((X**2 - 1) ** 2 - 0.1 * X, axis=1),
        "large": lambda X: 1e7 + np.sum(X**2, axis=1),
        "float32": lambda X: np.sum(X**2 + 10, axis=1).astype(np.float32).astype(np.float64),
        "kinked": lambda X: np.sum(np.abs(X - 0.5) ** 1.5, axis=1),
        "small": lambda X: np.sum(np.log1p((1e4 * (X - 0.5)) ** 2), axis=1),
    }[name]
    lower, upper = (np.broadcast_to(side, 2) for side in options.get("bounds", (-np.inf, np.inf)))

    def watched(X):
        assert np.all(lower <= X)
        assert np.all(upper >= X)
        return f(X)

    given = {"lr": 1e-9 if name == "small" else 1e-3, "step_num": 40, **options}
    together = multi_start(watched, ([0.0, 0.3], [0.7, 0.8]), 6, vectorized=True, **given)
    alone = multi_start(lambda x: float(f(x[None])[0]), ([0.0, 0.3], [0.7, 0.8]), 6, **given)
    for one, other in zip(together.runs, alone.runs, strict=True):
        assert one.status == other.status and one.nit == other.nit
        np.testing.assert_allclose(one.x, other.x, rtol=1e-9, atol=1e-9)


@pytest.mark.one_build
def test_values_and_gradients_of_many_points_in_one_call():
    def both(X):
        return np.sum(np.cosh(X), axis=-1), np.sinh(X)

    options = {"lr": 0.1, "step_num": 50, "tol": 1e-3}
    together = multi_start(both, ([-2.0, -2.0], [2.0, 2.0]), 8, vectorized=True, grad=True, **options)
    alone = multi_start(lambda x: both(x), ([-2.0, -2.0], [2.0, 2.0]), 8, grad=True, **options)
    for one, other in zip(together.runs, alone.runs, strict=True):
        np.testing.assert_array_equal(one.x, other.x)
        assert one.njev == other.njev == one.nit + 1 and one.status == other.status
