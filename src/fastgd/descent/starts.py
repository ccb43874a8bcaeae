"""Gradient descent from many starts, and the minima that they lead to.

starts      where the runs begin: drawn between bounds, by a sampler of the user's, or given
one by one  each start is a call of `gradient_descent`, here, in threads, or wherever an executor is
together    a vectorized function: all runs are rows of one array, and all their differences go into one call of f
"""

from __future__ import annotations

import collections
import concurrent.futures
import contextlib
import functools
import inspect
import typing
from typing import Literal, Unpack

import numpy as np

from fastgd import validation
from fastgd.descent import executors
from fastgd.descent.listed import Runs
from fastgd.descent.single import gradient_descent
from fastgd.descent.together import descend_together
from fastgd.engine import display
from fastgd.engine.result import NOT_OF_ROWS, Result, Status, _Record
from fastgd.errors import DivergenceError, StartError, progress_bar, sendable
from fastgd.kernels import c_functions
from fastgd.objective import LinearObjective
from fastgd.threads import Threads, ctrl_c_held

if typing.TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import ArrayLike

    from fastgd.types import (
        BestResult,
        Bounds,
        Floats,
        RateOfRun,
        ScalarFunction,
        StartOptions,
        ValueAndGradient,
        Workers,
    )


@validation.names_arguments
def multi_start(
    f: ScalarFunction | ValueAndGradient | LinearObjective,
    sampler_or_bounds: Callable[[np.random.Generator, int], ArrayLike] | Bounds | Floats,
    n_starts: int,
    *,
    lr: RateOfRun,
    step_num: int,
    seed: int | None = None,
    sampler: Literal["sobol", "lhs", "uniform"] = "sobol",
    shape: int | tuple[int, ...] | None = None,
    vectorized: bool = False,
    workers: Workers = None,
    executor: object = None,
    stop_after: int | None = None,
    same: float = 1e-3,
    progress: bool = False,
    **options: Unpack[StartOptions],
) -> BestResult:
    """Descend from many starts, and keep all runs; the best is returned.

    Parameters
    ----------
    f : callable or LinearObjective
        As for `gradient_descent`; with `vectorized` f takes points (m, d) and returns their m values.
    sampler_or_bounds : pair, callable or array
        Where the runs begin. A tuple (lower, upper) of numbers or arrays, or a `scipy.optimize.Bounds`: starts are
        drawn between them; it does not hold the runs back (`bounds=` does). A callable: sampler(rng, n) → n starts, rng
        being a NumPy Generator. An array: the starts themselves, one in each row.
    n_starts : int
    lr : float, callable or str
        As for `gradient_descent`; with `vectorized` a float or a callable.
    step_num : int
        Steps of each run, at most.
    seed : int, optional
        Of the starts, 0 without it; the same starts on every machine. Run i gets seed + i.
    sampler : {"sobol", "lhs", "uniform"}
        How starts are drawn between bounds: a scrambled Sobol sequence, a Latin hypercube, or independently.
    shape : tuple or int, optional
        Shape of a start, where bounds are two numbers and f is a function.
    vectorized : bool
        All runs step together, and each step takes one call of f for the differences of all of them (or one of `grad`,
        which then takes and returns (m, d)). It takes the options optimizer, grad, tol and bounds, and starts of one
        dimension.
    workers : int, callable or executor, optional
        Where the runs are made otherwise: in so many threads (which helps where f releases the GIL, as objectives do);
        by a map like `multiprocessing.Pool.map`; or by whatever has `submit` and futures with `result`: a
        `concurrent.futures` executor or a Dask client. What goes to another process must pickle.
    executor : executor, optional
        The same as `workers`, for an executor of concurrent.futures, a Dask client or a joblib.Parallel. A run that is
        lost with its worker has status FAILED.
    stop_after : int, optional
        Stop once the best minimum has been found again so many times; without it all runs are made.
    same : float
        Two ends are one minimum where no coordinate differs by more than this share of the range of the starts.
    progress : bool
        A progress bar (extra "cli") over the runs, or with `vectorized` over the steps.
    **options
        More arguments of `gradient_descent`: grad, optimizer, tol, bounds, history, ….

    Returns
    -------
    Result
        That of the best run, and three entries more: `runs`, the Results of all, in the order of the starts; `number`,
        which of them it is; and `minima`, the distinct ends from the lowest, each with x, fun, count and runs (their
        numbers). A run that diverged, or whose start has no finite value, has status DIVERGED and is no minimum; but
        the lowest point is the best one, whatever its run was called. A run in which f or grad raised has status
        FAILED, and the exception as its entry `exception`.

    Raises
    ------
    KeyboardInterrupt
        Ctrl-C; `error.result` is the best of the runs that had ended, None where there is none. Threads end their runs
        after the evaluation of f that is under way; nobody waits for that but the end of the program.
    DivergenceError
        All runs diverged or failed; `error.result` is the lowest of them, with `runs`.
    TypeError, ValueError
        An argument is not what it should be. What f raises arrives as it is where it does so from every start, or with
        `vectorized`.

    Examples
    --------
    >>> def f(x):  # minima at 1 (value −0.1) and near −1
    ...     return (x[0] ** 2 - 1) ** 2 - 0.1 * x[0]
    >>> best = multi_start(f, ([-2.0], [2.0]), 8, lr=0.05, step_num=200)
    >>> best.x.round(2), len(best.runs), [minimum.count for minimum in best.minima]
    (array([1.01]), 8, [4, 4])
    """
    n_starts = validation.count(n_starts, "n_starts", minimum=1)
    seed = 0 if seed is None else validation.count(seed, "seed")
    same = validation.scalar(same, "same", minimum=0)
    if stop_after is not None:
        stop_after = validation.count(stop_after, "stop_after", minimum=1)
    vectorized = validation.boolean(vectorized, "vectorized")
    progress = validation.boolean(progress, "progress")
    _refuse_unknown(options)
    if executor is not None:
        if workers is not None:
            raise ValueError("executor and workers say the same: give one of them")
        workers = executors.as_workers(executor)
    points = starts(f, sampler_or_bounds, n_starts, seed, sampler, shape)
    extent = same * np.ptp(points.reshape(n_starts, -1), axis=0)
    if vectorized:
        for name, value in (("workers", workers), ("stop_after", stop_after)):
            if value is not None:
                raise ValueError(f"{name} is for runs that are made one by one; leave it out with vectorized=True")
        with _counted(progress, step_num, "step") as count:
            runs = descend_together(f, points, lr, step_num, each=count, **options)
    else:
        run = functools.partial(_one, f, {"lr": lr, "step_num": step_num, **options}, seed)
        runs, ahead = [], []
        try:
            with _counted(progress, n_starts, "run") as count, _made(workers) as made, sendable():
                for result in _each(run, points, made, ahead):
                    runs.append(result)
                    count()
                    if stop_after is not None and _found_again(runs, extent) >= stop_after:
                        break
        except KeyboardInterrupt as error:
            runs += ahead
            error.result = _best(runs, extent) if any(map(_has_ended, runs)) else None
            error.add_note(f"multi_start was interrupted; `result` of the exception has {len(runs)} whole runs")
            raise
    return _best(runs, extent)


