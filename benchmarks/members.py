"""The solvers compared on each objective, with the parameters that make them minimise the same objective.

A Problem divides the sum of its losses by n and so do GDRegressor, GDClassifier, cyanure, skglm's Lasso and logistic
regression, and scikit-learn's Lasso, ElasticNet, PoissonRegressor and SGD; Ridge divides by nothing, and what has a C
multiplies the sum of the losses by it: C = 1/(n·l2) or, with an l1 penalty, 1/(n·l1).
"""

import contextlib
import importlib.util
import warnings

import numpy as np
import sklearn
from contest import EPOCHS, EXACT, ITERATIONS, Member, Unsuitable
from sklearn.linear_model import (
    ElasticNet,
    GammaRegressor,
    Lasso,
    LinearRegression,
    LogisticRegression,
    PoissonRegressor,
    QuantileRegressor,
    Ridge,
    SGDClassifier,
    SGDRegressor,
    TweedieRegressor,
)
from sklearn.neural_network import MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.svm import LinearSVC

from fastgd import GDClassifier, GDRegressor, losses

# Iterations allowed to solvers that go through rows or columns one by one: one of their iterations is a single pass.
PASSES = 1000
L1 = {"l1_ratio": 1} if tuple(map(int, sklearn.__version__.split(".")[:2])) >= (1, 8) else {"penalty": "l1"}


@contextlib.contextmanager
def quiet():
    """Without warnings: whether a solver has converged is judged by its objective."""
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        yield


def table(problem):
    """X, scaled here for members that do not work in a pipeline."""
    return problem.given if problem.scaler is None else problem.scaler().fit_transform(problem.given)


def fitted(estimator, problem):
    """The weights, and the number of iterations if the limit was reached (else None)."""
    with quiet():
        whole = estimator if problem.scaler is None else make_pipeline(problem.scaler(), estimator)
        whole.fit(problem.given, problem.y)
    coef, intercept = np.asarray(estimator.coef_), getattr(estimator, "intercept_", 0.0)
    if coef.shape == (problem.d, problem.k):
        coef = coef.T
    spent, most = getattr(estimator, "n_iter_", None), getattr(estimator, "max_iter", None)
    ran_out = spent is not None and most is not None and np.max(spent) >= most
    w = np.append(coef.reshape(-1), np.broadcast_to(np.reshape(intercept, -1), problem.k))
    return w, most if ran_out else None


def member(make, **options):
    """A member that fits the estimator `make(problem, setting)`."""
    return Member(lambda problem, at: fitted(make(problem, at), problem), **options)


def by_epochs(make):
    """A member whose setting is the number of epochs."""

    def fit(problem, epochs):
        return fitted(make(problem, epochs), problem)[0], None

    return Member(fit, "epochs", EPOCHS)


def installed(**members):
    """The members whose package, named like the member, is installed."""
    return {who: each for who, each in members.items() if importlib.util.find_spec(who)}


def refuse(when, why):
    if when:
        raise Unsuitable(why)


def near(problem):
    """Weights near the minimum with an l1 penalty; Problem takes their support and verifies optimality."""
    return fitted(ours(problem, 1e-12), problem)[0]


# ---------------------------------------------------------------------------------------------------------------- ours


def ours(problem, tol, **options):
    name = "log_loss" if problem.name == "softmax" else problem.name
    estimator = GDRegressor if losses.get(name).task == "regression" else GDClassifier
    alpha = problem.l1 + problem.l2
    return estimator(
        losses.Quantile(0.8) if name == "quantile" else name, penalty="elasticnet" if alpha else None,
        alpha=alpha, l1_ratio=problem.l1 / alpha if alpha else 0, fit_intercept=problem.fit_intercept, tol=tol,
        max_iter=ITERATIONS, **options,
    )  # fmt: skip


OURS = {"ours": member(ours)}


# --------------------------------------------------------------------------------------------------------------- peers


def logistic(solver, iterations=ITERATIONS, **options):
    def make(problem, tol):
        return LogisticRegression(
            C=1 / (problem.n * (problem.l1 or problem.l2)), solver=solver, fit_intercept=problem.fit_intercept,
            tol=tol, max_iter=iterations, random_state=0, **options,
        )  # fmt: skip

    return make


def liblinear(problem, tol, **options):
    refuse(problem.fit_intercept, "it penalises the intercept")
    refuse(problem.k > 1, "it sets one class against the rest")
    return logistic("liblinear", PASSES, **options)(problem, tol)


