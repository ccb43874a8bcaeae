"""`Rows`, the interface through which the rest of the package reads X: numbered blocks of rows and passes over them.

Sums over blocks are formed in a fixed tree (`threads.tree_sum`, `threads.sum_of_rows`), so that a total does not depend
on which thread computed which block.
"""

import copy
import itertools

import numpy as np

from fastgd import kernels
from fastgd.data.columns import DenseColumns
from fastgd.data.moments import PIECE_VALUES, measured, moments_of, parts, slices, sums_of_squares, unlike
from fastgd.data.threads import either, tree_sum
from fastgd.kernels.codes import ACTIVATIONS, PLAIN, PointLoss

# Values of X in the smallest block: some 30 µs of work, a hundred times what handing it to a thread takes.
BLOCK_VALUES = 1 << 17
# Blocks: enough for 16 threads of unequal speed, few enough that their gradients stay small.
MOST_BLOCKS = 64
# Multiplications n·d·k of a pass from which more outputs go through BLAS: importing scipy's takes 0.15 s, once.
BLAS_VALUES = 1 << 18
# Multiplications of a BLAS matrix product in the time of one value of a pass over X.
BLAS_ADVANTAGE = 16


class Rows:
    """Rows of X with their targets and weights. Each kind of data is a subclass.

    A subclass calls `super().__init__(n, d, dtype)` and defines `dense`, which returns some rows as an array. `dense`
    is called from several threads at once and must return the same numbers each time. All other methods are built on it
    and on the kernels for arrays; a subclass overrides those for which it has a faster way. `LinearObjective` takes an
    instance as X; it ignores the targets and weights of that instance, and does not check it for NaN and infinity.

    Attributes
    ----------
    n, d : int
        Rows and columns.
    dtype : dtype
        float64 or float32: of X, Y, `weights` and the model's weights.
    Y : (n, k)
        Targets, set by `with_targets`.
    k : int
        Outputs.
    weights : (n,) or (0,)
        Sample weights; of length 0 if all are 1.
    values : int
        Numbers that a pass reads, the unit of its cost.
    one_array : bool
        True if X is a single array, on which one kernel call can make a whole pass or many steps (see `arrays`). Such a
        class also has `value_and_gradient`.
    has_columns : bool
        Whether some columns of all rows can be had at little cost: see `column_block`.
    """

    one_array = has_columns = False
    sums_about_mean = True  # False where `moments` are sums about 0
    in_memory = True  # False of rows that are elsewhere: see `data.distributed`
    offset = None  # (n,), see `data.offset`
    note = ""  # a remark for the message of a result

    def __init__(self, n, d, dtype, Y=None, weights=None):
        self.n, self.d, self.dtype, self.values = n, d, np.dtype(dtype), n * d
        self.Y, self.k = Y, 0 if Y is None else Y.shape[1]
        self._none = np.empty(0, self.dtype)
        self.weights = self._none if weights is None else weights

    # ----------------------------------------------------------------------------------- what a subclass has to define

    @classmethod
    def takes(cls, X):
        """Whether this class reads an X of that type. See `register`."""
        return isinstance(X, cls)

    @classmethod
    def checked(cls, X, dtype=None):
        """Validate X and return it as `made_of` takes it, in `dtype` if given; raise TypeError or ValueError."""
        if X.dtype not in (np.float32, np.float64) or (dtype is not None and X.dtype != dtype):
            takes = "float32 or float64" if dtype is None else np.dtype(dtype)
            raise TypeError(f"X must be of dtype {takes}; got {X.dtype}")
        return X

    @classmethod
    def made_of(cls, X, Y, weights):
        """The Rows of an X that `checked` returned."""
        return X.with_targets(Y, weights)

    def dense(self, part, dtype=None):
        """Some rows as a new C-contiguous array, which the caller may write to.

        Parameters
        ----------
        part : slice or array of int
            Which rows.
        dtype : dtype, optional
            By default that of the rows.
        """
        raise NotImplementedError(f"{type(self).__name__} must define dense(part, dtype=None)")

    # ------------------------------------------------------------------------------------------------------------ rows

    ndim = 2  # `ndim`, `shape`, indexing and `@` let Rows stand for an array in code that takes X

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
        """BLAS's matrix product for the kernels, or None where their own loops are faster."""
        # Up to 32 outputs the kernels' own loops are faster than BLAS.
        return kernels.gemm(self.dtype) if self.k > 32 and self.values * self.k >= BLAS_VALUES else None

    def view(self, part):
        """Some rows as an array that is only read; a view of X if X is an array."""
        return self.dense(part)

    def columns(self, numbers, part=slice(None)):
        """Some columns of some rows, as a new float64 array."""
        return self.view(part)[:, numbers].astype(np.float64)

    def column_block(self, numbers, shift, scale):
        """Some columns, centred and scaled, as coordinate descent takes them; see `data.columns`."""
        return DenseColumns(self, numbers, shift, scale)

    def with_targets(self, Y, weights=None):
        """The same rows with other targets and, if given, other weights."""
        other = copy.copy(self)
        other.Y, other.k = Y, Y.shape[1]
        if weights is not None:
            other.weights = weights
        return other

    def take(self, part):
        """The Rows of a slice or of an array of row numbers, with their targets and weights."""
        return Some(self, part)

    def sampled(self, count):
        """Equally spaced rows, about so many or a few more, with their targets and weights; all of a short table."""
        step = max(1, self.n // count)
        return self if step == 1 else self.take(slice(None, None, step))

    def sampled_count(self, count):
        """How many rows `sampled` gives."""
        return len(range(0, self.n, max(1, self.n // count)))

    def repeated(self, output, k):
        """The rows with the targets of one output for each of k outputs."""
        return self.with_targets(np.broadcast_to(self.Y[:, output : output + 1], (self.n, k)))

    def reduced(self, function, *arguments, combine=None):
        """function(rows, *arguments), a tuple of sums over the rows.

        Of rows in several places: of those in each, put together by combine(a, b), by default added up. The function
        is at the top level of a module, and is sent there.
        """
        return function(self, *arguments)

    def shares(self, part):
        """Sample weights of the rows of a slice, normalised to a sum of 1, float64."""
        count = len(range(*part.indices(self.n)))
        s = self.weights[part].astype(np.float64) if self.weights.size else np.ones(count)
        return s / s.sum() if s.any() else np.full(count, 1 / count)

    def write(self, part, out):
        """Write some rows to `out`, an array of any float dtype and strides."""
        out[...] = self.view(part)

    def extended(self):
        """All rows in long double; for small tables."""
        return self.view(slice(None)).astype(np.longdouble)

    def arrays_for_digest(self):
        """Arrays whose bytes identify X, for the digest in a checkpoint: here its shape and a sample of the rows."""
        return np.array(self.shape), self.dense(slice(None, None, max(1, self.values // PIECE_VALUES)))

    # ---------------------------------------------------------------------------------------------------------- passes

    def blocks(self):
        """(first row, last row + 1) of each block: a function of the shape alone."""
        return even_blocks(self.n, self.values, self.d)

    def arrays(self, block):
        """X, Y and weights of a block."""
        part = slice(*block)
        return self.view(part), self.Y[part], self._weights_of(part)

    def sums(self, block, W, b, shift, activation, loss, gradient):
        """Of a block, in float64: (Σ s·loss by output,), and with `gradient` also Xᵀδ (d, k) and Σδ (k,)."""
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
        """`sums` of several blocks, each flattened into one row.

        Parameters
        ----------
        edges : (m + 1,) int64
            Block j holds the rows from edges[j] up to, but not including, edges[j + 1].
        *model
            W, b, shift, activation, loss and gradient, as for `sums`.

        Returns
        -------
        ndarray, (m, k + dk + k) or (m, k), float64
        """
        blocks = itertools.pairwise(edges.tolist())
        return np.array([np.concatenate([part.reshape(-1) for part in self.sums(block, *model)]) for block in blocks])

    def differences(self, block, W, b, steps, step_b, activation, loss):
        """loss(W + steps) − loss(W − steps) of a block for each weight moved alone, (d, k); the same for b, (k,)."""
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
        """Take stochastic steps on w, in place, over the rows in `order`.

        The parameters are those of `kernels.reference.one_layer.stochastic`; `rule` is `Update.kernel_arguments`, by
        default plain gradient descent.
        """
        kind, parameters, moments, done, *limits = PLAIN[self.dtype] if rule is None else rule
        step = 4 * batch  # kernels take four steps at a time: pieces of 4m steps round as one call
        for part in slices(len(order), step * max(1, PIECE_VALUES // (step * self.d))):
            rows = order[part]
            first, count = part.start // batch, -(-len(rows) // batch)
            # With a loss that is a sum over n rows a step has the share batch/n of the penalty. The kernel sees only
            # len(rows) of them.
            share = l2 if mean else l2 * (len(rows) / self.n)
            kernels.active.stochastic(
                self.dense(rows), self.Y[rows], w, self._weights_of(rows), activation, loss, factor, share,
                np.arange(len(rows)), batch, mean, rates[first : first + count], kind, parameters, moments,
                done + first, *limits,
            )  # fmt: skip

    def scaled(self, shift, scale):
        """(X − shift)/scale as Rows, for stochastic steps, and the shift that was subtracted.

        Rows are transformed when they are fetched, in the dtype of X. Columns with an infinite scale become 0. Sparse
        rows are not centred, as that would fill them in: the returned shift is then 0.
        """
        return Scaled(self, shift, scale), shift

    # ------------------------------------------------------------------------------------- moments, products, measures

    def pieces(self, shift=0.0, scale=1.0):
        """Iterate over pieces of rows: √s·(X − shift)/scale in float64, √s, and the slice."""
        for part in parts(self.n, self.d):
            A = self.view(part).astype(np.float64)
            root = np.ones(len(A))
            A -= shift
            A /= scale
            if self.weights.size:
                root = np.sqrt(self.weights[part].astype(np.float64))
                A *= root[:, None]
            yield A, root, part

    def moments(self):
        """The `Moments` of the columns; None if their squares overflow or underflow."""
        return moments_of(self)

    def differs(self, columns, numbers):
        """Whether any of `columns` has an entry other than numbers[column]."""
        return bool(np.any(self.reduced(unlike, columns, numbers[columns], combine=either)[0]))

    def varies(self, columns):
        """Which of some columns are not the same number in all rows."""
        first = self.columns(columns, slice(0, 1))[0]
        return self.reduced(unlike, columns, first, combine=either)[0]

    def quick_means(self):
        """Means of the columns by BLAS, from sums in the dtype of X."""
        return self.column_product(self.shares(slice(None)).astype(self.dtype))

    def column_means(self):
        return self.column_sums() / self.total_weight

    def column_lengths(self, shift):
        """√Σs(x − shift)² of each column; squares neither overflow nor underflow."""
        largest = self.column_largest(shift)
        unit = np.where(largest > 0, largest, 1.0)
        return unit * np.sqrt(self.column_squares(shift, unit))

    def column_sums(self):
        """Σ s·x of each column."""
        return sum(np.sum(A * root[:, None], axis=0) for A, root, _ in self.pieces())

    def column_squares(self, shift, unit):
        """Σ s((x − shift)/unit)² of each column."""
        return sum(np.sum(A**2, axis=0) for A, *_ in self.pieces(shift, unit))

    def column_largest(self, shift):
        """max √s|x − shift| of each column."""
        return np.max([np.max(np.abs(A), axis=0) for A, *_ in self.pieces(shift)], axis=0)

    def sums_of_squares(self, origin):
        """Σ s(x − origin), (d,), and Σ s(x − origin)(x − origin)ᵀ, (d, d)."""
        return sums_of_squares(self, origin)

    def measures(self, centring, sample=None):
        """Mean and standard deviation of each column, and which columns are constant.

        Parameters
        ----------
        centring : bool
            False: the means are taken to be 0.
        sample : int, optional
            Number of rows, equally spaced, to estimate from; by default all. Sparse rows always use all.

        Returns
        -------
        means, spreads : (d,) float64
            Means rounded to the dtype of X, and √(Σs(x − mean)²/Σs).
        still : (d,) bool
            Columns that vary by no more than the rounding error of their entries.
        """
        return measured(self, centring, sample)

    def rough_measures(self, centring):
        """(means, spreads) of `measures` where one quick pass gives some digits of them; else None."""
        return None

    def product(self, part, W):
        """XW for some rows, in the wider of both dtypes."""
        return self.view(part) @ W

    def column_product(self, u):
        """Xᵀu by BLAS, in the wider of both dtypes."""
        return sum(self.view(part).T @ u[part] for part in parts(self.n, self.d))

    def transposed_product(self, u):
        """Xᵀ(s·u), (d, k) float64, for u (n, k).

        By the kernels, as the gradient of Σ s·½(xW − y)² at W = 0 for y = −u: in blocks, so reproducible.
        """
        source = self.with_targets(np.ascontiguousarray(-u, dtype=self.dtype))
        zeros = np.zeros((self.d, source.k), self.dtype), np.zeros(source.k, self.dtype)
        codes = ACTIVATIONS["identity"], PointLoss("squared")
        return tree_sum([source.sums(block, *zeros, None, *codes, True)[1:2] for block in source.blocks()])[0]

    def gram_products(self):
        """The cost of forming XᵀX, in values of a pass over X that take as long."""
        return self.n * self.d * self.d / BLAS_ADVANTAGE

    # ---------------------------------------------------------------------------------------------------------- private

    def _weights_of(self, part):
        return self.weights[part] if self.weights.size else self.weights


class OfArrays(Rows):
    """Rows of an X in memory, dense or sparse, that NumPy or scipy indexes and multiplies."""

    has_columns = True

    def __init__(self, X, Y, weights):
        super().__init__(*X.shape, X.dtype, Y, weights)
        self.X = X

    @classmethod
    def made_of(cls, X, Y, weights):
        return cls(X, Y, weights)

    def take(self, part):
        Y, weights = (np.ascontiguousarray(array) for array in (self.Y[part], self._weights_of(part)))
        return type(self)(self.X[part], Y, weights)

    def with_targets(self, Y, weights=None):
        return type(self)(self.X, Y, self.weights if weights is None else weights)

    def product(self, part, W):
        return self.X[part] @ W

    def column_product(self, u):
        return self.X.T @ u


class Some(Rows):
    """A selection of the rows of a source, fetched when they are needed."""

    def __init__(self, source, part):
        self._source, self._numbers = source, np.arange(source.n)[part]
        Y = None if source.Y is None else np.ascontiguousarray(source.Y[part])
        weights = np.ascontiguousarray(source._weights_of(part))
        super().__init__(len(self._numbers), source.d, source.dtype, Y, weights)

    def dense(self, part, dtype=None):
        return self._source.dense(self._numbers[part], dtype)


class Scaled(Rows):
    """The rows of a source, centred and scaled when they are fetched, in the dtype of the source."""

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
    """(first row, last row + 1) of blocks of equally many rows.

    At most MOST_BLOCKS blocks, each of at least `least` rows, BLOCK_VALUES values and 16·d values, so that adding up
    their gradients, of length d, costs little.
    """
    count = int(max(1, min(MOST_BLOCKS, values // BLOCK_VALUES, values // (16 * d), n // least)))
    edges = [n * i // count for i in range(count + 1)]
    return list(itertools.pairwise(edges))
