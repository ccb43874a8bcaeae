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
from sklearn_sgd import defaults, run

from fastgd import GDRegressor

FILES = ("test_base", "test_sparse_coordinate_descent", "test_coordinate_descent")
REPLACED = re.compile(r"\b(LinearRegression|Lasso|ElasticNet)\b")
STEPS = "n_iter_ counts working sets and is 1 at least, not epochs: here one is enough"
GRAM = "there is no precompute: whether a Gram matrix pays is found during the fit"
UNCHECKED = "fit has no check_input"
REASONS = {
    "test_raises_value_error_if_positive_and_sparse": "positive goes with CSR here",
    **dict.fromkeys(
        ("test_sparse_enet_coordinate_descent", "test_warm_start", "test_warm_start_convergence",
         "test_warm_start_convergence_with_regularizer_decrement",
         "test_enet_coordinate_descent_raises_convergence"), STEPS),
    **dict.fromkeys(("test_elasticnet_precompute_incorrect_gram", "test_overridden_gram_matrix"), GRAM),
    **dict.fromkeys(
        ("test_check_input_false", "test_enet_copy_X_True", "test_enet_copy_X_False_check_input_False",
         "test_enet_sample_weight_does_not_overwrite_sample_weight"), UNCHECKED),
    "test_inplace_data_preprocessing": "X is never written to, so there is no copy_X=False",
    "test_enet_multitarget": "result_.gap is that of all outputs together",
    "test_lasso_dual_gap": "the gap is 5e-13, and the two sums agree to 2e-15: rounding error of F",
    "test_lasso_alpha_warning": "alpha=0 is least squares, and is solved as that",
    "test_enet_nonfinite_params": "columns are scaled, so that entries of 1e308 do not overflow, and the fit is finite",
}  # fmt: skip


class Renamed(GDRegressor):
    """GDRegressor with scikit-learn's names of the parameters."""

    locals().update(defaults(GDRegressor))
    alpha, l1_ratio = 0.0, 1.0

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
