"""Exceptions and warnings of the package, and the import of optional dependencies."""

from __future__ import annotations

import contextlib
import copyreg
import importlib
import pickle
import typing

if typing.TYPE_CHECKING:
    from fastgd.engine.result import Result


class DivergenceError(ArithmeticError):
    """Raised when gradient descent diverges: the iterates move away from the minimum.

    Attributes
    ----------
    step : int
        The step at which the divergence was detected.
    lr : float
        The learning rate of that step.
    stable_lr : float or None
        The largest stable rate, 2/L with L the largest curvature: known for an objective, estimated from the last steps
        for a function, None if neither is possible.
    result : Result
        The run so far, with its history if one was recorded.
    """

    step: int
    lr: float
    stable_lr: float | None
    result: Result

    def __init__(
        self, message: str, *, step: int, lr: float | None, stable_lr: float | None = None, result: Result | None = None
    ) -> None:
        super().__init__(message)
        self.step, self.lr, self.stable_lr, self.result = step, lr, stable_lr, result

    def __reduce__(self):
        # By default unpickling an exception passes only its positional arguments; this class has keyword arguments too.
        return copyreg.__newobj__, (type(self), *self.args), self.__dict__


class DivergenceWarning(RuntimeWarning):
    """An estimator's fit diverged; the model keeps the best weights seen."""


class ConditionWarning(UserWarning):
    """The data hardly determine the weights: columns are (nearly) collinear, or the classes are separable."""


class StartError(ValueError):
    """The value or the gradient is not finite at the start of a run."""


class ClusterError(RuntimeError):
    """The workers of a cluster, or the connection to it, are gone; a checkpoint goes on with a new cluster."""


class OutOfTimeError(Exception):
    """The time of a run is up within a numerical gradient; the run catches it."""


def import_extra(module, extra, purpose):
    """Import an optional dependency; if it is missing, raise an ImportError that names the extra to install.

    Parameters
    ----------
    module : str
        The module to import, e.g. "matplotlib.pyplot".
    extra : str
        The extra of this package that installs it.
    purpose : str
        What needs it, as the subject of the message: "drawing", "a progress bar".
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        package = module.partition(".")[0]
        raise ImportError(f"{purpose} needs {package}: install it with `pip install 'fastgd[{extra}]'`") from error


@contextlib.contextmanager
def sendable():
    """Where a function cannot be sent to another process: a TypeError that says so, in place of pickle's."""
    try:
        yield
    except (AttributeError, TypeError, pickle.PicklingError) as error:
        if "pickle" not in str(error) and "local object" not in str(error):
            raise
        raise TypeError(
            f"f cannot be sent to another process ({error}): define it, and grad, with def at the top level of a "
            "module, as no lambda and in no other function; or take threads, workers=2"
        ) from error


def progress_bar(total, begun, unit, purpose):
    """A progress bar (tqdm) of `total` steps, of which `begun` are done; `purpose` is for the error without tqdm."""
    tqdm = import_extra("tqdm.auto", "cli", purpose).tqdm
    return tqdm(total=total, initial=begun, unit=unit, mininterval=0.2, leave=False)
