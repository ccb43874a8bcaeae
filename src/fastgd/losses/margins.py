"""Losses of the margin y·h of a classifier, y = −1 or 1."""

from __future__ import annotations

import dataclasses
from typing import Literal

import numpy as np

from fastgd.losses import formulas
from fastgd.losses.formulas import BORDER
from fastgd.losses.record import Loss, Smoothing

__all__ = ["Hinge", "SquaredHinge"]
ClassificationLoss = Literal["hinge", "squared_hinge"]


class Margin(Loss):
    """What the two have in common."""

    activations = ("identity",)
    task = "classification"
    signed = True
    targets = "hold −1 and 1 for the hinge losses"

    def refused(self, y):
        return (y != 1) & (y != -1)


@dataclasses.dataclass(frozen=True, repr=False)
class Hinge(Margin):
    """max(0, 1 − y·h): the loss of linear support vector machines."""

    name = "hinge"
    kernel = "hinge"

    def facts(self, activation):
        return {
            "slope": lambda h, y: np.where(y * h < 1, -y, 0.0),
            "curvature": lambda h, y: np.zeros_like(h),
            "start": formulas.zero,
            "conjugate": lambda u, y: formulas.within((u * y >= -1 - BORDER) & (u * y <= BORDER), u * y),
            "smooth": False,
            # ½|h − y| + ½(1 − y·h), as |1 − y·h| = |h − y|.
            "smoothing": Smoothing((0.0,), lambda y: -0.5 * y, lambda y: np.full_like(y, 0.5), lambda y: 1.0),
        }


@dataclasses.dataclass(frozen=True, repr=False)
class SquaredHinge(Margin):
    """max(0, 1 − y·h)², without a half."""

    name = "squared_hinge"
    kernel = "squared_hinge"

    def bound(self, activation, y_min, y_max):
        return 2.0

    def facts(self, activation):
        return {
            "slope": lambda h, y: -2 * y * np.maximum(1 - y * h, 0),
            "curvature": lambda h, y: 2.0 * (y * h < 1),
            "start": formulas.mean,
            "conjugate": lambda u, y: formulas.within(u * y <= 0, 0.25 * (u * y) ** 2 + u * y),
        }
