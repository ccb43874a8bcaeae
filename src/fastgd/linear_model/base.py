"""What a fit of the two estimators does, and what it leaves behind."""

from __future__ import annotations

import contextlib
import math
import typing

import numpy as np
from sklearn.model_selection import train_test_split
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

from fastgd import losses
from fastgd.data import Scan, encoding, formulas
from fastgd.data import cells as columns
from fastgd.data.distributed import Distributed
from fastgd.data.streamed import Streamed
from fastgd.data.streams import Stream
from fastgd.data.tables import check_names, frame
from fastgd.engine import plan
from fastgd.engine.recorder import Epochs
from fastgd.engine.result import Result, Status
from fastgd.engine.shown import epoch_line
from fastgd.engine.stopping import Stopping
from fastgd.errors import DivergenceError, progress_bar
from fastgd.files.checkpoint import Checkpoint, digest
from fastgd.files.models import Saved, scores
from fastgd.linear_model import inputs, remarks
from fastgd.linear_model.online import FitsInParts
from fastgd.linear_model.onnx_graph import Exported
from fastgd.linear_model.parameters import Parameters
from fastgd.linear_model.penalised import Penalised
from fastgd.linear_model.summary import Kept, Summarised
from fastgd.objective import LinearObjective

if typing.TYPE_CHECKING:
    from typing import Any, Self

    from numpy.typing import ArrayLike, NDArray

    from fastgd.engine.result import History
    from fastgd.types import Floats, Table


