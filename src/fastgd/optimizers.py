"""Update rules: what a step makes of a gradient.

Each class is one rule with its constants. Its state is explicit: `init(w)` makes it, `step(w, g, state, lr)` moves `w`
and `state` in place by the compiled kernel, and the same rule can serve any number of runs. `gradient_descent` takes a
rule, or its lower-case name for the constants that stand here as defaults.

In the equations g is the gradient, t the number of the step from 1, η the learning rate, and all operations are
entry by entry. Where libraries write a rule differently, it is torch.optim's here where torch has it, else the paper's;
`docs/optimizers.md` has a table.
"""

from __future__ import annotations

import dataclasses
import functools
import typing

import numpy as np

from fastgd import kernels, validation
from fastgd.kernels.codes import DECAY, DECAY_SQUARE, EPS, EXTRA, MOMENTS, PLAIN, RULES

if typing.TYPE_CHECKING:
    from numpy.typing import ArrayLike, DTypeLike

    from fastgd.types import Floats, FloatsT


class State:
    """What an optimizer carries from one step to the next.

    Attributes
    ----------
    step : int
        Steps taken.
    moments : ndarray, (rows, size)
        The rule's running sums or means for each weight, flat, in the dtype of the weights; zeros at the start.
    """

    __slots__ = ("moments", "step")

    def __init__(self, moments: Floats, step: int = 0) -> None:
        self.moments, self.step = moments, step

    def copy(self) -> State:
        return State(self.moments.copy(), self.step)

    def __repr__(self):
        return f"State(step={self.step}, moments of shape {self.moments.shape})"


def _share(value, name) -> float:
    """A decay: at least 0 and below 1."""
    value = validation.scalar(value, name, minimum=0)
    if value >= 1:
        raise ValueError(f"{name} must be at least 0 and below 1; got {value}")
    return value


# Of each constant of a rule: where the kernels take it in their `parameters`, and the check of its value.
CONSTANTS = {
    "momentum": (DECAY, _share),
    "rho": (DECAY, _share),
    "beta1": (DECAY, _share),
    "beta2": (DECAY_SQUARE, _share),
    "eps": (EPS, functools.partial(validation.scalar, positive=True)),
    "weight_decay": (EXTRA, functools.partial(validation.scalar, minimum=0)),
    "start": (EXTRA, validation.count),
}


@dataclasses.dataclass(frozen=True)
class Optimizer:
    """What the rules share. A rule is a subclass with its constants as fields and a row in the kernels' tables.

    Rules are immutable; two of one class with equal constants are equal.

    Attributes
    ----------
    name : str
        What `gradient_descent(optimizer=…)` knows it by.
    may_rise : bool
        Whether the value may rise for a while in a run that is all right: then divergence is judged with more patience.
    stable_formula : str or None
        The largest stable rate on a quadratic function of largest curvature L, as a formula; None where it depends on
        the scale of the gradients.
    """

    name: typing.ClassVar[str | None] = None
    may_rise: typing.ClassVar[bool] = True
    stable_formula: typing.ClassVar[str | None] = None

    def __post_init__(self):
        for field in dataclasses.fields(self):
            _, check = CONSTANTS[field.name]
            object.__setattr__(self, field.name, check(getattr(self, field.name), field.name))

    @property
    def kind(self):
        return RULES[self.name]

    @property
    def kernel_constants(self):
        """The first four `parameters` of the kernels: DECAY, DECAY_SQUARE, EPS and EXTRA of `kernels/codes.py`."""
        places = {CONSTANTS[name][0]: float(value) for name, value in vars(self).items() if name in CONSTANTS}
        return tuple(places.get(place, 0.0) for place in (DECAY, DECAY_SQUARE, EPS, EXTRA))

    @functools.cached_property
    def _parameters(self):
        """The constants with no limit to a step, for `step`."""
        return np.array([*self.kernel_constants, np.inf, np.inf, 0.0])

    def stable_rate(self, curvature: float) -> float | None:
        """The largest stable rate on a quadratic function with that largest curvature, or None."""
        return None

    def init(self, w: ArrayLike) -> State:
        """The state before the first step.

        w is of any shape; float32 makes a state of float32, all else float64.
        """
        w = validation.real_array(w, "w", finite=False)
        return self.fresh_state(w.size, w.dtype)

    def fresh_state(self, size: int, dtype: DTypeLike) -> State:
        """The state before the first step, for so many weights."""
        return State(np.zeros((MOMENTS[self.name], size), dtype))

    def step(self, w: FloatsT, g: ArrayLike, state: State, lr: float) -> tuple[FloatsT, State]:
        """One step, in place.

        Parameters
        ----------
        w : ndarray of float32 or float64, any shape
            The weights; they are moved in place.
        g : array_like of the shape of w
            The gradient at w; never written to.
        state : State
            From `init`; it is moved in place too. Copy it (`state.copy()`) to come back to it.
        lr : float
            The rate of this step.

        Returns
        -------
        w, state
            The same two objects.

        Raises
        ------
        TypeError, ValueError
            w is no array of floats that can be written to, or g or the state is not of its shape.
        """
        if not isinstance(w, np.ndarray) or w.dtype not in PLAIN:
            raise TypeError(f"w must be an array of float32 or float64; got {validation.describe(w)}")
        if not w.flags.writeable:
            raise ValueError("w must be writeable: it is moved in place")
        if type(g) is not np.ndarray or g.dtype != w.dtype:
            g = validation.real_array(g, "g", dtype=w.dtype, finite=False)
        if g.shape != w.shape:
            raise ValueError(f"g must have the shape of w, {w.shape}; got shape {g.shape}")
        if not isinstance(state, State):
            raise TypeError(f"state must be what init(w) returns; got {validation.describe(state)}")
        rows = MOMENTS[self.name]
        if state.moments.shape != (rows, w.size) or state.moments.dtype != w.dtype:
            raise ValueError(
                f"state must be of {rows} rows of {w.size} entries in {w.dtype}, as init(w) makes it; got shape "
                f"{state.moments.shape} in {state.moments.dtype}"
            )
        lr = validation.scalar(lr, "lr", minimum=0)
        in_place = w.flags.c_contiguous and w.flags.aligned
        flat = w.reshape(-1) if in_place else np.array(w, order="C").reshape(-1)
        kernels.active.optimizer_step(
            self.kind, self._parameters, flat, np.ascontiguousarray(g).reshape(-1), state.moments, lr, state.step + 1,
            *PLAIN[w.dtype][4:],
        )  # fmt: skip
        if not in_place:
            w[...] = flat.reshape(w.shape)
        state.step += 1
        return w, state


