"""What can go wrong in a way of its own, and how an absent extra is named."""

from __future__ import annotations

import copyreg
import importlib
import typing

if typing.TYPE_CHECKING:
    from fastgd.engine.result import Result


class DivergenceError(ArithmeticError):
    """A run of gradient descent that goes away from the minimum instead of towards it.

    Attributes
    ----------
    step : int
        The step at which it was noticed.
    lr : float
        The learning rate of that step.
    stable_lr : float or None
        The largest rate at which descent is stable: 2/L with L the largest curvature, known for an objective and
        estimated from the last steps for a function. None where neither could be had.
    result : Result
        The run so far, with its history if one was asked for.
    """

    step: int
    lr: float
    stable_lr: float | None
    result: Result

    def __init__(
        self,
        message: str,
        *,
        step: int,
        lr: float | None,
        stable_lr: float | None = None,
        result: Result | None = None,
    ) -> None:
        super().__init__(message)
        self.step = step
        self.lr = lr
        self.stable_lr = stable_lr
        self.result = result

    def __reduce__(self):
        # An exception is rebuilt from its positional arguments alone unless it says how; this one needs more.
        return copyreg.__newobj__, (type(self), *self.args), self.__dict__


class DivergenceWarning(RuntimeWarning):
    """An estimator's fit went away from the minimum; what it kept are the best weights seen."""


class ConditionWarning(UserWarning):
    """Weights are not, or hardly, determined by the data: columns are collinear or nearly so, or classes separated."""


class StartError(ValueError):
    """The value or the gradient is not finite where a run starts."""


class OutOfTimeError(Exception):
    """The time of a run is up within a numerical gradient; the run catches it."""


def import_extra(module, extra, purpose):
    """Import an optional dependency, or say which extra brings it.

    Parameters
    ----------
    module : str
        What to import, e.g. "matplotlib.pyplot".
    extra : str
        The extra of this package that installs it.
    purpose : str
        What it is wanted for, as the subject of a sentence: "drawing", "a progress bar".
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        package = module.partition(".")[0]
        raise ImportError(f"{purpose} needs {package}: install it with `pip install 'fastgd[{extra}]'`") from error


def progress_bar(total, begun, unit, purpose):
    """A progress bar of tqdm, of so many steps."""
    tqdm = import_extra("tqdm.auto", "cli", purpose).tqdm
    return tqdm(total=total, initial=begun, unit=unit, mininterval=0.2, leave=False)
