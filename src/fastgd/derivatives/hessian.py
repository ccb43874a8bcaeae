"""Hessians by second differences of a function, and their products with a vector by differences of its gradient.

Second differences along the axes give the diagonal, and along the diagonals of each plane of two axes all the rest
(Abramowitz & Stegun, 25.3.23 and 25.3.27):

    hᵢ²·∂ᵢᵢf ≈ f(x + hᵢ) − 2f(x) + f(x − hᵢ)
    2hᵢhⱼ·∂ᵢⱼf ≈ [f(x + hᵢ + hⱼ) − 2f(x) + f(x − hᵢ − hⱼ)] − hᵢ²·∂ᵢᵢf − hⱼ²·∂ⱼⱼf

so a Hessian costs d² + d + 1 evaluations and is symmetric by construction. A coordinate too close to a bound is
differenced to its other side, with formulas that are O(h²) too.
"""

from __future__ import annotations

import typing
from typing import Literal, NamedTuple, Unpack

import numpy as np

from fastgd import forms, validation
from fastgd.derivatives import noise, stencils
from fastgd.derivatives.gradient import flat_options
from fastgd.derivatives.refinement import CAUTION
from fastgd.derivatives.stencils import EPSILON
from fastgd.derivatives.vectorial import ScalarSampler
from fastgd.kernels import c_functions

if typing.TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from fastgd.types import Doubles, Gradient, SamplingOptions, ScalarFunction, Steps

SCHEMES = ("central", "richardson")
NAN_POLICIES = ("raise", "propagate")

RELATIVE_STEP = EPSILON**0.25
# The step of an axis is looked for where the second difference along it may err by this much of max(1, |∂ᵢᵢf|) …
DOUBT = 1e-6
# … in factors of 4, so often at most.
MOST_LOOKS = 8
# Richardson's steps, in those of the central scheme.
RUNGS = (1.0, 4.0, 16.0, 64.0)
# And where f is noisy: closer together, as the noise of an extrapolation is that of its smallest step.
NOISY_RUNGS = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0)
# Pairs of coordinates whose points are held at a time.
MOST_PAIRS = 1 << 10
# Steps that differ by less are taken together in a product with a vector.
SPREAD = 1e3


class HessianEstimate(NamedTuple):
    """A Hessian with what is known of it.

    Attributes
    ----------
    hessian : (d, d) ndarray
    error : (d, d) ndarray
        Estimated absolute error of each entry; inf for those of a coordinate too close to a bound.
    steps : ndarray of the shape of x
    nfev : int
        How often f was called; how many points it was given where it is vectorized.
    """

    hessian: Doubles
    error: Doubles
    steps: Doubles
    nfev: int