@dataclasses.dataclass(frozen=True)
class GD(Optimizer):
    """Gradient descent (Cauchy 1847).

        w ← w − η·g

    Stable on a quadratic of largest curvature L for η < 2/L.
    """

    name = "gd"
    may_rise = False
    stable_formula = "2/L"

    def stable_rate(self, curvature: float) -> float:
        return 2 / curvature


@dataclasses.dataclass(frozen=True)
class ASGD(GD):
    """Averaged gradient descent (Polyak & Juditsky 1992; Ruppert 1988): the result is the mean of the points.

        w ← w − η·g,    w̄ ← w̄ + (w − w̄)/(t − start)  for t > start

    The steps go from w; `gradient_descent` reports w̄, with value and gradient of exactly that point. Meant for
    stochastic runs at a constant rate, whose points scatter about the minimum.

    Parameters
    ----------
    start : int
        So many steps are left out of the mean, which until then is the point itself.

    Notes
    -----
    torch.optim.ASGD decays the rate and the weights too; here that is for schedules and penalties to do. With
    lambd=0 and alpha=0 its mean is this one, t0 = start − 1 being one step behind ours.
    """

    name = "asgd"
    start: int = 0


@dataclasses.dataclass(frozen=True)
class Momentum(Optimizer):
    """Descent with momentum, the heavy ball (Polyak 1964).

        v ← μ·v + g,    w ← w − η·v

    Stable on a quadratic of largest curvature L for η < 2(1 + μ)/L.

    Parameters
    ----------
    momentum : float, default 0.9
        μ, from 0 up to below 1; 0.9 is Ruder's (2016) usual value.

    Notes
    -----
    As torch.optim.SGD has it: η multiplies v when the step is taken. In Ruder's and Sutskever's form it multiplies g
    on its way into v, which differs where η changes during the run.
    """

    name = "momentum"
    stable_formula = "2(1 + momentum)/L"
    momentum: float = 0.9

    def stable_rate(self, curvature: float) -> float:
        return 2 * (1 + self.momentum) / curvature


class Nesterov(Momentum):
    """Momentum with Nesterov's look ahead (Nesterov 1983; Sutskever et al. 2013).

        v ← μ·v + g,    w ← w − η·(g + μ·v)

    Stable on a quadratic of largest curvature L for η < 2(1 + μ)/((1 + 2μ)L).

    Parameters
    ----------
    momentum : float, default 0.9
        μ.

    Notes
    -----
    As torch.optim.SGD(nesterov=True) writes it: w is Nesterov's point w + μ·(last move), at which the gradient is
    taken.
    """

    name = "nesterov"
    stable_formula = "2(1 + momentum)/((1 + 2·momentum)L)"

    def stable_rate(self, curvature: float) -> float:
        return 2 * (1 + self.momentum) / ((1 + 2 * self.momentum) * curvature)


@dataclasses.dataclass(frozen=True)
class Adagrad(Optimizer):
    """Adagrad (Duchi, Hazan & Singer 2011).

        s ← s + g²,    w ← w − η·g/(√s + ε)

    Parameters
    ----------
    eps : float, default 1e-10
        ε, positive; torch's default, outside the root as in torch.
    """

    name = "adagrad"
    eps: float = 1e-10


@dataclasses.dataclass(frozen=True)
class Adadelta(Optimizer):
    """Adadelta (Zeiler 2012, arXiv 1212.5701).

        s ← ρ·s + (1 − ρ)·g²,    Δ = √(d + ε)/√(s + ε)·g,    d ← ρ·d + (1 − ρ)·Δ²,    w ← w − η·Δ

    The paper's step is that with η = 1.

    Parameters
    ----------
    rho : float, default 0.9
    eps : float, default 1e-6
        ρ and ε as in torch; ε is inside the roots, as in the paper.
    """

    name = "adadelta"
    rho: float = 0.9
    eps: float = 1e-6


