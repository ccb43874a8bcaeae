"""What one run of descent walks on.

A path is made for one run and has

    start                   where the run begins, in the variables of the path
    evaluate(z, want_fun)   value (None where it is neither wanted nor free) and gradient at z
    value(z)                the value alone
    to_user(z)              z in the user's units;  gradient_to_user(g) for a gradient
    settle(z, fun, g)       z in the user's units, with value and gradient at exactly that point
    curvature()             bounds of the Hessian's eigenvalues in the variables of the path, or None
    burst(z, rule, …)       many steps in one kernel, in z; `has_bursts` says whether there is one
    steps_in_c(z, …)        the same for a C function, which hands back what is to be judged; `in_c` says whether it can
    fun_is_free             whether a gradient brings the value with it
    in_user_units           whether the variables of the path are the user's
    note                    what the user should know of the route, for the message
    nfev, njev              what the run has spent

`FunctionPath` walks a function; `Columns` an objective in the user's own columns; `Rescaled` the same objective in
standardised ones; `Whitened` in ones in which its Hessian is at most 1; `Compressed` the quadratic that a squared loss
is, without X; `Penalised` any of them with ‖w‖₁ added to the value. The loops do not know which.
"""

import functools

import numpy as np

from fastgd import callbacks, curvature, kernels, numdiff, validation
from fastgd.curvature import Curvature
from fastgd.kernels.reference_differences import CFunction, CGradient
from fastgd.kernels.reference_functions import DOUBTFUL, EVALUATED
from fastgd.objectives import LinearObjective

# The Gram matrix is formed, factored and kept for no more columns than this.
GRAM_COLUMNS = 2048
# Above this condition number a step on the Gram matrix loses more digits than 1e-9 leaves.
WELL_CONDITIONED = 1e8


class FunctionPath:
    """A function of an array, with its gradient or a numerical one."""

    fun_is_free = False
    in_user_units = True
    has_bursts = False
    note = ""

    def __init__(self, f, grad, start, jobs=1):
        self.start = np.array(validation.real_array(start, "init_x", dtype=np.float64), order="C")
        d = self.start.size
        self.f = callbacks.c_function(f, d) if callbacks.is_c(f) else validation.callable_(f, "f")
        self.grad = grad
        if grad is not None:
            self.grad = callbacks.c_gradient(grad, d) if callbacks.is_c(grad) else validation.callable_(grad, "grad")
        # Threads for a numerical gradient. The kernel that takes many steps has one, for functions that are quick.
        self._workers = None if jobs == 1 or grad is not None else jobs
        self.in_c = isinstance(self.f, CFunction) and (grad is None or isinstance(self.grad, CGradient)) and d > 0
        self.in_c = self.in_c and self._workers is None
        self.nfev = self.njev = 0

    def evaluate(self, x, want_fun):
        # What overflows in a run that diverges is named by the run; a warning for each overflow would be noise.
        with np.errstate(over="ignore", invalid="ignore"):
            return (self._value(x) if want_fun else None), self._gradient(x)

    def settle(self, x, fun, gradient):
        with np.errstate(over="ignore", invalid="ignore"):
            return x, self.value(x) if fun is None else fun, gradient

    def value(self, x):
        with np.errstate(over="ignore", invalid="ignore"):
            return self._value(x)

    def _value(self, x):
        self.nfev += 1
        return kernels.active.evaluate(self.f, x.reshape(-1), x.shape, (), validation.any_number)

    def _gradient(self, x):
        self.njev += 1
        if self.grad is None:
            gradient, nfev = numdiff.gradient_and_count(self.f, x, self._workers)
            self.nfev += nfev
            return gradient
        gradient = validation.real_array(self.grad(x.copy()), "what grad returned", dtype=np.float64, finite=False)
        if gradient.shape != x.shape:
            raise ValueError(f"grad must return an array of the shape of x, {x.shape}; it returned {gradient.shape}")
        return np.array(gradient, order="C")  # grad may fill and return the same buffer each time

    def steps_in_c(
        self, x, rates, tol, overshoots, growth, every, state, gradient, previous, funs, norms, points, rule
    ):
        """Steps by a kernel, in x; see `kernels.reference_functions` for what it takes.

        Returns the steps taken, and (value, gradient) at x if they have been evaluated there.
        """
        d, spent = x.size, np.zeros(2, np.int64)
        found, values = np.empty(d), np.empty((d + 1 if self.grad is None else 0, 2))
        flat = (array.reshape(-1) for array in (gradient, previous))
        taken, reason = kernels.active.descend_function(
            self.f, self.grad, x.reshape(-1), rates, tol, overshoots, growth, every, state, *flat, found, values, funs,
            norms, points, spent, *rule,
        )  # fmt: skip
        self.nfev, self.njev = self.nfev + int(spent[0]), self.njev + int(spent[1])
        if reason not in (EVALUATED, DOUBTFUL):
            return taken, None
        if reason == DOUBTFUL:
            found, nfev = numdiff.mended_and_count(self.f, x, values[:-1], found, values[-1, 0])
            self.nfev += nfev
        fun = float(funs[taken])
        wanted = every and (rule[3] + taken) % every == 0
        return taken, (fun if wanted else None, found.reshape(x.shape))

    def to_user(self, x):
        return x.copy()

    def gradient_to_user(self, gradient):
        return gradient

    def curvature(self):
        return None


