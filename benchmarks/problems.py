"""Penalised linear models with their minima, which are computed independently of the compared solvers.

Each minimum is verified: by the Newton decrement, by the optimality conditions of the l1 penalty, or by a lower bound.
So no solver is compared with what another one, or ours, happened to reach.
"""

import functools
import typing

import numpy as np
from scipy import optimize, sparse, special
from workload import table

# Relative error of the computed minima: well below the accuracies required of the members.
PROVED = 1e-11
# For the hinge: relative gap between value and lower bound at the end, and factors of the interior-point steps.
MET, SHORTER, INSIDE = 1e-9, 0.1, 0.99
INDEPENDENT, CORRELATED, DECADES = "independent columns", "correlated, ρ = 0.9", "columns over 6 decades"


class Loss(typing.NamedTuple):
    """φ(h, y) of each row, φ' and φ'', by h (n, k); y is 0 or 1 for a loss of classes, with k columns for softmax."""

    value: typing.Callable
    slope: typing.Callable
    curvature: typing.Callable  # (n, k, k)


def _diagonal(function):
    return lambda h, y: function(h, y)[:, :, None]


def _short(h, y):
    """1 − s·h, where it is positive, for s = −1 or 1."""
    return np.maximum(1 - (2 * y - 1) * h, 0)


def _softmax_curvature(h, y):
    p = special.softmax(h, axis=1)
    return p[:, :, None] * np.eye(p.shape[1]) - p[:, :, None] * p[:, None, :]


LOSSES = {
    "squared_error": Loss(
        lambda h, y: 0.5 * (h - y) ** 2,
        lambda h, y: h - y,
        _diagonal(lambda h, y: np.ones_like(h)),
    ),
    "log_loss": Loss(
        lambda h, y: np.logaddexp(0, h) - y * h,
        lambda h, y: special.expit(h) - y,
        _diagonal(lambda h, y: special.expit(h) * special.expit(-h)),
    ),
    "softmax": Loss(
        lambda h, y: (special.logsumexp(h, axis=1) - np.sum(y * h, axis=1))[:, None],
        lambda h, y: special.softmax(h, axis=1) - y,
        _softmax_curvature,
    ),
    "poisson": Loss(  # half the deviance
        lambda h, y: np.exp(h) - y * h + special.xlogy(y, y) - y,
        lambda h, y: np.exp(h) - y,
        _diagonal(lambda h, y: np.exp(h)),
    ),
    "gamma": Loss(  # half the deviance
        lambda h, y: y * np.exp(-h) + h - 1 - np.log(y),
        lambda h, y: 1 - y * np.exp(-h),
        _diagonal(lambda h, y: y * np.exp(-h)),
    ),
    "tweedie": Loss(  # half the deviance, of the power 1.5
        lambda h, y: 2 * np.exp(0.5 * h) + 2 * y * np.exp(-0.5 * h) - 4 * np.sqrt(y),
        lambda h, y: np.exp(0.5 * h) - y * np.exp(-0.5 * h),
        _diagonal(lambda h, y: 0.5 * np.exp(0.5 * h) + 0.5 * y * np.exp(-0.5 * h)),
    ),
    "quantile": Loss(lambda h, y: np.maximum(0.8 * (y - h), 0.2 * (h - y)), None, None),
    "squared_hinge": Loss(
        lambda h, y: _short(h, y) ** 2,
        lambda h, y: -2 * (2 * y - 1) * _short(h, y),
        _diagonal(lambda h, y: 2.0 * (_short(h, y) > 0)),
    ),
    "hinge": Loss(_short, None, None),
}


