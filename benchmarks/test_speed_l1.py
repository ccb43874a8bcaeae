"""l1 penalties at any shape, against other libraries: `python benchmarks/test_speed_l1.py [KIND …] [--shape N]`.

Kinds are lasso, groups (a group lasso of 5 columns each), logistic (without an intercept, which liblinear penalises),
path and logistic-path (100 penalties, down to 0.001 of the largest, each from the minimum of the one before) and losses
(every other smooth loss, against our own lasso at that shape). Penalties of single fits are 0.5, 0.1, 0.01 and 0.001 of
the largest, at which all weights are 0.
Each member runs with the loosest power of ten as its tolerance that suffices for an objective within 1e-6 of the
minimum, which is ours at tol = 1e-9 with a certified gap; that is asserted. One thread; the least time of several.
Peers that are not installed (celer, skglm) are left out, and named. celer's tolerance is a share of F at 0, which small
penalties leave far behind: its paths need 1e-6 where ours need 1e-3.
"""

import argparse
import contextlib
import functools
import importlib.util
import os
import time
import warnings

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"):
    os.environ.setdefault(name, "1")

import numpy as np  # noqa: E402
import pytest  # noqa: E402
import scipy.sparse  # noqa: E402
import sklearn.linear_model  # noqa: E402
from conftest import blas_threads  # noqa: E402
from members import L1, quiet  # noqa: E402

from fastgd import GDClassifier, GDRegressor, LinearObjective  # noqa: E402

# Of groups the columns are left out that make no group of 5.
SHAPES = ((400, 1500), (500, 2000), (5_000, 500), (100_000, 50), (72, 7_129), (20_000, 20_000))
SPARSE, DENSITY = (20_000, 20_000), 0.002
SHARES = (0.5, 0.1, 0.01, 0.001)
PATH = np.geomspace(1, 0.001, 100)
ACCURACY = 1e-6
LOSSES = {"huber": "identity", "poisson": "exp", "gamma": "exp", "squared_hinge": "identity", "softmax": "softmax"}
INSTALLED = {name for name in ("celer", "skglm") if importlib.util.find_spec(name)}


