"""How precise f is, measured instead of assumed, and what follows for the error of slopes.

Three more values compare the slopes with the change of f along one line (`probe_points` of the reference kernels says
where). Only where they disagree the noise of f is measured: by a table of differences of a few values so close together
that f is linear there but for its noise (Moré & Wild 2011, "Estimating computational noise", SIAM J. Sci. Comput. 33,
1292), further apart where they are equal; and if these show no noise, by bisection for a jump of f on the line, whose
size does not shrink with the interval.
"""

import math

import numpy as np

from fastgd.kernels.codes import BESIDE, EPSILON, JITTER, MISFIT_OF_NOISE, PROBE, ROUNDING, probe_shares

# A misfit of so many deviations of the noise may be due to it: the slopes have their own, times the line's length.
EXPLAINED = 300.0


class Line:
    """The three probes and what they say; f may return one number or an array of them.

    Attributes
    ----------
    points : (3, d)
        x + v, x − v and x + v + u; or x + v, x + 2v and x + v + u where a bound leaves no room on both sides.
    """

    def __init__(self, x, steps, slopes, limits=None):
        with np.errstate(all="ignore"):
            self.x, v = x, steps * probe_shares(slopes)
            u = BESIDE * np.maximum(1.0, np.abs(x))
            self.two_sided = True
            if limits is not None:
                below, above = x - limits[0], limits[1] - x
                v = np.where(above >= below, 1.0, -1.0) * np.minimum(np.abs(v), np.maximum(below, above) / 3)
                u = np.sign(v) * np.minimum(u, np.abs(v))
                self.two_sided = bool(np.all(np.minimum(below, above) >= np.abs(v)))
            self.points = np.stack([x + v, x - v if self.two_sided else x + 2 * v, x + v + u])
            if limits is not None:
                np.clip(self.points, *limits, out=self.points)
            self.v = v

    def misfits(self, slopes, probes, middle):
        """By how much f changes otherwise than slopes (…, d) say: between x − v and x + v, and beside x + v.

        `middle` is f(x), or near to it where there is room on both sides.
        """
        with np.errstate(all="ignore"):
            ahead, behind, beside = self.points
            # Between x and x + v the slopes change by what the bend of f shows.
            bend = np.abs((probes[0] - middle) + (probes[1] - middle)) * (4 if self.two_sided else 1)
            nearer = bend * np.nanmax(np.abs((beside - ahead) / (ahead - self.x)))
            jitter = np.abs((probes[2] - probes[0]) - slopes @ (beside - ahead))
            jitter = np.where(jitter > nearer, jitter - nearer, np.where(np.isnan(nearer), jitter, 0.0))
            if self.two_sided:
                return np.abs((probes[0] - probes[1]) - slopes @ (ahead - behind)), jitter
            change = 4 * (probes[0] - middle) - (probes[1] - middle)
            return np.abs(change - slopes @ (4 * (ahead - self.x) - (behind - self.x))), jitter


def deviation(size, misfit, jitter, misfit_share, of_noise=MISFIT_OF_NOISE):
    """By how much values of f may be off as differences see them: over the step it is the error of a slope.

    Parameters
    ----------
    size : max |f|
    misfit, jitter : as `Line.misfits` gives them
    misfit_share : float
        How much of the misfit is the error of slopes where it is not due to noise.
    of_noise : float
        And where it is.
    """
    with np.errstate(all="ignore"):
        share = np.where(jitter > 2 * EPSILON * size, of_noise, misfit_share)
        # However small f is, float64 rounds it to multiples of 5e-324.
        return ROUNDING * EPSILON * size + 5e-324 + JITTER * jitter + share / (2 * PROBE) * misfit


def largest(values):
    """max |f| over the finite ones of values (n, …)."""
    return np.max(np.abs(values), axis=0, initial=0.0, where=np.isfinite(values))


def is_coarse(values):
    """Whether values (n, …) of f show that it does not have the digits of float64: all equal, or all end in zeros."""
    bits = np.ascontiguousarray(values, dtype=np.float64).view(np.int64) & 0xFFFF
    with np.errstate(all="ignore"):
        return np.all(values == values[:1], axis=0) | ~np.any(bits, axis=0)


def quantum(values):
    """The largest power of two of which all the values (n, …) are multiples; 0 where all are 0."""
    mantissa, exponent = np.frexp(np.where(np.isfinite(values), values, 0.0))
    whole = np.abs(mantissa * 2.0**53).astype(np.int64)
    with np.errstate(all="ignore"):
        lowest = np.where(whole == 0, np.inf, np.ldexp((whole & -whole).astype(float), exponent - 53))
        least = np.min(lowest, axis=0, initial=np.inf)
    return np.where(np.isfinite(least), least, 0.0)


