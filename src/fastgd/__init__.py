"""Gradient descent with compiled kernels.

numerical_diff, numerical_gradient     derivatives of any function, from its values
numerical_jacobian, numerical_hessian  first derivatives of a vector-valued function, second derivatives
hessian_vector_product, check_gradient second derivatives along a direction; a test of a gradient function
gradient_descent                       descent on a function or an objective
multi_start                            descent from many starts, to the lowest of several minima
sweep                                  runs with many rates, starts or penalties at once
classify                               minimum, maximum or saddle point
GDRegressor, GDClassifier              scikit-learn estimators (extra "sklearn")
LinearObjective, sse, sigmoid, …       one-layer models
optimizers, schedules                  update rules, learning rates that change
plot, datasets                         figures (extra "plot"), small data sets
show_config                            the build of the kernels in use, and versions
"""

import importlib
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
    "ConditionWarning",
    "DivergenceError",
    "DivergenceWarning",
    "GDClassifier",
    "GDRegressor",
    "History",
    "LinearObjective",
    "Result",
    "Status",
    "__version__",
    "check_gradient",
    "classify",
    "datasets",
    "gradient_descent",
    "hessian_vector_product",
    "losses",
    "multi_start",
    "numerical_diff",
    "numerical_gradient",
    "numerical_hessian",
    "numerical_jacobian",
    "optimizers",
    "plot",
    "schedules",
    "show_config",
    "sigmoid",
    "sigmoid_prime",
    "sse",
    "sweep",
]


# The module of each name, imported when the name is first used. Names that are not here are modules themselves.
_HOMES = {
    "GDClassifier": "linear_model",
    "GDRegressor": "linear_model",
    "History": "engine.result",
    "LinearObjective": "objective",
    "Result": "engine.result",
    "Status": "engine.result",
    "check_gradient": "derivatives.check",
    "classify": "descent.saddles",
    "gradient_descent": "descent.single",
    "hessian_vector_product": "derivatives.products",
    "multi_start": "descent.starts",
    "numerical_diff": "derivatives.gradient",
    "numerical_gradient": "derivatives.gradient",
    "numerical_hessian": "derivatives.hessian",
    "numerical_jacobian": "derivatives.jacobian",
    "show_config": "kernels.config",
    "sigmoid": "objective.functions",
    "sigmoid_prime": "objective.functions",
    "sse": "objective.functions",
    "sweep": "descent.sweep",
}


if not typing.TYPE_CHECKING:  # a type checker would otherwise accept any name

    def __getattr__(name):
        if not name.startswith("_"):
            module = f"fastgd.{_HOMES.get(name, name)}"
            try:
                found = importlib.import_module(module)
            except ModuleNotFoundError as error:
                if error.name != module:  # the module exists, but one that it imports does not
                    raise
            else:
                value = getattr(found, name) if name in _HOMES else found
                globals()[name] = value
                return value
        raise AttributeError(f"module 'fastgd' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
