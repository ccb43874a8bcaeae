"""Where the data of an objective live: rows behind one interface, dense or CSR, cut into fixed blocks.

A source of rows has `n`, `d`, `k`, `dtype`, `Y` (n, k), `weights` (n,) or (0,), and

    blocks()                     numbers of the first and last row of each block: a function of the shape alone
    sums(block, …)               loss and gradient of one block, by a kernel
    block_sums(blocks, …)        the same of several, as rows of an array
    differences(block, …)        how its loss changes with each weight, from values alone, by a kernel
    pieces(shift, scale)         the rows in float64, shifted, scaled and weighted, a few at a time
    stochastic(w, order, …)      steps of stochastic descent, by a kernel: plain ones, or by the rule of an optimizer

Whoever adds up blocks does so in a tree (`tree_sum`, `sum_of_rows`), so that a total does not depend on who computed
which block.
"""

import concurrent.futures
import itertools
import os
import typing

import numpy as np

from fastgd import kernels, validation
from fastgd.kernels.reference_updates import PLAIN

# A block has about this many values at least (it must be worth handing to a thread), and there are at most so many.
BLOCK_VALUES = 1 << 17
MOST_BLOCKS = 64
# Below this many values a pass takes less than threads cost.
THREAD_VALUES = 1 << 20
# From this many outputs and multiplications on, BLAS is worth the 0.15 s that importing scipy's takes, once.
BLAS_OUTPUTS = 2
BLAS_VALUES = 1 << 18
PIECE_VALUES = 1 << 17
# Products of pieces are quickest where these are about as long as wide, up to this many rows; and from so many
# multiplications on by BLAS's own routine for them.
PIECE_ROWS, SYRK_PRODUCTS = 1024, 1 << 30
# So many rows tell roughly where a column lies and how far it spreads.
SAMPLE_ROWS = 256
# A mean of up to so many spreads takes three digits from a variance that is computed about zero.
NEAR_ZERO = 10.0
# A sum of squares below this may have lost some of them to underflow.
TINY_SQUARES = 1e-280
# Where less than this share of the squares of a column is left once it is centred, they are summed about its mean; and
# those of CSR rows, for which that takes dense pieces, where less than the second is left.
LEFT = 1e-4, 1e-8


