"""Rows whose blocks are held by others, and columns of numbers beside them: targets and sample weights."""

import itertools
import math

import numpy as np

from fastgd.data import partials
from fastgd.data.blocks import Failed, Step, block_total, pieces_of
from fastgd.data.dense import Dense
from fastgd.data.moments import measured, moments_of
from fastgd.data.rows import Rows
from fastgd.data.threads import larger

# Rows from which a best constant is taken where it is a median: its error is about 1 % of the spread.
MEDIAN_ROWS = 1 << 14
# Rows that tell whether means are so large that squares are to be summed about them.
ORIGIN_ROWS = 256
# Blocks from which early stopping holds out whole blocks.
MANY_BLOCKS = 10


class Distributed(Rows):
    """Rows in the blocks of a `Place`, each an array or CSR there; `collections` makes them.

    A pass sends a function to the blocks and adds up what comes back, in a fixed tree over them. Rows come here only
    where some are asked for: samples of a few thousand, and one number for each row (targets, scores) for the solvers
    that need those.

    Parameters
    ----------
    place : Place
    recipe : tuple of Step
        How these rows are made of the blocks.
    numbers : list of int
        The blocks.
    edges : (m + 1,)
        First rows of the blocks, and n.
    """

    in_memory = weighted = sparse = False

    def __init__(self, place, recipe, numbers, edges, d, dtype, values):
        self.place, self.recipe, self.numbers, self.block_edges = place, recipe, numbers, np.asarray(edges)
        self._samples, self._whole, self._total, self._key = {}, None, None, None
        self._y_dtype, self.first_steps = np.dtype(dtype), len(recipe)
        super().__init__(int(edges[-1]), d, dtype)
        self.values = values

    @classmethod
    def made_of(cls, X, Y, weights):
        return X.with_targets(Y, weights)

    def __len__(self):
        return self.n

    def __del__(self):
        if getattr(self, "_key", None) is not None:
            self.place.drop(self._key)

    def _other(self, recipe=None, edges=None, numbers=None, **changes):
        """The same place with another recipe, and other blocks."""
        other = Distributed.__new__(Distributed)
        vars(other).update(vars(self) | {"_key": None})
        if recipe is not None or edges is not None:
            other._samples, other._whole = {}, None
        if recipe is not None:
            other.recipe, other._key = recipe, recipe[-1].key
            other._before = self  # whose step is not to be forgotten while this one is used
        if edges is not None:
            other.block_edges, other.numbers, other.n = edges, numbers, int(edges[-1])
            other.values, other._total = max(1, int(self.values * other.n / self.n)), None
        vars(other).update(changes)
        return other

    def _then(self, function, *arguments, each=None, **changes):
        """Rows that are made of these, block by block."""
        step = Step(self.place.new_key(), function, arguments, each)
        return self._other((*self.recipe, step), **changes)

    @property
    def note(self):
        return self.place.note

    # ------------------------------------------------------------------------------------------------------- to ask

    def reduced(self, function, *arguments, combine=None):
        return self._ask(function, arguments, **({} if combine is None else {"combine": combine}))

    def of_blocks(self, function, *arguments, each=None):
        """[(place of the block among these, function(rows, *arguments, *each[number]))]."""
        return self._ask(function, arguments, each=each, tree=False)

    def _ask(self, function, arguments, **options):
        try:
            return self.place.ask(self.recipe, self.numbers, function, arguments, **options)
        except Failed as failed:
            if not isinstance(failed.error, (ValueError, TypeError)):
                raise failed.error from None
            raise type(failed.error)(f"{self.named(failed.number)}: {failed.error}") from failed.error

    def named(self, number):
        """A block in a sentence."""
        at = self.numbers.index(number)
        return f"block {number} (rows {self.block_edges[at]:,} to {self.block_edges[at + 1] - 1:,})"

    # --------------------------------------------------------------------------------------------------------- rows

    def dense(self, part, dtype=None):
        found = self.gathered(part, partials.rows_at, (self.d,), self.dtype)
        return found if dtype is None else found.astype(dtype, copy=False)

    def columns(self, numbers, part=slice(None)):
        return self.gathered(part, partials.columns_at, (len(numbers),), np.float64, np.asarray(numbers))

    def gathered(self, part, function, shape, dtype, *arguments):
        """What function(rows, *arguments, part) gives of these rows, in their order."""
        edges = self.block_edges
        if isinstance(part, slice):
            first, last, step = part.indices(self.n)
            places, each, total = {}, {}, 0
            for at, (begin, end) in enumerate(itertools.pairwise(edges.tolist())):
                begin_in = first - begin if first >= begin else (first - begin) % step
                inside = range(begin_in, min(end, last) - begin, step)
                if len(inside):
                    each[self.numbers[at]] = (slice(inside.start, inside.stop, step),)
                    places[at] = slice(total, total + len(inside))
                    total += len(inside)
        else:
            numbers = np.flatnonzero(part) if np.asarray(part).dtype == bool else np.asarray(part)
            block, total = np.searchsorted(edges, numbers, "right") - 1, len(numbers)
            places = {at: np.flatnonzero(block == at) for at in np.unique(block).tolist()}
            each = {self.numbers[at]: (numbers[place] - edges[at],) for at, place in places.items()}
        out = np.empty((total, *shape), dtype)
        for at, values in self.of_blocks(function, *arguments, each=each) if each else ():
            out[places[at]] = values
        return out

    def sampled(self, count):
        if self._whole is not None:  # of all rows, of which a sample is here already
            return self._whole.sampled(count)
        part = slice(None, None, max(1, self.n // count))
        if part.step not in self._samples:
            self._samples[part.step] = self._brought(part)
        return self._samples[part.step]

    def sampled_count(self, count):
        return super().sampled_count(count) if self._whole is None else self._whole.sampled_count(count)

    def _brought(self, part):
        """Some rows, in memory."""
        found = self.gathered(part, partials.all_at, (self.d + self.k + self.weighted,), np.float64)
        X, Y, s = np.split(found, [self.d, self.d + self.k], axis=1)
        return Dense(*(np.ascontiguousarray(array, self.dtype) for array in (X, Y, s.reshape(-1))))

    def take(self, part):
        if isinstance(part, BlockMask):
            return part.of(self)
        whole = isinstance(part, slice) and part.indices(self.n)[:2] == (0, self.n)
        return self._every(part.indices(self.n)[2]) if whole else self._brought(part)

    def _every(self, step):
        """Every so-many-th row, where it is."""
        firsts = -self.block_edges[:-1] % step
        lengths = np.maximum(0, -(-(np.diff(self.block_edges) - firsts) // step))
        kept = np.flatnonzero(lengths)
        numbers = [self.numbers[i] for i in kept]
        each = {number: (int(firsts[i]),) for number, i in zip(numbers, kept, strict=True)}
        edges = np.concatenate([[0], np.cumsum(lengths[kept])])
        return self._then(partials.of_every, step, each=each, edges=edges, numbers=numbers, _whole=self)

    def held_out(self, share, seed):
        """BlockMasks of the rows to learn from and of those held out."""
        return BlockMask(self, share, seed, False), BlockMask(self, share, seed, True)

    # ------------------------------------------------------------------------------------------- targets and weights

    @property
    def Y(self):
        return Column(self, "Y", 2) if self.k else None

    @Y.setter
    def Y(self, value):  # they are where the rows are
        pass

    @property
    def weights(self):
        return Column(self, "weights", 1) if self.weighted else self._none

    @weights.setter
    def weights(self, value):
        pass

    def with_targets(self, Y, weights=None):
        """The same rows with a Column of theirs as targets, and one as weights; or with numbers from here."""
        if isinstance(Y, Column):
            return self._with_columns(Y, weights)
        k = Y.shape[1]
        if not any(Y.strides) and weights is None:  # one number for all
            return self._then(partials.with_constant_targets, Y.reshape(-1)[:1].copy(), k, k=k)
        pieces = [pieces_of(Y, self.block_edges)]
        if isinstance(weights, np.ndarray) and weights.size:
            pieces.append(pieces_of(weights, self.block_edges))
        each = dict(zip(self.numbers, ((piece,) for piece in zip(*pieces, strict=True)), strict=True))
        weighted = self.weighted or len(pieces) > 1
        return self._then(_given, each=each, k=k, weighted=weighted, _total=None, _y_dtype=self.dtype)

    def _with_columns(self, Y, weights):
        rows, of_weights = Y.rows, getattr(weights, "rows", None)
        own = {"k": rows.k, "_y_dtype": rows._y_dtype, "_before": (rows, of_weights)}
        if of_weights is None or of_weights.recipe == rows.recipe[: len(of_weights.recipe)]:
            return rows._other(weighted=of_weights is not None, **own)
        # Steps that made the weights see the targets that were there; then follow those that made other targets.
        common = len([1 for a, b in zip(rows.recipe, of_weights.recipe, strict=False) if a.key == b.key])
        again = [step._replace(key=self.place.new_key()) for step in rows.recipe[common:]]
        return of_weights._other((*of_weights.recipe, *again), weighted=True, **own)

    def with_weights(self, function, *arguments):
        """Weights function(targets (n,), weights or None, *arguments), as a Column of new rows."""
        return self._then(partials.with_other_weights, function, *arguments, weighted=True, _total=None).weights

    @property
    def total_weight(self):
        if self._total is None:
            self._total = float(self.reduced(partials.weight)[0]) if self.weighted else float(self.n)
        return self._total

    # ------------------------------------------------------------------------------------------------------- passes

    def blocks(self):
        return list(itertools.pairwise(self.block_edges.tolist()))

    def block_sums(self, edges, *model):
        """The total of all blocks, as one row."""
        return self.reduced(block_total, *model)[0][None]

    def sums(self, block, W, b, shift, activation, loss, gradient):
        """Of all blocks, whichever is named."""
        total, k = self.block_sums(None, W, b, shift, activation, loss, gradient)[0], W.shape[1]
        return (total[:k], total[k:-k].reshape(W.shape), total[-k:]) if gradient else (total,)

    def predict(self, W, b, activation):
        out, blocks = np.empty((self.n, W.shape[1]), self.dtype), self.blocks()
        for at, values in self.of_blocks(partials.predictions, W, b, activation):
            out[slice(*blocks[at])] = values
        return out

    def scaled(self, shift, scale):
        return self.stochastic()

    def stochastic(self, *arguments, **options):
        raise ValueError(
            'solver="sgd" goes through the rows one batch after another, and those of a dask collection are on several '
            'workers at once: leave solver to "auto", or feed the blocks to partial_fit, one after another'
        )

    def column_block(self, numbers, shift, scale):
        return self.pieces()

    def pieces(self, shift=0.0, scale=1.0):
        raise ValueError(
            "this needs all rows of X in one place, and those of a dask collection stay where they are: leave solver "
            'to "auto", or take X.compute()'
        )

    # ----------------------------------------------------------------------------------- moments, products, measures

    def extended(self):
        return self.dense(slice(None)).astype(np.longdouble)

    def arrays_for_digest(self):
        return np.array(self.shape), np.stack([value for _, value in self.of_blocks(partials.digest)])

    def moments(self):
        if not self.sparse:
            return moments_of(self, sample=self.sampled(ORIGIN_ROWS).X)
        found = moments_of(self, np.zeros(self.d))
        if found is None:
            return None
        # About 0 a variance loses half of its digits where less than 1e-8 of the sum of squares is left.
        spread = np.diag(found.centred)
        doubtful = np.flatnonzero(spread < 1e-8 * (spread + found.weight * found.mean**2))
        return None if doubtful.size and self.varies(doubtful).any() else found

    def sums_of_squares(self, origin):
        first, upper = self.reduced(partials.sums_of_squares, origin)
        second = np.empty((self.d, self.d))
        rows, columns = np.triu_indices(self.d)
        second[rows, columns] = second[columns, rows] = upper
        return first, second

    def measures(self, centring, sample=None):
        return measured(self, centring, None if self.sparse else sample)

    def column_sums(self):
        return self.reduced(partials.method, "column_sums")[0]

    def quick_means(self):
        return self.column_means()

    def column_squares(self, shift, unit):
        return self.reduced(partials.method, "column_squares", shift, unit)[0]

    def column_largest(self, shift):
        return self.reduced(partials.method, "column_largest", shift, combine=larger)[0]

    def product(self, part, W):
        return self.view(part) @ W

    def column_product(self, u):
        return self._product("column_product", u)

    def transposed_product(self, u):
        return self._product("transposed_product", np.ascontiguousarray(u))

    def _product(self, name, u):
        pieces = zip(self.numbers, pieces_of(u, self.block_edges), strict=True)
        return self._ask(partials.method, (name,), each={number: (piece,) for number, piece in pieces})[0]

    def gram_products(self):
        if not self.sparse:
            return super().gram_products()
        return sum(value for _, value in self.of_blocks(partials.gram_products))

    def repeated(self, output, k):
        return self._then(partials.of_one_output, output, k, k=k)


def _given(rows, piece):
    return rows.with_targets(*piece)


class Column:
    """Targets or weights of Distributed rows, as an array of which parts can be asked for.

    `np.asarray` brings all of them here, one number for each row and output.
    """

    def __init__(self, rows, name, ndim):
        self.rows, self.name, self.ndim = rows, name, ndim
        self.dtype = rows._y_dtype if name == "Y" else rows.dtype
        self._extremes = None

    @property
    def shape(self):
        return (self.rows.n, self.rows.k) if self.ndim == 2 else (self.rows.n,)

    @property
    def size(self):
        return math.prod(self.shape)

    @property
    def nbytes(self):
        return self.size * self.dtype.itemsize

    def __len__(self):
        return self.rows.n

    def __getitem__(self, part):
        if isinstance(part, BlockMask):
            return Column(part.of(self.rows), self.name, self.ndim)
        width = self.rows.k if self.name == "Y" else 1
        found = self.rows.gathered(part, partials.column_at, (width,), self.dtype, self.name)
        return found if self.ndim == 2 else found[:, 0]

    def __array__(self, dtype=None, copy=None):
        return self[:].astype(self.dtype if dtype is None else dtype, copy=False)

    def astype(self, dtype, copy=True):
        return np.asarray(self, dtype)

    def reshape(self, *shape):
        shape = shape[0] if isinstance(shape[0], tuple) else shape
        return Column(self.rows, self.name, len(shape))

    def _ends(self):
        if self._extremes is None:
            self._extremes = self.rows.reduced(partials.ends, self.name, combine=partials.wider)
        return self._extremes

    def min(self):
        return self._ends()[0]

    def max(self):
        return self._ends()[1]

    def any(self):
        return bool(self.min() or self.max())

    def labels(self):
        """The distinct targets, sorted, and how many rows have each."""
        return self.rows.reduced(partials.labels, combine=partials.merged_labels)[0]

    def mean_of_weight(self):
        """The weighted mean of each output, as targets of one row, (1, k)."""
        total, weight = self.rows.reduced(partials.weighted_targets)
        return (total / weight)[None]

    def sample(self):
        """Targets (m, k) and weights (m,), or None, of equally spaced rows."""
        part = slice(None, None, max(1, self.rows.n // MEDIAN_ROWS))
        weights = self.rows.weights[part].astype(np.float64) if self.rows.weighted else None
        return self[part].astype(np.float64), weights

    def prepared(self, record, dtype):
        """Targets as `DataTerm.prepared` makes them."""
        if record.categorical and self.ndim == 1:
            k = int(self.max()) + 1 if self.dtype.kind in "iufb" else 0
            return self.mapped(partials.class_numbers, k, dtype, k=k, ndim=2, dtype=dtype)
        return self.mapped(partials.prepared, record, dtype, dtype=dtype)

    def mapped(self, function, *arguments, k=None, ndim=None, dtype=None):
        """The targets function(y, *arguments), y (n,) or (n, k) in a block, as a Column of new rows."""
        k, dtype = self.rows.k if k is None else k, self.dtype if dtype is None else np.dtype(dtype)
        rows = self.rows._then(
            partials.with_other_targets, function, self.ndim == 1, *arguments, k=k, _y_dtype=dtype
        )  # fmt: skip
        rows.reduced(partials.nothing)  # what is refused is refused now
        return Column(rows, "Y", self.ndim if ndim is None else ndim)


class BlockMask:
    """Rows to learn from, or rows that are held out: whole blocks, or where there are few some rows of each."""

    def __init__(self, rows, share, seed, held):
        self._rows, self._arguments = {}, (share, seed, held)
        m = len(rows.numbers)
        self._blocks = None
        if m >= MANY_BLOCKS:
            out = np.isin(np.arange(m), np.random.default_rng(seed).permutation(m)[: max(1, round(share * m))])
            self._blocks = np.flatnonzero(out if held else ~out)
        else:
            each = {number: (number,) for number in rows.numbers}
            self._step = Step(rows.place.new_key(), partials.held_out, self._arguments, each)

    def of(self, rows):
        """These of the rows."""
        lengths = np.diff(rows.block_edges)
        if self._blocks is not None:
            edges = np.concatenate([[0], np.cumsum(lengths[self._blocks])])
            return rows._other(edges=edges, numbers=[rows.numbers[i] for i in self._blocks], _before=rows)
        share, _, held = self._arguments
        out = np.array([round(share * int(length)) for length in lengths])
        edges = np.concatenate([[0], np.cumsum(out if held else lengths - out)])
        # The first step, so that columns of one mask have it in common, whatever they are made of.
        base = rows.first_steps
        again = [step._replace(key=rows.place.new_key()) for step in rows.recipe[base:]]
        return rows._other((*rows.recipe[:base], self._step, *again), edges=edges, numbers=rows.numbers)
