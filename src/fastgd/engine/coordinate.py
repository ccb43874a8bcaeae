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
from fastgd.engine.lasso import AT_ONCE, GRAM_COLUMNS, GramOfAll, Problem
from fastgd.engine.point import Point
from fastgd.engine.proximal_newton import ProximalNewton
from fastgd.objective import certificate

# With more columns than rows: the next penalty, of the last; and what is left of each violation there.
NEXT, ROUGH = 0.4, 0.1
# Of few columns, solved in less time than the gradient of all takes, what the tolerance asks for, from here on.
FINE = 1e-4
# Slopes that are beyond the penalty by some share of it leave a gap of that share of the penalty: what is allowed of
# the gap that is wanted, and how much less each time that this was not enough, and how often.
SHARE, CLOSER, TRIES = 0.3, 0.1, 6
# A Gram matrix of all columns is formed where it costs no more than so many passes over X for each penalty.
PASSES_OF_A_PENALTY = 2
# Rounds over the intercepts of a softmax, which depend on each other.
BALANCES = 10
# The rounding error of a value that comes from a Gram matrix, as a share of the first value.
ROUNDING = 16 * np.finfo(np.float64).eps


def coordinate(variables, monitor):
    """The minimum of a smooth objective with an l1 penalty, in Standardised variables."""
    Search(variables, monitor).run()


