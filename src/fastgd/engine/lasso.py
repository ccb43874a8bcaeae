"""The minimum of a quadratic function with an l1 penalty, from its matrix or from columns."""

import functools
import itertools
import math

import numpy as np
import scipy.linalg

from fastgd import kernels
from fastgd.engine import parametric

# Coordinate descent finds the signs, between steps to the minimum for given signs: so many epochs, and one more for so
# many columns, whose step takes longer.
EPOCHS, COLUMNS, ROUNDS = 5, 6, 500
# After so many rounds the signs are followed from breakpoint to breakpoint, where there are no more columns than this;
# so many more rounds each take a digit off what `held` leaves.
FEW_ROUNDS, MOST_EQUATIONS, DIGITS = 8, 2048, 20
# So many rounds that do not lower the value are the last.
PATIENCE = 3
# More columns than this are looked at where they have a weight, or a slope of so much of their threshold, unless these
# are the most: their matrix stays in a cache.
SMALL, NEAR, MOST = 128, 0.95, 0.7
# Rounds of descent by groups, of a few epochs and an extrapolation each.
GROUP_ROUNDS = 2000
# The gradient of a minimum, in units of the largest number that it is a sum of.
ROUNDING = 1e-13
# Up to so many columns a Gram matrix is formed at once, and up to GRAM_COLUMNS where epochs on the columns would take
# longer, as the first FEW_EPOCHS tell.
AT_ONCE, GRAM_COLUMNS, FEW_EPOCHS, MOST_EPOCHS = 64, 4096, 20, 2000
# Epochs on the Gram matrix of all columns, from a minimum nearby, before sets of them are looked at; half as many each
# time that these were needed.
EPOCHS_OF_GRAM = 40
# Epochs between extrapolations, which are left out where the logarithm of the violations falls by so much an epoch.
MEMORY, FAST = 7, math.log(2)


def minimise_with_l1(H, gradient, thresholds, start, small=0.0):
    """argmin ½vᵀHv + cᵀv + Σ tⱼ·|vⱼ|.

    Epochs of coordinate descent, each few of them followed by a step to the minimum for the signs that they have found,
    as far as the function falls on the way there (as feature-sign search: Lee, Battle, Raina & Ng, NIPS 2006).

    Parameters
    ----------
    H : (d, d), positive semidefinite
    gradient, thresholds, start : (d,)
        The gradient is that at the start, H·start + c.
    small : float
        By how much the gradient may be beyond a threshold in the end, as a share of that; 0 is to the last digit.
    """
    H, thresholds = np.ascontiguousarray(H), np.ascontiguousarray(thresholds)
    v, gradient = start.astype(np.float64), gradient.astype(np.float64)
    v[(np.diag(H) <= 0) & (np.abs(gradient) <= thresholds)] = 0.0  # there is the penalty alone
    rounding = ROUNDING * (np.max(np.abs(gradient), initial=0.0) + np.max(thresholds, initial=0.0))
    allowed, near = np.maximum(small * thresholds, rounding), None
    for _ in range(ROUNDS if len(v) > SMALL else 0):
        last, near = near, np.flatnonzero((v != 0) | (np.abs(gradient) >= NEAR * thresholds))
        if len(near) > MOST * len(v) or np.array_equal(near, last):
            break
        new = _minimise(H[near].take(near, axis=1), gradient[near], thresholds[near], v[near], small, allowed[near])
        gradient += (new - v[near]) @ H[near]
        v[near] = new
        if np.all(violations(v, gradient, thresholds) <= allowed):
            return v
    return _minimise(H, gradient, thresholds, v, small, allowed)


