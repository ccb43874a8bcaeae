"""Runs on a vectorized function, side by side: each point is a row of one array."""

import numpy as np

from fastgd import optimizers, validation
from fastgd.engine.divergence import patience
from fastgd.engine.fleet import Fleet
from fastgd.engine.rates import rate_of
from fastgd.engine.result import NOT_OF_ROWS, Result, Status
from fastgd.engine.update import box
from fastgd.kernels.codes import RELATIVE_STEP

# f is given at most so many numbers at once; only runs and variables beyond that make a step take several calls.
CALL_VALUES = 1 << 22


class Batch:
    """A function of many points at once: values and gradients, by central differences where there is no grad."""

    def __init__(self, f, grad):
        self._f = validation.callable_(f, "f")
        self._grad = grad if grad is None else validation.callable_(grad, "grad")

    def spent(self, d):
        """Evaluations of f that the gradient at one point takes."""
        return 2 * d if self._grad is None else 0

    def values(self, points):
        with np.errstate(over="ignore", invalid="ignore"):
            values = self._f(points.copy())
        values = validation.real_array(values, "what f returned", dtype=np.float64, finite=False)
        if values.shape not in ((len(points),), (len(points), 1)):
            raise ValueError(
                f"f must return one value for each of {len(points)} points when vectorized, shape ({len(points)},); "
                f"it returned shape {values.shape}"
            )
        return values.reshape(-1).copy()  # f may fill and return the same buffer each time

    def gradients(self, points):
        n, d = points.shape
        if self._grad is not None:
            with np.errstate(over="ignore", invalid="ignore"):
                found = self._grad(points.copy())
            found = validation.real_array(found, "what grad returned", dtype=np.float64, finite=False)
            if found.shape != points.shape:
                raise ValueError(f"grad must return an array of shape {points.shape} here; it returned {found.shape}")
            return found.copy()
        at_once = max(1, CALL_VALUES // (2 * d * d))
        return np.concatenate([self._differences(points[i : i + at_once]) for i in range(0, n, at_once)])

    def _differences(self, points):
        n, d = points.shape
        width = RELATIVE_STEP * np.maximum(1.0, np.abs(points))
        above, below = points + width, points - width
        moved = np.repeat(points[:, None, None, :], 2 * d, axis=1).reshape(n, 2, d, d)
        each = np.arange(d)
        moved[:, 0, each, each], moved[:, 1, each, each] = above, below
        values = self.values(moved.reshape(2 * n * d, d)).reshape(n, 2, d)
        with np.errstate(all="ignore"):
            return (values[:, 0] - values[:, 1]) / (above - below)


def descend_together(f, points, lr, step_num, *, optimizer="gd", grad=None, tol=None, bounds=None, **other):
    """The Results of runs from the rows of `points`, (n, d), which take each step together."""
    if other:
        raise TypeError(f"vectorized=True takes optimizer, grad, tol and bounds; not {', '.join(other)}")
    if points.ndim != 2:
        raise ValueError(f"vectorized=True takes starts of one dimension; got shape {points.shape[1:]} of each")
    if isinstance(lr, str) or hasattr(lr, "observe"):
        raise ValueError(f"vectorized=True takes a lr that is a number or a callable; got {validation.describe(lr)}")
    step_num = validation.count(step_num, "step_num")
    if tol is not None:
        tol = validation.scalar(tol, "tol", positive=True)
    rate = rate_of(lr, "lr")
    rule = optimizers.get(optimizer)
    if rule.name == "asgd":
        raise ValueError('vectorized=True takes no optimizer="asgd", whose result is an average of points')
    lower, upper = (side.reshape(-1, points.shape[1]) for side in box(bounds, points.shape[1:], np.dtype(np.float64)))
    ends = _Ends(Batch(f, grad), len(points), points.shape[1], tol, rule)
    fleet = Fleet(
        points.copy(), ends.evaluate, ends.values, lambda step, runs: rate(step), ends.end,
        near=None if tol is None else lambda runs, funs, norms: norms <= tol, rule=rule,
        clip=(lambda x: np.clip(x, lower, upper, out=x)) if lower.size else None,
    )  # fmt: skip
    fleet.descend(step_num)
    return ends.results()


class _Ends:
    """What the runs spend, and how they end."""

    def __init__(self, batch, count, d, tol, rule):
        self._batch, self._d, self._tol, self._rising = batch, d, tol, patience(rule).sentence
        self._spent, self._passes = np.zeros(count, int), np.zeros(count, int)
        self._ended = [None] * count

    def evaluate(self, points, runs):
        self._spent[runs] += self._batch.spent(self._d)
        self._passes[runs] += 1
        return None, self._batch.gradients(points)

    def values(self, points, runs):
        self._spent[runs] += 1
        return self._batch.values(points)

    def end(self, run, ending):
        self._ended[run] = ending

    def results(self):
        """The Results of all, in order; the values at all ends take one call."""
        values = self.values(np.array([ending.x for ending in self._ended]), np.arange(len(self._ended)))
        return [
            self._result(number, ending, fun)
            for number, (ending, fun) in enumerate(zip(self._ended, values.tolist(), strict=True))
        ]

    def _result(self, number, ending, fun):
        status, why = self._status(ending)
        if status == Status.STEP_LIMIT and not fun <= ending.first_fun:
            status = Status.DIVERGED
            why = f"diverged: the run ends higher than it began, at {fun:.3g}. Take a smaller lr."
        success = status == Status.CONVERGED or (status == Status.STEP_LIMIT and self._tol is None)
        nit = ending.step
        return Result(
            x=ending.x, fun=fun, jac=ending.gradient, nit=nit, nfev=int(self._spent[number]),
            njev=int(self._passes[number]), success=success, status=status, message=why, **NOT_OF_ROWS,
        )  # fmt: skip

    def _status(self, ending):
        step, tol = ending.step, self._tol
        if ending.why == "near":
            return Status.CONVERGED, f"the gradient norm is within tol = {tol:g}"
        if ending.why == "limit":
            missed = "" if tol is None else f" without reaching tol = {tol:g}: raise step_num"
            return Status.STEP_LIMIT, f"took all {step} steps{missed}"
        if ending.why == "start":
            return Status.DIVERGED, "the value or the gradient is not finite at the start"
        what = self._rising if ending.why == "overshooting" else "the value or the gradient is no longer finite"
        return (
            Status.DIVERGED,
            f"diverged at step {step} with learning rate {ending.lr:.6g}: {what}. Take a smaller lr.",
        )
