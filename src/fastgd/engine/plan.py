"""The plan of a run: solver, variables, rate, rule and batch; for `gradient_descent` and the estimators alike.

"auto" chooses by the costs of the solvers, in passes over X:

    coordinate       an l1 penalty, unless there are very many rows for each column
    gram             the squared loss, d ≤ 2048: XᵀX costs about d/16 passes, and the solution two or three more. With
                     an l2 penalty only where preconditioned steps would cost more
    preconditioned   every other smooth objective: the Hessian of max(4096, 8d) rows, and some 5 to 15 passes; losses
                     with a kink through smooth approximations
    accelerated      early stopping, which needs the points of a path
    newton           bounds in an estimator, or a penalty of its own for each coefficient
    gd, sgd          where a rate, an optimizer, bounds or a batch size are given
"""

import dataclasses
import functools
import importlib
import typing

import numpy as np

from fastgd import optimizers
from fastgd.engine.gap import GapRule
from fastgd.engine.least_norm import take_least_norm
from fastgd.engine.monitor import Monitor
from fastgd.engine.update import Update
from fastgd.errors import OutOfTimeError
from fastgd.linalg import one_blas_thread
from fastgd.objective.compressed import Compressed
from fastgd.objective.linear import LinearObjective
from fastgd.objective.sample import DENSE_COLUMNS, sample_rows
from fastgd.objective.standardised import Standardised
from fastgd.objective.variables import Columns, OfFunction


class Solver(typing.NamedTuple):
    """What a solver takes and needs.

    takes : some of "rate" (a number or a schedule), "rule" (an optimizer other than plain descent), "batch", "limits"
        (bounds, clipping, escape from saddles).
    needs : some of "quadratic", "smooth" (no kink), "l1" (an l1 penalty and a convex loss with a dual), "columns" (at
        most DENSE_COLUMNS).
    """

    takes: frozenset
    needs: frozenset
    purpose: str


def _solver(purpose, takes=(), needs=()):
    return Solver(frozenset(takes), frozenset(needs), purpose)


SOLVERS = {
    "gd": _solver("steps by a rate", ("rate", "rule", "limits"), ("smooth",)),
    "accelerated": _solver("Nesterov's steps", (), ("smooth",)),
    "preconditioned": _solver("quasi-Newton steps"),
    "gram": _solver("least squares by XᵀX", (), ("quadratic", "columns")),
    "sgd": _solver("steps on batches of rows", ("rate", "rule", "batch", "limits")),
    "newton": _solver("Newton steps within bounds", ("limits",), ("smooth", "columns")),
    "coordinate": _solver("coordinate descent with an l1 penalty", (), ("smooth", "l1")),
}
NAMES = ("auto", *SOLVERS)

# Multiplications, some milliseconds of them, up to which XᵀX is formed without comparing costs.
SMALL_CHOICE = 1 << 26


@dataclasses.dataclass
class Request:
    """What the caller asks for.

    Attributes
    ----------
    objective : LinearObjective or Function
    solver : str or None
        A name of SOLVERS, or "auto"; None is "gd" with a rate and "auto" without.
    rate : callable or None
        None: the solver, or the method, finds it.
    method : str, optional
        "bb", "armijo" or "adgd": how the step size is found.
    rule : Optimizer
    batch : int, optional
    start : optional
        Weights of the objective's shape, or (W, b); None for the best constant model.
    limit : int
        The most steps.
    user_columns : bool
        Whether the rate of full-batch steps is that of the user's columns, not of standardised ones.
    path : bool
        Whether the points of a path are wanted (early stopping), not the minimum alone.
    bounds, clip_value, clip_norm
        Limits of the steps.
    guard : Guard, optional
        Escape from saddles.
    seed, shuffle
        Order of the rows.
    tol : float or None
    rate_word : str
        The name of the rate's argument in messages.
    """

    objective: object
    limit: int
    solver: str | None = None
    rate: typing.Callable | None = None
    method: str | None = None
    rule: optimizers.Optimizer = dataclasses.field(default_factory=optimizers.GD)
    batch: int | None = None
    start: object = None
    user_columns: bool = True
    path: bool = False
    bounds: object = None
    clip_value: float | None = None
    clip_norm: float | None = None
    guard: object = None
    seed: int = 0
    shuffle: bool = True
    tol: float | None = None
    rate_word: str = "lr"

    @property
    def plain(self):
        return type(self.rule) is optimizers.GD

    @property
    def limited(self):
        return any(value is not None for value in (self.bounds, self.clip_value, self.clip_norm, self.guard))

    @property
    def given(self):
        """What is given that not every solver takes: (entry of `Solver.takes`, its name in a message)."""
        names = {
            "rate": (self.rate is not None, self.rate_word), "rule": (not self.plain, "an optimizer"),
            "batch": (self.batch is not None, "batch_size"),
            "limits": (self.limited, "bounds, clipping or escape_saddles"),
        }  # fmt: skip
        return [(entry, name) for entry, (is_given, name) in names.items() if is_given]


