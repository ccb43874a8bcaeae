"""The loop: textbook iterates, what is reported, stopping, divergence, and the automatic rate."""

import copy
import itertools
import pickle
import sys

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from scipy.optimize import rosen, rosen_der

from fastgd import (
    DivergenceError,
    History,
    LinearObjective,
    Result,
    Status,
    datasets,
    gradient_descent,
    paths,
)

PROPERTY = settings(
    max_examples=15,
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


def sum_of_squares(x):
    return float(np.sum(x * x))


def twice(x):
    return 2 * x


def ellipse(x):
    """½(4x₀² + x₁²), whose largest curvature is 4."""
    return 0.5 * float(4 * x[0] ** 2 + x[1] ** 2)


def ellipse_slope(x):
    return np.array([4 * x[0], x[1]])


def problem(n=30, d=3, k=None, dtype=np.float64, seed=0, **options):
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, d)).astype(dtype)
    y = rng.uniform(0, 1, n if k is None else (n, k)).astype(dtype)
    return LinearObjective(X, y, **options)


def least_squares(o):
    """The minimiser by LAPACK, of an identity objective without weights; columns scaled for its conditioning."""
    X = o.X.astype(float)
    A = np.column_stack([X, np.ones(len(X))]) if o.fit_intercept else X
    scale = np.linalg.norm(A, axis=0)
    w = np.linalg.lstsq(A / scale, o.y.astype(float), rcond=None)[0]
    return (w.T / scale).T


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
    assert h.x.shape == (7, *result.x.shape)
    assert h.fun.shape == h.grad_norm.shape == (7,)
    assert h.lr.shape == (6,)
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
            assert result.nfev == (1 if slope else 4 * 41 + 1)


@pytest.mark.parametrize("lr", [0.01, "auto"])
@pytest.mark.parametrize("history", [False, True])
def test_passes_over_the_data_are_counted_as_they_happen(build, lr, history, monkeypatch):
    monkeypatch.setattr(paths.Columns, "has_bursts", False)  # a kernel of many steps is one call
    o = problem(fit_intercept=True)
    o.lipschitz()
    calls = []
    for name in ("block_sums", "value_and_gradient"):
        kernel = getattr(build, name)
        monkeypatch.setattr(build, name, lambda *a, kernel=kernel: calls.append(1) or kernel(*a))
    result = gradient_descent(o, lr=lr, step_num=9, history=history)
    assert result.nfev == result.njev == len(calls)
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
        assert [r.nit for r in kept] == [1, 2, 3, 4, 5]
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


# ------------------------------------------------------------------------------------------------------------- stopping


def test_tol_on_a_function_is_a_bound_of_the_gradient_norm():
    for tol in (1.0, 1e-3, 1e-8):
        result = gradient_descent(ellipse, [1.0, 2.0], 0.2, 10_000, grad=ellipse_slope, tol=tol, history=True)
        assert result.status is Status.CONVERGED
        assert result.success
        assert result.history.grad_norm[-1] <= tol
        assert np.all(result.history.grad_norm[:-1] > tol)
        assert result.nit == len(result.history.x) - 1


def test_a_start_that_is_good_enough_is_kept():
    result = gradient_descent(sum_of_squares, [0.0], tol=1e-3, grad=twice)
    assert (result.nit, result.status, result.x.tolist()) == (0, Status.CONVERGED, [0.0])
    o = LinearObjective([[1.0], [2.0]], [1.0, 2.0])
    result = gradient_descent(o, [1.0], tol=1e-3)
    assert (result.nit, result.status, result.fun) == (0, Status.CONVERGED, 0.0)


def test_a_tolerance_that_is_not_reached_is_no_success():
    result = gradient_descent(sum_of_squares, [1.0], lr=0.01, step_num=5, tol=1e-9)
    assert not result.success
    assert result.status is Status.STEP_LIMIT
    assert "without reaching tol = 1e-09" in result.message


