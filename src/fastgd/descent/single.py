"""`gradient_descent`: one run on any function or objective."""

from __future__ import annotations

import typing
from typing import Literal, Unpack

import numpy as np

from fastgd import forms, optimizers, validation
from fastgd.data.threads import job_count
from fastgd.descent.named import descend_named
from fastgd.descent.saddles import Guard
from fastgd.engine import plan
from fastgd.engine.line_search import AUTO, METHODS
from fastgd.engine.rates import rate_of
from fastgd.engine.recorder import Recorder
from fastgd.engine.shown import step_line, step_result
from fastgd.engine.stopping import Stopping
from fastgd.errors import DivergenceError, progress_bar
from fastgd.files.checkpoint import Checkpoint, digest
from fastgd.objective import Function, LinearObjective

if typing.TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import ArrayLike

    from fastgd.engine.result import Result
    from fastgd.types import NamedResult, RateOfRun, RecordedResult, RunOptions, ScalarFunction, ValueAndGradient

# The textbook's rate, unless a solver is named that finds its own: told from a rate of the user's by its identity.
DEFAULT_LR = 0.01


@typing.overload
def gradient_descent(
    f: ScalarFunction | ValueAndGradient,
    init_x: Mapping[str, ArrayLike],
    lr: RateOfRun = 0.01,
    step_num: int = 100,
    *,
    history: bool | int | Literal["x", "fun"] = False,
    **options: Unpack[RunOptions],
) -> NamedResult: ...
@typing.overload
def gradient_descent(
    f: ScalarFunction | ValueAndGradient | LinearObjective,
    init_x: ArrayLike | None = None,
    lr: RateOfRun = 0.01,
    step_num: int = 100,
    *,
    history: Literal[True, "x", "fun"],
    **options: Unpack[RunOptions],
) -> RecordedResult: ...
@typing.overload
def gradient_descent(
    f: ScalarFunction | ValueAndGradient | LinearObjective,
    init_x: ArrayLike | None = None,
    lr: RateOfRun = 0.01,
    step_num: int = 100,
    *,
    history: bool = False,
    **options: Unpack[RunOptions],
) -> Result: ...
@typing.overload
def gradient_descent(
    f: ScalarFunction | ValueAndGradient | LinearObjective,
    init_x: ArrayLike | None = None,
    lr: RateOfRun = 0.01,
    step_num: int = 100,
    *,
    history: int,
    **options: Unpack[RunOptions],
) -> RecordedResult: ...
@validation.names_arguments
def gradient_descent(
    f,
    init_x=None,
    lr=DEFAULT_LR,
    step_num=100,
    *,
    grad=None,
    optimizer="gd",
    solver=None,
    batch_size=None,
    bounds=None,
    l1=0.0,
    clip_value=None,
    clip_norm=None,
    tol=None,
    f_tol=None,
    x_tol=None,
    target=None,
    max_seconds=None,
    callback=None,
    history=False,
    progress=False,
    verbose=0,
    checkpoint=None,
    resume=False,
    escape_saddles=False,
    keep="last",
    n_jobs=None,
    seed=None,
    precondition=None,
):
    """Gradient descent, x ← x − lr·∇f(x), on any function or on an objective.

    Parameters
    ----------
    f : callable, C function or LinearObjective
        f(x) returns one real number; with grad=True it returns (value, gradient).
    init_x : array_like, dict of array_like, or pandas.Series
        Where to start, of any shape; f, grad and callback get points of that form. An objective starts at zeros.
    lr : float, callable, "auto", "bb", "armijo" or "adgd"
        A float is the textbook's rate; a callable gives the rate of step 0, 1, … (`fastgd.schedules`). The others find
        the length of each step; "auto" is "bb" (Barzilai and Borwein) for a function, the `solver`'s for an objective.
    step_num : int
        Steps at most.
    grad : callable, C function or True, optional
        grad(x) → the gradient, in the form of x. True: f returns it. Without it the gradient is numerical.
    optimizer : str or Optimizer
        The rule of a step, of `fastgd.optimizers`: "gd", "momentum", "adam", ….
    solver, batch_size : str, int, optional
        For an objective: "auto", "gd", "accelerated", "preconditioned", "coordinate", "gram" or "sgd", and the rows of
        each step.
    bounds : tuple (lower, upper) or scipy.optimize.Bounds, optional
        Numbers or arrays; steps are moved onto them, and a numerical gradient calls f at no point outside.
    l1 : float
        Adds l1·‖x‖₁ by a proximal step: `fun` has it, `jac` is the gradient without it.
    clip_value, clip_norm : float, optional
        Each entry of a gradient, or its norm, is cut off there.
    tol : float, optional
        End where ‖∇f‖ ≤ tol, beyond the error of a numerical gradient. On an objective: the gap F − min F ≤ tol·F.
    f_tol, x_tol, target, max_seconds : float, optional
        End where f or x no longer changes by more than that share, where f is at most that, when the time is up.
    callback : callable, optional
        callback(result) after every step; the run ends where it returns True, as with scipy, or raises StopIteration.
    history : bool, "x", "fun" or int
        What is recorded: all, all but the values, all but the points, or every k-th step.
    progress, verbose : bool, int
        A progress bar (extra "cli"); 1 prints each step.
    checkpoint, resume : path, bool
        A file that the run is written to, at least every second; resume=True goes on from it, a finished run too where
        more steps, more time or a tighter tolerance are asked for.
    escape_saddles : bool
        Look at the curvature near stationary points, and go on from saddles and maxima.
    keep : {"last", "best"}
        Report the last point, or the one with the lowest value, which costs a value a step.
    n_jobs, seed : int, optional
        Threads, on which no result depends; the order of rows, and moves from saddles.

    Returns
    -------
    Result
        x, fun, jac, nit, nfev, njev, success, status, message, history; `fun` and `jac` are those of exactly `x`.

    Raises
    ------
    DivergenceError
        The run leads away from the minimum; `error.result` is what there is.
    KeyboardInterrupt
        Ctrl-C; `error.result` is the last whole point.
    TypeError, ValueError
        An argument is not what it should be, or f or its gradient is not finite at the start.

    Notes
    -----
    The page "Descent on any function" of the documentation says all of this at length.

    Examples
    --------
    >>> result = gradient_descent(lambda x: x[0] ** 2 + x[1] ** 2, [-3.0, 4.0], lr=0.1, step_num=2, history=True)
    >>> result.history.x.round(6)
    array([[-3.  ,  4.  ],
           [-2.4 ,  3.2 ],
           [-1.92,  2.56]])
    """
    if type(init_x) is not np.ndarray and (named := forms.flattened(init_x, "init_x")) is not None:
        given = {name: value for name, value in locals().items() if name != "named"}
        return descend_named(gradient_descent, named, given)
    if precondition is not None:
        renamed = "accelerated" if isinstance(precondition, str) and precondition == "diagonal" else "preconditioned"
        raise TypeError(f"precondition is called solver: use solver={renamed!r} in place of {precondition=}")
    request = _request(f, init_x, lr, step_num, grad, optimizer, solver, batch_size, bounds, l1, clip_value, clip_norm,
                       tol, escape_saddles, n_jobs, seed)  # fmt: skip
    verbose = validation.count(int(verbose) if isinstance(verbose, bool) else verbose, "verbose")
    options = {
        "stopping": Stopping(f_tol, x_tol, target, max_seconds), "recorder": Recorder(history),
        "callbacks": () if callback is None else (validation.callable_(callback, "callback"),), "describe": step_result,
        "say": step_line if verbose else None, "keep": validation.choice(keep, "keep", ("last", "best")),
    }  # fmt: skip
    resume = validation.boolean(resume, "resume")
    saved = None
    if checkpoint is not None:
        identity = _identity(f, init_x, grad, lr) | _identity_of_steps(request, l1, history)
        asked = {"tol": request.tol, "f_tol": f_tol, "x_tol": x_tol, "target": target}
        checkpoint = Checkpoint(checkpoint, identity, asked)
        if resume:
            saved, result = checkpoint.resumed(request.limit, "step_num", "step")
            if result is not None:
                return result
    elif resume:
        raise ValueError("resume=True needs checkpoint=, the file to go on from")
    return _run(request, saved, checkpoint, progress, options)


