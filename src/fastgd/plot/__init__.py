"""Pictures of descent, drawn with matplotlib (extra "plot"), which is imported when the first of them is drawn.

loss, learning_rates      how the loss falls: of one run, of several
fit                       a model beside its data
contour, surface          a function of two variables
trajectory, animate       the path of a run, standing and moving
tangent                   a curve and its slope at one point

Each returns the Axes it drew on. Without `ax` that is the only Axes of a new Figure which belongs to no window and
needs no display: save it with `ax.figure.savefig("picture.png")`. To see it in a window, draw on an Axes of pyplot's.
"""

from __future__ import annotations

import typing

import numpy as np

from fastgd import validation
from fastgd.derivatives.gradient import numerical_diff
from fastgd.engine.result import History, Result
from fastgd.errors import DivergenceError, import_extra
from fastgd.objective import LinearObjective

if typing.TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from matplotlib.animation import FuncAnimation
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from mpl_toolkits.mplot3d import Axes3D
    from numpy.typing import ArrayLike
    from typing_extensions import TypeVar

    from fastgd.types import ScalarFunction

    class NewAxes(Axes):
        """Axes of a Figure of their own, which is no SubFigure and has `savefig`."""

        @property
        def figure(self) -> Figure: ...

    class NewAxes3D(Axes3D):
        @property
        def figure(self) -> Figure: ...

    class AnimatedAxes(NewAxes):
        animation: FuncAnimation

    AxesT = TypeVar("AxesT", bound=Axes, default=NewAxes)
    Axes3DT = TypeVar("Axes3DT", bound=Axes3D, default=NewAxes3D)
    Recorded = Result | History | DivergenceError
    Limits = tuple[float, float] | Sequence[float]

# Told apart by readers with any colour vision (Okabe and Ito, "Color universal design", 2008), strongest first.
COLORS = ("#D55E00", "#0072B2", "#009E73", "#CC79A7", "#E69F00", "#000000", "#56B4E9")
DASHES = ("-", "--", "-.", ":")
GRID = 61  # points along each axis of a contour or a surface
CURVE = 401  # points of a curve
FLAT = "#999999"
ENDS = ("start", "end")
EPS = np.finfo(np.float64).eps
HUGE = 1e200  # beyond this the arithmetic of drawing overflows

# A logarithmic axis is worth its strangeness from this ratio on.
DECADES = 100.0


# ------------------------------------------------------------------------------------------------------ loss by step


def loss(run: Recorded, ax: AxesT | None = None, *, label: str | None = None, color: str | None = None) -> AxesT:
    """The loss of a run against the step.

    The axis is logarithmic where the losses are not negative and span decades. A step at which the loss is exactly zero
    has no place on a logarithmic axis: it is named in the picture instead. Losses below rounding beside the first one
    leave the picture at the bottom.

    Parameters
    ----------
    run : Result, History or DivergenceError
        Of a run with history=True.
    ax : matplotlib Axes, optional
    label, color : str, optional
        Of the line; a label brings a legend.

    Returns
    -------
    Axes

    Raises
    ------
    TypeError, ValueError
        `run` is none of these, or has no history or no finite loss.
    """
    values = _losses(run, "run")
    ax = _axes(ax)
    steps = np.arange(len(values))
    scale = _scale([values])
    ax.plot(steps, _drawable(values, scale), color=color or COLORS[1], label=label, **_marks(len(values)))
    _loss_axes(ax, scale)
    ax.set_ylim(bottom=_bounds([values], scale)[0])
    zeros = np.flatnonzero(values == 0)
    if scale == "log" and zeros.size:
        _note(ax, f"exactly 0 from step {zeros[0]}" if np.all(values[zeros[0] :] == 0) else f"0 at step {zeros[0]}")
    ax.set_title("Loss at each step")
    if label is not None:
        ax.legend()
    return ax


