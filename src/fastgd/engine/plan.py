"""The plan of a run: which solver, in which variables, with which rate, rule and batch. Both faces make it here.

"auto" compares, in passes over X, what each solver would cost:

    coordinate       an l1 penalty, but with very many rows for each column
    gram             the squared loss, d ≤ 2048: forming XᵀX takes about d/16 passes, and then two or three more.
                     Always but with l2 alone; then where that is less than preconditioned steps take
    preconditioned   every other smooth objective: the curvature of max(4096, 8d) rows, and some 5 to 15 passes; losses
                     with a kink by smooth ones of falling width
    accelerated      early stopping, which wants a path
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
from fastgd.objective.sample import METRIC_COLUMNS, sample_rows
from fastgd.objective.standardised import Standardised
from fastgd.objective.variables import Columns, OfFunction


class Solver(typing.NamedTuple):
    """What a solver takes and needs.

    takes : of "rate" (a number or a schedule), "rule" (another optimizer than plain descent), "batch", "limits"
    (bounds, clipping, a way on from saddles).
    needs : of "quadratic", "smooth" (no kink), "l1" (a penalty, and a dual) and "columns" (no more than a matrix is
    formed for).
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
    "coordinate": _solver("coordinate descent with an l1 penalty", (), ("smooth", "l1")),
}
NAMES = ("auto", *SOLVERS)

# What a request may hold that not every solver takes, in the words of the sentence that refuses it.
GIVEN = {
    "rate": "{rate}", "rule": "an optimizer", "batch": "batch_size", "limits": "bounds, clipping or escape_saddles",
}  # fmt: skip
# From so many rows for each column on, an l1 penalty is left to XᵀX, or to a metric of some rows; and that on a squared
# loss of so few columns.
GRAM_ROWS, METRIC_ROWS, FEW_COLUMNS = 512, 4096, 64
# Up to so many multiplications, some milliseconds, no choice of a solver is worth much.
SMALL_CHOICE = 1 << 26


