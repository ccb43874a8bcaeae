"""What ends a run besides its steps, its gradient and its callback: a value, or how little changes, or the clock."""

import time

from fastgd import validation
from fastgd.engine.result import Status
from fastgd.linalg import euclidean_norm

# A change is small when it was so in as many steps in a row: at the turn of a swing one step may change little.
STEPS_IN_A_ROW = 3


class Stopping:
    """The rules of one run.

    Parameters
    ----------
    f_tol : float, optional
        Stop when |f − f₋| ≤ f_tol·(f_tol + |f|) in three steps in a row, f₋ being the value one step before.
    x_tol : float, optional
        Stop when ‖x − x₋‖ ≤ x_tol·(x_tol + ‖x‖) in three steps in a row, in the user's units.
    target : float, optional
        Stop when f ≤ target.
    max_seconds : float, optional
        Stop when so much time has passed.
    """

    def __init__(self, f_tol=None, x_tol=None, target=None, max_seconds=None):
        self.f_tol = f_tol if f_tol is None else validation.scalar(f_tol, "f_tol", positive=True)
        self.x_tol = x_tol if x_tol is None else validation.scalar(x_tol, "x_tol", positive=True)
        self.target = target if target is None else validation.scalar(target, "target")
        self.seconds = max_seconds if max_seconds is None else validation.scalar(max_seconds, "max_seconds", minimum=0)
        self._started = time.monotonic()
        self._fun = self._x = None
        self._steady_fun = self._steady_x = 0

    @property
    def asked_for(self):
        """The tolerances, as a message names them."""
        given = {"f_tol": self.f_tol, "x_tol": self.x_tol, "target": self.target}
        return [f"{name} = {value:g}" for name, value in given.items() if value is not None]

    @property
    def wants_fun(self):
        return self.f_tol is not None or self.target is not None

    @property
    def looks_at_points(self):
        return self.wants_fun or self.x_tol is not None

    def verdict(self, x, fun, norm, moved=True):
        """(Status, sentence) if a run ends at this point; None otherwise. Without `moved` no change is looked at.

        Parameters
        ----------
        x : ndarray
            In the user's units.
        fun : float or None
        norm : float
            That of the gradient, for the sentence.
        """
        if self.target is not None and fun <= self.target:
            return Status.TARGET_REACHED, f"the value {fun:.6g} is at most target = {self.target:g}"
        if self.f_tol is not None:
            if moved and self._fun is not None:
                steady = abs(fun - self._fun) <= self.f_tol * (self.f_tol + abs(fun))
                self._steady_fun = self._steady_fun + 1 if steady else 0
            self._fun = fun
            if self._steady_fun >= STEPS_IN_A_ROW:
                return Status.VALUE_SETTLED, self._sentence("the value changed", "f_tol", self.f_tol, norm)
        if self.x_tol is not None:
            if moved and self._x is not None:
                steady = euclidean_norm(x - self._x) <= self.x_tol * (self.x_tol + euclidean_norm(x))
                self._steady_x = self._steady_x + 1 if steady else 0
            self._x = x
            if self._steady_x >= STEPS_IN_A_ROW:
                return Status.POINT_SETTLED, self._sentence("the point moved", "x_tol", self.x_tol, norm)
        return None

    @staticmethod
    def _sentence(what, name, tolerance, norm):
        return (
            f"{what} by no more than {name} = {tolerance:g} of itself in each of {STEPS_IN_A_ROW} steps; the gradient "
            f"norm is {norm:.3g}, which tells a minimum from steps that are merely short"
        )

    def out_of_time(self):
        """The sentence, if the time is up; None otherwise."""
        if self.seconds is not None and time.monotonic() - self._started >= self.seconds:
            return f"max_seconds = {self.seconds:g} have passed: raise it, or go on from a checkpoint"
        return None

    @property
    def state(self):
        """What a checkpoint keeps; the clock starts anew with each call."""
        return {
            "fun": self._fun, "x": self._x, "steady_fun": self._steady_fun, "steady_x": self._steady_x,
            "f_tol": self.f_tol, "x_tol": self.x_tol,
        }  # fmt: skip

    @state.setter
    def state(self, saved):
        self._fun, self._x = saved["fun"], saved["x"]
        # Steps that were steady by another tolerance say nothing of this one.
        self._steady_fun = saved["steady_fun"] if saved.get("f_tol") == self.f_tol else 0
        self._steady_x = saved["steady_x"] if saved.get("x_tol") == self.x_tol else 0
