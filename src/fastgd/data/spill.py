"""Chunks of rows between passes: in memory as far as a limit allows, beyond it in a temporary file.

The file has no name, or is deleted when it is closed, so that nothing is left of it however the process ends. It is
read by `preadv` into new arrays, which costs no more than reading memory: maps of the file would count as memory of the
process, and a map of a file that was cut short ends it.
"""

import errno
import os
import tempfile
import threading
import weakref

import numpy as np

# Values of a chunk: 1 MB of float64, which stay in a cache while a kernel goes through them.
CHUNK_VALUES = 1 << 17


# Of a limit of memory, the share of chunks that are kept in memory.
KEPT = 1 / 3


class SpillError(OSError):
    """Rows could not be written to the temporary folder. The message is one sentence."""


def temporary(allowed):
    """A temporary file of Numbers; SpillError where none is `allowed`."""
    if not allowed:
        raise SpillError(
            "the rows take more than memory_limit allows to keep, and spill=False refuses a temporary file: raise "
            "memory_limit, or allow the file"
        )
    return Numbers()


class Numbers:
    """A file of numbers, read by several threads at once: one of the user's, or a temporary one that is appended to."""

    def __init__(self, path=None):
        self._lock, self.size, self._path = threading.Lock(), 0, path
        if path is not None:
            self._file = open(path, "rb", buffering=0)  # noqa: SIM115
            self._stamp = self._stamp_of_file()
        else:
            try:
                self._file = tempfile.TemporaryFile(prefix="fastgd-", buffering=0)  # noqa: SIM115
            except OSError as error:
                raise _refused(error) from error

        weakref.finalize(self, self._file.close)

    def _stamp_of_file(self):
        found = os.fstat(self._file.fileno())
        return found.st_size, found.st_mtime_ns

    def append(self, array):
        """The place at which the bytes of an array begin."""
        place, left = self.size, memoryview(np.ascontiguousarray(array).reshape(-1)).cast("B")
        try:
            while left:
                left = left[self._file.write(left) :]
        except OSError as error:
            raise _refused(error) from error
        self.size += array.nbytes
        return place

    def read(self, shape, dtype, place):
        out = np.empty(shape, dtype)
        left = memoryview(out.reshape(-1)).cast("B")
        while left:
            if hasattr(os, "preadv"):
                count = os.preadv(self._file.fileno(), [left], place)
            else:
                with self._lock:
                    self._file.seek(place)
                    count = self._file.readinto(left)
            if not count:
                raise SpillError(f"{self._path or 'the temporary file of rows'} has been cut short")
            left, place = left[count:], place + count
        if self._path is not None and self._stamp_of_file() != self._stamp:
            raise SpillError(f"{self._path} has changed since it was first read: fit again")
        return out

    def mapped(self, shape, dtype):
        """All of the file as one array that takes no memory of its own."""
        return np.asarray(np.memmap(self._file, dtype, "r", shape=shape))


def _refused(error):
    folder = tempfile.gettempdir()
    why = "is full" if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG) else f"refuses them: {error.strerror}"
    return SpillError(
        f"rows beyond memory_limit go to the temporary folder, and {folder} {why}; set TMPDIR to a folder with more "
        "room, or raise memory_limit"
    )


