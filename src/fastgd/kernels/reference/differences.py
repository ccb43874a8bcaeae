"""The kernels of finite differences in plain NumPy: the specification of `differences.pyx`.

f is a Python callable, or a `CFunction`, which the compiled kernels call without Python in between.
"""

import numpy as np

from fastgd.kernels.codes import (
    BESIDE,
    DOUBT,
    EPSILON,
    JITTER,
    MISFIT_OF_NOISE,
    PROBE,
    RELATIVE_STEP,
    ROUNDING,
    X_NOT_FINITE,
    misfit_share,
    probe_shares,
)  # fmt: skip
from fastgd.validation import refuse_step


def _at(f, x, shape, args, as_number, i=-1, value=0.0):
    """f at a private copy of x, with coordinate i replaced where i is not −1."""
    point = x.copy()
    if i >= 0:
        point[i] = value
    given = point.copy()  # f may write to what it is given
    return as_number(f(given.reshape(shape), *args), point.reshape(shape), i)


def evaluate(f, x, shape, args, as_number):
    """f(x, *args) as a float, f being given a private copy of x in its shape.

    Parameters
    ----------
    f : callable
        Takes an array of `shape`.
    x : (d,) float64
    shape : tuple
        The shape f expects x in.
    args : tuple
        Further arguments of f.
    as_number : callable
        as_number(returned, point, i) makes a float of what f returned, or raises. The point is in its shape, i is the
        coordinate that was moved, −1 for none. It is not called for a finite Python float.
    """
    return _at(f, x, shape, args, as_number)


def sample(f, x, coordinates, values, shape, args, as_number, out):
    """Write f at x with x[coordinates[k]] = values[k] to out[k], for each k in order.

    Parameters
    ----------
    coordinates : (m,) intp
        From −1, which stands for x as it is, to d − 1.
    values, out : (m,) float64
    f, x, shape, args, as_number
        As in `evaluate`; f gets a private copy each time.
    """
    if not len(coordinates) == len(values) == len(out):
        raise ValueError(f"there are {len(coordinates)} coordinates, {len(values)} values and {len(out)} places")
    if len(coordinates) and not -1 <= coordinates.min() <= coordinates.max() < len(x):
        raise ValueError(f"a coordinate is beyond the {len(x)} of x")
    for k, (i, value) in enumerate(zip(coordinates.tolist(), values.tolist(), strict=True)):
        out[k] = _at(f, x, shape, args, as_number, i, value)


def central_differences(f, x, steps, shape, args, as_number, values, probes, out):
    """Write (f(x + hᵢeᵢ) − f(x − hᵢeᵢ)) / ((xᵢ + hᵢ) − (xᵢ − hᵢ)) to out (d,).

    In 2d evaluations, and one for each probe.

    The divisor is the distance between the two points as they are in floating point, not 2h.

    Parameters
    ----------
    steps : (d,) or (0,) float64
        Length 0 stands for hᵢ = ε^(1/3)·max(1, |xᵢ|).
    values : (d, 2) float64, written to
        f(x + hᵢeᵢ) and f(x − hᵢeᵢ).
    probes : (3,) or (0,) float64, written to
        f at the points of `probe_points`, NaN where f raises an ArithmeticError or a ValueError. Length 0: do without.
    f, x, shape, args, as_number
        As in `evaluate`.

    Returns
    -------
    int
        How many slopes are doubtful, see `central_slopes`. X_NOT_FINITE, and nothing is evaluated or written, where x
        is not finite.

    Raises
    ------
    ValueError
        A step vanishes beside its coordinate, or leads beyond the largest float; f has not been called then.
    """
    _check_lengths(x, steps, values, probes, out)
    if not np.all(np.isfinite(x)):
        return X_NOT_FINITE
    for i, pair in enumerate(_pairs(x, steps).tolist()):
        for side, value in enumerate(pair):
            values[i, side] = _at(f, x, shape, args, as_number, i, value)
    central_slopes(x, steps, values, probes[:0], out)
    for k, point in enumerate(probe_points(x, steps, out) if len(x) and len(probes) else ()):
        try:
            probes[k] = _at(f, point, shape, args, as_number)
        except (ArithmeticError, ValueError):  # a border that the slopes do not need to cross
            probes[k] = np.nan
    return central_slopes(x, steps, values, probes, out)


