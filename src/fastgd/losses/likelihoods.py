"""Negative log-likelihoods by the link that makes them convex."""

from __future__ import annotations

import dataclasses

import numpy as np

from fastgd.losses import formulas
from fastgd.losses.record import Loss


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
    separable = likelihood = True

    def refused(self, y):
        return (y < 0) | (y > 1)

    def log_likelihood(self, h, y, s):
        return -float(s @ (np.logaddexp(0, h) - y * h))

    def recession(self, activation, change, y):
        if np.any((y != 0) & (y != 1)):
            return None
        if activation == "softmax":  # of the own class over each other one
            gains = (np.sum(y * change, axis=1, keepdims=True) - change)[y == 0]
        else:
            gains = (2 * y - 1) * change
        return np.max(gains), np.min(gains)

    def bound(self, activation, y_min, y_max):  # p(1 − p) ≤ ¼; and diag(p) − ppᵀ ≤ ½
        return 0.25 if activation == "sigmoid" else 0.5

    def facts(self, activation):
        if activation == "softmax":
            return {
                "slope": formulas.softmax_slope, "curvature": formulas.softmax_curvature,
                "start": formulas.log_priors, "conjugate": formulas.softmax_conjugate,
            }  # fmt: skip
        return {
            "slope": formulas.log_slope, "curvature": formulas.log_curvature, "start": formulas.log_odds,
            "conjugate": formulas.log_conjugate, "entropy": True,
            # Half a squared error has the slope (f − y)f', and 2⁶⁰ takes in any f between 0 and 1.
            "by_pass": ("sigmoid", "squared", -(2.0**60), 2.0**60),
        }  # fmt: skip


@dataclasses.dataclass(frozen=True, repr=False)
class Poisson(Loss):
    """f − y log f with f = exp(Xw + b): the negative log-likelihood of counts, less log y!; half the deviance, but for
    what depends on y alone."""

    name = "poisson"
    kernel = "poisson"
    activations = ("exp",)
    link = "exp"
    targets = 'not be negative for loss="poisson"'
    separable = likelihood = True

    def refused(self, y):
        return y < 0

    def log_likelihood(self, h, y, s):
        from scipy.special import gammaln

        return float(s @ (y * h - np.exp(h) - gammaln(y + 1)))

    def recession(self, activation, change, y):
        # The mean of a count of 0 is to fall; that of another must stay.
        return np.max(-change), np.min(np.where(y > 0, -np.abs(change), -change))

    def least(self, y):
        y = y.astype(np.float64)
        return y - y * np.log(np.where(y > 0, y, 1.0))

    def facts(self, activation):
        return {
            "slope": formulas.poisson_slope, "curvature": formulas.poisson_curvature, "start": formulas.log_mean,
            "conjugate": formulas.poisson_conjugate, "entropy": True, "by_pass": ("exp", "poisson", 0.0, 1.0),
        }  # fmt: skip


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
            "slope": formulas.gamma_slope, "curvature": formulas.gamma_curvature, "start": formulas.exact_log_mean,
            "conjugate": formulas.gamma_conjugate, "entropy": True,
        }  # fmt: skip
