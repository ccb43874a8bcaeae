"""Gradient descent at the speed of the machine: compiled kernels under a thin Python API.

numerical_diff, numerical_gradient     derivatives of any function
numerical_jacobian, numerical_hessian  the same for many values, and once more
hessian_vector_product, check_gradient what to do with a gradient, and whether it is right
gradient_descent                       descent on a function or an objective
GDRegressor, GDClassifier              scikit-learn estimators (extra "sklearn")
multi_start                            from many starts, to the best of several minima
classify                               whether a point is a minimum or a saddle
optimizers, schedules                  update rules, and rates that change during a run
LinearObjective, sse, sigmoid, …       one-layer models
show_config                            which build of the kernels runs
"""

from fastgd import datasets, optimizers, schedules
from fastgd._version import __version__
from fastgd.check import check_gradient
from fastgd.config import show_config
from fastgd.descent import gradient_descent
from fastgd.errors import ConditionWarning, DivergenceError, DivergenceWarning
from fastgd.functions import sigmoid, sigmoid_prime, sse
from fastgd.hessian import hessian_vector_product, numerical_hessian
from fastgd.jacobian import numerical_jacobian
from fastgd.multistart import sweep
from fastgd.numdiff import numerical_diff, numerical_gradient
from fastgd.objectives import LinearObjective
from fastgd.result import History, Result, Status
from fastgd.saddles import classify
from fastgd.starts import multi_start

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


def __getattr__(name):
    # matplotlib is slow to import and not always installed, so `fastgd.plot` is loaded when it is first used.
    if name == "plot":
        import fastgd.plot

        return fastgd.plot
    # scikit-learn is slower still.
    if name in ("GDClassifier", "GDRegressor"):
        import fastgd.linear_model

        return getattr(fastgd.linear_model, name)
    raise AttributeError(f"module 'fastgd' has no attribute {name!r}")