class Columns:
    """A LinearObjective in the user's own columns."""

    fun_is_free = True  # one pass over X gives the value and the gradient
    in_c = False
    in_user_units = True
    note = ""

    def __init__(self, objective, start):
        self.objective = objective
        shape, dtype = objective.shape, objective.dtype
        self.start = np.zeros(shape, dtype) if start is None else validation.weights(start, "init_x", shape, dtype)
        self.nfev = self.njev = 0

    def evaluate(self, w, want_fun):
        self.nfev += 1
        self.njev += 1
        return self.objective.value_and_gradient_at(w)

    def value(self, w):
        self.nfev += 1
        return self.objective.value_at(w)

    def settle(self, w, fun, gradient):
        return w, *((fun, gradient) if fun is not None else self.evaluate(w, True))

    def to_user(self, w):
        return w.copy()

    def gradient_to_user(self, gradient):
        return gradient

    def curvature(self):
        return self.objective.curvature

    def variables(self):
        """Shift and scale of the columns and scale of the intercept that lead to the variables of the path."""
        return np.zeros(self.objective.rows.d), np.ones(self.objective.rows.d), 1.0

    def centred_weights(self, z):
        """W and the intercepts at the shift of the columns, in float64."""
        return tuple(part.astype(np.float64) for part in self.objective.split(z))

    @property
    def has_bursts(self):
        """Only where a pass is short: a long one is better shared out to threads."""
        return self.objective.rows.one_array and len(self.objective.edges) == 2

    @property
    def burst_values(self):
        """How many numbers a step of a burst goes over."""
        return self.objective.rows.values * self.objective.rows.k

    def burst(self, w, rule, *arguments, offset=0.0):
        """See `kernels.reference.descend` for what is behind the rule: rates and all that follows."""
        o = self.objective
        rates, *stop, state, gradient, previous, funs, norms, points = arguments
        X, Y, weights = o.rows.arrays((0, o.rows.n))
        shape = (o.shape[0], o.rows.k)
        recorded = (len(points), *(shape if len(points) else (0, 0)))
        taken, reason = kernels.active.descend(
            X, Y, w.reshape(shape), weights, *o.codes, o.rows.gemm, o.factor, o.l2, offset, rates, *stop, state,
            gradient.reshape(shape), previous.reshape(shape), funs, norms, points.reshape(recorded), *rule,
        )  # fmt: skip
        spent = taken + (reason != kernels.reference.ALL_STEPS)
        self.nfev += spent
        self.njev += spent
        return taken, reason


