"""The table of losses: a record for each pair of a loss and an activation."""

import dataclasses
import functools
import math
import typing

import numpy as np

from fastgd import validation
from fastgd.kernels.codes import ACTIVATIONS, HUBER_DELTA, TUBE
from fastgd.kernels.codes import LOSSES as KERNEL_LOSSES
from fastgd.losses import formulas
from fastgd.losses.bounds import curvature_bound
from fastgd.losses.formulas import Residual

ANY = tuple(ACTIVATIONS)

# The kernel's loss behind each name, the activations that it belongs to, and what the mean over samples is multiplied
# with beside the kernel's loss; "sse" is a sum.
LOSSES = {
    "sse": ("squared", ANY, None),
    "mse": ("squared", ANY, 2.0),
    "squared_error": ("squared", ANY, 1.0),
    "log": ("log", ("sigmoid", "softmax"), 1.0),
    "log_loss": ("log", ("sigmoid", "softmax"), 1.0),
    "huber": ("huber", ANY, 1.0),
    "poisson": ("poisson", ("exp",), 1.0),
    "hinge": ("hinge", ("identity",), 1.0),
    "squared_hinge": ("squared_hinge", ("identity",), 1.0),
    "epsilon_insensitive": ("epsilon_insensitive", ANY, 1.0),
}
# The thresholds that the kernels' formulas have. Another one is had by measuring targets in other units:
# l_t(h, y) = l_u(c·h, c·y)/c^power with c = u/t.
UNITS = {"huber": (HUBER_DELTA, 2), "epsilon_insensitive": (TUBE, 1)}


@dataclasses.dataclass(frozen=True)
class Loss:
    """One loss of h = Xw + b. Formulas act on float64 arrays (n, k); see `formulas.py`.

    Attributes
    ----------
    name, kernel, activation : str
    threshold : float or None
        Where the Huber loss turns straight, or the half width of the tube.
    times : float or None
        F's data term is this times the weighted mean of the kernel's loss; None: the plain sum.
    slope, curvature : callable
        (h, y) → ∂l/∂h and a curvature that is not negative: ∂²l/∂h² of a convex loss, Gauss and Newton's else.
    start : callable
        (y, s) → the best constant h of each output, (k,), or one near it.
    conjugate : callable or None
        (u, y) → l*(u), of a convex loss.
    straight : callable or None
        Of a loss that is linear in parts: (h, y) → the curvature there of the parabola that touches it from above.
    smooth : bool
        Whether the slope is continuous (but at the kink of relu).
    convex : bool
        By h, so that a stationary point is a minimum.
    entropy : bool
        Whether the conjugate is a relative entropy.
    by_pass : tuple or None
        (activation, kernel's loss, target, unit) of a loss of the kernels whose slope at this target is unit·l'': the
        pass that sums slopes then sums curvatures.
    """

    name: str
    kernel: str
    activation: str
    threshold: float | None
    times: float | None
    slope: typing.Callable
    curvature: typing.Callable
    start: typing.Callable
    conjugate: typing.Callable | None = None
    straight: typing.Callable | None = None
    smooth: bool = True
    convex: bool = True
    entropy: bool = False
    by_pass: tuple | None = None

    def __reduce__(self):  # the formulas are found again by name
        return of, (self.name, self.activation, self.threshold)

    @property
    def codes(self):
        """Numbers of the activation and the loss for the kernels."""
        return ACTIVATIONS[self.activation], KERNEL_LOSSES[self.kernel]

    @property
    def unit(self):
        """c: the kernel's loss of this threshold is that of c·h and c·y, over c^`power`."""
        return 1.0 if self.threshold is None else UNITS[self.kernel][0] / self.threshold

    @property
    def power(self):
        return UNITS[self.kernel][1] if self.kernel in UNITS else 1

    @property
    def quadratic(self):
        """Whether the loss is a quadratic function of h."""
        return self.kernel == "squared" and self.activation == "identity"

    @property
    def joint(self):
        """Whether the outputs of a sample depend on each other."""
        return self.activation == "softmax"

    @property
    def bends_everywhere(self):
        """Whether a step may reckon with the curvature of some rows."""
        return self.smooth and self.straight is None

    def factor(self, total_weight):
        """F's data term is this times Σ s·l of the kernel."""
        if self.times is None:
            return 1.0
        return self.times / (total_weight * self.unit**self.power)

    def bound(self, y_min, y_max):
        """The largest |∂²l/∂h²| over all h for targets between these; inf where there is none."""
        return curvature_bound(self.activation, self.kernel, y_min, y_max, self.threshold)


