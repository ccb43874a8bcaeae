"""Figures of the iterates of runs: `trajectory` and `trajectories` as stills, `animate` as an animation."""

from __future__ import annotations

import shutil
import tempfile
import typing
from pathlib import Path as File

import numpy as np

from fastgd import validation
from fastgd.derivatives.gradient import numerical_gradient
from fastgd.engine.result import Result
from fastgd.errors import import_extra
from fastgd.files import whole
from fastgd.plot.functions import contour, number_minima, on_the_surface, surface
from fastgd.plot.scene import of_vectors, paths_of, view
from fastgd.plot.shared import COLORS, CURVE_POINTS, GREY, MARKERS, axes_for, function_of, legend, style, values_at

if typing.TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from matplotlib.axes import Axes

    from fastgd.objective import LinearObjective
    from fastgd.plot.shared import AnimatedAxes, AxesT, Labels, Limits, Recorded, Runs
    from fastgd.types import Path, ScalarFunction


def trajectory(
    run: Runs,
    f: ScalarFunction | LinearObjective | None = None,
    ax: AxesT | None = None,
    *,
    xlim: Limits | None = None,
    ylim: Limits | None = None,
    label: Labels = None,
    color: str | None = None,
    within: Iterable[Recorded] | None = None,
) -> AxesT:
    """Draw the iterates of a run, or of several: over contour lines with two variables, on the curve of f with one.

    Arrows show the direction. A square is the start, a star the end; where a run ends far from the minimum of f, that
    is marked too.

    Parameters
    ----------
    run : Result, History or DivergenceError, or several of them
        Of runs with history=True, in one or two variables. Several are a list, a dict whose keys are the labels, or the
        result of `multi_start`, whose minima are then numbered, and runs to the same minimum have one colour.
    f : callable or LinearObjective, optional
        The function that was minimised. Without it only the paths are drawn, for example on a figure with contours.
    ax : matplotlib Axes, optional
        A three-dimensional one gets the `surface` of f.
    xlim, ylim : pair of float, optional
        (lower, upper) of the axes; by default all iterates fit in, except the last ones of a diverging run, and the
        minimum.
    label : str, or a sequence of str for several runs, optional
    color : str, optional
        Of the paths; by default several paths on one Axes differ in colour.
    within : sequence of runs, optional
        The limits are such that all of these are seen: figures with the same ones can be compared.

    Returns
    -------
    Axes

    Raises
    ------
    TypeError, ValueError
        A run has no history or more than two variables, or f is not a function of as many.
    """
    if getattr(ax, "name", "") == "3d" and f is not None:
        return surface(f, xlim, ylim, ax, run=run)
    paths_before = sum(line.get_gid() == "path" for line in getattr(ax, "lines", ()))
    over_other = _is_over_other(f, ax)
    paths = paths_of(run, label)
    f = of_vectors(f, paths)
    ax, least = _scene(paths, f, ax, xlim, ylim, paths if within is None else paths_of(list(within)))
    minima = run.get("minima") if isinstance(run, Result) else None
    where = {} if minima is None else {number: i for i, minimum in enumerate(minima) for number in minimum.runs}
    for i, path in enumerate(paths):
        which = where.get(i, i) if minima is None else where.get(i, len(minima))
        name = _path_label(path, len(paths) + paths_before) if minima is None else None
        _draw_path(ax, path, f, paths_before + which, color, name, ends=not paths_before and not i)
    if minima is not None and paths[0].points.shape[1] == 2:
        number_minima(ax, minima)
    elif least is not None and not any(_near(ax, path.points[-1], least) for path in paths):
        mark = {"marker": "D", "markersize": 8, "markerfacecolor": "none", "markeredgecolor": "black", "mew": 1.5}
        height = [least[1]] if least.size > 1 else values_at(function_of(f, 1), [least])
        ax.plot(least[:1], height, linestyle="none", label="minimum", gid="minimum", zorder=4, **mark)
    if not over_other:
        ax.set_title("The path of the descent" if len(paths) == 1 else "The paths of the descents")
    legend(ax)
    return ax