# --------------------------------------------------------------------------------------------------------------- starts


def starts(f, sampler_or_bounds, n, seed, sampler="sobol", shape=None):
    """The starts of n runs, (n, *shape)."""
    validation.choice(sampler, "sampler", ("sobol", "lhs", "uniform"))
    dtype = f.dtype if isinstance(f, LinearObjective) else np.float64
    if isinstance(f, LinearObjective):
        shape = f.shape
    elif shape is not None:
        shape = tuple(validation.count(side, "shape", minimum=1) for side in np.atleast_1d(shape).tolist())
    rng = np.random.default_rng(seed)
    if callable(sampler_or_bounds):
        points = sampler_or_bounds(rng, n)
        what = "what the sampler returned"
    elif isinstance(sampler_or_bounds, (tuple, list)) or hasattr(sampler_or_bounds, "lb"):
        return _drawn(*_corners(sampler_or_bounds, shape), n, rng, sampler).astype(dtype, copy=False)
    else:
        points, what = sampler_or_bounds, "starts"
    points = validation.real_array(points, what, dtype=dtype)
    if points.ndim < 2 or len(points) < n or (callable(sampler_or_bounds) and len(points) != n):
        pair = "" if callable(sampler_or_bounds) else "; bounds are a tuple (lower, upper), not an array"
        raise ValueError(f"{what} must be {n} starts, one in each row; got shape {points.shape}{pair}")
    if shape is not None and points.shape[1:] != shape:
        raise ValueError(f"{what} must have rows of shape {shape}; got shape {points.shape}")
    return np.array(points[:n], order="C")


