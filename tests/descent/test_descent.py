"""The loop: textbook iterates, what is reported, and who is told."""

import copy
import itertools
import pickle
import sys
import threading

import numpy as np
import pytest
from descent_problems import ellipse, ellipse_slope, problem, sum_of_squares, twice
from scipy.optimize import rosen, rosen_der

from fastgd import History, LinearObjective, Result, Status, gradient_descent
from fastgd.objective.variables import Columns

# ---------------------------------------------------------------------------------------------------- textbook iterates


def test_iterates_of_the_textbook():
    result = gradient_descent(sum_of_squares, [-3.0, 4.0], lr=0.1, step_num=100, history=True)
    expected = 0.8 ** np.arange(101)[:, None] * np.array([-3.0, 4.0])
    np.testing.assert_allclose(result.history.x, expected, rtol=1e-8)
    np.testing.assert_allclose(
        gradient_descent(sum_of_squares, [-3, 4], 0.1, 100, grad=twice).x, expected[-1], rtol=1e-13
    )


def test_every_step_is_x_minus_rate_times_gradient_to_the_last_bit():
    # A power of two as rate: nothing is rounded but the difference, in NumPy as here.
    x = np.array([1.5, -2.0])
    points = [x]
    for _ in range(25):
        x = x - 2.0**-10 * rosen_der(x)
        points.append(x)
    result = gradient_descent(rosen, points[0], lr=2.0**-10, step_num=25, grad=rosen_der, history=True)
    np.testing.assert_array_equal(result.history.x, points)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_a_rate_is_taken_at_its_word_in_the_users_own_columns(dtype):
    for k, fit_intercept in itertools.product((None, 2), (False, True)):
        o = problem(k=k, dtype=dtype, activation="sigmoid", fit_intercept=fit_intercept, l2=0.1)
        w = np.full(o.shape, 0.25, dtype)
        result = gradient_descent(o, w, lr=2.0**-6, step_num=10, history=True)
        for row in result.history.x:
            np.testing.assert_allclose(row, w, rtol=1e-13 if dtype == np.float64 else 1e-5)
            w = w - dtype(2.0**-6) * o.gradient(w)
        assert result.x.dtype == result.jac.dtype == dtype


def test_a_schedule_gives_the_rate_of_each_step():
    rates = [0.5, 0.0, 0.25, 0.125]
    result = gradient_descent(
        sum_of_squares, [1.0], lr=lambda step: rates[min(step, 3)], step_num=4, grad=twice, history=True
    )  # fmt: skip
    assert result.history.x.ravel().tolist() == [1.0, 0.0, 0.0, 0.0, 0.0]
    assert result.history.lr.tolist() == rates
    result = gradient_descent(sum_of_squares, [1.0], lr=lambda step: 0.5 / (step + 1), step_num=3, grad=twice)
    assert result.x.tolist() == [0.0]


@pytest.mark.parametrize("steps", [0, 1])
def test_few_steps(steps):
    result = gradient_descent(sum_of_squares, [3.0], lr=0.25, step_num=steps, grad=twice, history=True)
    assert result.x.tolist() == [3.0 * 0.5**steps]
    assert result.nit == steps
    assert result.history.x.shape == (steps + 1, 1)
    assert result.history.lr.shape == (steps,)
    assert result.success


def test_where_it_starts():
    for shape in ((), (3,), (2, 3), (2, 1, 2), (0,)):
        start = np.ones(shape)
        result = gradient_descent(sum_of_squares, start, lr=0.25, step_num=3, history=True)
        assert result.x.shape == result.jac.shape == shape
        assert result.history.x.shape == (4, *shape)
        np.testing.assert_allclose(result.x, 0.125, rtol=1e-8)
        np.testing.assert_array_equal(start, 1)
    o = problem(fit_intercept=True)
    np.testing.assert_array_equal(gradient_descent(o, step_num=0).x, np.zeros(4))
    np.testing.assert_array_equal(gradient_descent(o, [1, 2, 3, 4], step_num=0).x, [1, 2, 3, 4])


@pytest.mark.parametrize(
    "start", [[3, -4], (3, -4), np.array([3, -4]), np.array([3, -4], np.int8), [True, False]], ids=repr
)
def test_integers_are_promoted(start):
    result = gradient_descent(sum_of_squares, start, lr=0.1, step_num=1)
    assert result.x.dtype == np.float64
    np.testing.assert_allclose(result.x, 0.8 * np.array(start), rtol=1e-8)


