"""Runs that are interrupted, at any moment and in any loop, come to the same end by the bit."""

import errno
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy.optimize import rosen, rosen_der

from fastgd import DivergenceError, LinearObjective, Status, gradient_descent, schedules
from fastgd.engine import steps as loop
from fastgd.files import checkpoint

pytestmark = pytest.mark.one_build
STEPS = 90
RNG = np.random.default_rng(0)
X, Y = RNG.standard_normal((120, 3)), RNG.integers(0, 2, 120).astype(float)
LOGISTIC = LinearObjective(X, Y, activation="sigmoid", loss="log", fit_intercept=True, l2=0.01)
SINGLE = LinearObjective(X.astype(np.float32), Y, activation="sigmoid", loss="log", fit_intercept=True, l2=0.01)
SQUARED = LinearObjective(X, Y, loss="mse")
POISSON = LinearObjective(X / 3, Y, activation="exp", loss="poisson")
HINGE = LinearObjective(X, 2 * Y - 1, loss="hinge", l2=0.01)
VALLEY = {"f": rosen, "init_x": [-1.2, 1.0], "grad": rosen_der, "lr": 1e-3}
RUNS = {
    "plain": VALLEY | {"history": True},
    "numerical": {"f": rosen, "init_x": [-1.2, 1.0], "lr": 1e-3, "history": 7},
    "momentum": VALLEY | {"optimizer": "momentum", "history": "fun"},
    "adam": VALLEY | {"optimizer": "adam", "history": "x"},
    "averaged": VALLEY | {"optimizer": "asgd", "history": True},
    "plateau": VALLEY | {"lr": schedules.plateau(1e-3, patience=3), "history": True},
    "schedule": VALLEY | {"lr": lambda step: 1e-3 / (1 + step), "history": True},
    "bb": VALLEY | {"lr": "auto", "history": True},
    "armijo": VALLEY | {"lr": "armijo", "history": True},
    "adgd": VALLEY | {"lr": "adgd", "history": True, "x_tol": 1e-12},
    "bursts": {"f": LOGISTIC, "lr": 0.1, "history": 3},
    "bursts with a tolerance": {"f": LOGISTIC, "lr": 0.1, "tol": 1e-30},
    "bursts of momentum in float32": {"f": SINGLE, "lr": 0.1, "optimizer": "momentum", "history": True},
    "accelerated": {"f": LOGISTIC, "solver": "accelerated", "history": True},
    "backtracking": {"f": POISSON, "solver": "accelerated", "history": True},
    "plain steps of length 1/L": {"f": LOGISTIC, "solver": "gd", "tol": 1e-14, "history": True},
    "quasi-Newton": {"f": POISSON, "solver": "preconditioned", "history": True},
    "quasi-Newton with a penalty": {"f": LOGISTIC, "solver": "preconditioned", "l1": 0.01, "tol": 1e-12},
    "XᵀX": {"f": SQUARED, "solver": "gram", "history": True},
    "XᵀX with a penalty": {"f": SQUARED, "solver": "gram", "l1": 0.02},
    "a kink": {"f": HINGE, "lr": "auto", "tol": 1e-6, "history": True},
    "batches without a rate": {"f": LOGISTIC, "solver": "sgd", "batch_size": 8, "tol": 1e-9, "history": True},
    "batches of adam without a rate": {
        "f": HINGE.replace(l2=0.0),
        "solver": "sgd",
        "batch_size": 8,
        "optimizer": "adam",
    },
    "penalised": {"f": SQUARED, "lr": 0.1, "l1": 0.05, "bounds": (-1.0, 0.1), "history": True},
    "leaving a saddle": {
        "f": lambda x: x[0] ** 2 - x[1] ** 2 + x[1] ** 4 / 4,
        "init_x": [1.0, 0.0],
        "lr": 0.1,
        "history": True,
        "escape_saddles": True,
    },
    "batches": {"f": LOGISTIC, "lr": 0.1, "batch_size": 8, "seed": 3, "tol": 1e-12},
    "batches of adam": {"f": SINGLE, "lr": 0.01, "batch_size": 7, "optimizer": "adam", "history": 4},
}


class Killed(BaseException):
    pass


def assert_same(found, expected):
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        if isinstance(value, np.ndarray):
            assert (found[name].dtype, found[name].tobytes()) == (value.dtype, value.tobytes()), name
        elif name == "history" and value is not None:
            assert_same(found.history, value)
        else:
            assert found[name] == value, name