class Dense:
    """Rows of an array of any strides."""

    def __init__(self, X, Y, weights):
        self.X, self.Y, self.weights = X, Y, weights
        (self.n, self.d), self.k, self.dtype = X.shape, Y.shape[1], X.dtype
        self.values = X.size
        self._none = np.empty(0, self.dtype)

    def blocks(self):
        return even_blocks(self.n, self.values, self.d)

    @property
    def gemm(self):
        large = self.k >= BLAS_OUTPUTS and self.values * self.k >= BLAS_VALUES
        return kernels.gemm(self.dtype) if large else None

    def arrays(self, block):
        """X, Y and weights of a block."""
        if block == (0, self.n):
            return self.X, self.Y, self.weights
        rows = slice(*block)
        return self.X[rows], self.Y[rows], self.weights[rows] if self.weights.size else self.weights

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

    def block_sums(self, edges, W, b, shift, activation, loss, gradient):
        """A row of totals, gradient by W and gradient by b for each block, (m, k + dk + k); or of totals, (m, k)."""
        out = np.empty((len(edges) - 1, 2 * self.k + W.size if gradient else self.k))
        kernels.active.block_sums(
            self.X, self.Y, W, b, self._none if shift is None else shift, self.weights, activation, loss, self.gemm,
            edges, out,
        )  # fmt: skip
        return out

    def value_and_gradient(self, w, activation, loss, factor, l2, edges, gradient):
        """The value at w, (d, k) or (d + 1, k), in one call of a kernel; the gradient is written to `gradient`."""
        return kernels.active.value_and_gradient(
            self.X, self.Y, w, self.weights, activation, loss, self.gemm, factor, l2, edges, gradient
        )  # fmt: skip

    def differences(self, block, W, b, steps, step_b, activation, loss):
        """Differences of the loss of a block between W ± steps and between b ± step_b, for each weight alone."""
        X, Y, weights = self.arrays(block)
        by_W, by_b = np.empty(W.shape), np.empty(len(step_b))
        kernels.active.perturbed_pass(X, Y, W, b, steps, step_b, weights, activation, loss, by_W, by_b)
        return by_W, by_b

    def pieces(self, shift=0.0, scale=1.0):
        """√s·(X − shift)/scale in float64, √s, and the rows' slice, a few rows at a time."""
        return transformed(self.X.__getitem__, self, shift, scale)

    def differs(self, columns, numbers):
        """Whether any of these columns holds anything but its number."""
        return bool(np.any(self.X[:, columns] != numbers[columns]))

    def moments(self, origin=None):
        """See `Moments`; None where squares of the columns leave the range of floating point."""
        if origin is None:
            sample = self.X[:: max(1, self.n // SAMPLE_ROWS)].astype(np.float64)
            with np.errstate(all="ignore"):
                origin = sample.mean(axis=0)
                # About zero a piece of float64 rows needs no copy.
                if np.all(np.abs(origin) <= NEAR_ZERO * sample.std(axis=0)):
                    origin = np.zeros(self.d)
        first, second = np.zeros(self.d), Products(self.d, self.values)
        length = max(1, PIECE_VALUES // self.d, min(self.d, PIECE_ROWS))
        ones = np.ones(min(length, self.n))
        with np.errstate(all="ignore"):
            for start in range(0, self.n, length):
                part = slice(start, min(start + length, self.n))
                A = self.X[part]
                if A.dtype != np.float64 or origin.any():
                    A = A - origin  # in float64, like the origin
                if self.weights.size:
                    root = np.sqrt(self.weights[part].astype(np.float64))
                    A = A * root[:, None]
                    first += root @ A
                else:
                    first += ones[: len(A)] @ A  # three times as quick as A.sum(axis=0) for few columns
                second.add(A)
        return centred(self, origin, first, second.total)

    def predict(self, W, b, activation):
        out = np.empty((self.n, self.k), self.dtype)
        kernels.active.predict(self.X, W, b, activation, self.gemm, out)
        return out

    def stochastic(self, w, activation, loss, factor, l2, order, batch, mean, rates, rule=None):
        rule = PLAIN[self.dtype] if rule is None else rule
        kernels.active.stochastic(
            self.X, self.Y, w, self.weights, activation, loss, factor, l2, order, batch, mean, rates, *rule
        )  # fmt: skip

    def with_targets(self, Y):
        return Dense(self.X, Y, self.weights)


class Sparse:
    """Rows of a scipy.sparse matrix or array in CSR form."""

    def __init__(self, X, Y, weights):
        self.X, self.Y, self.weights = X, Y, weights
        (self.n, self.d), self.k, self.dtype = X.shape, Y.shape[1], X.dtype
        self.values = X.nnz
        # scipy may keep the two arrays of numbers in different types; the kernels take one.
        wide = np.int64 if X.indptr.dtype != X.indices.dtype else X.indices.dtype
        self._data = np.ascontiguousarray(X.data)
        self._indices, self._indptr = (np.ascontiguousarray(a, dtype=wide) for a in (X.indices, X.indptr))

    def blocks(self):
        return even_blocks(self.n, self.values, self.d)

    def sums(self, block, W, b, shift, activation, loss, gradient):
        first, last = block
        weights = self.weights[first:last] if self.weights.size else self.weights
        Y, pointers = self.Y[first:last], self._indptr[first : last + 1]
        if shift is not None:  # (x − m)W + b = xW + (b − mW): a shifted sparse row is dense, so the algebra does it
            b = (b.astype(np.float64) - shift.astype(np.float64) @ W).astype(self.dtype)
        totals = np.empty(self.k)
        grad_W, grad_b = (np.empty(W.shape), np.empty(self.k)) if gradient else (np.empty((0, 0)), np.empty(0))
        kernels.active.sparse_pass(
            self._data, self._indices, pointers, Y, W, b, weights, activation, loss, totals, grad_W, grad_b
        )  # fmt: skip
        if not gradient:
            return (totals,)
        if shift is not None:
            grad_W -= shift.astype(np.float64)[:, None] * grad_b
        return totals, grad_W, grad_b

    def block_sums(self, edges, *model):
        blocks = itertools.pairwise(edges.tolist())
        return np.array([np.concatenate([part.reshape(-1) for part in self.sums(block, *model)]) for block in blocks])

    def differences(self, block, W, b, steps, step_b, activation, loss):
        first, last = block
        by_W, by_b = np.empty(W.shape), np.empty(len(step_b))
        kernels.active.sparse_perturbed_pass(
            self._data, self._indices, self._indptr[first : last + 1], self.Y[first:last], W, b, steps, step_b,
            self.weights[first:last] if self.weights.size else self.weights, activation, loss, by_W, by_b,
        )  # fmt: skip
        return by_W, by_b

    def pieces(self, shift=0.0, scale=1.0):
        return transformed(lambda part: self.X[part].toarray(), self, shift, scale)

    def differs(self, columns, numbers):
        return bool(np.any(self.X[:, columns].data != 0))  # the numbers are zeros

    def varies(self, columns):
        """Whether any of these columns holds different numbers."""
        X = self.X[:, columns]
        return bool(np.any(X.min(axis=0).toarray() != X.max(axis=0).toarray()))

    def moments(self, origin=None):
        """See `Moments`; None also where columns are too far off. About zero: a shifted sparse row is dense."""
        X = self.X.astype(np.float64)
        weighted = X.multiply(self.weights.astype(np.float64)[:, None]).tocsr() if self.weights.size else X
        with np.errstate(all="ignore"):
            first = np.asarray(weighted.sum(axis=0)).reshape(-1)
            return centred(self, np.zeros(self.d), first, (X.T @ weighted).toarray())

    def predict(self, W, b, activation):
        # f of the rows' h, as a model with one weight of 1 for each output.
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

    def with_targets(self, Y):
        return Sparse(self.X, Y, self.weights)


def even_blocks(n, values, d, least=1):
    """First and last rows of blocks of equal numbers of rows.

    At most MOST_BLOCKS, of `least` rows or more; and a block's gradient, of length d, must be small beside its values.
    """
    count = int(max(1, min(MOST_BLOCKS, values // BLOCK_VALUES, values // (16 * d), n // least)))
    edges = [n * i // count for i in range(count + 1)]
    return list(itertools.pairwise(edges))


class Products:
    """Σ AᵀA of pieces A of rows, (d, d) float64."""

    def __init__(self, d, values):
        self._sum, self._rank_k = np.zeros((d, d), order="F"), None
        if d * values >= SYRK_PRODUCTS:  # it adds to half of the sum in place, but importing it takes its time
            from scipy.linalg.blas import dsyrk

            self._rank_k = dsyrk

    def add(self, A):
        if self._rank_k is None:
            self._sum += A.T @ A
        else:
            self._sum = self._rank_k(1.0, A.T, 1.0, self._sum, overwrite_c=1)

    @property
    def total(self):
        if self._rank_k is None:
            return self._sum
        return np.triu(self._sum) + np.triu(self._sum, 1).T


class Moments(typing.NamedTuple):
    """The total weight, the means (d,) of the columns, and Σs(x − mean)(x − mean)ᵀ (d, d), all float64."""

    weight: float
    mean: np.ndarray
    centred: np.ndarray

    def about(self, shift):
        """Σs(x − shift)(x − shift)ᵀ."""
        offset = self.mean - shift
        with np.errstate(under="ignore"):
            return self.centred + self.weight * np.outer(offset, offset)


def centred(source, origin, first, second):
    """The Moments from Σs(x − origin) and Σs(x − origin)(x − origin)ᵀ; None where they cannot be had from these."""
    weight = float(np.sum(source.weights, dtype=np.float64)) if source.weights.size else float(source.n)
    squares = np.diag(second)
    tiny = np.flatnonzero(squares < TINY_SQUARES)
    if not np.all(np.isfinite(second)) or (tiny.size and source.differs(tiny, origin)):
        return None
    with np.errstate(under="ignore"):
        found = Moments(weight, origin + first / weight, second - np.outer(first, first) / weight)
    # Where the origin was far off, the difference has lost too many digits; now the mean is known.
    left = np.diag(found.centred)
    if isinstance(source, Dense):
        if not np.all(np.isfinite(found.mean)):
            return None
        far = np.any(left < LEFT[0] * squares) and not np.array_equal(origin, found.mean)
        return source.moments(found.mean) if far else found
    doubtful = np.flatnonzero(left < LEFT[1] * squares)
    return None if doubtful.size and source.varies(doubtful) else found


def transformed(take, source, shift, scale):
    """√s·(X − shift)/scale of a few rows at a time in float64, with √s and the slice; take(slice) gives the rows."""
    length = max(1, PIECE_VALUES // source.d)
    for start in range(0, source.n, length):
        part = slice(start, min(start + length, source.n))
        A = take(part).astype(np.float64)
        root = np.ones(len(A))
        A -= shift
        A /= scale
        if source.weights.size:
            root = np.sqrt(source.weights[part].astype(np.float64))
            A *= root[:, None]
        yield A, root, part


# ----------------------------------------------------------------------------------------------------------- threads


def tree_sum(parts):
    """The sum of tuples of numbers or arrays, in a tree that depends on their number alone."""
    if len(parts) == 1:
        return parts[0]
    while len(parts) > 1:
        pairs = [
            tuple(a + b for a, b in zip(*pair, strict=True)) for pair in zip(parts[::2], parts[1::2], strict=False)
        ]
        parts = pairs + parts[len(parts) - len(parts) % 2 :]
    return parts[0]


def sum_of_rows(array):
    """The sum of the rows of an array, in the tree of `tree_sum`."""
    while len(array) > 1:
        pairs = array[:-1:2] + array[1::2]
        array = np.concatenate([pairs, array[-1:]]) if len(array) % 2 else pairs
    return array[0]


def job_count(n_jobs):
    """Threads for `n_jobs`, as scikit-learn counts them: None is 1, −1 is every core."""
    if n_jobs is None:
        return 1
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    jobs = validation.count(n_jobs, "n_jobs", minimum=-cores)
    if jobs == 0:
        raise ValueError("n_jobs must not be 0; it takes a number of threads, or −1 for all cores")
    return jobs if jobs > 0 else cores + 1 + jobs


_pool = None


def _forget_pool():
    # The threads of a pool do not live on in a forked child, which would wait for them for ever.
    global _pool
    _pool = None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_pool)


def _pool_of(size):
    global _pool
    if _pool is None or _pool._max_workers < size:
        _pool = concurrent.futures.ThreadPoolExecutor(size, thread_name_prefix="fastgd")
    return _pool


def over_blocks(function, blocks, jobs):
    """[function(block) for each block], by so many threads, this one among them.

    The kernels release the GIL. A thread takes the next block when it is done with one, so that none waits for another.
    """
    if jobs <= 1 or len(blocks) == 1:
        return [function(block) for block in blocks]
    results = [None] * len(blocks)
    numbers = iter(range(len(blocks)))

    def work():
        for number in numbers:  # `next` on a range's iterator is one step under the GIL
            results[number] = function(blocks[number])

    helpers = min(jobs, len(blocks)) - 1
    futures = [_pool_of(helpers).submit(work) for _ in range(helpers)]
    try:
        work()
    finally:
        concurrent.futures.wait(futures)
    for future in futures:
        future.result()
    return results