def trajectories(
    runs: Runs,
    f: ScalarFunction | LinearObjective | None = None,
    ax: AxesT | None = None,
    *,
    labels: Sequence[str] | None = None,
    xlim: Limits | None = None,
    ylim: Limits | None = None,
) -> AxesT:
    """Draw the paths of all runs of a race on one figure.

    Parameters, returns and errors are those of `trajectory`; `labels` has one string for each run.
    """
    return trajectory(runs, f, ax, xlim=xlim, ylim=ylim, label=labels)


def animate(
    run: Runs,
    f: ScalarFunction | LinearObjective,
    ax: Axes | None = None,
    *,
    xlim: Limits | None = None,
    ylim: Limits | None = None,
    surface: bool = False,
    tangents: bool = False,
    interval: float = 80,
    max_frames: int = 120,
    path: Path | None = None,
) -> AnimatedAxes:
    """Animate the iterates of one run or of several over the contour lines, the surface or the curve of f.

    Parameters
    ----------
    run, f, ax, xlim, ylim
        As for `trajectory`; f is required.
    surface : bool
        Of two variables: over the surface; so, too, if `ax` is three-dimensional.
    tangents : bool
        Of one variable: the tangent moves along.
    interval : float
        Milliseconds between frames.
    max_frames : int
        Longer runs show this many of their iterates, evenly spaced, including both ends.
    path : path, optional
        A file to write: .gif, .mp4 (extra "video", unless the program ffmpeg is installed) or .html, with controls.

    Returns
    -------
    Axes
        `ax.animation` is the matplotlib animation: `ax.animation.save("descent.gif", writer="pillow")`, or
        `ax.animation.to_jshtml()`, which is what a notebook shows. It exists as long as `ax` does.

    Raises
    ------
    TypeError, ValueError
        As for `trajectory`; or `path` has another ending.
    """
    if f is None:
        raise TypeError("f is needed: the picture moves over its curve or its lines of equal value")
    interval = validation.scalar(interval, "interval", positive=True)
    max_frames = validation.count(max_frames, "max_frames", minimum=2)
    if path is not None:
        validation.choice(File(path).suffix.lower(), "the ending of path", (".gif", ".mp4", ".html"))
        path = File(path)
        whole.check_writable(path)
    paths, new = paths_of(run), ax is None
    solid, few = validation.boolean(surface, "surface") or getattr(ax, "name", "") == "3d", len(paths) == 1
    f, variables = of_vectors(f, paths), paths[0].points.shape[1]
    if variables != (2 if solid else 1) and (solid or validation.boolean(tangents, "tangents")):
        what = "surface=True is for runs of two variables" if solid else "tangents=True is for runs of one variable"
        raise ValueError(f"{what}; these have {variables}")
    ax, tracks = _tracks(paths, f, ax, xlim, ylim, solid)
    artists = [_trail_and_head(ax, i, None if few else one.label, solid) for i, one in enumerate(paths)]
    (slope,) = ax.plot([], [], color=COLORS[1], linestyle="--") if tangents and not solid else (None,)
    title = ax.set_title("step 0")  # not empty, so that the layout reserves room for it
    if not few:
        legend(ax)

    def draw(step):
        for (trail, head), (coordinates, ends) in zip(artists, tracks, strict=True):
            end = ends[min(step, len(ends) - 1)]
            for line, part in ((trail, slice(0, end + 1)), (head, slice(end, end + 1))):
                shown = [coordinate[part] for coordinate in coordinates]
                line.set_data_3d(*shown) if solid else line.set_data(*shown)
        last = min(step, len(paths[0].points) - 1)
        if slope is not None:
            _move_tangent(slope, f, ax, paths[0].points[last])
        value = paths[0].values[last]
        title.set_text(f"step {step}" + (f", value {value:.4g}" if few and np.isfinite(value) else ""))
        return [artist for pair in artists for artist in pair]

    shown = max(int(np.flatnonzero(one.seen)[-1]) for one in paths) + 1
    frames = np.unique(np.linspace(0, shown - 1, min(shown, max_frames)).round().astype(int)).tolist()
    ax.animation = _animation(ax.figure.figure, draw, frames, interval)
    draw(frames[-1])  # for a still picture
    if path is not None:
        _save(ax.animation, path)
    if new and "inline" in import_extra("matplotlib", "plot", "drawing").get_backend():
        ax._repr_html_ = ax.animation.to_jshtml  # the notebook shows this one, and not the still
        import_extra("matplotlib.pyplot", "plot", "drawing").close(ax.figure)
    return ax


