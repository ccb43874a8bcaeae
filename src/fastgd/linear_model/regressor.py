"""GDRegressor."""

from __future__ import annotations

import contextlib
import operator
import typing

import numpy as np
from sklearn.base import RegressorMixin
from sklearn.metrics import r2_score

from fastgd import losses, validation
from fastgd.linear_model import inputs
from fastgd.linear_model.base import OF_STREAMS, LinearModel

if typing.TYPE_CHECKING:
    from os import PathLike
    from typing import Literal, Self

    from numpy.typing import ArrayLike

    from fastgd.losses import Loss
    from fastgd.optimizers import Optimizer
    from fastgd.types import Callbacks, Floats, OptimizerName, Penalty, Rate, RegressionLoss, Solver, Table


# Of targets, by the size of their dtype: sums of their squares stay in its range.
LARGEST = {8: 1e150, 4: 1e15}


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
        The fit ends when the gap to the minimum is at most tol·F. None: max_iter epochs. That bounds the loss; the
        weights are off by about the root of it. After quasi-Newton steps `result_.message` says by how much one more
        would change them; with "coordinate" and "gram" compare the weights with those of a smaller tol.
        With "sgd" and a loss with a kink, which has no gap to be told: when the loss has not fallen by tol of it for
        n_iter_no_change epochs.
    early_stopping : bool
        Hold out a part of the rows, end when their score has not risen by more than tol for n_iter_no_change epochs,
        and keep the weights with the best score.
    validation_fraction : float
    n_iter_no_change : int
    warm_start : bool
        Start from the weights of the last fit, where no rate is given only if they are better than no weights.
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
        The fit ends where F, as `history_.loss` has it, is at most that.
    max_seconds : float, optional
        The fit ends when so much time has passed since its first epoch began; what was reached is kept.
    checkpoint : path, optional
        A file that the state of the fit is written to, at least every second and at the end, whole or not at all; where
        it cannot be written the fit warns once and goes on. It is written over where it exists, unless `resume`. Where
        rows are shuffled or held out it needs a random_state.
    resume : bool
        Go on from the checkpoint, to the same weights by the bit as if nothing had happened. Without a file the fit
        starts afresh; the file of a fit that came to its end gives what it came to, unless max_iter is larger now, or
        it was a callback or the clock that ended it: then it goes on. The file of other data or parameters is refused;
        a function as learning_rate cannot be told from others.
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
    _numeric_targets = True
    _least_held_out = 2  # R² of one sample is none
    _of_stream = operator.itemgetter(*OF_STREAMS, "epsilon")

    @validation.names_arguments
    def __init__(
        self,
        loss: RegressionLoss | Loss = "squared_error",
        *,
        penalty: Penalty | None = None,
        alpha: float = 1e-4,
        l1_ratio: float = 0.15,
        fit_intercept: bool = True,
        solver: Solver = "auto",
        learning_rate: Rate | Literal["auto"] = "auto",
        optimizer: OptimizerName | Optimizer = "gd",
        batch_size: int | None = None,
        max_iter: int = 1000,
        tol: float | None = 1e-4,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        n_iter_no_change: int = 5,
        warm_start: bool = False,
        random_state: int | np.random.RandomState | None = None,
        n_jobs: int | None = None,
        verbose: int = 0,
        callbacks: Callbacks | None = None,
        epsilon: float | None = None,
        shuffle: bool = True,
        target: float | None = None,
        max_seconds: float | None = None,
        checkpoint: str | PathLike[str] | None = None,
        resume: bool = False,
        missing: Literal["drop", "mean", "indicator"] | None = None,
        drop: Literal["first"] | None = "first",
        dates: Literal["number"] | None = None,
        unknown: Literal["error", "zeros"] = "error",
    ) -> None:
        self.loss = loss
        self.penalty = penalty
        self.alpha = alpha
        self.l1_ratio = l1_ratio
        self.fit_intercept = fit_intercept
        self.solver = solver
        self.learning_rate = learning_rate
        self.optimizer = optimizer
        self.batch_size = batch_size
        self.max_iter = max_iter
        self.tol = tol
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.warm_start = warm_start
        self.random_state = random_state
        self.n_jobs = n_jobs
        self.verbose = verbose
        self.callbacks = callbacks
        self.epsilon = epsilon
        self.shuffle = shuffle
        self.target = target
        self.max_seconds = max_seconds
        self.checkpoint = checkpoint
        self.resume = resume
        self.missing = missing
        self.drop = drop
        self.dates = dates
        self.unknown = unknown

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        with contextlib.suppress(ValueError):  # what it is not is said by fit
            tags.target_tags.positive_only = losses.get(self.loss, self._task).link == "exp"
        return tags

    if typing.TYPE_CHECKING:

        def score(self, X: Table, y: ArrayLike, sample_weight: ArrayLike | None = None) -> float: ...

    def predict(self, X: Table) -> Floats:
        """Predictions for the rows of X.

        Returns
        -------
        ndarray, (n,) or (n, k)
        """
        return self._predicted(self._scores(X))

    def partial_fit(self, X: Table, y: ArrayLike, sample_weight: ArrayLike | None = None) -> Self:
        """Steps of stochastic descent on the rows of X in their order, `batch_size` rows a step (1 without it).

        With a number as learning_rate the iterates are those of fit with solver="sgd" on the same batches. With "auto"
        the columns are centred and scaled by what has been seen of them.

        Returns
        -------
        self
        """
        online = self.__dict__.get("_online")
        if sample_weight is None and online is not None and online.takes(X, y, self) and online.numbers(y):
            # As the last batch was: straight to the kernel.
            Y = y.astype(online.dtype, copy=False)[:, None]
            return self if online.feed(X, Y, online.none) else self._feed(X, Y, online.none)
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
        online = self._stream(activation, X.dtype, k)
        if not learns:
            return self
        return self._feed(X, np.ascontiguousarray(Y, dtype=X.dtype), online.none if s is None else s)

    # ------------------------------------------------------------------------------------------------------- for fit

    def _targets(self, y, dtype):
        y = validation.real_array(y, "y", dtype=dtype, finite=False)
        if y.size and float(np.max(np.abs(y))) > (limit := LARGEST[y.dtype.itemsize]):
            raise ValueError(
                f"y must be no larger than {limit:g} in size in {y.dtype}, or its squares overflow; got "
                f"{float(np.max(np.abs(y))):g}: measure it in larger units"
            )
        loss = self._loss
        loss.check(y)
        return y, loss.link

    _known_targets = _targets

    def _activation(self):
        return self._loss.link

    def _coded(self, y, dtype):
        return y

    def _set_weights(self, W, b, y):
        one = y.ndim == 1
        self.coef_ = W[:, 0] if one else np.ascontiguousarray(W.T)
        self.intercept_ = b

    def _weights_matrix(self):
        return np.atleast_2d(self.coef_).T, self.intercept_

    def _weights_so_far(self, objective):
        W, b = (np.ascontiguousarray(part, np.float64) for part in self._weights_matrix())
        shape = objective.rows.d, objective.rows.k
        if W.shape != shape:
            raise ValueError(f"warm_start needs weights of shape {shape}; those here are {W.shape}")
        return W, b

    def _attach_online(self):
        online = self._online
        online.parameters = self._of_stream(self.__dict__)
        online.coef_of_user = online.coef[:, 0] if online.k == 1 and self._one_target else online.coef.T
        self.coef_, self.intercept_ = online.coef_of_user, online.intercept

    def _raw_scores(self, X):
        h = X @ np.atleast_2d(self.coef_).T + self.intercept_
        return h[:, 0] if np.ndim(self.coef_) == 1 else h

    def _predicted(self, scores):
        if self._loss.link != "exp":
            return scores
        with np.errstate(over="ignore"):
            return np.exp(scores)

    def _score_of(self, X, y, sample_weight):
        return r2_score(y, self._predicted(self._raw_scores(X)), sample_weight=sample_weight)
