"""Stochastic steps without a given rate: in standardised columns, where it follows from the loss's curvature."""

import functools
import math

import numpy as np

from fastgd.engine.accelerated import accelerated
from fastgd.engine.divergence import HIGHER
from fastgd.engine.epochs import Epochs, follows_gradient
from fastgd.engine.update import Update
from fastgd.linalg import soft_threshold
from fastgd.objective.sample import Sample
from fastgd.optimizers import GD, Momentum, Nesterov

# Steps between two applications of the penalties, which differ from column to column in standardised columns (truncated
# gradient: Langford, Li & Zhang, JMLR 10 (2009)).
PENALTY_STEPS = 32
# The automatic rate of rules whose steps are not proportional to the gradient, in standardised columns.
ADAPTIVE_RATE = 0.05
# The rate of a loss with a kink, whose gradient does not vanish, is halved where the loss stagnates, down to this share
# of the first.
LEAST_RATE = 2.0**-12
# With an automatic rate an epoch ends at the mean of its weights, sampled at the first number of points after a quarter
# of the epoch (Polyak & Juditsky, SIAM J. Control Optim. 30 (1992)): single steps vary about the minimum. Epochs with
# fewer steps than the second number are not averaged.
LOOKS, LEAST_LOOKS = 64, 8
AVERAGED = (GD, Momentum, Nesterov)


def refuse_penalty(rule, l1, l2):
    """ValueError for a penalty with a rule whose steps are not proportional to the gradient.

    The penalties are applied apart from the rule, in proportion to the rate.
    """
    if (l1 or l2) and not follows_gradient(rule):
        raise ValueError(
            f"with a penalty, {type(rule).__name__} needs a rate, for steps in the user's columns; or take "
            'optimizer="gd", "momentum" or "nesterov"'
        )


def in_scaled_columns(variables, monitor, rule, *, batch, seed, shuffle=True):
    """Stochastic descent without a rate, in Standardised variables; the monitor counts epochs.

    The rate follows from the curvature of the rows. The batch is doubled when the loss falls slowly, until full-batch
    steps take over; for rules whose steps are not proportional to the gradient, the rate is halved instead.
    """
    monitor.noisy = True
    if monitor.resumed is not None and "x" in monitor.resumed:
        accelerated(variables, monitor)
        return
    _InScaledColumns(variables, monitor, rule, batch, seed, shuffle).run()


