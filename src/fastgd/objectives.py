"""What can be descended: any function, and the loss of a one-layer model.

The loop in `descent.py` walks a *path*: an object made for one run that has

    start                   where the run begins, in the variables of the path
    evaluate(z, want_fun)   value (None where it is neither wanted nor free) and gradient at z
    to_user(z)              z in the user's units;  gradient_to_user(g) for a gradient
    settle(z, fun, g)       z in the user's units, with value and gradient at exactly that point
    curvature()             bounds of the Hessian's eigenvalues in the variables of the path, or None
    fun_is_free             whether a gradient brings the value with it
    nfev, njev              what the run has spent

`FunctionPath` walks a function; `Columns` an objective in the user's own columns; `Rescaled` the same objective in
standardised ones. The loop does not know which.
"""

import functools
import typing

import numpy as np

from fastgd import curvature, kernels, numdiff, validation
from fastgd.kernels.reference import ACTIVATIONS, LOSSES

# X is walked in chunks of about this many values. Their cut depends on the shape of X alone and their sums are added in
# a fixed tree, so that a result does not depend on who computed which chunk.
CHUNK_VALUES = 1 << 19


class Curvature(typing.NamedTuple):
    """Of an objective, at every point.

    largest: a bound of the Hessian's largest eigenvalue. smallest: its smallest positive one, where that is the same
    everywhere and known. lost: how many eigenvalues drown in rounding beside the largest, so that nothing can be said
    of the directions that belong to them.
    """

    largest: float
    smallest: float | None
    lost: int = 0


class FunctionPath:
    """A function of an array, with its gradient or a numerical one."""

    fun_is_free = False

    def __init__(self, f, grad, start):
        self.f = validation.callable_(f, "f")
        self.grad = grad if grad is None else validation.callable_(grad, "grad")
        self.start = np.array(validation.real_array(start, "init_x", dtype=np.float64), order="C")
        self.nfev = self.njev = 0

    def evaluate(self, x, want_fun):
        return (self._value(x) if want_fun else None), self._gradient(x)

    def settle(self, x, fun, gradient):
        return x, self._value(x) if fun is None else fun, gradient

    def _value(self, x):
        self.nfev += 1
        return kernels.active.evaluate(self.f, x.reshape(-1), x.shape, (), validation.any_number)

    def _gradient(self, x):
        self.njev += 1
        if self.grad is None:
            self.nfev += numdiff.evaluations(x.size, "central")
            steps = numdiff.steps(x, None, "central")
            return numdiff.differences(self.f, x, steps, "central", (), validation.any_number)
        gradient = validation.real_array(self.grad(x.copy()), "what grad returned", dtype=np.float64, finite=False)
        if gradient.shape != x.shape:
            raise ValueError(f"grad must return an array of the shape of x, {x.shape}; it returned {gradient.shape}")
        return np.array(gradient, order="C")  # grad may fill and return the same buffer each time

    def to_user(self, x):
        return x.copy()

    def gradient_to_user(self, gradient):
        return gradient

    def curvature(self):
        return None


