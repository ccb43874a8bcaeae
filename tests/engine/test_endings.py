"""How runs end: by a value, by little change, by the clock; and what they leave. Divergence: test_divergence.py."""

import io
import re
import time

import numpy as np
import pytest
from scipy.optimize import rosen, rosen_der

from fastgd import LinearObjective, Status, gradient_descent

RNG = np.random.default_rng(0)
X = RNG.standard_normal((40, 3))
TARGETS = X @ [1.0, -2.0, 0.5] + 0.1 * RNG.standard_normal(40)


def bowl(x):
    return float(x @ x)


def bowl_slope(x):
    return 2 * x


# ---------------------------------------------------------------------------------------------------------- tolerances


@pytest.mark.one_build
def test_each_ending_has_its_status_and_a_sentence_that_names_it():
    options = {"init_x": [3.0, -4.0], "lr": 0.1, "grad": bowl_slope, "step_num": 500}
    endings = {
        Status.CONVERGED: ({"tol": 1e-3}, r"within tol = 0\.001"),
        Status.TARGET_REACHED: ({"target": 0.5}, r"at most target = 0\.5"),
        Status.VALUE_SETTLED: ({"f_tol": 1e-6}, r"f_tol = 1e-06 .* gradient norm"),
        Status.POINT_SETTLED: ({"x_tol": 1e-6}, r"x_tol = 1e-06 .* gradient norm"),
        Status.TIME_LIMIT: ({"max_seconds": 0}, "max_seconds = 0 have passed"),
        Status.STEP_LIMIT: ({"step_num": 7}, "took all 7 steps"),
    }
    for status, (change, sentence) in endings.items():
        result = gradient_descent(bowl, **options | change)
        assert result.status == status and result.success, status
        assert re.search(sentence, result.message)
        assert result.fun == bowl(result.x)


@pytest.mark.one_build
def test_the_target_is_met_at_the_first_point_that_meets_it():
    result = gradient_descent(bowl, [3.0, 4.0], lr=0.1, grad=bowl_slope, target=0.5, step_num=500)
    # 25·0.64^k ≤ ½ from k = 9 on.
    assert result.nit == 9 and result.fun <= 0.5 < 25 * 0.64**8
    assert gradient_descent(bowl, [0.1, 0.1], lr=0.1, target=0.5).nit == 0


@pytest.mark.one_build
@pytest.mark.parametrize("tolerance", [1e-3, 1e-5])
def test_little_change_is_what_the_documentation_says(tolerance):
    options = {"init_x": [3.0, 4.0], "lr": 0.1, "grad": bowl_slope, "step_num": 5000, "history": True}
    history = gradient_descent(bowl, **options | {"f_tol": tolerance}).history
    small = np.abs(np.diff(history.fun)) <= tolerance * (tolerance + history.fun[1:])
    assert small[-3:].all() and not any(small[i : i + 3].all() for i in range(len(small) - 3))
    history = gradient_descent(bowl, **options | {"x_tol": tolerance}).history
    moves, sizes = np.linalg.norm(np.diff(history.x, axis=0), axis=1), np.linalg.norm(history.x, axis=1)
    small = moves <= tolerance * (tolerance + sizes[1:])
    assert small[-3:].all() and not any(small[i : i + 3].all() for i in range(len(small) - 3))


@pytest.mark.one_build
def test_a_rate_of_zero_is_no_sign_of_rest():
    result = gradient_descent(
        bowl, [3.0, 4.0], lr=lambda step: 0.1 if step >= 10 else 0.0, grad=bowl_slope, x_tol=1e-6, step_num=500
    )  # fmt: skip
    assert result.nit > 20 and result.fun < 1e-8


def test_tolerances_on_objectives_whatever_the_kernel():
    o = LinearObjective(X, TARGETS, loss="mse")
    least = o.value(np.linalg.lstsq(X, TARGETS, rcond=None)[0])
    for options in ({"lr": 0.1}, {"lr": "auto"}, {"lr": 0.01, "batch_size": 8}, {"solver": "accelerated"}):
        result = gradient_descent(o, target=2 * least, step_num=5000, **options)
        assert result.status == Status.TARGET_REACHED and result.fun <= 2 * least
    assert gradient_descent(o, lr=0.1, f_tol=1e-9, step_num=5000).status == Status.VALUE_SETTLED
    assert gradient_descent(o, solver="accelerated", x_tol=1e-9, step_num=5000).status == Status.POINT_SETTLED