@typing.overload
def numerical_hessian(
    f: ScalarFunction, x: ArrayLike, h: Steps = None, *, scheme: Literal["central", "richardson"] = "central",
    full_output: Literal[False] = False, **options: Unpack[SamplingOptions],
) -> Doubles: ...  # fmt: skip
@typing.overload
def numerical_hessian(
    f: ScalarFunction, x: ArrayLike, h: Steps = None, *, scheme: Literal["central", "richardson"] = "central",
    full_output: Literal[True], **options: Unpack[SamplingOptions],
) -> HessianEstimate: ...  # fmt: skip
def numerical_hessian(
    f, x, h=None, *, scheme="central", bounds=None, typical_x=None, vectorized=False, workers=None, args=(),
    nan_policy="raise", full_output=False,
):  # fmt: skip
    """Hessian of a scalar function, by second differences.

    Parameters
    ----------
    f : callable
        As for `numerical_gradient`: one real number for a private copy of x.
    x : array_like of float, dict or pandas Series
        d numbers of any shape. Never written to. With names as in `numerical_gradient`; rows and columns of the
        Hessian are then in the order of its values.
    h : float or array_like, optional
        The step, or one for each coordinate. Without it ε^(1/4)·max(1, |xᵢ|), or another one where differences along
        that axis show that it does not suit f.
    scheme : {"central", "richardson"}
        Central has an error of O(h²), about √ε times the size of f. Richardson extrapolates from four steps, h, 4h,
        16h and 64h, and estimates the error of each entry.
    bounds : pair (lower, upper), optional
        No point is outside. The entries of a coordinate closer to a bound than its steps are taken to the other side.
    typical_x, vectorized, workers, args, nan_policy
        As in `numerical_jacobian`.
    full_output : bool
        Return a `HessianEstimate` instead. Central differences are then taken at twice the steps too, for its errors.

    Returns
    -------
    (d, d) ndarray of float64, symmetric.

    Raises
    ------
    TypeError, ValueError
        As `numerical_gradient` does.

    Notes
    -----
    Evaluations: d² + d + 1 with an h; without one 2d more, to judge the steps, and 4 for each time that a coordinate
    tries another; with full_output d² + d more. Richardson: 4(d² + d) + 1, and as many more to judge the steps. Near a
    bound: one more for a coordinate, and up to 4 in place of 2 for a pair. If the gradient is at hand,
    `numerical_jacobian(grad, x)` takes 2d calls of it and is more exact; for a product with one vector see
    `hessian_vector_product`.

    Examples
    --------
    >>> numerical_hessian(lambda x: x[0] ** 2 * x[1], [1.0, 2.0]).round(4)
    array([[4., 2.],
           [2., 0.]])
    """
    validation.choice(scheme, "scheme", SCHEMES)
    validation.choice(nan_policy, "nan_policy", NAN_POLICIES)
    full_output = validation.boolean(full_output, "full_output")
    names = forms.named(x)
    if names is not None:
        options = flat_options(names, h, bounds, typical_x, vectorized)
        f, x, h, bounds, typical_x = names.function(f), names.flat, *options.values()
    x = validation.real_array(x, "x", dtype=np.float64)
    limits = stencils.limits(bounds, x)
    steps = stencils.sized(x, RELATIVE_STEP, h, typical_x)
    grid = Grid(ScalarSampler(f, np.ascontiguousarray(x), args, vectorized, workers), steps, limits)
    if h is None and x.size:
        grid.measure_noise()
        if grid.noisy:  # only wide steps tell anything, and extrapolation makes them as good as short ones
            scheme = "richardson"
        else:
            grid.fit_steps()
    if scheme == "central":
        hessian = grid.second_differences(1.0)
        error = grid.error_of(hessian) if full_output else None
    else:
        hessian, error = grid.extrapolated()
    if nan_policy == "raise":
        grid.refuse_nonfinite(hessian)
    if full_output:
        return HessianEstimate(hessian, error, grid.steps.reshape(x.shape), grid.sampler.nfev)
    return hessian


def _pairs(n):
    """Pairs i < j below n, as many at a time as fit the cache (one row at least)."""
    first = 0
    while first < n - 1:
        last = first + 1
        while last < n - 1 and (last + 1 - first) * (n - first) <= MOST_PAIRS:
            last += 1
        rows = np.arange(first, last)
        yield np.repeat(rows, n - 1 - rows), np.concatenate([np.arange(row + 1, n) for row in rows])
        first = last


class Look(NamedTuple):
    """Second differences along some axes: what they come to and how far they may be off."""

    step: np.ndarray
    error: np.ndarray
    value: np.ndarray
    shorter: np.ndarray  # whether a shorter step would be better
    up: np.ndarray  # f a step above x
    down: np.ndarray


