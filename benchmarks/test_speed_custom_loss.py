"""A pass with a loss of the user's own in C, beside the loss that is built in and the function's own time."""

import ctypes
import functools
import math

import numpy as np
import pytest
from workload import table

from fastgd import LinearObjective, losses

numba = pytest.importorskip("numba")
# A pass is to take no more than the one of the squared error, which has a loop of its own, and so many times the
# function on the same points.
TIMES = 1.3


@functools.cache
def function(name):
    arrays = [numba.types.CPointer(numba.types.double)] * 4

    def squared(n, h, y, value, slope):
        for i in range(n):
            r = h[i] - y[i]
            value[i] = 0.5 * r * r
            slope[i] = r

    def cauchy(n, h, y, value, slope):
        for i in range(n):
            r = h[i] - y[i]
            value[i] = math.log1p(r * r)
            slope[i] = 2 * r / (1 + r * r)

    return numba.cfunc(numba.types.void(numba.types.intp, *arrays))({"squared": squared, "cauchy": cauchy}[name])


WHO = ("ours", "built in", "built in, and 1.3 times the function")


@pytest.mark.parametrize("name", ["squared", "cauchy"])
@pytest.mark.parametrize("who", WHO)
@pytest.mark.parametrize("shape", [(100_000, 50)], ids=str)
def test_custom_loss(compare, shape, name, who):
    shape = compare.shape(*shape)
    X, y, w = table(shape)
    f = losses.custom(function(name))
    own, built_in = LinearObjective(X, y, loss=f), LinearObjective(X, y, loss="squared_error")
    size = int(TIMES * len(y))
    arrays = np.resize(X @ w, size), np.resize(y, size), np.zeros(size), np.zeros(size)
    pointers = [array.ctypes.data_as(ctypes.POINTER(ctypes.c_double)) for array in arrays]
    alone = function(name).ctypes

    def both():
        alone(size, *pointers)
        return built_in.value_and_gradient(w)

    r = X @ w - y
    squared = np.mean(0.5 * r * r), X.T @ r / len(y)
    cauchy = np.mean(np.log1p(r * r)), X.T @ (2 * r / (1 + r * r)) / len(y)
    yardsticks = {WHO[1]: (lambda: built_in.value_and_gradient(w), squared), WHO[2]: (both, squared)}
    compare(
        "Loss of the user's own", name, who, {"ours": lambda: own.value_and_gradient(w)},
        squared if name == "squared" else cauchy,
        shape=shape, yardsticks=yardsticks, target={WHO[2]: 1.0}, reads=X.nbytes,
    )  # fmt: skip
