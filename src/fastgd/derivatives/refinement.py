"""Differences that look for their step: which slopes to doubt, and Richardson extrapolation over a ladder of steps.

The ladder of a coordinate is the steps base·4^s. Each rung gives a difference quotient D(h) = f' + c₁h² + c₂h⁴ + …
(in h, not h², to one side of x), and Neville's scheme extrapolates neighbouring rungs to h = 0. The neighbours of an
entry of that table say how far it can be trusted (Ridders 1982, Adv. Eng. Softw. 4, 75), and which way to go on: down
where truncation is the larger error, up where rounding is. So a coordinate costs what it is difficult.
"""

from typing import NamedTuple

import numpy as np

from fastgd import validation
from fastgd.kernels.codes import DOUBT, EPSILON, SMALL, STEEP
from fastgd.linalg import in_single
from fastgd.validation import refuse_step

RATIO = 4.0
DEPTH = 4  # columns of Neville's scheme beyond the first
# The search for a better slope ends where its error is this much of max(1, |slope|).
GOAL = 1e-9
MOST_RUNGS = 12
# Rungs of the ladder around the default step of a central difference, and around that of Richardson's scheme.
HIGHEST, LOWEST = 8, -11
RICHARDSON_STEP = EPSILON ** (1 / 3)
RICHARDSON_FIRST = (1, 0, -1)
RICHARDSON_GOAL = 1e-10
RICHARDSON_HIGHEST, RICHARDSON_LOWEST = HIGHEST, LOWEST
FIXED_RUNGS = 4
# Two rungs agree on a slope where they differ by so much of it.
AGREEMENT = 1e-3
SINGLE_EPSILON = float(np.finfo(np.float32).eps)
# So many times the rounding error to expect is explained by it.
NOISE = 30
KEPT_FOR_UP = 4


class Slopes(NamedTuple):
    """Slopes with an estimate of their error and the step that gave them, one for each coordinate."""

    value: np.ndarray
    error: np.ndarray
    step: np.ndarray


