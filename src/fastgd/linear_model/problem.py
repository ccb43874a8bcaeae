"""What an estimator minimises, and the variables in which that is easy.

    F(W, b) = (1/Σs) Σ s·φ(Xw + b, y) + l1·‖W‖₁ + ½·l2·‖W‖²        (`Problem`, in the user's units)

A `Space` is a change of variables, W = V/scale and b = β − m·W, with the means m and the spreads of the columns of a
sample of rows: in V every column is centred and of like size. X is never copied for it.
"""

import functools
import math

import numpy as np

from fastgd.kernels.reference import ACTIVATIONS
from fastgd.kernels.reference import LOSSES as KERNEL_LOSSES
from fastgd.linear_model.losses import LOSSES
from fastgd.objectives import LinearObjective
from fastgd.rows import tree_sum

IDENTITY, SQUARED = ACTIVATIONS["identity"], KERNEL_LOSSES["squared"]

# So many rows tell the curvature well enough to step by it; and at least so many for each column.
SAMPLE_ROWS, ROWS_PER_COLUMN = 4096, 8
# A matrix of curvatures is formed for no more columns than this.
METRIC_COLUMNS = 2048


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
        # The deviance is the Poisson loss less its least possible value: never negative, and so are all the others.
        self.constant = -float(self._mean(_poisson_least(self.Y))) if loss == "poisson" else 0.0
        self.passes = 0

    def _mean(self, values):
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
        return self.sums(np.zeros((self.d, self.k)), np.zeros(self.k), want_gradient=False)

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

    def duality_gap(self, W, b, value):
        """F(W, b) − D(u) ≥ F(W, b) − min F for the dual point u made of the slopes at (W, b); inf where it fails.

        With Ω the penalty, D(u) = −(1/Σs) Σ s·φ*(u) − Ω*(−Xᵀ(su)/Σs) for any u with Σ s·u = 0 where there is an
        intercept. The slopes ∂φ/∂h are such a u but for their sum, which is made 0 along the curvature, and but for
        ‖Xᵀsu/Σs‖∞ ≤ l1 where there is no l2, for which they are shrunk.
        """
        o = self.objective
        self.passes += 2
        h, Y = self.scores(W, b), self.Y.astype(np.float64)
        s = np.ones((self.n, 1)) if self.s is None else self.s.astype(np.float64)[:, None]
        with np.errstate(all="ignore"):
            u = self.loss.slope(h, Y)
            if self.fit_intercept:
                u = self._balanced(u, h, Y, s)
            gradient = self.factor * _transposed_product(o.rows, u)
            if self.l2:
                excess = np.maximum(np.abs(gradient) - self.l1, 0)
                conjugate = float(np.sum(excess * excess)) / (2 * self.l2)
            else:
                largest = float(np.max(np.abs(gradient), initial=0.0))
                u = u * (min(1.0, self.l1 / largest) if largest else 1.0)
                conjugate = 0.0
            dual = -self._mean(self.loss.conjugate(u, Y)) + self.constant - conjugate
        return value - dual if math.isfinite(dual) else math.inf

    def scores(self, W, b):
        """h = XW + b in float64, of weights in the kernels' units."""
        o = self.objective
        with np.errstate(all="ignore"):
            return o.rows.predict(W.astype(o.dtype), b.astype(o.dtype), IDENTITY).astype(np.float64)

    def _balanced(self, u, h, Y, s):
        """Slopes moved along the curvature until their weighted sum is 0 for each output."""
        if self.name == "softmax":
            p = u + Y
            C = np.diag((s * p).sum(axis=0)) - (s * p).T @ p
            c = np.linalg.lstsq(C, (s * u).sum(axis=0), rcond=None)[0]
            return u - p * (c - (p @ c)[:, None])
        D = self.loss.curvature(h, Y)
        if not np.all((s * D).sum(axis=0) > 0):
            D = np.ones_like(h)
        u = u - D * ((s * u).sum(axis=0) / (s * D).sum(axis=0))
        return u


def _poisson_least(Y):
    Y = Y.astype(np.float64)
    return Y - Y * np.log(np.where(Y > 0, Y, 1.0))


def _transposed_product(rows, u):
    """Xᵀ(s·u) in float64 by the kernels: the gradient of Σ s·½(0 − y)² by W at W = 0, for targets y = −u."""
    source = rows.with_targets(np.ascontiguousarray(-u, dtype=rows.dtype))
    zeros = np.zeros((rows.d, rows.k), rows.dtype), np.zeros(rows.k, rows.dtype)
    parts = [source.sums(block, *zeros, None, IDENTITY, SQUARED, True)[1:2] for block in source.blocks()]
    return tree_sum(parts)[0]