@pytest.fixture
def writes(monkeypatch):
    """Makes every state be written, and the run stop dead after so many writes."""
    save = checkpoint.Checkpoint.save
    left = [np.inf]

    def counted(self, state):
        save(self, state)
        left[0] -= 1
        if left[0] == 0:
            raise Killed

    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
    monkeypatch.setattr(checkpoint.Checkpoint, "save", counted)
    write_each_state(monkeypatch)
    return left


def write_each_state(monkeypatch):
    """Makes kernels that could take many steps come back after each, and every state be due to be written."""
    monkeypatch.setattr(checkpoint.Checkpoint, "due", property(lambda self: True))
    monkeypatch.setattr(loop, "FIRST_STEPS", 1)
    monkeypatch.setattr(loop, "_next_length", lambda length, elapsed: 1)


@pytest.mark.parametrize("name", RUNS)
def test_a_run_goes_on_to_the_same_bits(name, writes, tmp_path):
    path, options = tmp_path / "run.npz", RUNS[name]
    expected = gradient_descent(**options, step_num=STEPS)
    for stop in (1, 2, 37):
        path.unlink(missing_ok=True)
        writes[0] = stop
        try:
            gradient_descent(**options, step_num=STEPS, checkpoint=path)
        except Killed:
            _, state = checkpoint.read(path)
            assert "result" not in state or stop > 2
        writes[0] = np.inf
        assert_same(gradient_descent(**options, step_num=STEPS, checkpoint=path, resume=True), expected)
        assert_same(gradient_descent(**options, step_num=STEPS, checkpoint=path, resume=True), expected)


@pytest.mark.parametrize("name", RUNS)
def test_a_finished_run_goes_on_where_it_has_more_steps_now(name, tmp_path):
    path, options = tmp_path / "run.npz", RUNS[name]
    short = gradient_descent(**options, step_num=40, checkpoint=path)
    expected = gradient_descent(**options, step_num=STEPS)
    resumed = gradient_descent(**options, step_num=STEPS, checkpoint=path, resume=True)
    assert_same(resumed, expected)
    assert resumed.nit > short.nit or short.status != Status.STEP_LIMIT


@pytest.mark.parametrize("route", [{"lr": 0.5}, {"lr": "auto", "solver": "accelerated"}, {"lr": "bb"}])
def test_a_finished_run_goes_on_where_a_tighter_tolerance_is_asked_for(route, tmp_path):
    rng = np.random.default_rng(0)
    X = rng.standard_normal((300, 5))
    y = (X.sum(axis=1) + rng.standard_normal(300) > 0) * 1.0
    options = {"f": LinearObjective(X, y, activation="sigmoid", loss="log", l2=0.01), "step_num": 3000, **route}
    kept = {"checkpoint": tmp_path / "run.npz", "resume": True}
    loose = gradient_descent(**options, tol=1e-2, **kept)
    tight = gradient_descent(**options, tol=1e-8, **kept)
    assert loose.nit < tight.nit and tight.gap <= 1e-8 * tight.fun
    np.testing.assert_array_equal(tight.x, gradient_descent(**options, tol=1e-8).x)
    again = gradient_descent(**options, tol=1e-3, **kept)  # less is asked for than was reached
    assert (again.nit, again.message) == (tight.nit, tight.message)
    lower = gradient_descent(**options, tol=1e-8, target=tight.fun / 2, **kept)
    assert lower.nit == tight.nit  # the file has no target, so that this is another end and no tighter one


def test_resume_without_a_file_starts_afresh_and_without_resume_it_is_written_over(tmp_path):
    path = tmp_path / "run.npz"
    expected = gradient_descent(**VALLEY, step_num=20)
    assert_same(gradient_descent(**VALLEY, step_num=20, checkpoint=path, resume=True), expected)
    other = VALLEY | {"lr": 1e-4}
    assert_same(gradient_descent(**other, step_num=5, checkpoint=path), gradient_descent(**other, step_num=5))


def test_a_finished_run_asks_for_nothing_more(tmp_path):
    path = tmp_path / "run.npz"
    first = gradient_descent(**VALLEY, step_num=20, checkpoint=path)

    def never(x):
        raise AssertionError("f was asked")

    options = VALLEY | {"f": never, "grad": never}
    assert_same(gradient_descent(**options, step_num=20, checkpoint=path, resume=True), first)


