"""Figures of functions: `contour` and `surface` of two variables, `tangent` of one, `basins` of a descent."""

from __future__ import annotations

import itertools
import typing

import numpy as np

from fastgd import validation
from fastgd.derivatives.gradient import numerical_diff
from fastgd.descent.starts import multi_start
from fastgd.engine.result import Result, Status
from fastgd.errors import DivergenceError, import_extra
from fastgd.plot.scene import of_vectors, paths_of, view
from fastgd.plot.shared import (
    COLORS,
    CURVE_POINTS,
    GREY,
    axes_for,
    function_of,
    ground,
    legend,
    limits,
    plane,
    round_levels,
    style,
    values_at,
)

if typing.TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from fastgd.objective import LinearObjective
    from fastgd.plot.shared import Axes3DT, AxesT, Limits, Runs
    from fastgd.types import ScalarFunction


def contour(
    f: ScalarFunction | LinearObjective, xlim: Limits, ylim: Limits, ax: AxesT | None = None, *, colorbar: bool = True
) -> AxesT:
    """Draw the contour lines of a function of two variables.

    The levels are quantiles of the values, so that both flat and steep regions show lines. Values that are not finite
    are left white.

    Parameters
    ----------
    f : callable or LinearObjective
        A function of an array of two numbers, or an objective with two weights.
    xlim, ylim : pair of float
        (lower, upper) of each variable.
    ax : matplotlib Axes, optional
    colorbar : bool
        Draw the scale of values beside the picture.

    Returns
    -------
    Axes

    Raises
    ------
    TypeError, ValueError
        f is not such a function, or a limit is not a pair of finite numbers in ascending order.
    """
    f = function_of(f, 2)
    xlim, ylim = limits(xlim, "xlim"), limits(ylim, "ylim")
    validation.boolean(colorbar, "colorbar")
    x, y, values = plane(f, xlim, ylim)
    ax = axes_for(ax)
    # Quantiles at (i/15)²: the contours of a quadratic bowl are then equidistant, because the area within the contour
    # of radius r, and with it the share of the values below it, grows as r².
    levels = round_levels(values, np.linspace(0, 1, 16) ** 2)
    norm = import_extra("matplotlib.colors", "plot", "drawing").BoundaryNorm(levels, 256)
    filled = ax.contourf(x, y, np.maximum(values, levels[0]), levels, cmap=ground(), norm=norm)
    ax.contour(x, y, values, levels[1:], colors="#35607F", linewidths=0.6, linestyles="solid", alpha=0.6)
    ax.grid(False)
    if colorbar:
        _colorbar(ax, filled, levels)
    ax.set(xlim=xlim, ylim=ylim, xlabel="$x_0$", ylabel="$x_1$", title="Lines of equal value")
    return ax


