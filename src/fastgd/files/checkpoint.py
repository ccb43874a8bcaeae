"""The state of a run on disk: written whole or not at all, and read only by the run that it belongs to.

A checkpoint is an .npz archive without pickle. Its entry `header` is a text in JSON with the format number, the
identity of the run and its state, a tree of dicts, lists, numbers, strings and arrays; the arrays are entries of their
own, `array0`, `array1`, …, which the text refers to. Numbers come back to the last bit. The comment of the archive, its
last bytes, is a checksum of all the bytes before, so that damage is found before any content is looked at.

If a checkpoint cannot be written, the run continues with a warning.
"""

import contextlib
import hashlib
import io
import json
import operator
import os
import time
import warnings
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from fastgd import validation
from fastgd.engine.result import History, Result, Status
from fastgd.errors import DivergenceError
from fastgd.files.whole import check_writable, remove_abandoned, write_whole

# Increase it with every change of the state or of its encoding.
FORMAT = 2
# What a run that ended so needs to continue: nothing, more steps, or also a tighter tolerance. Others do not continue.
CONTINUES = {Status.STOPPED_BY_CALLBACK: "", Status.TIME_LIMIT: "", Status.STEP_LIMIT: "steps"} | dict.fromkeys(
    (Status.CONVERGED, Status.TARGET_REACHED, Status.VALUE_SETTLED, Status.POINT_SETTLED, Status.NO_PROGRESS),
    "tolerance",
)


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
        All that the result depends on, name → number, string or None. A file with another identity is refused, with the
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
        self.identity = json.loads(json.dumps(identity, default=np.generic.item))  # as it comes back from a file
        self.asked = asked or {}
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
        both = {name: (identity.get(name), self.identity.get(name)) for name in {**self.identity, **identity}}
        differences = [
            "{} is {} there and {} here".format(name, *("absent" if value is None else repr(value) for value in pair))
            for name, pair in both.items()
            if pair[0] != pair[1]
        ]
        if differences:
            raise ValueError(f"checkpoint {self.path!r} belongs to another run: {'; '.join(differences)}")
        self._latest = data
        return state

    def resumed(self, limit, limit_name, unit):
        """(state to go on from, Result of a run that has come to its end), each None where there is none.

        Parameters
        ----------
        limit : int
            Steps at most.
        limit_name, unit : str
            The name of that argument for the user, and of a step.

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
            if "loop" not in saved:  # max_seconds had passed before the first step
                return None, None
            taken = operator.index(saved["step"])
        if taken > limit:
            raise ValueError(f"{limit_name} = {limit}, but {taken} {unit}s are in {self.path!r} already")
        return saved, None

    @contextlib.contextmanager
    def restoring(self):
        """A context in which a run restores a loaded state: any error in it means that the file is damaged."""
        try:
            yield
        except (DamagedError, DivergenceError):
            raise
        except Exception as error:  # a corrupt state may raise anything
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
        """Write the result to the file; the state stays in it if more steps or time could continue the run."""
        goes_on = result.status in CONTINUES and self._latest is not None
        state = decode(self._latest, self.path)[1] if goes_on else {}
        state |= {"result": {**result, "history": None}, "history": result.history, "asked": self.asked}
        state["error"] = None
        if error is not None:
            state["error"] = {name: getattr(error, name) for name in ("step", "lr", "stable_lr")} | {
                "message": str(error)
            }
        self._write(encode(self.identity, state))

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
    status = Status(state["result"]["status"])
    needs, more_steps = CONTINUES.get(status), "loop" in state and state["step"] < limit
    if "loop" not in state:
        goes_on = status == Status.TIME_LIMIT
    elif needs == "tolerance":
        goes_on = more_steps and any(_tighter(asked.get(name), value) for name, value in state["asked"].items())
    else:
        goes_on = needs == "" or (needs == "steps" and more_steps)
    if goes_on:
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
    entries = {}

    def plain(value):
        if isinstance(value, np.ndarray):
            entries[f"array{len(entries)}"] = value
            return {"__array__": len(entries) - 1}
        return dict(value) if isinstance(value, Mapping) else value.item()

    text = json.dumps({"format": FORMAT, "identity": identity, "state": state}, default=plain)
    file = io.BytesIO()
    np.savez(file, header=np.frombuffer(text.encode(), np.uint8), **entries)
    file.seek(-2, os.SEEK_END)
    file.write(len(_checksum(b"")).to_bytes(2, "little"))  # the length of the comment, which ends an archive
    checksum = _checksum(file.getbuffer())
    file.write(checksum)
    return file.getvalue()


def decode(data, path):
    """Identity and state in the bytes of a checkpoint; `path` is for the messages."""
    foreign = f"{path!r} is no checkpoint of fastgd, or is damaged"
    length = len(_checksum(b""))
    if data[-length:] != _checksum(memoryview(data)[:-length]):
        raise DamagedError(f"{foreign}: its checksum is wrong")

    def tree(branch):
        if branch.keys() != {"__array__"}:
            return _Branch(branch, path)
        name = f"array{branch['__array__']}"
        if name not in entries:
            raise DamagedError(f"checkpoint {path!r} is damaged: its entry {name!r} is missing")
        return entries[name]

    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as archive:
            entries = {name: archive[name] for name in archive}
        header = json.loads(entries["header"].tobytes(), object_hook=tree)
    except DamagedError:
        raise
    except Exception as error:  # damaged bytes may make the readers of zip, npy and JSON raise anything
        raise DamagedError(f"{foreign}: {error}") from error
    if not isinstance(header, dict):
        raise DamagedError(foreign)
    if header.get("format") != FORMAT:
        raise DamagedError(
            f"{path!r} is a checkpoint of format {header.get('format')}; this fastgd reads format {FORMAT}"
        )
    identity, state = header.get("identity"), header.get("state")
    if not isinstance(identity, dict) or not isinstance(state, dict):
        raise DamagedError(foreign)
    return identity, state


class _Branch(dict):
    """A dict of a loaded state: a missing entry means that the file is damaged."""

    def __init__(self, content, path):
        super().__init__(content)
        self._path = path

    def __missing__(self, name):
        raise DamagedError(f"checkpoint {self._path!r} is damaged: {name!r} is missing")


def digest(*arrays):
    """A hash of shapes, dtypes and bytes of arrays; of arrays above 1 MiB, of equally spaced rows."""
    found = hashlib.sha256()
    for array in arrays:
        found.update(f"{array.shape} {array.dtype.str}".encode())
        stride = max(1, -(-array.nbytes // (1 << 20)))
        found.update(np.ascontiguousarray(array[::stride] if array.ndim else array).tobytes())
    return found.hexdigest()[:16]


def _bytes(path):
    try:
        return Path(path).read_bytes()
    except FileNotFoundError:
        raise
    except OSError as error:
        raise ValueError(f"checkpoint {path!r} cannot be read: {error.strerror or error}") from error


def _checksum(data):
    return hashlib.sha256(data).hexdigest().encode()
