"""Fits over all options on random tables, each held to an independent reference: `python benchmarks/fuzz_fits.py`.

Tables are from 1 × 1 on, with fewer rows than columns, duplicates, constants, zeros and ones, scales of 1e-6 to 1e6,
weights, float32 and CSR; losses, penalties and solvers are all there are. Counted are errors (there should be none),
runs that end at max_iter, values that are not those of the weights, and gaps that are not true: F(w) − gap must not be
above the least value that scipy (L-BFGS-B with w = p − q, or linear programming for losses with a kink) finds.
"""

import argparse
import collections
import time
import traceback
import warnings

import numpy as np
import scipy.optimize
import scipy.sparse

from fastgd import GDClassifier, GDRegressor

REGRESSION = ("squared_error", "huber", "epsilon_insensitive", "poisson")
CLASSIFICATION = ("log_loss", "hinge", "squared_hinge")
KINKED = ("epsilon_insensitive", "hinge")
SOLVERS = ("auto", "auto", "auto", "coordinate", "gram", "preconditioned", "accelerated", "gd", "sgd")


def table(random):
    """X (n, d) of one of the kinds, and a score for each row."""
    n, d = (int(random.integers(1, most)) for most in random.choice([[4, 4], [30, 8], [12, 30], [80, 12]]))
    kind = random.choice(["normal", "binary", "scaled", "shifted", "duplicate", "constant"])
    X = random.standard_normal((n, d))
    if kind == "binary":
        X = (random.random((n, d)) < 0.4).astype(float)
    if kind == "scaled":
        X *= 10 ** random.uniform(-6, 6, d)
    if kind == "shifted":
        X += 10 ** random.uniform(0, 3, d)
    if kind == "duplicate":
        X[:, -1] = X[:, 0] * random.choice([1.0, -3.0])
    if kind == "constant":
        X[:, 0] = random.choice([0.0, 1.0, 7.3])
    spread = X.std(axis=0)
    h = (X / np.where(spread > 0, spread, 1)) @ random.standard_normal(d) + random.standard_normal(n)
    return X, h - np.mean(h)


def problem(random):
    """(estimator, X, y, sample_weight), X dense in float64."""
    X, h = table(random)
    loss = str(random.choice(REGRESSION + CLASSIFICATION))
    ratio = float(random.choice([0.15, 0.5]))
    options = {
        "penalty": random.choice([None, "l2", "l1", "elasticnet"]), "alpha": float(10 ** random.uniform(-5, 0)),
        "l1_ratio": ratio, "fit_intercept": bool(random.integers(2)), "solver": str(random.choice(SOLVERS)),
        "tol": float(random.choice([1e-3, 1e-4, 1e-6, 1e-8])), "random_state": 0,
    }  # fmt: skip
    if options["solver"] in ("gd", "sgd", "accelerated"):
        options["max_iter"], options["tol"] = 200, 1e-3
    weight = random.integers(0, 4, len(X)).astype(float) if random.random() < 0.3 else None
    if weight is not None and not weight.any():
        weight = None
    if loss in CLASSIFICATION:
        y = (h > np.median(h)).astype(int)
        if len(np.unique(y)) < 2:
            loss = "squared_error"
        elif loss == "log_loss" and random.random() < 0.3 and len(X) > 3:
            y = np.digitize(h, np.quantile(h, [0.33, 0.66]))
            return GDClassifier("log_loss", **options), X, y, weight
        else:
            return GDClassifier(loss, **options), X, y, weight
    y = random.poisson(np.exp(np.clip(h / 3, -3, 3))).astype(float) if loss == "poisson" else h
    return GDRegressor(loss, **options), X, np.round(y) if random.random() < 0.2 else y, weight


