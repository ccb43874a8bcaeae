"""Where finite differences evaluate f, and how the values make a slope.

A `Stencil` says for each coordinate at which values of it f is needed, and turns what f gave there into derivatives.
It knows nothing of f: the values may be numbers or arrays, so gradients and Jacobians share it.
"""

from typing import NamedTuple

import numpy as np

from fastgd import validation
from fastgd.kernels.codes import DOUBT, EPSILON, MISFIT_OF_NOISE, ROUNDING, misfit_share
from fastgd.validation import refuse_step


class Scheme(NamedTuple):
    """One formula of finite differences.

    The default step of an order p formula is ε^(1/(p+1))·max(1, |x|), which balances the rounding ε|f|/h against the
    truncation h^p for a function of ordinary scale (Press et al., Numerical Recipes, 3rd ed., section 5.7).
    """

    order: int
    offsets: tuple  # in steps from x; two-sided schemes list pairs (k, −k)
    beside: tuple  # of the same order to one side, where a bound is too close

    @property
    def relative_step(self):
        return EPSILON ** (1 / (self.order + 1))

    @property
    def one_sided(self):
        return len(self.offsets) == 1

    def evaluations(self, d):
        """How often f is called for d coordinates, none of them at a bound."""
        return len(self.offsets) * d + self.one_sided


SCHEMES = {
    "forward": Scheme(1, (1,), (1,)),
    "backward": Scheme(1, (-1,), (1,)),
    "central": Scheme(2, (1, -1), (1, 2)),
    "five-point": Scheme(4, (1, -1, 2, -2), (1, 2, 3, 4)),
}


def steps(x, scheme, h=None, typical_x=None):
    """The step of each coordinate as a new flat array: h checked, or the default of the scheme.

    Parameters
    ----------
    x : ndarray of float64
    scheme : str
        A key of SCHEMES.
    h : float or array_like, optional
        One for all coordinates, or one for each in the shape of x.
    typical_x : float or array_like, optional
        The size of each coordinate that counts as 1: the step is ε^(1/(p+1))·max(typical_xᵢ, |xᵢ|).
    """
    return sized(x, SCHEMES[scheme].relative_step, h, typical_x)


def sized(x, relative_step, h=None, typical_x=None, of="x"):
    """`steps` for a given relative step; `of` is the name of x in messages."""
    if h is not None and typical_x is not None:
        raise ValueError("h and typical_x both set the step: give one of them")
    if h is not None:
        return per_coordinate(h, "h", x, of)
    least = 1.0 if typical_x is None else per_coordinate(typical_x, "typical_x", x)
    return relative_step * np.maximum(least, np.abs(x.reshape(-1)))


def per_coordinate(value, name, x, of="x"):
    """A positive number, or one for each entry of x, as a new flat array."""
    value = validation.real_array(value, name, dtype=np.float64)
    if value.ndim and value.shape != x.shape:
        raise ValueError(
            f"{name} must be a number or an array of the shape of {of}, {x.shape}; got shape {value.shape}"
        )
    if not np.all(value > 0):
        raise ValueError(f"{name} must be positive; got {validation.show_point(value)}")
    return np.broadcast_to(value, x.shape).flatten()


def limits(bounds, x):
    """(lower, upper) as flat arrays like x, or None; x must lie within and each pair leave room for a difference."""
    pair = validation.bounds(bounds, x.shape)
    if pair is None:
        return None
    lower, upper = (side.reshape(-1) for side in pair)
    flat = x.reshape(-1)
    for wrong, what in (
        (~((lower <= flat) & (flat <= upper)), "do not hold x, which is {x!r} there"),
        (lower == upper, "leave no room for a difference: take that coordinate out"),
    ):
        if wrong.any():
            i = int(np.argmax(wrong))
            what = what.format(x=float(flat[i]))
            raise ValueError(f"bounds [{lower[i]}, {upper[i]}] of coordinate {i} {what}")
    return lower, upper


