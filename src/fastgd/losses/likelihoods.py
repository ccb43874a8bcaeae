"""Negative log-likelihoods by the link that makes them convex."""

from __future__ import annotations

import dataclasses
import math
import typing
from typing import Literal

import numpy as np

from fastgd import validation
from fastgd.kernels.codes import PointLoss
from fastgd.linalg import softmax
from fastgd.losses import formulas
from fastgd.losses.formulas import activated, xlogx
from fastgd.losses.record import Loss

__all__ = ["CLogLog", "Gamma", "InverseGaussian", "LogLoss", "NegativeBinomial", "Poisson", "Probit", "Tweedie"]
RegressionLoss = Literal["poisson", "gamma", "tweedie", "inverse_gaussian", "negative_binomial"]
ClassificationLoss = Literal["log", "log_loss", "probit", "cloglog"]


class Binary(Loss):
    """What the likelihoods of binary data, or of proportions, have in common."""

    activations = ("identity",)
    task = "classification"
    targets = "be between 0 and 1 for the likelihood of a probability"
    separable = True

    def refused(self, y):
        return (y < 0) | (y > 1)

    def recession(self, activation, change, y):
        if np.any((y != 0) & (y != 1)):
            return None
        if activation == "softmax":  # of the own class over each other one
            gains = (np.sum(y * change, axis=1, keepdims=True) - change)[y == 0]
        else:
            gains = (2 * y - 1) * change
        return np.max(gains), np.min(gains)


@dataclasses.dataclass(frozen=True, repr=False)
class LogLoss(Binary):
    """Cross-entropy: −y log f − (1 − y) log(1 − f) with the sigmoid, −Σ y log f with the softmax."""

    name = "log_loss"
    synonyms = ("log",)
    kernel = "log"
    activations = ("sigmoid", "softmax")
    link = "sigmoid"
    targets = "be between 0 and 1 for the log loss"
    likelihood = True

    def probabilities(self, h):
        return tuple(activated(side, "sigmoid").astype(h.dtype, copy=False) for side in (-h, h))

    def log_likelihood(self, h, y, s):
        return -float(s @ (np.logaddexp(0, h) - y * h))

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
class Probit(Binary):
    """−y log Φ(h) − (1 − y) log Φ(−h), Φ the standard normal distribution: a normal variable is above a threshold."""

    name = "probit"
    kernel = "probit"

    def bound(self, activation, y_min, y_max):
        return 1.0

    def typical_curvature(self, activation, mean, from_zero):
        return 0.64  # 2/π, at h = 0

    def probabilities(self, h):
        from scipy.special import ndtr

        return ndtr(-h), ndtr(h)

    def facts(self, activation):
        from scipy.special import log_ndtr, ndtri

        def ratio(h):  # φ/Φ
            return np.exp(-0.5 * h * h - log_ndtr(h)) / math.sqrt(2 * math.pi)

        def slope(h, y):
            return (1 - y) * ratio(-h) - y * ratio(h)

        def curvature(h, y):
            return np.maximum(y * ratio(h) * (ratio(h) + h) + (1 - y) * ratio(-h) * (ratio(-h) - h), 0.0)

        def value(h, y):
            return -y * log_ndtr(h) - (1 - y) * log_ndtr(-h)

        return {
            "slope": slope,
            "curvature": curvature,
            "start": lambda y, s: ndtri(formulas.uncertain(formulas.mean(y, s))),
            "conjugate": formulas.conjugate_of(value, slope, curvature),
        }


@dataclasses.dataclass(frozen=True, repr=False)
class CLogLog(Binary):
    """−y log(1 − e^−m) + (1 − y)·m with m = e^h, the complementary log-log link: whether there is one event or more,
    of which m are expected."""

    name = "cloglog"
    kernel = "cloglog"
    border = math.log(math.log(2))
    probability_nodes = (  # 1 − e^−m = 2t/(1 + t), t = tanh(m/2): without cancellation
        "m = Exp (h)", "half_m = Mul (half, m)", "t = Tanh (half_m)", "twice_t = Add (t, t)", "whole = Add (one, t)",
        "p = Div (twice_t, whole)",
    )  # fmt: skip

    def typical_curvature(self, activation, mean, from_zero):
        return 1.0

    def probabilities(self, h):
        with np.errstate(over="ignore"):
            return np.exp(-np.exp(h)), -np.expm1(-np.exp(h))

    def facts(self, activation):
        def expected(h):  # m, finite: where y = 1 it is multiplied by 0
            return np.exp(np.clip(h, -690, 690))

        def rest(m):  # m/(e^m − 1)
            return np.where(m > 700, 0.0, m / np.expm1(np.minimum(m, 700)))

        def slope(h, y):
            return (1 - y) * expected(h) - y * rest(expected(h))

        def curvature(h, y):
            m = expected(h)
            return (1 - y) * m + y * rest(m) * (m / -np.expm1(-m) - 1)

        def value(h, y):
            m = expected(h)
            return (1 - y) * m - y * np.where(m < 1e-8, h - 0.5 * m, np.log(-np.expm1(-np.maximum(m, 1e-8))))

        return {
            "slope": slope,
            "curvature": curvature,
            "start": lambda y, s: np.log(-np.log1p(-formulas.uncertain(formulas.mean(y, s)))),
            "conjugate": formulas.conjugate_of(value, slope, curvature),
        }


