"""Ctrl-C: whatever the loop and the moment, what a run has come to is in the exception, and a checkpoint goes on."""

import concurrent.futures
import os
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

from fastgd import LinearObjective, Status, gradient_descent, kernels, multi_start, optimizers
from fastgd.data import Dense
from fastgd.engine import steps
from fastgd.files import checkpoint
from fastgd.objective import variables
from fastgd.objective.standardised import Standardised

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
    "bursts": ({"f": LOGISTIC, "lr": 0.1}, variables.Columns, "burst"),
    "momentum": ({"f": LOGISTIC, "lr": 0.1, "optimizer": "momentum"}, variables.Columns, "burst"),
    "averages": ({"f": LOGISTIC, "lr": 0.1, "optimizer": optimizers.ASGD(2)}, variables.Columns, "burst"),
    "batches": ({"f": LOGISTIC, "lr": 0.1, "batch_size": 8}, Dense, "stochastic"),
    "accelerated": ({"f": LOGISTIC, "solver": "accelerated"}, Standardised, "evaluate"),
    "backtracking": ({"f": POISSON, "solver": "accelerated"}, Standardised, "evaluate"),
    "quasi-Newton": ({"f": POISSON, "solver": "preconditioned"}, Standardised, "evaluate"),
    "batches without a rate": ({"f": LOGISTIC, "solver": "sgd", "batch_size": 8}, Standardised, "evaluate"),
}


def heeds_ctrl_c():
    """For a child process: tests that run in the background ignore the signal, and what they start inherits that."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


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
        patch.setattr(steps, "FIRST_VALUES", 0)  # so that a short run takes several bursts
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
    command = [sys.executable, "-c", program]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, preexec_fn=heeds_ctrl_c) as process:
        try:
            assert process.stdout.readline() == "begun\n"
            while process.poll() is None and not (path.exists() and checkpoint.read(path)[1]["step"] > 0):
                time.sleep(0.01)
            process.send_signal(signal.SIGINT)
            steps, exact = process.communicate(timeout=60)[0].split()
        finally:
            process.kill()
    assert int(steps) >= checkpoint.read(path)[1]["step"] > 0 and exact == "True"


def test_many_starts_keep_the_runs_that_are_whole():
    f = interrupted_at(40, valley)
    with pytest.raises(KeyboardInterrupt) as raised:
        multi_start(f, ([-2.0, -2.0], [2.0, 2.0]), 8, lr=1e-4, step_num=10, grad=valley_slope, history=True)
    best = raised.value.result
    assert len(best.runs) == 3 and best.fun == min(run.fun for run in best.runs)  # 11 values each
    assert "3 whole runs" in raised.value.__notes__[-1]


@pytest.mark.skipif(not hasattr(signal, "raise_signal"), reason="needs signals")
def test_while_the_starts_are_drawn(monkeypatch):
    """The set-up of scipy's Sobol numbers would print the interrupt and go on."""
    from scipy.stats import qmc

    class Interrupted(qmc.Sobol):
        def __init__(self, *arguments, **options):
            try:
                signal.raise_signal(signal.SIGINT)
            except KeyboardInterrupt:
                pytest.fail("scipy saw the interrupt")
            super().__init__(*arguments, **options)

    monkeypatch.setattr(qmc, "Sobol", Interrupted)
    with pytest.raises(KeyboardInterrupt):
        multi_start(valley, ([-2.0, -2.0], [2.0, 2.0]), 8, lr=1e-4, step_num=10)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_before_the_first_point():
    with pytest.raises(KeyboardInterrupt) as raised:
        gradient_descent(interrupted_at(1, valley), [0.0, 1.0])
    assert raised.value.result is None and "before its first point" in raised.value.__notes__[0]


# ---------------------------------------------------------------------------------------------- functions that are slow