class Rescaled(Columns):
    """A LinearObjective in variables in which every column weighs the same.

    One change of variables: with m the column means (0 without an intercept) and r = 1/√(c·Σs(x − m)² + l2), which
    makes the diagonal of the Hessian's bound 1,

        w = w₀ + r·z,        b = b₀ + m·w₀ + r_b·z_b − m·w,        h = (X − m)w + (b + m·w).

    X is not copied: the kernels subtract m from the block of rows that they hold in cache, and r is applied to weights
    and gradients. A column that does not vary has r = 0: its weight stays where it was.
    """

    in_user_units = False
    has_bursts = False

    def __init__(self, objective, start):
        super().__init__(objective, start)
        o = objective
        self._w0, b0 = (part.astype(np.float64) for part in o.split(self.start))
        self.start = np.zeros_like(self.start)
        means = o.column_means() if o.fit_intercept else np.zeros(o.rows.d)
        # The kernels subtract numbers of the dtype of X, and the algebra must use the same ones.
        shift = means.astype(o.dtype)
        self._means = shift.astype(np.float64)
        self._shift = shift if o.fit_intercept else None
        lengths = o.column_lengths(self._means)
        if o.fit_intercept:  # a column that varies by no more than the rounding of its numbers is constant
            spread = lengths / np.sqrt(o.total_weight)
            lengths[spread <= np.finfo(o.dtype).eps * np.abs(self._means)] = 0
        # Where the loss has no bounded curvature, that at h = 0 serves: the columns are to be alike, no more.
        c = o.loss_curvature if np.isfinite(o.loss_curvature) else o.factor
        self._scale = np.hypot(np.sqrt(c) * lengths, np.sqrt(o.l2))
        self._scale[self._scale == 0] = np.inf
        self._r = (1 / self._scale)[:, None]
        self._r_b = 1 / np.sqrt(c * o.total_weight)
        self._b0 = b0 + self._means @ self._w0

    def centred_weights(self, z):
        """W and the intercepts of the centred model, b + m·W, in float64."""
        Z, z_b = self.objective.split(z)
        return self._w0 + self._r * Z, self._b0 + self._r_b * z_b

    def variables(self):
        return self._means, self._scale, 1 / self._r_b

    def evaluate(self, z, want_fun):
        o = self.objective
        self.nfev += 1
        self.njev += 1
        with np.errstate(all="ignore"):
            W, b = self.centred_weights(z)
            totals, grad_W, grad_b = o.sums(W.astype(o.dtype), b.astype(o.dtype), self._shift, True)
            gradient = o.join(self._r * (o.factor * grad_W + o.l2 * W), self._r_b * o.factor * grad_b)
            return o.factor * float(totals.sum()) + o.penalty(W), gradient.astype(z.dtype)

    def value(self, z):
        o = self.objective
        self.nfev += 1
        with np.errstate(all="ignore"):
            W, b = self.centred_weights(z)
            (totals,) = o.sums(W.astype(o.dtype), b.astype(o.dtype), self._shift, False)
            return o.factor * float(totals.sum()) + o.penalty(W)

    def settle(self, z, fun, gradient):
        w = self.to_user(z)  # rounded to the user's units, so what is reported is computed there
        return w, *super().evaluate(w, True)

    def to_user(self, z):
        W, b = self.centred_weights(z)
        return self.objective.join(W, b - self._means @ W).astype(self.objective.dtype)

    def gradient_to_user(self, gradient):
        grad_W, grad_b = (part.astype(np.float64) for part in self.objective.split(gradient))
        grad_b = grad_b / self._r_b
        # A column that does not vary has a gradient only through the intercept.
        grad_W = grad_W * np.where(np.isfinite(self._scale), self._scale, 0.0)[:, None]
        if self.objective.fit_intercept:  # ∂/∂w at fixed b, from ∂/∂w at fixed b + m·w
            grad_W += self._means[:, None] * grad_b
        return self.objective.join(grad_W, grad_b).astype(self.objective.dtype)

    def curvature(self):
        return self._curvature

    @functools.cached_property
    def _curvature(self):
        return self.objective.curvature_in(*self.variables())


