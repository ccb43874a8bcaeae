"""What looks on while a solver runs: stopping rules, divergence, history, callbacks, bar, best point, checkpoint.

A solver evaluates points and shows them: `see(point)` is True where the run ends. What is to be reported is then with
the monitor: `result()`.
"""

import copy
import math
import time

import numpy as np

from fastgd import optimizers
from fastgd.engine import kept
from fastgd.engine.divergence import Overshoots
from fastgd.engine.judgement import Judgement
from fastgd.engine.point import Point
from fastgd.engine.recorder import Epochs, Recorder
from fastgd.engine.result import Result, Status
from fastgd.engine.stopping import Stopping
from fastgd.engine.tolerance import GradientRule
from fastgd.engine.update import Update
from fastgd.linalg import euclidean_norm


class Monitor(Judgement):
    """What looks on in one run.

    Parameters
    ----------
    variables : Variables
    limit : int
        Steps at most.
    rate : callable, optional
        Of a run with a rate of the user's.
    update : Update, optional
        The rule of the steps; plain descent without it.
    gap : GapRule, optional
        The tolerance of an objective.
    tol : float, optional
        The tolerance of a function: ‖∇f‖ ≤ tol.
    stopping : Stopping
    recorder : Recorder or Epochs
    callbacks : sequence of callable
        Each is called with `describe(monitor, point, score)` after every step; True or StopIteration ends the run.
    say : callable, optional
        say(monitor, point, score) prints a line for a point.
    bar : progress bar, optional
    score : callable, optional
        score(x) of a held-out part, x in the user's units; the run then ends when it has not risen by more than
        `least_rise` for `patience` steps, and the point with the best score is reported.
    keep : {"last", "best"}
        Which point is reported.
    checkpoint, saved
        The file of the run, and the state in it.
    guard : Guard, optional
        What leads away from saddles.
    in_epochs : bool
        Whether a step is an epoch of an estimator, and how it is called in messages.
    settles : bool
        Whether value and gradient are computed once more at exactly the point that is reported.
    """

    def __init__(
        self, variables, *, limit, rate=None, update=None, gap=None, tol=None, stopping=None, recorder=None,
        callbacks=(), describe=None, say=None, bar=None, score=None, patience=5, least_rise=0.0, keep="last",
        checkpoint=None, saved=None, guard=None, in_epochs=False, settles=True,
    ):  # fmt: skip
        self.variables, self.limit, self.rate, self.gap = variables, limit, rate, gap
        self.update = Update(optimizers.GD(), variables.start) if update is None else update
        self.rule = GradientRule(variables, self.update, tol)
        self.observe = rate.observe if rate is not None and rate.observes else None
        self.stopping = Stopping() if stopping is None else stopping
        self.recorder = Recorder(False) if recorder is None else recorder
        self.callbacks, self.describe, self.say, self.bar = callbacks, describe, say, bar
        self.score, self.patience, self._least_rise, self.keeps_best = score, patience, least_rise, keep == "best"
        self.checkpoint, self.guard, self.jump = checkpoint, guard, None
        self.in_epochs, self.settles = in_epochs, settles
        self.unit, self.limit_name = ("epoch", "max_iter") if in_epochs else ("step", "step_num")
        self.solver = self.advice = self.latest = self.end_point = None
        self.shows_averages = False  # whether the points that are seen are those that the rule reports already
        self.noisy = False  # steps on a few rows: then the loop judges values, which may rise by noise
        self.first_fun, self.first_norm, self.rose = None, np.inf, False  # `rose`: whether the value may have risen
        self.last_rate = None
        self.overshoots = Overshoots(self.update.optimizer)
        self.damping = 1.0  # how much of a loss's linear parts is made to bend in the next metric
        self.condition, self.lost = None, 0  # of the columns, where a solver has found them out
        self.best, self.best_score, self.stale, self.last_seen = None, -math.inf, 0, None
        self._started, self.seconds_before, self.seconds_then = time.perf_counter(), 0.0, None
        watched = self.recorder.on or say is not None or bar is not None or score is not None
        self._quiet = not (watched or callbacks or guard is not None or in_epochs)  # nothing looks at each step
        self.resumed = None  # where a solver goes on: what it kept
        if saved is not None:
            with checkpoint.restoring():
                kept.restore(self, saved)

    def renewed(self, variables, gap):
        """The monitor of the next run of a sequence, which keeps nothing but what it was made with."""
        other = copy.copy(self)
        other.variables, other.gap, other.end_point, other.latest, other.last_seen = variables, gap, None, None, None
        other.first_fun, other.first_norm, other.rose = None, np.inf, False
        return other

    # ------------------------------------------------------------------------------------------- points for solvers

    def point(self, step, z, lr=None, *, want_fun=None, fun=None):
        """The Point at z, evaluated; its value may be known."""
        want_fun = fun is None and (self.wants_fun(step) if want_fun is None else want_fun)
        found, gradient = self.variables.evaluate(z, want_fun)
        return self.evaluated(step, z, found if fun is None else fun, gradient, lr)

    def evaluated(self, step, z, fun, gradient, lr=None):
        """The Point at z, its value and gradient being known."""
        least = None
        if self.update.limited:
            least = euclidean_norm(self.update.least_subgradient(z, gradient))
        elif self.variables.objective.l1:
            least = euclidean_norm(self.variables.subgradient(z, gradient))
        return Point(step, z, fun, gradient, lr, least)

    def wants_fun(self, step):
        """Whether somebody has asked for the value at the point of a step."""
        return self.values_every > 0 and step % self.values_every == 0

    @property
    def values_every(self):
        """Values are asked for at each step whose number is a multiple of this; 0 for none."""
        if self.callbacks or self.observe or self.stopping.wants_fun or self.bar is not None or self.keeps_best:
            return 1
        return self.recorder.every if self.recorder.wants_fun else 0

    @property
    def looks_at_each_step(self):
        return bool(self.callbacks) or self.say is not None or self.score is not None

    @property
    def may_burst(self):
        """Whether all that is to be seen and judged can be had of a kernel that takes many steps, but for callbacks."""
        if self.say or self.score or self.observe or self.stopping.looks_at_points or self.guard or self.keeps_best:
            return False
        return not self.recorder.on or self.variables.in_user_units  # it records norms in the variables of the run

    @property
    def seconds(self):
        """Since the run began; when the point was reached that is shown later than that."""
        if self.seconds_then is not None:
            return self.seconds_then
        return self.seconds_before + time.perf_counter() - self._started

    # ----------------------------------------------------------------------------------------------------- looking on

    def see(self, point, *, rules=True, tolerance=True):
        """Show a point to whoever looks at each step; True if the run ends here.

        Parameters
        ----------
        rules : bool
            Whether the stopping rules are asked; the clock always is.
        tolerance : bool
            Whether `tol` is judged here; a solver that has an estimate of the gap calls `reached`.
        """
        if not point.finite:
            raise self.not_finite(point, self.last_seen)
        if self.first_fun is None and self.first_norm == np.inf:
            self.first_fun, self.first_norm = point.fun, point.norm
        last, self.last_seen = self.last_seen, point
        if self._quiet and not self.keeps_best:
            self.latest = point
            if point.norm == 0 and not point.step and self._is_stuck(point):
                return self.end(Status.NO_WAY_DOWN, self._why, point, success=False)
            return self.ends(point, last, tolerance) if rules else self.out_of_time(point)
        score = math.nan if self.score is None or not point.step else self.score(self.variables.to_user(point.z))
        if self.recorder.on or self.say is not None or self.bar is not None:
            self.show(point, score)
        stale = self._remember(point, score)
        self.latest = point  # whole now: Ctrl-C from here on ends the run with it
        if self.callbacks and point.step and self.callback_stops(self.describe(self, point, score)):
            return self.end_by_callback(point)
        if stale:
            what = f"the validation score has not risen for {self.patience} epochs; the best weights are kept"
            return self.end(Status.EARLY_STOPPED, what, point)
        if point.norm == 0 and not point.step and self._is_stuck(point):
            return self.end(Status.NO_WAY_DOWN, self._why, point, success=False)
        if self.guard is not None and rules and point.step < self.limit:
            self.jump = self.guard.way_on(self.variables, point, self.within_tolerance(point, last))
        if rules and self.jump is None:
            return self.ends(point, last, tolerance)
        return self.out_of_time(point)

    def ends(self, point, last=None, tolerance=True):
        """Whether a tolerance or a stopping rule ends the run at a point, or the clock."""
        if tolerance and self.within_tolerance(point, last) and self._average_is_near(point):
            return self._end_at_rest(point, self._why)
        if self.rule.imprecise:
            return self.end(Status.STALLED, self.rule.sentence, point, success=False)
        if self.stopping.looks_at_points:
            moved = point.step > 0 and self.last_rate != 0
            if found := self.stopping.verdict(self.variables.to_user(point.z), point.fun, point.least, moved):
                if found[0] != Status.TARGET_REACHED and not self.noisy:
                    self.refuse_rest_above_the_start(point, within_tol=False)
                return self.end(*found, point)
        return self.out_of_time(point)

    def within_tolerance(self, point, last=None):
        if self.gap is not None:
            if self.gap.tol is None or self.score is not None:
                return False
            found = self.gap.judge(self.variables, point, last, self._slope_within_limits(point))
            self._why = self.gap.sentence
            return found
        found = self.rule.reached(point)
        self._why = self.rule.sentence
        return found

    def _slope_within_limits(self, point):
        """The shortest subgradient where there are bounds or an l1 penalty, else None."""
        if not self.update.limited:
            return None
        return self.update.least_subgradient(point.z, point.gradient).reshape(point.z.shape)

    def _average_is_near(self, point):
        """Whether what a rule that averages would report is within the tolerance too."""
        return not self._averages or self.within_tolerance(self._averaged(point))

    @property
    def _averages(self):
        """Whether another point is reported than the last that was seen."""
        return self.update.averages and not self.shows_averages

    def _averaged(self, point):
        """The Point that a rule which averages reports at the end of a run at `point`."""
        return self.point(point.step, self.update.reported(point.z), want_fun=True)

    def out_of_time(self, point):
        """Whether the time is up."""
        if self.stopping.seconds is not None and (sentence := self.stopping.out_of_time()):
            taken = f"{point.step} {self.unit}s taken"
            return self.end(Status.TIME_LIMIT, f"{sentence}; {taken}", point, not self.asked_for)
        return False

    def took(self, step, lr):
        """Remember the rate of the step from a point."""
        self.last_rate = lr
        self.recorder.rate(step, lr)

    def take_jump(self, step):
        """Away from a saddle: the new place. It counts as a step, without a rate; the optimizer starts anew there."""
        z, self.jump = self.jump, None
        self.recorder.rate(step, np.nan)
        self.update.state = self.update.optimizer.init(z)
        self.overshoots.reset()
        return z

    def _remember(self, point, score):
        """Keep the best point; whether the score no longer rises."""
        if self.score is None:
            if (self.keeps_best or self.in_epochs) and (self.best is None or not point.fun > self.best.fun):
                self.best = point
            return False
        if not point.step:
            return False
        self.stale = 0 if score > self.best_score + self._least_rise else self.stale + 1
        if score > self.best_score:
            self.best_score, self.best = score, point
        return self.stale >= self.patience

    def show(self, point, score=math.nan):
        """Put a point into the history, and on the screen."""
        records = self.recorder.takes(point.step)
        if records and isinstance(self.recorder, Epochs):
            rate = math.nan if self.last_rate is None else self.last_rate
            self.recorder.epoch(point.fun, score, self.user_norm(point), rate, self.seconds)
        elif records:
            self.recorder.point(point.step, self.variables.to_user(point.z), point.fun, self.user_norm(point))
        if self.say is not None:
            self.say(self, point, score)
        if self.bar is not None:
            self.bar.update(point.step > 0)
            self.show_bar(point.fun, point.least, score)

    def user_norm(self, point):
        """Of the shortest subgradient, in the user's units."""
        v = self.variables
        return point.least if v.in_user_units else v.user_norm(v.subgradient(point.z, point.gradient))

    def show_bar(self, fun, norm, score=math.nan):
        parts = [] if fun is None else [f"value {fun:.6g}"]
        parts += [] if math.isnan(score) else [f"validation score {score:.6g}"]
        parts += [] if self.last_rate is None else [f"lr {self.last_rate:.3g}"]
        self.bar.set_postfix_str(", ".join([*parts, f"|gradient| {norm:.3g}"]), refresh=False)

    def callback_stops(self, seen):
        """Show the callbacks what they are to see of a point; whether one of them ends the run."""
        for callback in self.callbacks:
            try:
                stops = callback(seen)
            except StopIteration:
                return True
            if stops is True or (stops is not None and isinstance(stops, np.bool_) and stops):  # as with scipy.optimize
                return True
        return False

    def end_by_callback(self, point):
        return self.end(Status.STOPPED_BY_CALLBACK, f"the callback stopped the run at {self.unit} {point.step}", point)

    # ----------------------------------------------------------------------------------------------------------- ends

    @property
    def asked_for(self):
        """The tolerances that would have ended the run, as a message names them."""
        tol = self.rule.tol if self.gap is None else self.gap.tol
        goal = "a held-out score that no longer rises" if self.score is not None else f"tol = {tol or 0:g}"
        return ([] if tol is None else [goal]) + self.stopping.asked_for

    @property
    def ended(self):
        return self.end_point is not None

    def end(self, status, message, point, success=True):
        self.status, self.message, self.success, self.end_point = status, message, success, point
        return True

    def out_of_steps(self, point):
        """End the run if it has taken all its steps."""
        return point.step >= self.limit and self.at_limit(point)

    def at_limit(self, point):
        """End a run that has taken all its steps."""
        # The first few steps of a plain run may leap over a valley; the ones after bring it down.
        leaps = point.step > self.overshoots.patience.steps or self.overshoots.steps or self.update.optimizer.may_rise
        higher = leaps and not self.noisy and self._may_have_risen(point) and self._is_higher(point)
        if higher and not self._rises_little(point):
            raise self.diverged(point, self.last_rate, "the run ends higher than it began")
        moments = self.update.state.moments
        if moments.size and not np.all(np.isfinite(moments)):  # then the rates are zero, and no step moves
            raise self.diverged(point, self.last_rate, "the squares of the gradient are no longer finite")
        asked_for, stuck = self.asked_for, point.norm == 0 and self._is_stuck(point)
        message = f"took all {point.step} {self.unit}s"
        if asked_for:
            message += f" without reaching {' or '.join(asked_for)}: raise {self.limit_name}"
            message += f". But {doubt}" if (doubt := self.rule.doubt(point)) else ""
        if higher:
            message += (
                f"; the value, {point.fun:.6g}, is above the first, {self.first_fun:.6g}: next to a minimum steps of "
                f'{self.update.optimizer.name} are as long as elsewhere. Let the rate fall, or take keep="best"'
            )
        message = self._why if stuck else message
        shown = self._averaged(point) if self.noisy and self._averages else point
        if self.noisy and self._is_higher(shown):
            message += (
                f"; the value, {shown.fun:.6g}, is above the first, {self.first_fun:.6g}: that may be the noise of "
                "small batches, or a rate too large; let it fall (fastgd.schedules)"
            )
        status = Status.NO_WAY_DOWN if stuck else Status.STEP_LIMIT
        if self.gap is not None and self.score is None and shown.fun is not None:
            self.gap.estimate_at_end(self.variables, shown, self._slope_within_limits(shown))
        return self.end(status, message, point, success=not (asked_for or stuck))

    def interrupted(self):
        """The Result at the last whole point of a run that Ctrl-C ends; None before there is one."""
        return None if self.latest is None else self._cut_short(Status.INTERRUPTED, "interrupted")

    def timed_out(self):
        """The Result at the last whole point of a run whose time is up within a gradient; its start before one."""
        if self.latest is None:
            z = self.variables.start
            self.latest = Point(0, z, None, np.full(z.shape, np.nan))
        what = f"max_seconds = {self.stopping.seconds:g} have passed within a numerical gradient: raise it"
        return self._cut_short(Status.TIME_LIMIT, f"{what}, or go on from a checkpoint; stopped", not self.asked_for)

    def _cut_short(self, status, what, success=False):
        point = self.latest
        if not isinstance(point, Point):
            point = self.point(*point, want_fun=True)
        self.recorder.cut(point.step)
        self.end(status, f"{what} after {point.step} {self.unit}s", point, success=success)
        return self.result()

    def _reported(self):
        """The Point that is reported."""
        point, cut_short = self.end_point, self.status in (Status.DIVERGED, Status.INTERRUPTED)
        scored = self.score is not None and self.best is not None
        lowest = self.best is not None and (self.keeps_best or (self.in_epochs and cut_short))
        if scored or lowest:
            return self.best
        if self._averages and self.status != Status.DIVERGED:
            averaged = self._averaged(point)
            if not (self.noisy or cut_short) and self._is_higher(averaged):
                raise self.diverged(point, self.last_rate, "the average of the points is higher than the start")
            return averaged
        return point

    def result(self):
        """What came of the run."""
        v, end, reported, message = self.variables, self.end_point, self._reported(), self.message
        fun, jac = reported.fun, reported.gradient
        if self.settles:
            x, fun, jac = v.settle(reported.z, fun, jac)
        else:
            x, jac = v.to_user(reported.z), v.gradient_to_user(jac)
        self._finish_history(end, fun, reported is end)
        if self.guard is not None and self.status not in (Status.DIVERGED, Status.INTERRUPTED):
            message += self.guard.sentence(v, reported.z)
        gap = None if self.gap is None else self.gap.gap
        note = v.note if self.gap is None else v.note + v.objective.rows.note
        nfev, njev, passes = v.spent
        return Result(
            x=x, fun=float(fun), jac=jac, nit=end.step, nfev=nfev, njev=njev, success=self.success,
            status=self.status, message=message + note, history=self.recorder.history(), gap=gap,
            certified=gap is not None and self.gap.certified, condition=self.condition, n_passes=round(passes),
            lost=self.lost, solver=self.solver,
        )  # fmt: skip

    def _finish_history(self, end, fun, is_end):
        """Give the end a row of its own; a history of epochs ends at what is reported, and has a row at least."""
        if isinstance(self.recorder, Epochs):
            cut_short = self.status in (Status.DIVERGED, Status.INTERRUPTED)
            if not self.recorder.last:
                only = copy.copy(end)
                only.step = 1
                self.show(only)
                if not cut_short and self.callbacks:
                    self.callback_stops(self.describe(self, only, math.nan))
            elif not is_end and self.score is None and not cut_short:
                self.recorder.end_at(self.best.fun, self.user_norm(self.best))
        elif self.recorder.on and self.recorder.last != end.step:
            value = fun if is_end or end.fun is None else end.fun
            if end.fun is None and not is_end:
                value = self.variables.value(end.z)
            self.recorder.point(end.step, self.variables.to_user(end.z), value, self.user_norm(end))

    # --------------------------------------------------------------------------------------------------- checkpoints

    def keeps(self, step):
        """Whether `keep` has something to do."""
        return self.checkpoint is not None and (self.checkpoint.due or step == self.limit)

    def keep(self, step, **loop):
        """Offer the checkpoint what a solver needs to go on from here: arrays, numbers, lists, dicts and Points."""
        if self.keeps(step):
            state = {"step": step, "steps": self.limit, "run": kept.state_of(self)}
            self.checkpoint.save({**state, "loop": kept.plain({"step": step, **loop})})
