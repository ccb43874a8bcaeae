"""Steps by a rate: x ← x − η·∇F(x), or the step of another rule of `fastgd.optimizers`.

This is the loop of the textbook; where nothing looks at each step, a kernel takes many at once.
"""

import contextvars
import functools
import math
import time

import numpy as np

from fastgd.engine.point import Point
from fastgd.engine.rates import Constant
from fastgd.engine.result import Result, Status
from fastgd.kernels.codes import OnFunction, OnRows
from fastgd.objective.sample import DENSE_COLUMNS

# A kernel that takes many steps comes back about so often, for Ctrl-C and the progress bar.
BURST_SECONDS = 0.05
# The first time it takes so many steps that they go over so many numbers: no more than a few milliseconds.
FIRST_VALUES = 300_000
# But FIRST_STEPS if they go over no more numbers than these, which take about BURST_SECONDS.
FIRST_STEPS, MOST_FIRST_VALUES = 64, 1 << 24
# A kernel that came to a point which is not near enough looks again where ‖∇F‖² is smaller by this at least.
CLOSER = 0.25


def steps(variables, monitor, rate=None):
    """Steps by a rate and the rule of the monitor's `update`.

    Parameters
    ----------
    rate : callable, optional
        step → η. Without it 1/L, L being the largest curvature in these variables.
    """
    kept = monitor.resumed or {"z": variables.start, "last": None, "step": 0, "kernel": None}
    z, last, step, kernel = kept["z"], kept["last"], kept["step"], kept["kernel"]
    rate = Constant(1 / (variables.curvature().largest or 1.0)) if rate is None else rate
    bursts = None
    if variables.has_bursts and monitor.may_burst and not monitor.callbacks and Bursts.can_tell(variables, monitor):
        bursts = Bursts(variables, monitor, rate, kernel, z, last)
        z = bursts.z
    by_kernel = OnFunctions(variables, monitor, rate) if variables.has_steps and monitor.may_burst else None
    while True:
        known = None
        if bursts is not None:
            step, last = bursts.take(step)
            if monitor.ended:
                return
            bursts, kernel = None, bursts.state  # it came to its last point, or to where the time was up
        elif by_kernel is not None and last is not None:
            z, last, step, known = by_kernel.steps(z, last, step)
            if monitor.ended:
                return
        if known is None:
            monitor.keep(step, z=z, last=last, kernel=kernel)
        point = monitor.point(step, z) if known is None else monitor.evaluated(step, z, *known)
        monitor.judge(point, last)
        if monitor.see(point):
            return
        if step == monitor.limit:
            monitor.at_limit(point)
            return
        if monitor.jump is not None:
            z, last, step = monitor.take_jump(step), None, step + 1
            continue
        if monitor.observe:
            monitor.observe(point.fun)
        point.lr = rate(step)
        monitor.took(step, point.lr)
        last = point
        z = z.copy()
        monitor.update(z, point.gradient, point.lr)
        step, kernel = step + 1, None


