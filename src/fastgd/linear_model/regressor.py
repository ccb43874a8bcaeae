"""GDRegressor."""

from __future__ import annotations

import contextlib
import dataclasses
import operator
import typing

import numpy as np
from sklearn.base import RegressorMixin
from sklearn.metrics import r2_score

from fastgd import losses, validation
from fastgd.data import collections
from fastgd.data.distributed import Column
from fastgd.files.models import outputs
from fastgd.linear_model import elsewhere, inputs
from fastgd.linear_model.base import LinearModel
from fastgd.linear_model.online import OF_STREAMS
from fastgd.linear_model.parameters import names_parameters
from fastgd.objective import LinearObjective

if typing.TYPE_CHECKING:
    from typing import Literal, Self

    from numpy.typing import ArrayLike

    from fastgd.losses import Loss
    from fastgd.losses.table import RegressionLoss
    from fastgd.types import Floats, Table


@names_parameters
@dataclasses.dataclass(repr=False, eq=False)
class GDRegressor(RegressorMixin, LinearModel):
    """Linear regression by gradient descent.

    Minimises (1/n) Σ loss + alpha·penalty(w) in the units of the data; the intercept is not penalised. Columns need
    not be scaled and no rate need be chosen.

    Parameters
    ----------
    loss : str or Loss
        A name, or an object of `fastgd.losses`. With r = y − f, "squared_error": ½r²; "mse": r², without the half;
        "huber": ½r² up to |r| = epsilon and straight beyond; "epsilon_insensitive": max(0, |r| − epsilon);
        "quantile": ½|r|, and `losses.Quantile(q)` the pinball loss of another quantile; "poisson", "gamma": half the
        deviance with f = exp(Xw + b). `losses.custom(f)` is one of your own.
    penalty : {None, "l2", "l1", "elasticnet", "group"}
        None, ½‖w‖², ‖w‖₁, l1_ratio·‖w‖₁ + (1 − l1_ratio)·½‖w‖², or with `groups` Σ √(size of g)·‖w_g‖.
    alpha : float
        Times the penalty.
    l1_ratio : float
        Of "elasticnet".
    fit_intercept : bool
    solver : {"auto", "coordinate", "gram", "preconditioned", "accelerated", "gd", "sgd"}
        "auto" takes the cheapest; see the documentation for the rule. "sgd" with a number or a schedule as
        learning_rate takes the columns as they are; everywhere else columns of different scales are handled inside.
    learning_rate : "auto", float or callable
        Of "gd" and "sgd"; a callable gives the rate of step 0, 1, ….
    optimizer : str or Optimizer
        Of "gd" and "sgd": a rule of `fastgd.optimizers`, or its lower-case name.
    batch_size : int, optional
        Rows of a step of "sgd"; 1 without it.
    max_iter : int
        Epochs at most.
    tol : float or None
        The fit ends when the gap to the minimum is at most tol·F. None: max_iter epochs. This bounds the loss; the
        relative error of the weights is about √tol, and `result_.message` says by how much a Newton step would change
        them, where that costs little beside the fit and the loss has no kink. For "sgd" with a loss that has a kink,
        whose gap is not known: when the loss has decreased by less than tol, relatively, in n_iter_no_change epochs.
    early_stopping : bool
        Hold out a part of the rows, end when their score has not risen by more than tol for n_iter_no_change epochs,
        and keep the weights with the best score.
    validation_fraction : float
    n_iter_no_change : int
    warm_start : bool
        Start from the weights of the last fit; without a rate only if their loss is lower than that of the constant
        model.
    random_state : int, RandomState or None
        Of the order of rows with "sgd", and of what early_stopping holds out.
    n_jobs : int, optional
        Threads for a pass over X; results are bitwise the same for any number.
    verbose : int
        1 prints a line for each epoch, 2 shows a progress bar instead (tqdm, of the extra "cli").
    callbacks : callable or list of callables, optional
        Each is called after every epoch with a Result (epoch, coef, intercept, loss, validation_score, grad_norm,
        learning_rate); StopIteration ends the fit.
    epsilon : float or "auto", optional
        1.35 for "huber" and 0.1 for "epsilon_insensitive" without it, in the units of y; of a loss that is given by its
        name. "auto", for "huber": 1.35 times the scale of the residuals, which is estimated with the coefficients.
    shuffle : bool
        Whether "sgd" shuffles the rows in each epoch.
    target : float, optional
        The fit ends when F, as in `history_.loss`, is at most this.
    max_seconds : float, optional
        The fit ends when this time has passed since its first epoch began; the weights reached are kept.
    checkpoint : path, optional
        File to which the state of the fit is written, atomically, at least every second and at the end; if it cannot be
        written, the fit warns once and continues. An existing file is overwritten unless `resume`. If rows are shuffled
        or held out, a random_state is needed.
    resume : bool
        Continue from the checkpoint; the weights are bitwise those of an uninterrupted fit. Without a file the fit
        starts from the beginning. The file of a completed fit gives its result, unless max_iter is larger now, or a
        callback or max_seconds ended it: then the fit continues. A file of other data or parameters is refused;
        functions given as learning_rate are not compared.
    missing : {None, "drop", "mean", "indicator"}
        Missing cells of X: refused; their rows left out; filled with the mean of the column, or its most frequent
        level; or filled, and marked by a column `column=missing` of 0 and 1.
    drop : {"first", None}
        Of a frame: whether the first level of a text, category or boolean column, in sorted order, is the reference,
        without a coefficient of its own.
    dates : {None, "number"}
        Of a frame: dates are refused, or counted in days since 1970-01-01.
    unknown : {"error", "zeros"}
        Levels that the fit did not have are refused, or have 0 in all columns of theirs.
    positive : bool
        Whether coefficients may not be negative.
    bounds : tuple (lower, upper) or scipy.optimize.Bounds, optional
        Of the coefficients, numbers or one for each, (d,); None on a side for no bound. The intercept has none.
    penalty_weights : array_like, (d,), optional
        A factor of the penalty for each coefficient, not negative; 0: not penalised. With `groups` a positive factor
        for each group, in place of the root of its size.
    groups : array_like of int or str, (d,), or list of lists, optional
        Columns that have a weight together or not at all (group lasso): the label of the group of each column, or the
        columns of each group, by numbers or names. With "l1" and "elasticnet" the norms of groups stand for ‖w‖₁; each
        output has its own.

    Attributes
    ----------
    coef_ : (d,), or (k, d) for a y of k columns
    intercept_ : (1,) or (k,)
    n_iter_ : int
        Epochs.
    history_ : History
        loss, validation_score, grad_norm, learning_rate and seconds, one entry for each epoch.
    result_ : Result
        status, message, solver, gap (at most, or about, F − min F), certified, condition, n_passes. status is a
        `fastgd.Status`: CONVERGED, STEP_LIMIT (max_iter), EARLY_STOPPED, TARGET_REACHED, TIME_LIMIT,
        STOPPED_BY_CALLBACK, NO_PROGRESS (of "sgd"), STALLED (on a kink, or by XᵀX with an l1 penalty), DIVERGED or
        INTERRUPTED.
    n_features_in_, feature_names_in_
        Of the columns of X.
    coef_names_ : (d,)
        Of the coefficients, such as "height" or "sex=male".
    scale_ : float
        Of the residuals, with epsilon="auto".

    Examples
    --------
    >>> from fastgd import GDRegressor, datasets
    >>> X, y = datasets.load_women()
    >>> model = GDRegressor().fit(X, y)
    >>> print(model.coef_.round(6), model.intercept_.round(6))
    [3.45] [-87.516667]
    """

    _task = "regression"
    _of_stream = operator.itemgetter(*OF_STREAMS, "epsilon")

    loss: RegressionLoss | Loss = "squared_error"
    _: dataclasses.KW_ONLY
    epsilon: float | Literal["auto"] | None = None

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        with contextlib.suppress(ValueError):  # what it is not is said by fit
            tags.target_tags.positive_only = losses.get(self.loss, self._task).link == "exp"
        return tags

    def score(
        self,
        X: Table,
        y: ArrayLike | None = None,
        sample_weight: ArrayLike | None = None,
        offset: ArrayLike | None = None,
    ) -> float:
        """How much of the spread of y the model explains: 1 at best, 0 for the best constant.

        The fraction of the deviance explained, D² = 1 − D(y, ŷ)/D(y, constant), for a loss that is one with an exp
        ("poisson", "gamma", …), as `d2_tweedie_score` of scikit-learn; the mean over outputs; with an offset that is
        in the constant model, too. R² for all others.

        Returns
        -------
        float
        """
        if collections.is_collection(X):
            return self._score_elsewhere(X, y, sample_weight, offset)
        h, y, sample_weight, offset = self._observed(X, y, sample_weight, offset)
        sample_weight = inputs.weights(sample_weight, h, relative=True)
        if self._loss.link == "exp":
            y = self._known_targets(y, h.dtype)[0]
        return self._score_of(h, y, sample_weight, offset)

    @inputs.by_blocks
    def predict(self, X: Table, offset: ArrayLike | None = None) -> Floats:
        """Predictions for the rows of X, with an offset of each where it has one.

        Returns
        -------
        ndarray, (n,) or (n, k)
        """
        return outputs(self._scores(X, offset), self._loss.link)

    def partial_fit(
        self, X: Table, y: ArrayLike, sample_weight: ArrayLike | None = None, offset: ArrayLike | None = None
    ) -> Self:
        """Steps of stochastic descent on the rows of X in their order, `batch_size` rows a step (1 without it).

        With a number as learning_rate the iterates are those of fit with solver="sgd" on the same batches. With "auto"
        the columns are centred and scaled by what has been seen of them.

        Returns
        -------
        self
        """
        if sample_weight is None and offset is None and self._fed_at_once(X, y):
            return self
        with self._as_before_if_it_fails():
            return self._partial_fit(X, y, sample_weight, offset)

    def _run(self, objective, checked, score):
        """As of all estimators; with epsilon="auto" again and again, with the scale of the last residuals.

        The scale σ solves Σ s·min((r/σ)², 1.35²) = Σ s, as in Huber's proposal 2 with the constant of HuberRegressor:
        at the end coefficients and scale are those of its convex function of both (Owen 2007), where alpha = 0.
        """
        if self.epsilon != "auto":
            return super()._run(objective, checked, score)
        if self.early_stopping or self.checkpoint is not None:
            raise ValueError('epsilon="auto" fits several times: it goes with neither early_stopping nor a checkpoint')
        o, factor, passes = objective, losses.Huber().delta, 0
        y, s = o.Y.astype(np.float64), o.sample_weight
        self.scale_ = _scale(y - losses.formulas.median(y, s), s, factor)
        for _ in range(100):
            o = LinearObjective.of_arrays(
                o.X, o.y, o.rows.weights, losses.of(losses.Huber(factor * self.scale_)),
                fit_intercept=o.fit_intercept, penalty=o.penalty, deviance=True, n_jobs=self.n_jobs,
            )  # fmt: skip
            result, error = super()._run(o, checked, score)
            W, b = (part.astype(np.float64) for part in o.split(result.x))
            passes, checked.start = passes + result.nit, (W, b)
            before, self.scale_ = self.scale_, _scale(y - o.scores(W, b), s, factor)
            if error or abs(self.scale_ - before) <= 1e-7 * before:
                break
        result.nit = passes
        return result, error

    def _partial_fit(self, X, y, sample_weight, offset):
        if self.epsilon == "auto":
            raise ValueError('epsilon="auto" is for fit, which sees all residuals: give a number to partial_fit')
        first = not hasattr(self, "coef_")
        X, y = inputs.validated(self, X, y, reset=first)
        Y, activation = self._targets(y, X.dtype)
        Y = Y.reshape(len(Y), -1)
        k = Y.shape[1]
        known = k if first else len(np.atleast_2d(self.coef_))
        if k != known:
            raise ValueError(f"y must have {known} column{'s' * (known > 1)}; got shape {y.shape}")
        self._one_target = (y if first else self.coef_).ndim == 1
        s, learns = self._batch_weights(sample_weight, X)
        self._stream(activation, X.dtype, k)
        offset = inputs.offsets(offset, X)
        return self._feed(X, np.ascontiguousarray(Y, dtype=X.dtype), s, offset) if learns else self

    # ------------------------------------------------------------------------------------------------------- for fit

    def _targets(self, y, dtype):
        if isinstance(y, Column):
            return y.mapped(_checked, dtype, self._loss, dtype=dtype), self._activation()
        return _checked(y, dtype, self._loss), self._activation()

    _known_targets = _targets

    def _coded(self, y, dtype):
        return y

    def _outputs(self, y):
        return 1 if y.ndim == 1 else y.shape[1]

    def _score_there(self, rows, y, sample_weight):
        return elsewhere.explained(rows, y, *self._weights_matrix(), self._loss, sample_weight)

    def _score_of(self, h, y, sample_weight, offset=None):
        if self._loss.link != "exp":
            return r2_score(y, h, sample_weight=sample_weight)
        h, Y = (np.asarray(part, np.float64).reshape(len(h), -1) for part in (h, y))
        outputs_of_both = zip(*(np.ascontiguousarray(part.T)[:, :, None] for part in (h, Y)), strict=True)
        return float(np.mean([self._explained(*pair, sample_weight, offset) for pair in outputs_of_both]))

    def _explained(self, h, y, sample_weight, offset):
        """D² of one output, (n, 1); as R² it is 1 or 0 where y is constant."""
        s = np.empty(0) if sample_weight is None else np.asarray(sample_weight, np.float64)
        o = LinearObjective.of_arrays(h, y, s, losses.of(self._loss), fit_intercept=True, deviance=True)
        constant = o.value_at_constant(o.best_constant()[1])
        if offset is not None:  # the best constant beside an offset is fitted
            null = type(self)(self.loss, tol=1e-10).fit(np.zeros((len(h), 1)), y[:, 0], sample_weight, offset)
            at = np.ascontiguousarray(offset[:, None] + null.intercept_, np.float64)
            constant = o.value_of_scores(at) + o.constant
        rest = o.value_of_scores(h) + o.constant
        return 1 - rest / constant if constant > 0 else float(rest <= 0)


