"""Fitted models in files: JSON or npz with a format name and number, without pickle. Numbers keep all their digits.

The model of the command line is

    {"format": "fastgd model", "format_version": 1, "target": "weight", "features": ["height"],
     "activation": "identity", "coefficients": [3.45], "intercept": -87.5, "fit": {…}}

where `fit` says how the model came about and is not needed to predict.

The file of an estimator holds the class, the parameters and the fitted attributes. Parameters that are no plain values
(functions, optimizers with constants of their own, generators of random numbers) are left out and named in `left_out`:
a loaded estimator has their defaults, and predicts the same.
"""

from __future__ import annotations

import io
import json
import math
import os
import typing
import warnings
from pathlib import Path

import numpy as np

from fastgd import losses
from fastgd.files.whole import write_whole
from fastgd.kernels.codes import ACTIVATIONS
from fastgd.objective import LinearObjective

if typing.TYPE_CHECKING:
    from typing import Self

MODEL_FORMAT, ESTIMATOR_FORMAT = "fastgd model", "fastgd estimator"
FORMAT_VERSION = 1  # of both
ARRAYS = ("coef_", "intercept_", "classes_", "feature_names_in_")
PLAIN = (bool, int, float, str, type(None))


def _write_json(path, content):
    write_whole(path, (json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode())


# ------------------------------------------------------------------------------------------- models of the command line


class Model(typing.NamedTuple):
    """A one-layer model of named columns: target = activation(Σ coefficientᵢ·featureᵢ + intercept)."""

    target: str
    features: list
    activation: str
    coefficients: list
    intercept: float

    def predict(self, X):
        """The predictions for the rows of X, whose columns are `features`; exactly those of the fit for its data."""
        weights = [*self.coefficients, self.intercept]
        objective = LinearObjective(X, np.zeros(len(X)), activation=self.activation, fit_intercept=True)
        return objective.predict(weights)


def save_model(path, model, fit):
    """Write a model.

    Parameters
    ----------
    path : path-like
    model : Model
    fit : dict
        Whatever is worth knowing about the fit.

    Raises
    ------
    OSError
        It cannot be written; what was there before still is.
    """
    _write_json(path, {"format": MODEL_FORMAT, "format_version": FORMAT_VERSION, **model._asdict(), "fit": fit})


def load_model(path):
    """Read a model.

    Raises
    ------
    ValueError
        The file is no model, is damaged, or has a format newer than this one.
    OSError
        It cannot be read.
    """
    path = Path(path)
    if path.is_dir():
        raise ValueError(f"{path} is a directory, not a model file")
    try:
        content = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not a fastgd model, or is damaged: it is not JSON") from error
    if not isinstance(content, dict) or content.get("format") != MODEL_FORMAT:
        raise ValueError(f"{path} is not a fastgd model")
    version = content.get("format_version")
    if type(version) is int and version > FORMAT_VERSION:
        raise ValueError(
            f"{path} has format {version}, and this fastgd reads formats up to {FORMAT_VERSION}: install a newer fastgd"
        )
    wrong = _first_wrong(content)
    if wrong:
        raise ValueError(f"{path} is damaged: {wrong!r} is missing or is not what it should be")
    model = Model(*(content[name] for name in Model._fields))
    return model._replace(coefficients=[float(c) for c in model.coefficients], intercept=float(model.intercept))


def _first_wrong(content):
    """The name of the first entry that does not fit, or None."""
    features, coefficients = content.get("features"), content.get("coefficients")
    names = isinstance(features, list) and all(isinstance(name, str) and name for name in features)
    fits = {
        "format_version": content.get("format_version") == FORMAT_VERSION,
        "target": isinstance(content.get("target"), str),
        "features": names and 0 < len(features) == len(set(features)),
        "activation": isinstance(content.get("activation"), str) and content["activation"] in ACTIVATIONS,
        "coefficients": names
        and isinstance(coefficients, list)
        and len(coefficients) == len(features)
        and all(map(_is_finite, coefficients)),
        "intercept": _is_finite(content.get("intercept")),
    }
    return next((name for name, good in fits.items() if not good), None)


def _is_finite(value):
    try:
        return type(value) in (int, float) and math.isfinite(value)
    except OverflowError:  # an integer beyond the range of floats
        return False


# --------------------------------------------------------------------------------------------------------- estimators


class Saved:
    """`save` and `load` of an estimator."""

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the fitted estimator to a file, whole or not at all.

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
        path = _known(path)
        parameters, left_out = _plain_parameters(self)
        arrays = {name: _storable(getattr(self, name), name) for name in ARRAYS if hasattr(self, name)}
        arrays |= {f"history_.{name}": values for name, values in getattr(self, "history_", {}).items()}
        head = {
            "format": ESTIMATOR_FORMAT, "format_version": FORMAT_VERSION, "class": type(self).__name__,
            "parameters": parameters, "left_out": left_out, "n_iter_": int(self.n_iter_),
            "n_features_in_": int(self.n_features_in_),
        }  # fmt: skip
        if path.suffix == ".npz":
            buffer = io.BytesIO()
            np.savez(buffer, head=np.array(json.dumps(head)), **arrays)
            write_whole(path, buffer.getvalue())
            return
        head["arrays"] = {
            name: {"dtype": array.dtype.str, "values": _in_json(array) if array.ndim == 1 else array.tolist()}
            for name, array in arrays.items()
        }
        _write_json(path, head)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """The estimator in a file that `save` wrote.

        Raises
        ------
        ValueError
            The file is none, is damaged, has a newer format or holds an estimator of another class.
        OSError
            It cannot be read.
        """
        path = _known(path)
        try:
            head, arrays = _read(path)
            if head["format"] != ESTIMATOR_FORMAT:
                raise KeyError("format")
            version, name = int(head["format_version"]), str(head["class"])
            parameters = dict(head["parameters"])
            if isinstance(parameters.get("loss"), dict):
                parameters["loss"] = losses.from_dict(parameters["loss"])
        except OSError:
            raise
        except Exception as error:  # readers of JSON, archives and arrays raise whatever the bytes lead them to
            raise ValueError(f"{path} is not a fastgd estimator, or is damaged ({error})") from error
        if version > FORMAT_VERSION:
            raise ValueError(
                f"{path} has format {version}; this fastgd reads up to {FORMAT_VERSION}: install a newer one"
            )
        if name != cls.__name__:
            raise ValueError(f"{path} holds a {name}, not a {cls.__name__}")
        try:
            model = cls(**parameters)
            losses.get(model.loss, model._task)
            model.n_iter_, model.n_features_in_ = int(head["n_iter_"]), int(head["n_features_in_"])
            model.history_ = {k[9:]: v for k, v in arrays.items() if k.startswith("history_.")}
            for name in ARRAYS:
                if name in arrays:
                    setattr(model, name, arrays[name])
            _check_shapes(model)
            left_out = ", ".join(head.get("left_out", []))
        except (KeyError, TypeError, AttributeError, ValueError, OverflowError) as error:
            raise ValueError(f"{path} is damaged ({error})") from error
        if left_out:
            warnings.warn(f"{left_out} could not be saved and have their defaults", UserWarning, stacklevel=2)
        return model


def _known(path):
    if not isinstance(path, (str, os.PathLike)):
        raise TypeError(f"path must be the name of a file; got {path!r}")
    path = Path(path)
    if path.suffix not in (".json", ".npz"):
        raise ValueError(f"path must end in .json or .npz; got {path.name!r}")
    return path


def _plain_parameters(model):
    parameters, left_out = {}, []
    for name, value in model.get_params(deep=False).items():
        if isinstance(value, np.generic):
            value = value.item()
        if isinstance(value, losses.Loss):
            parameters[name] = losses.to_dict(value)
            continue
        fits = isinstance(value, PLAIN)
        if isinstance(value, dict):  # class_weight, whose labels JSON would turn into strings
            fits = False
        if fits:
            parameters[name] = value
        else:
            left_out.append(name)
    return parameters, left_out


def _storable(array, name):
    array = np.asarray(array)
    if array.dtype == object:
        if not all(isinstance(item, str) for item in array.flat):
            raise ValueError(f"{name} must hold numbers, strings or booleans to be saved")
        array = array.astype(np.str_)
    return array


def _in_json(array):
    """A list, of what JSON has names for: a history may hold NaN, and infinity where a fit diverged."""
    if array.dtype.kind != "f":
        return array.tolist()
    return [v if math.isfinite(v) else None if math.isnan(v) else str(v) for v in array.tolist()]


def _read(path):
    if path.suffix == ".npz":
        with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in stored.files}
        return json.loads(str(arrays.pop("head"))), arrays
    head = json.loads(path.read_bytes())
    arrays = {}
    for name, stored in head["arrays"].items():
        values, dtype = stored["values"], np.dtype(stored["dtype"])
        if dtype.kind == "f" and values and not isinstance(values[0], list):
            values = [math.nan if v is None else float(v) for v in values]
        arrays[name] = np.array(values, dtype=dtype)
    return head, arrays


def _check_shapes(model):
    coef, intercept, d = model.coef_, model.intercept_, model.n_features_in_
    outputs = 1 if coef.ndim == 1 else len(coef)
    is_classifier = model.__sklearn_tags__().classifier_tags is not None
    if coef.ndim not in ((2,) if is_classifier else (1, 2)) or coef.shape[-1] != d or intercept.shape != (outputs,):
        raise TypeError(f"coef_ has shape {coef.shape}, intercept_ {intercept.shape}")
    for array in (coef, intercept):
        if array.dtype not in (np.float64, np.float32) or not np.all(np.isfinite(array)):
            raise TypeError("weights are not finite numbers of single or double precision")
    if is_classifier:
        wanted = 2 if outputs == 1 else outputs
        if model.classes_.shape != (wanted,) or len(np.unique(model.classes_)) != wanted:
            raise TypeError(f"classes_ must be {wanted} labels")
    names = getattr(model, "feature_names_in_", None)
    if names is not None and (names.shape != (d,) or names.dtype.kind != "U"):
        raise TypeError(f"feature_names_in_ must be {d} names")
