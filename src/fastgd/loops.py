"""The loops of full-batch descent. They walk a path (`paths.py`) and report to a `Run` (`run.py`).

`plain` is the loop of the textbook; where nothing looks at each step, a kernel takes many at once. `accelerated` is
Nesterov's, for preconditioned runs. Those of `stochastic.py` and `linesearch.py` are of the same kind.
"""

import time

import numpy as np

from fastgd.kernels import reference_functions as in_c
from fastgd.kernels.reference import (
    BEGUN,
    CURVATURE,
    FIRST_FUN,
    FUN,
    GROWTH,
    NORM,
    NOT_FINITE,
    OVERSHOOTING,
    OVERSHOOTS,
    RATE,
    REACHED,
)
from fastgd.result import Result, Status
from fastgd.run import Constant, Point

# A kernel that takes many steps comes back about so often, for Ctrl-C and the progress bar.
BURST_SECONDS = 0.05
# The first time it takes so many steps that they go over so many numbers: no more than a few milliseconds.
FIRST_VALUES = 300_000
# But FIRST_STEPS if they go over no more numbers than these, which take about BURST_SECONDS.
FIRST_STEPS, MOST_FIRST_VALUES = 64, 1 << 24
MOST_STEPS = 1 << 20


def plain(run):
    """x ← x − η·∇F(x), or another rule's step, one after the other, or many at once in a kernel."""
    path, kept = run.path, run.resumed or {"z": run.path.start, "last": None, "step": 0, "kernel": None}
    z, last, step, kernel = kept["z"], kept["last"], kept["step"], kept["kernel"]
    if run.rate is None:
        run.rate = Constant(1 / (path.curvature().largest or 1.0))
    if path.has_bursts and run.may_burst:
        z = z.copy()
        step, last, kernel = _bursts(run, z, last, step, kernel)
        if isinstance(last, Result):
            return last
    by_kernel = InC(run) if path.in_c and run.may_burst else None
    while True:
        known = None
        if by_kernel is not None and last is not None:
            z, last, step, known = by_kernel.steps(z, last, step)
        if known is None:
            run.keep(step, z=z, last=last, kernel=kernel)
        point = run.point(step, z) if known is None else run.evaluated(step, z, *known)
        run.judge(point, last)
        if result := run.look_at(point):
            return result
        if step == run.limit:
            return run.at_limit(point)
        if run.jump is not None:
            z, last, step = run.take_jump(step), None, step + 1
            continue
        if run.observe:
            run.observe(point.fun)
        point.lr = run.rate(step)
        run.took(step, point.lr)
        last = point
        z = z.copy()
        run.update(z, point.gradient, point.lr)
        step, kernel = step + 1, None


