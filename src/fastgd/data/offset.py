"""Rows with an offset, a known part of the score of each: h = xW + b + offset."""

import numpy as np

from fastgd.data.dense import Dense
from fastgd.data.rows import Rows
from fastgd.data.sparse import Sparse, beside
from fastgd.kernels.codes import PLAIN


class WithOffset(Rows):
    """The rows of a source, with an offset: a last column of X whose weight is 1 in each pass.

    What is asked of X itself (moments, columns, products, pieces) is the source's; an array is copied once, for the
    column. All that is computed of scores (sums, differences, predictions, steps) has the offset in it.

    Parameters
    ----------
    source : Rows
    offset : (n,), of its dtype
    """

    def __init__(self, source, offset):
        super().__init__(source.n, source.d, source.dtype, source.Y, source.weights)
        self.source, self.offset, self.has_columns = source, offset, source.has_columns
        self._full = _extended(source, offset)

    def _beside(self, W, last=1.0):
        return np.vstack([W, np.full((1, W.shape[1]), last, W.dtype)])

    # ------------------------------------------------------------------------------------------------ of the source

    def dense(self, part, dtype=None):
        return self.source.dense(part, dtype)

    def view(self, part):
        return self.source.view(part)

    def columns(self, numbers, part=slice(None)):
        return self.source.columns(numbers, part)

    @property
    def by_columns(self):
        return self.source.by_columns

    def column_block(self, numbers, shift, scale):
        return self.source.column_block(numbers, shift, scale)

    def with_targets(self, Y, weights=None):
        other = super().with_targets(Y, weights)
        other.source, other._full = (rows.with_targets(Y, weights) for rows in (self.source, self._full))
        return other

    def take(self, part):
        return WithOffset(self.source.take(part), self.offset[part])

    def arrays_for_digest(self):
        return *self.source.arrays_for_digest(), self.offset

    def scaled(self, shift, scale):
        source, shift = self.source.scaled(shift, scale)
        return WithOffset(source, self.offset), shift

    def moments(self):
        return self.source.moments()

    def measures(self, centring, sample=None):
        return self.source.measures(centring, sample)

    def rough_measures(self, centring):
        return self.source.rough_measures(centring)

    def product(self, part, W):
        return self.source.product(part, W)

    def column_product(self, u):
        return self.source.column_product(u)

    def transposed_product(self, u):
        return self.source.transposed_product(u)

    def gram_products(self):
        return self.source.gram_products()

    def __matmul__(self, W):
        return self.source @ W

    # ------------------------------------------------------------------------------------------------------- passes

    def blocks(self):
        return self._full.blocks()

    def sums(self, block, W, b, shift, activation, loss, gradient):
        shift = None if shift is None else np.append(shift, shift.dtype.type(0))
        found = self._full.sums(block, self._beside(W), b, shift, activation, loss, gradient)
        return (found[0], found[1][:-1], found[2]) if gradient else found

    def differences(self, block, W, b, steps, step_b, activation, loss):
        by_W, by_b = self._full.differences(
            block, self._beside(W), b, self._beside(steps), step_b, activation, loss
        )  # fmt: skip
        return by_W[:-1], by_b

    def predict(self, W, b, activation):
        return self._full.predict(self._beside(W), b, activation)

    def constant_scores(self):
        """The rows of a model without columns: their one column is the offset, with a weight of 1."""
        return Dense(np.ascontiguousarray(self.offset[:, None]), self.Y, self.weights)

    def stochastic(self, w, activation, loss, factor, l2, order, batch, mean, rates, rule=None):
        """As of all rows: bounds hold the weight of the offset at 1."""
        kind, parameters, moments, done, penalised, *bounds = PLAIN[self.dtype] if rule is None else rule
        at = [self.d * self.k] * self.k
        v = np.insert(w.reshape(-1), at, 1).reshape(-1, self.k)
        more = np.insert(moments, at, 0, axis=1) if moments.size else moments
        ends = [np.insert(end if end.size else np.full(w.size, open_), at, 1).astype(self.dtype)
                for end, open_ in zip(bounds, (-np.inf, np.inf), strict=True)]  # fmt: skip
        self._full.stochastic(
            v, activation, loss, factor, l2, order, batch, mean, rates,
            (kind, parameters, np.ascontiguousarray(more), done, penalised, *ends),
        )  # fmt: skip
        kept = np.delete(np.arange(v.size), np.arange(at[0], at[0] + self.k))
        w.reshape(-1)[:] = v.reshape(-1)[kept]
        if moments.size:
            moments[:] = more[:, kept]


class _Extended(Rows):
    """Rows of any kind with a last column."""

    def __init__(self, source, column):
        super().__init__(source.n, source.d + 1, source.dtype, source.Y, source.weights)
        self._source, self._column = source, column

    def dense(self, part, dtype=None):
        rows = np.column_stack([self._source.view(part), self._column[part]])
        return np.ascontiguousarray(rows, self.dtype if dtype is None else dtype)


def _extended(source, column):
    if type(source) is Dense:
        return Dense(np.column_stack([source.X, column]), source.Y, source.weights)
    if type(source) is Sparse:
        return Sparse(beside(source.X, column), source.Y, source.weights)
    return source.with_column(column) if hasattr(source, "with_column") else _Extended(source, column)


def scores(h, offset):
    """h (n,) or (n, k) with an offset (n,) in its dtype; h itself without."""
    if offset is None:
        return h
    return h + np.asarray(offset, h.dtype).reshape(-1, *[1] * (h.ndim - 1))
