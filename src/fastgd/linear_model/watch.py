"""What looks on while a model is fitted: tolerance, history, early stopping, callbacks, interrupts.

A solver shows each epoch to its `Watch` and ends when told to; what is kept of a fit is what the watch has seen.
"""

import math
import time

import numpy as np

from fastgd.errors import import_extra
from fastgd.engine.result import Result

# After so many steps whose estimated gap met the tolerance and whose duality gap did not, an estimate that is this far
# below has to do.
CERTIFICATE_TRIES, FAR_BELOW = 8, 1e-2
# A duality gap is not taken where the crude bound of it is above this many times what is wanted.
NOT_FAR = 1.1
# Above this share of F a gap is no matter of rounding.
ROUNDED = 1e-9
# From this verbosity on a bar is shown, and no lines.
BAR = 2
HISTORY = ("loss", "validation_score", "grad_norm", "learning_rate", "seconds")


def bar(epochs):
    """A progress bar of so many epochs; an ImportError that names the extra where tqdm is not installed."""
    return import_extra("tqdm.auto", "cli", f"verbose={BAR}").tqdm(
        total=epochs, unit="epoch", mininterval=0.2, leave=False
    )


class Watch:
    """The end of a fit, and what is seen on the way to it.

    Parameters
    ----------
    problem : Problem
    tol : float or None
        The gap to the minimum that is wanted, relative to F.
    max_iter : int
        Epochs at most.
    score : callable, optional
        score(W, b) of the held-out part, weights being in the user's units; the fit then ends when it has not risen by
        more than `tol` for `patience` epochs, and the weights with the best score are kept.
    callbacks : sequence of callable
        Each is called with a Result after every epoch; StopIteration from one of them ends the fit.
    verbose : int
        1 prints a line for each epoch, BAR and more show a bar, which `close` takes away.
    """

    def __init__(self, problem, *, tol, max_iter, score=None, patience=5, callbacks=(), verbose=0):
        self.problem, self.tol, self.max_iter = problem, tol, max_iter
        self.score, self.patience, self.callbacks, self.verbose = score, patience, callbacks, verbose
        self.rows = {name: [] for name in HISTORY}
        self.status = self.message = self.gap = None
        self.certified = False
        self.condition, self.lost = None, 0
        self.epochs = self._tries = self._stale = 0
        self._best_score, self.best = -math.inf, None
        self._bar = bar(max_iter) if verbose >= BAR else None
        self._started = time.perf_counter()

    @property
    def history(self):
        return {name: np.array(values, dtype=np.float64) for name, values in self.rows.items()}

    @property
    def ended(self):
        return self.status is not None

    @property
    def seconds(self):
        """Since the fit began."""
        return time.perf_counter() - self._started

    @property
    def waits(self):
        """Whether anything wants to hear of an epoch before the next one begins."""
        return bool(self.tol is not None or self.score is not None or self.callbacks or self.verbose)

    def end(self, status, message):
        self.status, self.message = status, message
        return True

    # ------------------------------------------------------------------------------------------------------- epochs

    def epoch(self, W, b, value, norm, rate, seconds=None):
        """Look at an epoch's end, now or `seconds` after the fit began, weights in the kernels' units.

        True if the fit ends here.
        """
        self.epochs += 1
        W, b = self.problem.in_user_units(W, b)
        finite = math.isfinite(value) and bool(np.all(np.isfinite(W)) and np.all(np.isfinite(b)))
        score = math.nan
        if self.score is not None and finite:
            score = self.score(W, b)
        seconds = self.seconds if seconds is None else seconds
        for name, number in zip(HISTORY, (value, score, norm, rate, seconds), strict=True):
            self.rows[name].append(number)
        if self.verbose:
            self._say(value, score, norm, rate)
        if not finite:
            return self.end("diverged", "the loss or the weights are no longer finite")
        if self.score is None and (self.best is None or not value > self.best[2]):
            self.best, self._best_epoch = (W, b, value), self.epochs
        stale = self.score is not None and self._is_stale(W, b, value, score)
        if self._callbacks_stop(W, b, value, score, norm, rate):
            return True
        if stale:
            self.end(
                "early_stopping", f"the validation score has not risen for {self.patience} epochs; the best are kept"
            )
        return stale

    def _say(self, value, score, norm, rate):
        held_out = f", validation score {score:.6g}" if self.score is not None else ""
        if self._bar is None:
            print(f"epoch {self.epochs}: loss {value:.9g}, |gradient| {norm:.3g}, rate {rate:.3g}{held_out}")
            return
        self._bar.set_postfix_str(f"loss {value:.6g}{held_out}", refresh=False)
        self._bar.update()

    def close(self):
        """Take the bar away."""
        if self._bar is not None:
            self._bar.close()

    def stayed(self, W, b):
        """Look at the only epoch of a fit that took no step: its start could not be bettered."""
        end = self.status, self.message
        value = self.problem.sums(W, b, want_gradient=False) + self.problem.penalty(W)
        self.epoch(W, b, value, math.nan, 0.0)
        self.status, self.message = end

    def lowest(self, W, b):
        """The weights with the lowest loss, for a solver whose losses do not fall from epoch to epoch.

        Weights are in the kernels' units. The last epoch then ends at them: its numbers are theirs.
        """
        if self.best is None or self.score is not None or self.status in ("callback", "diverged"):
            return W, b
        if self._best_epoch != self.epochs:
            for name in ("loss", "grad_norm"):
                self.rows[name][-1] = self.rows[name][self._best_epoch - 1]
            self._best_epoch = self.epochs
        return self.problem.in_kernel_units(*self.best[:2])

    def _is_stale(self, W, b, value, score):
        least = 0.0 if self.tol is None else self.tol
        self._stale = 0 if score > self._best_score + least else self._stale + 1
        if score > self._best_score:
            self._best_score, self.best = score, (W, b, value)
        return self._stale >= self.patience

    def _callbacks_stop(self, W, b, value, score, norm, rate):
        seen = None
        for callback in self.callbacks:
            seen = seen or Result(
                epoch=self.epochs, coef=W.T.copy(), intercept=b.copy(), loss=value, validation_score=score,
                grad_norm=norm, learning_rate=rate,
            )  # fmt: skip
            try:
                callback(seen)
            except StopIteration:
                return self.end("callback", f"a callback stopped the fit after epoch {self.epochs}")
        return False

    @property
    def out_of_epochs(self):
        return self.epochs >= self.max_iter and self.took_all()

    def took_all(self):
        message = f"took all {self.epochs} epochs"
        if self.tol is not None and self.score is None:
            message += f" without reaching tol = {self.tol:g}: raise max_iter"
        return self.end("max_iter", message)

    # ---------------------------------------------------------------------------------------------------- tolerance

    def reached(self, W, b, value, estimate, crude=0.0, duality_gap=None):
        """Whether the gap is within `tol`, given an estimate of it; ends the fit if so.

        A duality gap is computed where there is one and the `crude` bound of it, if given, is not far above; by
        `duality_gap`, if given, else from W and b.
        """
        if self.tol is None or self.score is not None:
            return False
        self.gap, wanted = estimate, self._wanted(value, estimate)
        if value <= wanted:
            self.gap, self.certified = self._rounded_up(value, value), True
            return self.end("converged", "the loss is no larger than the gap that is wanted, and no loss is below 0")
        if not estimate <= wanted:
            return False
        if self.problem.has_dual and (self._tries < CERTIFICATE_TRIES or estimate > FAR_BELOW * wanted):
            self._tries += 1
            gap = math.inf
            if crude <= NOT_FAR * wanted:
                gap = self.problem.duality_gap(W, b) if duality_gap is None else duality_gap()
            if not gap <= wanted:
                return False
            self.gap, self.certified = self._rounded_up(gap, value), True
        bound, how = ("at most", "by a duality gap") if self.certified else ("about", "by an estimate")
        share = self.gap / (abs(value) or 1)
        return self.end("converged", f"the gap to the minimum is {bound} {share:.1e} of it, {how}")

    @property
    def uncertified(self):
        """Whether duality gaps have been tried in vain, and an estimate has to do."""
        return self.problem.has_dual and self._tries >= CERTIFICATE_TRIES

    def goal(self, value):
        """The gap that ends the fit; 0 where none does."""
        return 0.0 if self.tol is None or self.score is not None else self.tol * abs(value)

    def would_do(self, value, estimate):
        """Whether an estimate of the gap says that the fit may end."""
        return self.tol is not None and self.score is None and estimate <= self._wanted(value, estimate)

    def _wanted(self, value, gap):
        """The gap that is wanted; what is rounding beside F(0) is only looked at where it might decide."""
        if gap <= self.tol * value:
            return self.tol * value
        return self.tol * max(value, self.problem.eps * self.problem.value_at_zero)

    def _rounded_up(self, gap, value):
        """A gap and the rounding error of F, which is what is left of a gap of 0."""
        if gap > ROUNDED * value:
            return gap
        return max(gap, 0.0) + self.problem.eps * max(value, self.problem.value_at_zero)

    def reached_exactly(self, value, gap, certified=True):
        """Whether a gap that is known, and no estimate, is within `tol`; ends the fit if so."""
        gap = min(gap, value)  # no loss is negative
        self.gap, self.certified = self._rounded_up(gap, value), certified
        if self.tol is None or self.score is not None:
            return False
        if not gap <= self._wanted(value, gap):
            return False
        return self.end("converged", f"the gap to the minimum is {self.gap / (abs(value) or 1):.1e} of it")

    def bends_otherwise(self):
        """Whether the solver, asked whether it is at the end, shall look in a new metric first."""
        return False

    def at_rounding(self, estimate):
        """End where no step gets lower."""
        self.gap = estimate
        return self.end("rounding", "no step lowers the loss: it is at its rounding error")
