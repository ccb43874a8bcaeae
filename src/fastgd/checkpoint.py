"""The state of a run on disk: written whole or not at all, and read only by the run that it belongs to.

A checkpoint is an .npz archive without pickle. Its entry `header` is a text in JSON with the format number, the
identity of the run and its state, a tree of dicts, lists, numbers, strings and arrays; the arrays are entries of their
own, `array0`, `array1`, …, which the text refers to. Numbers come back to the last bit.

The file is written beside its place, flushed to the disk and then moved there in one piece (`os.replace`), so that at
any moment the place holds the last whole checkpoint or the one before, whatever happens to the process. The archive
has a checksum of every entry, which is what tells a file that something else has damaged.
"""

import hashlib
import json
import os
import time

import numpy as np

from fastgd import validation
from fastgd.engine.result import History, Result, Status
from fastgd.errors import DivergenceError

FORMAT = 1
# After these ends there may be a way on.
GOES_ON = (Status.STEP_LIMIT, Status.STOPPED_BY_CALLBACK, Status.TIME_LIMIT)
# A state is written at least every second: as soon as the last one is older than this, which leaves time for a step.
INTERVAL = 0.5
# What an array is in the text.
REFERENCE = "__array__"
# Of large arrays only so many bytes are looked at to tell one from another.
DIGEST_BYTES = 1 << 20


class Checkpoint:
    """The file of one run.

    Parameters
    ----------
    path : str or os.PathLike
        Its name, as it is: no suffix is added.
    identity : dict
        What makes the run what it is, name → number, string or None. A file with another identity is refused, with the
        names that differ.
    interval : float
        Seconds between writes.

    Raises
    ------
    TypeError, ValueError
        path is no path, or its directory is not there.
    """

    def __init__(self, path, identity, interval=INTERVAL):
        try:
            self.path = os.fspath(path)
        except TypeError:
            raise TypeError(f"checkpoint must be a path; got {validation.describe(path)}") from None
        folder = os.path.dirname(self.path) or "."
        if not os.path.isdir(folder) or os.path.isdir(self.path):
            what = f"there is no directory {folder!r}" if not os.path.isdir(folder) else "that is a directory"
            raise ValueError(f"checkpoint must name a file that can be written; got {self.path!r}: {what}")
        self.identity = _plain(identity)
        self._interval = interval
        self._written = -np.inf

    def load(self):
        """The state in the file; None where there is no file.

        Raises
        ------
        ValueError
            The file is no checkpoint, is damaged, of a newer format, or belongs to another run.
        """
        if not os.path.exists(self.path):
            return None
        identity, state = read(self.path)
        names = [name for name in {**self.identity, **identity} if identity.get(name) != self.identity.get(name)]
        if names:
            differences = "; ".join(
                f"{name} is {_short(identity.get(name))} there and {_short(self.identity.get(name))} here"
                for name in names
            )
            raise ValueError(f"checkpoint {self.path!r} belongs to another run: {differences}")
        return state

    @property
    def due(self):
        """Whether it is time to write."""
        return time.monotonic() - self._written >= self._interval

    def save(self, state):
        """Replace the file by this state."""
        write(self.path, self.identity, state)
        self._written = time.monotonic()

    def finish(self, result, error=None):
        """Put the end of the run into the file; how to go on stays there, where more steps or time would."""
        kept = self.load() if result.status in GOES_ON else {}
        ended = {**result, "status": int(result.status), "history": None}
        history = None if result.history is None else dict(result.history)
        if error is not None:
            error = {"message": str(error), "step": error.step, "lr": error.lr, "stable_lr": error.stable_lr}
        self.save({**kept, "result": ended, "history": history, "error": error})


def ended(state, step_num):
    """The Result in the state of a run that has come to its end; None where it goes on. What it raised is raised again.

    A run that its callback or the clock stopped goes on, and so does one that now has more steps than it took.
    """
    if "result" not in state:
        return None
    status = Status(state["result"]["status"])
    if status in GOES_ON and "loop" in state and (status != Status.STEP_LIMIT or state["step"] < step_num):
        return None
    history = None if state["history"] is None else History(state["history"])
    result = Result({**state["result"], "status": status, "history": history})
    if state["error"] is not None:
        raise DivergenceError(state["error"].pop("message"), **state["error"], result=result)
    return result


def write(path, identity, state):
    """Write a checkpoint so that `path` holds it, or what was there before, and nothing in between."""
    arrays = []
    text = json.dumps({"format": FORMAT, "identity": _plain(identity), "state": _plain(state, arrays)})
    entries = {f"array{number}": array for number, array in enumerate(arrays)}
    beside = f"{os.fspath(path)}.partial"  # always the same name: what a killed process leaves is written over
    with open(beside, "wb") as file:
        np.savez(file, header=np.frombuffer(text.encode(), np.uint8), **entries)
        file.flush()
        os.fsync(file.fileno())
    os.replace(beside, path)
    if os.name == "posix":  # the new name is in the directory, which has to reach the disk too
        folder = os.open(os.path.dirname(os.path.abspath(path)), os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def read(path):
    """Identity and state of a checkpoint.

    Raises
    ------
    ValueError
        The file is no checkpoint, is damaged, or of a newer format.
    """
    try:
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as archive:
            entries = {name: archive[name] for name in archive}
            header = json.loads(entries["header"].tobytes()) if "header" in entries else None
    except FileNotFoundError:
        raise
    except Exception as error:  # a damaged archive raises whatever its damage leads to
        raise ValueError(f"{path!r} is no checkpoint of fastgd, or is damaged: {error}") from error
    if not isinstance(header, dict) or not {"format", "identity", "state"} <= header.keys():
        raise ValueError(f"{path!r} is no checkpoint of fastgd")
    if header["format"] != FORMAT:
        raise ValueError(f"{path!r} is a checkpoint of format {header['format']}; this fastgd reads format {FORMAT}")
    try:
        return header["identity"], _with_arrays(header["state"], entries)
    except KeyError as error:
        raise ValueError(f"the checkpoint {path!r} is damaged: its entry {error} is missing") from None


def digest(*arrays):
    """A short text that tells arrays apart by shape, dtype and bytes; of large ones, by rows at even distances."""
    found = hashlib.sha256()
    for array in arrays:
        found.update(f"{array.shape} {array.dtype.str}".encode())
        stride = max(1, -(-array.nbytes // DIGEST_BYTES))
        found.update(np.ascontiguousarray(array[::stride] if array.ndim else array).tobytes())
    return found.hexdigest()[:16]


def _plain(tree, arrays=None):
    """A tree as JSON has it; its arrays go into the list and leave their numbers behind."""
    if isinstance(tree, dict):
        return {str(name): _plain(branch, arrays) for name, branch in tree.items()}
    if isinstance(tree, (list, tuple)):
        return [_plain(branch, arrays) for branch in tree]
    if isinstance(tree, np.generic):
        return tree.item()
    if isinstance(tree, np.ndarray):
        arrays.append(tree)
        return {REFERENCE: len(arrays) - 1}
    return tree


def _with_arrays(tree, entries):
    if isinstance(tree, dict):
        if tree.keys() == {REFERENCE}:
            return entries[f"array{tree[REFERENCE]}"]
        return {name: _with_arrays(branch, entries) for name, branch in tree.items()}
    return [_with_arrays(branch, entries) for branch in tree] if isinstance(tree, list) else tree


def _short(value):
    return "absent" if value is None else repr(value)
