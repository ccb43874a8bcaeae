"""Steps on rows as they come, behind partial_fit: the weights of a stream, and what it keeps between calls."""

import copy
import math
import warnings
from operator import is_

import numpy as np

from fastgd import kernels, losses
from fastgd.data import Dense, rows_of
from fastgd.data.offset import WithOffset
from fastgd.engine.epochs import follows_gradient
from fastgd.engine.scaled_epochs import ADAPTIVE_RATE, PENALTY_STEPS, refuse_penalty
from fastgd.engine.update import Update
from fastgd.errors import DivergenceWarning
from fastgd.kernels.codes import PLAIN
from fastgd.linalg import soft_threshold
from fastgd.linear_model import inputs
from fastgd.optimizers import GD, State

# The parameters that a stream depends on, in both estimators.
OF_STREAMS = ("loss", "penalty", "alpha", "l1_ratio", "fit_intercept", "learning_rate", "optimizer", "batch_size")


class Steps:
    """Steps of an optimizer on weights w (d', k), in place; penalties apply to the first d rows of w."""

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
        """The optimizer's current weights: w itself, or their average for an averaging optimizer."""
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
        """Initialise the optimizer's state; an averaging optimizer iterates on a copy of the weights."""
        walked = self.w.copy() if self.rule.name == "asgd" else self.w
        self._steps = Steps(self.record, walked, self.d, rule=self.rule, batch=self.batch, l1=self.l1, l2=self.l2)

    def _view(self):
        self.coef = self.w[: self.d]
        self.intercept = self.w[self.d] if self.fit_intercept else np.zeros(self.k, self.dtype)

    def go_on_from(self, other):
        """Take over the counts, column statistics and optimizer state of a stream of other parameters or dtype."""
        self.step, self.rows_seen, self.calls = other.step, other.rows_seen, other.calls
        # Statistics of the columns; the next call adds its rows.
        self.mean, self.spread = other.mean, other.spread
        if other.mean is not None:
            self._weight, self._mean, self._square = other._weight, other._mean.copy(), other._square.copy()
        if self.rule == other.rule and self.w.shape == other.w.shape:
            state, walked = other._steps.update.state, other._steps.w
            self._steps.update.state = State(state.moments.astype(self.dtype), state.step)
            if walked is not other.w:
                self._steps.w[:] = walked

    def __getstate__(self):
        remade = ("coef", "intercept", "coef_of_user", "parameters")  # by `_view` and `FitsInParts._attach_online`
        return {name: value for name, value in self.__dict__.items() if name not in remade}

    def __setstate__(self, state):
        self.__dict__.update(state)
        self._view()

    def is_of(self, model):
        """Whether the weights and the parameters are still those of the model, which may set either to others."""
        return model.coef_ is self.coef_of_user and all(map(is_, model._of_stream(model.__dict__), self.parameters))

    def takes(self, X, y, model):
        """Whether the stream is still that of the model and the batch needs no conversion.

        Values are checked after the step: NaN or infinity in the batch makes the weights not finite.
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
        """Targets (n, 1) from numbers that the loss takes; None for others, which the caller explains."""
        kind, loss = y.dtype.kind, self.record.loss
        if kind not in "iubf" or (loss.targets and loss.refused(y).any()):
            return None
        unchecked = kind != "f" or (y.dtype is self.dtype and not loss.flat_far_out)
        if not (unchecked or np.all(np.abs(y) <= np.finfo(self.dtype).max)):
            return None
        return y.astype(self.dtype, copy=False)[:, None]

    def coded(self, y):
        """Targets (n, 1) from labels of two numbers; None for others, which the caller explains."""
        if self.labels is None:
            return None
        if len(y) <= 256:  # for so few labels nothing is as quick as Python's sets
            known = self.labels.issuperset(y.tolist())
        else:
            known = bool(np.all((y == self.second) | (y == self.first)))
        if not known:
            return None
        Y = (y == self.second).astype(self.dtype)[:, None]
        return 2 * Y - 1 if self.record.loss.signed else Y

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
        self._rates.fill(self._first_rate / math.sqrt(1 + self.rows_seen / 1000))
        self.rows_seen += n
        rate = float(self._rates[0])
        Z = (X - self.mean) * self._inverse
        v = self.v
        if type(self.rule) is GD and offset is None:
            kernels.active.stochastic(
                Z, Y, v, s, *self.codes, 1.0, 0.0, self._order, self.batch, True, self._rates, *self._rule
            )
        else:
            batch = Dense(Z, Y, s) if offset is None else WithOffset(Dense(Z, Y, s), offset)
            self._scaled_steps.take(batch, self._order, self._rates)
        if self.l2:
            self._owed += rate * count * self.l2 * self._largest
            # The shrinkage of one call is small: it is applied once it is 1e-3 of the weights.
            if self._owed > 1e-3 or not self.calls % PENALTY_STEPS:
                v[: self.d] *= 1 - np.minimum(self._owed * self._relative_squares, 1.0)
                self._owed = 0.0
        if self.l1:
            v[: self.d] = soft_threshold(v[: self.d], rate * count * self.l1 * self._inverse[:, None])
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
        # Means and spreads of few rows may be far off: the longest row of this batch bounds the step size too.
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
        # The units have changed, so the optimizer's state is initialised again.
        self._scaled_steps = Steps(self.record, self.v, self.d, rule=self.rule, batch=self.batch, l1=0.0, l2=0.0)


class FitsInParts:
    """What both estimators' `partial_fit` has; an estimator says how its targets are coded and what `y` it takes."""

    def _fed_at_once(self, X, y):
        """Feed a batch that is of the kind of the last one, without a check; False where it is not."""
        online = self.__dict__.get("_online")
        if online is None or not online.takes(X, y, self):
            return False
        Y = online.numbers(y) if self._task == "regression" else online.coded(y)
        if Y is None:
            return False
        if not online.feed(X, Y, online.none):
            self._feed(X, Y, None)
        return True

    def _batch_weights(self, s, X):
        """Weights of a batch; (weights or None, whether there is anything to learn); if not, that is said."""
        values = np.asarray(s) if isinstance(s, (list, tuple)) else s
        zeros = getattr(values, "shape", None) == (X.shape[0],) and values.dtype.kind in "fiub" and not np.any(values)
        if zeros:
            warnings.warn(
                f"{type(self).__name__}.partial_fit: all weights are 0, so that nothing was learnt", UserWarning,
                stacklevel=4,
            )  # fmt: skip
        return None if zeros else inputs.weights(s, X), not zeros

    def _feed(self, X, Y, s, offset=None):
        """Steps on a batch; weights that overflow are undone, with a warning or what is wrong with the data."""
        online = self._online
        s = online.none if s is None else s
        rows = rows_of(X, Y, s)
        if offset is not None:
            if online.k > 1:
                raise ValueError("offset is for one output, or two classes: fit each by itself")
            doubles = Y.astype(float), s.astype(float) if s.size else np.ones(len(Y)), offset.astype(float)
            found = online.record.loss.absorbed(online.record.activation, *doubles)
            if found is None:
                rows = WithOffset(rows, offset)
            else:
                Y, s = (np.ascontiguousarray(part, X.dtype) for part in found[:2])
                rows = rows_of(X, Y, s)
        if online.feed(X, Y, s, rows):
            return self
        inputs.refuse_infinite(X, "X")
        inputs.refuse_infinite(Y[:, 0] if Y.shape[1] == 1 else Y, "y")
        warnings.warn(
            f"{type(self).__name__}.partial_fit diverged: the weights overflowed, and those before this call are "
            'kept. Scale the features, take a smaller learning_rate, or "auto".',
            DivergenceWarning,
            stacklevel=4,
        )
        return self

    def _stream(self, activation, dtype, k):
        """Go on with the stream, or with a new one where weights, dtype or parameters are no longer its own.

        A new stream starts from the weights of the model. If only parameters or the dtype have changed, it continues
        the schedule and the column statistics of the old one.
        """
        old = self.__dict__.get("_online")
        if old is not None and old.is_of(self) and dtype == old.dtype:
            return
        checked = self._check_parameters()
        if checked.bounds is not None or self.penalty_weights is not None or self.groups is not None:
            raise ValueError("positive, bounds, penalty_weights and groups are for fit; partial_fit takes none of them")
        if checked.rate is None:
            refuse_penalty(checked.rule, checked.l1, checked.l2)
        elif checked.rate.observes:
            raise ValueError(
                "learning_rate looks at the losses of epochs, which partial_fit does not have: take a schedule of the "
                "step alone"
            )
        coef, intercept = self._weights_matrix() if hasattr(self, "coef_") else (None, None)
        online = Online(
            losses.of(checked.loss, activation), self.n_features_in_, k, dtype,
            fit_intercept=checked.fit_intercept, rate=checked.rate,
            rule=checked.rule, batch=checked.batch or 1, l1=checked.l1, l2=checked.l2, coef=coef, intercept=intercept,
        )  # fmt: skip
        if old is not None and self.coef_ is old.coef_of_user:
            online.go_on_from(old)
        self._online, self._kept, self.n_iter_ = online, None, 1
        self._attach_online()

    def _attach_online(self):
        """Make the weights of the model views of those of the stream."""
        online = self._online
        online.parameters = self._of_stream(self.__dict__)
        one = self._task == "regression" and online.k == 1 and self._one_target
        online.coef_of_user = online.coef[:, 0] if one else online.coef.T
        self.coef_, self.intercept_ = online.coef_of_user, online.intercept

    def __getstate__(self):
        state = dict(super().__getstate__())
        online = state.get("_online")
        if online is not None:
            # The weights are views into the stream: without new views a copy would not be updated.
            state["_online"] = copy.deepcopy(online) if online.is_of(self) else None
        return state

    def __setstate__(self, state):
        super().__setstate__(state)
        if self.__dict__.get("_online") is not None:
            self._attach_online()
