"""The penalty of an objective: its value, its proximal step, its dual norm, and its share of a duality gap.

    Ω(W) = ½·l2·Σ pⱼ·wⱼ² + l1·Σ pⱼ·|wⱼ|,    with groups    ½·l2·‖W‖² + l1·Σ p_g·‖w_g‖

for each output, and the sum of them. Without factors all p are 1. What the l1 part takes together, a weight or a group
of them in one output, is called a unit here.
"""

import dataclasses
import functools

import numpy as np

from fastgd import validation


@dataclasses.dataclass(frozen=True, eq=False)
class Groups:
    """Groups of columns, each column in one.

    Parameters
    ----------
    labels : (d,) of intp
        The number of the group of each column.
    factors : (groups,) float64
        p_g, the square roots of the sizes unless others are given.
    """

    labels: np.ndarray
    factors: np.ndarray

    @functools.cached_property
    def of_columns(self):
        """p_g of the group of each column, (d,)."""
        return self.factors[self.labels]

    def norms(self, W):
        """‖w_g‖ of each output, (groups, k), without overflow."""
        largest = float(np.max(np.abs(W), initial=0.0))
        if not 0 < largest < np.inf:
            return np.full((len(self.factors), W.shape[1]), largest)
        squares = np.square(W / largest)
        sums = [np.bincount(self.labels, squares[:, j], len(self.factors)) for j in range(W.shape[1])]
        return largest * np.sqrt(np.column_stack(sums))


@dataclasses.dataclass(frozen=True, eq=False)
class Penalty:
    """Ω, see above.

    Parameters
    ----------
    l1, l2 : float
    weights : (d,) float64, optional
        pⱼ.
    groups : Groups, optional
    """

    l1: float
    l2: float
    weights: np.ndarray | None = None
    groups: Groups | None = None

    def value(self, W):
        """Ω(W)."""
        if self.weights is None and not self.l1 and W.dtype == np.float64:
            return 0.5 * self.l2 * float(np.vdot(W, W)) if self.l2 else 0.0
        p = 1.0 if self.weights is None else self.weights[:, None]
        total = 0.5 * self.l2 * float(np.sum(p * np.square(W, dtype=np.float64))) if self.l2 else 0.0
        return total + self.l1 * self.size(W) if self.l1 else total

    def size(self, W):
        """The l1 part for l1 = 1."""
        if self.groups is not None:
            return float(np.sum(self.groups.factors @ self.groups.norms(W)))
        sizes = np.abs(W)
        return float((sizes if self.weights is None else self.weights[:, None] * sizes).sum(dtype=np.float64))

    def l1_of_columns(self):
        """l1 times the factor of each column or of its group, (d, 1); one number where it is that of all."""
        if self.groups is not None:
            return self.l1 * self.groups.of_columns[:, None]
        return self.l1 if self.weights is None else self.l1 * self.weights[:, None]

    def l2_of_columns(self):
        """l2 times the factor of each column, (d, 1); one number where it is that of all."""
        return self.l2 if self.weights is None else self.l2 * self.weights[:, None]

    def units(self, v):
        """The sizes of units, each over its factor: |vⱼ|/pⱼ or ‖v_g‖/p_g, a row for each."""
        if self.groups is not None:
            return self.groups.norms(v) / self.groups.factors[:, None]
        return np.abs(v) if self.weights is None else np.abs(v) / self.weights[:, None]

    def dual_norm(self, v):
        """The least l1 for which v would be a subgradient at W = 0, of each output, (k,)."""
        return self.units(v).max(axis=0, initial=0.0)

    def parted(self, v):
        """v (d, k) as what of it is within l1, each unit projected, and what is beyond: the proximal step of v."""
        if self.groups is None:
            l1 = self.l1_of_columns()
            return np.clip(v, -l1, l1), np.sign(v) * np.maximum(np.abs(v) - l1, 0.0)
        norms, l1 = self.groups.norms(v), self.l1 * self.groups.factors[:, None]
        shares = np.divide(l1, norms, out=np.ones_like(norms), where=norms > l1)[self.groups.labels]
        return v * shares, v * (1 - shares)

    def fenchel_gap(self, W, v):
        """Ω(W) + Ω*(−v) + W·v, for v within l1 where there is no l2."""
        if not self.l2:
            return self.l1 * self.size(W) + float(np.vdot(W, v))
        # ½l2·w² + l1·|w| + w·v + beyond²/2l2, as a square and what is left: both are at least 0, and nothing cancels.
        (within, beyond), l2 = self.parted(v), self.l2_of_columns()
        squares, products = float(np.sum((l2 * W + beyond) ** 2 / (2 * l2))), W * within
        if self.groups is None:
            return squares + float(np.sum(self.l1_of_columns() * np.abs(W) + products))
        sums = [np.bincount(self.groups.labels, each, len(self.groups.factors)) for each in products.T]
        return squares + float(
            np.sum(self.l1 * self.groups.factors[:, None] * self.groups.norms(W) + np.column_stack(sums))
        )


def penalty_of(l1, l2, weights, groups, d):
    """The Penalty of d columns, given what a user gives: `penalty_weights` and `groups`; ValueError for what is none.

    Parameters
    ----------
    weights : array_like, (d,), or (groups,) where there are groups, optional
    groups : array_like of labels, (d,), or list of lists of numbers of columns, optional
        Of labels group j is the one with the j-th smallest label.
    """
    if groups is None:
        return Penalty(l1, l2, validation.penalty_weights(weights, d))
    labels = _of_lists(groups, d) if _holds_lists(groups) else _of_labels(groups, d)
    sizes = np.bincount(labels)
    factors = np.sqrt(sizes)
    if weights is not None:
        factors = validation.real_array(weights, "penalty_weights", ndim=1, dtype=np.float64)
        if factors.shape != sizes.shape or not np.all(factors > 0):
            raise ValueError(
                f"penalty_weights must be a positive number for each of the {len(sizes)} groups; got {factors}"
            )
    return Penalty(l1, l2, None, Groups(labels, factors))


def _holds_lists(groups):
    return isinstance(groups, (list, tuple)) and any(isinstance(one, (list, tuple, np.ndarray)) for one in groups)


def _of_labels(groups, d):
    labels = np.asarray(groups)
    if labels.shape != (d,) or labels.dtype.kind not in "iuUSOb":
        raise ValueError(
            f"groups must be a label, a whole number or a string, for each of the {d} columns, or a list of lists of "
            f"columns; got {validation.describe(groups)}"
        )
    try:
        return np.unique(labels, return_inverse=True)[1].astype(np.intp)
    except TypeError:
        raise TypeError(f"groups must hold labels of one kind, numbers or strings; got {groups!r}") from None


def _of_lists(groups, d):
    labels = np.full(d, -1, np.intp)
    for number, group in enumerate(groups):
        if not isinstance(group, (list, tuple, np.ndarray)) or not len(group):
            raise ValueError(f"groups must be lists of columns, none empty; groups[{number}] is {group!r}")
        for column in group:
            whole = isinstance(column, (int, np.integer)) and not isinstance(column, (bool, np.bool_))
            if not (whole and 0 <= column < d):
                raise ValueError(f"groups[{number}] holds {column!r}, and X has the columns 0 to {d - 1}")
            if labels[column] >= 0:
                raise ValueError(f"groups must not overlap; column {column} is in groups {labels[column]} and {number}")
            labels[column] = number
    if len(left := np.flatnonzero(labels < 0)):
        raise ValueError(
            f"groups must hold every column; column {left[0]} is in none: give it a group of its own, [{left[0]}]"
        )
    return labels
