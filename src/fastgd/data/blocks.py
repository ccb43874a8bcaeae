"""Blocks of rows that are held where they are computed with: by this process, or by each worker of a cluster.

A pass sends a function to the blocks. Each holder adds up the results of its own blocks along a fixed binary tree over
all block numbers, as far as it has whole subtrees, and sends one result for each of these. What is left of the tree is
added up by whoever asked: the total does not depend on which block is where.
"""

import itertools
import os
import typing

import numpy as np

from fastgd import kernels, validation
from fastgd.data.dense import Dense
from fastgd.data.rows import Rows
from fastgd.data.sparse import Sparse
from fastgd.data.threads import over_blocks, sum_of_rows
from fastgd.linalg import MUCH_WORK, one_blas_thread

# ------------------------------------------------------------------------------------------------------ the fixed tree


def added(a, b):
    """The sum of two tuples of arrays, of each entry with its like."""
    return tuple(x + y for x, y in zip(a, b, strict=True))


def subtrees(parts, count, combine):
    """[(level, index, value)] of the largest subtrees that are whole here.

    The tree is that of `threads.tree_sum` over `count` leaves; node i of a level is made of 2i and 2i + 1 of the level
    below it.

    Parameters
    ----------
    parts : dict of int to value
        The leaves that are here.
    """
    found, level, nodes = [], 0, parts
    while count > 1:
        above = {}
        for i, value in nodes.items():
            if i % 2:
                if i - 1 not in nodes:
                    found.append((level, i, value))
            elif i + 1 == count:
                above[i // 2] = value
            elif i + 1 in nodes:
                above[i // 2] = combine(value, nodes[i + 1])
            else:
                found.append((level, i, value))
        count, level, nodes = -(-count // 2), level + 1, above
    return found + [(level, i, value) for i, value in nodes.items()]


def joined(found, count, combine):
    """The root of the tree, from subtrees of all its holders."""
    level, nodes = 0, {}
    while True:
        nodes |= {i: value for at, i, value in found if at == level}
        if count == 1:
            return nodes[0]
        above = {}
        for i, value in nodes.items():
            if i % 2 == 0:
                above[i // 2] = value if i + 1 == count else combine(value, nodes[i + 1])
        count, level, nodes = -(-count // 2), level + 1, above


# -------------------------------------------------------------------------------------------------- what a holder holds


class Failed(Exception):
    """A function raised, in a block of this number."""

    def __init__(self, number, error):
        super().__init__(str(error))
        self.number, self.error = number, error


class Block(typing.NamedTuple):
    """A block as it was read, and what must be known of it to judge all of them.

    Attributes
    ----------
    rows : Rows or pyarrow Table
        With targets and weights as they were given; a table has them in `y` and `weights`.
    facts : dict
        n, d, dtype, y (shape of a target, kind), bad: (argument, sentence), or None.
    """

    rows: typing.Any
    facts: dict


class Step(typing.NamedTuple):
    """How rows of a block are made of others, by function(rows, *arguments); a recipe is a tuple of steps.

    `key` tells steps apart; `each` has more arguments of the blocks by their numbers, which are sent once.
    """

    key: int
    function: typing.Callable
    arguments: tuple = ()
    each: dict | None = None


def read(X, y=None, weights=None):
    """The Block of a chunk of X, in memory, with its targets and weights."""
    facts = {"bad": None, "kernels": kernels.active.name}
    try:
        rows = _rows_of_chunk(X, facts)
        n = facts["n"]
        Y = None if y is None else _numbers_or_labels(y, "y", n)
        s = None if weights is None else _numbers_or_labels(weights, "sample_weight", n).astype(np.float64)
    except (ValueError, TypeError) as error:
        facts["bad"] = str(error)
        return Block(None, facts)
    if Y is not None:
        facts["y"], Y = (Y.shape[1:], Y.dtype), Y.reshape(n, 1 if Y.ndim == 1 else Y.shape[1])
    if isinstance(rows, Rows):
        rows.Y, rows.k = Y, 0 if Y is None else Y.shape[1]
        rows.weights = rows.weights if s is None else s.astype(rows.dtype)
    else:
        rows = Cells(rows, Y, s)
    return Block(rows, facts)


class Cells(typing.NamedTuple):
    """A block that is a table of columns."""

    table: typing.Any
    Y: np.ndarray | None
    weights: np.ndarray | None

    @property
    def n(self):
        return self.table.num_rows


def _rows_of_chunk(X, facts):
    from fastgd.data.tables import frame, is_frame

    if is_frame(X):
        table = frame(X)
        n, d = table.shape
        facts |= {"n": n, "d": d, "dtype": "a frame", "values": n * d, "sparse": False}
        return table
    if hasattr(X, "tocsr"):  # also of the package sparse
        X = Sparse.checked(X.tocsr())
        values = X.data
    else:
        X = np.asarray(X)
        if X.ndim != 2:
            raise ValueError(f"X must be 2-dimensional; got a block of shape {X.shape}")
        X = values = validation.real_array(X, "X", ndim=2, finite=False)
    facts |= {"n": X.shape[0], "d": X.shape[1], "dtype": str(X.dtype), "values": values.size, "sparse": values is not X}
    bad = validation.first_bad(values)
    if bad is not None:
        if values is not X:
            bad = int(np.searchsorted(X.indptr, bad[0], side="right")) - 1, int(X.indices[bad])
        raise ValueError(f"row {bad[0]:,} of it holds {X[bad]} in column {bad[1]}; X must be finite")
    return (Dense if values is X else Sparse)(X, None, None)


def _numbers_or_labels(values, name, n):
    values = np.asarray(values.to_numpy() if hasattr(values, "to_numpy") else values)
    if len(values) != n:
        raise ValueError(f"{name} has {len(values)} rows in it, X has {n}: they must be equal")
    if values.dtype.kind == "f" and (bad := validation.first_bad(values)) is not None:
        raise ValueError(f"row {bad[0]:,} of it holds {values[bad]} in {name}, which must be finite")
    return values


# ----------------------------------------------------------------------------------------------------------- the holder


class Holder:
    """Some blocks, and what was made of them, for the time of a fit.

    Parameters
    ----------
    numbers : tuple of int
    jobs : int or None
        Threads for a pass; None: those of this worker of the cluster.
    *blocks : Block
    """

    def __init__(self, numbers, jobs, *blocks):
        self._blocks, self._made, self._each = dict(zip(numbers, blocks, strict=True)), {}, {}
        self._jobs = jobs or _threads_of_worker()

    def facts(self):
        """{number: facts} of the blocks."""
        return {number: block.facts for number, block in self._blocks.items()}

    def call(self, recipe, function, arguments, numbers, count, combine, forget):
        """Apply a function to the rows of blocks.

        Parameters
        ----------
        recipe : tuple of Step
        function, arguments
            function(rows, *arguments); the arguments of each block are arguments[0] and arguments[1][number], the
            latter where it is given.
        numbers : dict of int to int
            The blocks that are asked for, and which leaf each is.
        count : int or None
            Leaves of the tree; without it the values of the blocks are returned by their leaves, at level 0.
        forget : list of int
            Keys of steps whose rows are not needed any more.

        Returns
        -------
        list of (level, index, value), or (number, exception) of the first block that failed
        """
        for place in [place for place in self._made if place[0] in forget]:
            del self._made[place]
        for key in forget:
            self._each.pop(key, None)
        self._each |= {step.key: step.each for step in recipe if step.each is not None}
        common, each = arguments
        failed = []

        def of_block(task):
            number, share = task
            try:
                more = common if each is None else (*common, *each[number])
                rows = self._rows(number, recipe)
                return function(rows, *more) if share is None else rows.block_sums(share, *more)
            except Exception as error:
                failed.append((number, error))
                return None

        tasks = [(number, None) for number in numbers]
        if function is block_total and len(tasks) < 4 * self._jobs and self._jobs > 1:
            tasks = [(number, share) for number in numbers for share in self._shares(number, recipe)]
        with one_blas_thread(MUCH_WORK):
            values = over_blocks(of_block, tasks, self._jobs)
        if failed:
            return min(failed, key=lambda pair: pair[0])
        if len(tasks) > len(numbers) or (tasks and tasks[0][1] is not None):
            parts = {number: [] for number in numbers}
            for (number, _), value in zip(tasks, values, strict=True):
                parts[number].append(value)
            values = [(sum_of_rows(np.concatenate(part)),) for part in parts.values()]
        leaves = dict(zip(numbers.values(), values, strict=True))
        if count is None:
            return [(0, leaf, value) for leaf, value in leaves.items()]
        return subtrees(leaves, count, combine)

    def answer(self, message):
        """`call` with its arguments, and what it returns, as bytes."""
        from distributed.protocol.pickle import dumps, loads

        return dumps(self.call(*loads(message)))

    def _shares(self, number, recipe):
        """The edges of the blocks inside of a block, in parts."""
        edges = edges_of(self._rows(number, recipe))
        length = -(-(len(edges) - 1) // (4 * self._jobs))
        return [edges[first : first + length + 1] for first in range(0, len(edges) - 1, length)]

    def _rows(self, number, recipe):
        rows = self._blocks[number].rows
        for step in recipe:
            made = self._made.get((step.key, number))
            if made is None:
                more = self._each[step.key][number] if step.key in self._each else ()
                made = self._made[step.key, number] = step.function(rows, *step.arguments, *more)
            rows = made
        return rows


def _threads_of_worker():
    try:
        from distributed import get_worker

        return get_worker().state.nthreads
    except (ImportError, ValueError):
        return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def edges_of(rows):
    return np.array([0, *(last for _, last in rows.blocks())], np.int64)


def block_total(rows, *model):
    """The sums of a block over all its rows, (k + dk + k,) or (k,); see `Rows.block_sums`."""
    return (sum_of_rows(rows.block_sums(edges_of(rows), *model)),)


def pieces_of(array, edges):
    """A number for each row, cut at the edges of blocks."""
    return [np.ascontiguousarray(array[first:last]) for first, last in itertools.pairwise(edges)]