def _run(request, saved, checkpoint, progress, options):
    """The Result of a request."""
    monitor, begun = None, 0 if saved is None else saved["step"]
    bar = progress_bar(request.limit, begun, "step", "progress=True") if progress else None
    try:
        run = plan.Plan(request, None if saved is None else saved["steps"])
        monitor = run.watch(checkpoint=checkpoint, saved=saved, bar=bar, **options)
        result = run.run()
    except DivergenceError as error:
        if checkpoint is not None:
            checkpoint.finish(error.result, error)
        raise
    except KeyboardInterrupt as error:  # a checkpoint is there already, at most a second old
        error.result = None if monitor is None else monitor.interrupted()
        error.add_note(_how_to_go_on(error.result, checkpoint))
        raise
    finally:
        if bar is not None:
            bar.close()
    if checkpoint is not None:
        checkpoint.finish(result)
    return result


def _request(
    f, init_x, lr, step_num, grad, optimizer, solver, batch_size, bounds, l1, clip_value, clip_norm, tol,
    escape_saddles, n_jobs, seed,
):  # fmt: skip
    """The arguments, checked."""
    step_num = validation.count(step_num, "step_num")
    if tol is not None:
        tol = validation.scalar(tol, "tol", positive=True)
    if batch_size is not None:
        batch_size = validation.count(batch_size, "batch_size", minimum=1)
    seed = 0 if seed is None else validation.count(seed, "seed")
    jobs = job_count(n_jobs)
    linear = isinstance(f, LinearObjective)
    if solver is not None:
        validation.choice(solver, "solver", plan.NAMES)
        lr = "auto" if lr is DEFAULT_LR else lr
    method = _method(lr, linear)
    rate = None if isinstance(lr, str) else rate_of(lr, "lr")
    rule = optimizers.get(optimizer)
    l1 = 0.0 if type(l1) is float and l1 == 0 else validation.scalar(l1, "l1", minimum=0)
    if linear:
        if grad is not None:
            raise TypeError("grad is for a function; an objective has its own gradient")
        f = _with_options(f, l1, n_jobs)
        bounds = validation.bounds(bounds, f.shape)
        start = None  # the best constant model, for relu: at zeros it has no gradient
        if init_x is not None:
            start = validation.weights(init_x, "init_x", f.shape, f.dtype, copy=False)
        elif rate is not None or method is not None or f.activation != "relu":
            start = np.zeros(f.shape, f.dtype)
        _refuse_kinks(f, rate, method, tol)
    else:
        for name, value in (("batch_size", batch_size), ("solver", solver)):
            if value is not None:
                raise TypeError(f"{name} takes a LinearObjective, whose rows are known; f is a function")
        if init_x is None:
            raise TypeError("init_x is needed: f is a function, whose number of variables is not known")
        start = validation.real_array(init_x, "init_x", dtype=np.float64)
        bounds = validation.bounds(bounds, start.shape)
        f = Function(f, grad, start.shape, l1, jobs, bounds)
    if method is not None:
        for name, value in (("batch_size", batch_size), ("solver", solver)):
            if value is not None:
                raise ValueError(f"lr={lr!r} is for full passes in the user's own columns; leave out {name}")
        if rule.name != "gd":
            raise ValueError(f'lr={lr!r} finds the length of plain steps, optimizer="gd"; got {rule!r}')
    elif rate is None and rule.stable_formula is None and solver is None:
        raise ValueError(f'lr="auto" is 1/L, which means nothing to {rule!r}: give a number or a schedule')
    guard = None
    if validation.boolean(escape_saddles, "escape_saddles"):
        if batch_size is not None or bounds is not None or f.l1 or solver not in (None, "auto", "gd"):
            raise ValueError(
                "escape_saddles is for full steps without bounds or l1: leave out batch_size, solver, bounds, l1"
            )
        guard = Guard(seed)
    return plan.Request(
        f, step_num, solver=solver, rate=rate, method=method, rule=rule, batch=batch_size, start=start, bounds=bounds,
        clip_value=clip_value, clip_norm=clip_norm, guard=guard, seed=seed, tol=tol,
    )  # fmt: skip