def _minimise(H, first, thresholds, start, small, allowed):
    """`minimise_with_l1` to the violations that are `allowed`."""
    v, gradient, fresh, least, lowest, still = start.copy(), first.copy(), True, np.inf, np.inf, 0
    # Where columns are collinear, or more than the rows, the matrix is singular: the steps are those of a proximal
    # point method, with this share of the largest entry added to the diagonal.
    held = 1e-11 * float(np.max(np.diag(H), initial=0.0))
    few = len(v) <= MOST_EQUATIONS
    for number in range(FEW_ROUNDS + DIGITS if few else ROUNDS):
        if few and number >= FEW_ROUNDS:
            v, gradient = parametric.minimum(H, gradient, thresholds, v, held)
            if np.all(violations(v, gradient, thresholds) <= allowed):
                break
            if number == FEW_ROUNDS:  # from 0 few weights come at once, where others may be stuck
                nothing = np.zeros_like(v)
                other, there = parametric.minimum(H, first - H @ start, thresholds, nothing, held)
                rise = 0.5 * float((gradient + there) @ (other - v)) + rise_of_sizes(v, other, thresholds)
                v, gradient = (other, there) if rise < 0 else (v, gradient)
        epochs = EPOCHS + int(np.count_nonzero(v)) // COLUMNS
        worst = kernels.active.gram_coordinate_descent(H, thresholds, epochs, small, gradient, v)[1]
        if worst <= small or not np.isfinite(worst):
            break
        fresh = _step(H, held, gradient, thresholds, v) and fresh
        beyond = violations(v, gradient, thresholds) / allowed
        if (worst := np.max(beyond, initial=0.0)) <= 1:
            if small or fresh or not worst < least:
                break
            gradient, fresh, least = first + H @ (v - start), True, worst
        value = 0.5 * float((first + gradient) @ (v - start)) + float(thresholds @ np.abs(v))
        still = 0 if value < lowest - ROUNDING * abs(value) else still + 1
        if still == PATIENCE:
            break
        lowest = min(value, lowest)
    return v if np.all(np.isfinite(v)) else start


def _step(H, held, gradient, thresholds, v):
    """The step to the minimum for the present signs, as far as the function falls; v and its gradient are moved."""
    free, signs = thresholds == 0, np.sign(v)
    support = np.flatnonzero((v != 0) | free)
    slope = gradient[support] + (thresholds * signs)[support]
    step = parametric.solve(H[support].take(support, axis=1), -slope, held)
    old, target = v[support], v[support] + step
    # A step that is much longer than the weights follows a rounding error of the matrix.
    if not np.max(np.abs(step), initial=0.0) <= 1e12 * (1 + np.max(np.abs(v))) or not slope @ step < 0:
        return True
    change = step @ H[support]
    if np.any((target * old < 0) & ~free[support]):
        target = _lowest_between(slope, change[support], thresholds[support], old, target)
        change = (target - old) @ H[support]
    v[support] = target
    gradient += change
    return False


def violations(v, gradient, thresholds):
    """The shortest subgradient, in size."""
    at_zero = np.maximum(np.abs(gradient) - thresholds, 0.0)
    return np.where(v != 0, np.abs(gradient + thresholds * np.sign(v)), at_zero)


def total(factors, values):
    """Σ factor·value of one or of several outputs."""
    found = factors @ values
    return float(found) if values.ndim == 1 else float(found.sum())


def sizes(v, thresholds, starts=None):
    """Σ tⱼ·|vⱼ|, or of groups that begin at `starts` Σ t_g·‖v_g‖, of one or of several outputs."""
    if starts is None:
        return total(thresholds, np.abs(v))
    return total(thresholds[starts[:-1]], norms(v, starts)) if len(v) else 0.0


def rise_of_sizes(v, new, thresholds, starts=None):
    """`sizes` of new weights less that of v, without cancellation of the sums."""
    if starts is None:
        return total(thresholds, np.abs(new) - np.abs(v))
    return total(thresholds[starts[:-1]], norms(new, starts) - norms(v, starts)) if len(v) else 0.0


def norms(v, starts):
    """‖v_g‖ of groups that begin at `starts`."""
    return np.sqrt(np.add.reduceat(v * v, starts[:-1], axis=0))


def violations_of_groups(v, gradient, thresholds, starts):
    """The shortest subgradient of each group, in size."""
    lengths, labels = norms(v, starts), np.repeat(np.arange(len(starts) - 1), np.diff(starts))
    with np.errstate(divide="ignore", invalid="ignore"):
        there = norms(gradient + thresholds * v / lengths[labels], starts)
    return np.where(lengths > 0, there, np.maximum(norms(gradient, starts) - thresholds[starts[:-1]], 0.0))


