"""Squared losses by XᵀX: the minimum of the quadratic function, and then steps of iterative refinement.

A solution of the normal equations loses as many digits as the condition number of XᵀX has. Refinement with residuals
from X itself recovers them; it ends when the correction no longer shrinks (Björck, Numerical Methods for Least Squares
Problems, 1996, section 2.9).
"""

import functools
import math

import numpy as np
import scipy.linalg

from fastgd.engine.gap import lost_sentence, newton_note
from fastgd.engine.lasso import minimise_with_l1
from fastgd.engine.result import Status
from fastgd.linalg import Cholesky, add_to_diagonal, equilibrium
from fastgd.objective import design

# Values of X up to which residuals are computed in extended precision, where the machine has it (a millisecond); and up
# to which a singular value decomposition is that of X itself, not of its triangular factor (some 100 ms).
EXTENDED_VALUES = 1 << 15
SVD_VALUES = 1 << 21
REFINED = "refined until the correction was rounding"


class NormalEquations:
    """Solves AᵀA·z = g/factor + ridge, A being the rows in the variables: by Cholesky, else by SVD."""

    def __init__(self, variables):
        v, o = variables, variables.objective
        self.variables = v
        diagonal = v.diagonal()
        G = o.factor * o.gram(v.shift, v.scale, 1.0)
        add_to_diagonal(G, diagonal)
        self.matrix, self.lost = G, 0
        self._left = None
        self.condition = None
        if o.l1:  # no equations are solved
            return
        self._root = equilibrium(G)[:, None]
        G = G / self._root / self._root.T
        self._factor = Cholesky(G)
        reciprocal = self._factor.reciprocal
        self.condition = 1 / math.sqrt(reciprocal) if reciprocal > 0 else math.inf
        if reciprocal < 1e-10:  # six digits of a step would be left: singular values of X instead
            self._decompose(diagonal)

    def _decompose(self, diagonal):
        """Singular values of A, or of its triangular factor where A is large."""
        v, o = self.variables, self.variables.objective
        n, d = o.rows.n, o.rows.d
        extra = np.diag(np.sqrt(diagonal / o.factor))
        root, whole = self._root.T, n * d <= SVD_VALUES and o.rows.in_memory
        if whole:
            pieces = o.design(v.shift, v.scale, 1.0)
            A = np.vstack([A for A, *_ in pieces] + ([extra] if extra.any() else [])) / root
        else:
            columns = o.columns(v.shift, v.scale, 1.0)
            R = o.rows.reduced(design.triangle, columns, root[0], combine=design.stacked)
            A = design.stacked((extra / root,), R)[0]
        U, sizes, Vt = scipy.linalg.svd(A, full_matrices=False, check_finite=False)
        rounding = max(n, d) * np.finfo(np.float64).eps
        if o.resolution > 1e-10 and not o.l2:  # smaller singular values are rounding errors of float32 columns
            rounding = max(1e2 * rounding, o.resolution)
        kept = sizes > rounding * sizes[0]
        self.lost = v.size - int(np.count_nonzero(kept))
        self.condition = float(sizes[0] / sizes[-1]) if not self.lost and sizes[-1] > 0 else math.inf
        self._basis, self._sizes = Vt[kept].T, sizes[kept]
        self._left = U[:, kept] if whole else None

    def solve(self, gradient):
        if not hasattr(self, "_basis"):
            return self._factor.solve(gradient / self._root) / self._root
        turned = self._basis.T @ (gradient / self._root)
        return self._basis @ (turned / self._sizes[:, None] ** 2) / (self.variables.objective.factor * self._root)

    def step(self, V, gradient):
        """The step from V to the minimum."""
        if self._left is None:
            return -self.solve(gradient)
        o = self.variables.objective
        residual = _residual(self.variables, V)
        if o.sample_weight is not None:
            residual = residual * np.sqrt(o.sample_weight)[:, None]
        extra = len(self._left) - o.rows.n
        if extra:
            ridge = np.sqrt(self.variables.ridge() / o.factor)[:, None]
            residual = np.vstack([residual, -(ridge * V)])
        return self._basis @ ((self._left.T @ residual) / self._sizes[:, None]) / self._root


def gram(variables, monitor):
    """The minimum of a quadratic objective in Standardised variables, with an l1 penalty or without."""
    o = variables.objective
    equations = NormalEquations(variables)
    monitor.condition, monitor.lost = equations.condition, equations.lost
    refine = not o.l1 and not o.l2
    easy = _is_easy(variables, equations.condition)
    rounding = (32 if easy else 1) * o.eps
    if kept := monitor.resumed:
        point, last = kept["point"], kept["last"]
    else:
        point, last = monitor.point(0, variables.start), math.inf
        if monitor.see(point, tolerance=False):
            return
        if monitor.limit == 0:
            monitor.at_limit(point)
            return
    while True:
        monitor.keep(point.step, point=point, last=last)
        step, estimate = _step(variables, equations, point)
        size = float(np.max(np.abs(step), initial=0.0))
        if point.step and (not size < 0.5 * last or size <= rounding * float(np.max(np.abs(point.z)))):
            break  # the correction no longer shrinks, or is rounding error
        monitor.took(point.step, 1.0)
        new = _point(variables, monitor, point.step + 1, point.z + step, easy)
        if o.l1 and not new.fun <= point.fun + 1e-3 * abs(point.fun):  # XᵀX has lost the digits that would tell
            break
        point, last = new, size
        if monitor.see(point, tolerance=False):
            return
        last_one = point.step >= monitor.limit
        if (last_one or not refine) and _reached(monitor, equations, point):
            return
        if last_one:
            monitor.at_limit(point)
            return
        if point.step >= 20 or size == 0:  # refinement converges in two or three steps, or not at all
            break
    if o.l1:
        end_by_duality(variables, monitor, point, variables.duality_gap(point.z, point.gradient, point.fun), estimate)
        return
    if not _known(monitor, equations, point):
        monitor.end(Status.CONVERGED, REFINED, point)
        monitor.gap.certified = False  # the gradient is made of rounding errors


