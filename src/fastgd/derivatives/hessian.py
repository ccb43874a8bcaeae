"""Hessians by second differences of a function.

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
from fastgd.derivatives.gradient import NAN_POLICIES, flat_options
from fastgd.derivatives.refinement import CAUTION
from fastgd.derivatives.stencils import EPSILON
from fastgd.derivatives.vectorial import ScalarSampler

if typing.TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from fastgd.types import Doubles, SamplingOptions, ScalarFunction, Steps


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
    validation.choice(scheme, "scheme", ("central", "richardson"))
    validation.choice(nan_policy, "nan_policy", NAN_POLICIES)
    full_output = validation.boolean(full_output, "full_output")
    names = forms.flattened(x)
    if names is not None:
        options = flat_options(names, h, bounds, typical_x, vectorized)
        f, x, h, bounds, typical_x = names.function(f), names.flat, *options.values()
    x = validation.real_array(x, "x", dtype=np.float64)
    limits = stencils.limits(bounds, x)
    steps = stencils.sized(x, EPSILON**0.25, h, typical_x)
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
    first, most = 0, 1 << 10
    while first < n - 1:
        last = first + 1
        while last < n - 1 and (last + 1 - first) * (n - first) <= most:
            last += 1
        rows = np.arange(first, last)
        yield np.repeat(rows, n - 1 - rows), np.concatenate([np.arange(row + 1, n) for row in rows])
        first = last


class Look(NamedTuple):
    """Second differences along some axes, with their estimated errors."""

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
        self.level, self.noisy = 0.0, False  # until the noise of f is measured
        self.rungs = (1.0, 4.0, 16.0, 64.0)  # steps of Richardson's scheme, in those of the central scheme
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
        """Measure how precise f is, and lengthen the steps where it has less than the digits of float64."""
        level, _ = noise.level(lambda points: self.sampler.on(points)[:, 0], self.x, np.array([self.here]), self.limits)
        self.level = float(level)
        share = self.level / self.largest if self.largest else 0.0
        self.noisy = share > 64 * EPSILON
        if self.noisy:
            # Closer together, as the noise of an extrapolation is that of its smallest step.
            self.rungs = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0)
            times = min(8 * share**0.25, 1 / self.rungs[-1]) / EPSILON**0.25
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
        for _ in range(8):  # each time by a factor of 4
            with np.errstate(all="ignore"):
                again = np.flatnonzero(~(best.error <= 1e-6 * np.maximum(1.0, np.abs(best.value))))
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
            best.error[again[~better]] = 0.0  # ends the search of this coordinate
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
                mixed /= 2 * h[wide[i]] * h[wide[j]]
            hessian[wide[i], wide[j]] = hessian[wide[j], wide[i]] = mixed
        if times == 1:
            self._to_one_side(hessian, wide, up - down)
        return hessian

    def _note(self, *values):
        self.largest = max(self.largest, *(float(np.max(np.abs(v), initial=0.0)) for v in values))

    def _to_one_side(self, hessian, wide, change):
        """The entries of coordinates at a bound: 2f₀ − 5f₁ + 4f₂ − f₃, and products of first differences."""
        near = np.flatnonzero(self.side)
        h, side = self.steps[near], self.side[near]
        f = [np.full(len(near), self.here)] + [self.along(near, k * side * h) for k in (1, 2, 3)]
        with np.errstate(all="ignore"):
            hessian[near, near] = (2 * f[0] - 5 * f[1] + 4 * f[2] - f[3]) / h**2
            n, w = np.indices((len(near), len(wide))).reshape(2, -1)
            i, j = near[n], wide[w]
            corners = {(a, b): self.in_planes(i, j, (a * side[n], b)) for a in (1, 2) for b in (1, -1)}
            slope = -3 * change[w] + 4 * (corners[1, 1] - corners[1, -1]) - (corners[2, 1] - corners[2, -1])
            hessian[i, j] = hessian[j, i] = side[n] * slope / (4 * h[n] * self.steps[j])
            n, w = np.triu_indices(len(near), 1)
            i, j = near[n], near[w]
            weights = (-1.5, 2.0, -0.5)
            slope = weights[0] ** 2 * f[0][n]
            for a in (1, 2):
                slope = slope + weights[0] * weights[a] * (f[a][n] + f[a][w])
                for b in (1, 2):
                    slope = slope + weights[a] * weights[b] * self.in_planes(i, j, (a * side[n], b * side[w]))
            hessian[i, j] = hessian[j, i] = side[n] * side[w] * slope / (h[n] * h[w])

    def error_of(self, hessian):
        """Estimated errors of `second_differences(1.0)`, from those of twice the steps: truncation grows fourfold."""
        error = self.second_differences(2.0)
        with np.errstate(all="ignore"):
            error = np.abs(error - hessian) / 3 + self.rounding() / np.outer(self.steps, self.steps)
            return np.where(np.isnan(error), np.inf, error)

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
