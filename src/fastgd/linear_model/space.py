"""The variables in which a Problem is easy, and what some of its rows tell of its curvature there.

A `Space` is a change of variables, W = V/scale and b = β − m·W, with the means m and the spreads of the columns of a
sample of rows: in V every column is centred and of like size. X is never copied for it.
"""

import functools
import math

import numpy as np

from fastgd.data.moments import ROWS_PER_COLUMN
from fastgd.linear_model.problem import CURVATURES, ENTROPIES

# So many rows tell the spread of the columns, or fewer long ones of so many values, but not less than the last number.
SPREAD_ROWS, SPREAD_VALUES, LEAST_ROWS = 4096, 1 << 18, 256
# Columns whose means are no more than so many spreads off are centred by algebra after a pass, beyond in the kernels:
# that costs half a pass, and algebra loses as many digits.
FAR_OFF = {8: 1e3, 4: 10.0}
# A mean curvature below this share of the mean slope says nothing of that at the minimum. Near a minimum of 0, where a
# log loss bends little, the slopes are as small.
LEAST_CURVATURE = 1e-3
# A move after which the rows that bend are others than before by no more than this share stays near its model.
ALIKE = 0.02
# A matrix of curvatures is formed for no more columns than this.
METRIC_COLUMNS = 2048


