"""scikit-learn estimators of one-layer models (extra "sklearn"), a face of `fastgd.engine`.

regressor.py, classifier.py    what y is, and what scikit-learn wants to see
base.py                        parameters, fit, what a fit leaves behind
inputs.py                      tables, targets and weights, or one sentence on why not
online.py                      rows as they come: what partial_fit keeps between calls
summary.py                     standard errors
onnx_graph.py                  models for other runtimes
"""

from fastgd.errors import import_extra

import_extra("sklearn", "sklearn", "GDRegressor and GDClassifier")

from fastgd.linear_model.classifier import GDClassifier  # noqa: E402
from fastgd.linear_model.regressor import GDRegressor  # noqa: E402

__all__ = ["GDClassifier", "GDRegressor"]
