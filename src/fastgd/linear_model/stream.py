"""Stochastic steps: epochs over shuffled rows. Rows as they come, with the same steps, are in online.py.

With a rate of the user's the steps are taken in the columns as they are: W ← (1 − rate·l2)·W − rate·(1/m)·Σ s·∂φ/∂W
over the m rows of a batch. With "auto" they are taken in centred and scaled columns, where a rate follows from the
loss.
"""

import functools
import math

import numpy as np

from fastgd.data.order import epoch_order
from fastgd.kernels.reference import ACTIVATIONS
from fastgd.kernels.reference import LOSSES as KERNEL_LOSSES
from fastgd.linear_model.backlog import Backlog
from fastgd.linear_model.first_order import first_order
from fastgd.linear_model.quadratic import Metric
from fastgd.linear_model.solvers import TRUSTED, crude
from fastgd.linear_model.space import METRIC_COLUMNS, Space
from fastgd.objectives import LOSS_KERNELS
from fastgd.optimizers import GD, Momentum, Nesterov
from fastgd.stochastic import HIGHER, HIGHER_WHILE
from fastgd.updates import Update

# In scaled columns the penalties, which differ from column to column there, act after so many steps at a time
# (truncated gradient: Langford, Li & Zhang, JMLR 10 (2009)).
PENALTY_STEPS = 32
# The automatic rate of rules whose steps do not follow the length of the gradient, in scaled columns.
ADAPTIVE_RATE = 0.05
# With an automatic rate the batch is doubled after an epoch that has lowered the loss by less than this share of what
# the epoch before has: steps become fewer and surer (Byrd, Chin, Nocedal & Wu, Math. Program. 134 (2012)).
PROGRESS = 0.5
# A loss with a kink has a gradient that does not vanish: its rate is halved where the loss stands still, down to this
# share of the first.
LEAST_RATE = 2.0**-12
# Rows that are centred and scaled on their way into the kernel, at a time: about so many values.
SCALED_VALUES = 1 << 16
# With an automatic rate an epoch ends at the mean of the weights that it has passed, of so many looks at them after the
# first part (Polyak & Juditsky, SIAM J. Control Optim. 30 (1992)): steps on few rows go about the minimum, and not to
# it. Not with batches so large that there are fewer steps than the last number.
LOOKS, BURNED, LEAST_LOOKS = 64, 0.25, 8
AVERAGED = (GD, Momentum, Nesterov)


def codes(loss):
    """Numbers of the activation and the loss for the kernels."""
    return ACTIVATIONS[loss.activation], KERNEL_LOSSES[LOSS_KERNELS[loss.objective][0]]


def curvature_bound(name, y_scale=1.0):
    """A typical ∂²φ/∂h² of one row, for a rate: the bound, where there is one."""
    return {"log_loss": 0.25, "softmax": 0.5, "squared_hinge": 2.0, "poisson": max(y_scale, 1e-3)}.get(name, 1.0)


class Steps:
    """Steps on weights w (d', k) in the kernels' units, in place.

    Parameters
    ----------
    loss : Loss
    d : int
        Rows of w that the penalties are for.
    rule : Optimizer
    factor : float
        Of the gradient of a row's loss, beside the mean over the batch.
    """

    def __init__(self, loss, w, d, *, rule, batch, l1, l2, factor=1.0):
        self.codes, self.w, self.batch, self.l2, self.factor = codes(loss), w, batch, l2, factor
        self.update = Update(rule, w, d * w.shape[1], l1=l1)

    def take(self, rows, order, rates):
        """A step for each batch of the rows `order` of some Rows."""
        rows.stochastic(
            self.w, *self.codes, self.factor, self.l2, order, self.batch, True, rates, self.update.kernel_arguments
        )  # fmt: skip
        self.update.took(len(rates))

    def reported(self):
        """The weights that the rule has come to: w itself, but for a rule that averages."""
        return self.update.reported(self.w)


