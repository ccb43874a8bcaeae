"""scikit-learn estimators of one-layer models (extra "sklearn").

regressor.py, classifier.py    what y is, and what scikit-learn wants to see
base.py                        parameters, fit, what a fit leaves behind
inputs.py                      tables, targets and weights, or one sentence on why not
route.py                       which solver
normal_equations.py            squared errors by XᵀX
solvers.py, quadratic.py       smooth losses by quasi-Newton steps, and the models that these follow
smoothed.py                    losses with a kink, by smooth ones
first_order.py                 accelerated and plain steps on all rows
stream.py, backlog.py          stochastic steps, and the epochs that nobody waits for
watch.py                       tolerance, history, callbacks: what every solver shows its epochs to
online.py                      rows as they come: what partial_fit keeps between calls
problem.py, losses.py          what is minimised, and the bound of it from below
space.py                       the variables in which that is easy
summary.py                     standard errors
onnx_graph.py                  models for other runtimes
"""

from fastgd.errors import import_extra

import_extra("sklearn", "sklearn", "GDRegressor and GDClassifier")

from fastgd.linear_model.classifier import GDClassifier  # noqa: E402
from fastgd.linear_model.regressor import GDRegressor  # noqa: E402

__all__ = ["GDClassifier", "GDRegressor"]