def _bursts(run, z, last, step, state):
    """Take all steps, or those there is time for, in z, by a kernel.

    Returns the steps, the last Point before z, or the Result, if it ended, and the state of the kernel.
    """
    path, limit, values = run.path, run.limit, run.path.burst_values
    length = max(1, min(max(FIRST_STEPS, FIRST_VALUES // values), MOST_FIRST_VALUES // values))
    if state is None:
        state = np.zeros(8)
        state[GROWTH] = 1
    gradient = np.zeros(z.shape, z.dtype) if last is None else last.gradient
    previous = np.zeros(z.shape, z.dtype) if last is None else last.z
    limit_of_steps, limit_of_growth, what = run.patience
    stop = (*run.gap_rule(z.size), limit_of_steps, limit_of_growth)
    run.latest = step, z.copy()
    while step < limit:
        if run.keeps(step):
            run.keep(step, z=z, last=_before(step, state, previous, gradient), kernel=state)
        length = min(length, limit - step)
        rates = run.rates(step, length)
        funs, norms = np.empty((2, length))
        points = np.empty((length if run.recorder.wants_x else 0, *z.shape), z.dtype)
        started = time.perf_counter()
        rule = run.update.kernel_arguments
        flat = points.reshape(len(points), z.size)
        taken, reason = path.burst(z, rule, rates, *stop, state, gradient, previous, funs, norms, flat)
        run.update.took(taken)
        elapsed = time.perf_counter() - started
        now = state.tolist()
        run.first_fun, run.last_rate = now[FIRST_FUN], now[RATE]
        run.met_curvature, run.overshoots, run.growth = now[CURVATURE], int(now[OVERSHOOTS]), now[GROWTH]
        evaluated = taken + (reason in (REACHED, OVERSHOOTING))
        run.recorder.burst(step, evaluated, taken, points, funs, norms, rates, path.to_user)
        step += taken
        run.latest = step, z.copy()
        if run.bar is not None and evaluated:
            run.bar.update(taken)
            run.show(funs[evaluated - 1], norms[evaluated - 1])
        if reason == NOT_FINITE:
            last = Point(step - 1, z, None, gradient, lr=state[RATE]) if state[BEGUN] else None
            raise run.not_finite(Point(step, z, np.nan, gradient), last)
        if reason == OVERSHOOTING:
            raise run.diverged(Point(step, z, None, gradient), state[RATE], what)
        if reason == REACHED:
            point = Point(step, z, funs[taken], gradient, least=norms[taken])
            sentence = run.reached(point) or "the gradient is zero"
            run.refuse_rest_above_the_start(point)
            point.fun = None  # the kernel may have added up in another order than `value` does
            return step, run.result(point, Status.CONVERGED, sentence), state
        if step == limit or run.stopping.out_of_time():
            break
        length = _next_length(length, elapsed)
    return step, _before(step, state, previous, gradient), state


def _next_length(length, elapsed):
    """As many steps as take about BURST_SECONDS, where `length` of them took so long, without leaping."""
    return max(1, int(min(length * BURST_SECONDS / max(elapsed, 1e-6), 16 * length, MOST_STEPS)))


def _before(step, state, previous, gradient):
    """The Point before the last step that a kernel took."""
    if not step:
        return None
    return Point(step - 1, previous, float(state[FUN]), gradient, lr=float(state[RATE]), norm=float(state[NORM]))


class InC:
    """Steps on a C function in a kernel, between those points of a run that are to be judged."""

    def __init__(self, run):
        self.run = run
        self.length = 1  # of the next burst: nothing is known yet of what f costs

    def steps(self, z, last, step):
        """Take steps from z, `last` being the Point before it.

        Returns
        -------
        z, last, step
            Where the run is now.
        known : (value or None, gradient) or None
            At z, if they have been evaluated.
        """
        run, path, recorder = self.run, self.run.path, self.run.recorder
        z, known = z.copy(), None
        gradient, previous = last.gradient.copy(), last.z.copy()
        state = np.array(
            [run.overshoots, run.growth, run.met_curvature or 0, last.norm, last.lr, run.first_norm, run.rose], float
        )
        tol = -1.0 if run.tol is None else run.tol
        while step < run.limit and known is None:
            run.keep(step, z=z, last=last, kernel=None)
            length = min(self.length, run.limit - step)
            rates = run.rates(step, length)
            funs, norms = np.empty((2, length))
            points = np.empty((length if recorder.wants_x else 0, *z.shape))
            started = time.perf_counter()
            taken, known = path.steps_in_c(
                z, rates, tol, *run.patience[:2], run.values_every, state, gradient, previous, funs, norms,
                points.reshape(len(points), z.size), run.update.kernel_arguments,
            )  # fmt: skip
            elapsed = time.perf_counter() - started
            run.update.took(taken)
            step += taken
            if taken:
                recorder.burst(step - taken, taken, taken, points, funs, norms, rates, path.to_user)
                run.last_rate, run.rose = state[in_c.RATE], bool(state[in_c.ROSE])
                run.overshoots, run.growth = int(state[in_c.OVERSHOOTS]), state[in_c.GROWTH]
                run.met_curvature = state[in_c.CURVATURE] or None
                fun = None if np.isnan(funs[taken - 1]) else funs[taken - 1]
                last = Point(step - 1, previous.copy(), fun, gradient.copy(), lr=run.last_rate)
                # The gradient at z may be 2d evaluations away: Ctrl-C has to wait for none of them.
                run.latest = run.evaluated(step - 1, last.z, fun, last.gradient, last.lr)
                if run.bar is not None:
                    run.bar.update(taken)
                    run.show(fun, norms[taken - 1])
            if run.stopping.out_of_time() or not taken:
                break
            self.length = _next_length(taken, elapsed)
        return z, last, step, known


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
    if kept := run.resumed:
        x, y, t, step, last, rate = (kept[name] for name in ("x", "y", "t", "step", "last", "rate"))
    while True:
        run.keep(step, x=x, y=y, t=t, last=last, rate=rate)
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
        while not bounded and not path.value(new) <= point.fun - 0.5 * rate * point.norm * point.norm + rounding:
            rate /= 2
            if rate < 1e-30:
                return run.result(point, Status.CONVERGED, "no step lowers the value: it is at its rounding error")
            new = y - rate * point.gradient
        point.lr = rate
        run.took(step, point.lr)
        if np.vdot(point.gradient, new - x) > 0:
            t = 1.0
        t_next = (1 + np.sqrt(1 + 4 * t * t)) / 2
        last, y = point, new + (t - 1) / t_next * (new - x)
        x, t = new, t_next
        rate = rate if bounded else 1.5 * rate
        step += 1
