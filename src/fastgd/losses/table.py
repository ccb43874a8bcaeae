"""The table of losses by name."""

from __future__ import annotations

import functools
from typing import Literal

from fastgd import validation
from fastgd.kernels.codes import ACTIVATIONS
from fastgd.losses import likelihoods, margins, residuals
from fastgd.losses.record import DataTerm, Loss

# For annotations.
RegressionLoss = Literal[residuals.RegressionLoss, likelihoods.RegressionLoss]
ClassificationLoss = Literal[likelihoods.ClassificationLoss, margins.ClassificationLoss]
LossName = Literal["sse", RegressionLoss, ClassificationLoss]

# Each name, with the record of its defaults.
LOSSES = {
    name: getattr(module, each)()
    for module in (residuals, likelihoods, margins)
    for each in module.__all__
    for name in (*getattr(module, each).synonyms, getattr(module, each).name)
}


def names(task):
    """The names of the losses that the estimator of a task takes: of means over samples."""
    return [name for name, loss in LOSSES.items() if loss.task == task and loss.times is not None]


def get(loss, among=None, name="loss"):
    """The Loss of a name, or a Loss itself.

    Parameters
    ----------
    among : {"regression", "classification"}, optional
        The task that it must be for.

    Raises
    ------
    ValueError
        There is none.
    """
    known = LOSSES.get(loss) if isinstance(loss, str) else None
    if known is not None and (among is None or (known.task == among and known.times is not None)):
        return known
    options = LOSSES if among is None else names(among)
    if isinstance(loss, Loss):
        if among is not None and (loss.task not in (None, among) or loss.times is None):
            raise ValueError(f"{name} must be for {among}: {', '.join(map(repr, options))}, or custom(f); got {loss!r}")
        return loss
    if isinstance(loss, type) and issubclass(loss, Loss):
        raise ValueError(f"{name} must be a name or an object; got the class {loss.__name__}: write {loss.__name__}()")
    if callable(loss):
        raise ValueError(f"{name} must be a name or an object of fastgd.losses; of a function make one: custom(f)")
    if not isinstance(loss, str) or loss not in options:
        choices = ", ".join(map(repr, options))
        got = validation.describe(loss)
        raise ValueError(f"{name} must be one of {choices}, or an object of fastgd.losses; got {got}")
    return LOSSES[loss]


@functools.lru_cache(maxsize=256)
def _term(loss, activation):
    return DataTerm(loss, activation, **loss.facts(activation))


def of(loss, activation=None):
    """The DataTerm of a loss, a name or an object, behind an activation; without one behind its own.

    Raises
    ------
    ValueError
        There is none.
    """
    loss = get(loss)
    if activation is None:
        activation = loss.link if len(loss.activations) == 1 else "identity"
    validation.choice(activation, "activation", ACTIVATIONS)
    if activation not in loss.activations:
        fitting = " or ".join(map(repr, loss.activations))
        raise ValueError(f"loss={loss.shown!r} goes with activation {fitting}; got {activation!r}")
    return _term(loss, activation)


def to_dict(loss):
    """A Loss as plain values, which `from_dict` reads: its name and its parameters.

    Raises
    ------
    ValueError
        It is a function of the user's own.
    """
    if not loss.name:
        raise ValueError(
            f"loss={loss!r} is a function of your own, which a file of values cannot hold: pickle the model where the "
            "function can be imported again, or save its coef_ and intercept_"
        )
    return {"name": loss.name, **loss.parameters}


def from_dict(values):
    parameters = dict(values)
    return type(get(parameters.pop("name")))(**parameters)