def _step(variables, equations, point):
    """The step to the minimum of the quadratic function, and with an l1 penalty the decrease that it promises."""
    V, gradient = point.z, point.gradient
    if not variables.objective.l1:
        return equations.step(V, gradient), math.inf
    t = np.broadcast_to(variables.thresholds(), V.shape)
    new = np.column_stack(
        [minimise_with_l1(equations.matrix, gradient[:, j], t[:, j], V[:, j]) for j in range(V.shape[1])]
    )
    step = new - V
    slope = float(np.vdot(gradient, step)) + float(np.sum(t * (np.abs(new) - np.abs(V))))
    return step, max(0.0, -slope - 0.5 * float(np.vdot(step, equations.matrix @ step)))


def _reached(monitor, equations, point):
    if monitor.variables.objective.l1:
        certificate = functools.partial(monitor.variables.duality_gap, point.z, point.gradient, point.fun)
        return monitor.reached(point, 0.0, certificate=certificate)
    return _known(monitor, equations, point)


def _known(monitor, equations, point):
    """End the run if F − min F is within the tolerance: of a quadratic function it is known, but for directions that
    are lost in rounding."""
    move = equations.solve(point.gradient)
    monitor.variables.note = lost_sentence(equations.lost) + newton_note(monitor.variables, move)
    return monitor.reached_exactly(point, 0.5 * float(np.vdot(point.gradient, move)), certified=not equations.lost)


def end_by_duality(variables, monitor, point, gap, estimate=math.inf):
    """End a run whose steps no longer shrink, with the duality gap or else the decrease that the last step promised."""
    o, rule = variables.objective, monitor.gap
    gap = max(0.0, gap)
    rounding = 1e3 * o.eps * max(rule.above_least(point.fun), rule.scale)
    certified = gap <= rounding or monitor.would_do(point.fun, gap)
    if not certified and estimate <= rounding:
        gap = rounding
    elif monitor.tolerates and not certified:
        monitor.stalled(point, gap)
    if not monitor.ended:
        monitor.end(Status.CONVERGED, REFINED, point)
    rule.gap, rule.certified = gap, certified


def _point(variables, monitor, step, V, easy):
    return monitor.evaluated(step, V, *_evaluate(variables, V, easy))


def _evaluate(variables, V, easy):
    """`variables.evaluate`, from residuals in extended precision where X is small."""
    o = variables.objective
    # With a penalty the error of a residual is far less than what the penalty changes.
    if not _in_extended_precision(o) or o.resolution > 1e-10 or o.has_dual or easy:
        return variables.evaluate(V)
    residual, s = _residual(variables, V), o.sample_weight
    weighted = residual if s is None else residual * s.astype(np.longdouble)[:, None]
    value = o.factor * 0.5 * float(np.sum(residual * weighted))
    gradient = -o.factor * _product(variables.extended_rows.T, weighted) / variables.scale[:, None]
    if o.fit_intercept:
        gradient = np.vstack([gradient, -o.factor * weighted.sum(axis=0)])
    variables.nfev, variables.njev, variables.passes = variables.nfev + 1, variables.njev + 1, variables.passes + 1
    return value + o.constant, gradient.astype(np.float64)


def _is_easy(variables, condition):
    """Whether float64 loses few digits: columns that are hardly correlated, with means that are not far off."""
    near = condition is not None and condition <= 100
    return near and bool(np.all(np.abs(variables.shift) <= 20 * variables.spread))


def _product(A, B):
    """AB in long double, of which NumPy's product of matrices takes twice the time."""
    return np.stack([np.einsum("ij,j->i", A, column) for column in B.T], axis=1)


def _in_extended_precision(o):
    return o.rows.n * o.rows.d <= EXTENDED_VALUES


def _residual(variables, V):
    """y − Xw − b, float64."""
    o = variables.objective
    if not _in_extended_precision(o):
        return o.Y.astype(np.float64) - variables.scores(V)
    d = o.rows.d
    W = V[:d].astype(np.longdouble) / variables.scale[:, None]
    h = _product(variables.extended_rows, W) + (V[d] if o.fit_intercept else 0.0)
    return (o.Y.astype(np.longdouble) - h).astype(np.float64)