def learning_rates(runs: Iterable[Recorded], labels: Sequence[str] | None = None, ax: AxesT | None = None) -> AxesT:
    """The losses of several runs in one picture, those that diverge included.

    A run that diverges is marked so in the legend, and leaves the picture at the top instead of flattening the others;
    a loss that is below rounding beside the first one leaves it at the bottom.

    Parameters
    ----------
    runs : sequence of Result, History or DivergenceError
        Of runs with history=True. A DivergenceError is what a diverging run raised.
    labels : sequence of str, optional
        One for each run; without it their learning rates.
    ax : matplotlib Axes, optional

    Returns
    -------
    Axes

    Raises
    ------
    TypeError, ValueError
        A run has no history, or there are not as many labels as runs, or there is no run.
    """
    if isinstance(runs, (Result, History, DivergenceError, str)) or not hasattr(runs, "__iter__"):
        raise TypeError(f"runs must be a sequence of results; got {validation.describe(runs)}")
    runs = list(runs)
    if not runs:
        raise ValueError("runs must hold at least one run")
    losses = [_losses(run, f"runs[{i}]") for i, run in enumerate(runs)]
    if labels is None:
        labels = [_rate_label(_history(run, "run").lr) for run in runs]
    elif isinstance(labels, str) or len(labels) != len(runs):
        raise ValueError(f"labels must be {len(runs)} strings, one for each run; got {validation.describe(labels)}")
    ax = _axes(ax)
    scale, marks = _scale(losses), _marks(max(map(len, losses)))
    for i, (values, label, run) in enumerate(zip(losses, labels, runs, strict=True)):
        style = {"color": COLORS[i % len(COLORS)], "linestyle": DASHES[i // len(COLORS) % len(DASHES)]}
        if _diverged(run):
            label = f"{label} (diverges)"
        ax.plot(_drawable(values, scale), label=label, **style, **marks)
    _loss_axes(ax, scale)
    bottom, top = _bounds(losses, scale)
    ax.set_ylim(bottom=bottom, top=top)
    ax.set_title("Loss at each step")
    ax.legend()
    return ax


def _losses(run, name):
    values = np.array(_history(run, name).fun, dtype=np.float64)
    values[~(np.abs(values) < HUGE)] = np.nan
    if np.isnan(values).all():
        raise ValueError(f"{name} has no finite loss in its history, so there is nothing to draw")
    return values


def _scale(losses):
    """The kind of axis that shows all of these losses."""
    values = np.concatenate(losses)
    values = values[np.isfinite(values)]
    size = np.abs(values[values != 0])
    if not size.size:
        return "linear"
    if values.min() >= 0:
        return "log" if size.max() >= DECADES * size.min() else "linear"
    # Below zero there is no logarithm; only a run that leaves all measure is worth a two-sided one.
    return "symlog" if size.max() > 1e4 * np.median(size) else "linear"


def _drawable(values, scale):
    """The losses, with a gap where one cannot be drawn."""
    possible = np.isfinite(values) & ((values > 0) | (scale != "log"))
    return np.where(possible, values, np.nan)


def _bounds(losses, scale):
    """Lower and upper end of the axis where one is needed lest a few values flatten the others, else None."""
    values = np.concatenate(losses)
    values = values[np.isfinite(values)]
    start = max((v[0] for v in losses if np.isfinite(v[0])), default=values.max())
    bottom = top = None
    if scale == "log":
        positive = values[values > 0]
        start = start if start > 0 else positive.max()
        # A loss this small beside the first one is rounding: it is the square of an error of one in the last digit.
        floor = start * EPS**2
        bottom = floor if positive.min() < floor else None
        top = start * max(DECADES, start / max(positive.min(), floor))
    elif scale == "linear":
        top = start + 2 * max(start - values.min(), 0.1 * abs(start))
    return bottom, top if top is not None and values.max() > top else None


def _loss_axes(ax, scale):
    if scale == "symlog":
        first = max(abs(line.get_ydata()[0]) for line in ax.lines)
        ax.set_yscale("symlog", linthresh=10.0 ** np.ceil(np.log10(first)) if 0 < first < HUGE else 1.0)
        ax.yaxis.get_major_locator().set_params(numticks=8)
    elif ax.get_yscale() != "symlog":
        ax.set_yscale(scale)
    ax.set_xlabel("step")
    ax.set_ylabel("loss")
    ax.xaxis.get_major_locator().set_params(integer=True)
    ax.margins(x=0.02)


def _marks(count):
    """Dots at the steps, where these are few enough to be told apart."""
    return {"marker": "o", "markersize": 4} if count <= 30 else {}


def _rate_label(rates):
    if not len(rates):
        return "no step"
    first, last = float(rates[0]), float(rates[-1])
    return f"lr = {first:.3g}" if np.all(rates == first) else f"lr = {first:.3g} to {last:.3g}"


# -------------------------------------------------------------------------------------------------- a model and data


def fit(
    objective: LinearObjective,
    w: ArrayLike | Result,
    ax: AxesT | None = None,
    *,
    feature_name: str = "x",
    target_name: str = "y",
) -> AxesT:
    """A fitted model beside its data.

    With one feature: the points, and the fitted curve over their range. With several: the predicted against the actual
    target, and the diagonal on which both are equal.

    Parameters
    ----------
    objective : LinearObjective
        It holds the data.
    w : array_like or Result
        Weights, or the run that found them.
    ax : matplotlib Axes, optional
    feature_name, target_name : str
        For the labels; the feature's is used where there is only one.

    Returns
    -------
    Axes

    Raises
    ------
    TypeError, ValueError
        `objective` is no LinearObjective, or w has not its shape.
    """
    if not isinstance(objective, LinearObjective):
        raise TypeError(f"objective must be a LinearObjective; got {validation.describe(objective)}")
    if isinstance(w, Result):
        w = w.x
    predicted = objective.predict(w)
    n, d = objective.X.shape
    actual, predicted = objective.y.reshape(n, -1), predicted.reshape(n, -1)
    outputs = actual.shape[1]
    ax = _axes(ax)
    dots = {"linestyle": "none", "marker": "o", "markersize": 6 if n <= 100 else 3, "alpha": 0.8 if n <= 100 else 0.4}
    dots |= {"markeredgewidth": 0}
    if d == 1:
        x = objective.rows.columns([0])[:, 0]
        margin = 0.04 * float(x.max() - x.min()) or 0.5
        along = np.linspace(x.min() - margin, x.max() + margin, CURVE)
        curve = objective.predict(w, along[:, None]).reshape(CURVE, -1)
        for j in range(outputs):
            which = f", output {j}" if outputs > 1 else ""
            point_color, curve_color = (COLORS[1], COLORS[0]) if outputs == 1 else (COLORS[j % len(COLORS)],) * 2
            ax.plot(x, actual[:, j], color=point_color, label=f"data{which}", **dots)
            ax.plot(along, curve[:, j], color=curve_color, linewidth=2, label=f"fit{which}")
        ax.set(xlabel=feature_name, ylabel=target_name, title=f"{target_name} fitted by {feature_name}")
        ax.legend()
        return ax
    for j in range(outputs):
        color = COLORS[1] if outputs == 1 else COLORS[j % len(COLORS)]
        ax.plot(actual[:, j], predicted[:, j], color=color, label=f"output {j}" if outputs > 1 else None, **dots)
    low, high = min(actual.min(), predicted.min()), max(actual.max(), predicted.max())
    ax.plot([low, high], [low, high], color=COLORS[0], linestyle="--", label="predicted = actual")
    ax.set(xlabel=f"actual {target_name}", ylabel=f"predicted {target_name}", title="Predicted against actual")
    ax.legend()
    return ax


# -------------------------------------------------------------------------------------------- functions and the paths


def contour(
    f: ScalarFunction | LinearObjective, xlim: Limits, ylim: Limits, ax: AxesT | None = None, *, colorbar: bool = True
) -> AxesT:
    """Lines of equal value of a function of two variables.

    The levels are quantiles of the values, so that a flat valley shows beside a steep wall, whatever its height. Values
    that are not finite are left white.

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
        f is no such function, or a limit is no pair of finite numbers in ascending order.
    """
    f = _function(f, 2)
    xlim, ylim = _limits(xlim, "xlim"), _limits(ylim, "ylim")
    validation.boolean(colorbar, "colorbar")
    x, y, values = _grid(f, xlim, ylim)
    ax = _axes(ax)
    # Each band takes a fixed part of the picture, growing such that the rings of a bowl are evenly wide.
    levels = np.unique(np.nanquantile(values, np.linspace(0, 1, 16) ** 2))
    if levels.size < 2:  # a plain has no lines; two levels around it give it a colour
        levels = np.array([levels[0] - 0.5, levels[0] + 0.5])
    colors = import_extra("matplotlib.colors", "plot", "drawing")
    blues = import_extra("matplotlib", "plot", "drawing").colormaps["Blues"]
    bands = blues(np.linspace(0, 0.7, levels.size - 1))  # pale: a path is to be drawn over it
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
    """A function of two variables as a surface in three dimensions.

    A few values that would dwarf all others are cut off at the top.

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
        As for `contour`; or `ax` is flat.
    """
    f = _function(f, 2)
    x, y, values = _grid(f, _limits(xlim, "xlim"), _limits(ylim, "ylim"))
    low, most = np.nanmin(values), np.nanquantile(values, 0.9)
    if most > low:
        values = np.minimum(values, most + 10 * (most - low))
    ax = _axes(ax, "3d")
    high = float(np.nanmax(values))
    heights = {"vmin": low, "vmax": high if high > low else low + 1.0}
    ax.plot_surface(x, y, values, cmap="viridis", rcount=GRID, ccount=GRID, linewidth=0, antialiased=True, **heights)
    ax.set(xlabel="$x_0$", ylabel="$x_1$", zlabel="value", title="The surface")
    ax.locator_params(axis="x", nbins=5)
    ax.locator_params(axis="y", nbins=5)
    ax.zaxis.labelpad = 9  # clear of the numbers, which may be long
    ax.set_box_aspect(None, zoom=0.86)  # or the label of the third axis would lie outside the picture
    return ax


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
    """The path of a run: over lines of equal value with two variables, on the curve with one.

    Parameters
    ----------
    run : Result, History or DivergenceError
        Of a run with history=True, in one or two variables.
    f : callable or LinearObjective, optional
        What was descended. Without it only the path is drawn, for example over what `ax` shows already.
    ax : matplotlib Axes, optional
    xlim, ylim : pair of float, optional
        (lower, upper) of what is shown; without them the path fits in, but for the last steps of a run that diverges.
    label, color : str, optional
        Of the path; further paths on one Axes get colours of their own.

    Returns
    -------
    Axes

    Raises
    ------
    TypeError, ValueError
        The run has no history or more than two variables, or f is no function of as many.
    """
    points, values = _path(run)
    number = len(_paths(ax))
    over_other = f is None and ax is not None and ax.has_data()
    seen = _measured(points, values)
    ax, points, heights = _scene(points, values, f, ax, xlim, ylim, seen)
    color = color or COLORS[number % len(COLORS)]
    line = {"color": color, "linewidth": 1.6, "marker": "o", "markersize": 4 if len(points) <= 60 else 2.5}
    across = points[:, 0]
    up = points[:, 1] if heights is None else heights
    (drawn,) = ax.plot(across, up, label=label or "path", gid="path", zorder=3, **line)
    drawn.set_markeredgecolor("white" if len(points) <= 60 else color)
    drawn.set_markeredgewidth(0.5)
    ends = {"linestyle": "none", "markeredgecolor": "black", "color": color, "zorder": 4}
    named = number == 0  # one entry in the legend serves all paths
    ax.plot(across[:1], up[:1], marker="s", markersize=8, label=ENDS[0] if named else None, **ends)
    if not seen[-1]:
        _note(ax, f"leaves the picture after step {np.flatnonzero(seen)[-1]}")
    elif _diverged(run):
        _note(ax, "diverges")
    else:
        ax.plot(across[-1:], up[-1:], marker="*", markersize=14, label=ENDS[1] if named else None, **ends)
    if not over_other:
        ax.set_title("The path of the descent")
    named = sorted(zip(*ax.get_legend_handles_labels(), strict=True), key=lambda entry: entry[1] in ENDS)
    ax.legend(*zip(*named, strict=True))  # paths first, then what the marks at their ends mean
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
    """The path of a run as a moving picture over `contour` or the curve of f.

    Parameters
    ----------
    run, f, ax, xlim, ylim
        As for `trajectory`; f is needed.
    interval : float
        Milliseconds from one picture to the next.
    max_frames : int
        A longer run shows this many of its points, evenly spaced and with both ends.

    Returns
    -------
    Axes
        `ax.animation` is the matplotlib animation: `ax.animation.save("descent.gif", writer="pillow")`, or
        `ax.animation.to_jshtml()` in a notebook. It moves as long as `ax` is kept.

    Raises
    ------
    TypeError, ValueError
        As for `trajectory`.
    """
    if f is None:
        raise TypeError("f is needed: the picture moves over its curve or its lines of equal value")
    interval = validation.scalar(interval, "interval", positive=True)
    max_frames = validation.count(max_frames, "max_frames", minimum=2)
    points, values = _path(run)
    seen = _measured(points, values)
    ax, points, heights = _scene(points, values, f, ax, xlim, ylim, seen)
    across, up = points[:, 0], points[:, 1] if heights is None else heights
    (trail,) = ax.plot([], [], color=COLORS[0], linewidth=1.6, marker="o", markersize=3, gid="path", zorder=3)
    (head,) = ax.plot([], [], color=COLORS[0], marker="o", markersize=9, markeredgecolor="black", zorder=4)
    title = ax.set_title("step 0")  # not empty, so that the layout has room for it from the start

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
            pass  # matplotlib would warn of an animation that nobody saved; kept on its Axes, none is lost by mistake

    ax.animation = Animation(ax.figure, draw, frames=frames, init_func=lambda: draw(0), interval=interval)
    draw(frames[-1])  # what a still picture shows
    return ax


def tangent(
    f: Callable[[float], typing.SupportsFloat], x: float, ax: AxesT | None = None, *, xlim: Limits | None = None
) -> AxesT:
    """A curve, a point on it and the tangent there, its slope being `numerical_diff`'s.

    Parameters
    ----------
    f : callable
        A function of one number.
    x : float
        Where the tangent touches.
    ax : matplotlib Axes, optional
    xlim : pair of float, optional
        (lower, upper) of the curve; without it x ± max(2, |x|).

    Returns
    -------
    Axes

    Raises
    ------
    TypeError, ValueError
        f is no function of a number, x is no finite number, or f has no finite value there.
    """
    validation.callable_(f, "f")
    x = validation.scalar(x, "x")
    slope = numerical_diff(f, x)
    y = validation.finite_number(f(x), x, -1)
    half = max(2.0, abs(x))
    low, high = (x - half, x + half) if xlim is None else _limits(xlim, "xlim")
    along = np.linspace(low, high, CURVE)
    values = _values(f, along.tolist())
    ax = _axes(ax)
    ax.plot(along, values, color=COLORS[1], linewidth=2, label="f")
    # Only as long as the curve is high: a steep tangent drawn from side to side would flatten it.
    bottom, top = np.nanmin(values), np.nanmax(values)
    room = 0.08 * (top - bottom) or 1.0
    line = y + slope * (along - x)
    line = np.where((line >= bottom - room) & (line <= top + room), line, np.nan)
    ax.plot(along, line, color=COLORS[0], linestyle="--", linewidth=2, label=f"tangent, slope {slope:.4g}")
    ax.plot([x], [y], color=COLORS[0], marker="o", markersize=9, markeredgecolor="black", linestyle="none", zorder=4)
    ax.set(xlabel="x", ylabel="f(x)", title=f"The tangent at x = {x:.4g}")
    ax.legend()
    return ax


# ------------------------------------------------------------------------------------------------ what they all share


def _axes(ax, projection=None):
    """The Axes to draw on: the given one, or a new one in a figure of its own."""
    Axes = import_extra("matplotlib.axes", "plot", "drawing").Axes
    if ax is not None:
        if not isinstance(ax, Axes):
            raise TypeError(f"ax must be a matplotlib Axes; got {validation.describe(ax)}")
        if (ax.name == "3d") != (projection == "3d"):
            needed = 'a 3-D one: figure.add_subplot(projection="3d")' if projection else "a flat one"
            raise ValueError(f"ax must be {needed}; got {type(ax).__name__}")
        return ax
    Figure = import_extra("matplotlib.figure", "plot", "drawing").Figure
    ax = Figure(figsize=(6.4, 4.4), layout="constrained").add_subplot(projection=projection)
    if projection is None:
        ax.spines[["top", "right"]].set_visible(False)
        ax.grid(color="#DDDDDD", linewidth=0.6)
        ax.set_axisbelow(True)
    return ax


def _history(run, name="run"):
    if isinstance(run, DivergenceError):
        if run.result is None:
            raise ValueError(f"{name} is a DivergenceError without a result, so there is no path to draw")
        run = run.result
    if isinstance(run, Result):
        if run.get("history") is None:
            raise ValueError(f"{name} has no history: run with history=True")
        run = run.history
    if not isinstance(run, History):
        raise TypeError(f"{name} must be a Result, a History or a DivergenceError; got {validation.describe(run)}")
    return run


def _diverged(run):
    return isinstance(run, DivergenceError) or (isinstance(run, Result) and run.get("status") == 4)


def _path(run):
    """The points of a run, (steps + 1, 1 or 2), and its values."""
    history = _history(run)
    points = np.asarray(history.x, dtype=np.float64).reshape(len(history.x), -1)
    if points.shape[1] not in (1, 2):
        raise ValueError(f"a path can be drawn in one or two variables; this run has {points.shape[1]}")
    values = np.asarray(history.fun, dtype=np.float64)
    return points, values


def _paths(ax):
    return [line for line in getattr(ax, "lines", ()) if line.get_gid() == "path"]


def _measured(points, values):
    """Which points of a run the picture is to hold: all, but for the last ones of a run that goes up and away."""
    seen = np.isfinite(points).all(axis=1)
    if not seen[0]:
        raise ValueError("the run has no finite point at its start, so there is no path to draw")
    finite = values[np.isfinite(values)]
    if len(points) > 1 and finite.size and not (seen[-1] and finite[-1] <= finite[0]):
        with np.errstate(all="ignore"):
            away = np.linalg.norm(points - points[0], axis=1)
        # The first step of a run that diverges leads across the valley, so this is a few times the width that matters.
        outside = ~(away <= 3 * away[1])
        seen &= np.arange(len(points)) < (np.argmax(outside) if outside.any() else len(points))
    return seen


def _scene(points, values, f, ax, xlim, ylim, seen):
    """What lies under a path; with one variable also the heights of the points on the curve."""
    xlim = None if xlim is None else _limits(xlim, "xlim")
    ylim = None if ylim is None else _limits(ylim, "ylim")
    visible = points[seen]
    over_other = f is None and ax is not None and ax.has_data()
    if points.shape[1] == 1:
        if f is not None:
            f = _function(f, 1)
            xlim = xlim or _around(visible)[0]
            along = np.linspace(*xlim, CURVE)
            curve = _values(f, list(along[:, None]))
            values = np.full(len(points), np.nan)
            values[seen] = _values(f, list(visible))
        elif not np.isfinite(values[seen]).any():
            raise ValueError("the history holds no value of the function: pass f")
        ax = _axes(ax)
        if f is not None:
            ax.plot(along, curve, color=FLAT, linewidth=2, zorder=1, label="f")
        if not over_other:
            ax.set(xlabel="x", ylabel="f(x)")
        points = np.where(seen[:, None], points, np.nan)
        heights = values
    else:
        heights = None
        across, up = _around(visible)
        if f is not None:
            ax = contour(f, xlim or across, ylim or up, ax)
        else:
            ax = _axes(ax)
            if not over_other:
                ax.set(xlim=xlim or across, ylim=ylim or up, xlabel="$x_0$", ylabel="$x_1$")
        # Steps stand upright on the lines of equal value only where both axes have the same scale.
        spans = np.ptp(ax.get_xlim()), np.ptp(ax.get_ylim())
        if not over_other and max(spans) <= 2 * min(spans):
            ax.set_aspect("equal")
        # One point beyond the picture, so that the line is seen to leave it.
        keep = seen | (np.roll(seen, 1) & np.isfinite(points).all(axis=1) & (np.arange(len(points)) > 0))
        points = np.where(keep[:, None], points, np.nan)
    if xlim is not None:
        ax.set_xlim(xlim)
    if ylim is not None:
        ax.set_ylim(ylim)
    return ax, points, heights


def _around(points):
    """(lower, upper) for each coordinate, with room for the surroundings; spans of like size are made equal."""
    low, high = points.min(axis=0), points.max(axis=0)
    span = high - low
    widest = float(span.max()) or max(1.0, float(np.abs(low).max()))
    span = np.where(span > widest / 3, widest, np.where(span > 0, span, widest))
    middle = (low + high) / 2
    return [(float(m - 0.7 * s), float(m + 0.7 * s)) for m, s in zip(middle, span, strict=True)]


def _limits(value, name):
    pair = validation.real_array(value, name, ndim=1, dtype=np.float64)
    if pair.shape != (2,) or not pair[0] < pair[1]:
        raise ValueError(f"{name} must be a pair (lower, upper), lower < upper; got {validation.show_point(pair)}")
    return tuple(pair.tolist())


def _function(f, variables):
    """f as a function of a flat array of that many numbers."""
    if not isinstance(f, LinearObjective):
        return validation.callable_(f, "f")
    if int(np.prod(f.shape)) != variables:
        raise ValueError(f"f has weights of shape {f.shape}; this picture is of {variables} variable(s)")
    return lambda w: f.value(w.reshape(f.shape))


def _values(f, points):
    """f at each point; NaN where it is not finite. At least one must be."""
    with np.errstate(all="ignore"):
        values = np.array([validation.any_number(f(np.copy(p) if np.ndim(p) else p), p, -1) for p in points])
    values[~(np.abs(values) < HUGE)] = np.nan
    if np.isnan(values).all():
        raise ValueError("f has no finite value in the picture")
    return values


def _grid(f, xlim, ylim):
    """Coordinates and values on a grid."""
    x, y = np.meshgrid(np.linspace(*xlim, GRID), np.linspace(*ylim, GRID))
    return x, y, _values(f, list(np.column_stack([x.ravel(), y.ravel()]))).reshape(x.shape)


def _note(ax, text):
    """A remark in the corner that no curve of descent reaches but by rising."""
    ax.text(
        0.98, 0.97, text, transform=ax.transAxes, ha="right", va="top", fontsize="small",
        bbox={"facecolor": "white", "edgecolor": FLAT, "alpha": 0.9, "boxstyle": "round"}, zorder=5,
    )  # fmt: skip