class Chunks:
    """Rows of `columns` numbers in chunks of equally many rows, of which the first `budget` bytes stay in memory.

    Without `spills` more than that is refused.

    Attributes
    ----------
    edges : (m + 1,) int64, set by `finish`
        Chunk i holds the rows from edges[i] up to, but not including, edges[i + 1].
    """

    def __init__(self, columns, dtype, budget, spills=True):
        self.columns, self.dtype, self.n, self._spills = columns, np.dtype(dtype), 0, spills
        self._length, self._left, self._file = max(1, CHUNK_VALUES // columns), budget, None
        self._chunks, self._used = [], 0  # arrays, or their places in the file
        self._buffer = np.empty((self._length, columns), dtype)

    @classmethod
    def of_file(cls, path, offset, shape, dtype):
        """The rows of a C-contiguous array in a file, where they are."""
        self = cls(shape[1], dtype, 0)
        row = shape[1] * self.dtype.itemsize
        self._file, self.n, count = Numbers(path), shape[0], -(-shape[0] // self._length)
        self._chunks = [offset + i * self._length * row for i in range(count)]
        return self.finish()

    def free(self):
        """The rows that are to be filled next; `filled` says how many have been."""
        return self._buffer[self._used :]

    def filled(self, count):
        self._used, self.n = self._used + count, self.n + count
        if self._used == self._length:
            self._put()

    def append(self, block):
        while len(block):
            free = self.free()
            count = min(len(free), len(block))
            free[:count] = block[:count]
            self.filled(count)
            block = block[count:]

    def _put(self):
        chunk, self._used = self._buffer[: self._used], 0
        self._left -= chunk.nbytes
        if self._left >= 0:
            self._chunks.append(chunk)
            self._buffer = np.empty_like(self._buffer)
            return
        self._file = self._file or temporary(self._spills)
        self._chunks.append(self._file.append(chunk))

    def finish(self):
        if self._used:
            self._put()
        self._buffer = None
        self.edges = np.minimum(np.arange(len(self._chunks) + 1, dtype=np.int64) * self._length, self.n)
        return self

    @property
    def spilled(self):
        """Bytes in the temporary file."""
        return 0 if self._file is None else self._file.size

    def chunk(self, number, first=0, last=None):
        """Some rows of a chunk, as an array that is only read."""
        last = int(self.edges[number + 1] - self.edges[number]) if last is None else last
        found = self._chunks[number]
        if isinstance(found, np.ndarray):
            return found[first:last]
        place = found + first * self.columns * self.dtype.itemsize
        return self._file.read((last - first, self.columns), self.dtype, place)

    def some(self, number, rows):
        """Rows of a chunk by their numbers in it, as a new array."""
        low, high = int(rows.min()), int(rows.max()) + 1
        if isinstance(self._chunks[number], np.ndarray) or 8 * len(rows) >= high - low:
            return self.chunk(number, low, high)[rows - low]
        return np.concatenate([self.chunk(number, row, row + 1) for row in rows.tolist()])


class SparseChunks:
    """The same for CSR matrices, in the chunks that they come in."""

    def __init__(self, dtype, budget, spills=True):
        self.dtype, self.n, self.columns, self._spills = np.dtype(dtype), 0, 0, spills
        self._chunks, self._left, self._file, self._counts = [], budget, None, [0]
        self.values, self._least, self._last = 0, 1, (None, None)

    def append(self, X):
        from scipy.sparse import csr_matrix

        step = max(1, CHUNK_VALUES * X.shape[0] // max(1, X.nnz))
        for first in range(0, X.shape[0], step):
            part = X[first : first + step]
            arrays = part.data.astype(self.dtype), part.indices.astype(np.int64), part.indptr.astype(np.int64)
            self._left -= sum(array.nbytes for array in arrays)
            if self._left >= 0:
                self._chunks.append(csr_matrix(arrays, shape=part.shape))
            else:
                self._file = self._file or temporary(self._spills)
                places = [self._file.append(array) for array in arrays]
                self._chunks.append((*places, len(arrays[0])))
            self._counts.append(part.shape[0])
            self.values += part.nnz
            self._least = min(self._least, int(part.indices.min(initial=1)))
        self.n, self.columns = self.n + X.shape[0], max(self.columns, X.shape[1])

    def finish(self, count_from_least=False):
        """With `count_from_least` columns are counted from 1 if none has the number 0."""
        self.edges = np.cumsum(self._counts, dtype=np.int64)
        self._least = self._least if count_from_least else 0
        self.columns -= self._least
        return self

    spilled = Chunks.spilled

    def chunk(self, number, first=0, last=None):
        from scipy.sparse import csr_matrix

        known, X = self._last
        if known == number:
            return X[first:last] if first or last not in (None, X.shape[0]) else X
        found = self._chunks[number]
        shape = int(self.edges[number + 1] - self.edges[number]), self.columns
        if isinstance(found, tuple):
            data, indices, indptr, count = found
            found = (
                self._file.read(count, self.dtype, data), self._file.read(count, np.int64, indices),
                self._file.read(shape[0] + 1, np.int64, indptr),
            )  # fmt: skip
        else:
            found = found.data, found.indices, found.indptr
        data, indices, indptr = found
        X = csr_matrix((data, indices - self._least, indptr), shape=shape, copy=False)
        self._last = number, X  # several slices of a chunk are read one after the other
        return X[first:last] if first or last not in (None, shape[0]) else X

    def some(self, number, rows):
        return self.chunk(number)[rows]
