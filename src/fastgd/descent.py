"""The one loop of gradient descent: w ← w − η·∇F(w), on any objective."""

import numpy as np

from fastgd import kernels, validation
from fastgd.errors import DivergenceError, import_extra
from fastgd.objectives import Columns, FunctionPath, LinearObjective, Rescaled
from fastgd.result import History, Result, Status

# A step that overshoots (the new gradient points back) and lands where the gradient is longer has met a curvature above
# 2/η. That may happen now and then on the way into a valley; this often in a row, with a gradient grown by this factor
# meanwhile, it is a divergence.
OVERSHOOTS = 5
OVERSHOOT_GROWTH = 100.0


def gradient_descent(
    f,
    init_x=None,
    lr=0.01,
    step_num=100,
    *,
    grad=None,
    tol=None,
    callback=None,
    history=False,
    progress=False,
    verbose=0,
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
        like size; what is reported is in the user's units, but for `history.lr`, which is 1/L.
    step_num : int
        The number of steps; with `tol`, the largest number.
    grad : callable, optional
        grad(x) → the gradient of f, of the shape of x. Without it the gradient is `numerical_gradient`'s, which costs
        2d evaluations of f a step.
    tol : float, optional
        When to stop early. On a function: when ‖∇f‖ ≤ tol. On an objective: when F(w) − min F ≤ tol·max(F(w), ε·F(w₀)),
        ε being the rounding of the dtype; the gap is bounded by ‖∇F‖²/2μ, μ being the smallest positive curvature,
        where that is known (identity activation, up to 512 columns), and otherwise estimated by ‖∇F‖²/2L, the gain of
        one more step. A gradient that is rounding error only counts as reached.
    callback : callable, optional
        callback(result) after every step, with a Result of its own that may be kept: x, fun, jac, nit. Raising
        StopIteration ends the run.
    history : bool
        Record x, fun, lr and grad_norm of every step.
    progress : bool
        Show a bar with the value and the gradient norm (extra "cli").
    verbose : int
        1 prints step, x and gradient of every step, as the textbook does.

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
    path, rate = _path_and_rate(f, init_x, grad, lr)
    run = _Run(path, rate, tol, callback, verbose, History(x=[], fun=[], lr=[], grad_norm=[]) if history else None)
    if not progress:
        return run.descend(range(step_num + 1), step_num)
    tqdm = import_extra("tqdm.auto", "cli", "progress=True").tqdm
    with tqdm(range(step_num + 1), unit="step", mininterval=0.2, leave=False) as bar:
        run.bar = bar
        return run.descend(bar, step_num)


def _path_and_rate(f, init_x, grad, lr):
    """What is walked, and the rate as a function of the step."""
    automatic = isinstance(lr, str) and validation.choice(lr, "lr", ("auto",)) == "auto"
    if isinstance(f, LinearObjective):
        if grad is not None:
            raise TypeError("grad is for a function; an objective has its own gradient")
        path = (Rescaled if automatic else Columns)(f, init_x)
    else:
        if init_x is None:
            raise TypeError("init_x is needed: f is a function, whose number of variables is not known")
        if automatic:
            raise ValueError('lr="auto" takes a LinearObjective, whose curvature is known; give a rate for a function')
        path = FunctionPath(f, grad, init_x)
    if automatic:
        constant = 1 / (path.curvature().largest or 1.0)
    elif callable(lr):
        return path, lambda step: validation.scalar(lr(step), f"lr({step})", minimum=0)
    else:
        constant = validation.scalar(lr, "lr", minimum=0)
    return path, lambda step: constant


class _Run:
    """One run: the loop, and what it must remember to tell convergence from divergence."""

    def __init__(self, path, rate, tol, callback, verbose, history):
        self.path, self.rate, self.tol = path, rate, tol
        self.callback, self.verbose, self.history = callback, verbose, history
        self.bar = None
        self.want_fun = callback is not None or history is not None
        self.first_fun = None
        self.overshoots, self.growth = 0, 1.0  # steps in a row that overshot, and what they did to the gradient's norm

    def descend(self, steps, limit):
        path = self.path
        z = path.start
        last = None  # the point a step ago
        for step in steps:
            point = _Point(step, z, *path.evaluate(z, self.want_fun), self.rate(step))
            if not point.finite:
                raise self._not_finite(point, last)
            if step == 0:
                self.first_fun = point.fun
            else:
                self._watch_overshoot(point, last)
                if self.overshoots >= OVERSHOOTS and self.growth >= OVERSHOOT_GROWTH:
                    raise self._diverged(step, point, "each step overshoots further than the last")
            self._observe(point)
            if self.tol is not None and (reason := self._reached(point)):
                return self._result(point, Status.CONVERGED, reason)
            if step and self._callback_stops(point):
                return self._result(point, Status.STOPPED_BY_CALLBACK, f"the callback stopped the run at step {step}")
            if step < limit:
                last = point
                z = z.copy()
                kernels.active.update(z.reshape(-1), point.gradient.reshape(-1), point.lr)
        return self._at_limit(point)

    # ---------------------------------------------------------------------------------------------------- judgement

    def _reached(self, point):
        """The sentence that says why the tolerance is met, or None."""
        curvature, fun, norm = self.path.curvature(), point.fun, point.norm
        if curvature is None:
            return f"the gradient norm {norm:.3g} is within tol = {self.tol:g}" if norm <= self.tol else None
        if norm == 0:
            return "the gradient is zero"
        eps = float(np.finfo(self.path.start.dtype).eps)
        gap = norm**2 / (2 * (curvature.smallest or curvature.largest))
        if gap <= self.tol * max(fun, eps * self.first_fun):
            return self._reached_sentence(gap, fun, curvature, eps)
        # A component of the gradient is a sum of rows whose rounding is about ε·√(2F·L).
        if norm**2 <= point.z.size * (8 * eps) ** 2 * 2 * fun * curvature.largest:
            return "the gradient is at its rounding error: no step can lower the value"
        return None

    def _reached_sentence(self, gap, fun, curvature, eps):
        if fun <= eps * self.first_fun:
            return "the value is zero but for rounding"
        sentence = f"the gap to the minimum is at most {gap / fun:.1e} of the value"
        if not curvature.smallest:
            sentence += " (estimated by the gain of one more step)"
        sentence += f", within tol = {self.tol:g}"
        if curvature.lost:
            sentence += (
                f"; that leaves out {curvature.lost} direction(s) in which the columns are collinear but for rounding, "
                "where the weights are not determined"
            )
        return sentence

    def _watch_overshoot(self, point, last):
        if point.norm > last.norm and np.vdot(point.gradient, last.gradient) < 0:
            self.overshoots += 1
            self.growth *= point.norm / last.norm
            # The curvature met along the last step, ‖Δg‖/‖Δx‖ with Δx = −η·g; the mildest of those that overshot.
            met = _norm(point.gradient - last.gradient) / (last.lr * last.norm)
            self.met_curvature = met if self.overshoots == 1 else min(met, self.met_curvature)
        else:
            self.overshoots, self.growth = 0, 1.0

    def _at_limit(self, point):
        worse = point.fun > self.first_fun if self.path.fun_is_free else self.growth > 2
        if self.overshoots and worse:
            raise self._diverged(point.step, point, "the run ends higher than it began, and each step overshoots")
        message = f"took all {point.step} steps"
        if self.tol is not None:
            message += f" without reaching tol = {self.tol:g}: raise step_num"
        return self._result(point, Status.STEP_LIMIT, message, success=self.tol is None)

    def _not_finite(self, point, last):
        if last is not None:
            return self._diverged(point.step, last, "the value or the gradient is no longer finite")
        what = "the gradient is not finite"
        if point.fun is not None and not np.isfinite(point.fun):
            what = f"the value is {point.fun}"
        return ValueError(f"{what} at the start, x = {validation.show_point(self.path.to_user(point.z))}")

    def _diverged(self, step, point, what):
        """The error for a divergence noticed at `step`, with `point` as the last one worth reporting."""
        lr = self.rate(step - 1)
        curvature = self.path.curvature()
        if curvature is not None:
            stable, source = 2 / curvature.largest if curvature.largest else None, "2/L with L the largest curvature"
        else:
            stable = 2 / self.met_curvature if self.overshoots else None
            source = "2/L with L the curvature that the last steps met"
        limit = f"; the largest stable rate is about {stable:.3g} ({source})" if stable else ""
        automatic = ', or lr="auto"' if curvature is not None else ""
        result = self._result(point, Status.DIVERGED, f"diverged at step {step}", success=False)
        return DivergenceError(
            f"gradient descent diverged at step {step} with learning rate {lr:.6g}: {what}{limit}. "
            f"Take a smaller lr{automatic}.",
            step=step, lr=lr, stable_lr=stable, result=result,
        )  # fmt: skip

    # ----------------------------------------------------------------------------------------------------- reporting

    def _observe(self, point):
        if self.history is None and not self.verbose and self.bar is None:
            return
        x, gradient = self.path.to_user(point.z), self.path.gradient_to_user(point.gradient)
        if self.history is not None:
            self.history.x.append(x)
            self.history.fun.append(point.fun)
            self.history.lr.append(point.lr)
            self.history.grad_norm.append(_norm(gradient))
        if self.verbose:
            print(f"step {point.step}: x = {validation.show_point(x)}, gradient = {validation.show_point(gradient)}")
        if self.bar is not None:
            value = "" if point.fun is None else f"value {point.fun:.6g}, "
            self.bar.set_postfix_str(f"{value}|gradient| {_norm(gradient):.3g}", refresh=False)

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

    def _result(self, point, status, message, success=True):
        path = self.path
        x, fun, jac = path.settle(point.z, point.fun, point.gradient)
        history = None
        if self.history is not None:
            history = History({name: np.array(rows) for name, rows in self.history.items()})
            history.lr = history.lr[:-1]  # no step was taken from the last point
        return Result(
            x=x, fun=fun, jac=jac, nit=point.step, nfev=path.nfev, njev=path.njev,
            success=success, status=status, message=message, history=history,
        )  # fmt: skip


class _Point:
    """One point of a run, in the variables of its path."""

    __slots__ = ("finite", "fun", "gradient", "lr", "norm", "step", "z")

    def __init__(self, step, z, fun, gradient, lr):
        self.step, self.z, self.fun, self.gradient, self.lr = step, z, fun, gradient, lr
        self.norm = _norm(gradient)
        self.finite = np.isfinite(self.norm) and (fun is None or np.isfinite(fun))


def _norm(array):
    """Euclidean norm in float64, without overflow on the way."""
    with np.errstate(all="ignore"):
        flat = array.reshape(-1).astype(np.float64)
        return float(np.sqrt(flat @ flat))
