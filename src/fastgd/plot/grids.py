"""Figures of many runs at once, and of many numbers: `sweep`, `path`, `gradient_check`."""

from __future__ import annotations

import typing

import numpy as np

from fastgd import validation
from fastgd.derivatives.check import GradientCheck
from fastgd.engine.result import Result
from fastgd.errors import import_extra
from fastgd.plot.shared import COLORS, axes_for, diverged, entries, fitted, history_of, legend, points_of, shown, style

if typing.TYPE_CHECKING:
    from collections.abc import Sequence

    from fastgd.plot.shared import AxesT, Runs


def sweep(
    runs: Sequence[Result],
    ax: AxesT | None = None,
    *,
    x: str | None = None,
    y: str | None = None,
    value: str | None = None,
) -> AxesT:
    """Draw what a sweep over a grid found: a heat map over two settings, or a line over one.

    Parameters
    ----------
    runs : list of Result
        From `fastgd.sweep`, with grid=True above all. Of several runs in one cell the best counts.
    ax : matplotlib Axes, optional
    x, y : str, optional
        The settings: "lr", "l2" or "optimizer"; by default the first two that differ.
    value : str, optional
        The entry of each Result that is shown; by default "validation_loss", the loss of the rows held out, or "loss",
        that without the penalty, or "fun", whichever there is first.

    Returns
    -------
    Axes
        The best cell has a star; a cell in which all runs diverged is hatched.

    Raises
    ------
    TypeError, ValueError
        The runs have no settings, or none that differ.
    """
    found = [one for *_, one in entries(runs, "runs")]
    if not all(isinstance(one, Result) and "settings" in one for one in found):
        raise TypeError("runs must be what fastgd.sweep returned: Results with settings")
    axes = {name: _ordered(one.settings[name] for one in found) for name in found[0].settings}
    differ = [name for name, places in axes.items() if len(places) > 1]
    x = validation.choice(x, "x", list(axes)) if x is not None else next(iter(differ), None)
    if x is None:
        raise ValueError("the runs must differ in a setting: all have the same")
    y = validation.choice(y, "y", list(axes)) if y is not None else next((n for n in differ if n != x), None)
    if value is None:
        value = next(name for name in ("validation_loss", "loss", "fun") if name in found[0])
    cells = np.full((len(axes[y]) if y else 1, len(axes[x])), np.nan)  # not run, and inf for what diverges
    for one in found:
        at = axes[y].index(one.settings[y]) if y else 0, axes[x].index(one.settings[x])
        worth = np.inf if diverged(one) else float(one[value])
        cells[at] = np.fmin(cells[at], worth if np.isfinite(worth) else np.inf)
    ax = axes_for(ax)
    name = value.replace("_", " ")
    names = [[shown(place) for place in axes[axis]] if axis else [""] for axis in (x, y)]
    if y is None:
        _draw_line(ax, cells[0], names[0], name)
    else:
        _draw_map(ax, cells, names, name)
        ax.set_ylabel(y)
    ax.set_xlabel(x)
    return ax


def _ordered(places):
    """The distinct settings: numbers in ascending order, the rest as they come."""
    distinct = list(dict.fromkeys(places))
    numbers = [place for place in distinct if isinstance(place, (int, float))]
    return sorted(numbers) + [place for place in distinct if not isinstance(place, (int, float))]


def _draw_line(ax, values, names, name):
    away = np.flatnonzero(np.isinf(values))
    values = np.where(np.isfinite(values), values, np.nan)
    ax.plot(values, marker="o", color=COLORS[1])
    if np.isfinite(values).any():
        best = int(np.nanargmin(values))
        ax.plot([best], [values[best]], marker="*", markersize=15, color=COLORS[0], linestyle="none", label="best")
    ax.set_xticks(range(len(names)), names)
    ax.set(ylabel=name, title=f"The {name} of each run", xlim=(-0.5, len(names) - 0.5))
    if np.nanmin(values, initial=np.inf) > 0 and np.nanmax(values, initial=0) > 100 * np.nanmin(values, initial=np.inf):
        ax.set_yscale("log")
    for missing in away:
        ax.axvspan(missing - 0.5, missing + 0.5, hatch="///", facecolor="white", edgecolor="#AAAAAA", zorder=0)
    if away.size:
        ax.fill_between([], [], hatch="///", facecolor="white", edgecolor="#AAAAAA", label="diverges")
    legend(ax)


