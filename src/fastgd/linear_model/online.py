"""Steps on rows as they come, behind partial_fit: the weights of a stream, and what it keeps between calls."""

import math
from operator import is_

import numpy as np

from fastgd import kernels
from fastgd.data import Dense
from fastgd.data.offset import WithOffset
from fastgd.engine.epochs import follows_gradient
from fastgd.engine.scaled_epochs import ADAPTIVE_RATE, PENALTY_STEPS
from fastgd.engine.update import Update
from fastgd.kernels.codes import PLAIN
from fastgd.optimizers import GD, State

# An automatic rate falls like 1/√(1 + rows/this).
RATE_ROWS = 1000.0
# For so few labels nothing is as quick as Python's sets.
FEW_LABELS = 256
# What the l2 penalty takes is small: it is taken once it is this share of the weights.
WORTH_TAKING = 1e-3
# What a copy of a stream makes anew.
VIEWS = ("coef", "intercept", "coef_of_user", "parameters")


class Steps:
    """Steps on weights w (d', k) in place, by a rule; penalties are for the first d rows of w."""

    def __init__(self, record, w, d, *, rule, batch, l1, l2):
        self.codes, self.w, self.batch, self.l2 = record.codes, w, batch, l2
        self.update = Update(rule, w, d * w.shape[1], l1=l1)

    def take(self, rows, order, rates):
        """A step for each batch of the rows in `order`."""
        rows.stochastic(
            self.w, *self.codes, 1.0, self.l2, order, self.batch, True, rates, self.update.kernel_arguments
        )  # fmt: skip
        self.update.took(len(rates))

    def reported(self):
        """The weights that the rule has come to: w itself, but for a rule that averages."""
        return self.update.reported(self.w)