class Grid:
    """f at x and at points beside it, one or two coordinates moved by whole numbers of their steps.

    Attributes
    ----------
    steps : (d,) float64
        Such that x + h and x − h are equally far from x in floating point.
    side : (d,) float64
        0 where there is room for a step on both sides; else 1 or −1, where the differences go.
    """

    def __init__(self, sampler, steps, limits):
        self.sampler, self.x, self.limits = sampler, sampler.x, limits
        self.level, self.noisy, self.rungs = 0.0, False, RUNGS  # until the noise of f is measured
        d = len(self.x)
        self.here = float(self.at([(slice(0, 0), 0.0)])[0])
        self.largest = abs(self.here)
        below, above = np.full((2, d), np.inf) if limits is None else (self.x - limits[0], limits[1] - self.x)
        self.room = np.minimum(below, above)
        self.side = np.where(self.room >= steps, 0.0, np.where(above >= below, 1.0, -1.0))
        steps = np.where(self.side == 0, steps, np.minimum(steps, np.maximum(below, above) / 3))
        self.steps = self._exact(np.arange(d), steps)
        self.ends = np.full((d, 2), np.nan)  # f a step above and below x on each axis, as far as it is known

    def measure_noise(self):
        """Measure how precise f is; where that is less than float64, take steps for it."""
        level, _ = noise.level(lambda points: self.sampler.on(points)[:, 0], self.x, np.array([self.here]), self.limits)
        self.level = float(level)
        share = self.level / self.largest if self.largest else 0.0
        self.noisy = share > 64 * EPSILON
        if self.noisy:
            self.rungs = NOISY_RUNGS
            times = min(8 * share**0.25, 1 / NOISY_RUNGS[-1]) / RELATIVE_STEP
            self.steps = self._exact(np.arange(len(self.x)), np.minimum(times * self.steps, self._most()))

    def _most(self):
        """The longest steps that have room where steps have room at all."""
        return np.where(self.side == 0, np.maximum(self.room, self.steps), self.steps)

    def rounding(self):
        """What second differences of values as large as were seen may be off by."""
        return 4 * max(self.level, EPSILON * self.largest)

    def _exact(self, coordinates, steps):
        x = self.x[coordinates]
        with np.errstate(all="ignore"):
            exact = np.abs((x + steps) - x)
            exact = np.where(exact > self.room[coordinates], steps, exact)
            useless = (exact == 0) | ~np.isfinite(exact)
        for k in np.flatnonzero(useless).tolist():
            stencils.refuse_step(float(exact[k]), int(coordinates[k]), float(x[k]), float(steps[k]))
        return exact

    def at(self, moves):
        """f at x with x[index] = value for each of the moves."""
        evaluate = self.sampler.attempt if self.noisy else self.sampler.at
        return evaluate(moves)[:, 0] if moves else np.empty(0)

    def along(self, coordinates, steps):
        """f with each of these coordinates moved by its step."""
        return self.at(list(zip(coordinates.tolist(), self._moved(coordinates, steps).tolist(), strict=True)))

    def in_planes(self, first, second, times):
        """f with two coordinates of each pair moved by times[0] and times[1] their steps."""
        points = [self._moved(i, k * self.steps[i]) for i, k in zip((first, second), times, strict=True)]
        return self.at(list(zip(np.stack([first, second], axis=1), np.stack(points, axis=1), strict=True)))

    def _moved(self, coordinates, steps):
        points = self.x[coordinates] + steps
        if self.limits is None:
            return points
        return np.clip(points, self.limits[0][coordinates], self.limits[1][coordinates])  # by rounding, if at all

    def fit_steps(self):
        """Take other steps for coordinates along whose axis second differences at h and 2h differ, or are rounding."""
        rows = np.flatnonzero(2 * self.steps <= self.room)
        best = self._look(rows, self.steps[rows])
        for _ in range(MOST_LOOKS):
            with np.errstate(all="ignore"):
                again = np.flatnonzero(~(best.error <= DOUBT * np.maximum(1.0, np.abs(best.value))))
                trial = best.step[again] * np.where(best.shorter[again], 0.25, 4.0)
                x = self.x[rows[again]]
                possible = (2 * trial <= self.room[rows[again]]) & (x + trial != x) & np.isfinite(x + 2 * trial)
            again, trial = again[possible], trial[possible]
            if not len(again):
                break
            found = self._look(rows[again], trial)
            better = (found.error < best.error[again]) | ~np.isfinite(best.error[again])
            for old, new in zip(best, found, strict=True):
                old[again[better]] = new[better]
            best.error[again[~better]] = 0.0  # no better this way: leave it at that
        self.steps[rows] = best.step
        self.ends[rows] = np.stack([best.up, best.down], axis=1)

    def _look(self, coordinates, steps):
        steps = self._exact(coordinates, steps)
        ends = [self.along(coordinates, k * steps) for k in (1, -1, 2, -2)]
        with np.errstate(all="ignore"):
            near, far = ((u - 2 * self.here + v) / (k * steps) ** 2 for k, u, v in ((1, *ends[:2]), (2, *ends[2:])))
            size = np.maximum(abs(self.here), np.max(np.abs(ends), axis=0))
            rounding = 4 * np.maximum(EPSILON * size, self.level) / steps**2
            truncation = np.abs(far - near) / 3
        return Look(steps, rounding + truncation, near, ~(rounding > truncation), *ends[:2])

    def second_differences(self, times=1.0):
        """The Hessian by steps so many times as long; NaN in rows and columns that have no room for them."""
        d, h = len(self.x), times * self.steps
        hessian = np.full((d, d), np.nan)
        wide = np.flatnonzero((self.side == 0) & (h <= self.room))
        up, down = self.ends[wide].T if times == 1 else np.full((2, len(wide)), np.nan)
        unknown = np.isnan(up) | np.isnan(down)
        for ends, sign in ((up, 1), (down, -1)):
            ends[unknown] = self.along(wide[unknown], sign * h[wide[unknown]])
        with np.errstate(all="ignore"):
            bend = up - 2 * self.here + down
            hessian[wide, wide] = bend / h[wide] ** 2
        self._note(up, down)
        for i, j in _pairs(len(wide)):
            both = [self.in_planes(wide[i], wide[j], (k, k)) for k in (times, -times)]
            self._note(*both)
            with np.errstate(all="ignore"):
                mixed = both[0] - 2 * self.here + both[1] - bend[i] - bend[j]
                self._put(hessian, wide[i], wide[j], mixed / (2 * h[wide[i]] * h[wide[j]]))
        if times == 1:
            self._to_one_side(hessian, wide, up - down)
        return hessian

    def _note(self, *values):
        self.largest = max(self.largest, *(float(np.max(np.abs(v), initial=0.0)) for v in values))

    @staticmethod
    def _put(hessian, i, j, values):
        hessian[i, j] = hessian[j, i] = values

    def _to_one_side(self, hessian, wide, change):
        """The entries of coordinates at a bound: 2f₀ − 5f₁ + 4f₂ − f₃, and products of first differences."""
        near = np.flatnonzero(self.side)
        h, side = self.steps[near], self.side[near]
        f = [np.full(len(near), self.here)] + [self.along(near, k * side * h) for k in (1, 2, 3)]
        with np.errstate(all="ignore"):
            hessian[near, near] = (2 * f[0] - 5 * f[1] + 4 * f[2] - f[3]) / h**2
            n, w = (
                index.reshape(-1) for index in np.meshgrid(np.arange(len(near)), np.arange(len(wide)), indexing="ij")
            )
            i, j = near[n], wide[w]
            corners = {(a, b): self.in_planes(i, j, (a * side[n], b)) for a in (1, 2) for b in (1, -1)}
            slope = -3 * change[w] + 4 * (corners[1, 1] - corners[1, -1]) - (corners[2, 1] - corners[2, -1])
            self._put(hessian, i, j, side[n] * slope / (4 * h[n] * self.steps[j]))
            n, w = np.triu_indices(len(near), 1)
            i, j = near[n], near[w]
            weights = (-1.5, 2.0, -0.5)
            slope = weights[0] ** 2 * f[0][n]
            for a in (1, 2):
                slope = slope + weights[0] * weights[a] * (f[a][n] + f[a][w])
                for b in (1, 2):
                    slope = slope + weights[a] * weights[b] * self.in_planes(i, j, (a * side[n], b * side[w]))
            self._put(hessian, i, j, side[n] * side[w] * slope / (h[n] * h[w]))

    def error_of(self, hessian):
        """Estimated errors of `second_differences(1.0)`, from those of twice the steps: truncation grows fourfold."""
        error = self.second_differences(2.0)
        with np.errstate(all="ignore"):
            np.subtract(error, hessian, out=error)
            np.abs(error, out=error)
            error /= 3
            for i, row in enumerate(error):
                row += self.rounding() / (self.steps[i] * self.steps)
            error[np.isnan(error)] = np.inf
        return error

    def extrapolated(self):
        """Neville's scheme over the steps `rungs`, and for each entry the change that its best one made.

        As in `refinement.Ladder.best`, with the squares of the steps as nodes.
        """
        tables = [self.second_differences(times) for times in self.rungs]
        best, error = tables[0].copy(), np.full_like(tables[0], np.inf)
        with np.errstate(all="ignore"):
            unit = self.rounding() / np.outer(self.steps, self.steps)
            entries = tables
            for depth in range(1, len(self.rungs)):
                previous, entries = entries, []
                for k in range(len(previous) - 1):
                    gain = (self.rungs[k + depth] / self.rungs[k]) ** 2 - 1
                    entry = previous[k] + (previous[k] - previous[k + 1]) / gain
                    change = np.maximum(np.abs(entry - previous[k]), np.abs(entry - previous[k + 1]) / (gain + 1))
                    estimate = change + unit / self.rungs[k] ** 2
                    better = estimate < error
                    best, error = np.where(better, entry, best), np.where(better, estimate, error)
                    entries.append(entry)
        return best, CAUTION * error

    def refuse_nonfinite(self, hessian):
        """Raise if an entry is no finite number."""
        bad = np.argwhere(~np.isfinite(hessian))
        if len(bad):
            i, j = bad[0].tolist()
            at = validation.show_point(self.x.reshape(self.sampler.shape))
            raise ValueError(
                f"f returned NaN or an infinity at x = {at} or with coordinates {i} and {j} moved from there by "
                f"{self.steps[i]:.3g} and {self.steps[j]:.3g}; a second derivative needs finite values there"
            )