class Bursts:
    """All steps, or those there is time for, by a kernel that judges divergence and the gradient's norm itself.

    Attributes
    ----------
    z : ndarray
        Where the run is, written to.
    """

    def __init__(self, variables, monitor, rate, state, z, last):
        self.variables, self.monitor, self.rate, self.z = variables, monitor, rate, z.copy()
        self.state = np.zeros(8) if state is None else state
        if state is None:
            self.state[OnRows.GROWTH] = 1
        self._gradient = np.zeros(z.shape, z.dtype) if last is None else last.gradient
        self._previous = np.zeros(z.shape, z.dtype) if last is None else last.z
        self._factor, self._floor = self._gap_rule()
        values = variables.burst_values
        self._length = max(1, min(max(FIRST_STEPS, FIRST_VALUES // values), MOST_FIRST_VALUES // values))

    @staticmethod
    def can_tell(variables, monitor):
        """Whether the norm of the gradient, which is all that the kernel knows, can tell of the tolerance."""
        if monitor.gap is None or monitor.gap.tol is None:
            return True
        curvature, o = variables.curvature(), monitor.gap.objective
        if curvature.smallest and o.convex:
            return True
        return math.isfinite(curvature.largest) and not monitor.update.limited and o.rows.d <= DENSE_COLUMNS

    def _gap_rule(self):
        """(factor, floor): the kernel comes back where ‖∇F‖² ≤ factor·max(F, floor·F(start))."""
        gap, start = self.monitor.gap, self.variables.start
        if gap is None or gap.tol is None:
            return -1.0, 0.0
        curvature, o = self.variables.curvature(), gap.objective
        factor = 2 * gap.tol * (curvature.smallest if curvature.smallest and o.convex else curvature.largest)
        rounding = 2 * start.size * (8 * o.eps) ** 2 * curvature.largest
        floor = o.eps
        if start.any():
            first = self.variables.value_of_start()
            floor = o.eps * (gap.scale / first if first > 0 else 0.0)
        return max(factor, rounding), floor

    def take(self, step):
        """Take the steps from number `step` on. Returns the number of z and the Point before it."""
        monitor, state, z = self.monitor, self.state, self.z
        monitor.latest = step, z.copy()
        while step < monitor.limit:
            if monitor.keeps(step):
                monitor.keep(step, z=z, last=self._before(step), kernel=state)
            step, reason, point = self._burst(step)
            if reason == OnRows.NOT_FINITE:
                last = Point(step - 1, z, None, self._gradient, lr=state[OnRows.RATE]) if state[OnRows.BEGUN] else None
                raise monitor.not_finite(Point(step, z, np.nan, self._gradient), last)
            if reason == OnRows.OVERSHOOTING:
                what = monitor.overshoots.patience.sentence
                raise monitor.diverged(Point(step, z, None, self._gradient), state[OnRows.RATE], what)
            if reason == OnRows.REACHED:
                if monitor.within_tolerance(point):
                    monitor.refuse_rest_above_the_start(point)
                    point.fun = None  # the kernel may have added up in another order than `value` does
                    monitor.end(Status.CONVERGED, monitor.gap.sentence, point)
                    return step, None
                step = self._go_on_from(point)
            if step == monitor.limit or monitor.stopping.out_of_time():
                break
        return step, self._before(step)

    def _burst(self, step):
        """One call of the kernel: the step it came to, why it came back, and the Point there if it is at its end."""
        monitor, state, z = self.monitor, self.state, self.z
        recorder, rule = monitor.recorder, monitor.update.kernel_arguments
        length = min(self._length, monitor.limit - step)
        rates = self.rate.rates(step, length)
        funs, norms = np.empty((2, length))
        points = np.empty((length if recorder.wants_x else 0, *z.shape), z.dtype)
        over = monitor.overshoots
        stop = self._factor, self._floor, over.patience.steps, over.patience.growth
        started = time.perf_counter()
        flat = points.reshape(len(points), z.size)
        found = self._gradient, self._previous, funs, norms, flat
        taken, reason = self.variables.burst(z, rule, rates, *stop, state, *found)
        elapsed = time.perf_counter() - started
        monitor.update.took(taken)
        now = state.tolist()
        monitor.first_fun, monitor.last_rate = now[OnRows.FIRST_FUN], now[OnRows.RATE]
        over.met, over.steps, over.growth = now[OnRows.CURVATURE], int(now[OnRows.OVERSHOOTS]), now[OnRows.GROWTH]
        evaluated = taken + (reason in (OnRows.REACHED, OnRows.OVERSHOOTING))
        recorder.burst(step, evaluated, taken, points, funs, norms, rates, self.variables.to_user)
        step += taken
        monitor.latest = step, z.copy()
        if monitor.bar is not None and evaluated:
            monitor.bar.update(taken)
            monitor.show_bar(funs[evaluated - 1], norms[evaluated - 1])
        point = None
        if reason == OnRows.REACHED:
            point = Point(step, z, funs[taken], self._gradient, least=norms[taken])
        self._length = _next_length(length, elapsed)
        return step, reason, point

    def _go_on_from(self, point):
        """Take the step from a point that is not near enough, as the kernel would, and look again nearer by."""
        monitor, state = self.monitor, self.state
        wanted, found = monitor.gap.wanted(point.fun), monitor.gap.gap
        nearer = wanted / found if found and math.isfinite(found) else CLOSER
        self._factor *= min(max(nearer, CLOSER**4), CLOSER)
        lr = self.rate(point.step)
        monitor.took(point.step, lr)
        self._previous[...] = self.z
        monitor.update(self.z, self._gradient, lr)
        state[OnRows.BEGUN], state[OnRows.NORM], state[OnRows.RATE], state[OnRows.FUN] = 1, point.norm, lr, point.fun
        monitor.latest = point.step + 1, self.z.copy()
        return point.step + 1

    def _before(self, step):
        """The Point before the last step that was taken."""
        if not step:
            return None
        state = self.state
        fun, lr, norm = float(state[OnRows.FUN]), float(state[OnRows.RATE]), float(state[OnRows.NORM])
        return Point(step - 1, self._previous, fun, self._gradient, lr=lr, norm=norm)


def _next_length(length, elapsed):
    """As many steps as take about BURST_SECONDS, where `length` of them took so long, without leaping."""
    return max(1, int(min(length * BURST_SECONDS / max(elapsed, 1e-6), 16 * length, 1 << 20)))


def _known(fun):
    """The value that a kernel has left, None where it has not evaluated it."""
    return None if math.isnan(fun) else float(fun)


class OnFunctions:
    """Steps on a function by a kernel, between those points of a run that are to be judged."""

    def __init__(self, variables, monitor, rate):
        self.variables, self.monitor, self.rate = variables, monitor, rate
        self.length = FIRST_STEPS
        self.state = np.zeros(7)
        # NumPy's warnings are off where f is called, but not in callbacks and schedules.
        self._outside = contextvars.copy_context()
        self._asked = None if isinstance(rate, Constant) else functools.partial(self._outside.run, rate)

    def steps(self, z, last, step):
        """Take steps from z, `last` being the Point before it.

        Returns
        -------
        z, last, step
            Where the run is now.
        known : (value or None, gradient) or None
            At z, if they have been evaluated.
        """
        monitor, over = self.monitor, self.monitor.overshoots
        z, known = z.copy(), None
        self.state[:] = (
            over.steps, over.growth, over.met or 0, last.norm, last.lr, monitor.first_norm, monitor.rose
        )  # fmt: skip
        while step < monitor.limit and known is None:
            monitor.keep(step, z=z, last=last, kernel=None)
            begun = step
            last, step, known = self._burst(z, last, step)
            if monitor.stopping.out_of_time() or step == begun:
                break
        return z, last, step, known

    def _burst(self, z, last, step):
        """One call of the kernel: the Point before z, its step, and what is known at z."""
        monitor, recorder, patience = self.monitor, self.monitor.recorder, self.monitor.overshoots.patience
        length, every = min(self.length, monitor.limit - step), monitor.values_every
        gradient, previous = last.gradient.copy(), last.z.copy()
        found, spent = np.empty(z.size), np.zeros(4, np.int64)
        funs, norms, rates = np.empty((3, length))
        points = np.empty((length if recorder.wants_x else 0, *z.shape))
        if self._asked is None:
            rates.fill(self.rate)
        look = self._show if monitor.callbacks else None
        limits = monitor.rule.below, patience.steps, patience.growth, every
        started = time.perf_counter()
        try:
            reason, found = self.variables.take_steps(
                z, found, spent, look, self._asked, rates, *limits, self.state, gradient.reshape(-1),
                previous.reshape(-1), funs, norms, points.reshape(len(points), z.size),
                *monitor.update.kernel_arguments,
            )  # fmt: skip
        finally:  # what was done counts, also where f has raised an exception, or Ctrl-C
            taken, whole = spent[OnFunction.STEPS :].tolist()
            step += taken
            monitor.update.took(taken)
            recorder.burst(step - taken, taken + whole, taken, points, funs, norms, rates, None)
            last = monitor.latest = self._last(step, funs[taken - 1].item(), previous, gradient) if taken else last
            if whole:
                monitor.latest = monitor.evaluated(step, z.copy(), _known(funs[taken]), found.reshape(z.shape))
        if monitor.bar is not None and taken:
            monitor.bar.update(taken)
            monitor.show_bar(last.fun, norms[taken - 1])
        self.length = _next_length(max(taken, 1), time.perf_counter() - started)
        if reason in (OnFunction.ALL_STEPS, OnFunction.UNTOUCHED):
            return last, step, None
        if reason == OnFunction.STOPPED:
            monitor.end_by_callback(monitor.latest)
        wanted = self.variables.fun_is_free or (every and step % every == 0)
        return last, step, (funs[taken].item() if wanted else None, found)

    def _last(self, step, fun, previous, gradient):
        """The Point before the last step; the monitor hears of the steps up to there."""
        monitor, over, state = self.monitor, self.monitor.overshoots, self.state.tolist()
        monitor.last_rate, monitor.rose = state[OnFunction.RATE], bool(state[OnFunction.ROSE])
        over.steps, over.growth = int(state[OnFunction.OVERSHOOTS]), state[OnFunction.GROWTH]
        over.met = state[OnFunction.CURVATURE] or None
        return monitor.evaluated(step - 1, previous, _known(fun), gradient, monitor.last_rate)

    def _show(self, step, x, fun, jac, nfev, njev):
        """Show the callbacks a point that the kernel has come to; whether one of them ends the run."""
        seen = Result(x=x, fun=fun, jac=jac, nit=step, nfev=nfev, njev=njev)
        return self._outside.run(self.monitor.callback_stops, seen)
