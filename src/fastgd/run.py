"""One run of descent: what the loops share. It observes, stops, and tells convergence from divergence."""

import numpy as np

from fastgd import optimizers, validation
from fastgd.errors import DivergenceError, StartError
from fastgd.result import History, Result, Status
from fastgd.updates import Update

# A step that overshoots (the new gradient points back) and lands where the gradient is longer has met a curvature above
# 2/η. That may happen now and then on the way into a valley; this often in a row, with a gradient grown by this factor
# meanwhile and a value above the first, it is a divergence.
OVERSHOOT_LIMIT = 5
OVERSHOOT_GROWTH = 100.0
OVERSHOOTING_STEPS = "each step overshoots further than the last"
# A rule with momentum or rates of its own may go uphill for a while: there a gradient that has grown with each of so
# many steps, by so much together, with a value above the first, is a divergence; and so is an end above the beginning.
RISE_LIMIT = 10
RISE_GROWTH = 1e4
RISING_STEPS = "the gradient grows with each step"


class Constant(float):
    """A rate that is the same for every step."""

    def __call__(self, step):
        return float(self)


class Point:
    """One point of a run, in the variables of its path.

    `norm` is that of the gradient, `least` that of the shortest subgradient where there is a penalty or a bound: what
    is zero at a minimum, and the same as `norm` elsewhere.
    """

    __slots__ = ("fun", "gradient", "least", "lr", "norm", "step", "z")

    def __init__(self, step, z, fun, gradient, lr=None, least=None):
        self.step, self.z, self.fun, self.gradient, self.lr = step, z, fun, gradient, lr
        self.norm = euclidean_norm(gradient)
        self.least = self.norm if least is None else least

    @property
    def finite(self):
        return np.isfinite(self.norm) and (self.fun is None or np.isfinite(self.fun))


