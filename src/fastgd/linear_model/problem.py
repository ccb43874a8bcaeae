"""What an estimator minimises, and the bound of it from below.

F(W, b) = (1/Σs) Σ s·φ(Xw + b, y) + l1·‖W‖₁ + ½·l2·‖W‖²        (in the user's units)
"""

import copy
import functools
import math

import numpy as np

from fastgd.data import Dense, even_blocks, threads
from fastgd.kernels.reference import ACTIVATIONS
from fastgd.kernels.reference import LOSSES as KERNEL_LOSSES
from fastgd.linear_model.losses import LOSSES
from fastgd.objectives import LinearObjective

IDENTITY = ACTIVATIONS["identity"]

# Losses whose conjugates are relative entropies.
ENTROPIES = ("log_loss", "poisson")
# A loss of the kernels whose slope by h is u·φ''(h), with the target y and the unit u that make it so: φ'' is summed by
# the pass that sums slopes. Half a squared error has the slope (f − y)f', and 2⁶⁰ takes in any f between 0 and 1.
CURVATURES = {
    "squared_error": ("identity", "squared", -1.0, 1.0),
    "log_loss": ("sigmoid", "squared", -(2.0**60), 2.0**60),
    "poisson": ("exp", "poisson", 0.0, 1.0),
}
# How much of a loss's straight parts are made to bend: less where full steps fall, more where short ones.
FULL_STEP, SHORT_STEP = 0.9, 0.3
LESS, MORE, LEAST_OUTSIDE = 0.1, 10.0, 1e-9


