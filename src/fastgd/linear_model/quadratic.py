"""Quadratic models: the metric of a sample of rows, and the minimum of a quadratic function with an l1 penalty."""

import numpy as np
import scipy.linalg

from fastgd.kernels.reference import softmax

# Eigenvalues below this share of the largest are rounding: directions in which the columns are collinear, where nothing
# moves. Where other rows than those of the sample may tell more of them, they get this share as their curvature instead.
ROUNDING, UNSEEN = 1e-13, 1e-6
L1_STEPS = 20_000
# The weights of all outputs of a softmax have one matrix of curvatures up to this many.
JOINT_WEIGHTS = 1024
# A mean curvature below this says nothing of that at the minimum.
LEAST_CURVATURE = 1e-3


class Metric:
    """H ≈ the Hessian of F at V, from the rows of the space's sample.

    One matrix for each output, or one for all where they are alike; for a softmax of not too many weights, whose
    outputs bend together, one of all outputs (`joint`); a diagonal where asked for, and beyond METRIC_COLUMNS.
    """

    def __init__(self, space, V, diagonal=False):
        self.space, p = space, space.problem
        still = np.zeros(space.size)
        still[: p.d][~np.isfinite(space.scale)] = 1.0
        self._diagonal = space.ridge() + still
        mass = p.factor * p.objective.total_weight
        self.joint, self.matrices, self._solvers = False, [], []
        if diagonal or not space.has_sample:
            self._diagonal = (self._diagonal + mass * max(space.mean_curvature(V), LEAST_CURVATURE))[:, None]
            return
        self.joint = p.name == "softmax" and p.k * space.size <= JOINT_WEIGHTS
        self.matrices = [self._softmax(V, mass)] if self.joint else self._separate(V, mass)
        self._solvers = [inverse(G, len(space.sample) < p.n) for G in self.matrices]

    def _separate(self, V, mass):
        """The matrices of the outputs, which are of one shape where there are several."""
        space, s = self.space, self.space.sample_weight
        curvature, A = space.sample_curvature(V), space.sample
        means = s @ curvature
        if curvature.shape[1] == 1:
            A = A * np.sqrt(s * curvature[:, 0])[:, None]
            grams = [mass * (A.T @ A)]
            if means[0] < LEAST_CURVATURE:  # a Huber loss far from its minimum has none
                grams[0][np.diag_indices(space.size)] += LEAST_CURVATURE * mass
        else:
            A = A * np.sqrt(s)[:, None]
            base, means = mass * (A.T @ A), np.maximum(means, LEAST_CURVATURE)
            alike = np.ptp(means) <= 1e-12 * means.max()
            grams = [base * m for m in (means[:1] if alike else means)]
        for G in grams:
            G[np.diag_indices_from(G)] += self._diagonal
        return grams

    def _softmax(self, V, mass):
        """Σ s(diag(p) − ppᵀ) ⊗ xxᵀ, the weights of one output after those of the other."""
        space, s = self.space, self.space.sample_weight
        A, k, size = space.sample, self.space.problem.k, space.size
        P = softmax(A @ V)
        H = np.empty((k, size, k, size))
        for a in range(k):
            for b in range(a + 1):
                weight = mass * s * P[:, a] * ((a == b) - P[:, b])
                H[a, :, b] = H[b, :, a] = A.T @ (A * weight[:, None])
        H = H.reshape(k * size, k * size)
        # The same added to all outputs changes nothing, and no gradient points there; let the matrix be regular.
        H.reshape(k, size, k, size)[:, range(size), :, range(size)] += np.trace(H) / (k * k * size)
        H[np.diag_indices_from(H)] += np.tile(self._diagonal, k)
        return H

    def _each(self, functions, V):
        """Apply functions of vectors to the weights that each is for."""
        if self.joint:
            return functions[0](V.T.reshape(-1)).reshape(V.T.shape).T
        if len(functions) == 1:
            return functions[0](V)
        return np.column_stack([function(v) for function, v in zip(functions, V.T, strict=True)])

    def solve(self, gradient):
        """H⁻¹g."""
        return self._each(self._solvers, gradient) if self.matrices else gradient / self._diagonal

    def multiply(self, V):
        return self._each([H.__matmul__ for H in self.matrices], V) if self.matrices else self._diagonal * V

    def square(self, V):
        """VᵀHV."""
        return float(np.vdot(V, self.multiply(V)))

    def gap(self, gradient):
        """About how far F is above its minimum: ½·gᵀH⁻¹g."""
        return 0.5 * float(np.vdot(gradient, self.solve(gradient)))

    def length(self, space, V, gradient):
        return self.gap(space.subgradient(V, gradient))

    def proximal_move(self, V, gradient):
        """The step to the minimum of the quadratic model with the l1 penalty; its slope; and the model's decrease."""
        t = np.broadcast_to(self.space.thresholds(), V.shape)
        c = gradient - self.multiply(V)
        if not self.matrices:
            new = -np.sign(c) * np.maximum(np.abs(c) - t, 0) / self._diagonal
        elif self.joint:
            flat = [M.T.reshape(-1) for M in (c, t, V)]
            new = minimise_with_l1(self.matrices[0], *flat).reshape(V.T.shape).T
        else:
            matrices = self.matrices * (V.shape[1] if len(self.matrices) == 1 else 1)
            columns = zip(matrices, c.T, t.T, V.T, strict=True)
            new = np.column_stack([minimise_with_l1(*column) for column in columns])
        move = new - V
        slope = float(np.vdot(gradient, move)) + float(np.sum(t * (np.abs(new) - np.abs(V))))
        return move, slope, max(0.0, -slope - 0.5 * self.square(move))