def minimise_with_groups(H, gradient, thresholds, starts, start, small):
    """argmin ½vᵀHv + cᵀv + Σ t_g·‖v_g‖; see `minimise_with_l1`, whose thresholds are alike within a group here.

    Descent by groups, each to its minimum for the others, in coordinates in which its own block of H is diagonal (its
    eigenvectors: the norm is the same); extrapolated as in `Problem`.
    """
    H, turns = H.copy(), []
    for first, last in itertools.pairwise(starts):
        group = slice(first, last)
        turns.append(scipy.linalg.eigh(H[group, group], check_finite=False)[1] if last - first > 1 else np.ones((1, 1)))
        H[group] = turns[-1].T @ H[group]
        H[:, group] = H[:, group] @ turns[-1]
        own = np.diag(np.maximum(np.diag(H[group, group]), 0.0))
        H[group, group] = own

    def turned(v, back=False):
        parts = np.split(v, starts[1:-1])
        return np.concatenate([(turn if back else turn.T) @ part for turn, part in zip(turns, parts, strict=True)])

    v, gradient, limits = turned(start), turned(gradient), thresholds[starts[:-1]].copy()
    rounding = ROUNDING * (np.max(np.abs(gradient), initial=0.0) + np.max(thresholds, initial=0.0))
    allowed = np.maximum(small * limits, rounding)
    for _ in range(GROUP_ROUNDS):
        path = [v.copy()]
        for _ in range(MEMORY):
            worst = kernels.active.gram_group_descent(H, starts, limits, 1, small, gradient, v)[1]
            path.append(v.copy())
            if not worst > small:
                break
        if not worst > 0 or np.all(violations_of_groups(v, gradient, thresholds, starts) <= allowed):
            break
        step = _extrapolation(np.array(path), v)
        change = H @ step
        rise = float(step @ (gradient + 0.5 * change)) + rise_of_sizes(v, v + step, thresholds, starts)
        if rise < 0:
            v += step
            gradient += change
    return turned(v, back=True)


def _extrapolation(path, v):
    """The step from v, the last point of the path, to the extrapolation of it (Anderson acceleration)."""
    moves = np.diff(path, axis=0)
    products = moves @ moves.T
    products[np.diag_indices_from(products)] += 1e-10 * (np.trace(products) or 1.0)
    z = np.linalg.solve(products, np.ones(len(moves)))
    return (z / z.sum()) @ path[1:] - v


def _lowest_between(slope, change, thresholds, v, target):
    """The lowest of the points of the way from v to target where a weight is 0, and of its end.

    `slope` is the subgradient at v for its signs, and `change` that of the gradient on the way.
    """
    move = target - v
    with np.errstate(divide="ignore", invalid="ignore"):
        crossings = np.where(v * target < 0, -v / move, np.inf)
    order = np.argsort(crossings)
    order = order[np.isfinite(crossings[order]) & (thresholds[order] > 0)]
    shares = np.append(crossings[order], 1.0)
    # Beyond a crossing the penalty of that weight rises by what it fell before.
    turns = np.concatenate([[0.0], 2 * thresholds[order] * np.abs(move[order])])
    start = np.concatenate([[0.0], 2 * thresholds[order] * np.abs(v[order])])
    slopes = float(slope @ move) + np.cumsum(turns)
    values = slopes * shares - np.cumsum(start) + 0.5 * float(move @ change) * shares**2
    best = int(np.argmin(values))
    point = v + shares[best] * move
    point[crossings == shares[best]] = 0.0
    return point


