"""Rows of a source that is larger than memory: chunks in memory and in a temporary file, read again in each pass."""

import copy
import itertools

import numpy as np

from fastgd.data.dense import Dense
from fastgd.data.rows import Rows, Some
from fastgd.data.sparse import Sparse, beside
from fastgd.data.threads import tree_sum

# The most blocks of a pass; beyond, a block has several chunks, so that the sums of all blocks stay small.
MOST_BLOCKS = 4096


class Stream(Rows):
    """Rows in chunks that were read from a source; see `spill`.

    Parameters
    ----------
    chunks : Chunks or SparseChunks
    budget : int
        Bytes up to which a part of the rows is taken into memory.
    coding : Coding, optional
        How the stored numbers become columns; without it they are the columns.
    """

    def __init__(self, chunks, budget, coding=None):
        d = chunks.columns if coding is None else coding.width
        super().__init__(chunks.n, d, chunks.dtype)
        self._chunks, self._budget, self._coding = chunks, budget, coding
        self._which, self._edges = np.arange(len(chunks.edges) - 1), chunks.edges
        self._sparse = hasattr(chunks, "values") or (coding is not None and d > 4 * chunks.columns)
        stored = getattr(chunks, "values", chunks.n * chunks.columns)
        self.values, self._last = stored if self._sparse else chunks.n * d, None

    def __len__(self):
        return self.n

    # ------------------------------------------------------------------------------------------------------------ rows

    def dense(self, part, dtype=None):
        numbers = self._numbers(part)
        if isinstance(numbers, range):
            found = self.view(part)
            return np.array(found, self.dtype if dtype is None else dtype, order="C")
        out = np.empty((len(numbers), self.d), self.dtype if dtype is None else dtype)
        chunk = np.searchsorted(self._edges, numbers, "right") - 1
        order = np.argsort(chunk, kind="stable")
        for group in np.split(order, np.flatnonzero(np.diff(chunk[order])) + 1):
            if len(group):
                number = chunk[group[0]]
                stored = self._chunks.some(self._which[number], numbers[group] - self._edges[number])
                out[group] = self._array(stored, numbers[group])
        return out

    def view(self, part):
        numbers = self._numbers(part)
        if not isinstance(numbers, range):
            return self.dense(part)
        found = [self._array(stored, slice(*rows)) for *rows, stored in self._stored(numbers.start, numbers.stop)]
        if len(found) == 1:
            return found[0]
        return np.concatenate(found) if found else np.empty((0, self.d), self.dtype)

    def take(self, part):
        if isinstance(part, np.ndarray) and part.dtype == bool:
            inside = np.add.reduceat(part, self._edges[:-1])
            if np.all((inside == 0) | (inside == np.diff(self._edges))):
                return self._of_chunks(np.flatnonzero(inside), part)
            part = np.flatnonzero(part)
        numbers = self._numbers(part)
        if len(numbers) * self.d * self.dtype.itemsize > self._budget:
            return Some(self, part)
        Y = None if self.Y is None else np.ascontiguousarray(self.Y[part])
        return Dense(self.dense(part), Y, np.ascontiguousarray(self._weights_of(part)))

    def held_out(self, share, seed):
        """Masks of the rows to learn from and of those held out: whole chunks, or rows where there are few chunks."""
        groups = len(self._which)
        edges = self._edges if groups >= 10 else np.arange(self.n + 1)
        count = len(edges) - 1
        held = np.zeros(count, bool)
        held[np.random.default_rng(seed).permutation(count)[: max(1 if groups >= 10 else 2, round(share * count))]] = (
            True
        )
        mask = np.repeat(held, np.diff(edges))
        return ~mask, mask

    def _of_chunks(self, numbers, mask):
        other = copy.copy(self)
        other._which = self._which[numbers]
        other._edges = np.concatenate([[0], np.cumsum(np.diff(self._edges)[numbers])])
        other.n = int(other._edges[-1])
        other.values = int(self.values * (other.n / self.n))
        other.Y, other.weights = None if self.Y is None else self.Y[mask], self._weights_of(mask)
        return other

    def with_column(self, column):
        """The same rows with a last column, (n,), that stays in memory."""
        other = copy.copy(self)
        other._last, other.d, other.values = column, self.d + 1, self.values + self.n
        return other

    def _numbers(self, part):
        """Row numbers: a range if they follow on each other, else an array."""
        if isinstance(part, slice):
            numbers = range(*part.indices(self.n))
            return numbers if numbers.step == 1 else np.asarray(numbers)
        numbers = np.asarray(part)
        return np.flatnonzero(numbers) if numbers.dtype == bool else numbers

    def _stored(self, first, last):
        """Iterate over (first row, last row + 1, stored numbers) of the chunks that hold these rows."""
        number = int(np.searchsorted(self._edges, first, "right")) - 1
        while first < last:
            start, end = int(self._edges[number]), min(int(self._edges[number + 1]), last)
            yield first, end, self._chunks.chunk(self._which[number], first - start, end - start)
            first, number = end, number + 1

    def chunks(self):
        """Iterate over the chunks, as they are stored."""
        return (stored for _, _, stored in self._stored(0, self.n))

    def _array(self, stored, part):
        """The rows of a chunk, whose numbers are `part`, as an array."""
        if hasattr(stored, "tocsr"):
            stored = stored.toarray()
        elif self._coding is not None:
            stored = self._coding.dense(stored, self.dtype)
        return stored if self._last is None else np.column_stack([stored, self._last[part]])

    def _rows(self, first, last, stored, Y, weights):
        """Rows of a chunk, for the kernels."""
        Y, weights = Y[first:last], weights[first:last] if weights.size else weights
        if self._sparse:
            X = stored if hasattr(stored, "tocsr") else self._coding.sparse(stored, self.dtype)
            return Sparse(X if self._last is None else beside(X, self._last[first:last]), Y, weights)
        return Dense(self._array(stored, slice(first, last)), Y, weights)

    # ---------------------------------------------------------------------------------------------------------- passes

    def blocks(self):
        step = -(-len(self._which) // MOST_BLOCKS)
        edges = [*self._edges[:-1:step].tolist(), self.n]
        return list(itertools.pairwise(edges))

    def sums(self, block, *model):
        found = []
        for first, last, stored in self._stored(*block):
            rows = self._rows(first, last, stored, self.Y, self.weights)
            found.append(rows.sums((0, last - first), *model))
        return tree_sum(found)

    def predict(self, W, b, activation):
        out = np.empty((self.n, W.shape[1]), self.dtype)
        for first, last, stored in self._stored(0, self.n):
            rows = self._rows(first, last, stored, out, self._none)
            out[first:last] = rows.predict(W, b, activation)
        return out


class Coding:
    """How stored rows become columns of numbers: a category is stored as the number of its level, in the order met.

    Parameters
    ----------
    encoder : Encoder
    places : list of (ndarray or None)
        For each column that is a category: where each number of a level stands among the sorted levels.
    """

    def __init__(self, encoder, places):
        self.width, first = encoder.width, encoder.rules.drop == "first"
        self._columns, at = [], 0
        for column, place in zip(encoder.columns, places, strict=True):
            fill, width = column.fill, 1
            if place is not None:
                width = len(column.levels) - first
                fill = -1 if column.marked or fill is None else column.levels.index(fill) - first
                place = np.append(place - first, fill)  # the last is that of a missing cell
            self._columns.append((at, width, place, fill, column.marked))
            at += width + column.marked

    def _entries(self, stored):
        """For each column that may not be 0: (numbers of columns, values)."""
        for cells, (at, width, place, fill, marked) in zip(stored.T, self._columns, strict=True):
            missing = np.isnan(cells) if fill is not None or marked else None
            if place is None:
                yield at, cells if missing is None else np.where(missing, fill, cells)
            elif width:
                codes = place[np.where(missing, len(place) - 1, cells).astype(np.intp)]
                yield at + np.maximum(codes, 0), codes >= 0
            if marked:
                yield at + width, missing

    def dense(self, stored, dtype):
        out, rows = np.zeros((len(stored), self.width), dtype), np.arange(len(stored))
        for columns, values in self._entries(stored):
            out[rows, columns] = values
        return out

    def sparse(self, stored, dtype):
        from scipy.sparse import csr_matrix

        entries = list(self._entries(stored))
        shape = len(stored), len(entries)
        indices, data = np.empty(shape, np.int32), np.empty(shape, dtype)
        for j, (columns, values) in enumerate(entries):
            indices[:, j], data[:, j] = columns, values
        pointers = np.arange(0, data.size + 1, len(entries), dtype=np.int32)
        return csr_matrix((data.reshape(-1), indices.reshape(-1), pointers), shape=(len(stored), self.width))
