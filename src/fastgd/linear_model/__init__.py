"""scikit-learn estimators of one-layer models (extra "sklearn").

regressor.py, classifier.py    the estimators: targets, predictions, scikit-learn's conventions
parameters.py                  what both take, declared and checked
base.py                        fit, fitted attributes
inputs.py                      validation of tables, targets and weights
online.py                      partial_fit, and its state between calls
remarks.py, separation.py      what a fit warns of
summary.py                     standard errors
onnx_graph.py                  export to ONNX

The solvers are in `fastgd.engine`.
"""

from fastgd.errors import import_extra

import_extra("sklearn", "sklearn", "GDRegressor and GDClassifier")

from fastgd.linear_model.classifier import GDClassifier  # noqa: E402
from fastgd.linear_model.regressor import GDRegressor  # noqa: E402

__all__ = ["GDClassifier", "GDRegressor"]
