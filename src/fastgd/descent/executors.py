"""Runs that are made elsewhere: by an executor of concurrent.futures, a client of Dask, or joblib."""

import concurrent.futures
import contextlib
import functools

import numpy as np

from fastgd import validation
from fastgd.descent.single import gradient_descent
from fastgd.engine.result import NOT_OF_ROWS, Result, Status
from fastgd.errors import DivergenceError, progress_bar, sendable
from fastgd.objective import LinearObjective


def alone(f, init_w, lr, options):
    """The Result of one run; one that diverges has a Result too."""
    try:
        return gradient_descent(f, init_w, lr=lr, **options)
    except DivergenceError as error:
        error.result.message = str(error)
        return error.result


def results(f, tasks, options, executor, progress):
    """The Results of runs that an executor makes, (setting, start) each; of one that raises it is FAILED.

    Where all raise, the first exception is raised here.
    """
    check(executor, f)
    found, run = [None] * len(tasks), functools.partial(_one, f, options)
    bar = progress_bar(len(tasks), 0, "run", "progress=True") if progress else contextlib.nullcontext()
    with bar as shown, sendable():
        for number, result in as_they_end(run, tasks, executor):
            if isinstance(result, Exception):
                if "pickle" in str(result):
                    raise result
                start = np.zeros(getattr(f, "shape", 1)) if tasks[number][1] is None else tasks[number][1]
                result = failed(start, result, f"run {number}")
            found[number] = result
            if shown is not None:
                shown.update()
    if all(result.status == Status.FAILED for result in found):
        raise found[0].exception
    return found


def _one(f, options, setting, start):
    """The Result of one run with its setting."""
    f = f if setting["l2"] is None else f.replace(l2=setting["l2"])
    return alone(f, start, setting["lr"], options | {"optimizer": setting["optimizer"]})


def check(executor, objective=None):
    """TypeError for what is no executor, or for an objective that cannot be sent."""
    if not (hasattr(executor, "submit") or _is_joblib(executor)):
        raise TypeError(
            "executor must have submit, as those of concurrent.futures and a Dask client, or be a joblib.Parallel; got "
            f"{validation.describe(executor)}"
        )
    if isinstance(objective, LinearObjective) and not objective.rows.in_memory:
        raise TypeError("executor is for an objective in memory; the rows of this one are on a cluster already")


def as_they_end(run, tasks, executor):
    """Iterate over (number, run(*task), or the exception that it raised), in the order in which runs end.

    Parameters
    ----------
    run : callable
        Is sent once, where the executor is a Dask client.
    tasks : list of tuple
    """
    if _is_joblib(executor):
        from joblib import delayed

        yield from enumerate(executor(delayed(_caught)(run, task) for task in tasks))
        return
    if hasattr(executor, "scatter"):
        from distributed import as_completed

        sent = executor.scatter(run, broadcast=True, hash=False)
        futures = [executor.submit(_caught, sent, task, pure=False) for task in tasks]
    else:
        as_completed = concurrent.futures.as_completed
        futures = [executor.submit(_caught, run, task) for task in tasks]
    numbers = {future: number for number, future in enumerate(futures)}
    try:
        for future in as_completed(futures):
            number = numbers.pop(future)
            try:
                yield number, future.result()
            except Exception as error:  # the process or the worker is lost
                yield number, error
    finally:
        for future in numbers:
            future.cancel()


def failed(start, error, what):
    """The Result of a run that raised."""
    message = f"{what} raised {type(error).__name__}: {error}"
    nowhere = np.full(np.shape(start), np.nan)
    return Result(
        x=start, fun=np.nan, jac=nowhere, nit=0, nfev=0, njev=0, success=False, status=Status.FAILED, message=message,
        exception=error, **NOT_OF_ROWS,
    )  # fmt: skip


def _is_joblib(executor):
    return type(executor).__module__.partition(".")[0] == "joblib" and callable(executor)


def _caught(run, task):
    try:
        return run(*task)
    except Exception as error:
        return error


def joblib_map(executor):
    """joblib.Parallel as a map."""
    from joblib import delayed

    return lambda run, tasks: executor(delayed(run)(task) for task in tasks)


def as_workers(executor):
    """An executor as `multi_start` takes `workers`."""
    check(executor)
    return joblib_map(executor) if _is_joblib(executor) else executor
