"""Estimates of an objective's curvature from a sample of the rows, in standardised variables."""

import functools
import math

import numpy as np

from fastgd.data.moments import ROWS_PER_COLUMN

# Columns up to which a d × d matrix (moments, Gram matrix, Hessian) is formed: 32 MB, and about 0.15 s to factor it.
DENSE_COLUMNS = 2048
# Rows of a sample for means and standard deviations: a relative error of 1.1 %, or of 4 % with the fewest.
SPREAD_ROWS = 4096
LEAST_ROWS = 256


def spread_rows(d):
    """Rows of a sample for the standard deviations of d columns: fewer if there are many columns."""
    return max(LEAST_ROWS, min(SPREAD_ROWS, (1 << 18) // d))


def sample_rows(d):
    """Rows of a sample for the Hessian of an objective of d columns."""
    return max(ROWS_PER_COLUMN * d, spread_rows(d))


def with_offset(h, rows):
    """Scores of rows, with what is known of them."""
    return h if rows.offset is None else h + rows.offset[:, None]


class Sample:
    """Equally spaced rows in standardised variables, or all rows of a short table.

    Parameters
    ----------
    variables : Standardised

    Attributes
    ----------
    exists : bool
        False if there are too many columns for a Hessian.
    count : int
        Number of rows.
    is_all : bool
        True if the sample is all rows.
    """

    def __init__(self, variables):
        self.variables, self.objective = variables, variables.objective
        rows = self.objective.rows
        self.exists, self._room = rows.d <= DENSE_COLUMNS, None
        self.count = rows.sampled_count(sample_rows(rows.d))
        self.is_all = self.count == rows.n

    @functools.cached_property
    def rows(self):
        return self.objective.rows.sampled(sample_rows(self.objective.rows.d))

    @functools.cached_property
    def design(self):
        """The rows in standardised variables, (count, d') float64, with a column of ones for the intercept."""
        return self._in_these_variables(self.rows, slice(None), self.count)

    def _in_these_variables(self, rows, part, count):
        """Some rows as in `design`."""
        v = self.variables
        A = np.ones((count, v.size))  # the last column is the intercept's, if there is one
        columns = A[:, : rows.d]
        rows.write(part, columns)
        columns -= v.shift
        columns /= v.scale
        return A

    def room(self, A, dtype):
        """An array of A's shape for intermediate results; of the design's it is the same one at each call."""
        if A is not vars(self).get("design"):
            return np.empty(A.shape, dtype)
        if self._room is None or self._room.dtype != dtype:
            self._room = np.empty(A.shape, dtype)
        return self._room

    @functools.cached_property
    def weight(self):
        """Sample weights of the rows, (count,), with a sum of 1."""
        return self.rows.shares(slice(None))

    @functools.cached_property
    def largest_share(self):
        """The share of the first principal component in the variance of the sample; 1 without a sample."""
        if not self.exists:
            return 1.0
        A = self.design * np.sqrt(self.weight)[:, None]
        G = A.T @ A
        total = np.trace(G)
        return float(np.linalg.eigvalsh(G)[-1] / total) if total > 0 else 1.0

    def curvature(self, V, damping):
        """l''(h) of the sample's rows at V, (count, k), and a lower bound for its mean, (k,).

        `damping` weights the part of the loss's record that stands for curvature where the loss is linear.
        """
        return self._curvature(with_offset(self.design @ V, self.rows), self.rows.Y, self.weight, damping)

    def rows_that_bend(self, V, damping):
        """Rows with positive curvature at V, for losses such as a smoothed hinge that are curved near a kink only.

        Most rows of an ordinary sample would have none. Here all rows are evaluated; of those above and of those below
        half of the largest curvature, up to as many as a sample has are taken, equally spaced.

        Returns
        -------
        list of ((m, d') rows in standardised variables, (m,) shares in the mean curvature), one for each output
        (k,) lower bounds for the mean curvature
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
            numbers = np.concatenate(rows)
            found.append((self._in_these_variables(o.rows, numbers, len(numbers)), np.concatenate(shares)))
        return found, least

    def bends_alike(self, V, move):
        """Whether l'' changes by less than 2 % of its mean from V to V + move, so that a quadratic model holds."""
        o, s = self.objective, self.objective.rows.shares(slice(None))
        Y = o.Y.astype(np.float64)
        here, there = (o.record.curvature(self.variables.scores(point), Y) for point in (V, V + move))
        return bool(np.all(s @ np.abs(there - here) <= 0.02 * (s @ here)))

    def mean_curvature(self, V, damping):
        """An estimate of the mean of l''(h) at V, not below its lower bound."""
        o = self.objective
        W, b = self.variables.to_weights(V)
        some = o.rows.sampled(SPREAD_ROWS)
        s = some.shares(slice(None))
        with np.errstate(all="ignore"):
            curvature, least = self._curvature(with_offset(some.product(slice(None), W) + b, some), some.Y, s, damping)
        return float(np.mean(np.maximum(s @ curvature, least)))

    def _curvature(self, h, Y, s, damping):
        """See `curvature`; of any rows, with scores h, targets Y and normalised sample weights s."""
        record, Y = self.objective.record, Y.astype(np.float64)
        with np.errstate(all="ignore"):
            curvature = record.curvature(h, Y)
            if record.straight is not None:
                curvature = curvature + damping * record.straight(h, Y)
            if not math.isfinite(curvature.sum()):
                curvature = np.nan_to_num(curvature, nan=0.0, posinf=1e300)
            # A mean l'' below this share of the mean |l'| is replaced by it: far from the minimum, where a log loss is
            # flat, it underestimates the curvature at the minimum. (Near a minimum of 0 both means are small.)
            least, share = np.zeros(curvature.shape[1]), 1e-3
            if record.straight is None and np.any(s @ curvature < share):  # else the slopes do not matter
                slopes = s @ np.abs(record.slope(h, Y))
                least = share * np.minimum(np.nan_to_num(slopes, nan=1.0), 1.0)
        return curvature, least
