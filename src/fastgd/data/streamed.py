"""Scans that are read in blocks, in no more memory than a limit."""

import contextlib
import os
import re

import numpy as np

from fastgd import validation
from fastgd.data import encoding, readers, reading
from fastgd.data.scanned import Scan
from fastgd.data.spill import Chunks
from fastgd.data.streams import Stream
from fastgd.data.tables import INDEX, TableError, arrow, check_names, listed, paths_of
from fastgd.errors import progress_bar

UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12, "ki": 2**10, "mi": 2**20, "gi": 2**30, "ti": 2**40}
# The least limit: some blocks of each thread, and what decoding takes.
LEAST_LIMIT = 1 << 22


def bytes_of(limit):
    """A number of bytes from a number, or from text such as "120MB", "1.5 GiB"; half of the memory for None."""
    if limit is None:
        return memory() // 2
    found = re.fullmatch(r"\s*(\d+(?:\.\d*)?)\s*([kmgt]i?)?b?\s*", limit.casefold()) if isinstance(limit, str) else None
    if found is not None:
        limit = int(float(found[1]) * UNITS[found[2] or ""])
    elif isinstance(limit, bool) or not isinstance(limit, (int, np.integer)):
        got = validation.describe(limit)
        raise TypeError(f'memory_limit must be a number of bytes, or text such as "2GB"; got {got}')
    if limit < LEAST_LIMIT:
        raise ValueError(f"memory_limit must be at least {LEAST_LIMIT:,} bytes; got {limit:,}")
    return int(limit)


def memory():
    """Bytes of memory of this machine."""
    with contextlib.suppress(AttributeError, ValueError, OSError):
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return 1 << 32


def streamed(source, others, features, limit, spills):
    """The Streamed of a source."""
    kind = StreamedArrays if is_arrays(source) else StreamedTable
    return kind(source, others, features, bytes_of(limit), spills)


def is_arrays(source):
    """Whether a source has blocks of arrays, which are always read as a stream."""
    if callable(source) and not hasattr(source, "__arrow_c_stream__"):
        return True
    suffixes = (".npy", ".svm", ".svmlight", ".libsvm")
    return isinstance(source, (str, os.PathLike)) and os.fspath(source).endswith(suffixes)


def is_large(source):
    """Whether the files of a source have more than a quarter of the memory."""
    if not isinstance(source, (str, os.PathLike)):
        return False
    with contextlib.suppress(OSError, TableError):
        return 4 * sum(path.stat().st_size for path in paths_of(source)) > memory()
    return False


class Streamed(Scan):
    """A source that is read in blocks; `scan` makes it.

    `iter(scan)` gives blocks (X, y, sample_weight) for `partial_fit`, X being a pyarrow Table of the features or an
    array, and with offsets (X, y, sample_weight, offset). Estimators, `LinearObjective` and `predict` take it whole.
    """

    _read = None, None

    @property
    def table(self):
        raise TableError("this needs the whole table in memory: leave out memory_limit")

    def column(self, name):
        return self.table

    def learn(self, rules=None, bar=None):
        """What is Learnt by these rules; a second call finds it read."""
        key = self._key(rules)
        if self._read[1] is None or self._read[0] != key:
            self._read = None, None
            learnt = self._learn(rules, bar)
            if self._key(rules) != key:
                raise TableError(f"{self._source} has changed while it was read: fit again")
            self._read = key, learnt
        return self._read[1]

    def bar(self, verbose):
        """A progress bar of rows where a fit shows one, in a context."""
        if verbose < 2 or self._read[1] is not None:
            return contextlib.nullcontext()
        return progress_bar(self.total, 0, " rows", "verbose=2")

    def __iter__(self):
        for X, *others in self.blocks():
            yield X, *(others if others[-1] is not None else others[:-1])

    def arrays(self, *given):
        return self.learn(encoding.Rules()).arrays(given)

    def each(self, function, offset=None):
        """Iterate over function(X, offset) of the blocks; an `offset` of all rows stands in the place of their own."""
        if offset is not None and self.total not in (None, len(offset)):
            raise ValueError(f"offset must be a number for each of {self.total} rows; got {len(offset)}")
        return (function(X, own) for X, *_, own in self.beside_blocks(None, None, offset, only_offset=True))

    def beside_blocks(self, *given, only_offset=False):
        """Iterate over (X, y, sample_weight, offset); what is `given` of all rows replaces what is read."""
        last = 0
        for X, *read in self.blocks(only_offset):
            first, last = last, last + X.shape[0]
            yield X, *(own if part is None else part[first:last] for own, part in zip(read, given, strict=True))


