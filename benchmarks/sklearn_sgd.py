"""scikit-learn's own tests of its SGD estimators, run against ours: `python benchmarks/sklearn_sgd.py`.

The file sklearn/linear_model/tests/test_sgd.py of the installed scikit-learn is run with SGDClassifier and SGDRegressor
replaced by GDClassifier and GDRegressor with solver="sgd", under scikit-learn's names of the parameters. Prints a table
of every test: how many of its cases pass, and where they do not, why it does not apply (REASONS). A failure without a
reason, and a reason without a failure, end the run with status 1.
"""

import collections
import importlib.util
import inspect
import sys
import warnings

import numpy as np
import pytest
from sklearn import linear_model

from fastgd import GDClassifier, GDRegressor, optimizers, schedules

# SGDOneClassSVM is another class; pools of processes cannot import classes that are replaced here.
LEFT_OUT = "not oneclass and not ocsvm and not one_class and not all_backends"
START = "starts are given by warm_start, not by coef_init and intercept_init (tests/test_linear_model.py)"
LOSSES = "GDClassifier takes log_loss, hinge and squared_hinge"
COUNTER = "reads t_, which is not kept; that partial_fit equals fit is in tests/test_linear_model.py"
INSIDE = "reaches into scikit-learn's implementation"
PATH = 'pins the iterates of five epochs from one order of the rows and of learning_rate="optimal"'
SPARSE = "scikit-learn takes steps of a hundredth on the intercept for sparse rows; ours are those for dense ones"
STOPPING = "counts epochs of scikit-learn's rule; ours ends by the gap to the minimum, or where the loss stands still"
NAMES = 'there is no attribute for the average beside coef_: GDClassifier(optimizer="asgd") has it in coef_'
REASONS = {
    **dict.fromkeys(
        ("test_warm_start", "test_provide_coef", "test_set_intercept_offset", "test_set_intercept_offset_binary",
         "test_set_intercept_to_intercept", "test_sgd_multiclass_with_init_coef", "test_set_coef_multiclass",
         "test_warm_start_multiclass"), START),
    **dict.fromkeys(
        ("test_late_onset_averaging_reached", "test_average_binary_computed_correctly",
         "test_sgd_multiclass_average", "test_sgd_proba", "test_regression_losses"), LOSSES),
    **dict.fromkeys(("test_partial_fit_equal_fit_classif", "test_partial_fit_equal_fit"), COUNTER),
    **dict.fromkeys(
        ("test_sgd_predict_proba_method_access", "test_loss_function_epsilon",
         "test_validation_set_not_used_for_training", "test_validation_mask_correctly_subsets"), INSIDE),
    **dict.fromkeys(("test_sgd_l1", "test_class_weights", "test_sample_weights", "test_balanced_weight"), PATH),
    **dict.fromkeys(
        ("test_sgd_averaged_computed_correctly", "test_sgd_averaged_partial_fit", "test_average_sparse"), SPARSE),
    **dict.fromkeys(
        ("test_early_stopping", "test_adaptive_longer_than_constant", "test_tol_parameter"), STOPPING),
    **dict.fromkeys(("test_plain_has_no_average_attr", "test_late_onset_averaging_not_reached"), NAMES),
    "test_input_format": "a regressor takes several targets, so a y of two dimensions is none too many",
    "test_sgd_failing_penalty_validation": "the error names l1_ratio in other words",
    "test_power_t_limits": "there is no power_t: schedules are functions",
    "test_sgd_early_stopping_with_partial_fit": "early_stopping is for fit; partial_fit has no epochs to end after",
    "test_partial_fit_weight_class_balanced": "the error says the same in other words",
    "test_underflow_or_overflow": "an overflow is a DivergenceWarning and the best weights, not a ValueError",
    "test_sgd_error_on_zero_validation_weight": "rows without weight are not held out, so there is no such error",
}  # fmt: skip


def schedule(learning_rate, eta0, power_t, alpha):
    """The learning rate that scikit-learn's parameters mean."""
    if learning_rate == "constant":
        return eta0
    if learning_rate == "invscaling":
        return lambda step: eta0 / (step + 1) ** power_t
    if learning_rate == "optimal":
        first = max(1e-12, np.sqrt(1 / np.sqrt(max(alpha, 1e-12))))
        return lambda step: 1 / (alpha * (1 / (first * alpha) + step)) if alpha else first
    if learning_rate == "adaptive":
        return schedules.plateau(eta0, factor=0.2, patience=5)
    return learning_rate


def defaults(estimator):
    """The parameters of an estimator of ours and what they are by default."""
    return {name: each.default for name, each in inspect.signature(estimator).parameters.items()}