@PROPERTY
@given(
    st.integers(0, 1000),
    st.integers(1, 5),
    st.booleans(),
    st.sampled_from([0.0, 0.3]),
    st.sampled_from(["sse", "mse"]),
    st.sampled_from([1e-2, 1e-6, 1e-10]),
)
def test_tol_on_an_objective_bounds_the_gap_to_the_minimum(seed, d, fit_intercept, l2, loss, tol):
    rng = np.random.default_rng(seed)
    X = (rng.standard_normal((25, d)) + rng.choice([0, 2.0])) * 10.0 ** rng.uniform(-3, 3, d)
    o = LinearObjective(X, rng.standard_normal(25), loss=loss, fit_intercept=fit_intercept, l2=l2)
    result = gradient_descent(o, lr="auto", tol=tol, step_num=20_000)
    A = np.column_stack([X, np.ones(25)]) if fit_intercept else X
    ridge = np.sqrt(l2 * (1 if loss == "sse" else 12.5)) * np.eye(d, A.shape[1])
    w = np.linalg.lstsq(np.vstack([A, ridge]), np.append(o.y, np.zeros(d)), rcond=None)[0]
    assert result.success
    assert result.fun - o.value(w) <= tol * result.fun * (1 + 1e-6)


def test_a_bound_of_the_gap_owns_up_to_directions_that_drown_in_rounding():
    rng = np.random.default_rng(0)
    t, u = rng.standard_normal((2, 40))
    o = LinearObjective(np.column_stack([t, t + 1e-8 * u]), u)  # the minimum is 0, at ±1e8
    result = gradient_descent(o, lr="auto", tol=1e-6, step_num=200)
    assert (
        result.fun < 1e-3 or not result.success or "1 direction(s) in which the columns are collinear" in result.message
    )


@pytest.mark.parametrize("scale", [1e-170, 1e170])
def test_columns_whose_squares_leave_the_floats_are_fitted_too(scale):
    o = LinearObjective(np.arange(5.0)[:, None] * scale, np.arange(5.0), fit_intercept=True)
    for state in ("warn", "raise"):
        with np.errstate(all=state):
            result = gradient_descent(o, lr="auto", tol=1e-6, step_num=1000)
        assert result.success
        np.testing.assert_allclose(result.x[0] * scale, 1, rtol=1e-6)
        np.testing.assert_allclose(o.predict(result.x), np.arange(5.0), atol=1e-6)


def test_the_least_squares_fit_of_noiseless_data_ends_at_rounding():
    o = problem(fit_intercept=True)
    w = np.array([1.0, -2.0, 0.5, 3.0])
    exact = LinearObjective(o.X, o.predict(w), fit_intercept=True)
    result = gradient_descent(exact, lr="auto", tol=1e-8, step_num=5000)
    assert result.success
    # F(w*) = 0, so the gap is judged against the rounding of F(0): ‖w − w*‖ of some √ε.
    np.testing.assert_allclose(result.x, w, rtol=1e-6)


# -------------------------------------------------------------------------------------------------- the automatic rate


def test_the_women_table_to_ten_digits_with_the_default_steps():
    X, y = datasets.load_women()
    for loss in ("sse", "mse"):
        result = gradient_descent(LinearObjective(X, y, fit_intercept=True, loss=loss), lr="auto")
        np.testing.assert_allclose(result.x, [3.45, -87.51666666666667], rtol=1e-10)
        assert result.success
    # Without the change of variables the same rate rule is nowhere near.
    o = LinearObjective(X, y, fit_intercept=True, loss="mse")
    assert abs(gradient_descent(o, lr=1 / o.lipschitz()).x[0] - 3.45) > 0.5
    single = LinearObjective(X.astype(np.float32), y, fit_intercept=True)
    np.testing.assert_allclose(gradient_descent(single, lr="auto").x, [3.45, -87.51666666666667], rtol=1e-5)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@PROPERTY
