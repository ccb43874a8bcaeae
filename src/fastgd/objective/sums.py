"""The sums over rows that values and gradients of an objective are made of."""

import functools
import math

import numpy as np

from fastgd import kernels
from fastgd.data import even_blocks, inputs, threads
from fastgd.data.offset import WithOffset
from fastgd.data.partials import value_at_constant
from fastgd.kernels.codes import ACTIVATIONS


class Sums:
    """What a LinearObjective computes by passes over its rows, in fixed blocks that are added up in a fixed tree."""

    _at_constant = None  # intercepts and the sums there, of rows that are elsewhere

    def _set(self, X, y, s, record, fit_intercept, penalty, offset, n_jobs):
        self.record, self.loss, self.activation = record, record.loss.shown, record.activation
        self.fit_intercept, self.penalty, self.offset = fit_intercept, penalty, offset
        absorbed = None if offset is None else self._absorbed(y, s, offset)
        # F is the mean by the weights given: `gain` is the sum of those that absorb an offset over theirs.
        y, s, beside, self.gain = absorbed or (y, s, 0.0, 1.0)
        self.n_jobs, self._jobs = n_jobs, threads.job_count(n_jobs)
        self.X, self.y, self.dtype = X, y, X.dtype
        # The rounding of a weight; and of the values of X, which may have been given in fewer digits.
        self.eps = self.resolution = float(np.finfo(X.dtype).eps)
        n, d = X.shape
        self.shape = (d + fit_intercept, *y.shape[1:])
        self.Y = y.reshape(n, -1)
        self.rows = inputs.rows_of(X, self.Y, s)
        if offset is not None and absorbed is None:
            self.rows = WithOffset(self.rows, offset)
        self.edges = np.array([0, *(last for _, last in self.rows.blocks())], np.int64)
        self.total_weight = self.rows.total_weight
        self.factor = self.gain * record.factor(self.total_weight)  # of Σ s·l of the kernel
        self.constant = self.factor * beside
        self.codes = record.codes
        self._nothing = np.empty(0, self.dtype)
        self._alike = self.rows.one_array and penalty.weights is None  # as the kernels that do all in one call have it

    def _absorbed(self, y, s, offset):
        """Targets and weights of the same loss without the offset (see `Loss.absorbed`), in the dtype of y, what the
        sum of the losses has besides, and the gain; None of a loss that does not absorb it."""
        n = len(y)
        given, o = s.astype(np.float64) if s.size else np.ones(n), offset.astype(np.float64)
        with np.errstate(all="ignore"):
            found = self.record.loss.absorbed(self.activation, y.reshape(n, -1).astype(np.float64), given, o)
            if found is None:
                return None
            Y, weights, beside = found
            Y, weights = Y.astype(y.dtype).reshape(y.shape), weights.astype(y.dtype)
        gain = float(weights.sum(dtype=np.float64) / given.sum())
        if not (np.all(np.isfinite(Y)) and 0 < gain < math.inf):
            raise ValueError(
                f"offset must have an exponential in the range of {y.dtype}; it goes from {o.min():g} to {o.max():g}: "
                "measure the exposure in other units"
            )
        return Y, s if np.array_equal(weights, given) else weights, beside, gain

    def value_at(self, w):
        """`value` of weights that are known to have the right shape and dtype."""
        if self._alike and (self._jobs == 1 or self.jobs(threads.THREAD_VALUES) == 1):
            return self._by_one_call(w, self._nothing)
        sums = self._block_sums(*self.split(w), None, False)
        return self._value(sums, w, np.empty((0, self.rows.k), self.dtype))

    def value_and_gradient_at(self, w):
        gradient = np.empty(self.shape, self.dtype)
        if self._alike and (self._jobs == 1 or self.jobs(threads.THREAD_VALUES) == 1):
            return self._by_one_call(w, gradient), gradient
        value = self._value(self._block_sums(*self.split(w), None, True), w, gradient.reshape(len(w), -1))
        return value, gradient

    def _by_one_call(self, w, gradient):
        """The value by one call of a kernel, which writes to `gradient` unless that is empty."""
        penalty, (activation, loss) = self.penalty, self.codes
        flat, found = (w, gradient) if w.ndim == 1 else (w.reshape(-1), gradient.reshape(-1))
        value = self.rows.value_and_gradient(flat, activation, loss, self.factor, penalty.l2, self.edges, found)
        return value + self._besides(w) if penalty.l1 or self.constant else value

    def _value(self, sums, w, gradient):
        columns = w.reshape(self.shape[0], self.rows.k)
        l2 = self.l2 if self.penalty_weights is None else 0.0
        value = kernels.active.value_from_sums(sums, columns, self.fit_intercept, self.factor, l2, gradient)
        if self.penalty_weights is not None and len(gradient):
            W = self.split(w)[0]
            gradient[: len(W)] += (self.penalty.l2_of_columns() * W).astype(self.dtype)
        return value + self._besides(w)

    def _besides(self, w):
        """What the kernels leave out of the value."""
        W = self.split(w)[0]
        if self.penalty_weights is not None:
            return self.constant + self.penalty.value(W)
        return self.constant + (self.l1 * self.penalty.size(W) if self.l1 else 0.0)

    def split(self, w):
        """Weights (d, k) and intercepts (k,) of w."""
        d = self.rows.d
        W = w.reshape(len(w), -1)
        return W[:d], W[d] if self.fit_intercept else np.zeros(W.shape[1], w.dtype)

    def join(self, W, b):
        return (np.concatenate([W, b[None, :]]) if self.fit_intercept else W).reshape(self.shape)

    def sums(self, W, b, shift=None, gradient=True):
        """The data term of F, and with `gradient` its gradients by W and b.

        Parameters
        ----------
        W, b : (d, k), (k,)
            In any floating dtype; a pass is made in that of X.
        shift : (d,), optional
            The rows are x − shift.

        Returns
        -------
        float, or (float, (d, k), (k,)), in float64
        """
        return self.sums_of(self.rows, self.codes, W, b, shift, gradient)

    def sums_of(self, source, codes, W, b, shift=None, gradient=True):
        """`sums` over other rows, by another loss of the kernels."""
        dtype, k = self.dtype, source.k
        if gradient and shift is None and source.one_array and dtype == np.float64 and len(self.edges) == 2:
            out = np.empty(W.size + k)  # one block, whose sum one call of a kernel gives
            value = source.value_and_gradient(
                np.concatenate((W.reshape(-1), b)), *codes, self.factor, 0.0, self.edges, out
            )
            return value + self.constant, out[:-k].reshape(W.shape), out[-k:]
        with np.errstate(all="ignore"):
            model = W.astype(dtype), b.astype(dtype), shift, *codes, gradient
            total = threads.sum_of_rows(self._shared(source, self.edges, model))
            value = self.factor * float(total[:k].sum()) + self.constant
            if not gradient:
                return value
            return value, self.factor * total[k:-k].reshape(W.shape), self.factor * total[-k:]

    def sums_of_each(self, W, b):
        """`sums` at several weights of an objective with one output, (d, m) and (m,), in one pass over X.

        Returns
        -------
        (m,), (d, m), (m,)
            Each the value or the gradient at its own weights alone.
        """
        m, dtype, factor = W.shape[1], self.dtype, self.factor
        source = self.rows.repeated(0, m)
        # Gradients of so many weights are long, and there is one for each block.
        edges = np.array([0, *(last for _, last in even_blocks(source.n, source.values, W.size))], np.int64)
        with np.errstate(all="ignore"):
            model = W.astype(dtype), b.astype(dtype), None, *self.codes, True
            total = threads.sum_of_rows(self._shared(source, edges, model))
            return factor * total[:m] + self.constant, factor * total[m:-m].reshape(W.shape), factor * total[-m:]

    def _block_sums(self, W, b, shift, gradient):
        """A row of sums for each block; see `Rows.block_sums`."""
        return self._shared(self.rows, self.edges, (W, b, shift, *self.codes, gradient))

    def _shared(self, source, edges, model):
        jobs, m = self.jobs(threads.THREAD_VALUES), len(edges) - 1
        if jobs == 1 or not source.in_memory:
            return source.block_sums(edges, *model)
        # Eight calls for each thread: several blocks take one call, but not so many that others wait for the last.
        length = -(-m // (8 * jobs))
        shares = [edges[first : first + length + 1] for first in range(0, m, length)]
        return np.concatenate(threads.over_blocks(lambda share: source.block_sums(share, *model), shares, jobs))

    def scores(self, W, b):
        """h = XW + b in float64, (n, k)."""
        with np.errstate(all="ignore"):
            identity = ACTIVATIONS["identity"]
            return self.rows.predict(W.astype(self.dtype), b.astype(self.dtype), identity).astype(np.float64)

    def value_of_scores(self, h):
        """The data term of F at scores h (n, k)."""
        rows = self.rows
        source = inputs.rows_of(h, rows.Y.astype(np.float64, copy=False), rows.weights.astype(np.float64, copy=False))
        return self._data_term(source, np.eye(rows.k), np.zeros(rows.k))

    def value_at_constant(self, b):
        """F at W = 0, without a pass over X."""
        offset = self.rows.offset
        if not self.rows.in_memory:
            b = b.astype(self.dtype)
            if self._at_constant is None or not np.array_equal(self._at_constant[0], b):
                self._at_constant = b, self.rows.reduced(value_at_constant, b, *self.codes)[0]
            return self.factor * float(self._at_constant[1].sum()) + self.constant
        column = np.zeros((self.rows.n, 1), self.dtype) if offset is None else offset[:, None]
        source = inputs.rows_of(column, self.rows.Y, self.rows.weights)
        W = np.ones((1, self.rows.k), self.dtype)
        return self._data_term(source, W, b.astype(self.dtype)) + self.constant

    def _data_term(self, source, W, b):
        with np.errstate(all="ignore"):
            parts = [source.sums(block, W, b, None, *self.codes, False) for block in source.blocks()]
            return self.factor * float(threads.tree_sum(parts)[0].sum())

    def linear_term(self, A):
        """The gradients of f·Σ s·A·h by W, (d, k), and b, (k,), for A (n, k)."""
        s = np.ones(self.rows.n) if self.sample_weight is None else self.sample_weight
        return self.factor * self.rows.transposed_product(A), self.factor * (s @ A)

    def mean(self, values):
        """The data term of numbers (n, k) in the place of the kernel's losses: factor·Σ s·values."""
        each, s = values[:, 0] if values.shape[1] == 1 else values.sum(axis=1), self.rows.weights
        return self.factor * float(each @ s.astype(np.float64) if s.size else each.sum())

    def jobs(self, least):
        """Threads for a pass, which is worth more than one from so many values on."""
        return self._jobs if self.rows.values * self.rows.k >= least else 1

    @property
    def l1(self):
        return self.penalty.l1

    @property
    def l2(self):
        return self.penalty.l2

    @property
    def penalty_weights(self):
        return self.penalty.weights

    @property
    def sample_weight(self):
        """(n,) float64, or None."""
        return self.rows.weights.astype(np.float64) if self.rows.weights.size else None

    @functools.cached_property
    def mass(self):
        """The data term of a loss that is 1 for each sample."""
        return self.factor * self.total_weight
