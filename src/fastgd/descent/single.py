"""`gradient_descent`: one run on any function or objective."""

from __future__ import annotations

import typing
from typing import Literal, Unpack

import numpy as np

from fastgd import optimizers, validation
from fastgd.data.threads import job_count
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
    from numpy.typing import ArrayLike

    from fastgd.engine.result import Result
    from fastgd.types import RateOfRun, RecordedResult, RunOptions, ScalarFunction

# The textbook's rate, unless a solver is named that finds its own: told from a rate of the user's by its identity.
DEFAULT_LR = 0.01
NO_PENALTY = 0.0
PRECONDITION = {"gram": "preconditioned", "diagonal": "accelerated"}


@typing.overload
def gradient_descent(
    f: ScalarFunction | LinearObjective,
    init_x: ArrayLike | None = None,
    lr: RateOfRun = 0.01,
    step_num: int = 100,
    *,
    history: Literal[True, "x", "fun"],
    **options: Unpack[RunOptions],
) -> RecordedResult: ...
@typing.overload
def gradient_descent(
    f: ScalarFunction | LinearObjective,
    init_x: ArrayLike | None = None,
    lr: RateOfRun = 0.01,
    step_num: int = 100,
    *,
    history: bool = False,
    **options: Unpack[RunOptions],
) -> Result: ...
@typing.overload
def gradient_descent(
    f: ScalarFunction | LinearObjective,
    init_x: ArrayLike | None = None,
    lr: RateOfRun = 0.01,
    step_num: int = 100,
    *,
    history: int,
    **options: Unpack[RunOptions],
) -> RecordedResult: ...
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
    l1=NO_PENALTY,
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
    f : callable or LinearObjective
        A function of an array that returns one real number, as for `numerical_gradient`, or an objective. A C function,
        with a C gradient or a numerical one, stays in C from step to step, unless something looks at each of them.
    init_x : array_like, optional
        Where to start; any shape, never written to, integers are promoted. An objective starts at zeros without it.
    lr : float, callable, "auto", "bb", "armijo" or "adgd"
        The learning rate. A float is taken at its word: the textbook's iterates, in the user's own columns. A callable
        gives the rate of step 0, 1, …; `fastgd.schedules` makes them, and a plateau is shown the value at each point
        (with `batch_size`, after each epoch). "auto", for an objective, leaves it to the `solver`, which handles
        columns of any size; what is reported is in the user's units, but for `history.lr`. With an `optimizer`,
        `bounds` or clipping it is 1/L, L being the largest curvature, for the rules whose stable rate is known: "gd",
        "momentum", "nesterov", "asgd".
        For a function, whose curvature is not known, "auto" is "bb": steepest descent with the step lengths of Barzilai
        and Borwein, safeguarded by a search; "armijo" backtracks from twice the last step; "adgd" is Malitsky and
        Mishchenko's, which asks for no values of f. By these names they work on objectives too, in the user's columns.
        They end where no step lowers the value. They take no loss with a kink ("hinge", "epsilon_insensitive"). Fixed
        rates are never small enough there in the end: give one that shrinks, as
        `lambda step: 0.1 / (1 + step) ** 0.5`, or lr="auto".
    step_num : int
        The number of steps; with `tol`, the largest number.
    grad : callable or C function, optional
        grad(x) → the gradient of f, of the shape of x; a scipy.LowLevelCallable or numba cfunc is
        `void (n, double *x, double *gradient, void *user_data)`. Without it the gradient is `numerical_gradient`'s,
        which costs 2d evaluations of f a step.
    optimizer : str or Optimizer
        The rule that makes a step of a gradient, one of `fastgd.optimizers` or its lower-case name: "gd", "momentum",
        "nesterov", "adagrad", "adadelta", "rmsprop", "adam", "adamax", "nadam", "amsgrad", "adamw", "asgd". It works in
        every run with a rate.
    solver : {None, "auto", "gd", "accelerated", "preconditioned", "coordinate", "gram", "sgd"}
        For an objective: how it is minimised, by the code of the estimators. None is "gd", or "auto" with lr="auto".
        "gd": steps by a rate; "accelerated": Nesterov's, with adaptive restart; "preconditioned": quasi-Newton steps in
        the metric of the curvature of some rows, and losses with a kink by smooth ones of falling width; "gram": XᵀX
        once, for squared losses with the identity; "sgd": steps on batches. "auto" takes the cheapest. All but "gd" and
        "sgd" with a rate work in centred and scaled columns and find their own rates, which is what they do without lr.
        A loss that is not convex by Xw + b takes "gd", "accelerated", "preconditioned" (which is its "auto") and "sgd".
    batch_size : int, optional
        For an objective: each step follows the gradient of so many rows, taken in an order that is shuffled anew for
        every epoch. For the losses that are means it is the mean over the batch, for "sse" the sum over the batch (and
        its share of the penalty). With a number or a callable as `lr` the columns are the user's own; with "auto" they
        are scaled inside, and the rate is found. `tol` is looked at after each epoch. Single rows that nobody looks
        at are taken four at a time, which rounds otherwise.
    bounds : pair, optional
        (lower, upper), each a number, an array of the shape of x, or None: after each step what lies outside is moved
        onto them; a start outside likewise. A numerical gradient still asks f for points just outside.
    l1 : float
        Adds l1·‖x‖₁ to what is minimised (not of an intercept), by a proximal step in the metric of the optimizer:
        coefficients become exactly zero, and where the run comes to rest does not depend on the rule. `fun` has it
        added, `jac` is the gradient without it. Not for an objective with an l1 of its own.
    clip_value, clip_norm : float, optional
        One of them: each entry of a gradient is cut off at ±clip_value; a gradient longer than clip_norm is shortened
        to it (Pascanu, Mikolov & Bengio 2013). The step is clipped, not what is reported.
    tol : float, optional
        When to stop early. On a function: when ‖∇f‖ ≤ tol. On an objective: when F(w) − min F ≤ tol·max(F(w), ε·F(0)),
        ε being the rounding of the dtype and F measured from the least value that the loss can have (0 but for
        "poisson"). `result.gap` says how far it is, and `result.certified` whether that is a bound: by a duality gap
        where there is a penalty, by the smallest curvature where the loss is squared (up to 512 columns), or an
        estimate with the curvature of some rows. A gradient that is rounding error only counts as reached. A loss that
        is not convex ends where a quadratic model of it gains no more than that, which is not certified. With a rate
        and a loss with a kink nothing of that holds, and tol is refused.
    f_tol, x_tol : float, optional
        Stop where a step changes the value by no more than f_tol·(f_tol + |f|), or moves x by no more than
        x_tol·(x_tol + ‖x‖), in three steps in a row (with `batch_size`, epochs). Steps that are merely short do that
        too: the message gives the norm of the gradient.
    target : float, optional
        Stop where f is at most that.
    max_seconds : float, optional
        Stop when so much time has passed since the call.
    callback : callable, optional
        callback(result) after every step, with a Result of its own that may be kept: x, fun, jac, nit, nfev, njev.
        Raising StopIteration ends the run.
    history : bool, "x", "fun" or int
        True records x, fun, lr and grad_norm of every point; "x" all but the values, which are then not evaluated;
        "fun" all but the points; a number k all of them at the start, every k-th step and the end.
    progress : bool
        Show a bar with the value (which costs an evaluation a step, where it is not free), the rate and the gradient
        norm (extra "cli").
    verbose : int
        1 prints step, x and gradient of every step, as the textbook does.
    checkpoint : path, optional
        A file that the state of the run is written to, at least every second and at the end, whole or not at all. It is
        written over where it exists, unless `resume`. Where it cannot be written (the disk is full, say), the run warns
        once, goes on and tries again; of several runs with the same file, the last to write is the one that is in it.
    resume : bool
        Go on from the checkpoint, to the same result by the bit as if nothing had happened. Without a file the run
        starts afresh; the file of a run that came to its end gives its result, or the error it ended with, unless
        `step_num` is larger now, or it was the callback or the clock that ended it: then it goes on. The file of
        another problem, start, rate or optimizer is refused; f itself, and a schedule, cannot be told from others.
    escape_saddles : bool
        Look at the curvature where the gradient has come down to a thousandth of its longest, and where a tolerance is
        met; where some is negative, move at random and follow it down (see `fastgd.saddles.escape`), which counts as a
        step with the rate NaN, and go on. The message says what the end is. A look takes 4d gradients up to 32
        variables, and some tens to 300 by Lanczos' method beyond.
    keep : {"last", "best"}
        Which point is reported: the last, or the one with the lowest value, which is then evaluated at each step.
    n_jobs : int, optional
        Threads, −1 for one a core, in place of an objective's own; or those that evaluate a function for its numerical
        gradient, which help where f waits or releases the GIL. No result depends on it by a bit.
    seed : int, optional
        Of the order of the rows with `batch_size`, and of the moves of `escape_saddles`; 0 without it. The same order
        on every machine and build.

    Returns
    -------
    Result
        x, fun, jac, nit, nfev, njev, success, status, message, history; `fun` and `jac` are those of exactly `x`.

    Raises
    ------
    KeyboardInterrupt
        Ctrl-C. `error.result` has the last whole point, with the history up to it, and None before the first; a
        checkpoint is at most a second old, and `resume` goes on from it.
    DivergenceError
        The run goes away from the minimum; the message names the step, the rate and, where it is known, the largest
        stable rate, and `error.result` has what there is. A rule that may go uphill for a while ("momentum", "adam", …)
        is given room: it diverges where the gradient grows on ten steps in a row, 10⁴ times together, to a value above
        the first, or where the run ends above its beginning.
    TypeError, ValueError
        An argument is not what it should be, or f or grad returned something else than finite real numbers at the
        start.

    Notes
    -----
    Many steps on a squared loss with identity activation are taken on the Gram matrix, where that is quicker and its
    condition number leaves ten digits: the same iterates, at O(d²) a step.

    Examples
    --------
    >>> result = gradient_descent(lambda x: x[0] ** 2 + x[1] ** 2, [-3.0, 4.0], lr=0.1, step_num=2, history=True)
    >>> result.history.x.round(6)
    array([[-3.  ,  4.  ],
           [-2.4 ,  3.2 ],
           [-1.92,  2.56]])
    """
    if precondition is not None:
        named = PRECONDITION.get(precondition if isinstance(precondition, str) else None, "preconditioned")
        raise TypeError(
            f"precondition is called solver: use solver={named!r} in place of precondition={precondition!r}"
        )
    request = _request(f, init_x, lr, step_num, grad, optimizer, solver, batch_size, bounds, l1, clip_value, clip_norm,
                       tol, escape_saddles, n_jobs, seed)  # fmt: skip
    if callback is not None:
        validation.callable_(callback, "callback")
    verbose = validation.count(int(verbose) if isinstance(verbose, bool) else verbose, "verbose")
    options = {
        "stopping": Stopping(f_tol, x_tol, target, max_seconds), "recorder": Recorder(history),
        "callbacks": () if callback is None else (callback,), "describe": step_result,
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
    l1 = l1 if l1 is NO_PENALTY else validation.scalar(l1, "l1", minimum=0)
    if not linear:
        for name, value in (("batch_size", batch_size), ("solver", solver)):
            if value is not None:
                raise TypeError(f"{name} takes a LinearObjective, whose rows are known; f is a function")
        if init_x is None:
            raise TypeError("init_x is needed: f is a function, whose number of variables is not known")
        start = validation.real_array(init_x, "init_x", dtype=np.float64)
        f = Function(f, grad, start.shape, l1, jobs)
    else:
        if grad is not None:
            raise TypeError("grad is for a function; an objective has its own gradient")
        if l1 and f.l1:
            raise ValueError(f"l1={l1:g} is given here, and the objective has l1={f.l1:g} already: give one of them")
        changes = ({} if n_jobs is None else {"n_jobs": n_jobs}) | ({"l1": l1} if l1 else {})
        f = f.replace(**changes) if changes else f
        start = None  # the best constant model, for relu: at zeros it has no gradient
        if init_x is not None:
            start = validation.weights(init_x, "init_x", f.shape, f.dtype, copy=False)
        elif rate is not None or method is not None or f.activation != "relu":
            start = np.zeros(f.shape, f.dtype)
        _refuse_kinks(f, rate, method, tol)
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
        l1 = f.l1
        if batch_size is not None or bounds is not None or l1 or solver not in (None, "auto", "gd"):
            raise ValueError(
                "escape_saddles is for full steps without bounds or l1: leave out batch_size, solver, bounds, l1"
            )
        guard = Guard(seed)
    return plan.Request(
        f, step_num, solver=solver, rate=rate, method=method, rule=rule, batch=batch_size, start=start, bounds=bounds,
        clip_value=clip_value, clip_norm=clip_norm, guard=guard, seed=seed, tol=tol,
    )  # fmt: skip


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
    else:
        identity = {"f": "a function", "grad": None if grad is None else "a function"}
    if init_x is not None:
        start = validation.real_array(init_x, "init_x", dtype=np.float64)
        identity |= {"shape": start.shape, "init_x": digest(start)}
    return identity | {"lr": "a schedule" if callable(lr) else lr}


def _identity_of_steps(request, l1, history):
    """What else it must agree on; bounds as digests."""
    bounds = request.bounds
    if isinstance(bounds, (tuple, list)):
        bounds = [None if side is None else digest(np.asarray(side)) for side in bounds]
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