def _colorbar(ax, values, levels, **options):
    ticks = levels[:: max(1, levels.size // 6)]
    bar = ax.figure.colorbar(values, ax=ax, label="value", ticks=ticks, **options)
    bar.ax.set_yticks(ticks, [f"{tick:.4g}".replace("-", "−") for tick in ticks])
    bar.minorticks_off()


def surface(
    f: ScalarFunction | LinearObjective,
    xlim: Limits | None = None,
    ylim: Limits | None = None,
    ax: Axes3DT | None = None,
    *,
    run: Runs | None = None,
    elev: float = 35.0,
    azim: float | None = None,
    colorbar: bool = True,
) -> Axes3DT:
    """Draw a function of two variables as a surface in three dimensions, and the paths of runs on it.

    Values far above the 90 % quantile are cut off at the top, so that the rest keeps its shape. Between its steps a
    path is drawn on the surface, too. The surface hides what is behind it, which is dotted.

    Parameters
    ----------
    f : callable or LinearObjective
        As for `contour`.
    xlim, ylim : pair of float, optional
        (lower, upper) of each variable; by default around the paths.
    ax : matplotlib Axes3D, optional
        One made with projection="3d".
    run : Result, History or DivergenceError, or several of them, optional
        Of runs with history=True.
    elev, azim : float
        Angle of the view above the plane and around the vertical axis, in degrees. Without `azim` it is the one from
        which most of the paths is seen.
    colorbar : bool
        Draw the scale of values beside the picture.

    Returns
    -------
    Axes3D

    Raises
    ------
    TypeError, ValueError
        As for `contour`; `ax` is not three-dimensional; or there are neither limits nor runs.
    """
    paths = [] if run is None else paths_of(run)
    f = of_vectors(f, paths)
    flat = function_of(f, 2)
    if not paths and (xlim is None or ylim is None):
        raise ValueError("surface needs xlim and ylim, or a run to take them from")
    xlim, ylim = view(paths, f, xlim, ylim)[:2] if paths else (limits(xlim, "xlim"), limits(ylim, "ylim"))
    elev = validation.scalar(elev, "elev")
    x, y, values = plane(flat, xlim, ylim, finer=2)
    low, most = np.nanmin(values), np.nanquantile(values, 0.9)
    if most > low:
        values = np.minimum(values, most + 10 * (most - low))
    ax = axes_for(ax, "3d")
    high = float(np.nanmax(values))
    every = {"rcount": 80, "ccount": 80, "linewidth": 0.15, "edgecolor": "#35607F", "antialiased": True}
    span = {"vmin": low, "vmax": high if high > low else low + 1.0}
    ax.computed_zorder = False  # matplotlib would draw a path over the surface, or under it, as a whole
    drawn = ax.plot_surface(*np.meshgrid(x, y), values, cmap=ground(), shade=False, zorder=1, **every, **span)
    if isinstance(getattr(drawn, "_invalid_vertices", None), np.ndarray):
        drawn._faces[drawn._invalid_vertices] = 0  # matplotlib leaves what was in memory there, and it may overflow
    ax.set_proj_type("ortho")  # rays to the eye are parallel, so that what is hidden does not depend on the distance
    lines = [(path, *on_the_surface(path.shown, flat, xlim, ylim, high)) for path in paths]
    box = np.array([np.ptp(xlim), np.ptp(ylim), span["vmax"] - low]) / ax._box_aspect
    # Along an axis depth is not seen.
    azims = [a for a in np.arange(-60, 300, 15.0) if a % 90] if azim is None else [validation.scalar(azim, "azim")]
    hidden = [[_hidden(line[1:], x, y, values, box, elev, a) for line in lines] for a in azims]
    best = int(np.argmin([sum(h.sum() for h in each) for each in hidden]))
    for i, (line, behind) in enumerate(zip(lines, hidden[best], strict=True)):
        look = {"color": COLORS[i % len(COLORS)], "zorder": 5}
        for part, dashes in ((~behind, "-"), (behind, ":")):
            if part.any():
                ax.plot(*np.where(part, line[1:], np.nan), linestyle=dashes, linewidth=2, gid="path", **look)
        marks = _steps_on_the_surface(line[0], flat, xlim, ylim, high)
        marks = marks[:, ~_hidden(marks, x, y, values, box, elev, azims[best])]
        ax.plot(*marks, linestyle="none", marker="o", markersize=4, label=line[0].label, **look)
    ax.view_init(elev=elev, azim=azims[best])
    ax.set(xlabel="$x_0$", ylabel="$x_1$", zlabel="value", title="The surface", xlim=xlim, ylim=ylim)
    for axis in "xyz":
        ax.locator_params(axis=axis, nbins=5)
    ax.zaxis.labelpad = 9  # clear of the numbers, which may be long
    ax.set_box_aspect(None, zoom=0.95)  # else the label of the third axis lies outside the picture
    if colorbar:
        ticks = import_extra("matplotlib.ticker", "plot", "drawing").MaxNLocator(6)
        ax.figure.colorbar(drawn, ax=ax, shrink=0.65, pad=0.12, ticks=ticks)
    legend(ax)
    return ax


def _inside(points, xlim, ylim):
    lower, upper = np.transpose([xlim, ylim])
    return np.all((points >= lower) & (points <= upper), axis=1)


def _steps_on_the_surface(path, f, xlim, ylim, high):
    """x, y and z of the steps of a path that are inside, (3, count); of many, the first and the last."""
    steps = path.shown[path.seen]
    steps = steps if len(steps) <= 60 else steps[[0, -1]]
    steps = steps[_inside(steps, xlim, ylim)]
    return np.vstack([steps.T, np.minimum(values_at(f, list(steps)), high)])


def on_the_surface(points, f, xlim, ylim, high):
    """x, y and z of a path, with points between its steps where these are long; NaN outside the limits."""
    dense = [points[:1]]
    for a, b in itertools.pairwise(points):
        length = np.linalg.norm((b - a) / (np.ptp(xlim), np.ptp(ylim)))
        count = int(np.ceil(60 * min(length, 4.0))) if np.isfinite(length) else 1
        dense.append(a + (b - a) * np.linspace(0, 1, max(1, count) + 1)[1:, None])
    dense = np.concatenate(dense)
    inside = _inside(dense, xlim, ylim)
    heights = np.full(len(dense), np.nan)
    heights[inside] = np.minimum(values_at(f, list(dense[inside])), high)
    return np.where(inside, dense[:, 0], np.nan), np.where(inside, dense[:, 1], np.nan), heights


def _hidden(line, x, y, values, box, elev, azim):
    """Which points of a line on the surface have higher parts of it between them and the eye."""
    elev, azim = np.radians(elev), np.radians(azim)
    towards = box * [np.cos(elev) * np.cos(azim), np.cos(elev) * np.sin(azim), np.sin(elev)]
    hidden = np.zeros(len(line[0]), bool)
    if towards[2] <= 0:
        return hidden
    low, high = np.nanmin(values), np.nanmax(values)
    for t in np.linspace(0.02, 1.0, 50) * (high - low) / towards[2]:
        a, b, c = (coordinate + t * part for coordinate, part in zip(line, towards, strict=True))
        inside = (a >= x[0]) & (a <= x[-1]) & (b >= y[0]) & (b <= y[-1])
        i, j = (np.searchsorted(g, np.where(inside, v, g[0])).clip(0, g.size - 1) for g, v in ((y, b), (x, a)))
        hidden |= inside & (values[i, j] > c + 0.01 * (high - low))
    return hidden


def tangent(
    f: Callable[[float], typing.SupportsFloat],
    x: float | Sequence[float] | Runs,
    ax: AxesT | None = None,
    *,
    xlim: Limits | None = None,
) -> AxesT:
    """Draw a function of one variable and its tangents, with the slopes from `numerical_diff`.

    Parameters
    ----------
    f : callable
        A function of one number.
    x : float, sequence of float, or a run of one variable
        Where the tangent touches; several points are shown by several tangents, a run at its first six points.
    ax : matplotlib Axes, optional
    xlim : pair of float, optional
        (lower, upper) of the curve; by default x ± max(2, |x|).

    Returns
    -------
    Axes

    Raises
    ------
    TypeError, ValueError
        f is not a function of a number, x is not a finite number, or f has no finite value there.
    """
    validation.callable_(f, "f")
    if isinstance(x, Result) or hasattr(x, "history") or hasattr(x, "result"):
        x = paths_of(x)[0].shown[:6, 0]
        x = x[np.isfinite(x)]
    touching = [validation.scalar(x, "x")] if np.ndim(x) == 0 else validation.real_array(x, "x", ndim=1).tolist()
    slopes = [float(numerical_diff(f, at)) for at in touching]
    heights = [validation.finite_number(f(at), at, -1) for at in touching]
    half = max(2.0, float(np.max(np.abs(touching))), np.ptp(touching))
    middle = (min(touching) + max(touching)) / 2
    low, high = (middle - half, middle + half) if xlim is None else limits(xlim, "xlim")
    along = np.linspace(low, high, CURVE_POINTS)
    values = values_at(f, along.tolist())
    ax = axes_for(ax)
    ax.plot(along, values, color=COLORS[1] if len(touching) == 1 else GREY, linewidth=2, label="f")
    # A tangent stays within the height of the curve: a steep one, drawn over the whole width, would flatten it.
    bottom, top = np.nanmin(values), np.nanmax(values)
    room = 0.08 * (top - bottom) or 1.0
    for i, (at, y, slope) in enumerate(zip(touching, heights, slopes, strict=True)):
        color, line = COLORS[i % len(COLORS)], y + slope * (along - at)
        line = np.where((line >= bottom - room) & (line <= top + room), line, np.nan)
        dashes = "--" if len(touching) == 1 else style(i)["linestyle"]
        ax.plot(
            along,
            line,
            color=color,
            linestyle=dashes,
            linewidth=2,
            label=f"tangent, slope {slope:.4g}".replace("-", "−"),
        )
        dot = {"color": color, "marker": "o", "markersize": 9, "markeredgecolor": "black", "linestyle": "none"}
        ax.plot([at], [y], zorder=4, **dot)
    where = f"The tangent at x = {touching[0]:.4g}" if len(touching) == 1 else "Tangents"
    ax.set(xlabel="x", ylabel="f(x)", title=where.replace("-", "−"))
    legend(ax)
    return ax


def basins(
    f: ScalarFunction | LinearObjective | Result,
    xlim: Limits | None = None,
    ylim: Limits | None = None,
    ax: AxesT | None = None,
    *,
    lr: float = 0.01,
    step_num: int = 200,
    points: int = 41,
    same: float = 0.02,
    **options: typing.Any,
) -> AxesT:
    """Show to which minimum descent leads from each start in a rectangle; the minima are numbered from the lowest.

    Parameters
    ----------
    f, xlim, ylim, ax
        As for `contour`. Or what `multi_start` returned of runs with history=True: its starts are shown.
    lr, step_num, same, **options
        As for `multi_start`, which makes the runs; `vectorized=True` is quickest. Runs end where they move by less
        than `x_tol`, a ten-thousandth of the rectangle.
    points : int
        Starts along each axis.

    Returns
    -------
    Axes
        Starts of runs that diverge are left white.

    Raises
    ------
    TypeError, ValueError
        As for `contour` and `multi_start`.
    """
    if isinstance(f, Result):
        return _basins_of_starts(f, xlim, ylim, ax)
    function_of(f, 2)
    for limit, name in ((xlim, "xlim"), (ylim, "ylim")):
        if limit is None:
            raise TypeError(f"{name} is needed: (lower, upper) of the starts")
    xlim, ylim = limits(xlim, "xlim"), limits(ylim, "ylim")
    points = validation.count(points, "points", minimum=2)
    x, y = np.linspace(*xlim, points), np.linspace(*ylim, points)
    starts = np.column_stack([grid.ravel() for grid in np.meshgrid(x, y)])
    starts = starts.reshape(-1, *getattr(f, "shape", (2,)))
    if not options.get("vectorized"):
        options.setdefault("x_tol", 1e-4 * min(np.ptp(xlim), np.ptp(ylim)))
    try:
        best = multi_start(f, starts, len(starts), lr=lr, step_num=step_num, same=same, **options)
    except DivergenceError as error:  # all runs have
        best = error.result
    reached = np.full(len(starts), np.nan)
    for number, minimum in enumerate(best.minima):
        reached[minimum.runs] = number
    ax = axes_for(ax)
    count = len(best.minima)
    colors = import_extra("matplotlib.colors", "plot", "drawing")
    # Pale enough for the numbers, and different in brightness: neighbours are told apart in grey.
    pale = colors.ListedColormap([_paler(COLORS[i % len(COLORS)], 0.25 + 0.5 * (i % 3) / 2) for i in range(count)])
    ax.pcolormesh(x, y, reached.reshape(points, points), cmap=pale, vmin=-0.5, vmax=count - 0.5, shading="nearest")
    ax.grid(False)
    ax.set(xlim=xlim, ylim=ylim, xlabel="$x_0$", ylabel="$x_1$", title="To which minimum each start leads")
    number_minima(ax, best.minima)
    left = sum(run.status in (Status.DIVERGED, Status.FAILED) for run in best.runs)
    if left:
        ax.plot([], [], linestyle="none", marker="s", color="white", markeredgecolor=GREY, label=f"{left} diverge")
    legend(ax)
    return ax


def _basins_of_starts(best, xlim, ylim, ax):
    """The starts of `multi_start`, each in the colour of its minimum."""
    if best.get("minima") is None:
        raise TypeError("f must be a function, an objective, or the result of multi_start; this is that of one run")
    paths = paths_of(best)
    if paths[0].points.shape[1] != 2:
        raise ValueError("basins are drawn of two variables; these runs have one")
    xlim, ylim = view(paths, None, xlim, ylim)[:2]
    ax = axes_for(ax)
    reached = {number: i for i, minimum in enumerate(best.minima) for number in minimum.runs}
    for number, path in enumerate(paths):
        color = COLORS[reached[number] % len(COLORS)] if number in reached else "white"
        ax.plot(*path.points[:1].T, marker="s", color=color, markeredgecolor="black", linestyle="none")
    ax.set(xlim=xlim, ylim=ylim, xlabel="$x_0$", ylabel="$x_1$", title="To which minimum each start leads")
    number_minima(ax, best.minima)
    legend(ax)
    return ax


def _paler(color, share):
    """A colour mixed with so much white."""
    colors = import_extra("matplotlib.colors", "plot", "drawing")
    return 1 - (1 - np.array(colors.to_rgb(color))) * (1 - share) * 0.6


def number_minima(ax, minima):
    """The minima that are inside the Axes, with their numbers and, below the picture, values and counts."""
    (low, high), (bottom, top) = ax.get_xlim(), ax.get_ylim()
    for number, minimum in enumerate(minima[:9]):
        a, b = np.asarray(minimum.x, dtype=np.float64).reshape(-1)
        if low <= a <= high and bottom <= b <= top:
            label = f"minimum {number + 1}: {minimum.fun:.4g}, found {minimum.count} ×".replace("-", "−")
            mark = {"markersize": 13, "color": "white", "markeredgecolor": "black", "linestyle": "none", "zorder": 6}
            ax.plot([a], [b], marker="o", gid="minimum", **mark)
            ax.plot([a], [b], marker=f"${number + 1}$", color="black", markersize=6, ls="none", zorder=7, label=label)