class Renamed:
    """Our estimators with scikit-learn's names of the parameters."""

    def _store(self, given):
        """Store the arguments of __init__, from whose signature scikit-learn takes the names."""
        vars(self).update(defaults(GDRegressor) | defaults(GDClassifier), solver="sgd", multi_class="ovr")
        for name, value in given.items():
            if name not in ("self", "__class__"):
                setattr(self, name, value)

    def _check_parameters(self):
        kept = dict(self.__dict__)
        self.learning_rate = schedule(self.learning_rate, self.eta0, self.power_t, self.alpha)
        self.optimizer = optimizers.ASGD(int(self.average) - 1) if self.average else "gd"
        if not hasattr(self, "epsilon_") and self.loss not in ("huber", "epsilon_insensitive"):
            self.epsilon = None
        if self.penalty != "elasticnet":
            self.l1_ratio = 0.15
        try:
            return super()._check_parameters()
        finally:
            for name in ("learning_rate", "epsilon", "l1_ratio"):
                self.__dict__[name] = kept[name]
            self.optimizer = "gd"


class SGDClassifier(Renamed, GDClassifier):
    def __init__(
        self, loss="hinge", *, penalty="l2", alpha=0.0001, l1_ratio=0.15, fit_intercept=True, max_iter=1000, tol=1e-3,
        shuffle=True, verbose=0, epsilon=0.1, n_jobs=None, random_state=None, learning_rate="optimal", eta0=0.01,
        power_t=0.5, early_stopping=False, validation_fraction=0.1, n_iter_no_change=5, class_weight=None,
        warm_start=False, average=False,
    ):  # fmt: skip
        self._store(locals())


class SGDRegressor(Renamed, GDRegressor):
    def __init__(
        self, loss="squared_error", *, penalty="l2", alpha=0.0001, l1_ratio=0.15, fit_intercept=True, max_iter=1000,
        tol=1e-3, shuffle=True, verbose=0, epsilon=0.1, random_state=None, learning_rate="invscaling", eta0=0.01,
        power_t=0.25, early_stopping=False, validation_fraction=0.1, n_iter_no_change=5, warm_start=False,
        average=False, n_jobs=None,
    ):  # fmt: skip
        self._store(locals())


class Outcomes:
    """A pytest plugin that collects the outcome of each case of each test."""

    def __init__(self):
        self.tests = collections.defaultdict(list)

    def pytest_runtest_logreport(self, report):
        if report.when == "call" or report.outcome != "passed":
            name = report.location[2].split("[")[0]
            text = "" if report.passed else str(getattr(report.longrepr, "reprcrash", report.longrepr))
            self.tests[name].append((report.outcome, report.location[2], text))


def run(files, reasons, left_out, applies=lambda name: True):
    """Run files of scikit-learn's tests and print the table; whether a failure has no reason, or a reason no failure.

    Parameters
    ----------
    files : names of modules in sklearn.linear_model.tests
    reasons : dict of test → why it does not apply
    left_out : str
        pytest's -k.
    applies : callable, optional
        Whether a test, by its name, is one of classes that are replaced.
    """
    paths = [importlib.util.find_spec(f"sklearn.linear_model.tests.{file}").origin for file in files]
    outcomes = Outcomes()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pytest.main(
            [*paths, "-q", "-p", "no:cacheprovider", "-n", "0", "--tb=no", "--no-header", "-c", "/dev/null", "-W",
             "ignore", "--import-mode=importlib", "-k", left_out, *sys.argv[1:]],
            plugins=[outcomes],
        )  # fmt: skip
    counts, unexplained = collections.Counter(), []
    print("\n| test | passes | why the others do not apply |\n| --- | --- | --- |")
    for name, cases in outcomes.tests.items():
        if not applies(name):
            continue
        ran = [each for each in cases if each[0] != "skipped"]
        passed = sum(outcome == "passed" for outcome, *_ in ran)
        failed = [(case, text) for outcome, case, text in ran if outcome == "failed"]
        counts["cases"] += len(ran)
        counts["passed"] += passed
        reason = reasons.get(name, "")
        if bool(failed) != bool(reason):
            unexplained += failed or [(name, "has a reason and passes")]
        print(f"| {name} | {passed} of {len(ran)} | {reason if failed else ''} |")
    print(f"\n{counts['passed']} of {counts['cases']} cases pass")
    for case, text in unexplained:
        print(f"unexplained: {case}: {text.splitlines()[0][-300:] if text else ''}")
    return bool(unexplained)


def main():
    linear_model.SGDClassifier, linear_model.SGDRegressor = SGDClassifier, SGDRegressor
    return run(["test_sgd"], REASONS, LEFT_OUT)


if __name__ == "__main__":
    sys.exit(main())
