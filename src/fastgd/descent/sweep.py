"""Many runs of gradient descent on one objective at once, which share the passes over X.

Values and gradients of all runs are computed by a route (`sweep_routes.py`). The points of the runs are rows of one
array. Each run has its own rate, stopping rule and test of divergence, and its row is removed when it ends.
"""

from __future__ import annotations

import typing
from typing import Literal

import numpy as np

from fastgd import optimizers, validation
from fastgd.descent import executors
from fastgd.descent.grid import every_pair, parted, ranked, runs_of
from fastgd.descent.listed import Sweep
from fastgd.descent.sweep_routes import Passes, Quadratic
from fastgd.engine.fleet import Fleet
from fastgd.engine.gap import GapRule
from fastgd.engine.monitor import Monitor
from fastgd.engine.point import Point
from fastgd.engine.rates import rate_of
from fastgd.engine.result import History, Status
from fastgd.engine.update import Update
from fastgd.errors import DivergenceError
from fastgd.linalg import euclidean_norm
from fastgd.objective import LinearObjective
from fastgd.objective.compressed import WELL_CONDITIONED
from fastgd.objective.sample import DENSE_COLUMNS
from fastgd.objective.variables import Columns
from fastgd.validation import boolean  # `sweep` has an argument named validation

if typing.TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike

    from fastgd.optimizers import Optimizer
    from fastgd.types import Floats, OptimizerName, RateOfRun, RecordedSweptResult, ScalarFunction, SweptResult

# Forming the Gram matrix of d columns takes, for each value of X, as long as so many values of one run's share of a
# pass: what it takes to bring rows into shape, and the product by BLAS, whose cost grows with d.
GRAM_SETUP = 24
GRAM_COLUMNS_PER_UNIT = 4


@typing.overload
def sweep(
    objective: LinearObjective | ScalarFunction,
    *,
    lr: RateOfRun | Sequence[RateOfRun] | Floats,
    init_w: ArrayLike | None = None,
    l2: float | Sequence[float] | Floats | None = None,
    optimizer: OptimizerName | Optimizer | Sequence[OptimizerName | Optimizer] = "gd",
    step_num: int = 100,
    tol: float | None = None,
    history: Literal[True],
    route: Literal["auto", "direct", "gram"] = "auto",
    grid: bool = False,
    validation: float | None = None,
    seed: int | None = None,
    executor: object = None,
    progress: bool = False,
) -> Sweep[RecordedSweptResult]: ...
@typing.overload
def sweep(
    objective: LinearObjective | ScalarFunction,
    *,
    lr: RateOfRun | Sequence[RateOfRun] | Floats,
    init_w: ArrayLike | None = None,
    l2: float | Sequence[float] | Floats | None = None,
    optimizer: OptimizerName | Optimizer | Sequence[OptimizerName | Optimizer] = "gd",
    step_num: int = 100,
    tol: float | None = None,
    history: bool = False,
    route: Literal["auto", "direct", "gram"] = "auto",
    grid: bool = False,
    validation: float | None = None,
    seed: int | None = None,
    executor: object = None,
    progress: bool = False,
) -> Sweep[SweptResult]: ...
@validation.names_arguments
def sweep(
    objective, *, lr, init_w=None, l2=None, optimizer="gd", step_num=100, tol=None, history=False, route="auto",
    grid=False, validation=None, seed=None, executor=None, progress=False,
):  # fmt: skip
    """Many runs of gradient descent on one objective at once; all runs share each pass over X.

    Run i has the rate lr[i], the start init_w[i] and the penalty l2[i]; what is given once is the same for all. Each
    equals the run that `gradient_descent` makes alone, up to rounding error. With grid=True every rate goes with every
    penalty and every optimizer, and the runs come back in order, the best first.

    Parameters
    ----------
    objective : LinearObjective
        With its `n_jobs` threads. With grid=True any function, too, as `gradient_descent` takes it.
    lr : sequence of float or callable, or one of them
        Learning rates, in the user's own columns. A callable gives the rate of step 0, 1, …. With grid=True "auto" is
        one, too, for plain descent; its runs are made alone.
    init_w : array_like, of the objective's shape or (K, *shape), optional
        Where to start; zeros without it. It is never written to.
    l2 : float or sequence of float, optional
        Adds ½·l2·‖w‖² in place of the objective's own l2, which is what holds without it.
    optimizer : str or Optimizer, with grid=True a sequence of them
        As for `gradient_descent`; runs with the same one share the passes.
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
    grid : bool
        Every pair of the lists, in place of one entry of each list for each run.
    validation : float, optional
        With grid=True: hold out this share of the rows, learn from the others, and order the runs by the loss of the
        rows held out. Without it they are ordered by the loss without the penalty.
    seed : int, optional
        Of the rows held out, 0 without it.

    executor : executor, optional
        Make each run alone, by an executor of concurrent.futures, a Dask client or a joblib.Parallel, to which the
        objective, or f, is sent. A run that raises, or is lost with its worker, has status FAILED and its `exception`.
    progress : bool
        With an executor: a progress bar (extra "cli") over the runs, as they end.

    Returns
    -------
    Sweep
        A list of Results, one for each run, in order, with their `settings` (lr, l2, optimizer); with grid=True they
        have `loss` (without penalty) and, of rows held out, `validation_loss`. `to_frame()` makes a DataFrame of it.

        `fun` and `jac` are those of exactly `x`; nfev and njev count the points at which
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
    >>> best = sweep(objective, grid=True, lr=[0.01, 0.05], l2=[0.0, 1.0], step_num=50)[0]
    >>> best.settings
    {'lr': 0.05, 'l2': 0.0, 'optimizer': 'gd'}
    """
    if executor is not None:
        options = {"step_num": step_num, "tol": tol, "history": boolean(history, "history")}
        return _apart(objective, lr, l2, optimizer, init_w, validation, seed, options, boolean(grid, "grid"), executor,
                      boolean(progress, "progress"))  # fmt: skip
    if progress:
        raise ValueError("progress is for an executor, whose runs end one by one; leave it out")
    if boolean(grid, "grid"):
        return _grid(objective, lr, l2, optimizer, init_w, validation, seed, step_num, tol, history, route)
    for name, value in (("validation", validation), ("seed", seed)):
        if value is not None:
            raise ValueError(f"{name} is for grid=True, which orders the runs; leave it out")
    return _side_by_side(objective, lr, init_w, l2, optimizers.get(optimizer), step_num, tol, history, route)


