"""Reading a source once: its columns become rows of a `Stream`, and what a fit must know of them is learnt."""

import contextlib
import dataclasses
import typing

import numpy as np

from fastgd import validation
from fastgd.data import cells, encoding, inputs, readers, spill, tables
from fastgd.data.spill import Chunks, Numbers, SparseChunks
from fastgd.data.streams import Coding, Stream
from fastgd.data.tables import TableError, arrow


class Learnt(typing.NamedTuple):
    """What was read: rows; targets, weights and offsets (None without); and the Encoder of a table (None of arrays)."""

    rows: Stream
    y: typing.Any = None
    weights: typing.Any = None
    offset: typing.Any = None
    encoder: encoding.Encoder | None = None

    def arrays(self, given):
        """(rows, y, weights, offset), those that are `given` in the place of what was read."""
        read = self.y, self.weights, self.offset
        return self.rows, *(found if own is None else own for found, own in zip(read, given, strict=True))


class Series:
    """A column of numbers that grows block by block."""

    def __init__(self):
        self._parts = []

    def __len__(self):
        return len(self._parts)

    def append(self, values):
        self._parts.append(np.array(values))

    def whole(self, in_file):
        """All numbers as one array, in a temporary file with `in_file`; None if there are none."""
        if not self._parts:
            return None
        if not in_file:
            return np.concatenate(self._parts)
        file, dtype = Numbers(), np.result_type(*self._parts)
        shape = (sum(map(len, self._parts)), *self._parts[0].shape[1:])
        for part in self._parts:
            file.append(part.astype(dtype, copy=False))
        return file.mapped(shape, dtype)


class Levels:
    """The levels of a category, numbered in the order that they are met."""

    def __init__(self):
        self._numbers, self._counts = {}, np.zeros(0, np.int64)

    def codes(self, column, name):
        """The numbers of the cells, float64, NaN where one is missing."""
        pa = arrow()
        column = column if pa.types.is_dictionary(column.type) else column.dictionary_encode()
        indices = column.indices.fill_null(-1) if column.null_count else column.indices
        indices = indices.to_numpy(zero_copy_only=False).astype(np.intp)
        used = np.unique(indices[indices >= 0])
        numbers, codes = self._numbers, np.full(len(column.dictionary) + 1, np.nan)
        levels = column.dictionary.take(pa.array(used)).to_pylist()
        codes[used] = [np.nan if level is None else numbers.setdefault(level, len(numbers)) for level in levels]
        encoding.refuse_levels(numbers, name)
        codes = codes[indices]
        counts = np.bincount(codes[~np.isnan(codes)].astype(np.intp), minlength=len(numbers))
        counts[: len(self._counts)] += self._counts
        self._counts = counts
        return codes

    def most(self):
        """Where the most frequent level stands among the sorted ones; the first of several."""
        counts = np.empty_like(self._counts)
        counts[self.sorted()[1]] = self._counts
        return int(np.argmax(counts))

    def sorted(self):
        """(the levels, sorted, and where each number stands among them)."""
        levels = sorted(self._numbers)
        place = np.empty(len(levels), np.intp)
        place[[self._numbers[level] for level in levels]] = np.arange(len(levels))
        return levels, place