class LinearModel(Saved, Exported, Summarised, Penalised, FitsInParts, Parameters):
    """Fits and reports; a subclass says what y is (`_targets`) and what their score is (`_score_of`)."""

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
        remarks.warn_of(self, objective, result, error, checked)
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

    def _taken(self, X, y, sample_weight, offset):
        """(X, targets, activation, sample weights, these times class weights, offsets), encoded and checked."""
        X, y, sample_weight, offset = inputs.learn(self, X, y, sample_weight, offset)
        X, y = inputs.validated(self, X, y, finite=False)
        X = inputs.precise(X) if self.fit_intercept else X
        offset = inputs.offsets(offset, X)
        sample_weight = inputs.weights(sample_weight, X, relative=True)
        y, activation = self._targets(y, X.dtype)
        return X, y, activation, sample_weight, self._weights(y, sample_weight, X), offset

    def _fit(self, checked, X, y, sample_weight, offset):
        X, y, activation, sample_weight, weighted, offset = self._taken(X, y, sample_weight, offset)
        self._has_offset, held_out, dtype = offset is not None, None, X.dtype
        X, y, sample_weight, weighted, offset = inputs.in_double(X, y, sample_weight, weighted, offset)
        if checked.early_stopping:
            train, held = self._split(X, y, sample_weight)
            held_out = X[held], y[held], *(None if part is None else part[held] for part in (sample_weight, offset))
            X, y, weighted, offset = (None if part is None else part[train] for part in (X, y, weighted, offset))
        objective = self._objective(X, y, activation, checked, weighted, offset)
        objective.resolution = float(np.finfo(dtype).eps)
        score = None if held_out is None else lambda w: self._score_held_out(objective.split(w), *held_out)
        result, error = self._run(objective, checked, score)
        if dtype != objective.dtype:
            inputs.round_off(result, objective, dtype, checked.tol)
        self._set_weights(*(part.astype(result.x.dtype) for part in objective.split(result.x)), y)
        self.n_iter_, self.history_, self.result_ = max(1, result.nit), result.history, result
        self._online = None
        # Stochastic steps end near the minimum, not at it.
        at_minimum = result.status not in (Status.DIVERGED, Status.INTERRUPTED) and result.solver != "sgd"
        self._kept = None
        if at_minimum and checked.bounds is None:
            whole = objective if offset is None else self._objective(X, y, activation, checked, weighted)
            self._kept = Kept.of(whole, offset)
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
            if checked.verbose >= 2:
                bar = progress_bar(checked.max_iter, begun, "epoch", "verbose=2")
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
            way = "" if checkpoint is None else f"; resume=True goes on from {checkpoint.path!r}"
            interrupt.add_note(f"{type(self).__name__}.fit was {result.message}: it has the best weights so far{way}")
            return result, error
        if checkpoint is not None:
            checkpoint.finish(result, error)
        return result, error

    def _request(self, objective, checked):
        request = plan.Request(
            objective, checked.max_iter, solver=self.solver, rate=checked.rate, rule=checked.rule, batch=checked.batch,
            user_columns=False, path=checked.early_stopping, shuffle=self.shuffle, tol=checked.tol,
            rate_word="learning_rate", bounds=self._bounds_of(objective, checked),
        )  # fmt: skip
        solver = plan.choose(request)
        if checked.start is not None:
            request.start = checked.start
        elif self.warm_start and hasattr(self, "coef_"):
            request.start = self._warm_start(objective, checked)
        elif solver == "sgd" and checked.rate is not None:
            # Steps with a given rate start at zero, as in textbooks and in partial_fit.
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

    @staticmethod
    def _bounds_of(objective, checked):
        """(lower, upper) of the objective's shape, the intercept without; None without bounds."""
        if checked.bounds is None:
            return None
        d, k = objective.rows.d, objective.rows.k
        if checked.bounds[0].shape not in ((), (d,)):
            raise ValueError(
                f"bounds must be a number, or one for each of the {d} coefficients, on either side; got shape "
                f"{checked.bounds[0].shape}"
            )
        sides = [np.broadcast_to(side.reshape(-1, 1), (d, k)) for side in checked.bounds]
        return tuple(objective.join(side, np.full(k, end)) for side, end in zip(sides, (-np.inf, np.inf), strict=True))

    def _checkpoint(self, objective, checked, request):
        """The file of the run, with what it must agree on."""
        o = objective
        identity = {"estimator": type(self).__name__, "X": digest(*o.rows.arrays_for_digest()), "y": digest(o.y)}
        identity |= {"sample_weight": digest(o.rows.weights), "seed": request.seed}
        identity["coef_"] = digest(*request.start) if self.warm_start and request.start is not None else None
        # All parameters that the result of a completed fit depends on; rates that are functions cannot be told apart.
        names = (
            "loss", "epsilon", "penalty", "alpha", "l1_ratio", "fit_intercept", "solver", "learning_rate", "optimizer",
            "batch_size", "early_stopping", "validation_fraction", "n_iter_no_change", "shuffle", "positive", "bounds",
            "penalty_weights", "groups",
        )  # fmt: skip
        identity |= {name: repr(getattr(self, name)) for name in names if not callable(getattr(self, name))}
        identity["least_rise"] = checked.tol if checked.early_stopping else None
        return Checkpoint(self.checkpoint, identity, {"tol": checked.tol, "target": checked.stopping["target"]})

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
        """Restore all attributes if the call raises, so that classes, column names and weights belong together."""
        before = dict(self.__dict__)
        try:
            yield
        except BaseException:
            self.__dict__.clear()
            self.__dict__.update(before)
            raise

    def _objective_of_summary(self, X, y, sample_weight, offset=None):
        """That of data that are given to `summary`, or of those that the fit has kept, without an offset; and that."""
        if X is not None:
            checked = self._check_parameters()
            X, y = inputs.validated(self, X, y, reset=False)
            X = inputs.precise(X) if self.fit_intercept else X
            offset = inputs.offsets(offset, X)
            if offset is None and self.__dict__.get("_has_offset"):
                raise ValueError("the fit had an offset: pass that of the data, summary(X, y, offset=…)")
            sample_weight = inputs.weights(sample_weight, X, relative=True)
            y, activation = self._known_targets(y, X.dtype)
            return self._objective(X, y, activation, checked, self._weights(y, sample_weight, X)), offset
        kept = self.__dict__.get("_kept")
        if kept is None:
            raise ValueError("the model has kept no data of a fit: pass them, summary(X, y)")
        return kept.objective(), kept.offset

    def _objective(self, X, y, activation, checked, sample_weight, offset=None):
        if offset is not None and self._outputs(y) > 1:
            raise ValueError("offset is for one output, or two classes: fit each by itself")
        try:
            inputs.refuse_infinite(X, "X", getattr(self, "feature_names_in_", None))
            record = losses.of(checked.loss, activation)
            return LinearObjective.of_arrays(
                X, self._coded(y, X.dtype), np.empty(0, X.dtype) if sample_weight is None else sample_weight,
                record, fit_intercept=checked.fit_intercept, penalty=self._penalty(checked, X.shape[1]), offset=offset,
                deviance=True, n_jobs=self.n_jobs,
            )  # fmt: skip
        except OverflowError as error:  # of memory or of indices
            raise ValueError(f"X and y do not make an objective: {error}") from error

    def _warm_start(self, objective, checked):
        """The weights of the last fit, if their loss is lower than that of the constant model; None otherwise."""
        W, b = self._weights_so_far(objective)
        if checked.rate is not None:
            return W, b
        value = objective.sums(W, b, gradient=False) + objective.penalty.value(W)
        return (W, b) if value <= objective.value_at_constant(objective.best_constant()[1]) else None

    def _split(self, X, y, sample_weight):
        """The numbers of the rows to learn from and of those to hold out."""
        if isinstance(X, (Stream, Distributed)):
            return X.held_out(self.validation_fraction, int(check_random_state(self.random_state).randint(1 << 31)))
        inputs.refuse_infinite(X, "X")  # a fit looks at its own rows only
        # Rows of weight 0 are neither trained on nor held out.
        rows = np.arange(len(y)) if sample_weight is None else np.flatnonzero(sample_weight)
        of_classes = self._task == "classification"
        try:
            train, held = train_test_split(
                rows, test_size=self.validation_fraction, random_state=self.random_state,
                stratify=y[rows] if of_classes and y.dtype.kind != "f" else None,
            )  # fmt: skip
        except ValueError as error:
            raise ValueError(
                f"early_stopping cannot hold out validation_fraction={self.validation_fraction} of {len(rows)} "
                f"samples: {error}"
            ) from error
        least = 1 if of_classes else 2  # R² of one sample is undefined
        if len(held) < least:
            raise ValueError(
                f"early_stopping holds out {len(held)} of {len(rows)} samples with "
                f"validation_fraction={self.validation_fraction}, and their score needs {least}: "
                "raise validation_fraction"
            )
        return train, held

    def _class_weighted(self, y, sample_weight):
        return sample_weight

    def _activation(self):
        return self._loss.link

    def _weights(self, y, sample_weight, X):
        """Sample weights times class weights; as in `inputs.weights` only their ratios matter."""
        s = self._class_weighted(y, sample_weight)
        return s if s is sample_weight else inputs.weights(s, X, relative=True, name="class_weight")

    def _score_elsewhere(self, X, y, sample_weight, offset):
        """`score` of a collection of dask."""
        check_is_fitted(self, "coef_")
        if offset is not None:
            raise ValueError("offset is for an X in memory; a dask collection takes none")
        X, y, sample_weight = inputs.held(self, X, y, sample_weight)
        return self._score_there(X, self._known_targets(y, X.dtype)[0], sample_weight)

    def _score_held_out(self, weights, X, y, sample_weight, offset):
        self._set_weights(*weights, y)
        if not getattr(X, "in_memory", True):
            return self._score_there(X, y, sample_weight)
        return self._score_of(self._raw_scores(X, offset), y, sample_weight, offset)

    @property
    def coef_names_(self) -> NDArray[Any]:
        """Of the coefficients: names of columns, and column=level for the levels of text columns."""
        check_is_fitted(self, "coef_")
        return np.array(self._names_of_columns(np.shape(self.coef_)[-1]), dtype=object)

    def _names_of_columns(self, d):
        encoder, names = self.__dict__.get("_encoder"), getattr(self, "feature_names_in_", None)
        if encoder is not None:
            return encoder.encoded_names
        return [f"x{i}" for i in range(d)] if names is None else names

    # ------------------------------------------------------------------------------------------------------- predict

    def _scores(self, X, offset=None):
        check_is_fitted(self, "coef_")
        if offset is None and isinstance(X, Scan) and X.offset is not None:
            offset = X.column(X.offset)
        X = inputs.validated(self, X, reset=False)
        return self._raw_scores(X, inputs.offsets(offset, X))

    def _observed(self, X, *given):
        """(scores, y, sample_weight, offset) of a table, for `score`; a scan holds what is not `given`."""
        check_is_fitted(self, "coef_")
        if isinstance(X, Streamed):
            return inputs.gathered(self, X, given)
        y, sample_weight, offset = X.beside(*given) if isinstance(X, Scan) else given
        X, y = inputs.validated(self, X, y, reset=False)
        offset = inputs.offsets(offset, X)
        return self._raw_scores(X, offset), y, sample_weight, offset

    def _raw_scores(self, X, offset=None):
        h = scores(X, self.coef_, self.intercept_, self.__dict__.get("classes_"))
        return h if offset is None else h + offset.reshape(-1, *[1] * (h.ndim - 1))

    # ------------------------------------------------------------------------------------------------------- weights

    def _set_weights(self, W, b, y):
        one = self._task == "regression" and y.ndim == 1
        self.coef_, self.intercept_ = W[:, 0] if one else np.ascontiguousarray(W.T), b

    def _weights_matrix(self):
        """W (d, k) and b (k,)."""
        return np.atleast_2d(self.coef_).T, self.intercept_

    def _weights_so_far(self, objective):
        """The same in float64, for a start of the shape of the objective."""
        W, b = (np.ascontiguousarray(part, np.float64) for part in self._weights_matrix())
        shape = objective.rows.d, objective.rows.k
        if W.shape != shape:
            raise ValueError(f"warm_start needs weights of shape {shape}; those here are {W.shape}")
        return W, b
