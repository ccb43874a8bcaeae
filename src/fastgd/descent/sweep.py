"""Many runs of gradient descent on one objective, side by side, so that they share what is dear: the passes over X.

Values and gradients of all runs come by a route (`sweep_routes.py`). The runs themselves are rows of arrays: each has
its own rate, its own stopping and its own judgement on divergence, and leaves when it ends.
"""

from __future__ import annotations

import functools
import numbers
import typing
from typing import Literal

import numpy as np

from fastgd import validation
from fastgd.descent import refuse_kinks
from fastgd.errors import DivergenceError
from fastgd.objective import LinearObjective
from fastgd.paths import GRAM_COLUMNS, WELL_CONDITIONED, Columns
from fastgd.engine.result import History, Status
from fastgd.run import OVERSHOOT_GROWTH, OVERSHOOT_LIMIT, OVERSHOOTING_STEPS, Point, Run
from fastgd.descent.sweep_routes import Passes, Quadratic

if typing.TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike

    from fastgd.engine.result import Result
    from fastgd.types import Floats, Rate, RecordedResult

# Forming the Gram matrix of d columns takes, for each value of X, as long as so many values of one run's share of a
# pass: what it takes to bring rows into shape, and the product by BLAS, whose cost grows with d.
GRAM_SETUP = 24
GRAM_COLUMNS_PER_UNIT = 4


@typing.overload
def sweep(
    objective: LinearObjective,
    *,
    lr: Rate | Sequence[Rate] | Floats,
    init_w: ArrayLike | None = None,
    l2: float | Sequence[float] | Floats | None = None,
    step_num: int = 100,
    tol: float | None = None,
    history: Literal[True],
    route: Literal["auto", "direct", "gram"] = "auto",
) -> list[RecordedResult]: ...
@typing.overload
def sweep(
    objective: LinearObjective,
    *,
    lr: Rate | Sequence[Rate] | Floats,
    init_w: ArrayLike | None = None,
    l2: float | Sequence[float] | Floats | None = None,
    step_num: int = 100,
    tol: float | None = None,
    history: bool = False,
    route: Literal["auto", "direct", "gram"] = "auto",
) -> list[Result]: ...
def sweep(
    objective, *, lr, init_w=None, l2=None, step_num=100, tol=None, history=False, route="auto"
):  # fmt: skip
    """Many runs of gradient descent on one objective at once; all runs share each pass over X.

    Run i has the rate lr[i], the start init_w[i] and the penalty l2[i]; what is given once is the same for all. Each
    is the run that `gradient_descent` makes alone, but for rounding.

    Parameters
    ----------
    objective : LinearObjective
        With its `n_jobs` threads.
    lr : sequence of float or callable, or one of them
        Learning rates, in the user's own columns. A callable gives the rate of step 0, 1, ….
    init_w : array_like, of the objective's shape or (K, *shape), optional
        Where to start; zeros without it. It is never written to.
    l2 : float or sequence of float, optional
        Adds ½·l2·‖w‖² in place of the objective's own l2, which is what holds without it.
    step_num : int
        The number of steps; with `tol`, the largest number.
    tol : float, optional
        When a run stops early, as in `gradient_descent` on an objective.
    history : bool
        Record x, fun, lr and grad_norm of every step of every run.
    route : {"auto", "direct", "gram"}
        "direct" passes over X at every step. "gram" is for squared losses with the identity: XᵀX is formed once, and a
        step costs O(d²) for each run; it loses digits where the condition number of XᵀX is high. "auto" takes the
        quicker one, and "direct" where that condition number is above 1e8; the messages then say so.

    Returns
    -------
    list of Result
        One for each run, in order. `fun` and `jac` are those of exactly `x`; nfev and njev count the points at which
        they were computed. A run that diverges has status DIVERGED, success False and a message that names the step,
        the rate and, where it is known, the largest stable rate; it is no exception, for the other runs count.

    Raises
    ------
    TypeError, ValueError
        An argument is not what it should be, the numbers of rates, starts and penalties do not fit, or the objective
        is not finite at a start.

    Examples
    --------
    >>> objective = LinearObjective([[1.0], [2.0], [3.0]], [2.0, 4.0, 6.0])
    >>> runs = sweep(objective, lr=[0.01, 0.05, 0.5], step_num=50)
    >>> [run.status.name for run in runs]
    ['STEP_LIMIT', 'STEP_LIMIT', 'DIVERGED']
    >>> [float(run.x[0].round(3)) for run in runs[:2]]
    [1.999, 2.0]
    """
    if not isinstance(objective, LinearObjective):
        raise TypeError(f"objective must be a LinearObjective; got {validation.describe(objective)}")
    step_num = validation.count(step_num, "step_num")
    if tol is not None:
        tol = validation.scalar(tol, "tol", positive=True)
        refuse_kinks(objective, lr, tol)
    history = validation.boolean(history, "history")
    validation.choice(route, "route", ("auto", "direct", "gram"))
    if route == "gram" and not objective.quadratic:
        raise ValueError(
            'route="gram" is for squared losses with activation "identity"; this objective has '
            f"loss={objective.loss!r}, activation={objective.activation!r}"
        )
    rates, starts, penalties = _runs(objective, lr, init_w, l2)
    # The weights of all runs, (columns, runs, outputs): for one output a matrix with a column for each run.
    weights = np.ascontiguousarray(np.moveaxis(starts.reshape(len(starts), objective.shape[0], -1), 0, 1))
    passes = Passes(objective)
    taken, note = passes, ""
    if route == "gram" or (route == "auto" and _gram_is_cheaper(objective, len(rates), step_num)):
        quadratic = Quadratic(passes, penalties)
        if route == "gram" or quadratic.condition < WELL_CONDITIONED:
            taken = quadratic
        else:
            note = (
                f"; by passes over X, because the condition number of the Gram matrix is {quadratic.condition:.0e} and "
                "steps on it would lose digits"
            )
    fleet = _Fleet(taken, rates, penalties, step_num, tol, history, note)
    fleet.descend(weights)
    if taken is not passes:
        _settle(passes, fleet.results, penalties)
    return fleet.results


