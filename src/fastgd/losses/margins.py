"""Losses of the margin y·h of a classifier, y = −1 or 1."""

from __future__ import annotations

import dataclasses
import math
from typing import Literal

import numpy as np

from fastgd.losses import formulas
from fastgd.losses.formulas import BORDER
from fastgd.losses.record import Loss, Smoothing

__all__ = ["Hinge", "ModifiedHuber", "Perceptron", "SquaredHinge"]
ClassificationLoss = Literal["hinge", "squared_hinge", "modified_huber", "perceptron"]


class Margin(Loss):
    """What they have in common."""

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


@dataclasses.dataclass(frozen=True, repr=False)
class ModifiedHuber(Margin):
    """max(0, 1 − y·h)² where y·h ≥ −1 and −4y·h beyond: a squared hinge that grows straight far out, with
    probabilities, (1 + h)/2 within 0 and 1 (Zhang 2004)."""

    name = "modified_huber"
    kernel = "modified_huber"
    probability_nodes = (
        "low = Max (h, minus_one)", "within = Min (low, one)", "raised = Add (one, within)", "p = Mul (half, raised)",
    )  # fmt: skip

    def bound(self, activation, y_min, y_max):
        return 2.0

    def probabilities(self, h):
        second = 0.5 * (1 + np.clip(h, -1, 1))
        return 1 - second, second

    def facts(self, activation):
        return {
            "slope": lambda h, y: np.where(y * h < -1, -4 * y, -2 * y * np.maximum(1 - y * h, 0)),
            "curvature": lambda h, y: 2.0 * ((y * h < 1) & (y * h >= -1)),
            "straight": lambda h, y: 2 * formulas.parabola(1 - y * h, 2.0),
            "start": formulas.mean,
            "conjugate": lambda u, y: formulas.within(
                (u * y <= 0) & (u * y >= -4 * (1 + BORDER)), 0.25 * (u * y) ** 2 + u * y
            ),
        }


@dataclasses.dataclass(frozen=True, repr=False)
class Perceptron(Margin):
    """max(0, −y·h): with a fixed rate, steps on single rows are Rosenblatt's perceptron.

    Its least value is that of w = 0, which tells no class. So it has no certificate, and is for partial_fit and for
    solver="sgd" with a rate, whose steps begin at w = 0 with the slope −y.
    """

    name = "perceptron"
    kernel = "perceptron"

    def least(self, y):
        return -math.inf

    def facts(self, activation):
        return {
            "slope": lambda h, y: np.where(y * h <= 0, -y, 0.0),
            "curvature": lambda h, y: np.zeros_like(h),
            "start": formulas.zero,
            "smooth": False,
            "convex": True,
        }