@given(
    st.lists(st.integers(-6, 6), min_size=3, max_size=3),
    st.booleans(),
    st.sampled_from(["identity", "sigmoid", "tanh"]),
    st.sampled_from([None, 2]),
)
def test_columns_of_any_scale_give_the_same_predictions(dtype, exponents, fit_intercept, activation, k):
    base = problem(dtype=dtype, activation=activation, fit_intercept=fit_intercept, k=k)
    X = (base.X * 10.0 ** np.array(exponents)).astype(dtype)
    scaled = LinearObjective(X, base.y, activation=activation, fit_intercept=fit_intercept)
    expected = gradient_descent(base, lr="auto", step_num=40, history=True)
    result = gradient_descent(scaled, lr="auto", step_num=40, history=True)
    tolerance = 1e-11 if dtype == np.float64 else 2e-5
    assert result.x.dtype == dtype
    np.testing.assert_allclose(scaled.predict(result.x), base.predict(expected.x), atol=tolerance)
    np.testing.assert_allclose(result.history.fun, expected.history.fun, rtol=10 * tolerance)


@pytest.mark.parametrize("fit_intercept", [False, True])
def test_the_automatic_rate_reaches_least_squares(fit_intercept):
    for k, offset in itertools.product((None, 2), (0.0, 1e4)):
        if offset and not fit_intercept:
            continue  # without an intercept the columns may not be moved, and such a table is ill-conditioned
        o = problem(k=k)
        o = LinearObjective(o.X * [1e-4, 1, 1e4] + offset, o.y, fit_intercept=fit_intercept)
        result = gradient_descent(o, lr="auto", tol=1e-13, step_num=5000)
        assert result.success
        np.testing.assert_allclose(o.predict(result.x), o.predict(least_squares(o)), atol=1e-6)


@pytest.mark.parametrize("activation", ["identity", "sigmoid", "tanh"])
def test_the_automatic_rate_never_goes_up(activation):
    for seed, scale in itertools.product(range(3), (1.0, 30.0)):
        o = problem(activation=activation, fit_intercept=True, seed=seed)
        o = LinearObjective(o.X * scale, o.y * 3 - 1, activation=activation, fit_intercept=True)
        start = np.random.default_rng(seed).standard_normal(4) * 3
        fun = gradient_descent(o, start, lr="auto", step_num=60, history=True).history.fun
        assert np.all(np.diff(fun) <= 1e-12 * fun[0])


def test_the_start_and_the_path_are_in_the_users_units():
    o = problem(fit_intercept=True, l2=0.1)
    start = np.array([3.0, -1.0, 2.0, 0.5])
    result = gradient_descent(o, start, lr="auto", step_num=50, history=True)
    np.testing.assert_allclose(result.history.x[0], start, rtol=1e-13)
    for x, fun in zip(result.history.x, result.history.fun, strict=True):
        assert fun == pytest.approx(o.value(x), rel=1e-12)


def test_columns_that_do_not_vary():
    o = problem()
    for column in (np.zeros(30), np.full(30, 0.3), np.full(30, 1e6)):
        wide = LinearObjective(np.column_stack([o.X, column]), o.y, fit_intercept=True)
        result = gradient_descent(wide, lr="auto", tol=1e-10, step_num=1000)
        narrow = gradient_descent(LinearObjective(o.X, o.y, fit_intercept=True), lr="auto", tol=1e-10, step_num=1000)
        assert result.x[3] == 0
        np.testing.assert_allclose(wide.predict(result.x), narrow.x[3] + o.X @ narrow.x[:3], rtol=1e-9)
    nothing = LinearObjective(np.zeros((4, 2)), np.ones(4))
    result = gradient_descent(nothing, lr="auto", tol=1e-3)
    assert result.x.tolist() == [0, 0]
    assert result.success


# ----------------------------------------------------------------------------------------------------------- divergence


