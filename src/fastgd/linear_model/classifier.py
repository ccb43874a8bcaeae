"""GDClassifier."""

from __future__ import annotations

import functools
import operator
import typing

import numpy as np
from sklearn.base import ClassifierMixin
from sklearn.metrics import accuracy_score
from sklearn.utils import column_or_1d
from sklearn.utils.multiclass import check_classification_targets

from fastgd import losses, validation
from fastgd.data.offset import scores as with_offset
from fastgd.files.models import probabilities
from fastgd.linear_model import inputs
from fastgd.linear_model.base import OF_STREAMS, LinearModel

if typing.TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from os import PathLike
    from typing import Any, Literal, Self

    from numpy.typing import ArrayLike, NDArray

    from fastgd.losses import Loss
    from fastgd.losses.table import ClassificationLoss
    from fastgd.optimizers import Optimizer
    from fastgd.types import Callbacks, Floats, OptimizerName, Penalty, Rate, Solver, Table

# Of a row in partial_fit.
LARGEST_WEIGHT = 1e30


class WithProbabilities:
    """A method that is there for losses with probabilities alone: meta-estimators ask with hasattr.

    Of `available_if` of scikit-learn the error would not tell why it is not there.
    """

    def __init__(self, method: Callable[..., Floats]) -> None:
        self.method = method
        functools.update_wrapper(self, method)

    def __get__(self, model: GDClassifier | None, kind: type | None = None) -> Callable[..., Floats]:
        if model is not None and not gives_probabilities(model.loss):
            able = ", ".join(repr(name) for name in losses.names("classification") if gives_probabilities(name))
            raise AttributeError(
                f"{self.method.__name__} needs a loss with probabilities, {able}; loss={model.loss!r} has none: "
                "sklearn.calibration.CalibratedClassifierCV learns them"
            )
        return self.method.__get__(model, kind)


def gives_probabilities(loss):
    """Whether a loss, or what stands in its place, has probabilities."""
    known = losses.LOSSES.get(loss) if isinstance(loss, str) else loss
    return isinstance(known, losses.Loss) and known.probabilities is not None


