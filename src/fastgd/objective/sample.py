"""What some of the rows tell of an objective's curvature, in standardised variables."""

import functools
import math

import numpy as np

from fastgd.data.moments import ROWS_PER_COLUMN

# A mean curvature below this share of the mean slope says nothing of that at the minimum. Near a minimum of 0, where a
# log loss bends little, the slopes are as small.
LEAST_CURVATURE = 1e-3
# A move after which the rows that bend are others than before by no more than this share stays near its model.
ALIKE = 0.02
# A matrix of curvatures is formed for no more columns than this.
METRIC_COLUMNS = 2048
# So many rows tell the spread of the columns, or fewer long ones of so many values, but not less than the last number.
SPREAD_ROWS, SPREAD_VALUES, LEAST_ROWS = 4096, 1 << 18, 256


def spread_rows(d):
    """How many rows tell the spread of d columns."""
    return max(LEAST_ROWS, min(SPREAD_ROWS, SPREAD_VALUES // d))


def sample_rows(d):
    """How many rows tell the curvature of an objective of d columns."""
    return max(ROWS_PER_COLUMN * d, spread_rows(d))


class Sample:
    """Every so-many-th row in the variables V, or all of few.

    Parameters
    ----------
    variables : Standardised

    Attributes
    ----------
    exists : bool
        Whether there are so few columns that a sample is held.
    count : int
        Rows.
    """

    def __init__(self, variables):
        self.variables, self.objective = variables, variables.objective
        rows = self.objective.rows
        self.exists = rows.d <= METRIC_COLUMNS
        self._part = slice(None, None, max(1, rows.n // sample_rows(rows.d)))
        self.count = len(range(*self._part.indices(rows.n)))
        self.is_all = self.count == rows.n

    @functools.cached_property
    def design(self):
        """(count, d') float64, in these variables, with a column of ones for the intercept."""
        return self._in_these_variables(self._part)

    def _in_these_variables(self, part):
        v = self.variables
        A = self.objective.rows.dense(part, np.float64)
        A -= v.shift
        A /= v.scale
        return np.column_stack([A, np.ones(len(A))]) if self.objective.fit_intercept else A

    @functools.cached_property
    def weight(self):
        """(count,), adding up to 1."""
        return self.objective.rows.shares(self._part)

    @functools.cached_property
    def largest_share(self):
        """Of the variance of the sample, what lies in its first principal component; 1 where that is not looked for."""
        if not self.exists:
            return 1.0
        A = self.design * np.sqrt(self.weight)[:, None]
        G = A.T @ A
        total = np.trace(G)
        return float(np.linalg.eigvalsh(G)[-1] / total) if total > 0 else 1.0

    def curvature(self, V, damping):
        """l''(h) of the sample's rows at V, (count, k), and the least mean of it to reckon with, (k,)."""
        return self._curvature(self.design @ V, self.objective.Y[self._part], self.weight, damping)

    def rows_that_bend(self, V, damping):
        """For each output, rows (m, d') that bend at V and what each adds to the mean curvature, (m,); and the least.

        Of a loss that bends near its kinks alone most rows of a sample do not. So all rows are looked at, and of those
        that bend much, and of those that bend less, as many are taken as a sample has.
        """
        o, most = self.objective, sample_rows(self.objective.rows.d)
        s = self.objective.rows.shares(slice(None))
        curvature, least = self._curvature(self.variables.scores(V), o.Y, s, damping)
        found = []
        for bends in (s[:, None] * curvature).T:
            much = bends > 0.5 * bends.max(initial=0.0)
            rows, shares = [], []
            for group in (np.flatnonzero(much), np.flatnonzero((bends > 0) & ~much)):
                taken = group[:: max(1, len(group) // most)]
                rows.append(taken)
                shares.append(bends[taken] * (bends[group].sum() / (bends[taken].sum() or 1.0)))
            found.append((self._in_these_variables(np.concatenate(rows)), np.concatenate(shares)))
        return found, least

    def bends_alike(self, V, move):
        """Whether nearly the same rows bend at V and after the move, so that the model at V holds on the way."""
        o, s = self.objective, self.objective.rows.shares(slice(None))
        Y = o.Y.astype(np.float64)
        here, there = (o.record.curvature(self.variables.scores(point), Y) for point in (V, V + move))
        return bool(np.all(s @ np.abs(there - here) < ALIKE * (s @ here)))

    def mean_curvature(self, V, damping):
        """About the mean of l''(h) at V, or the least to reckon with."""
        o = self.objective
        W, b = self.variables.to_weights(V)
        part = slice(None, None, max(1, o.rows.n // SPREAD_ROWS))
        s = o.rows.shares(part)
        with np.errstate(all="ignore"):
            h = o.rows.product(part, W) + b
            curvature, least = self._curvature(h, o.Y[part], s, damping)
        return float(np.mean(np.maximum(s @ curvature, least)))

    def _curvature(self, h, Y, s, damping):
        record, Y = self.objective.record, Y.astype(np.float64)
        with np.errstate(all="ignore"):
            curvature = record.curvature(h, Y)
            if record.straight is not None:
                curvature = curvature + damping * record.straight(h, Y)
            if not math.isfinite(curvature.sum()):
                curvature = np.nan_to_num(curvature, nan=0.0, posinf=1e300)
            least = np.zeros(curvature.shape[1])
            if record.straight is None and np.any(s @ curvature < LEAST_CURVATURE):  # else the slopes do not matter
                slopes = s @ np.abs(record.slope(h, Y))
                least = LEAST_CURVATURE * np.minimum(np.nan_to_num(slopes, nan=1.0), 1.0)
        return curvature, least
