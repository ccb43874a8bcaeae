"""scikit-learn estimators of one-layer models (extra "sklearn").

regressor.py, classifier.py    the estimators: targets, predictions, scikit-learn's conventions
base.py                        parameters, fit, fitted attributes
inputs.py                      validation of tables, targets and weights
online.py                      partial_fit, and its state between calls
summary.py                     standard errors
onnx_graph.py                  export to ONNX

The solvers are in `fastgd.engine`.
"""

from fastgd.errors import import_extra

import_extra("sklearn", "sklearn", "GDRegressor and GDClassifier")

from fastgd.linear_model.classifier import GDClassifier  # noqa: E402
from fastgd.linear_model.regressor import GDRegressor  # noqa: E402

__all__ = ["GDClassifier", "GDRegressor"]