class OfMean(Loss):
    """What the likelihoods of a mean f = exp(Xw + b) have in common.

    Attributes
    ----------
    variance : float or None
        The variance grows like the mean to this power, p. An offset o then is that of the targets y·e^−o with the
        weights s·e^((2 − p)o), as the deviance of c·y and c·f is c^(2 − p) that of y and f.
    """

    activations = ("exp",)
    link = "exp"
    variance: typing.ClassVar[float | None] = None

    def absorbed(self, activation, y, s, offset):
        if self.variance is None:
            return None
        return y * np.exp(-offset[:, None]), s * np.exp((2 - self.variance) * offset), 0.0


@dataclasses.dataclass(frozen=True, repr=False)
class Poisson(OfMean):
    """f − y log f with f = exp(Xw + b): the negative log-likelihood of counts, less log y!; half the deviance, but for
    what depends on y alone."""

    name = "poisson"
    kernel = "poisson"
    variance = 1.0
    targets = 'not be negative for loss="poisson"'
    separable = likelihood = True

    def refused(self, y):
        return y < 0

    def absorbed(self, activation, y, s, offset):
        *found, _ = super().absorbed(activation, y, s, offset)
        return *found, -float(s @ (y * offset[:, None]).sum(axis=1))

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
            "slope": lambda h, y: np.exp(h) - y,
            "curvature": lambda h, y: np.exp(h),
            "start": formulas.log_mean,
            "conjugate": lambda u, y: xlogx(u + y) - (u + y),
            "entropy": True,
            "by_pass": ("exp", "poisson", 0.0, 1.0),
        }


@dataclasses.dataclass(frozen=True, repr=False)
class Gamma(OfMean):
    """y/f − log(y/f) − 1 with f = exp(Xw + b): half the gamma deviance, of positive targets whose spread grows like
    their mean."""

    name = "gamma"
    kernel = "gamma"
    variance = 2.0
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
class Tweedie(OfMean):
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
    targets = 'not be negative for loss="tweedie"'
    deviance = True

    def __post_init__(self):
        power = validation.scalar(self.power, "power")
        if not 1 < power < 2:
            raise ValueError(
                f'power must be between 1 and 2, both excluded (1 is loss="poisson", 2 loss="gamma"); got {power:g}'
            )
        object.__setattr__(self, "power", power)

    @property
    def variance(self):
        return self.power

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
            "entropy": True,
        }


@dataclasses.dataclass(frozen=True, repr=False)
class InverseGaussian(OfMean):
    """(y − f)²/(2y·f²) with f = exp(Xw + b): half the inverse Gaussian deviance, of positive targets whose variance
    grows like the third power of their mean. It is not convex by Xw + b: a fit ends by its gradient."""

    name = "inverse_gaussian"
    kernel = "tweedie"
    variance = 3.0
    targets = 'be positive for loss="inverse_gaussian"'
    deviance = True

    @property
    def point_loss(self):
        return PointLoss(self.kernel, self.variance)

    def refused(self, y):
        return y <= 0

    def least(self, y):
        return -0.5 / y.astype(np.float64)

    def typical_curvature(self, activation, mean, from_zero):
        return max(1 / mean, 2 * mean - 1) if from_zero else 1 / mean

    def facts(self, activation):
        return {
            "slope": lambda h, y: np.exp(-h) - y * np.exp(-2 * h),
            "curvature": lambda h, y: np.exp(-h) + 0 * y,  # what is expected of it
            "start": lambda y, s: np.log(formulas.mean(y, s)),
            "convex": False,
        }


@dataclasses.dataclass(frozen=True, repr=False)
class NegativeBinomial(OfMean):
    """(y + 1/alpha)·log(1 + alpha·f) − y log f with f = exp(Xw + b), less its least value: half the deviance of counts
    whose variance f + alpha·f² is larger than their mean.

    Parameters
    ----------
    alpha : float
        Positive; towards 0 it becomes the Poisson distribution.
    """

    alpha: float = 1.0
    name = "negative_binomial"
    kernel = "negative_binomial"
    targets = 'not be negative for loss="negative_binomial"'
    deviance = True

    def __post_init__(self):
        object.__setattr__(self, "alpha", validation.scalar(self.alpha, "alpha", positive=True))

    def refused(self, y):
        return y < 0

    def least(self, y):
        y = y.astype(np.float64)
        return (y + 1 / self.alpha) * np.log1p(self.alpha * y) - y * np.log(np.where(y > 0, y, 1.0))

    def bound(self, activation, y_min, y_max):
        return 0.25 * (max(y_max, 0.0) + 1 / self.alpha)

    def typical_curvature(self, activation, mean, from_zero):
        at = 1.0 if from_zero else max(mean, 1e-3)
        return at * (1 + self.alpha * mean) / (1 + self.alpha * at) ** 2

    def facts(self, activation):
        a, log_a = self.alpha, math.log(self.alpha)

        def conjugate(u, y):
            mass, most = u + y, y + 1 / a
            with np.errstate(divide="ignore", invalid="ignore"):
                rest = np.where(mass == most, 0.0, (most - mass) * np.log1p(-mass / most))
                return formulas.within((mass >= 0) & (mass <= most), xlogx(mass) - mass * np.log1p(a * y) + rest)

        return {
            "slope": lambda h, y: (y + 1 / a) * activated(h + log_a, "sigmoid") - y,
            "curvature": lambda h, y: (y + 1 / a) * activated(h + log_a, "sigmoid", derivative=True),
            "start": formulas.log_mean,
            "conjugate": conjugate,
            "entropy": True,
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