def _grid(objective, lr, l2, optimizer, init_w, share, seed, step_num, tol, history, route):
    """The runs of every pair, ranked: those with numbers for rates side by side, the others alone."""
    settings = every_pair(lr, l2, optimizer)
    linear = isinstance(objective, LinearObjective)
    if not linear and any(setting["l2"] is not None for setting in settings):
        raise ValueError("l2 is for an objective; with a function put the penalty into it")
    learn, held = (objective, None) if share is None else parted(objective, share, seed)
    shared = {}
    for i, setting in enumerate(settings):
        if linear and not isinstance(setting["lr"], str):
            shared.setdefault(optimizers.get(setting["optimizer"]), []).append(i)
    results = [None] * len(settings)
    for rule, members in shared.items():
        rates, penalties = ([settings[i][name] for i in members] for name in ("lr", "l2"))
        penalties = None if penalties[0] is None else penalties
        found = _side_by_side(learn, rates, init_w, penalties, rule, step_num, tol, history, route)
        for i, result in zip(members, found, strict=True):
            results[i] = result
    for i, setting in enumerate(settings):
        if results[i] is None:
            f = learn if setting["l2"] is None else learn.replace(l2=setting["l2"])
            options = {"optimizer": setting["optimizer"], "step_num": step_num, "tol": tol, "history": history}
            results[i] = executors.alone(f, init_w, setting["lr"], options)
    return ranked(results, settings, learn, held)