def stochastic(problem, watch, W, b, *, rate, batch, seed, rule, scaled, shuffle=True):
    """Epochs of stochastic descent.

    Parameters
    ----------
    rate : callable or None
        with rates(step, count), or None: found from the curvature of the rows, and the batch grows when the loss stops
        falling, until steps on all rows take over; or the rate is halved where the rule's steps do not follow the
        gradient's length.
    rule : Optimizer
    scaled : bool
        Whether to walk in centred and scaled columns, as without a rate.
    """
    if not (scaled or rate is None or rate.observes or watch.waits):
        return _unwatched(problem, watch, W, b, rate=rate, batch=batch, seed=seed, rule=rule, shuffle=shuffle)
    known = problem.has_dual or problem.objective.quadratic
    looks_at_gap = problem.loss.smooth and watch.tol is not None and watch.score is None
    problem.outside = TRUSTED
    space = Space(problem, as_they_are=not (scaled or looks_at_gap or rate is None))
    judge = Metric(space, space.from_weights(W, b)) if looks_at_gap and problem.d <= METRIC_COLUMNS else None
    walk = _InScaledColumns(problem, space, W, b, batch, rule) if scaled else _InUserColumns(problem, W, b, batch, rule)
    automatic = None if rate is not None else _automatic_rate(space, batch, rule)
    first = last = problem.value_at_zero
    typical = problem.factor * problem.objective.total_weight  # of the curvature in scaled columns
    highest = _highest(problem, rate, rule)
    gained, first_rate, caution = math.inf, automatic, 1.0
    step = since = 0
    while not watch.out_of_epochs:
        start = W, b
        for order in _pieces(problem, seed, watch.epochs, shuffle):
            count = -(-len(order) // batch)
            rates = rate.rates(step, count) if automatic is None else np.full(count, automatic)
            walk.take(order, rates)
            step += count
        W, b = walk.weights()
        V = space.from_weights(W, b)
        with np.errstate(all="ignore"):
            value, gradient = space.evaluate(V)
            total = value + space.l1_penalty(V)
            if rate is None and caution > LEAST_RATE and not total <= HIGHER * abs(first) + 1e-300:
                # The curvature was larger than it seemed: the epoch is taken again with shorter steps.
                W, b = start
                caution /= 4
                automatic = caution * _automatic_rate(space, batch, rule)
                walk = _InScaledColumns(problem, space, W, b, batch, rule)
                continue
            subgradient = space.subgradient(V, gradient)
            if rate is not None and total > highest:
                total = math.nan  # what has risen so far is lost
            if watch.epoch(W, b, total, space.user_norm(subgradient), float(rates[-1])):
                break
        if rate is not None:
            rate.observe(total)
        else:
            gain = last - total
            if not gain > PROGRESS * gained and not follows_gradient(rule):
                automatic /= 2
            elif problem.loss.smooth and not gain > PROGRESS * gained and batch < problem.n:
                # Up to 1/share rows, longer steps would undo what more rows gain.
                batch = min(max(2 * batch, math.ceil(1 / space.largest_share)), problem.n)
                if batch * LEAST_LOOKS > problem.n:
                    # Little is left to chance, and steps that know it are the quicker ones.
                    return first_order(problem, watch, W, b, accelerate=True)
                walk.steps.batch, automatic = batch, caution * _automatic_rate(space, batch, rule)
            gained = max(gain, 0.0)
        last = total
        if not problem.loss.smooth and _stands_still(watch, since):
            if rate is not None or automatic <= LEAST_RATE * first_rate:
                watch.end("no_progress", f"the loss has not fallen by {watch.tol:g} of it for {watch.patience} epochs")
                break
            automatic, since = automatic / 2, watch.epochs
        if not looks_at_gap:
            continue
        if judge is not None:
            estimate = judge.gap(subgradient)
            if not known and watch.would_do(total, estimate):
                judge = Metric(space, V)  # the curvature here, no longer at the start
                estimate = judge.gap(subgradient)
        else:
            estimate = 0.5 * float(np.vdot(subgradient, subgradient)) / max(typical, problem.l2)
        certificate = functools.partial(space.duality_gap, V, gradient)
        if watch.reached(W, b, total, estimate, crude(space, gradient), certificate):
            break
    return W, b


def _unwatched(problem, watch, W, b, *, rate, batch, seed, rule, shuffle):
    """`stochastic` in the columns as they are, where nothing wants to hear of an epoch before the next one begins."""
    walk = _InUserColumns(problem, W, b, batch, rule)
    backlog = Backlog(Space(problem, as_they_are=True), watch, _highest(problem, rate, rule))
    step = 0
    try:
        for epoch in range(watch.max_iter):
            for order in _pieces(problem, seed, epoch, shuffle):
                rates = rate.rates(step, -(-len(order) // batch))
                walk.take(order, rates)
                step += len(rates)
            if backlog.add(*walk.weights(), float(rates[-1])):
                return walk.weights()
        if not backlog.settle():
            watch.took_all()
    except KeyboardInterrupt:
        backlog.settle()
        raise
    return walk.weights()


def _pieces(problem, seed, epoch, shuffle):
    """Numbers of the rows in the order of one epoch, a piece at a time."""
    return epoch_order(seed, epoch, problem.n) if shuffle else [np.arange(problem.n)]


def _highest(problem, rate, rule):
    """What the loss may rise to before it counts as lost. Where the rate falls, too, it may rise at first."""
    room = HIGHER if isinstance(rate, float) and not rule.may_rise else HIGHER_WHILE
    return room * abs(problem.value_at_zero) + 1e-300


def _stands_still(watch, since):
    """Where no gradient tells how far the minimum is: whether the loss has not fallen by `tol` for some epochs."""
    if watch.tol is None or watch.score is not None:
        return False
    losses = watch.rows["loss"][max(0, since - 1) :]
    before, last = losses[: -watch.patience], losses[-watch.patience :]
    return bool(before) and min(last) >= (1 - watch.tol) * min(before)


def follows_gradient(rule):
    """Whether the rule's steps are proportional to the gradient."""
    return isinstance(rule, (GD, Momentum))


def refuse_penalty(rule, l1, l2):
    """Beside steps in scaled columns a penalty acts by itself: it has the length of theirs only if they follow g."""
    if (l1 or l2) and not follows_gradient(rule):
        raise ValueError(
            f"with a penalty, {type(rule).__name__} walks in the columns as they are: give a learning_rate, or "
            'take optimizer="gd", "momentum" or "nesterov"'
        )


def _automatic_rate(space, batch, rule):
    """1/(2L), L being about the curvature that a step on a batch meets in scaled columns."""
    if not follows_gradient(rule):
        return ADAPTIVE_RATE
    p = space.problem
    typical = curvature_bound(p.name, float(np.mean(p.Y)) if p.name == "poisson" else 1.0)
    length = p.d + p.fit_intercept  # of a row of centred and scaled columns, squared
    share = space.largest_share
    apart = 0.0 if batch >= p.n else 1 / batch  # how far a batch is from all rows
    L = typical * length * (apart + share * (1 - apart)) + float(space.ridge().max(initial=0.0))
    return 0.5 * (1 - getattr(rule, "momentum", 0.0)) / L  # a velocity is the sum of 1/(1 − μ) steps


class _InUserColumns:
    def __init__(self, problem, W, b, batch, rule):
        p, self.p = problem, problem
        dtype = p.objective.dtype
        w = np.vstack([W, b]) if p.fit_intercept else W
        # See Problem: weights are c times the user's here, and a rate must mean what it means to the user.
        times = p.c if p.name == "epsilon_insensitive" else 1.0
        self.times = times if follows_gradient(rule) else p.c
        self.steps = Steps(
            p.loss, np.array(w, dtype=dtype, order="C"), p.d, rule=rule, batch=batch, l1=p.l1 * p.c**2 / times,
            l2=p.l2 * p.c**2 / times, factor=p.n / p.objective.total_weight,
        )  # fmt: skip

    def take(self, order, rates):
        self.steps.take(self.p.objective.rows, order, rates if self.times == 1 else rates * self.times)

    def weights(self):
        w, d = self.steps.reported().astype(np.float64), self.p.d
        return w[:d], w[d] if self.p.fit_intercept else np.zeros(self.p.k)


class _InScaledColumns:
    """Rows are centred and scaled as they are needed, or once; see `Rows.scaled`."""

    def __init__(self, problem, space, W, b, batch, rule):
        self.p = p = problem
        self.scale, dtype = space.scale, p.objective.dtype
        self.rows, self.shift = p.objective.rows.scaled(space.shift, space.scale)
        V = np.where(np.isfinite(self.scale), self.scale, 0.0)[:, None] * W
        w = np.vstack([V, b + self.shift @ W]) if p.fit_intercept else V
        # The penalties act on V/scale, differently on each column, so they are applied beside the kernel.
        self.steps = Steps(
            p.loss, np.array(w, dtype=dtype, order="C"), p.d, rule=rule, batch=batch, l1=0.0, l2=0.0,
            factor=p.n / p.objective.total_weight,
        )  # fmt: skip
        refuse_penalty(rule, p.l1, p.l2)
        self.unit = p.factor * p.objective.total_weight
        self.l1, self.l2 = p.l1 / self.unit, p.l2 / self.unit
        self.averages = type(rule) in AVERAGED
        self._total, self._count, self._taken = 0.0, 0, 0

    def take(self, order, rates):
        """Steps on a piece of an epoch, and the mean of the weights that they pass."""
        batch, n = self.steps.batch, self.p.n
        length = max(1, min(SCALED_VALUES // self.p.d, n // LOOKS) // batch) * batch
        if self.l1 or self.l2:
            length = min(length, PENALTY_STEPS * batch)
        averages = self.averages and batch * LEAST_LOOKS <= n
        for first in range(0, len(order), length):
            part = order[first : first + length]
            some = rates[first // batch : first // batch + -(-len(part) // batch)]
            self.steps.take(self.rows, part, some)
            self._shrink(float(some.sum()))
            self._taken += len(part)
            if averages and self._taken > BURNED * n:
                self._total, self._count = self._total + self.steps.w, self._count + 1

    def _shrink(self, length):
        if not (self.l1 or self.l2):
            return
        V, scale = self.steps.w[: self.p.d], self.scale[:, None]
        V *= np.exp(-length * self.l2 / scale**2)
        if self.l1:
            np.copyto(V, np.sign(V) * np.maximum(np.abs(V) - length * self.l1 / scale, 0))

    def weights(self):
        """Those that an epoch has come to, where the next one begins."""
        if self._count:
            mean = self._total / self._count
            if self.l1:  # what it has put at 0 stays there
                mean[: self.p.d][self.steps.w[: self.p.d] == 0] = 0
            self.steps.w[:] = mean
        self._total, self._count, self._taken = 0.0, 0, 0
        w, d = self.steps.reported().astype(np.float64), self.p.d
        W = w[:d] / self.scale[:, None]
        return W, w[d] - self.shift @ W if self.p.fit_intercept else np.zeros(self.p.k)