def _trail_and_head(ax, number, label, solid):
    """The lines that an animation moves: the path so far, and its last point."""
    look, empty = {"color": COLORS[number % len(COLORS)], "zorder": 5}, [[]] * (2 + solid)
    look["marker"] = MARKERS[number % len(MARKERS)]
    (trail,) = ax.plot(*empty, linewidth=1.6, markersize=3, gid="path", label=label, **look)
    (head,) = ax.plot(*empty, markersize=9, markeredgecolor="black", **look)
    return trail, head


def _animation(figure, draw, frames, interval):
    class Animation(import_extra("matplotlib.animation", "plot", "drawing").FuncAnimation):
        def __del__(self):
            pass  # matplotlib warns when an animation is deleted unsaved; this one lives as long as its Axes

    return Animation(figure, draw, frames=frames, init_func=lambda: draw(frames[0]), interval=interval)


def _save(animation, path):
    """Write an animation in the format of the file's ending."""
    if path.suffix.lower() == ".html":
        whole.write_whole(path, animation.to_jshtml().encode())
        return
    options = {"writer": "pillow"}
    if path.suffix.lower() == ".mp4":
        options = {"writer": "ffmpeg", "dpi": 120}
        ffmpeg = shutil.which("ffmpeg") or import_extra("imageio_ffmpeg", "video", "an MP4").get_ffmpeg_exe()
    else:
        ffmpeg = ""
    matplotlib = import_extra("matplotlib", "plot", "drawing")
    with tempfile.TemporaryDirectory() as folder, matplotlib.rc_context({"animation.ffmpeg_path": ffmpeg}):
        file = File(folder, path.name)
        animation.save(file, **options)
        whole.write_whole(path, file.read_bytes())


def _tracks(paths, f, ax, xlim, ylim, solid):
    """The Axes with f on it; for each path its coordinates there, and which of these belongs to each step."""
    if not solid:
        ax, _ = _scene(paths, f, ax, xlim, ylim, paths)
        return ax, [(_coordinates(path, f), np.arange(len(path.points))) for path in paths]
    xlim, ylim, _ = view(paths, f, xlim, ylim)
    ax = surface(f, xlim, ylim, ax, run=[path.source for path in paths])  # at an angle from which they are seen
    for line in list(ax.lines):
        line.remove()
    high, flat, tracks = ax.get_zlim()[1], function_of(f, 2), []
    for path in paths:
        parts = [on_the_surface(path.shown[:1], flat, xlim, ylim, high)]
        parts += [on_the_surface(path.shown[i : i + 2], flat, xlim, ylim, high) for i in range(len(path.shown) - 1)]
        parts = [parts[0], *([coordinate[1:] for coordinate in part] for part in parts[1:])]
        ends = np.cumsum([len(part[0]) for part in parts]) - 1
        tracks.append(([np.concatenate(c) for c in zip(*parts, strict=True)], ends))
    return ax, tracks


def _move_tangent(line, f, ax, point):
    """Put the tangent of a function of one variable at a point."""
    flat = function_of(f, 1)
    slope = numerical_gradient(flat, point)[0]
    along = np.linspace(*ax.get_xlim(), 200)
    heights = flat(point.copy()) + slope * (along - point[0])
    low, high = ax.get_ylim()
    line.set_data(along, np.where((heights >= low) & (heights <= high), heights, np.nan))


# ------------------------------------------------------------------------------------------------------- a path's look


def _path_label(path, count):
    words = path.label or ("path" if count == 1 else None)
    remark = "diverges" if path.diverged else ""
    if path.leaves is not None:
        remark = f"leaves the picture after step {path.leaves}"
    return f"{words or 'path'} ({remark})" if remark else words


