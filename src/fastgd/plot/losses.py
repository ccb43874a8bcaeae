"""Figures of the loss against the step: `loss` of one run, `learning_rates` of several."""

from __future__ import annotations

import typing

import numpy as np

from fastgd import validation
from fastgd.engine.result import History, Result
from fastgd.errors import DivergenceError
from fastgd.plot.shared import COLORS, axes_for, diverged, history_of, note, without_overflow

if typing.TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from fastgd.plot.shared import AxesT, Recorded

# Ratio of the largest to the smallest loss from which the axis is logarithmic; and, on a logarithmic axis, the factor
# above the first loss at which diverging runs are cut off, unless others decrease by more.
DECADES = 100.0


def loss(run: Recorded, ax: AxesT | None = None, *, label: str | None = None, color: str | None = None) -> AxesT:
    """Plot the loss of a run against the step.

    The axis is logarithmic if no loss is negative and they span two decades. Losses of exactly zero cannot be shown on
    a logarithmic axis and are mentioned in a note instead. Losses below the rounding error of the first one are cut off
    at the bottom.

    Parameters
    ----------
    run : Result, History or DivergenceError
        Of a run with history=True.
    ax : matplotlib Axes, optional
    label, color : str, optional
        Of the line; with a label the figure has a legend.

    Returns
    -------
    Axes

    Raises
    ------
    TypeError, ValueError
        `run` is none of these, or has no history or no finite loss.
    """
    values = _losses(run, "run")
    ax = axes_for(ax)
    steps = np.arange(len(values))
    scale = _scale([values])
    ax.plot(steps, _drawable(values, scale), color=color or COLORS[1], label=label, **_markers(len(values)))
    _set_axes(ax, scale)
    ax.set_ylim(bottom=_bounds([values], scale)[0])
    zeros = np.flatnonzero(values == 0)
    if scale == "log" and zeros.size:
        note(ax, f"exactly 0 from step {zeros[0]}" if np.all(values[zeros[0] :] == 0) else f"0 at step {zeros[0]}")
    ax.set_title("Loss at each step")
    if label is not None:
        ax.legend()
    return ax


def learning_rates(runs: Iterable[Recorded], labels: Sequence[str] | None = None, ax: AxesT | None = None) -> AxesT:
    """Plot the losses of several runs, including diverging ones, against the step.

    Diverging runs are marked in the legend and cut off at the top, so that the others remain visible; losses below the
    rounding error of the first one are cut off at the bottom.

    Parameters
    ----------
    runs : sequence of Result, History or DivergenceError
        Of runs with history=True. A DivergenceError is what a diverging run raised.
    labels : sequence of str, optional
        One for each run; by default the learning rates.
    ax : matplotlib Axes, optional

    Returns
    -------
    Axes

    Raises
    ------
    TypeError, ValueError
        A run has no history, there is no run, or the numbers of labels and runs differ.
    """
    if isinstance(runs, (Result, History, DivergenceError, str)) or not hasattr(runs, "__iter__"):
        raise TypeError(f"runs must be a sequence of results; got {validation.describe(runs)}")
    runs = list(runs)
    if not runs:
        raise ValueError("runs must hold at least one run")
    losses = [_losses(run, f"runs[{i}]") for i, run in enumerate(runs)]
    if labels is None:
        labels = [_rate_label(history_of(run).lr) for run in runs]
    elif isinstance(labels, str) or len(labels) != len(runs):
        raise ValueError(f"labels must be {len(runs)} strings, one for each run; got {validation.describe(labels)}")
    ax = axes_for(ax)
    scale, markers, dashes = _scale(losses), _markers(max(map(len, losses))), ("-", "--", "-.", ":")
    for i, (values, label, run) in enumerate(zip(losses, labels, runs, strict=True)):
        style = {"color": COLORS[i % len(COLORS)], "linestyle": dashes[i // len(COLORS) % len(dashes)]}
        if diverged(run):
            label = f"{label} (diverges)"
        ax.plot(_drawable(values, scale), label=label, **style, **markers)
    _set_axes(ax, scale)
    bottom, top = _bounds(losses, scale)
    ax.set_ylim(bottom=bottom, top=top)
    ax.set_title("Loss at each step")
    ax.legend()
    return ax


def _losses(run, name):
    """The losses of a run, (steps + 1,), NaN where one cannot be drawn; at least one can."""
    values = without_overflow(np.asarray(history_of(run, name).fun, dtype=np.float64))
    if np.isnan(values).all():
        raise ValueError(f"{name} has no finite loss in its history, so there is nothing to draw")
    return values


def _scale(losses):
    """The scale of the axis: "linear", "log" or "symlog"."""
    values = np.concatenate(losses)
    values = values[np.isfinite(values)]
    size = np.abs(values[values != 0])
    if not size.size:
        return "linear"
    if values.min() >= 0:
        return "log" if size.max() >= DECADES * size.min() else "linear"
    # Negative losses have no logarithm. A symlog axis is hard to read, so it is only for values of very large ratio.
    return "symlog" if size.max() > 1e4 * np.median(size) else "linear"


def _drawable(values, scale):
    """The losses, NaN where one has no place on the axis."""
    possible = np.isfinite(values) & ((values > 0) | (scale != "log"))
    return np.where(possible, values, np.nan)


def _bounds(losses, scale):
    """(lower, upper) of the axis, each None unless a few extreme values would otherwise compress all others."""
    values = np.concatenate(losses)
    values = values[np.isfinite(values)]
    start = max((v[0] for v in losses if np.isfinite(v[0])), default=values.max())
    bottom = top = None
    if scale == "log":
        positive = values[values > 0]
        start = start if start > 0 else positive.max()
        # Rounding error: a squared error of one unit in the last digit, compared with the first loss.
        floor = start * np.finfo(np.float64).eps ** 2
        bottom = floor if positive.min() < floor else None
        top = start * max(DECADES, start / max(positive.min(), floor))
    elif scale == "linear":
        top = start + 2 * max(start - values.min(), 0.1 * abs(start))
    return bottom, top if top is not None and values.max() > top else None


def _set_axes(ax, scale):
    if scale == "symlog":
        first = max(abs(line.get_ydata()[0]) for line in ax.lines)
        ax.set_yscale("symlog", linthresh=10.0 ** np.ceil(np.log10(first)) if 0 < first < np.inf else 1.0)
        ax.yaxis.get_major_locator().set_params(numticks=8)
    elif ax.get_yscale() != "symlog":
        ax.set_yscale(scale)
    ax.set_xlabel("step")
    ax.set_ylabel("loss")
    ax.xaxis.get_major_locator().set_params(integer=True)
    ax.margins(x=0.02)


def _markers(count):
    """A dot at each step if there are few of them."""
    return {"marker": "o", "markersize": 4} if count <= 30 else {}


def _rate_label(rates):
    """The default label of a run: its learning rate, or the first and the last."""
    if not len(rates):
        return "no step"
    first, last = float(rates[0]), float(rates[-1])
    return f"lr = {first:.3g}" if np.all(rates == first) else f"lr = {first:.3g} to {last:.3g}"
