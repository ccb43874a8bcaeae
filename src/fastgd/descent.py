"""Gradient descent, w ← w − η·∇F(w), on any function or objective: the front door, and the loops behind it.

`plain` is the loop of the textbook; where nothing looks at each step, a kernel takes many at once. `accelerated` is
Nesterov's, for preconditioned runs. Both, and the stochastic one (`stochastic.py`), walk a path (`paths.py`) and report
to a `Run`, which observes, stops, and tells convergence from divergence.
"""

import time

import numpy as np

from fastgd import kernels, validation
from fastgd.errors import DivergenceError, import_extra
from fastgd.kernels.reference import (
    BEGUN,
    CURVATURE,
    FIRST_FUN,
    FUN,
    GROWTH,
    NOT_FINITE,
    OVERSHOOTING,
    OVERSHOOTS,
    RATE,
    REACHED,
)
from fastgd.objectives import LinearObjective
from fastgd.paths import Columns, Compressed, FunctionPath, Rescaled, Whitened
from fastgd.result import History, Result, Status
from fastgd.stochastic import stochastic

# A step that overshoots (the new gradient points back) and lands where the gradient is longer has met a curvature above
# 2/η. That may happen now and then on the way into a valley; this often in a row, with a gradient grown by this factor
# meanwhile and a value above the first, it is a divergence.
OVERSHOOT_LIMIT = 5
OVERSHOOT_GROWTH = 100.0
# A kernel that takes many steps comes back about so often, for Ctrl-C and the progress bar.
BURST_SECONDS = 0.05
PRECONDITIONERS = ("gram", "diagonal")
OVERSHOOTING_STEPS = "each step overshoots further than the last"


