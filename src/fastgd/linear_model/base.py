"""What the two estimators share: parameters, data, the choice of a solver, and what a fit leaves behind."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import math
import typing
import warnings

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import train_test_split
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

from fastgd import losses, optimizers, validation
from fastgd.data import Scan, encoding, formulas, rows_of
from fastgd.data import cells as columns
from fastgd.data.offset import WithOffset
from fastgd.data.offset import scores as with_offset
from fastgd.data.tables import check_names, frame
from fastgd.engine import plan
from fastgd.engine.rates import rate_of
from fastgd.engine.recorder import Epochs
from fastgd.engine.result import Result, Status
from fastgd.engine.scaled_epochs import refuse_penalty
from fastgd.engine.shown import epoch_line
from fastgd.engine.stopping import Stopping
from fastgd.errors import ConditionWarning, DivergenceError, DivergenceWarning, progress_bar
from fastgd.files.checkpoint import Checkpoint, digest
from fastgd.files.models import Saved
from fastgd.linalg import one_blas_thread
from fastgd.linear_model import inputs, separation
from fastgd.linear_model.online import Online
from fastgd.linear_model.onnx_graph import Exported
from fastgd.linear_model.summary import Kept, Statistics, Summarised
from fastgd.objective import LinearObjective

if typing.TYPE_CHECKING:
    from typing import Any, Self

    from numpy.typing import ArrayLike, NDArray

    from fastgd.engine.result import History
    from fastgd.types import Floats, Table

PENALTIES = (None, "l2", "l1", "elasticnet")
# Columns whose condition number is above this leave less than half of the digits.
ILL_CONDITIONED = 1e8
# From this verbosity on a bar is shown, and no lines.
BAR = 2
# The parameters that a checkpoint must agree on, beside the data: all that a fit which has come to its end depends on.
# Rates that are functions cannot be told apart.
OF_CHECKPOINTS = (
    "loss", "epsilon", "penalty", "alpha", "l1_ratio", "fit_intercept", "solver", "learning_rate", "optimizer",
    "batch_size", "early_stopping", "validation_fraction", "n_iter_no_change", "shuffle",
)  # fmt: skip
# The parameters that a stream of partial_fit is made of, beside those that only one of the estimators has.
OF_STREAMS = ("loss", "penalty", "alpha", "l1_ratio", "fit_intercept", "learning_rate", "optimizer", "batch_size")


class LinearModel(Saved, Exported, Summarised, BaseEstimator):
    """Fits, streams and reports; a subclass says what y is (`_targets`) and what a score is (`_score_of`)."""

    epsilon: float | None = None
    _task: str

    coef_: Floats
    intercept_: Floats
    n_iter_: int
    history_: History
    result_: Result
    n_features_in_: int
    feature_names_in_: NDArray[Any]

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags

    # ---------------------------------------------------------------------------------------------------- parameters

    def _check_parameters(self):
        """The parameters as numbers; ValueError or TypeError for what they do not take."""
        checked = Checked()
        checked.loss = self._loss
        if self.penalty is not None and self.penalty not in PENALTIES:
            names = ", ".join(map(repr, PENALTIES))
            raise ValueError(f"penalty must be one of {names}; got {validation.describe(self.penalty)}")
        validation.choice(self.solver, "solver", plan.NAMES)
        checked.rule = optimizers.get(self.optimizer)
        alpha = validation.scalar(self.alpha, "alpha", minimum=0)
        ratio = validation.scalar(self.l1_ratio, "l1_ratio", minimum=0)
        if ratio > 1:
            raise ValueError(f"l1_ratio must be between 0 and 1; got {ratio}")
        share = {None: (0, 0), "l2": (0, 1), "l1": (1, 0), "elasticnet": (ratio, 1 - ratio)}[self.penalty]
        checked.l1, checked.l2 = alpha * share[0], alpha * share[1]
        checked.fit_intercept = validation.boolean(self.fit_intercept, "fit_intercept")
        checked.rate = _rate(self.learning_rate)
        checked.batch = None if self.batch_size is None else validation.count(self.batch_size, "batch_size", minimum=1)
        checked.max_iter = validation.count(self.max_iter, "max_iter", minimum=1)
        checked.tol = None if self.tol is None else validation.scalar(self.tol, "tol", minimum=0)
        checked.early_stopping = validation.boolean(self.early_stopping, "early_stopping")
        fraction = validation.scalar(self.validation_fraction, "validation_fraction", positive=True)
        if fraction >= 1:
            raise ValueError(f"validation_fraction must be between 0 and 1, both excluded; got {fraction}")
        checked.patience = validation.count(self.n_iter_no_change, "n_iter_no_change", minimum=1)
        if self.random_state is not None:
            try:
                check_random_state(self.random_state)
            except ValueError:
                raise ValueError(
                    "random_state must be None, an integer from 0 to 2**32 - 1, or a RandomState; got "
                    f"{validation.describe(self.random_state)}"
                ) from None
        checked.stopping = {"target": self.target, "max_seconds": self.max_seconds}
        Stopping(**checked.stopping)
        checked.resume = validation.boolean(self.resume, "resume")
        if checked.resume and self.checkpoint is None:
            raise ValueError("resume=True needs checkpoint=, the file to go on from")
        validation.boolean(self.warm_start, "warm_start")
        validation.boolean(self.shuffle, "shuffle")
        verbose = int(self.verbose) if isinstance(self.verbose, bool) else self.verbose
        checked.verbose = validation.count(verbose, "verbose")
        calls = self.callbacks if self.callbacks is not None else ()
        calls = calls if isinstance(calls, (list, tuple)) else (calls,)
        checked.callbacks = [inputs.of_one_argument(call, "callbacks", "the state of the fit") for call in calls]
        return checked

    @property
    def _loss(self):
        """The Loss, with the estimator's epsilon where that is its parameter."""
        loss, epsilon = losses.get(self.loss, self._task), self.epsilon
        if epsilon is None:
            return loss
        if isinstance(epsilon, str):
            if epsilon != "auto" or self.loss != "huber":
                raise ValueError(
                    f'epsilon must be a number, or "auto" for loss="huber"; got {epsilon!r} beside {loss!r}'
                )
            return losses.Huber(loss.delta * getattr(self, "scale_", 1.0))
        epsilon = validation.scalar(epsilon, "epsilon", positive=True)
        if isinstance(self.loss, losses.Loss):
            raise ValueError(f"epsilon is for a loss that is given by its name; got {epsilon} beside loss={loss!r}")
        return loss if loss.of_epsilon is None else dataclasses.replace(loss, **{loss.of_epsilon: epsilon})

    # ----------------------------------------------------------------------------------------------------------- fit

    def fit(
        self,
        X: Table,
        y: ArrayLike | None = None,
        sample_weight: ArrayLike | None = None,
        offset: ArrayLike | None = None,
    ) -> Self:
        """Fit the model.

        Ctrl-C ends the fit: the best weights so far are kept, and the KeyboardInterrupt is raised again, with `result`.

        Parameters
        ----------
        X : array_like, frame, fastgd.data.scan, CSR matrix or fastgd.data.Rows, (n, d)
            float64 and float32 are used as they are, without a copy; everything else becomes float64. Of a frame (of
            pandas, polars, pyarrow or another with __arrow_c_stream__; extra "arrow") text, categories and booleans
            have a column for each level, see `drop`.
        y : array_like
            Targets, (n,) or, for a regressor, (n, k). A scan may hold them.
        sample_weight : array_like, (n,), optional
            Not negative; a weight of 2 is the same as the sample twice.
        offset : array_like, (n,), optional
            A known part of each score, h = Xw + b + offset: of counts the logarithm of the exposure.

        Returns
        -------
        self

        Warns
        -----
        ConvergenceWarning
            `max_iter` epochs did not reach `tol`.
        DivergenceWarning
            The rate is too large: the weights are the best seen.
        ConditionWarning
            The columns are collinear, or nearly: the weights are not, or hardly, determined by the data. Or the classes
            can be told apart without an error and nothing is penalised: no finite weights are best.
        """
        checked = self._check_parameters()
        with self._as_before_if_it_fails():
            objective, result, error = self._fit(checked, X, y, sample_weight, offset)
        if isinstance(error, KeyboardInterrupt):
            raise error
        self._warn(objective, result, error, checked)
        return self

    @classmethod
    def from_formula(cls, formula: str, data: Table, sample_weight: ArrayLike | None = None, **parameters: Any) -> Self:
        """Fit a model of the columns of a frame that a formula names (extra "formula").

        Parameters
        ----------
        formula : str
            Such as "weight ~ height + C(sex) + log(age):C(sex)": sums, interactions, `C` and functions of columns;
            "- 1" leaves out the intercept.
        data : frame or fastgd.data.scan
        **parameters
            Of the estimator.

        Returns
        -------
        estimator
            Fitted; it predicts from frames with the same columns, and `coef_names_` are the formula's terms.

        Raises
        ------
        ValueError
            The formula names what is no column and no known function, or cannot be read.
        """
        target, text = formulas.sides(formula)
        table = data.table if isinstance(data, Scan) else frame(data, "data")
        check_names(table, [target], "data")
        terms = formulas.Terms(table, text)
        if not formulas.Formula.of(text, table, encoding.Rules(missing="mean")).intercept:
            parameters = {"fit_intercept": False} | parameters
        cells = table.column(target)
        is_text = columns.kind_of(cells)[0] == "category"
        return cls(**parameters).fit(terms, columns.labels(cells) if is_text else columns.numbers(cells), sample_weight)

    def _fit(self, checked, X, y, sample_weight, offset):
        X, y, sample_weight, offset = inputs.learn(self, X, y, sample_weight, offset)
        X, y = inputs.validated(self, X, y, finite=False)
        offset = inputs.offsets(offset, X)
        sample_weight = inputs.weights(sample_weight, X, relative=True)
        y, activation = self._targets(y, X.dtype)
        weighted, held_out = self._weights(y, sample_weight, X), None
        if checked.early_stopping:
            train, held = self._split(X, y, sample_weight)
            held_out = X[held], y[held], *(None if part is None else part[held] for part in (sample_weight, offset))
            X, y, weighted, offset = (None if part is None else part[train] for part in (X, y, weighted, offset))
        objective = self._objective(X, y, activation, checked, weighted, offset)
        score = None if held_out is None else self._scorer(objective, *held_out)
        result, error = self._run(objective, checked, score)
        self._keep(objective, result, X.dtype, y)
        # Where steps on single rows end is near the minimum, and not at it.
        at_minimum = result.status not in (Status.DIVERGED, Status.INTERRUPTED) and result.solver != "sgd"
        self._kept = Kept.of(objective) if at_minimum and offset is None else None
        return objective, result, error

    def _run(self, objective, checked, score):
        """(Result, the DivergenceError or KeyboardInterrupt that ended it or None)."""
        request = self._request(objective, checked)
        checkpoint = None if self.checkpoint is None else self._checkpoint(objective, checked, request)
        saved = monitor = error = None
        try:
            if checked.resume:
                saved, result = checkpoint.resumed(checked.max_iter, "max_iter", "epoch")
                if result is not None:
                    return result, None
            bar, begun = None, 0 if saved is None else saved["step"]
            if checked.verbose >= BAR:
                bar = progress_bar(checked.max_iter, begun, "epoch", f"verbose={BAR}")
            with contextlib.nullcontext() if bar is None else bar, np.errstate(all="ignore"):
                made = plan.Plan(request)
                checked.dropped = made.dropped
                monitor = made.watch(
                    stopping=Stopping(**checked.stopping), recorder=Epochs(), callbacks=checked.callbacks,
                    describe=self._describe, say=epoch_line if checked.verbose and bar is None else None, bar=bar,
                    score=score, patience=checked.patience, least_rise=checked.tol or 0.0, checkpoint=checkpoint,
                    saved=saved, in_epochs=True, settles=False,
                )  # fmt: skip
                result = made.run()
        except DivergenceError as diverged:
            result, error = diverged.result, diverged
        except KeyboardInterrupt as interrupt:
            result = None if monitor is None else monitor.interrupted()
            if result is None:
                raise
            interrupt.result, error = result, interrupt
            interrupt.add_note(self._how_to_go_on(result, checkpoint))
            return result, error
        if checkpoint is not None:
            checkpoint.finish(result, error)
        return result, error

    def _request(self, objective, checked):
        request = plan.Request(
            objective, checked.max_iter, solver=self.solver, rate=checked.rate, rule=checked.rule, batch=checked.batch,
            user_columns=False, path=checked.early_stopping, shuffle=self.shuffle, tol=checked.tol,
            rate_word="learning_rate",
        )  # fmt: skip
        solver = plan.choose(request)
        if checked.start is not None:
            request.start = checked.start
        elif self.warm_start and hasattr(self, "coef_"):
            request.start = self._warm_start(objective, checked)
        elif solver == "sgd" and checked.rate is not None:
            # Where the textbook starts, and partial_fit.
            request.start = np.zeros((objective.rows.d, objective.rows.k)), np.zeros(objective.rows.k)
        shuffled = solver == "sgd" and self.shuffle
        if shuffled:
            request.seed = int(check_random_state(self.random_state).randint(np.iinfo(np.int32).max))
        if self.checkpoint is not None and self.random_state is None and (shuffled or checked.early_stopping):
            raise ValueError(
                "checkpoint needs a random_state where rows are shuffled or held out, or no later fit takes the same "
                "rows: give an integer"
            )
        return request

    def _checkpoint(self, objective, checked, request):
        """The file of the run, with what it must agree on."""
        o = objective
        identity = {"estimator": type(self).__name__, "X": digest(*o.rows.arrays_for_digest()), "y": digest(o.y)}
        identity |= {"sample_weight": digest(o.rows.weights), "seed": request.seed}
        identity["coef_"] = digest(*request.start) if self.warm_start and request.start is not None else None
        identity |= {name: repr(getattr(self, name)) for name in OF_CHECKPOINTS if not callable(getattr(self, name))}
        identity["least_rise"] = checked.tol if checked.early_stopping else None
        return Checkpoint(self.checkpoint, identity, {"tol": checked.tol, "target": checked.stopping["target"]})

    def _how_to_go_on(self, result, checkpoint):
        """What a KeyboardInterrupt says of the fit that it ended."""
        way = "" if checkpoint is None else f"; resume=True goes on from {checkpoint.path!r}"
        return f"{type(self).__name__}.fit was {result.message}: it has the best weights so far{way}"

    @staticmethod
    def _describe(monitor, point, score):
        """What the callbacks are called with."""
        v = monitor.variables
        w = v.to_user(point.z)
        W, b = v.objective.split(w)
        rate, (nfev, njev, _) = math.nan if monitor.last_rate is None else monitor.last_rate, v.spent
        return Result(
            epoch=point.step, coef=W.T.copy(), intercept=b.copy(), loss=point.fun, validation_score=score,
            grad_norm=monitor.user_norm(point), learning_rate=rate,
            x=w, fun=point.fun, nit=point.step, nfev=nfev, njev=njev,
        )  # fmt: skip

    @contextlib.contextmanager
    def _as_before_if_it_fails(self):
        """A call that raises leaves no attribute that belongs to other weights: classes, names of columns, scores."""
        before = dict(self.__dict__)
        try:
            yield
        except BaseException:
            self.__dict__.clear()
            self.__dict__.update(before)
            raise

    def _statistics(self, X, y, sample_weight):
        """For `summary`, of data that are given to it, or of those that the fit has kept."""
        if X is not None:
            checked = self._check_parameters()
            X, y = inputs.validated(self, X, y, reset=False)
            sample_weight = inputs.weights(sample_weight, X, relative=True)
            y, activation = self._known_targets(y, X.dtype)
            objective = self._objective(X, y, activation, checked, self._weights(y, sample_weight, X))
        elif (kept := self.__dict__.get("_kept")) is not None:
            objective = kept.objective()
        else:
            raise ValueError("the model has kept no data of a fit: pass them, summary(X, y)")
        with np.errstate(all="ignore"), one_blas_thread(objective.rows.n * objective.rows.d**2):
            return Statistics.of(objective, *self._weights_so_far(objective))

    def _objective(self, X, y, activation, checked, sample_weight, offset=None):
        self._offset_fitted = offset is not None
        if offset is not None and self._several(y):
            raise ValueError("offset is for one output: fit each by itself")
        try:
            inputs.refuse_infinite(X, "X", getattr(self, "feature_names_in_", None))
            record = losses.of(checked.loss, activation)
            return LinearObjective.of_arrays(
                X, self._coded(y, X.dtype), np.empty(0, X.dtype) if sample_weight is None else sample_weight,
                record, fit_intercept=checked.fit_intercept, l1=checked.l1, l2=checked.l2, offset=offset,
                deviance=True, n_jobs=self.n_jobs,
            )  # fmt: skip
        except OverflowError as error:  # of memory or of indices
            raise ValueError(f"X and y do not make an objective: {error}") from error

    def _warm_start(self, objective, checked):
        """The weights of the last fit, if their loss is lower than that of the constant model; None otherwise."""
        W, b = self._weights_so_far(objective)
        if checked.rate is not None:
            return W, b
        value = objective.sums(W, b, gradient=False) + objective.penalty(W)
        return (W, b) if value <= objective.value_at_constant(objective.best_constant()[1]) else None

    def _keep(self, objective, result, dtype, y):
        W, b = objective.split(result.x)
        self._set_weights(W.astype(dtype), b.astype(dtype), y)
        self.n_iter_ = max(1, result.nit)
        self.history_ = result.history
        self._online = None
        self.result_ = result

    def _warn(self, objective, result, error, checked):
        name = type(self).__name__
        if result.status == Status.DIVERGED:
            rate = "" if error.lr is None else f" with learning_rate {error.lr:.3g}"
            warnings.warn(
                f"{name} diverged in epoch {error.step}{rate}: {result.message}. The weights are the best seen, those "
                'of the start if none were better. Scale the features, take a smaller rate, or learning_rate="auto".',
                DivergenceWarning,
                stacklevel=3,
            )
        elif not result.success or (result.status == Status.STEP_LIMIT and checked.tol is not None):
            warnings.warn(f"{name}: {result.message}.", ConvergenceWarning, stacklevel=3)
        separated = _separated(objective, result.history.loss)
        if separated:
            warnings.warn(
                f"the classes can be told apart without an error, so that no finite weights minimise the log loss: "
                f"these are where it was {result.history.loss[-1]:.1e}. Take a penalty.",
                ConditionWarning,
                stacklevel=3,
            )
        at_minimum = result.status in (Status.CONVERGED, Status.STEP_LIMIT) and result.solver != "sgd"
        if not separated and at_minimum:
            self._warn_of_direction(objective, result)
        if len(checked.dropped):
            warnings.warn(
                f"{self._names(checked.dropped)} of X var{'y' if len(checked.dropped) > 1 else 'ies'} by no more than "
                f"the rounding of {objective.dtype} at such a mean, and got a weight of 0: subtract the means in "
                "float64 first",
                ConditionWarning,
                stacklevel=3,
            )
        if result.lost:
            directions = f"{result.lost} direction{'s' * (result.lost != 1)}"
            warnings.warn(
                f"the columns of X are collinear to within rounding error ({directions}): of the weights that fit "
                "equally well, those with the smallest norm were taken",
                ConditionWarning,
                stacklevel=3,
            )
        elif result.condition is not None and result.condition > ILL_CONDITIONED:
            warnings.warn(
                f"the columns of X are nearly collinear: their condition number, centred and scaled, is "
                f"{result.condition:.1e}, and the weights have lost as many digits",
                ConditionWarning,
                stacklevel=3,
            )

    def _warn_of_direction(self, objective, result):
        """Say so where no finite weights are the best, though not every row is told apart."""
        with np.errstate(all="ignore"):
            move = separation.direction(objective, *(part.astype(np.float64) for part in objective.split(result.x)))
        if move is None:
            return
        sizes = np.max(np.abs(move[: objective.rows.d]), axis=1, initial=0.0)
        columns = np.flatnonzero(sizes >= 0.1 * max(float(np.max(np.abs(move))), 1e-300))
        what = f"along {self._names(columns)}" if len(columns) else "along the intercept"
        warnings.warn(
            f"no finite weights minimise the loss (quasi-complete separation): {what} some rows are fitted ever better "
            "and none worse, so that these weights only show where the fit was ended. Take a penalty, or leave out or "
            "merge what separates them.",
            ConditionWarning,
            stacklevel=4,
        )

    def _names(self, columns, most=5):
        """Columns in words."""
        known = getattr(self, "feature_names_in_", None)
        names = [f"x{i}" if known is None else repr(str(known[i])) for i in columns[:most]]
        more = f" and {len(columns) - most} more" if len(columns) > most else ""
        return f"column{'s' * (len(columns) > 1)} {', '.join(names)}{more}"

    def _split(self, X, y, sample_weight):
        """The numbers of the rows to learn from and of those to hold out."""
        inputs.refuse_infinite(X, "X")  # a fit looks at its own rows only
        # A row of weight 0 is no row: it could neither teach nor test.
        rows = np.arange(len(y)) if sample_weight is None else np.flatnonzero(sample_weight)
        strata = self._strata(y)
        try:
            train, held = train_test_split(
                rows, test_size=self.validation_fraction, random_state=self.random_state,
                stratify=None if strata is None else strata[rows],
            )  # fmt: skip
        except ValueError as error:
            raise ValueError(
                f"early_stopping cannot hold out validation_fraction={self.validation_fraction} of {len(rows)} "
                f"samples: {error}"
            ) from error
        if len(held) < self._least_held_out:
            raise ValueError(
                f"early_stopping holds out {len(held)} of {len(rows)} samples with "
                f"validation_fraction={self.validation_fraction}, and their score needs {self._least_held_out}: "
                "raise validation_fraction"
            )
        return train, held

    def _strata(self, y):
        return None

    def _class_weighted(self, y, sample_weight):
        return sample_weight

    def _weights(self, y, sample_weight, X):
        """Those of samples and of classes together; as in `inputs.weights` only their ratios matter."""
        s = self._class_weighted(y, sample_weight)
        return s if s is sample_weight else inputs.weights(s, X, relative=True, name="class_weight")

    def _scorer(self, objective, X, y, sample_weight, offset):
        def score(w):
            self._set_weights(*objective.split(w), y)
            return self._score_of(X, y, sample_weight, offset)

        return score

    # --------------------------------------------------------------------------------------------------- partial_fit

    def _batch_weights(self, s, X):
        """Weights of a batch; (weights or None, whether there is anything to learn); if not, that is said."""
        values = np.asarray(s) if isinstance(s, (list, tuple)) else s
        zeros = getattr(values, "shape", None) == (X.shape[0],) and values.dtype.kind in "fiub" and not np.any(values)
        if zeros:
            warnings.warn(
                f"{type(self).__name__}.partial_fit: all weights are 0, so that nothing was learnt", UserWarning,
                stacklevel=4,
            )  # fmt: skip
        return None if zeros else inputs.weights(s, X), not zeros

    def _feed(self, X, Y, s, offset=None):
        online = self._online
        rows = rows_of(X, Y, s)
        if offset is not None:
            given = s.astype(np.float64) if s.size else np.ones(len(Y))
            found = self._loss.absorbed(
                online.record.activation, Y.astype(np.float64), given, offset.astype(np.float64)
            )
            if found is None:
                rows = WithOffset(rows, offset)
            else:
                Y, s = (np.ascontiguousarray(part, X.dtype) for part in found[:2])
                rows = rows_of(X, Y, s)
        if online.feed(X, Y, s, rows):
            return self
        inputs.refuse_infinite(X, "X")
        inputs.refuse_infinite(Y[:, 0] if Y.shape[1] == 1 else Y, "y")
        warnings.warn(
            f"{type(self).__name__}.partial_fit diverged: the weights overflowed, and those before this call are "
            'kept. Scale the features, take a smaller learning_rate, or "auto".',
            DivergenceWarning,
            stacklevel=3,
        )
        return self

    def _stream(self, activation, dtype, k):
        """The stream that goes on with these rows: a new one where weights, dtype or parameters are no longer its own.

        The weights of a new one are those of the model. Where only its parameters or the dtype have changed, it goes on
        where the old one was in its schedule, and with what it knows of the columns.
        """
        old = self.__dict__.get("_online")
        if old is not None and old.is_of(self) and dtype == old.dtype:
            return old
        checked = self._check_parameters()
        if checked.rate is not None and checked.rate.observes:
            raise ValueError(
                "learning_rate looks at the losses of epochs, which partial_fit does not have: take a schedule of the "
                "step alone"
            )
        if checked.rate is None:
            refuse_penalty(checked.rule, checked.l1, checked.l2)
        coef = intercept = None
        if hasattr(self, "coef_"):
            coef, intercept = self._weights_matrix()
        online = Online(
            losses.of(checked.loss, activation), self.n_features_in_, k, dtype,
            fit_intercept=checked.fit_intercept, rate=checked.rate,
            rule=checked.rule, batch=checked.batch or 1, l1=checked.l1, l2=checked.l2, coef=coef, intercept=intercept,
        )  # fmt: skip
        if old is not None and self.coef_ is old.coef_of_user:
            online.go_on_from(old)
        self._online, self._kept = online, None
        self._attach_online()
        self.n_iter_ = 1
        return online

    def __getstate__(self):
        state = dict(super().__getstate__())
        online = state.get("_online")
        if online is not None:
            # The weights are views of the stream's: they are made anew, or a copy would not learn.
            state["_online"] = copy.deepcopy(online) if online.is_of(self) else None
        return state

    def __setstate__(self, state):
        super().__setstate__(state)
        if self.__dict__.get("_online") is not None:
            self._attach_online()

    @property
    def coef_names_(self) -> NDArray[Any]:
        """Of the coefficients: names of columns, and column=level for the levels of text columns."""
        check_is_fitted(self, "coef_")
        encoder, names = self.__dict__.get("_encoder"), getattr(self, "feature_names_in_", None)
        if encoder is not None:
            names = encoder.encoded_names
        elif names is None:
            names = [f"x{i}" for i in range(np.shape(self.coef_)[-1])]
        return np.array(names, dtype=object)

    # ------------------------------------------------------------------------------------------------------- predict

    def _scores(self, X, offset=None):
        check_is_fitted(self, "coef_")
        if offset is None and isinstance(X, Scan) and X.offset is not None:
            offset = X.column(X.offset)
        X = inputs.validated(self, X, reset=False)
        return with_offset(self._raw_scores(X), inputs.offsets(offset, X))


def _rate(learning_rate):
    """A rate as a function of the step, or None for "auto"."""
    if not isinstance(learning_rate, str):
        if callable(learning_rate):
            inputs.of_one_argument(learning_rate, "learning_rate", "the step")
        return rate_of(learning_rate, "learning_rate", positive=True)
    if learning_rate != "auto":
        raise ValueError(f'learning_rate must be "auto", a number or a function of the step; got {learning_rate!r}')
    return None


def _separated(objective, losses):
    """Whether a log loss without a penalty is so small that every row must be on its side of the border."""
    o, s = objective, objective.rows.weights
    if not o.record.loss.separable or o.has_dual or not len(losses):
        return False
    least = float(s[s > 0].min()) if s.size else 1.0
    return bool(losses[-1] * o.total_weight < math.log(2) * least)


class Checked:
    """Parameters after their check.

    `dropped` are numbers of columns that vary, but for which there are no weights; `start` is (W, b), or None.
    """

    dropped, start = (), None