def test_a_divergence_is_raised_again(tmp_path):
    path = tmp_path / "run.npz"
    errors = []
    for _ in range(2):
        with pytest.raises(DivergenceError) as raised:
            gradient_descent(rosen, [-1.2, 1.0], lr=1.0, step_num=50, checkpoint=path, resume=True)
        errors.append(raised.value)
    assert str(errors[0]) == str(errors[1])
    assert (errors[0].step, errors[0].lr, errors[0].stable_lr) == (errors[1].step, errors[1].lr, errors[1].stable_lr)
    assert_same(errors[1].result, errors[0].result)


def test_what_the_callback_or_the_clock_ended_goes_on(tmp_path):
    path = tmp_path / "run.npz"
    expected = gradient_descent(**VALLEY, step_num=60)

    def enough(result):
        if result.nit == 25:
            raise StopIteration

    stopped = gradient_descent(**VALLEY, step_num=60, callback=enough, checkpoint=path)
    assert (stopped.status, stopped.nit) == (Status.STOPPED_BY_CALLBACK, 25)
    found = gradient_descent(**VALLEY, step_num=60, checkpoint=path, resume=True)
    assert found.x.tobytes() == expected.x.tobytes() and found.nit == 60
    path.unlink()
    late = gradient_descent(**VALLEY, step_num=60, max_seconds=0, checkpoint=path)
    assert late.status == Status.TIME_LIMIT and late.nit == 0
    found = gradient_descent(**VALLEY, step_num=60, checkpoint=path, resume=True)
    assert found.x.tobytes() == expected.x.tobytes() and found.nit == 60


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"lr": 2e-3}, r"lr is 0\.001 there and 0\.002 here"),
        ({"init_x": [-1.0, 1.0]}, "init_x is"),
        ({"init_x": [-1.2, 1.0, 1.0]}, "shape is"),
        ({"optimizer": "adam"}, r"optimizer is 'GD\(\)' there and 'Adam"),
        ({"grad": None}, "grad is 'a function' there and absent here"),
        ({"history": True}, "history is False there and True here"),
        ({"bounds": (0, 1)}, "bounds is absent there"),
        ({"f": SQUARED, "grad": None, "init_x": None}, "f is 'a function' there and"),
        ({"step_num": 5}, "step_num = 5, but 20 steps are in"),
    ],
)
def test_the_file_of_another_run_is_refused(change, message, tmp_path, writes):
    path = tmp_path / "run.npz"
    writes[0] = 21
    with pytest.raises(Killed):
        gradient_descent(**VALLEY, step_num=30, checkpoint=path)
    with pytest.raises(ValueError, match=message):
        gradient_descent(**VALLEY | {"step_num": 30} | change, checkpoint=path, resume=True)


def test_other_data_are_another_problem(tmp_path):
    path = tmp_path / "run.npz"
    gradient_descent(SQUARED, step_num=3, checkpoint=path)
    moved = X.copy()
    moved[7, 1] += 1e-9
    with pytest.raises(ValueError, match="belongs to another run: X is"):
        gradient_descent(LinearObjective(moved, Y, loss="mse"), step_num=3, checkpoint=path, resume=True)


def test_resume_needs_a_file_name():
    with pytest.raises(ValueError, match="resume=True needs checkpoint="):
        gradient_descent(**VALLEY, resume=True)
    with pytest.raises(TypeError, match="resume must be True or False"):
        gradient_descent(**VALLEY, checkpoint="run.npz", resume="yes")


# ------------------------------------------------------------------------------------- files that cannot be written


@pytest.mark.parametrize("fault", ["fsync", "replace"])
def test_a_full_disk_ends_no_run(fault, tmp_path, monkeypatch):
    def full(*arguments):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(checkpoint.Checkpoint, "due", property(lambda self: True))
    monkeypatch.setattr(os, fault, full)
    for name in ("plain", "bursts", "armijo", "accelerated", "batches"):
        expected = gradient_descent(**RUNS[name], step_num=STEPS)
        with pytest.warns(RuntimeWarning, match=r"run\.npz cannot be written: No space left on device") as found:
            assert_same(gradient_descent(**RUNS[name], step_num=STEPS, checkpoint=tmp_path / "run.npz"), expected)
        assert len(found) == 1 and not os.listdir(tmp_path)


def test_a_full_disk_hides_no_divergence(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoint, "write_whole", lambda path, data: Path("/no directory/file").write_bytes(data))
    with pytest.warns(RuntimeWarning, match="the run goes on"), pytest.raises(DivergenceError):
        gradient_descent(rosen, [-1.2, 1.0], lr=1.0, step_num=50, checkpoint=tmp_path / "run.npz")


