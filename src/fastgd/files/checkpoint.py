"""The state of a run on disk: written whole or not at all, and read only by the run that it belongs to.

A checkpoint is an .npz archive without pickle. Its entry `header` is a text in JSON with the format number, the
identity of the run and its state, a tree of dicts, lists, numbers, strings and arrays; the arrays are entries of their
own, `array0`, `array1`, …, which the text refers to. Numbers come back to the last bit. The comment of the archive, its
last bytes, is a checksum of all the bytes before, so that damage is found before any content is looked at.

A checkpoint is there to save a run, so it must not end one: where it cannot be written, the run goes on with a warning.
"""

import contextlib
import hashlib
import io
import json
import operator
import os
import re
import time
import warnings
from pathlib import Path

import numpy as np

from fastgd import validation
from fastgd.engine.result import History, Result, Status
from fastgd.errors import DivergenceError
from fastgd.files.whole import check_writable, remove_abandoned, write_whole

# To be raised with every change of what a run keeps, and of how it is kept.
FORMAT = 2
# Bytes of a checksum in hexadecimal digits.
CHECKSUM = 64
# After these ends there may be a way on.
GOES_ON = (Status.STEP_LIMIT, Status.STOPPED_BY_CALLBACK, Status.TIME_LIMIT)
# And after these where a tighter tolerance is asked for.
MET = (
    Status.CONVERGED, Status.TARGET_REACHED, Status.VALUE_SETTLED, Status.POINT_SETTLED, Status.NO_PROGRESS,
)  # fmt: skip
# What an array is in the text.
REFERENCE = "__array__"


class DamagedError(ValueError):
    """A file that is no checkpoint, or not what a checkpoint should be; the message names it."""


class Checkpoint:
    """The file of one run.

    Several runs may have the same file: it then holds what the last of them wrote, whole.

    Parameters
    ----------
    path : str or os.PathLike
        Its name, as it is: no suffix is added.
    identity : dict
        What makes the run what it is, name → number, string or None. A file with another identity is refused, with the
        names that differ.
    asked : dict, optional
        The tolerances that end the run, name → number or None: the smaller, the more is asked.
    interval : float
        Seconds between writes: half of the second that is promised, which leaves time for a step.

    Raises
    ------
    TypeError, ValueError
        path is no path, or no file can be written there.
    """

    def __init__(self, path, identity, asked=None, interval=0.5):
        try:
            self.path = os.fsdecode(path)
        except TypeError:
            raise TypeError(f"checkpoint must be a path; got {validation.describe(path)}") from None
        try:
            check_writable(self.path)
        except OSError as error:
            raise ValueError(f"checkpoint must be a file that can be written: {error}") from error
        remove_abandoned(self.path)
        self.identity, self.asked = _plain(identity), asked or {}
        self._interval = interval
        self._written = -np.inf
        self._latest = None  # the bytes of the last state, which may not be those in the file
        self._warned = False

    def load(self):
        """The state in the file; None where there is no file.

        Raises
        ------
        ValueError
            The file is no checkpoint, is damaged, of another format, or belongs to another run.
        """
        try:
            data = _bytes(self.path)
        except FileNotFoundError:
            return None
        identity, state = decode(data, self.path)
        names = [name for name in {**self.identity, **identity} if identity.get(name) != self.identity.get(name)]
        if names:
            differences = "; ".join(_difference(name, identity.get(name), self.identity.get(name)) for name in names)
            raise ValueError(f"checkpoint {self.path!r} belongs to another run: {differences}")
        self._latest = data
        return state

    def resumed(self, limit, limit_name, unit):
        """(state to go on from, Result of a run that has come to its end), each None where there is none.

        Parameters
        ----------
        limit : int
            Steps at most.
        limit_name, unit : str
            What the face calls that, and a step.

        Raises
        ------
        DivergenceError
            The run has ended with it.
        ValueError
            As `load`; or there are more steps in the file.
        """
        saved = self.load()
        if saved is None:
            return None, None
        with self.restoring():
            if result := ended(saved, limit, self.asked):
                return None, result
            if "loop" not in saved:  # its time was up before the first step
                return None, None
            taken = operator.index(saved["step"])
        if taken > limit:
            raise ValueError(f"{limit_name} = {limit}, but {taken} {unit}s are in {self.path!r} already")
        return saved, None

    @contextlib.contextmanager
    def restoring(self):
        """Where a run restores itself from a loaded state: what does not fit there is damage of the file."""
        try:
            yield
        except (DamagedError, DivergenceError):
            raise
        except Exception as error:  # a forged state leads to whatever error it leads to
            raise DamagedError(f"checkpoint {self.path!r} is damaged: {error}") from error

    @property
    def due(self):
        """Whether it is time to write."""
        return time.monotonic() - self._written >= self._interval

    def save(self, state):
        """Replace the file by this state. The first time that it cannot be written, there is a RuntimeWarning."""
        self._latest = encode(self.identity, state)
        self._write(self._latest)

    def finish(self, result, error=None):
        """Put the end of the run into the file; how to go on stays there, where more steps or time would."""
        kept = {}
        if result.status in (*GOES_ON, *MET) and self._latest is not None:
            _, kept = decode(self._latest, self.path)
        ended = {**result, "status": int(result.status), "history": None}
        history = None if result.history is None else dict(result.history)
        if error is not None:
            error = {"message": str(error), "step": error.step, "lr": error.lr, "stable_lr": error.stable_lr}
        self._write(
            encode(self.identity, {**kept, "result": ended, "history": history, "error": error, "asked": self.asked})
        )

    def _write(self, data):
        try:
            write_whole(self.path, data)
        except OSError as error:
            if not self._warned:
                self._warned = True
                message = f"checkpoint {error}; the run goes on, and tries again about every {self._interval:g} s"
                warnings.warn(message, RuntimeWarning, stacklevel=2)
        self._written = time.monotonic()


