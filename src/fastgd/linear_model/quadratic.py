"""Quadratic models: the metric of some rows, the memory of steps, the minimum of a quadratic function with l1."""

import functools
import math

import numpy as np
import scipy.linalg

from fastgd.kernels.reference import softmax

# Eigenvalues below this share of the largest are rounding: directions in which the columns are collinear, where nothing
# moves. Where other rows than those of the sample may tell more of them, they get this share as their curvature
# instead.
ROUNDING, UNSEEN = 1e-13, 1e-6
# Curvatures of some rows with a reciprocal condition number below this may be those of collinear columns.
DOUBTFUL = 1e-11
# Of the search for the signs of weights with an l1 penalty.
PROXIMAL_STEPS, SAME_SIGNS, SEARCH_STEPS = 300, 10, 1000
# What is added to its diagonal, of the largest entry: where columns are collinear, or more than the rows, the matrix is
# singular, and a solution for given signs is none. The minimum is then one step of a proximal point method, from where
# the next one leads on.
HELD = 1e-11
# Steps that are remembered.
MEMORY = 10
# The weights of all outputs of a softmax have one matrix of curvatures up to this many.
JOINT_WEIGHTS = 1024


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
        self.joint, self.matrices = False, []
        self.constant = p.objective.quadratic  # the same at every V
        if diagonal or not space.has_sample:
            self._diagonal = (self._diagonal + mass * space.mean_curvature(V))[:, None]
            return
        self.joint = p.name == "softmax" and p.k * space.size <= JOINT_WEIGHTS
        self.matrices = [self._softmax(V, mass)] if self.joint else self._separate(V, mass)

    @functools.cached_property
    def _solvers(self):
        space, p = self.space, self.space.problem
        # Other rows may bend where these do not, or will on the other side of their kink.
        partial = len(space.sample) < p.n or not p.loss.smooth
        ridge = np.tile(space.ridge(), p.k if self.joint else 1)
        return [Inverse(G, partial, ridge) for G in self.matrices]

    def _separate(self, V, mass):
        """The matrices of the outputs, which are of one shape where there are several."""
        space, s = self.space, self.space.sample_weight
        if space.problem.loss.bends_everywhere or len(space.sample) == space.problem.n:
            (curvature, least), A = space.sample_curvature(V), space.sample
            means = s @ curvature
            if curvature.shape[1] > 1 and space.problem.name in ("squared_error", "softmax"):
                A = A * np.sqrt(s)[:, None]
                base, means = mass * (A.T @ A), np.maximum(means, least)
                alike = np.ptp(means) <= 1e-12 * means.max()
                return [self._held(base * m) for m in (means[:1] if alike else means)]
            rows = [(A, shares) for shares in (s[:, None] * curvature).T]  # each output has other rows that bend
        else:
            rows, least = space.rows_that_bend(V)
            means = np.array([shares.sum() for _, shares in rows])
        grams = []
        for A, shares in rows:
            A = A * np.sqrt(shares)[:, None]
            grams.append(mass * (A.T @ A))
        for G, mean, floor in zip(grams, means, least, strict=True):
            if mean < floor:
                G[np.diag_indices_from(G)] += mass * floor
        return [self._held(G) for G in grams]

    def _held(self, G):
        G[np.diag_indices_from(G)] += self._diagonal
        return G

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
        # The same added to all outputs changes nothing, and no gradient points there; let the matrix be regular. But an
        # l1 penalty does change, and its steps go there.
        alike = range(size - space.problem.fit_intercept if space.problem.l1 else 0, size)
        H.reshape(k, size, k, size)[:, alike, :, alike] += np.trace(H) / (k * k * size)
        H[np.diag_indices_from(H)] += np.tile(self._diagonal, k)
        return H

    def _each(self, functions, V):
        """Apply functions of vectors to the weights that each is for."""
        if self.joint:
            return functions[0](V.T.reshape(-1)).reshape(V.T.shape).T
        if len(functions) == 1:
            return functions[0](V)
        return np.column_stack([function(v) for function, v in zip(functions, V.T, strict=True)])

    @property
    def reciprocal(self):
        """The least reciprocal condition number of the matrices; 1 of a diagonal."""
        return min((inverse.reciprocal for inverse in self._solvers), default=1.0)

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


