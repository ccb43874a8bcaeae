"""Gradient descent with compiled kernels.

numerical_diff           the derivative of a function of one variable, from its values
numerical_gradient       the gradient of any function, from its values
numerical_jacobian       first derivatives of a function that returns a vector
numerical_hessian        second derivatives
hessian_vector_product   second derivatives along a direction, from a gradient
check_gradient           whether a gradient is that of its function, and if not, where
gradient_descent         descent on a function or on an objective
multi_start              descent from many starts, to the lowest of several minima
penalty_path             fits for a sequence of penalties, each from the one before
sweep                    runs with many rates, starts, penalties or optimizers at once
classify                 whether a point is a minimum, a maximum or a saddle point
Result, History, Status  what a run reports: its end, its path, and why it ended
LinearObjective          the loss of a one-layer model on data, with penalties
sigmoid, sigmoid_prime   the logistic function and its derivative
sse                      half the sum of squared errors of a one-layer model
GDRegressor              a linear model of numbers, a scikit-learn estimator (extra "sklearn")
GDClassifier             a linear model of classes, a scikit-learn estimator (extra "sklearn")
losses                   losses as objects with parameters, and losses of your own
optimizers               update rules: momentum, Adam and others
schedules                learning rates that change from step to step
plot                     figures (extra "plot")
datasets                 small tables
show_config              prints the build of the kernels in use, and versions
DivergenceError          raised when a run diverges, with the run so far
DivergenceWarning        given when a fit diverges
ConditionWarning         given when data hardly determine the weights
"""

import importlib.util
import typing

from fastgd import kernels  # noqa: F401  selects the build, or raises the error that says why there is none
from fastgd._version import __version__
from fastgd.errors import ConditionWarning, DivergenceError, DivergenceWarning

if typing.TYPE_CHECKING:
    from fastgd import datasets, losses, optimizers, plot, schedules
    from fastgd.derivatives.check import check_gradient
    from fastgd.derivatives.gradient import numerical_diff, numerical_gradient
    from fastgd.derivatives.hessian import numerical_hessian
    from fastgd.derivatives.jacobian import numerical_jacobian
    from fastgd.derivatives.products import hessian_vector_product
    from fastgd.descent.path import penalty_path
    from fastgd.descent.saddles import classify
    from fastgd.descent.single import gradient_descent
    from fastgd.descent.starts import multi_start
    from fastgd.descent.sweep import sweep
    from fastgd.engine.result import History, Result, Status
    from fastgd.kernels.config import show_config
    from fastgd.linear_model import GDClassifier, GDRegressor
    from fastgd.objective import LinearObjective
    from fastgd.objective.functions import sigmoid, sigmoid_prime, sse

__all__ = [
    "ConditionWarning", "DivergenceError", "DivergenceWarning", "GDClassifier", "GDRegressor", "History",
    "LinearObjective", "Result", "Status", "__version__", "check_gradient", "classify", "datasets",
    "gradient_descent", "hessian_vector_product", "losses", "multi_start", "numerical_diff", "numerical_gradient",
    "numerical_hessian", "numerical_jacobian", "optimizers", "penalty_path", "plot", "schedules",
    "show_config", "sigmoid", "sigmoid_prime", "sse", "sweep",
]  # fmt: skip


# The names of each module, which is imported when one of them is first used. Other names are modules themselves.
_NAMES = {
    "derivatives.check": ("check_gradient",),
    "derivatives.gradient": ("numerical_diff", "numerical_gradient"),
    "derivatives.hessian": ("numerical_hessian",),
    "derivatives.jacobian": ("numerical_jacobian",),
    "derivatives.products": ("hessian_vector_product",),
    "descent.path": ("penalty_path",),
    "descent.saddles": ("classify",),
    "descent.single": ("gradient_descent",),
    "descent.starts": ("multi_start",),
    "descent.sweep": ("sweep",),
    "engine.result": ("History", "Result", "Status"),
    "kernels.config": ("show_config",),
    "linear_model": ("GDClassifier", "GDRegressor"),
    "objective": ("LinearObjective",),
    "objective.functions": ("sigmoid", "sigmoid_prime", "sse"),
}


if not typing.TYPE_CHECKING:  # a type checker would otherwise accept any name

    def __getattr__(name):
        if not name.startswith("_"):
            home = next((home for home, names in _NAMES.items() if name in names), None)
            module = f"fastgd.{home or name}"
            try:
                found = importlib.import_module(module)
            except ModuleNotFoundError as error:
                if error.name != module:  # the module exists, but one that it imports does not
                    raise
            else:
                globals()[name] = value = getattr(found, name) if home else found
                return value
        raise AttributeError(f"module 'fastgd' has no attribute {name!r}")


def __dir__() -> list[str]:
    # Without scikit-learn its estimators are left out: `help` would stop at their ImportError.
    found = importlib.util.find_spec("sklearn") is not None
    return [name for name in __all__ if found or name not in ("GDClassifier", "GDRegressor")]