class LinearObjective:
    """The loss of a one-layer model ŷ = f(Xw + b) as a function of its weights.

    Parameters
    ----------
    X : array_like, (n, d)
        One row for each sample. float32 and float64 arrays of any strides are used where they are, without a copy;
        integers become float64.
    y : array_like, (n,) or (n, k)
        Targets.
    activation : {"identity", "sigmoid", "tanh"}
        f.
    loss : {"sse", "mse"}
        "sse" is ½ ΣΣ s(y − f)², the sum of squared errors of the textbook; "mse" is (1/Σs) ΣΣ s(y − f)², the mean over
        samples (not over outputs), without the half.
    fit_intercept : bool
        Whether there is a b. It is then the last row of w.
    l2 : float
        Adds ½·l2·‖w‖², the intercept excepted.
    sample_weight : array_like, (n,), optional
        s, not negative, all ones without it. A weight of 2 is the same as the sample twice.

    Attributes
    ----------
    shape : tuple
        Shape of w: (d,) or (d, k), with one row more where there is an intercept.
    dtype : dtype
        Of w and of gradients: that of X. Losses are accumulated in float64 whatever it is.

    Raises
    ------
    TypeError, ValueError
        An argument is not real and finite, or shapes do not fit.

    Examples
    --------
    >>> objective = LinearObjective([[0.1, 0.3]], [0.2], activation="sigmoid")
    >>> objective.gradient([-0.8, 0.5])
    array([0.00792761, 0.02378282])
    """

    def __init__(self, X, y, *, activation="identity", loss="sse", fit_intercept=False, l2=0.0, sample_weight=None):
        self.activation = validation.choice(activation, "activation", ACTIVATIONS)
        self.loss = validation.choice(loss, "loss", ("sse", "mse"))
        self.fit_intercept = validation.boolean(fit_intercept, "fit_intercept")
        self.l2 = validation.scalar(l2, "l2", minimum=0)
        self.X, self.y = validation.data(X, y)
        self.dtype = self.X.dtype
        n, d = self.X.shape
        self.shape = (d + self.fit_intercept, *self.y.shape[1:])
        self._Y = self.y.reshape(n, -1)
        self._s = np.empty(0, self.dtype)
        if sample_weight is not None:
            self._s = validation.real_array(sample_weight, "sample_weight", ndim=1, dtype=self.dtype)
            if len(self._s) != n:
                raise ValueError(f"sample_weight has {len(self._s)} entries, X has {n} rows: they must be equal")
            if np.any(self._s < 0) or not np.any(self._s > 0):
                raise ValueError("sample_weight must not be negative, and at least one must be positive")
        self.total_weight = float(np.sum(self._s, dtype=np.float64)) if self._s.size else float(n)
        # The kernels sum ½(f − y)²; "mse" is the mean without the half.
        self._factor = 1.0 if self.loss == "sse" else 2.0 / self.total_weight
        self._no_shift = np.empty(0, self.dtype)

    def __repr__(self):
        n, d = self.X.shape
        return (
            f"LinearObjective({n} x {d} {self.dtype}, activation={self.activation!r}, loss={self.loss!r}, "
            f"fit_intercept={self.fit_intercept}, l2={self.l2:g})"
        )

    # ------------------------------------------------------------------------------------------------ for the user

    def value(self, w):
        """The objective at w, a float.

        Parameters
        ----------
        w : array_like of `shape`
        """
        return self._value(validation.weights(w, "w", self.shape, self.dtype))

    def gradient(self, w):
        """The gradient at w, an array of the shape and dtype of w."""
        return self.value_and_gradient(w)[1]

    def value_and_gradient(self, w):
        """Both, in one pass over X."""
        return self._value_and_gradient(validation.weights(w, "w", self.shape, self.dtype))

    def numerical_gradient(self, w, h=None):
        """The gradient by central differences of `value`: slow, and independent of the analytic one.

        Parameters
        ----------
        w : array_like of `shape`
        h : float or array_like, optional
            As for `fastgd.numerical_gradient`.
        """
        w = validation.weights(w, "w", self.shape, np.float64)
        if self.dtype != np.float64:  # differences of float32 weights would be lost in their rounding
            return self._in_double().numerical_gradient(w, h).astype(self.dtype)
        return numdiff.numerical_gradient(self._value, w, h)

    def predict(self, w, X=None):
        """ŷ = f(Xw + b) for the rows of X, or of the objective's own X.

        Returns
        -------
        ndarray, (n,) or (n, k), of the objective's dtype
        """
        w = validation.weights(w, "w", self.shape, self.dtype)
        X = self.X if X is None else validation.real_array(X, "X", ndim=2, dtype=self.dtype)
        if X.shape[1] != self.X.shape[1]:
            raise ValueError(f"X must have {self.X.shape[1]} columns; got shape {X.shape}")
        W, b = self._split(w)
        out = np.empty((len(X), W.shape[1]), self.dtype)
        kernels.active.predict(X, W, b, ACTIVATIONS[self.activation], out)
        return out.reshape(len(X), *self.shape[1:])

    def lipschitz(self):
        """An upper bound of the Hessian's largest eigenvalue, valid at every w.

        c·λmax(Xᵀ diag(s) X) + l2, with c the largest second derivative of the loss by h and a column of ones in X for
        the intercept. Descent with a rate of at most 1/L never increases the objective; above 2/L it diverges where
        the curvature is that large. Exact for the identity and up to 512 columns; an upper bound within about 10 %
        above.

        Returns
        -------
        float
        """
        return self.curvature.largest

    # --------------------------------------------------------------------------------------------------- the passes

    def _in_double(self):
        """The same objective with float64 data."""
        return LinearObjective(
            self.X.astype(np.float64), self.y.astype(np.float64), activation=self.activation, loss=self.loss,
            fit_intercept=self.fit_intercept, l2=self.l2,
            sample_weight=self._s.astype(np.float64) if self._s.size else None,
        )  # fmt: skip

    def _chunks(self):
        n, d = self.X.shape
        rows = max(1, CHUNK_VALUES // d)
        return [slice(start, min(start + rows, n)) for start in range(0, n, rows)]

    def _split(self, w):
        """Weights (d, k) and intercepts (k,) of w."""
        d = self.X.shape[1]
        W = w.reshape(len(w), -1)
        return W[:d], W[d] if self.fit_intercept else np.zeros(W.shape[1], w.dtype)

    def _join(self, W, b):
        return (np.concatenate([W, b[None, :]]) if self.fit_intercept else W).reshape(self.shape)

    def _sums(self, W, b, shift, want_gradient):
        """Σ loss, and its gradients by W and b in float64, over all rows; without the factor of the loss."""
        codes = ACTIVATIONS[self.activation], LOSSES["squared"]
        parts = []
        for rows in self._chunks():
            data = self.X[rows], self._Y[rows], W, b, shift, self._s[rows] if self._s.size else self._s
            if want_gradient:
                grad_W, grad_b = np.empty(W.shape), np.empty(b.shape)
                total = kernels.active.total_loss_and_gradient(*data, *codes, grad_W, grad_b)
                parts = _carry(parts, (total, grad_W, grad_b))
            else:
                parts = _carry(parts, (kernels.active.total_loss(*data, *codes),))
        return _total(parts)

    def _value(self, w):
        W, b = self._split(w)
        with np.errstate(all="ignore"):
            (total,) = self._sums(W, b, self._no_shift, False)
            return self._factor * total + self._penalty(W)

    def _value_and_gradient(self, w):
        W, b = self._split(w)
        with np.errstate(all="ignore"):
            total, grad_W, grad_b = self._sums(W, b, self._no_shift, True)
            gradient = self._join(self._factor * grad_W + self.l2 * W, self._factor * grad_b)
            return self._factor * total + self._penalty(W), gradient.astype(self.dtype)

    def _penalty(self, W):
        return 0.5 * self.l2 * float(np.sum(np.square(W, dtype=np.float64))) if self.l2 else 0.0

    # ----------------------------------------------------------------------------------------------------- curvature

    @functools.cached_property
    def curvature(self):
        """In the user's own columns."""
        return self._curvature_of(0.0, np.ones(self.X.shape[1]), 1.0)

    @functools.cached_property
    def loss_curvature(self):
        """c ≥ |∂²loss/∂h²| of one sample of weight 1, at any h."""
        return self._factor * curvature.squared_loss_bound(self.activation, float(self.y.min()), float(self.y.max()))

    def _rows(self, shift, scale):
        """The rows √s·(X − shift)/scale in float64, a chunk at a time; with √s beside them."""
        for rows in self._chunks():
            root = np.sqrt(self._s[rows].astype(np.float64)) if self._s.size else np.ones(len(self.X[rows]))
            yield (self.X[rows].astype(np.float64) - shift) / scale * root[:, None], root

    def _curvature_of(self, shift, scale, intercept_scale):
        """Extreme eigenvalues of c·AᵀA + l2·diag(1/scale², 0), A being the shifted and scaled rows with, where there is
        an intercept, a column of ones over intercept_scale.

        An infinite scale stands for a column that cannot move; it contributes nothing.
        """
        c, d = self.loss_curvature, self.shape[0]
        rounding = 4 * d * np.finfo(np.float64).eps
        ridge = np.zeros(d)
        ridge[: len(scale)] = (np.sqrt(self.l2) / scale) ** 2

        def blocks():
            for A, root in self._rows(shift, scale):
                yield np.column_stack([A, root / intercept_scale]) if self.fit_intercept else A

        if d <= curvature.EXACT_COLUMNS:
            H = np.diag(ridge)
            for A in blocks():
                H += c * (A.T @ A)
            eigenvalues = np.linalg.eigvalsh(H)
            # The last digits of an eigenvalue are rounding: a bound must not be below it.
            largest = float(eigenvalues[-1]) * (1 + rounding)
            positive = eigenvalues[eigenvalues > rounding * largest]
            exact = self.activation == "identity"  # then H is the Hessian, not only a bound
            movable = int(np.count_nonzero(np.isfinite(scale))) + self.fit_intercept
            return Curvature(
                largest, float(positive[0]) if exact and len(positive) else None, max(0, movable - len(positive))
            )

        def multiply(v):
            u = ridge * v
            for A in blocks():
                u += c * (A.T @ (A @ v))
            return u

        trace = float(ridge.sum()) + c * sum(float(np.sum(A**2)) for A in blocks())
        return Curvature(curvature.largest_eigenvalue(multiply, d, trace), None)

    def column_lengths(self, shift):
        """√Σs(x − shift)² of each column, without overflow or underflow of the squares."""
        largest = np.max([np.max(np.abs(A), axis=0) for A, _ in self._rows(shift, 1.0)], axis=0)
        unit = np.where(largest > 0, largest, 1.0)
        return unit * np.sqrt(sum(np.sum(A**2, axis=0) for A, _ in self._rows(shift, unit)))

    def column_means(self):
        total = sum(np.sum(A * root[:, None], axis=0) for A, root in self._rows(0.0, 1.0))
        return total / self.total_weight


class Columns:
    """A LinearObjective in the user's own columns."""

    fun_is_free = True  # one pass over X gives the value and the gradient

    def __init__(self, objective, start):
        self.objective = objective
        shape, dtype = objective.shape, objective.dtype
        self.start = np.zeros(shape, dtype) if start is None else validation.weights(start, "init_x", shape, dtype)
        self.nfev = self.njev = 0

    def evaluate(self, w, want_fun):
        self.nfev += 1
        self.njev += 1
        return self.objective._value_and_gradient(w)

    def settle(self, w, fun, gradient):
        return w, fun, gradient

    def to_user(self, w):
        return w.copy()

    def gradient_to_user(self, gradient):
        return gradient

    def curvature(self):
        return self.objective.curvature


class Rescaled(Columns):
    """A LinearObjective in variables in which every column weighs the same.

    One change of variables: with m the column means (0 without an intercept) and r = 1/√(c·Σs(x − m)² + l2), which
    makes the diagonal of the Hessian's bound 1,

        w = w₀ + r·z,        b = b₀ + m·w₀ + r_b·z_b − m·w,        h = (X − m)w + (b + m·w).

    X is not copied: the kernels subtract m from the block of rows that they hold in cache, and r is applied to weights
    and gradients. A column that does not vary has r = 0: its weight stays where it was.
    """

    def __init__(self, objective, start):
        super().__init__(objective, start)
        o = objective
        self._w0, b0 = (part.astype(np.float64) for part in o._split(self.start))
        self.start = np.zeros_like(self.start)
        means = o.column_means() if o.fit_intercept else np.zeros(o.X.shape[1])
        # The kernels subtract numbers of the dtype of X, and the algebra must use the same ones.
        shift = means.astype(o.dtype)
        self._means = shift.astype(np.float64)
        self._shift = shift if o.fit_intercept else o._no_shift
        lengths = o.column_lengths(self._means)
        if o.fit_intercept:  # a column that varies by its own rounding only is constant
            spread = lengths / np.sqrt(o.total_weight)
            lengths[spread <= 8 * np.finfo(o.dtype).eps * np.abs(self._means)] = 0
        self._scale = np.hypot(np.sqrt(o.loss_curvature) * lengths, np.sqrt(o.l2))
        self._scale[self._scale == 0] = np.inf
        self._r = (1 / self._scale)[:, None]
        self._r_b = 1 / np.sqrt(o.loss_curvature * o.total_weight)
        self._b0 = b0 + self._means @ self._w0

    def _weights(self, z):
        """W and the intercept of the centred model, b + m·W, in float64."""
        Z, z_b = self.objective._split(z)
        return self._w0 + self._r * Z, self._b0 + self._r_b * z_b

    def evaluate(self, z, want_fun):
        o = self.objective
        self.nfev += 1
        self.njev += 1
        with np.errstate(all="ignore"):
            W, b = self._weights(z)
            total, grad_W, grad_b = o._sums(W.astype(o.dtype), b.astype(o.dtype), self._shift, True)
            gradient = o._join(self._r * (o._factor * grad_W + o.l2 * W), self._r_b * o._factor * grad_b)
            return o._factor * total + o._penalty(W), gradient.astype(o.dtype)

    def settle(self, z, fun, gradient):
        w = self.to_user(z)  # rounded to the user's units, so what is reported is computed there
        return w, *super().evaluate(w, True)

    def to_user(self, z):
        W, b = self._weights(z)
        return self.objective._join(W, b - self._means @ W).astype(z.dtype)

    def gradient_to_user(self, gradient):
        grad_W, grad_b = (part.astype(np.float64) for part in self.objective._split(gradient))
        grad_b = grad_b / self._r_b
        # A column that does not vary has a gradient only through the intercept.
        grad_W = grad_W * np.where(np.isfinite(self._scale), self._scale, 0.0)[:, None]
        if self.objective.fit_intercept:  # ∂/∂w at fixed b, from ∂/∂w at fixed b + m·w
            grad_W += self._means[:, None] * grad_b
        return self.objective._join(grad_W, grad_b).astype(gradient.dtype)

    def curvature(self):
        return self._curvature

    @functools.cached_property
    def _curvature(self):
        return self.objective._curvature_of(self._means, self._scale, 1 / self._r_b)


def _carry(parts, new):
    """Add a chunk's sums to a binary counter of sums: the tree depends on the number of chunks alone, and only log₂ of
    them are kept."""
    level = 0
    while parts and parts[-1][0] == level:
        _, old = parts.pop()
        new = tuple(a + b for a, b in zip(old, new, strict=True))
        level += 1
    parts.append((level, new))
    return parts


def _total(parts):
    while len(parts) > 1:
        _, new = parts.pop()
        level, old = parts.pop()
        parts.append((level, tuple(a + b for a, b in zip(old, new, strict=True))))
    return parts[0][1]
