"""Fitted models in files: JSON or npz with a format name and number, without pickle. Numbers keep all their digits.

There is one format, of `estimator.save` and `fastgd fit --save`, which read each other's files. It holds

    class          "GDRegressor" or "GDClassifier"
    parameters     of that estimator, as far as they are plain values; the others are named in `left_out`, and a loaded
                   estimator has their defaults
    activation     f in prediction = f(Xw + b)
    encoding       how the columns of a table become the columns of X, also by a formula; null where they are those
    target, n_iter_, n_features_in_
    offset         null, or the column of the offset and whether that is its exponential, the exposure
    fit            how the model came about; nothing needs it
    arrays         coef_ (d,) or (k, d), intercept_ (k,), classes_, feature_names_in_, history_.…
"""

from __future__ import annotations

import dataclasses
import io
import json
import math
import os
import typing
import warnings
from pathlib import Path

import numpy as np

from fastgd import losses
from fastgd.data.encoding import Encoder
from fastgd.data.tables import one_line
from fastgd.files.whole import write_whole
from fastgd.kernels.codes import ACTIVATIONS
from fastgd.linalg import softmax
from fastgd.losses.formulas import activated

if typing.TYPE_CHECKING:
    from typing import Self

FORMAT, FORMAT_VERSION = "fastgd model", 2
ARRAYS = ("coef_", "intercept_", "classes_", "feature_names_in_")


