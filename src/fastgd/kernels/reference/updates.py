"""Update rules in plain NumPy: the specification of `updates.pxi`.

A rule turns a gradient g into a direction p and a rate t for each weight, by moments that it carries from step to step,
and the weights move:

    w ← clamp(soft(w − t·p, t·λ))

where soft(w, a) = sign(w)·max(|w| − a, 0) is the proximal step of the penalty λ·‖w‖₁, taken in the metric of the rule
(so that the point where the run comes to rest is the minimum of F + λ·‖w‖₁, whatever the rule), and clamp moves what
lies outside the bounds onto them. `fastgd.optimizers` documents the rules and says where they come from.
"""

import numpy as np

from fastgd.kernels.codes import RULES


def optimizer_step(kind, parameters, w, g, moments, lr, step, penalised, lower, upper):
    """One step of a rule on a flat array, in place.

    Parameters
    ----------
    kind : int
        A number from RULES.
    parameters : (PARAMETERS,) float64
        DECAY, DECAY_SQUARE, EPS and EXTRA of the rule; CLIP_VALUE, which cuts off each entry of g there, CLIP_NORM,
        which shortens g to that norm where it is longer; L1, the λ above.
    w : (size,) float32 or float64, written to
    g : (size,), dtype of w
    moments : (rows, size), dtype of w, written to
        What the rule carries from step to step, MOMENTS rows; zeros before the first.
    lr : float
    step : int
        The number of this step, from 1.
    penalised : int
        L1 is for so many entries from the first.
    lower, upper : (size,) or (0,), dtype of w
        Bounds; of length 0 for none.
    """
    real = w.dtype.type
    decay, decay_square, eps, extra, clip_value, clip_norm, l1 = parameters.tolist()
    with np.errstate(all="ignore"):
        if clip_value < np.inf:
            g = np.clip(g, real(-clip_value), real(clip_value))
        if clip_norm < np.inf and (norm := np.sqrt(np.sum(np.square(g, dtype=np.float64)))) > clip_norm:
            g = real(clip_norm / norm) * g
        name = next(name for name, number in RULES.items() if number == kind)
        direction, rate = _FORMULAS[name](w, g, moments, lr, step, decay, decay_square, eps, extra, real)
        w -= direction
        if l1:
            w[:penalised] = soft(w[:penalised], np.broadcast_to(rate * real(l1), w.shape)[:penalised])
        if lower.size:
            np.clip(w, lower, upper, out=w)
        if name == "asgd":
            moments[0] += real(1 / max(1, step - extra)) * (w - moments[0])


def soft(w, a):
    """sign(w)·max(|w| − a, 0)."""
    return np.where(w > a, w - a, np.where(w < -a, w + a, 0))


# Each returns the move t·p and the rate t, having written to the moments.


def _gd(w, g, moments, lr, step, decay, decay_square, eps, extra, real):
    return real(lr) * g, real(lr)


def _momentum(w, g, moments, lr, step, decay, decay_square, eps, extra, real):
    (v,) = moments
    v[:] = real(decay) * v + g
    return real(lr) * v, real(lr / (1 - decay))  # a gradient that stays the same comes to g/(1 − momentum)


def _nesterov(w, g, moments, lr, step, decay, decay_square, eps, extra, real):
    (v,) = moments
    v[:] = real(decay) * v + g
    return real(lr) * (g + real(decay) * v), real(lr / (1 - decay))


def _adagrad(w, g, moments, lr, step, decay, decay_square, eps, extra, real):
    (s,) = moments
    s += g * g
    rate = real(lr) / (np.sqrt(s) + real(eps))
    return rate * g, rate


def _adadelta(w, g, moments, lr, step, decay, decay_square, eps, extra, real):
    s, moves = moments
    s[:] = real(decay) * s + real(1 - decay) * g * g
    rate = np.sqrt(moves + real(eps)) / np.sqrt(s + real(eps))
    moves[:] = real(decay) * moves + real(1 - decay) * (rate * g) ** 2
    return real(lr) * (rate * g), real(lr) * rate


def _rmsprop(w, g, moments, lr, step, decay, decay_square, eps, extra, real):
    (s,) = moments
    s[:] = real(decay) * s + real(1 - decay) * g * g
    rate = real(lr) / (np.sqrt(s) + real(eps))
    return rate * g, rate


def _first_and_second(g, m, v, decay, decay_square, real):
    m += real(1 - decay) * (g - m)
    v[:] = real(decay_square) * v + real(1 - decay_square) * g * g


def _corrected_rate(v, lr, step, decay_square, eps, real):
    return real(lr) / (np.sqrt(v) * real(1 / np.sqrt(1 - decay_square**step)) + real(eps))


def _adam(w, g, moments, lr, step, decay, decay_square, eps, extra, real):
    m, v = moments
    _first_and_second(g, m, v, decay, decay_square, real)
    rate = _corrected_rate(v, lr, step, decay_square, eps, real)
    return rate * (real(1 / (1 - decay**step)) * m), rate


def _adamw(w, g, moments, lr, step, decay, decay_square, eps, extra, real):
    w *= real(1 - lr * extra)
    return _adam(w, g, moments, lr, step, decay, decay_square, eps, extra, real)


def _adamax(w, g, moments, lr, step, decay, decay_square, eps, extra, real):
    m, u = moments
    m += real(1 - decay) * (g - m)
    np.maximum(real(decay_square) * u, np.abs(g) + real(eps), out=u)
    rate = real(lr) / u
    return rate * (real(1 / (1 - decay**step)) * m), rate


def _nadam(w, g, moments, lr, step, decay, decay_square, eps, extra, real):
    m, v = moments
    _first_and_second(g, m, v, decay, decay_square, real)
    rate = _corrected_rate(v, lr, step, decay_square, eps, real)
    ahead, here = real(decay / (1 - decay ** (step + 1))), real((1 - decay) / (1 - decay**step))
    return rate * (ahead * m + here * g), rate


def _amsgrad(w, g, moments, lr, step, decay, decay_square, eps, extra, real):
    m, v, largest = moments
    _first_and_second(g, m, v, decay, decay_square, real)
    np.maximum(largest, v, out=largest)
    rate = _corrected_rate(largest, lr, step, decay_square, eps, real)
    return rate * (real(1 / (1 - decay**step)) * m), rate


_FORMULAS = {
    "gd": _gd, "momentum": _momentum, "nesterov": _nesterov, "adagrad": _adagrad, "adadelta": _adadelta,
    "rmsprop": _rmsprop, "adam": _adam, "adamax": _adamax, "nadam": _nadam, "amsgrad": _amsgrad, "adamw": _adamw,
    "asgd": _gd,
}  # fmt: skip