# What the process of `Interpreter` has at hand. An evaluation takes 0.06 s, wherever f is slow, which is longer than
# kernels go on without a look for signals. The fifth of these sends Ctrl-C to its own process, so that what is counted
# is how many are begun after that: it does not depend on how fast or busy the machine is.
SLOW = """
import ctypes, gc, os, signal, sys, threading, time
import numba
import numpy as np
import scipy
import scipy.stats.qmc  # a half-done import cannot be repeated
from fastgd import check_gradient, gradient_descent, LinearObjective, multi_start
from fastgd import numerical_gradient, numerical_hessian, numerical_jacobian

FIFTH = 5  # threads begin after four evaluations
calls = np.zeros(1, np.intp)  # slow ones that were begun
POINT = numba.types.CPointer(numba.types.float64)
value = numba.cfunc(numba.types.float64(numba.types.intp, POINT, numba.types.voidptr))
slope = numba.cfunc(numba.types.void(numba.types.intp, POINT, POINT, numba.types.voidptr))
libc = ctypes.CDLL(None)
usleep, kill = libc.usleep, libc.kill
usleep.argtypes, usleep.restype = [ctypes.c_uint], ctypes.c_int
kill.argtypes, kill.restype = [ctypes.c_int, ctypes.c_int], ctypes.c_int
PROCESS, INTERRUPT = os.getpid(), int(signal.SIGINT)

@numba.njit
def slowly(data):
    made = numba.carray(data, (1,), np.intp)
    made[0] += 1
    if made[0] == FIFTH:
        kill(PROCESS, INTERRUPT)
    usleep(60_000)

@numba.njit
def squares(n, x):
    total = 0.0
    for i in range(n):
        total += x[i] * x[i]
    return total

@value
def slow(n, x, data):
    slowly(data)
    return squares(n, x)

@slope
def slow_gradient(n, x, gradient, data):
    slowly(data)
    for i in range(n):
        gradient[i] = 2 * x[i]

@value
def slow_where_steps_are_looked_for(n, x, data):
    # The values leave few digits to differences at the first step, 6e-6.
    for i in range(n):
        if abs(abs(x[i] - 1.0) - 6e-6) > 1e-7 and x[i] != 1.0:
            slowly(data)
    return 1e9 + squares(n, x)

@value
def slow_near_zero(n, x, data):
    if x[0] < 0.5:
        slowly(data)
    return squares(n, x)

@slope
def gradient_slow_near_zero(n, x, gradient, data):
    if x[0] < 0.5:
        slowly(data)
    for i in range(n):
        gradient[i] = 2 * x[i]

def counted(function):
    return scipy.LowLevelCallable(function.ctypes, ctypes.c_void_p(calls.ctypes.data))

slow, slow_near_zero, slow_where_steps_are_looked_for, slow_gradient, gradient_slow_near_zero = map(
    counted, (slow, slow_near_zero, slow_where_steps_are_looked_for, slow_gradient, gradient_slow_near_zero)
)

def row(x):
    calls[0] += 1
    if calls[0] == FIFTH:
        os.kill(PROCESS, signal.SIGINT)
    time.sleep(0.06)
    return x * x

def in_python(x):
    return float(np.sum(row(x)))

X = np.random.default_rng(0).standard_normal((2000, 3))
objective = LinearObjective(X, X @ [1.0, 2.0, 3.0] > 0, activation="sigmoid", loss="log")

def interrupted_soon(run, *arguments, **options):
    threading.Timer(0.3, os.kill, (PROCESS, signal.SIGINT)).start()
    return run(*arguments, **options)

# What Ctrl-C raises while garbage is collected is printed, and lost: Python can do no other.
gc.collect()
gc.disable()
print("ready", flush=True)
for line in sys.stdin:
    calls[:] = 0
    try:
        eval(compile(line, "the call", "eval"))  # of a string it would have Python die of the signal in the end
        print("came to its end", calls[0], flush=True)
    except KeyboardInterrupt as error:
        print("stopped", getattr(error, "result", None) is not None, calls[0], flush=True)
"""
IN_C = {
    "gradient": "numerical_gradient(slow, np.ones(200))",
    "steps that are looked for": "numerical_gradient(slow_where_steps_are_looked_for, np.ones(200))",
    "Richardson": "numerical_gradient(slow, np.ones(50), scheme='richardson')",
    "gradient in threads": "numerical_gradient(slow, np.ones(200), workers=4)",
    "Hessian": "numerical_hessian(slow, np.ones(20))",
    "Hessian in threads": "numerical_hessian(slow, np.ones(20), workers=4)",
    "check": "check_gradient(slow, slow_gradient, np.ones(50))",
}
# And whether there is a result: not of a first gradient, nor of many starts before the end of a run.
DESCENT = {
    "by differences": ("gradient_descent(slow, np.ones(100), 0.1, 100)", False),
    "by differences in threads": ("gradient_descent(slow, np.ones(100), 0.1, 100, n_jobs=4)", False),
    "by a gradient": ("gradient_descent(slow, np.ones(2), 0.1, 10**6, grad=slow_gradient)", True),
    "that becomes slow": ("gradient_descent(slow_near_zero, np.ones(2), 3e-4, 10**9)", True),
    "whose gradient becomes slow": (
        "gradient_descent(slow_near_zero, np.ones(2), 3e-4, 10**9, grad=gradient_slow_near_zero)", True
    ),
    "from many starts": (
        "multi_start(slow, (-np.ones(50), np.ones(50)), 8, lr=0.1, step_num=50, workers=2)", False
    ),
}  # fmt: skip
IN_PYTHON = {
    "gradient": "numerical_gradient(in_python, np.ones(200))",
    "gradient in threads": "numerical_gradient(in_python, np.ones(200), workers=4)",
    "Jacobian": "numerical_jacobian(row, np.ones(200))",
    "Jacobian in threads": "numerical_jacobian(row, np.ones(200), workers=4)",
    "Hessian": "numerical_hessian(in_python, np.ones(20))",
    "check": "check_gradient(in_python, lambda x: 2 * x, np.ones(50))",
    "many starts": "multi_start(in_python, (-np.ones(50), np.ones(50)), 8, lr=0.1, step_num=50)",
    "many starts in threads": "multi_start(in_python, (-np.ones(9), np.ones(9)), 8, lr=0.1, step_num=99, workers=2)",
}
# Without a function of the user's that could count: a run of hours, which ends.
IN_KERNELS = (
    "interrupted_soon(multi_start, objective, (-np.ones(3), np.ones(3)), 8, lr=1e-9, step_num=10**9, workers=2)"
)
# Evaluations that may be begun from the fifth on, of hundreds that the call would make: where nothing else runs, that
# one, and a gradient's beside its value; in threads, those that begin until the main thread has been given its turn;
# and a function that was quick, and becomes slow, is called up to 64 times between two looks at the clock.
ALONE, THREADED, SUDDEN = 2, 40, 64 + 2
BUILDS = ["reference", kernels.available()[-1]]
posix = pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs the signals of POSIX")


