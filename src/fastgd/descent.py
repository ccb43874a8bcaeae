"""Gradient descent, w ← w − η·∇F(w), on any function or objective: the front door.

It looks at what is asked for, and hands a `Run` (`run.py`) on a path (`paths.py`) to the loop for it, in `loops.py`,
`linesearch.py` or `stochastic.py`.
"""

import contextlib
import operator

import numpy as np

from fastgd import optimizers, rows, validation
from fastgd.errors import DivergenceError, import_extra
from fastgd.files.checkpoint import Checkpoint, digest, ended
from fastgd.linesearch import AUTO, METHODS, rate_free
from fastgd.loops import accelerated, plain
from fastgd.objectives import LinearObjective
from fastgd.paths import Columns, Compressed, FunctionPath, Penalised, Rescaled, Whitened
from fastgd.run import Constant, Run
from fastgd.saddles import Guard
from fastgd.schedules import Plateau
from fastgd.stochastic import stochastic
from fastgd.stopping import Stopping
from fastgd.updates import Update

PRECONDITIONERS = ("gram", "diagonal")


def gradient_descent(
    f,
    init_x=None,
    lr=0.01,
    step_num=100,
    *,
    grad=None,
    optimizer="gd",
    batch_size=None,
    precondition=None,
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
    n_jobs=None,
    seed=None,
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
        (with `batch_size`, after each epoch). "auto", for an objective: 1/L in variables in which every column is
        centred and weighs the same, L being the largest curvature there, so that it neither diverges nor needs columns
        of like size; where there is no L (activation exp) it is found by backtracking. What is reported is in the
        user's units, but for `history.lr`. With `l1` or `bounds` the variables are the user's own, and L is the largest
        curvature in those. "auto" is for the rules whose stable rate is known, "gd", "momentum", "nesterov", "asgd".
        For a function, whose curvature is not known, "auto" is "bb": steepest descent with the step lengths of Barzilai
        and Borwein, safeguarded by a search; "armijo" backtracks from twice the last step; "adgd" is Malitsky and
        Mishchenko's, which asks for no values of f. By these names they work on objectives too, in the user's columns.
        They end where no step lowers the value. It takes no loss with a kink ("hinge", "epsilon_insensitive"): there
        no fixed rate is small enough in the end, and backtracking stalls at kinks that are no minimum. Give one that
        shrinks, as `lambda step: 0.1 / (1 + step) ** 0.5`.
    step_num : int
        The number of steps; with `tol`, the largest number.
    grad : callable or C function, optional
        grad(x) → the gradient of f, of the shape of x; a scipy.LowLevelCallable or numba cfunc is
        `void (n, double *x, double *gradient, void *user_data)`. Without it the gradient is `numerical_gradient`'s,
        which costs 2d evaluations of f a step.
    optimizer : str or Optimizer
        The rule that makes a step of a gradient, one of `fastgd.optimizers` or its lower-case name: "gd", "momentum",
        "nesterov", "adagrad", "adadelta", "rmsprop", "adam", "adamax", "nadam", "amsgrad", "adamw", "asgd". It works in
        every kind of run but the accelerated one of `precondition`.
    batch_size : int, optional
        For an objective: each step follows the gradient of so many rows, taken in an order that is shuffled anew for
        every epoch. For the losses that are means it is the mean over the batch, for "sse" the sum over the batch (and
        its share of the penalty). `lr` is a number or a callable, and the columns are the user's own. `tol` is looked
        at after each epoch. Single rows that nobody looks at are taken four at a time, which rounds otherwise.
    precondition : {"gram", "diagonal"}, optional
        For an objective, with lr="auto": accelerated descent (Nesterov's, with adaptive restart) in variables in which
        the bound of the Hessian is the identity ("gram": needs XᵀX, and takes one step where the loss is squared), or
        its diagonal is ("diagonal": for columns too many for that).
    bounds : pair, optional
        (lower, upper), each a number, an array of the shape of x, or None: after each step what lies outside is moved
        onto them; a start outside likewise. A numerical gradient still asks f for points just outside.
    l1 : float
        Adds l1·‖x‖₁ to what is minimised (not of an intercept), by a proximal step in the metric of the optimizer:
        coefficients become exactly zero, and where the run comes to rest does not depend on the rule. `fun` has it
        added, `jac` is the gradient without it.
    clip_value, clip_norm : float, optional
        One of them: each entry of a gradient is cut off at ±clip_value; a gradient longer than clip_norm is shortened
        to it (Pascanu, Mikolov & Bengio 2013). The step is clipped, not what is reported.
    tol : float, optional
        When to stop early. On a function: when ‖∇f‖ ≤ tol. On an objective: when F(w) − min F ≤ tol·max(F(w), ε·F(w₀)),
        ε being the rounding of the dtype; the gap is bounded by ‖∇F‖²/2μ, μ being the smallest positive curvature,
        where that is known (squared loss and identity activation, up to 512 columns), and otherwise estimated: by
        ‖∇F‖²/2L, the gain of one more step, or with `precondition` by ‖∇F‖²/2μ with the smallest curvature μ met on
        the way. A gradient that is rounding error only counts as reached. With l1 or bounds the gradient is in all
        this the shortest subgradient within the bounds, what is zero at the minimum; so is `history.grad_norm`. With a
        kinked loss nothing of that holds, and tol is refused.
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
    step_num = validation.count(step_num, "step_num")
    if tol is not None:
        tol = validation.scalar(tol, "tol", positive=True)
    if callback is not None:
        validation.callable_(callback, "callback")
    stopping = Stopping(f_tol, x_tol, target, max_seconds)
    verbose = validation.count(int(verbose) if isinstance(verbose, bool) else verbose, "verbose")
    method = _method(f, lr)
    rate = _rate(lr) if method is None else None
    if batch_size is not None:
        batch_size = validation.count(batch_size, "batch_size", minimum=1)
    seed = 0 if seed is None else validation.count(seed, "seed")
    jobs = rows.job_count(n_jobs)
    if isinstance(f, LinearObjective):
        f = f if n_jobs is None else f.with_jobs(n_jobs)
        refuse_kinks(f, rate, tol)
    optimizer = optimizers.get(optimizer)
    if method is not None:
        for name, value in (("batch_size", batch_size), ("precondition", precondition)):
            if value is not None and isinstance(f, LinearObjective):
                raise ValueError(f"lr={lr!r} is for full passes in the user's own columns; leave out {name}")
        if optimizer.name != "gd":
            raise ValueError(f'lr={lr!r} finds the length of plain steps, optimizer="gd"; got {optimizer!r}')
    elif rate is None and optimizer.stable_formula is None:
        raise ValueError(f'lr="auto" is 1/L, which means nothing to {optimizer!r}: give a number or a schedule')
    limits = {"l1": l1, "bounds": bounds, "clip_value": clip_value, "clip_norm": clip_norm}
    resume = validation.boolean(resume, "resume")
    escape_saddles = validation.boolean(escape_saddles, "escape_saddles")
    saved, steps, begun = None, step_num, 0
    if checkpoint is not None:
        plan = {"optimizer": repr(optimizer), "batch_size": batch_size, "precondition": precondition, "seed": seed}
        plan["escape_saddles"] = escape_saddles
        plan |= _plain(limits) | {"history": history}
        checkpoint = Checkpoint(checkpoint, _identity(f, init_x, grad, lr) | plan)
        saved = checkpoint.load() if resume else None
        if saved is not None:
            with checkpoint.restoring():
                if result := ended(saved, step_num):
                    return result
                steps, begun = operator.index(saved["steps"]), operator.index(saved["step"])
            if begun > step_num:
                raise ValueError(f"step_num = {step_num}, but {begun} steps are in {checkpoint.path!r} already")
    elif resume:
        raise ValueError("resume=True needs checkpoint=, the file to go on from")
    in_own_columns = bounds is not None or l1 != 0 or method is not None
    steps = 0 if method is not None else steps  # a search compares values, which the Gram matrix blurs
    path = _path(f, init_x, grad, rate, steps, batch_size, precondition, in_own_columns, jobs)
    penalised = f.rows.d * f.rows.k if isinstance(f, LinearObjective) else None
    update = Update(optimizer, path.start, penalised, **limits)
    if update.l1:
        path = Penalised(path, update)
    is_accelerated = method is None and (
        precondition is not None or (rate is None and not np.isfinite(path.curvature().largest))
    )
    if is_accelerated and not update.plain:
        why = "precondition" if precondition is not None else 'lr="auto" where the curvature has no bound'
        raise ValueError(
            f"{why} makes accelerated steps, which take no other optimizer, l1, bounds or clipping: leave those out"
        )
    guard = None
    if escape_saddles:
        if batch_size is not None or is_accelerated or update.limited:
            raise ValueError(
                "escape_saddles is for full steps without bounds or l1: leave out batch_size, precondition, bounds, l1"
            )
        guard = Guard(seed)
    run = Run(path, rate, step_num, tol, callback, verbose, history, update, stopping, checkpoint, saved, guard)

    def descend():
        if batch_size is not None:
            return stochastic(run, batch_size, seed)
        if is_accelerated:
            return accelerated(run)
        if method is not None:
            return rate_free(run, method)
        return plain(run)

    with _bar(step_num, begun) if progress else contextlib.nullcontext() as run.bar:
        try:
            result = descend()
        except DivergenceError as error:
            if checkpoint is not None:
                checkpoint.finish(error.result, error)
            raise
        except KeyboardInterrupt as error:  # a checkpoint is there already, at most a second old
            error.result = run.interrupted()
            error.add_note(_how_to_go_on(error.result, checkpoint))
            raise
        if checkpoint is not None:
            checkpoint.finish(result)
        return result


def _how_to_go_on(result, checkpoint):
    """What a KeyboardInterrupt says of the run that it ended."""
    if result is None:
        return "gradient_descent was interrupted before its first point"
    way = "" if checkpoint is None else f"; resume=True goes on from {checkpoint.path!r}"
    return (
        f"gradient_descent was interrupted after {result.nit} steps; the exception's attribute `result` (at a prompt, "
        f"sys.last_value.result) has the point there{way}"
    )


def _bar(steps, begun):
    tqdm = import_extra("tqdm.auto", "cli", "progress=True").tqdm
    return tqdm(total=steps, initial=begun, unit="step", mininterval=0.2, leave=False)


def _identity(f, init_x, grad, lr):
    """What a checkpoint must agree on, of the problem and its rate: numbers and digests. A function has no digest."""
    if isinstance(f, LinearObjective):
        X = (f.X.data, f.X.indices, f.X.indptr) if validation.is_sparse(f.X) else (f.X,)
        weights = f.rows.weights
        identity = {"f": repr(f), "X": digest(*X), "y": digest(f.y), "sample_weight": digest(weights)}
    else:
        identity = {"f": "a function", "grad": None if grad is None else "a function"}
    if init_x is not None:
        start = validation.real_array(init_x, "init_x", dtype=np.float64)
        identity |= {"shape": start.shape, "init_x": digest(start)}
    if callable(lr):
        lr = "a schedule"
    return identity | {"lr": lr}


def _plain(limits):
    """Arguments as an identity has them: numbers as they are, bounds as digests."""
    bounds = limits["bounds"]
    if isinstance(bounds, (tuple, list)):
        bounds = [None if side is None else digest(np.asarray(side)) for side in bounds]
    return {**limits, "bounds": bounds}


def _method(f, lr):
    """The method that finds the length of each step, or None where the rate is known."""
    if not isinstance(lr, str):
        return None
    if lr not in ("auto", *METHODS):
        names = ", ".join(map(repr, ("auto", *METHODS)))
        raise ValueError(f"lr must be a number, a function of the step, or one of {names}; got {lr!r}")
    if lr != "auto":
        return lr
    return None if isinstance(f, LinearObjective) else AUTO


def _rate(lr):
    """The rate as a function of the step, or None for "auto"."""
    if isinstance(lr, str):
        return None
    if isinstance(lr, Plateau):
        return lr.fresh()
    if callable(lr):
        return lambda step: validation.scalar(lr(step), f"lr({step})", minimum=0)
    return Constant(validation.scalar(lr, "lr", minimum=0))


def refuse_kinks(objective, rate, tol):
    """Refuse what takes a gradient to vanish towards the minimum, where the minimum may be at a kink."""
    if not objective.kinked or (rate is not None and tol is None):
        return
    what = 'lr="auto" and precondition have no rate' if rate is None else "tol has no bound of the gap"
    raise ValueError(
        f"{what} for loss={objective.loss!r}, whose slope jumps: give a rate that shrinks, such as "
        "lr=lambda step: 0.1 / (1 + step) ** 0.5, and a number of steps"
    )


def _path(f, init_x, grad, rate, steps, batch_size, precondition, in_own_columns, jobs):
    """What is walked."""
    if not isinstance(f, LinearObjective):
        for name, value in (("batch_size", batch_size), ("precondition", precondition)):
            if value is not None:
                raise TypeError(f"{name} takes a LinearObjective, whose rows are known; f is a function")
        if init_x is None:
            raise TypeError("init_x is needed: f is a function, whose number of variables is not known")
        return FunctionPath(f, grad, init_x, jobs)
    if grad is not None:
        raise TypeError("grad is for a function; an objective has its own gradient")
    if precondition is not None:
        validation.choice(precondition, "precondition", PRECONDITIONERS)
        if rate is not None:
            raise ValueError(
                'precondition changes the variables, in which a rate of yours means nothing: use lr="auto"'
            )
        if batch_size is not None:
            raise ValueError("precondition is for full passes; leave out batch_size")
        return (Whitened if precondition == "gram" else Rescaled)(f, init_x)
    if batch_size is not None:
        if rate is None:
            raise ValueError('lr="auto" is for full passes; give a number or a function of the step with batch_size')
        return Columns(f, init_x)
    if rate is None and not in_own_columns:
        path = Rescaled(f, init_x)
        return Compressed.of(path, steps) if np.isfinite(f.loss_curvature) else path
    return Compressed.of(Columns(f, init_x), steps)