def spread_rows(d):
    """How many rows tell the spread of d columns."""
    return max(LEAST_ROWS, min(SPREAD_ROWS, SPREAD_VALUES // d))


def sample_rows(d):
    """How many rows tell the curvature of a problem of d columns."""
    return max(ROWS_PER_COLUMN * d, spread_rows(d))


class Space:
    """Variables V (d', k) of a Problem in which columns are centred and alike: W = V/scale, b = V[d] − m·W.

    Attributes
    ----------
    shift, scale : (d,)
        Centres, 0 without an intercept, and spreads. An infinite scale is that of a column that does not vary, whose
        weight stays where it is.
    """

    def __init__(self, problem, *, as_they_are=False):
        self.problem = p = problem
        self.size = p.d + p.fit_intercept
        self.has_sample = p.d <= METRIC_COLUMNS
        self.shift, self.scale = np.zeros(p.d), np.ones(p.d)
        self._shift = None
        if as_they_are:
            return
        sample = spread_rows(p.d) if self.has_sample else None
        self.shift, spread, still = p.objective.rows.measures(p.fit_intercept, sample)
        spread[~np.isfinite(spread) | still] = math.inf
        # With the penalty's part: however little a column varies, its curvature is then no larger than that of others.
        self.scale = np.sqrt(spread**2 + p.l2 / (p.factor * p.objective.total_weight))
        if np.any(np.abs(self.shift) > FAR_OFF[p.objective.dtype.itemsize] * spread):
            self._shift = self.shift.astype(p.objective.dtype)

    def _rows(self, part):
        """(rows, d'), as they are, with a column of ones for the intercept."""
        rows = np.ones((len(self.problem.Y[part]), self.size))
        self.problem.objective.rows.write(part, rows[:, : self.problem.d])
        return rows

    def _weights(self, part):
        """Weights of rows, adding up to 1."""
        return self.problem.objective.rows.shares(part)

    @functools.cached_property
    def sample(self):
        """(rows, d'): some rows, or all of few, in these variables, with a column of ones for the intercept."""
        return self._in_these_variables(self._rows(self._part))

    def _in_these_variables(self, A):
        """Rows (m, d') in place."""
        A[:, : self.problem.d] -= self.shift
        A[:, : self.problem.d] /= self.scale
        return A

    @functools.cached_property
    def sample_weight(self):
        return self._weights(self._part)

    @functools.cached_property
    def largest_share(self):
        """Of the variance of the sample, what lies in its first principal component; 1 where that is not looked for."""
        if not self.has_sample:
            return 1.0
        A = self.sample * np.sqrt(self.sample_weight)[:, None]
        G = A.T @ A
        total = np.trace(G)
        return float(np.linalg.eigvalsh(G)[-1] / total) if total > 0 else 1.0

    @property
    def _part(self):
        return slice(None, None, max(1, self.problem.n // sample_rows(self.problem.d)))

    def from_weights(self, W, b):
        """V of weights in the kernels' units. Weights of columns that do not vary are dropped: nothing moves them."""
        V = np.where(np.isfinite(self.scale), self.scale, 0.0)[:, None] * W
        return np.vstack([V, b + self.shift @ W]) if self.problem.fit_intercept else V

    def to_weights(self, V):
        d = self.problem.d
        W = V[:d] / self.scale[:, None]
        return W, V[d] - self.shift @ W if self.problem.fit_intercept else np.zeros(V.shape[1])

    def _for_kernel(self, V):
        """Weights and intercepts for a pass, about the shift if the kernels are to subtract it."""
        if self._shift is None:
            return self.to_weights(V)
        return V[: self.problem.d] / self.scale[:, None], V[self.problem.d]

    def evaluate(self, V):
        """The smooth part of F and its gradient by V."""
        return self.from_sums(V, *self.problem.sums(*self._for_kernel(V), self._shift))

    def from_sums(self, V, value, grad_W, grad_b):
        """`evaluate`, given the loss at V and its gradients by the weights; these are written to."""
        p = self.problem
        W = V[: p.d] / self.scale[:, None]
        if self._shift is None:
            grad_W -= self.shift[:, None] * grad_b
        if p.l2:
            value += 0.5 * p.l2 * float(np.sum(W * W))
            grad_W += p.l2 * W
        grad_W /= self.scale[:, None]
        return value, np.vstack([grad_W, grad_b]) if p.fit_intercept else grad_W

    def duality_gap(self, V, gradient):
        """`Problem.duality_gap` at V, from the gradient there: its slopes are summed already, for one pass or none.

        The dual point is u − cD, u the slopes, D = φ'' and c such that its sum is 0 (see `Problem._balanced`).
        """
        p = self.problem
        W, b = self.to_weights(V)
        if p.l1 or not p.l2 or p.name not in CURVATURES:
            return p.duality_gap(W, b)
        with np.errstate(all="ignore"):
            scale = np.where(np.isfinite(self.scale), self.scale, 0.0)[:, None]
            v, excess = gradient[: p.d] * scale - p.l2 * W, 0.0
            if p.fit_intercept:
                by_W, total = p.curvature_sums(*self._for_kernel(V), self._shift)
                if self._shift is None:
                    by_W -= self.shift[:, None] * total
                c = gradient[p.d] / total
                if not (np.all(total > 0) and (p.name not in ENTROPIES or np.max(np.abs(c)) <= 1)):
                    return p.duality_gap(W, b)
                v -= c * by_W
                excess = float(np.sum(c * c * total))
            gap = excess + p._fenchel_gap(W, v)
        return gap if math.isfinite(gap) else math.inf

    def value(self, V):
        p = self.problem
        W, b = self._for_kernel(V)
        value = p.sums(W, b, self._shift, want_gradient=False)
        return value + (0.5 * p.l2 * float(np.sum(W * W)) if p.l2 else 0.0)

    def l1_penalty(self, V):
        p = self.problem
        return p.l1 * float(np.sum(np.abs(V[: p.d]) / self.scale[:, None])) if p.l1 else 0.0

    def thresholds(self):
        """(d', 1): the l1 penalty is Σ thresholds·|V|."""
        t = np.zeros((self.size, 1))
        t[: self.problem.d, 0] = self.problem.l1 / self.scale
        return t

    def subgradient(self, V, gradient):
        """The shortest subgradient of F, given the gradient of its smooth part."""
        if not self.problem.l1:
            return gradient
        t = self.thresholds()
        at_zero = np.sign(gradient) * np.maximum(np.abs(gradient) - t, 0)
        return np.where(V != 0, gradient + t * np.sign(V), at_zero)

    def user_norm(self, gradient):
        """‖∂F/∂(w, b)‖ in the user's units, from a gradient by V."""
        p = self.problem
        grad_W = gradient[: p.d] * np.where(np.isfinite(self.scale), self.scale, 0.0)[:, None]
        total = 0.0
        if p.fit_intercept:
            grad_b = gradient[p.d]
            grad_W = grad_W + self.shift[:, None] * grad_b
            total = float(grad_b @ grad_b)
        return p.c * math.sqrt(float(np.sum(grad_W * grad_W)) + total)

    def ridge(self):
        """(d',): what l2 adds to the diagonal of the Hessian by V."""
        diagonal = np.zeros(self.size)
        diagonal[: self.problem.d] = self.problem.l2 / self.scale**2
        return diagonal

    def sample_curvature(self, V):
        """φ''(h) of the sample's rows at V, (rows, k), and the least mean of it to reckon with, (k,)."""
        return self._curvature(self.sample @ V, self.problem.Y[self._part], self.sample_weight)

    def rows_that_bend(self, V):
        """For each output, rows (m, d') that bend at V and what each adds to the mean curvature, (m,); and as above.

        Of a loss that bends near its kinks alone most rows of a sample do not. So all rows are looked at, and of those
        that bend much, and of those that bend less, as many are taken as a sample has.
        """
        p, most = self.problem, sample_rows(self.problem.d)
        s = self._weights(slice(None))
        curvature, least = self._curvature(p.scores(*self.to_weights(V)), p.Y, s)
        found = []
        for bends in (s[:, None] * curvature).T:
            much = bends > 0.5 * bends.max(initial=0.0)
            rows, shares = [], []
            for group in (np.flatnonzero(much), np.flatnonzero((bends > 0) & ~much)):
                taken = group[:: max(1, len(group) // most)]
                rows.append(taken)
                shares.append(bends[taken] * (bends[group].sum() / (bends[taken].sum() or 1.0)))
            found.append((self._in_these_variables(self._rows(np.concatenate(rows))), np.concatenate(shares)))
        return found, least

    def bends_alike(self, V, move):
        """Whether nearly the same rows bend at V and after the move, so that the model at V holds on the way."""
        p, s, Y = self.problem, self._weights(slice(None)), self.problem.Y.astype(np.float64)
        here, there = (p.loss.curvature(p.scores(*self.to_weights(point)), Y) for point in (V, V + move))
        return bool(np.all(s @ np.abs(there - here) < ALIKE * (s @ here)))

    def mean_curvature(self, V):
        """About the mean of φ''(h) at V, or the least to reckon with."""
        p = self.problem
        W, b = self.to_weights(V)
        part = slice(None, None, max(1, p.n // SPREAD_ROWS))
        s = self._weights(part)
        with np.errstate(all="ignore"):
            curvature, least = self._curvature(p.objective.rows.product(part, W) + b, p.Y[part], s)
        return float(np.mean(np.maximum(s @ curvature, least)))

    def _curvature(self, h, Y, s):
        p, Y = self.problem, Y.astype(np.float64)
        with np.errstate(all="ignore"):
            curvature = p.bends(h, Y)
            if not math.isfinite(curvature.sum()):
                curvature = np.nan_to_num(curvature, nan=0.0, posinf=1e300)
            least = np.zeros(curvature.shape[1])
            if p.loss.straight is None and np.any(s @ curvature < LEAST_CURVATURE):  # else the slopes do not matter
                slopes = s @ np.abs(p.loss.slope(h, Y))
                least = LEAST_CURVATURE * np.minimum(np.nan_to_num(slopes, nan=1.0), 1.0)
        return curvature, least