def test_what_is_given_is_never_written_to():
    def f(x):
        value = float(np.sum(x * x))
        x[...] = np.nan
        return value

    def grad(x):
        x *= 2
        return x

    for layout in (np.ones((2, 3)), np.asfortranarray(np.ones((2, 3))), np.ones((2, 3), ">f8"), np.ones((4, 3))[::-2]):
        frozen = layout.copy()
        frozen.flags.writeable = False
        for start in (layout, frozen):
            results = [gradient_descent(f, start, lr=0.1, step_num=5), gradient_descent(f, start, 0.1, 5, grad=grad)]
            np.testing.assert_array_equal(start, 1)
            for result in results:
                np.testing.assert_allclose(result.x, 0.8**5, rtol=1e-8)
                assert not np.shares_memory(result.x, start)
    o = problem()
    X, y, w = o.X.copy(), o.y.copy(), np.ones(3)
    for lr in (0.01, "auto"):
        gradient_descent(o, w, lr=lr, step_num=5, history=True)
        np.testing.assert_array_equal(w, 1)
        assert not np.shares_memory(gradient_descent(o, w, lr=lr, step_num=0).x, w)
    np.testing.assert_array_equal(o.X, X)
    np.testing.assert_array_equal(o.y, y)


# ------------------------------------------------------------------------------------------------- what is reported


def all_kinds_of_runs():
    """Arguments of gradient_descent, with the value and the gradient as functions of x."""
    yield {"f": ellipse, "init_x": [1.0, 2.0], "lr": 0.1}, ellipse, None
    yield {"f": ellipse, "init_x": [1.0, 2.0], "lr": 0.1, "grad": ellipse_slope}, ellipse, ellipse_slope
    for lr, dtype, activation in itertools.product((0.01, "auto"), (np.float64, np.float32), ("identity", "tanh")):
        o = problem(dtype=dtype, activation=activation, fit_intercept=True, l2=0.1, loss="sse")
        yield {"f": o, "lr": lr}, o.value, o.gradient
    for solver in ("accelerated", "preconditioned"):
        yield {"f": o, "lr": "auto", "solver": solver}, o.value, o.gradient
    o = LinearObjective(problem().X * [1e-3, 1, 1e3] + [5, 0, 1e5], problem().y, fit_intercept=True)
    yield {"f": o, "lr": "auto"}, o.value, o.gradient


@pytest.mark.parametrize("number", range(len(list(all_kinds_of_runs()))))
def test_fun_and_jac_are_those_of_exactly_x(number):
    arguments, value, gradient = list(all_kinds_of_runs())[number]
    for step_num, tol in ((0, None), (7, None), (300, 1e-2)):
        result = gradient_descent(**arguments, step_num=step_num, tol=tol)
        assert type(result.fun) is float
        assert result.fun == value(result.x)
        if gradient is not None:
            np.testing.assert_array_equal(result.jac, gradient(result.x))
        else:
            np.testing.assert_allclose(result.jac, ellipse_slope(result.x), atol=1e-8)


@pytest.mark.parametrize("number", range(len(list(all_kinds_of_runs()))))
def test_history_has_a_row_for_each_point(number):
    arguments, value, gradient = list(all_kinds_of_runs())[number]
    result = gradient_descent(**arguments, step_num=6, history=True)
    h = result.history
    single = result.x.dtype == np.float32
    assert isinstance(h, History)
    # A solver that finds its own steps may be at rounding before it has taken all.
    assert result.nit == 6 or (arguments["lr"] == "auto" and 0 < result.nit < 6 and result.status == Status.CONVERGED)
    assert h.x.shape == (result.nit + 1, *result.x.shape)
    assert h.fun.shape == h.grad_norm.shape == (result.nit + 1,)
    assert h.lr.shape == (result.nit,)
    if arguments["lr"] != "auto":
        assert h.lr.tolist() == [arguments["lr"]] * 6
    np.testing.assert_array_equal(h.x[-1], result.x)
    for x, fun, norm in zip(h.x, h.fun, h.grad_norm, strict=True):
        assert fun == pytest.approx(value(x), rel=1e-4 if single else 1e-9)
        slope = (gradient or ellipse_slope)(x)
        scale = np.linalg.norm((gradient or ellipse_slope)(h.x[0]))
        assert norm == pytest.approx(np.linalg.norm(slope), rel=1e-3 if single else 1e-6, abs=1e-5 * float(scale))
    assert gradient_descent(**arguments, step_num=2).history is None
    # A record changes nothing of the run.
    np.testing.assert_array_equal(gradient_descent(**arguments, step_num=6).x, result.x)