def hessian_vector_product(
    grad: Gradient, x: ArrayLike, v: ArrayLike, h: ArrayLike | None = None, *, args: tuple[typing.Any, ...] = ()
) -> Doubles:
    """Product of a Hessian with a vector, by central differences of the gradient along it: two calls of `grad` or more.

    (∇f(x + tv) − ∇f(x − tv)) / 2t, with t such that no coordinate moves by more than hᵢ. Hv for a d of millions takes
    no more memory than a few gradients. Two more calls are made where a coordinate is small, for the scale of f may
    then be its size; and two for each group of coordinates whose steps differ from others' by a factor of 1000.

    Parameters
    ----------
    grad : callable or C function
        grad(x, *args) returns an array of the shape of x. Each call gets a private copy, and what it returns is copied.
        A scipy.LowLevelCallable or numba cfunc is `void (n, double *x, double *gradient, void *user_data)`.
    x, v : array_like of float
        Of one shape. Never written to.
    h : float or array_like, optional
        How far each coordinate may move; ε^(1/3)·max(1, |xᵢ|) without it.
    args : tuple
        Further arguments of `grad`.

    Returns
    -------
    ndarray of float64, of the shape of x

    Raises
    ------
    TypeError, ValueError
        x, v or h is not of that kind, or `grad` did not return finite real numbers in the shape of x.

    Examples
    --------
    >>> hessian_vector_product(lambda x: np.array([4.0, 2.0]) * x, [3.0, 5.0], [1.0, -1.0]).round(6)
    array([ 4., -2.])
    """
    if not c_functions.is_c(grad):
        validation.callable_(grad, "grad")
    names = forms.named(x)
    if names is not None:
        found = hessian_vector_product(
            named_gradient(names, grad), names.flat, names.flatten(v, "v"), names.flatten(h, "h"), args=args
        )
        return names.restore(found)
    x = validation.real_array(x, "x", dtype=np.float64)
    v = validation.real_array(v, "v", dtype=np.float64)
    if v.shape != x.shape:
        raise ValueError(f"v must have the shape of x, {x.shape}; got shape {v.shape}")
    grad = c_functions.gradient_function(grad, x.size, args)
    steps = stencils.steps(x, "central", h).reshape(x.shape)
    product = np.zeros_like(x)
    with np.errstate(all="ignore"):
        lengths = np.where(v == 0, np.inf, steps / np.abs(v))
    while np.any(np.isfinite(lengths)):
        shortest = np.min(lengths)
        # A step for all that would hardly move the others leaves them for another.
        together = lengths <= SPREAD * shortest
        lengths[together] = np.inf
        # The scale of a small coordinate may be its own size.
        small = together & (x != 0) & (np.abs(x) * EPSILON ** (1 / 3) < steps / SPREAD) & (h is None)
        if np.any(together & ~small):
            product += _slope(grad, x, np.where(together & ~small, v, 0.0), shortest, steps, args)[0]
        if np.any(small):
            product += _small(grad, x, np.where(small, v, 0.0), shortest, steps, args)
    return product