def test_a_directory_that_vanishes_and_comes_back(tmp_path, monkeypatch):
    write_each_state(monkeypatch)
    folder = tmp_path / "folder"
    path = folder / "run.npz"
    folder.mkdir()

    def vanish(result):
        if result.nit == 10:
            path.unlink()
            folder.rmdir()
        if result.nit == back:
            folder.mkdir()

    for back in (30, None):
        with pytest.warns(RuntimeWarning, match=r"run\.npz cannot be written: there is no directory") as found:
            short = gradient_descent(**VALLEY, step_num=40, callback=vanish, checkpoint=path)
        assert len(found) == 1
        assert_same(short, gradient_descent(**VALLEY, step_num=40, callback=lambda result: None))
        if back:
            assert os.listdir(folder) == ["run.npz"]
            options = VALLEY | {"callback": lambda result: None, "step_num": STEPS}
            assert_same(gradient_descent(**options, checkpoint=path, resume=True), gradient_descent(**options))
    assert not folder.exists()


def test_the_way_on_is_kept_where_only_the_last_write_went_through(tmp_path, monkeypatch):
    path, save = tmp_path / "run.npz", checkpoint.Checkpoint.save

    def full(path, data):
        raise OSError(errno.ENOSPC, "No space left on device")

    def lost(self, state):
        with monkeypatch.context() as patch:
            patch.setattr(checkpoint, "write_whole", full)
            save(self, state)

    with monkeypatch.context() as patch, pytest.warns(RuntimeWarning, match="the run goes on"):
        patch.setattr(checkpoint.Checkpoint, "save", lost)
        gradient_descent(**RUNS["adam"], step_num=40, checkpoint=path)
    expected = gradient_descent(**RUNS["adam"], step_num=STEPS)
    assert_same(gradient_descent(**RUNS["adam"], step_num=STEPS, checkpoint=path, resume=True), expected)


@pytest.mark.skipif(os.name != "posix", reason="needs limits of resources")
def test_files_that_may_not_grow_end_no_run(tmp_path):
    program = """
import resource, sys, warnings
from fastgd import gradient_descent
from fastgd.files import checkpoint
checkpoint.Checkpoint.due = property(lambda self: True)
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
with warnings.catch_warnings(record=True) as found:
    warnings.simplefilter("always")
    result = gradient_descent(lambda x: x @ x, [1.0] * 50, 0.01, 100, history=True, checkpoint=sys.argv[1])
print(result.nit, len(result.history.x), [str(warning.message).rpartition("run.npz ")[2] for warning in found])
"""
    command = [sys.executable, "-c", program, tmp_path / "run.npz"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    message = "cannot be written: File too large; the run goes on, and tries again about every 0.5 s"
    assert (done.stdout, done.stderr) == (f"100 101 {[message]}\n", "")
    assert 0 < checkpoint.read(tmp_path / "run.npz")[1]["step"] < 100  # the last that was small enough
    assert os.listdir(tmp_path) == ["run.npz"]


# ------------------------------------------------------------------------------------------ several runs with one file

ONE_OF_SEVERAL = """
import sys
from fastgd import gradient_descent
from fastgd.files import checkpoint
checkpoint.Checkpoint.due = property(lambda self: True)
result = gradient_descent(lambda x: x @ x, [1.0] * 50, 0.01, 150, history=True, checkpoint=sys.argv[1])
print(result.x.tobytes().hex())
"""


def test_several_runs_with_one_file_do_each_other_no_harm(tmp_path):
    path = tmp_path / "run.npz"
    expected = gradient_descent(lambda x: x @ x, [1.0] * 50, 0.01, 150, history=True).x.tobytes().hex() + "\n"
    command = [sys.executable, "-W", "error", "-c", ONE_OF_SEVERAL, path]
    runs = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(4)]
    while any(run.poll() is None for run in runs):
        if path.exists():
            _, state = checkpoint.read(path)
            assert len(state["loop"]["z"]) == 50
    assert [run.communicate() for run in runs] == [(expected, "")] * 4
    assert os.listdir(tmp_path) == ["run.npz"]
    assert checkpoint.read(path)[1]["result"]["x"].tobytes().hex() == expected.strip()


# -------------------------------------------------------------------------------------------------------------- damage


def damaged(data, rng):
    """The bytes of a file, damaged in one of several ways; never the same bytes."""
    at, length = int(rng.integers(len(data))), int(rng.integers(1, 400))
    kind = rng.integers(5)
    if kind == 0:
        return data[:at]
    if kind == 1:
        return data[:at] + bytes([data[at] ^ 1 << rng.integers(8)]) + data[at + 1 :]
    if kind == 2:
        return data[:at] + rng.bytes(length) + data[at:]
    if kind == 3:
        return data[:at] + data[at + length :]
    return data[at:] + data[:at] if at else b""


