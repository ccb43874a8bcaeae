"""Figures of the iterates of a run: `trajectory` as a still, `animate` as an animation."""

from __future__ import annotations

import typing

import numpy as np

from fastgd import validation
from fastgd.errors import import_extra
from fastgd.plot.functions import contour
from fastgd.plot.shared import (
    COLORS,
    CURVE_POINTS,
    GREY,
    axes_for,
    diverged,
    function_of,
    history_of,
    limits,
    note,
    values_at,
)

if typing.TYPE_CHECKING:
    from matplotlib.axes import Axes

    from fastgd.objective import LinearObjective
    from fastgd.plot.shared import AnimatedAxes, AxesT, Limits, Recorded
    from fastgd.types import ScalarFunction

# Labels of the marks at the two ends of a path.
ENDS = ("start", "end")


def trajectory(
    run: Recorded,
    f: ScalarFunction | LinearObjective | None = None,
    ax: AxesT | None = None,
    *,
    xlim: Limits | None = None,
    ylim: Limits | None = None,
    label: str | None = None,
    color: str | None = None,
) -> AxesT:
    """Draw the iterates of a run: over contour lines with two variables, on the curve of f with one.

    Parameters
    ----------
    run : Result, History or DivergenceError
        Of a run with history=True, in one or two variables.
    f : callable or LinearObjective, optional
        The function that was minimised. Without it only the path is drawn, for example on a figure with contours.
    ax : matplotlib Axes, optional
    xlim, ylim : pair of float, optional
        (lower, upper) of the axes; by default all iterates fit in, except the last ones of a diverging run.
    label, color : str, optional
        Of the path; by default several paths on one Axes differ in colour.

    Returns
    -------
    Axes

    Raises
    ------
    TypeError, ValueError
        The run has no history or more than two variables, or f is not a function of as many.
    """
    paths_before = sum(line.get_gid() == "path" for line in getattr(ax, "lines", ()))
    over_other = _is_over_other(f, ax)
    ax, across, up, seen, _ = _scene(run, f, ax, xlim, ylim)
    color = color or COLORS[paths_before % len(COLORS)]
    few = len(across) <= 60
    line = {"color": color, "linewidth": 1.6, "marker": "o", "markersize": 4 if few else 2.5}
    edges = {"markeredgecolor": "white" if few else color, "markeredgewidth": 0.5}
    ax.plot(across, up, label=label or "path", gid="path", zorder=3, **line, **edges)
    ends = {"linestyle": "none", "markeredgecolor": "black", "color": color, "zorder": 4}
    start, end = ENDS if not paths_before else (None, None)  # in the legend once, for all paths
    ax.plot(across[:1], up[:1], marker="s", markersize=8, label=start, **ends)
    if not seen[-1]:
        note(ax, f"leaves the picture after step {np.flatnonzero(seen)[-1]}")
    elif diverged(run):
        note(ax, "diverges")
    else:
        ax.plot(across[-1:], up[-1:], marker="*", markersize=14, label=end, **ends)
    if not over_other:
        ax.set_title("The path of the descent")
    entries = sorted(zip(*ax.get_legend_handles_labels(), strict=True), key=lambda entry: entry[1] in ENDS)
    ax.legend(*zip(*entries, strict=True))  # the paths first, then the marks at their ends
    return ax


def animate(
    run: Recorded,
    f: ScalarFunction | LinearObjective,
    ax: Axes | None = None,
    *,
    xlim: Limits | None = None,
    ylim: Limits | None = None,
    interval: float = 80,
    max_frames: int = 120,
) -> AnimatedAxes:
    """Animate the iterates of a run over the contour lines or the curve of f.

    Parameters
    ----------
    run, f, ax, xlim, ylim
        As for `trajectory`; f is required.
    interval : float
        Milliseconds between frames.
    max_frames : int
        A longer run shows this many of its iterates, evenly spaced, including both ends.

    Returns
    -------
    Axes
        `ax.animation` is the matplotlib animation: `ax.animation.save("descent.gif", writer="pillow")`, or
        `ax.animation.to_jshtml()` in a notebook. It exists as long as `ax` does.

    Raises
    ------
    TypeError, ValueError
        As for `trajectory`.
    """
    if f is None:
        raise TypeError("f is needed: the picture moves over its curve or its lines of equal value")
    interval = validation.scalar(interval, "interval", positive=True)
    max_frames = validation.count(max_frames, "max_frames", minimum=2)
    ax, across, up, seen, values = _scene(run, f, ax, xlim, ylim)
    (trail,) = ax.plot([], [], color=COLORS[0], linewidth=1.6, marker="o", markersize=3, gid="path", zorder=3)
    (head,) = ax.plot([], [], color=COLORS[0], marker="o", markersize=9, markeredgecolor="black", zorder=4)
    title = ax.set_title("step 0")  # not empty, so that the layout reserves room for it

    def draw(step):
        trail.set_data(across[: step + 1], up[: step + 1])
        head.set_data(across[step : step + 1], up[step : step + 1])
        value = f", value {values[step]:.4g}" if np.isfinite(values[step]) else ""
        title.set_text(f"step {step}{value}")
        return trail, head, title

    shown = int(np.flatnonzero(seen)[-1]) + 1
    frames = np.unique(np.linspace(0, shown - 1, min(shown, max_frames)).round().astype(int)).tolist()

    class Animation(import_extra("matplotlib.animation", "plot", "drawing").FuncAnimation):
        def __del__(self):
            pass  # matplotlib warns when an animation is deleted unsaved; this one lives as long as its Axes

    ax.animation = Animation(ax.figure, draw, frames=frames, init_func=lambda: draw(0), interval=interval)
    draw(frames[-1])  # for a still picture
    return ax