def _apart(objective, lr, l2, optimizer, init_w, share, seed, options, grid, executor, progress):
    """The runs of an executor, each by itself."""
    linear, starts = isinstance(objective, LinearObjective), init_w
    if grid:
        settings = every_pair(lr, l2, optimizer)
    elif not linear:
        raise TypeError(f"objective must be a LinearObjective, or with grid=True any function; got {objective!r}")
    else:
        rates, starts, penalties = runs_of(objective, lr, init_w, l2)
        rule = optimizers.get(optimizer)
        settings = [{"lr": rate, "l2": l2, "optimizer": rule.name} for rate, l2 in zip(rates, penalties, strict=True)]
    if not linear and any(setting["l2"] is not None for setting in settings):
        raise ValueError("l2 is for an objective; with a function put the penalty into it")
    if not grid and (share is not None or seed is not None):
        raise ValueError("validation and seed are for grid=True, which orders the runs; leave them out")
    learn, held = (objective, None) if share is None else parted(objective, share, seed)
    tasks = [(setting, init_w if grid else starts[i]) for i, setting in enumerate(settings)]
    if not grid:
        tasks = [(setting | {"optimizer": rule}, start) for setting, start in tasks]
    results = executors.results(learn, tasks, options, executor, progress)
    if grid:
        return ranked(results, settings, learn, held)
    for result, setting in zip(results, settings, strict=True):
        result.settings = setting
    return Sweep(results)


def _side_by_side(objective, lr, init_w, l2, rule, step_num, tol, history, route):
    """The Results of runs on one objective that share each pass over X, in order."""
    if not isinstance(objective, LinearObjective):
        raise TypeError(
            f"objective must be a LinearObjective, or with grid=True any function; got {validation.describe(objective)}"
        )
    step_num = validation.count(step_num, "step_num")
    if tol is not None:
        tol = validation.scalar(tol, "tol", positive=True)
        if not objective.smooth:
            raise ValueError(
                f"tol has no bound of the gap for loss={objective.loss!r}, whose slope jumps: leave it out"
            )
    if objective.penalty_weights is not None:
        raise ValueError("sweep takes no penalty_weights: its steps share one penalty")
    if objective.l1:
        raise ValueError(f"sweep takes no l1, whose steps are not plain; the objective has l1={objective.l1:g}")
    history = validation.boolean(history, "history")
    validation.choice(route, "route", ("auto", "direct", "gram"))
    if route == "gram" and not objective.quadratic:
        raise ValueError(
            'route="gram" is for squared losses with activation "identity"; this objective has '
            f"loss={objective.loss!r}, activation={objective.activation!r}"
        )
    rates, starts, penalties = runs_of(objective, lr, init_w, l2)
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
    if rule.name == "asgd":
        raise ValueError('sweep takes no optimizer="asgd", whose result is an average of points')
    runs = _Runs(taken, rates, penalties, step_num, tol, history, note, rule)
    points = np.array(starts.reshape(len(starts), -1), dtype=taken.dtype)
    Fleet(
        points, runs.evaluate, None, runs.rates, runs.end, near=None if tol is None else runs.near, rule=rule,
        trace=runs.trace,
    ).descend(step_num)  # fmt: skip
    if taken is not passes:
        _settle(passes, runs.results, penalties)
    for result, rate, penalty in zip(runs.results, rates, penalties.tolist(), strict=True):
        result.settings = {"lr": rate, "l2": penalty, "optimizer": rule.name}
    return Sweep(runs.results)


def _gram_is_cheaper(objective, runs, steps):
    """Whether forming XᵀX pays for itself, counting values that are multiplied."""
    n, d, k = objective.rows.n, objective.shape[0], objective.rows.k
    if not objective.quadratic or d > DENSE_COLUMNS:
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


# --------------------------------------------------------------------------------------------------------------- runs


class _Member(Columns):
    """The variables of one run: the fleet evaluates, so they only answer questions."""

    def __init__(self, route, objective, note):
        super().__init__(objective)
        self.note, self._route = note, route

    def settle(self, w, fun, gradient):
        dtype = self.objective.dtype
        with np.errstate(all="ignore"):
            return w.astype(dtype), fun, gradient.astype(dtype)

    def to_user(self, w):
        return w.astype(self.objective.dtype)

    def curvature(self):
        return self._route.curvature(self.objective.l2)