class GDClassifier(ClassifierMixin, LinearModel):
    """Linear classification by gradient descent: logistic regression, softmax regression, linear support vectors.

    Minimises (1/n) Σ loss + alpha·penalty(w) in the units of the data; the intercept is not penalised. Columns need
    not be scaled and no rate need be chosen.

    Parameters
    ----------
    loss : str or Loss
        A name, or an object of `fastgd.losses`. "log_loss" or "log": cross-entropy; "hinge": max(0, 1 − y·h) with
        y = −1 or 1; "squared_hinge": its square; "modified_huber"; "perceptron", which needs a learning_rate; "probit"
        and "cloglog": the likelihood of these links. A loss of your own is given y = −1 or 1.
    penalty, alpha, l1_ratio, fit_intercept, solver, learning_rate, optimizer, batch_size, max_iter, tol
        As in GDRegressor; the penalty is "l2" unless said otherwise.
    early_stopping, validation_fraction, n_iter_no_change, warm_start, random_state, n_jobs, verbose, callbacks, shuffle
        As in GDRegressor; the part that early_stopping holds out has the proportions of the classes.
    target, max_seconds, checkpoint, resume
        As in GDRegressor.
    class_weight : dict, "balanced" or None
        {label: weight}, or n/(classes·count). Labels that are not in the data are taken where all others are named.
    multi_class : {"auto", "softmax", "ovr"}
        For three classes or more: one model of all ("softmax", for "log_loss"), or one against the rest for each.
        "auto" is "softmax" for "log_loss" and "ovr" for the others.

    Attributes
    ----------
    classes_ : (k,)
    coef_ : (1, d) for two classes, (k, d) for more
    intercept_ : (1,) or (k,)
    n_iter_, history_, result_, n_features_in_, feature_names_in_
        As in GDRegressor.

    Examples
    --------
    >>> import numpy as np
    >>> from fastgd import GDClassifier
    >>> X = np.arange(8.0).reshape(-1, 1)
    >>> model = GDClassifier().fit(X, ["no", "no", "yes", "no", "no", "yes", "yes", "yes"])
    >>> print(model.predict([[0.0], [7.0]]))
    ['no' 'yes']
    """

    _task = "classification"
    _numeric_targets = False
    _least_held_out = 1
    _of_stream = operator.itemgetter(*OF_STREAMS, "class_weight", "multi_class")
    epsilon = None  # no loss of a classifier has one

    classes_: NDArray[Any]

    @validation.names_arguments
    def __init__(
        self,
        loss: ClassificationLoss | Loss = "log_loss",
        *,
        penalty: Penalty | None = "l2",
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
        class_weight: Mapping[Any, float] | Literal["balanced"] | None = None,
        multi_class: Literal["auto", "softmax", "ovr"] = "auto",
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
        self.class_weight = class_weight
        self.multi_class = multi_class
        self.shuffle = shuffle
        self.target = target
        self.max_seconds = max_seconds
        self.checkpoint = checkpoint
        self.resume = resume
        self.missing = missing
        self.drop = drop
        self.dates = dates
        self.unknown = unknown

    # ------------------------------------------------------------------------------------------------------- predict

    def score(
        self, X: Table, y: ArrayLike, sample_weight: ArrayLike | None = None, offset: ArrayLike | None = None
    ) -> float:
        """The share of the labels that are predicted."""
        return accuracy_score(y, self.predict(X, offset), sample_weight=sample_weight)

    def decision_function(self, X: Table, offset: ArrayLike | None = None) -> Floats:
        """h = Xw + b: (n,) for two classes, positive for the second (with "cloglog" above log log 2), and (n, k) for
        more."""
        return self._scores(X, offset)

    def predict(self, X: Table, offset: ArrayLike | None = None) -> NDArray[Any]:
        """The label of each row.

        Returns
        -------
        ndarray, (n,)
        """
        return self._labels(self._scores(X, offset))

    @WithProbabilities
    def predict_proba(self, X: Table, offset: ArrayLike | None = None) -> Floats:
        """The probability of each class, for a loss that has them.

        Of one against the rest, those of all classes are made to add up to 1.

        Returns
        -------
        ndarray, (n, k)
        """
        return probabilities(self._scores(X, offset), self._activation(), self._loss)

    @WithProbabilities
    def predict_log_proba(self, X: Table, offset: ArrayLike | None = None) -> Floats:
        """Logarithms of predict_proba."""
        with np.errstate(divide="ignore"):
            return np.log(self.predict_proba(X, offset))

    def _labels(self, scores):
        if scores.ndim == 1:
            return self.classes_[(scores > self._loss.border).astype(np.intp)]
        return self.classes_[scores.argmax(axis=1)]

    def _score_of(self, X, y, sample_weight, offset=None):
        labels = self._labels(with_offset(self._raw_scores(X), offset))
        return accuracy_score(self.classes_[y], labels, sample_weight=sample_weight)

    # --------------------------------------------------------------------------------------------------- partial_fit

    def partial_fit(
        self,
        X: Table,
        y: ArrayLike,
        classes: ArrayLike | None = None,
        sample_weight: ArrayLike | None = None,
        offset: ArrayLike | None = None,
    ) -> Self:
        """Steps of stochastic descent on the rows of X in their order, `batch_size` rows a step (1 without it).

        Parameters
        ----------
        classes : array_like, optional
            All labels that will come; needed in the first call.

        Returns
        -------
        self
        """
        online = self.__dict__.get("_online")
        plain = sample_weight is None and classes is None and offset is None
        if plain and online is not None and online.takes(X, y, self):
            # As the last batch was: straight to the kernel.
            Y = online.coded(y)
            if Y is not None:
                return self if online.feed(X, Y, online.none) else self._feed(X, Y, online.none)
        with self._as_before_if_it_fails():
            return self._partial_fit(X, y, classes, sample_weight, offset)

    def _partial_fit(self, X, y, classes, sample_weight, offset):
        first = not hasattr(self, "classes_")
        if first and classes is None:
            raise ValueError("classes must be passed on the first call to partial_fit")
        given = None if classes is None else _sorted_labels(classes)
        if not first and given is not None and not np.array_equal(given, self.classes_):
            raise ValueError(f"classes {given!r} are not those of the first call, {self.classes_!r}")
        X, y = inputs.validated(self, X, y, reset=first)
        if first:
            _refuse_objects(y)
            check_classification_targets(y)
            self.classes_ = given
        numbers, activation = self._known_targets(y, X.dtype)
        offset = inputs.offsets(offset, X)
        if offset is not None and self._several(y):
            raise ValueError("offset is for two classes: fit each against the rest")
        s, learns = self._batch_weights(sample_weight, X)
        if self.class_weight is not None:
            if isinstance(self.class_weight, str) and self.class_weight == "balanced":
                raise ValueError(
                    'class_weight="balanced" is not for partial_fit, which does not see all rows: pass a dict, e.g. '
                    "from sklearn.utils.class_weight.compute_class_weight"
                )
            s = self._class_weighted(numbers, s)
            if np.max(s) > LARGEST_WEIGHT:
                raise ValueError(
                    f"class_weight must make no weight larger than {LARGEST_WEIGHT:g} for partial_fit, where it is the "
                    f"length of a step; got {np.max(s):g}"
                )
            s = s.astype(X.dtype)
        online = self._stream(activation, X.dtype, 1 if len(self.classes_) == 2 else len(self.classes_))
        Y = np.ascontiguousarray(self._coded(numbers, X.dtype).reshape(len(numbers), -1))
        return self if not learns else self._feed(X, Y, online.none if s is None else s, offset)

    def _numbers(self, y):
        """The number of each label."""
        classes = self.classes_
        if len(classes) == 2 and classes.dtype == y.dtype:
            second = y == classes[1]
            if not (second | (y == classes[0])).all():
                self._refuse(y)
            return second.astype(np.intp)
        try:
            numbers = np.minimum(np.searchsorted(classes, y), len(classes) - 1)
            known = bool(np.all(classes[numbers] == y))
        except TypeError:  # labels that have no order with the classes are not among them
            known = False
        if not known:
            self._refuse(y)
        return numbers

    def _refuse(self, y):
        known = self.classes_.tolist()
        new = [label for label in dict.fromkeys(y.tolist()) if label not in known]
        raise ValueError(f"y holds labels that are not among the classes {known}: {str(new[:5])[1:-1]}")

    # ------------------------------------------------------------------------------------------------------- for fit

    def _targets(self, y, dtype):
        y = _column(y)
        self.classes_, numbers = _two_classes(y)
        if numbers is None:
            _refuse_objects(y)
            check_classification_targets(y)
            self.classes_, numbers = np.unique(y, return_inverse=True)
        if len(self.classes_) < 2:
            raise ValueError(
                f"{type(self).__name__} needs samples of at least 2 classes in the data, but the data contains only "
                f"one class: {self.classes_.tolist()[0]!r}"
            )
        return numbers, self._activation()

    def _known_targets(self, y, dtype):
        """The same of labels that are all among those of the fit."""
        return self._numbers(_column(y)), self._activation()

    def _is_softmax(self):
        return len(self.classes_) > 2 and "softmax" in self._loss.activations and self.multi_class != "ovr"

    def _activation(self):
        validation.choice(self.multi_class, "multi_class", ("auto", "softmax", "ovr"))
        if self.multi_class == "softmax" and "softmax" not in self._loss.activations:
            raise ValueError(f'multi_class="softmax" is for loss="log_loss"; got loss={self.loss!r}')
        return "softmax" if self._is_softmax() else self._loss.link

    def _coded(self, numbers, dtype):
        low = -1.0 if self._loss.signed else 0.0
        if len(self.classes_) == 2:
            coded = numbers.astype(dtype)
            return coded if low == 0 else 2 * coded - 1
        return np.where(numbers[:, None] == np.arange(len(self.classes_)), 1.0, low).astype(dtype)

    def _several(self, y):
        return len(self.classes_) > 2

    def _class_weighted(self, numbers, sample_weight):
        if self.class_weight is None:
            return sample_weight
        given = self.class_weight
        if isinstance(given, dict):
            classes = self.classes_.tolist()
            unknown, unnamed = [a for a in given if a not in classes], [a for a in classes if a not in given]
            # A part of the data may lack a class, as in cross-validation. Else a label is another than was meant.
            if unknown and unnamed:
                raise ValueError(f"class_weight names labels that are not in the data, {unknown}, and not {unnamed}")
            weights = [given.get(label, 1.0) for label in classes]
            weights = np.array([validation.scalar(weight, "a weight in class_weight", minimum=0) for weight in weights])
        elif isinstance(given, str) and given == "balanced":
            counts = np.bincount(numbers, weights=sample_weight, minlength=len(self.classes_)).astype(np.float64)
            weights = np.divide(counts.sum(), len(counts) * counts, out=np.zeros_like(counts), where=counts > 0)
        else:
            raise ValueError(f'class_weight must be a dict, "balanced" or None; got {validation.describe(given)}')
        weights = weights[numbers]
        return weights if sample_weight is None else weights * sample_weight

    def _strata(self, y):
        return y

    def _set_weights(self, W, b, y):
        self.coef_, self.intercept_ = np.ascontiguousarray(W.T), b

    def _weights_matrix(self):
        return self.coef_.T, self.intercept_

    def _weights_so_far(self, objective):
        W, b = (np.ascontiguousarray(part, np.float64) for part in self._weights_matrix())
        shape = objective.rows.d, objective.rows.k
        if W.shape != shape:
            raise ValueError(f"warm_start needs weights of shape {shape}; those here are {W.shape}")
        return W, b

    def _attach_online(self):
        online = self._online
        online.parameters = self._of_stream(self.__dict__)
        online.coef_of_user = online.coef.T
        self.coef_, self.intercept_ = online.coef_of_user, online.intercept
        online.low = -1.0 if self._loss.signed else 0.0
        online.labels = None
        if online.k == 1 and self.class_weight is None and self.classes_.dtype.kind in "iufb":
            online.labels, (online.first, online.second) = set(self.classes_.tolist()), self.classes_[:, None]

    def _raw_scores(self, X):
        h = X @ self.coef_.T + self.intercept_
        return h[:, 0] if len(self.coef_) == 1 else h


def _sorted_labels(classes):
    """The labels that partial_fit is told of."""
    classes = list(classes) if isinstance(classes, (set, frozenset)) else classes
    if np.ndim(classes) != 1:
        raise ValueError(f"classes must be a list of labels; got {validation.describe(classes)}")
    labels = np.unique(classes)
    if len(labels) < 2:
        raise ValueError(f"classes must hold two labels or more; got {labels.tolist()}")
    if np.any(labels != labels):
        raise ValueError(f"classes must not hold NaN; got {labels.tolist()}")
    return labels


def _column(y):
    """Labels (n,) from an array of them."""
    return y if y.ndim == 1 else column_or_1d(y, warn=True)


def _refuse_objects(y):
    """Say what is wrong with an array of objects, for which scikit-learn guesses a regression."""
    if y.dtype != object:
        return
    other = next((label for label in y.tolist() if not isinstance(label, str)), None)
    if other is not None or None in y.tolist():
        raise ValueError(
            "y must hold strings, or numbers in an array of numbers, y.astype(int) say; got "
            f"{validation.describe(other)} in an array of objects (Unknown label type)"
        )


def _two_classes(y):
    """The classes and the number of each label where there are two whole numbers; (None, None) otherwise.

    That is what most tables have, and sorting a million labels would take longer than a pass over X.
    """
    if y.dtype.kind not in "iuf" or not len(y):
        return None, None
    low, high = y.min(), y.max()
    if not low < high or low != np.floor(low) or high != np.floor(high):
        return None, None
    second = y == high
    if not (second | (y == low)).all():
        return None, None
    return np.array([low, high]), second.view(np.int8)
