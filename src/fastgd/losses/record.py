"""What the record of a loss is, and what becomes of it behind an activation.

A new loss is a subclass of `Loss` with its facts, its slope and curvature by h; the loops over points are in
`kernels/losses.pxi`, and their specification is in `kernels/reference/`.
"""

from __future__ import annotations

import dataclasses
import math
import typing

import numpy as np

from fastgd import validation
from fastgd.kernels.codes import ACTIVATIONS, PointLoss


@dataclasses.dataclass(frozen=True, repr=False)
class Loss:
    """A loss of a prediction f and a target y: immutable, comparable, hashable, picklable.

    Attributes
    ----------
    name : str
        "" of a loss that has none.
    synonyms : tuple of str
    kernel : str
        The name of its formula in the kernels.
    activations : tuple of str
        Those that it goes with.
    link : str
        The activation that it has in an estimator; the only one of a loss that goes with one.
    times : float or None
        F's data term is this times the weighted mean of the kernel's loss; None: the plain sum.
    task : {"regression", "classification", None}
        The estimator that takes it; None for both.
    signed : bool
        Whether a classifier's targets are −1 and 1, and not 0 and 1.
    targets : str
        What y must be, as the end of "y must …"; "" where any will do.
    of_epsilon : str or None
        The parameter that `epsilon` of an estimator is.
    deviance : bool
        Whether the least value that it can have for the targets is subtracted, beside an estimator, which always does.
    separable : bool
        Whether it has no minimum where some rows can be fitted ever better at no cost of others; see `recession`.
    likelihood : bool
        Whether it is a negative log-likelihood, of which `log_likelihood` gives the whole.
    estimates_variance : bool
        Whether that has a variance, estimated from the residuals: statistics of the weights then follow Student's t.
    border : float
        The h at which both classes are as likely.
    flat_far_out : bool
        Whether its slope is bounded, so that an infinite target leaves the weights finite.
    """

    name: typing.ClassVar[str]
    synonyms: typing.ClassVar[tuple[str, ...]] = ()
    kernel: typing.ClassVar[str]
    activations: typing.ClassVar[tuple[str, ...]] = tuple(ACTIVATIONS)
    link: typing.ClassVar[str] = "identity"
    times: typing.ClassVar[float | None] = 1.0
    task: typing.ClassVar[str | None] = "regression"
    signed: typing.ClassVar[bool] = False
    targets: typing.ClassVar[str] = ""
    of_epsilon: typing.ClassVar[str | None] = None
    deviance: typing.ClassVar[bool] = False
    separable: typing.ClassVar[bool] = False
    border: typing.ClassVar[float] = 0.0
    # h → the probabilities of the first and of the second class; None where there are none.
    probabilities: typing.ClassVar[typing.Callable | None] = None
    # Operators of ONNX that make the probability p of the second class of h; none where runtimes lack one.
    probability_nodes: typing.ClassVar[tuple[str, ...]] = ()
    likelihood: typing.ClassVar[bool] = False
    estimates_variance: typing.ClassVar[bool] = False
    flat_far_out: typing.ClassVar[bool] = False

    def __repr__(self):
        parameters = ", ".join(f"{name}={value!r}" for name, value in self.parameters.items())
        return f"{type(self).__name__}({parameters})"

    def __copy__(self):
        return self

    def __deepcopy__(self, memo):
        return self

    @property
    def parameters(self):
        """Those that it was made with, by name."""
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}

    @property
    def point_loss(self):
        """What the kernels take."""
        return PointLoss(self.kernel, next(iter(self.parameters.values()), 0.0))

    @property
    def shown(self):
        """As a user writes it: its name, or the object where its parameters are not those of the name."""
        return self.name if self.name and self == type(self)() else self

    def refused(self, y):
        """Which targets it does not take, a mask; None where it takes all."""
        return None

    def check(self, y):
        """Refuse targets that it does not take, naming the first."""
        refused = self.refused(y)
        if refused is not None and refused.any():
            index = tuple(np.argwhere(refused)[0].tolist())
            raise ValueError(f"y must {self.targets}; {validation.entry('y', index)} is {y[index]}")

    def absorbed(self, activation, y, s, offset):
        """What an offset in h is the same as: other targets and weights, (n,) or (n, k) and (n,) in float64, and what
        the sum of the losses has besides; None of a loss without such.

        Parameters
        ----------
        y, s, offset : (n, k), (n,), (n,)
            In float64.
        """
        return None

    def least(self, y):
        """A lower bound of the kernel's loss for each target, over all predictions."""
        return 0.0

    def bound(self, activation, y_min, y_max):
        """The largest |∂²l/∂h²| over all h for targets between these; inf where there is none."""
        return math.inf

    def log_likelihood(self, h, y, s):
        """Σ s·log p(y | h) of scores (n,), with all that depends on y alone; of a loss that is a `likelihood`."""
        raise NotImplementedError

    def recession(self, activation, change, y):
        """How much better the scores (n, k) fit after this change, far out: in the row that gains most, and in that
        which gains least. Both in units of h; None where no change fits ever better. Of a `separable` loss."""
        raise NotImplementedError

    def typical_curvature(self, activation, mean, from_zero):
        """See `DataTerm.typical_curvature`: the bound where there is one."""
        if activation == "exp":
            return max(mean, 1e-3)
        bound = self.bound(activation, -1.0, 1.0)
        return bound if math.isfinite(bound) else 1.0

    def facts(self, activation):
        """Slope, curvature and so on behind an activation: the fields of a `DataTerm` beside those that all have."""
        raise NotImplementedError