class Online:
    """The weights of a model that is fed batch by batch: what partial_fit keeps between calls.

    `coef` (d, k) and `intercept` (k,) are views of `w` that every call updates in place.
    """

    def __init__(self, record, d, k, dtype, *, fit_intercept, rate, rule, batch, l1, l2, coef=None, intercept=None):
        self.record, self.d, self.k, self.dtype = record, d, k, dtype
        self.fit_intercept, self.rate, self.batch, self.l1, self.l2 = fit_intercept, rate, batch, l1, l2
        self.constant = float(rate) if isinstance(rate, float) else None
        self.w = np.zeros((d + fit_intercept, k), dtype)
        if coef is not None:
            self.w[:d] = coef
            if fit_intercept:
                self.w[d] = intercept
        self._view()
        self.codes = record.codes
        self.none = np.empty(0, dtype)
        self._rule = PLAIN[self.w.dtype]
        self.rule, self._plain = rule, type(rule) is GD and not l1
        self._begin()
        self.step, self.rows_seen, self.calls = 0, 0, 0
        self._length, self._order, self._rates = -1, None, None
        self.mean = self.spread = self.v = None
        self._owed = 0.0

    def _begin(self):
        """The rule's state at its start; a rule that averages walks apart from the weights."""
        walked = self.w.copy() if self.rule.name == "asgd" else self.w
        self._steps = Steps(self.record, walked, self.d, rule=self.rule, batch=self.batch, l1=self.l1, l2=self.l2)

    def _view(self):
        self.coef = self.w[: self.d]
        self.intercept = self.w[self.d] if self.fit_intercept else np.zeros(self.k, self.dtype)

    def go_on_from(self, other):
        """Go on where a stream of other parameters or dtype has come to, with these weights."""
        self.step, self.rows_seen, self.calls = other.step, other.rows_seen, other.calls
        # What is known of the columns; the next call adds its rows to it.
        self.mean, self.spread = other.mean, other.spread
        if other.mean is not None:
            self._weight, self._mean, self._square = other._weight, other._mean.copy(), other._square.copy()
        if self.rule == other.rule and self.w.shape == other.w.shape:
            state, walked = other._steps.update.state, other._steps.w
            self._steps.update.state = State(state.moments.astype(self.dtype), state.step)
            if walked is not other.w:
                self._steps.w[:] = walked

    def __getstate__(self):
        return {name: value for name, value in self.__dict__.items() if name not in VIEWS}

    def __setstate__(self, state):
        self.__dict__.update(state)
        self._view()

    def is_of(self, model):
        """Whether the weights and the parameters are still those of the model, which may set either to others."""
        return model.coef_ is self.coef_of_user and all(map(is_, model._of_stream(model.__dict__), self.parameters))

    def takes(self, X, y, model):
        """Whether the stream is still the model's and a batch is arrays as they are used, so that it needs no check.

        Their values are looked at after the step: what is not finite makes the weights so.
        """
        return (
            self.is_of(model)
            and type(X) is np.ndarray
            and type(y) is np.ndarray
            and X.ndim == 2
            and y.ndim == 1
            and self.k == 1
            and X.dtype is self.dtype
            and X.shape[1] == self.d
            and X.shape[0] == y.shape[0] > 0
        )

    def numbers(self, y):
        """Whether targets are such numbers as the loss takes; somebody else explains what others are."""
        kind = y.dtype.kind
        loss = self.record.loss
        if kind not in "iubf" or (loss.targets and loss.refused(y).any()):
            return False
        if kind != "f" or (y.dtype is self.dtype and not loss.flat_far_out):
            return True
        return bool(np.all(np.abs(y) <= np.finfo(self.dtype).max))

    def coded(self, y):
        """Targets (n, 1) from labels of two numbers; None where they are others, which somebody else explains."""
        if self.labels is None:
            return None
        if len(y) <= FEW_LABELS:
            known = self.labels.issuperset(y.tolist())
        else:
            known = bool(np.all((y == self.second) | (y == self.first)))
        if not known:
            return None
        Y = (y == self.second).astype(self.dtype)[:, None]
        return Y if self.low == 0 else 2 * Y - 1

    def _prepare(self, n):
        """The order and the rates of n rows, kept for the next call of the same length."""
        count = -(-n // self.batch)
        if n != self._length:
            self._length, self._order = n, np.arange(n)
            self._rates = np.full(count, self.constant) if self.constant is not None else np.empty(count)
        if self.constant is None and self.rate is not None:
            self._rates[:] = [self.rate(self.step + i) for i in range(count)]
        self.step += count
        return count

    def feed(self, X, Y, s, rows=None):
        """Steps on the rows of X (n, d), Y (n, k), s (n,) or (0,), in their order; False if weights overflow.

        All are of the dtype of the weights. After an overflow the weights are those before the call. `rows` are the
        same as Rows; without them X is an array.
        """
        before = self.w.copy()
        try:
            self._steps_on(X, Y, s, rows)
        except BaseException:  # of a loss of the user's own
            self.w[:], self.v = before, None
            raise
        # A sum of few numbers is quickest as a list; an overflow of the sum itself is looked into.
        if math.isfinite(sum(self.w.reshape(-1).tolist())) or np.all(np.isfinite(self.w)):
            return True
        self.w[:] = before
        self.v = None
        self._begin()
        return False

    def _steps_on(self, X, Y, s, rows):
        count = self._prepare(len(Y))
        if self.rate is None:
            offset = None if rows is None else rows.offset
            self._automatic(X if rows is None else rows.view(slice(None)), Y, s, count, offset)
        elif not self._plain or not (rows is None or rows.one_array):
            self._steps.take(rows or Dense(X, Y, s), self._order, self._rates)
            if self._steps.w is not self.w:
                self.w[:] = self._steps.reported()
        else:
            kernels.active.stochastic(
                X, Y, self.w, s, *self.codes, 1.0, self.l2, self._order, self.batch, True, self._rates, *self._rule
            )  # fmt: skip

    def _automatic(self, X, Y, s, count, offset):
        """Steps in columns that are centred and scaled by the means and spreads of calls 1, 2, 4, 8 and so on."""
        self.calls += 1
        if self.calls & (self.calls - 1) == 0 or self.v is None:
            self._measure(X, Y)
        n = len(Y)
        self._rates.fill(self._first_rate / math.sqrt(1 + self.rows_seen / RATE_ROWS))
        self.rows_seen += n
        rate = float(self._rates[0])
        Z = (X - self.mean) * self._inverse
        v = self.v
        if type(self.rule) is GD and offset is None:
            kernels.active.stochastic(
                Z, Y, v, s, *self.codes, 1.0, 0.0, self._order, self.batch, True, self._rates, *self._rule
            )
        else:
            batch = Dense(Z, Y, s)
            batch = batch if offset is None else WithOffset(batch, offset)
            self._scaled_steps.take(batch, self._order, self._rates)
        if self.l2:
            self._owed += rate * count * self.l2 * self._largest
            if self._owed > WORTH_TAKING or not self.calls % PENALTY_STEPS:
                v[: self.d] *= 1 - np.minimum(self._owed * self._relative_squares, 1.0)
                self._owed = 0.0
        if self.l1:
            V = v[: self.d]
            np.copyto(V, np.sign(V) * np.maximum(np.abs(V) - rate * count * self.l1 * self._inverse[:, None], 0))
        v = self._scaled_steps.reported()
        np.multiply(v[: self.d], self._inverse[:, None], out=self.coef)
        if self.fit_intercept:
            np.subtract(v[self.d], self.mean @ self.coef, out=self.intercept)

    def _measure(self, X, Y):
        X = X.astype(np.float64)
        mean, square = X.mean(axis=0), np.mean(X * X, axis=0)
        if self.mean is None or self.spread is None:
            self._weight, self._mean, self._square = 0.0, np.zeros(self.d), np.zeros(self.d)
        self._weight += len(X)
        share = len(X) / self._weight
        self._mean += share * (mean - self._mean)
        self._square += share * (square - self._square)
        centre = self._mean if self.fit_intercept else np.zeros(self.d)
        variance = np.maximum(self._square - centre**2, 0)
        self.spread = np.sqrt(np.where(variance > 1e-12 * self._square, variance, self._square))
        self.mean = centre.astype(self.dtype)
        self._inverse = np.where(self.spread > 0, 1 / np.where(self.spread > 0, self.spread, 1), 0).astype(self.dtype)
        squares = (self._inverse.astype(np.float64) ** 2)[:, None]
        self._largest = float(squares.max()) or 1.0
        self._relative_squares = squares / self._largest
        typical = self.record.typical_curvature(float(np.mean(Y)), from_zero=True)
        # A row of a batch that is seen once is scaled by what is known of it: no row may be far longer than that.
        Z = (X - self.mean) * self._inverse
        length = max(self.d, float(np.max(np.sum(Z * Z, axis=1)))) + self.fit_intercept
        if follows_gradient(self.rule):
            self._first_rate = 0.5 * (1 - getattr(self.rule, "momentum", 0.0)) / (typical * length)
        else:
            self._first_rate = ADAPTIVE_RATE
        self.v = np.empty_like(self.w)
        scale = np.where(self._inverse > 0, self.spread, 0.0)[:, None]
        self.v[: self.d] = scale * self.coef
        if self.fit_intercept:
            self.v[self.d] = self.intercept + self.mean @ self.coef
        # In other units than before: the rule begins anew.
        self._scaled_steps = Steps(self.record, self.v, self.d, rule=self.rule, batch=self.batch, l1=0.0, l2=0.0)