class Space:
    """Variables V (d', k) of a Problem in which columns are centred and alike: W = V/scale, b = V[d] − m·W.

    Attributes
    ----------
    sample : (rows, d') float64
        Some rows, or all of few, in these variables, with a column of ones for the intercept.
    scale : (d,)
        Spread of the columns; inf for one that does not vary, whose weight stays where it is.
    """

    def __init__(self, problem, plain=False):
        self.problem = p = problem
        rows = p.objective.rows
        step = max(1, p.n // max(SAMPLE_ROWS, ROWS_PER_COLUMN * p.d)) if p.d <= METRIC_COLUMNS else 1
        self._part = slice(None, None, step)
        self.shift, self.scale = np.zeros(p.d), np.ones(p.d)
        self.sample = None
        if not plain:
            self._measure(rows, step)
        self._shift = self.shift.astype(p.objective.dtype) if self.shift.any() else None
        self.size = p.d + p.fit_intercept

    def _measure(self, rows, step):
        p = self.problem
        if p.d > METRIC_COLUMNS:
            shift = p.objective.column_means() if p.fit_intercept else np.zeros(p.d)
            self.shift = shift.astype(p.objective.dtype).astype(np.float64)
            spread = p.objective.column_lengths(self.shift) / np.sqrt(p.objective.total_weight)
        else:
            A = rows.X[self._part]
            A = (A.toarray() if hasattr(A, "toarray") else np.array(A)).astype(np.float64, copy=False)
            s = np.ones(len(A)) if p.s is None else p.s[self._part].astype(np.float64)
            if not s.any():
                s = np.ones(len(A))
            self.sample_weight = s / s.sum()
            if p.fit_intercept:
                self.shift = (self.sample_weight @ A).astype(p.objective.dtype).astype(np.float64)
                A -= self.shift
            spread = np.sqrt(self.sample_weight @ (A * A))
        still = np.flatnonzero(spread <= 4 * p.eps * np.abs(self.shift) * p.fit_intercept)
        if step > 1 and still.size:  # they may vary elsewhere
            columns = rows.X[:, still]
            columns = (columns.toarray() if hasattr(columns, "toarray") else columns) - self.shift[still]
            spread[still] = np.sqrt(np.mean(columns.astype(np.float64) ** 2, axis=0))
            still = still[spread[still] <= 4 * p.eps * np.abs(self.shift[still]) * p.fit_intercept]
        spread[still] = math.inf
        self.scale = spread
        if p.d <= METRIC_COLUMNS:
            A /= self.scale
            self.sample = np.column_stack([A, np.ones(len(A))]) if p.fit_intercept else A

    def from_weights(self, W, b):
        """V of weights in the kernels' units. Weights of columns that do not vary are dropped: nothing moves them."""
        V = np.where(np.isfinite(self.scale), self.scale, 0.0)[:, None] * W
        return np.vstack([V, b + self.shift @ W]) if self.problem.fit_intercept else V

    def to_weights(self, V):
        W, beta = self._parts(V)
        return W, (beta - self.shift @ W if self.problem.fit_intercept else np.zeros(V.shape[1]))

    def _parts(self, V):
        d = self.problem.d
        return V[:d] / self.scale[:, None], V[d] if self.problem.fit_intercept else np.zeros(V.shape[1])

    def evaluate(self, V):
        """The smooth part of F and its gradient by V."""
        p = self.problem
        W, beta = self._parts(V)
        value, grad_W, grad_b = p.sums(W, beta, self._shift)
        if p.l2:
            value += 0.5 * p.l2 * float(np.sum(W * W))
            grad_W += p.l2 * W
        grad_W /= self.scale[:, None]
        return value, np.vstack([grad_W, grad_b]) if p.fit_intercept else grad_W

    def value(self, V):
        p = self.problem
        W, beta = self._parts(V)
        value = p.sums(W, beta, self._shift, want_gradient=False)
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
        """φ''(h) of the sample's rows at V, (rows, k)."""
        with np.errstate(all="ignore"):
            h = self.sample @ V
            Y = self.problem.Y[self._part].astype(np.float64)
            return np.nan_to_num(self.problem.loss.curvature(h, Y), nan=0.0, posinf=1e300)

    def mean_curvature(self, V):
        """About the mean of φ''(h) at V."""
        p = self.problem
        W, b = self.to_weights(V)
        part = slice(None, None, max(1, p.n // SAMPLE_ROWS))
        with np.errstate(all="ignore"):
            h = p.objective.rows.X[part] @ W + b
            found = float(np.mean(p.loss.curvature(h, p.Y[part].astype(np.float64))))
        return found if math.isfinite(found) else 1.0