@dataclasses.dataclass
class Request:
    """What a face asks for.

    Attributes
    ----------
    objective : LinearObjective or Function
    solver : str or None
        A name of SOLVERS, "auto"; None is "gd", and "auto" without a rate.
    rate : callable or None
        None is found: by the solver, or by the method.
    method : str, optional
        "bb", "armijo" or "adgd": how the length of each step is found.
    rule : Optimizer
    batch : int, optional
    start : optional
        Weights of the objective's shape, or (W, b); None for the best constant model.
    limit : int
        Steps at most.
    user_columns : bool
        Whether a rate is meant in the user's columns with full passes too.
    path : bool
        Whether many points on the way are wanted, and not the minimum.
    bounds, clip_value, clip_norm
        Of the steps.
    guard : Guard, optional
    seed, shuffle
        Of the order of the rows.
    tol : float or None
    rate_word : str
        What the face calls a rate.
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
        """What it holds that not every solver takes."""
        found = {"rate": self.rate is not None, "rule": not self.plain, "batch": self.batch is not None}
        found["limits"] = self.limited
        return [name for name, is_given in found.items() if is_given]


def choose(request):
    """The name of the solver; ValueError where the one that is named does not go with the rest."""
    o, solver = request.objective, request.solver
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
        return "preconditioned" if o.rows.d <= METRIC_COLUMNS or not o.l1 else "accelerated"
    known = SOLVERS[solver]
    for name in request.given:
        if name not in known.takes:
            fitting = " or ".join(f'"{other}"' for other, row in SOLVERS.items() if name in row.takes)
            what = GIVEN[name].format(rate=request.rate_word)
            raise ValueError(f'{what} is for solver={fitting} or "auto"; got solver={solver!r}, {known.purpose}')
    if solver == "preconditioned" and not o.smooth:
        return _smoothed(request)
    lacks = {"quadratic": not o.quadratic, "smooth": not o.smooth, "columns": o.rows.d > METRIC_COLUMNS}
    if "quadratic" in known.needs and lacks["quadratic"]:
        raise ValueError(
            f"solver={solver!r} is for the squared error with the identity; got loss={o.loss!r}, "
            f"activation={o.activation!r}"
        )
    if "l1" in known.needs and not (o.l1 and o.has_dual and o.convex):
        raise ValueError(
            f"solver={solver!r} is for an l1 penalty and a loss that is convex by Xw + b; got l1={o.l1:g}, "
            f"loss={o.loss!r}, activation={o.activation!r}"
        )
    if "smooth" in known.needs and lacks["smooth"] and not (request.user_columns and request.rate is not None):
        raise ValueError(
            f'loss={o.loss!r} has a kink: solver must be "auto", "preconditioned" or "sgd"; got {solver!r}'
        )
    return solver


def _smoothed(request):
    """ "preconditioned" for a loss with a kink, which needs its dual."""
    o = request.objective
    if o.record.smoothing is None:
        why = "no smooth losses near it are known" if o.convex else f"with activation={o.activation!r} it is not convex"
        raise ValueError(
            f"loss={o.loss!r} has a kink, and {why}: give a {request.rate_word} that shrinks, such as "
            "lambda step: 0.1 / (1 + step) ** 0.5"
        )
    return "preconditioned"


def _columns_pay(o):
    """Whether coordinate descent on an l1 penalty is quicker than steps on all columns: these have a metric of some
    rows, where there are many rows for each column, or XᵀX."""
    n, d = o.rows.n, o.rows.d
    if not o.rows.has_columns or (o.quadratic and d <= min(n, FEW_COLUMNS)):
        return False
    return n < (GRAM_ROWS if o.quadratic else METRIC_ROWS) * d


def _gram_pays(o):
    n, d = o.rows.n, o.rows.d
    if d > METRIC_COLUMNS:
        return False
    # Without l2 the steps of others are many, as a relative gap bounds only the root of the weights' error, or costly:
    # each minimises a quadratic function with l1, where XᵀX is that function once and for all.
    if o.l1 or not o.has_dual:
        return True
    products = o.rows.gram_products()
    passes = products / max(1.0, o.rows.values)
    metric = passes * sample_rows(d) / n if n > sample_rows(d) else 0.0  # else steps begin with a diagonal
    return n * d * d <= SMALL_CHOICE or passes <= 10 + metric  # quasi-Newton steps take some 10 more


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
        # Matrices are formed by all solvers but those that take a rate of the user's.
        self._products = _products(o) if self.linear and request.rate is None and request.method is None else 0
        self.variables, self._loop, self._rate = self._as_work(self._route, steps_in_view)

    def _as_work(self, call, *arguments):
        """call(*arguments), without the BLAS's threads and warnings of NumPy's where matrices are formed."""
        if not self._products:  # the kernels warn of nothing, and what a function of the user's warns of is theirs
            return call(*arguments)
        with one_blas_thread(self._products), np.errstate(all="ignore"):
            return call(*arguments)

    def _route(self, steps_in_view):
        """(variables, loop, rate)."""
        r, o = self.request, self.request.objective
        if not self.linear:
            variables = OfFunction(o, r.start)
            if r.method is not None:
                return variables, self._of("line_search", "rate_free", method=r.method), None
            return variables, self._of("steps", "steps", rate=r.rate), r.rate
        if r.method is not None:
            return Columns(o, self._user_start()), self._of("line_search", "rate_free", method=r.method), None
        if self.solver == "sgd":
            options = {"batch": r.batch or 1, "seed": r.seed, "shuffle": r.shuffle}
            if r.rate is None:
                return (
                    self._standardised(),
                    self._of("scaled_epochs", "in_scaled_columns", rule=r.rule, **options),
                    None,
                )
            columns = Columns(o, self._user_start())
            return columns, self._of("epochs", "in_user_columns", rate=r.rate, **options), r.rate
        if self.solver == "gd":
            return self._steps(steps_in_view)
        variables = self._standardised()
        if self.solver == "accelerated":
            return variables, self._of("accelerated", "accelerated"), None
        if self.solver == "coordinate":
            return variables, self._of("coordinate", "coordinate"), None
        if self.solver == "gram":
            return variables, self._of("gram", "gram"), None
        if o.smooth:
            return variables, self._of("quasi_newton", "from_fewer_rows"), None
        return variables, self._of("smoothing", "smoothed"), None

    def _steps(self, steps_in_view):
        """Steps by a rate, or 1/L, on all rows."""
        r, o = self.request, self.request.objective
        if r.rate is not None and r.user_columns:
            columns = Columns(o, self._user_start())
            steps = r.limit if steps_in_view is None else steps_in_view
            return Compressed.of(columns, steps), self._of("steps", "steps", rate=r.rate), r.rate
        if r.rate is None and r.plain and not r.limited:
            return self._standardised(), self._of("accelerated", "accelerated", momentum=False), None
        in_user_columns = r.rate is None and r.bounds is not None
        variables = Columns(o, self._user_start()) if in_user_columns else self._standardised()
        if r.rate is None and r.rule.stable_formula is None:
            options = {"batch": o.rows.n, "seed": r.seed, "shuffle": False}
            return variables, self._of("scaled_epochs", "in_scaled_columns", rule=r.rule, **options), None
        if r.rate is None and not np.isfinite(variables.curvature().largest):
            raise ValueError(
                f'{r.rate_word}="auto" is 1/L, and the curvature of loss={o.loss!r} with activation={o.activation!r} '
                "has no bound L: give a number or a schedule, or leave out what is not plain descent"
            )
        return variables, self._of("steps", "steps", rate=r.rate), r.rate

    def _standardised(self):
        r, o = self.request, self.request.objective
        start = r.start
        if start is not None and not isinstance(start, tuple):
            start = tuple(part.astype(np.float64) for part in o.split(start))
        return Standardised(o, start)

    def _user_start(self):
        start = self.request.start
        return (
            self.request.objective.join(*start).astype(self.request.objective.dtype)
            if isinstance(start, tuple)
            else start
        )

    @property
    def dropped(self):
        """Numbers of columns that vary by no more than the rounding of their numbers: their weights are 0."""
        v = self.variables
        if not isinstance(v, Standardised) or np.all(np.isfinite(v.scale)):
            return ()
        still = np.flatnonzero(~np.isfinite(v.scale))
        parts = [self.request.objective.rows.columns(still[at : at + 64]) for at in range(0, len(still), 64)]
        return still[np.concatenate([np.any(part != part[0], axis=0) for part in parts])]

    @staticmethod
    def _of(module, name, **options):
        return functools.partial(_loop(module, name), **options)

    def watch(self, **options):
        """Make the Monitor; see there for the options."""
        r, v = self.request, self.variables
        thresholds = None
        if r.objective.l1 and self.solver == "gd" and isinstance(v, Standardised):
            thresholds = np.broadcast_to(v.thresholds(), v.start.shape)
        update = Update(
            r.rule, v.start, v.penalised, l1=v.l1, thresholds=thresholds, bounds=r.bounds, clip_value=r.clip_value,
            clip_norm=r.clip_norm,
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
        return self.monitor.result()

    def _within_time(self):
        """The same where each gradient takes many evaluations: the clock is looked at in each of them."""
        v, monitor, begun = self.variables, self.monitor, self.variables.nfev
        with v.objective.watched(monitor.stopping.out_of_time) as watched:
            try:
                self._loop(v, monitor)
            except OutOfTimeError:
                v.nfev = max(v.nfev, begun + watched.calls)
        return monitor.result() if monitor.ended else monitor.timed_out()


@functools.cache
def _loop(module, name):
    """A solver, imported when it is first used."""
    return getattr(importlib.import_module(f"fastgd.engine.{module}"), name)


def _products(o):
    """Multiplications of matrices that are formed."""
    return o.rows.n * (o.rows.d * o.rows.k) ** 2
