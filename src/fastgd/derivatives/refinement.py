"""Error estimates of slopes, and Richardson extrapolation over a ladder of steps.

The ladder of a coordinate is the steps base·4^s. Each rung gives a difference quotient D(h) = f' + c₁h² + c₂h⁴ + …
(in h, not h², to one side of x), and Neville's scheme extrapolates neighbouring rungs to h = 0. The error of an entry
of that table is estimated from its neighbours (Ridders 1982, Adv. Eng. Softw. 4, 75) and from the noise of f divided by
the step. The search goes on to smaller steps where truncation is the larger error and to larger steps where noise is,
so that easy coordinates take few evaluations.
"""

from typing import NamedTuple

import numpy as np

from fastgd import validation
from fastgd.derivatives import noise
from fastgd.kernels.codes import EPSILON, RELATIVE_STEP
from fastgd.validation import refuse_step

RATIO = 4.0  # between neighbouring steps of a ladder
CAUTION = 2.5  # by which the estimate of a search is multiplied: it is the smallest of many


class Slopes(NamedTuple):
    """Slopes with an estimate of their error and the step that gave them, one for each coordinate."""

    value: np.ndarray
    error: np.ndarray
    step: np.ndarray


def judged(stencil, values, slopes, here, every, misfits, misfit_share, rows=...):
    """Slopes with their errors, which of them are in doubt, and the error from which on they are.

    Parameters
    ----------
    stencil : Stencil
    values : (d, p) float64
        f at its points.
    slopes : (d,) float64
    here : float or (d, 1), or None where the stencil does not need f(x)
    every : (n, …) float64
        All values of f that are known; for each of its outputs, where it has several.
    misfits : pair (misfit, jitter) of floats, or an array for the outputs
        As `noise.Line.misfits` gives them.
    misfit_share : float
        As for `noise.deviation`.
    rows : (d,) intp, optional
        The output that each slope belongs to.

    Returns
    -------
    Slopes, (d,) bool, (d,) float64
    """
    with np.errstate(all="ignore"):
        misfit, jitter = misfits
        size = np.asarray(noise.largest(every))
        known = size, misfit / stencil.central, jitter, misfit_share
        deviation = np.asarray(noise.deviation(*known))[rows]
        # More is claimed than raises doubt: misfit and jitter may be small by chance.
        claimed = np.asarray(noise.deviation(*known, of_noise=4.0))[rows]
        error = stencil.error(slopes, values, here, claimed)
        limit = stencil.limit(slopes, size[rows])
        coarse = np.asarray(noise.is_coarse(every))[rows]
        doubt = ~np.isfinite(slopes) | ~(deviation * stencil.spread / stencil.steps <= limit) | coarse
    return Slopes(slopes, np.where(np.isnan(error) | coarse, np.inf, error), stencil.steps), doubt, limit


def mend(sampler, found, rows, level, base, bounds, known=None):
    """Search a better step for some slopes.

    Parameters
    ----------
    found : Slopes
    rows : (n,) intp
        Which of them to look at again.
    level : float or (d,) float64
        The standard deviation of the noise of f.
    base : (d,) float64
        Steps; those of the search are around them.
    bounds : pair of (d,) arrays or None
    known : (d, 2) float64, optional
        f a step `base` above and below x.

    Returns
    -------
    Slopes
    """
    level = np.broadcast_to(level, base.shape)[rows]
    finite = np.isfinite(found.value[rows])
    ladder = Ladder(sampler, rows, within_sight(sampler.x[rows], base[rows], finite), level, bounds=bounds)
    if known is not None:
        same = np.flatnonzero(ladder.two_sided & (ladder.base == base[rows]))
        ladder.keep(same, 0, *known[rows[same]].T)
    better = ladder.search((), start=ladder.start())
    found = Slopes(*(part.copy() for part in found))
    for kept, new in zip(found, better, strict=True):
        kept[rows] = new
    return found


