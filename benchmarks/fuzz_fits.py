"""Fits over all options on random tables, each held to an independent reference: `python benchmarks/fuzz_fits.py`.

Tables are from 1 × 1 on, with fewer rows than columns, duplicates, constants, zeros and ones, scales of 1e-6 to 1e6,
weights, offsets, float32 and CSR; losses, penalties, bounds and solvers are all there are. Counted are errors (there
should be none), runs that end at max_iter, values that are not those of the weights, and gaps that are not true:
F(w) − gap must not be above the least value that scipy (L-BFGS-B with w = p − q, or linear programming for losses with
a kink) and a fit of ours to a small tol find.
"""

import argparse
import collections
import math
import time
import traceback
import warnings

import numpy as np
import scipy.optimize
import scipy.sparse
from scipy.special import log_ndtr

from fastgd import GDClassifier, GDRegressor, losses

REGRESSION = (
    losses.SquaredError(), losses.MSE(), losses.Huber(1.35), losses.Huber(0.2), losses.EpsilonInsensitive(0.1),
    losses.EpsilonInsensitive(0.0), losses.Quantile(0.5), losses.Quantile(0.9), losses.Poisson(), losses.Gamma(),
    losses.Tweedie(1.5), losses.Tweedie(1.1), losses.InverseGaussian(), losses.NegativeBinomial(0.7),
)  # fmt: skip
CLASSIFICATION = (
    losses.LogLoss(), losses.LogLoss(), losses.Probit(), losses.CLogLog(), losses.Hinge(), losses.SquaredHinge(),
    losses.ModifiedHuber(), losses.Perceptron(),
)  # fmt: skip
KINKED = ("epsilon_insensitive", "quantile", "hinge", "perceptron")
SOLVERS = ("auto", "auto", "auto", "coordinate", "gram", "preconditioned", "accelerated", "gd", "sgd", "newton")
SHORT = ("gd", "sgd", "accelerated")  # with few steps


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


def targets(random, loss, h):
    """Targets that a loss of regression takes."""
    mean = np.exp(np.clip(h / 3, -3, 3))
    if loss.name in ("poisson", "negative_binomial"):
        return random.poisson(mean).astype(float)
    if loss.name == "tweedie":
        return random.gamma(2.0, mean / 2) * (random.random(len(h)) < 0.6)
    if loss.name in ("gamma", "inverse_gaussian"):
        return np.maximum(random.gamma(2.0, mean / 2), 1e-9)
    return np.round(h) if random.random() < 0.2 else h


def problem(random):
    """(estimator, X, y, sample_weight, offset), X dense in float64."""
    X, h = table(random)
    loss = random.choice(np.array(REGRESSION + CLASSIFICATION, dtype=object))
    options = {
        "penalty": random.choice([None, "l2", "l1", "elasticnet"]), "alpha": float(10 ** random.uniform(-5, 0)),
        "l1_ratio": float(random.choice([0.15, 0.5])), "fit_intercept": bool(random.integers(2)),
        "solver": str(random.choice(SOLVERS)), "tol": float(random.choice([1e-3, 1e-4, 1e-6, 1e-8])), "random_state": 0,
    }  # fmt: skip
    if options["solver"] in SHORT:
        options["max_iter"], options["tol"] = 200, 1e-3
    if options["solver"] == "sgd" and random.random() < 0.5:
        options["batch_size"] = int(random.choice([4, 32]))
        options["optimizer"] = str(random.choice(["gd", "momentum", "nesterov"]))
    if options["solver"] == "newton" or random.random() < 0.05:
        kind = random.integers(4)
        options["positive"] = bool(kind == 0)
        if kind == 1:
            options["bounds"] = (-0.5, np.where(random.random(X.shape[1]) < 0.5, 0.7, np.inf))
        if kind == 2:
            options["penalty_weights"] = random.integers(0, 3, X.shape[1]).astype(float)
    weight = random.integers(0, 4, len(X)).astype(float) if random.random() < 0.3 else None
    if weight is not None and not weight.any():
        weight = None
    offset = random.standard_normal(len(X)) if random.random() < 0.15 else None
    if loss.task == "classification":
        y = (h > np.median(h)).astype(int)
        if len(np.unique(y)) < 2:
            loss = losses.SquaredError()
        elif loss.name == "log_loss" and random.random() < 0.3 and len(X) > 3:
            y = np.digitize(h, np.quantile(h, [0.33, 0.66]))
            return GDClassifier(loss, **options), X, y, weight, None
        else:
            return GDClassifier(loss, **options), X, y, weight, offset
    return GDRegressor(loss, **options), X, targets(random, loss, h), weight, offset


