"""GDRegressor."""

from __future__ import annotations

import contextlib
import operator
import typing

import numpy as np
from sklearn.base import RegressorMixin
from sklearn.metrics import r2_score
from sklearn.utils.validation import check_is_fitted

from fastgd import losses, validation
from fastgd.data.offset import scores as with_offset
from fastgd.linear_model import inputs
from fastgd.linear_model.base import OF_STREAMS, LinearModel
from fastgd.objective import LinearObjective

if typing.TYPE_CHECKING:
    from os import PathLike
    from typing import Literal, Self

    from numpy.typing import ArrayLike

    from fastgd.losses import Loss
    from fastgd.losses.table import RegressionLoss
    from fastgd.optimizers import Optimizer
    from fastgd.types import Callbacks, Floats, OptimizerName, Penalty, Rate, Solver, Table


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
        "quantile": ½|r|, and `losses.Quantile(q)` the pinball loss of another quantile; "poisson" and the other
        likelihoods: half the deviance with f = exp(Xw + b). The documentation has a table of all;
        `losses.custom(f)` is one of your own.
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
        weights are off by about the root of it: `result_.message` says by how much a further step would change them.
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
    epsilon : float or "auto", optional
        1.35 for "huber" and 0.1 for "epsilon_insensitive" without it, in the units of y; of a loss that is given by its
        name. "auto", for "huber": 1.35 times the scale of the residuals, which is estimated with the coefficients.
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
        epsilon: float | Literal["auto"] | None = None,
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

    def score(
        self, X: Table, y: ArrayLike, sample_weight: ArrayLike | None = None, offset: ArrayLike | None = None
    ) -> float:
        """How much of the spread of y the model explains: 1 at best, 0 for the best constant.

        The fraction of the deviance explained, D² = 1 − D(y, ŷ)/D(y, constant), for a loss that is one with an exp
        ("poisson", "gamma", …), as `d2_tweedie_score` of scikit-learn; the mean over outputs; with an offset that is
        in the constant model, too. R² for all others.

        Returns
        -------
        float
        """
        if self._loss.link != "exp" and offset is None:
            return super().score(X, y, sample_weight)
        check_is_fitted(self, "coef_")
        X, y = inputs.validated(self, X, y, reset=False)
        sample_weight = inputs.weights(sample_weight, X, relative=True)
        return self._score_of(X, self._known_targets(y, X.dtype)[0], sample_weight, inputs.offsets(offset, X))

    def predict(self, X: Table, offset: ArrayLike | None = None) -> Floats:
        """Predictions for the rows of X, with an offset of each where it has one.

        Returns
        -------
        ndarray, (n,) or (n, k)
        """
        return self._predicted(self._scores(X, offset))

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
        online = self.__dict__.get("_online")
        plain = sample_weight is None and offset is None
        if plain and online is not None and online.takes(X, y, self) and online.numbers(y):
            # As the last batch was: straight to the kernel.
            Y = y.astype(online.dtype, copy=False)[:, None]
            return self if online.feed(X, Y, online.none) else self._feed(X, Y, online.none)
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
                fit_intercept=o.fit_intercept, l1=o.l1, l2=o.l2, deviance=True, n_jobs=self.n_jobs,
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
        offset = inputs.offsets(offset, X)
        if offset is not None and k > 1:
            raise ValueError("offset is for one output: fit each by itself")
        online = self._stream(activation, X.dtype, k)
        if not learns:
            return self
        return self._feed(X, np.ascontiguousarray(Y, dtype=X.dtype), online.none if s is None else s, offset)

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

    def _several(self, y):
        return y.ndim == 2 and y.shape[1] > 1

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

    def _score_of(self, X, y, sample_weight, offset=None):
        h = with_offset(self._raw_scores(X), offset)
        if self._loss.link != "exp":
            return r2_score(y, h, sample_weight=sample_weight)
        h, Y = (np.asarray(part, np.float64).reshape(len(h), -1) for part in (h, y))
        if offset is not None:
            return self._explained(h, Y, sample_weight, offset)
        return float(np.mean([self._explained(*map(np.ascontiguousarray, pair), sample_weight)
                              for pair in zip(h.T[:, :, None], Y.T[:, :, None], strict=True)]))  # fmt: skip

    def _explained(self, h, y, sample_weight, offset=None):
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


def _scale(r, s, factor):
    """σ with Σ s·min((r/σ)², factor²) = Σ s, of residuals (n, k); the smallest float beside them where most are 0."""
    r = np.sort(np.abs(r), axis=None) if s is None else np.abs(r).ravel()
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