@functools.lru_cache(maxsize=1)
def table(shape):
    """X of correlated columns (sparse: of independent ones), and a score that some of the columns make, with noise."""
    n, d = shape
    random = np.random.default_rng(n + d)
    if shape == SPARSE:
        X = scipy.sparse.random_array(shape, density=DENSITY, rng=random, data_sampler=random.standard_normal).tocsr()
        X.indices, X.indptr = X.indices.astype(np.int32), X.indptr.astype(np.int32)
    else:
        X = random.standard_normal(shape)
        for j in range(1, d):
            X[:, j] = 0.5 * X[:, j - 1] + np.sqrt(0.75) * X[:, j]
    w = np.where(np.arange(d) % max(1, d // 50) == 0, random.standard_normal(d), 0.0)
    h = X @ w
    return X, h / h.std() + 0.5 * random.standard_normal(n)


class Problem:
    """X and y in the forms that members take, and the objective F(W, b) = mean loss + alpha·Σ|W|.

    Attributes
    ----------
    alpha : float
        The penalty, set by the caller; `largest` is the one at which all weights are 0.
    """

    def __init__(self, kind, shape):
        self.kind, (self.X, h) = kind, table(shape)
        if kind == "groups" and shape[1] % 5:
            self.X = np.ascontiguousarray(self.X[:, : shape[1] // 5 * 5])
        self.by_columns = self.X.tocsc() if scipy.sparse.issparse(self.X) else np.asfortranarray(self.X)
        self.fit_intercept = kind != "logistic"
        activation = {"logistic": "sigmoid"}.get(kind, LOSSES.get(kind, "identity"))
        loss = {"logistic": "log", "softmax": "log", "lasso": "squared_error", "groups": "squared_error"}.get(
            kind, kind
        )
        self.groups = np.arange(self.X.shape[1]) // 5 if kind == "groups" else None
        random = np.random.default_rng(0)
        if kind in ("logistic", "squared_hinge"):
            self.y = np.where(h > 0, 1.0, -1.0)
        elif kind == "softmax":
            self.y = np.digitize(h, [-0.5, 0.5])
        elif kind in ("poisson", "gamma"):
            self.y = (
                random.poisson(np.exp(h)) * 1.0 if kind == "poisson" else np.exp(h) * random.gamma(2.0, 0.5, len(h))
            )
        else:
            self.y = h
        y = (self.y > 0) * 1.0 if kind == "logistic" else self.y
        self.objective = LinearObjective(
            self.X, y, loss=loss, activation=activation, fit_intercept=self.fit_intercept, groups=self.groups
        )
        start = GDClassifier("log_loss") if kind == "softmax" else None
        if start is None:  # the minimum with all weights 0 has the best constant as its intercept
            constant = (
                np.append(np.zeros(self.X.shape[1]), self.objective.best_constant()[1]) if self.fit_intercept else None
            )
            constant = np.zeros(self.X.shape[1]) if constant is None else constant
        else:
            shares = np.log(np.bincount(self.y) / len(h))
            constant = np.vstack([np.zeros((self.X.shape[1], 3)), shares])
        gradient = self.objective.gradient(constant)
        of_columns = gradient[: self.X.shape[1]].reshape(self.X.shape[1], -1)
        self.largest = float(np.max(self.objective.penalty.dual_norm(of_columns)))
        self.alpha = self.largest

    def value(self, w, b):
        """F at coefficients as scikit-learn has them."""
        W = np.atleast_2d(w).T
        whole = np.vstack([W, np.reshape(b, (1, -1))]) if self.fit_intercept else W
        return self.objective.value(whole.reshape(self.objective.shape)) + self.alpha * self.objective.penalty.size(W)


def ours(problem, tol, **options):
    kind = problem.kind
    make = GDClassifier if kind in ("logistic", "softmax", "squared_hinge") else GDRegressor
    loss = {"lasso": "squared_error", "logistic": "log_loss", "softmax": "log_loss", "groups": "squared_error"}
    options |= {"penalty": "l1", "groups": problem.groups, "alpha": problem.alpha, "tol": tol}
    return make(loss.get(kind, kind), fit_intercept=problem.fit_intercept, **options).fit(problem.X, problem.y)


def sklearn_lasso(problem, tol, **options):
    options = {"fit_intercept": problem.fit_intercept, "tol": tol, "max_iter": 10_000, "selection": "cyclic"} | options
    return sklearn.linear_model.Lasso(problem.alpha, **options).fit(problem.by_columns, problem.y)


def liblinear(problem, tol):
    return sklearn.linear_model.LogisticRegression(
        C=1 / (len(problem.y) * problem.alpha), solver="liblinear", fit_intercept=False, tol=tol, max_iter=1000, **L1
    ).fit(problem.X, problem.y)  # fmt: skip


def celer(problem, tol):
    import celer

    if problem.kind == "groups":
        weights = np.full(problem.X.shape[1] // 5, np.sqrt(5))
        return celer.GroupLasso(5, problem.alpha, tol=tol, weights=weights).fit(problem.by_columns, problem.y)
    if problem.kind == "lasso":
        return celer.Lasso(problem.alpha, tol=tol).fit(problem.by_columns, problem.y)
    return celer.LogisticRegression(C=1 / (len(problem.y) * problem.alpha), tol=tol).fit(problem.by_columns, problem.y)


def skglm(problem, tol):
    import skglm

    if problem.kind == "groups":
        weights = np.full(problem.X.shape[1] // 5, np.sqrt(5))
        return skglm.GroupLasso(5, problem.alpha, weights, tol=tol).fit(problem.by_columns, problem.y)
    make = skglm.Lasso if problem.kind == "lasso" else skglm.SparseLogisticRegression
    return make(problem.alpha, tol=tol, fit_intercept=problem.fit_intercept).fit(problem.by_columns, problem.y)


MEMBERS = {
    "lasso": {
        "scikit-learn": sklearn_lasso,
        "precompute": functools.partial(sklearn_lasso, precompute=True),
        "celer": celer,
        "skglm": skglm,
    },
    "groups": {"celer": celer, "skglm": skglm},
    "logistic": {"liblinear": liblinear, "celer": celer, "skglm": skglm},
}


def our_path(problem, tol):
    """(coefficients, intercept) of each penalty."""
    loss = {"lasso": GDRegressor(), "logistic": GDClassifier()}[problem.kind]
    model = loss.set_params(penalty="l1", fit_intercept=problem.fit_intercept, tol=tol)
    path = model.path(problem.X, problem.y, alphas=PATH * problem.largest)
    return list(zip(path.coefs.T, path.intercepts.T, strict=True))


def peers_path(name, problem, tol):
    """The same by functions that fit no intercept: of centred data, which they are given."""
    X, y = problem.by_columns, problem.y
    if problem.kind == "logistic":
        from celer import celer_path

        return [(w, 0.0) for w in celer_path(X, y, "logreg", alphas=PATH * problem.largest * len(y), tol=tol)[1].T]
    y = problem.y - problem.y.mean()
    means = np.asarray(X.mean(axis=0)).reshape(-1)
    if name == "celer":
        from celer import celer_path

        sparse = {"X_offset": means, "X_scale": np.ones(X.shape[1])} if scipy.sparse.issparse(X) else {}
        centred = X if sparse else np.asfortranarray(X - means)
        coefs = celer_path(centred, y, "lasso", alphas=PATH * problem.largest, tol=tol, **sparse)[1]
    else:
        centred = X if scipy.sparse.issparse(X) else X - means
        options = {"X_offset": means, "X_scale": np.ones(X.shape[1])} if scipy.sparse.issparse(X) else {}
        coefs = sklearn.linear_model.lasso_path(
            centred, y, alphas=PATH * problem.largest, tol=tol, max_iter=10_000, **options
        )[1]
    return [(w, problem.y.mean() - means @ w) for w in coefs.T]


def seconds(call, most=3.0):
    """The least time of several calls."""
    times = []
    while not times or (len(times) < 9 and sum(times) < most):
        started = time.perf_counter()
        call()
        times.append(time.perf_counter() - started)
    return min(times)


def within(problem, minimum, fit, patience):
    """(seconds, tolerance) of the loosest tolerance that suffices; None where none does in `patience` seconds."""
    with quiet():
        for exponent in range(1, 14):
            started = time.perf_counter()
            model = fit(problem, 10.0**-exponent)
            spent = time.perf_counter() - started
            if problem.value(model.coef_, model.intercept_) <= minimum * (1 + ACCURACY):
                return seconds(lambda: fit(problem, 10.0**-exponent)), 10.0**-exponent  # noqa: B023  called at once
            if spent > patience:
                return None
    return None


def minimum_of(problem):
    found = ours(problem, 1e-9).result_
    assert found.certified and found.gap <= 1e-8 * found.fun, found
    return found.fun


def fits(kind, shape):
    """Yield (share, our seconds, {peer: seconds}) for single fits."""
    problem = Problem(kind, shape)
    for peer in ("skglm",) * ("skglm" in INSTALLED):  # it compiles
        problem.alpha = 0.9 * problem.largest
        with quiet():
            MEMBERS[kind][peer](problem, 1e-2)
    for share in SHARES:
        problem.alpha = share * problem.largest
        minimum = minimum_of(problem)
        mine, tol = within(problem, minimum, ours, 1e9)
        found = {}
        for peer, fit in MEMBERS[kind].items():
            if peer in ("celer", "skglm") and peer not in INSTALLED:
                continue
            if peer == "precompute" and shape[1] > shape[0]:
                continue
            got = within(problem, minimum, fit, max(1.0, 20 * mine))
            found[peer] = got[0] if got else np.inf
        yield share, mine, tol, found


def paths(kind, shape):
    """Yield one row like those of `fits`."""
    problem, found, minima = Problem(kind, shape), {}, []
    for alpha, (w, b) in zip(PATH * problem.largest, our_path(problem, 1e-9), strict=True):
        problem.alpha = alpha
        minima.append(problem.value(w, b))

    def suffices(path):
        for alpha, minimum, (w, b) in zip(PATH * problem.largest, minima, path, strict=True):
            problem.alpha = alpha
            if not problem.value(w, b) <= minimum * (1 + ACCURACY):
                return False
        return True

    members, loosest = {"ours": our_path}, None
    if kind == "lasso":
        members["scikit-learn"] = functools.partial(peers_path, "scikit-learn")
    if "celer" in INSTALLED:
        members["celer"] = functools.partial(peers_path, "celer")
    for who, fit in members.items():
        found[who] = np.inf
        with quiet():
            for exponent in range(1, 12):
                started = time.perf_counter()
                path = fit(problem, 10.0**-exponent)
                spent = time.perf_counter() - started
                if suffices(path):
                    found[who] = min(spent, seconds(lambda: fit(problem, 10.0**-exponent), min(spent, 3.0)))  # noqa: B023
                    loosest = 10.0**-exponent if who == "ours" else loosest
                    break
                if spent > max(20.0, 10 * found["ours"]) and who != "ours":
                    print(f"{who} takes more than {spent:.0f} s, and is left out", flush=True)
                    break
    yield "100 penalties", found.pop("ours"), loosest, found


def other_losses(shape):
    """Yield (share, seconds of the loss, {"lasso": seconds}) for every other loss: the ratio is to be at least 1/3."""
    times = {}
    for kind in ("lasso", *LOSSES):
        problem = Problem(kind, shape)
        for share in SHARES:
            problem.alpha = share * problem.largest
            times[kind, share] = within(problem, minimum_of(problem), ours, 1e9)
    for kind in LOSSES:
        for share in SHARES:
            yield f"{kind} {share}", *times[kind, share], {"lasso": times["lasso", share][0]}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kinds", nargs="*", default=["lasso", "groups", "logistic", "path", "logistic-path", "losses"])
    parser.add_argument("--shape", type=int, action="append", choices=range(len(SHAPES)), help="a number of SHAPES")
    arguments = parser.parse_args()
    for name in {"celer", "skglm"} - INSTALLED:
        print(f"{name} is not installed, and is left out")
    makers = {
        "path": functools.partial(paths, "lasso"), "logistic-path": functools.partial(paths, "logistic"),
        "losses": other_losses,
    }  # fmt: skip
    for kind in arguments.kinds:
        ratios = []
        for number in arguments.shape or range(len(SHAPES)):
            shape = SHAPES[number]
            make = makers.get(kind) or functools.partial(fits, kind)
            for share, mine, tol, found in make(shape):
                ratio = min(found.values(), default=np.nan) / mine
                ratios.append(ratio)
                others = ", ".join(f"{who} {1e3 * each:.4g}" for who, each in found.items())
                what = f"{kind} {shape[0]:,} × {shape[1]:,} {share}"
                print(f"{what}: ours {1e3 * mine:.4g} ms (tol {tol:.0e}), {others}: {ratio:.2f}", flush=True)
        finite = np.log([ratio for ratio in ratios if np.isfinite(ratio)])
        print(f"{kind}: worst {np.exp(finite.min()):.2f}, geometric mean {np.exp(finite.mean()):.2f}", flush=True)


@pytest.mark.parametrize("kind", ["lasso", "logistic"])
def test_members_minimise_the_same_objective(kind):
    warnings.simplefilter("ignore")
    problem = Problem(kind, (60, 30))
    problem.alpha = 0.1 * problem.largest
    minimum = minimum_of(problem)
    for who, fit in MEMBERS[kind].items():
        if who != "skglm" and (who != "celer" or "celer" in INSTALLED):  # skglm compiles for seconds
            model = fit(problem, 1e-9)
            assert abs(problem.value(model.coef_, model.intercept_) - minimum) <= ACCURACY * minimum, who


if __name__ == "__main__":
    with contextlib.ExitStack() as stack:
        stack.enter_context(blas_threads(1, timed=True))
        main()
