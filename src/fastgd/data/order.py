"""The order in which stochastic descent goes over the rows."""

import numpy as np

from fastgd import kernels

# Rows are shuffled within pieces of this many rows, and the pieces among themselves, so that no permutation of all n
# rows has to be stored: 0.5 MB at a time.
SHUFFLED_ROWS = 1 << 16


def epoch_order(seed, epoch, n):
    """Iterate over the row numbers of one epoch, in pieces. The order depends on (seed, epoch, n) alone."""
    seed %= 1 << 64
    count = -(-n // SHUFFLED_ROWS)
    pieces = np.empty(count, np.int64)
    kernels.active.shuffle(seed, epoch, count, 0, pieces)  # stream number `count`: pieces use 0 to count − 1
    for piece in pieces.tolist():
        first = piece * SHUFFLED_ROWS
        order = np.empty(min(SHUFFLED_ROWS, n - first), np.int64)
        kernels.active.shuffle(seed, epoch, piece, first, order)
        yield order
