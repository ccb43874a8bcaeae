"""Rows of data behind one interface, cut into numbered blocks: all that the rest of the package knows of X.

Whoever adds up blocks does so in a tree (`threads.tree_sum`, `threads.sum_of_rows`), so that a total does not depend on
who computed which block.
"""

import copy
import itertools

import numpy as np

from fastgd import kernels
from fastgd.data.columns import DenseColumns
from fastgd.data.moments import PIECE_VALUES, measured, moments_of, parts, slices, transformed
from fastgd.data.threads import tree_sum
from fastgd.kernels.codes import ACTIVATIONS, LOSSES, PLAIN

# A block has about this many values at least (it must be worth handing to a thread), and there are at most so many.
BLOCK_VALUES = 1 << 17
MOST_BLOCKS = 64
# From this many outputs and multiplications on, BLAS is worth the 0.15 s that importing scipy's takes, once.
BLAS_OUTPUTS = 2
BLAS_VALUES = 1 << 18
# Multiplications of a BLAS product that take as long as one value of a pass over X.
BLAS_ADVANTAGE = 16
# Kernels of steps on single rows take so many steps at once: a cut in between would change the rounding.
STEPS_AT_ONCE = 4


class Rows:
    """Rows of X with their targets and weights. A kind of data is a subclass that says how to get at some rows.

    A subclass calls `super().__init__(n, d, dtype)` and defines `dense`, which threads call at the same time, and which
    must give the same numbers each time. All passes follow from it, by the kernels for arrays. A kind that has a
    quicker way for one of them overrides that. An instance is then what `LinearObjective` takes as X: its own targets
    and weights are not looked at there, and its numbers are not checked for NaN and infinity.

    Attributes
    ----------
    n, d : int
        Rows and columns.
    dtype : dtype
        float64 or float32: of X, Y, the weights, and the weights of a model.
    Y : (n, k)
        Targets; `with_targets` sets them.
    k : int
        Outputs.
    weights : (n,) or (0,)
        Of the rows; of length 0 where all are 1.
    values : int
        How many numbers a pass goes over: what it costs.
    one_array : bool
        Whether X is one array, which a kernel of whole passes or of many steps takes as it is: see `arrays`. Then there
        is a `value_and_gradient`.
    has_columns : bool
        Whether some columns of all rows are had at little cost: see `column_block`.
    """

    one_array = has_columns = False

    def __init__(self, n, d, dtype, Y=None, weights=None):
        self.n, self.d, self.dtype, self.values = n, d, np.dtype(dtype), n * d
        self.Y, self.k = Y, 0 if Y is None else Y.shape[1]
        self._none = np.empty(0, self.dtype)
        self.weights = self._none if weights is None else weights

    # ---------------------------------------------------------------------------------------- what a kind of data says

    @classmethod
    def takes(cls, X):
        """Whether an X is data of this kind. See `register`."""
        return isinstance(X, cls)

    @classmethod
    def checked(cls, X, dtype=None):
        """X as `made_of` takes it, in that dtype; or the error that says what is wrong with it."""
        if X.dtype not in (np.float32, np.float64) or (dtype is not None and X.dtype != dtype):
            takes = "float32 or float64" if dtype is None else np.dtype(dtype)
            raise TypeError(f"X must be of dtype {takes}; got {X.dtype}")
        return X

    @classmethod
    def made_of(cls, X, Y, weights):
        """The rows of an X that was checked."""
        return X.with_targets(Y, weights)

    def dense(self, part, dtype=None):
        """Some rows as a new C-contiguous array, which is the caller's.

        Parameters
        ----------
        part : slice or array of int
        dtype : dtype, optional
            Another than that of the rows.
        """
        raise NotImplementedError(f"{type(self).__name__} must define dense(part, dtype=None)")

    # ------------------------------------------------------------------------------------------------------------ rows

    ndim = 2  # with this, `shape`, some rows by their numbers and a product they serve as an array does that is X

    def __getitem__(self, part):
        return self.take(part)

    def __matmul__(self, W):
        """XW for W (d, k)."""
        W = np.ascontiguousarray(W, self.dtype)
        return self.predict(W, np.zeros(W.shape[1], self.dtype), ACTIVATIONS["identity"])

    @property
    def shape(self):
        return self.n, self.d

    @property
    def total_weight(self):
        return float(np.sum(self.weights, dtype=np.float64)) if self.weights.size else float(self.n)

    @property
    def gemm(self):
        large = self.k >= BLAS_OUTPUTS and self.values * self.k >= BLAS_VALUES
        return kernels.gemm(self.dtype) if large else None

    def view(self, part):
        """Some rows as an array that is only read: where they lie, if they are an array."""
        return self.dense(part)

    def columns(self, numbers, part=slice(None)):
        """Some columns of some rows, in float64."""
        return self.view(part)[:, numbers].astype(np.float64)

    def column_block(self, numbers, shift, scale):
        """Some columns, centred and scaled, as coordinate descent takes them; see `data.columns`."""
        return DenseColumns(self, numbers, shift, scale)

    def with_targets(self, Y, weights=None):
        """The same rows with other targets, and with other weights if they are given."""
        other = copy.copy(self)
        other.Y, other.k = Y, Y.shape[1]
        if weights is not None:
            other.weights = weights
        return other

    def take(self, part):
        """The rows of a slice or of an array of numbers, with their targets and weights."""
        return Some(self, part)

    def shares(self, part):
        """Weights of the rows of a slice in float64, adding up to 1."""
        count = len(range(*part.indices(self.n)))
        s = self.weights[part].astype(np.float64) if self.weights.size else np.ones(count)
        return s / s.sum() if s.any() else np.full(count, 1 / count)

    def write(self, part, out):
        """Some rows into an array of any float dtype and any strides."""
        out[...] = self.view(part)

    def extended(self):
        """All rows in long double: of few data."""
        return self.view(slice(None)).astype(np.longdouble)

    def arrays_for_digest(self):
        """Arrays that tell these X from others by their bytes."""
        return np.array(self.shape), self.dense(slice(None, None, max(1, self.values // PIECE_VALUES)))

    # ---------------------------------------------------------------------------------------------------------- passes

    def blocks(self):
        """Numbers of the first row and of the one after the last, for each block: a function of the shape alone."""
        return even_blocks(self.n, self.values, self.d)

    def arrays(self, block):
        """X, Y and weights of a block."""
        part = slice(*block)
        return self.view(part), self.Y[part], self._weights_of(part)

    def sums(self, block, W, b, shift, activation, loss, gradient):
        """(totals,) of a block, or (totals, gradient by W, gradient by b), all float64."""
        X, Y, weights = self.arrays(block)
        totals = np.empty(self.k)
        data = X, Y, W, b, self._none if shift is None else shift, weights, activation, loss, self.gemm, totals
        if not gradient:
            kernels.active.total_loss(*data)
            return (totals,)
        grad_W, grad_b = np.empty(W.shape), np.empty(self.k)
        kernels.active.total_loss_and_gradient(*data, grad_W, grad_b)
        return totals, grad_W, grad_b

    def block_sums(self, edges, *model):
        """`sums` of several blocks: a row of totals, gradient by W and gradient by b for each, or of totals alone.

        Parameters
        ----------
        edges : (m + 1,) int64
            Block j holds the rows from edges[j] to edges[j + 1], the last one excepted.
        *model
            W, b, shift, activation, loss and gradient, as for `sums`.

        Returns
        -------
        ndarray, (m, k + dk + k) or (m, k), float64
        """
        blocks = itertools.pairwise(edges.tolist())
        return np.array([np.concatenate([part.reshape(-1) for part in self.sums(block, *model)]) for block in blocks])

    def differences(self, block, W, b, steps, step_b, activation, loss):
        """Differences of the loss of a block between W ± steps and between b ± step_b, for each weight alone."""
        X, Y, weights = self.arrays(block)
        by_W, by_b = np.empty(W.shape), np.empty(len(step_b))
        kernels.active.perturbed_pass(X, Y, W, b, steps, step_b, weights, activation, loss, by_W, by_b)
        return by_W, by_b

    def predict(self, W, b, activation):
        """f(XW + b), (n, k)."""
        out = np.empty((self.n, W.shape[1]), self.dtype)
        for first, last in self.blocks():
            kernels.active.predict(self.view(slice(first, last)), W, b, activation, self.gemm, out[first:last])
        return out

    def stochastic(self, w, activation, loss, factor, l2, order, batch, mean, rates, rule=None):
        """Steps of stochastic descent on w over the rows in `order`; see `kernels.reference.one_layer.stochastic`.

        They are plain ones, or by a rule as `Update.kernel_arguments` has it.
        """
        kind, parameters, moments, done, *limits = PLAIN[self.dtype] if rule is None else rule
        step = STEPS_AT_ONCE * batch
        for part in slices(len(order), step * max(1, PIECE_VALUES // (step * self.d))):
            rows = order[part]
            first, count = part.start // batch, -(-len(rows) // batch)
            # The kernel takes these rows for all of them: with a sum over rows a step has its share of the penalty.
            share = l2 if mean else l2 * (len(rows) / self.n)
            kernels.active.stochastic(
                self.dense(rows), self.Y[rows], w, self._weights_of(rows), activation, loss, factor, share,
                np.arange(len(rows)), batch, mean, rates[first : first + count], kind, parameters, moments,
                done + first, *limits,
            )  # fmt: skip

    def scaled(self, shift, scale):
        """The rows for stochastic steps in centred and scaled columns, and the shift that they are centred by.

        (X − shift)/scale in the dtype of X, a few rows at a time; 0 in columns of an infinite scale. A kind for which
        shifted rows would be too many numbers scales them alone: its shift is 0.
        """
        return Scaled(self, shift, scale), shift

    # ------------------------------------------------------------------------------------- moments, products, measures

    def pieces(self, shift=0.0, scale=1.0):
        """√s·(X − shift)/scale in float64, √s, and the rows' slice, a few rows at a time."""
        return transformed(self, shift, scale)

    def moments(self):
        """The `Moments` of the columns; None where squares of them leave the range of floating point."""
        return moments_of(self)

    def differs(self, columns, numbers):
        """Whether any of these columns holds anything but its number."""
        return any(np.any(self.columns(columns, part) != numbers[columns]) for part in parts(self.n, self.d))

    def column_means(self):
        total = sum(np.sum(A * root[:, None], axis=0) for A, root, _ in self.pieces())
        return total / self.total_weight

    def column_lengths(self, shift):
        """√Σs(x − shift)² of each column, without overflow or underflow of the squares."""
        largest = np.max([np.max(np.abs(A), axis=0) for A, *_ in self.pieces(shift)], axis=0)
        unit = np.where(largest > 0, largest, 1.0)
        return unit * np.sqrt(sum(np.sum(A**2, axis=0) for A, *_ in self.pieces(shift, unit)))

    def measures(self, centring, sample=None):
        """Where each column lies, how far it spreads, and whether it varies at all.

        Parameters
        ----------
        centring : bool
            Whether spreads are about the means; about 0 without it, which are then the means.
        sample : int, optional
            How many rows, at even distances, tell; all of them without it, and wherever that costs little.

        Returns
        -------
        means, spreads : (d,) float64
            Means rounded to the dtype of X, and √(Σs(x − mean)²/Σs).
        still : (d,) bool
            Columns that vary by no more than the rounding of their numbers.
        """
        return measured(self, centring, sample)

    def product(self, part, W):
        """XW for some rows; what is of two dtypes is computed in the wider."""
        return self.view(part) @ W

    def column_product(self, u):
        """Xᵀu by BLAS, in the wider dtype of both."""
        return sum(self.view(part).T @ u[part] for part in parts(self.n, self.d))

    def transposed_product(self, u):
        """Xᵀ(s·u), (d, k) float64, of u (n, k), by the kernels: the gradient of Σ s·½(0 − y)² at W = 0, for y = −u."""
        source = self.with_targets(np.ascontiguousarray(-u, dtype=self.dtype))
        zeros = np.zeros((self.d, source.k), self.dtype), np.zeros(source.k, self.dtype)
        codes = ACTIVATIONS["identity"], LOSSES["squared"]
        return tree_sum([source.sums(block, *zeros, None, *codes, True)[1:2] for block in source.blocks()])[0]

    def gram_products(self):
        """What forming XᵀX takes, in values of a pass over X."""
        return self.n * self.d * self.d / BLAS_ADVANTAGE

    # ---------------------------------------------------------------------------------------------------------- private

    def _weights_of(self, part):
        return self.weights[part] if self.weights.size else self.weights


class Some(Rows):
    """Some rows of others, which are fetched when they are asked for."""

    def __init__(self, source, part):
        self._source, self._numbers = source, np.arange(source.n)[part]
        Y = None if source.Y is None else source.Y[part]
        super().__init__(len(self._numbers), source.d, source.dtype, Y, source._weights_of(part))

    def dense(self, part, dtype=None):
        return self._source.dense(self._numbers[part], dtype)


class Scaled(Rows):
    """Rows that are centred and scaled when they are asked for, in the dtype of their source."""

    def __init__(self, source, shift, scale):
        super().__init__(source.n, source.d, source.dtype, source.Y, source.weights)
        self._source = source
        self._shift = shift.astype(self.dtype)
        self._inverse = np.where(np.isfinite(scale), 1 / scale, 0.0).astype(self.dtype)

    def dense(self, part, dtype=None):
        X = self._source.dense(part)
        X -= self._shift
        X *= self._inverse
        return X if dtype is None else X.astype(dtype, copy=False)


def even_blocks(n, values, d, least=1):
    """First and last rows of blocks of equal numbers of rows.

    At most MOST_BLOCKS, of `least` rows or more; and a block's gradient, of length d, must be small beside its values.
    """
    count = int(max(1, min(MOST_BLOCKS, values // BLOCK_VALUES, values // (16 * d), n // least)))
    edges = [n * i // count for i in range(count + 1)]
    return list(itertools.pairwise(edges))