class _Runs:
    """What a fleet asks of the runs of a sweep, by number, and their Results."""

    def __init__(self, route, rates, penalties, limit, tol, history, note, rule):
        self.route, self.penalties, self.limit, self.rule = route, penalties, limit, rule
        self.objective = route.objective
        if tol is not None:
            _ = self.objective.value_at_zero  # once for all
        self.monitors = [self._monitor(rate, l2, tol, note) for rate, l2 in zip(rates, penalties.tolist(), strict=True)]
        self.results = [None] * len(rates)
        self.scheduled = {run for run, rate in enumerate(rates) if callable(rate)}
        self._rates = np.array([0.0 if callable(rate) else rate for rate in rates])
        self.trace = [] if history else None
        self.rates_given = {run: rate_of(rates[run], f"lr[{run}]") for run in self.scheduled}
        if tol is not None:
            self._factor = np.array([self._gate(monitor) for monitor in self.monitors])

    def _monitor(self, rate, l2, tol, note):
        objective = self.objective if l2 == self.objective.l2 else self.objective.replace(l2=l2)
        member = _Member(self.route, objective, note)
        update = Update(self.rule, member.start)
        return Monitor(member, limit=self.limit, gap=GapRule(objective, tol), update=update)

    @staticmethod
    def _gate(monitor):
        """A gap is only looked for where ‖∇F‖² is at most this times max(F, ε·F(0))."""
        curvature, gap = monitor.variables.curvature(), monitor.gap
        known = curvature.smallest if curvature.smallest and gap.objective.convex else curvature.largest
        size = monitor.variables.start.size
        return max(2 * gap.tol * known, 2 * size * (8 * gap.objective.eps) ** 2 * curvature.largest)

    def weights(self, points):
        """(columns, runs, outputs): for one output a matrix with a column for each run."""
        rows = self.objective.shape[0]
        return np.ascontiguousarray(np.moveaxis(points.reshape(len(points), rows, -1), 0, 1))

    def evaluate(self, points, runs):
        fun, gradient = self.route.evaluate(self.weights(points), self.penalties[runs])
        return fun, np.moveaxis(gradient, 1, 0).reshape(points.shape)

    def rates(self, step, runs):
        for run in self.scheduled.intersection(runs.tolist()) if self.scheduled else ():
            self._rates[run] = self.rates_given[run](step)
        return self._rates[runs]

    def near(self, runs, funs, norms):
        rule = self.monitors[0].gap
        with np.errstate(all="ignore"):
            return ~(
                norms**2 > self._factor[runs] * np.maximum(rule.above_least(funs), rule.objective.eps * rule.scale)
            )

    def end(self, run, ending):
        """Put the end of a run into words; False where it goes on."""
        monitor, shape = self.monitors[run], self.objective.shape
        step, x = ending.step, ending.x.reshape(shape)
        if ending.why == "start":
            start = validation.show_point(x)
            raise ValueError(f"the value or the gradient of run {run} is not finite at the start, init_w = {start}")
        monitor.first_fun, monitor.last_rate = ending.first_fun, ending.lr
        at = step - 1 if ending.why == "not finite" else step
        point = Point(at, x, ending.fun, ending.gradient.reshape(shape), lr=ending.lr)
        try:
            if ending.why == "near":
                if not monitor.within_tolerance(point):
                    return False
                monitor.end(Status.CONVERGED, monitor.gap.sentence, point)
            elif ending.why == "limit":
                monitor.at_limit(point)
            else:
                what = monitor.overshoots.patience.sentence
                what = what if ending.why == "overshooting" else "the value or the gradient is no longer finite"
                raise monitor.diverged(point, ending.lr, what, step=step)
            result = monitor.result()
        except DivergenceError as error:
            result = error.result
            result.message = str(error) + monitor.variables.note
        result.nfev = result.njev = step + 1
        if self.trace is not None:
            result.history = self._history(run, step, ending)
        self.results[run] = result
        return True

    def _history(self, run, step, ending):
        o = self.objective
        rows = [(runs.searchsorted(run), *row) for runs, *row in self.trace[:step] if run in runs]
        points = [x[i].reshape(o.shape) for i, x, *_ in rows]
        funs, norms = [fun[i] for i, _, fun, *_ in rows], [norm[i] for i, *_, norm, _ in rows]
        rates = [lr[i] for i, *_, lr in rows]
        if ending.why == "not finite":  # the last point is the one before
            rates = rates[:-1]
        else:
            points.append(ending.x.reshape(o.shape))
            funs.append(ending.fun)
            norms.append(euclidean_norm(ending.gradient))
        return History(
            x=np.array(points, dtype=o.dtype), fun=np.array(funs), lr=np.array(rates), grad_norm=np.array(norms),
            step=np.arange(len(points)),
        )  # fmt: skip
