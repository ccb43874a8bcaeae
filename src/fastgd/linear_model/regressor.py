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
from fastgd.files.models import outputs
from fastgd.linear_model import inputs
from fastgd.linear_model.base import LinearModel
from fastgd.linear_model.online import OF_STREAMS
from fastgd.linear_model.parameters import names_parameters

if typing.TYPE_CHECKING:
    from typing import Self

    from numpy.typing import ArrayLike

    from fastgd.losses import Loss
    from fastgd.types import Floats, RegressionLoss, Table


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
    penalty : {None, "l2", "l1", "elasticnet"}
        None, ½‖w‖², ‖w‖₁, or l1_ratio·‖w‖₁ + (1 − l1_ratio)·½‖w‖².
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
        relative error of the weights is about √tol, and `result_.message` gives the change by one more step. For "sgd"
        with a loss that has a kink, whose gap is not known: when the loss has decreased by less than tol, relatively,
        in n_iter_no_change epochs.
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
    epsilon : float, optional
        1.35 for "huber" and 0.1 for "epsilon_insensitive" without it; of a loss that is given by its name.
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
    epsilon: float | None = None

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        with contextlib.suppress(ValueError):  # what it is not is said by fit
            tags.target_tags.positive_only = losses.get(self.loss, self._task).link == "exp"
        return tags

    if typing.TYPE_CHECKING:

        def score(self, X: Table, y: ArrayLike, sample_weight: ArrayLike | None = None) -> float: ...

    @inputs.by_blocks
    def predict(self, X: Table) -> Floats:
        """Predictions for the rows of X.

        Returns
        -------
        ndarray, (n,) or (n, k)
        """
        return outputs(self._scores(X), self._loss.link)

    def partial_fit(self, X: Table, y: ArrayLike, sample_weight: ArrayLike | None = None) -> Self:
        """Steps of stochastic descent on the rows of X in their order, `batch_size` rows a step (1 without it).

        With a number as learning_rate the iterates are those of fit with solver="sgd" on the same batches. With "auto"
        the columns are centred and scaled by what has been seen of them.

        Returns
        -------
        self
        """
        if sample_weight is None and self._fed_at_once(X, y):
            return self
        with self._as_before_if_it_fails():
            return self._partial_fit(X, y, sample_weight)

    def _partial_fit(self, X, y, sample_weight):
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
        return self._feed(X, np.ascontiguousarray(Y, dtype=X.dtype), s) if learns else self

    # ------------------------------------------------------------------------------------------------------- for fit

    def _targets(self, y, dtype):
        y = validation.real_array(y, "y", dtype=dtype, finite=False)
        largest = max(float(np.max(y)), -float(np.min(y))) if y.size else 0.0
        limit = 1e150 if y.dtype == np.float64 else 1e15  # sums of squares stay in the range of the dtype
        if largest > limit:
            raise ValueError(
                f"y must be no larger than {limit:g} in size in {y.dtype}, or its squares overflow; got "
                f"{largest:g}: measure it in larger units"
            )
        self._loss.check(y)
        return y, self._activation()

    _known_targets = _targets

    def _coded(self, y, dtype):
        return y

    def _score_of(self, X, y, sample_weight):
        return r2_score(y, outputs(self._raw_scores(X), self._loss.link), sample_weight=sample_weight)
