"""Stochastic steps: epochs over the rows, in a new random order for each epoch.

With a given rate η the steps are taken in the user's columns: w ← (1 − η·l2)·w − η·(1/m)·Σ s·∂l/∂w over the m rows of a
batch. Without a rate see `scaled_epochs.py`.
"""

import contextlib
import itertools
import math

import numpy as np

from fastgd.data.order import epoch_order
from fastgd.engine.divergence import HIGHER, HIGHER_WHILE
from fastgd.engine.rates import Constant
from fastgd.engine.result import Status
from fastgd.errors import DivergenceError
from fastgd.optimizers import GD, Momentum

# Multiplications after which a kernel returns to Python, for Ctrl-C and the clock: some 50 ms.
BURST_WORK = 1 << 25
# Losses at the ends of epochs are computed together, in one pass over X, where nothing needs them earlier: of so many
# epochs at most, whose weights are at most so many numbers, or a quarter of X.
TOGETHER, NUMBERS = 16, 1 << 16


def follows_gradient(rule):
    """Whether the rule's steps are proportional to the gradient."""
    return isinstance(rule, (GD, Momentum))


def in_user_columns(variables, monitor, rate, *, batch, seed, shuffle=True):
    """Stochastic descent with a given rate, in Columns. The monitor counts steps, or epochs."""
    _InUserColumns(variables, monitor, rate, batch, seed, shuffle).run()