class Interpreter:
    """A process that makes one call after the other, each until Ctrl-C."""

    def __init__(self, build):
        self.process = subprocess.Popen(
            [sys.executable, "-c", SLOW], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            text=True, preexec_fn=heeds_ctrl_c, env=os.environ | {"FASTGD_KERNELS": build},
        )  # fmt: skip
        assert self.process.stdout.readline() == "ready\n", self.process.stderr.read()

    def interrupted(self, call):
        """What came of a call, and how many evaluations it began before it stopped."""
        watchdog = threading.Timer(100, self.process.kill)  # below the limit of a test
        watchdog.start()
        try:
            print(call, file=self.process.stdin, flush=True)
            answer, _, calls = self.process.stdout.readline().strip().rpartition(" ")
        finally:
            watchdog.cancel()
        return answer, int(calls or -1)


@pytest.fixture(scope="module")
def interpreters():
    pytest.importorskip("numba")
    running = {}

    def of_build(name):
        if name not in running or running[name].process.poll() is not None:
            running[name] = Interpreter(name)
        return running[name]

    yield of_build
    for interpreter in running.values():
        _, errors = interpreter.process.communicate(timeout=60)
        assert (errors, interpreter.process.returncode) == ("", 0)  # nor has a thread that was left behind complained


def assert_stopped(interpreter, call, with_result):
    answer, calls = interpreter.interrupted(call)
    assert answer == f"stopped {with_result}"
    more = THREADED if "workers" in call or "n_jobs" in call else SUDDEN if "near_zero" in call else ALONE
    assert 5 <= calls < 5 + more


@posix
@pytest.mark.parametrize("name", BUILDS)
@pytest.mark.parametrize("call", IN_C.values(), ids=IN_C)
def test_ctrl_c_waits_for_one_call_of_a_c_function(call, name, interpreters):
    assert_stopped(interpreters(name), call, False)


@posix
@pytest.mark.parametrize("name", BUILDS)
@pytest.mark.parametrize("call", DESCENT.values(), ids=DESCENT)
def test_ctrl_c_waits_for_one_call_in_a_descent_on_a_c_function(call, name, interpreters):
    assert_stopped(interpreters(name), *call)


@posix
@pytest.mark.parametrize("call", IN_PYTHON.values(), ids=IN_PYTHON)
def test_ctrl_c_waits_for_one_call_of_a_python_function(call, interpreters):
    assert_stopped(interpreters(kernels.available()[-1]), call, False)


@posix
def test_ctrl_c_reaches_threads_that_stay_in_kernels(interpreters):
    answer, _ = interpreters(kernels.available()[-1]).interrupted(IN_KERNELS)
    assert answer == "stopped False"


@posix
@pytest.mark.parametrize("call", [IN_C["gradient in threads"], IN_PYTHON["many starts in threads"]])
def test_threads_do_not_hold_up_the_end_of_the_program(call):
    pytest.importorskip("numba")
    interpreter = Interpreter(kernels.available()[-1])
    with interpreter.process as process:
        told = "__import__('atexit').register(lambda: print('at the end', calls[0]))"  # threads have ended by then
        assert interpreter.interrupted(told) == ("came to its end", 0)
        answer, calls = interpreter.interrupted(call)
        assert answer == "stopped False"
        output, errors = process.communicate(timeout=60)
    assert (errors, process.returncode) == ("", 0)
    assert output.startswith("at the end ") and calls <= int(output.split()[-1]) < 5 + THREADED


class OutOfOrder:
    """An executor whose first call is still under way when Ctrl-C comes, and the others have come to their ends."""

    def submit(self, task, numbered):
        future = concurrent.futures.Future()
        if numbered[0]:
            future.set_result(task(numbered))
        else:
            future.set_exception(KeyboardInterrupt())
        return future


def test_runs_that_ended_out_of_order_are_kept():
    with pytest.raises(KeyboardInterrupt) as raised:
        multi_start(valley, np.eye(3, 2), 3, lr=1e-4, step_num=10, workers=OutOfOrder())
    best = raised.value.result
    assert len(best.runs) == 2 and best.fun == min(run.fun for run in best.runs)
    assert "2 whole runs" in raised.value.__notes__[-1]
