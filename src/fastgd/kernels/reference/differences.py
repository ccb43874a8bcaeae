"""The kernels of finite differences in plain NumPy: the specification of `differences.pyx`.

f is a Python callable, or a `CFunction`, which the compiled kernels call without Python in between.
"""

import numpy as np

from fastgd.kernels.codes import DOUBT, EPSILON, RELATIVE_STEP, SMALL, STEEP, X_NOT_FINITE
from fastgd.linalg import in_single
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


def central_differences(f, x, steps, shape, args, as_number, values, out):
    """Write (f(x + hᵢeᵢ) − f(x − hᵢeᵢ)) / ((xᵢ + hᵢ) − (xᵢ − hᵢ)) to out (d,), in 2d evaluations.

    The divisor is the distance between the two points as they are in floating point, not 2h.

    Parameters
    ----------
    steps : (d,) or (0,) float64
        Length 0 stands for hᵢ = ε^(1/3)·max(1, |xᵢ|).
    values : (d, 2) float64, written to
        f(x + hᵢeᵢ) and f(x − hᵢeᵢ).
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
    if len(steps) not in (0, len(x)) or len(out) != len(x) or values.shape != (len(x), 2):
        raise ValueError(f"x has {len(x)} entries, steps {len(steps)}, values {values.shape} and out {len(out)}")
    if not np.all(np.isfinite(x)):
        return X_NOT_FINITE
    for i, pair in enumerate(_pairs(x, steps).tolist()):
        for side, value in enumerate(pair):
            values[i, side] = _at(f, x, shape, args, as_number, i, value)
    return central_slopes(x, steps, values, out)


def batched_differences(f, x, steps, shape, args, as_numbers, size, values, out):
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
    if len(steps) not in (0, len(x)) or len(out) != len(x) or values.shape != (len(x), 2):
        raise ValueError(f"x has {len(x)} entries, steps {len(steps)}, values {values.shape} and out {len(out)}")
    if size < 1:
        raise ValueError(f"size must be at least 1; got {size}")
    moved = np.tile(x, (2 * len(x), 1))
    moved[np.arange(2 * len(x)), np.repeat(np.arange(len(x)), 2)] = _pairs(x, steps).reshape(-1)
    found = values.reshape(-1)
    for start in range(0, len(moved), size):
        points = moved[start : start + size].copy()
        returned = f(points.reshape(len(points), *shape), *args)
        found[start : start + size] = as_numbers(returned, len(points))
    return central_slopes(x, steps, values, out)


def _pairs(x, steps):
    """(d, 2): each coordinate a step up and a step down."""
    with np.errstate(all="ignore"):
        h = _steps(x, steps)
        points = np.column_stack([x + h, x - h])
        distance = points[:, 0] - points[:, 1]
    for i in np.flatnonzero((distance == 0) | ~np.isfinite(distance))[:1].tolist():
        refuse_step(float(distance[i]), i, float(x[i]), float(h[i]))
    return points


def central_slopes(x, steps, values, out):
    """Write the central differences of `values` to out (d,) and count the doubtful; the half of `central_differences`
    that needs no f.

    A slope is doubtful where it may err by more than DOUBT·max(1, |slope|), as far as 2d values can tell:

    - It is not finite; where any is not, only those are counted.
    - All are, if f seems to return float32 (`in_single`).
    - Rounding: ε·max|f| over half the distance.
    - Truncation: h²f'''/6, taken for f''²h²/6|f'| as if the slope changed on a length of |f'/f''|; an |f'| below STEEP
      counts as STEEP. f''h comes from the mean of each pair less their lower median, which stands for f(x).
    - Truncation, if the scale of the coordinate is |xᵢ| ≪ 1: |f'|·min(h, |xᵢ|)²/xᵢ² above SMALL·max(1, |f'|).

    Parameters and what is returned are those of `central_differences`.
    """
    if len(steps) not in (0, len(x)) or len(out) != len(x) or values.shape != (len(x), 2):
        raise ValueError(f"x has {len(x)} entries, steps {len(steps)}, values {values.shape} and out {len(out)}")
    with np.errstate(all="ignore"):
        h = _steps(x, steps)
        distance = (x + h) - (x - h)
        out[:] = (values[:, 0] - values[:, 1]) / distance
        fine = np.isfinite(out)
        if not fine.all() or not len(x):
            return int(np.sum(~fine))
        if in_single(values):
            return len(x)
        half, scale = distance / 2, np.maximum(1.0, np.abs(out))
        mean = values[:, 0] / 2 + values[:, 1] / 2
        middle = (len(x) - 1) // 2
        bend = 2 * (mean - np.partition(mean, middle)[middle]) / half
        fine &= EPSILON * np.max(np.abs(values), axis=1) / half <= DOUBT * scale
        fine &= bend * bend <= 6 * DOUBT * np.maximum(STEEP, scale) ** 2
        fine &= np.abs(out) * np.minimum(h, np.abs(x)) ** 2 <= SMALL * scale * x * x
    return int(np.sum(~fine))


def _steps(x, steps):
    return steps if len(steps) else RELATIVE_STEP * np.maximum(1.0, np.abs(x))
