"""Standardised variables V: weights of centred columns with unit standard deviation, so that one step size suits all.

W = V/scale and b = V_d − shift·W, where shift and scale are the means and standard deviations of the columns. X is not
copied.
"""

import copy
import functools
import math

import numpy as np

from fastgd.data.moments import has_quick_moments, measures_of_moments
from fastgd.objective import certificate
from fastgd.objective.curvature import Curvature
from fastgd.objective.sample import DENSE_COLUMNS, spread_rows
from fastgd.objective.variables import Variables


class Standardised(Variables):
    """V (d', k), float64, for a LinearObjective; d' is d, or d + 1 with an intercept.

    Parameters
    ----------
    objective : LinearObjective
    start : (W, b), optional
        The start; by default the best constant model.
    like : Standardised, optional
        Variables of the same rows, whose means and standard deviations are reused.
    roughly : bool
        Whether some digits of the standard deviations are enough: where steps do not depend on the scale.
    by_moments : bool
        Whether the moments of few rows tell their measures: where XᵀX is needed anyhow.
    as_they_are : bool
        Neither centre nor scale: the user's own columns, in this shape and precision.

    Attributes
    ----------
    shift, scale : (d,)
        Means (0 without an intercept) and standard deviations, the latter increased by l2 (see `__init__`). Constant
        columns have an infinite scale: their weights stay 0.
    finite_scale : (d, 1)
        `scale` with 0 in place of infinity.
    size : int
        d'.
    """

    in_user_units = False
    box = None  # (lower, upper) of the weights, (d, k) each

    def __init__(self, objective, start=None, *, like=None, roughly=False, by_moments=False, as_they_are=False):
        o = objective
        d, self.size = o.rows.d, o.rows.d + o.fit_intercept
        self.shift, self.spread, self._shift = np.zeros(d), np.ones(d), None
        if like is not None:
            self.shift, self.spread, self._shift = like.shift, like.spread, like._shift
        elif not as_they_are:
            known = o.rows.rough_measures(o.fit_intercept) if roughly else None
            self._measure(o, known, by_moments and has_quick_moments(o.rows))
        # The penalty adds l2/scale² to the curvature of a column: with its share in the scale, the curvature of a
        # column that hardly varies is bounded, too.
        if o.penalty.groups is not None:  # the norm of a group in one unit for all its columns
            self.spread = _alike(self.spread, o.penalty.groups.labels)
        self.scale = self.spread if as_they_are else np.hypot(self.spread, math.sqrt(o.l2 / o.mass))
        self.finite_scale = np.where(np.isfinite(self.scale), self.scale, 0.0)[:, None]
        self.objective = o
        super().__init__(o, self.from_weights(*(o.best_constant() if start is None else start)))
        self.penalised = d * o.rows.k

    @functools.cached_property
    def extended_rows(self):
        """x − shift of all rows in long double, for few of them."""
        return self.objective.rows.extended() - self.shift.astype(np.longdouble)

    def _measure(self, o, known, by_moments):
        """Set shift and spread from a sample of the rows, from all if there are too many columns for one, or from the
        moments where these are needed anyhow."""
        sample = spread_rows(o.rows.d) if o.rows.d <= DENSE_COLUMNS else None
        if known is not None:
            found = *known, False
        elif o.quadratic and (by_moments or not o.rows.in_memory) and o.moments is not None:
            found = measures_of_moments(o.rows, o.moments, o.fit_intercept)
        else:
            found = o.rows.measures(o.fit_intercept, sample)
        self.shift, spread, still = found
        if np.any(bad := np.isnan(self.shift) | np.isnan(spread)):  # a user's own Rows are not validated
            raise ValueError(f"X must be finite; column {int(np.argmax(bad))} holds NaN or infinity")
        spread[~np.isfinite(spread) | still] = math.inf
        self.spread = spread
        # Above so many standard deviations the kernels subtract the mean from each row, which costs half a pass more;
        # up to it the gradient is corrected after the pass, which loses log₁₀ of it in digits.
        far_off = 1e3 if o.dtype == np.float64 else 10.0
        if np.any(np.abs(self.shift) > far_off * spread):
            self._shift = self.shift.astype(o.dtype)

    def with_penalty(self, objective):
        """The same variables of an objective that differs in its penalties."""
        other = copy.copy(self)
        other.objective, other.nfev, other.njev, other.passes = objective, 0, 0, 0
        for name in ("_curvature", "_constant_curvature_sums"):
            vars(other).pop(name, None)
        return other

    @property
    def far_off(self):
        """Whether means are so many standard deviations from 0 that the kernels subtract them from the rows."""
        return self._shift is not None

    # ------------------------------------------------------------------------------------------- conversion of units

    def from_weights(self, W, b):
        """V of weights W and intercepts b. Weights of constant columns become 0."""
        V = self.finite_scale * W
        return np.vstack([V, b + self.shift @ W]) if self.objective.fit_intercept else V

    def to_weights(self, V):
        """W (d, k) and b (k,)."""
        d = self.objective.rows.d
        W = V[:d] / self.scale[:, None]
        return W, V[d] - self.shift @ W if self.objective.fit_intercept else np.zeros(V.shape[1])

    def from_user(self, w):
        """V of weights in the objective's shape."""
        return self.from_weights(*(part.astype(np.float64) for part in self.objective.split(w)))

    def bounds_of(self, bounds):
        """Bounds of the weights in the objective's shape as those of V, (d', k); columns that stay at 0 have none."""
        d, k = self.objective.rows.d, self.objective.rows.k
        sides = [np.array(side, np.float64).reshape(self.size, k) for side in bounds]
        self.box = tuple(side[:d].copy() for side in sides)
        with np.errstate(invalid="ignore"):
            for side, end in zip(sides, (-np.inf, np.inf), strict=True):
                side[:d] = np.where(np.isfinite(self.scale)[:, None], side[:d] * self.scale[:, None], end)
        return tuple(sides)

    def to_user(self, V):
        W, b = self.to_weights(V)
        W = W if self.box is None else np.clip(W, *self.box)  # from which the change of units may have rounded off
        return self.objective.join(W, b).astype(self.objective.dtype)

    def gradient_to_user(self, gradient):
        o = self.objective
        grad_W, grad_b = self._user_gradient(gradient)
        return o.join(grad_W, grad_b).astype(o.dtype)

    def gradient_from_user(self, gradient):
        """The gradient with respect to V, given that with respect to weights in the objective's shape."""
        o = self.objective
        grad_W, grad_b = (part.astype(np.float64) for part in o.split(gradient))
        grad_W = (grad_W - self.shift[:, None] * grad_b) / self.scale[:, None]
        return np.vstack([grad_W, grad_b]) if o.fit_intercept else grad_W

    def user_norm(self, gradient):
        grad_W, grad_b = self._user_gradient(gradient)
        return math.sqrt(float(np.vdot(grad_W, grad_W)) + float(grad_b @ grad_b))

    def _user_gradient(self, gradient):
        d = self.objective.rows.d
        grad_W = gradient[:d] * self.finite_scale
        if not self.objective.fit_intercept:
            return grad_W, np.zeros(gradient.shape[1])
        return grad_W + self.shift[:, None] * gradient[d], gradient[d]

    def _for_kernel(self, V):
        """(W, b) for a pass: b of the centred columns if the kernels subtract the shift."""
        if self._shift is None:
            return self.to_weights(V)
        return V[: self.objective.rows.d] / self.scale[:, None], V[self.objective.rows.d]

    # --------------------------------------------------------------------------------------------------- evaluations

    def evaluate(self, V, want_fun=True):
        self.nfev, self.njev, self.passes = self.nfev + 1, self.njev + 1, self.passes + 1
        return self.from_sums(V, *self.objective.sums(*self._for_kernel(V), self._shift))

    def from_sums(self, V, value, grad_W, grad_b):
        """`evaluate`, given the data term at V and its gradients with respect to W and b, which are overwritten."""
        o = self.objective
        scale = self.scale[:, None]
        if self._shift is None and o.fit_intercept:
            grad_W -= self.shift[:, None] * grad_b
        if o.l1 or o.l2:
            W = V[: o.rows.d] / scale
            value += o.penalty.value(W)
            if o.l2:
                grad_W += o.penalty.l2_of_columns() * W
        if not o.fit_intercept:
            grad_W /= scale
            return value, grad_W
        gradient = np.empty(V.shape)
        np.divide(grad_W, scale, out=gradient[:-1])
        gradient[-1] = grad_b
        return value, gradient

    def value(self, V):
        self.nfev, self.passes = self.nfev + 1, self.passes + 1
        W, b = self._for_kernel(V)
        value = self.objective.sums(W, b, self._shift, gradient=False)
        return value + self.objective.penalty.value(W)

    def settle(self, V, fun, gradient):
        w = self.to_user(V)  # rounded to the user's units, so what is reported is computed there
        self.nfev, self.njev, self.passes = self.nfev + 1, self.njev + 1, self.passes + 1
        return w, *self.objective.value_and_gradient_at(w)

    def scores(self, V):
        """h of all rows, (n, k)."""
        self.passes += 1
        return self.objective.scores(*self.to_weights(V))

    # ------------------------------------------------------------------------------------------------------ penalties

    @property
    def l1(self):
        """0, because λ differs between columns here; see `thresholds`."""
        return 0.0

    def l1_penalty(self, V):
        o = self.objective
        return o.l1 * o.penalty.size(V[: o.rows.d] / self.scale[:, None]) if o.l1 else 0.0

    def thresholds(self):
        """λ of each row of V, (d', 1): the l1 penalty is Σ thresholds·|V|."""
        t = np.zeros((self.size, 1))
        t[: self.objective.rows.d] = self.objective.penalty.l1_of_columns() / self.scale[:, None]
        return t

    def subgradient(self, V, gradient):
        if not self.objective.l1:
            return gradient
        t, groups = self.thresholds(), self.objective.penalty.groups
        if groups is not None:
            return self._subgradient_of_groups(groups, V, gradient, t)
        at_zero = np.sign(gradient) * np.maximum(np.abs(gradient) - t, 0)
        return np.where(V != 0, gradient + t * np.sign(V), at_zero)

    def _subgradient_of_groups(self, groups, V, gradient, t):
        d, shortest = self.objective.rows.d, gradient.copy()
        norms, slopes = (groups.norms(part[:d])[groups.labels] for part in (V, gradient))
        shares = np.divide(t[:d], slopes, out=np.ones_like(slopes), where=slopes > t[:d])
        with np.errstate(divide="ignore", invalid="ignore"):
            there = gradient[:d] + t[:d] * V[:d] / norms
        shortest[:d] = np.where(norms > 0, there, gradient[:d] * (1 - shares))
        return shortest

    def ridge(self):
        """The diagonal that the l2 penalty adds to the Hessian with respect to V, (d',)."""
        diagonal = np.zeros(self.size)
        l2 = np.ravel(self.objective.penalty.l2_of_columns())
        diagonal[: self.objective.rows.d] = (np.sqrt(l2) / self.scale) ** 2
        return diagonal

    def diagonal(self):
        """`ridge`, and 1 for constant columns, whose weights stay 0: it makes the Hessian regular there."""
        diagonal = self.ridge()
        diagonal[: self.objective.rows.d][~np.isfinite(self.scale)] += 1.0
        return diagonal

    # ------------------------------------------------------------------------------------------------- certificates

    def crude_gap(self, gradient):
        """An estimate of a lower bound of the duality gap, ‖∂F/∂W‖²/(2·l2); 0 unless the penalty is l2 alone."""
        o = self.objective
        if o.l1 or not o.l2:
            return 0.0
        grad_W = gradient[: o.rows.d] * self.finite_scale
        return float(np.vdot(grad_W, grad_W)) / (2 * o.l2)

    def duality_gap(self, V, gradient, fun=None):
        """`certificate.duality_gap` at V, from the gradient there, which saves two or all three of its passes.

        The dual point is u − cD with the slopes u = l', D = l'' and c such that its entries sum to 0. With an l1
        penalty on a squared loss it is made of `fun` = F(V).
        """
        o = self.objective
        W, b = self.to_weights(V)
        if o.l1 and o.quadratic and fun is not None:
            balance = float(np.sum(gradient[o.rows.d :] ** 2))
            if balance <= 1e-18 * o.mass * abs(fun):  # the slopes add up to 0, but for rounding
                v = gradient[: o.rows.d] * self.finite_scale - o.l2 * W
                return certificate.gap_of_squares(o, W, v, fun)
        if o.l1 or not o.l2 or o.record.by_pass is None:
            return self._duality_gap_of_rows(W, b)
        with np.errstate(all="ignore"):
            v, excess = gradient[: o.rows.d] * self.finite_scale - o.l2 * W, 0.0
            if o.fit_intercept:
                by_W, total = self._curvature_sums(V)
                if self._shift is None:
                    by_W = by_W - self.shift[:, None] * total
                c = gradient[o.rows.d] / total
                if not (np.all(total > 0) and (not o.record.entropy or np.max(np.abs(c)) <= 1)):
                    return self._duality_gap_of_rows(W, b)
                v = v - c * by_W
                excess = float(np.sum(c * c * total))
            gap = excess + o.penalty.fenchel_gap(W, v)
        return gap if math.isfinite(gap) else math.inf

    def _duality_gap_of_rows(self, W, b):
        self.passes += 3
        return certificate.duality_gap(self.objective, W, b)

    def _curvature_sums(self, V):
        """Σs·l''·x and Σs·l'' at V, by outputs (see `certificate.curvature_sums`)."""
        if not self.objective.quadratic:
            self.passes += 1
            return certificate.curvature_sums(self.objective, *self._for_kernel(V), self._shift)
        return self._constant_curvature_sums

    @functools.cached_property
    def _constant_curvature_sums(self):
        self.passes += 1
        o = self.objective
        nothing = np.zeros((o.rows.d, o.rows.k)), np.zeros(o.rows.k)
        return certificate.curvature_sums(o, *nothing, self._shift)

    # ----------------------------------------------------------------------------------------------------- curvature

    def curvature(self):
        return self._curvature

    @functools.cached_property
    def _curvature(self):
        o = self.objective
        if not math.isfinite(o.loss_curvature):
            return Curvature(math.inf, None)
        return o.curvature_in(self.shift, self.scale, 1.0)


def _alike(spread, labels):
    """The root of the mean square of the spreads of each group; columns that are constant stay so."""
    there = np.isfinite(spread)
    counts = np.bincount(labels[there], minlength=labels.max() + 1)
    squares = np.bincount(labels[there], spread[there] ** 2, labels.max() + 1)
    mean = np.sqrt(squares / np.maximum(counts, 1))[labels]
    return np.where(there, mean, spread)