def _is_over_other(f, ax):
    """Whether the path goes onto Axes with a figure that sets their limits and labels."""
    return f is None and ax is not None and ax.has_data()


def _scene(run, f, ax, xlim, ylim):
    """The Axes with the contours or the curve of f; the coordinates of the path there, which iterates are seen, values.

    Returns
    -------
    ax : Axes
    across, up : (steps + 1,)
        Coordinates of the iterates, NaN for those that are not drawn.
    seen : (steps + 1,) bool
    values : (steps + 1,)
        f at the iterates, from the history.
    """
    history = history_of(run)
    points = np.asarray(history.x, dtype=np.float64).reshape(len(history.x), -1)
    if points.shape[1] not in (1, 2):
        raise ValueError(f"a path can be drawn in one or two variables; this run has {points.shape[1]}")
    values = np.asarray(history.fun, dtype=np.float64)
    seen = _in_the_picture(points, values)
    xlim = None if xlim is None else limits(xlim, "xlim")
    ylim = None if ylim is None else limits(ylim, "ylim")
    on = _on_a_curve if points.shape[1] == 1 else _on_contours
    ax, across, up = on(points, values, f, ax, xlim, ylim, seen)
    if xlim is not None:
        ax.set_xlim(xlim)
    if ylim is not None:
        ax.set_ylim(ylim)
    return ax, across, up, seen, values


def _on_a_curve(points, values, f, ax, xlim, ylim, seen):
    """The `_scene` of a run in one variable; without f the values of the history are the heights."""
    over_other, heights = _is_over_other(f, ax), values
    if f is not None:
        f = function_of(f, 1)
        along = np.linspace(*(xlim or _limits_around(points[seen])[0]), CURVE_POINTS)
        curve = values_at(f, list(along[:, None]))
        heights = np.full(len(points), np.nan)
        heights[seen] = values_at(f, list(points[seen]))
    elif not np.isfinite(values[seen]).any():
        raise ValueError("the history holds no value of the function: pass f")
    ax = axes_for(ax)
    if f is not None:
        ax.plot(along, curve, color=GREY, linewidth=2, zorder=1, label="f")
    if not over_other:
        ax.set(xlabel="x", ylabel="f(x)")
    return ax, np.where(seen, points[:, 0], np.nan), heights


def _on_contours(points, values, f, ax, xlim, ylim, seen):
    """The `_scene` of a run in two variables."""
    over_other = _is_over_other(f, ax)
    across, up = _limits_around(points[seen])
    if f is not None:
        ax = contour(f, xlim or across, ylim or up, ax)
    else:
        ax = axes_for(ax)
        if not over_other:
            ax.set(xlim=xlim or across, ylim=ylim or up, xlabel="$x_0$", ylabel="$x_1$")
    # Gradients are perpendicular to the contours only if both axes have the same scale.
    spans = np.ptp(ax.get_xlim()), np.ptp(ax.get_ylim())
    if not over_other and max(spans) <= 2 * min(spans):
        ax.set_aspect("equal")
    # The first point outside is kept, so that the line is seen to leave the picture.
    keep = seen | (np.roll(seen, 1) & np.isfinite(points).all(axis=1) & (np.arange(len(points)) > 0))
    return ax, *np.where(keep[:, None], points, np.nan).T


def _in_the_picture(points, values):
    """Which iterates the picture shows: all, except the last ones of a run that moves away from its start uphill."""
    seen = np.isfinite(points).all(axis=1)
    if not seen[0]:
        raise ValueError("the run has no finite point at its start, so there is no path to draw")
    finite = values[np.isfinite(values)]
    if len(points) > 1 and finite.size and not (seen[-1] and finite[-1] <= finite[0]):
        with np.errstate(all="ignore"):
            away = np.linalg.norm(points - points[0], axis=1)
        # The first step of a diverging run crosses the valley, so three of them cover the region of interest.
        outside = ~(away <= 3 * away[1])
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