# --------------------------------------------------------------------------------------------------------- arguments


def _runs(objective, lr, init_w, l2):
    """Rates (a list), starts (K, *shape) and penalties (K,), of one length."""
    rates = [
        rate if callable(rate) else validation.scalar(rate, f"lr[{i}]", minimum=0)
        for i, rate in enumerate(_listed(lr, "lr", "learning rates"))
    ]
    penalties = [objective.l2]
    if l2 is not None:
        penalties = [
            validation.scalar(value, f"l2[{i}]", minimum=0) for i, value in enumerate(_listed(l2, "l2", "penalties"))
        ]
    shape, dtype = objective.shape, objective.dtype
    starts = np.zeros((1, *shape), dtype)
    if init_w is not None:
        starts = validation.real_array(init_w, "init_w", dtype=dtype)
        if starts.shape == shape:
            starts = starts[None]
        if starts.shape[1:] != shape or len(starts) == 0:
            wanted = ", ".join(map(str, ("K", *shape)))
            raise ValueError(f"init_w must have shape {shape} or ({wanted}), a row for each run; got {starts.shape}")
    count = max(len(rates), len(starts), len(penalties))
    if any(length not in (1, count) for length in (len(rates), len(starts), len(penalties))):
        raise ValueError(
            f"lr has {len(rates)} entries, init_w {len(starts)} and l2 {len(penalties)}: each must have as many as "
            "there are runs, or one for all"
        )
    return (
        rates * (count // len(rates)),
        np.broadcast_to(starts, (count, *shape)),
        np.array(np.broadcast_to(penalties, (count,)), dtype=np.float64),
    )


def _listed(value, name, what):
    """A sequence as a list, one number or callable as a list of one."""
    if callable(value) or (isinstance(value, numbers.Real) and not isinstance(value, (bool, np.bool_))):
        return [value]
    if isinstance(value, (str, bytes, dict, set)) or np.ndim(value) == 0:
        raise TypeError(f"{name} must be a sequence of {what}, or one of them; got {validation.describe(value)}")
    entries = list(value)
    if not entries:
        raise ValueError(f"{name} must have at least one entry")
    if any(isinstance(entry, str) for entry in entries):
        automatic = "; the automatic rate changes variables: use gradient_descent for it" if "auto" in entries else ""
        raise ValueError(f"{name} must hold {what}, not strings{automatic}")
    return entries


def _gram_is_cheaper(objective, runs, steps):
    """Whether forming XᵀX pays for itself, counting values that are multiplied."""
    n, d, k = objective.rows.n, objective.shape[0], objective.rows.k
    if not objective.quadratic or d > GRAM_COLUMNS:
        return False
    direct = steps * runs * k * objective.rows.values
    return (GRAM_SETUP + d / GRAM_COLUMNS_PER_UNIT) * n * d + steps * runs * k * d * d < direct


def _settle(passes, results, penalties):
    """Value and gradient at exactly the points reached, by one pass for all runs."""
    o = passes.objective
    weights = np.stack([result.x.reshape(o.shape[0], -1) for result in results], axis=1)
    values, gradients = passes.evaluate(weights, penalties)
    for number, result in enumerate(results):
        result.fun = float(values[number])
        result.jac = gradients[:, number].astype(o.dtype).reshape(o.shape)
        result.nfev += 1
        result.njev += 1


# ------------------------------------------------------------------------------------------------------------- fleet


class _Member(Columns):
    """What one run of the fleet has in the place of a path: the fleet evaluates, so it only answers questions."""

    def __init__(self, route, l2, note):
        self.objective, self.note = route.objective, note
        self.start = np.zeros(route.objective.shape, route.dtype)
        self.nfev = self.njev = 0
        self.curvature = functools.partial(route.curvature, l2)

    def settle(self, w, fun, gradient):
        dtype = self.objective.dtype
        with np.errstate(all="ignore"):
            return w.astype(dtype), fun, gradient.astype(dtype)

    def to_user(self, w):
        return w.astype(self.objective.dtype)


class _Points:
    """Where the active runs are at one step: a row of each array for a run."""

    def __init__(self, step, runs, weights, fun, gradient, lr):
        self.step, self.runs, self.weights, self.fun, self.gradient, self.lr = step, runs, weights, fun, gradient, lr
        with np.errstate(all="ignore"):
            self.norm = np.sqrt(np.einsum("irk,irk->r", gradient, gradient, dtype=np.float64))
        self.finite = np.isfinite(self.norm) & np.isfinite(self.fun)

    def keep(self, kept):
        if not kept.all():
            for name in ("runs", "fun", "lr", "norm", "finite"):
                setattr(self, name, getattr(self, name)[kept])
            self.weights, self.gradient = (np.compress(kept, a, axis=1) for a in (self.weights, self.gradient))

    def one(self, i, shape):
        """The Point of one run."""
        weights, gradient = (a[:, i].reshape(shape) for a in (self.weights, self.gradient))
        return Point(self.step, weights, float(self.fun[i]), gradient, lr=float(self.lr[i]))


class _Fleet:
    """The loop over steps, for all runs at once, by the rules of `descent.plain`.

    They are applied to all runs as arrays. A run that ends, or might, is judged and put into words by its own `Run`.
    """

    def __init__(self, route, rates, penalties, limit, tol, history, note):
        self.route, self.penalties, self.limit, self.tol = route, penalties, limit, tol
        self.members = [
            Run(_Member(route, l2, note), rate, limit, tol, None, 0, history=False)
            for rate, l2 in zip(rates, penalties.tolist(), strict=True)
        ]
        self.results = [None] * len(rates)
        self.scheduled = {run for run, rate in enumerate(rates) if callable(rate)}
        self.rates = np.array([0.0 if callable(rate) else rate for rate in rates])
        self.trace = [] if history else None
        self.overshoots, self.growth = np.zeros(len(rates), int), np.ones(len(rates))
        if tol is not None:
            size = int(np.prod(route.objective.shape))
            self.factor, self.floor = np.array([member.gap_rule(size) for member in self.members]).T

    def descend(self, weights):
        runs, last = np.arange(len(self.results)), None
        for step in range(self.limit + 1):
            fun, gradient = self.route.evaluate(weights, self.penalties[runs])
            with np.errstate(all="ignore"):
                gradient = gradient.astype(self.route.dtype, copy=False)
            at = _Points(step, runs, weights, fun, gradient, self._rates_at(step, runs))
            if last is None:
                self._refuse_bad_starts(at)
                self.first_fun = at.fun
            else:
                self._end_not_finite(at, last)
            if self.trace is not None:
                self.trace.append((at.runs, at.weights, at.fun, at.norm, at.lr))
            if last is not None:
                self._end_overshooting(at, last)
            if self.tol is not None:
                self._end_reached(at, last)
            if step == self.limit:
                self._end_at_limit(at, last)
            if not len(at.runs):
                return
            runs, last = at.runs, at
            with np.errstate(all="ignore"):
                weights = at.weights - at.lr.astype(at.weights.dtype)[:, None] * at.gradient

    def _rates_at(self, step, runs):
        for run in self.scheduled.intersection(runs.tolist()) if self.scheduled and step < self.limit else ():
            self.rates[run] = validation.scalar(self.members[run].rate(step), f"lr[{run}]({step})", minimum=0)
        return self.rates[runs]

    # ---------------------------------------------------------------------------------------------------- judgement

    def _refuse_bad_starts(self, at):
        bad = np.flatnonzero(~at.finite)
        if len(bad):
            start = validation.show_point(at.weights[:, bad[0]].reshape(self.route.objective.shape))
            raise ValueError(f"the value or the gradient of run {bad[0]} is not finite at the start, init_w = {start}")

    def _end_not_finite(self, at, last):
        finite = at.finite
        for i in np.flatnonzero(~finite).tolist():
            member, point = self._member(last, last, i)
            error = member.diverged(point, point.lr, "the value or the gradient is no longer finite", at.step)
            self._end_by(error, last.runs[i], at.step)
        last.keep(finite)
        at.keep(finite)

    def _end_overshooting(self, at, last):
        over = at.norm > last.norm
        if over.any():
            over &= np.einsum("irk,irk->r", at.gradient, last.gradient, dtype=np.float64) < 0
            over &= last.lr > 0
        runs = at.runs
        with np.errstate(all="ignore"):
            self.growth[runs] = np.where(over, self.growth[runs] * (at.norm / last.norm), 1.0)
        self.overshoots[runs] = np.where(over, self.overshoots[runs] + 1, 0)
        away = (self.overshoots[runs] >= OVERSHOOT_LIMIT) & (self.growth[runs] >= OVERSHOOT_GROWTH)
        away &= at.fun > self.first_fun[runs]
        for i in np.flatnonzero(away).tolist():
            member, point = self._member(at, last, i)
            self._end_by(member.diverged(point, member.last_rate, OVERSHOOTING_STEPS), runs[i], at.step)
        last.keep(~away)
        at.keep(~away)

    def _end_reached(self, at, last):
        with np.errstate(all="ignore"):
            floor = self.floor[at.runs] * self.first_fun[at.runs]
            close = ~(at.norm**2 > self.factor[at.runs] * np.maximum(at.fun, floor))
        ended = np.zeros(len(close), bool)
        for i in np.flatnonzero(close).tolist():
            member, point = self._member(at, last, i)
            if reason := member.reached(point):
                self._end(member.result(point, Status.CONVERGED, reason), at.runs[i], at.step)
                ended[i] = True
        if last is not None:
            last.keep(~ended)
        at.keep(~ended)

    def _end_at_limit(self, at, last):
        for i in range(len(at.runs)):
            member, point = self._member(at, last, i)
            try:
                self._end(member.at_limit(point), at.runs[i], at.step)
            except DivergenceError as error:
                self._end_by(error, at.runs[i], at.step)
        at.keep(np.zeros(len(at.runs), bool))

    # ----------------------------------------------------------------------------------------------------- reporting

    def _member(self, at, last, i):
        """The Run of the i-th active run, told what the fleet has kept for it, and its Point."""
        run = at.runs[i]
        member = self.members[run]
        member.first_fun = float(self.first_fun[run])
        member.overshoots, member.growth = int(self.overshoots[run]), float(self.growth[run])
        member.last_rate = None if last is None else float(last.lr[i])
        return member, at.one(i, self.route.objective.shape)

    def _end_by(self, error, run, step):
        error.result.message = str(error) + self.members[run].path.note
        self._end(error.result, run, step)

    def _end(self, result, run, step):
        result.nfev = result.njev = step + 1
        if self.trace is not None:
            result.history = self._history(run)
        self.results[run] = result

    def _history(self, run):
        o = self.route.objective
        rows = [(runs.searchsorted(run), *row) for runs, *row in self.trace if run in runs]
        return History(
            x=np.array([weights[:, i].reshape(o.shape) for i, weights, *_ in rows], dtype=o.dtype),
            fun=np.array([fun[i] for i, _, fun, *_ in rows]),
            lr=np.array([lr[i] for i, *_, lr in rows[:-1]]),  # no step was taken from the last point
            grad_norm=np.array([norm[i] for i, *_, norm, _ in rows]),
            step=np.arange(len(rows)),
        )
