"""What estimators have of penalties: the object of their parameters, and the path of a sequence of them."""

from __future__ import annotations

import typing

import numpy as np
from sklearn.base import clone

from fastgd.descent.path import PenaltyPath, path_of
from fastgd.objective.penalty import penalty_of

if typing.TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from fastgd.types import Table


class Penalised:
    """The part of an estimator that concerns penalties."""

    def path(
        self,
        X: Table,
        y: ArrayLike | None = None,
        sample_weight: ArrayLike | None = None,
        offset: ArrayLike | None = None,
        *,
        alphas: ArrayLike | int = 100,
        eps: float = 1e-3,
    ) -> PenaltyPath:
        """Fits for a sequence of penalties, each from the minimum of the one before; the model itself stays as it is.

        The model's penalty, l1_ratio, tol and max_iter hold for each fit, its alpha does not.

        Parameters
        ----------
        X, y, sample_weight, offset
            As in `fit`.
        alphas : array_like, (m,), or int
            The penalties, positive; or how many, equally spaced in their logarithm from the least for which all weights
            are 0 down to `eps` times that.
        eps : float
            The smallest penalty, of the largest, where `alphas` is a number.

        Returns
        -------
        PenaltyPath
            A named tuple: alphas, the largest first; coefs (d, m), of several outputs (k, d, m); gaps (m,); intercepts
            (m,) or (k, m); results. `plot.path` draws it.

        Raises
        ------
        TypeError, ValueError
            An argument is not what it should be; or there is no largest penalty to begin with.
        """
        model = clone(self)
        checked = model._check_parameters()
        if checked.tol is None or checked.early_stopping or checked.bounds is not None:
            raise ValueError("path takes a tol, and neither early_stopping nor positive or bounds: leave them out")
        if self.penalty is None:
            raise ValueError('path needs a penalty, "l1", "elasticnet" or "l2"; got penalty=None')
        ratio = {"l2": 0.0, "elasticnet": float(self.l1_ratio)}.get(self.penalty, 1.0)
        X, y, activation, _, weighted, offset = model._taken(X, y, sample_weight, offset)
        objective = model._objective(X, y, activation, checked, weighted, offset)
        found = path_of(objective, alphas, eps, ratio, checked.tol, checked.max_iter)
        if self._task == "classification" and objective.rows.k == 1 and found.coefs.ndim == 3:
            found = found._replace(coefs=found.coefs[0], intercepts=found.intercepts[0])
        return found

    def _penalty(self, checked, d):
        return penalty_of(checked.l1, checked.l2, self.penalty_weights, self._groups_by_number(d), d)

    def _groups_by_number(self, d):
        """`groups` with numbers in place of the names of columns."""
        groups = self.groups
        if groups is None or not isinstance(groups, (list, tuple)) or not any(map(_is_list, groups)):
            return groups
        numbers = {name: number for number, name in enumerate(self._names_of_columns(d))}
        return [[numbers.get(column, column) for column in group] if _is_list(group) else group for group in groups]


def _is_list(group):
    return isinstance(group, (list, tuple, np.ndarray))