@dataclasses.dataclass(frozen=True)
class Smoothing:
    """A convex loss with kinks, as l(h, y) = Σ ½|h − y − shift| + tilt(y)·h + level(y).

    Attributes
    ----------
    shifts : tuple of float
    tilt, level : callable
        Of targets, an array.
    spread : callable
        y → how far a typical prediction is from the kinks: the first width of the smooth losses is half of that.
    """

    shifts: tuple[float, ...]
    tilt: typing.Callable
    level: typing.Callable
    spread: typing.Callable


@dataclasses.dataclass(frozen=True)
class DataTerm:
    """A loss behind an activation, as a function l of h = Xw + b. Formulas act on float64 arrays (n, k).

    Attributes
    ----------
    loss : Loss
    activation : str
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
    smoothing : Smoothing or None
        Of a convex loss with a kink.
    entropy : bool
        Whether the conjugate is a relative entropy, or bends no quicker: |l'''| ≤ l'' (see `certificate`).
    by_pass : tuple or None
        (activation, kernel's loss, target, unit) of a loss of the kernels whose slope at this target is unit·l'': the
        pass that sums slopes then sums curvatures.
    """

    loss: Loss
    activation: str
    slope: typing.Callable
    curvature: typing.Callable
    start: typing.Callable
    conjugate: typing.Callable | None = None
    straight: typing.Callable | None = None
    smooth: bool = True
    convex: bool = True
    smoothing: Smoothing | None = None
    entropy: bool = False
    by_pass: tuple | None = None

    def __reduce__(self):  # the formulas are made again
        from fastgd.losses.table import of

        return of, (self.loss, self.activation)

    def __eq__(self, other):
        return type(other) is DataTerm and (self.loss, self.activation) == (other.loss, other.activation)

    def __hash__(self):
        return hash((self.loss, self.activation))

    @property
    def name(self):
        return self.loss.name

    @property
    def times(self):
        return self.loss.times

    @property
    def codes(self):
        """The activation's number and the loss, for the kernels."""
        return ACTIVATIONS[self.activation], self.loss.point_loss

    @property
    def quadratic(self):
        """Whether the loss is a quadratic function of h."""
        return self.loss.kernel == "squared" and self.activation == "identity"

    @property
    def joint(self):
        """Whether the outputs of a sample depend on each other."""
        return self.activation == "softmax"

    @property
    def categorical(self):
        """Whether ∂²l/∂h² of a row is diag(p) − ppᵀ."""
        return self.joint and self.loss.link == "sigmoid"

    @property
    def bends_everywhere(self):
        """Whether a step may reckon with the curvature of some rows."""
        return self.smooth and self.straight is None

    def factor(self, total_weight):
        """F's data term is this times Σ s·l of the kernel."""
        return 1.0 if self.times is None else self.times / total_weight

    def bound(self, y_min, y_max):
        """The largest |∂²l/∂h²| over all h for targets between these; inf where there is none."""
        return self.loss.bound(self.activation, y_min, y_max)

    def typical_curvature(self, mean, from_zero=False):
        """About the ∂²l/∂h² of one row, for a rate, near the minimum or on the way `from_zero` to there; `mean` is that
        of the targets."""
        return self.loss.typical_curvature(self.activation, mean, from_zero)

    def prepared(self, y, dtype):
        """Targets as the kernels take them, checked; (n,) numbers of classes become (n, k)."""
        if self.joint:
            y = validation.classes(y, dtype) if self.categorical else validation.several(y, "softmax")
        self.loss.check(y)
        return y