class Whitened(Rescaled):
    """A LinearObjective in variables in which the bound of its Hessian is the identity: u with z = Tu, TᵀHT = I.

    H = c·AᵀA + l2 is the Gram matrix of the standardised columns times the bound c of the loss's curvature, so a step
    with rate 1 is a step preconditioned by H⁻¹. Directions that are collinear but for rounding stay where they are.
    Where the loss has no bound, c is its curvature at h = 0, and the rate must be found by trying.
    """

    def __init__(self, objective, start):
        super().__init__(objective, start)
        o = objective
        c = o.loss_curvature if np.isfinite(o.loss_curvature) else o.factor
        H = c * o.gram(*self.variables()) + np.diag(o.ridge(self._scale))
        identity = np.eye(len(H))
        try:
            lower = np.linalg.cholesky(H)
            # Its diagonal falls as far as the condition number is high.
            if np.min(np.diag(lower)) < 1e-6 * np.max(np.diag(lower)):
                raise np.linalg.LinAlgError
            self._T = np.linalg.solve(lower, identity).T
            self._lost = 0
        except np.linalg.LinAlgError:
            eigenvalues, vectors = np.linalg.eigh(H)
            kept = eigenvalues > 4 * len(H) * np.finfo(np.float64).eps * eigenvalues[-1]
            self._T = np.where(kept, vectors / np.sqrt(np.where(kept, eigenvalues, 1)), 0)
            self._lost = int(np.count_nonzero(~kept) - np.count_nonzero(~np.isfinite(self._scale)))
        self.start = self.start.astype(np.float64)

    def centred_weights(self, u):
        return super().centred_weights((self._T @ u.reshape(len(u), -1)).reshape(u.shape))

    def evaluate(self, u, want_fun):
        fun, gradient = super().evaluate(u, want_fun)
        return fun, (self._T.T @ gradient.reshape(len(u), -1)).reshape(u.shape)

    def gradient_to_user(self, gradient):
        # The way back through T: with a direction lost there is none, and the least that fits is taken.
        flat = gradient.reshape(len(gradient), -1)
        return super().gradient_to_user(np.linalg.lstsq(self._T.T, flat, rcond=None)[0].reshape(gradient.shape))

    @functools.cached_property
    def _curvature(self):
        largest = 1.0 if np.isfinite(self.objective.loss_curvature) else np.inf
        return Curvature(largest, 1.0 if self.objective.quadratic else None, max(0, self._lost))