class TableReader:
    """Reads the Parts of a table once.

    Parameters
    ----------
    features : list of str
    others : (str or None, str or None, str or None)
        The columns of targets, weights and offsets.
    rules : Rules
    limit : int
        Bytes of memory.
    spills : bool
        Whether rows beyond it may go to a temporary file.
    """

    def __init__(self, parts, features, others, rules, limit, spills=True):
        self.parts, self.features, self.others, self.target = parts, features, others, others[0]
        self.rules, self.limit = rules, limit
        schema = parts[0].schema
        self.kinds = {name: readers.kind_of_type(schema.field(name).type) for name in [*features, self.target] if name}
        self.levels = {name: Levels() for name, kind in self.kinds.items() if kind == "category"}
        # Decoding takes 3.5 MB for each column: pages and dictionaries of Parquet, of 1 MB, compressed and not.
        kept = min(spill.KEPT * limit, limit // 2 - 3_500_000 * len(self._names()))
        self.chunks = Chunks(len(features), np.float64, max(0, kept), spills)
        self.series = [Series() for _ in others]
        self.totals, self.counts = np.zeros(len(features)), np.zeros(len(features), np.int64)
        self.missing = np.zeros(len(features), bool)

    def read(self, bar=None):
        with contextlib.closing(readers.ahead(blocks(self.parts, self._names(), self.limit))) as batches:
            for number, (batch, place) in enumerate(batches):
                if not number:
                    self._check(batch, place)
                self._take(batch, place)
                if bar is not None:
                    bar.update(len(batch))
        arrow().default_memory_pool().release_unused()
        if not self.chunks.n:
            whole = " without a missing cell" if self.rules.missing == "drop" else ""
            raise TableError(f"{self.parts[0].where} has no rows{whole}")
        chunks = self.chunks.finish()
        encoder = encoding.Encoder([self._column(i, name) for i, name in enumerate(self.features)], self.rules)
        coding = None
        if not encoder.plain or self.missing.any():
            places = [self.levels[name].sorted()[1] if name in self.levels else None for name in self.features]
            coding = Coding(encoder, places)
        rows = Stream(chunks, self.limit // 4, coding)
        y, weights, offset = (series.whole(chunks.spilled > 0) for series in self.series)
        if self.target in self.levels:
            levels, place = self.levels[self.target].sorted()
            y = np.array(levels)[place[y]]
        return Learnt(rows, y, weights, offset, encoder)

    def _names(self):
        return [*self.features, *(name for name in self.others if name)]

    def _check(self, batch, place):
        """Refuse columns that cannot be encoded, by the first rows."""
        pa = arrow()
        table = pa.Table.from_batches([batch])
        seen = [name for name in self.features if cells.missing(table.column(name)) < len(table)]
        table = tables.plain_text(table)
        encoding.check(table, seen, dataclasses.replace(self.rules, missing="mean"), place.where)
        unknown = [name for name, kind in self.kinds.items() if kind is None]
        if unknown or self.kinds.get(self.target) == "date":
            names = encoding.listed(unknown or [self.target])
            raise TableError(f"{place.where}: column {names} holds neither numbers nor text")
        for name in filter(None, self.others[1:]):
            if readers.kind_of_type(batch.schema.field(name).type) != "number":
                raise TableError(f"{place.where}: column {name!r}, of weights or offsets, must hold numbers")

    def _take(self, batch, place):
        """Append the rows of a batch."""
        n = len(batch)
        double = arrow().float64()
        columns = [
            column.to_numpy() if column.type == double and not column.null_count else self._cells(column, name)
            for name, column in zip(self.features, batch.columns, strict=False)  # targets and weights follow
        ]
        rows = np.arange(n) if self.rules.missing == "drop" else None
        if rows is not None:
            rows = np.flatnonzero(~np.any([np.isnan(column) for column in columns], axis=0))
            columns = [column[rows] for column in columns] if len(rows) < n else columns
        for name, series in zip(self.others, self.series, strict=True):
            if name:
                series.append(self._target(batch.column(name), name, place)[... if rows is None else rows])
        if self.rules.missing in ("mean", "indicator"):
            self._count(columns)
        first, n = 0, len(columns[0])
        while first < n:
            free = self.chunks.free()[: n - first]
            for j, column in enumerate(columns):
                free[:, j] = column[first : first + len(free)]
            if not np.isfinite(free.sum()):
                self._refuse(free, place, first, rows)
            self.chunks.filled(len(free))
            first += len(free)

    def _cells(self, column, name):
        """The numbers that a column is stored as."""
        if name in self.levels:
            return self.levels[name].codes(column, name)
        return cells.numbers(arrow().chunked_array([column]), self.kinds[name])

    def _target(self, column, name, place):
        if name in self.levels:
            values = self.levels[name].codes(column, name)
        else:
            pa = arrow()
            plain = pa.types.is_integer(column.type) or pa.types.is_floating(column.type)
            values = column if plain else column.cast(pa.float64(), safe=False)
            values = values.to_numpy(zero_copy_only=False)
        if values.dtype.kind == "f" and (bad := np.flatnonzero(~np.isfinite(values))).size:
            row = int(bad[0])
            raise TableError(f"{place.of(row)}: {name!r} is {_said(values[row])}, and must be known and finite")
        return values.astype(np.int64) if name in self.levels else values

    def _count(self, columns):
        for j, column in enumerate(columns):
            known = column[~np.isnan(column)]
            self.totals[j] += known.sum()
            self.counts[j] += len(known)
            self.missing[j] |= len(known) < len(column)

    def _refuse(self, stored, place, first, rows):
        """Raise for the first cell that is missing or infinite, if it is not to be filled in."""
        bad = ~np.isfinite(stored) if self.rules.missing is None else np.isinf(stored)
        if not bad.any():
            return
        row, j = np.argwhere(bad)[0]
        row_of_batch = first + row if rows is None else rows[first + row]
        name, what = self.features[j], _said(stored[row, j])
        way = "finite numbers" if np.isinf(stored[row, j]) else self.rules.option("missing", "mean")
        self.rules.refuse(place.of(int(row_of_batch)), [(f"column {name!r} is {what}", way)])

    def _column(self, j, name):
        fills = self.rules.missing in ("mean", "indicator")
        marked = self.rules.missing == "indicator" and bool(self.missing[j])
        column = encoding.Column(name, self.kinds[name], marked=marked)
        if name not in self.levels:
            column.fill = float(self.totals[j] / max(1, self.counts[j])) if fills else None
            return column
        levels, _ = self.levels[name].sorted()
        if len(levels) > max(1000, self.chunks.n // 2):
            problem = f"column {name!r} holds {len(levels):,} different texts", self.rules.without([name])
            self.rules.refuse(self.parts[0].where, [problem])
        column.levels = [str(level) for level in levels]
        if fills:
            column.fill = column.levels[self.levels[name].most()]
        return column


def _said(value):
    return "missing" if np.isnan(value) else "infinity"


def blocks(parts, names, limit):
    """The record batches of all parts, three of which, at most, are in memory, in a tenth of it."""
    size = max(256, min(1 << 14, limit // (256 * len(names))))
    for part in parts:
        yield from part.read(names, size)


# ------------------------------------------------------------------------------------------------------------- arrays


def read_arrays(found, limit, count_from_least=False, bar=None, spills=True):
    """What is Learnt from blocks (X, y, sample_weight, offset) of arrays."""
    chunks, series, kept = None, {name: Series() for name in ("y", "sample_weight", "offset")}, spill.KEPT * limit
    with contextlib.closing(readers.ahead(found)) as found:
        for (X, *others), place in found:
            X, sparse = checked(X, place), hasattr(X, "tocsr")
            if chunks is None:
                kind = SparseChunks if sparse else Chunks
                chunks = SparseChunks(X.dtype, kept, spills) if sparse else Chunks(X.shape[1], X.dtype, kept, spills)
            if not isinstance(chunks, kind) or X.dtype != chunks.dtype or (not sparse and X.shape[1] != chunks.columns):
                what = f"{X.shape[1]} columns of {X.dtype}{', sparse' * sparse}"
                raise ValueError(f"{place.where} has {what}, and the blocks before {chunks.columns} of {chunks.dtype}")
            chunks.append(X)
            for values, (name, column) in zip(others, series.items(), strict=True):
                if values is None:
                    if len(column):
                        raise ValueError(f"{place.where} has no {name}, and the blocks before have")
                    continue
                values = np.asarray(values)
                if len(values) != X.shape[0]:
                    raise ValueError(f"{place.where} has {X.shape[0]} rows of X and {len(values)} of {name}")
                if values.dtype.kind == "f":
                    values = validation.real_array(values, f"{name} in {place.where}")
                column.append(values)
            if bar is not None:
                bar.update(X.shape[0])
    chunks = chunks.finish(count_from_least) if sparse else chunks.finish()
    in_file = chunks.spilled > 0
    return Learnt(Stream(chunks, limit // 4), *(column.whole(in_file) for column in series.values()))


def checked(X, place):
    """A block of X as an array or CSR of finite numbers."""
    try:
        return inputs.samples(X, least=0)
    except (TypeError, ValueError) as error:
        raise type(error)(f"{place.where}: {error}") from None