class Problem:
    """(1/n) Σ φ(Xw + b, y) + l1·‖w‖₁ + ½·l2·‖w‖², and its minimum.

    Parameters
    ----------
    X : array or CSR array, (n, d)
    y : array, (n,)
        For "softmax" the numbers of the classes.
    loss : str
        A key of LOSSES.
    fit_intercept : bool
        Without it b is 0.
    near : callable, optional
        near(problem) → weights (d + 1,), the intercept last, from which the support under an l1 penalty is taken; the
        optimality conditions are then asserted.
    scaler : callable, optional
        A class such as StandardScaler: members are given the raw X and have to scale it; `X` is the scaled table.

    Attributes
    ----------
    minimum : float
    """

    def __init__(self, X, y, loss, *, l1=0.0, l2=0.0, fit_intercept=True, near=None, scaler=None):
        self.given, self.y, self.l1, self.l2 = X, y, l1, l2
        self.name, self.loss, self.fit_intercept, self.scaler = loss, LOSSES[loss], fit_intercept, scaler
        self.X = X if scaler is None else scaler().fit_transform(X)
        self.n, self.d = X.shape
        self.Y = np.equal.outer(y, np.unique(y)).astype(float) if loss == "softmax" else y[:, None].astype(float)
        self.k = self.Y.shape[1]
        if loss == "hinge":
            self.minimum = self._hinge()
        elif loss == "quantile":
            self.minimum = self._quantile()
        elif l1:
            self.minimum = self._sparse(near(self))
        else:
            self.minimum = self.value(self._newton(np.full(self.d, True), np.zeros(self.d)))

    def value(self, w):
        """The objective at weights (k·d + k,): the weights of one output after the other, then the intercepts."""
        W, b = w[: -self.k].reshape(self.k, -1), w[-self.k :]
        data = np.mean(np.sum(self.loss.value(self.X @ W.T + b, self.Y), axis=1))
        return data + self.l1 * np.sum(np.abs(W)) + 0.5 * self.l2 * np.vdot(W, W)

    def _newton(self, on, signs):
        """The weights at the minimum over the columns that are `on`, with the signs given to an l1 penalty."""
        A, p = self._columns(on), np.count_nonzero(on)
        ridge, lasso = np.zeros(A.shape[1]), np.zeros(A.shape[1])
        ridge[:p], lasso[:p] = self.l2, self.l1 * signs[on]

        def value(W):
            data = np.mean(np.sum(self.loss.value(A @ W.T, self.Y), axis=1))
            return data + np.sum(lasso * W) + 0.5 * np.sum(ridge * W**2)

        W = np.zeros((self.k, A.shape[1]))
        gain, now = np.inf, value(W)
        while gain > PROVED * now:
            h = A @ W.T
            gradient = (A.T @ self.loss.slope(h, self.Y)).T / self.n + ridge * W + lasso
            H = self._hessian(A, self.loss.curvature(h, self.Y) / self.n) + np.diag(np.tile(ridge, self.k))
            unit = 1 / np.sqrt(np.diag(H))  # columns on different scales would cost digits
            step = (unit * np.linalg.solve(H * np.outer(unit, unit), unit * gradient.ravel())).reshape(W.shape)
            gain, rate = 0.5 * np.vdot(gradient, step), 1.0
            while value(W - rate * step) > now * (1 + PROVED):
                rate /= 2
            W = W - rate * step
            now = value(W)
        weights, intercept = np.zeros((self.k, self.d)), W[:, p:].ravel() if self.fit_intercept else np.zeros(self.k)
        weights[:, on] = W[:, :p]
        return np.append(weights, intercept)

    def _columns(self, on):
        X = self.X if on.all() else self.X[:, on]
        if not self.fit_intercept:
            return X
        one = np.ones((self.n, 1))
        return sparse.hstack([X, one], format="csr") if sparse.issparse(X) else np.hstack([X, one])

    def _hessian(self, A, curvature):
        def block(c):
            return (A.T @ (sparse.diags_array(c) @ A)).toarray() if sparse.issparse(A) else A.T @ (c[:, None] * A)

        H = np.block([[block(curvature[:, i, j]) for j in range(self.k)] for i in range(self.k)])
        if self.k > 1 and self.fit_intercept:  # intercepts that all grow by the same change nothing: hold their mean
            intercepts = np.arange(1, self.k + 1) * A.shape[1] - 1
            H[np.ix_(intercepts, intercepts)] += 1 / self.k
        return H

    def _sparse(self, near):
        """The value where the columns with weights are those of `near`, but for those whose sign would change."""
        signs, w = np.sign(near[:-1]), near
        while True:
            w = self._newton(signs != 0, signs)
            if np.array_equal(np.sign(w[:-1]), signs):
                break
            signs = np.where(np.sign(w[:-1]) == signs, signs, 0)
        slopes = self.loss.slope((self.X @ w[:-1] + w[-1])[:, None], self.Y)[:, 0]
        outside = np.abs(self.X.T @ slopes)[signs == 0] / self.n
        assert np.all(outside <= self.l1 * (1 + 1e-9)), "a column that is left out wants a weight"
        return self.value(w)

    def _quantile(self):
        """The minimum for the quantile 0.8, by the dual linear program: max Σ a·y, Aᵀa = 0, −0.2/n ≤ a ≤ 0.8/n."""
        A = self._columns(np.full(self.d, True))
        found = optimize.linprog(
            -self.y, A_eq=A.T, b_eq=np.zeros(A.shape[1]), bounds=(-0.2 / self.n, 0.8 / self.n), method="highs"
        )
        return -found.fun

    def _hinge(self):
        """The minimum for the hinge, as the dual value mean(a) − ½·l2·‖w‖², w = Zᵀa/(n·l2), 0 ≤ a ≤ 1, rows of Z: y·x.

        By a primal-dual interior-point method: 1 − Zw = over − under, over·(1 − a) = under·a = µ with µ → 0, until
        primal and dual values agree.
        """
        Z, c, one = (2 * self.y - 1)[:, None] * self.X, self.n * self.l2, np.ones(self.n)
        a, rest, over, under = 0.5 * one, 0.5 * one, one, one  # rest is 1 − a, with all its digits
        w, bound, value = Z.T @ a / c, 0.0, 1.0
        while value - bound > MET * value:
            mu = SHORTER * (np.dot(over, rest) + np.dot(under, a)) / (2 * self.n)
            D, push = over / rest + under / a, mu / a - mu / rest
            H = c * np.eye(self.d) + Z.T @ (Z / D[:, None])
            move = np.linalg.solve(H, Z.T @ (a + (1 - Z @ w + push) / D) - c * w)
            da = (1 - Z @ (w + move) + push) / D
            d_over, d_under = (mu + over * da) / rest - over, (mu - under * da) / a - under
            ways = (a, da), (rest, -da), (over, d_over), (under, d_under)
            rate = 1 / max(1.0, *(np.max(-d / x) / INSIDE for x, d in ways))
            w, a, rest, over, under = w + rate * move, *(x + rate * d for x, d in ways)
            dual = Z.T @ a / c
            bound, value = np.mean(a) - 0.5 * self.l2 * np.dot(dual, dual), self.value(np.append(w, 0.0))
        return bound