def states(options, path, writes):
    """The files of a run that was killed after two writes, and of one that came to its end."""
    writes[0] = 2
    try:
        gradient_descent(**options, step_num=STEPS, checkpoint=path)
    except Killed:
        yield path.read_bytes()
    writes[0] = np.inf
    gradient_descent(**options, step_num=STEPS, checkpoint=path)
    yield path.read_bytes()


@pytest.mark.parametrize("name", RUNS)
def test_no_damage_goes_unnoticed_and_all_is_one_error(name, writes, tmp_path):
    path, rng = tmp_path / "run.npz", np.random.default_rng(11)
    for whole in list(states(RUNS[name], path, writes)):
        for _ in range(15):
            path.write_bytes(damaged(whole, rng))
            with pytest.raises(ValueError, match=r"run\.npz' is no checkpoint of fastgd, or is damaged"):
                gradient_descent(**RUNS[name], step_num=STEPS, checkpoint=path, resume=True)


@pytest.mark.parametrize("name", RUNS)
def test_a_state_of_another_structure_is_refused_or_gives_the_same_bits(name, writes, tmp_path):
    """As in a file of another version of fastgd whose format number should have been another."""
    path, expected = tmp_path / "run.npz", gradient_descent(**RUNS[name], step_num=STEPS)
    path.write_bytes(next(states(RUNS[name], path, writes)))
    identity, state = checkpoint.read(path)
    writes[0] = np.inf
    changed = [without(state, missing) for missing in state]
    changed += [state | {part: without(state[part], missing)} for part in ("run", "loop") for missing in state[part]]
    changed += [state | wrong for wrong in ({"run": 7}, {"loop": []}, {"step": "x"}, {"steps": None}, {"result": {}})]
    refused = 0
    for other in changed:
        path.write_bytes(checkpoint.encode(identity, other))
        try:
            found = gradient_descent(**RUNS[name], step_num=STEPS, checkpoint=path, resume=True)
        except ValueError as error:
            assert re.search(r"checkpoint '.*run\.npz' is damaged: ", str(error))
            refused += 1
        else:  # this kind of run has no use for what is missing
            assert_same(found, expected)
    assert refused > len(changed) / 2


def without(tree, missing):
    return {name: branch for name, branch in tree.items() if name != missing}


# ------------------------------------------------------------------------------------------------------- sudden ends

# A run that ends itself without ceremony, a moment after it has been at the head of its loop `looks` times; with
# looks = 0 it lives. The moment is one of its own time (SIGPROF, which by default ends a process as kill -9 does), so
# that it does not come too late where the machine has other things to do.
PROGRAM = """
import signal, sys
import numpy as np
from fastgd import LinearObjective, gradient_descent
from fastgd.engine import steps
from fastgd.files import checkpoint

kind, path, looks, moment = sys.argv[1], sys.argv[2], int(sys.argv[3]), float(sys.argv[4])
every = {"function": 100, "batches": 1000}[kind]
looked = 0

def due(self):
    global looked
    looked += 1
    if looked == looks:
        signal.setitimer(signal.ITIMER_PROF, moment)
    return looked % every == 1

checkpoint.Checkpoint.due = property(due)
steps.FIRST_STEPS, steps._next_length = 1, lambda length, elapsed: 1
rng = np.random.default_rng(0)
X = rng.standard_normal((400, 3))
y = (X @ [1.0, -2.0, 0.5] > rng.standard_normal(400)).astype(float)
o = LinearObjective(X, y, activation="sigmoid", loss="log")

def f(x):
    return float((x[0] - 1) ** 2 + 100 * (x[1] - x[0] ** 2) ** 2)

options = {
    "function": dict(f=f, init_x=[-1.2, 1.0], lr=1e-3, optimizer="adam", history=True, step_num=STEPS),
    "batches": dict(f=o, lr=0.05, batch_size=4, optimizer="momentum", history=50, step_num=STEPS),
}[kind]
result = gradient_descent(**options, checkpoint=path, resume=True)
print(result.x.tobytes().hex(), result.nit, result.nfev, result.njev, result.history.x.tobytes().hex()[-64:])
"""
STEPS_FOR_A_KILL = {"function": 3_000, "batches": 10_000}


