"""The length of a gradient or a step, whatever its size."""

import math

import numpy as np

FEW_VALUES = 32  # for which math.hypot is the quickest


def euclidean_norm(array):
    """Euclidean norm in float64, without overflow on the way."""
    if array.size <= FEW_VALUES:
        return math.hypot(*array.reshape(-1).tolist())
    with np.errstate(all="ignore"):
        flat = array.reshape(-1).astype(np.float64)
        norm = float(np.sqrt(flat @ flat))
        if norm == 0 or not np.isfinite(norm):
            largest = float(np.max(np.abs(flat), initial=0.0))
            if 0 < largest < np.inf:
                norm = largest * float(np.sqrt(np.sum((flat / largest) ** 2)))
        return norm
