"""The file of a run: what goes in comes out to the bit, and nothing half-written or foreign is taken."""

import errno
import hashlib
import io
import json
import os
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from fastgd import DivergenceError, Result, Status
from fastgd.files import checkpoint
from fastgd.files.checkpoint import Checkpoint

pytestmark = pytest.mark.one_build

IDENTITY = {"shape": [2], "lr": 0.1, "optimizer": "gd", "seed": None}


# ------------------------------------------------------------------------------------------------------------ the file


def test_a_state_comes_back_to_the_last_bit(tmp_path):
    state = {
        "step": 3,
        "rate": 0.1 + 0.2,
        "edges": [float("inf"), -0.0, 5e-324, 2**70],
        "nothing": None,
        "name": "σ",
        "nested": {"z": np.array([np.nan, -0.0, 1 / 3]), "rows": [np.ones((2, 3), np.float32), True]},
        "empty": np.empty((0, 4)),
        "scalar": np.float32(0.1),
        "zero-dimensional": np.array(7.5),
    }
    file = Checkpoint(tmp_path / "run.npz", IDENTITY)
    file.save(state)
    found = file.load()
    assert found.keys() == state.keys()
    for name in ("step", "rate", "edges", "nothing", "name"):
        assert repr(found[name]) == repr(state[name])
    assert found["scalar"] == float(np.float32(0.1))
    pairs = [
        (found["nested"]["z"], state["nested"]["z"]),
        (found["nested"]["rows"][0], state["nested"]["rows"][0]),
        (found["empty"], state["empty"]),
        (found["zero-dimensional"], state["zero-dimensional"]),
    ]
    for got, expected in pairs:
        assert (got.dtype, got.shape, got.tobytes()) == (expected.dtype, expected.shape, expected.tobytes())


def test_the_name_is_the_users_and_nothing_else_is_left(tmp_path):
    file = Checkpoint(str(tmp_path / "run"), IDENTITY)
    assert file.load() is None
    for step in range(3):
        file.save({"step": step})
    assert file.load() == {"step": 2}
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def full(*arguments):
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("fault", ["fsync", "replace"])
def test_a_write_that_fails_warns_once_and_leaves_the_file_as_it_was(tmp_path, monkeypatch, fault):
    file = Checkpoint(tmp_path / "run.npz", IDENTITY)
    file.save({"step": 1})
    with monkeypatch.context() as patch:
        patch.setattr(os, fault, full)
        message = r"checkpoint .*run\.npz cannot be written: No space left on device; the run goes on, and tries again"
        with pytest.warns(RuntimeWarning, match=message) as warned:
            file.save({"step": 2})
            file.save({"step": 3})
        assert len(warned) == 1 and not file.due
    assert file.load() == {"step": 1}
    file.save({"step": 4})
    assert file.load() == {"step": 4}
    assert os.listdir(tmp_path) == ["run.npz"]


def test_the_end_of_a_run_keeps_its_own_way_on_whatever_became_of_the_file(tmp_path):
    """Another run has the same file, or something has damaged it."""
    file, end = Checkpoint(tmp_path / "run.npz", IDENTITY), Result(x=np.ones(2), status=Status.STEP_LIMIT, history=None)
    file.save({"step": 3, "loop": {"z": np.full(2, 3.0)}})
    Checkpoint(tmp_path / "run.npz", {"job": 1}).save({"step": 9, "loop": {"z": np.full(2, 9.0)}})
    file.finish(end)
    state = file.load()
    assert (state["step"], state["loop"]["z"].tolist(), state["result"]["x"].tolist()) == (3, [3.0, 3.0], [1.0, 1.0])
    (tmp_path / "run.npz").write_bytes(b"damage")
    file.finish(end)
    assert file.load()["step"] == 3


def signed(path, header, **arrays):
    """An archive with the checksum of a checkpoint, whatever is in it."""
    buffer = io.BytesIO()
    np.savez(buffer, header=np.frombuffer(json.dumps(header).encode(), np.uint8), **arrays)
    archive = buffer.getvalue()[:-2] + (64).to_bytes(2, "little")
    path.write_bytes(archive + hashlib.sha256(archive).hexdigest().encode())


def test_no_pickle_is_ever_read(tmp_path):
    header = {"format": checkpoint.FORMAT, "identity": IDENTITY, "state": {"z": {"__array__": 0}}}
    signed(tmp_path / "run.npz", header, array0=np.array([{"a": 1}], dtype=object))
    with pytest.raises(ValueError, match="Object arrays cannot be loaded"):
        Checkpoint(tmp_path / "run.npz", IDENTITY).load()


@pytest.mark.parametrize("cut", [False, True])
def test_damage_never_goes_unnoticed(tmp_path, cut):
    path = tmp_path / "run.npz"
    file = Checkpoint(path, IDENTITY)
    state = {"step": 3, "z": np.arange(5.0)}
    file.save(state)
    whole = path.read_bytes()
    for at in range(len(whole)):
        damaged = whole[:at] if cut else whole[:at] + bytes([whole[at] ^ 0x24]) + whole[at + 1 :]
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=r"run\.npz' is no checkpoint of fastgd, or is damaged: its checksum is"):
            file.load()


FOREIGN = {
    "text": lambda path: path.write_text("step,loss\n0,1\n"),
    "empty": lambda path: path.write_bytes(b""),
    "another archive": lambda path: np.savez(path, w=np.ones(3)),
    "an array": lambda path: path.write_bytes(np.lib.format.magic(1, 0)),
    "another header": lambda path: np.savez(path, header=np.frombuffer(b"[1, 2]", np.uint8)),
    "a header of floats": lambda path: np.savez(path, header=np.ones(3)),
}