class GramOfAll:
    """A squared loss and its gradient, from the Gram matrix of all columns and from one point where both are known.

    Attributes
    ----------
    scale : float
        The value at that point, whose rounding error all values have.
    """

    def __init__(self, variables, point):
        v, o = variables, variables.objective
        self.d, moments, inverse = o.rows.d, o.moments, 1 / v.scale
        centred = moments.centred if o.fit_intercept else moments.about(0.0)
        self._matrix = (o.factor * inverse[:, None]) * centred * inverse
        self._diagonal = np.diag(self._matrix).copy()
        self._offsets = (moments.mean - v.shift) * inverse if o.fit_intercept else None
        self._epochs, self._ridges = EPOCHS_OF_GRAM, False
        self._start, self.scale = point.z.copy(), point.fun - o.penalty.value(v.to_weights(point.z)[0])
        self._gradient = point.gradient[: self.d] - v.ridge()[: self.d, None] * point.z[: self.d]

    def minimise(self, V, gradient, thresholds, ridges, small):
        """Move V to the minimum with the penalties; see `minimise_with_l1`."""
        self._ridges = self._ridges or bool(ridges.any())
        if self._ridges:
            self._matrix[np.diag_indices(self.d)] = self._diagonal + ridges
        for output in range(V.shape[1]):
            at, v = gradient[: self.d, output].copy(), V[: self.d, output]
            new, worst = v.copy(), math.inf
            if self._epochs:
                arguments = self._matrix, thresholds, self._epochs, small, at, new
                worst = kernels.active.gram_coordinate_descent(*arguments)[1]
            if not worst <= small:
                new, self._epochs = minimise_with_l1(self._matrix, at, thresholds, new, small), self._epochs // 2
            if self._offsets is not None:
                V[self.d, output] -= self._offsets @ (new - v)
            V[: self.d, output] = new

    def evaluate(self, V):
        """(value, gradient) of the loss; the intercept is the best one."""
        move = V[: self.d] - self._start[: self.d]
        moved = np.flatnonzero(move.any(axis=1))
        change, gradient = self._matrix[moved].T @ move[moved], np.zeros(V.shape)
        if self._ridges:  # of a penalty, which is no part of the loss
            change[moved] -= (self._matrix[moved, moved] - self._diagonal[moved])[:, None] * move[moved]
        gradient[: self.d] = self._gradient + change
        return self.scale + float(np.vdot(move, self._gradient + 0.5 * change)), gradient