@pytest.mark.parametrize("factor", [1.02, 1.1, 2.0, 10.0, 1e10])
@pytest.mark.parametrize("numerical", [False, True])
def test_a_rate_above_two_over_L_is_named_on_a_function(factor, numerical):
    lr = factor * 2 / 4
    with pytest.raises(DivergenceError) as raised:
        gradient_descent(
            ellipse, [1.0, 0.01], lr, 2000, grad=None if numerical else ellipse_slope, history=True
        )  # fmt: skip
    error = raised.value
    assert isinstance(error, ArithmeticError)
    assert error.lr == lr
    assert f"step {error.step} with learning rate {lr:.6g}" in str(error)
    assert error.stable_lr == pytest.approx(0.5, rel=0.1)
    assert f"{error.stable_lr:.3g}" in str(error)
    assert error.result.status is Status.DIVERGED
    assert not error.result.success
    assert np.all(np.isfinite(error.result.x))
    assert error.result.fun == ellipse(error.result.x)
    assert np.all(np.isfinite(error.result.history.x))
    # It is noticed early: the gradient grows by 2·factor − 1 a step, and a factor of 100 is no bounce any more.
    assert error.step <= 10 + 1.1 * np.log(100) / np.log(2 * factor - 1)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("factor", [1.02, 1.5, 10.0, 1e10, 1e30])
def test_a_rate_above_two_over_L_is_named_on_an_objective(factor, dtype):
    for k, loss in itertools.product((None, 2), ("sse", "mse")):
        o = problem(dtype=dtype, k=k, loss=loss, fit_intercept=True)
        stable = 2 / o.lipschitz()
        with pytest.raises(DivergenceError, match='lr="auto"') as raised:
            gradient_descent(o, lr=factor * stable, step_num=3000)
        assert raised.value.stable_lr == pytest.approx(stable, rel=1e-9)
        assert raised.value.lr == factor * stable
        assert np.all(np.isfinite(raised.value.result.x))
        assert raised.value.result.fun == o.value(raised.value.result.x)


@pytest.mark.parametrize("factor", [0.5, 0.9, 0.99, 0.999])
def test_a_rate_just_below_two_over_L_goes_on(factor):
    result = gradient_descent(ellipse, [1.0, 2.0], factor * 0.5, 200, grad=ellipse_slope)
    assert result.fun < ellipse([1.0, 2.0])
    np.testing.assert_allclose(result.x, [(1 - 2 * factor) ** 200, 2 * (1 - factor / 2) ** 200], rtol=1e-9, atol=1e-300)
    for dtype in (np.float64, np.float32):
        o = problem(dtype=dtype, fit_intercept=True)
        result = gradient_descent(o, lr=factor * 2 / o.lipschitz(), step_num=20_000, tol=1e-5)
        assert result.success
        best = o.value(least_squares(o))
        assert result.fun <= best * (1 + 1e-4)


def test_the_largest_stable_rate_that_is_named_is_stable():
    with pytest.raises(DivergenceError) as raised:
        gradient_descent(ellipse, [1.0, 0.01], 5.0, 100)
    lr = 0.9 * raised.value.stable_lr
    assert gradient_descent(ellipse, [1.0, 0.01], lr, 500).fun < 1e-6


def test_a_short_run_that_ends_higher_is_named_too():
    o = problem()
    with pytest.raises(DivergenceError, match="at step 2"):
        gradient_descent(o, np.ones(3), lr=3 / o.lipschitz() * 2, step_num=2)


def test_overflow_is_a_divergence_whatever_the_error_state():
    with np.errstate(all="raise"):
        for o, lr in itertools.product((problem(), problem(dtype=np.float32)), (1.0, 1e30, 1e200)):
            with pytest.raises(DivergenceError):
                gradient_descent(o, lr=lr, step_num=500, history=True)
        with pytest.raises(DivergenceError):
            gradient_descent(lambda x: x[0] ** 4, [10.0], lr=1.0, step_num=50)
        for lr in (0.001, "auto"):
            for activation in ("identity", "sigmoid", "tanh"):
                o = problem(activation=activation, fit_intercept=True)
                gradient_descent(o, np.full(4, 500.0), lr=lr, step_num=50, tol=1e-9)


