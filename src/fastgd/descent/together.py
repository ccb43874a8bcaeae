"""Runs on a vectorized function, side by side: each point is a row of one array."""

import numpy as np

from fastgd import optimizers, validation
from fastgd.kernels.reference_differences import RELATIVE_STEP
from fastgd.engine.result import Result, Status
from fastgd.run import OVERSHOOT_GROWTH, OVERSHOOT_LIMIT, OVERSHOOTING_STEPS, RISE_GROWTH, RISE_LIMIT, RISING_STEPS
from fastgd.engine.update import box

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
    """The Results of runs from the rows of `points`, (n, d), which take each step together.

    The rules of divergence are those of `run.Run`, applied to rows.
    """
    if other:
        raise TypeError(f"vectorized=True takes optimizer, grad, tol and bounds; not {', '.join(other)}")
    if points.ndim != 2:
        raise ValueError(f"vectorized=True takes starts of one dimension; got shape {points.shape[1:]} of each")
    if isinstance(lr, str) or hasattr(lr, "observe"):
        raise ValueError(f"vectorized=True takes a lr that is a number or a callable; got {validation.describe(lr)}")
    step_num = validation.count(step_num, "step_num")
    if tol is not None:
        tol = validation.scalar(tol, "tol", positive=True)
    constant = None if callable(lr) else validation.scalar(lr, "lr", minimum=0)
    rule = optimizers.get(optimizer)
    if rule.name == "asgd":
        raise ValueError('vectorized=True takes no optimizer="asgd", whose result is an average of points')
    lower, upper = (side.reshape(-1, points.shape[1]) for side in box(bounds, points.shape[1:], np.dtype(np.float64)))
    fleet = _Fleet(Batch(f, grad), points, rule, tol)
    if lower.size:
        np.clip(fleet.x, lower, upper, out=fleet.x)
    for step in range(step_num + 1):
        fleet.look(step)
        if step == step_num or not fleet.x.size:
            break
        rate = validation.scalar(lr(step), f"lr({step})", minimum=0) if constant is None else constant
        fleet.move(rate)
        if lower.size:
            np.clip(fleet.x, lower, upper, out=fleet.x)
    return fleet.results(step_num)


class _Fleet:
    """Runs as rows of arrays; `number` says which is which, as those that end leave."""

    def __init__(self, batch, points, rule, tol):
        self.batch, self.rule, self.tol = batch, rule, tol
        self.x, self.number = points.copy(), np.arange(len(points))
        self.state = rule.init(self.x)
        self.first = batch.values(self.x)
        self.limit, self.least_growth, self.rising = (
            (RISE_LIMIT, RISE_GROWTH, RISING_STEPS)
            if rule.may_rise
            else (OVERSHOOT_LIMIT, OVERSHOOT_GROWTH, OVERSHOOTING_STEPS)
        )
        self.steps_up, self.growth = np.zeros(len(points), int), np.ones(len(points))
        self.gradient = self.norm = self.before = self.rate = None
        self.ended = {}
        self.spent = np.ones(len(points), int)
        self.passes = np.zeros(len(points), int)

    def move(self, rate):
        self.before, self.rate = (self.x.copy(), self.gradient, self.norm), rate
        with np.errstate(all="ignore"):
            self.rule.step(self.x, self.gradient, self.state, rate)

    def look(self, step):
        """Gradients at the points; runs that diverged or converged leave."""
        gradient = self.batch.gradients(self.x)
        self.spent[self.number] += self.batch.spent(self.x.shape[1])
        self.passes[self.number] += 1
        with np.errstate(all="ignore"):
            norm = np.sqrt(np.einsum("nd,nd->n", gradient, gradient))
        finite = np.isfinite(norm) & np.isfinite(self.x).all(axis=1)
        if self.before is None:
            finite &= np.isfinite(self.first)
            self._leave(
                ~finite, step, Status.DIVERGED, "the value or the gradient is not finite at the start", gradient
            )
        else:
            x, last, last_norm = self.before
            up = finite & (norm > last_norm) & (self.rate * last_norm > 0)
            if not self.rule.may_rise:
                with np.errstate(all="ignore"):
                    up &= np.einsum("nd,nd->n", gradient, last) < 0
            with np.errstate(all="ignore"):
                self.growth = np.where(up, self.growth * (norm / last_norm), 1.0)
            self.steps_up = np.where(up, self.steps_up + 1, 0)
            away = (self.steps_up >= self.limit) & (self.growth >= self.least_growth)
            if away.any():
                values = self.batch.values(self.x[away])
                self.spent[self.number[away]] += 1
                away[away] = ~(values <= self.first[self.number[away]])
            self._leave(~finite, step, Status.DIVERGED, "the value or the gradient is no longer finite", last, x)
            gradient, norm, away = gradient[finite], norm[finite], away[finite]
            self.gradient, self.norm = gradient, norm
            self._leave(away, step, Status.DIVERGED, self.rising, gradient)
            finite = ~away
        self.gradient, self.norm = gradient[finite], norm[finite]
        if self.tol is not None:
            near = self.norm <= self.tol
            self._leave(near, step, Status.CONVERGED, f"the gradient norm is within tol = {self.tol:g}", self.gradient)
            self.gradient, self.norm = self.gradient[~near], self.norm[~near]

    def _leave(self, mask, step, status, why, gradient, x=None):
        """Those in the mask end here, at x or where they are."""
        if not mask.any():
            return
        x = self.x if x is None else x
        if status == Status.DIVERGED and step:
            why = f"diverged at step {step} with learning rate {self.rate:.6g}: {why}. Take a smaller lr."
        for i in np.flatnonzero(mask).tolist():
            self.ended[int(self.number[i])] = (x[i].copy(), gradient[i].copy(), step, status, why)
        keep = ~mask
        self.x, self.number = np.ascontiguousarray(self.x[keep]), self.number[keep]
        rows = len(self.state.moments)
        moments = self.state.moments.reshape(rows, *x.shape)[:, keep]
        self.state.moments = np.ascontiguousarray(moments).reshape(rows, self.x.size)
        self.steps_up, self.growth = self.steps_up[keep], self.growth[keep]

    def results(self, step_num):
        """The Results of all, in order; the values at all ends take one call."""
        message = f"took all {step_num} steps"
        if self.tol is not None:
            message += f" without reaching tol = {self.tol:g}: raise step_num"
        for i, number in enumerate(self.number.tolist()):
            self.ended[number] = (self.x[i], self.gradient[i], step_num, Status.STEP_LIMIT, message)
        x = np.array([self.ended[number][0] for number in range(len(self.first))])
        values = self.batch.values(x)
        self.spent += 1
        found = []
        for number, fun in enumerate(values.tolist()):
            x, gradient, step, status, why = self.ended[number]
            if status == Status.STEP_LIMIT and not fun <= self.first[number]:
                status = Status.DIVERGED
                why = f"diverged: the run ends higher than it began, at {fun:.3g}. Take a smaller lr."
            success = status == Status.CONVERGED or (status == Status.STEP_LIMIT and self.tol is None)
            nfev, njev = int(self.spent[number]), int(self.passes[number])
            found.append(
                Result(x=x, fun=fun, jac=gradient, nit=step, nfev=nfev, njev=njev, success=success, status=status,
                       message=why, history=None)
            )  # fmt: skip
        return found
