"""Newton steps of an objective with an l1 penalty, in the weights of a working set of columns.

Each step leads to the minimum of a quadratic model with the penalty, or as far as F falls on the way there. Outputs are
gone through one after the other, but for those of a softmax where the Hessian of all their weights is small.
"""

import math

import numpy as np

from fastgd.engine.lasso import (
    Problem,
    minimise_with_groups,
    minimise_with_l1,
    rise_of_sizes,
    sizes,
    violations,
    violations_of_groups,
)
from fastgd.engine.quasi_newton import damped
from fastgd.linalg import softmax

NEWTON_STEPS, SWEEPS, BALANCING = 20, 50, 3
# Slopes that add up to this share of their sizes make a dual point as they are.
BALANCED = 1e-10
# The weights of all outputs of a softmax have one matrix up to this many; else one output comes after the other, which
# takes half of the time or less where violations need not be as small as this.
FEW_WEIGHTS, JOINT_WEIGHTS, CLOSE = 128, 2048, 1e-6
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
            closely = self.groups is not None or self.small < CLOSE
            together = joint and self.k * (self.block.m + 1) <= (JOINT_WEIGHTS if closely else FEW_WEIGHTS)
            for _ in range(NEWTON_STEPS if together else SWEEPS if joint else 1):
                if not (self._newton_of_all() if together else self._solve_each()):
                    break
            if together and self.objective.fit_intercept:
                self._balance_all()
        monitor.took(self.point.step, 1.0)
        self.point = self._evaluated(self.point.step + 1)
        monitor.see(self.point, tolerance=False)

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
        """Take a Newton step; False where none is needed, or none falls."""
        o = self.objective
        slopes, curvature = self._slopes(output)
        problem = self.problem if o.quadratic else Problem(self, curvature, None)
        problem.thresholds, problem.starts = self.thresholds, self.starts
        v = np.ascontiguousarray(self.V[self.numbers, output])
        shift = -slopes.sum() / problem.total if o.fit_intercept else 0.0
        # A Newton step leaves a tenth of the violations where these are not yet `small`.
        found = problem.minimise(slopes + shift * problem.curvature, v, self.small, 0.0 if o.quadratic else 0.1)
        if found is None:
            return False
        step = found - v
        change = self.block.product(step)
        b = shift - float(problem.means @ step) if o.fit_intercept else 0.0
        change += b
        slope = float(slopes @ change) + float(problem.ridges @ (v * step))
        slope += rise_of_sizes(v, found, self.thresholds, self.starts)
        rate = 1.0
        if not o.quadratic:
            rate = self._line_search(output, v, step, change, slope, slopes) if slope < 0 else 0.0
        if not rate:
            return False
        self.V[self.numbers, output] = found if rate == 1 else v + rate * step
        self._move(output, rate * change, rate * (b + float(self.block.offsets @ step)))
        return True

    def _newton_of_all(self):
        """`_newton` in the weights of all outputs of a softmax, whose slopes depend on each other."""
        o, block, k = self.objective, self.block, self.k
        s = o.factor * (np.ones((o.rows.n, 1)) if o.sample_weight is None else o.sample_weight[:, None])
        p, m, size = softmax(self.h), block.m, block.m + o.fit_intercept
        slopes, H = s * (p - self.Y), np.zeros((k, size, k, size))
        for a in range(k):
            for c in range(a + 1):
                sign, weight = (1, p[:, a] * (1 - p[:, a])) if a == c else (-1, p[:, a] * p[:, c])
                weight = s[:, 0] * weight
                part = np.empty((size, size))
                part[:m, :m] = block.gram(weight)
                if o.fit_intercept:
                    part[m, :m] = part[:m, m] = block.sums(weight)
                    part[m, m] = weight.sum()
                H[a, :, c] = H[c, :, a] = sign * part
        numbers = np.append(self.numbers, self.d) if o.fit_intercept else self.numbers
        ridges = np.append(self.ridges[self.numbers], np.zeros(size - m))
        H = H.reshape(k * size, k * size)
        H[np.diag_indices_from(H)] += np.tile(ridges, k)
        V = self.V[numbers].copy()
        if o.fit_intercept:  # of columns as they are here
            V[m] -= block.offsets @ V[:m]
        gradient = np.zeros_like(V)
        gradient[:m] = np.column_stack([block.transposed_product(slopes[:, c]) for c in range(k)])
        gradient[m:] = slopes.sum(axis=0)
        gradient += ridges[:, None] * V
        thresholds = np.append(self.thresholds, np.zeros(size - m))
        g, t, flat = (M.T.reshape(-1) for M in (gradient, np.broadcast_to(thresholds[:, None], V.shape), V))
        starts = self._starts_of_all(size)
        balanced = max(BALANCED, 0.1 * self.small) * float(np.abs(slopes).sum())
        beyond = violations(flat, g, t) if starts is None else violations_of_groups(flat, g, t, starts)
        limits = t if starts is None else t[starts[:-1]]
        if np.all(beyond <= np.where(limits > 0, self.small * limits, balanced)):
            return False
        if starts is None:
            found = minimise_with_l1(H, g, t, flat, self.small)
        else:
            found = minimise_with_groups(H, g, t, starts, flat, self.small)
        step = found.reshape(k, size).T - V
        change = np.column_stack([block.product(np.ascontiguousarray(step[:m, c])) for c in range(k)])
        change += step[m] if o.fit_intercept else 0.0
        new, v = V[:m] + step[:m], V[:m]
        slope = float(np.vdot(gradient, step)) + rise_of_sizes(v, new, self.thresholds, self.starts)
        rate = self._line_search(slice(None), v, step[:m], change, slope, slopes) if slope < 0 else 0.0
        if not rate:
            return False
        self.V[self.numbers] = new if rate == 1 else v + rate * step[:m]
        self._move(slice(None), rate * change, rate * (step[m] + block.offsets @ step[:m]) if o.fit_intercept else 0.0)
        return True

    def _starts_of_all(self, size):
        """`starts` of the weights of all outputs, each with its intercept last; None without groups."""
        if self.starts is None:
            return None
        own = self.starts[:-1] if size == self.block.m else self.starts
        return np.append(np.concatenate([own + output * size for output in range(self.k)]), self.k * size)

    def _move(self, output, change, b):
        """Change scores, and the intercept."""
        self.h[:, output] += change
        self._at = None
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
        """`_balance` of the outputs of a softmax, which depend on each other, until they make a dual point."""
        for _ in range(SWEEPS):
            slopes = self._all_slopes()
            if np.all(np.abs(slopes.sum(axis=0)) <= BALANCED * np.abs(slopes).sum()):
                break
            for output in range(self.k):
                self._balance(output)

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
        before, rate = o.value_of_scores(self.h), 1.0
        penalty = self._penalty(v)
        # Scores are rounded too, and F by its slopes times that.
        sizes = abs(before) + penalty + float(np.vdot(np.abs(slopes), np.abs(self.h[:, output])))
        rounding = 32 * np.finfo(np.float64).eps * sizes
        while rate >= LEAST_STEP:
            h[:, output] = self.h[:, output] + rate * change
            gained = before - o.value_of_scores(h) + penalty - self._penalty(v + rate * step)
            if gained >= -SUFFICIENT * rate * slope:
                self.damping = damped(self.damping, rate)
                return rate
            if -rate * slope <= 100 * rounding and gained >= -rounding:
                return rate
            rate *= 0.5 if math.isfinite(gained) else 0.1
        return 0.0

    def _penalty(self, v):
        return sizes(v, self.thresholds, self.starts) + 0.5 * float(np.sum(self.ridges[self.numbers] @ v**2))