@pytest.mark.parametrize("lr", [1e-3, 2e-3])
def test_rosenbrock_is_no_divergence(lr):
    for start in ([-1.2, 1.0], [0.0, 0.0], [-1.0, 1.0]):
        for step_num in (1, 2, 3, 5, 8, 13, 21, 400):
            result = gradient_descent(rosen, start, lr, step_num, grad=rosen_der)
            assert result.nit == step_num
            if lr == 1e-3 or step_num == 400:  # at 2e-3 the first steps may go up
                assert result.fun <= rosen(np.array(start))


@pytest.mark.parametrize("activation", ["sigmoid", "tanh"])
def test_plateaus_are_no_divergence(activation):
    # Saturated: the gradient is next to nothing, then grows by powers of ten on the way down.
    for start, rate in itertools.product((3.0, 12.0, 700.0), (0.2, 0.9)):
        o = LinearObjective([[1.0], [-1.0], [2.0]], [0.0, 0.7, 0.1], activation=activation, loss="mse")
        result = gradient_descent(o, [start], lr=rate * 2 / o.lipschitz(), step_num=1500)
        assert result.fun <= o.value([start])
    hill = gradient_descent(lambda x: -np.exp(-(x[0] ** 2)), [4.0], lr=0.5, step_num=3000)
    assert hill.nit == 3000


def test_bouncing_around_a_minimum_is_no_divergence():
    # |x| with a fixed step ends in a bounce between two points, as the textbook draws it.
    result = gradient_descent(lambda x: abs(float(x[0])), [0.95], lr=0.3, step_num=101, grad=np.sign)
    assert abs(result.x[0]) <= 0.3
    exact = gradient_descent(ellipse, [1.0, 2.0], 0.5, 100, grad=ellipse_slope, history=True)
    assert exact.history.x[:, 0].tolist() == [(-1.0) ** i for i in range(101)]


def test_one_leap_over_a_valley_is_no_divergence():
    # From a plane of slope 0.01 into a parabola: the gradient turns and grows a hundredfold, once.
    result = gradient_descent(
        lambda x: 0.0, [-0.5], lambda step: 160.0 if step == 0 else 0.5, 30, grad=lambda x: np.where(x < 0, -0.01, x)
    )
    assert 0 < result.x[0] < 1e-6


def test_a_rate_that_is_too_large_only_at_first_is_no_divergence():
    # Ten steps away from the minimum, each 1.2 times as far as the last, and then towards it.
    result = gradient_descent(
        ellipse, [1.0, 0.01], lambda step: 0.55 if step < 10 else 0.4, 200, grad=ellipse_slope, history=True
    )  # fmt: skip
    assert result.history.fun[10] > 30 * result.history.fun[0]
    assert result.fun < 1e-30


def test_an_end_that_is_not_finite_is_a_divergence_and_a_start_is_an_error():
    with pytest.raises(DivergenceError, match="no longer finite") as raised:
        gradient_descent(sum_of_squares, [1.0], 0.1, 10, grad=lambda x: 2 * x if x[0] > 0.7 else x * np.nan)
    assert raised.value.step == 2
    assert raised.value.stable_lr is None
    assert raised.value.result.x[0] == pytest.approx(0.8)
    with pytest.raises(ValueError, match=r"the gradient is not finite at the start, x = \[1\.\]"):
        gradient_descent(sum_of_squares, [1.0], grad=lambda x: x * np.nan)
    with pytest.raises(ValueError, match=r"the gradient is not finite at the start"):
        gradient_descent(lambda x: np.nan, [1.0])
    with pytest.raises(ValueError, match=r"the value is inf at the start"):
        gradient_descent(lambda x: np.inf, [1.0], grad=twice, history=True)


# ------------------------------------------------------------------------------------------------- errors and bad input


class OwnError(Exception):
    pass