class Value:
    """F of an estimator's problem by formulas of our own, in float64."""

    def __init__(self, model, X, y, weight):
        self.loss, self.X, self.intercept = model.loss, X, model.fit_intercept
        self.s = (np.ones(len(X)) if weight is None else weight) / (len(X) if weight is None else weight.sum())
        ratio = {None: None, "l2": 0.0, "l1": 1.0, "elasticnet": model.l1_ratio}[model.penalty]
        self.l1, self.l2 = (0.0, 0.0) if ratio is None else (model.alpha * ratio, model.alpha * (1 - ratio))
        self.k = 1
        if isinstance(model, GDClassifier):
            self.k = 1 if len(model.classes_) == 2 else len(model.classes_)
            numbers = np.searchsorted(model.classes_, y)
            y = np.eye(self.k)[numbers] if self.k > 1 else numbers * (2.0 if self.loss != "log_loss" else 1.0)
            y = y - 1 if self.loss != "log_loss" else y
        self.y = np.asarray(y, float).reshape(len(X), -1)

    def smooth(self, w):
        """(value, gradient) of the loss and the l2 penalty at w (d + 1, k)."""
        W, b = w[:-1], w[-1] * self.intercept
        h, y, s = self.X @ W + b, self.y, self.s[:, None]
        with np.errstate(over="ignore"):
            if self.loss == "squared_error":
                each, slope = 0.5 * (h - y) ** 2, h - y
            elif self.loss == "huber":
                r, delta = h - y, 1.35
                each = np.where(np.abs(r) <= delta, 0.5 * r * r, delta * (np.abs(r) - delta / 2))
                slope = np.clip(r, -delta, delta)
            elif self.loss == "epsilon_insensitive":
                each, slope = np.maximum(np.abs(h - y) - 0.1, 0), np.sign(h - y) * (np.abs(h - y) > 0.1)
            elif self.loss == "poisson":
                each = np.exp(h) - y * h - (y - y * np.log(np.where(y > 0, y, 1.0)))
                slope = np.exp(h) - y
            elif self.loss == "log_loss" and self.k == 1:
                each, slope = np.logaddexp(0, h) - y * h, 1 / (1 + np.exp(-h)) - y
            elif self.loss == "log_loss":
                top = h.max(axis=1, keepdims=True)
                log_sum = top + np.log(np.exp(h - top).sum(axis=1, keepdims=True))
                each, slope = y * (log_sum - h), np.exp(h - log_sum) - y
            else:
                margin = np.maximum(1 - y * h, 0)
                squared = self.loss == "squared_hinge"
                each, slope = (margin**2, -2 * y * margin) if squared else (margin, -y * (margin > 0))
        value = float(np.sum(s * each)) + 0.5 * self.l2 * float(np.sum(W * W))
        gradient = np.vstack([self.X.T @ (s * slope) + self.l2 * W, np.sum(s * slope, axis=0) * self.intercept])
        return value, gradient

    def __call__(self, W, b):
        value = self.smooth(np.vstack([W, b]))[0]
        return value + self.l1 * float(np.sum(np.abs(W)))

    def least(self, start):
        """A value that the minimum is no higher than, by scipy."""
        if self.loss in KINKED:
            return math_inf if self.l2 else self._by_linear_programming()
        d, k = self.X.shape[1], self.k
        unit = np.sqrt(np.sum(self.s[:, None] * self.X**2, axis=0))
        unit = np.append(np.where(unit > 0, unit, 1.0), 1.0)[:, None]
        size = (d + 1) * k

        def split(z):
            w = (z[:size] - z[size:]).reshape(d + 1, k) / unit
            value, gradient = self.smooth(w)
            penalty = np.vstack([np.full((d, k), self.l1), np.zeros((1, k))]) / unit
            flat, both = (gradient / unit).reshape(-1), penalty.reshape(-1)
            value += float(both @ (z[:size] + z[size:]))
            return value, np.concatenate([flat + both, both - flat])

        z = (start * unit).reshape(-1)
        z = np.concatenate([np.maximum(z, 0), np.maximum(-z, 0)])
        options = {"maxiter": 500, "ftol": 1e-15, "gtol": 1e-10}
        found = scipy.optimize.minimize(
            split, z, jac=True, method="L-BFGS-B", bounds=[(0, None)] * len(z), options=options
        )
        return found.fun if np.isfinite(found.fun) else math_inf

    def _by_linear_programming(self):
        n, d = self.X.shape
        A = np.column_stack([self.X, np.ones(n) * self.intercept])
        unit = np.max(np.abs(A), axis=0)
        A = A / np.where(unit > 0, unit, 1.0)
        penalty = np.append(np.full(d, self.l1), 0.0) / np.where(unit > 0, unit, 1.0)
        cost = np.concatenate([penalty, penalty, self.s])
        one = np.eye(n)
        if self.loss == "hinge":  # t ≥ 1 − y·h
            rows, right = np.column_stack([-self.y * A, self.y * A, -one]), -np.ones(n)
        else:  # t ≥ ±(h − y) − ε
            rows = np.vstack([np.column_stack([A, -A, -one]), np.column_stack([-A, A, -one])])
            right = np.concatenate([self.y[:, 0] + 0.1, 0.1 - self.y[:, 0]])
        found = scipy.optimize.linprog(cost, A_ub=rows, b_ub=right, method="highs")
        return found.fun if found.success else math_inf


