"""The parameters that both estimators have, and their check."""

from __future__ import annotations

import dataclasses
import inspect
import types
import typing

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.utils import check_random_state

from fastgd import losses, optimizers, validation
from fastgd.engine import plan
from fastgd.engine.rates import rate_of
from fastgd.engine.stopping import Stopping

if typing.TYPE_CHECKING:
    from os import PathLike
    from typing import Literal

    from numpy.typing import ArrayLike

    from fastgd.losses import Loss
    from fastgd.optimizers import Optimizer
    from fastgd.types import Bounds, Callbacks, Groups, OptimizerName, Penalty, Rate, Solver

PENALTIES = (None, "l2", "l1", "elasticnet", "group")


@dataclasses.dataclass(kw_only=True, repr=False, eq=False)
class Parameters(BaseEstimator):
    """A subclass is a dataclass too: it adds `loss` and what only that estimator has."""

    _task = ""  # "regression" or "classification"
    epsilon = None  # a classifier has none

    penalty: Penalty | None = None
    alpha: float = 1e-4
    l1_ratio: float = 0.15
    fit_intercept: bool = True
    solver: Solver = "auto"
    learning_rate: Rate | Literal["auto"] = "auto"
    optimizer: OptimizerName | Optimizer = "gd"
    batch_size: int | None = None
    max_iter: int = 1000
    tol: float | None = 1e-4
    early_stopping: bool = False
    validation_fraction: float = 0.1
    n_iter_no_change: int = 5
    warm_start: bool = False
    random_state: int | np.random.RandomState | None = None
    n_jobs: int | None = None
    verbose: int = 0
    callbacks: Callbacks | None = None
    shuffle: bool = True
    target: float | None = None
    max_seconds: float | None = None
    checkpoint: str | PathLike[str] | None = None
    resume: bool = False
    missing: Literal["drop", "mean", "indicator"] | None = None
    drop: Literal["first"] | None = "first"
    dates: Literal["number"] | None = None
    unknown: Literal["error", "zeros"] = "error"
    positive: bool = False
    bounds: Bounds | None = None
    penalty_weights: ArrayLike | None = None
    groups: Groups | None = None

    def _check_parameters(self):
        """The parameters as numbers and objects; ValueError or TypeError for what they do not take."""
        number, count, boolean = (
            lambda name, check=check, **limits: check(getattr(self, name), name, **limits)
            for check in (validation.scalar, validation.count, validation.boolean)
        )
        if self.penalty is not None and self.penalty not in PENALTIES:
            names = ", ".join(map(repr, PENALTIES))
            raise ValueError(f"penalty must be one of {names}; got {validation.describe(self.penalty)}")
        validation.choice(self.solver, "solver", plan.NAMES)
        alpha, ratio = number("alpha", minimum=0), number("l1_ratio", minimum=0)
        if ratio > 1:
            raise ValueError(f"l1_ratio must be between 0 and 1; got {ratio}")
        shares = {None: (0, 0), "l2": (0, 1), "l1": (1, 0), "elasticnet": (ratio, 1 - ratio), "group": (1, 0)}
        l1, l2 = shares[self.penalty]
        if (self.groups is None) if self.penalty == "group" else (self.groups is not None and not l1):
            raise ValueError(
                'groups go with penalty="group", or "l1" or "elasticnet", which then take the columns of a group '
                f"together; got penalty={self.penalty!r}, groups={self.groups!r}"
            )
        fraction = number("validation_fraction", positive=True)
        if fraction >= 1:
            raise ValueError(f"validation_fraction must be between 0 and 1, both excluded; got {fraction}")
        if self.random_state is not None:
            try:
                check_random_state(self.random_state)
            except ValueError:
                raise ValueError(
                    "random_state must be None, an integer from 0 to 2**32 - 1, or a RandomState; got "
                    f"{validation.describe(self.random_state)}"
                ) from None
        stopping = {"target": self.target, "max_seconds": self.max_seconds}
        Stopping(**stopping)
        if boolean("resume") and self.checkpoint is None:
            raise ValueError("resume=True needs checkpoint=, the file to go on from")
        boolean("warm_start"), boolean("shuffle")
        bounds = validation.bounds(self.bounds)
        if boolean("positive"):
            bounds = (np.zeros(()), np.full((), np.inf)) if bounds is None else (np.maximum(bounds[0], 0), bounds[1])
            if np.any(bounds[0] > bounds[1]):
                raise ValueError(f"positive=True and bounds leave nothing; got bounds={self.bounds!r}")
        if bounds is not None and np.all(bounds[0] == -np.inf) and np.all(bounds[1] == np.inf):
            bounds = None
        calls = self.callbacks if self.callbacks is not None else ()
        return types.SimpleNamespace(
            loss=self._loss, l1=alpha * l1, l2=alpha * l2, fit_intercept=boolean("fit_intercept"),
            rate=_rate(self.learning_rate), rule=optimizers.get(self.optimizer),
            batch=None if self.batch_size is None else count("batch_size", minimum=1),
            max_iter=count("max_iter", minimum=1), tol=None if self.tol is None else number("tol", minimum=0),
            early_stopping=boolean("early_stopping"), patience=count("n_iter_no_change", minimum=1),
            verbose=int(self.verbose) if isinstance(self.verbose, bool) else count("verbose"),
            callbacks=[
                _of_one_argument(call, "callbacks", "the state of the fit")
                for call in (calls if isinstance(calls, (list, tuple)) else (calls,))
            ],
            resume=self.resume, stopping=stopping, dropped=(), start=None, bounds=bounds,
        )  # fmt: skip

    @property
    def _loss(self) -> Loss:
        """The Loss, with the estimator's epsilon where that is its parameter."""
        loss, epsilon = losses.get(self.loss, self._task), self.epsilon
        if epsilon is None:
            return loss
        if isinstance(epsilon, str) and epsilon == "auto":
            if self.loss != "huber":
                raise ValueError(f'epsilon="auto" is for loss="huber"; got loss={self.loss!r}')
            return losses.Huber(loss.delta * getattr(self, "scale_", 1.0))
        epsilon = validation.scalar(epsilon, "epsilon", positive=True)
        if isinstance(self.loss, losses.Loss):
            raise ValueError(f"epsilon is for a loss that is given by its name; got {epsilon} beside loss={loss!r}")
        return loss if loss.of_epsilon is None else dataclasses.replace(loss, **{loss.of_epsilon: epsilon})


EstimatorT = typing.TypeVar("EstimatorT", bound=type)


def names_parameters(estimator: EstimatorT) -> EstimatorT:
    """Decorator: a parameter of a name that the estimator does not have is a TypeError that names the right one."""
    estimator.__init__ = validation.names_arguments(estimator.__init__)
    return estimator


def _rate(learning_rate):
    """A rate as a function of the step, or None for "auto"."""
    if not isinstance(learning_rate, str):
        if callable(learning_rate):
            _of_one_argument(learning_rate, "learning_rate", "the step")
        return rate_of(learning_rate, "learning_rate", positive=True)
    if learning_rate != "auto":
        raise ValueError(f'learning_rate must be "auto", a number or a function of the step; got {learning_rate!r}')
    return None


def _of_one_argument(function, name, what):
    """A function of the user's, refused here and not during the fit if it cannot be called with one argument."""
    validation.callable_(function, name)
    try:
        inspect.signature(function).bind(None)
    except TypeError as error:
        got = validation.describe(function)
        raise TypeError(f"{name} must be callable with one argument, {what}; got {got}: {error}") from None
    except ValueError:  # builtins need not tell what they take
        pass
    return function