def linear_svc(problem, tol, iterations=PASSES):
    """By the primal if there is a choice: with many more rows than columns the dual takes minutes."""
    refuse(problem.fit_intercept, "it penalises the intercept")
    return LinearSVC(
        loss=problem.name, C=1 / (problem.n * problem.l2), dual=problem.name == "hinge", fit_intercept=False, tol=tol,
        max_iter=iterations, random_state=0,
    )  # fmt: skip


def cyanure(problem, tol, threads=1):
    """With the solver that cyanure chooses; it stops by a duality gap, too."""
    from cyanure.estimators import Classifier, Regression

    regression, half = (
        problem.name == "squared_error",
        problem.name == "squared_hinge",
    )  # ½·max(0, 1 − y·h)²
    l1, l2 = (penalty / 2 if half else penalty for penalty in (problem.l1, problem.l2))
    loss = {"squared_error": {}, "squared_hinge": {"loss": "sqhinge"}}.get(problem.name, {"loss": "logistic"})
    loss |= {"multi_class": "multinomial"} if problem.name == "softmax" else {}
    return (Regression if regression else Classifier)(
        penalty="elasticnet" if l1 and l2 else "l1" if l1 else "l2", lambda_1=l1 or l2, lambda_2=l2 if l1 else 0,
        fit_intercept=problem.fit_intercept, tol=tol, max_iter=ITERATIONS, n_threads=threads, verbose=False, **loss,
    )  # fmt: skip


def skglm_lbfgs(problem, tol):
    """skglm's solver called directly: its estimator needs an attribute that this solver lacks."""
    from skglm.datafits import Logistic
    from skglm.penalties import L2
    from skglm.solvers import LBFGS

    refuse(problem.fit_intercept, "its solver of smooth problems fits no intercept")
    with quiet():
        X = problem.given.tocsc() if hasattr(problem.given, "tocsc") else problem.given
        w, values, _ = LBFGS(max_iter=ITERATIONS, tol=tol).solve(X, 2 * problem.y - 1, Logistic(), L2(problem.l2))
    return np.append(w, 0.0), len(values) if len(values) >= ITERATIONS else None


def skglm_svc(problem, tol):
    from skglm import LinearSVC

    refuse(problem.fit_intercept, "it fits no intercept")
    # It adds a few rows to its working set at a time; the default number of times is not enough for many rows.
    return LinearSVC(C=1 / (problem.n * problem.l2), tol=tol, max_iter=10 * PASSES, fit_intercept=False)


def skglm_l1(problem, tol):
    from skglm import ElasticNet, Lasso, SparseLogisticRegression

    if problem.name == "log_loss":
        return SparseLogisticRegression(
            alpha=problem.l1, tol=tol, max_iter=ITERATIONS, fit_intercept=problem.fit_intercept
        )  # fmt: skip
    return _l1(Lasso, ElasticNet, problem, tol, max_iter=ITERATIONS)


def _l1(lasso, elastic_net, problem, tol, **options):
    if not problem.l2:
        return lasso(problem.l1, tol=tol, fit_intercept=problem.fit_intercept, **options)
    alpha = problem.l1 + problem.l2
    ratio = problem.l1 / alpha
    return elastic_net(alpha, l1_ratio=ratio, tol=tol, fit_intercept=problem.fit_intercept, **options)


def coordinate_descent(problem, tol, **options):
    return _l1(Lasso, ElasticNet, problem, tol, max_iter=PASSES, **options)


def network(problem, tol):
    """MLPRegressor without hidden layers and without its own l2 penalty."""
    found = MLPRegressor(hidden_layer_sizes=(), solver="lbfgs", alpha=0, tol=tol, max_iter=ITERATIONS, random_state=0)
    with quiet():
        found.fit(table(problem), problem.y)
    return np.append(found.coefs_[0], found.intercepts_[0]), ITERATIONS if found.n_iter_ >= ITERATIONS else None


def statsmodels(problem, tol):
    """OLS, or the Poisson GLM, by its iterated least squares."""
    from statsmodels.api import GLM, OLS, add_constant, families

    refuse(problem.l2, "it has no penalty")
    with quiet():
        A = add_constant(table(problem), prepend=False, has_constant="add")
        if problem.name == "squared_error":
            found = OLS(problem.y, A).fit(method="qr")
        else:
            found = GLM(problem.y, A, family=families.Poisson()).fit(maxiter=ITERATIONS, tol=tol)
    return found.params, None


