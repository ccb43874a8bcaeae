"""GDClassifier."""

from __future__ import annotations

import dataclasses
import functools
import math
import operator
import typing

import numpy as np
from sklearn.base import ClassifierMixin
from sklearn.metrics import accuracy_score
from sklearn.utils import column_or_1d
from sklearn.utils.multiclass import check_classification_targets

from fastgd import losses, validation
from fastgd.data import collections
from fastgd.data.distributed import Column
from fastgd.files.models import chosen, probabilities
from fastgd.linear_model import elsewhere, inputs
from fastgd.linear_model.base import LinearModel
from fastgd.linear_model.online import OF_STREAMS
from fastgd.linear_model.parameters import names_parameters

if typing.TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any, Literal, Self

    from numpy.typing import ArrayLike, NDArray

    from fastgd.losses import Loss
    from fastgd.losses.table import ClassificationLoss
    from fastgd.types import Floats, Penalty, Table


class WithProbabilities:
    """A method that exists only for losses with probabilities: meta-estimators ask with hasattr.

    The error of scikit-learn's `available_if` would not say why the method is missing.
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


@names_parameters
@dataclasses.dataclass(repr=False, eq=False)
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
    target, max_seconds, checkpoint, resume, positive, bounds, penalty_weights, groups
        As in GDRegressor.
    class_weight : dict, "balanced" or None
        {label: weight}, or n/(classes·count). Labels that are not in the data are allowed if all that are in it are
        named.
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

    Notes
    -----
    For "log_loss", "probit" and "cloglog" y may hold proportions: (n,) the share of the second of the classes 0 and 1
    in each row, with the number of trials as sample_weight; or (n, k) the probability of each class 0, …, k − 1.

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
    _of_stream = operator.itemgetter(*OF_STREAMS, "class_weight", "multi_class")

    loss: ClassificationLoss | Loss = "log_loss"
    _: dataclasses.KW_ONLY
    penalty: Penalty | None = "l2"
    class_weight: Mapping[Any, float] | Literal["balanced"] | None = None
    multi_class: Literal["auto", "softmax", "ovr"] = "auto"

    # ------------------------------------------------------------------------------------------------------- predict

    if typing.TYPE_CHECKING:

        @property
        def classes_(self) -> NDArray[Any]: ...

    def score(
        self,
        X: Table,
        y: ArrayLike | None = None,
        sample_weight: ArrayLike | None = None,
        offset: ArrayLike | None = None,
    ) -> float:
        """The share of the labels that are predicted; of proportions, of the most probable ones."""
        if collections.is_collection(X):
            return self._score_elsewhere(X, y, sample_weight, offset)
        h, y, sample_weight, _ = self._observed(X, y, sample_weight, offset)
        if y.dtype.kind == "f" and (soft := self._proportions(y)) is not None:
            y = self.classes_[_most_probable(soft)]
        return accuracy_score(y, self.classes_[chosen(h, self._loss)], sample_weight=sample_weight)

    @inputs.by_blocks
    def decision_function(self, X: Table, offset: ArrayLike | None = None) -> Floats:
        """h = Xw + b: (n,) for two classes, positive for the second (with "cloglog" above log log 2), and (n, k) for
        more."""
        return self._scores(X, offset)

    @inputs.by_blocks
    def predict(self, X: Table, offset: ArrayLike | None = None) -> NDArray[Any]:
        """The label of each row.

        Returns
        -------
        ndarray, (n,)
        """
        numbers = chosen(self._scores(X, offset), self._loss)
        return self.classes_[numbers]

    @WithProbabilities
    @inputs.by_blocks
    def predict_proba(self, X: Table, offset: ArrayLike | None = None) -> Floats:
        """The probability of each class, for a loss that has them.

        Of one against the rest, those of all classes are made to add up to 1.

        Returns
        -------
        ndarray, (n, k)
        """
        return probabilities(self._scores(X, offset), self._activation(), self._loss)

    @WithProbabilities
    @inputs.by_blocks
    def predict_log_proba(self, X: Table, offset: ArrayLike | None = None) -> Floats:
        """Logarithms of predict_proba."""
        with np.errstate(divide="ignore"):
            return np.log(self.predict_proba(X, offset))

    def _score_there(self, rows, y, sample_weight):
        return elsewhere.accuracy(rows, y, *self._weights_matrix(), self._loss, sample_weight)

    def _score_of(self, h, y, sample_weight, offset=None):
        y = _most_probable(y) if y.dtype.kind == "f" else y
        return accuracy_score(y, chosen(h, self._loss), sample_weight=sample_weight)

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
        if sample_weight is None and classes is None and offset is None and self._fed_at_once(X, y):
            return self
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
            if self._proportions(y) is None:
                check_classification_targets(y)
            self.classes_ = given
        numbers, activation = self._known_targets(y, X.dtype)
        s, learns = self._batch_weights(sample_weight, X)
        if self.class_weight is not None:
            if isinstance(self.class_weight, str) and self.class_weight == "balanced":
                raise ValueError(
                    'class_weight="balanced" is not for partial_fit, which does not see all rows: pass a dict, e.g. '
                    "from sklearn.utils.class_weight.compute_class_weight"
                )
            s = self._class_weighted(numbers, s)
            if np.max(s) > 1e30:
                raise ValueError(
                    "class_weight must make no weight larger than 1e+30 for partial_fit, where it is the "
                    f"length of a step; got {np.max(s):g}"
                )
            s = s.astype(X.dtype)
        self._stream(activation, X.dtype, 1 if len(self.classes_) == 2 else len(self.classes_))
        Y = np.ascontiguousarray(self._coded(numbers, X.dtype).reshape(len(numbers), -1))
        return self._feed(X, Y, s, inputs.offsets(offset, X)) if learns else self

    def _numbers(self, y):
        """The number of each label."""
        classes = self.classes_
        try:
            if len(classes) == 2 and classes.dtype == y.dtype:
                numbers = (y == classes[1]).astype(np.intp)  # sooner than by a search
            else:
                numbers = np.minimum(np.searchsorted(classes, y), len(classes) - 1)
            known = bool(np.all(classes[numbers] == y))
        except TypeError:  # labels that have no order with the classes are not among them
            known = False
        if not known:
            new = [label for label in dict.fromkeys(y.tolist()) if label not in classes.tolist()]
            names = str(new[:5])[1:-1]
            raise ValueError(f"y holds labels that are not among the classes {classes.tolist()}: {names}")
        return numbers

    # ------------------------------------------------------------------------------------------------------- for fit

    def _targets(self, y, dtype):
        if isinstance(y, Column):
            self.classes_ = elsewhere.labels(y, self)
            return elsewhere.numbered(y, self.classes_), self._activation()
        if (soft := self._proportions(y)) is not None:
            self.classes_ = np.arange(2 if soft.ndim == 1 else soft.shape[1])
            return soft, self._activation()
        whole = y.ndim == 1 and y.dtype.kind in "iub"  # can be labels, which scikit-learn takes 0.2 ms to say
        y = y if whole else column_or_1d(y, warn=True)
        self.classes_, numbers = _two_classes(y)
        if numbers is None:
            self.classes_, numbers = np.unique(y, return_inverse=True) if whole else (None, None)
            if not whole or 2 * len(self.classes_) > len(y):
                _refuse_objects(y)
                check_classification_targets(y)  # warns of many classes
                self.classes_, numbers = np.unique(y, return_inverse=True)
        if len(self.classes_) < 2:
            raise ValueError(
                f"{type(self).__name__} needs samples of at least 2 classes in the data, but the data contains only "
                f"one class: {self.classes_.tolist()[0]!r}"
            )
        return numbers, self._activation()

    def _known_targets(self, y, dtype):
        """The same of labels that are all among those of the fit."""
        if isinstance(y, Column):
            return elsewhere.numbered(y, self.classes_), self._activation()
        if (soft := self._proportions(y)) is not None:
            k = 2 if soft.ndim == 1 else soft.shape[1]
            if not np.array_equal(self.classes_, np.arange(k)):
                raise ValueError(f"y holds proportions of {k} classes, and those known are {self.classes_.tolist()}")
            return soft, self._activation()
        return self._numbers(column_or_1d(y, warn=True)), self._activation()

    def _proportions(self, y):
        """Probabilities (n,) of the second class, or (n, k) of all; None of labels.

        Numbers between 0 and 1 that are not all whole, or several columns.
        """
        several = y.ndim == 2 and y.shape[1] > 1
        if y.dtype.kind not in "fiub" or not (several or y.dtype.kind == "f"):
            return None
        y = y if several else y.reshape(-1)
        if not several and (np.any((y < 0) | (y > 1)) or np.all(y == np.floor(y))):
            return None
        if not isinstance(losses.get(self.loss, self._task), losses.likelihoods.Binary):
            raise ValueError(f"y holds proportions, which are for losses of a probability; got loss={self.loss!r}")
        if self.class_weight is not None:
            raise ValueError("class_weight is for labels, and y holds proportions: pass sample_weight")
        if not several:
            return y
        total = y.sum(axis=1)
        if np.any(y < 0) or np.any(np.abs(total - 1) > 1e-6):
            at = int(np.argmax((y < 0).any(axis=1) | (np.abs(total - 1) > 1e-6)))
            raise ValueError(
                "y of several columns must hold the probability of each class, with a sum of 1 in each row; row "
                f"{at} is {y[at].tolist()}"
            )
        return y[:, 1] if y.shape[1] == 2 else y

    def _activation(self):
        validation.choice(self.multi_class, "multi_class", ("auto", "softmax", "ovr"))
        if self.multi_class == "softmax" and "softmax" not in self._loss.activations:
            raise ValueError(f'multi_class="softmax" is for loss="log_loss"; got loss={self.loss!r}')
        joint = len(self.classes_) > 2 and "softmax" in self._loss.activations and self.multi_class != "ovr"
        return "softmax" if joint else self._loss.link

    def _coded(self, numbers, dtype):
        if numbers.dtype.kind == "f":  # proportions
            return numbers.astype(dtype)
        k = len(self.classes_)
        if isinstance(numbers, Column):
            shape = {"k": 1, "ndim": 1} if k == 2 else {"k": k, "ndim": 2}
            return numbers.mapped(_coded, k, dtype, self._loss.signed, dtype=dtype, **shape)
        return _coded(numbers, k, dtype, self._loss.signed)

    def _outputs(self, y):
        return 1 if len(self.classes_) == 2 else len(self.classes_)

    def _class_weighted(self, numbers, sample_weight):
        given = self.class_weight
        if given is None:
            return sample_weight
        if isinstance(given, dict):
            classes = self.classes_.tolist()
            unknown, unnamed = [a for a in given if a not in classes], [a for a in classes if a not in given]
            # A part of the data may lack a class, as in cross-validation; otherwise a label is probably misspelt.
            if unknown and unnamed:
                raise ValueError(f"class_weight names labels that are not in the data, {unknown}, and not {unnamed}")
            weights = [given.get(label, 1.0) for label in classes]
            weights = np.array([validation.scalar(weight, "a weight in class_weight", minimum=0) for weight in weights])
            if weights.min(where=weights > 0, initial=math.inf) < 1e-15 * weights.max():
                raise ValueError(
                    f"class_weight must have weights that are 0 or within 1e15 of each other, or rows of the lighter "
                    f"class count for nothing; got {given}"
                )
        elif isinstance(given, str) and given == "balanced":
            count = elsewhere.counts if isinstance(numbers, Column) else np.bincount
            counts = count(numbers, weights=sample_weight, minlength=len(self.classes_)).astype(np.float64)
            weights = np.divide(counts.sum(), len(counts) * counts, out=np.zeros_like(counts), where=counts > 0)
        else:
            raise ValueError(f'class_weight must be a dict, "balanced" or None; got {validation.describe(given)}')
        if isinstance(numbers, Column):
            return elsewhere.weighted(numbers, weights, sample_weight)
        weights = weights[numbers]
        return weights if sample_weight is None else weights * sample_weight

    def _attach_online(self):
        super()._attach_online()
        online, online.labels = self._online, None
        if online.k == 1 and self.class_weight is None and self.classes_.dtype.kind in "iufb":
            online.labels, (online.first, online.second) = set(self.classes_.tolist()), self.classes_[:, None]


def _coded(numbers, k, dtype, signed):
    """Targets of the kernels: 0 or 1 of two classes, −1 or 1 for losses of a margin; of more a column for each."""
    coded = numbers if k == 2 else numbers[:, None] == np.arange(k)
    coded = coded.astype(dtype)
    return 2 * coded - 1 if signed else coded


def _sorted_labels(classes):
    """The sorted labels given to partial_fit, checked."""
    classes = list(classes) if isinstance(classes, (set, frozenset)) else classes
    if np.ndim(classes) != 1:
        raise ValueError(f"classes must be a list of labels; got {validation.describe(classes)}")
    labels = np.unique(classes)
    if len(labels) < 2:
        raise ValueError(f"classes must hold two labels or more; got {labels.tolist()}")
    if np.any(labels != labels):
        raise ValueError(f"classes must not hold NaN; got {labels.tolist()}")
    return labels


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


def _most_probable(soft):
    """The number of the class of proportions (n,) or (n, k)."""
    return (soft > 0.5).astype(np.intp) if soft.ndim == 1 else soft.argmax(axis=1)


def _two_classes(y):
    """The classes and the number of each label where there are two whole numbers; (None, None) otherwise.

    Most tables have such labels, and sorting a million of them would take longer than a pass over X.
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