class Model:
    """The quadratic model of F that steps follow: a metric made at some point, and the memory of the steps since.

    Attributes
    ----------
    move, slope : the step from the last point looked at, and F's slope along it.
    toward : the step by the metric alone; `estimate` is what it is expected to gain.
    steps : how many were taken since the metric was made.
    """

    def __init__(self, space, V, diagonal=False):
        self.space = space
        self.renew(V, diagonal, ())

    def renew(self, V, diagonal=False, pairs=None):
        """A metric at V; steps that tell of rows which are not in the sample are remembered."""
        if pairs is None:
            p = self.space.problem
            sampled = p.loss.bends_everywhere and self.space.has_sample and len(self.space.sample) < p.n
            pairs = self.memory.pairs if sampled else ()
        self.metric = Metric(self.space, V, diagonal)
        self.memory, self.steps = Memory(self.metric, pairs), 0
        self._least = 1.0  # the smallest curvature met, in units of the metric

    def look(self, V, gradient):
        if self.space.problem.l1:
            self.move, self.slope, self.estimate = self.metric.proximal_move(V, gradient)
            self.toward = self.move
            return
        self.toward = -self.metric.solve(gradient)
        self.estimate = -0.5 * float(np.vdot(gradient, self.toward)) / self._least
        self.move = -self.memory.apply(gradient)
        self.slope = float(np.vdot(gradient, self.move))

    def took(self, step, change):
        """Remember a step and the change of the gradient on it."""
        self.steps += 1
        curvature = float(np.vdot(step, change))
        if curvature > 0:
            self.memory.add(step, change, curvature)
            self._least = min(self._least, max(curvature / self.metric.square(step), 1e-8))


class Memory:
    """The inverse curvature of the metric, corrected by the last steps (Nocedal 1980, the two-loop recursion).

    A diagonal is scaled to the curvature that the last step has met: that of a log loss falls on the way.
    """

    def __init__(self, metric, pairs):
        self.metric, self.pairs, self.scale = metric, list(pairs), 1.0

    def add(self, step, change, curvature):
        self.pairs = [*self.pairs[1 - MEMORY :], (step, change, 1 / curvature)]
        if not (self.metric.matrices or self.metric.constant):
            self.scale = curvature / float(np.vdot(change, self.metric.solve(change)))

    def apply(self, gradient):
        q, scales = gradient, []
        for step, change, inverse in reversed(self.pairs):
            scales.append(inverse * float(np.vdot(step, q)))
            q = q - scales[-1] * change
        q = self.scale * self.metric.solve(q)
        for (step, change, inverse), scale in zip(self.pairs, reversed(scales), strict=True):
            q = q + (scale - inverse * float(np.vdot(change, q))) * step
        return q


class Inverse:
    """The function g → G⁻¹g; by a pseudo-inverse where G is singular but for rounding.

    Rows and columns are brought to a diagonal of ones first: a penalty that is large in one of them must not make the
    others look like rounding.

    Parameters
    ----------
    sampled : bool
        Whether G is of some rows only, so that directions which it lacks may bend after all.
    ridge : (d,)
        The penalty's part of the diagonal, below which nothing bends.

    Attributes
    ----------
    reciprocal : float
        About the reciprocal of the condition number of G; 0 for a pseudo-inverse.
    """

    def __init__(self, G, sampled, ridge):
        self._root = equilibrium(G)
        G = G / self._root / self._root[:, None]
        self._factor, self.reciprocal = None, 0.0
        try:
            self._factor = scipy.linalg.cho_factor(G, check_finite=False)
            self.reciprocal, _ = scipy.linalg.lapack.dpocon(self._factor[0], np.linalg.norm(G, 1))
        except np.linalg.LinAlgError:
            pass
        if not self.reciprocal > len(G) * ROUNDING:
            self.reciprocal = 0.0
            least = (ridge / self._root**2)[ridge > 0]
            self._decompose(G, sampled, float(least.min()) if least.size else 0.0)

    def _decompose(self, G, sampled, least):
        sizes, basis = scipy.linalg.eigh(G, check_finite=False)
        if sampled:
            sizes = np.maximum(sizes, UNSEEN * sizes[-1])
        floor = len(G) * ROUNDING * sizes[-1]
        if least > len(G) * np.finfo(np.float64).eps * sizes[-1]:  # what is less is rounding, but of something
            sizes, floor = np.maximum(sizes, least), 0.0
        kept = sizes > floor
        self._basis, self._sizes = basis[:, kept], sizes[kept]

    def __call__(self, g):
        scale = self._root if g.ndim == 1 else self._root[:, None]
        if self.reciprocal > 0:
            return scipy.linalg.cho_solve(self._factor, g / scale, check_finite=False) / scale
        return self._basis @ ((self._basis.T @ (g / scale)).T / self._sizes).T / scale