def kill_trial(kind, folder, kills, rng):
    """Kill a run so many times at random moments, and let it end.

    Returns the steps in the file after each kill, and whether the end is that of a run that was left alone.
    """
    long = STEPS_FOR_A_KILL[kind] * kills
    program = PROGRAM.replace("STEPS", str(long))
    command = [sys.executable, "-W", "error", "-c", program, kind]
    whole = subprocess.run([*command, folder / "whole.npz", "0", "0"], capture_output=True, check=True).stdout
    path, steps = folder / "run.npz", [0]
    for _ in range(kills):
        looks = str(rng.integers(1, STEPS_FOR_A_KILL[kind] // 2))  # a moment takes far less than the other half
        killed = subprocess.run([*command, path, looks, str(rng.uniform(1e-6, 2e-3))], capture_output=True)
        assert killed.returncode == -signal.SIGPROF, killed.stderr
        steps.append(checkpoint.read(path)[1]["step"] if path.exists() else 0)
        assert long > steps[-1] >= steps[-2]
    return steps[1:], subprocess.run([*command, path, "0", "0"], capture_output=True, check=True).stdout == whole


@pytest.mark.skipif(not hasattr(signal, "SIGPROF"), reason="needs the signals of POSIX")
@pytest.mark.parametrize("kind", STEPS_FOR_A_KILL)
def test_an_end_at_random_moments(kind, tmp_path):
    steps, same = kill_trial(kind, tmp_path, 4, np.random.default_rng(1))
    assert len(set(steps)) > 1 and same


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.skipif(not hasattr(signal, "SIGPROF"), reason="needs the signals of POSIX")
@pytest.mark.parametrize("kind", STEPS_FOR_A_KILL)
def test_thirty_ends_at_random_moments(kind, tmp_path):
    steps, same = kill_trial(kind, tmp_path, 30, np.random.default_rng(2))
    assert len(set(steps)) > 10 and same


# -------------------------------------------------------------------------------------- more is asked of a finished run


@pytest.mark.one_build
@pytest.mark.parametrize("each_step", [False, True])
@pytest.mark.parametrize("options", [{"lr": 2e-3}, {"lr": "auto"}, {"lr": "adgd"}, {"lr": 0.01, "optimizer": "adam"}])
@pytest.mark.parametrize(("rule", "loose", "tight"), [
    ("tol", 3.0, 1e-1), ("f_tol", 1e-2, 1e-6), ("x_tol", 1e-2, 1e-6), ("target", 5.0, 1.0), ("max_seconds", 0.0, 60.0),
])  # fmt: skip
def test_a_finished_run_goes_on_by_every_rule(tmp_path, monkeypatch, rule, loose, tight, options, each_step):
    if each_step:  # so that the state that is kept is that of the last steps, with what they counted
        monkeypatch.setattr(checkpoint.Checkpoint, "due", property(lambda self: True))
    path = tmp_path / "run"
    given = {"f": rosenbrock_of_three, "init_x": [-1.2, 1.0, 0.5], "step_num": 120, **options}
    first = gradient_descent(**given, **{rule: loose}, checkpoint=path)
    further = gradient_descent(**given, **{rule: tight}, checkpoint=path, resume=True)
    whole = gradient_descent(**given, **{rule: tight})
    assert further.nit == whole.nit > first.nit and further.status == whole.status
    np.testing.assert_array_equal(further.x, whole.x)
    again = gradient_descent(**given, **{rule: tight}, checkpoint=path, resume=True)
    assert again.nit == whole.nit and again.status == whole.status


def rosenbrock_of_three(x):
    return float(np.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2))


@pytest.mark.one_build
@pytest.mark.parametrize("rule", [{}, {"tol": 1e-12}, {"f_tol": 1e-15}, {"x_tol": 1e-15}, {"target": -1.0}])
@pytest.mark.parametrize("options", [{"lr": 1e-3}, {"lr": "auto"}, {"lr": 0.01, "optimizer": "adam"}])
def test_a_finished_run_goes_on_with_more_steps_whatever_else_it_waits_for(tmp_path, options, rule):
    path, given = tmp_path / "run", {"f": rosenbrock_of_three, "init_x": [-1.2, 1.0, 0.5], **options, **rule}
    assert gradient_descent(**given, step_num=9, checkpoint=path).nit == 9
    further = gradient_descent(**given, step_num=21, checkpoint=path, resume=True)
    np.testing.assert_array_equal(further.x, gradient_descent(**given, step_num=21).x)
    assert further.nit == 21