class Epochs:
    """The order of the rows, the position of the run in it, and the rule that ends a run on a loss with a kink."""

    def __init__(self, variables, monitor, batch, seed, shuffle):
        self.variables, self.monitor, self.objective = variables, monitor, variables.objective
        self.rows, self.seed, self.shuffle = self.objective.rows, seed, shuffle
        self.n = self.rows.n
        self.batch = min(batch, self.n)
        self.step, self.begun, self.losses, self.since = 0, (0, 0, 0), [], 0

    def _pieces(self, epoch):
        """The indices of the rows in the order of one epoch, in pieces."""
        return epoch_order(self.seed, epoch, self.n) if self.shuffle else [np.arange(self.n)]

    def _parts(self, epoch, length):
        """(piece, start, indices of rows) of what is left of an epoch, at most `length` rows at a time."""
        for piece, order in enumerate(self._pieces(epoch)):
            if (epoch, piece) < self.begun[:2]:
                continue
            begun = self.begun[2] if (epoch, piece) == self.begun[:2] else 0
            for start in range(begun, len(order), length):
                yield piece, start, order[start : start + length]

    @property
    def _burst_rows(self):
        steps = max(1, BURST_WORK // (self.batch * (self.rows.values // self.n + 16) * self.rows.k))
        return self.batch * (steps - steps % 4 if steps >= 4 else steps)  # the kernel takes four steps at a time

    def _where(self, epoch, piece, start):
        return {"at": [epoch, piece, start], "steps_taken": self.step, "losses": self.losses, "since": self.since}

    def _resume_where(self, kept):
        self.begun, self.step = tuple(kept["at"]), kept["steps_taken"]
        self.losses, self.since = list(kept["losses"]), kept["since"]

    @property
    def _stands_still(self):
        """Whether a loss with a kink, whose gradient does not vanish, has not fallen by `tol` for `patience` epochs."""
        monitor = self.monitor
        if self.objective.smooth or not monitor.tolerates:
            return False
        losses, tol = self.losses[max(0, self.since - 1) :], monitor.gap.tol
        before, last = losses[: -monitor.patience], losses[-monitor.patience :]
        return bool(before) and min(last) >= (1 - tol) * min(before)

    def _no_progress(self, point):
        monitor = self.monitor
        what = f"the loss has not fallen by {monitor.gap.tol:g} of it for {monitor.patience} epochs"
        return monitor.end(Status.NO_PROGRESS, what, point)


class _InUserColumns(Epochs):
    def __init__(self, variables, monitor, rate, batch, seed, shuffle):
        super().__init__(variables, monitor, batch, seed, shuffle)
        o, rule = self.objective, monitor.update.optimizer
        self.rate, self.mean = rate, o.record.times is not None
        # The full gradient is factor·Σ: of a mean, the factor for a batch of m rows is n·factor/m.
        self.factor, self.l2 = o.factor * (self.n if self.mean else 1.0), o.l2
        self.w = variables.start.copy()
        room = HIGHER if isinstance(rate, Constant) and not rule.may_rise else HIGHER_WHILE
        self.room = (HIGHER_WHILE if rule.may_rise else HIGHER) if not monitor.in_epochs else room
        monitor.noisy, monitor.shows_averages = True, monitor.in_epochs

    def run(self):
        monitor = self.monitor
        if kept := monitor.resumed:
            self.w, self.point = kept["w"], kept["point"]
            self._resume_where(kept)
        else:
            self.point = monitor.point(0, self.variables.start.copy(), want_fun=True)
            monitor.judge(self.point, None)
            if monitor.see(self.point, tolerance=self.objective.smooth):
                return
        waiting = self._waiting = Waiting(self) if self._nothing_waits else None
        each = not monitor.in_epochs and (monitor.looks_at_each_step or monitor.recorder.on)
        try:
            for epoch in itertools.count(self.begun[0]):
                if self._epoch(epoch, self.batch if each else self._burst_rows):
                    return
                if monitor.in_epochs:
                    if waiting is None:
                        ended = self._end_of_epoch(self._point_here(epoch + 1))
                    else:
                        ended = waiting.add(epoch + 1, self._z())
                    if ended:
                        return
                elif self._end_of_pass():
                    return
        except KeyboardInterrupt:
            if waiting is not None and not monitor.ended:
                with contextlib.suppress(DivergenceError):  # the run ends before it
                    waiting.settle()
            raise

    @property
    def _nothing_waits(self):
        m = self.monitor
        waits = m.looks_at_each_step or m.observe or m.bar or m.tolerates or m.checkpoint or m.stopping.looks_at_points
        return m.in_epochs and not waits

    def _z(self):
        """A copy of the weights that the rule reports."""
        return (self.monitor.update.reported(self.w) if self.monitor.in_epochs else self.w).copy()

    def _point_here(self, number):
        return self.monitor.point(number, self._z(), self.monitor.last_rate, want_fun=True)

    def _epoch(self, epoch, length):
        """The steps of an epoch; True if the run ends within it."""
        monitor, o, step_limit = self.monitor, self.objective, math.inf
        if not monitor.in_epochs:
            step_limit = monitor.limit
        shape = o.shape[0], -1
        for piece, start, part in self._parts(epoch, length):
            before = self._z()
            if not monitor.in_epochs:
                monitor.latest = self.step, before
            number = epoch if monitor.in_epochs else self.step
            monitor.keep(number, w=self.w, point=self.point, **self._where(epoch, piece, start))
            if self.step == step_limit:
                return self._end(monitor.point(self.step, before, want_fun=True))
            left, count = len(part), min(-(-len(part) // self.batch), step_limit - self.step)
            part = part[: count * self.batch]
            rates = self.rate.rates(self.step, count)
            self.rows.stochastic(
                self.w.reshape(shape), *self.objective.codes, self.factor, self.l2, part, self.batch, self.mean, rates,
                monitor.update.kernel_arguments,
            )  # fmt: skip
            monitor.update.took(count)
            self.variables.batched += len(part)
            self.step += count
            lost = not np.all(np.isfinite(self.w))
            if lost and self._waiting is not None:
                self._waiting.settle()
            monitor.last_rate = float(rates[-1])
            if lost:
                number = epoch + 1 if monitor.in_epochs else self.step
                last = monitor.point(max(0, number - 1), before, monitor.last_rate, want_fun=True)
                what = "the weights are no longer finite"
                raise monitor.diverged(last, last.lr, what, step=number, stable=self._stable_rate(self.batch))
            if not monitor.in_epochs and self._look(count):
                return True
            if len(part) < left:  # the step limit is reached within the epoch
                monitor.keep(self.step, w=self.w, point=self.point, **self._where(epoch, piece, start + len(part)))
                return self._end(monitor.point(self.step, self._z(), want_fun=True))
        return False

    def _look(self, count):
        """Show steps to a monitor that counts steps; True if the run ends here."""
        monitor, step = self.monitor, self.step
        if monitor.recorder.on or monitor.looks_at_each_step:
            monitor.took(step - 1, monitor.last_rate)
        if monitor.looks_at_each_step or monitor.recorder.takes(step):
            self.point = monitor.point(step, self._z(), want_fun=True)
            self._refuse_divergence(self.point, self.room)
            return monitor.see(self.point, rules=False)
        if monitor.stopping.out_of_time():
            return monitor.out_of_time(monitor.point(step, self._z(), want_fun=True))
        if monitor.bar is not None:
            monitor.bar.update(count)
        return False

    def _end_of_pass(self):
        """The end of an epoch for a monitor that counts steps; True if the run ends here."""
        monitor = self.monitor
        if not (monitor.tolerates or monitor.observe or monitor.stopping.looks_at_points):
            return False
        last = None
        if self.point.step != self.step:
            last, self.point = self.point, monitor.point(self.step, self._z(), want_fun=True)
            self._refuse_divergence(self.point, self.room)
        if monitor.observe:
            monitor.observe(self.point.fun)
        return monitor.ends(self.point, last)

    def _end_of_epoch(self, point):
        """The end of an epoch for a monitor that counts epochs; True if the run ends here."""
        monitor = self.monitor
        monitor.took(point.step - 1, monitor.last_rate)
        self._refuse_divergence(point, self.room)
        self.losses.append(point.fun)
        self.point = point
        if monitor.see(point, tolerance=self.objective.smooth):
            return True
        if monitor.observe:
            monitor.observe(point.fun)
        return (self._stands_still and self._no_progress(point)) or monitor.out_of_steps(point)

    def _refuse_divergence(self, point, room):
        first = max(abs(self.monitor.first_fun), abs(self.objective.value_at_zero))
        # A loss that is 0 at w = 0, the perceptron's, has no scale there.
        if not point.finite or (first and point.fun > room * first + 1e-300):
            if point.finite and self.monitor.in_epochs:
                self.monitor.show(point)
            lr = self.monitor.last_rate if point.step else None
            what = f"the value has risen from {self.monitor.first_fun:.3g} to {point.fun:.3g}"
            raise self.monitor.diverged(point, lr, what, stable=self._stable_rate(1))

    def _end(self, point):
        if point.step:
            self._refuse_divergence(point, HIGHER)
        return self.monitor.at_limit(point)

    def _stable_rate(self, batch):
        """The rule's largest stable rate on the row with the largest curvature: no step on one row overshoots."""
        o = self.objective
        if not math.isfinite(o.loss_curvature):
            return None
        longest = max(float(np.max(np.sum(A**2, axis=1))) for A, *_ in o.design(0.0, np.ones(o.rows.d), 1.0))
        # The factor of a mean is 1/n; a step follows the gradient of a mean over the batch, or of a sum over it.
        curvature = o.loss_curvature * (self.n if self.mean else batch) * longest + o.l2
        return self.monitor.update.optimizer.stable_rate(curvature) if longest else None


class Waiting:
    """The ends of several epochs, whose losses are computed in one pass over X."""

    def __init__(self, epochs):
        self._epochs, o = epochs, epochs.objective
        most = min(TOGETHER, int(max(NUMBERS, o.rows.values / 4) // o.rows.d))
        self._most = max(1, most) if o.rows.k == 1 else 1
        self._ends = []

    def add(self, number, z):
        """Add the end of an epoch; True if the run ends with one of those added so far."""
        monitor = self._epochs.monitor
        self._ends.append((number, z, monitor.last_rate, monitor.seconds))
        lost = not np.all(np.isfinite(z))
        full = len(self._ends) >= self._most or number >= monitor.limit or monitor.stopping.out_of_time()
        return (lost or full) and self.settle()

    def settle(self):
        """Evaluate and show the ends added so far; True if the run ends with one of them."""
        monitor, variables = self._epochs.monitor, self._epochs.variables
        for fun, gradient in variables.evaluate_each([z for _, z, *_ in self._ends]):
            number, z, rate, seconds = self._ends.pop(0)
            monitor.last_rate, monitor.seconds_then = rate, seconds
            if self._epochs._end_of_epoch(monitor.evaluated(number, z, fun, gradient, rate)):
                return True
        monitor.seconds_then = None
        return False