def _poisson(h, y, _):
    return np.exp(h) - y * h - (y - y * np.log(np.where(y > 0, y, 1.0))), np.exp(h) - y


def _tweedie(h, y, p):
    least = y ** (2 - p) / ((p - 1) * (2 - p))
    rest = np.where(y > 0, y * np.exp((1 - p) * np.where(y > 0, h, 0.0)), 0.0)
    return np.exp((2 - p) * h) / (2 - p) + rest / (p - 1) - least, np.exp((2 - p) * h) - rest


def _negative_binomial(h, y, a):
    each = (y + 1 / a) * np.logaddexp(0, h + math.log(a)) - y * h
    least = (y + 1 / a) * np.log1p(a * y) - y * np.log(np.where(y > 0, y, 1.0))
    return each - least, (y + 1 / a) / (1 + np.exp(-h - math.log(a))) - y


def _probit(h, y, _):
    density = -0.5 * h * h - 0.5 * math.log(2 * math.pi)
    slope = (1 - y) * np.exp(density - log_ndtr(-h)) - y * np.exp(density - log_ndtr(h))
    return -y * log_ndtr(h) - (1 - y) * log_ndtr(-h), slope


def _cloglog(h, y, _):
    m = np.exp(h)
    with np.errstate(all="ignore"):
        none = np.where(m < 1e-8, h - m / 2, np.log(-np.expm1(-m)))
        rest = np.where(m > 700, 0.0, np.where(m < 1e-300, 1.0, m / np.expm1(np.clip(m, 1e-300, 700))))
    return np.where(y > 0, -none, m), np.where(y > 0, -rest, m)


def _margin(h, y, name):
    m = 1 - y * h
    if name == "hinge":
        return np.maximum(m, 0), -y * (m > 0)
    if name == "perceptron":
        return np.maximum(-y * h, 0), -y * (y * h < 0)
    each, slope = np.maximum(m, 0) ** 2, -2 * y * np.maximum(m, 0)
    if name == "modified_huber":
        far = y * h < -1
        return np.where(far, -4 * y * h, each), np.where(far, -4.0 * y, slope)
    return each, slope


def _huber(h, y, delta):
    r = h - y
    return np.where(np.abs(r) <= delta, 0.5 * r * r, delta * (np.abs(r) - delta / 2)), np.clip(r, -delta, delta)


def _insensitive(h, y, epsilon):
    r = h - y
    return np.maximum(np.abs(r) - epsilon, 0), np.sign(r) * (np.abs(r) > epsilon)


def _quantile(h, y, q):
    r = h - y
    return np.where(r > 0, (1 - q) * r, -q * r), np.where(r > 0, 1 - q, -q)


def _log_loss(h, y, _):
    if h.shape[1] == 1:
        return np.logaddexp(0, h) - y * h, 1 / (1 + np.exp(-h)) - y
    top = h.max(axis=1, keepdims=True)
    log_sum = top + np.log(np.exp(h - top).sum(axis=1, keepdims=True))
    return y * (log_sum - h), np.exp(h - log_sum) - y


# (h, y, parameter) → losses and slopes.
FORMULAS = {
    "squared_error": lambda h, y, _: (0.5 * (h - y) ** 2, h - y), "mse": lambda h, y, _: ((h - y) ** 2, 2 * (h - y)),
    "huber": _huber, "epsilon_insensitive": _insensitive, "quantile": _quantile, "poisson": _poisson,
    "gamma": lambda h, y, _: (y * np.exp(-h) - np.log(y) + h - 1, 1 - y * np.exp(-h)), "tweedie": _tweedie,
    "inverse_gaussian": lambda h, y, _: ((y * np.exp(-h) - 1) ** 2 / (2 * y), np.exp(-h) - y * np.exp(-2 * h)),
    "negative_binomial": _negative_binomial, "log_loss": _log_loss, "probit": _probit, "cloglog": _cloglog,
} | {name: lambda h, y, _, name=name: _margin(h, y, name)
     for name in ("hinge", "squared_hinge", "modified_huber", "perceptron")}  # fmt: skip


