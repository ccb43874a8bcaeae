"""What all figures share: what an argument stands for, Axes, colours, legends, and values over a plane."""

from __future__ import annotations

import typing
import warnings
from collections.abc import Iterator, Mapping

import numpy as np

from fastgd import validation
from fastgd.engine.result import History, Result, Status
from fastgd.errors import DivergenceError, import_extra
from fastgd.objective import LinearObjective

if typing.TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from matplotlib.animation import FuncAnimation
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from mpl_toolkits.mplot3d import Axes3D
    from numpy.typing import ArrayLike
    from typing_extensions import TypeVar

    class NewAxes(Axes):
        """Axes of a new Figure, whose `figure` is no SubFigure and has `savefig`."""

        @property
        def figure(self) -> Figure: ...

    class NewAxes3D(Axes3D):
        @property
        def figure(self) -> Figure: ...

    class AnimatedAxes(NewAxes):
        animation: FuncAnimation

    AxesT = TypeVar("AxesT", bound=Axes, default=NewAxes)
    Axes3DT = TypeVar("Axes3DT", bound=Axes3D, default=NewAxes3D)
    Estimator = typing.Any  # of this package, fitted: it has history_ and coef_
    Recorded = Result | History | DivergenceError | Estimator
    Runs = Recorded | Iterable[Recorded] | Mapping[typing.Any, Recorded]
    Limits = tuple[float, float] | Sequence[float]
    Labels = Sequence[str] | str | None
    Model = LinearObjective | Estimator
    Weights = ArrayLike | Result

# Colours with a contrast of at least 3 with white and with the darkest GROUND, which leaves little room for different
# brightness; no two are nearer than 17 in CIELAB to a reader with any colour vision. Dashes and marks, too, tell lines
# apart.
COLORS = ("#C04A00", "#0072B2", "#AA3377", "#004D40", "#4B0092", "#7F0000", "#000000")
MARKERS = "os^Dv*P"
GREY = "#767676"
GROUND = ("#FFFFFF", "#B5D1E8")  # low and high values of a function, under paths
# Points at which the curve of a function of one variable is drawn: about one for each pixel of its width.
CURVE_POINTS = 401


# ------------------------------------------------------------------------------------------------ what is to be drawn


class Run(typing.NamedTuple):
    """A run of those that are to be drawn together."""

    label: str | None
    history: History
    diverged: bool
    source: typing.Any


def entries(source, name, labels=None):
    """What is in an argument, [(name of the entry, label, entry)]."""
    if labels is not None and not isinstance(labels, str):
        labels = list(map(str, labels))
    if isinstance(source, Result) and source.get("runs") is not None:
        source = {f"start {i}": run for i, run in enumerate(source.runs)}
    single = isinstance(source, (Result, History, str)) or not isinstance(source, (Mapping, list, tuple, Iterator))
    if single:
        return [(name, labels if isinstance(labels, str) or not labels else labels[0], source)]
    if isinstance(source, Mapping):
        found, labels = list(source.values()), labels or list(map(str, source))
        names = [f"{name}[{key!r}]" for key in source]
    else:
        found = list(source)
        names = [f"{name}[{i}]" for i in range(len(found))]
        labels = labels or _settings(found)
    if not found:
        raise ValueError(f"{name} must hold at least one run")
    if isinstance(labels, str) or len(labels) != len(found):
        raise ValueError(f"labels must be {len(found)} strings, one for each run; got {validation.describe(labels)}")
    return list(zip(names, labels, found, strict=True))


def runs_of(source, name="run", labels=None):
    """The runs that an argument stands for: a Result, a History, a DivergenceError, an estimator, or several of them.

    Several are a list, a dict whose keys are the labels, what `sweep` gave, or the result of `multi_start`.
    """
    return [
        Run(label, history_of(entry, of), diverged(entry), entry) for of, label, entry in entries(source, name, labels)
    ]


