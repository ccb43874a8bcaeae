"""Numbers that the kernels, their reference and the code that calls them agree on."""

import typing

import numpy as np


class PointLoss(typing.NamedTuple):
    """A loss as the kernels take it.

    Attributes
    ----------
    name : str
        Of its formula, which the kernels switch on (`losses.pxi`), or CUSTOM.
    parameter : float
        Of the formula: delta, epsilon, …; 0 where it has none.
    function : CLoss or callable, optional
        Of CUSTOM: a `c_code.CLoss`, or f(h, y) → (values, slopes) of float64 arrays (m,).
    """

    name: str
    parameter: float = 0.0
    function: typing.Any = None


# The number of a name is what the compiled kernels switch on (`formulas.pxd`).
ACTIVATIONS = {"identity": 0, "sigmoid": 1, "tanh": 2, "relu": 3, "softplus": 4, "exp": 5, "softmax": 6}
CUSTOM = "custom"  # a function of the user's own


class OnRows:
    """Why `descend` came back, and the entries of its `state`."""

    ALL_STEPS, REACHED, NOT_FINITE, OVERSHOOTING = range(4)
    BEGUN, OVERSHOOTS, GROWTH, CURVATURE, NORM, RATE, FIRST_FUN, FUN = range(8)


class OnFunction:
    """Why `descend_function` came back, and the entries of its `state` and `spent`."""

    ALL_STEPS, UNTOUCHED, EVALUATED, DOUBTFUL, STOPPED = range(5)
    OVERSHOOTS, GROWTH, CURVATURE, NORM, RATE, FIRST_NORM, ROSE = range(7)
    VALUES, GRADIENTS, STEPS, WHOLE = range(4)
    # Seconds after which it comes back between two steps, for the clock, the progress bar and checkpoints.
    LONGEST_CALL = 0.05


EPSILON = float(np.finfo(np.float64).eps)
# The step that balances truncation against rounding for a function of ordinary scale, where the error of the scheme
# is O(h²) (Press et al., Numerical Recipes, 3rd ed., eq. 5.7.8).
RELATIVE_STEP = EPSILON ** (1 / 3)
OWN_STEPS = np.empty(0)  # for "the library's own steps", where a kernel takes the step of each coordinate
# A slope is doubtful where its error may exceed this much of max(1, |slope|).
DOUBT = 1e-6
# Slopes are held against f at three more points: so many steps from x to both sides along a line on which all
# coordinates move, which tells truncation and slopes that a step is too short to see, and once more beside the first of
# them, so close (in max(1, |x|)) that all but noise is linear there.
PROBE = 16.0
BESIDE = 2.0**-43
# The rounding to expect of f, in units of ε|f|, and how much of what the points show counts as the error of a slope.
ROUNDING, JITTER, MISFIT_OF_NOISE = 1.5, 4.0, 2.0
X_NOT_FINITE = -1


def probe_shares(slopes):
    """(d,): by how many steps each coordinate moves to the first probe: all by another share, and uphill."""
    d = len(slopes)
    share = 0.5 + 0.5 * np.modf(0.6180339887498949 * np.arange(1.0, d + 1))[0]
    return np.where(slopes < 0, -share, share) * (PROBE / np.sqrt(d))


def misfit_share(d):
    """How much of the misfit is error of slopes where it is truncation, PROBE² times as large as at a step.

    On the line a coordinate moves by 3/4 of 1/√d of that in the mean, and truncation grows with the third power of it.
    """
    return min(MISFIT_OF_NOISE, d**1.5 / (4 * PROBE))


# The number of a rule is what the compiled kernels switch on (`updates.pxi`).
RULES = {
    "gd": 0, "momentum": 1, "nesterov": 2, "adagrad": 3, "adadelta": 4, "rmsprop": 5, "adam": 6, "adamax": 7,
    "nadam": 8, "amsgrad": 9, "adamw": 10, "asgd": 11,
}  # fmt: skip
# Rows of `moments` that each keeps.
MOMENTS = {
    "gd": 0, "momentum": 1, "nesterov": 1, "adagrad": 1, "adadelta": 2, "rmsprop": 1, "adam": 2, "adamax": 2,
    "nadam": 2, "amsgrad": 3, "adamw": 2, "asgd": 1,
}  # fmt: skip

# Entries of `parameters`.
DECAY = 0  # momentum, rho or beta1: how much of the first moment is kept
DECAY_SQUARE = 1  # beta2
EPS = 2
EXTRA = 3  # weight_decay of adamw, the first step that counts of asgd
CLIP_VALUE = 4  # inf for none
CLIP_NORM = 5  # inf for none
L1 = 6
PARAMETERS = 7


def _plain(dtype):
    none = np.empty(0, dtype)
    return RULES["gd"], np.array([0, 0, 0, 0, np.inf, np.inf, 0.0]), np.empty((0, 0), dtype), 0, 0, none, none


# The arguments that make plain gradient descent of a kernel that takes a rule: kind, parameters, moments, done,
# penalised, lower, upper.
PLAIN = {np.dtype(dtype): _plain(dtype) for dtype in (np.float32, np.float64)}
