"""Newton steps of an objective with an l1 penalty, in the weights of a working set of columns.

Each step leads to the minimum of a quadratic model with the penalty, or as far as F falls on the way there. Outputs are
gone through one after the other, but for those of a softmax, which depend on each other.
"""

import math

import numpy as np

from fastgd.engine.joint import JOINT_WEIGHTS, JointProblem, inverse_curvature
from fastgd.engine.lasso import Problem, rise_of_sizes, sizes, total
from fastgd.engine.quasi_newton import damped
from fastgd.linalg import softmax

NEWTON_STEPS, SWEEPS, BALANCING = 20, 50, 3
# Slopes that add up to this share of their sizes make a dual point as they are.
BALANCED = 1e-10
# The outputs of a softmax have one model up to so many entries of the matrices of its columns (128 MB); else one output
# comes after the other.
JOINT_VALUES = 1 << 24
SUFFICIENT, LEAST_STEP = 1e-4, 2.0**-40
# Least curvature of a row, of the largest.
FLAT = 1e-10


class ProximalNewton:
    """The steps of a `coordinate.Search`; see there."""

    def step(self):
        """Solve the problem of the working set, to about `small`."""
        monitor, joint = self.monitor, self.objective.record.joint and self.k > 1
        if self.gram is not None:
            self.gram.minimise(self.V, self.point.gradient, self.least_thresholds, self.ridges, self.small)
        else:
            together, self.left, self.worst = joint and self._takes_all(), 0.3, math.inf
            for _ in range(NEWTON_STEPS if together else SWEEPS if joint else 1):
                if not (self._newton(slice(None)) if together else self._solve_each()):
                    break
            if together and self.objective.fit_intercept:
                self._balance_all()
        monitor.took(self.point.step, 1.0)
        self.point = self._evaluated(self.point.step + 1)
        monitor.see(self.point, tolerance=False)

    def _takes_all(self):
        """Whether the weights of all outputs have one model."""
        m, k = self.block.m, self.k
        return k * m <= JOINT_WEIGHTS if self.groups is not None else m * k**2 <= JOINT_VALUES

    def _solve_each(self):
        """One output after the other; whether any moved."""
        return any([self._solve(output) for output in range(self.k)])  # noqa: C419  all of them are solved

    def _solve(self, output):
        """Newton steps in the weights of one output; whether any was taken."""
        o, moved = self.objective, False
        for _ in range(1 if o.quadratic else NEWTON_STEPS):
            if not self._newton(output):
                break
            moved = True
        if o.fit_intercept and not o.quadratic:
            self._balance(output)
        return moved

    def _newton(self, output):
        """Take a Newton step in the weights of one output, or of all those of a softmax (a slice of them); False where
        none is needed, or none falls."""
        o = self.objective
        if type(output) is slice:
            slopes, problem = self._all_slopes(), JointProblem(self)
        else:
            slopes, curvature = self._slopes(output)
            problem = self.problem if o.quadratic else Problem(self, curvature, None)
        problem.thresholds, problem.starts = self.thresholds, self.starts
        v = np.ascontiguousarray(self.V[self.numbers, output])
        shift = problem.best_shift(slopes) if o.fit_intercept else 0.0
        balanced = slopes + (problem.times(shift) if o.fit_intercept else 0.0)
        # A Newton step leaves a share of the violations where these are not yet `small`.
        left = 0.0 if o.quadratic else self.left if type(output) is slice else 0.1
        found = problem.minimise(balanced, v, self.small, left)
        if found is None:
            return False
        # An epoch sees each violation before those after it bring it back: where columns are alike, more are needed.
        self.left *= 0.1 if problem.worst > 0.5 * self.worst else 1.0
        self.worst = problem.worst
        step = found - v
        change = self.block.product(step)
        b = shift - problem.following(step) if o.fit_intercept else 0.0
        change += b
        slope = float(np.vdot(slopes, change)) + total(problem.ridges, v * step)
        slope += rise_of_sizes(v, found, self.thresholds, self.starts)
        rate = 1.0
        if not o.quadratic:
            rate = self._line_search(output, v, step, change, slope, slopes) if slope < 0 else 0.0
        if not rate:
            return False
        self.V[self.numbers, output] = found if rate == 1 else v + rate * step
        value = None if o.quadratic else self._data
        self._move(output, rate * change, rate * (b + self.block.offsets @ step))
        self._data = value  # as the line search has found it
        return True

    def _move(self, output, change, b):
        """Change scores, and the intercept."""
        self.h[:, output] += change
        self._at = self._data = None
        if self.objective.fit_intercept:
            self.V[self.d, output] += b
            if self.objective.record.joint:  # one number more in every class changes no probability
                common = self.V[self.d].mean()
                self.V[self.d] -= common
                self.h -= common

    def _balance(self, output):
        """Newton steps of the intercept alone: a dual point's slopes add up to 0."""
        last = math.inf
        for _ in range(BALANCING):
            slopes, curvature = self._slopes(output)
            total = float(slopes.sum())
            if not abs(total) < last or abs(total) <= 1e-15 * float(np.abs(slopes).sum()):
                break
            b, last = -total / float(curvature.sum()), abs(total)
            self._move(output, b, b)

    def _balance_all(self):
        """Newton steps of the intercepts of a softmax until its slopes make a dual point."""
        o = self.objective
        s = o.factor * (np.ones(1) if o.sample_weight is None else o.sample_weight)
        for _ in range(BALANCING):
            slopes = self._all_slopes()
            total = slopes.sum(axis=0)
            if np.all(np.abs(total) <= BALANCED * np.abs(slopes).sum()):
                break
            b = -inverse_curvature(softmax(self.h), s) @ total
            self._move(slice(None), b, b)

    def _value(self):
        """The data term of F."""
        if self._data is None:
            self._data = self.objective.value_of_scores(self.h)
        return self._data

    def _row_slopes(self):
        """∂l/∂h of each row, (n, k)."""
        if self._at is None:
            with np.errstate(all="ignore"):
                self._at = self.objective.record.slope(self.h, self.Y)
        return self._at

    def _all_slopes(self):
        """Slopes of F by the scores, (n, k)."""
        o, s = self.objective, self.objective.sample_weight
        return self._row_slopes() * (o.factor if s is None else o.factor * s[:, None])

    def _slopes(self, output):
        """Slopes and curvatures of F by the scores of one output, (n,)."""
        o = self.objective
        s = o.factor if o.sample_weight is None else o.factor * o.sample_weight
        slopes = s * self._row_slopes()[:, output]
        if o.quadratic:
            return slopes, None
        with np.errstate(all="ignore"):
            curvature = o.record.curvature(self.h, self.Y)
            if o.record.straight is not None:
                curvature = curvature + self.damping * o.record.straight(self.h, self.Y)
            curvature = np.nan_to_num(curvature[:, output], nan=0.0, posinf=1e300)
            return slopes, s * np.maximum(curvature, FLAT * curvature.max(initial=0.0) or 1.0)

    def _line_search(self, output, v, step, change, slope, slopes):
        """The rate, halved until F falls enough; 0 where rounding hides it."""
        o, h = self.objective, self.h.copy()
        before, rate = self._value(), 1.0
        penalty = self._penalty(v)
        # Scores are rounded too, and F by its slopes times that.
        sizes = abs(before) + penalty + float(np.vdot(np.abs(slopes), np.abs(self.h[:, output])))
        if o.record.joint:  # log(1 + Σe^h) of each row is rounded to the digits of 1
            sizes += o.mass
        rounding = 32 * np.finfo(np.float64).eps * sizes
        while rate >= LEAST_STEP:
            h[:, output] = self.h[:, output] + rate * change
            self._data = o.value_of_scores(h)
            gained = before - self._data + penalty - self._penalty(v + rate * step)
            if gained >= -SUFFICIENT * rate * slope:
                self.damping = damped(self.damping, rate)
                return rate
            if -rate * slope <= 100 * rounding and gained >= -rounding:
                return rate
            rate *= 0.5 if math.isfinite(gained) else 0.1
        self._data = before
        return 0.0

    def _penalty(self, v):
        return sizes(v, self.thresholds, self.starts) + 0.5 * total(self.ridges[self.numbers], v * v)
