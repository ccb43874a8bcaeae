"""An l1 penalty at any shape: coordinate descent on working sets of columns, for every smooth loss.

Of many columns few have a weight that is not 0. A problem of these and of those which most violate the conditions of a
minimum is solved by Newton steps, each to the minimum of a quadratic model with the penalty; then the gradient of all
columns tells which others are needed, and the duality gap whether that is the end (Massias, Gramfort & Salmon, ICML
2018). Larger penalties come first, each from the minimum of the one before, so that a working set is no larger than it
must be (the sequential strong rule: Tibshirani et al., J. R. Stat. Soc. B 74 (2012)). A quadratic model is minimised by
coordinate descent on its columns, extrapolated (Anderson acceleration: Bertrand & Massias, AISTATS 2021), or on their
Gram matrix where that is small, or where many epochs are left at the rate of those before.
"""

import math

import numpy as np

from fastgd.engine.gram import end_by_duality
from fastgd.engine.lasso import Problem, minimise_with_l1, violations
from fastgd.engine.quasi_newton import damped
from fastgd.linalg import softmax
from fastgd.objective import certificate

# With more columns than rows: the next penalty, of the last; and what is left of each violation there.
NEXT, ROUGH = 0.4, 0.1
# Slopes that are beyond the penalty by some share of it leave a gap of that share of the penalty: what is allowed of
# the gap that is wanted, and how much less each time that this was not enough, and how often.
SHARE, CLOSER, TRIES = 0.3, 0.1, 6
NEWTON_STEPS, SWEEPS, BALANCING = 20, 50, 3
# The weights of all outputs of a softmax have one matrix up to this many; else one output comes after the other.
JOINT_WEIGHTS = 2048
SUFFICIENT, LEAST_STEP = 1e-4, 2.0**-40
# Least curvature of a row, of the largest.
FLAT = 1e-10


def coordinate(variables, monitor):
    """The minimum of a smooth objective with an l1 penalty, in Standardised variables."""
    search = _Search(variables, monitor)
    while not search.is_at_end():
        search.step()


