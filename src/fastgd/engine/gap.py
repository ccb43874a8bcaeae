"""How far a point is above the minimum of an objective, and whether that is within the tolerance.

`tol` asks for F(w) − min F ≤ tol·max(F(w), ε·F(0)), ε being the rounding of the dtype, where F is measured from the
least value that the loss can have for these targets (0 for most).
"""

import functools
import math

import numpy as np

from fastgd.engine.preconditioner import Preconditioner, conditioning
from fastgd.objective.sample import Sample
from fastgd.objective.standardised import Standardised

# After so many steps whose estimated gap met the tolerance and whose duality gap did not, an estimate that is this far
# below has to do (see also `patience`); and after MOST_TRIES any that meets it, or that is within the rounding error of
# F.
CERTIFICATE_TRIES, FAR_BELOW, MOST_TRIES = 8, 1e-2, 40
# Where a duality gap is not to be had, the minimum of a quadratic model is looked for after every so-many-th look.
LOOKS = 10
# A loss is linear in parts: that much of them is made to bend where the model must tell how far the minimum is.
TRUSTED = 1e-3


class GapRule:
    """The tolerance of one run on an objective.

    Parameters
    ----------
    objective : LinearObjective or one like it
    tol : float or None
        None: nothing is within it.

    Attributes
    ----------
    gap : float or None
        What was found last: a bound of F − min F where `certified`, else an estimate.
    certified : bool
    sentence : str
        How it was found.
    patience : int
        Steps to wait for a duality gap once the estimate has met the tolerance.
    """

    def __init__(self, objective, tol):
        self.objective, self.tol = objective, tol
        self.gap, self.certified, self.sentence = None, False, ""
        self.tries, self.patience = 0, CERTIFICATE_TRIES
        self._looks = 0
        self._variables = self._preconditioner = self._built_at = None
        self._least_met = math.inf

    @functools.cached_property
    def scale(self):
        """F at W = 0 and b = 0: what is small beside it is rounding."""
        return self.above_least(self.objective.value_at_zero)

    def above_least(self, fun):
        """F above the least value that it can have; |F| where none is known."""
        return fun - self.objective.least if self.is_bounded else abs(fun)

    @property
    def is_bounded(self):
        """Whether a lower bound of the loss is known."""
        return self.objective.least > -math.inf

    def wanted(self, fun, gap=math.inf):
        """The tolerated gap, tol·max(F, ε·F(0)); F(0) is computed only where tol·F is not enough."""
        if self.tol is None:
            return -math.inf
        F = self.above_least(fun)
        return self.tol * F if gap <= self.tol * F else self.tol * max(F, self.objective.eps * self.scale)

    def goal(self, fun):
        """The gap that ends the run; 0 where none does."""
        return 0.0 if self.tol is None else self.tol * abs(self.above_least(fun))

    def would_do(self, fun, estimate):
        """Whether an estimate of the gap says that the run may end."""
        return self.tol is not None and estimate <= self.wanted(fun, estimate)

    @property
    def uncertified(self):
        """Whether duality gaps have been tried in vain, and an estimate has to do."""
        return self.objective.has_dual and self.tries >= self.patience

    def wait(self, steps):
        """Wait that long for a duality gap, within limits, where what would tell without one costs as many steps."""
        self.patience = int(min(max(steps, CERTIFICATE_TRIES), MOST_TRIES))

    def reached(self, fun, estimate, crude=0.0, certificate=None):
        """Whether the gap is within `tol`, given an estimate of it.

        A duality gap is computed where there is one and the `crude` bound of it is not far above, by `certificate`.
        """
        if self.tol is None:
            return False
        self.gap, wanted = self.rounded_up(estimate, fun), self.wanted(fun, estimate)
        F = self.above_least(fun)
        rounded_off = not self.objective.quadratic and self.objective.eps * self.scale >= F
        if self.is_bounded and (wanted >= F or rounded_off):
            self.gap, self.certified = self.rounded_up(F, fun), True
            return self._say(self._no_more_to_gain(F))
        if not estimate <= wanted:
            self.tries += estimate <= self.objective.eps * self.scale
            if self.tries < MOST_TRIES or not estimate <= self.objective.eps * self.scale:
                return False
            self.gap = self.rounded_up(estimate, fun)
            return self._say("the gap to the minimum is within the rounding error of the value, by an estimate")
        asks = certificate is not None and self.objective.has_dual
        enough = self.tries >= (self.patience if estimate <= FAR_BELOW * wanted else MOST_TRIES)
        if asks and not enough:
            self.tries += 1
            gap = certificate() if crude <= 1.1 * wanted else math.inf  # not computed where it is certain to be larger
            if not gap <= wanted:
                return False
            self.gap, self.certified = self.rounded_up(gap, fun), True
        return self._tell(fun, "by a duality gap" if self.certified else "by an estimate")

    def reached_exactly(self, fun, gap, certified=True, how="by the curvature"):
        """Whether a gap that is known, and no estimate, is within `tol`."""
        gap = min(gap, self.above_least(fun)) if self.is_bounded else gap
        self.gap, self.certified = self.rounded_up(gap, fun), certified
        return self.tol is not None and gap <= self.wanted(fun, gap) and self._tell(fun, how)

    def _tell(self, fun, how):
        bound, F = "at most" if self.certified else "about", abs(self.above_least(fun)) or 1
        if not self.objective.convex:
            return self._say(
                f"the gradient is small: a quadratic model of the loss gains {self.gap / F:.1e} of the value, within "
                f"tol = {self.tol:g}. The loss is not convex, so that there may be lower minima"
            )
        rounding = " but for the rounding error of the value" if self.gap > self.wanted(fun) else ""
        return self._say(
            f"the gap to the minimum is {bound} {self.gap / F:.1e} of the value, within tol = {self.tol:g}{rounding}, "
            f"{how}"
        )

    def _say(self, sentence):
        self.sentence = sentence
        return True

    def _no_more_to_gain(self, F):
        if self.objective.eps * self.scale >= F:
            return "the value is zero to within rounding error"
        return "the loss, which has no negative values, is itself within the tolerated gap"

    def rounded_up(self, gap, fun):
        """A gap and the rounding error of F, which is what is left of a gap of 0."""
        F = self.above_least(fun)
        if gap > 1e-9 * F:  # far above the rounding error
            return gap
        return max(gap, 0.0) + self.objective.eps * max(F, self.scale)

    # ------------------------------------------------------------------------ for loops that have no model of their own

    def judge(self, variables, point, last, slope=None):
        """Whether a point of any variables is within `tol`.

        Parameters
        ----------
        slope : ndarray, optional
            Where there are bounds or an l1 penalty: the shortest subgradient within them, in the variables.
        """
        if self.tol is None:
            return False
        self.gap, self.certified = None, False
        o, norm, F = self.objective, point.least, self.above_least(point.fun)
        if norm == 0 and o.convex:
            self.gap, self.certified = self.rounded_up(0.0, point.fun), True
            return self._say("the gradient is zero")
        if self.is_bounded and self.wanted(point.fun, F) >= F:
            self.gap, self.certified = self.rounded_up(F, point.fun), True
            return self._say(self._no_more_to_gain(F))
        if norm == 0:  # of a loss that is not convex, where that says nothing
            return False
        self._meet(point, last)
        curvature, square = variables.curvature(), norm * norm  # a power would raise where a product is inf
        limited = slope is not None or o.l1
        # Directions that are lost in rounding have no slope, but for that of a penalty.
        if curvature is not None and curvature.smallest and o.convex and not (limited and curvature.lost):
            gap = square / (2 * curvature.smallest)
            if self.reached_exactly(point.fun, gap, curvature.lost == 0):
                self.sentence += lost_sentence(curvature.lost)
                return True
            return self._at_rounding(point, square, curvature)
        # ‖g‖²/2L is never more than the gap; but the shortest subgradient jumps at the kinks of a penalty.
        bounded = curvature is not None and math.isfinite(curvature.largest)
        if bounded and not limited and square > 2 * curvature.largest * self.wanted(point.fun, 0.0):
            return self._at_rounding(point, square, curvature)
        if self._by_model(variables, point, slope):
            return True
        return bounded and self._at_rounding(point, square, curvature)

    def estimate_at_end(self, variables, point, slope=None):
        """Find the gap of the last point of a run, where `judge` could tell without it that it is not within `tol`.

        With an l1 penalty an estimate by the shortest subgradient may be far too small before the signs are found.
        """
        if (
            self.tol is not None
            and self.objective.l1
            and self.objective.has_dual
            and isinstance(variables, Standardised)
        ):
            gap = variables.duality_gap(point.z, point.gradient, point.fun)
            self.gap, self.certified = self.rounded_up(min(gap, self.above_least(point.fun)), point.fun), True
        elif self.tol is not None and self.gap is None and point.least > 0:
            self._by_model(variables, point, slope)

    def look_at_columns(self, variables, monitor):
        """Tell the monitor of the condition of the columns, where that decides which weights are found."""
        if self.objective.has_dual or not isinstance(variables, Standardised):
            return
        sample = Sample(variables)
        if not sample.exists:
            return
        if self._preconditioner is None:
            self._built_at = variables.start if self._built_at is None else self._built_at
            self._preconditioner = Preconditioner(sample, self._built_at, damping=TRUSTED)
        monitor.condition, monitor.lost = conditioning(sample, self._preconditioner)

    def change_of_weights(self, variables, point):
        """How far the weights are from those of the minimum, in words, by a Newton step; "" where that would take more
        than about a quarter of the time of the run's passes, with an l1 penalty, and for a loss with a kink."""
        o, preconditioner = self.objective, self._preconditioner
        if not (o.smooth and not o.l1 and point is not None and point.finite and np.any(point.gradient)):
            return ""
        if preconditioner is None or not o.quadratic:
            if not o.rows.in_memory:
                return ""
            sample = Sample(variables)
            products = sample.count * variables.size**2  # eight in the time of a value in a pass
            if not sample.exists or products > 2 * variables.passes * o.rows.values:
                return ""
            preconditioner = Preconditioner(sample, point.z, damping=TRUSTED)
        with np.errstate(all="ignore"):
            move = preconditioner.solve(point.gradient)
        return newton_note(variables, move)

    def _meet(self, point, last):
        """Remember the smallest curvature between points of the run."""
        if last is None:
            return
        move = point.z - last.z
        length = float(np.vdot(move, move))
        met = float(np.vdot(point.gradient - last.gradient, move)) / length if length > 0 else 0.0
        self._least_met = min(met, self._least_met) if met > 0 else self._least_met

    def _at_rounding(self, point, square, curvature):
        # A component of the gradient is a sum of rows whose rounding is about ε·√(2F·L).
        rounding = 2 * point.z.size * (8 * self.objective.eps) ** 2 * curvature.largest
        if square > rounding * abs(self.above_least(point.fun)):
            return False
        return self._say("the gradient is at its rounding error: no step can lower the value")

    def _by_model(self, variables, point, slope):
        """By ½·gᵀH⁻¹g with the curvature H of a sample at the point."""
        o = self.objective
        if isinstance(variables, Standardised):
            v, V, gradient, slope = variables, point.z, point.gradient, None
        else:
            if self._variables is None:
                self._variables = Standardised(o)
            v = self._variables
            V = v.from_user(variables.to_user(point.z))
            gradient = v.gradient_from_user(variables.gradient_to_user(point.gradient))
        preconditioner = self._preconditioner
        if preconditioner is None:
            sample = Sample(v)
            if not sample.exists:
                met = self._least_met
                estimate = 0.5 * point.least * point.least / met if math.isfinite(met) else math.inf
                return self.reached(point.fun, estimate, 0.0, lambda: v.duality_gap(V, gradient))
            self._built_at = V if self._built_at is None else self._built_at
            preconditioner = self._preconditioner = Preconditioner(sample, self._built_at, damping=TRUSTED)
        in_v = v.gradient_from_user(variables.gradient_to_user(slope)) if slope is not None else None
        slope = v.subgradient(V, gradient) if in_v is None else in_v
        estimate = self._gained(preconditioner, slope)
        if (not (o.has_dual or o.quadratic) or self.uncertified) and self.would_do(point.fun, estimate):
            # The curvature has changed on the way, and nothing else will tell how far the minimum is.
            if not o.quadratic:
                self._built_at = V
                preconditioner = self._preconditioner = Preconditioner(preconditioner.sample, V, damping=TRUSTED)
            estimate = self._gained(preconditioner, slope)
            if o.l1:
                # The shortest subgradient jumps where a weight leaves 0: what it says of the minimum may be far off.
                self._looks += 1
                looks = self._looks % LOOKS == 1
                estimate = preconditioner.proximal_move(V, gradient)[2] if looks else math.inf
        return self.reached(point.fun, estimate, v.crude_gap(gradient), lambda: v.duality_gap(V, gradient))

    def _gained(self, preconditioner, slope):
        """The decrease that a step promises; twice that for losses that may fall like an exponential (log loss)."""
        return preconditioner.gap(slope) * (1.0 if self.objective.quadratic else 2.0)

    # --------------------------------------------------------------------------------------------------- checkpoints

    @property
    def state(self):
        """What a checkpoint keeps; the preconditioner is built again at the same point."""
        names = ("gap", "certified", "sentence", "tries", "_looks", "_least_met", "_built_at")
        return {name: getattr(self, name) for name in names}

    @state.setter
    def state(self, saved):
        vars(self).update(saved)


def newton_note(variables, move):
    """By how much a Newton step would change the weights, in the user's units."""
    left = float(np.max(np.abs(variables.to_weights(move)[0]), initial=0.0))
    return f". A Newton step from here would change the weights by up to {left:.1e}"


def lost_sentence(count):
    """That weights are not determined, as the end of a message."""
    if not count:
        return ""
    return (
        f"; the weights are not determined in {count} direction{'s' * (count != 1)} in which the columns are collinear "
        "to within rounding error"
    )
