"""The loss of a one-layer model as a function of its weights: rows × loss × penalty.

An objective does not change; `replace` makes another. A run keeps what it needs in `Variables`.
"""

from __future__ import annotations

import copy
import dataclasses
import functools
import math
import typing

import numpy as np

from fastgd import losses, validation
from fastgd.data import Scan, collections, inputs, threads
from fastgd.data.distributed import Column
from fastgd.data.offset import WithOffset
from fastgd.data.partials import predicted
from fastgd.kernels.codes import ACTIVATIONS, PointLoss
from fastgd.objective import curvature, design, perturbed
from fastgd.objective.curvature import Curvature
from fastgd.objective.penalty import Penalty, penalty_of
from fastgd.objective.sample import DENSE_COLUMNS
from fastgd.objective.sums import Sums

if typing.TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from fastgd.losses import Loss
    from fastgd.losses.table import LossName
    from fastgd.types import Activation, Floats, Groups, Table

NO_PENALTY = Penalty(0.0, 0.0)


SQUARES = ACTIVATIONS["identity"], PointLoss("squared")


class LinearObjective(Sums):
    """The loss of a one-layer model ŷ = f(Xw + b) as a function of its weights.

    Parameters
    ----------
    X : array_like, CSR matrix, fastgd.data.scan or Rows, (n, d)
        One row for each sample. float32 and float64 arrays of any strides are used where they are, without a copy;
        integers become float64. scipy.sparse matrices and arrays are used as CSR. Rows are data of another kind (see
        `fastgd.data.Rows`).
    y : array_like, (n,) or (n, k)
        Targets. For the log loss 0, 1 or a probability; with the softmax one column for each class, or (n,) numbers of
        classes, 0 to k − 1. For losses of a margin −1 or 1; of likelihoods what its record takes.
    activation : {"identity", "sigmoid", "tanh", "relu", "softplus", "exp", "softmax"}
        f. The softmax is over the k outputs of a sample. Without it f is the one of a loss that goes with one alone
        ("exp" for "poisson"), and else the identity.
    loss : str or Loss
        A name, or an object of `fastgd.losses`: `losses.Huber(delta=2.0)`, or `losses.custom(f)` of your own. "sse",
        ½ ΣΣ s(y − f)², is the sum of squared errors of the textbook. All others are means, (1/Σs) ΣΣ s·l over samples
        (not over outputs), with the l that is in the docstring of each ("mse": (y − f)², without the half;
        "squared_error": ½(y − f)²) and in the table of the documentation. At a kink the gradient takes the
        subgradient 0.
    fit_intercept : bool
        Whether there is a b. It is then the last row of w.
    l2 : float
        Adds ½·l2·‖w‖², the intercept excepted.
    l1 : float
        Adds l1·‖w‖₁, the intercept excepted, to the value; gradients are those of the rest, which is smooth.
    sample_weight : array_like, (n,), optional
        s, not negative, all ones without it. A weight of 2 is the same as the sample twice.
    offset : array_like, (n,), optional
        A known part of each score: f(Xw + b + offset), the logarithm of the exposure for counts, say.
    penalty_weights : array_like, (d,), optional
        A factor of both penalties for each coefficient, not negative; 0: not penalised. With `groups` a positive factor
        of l1 for each group, in place of the root of its size.
    groups : array_like of int or str, (d,), or list of lists of int, optional
        Takes the columns of a group together: the label of the group of each column, or the columns of each group. The
        l1 penalty is then l1·Σ √(size of g)·‖w_g‖, so that a group has no weight at all or all of them (group lasso).
        For solver "coordinate".
    n_jobs : int, optional
        Threads for a pass over X; −1 for all cores, None for one. Small data are not threaded; results are
        bitwise the same for any number.

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

    activation: Activation
    loss: LossName | Loss
    shape: tuple[int, ...]
    dtype: np.dtype[np.floating]

    @validation.names_arguments
    def __init__(
        self,
        X: Table,
        y: ArrayLike | None = None,
        *,
        activation: Activation | None = None,
        loss: LossName | Loss = "sse",
        fit_intercept: bool = False,
        l2: float = 0.0,
        l1: float = 0.0,
        sample_weight: ArrayLike | None = None,
        offset: ArrayLike | None = None,
        penalty_weights: ArrayLike | None = None,
        groups: Groups | None = None,
        n_jobs: int | None = None,
    ) -> None:
        if isinstance(X, Scan):
            X, y, sample_weight, offset = X.arrays(y, sample_weight, offset)
        if collections.is_collection(X):
            X, y, sample_weight = collections.for_objective(X, y, sample_weight, offset)
        record = losses.of(loss, activation)
        shown = loss if isinstance(loss, str) else record.loss.shown
        fit_intercept = validation.boolean(fit_intercept, "fit_intercept")
        l2, l1 = validation.scalar(l2, "l2", minimum=0), validation.scalar(l1, "l1", minimum=0)
        threads.job_count(n_jobs)  # refused before any work
        if isinstance(y, Column):
            y, s = y.prepared(record, X.dtype), y.rows.weights
        else:
            X, y = inputs.data(X, y)
            y, s = record.prepared(y, X.dtype), np.empty(0, X.dtype)
            if sample_weight is not None:
                s = validation.sample_weights(sample_weight, X.shape[0], X.dtype)
        offset = None if offset is None else validation.offset(offset, X.shape[0], X.dtype)
        penalty = penalty_of(l1, l2, penalty_weights, groups, X.shape[1])
        self._set(X, y, s, record, fit_intercept, penalty, offset, n_jobs)
        self.loss = shown
        if record.loss.deviance:
            self._subtract_least()

    @classmethod
    def of_arrays(
        cls, X, y, sample_weight, record, *, fit_intercept, penalty=NO_PENALTY, offset=None, deviance=False,
        n_jobs=None,
    ):  # fmt: skip
        """An objective of arrays that have been checked, and of a Loss.

        Parameters
        ----------
        X, y : ndarray, CSR or Rows, ndarray
            Of one floating dtype, finite.
        sample_weight : (n,) or (0,), of that dtype
        record : Loss
        penalty : Penalty
        deviance : bool
            Whether the least value that the loss can have for these targets is subtracted, so that F is not negative.
        """
        self = cls.__new__(cls)
        self._set(X, y, sample_weight, record, fit_intercept, penalty, offset, n_jobs)
        if deviance or record.loss.deviance:
            self._subtract_least()
        return self

    def _subtract_least(self):
        """Take the least value that the loss can have for these targets for 0, where it is known."""
        if math.isfinite(self._least_of_loss):
            self.constant = -self._least_of_loss

    def __repr__(self):
        n, d = self.X.shape
        return (
            f"LinearObjective({n} x {d} {self.dtype}, activation={self.activation!r}, loss={self.loss!r}, "
            f"fit_intercept={self.fit_intercept}, l2={self.l2:g}{f', l1={self.l1:g}' if self.l1 else ''})"
        )

    def replace(self, **changes):
        """The same objective with other l2, l1 or n_jobs."""
        other = copy.copy(self)
        if "l2" in changes:
            vars(other).pop("curvature", None)
        if "n_jobs" in changes:
            other.n_jobs, other._jobs = changes["n_jobs"], threads.job_count(changes["n_jobs"])
        strengths = {name: changes[name] for name in ("l1", "l2") if name in changes}
        other.penalty = dataclasses.replace(self.penalty, **strengths)
        return other

    # ------------------------------------------------------------------------------------------------ for the user

    def value(self, w: ArrayLike) -> float:
        """The objective at w, a float.

        Parameters
        ----------
        w : array_like of `shape`
        """
        return self.value_at(validation.weights(w, "w", self.shape, self.dtype, copy=False))

    def gradient(self, w: ArrayLike) -> Floats:
        """The gradient at w, an array of the shape and dtype of w; of all but the l1 penalty."""
        return self.value_and_gradient(w)[1]

    def value_and_gradient(self, w: ArrayLike) -> tuple[float, Floats]:
        """Both, in one pass over X."""
        return self.value_and_gradient_at(validation.weights(w, "w", self.shape, self.dtype, copy=False))

    def numerical_gradient(self, w: ArrayLike, h: ArrayLike | None = None) -> Floats:
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
        Within a step of a kink (relu, "hinge", "epsilon_insensitive", "quantile", or the corner of "huber") a row's
        difference is between its slopes on both sides, where `gradient` has one of them.

        Examples
        --------
        >>> objective = LinearObjective([[0.1, 0.3]], [0.2], activation="sigmoid")
        >>> objective.numerical_gradient([-0.8, 0.5])
        array([0.00792761, 0.02378282])
        """
        return self.differences_in_double(w, h).astype(self.dtype, copy=False)

    def differences_in_double(self, w, h=None):
        """`numerical_gradient` in float64, in which it is computed whatever the dtype of the data."""
        return perturbed.central_differences(self, w, h)

    def predict(self, w: ArrayLike, X: Table | None = None, offset: ArrayLike | None = None) -> Floats:
        """ŷ = f(Xw + b + offset) for the rows of X, or of the objective's own X, with its own offset.

        Returns
        -------
        ndarray, (n,) or (n, k), of the objective's dtype; a dask array of a dask collection
        """
        w = validation.weights(w, "w", self.shape, self.dtype)
        if collections.is_collection(X) and offset is None:
            W, b = self.split(w)
            function = functools.partial(predicted, W=W, b=b, activation=self.codes[0], tail=self.shape[1:])
            return collections.mapped(X, function, np.empty((1, *self.shape[1:]), self.dtype))
        source = self.rows
        if X is None and offset is None and self.offset is not None and source.offset is None:
            source = WithOffset(source, self.offset)
        if X is not None:
            X = inputs.samples(X, dtype=self.dtype, least=0)
            if X.shape[1] != self.X.shape[1]:
                raise ValueError(f"X must have {self.X.shape[1]} columns; got shape {X.shape}")
            no_targets = np.empty((X.shape[0], self.rows.k), self.dtype)
            source = inputs.rows_of(X, no_targets, np.empty(0, self.dtype))
        if offset is not None:
            source = getattr(source, "source", source)
            source = WithOffset(source, validation.offset(offset, source.n, self.dtype))
        W, b = self.split(w)
        return source.predict(W, b, self.codes[0]).reshape(source.n, *self.shape[1:])

    def lipschitz(self) -> float:
        """An upper bound of the Hessian's largest eigenvalue, valid at every w.

        c·λmax(Xᵀ diag(s) X) + l2, with c the largest second derivative of the loss by h and a column of ones in X for
        the intercept. Descent with a rate of at most 1/L never increases the objective; above 2/L it diverges where
        the curvature is that large. Exact for the identity and up to 512 columns; an upper bound within about 10 %
        above.

        Returns
        -------
        float
            `inf` where there is no bound: with activation exp, and for the losses "hinge", "epsilon_insensitive" and
            "quantile", whose slope jumps.
        """
        return self.curvature.largest

    # ------------------------------------------------------------------------------------------- where a run begins

    def every(self, step):
        """The same objective of every so-many-th row; None where these have no weight."""
        return self.some(slice(None, None, step))

    def some(self, part):
        """The same objective of the rows of a slice or of an array of numbers; None where these have no weight."""
        rows = self.rows.take(part)
        y, s = rows.Y.reshape(rows.n, *self.y.shape[1:]), rows.weights
        if s.size and not s.any():
            return None
        deviance = self.constant != 0
        other = LinearObjective.of_arrays(
            rows, y, s, self.record, fit_intercept=self.fit_intercept, penalty=self.penalty,
            deviance=deviance, n_jobs=self.n_jobs,
        )  # fmt: skip
        # An absorbed offset is in y and s already.
        other.gain, other.factor, other.constant = self.gain, self.gain * other.factor, self.gain * other.constant
        return other

    def best_constant(self):
        """W = 0 and the intercepts of the best model without columns, or one near it; (d, k), (k,)."""
        W, b = np.zeros((self.rows.d, self.rows.k)), np.zeros(self.rows.k)
        if self.fit_intercept:
            here = self.rows.in_memory  # else targets are asked for their means, or a sample
            Y, s = (self.Y.astype(np.float64, copy=False), self.sample_weight) if here else (self.Y, None)
            start = self.record.start(Y, s)
            b = np.asarray(start, np.float64).reshape(self.rows.k)
            if self.rows.offset is not None:
                b = b - np.average(self.rows.offset.astype(np.float64), weights=self.sample_weight)
        return W, b

    @functools.cached_property
    def value_at_zero(self):
        """F at W = 0 and b = 0: the scale of F, by which its rounding error is measured."""
        if self.codes == SQUARES and self.rows.offset is None:
            return self.mean(0.5 * np.square(self.Y, dtype=np.float64)) + self.constant
        return self.value_at_constant(np.zeros(self.rows.k))

    # -------------------------------------------------------------------------------------- what is known of minima

    @property
    def smooth(self):
        return self.record.smooth

    @property
    def convex(self):
        """Whether a stationary point is a minimum."""
        return self.record.convex

    @functools.cached_property
    def least(self):
        """A lower bound of F: the least value that the loss can have for these targets; −inf where none is known."""
        return self._least_of_loss + self.constant

    @functools.cached_property
    def _least_of_loss(self):
        least = self.record.loss.least(np.ones((1, self.rows.k)))
        if not isinstance(least, np.ndarray):
            return least
        return self.factor * float(self.rows.reduced(curvature.least_sum, self.record.loss)[0])

    @property
    def has_dual(self):
        """Whether a duality gap can be had: with no penalty at all the dual asks for Xᵀu = 0 exactly."""
        return self.penalty_weights is None and self.record.conjugate is not None and (self.l2 > 0 or self.l1 > 0)

    @property
    def least_size(self):
        """Of the numbers whose sum a small F may be."""
        return abs(self.constant)

    # ----------------------------------------------------------------------------------------------------- curvature

    @functools.cached_property
    def curvature(self):
        """In the user's own columns."""
        return self.curvature_in(0.0, np.ones(self.rows.d), 1.0)

    @functools.cached_property
    def loss_curvature(self):
        """c ≥ |∂²loss/∂h²| of one sample of weight 1, at any h; inf where there is no bound."""
        return self.factor * self.record.bound(float(self.Y.min()), float(self.Y.max()))

    @property
    def quadratic(self):
        """Whether all but the l1 penalty is a quadratic function of w: the bound of its Hessian is then the Hessian."""
        return self.record.quadratic

    def columns(self, shift, scale, intercept_scale):
        """The columns of the design; see `objective.design`."""
        return shift, scale, intercept_scale if self.fit_intercept else None

    def design(self, shift, scale, intercept_scale):
        """√s·[(X − shift)/scale, 1/intercept_scale] in float64, √s, and the rows' slice, a few rows at a time."""
        return design.pieces(self.rows, self.columns(shift, scale, intercept_scale))

    @functools.cached_property
    def moments(self):
        """First and second moments of the columns, in one pass over X; None where there are too many columns."""
        return self.rows.moments() if self.rows.d <= DENSE_COLUMNS else None

    def gram(self, shift, scale, intercept_scale):
        """AᵀA of the design, (d', d')."""
        if self.moments is None:
            return self.rows.reduced(design.normal_equations, self.columns(shift, scale, intercept_scale))[0]
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
        diagonal[: len(scale)] = (np.sqrt(np.ravel(self.penalty.l2_of_columns())) / scale) ** 2
        return diagonal

    def curvature_in(self, shift, scale, intercept_scale):
        """Extreme eigenvalues of c·AᵀA + l2·diag(1/scale², 0), A being the design."""
        c, d = self.loss_curvature, self.shape[0]
        if not math.isfinite(c):
            return Curvature(math.inf, None)
        unit, shift = 1.0, np.broadcast_to(shift, self.rows.d)
        if self.moments is None:
            # In units in which the largest number is 1, so that squares neither overflow nor underflow on the way.
            columns = self.columns(shift, scale, intercept_scale)
            unit = float(self.rows.reduced(design.largest, columns, combine=threads.larger)[0]) or 1.0
        scale, intercept_scale = scale * unit, intercept_scale * unit
        columns = self.columns(shift, scale, intercept_scale)
        ridge = self.ridge(scale)
        if d <= curvature.EXACT_COLUMNS:
            H = c * self.gram(shift, scale, intercept_scale) + np.diag(ridge)
            movable = int(np.count_nonzero(np.isfinite(scale))) + self.fit_intercept
            return curvature.extremes(H, movable, self.quadratic).times(unit)

        def multiply(v):
            return ridge * v + c * self.rows.reduced(design.normal_product, columns, v)[0]

        trace = float(ridge.sum()) + c * self.rows.reduced(design.squares, columns)[0]
        return Curvature(curvature.largest_eigenvalue(multiply, d, trace), None).times(unit)
