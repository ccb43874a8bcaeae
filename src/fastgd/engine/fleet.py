"""Many runs that take their steps together: point, gradient and rate of each run are a row of an array."""

import typing

import numpy as np

from fastgd.engine.divergence import OvershootsOfMany
from fastgd.optimizers import GD, State


class Ending(typing.NamedTuple):
    """How a run of a fleet ended.

    Attributes
    ----------
    why : {"start", "not finite", "overshooting", "near", "limit"}
    step : int
        At which it was noticed.
    x, fun, gradient
        The last point worth reporting; fun may be None.
    lr : float or None
        The rate of the step before.
    first_fun : float or None
    """

    why: str
    step: int
    x: np.ndarray
    fun: float | None
    gradient: np.ndarray
    lr: float | None
    first_fun: float | None


class Fleet:
    """The loop over steps.

    Parameters
    ----------
    points : ndarray, (K, size)
        Where the runs begin.
    evaluate : callable
        (points, numbers of the runs) → (values or None, gradients) of those runs.
    values : callable or None
        (points, numbers) → values, where evaluate gives none and divergence is to be told.
    rates : callable
        (step, numbers) → a rate for each, or one for all.
    end : callable
        end(number, Ending) is called for each run once. After "near" False sends it on.
    near : callable, optional
        (numbers, values, norms) → which runs may be within their tolerance.
    rule : Optimizer
    clip : callable, optional
        Moves points onto bounds, in place.
    trace : list, optional
        (numbers, points, values, norms, rates) of each step are appended.

    Attributes
    ----------
    x : (K', size)
        The points of the runs that go on; `runs` are their numbers.
    """

    def __init__(self, points, evaluate, values, rates, end, *, near=None, rule=None, clip=None, trace=None):
        self.x, self.runs = points, np.arange(len(points))
        self._evaluate, self._values, self._rates, self._end = evaluate, values, rates, end
        self._near, self.rule, self._clip, self._trace = near, GD() if rule is None else rule, clip, trace
        self._state = self.rule.init(points)
        self._overshoots = OvershootsOfMany(self.rule, len(points))
        self._first = self._before = None
        if clip is not None:
            clip(self.x)

    def descend(self, limit):
        """Take all steps, or as many as it takes until no run goes on."""
        for step in range(limit + 1):
            self._look(step)
            if step == limit:
                self._leave(np.ones(len(self.runs), bool), "limit", step)
            if not len(self.runs):
                return
            given = np.asarray(self._rates(step, self.runs), np.float64)
            rates = np.broadcast_to(given, len(self.runs))
            if self._trace is not None:
                self._trace.append((self.runs, self.x.copy(), self.fun, self.norm, rates))
            self._before = self.x.copy(), self.fun, self.gradient, self.norm, rates
            with np.errstate(all="ignore"):
                if given.ndim and type(self.rule) is GD:  # plain steps, each run's by its own rate
                    self.x -= rates.astype(self.x.dtype)[:, None] * self.gradient
                elif given.ndim:
                    self._step_each(rates)
                else:
                    self.rule.step(self.x, self.gradient, self._state, float(given))
            if self._clip is not None:
                self._clip(self.x)

    def _step_each(self, rates):
        """A step of each run by its own rate; the rule's state is of all."""
        moments = self._state.moments.reshape(-1, *self.x.shape)
        for i, rate in enumerate(rates.tolist()):
            state = State(np.ascontiguousarray(moments[:, i]), self._state.step)
            self.rule.step(self.x[i], self.gradient[i], state, rate)
            moments[:, i] = state.moments
        self._state.step += 1

    def _look(self, step):
        """Evaluate; runs that have diverged, or are near enough, leave."""
        if step == 0 and self._values is not None:
            self._first = self._values(self.x, self.runs)
        self.fun, gradient = self._evaluate(self.x, self.runs)
        with np.errstate(all="ignore"):
            self.gradient = gradient.astype(self.x.dtype, copy=False)
            self.norm = np.sqrt(np.einsum("kd,kd->k", self.gradient, self.gradient, dtype=np.float64))
        finite = np.isfinite(self.norm) & np.isfinite(self.x).all(axis=1)
        if self.fun is not None:
            finite &= np.isfinite(self.fun)
        if step == 0:
            self._first = self.fun if self._first is None else self._first
            finite &= np.isfinite(self._first)
            self._leave(~finite, "start", step)
        else:
            self._leave(~finite, "not finite", step)
            away = self._overshoot()
            self._leave(away, "overshooting", step)
        if self._near is not None and len(self.runs):
            self._leave(self._near(self.runs, self.fun, self.norm), "near", step)

    def _overshoot(self):
        """Which runs have taken one overshooting step too many, and are above where they began."""
        _, _, gradient, norm, rates = self._before
        with np.errstate(all="ignore"):
            turned = np.einsum("kd,kd->k", self.gradient, gradient, dtype=np.float64) < 0
        away = self._overshoots.look(self.runs, self.norm, norm, turned, rates)
        if away.any():
            funs = self._values(self.x[away], self.runs[away]) if self.fun is None else self.fun[away]
            away[away] = ~(funs <= self._first[self.runs[away]])
        return away

    def _leave(self, mask, why, step):
        """End the runs in `mask`, for the reason `why` (see `Ending`), and remove them from the arrays.

        They end at the current point, or at the one before if the current one is not finite. A run whose `end` returns
        False stays.
        """
        if not mask.any():
            return
        x, fun, gradient = self.x, self.fun, self.gradient
        if why == "not finite":
            x, fun, gradient = self._before[:3]
        gone = mask.copy()
        for i in np.flatnonzero(mask).tolist():
            run = int(self.runs[i])
            lr = None if self._before is None else float(self._before[4][i])
            value = None if fun is None else float(fun[i])
            ending = Ending(why, step, x[i].copy(), value, gradient[i].copy(), lr, float(self._first[run]))
            gone[i] = self._end(run, ending) is not False
        self._keep(~gone)

    def _keep(self, kept):
        if kept.all():
            return
        rows, shape = len(self._state.moments), self.x.shape
        moments = self._state.moments.reshape(rows, *shape)[:, kept]
        self.x, self.runs, self.gradient = np.ascontiguousarray(self.x[kept]), self.runs[kept], self.gradient[kept]
        self._state.moments = np.ascontiguousarray(moments).reshape(rows, self.x.size)
        self.norm, self.fun = self.norm[kept], None if self.fun is None else self.fun[kept]
        if self._before is not None:
            self._before = tuple(None if part is None else part[kept] for part in self._before)
