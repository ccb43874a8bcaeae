"""The file of a run: what goes in comes out to the bit, and nothing half-written or foreign is taken."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from fastgd import checkpoint
from fastgd.checkpoint import Checkpoint

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


def test_what_a_killed_write_left_is_no_checkpoint_and_no_trouble(tmp_path):
    file = Checkpoint(tmp_path / "run.npz", IDENTITY)
    (tmp_path / "run.npz.partial").write_bytes(b"PK\x03\x04 half an archive")
    assert file.load() is None
    file.save({"step": 1})
    assert file.load() == {"step": 1}


def test_a_write_that_fails_leaves_the_file_as_it_was(tmp_path, monkeypatch):
    file = Checkpoint(tmp_path / "run.npz", IDENTITY)
    file.save({"step": 1})

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        file.save({"step": 2})
    assert file.load() == {"step": 1}


def test_no_pickle_is_ever_read(tmp_path):
    path = tmp_path / "run.npz"
    text = json.dumps({"format": 1, "identity": IDENTITY, "state": {"z": {"__array__": 0}}}).encode()
    np.savez(path, header=np.frombuffer(text, np.uint8), array0=np.array([{"a": 1}], dtype=object))
    with pytest.raises(ValueError, match="Object arrays cannot be loaded"):
        Checkpoint(path, IDENTITY).load()


@pytest.mark.parametrize("cut", [False, True])
def test_damage_never_goes_unnoticed(tmp_path, cut):
    path = tmp_path / "run.npz"
    file = Checkpoint(path, IDENTITY)
    state = {"step": 3, "z": np.arange(5.0)}
    file.save(state)
    whole = path.read_bytes()
    refused = 0
    for at in range(0, len(whole), 3):
        damaged = whole[:at] if cut else whole[:at] + bytes([whole[at] ^ 0x24]) + whole[at + 1 :]
        path.write_bytes(damaged)
        try:
            found = file.load()  # a date in the directory of the archive means nothing to anyone
        except ValueError as error:
            refused += 1
            assert "run.npz" in str(error)
        else:
            assert not cut and found["step"] == 3 and found["z"].tolist() == state["z"].tolist()
    assert refused > 0.5 * len(whole) / 3


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


def test_a_newer_format_is_named(tmp_path):
    path = tmp_path / "run.npz"
    text = json.dumps({"format": 99, "identity": IDENTITY, "state": {}}).encode()
    np.savez(path, header=np.frombuffer(text, np.uint8))
    with pytest.raises(ValueError, match="format 99"):
        Checkpoint(path, IDENTITY).load()


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
        ("nowhere/run.npz", ValueError, "there is no directory 'nowhere'"),
        (".", ValueError, "that is a directory"),
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
from fastgd.checkpoint import Checkpoint
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
