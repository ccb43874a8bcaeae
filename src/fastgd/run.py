"""One run of descent: what the loops share. It observes, stops, and tells convergence from divergence."""

import math

import numpy as np

from fastgd import optimizers, validation
from fastgd.errors import DivergenceError, StartError
from fastgd.norms import euclidean_norm
from fastgd.recorder import Recorder
from fastgd.result import Result, Status
from fastgd.stopping import Stopping
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


# What a run knows of its past, for a checkpoint.
JUDGEMENT = (
    "first_fun", "first_norm", "rose", "overshoots", "growth", "met_curvature", "least_curvature", "last_rate",
)  # fmt: skip


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

    def __init__(self, step, z, fun, gradient, lr=None, least=None, norm=None):
        self.step, self.z, self.fun, self.gradient, self.lr = step, z, fun, gradient, lr
        self.norm = euclidean_norm(gradient) if norm is None else norm
        self.least = self.norm if least is None else least

    @property
    def finite(self):
        return math.isfinite(self.norm) and (self.fun is None or math.isfinite(self.fun))

    @property
    def state(self):
        """What a checkpoint keeps."""
        return {name: getattr(self, name) for name in self.__slots__ if name != "norm"}

    @classmethod
    def of(cls, saved):
        return cls(**saved)


class Run:
    """What the loops share: observing, stopping, and telling convergence from divergence."""

    def __init__(
        self, path, rate, limit, tol, callback, verbose, history, update=None, stopping=None, checkpoint=None,
        saved=None, guard=None,
    ):  # fmt: skip
        self.path, self.rate, self.limit, self.tol = path, rate, limit, tol
        self.update = Update(optimizers.GD(), path.start) if update is None else update
        self.observe = getattr(rate, "observe", None)  # of a schedule that watches the value
        self.callback, self.verbose = callback, verbose
        self.recorder = Recorder(history)
        self.stopping = Stopping() if stopping is None else stopping
        self.checkpoint = checkpoint
        self.guard, self.jump = guard, None  # what leads away from saddles, and where to
        self.bar = self.advice = None
        self.latest = None  # for Ctrl-C: the last whole point, or (step, z) of one to be evaluated
        self.noisy = False  # steps on a few rows: then the loop judges values, which may rise by noise
        self._always_wants_fun = callback is not None or self.observe is not None or self.stopping.wants_fun
        self.first_fun = None
        self.overshoots, self.growth = 0, 1.0  # steps in a row that overshot, and what they did to the gradient's norm
        self.met_curvature = self.last_rate = None
        self.least_curvature = None  # the smallest met by an accelerated run
        self.first_norm, self.rose = np.inf, False  # whether the value may have risen
        self.resumed = None  # where a loop goes on: what it kept
        if saved is not None:
            with checkpoint.restoring():
                self._go_on_from(saved)

    def point(self, step, z, lr=None, *, want_fun=None, fun=None):
        """The Point at z, evaluated; its value may be known."""
        want_fun = fun is None and (self.wants_fun(step) if want_fun is None else want_fun)
        found, gradient = self.path.evaluate(z, want_fun)
        return self.evaluated(step, z, found if fun is None else fun, gradient, lr)

    def evaluated(self, step, z, fun, gradient, lr=None):
        """The Point at z, its value and gradient being known."""
        least = euclidean_norm(self.update.least_subgradient(z, gradient)) if self.update.limited else None
        return Point(step, z, fun, gradient, lr, least)

    def wants_fun(self, step):
        """Whether somebody has asked for the value at the point of a step."""
        return self.values_every > 0 and step % self.values_every == 0

    @property
    def values_every(self):
        """Values are asked for at each step whose number is a multiple of this; 0 for none."""
        if self._always_wants_fun or self.bar is not None:
            return 1
        return self.recorder.every if self.recorder.wants_fun else 0

    def rates(self, step, count):
        """The rates of so many steps from `step` on."""
        if isinstance(self.rate, Constant):
            rates = np.empty(count)
            rates.fill(self.rate)
            return rates
        return np.array([self.rate(step + i) for i in range(count)])

    @property
    def looks_at_each_step(self):
        return self.callback is not None or bool(self.verbose)

    @property
    def may_burst(self):
        """Whether all that is to be seen and judged can be had of a kernel that takes many steps."""
        if self.looks_at_each_step or self.observe or self.stopping.looks_at_points or self.guard is not None:
            return False
        if self.recorder.on and not self.path.in_user_units:
            return False  # it records norms in the variables of the path
        curvature = self.path.curvature()
        return self.tol is None or curvature is None or np.isfinite(curvature.largest)

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
        turned = np.vdot(point.gradient, last.gradient) < 0
        # A run may end above its beginning only where the gradient has grown, or a step has gone over a valley.
        self.rose = self.rose or point.norm > self.first_norm or bool(turned)
        turned = turned or self.update.optimizer.may_rise
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
        return not (point.fun <= self.first_fun or point.fun <= self.first_fun + 8 * self._eps * abs(self.first_fun))

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
        square = norm * norm  # a power would raise where a product is inf
        gap = square / (2 * least) if least else np.inf
        if gap <= self.tol * max(fun, self._eps * self.first_fun):
            return self._sentence(gap, fun, curvature)
        if square <= self._rounding(point.z.size, largest) * fun:
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
                f"; that leaves out {curvature.lost} direction{'s' * (curvature.lost != 1)} in which the columns are "
                "collinear but for rounding, where the weights are not determined"
            )
        return sentence

    def at_limit(self, point):
        """The Result of a run that has taken all its steps."""
        # The first few steps of a plain run may leap over a valley; the ones after bring it down.
        leaps = point.step > OVERSHOOT_LIMIT or self.overshoots or self.update.optimizer.may_rise
        if leaps and not self.noisy and self._may_have_risen(point) and self._is_higher(point):
            raise self.diverged(point, self.last_rate, "the run ends higher than it began")
        moments = self.update.state.moments
        if moments.size and not np.all(np.isfinite(moments)):  # then the rates are zero, and no step moves
            raise self.diverged(point, self.last_rate, "the squares of the gradient are no longer finite")
        asked_for = self.asked_for
        message = f"took all {point.step} steps"
        if asked_for:
            message += f" without reaching {' or '.join(asked_for)}: raise step_num"
        if self.noisy and self._is_higher(point):
            message += (
                f"; the value, {point.fun:.6g}, is above the first, {self.first_fun:.6g}: that may be the noise of "
                "small batches, or a rate too large; let it fall (fastgd.schedules)"
            )
        return self.result(point, Status.STEP_LIMIT, message, success=not asked_for)

    @property
    def asked_for(self):
        """The tolerances that would have ended the run, as a message names them."""
        return ([] if self.tol is None else [f"tol = {self.tol:g}"]) + self.stopping.asked_for

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

    # --------------------------------------------------------------------------------------------------- checkpoints

    def keeps(self, step):
        """Whether `keep` has something to do."""
        return self.checkpoint is not None and (self.checkpoint.due or step == self.limit)

    def keep(self, step, **loop):
        """Offer the checkpoint what a loop needs to go on from here: arrays, numbers, lists, dicts and Points."""
        if not self.keeps(step):
            return
        loop = {name: value.state if isinstance(value, Point) else value for name, value in loop.items()}
        state = {name: getattr(self, name) for name in JUDGEMENT}
        state["update"] = {"moments": self.update.state.moments, "step": self.update.state.step}
        state["spent"] = [self.path.nfev, self.path.njev]
        state["schedule"] = self.rate.state if self.observe else None
        state |= {"recorder": self.recorder.state, "stopping": self.stopping.state}
        state["guard"] = None if self.guard is None else self.guard.state
        self.checkpoint.save({"step": step, "steps": self.limit, "run": state, "loop": {"step": step, **loop}})

    def _go_on_from(self, saved):
        state = saved["run"]
        for name in JUDGEMENT:
            setattr(self, name, state[name])
        self.update.state.moments, self.update.state.step = state["update"]["moments"], state["update"]["step"]
        self.path.nfev, self.path.njev = state["spent"]
        if self.observe:
            self.rate.state = tuple(state["schedule"])
        self.recorder.state, self.stopping.state = state["recorder"], state["stopping"]
        if self.guard is not None:
            self.guard.state = state["guard"]
        self.resumed = saved["loop"]
        for name, value in self.resumed.items():
            if isinstance(value, dict) and "gradient" in value:
                self.resumed[name] = Point.of(value)

    # ----------------------------------------------------------------------------------------------------- reporting

    def look_at(self, point, judge_tol=True):
        """Show the point to whoever looks at each step; the Result, if the run ends here."""
        self.latest = point
        self._observe(point)
        if point.step and self._callback_stops(point):
            return self.result(point, Status.STOPPED_BY_CALLBACK, f"the callback stopped the run at step {point.step}")
        if self.guard is not None and judge_tol and point.step < self.limit:
            self.jump = self.guard.way_on(self.path, point, self.reached(point) is not None)
        return self.ended(point) if judge_tol and self.jump is None else self.out_of_time(point)

    def take_jump(self, step):
        """Away from a saddle: the new place. It counts as a step, without a rate; the optimizer starts anew there."""
        z, self.jump = self.jump, None
        self.recorder.rate(step, np.nan)
        self.update.state = self.update.optimizer.init(z)
        self.overshoots, self.growth = 0, 1.0
        return z

    def ended(self, point):
        """The Result, if a tolerance is met at the point or the time is up."""
        if reason := self.reached(point):
            self.refuse_rest_above_the_start(point)
            return self.result(point, Status.CONVERGED, reason)
        if self.stopping.looks_at_points:
            moved = point.step > 0 and self.last_rate != 0
            if found := self.stopping.verdict(self.path.to_user(point.z), point.fun, point.least, moved):
                if found[0] != Status.TARGET_REACHED and not self.noisy:
                    self.refuse_rest_above_the_start(point)
                return self.result(point, *found)
        return self.out_of_time(point)

    def refuse_rest_above_the_start(self, point):
        """Raise if a run meets its tolerance because it has leapt out to where the function is flat."""
        if self._may_have_risen(point) and self._is_higher(point):
            raise self.diverged(point, self.last_rate, "it came to rest where the value is higher than at the start")

    def _may_have_risen(self, point):
        return point.step > 0 and (self.rose or self.path.fun_is_free)

    def out_of_time(self, point):
        """The Result, if the time is up."""
        if sentence := self.stopping.out_of_time():
            return self.result(point, Status.TIME_LIMIT, f"{sentence}; {point.step} steps taken", not self.asked_for)
        return None

    def _observe(self, point):
        records = self.recorder.takes(point.step)
        if records or self.verbose:
            x, gradient = self.path.to_user(point.z), self.path.gradient_to_user(point.gradient)
            if records:
                norm = point.least if self.path.in_user_units else euclidean_norm(gradient)
                self.recorder.point(point.step, x, point.fun, norm)
            if self.verbose:
                shown = validation.show_point(x), validation.show_point(gradient)
                print(f"step {point.step}: x = {shown[0]}, gradient = {shown[1]}")
        if self.bar is not None:
            self.bar.update(point.step > 0)
            self.show(point.fun, point.least)

    def took(self, step, lr):
        """Remember the rate of the step from a point."""
        self.last_rate = lr
        self.recorder.rate(step, lr)

    def show(self, fun, norm):
        parts = [] if fun is None else [f"value {fun:.6g}"]
        parts += [] if self.last_rate is None else [f"lr {self.last_rate:.3g}"]
        self.bar.set_postfix_str(", ".join([*parts, f"|gradient| {norm:.3g}"]), refresh=False)

    def _callback_stops(self, point):
        if self.callback is None:
            return False
        path = self.path
        jac = path.gradient_to_user(point.gradient).copy()
        try:
            self.callback(
                Result(x=path.to_user(point.z), fun=point.fun, jac=jac, nit=point.step, nfev=path.nfev, njev=path.njev)
            )
        except StopIteration:
            return True
        return False

    def interrupted(self):
        """The Result at the last whole point of a run that Ctrl-C ends; None before there is one."""
        point = self.latest
        if point is None:
            return None
        if not isinstance(point, Point):
            point = self.point(*point, want_fun=True)
        self.recorder.cut(point.step)
        return self.result(point, Status.INTERRUPTED, f"interrupted after {point.step} steps", success=False)

    def result(self, point, status, message, success=True):
        path, z, found = self.path, point.z, (point.fun, point.gradient)
        cut_short = status in (Status.DIVERGED, Status.INTERRUPTED)
        if self.update.averages and status != Status.DIVERGED:
            z = self.update.reported(z)
            found = path.evaluate(z, True)
            averaged = Point(point.step, z, *found)
            if not (self.noisy or cut_short) and self._is_higher(averaged):
                raise self.diverged(point, self.last_rate, "the average of the points is higher than the start")
        x, fun, jac = path.settle(z, *found)
        if self.recorder.on and self.recorder.last != point.step:  # the end has a row of its own
            value = path.value(point.z) if point.fun is None and z is not point.z else point.fun
            norm = point.least if path.in_user_units else euclidean_norm(path.gradient_to_user(point.gradient))
            self.recorder.point(point.step, path.to_user(point.z), fun if value is None else value, norm)
        history = self.recorder.history()
        if self.guard is not None and not cut_short:
            message += self.guard.sentence(path, point.z)
        return Result(
            x=x, fun=float(fun), jac=jac, nit=point.step, nfev=path.nfev, njev=path.njev,
            success=success, status=status, message=message + path.note, history=history,
        )  # fmt: skip
