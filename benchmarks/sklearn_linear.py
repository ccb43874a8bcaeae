"""scikit-learn's own tests of three linear models, run against ours: `python benchmarks/sklearn_linear.py`.

The files of FILES of the installed scikit-learn are run with LinearRegression, Lasso and ElasticNet replaced by
GDRegressor under scikit-learn's names of the parameters. Tests that use none of the three (paths, cross-validation,
several tasks, helpers) are left out of the table, which `sklearn_sgd.run` prints: a failure without a reason, and a
reason without a failure, end the run with status 1.
"""

import importlib
import inspect
import re
import sys

import scipy.sparse
from sklearn import linear_model
from sklearn_sgd import run

from fastgd import GDRegressor

FILES = ("test_base", "test_sparse_coordinate_descent", "test_coordinate_descent")
REPLACED = re.compile(r"\b(LinearRegression|Lasso|ElasticNet)\b")
REASONS = {}


class Renamed(GDRegressor):
    """GDRegressor with scikit-learn's names of the parameters."""

    loss, l1_ratio, solver, learning_rate, optimizer, batch_size = "squared_error", 1.0, "auto", "auto", "gd", None
    epsilon, early_stopping, validation_fraction, n_iter_no_change, shuffle = None, False, 0.1, 5, True
    random_state, n_jobs, verbose, callbacks, warm_start = None, None, 0, None, False
    max_iter, alpha = 1000, 0.0

    def _store(self, given):
        for name, value in given.items():
            if name not in ("self", "__class__"):
                setattr(self, name, value)

    @property
    def sparse_coef_(self):
        return scipy.sparse.csr_matrix(self.coef_)

    @property
    def dual_gap_(self):
        return self.result_.gap


class LinearRegression(Renamed):
    penalty = None

    def __init__(self, *, fit_intercept=True, copy_X=True, tol=1e-6, n_jobs=None, positive=False):
        self._store(locals())


class ElasticNet(Renamed):
    penalty = "elasticnet"

    def __init__(
        self, alpha=1.0, *, l1_ratio=0.5, fit_intercept=True, precompute=False, max_iter=1000, copy_X=True, tol=1e-4,
        warm_start=False, positive=False, random_state=None, selection="cyclic",
    ):  # fmt: skip
        self._store(locals())


class Lasso(Renamed):
    penalty = "l1"

    def __init__(
        self, alpha=1.0, *, fit_intercept=True, precompute=False, copy_X=True, max_iter=1000, tol=1e-4,
        warm_start=False, positive=False, random_state=None, selection="cyclic",
    ):  # fmt: skip
        self._store(locals())


def main():
    for each in (LinearRegression, Lasso, ElasticNet):
        setattr(linear_model, each.__name__, each)
    tests = {}
    for file in FILES:
        module = importlib.import_module(f"sklearn.linear_model.tests.{file}")
        tests |= {name: test for name, test in vars(module).items() if name.startswith("test_") and callable(test)}

    def applies(name):
        return REPLACED.search(inspect.getsource(tests[name])) is not None

    return run(FILES, REASONS, "not loky", applies)


if __name__ == "__main__":
    sys.exit(main())
