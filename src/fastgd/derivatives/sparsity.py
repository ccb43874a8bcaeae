"""Which columns of a sparse Jacobian can be differenced together.

Columns that share no row may move at the same time: each entry of f still tells which of them moved it (Curtis, Powell
& Reid, "On the estimation of sparse Jacobian matrices", J. Inst. Maths Applics 13, 1974). Fewest groups are the fewest
colours of a graph, so a greedy colouring has to do: for a band it is the best.
"""

import numpy as np

from fastgd import validation


def pattern(sparsity, d):
    """The positions of entries that may differ from 0, as a CSC array of (m, d).

    Parameters
    ----------
    sparsity : array_like or scipy.sparse array of (m, d)
        What is stored in a sparse one counts, and what is not 0 in a dense one.
    """
    import scipy.sparse

    if hasattr(sparsity, "tocoo"):
        stored = scipy.sparse.coo_array(sparsity)
    else:
        dense = np.asarray(sparsity)
        if dense.dtype.kind not in "biuf":
            raise TypeError(f"sparsity must hold booleans or numbers; got {validation.describe(sparsity)}")
        if dense.ndim != 2:
            raise ValueError(f"sparsity must be 2-dimensional, (m, d); got shape {dense.shape}")
        stored = scipy.sparse.coo_array(dense != 0)
    if stored.shape[1] != d:
        raise ValueError(f"sparsity must have a column for each of the {d} entries of x; got shape {stored.shape}")
    positions = scipy.sparse.csc_array((np.ones(stored.nnz, bool), stored.coords), shape=stored.shape)
    positions.sum_duplicates()
    return positions


def group_columns(positions):
    """The group of each column of a CSC array, (d,) intp: columns of one group share no row.

    Colours go to the columns in their own order. If that takes more groups than the fullest row has entries, they also
    go to those with most entries first, and the order that needs fewer is taken.
    """
    groups = _greedy(positions, np.arange(positions.shape[1]))
    fewest = np.bincount(positions.indices, minlength=1).max()
    if groups.max(initial=0) < fewest:
        return groups
    fullest_first = np.argsort(-np.diff(positions.indptr), kind="stable")
    return min(groups, _greedy(positions, fullest_first), key=lambda groups: groups.max(initial=-1))


def _greedy(positions, order):
    """The lowest group that is free in all rows of a column, for one column after the other."""
    rows, starts = positions.indices.tolist(), positions.indptr.tolist()
    taken = [0] * positions.shape[0]  # for each row the groups in it, as the bits of an integer
    groups = np.empty(len(order), np.intp)
    for column in order.tolist():
        own = rows[starts[column] : starts[column + 1]]
        busy = 0
        for row in own:
            busy |= taken[row]
        free = ~busy & (busy + 1)
        for row in own:
            taken[row] |= free
        groups[column] = free.bit_length() - 1
    return groups
