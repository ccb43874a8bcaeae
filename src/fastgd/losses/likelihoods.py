"""Negative log-likelihoods by the link that makes them convex."""

from __future__ import annotations

import dataclasses
from typing import Literal

import numpy as np

from fastgd import validation
from fastgd.linalg import softmax
from fastgd.losses import formulas
from fastgd.losses.formulas import activated, xlogx
from fastgd.losses.record import Loss

__all__ = ["Gamma", "LogLoss", "Poisson", "Tweedie"]
RegressionLoss = Literal["poisson", "gamma", "tweedie"]
ClassificationLoss = Literal["log", "log_loss"]


@dataclasses.dataclass(frozen=True, repr=False)
class LogLoss(Loss):
    """Cross-entropy: −y log f − (1 − y) log(1 − f) with the sigmoid, −Σ y log f with the softmax."""

    name = "log_loss"
    synonyms = ("log",)
    kernel = "log"
    activations = ("sigmoid", "softmax")
    link = "sigmoid"
    task = "classification"
    targets = "be between 0 and 1 for the log loss"
    separable = True

    def refused(self, y):
        return (y < 0) | (y > 1)

    def bound(self, activation, y_min, y_max):  # p(1 − p) ≤ ¼; and diag(p) − ppᵀ ≤ ½
        return 0.25 if activation == "sigmoid" else 0.5

    def facts(self, activation):
        if activation == "softmax":
            return {
                "slope": lambda h, y: softmax(h) - y,
                "curvature": lambda h, y: (p := softmax(h)) * (1 - p),
                "start": formulas.log_priors,
                "conjugate": lambda u, y: xlogx(u + y),  # summed over the outputs by whoever sums
            }
        return {
            "slope": lambda h, y: activated(h, "sigmoid") - y,
            "curvature": lambda h, y: activated(h, "sigmoid", derivative=True),
            "start": formulas.log_odds,
            "conjugate": lambda u, y: xlogx(u + y) + xlogx(1 - (u + y)),
            "entropy": True,
            # Half a squared error has the slope (f − y)f', and 2⁶⁰ takes in any f between 0 and 1.
            "by_pass": ("sigmoid", "squared", -(2.0**60), 2.0**60),
        }


@dataclasses.dataclass(frozen=True, repr=False)
class Poisson(Loss):
    """f − y log f with f = exp(Xw + b): the negative log-likelihood of counts, less log y!; half the deviance, but for
    what depends on y alone."""

    name = "poisson"
    kernel = "poisson"
    activations = ("exp",)
    link = "exp"
    targets = 'not be negative for loss="poisson"'

    def refused(self, y):
        return y < 0

    def least(self, y):
        y = y.astype(np.float64)
        return y - y * np.log(np.where(y > 0, y, 1.0))

    def facts(self, activation):
        return {
            "slope": lambda h, y: np.exp(h) - y,
            "curvature": lambda h, y: np.exp(h),
            "start": formulas.log_mean,
            "conjugate": lambda u, y: xlogx(u + y) - (u + y),
            "entropy": True,
            "by_pass": ("exp", "poisson", 0.0, 1.0),
        }


@dataclasses.dataclass(frozen=True, repr=False)
class Gamma(Loss):
    """y/f − log(y/f) − 1 with f = exp(Xw + b): half the gamma deviance, of positive targets whose spread grows like
    their mean."""

    name = "gamma"
    kernel = "gamma"
    activations = ("exp",)
    link = "exp"
    targets = 'be positive for loss="gamma"'
    deviance = True

    def refused(self, y):
        return y <= 0

    def least(self, y):
        return 1 + np.log(y.astype(np.float64))

    def typical_curvature(self, activation, mean, from_zero):  # y/f
        return max(mean, 1.0) if from_zero else 1.0

    def facts(self, activation):
        return {
            "slope": lambda h, y: 1 - y * np.exp(-h),
            "curvature": lambda h, y: y * np.exp(-h),
            "start": lambda y, s: np.log(formulas.mean(y, s)),
            "conjugate": _gamma_conjugate,
            "entropy": True,
        }


def _gamma_conjugate(u, y):
    with np.errstate(invalid="ignore"):
        return xlogx(1 - u) - (1 - u) * np.log(y) - (1 - u)


@dataclasses.dataclass(frozen=True, repr=False)
class Tweedie(Loss):
    """f^(2 − p)/(2 − p) + y·f^(1 − p)/(p − 1) with f = exp(Xw + b), less its least value: half the deviance of sums of
    a Poisson number of gamma-distributed amounts, such as claims, which are 0 or positive (Jørgensen 1987).

    Parameters
    ----------
    power : float
        p, between 1 and 2, both excluded: the variance grows like the mean to this power.
    """

    power: float = 1.5
    name = "tweedie"
    kernel = "tweedie"
    activations = ("exp",)
    link = "exp"
    targets = 'not be negative for loss="tweedie"'
    deviance = True

    def __post_init__(self):
        power = validation.scalar(self.power, "power")
        if not 1 < power < 2:
            raise ValueError(
                f'power must be between 1 and 2, both excluded (1 is loss="poisson", 2 loss="gamma"); got {power:g}'
            )
        object.__setattr__(self, "power", power)

    def refused(self, y):
        return y < 0

    def least(self, y):
        return y.astype(np.float64) ** (2 - self.power) / ((self.power - 1) * (2 - self.power))

    def typical_curvature(self, activation, mean, from_zero):
        p, near = self.power, max(mean, 1e-3) ** (2 - self.power)
        return max(near, (p - 1) * mean + 2 - p) if from_zero else near

    def facts(self, activation):
        p = self.power

        def share(h, y):
            return np.where(y > 0, y * np.exp((1 - p) * h), 0.0)

        return {
            "slope": lambda h, y: np.exp((2 - p) * h) - share(h, y),
            "curvature": lambda h, y: (2 - p) * np.exp((2 - p) * h) + (p - 1) * share(h, y),
            "start": formulas.log_mean,
            "conjugate": lambda u, y: _tweedie_conjugate(u, y, p - 1, 2 - p),
        }


def _tweedie_conjugate(u, y, a, b):
    """u·h − e^(bh)/b − y·e^(−ah)/a at the h where the slope e^(bh) − y·e^(−ah) is u.

    In logarithms, log(u + y·e^(−ah)) = bh for a u > 0 and log(e^(bh) − u) + ah = log y else, the equation is concave or
    convex, so that Newton's method from the side that is taken comes to h without overshooting.
    """
    with np.errstate(all="ignore"):
        log_y, log_u = np.log(y), np.log(np.abs(u))
        up = u >= 0
        h = np.where(up, np.maximum(log_y, log_u / b), np.minimum(log_y, (log_y - log_u) / a))
        for _ in range(100):
            grown = np.where(up, log_y - a * h, b * h)
            total = np.logaddexp(log_u, grown)
            part = np.exp(grown - total)
            step = np.where(up, (b * h - total) / (b + a * part), (total + a * h - log_y) / (a + b * part))
            h = h - step
            if not np.any(np.abs(step) > 1e-15 * np.maximum(1, np.abs(h))):
                break
        found = u * h - np.exp(b * h) / b - np.exp(log_y - a * h) / a
    return np.where((y == 0) & (u <= 0), np.where(u < 0, np.inf, 0.0), found)