@dataclasses.dataclass(frozen=True)
class RMSprop(Adadelta):
    """RMSprop (Tieleman & Hinton 2012, lecture 6e).

        s ← ρ·s + (1 − ρ)·g²,    w ← w − η·g/(√s + ε)

    Parameters
    ----------
    rho : float, default 0.99
    eps : float, default 1e-8
        torch's defaults (its alpha is ρ), ε outside the root as in torch. The lecture and Ruder have ρ = 0.9.
    """

    name = "rmsprop"
    rho: float = 0.99
    eps: float = 1e-8


@dataclasses.dataclass(frozen=True)
class Adam(Optimizer):
    """Adam (Kingma & Ba 2015, arXiv 1412.6980, algorithm 1).

        m ← β₁·m + (1 − β₁)·g,    v ← β₂·v + (1 − β₂)·g²
        m̂ = m/(1 − β₁ᵗ),    v̂ = v/(1 − β₂ᵗ),    w ← w − η·m̂/(√v̂ + ε)

    Parameters
    ----------
    beta1, beta2 : float, default 0.9 and 0.999
    eps : float, default 1e-8
        The paper's and torch's values; keras has ε = 1e-7. ε is added to the corrected root.
    """

    name = "adam"
    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-8


class AdaMax(Adam):
    """AdaMax (Kingma & Ba 2015, algorithm 2): Adam with the largest gradient in place of the mean square.

        m ← β₁·m + (1 − β₁)·g,    u ← max(β₂·u, |g| + ε),    w ← w − η·m/((1 − β₁ᵗ)·u)

    Parameters
    ----------
    beta1, beta2 : float, default 0.9 and 0.999
    eps : float, default 1e-8
        As torch has them; the paper has no ε, which keeps u away from zero. η is the paper's 0.002 in torch.
    """

    name = "adamax"


class Nadam(Adam):
    """Nadam (Dozat 2016, algorithm 2) with a constant momentum.

        m, v as Adam's,    w ← w − η·(β₁·m/(1 − β₁ᵗ⁺¹) + (1 − β₁)·g/(1 − β₁ᵗ))/(√v̂ + ε)

    Parameters
    ----------
    beta1, beta2 : float, default 0.9 and 0.999
    eps : float, default 1e-8

    Notes
    -----
    torch.optim.NAdam lets the momentum grow, μₜ = β₁(1 − ½·0.96^(0.004·t)); here it is β₁ throughout, as in optax.
    Ruder corrects m by 1 − β₁ᵗ instead of Dozat's 1 − β₁ᵗ⁺¹.
    """

    name = "nadam"


class AMSGrad(Adam):
    """AMSGrad (Reddi, Kale & Kumar 2018, arXiv 1904.09237): Adam whose rates never grow again.

        m, v as Adam's,    x ← max(x, v),    w ← w − η·m̂/(√(x/(1 − β₂ᵗ)) + ε)

    Parameters
    ----------
    beta1, beta2 : float, default 0.9 and 0.999
    eps : float, default 1e-8

    Notes
    -----
    As torch.optim.Adam(amsgrad=True): the maximum is of the uncorrected v, and corrected when it is used. optax takes
    the maximum of the corrected v̂; the paper corrects nothing.
    """

    name = "amsgrad"


@dataclasses.dataclass(frozen=True)
class AdamW(Adam):
    """AdamW (Loshchilov & Hutter 2019, arXiv 1711.05101): Adam with weight decay apart from the gradient.

        w ← (1 − η·λ)·w,    then Adam's step

    Parameters
    ----------
    beta1, beta2 : float, default 0.9 and 0.999
    eps : float, default 1e-8
    weight_decay : float, default 0.01
        λ, torch's default. It takes all of w, the intercept of an objective too.

    Notes
    -----
    As torch.optim.AdamW: the decay is η·λ. The paper keeps λ apart from η.
    """

    name = "adamw"
    weight_decay: float = 0.01


# By name, in the order of Ruder's overview.
BY_NAME = {
    rule.name: rule
    for rule in (GD, Momentum, Nesterov, Adagrad, Adadelta, RMSprop, Adam, AdaMax, Nadam, AMSGrad, AdamW, ASGD)
}


def get(optimizer: str | Optimizer) -> Optimizer:
    """The rule that a name stands for, with its default constants; a rule is returned as it is.

    Raises
    ------
    ValueError
        No rule has that name.
    TypeError
        It is neither a name nor a rule; a class must be called, `Adam()`.
    """
    if isinstance(optimizer, Optimizer):
        return optimizer
    if isinstance(optimizer, str):
        return BY_NAME[validation.choice(optimizer, "optimizer", BY_NAME)]()
    called = f"; call it, {optimizer.__name__}()" if isinstance(optimizer, type) else ""
    got = validation.describe(optimizer)
    raise TypeError(f"optimizer must be a name or one of fastgd.optimizers; got {got}{called}")