def _corners(bounds, shape):
    lower, upper = validation.bounds(bounds, shape)
    if not lower.shape and shape is None:
        raise ValueError("bounds of two numbers do not tell how many variables f has: give arrays, or shape=")
    for side, name in ((lower, "lower"), (upper, "upper")):
        if (bad := validation.first_bad(side)) is not None:
            raise ValueError(f"{name} must be finite; {validation.entry(name, bad)} is {side[bad]}")
    if np.all(lower == upper):
        raise ValueError(
            "bounds are a pair (lower, upper) of all lower and all upper ends, not a pair for each variable; as given, "
            "lower and upper are equal everywhere and leave no room for different starts"
        )
    return lower, upper


def _drawn(lower, upper, n, rng, sampler):
    """n points between two corners, (n, *shape)."""
    d = lower.size
    if sampler == "uniform":
        unit = rng.random((n, d))
    else:
        from scipy.stats import qmc  # takes a second to import

        kind = qmc.Sobol if sampler == "sobol" else qmc.LatinHypercube
        name = "rng" if "rng" in inspect.signature(kind).parameters else "seed"  # scipy renames it
        with ctrl_c_held():  # scipy's set-up of the Sobol numbers prints KeyboardInterrupt and goes on
            engine = kind(d, **{name: rng})
        # A Sobol sequence is balanced over powers of two.
        unit = engine.random_base2((n - 1).bit_length())[:n] if sampler == "sobol" else engine.random(n)
    unit = unit.reshape(n, *lower.shape)
    return lower * (1 - unit) + upper * unit  # without overflow of the width


# ----------------------------------------------------------------------------------------------------------- one by one


@contextlib.contextmanager
def _counted(shown, total, unit):
    """What is to be called after each of so many things; it moves a progress bar on, if one is to be shown."""
    if not shown:
        yield lambda: None
        return
    with progress_bar(total, 0, unit, "progress=True") as bar:
        yield bar.update


def _refuse_unknown(options):
    parameters = inspect.signature(gradient_descent).parameters
    refused = {"f", "init_x", "checkpoint", "resume"}
    for name in options:
        if name not in parameters or name in refused:
            known = ", ".join(sorted(parameters.keys() - refused - {"lr", "step_num", "seed", "precondition"}))
            raise TypeError(f"multi_start has no argument {name!r}; it passes on to gradient_descent: {known}")


class _Noted:
    """A function of the user's that notes what it raises."""

    def __init__(self, function):
        self.function, self.raised = function, None

    def __call__(self, x):
        try:
            return self.function(x)
        except Exception as error:
            self.raised = error
            raise

    @classmethod
    def of(cls, function):
        """The function so, where it is one in Python."""
        plain = callable(function) and not isinstance(function, LinearObjective) and not c_functions.is_c(function)
        return cls(function) if plain else function


def _one(f, options, seed, numbered):
    """The Result of the run from one start; one that diverges has a Result too, and one in which f raises."""
    number, start = numbered
    functions = [_Noted.of(f), _Noted.of(options.get("grad"))]
    if options.get("grad") is not None:
        options = {**options, "grad": functions[1]}
    try:
        return gradient_descent(functions[0], start, seed=seed + number, **options)
    except DivergenceError as error:
        error.result.message = str(error)
        return error.result
    except StartError as error:
        return _without_end(start, Status.DIVERGED, str(error))
    except Exception as error:
        if not any(error is getattr(function, "raised", None) for function in functions):
            raise
        message = f"raised from start {number}, {validation.show_point(start)}: {type(error).__name__}: {error}"
        return Result(_without_end(start, Status.FAILED, message), exception=error)


def _without_end(start, status, message):
    return Result(
        x=start, fun=np.nan, jac=np.full(start.shape, np.nan), nit=0, nfev=0, njev=0, success=False, status=status,
        message=message, **NOT_OF_ROWS,
    )  # fmt: skip


def _made(workers):
    """A map, an executor or None, in a context that ends the threads that were made for it."""
    if workers is None or callable(workers) or hasattr(workers, "submit"):
        return contextlib.nullcontext(workers)
    try:
        return Threads(validation.count(workers, "workers", minimum=1))
    except TypeError:
        raise TypeError(
            "workers must be a number of threads, a map, or an executor with submit; got "
            f"{validation.describe(workers)}"
        ) from None