@pytest.mark.parametrize("history, tol, callback", [(False, None, None), (True, None, None), (False, 1e-2, print)])
def test_evaluations_are_counted_as_they_happen(history, tol, callback, capsys):
    calls = {"f": 0, "grad": 0}

    def f(x):
        calls["f"] += 1
        return ellipse(x)

    def grad(x):
        calls["grad"] += 1
        return ellipse_slope(x)

    for slope in (None, grad):
        calls.update(f=0, grad=0)
        result = gradient_descent(
            f, [1.0, 2.0], lr=0.2, step_num=40, grad=slope, history=history, tol=tol, callback=callback
        )  # fmt: skip
        assert result.nfev == calls["f"]
        assert result.njev == result.nit + 1
        if slope is not None:
            assert result.njev == calls["grad"]
        if not history and callback is None:
            assert result.nfev == (1 if slope else 7 * 41 + 1)


@pytest.mark.parametrize(
    "options", [{"lr": 0.01}, {"solver": "accelerated"}, {"solver": "preconditioned", "tol": 1e-6}]
)  # fmt: skip
@pytest.mark.parametrize("history", [False, True])
def test_passes_over_the_data_are_counted_as_they_happen(build, options, history, monkeypatch):
    monkeypatch.setattr(Columns, "has_bursts", False)  # a kernel of many steps is one call
    o = problem(fit_intercept=True)
    o.lipschitz()
    calls = []
    for name in ("block_sums", "value_and_gradient"):
        kernel = getattr(build, name)
        monkeypatch.setattr(build, name, lambda *a, kernel=kernel: calls.append(1) or kernel(*a))
    result = gradient_descent(o, **options, step_num=9, history=history)
    assert result.nfev == result.njev == result.n_passes == len(calls)
    assert len(calls) <= 11  # a pass for each point, and one more to settle in the user's units


def test_runs_do_not_see_each_other():
    o = problem(activation="sigmoid", fit_intercept=True)
    before = {name: copy.deepcopy(getattr(o, name)) for name in ("X", "y", "shape", "factor", "total_weight")}
    first = gradient_descent(o, lr="auto", step_num=20, history=True)
    gradient_descent(o, np.ones(4), lr=0.5, step_num=20)
    second = gradient_descent(o, lr="auto", step_num=20, history=True)
    np.testing.assert_array_equal(first.history.x, second.history.x)
    assert first.fun == second.fun
    for name, value in before.items():
        np.testing.assert_array_equal(getattr(o, name), value, err_msg=name)


def test_a_result_reads_as_attributes_and_as_keys():
    result = gradient_descent(sum_of_squares, [1.0], lr=0.1, step_num=3, history=True)
    assert isinstance(result, Result)
    names = ["x", "fun", "jac", "nit", "nfev", "njev", "success", "status", "message", "history"]
    names += ["gap", "certified", "condition", "n_passes", "lost", "solver"]
    assert list(result) == names
    for name in names:
        assert getattr(result, name) is result[name]
        assert name in dir(result)
    assert result.status is Status.STEP_LIMIT
    assert result.message == "took all 3 steps"
    assert list(result.history) == ["x", "fun", "lr", "grad_norm", "step"]
    with pytest.raises(AttributeError, match=r"Result has no 'xs'; it has x, fun"):
        _ = result.xs
    result.note = 3
    assert result["note"] == 3
    del result.note
    assert "note" not in result
    with pytest.raises(AttributeError, match="note"):
        del result.note
    text = repr(result)
    for name in names:
        assert f"{name}: " in text


def test_a_result_survives_pickle_and_copy():
    result = gradient_descent(sum_of_squares, [1.0], lr=0.1, step_num=3, history=True)
    for twin in (pickle.loads(pickle.dumps(result)), copy.deepcopy(result), copy.copy(result)):
        assert type(twin) is Result
        assert type(twin.history) is History
        assert twin.status is Status.STEP_LIMIT
        np.testing.assert_array_equal(twin.history.x, result.history.x)


# ------------------------------------------------------------------------------------------ callback, verbose, progress


def close(ours, theirs):
    """Equal but for rounding: where nobody looks, a kernel takes many steps and may add up in another order."""
    np.testing.assert_allclose(ours, theirs, rtol=1e-4 if ours.dtype == np.float32 else 1e-10, atol=1e-6)


def test_the_callback_is_called_after_every_step_with_a_result_to_keep():
    for arguments, value, _ in all_kinds_of_runs():
        kept, copies = [], []

        def callback(result, kept=kept, copies=copies):
            kept.append(result)
            copies.append(copy.deepcopy(result))

        plain = gradient_descent(**arguments, step_num=5, history=True)
        result = gradient_descent(**arguments, step_num=5, history=True, callback=callback)
        assert [r.nit for r in kept] == list(range(1, result.nit + 1))
        assert result.nit == 5 or (arguments["lr"] == "auto" and 0 < result.nit < 5)
        for r, then, x in zip(kept, copies, plain.history.x[1:], strict=True):
            assert isinstance(r, Result)
            close(r.x, x)
            np.testing.assert_array_equal(r.x, then.x)
            np.testing.assert_array_equal(r.jac, then.jac)
            assert r.fun == pytest.approx(value(x), rel=1e-4 if x.dtype == np.float32 else 1e-9)
        close(result.x, plain.x)