class _InScaledColumns(Epochs):
    """Steps on rows that are centred and scaled when the kernel reads them."""

    def __init__(self, variables, monitor, rule, batch, seed, shuffle):
        super().__init__(variables, monitor, batch, seed, shuffle)
        o = self.objective
        refuse_penalty(rule, o.l1, o.l2)
        self.rule, self.averages = rule, type(rule) in AVERAGED
        self.source, self.shift = self.rows.scaled(variables.shift, variables.scale)
        # The kernel takes steps on the mean loss.
        unit = o.factor * o.total_weight
        self.l1, self.l2, self.factor = o.l1 / unit, o.l2 / unit, o.rows.n / o.total_weight
        self.gained, self.caution, self.last = math.inf, 1.0, o.value_at_zero
        self._begin(variables.start)
        self.automatic = self.first_rate = self._rate()

    def _begin(self, V):
        """Begin at V with a new state of the rule."""
        W, b = self.variables.to_weights(V)
        w = self.variables.finite_scale * W
        w = np.vstack([w, b + self.shift @ W]) if self.objective.fit_intercept else w
        self.w = np.array(w, dtype=self.objective.dtype, order="C")
        self.update = Update(self.rule, self.w)
        self._total, self._count, self._passed = 0.0, 0, 0

    def _rate(self):
        """1/(2L), where L estimates the curvature of a batch's loss in standardised columns."""
        if not follows_gradient(self.rule):
            return self.caution * ADAPTIVE_RATE
        o, n = self.objective, self.n
        typical = o.record.typical_curvature(float(np.mean(o.Y)))
        length = o.rows.d + o.fit_intercept  # of a row of centred and scaled columns, squared
        share = self._sample.largest_share
        apart = 0.0 if self.batch >= n else 1 / self.batch  # the share of one row in a batch, beyond that in all rows
        length *= apart + share * (1 - apart)
        # Rows that the kernel does not centre, which are sparse, are longer by their mean.
        length += float(np.sum(((self.variables.shift - self.shift) / self.variables.scale) ** 2))
        L = typical * length + float(self.variables.ridge().max(initial=0.0))
        return self.caution * 0.5 * (1 - getattr(self.rule, "momentum", 0.0)) / L  # a velocity sums 1/(1 − μ) steps

    @functools.cached_property
    def _sample(self):
        return Sample(self.variables)

    def run(self):
        monitor = self.monitor
        if kept := monitor.resumed:
            self._resume(kept)
        else:
            self.point = monitor.point(0, self.variables.start, want_fun=True)
            if monitor.see(self.point, tolerance=self.objective.smooth):
                return
        while not monitor.out_of_steps(self.point):
            epoch = self.point.step
            for piece, start, part in self._parts(epoch, self._look_rows):
                self._keep(epoch, piece, start)
                count = -(-len(part) // self.batch)
                self._take(part, np.full(count, self.automatic))
                self.step += count
                self.variables.batched += len(part)
            V = self._end_of_epoch()
            with np.errstate(all="ignore"):
                point = monitor.point(epoch + 1, V, want_fun=True)
            if not point.fun <= HIGHER * abs(self.objective.value_at_zero) + 1e-300:
                if self.caution <= LEAST_RATE:
                    raise monitor.diverged(self.point, self.automatic, "the value rises at every rate")
                # The estimate of L was too small: the epoch is repeated with a smaller rate.
                self.caution /= 4
                self.automatic = self._rate()
                self._begin(self.point.z)
                continue
            monitor.took(epoch, self.automatic)
            self.losses.append(point.fun)
            self.point = point
            if monitor.see(point, tolerance=self.objective.smooth):
                return
            if self._adapt(point):
                return

    def _adapt(self, point):
        """Choose batch and rate of the next epoch; True if the run has ended, by itself or with full-batch steps."""
        gain, n = self.last - point.fun, self.n
        # Doubled batches mean fewer and more exact steps (Byrd, Chin, Nocedal & Wu, Math. Program. 134 (2012)).
        slow = not gain > 0.5 * self.gained
        if slow and not follows_gradient(self.rule):
            self.automatic /= 2
        elif slow and self.objective.smooth and self.batch < n:
            # Up to 1/share rows the rate is limited by single rows, and grows with the batch.
            self.batch = min(max(2 * self.batch, math.ceil(1 / self._sample.largest_share)), n)
            if self.batch * LEAST_LOOKS > n:
                # The gradient of a batch is nearly that of all rows: full-batch steps converge faster.
                accelerated(self.variables, self.monitor, point=point)
                return True
            self.automatic = self._rate()
        self.gained, self.last = max(gain, 0.0), point.fun
        if self._stands_still:
            if self.automatic <= LEAST_RATE * self.first_rate:
                return self._no_progress(point)
            self.automatic, self.since = self.automatic / 2, len(self.losses)
        return False

    @property
    def _look_rows(self):
        """Rows between two samples of the weights, and between two applications of the penalties.

        At most some 65,536 values: they are centred and scaled in one piece.
        """
        length = max(1, min(65_536 // self.rows.d, self.n // LOOKS) // self.batch) * self.batch
        return min(length, PENALTY_STEPS * self.batch) if self.l1 or self.l2 else length

    def _take(self, part, rates):
        o, w = self.objective, self.w
        self.source.stochastic(
            w, *o.codes, self.factor, 0.0, part, self.batch, True, rates, self.update.kernel_arguments
        )  # fmt: skip
        self.update.took(len(rates))
        self._shrink(float(rates.sum()))
        self._passed += len(part)
        if self.averages and self.batch * LEAST_LOOKS <= self.n and self._passed > self.n / 4:
            self._total, self._count = self._total + w, self._count + 1

    def _shrink(self, length):
        """Apply the penalties, which are of V/scale: each column has its own."""
        V, scale = self.w[: self.rows.d], self.variables.scale[:, None]
        if self.l2:
            V *= np.exp(-length * self.l2 / scale**2)
        if self.l1:
            np.copyto(V, soft_threshold(V, length * self.l1 / scale))

    def _end_of_epoch(self):
        """The weights at the end of an epoch, averaged if the run averages, where the next epoch begins."""
        d, w = self.rows.d, self.w
        if self._count:
            mean = self._total / self._count
            if self.l1:  # weights that are 0 at the end stay 0 in the mean
                mean[:d][w[:d] == 0] = 0
            w[:] = mean
        self._total, self._count, self._passed = 0.0, 0, 0
        w = self.update.reported(w).astype(np.float64)
        W = w[:d] / self.variables.scale[:, None]
        b = w[d] - self.shift @ W if self.objective.fit_intercept else np.zeros(w.shape[1])
        return self.variables.from_weights(W, b)

    # --------------------------------------------------------------------------------------------------- checkpoints

    KEPT = ("batch", "automatic", "first_rate", "gained", "caution", "last", "w", "_count", "_passed")

    def _keep(self, epoch, piece, start):
        if self.monitor.keeps(epoch):
            total = self._total if self._count else None
            rule = [self.update.state.moments, self.update.state.step]
            kept = {name: getattr(self, name) for name in self.KEPT}
            self.monitor.keep(
                epoch, point=self.point, total=total, rule=rule, **kept, **self._where(epoch, piece, start)
            )

    def _resume(self, kept):
        self._resume_where(kept)
        for name in self.KEPT:
            setattr(self, name, kept[name])
        self._total = kept["total"] if self._count else 0.0
        self.point = kept["point"]
        self.update.state.moments, self.update.state.step = kept["rule"]
