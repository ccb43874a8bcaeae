"""What of runs is seen in a picture: their points, the limits around them, and where the minimum is."""

from __future__ import annotations

import typing

import numpy as np

from fastgd import forms
from fastgd.descent.single import gradient_descent
from fastgd.engine.result import Status
from fastgd.plot.shared import limits, points_of, runs_of


class Path(typing.NamedTuple):
    """The iterates of a run.

    Attributes
    ----------
    label : str or None
    points : (rows, d), float64
    values : (rows,)
        From the history, NaN where it has none.
    seen : (rows,) bool
        Which points the picture shows.
    diverged : bool
    source : object
        What the run was given as.
    """

    label: str | None
    points: np.ndarray
    values: np.ndarray
    seen: np.ndarray
    diverged: bool
    source: typing.Any

    @property
    def shown(self):
        """The points, NaN for those not seen; the first one outside is kept, so that the line is seen to leave."""
        last = np.roll(self.seen, 1) & np.isfinite(self.points).all(axis=1) & (np.arange(len(self.points)) > 0)
        return np.where((self.seen | last)[:, None], self.points, np.nan)

    @property
    def leaves(self):
        """The step after which the path is outside the picture; None where it stays."""
        return None if self.seen[-1] else int(np.flatnonzero(self.seen)[-1])


def paths_of(source, labels=None):
    """A Path for each run that an argument stands for; they have one or two variables, and all as many."""
    paths = []
    for run in runs_of(source, "run", labels):
        points = points_of(run.history)
        if points.shape[1] not in (1, 2):
            raise ValueError(f"a path can be drawn in one or two variables; this run has {points.shape[1]}")
        if paths and points.shape[1] != paths[0].points.shape[1]:
            raise ValueError("the runs must have as many variables each; some have one, and some two")
        values = np.asarray(run.history.get("fun", np.full(len(points), np.nan)), dtype=np.float64)
        paths.append(Path(run.label, points, values, _in_the_picture(points, values), run.diverged, run.source))
    return paths


def of_vectors(f, paths):
    """f as a function of a vector, where the runs had parameters with names."""
    x = getattr(getattr(paths[0].source, "result", paths[0].source), "x", None) if paths else None
    names = None if f is None or x is None or isinstance(x, np.ndarray) else forms.flattened(x)
    return f if names is None else names.function(f)


def view(paths, f=None, xlim=None, ylim=None):
    """(xlim, ylim, minimum): limits in which all paths and the minimum are seen, where none are given.

    minimum is None where f has none that a run from the lowest point finds, or none in the limits.
    """
    xlim = None if xlim is None else limits(xlim, "xlim")
    ylim = None if ylim is None else limits(ylim, "ylim")
    points = np.concatenate([path.points[path.seen] for path in paths])
    least = None if f is None else _minimum(f, paths, points)
    around = _limits_around(points if least is None else np.vstack([points, least]))
    around = [given or own for given, own in zip((xlim, ylim), around, strict=False)]
    if least is not None and not all(low <= x <= high for x, (low, high) in zip(least, around, strict=True)):
        least = None
    return *around, *(() if len(around) == 2 else (ylim,)), least


def _minimum(f, paths, points):
    """Where a run with automatic rates ends that begins at the lowest point of all."""
    lowest = min(paths, key=lambda path: np.nanmin(path.values[path.seen], initial=np.inf))
    start = lowest.points[np.where(lowest.seen, np.nan_to_num(lowest.values, nan=np.inf), np.inf).argmin()]
    start = start.reshape(getattr(f, "shape", start.shape))
    try:
        found = gradient_descent(f, start, lr="auto", step_num=500, tol=1e-6)
    except (ArithmeticError, TypeError, ValueError):  # unbounded, or with no gradient
        return None
    x = np.asarray(found.x, dtype=np.float64).reshape(-1)
    far = np.abs(x - start.reshape(-1)).max() > 100 * (np.ptp(points, axis=0).max() or 1.0)
    return None if far or found.status != Status.CONVERGED else x


def _in_the_picture(points, values):
    """Which iterates the picture shows: all, except the last ones of a run that moves away from its start uphill."""
    seen = np.isfinite(points).all(axis=1)
    if not seen[0]:
        raise ValueError("the run has no finite point at its start, so there is no path to draw")
    finite = values[np.isfinite(values)]
    if len(points) > 1 and finite.size and not (seen[-1] and finite[-1] <= finite[0]):
        with np.errstate(all="ignore"):
            away = np.linalg.norm(points - points[0], axis=1)
        # The first step of a diverging run crosses the valley, so that twice its length covers the region of interest.
        outside = ~(away <= 2 * away[1])
        seen &= np.arange(len(points)) < (np.argmax(outside) if outside.any() else len(points))
    return seen


def _limits_around(points):
    """(lower, upper) for each coordinate with a margin; spans within a factor of three of each other are made equal."""
    low, high = points.min(axis=0), points.max(axis=0)
    span = high - low
    widest = float(span.max()) or max(1.0, float(np.abs(low).max()))
    span = np.where(span > widest / 3, widest, np.where(span > 0, span, widest))
    middle = (low + high) / 2
    return [(float(m - 0.7 * s), float(m + 0.7 * s)) for m, s in zip(middle, span, strict=True)]