def _by_groups(request):
    """The one solver that takes a penalty of groups."""
    o, solver = request.objective, request.solver
    others = [what for _, what in request.given] + ["early stopping"] * request.path
    if solver not in (None, "auto", "coordinate") or others:
        got = f"solver={solver!r}" + "".join(f", {what}" for what in others)
        raise ValueError(f'groups are for solver="auto" or "coordinate", and nothing that steps by a rate; got {got}')
    if not (o.has_dual and o.convex and o.smooth and o.rows.has_columns):
        raise ValueError(
            f"groups are for data in memory and a smooth loss that is convex by Xw + b; got loss={o.loss!r}, "
            f"activation={o.activation!r}"
        )
    return "coordinate"


def choose(request):
    """The name of the solver; ValueError if the given one does not take the other arguments."""
    o, solver = request.objective, request.solver
    if o.penalty.groups is not None and o.l1:
        return _by_groups(request)
    of_each = o.penalty_weights is not None or (request.bounds is not None and not request.user_columns)
    if of_each:
        solver = _within_bounds(request)
    if solver in (None, "auto"):
        if request.batch is not None:
            return "sgd"
        if request.rate is not None or not request.plain or request.limited:
            return "gd" if o.smooth or request.user_columns else "sgd"
        if not o.smooth:
            return _smoothed(request)
        if request.path:
            return "accelerated"
        if o.l1 and o.has_dual and _columns_pay(o):
            return "coordinate"
        if o.quadratic and _gram_pays(o):
            return "gram"
        return "preconditioned" if o.rows.d <= DENSE_COLUMNS or not o.l1 else "accelerated"
    known = SOLVERS[solver]
    for entry, what in request.given:
        if entry not in known.takes:
            fitting = " or ".join(f'"{other}"' for other, row in SOLVERS.items() if entry in row.takes)
            raise ValueError(f'{what} is for solver={fitting} or "auto"; got solver={solver!r}, {known.purpose}')
    if solver == "preconditioned" and not o.smooth:
        return _smoothed(request)
    if "quadratic" in known.needs and not o.quadratic:
        raise ValueError(
            f"solver={solver!r} is for the squared error with the identity; got loss={o.loss!r}, "
            f"activation={o.activation!r}"
        )
    if "l1" in known.needs and not (o.l1 and o.has_dual and o.convex):
        raise ValueError(
            f"solver={solver!r} is for an l1 penalty and a loss that is convex by Xw + b; got l1={o.l1:g}, "
            f"loss={o.loss!r}, activation={o.activation!r}"
        )
    if "smooth" in known.needs and not o.smooth and not (request.user_columns and request.rate is not None):
        raise ValueError(
            f'loss={o.loss!r} has a kink: solver must be "auto", "preconditioned" or "sgd"; got {solver!r}'
        )
    return solver


def _within_bounds(request):
    """The solver for bounds in an estimator, or penalty weights; the one asked for where a rate is given with it."""
    o, solver = request.objective, request.solver
    if o.penalty.groups is not None and o.l1:
        return _by_groups(request)
    fits = o.smooth and o.rows.d <= DENSE_COLUMNS and request.rate is None and request.plain and request.batch is None
    if solver in (None, "auto", "newton") and fits:
        return "newton"
    if o.penalty_weights is None and request.rate is not None and solver in (None, "auto", "gd", "sgd"):
        return solver
    what = "bounds" if o.penalty_weights is None else "penalty_weights"
    raise ValueError(
        f'{what} are for solver="auto" or "newton", a smooth loss, at most {DENSE_COLUMNS} columns and no rate, '
        f"optimizer or batch_size{' (bounds also for gd and sgd with a rate)' * (what == 'bounds')}; got "
        f"solver={solver!r}, loss={o.loss!r}, {o.rows.d} columns"
    )