def ended(state, limit, asked):
    """The Result in the state of a run that has come to its end; None where it goes on. What it raised is raised again.

    A run that its callback or the clock stopped goes on, and so does one that now has more steps than it took, or a
    tighter tolerance than it met.
    """
    if "result" not in state:
        return None
    status, there = Status(state["result"]["status"]), state["asked"]
    if status == Status.TIME_LIMIT and "loop" not in state:
        return None
    if "loop" in state:
        more_steps = state["step"] < limit
        tighter = any(_tighter(asked.get(name), value) for name, value in there.items())
        if status in GOES_ON and (status != Status.STEP_LIMIT or more_steps):
            return None
        if status in MET and tighter and more_steps:
            return None
    history = None if state["history"] is None else History(state["history"])
    result = Result({**state["result"], "status": status, "history": history})
    if state["error"] is not None:
        raise DivergenceError(state["error"].pop("message"), **state["error"], result=result)
    return result


def _tighter(now, before):
    return before is not None and (now is None or now < before)


def read(path):
    """Identity and state of a checkpoint.

    Raises
    ------
    FileNotFoundError
    ValueError
        The file cannot be read, is no checkpoint, is damaged, or of another format.
    """
    return decode(_bytes(path), path)


def encode(identity, state):
    """The bytes of a checkpoint."""
    arrays = []
    text = json.dumps({"format": FORMAT, "identity": _plain(identity), "state": _plain(state, arrays)})
    file = io.BytesIO()
    entries = {f"array{number}": array for number, array in enumerate(arrays)}
    np.savez(file, header=np.frombuffer(text.encode(), np.uint8), **entries)
    file.seek(-2, os.SEEK_END)
    file.write(CHECKSUM.to_bytes(2, "little"))  # the length of the comment, which ends an archive
    checksum = _checksum(file.getbuffer())
    file.write(checksum)
    return file.getvalue()


def decode(data, path):
    """Identity and state in the bytes of a checkpoint; `path` is for the messages."""
    foreign = f"{path!r} is no checkpoint of fastgd, or is damaged"
    if data[-CHECKSUM:] != _checksum(memoryview(data)[:-CHECKSUM]):
        raise DamagedError(f"{foreign}: its checksum is wrong")
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as archive:
            entries = {name: archive[name] for name in archive}
        header = json.loads(entries["header"].tobytes())
    except Exception as error:  # readers of archives, arrays and JSON raise whatever the bytes lead them to
        raise DamagedError(f"{foreign}: {error}") from error
    if not isinstance(header, dict):
        raise DamagedError(foreign)
    if header.get("format") != FORMAT:
        raise DamagedError(
            f"{path!r} is a checkpoint of format {header.get('format')}; this fastgd reads format {FORMAT}"
        )
    identity, state = header.get("identity"), _with_arrays(header.get("state"), entries, path)
    if not isinstance(identity, dict) or not isinstance(state, dict):
        raise DamagedError(foreign)
    return identity, state


class _Branch(dict):
    """A dict of a loaded state: what is missing in it is damage of the file."""

    def __init__(self, content, path):
        super().__init__(content)
        self._path = path

    def __missing__(self, name):
        raise DamagedError(f"checkpoint {self._path!r} is damaged: {name!r} is missing")


def digest(*arrays):
    """A short text that tells arrays apart by shape, dtype and bytes; of large ones, by rows at even distances."""
    found = hashlib.sha256()
    for array in arrays:
        found.update(f"{array.shape} {array.dtype.str}".encode())
        stride = max(1, -(-array.nbytes // (1 << 20)))
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


def _with_arrays(tree, entries, path):
    if isinstance(tree, dict):
        if tree.keys() == {REFERENCE}:
            name = f"array{tree[REFERENCE]}"
            if name not in entries:
                raise DamagedError(f"checkpoint {path!r} is damaged: its entry {name!r} is missing")
            return entries[name]
        return _Branch({name: _with_arrays(branch, entries, path) for name, branch in tree.items()}, path)
    return [_with_arrays(branch, entries, path) for branch in tree] if isinstance(tree, list) else tree


def _bytes(path):
    try:
        return Path(path).read_bytes()
    except FileNotFoundError:
        raise
    except OSError as error:
        raise ValueError(f"checkpoint {path!r} cannot be read: {error.strerror or error}") from error


def _checksum(data):
    return hashlib.sha256(data).hexdigest().encode()


def _difference(name, there, here):
    """A sentence; a digest means nothing to a reader."""
    shown = [_short(value) for value in (there, here)]
    if shown == ["an array"] * 2:
        return f"{name} is another array there than here"
    return f"{name} is {shown[0]} there and {shown[1]} here"


def _short(value):
    if isinstance(value, str) and re.fullmatch("[0-9a-f]{16}", value):
        return "an array"
    return "absent" if value is None else repr(value)
