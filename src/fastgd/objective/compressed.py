"""A squared loss in compressed form: X is read once, and then a step costs O(d²) instead of O(nd).

With A = (X, 1) and y the targets, both times the root of the sample weights,

    F(z) = F(0) − cᵀz + ½·zᵀGz = ½‖Rz − t‖² + F(0) − ½‖t‖²,
    G = f·AᵀA + l2·diag(1, …, 0) = RᵀR,    c = f·Aᵀy,    t = R⁻ᵀc,

so a run uses the table (R, t) of d rows in place of (X, y), with the same kernels.
"""

import numpy as np

from fastgd.objective import curvature, design
from fastgd.objective.linear import LinearObjective
from fastgd.objective.sample import DENSE_COLUMNS
from fastgd.objective.variables import Columns, Variables

# Condition number of the Gram matrix up to which steps on it are accurate to about 1e-8 = 2.2e-16·1e8.
WELL_CONDITIONED = 1e8


class Compressed(Variables):
    """The variables of Columns, for a quadratic objective given by its Gram matrix."""

    has_bursts = True

    def __init__(self, columns):
        o = columns.objective
        super().__init__(o, columns.start.astype(np.float64))
        self._columns, self.penalised = columns, columns.penalised
        d = o.rows.d
        sums = o.rows.reduced(design.normal_equations, o.columns(np.zeros(d), np.ones(d), 1.0))
        G, c, squares = (o.factor * part for part in sums)
        G[np.diag_indices_from(G)] += o.ridge(np.ones(d))
        still = np.flatnonzero(np.diag(G) == 0)  # constant columns, whose weights do not move
        G[still, still] = 1
        eigenvalues = np.linalg.eigvalsh(G)
        self.condition = float(eigenvalues[-1] / eigenvalues[0]) if eigenvalues[0] > 0 else np.inf
        if self.condition > WELL_CONDITIONED:
            return
        R = np.linalg.cholesky(G).T
        t = np.linalg.solve(R.T, c)
        self._offset = 0.5 * squares - 0.5 * float(np.sum(t**2))
        self._table = Columns(LinearObjective(R, t.reshape(o.shape)))
        self._curvature = curvature.extremes(G, len(G), exact=True)

    @classmethod
    def of(cls, columns, steps):
        """`columns` compressed, if the objective is quadratic and that is faster for `steps` steps and accurate."""
        o = columns.objective
        n, d = o.rows.n, o.shape[0]
        # A direct step costs n·d. By BLAS, forming G costs as much as d/8 such steps. Below 2¹⁵ values of X (256 kB) a
        # step on X is as fast as one on G.
        few = o.rows.values < 1 << 15 or steps <= 4 + d / 8 or n < 2 * d
        if not o.quadratic or d > DENSE_COLUMNS or few:
            return columns
        found = cls(columns)
        if found.condition <= WELL_CONDITIONED:
            return found
        columns.note = (
            f"; by passes over X, because the condition number of the Gram matrix is {found.condition:.0e} and steps "
            "on it would lose digits"
        )
        return columns

    def evaluate(self, z, want_fun=True):
        self.nfev, self.njev = self.nfev + 1, self.njev + 1
        fun, gradient = self._table.objective.value_and_gradient_at(z)
        return fun + self._offset + self.l1_penalty(z), gradient

    def value(self, z):
        self.nfev += 1
        return self._table.objective.value_at(z) + self._offset + self.l1_penalty(z)

    def value_of_start(self):
        return self._table.objective.value_at(self.start) + self._offset + self.l1_penalty(self.start)

    @property
    def burst_values(self):
        return self._table.burst_values

    def burst(self, z, rule, *arguments):
        table = self._table
        found = table.burst(z, rule, *arguments, offset=self._offset)
        self.nfev, self.njev = self.nfev + table.nfev, self.njev + table.njev
        table.nfev = table.njev = 0
        return found

    def settle(self, z, fun, gradient):
        self.nfev, self.njev, self.passes = self.nfev + 1, self.njev + 1, self.passes + 1
        w = self.to_user(z)
        return w, *self.objective.value_and_gradient_at(w)

    def to_user(self, z):
        return z.astype(self.objective.dtype)

    def gradient_to_user(self, gradient):
        return gradient.astype(self.objective.dtype)

    def curvature(self):
        return self._curvature
