"""What can be descended besides a function: the loss of a one-layer model.

An objective does not change: runs that walk on it keep what they need in a path of their own (`paths.py`).
"""

import copy
import functools
import math

import numpy as np

from fastgd import curvature, kernels, perturbed, validation
from fastgd.curvature import Curvature
from fastgd.data import inputs, threads
from fastgd.kernels.reference import ACTIVATIONS, LOSSES

# The kernel's loss behind each name, and the activations that it belongs to.
LOSS_KERNELS = {
    "sse": ("squared", tuple(ACTIVATIONS)),
    "mse": ("squared", tuple(ACTIVATIONS)),
    "log": ("log", ("sigmoid", "softmax")),
    "huber": ("huber", tuple(ACTIVATIONS)),
    "poisson": ("poisson", ("exp",)),
    "hinge": ("hinge", ("identity",)),
    "squared_hinge": ("squared_hinge", ("identity",)),
    "epsilon_insensitive": ("epsilon_insensitive", tuple(ACTIVATIONS)),
}

# Up to this many columns the matrix of their second moments is formed: it is what most routes start from.
MOMENT_COLUMNS = 2048
# Calls of a kernel for each thread in a pass.
SHARES = 8


class LinearObjective:
    """The loss of a one-layer model ŷ = f(Xw + b) as a function of its weights.

    Parameters
    ----------
    X : array_like, CSR matrix or Rows, (n, d)
        One row for each sample. float32 and float64 arrays of any strides are used where they are, without a copy;
        integers become float64. scipy.sparse matrices and arrays are used as CSR. Rows are data of another kind (see
        `fastgd.data.Rows`).
    y : array_like, (n,) or (n, k)
        Targets. For the log loss 0, 1 or a probability; with the softmax one column for each class, or (n,) numbers of
        classes, 0 to k − 1. For the hinges −1 or 1.
    activation : {"identity", "sigmoid", "tanh", "relu", "softplus", "exp", "softmax"}
        f. The softmax is over the k outputs of a sample.
    loss : {"sse", "mse", "log", "huber", "poisson", "hinge", "squared_hinge", "epsilon_insensitive"}
        "sse" is ½ ΣΣ s(y − f)², the sum of squared errors of the textbook. All others are means, (1/Σs) ΣΣ s·l over
        samples (not over outputs), with l =
        "mse": (y − f)², without the half;
        "log": cross-entropy, −y log f − (1 − y) log(1 − f) with the sigmoid and −Σ y log f with the softmax;
        "huber": ½r² for |r| ≤ 1.35 and 1.35(|r| − ½·1.35) beyond, r = f − y;
        "poisson": f − y·log f with f = exp, the negative log-likelihood less log y!;
        "hinge": max(0, 1 − y·f), "squared_hinge": its square, without a half; f = h;
        "epsilon_insensitive": max(0, |f − y| − 0.1).
        At a kink the gradient takes the subgradient 0.
    fit_intercept : bool
        Whether there is a b. It is then the last row of w.
    l2 : float
        Adds ½·l2·‖w‖², the intercept excepted.
    sample_weight : array_like, (n,), optional
        s, not negative, all ones without it. A weight of 2 is the same as the sample twice.
    n_jobs : int, optional
        Threads for a pass over X; −1 for all cores, None for one. Small data are not threaded, and no result depends on
        it by a bit.

    Attributes
    ----------
    shape : tuple
        Shape of w: (d,) or (d, k), with one row more where there is an intercept.
    dtype : dtype
        Of w and of gradients: that of X. Losses are accumulated in float64 whatever it is.

    Raises
    ------
    TypeError, ValueError
        An argument is not real and finite, shapes do not fit, or the loss does not go with the activation or the
        targets.

    Examples
    --------
    >>> objective = LinearObjective([[0.1, 0.3]], [0.2], activation="sigmoid")
    >>> objective.gradient([-0.8, 0.5])
    array([0.00792761, 0.02378282])
    """

    def __init__(
        self,
        X,
        y,
        *,
        activation="identity",
        loss="sse",
        fit_intercept=False,
        l2=0.0,
        sample_weight=None,
        n_jobs=None,
    ):
        self.activation = validation.choice(activation, "activation", ACTIVATIONS)
        self.loss = validation.choice(loss, "loss", LOSS_KERNELS)
        kernel, activations = LOSS_KERNELS[loss]
        if activation not in activations:
            fitting = " or ".join(map(repr, activations))
            raise ValueError(f"loss={loss!r} goes with activation {fitting}; got {activation!r}")
        self.fit_intercept = validation.boolean(fit_intercept, "fit_intercept")
        self.l2 = validation.scalar(l2, "l2", minimum=0)
        self.n_jobs = n_jobs
        self._jobs = threads.job_count(n_jobs)
        X, y = inputs.data(X, y)
        if activation == "softmax":
            y = validation.classes(y, X.dtype) if loss == "log" else validation.several(y, "softmax")
        if loss == "log":
            validation.between(y, "y", 0, 1, "for the log loss")
        if loss == "poisson":
            validation.between(y, "y", 0, math.inf, "for the Poisson loss")
        if loss in ("hinge", "squared_hinge"):
            validation.signs(y, "for the hinge losses")
        self.X, self.y, self.dtype = X, y, X.dtype
        n, d = X.shape
        self.shape = (d + self.fit_intercept, *y.shape[1:])
        s = np.empty(0, X.dtype)
        if sample_weight is not None:
            s = validation.sample_weights(sample_weight, n, X.dtype)
        self.rows = inputs.rows_of(X, y.reshape(n, -1), s)
        self.edges = np.array([0, *(last for _, last in self.rows.blocks())], np.int64)
        self.total_weight = self.rows.total_weight
        # The kernels sum l, or ½(f − y)² for the squared losses.
        self.factor = {"sse": 1.0, "mse": 2.0 / self.total_weight}.get(loss, 1.0 / self.total_weight)
        self.codes = ACTIVATIONS[activation], LOSSES[kernel]

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
        return self.value_at(validation.weights(w, "w", self.shape, self.dtype, copy=False))

    def gradient(self, w):
        """The gradient at w, an array of the shape and dtype of w."""
        return self.value_and_gradient(w)[1]

    def value_and_gradient(self, w):
        """Both, in one pass over X."""
        return self.value_and_gradient_at(validation.weights(w, "w", self.shape, self.dtype, copy=False))

    def numerical_gradient(self, w, h=None):
        """The gradient by central differences of the loss: independent of the analytic one, to hold that against it.

        Only values of the loss are used. One pass over X moves every weight, so it costs 1 to 3 times `gradient` for a
        squared loss with the identity, and 7 to 20 times where exponentials are needed, however many columns there are.
        All is computed in float64, from float32 data too, and the differences are formed row by row: what is left of
        rounding is about ε·|loss of a row|/h, and of truncation (h·x)²/6 times its third derivative.

        Parameters
        ----------
        w : array_like of `shape`
            Taken in float64. Never written to.
        h : float or array_like, optional
            The step, or one for each weight, positive; ε^(1/3)·max(1, |w|) without it, ε being 2.2e-16. The divisor is
            the distance between w + h and w − h as they are in floating point.

        Returns
        -------
        ndarray of `shape` and `dtype`

        Raises
        ------
        TypeError, ValueError
            w or h is not of that kind, a step vanishes beside its weight or leaves the floats, or the loss is not
            finite where it is looked at.

        Notes
        -----
        Within a step of a kink (relu, "hinge", "epsilon_insensitive", or the corner of "huber") a row's difference is
        between its slopes on both sides, where `gradient` has one of them.

        Examples
        --------
        >>> objective = LinearObjective([[0.1, 0.3]], [0.2], activation="sigmoid")
        >>> objective.numerical_gradient([-0.8, 0.5])
        array([0.00792761, 0.02378282])
        """
        return perturbed.numerical_gradient(self, w, h)

    def predict(self, w, X=None):
        """ŷ = f(Xw + b) for the rows of X, or of the objective's own X.

        Returns
        -------
        ndarray, (n,) or (n, k), of the objective's dtype
        """
        w = validation.weights(w, "w", self.shape, self.dtype)
        source = self.rows
        if X is not None:
            X = inputs.samples(X, dtype=self.dtype, least=0)
            if X.shape[1] != self.X.shape[1]:
                raise ValueError(f"X must have {self.X.shape[1]} columns; got shape {X.shape}")
            no_targets = np.empty((X.shape[0], self.rows.k), self.dtype)
            source = inputs.rows_of(X, no_targets, np.empty(0, self.dtype))
        W, b = self.split(w)
        return source.predict(W, b, self.codes[0]).reshape(source.n, *self.shape[1:])

    def lipschitz(self):
        """An upper bound of the Hessian's largest eigenvalue, valid at every w.

        c·λmax(Xᵀ diag(s) X) + l2, with c the largest second derivative of the loss by h and a column of ones in X for
        the intercept. Descent with a rate of at most 1/L never increases the objective; above 2/L it diverges where
        the curvature is that large. Exact for the identity and up to 512 columns; an upper bound within about 10 %
        above.

        Returns
        -------
        float
            `inf` where there is no bound: with activation exp, and for the losses "hinge" and "epsilon_insensitive",
            whose slope jumps.
        """
        return self.curvature.largest

    def with_jobs(self, n_jobs):
        """The same objective on the same data, with other threads."""
        other = copy.copy(self)
        other.n_jobs, other._jobs = n_jobs, threads.job_count(n_jobs)
        return other

    # --------------------------------------------------------------------------------------------------- the passes

    def value_at(self, w):
        """`value` of weights that are known to have the right shape and dtype."""
        return self._value(self._block_sums(*self.split(w), None, False), w, np.empty((0, self.rows.k), self.dtype))

    def value_and_gradient_at(self, w):
        shape, gradient = (self.shape[0], self.rows.k), np.empty(self.shape, self.dtype)
        out = gradient.reshape(shape)
        if self.rows.one_array and self.jobs(threads.THREAD_VALUES) == 1:  # then one kernel does all of it
            value = self.rows.value_and_gradient(w.reshape(shape), *self.codes, self.factor, self.l2, self.edges, out)
        else:
            value = self._value(self._block_sums(*self.split(w), None, True), w, out)
        return value, gradient

    def _value(self, sums, w, gradient):
        columns = w.reshape(self.shape[0], self.rows.k)
        return kernels.active.value_from_sums(sums, columns, self.fit_intercept, self.factor, self.l2, gradient)

    def split(self, w):
        """Weights (d, k) and intercepts (k,) of w."""
        d = self.rows.d
        W = w.reshape(len(w), -1)
        return W[:d], W[d] if self.fit_intercept else np.zeros(W.shape[1], w.dtype)

    def join(self, W, b):
        return (np.concatenate([W, b[None, :]]) if self.fit_intercept else W).reshape(self.shape)

    def sums(self, W, b, shift, gradient):
        """Σ loss of each output, and its gradients by W and b, over all rows, in float64; without the factor."""
        total, k = threads.sum_of_rows(self._block_sums(W, b, shift, gradient)), self.rows.k
        return (total[:k], total[k:-k].reshape(W.shape), total[-k:]) if gradient else (total,)

    def _block_sums(self, W, b, shift, gradient):
        """A row of sums for each block; see `Rows.block_sums`."""
        model, jobs, m = (W, b, shift, *self.codes, gradient), self.jobs(threads.THREAD_VALUES), len(self.edges) - 1
        if jobs == 1:
            return self.rows.block_sums(self.edges, *model)
        # A thread takes several blocks at a time, which costs one call, but not so many that others wait for the last.
        length = -(-m // (SHARES * jobs))
        shares = [self.edges[first : first + length + 1] for first in range(0, m, length)]
        return np.concatenate(threads.over_blocks(lambda share: self.rows.block_sums(share, *model), shares, jobs))

    def jobs(self, least):
        """Threads for a pass, which is worth more than one from so many values on."""
        return self._jobs if self.rows.values * self.rows.k >= least else 1

    def penalty(self, W):
        return 0.5 * self.l2 * float(np.sum(np.square(W, dtype=np.float64))) if self.l2 else 0.0

    # ----------------------------------------------------------------------------------------------------- curvature

    @functools.cached_property
    def curvature(self):
        """In the user's own columns."""
        return self.curvature_in(0.0, np.ones(self.rows.d), 1.0)

    @functools.cached_property
    def loss_curvature(self):
        """c ≥ |∂²loss/∂h²| of one sample of weight 1, at any h; inf where there is no bound."""
        return self.factor * curvature.loss_bound(self.activation, self.loss, float(self.y.min()), float(self.y.max()))

    @property
    def quadratic(self):
        """Whether the objective is a quadratic function of w: then the bound of its Hessian is the Hessian."""
        return self.activation == "identity" and self.loss in ("sse", "mse")

    @property
    def kinked(self):
        """Whether the slope of the loss jumps, so that it need not be small near a minimum."""
        return self.loss in curvature.KINKED

    def design(self, shift, scale, intercept_scale):
        """√s·[(X − shift)/scale, 1/intercept_scale] in float64, √s, and the rows' slice, a few rows at a time."""
        for A, root, part in self.rows.pieces(shift, scale):
            yield (np.column_stack([A, root / intercept_scale]) if self.fit_intercept else A), root, part

    @functools.cached_property
    def moments(self):
        """First and second moments of the columns, in one pass over X; None where there are too many columns."""
        return self.rows.moments() if self.rows.d <= MOMENT_COLUMNS else None

    def gram(self, shift, scale, intercept_scale):
        """AᵀA of the design, (d', d')."""
        if self.moments is None:
            return threads.tree_sum([(A.T @ A,) for A, *_ in self.design(shift, scale, intercept_scale)])[0]
        d, weight = self.rows.d, self.moments.weight
        G = np.empty((self.shape[0], self.shape[0]))
        G[:d, :d] = self.moments.about(shift) / scale / scale[:, None]
        if self.fit_intercept:
            G[d, :d] = G[:d, d] = weight * (self.moments.mean - shift) / scale / intercept_scale
            G[d, d] = weight / intercept_scale**2
        return G

    def ridge(self, scale):
        """The diagonal that l2 adds to the Hessian in scaled columns; an infinite scale is a column that stays."""
        diagonal = np.zeros(self.shape[0])
        diagonal[: len(scale)] = (np.sqrt(self.l2) / scale) ** 2
        return diagonal

    def curvature_in(self, shift, scale, intercept_scale):
        """Extreme eigenvalues of c·AᵀA + l2·diag(1/scale², 0), A being the design."""
        c, d = self.loss_curvature, self.shape[0]
        if not math.isfinite(c):
            return Curvature(math.inf, None)
        unit = 1.0
        if self.moments is None:
            # In units in which the largest number is 1, so that squares neither overflow nor underflow on the way.
            unit = max(float(np.max(np.abs(A))) for A, *_ in self.design(shift, scale, intercept_scale)) or 1.0
        scale, intercept_scale = scale * unit, intercept_scale * unit
        ridge = self.ridge(scale)
        if d <= curvature.EXACT_COLUMNS:
            H = c * self.gram(shift, scale, intercept_scale) + np.diag(ridge)
            movable = int(np.count_nonzero(np.isfinite(scale))) + self.fit_intercept
            return curvature.extremes(H, movable, self.quadratic).times(unit)

        def multiply(v):
            u = ridge * v
            for A, *_ in self.design(shift, scale, intercept_scale):
                u += c * (A.T @ (A @ v))
            return u

        trace = float(ridge.sum()) + c * sum(
            float(np.sum(A**2)) for A, *_ in self.design(shift, scale, intercept_scale)
        )
        return Curvature(curvature.largest_eigenvalue(multiply, d, trace), None).times(unit)

    def column_lengths(self, shift):
        """√Σs(x − shift)² of each column, without overflow or underflow of the squares."""
        if self.moments is not None:
            return np.sqrt(np.maximum(np.diag(self.moments.about(shift)), 0.0))
        return self.rows.column_lengths(shift)

    def column_means(self):
        return self.rows.column_means() if self.moments is None else self.moments.mean
