"""Squared losses by XᵀX: what is a quadratic function of the weights is minimised as one, and then refined.

A solution of the normal equations has lost digits by the condition number of XᵀX. Steps of refinement, each by a
residual taken from X itself, bring them back until the correction no longer shrinks (Björck, Numerical Methods for
Least Squares Problems, 1996, section 2.9).
"""

import math

import numpy as np
import scipy.linalg

from fastgd.linear_model.quadratic import equilibrium, minimise_with_l1
from fastgd.linear_model.space import Space

# Up to so many values the residual is taken in extended precision, where the machine has one.
EXTENDED_VALUES = 1 << 15
# Below this reciprocal condition number of XᵀX it is no longer what the steps are made of.
LEAST_RECIPROCAL = 1e-10
MOST_STEPS = 20
# A duality gap of so many rounding errors of the loss is one.
OF_ROUNDING = 1e3
SVD_VALUES = 1 << 21


class NormalEquations:
    """Solves AᵀA·z = g/factor + ridge, A being the rows in the space's variables: by Cholesky, else by SVD."""

    def __init__(self, space):
        p, o = space.problem, space.problem.objective
        self.space = space
        ridge, still = space.ridge(), np.zeros(space.size)
        still[: p.d][~np.isfinite(space.scale)] = 1.0
        G = p.factor * o.gram(space.shift, space.scale, 1.0)
        G[np.diag_indices_from(G)] += ridge + still
        self.matrix, self.lost = G, 0
        self._left = None
        self.condition = None
        if p.l1:  # which has no use for an inverse
            return
        self._root = equilibrium(G)[:, None]
        G = G / self._root / self._root.T
        try:
            self._factor = scipy.linalg.cho_factor(G, check_finite=False)
            reciprocal, _ = scipy.linalg.lapack.dpocon(self._factor[0], np.linalg.norm(G, 1))
        except np.linalg.LinAlgError:
            reciprocal = 0.0
        self.condition = 1 / math.sqrt(reciprocal) if reciprocal > 0 else math.inf
        if reciprocal < LEAST_RECIPROCAL:
            self._decompose(ridge, still)

    def _decompose(self, ridge, still):
        """Singular values of A, or of its triangular factor where A is large."""
        p = self.space.problem
        extra = np.diag(np.sqrt((ridge + still) / p.factor))
        pieces = p.objective.design(self.space.shift, self.space.scale, 1.0)
        root = self._root.T
        if p.n * p.d <= SVD_VALUES:
            A = np.vstack([A for A, *_ in pieces] + ([extra] if extra.any() else [])) / root
        else:
            A = extra / root
            for piece, *_ in pieces:
                A = np.linalg.qr(np.vstack([A, piece / root]), mode="r")
        U, sizes, Vt = scipy.linalg.svd(A, full_matrices=False, check_finite=False)
        rounding = max(p.n, p.d) * np.finfo(np.float64).eps * (1 if p.eps < 1e-10 else 1e2)
        kept = sizes > rounding * sizes[0]
        self.lost = self.space.size - int(np.count_nonzero(kept))
        self.condition = float(sizes[0] / sizes[-1]) if not self.lost and sizes[-1] > 0 else math.inf
        self._basis, self._sizes = Vt[kept].T, sizes[kept]
        self._left = U[:, kept] if p.n * p.d <= SVD_VALUES else None

    def solve(self, gradient):
        if not hasattr(self, "_basis"):
            return scipy.linalg.cho_solve(self._factor, gradient / self._root, check_finite=False) / self._root
        turned = self._basis.T @ (gradient / self._root)
        return self._basis @ (turned / self._sizes[:, None] ** 2) / (self.space.problem.factor * self._root)

    def step(self, V, gradient):
        """Towards the minimum from V."""
        if self._left is None:
            return -self.solve(gradient)
        p = self.space.problem
        residual = _residual(self.space, V)
        if p.s is not None:
            residual = residual * np.sqrt(p.s.astype(np.float64))[:, None]
        extra = len(self._left) - p.n
        if extra:
            ridge = np.sqrt(self.space.ridge() / p.factor)[:, None]
            residual = np.vstack([residual, -(ridge * V)])
        return self._basis @ ((self._left.T @ residual) / self._sizes[:, None]) / self._root