class Value:
    """F of an estimator's problem by formulas of our own, in float64."""

    def __init__(self, model, X, y, weight, offset):
        self.name, self.X, self.intercept = model.loss.name, X, model.fit_intercept
        self.convex = self.name != "inverse_gaussian"
        self.parameter = next(iter(model.loss.parameters.values()), None)
        self.s = (np.ones(len(X)) if weight is None else weight) / (len(X) if weight is None else weight.sum())
        self.offset = np.zeros((len(X), 1)) if offset is None else offset[:, None]
        ratio = {None: None, "l2": 0.0, "l1": 1.0, "elasticnet": model.l1_ratio}[model.penalty]
        l1, l2 = (0.0, 0.0) if ratio is None else (model.alpha * ratio, model.alpha * (1 - ratio))
        each = np.ones(X.shape[1]) if model.penalty_weights is None else model.penalty_weights
        self.l1, self.l2, d = l1 * each[:, None], l2 * each[:, None], X.shape[1]
        self.lower, self.upper = np.full(d, -math.inf), np.full(d, math.inf)
        if model.bounds is not None:
            self.lower, self.upper = (np.broadcast_to(side, d).astype(float) for side in model.bounds)
        if model.positive:
            self.lower = np.maximum(self.lower, 0.0)
        self.k = 1
        if isinstance(model, GDClassifier):
            self.k = 1 if len(model.classes_) == 2 else len(model.classes_)
            numbers = np.searchsorted(model.classes_, y)
            y = np.eye(self.k)[numbers] if self.k > 1 else numbers
            y = 2.0 * y - 1 if model.loss.signed else y
        self.y = np.asarray(y, float).reshape(len(X), -1)

    def smooth(self, w):
        """(value, gradient) of the loss and the l2 penalty at w (d + 1, k)."""
        W, b, s = w[:-1], w[-1] * self.intercept, self.s[:, None]
        with np.errstate(all="ignore"):
            each, slope = FORMULAS[self.name](self.X @ W + b + self.offset, self.y, self.parameter)
            each, slope = np.where(s > 0, each, 0.0), np.where(s > 0, slope, 0.0)
            value = float(np.sum(s * each)) + 0.5 * float(np.sum(self.l2 * W * W))
            gradient = np.vstack([self.X.T @ (s * slope) + self.l2 * W, np.sum(s * slope, axis=0) * self.intercept])
        return value, gradient

    def __call__(self, W, b):
        return self.smooth(np.vstack([W, b]))[0] + float(np.sum(self.l1 * np.abs(W)))

    def least(self, start):
        """A value that the minimum is no higher than, by scipy."""
        if self.name in KINKED:
            return math.inf if np.any(self.l2) else self._by_linear_programming()
        d, k = self.X.shape[1], self.k
        unit = np.sqrt(np.sum(self.s[:, None] * self.X**2, axis=0))
        unit = np.append(np.where(unit > 0, unit, 1.0), 1.0)[:, None]
        size = (d + 1) * k

        def split(z):
            w = (z[:size] - z[size:]).reshape(d + 1, k) / unit
            value, gradient = self.smooth(w)
            penalty = np.vstack([np.broadcast_to(self.l1, (d, k)), np.zeros((1, k))]) / unit
            flat, both = (gradient / unit).reshape(-1), penalty.reshape(-1)
            value += float(both @ (z[:size] + z[size:]))
            return value, np.concatenate([flat + both, both - flat])

        low, high = (np.append(side, end) for side, end in ((self.lower, -math.inf), (self.upper, math.inf)))
        low, high = (np.repeat(side * unit[:, 0], k) for side in (low, high))
        bounds = list(zip(np.maximum(low, 0), np.maximum(high, 0), strict=True))
        bounds += list(zip(np.maximum(-high, 0), np.maximum(-low, 0), strict=True))
        z = (start * unit).reshape(-1)
        z = np.concatenate([np.maximum(z, 0), np.maximum(-z, 0)])
        options = {"maxiter": 500, "ftol": 1e-15, "gtol": 1e-10}
        found = scipy.optimize.minimize(split, z, jac=True, method="L-BFGS-B", bounds=bounds, options=options)
        return found.fun if np.isfinite(found.fun) else math.inf

    def _by_linear_programming(self):
        n = len(self.X)
        A = np.column_stack([self.X, np.ones(n) * self.intercept])
        unit = np.max(np.abs(A), axis=0)
        A = A / np.where(unit > 0, unit, 1.0)
        penalty = np.append(np.ravel(self.l1), 0.0) / np.where(unit > 0, unit, 1.0)
        cost = np.concatenate([penalty, penalty, self.s])
        one, y, offset = np.eye(n), self.y, self.offset
        if self.name in ("hinge", "perceptron"):  # t ≥ 1 − y·h
            margin = float(self.name == "hinge") - y * offset
            rows, right = np.column_stack([-y * A, y * A, -one]), -margin[:, 0]
        else:  # t ≥ a·(h − y) − c and b·(y − h) − c
            a, b, c = (1, 1, self.parameter) if self.name != "quantile" else (1 - self.parameter, self.parameter, 0)
            rows = np.vstack([np.column_stack([a * A, -a * A, -one]), np.column_stack([-b * A, b * A, -one])])
            r = (y - offset)[:, 0]
            right = np.concatenate([a * r + c, c - b * r])
        found = scipy.optimize.linprog(cost, A_ub=rows, b_ub=right, method="highs")
        return found.fun if found.success else math.inf


