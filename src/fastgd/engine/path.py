"""A path: an objective with one penalty after the other, each from the minimum of the one before.

Where coordinate descent takes them all it goes on with what it has computed of X: the measures of its columns, those
of the working set, their Gram matrix, the scores, gradient and dual point of the last minimum.
"""

import numpy as np

from fastgd.engine import plan
from fastgd.engine.coordinate import Search
from fastgd.engine.gap import GapRule
from fastgd.engine.monitor import Monitor
from fastgd.objective.standardised import Standardised


class Path:
    """The fits of one objective for a decreasing sequence of penalties.

    Parameters
    ----------
    objective : LinearObjective
        Its own l1 and l2 do not count.
    l1_ratio : float
        A penalty α has l1 = α·l1_ratio and l2 = α·(1 − l1_ratio).
    number : int
        How many penalties there are.
    """

    def __init__(self, objective, l1_ratio, *, number, tol, limit):
        self.objective, self.l1_ratio, self.number, self.tol, self.limit = objective, l1_ratio, number, tol, limit
        self._variables = self._monitor = self._search = self._last = None
        self.objective = o = self._penalised(1.0)
        _ = o.value_at_zero, o.least, o.mass  # which `replace` hands on
        self.by_coordinates = bool(o.l1 and o.has_dual and o.convex and o.smooth and o.rows.has_columns)

    def _penalised(self, alpha):
        return self.objective.replace(l1=alpha * self.l1_ratio, l2=alpha * (1 - self.l1_ratio))

    def largest(self):
        """The least α for which all weights are 0, and a little more, for rounding error."""
        return self._search_of(self._penalised(1.0))[0].largest_penalty() * (1 + 1e-12)

    def _search_of(self, o):
        """(search, monitor) for an objective."""
        self._variables = Standardised(o, roughly=True) if self._variables is None else self._variables.with_penalty(o)
        gap = GapRule(o, self.tol)
        if self._monitor is None:
            self._monitor = Monitor(self._variables, limit=self.limit, gap=gap, settles=False)
            self._monitor.solver = "coordinate"
        monitor = self._monitor.renewed(self._variables, gap)
        if self._search is None:
            self._search = Search(self._variables, monitor, self.number)
        else:
            self._search.turn_to(self._variables, monitor)
        return self._search, monitor

    def fit(self, alpha):
        """The Result for a penalty, which is no larger than the last."""
        o = self._penalised(alpha)
        if not self.by_coordinates:
            request = plan.Request(o, self.limit, solver="auto", user_columns=False, tol=self.tol, start=self._last)
            made = plan.Plan(request)
            made.watch(settles=False)
            result = made.run()
            self._last = tuple(part.astype(np.float64) for part in o.split(result.x))
        else:
            search, monitor = self._search_of(o)
            search.run()
            result = monitor.result()
        result.settings = {"alpha": alpha, "l1_ratio": self.l1_ratio}
        return result
