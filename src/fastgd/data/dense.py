"""Rows of an array."""

import numpy as np

from fastgd import kernels, validation
from fastgd.data.moments import rounded
from fastgd.data.rows import OfArrays
from fastgd.kernels.codes import PLAIN


class Dense(OfArrays):
    """Rows of an array of any strides."""

    one_array = True

    @classmethod
    def takes(cls, X):
        """An array, or anything that becomes one: this class is asked last."""
        return True

    @classmethod
    def checked(cls, X, dtype=None):
        return validation.real_array(X, "X", ndim=2, dtype=dtype)

    def dense(self, part, dtype=None):
        # Indexing by row numbers has made a C-contiguous copy already; a slice is a view.
        copied = np.array if isinstance(part, slice) else np.asarray
        return copied(self.X[part], self.dtype if dtype is None else dtype, order="C")

    def view(self, part):
        return self.X[part]

    def take(self, part):
        parts = self.X[part], self.Y[part], self._weights_of(part)
        return Dense(*map(np.ascontiguousarray, parts))

    def arrays_for_digest(self):
        return (self.X,)

    def arrays(self, block):
        return (self.X, self.Y, self.weights) if block == (0, self.n) else super().arrays(block)

    def rough_measures(self, centring):
        X, n = self.X, self.n
        if not X.flags.c_contiguous or self.weights.size:
            return None
        sums, squares = np.empty(self.d), np.empty(self.d)
        kernels.active.column_sums(X, sums, squares)
        means, squares = sums / n, squares / n
        variances = squares - means**2 if centring else squares
        # Not of columns that are constant, or of which the difference leaves few digits, or whose squares underflow.
        if not (np.all(variances > 1e-6 * squares) and squares.min() > 1e-280 and squares.max() < np.inf):
            return None
        return rounded(means, self.dtype) if centring else np.zeros(self.d), np.sqrt(variances)

    def block_sums(self, edges, W, b, shift, activation, loss, gradient):
        out = np.empty((len(edges) - 1, 2 * self.k + W.size if gradient else self.k))
        kernels.active.block_sums(
            self.X, self.Y, W, b, self._none if shift is None else shift, self.weights, activation, loss, self.gemm,
            edges, out,
        )  # fmt: skip
        return out

    def value_and_gradient(self, w, activation, loss, factor, l2, edges, gradient):
        """The value at w, flat, by one call of a kernel, which writes to `gradient` unless that is empty."""
        gemm = self.gemm if self.k > 1 else None
        return kernels.active.value_and_gradient(
            self.X, self.Y, w, self.weights, activation, loss, gemm, factor, l2, edges, gradient
        )  # fmt: skip

    def predict(self, W, b, activation):
        out = np.empty((self.n, W.shape[1]), self.dtype)
        kernels.active.predict(self.X, W, b, activation, self.gemm, out)
        return out

    def stochastic(self, w, activation, loss, factor, l2, order, batch, mean, rates, rule=None):
        rule = PLAIN[self.dtype] if rule is None else rule
        kernels.active.stochastic(
            self.X, self.Y, w, self.weights, activation, loss, factor, l2, order, batch, mean, rates, *rule
        )  # fmt: skip