def test_a_callback_that_writes_to_what_it_gets_changes_nothing():
    def callback(result):
        result.x[...] = 99
        result.jac[...] = 99

    for arguments, _, _ in all_kinds_of_runs():
        plain = gradient_descent(**arguments, step_num=5, history=True)
        result = gradient_descent(**arguments, step_num=5, history=True, callback=callback)
        close(result.history.x, plain.history.x)
        close(result.jac, plain.jac)


def test_stop_iteration_ends_the_run_with_what_there_is():
    def callback(result):
        if result.nit == 3:
            raise StopIteration

    result = gradient_descent(sum_of_squares, [1.0], 0.25, 100, grad=twice, callback=callback, history=True)
    assert result.nit == 3
    assert result.x.tolist() == [0.125]
    assert result.status is Status.STOPPED_BY_CALLBACK
    assert "callback stopped the run at step 3" in result.message
    assert result.history.x.ravel().tolist() == [1, 0.5, 0.25, 0.125]
    assert result.history.lr.shape == (3,)


def test_verbose_prints_step_x_and_gradient(capsys):
    gradient_descent(sum_of_squares, [-3.0, 4.0], lr=0.25, step_num=2, grad=twice, verbose=1)
    assert capsys.readouterr().out.splitlines() == [
        "step 0: x = [-3.,  4.], gradient = [-6.,  8.]",
        "step 1: x = [-1.5,  2. ], gradient = [-3.,  4.]",
        "step 2: x = [-0.75,  1.  ], gradient = [-1.5,  2. ]",
    ]
    gradient_descent(sum_of_squares, [-3.0, 4.0], lr=0.25, step_num=2, verbose=True)
    assert len(capsys.readouterr().out.splitlines()) == 3
    gradient_descent(sum_of_squares, [-3.0, 4.0], lr=0.25, step_num=2)
    assert capsys.readouterr() == ("", "")


@pytest.mark.one_build
def test_progress_needs_tqdm_and_says_what_brings_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "tqdm.auto", None)
    with pytest.raises(ImportError, match=r"progress=True needs tqdm: install it with `pip install 'fastgd\[cli\]'`"):
        gradient_descent(sum_of_squares, [1.0], progress=True)


@pytest.mark.one_build
def test_progress_changes_nothing_and_writes_to_standard_error_only(capsys):
    pytest.importorskip("tqdm")
    for arguments, _, _ in all_kinds_of_runs():
        plain = gradient_descent(**arguments, step_num=5)
        shown = gradient_descent(**arguments, step_num=5, progress=True)
        np.testing.assert_array_equal(shown.x, plain.x)
        assert shown.fun == plain.fun
        out, err = capsys.readouterr()
        assert out == ""
        assert "step" in err


# --------------------------------------------------------------------------------------------------------- threads


def test_threads_change_no_bit_of_a_run_and_the_objective_keeps_its_own():
    rng = np.random.default_rng(3)
    X, y = rng.normal(size=(40_000, 8)), rng.normal(size=40_000)
    objective = LinearObjective(X, y, loss="mse", fit_intercept=True)
    alone = gradient_descent(objective, lr=0.1, step_num=4)
    for n_jobs in (1, 2, -1):
        run = gradient_descent(objective, lr=0.1, step_num=4, n_jobs=n_jobs)
        assert run.x.tobytes() == alone.x.tobytes() and run.fun == alone.fun
    assert objective.n_jobs is None


def test_a_function_is_evaluated_by_so_many_threads():
    seen, together = set(), threading.Barrier(2, timeout=30)

    def f(x):
        if threading.current_thread() is not threading.main_thread() and len(seen) < 2:  # the value at the end is not
            together.wait()  # comes back only where another thread has come here too
            seen.add(threading.get_ident())
        return float((x[0] - 1) ** 2)

    run = gradient_descent(f, [3.0], lr=0.1, step_num=3, n_jobs=2)
    assert len(seen) >= 2 and (run.nfev, run.njev) == (21, 4)
    alone = gradient_descent(lambda x: float((x[0] - 1) ** 2), [3.0], lr=0.1, step_num=3)
    assert run.x.tobytes() == alone.x.tobytes() and run.nfev == alone.nfev


def test_a_number_of_threads_that_is_none_is_refused():
    for n_jobs, error in ((0, ValueError), (1.5, TypeError), ("2", TypeError)):
        with pytest.raises(error, match="n_jobs"):
            gradient_descent(lambda x: float(x @ x), [1.0], n_jobs=n_jobs)