@pytest.mark.parametrize("error", [OwnError("mine"), ValueError("mine"), TypeError("mine"), FloatingPointError("mine")])
def test_exceptions_of_the_users_functions_arrive_as_they_are(error):
    def failing(*_):
        raise error

    def late(step):
        return 0.1 if step < 2 else failing()

    runs = [
        {"f": failing},
        {"f": sum_of_squares, "grad": failing},
        {"f": sum_of_squares, "callback": failing},
        {"f": sum_of_squares, "lr": late},
        {"f": failing, "grad": twice},
        {"f": problem(d=1), "callback": failing},
    ]
    for arguments in runs:
        with pytest.raises(type(error)) as raised:
            gradient_descent(**{"init_x": [1.0], **arguments})
        assert raised.value is error


def test_grad_may_fill_and_return_one_buffer():
    buffer = np.empty(2)

    def grad(x):
        buffer[:] = ellipse_slope(x)
        return buffer

    kept = []
    result = gradient_descent(ellipse, [1.0, 2.0], 0.1, 5, grad=grad, callback=kept.append)
    np.testing.assert_array_equal(result.x, gradient_descent(ellipse, [1.0, 2.0], 0.1, 5, grad=ellipse_slope).x)
    assert len({tuple(r.jac) for r in kept}) == 5
    # Nor does the buffer hide a divergence, which shows in two gradients side by side.
    steps = []
    for slope in (grad, ellipse_slope):
        with pytest.raises(DivergenceError) as raised:
            gradient_descent(ellipse, [1.0, 2.0], 1.0, 1000, grad=slope)
        steps.append(raised.value.step)
    assert steps[0] == steps[1] < 20


@pytest.mark.parametrize("wrap", [list, tuple, np.float32, lambda g: g.astype(">f8"), lambda g: g[::-1][::-1]])
def test_grad_may_return_anything_that_is_an_array(wrap):
    result = gradient_descent(ellipse, [1.0, 2.0], 0.25, 3, grad=lambda x: wrap(ellipse_slope(x)))
    np.testing.assert_allclose(result.x, [0.0, 2 * 0.75**3], rtol=1e-6)


BAD = [
    ({"f": 3}, TypeError, "f must be callable"),
    ({"init_x": None}, TypeError, "init_x is needed"),
    ({"init_x": "ab"}, TypeError, "init_x must hold real numbers"),
    ({"init_x": [1.0, np.nan]}, ValueError, r"init_x must be finite; init_x\[1\] is nan"),
    ({"init_x": [[1.0], [1.0, 2.0]]}, ValueError, "init_x must be an array of numbers with rows of equal length"),
    ({"lr": -0.1}, ValueError, "lr must be finite and at least 0"),
    ({"lr": np.nan}, ValueError, "lr must be finite"),
    ({"lr": True}, TypeError, "lr must be a real number"),
    ({"lr": None}, TypeError, "lr must be a real number"),
    ({"lr": [0.1]}, TypeError, "lr must be a real number"),
    ({"lr": "fast"}, ValueError, "lr must be a number, a function of the step, or"),
    ({"lr": lambda step: None}, TypeError, r"lr\(0\) must be a real number; got None"),
    ({"lr": lambda step: 0.1 if step < 2 else np.nan}, ValueError, r"lr\(2\) must be finite"),
    ({"lr": lambda step: -0.1}, ValueError, r"lr\(0\) must be finite and at least 0"),
    ({"step_num": 1.5}, TypeError, "step_num must be an integer"),
    ({"step_num": -1}, ValueError, "step_num must be at least 0"),
    ({"step_num": True}, TypeError, "step_num must be an integer"),
    ({"step_num": None}, TypeError, "step_num must be an integer"),
    ({"tol": 0}, ValueError, "tol must be finite and positive"),
    ({"tol": "small"}, TypeError, "tol must be a real number"),
    ({"callback": 3}, TypeError, "callback must be callable"),
    ({"history": 1.5}, TypeError, 'history must be True, False, "x", "fun" or a number of steps; got 1.5'),
    ({"history": 0}, ValueError, "history must be at least 1"),
    ({"history": "y"}, ValueError, "history must be one of 'x', 'fun'"),
    ({"f_tol": 0}, ValueError, "f_tol must be finite and positive"),
    ({"x_tol": -1.0}, ValueError, "x_tol must be finite and positive"),
    ({"target": np.inf}, ValueError, "target must be finite"),
    ({"max_seconds": -1}, ValueError, "max_seconds must be finite and at least 0"),
    ({"verbose": "yes"}, TypeError, "verbose must be an integer"),
    ({"grad": 3}, TypeError, "grad must be callable"),
    ({"grad": lambda x: 1.0}, ValueError, r"grad must return an array of the shape of x, \(2,\); it returned \(\)"),
    ({"grad": lambda x: np.ones((2, 1))}, ValueError, "grad must return an array of the shape of x"),
    ({"grad": lambda x: x * 1j}, TypeError, "what grad returned must hold real numbers"),
    ({"grad": lambda x: ["a", "b"]}, TypeError, "what grad returned must hold real numbers"),
    ({"f": lambda x: None}, TypeError, "f must return one real number; it returned None"),
    ({"f": lambda x: x}, ValueError, "f must return one real number"),
]


