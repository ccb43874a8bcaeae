"""Rows of a scipy.sparse matrix or array in CSR form."""

import functools
import itertools

import numpy as np

from fastgd import kernels, validation
from fastgd.data.columns import SparseColumns
from fastgd.data.moments import centred, looked_into, rounded
from fastgd.data.rows import OfArrays
from fastgd.kernels.codes import PLAIN

# The cost of one product of two stored entries of a row, when XᵀX is formed, in values of a pass over X: while XᵀX fits
# the cache, and several times as much beyond.
ENTRY_PRODUCT = 2.5
# Multiplications of a Cholesky decomposition (of its d³) in the time of one value of a pass over X.
CHOLESKY_ADVANTAGE = 96
# The arguments of `sparse_pass` for a value alone.
NO_GRADIENT = np.empty((0, 0)), np.empty(0)


class Sparse(OfArrays):
    """Rows of a scipy.sparse matrix or array in CSR form."""

    sums_about_mean = False

    def __init__(self, X, Y, weights):
        super().__init__(X, Y, weights)
        self.values = X.nnz
        # scipy may store the two index arrays in different types; the kernels take one type for both.
        wide = np.int64 if X.indptr.dtype != X.indices.dtype else X.indices.dtype
        self._data = np.ascontiguousarray(X.data)
        self._indices, self._indptr = (np.ascontiguousarray(a, dtype=wide) for a in (X.indices, X.indptr))

    @classmethod
    def takes(cls, X):
        """A matrix or array of scipy.sparse, recognised without importing scipy.sparse."""
        return hasattr(X, "tocsr")

    @classmethod
    def checked(cls, X, dtype=None):
        if X.ndim != 2:
            raise ValueError(f"X must be 2-dimensional; got shape {X.shape}")
        X = X.tocsr()
        if dtype is None:
            dtype = np.float32 if X.dtype.kind == "f" and X.dtype.itemsize <= 4 else np.float64
        data = validation.real_array(X.data, "X.data", ndim=1, dtype=dtype)
        check_columns(X)
        return type(X)((data, X.indices, X.indptr), shape=X.shape, copy=False)

    def dense(self, part, dtype=None):
        return self.X[part].toarray().astype(self.dtype if dtype is None else dtype, order="C", copy=False)

    def columns(self, numbers, part=slice(None)):
        return self.X[part][:, numbers].toarray().astype(np.float64)

    @functools.cached_property
    def by_columns(self):
        """X in CSC form."""
        return self.X.tocsc()

    def column_block(self, numbers, shift, scale):
        return SparseColumns(self, numbers, shift, scale)

    def arrays_for_digest(self):
        return self.X.data, self.X.indices, self.X.indptr

    def sums(self, block, W, b, shift, activation, loss, gradient, out=None):
        first, last = block
        Y, pointers = self.Y[first:last], self._indptr[first : last + 1]
        if shift is not None:  # (x − m)W + b = xW + (b − mW): a centred row would be dense
            b = (b.astype(np.float64) - shift.astype(np.float64) @ W).astype(self.dtype)
        if out is None:
            out = np.empty(2 * self.k + W.size if gradient else self.k)
        totals = out[: self.k]
        grad_W, grad_b = (out[self.k : -self.k].reshape(W.shape), out[-self.k :]) if gradient else NO_GRADIENT
        kernels.active.sparse_pass(
            self._data, self._indices, pointers, Y, W, b, self._weights_of(slice(*block)), activation, loss, totals,
            grad_W, grad_b,
        )  # fmt: skip
        if not gradient:
            return (totals,)
        if shift is not None:
            grad_W -= shift.astype(np.float64)[:, None] * grad_b
        return totals, grad_W, grad_b

    def block_sums(self, edges, W, b, shift, activation, loss, gradient):
        out = np.empty((len(edges) - 1, 2 * self.k + W.size if gradient else self.k))
        for row, block in zip(out, itertools.pairwise(edges.tolist()), strict=True):
            self.sums(block, W, b, shift, activation, loss, gradient, row)
        return out

    def differences(self, block, W, b, steps, step_b, activation, loss):
        first, last = block
        by_W, by_b = np.empty(W.shape), np.empty(len(step_b))
        kernels.active.sparse_perturbed_pass(
            self._data, self._indices, self._indptr[first : last + 1], self.Y[first:last], W, b, steps, step_b,
            self._weights_of(slice(*block)), activation, loss, by_W, by_b,
        )  # fmt: skip
        return by_W, by_b

    def predict(self, W, b, activation):
        # h by scipy; the kernel for arrays then applies f, with h as X and the unit matrix as W.
        h = np.ascontiguousarray(self.X @ W + b)
        out = np.empty_like(h)
        kernels.active.predict(
            h, np.eye(self.k, dtype=self.dtype), np.zeros(self.k, self.dtype), activation, None, out
        )  # fmt: skip
        return out

    def stochastic(self, w, activation, loss, factor, l2, order, batch, mean, rates, rule=None):
        rule = PLAIN[self.dtype] if rule is None else rule
        kernels.active.sparse_stochastic(
            self._data, self._indices, self._indptr, self.Y, w, self.d, self.weights, activation, loss, factor, l2,
            order, batch, mean, rates, *rule,
        )  # fmt: skip

    def scaled(self, shift, scale):
        X = self.X.copy()
        X.data = (X.data / scale[X.indices]).astype(self.dtype)
        return Sparse(X, self.Y, self.weights), np.zeros(self.d)

    def sums_of_squares(self, origin):
        X = self.X.astype(np.float64)
        weighted = X.multiply(self.weights.astype(np.float64)[:, None]).tocsr() if self.weights.size else X
        with np.errstate(all="ignore"):
            return np.asarray(weighted.sum(axis=0)).reshape(-1), (X.T @ weighted).toarray()

    def moments(self):
        """See `Rows.moments`; None also where centring cancels too many digits, as a sparse X is summed about 0."""
        origin = np.zeros(self.d)
        first, second = self.sums_of_squares(origin)
        with np.errstate(all="ignore"):
            found = centred(self, origin, first, second)
            if found is None:
                return None
            # Less than 1e-8 of the sum of squares is left: half of the digits of the variance are rounding error.
            doubtful = np.flatnonzero(np.diag(found.centred) < 1e-8 * np.diag(second))
            return None if doubtful.size and self._varies(doubtful) else found

    def differs(self, columns, numbers):
        return bool(np.any(self.X[:, columns].data != 0))  # `numbers` are zeros: moments are summed about 0

    def _varies(self, columns):
        """Whether any of these columns is not constant."""
        X = self.X[:, columns]
        return bool(np.any(X.min(axis=0).toarray() != X.max(axis=0).toarray()))

    def measures(self, centring, sample=None):
        """See `Rows.measures`. From all stored entries: a sample of sparse rows would hold too few of a column."""
        X, means, total = self.X, np.zeros(self.d), self.total_weight
        s = self.weights.astype(np.float64) if self.weights.size else np.ones(self.n)
        values = X.data.astype(np.float64)
        if centring:
            means = rounded(self._column_sums(values, s) / total, self.dtype)
            values -= means[X.indices]
        squares, counts = self._column_sums(np.square(values, out=values), s), np.bincount(X.indices, minlength=self.d)
        # Entries that are not stored are 0 and lie `means` from the mean. A column without such entries is treated
        # apart: the difference of the two sums of weights would be rounding error instead of 0.
        stored = self._column_sums(np.ones_like(values), s) if self.weights.size else counts
        squares += np.where(counts >= self.n, 0.0, np.maximum(total - stored, 0.0)) * means**2
        return looked_into(self, means, np.sqrt(squares / total), centring)

    def rough_measures(self, centring):
        if self.weights.size:
            return None
        X = self.by_columns
        values, counts = np.append(X.data, 0.0).astype(np.float64, copy=False), np.diff(X.indptr)
        sums, squares = (
            np.where(counts > 0, np.add.reduceat(each, X.indptr[:-1]), 0.0) / self.n
            for each in (values, values * values)
        )
        variances = squares - sums**2 if centring else squares
        stored = counts > 0
        if not (np.all(variances[stored] > 1e-6 * squares[stored]) and np.all(squares[stored] > 1e-280)):
            return None
        if not np.all(np.isfinite(squares)):
            return None
        spreads = np.sqrt(variances, out=np.full(self.d, np.inf), where=stored)
        return rounded(sums, self.dtype) if centring else np.zeros(self.d), spreads

    def column_sums(self):
        return self._column_sums(self.X.data.astype(np.float64), self._s())

    def column_squares(self, shift, unit):
        X, s = self.X, self._s()
        counts, stored = np.bincount(X.indices, minlength=self.d), self._column_sums(np.ones(X.nnz), s)
        squares = self._column_sums(np.square((X.data - shift[X.indices]) / unit[X.indices]), s)
        return squares + np.where(counts >= self.n, 0.0, np.maximum(s.sum() - stored, 0.0)) * (shift / unit) ** 2

    def column_largest(self, shift):
        X = self.X
        largest = np.where(np.bincount(X.indices, minlength=self.d) < self.n, np.abs(shift), 0.0)
        roots = np.repeat(np.sqrt(self._s()), np.diff(X.indptr))
        np.maximum.at(largest, X.indices, roots * np.abs(X.data - shift[X.indices]))
        return largest

    def _s(self):
        return self.weights.astype(np.float64) if self.weights.size else np.ones(self.n)

    def _column_sums(self, numbers, s):
        """Column sums of `numbers`, one for each stored entry, times s, one for each row."""
        return type(self.X)((numbers, self.X.indices, self.X.indptr), shape=self.X.shape, copy=False).T @ s

    def gram_products(self):
        stored = np.diff(self.X.indptr).astype(np.float64)
        return ENTRY_PRODUCT * float(np.sum(stored**2)) + self.d**3 / CHOLESKY_ADVANTAGE


def beside(X, column):
    """CSR with a last column, (n,), in the dtype of X."""
    import scipy.sparse

    return scipy.sparse.hstack([X, scipy.sparse.csr_array(column[:, None])], format="csr", dtype=X.dtype)


def check_columns(X):
    """Refuse a CSR matrix whose indices are out of range: scipy does not check them and would read foreign memory."""
    if np.any(X.indptr[1:] < X.indptr[:-1]) or X.indptr[0] != 0 or X.indptr[-1] > len(X.indices):
        raise ValueError("X.indptr must not decrease, and must begin at 0 and end within X.indices")
    used = X.indices[: X.indptr[-1]]
    if used.size and not 0 <= used.min() <= used.max() < X.shape[1]:
        raise ValueError(
            f"X.indices must be numbers of columns, 0 to {X.shape[1] - 1}; got {used.min()} to {used.max()}"
        )