class _Search:
    """The state of one descent: the point, its scores h of all rows, and the working set.

    Attributes
    ----------
    multiple : float
        The penalty of the present problem, in units of the one that is asked for.
    small : float
        By how much slopes of the next problem may be beyond the penalty, as a share of it.
    """

    def __init__(self, variables, monitor):
        self.variables, self.monitor, self.objective = variables, monitor, variables.objective
        o, v = variables.objective, variables
        self.d, self.k = o.rows.d, o.rows.k
        self.least_thresholds, self.ridges = v.thresholds()[: self.d, 0], v.ridge()[: self.d]
        self.moving = np.isfinite(v.scale)
        self.Y = o.Y.astype(np.float64)
        self.numbers, self.block, self.problem = np.empty(0, np.intp), None, None
        self.small, self.damping, self.multiple, self.tries = ROUGH, 1.0, math.inf, 0
        if kept := monitor.resumed:
            self._resume(kept)
            return
        self.point = monitor.point(0, v.start, want_fun=True)
        monitor.see(self.point, tolerance=False)
        self.V = self.point.z.copy()
        W, b = v.to_weights(self.V)
        known = W.any() or o.rows.offset is not None
        self.h = o.scores(W, b) if known else np.broadcast_to(b, (o.rows.n, self.k)).copy()

    def _resume(self, kept):
        names = ("point", "damping", "multiple", "tries", "V", "h", "numbers")
        for name in names:
            setattr(self, name, kept[name])
        if not len(self.numbers):
            return
        self.block = self.objective.rows.column_block(self.numbers, self.variables.shift, self.variables.scale)
        if self.objective.quadratic:
            self.problem = Problem(self, None, None)
            self.problem.slow = kept["slow"]
            self.problem.matrix = kept["matrix"] if kept["matrix"].size else None

    # ------------------------------------------------------------------------------------------------------- the end

    def is_at_end(self):
        """Whether the run ends at the present point; else what the next problem is, is settled."""
        monitor, point = self.monitor, self.point
        if monitor.keeps(point.step):
            matrix = np.empty((0, 0)) if self.problem is None or self.problem.matrix is None else self.problem.matrix
            monitor.keep(
                point.step, point=point, damping=self.damping, multiple=self.multiple, tries=self.tries, V=self.V,
                h=self.h, numbers=self.numbers, matrix=matrix, slow=self.problem is not None and self.problem.slow,
            )  # fmt: skip
        if monitor.ended:
            return True
        violations = self._violations()
        worst = float(np.max(violations, initial=0.0))
        if self.multiple == 1 or worst <= 1 or self.d <= self.objective.rows.n:
            wanted = monitor.gap.wanted(point.fun, 0.0) if monitor.tolerates else 0.0
            penalty = self.variables.l1_penalty(self.V)
            gap = self._gap(wanted, (1 - 1 / max(worst, 1.0)) * penalty)
            if point.step and monitor.reached_exactly(point, gap, how="by a duality gap"):
                return True
            if self._is_at_rounding(gap, wanted):
                return True
            outside, left = self._grow(violations, 1.0, 1.0)
            share = SHARE * max(wanted, 0.0) / (penalty or monitor.gap.above_least(point.fun) or 1.0)
            solved = outside <= 1 + self.small and self.small <= 1.1 * CLOSER**self.tries * share
            self.tries += point.step > 0 and (solved or not share)
            rough = ROUGH * ((outside if self.d > self.objective.rows.n else left) - 1) if point.step else ROUGH
            self.small = max(CLOSER**self.tries * share, rough, 1e-15)
            self.multiple = 1.0
        else:
            before = min(self.multiple, worst)
            self.multiple = max(1.0, NEXT * before)
            self._grow(violations, self.multiple, before)
        return monitor.out_of_steps(point)

    def _is_at_rounding(self, gap, wanted):
        """End where no problem is solved any closer."""
        if self.tries <= TRIES and not (self.small <= 1e-14 and self.tries > 1):
            return False
        if not math.isfinite(gap) or gap > wanted:
            gap = self._gap(wanted, 0.0)
        end_by_duality(self.variables, self.monitor, self.point, gap)
        return True

    def _violations(self):
        """|slope| by each column in units of the threshold, the largest of all outputs; 0 where there is a weight."""
        gradient = self.point.gradient[: self.d]
        with np.errstate(divide="ignore", invalid="ignore"):
            found = np.max(np.abs(gradient), axis=1) / self.least_thresholds
        found[~self.moving] = 0.0
        return found

    def _gap(self, wanted, least):
        """The duality gap at the present point; what it is at `least` where that is too much."""
        if least > 10 * max(wanted, 0.0):
            return least
        v, o, point = self.variables, self.objective, self.point
        W, b = v.to_weights(self.V)
        gradient = point.gradient[: self.d] * v.finite_scale - o.l2 * W
        with np.errstate(all="ignore"):
            slopes = o.record.slope(self.h, self.Y)
            gap = certificate.gap_of_slopes(o, W, b, self.h, slopes, gradient, point.fun)
        return gap if math.isfinite(gap) else math.inf

    # -------------------------------------------------------------------------------------------------- working sets

    def _grow(self, violations, multiple, before):
        """Take columns into the working set that the problem at this multiple may need; the worst of those outside,
        before and after.

        Where slopes change no faster than the penalty, from the multiple before to this one, no others come in.
        """
        inside = np.zeros(self.d, bool)
        inside[self.numbers] = True
        support = np.any(self.V[: self.d] != 0, axis=1)
        new = support & ~inside & self.moving
        outside = np.where(inside | new, 0.0, violations)
        worst = float(np.max(outside, initial=0.0))
        wanted = int(np.count_nonzero(outside > max(2 * multiple - before, 0.5 * multiple)))
        size = len(self.numbers)
        if self.d <= self.objective.rows.n:
            room = wanted if wanted + size < self.d / 2 else self.d
        else:
            room = min(max(100, 2 * int(support.sum()) - size, 0 if multiple > 1 else size // 4), wanted)
        if room > 0:
            best = np.argpartition(-outside, room - 1)[:room]
            new[best[(outside[best] > 0) & self.moving[best]]] = True
        outside[new] = 0.0
        new = np.flatnonzero(new)
        if len(new) or self.block is None:
            rows, measures = self.objective.rows, (self.variables.shift, self.variables.scale)
            if self.block is None:
                self.block = rows.column_block(new, *measures)
            else:
                self.block.extend(rows, new, *measures)
            self.numbers = np.concatenate([self.numbers, new])
            if self.objective.quadratic:
                self.problem = Problem(self, None, self.problem)
        self.thresholds = multiple * self.least_thresholds[self.numbers]
        return worst, float(np.max(outside, initial=0.0))

    # --------------------------------------------------------------------------------------------------------- steps

    def step(self):
        """Solve the problem of the working set, to about `small`."""
        monitor, joint = self.monitor, self.objective.record.joint and self.k > 1
        together = joint and self.k * (self.block.m + 1) <= JOINT_WEIGHTS
        for _ in range(NEWTON_STEPS if together else SWEEPS if joint else 1):
            if not (self._newton_of_all() if together else self._solve_each()):
                break
        monitor.took(self.point.step, 1.0)
        self.point = monitor.point(self.point.step + 1, self.V.copy(), want_fun=True)
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
        problem.thresholds = self.thresholds
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
        slope += float(self.thresholds @ (np.abs(found) - np.abs(v)))
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
        allowed = np.where(thresholds > 0, self.small * thresholds, 1e-15 * float(np.abs(slopes).sum()))[:, None]
        if np.all(violations(V, gradient, thresholds[:, None]) <= allowed):
            return False
        flat = [M.T.reshape(-1) for M in (gradient, np.broadcast_to(thresholds[:, None], V.shape), V)]
        step = minimise_with_l1(H, *flat, self.small).reshape(k, size).T - V
        change = np.column_stack([block.product(np.ascontiguousarray(step[:m, c])) for c in range(k)])
        change += step[m] if o.fit_intercept else 0.0
        new, v = V[:m] + step[:m], V[:m]
        slope = float(np.vdot(gradient, step)) + float(np.sum(self.thresholds @ (np.abs(new) - np.abs(v))))
        rate = self._line_search(slice(None), v, step[:m], change, slope, slopes) if slope < 0 else 0.0
        if not rate:
            return False
        self.V[self.numbers] = new if rate == 1 else v + rate * step[:m]
        self._move(slice(None), rate * change, rate * (step[m] + block.offsets @ step[:m]) if o.fit_intercept else 0.0)
        return True

    def _move(self, output, change, b):
        """Change scores, and the intercept."""
        self.h[:, output] += change
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

    def _slopes(self, output):
        """Slopes and curvatures of F by the scores of one output, (n,)."""
        o = self.objective
        s = o.factor if o.sample_weight is None else o.factor * o.sample_weight
        with np.errstate(all="ignore"):
            slopes = s * o.record.slope(self.h, self.Y)[:, output]
            if o.quadratic:
                return slopes, None
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
        return float(np.sum(self.thresholds @ np.abs(v))) + 0.5 * float(np.sum(self.ridges[self.numbers] @ v**2))