def level(on, x, values, limits=None):
    """The standard deviation of the noise of f around x, by tables of differences.

    Parameters
    ----------
    on : callable
        f at points (m, d): values (m, …).
    x : (d,) float64
    values : (n, …) float64
        What is known of f around x.
    limits : pair of (d,) arrays or None

    Returns
    -------
    sigma : (…) float64
        At least rounding: ε times the largest of the values.
    constant : (…) bool
        Where f was the same at all points, out to ones that differ by much of max(1, |x|).
    """
    length, of_quantum = 7, 0.3  # of a table; of the rounding to multiples of a quantum, the standard deviation
    # How far the values of a table are apart, in powers of two that are at least max(1, |x|): a point is exact then.
    spacings = [2.0**k for k in (-43, -33, -29, -25, -21, -17, -13, -9, -6, -3)]
    with np.errstate(all="ignore"):
        size, given = np.zeros(values.shape[1:]), values
        unit = 2.0 ** np.ceil(np.log2(np.maximum(1.0, np.abs(x)))) * np.where(np.arange(len(x)) % 2, -1.0, 1.0)
        shares = 0.5 + 0.5 * np.modf(0.6180339887498949 * np.arange(1.0, len(x) + 1))[0]
        room = np.inf
        if limits is not None:
            below, above = x - limits[0], limits[1] - x
            unit = np.where(above >= below, 1.0, -1.0) * np.abs(unit)
            room = np.min(np.maximum(below, above) / np.abs(unit))
        found, open_ = np.zeros_like(size), np.ones_like(size, dtype=bool)
        constant = np.zeros_like(open_)
        before = 0.0
        skip = np.all(values == values[:1]) and len(values) > 1  # over a step already
        for spacing in spacings[4 if skip else 0 :]:
            if not np.any(open_) or (length - 1) * spacing > room:
                break
            # Further out powers of two would hide that f rounds its argument.
            share = 1.0 if spacing == spacings[0] else shares
            table = on(x + spacing * np.arange(length)[:, None] * (unit * share))
            if not np.any(np.isfinite(table)):
                break
            size = np.fmax(size, np.max(np.abs(table), axis=0))
            change = np.abs(np.diff(table, axis=0))
            equal = np.sum(change == 0, axis=0)
            step = of_quantum * np.min(np.where(change > 0, change, np.inf), axis=0)
            if spacing == spacings[0]:
                measured = _of_differences(table, (2, 3, 4, 5))
            else:  # all were equal over the spacing before: a quantum is no less than the change over that
                least = step * min(1.0, (length - 1) * before / spacing)
                measured = np.maximum(_of_differences(table, (4, 5, 6)), least)  # f bends between the values
            measured = np.where(equal < length // 2, measured, step)
            fine = open_ & np.isfinite(measured) & (equal < length - 1)
            found, open_ = np.where(fine, measured, found), open_ & ~fine
            values, before = np.concatenate([values, table]), spacing
        else:
            constant = np.all(values == values[:1], axis=0)
        # Far values may be much larger than those beside x.
        size = np.where(size > 0, size, largest(given))
        step = np.where(is_coarse(values), of_quantum * quantum(values), 0.0)
        return np.maximum(np.maximum(EPSILON * size, step), found), constant


def unseen(x, value, level):
    """The slopes that a function may have that is constant as far as `level` looks: of a quantum out there."""
    return np.maximum(level, quantum(np.asarray(value)[None])) / np.maximum(1.0, np.abs(x))


def _of_differences(table, orders):
    """The standard deviation that k-th differences tell: theirs is that times the root of (2k over k)."""
    total = sum(np.mean(np.diff(table, k, axis=0) ** 2, axis=0) / math.comb(2 * k, k) for k in orders)
    return np.sqrt(total / len(orders))


def jump(on, x, v, ends, least):
    """The size of a jump of f between x − v and x + v that is less than a step wide; 0 if there is none.

    The half is kept on which f changes more than its slope beside x says. A jump stays as large as it is; of what is
    smooth an eighth is left after three halvings.

    Parameters
    ----------
    on : callable
        f at points (m, d): (m,) values.
    x, v : (d,) float64
    ends : pair of float
        f at x − v and x + v.
    least : float
        Smaller ones are not looked for.
    """
    low, high, (f_low, f_high) = -1.0, 1.0, ends
    misfits, short = [], 2.0**-18  # of the line, for the slope beside x
    with np.errstate(all="ignore"):
        above, below = on(np.stack([x + short * v, x - short * v]))
        slope = float(above - below) / (2 * short)
        for _ in range(24):
            middle = (low + high) / 2
            f_middle = float(on((x + middle * v)[None])[0])
            left, right = f_middle - f_low - slope * (middle - low), f_high - f_middle - slope * (high - middle)
            if abs(left) > abs(right):
                high, f_high = middle, f_middle
            else:
                low, f_low = middle, f_middle
            misfits.append(max(abs(left), abs(right)))
            if not misfits[-1] > least:
                return 0.0
        # It grows towards a pole.
        return misfits[-1] if misfits[-4] / 2 < misfits[-1] < 2 * misfits[-4] else 0.0