def _smoothed(request):
    """ "preconditioned" for a loss with a kink, if there are smooth approximations of it."""
    o = request.objective
    if o.record.smoothing is None:
        why = "no smooth losses near it are known" if o.convex else f"with activation={o.activation!r} it is not convex"
        raise ValueError(
            f"loss={o.loss!r} has a kink, and {why}: give a {request.rate_word} that shrinks, such as "
            "lambda step: 0.1 / (1 + step) ** 0.5"
        )
    return "preconditioned"


def _columns_pay(o):
    """Whether coordinate descent is quicker on an l1 penalty than XᵀX or preconditioned steps.

    These cost little where there are many rows for each column (512 for XᵀX, 4096 for a Hessian), or few columns.
    """
    n, d = o.rows.n, o.rows.d
    if not o.rows.has_columns or (o.quadratic and d <= min(n, 64)):
        return False
    return n < (512 if o.quadratic else 4096) * d


def _gram_pays(o):
    n, d = o.rows.n, o.rows.d
    if d > DENSE_COLUMNS:
        return False
    # Without a penalty XᵀX and refinement give all digits of the weights, where a relative gap ε leaves an error of √ε.
    # With l1 each preconditioned step minimises a quadratic function, and XᵀX is that function itself.
    if o.l1 or not o.has_dual:
        return True
    products = o.rows.gram_products()
    passes = products / max(1.0, o.rows.values)
    hessian = passes * sample_rows(d) / n if n > sample_rows(d) else 0.0  # of all rows: a diagonal is used instead
    return n * d * d <= SMALL_CHOICE or passes <= 10 + hessian  # quasi-Newton steps take about 10 passes