def central_errors(above, below, distance, middle):
    """Estimated rounding and truncation error of (above − below) / distance.

    Rounding is ε·max|f| over half the distance, ε being that of float32 if f seems to return such. Truncation is
    h²f'''/6, taken for f''²h²/6|f'| as if the slope changed on a length of |f'/f''|; where |f'| < STEEP it is that
    share of max(1, |f'|). f''h comes from `middle`, which is f between the two points. Where that is None, all
    differences are around one x, and the median of their means stands for f(x).
    """
    with np.errstate(all="ignore"):
        if middle is None:
            mean = above / 2 + below / 2
            middle = np.partition(mean, (len(mean) - 1) // 2)[(len(mean) - 1) // 2] if len(mean) else 0.0
        half = distance / 2
        size = np.abs((above - below) / distance)
        epsilon = SINGLE_EPSILON if in_single(np.stack([above, below], axis=1)) else EPSILON
        rounding = epsilon * np.maximum(np.abs(above), np.abs(below)) / np.abs(half)
        bend = ((above - middle) + (below - middle)) / half
        return rounding, (bend / np.maximum(STEEP, size)) ** 2 / 6 * np.maximum(1.0, size)


def mend(sampler, slopes, above, below, distance, middle, base, bounds):
    """Look again at slopes by central differences at the steps `base`, and search a better step for the doubtful.

    Parameters
    ----------
    above, below, middle : (d,) float64
        f at the ends of each difference and between them; `middle` is None where f(x) stands there and is unknown.
    slopes, distance, base : (d,) float64
    bounds : pair of (d,) arrays or None

    Returns
    -------
    Slopes
    """
    doubt, rounding, truncation = _doubt(slopes, above, below, distance, middle)
    with np.errstate(all="ignore"):
        # The scale of a small coordinate may be its own size; f(x) will tell.
        reach = np.minimum(base, np.abs(sampler.x))
        hidden = np.abs(slopes) * reach**2 > SMALL * np.maximum(1.0, np.abs(slopes)) * sampler.x**2
    if middle is None and np.any(doubt | hidden):
        doubt, rounding, truncation = _doubt(slopes, above, below, distance, sampler.here())
    found = Slopes(slopes.copy(), rounding + truncation, np.abs(distance) / 2)
    rows = np.flatnonzero(doubt)
    if not len(rows):
        return found
    finite = np.isfinite(slopes[rows])
    ladder = Ladder(sampler, rows, within_sight(sampler.x[rows], base[rows], finite), HIGHEST, LOWEST, bounds)
    known = np.flatnonzero(ladder.two_sided & (ladder.base == base[rows]))
    ladder.keep(known, 0, above[rows[known]], below[rows[known]])
    up = rounding[rows] > truncation[rows]
    for s in (0, 1):
        ladder.climb(np.arange(len(rows)), ladder.rung(np.where(up, s, -s)))
    # The estimate of truncation is a guess: where the next smaller step comes to the same, the slope was right.
    quotient, noise = ladder.quotients()
    with np.errstate(all="ignore"):
        change = np.abs(quotient[:, ladder.rung(0)] - quotient[:, ladder.rung(-1)]) + noise[:, ladder.rung(-1)]
        confirmed = ~up & finite & (change <= DOUBT / 2 * np.maximum(1.0, np.abs(slopes[rows])))
    found.error[rows[confirmed]] = change[confirmed]
    ladder.done = confirmed
    better = ladder.search(())
    with np.errstate(all="ignore"):
        taken = ~confirmed & (~np.isfinite(slopes[rows]) | (better.error < found.error[rows]))
    for kept, new in zip(found, better, strict=True):
        kept[rows[taken]] = new[taken]
    return found


def within_sight(x, base, finite):
    """`base`, but |x|/8 for a small x around which f is not finite at that step: there may be a border at 0."""
    near = np.abs(x) / 8
    return np.where(~finite & (near > 0) & (near < base), near, base)


def _doubt(slopes, above, below, distance, middle):
    rounding, truncation = central_errors(above, below, distance, middle)
    with np.errstate(all="ignore"):
        limit = DOUBT * np.maximum(1.0, np.abs(slopes))
        return ~((rounding <= limit) & (truncation <= limit)), rounding, truncation


def richardson(sampler, base, bounds, fixed, refuse):
    """Slopes by Richardson's extrapolation of differences at steps around `base`.

    Parameters
    ----------
    sampler : sampling.Sampler
    base : (d,) float64
    bounds : pair of (d,) arrays or None
    fixed : bool
        Take exactly the steps base, base/4, base/16 and base/64.
    refuse : bool
        Raise where f was not finite at any step.

    Returns
    -------
    Slopes
    """
    everything = np.arange(len(base))
    if fixed:
        ladder = Ladder(sampler, everything, base, 0, 1 - FIXED_RUNGS, bounds)
        ladder.refuse_useless()
        found = ladder.search(range(0, -FIXED_RUNGS, -1), most=FIXED_RUNGS)
    else:
        ladder = Ladder(sampler, everything, base, RICHARDSON_HIGHEST, RICHARDSON_LOWEST, bounds)
        ladder.climb(everything, np.full(len(base), ladder.rung(0)))
        above, below = ladder.f_above[:, ladder.rung(0)], ladder.f_below[:, ladder.rung(0)]
        finite = np.isfinite(above) & np.isfinite(below)
        if not finite.all():
            base = within_sight(sampler.x, base, finite)
            ladder = Ladder(sampler, everything, base, RICHARDSON_HIGHEST, RICHARDSON_LOWEST, bounds)
            ladder.keep(np.flatnonzero(finite), 0, above[finite], below[finite])
        found = ladder.search(RICHARDSON_FIRST, RICHARDSON_GOAL)
    if refuse:
        ladder.refuse_not_finite(found.value)
    return found


class Ladder:
    """Difference quotients of some coordinates at the steps base·4^s, s from `top` down to `bottom`.

    Parameters
    ----------
    sampler : sampling.Sampler
    coordinates : (n,) intp
    base : (n,) float64
    top, bottom : int
    bounds : pair of (d,) arrays, optional
        A coordinate with no room for `base` on both sides has its quotients to the roomier side.
    """

    def __init__(self, sampler, coordinates, base, top, bottom, bounds=None):
        self.sampler, self.coordinates, self.top, self.base = sampler, coordinates, top, base
        self.x = sampler.x[coordinates]
        n, rungs = len(coordinates), top - bottom + 1
        self.two_sided, self.sign, room = np.ones(n, bool), np.ones(n), np.full(n, np.inf)
        if bounds is not None:
            below, above = self.x - bounds[0][coordinates], bounds[1][coordinates] - self.x
            room = np.minimum(below, above)
            self.two_sided = room >= base
            self.sign = np.where(self.two_sided | (above >= below), 1.0, -1.0)
            room = np.where(self.two_sided, room, np.maximum(below, above))
            base = np.minimum(base, room)
        with np.errstate(all="ignore"):
            h = base[:, None] * RATIO ** np.arange(top, bottom - 1, -1.0)
            self.above = self.x[:, None] + self.sign[:, None] * h
            self.below = np.where(self.two_sided[:, None], self.x[:, None] - h, self.x[:, None])
            self.distance = self.above - self.below
            self.usable = (h <= room[:, None]) & (self.distance != 0) & np.isfinite(self.distance)
            if bounds is not None:
                for points in (self.above, self.below):
                    np.clip(points, bounds[0][coordinates, None], bounds[1][coordinates, None], out=points)
                self.distance = self.above - self.below
            self.node = (self.distance / 2) ** 2
            self.node[~self.two_sided] = self.distance[~self.two_sided]
        self.f_above = np.full((n, rungs), np.nan)
        self.f_below = np.full((n, rungs), np.nan)
        self.seen = np.zeros((n, rungs), bool)
        self.done = np.zeros(n, bool)  # rows that are not to be searched

    def rung(self, s):
        """The column of the step base·4^s."""
        return self.top - s

    def keep(self, rows, s, above, below):
        """Take the values at one rung from elsewhere."""
        self.f_above[rows, self.rung(s)], self.f_below[rows, self.rung(s)] = above, below
        self.seen[rows, self.rung(s)] = True

    def climb(self, rows, columns):
        """Evaluate f at those rungs."""
        usable = self.usable[rows, columns] & ~self.seen[rows, columns]
        rows, columns = rows[usable], columns[usable]
        both = self.two_sided[rows]
        points = np.concatenate([self.above[rows, columns], self.below[rows[both], columns[both]]])
        values = self.sampler.at(self.coordinates[np.concatenate([rows, rows[both]])], points)
        self.f_above[rows, columns] = values[: len(rows)]
        self.f_below[rows[both], columns[both]] = values[len(rows) :]
        if not both.all():
            here = np.broadcast_to(self.sampler.here(), self.sampler.x.shape)  # entries of a Jacobian have one each
            self.f_below[rows[~both], columns[~both]] = here[self.coordinates[rows[~both]]]
        self.seen[rows, columns] = True

    def refuse_useless(self):
        """Raise if the steps vanish beside x or lead beyond the floats."""
        wrong = (self.distance == 0) | ~np.isfinite(self.distance)
        if wrong.any():
            i, k = np.argwhere(wrong)[0].tolist()
            h = float(self.above[i, k] - self.x[i]) or float(self.base[i]) * RATIO ** (self.top - k)
            refuse_step(float(self.distance[i, k]), int(self.coordinates[i]), float(self.x[i]), h)

    def refuse_not_finite(self, slopes):
        """Raise, naming the first point, if f was no number wherever a slope was looked for."""
        for row in np.flatnonzero(~np.isfinite(slopes)).tolist():
            for points, values in ((self.above, self.f_above), (self.below, self.f_below)):
                for k in np.flatnonzero(self.seen[row] & ~np.isfinite(values[row])).tolist():
                    i = int(self.coordinates[row])
                    validation.finite_number(float(values[row, k]), self.sampler.point(i, points[row, k]), i)

    def quotients(self):
        """The difference quotient of each rung, and the rounding error to expect of it."""
        with np.errstate(all="ignore"):
            size = np.fmax(np.abs(self.f_above), np.abs(self.f_below))
            quotient = (self.f_above - self.f_below) / self.distance
            epsilon = np.where(self._is_single(quotient), SINGLE_EPSILON, EPSILON)[:, None]
            return quotient, epsilon * np.where(self.two_sided[:, None], 2, 4) * size / np.abs(self.distance)

    def _is_single(self, quotient):
        """Rows in which f has the digits of float32 alone, by its values; a constant may have as few."""
        single = np.any(quotient != 0, axis=1, where=np.isfinite(quotient))
        for values in (self.f_above, self.f_below):
            single &= np.all((values == values.astype(np.float32)) | np.isnan(values), axis=1)
        return single

    def best(self):
        """The most trustworthy entry of Neville's scheme in each row.

        Returns
        -------
        slope, error : (n,) float64
            NaN and inf where no two rungs gave finite values.
        smallest, largest : (n,) intp
            The columns of the smallest and the largest step in it.
        rounded : (n,) bool
            Whether rounding is what limits it.
        """
        entry, rounding = self.quotients()
        n, rungs = entry.shape
        rows, columns = np.arange(n), np.arange(rungs)
        slope, error = np.full(n, np.nan), np.full(n, np.inf)
        smallest, largest = np.zeros(n, np.intp), np.zeros(n, np.intp)
        rounded = np.zeros(n, bool)
        with np.errstate(all="ignore"):
            # Of the slopes of a function that wiggles on a small scale, that at the smaller steps is meant. Where
            # neighbouring rungs agree on one, larger steps must come to the same or be wrong by what they miss it by.
            change = np.abs(entry - _shifted(entry))
            agrees = (change <= AGREEMENT * np.abs(entry)) & (change + rounding <= np.abs(entry))
            witness = rungs - 1 - np.argmax(agrees[:, ::-1], axis=1)
            witnessed = np.where(agrees.any(axis=1), entry[rows, witness], np.nan)[:, None]
            leeway = (4 * change[rows, witness] + NOISE * rounding[rows, witness])[:, None]
            for depth in range(DEPTH + 1):
                if depth:
                    previous = entry
                    gain = self.node[:, :-depth] / self.node[:, depth:] - 1
                    entry = np.full_like(previous, np.nan)
                    entry[:, depth:] = previous[:, depth:] + (previous[:, depth:] - previous[:, depth - 1 : -1]) / gain
                    # The change from both entries that this one is made of.
                    change = np.maximum(np.abs(entry - previous), np.abs(entry - _shifted(previous)))
                missed = np.where(columns < witness[:, None], np.abs(entry - witnessed) - leeway, 0.0)
                estimate = change + rounding + np.fmax(missed, 0.0)
                estimate[np.isnan(estimate)] = np.inf
                column = np.argmin(estimate, axis=1)
                better = estimate[rows, column] < error
                slope = np.where(better, entry[rows, column], slope)
                error = np.where(better, estimate[rows, column], error)
                smallest = np.where(better, column, smallest)
                largest = np.where(better, column - max(depth, 1), largest)
                rounded = np.where(better, rounding[rows, column] > change[rows, column], rounded)
        return slope, error, smallest, largest, rounded

    def unresolved(self, lowest):
        """Whether the two smallest steps still differ by more than rounding explains: what is between may go on."""
        quotient, rounding = self.quotients()
        rows = np.arange(len(lowest))
        with np.errstate(all="ignore"):
            change = np.abs(quotient[rows, lowest] - quotient[rows, lowest - 1])
            return ~(change <= NOISE * rounding[rows, lowest])

    def search(self, first, goal=GOAL, most=MOST_RUNGS):
        """Climb up and down from the rungs `first` until the slopes are good, or no rung makes them better.

        Returns
        -------
        Slopes
            With a NaN and an infinite error where f was not finite at all that was tried.
        """
        n = len(self.coordinates)
        everything = np.arange(n)
        for s in first:
            self.climb(everything, np.full(n, self.rung(s)))
        last = self.seen.shape[1] - 1
        while True:
            slope, error, smallest, largest, rounded = self.best()
            tried = self.seen.sum(axis=1)
            open_rows = ~self.done & (error > goal * np.fmax(1.0, np.abs(slope))) & (tried < most)
            lowest = last - np.argmax(self.seen[:, ::-1], axis=1)
            highest = np.argmax(self.seen, axis=1)
            down = ~np.isfinite(error) | ((smallest == lowest) & ~rounded)
            down |= self.unresolved(lowest) & (tried < most - KEPT_FOR_UP)
            up = ~down & ((largest == highest) | rounded)
            column = np.where(down, lowest + 1, highest - 1)
            open_rows &= (down | up) & (column >= 0) & (column <= last)
            rows = np.flatnonzero(open_rows)
            rows = rows[self.usable[rows, column[rows]]]
            if not len(rows):
                return Slopes(slope, error, np.abs(self.distance[everything, smallest]) / (1 + self.two_sided))
            self.climb(rows, column[rows])


def _shifted(table):
    """The table moved on by one column: entry k is what stood at k − 1."""
    moved = np.full_like(table, np.nan)
    moved[:, 1:] = table[:, :-1]
    return moved