def _settings(found):
    """Labels from what distinguishes runs: their settings in a sweep, else their rates, else their numbers."""
    settings = [run.get("settings", {}) if isinstance(run, Result) else {} for run in found]
    differ = [key for key in settings[0] if len({str(s.get(key)) for s in settings}) > 1] if found else []
    if differ:
        return [", ".join(f"{key} = {shown(s.get(key))}" for key in differ) for s in settings]
    rates = [_rates(run) for run in found]
    return rates if all(rates) and len(set(rates)) == len(rates) else [f"run {i}" for i in range(len(found))]


def shown(value):
    """A setting of a run as a label has it."""
    if isinstance(value, (int, float)):
        return f"{value:.3g}"
    return value if isinstance(value, str) else getattr(value, "__qualname__", repr(value)).partition(".")[0]


def _rates(run):
    """The learning rate of a run, or the first and the last; empty where it has none."""
    run = run.result if isinstance(run, DivergenceError) else run
    rates = getattr(getattr(run, "history", run), "lr", ())
    if rates is None or not len(rates):
        return ""
    first, last = float(rates[0]), float(rates[-1])
    return f"lr = {first:.3g}" if np.all(rates == first) else f"lr = {first:.3g} to {last:.3g}"


def history_of(run, name="run"):
    """The History of a run, given as its Result, History, DivergenceError or estimator."""
    if isinstance(run, DivergenceError):
        if run.result is None:
            raise ValueError(f"{name} is a DivergenceError without a result, so there is no path to draw")
        run = run.result
    if isinstance(run, Result):
        if run.get("history") is None:
            raise ValueError(f"{name} has no history: run with history=True")
        run = run.history
    run = getattr(fitted(run, name), "history_", run)
    if not isinstance(run, History):
        raise TypeError(
            f"{name} must be a Result, a History, a DivergenceError or a fitted estimator, or several of them in a "
            f"list or a dict; got {validation.describe(run)}"
        )
    return run


def points_of(history):
    """The points of a History as vectors, (rows, d)."""
    if "x" not in history:
        raise ValueError("the history holds no points: run gradient_descent with history=True (a fit keeps none)")
    parts = history.x.values() if isinstance(history.x, Mapping) else [history.x]  # with names: a dict of arrays
    return np.column_stack([np.asarray(part, np.float64).reshape(len(part), -1) for part in parts])


def fitted(model, name):
    """An estimator that has been fitted, or what is no estimator."""
    if hasattr(model, "fit") and not hasattr(model, "classes_") and not hasattr(model, "n_features_in_"):
        raise ValueError(f"{name} is not fitted: call its fit first")
    return model


def diverged(run):
    return isinstance(run, DivergenceError) or (isinstance(run, Result) and run.get("status") == Status.DIVERGED)


def limits(value, name):
    """(lower, upper) of an axis."""
    pair = validation.real_array(value, name, ndim=1, dtype=np.float64)
    if pair.shape != (2,) or not pair[0] < pair[1]:
        raise ValueError(f"{name} must be a pair (lower, upper), lower < upper; got {validation.show_point(pair)}")
    return tuple(pair.tolist())


# ------------------------------------------------------------------------------------------- the values of a function


def function_of(f, variables):
    """f as a function of a flat array of that many numbers."""
    if not isinstance(f, LinearObjective):
        return validation.callable_(f, "f")
    if int(np.prod(f.shape)) != variables:
        raise ValueError(f"f has weights of shape {f.shape}; this picture is of {variables} variable(s)")
    return lambda w: f.value(w.reshape(f.shape))


def without_overflow(values):
    """Values that can be drawn: NaN for what is not finite, and above 1e200, where matplotlib's squares overflow."""
    return np.where(np.abs(values) < 1e200, values, np.nan)


def values_at(f, points):
    """f at each point, NaN where it cannot be drawn; at least one must be drawable."""
    with np.errstate(all="ignore"):
        values = np.array([validation.any_number(f(np.copy(p) if np.ndim(p) else p), p, -1) for p in points])
    values = without_overflow(values)
    if len(values) and np.isnan(values).all():
        raise ValueError("f has no finite value in the picture")
    return values


