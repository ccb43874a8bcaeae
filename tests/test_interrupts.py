"""Ctrl-C: whatever the loop and the moment, what a run has come to is in the exception, and a checkpoint goes on."""

import functools
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from fastgd import LinearObjective, Status, gradient_descent, multi_start, optimizers
from fastgd.data import Dense
from fastgd.engine import steps
from fastgd.files import checkpoint
from fastgd.objective import variables

pytestmark = pytest.mark.one_build
RNG = np.random.default_rng(0)
X, Y = RNG.standard_normal((120, 3)), RNG.integers(0, 2, 120).astype(float)
LOGISTIC = LinearObjective(X, Y, activation="sigmoid", loss="log", fit_intercept=True, l2=0.01)
POISSON = LinearObjective(X / 3, Y, activation="exp", loss="poisson")


def valley(x):
    return float((x[0] - 1) ** 2 + 100 * (x[1] - x[0] ** 2) ** 2)


def valley_slope(x):
    return np.array([2 * (x[0] - 1) - 400 * x[0] * (x[1] - x[0] ** 2), 200 * (x[1] - x[0] ** 2)])


FUNCTIONS = {
    "plain": {"lr": 1e-3},
    "adam": {"lr": 1e-2, "optimizer": "adam"},
    "averaged": {"lr": 1e-3, "optimizer": "asgd"},
    "bb": {"lr": "auto"},
    "armijo": {"lr": "armijo"},
    "adgd": {"lr": "adgd"},
    "numerical": {"lr": 1e-3, "grad": None},
    "leaving saddles": {"lr": 1e-3, "escape_saddles": True},
}
# name → options, and whose method makes the steps
OBJECTIVES = {
    "bursts": ({"f": LOGISTIC, "lr": 0.1}, paths.Columns, "burst"),
    "momentum": ({"f": LOGISTIC, "lr": 0.1, "optimizer": "momentum"}, paths.Columns, "burst"),
    "averages": ({"f": LOGISTIC, "lr": 0.1, "optimizer": optimizers.ASGD(2)}, paths.Columns, "burst"),
    "batches": ({"f": LOGISTIC, "lr": 0.1, "batch_size": 8}, Dense, "stochastic"),
    "accelerated": ({"f": LOGISTIC, "lr": "auto", "precondition": "gram"}, paths.Whitened, "evaluate"),
    "backtracking": ({"f": POISSON, "lr": "auto"}, paths.Rescaled, "evaluate"),
}


def interrupted_at(call, function):
    """The function, and Ctrl-C at the end of that call."""
    count = 0

    def stopped(*arguments, **options):
        nonlocal count
        count += 1
        value = function(*arguments, **options)
        if count == call:
            raise KeyboardInterrupt
        return value

    return stopped


def assert_whole(result, f, gradient, history):
    """Value and gradient are those of the point, and the history ends there, in rows that are complete."""
    assert result.status == Status.INTERRUPTED and not result.success
    assert result.message == f"interrupted after {result.nit} steps"
    assert result.fun == f(result.x)
    np.testing.assert_allclose(result.jac, gradient(result.x), rtol=1e-6, atol=1e-7)
    if history:
        found = result.history
        assert found.step[-1] == result.nit and len(found.lr) == len(found.step) - 1
        assert len(found.x) == len(found.fun) == len(found.grad_norm) == len(found.step)


@pytest.mark.parametrize("history", [False, True, 7])
@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("call", [6, 10, 47])
def test_in_the_middle_of_a_function(name, call, history, tmp_path):
    options = {"init_x": [-1.2, 1.0], "grad": valley_slope, "step_num": 60, "history": history} | FUNCTIONS[name]
    whole = gradient_descent(valley, **options)
    path = tmp_path / "run.npz"
    which = "grad" if options["grad"] else "f"
    stopped = {"f": valley} | options
    stopped[which] = interrupted_at(call, stopped[which])
    with pytest.raises(KeyboardInterrupt) as raised:
        gradient_descent(**stopped, checkpoint=path)
    assert_whole(raised.value.result, valley, valley_slope, history)
    assert (
        f"after {raised.value.result.nit} steps" in raised.value.__notes__[0] and str(path) in raised.value.__notes__[0]
    )
    resumed = gradient_descent(valley, **options, checkpoint=path, resume=True)
    assert resumed.x.tobytes() == whole.x.tobytes() and (resumed.nfev, resumed.njev) == (whole.nfev, whole.njev)


@pytest.mark.parametrize("history", [False, True, 7])
@pytest.mark.parametrize("call", [3, 4])
@pytest.mark.parametrize("name", OBJECTIVES)
def test_in_the_middle_of_an_objective(name, call, history, monkeypatch, tmp_path):
    """Where a kernel has moved the weights, and the loop has not heard of it yet."""
    options, owner, method = OBJECTIVES[name]
    options = options | {"step_num": 20_000 if method == "burst" else 200, "history": history}
    f, path = options["f"], tmp_path / "run.npz"
    whole = gradient_descent(**options)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt) as raised:
        patch.setattr(loops, "FIRST_VALUES", 0)  # so that a short run takes several bursts
        patch.setattr(owner, method, interrupted_at(call, getattr(owner, method)))
        gradient_descent(**options, checkpoint=path)
    assert_whole(raised.value.result, f.value, f.gradient, history)
    assert raised.value.result.nit > 0
    resumed = gradient_descent(**options, checkpoint=path, resume=True)
    assert resumed.x.tobytes() == whole.x.tobytes() and (resumed.nfev, resumed.njev) == (whole.nfev, whole.njev)


PROGRAM = """
import numpy as np
from fastgd import LinearObjective, gradient_descent
objective = LinearObjective([[1.0], [2.0]], [1.0, 0.0], activation="sigmoid", loss="log")
print("begun", flush=True)
try:
    gradient_descent(objective, lr=1e-9, step_num=10**12, batch_size={batch_size}, checkpoint={path!r})
except KeyboardInterrupt as error:
    print(error.result.nit, error.result.fun == objective.value(error.result.x))
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs the signals of POSIX")
@pytest.mark.parametrize("batch_size", [None, 1])
def test_ctrl_c_reaches_a_loop_that_stays_in_c(batch_size, tmp_path):
    path = tmp_path / "run.npz"
    program = PROGRAM.format(batch_size=batch_size, path=str(path))
    heeds = functools.partial(
        signal.signal, signal.SIGINT, signal.SIG_DFL
    )  # also where the tests run in the background
    command = [sys.executable, "-c", program]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, preexec_fn=heeds) as process:
        assert process.stdout.readline() == "begun\n"
        while process.poll() is None and not (path.exists() and checkpoint.read(path)[1]["step"] > 0):
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        steps, exact = process.communicate(timeout=60)[0].split()
    assert int(steps) >= checkpoint.read(path)[1]["step"] > 0 and exact == "True"


def test_many_starts_keep_the_runs_that_are_whole():
    f = interrupted_at(40, valley)
    with pytest.raises(KeyboardInterrupt) as raised:
        multi_start(f, ([-2.0, -2.0], [2.0, 2.0]), 8, lr=1e-4, step_num=10, grad=valley_slope, history=True)
    best = raised.value.result
    assert len(best.runs) == 3 and best.fun == min(run.fun for run in best.runs)  # 11 values each
    assert "3 whole runs" in raised.value.__notes__[-1]


def test_before_the_first_point():
    with pytest.raises(KeyboardInterrupt) as raised:
        gradient_descent(interrupted_at(1, valley), [0.0, 1.0])
    assert raised.value.result is None and "before its first point" in raised.value.__notes__[0]
