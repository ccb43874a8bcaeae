"""What holders of blocks are asked to compute: functions of the rows of one block, found by their names anywhere."""

import hashlib

import numpy as np

from fastgd import validation
from fastgd.data.dense import Dense
from fastgd.data.sparse import Sparse
from fastgd.data.threads import tree_sum

# Classes that are sent from a block.
MOST_LABELS = 10_000

# ------------------------------------------------------------------------------------------ rows made of other rows


def with_other_targets(rows, function, one_column, *arguments):
    """Targets that are made of those that are there, (n,) where they are one column without a name."""
    y = np.ascontiguousarray(function(rows.Y[:, 0] if one_column else rows.Y, *arguments))
    return rows.with_targets(y.reshape(rows.n, -1))


def prepared(y, record, dtype):
    """Targets as the kernels take them; see `DataTerm.prepared`."""
    return record.prepared(validation.real_array(y, "y", dtype=dtype), dtype)


def class_numbers(y, k, dtype):
    """Numbers of classes as columns of 0 and 1."""
    if k < 2:
        raise ValueError("y must hold numbers of two classes or more for the softmax: 0, 1, 2, …")
    numbers = y.astype(np.int64)
    if np.any(numbers != y) or numbers.min() < 0:
        raise ValueError("a y of one dimension must hold numbers of classes for the softmax: 0, 1, 2, …")
    return np.equal.outer(numbers, np.arange(k)).astype(dtype)


def with_constant_targets(rows, target, k):
    return rows.with_targets(np.broadcast_to(target.astype(rows.dtype), (rows.n, k)))


def with_given_targets(rows, Y, weights=None):
    return rows.with_targets(Y, weights)


def with_other_weights(rows, function, *arguments):
    """Weights function(Y[:, 0], weights or None, …)."""
    s = function(rows.Y[:, 0], rows.weights if rows.weights.size else None, *arguments)
    return rows.with_targets(rows.Y, s.astype(rows.dtype))


def of_every(rows, step, first):
    return rows.take(slice(first, None, step))


def of_one_output(rows, output, k):
    return rows.repeated(output, k)


def held_out(rows, share, seed, held, number):
    """Some of the rows of a block, or the others."""
    order = np.random.default_rng((seed, number)).permutation(rows.n)
    out = np.zeros(rows.n, bool)
    out[order[: round(share * rows.n)]] = True
    return rows.take(np.flatnonzero(out if held else ~out))


def encoded(cells, encoder, dtype):
    """Rows of a block that is a table of columns."""
    none = np.empty(0, dtype)
    weights = none if cells.weights is None else cells.weights.astype(dtype)
    return Dense(encoder.encode(cells.table).astype(dtype, copy=False), cells.Y, weights)


# ---------------------------------------------------------------------------------------------------------- some rows


def rows_at(rows, part):
    return rows.dense(part)


def all_at(rows, part):
    """X, Y and weights side by side, in float64."""
    s = [rows.weights[part]] if rows.weights.size else []
    Y = [] if rows.Y is None else [rows.Y[part]]
    return np.column_stack([rows.dense(part, np.float64), *Y, *s])


def columns_at(rows, numbers, part):
    return rows.columns(numbers, part)


def column_at(rows, name, part):
    return getattr(rows, name)[part].reshape(-1, rows.k if name == "Y" else 1)


def predicted(X, W, b, activation, tail):
    """f(XW + b) of a block that is no Rows yet, (n, *tail)."""
    rows = Sparse.checked(X, W.dtype) if Sparse.takes(X) else validation.real_array(X, "X", ndim=2, dtype=W.dtype)
    if rows.shape[1] != len(W):
        raise ValueError(f"X must have {len(W)} columns; got a block of shape {rows.shape}")
    rows = (Sparse if Sparse.takes(X) else Dense)(rows, np.empty((rows.shape[0], W.shape[1]), W.dtype), np.empty(0))
    return rows.predict(W, b, activation).reshape(rows.n, *tail)


def predictions(rows, W, b, activation):
    if rows.k != W.shape[1]:  # sparse rows make as many outputs as there are targets
        rows = rows.with_targets(np.broadcast_to(rows.dtype.type(0), (rows.n, W.shape[1])))
    return rows.predict(W, b, activation)


# ----------------------------------------------------------------------------------------------------------------- sums


def method(rows, name, *arguments):
    """What a method of Rows returns, sums all of it."""
    found = getattr(rows, name)(*arguments)
    return found if isinstance(found, tuple) else (found,)


def sums_of_squares(rows, origin):
    """Those of Rows, the symmetric matrix by its upper half."""
    first, second = rows.sums_of_squares(origin)
    return first, second[np.triu_indices(rows.d)]


def nothing(rows):
    return (0,)


def weight(rows):
    return (rows.total_weight,)


def ends(rows, name):
    values = getattr(rows, name)
    return values.min(), values.max()


def wider(a, b):
    return min(a[0], b[0]), max(a[1], b[1])


def weighted_targets(rows):
    """Σ s·y of each output, and Σ s."""
    if not rows.weights.size:
        return np.sum(rows.Y, axis=0, dtype=np.float64), float(rows.n)
    s = rows.weights.astype(np.float64)
    return s @ rows.Y.astype(np.float64), float(s.sum())


def labels(rows):
    """The distinct targets and how many rows have each, as one tuple."""
    y = rows.Y[:, 0]
    if y.dtype.kind in "iuf":  # most have two: sorting takes longer than a pass over X
        low, high = y.min(), y.max()
        second = np.count_nonzero(y == high)
        if low < high and second + np.count_nonzero(y == low) == len(y):
            return ((np.array([low, high]), np.array([len(y) - second, second])),)
    try:
        found = np.unique(y, return_counts=True)
    except TypeError:
        raise TypeError("y must hold texts, or numbers, for labels; it holds several kinds of objects") from None
    if len(found[0]) > MOST_LABELS:
        raise ValueError(f"y holds more than {MOST_LABELS:,} different numbers or texts, which are no classes")
    return (found,)


def merged_labels(a, b):
    (one, counts), (other, more) = a[0], b[0]
    both = np.unique(np.concatenate([one, other]))
    found = np.zeros(len(both), np.result_type(counts, more))
    found[np.searchsorted(both, one)] += counts
    found[np.searchsorted(both, other)] += more
    return ((both, found),)


def digest(rows):
    """Some bytes that identify a block."""
    found = hashlib.sha256()
    for array in rows.arrays_for_digest():
        stride = max(1, array.nbytes >> 20)
        found.update(f"{array.shape} {array.dtype.str}".encode())
        found.update(np.ascontiguousarray(array[::stride]).tobytes())
    return np.frombuffer(found.digest(), np.uint8)


def value_at_constant(rows, b, activation, loss):
    """Σ s·loss by output at W = 0."""
    column = Dense(np.zeros((rows.n, 1), rows.dtype), rows.Y, rows.weights)
    W = np.ones((1, rows.k), rows.dtype)
    return tree_sum([column.sums(block, W, b, None, activation, loss, False) for block in column.blocks()])


def gram_products(rows):
    return rows.gram_products()