class Stencil:
    """The points of a difference scheme at x and the formula on them.

    Attributes
    ----------
    x : (d,) float64
    points : (d, p) float64
        f is needed at x with x[i] = points[i, j], for each i and j.
    needs_here : bool
        Whether f(x) is needed too.
    steps : (d,) float64
        The smallest distance from x that was used.
    """

    def __init__(self, x, steps, scheme, bounds=None):
        """
        Parameters
        ----------
        x : (d,) float64
        steps : (d,) float64, positive
        scheme : str
            A key of SCHEMES.
        bounds : pair of (d,) arrays, optional
            As `limits` gives them; no point is outside.

        Raises
        ------
        ValueError
            A step vanishes beside its coordinate, or leads beyond the largest float.
        """
        self.scheme, scheme = scheme, SCHEMES[scheme]
        self.x = x
        # One-sided differences err by as much along the line of the probes as along an axis.
        self.misfit_share = MISFIT_OF_NOISE if scheme.one_sided else misfit_share(len(x))
        # The default step of central differences, by which slopes are judged, in that of this scheme.
        self.central = SCHEMES["central"].relative_step / scheme.relative_step
        offsets = np.broadcast_to(np.array(scheme.offsets, float), (len(x), len(scheme.offsets)))
        beside = np.full(len(x), scheme.one_sided)
        if bounds is not None:
            offsets, steps, beside = within(x, steps, scheme, offsets, beside, *bounds)
        with np.errstate(all="ignore"):
            points = x[:, None] + steps[:, None] * offsets
        self.points = points if bounds is None else np.clip(points, bounds[0][:, None], bounds[1][:, None])
        self.needs_here = bool(beside.any())
        # The noise of a slope, in that of a central difference over the same step.
        self.spread = np.where(beside, 2.0 if scheme.one_sided else 3.0, 1.0)
        self.steps = steps
        # Difference quotient k is taken between the points `top` and `bottom`, x itself being the last of them.
        p = len(scheme.offsets)
        pairs = np.stack([np.arange(p), np.full(p, p)])
        two_sided = pairs if scheme.one_sided else np.stack([np.arange(0, p, 2), np.arange(1, p, 2)])
        pairs = np.where(beside[:, None, None], pairs, _wide(two_sided, p)) if self.needs_here else two_sided[None]
        self.top, self.bottom = np.broadcast_to(pairs, (len(x), *pairs.shape[1:])).transpose(1, 0, 2)
        self.distance = self._difference(np.column_stack([self.points, x]))
        refuse_useless(x, steps, self.distance)
        self.share = self._extrapolation(beside, two_sided.shape[1])

    def _difference(self, columns):
        index = (np.arange(len(columns))[:, None],)
        with np.errstate(all="ignore"):
            return columns[(*index, self.top)] - columns[(*index, self.bottom)]

    def _extrapolation(self, beside, pairs):
        """How much of each quotient goes into the slope: Lagrange's polynomials at a step of 0, in h² or in h."""
        d, q = self.distance.shape
        if q == 1:
            return None
        share = np.zeros((d, q))
        for rows, count, power in ((~beside, pairs, 2), (beside, q, 1)):
            node = self.distance[rows, :count] ** power
            for k in range(count):
                others = np.delete(node, k, axis=1)
                share[rows, k] = np.prod(others / (others - node[:, k : k + 1]), axis=1)
        return share

    def slopes(self, values, here=None):
        """∂f/∂xᵢ for each i.

        Parameters
        ----------
        values : (d, p, …) float64
            What f gave at `points`.
        here : (…) float64, optional
            f(x), where `needs_here`.

        Returns
        -------
        (d, …) float64
        """
        quotients = self.quotients(values, here)
        if self.share is None:
            return quotients[:, 0]
        share = self.share.reshape(self.share.shape + (1,) * (values.ndim - 2))
        with np.errstate(all="ignore"):
            # A share of 0 marks a quotient that is not part of the formula, and may be NaN.
            return np.where(share == 0, 0, share * quotients).sum(axis=1)

    def quotients(self, values, here=None):
        """The difference quotients (d, q, …) that `slopes` are made of, the one of the smallest step first."""
        here = np.zeros(values.shape[2:]) if here is None else here
        columns = np.concatenate([values, np.broadcast_to(here, (len(values), 1, *values.shape[2:]))], axis=1)
        with np.errstate(all="ignore"):
            return self._difference(columns) / self.distance.reshape(self.distance.shape + (1,) * (values.ndim - 2))

    def error(self, slopes, values, here, deviation):
        """How far slopes may be off where values of f may be by `deviation`."""
        with np.errstate(all="ignore"):
            error = self.spread * deviation / self.steps
            if self.scheme == "five-point":
                # What the second pair of points changed: more than what it left, for a step that is not too large.
                error = error + 2 * np.abs(slopes - self.quotients(values, here)[:, 0])
            return error

    def limit(self, slopes, size):
        """The error above which slopes are doubtful: of a scheme of first order, 16 times that of rounding."""
        with np.errstate(all="ignore"):
            limit = DOUBT * np.maximum(1.0, np.abs(slopes))
            if SCHEMES[self.scheme].one_sided:
                limit = np.maximum(limit, 16 * ROUNDING * EPSILON * size * self.spread / self.steps)
            return limit

    def central_steps(self):
        """The steps that a search starts from, those of central differences where these are default steps."""
        return self.steps * self.central

    def kept_side(self, limits):
        """Bounds that keep one-sided differences on their side."""
        if not SCHEMES[self.scheme].one_sided:
            return limits
        lower, upper = (np.full(len(self.x), -np.inf), np.full(len(self.x), np.inf)) if limits is None else limits
        upwards = self.points[:, 0] > self.x
        return np.where(upwards, self.x, lower), np.where(upwards, upper, self.x)


def _wide(pairs, q):
    """Pairs of columns, filled up to q of them by repeating the first."""
    return np.concatenate([pairs, np.repeat(pairs[:, :1], q - pairs.shape[1], axis=1)], axis=1)


def within(x, steps, scheme, offsets, beside, lower, upper):
    """Offsets and steps that keep all points between the bounds: to one side where there is no room on both."""
    with np.errstate(all="ignore"):
        below, above = x - lower, upper - x
        fits = ((scheme.offsets[0] < 0) | (above >= max(scheme.offsets) * steps)) & (
            (min(scheme.offsets) > 0) | (below >= -min(scheme.offsets) * steps)
        )
    reach = max(scheme.beside)
    upwards = (above >= reach * steps) | (above >= below)
    if scheme.offsets == (-1,):  # a backward difference keeps its side as long as it can
        upwards = below < above
    side = np.where(upwards, 1.0, -1.0)[:, None] * np.array(scheme.beside, float)
    room = np.where(upwards, above, below) / reach
    steps = np.where(fits, steps, np.minimum(steps, room))
    return np.where(fits[:, None], offsets, side), steps, beside | ~fits


def refuse_useless(x, steps, distance):
    """Raise if two points of a difference are not apart: (d,) or (d, q) distances, for x and steps (d,)."""
    wrong = (distance == 0) | ~np.isfinite(distance)
    if wrong.any():
        at = np.argwhere(wrong)[0].tolist()
        refuse_step(float(distance[tuple(at)]), at[0], float(x[at[0]]), float(steps[at[0]]))