@pytest.mark.parametrize("change, error, message", BAD, ids=[f"{i} {', '.join(row[0])}" for i, row in enumerate(BAD)])
def test_bad_input(change, error, message):
    with pytest.raises(error, match=message):
        gradient_descent(**{"f": sum_of_squares, "init_x": [1.0, 2.0], **change})


def test_bad_input_with_an_objective():
    o = problem()
    with pytest.raises(TypeError, match="an objective has its own gradient"):
        gradient_descent(o, grad=twice)
    with pytest.raises(ValueError, match=r"init_x must have shape \(3,\); got \(3, 1\)"):
        gradient_descent(o, np.ones((3, 1)))
    with pytest.raises(ValueError, match=r"init_x must be finite; init_x\[1\] is inf"):
        gradient_descent(o, [1.0, np.inf, 1.0], lr="auto")


@pytest.mark.parametrize("loss", ["hinge", "epsilon_insensitive"])
def test_losses_with_a_kink_take_a_rate_that_shrinks_and_a_number_of_steps(loss):
    """With X the identity matrix each weight goes its own way: to a margin of 1, or into the tube around its target."""
    o = LinearObjective(np.eye(3), [1.0, -1.0, 1.0], loss=loss)
    result = gradient_descent(o, lr=lambda step: 1 / (1 + step), step_num=200)
    distance = np.maximum(1 - o.y * result.x, 0) if loss == "hinge" else np.abs(result.x - o.y) - 0.1
    assert np.all(distance <= 1 / 3)  # no more than the last step that was taken over the kink
    assert result.fun == o.value(result.x) < 0.05
    for arguments in ({"lr": "auto"}, {"lr": "auto", "precondition": "gram"}, {"tol": 1e-3}, {"tol": 1, "lr": "auto"}):
        with pytest.raises(ValueError, match=f"for loss='{loss}', whose slope jumps: give a rate that shrinks"):
            gradient_descent(o, **arguments)


def test_the_squared_hinge_descends_by_itself():
    X = np.random.default_rng(3).normal(size=(60, 3)) * [1, 100, 0.01]
    y = np.where(X @ [1, -0.01, 50] + 0.3 > 0, 1.0, -1.0)
    o = LinearObjective(X, y, loss="squared_hinge", fit_intercept=True, l2=1e-3)
    for precondition in (None, "gram", "diagonal"):
        result = gradient_descent(o, lr="auto", precondition=precondition, tol=1e-12, step_num=50_000)
        assert result.success
        # The least value of a strictly convex function: no point around it, far or near, is lower.
        for scale in (1e-3, 1e-1, 1.0):
            around = result.x * (1 + scale * np.random.default_rng(0).normal(size=(50, 4)))
            assert min(o.value(w) for w in around) >= result.fun * (1 - 1e-9)


