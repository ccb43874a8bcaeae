"""Which solver a fit takes, and the call of it.

"auto" compares, in passes over X, what each would cost:

    gram             the squared loss, d ≤ 2048: forming XᵀX takes about d/16 passes, and then two or three more.
                     Always but with l2 alone; then where that is less than preconditioned steps take
    preconditioned   every other smooth problem: the curvature of max(4096, 8d) rows, and some 5 to 15 passes
    accelerated      an l1 penalty with more columns than a matrix is formed for; early stopping, which wants a path
    smoothed         losses with a kink (hinge, epsilon-insensitive)
    gd, sgd          where a rate, an optimizer or a batch size is given
"""

import contextlib
import functools

import numpy as np

from fastgd import validation
from fastgd.linear_model import inputs
from fastgd.linear_model.first_order import first_order
from fastgd.linear_model.normal_equations import gram
from fastgd.linear_model.smoothed import smoothed
from fastgd.linear_model.solvers import from_fewer_rows
from fastgd.linear_model.space import METRIC_COLUMNS, sample_rows
from fastgd.linear_model.stream import stochastic

SOLVERS = ("auto", "gram", "preconditioned", "accelerated", "gd", "sgd")
# Passes that quasi-Newton steps on a squared loss need beyond those on XᵀX.
MORE_PASSES = 10
# From so many multiplications on, a tenth of a millisecond, it is worth telling the BLAS how to do them.
MUCH_WORK = 1 << 20
# Up to so many, some milliseconds, no choice of a solver is worth much.
SMALL_CHOICE = 1 << 26


def rate(learning_rate):
    """A float, a function of the step, or None for "auto"."""
    if isinstance(learning_rate, str):
        if learning_rate != "auto":
            raise ValueError(f'learning_rate must be "auto", a number or a function of the step; got {learning_rate!r}')
        return None
    if callable(learning_rate):
        return Schedule(inputs.of_one_argument(learning_rate, "learning_rate", "the step"))
    return Constant(validation.scalar(learning_rate, "learning_rate", positive=True))


class Schedule:
    """A function of the step, checked; one that looks at the loss gets it after every epoch."""

    def __init__(self, function):
        self.function = function.fresh() if hasattr(function, "fresh") else function

    def __call__(self, step):
        return validation.scalar(self.function(step), f"learning_rate({step})", minimum=0)

    def rates(self, step, count):
        """Those of `count` steps from `step` on."""
        return np.array([self(step + i) for i in range(count)], np.float64)

    @property
    def observes(self):
        """Whether it looks at the loss."""
        return hasattr(self.function, "observe")

    def observe(self, loss):
        if self.observes:
            self.function.observe(loss)


class Constant(float):
    """A rate that is the same for every step."""

    observes = False

    def __call__(self, step):
        return float(self)

    def rates(self, step, count):
        return np.full(count, float(self))

    def observe(self, loss):
        pass


def choose(problem, solver, checked):
    """The name of the solver."""
    smooth = problem.loss.smooth
    if solver == "auto":
        if checked.batch is not None:
            return "sgd"
        if checked.rate is not None or not checked.plain:
            return "gd" if smooth else "sgd"
        if not smooth:
            return "smoothed"
        if checked.early_stopping:
            return "accelerated"
        if problem.objective.quadratic and _gram_pays(problem):
            return "gram"
        return "preconditioned" if problem.d <= METRIC_COLUMNS or not problem.l1 else "accelerated"
    if checked.batch is not None and solver != "sgd":
        raise ValueError(f'batch_size is for solver="sgd" or "auto"; got solver={solver!r}')
    if checked.rate is not None and solver not in ("gd", "sgd"):
        raise ValueError(f'a learning_rate is for solver="gd" or "sgd"; solver={solver!r} finds its own')
    if not checked.plain and solver not in ("gd", "sgd"):
        raise ValueError(f'an optimizer is for solver="gd" or "sgd"; got solver={solver!r}')
    if solver == "gram" and not problem.objective.quadratic:
        raise ValueError(f'solver="gram" is for loss="squared_error"; got loss={problem.name!r}')
    if not smooth and solver != "sgd":
        if solver == "preconditioned":
            return "smoothed"
        raise ValueError(f'loss={problem.name!r} has a kink: solver must be "auto", "preconditioned" or "sgd"')
    return solver


def _gram_pays(problem):
    n, d, rows = problem.n, problem.d, problem.objective.rows
    if d > METRIC_COLUMNS:
        return False
    # Without l2 the steps of others are many, as a relative gap bounds only the root of the weights' error, or costly:
    # each minimises a quadratic function with l1, where XᵀX is that function once and for all.
    if problem.l1 or not problem.has_dual:
        return True
    passes = rows.gram_products() / max(1.0, rows.values)
    metric = passes * sample_rows(d) / n if n > sample_rows(d) else 0.0  # else steps begin with a diagonal
    return n * d * d <= SMALL_CHOICE or passes <= MORE_PASSES + metric


def run(solver, problem, watch, W, b, checked, seed, shuffle):
    with one_blas_thread(problem.n * (problem.d * problem.k) ** 2):
        return _run(solver, problem, watch, W, b, checked, seed, shuffle)


def one_blas_thread(products):
    """Hold the BLAS to one thread while matrices are formed, where that is much work and threadpoolctl is there.

    Its threads wait for each other between blocks of rows; on a machine that has other things to do that takes ten
    times as long. And results would depend on how many there are.
    """
    if products < MUCH_WORK:
        return contextlib.nullcontext()
    try:
        controller = _controller()
    except ImportError:
        return contextlib.nullcontext()
    return controller.limit(limits=1, user_api="blas")


@functools.cache
def _controller():
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()


def _run(solver, problem, watch, W, b, checked, seed, shuffle):
    if solver == "sgd" or (solver == "gd" and not checked.plain):
        batch = problem.n if solver == "gd" else min(checked.batch or 1, problem.n)
        return stochastic(
            problem, watch, W, b, rate=checked.rate, batch=batch, seed=seed, rule=checked.rule,
            scaled=solver == "gd" or checked.rate is None, shuffle=shuffle,
        )  # fmt: skip
    solve = {
        "gram": gram,
        "preconditioned": from_fewer_rows,
        "smoothed": smoothed,
        "accelerated": functools.partial(first_order, accelerate=True),
        "gd": functools.partial(first_order, accelerate=False, rate=checked.rate),
    }[solver]
    return solve(problem, watch, W, b)