def _with_options(objective, l1, n_jobs):
    """The objective with the penalty and the threads that are given here."""
    if l1 and objective.l1:
        raise ValueError(
            f"l1={l1:g} is given here, and the objective has l1={objective.l1:g} already: give one of them"
        )
    changes = ({} if n_jobs is None else {"n_jobs": n_jobs}) | ({"l1": l1} if l1 else {})
    return objective.replace(**changes) if changes else objective


def _how_to_go_on(result, checkpoint):
    """What a KeyboardInterrupt says of the run that it ended."""
    if result is None:
        return "gradient_descent was interrupted before its first point"
    way = "" if checkpoint is None else f"; resume=True goes on from {checkpoint.path!r}"
    return (
        f"gradient_descent was interrupted after {result.nit} steps; the exception's attribute `result` (at a prompt, "
        f"sys.last_value.result) has the point there{way}"
    )


def _identity(f, init_x, grad, lr):
    """What a checkpoint must agree on, of the problem and its rate: numbers and digests. A function has no digest."""
    if isinstance(f, LinearObjective):
        weights = f.rows.weights
        identity = {"f": repr(f), "X": digest(*f.rows.arrays_for_digest()), "y": digest(f.y)}
        identity["sample_weight"] = digest(weights)
        if f.penalty.groups is not None:
            identity["groups"] = digest(f.penalty.groups.labels, f.penalty.groups.factors)
    else:
        identity = {"f": "a function", "grad": None if grad is None else "f gives it" if grad is True else "a function"}
    if init_x is not None:
        start = validation.real_array(init_x, "init_x", dtype=np.float64)
        identity |= {"shape": start.shape, "init_x": digest(start)}
    return identity | {"lr": "a schedule" if callable(lr) else lr}