def _checked(y, dtype, loss):
    """Targets as floats of a dtype."""
    y = validation.real_array(y, "y", dtype=dtype, finite=False)
    limit = 1e150 if y.dtype == np.float64 else 1e15  # sums of squares stay in the range of the dtype
    if not np.vdot(y, y) <= limit**2 and (largest := float(np.max(np.abs(y), initial=0.0))) > limit:
        raise ValueError(
            f"y must be no larger than {limit:g} in size in {y.dtype}, or its squares overflow; got "
            f"{largest:g}: measure it in larger units"
        )
    loss.check(y)
    return y


def _scale(r, s, factor):
    """σ with Σ s·min((r/σ)², factor²) = Σ s, of residuals (n, k); next to none where most of them are 0."""
    r = np.abs(r).ravel()
    s = np.ones(r.size) if s is None else np.repeat(s, r.size // len(s))
    order = np.argsort(r)
    r, s = r[order], s[order]
    # Between r[i − 1] and r[i] = factor·σ the sum is (Σ_{j<i} s·r²)/σ² + factor²·Σ_{j≥i} s.
    squares, rest = np.append(0.0, np.cumsum(s * r * r)), s.sum() - np.append(0.0, np.cumsum(s))
    room = s.sum() - factor**2 * rest
    found = np.sqrt(np.divide(squares, room, out=np.full(len(room), np.nan), where=room > 0))
    edge = factor * found
    fits = (edge >= np.append(0.0, r)) & (edge <= np.append(r, np.inf))
    scale = float(found[np.argmax(fits)]) if fits.any() else 0.0
    return max(scale, float(r[-1]) * 1e-12) or 1.0