def refused(error, model):
    """Whether an error is one that the documentation names: what a solver does not take, or weights of one class."""
    sentences = ("is for", "are for", "has a kink", "has no bound", "at least 2 classes")
    return any(sentence in str(error) for sentence in sentences) and not isinstance(error, np.linalg.LinAlgError)


def least_of_ours(F, model, X, y, weight, offset):
    """F of a fit to a small tol."""
    tight = type(model)(**{**model.get_params(), "solver": "auto", "tol": 1e-11, "max_iter": 5000,
                           "batch_size": None, "optimizer": "gd"})  # fmt: skip
    try:
        tight.fit(X, y, sample_weight=weight, offset=offset)
    except ValueError:
        return math.inf
    return F(np.atleast_2d(tight.coef_).T, np.atleast_1d(tight.intercept_))


def check(model, X, y, weight, offset, counts, say):
    """Fit, and count what is wrong."""
    dtype, kind = model._fuzz
    given = X.astype(dtype)
    rounded = given.astype(np.float64)
    given = scipy.sparse.csr_matrix(given) if kind == "csr" else np.asfortranarray(given) if kind == "F" else given
    try:
        model.fit(given, y, sample_weight=weight, offset=offset)
    except Exception as error:
        documented = isinstance(error, ValueError) and refused(error, model)
        counts["refused" if documented else "raised"] += 1
        counts[f"refused: {str(error)[:60]}"] += documented
        if not documented:
            say("raised", f"{type(error).__name__}: {error}", traceback.format_exc().splitlines()[-4:-1])
        return
    result = model.result_
    counts[result.status.name] += 1
    if result.status.name == "STEP_LIMIT" and model.solver not in SHORT:
        counts["at max_iter"] += 1
        say("max_iter", result.message)
    W, b = np.atleast_2d(model.coef_).T.astype(float), np.atleast_1d(model.intercept_).astype(float)
    F = Value(model, rounded, y, weight, offset)
    value = F(W, b)
    at_zero = F(np.zeros_like(W), np.zeros_like(b))
    rounding = (1e-9 if dtype == np.float64 else 3e-5) * max(abs(value), abs(result.fun), at_zero)
    if not abs(value - result.fun) <= rounding * 10:
        counts["other value"] += 1
        say("other value", f"{result.fun!r} is {value!r}", result.message)
    if result.gap is None:
        return
    if result.lost and not result.certified:  # columns that only rounding tells apart: the fit warns of them
        counts["collinear"] += 1
        return
    least = min(F.least(np.vstack([W, b])), least_of_ours(F, model, rounded, y, weight, offset))
    counts["gaps"] += 1
    if value - least > result.gap + rounding:
        what = "certified gap" if result.certified else "estimate"
        converged = result.success and result.status.name == "CONVERGED"
        if result.certified or (converged and value - least > 3 * model.tol * value + rounding):
            what = what if F.convex or result.certified else "lower minimum of a loss that is not convex, estimate"
            counts[what + " false"] += 1
            say(what, f"true at least {value - least:.3g} of F = {value:.6g}, said {result.gap:.3g}", result.message)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", type=int, help="one number, whose fit is shown")
    parser.add_argument("--from", dest="first", type=int, default=0)
    parser.add_argument("--solver", help="the only one")
    arguments = parser.parse_args()
    counts, started = collections.Counter(), time.perf_counter()
    numbers = range(arguments.first, arguments.first + arguments.count) if arguments.only is None else [arguments.only]
    for number in numbers:
        random = np.random.default_rng([arguments.seed, number])
        model, X, y, weight, offset = problem(random)
        model._fuzz = (np.float32 if random.random() < 0.2 else np.float64, random.choice(["C", "F", "csr"]))
        if arguments.solver:
            model.set_params(solver=arguments.solver, tol=1e-3, max_iter=200)

        def say(what, *why, at=number, model=model, X=X):
            print(f"{at}: {what}: {X.shape} {model} {model._fuzz[0].__name__} {model._fuzz[1]}", *why, sep="\n    ")

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            check(model, X, y, weight, offset, counts, say)
        if arguments.only is not None:
            print(model, X, y, weight, offset, getattr(model, "result_", None), sep="\n")
    print(f"{len(numbers)} fits in {time.perf_counter() - started:.0f} s:", dict(counts))


if __name__ == "__main__":
    main()