def gradient_descent(
    f,
    init_x=None,
    lr=0.01,
    step_num=100,
    *,
    grad=None,
    batch_size=None,
    precondition=None,
    tol=None,
    callback=None,
    history=False,
    progress=False,
    verbose=0,
    seed=None,
):
    """Gradient descent, x ← x − lr·∇f(x), on any function or on an objective.

    Parameters
    ----------
    f : callable or LinearObjective
        A function of an array that returns one real number, as for `numerical_gradient`, or an objective.
    init_x : array_like, optional
        Where to start; any shape, never written to, integers are promoted. An objective starts at zeros without it.
    lr : float, "auto" or callable
        The learning rate. A float is taken at its word: the textbook's iterates, in the user's own columns. A callable
        gives the rate of step 0, 1, …. "auto", for an objective: 1/L in variables in which every column is centred
        and weighs the same, L being the largest curvature there, so that it neither diverges nor needs columns of
        like size; where there is no L (activation exp) it is found by backtracking. What is reported is in the user's
        units, but for `history.lr`. It takes no loss with a kink ("hinge", "epsilon_insensitive"): there no fixed rate
        is small enough in the end, and backtracking stalls at kinks that are no minimum. Give one that shrinks, as
        `lambda step: 0.1 / (1 + step) ** 0.5`.
    step_num : int
        The number of steps; with `tol`, the largest number.
    grad : callable, optional
        grad(x) → the gradient of f, of the shape of x. Without it the gradient is `numerical_gradient`'s, which costs
        2d evaluations of f a step.
    batch_size : int, optional
        For an objective: each step follows the gradient of so many rows, taken in an order that is shuffled anew for
        every epoch. For the losses that are means it is the mean over the batch, for "sse" the sum over the batch (and
        its share of the penalty). `lr` is a number or a callable, and the columns are the user's own. `tol` is looked
        at after each epoch.
    precondition : {"gram", "diagonal"}, optional
        For an objective, with lr="auto": accelerated descent (Nesterov's, with adaptive restart) in variables in which
        the bound of the Hessian is the identity ("gram": needs XᵀX, and takes one step where the loss is squared), or
        its diagonal is ("diagonal": for columns too many for that).
    tol : float, optional
        When to stop early. On a function: when ‖∇f‖ ≤ tol. On an objective: when F(w) − min F ≤ tol·max(F(w), ε·F(w₀)),
        ε being the rounding of the dtype; the gap is bounded by ‖∇F‖²/2μ, μ being the smallest positive curvature,
        where that is known (squared loss and identity activation, up to 512 columns), and otherwise estimated: by
        ‖∇F‖²/2L, the gain of one more step, or with `precondition` by ‖∇F‖²/2μ with the smallest curvature μ met on
        the way. A gradient that is rounding error only counts as reached. With a kinked loss nothing of that holds, and
        tol is refused.
    callback : callable, optional
        callback(result) after every step, with a Result of its own that may be kept: x, fun, jac, nit. Raising
        StopIteration ends the run.
    history : bool
        Record x, fun, lr and grad_norm of every step.
    progress : bool
        Show a bar with the value and the gradient norm (extra "cli").
    verbose : int
        1 prints step, x and gradient of every step, as the textbook does.
    seed : int, optional
        Of the order of the rows with `batch_size`; 0 without it. The same order on every machine and build.

    Returns
    -------
    Result
        x, fun, jac, nit, nfev, njev, success, status, message, history; `fun` and `jac` are those of exactly `x`.

    Raises
    ------
    DivergenceError
        The run goes away from the minimum; the message names the step, the rate and, where it is known, the largest
        stable rate, and `error.result` has what there is.
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
    history = validation.boolean(history, "history")
    verbose = validation.count(int(verbose) if isinstance(verbose, bool) else verbose, "verbose")
    rate = _rate(lr)
    if batch_size is not None:
        batch_size = validation.count(batch_size, "batch_size", minimum=1)
    seed = 0 if seed is None else validation.count(seed, "seed")
    if isinstance(f, LinearObjective):
        refuse_kinks(f, rate, tol)
    path = _path(f, init_x, grad, rate, step_num, batch_size, precondition)
    run = Run(path, rate, step_num, tol, callback, verbose, history)

    def descend():
        if batch_size is not None:
            return stochastic(run, batch_size, seed)
        if precondition is not None or (rate is None and not np.isfinite(path.curvature().largest)):
            return accelerated(run)
        return plain(run)

    if not progress:
        return descend()
    tqdm = import_extra("tqdm.auto", "cli", "progress=True").tqdm
    with tqdm(total=step_num, unit="step", mininterval=0.2, leave=False) as run.bar:
        return descend()


def _rate(lr):
    """The rate as a function of the step, or None for "auto"."""
    if isinstance(lr, str):
        if lr != "auto":
            raise ValueError(f'lr must be a number, a function of the step, or "auto"; got {validation.describe(lr)}')
        return None
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


class Constant(float):
    """A rate that is the same for every step."""

    def __call__(self, step):
        return float(self)


def _path(f, init_x, grad, rate, steps, batch_size, precondition):
    """What is walked."""
    if not isinstance(f, LinearObjective):
        for name, value in (("batch_size", batch_size), ("precondition", precondition)):
            if value is not None:
                raise TypeError(f"{name} takes a LinearObjective, whose rows are known; f is a function")
        if init_x is None:
            raise TypeError("init_x is needed: f is a function, whose number of variables is not known")
        if rate is None:
            raise ValueError('lr="auto" takes a LinearObjective, whose curvature is known; give a rate for a function')
        return FunctionPath(f, grad, init_x)
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
    if rate is None:
        path = Rescaled(f, init_x)
        return Compressed.of(path, steps) if np.isfinite(f.loss_curvature) else path
    return Compressed.of(Columns(f, init_x), steps)


# ------------------------------------------------------------------------------------------------------------- loops


def plain(run):
    """x ← x − η·∇F(x), one step after the other, or many at once in a kernel."""
    path, z, last, step = run.path, run.path.start, None, 0
    if run.rate is None:
        run.rate = Constant(1 / (path.curvature().largest or 1.0))
    if path.has_bursts and run.may_burst:
        z = z.copy()
        step, last = _bursts(run, z)
        if isinstance(last, Result):
            return last
    while True:
        point = Point(step, z, *path.evaluate(z, run.want_fun))
        run.judge(point, last)
        if result := run.look_at(point):
            return result
        if step == run.limit:
            return run.at_limit(point)
        point.lr = run.rate(step)
        run.take(point)
        last = point
        z = z.copy()
        kernels.active.update(z.reshape(-1), point.gradient.reshape(-1), point.lr)
        step += 1


def _bursts(run, z):
    """Take all steps, in z, by a kernel. Returns the steps and the last Point before z; or the Result, if it ended."""
    path, limit, step, length = run.path, run.limit, 0, 64
    state = np.array([0, 0, 1, 0, 0, 0, 0, 0], np.float64)
    gradient, previous = np.zeros_like(z), np.zeros_like(z)
    stop = (*run.gap_rule(z.size), OVERSHOOT_LIMIT, OVERSHOOT_GROWTH)
    while step < limit:
        length = min(length, limit - step)
        rates = run.rates(step, length)
        funs, norms = np.empty(length), np.empty(length)
        points = np.empty((length if run.history is not None else 0, z.size), z.dtype)
        started = time.perf_counter()
        taken, reason = path.burst(z, rates, *stop, state, gradient, previous, funs, norms, points)
        elapsed = time.perf_counter() - started
        run.first_fun, run.last_rate = state[FIRST_FUN], state[RATE]
        run.met_curvature, run.overshoots, run.growth = state[CURVATURE], int(state[OVERSHOOTS]), state[GROWTH]
        step += taken
        evaluated = taken + (reason in (REACHED, OVERSHOOTING))
        run.record(points[:evaluated].reshape(-1, *z.shape), funs[:evaluated], norms[:evaluated], rates[:taken])
        if run.bar is not None and evaluated:
            run.bar.update(taken)
            run.show(funs[evaluated - 1], norms[evaluated - 1])
        if reason == NOT_FINITE:
            last = Point(step - 1, z, None, gradient, lr=state[RATE]) if state[BEGUN] else None
            raise run.not_finite(Point(step, z, np.nan, gradient), last)
        if reason == OVERSHOOTING:
            raise run.diverged(Point(step, z, None, gradient), state[RATE], OVERSHOOTING_STEPS)
        if reason == REACHED:
            point = Point(step, z, funs[taken], gradient)
            sentence = run.reached(point) or "the gradient is zero"
            point.fun = None  # the kernel may have added up in another order than `value` does
            return step, run.result(point, Status.CONVERGED, sentence)
        # As many steps next time as take about BURST_SECONDS, without leaping.
        length = int(np.clip(length * BURST_SECONDS / max(elapsed, 1e-6), 1, min(16 * length, 1 << 20)))
    return step, Point(step - 1, previous, state[FUN], gradient.copy(), lr=state[RATE]) if step else None


def accelerated(run):
    """Nesterov's accelerated descent with adaptive restart (O'Donoghue & Candès 2015, the gradient scheme).

        x₊ = y − η·∇F(y);    y₊ = x₊ + (t − 1)/t₊·(x₊ − x),    t₊ = (1 + √(1 + 4t²))/2

    and momentum starts anew (t = 1) whenever it points uphill. Where the curvature has no bound, η is halved until F
    falls as a quadratic of curvature 1/η would, and grows again after. The points that count are the y, at which the
    gradient is known.
    """
    path, y = run.path, run.path.start.copy()
    largest = path.curvature().largest
    bounded = np.isfinite(largest)
    rate = 1 / (largest or 1.0) if bounded else 1.0
    x, t, step, last = y, 1.0, 0, None
    while True:
        point = Point(step, y, *path.evaluate(y, True))
        if not point.finite:
            raise run.not_finite(point, last)
        if last is None:
            run.first_fun = point.fun
        else:
            run.meet(point, last)
        if result := run.look_at(point):
            return result
        if step == run.limit:
            return run.at_limit(point)
        new = y - rate * point.gradient
        rounding = 8 * np.finfo(np.float64).eps * abs(point.fun)  # of the two values that are compared
        while not bounded and not path.value(new) <= point.fun - 0.5 * rate * point.norm**2 + rounding:
            rate /= 2
            if rate < 1e-30:
                return run.result(point, Status.CONVERGED, "no step lowers the value: it is at its rounding error")
            new = y - rate * point.gradient
        point.lr = rate
        run.take(point)
        if np.vdot(point.gradient, new - x) > 0:
            t = 1.0
        t_next = (1 + np.sqrt(1 + 4 * t * t)) / 2
        last, y = point, new + (t - 1) / t_next * (new - x)
        x, t = new, t_next
        rate = rate if bounded else 1.5 * rate
        step += 1


# --------------------------------------------------------------------------------------------------------------- run


class Point:
    """One point of a run, in the variables of its path."""

    __slots__ = ("fun", "gradient", "lr", "norm", "step", "z")

    def __init__(self, step, z, fun, gradient, lr=None):
        self.step, self.z, self.fun, self.gradient, self.lr = step, z, fun, gradient, lr
        self.norm = _norm(gradient)

    @property
    def finite(self):
        return np.isfinite(self.norm) and (self.fun is None or np.isfinite(self.fun))


class Run:
    """What the loops share: observing, stopping, and telling convergence from divergence."""

    def __init__(self, path, rate, limit, tol, callback, verbose, history):
        self.path, self.rate, self.limit, self.tol = path, rate, limit, tol
        self.callback, self.verbose = callback, verbose
        self.history = History(x=[], fun=[], lr=[], grad_norm=[]) if history else None
        self.bar = None
        self.want_fun = callback is not None or history
        self.first_fun = None
        self.overshoots, self.growth = 0, 1.0  # steps in a row that overshot, and what they did to the gradient's norm
        self.met_curvature = self.last_rate = None
        self.least_curvature = None  # the smallest met by an accelerated run

    def rates(self, step, count):
        """The rates of so many steps from `step` on."""
        if isinstance(self.rate, Constant):
            return np.full(count, float(self.rate))
        return np.array([self.rate(step + i) for i in range(count)])

    @property
    def looks_at_each_step(self):
        return self.callback is not None or bool(self.verbose)

    @property
    def may_burst(self):
        """Whether all that is to be seen and judged can be had of a kernel that takes many steps."""
        if self.looks_at_each_step or (self.history is not None and not self.path.in_user_units):
            return False  # it records norms in the variables of the path
        return self.tol is None or np.isfinite(self.path.curvature().largest)

    # ---------------------------------------------------------------------------------------------------- judgement

    def judge(self, point, last):
        """Raise if the run has diverged; remember what tells."""
        if not point.finite:
            raise self.not_finite(point, last)
        if last is None:
            self.first_fun = point.fun
            return
        if point.norm > last.norm and np.vdot(point.gradient, last.gradient) < 0 and last.lr * last.norm > 0:
            self.overshoots += 1
            self.growth *= point.norm / last.norm
            # The curvature met along the step, ‖Δg‖/‖Δx‖ with Δx = −η·g. It nears the largest from below, until the run
            # has left the place for good.
            if self.overshoots == 1 or self.growth < OVERSHOOT_GROWTH**3:
                self.met_curvature = _norm(point.gradient - last.gradient) / (last.lr * last.norm)
            if self.overshoots >= OVERSHOOT_LIMIT and self.growth >= OVERSHOOT_GROWTH and self._is_higher(point):
                self._observe(point)
                raise self.diverged(point, last.lr, OVERSHOOTING_STEPS)
        else:
            self.overshoots, self.growth = 0, 1.0

    def _is_higher(self, point):
        """Whether the value is above the first. A function that nobody asked for is only evaluated on suspicion."""
        if self.first_fun is None:
            self.first_fun = self.path.value(self.path.start)
        if point.fun is None:
            point.fun = self.path.value(point.z)
        return not point.fun <= self.first_fun

    def meet(self, point, last):
        """Remember the smallest curvature between points of a run, for the estimate of the gap."""
        move = point.z - last.z
        length = float(np.vdot(move, move))
        met = float(np.vdot(point.gradient - last.gradient, move)) / length if length > 0 else 0.0
        if met > 0:
            self.least_curvature = met if self.least_curvature is None else min(met, self.least_curvature)

    def gap_rule(self, size):
        """(factor, floor): the tolerance is met where ‖∇F‖² ≤ factor·max(F, floor·F₀)."""
        if self.tol is None:
            return -1.0, 0.0
        curvature = self.path.curvature()
        factor = 2 * self.tol * (curvature.smallest or curvature.largest)
        return max(factor, self._rounding(size, curvature.largest)), self._eps

    @property
    def _eps(self):
        return float(np.finfo(self.path.start.dtype).eps)

    def _rounding(self, size, largest):
        # A component of the gradient is a sum of rows whose rounding is about ε·√(2F·L).
        return 2 * size * (8 * self._eps) ** 2 * largest

    def reached(self, point):
        """The sentence that says why the tolerance is met, or None."""
        if self.tol is None:
            return None
        curvature, fun, norm = self.path.curvature(), point.fun, point.norm
        if curvature is None:
            return f"the gradient norm {norm:.3g} is within tol = {self.tol:g}" if norm <= self.tol else None
        if norm == 0:
            return "the gradient is zero"
        largest = curvature.largest
        if not np.isfinite(largest):  # then that of the quadratic which the last step was safe for
            largest = 1 / self.last_rate if self.last_rate else 0.0
        least = curvature.smallest or self.least_curvature or largest
        gap = norm**2 / (2 * least) if least else np.inf
        if gap <= self.tol * max(fun, self._eps * self.first_fun):
            return self._sentence(gap, fun, curvature)
        if norm**2 <= self._rounding(point.z.size, largest) * fun:
            return "the gradient is at its rounding error: no step can lower the value"
        return None

    def _sentence(self, gap, fun, curvature):
        if abs(fun) <= self._eps * abs(self.first_fun):
            return "the value is zero but for rounding"
        how = "at most" if curvature.smallest else "about"
        sentence = f"the gap to the minimum is {how} {gap / fun:.1e} of the value, within tol = {self.tol:g}"
        if not curvature.smallest:
            source = "the smallest curvature met" if self.least_curvature else "the gain of one more step"
            sentence += f" (estimated by {source})"
        if curvature.lost:
            sentence += (
                f"; that leaves out {curvature.lost} direction(s) in which the columns are collinear but for rounding, "
                "where the weights are not determined"
            )
        return sentence

    def at_limit(self, point):
        """The Result of a run that has taken all its steps."""
        if self.overshoots and self._is_higher(point):
            raise self.diverged(point, self.last_rate, "the run ends higher than it began")
        message = f"took all {point.step} steps"
        if self.tol is not None:
            message += f" without reaching tol = {self.tol:g}: raise step_num"
        return self.result(point, Status.STEP_LIMIT, message, success=self.tol is None)

    def not_finite(self, point, last):
        if last is not None:
            return self.diverged(last, last.lr, "the value or the gradient is no longer finite", step=point.step)
        what = "the value or the gradient is not finite"
        if point.fun is not None and not np.isfinite(point.fun):
            what = f"the value is {point.fun}"
        return ValueError(f"{what} at the start, x = {validation.show_point(self.path.to_user(point.z))}")

    def diverged(self, point, lr, what, step=None, stable=None):
        """The error for a divergence noticed at `step`, with `point` as the last one worth reporting."""
        step = point.step if step is None else step
        curvature = self.path.curvature()
        source = "2/L with L the curvature that the last steps met"
        if stable is not None:
            source = "2/L with L the largest curvature of the loss of one row"
        elif curvature is not None:
            stable, source = 2 / curvature.largest if curvature.largest else None, "2/L with L the largest curvature"
        elif self.overshoots:
            stable = 2 / self.met_curvature
        limit = f"; the largest stable rate is about {stable:.3g} ({source})" if stable else ""
        automatic = ', or lr="auto"' if curvature is not None else ""
        result = self.result(point, Status.DIVERGED, f"diverged at step {step}", success=False)
        return DivergenceError(
            f"gradient descent diverged at step {step} with learning rate {lr:.6g}: {what}{limit}. "
            f"Take a smaller lr{automatic}.",
            step=step, lr=lr, stable_lr=stable or None, result=result,
        )  # fmt: skip

    # ----------------------------------------------------------------------------------------------------- reporting

    def look_at(self, point, judge_tol=True):
        """Show the point to whoever looks at each step; the Result, if the run ends here."""
        self._observe(point)
        if point.step and self._callback_stops(point):
            return self.result(point, Status.STOPPED_BY_CALLBACK, f"the callback stopped the run at step {point.step}")
        if judge_tol and (reason := self.reached(point)):
            return self.result(point, Status.CONVERGED, reason)
        return None

    def _observe(self, point):
        if self.history is not None or self.verbose:
            x, gradient = self.path.to_user(point.z), self.path.gradient_to_user(point.gradient)
            self.record([x], [point.fun], [_norm(gradient)], [], in_user_units=True)
            if self.verbose:
                print(
                    f"step {point.step}: x = {validation.show_point(x)}, gradient = {validation.show_point(gradient)}"
                )
        if self.bar is not None:
            self.bar.update(point.step > 0)
            self.show(point.fun, point.norm)

    def take(self, point):
        """Remember the rate of the step from a point."""
        self.last_rate = point.lr
        if self.history is not None:
            self.history.lr.append(point.lr)

    def record(self, points, funs, norms, rates, in_user_units=False):
        """Append points, in the variables of the path, to the history."""
        if self.history is None:
            return
        self.history.x.extend(points if in_user_units else map(self.path.to_user, points))
        self.history.fun.extend(funs)
        self.history.grad_norm.extend(norms)
        self.history.lr.extend(rates)

    def show(self, fun, norm):
        value = "" if fun is None else f"value {fun:.6g}, "
        self.bar.set_postfix_str(f"{value}|gradient| {norm:.3g}", refresh=False)

    def _callback_stops(self, point):
        if self.callback is None:
            return False
        path = self.path
        jac = path.gradient_to_user(point.gradient).copy()
        try:
            self.callback(Result(x=path.to_user(point.z), fun=point.fun, jac=jac, nit=point.step))
        except StopIteration:
            return True
        return False

    def result(self, point, status, message, success=True):
        path = self.path
        x, fun, jac = path.settle(point.z, point.fun, point.gradient)
        history = None
        if self.history is not None:
            history = History({name: np.array(rows) for name, rows in self.history.items()})
        return Result(
            x=x, fun=float(fun), jac=jac, nit=point.step, nfev=path.nfev, njev=path.njev,
            success=success, status=status, message=message + path.note, history=history,
        )  # fmt: skip


def _norm(array):
    """Euclidean norm in float64, without overflow on the way."""
    with np.errstate(all="ignore"):
        flat = array.reshape(-1).astype(np.float64)
        norm = float(np.sqrt(flat @ flat))
        if norm == 0 or not np.isfinite(norm):
            largest = float(np.max(np.abs(flat), initial=0.0))
            if 0 < largest < np.inf:
                norm = largest * float(np.sqrt(np.sum((flat / largest) ** 2)))
        return norm
