"""How f is evaluated around a point: call by call, in batches, by a map, or as a C function.

A `Sampler` gives f at x with one coordinate replaced, for many such points at once, and counts the evaluations. What
differs between kinds of f is here and nowhere else.
"""

import contextlib
import itertools
import os
import time

import numpy as np

from fastgd import kernels, validation
from fastgd.kernels import c_functions
from fastgd.kernels.codes import RELATIVE_STEP
from fastgd.threads import Threads

# Points of so many numbers in all go to a vectorized f at a time: they and what f makes of them stay in the cache.
BATCH_NUMBERS = 1 << 15
# A C function goes to threads where all its evaluations take longer than this, in seconds.
WORTH_THREADS = 2e-3
BORDER = ArithmeticError, ValueError  # what f may raise for a point outside of its domain


def sampler(f, x, args=(), as_number=validation.any_number, vectorized=False, workers=None):
    """The Sampler for this kind of f.

    Parameters
    ----------
    f : callable, scipy.LowLevelCallable or numba cfunc
    x : ndarray of float64 (or complex128), C-contiguous
        f is called with points of its shape.
    args : tuple
    as_number : callable
        Makes a float of what f returned, or raises (`validation.any_number` and its like).
    vectorized : bool
        Whether f takes (m, *shape of x) points and returns (m,) values.
    workers : int or callable, optional
        So many threads (−1: one for each CPU), or a map that yields results in order.

    Raises
    ------
    TypeError, ValueError
        f is of none of these kinds, or the arguments exclude each other.
    """
    vectorized, workers = checked(args, vectorized, workers)
    if isinstance(f, c_functions.CFunction) or c_functions.is_c(f):
        if vectorized or args or callable(workers):
            raise ValueError(
                "a C function takes one point a call and its user_data, and its workers are threads: "
                "vectorized, args and a map as workers are for Python functions"
            )
        if not isinstance(f, c_functions.CFunction):
            f = c_functions.c_function(f, x.size)
        return Compiled(f, x, as_number, 1 if workers is None else workers)
    validation.callable_(f, "f")
    if vectorized:
        return Batches(f, x, args, as_number)
    if workers is not None:
        return Mapped(f, x, args, as_number, workers)
    return Sampler(f, x, args, as_number)


class Sampler:
    """f around x, one call after the other.

    Attributes
    ----------
    x : (d,) float64 or complex128
    nfev : int
        Evaluations so far.
    is_plain : bool
        Whether the points are for one kernel call, which takes f as it is.
    """

    is_plain = True

    def __init__(self, f, x, args, as_number):
        self.f, self.shape, self.args, self.as_number = f, x.shape, args, as_number
        self.x = x.reshape(-1)
        self.nfev = 0
        self._here = None

    def at(self, coordinates, values):
        """f at x with x[coordinates[k]] = values[k] (x itself for a coordinate of −1), for each k.

        Parameters
        ----------
        coordinates : (m,) intp
        values : (m,), dtype of x

        Returns
        -------
        (m,), dtype of x
        """
        coordinates = np.ascontiguousarray(coordinates, dtype=np.intp)
        out = np.empty(len(values), self.x.dtype)
        if len(out):
            self._evaluate(coordinates, np.ascontiguousarray(values), out)
        self.nfev += len(out)
        return out

    def around(self, points):
        """f at x with x[i] = points[i, j], for each i and j: (d, p) values for (d, p) points."""
        coordinates = np.repeat(np.arange(len(points)), points.shape[1])
        return self.at(coordinates, points.reshape(-1)).reshape(points.shape)

    def attempt(self, coordinates, values):
        """`at` for points that the search chose: NaN where f raises one of BORDER, as outside of its domain."""
        try:
            return self.at(coordinates, values)
        except BORDER:
            out = np.full(len(values), np.nan)
            for k in range(len(values)) if len(values) > 1 else ():
                out[k] = self.attempt(coordinates[k : k + 1], values[k : k + 1])[0]
            return out

    def on(self, points):
        """f at any points, (m, d), as `attempt` has it: (m,)."""
        self.nfev += len(points)
        return np.array([self._anywhere(point) for point in points])

    def _anywhere(self, point):
        try:
            return kernels.active.evaluate(self.f, point, self.shape, self.args, validation.any_number)
        except BORDER:
            return np.nan

    def here(self):
        """f(x), evaluated when first asked for."""
        if self._here is None:
            self._here = self.at([-1], np.zeros(1, self.x.dtype)).item()
        return self._here

    def point(self, coordinate, value):
        """The point that f is given there, in its shape; a new array."""
        return displaced(self.x, self.shape, coordinate, value)

    def _evaluate(self, coordinates, values, out):
        if out.dtype == np.float64:
            kernels.active.sample(self.f, self.x, coordinates, values, self.shape, self.args, self.as_number, out)
            return
        for k, move in enumerate(zip(coordinates.tolist(), values.tolist(), strict=True)):
            out[k] = self.as_number(self.f(self.point(*move), *self.args), self.point(*move), move[0])