def test_a_tolerance_that_is_not_reached_is_named(build):
    o = LinearObjective(X, TARGETS, loss="mse")
    result = gradient_descent(o, lr=1e-5, target=1e-9, x_tol=1e-12, step_num=20)
    assert result.status == Status.STEP_LIMIT and not result.success
    assert "without reaching x_tol = 1e-12 or target = 1e-09: raise step_num" in result.message


@pytest.mark.one_build
def test_the_clock_ends_bursts_too(monkeypatch):
    now = iter(np.arange(0.0, 1e6, 0.4))
    monkeypatch.setattr(time, "monotonic", lambda: float(next(now)))
    o = LinearObjective(X, TARGETS, loss="mse", activation="sigmoid")
    for options in ({"lr": 1e-6}, {"lr": 1e-6, "batch_size": 4}):
        result = gradient_descent(o, step_num=10**9, max_seconds=1.0, **options)
        assert result.status == Status.TIME_LIMIT and 0 < result.nit < 10**9
        assert result.fun == o.value(result.x)


# ------------------------------------------------------------------------------------------------------------- history


@pytest.mark.parametrize("kind", ["function", "bursts", "automatic", "batches"])
def test_a_history_of_what_is_asked_for(kind):
    o = LinearObjective(X, TARGETS, loss="mse", activation="tanh")
    options = {
        "function": {"f": rosen, "init_x": [-1.2, 1.0], "lr": 1e-3, "grad": rosen_der},
        "bursts": {"f": o, "lr": 0.1},
        "automatic": {"f": o, "lr": "auto"},
        "batches": {"f": o, "lr": 0.1, "batch_size": 8},
    }[kind]
    full = gradient_descent(**options, step_num=200, history=True).history
    assert full.step.tolist() == list(range(201))
    for history, names in (("x", ["x", "lr", "grad_norm", "step"]), ("fun", ["fun", "lr", "grad_norm", "step"])):
        found = gradient_descent(**options, step_num=200, history=history).history
        assert list(found) == names
        for name in names:
            np.testing.assert_array_equal(found[name], full[name])
    for every in (1, 7, 64, 200, 500):
        result = gradient_descent(**options, step_num=200, history=every)
        rows = sorted({*range(0, 201, every), 200})
        assert result.history.step.tolist() == rows
        np.testing.assert_array_equal(result.history.x, full.x[rows])
        np.testing.assert_allclose(result.history.fun, full.fun[rows], rtol=1e-14)
        np.testing.assert_allclose(result.history.grad_norm, full.grad_norm[rows], rtol=1e-12)
        np.testing.assert_array_equal(result.history.lr, full.lr[rows[:-1]])
        np.testing.assert_array_equal(result.x, full.x[-1])


@pytest.mark.one_build
@pytest.mark.parametrize(("history", "values"), [(False, 1), ("x", 1), (True, 31), ("fun", 31), (10, 4), (20, 3)])
def test_a_history_asks_for_no_more_values_than_it_shows(history, values):
    calls = []

    def f(x):
        calls.append(x)
        return bowl(x)

    result = gradient_descent(f, [3.0, 4.0], lr=0.01, grad=bowl_slope, step_num=30, history=history)
    assert len(calls) == result.nfev == values


@pytest.mark.one_build
def test_what_was_not_recorded_is_named():
    history = gradient_descent(bowl, [1.0], history="x", step_num=2).history
    with pytest.raises(AttributeError, match="History has no 'fun'; it has x, lr, grad_norm, step"):
        _ = history.fun


@pytest.mark.one_build
def test_the_bar_shows_value_rate_and_gradient(monkeypatch):
    shown = []
    tqdm = pytest.importorskip("tqdm.auto").tqdm
    monkeypatch.setattr(tqdm, "set_postfix_str", lambda self, text, **options: shown.append(text))
    monkeypatch.setattr("sys.stderr", io.StringIO())
    gradient_descent(bowl, [3.0, 4.0], lr=0.25, grad=bowl_slope, step_num=2, progress=True)
    assert shown == [
        "value 25, |gradient| 10", "value 6.25, lr 0.25, |gradient| 5", "value 1.5625, lr 0.25, |gradient| 2.5",
    ]  # fmt: skip


@pytest.mark.one_build
def test_the_callback_sees_evaluations_as_they_add_up():
    seen = []
    gradient_descent(bowl, [3.0, 4.0], lr=0.1, step_num=3, callback=seen.append)
    assert [(found.nit, found.nfev, found.njev) for found in seen] == [(1, 16, 2), (2, 24, 3), (3, 32, 4)]