math_inf = float("inf")


def check(model, X, y, weight, counts, say):
    """Fit, and count what is wrong."""
    dtype, kind = model._fuzz
    given = X.astype(dtype)
    rounded = given.astype(np.float64)
    given = scipy.sparse.csr_matrix(given) if kind == "csr" else np.asfortranarray(given) if kind == "F" else given
    try:
        model.fit(given, y, sample_weight=weight)
    except ValueError as error:
        refused = "is for" in str(error) or "has a kink" in str(error) or "has no bound" in str(error)
        counts["refused" if refused else "raised"] += 1
        if not refused:
            say("raised", f"{type(error).__name__}: {error}", traceback.format_exc().splitlines()[-3])
        return
    except Exception as error:
        counts["raised"] += 1
        say("raised", f"{type(error).__name__}: {error}", traceback.format_exc().splitlines()[-4:-1])
        return
    result = model.result_
    counts[result.status.name] += 1
    if result.status.name == "STEP_LIMIT" and model.solver not in ("gd", "sgd", "accelerated"):
        say("max_iter", result.message)
    W, b = np.atleast_2d(model.coef_).T.astype(float), np.atleast_1d(model.intercept_).astype(float)
    F = Value(model, rounded, y, weight)
    value = F(W, b)
    at_zero = F(np.zeros_like(W), np.zeros_like(b))
    rounding = (1e-9 if dtype == np.float64 else 3e-5) * max(abs(value), abs(result.fun), at_zero)
    if not abs(value - result.fun) <= rounding * 10:
        counts["other value"] += 1
        say("other value", f"{result.fun!r} is {value!r}", result.message)
    if result.gap is None or (model.solver in ("gd", "sgd") and not result.certified):
        return
    if result.lost and not result.certified:  # columns that only rounding tells apart: the fit warns of them
        counts["collinear"] += 1
        return
    least = F.least(np.vstack([W, b]))
    counts["gaps"] += 1
    if value - least > result.gap + rounding:
        what = "certified gap" if result.certified else "estimate"
        if result.certified or (result.success and value - least > 10 * model.tol * value + rounding):
            counts[what + " false"] += 1
            say(what, f"true at least {value - least:.3g} of F = {value:.6g}, said {result.gap:.3g}", result.message)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", type=int, help="one number, whose fit is shown")
    arguments = parser.parse_args()
    counts, started = collections.Counter(), time.perf_counter()
    numbers = range(arguments.count) if arguments.only is None else [arguments.only]
    for number in numbers:
        random = np.random.default_rng([arguments.seed, number])
        model, X, y, weight = problem(random)
        model._fuzz = (np.float32 if random.random() < 0.2 else np.float64, random.choice(["C", "F", "csr"]))

        def say(what, *why, at=number, model=model, X=X):
            print(f"{at}: {what}: {X.shape} {model} {model._fuzz[0].__name__} {model._fuzz[1]}", *why, sep="\n    ")

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            check(model, X, y, weight, counts, say)
        if arguments.only is not None:
            print(model, X, y, weight, getattr(model, "result_", None), sep="\n")
    print(f"{len(numbers)} fits in {time.perf_counter() - started:.0f} s:", dict(counts))


if __name__ == "__main__":
    main()
