"""Losses of the residual r = f − y, with any activation f; where f is the identity they are convex."""

from __future__ import annotations

import dataclasses
from typing import Literal

import numpy as np

from fastgd import validation
from fastgd.losses import bounds, formulas
from fastgd.losses.formulas import BORDER
from fastgd.losses.record import Loss, Smoothing

__all__ = ["MSE", "SSE", "EpsilonInsensitive", "Huber", "Quantile", "SquaredError"]
RegressionLoss = Literal["mse", "squared_error", "huber", "epsilon_insensitive", "quantile"]


class Residual(Loss):
    """What they have in common."""

    def absorbed(self, activation, y, s, offset):
        return (y - offset[:, None], s, 0.0) if activation == "identity" else None


@dataclasses.dataclass(frozen=True, repr=False)
class SquaredError(Residual):
    """(1/n) Σ ½(y − f)²."""

    name = "squared_error"
    kernel = "squared"
    likelihood = estimates_variance = True

    def log_likelihood(self, h, y, s):
        """With the variance that makes it largest; weights are 1/variance up to a factor."""
        s, squares = s[s > 0], s @ (y - h) ** 2
        with np.errstate(divide="ignore"):
            return 0.5 * float(np.sum(np.log(s)) - len(s) * (np.log(2 * np.pi * squares / len(s)) + 1))

    def bound(self, activation, y_min, y_max):
        return bounds.of_squares(activation, y_min, y_max)

    def facts(self, activation):
        return formulas.of_residual(
            activation,
            lambda r: r,
            np.ones_like,
            conjugate=lambda u, y: 0.5 * u * u + u * y,
            by_pass=("identity", "squared", -1.0, 1.0),
        )


@dataclasses.dataclass(frozen=True, repr=False)
class MSE(SquaredError):
    """(1/n) Σ (y − f)², without the half."""

    name = "mse"
    times = 2.0
    likelihood = False


@dataclasses.dataclass(frozen=True, repr=False)
class SSE(SquaredError):
    """½ Σ (y − f)², a sum and no mean: the sum of squared errors of the textbook."""

    name = "sse"
    times = None
    likelihood = False


@dataclasses.dataclass(frozen=True, repr=False)
class Huber(Residual):
    """½r² for |r| ≤ delta and delta(|r| − ½delta) beyond: squares, without the weight that they give to outliers.

    Parameters
    ----------
    delta : float
        In the units of y, positive.
    """

    delta: float = 1.35  # 95 % efficient on normal errors of unit variance (Huber 1981)
    name = "huber"
    kernel = "huber"
    of_epsilon = "delta"
    flat_far_out = True

    def __post_init__(self):
        object.__setattr__(self, "delta", validation.scalar(self.delta, "delta", positive=True))

    def bound(self, activation, y_min, y_max):
        return bounds.of_huber(activation, self.delta)

    def facts(self, activation):
        delta = self.delta
        return formulas.of_residual(
            activation,
            lambda r: np.clip(r, -delta, delta),
            lambda r: (np.abs(r) <= delta).astype(np.float64),
            lambda r: formulas.parabola(np.abs(r), delta),
            start=formulas.median,
            conjugate=lambda u, y: formulas.within(np.abs(u) <= delta * (1 + BORDER), 0.5 * u * u + u * y),
        )


@dataclasses.dataclass(frozen=True, repr=False)
class EpsilonInsensitive(Residual):
    """max(0, |r| − epsilon): errors up to epsilon are none; with 0 the mean absolute error.

    Parameters
    ----------
    epsilon : float
        In the units of y, not negative.
    """

    epsilon: float = 0.1  # as in LIBSVM
    name = "epsilon_insensitive"
    kernel = "epsilon_insensitive"
    of_epsilon = "epsilon"
    flat_far_out = True

    def __post_init__(self):
        object.__setattr__(self, "epsilon", validation.scalar(self.epsilon, "epsilon", minimum=0))

    def facts(self, activation):
        epsilon = self.epsilon
        found = formulas.of_residual(
            activation,
            lambda r: np.where(np.abs(r) > epsilon, np.sign(r), 0.0),
            np.zeros_like,
            start=formulas.median,
            conjugate=lambda u, y: formulas.within(np.abs(u) <= 1 + BORDER, u * y + epsilon * np.abs(u)),
            smoothing=Smoothing(
                (epsilon, -epsilon),
                np.zeros_like,
                lambda y: np.full_like(y, -epsilon),
                lambda y: max(float(np.std(y)), epsilon) or 1.0,
            ),
        )
        return {**found, "smooth": False}


@dataclasses.dataclass(frozen=True, repr=False)
class Quantile(Residual):
    """The pinball loss, quantile·(y − f) where f < y and (1 − quantile)·(f − y) else: f is the quantile of y given x.

    Parameters
    ----------
    quantile : float
        Between 0 and 1, both excluded; at 0.5 it is half the absolute error.
    """

    quantile: float = 0.5
    name = "quantile"
    kernel = "quantile"
    flat_far_out = True

    def __post_init__(self):
        quantile = validation.scalar(self.quantile, "quantile")
        if not 0 < quantile < 1:
            raise ValueError(f"quantile must be between 0 and 1, both excluded; got {quantile}")
        object.__setattr__(self, "quantile", quantile)

    def facts(self, activation):
        q = self.quantile
        found = formulas.of_residual(
            activation,
            lambda r: np.where(r > 0, 1 - q, np.where(r < 0, -q, 0.0)),
            np.zeros_like,
            start=lambda y, s: formulas.quantile(y, s, q),
            conjugate=lambda u, y: formulas.within((u >= -q - BORDER) & (u <= 1 - q + BORDER), u * y),
            smoothing=Smoothing(  # ½|r| + (½ − q)·r
                (0.0,),
                lambda y: np.full_like(y, 0.5 - q),
                lambda y: (q - 0.5) * y,
                lambda y: float(np.std(y)) or 1.0,
            ),
        )
        return {**found, "smooth": False}