class Compressed:
    """A squared loss as what it is, a quadratic function of the weights: X is read once, and a step costs O(d²).

    With A the design and e the residuals at z = 0, both in the variables of `inner` (Columns or Rescaled),

        F(z) = F(0) − cᵀz + ½·zᵀGz = ½‖Rz − t‖² + F(0) − ½‖t‖²,
        G = f·AᵀA + l2·diag(1/scale²) = RᵀR,    c = f·Aᵀe − l2·w₀/scale,    t = R⁻ᵀc,

    so the run goes over a table of d rows, R and t, by the kernels that go over X otherwise.
    """

    fun_is_free = True
    in_c = False
    has_bursts = True
    note = ""

    def __init__(self, inner):
        self.inner, self.in_user_units = inner, inner.in_user_units
        self.nfev = self.njev = 0
        o = inner.objective
        d, k = o.rows.d, o.rows.k
        shift, scale, intercept_scale = inner.variables()
        W, b = inner.centred_weights(np.zeros(o.shape))
        lengths = np.where(np.isfinite(scale), scale, 0.0)[:, None]
        G, c, squares = np.diag(o.ridge(scale)), np.zeros((o.shape[0], k)), 0.0
        for A, root, part in o.design(shift, scale, intercept_scale):
            residual = root[:, None] * (o.rows.Y[part] - b) - A[:, :d] @ (lengths * W)
            G += o.factor * (A.T @ A)
            c += o.factor * (A.T @ residual)
            squares += o.factor * float(np.sum(residual**2))
        c[:d] -= o.l2 * W / scale[:, None]
        still = np.flatnonzero(np.diag(G) == 0)  # columns that cannot move
        G[still, still] = 1
        eigenvalues = np.linalg.eigvalsh(G)
        self.condition = float(eigenvalues[-1] / eigenvalues[0]) if eigenvalues[0] > 0 else np.inf
        if self.condition > WELL_CONDITIONED:
            return
        R = np.linalg.cholesky(G).T
        t = np.linalg.solve(R.T, c)
        self._offset = 0.5 * squares + o.penalty(W) - 0.5 * float(np.sum(t**2))
        self._table = Columns(LinearObjective(R, t.reshape(o.shape)), None)
        self._curvature = curvature.extremes(G, len(G), exact=True)
        self.start = inner.start.astype(np.float64)

    @classmethod
    def of(cls, inner, steps):
        """The path compressed where that is possible, quicker for so many steps, and as exact; else `inner`."""
        o = inner.objective
        n, d = o.rows.n, o.shape[0]
        # A value of X costs about as much in a direct step as d/8 values of G, by BLAS, in forming it.
        if not o.quadratic or d > GRAM_COLUMNS or o.rows.values < 1 << 15 or steps <= 4 + d / 8 or n < 2 * d:
            return inner
        path = cls(inner)
        if path.condition <= WELL_CONDITIONED:
            return path
        inner.note = (
            f"; by passes over X, because the condition number of the Gram matrix is {path.condition:.0e} and steps on "
            "it would lose digits"
        )
        return inner

    def evaluate(self, z, want_fun):
        self.nfev += 1
        self.njev += 1
        fun, gradient = self._table.objective.value_and_gradient_at(z)
        return fun + self._offset, gradient

    def value(self, z):
        self.nfev += 1
        return self._table.objective.value_at(z) + self._offset

    @property
    def burst_values(self):
        return self._table.burst_values

    def burst(self, z, rule, *arguments):
        found = self._table.burst(z, rule, *arguments, offset=self._offset)
        self.nfev, self.njev = self.nfev + self._table.nfev, self.njev + self._table.njev
        self._table.nfev = self._table.njev = 0
        return found

    def settle(self, z, fun, gradient):
        w = self.to_user(z)
        self.nfev += 1
        self.njev += 1
        return w, *self.inner.objective.value_and_gradient_at(w)

    def to_user(self, z):
        return self.inner.to_user(z).astype(self.inner.objective.dtype)

    def gradient_to_user(self, gradient):
        return self.inner.gradient_to_user(gradient).astype(self.inner.objective.dtype)

    def curvature(self):
        return self._curvature


class Penalised:
    """Another path, with the penalty of an update added to its values.

    Gradients stay those of the function alone: the update takes care of the penalty, and so does who judges them.
    """

    def __init__(self, inner, update):
        self._inner, self._update = inner, update

    def __getattr__(self, name):  # all that is not about values
        return getattr(self._inner, name)

    def __setattr__(self, name, value):
        if name in ("nfev", "njev"):
            setattr(self._inner, name, value)
        else:
            super().__setattr__(name, value)

    def evaluate(self, z, want_fun):
        fun, gradient = self._inner.evaluate(z, want_fun)
        return (None if fun is None else fun + self._update.penalty(z)), gradient

    def value(self, z):
        return self._inner.value(z) + self._update.penalty(z)

    def settle(self, z, fun, gradient):
        x, found, jac = self._inner.settle(z, fun, gradient)
        return x, found if found is fun else found + self._update.penalty(x), jac  # a path may keep what it is given