def batched_differences(f, x, steps, shape, args, as_numbers, size, values, probes, out):
    """`central_differences` of an f that takes (m, *shape) points, and returns their values, for m up to `size`.

    Parameters
    ----------
    f : callable
        It gets arrays of its own, which it may write to or keep.
    x : (d,) float64
        Finite.
    as_numbers : callable
        as_numbers(returned, m) makes a C-contiguous (m,) array of float64 of what f returned, or raises.
    size : int
        At least 1.
    """
    _check_lengths(x, steps, values, probes, out)
    if size < 1:
        raise ValueError(f"size must be at least 1; got {size}")
    moved = np.tile(x, (2 * len(x), 1))
    moved[np.arange(2 * len(x)), np.repeat(np.arange(len(x)), 2)] = _pairs(x, steps).reshape(-1)
    _in_batches(f, moved, shape, args, as_numbers, size, values.reshape(-1))
    central_slopes(x, steps, values, probes[:0], out)
    if len(x) and len(probes):
        _in_batches(f, probe_points(x, steps, out), shape, args, as_numbers, size, probes)
    return central_slopes(x, steps, values, probes, out)


def _in_batches(f, moved, shape, args, as_numbers, size, found):
    for start in range(0, len(moved), size):
        points = moved[start : start + size].copy()
        returned = f(points.reshape(len(points), *shape), *args)
        found[start : start + size] = as_numbers(returned, len(points))


def _check_lengths(x, steps, values, probes, out):
    if len(steps) not in (0, len(x)) or len(out) != len(x) or values.shape != (len(x), 2) or len(probes) not in (0, 3):
        raise ValueError(
            f"x has {len(x)} entries, steps {len(steps)}, values {values.shape}, probes {len(probes)} and out "
            f"{len(out)}"
        )


def _pairs(x, steps):
    """(d, 2): each coordinate a step up and a step down."""
    with np.errstate(all="ignore"):
        h = _steps(x, steps)
        points = np.column_stack([x + h, x - h])
        distance = points[:, 0] - points[:, 1]
    for i in np.flatnonzero((distance == 0) | ~np.isfinite(distance))[:1].tolist():
        refuse_step(float(distance[i]), i, float(x[i]), float(h[i]))
    return points


def probe_points(x, steps, slopes):
    """(3, d): the points x + v, x − v and x + v + u at which slopes are judged.

    v is PROBE steps long and moves all coordinates, each by another share of its step and uphill; u is
    BESIDE·max(1, |x|).
    """
    with np.errstate(all="ignore"):
        v = _steps(x, steps) * probe_shares(slopes)
        return np.stack([x + v, x - v, x + v + BESIDE * np.maximum(1.0, np.abs(x))])


def central_slopes(x, steps, values, probes, out):
    """Write the central differences of `values` to out (d,) and count the doubtful; the half of `central_differences`
    that needs no f.

    A slope is doubtful if it is not finite; where any is not, only those are counted. Without probes no other is. All
    are, if f is seen not to have the digits of float64: all values are equal, or each has 16 zero bits at its end. Else
    a slope is doubtful unless its error is at most DOUBT·max(1, |slope|), the error being

        (ROUNDING·ε·max|f| + JITTER·jitter) / h + share·|misfit| / (2·PROBE·h)
        misfit = f(x + v) − f(x − v) − 2v·g         jitter = f(x + v + u) − f(x + v) − u·g

    (less than that where f bends so much between x − v and x + v that g has changed on the way to x + v)
    with the points of `probe_points`, g the slopes, and share = `misfit_share`, or MISFIT_OF_NOISE where the jitter is
    more than 2ε·max|f|: misfit is then due to noise, else to truncation, which is PROBE² times what it is at a step.

    Parameters and what is returned are those of `central_differences`.
    """
    _check_lengths(x, steps, values, probes, out)
    with np.errstate(all="ignore"):
        h = _steps(x, steps)
        distance = (x + h) - (x - h)
        out[:] = (values[:, 0] - values[:, 1]) / distance
        fine = np.isfinite(out)
        if not fine.all() or not len(x) or not len(probes):
            return int(np.sum(~fine))
        every = np.append(values, probes)
        if np.all(every == every[0]) or not np.any(every.view(np.int64) & 0xFFFF) or not np.all(np.isfinite(probes)):
            return len(x)
        ahead, behind, beside = probe_points(x, steps, out)
        misfit = (probes[0] - probes[1]) - _dot(out, ahead - behind)
        jitter = abs((probes[2] - probes[0]) - _dot(out, beside - ahead))
        bend = abs((probes[0] - values[0, 0]) + (probes[1] - values[0, 1]))
        jitter = max(0.0, jitter - 4 * bend * np.max(np.abs((beside - ahead) / (ahead - x))))
        unit = EPSILON * np.max(np.abs(every))
        share = MISFIT_OF_NOISE if jitter > 2 * unit else misfit_share(len(x))
        error = ROUNDING * unit + JITTER * jitter + share / (2 * PROBE) * abs(misfit)
        return int(np.sum(~(error <= DOUBT * np.maximum(1.0, np.abs(out)) * (distance / 2))))


def _dot(a, b):
    """Σ aᵢbᵢ, added up one after the other."""
    total = 0.0
    for product in (a * b).tolist():
        total += product
    return total


def _steps(x, steps):
    return steps if len(steps) else RELATIVE_STEP * np.maximum(1.0, np.abs(x))
