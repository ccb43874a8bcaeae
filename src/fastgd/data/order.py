"""The order in which stochastic descent goes over the rows."""

import numpy as np

from fastgd import kernels

# Rows are shuffled within pieces of this many, and the pieces among themselves: an order of all rows at once would be
# as long as a column of X.
SHUFFLED_ROWS = 1 << 16


def epoch_order(seed, epoch, n):
    """Numbers of the n rows in the order of one epoch, a piece at a time: a function of (seed, epoch) alone."""
    seed %= 1 << 64
    count = -(-n // SHUFFLED_ROWS)
    pieces = np.empty(count, np.int64)
    kernels.active.shuffle(seed, epoch, count, 0, pieces)  # `count` is the number of no piece
    for piece in pieces.tolist():
        first = piece * SHUFFLED_ROWS
        order = np.empty(min(SHUFFLED_ROWS, n - first), np.int64)
        kernels.active.shuffle(seed, epoch, piece, first, order)
        yield order