def _draw_map(ax, cells, names, name):
    """A heat map with the value in each cell, in a colour that is read on it."""
    colors = import_extra("matplotlib.colors", "plot", "drawing")
    shown_cells = np.ma.masked_invalid(np.where(np.isfinite(cells), cells, np.nan))
    positive = shown_cells.count() and shown_cells.min() > 0 and shown_cells.max() > 10 * shown_cells.min()
    norm = colors.LogNorm() if positive else colors.Normalize()
    image = ax.pcolormesh(shown_cells, cmap="cividis_r", norm=norm, edgecolors="white", linewidth=0.5)
    for i, j in np.ndindex(cells.shape):
        if np.isfinite(cells[i, j]):
            dark = np.array(image.cmap(norm(cells[i, j]))[:3]) @ (0.2126, 0.7152, 0.0722) < 0.45
            ax.text(
                j + 0.5, i + 0.5, f"{cells[i, j]:.3g}", ha="center", va="center", color="white" if dark else "black"
            )  # fmt: skip
        elif np.isinf(cells[i, j]):
            box = {"hatch": "///", "facecolor": "white", "edgecolor": "#AAAAAA", "linewidth": 0.5}
            ax.fill_between([j, j + 1], i, i + 1, label=None if "diverges" in ax.get_legend_handles_labels()[1]
                            else "diverges", **box)  # fmt: skip
    ax.set_xticks(np.arange(len(names[0])) + 0.5, names[0])
    ax.set_yticks(np.arange(len(names[1])) + 0.5, names[1])
    ax.grid(False)
    bar = ax.figure.colorbar(image, ax=ax, label=name)
    if positive:
        ticks = import_extra("matplotlib.ticker", "plot", "drawing")
        bar.ax.yaxis.set_major_locator(ticks.LogLocator(subs=(1, 2, 5), numticks=8))
        bar.ax.yaxis.set_major_formatter(ticks.FuncFormatter(lambda tick, _: f"{tick:g}"))
        bar.minorticks_off()
    if shown_cells.count():
        i, j = np.unravel_index(np.argmin(np.where(np.isfinite(cells), cells, np.inf)), cells.shape)
        star = {"marker": "*", "markersize": 13, "color": "white", "markeredgecolor": "black", "linestyle": "none"}
        ax.plot([j + 0.5], [i + 0.82], label="best", **star)
    ax.set_title(f"The {name} of each run")
    legend(ax)


def path(runs: Runs, ax: AxesT | None = None, *, names: Sequence[str] | None = None) -> AxesT:
    """Plot the weights: of one run against the step, of several against their penalty.

    Parameters
    ----------
    runs : PenaltyPath; Result, History or DivergenceError with history=True; or several Results or estimators
        Several have different penalties: what `sweep` gave for a list of l2, or fitted estimators with different alpha.
        Of a path of `penalty_path` the coefficients are drawn, without the intercepts.
        Several runs of one weight, with histories, are drawn against the step.
    ax : matplotlib Axes, optional
    names : sequence of str, optional
        Of the weights.

    Returns
    -------
    Axes

    Raises
    ------
    TypeError, ValueError
        The runs have no history, or no penalties that differ.
    """
    if hasattr(runs, "coefs"):
        return _path_of_coefficients(runs, ax, names)
    found = entries(runs, "runs")
    penalties = [_penalty(one, of) for of, _, one in found]
    over_steps = len(found) == 1 or None in penalties
    if over_steps:
        histories = [history_of(one, of) for of, _, one in found]
        columns = list(map(points_of, histories))
        lines = []
        for history, X, (_, label, _) in zip(histories, columns, found, strict=True):
            steps = history.get("step", np.arange(len(X)))
            of = (
                [label or "weight"] if X.shape[1] == 1 else [f"{label or ''} w[{j}]".strip() for j in range(X.shape[1])]
            )
            lines += zip([steps] * len(of), X.T, of, strict=True)
    else:
        order = np.argsort(penalties)
        weights = np.array([_weights(one) for *_, one in found])[order]
        lines = [(np.array(penalties)[order], weights[:, j], f"w[{j}]") for j in range(weights.shape[1])]
    return _draw_path(lines, ax, names, None if over_steps else penalties)


def _path_of_coefficients(path, ax, names):
    """The coefficients of a PenaltyPath, of several outputs one after the other."""
    coefs, alphas = path.coefs.reshape(-1, len(path.alphas))[:, ::-1], path.alphas[::-1]
    lines = [(alphas, values, f"w[{j}]") for j, values in enumerate(coefs)]
    return _draw_path(lines, ax, names, alphas.tolist())