def _draw_path(ax, path, f, number, color, name, ends):
    """The line of a path, arrows along it, and marks at its ends."""
    across, up = _coordinates(path, f)
    look = style(number) | ({} if color is None else {"color": color})
    color, few = look["color"], len(across) <= 60
    edges = {"markeredgecolor": "white" if few else color, "markeredgewidth": 0.5}
    dots = {"marker": MARKERS[number % len(MARKERS)], "markersize": 4.5 if few else 2.5}
    ax.plot(across, up, label=name, gid="path", zorder=3, linewidth=1.6, color=color, **dots, **edges)
    _arrows(ax, across, up, color)
    mark = {"linestyle": "none", "markeredgecolor": "black", "color": color, "zorder": 4}
    ax.plot(across[:1], up[:1], marker="s", markersize=8, label="start" if ends else None, **mark)
    if path.leaves is None and not path.diverged:
        ax.plot(across[-1:], up[-1:], marker="*", markersize=14, label="end" if ends else None, **mark)


def _arrows(ax, across, up, color):
    """Arrow heads along a path, at equal distances in the picture."""
    spans = np.ptp(ax.get_xlim()) or 1.0, np.ptp(ax.get_ylim()) or 1.0
    lengths = np.nan_to_num(np.hypot(np.diff(across) / spans[0], np.diff(up) / spans[1]))
    way = np.concatenate([[0.0], np.cumsum(np.minimum(lengths, 1.0))])
    if way[-1] < 0.1:
        return
    for share in np.arange(1, 4) / 4 if len(across) > 4 else np.arange(1, len(across)) / len(across):
        k = int(np.searchsorted(way, share * way[-1])) - 1
        middle = [(part[k] + part[k + 1]) / 2 for part in (across, up)]
        step = [part[k + 1] - part[k] for part in (across, up)]
        size = 0.02 / max(lengths[k], 1e-9)  # of a step, as long as a head: shorter ones would be drawn askew
        tail = [m - size * s for m, s in zip(middle, step, strict=True)]
        head = {"arrowstyle": "-|>", "color": color, "mutation_scale": 13, "shrinkA": 0, "shrinkB": 0}
        ax.annotate("", middle, tail, arrowprops=head, zorder=3.5, annotation_clip=True)


def _near(ax, point, other):
    """Whether two points are one to the eye."""
    spans = [np.ptp(limit) for limit in (ax.get_xlim(), ax.get_ylim())][: len(point)]
    return bool(np.all(np.abs(point - other) < 0.02 * np.array(spans)))


# --------------------------------------------------------------------------------------------------------- the ground


def _is_over_other(f, ax):
    """Whether the path goes onto Axes with a figure that sets their limits and labels."""
    return f is None and ax is not None and ax.has_data()


def _coordinates(path, f):
    """Where the iterates are drawn: in the plane, or at their value on the curve."""
    if path.points.shape[1] == 2:
        return path.shown.T
    heights = path.values
    if f is not None:
        heights = np.full(len(path.points), np.nan)
        heights[path.seen] = values_at(function_of(f, 1), list(path.points[path.seen]))
    return np.where(path.seen, path.points[:, 0], np.nan), heights


def _scene(paths, f, ax, xlim, ylim, within):
    """The Axes with the contours or the curve of f, and where the minimum is, if it is known and seen."""
    over_other, variables = _is_over_other(f, ax), paths[0].points.shape[1]
    if variables == 1 and f is None and not all(np.isfinite(path.values[path.seen]).any() for path in paths):
        raise ValueError("the history holds no value of the function: pass f")
    if f is not None:
        function_of(f, variables)
    given = xlim, ylim
    xlim, ylim, least = view(within, f, xlim, ylim)
    ax = contour(f, xlim, ylim, ax) if variables == 2 and f is not None else axes_for(ax)
    if variables == 1 and f is not None:
        along = np.linspace(*xlim, CURVE_POINTS)
        curve = values_at(function_of(f, 1), list(along[:, None]))
        ax.plot(along, curve, color=GREY, linewidth=2, zorder=1, label="f")
    if not over_other:
        names = ("x", "f(x)") if variables == 1 else ("$x_0$", "$x_1$")
        ax.set(xlabel=names[0], ylabel=names[1])
    if given[0] is not None or (not over_other and (variables == 2 or f is not None)):
        ax.set_xlim(xlim)
    if given[1] is not None or (not over_other and variables == 2):
        ax.set_ylim(ylim)
    # Gradients are perpendicular to the contours only if both axes have the same scale.
    spans = np.ptp(ax.get_xlim()), np.ptp(ax.get_ylim())
    if variables == 2 and not over_other and max(spans) <= 2 * min(spans):
        ax.set_aspect("equal")
    return ax, least