def inverse(G, sampled):
    """The function g → G⁻¹g; a pseudo-inverse where G is singular but for rounding."""
    try:
        factor = scipy.linalg.cho_factor(G, check_finite=False)
        reciprocal, _ = scipy.linalg.lapack.dpocon(factor[0], np.linalg.norm(G, 1))
        if reciprocal > len(G) * ROUNDING:
            return lambda g: scipy.linalg.cho_solve(factor, g, check_finite=False)
    except np.linalg.LinAlgError:
        pass
    sizes, basis = scipy.linalg.eigh(G, check_finite=False)
    if sampled:
        sizes = np.maximum(sizes, UNSEEN * sizes[-1])
    kept = sizes > len(G) * ROUNDING * sizes[-1]
    basis, sizes = basis[:, kept], sizes[kept]
    return lambda g: basis @ ((basis.T @ g).T / sizes).T


def minimise_with_l1(H, c, thresholds, start):
    """argmin ½vᵀHv + cᵀv + Σ tⱼ|vⱼ|: accelerated proximal steps find which are zero, a linear system finds the rest.

    Parameters
    ----------
    H : (d, d), positive definite
    c, thresholds, start : (d,)
    """
    L = float(scipy.linalg.eigvalsh(H, subset_by_index=[len(H) - 1, len(H) - 1])[0]) * (1 + 1e-9)
    x = y = start
    t, signs, stable = 1.0, None, 0
    for _ in range(L1_STEPS):
        v = y - (H @ y + c) / L
        new = np.sign(v) * np.maximum(np.abs(v) - thresholds / L, 0)
        if (y - new) @ (new - x) > 0:
            t = 1.0
        t_next = (1 + np.sqrt(1 + 4 * t * t)) / 2
        y = new + (t - 1) / t_next * (new - x)
        moved = np.max(np.abs(new - x))
        x, t = new, t_next
        pattern = np.sign(x)
        free = thresholds == 0
        stable = stable + 1 if signs is not None and np.array_equal(pattern[~free], signs[~free]) else 0
        signs = pattern
        if stable and stable % 8 == 0:
            exact = _on_support(H, c, thresholds, signs, free)
            if exact is not None:
                return exact
        if moved <= 1e-15 * max(1e-300, np.max(np.abs(x))):
            break
    return x


def _on_support(H, c, thresholds, signs, free):
    """The minimum if it has these signs and zeros, else None."""
    support = (signs != 0) | free
    v = np.zeros_like(c)
    if support.any():
        right = -c[support] - np.where(free, 0, thresholds * signs)[support]
        try:
            factor = scipy.linalg.cho_factor(H[np.ix_(support, support)], check_finite=False)
        except np.linalg.LinAlgError:
            return None
        v[support] = scipy.linalg.cho_solve(factor, right, check_finite=False)
    wrong_sign = np.any(v[~free] * signs[~free] < 0)
    slope = H @ v + c
    slack = 1e-12 * np.max(np.abs(c), initial=0.0)
    if wrong_sign or np.any(np.abs(slope[~support]) > thresholds[~support] + slack):
        return None
    return v