def _small(grad, x, v, t, steps, args):
    """The slope of a gradient along v, by a difference of t, or by a shorter one where that shows another."""
    moving = v != 0
    shorter = EPSILON ** (1 / 3) * np.min(np.abs(x[moving] / v[moving]))
    wide, _ = _slope(grad, x, v, t, steps, args, False)
    close, rounding = _slope(grad, x, v, shorter, steps, args)
    with np.errstate(all="ignore"):
        agree = np.abs(wide - close) <= 8 * rounding + 1e-6 * np.abs(wide)
    return np.where(agree, wide, close)


def _slope(grad, x, v, t, steps, args, finite=True):
    with np.errstate(all="ignore"):
        points = x + t * v, x - t * v
        # By the move that was made: in floating point it is not quite 2tv.
        wanted = t * v / steps
        times = t * float(np.sum((points[0] - points[1]) / steps * wanted) / np.sum(wanted * wanted))
    if not np.isfinite(times) or times == 0:
        raise ValueError(f"a step of {t!r} times v leads nowhere from x = {validation.show_point(x)}")
    above, below = (gradient_at(grad, point, args, finite) for point in points)
    with np.errstate(all="ignore"):
        return (above - below) / times, EPSILON * np.maximum(np.abs(above), np.abs(below)) / t


def named_gradient(names, grad):
    """A gradient of named parameters for vectors."""
    return lambda point, *args: names.flatten(grad(names.restore(point), *args), "what grad returned")


def gradient_at(grad, x, args, finite=True):
    """What a gradient returned at x, checked, as a new array of float64."""
    value = validation.real_array(grad(x.copy(), *args), "what grad returned", dtype=np.float64, finite=finite)
    if value.shape != x.shape:
        raise ValueError(f"grad must return an array of the shape of x, {x.shape}; it returned shape {value.shape}")
    return np.array(value)
