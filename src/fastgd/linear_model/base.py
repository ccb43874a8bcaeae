"""What the two estimators share: parameters, data, the choice of a solver, and what a fit leaves behind."""

import contextlib
import copy
import math
import warnings

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import train_test_split
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

from fastgd import optimizers, validation
from fastgd.errors import ConditionWarning, DivergenceWarning
from fastgd.files.models import Saved
from fastgd.linear_model import inputs, route
from fastgd.linear_model.online import Online
from fastgd.linear_model.onnx_graph import Exported
from fastgd.linear_model.problem import Problem
from fastgd.linear_model.stream import refuse_penalty
from fastgd.linear_model.summary import Statistics, Summarised
from fastgd.linear_model.watch import Watch
from fastgd.result import Result

PENALTIES = (None, "l2", "l1", "elasticnet")
# Columns whose condition number is above this leave less than half of the digits.
ILL_CONDITIONED = 1e8
# The parameters that a stream of partial_fit is made of.
OF_STREAMS = frozenset({
    "loss", "penalty", "alpha", "l1_ratio", "fit_intercept", "learning_rate", "optimizer", "batch_size", "epsilon",
    "class_weight", "multi_class",
})  # fmt: skip


class LinearModel(Saved, Exported, Summarised, BaseEstimator):
    """Fits, streams and reports; a subclass says what y is (`_targets`) and what a score is (`_score_of`)."""

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags

    # ---------------------------------------------------------------------------------------------------- parameters

    def _check_parameters(self):
        """The parameters as numbers; ValueError or TypeError for what they do not take."""
        validation.choice(self.loss, "loss", self._losses)
        if self.penalty is not None and self.penalty not in PENALTIES:
            names = ", ".join(map(repr, PENALTIES))
            raise ValueError(f"penalty must be one of {names}; got {validation.describe(self.penalty)}")
        validation.choice(self.solver, "solver", route.SOLVERS)
        checked = Checked()
        checked.rule = optimizers.get(self.optimizer)
        checked.plain = type(checked.rule) is optimizers.GD
        alpha = validation.scalar(self.alpha, "alpha", minimum=0)
        ratio = validation.scalar(self.l1_ratio, "l1_ratio", minimum=0)
        if ratio > 1:
            raise ValueError(f"l1_ratio must be between 0 and 1; got {ratio}")
        share = {None: (0, 0), "l2": (0, 1), "l1": (1, 0), "elasticnet": (ratio, 1 - ratio)}[self.penalty]
        checked.l1, checked.l2 = alpha * share[0], alpha * share[1]
        checked.fit_intercept = validation.boolean(self.fit_intercept, "fit_intercept")
        checked.rate = route.rate(self.learning_rate)
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
        validation.boolean(self.warm_start, "warm_start")
        validation.boolean(self.shuffle, "shuffle")
        verbose = int(self.verbose) if isinstance(self.verbose, bool) else self.verbose
        checked.verbose = validation.count(verbose, "verbose")
        calls = self.callbacks if self.callbacks is not None else ()
        calls = calls if isinstance(calls, (list, tuple)) else (calls,)
        checked.callbacks = [inputs.of_one_argument(call, "callbacks", "the state of the fit") for call in calls]
        checked.threshold = None
        if self.epsilon is not None:
            checked.threshold = validation.scalar(self.epsilon, "epsilon", positive=True)
        return checked

    # ----------------------------------------------------------------------------------------------------------- fit

    def fit(self, X, y, sample_weight=None):
        """Fit the model.

        Parameters
        ----------
        X : array_like or CSR matrix, (n, d)
            float64 and float32 are used as they are, without a copy; everything else becomes float64.
        y : array_like
            Targets, (n,) or, for a regressor, (n, k).
        sample_weight : array_like, (n,), optional
            Not negative; a weight of 2 is the same as the sample twice.

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
            watch, unusable = self._fit(checked, X, y, sample_weight)
        self._warn(watch, checked, unusable)
        return self

    def _fit(self, checked, X, y, sample_weight):
        X, y = inputs.validated(self, X, y, ensure_all_finite=False, multi_output=True, y_numeric=self._numeric_targets)
        sample_weight = inputs.weights(sample_weight, X, relative=True)
        y, name = self._targets(y, X.dtype)
        weighted, held_out = self._class_weighted(y, sample_weight), None
        if checked.early_stopping:
            train, held = self._split(X, y, sample_weight)
            held_out = X[held], y[held], None if sample_weight is None else sample_weight[held]
            X, y, weighted = X[train], y[train], None if weighted is None else weighted[train]
        problem = self._problem(X, y, name, checked, weighted)
        watch = Watch(
            problem, tol=checked.tol, max_iter=checked.max_iter, patience=checked.patience,
            score=None if held_out is None else self._scorer(*held_out), callbacks=checked.callbacks,
            verbose=checked.verbose,
        )  # fmt: skip
        with np.errstate(all="ignore"), contextlib.closing(watch):
            W, b = self._start(problem, checked)
            W, b, solver = self._solve(problem, watch, W, b, checked)
        self._keep(problem, watch, W, b, solver, X.dtype, y)
        with np.errstate(all="ignore"), route.one_blas_thread(problem.n * problem.d**2):
            # Where steps on single rows end is near the minimum, and not at it.
            at_minimum = watch.status != "diverged" and solver != "sgd"
            self._statistics = Statistics.of(problem, W, b) if at_minimum else None
        return watch, inputs.of_no_size(X) if checked.rate is None else []

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

    def _statistics_of(self, X, y, sample_weight):
        """For `summary`, of data that are given to it."""
        checked = self._check_parameters()
        X, y = inputs.validated(self, X, y, y_numeric=self._numeric_targets, reset=False)
        sample_weight = inputs.weights(sample_weight, X, relative=True)
        y, name = self._known_targets(y, X.dtype)
        problem = self._problem(X, y, name, checked, self._class_weighted(y, sample_weight))
        return Statistics.of(problem, *problem.in_kernel_units(*self._weights_so_far(problem)), always=True)

    def _problem(self, X, y, name, checked, sample_weight):
        try:
            return Problem(
                X, self._coded(y, name, X.dtype), name, fit_intercept=checked.fit_intercept, l1=checked.l1,
                l2=checked.l2, threshold=checked.threshold, sample_weight=sample_weight, n_jobs=self.n_jobs,
            )  # fmt: skip
        except ValueError as error:
            if "finite" in str(error):  # in the words that scikit-learn has for it
                inputs.finite(X, self)
            raise

    def _start(self, problem, checked):
        """The best constant model, or the weights of the last fit, unless they are worse and any start will do."""
        cold = problem.start()
        if not (self.warm_start and hasattr(self, "coef_")):
            return cold
        W, b = problem.in_kernel_units(*self._weights_so_far(problem))
        if checked.rate is not None:
            return W, b
        value = problem.sums(W, b, want_gradient=False) + problem.penalty(W)
        return (W, b) if value <= problem.value_at_constant(cold[1]) else cold

    def _solve(self, problem, watch, W, b, checked):
        solver = route.choose(problem, self.solver, checked)
        if solver == "sgd" and checked.rate is not None and not (self.warm_start and hasattr(self, "coef_")):
            W, b = np.zeros_like(W), np.zeros_like(b)  # where the textbook starts, and partial_fit
        start = W, b
        seed = check_random_state(self.random_state).randint(np.iinfo(np.int32).max) if solver == "sgd" else 0
        try:
            W, b = route.run(solver, problem, watch, W, b, checked, seed, self.shuffle)
        except KeyboardInterrupt:
            # It may come while an epoch is being looked at: one that is not in all lists is none.
            watch.epochs = min(map(len, watch.rows.values()))
            for values in watch.rows.values():
                del values[watch.epochs :]
            watch.end("interrupted", f"interrupted after {watch.epochs} epochs; the best weights so far are kept")
        if not watch.epochs and watch.status != "interrupted":
            watch.stayed(W, b)
        if watch.status in ("interrupted", "diverged") or watch.score is not None:
            W, b = self._best(problem, watch, *start)
        return W, b, solver

    def _best(self, problem, watch, W, b):
        """The best weights that were seen, among them the start of a fit that keeps those of the lowest loss."""
        if watch.best is None:
            return W, b
        if watch.score is None and problem.sums(W, b, want_gradient=False) + problem.penalty(W) < watch.best[2]:
            return W, b
        return problem.in_kernel_units(*watch.best[:2])

    def _keep(self, problem, watch, W, b, solver, dtype, y):
        W, b = problem.in_user_units(W, b)
        self._set_weights(W.astype(dtype), b.astype(dtype), y)
        self.n_iter_ = max(1, watch.epochs)
        self.history_ = watch.history
        self._online = None
        self.result_ = Result(
            status=watch.status, message=watch.message, solver=solver, gap=watch.gap, certified=watch.certified,
            condition=watch.condition, n_passes=problem.passes,
        )  # fmt: skip

    def _warn(self, watch, checked, unusable):
        name = type(self).__name__
        if watch.status == "diverged":
            rates = watch.rows["learning_rate"]
            rate = f" with learning_rate {rates[-1]:.3g}" if rates else ""
            warnings.warn(
                f"{name} diverged in epoch {watch.epochs}{rate}: {watch.message}. The weights are the best seen, those "
                'of the start if none were better. Scale the features, take a smaller rate, or learning_rate="auto".',
                DivergenceWarning,
                stacklevel=3,
            )
        elif watch.status == "interrupted":
            warnings.warn(f"{name} was {watch.message}.", ConvergenceWarning, stacklevel=3)
        elif watch.status == "stalled" or (watch.status == "max_iter" and checked.tol is not None):
            warnings.warn(f"{name} {watch.message}.", ConvergenceWarning, stacklevel=3)
        if _separated(watch.problem, watch.rows["loss"]):
            warnings.warn(
                f"the classes can be told apart without an error, so that no finite weights minimise the log loss: "
                f"these are where it was {watch.rows['loss'][-1]:.1e}. Take a penalty.",
                ConditionWarning,
                stacklevel=3,
            )
        if unusable:
            warnings.warn(
                f"X has columns that are too large or too small for their squares, numbers {str(unusable[:5])[1:-1]}: "
                "they are left out; measure them in other units",
                ConditionWarning,
                stacklevel=3,
            )
        if watch.lost:
            directions = f"{watch.lost} direction{'s' * (watch.lost != 1)}"
            warnings.warn(
                f"the columns of X are collinear but for rounding ({directions}): of the weights that fit equally "
                "well, those with the smallest norm in standardised columns were taken",
                ConditionWarning,
                stacklevel=3,
            )
        elif watch.condition is not None and watch.condition > ILL_CONDITIONED:
            warnings.warn(
                f"the columns of X are nearly collinear: their condition number, centred and scaled, is "
                f"{watch.condition:.1e}, and the weights have lost as many digits",
                ConditionWarning,
                stacklevel=3,
            )

    def _split(self, X, y, sample_weight):
        """The numbers of the rows to learn from and of those to hold out."""
        inputs.finite(X, self)  # a fit looks at its own rows only
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

    def _scorer(self, X, y, sample_weight):
        def score(W, b):
            self._set_weights(W.astype(X.dtype), b.astype(X.dtype), y)
            return self._score_of(X, y, sample_weight)

        return score

    # --------------------------------------------------------------------------------------------------- partial_fit

    def _feed(self, X, Y, s):
        online = self._online
        if online.feed(X, Y, s):
            return self
        finite = np.all(np.isfinite(X.data if hasattr(X, "tocsr") else X))
        if not finite:
            inputs.finite(X, self)
        if not np.all(np.isfinite(Y)):
            raise ValueError("y contains NaN or infinity")
        warnings.warn(
            f"{type(self).__name__}.partial_fit diverged: the weights overflowed, and those before this call are "
            'kept. Scale the features, take a smaller learning_rate, or "auto".',
            DivergenceWarning,
            stacklevel=3,
        )
        return self

    def _stream(self, name, dtype, k):
        """The stream that goes on with these rows: a new one where weights, dtype or parameters are no longer its own.

        The weights of a new one are those of the model. Where only its parameters or the dtype have changed, it goes on
        where the old one was in its schedule, and with what it knows of the columns.
        """
        old = self.__dict__.get("_online")
        if old is not None and self.coef_ is old.coef_of_user and dtype == old.dtype:
            return old
        checked = self._check_parameters()
        if checked.threshold is not None:
            raise ValueError("partial_fit takes the losses at their own epsilon: leave epsilon at None")
        if hasattr(getattr(checked.rate, "function", None), "observe"):
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
            name, self.n_features_in_, k, dtype, fit_intercept=checked.fit_intercept, rate=checked.rate,
            rule=checked.rule, batch=checked.batch or 1, l1=checked.l1, l2=checked.l2, coef=coef, intercept=intercept,
        )  # fmt: skip
        if old is not None and (old.coef_of_user is None or self.coef_ is old.coef_of_user):
            online.go_on_from(old)
        self._online, self._statistics = online, None
        self._attach_online()
        self.n_iter_ = 1
        return online

    def __setattr__(self, name, value):
        super().__setattr__(name, value)
        if name in OF_STREAMS and (online := self.__dict__.get("_online")) is not None:
            online.coef_of_user = None  # no longer the stream of these parameters

    def __getstate__(self):
        state = dict(super().__getstate__())
        online = state.get("_online")
        if online is not None:
            # The weights are views of the stream's: they are made anew, or a copy would not learn.
            state["_online"] = copy.deepcopy(online) if online.coef_of_user is self.coef_ else None
        return state

    def __setstate__(self, state):
        super().__setstate__(state)
        if self.__dict__.get("_online") is not None:
            self._attach_online()

    # ------------------------------------------------------------------------------------------------------- predict

    def _scores(self, X):
        check_is_fitted(self, "coef_")
        X = inputs.validated(self, X, reset=False)
        return self._raw_scores(X)


def _separated(problem, losses):
    """Whether a log loss without a penalty is so small that every row must be on its side of the border."""
    if problem.name not in ("log_loss", "softmax") or problem.has_dual or not losses:
        return False
    s = np.ones(1) if problem.s is None else problem.s[problem.s > 0]
    return losses[-1] * problem.objective.total_weight < math.log(2) * s.min()


class Checked:
    """Parameters after their check."""
