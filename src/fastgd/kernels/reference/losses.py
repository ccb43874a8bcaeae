"""Activations and losses of points in plain NumPy, and the one dispatch over them."""

import numpy as np
import scipy.special

from fastgd.kernels.codes import ACTIVATIONS, CUSTOM, PointLoss


def sigmoid(h):
    """σ(h) = 1 / (1 + e^−h), by e^−|h| so that neither end overflows."""
    e = np.exp(-np.abs(h))
    return np.where(h < 0, e, 1) / (1 + e)


def sigmoid_prime(h):
    """σ'(h) = e / (1 + e)² with e = e^−|h|: equal to σ(1 − σ), without its cancellation where σ rounds to 1."""
    e = np.exp(-np.abs(h))
    return e / ((1 + e) * (1 + e))


def tanh_prime(h):
    """tanh'(h) = 1 − tanh²h = 4e² / (1 + e²)² with e = e^−|h|."""
    q = np.exp(-np.abs(h)) ** 2
    return 4 * q / ((1 + q) * (1 + q))


def softplus(h):
    """log(1 + e^h) = max(h, 0) + log(1 + e^−|h|)."""
    return np.maximum(h, 0) + np.log1p(np.exp(-np.abs(h)))


def softmax(h):
    """e^h / Σ e^h of each row."""
    e = np.exp(h - h.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


# f and f' by number, for those that act on each point alone. A new activation is a row here and in formulas.pxd.
FORMULAS = {
    ACTIVATIONS["identity"]: (lambda h: h, np.ones_like),
    ACTIVATIONS["sigmoid"]: (sigmoid, sigmoid_prime),
    ACTIVATIONS["tanh"]: (np.tanh, tanh_prime),
    ACTIVATIONS["relu"]: (lambda h: np.where(h < 0, 0, h), lambda h: np.where(h > 0, 1, 0)),
    ACTIVATIONS["softplus"]: (softplus, sigmoid),
    ACTIVATIONS["exp"]: (np.exp, np.exp),
}


def squared_loss(f, y, _):
    """½(f − y)², and its slope by f."""
    return 0.5 * (f - y) ** 2, f - y


def huber_loss(f, y, delta):
    """½r² for |r| ≤ δ and δ(|r| − ½δ) beyond, r = f − y; its slope is r cut off at ±δ."""
    slope = np.clip(f - y, -delta, delta)
    return slope * ((f - y) - 0.5 * slope), slope


def hinge_loss(f, y, _):
    """max(0, 1 − y·f), y = −1 or 1, and a subgradient: −y where y·f < 1, else 0, also at the kink."""
    value = np.maximum(1 - y * f, 0)
    return value, -y * np.sign(value)


def squared_hinge_loss(f, y, _):
    """max(0, 1 − y·f)², and its slope by f."""
    value = np.maximum(1 - y * f, 0)
    return value**2, -2 * y * value


def epsilon_insensitive_loss(f, y, epsilon):
    """max(0, |f − y| − ε), and a subgradient: the sign of f − y where |f − y| > ε, else 0, also at the kinks."""
    value = np.maximum(np.abs(f - y) - epsilon, 0)
    return value, np.sign(f - y) * np.sign(value)


def quantile_loss(f, y, q):
    """The pinball loss, q·(y − f) where f < y and (1 − q)·(f − y) else, and a subgradient: 0 at the kink."""
    r = f - y
    return np.where(r < 0, -q * r, (1 - q) * r), np.where(r > 0, 1 - q, np.where(r < 0, -q, r))


def sigmoid_log_loss(h, y, _):
    """The cross-entropy of σ(h), log(1 + e^h) − y·h, and its slope."""
    return softplus(h) - y * h, sigmoid(h) - y


def poisson_loss(h, y, _):
    """e^h − y·h, the negative log-likelihood less log y!, and its slope."""
    return np.exp(h) - y * h, np.exp(h) - y


def gamma_loss(h, y, _):
    """y·e^−h + h, the negative log-likelihood over the shape, less what depends on y alone, and its slope."""
    return y * np.exp(-h) + h, 1 - y * np.exp(-h)


def tweedie_loss(h, y, p):
    """e^((2 − p)h)/(2 − p) + y·e^((1 − p)h)/(p − 1), and its slope."""
    mean, share = np.exp((2 - p) * h), np.where(y == 0, 0, y * np.exp((1 - p) * h))
    return mean / (2 - p) + share / (p - 1), mean - share


def negative_binomial_loss(h, y, a):
    """(y + 1/a)·log(1 + a·e^h) − y·h, and its slope (e^h − y)/(1 + a·e^h), written so that neither end overflows."""
    z = h + np.log(a)
    e = np.exp(-np.abs(z))
    return (y + 1 / a) * softplus(z) - y * h, np.where(z < 0, e / a - y, 1 / a - y * e) / (1 + e)


def probit_loss(h, y, _):
    """−y·log Φ(h) − (1 − y)·log Φ(−h), Φ the normal distribution, and its slope."""
    above, below = scipy.special.log_ndtr(h), scipy.special.log_ndtr(-h)
    density = -0.5 * h * h - 0.5 * np.log(2 * np.pi)
    return -y * above - (1 - y) * below, (1 - y) * np.exp(density - below) - y * np.exp(density - above)


def cloglog_loss(h, y, _):
    """(1 − y)·m − y·log(1 − e^−m), m = e^h, and its slope (1 − y)·m − y·m/(e^m − 1); 1 − e^−m is m to within rounding
    where m is tiny, and its logarithm then h."""
    m = np.exp(h)
    p, tiny = -np.expm1(-m), m < 1e-8
    log_p = np.where(tiny, h - 0.5 * m, np.log(np.where(tiny, 1, p)))
    zero = np.where(y == 1, 0, (1 - y) * m)
    rest = np.where(m > 745, 0, np.where(tiny, 1 - 0.5 * m, m * np.exp(-m) / np.where(tiny, 1, p)))
    return zero - y * log_p, zero - y * rest


def modified_huber_loss(f, y, _):
    """max(0, 1 − y·f)² where y·f ≥ −1 and −4y·f beyond, and its slope."""
    short_of = np.maximum(1 - y * f, 0)
    return np.where(y * f < -1, -4 * y * f, short_of**2), np.where(y * f < -1, -4 * y, -2 * y * short_of)


def perceptron_loss(f, y, _):
    """max(0, −y·f), and a subgradient: −y where y·f ≤ 0."""
    margin = y * f
    return np.maximum(-margin, 0), np.where(margin <= 0, -y, np.where(margin > 0, 0, margin))


# By name. A new loss is a row here or in LINKED, and in `losses.pxi`. These are functions of f = f(h),
LOSS_FORMULAS = {
    "squared": squared_loss,
    "huber": huber_loss,
    "hinge": hinge_loss,
    "squared_hinge": squared_hinge_loss,
    "epsilon_insensitive": epsilon_insensitive_loss,
    "quantile": quantile_loss,
    "modified_huber": modified_huber_loss,
    "perceptron": perceptron_loss,
}
# and these, which belong to one activation, of h.
LINKED = {
    "log": ("sigmoid", sigmoid_log_loss),
    "poisson": ("exp", poisson_loss),
    "gamma": ("exp", gamma_loss),
    "tweedie": ("exp", tweedie_loss),
    "negative_binomial": ("exp", negative_binomial_loss),
    "probit": ("identity", probit_loss),
    "cloglog": ("identity", cloglog_loss),
}


def softmax_log_loss(h, Y):
    """−Σ y·log f of each row, f = softmax(h), a part for each output; and its slope by h."""
    largest = h.max(axis=1, keepdims=True)
    log_f = (h - largest) - np.log(np.exp(h - largest).sum(axis=1, keepdims=True))
    return np.where(Y == 0, 0, -Y * log_f), softmax(h) * Y.sum(axis=1, keepdims=True) - Y


def user_loss(h, Y, function):
    """A function of the user's own, of flat arrays."""
    value, slope = function(h.ravel(), Y.ravel())
    return np.array(value).reshape(h.shape), np.array(slope).reshape(h.shape)


def formula_of(activation, loss):
    """(h, Y) → values and slopes ∂l/∂h of points: the one dispatch over losses.

    Raises
    ------
    ValueError
        No loss has that name, or it does not go with the activation.
    """
    if type(loss) is not PointLoss:
        raise ValueError(f"loss must be a PointLoss of fastgd.kernels.codes; got {loss!r}")
    name, parameter, function = loss
    if activation not in FORMULAS and activation != ACTIVATIONS["softmax"]:
        raise ValueError(f"no activation has the number {activation}")
    if name == "log" and activation == ACTIVATIONS["softmax"]:
        return softmax_log_loss
    if name in LINKED or name == CUSTOM:
        link = "identity" if name == CUSTOM else LINKED[name][0]
        if activation != ACTIVATIONS[link]:
            raise ValueError(f"the loss {name!r} goes with activation {ACTIVATIONS[link]}; got {activation}")
        if name == CUSTOM and not callable(function):
            raise ValueError(f"a loss of the user's own needs its function; got {function!r}")
        if name == CUSTOM:
            return lambda h, Y: user_loss(h, Y, function)
        return lambda h, Y: LINKED[name][1](h, Y, parameter)
    if name not in LOSS_FORMULAS:
        raise ValueError(f"no loss has the name {name!r}")
    return lambda h, Y: behind_activation(h, Y, activation, LOSS_FORMULAS[name], parameter)


def behind_activation(h, Y, activation, formula, parameter):
    """A loss of f(h), with its slope by h."""
    if activation == ACTIVATIONS["softmax"]:
        f = softmax(h)
        value, slope = formula(f, Y, parameter)
        return value, f * (slope - (slope * f).sum(axis=1, keepdims=True))
    f, f_prime = FORMULAS[activation]
    value, slope = formula(f(h), Y, parameter)
    return value, slope * f_prime(h)


def points(h, Y, activation, loss):
    """Loss l(f(h), y) of each point and its slope ∂l/∂h, both (n, k) float64, unweighted."""
    return formula_of(activation, loss)(h.astype(np.float64), Y.astype(np.float64))