def stochastic(problem, epochs):
    """With its own rates, "optimal" or "invscaling"."""
    rest = {"penalty": "l2", "alpha": problem.l2, "fit_intercept": problem.fit_intercept}
    rest |= {"max_iter": epochs, "tol": None, "random_state": 0}
    return SGDRegressor(**rest) if problem.name == "squared_error" else SGDClassifier(problem.name, **rest)


def ridge(solver):
    return lambda problem, tol: Ridge(problem.n * problem.l2, solver=solver, tol=tol)


def poisson(solver):
    return lambda problem, tol: PoissonRegressor(alpha=problem.l2, solver=solver, tol=tol, max_iter=ITERATIONS)


def deviance(solver):
    """scikit-learn's estimator of the deviance, which takes no l1 penalty."""

    def make(problem, tol):
        refuse(problem.l1, "it has no l1 penalty")
        options = {"alpha": problem.l2, "solver": solver, "tol": tol, "max_iter": ITERATIONS}
        if problem.name == "tweedie":
            return TweedieRegressor(power=1.5, link="log", **options)
        return (GammaRegressor if problem.name == "gamma" else PoissonRegressor)(**options)

    return make


def glum(problem, tol):
    from glum import GeneralizedLinearRegressor, TweedieDistribution

    family = TweedieDistribution(1.5) if problem.name == "tweedie" else problem.name
    alpha = problem.l1 + problem.l2
    return GeneralizedLinearRegressor(
        family=family, link="log", alpha=alpha, l1_ratio=problem.l1 / alpha if alpha else 0, gradient_tol=tol,
        max_iter=ITERATIONS,
    )  # fmt: skip


DEVIANCE = {
    **OURS,
    **{solver: member(deviance(solver)) for solver in ("lbfgs", "newton-cholesky")},
    **installed(glum=member(glum)),
}
QUANTILE = {
    **OURS,
    "QuantileRegressor": member(
        lambda problem, _: QuantileRegressor(quantile=0.8, alpha=0, solver="highs"), ladder=EXACT
    ),
}
NEWTON = {solver: member(logistic(solver)) for solver in ("lbfgs", "newton-cholesky", "newton-cg")}
AVERAGED = {solver: member(logistic(solver, PASSES)) for solver in ("sag", "saga")}
LOGISTIC = {
    **OURS,
    **NEWTON,
    **AVERAGED,
    "liblinear": member(liblinear),
    **installed(cyanure=member(cyanure), skglm=Member(skglm_lbfgs, compiles=True)),
}
L1_LOGISTIC = {
    **OURS,
    "saga": member(logistic("saga", PASSES, **L1)),
    "liblinear": member(lambda problem, tol: liblinear(problem, tol, **L1)),
    **installed(cyanure=member(cyanure), skglm=member(skglm_l1, compiles=True)),
}
SQUARED_HINGE = {
    **OURS,
    "LinearSVC": member(linear_svc),
    **installed(cyanure=member(cyanure)),
}
HINGE = {
    **OURS,
    "LinearSVC": by_epochs(lambda problem, epochs: linear_svc(problem, 1e-10, epochs)),
    "SGDClassifier": by_epochs(stochastic),
    **installed(skglm=member(skglm_svc, compiles=True)),
}
LINEAR_REGRESSION = {"LinearRegression": member(lambda problem, _: LinearRegression(), ladder=EXACT)}
LEAST_SQUARES = {
    **OURS,
    **LINEAR_REGRESSION,
    "MLPRegressor(())": Member(network),
    **installed(statsmodels=Member(statsmodels, ladder=EXACT)),
}
RIDGE = {
    "Ridge cholesky": member(ridge("cholesky"), ladder=EXACT),
    "Ridge svd": member(ridge("svd"), ladder=EXACT),
    "Ridge lsqr": member(ridge("lsqr")),
    "Ridge sparse_cg": member(ridge("sparse_cg")),
}
LASSO = {
    **OURS,
    "scikit-learn": member(coordinate_descent),
    "scikit-learn, precompute": member(lambda problem, tol: coordinate_descent(problem, tol, precompute=True)),
    **installed(cyanure=member(cyanure), skglm=member(skglm_l1, compiles=True)),
}
POISSON = {
    **OURS,
    **{solver: member(poisson(solver)) for solver in ("lbfgs", "newton-cholesky")},
    **installed(statsmodels=Member(statsmodels)),
}
