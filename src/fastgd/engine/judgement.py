"""What a Monitor judges: whether a run leads away from the minimum, rests where there is none, or is near enough."""

import math

import numpy as np

from fastgd import validation
from fastgd.engine.result import Status
from fastgd.engine.tolerance import slope_from
from fastgd.errors import DivergenceError, StartError
from fastgd.linalg import euclidean_norm


class Judgement:
    """The part of a `Monitor` that tells divergence, rests that are no minimum, and gaps; see there."""

    def judge(self, point, last):
        """For steps by a rate: raise if they lead away; remember what tells."""
        if not point.finite:
            raise self.not_finite(point, last)
        if last is None:
            self.first_fun, self.first_norm = point.fun, point.norm
            return
        turned = np.vdot(point.gradient, last.gradient) < 0
        # A run may end above its beginning only where the gradient has grown, or a step has gone over a valley.
        self.rose = self.rose or point.norm > self.first_norm or bool(turned)
        away = self.overshoots.look(point, last, turned, self.update.plain) and self._is_higher(point)
        if away and not self._rises_little(point):
            self.show(point)
            raise self.diverged(point, last.lr, self.overshoots.patience.sentence)

    def _rises_little(self, point):
        """Whether a point of a function above the first is no divergence.

        Steps of Adam and its like are as long next to a minimum as elsewhere: from a start there they lead up to a
        swing about it.
        """
        little = point.fun - self.first_fun <= 0.1 * max(1.0, abs(self.first_fun))
        return little and self.gap is None and self.update.optimizer.stable_formula is None

    def _is_higher(self, point, room=0.0):
        """Whether the value is above the first, by more than `room`. A function that nobody asked for is only evaluated
        on suspicion."""
        if self.first_fun is None:
            self.first_fun = self.variables.value(self.variables.start)
        if point.fun is None:
            point.fun = self.variables.value(point.z)
        if point.fun <= self.first_fun:
            return False
        slack = room + 8 * float(np.finfo(self.variables.start.dtype).eps) * abs(self.first_fun)
        if self.variables.numerical and point.fun > self.first_fun + slack:
            slack += 4 * self.variables.noise(point.z)
        return not point.fun <= self.first_fun + slack

    def _may_have_risen(self, point):
        return point.step > 0 and (self.rose or self.variables.fun_is_free)

    def refuse_rest_above_the_start(self, point, within_tol=True):
        """Raise if a run meets its tolerance because it has leapt out to where the function is flat.

        A start that is no lower than the minimum can be, as the gap has it, was within the tolerance itself. A gradient
        of the user's may have the wrong sign, and then the run has climbed without a leap.
        """
        room = 0.0 if self.gap is None or self.gap.gap is None or not within_tol else self.gap.gap
        unknown = self.gap is None and not self.variables.numerical
        if (self._may_have_risen(point) or (unknown and point.step > 0)) and self._is_higher(point, room):
            what = "it came to rest where the value is higher than at the start"
            if unknown and not self.rose:
                what += ", as with a grad that is not the gradient of f (check_gradient shows where)"
            raise self.diverged(point, self.last_rate, what)

    def _end_at_rest(self, point, sentence):
        """End as converged, unless F falls from the bounds that hold the point, by a gradient of the user's."""
        self.refuse_rest_above_the_start(point)
        held = np.zeros(0) if self.gap is not None or self.variables.numerical else self._into_bounds(point)
        if (norm := euclidean_norm(held)) > 0:
            point.fun = self.variables.value(point.z) if point.fun is None else point.fun
            width = min(1e-5 * max(1.0, euclidean_norm(point.z)), self.update.room_inside(held / norm))
            slope, room = slope_from(self.variables, point.z, point.fun, held / norm, width)
            if slope < -0.5 * norm - room:
                message = (
                    f"stuck at the bounds: from there f changes by {slope:.3g} a unit, and by {norm:.3g} by the "
                    "gradient, so it is not the gradient of f (check_gradient shows where)"
                )
                return self.end(Status.NO_WAY_DOWN, message, point, success=False)
        return self.end(Status.CONVERGED, sentence, point)

    def _into_bounds(self, point):
        return self.update.into_bounds(point.z, point.gradient)

    def at_zero_gradient(self, point):
        """End where the gradient is zero: a numerical one up to its error."""
        if doubt := self.rule.doubt(point):
            return self.end(Status.STALLED, doubt, point, success=False)
        return self._end_at_rest(point, "the gradient is zero")

    def not_finite(self, point, last):
        """The error for a value or a gradient that is not finite."""
        if last is not None and point.step:
            return self.diverged(last, last.lr, "the value or the gradient is no longer finite", step=point.step)
        what = "the value or the gradient is not finite"
        if point.fun is not None and not np.isfinite(point.fun):
            what = f"the value is {point.fun}"
        return StartError(f"{what} at the start, x = {validation.show_point(self.variables.to_user(point.z))}")

    def diverged(self, point, lr, what, step=None, stable=None):
        """The error for a divergence noticed at `step`, with `point` as the last one worth reporting."""
        step = point.step if step is None else step
        curvature, rule, source = (
            self.variables.curvature(),
            self.update.optimizer,
            "the curvature that the last steps met",
        )
        if stable is not None:
            source = "the largest curvature of the loss of one row"
        elif curvature is not None:
            stable, source = rule.stable_rate(curvature.largest) if curvature.largest else None, "the largest curvature"
        elif self.overshoots.steps and self.overshoots.met:
            stable = rule.stable_rate(self.overshoots.met)
        source = f"{rule.stable_formula} with L {source}"
        limit = f"; the largest stable rate is about {stable:.3g} ({source})" if stable else ""
        automatic = ', or lr="auto"' if curvature is not None and rule.stable_formula else ""
        name = "gradient descent" if rule.name == "gd" else f"descent by {rule!r}"
        by = "" if lr is None else f" with learning rate {lr:.6g}"
        self.end(Status.DIVERGED, f"diverged at {self.unit} {step}", point, success=False)
        return DivergenceError(
            f"{name} diverged at {self.unit} {step}{by}: {what}{limit}. "
            f"{self.advice or f'Take a smaller lr{automatic}.'}",
            step=step, lr=lr, stable_lr=stable or None, result=self.result(),
        )  # fmt: skip

    def _is_stuck(self, point):
        """Whether a gradient of zero says nothing of a minimum."""
        if self.gap is None or self.gap.objective.convex or self.guard is not None:
            return False
        if point.fun <= self.gap.objective.least:
            return False
        at_start = np.array_equal(point.z, self.variables.start)
        where = ", where relu is flat for every row" if self.gap.objective.activation == "relu" else ""
        self._why = (
            f"the gradient is zero{' at the start' if at_start else ''}{where}; as the loss is not convex that need be "
            "no minimum. Start elsewhere (init_x), with weights that differ from 0"
        )
        return True

    # ------------------------------------------------------------- for solvers that know how far the minimum may be

    @property
    def tolerates(self):
        """Whether there is a tolerance that ends the run."""
        return self.gap is not None and self.gap.tol is not None and self.score is None

    def reached(self, point, estimate, crude=0.0, certificate=None):
        """Whether the gap is within the tolerance, given an estimate of it; ends the run if so."""
        found = self.tolerates and self.gap.reached(point.fun, estimate, crude, certificate)
        return found and self.end(Status.CONVERGED, self.gap.sentence, point)

    def reached_exactly(self, point, gap, certified=True, how="by the curvature"):
        """The same of a gap that is known, and no estimate."""
        found = self.gap.reached_exactly(point.fun, gap, certified, how)
        return self.tolerates and found and self.end(Status.CONVERGED, self.gap.sentence, point)

    def would_do(self, fun, estimate):
        return self.tolerates and self.gap.would_do(fun, estimate)

    def goal(self, fun):
        return self.gap.goal(fun) if self.tolerates else 0.0

    @property
    def uncertified(self):
        return self.gap.uncertified

    def at_rounding(self, point, estimate):
        """End where no step gets lower."""
        above = self.gap.above_least(point.fun) if self.gap.is_bounded else math.inf
        self.gap.gap, self.gap.certified = min(estimate, above), False
        return self.end(Status.CONVERGED, "no step lowers the value: it is at its rounding error", point)

    def stalled(self, point, gap):
        """End where no step gets lower, and the minimum is further away than the tolerance."""
        share = gap / (abs(self.gap.above_least(point.fun)) or 1)
        self.gap.gap, self.gap.certified = gap, False
        return self.end(
            Status.STALLED, f"the gap to the minimum is still {share:.1e} of the value", point, success=False
        )

    def wants_new_preconditioner(self):
        """Whether to rebuild the preconditioner where quasi-Newton steps would end; see `smoothing.Level`."""
        return False