def _each(run, points, workers, ahead):
    """The Results in the order of the starts, as they come. On Ctrl-C later ones that have ended are put in `ahead`."""
    numbered = list(enumerate(points))
    if workers is None:
        yield from map(run, numbered)
    elif hasattr(workers, "submit"):
        yield from _submitted(workers, run, numbered, ahead)
    else:
        count = 0
        for result in workers(run, numbered):
            count += 1
            yield result
        if count != len(numbered):
            raise ValueError(f"workers must give a result for each of {len(numbered)} runs; it gave {count}")


def _submitted(executor, run, numbered, ahead):
    futures = collections.deque(executor.submit(run, one) for one in numbered)
    local = isinstance(futures[0], concurrent.futures.Future)
    try:
        while futures:
            while local and not futures[0].done():  # on Windows a wait without a limit hears no Ctrl-C
                concurrent.futures.wait([futures[0]], timeout=0.1)
            try:
                result = futures[0].result()
            except Exception as error:
                if "pickle" in str(error) or "local object" in str(error):
                    raise
                number, start = numbered[len(numbered) - len(futures)]
                result = executors.failed(start, error, f"the run from start {number}")
            futures.popleft()  # and not before: it would be lost to Ctrl-C
            yield result
    except KeyboardInterrupt:
        ended = [future for future in futures if local and future.done() and not future.cancelled()]
        ahead += [future.result() for future in ended if future.exception() is None]
        raise
    finally:
        for future in futures:  # a cluster forgets what it cancels, so what has ended is left alone
            future.cancel()


# --------------------------------------------------------------------------------------------------------------- minima


class Minima(list):
    """A list of Minimum that shows a line for each."""

    def __repr__(self):
        lines = [f"{end.fun:.10g} at {validation.show_point(end.x)}, found {_times(end.count)}" for end in self]
        return "\n".join(lines if len(lines) <= 10 else [*lines[:10], f"and {len(lines) - 10} more"])

    def _repr_html_(self) -> str:
        rows = [(i + 1, f"{m.fun:.10g}", validation.show_point(m.x), m.count) for i, m in enumerate(self)]
        return display.table(("minimum", "value", "at", "runs"), rows)


class Minimum(_Record):
    """One of the ends that runs came to.

    Attributes
    ----------
    x, fun : ndarray, float
        The lowest of them.
    count : int
        How many runs ended there.
    runs : list of int
        Which.
    """

    x: Floats
    fun: float
    count: int
    runs: list[int]


def minima(runs, extent):
    """The distinct ends of runs that did not diverge, from the lowest: each takes in what is within `extent` of it."""
    found = Minima()
    alive = [number for number, run in enumerate(runs) if _has_ended(run)]
    for number in sorted(alive, key=lambda number: runs[number].fun):
        run = runs[number]
        same = [end for end in found if np.all(np.abs(run.x - end.x).reshape(-1) <= extent)]
        if same:
            same[0].count += 1
            same[0].runs.append(number)
        else:
            found.append(Minimum(x=run.x, fun=run.fun, count=1, runs=[number]))
    for minimum in found:
        minimum.runs.sort()
    return found


def _times(count):
    return "once" if count == 1 else f"{count} times"


def _has_ended(run):
    return run.status not in (Status.DIVERGED, Status.FAILED) and np.isfinite(run.fun)


def _found_again(runs, extent):
    found = minima(runs, extent)
    return found[0].count - 1 if found else 0


def _best(runs, extent):
    runs, found = Runs(runs), minima(runs, extent)
    lowest = [(run.fun, number) for number, run in enumerate(runs) if np.isfinite(run.fun)]
    number = min(lowest)[1] if lowest else 0
    best = Result(runs[number], runs=runs, number=number, minima=found)
    hows = [{Status.DIVERGED: "diverged", Status.FAILED: "raised"}.get(run.status) for run in runs]
    without = ", ".join(f"{hows.count(how)} {how}" for how in ("diverged", "raised") if how in hows)
    if not found:
        if all(run.status == Status.FAILED for run in runs):
            raise runs[0].exception
        message = f"none of {len(runs)} runs came to an end ({without}); the lowest: {best.message}"
        raise DivergenceError(message, step=best.nit, lr=None, result=best)
    times = f"found {_times(found[0].count)}" if number in found[0].runs else "which came to no end"
    ends = f"{len(found)} distinct end{'s' * (len(found) != 1)}"
    best.message += f"; the best of {len(runs)} runs, {times} among {ends}" + (f"; {without}" if without else "")
    return best