class Problem:
    """The objective of a fit. All weights that go in or out are W (d, k) and b (k,), float64, in the user's units.

    Parameters
    ----------
    X, y : arrays
        As LinearObjective takes them.
    loss : str
        A key of LOSSES.
    threshold : float, optional
        Where the Huber loss turns straight, or the width of the tube, instead of the kernels' own.
    l1, l2 : float
    """

    def __init__(self, X, y, loss, *, fit_intercept, l1=0.0, l2=0.0, threshold=None, sample_weight=None, n_jobs=None):
        self._model = {"fit_intercept": fit_intercept, "l1": l1, "l2": l2, "threshold": threshold, "n_jobs": n_jobs}
        self.loss = LOSSES[loss]
        self.name = loss
        # A loss with a threshold is the kernels' in other units of y: φ_t(h, y) = φ_u(c·h, c·y)/c^p with c = u/t.
        self.c = 1.0 if threshold is None or self.loss.unit is None else self.loss.unit / threshold
        power = 1 if loss == "epsilon_insensitive" else 2
        self.objective = o = LinearObjective(
            X, y if self.c == 1 else self.c * y, activation=self.loss.activation, loss=self.loss.objective,
            fit_intercept=fit_intercept, sample_weight=sample_weight, n_jobs=n_jobs,
        )  # fmt: skip
        # The kernels sum φ, with ½(f − y)² for the squared loss.
        self.factor = o.factor = 1 / (o.total_weight * self.c**power)
        self.l1, self.l2 = l1 / self.c, l2 / self.c**2  # beside weights in the kernels' units
        self.fit_intercept = fit_intercept
        self.n, self.d, self.k = o.rows.n, o.rows.d, o.rows.k
        self.s = o.rows.weights if o.rows.weights.size else None
        self.Y = o.rows.Y
        self.eps = float(np.finfo(o.dtype).eps)
        self.least_size = 0.0  # of the numbers whose sum a small F may be
        # The deviance is the Poisson loss less its least possible value: never negative, and so are all the others.
        self.constant = -float(self.mean(_poisson_least(self.Y))) if loss == "poisson" else 0.0
        self.passes = 0
        self.outside = 1.0
        self._column_sums = None

    def mean(self, values):
        """(1/Σs) Σ s·values over rows and outputs, in F's units."""
        rows = values.sum(axis=1)
        return self.factor * float(rows @ self.s.astype(np.float64) if self.s is not None else rows.sum())

    def sums(self, W, b, shift=None, want_gradient=True):
        """Loss and its gradients by W and b, at weights in the kernels' units, about `shift`."""
        o = self.objective
        self.passes += 1
        with np.errstate(all="ignore"):
            sums = o.sums(W.astype(o.dtype), b.astype(o.dtype), shift, want_gradient)
            value = self.factor * float(sums[0].sum()) + self.constant
            return (value, self.factor * sums[1], self.factor * sums[2]) if want_gradient else value

    def sums_of_each(self, W, b):
        """`sums` at several weights of a problem with one output, (d, m) and (m,), in one pass over X.

        Losses (m,) and gradients (d, m) and (m,), each that of its own column alone.
        """
        o = copy.copy(self.objective)
        o.rows = o.rows.with_targets(np.broadcast_to(self.Y, (self.n, W.shape[1])))
        # Gradients of so many weights are long, and there is one for each block.
        o.edges = np.array([0, *(last for _, last in even_blocks(self.n, o.rows.values, W.size))], np.int64)
        self.passes += 1
        with np.errstate(all="ignore"):
            losses, grad_W, grad_b = o.sums(W.astype(o.dtype), b.astype(o.dtype), None, True)
            return self.factor * losses + self.constant, self.factor * grad_W, self.factor * grad_b

    def bends(self, h, Y):
        """φ''(h), and where the loss is straight so much of the parabola that touches it from above as `outside` says.

        All of that always falls, and slowly (iteratively reweighted least squares); little of it is Newton's method.
        """
        curvature = self.loss.curvature(h, Y)
        return curvature if self.loss.straight is None else curvature + self.outside * self.loss.straight(h, Y)

    def bend(self, rate):
        """Change the metric of the next steps by what came of the last one."""
        if rate >= FULL_STEP:
            self.outside = max(LESS * self.outside, LEAST_OUTSIDE)
        elif rate < SHORT_STEP:
            self.outside = min(MORE * self.outside, 1.0)

    def penalty(self, W):
        """Of weights in the kernels' units."""
        total = 0.5 * self.l2 * float(np.sum(W * W)) if self.l2 else 0.0
        return total + self.l1 * float(np.abs(W).sum()) if self.l1 else total

    def in_user_units(self, W, b):
        return W / self.c, b / self.c

    def in_kernel_units(self, W, b):
        return W * self.c, b * self.c

    @functools.cached_property
    def value_at_zero(self):
        """F at W = 0 and b = 0: what is small beside it is rounding."""
        return self.value_at_constant(np.zeros(self.k))

    @functools.cached_property
    def target_means(self):
        """(1/Σs) Σ s·y·x, (d, k), and (1/Σs) Σ s·y, (k,), in F's units."""
        s = np.ones(self.n) if self.s is None else self.s.astype(np.float64)
        Y = self.Y.astype(np.float64)
        return self.factor * self.objective.rows.transposed_product(Y), self.factor * (s @ Y)

    def value_at_constant(self, b):
        """F at W = 0, which takes no pass over X."""
        o = self.objective
        nothing = Dense(np.zeros((self.n, 1), o.dtype), self.Y, o.rows.weights)
        W, b = np.zeros((1, self.k), o.dtype), b.astype(o.dtype)
        totals = threads.tree_sum([nothing.sums(block, W, b, None, *o.codes, False) for block in nothing.blocks()])[0]
        return self.factor * float(totals.sum()) + self.constant

    def every(self, step):
        """The same problem on every so-many-th row; None where these rows have no weight."""
        o, part = self.objective, slice(None, None, step)
        s = None if self.s is None else self.s[part]
        if s is not None and not s.any():
            return None
        y = o.y[part] / o.dtype.type(self.c)
        return Problem(o.rows.take(part), y, self.name, sample_weight=s, **self._model)

    def start(self):
        """The best constant model, in the kernels' units."""
        b = np.zeros(self.k)
        if self.fit_intercept:
            s = None if self.s is None else self.s.astype(np.float64)
            b = np.asarray(self.loss.start(self.Y.astype(np.float64), s), np.float64).reshape(self.k)
        return np.zeros((self.d, self.k)), b

    # ---------------------------------------------------------------------------------------------------- certificate

    @property
    def has_dual(self):
        """Whether a duality gap can be had: with no penalty at all the dual asks for Xᵀu = 0 exactly."""
        return self.l2 > 0 or self.l1 > 0

    def duality_gap(self, W, b):
        """F(W, b) − D(u) ≥ F(W, b) − min F for a dual point u made of the slopes at (W, b); inf where that fails.

        With Ω the penalty, D(u) = −(1/Σs) Σ s·φ*(u) − Ω*(−v) with v = Xᵀ(su)/Σs, for any u with Σ s·u = 0 where there
        is an intercept. The slopes ∂φ/∂h are such a u but for their sum, which is made 0 along the curvature, and,
        where there is no l2, but for ‖v‖∞ ≤ l1, for which they are shrunk. As F − D the two would cancel; as
        (1/Σs) Σ s·(φ(h) + φ*(u) − h·u) + Ω(W) + Ω*(−v) + W·v none of the terms is larger than it must be.
        """
        self.passes += 1
        h, Y = self.scores(W, b), self.Y
        s = None if self.s is None else self.s.astype(np.float64)[:, None]
        with np.errstate(all="ignore"):
            # The slopes of a loss with a kink are those of a smooth one beside it: only for its own is the sum 0.
            u, excess = self.loss.slope(h, Y), 0.0 if self.loss.smooth else None
            if self.fit_intercept:
                u, excess = self._balanced(u, h, Y, s)
            v = self.factor * self.objective.rows.transposed_product(u)
            if not self.l2:
                largest = float(np.max(np.abs(v), initial=0.0))
                if largest > self.l1:
                    u, v, excess = u * (self.l1 / largest), v * (self.l1 / largest), None
            if excess is None:
                value = self.sums(W, b, want_gradient=False) - self.constant
                excess = value + self.mean(self.loss.conjugate(u, Y.astype(np.float64))) - float(np.vdot(W, v))
                if self.fit_intercept:
                    excess -= self.factor * float(b @ (u if s is None else u * s).sum(axis=0))
            return excess + self._fenchel_gap(W, v) if math.isfinite(excess) else math.inf

    def curvature_sums(self, W, b, shift):
        """(1/Σs) Σ sφ''(h)(x − shift), (d, k), and (1/Σs) Σ sφ''(h), (k,), by one pass over X."""
        if self.name != "squared_error":
            return self._curvature_sums(W, b, shift)
        if self._column_sums is None:  # the same at all weights; and at h = 0 the slope −y is 1
            self._column_sums = self._curvature_sums(np.zeros_like(W), np.zeros_like(b), shift)
        return tuple(part.copy() for part in self._column_sums)

    def _curvature_sums(self, W, b, shift):
        o = self.objective
        activation, loss, target, unit = CURVATURES[self.name]
        self.passes += 1
        rows = o.rows.with_targets(np.broadcast_to(o.dtype.type(target), self.Y.shape))
        model = W.astype(o.dtype), b.astype(o.dtype), shift, ACTIVATIONS[activation], KERNEL_LOSSES[loss], True
        blocks = rows.blocks()
        jobs = o.jobs(threads.THREAD_VALUES)
        by_W, by_b = threads.tree_sum(threads.over_blocks(lambda block: rows.sums(block, *model)[1:], blocks, jobs))
        return self.factor / unit * by_W, self.factor / unit * by_b

    def _fenchel_gap(self, W, v):
        """Ω(W) + Ω*(−v) + W·v."""
        beyond = np.maximum(np.abs(v) - self.l1, 0)
        if not self.l2:
            return self.l1 * float(np.abs(W).sum()) + float(np.vdot(W, v))
        # ½l2·w² + l1·|w| + w·v + beyond²/2l2, as a square and what is left: both are at least 0.
        squares = float(np.sum((self.l2 * W + np.sign(v) * beyond) ** 2)) / (2 * self.l2)
        return squares + float(np.sum(self.l1 * np.abs(W) + W * (v - np.sign(v) * beyond)))

    def _balanced(self, u, h, Y, s):
        """Slopes moved along the curvature D until Σ s·u = 0 for each output, u − cD; and Σ s·(φ(h) + φ*(u) − hu)/Σs.

        At u = ∂φ/∂h the latter is 0. Moved by cD it is at most c²D for the losses whose conjugate is an entropy (the
        relative entropy is at most χ²) and for quadratic ones; None where that does not hold.
        """
        total = np.sum(u if s is None else s * u, axis=0)
        if self.name == "softmax":
            p = u + Y
            C = np.diag((p if s is None else s * p).sum(axis=0)) - (p if s is None else s * p).T @ p
            c = np.linalg.lstsq(C, total, rcond=None)[0]
            return u - p * (c - (p @ c)[:, None]), self.factor * float(c @ C @ c) if np.ptp(c) <= 1 else None
        D = self.loss.curvature(h, Y)
        curvature = np.sum(D if s is None else s * D, axis=0)
        if not (self.loss.smooth and np.all(curvature > 0)):
            return _evened(u, s), None
        c = total / curvature
        certain = self.name == "squared_error" or (self.name in ENTROPIES and np.max(np.abs(c)) <= 1)
        D *= c
        u -= D
        return u, self.factor * float(np.sum(c * c * curvature)) if certain else None

    def scores(self, W, b):
        """h = XW + b in float64, of weights in the kernels' units."""
        o = self.objective
        self.passes += 1
        with np.errstate(all="ignore"):
            return o.rows.predict(W.astype(o.dtype), b.astype(o.dtype), IDENTITY).astype(np.float64)


def _evened(u, s):
    """Slopes of which those of the sign with the larger sum are shrunk: that leaves no conjugate's domain."""
    weighted = u if s is None else s * u
    above, below = np.sum(np.maximum(weighted, 0), axis=0), -np.sum(np.minimum(weighted, 0), axis=0)
    least = np.minimum(above, below)
    shares = [np.divide(least, side, out=np.zeros_like(least), where=side > 0) for side in (above, below)]
    return np.where(u > 0, shares[0], shares[1]) * u


def _poisson_least(Y):
    Y = Y.astype(np.float64)
    return Y - Y * np.log(np.where(Y > 0, Y, 1.0))
