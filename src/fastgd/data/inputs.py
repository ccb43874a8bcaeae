"""What is taken for X, and which kind of rows it makes."""

import numpy as np

from fastgd import validation
from fastgd.data.dense import Dense
from fastgd.data.rows import Rows
from fastgd.data.sparse import Sparse

# Asked in this order: the first whose `takes` is true is used. The last, Dense, takes everything.
_kinds = [Sparse, Rows, Dense]


def register(kind):
    """Register a kind of data, a subclass of Rows. It is returned, so that this is a decorator.

    From then on an X that `kind.takes` is its: `kind.checked` coerces it and `kind.made_of` makes the rows. A subclass
    whose instances are the data themselves needs none of the three.
    """
    if not (isinstance(kind, type) and issubclass(kind, Rows)):
        raise TypeError(f"a kind of data must be a subclass of Rows; got {validation.describe(kind)}")
    if kind not in _kinds:
        _kinds.insert(0, kind)
    return kind


def kind_of(X):
    """The class of rows that an X makes."""
    return next(kind for kind in _kinds if kind.takes(X))


def rows_of(X, Y, weights):
    """The Rows of a checked X (n, d) with targets Y (n, k) and weights (n,), or (0,) for ones; all of one dtype."""
    if type(X) is np.ndarray:  # as most are
        return Dense(X, Y, weights)
    return kind_of(X).made_of(X, Y, weights)


def rows_of_another_kind(X):
    """The Rows, without targets, of an X of a registered kind; None for sparse matrices and what becomes an array."""
    kind = Dense if type(X) is np.ndarray else kind_of(X)
    if kind is Sparse or kind is Dense:
        return None
    X = kind.checked(X)
    if not X.in_memory:
        return X
    return kind.made_of(X, np.empty((X.shape[0], 0), X.dtype), np.empty(0, X.dtype))


def samples(X, dtype=None, least=1):
    """X as an (n, d) array, as CSR if it is sparse, or as its own kind has it; of a column and `least` rows or more."""
    X = kind_of(X).checked(X, dtype)
    if X.shape[0] < least or X.shape[1] == 0:
        raise ValueError(f"X must have at least one row and one column; got shape {X.shape}")
    return X


def data(X, y):
    """X as `samples` gives it and y as (n,) or (n, k) in the dtype of X, with as many rows."""
    X = samples(X)
    y = validation.real_array(y, "y", ndim=(1, 2), dtype=X.dtype)
    if len(y) != X.shape[0]:
        raise ValueError(f"y has {len(y)} rows, X has {X.shape[0]}: they must be equal")
    if y.ndim == 2 and y.shape[1] == 0:
        raise ValueError(f"y must have at least one column; got shape {y.shape}")
    return X, y


def first_bad(X):
    """(index, value) of the first number that is not finite, in an array or a CSR matrix; None if all are.

    Rows of another kind are not looked at.
    """
    if isinstance(X, Rows):
        return None
    values = X.data if Sparse.takes(X) else X
    bad = validation.first_bad(values)
    if bad is None:
        return None
    place = bad
    if Sparse.takes(X):
        place = int(np.searchsorted(X.indptr, bad[0], side="right")) - 1, int(X.indices[bad])
    return place, values[bad]