def _identity_of_steps(request, l1, history):
    """What else it must agree on; bounds as digests."""
    bounds = None if request.bounds is None else digest(*request.bounds)
    return {
        "optimizer": repr(request.rule), "solver": request.solver, "batch_size": request.batch, "seed": request.seed,
        "escape_saddles": request.guard is not None, "l1": l1, "bounds": bounds, "clip_value": request.clip_value,
        "clip_norm": request.clip_norm, "history": history,
    }  # fmt: skip


def _method(lr, linear):
    """The method that finds the length of each step, or None where the rate is known, or a solver finds it."""
    if not isinstance(lr, str):
        return None
    if lr not in ("auto", *METHODS):
        names = ", ".join(map(repr, ("auto", *METHODS)))
        raise ValueError(f"lr must be a number, a function of the step, or one of {names}; got {lr!r}")
    if lr != "auto":
        return lr
    return None if linear else AUTO


def _refuse_kinks(objective, rate, method, tol):
    """Refuse what takes a gradient to vanish towards the minimum, where the minimum may be at a kink."""
    if objective.smooth or (method is None and (rate is None or tol is None)):
        return
    what = f"lr={method!r} does not end" if method is not None else "tol has no bound of the gap for steps by a rate"
    raise ValueError(
        f'{what} for loss={objective.loss!r}, whose slope jumps: take lr="auto", or a rate that shrinks, such as '
        "lr=lambda step: 0.1 / (1 + step) ** 0.5, and a number of steps"
    )
