"""The length of a gradient or a step, whatever its size."""

import numpy as np


def euclidean_norm(array):
    """Euclidean norm in float64, without overflow on the way."""
    with np.errstate(all="ignore"):
        flat = array.reshape(-1).astype(np.float64)
        norm = float(np.sqrt(flat @ flat))
        if norm == 0 or not np.isfinite(norm):
            largest = float(np.max(np.abs(flat), initial=0.0))
            if 0 < largest < np.inf:
                norm = largest * float(np.sqrt(np.sum((flat / largest) ** 2)))
        return norm