def conditioning(space, metric):
    """Condition number of the columns, centred and scaled, and how many directions they lack; (None, 0) unknown.

    Where the sample is not all rows, the curvature of some of them tells whether a look at all is worth its time.
    """
    p = space.problem
    if not space.has_sample:
        return None, 0
    moving = np.flatnonzero(np.isfinite(space.scale))
    if len(space.sample) == p.n:
        A = space.sample[:, moving] * np.sqrt(space.sample_weight)[:, None]
        G = A.T @ A
    elif metric.reciprocal < DOUBTFUL:
        G = p.objective.gram(space.shift, space.scale, 1.0)[np.ix_(moving, moving)]
    else:
        return None, 0
    sizes = np.linalg.eigvalsh(G)
    lost = int(np.sum(sizes <= len(sizes) * ROUNDING * sizes[-1:]))
    return (math.inf if lost else math.sqrt(sizes[-1] / sizes[0]) if len(sizes) else 1.0), lost


def equilibrium(G):
    """Roots of the diagonal of a positive matrix, 1 where that is 0."""
    diagonal = np.diag(G)
    return np.sqrt(np.where(diagonal > 0, diagonal, 1.0))


def minimise_with_l1(H, c, thresholds, start):
    """argmin ½vᵀHv + cᵀv + Σ tⱼ|vⱼ|, exactly but for HELD, which draws towards the start.

    Accelerated proximal steps find nearly all of the signs, and feature-sign search (Lee, Battle, Raina & Ng, NIPS
    2006) the rest: it solves for the weights that are not 0 given their signs, walks there as far as the function
    falls, drops those that became 0 and adds the one that most wants to move.

    Parameters
    ----------
    H : (d, d), positive semidefinite
    c, thresholds, start : (d,)
    """
    held = HELD * float(np.max(np.diag(H), initial=0.0))
    H, c = H + held * np.eye(len(c)), c - held * start
    v = _proximal_steps(H, c, thresholds, start)
    free = thresholds == 0
    signs = np.sign(v)
    slack = 1e-13 * (np.max(np.abs(c), initial=0.0) + np.max(thresholds, initial=0.0))
    for _ in range(SEARCH_STEPS + len(c)):
        support = (signs != 0) | free
        target = np.zeros_like(v)
        if support.any():
            target[support] = _solve(H[np.ix_(support, support)], -(c + thresholds * signs)[support])
        wrong = (target * signs < 0) & ~free
        if wrong.any():
            v = _lowest_between(H, c, thresholds, v, target)
            signs = np.where(np.abs(v) > 0, np.sign(v), 0)
            continue
        v = target
        slope = np.where(support, 0.0, np.abs(H @ v + c) - thresholds)
        worst = int(np.argmax(slope))
        if slope[worst] <= slack:
            break
        signs = np.where(support, np.sign(v), 0)
        signs[worst] = -np.sign(H[worst] @ v + c[worst])
    return v


def _proximal_steps(H, c, thresholds, start):
    L = float(np.linalg.norm(H, 1))  # not below the largest eigenvalue
    x = y = start
    t = 1.0
    signs = np.sign(start)
    for i in range(1, PROXIMAL_STEPS + 1):
        v = y - (H @ y + c) / L
        new = np.sign(v) * np.maximum(np.abs(v) - thresholds / L, 0)
        if (y - new) @ (new - x) > 0:
            t = 1.0
        t_next = (1 + np.sqrt(1 + 4 * t * t)) / 2
        y = new + (t - 1) / t_next * (new - x)
        x, t = new, t_next
        if i % SAME_SIGNS == 0:
            before, signs = signs, np.sign(x)
            if np.array_equal(before, signs):
                break
    return x


def _solve(H, right):
    try:
        return scipy.linalg.cho_solve(scipy.linalg.cho_factor(H, check_finite=False), right, check_finite=False)
    except np.linalg.LinAlgError:
        return np.linalg.lstsq(H, right, rcond=None)[0]


def _lowest_between(H, c, thresholds, v, target):
    """The lowest of the points of the way from v to target where a weight is 0, and of its end."""
    move = target - v
    with np.errstate(divide="ignore", invalid="ignore"):
        crossings = np.where(v * target < 0, -v / move, np.nan)
    shares = np.unique(np.append(crossings[~np.isnan(crossings)], 1.0))
    points = v + shares[:, None] * move
    slope, bend = float((H @ v + c) @ move), float(move @ (H @ move))
    values = slope * shares + 0.5 * bend * shares**2 + np.abs(points) @ thresholds
    best = int(np.argmin(values))
    point = points[best]
    point[crossings == shares[best]] = 0.0
    return point