def displaced(x, shape, coordinate, value):
    """x with one coordinate (or a slice of them) replaced, where it is not −1, in `shape`; a new array."""
    point = x.copy()
    if coordinate != -1:
        point[coordinate] = value
    return point.reshape(shape)


class Compiled(Sampler):
    """A C function around x, in threads where the work is large enough to be worth them."""

    def __init__(self, f, x, as_number, threads):
        super().__init__(f, x, (), as_number)
        self.threads = threads
        self.is_plain = threads == 1

    def _evaluate(self, coordinates, values, out):
        evaluate, first, jobs = super()._evaluate, 0, 1
        if self.threads > 1 and len(out) > 8:
            first, began = 4, time.perf_counter()  # the time of four evaluations decides
            evaluate(coordinates[:first], values[:first], out[:first])
            jobs = self.threads if (time.perf_counter() - began) / first * len(out) > WORTH_THREADS else 1
        # Where the parts are cut changes no result: each evaluation has a point of its own.
        cuts = np.linspace(first, len(out), jobs + 1).astype(int).tolist()
        parts = [(coordinates[i:j], values[i:j], out[i:j]) for i, j in itertools.pairwise(cuts)]
        if jobs == 1:
            evaluate(*parts[0])
            return
        with Threads(jobs) as pool:
            for future in [pool.submit(evaluate, *part) for part in parts]:
                future.result()