class Problem:
    """A quadratic model of F in the weights of the working set, for one output.

    Attributes
    ----------
    curvature : (n,) or (1,)
        Of F by the scores.
    total : float
        Their sum.
    sums, means, bends : (m,)
        See `kernels.reference.coordinates`.
    matrix : (m, m) or None
        The Hessian, where it has been formed.
    slow : bool
        Whether steps on the columns have been tried in vain.
    worst : float
        The largest violation that `minimise` has met, of its threshold.
    """

    def __init__(self, search, curvature, old):
        """The model with these curvatures; of a quadratic objective the one with more columns than the `old`."""
        o, block = search.objective, search.block
        if curvature is None:
            s = o.sample_weight
            curvature = np.array([o.factor]) if s is None else o.factor * s
        self.block, self.curvature = block, curvature
        self.ridges = search.ridges[search.numbers]
        self.total = float(curvature.sum()) * (o.rows.n if len(curvature) == 1 else 1)
        self._centred = o.fit_intercept
        self.matrix, self.slow, self.starts, self.worst = None, old is not None and old.slow, None, 0.0
        if old is not None and old.matrix is not None and (self.slow or block.m <= AT_ONCE):
            self._form(old.matrix)

    @functools.cached_property
    def _moments(self):  # which a model at its minimum does not ask for
        sums, squares = self.block.moments(self.curvature)
        means = sums / self.total if self._centred else np.zeros(self.block.m)
        bends = squares - sums * means
        # What is below this share of the squares is rounding.
        return sums, means, np.where(bends > 1e-14 * squares, bends, 0.0)

    @property
    def sums(self):
        return self._moments[0]

    @property
    def means(self):
        return self._moments[1]

    @property
    def bends(self):
        return self._moments[2] + self.ridges

    def take_ridges(self, ridges):
        """Those of another penalty."""
        self.ridges = ridges
        if self.matrix is not None:
            self.matrix[np.diag_indices(self.block.m)] = self.bends

    def _form(self, old=None):
        """The Hessian, from that of the first columns."""
        m, first = self.block.m, 0 if old is None else len(old)
        new = self.block.gram(self.curvature, first) - np.outer(self.means, self.sums[first:])
        H = np.empty((m, m))
        H[:first, :first] = old if first else 0.0
        H[:, first:], H[first:, :] = new, new.T
        H[np.diag_indices(m)] = self.bends
        self.matrix = H

    def times(self, z):
        """What scores that change by z (n,), or by one number, change the slopes by."""
        return self.curvature * z

    def best_shift(self, slopes):
        """The change of the intercept at which the slopes of the model add up to 0."""
        return -slopes.sum() / self.total

    def following(self, step):
        """By how much the best intercept falls with a step of the weights."""
        return float(self.means @ step)

    def minimise(self, slopes, v, small, left):
        """The weights of the minimum, from v, or None where that is it; `slopes` are those at v, with the best
        intercept, and `left` is the share of the violations that the weights may have."""
        gradient = self.block.transposed_product(slopes) + (self.ridges * v.T).T
        if self.starts is not None:
            return self._minimise_groups(gradient, v, small)
        self.worst = worst = float(np.max(violations(v.T, gradient.T, self.thresholds) / self.thresholds, initial=0.0))
        if worst <= small:
            return None
        new = v
        if self.matrix is None and self.block.m > AT_ONCE:
            small = max(small, left * worst)
            new, found = self._by_columns(slopes, v.copy(), small)
            if found:
                return new
            self.slow = True
        if self.matrix is None:
            self._form()
        return self._by_matrix(gradient, v, new, small)

    def _by_matrix(self, gradient, v, new, small):
        """The minimum, from the weights `new`; the gradient is that at v."""
        if new is not v:
            gradient = gradient + self.matrix @ (new - v)
        return minimise_with_l1(self.matrix, gradient, self.thresholds, new, small)

    def _minimise_groups(self, gradient, v, small):
        if not len(v):
            return None
        worst = violations_of_groups(v, gradient, self.thresholds, self.starts) / self.thresholds[self.starts[:-1]]
        if not np.max(worst) > small:
            return None
        if self.matrix is None:
            self._form()
        return minimise_with_groups(self.matrix, gradient, self.thresholds, self.starts, v, small)

    def _by_columns(self, slopes, v, small):
        """(weights, whether they are the minimum): coordinate descent with extrapolation of every few epochs.

        Between epochs over all columns there are some in which weights that are 0 stay so, once few change.
        """
        level, path, whole, met = np.zeros(v.shape[1:] or 1), [v.copy()], True, [1.0]
        gram = self._gram_epochs()
        for epoch in range(1, 1 + MOST_EPOCHS):
            worst = self._descend(small, whole, slopes, level, v)
            if whole and not worst > small:
                return v, True
            met[0] = worst if epoch == 1 else met[0]
            new = np.count_nonzero((v != 0) != (path[-1] != 0))
            # The next epoch leaves out the columns without a weight where this one has changed less than 1 % of them.
            whole = not worst > small or (whole and new > 0.01 * v.size)
            path.append(v.copy())
            if epoch % MEMORY == 0:
                rate = math.log(max(met[-1] / worst, 1.0)) / MEMORY if worst > 0 else math.inf
                met.append(worst)
                whole, middle = True, len(met) // 2
                if epoch >= FEW_EPOCHS and worst > small:
                    left = math.log(worst / small) * MEMORY * (len(met) - 1 - middle)
                    if not left <= gram * math.log(max(met[middle] / worst, 1.0)):
                        return v, False
                slopes += self.times(level)
                level[:] = 0.0
                if rate < FAST:
                    self._extrapolate(path, slopes, v)
                path = [v.copy()]
        return v, gram == math.inf

    def _extrapolate(self, path, slopes, v):
        """Move v and its slopes to the extrapolation of the path, if F is lower there (Anderson acceleration)."""
        step = _extrapolation(np.array(path).reshape(len(path), -1), v.reshape(-1)).reshape(v.shape)
        change = self.block.product(step) - self.following(step)
        bent = self.times(change)
        rise = float(np.vdot(change, slopes + 0.5 * bent)) + total(self.ridges, step * (v + 0.5 * step))
        rise += rise_of_sizes(v, v + step, self.thresholds)
        if rise < 0:
            v += step
            slopes += bent

    def _gram_epochs(self):
        """How many epochs take as long as what is done with the matrix."""
        return self.block.gram_epochs if self.block.m <= GRAM_COLUMNS else math.inf

    def _descend(self, small, zeros, slopes, level, v):
        return self.block.descend(self, small, zeros, slopes, level, v)[1]