def of(loss, activation, threshold=None):
    """The Loss of that name and activation.

    Parameters
    ----------
    threshold : float, optional
        Of "huber" or "epsilon_insensitive", in place of 1.35 or 0.1; other losses have none.

    Raises
    ------
    ValueError
        There is none.
    """
    validation.choice(activation, "activation", ACTIVATIONS)
    validation.choice(loss, "loss", LOSSES)
    kernel, activations, times = LOSSES[loss]
    if activation not in activations:
        fitting = " or ".join(map(repr, activations))
        raise ValueError(f"loss={loss!r} goes with activation {fitting}; got {activation!r}")
    if kernel not in UNITS:
        threshold = None
    elif threshold is None:
        threshold = UNITS[kernel][0]
    elif threshold != UNITS[kernel][0] and activation != "identity":  # h and y do not change units together
        raise ValueError(f"another threshold of loss={loss!r} goes with activation 'identity'; got {activation!r}")
    return _record(loss, kernel, activation, times, threshold)


@functools.cache
def _record(loss, kernel, activation, times, threshold):
    return Loss(loss, kernel, activation, threshold, times, **_FORMULAS[kernel](activation, threshold))


def _squared(activation, threshold):
    found = Residual(activation, lambda r: r, np.ones_like)
    identity = activation == "identity"
    return {
        "slope": found.slope, "curvature": found.curvature, "start": formulas.inverse_mean(activation),
        "conjugate": formulas.squared_conjugate if identity else None, "convex": identity,
        "by_pass": ("identity", "squared", -1.0, 1.0) if identity else None,
    }  # fmt: skip


def _huber(activation, delta):
    found = Residual(
        activation,
        lambda r: np.clip(r, -delta, delta),
        lambda r: (np.abs(r) <= delta).astype(np.float64),
        lambda r: formulas.parabola(np.abs(r), delta),
    )
    identity = activation == "identity"
    return {
        "slope": found.slope, "curvature": found.curvature, "straight": found.straight,
        "start": formulas.median if identity else formulas.inverse_mean(activation),
        "conjugate": formulas.huber_conjugate(delta) if identity else None, "convex": identity,
    }  # fmt: skip


def _epsilon_insensitive(activation, epsilon):
    found = Residual(activation, lambda r: np.where(np.abs(r) > epsilon, np.sign(r), 0.0), np.zeros_like)
    identity = activation == "identity"
    return {
        "slope": found.slope, "curvature": found.curvature, "smooth": False,
        "start": formulas.median if identity else formulas.inverse_mean(activation),
        "conjugate": formulas.tube_conjugate(epsilon) if identity else None, "convex": identity,
    }  # fmt: skip


def _log(activation, threshold):
    if activation == "softmax":
        return {
            "slope": formulas.softmax_slope, "curvature": formulas.softmax_curvature, "start": formulas.log_priors,
            "conjugate": formulas.softmax_conjugate,
        }  # fmt: skip
    return {
        "slope": formulas.log_slope, "curvature": formulas.log_curvature, "start": formulas.log_odds,
        "conjugate": formulas.log_conjugate, "entropy": True,
        # Half a squared error has the slope (f − y)f', and 2⁶⁰ takes in any f between 0 and 1.
        "by_pass": ("sigmoid", "squared", -(2.0**60), 2.0**60),
    }  # fmt: skip


def _poisson(activation, threshold):
    return {
        "slope": formulas.poisson_slope, "curvature": formulas.poisson_curvature, "start": formulas.log_mean,
        "conjugate": formulas.poisson_conjugate, "entropy": True, "by_pass": ("exp", "poisson", 0.0, 1.0),
    }  # fmt: skip


def _hinge(activation, threshold):
    return {
        "slope": formulas.hinge_slope, "curvature": lambda h, y: np.zeros_like(h), "start": formulas.zero,
        "conjugate": formulas.hinge_conjugate, "smooth": False,
    }  # fmt: skip


def _squared_hinge(activation, threshold):
    return {
        "slope": formulas.squared_hinge_slope, "curvature": formulas.squared_hinge_curvature, "start": formulas.mean,
        "conjugate": formulas.squared_hinge_conjugate,
    }  # fmt: skip


_FORMULAS = {
    "squared": _squared, "log": _log, "huber": _huber, "poisson": _poisson, "hinge": _hinge,
    "squared_hinge": _squared_hinge, "epsilon_insensitive": _epsilon_insensitive,
}  # fmt: skip

assert set(_FORMULAS) == set(KERNEL_LOSSES), "a loss of the kernels has no record"


def typical_curvature(loss, mean):
    """About the ∂²l/∂h² of one row, for a rate: the bound where there is one, `mean` being that of the targets."""
    if loss.kernel == "poisson" or loss.activation == "exp":
        return max(mean, 1e-3)
    bound = loss.bound(-1.0, 1.0)
    return bound if math.isfinite(bound) else 1.0
