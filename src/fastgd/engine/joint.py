"""The quadratic model of a softmax with an l1 penalty, in the weights of all classes, which depend on each other."""

import functools
import math

import numpy as np

from fastgd.engine.lasso import GRAM_COLUMNS, Problem, minimise_with_groups, minimise_with_l1, violations_of_groups
from fastgd.linalg import softmax

# The weights in groups of all classes have one matrix up to this many.
JOINT_WEIGHTS = 2048
# Least probability of a class, of the largest curvature p(1 − p), so that each row has some.
FLAT = 1e-10
# A matrix for each class, against epochs over the columns: the share of `gram_epochs` for each pair of classes.
PAIR = 0.2


def curvature_of_intercepts(p, weights):
    """Σ s·(diag(p) − ppᵀ), (k, k), whose rows add up to 0."""
    weighted = weights[:, None] * p
    return np.diag(weighted.sum(axis=0)) - weighted.T @ p


def inverse_curvature(p, weights):
    """The pseudo-inverse of `curvature_of_intercepts`."""
    return np.linalg.pinv(curvature_of_intercepts(p, weights), rcond=1e-13, hermitian=True)


class JointProblem(Problem):
    """A `Problem` in weights (m, k); its Hessian by the scores of a row is s·(diag(p) − ppᵀ).

    Attributes
    ----------
    weights : (n,) or (1,)
        s.
    p : (n, k)
    sums, means, bends : (m, k, k)
        See `kernels.reference.coordinates.softmax_descent`.
    """

    def __init__(self, search):
        o, self.block, self.ridges = search.objective, search.block, search.ridges[search.numbers]
        self.weights = o.factor * (np.ones(1) if o.sample_weight is None else o.sample_weight)
        p = softmax(search.h).T
        p = np.maximum(p, FLAT * float(np.max(p * (1 - p), initial=0.0)) or FLAT)
        self.p = np.asarray((p / p.sum(axis=0)).T, order=self.block.order)
        self.k, self._centred, self.matrix, self.slow, self.starts = len(p), o.fit_intercept, None, False, None
        self.worst = 0.0
        self.inverse = inverse_curvature(self.p, self.weights) if self._centred else None

    def times(self, z):
        middle = self.p @ z if z.ndim == 1 else np.einsum("ic,ic->i", self.p, z)
        return self.weights[:, None] * self.p * (z - middle[:, None])

    def best_shift(self, slopes):
        return -self.inverse @ slopes.sum(axis=0)

    def following(self, step):
        return np.einsum("jce,je->c", self.means, step)

    @functools.cached_property
    def _pairs(self):
        """((classes, others), s·p_class·p_other), which all matrices are made of: each row of one adds up to 0."""
        pairs = np.triu_indices(self.k, 1)
        return pairs, self.weights[:, None] * self.p[:, pairs[0]] * self.p[:, pairs[1]]

    def _matrices(self, products):
        """Σ c·diag(p) − ppᵀ, (…, k, k), of the sums c·p_class·p_other of the pairs, (…, pairs)."""
        (a, c), _ = self._pairs
        found = np.zeros((*products.shape[:-1], self.k, self.k))
        found[..., a, c] = found[..., c, a] = -products
        diagonal = np.arange(self.k)
        found[..., diagonal, diagonal] = -found.sum(axis=-1)
        return found

    @functools.cached_property
    def _sums(self):
        return self._matrices(self.block.transposed_product(self._pairs[1]))

    @functools.cached_property
    def _moments(self):
        products = self._pairs[1]
        squares = self._matrices(self.block.squares(products))
        sums, means = (self._sums, self.means) if self._centred else (np.zeros_like(squares),) * 2
        bends, diagonal = squares - sums @ means, np.arange(self.k)
        own = bends[:, diagonal, diagonal]
        # What is below this share of the squares is rounding.
        own = np.where(own > 1e-14 * squares[:, diagonal, diagonal], own, 0.0)
        bends[:, diagonal, diagonal] = own + self.ridges[:, None]
        return sums, means, bends

    @functools.cached_property
    def means(self):
        return self.inverse @ self._sums if self._centred else self._moments[1]

    @property
    def bends(self):
        return self._moments[2]

    def _gram_epochs(self):
        return PAIR * self.k**2 * self.block.gram_epochs if self.k * self.block.m <= GRAM_COLUMNS else math.inf

    def _descend(self, small, zeros, slopes, level, v):
        return self.block.descend_classes(self, small, zeros, slopes, level, v)[1]

    def _by_columns(self, slopes, v, small):
        return super()._by_columns(np.array(slopes, order=self.block.order), v, small)

    def _form(self, old=None):
        """The Hessian in the weights of one class after the other, and the intercepts."""
        m, k, ((a, c), products) = self.block.m, self.k, self._pairs
        H, alike = np.zeros((k, m, k, m)), np.all(products == products[0])  # as where all weights are 0
        G = self.block.gram(np.ones(1)) if alike else None
        for first, second, product in zip(a, c, products.T, strict=True):
            part = product[0] * G if alike else self.block.gram(np.ascontiguousarray(product))
            H[first, :, second] = H[second, :, first] = -part
            H[first, :, first] += part
            H[second, :, second] += part
        H = H.reshape(k * m, k * m)
        H[np.diag_indices(k * m)] += np.tile(self.ridges, k)
        if self._centred:  # eliminated by hand, the intercepts of classes that are nearly told apart would cancel
            sums = self._sums.transpose(1, 0, 2).reshape(k * m, k)
            H = np.block([[H, sums], [sums.T, curvature_of_intercepts(self.p, self.weights)]])
        self.matrix = H

    def _by_matrix(self, gradient, v, new, small):
        beside, t = self.k * self._centred, np.tile(self.thresholds, self.k)
        start, gradient = (np.append(part.T.reshape(-1), np.zeros(beside)) for part in (new, gradient))
        if new is not v:
            step = (new - v).T.reshape(-1)
            gradient += self.matrix @ np.append(step, -self.following(new - v) if beside else [])
        arguments = self.matrix, gradient, np.append(t, np.zeros(beside))
        if self.starts is None:
            found = minimise_with_l1(*arguments, start, small)
        else:
            starts = np.append(self._starts(), len(t) + 1 + np.arange(beside))
            found = minimise_with_groups(*arguments, starts, start, small)
        return np.ascontiguousarray(found[: len(t)].reshape(self.k, -1).T)

    def _starts(self):
        """`starts` of the groups of all classes."""
        own = [self.starts[:-1] + c * self.block.m for c in range(self.k)]
        return np.append(np.concatenate(own), self.k * self.block.m)

    def _minimise_groups(self, gradient, v, small):
        t = np.tile(self.thresholds, self.k)
        beyond = violations_of_groups(v.T.reshape(-1), gradient.T.reshape(-1), t, self._starts())
        if not len(v) or not np.max(beyond / t[self._starts()[:-1]]) > small:
            return None
        self._form()
        return self._by_matrix(gradient, v, v, small)