class Search(ProximalNewton):
    """The state of a descent, for one penalty or for a path of them: the point, its scores, and the working set.

    Parameters
    ----------
    variables : Standardised
    monitor : Monitor
    penalties : int
        How many there will be: what is worth computing once for all of them.

    Attributes
    ----------
    h : (n, k)
        The scores of the point, where there is no `gram`.
    gram : GramOfAll or None
        Of a squared loss: all that is asked of X, where that is worth while.
    multiple : float
        The penalty of the present problem, in units of the one that is asked for.
    small : float
        By how much slopes of the next problem may be beyond the penalty, as a share of it.
    """

    def __init__(self, variables, monitor, penalties=1):
        self._take(variables, monitor)
        o, v = variables.objective, variables
        self.d, self.k = o.rows.d, o.rows.k
        self.moving = np.isfinite(v.scale)
        self.Y = o.Y.astype(np.float64)
        # A gradient from scores has their digits; rows that are far off their mean, or rounded, have their own pass.
        self.by_scores = o.dtype == np.float64 and not v.far_off
        self.numbers, self.block, self.problem, self.gram, self._at = np.empty(0, np.intp), None, None, None, None
        self.starts = self._data = None  # of the groups in the working set; the data term at h
        self.on_path = penalties > 1
        if kept := monitor.resumed:
            self._resume(kept)
            return
        self.V = v.start.copy()
        self.h = self._scores()
        self.point = self._evaluated(0)
        monitor.see(self.point, tolerance=False)
        products = PASSES_OF_A_PENALTY * penalties * o.rows.values
        takes = self.on_path and o.quadratic and self.by_scores and self.groups is None and self.d <= GRAM_COLUMNS
        if takes and o.rows.gram_products() <= products and o.moments is not None:
            self.gram = GramOfAll(v, self.point)

    def _take(self, variables, monitor):
        self.variables, self.monitor, self.objective = variables, monitor, variables.objective
        d, self.groups = self.objective.rows.d, self.objective.penalty.groups
        self.least_thresholds, self.ridges = variables.thresholds()[:d, 0], variables.ridge()[:d]
        self.small, self.damping, self.multiple, self.tries = ROUGH, 1.0, math.inf, 0
        self.last_gap = math.inf

    def run(self):
        """Descend to the minimum for the present penalty."""
        if self.gram is not None:  # a step costs no more than to know whether it is needed
            self.small = self._allowed(self.monitor.gap.wanted(self.point.fun, 0.0))
            self.step()
        while not self.is_at_end():
            self.step()

    def turn_to(self, variables, monitor):
        """Go on with another penalty from the point where the last one has led."""
        before, ridges, point = self.objective, self.ridges, self.point
        self._take(variables, monitor)
        W, gradient = variables.to_weights(self.V)[0], point.gradient
        if not np.array_equal(ridges, self.ridges):
            gradient = gradient.copy()
            gradient[: self.d] += (self.ridges - ridges)[:, None] * self.V[: self.d]
            if self.problem is not None:
                self.problem.take_ridges(self.ridges[self.numbers])
        fun = point.fun - before.penalty.value(W) + self.objective.penalty.value(W)
        self.point = monitor.latest = Point(0, point.z, fun, gradient)

    def largest_penalty(self):
        """The least multiple of the penalty for which all weights are 0, from a point where they are."""
        o = self.objective
        if o.fit_intercept and not o.quadratic:
            for _ in range(BALANCES if o.record.joint else 1):
                for output in range(self.k):
                    self._balance(output)
            self.point = self._evaluated(0)
        return float(np.max(self._violations(), initial=0.0))

    def _scores(self):
        """Those of V, by a pass over X."""
        o, (W, b) = self.objective, self.variables.to_weights(self.V)
        if W.any() or o.rows.offset is not None:
            return o.scores(W, b)
        return np.broadcast_to(b, (o.rows.n, self.k)).copy()

    def _evaluated(self, step):
        """The Point at V."""
        o, v, V = self.objective, self.variables, self.V.copy()
        if self.gram is not None:
            fun, gradient = self.gram.evaluate(V)
        elif self.by_scores:
            slopes, fun = self._all_slopes(), self._value() + o.constant
            v.nfev, v.njev, v.passes = v.nfev + 1, v.njev + 1, v.passes + 1
            gradient = np.empty(V.shape)
            of_columns, total = gradient[: self.d], slopes.sum(axis=0)
            of_columns[:] = o.rows.column_product(slopes[:, 0] if self.k == 1 else slopes).reshape(self.d, self.k)
            if o.fit_intercept:
                of_columns -= v.shift[:, None] * total
                gradient[self.d] = total
            of_columns /= v.scale[:, None]
        else:
            return self.monitor.point(step, V, want_fun=True)
        gradient[: self.d] += self.ridges[:, None] * V[: self.d]
        fun += o.penalty.value(v.to_weights(V)[0])
        # Nobody asks for the shortest subgradient at the points of a path.
        return Point(step, V, fun, gradient) if self.on_path else self.monitor.evaluated(step, V, fun, gradient)

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
        if self.gram is not None and monitor.gap.wanted(point.fun, 0.0) < 10 * ROUNDING * self.gram.scale:
            self.gram, self.h, self._at, self._data = None, self._scores(), None, None
            self.point = point = self._evaluated(point.step)
        violations = self._violations()
        worst = float(violations.max(initial=0.0))
        if self.multiple == 1 or worst <= 1 or self.d <= self.objective.rows.n or self.gram is not None:
            wanted = monitor.gap.wanted(point.fun, 0.0) if monitor.tolerates else 0.0
            penalty = self.variables.l1_penalty(self.V)
            gap = self._gap(wanted, (1 - 1 / max(worst, 1.0)) * penalty)
            if (point.step or self.on_path) and monitor.reached_exactly(point, gap, how="by a duality gap"):
                return True
            if self._is_at_rounding(gap, wanted):
                return True
            outside, left = self._grow(violations, 1.0, 1.0) if self.gram is None else (1.0, 1.0)
            share = self._allowed(wanted, penalty)
            solved = outside <= 1 + self.small and self.small <= 1.1 * CLOSER**self.tries * share
            self.tries += point.step > 0 and (solved or not share)
            if point.step or self.gram is not None:
                rough = ROUGH * ((outside if self.d > self.objective.rows.n else left) - 1)
            else:
                rough = self._at_first(share)
            self.small = max(CLOSER**self.tries * share, rough, 1e-15)
            self.multiple = 1.0
        else:
            before = min(self.multiple, worst)
            self.multiple = max(1.0, NEXT * before)
            self._grow(violations, self.multiple, before)
            if self.multiple == 1 and monitor.tolerates:
                self.small = self._at_first(self._allowed(monitor.gap.wanted(point.fun, 0.0)))
        return monitor.out_of_steps(point)

    def _allowed(self, wanted, penalty=None):
        """By how much slopes may be beyond the penalty, as a share of it, for a gap of so much."""
        penalty = self.variables.l1_penalty(self.V) if penalty is None else penalty
        return SHARE * max(wanted, 0.0) / (penalty or self.monitor.gap.above_least(self.point.fun) or 1.0)

    def _at_first(self, share):
        """What is left of the violations of the first problem with the penalty that is asked for: of few columns it is
        solved in less time than another pass over X takes."""
        return min(share, ROUGH) if self.block.m <= 2 * AT_ONCE and share >= FINE else ROUGH

    def _is_at_rounding(self, gap, wanted):
        """End where no problem is solved any closer."""
        falls, self.last_gap = gap < 0.5 * self.last_gap, min(gap, self.last_gap)
        if (self.tries <= TRIES or falls) and not (self.small <= 1e-14 and self.tries > 1):
            return False
        if not math.isfinite(gap) or gap > wanted:
            gap = self._gap(wanted, 0.0)
        end_by_duality(self.variables, self.monitor, self.point, gap)
        return True

    def _violations(self):
        """|slope| by each column in units of the threshold, the largest of all outputs; 0 where there is a weight."""
        gradient = self.point.gradient[: self.d]
        sizes = np.abs(gradient) if self.groups is None else self.groups.norms(gradient)[self.groups.labels]
        with np.errstate(divide="ignore", invalid="ignore"):
            found = (sizes[:, 0] if self.k == 1 else sizes.max(axis=1)) / self.least_thresholds
        found[~self.moving] = 0.0
        return found

    def _gap(self, wanted, least):
        """The duality gap at the present point; what it is at `least` where that is too much."""
        if least > 10 * max(wanted, 0.0):
            return least
        v, o, point = self.variables, self.objective, self.point
        if o.quadratic and self.by_scores:
            return v.duality_gap(self.V, point.gradient, point.fun)
        W, b = v.to_weights(self.V)
        gradient = point.gradient[: self.d] * v.finite_scale - o.l2 * W
        with np.errstate(all="ignore"):
            gap = certificate.gap_of_slopes(o, W, b, self.h, self._row_slopes(), gradient, point.fun)
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
        if self.groups is not None:  # all columns of a group, one beside the other
            labels = self.groups.labels
            new = (np.bincount(labels, new) > 0)[labels] & ~inside & self.moving
        outside[new] = 0.0
        new = np.flatnonzero(new)
        if self.groups is not None:
            new = new[np.argsort(labels[new], kind="stable")]
        if len(new) or self.block is None:
            rows, measures = self.objective.rows, (self.variables.shift, self.variables.scale)
            if self.block is None:
                self.block = rows.column_block(new, *measures)
            else:
                self.block.extend(rows, new, *measures)
            self.numbers = np.concatenate([self.numbers, new])
            if self.objective.quadratic:
                self.problem = Problem(self, None, self.problem)
            if self.groups is not None:
                changes = np.flatnonzero(np.diff(labels[self.numbers])) + 1
                self.starts = np.array([0, *changes, len(self.numbers)] if len(self.numbers) else [0], np.intp)
        self.thresholds = multiple * self.least_thresholds[self.numbers]
        return worst, float(np.max(outside, initial=0.0))