def gram(problem, watch, W, b):
    """The minimum of a squared loss."""
    space = Space(problem)
    V = space.from_weights(W, b)
    equations = NormalEquations(space)
    watch.condition, watch.lost = equations.condition, equations.lost
    value, gradient = evaluate(space, V)
    refine = not problem.l1 and not problem.l2
    best, last = (V, value, gradient), math.inf
    while True:
        if problem.l1:
            c = gradient - equations.matrix @ V
            t = np.broadcast_to(space.thresholds(), V.shape)
            new = np.column_stack(
                [minimise_with_l1(equations.matrix, c[:, j], t[:, j], V[:, j]) for j in range(V.shape[1])]
            )
            step = new - V
            slope = float(np.vdot(gradient, step)) + float(np.sum(t * (np.abs(new) - np.abs(V))))
            estimate = max(0.0, -slope - 0.5 * float(np.vdot(step, equations.matrix @ step)))
        else:
            step = equations.step(V, gradient)
            new = V + step
        size = float(np.max(np.abs(step), initial=0.0))
        if watch.epochs and (not size < 0.5 * last or size <= problem.eps * float(np.max(np.abs(V)))):
            break  # the correction stagnates, or is rounding
        value, gradient = evaluate(space, new)
        total = value + space.l1_penalty(new)
        V, last, best = new, size, (new, total, gradient)
        norm = space.user_norm(space.subgradient(V, gradient))
        if watch.epoch(*space.to_weights(V), total, norm, 1.0):
            return space.to_weights(V)
        if not refine and _reached(space, watch, equations, V, total, gradient):
            return space.to_weights(V)
        if watch.epochs >= MOST_STEPS or size == 0 or (watch.epochs >= watch.max_iter and not refine):
            break
    V, total, gradient = best
    W, b = space.to_weights(V)
    if problem.l1:
        _end_by_duality(problem, watch, W, b, total, estimate)
        return W, b
    watch.reached_exactly(total, 0.5 * float(np.vdot(gradient, equations.solve(gradient))))
    watch.end("converged", "refined until the correction was rounding")
    return W, b


def _end_by_duality(problem, watch, W, b, total, estimate):
    """The end of steps that no longer shrink; what the last would have gained tells where duality does not."""
    gap = max(0.0, problem.duality_gap(W, b))
    rounding = OF_ROUNDING * problem.eps * max(total, problem.value_at_zero)
    certified = gap <= rounding or watch.would_do(total, gap)
    if not certified and estimate <= rounding:
        gap = rounding
    elif watch.tol is not None and not certified:
        watch.end("stalled", f"the gap to the minimum is still {gap / (abs(total) or 1):.1e} of it")
    if not watch.ended:
        watch.end("converged", "refined until the correction was rounding")
    watch.gap, watch.certified = gap, certified


def _reached(space, watch, equations, V, total, gradient):
    if space.problem.l1:
        return watch.reached(*space.to_weights(V), total, 0.0)
    gap = 0.5 * float(np.vdot(gradient, equations.solve(gradient)))  # of a quadratic function, and no estimate
    return watch.reached_exactly(total, gap)


def evaluate(space, V):
    """`space.evaluate`, by residuals in extended precision where the data are few."""
    p = space.problem
    if p.n * p.d > EXTENDED_VALUES or p.eps > 1e-10 or p.has_dual:  # a penalty moves the weights by far more
        return space.evaluate(V)
    residual = _residual(space, V)
    X, s = _extended_rows(space)
    weighted = residual if s is None else residual * s
    value = p.factor * 0.5 * float(np.sum(residual * weighted))
    W = V[: p.d] / space.scale[:, None]
    grad_W = -p.factor * ((X - space.shift).T @ weighted)
    if p.l2:
        value += 0.5 * p.l2 * float(np.sum(W * W))
        grad_W = grad_W + p.l2 * W
    grad_W = grad_W / space.scale[:, None]
    gradient = np.vstack([grad_W, -p.factor * weighted.sum(axis=0)]) if p.fit_intercept else grad_W
    p.passes += 1
    return value, gradient.astype(np.float64)


def _extended_rows(space):
    s = None if space.problem.s is None else space.problem.s.astype(np.longdouble)[:, None]
    return space.problem.objective.rows.extended(), s


def _residual(space, V):
    """y − Xw − b, float64."""
    p = space.problem
    X, _ = _extended_rows(space) if p.n * p.d <= EXTENDED_VALUES else (None, None)
    if X is None:
        return p.Y.astype(np.float64) - p.scores(*space.to_weights(V))
    W = V[: p.d].astype(np.longdouble) / space.scale[:, None]
    h = (X - space.shift) @ W + (V[p.d] if p.fit_intercept else 0.0)
    return (p.Y.astype(np.longdouble) - h).astype(np.float64)