@dataclasses.dataclass
class Model:
    """What a file holds; the attributes are those of the module's docstring."""

    name: str
    activation: str
    arrays: dict
    parameters: dict = dataclasses.field(default_factory=dict)
    left_out: list = dataclasses.field(default_factory=list)
    encoder: Encoder | None = None
    target: str | None = None
    n_iter: int = 1
    n_features: int = 0
    fit: dict = dataclasses.field(default_factory=dict)
    offset: dict | None = None

    # ------------------------------------------------------------------------------------------------------- to predict

    @property
    def classes(self):
        return self.arrays.get("classes_")

    @property
    def loss(self):
        """The Loss of a classifier."""
        loss = self.parameters.get("loss", "log_loss")
        return losses.from_dict(loss) if isinstance(loss, dict) else losses.get(loss)

    @property
    def columns(self):
        """The Encoder of a table; None where the model knows no names of columns."""
        names = self.arrays.get("feature_names_in_")
        if self.encoder is not None:
            return self.encoder
        return None if names is None else Encoder.of_numbers(names)

    def scores(self, X, offset=None):
        """h = Xw + b + offset, (n,) or (n, k), of the encoded columns."""
        with np.errstate(over="ignore", invalid="ignore"):
            h = scores(X, self.arrays["coef_"], self.arrays["intercept_"], self.classes)
            return h if offset is None else h + offset

    def predict(self, X, offset=None):
        """Predictions, or labels, for rows of encoded columns."""
        h = self.scores(X, offset)
        return outputs(h, self.activation) if self.classes is None else self.classes[chosen(h, self.loss)]

    def probabilities(self, X, offset=None):
        """(n, classes); ValueError for a model without."""
        if self.classes is None or self.loss.probabilities is None:
            raise ValueError("probabilities are for classes by a loss that has them, such as log_loss")
        return probabilities(self.scores(X, offset), self.activation, self.loss)

    # ------------------------------------------------------------------------------------------------------------ files

    def save(self, path):
        """Write the model to *.json or *.npz, whole or not at all.

        Raises
        ------
        ValueError
            The name ends otherwise.
        OSError
            It cannot be written; what was there before still is.
        """
        path = known(path)
        encoding = None if self.encoder is None else self.encoder.to_dict()
        head = {
            "format": FORMAT, "format_version": FORMAT_VERSION, "class": self.name, "parameters": self.parameters,
            "left_out": self.left_out, "activation": self.activation, "target": self.target, "encoding": encoding,
            "n_iter_": self.n_iter, "n_features_in_": self.n_features, "fit": self.fit,
            "offset": self.offset,
        }  # fmt: skip
        if path.suffix == ".npz":
            buffer = io.BytesIO()
            np.savez(buffer, head=np.array(json.dumps(head)), **self.arrays)
            write_whole(path, buffer.getvalue())
            return
        head["arrays"] = {
            name: {"dtype": array.dtype.str, "values": _in_json(array) if array.ndim == 1 else array.tolist()}
            for name, array in self.arrays.items()
        }
        write_whole(path, (json.dumps(head, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode())

    @classmethod
    def load(cls, path):
        """Read a model.

        Raises
        ------
        ValueError
            The file is none, is damaged, or has another format.
        OSError
            It cannot be read.
        """
        path = known(path)
        try:
            head, arrays = _read(path)
            if not str(head["format"]).startswith("fastgd "):
                raise KeyError("format")
            version = int(head["format_version"])
        except OSError:
            raise
        except Exception as error:  # damaged bytes may make the readers of JSON, zip and npy raise anything
            raise ValueError(f"{path} is not a fastgd model, or is damaged ({one_line(error)})") from error
        if version != FORMAT_VERSION:
            way = "install a newer one" if version > FORMAT_VERSION else "fit and save the model again"
            raise ValueError(f"{path} has format {version}, and this fastgd reads format {FORMAT_VERSION}: {way}")
        try:
            self = cls(
                str(head["class"]), str(head["activation"]), arrays, dict(head["parameters"]),
                head["left_out"], _columns(head["encoding"]), head["target"], int(head["n_iter_"]),
                int(head["n_features_in_"]), dict(head["fit"]), head.get("offset"),
            )  # fmt: skip
            self._check()
        except (KeyError, TypeError, AttributeError, ValueError, OverflowError, IndexError) as error:
            raise ValueError(f"{path} is damaged ({one_line(error)})") from error
        return self

    def _check(self):
        """Refuse arrays and names that do not belong together."""
        if not isinstance(self.left_out, list) or not all(isinstance(name, str) for name in self.left_out):
            raise TypeError("left_out must be names")
        coef, intercept, classes = self.arrays["coef_"], self.arrays["intercept_"], self.classes
        d = self.n_features if self.encoder is None else self.encoder.width
        k = 1 if coef.ndim == 1 else len(coef)
        if self.name != ("GDRegressor" if classes is None else "GDClassifier") or self.activation not in ACTIVATIONS:
            raise TypeError(f"a {self.name} with activation {self.activation}")
        if coef.ndim not in ((1, 2) if classes is None else (2,)) or coef.shape[-1] != d or intercept.shape != (k,):
            raise TypeError(f"coef_ has shape {coef.shape}, intercept_ {intercept.shape}")
        for array in (coef, intercept):
            if array.dtype not in (np.float64, np.float32) or not np.all(np.isfinite(array)):
                raise TypeError("weights are not finite numbers of single or double precision")
        if classes is not None:
            wanted = 2 if k == 1 else k
            if classes.shape != (wanted,) or len(np.unique(classes)) != wanted:
                raise TypeError(f"classes_ must be {wanted} labels")
        names = self.arrays.get("feature_names_in_")
        if names is not None and (names.shape != (self.n_features,) or names.dtype.kind != "U"):
            raise TypeError(f"feature_names_in_ must be {self.n_features} names")


def scores(X, coef, intercept, classes):
    """h = Xw + b: (n,) of one target or of two classes, (n, k) of several; `classes` is None in a regression."""
    h = X @ np.atleast_2d(coef).T + intercept
    return h[:, 0] if coef.ndim == 1 or (classes is not None and len(coef) == 1) else h


def chosen(h, loss):
    """The number of the predicted class of each row."""
    return (h > loss.border).astype(np.intp) if h.ndim == 1 else h.argmax(axis=1)


def outputs(h, activation):
    """f(h) of a regression."""
    if activation == "identity":
        return h
    if activation == "exp":
        with np.errstate(over="ignore"):
            return np.exp(h)
    return softmax(h) if activation == "softmax" else activated(h, activation)


def probabilities(h, activation, loss):
    """The probability of each class, (n, k), from the scores (n,) or (n, k)."""
    if h.ndim == 1:
        return np.column_stack(loss.probabilities(h))
    if activation != "identity":
        # One against the rest: the k values σ(h) are normalised through their logarithms, which do not underflow.
        return softmax(h if activation == "softmax" else -np.logaddexp(0, -h))
    p = loss.probabilities(h)[1]
    total = p.sum(axis=1, keepdims=True)
    return np.where(total > 0, p / np.where(total > 0, total, 1), 1 / p.shape[1])


def known(path):
    """The path of a model, with a suffix that is known."""
    if not isinstance(path, (str, os.PathLike)):
        raise TypeError(f"path must be the name of a file; got {path!r}")
    path = Path(path)
    if path.suffix not in (".json", ".npz"):
        raise ValueError(f"path must end in .json or .npz; got {path.name!r}")
    return path


def _columns(content):
    if content is not None and "formula" in content:
        from fastgd.data.formulas import Formula

        return Formula.from_dict(content)
    return None if content is None else Encoder.from_dict(content)


def _in_json(array):
    """A list for JSON: NaN as null and infinity as text, which a history may hold."""
    if array.dtype.kind != "f":
        return array.tolist()
    return [v if math.isfinite(v) else None if math.isnan(v) else str(v) for v in array.tolist()]


def _read(path):
    if path.suffix == ".npz":
        with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in stored.files}
        return json.loads(str(arrays.pop("head"))), arrays
    head = json.loads(path.read_bytes())
    if head.get("format_version") != FORMAT_VERSION:
        return head, {}
    arrays = {}
    for name, stored in head["arrays"].items():
        values, dtype = stored["values"], np.dtype(stored["dtype"])
        if dtype.kind == "f" and values and not isinstance(values[0], list):
            values = [math.nan if v is None else float(v) for v in values]
        arrays[name] = np.array(values, dtype=dtype)
    return head, arrays


# --------------------------------------------------------------------------------------------------------- estimators


class Saved:
    """`save` and `load` of an estimator."""

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the fitted estimator to a file, whole or not at all; `fastgd predict` reads it too.

        Parameters
        ----------
        path : path-like
            *.json, or *.npz.

        Raises
        ------
        ValueError
            The name ends otherwise, or the labels of the classes are not numbers, strings or booleans.
        sklearn.exceptions.NotFittedError
        OSError
            It cannot be written; what was there before still is.
        """
        from sklearn.utils.validation import check_is_fitted

        check_is_fitted(self, "coef_")
        arrays = {name: storable(getattr(self, name), name) for name in ARRAYS if hasattr(self, name)}
        arrays |= {f"history_.{name}": values for name, values in getattr(self, "history_", {}).items()}
        Model(
            type(self).__name__, self._activation(), arrays, *_plain_parameters(self), self.__dict__.get("_encoder"),
            None, int(self.n_iter_), int(self.n_features_in_),
            offset={"column": None, "log": False} if self.__dict__.get("_has_offset") else None,
        ).save(path)  # fmt: skip

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """The estimator in a file that `save` or `fastgd fit --save` wrote.

        Raises
        ------
        ValueError
            The file is none, is damaged, has another format or holds an estimator of another class.
        OSError
            It cannot be read.
        """
        model = Model.load(path)
        if model.name != cls.__name__:
            raise ValueError(f"{path} holds a {model.name}, not a {cls.__name__}")
        try:
            parameters = dict(model.parameters)
            if isinstance(parameters.get("loss"), dict):
                parameters["loss"] = losses.from_dict(parameters["loss"])
            if isinstance(parameters.get("bounds"), list):  # a list may mean pairs, so that only tuples are taken
                parameters["bounds"] = tuple(parameters["bounds"])
            self = cls(**parameters)
            losses.get(self.loss, self._task)
            for name in ARRAYS:
                if name in model.arrays:
                    setattr(self, name, model.arrays[name])
            self.n_iter_, self.n_features_in_ = model.n_iter, model.n_features
            self._has_offset = model.offset is not None
            self.history_ = {k[9:]: v for k, v in model.arrays.items() if k.startswith("history_.")}
            activation = self._activation()
        except (TypeError, ValueError, KeyError) as error:
            raise ValueError(f"{path} is damaged ({one_line(error)})") from error
        if activation != model.activation:
            raise ValueError(
                f"{path} predicts by activation {model.activation!r}, which {cls.__name__} does not have with its "
                "loss; `fastgd predict` reads it"
            )
        if model.encoder is not None:
            self._encoder = model.encoder
        if model.left_out:
            names = ", ".join(model.left_out)
            warnings.warn(f"{names} could not be saved and have their defaults", UserWarning, stacklevel=2)
        return self


def _plain_parameters(model):
    parameters, left_out = {}, []
    for name, value in model.get_params(deep=False).items():
        value = _in_lists(value)
        if isinstance(value, losses.Loss):
            parameters[name] = losses.to_dict(value)
        elif _is_plain(value):
            parameters[name] = value
        else:
            left_out.append(name)
    return parameters, left_out


def _in_lists(value):
    """Arrays and tuples as lists, and NumPy's numbers as Python's."""
    if isinstance(value, (list, tuple)):
        return [_in_lists(one) for one in value]
    return value.tolist() if isinstance(value, (np.generic, np.ndarray)) else value


def _is_plain(value):
    """Whether JSON keeps a value. A dict is none: JSON would turn the labels of class_weight into strings."""
    if isinstance(value, list):
        return all(_is_plain(one) for one in value)
    return value is None or isinstance(value, (bool, int, float, str))


def storable(array, name):
    """An array without objects."""
    array = np.asarray(array)
    if array.dtype == object:
        if not all(isinstance(item, str) for item in array.flat):
            raise ValueError(f"{name} must hold numbers, strings or booleans to be saved")
        array = array.astype(np.str_)
    return array