class StreamedTable(Streamed):
    """A table of named columns."""

    def __init__(self, source, others, features, limit, spills=True, marks=None):
        (self.target, self.sample_weight, self.offset), self._given = others, features
        self._source, self._limit, self._spills, self._marks = source, limit, spills, marks
        self._open()

    def _open(self):
        self.parts = readers.parts_of(self._source, self._marks)
        self._stamp, (first, *_) = _stamp([part.where for part in self.parts]), self.parts
        others = [name for name in self.others if name is not None]
        columns = Names(first.schema.names)
        check_names(columns, [*others, *(self._given or [])], first.where)
        names = [name for name in dict.fromkeys(columns.column_names) if name not in (*others, INDEX)]
        self.features = self._given or names
        check_names(columns, self.features, first.where)
        if not self.features:
            raise TableError(f"{first.where} has no column beside the target")
        if both := [name for name in others if name in self.features]:
            raise ValueError(
                f"{listed(both)} cannot be the target, the weights or the offset and among the features too"
            )

    @property
    def total(self):
        """Rows, or None where that is known only after reading."""
        counts = [part.rows for part in self.parts]
        return None if None in counts else sum(counts)

    def _key(self, rules):
        return rules, _stamp([part.where for part in self.parts])

    def _learn(self, rules, bar):
        if self._stamp != _stamp([part.where for part in self.parts]):
            self._open()
        return reading.TableReader(self.parts, self.features, self.others, rules, self._limit, self._spills).read(bar)

    def inputs(self, names=None):
        for batch, _ in readers.ahead(reading.blocks(self.parts, names or self.features, self._limit)):
            yield arrow().Table.from_batches([batch])

    def blocks(self, only_offset=False):
        """Iterate over (X, y, sample_weight, offset), None for what there is none of or what is not asked for."""
        others = (None, None, self.offset) if only_offset else self.others
        for table in self.inputs([*self.features, *(name for name in others if name)]):
            yield table.select(self.features), *(None if n is None else table.column(n).to_numpy() for n in others)


class StreamedArrays(Streamed):
    """Blocks of arrays: from a callable, an .npy file, or svmlight text."""

    total = features = target = sample_weight = offset = None

    def __init__(self, source, others, features, limit, spills=True):
        self._source, self._limit, self._spills = source, limit, spills
        self._suffix = None if callable(source) else os.path.splitext(os.fspath(source))[1]
        self._columns = others, features
        if self._suffix == ".npy":
            self._X = readers.npy(source)
            names = [f"x{j}" for j in range(self._X.shape[1])]
            check_names(Names(names), [name for name in (*others, *(features or [])) if name], str(source))
            self.total = len(self._X)
        elif any(value is not None for value in (*others, features)):
            raise ValueError("target, sample_weight, offset and features are for tables; blocks of arrays hold theirs")

    def _key(self, rules):
        return None if self._suffix is None else _stamp([os.fspath(self._source)])

    def _blocks(self):
        if self._suffix is None:
            return readers.of_callable(self._source)
        if self._suffix == ".npy":
            return readers.of_npy(self._source, readers.npy(self._source), *self._columns)
        return readers.of_svmlight(self._source)

    def _learn(self, rules, bar):
        as_it_is = self._suffix == ".npy" and not any((*self._columns[0], self._columns[1]))
        X = readers.npy(self._source) if as_it_is else None
        if X is None or not X.flags.c_contiguous or X.dtype not in (np.float64, np.float32):
            from_least = self._suffix not in (None, ".npy")
            return reading.read_arrays(self._blocks(), self._limit, from_least, bar, self._spills)
        for block, place in self._blocks():
            reading.checked(block[0], place)
        chunks = Chunks.of_file(self._source, X.offset, X.shape, X.dtype)
        return reading.Learnt(Stream(chunks, self._limit // 4))

    def blocks(self, only_offset=False):
        if self._suffix not in (None, ".npy"):  # only after reading it is known whether columns are counted from 1
            learnt, last = self.learn(), 0
            for X in learnt.rows.chunks():
                first, last = last, last + X.shape[0]
                yield X, learnt.y[first:last], None, None
            return
        for (X, *others), place in readers.ahead(self._blocks()):
            yield reading.checked(X, place), *others


class Names:
    """Names of columns, as `check_names` takes a table."""

    def __init__(self, names):
        self.column_names = list(names)


def _stamp(paths):
    """What tells that a file has changed: its size and time."""
    found = []
    for path in paths:
        with contextlib.suppress(OSError, ValueError):
            status = os.stat(path)
            found.append((path, status.st_size, status.st_mtime_ns))
    return found