@pytest.mark.one_build
def test_a_path_is_what_the_loop_needs():
    names = ("start", "evaluate", "to_user", "gradient_to_user", "settle", "curvature", "fun_is_free", "nfev", "njev")
    o = problem()
    for path in (
        paths.FunctionPath(ellipse, None, [1.0]),
        paths.Columns(o, None),
        paths.Rescaled(o, None),
        paths.Whitened(o, None),
        paths.Compressed(paths.Columns(o, None)),
    ):
        assert [name for name in names if not hasattr(path, name)] == []


# --------------------------------------------------------------------------------------- what once went wrong


def test_a_schedule_is_asked_for_the_steps_that_are_taken_and_no_more():
    asked = []
    gradient_descent(sum_of_squares, [1.0], lr=lambda step: asked.append(step) or 0.1, step_num=3)
    assert asked == [0, 1, 2]


def test_the_callback_is_called_after_the_last_step_too():
    kept = []
    result = gradient_descent(sum_of_squares, [1.0], 0.25, 100, grad=twice, tol=1e-3, callback=kept.append)
    assert [r.nit for r in kept] == list(range(1, result.nit + 1))


def test_stochastic_gradients_are_no_divergence():
    rng = np.random.default_rng(0)
    for step_num in range(10, 40):
        gradient_descent(sum_of_squares, [1.0], 0.01, step_num, grad=lambda x: 2 * x + rng.standard_normal(1))


def test_a_run_that_ends_lower_is_not_said_to_end_higher():
    # ½(uv − 1)²: a steep start, a few bounces, and then a flat valley. After two steps it is at 0.07, from 23.5.
    start, lr = np.array([-3.29735719, 1.77659007]), 0.2525064426041798

    def f(x):
        return 0.5 * (x[0] * x[1] - 1) ** 2

    result = gradient_descent(f, start, lr, 2, grad=lambda x: (x[0] * x[1] - 1) * x[::-1])
    assert result.fun < f(start)


@pytest.mark.parametrize("start", [[1.0, 2.0], [0.1, 1.0], [0.03, 1.0]])
def test_the_stable_rate_is_within_ten_percent_from_any_start(start):
    with pytest.raises(DivergenceError) as raised:
        gradient_descent(ellipse, start, 5.0, 100, grad=ellipse_slope)
    assert raised.value.stable_lr == pytest.approx(0.5, rel=0.1)


def test_a_rate_of_zero_is_no_trouble_where_gradients_are_noisy():
    rng = np.random.default_rng(0)
    result = gradient_descent(sum_of_squares, [1.0], 0.0, 50, grad=lambda x: rng.standard_normal(1))
    assert result.x.tolist() == [1.0]


def test_a_divergence_survives_pickle_and_copy():
    with pytest.raises(DivergenceError) as raised:
        gradient_descent(ellipse, [1.0, 2.0], 5.0, 100)
    for twin in (copy.copy(raised.value), pickle.loads(pickle.dumps(raised.value))):
        assert str(twin) == str(raised.value)
        assert (twin.step, twin.lr, twin.stable_lr) == (raised.value.step, raised.value.lr, raised.value.stable_lr)


@pytest.mark.parametrize("dtype, mean", [(np.float32, 1e6), (np.float64, 1e15)])
def test_exact_numbers_close_together_are_data(dtype, mean):
    X = (mean + np.tile([0, 1], 10)).astype(dtype).reshape(-1, 1)
    o = LinearObjective(X, np.tile([0.0, 1.0], 10), fit_intercept=True)
    result = gradient_descent(o, lr="auto", tol=1e-6, step_num=1000)
    assert result.fun < 0.1 or not result.success


def test_a_large_gradient_is_finite():
    result = gradient_descent(lambda x: 1e160 * float(x[0]), [1.0], lr=1e-170, step_num=1)
    assert result.jac[0] == pytest.approx(1e160)
