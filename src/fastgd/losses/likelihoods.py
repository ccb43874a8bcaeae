"""Negative log-likelihoods by the link that makes them convex."""

from __future__ import annotations

import dataclasses
from typing import Literal

import numpy as np

from fastgd.linalg import softmax
from fastgd.losses import formulas
from fastgd.losses.formulas import activated, xlogx
from fastgd.losses.record import Loss

__all__ = ["Gamma", "LogLoss", "Poisson"]
RegressionLoss = Literal["poisson", "gamma"]
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
