"""What all figures share: Axes, colours, and the checks of runs, functions and limits."""

from __future__ import annotations

import typing

import numpy as np

from fastgd import validation
from fastgd.engine.result import History, Result, Status
from fastgd.errors import DivergenceError, import_extra
from fastgd.objective import LinearObjective

if typing.TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.animation import FuncAnimation
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from mpl_toolkits.mplot3d import Axes3D
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
    Recorded = Result | History | DivergenceError
    Limits = tuple[float, float] | Sequence[float]

# Colours that readers with any colour vision can tell apart (Okabe and Ito, "Color universal design", 2008), in the
# order of their contrast with white; grey for reference lines and frames.
COLORS = ("#D55E00", "#0072B2", "#009E73", "#CC79A7", "#E69F00", "#000000", "#56B4E9")
GREY = "#999999"
# Points at which the curve of a function of one variable is drawn: about one for each pixel of its width.
CURVE_POINTS = 401


def axes_for(ax, projection=None):
    """The given Axes, checked, or those of a new Figure."""
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


def history_of(run, name="run"):
    """The History of a run, given as its Result, History or DivergenceError."""
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


def diverged(run):
    return isinstance(run, DivergenceError) or (isinstance(run, Result) and run.get("status") == Status.DIVERGED)


def limits(value, name):
    """(lower, upper) of an axis."""
    pair = validation.real_array(value, name, ndim=1, dtype=np.float64)
    if pair.shape != (2,) or not pair[0] < pair[1]:
        raise ValueError(f"{name} must be a pair (lower, upper), lower < upper; got {validation.show_point(pair)}")
    return tuple(pair.tolist())


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
    if np.isnan(values).all():
        raise ValueError("f has no finite value in the picture")
    return values


def note(ax, text):
    """A remark in the upper right corner, where the curve of a decreasing loss does not go."""
    ax.text(
        0.98, 0.97, text, transform=ax.transAxes, ha="right", va="top", fontsize="small",
        bbox={"facecolor": "white", "edgecolor": GREY, "alpha": 0.9, "boxstyle": "round"}, zorder=5,
    )  # fmt: skip