def within_sight(x, base, finite):
    """The first step of a search: `base`, or |x|/8 where f is not finite that far from a small x, as if defined on one
    side of 0 only."""
    near = np.abs(x) / 8
    return np.where(~finite & (near > 0) & (near < base), near, base)


def richardson(sampler, base, level, bounds, fixed, refuse):
    """Slopes by Richardson's extrapolation of differences at steps around `base`.

    Parameters
    ----------
    sampler : sampling.Sampler
    base : (d,) float64
    level : float or (d,) float64
        The standard deviation of the noise of f.
    bounds : pair of (d,) arrays or None
    fixed : bool
        Take exactly the steps base, base/4, base/16 and base/64.
    refuse : bool
        Raise where f was not finite at any step.

    Returns
    -------
    Slopes
    """
    everything, level = np.arange(len(base)), np.broadcast_to(level, base.shape)
    if fixed:
        ladder = Ladder(sampler, everything, base, level, 0, -3, bounds)
        ladder.refuse_useless()
        found = ladder.search((0, -1, -2, -3), most=4)
    else:
        ladder = Ladder(sampler, everything, base, level, bounds=bounds)
        ladder.climb(everything, np.full(len(base), ladder.rung(0)))
        above, below = ladder.f_above[:, ladder.rung(0)], ladder.f_below[:, ladder.rung(0)]
        finite = np.isfinite(above) & np.isfinite(below)
        if not finite.all():
            base = within_sight(sampler.x, base, finite)
            ladder = Ladder(sampler, everything, base, level, bounds=bounds)
            ladder.keep(np.flatnonzero(finite), 0, above[finite], below[finite])
        found = ladder.search((1, 0, -1), goal=1e-10, start=ladder.start())
    if refuse:
        ladder.refuse_not_finite(found.value)
    return found