def plane(f, xlim, ylim, points=81, finer=6):
    """Coordinates, each 1-D, and values of f on a grid over a rectangle, interpolated between the points of the grid.

    Between points that lie on both sides of a narrow valley, straight lines miss its floor: contour lines would break
    up into beads. Cubic splines find it. They are taken where they predict every other point of the grid better than
    straight lines do, that is, unless f has kinks or jumps.
    """
    from scipy.interpolate import RectBivariateSpline

    x, y = np.linspace(*xlim, points), np.linspace(*ylim, points)
    values = values_at(f, [np.array([a, b]) for b in y for a in x]).reshape(points, points)
    if not np.isfinite(values).all():
        return x, y, values
    between = np.s_[1::2, 1::2]
    errors = [
        np.abs(RectBivariateSpline(y[::2], x[::2], values[::2, ::2], kx=k, ky=k)(y[1::2], x[1::2]) - values[between])
        for k in (1, 3)
    ]
    if not np.quantile(errors[1], 0.99) < 0.5 * np.quantile(errors[0], 0.99):
        return x, y, values
    fine = [np.linspace(*limit, finer * (points - 1) + 1) for limit in (xlim, ylim)]
    smooth = RectBivariateSpline(y, x, values)(fine[1], fine[0])
    return *fine, smooth


def round_levels(values, shares):
    """Quantiles of the values, rounded to numbers that are short to read, in ascending order.

    The lowest values may be below the lowest level by a tenth of the distance to the next.
    """
    quantiles = np.unique(np.nanquantile(values, shares))
    if quantiles.size < 2 or not np.ptp(quantiles) > 1e-12 * np.max(np.abs(quantiles)):  # constant: one band around it
        return np.array([quantiles[0] - 0.5, quantiles[0] + 0.5])
    gaps = np.diff(quantiles)
    steps = np.minimum(np.append(gaps, gaps[-1]), np.append(gaps[0], gaps))
    steps = np.maximum(steps, 1e-9 * np.ptp(quantiles))
    tens = 10.0 ** np.floor(np.log10(steps))
    steps = tens * np.select([steps >= 5 * tens, steps >= 2 * tens], [5, 2], 1)
    levels = np.round(quantiles / steps) * steps
    lowest = np.floor(quantiles[0] / steps[0] + 0.1)  # not a step below 0 because of an error of interpolation
    levels[0], levels[-1] = lowest * steps[0], np.ceil(quantiles[-1] / steps[-1]) * steps[-1]
    return np.unique(levels)


# -------------------------------------------------------------------------------------------------- Axes and their look


def axes_for(ax, projection=None):
    """The given Axes, checked, or those of a new Figure.

    A Figure without a layout engine gets matplotlib's constrained layout, which makes room for what stands beside the
    Axes: legends and colour bars.
    """
    Axes = import_extra("matplotlib.axes", "plot", "drawing").Axes
    if ax is not None:
        if not isinstance(ax, Axes):
            raise TypeError(f"ax must be a matplotlib Axes; got {validation.describe(ax)}")
        if (ax.name == "3d") != (projection == "3d"):
            needed = 'a 3-D one: figure.add_subplot(projection="3d")' if projection else "a flat one"
            raise ValueError(f"ax must be {needed}; got {type(ax).__name__}")
        if (figure := ax.figure.figure).get_layout_engine() is None:
            figure.set_layout_engine("constrained")
        return ax
    ax = new_figure().add_subplot(projection=projection)
    if projection is None:
        ax.spines[["top", "right"]].set_visible(False)
        ax.grid(color="#DDDDDD", linewidth=0.6)
        ax.set_axisbelow(True)
    return ax


