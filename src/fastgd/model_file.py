"""Fitted models in files, and how any file is written: whole, or not at all.

A model file is JSON with a format name and number, so that a reader of another age can say what it does not know:

    {"format": "fastgd model", "format_version": 1, "target": "weight", "features": ["height"],
     "activation": "identity", "coefficients": [3.45], "intercept": -87.5, "fit": {…}}

`fit` says how the model came about and is not needed to predict. Numbers keep all their digits.
"""

import json
import math
import os
import secrets
import typing
from pathlib import Path

import numpy as np

from fastgd.kernels.reference import ACTIVATIONS
from fastgd.objective import LinearObjective
from fastgd.tables import InputError

FORMAT = "fastgd model"
FORMAT_VERSION = 1


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


def save(path, model, fit):
    """Write a model.

    Parameters
    ----------
    path : path-like
    model : Model
    fit : dict
        Whatever is worth knowing about the fit.
    """
    content = {"format": FORMAT, "format_version": FORMAT_VERSION, **model._asdict(), "fit": fit}
    text = json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False)
    write_whole(path, (text + "\n").encode())


def load(path):
    """Read a model.

    Raises
    ------
    InputError
        The file cannot be read, is no model, is damaged, or has a format newer than this one.
    """
    path = Path(path)
    if path.is_dir():
        raise InputError(f"{path} is a directory, not a model file")
    try:
        content = json.loads(path.read_bytes())
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is not a fastgd model, or is damaged: it is not JSON") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise InputError(f"{path} is not a fastgd model")
    version = content.get("format_version")
    if type(version) is int and version > FORMAT_VERSION:
        raise InputError(
            f"{path} has format {version}, and this fastgd reads formats up to {FORMAT_VERSION}: install a newer fastgd"
        )
    wrong = _first_wrong(content)
    if wrong:
        raise InputError(f"{path} is damaged: {wrong!r} is missing or is not what it should be")
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


# ------------------------------------------------------------------------------------------------------ writing files


def check_writable(path):
    """Raise InputError where `write_whole` would not be able to write; touches nothing."""
    target = Path(path).resolve()
    if target.is_dir():
        raise InputError(f"{path} is a directory, and a file is to be written there")
    if target.exists() and not target.is_file():  # a device, say, which the new file would replace
        raise InputError(f"{path} is not an ordinary file")
    if not target.parent.is_dir():
        raise InputError(f"{path} cannot be written: there is no directory {target.parent}")
    if not os.access(target if target.exists() else target.parent, os.W_OK) or not os.access(target.parent, os.W_OK):
        raise InputError(f"{path} cannot be written: permission denied")


def write_whole(path, data):
    """Write bytes to a file such that at every moment the path holds all of the old content or all of the new.

    Raises
    ------
    InputError
        It could not be written; what was there before still is.
    """
    target = Path(path).resolve()  # what a link points to is written, the link stays
    temporary = target.with_name(f".fastgd-{secrets.token_hex(8)}.part")
    try:
        try:
            with temporary.open("xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, target)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error.strerror or error}") from error
