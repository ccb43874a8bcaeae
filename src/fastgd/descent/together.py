"""Runs on a vectorized function, side by side: each point is a row of one array."""

import numpy as np

from fastgd import kernels, optimizers, validation
from fastgd.derivatives.gradient import numerical_gradient
from fastgd.derivatives.noise import Line
from fastgd.engine.divergence import patience
from fastgd.engine.fleet import Fleet
from fastgd.engine.point import Point
from fastgd.engine.rates import rate_of
from fastgd.engine.result import NOT_OF_ROWS, Result, Status
from fastgd.engine.tolerance import GradientRule
from fastgd.engine.update import box
from fastgd.kernels.codes import OWN_STEPS, RELATIVE_STEP
from fastgd.linalg import least_subgradient


class Batch:
    """A function of many points at once: values and gradients, by differences where there is no grad.

    Parameters
    ----------
    f, grad : callable
        With grad=True f returns values and gradients.
    lower, upper : (1, d) or (0, d) arrays
        Bounds, if there are any: differences call f at no point outside.
    """

    def __init__(self, f, grad, lower, upper):
        self._f, self.gives_both = validation.callable_(f, "f"), grad is True
        self._grad = grad if grad is None or grad is True else validation.callable_(grad, "grad")
        self.lower, self.upper = lower, upper
        self.numerical = grad is None

    def values(self, points):
        with np.errstate(over="ignore", invalid="ignore"):
            return self._as_values(self._both(points)[0] if self.gives_both else self._f(points.copy()), len(points))

    def gradients(self, points):
        """(values or None, gradients, evaluations of f at each) at the points."""
        with np.errstate(over="ignore", invalid="ignore"):
            if self.gives_both:
                values, found = self._both(points)
                return self._as_values(values, len(points)), self._as_gradients(found, points), 1
            if self._grad is not None:
                return None, self._as_gradients(self._grad(points.copy()), points), 0
        n, d = points.shape
        at_once = max(1, (1 << 22) // (2 * d * d))  # f is given at most 2²² numbers, 32 MB, at once
        parts = [self._differences(points[i : i + at_once]) for i in range(0, n, at_once)]
        return None, *(np.concatenate(part) for part in zip(*parts, strict=True))

    def gradient_and_error(self, x, scheme="central"):
        """The gradient at one point, the error of each entry, and the evaluations of f."""
        if not np.all(np.isfinite(x)):
            return np.full(x.shape, np.nan), np.full(x.shape, np.inf), 0
        bounds = (self.lower[0], self.upper[0]) if self.lower.size else None
        options = {"bounds": bounds, "vectorized": True, "nan_policy": "propagate", "full_output": True}
        found = numerical_gradient(self.values, x, scheme=scheme, **options)
        return found.gradient, found.error, found.nfev

    def _differences(self, points):
        """Central differences of all, computed again by `numerical_gradient` where doubtful or close to a bound."""
        n, d = points.shape
        width = RELATIVE_STEP * np.maximum(1.0, np.abs(points))
        inside = np.ones(n, bool)
        if self.lower.size:
            inside = ((points - width >= self.lower) & (points + width <= self.upper)).all(axis=1)
        x, each = points[inside], np.arange(d)
        moved = np.tile(x[:, None, None, :], (1, d, 2, 1))
        moved[:, each, 0, each], moved[:, each, 1, each] = x + width[inside], x - width[inside]
        values = self.values(moved.reshape(-1, d)).reshape(-1, d, 2)
        slopes, beside, central = np.empty((n, d)), np.empty((len(x), 3, d)), kernels.active.central_slopes
        found = np.empty_like(x)
        for k in range(len(x)):
            central(x[k], OWN_STEPS, values[k], np.empty(0), found[k])
            beside[k] = Line(x[k], width[inside][k], found[k]).points
        probes = self.values(beside.reshape(-1, d)).reshape(-1, 3)
        doubtful = [bool(central(x[k], OWN_STEPS, values[k], probes[k], found[k])) for k in range(len(x))]
        slopes[inside], spent, again = found, np.where(inside, 2 * d + 3, 0), ~inside
        again[inside] = doubtful
        for i in np.flatnonzero(again):
            slopes[i], _, more = self.gradient_and_error(points[i])
            spent[i] += more
        return slopes, spent

    def _both(self, points):
        both = self._f(points.copy())
        if not isinstance(both, (tuple, list)) or len(both) != 2:
            raise TypeError(
                f"with grad=True f must return a pair (values, gradients); it returned {validation.describe(both)}"
            )
        return both

    @staticmethod
    def _as_values(values, count):
        values = validation.real_array(values, "what f returned", dtype=np.float64, finite=False)
        if values.shape not in ((count,), (count, 1)):
            raise ValueError(
                f"f must return one value for each of {count} points when vectorized, shape ({count},); it returned "
                f"shape {values.shape}"
            )
        return values.reshape(-1).copy()  # f may fill and return the same buffer each time

    @staticmethod
    def _as_gradients(found, points):
        found = validation.real_array(found, "what grad returned", dtype=np.float64, finite=False)
        if found.shape != points.shape:
            raise ValueError(f"grad must return an array of shape {points.shape} here; it returned {found.shape}")
        return found.copy()


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
    sides = box(bounds, points.shape[1:], np.dtype(np.float64))
    lower, upper = (side.reshape(-1, points.shape[1]) for side in sides)
    ends = _Ends(Batch(f, grad, lower, upper), len(points), tol, rule)
    ends.fleet = fleet = Fleet(
        points.copy(), ends.evaluate, None if ends.batch.gives_both else ends.values,
        lambda step, runs: rate(step), ends.end, near=None if tol is None else ends.near, rule=rule,
        clip=(lambda x: np.clip(x, lower, upper, out=x)) if lower.size else None,
    )  # fmt: skip
    fleet.descend(step_num)
    return ends.results()


class _Member:
    """One of the runs, as a `GradientRule` asks for it."""

    def __init__(self, ends, run):
        self._ends, self._run, self.numerical = ends, run, ends.batch.numerical

    def gradient_and_error(self, x, scheme="central"):
        gradient, error, spent = self._ends.batch.gradient_and_error(x, scheme)
        self._ends.spent[self._run] += spent
        return gradient, error

    def least_subgradient(self, x, gradient):
        return self._ends.least(x[None], gradient[None])[0]


class _Ends:
    """What the runs spend, and how they end."""

    def __init__(self, batch, count, tol, rule):
        self.batch, self._tol, self._rule = batch, tol, rule
        self.spent, self.passes = np.zeros(count, int), np.zeros(count, int)
        self._ended, self._rules = [None] * count, {}
        self._below = np.full(count, np.inf if tol is None else tol)

    def evaluate(self, points, runs):
        values, gradients, spent = self.batch.gradients(points)
        self.spent[runs] += spent
        self.passes[runs] += 1
        return values, gradients

    def values(self, points, runs):
        self.spent[runs] += 1
        return self.batch.values(points)

    def least(self, points, gradients):
        """The gradients without the entries that bounds hold."""
        if not self.batch.lower.size:
            return gradients
        return np.array([
            least_subgradient(x, g, 0.0, 0, self.batch.lower[0], self.batch.upper[0])
            for x, g in zip(points, gradients, strict=True)
        ]).reshape(gradients.shape)  # fmt: skip

    def near(self, runs, funs, norms):
        """Which runs may be within the tolerance."""
        if self.batch.lower.size:
            norms = np.linalg.norm(self.least(self.fleet.x, self.fleet.gradient), axis=1)
        return norms <= self._below[runs]

    def end(self, run, ending):
        """Keep the end of a run; False where it goes on, its gradient not being within the tolerance with its error."""
        if ending.why == "near":
            if run not in self._rules:
                self._rules[run] = GradientRule(_Member(self, run), _Member(self, run), self._tol)
            rule, point = self._rules[run], Point(ending.step, ending.x, None, ending.gradient)
            point.least = float(np.linalg.norm(self.least(ending.x[None], ending.gradient[None])))
            if not rule.reached(point) and not rule.imprecise:
                self._below[run] = rule.below
                return False
            ending = ending._replace(gradient=point.gradient)
        self._ended[run] = ending
        return True

    def results(self):
        """The Results of all, in order; the values at all ends take one call."""
        values = self.values(np.array([ending.x for ending in self._ended]), np.arange(len(self._ended)))
        return list(map(self._result, range(len(values)), self._ended, values.tolist()))

    def _result(self, number, ending, fun):
        status, why = self._status(number, ending)
        if status == Status.STEP_LIMIT and not fun <= ending.first_fun:
            small = fun - ending.first_fun <= 0.1 * max(1.0, abs(ending.first_fun))
            if self._rule.stable_formula is None and small:  # it swings about a minimum; see Monitor
                why += f"; the value, {fun:.6g}, is above the first, {ending.first_fun:.6g}: take a smaller lr"
            else:
                status = Status.DIVERGED
                why = f"diverged: the run ends higher than it began, at {fun:.3g}. Take a smaller lr."
        success = status == Status.CONVERGED or (status == Status.STEP_LIMIT and self._tol is None)
        return Result(
            x=ending.x, fun=fun, jac=ending.gradient, nit=ending.step, nfev=int(self.spent[number]),
            njev=int(self.passes[number]), success=success, status=status, message=why, **NOT_OF_ROWS,
        )  # fmt: skip

    def _status(self, number, ending):
        step, tol = ending.step, self._tol
        if ending.why == "near":
            rule = self._rules[number]
            return (Status.STALLED if rule.imprecise else Status.CONVERGED), rule.sentence
        if ending.why == "limit":
            missed = "" if tol is None else f" without reaching tol = {tol:g}: raise step_num"
            return Status.STEP_LIMIT, f"took all {step} steps{missed}"
        if ending.why == "start":
            return Status.DIVERGED, "the value or the gradient is not finite at the start"
        overshooting = ending.why == "overshooting"
        what = patience(self._rule).sentence if overshooting else "the value or the gradient is no longer finite"
        why = f"diverged at step {step} with learning rate {ending.lr:.6g}: {what}. Take a smaller lr."
        return Status.DIVERGED, why