class Plan:
    """A request with its solver and variables.

    Attributes
    ----------
    solver : str
    variables : Variables
    monitor : Monitor, once `watch` was called
    """

    def __init__(self, request, steps_in_view=None):
        self.request, o = request, request.objective
        self.linear = isinstance(o, LinearObjective)
        self.solver = choose(request) if self.linear and request.method is None else request.method or "gd"
        # Solvers with a given rate or method form no matrices.
        self._products = _products(o) if self.linear and request.rate is None and request.method is None else 0
        self.variables, self._loop, self._rate = self._as_work(self._route, steps_in_view)

    def _as_work(self, call, *arguments):
        """call(*arguments); where matrices are formed, with one BLAS thread and without NumPy's warnings."""
        if not self._products:  # the kernels do not warn, and the warnings of a user's function are shown
            return call(*arguments)
        with one_blas_thread(self._products), np.errstate(all="ignore"):
            return call(*arguments)

    def _route(self, steps_in_view):
        """(variables, loop, rate)."""
        r, o = self.request, self.request.objective
        if self.linear and r.method is not None and o.penalty_weights is not None:
            raise ValueError(f'penalty_weights do not go with lr={r.method!r}: leave it to lr="auto"')
        if self.linear and r.method is not None and o.penalty.groups is not None:
            raise ValueError(f'groups do not go with lr={r.method!r}: leave it to lr="auto"')
        if not self.linear or r.method is not None:
            variables = Columns(o, self._user_start()) if self.linear else OfFunction(o, r.start)
            if r.method is not None:
                return variables, _loop("line_search.rate_free", method=r.method), None
            return variables, _loop("steps.steps", rate=r.rate), r.rate
        if self.solver == "gd":
            return self._steps(steps_in_view)
        if self.solver == "sgd":
            options = {"batch": r.batch or 1, "seed": r.seed, "shuffle": r.shuffle}
            if r.rate is None:
                return self._standardised(), _loop("scaled_epochs.in_scaled_columns", rule=r.rule, **options), None
            return (
                Columns(o, self._user_start()), _loop("epochs.in_user_columns", rate=r.rate, **options), r.rate,
            )  # fmt: skip
        loops = {
            "newton": "newton.newton", "accelerated": "accelerated.accelerated", "gram": "gram.gram",
            "coordinate": "coordinate.coordinate",
            "preconditioned": "quasi_newton.from_fewer_rows" if o.smooth else "smoothing.smoothed",
        }  # fmt: skip
        return self._standardised(), _loop(loops[self.solver]), None

    def _steps(self, steps_in_view):
        """Steps by a rate, or 1/L, on all rows."""
        r, o = self.request, self.request.objective
        if r.rate is not None and r.user_columns:
            columns = Columns(o, self._user_start())
            steps = r.limit if steps_in_view is None else steps_in_view
            return Compressed.of(columns, steps), _loop("steps.steps", rate=r.rate), r.rate
        if r.rate is None and r.plain and not r.limited:
            return self._standardised(), _loop("accelerated.accelerated", momentum=False), None
        in_user_columns = r.rate is None and r.bounds is not None
        variables = Columns(o, self._user_start()) if in_user_columns else self._standardised()
        if r.rate is None and r.rule.stable_formula is None:
            options = {"batch": o.rows.n, "seed": r.seed, "shuffle": False}
            return variables, _loop("scaled_epochs.in_scaled_columns", rule=r.rule, **options), None
        if r.rate is None and not np.isfinite(variables.curvature().largest):
            raise ValueError(
                f'{r.rate_word}="auto" is 1/L, and the curvature of loss={o.loss!r} with activation={o.activation!r} '
                "has no bound L: give a number or a schedule, or leave out what is not plain descent"
            )
        return variables, _loop("steps.steps", rate=r.rate), r.rate

    def _standardised(self):
        r, o = self.request, self.request.objective
        start = r.start
        if start is not None and not isinstance(start, tuple):
            start = tuple(part.astype(np.float64) for part in o.split(start))
        return Standardised(o, start, roughly=self.solver == "coordinate", by_moments=self.solver == "gram")

    def _user_start(self):
        start, o = self.request.start, self.request.objective
        return o.join(*start).astype(o.dtype) if isinstance(start, tuple) else start

    @property
    def dropped(self):
        """Indices of the columns that vary by no more than the rounding error of their values: their weights are 0."""
        v = self.variables
        if not isinstance(v, Standardised) or np.all(np.isfinite(v.scale)):
            return ()
        still = np.flatnonzero(~np.isfinite(v.scale))
        return still[self.request.objective.rows.varies(still)]

    def watch(self, **options):
        """Make the Monitor; see there for the options."""
        r, v = self.request, self.variables
        thresholds = None
        in_standard = isinstance(v, Standardised)
        if self.solver == "newton" or (r.objective.l1 and self.solver == "gd" and in_standard):
            thresholds = np.broadcast_to(v.thresholds(), v.start.shape)
        update = Update(
            r.rule, v.start, v.penalised, l1=v.l1, thresholds=thresholds,
            bounds=v.bounds_of(r.bounds) if in_standard and r.bounds is not None else r.bounds,
            clip_value=r.clip_value, clip_norm=r.clip_norm,
        )  # fmt: skip
        gap = GapRule(r.objective, r.tol) if self.linear else None
        self.monitor = Monitor(
            v, limit=r.limit, rate=self._rate, update=update, gap=gap, tol=None if self.linear else r.tol,
            guard=r.guard, **options,
        )  # fmt: skip
        self.monitor.solver = self.solver
        return self.monitor

    def run(self):
        """Run the solver; its Result."""
        return self._as_work(self._run)

    def _run(self):
        if self.monitor.stopping.seconds is not None and self.variables.numerical:
            return self._within_time()
        self._loop(self.variables, self.monitor)
        if self.monitor.lost and isinstance(self.variables, Standardised):
            take_least_norm(self.variables, self.monitor)
        elif self.monitor.tolerates and isinstance(self.variables, Standardised) and not self.variables.note:
            self.variables.note = self.monitor.gap.change_of_weights(self.variables, self.monitor.end_point)
        return self.monitor.result()

    def _within_time(self):
        """Run with a time limit that is checked at each evaluation of f, of which a numerical gradient takes many."""
        v, monitor, begun = self.variables, self.monitor, self.variables.nfev
        with v.objective.watched(monitor.stopping.out_of_time) as watched:
            try:
                self._loop(v, monitor)
            except OutOfTimeError:
                v.nfev = max(v.nfev, begun + watched.calls)
        return monitor.result() if monitor.ended else monitor.timed_out()


def _loop(name, **options):
    """A solver's function by its name, "module.function"; the module is imported when it is first used."""
    module, _, function = name.partition(".")
    return functools.partial(getattr(importlib.import_module(f"fastgd.engine.{module}"), function), **options)


def _products(o):
    """Multiplications of matrices that are formed."""
    return o.rows.n * (o.rows.d * o.rows.k) ** 2