class Ladder:
    """Difference quotients of some coordinates at the steps base·4^s, s from `top` down to `bottom`.

    Parameters
    ----------
    sampler : sampling.Sampler
    coordinates : (n,) intp
    base, level : (n,) float64
        Of each coordinate, `level` being the standard deviation of the noise of f.
    top, bottom : int
    bounds : pair of (d,) arrays, optional
        A coordinate with no room for `base` on both sides has its quotients to the roomier side.
    """

    def __init__(self, sampler, coordinates, base, level, top=8, bottom=-11, bounds=None):
        self.sampler, self.coordinates, self.top, self.base = sampler, coordinates, top, base
        self.level = level
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
        values = self.sampler.attempt(self.coordinates[np.concatenate([rows, rows[both]])], points)
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

    def start(self):
        """The rung of each row from which to search: where noise and truncation balance in a function of scale 1."""
        with np.errstate(all="ignore"):
            size = np.fmax(
                np.abs(self._here()),
                np.fmax(*(np.abs(f).max(axis=1, initial=0, where=self.seen) for f in (self.f_above, self.f_below))),
            )
            share = np.clip(np.nan_to_num(self.level / size, nan=EPSILON, posinf=1.0), EPSILON, 1.0)
            s = np.floor(np.log(share ** (1 / 3) / RELATIVE_STEP) / np.log(RATIO)).astype(int)
        return self.top - np.clip(s, 0, self.top)

    def _here(self):
        return np.broadcast_to(self.sampler.here(), self.sampler.x.shape)[self.coordinates]

    def quotients(self):
        """The difference quotient of each rung, and the noise to expect of it.

        NaN where f has one value at all points of the quotient: they may be closer together than f resolves.
        """
        with np.errstate(all="ignore"):
            quotient = (self.f_above - self.f_below) / self.distance
            self.flat = quotient == 0
            if self.flat.any():
                self.flat &= self.f_above == self._here()[:, None]
            level = EPSILON * np.fmax(np.abs(self.f_above), np.abs(self.f_below))
            level = np.fmax(level, self.level[:, None])
            noise_of_it = np.where(self.two_sided, 2, 4)[:, None] * level / np.abs(self.distance)
            return np.where(self.flat, np.nan, quotient), noise_of_it

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
            # Of a function that oscillates on a small scale, the derivative is the slope at the smaller steps. Where
            # two neighbouring rungs agree on it, the difference from it is added to the error estimate of larger steps.
            change = np.abs(entry - _shifted(entry))
            agrees = (change <= 1e-3 * np.abs(entry)) & (change + rounding <= np.abs(entry))
            witness = rungs - 1 - np.argmax(agrees[:, ::-1], axis=1)
            witnessed = np.where(agrees.any(axis=1), entry[rows, witness], np.nan)[:, None]
            leeway = (4 * change[rows, witness] + 30 * rounding[rows, witness])[:, None]
            for depth in range(5):  # more columns of Neville's scheme only add rounding
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
            return ~(change <= 30 * rounding[rows, lowest])

    def search(self, first, goal=1e-9, most=12, start=None):
        """Climb up and down from the rungs `first` until the slopes are good, or no rung makes them better.

        Parameters
        ----------
        first : iterable of int
            Rungs s, for all rows.
        goal : float
            It ends where the error is this much of max(1, |slope|).
        most : int
            Rungs at most; the last four are not for steps that are shorter only because two still differ.
        start : (n,) intp, optional
            The column of a rung of its own for each row, which is seen too, and one beside it.

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
        if start is not None:
            # Beside it the one above where f is noisy, else the one below.
            beside = np.where((start < self.rung(0)) & (start > 0), start - 1, start + 1)
            for column in (start, np.clip(beside, 0, last)):
                self.climb(everything, column)
        while True:
            slope, error, smallest, largest, rounded = self.best()
            tried = self.seen.sum(axis=1)
            open_rows = (error > goal * np.fmax(1.0, np.abs(slope))) & (tried < most)
            lowest = last - np.argmax(self.seen[:, ::-1], axis=1)
            highest = np.argmax(self.seen, axis=1)
            flat = self.flat[everything, highest] & ~np.isfinite(error)
            down = ~np.isfinite(error) | ((smallest == lowest) & ~rounded)
            down |= self.unresolved(lowest) & (tried < most - 4)
            down &= ~self.flat[everything, lowest]
            up = ~down & ((largest == highest) | rounded | ~np.isfinite(error))
            column = np.where(down, lowest + 1, np.where(flat, np.maximum(highest - 3, 0), highest - 1))
            open_rows &= (down | up) & (column >= 0) & (column <= last) & ~(flat & (highest == 0))
            rows = np.flatnonzero(open_rows)
            rows = rows[self.usable[rows, column[rows]]]
            if not len(rows):
                return self._found(slope, error, smallest)
            self.climb(rows, column[rows])

    def _found(self, slope, error, smallest):
        everything = np.arange(len(slope))
        highest = np.argmax(self.seen, axis=1)
        flat = self.flat[everything, highest] & ~np.isfinite(error)  # the same as far as one can see
        with np.errstate(all="ignore"):
            distance = np.abs(self.distance)
            quantum = noise.quantum(self._here()[None]) if flat.any() else 0.0
            unseen = 4 * np.fmax(self.level, quantum) / distance[everything, highest]
        unknown = ~flat & ~np.isfinite(error)
        smallest = np.where(flat | unknown, highest, smallest)
        with np.errstate(all="ignore"):
            quotient = ((self.f_above - self.f_below) / self.distance)[everything, highest]
        return Slopes(
            np.where(flat, 0.0, np.where(unknown, quotient, slope)),
            np.where(flat, unseen, CAUTION * error),
            distance[everything, smallest] / (1 + self.two_sided),
        )


def _shifted(table):
    """The table moved on by one column: entry k is what stood at k − 1."""
    moved = np.full_like(table, np.nan)
    moved[:, 1:] = table[:, :-1]
    return moved