class Batches(Sampler):
    """A vectorized f around x, in batches of points that stay in the cache."""

    is_plain = False

    @property
    def size(self):
        """How many points go to f at a time."""
        return max(1, BATCH_NUMBERS // max(1, self.x.size))

    def on(self, points):
        values = np.full(len(points), np.nan)
        for start in range(0, len(points), self.size):
            batch = points[start : start + self.size]
            with contextlib.suppress(*BORDER):
                self.nfev += len(batch)
                values[start : start + self.size] = self._values(batch.copy())
        return values

    def _values(self, points):
        return self.as_numbers(self.f(points.reshape(-1, *self.shape), *self.args), len(points))

    def central_differences(self, steps, values, probes, slopes):
        """The kernel of that name, in batches; for a real x."""
        kernel = kernels.active.batched_differences
        arguments = self.args, self.as_numbers, self.size, values, probes, slopes
        doubtful = kernel(self.f, self.x, steps, self.shape, *arguments)
        self.nfev += values.size + probes.size
        if self.as_number is not validation.any_number and not np.all(np.isfinite(values)):
            i, side = np.argwhere(~np.isfinite(values))[0].tolist()
            h = float(steps[i]) if len(steps) else RELATIVE_STEP * max(1.0, abs(float(self.x[i])))
            point = self.point(i, self.x[i] + (-h if side else h))
            self.as_number(float(values[i, side]), point, i)
        return doubtful

    def _evaluate(self, coordinates, values, out):
        for start in range(0, len(out), self.size):
            batch = slice(start, start + self.size)
            points = np.tile(self.x, (len(out[batch]), 1))
            moved = np.flatnonzero(coordinates[batch] >= 0)
            points[moved, coordinates[batch][moved]] = values[batch][moved]
            out[batch] = self._values(points)
            for k in np.flatnonzero(~np.isfinite(out[batch]))[:1].tolist():
                move = int(coordinates[start + k]), values[start + k]
                self.as_number(out[start + k].item(), self.point(*move), move[0])

    def as_numbers(self, returned, m):
        """What f returned for m points as an array of the dtype of x, or the error that says what it should be."""
        dtype = self.x.dtype
        if type(returned) is np.ndarray and returned.dtype is dtype and returned.shape == (m,):
            return np.ascontiguousarray(returned)
        what = f"f must return one real number for each of the {m} points it got (vectorized=True)"
        if type(returned) is not np.ndarray or returned.shape != (m,) or returned.dtype.kind not in "fiuc":
            raise (ValueError if hasattr(returned, "__len__") else TypeError)(
                f"{what}, an array of shape ({m},); it returned {validation.describe(returned)}"
            )
        if dtype == np.float64 and returned.dtype.kind == "c":
            raise TypeError(f"{what}; it returned {validation.describe(returned)}")
        return np.ascontiguousarray(returned, dtype=dtype)


class Mapped(Sampler):
    """f around x by a map: threads, or what the caller brings."""

    is_plain = False

    def __init__(self, f, x, args, as_number, workers):
        super().__init__(f, x, args, as_number)
        self.workers = workers

    def _evaluate(self, coordinates, values, out):
        moves = list(zip(coordinates.tolist(), values.tolist(), strict=True))
        out[:] = self._mapped(moves, lambda returned, i, value: self.as_number(returned, self.point(i, value), i))

    def on(self, points):
        self.nfev += len(points)
        moves = [(slice(None), point) for point in points]
        return np.array(
            self._mapped(moves, lambda returned, _, point: validation.any_number(returned, point, -1), True)
        )

    def _mapped(self, moves, as_number, border=False):
        """The number that as_number(returned, *move) makes of what f returned at each of the moves."""
        found = []
        with mapping(self.workers) as map_of:
            for k, returned in map_of(Displaced(self.f, self.x, self.shape, self.args, border), list(enumerate(moves))):
                if k != len(found):
                    raise ValueError(
                        f"workers must yield results in order; it gave number {k} in place of {len(found)}"
                    )
                found.append(np.nan if returned is None and border else as_number(returned, *moves[k]))
        if len(found) != len(moves):
            raise ValueError(f"workers must yield a result for each point; it gave {len(found)} of {len(moves)}")
        return found


class Displaced:
    """f at displaced points, as what a map is given: it can be pickled if f can.

    With `border` it returns None where f raises one of BORDER.
    """

    def __init__(self, f, x, shape, args, border):
        self.f, self.x, self.shape, self.args, self.border = f, x, shape, args, border

    def __call__(self, numbered):
        number, move = numbered
        try:
            return number, self.f(displaced(self.x, self.shape, *move), *self.args)
        except Exception as error:
            if self.border and isinstance(error, BORDER):
                return number, None
            coordinate = -1 if move[0] == slice(None) else move[0]
            point = displaced(self.x, self.shape, *move)
            error.add_note(f"raised by f {validation.at_point(point, coordinate)}")
            raise


@contextlib.contextmanager
def mapping(workers):
    """The map that `workers` stands for."""
    if callable(workers):
        yield workers
    else:
        with Threads(workers) as pool:
            yield pool.map


def checked(args, vectorized, workers):
    """vectorized as a bool, and workers as None, a count of threads or a map."""
    if not isinstance(args, tuple):
        raise TypeError(f"args must be a tuple; got {validation.describe(args)}")
    vectorized = validation.boolean(vectorized, "vectorized")
    if workers is not None and not callable(workers):
        try:
            workers = validation.count(workers, "workers", minimum=-1)
        except TypeError:
            raise TypeError(
                f"workers must be an integer or a map like concurrent.futures.Executor.map; got "
                f"{validation.describe(workers)}"
            ) from None
        if workers == 0:
            raise ValueError("workers must be at least 1, or -1 for one for each CPU; got 0")
        workers = (os.cpu_count() or 1) if workers < 0 else workers
    if vectorized and workers is not None:
        raise ValueError("vectorized=True gives f all points of a batch at once: it goes without workers")
    return vectorized, workers