class Run:
    """What the loops share: observing, stopping, and telling convergence from divergence."""

    def __init__(self, path, rate, limit, tol, callback, verbose, history, update=None):
        self.path, self.rate, self.limit, self.tol = path, rate, limit, tol
        self.update = Update(optimizers.GD(), path.start) if update is None else update
        self.observe = getattr(rate, "observe", None)  # of a schedule that watches the value
        self.callback, self.verbose = callback, verbose
        self.history = History(x=[], fun=[], lr=[], grad_norm=[]) if history else None
        self.bar = self.advice = None
        self.want_fun = callback is not None or history or self.observe is not None
        self.first_fun = None
        self.overshoots, self.growth = 0, 1.0  # steps in a row that overshot, and what they did to the gradient's norm
        self.met_curvature = self.last_rate = None
        self.least_curvature = None  # the smallest met by an accelerated run
        self.first_norm, self.rose = np.inf, False  # whether the gradient has been longer than at the start

    def point(self, step, z, lr=None, *, want_fun=None, fun=None):
        """The Point at z, evaluated; its value may be known."""
        want_fun = fun is None and (self.want_fun if want_fun is None else want_fun)
        found, gradient = self.path.evaluate(z, want_fun)
        fun = found if fun is None else fun
        least = euclidean_norm(self.update.least_subgradient(z, gradient)) if self.update.limited else None
        return Point(step, z, fun, gradient, lr, least)

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
        if self.looks_at_each_step or self.observe or (self.history is not None and not self.path.in_user_units):
            return False  # it records norms in the variables of the path
        return self.tol is None or np.isfinite(self.path.curvature().largest)

    # ---------------------------------------------------------------------------------------------------- judgement

    @property
    def patience(self):
        """(steps in a row, growth of the gradient) that make a divergence, and its name."""
        if self.update.optimizer.may_rise:
            return RISE_LIMIT, RISE_GROWTH, RISING_STEPS
        return OVERSHOOT_LIMIT, OVERSHOOT_GROWTH, OVERSHOOTING_STEPS

    def judge(self, point, last):
        """Raise if the run has diverged; remember what tells."""
        if not point.finite:
            raise self.not_finite(point, last)
        if last is None:
            self.first_fun, self.first_norm = point.fun, point.norm
            return
        self.rose = self.rose or point.norm > self.first_norm
        turned = self.update.optimizer.may_rise or np.vdot(point.gradient, last.gradient) < 0
        if point.norm > last.norm and turned and last.lr * last.norm > 0:
            self.overshoots += 1
            self.growth *= point.norm / last.norm
            limit, growth, what = self.patience
            # The curvature met along the step, ‖Δg‖/‖Δx‖. It nears the largest from below, until the run has left the
            # place for good.
            if self.overshoots == 1 or self.growth < growth**3:
                length = last.lr * last.norm if self.update.plain else euclidean_norm(point.z - last.z)
                self.met_curvature = euclidean_norm(point.gradient - last.gradient) / length if length else 0.0
            if self.overshoots >= limit and self.growth >= growth and self._is_higher(point):
                self._observe(point)
                raise self.diverged(point, last.lr, what)
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
        curvature, fun, norm = self.path.curvature(), point.fun, point.least
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
        may_have_risen = self.update.optimizer.may_rise and (self.rose or self.path.fun_is_free)
        if point.step and (self.overshoots or may_have_risen) and self._is_higher(point):
            raise self.diverged(point, self.last_rate, "the run ends higher than it began")
        if not np.all(np.isfinite(self.update.state.moments)):  # then the rates are zero, and no step moves
            raise self.diverged(point, self.last_rate, "the squares of the gradient are no longer finite")
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
        return StartError(f"{what} at the start, x = {validation.show_point(self.path.to_user(point.z))}")

    def diverged(self, point, lr, what, step=None, stable=None):
        """The error for a divergence noticed at `step`, with `point` as the last one worth reporting."""
        step = point.step if step is None else step
        curvature, rule = self.path.curvature(), self.update.optimizer
        source = "the curvature that the last steps met"
        if stable is not None:
            source = "the largest curvature of the loss of one row"
        elif curvature is not None:
            stable, source = rule.stable_rate(curvature.largest) if curvature.largest else None, "the largest curvature"
        elif self.overshoots and self.met_curvature:
            stable = rule.stable_rate(self.met_curvature)
        source = f"{rule.stable_formula} with L {source}"
        limit = f"; the largest stable rate is about {stable:.3g} ({source})" if stable else ""
        automatic = ', or lr="auto"' if curvature is not None and rule.stable_formula else ""
        name = "gradient descent" if rule.name == "gd" else f"descent by {rule!r}"
        result = self.result(point, Status.DIVERGED, f"diverged at step {step}", success=False)
        return DivergenceError(
            f"{name} diverged at step {step} with learning rate {lr:.6g}: {what}{limit}. "
            f"{self.advice or f'Take a smaller lr{automatic}.'}",
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
            norm = point.least if self.path.in_user_units else euclidean_norm(gradient)
            self.record([x], [point.fun], [norm], [], in_user_units=True)
            if self.verbose:
                print(
                    f"step {point.step}: x = {validation.show_point(x)}, gradient = {validation.show_point(gradient)}"
                )
        if self.bar is not None:
            self.bar.update(point.step > 0)
            self.show(point.fun, point.least)

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
        path, z, found = self.path, point.z, (point.fun, point.gradient)
        if self.update.averages and status != Status.DIVERGED:
            z = self.update.reported(z)
            found = path.evaluate(z, True)
        x, fun, jac = path.settle(z, *found)
        history = None
        if self.history is not None:
            history = History({name: np.array(rows) for name, rows in self.history.items()})
        return Result(
            x=x, fun=float(fun), jac=jac, nit=point.step, nfev=path.nfev, njev=path.njev,
            success=success, status=status, message=message + path.note, history=history,
        )  # fmt: skip


def euclidean_norm(array):
    """Euclidean norm in float64, without overflow on the way."""
    with np.errstate(all="ignore"):
        flat = array.reshape(-1).astype(np.float64)
        norm = float(np.sqrt(flat @ flat))
        if norm == 0 or not np.isfinite(norm):
            largest = float(np.max(np.abs(flat), initial=0.0))
            if 0 < largest < np.inf:
                norm = largest * float(np.sqrt(np.sum((flat / largest) ** 2)))
        return norm
