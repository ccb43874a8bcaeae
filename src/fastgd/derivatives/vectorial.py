"""How a vector-valued f is evaluated around a point: call by call, in batches, or by a map."""

import numpy as np

from fastgd import validation
from fastgd.derivatives.sampling import BATCH_NUMBERS, BORDER, checked, mapping
from fastgd.kernels import c_functions


class VectorSampler:
    """f at x with some coordinates replaced, for many such points at once; counts the evaluations.

    Parameters
    ----------
    f : callable
        f(x, *args) returns an array of m real numbers, flattened if it is no vector; a number counts as m = 1. With
        `vectorized` it takes points of shape (b, *shape of x) and returns (b, …).
    x : ndarray of float64 or complex128, C-contiguous
        f must return numbers of the same kind.
    args : tuple
    vectorized : bool
    workers : int or callable, optional
        As for `sampling.sampler`.

    Attributes
    ----------
    x : (d,)
    m : int or None
        How many numbers f returns, once it has been called.
    nfev : int
    """

    def __init__(self, f, x, args=(), vectorized=False, workers=None):
        self.vectorized, self.workers = checked(args, vectorized, workers)
        self.f, self.shape, self.args = f, x.shape, args
        self.x = x.reshape(-1)
        self.m = None
        self.nfev = 0
        self._here = None

    def at(self, moves):
        """f at x with x[index] = value for each (index, value) of a list; index may be an array.

        Returns
        -------
        (number of moves, m), dtype of x
            May hold NaN and infinities.
        """
        if self.vectorized:
            values = self._batches(moves)
        elif self.workers is None:
            values = map(self._value, moves)
        else:
            with mapping(self.workers) as map_of:
                return self._collect(moves, map_of(self._noted, moves))
        return self._collect(moves, values)

    def attempt(self, moves):
        """`at` for points that the search chose: NaN where f raises one of BORDER, as outside of its domain."""
        try:
            return self.at(moves)
        except BORDER:
            if len(moves) > 1:
                return np.concatenate([self.attempt([move]) for move in moves])
            return np.full((1, self.m or 0), np.nan)

    def on(self, points):
        """f at any points, (b, d), as `attempt` has it: (b, m)."""
        return self.attempt([(slice(None), point) for point in points])

    def here(self):
        """f(x), (m,), evaluated when first asked for."""
        if self._here is None:
            self._here = self.at([(slice(0, 0), 0.0)])[0]
        return self._here

    def point(self, move):
        """The point of a move, in the shape of x; a new array."""
        index, value = move
        point = self.x.copy()
        point[index] = value
        return point.reshape(self.shape)

    def _value(self, move):
        returned = self.f(self.point(move), *self.args)
        if type(returned) is np.ndarray and returned.dtype is self.x.dtype and returned.ndim == 1:
            return returned.copy()  # f may fill and return the same buffer each time
        try:
            return np.array(self._array(returned)).reshape(-1)
        except (TypeError, ValueError) as error:
            raise type(error)(f"{error}, at x = {validation.show_point(self.point(move))}") from None

    def _array(self, returned):
        if self.x.dtype.kind == "c":
            value = np.asarray(returned)
            if value.dtype.kind != "c":
                raise TypeError(
                    f"scheme='complex' needs an f that carries complex numbers through; for a complex x it returned "
                    f"{validation.describe(returned)}"
                )
            return value.astype(np.complex128)
        return validation.real_array(returned, "what f returned", dtype=np.float64, finite=False)

    def _noted(self, move):
        """`_value` out of sight of the caller: an exception says which point it belongs to."""
        try:
            return self._value(move)
        except Exception as error:
            error.add_note(f"raised by f at x = {validation.show_point(self.point(move))}")
            raise

    def _batches(self, moves):
        size = max(1, BATCH_NUMBERS // max(1, self.x.size, self.m or 0))
        for start in range(0, len(moves), size):
            batch = moves[start : start + size]
            points = np.stack([self.point(move) for move in batch])
            returned = self.f(points, *self.args)
            value = self._array(returned)
            if value.ndim == 0 or len(value) != len(batch):
                raise ValueError(
                    f"f must return a row for each of the {len(batch)} points of shape {self.shape} that it got "
                    f"(vectorized=True); it returned {validation.describe(value)}"
                )
            yield from np.array(value).reshape(len(batch), -1)

    def _collect(self, moves, values):
        out = None if self.m is None else np.empty((len(moves), self.m), self.x.dtype)
        count = 0
        for value in values:
            if out is None:
                self.m = value.size
                out = np.empty((len(moves), self.m), self.x.dtype)
            if value.size != self.m:
                raise ValueError(
                    f"f must return as many numbers each time; it returned {self.m} and then {value.size}, at "
                    f"x = {validation.show_point(self.point(moves[count]))}"
                )
            out[count] = value
            count += 1
            self.nfev += 1
        if count != len(moves):
            raise ValueError(f"workers must yield a result for each point; it gave {count} of {len(moves)}")
        return out


class ScalarSampler(VectorSampler):
    """The same for an f that returns one number: m = 1. It may be a C function."""

    def __init__(self, f, x, args=(), vectorized=False, workers=None):
        if c_functions.is_c(f):
            if vectorized or args:
                raise ValueError("a C function takes one point a call and its user_data: no vectorized, no args")
            f = c_functions.c_function(f, x.size)
        super().__init__(validation.callable_(f, "f"), x, args, vectorized, workers)

    def _value(self, move):
        point = self.point(move)
        returned = self.f(point, *self.args)
        if type(returned) is not float:  # f may have written to its argument, so the message needs another
            returned = validation.any_number(returned, self.point(move), -1)
        return np.array([returned])

    def _collect(self, moves, values):
        values = super()._collect(moves, values)
        if self.m != 1:
            raise ValueError(f"f must return one real number; it returned {self.m} for each point")
        return values
