"""Stochastic steps without a rate of the user's: in standardised columns, where one follows from the loss."""

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


def refuse_penalty(rule, l1, l2):
    """Beside steps in scaled columns a penalty acts by itself: it has the length of theirs only if they follow g."""
    if (l1 or l2) and not follows_gradient(rule):
        raise ValueError(
            f"with a penalty, {type(rule).__name__} walks in the columns as they are: give a rate, or "
            'take optimizer="gd", "momentum" or "nesterov"'
        )


def in_scaled_columns(variables, monitor, rule, *, batch, seed, shuffle=True):
    """Stochastic descent without a rate, in Standardised variables; the monitor counts epochs.

    The rate is found from the curvature of the rows, and the batch grows when the loss stops falling, until steps on
    all rows take over; or the rate is halved where the rule's steps do not follow the gradient's length.
    """
    monitor.noisy = True
    if monitor.resumed is not None and "x" in monitor.resumed:
        accelerated(variables, monitor)
        return
    _InScaledColumns(variables, monitor, rule, batch, seed, shuffle).run()


class _InScaledColumns(Epochs):
    """Rows are centred and scaled on their way into the kernel."""

    def __init__(self, variables, monitor, rule, batch, seed, shuffle):
        super().__init__(variables, monitor, batch, seed, shuffle)
        o = self.objective
        refuse_penalty(rule, o.l1, o.l2)
        self.rule, self.averages = rule, type(rule) in AVERAGED
        self.source, self.shift = self.rows.scaled(variables.shift, variables.scale)
        # The kernel walks on a loss that weighs 1 for each sample.
        unit = o.factor * o.total_weight
        self.l1, self.l2, self.factor = o.l1 / unit, o.l2 / unit, o.rows.n / o.total_weight
        self.gained, self.caution, self.last = math.inf, 1.0, o.value_at_zero
        self._begin(variables.start)
        self.automatic = self.first_rate = self._rate()

    def _begin(self, V):
        """Begin at V, with a rule that knows nothing of what was before."""
        W, b = self.variables.to_weights(V)
        w = self.variables.finite_scale * W
        w = np.vstack([w, b + self.shift @ W]) if self.objective.fit_intercept else w
        self.w = np.array(w, dtype=self.objective.dtype, order="C")
        self.update = Update(self.rule, self.w)
        self._total, self._count, self._passed = 0.0, 0, 0

    def _rate(self):
        """1/(2L), L being about the curvature that a step on a batch meets in scaled columns."""
        if not follows_gradient(self.rule):
            return self.caution * ADAPTIVE_RATE
        o, n = self.objective, self.n
        typical = o.record.typical_curvature(float(np.mean(o.Y)))
        length = o.rows.d + o.fit_intercept  # of a row of centred and scaled columns, squared
        share = self._sample.largest_share
        apart = 0.0 if self.batch >= n else 1 / self.batch  # how far a batch is from all rows
        L = typical * length * (apart + share * (1 - apart)) + float(self.variables.ridge().max(initial=0.0))
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
            if self.caution > LEAST_RATE and not point.fun <= HIGHER * abs(self.objective.value_at_zero) + 1e-300:
                # The curvature was larger than it seemed: the epoch is taken again with shorter steps.
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
        """Batch and rate of the next epoch; True if the run ends here, or goes on with steps on all rows."""
        gain, n = self.last - point.fun, self.n
        slow = not gain > PROGRESS * self.gained
        if slow and not follows_gradient(self.rule):
            self.automatic /= 2
        elif slow and self.objective.smooth and self.batch < n:
            # Up to 1/share rows, longer steps would undo what more rows gain.
            self.batch = min(max(2 * self.batch, math.ceil(1 / self._sample.largest_share)), n)
            if self.batch * LEAST_LOOKS > n:
                # Little is left to chance, and steps that know it are the quicker ones.
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
        """Rows between two looks at the weights, and between two times that the penalties act."""
        length = max(1, min(SCALED_VALUES // self.rows.d, self.n // LOOKS) // self.batch) * self.batch
        return min(length, PENALTY_STEPS * self.batch) if self.l1 or self.l2 else length

    def _take(self, part, rates):
        o, w = self.objective, self.w
        self.source.stochastic(
            w, *o.codes, self.factor, 0.0, part, self.batch, True, rates, self.update.kernel_arguments
        )  # fmt: skip
        self.update.took(len(rates))
        self._shrink(float(rates.sum()))
        self._passed += len(part)
        if self.averages and self.batch * LEAST_LOOKS <= self.n and self._passed > BURNED * self.n:
            self._total, self._count = self._total + w, self._count + 1

    def _shrink(self, length):
        """The penalties, which act on V/scale, differently on each column."""
        V, scale = self.w[: self.rows.d], self.variables.scale[:, None]
        if self.l2:
            V *= np.exp(-length * self.l2 / scale**2)
        if self.l1:
            np.copyto(V, soft_threshold(V, length * self.l1 / scale))

    def _end_of_epoch(self):
        """The weights that an epoch has come to, where the next one begins."""
        d, w = self.rows.d, self.w
        if self._count:
            mean = self._total / self._count
            if self.l1:  # what it has put at 0 stays there
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