def new_figure(panels=1):
    """A Figure of pyplot, so that notebooks and `plt.show()` show it."""
    pyplot = import_extra("matplotlib.pyplot", "plot", "drawing")
    columns = min(panels, 3)
    size = (6.4, 4.6) if panels == 1 else (4.2 * columns, 4.0 * -(-panels // columns))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "More than", RuntimeWarning)  # many open figures
        return pyplot.figure(figsize=size, layout="compressed")


def panels_for(ax, count, name):
    """So many Axes: those given as `ax`, or those of a new Figure."""
    if ax is not None:
        given = list(np.ravel(ax))
        if len(given) != count:
            raise ValueError(f"ax must be {count} Axes, one for each {name}; got {len(given)}")
        return [axes_for(each) for each in given]
    columns = min(count, 3)
    return list(new_figure(count).subplots(-(-count // columns), columns, squeeze=False).flat)[:count]


def ground():
    """The colours of values under paths, from low to high."""
    colors = import_extra("matplotlib.colors", "plot", "drawing")
    return colors.LinearSegmentedColormap.from_list("ground", GROUND)


def style(i):
    """Colour and dashes of line i: 28 of them differ."""
    dashes = ("-", (0, (5, 2)), (0, (1, 1.2)), (0, (6, 1.5, 1, 1.5)))
    return {"color": COLORS[i % len(COLORS)], "linestyle": dashes[i % len(dashes)]}


def legend(ax, at_lines=()):
    """Say what the lines are, where it covers no data: under the Axes, or at the ends of many lines.

    `ax` is Axes, or a list of them that have one legend, under the figure.
    """
    if len(at_lines) >= 6:  # nobody would search so long a legend
        return _label_ends(ax, at_lines)
    panels = ax if isinstance(ax, list) else [ax]
    found = {name: handle for panel in panels for handle, name in zip(*panel.get_legend_handles_labels(), strict=True)}
    if not found:
        return None
    last = ("start", "end", "minimum", "best", "diverges")
    found = dict(sorted(found.items(), key=lambda entry: last.index(entry[0]) if entry[0] in last else -1))
    figure, look = panels[0].figure, {"frameon": False, "borderaxespad": 0, "borderpad": 0, "columnspacing": 1.2}
    place = None if isinstance(ax, list) else ax.get_subplotspec()
    wide = 0.85 * figure.bbox.width / figure.figure.dpi / (1 if place is None else place.get_gridspec().ncols)
    lengths = [0.075 * len(name) + 0.5 for name in found]  # about as long as they are, in inches
    columns = len(found) if sum(lengths) < wide else max(1, int(wide / max(lengths)))
    if isinstance(ax, list):
        return figure.legend(found.values(), found, loc="outside lower center", ncols=columns, **look)
    transforms = import_extra("matplotlib.transforms", "plot", "drawing")
    below = ax.transAxes + transforms.ScaledTranslation(0, 0.1 if ax.name == "3d" else -0.55, figure.dpi_scale_trans)
    look |= {"bbox_to_anchor": (0.5, 0), "bbox_transform": below}
    return ax.legend(found.values(), found, loc="upper center", ncols=columns, **look)


def _label_ends(ax, lines):
    """A label for each line to the right of the Axes, at the height of its end, joined to it where moved aside."""
    low, high = ax.get_ylim()
    seen = [(line, *line.get_data()) for line in lines]
    seen = [(line, x[k], y[k]) for line, x, y in seen for k in np.flatnonzero((y >= low) & (y <= high))[-1:]]
    lines, ends = [line for line, *_ in seen], [end for _, *end in seen]
    heights = ax.transAxes.inverted().transform(ax.transData.transform(ends))[:, 1].clip(0, 1)
    size = min(9.0, 72 * ax.get_window_extent().height / ax.figure.dpi / (1.15 * min(30, len(lines))))
    least = 1.15 * size / 72 * ax.figure.dpi / ax.get_window_extent().height
    order = np.argsort(heights, kind="stable")
    order = order[np.unique(np.linspace(0, len(order) - 1, 30).round().astype(int))]  # more could not be read
    # Where labels would touch they are moved apart, half of them upwards and half downwards.
    apart = least * np.arange(len(order))
    places = heights[order] - apart
    places = (np.maximum.accumulate(places) + np.minimum.accumulate(places[::-1])[::-1]) / 2
    places = places.clip(0, max(0.0, 1 - apart[-1])) + apart
    for k, place in zip(order.tolist(), places, strict=True):
        ax.annotate(
            lines[k].get_label(), (ends[k][0], ends[k][1]), (1.04, place), xycoords="data", textcoords="axes fraction",
            color=lines[k].get_color(), fontsize=size, va="center", annotation_clip=False,
            arrowprops={"arrowstyle": "-", "color": lines[k].get_color(), "linewidth": 0.5, "shrinkA": 1, "shrinkB": 0,
                        "relpos": (0, 0.5)},
        )  # fmt: skip