@pytest.mark.parametrize("kind", FOREIGN)
def test_a_file_of_something_else_is_refused(tmp_path, kind):
    path = tmp_path / "run.npz"
    FOREIGN[kind](path)
    with pytest.raises(ValueError, match=r"run\.npz' is .*(no checkpoint|damaged)"):
        Checkpoint(path, IDENTITY).load()


def test_another_format_is_named(tmp_path):
    path = tmp_path / "run.npz"
    for number in (99, 1, None, "2", [2]):
        signed(path, {"format": number, "identity": IDENTITY, "state": {}})
        with pytest.raises(ValueError, match=rf"run\.npz' is a checkpoint of format {re.escape(str(number))}; this"):
            Checkpoint(path, IDENTITY).load()


@pytest.mark.parametrize(
    "change", [
        {"identity": None}, {"identity": [1]}, {"state": None}, {"state": 7}, {"state": {"__array__": 0}},
        {"state": {"z": {"__array__": 1}}}, {"state": {"z": [{"__array__": "0"}, {"__array__": [0]}]}},
    ],
)  # fmt: skip
def test_a_header_of_another_structure_is_damage(tmp_path, change):
    path = tmp_path / "run.npz"
    signed(path, {"format": checkpoint.FORMAT, "identity": {}, "state": {}} | change, array0=np.ones(2))
    with pytest.raises(ValueError, match=r"run\.npz' is (no checkpoint|damaged)"):
        Checkpoint(path, {}).load()


def test_what_is_missing_in_a_state_is_damage(tmp_path):
    file = Checkpoint(tmp_path / "run.npz", IDENTITY)
    file.save({"run": {"spent": [1, 2]}})
    state = file.load()
    with pytest.raises(ValueError, match=r"run\.npz' is damaged: 'loop' is missing"):
        state["loop"]
    with pytest.raises(ValueError, match=r"run\.npz' is damaged: 'step' is missing"):
        state["run"]["step"]


@pytest.mark.parametrize(
    "use", [
        lambda state: state["run"]["absent"], lambda state: state["run"]["spent"][2], lambda state: float(state["run"]),
        lambda state: int(state["name"]), lambda state: state["name"].gradient, lambda state: int(state["huge"]),
    ],
)  # fmt: skip
def test_what_does_not_fit_a_run_is_damage(tmp_path, use):
    file = Checkpoint(tmp_path / "run.npz", IDENTITY)
    file.save({"run": {"spent": [1, 2]}, "name": "x", "huge": float("inf")})
    state = file.load()
    with pytest.raises(ValueError, match=r"^checkpoint '.*run\.npz' is damaged: "), file.restoring():
        use(state)
    with pytest.raises(DivergenceError), file.restoring():  # what the run itself ended with
        raise DivergenceError("diverged", step=1, lr=1.0)


def test_a_file_of_another_run_is_refused_with_what_differs(tmp_path):
    path = tmp_path / "run.npz"
    Checkpoint(path, IDENTITY).save({"step": 1})
    other = {**IDENTITY, "lr": 0.2, "batch_size": 8}
    with pytest.raises(ValueError, match=r"lr is 0\.1 there and 0\.2 here; batch_size is absent there and 8 here"):
        Checkpoint(path, other).load()
    assert Checkpoint(path, {**IDENTITY, "shape": (2,)}).load() == {"step": 1}  # a tuple is a list in the file


@pytest.mark.parametrize(
    ("path", "error", "message"),
    [
        (7, TypeError, r"checkpoint must be a path; got 7 \(int\)"),
        ("nowhere/run.npz", ValueError, "checkpoint must be a file that can be written: .*there is no directory"),
        (".", ValueError, "checkpoint must be a file that can be written: . is a directory"),
    ],
)
def test_bad_paths(path, error, message):
    with pytest.raises(error, match=message):
        Checkpoint(path, IDENTITY)


def test_it_is_due_at_first_and_again_after_the_interval(tmp_path, monkeypatch):
    clock = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    file = Checkpoint(tmp_path / "run.npz", IDENTITY)
    assert file.due
    file.save({})
    assert not file.due
    clock[0] += 1.0
    assert file.due


def test_the_digest_tells_arrays_apart():
    X = np.arange(12.0).reshape(4, 3)
    same = checkpoint.digest(np.asfortranarray(X))
    assert checkpoint.digest(X) == same
    others = [X.astype(np.float32), X.reshape(3, 4), np.where(X == 7, 8, X), X[:3], np.array(1.0), np.empty((0, 3))]
    assert len({same, *(checkpoint.digest(other) for other in others)}) == 1 + len(others)


# --------------------------------------------------------------------------------------------------------- kill -9

WRITER = """
import sys, numpy as np
from fastgd.files.checkpoint import Checkpoint
file = Checkpoint(sys.argv[1], {"job": 1}, interval=0)
step = 0
while True:
    step += 1
    file.save({"step": step, "z": np.full(20000, float(step))})
    if step == 3:
        print("begun", flush=True)
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs kill -9")
def test_kill_9_while_writing_leaves_a_whole_file(tmp_path):
    path, rng = tmp_path / "run.npz", np.random.default_rng(5)
    for _ in range(6):
        with subprocess.Popen([sys.executable, "-c", WRITER, path], stdout=subprocess.PIPE) as process:
            assert process.stdout.readline() == b"begun\n"
            least = 3 + rng.integers(1, 20)
            while (step := Checkpoint(path, {"job": 1}).load()["step"]) < least and process.poll() is None:
                pass  # each look is at a moment of its own between two writes, or within one
            process.send_signal(signal.SIGKILL)
        state = Checkpoint(path, {"job": 1}).load()
        assert np.all(state["z"] == state["step"]) and state["step"] >= step >= least
