"""Some columns of X, centred and scaled in float64, as coordinate descent goes through them."""

import numpy as np

from fastgd import kernels
from fastgd.data.moments import PIECE_VALUES, parts, slices


class DenseColumns:
    """Columns (X − shift)/scale of arrays, and of rows of any other kind that are not sparse.

    Attributes
    ----------
    m : int
        Columns.
    offsets : (m,)
        What is left to subtract from each column that it be centred: 0.
    gram_epochs : float
        How many epochs of coordinate descent take as long as to form the Gram matrix and to factorise it ten times.
    order : str
        Of what `descend_classes` takes for each row and class, (n, k).
    """

    order = "F"

    def __init__(self, rows, numbers, shift, scale):
        self.columns = None
        self.extend(rows, numbers, shift, scale)

    @property
    def gram_epochs(self):
        return self.m / 10 + self.m**2 / (2 * self.columns.shape[1])

    def extend(self, rows, numbers, shift, scale):
        """Take more columns, after those that are here."""
        columns = np.empty((len(numbers), rows.n))
        shift, scale, all_of_them = shift[numbers], scale[numbers], np.array_equal(numbers, np.arange(rows.d))
        X = rows.X if rows.one_array else None
        if type(X) is np.ndarray and X.flags.c_contiguous:
            kernels.active.take_columns(X, numbers.astype(np.intp, copy=False), shift, scale, columns)
            self._add(columns)
            return
        # In pieces that stay in a cache between the operations.
        for part in parts(rows.n, max(1, len(numbers))):
            some = rows.view(part) if all_of_them else rows.view(part)[:, numbers]
            some = some - shift
            some /= scale
            columns[:, part] = some.T
        self._add(columns)

    def _add(self, columns):
        self.columns = columns if self.columns is None else np.concatenate([self.columns, columns])
        self.m = len(self.columns)
        self.offsets = np.zeros(self.m)

    def product(self, v):
        """The scores (n,) of weights (m,), or (n, k) of (m, k)."""
        return (v.T @ self.columns).T

    def transposed_product(self, u):
        return self.columns @ u

    def squares(self, C):
        """Σ c·a² of each column for each c of C (n, q), (m, q)."""
        found = np.zeros((self.m, C.shape[1]))
        for part in slices(len(C), max(256, PIECE_VALUES // max(1, self.m))):  # stays in a cache
            found += np.square(self.columns[:, part]) @ C[part]
        return found

    def sums(self, c):
        """Σ c·a of each column, c being (n,) or (1,)."""
        return self.moments(c)[0]

    def moments(self, c):
        """Σ c·a and Σ c·a² of each column."""
        sums, squares = np.empty(self.m), np.empty(self.m)
        kernels.active.column_moments(self.columns, np.broadcast_to(c, self.columns.shape[1]).copy(), sums, squares)
        return sums, squares

    def gram(self, c, first=0):
        """Σ c·a·aᵀ of all columns and those from `first` on, (m, m − first)."""
        if len(c) == 1:
            return (self.columns @ self.columns[first:].T) * c[0]
        found, roots = np.zeros((self.m, self.m - first)), np.sqrt(c)
        for part in slices(self.columns.shape[1], max(1024, PIECE_VALUES // max(1, self.m))):  # stays in a cache
            A = self.columns[:, part] * roots[part]
            found += A @ A[first:].T
        return found

    def descend(self, model, small, zeros, slopes, level, v):
        """An epoch of coordinate descent; see `kernels.reference.coordinates`."""
        return kernels.active.coordinate_descent(
            self.columns, model.curvature, model.means, model.bends, model.thresholds, model.ridges, 1, small,
            zeros, slopes, v,
        )  # fmt: skip

    def descend_classes(self, model, small, zeros, slopes, level, v):
        """An epoch of coordinate descent on a quadratic model of a softmax."""
        return kernels.active.softmax_descent(
            self.columns, model.weights, model.p.T, model.sums, model.means, model.bends, model.thresholds,
            model.ridges, 1, small, zeros, level, slopes.T, v,
        )  # fmt: skip


class SparseColumns:
    """Columns X/scale of a sparse matrix, which are not centred; see `DenseColumns`."""

    order = "C"

    def __init__(self, rows, numbers, shift, scale):
        self._numbers = numbers[:0]
        self.extend(rows, numbers, shift, scale)

    @property
    def gram_epochs(self):
        entries = max(1, self._X.nnz)
        return entries / self._X.shape[0] + self.m**2 / entries

    def extend(self, rows, numbers, shift, scale):
        self._numbers = numbers = np.concatenate([self._numbers, numbers])
        self.m, self._scale, self.offsets = len(numbers), scale[numbers], (shift / scale)[numbers]
        self._X = rows.by_columns[:, numbers]

    def product(self, v):
        return self._X @ (v.T / self._scale).T

    def transposed_product(self, u):
        return ((self._X.T @ u).T / self._scale).T

    def squares(self, C):
        return (self._X.power(2).T @ C) / np.square(self._scale)[:, None]

    def sums(self, c):
        return self.transposed_product(np.broadcast_to(c, self._X.shape[0]))

    def moments(self, c):
        return self.sums(c), (self._X.power(2).T @ np.broadcast_to(c, self._X.shape[0])) / self._scale**2

    def gram(self, c, first=0):
        X = self._X.astype(np.float64)
        weighted = X[:, first:].multiply(c[:, None]).tocsc() if len(c) > 1 else X[:, first:] * c[0]
        return (X.T @ weighted).toarray() / self._scale[:, None] / self._scale[first:]

    def descend(self, model, small, zeros, slopes, level, v):
        X = self._X
        return kernels.active.sparse_coordinate_descent(
            X.data, X.indices, X.indptr, model.curvature, self._scale, model.sums, model.means, model.bends,
            model.thresholds, model.ridges, 1, small, zeros, level, slopes, v,
        )  # fmt: skip

    def descend_classes(self, model, small, zeros, slopes, level, v):
        X = self._X
        return kernels.active.sparse_softmax_descent(
            X.data, X.indices, X.indptr, self._scale, model.weights, model.p, model.sums, model.means, model.bends,
            model.thresholds, model.ridges, 1, small, zeros, level, slopes, v,
        )  # fmt: skip
