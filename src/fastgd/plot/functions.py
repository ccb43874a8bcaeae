"""Figures of functions: `contour` and `surface` of two variables, `tangent` of one."""

from __future__ import annotations

import typing

import numpy as np

from fastgd import validation
from fastgd.derivatives.gradient import numerical_diff
from fastgd.errors import import_extra
from fastgd.plot.shared import COLORS, CURVE_POINTS, axes_for, function_of, limits, values_at

if typing.TYPE_CHECKING:
    from collections.abc import Callable

    from fastgd.objective import LinearObjective
    from fastgd.plot.shared import Axes3DT, AxesT, Limits
    from fastgd.types import ScalarFunction

# Points along each axis at which a function of two variables is evaluated: 3,721 calls of f, smooth to the eye.
GRID_POINTS = 61


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
    x, y, values = _grid(f, xlim, ylim)
    ax = axes_for(ax)
    # Quantiles at (i/15)²: the contours of a quadratic bowl are then equidistant, because the area within the contour
    # of radius r, and with it the share of the values below it, grows as r².
    levels = np.unique(np.nanquantile(values, np.linspace(0, 1, 16) ** 2))
    if levels.size < 2:  # a constant function: one band around its value
        levels = np.array([levels[0] - 0.5, levels[0] + 0.5])
    colors = import_extra("matplotlib.colors", "plot", "drawing")
    blues = import_extra("matplotlib", "plot", "drawing").colormaps["Blues"]
    bands = blues(np.linspace(0, 0.7, levels.size - 1))  # pale enough for a path drawn over it
    cmap, norm = colors.ListedColormap(bands), colors.BoundaryNorm(levels, levels.size - 1)
    filled = ax.contourf(x, y, values, levels, cmap=cmap, norm=norm)
    ax.contour(x, y, values, levels[1:], colors="#35607F", linewidths=0.6, linestyles="solid", alpha=0.6)
    ax.grid(False)
    if colorbar:
        ticks = levels[:: max(1, levels.size // 5)]
        ax.figure.colorbar(filled, ax=ax, label="value", ticks=ticks, format="%.3g").minorticks_off()
    ax.set(xlim=xlim, ylim=ylim, xlabel="$x_0$", ylabel="$x_1$", title="Lines of equal value")
    return ax


def surface(f: ScalarFunction | LinearObjective, xlim: Limits, ylim: Limits, ax: Axes3DT | None = None) -> Axes3DT:
    """Draw a function of two variables as a surface in three dimensions.

    Values far above the 90 % quantile are cut off at the top, so that the rest keeps its shape.

    Parameters
    ----------
    f, xlim, ylim
        As for `contour`.
    ax : matplotlib Axes3D, optional
        One made with projection="3d".

    Returns
    -------
    Axes3D

    Raises
    ------
    TypeError, ValueError
        As for `contour`; or `ax` is not three-dimensional.
    """
    f = function_of(f, 2)
    x, y, values = _grid(f, limits(xlim, "xlim"), limits(ylim, "ylim"))
    low, most = np.nanmin(values), np.nanquantile(values, 0.9)
    if most > low:
        values = np.minimum(values, most + 10 * (most - low))
    ax = axes_for(ax, "3d")
    high = float(np.nanmax(values))
    options = {"rcount": GRID_POINTS, "ccount": GRID_POINTS, "linewidth": 0, "antialiased": True}
    ax.plot_surface(x, y, values, cmap="viridis", vmin=low, vmax=high if high > low else low + 1.0, **options)
    ax.set(xlabel="$x_0$", ylabel="$x_1$", zlabel="value", title="The surface")
    ax.locator_params(axis="x", nbins=5)
    ax.locator_params(axis="y", nbins=5)
    ax.zaxis.labelpad = 9  # clear of the numbers, which may be long
    ax.set_box_aspect(None, zoom=0.86)  # else the label of the third axis lies outside the picture
    return ax


def tangent(
    f: Callable[[float], typing.SupportsFloat], x: float, ax: AxesT | None = None, *, xlim: Limits | None = None
) -> AxesT:
    """Draw a function of one variable and its tangent at a point, with the slope from `numerical_diff`.

    Parameters
    ----------
    f : callable
        A function of one number.
    x : float
        Where the tangent touches.
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
    x = validation.scalar(x, "x")
    slope = numerical_diff(f, x)
    y = validation.finite_number(f(x), x, -1)
    half = max(2.0, abs(x))
    low, high = (x - half, x + half) if xlim is None else limits(xlim, "xlim")
    along = np.linspace(low, high, CURVE_POINTS)
    values = values_at(f, along.tolist())
    ax = axes_for(ax)
    ax.plot(along, values, color=COLORS[1], linewidth=2, label="f")
    # The tangent stays within the height of the curve: a steep one, drawn over the whole width, would flatten it.
    bottom, top = np.nanmin(values), np.nanmax(values)
    room = 0.08 * (top - bottom) or 1.0
    line = y + slope * (along - x)
    line = np.where((line >= bottom - room) & (line <= top + room), line, np.nan)
    ax.plot(along, line, color=COLORS[0], linestyle="--", linewidth=2, label=f"tangent, slope {slope:.4g}")
    ax.plot([x], [y], color=COLORS[0], marker="o", markersize=9, markeredgecolor="black", linestyle="none", zorder=4)
    ax.set(xlabel="x", ylabel="f(x)", title=f"The tangent at x = {x:.4g}")
    ax.legend()
    return ax


def _grid(f, xlim, ylim):
    """Coordinates and values of f on a grid, each (GRID_POINTS, GRID_POINTS)."""
    x, y = np.meshgrid(np.linspace(*xlim, GRID_POINTS), np.linspace(*ylim, GRID_POINTS))
    return x, y, values_at(f, list(np.column_stack([x.ravel(), y.ravel()]))).reshape(x.shape)