# ------------------------------------------------------------------------------------------------------------ the data


@functools.lru_cache(maxsize=1)
def classes(columns, shape):
    """X and y in {0, 1}; `columns` is INDEPENDENT, CORRELATED or DECADES."""
    n, d = shape
    rng = np.random.default_rng(0)
    X = rng.normal(size=shape)
    if columns == CORRELATED:
        X = np.sqrt(0.1) * X + np.sqrt(0.9) * rng.normal(size=(n, 1))
    h = X @ (2 * rng.normal(size=d) / np.sqrt(d)) + 0.5
    X = X * np.geomspace(1e-3, 1e3, d) if columns == DECADES else X
    return X, (rng.random(n) < special.expit(h)).astype(np.float64)


@functools.lru_cache(maxsize=1)
def sparse_table(shape, density):
    """A CSR array of normal numbers with int32 indices, which all members accept; the number of entries in a row."""
    n, d = shape
    rng = np.random.default_rng(0)
    values = max(1, round(density * d))
    columns = rng.integers(0, d, n * values, dtype=np.int32)
    X = sparse.csr_array((rng.normal(size=n * values), columns, np.arange(0, n * values + 1, values, np.int32)), shape)
    X.sum_duplicates()
    return X, values


def sparse_classes(shape, density):
    X, values = sparse_table(shape, density)
    rng = np.random.default_rng(1)
    h = X @ (2 * rng.normal(size=shape[1]) / np.sqrt(values))
    return X, (rng.random(len(h)) < special.expit(h)).astype(np.float64)


# -------------------------------------------------------------------------------------------------------- the problems


def logistic(what, shape):
    X, y = classes(what, shape)
    return Problem(X, y, "log_loss", l2=1 / len(y))


def squares(what, shape):
    """Least squares without a penalty, or with ½‖w‖² added to the sum of the losses."""
    X, y, _ = table(shape)
    return Problem(X, y, "squared_error", l2=0 if what == "no penalty" else 1 / len(y))