def _draw_path(lines, ax, names, penalties):
    """Lines (places, values, name) against the penalties; against the step where these are None."""
    over_steps = penalties is None
    if names is not None:
        lines = [(at, values, name) for (at, values, _), name in zip(lines, map(str, names), strict=True)]
    ax = axes_for(ax)
    ax.axhline(0, color="#767676", linewidth=0.8)
    drawn = [
        ax.plot(at, values, label=name, linewidth=1.6, **style(i))[0] for i, (at, values, name) in enumerate(lines)
    ]
    if not over_steps and min(penalties) >= 0:
        least = min((p for p in penalties if p > 0), default=1.0)
        ax.set_xscale("symlog", linthresh=least) if 0 in penalties else ax.set_xscale("log")
    ax.set(xlabel="step" if over_steps else "penalty", ylabel="weight", title="The weights")
    legend(ax, drawn)
    return ax


def _penalty(one, name):
    """The penalty of a run of a sweep or of an estimator; None where it has none."""
    if isinstance(one, Result):
        settings = one.get("settings", {})
        return settings.get("alpha", settings.get("l2"))
    if not hasattr(fitted(one, name), "coef_"):
        return None
    return one.alpha if one.penalty is not None else 0.0


def _weights(one):
    return np.asarray(one.x if isinstance(one, Result) else one.coef_, np.float64).reshape(-1)


def gradient_check(check: GradientCheck, ax: AxesT | None = None) -> AxesT:
    """Draw how far each component of a gradient is from the differences, as a share of what is allowed.

    Parameters
    ----------
    check : GradientCheck
        What `check_gradient` returned.
    ax : matplotlib Axes, optional

    Returns
    -------
    Axes
        Wrong components have a cross, and those that cannot be told a question mark.

    Raises
    ------
    TypeError, ValueError
        `check` is no GradientCheck, or has no component.
    """
    if not isinstance(check, GradientCheck):
        raise TypeError(f"check must be what check_gradient returned; got {validation.describe(check)}")
    if not check.gradient.size:
        raise ValueError("check has no component, so there is nothing to draw")
    shape = check.gradient.shape
    columns = shape[1] if len(shape) == 2 else min(check.gradient.size, 25)
    rows = -(-check.gradient.size // columns)

    def grid(values, fill):
        return np.append(values.ravel(), np.full(rows * columns - values.size, fill)).reshape(rows, columns)

    with np.errstate(all="ignore"):
        shares = np.log10(np.abs(check.gradient - check.numerical) / check.tolerance)
    colors = import_extra("matplotlib.colors", "plot", "drawing")
    ax = axes_for(ax)
    there = grid(np.ones(shape, bool), False)
    cells = np.ma.masked_array(grid(np.nan_to_num(shares, nan=3.0, posinf=3.0, neginf=-3.0), 0.0), ~there)
    look = {"edgecolors": "white", "linewidth": 0.5, "cmap": "cividis_r", "norm": colors.Normalize(-3, 3)}
    image = ax.pcolormesh(np.arange(columns + 1) - 0.5, np.arange(rows + 1) - 0.5, cells, **look)
    for what, mark, values in (("wrong", "X", check.wrong), ("unclear", "$?$", check.unclear)):
        i, j = np.nonzero(grid(values, False))
        if i.size:
            look = {"color": "white", "markersize": 10, "markeredgecolor": "black", "linestyle": "none"}
            ax.plot(j, i, marker=mark, label=what, **look)
    ax.invert_yaxis()
    ax.grid(False)
    bar = ax.figure.colorbar(image, ax=ax, label="error as a share of the allowed", ticks=range(-3, 4), extend="both")
    bar.ax.set_yticks(range(-3, 4), ["0.001", "0.01", "0.1", "1", "10", "100", "1000"])
    locator = import_extra("matplotlib.ticker", "plot", "drawing").MaxNLocator
    ax.xaxis.set_major_locator(locator(10, integer=True))
    ax.yaxis.set_major_locator(locator(10, integer=True))
    if rows == 1:
        ax.set_yticks([])
    title = "The gradient agrees with the differences" if check.ok else f"The fault is that of the {check.fault}"
    ax.set(xlabel="column" if len(shape) == 2 else "coordinate", title=title)
    ax.set_ylabel("row" if rows > 1 else "")
    legend(ax)
    return ax
