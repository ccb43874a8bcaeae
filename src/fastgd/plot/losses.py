"""Figures of what happens at each step: `loss` of one run or of several, `learning_rates`, `schedules`."""

from __future__ import annotations

import typing
from collections.abc import Mapping

import numpy as np

from fastgd import validation
from fastgd.plot.paths import trajectory
from fastgd.plot.shared import axes_for, entries, legend, panels_for, runs_of, shown, style, without_overflow

if typing.TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from fastgd.objective import LinearObjective
    from fastgd.plot.shared import AxesT, Labels, Runs
    from fastgd.types import ScalarFunction

# Ratio of the largest to the smallest loss from which the axis is logarithmic; and, on a logarithmic axis, the factor
# above the first loss at which diverging runs are cut off, unless others decrease by more.
DECADES = 100.0


def loss(
    run: Runs, ax: AxesT | None = None, *, label: Labels = None, color: str | None = None, minimum: float = 0.0
) -> AxesT:
    """Plot the losses of one run or of several against the step.

    The axis is logarithmic if no loss is negative and they span two decades. Losses of exactly zero cannot be shown on
    a logarithmic axis and are mentioned with the label. Diverging runs are cut off at the top, and losses below the
    rounding error of the first one at the bottom. From six runs on their labels stand at the lines.

    Parameters
    ----------
    run : Result, History, DivergenceError or estimator, or several of them
        Runs with history=True. Several are a list, a dict whose keys are the labels, what `sweep` gave or the result of
        `multi_start`.
    ax : matplotlib Axes, optional
    label : str, or a sequence of str for several runs, optional
        By default the rates or settings in which runs differ.
    color : str, optional
        Of a single line.
    minimum : float
        Is subtracted: with the least loss the figure shows how far each run is above it.

    Returns
    -------
    Axes

    Raises
    ------
    TypeError, ValueError
        `run` is none of these, or has no history or no finite loss.
    """
    runs = runs_of(run, "run", label)
    minimum = validation.scalar(minimum, "minimum")
    losses = [_losses(run, minimum) for run in runs]
    ax = axes_for(ax)
    scale, kind, drawn = _scale(losses), _markers(max(map(len, losses))), sum(bool(x.get_gid()) for x in ax.lines)
    # The noise of small batches would hide what is drawn before it.
    rough = [float(np.nansum(np.abs(np.diff(np.diff(np.log1p(np.abs(v))))))) for v in losses]
    lines = []
    for i, (values, one) in enumerate(zip(losses, runs, strict=True)):
        look = {"linewidth": 1.0 if len(values) > 300 else 1.6, "zorder": 2.5 - 0.4 * rough[i] / (max(rough) or 1.0)}
        look |= style(drawn + i) if len(runs) > 1 or drawn else style(1) | {"linestyle": "-"}
        look |= {} if color is None else {"color": color}
        name = _label(one, values, scale, exact=not minimum)
        lines += ax.plot(_steps(one, len(values)), _drawable(values, scale), label=name, gid="loss", **look, **kind)
    _set_axes(ax, scale, "epoch" if all(map(_of_epochs, runs)) else "step")
    if minimum:
        ax.set_ylabel("loss above the minimum")
    bottom, top = _bounds(losses, scale)
    ax.set_ylim(bottom=bottom, top=top)
    ax.set_title(f"Loss at each {ax.get_xlabel()}")
    legend(ax, lines)
    return ax


def learning_rates(
    runs: Runs,
    labels: Sequence[str] | None = None,
    ax: AxesT | None = None,
    *,
    f: ScalarFunction | LinearObjective | None = None,
) -> AxesT:
    """Compare learning rates: the losses of the runs in one figure, or with `f` their paths, each in a panel.

    The panels have the same limits, so that all show the minimum, and a run that is too slow is seen to be far from it.

    Parameters
    ----------
    runs : sequence or dict of Result, History, DivergenceError
        Of runs with history=True. A DivergenceError is what a diverging run raised.
    labels : sequence of str, optional
        One for each run; by default the keys of a dict, or the learning rates.
    ax : matplotlib Axes, optional
        With `f` a sequence of as many as there are runs.
    f : callable or LinearObjective, optional
        What was minimised, of one or two variables.

    Returns
    -------
    Axes, or with `f` an array of Axes

    Raises
    ------
    TypeError, ValueError
        A run has no history, there is no run, or the numbers of labels and runs differ.
    """
    if f is None:
        return loss(runs, ax, label=labels)
    found = runs_of(runs, "runs", labels)
    panels = panels_for(ax, len(found), "run")
    for one, panel in zip(found, panels, strict=True):
        trajectory(one.source, f, panel, within=[other.source for other in found])
        panel.set_title(_label(one) or "")
        panel.get_legend().remove()
    legend(panels)
    return np.array(panels)


def schedules(
    schedule: Callable[[int], float] | Iterable[Callable[[int], float]] | Mapping[str, Callable[[int], float]] | Runs,
    step_num: int = 100,
    ax: AxesT | None = None,
) -> AxesT:
    """Plot learning rates against the step: those of schedules, or those that runs have had.

    Parameters
    ----------
    schedule : callable or run, or a list or dict of them
    step_num : int
        Steps of a schedule to be shown; a run shows its own.
    ax : matplotlib Axes, optional

    Returns
    -------
    Axes

    Raises
    ------
    TypeError, ValueError
        A schedule does not return a finite number, or a run has no history.
    """
    step_num, lines, rates = validation.count(step_num, "step_num", minimum=1), [], []
    for of, label, one in entries(schedule, "schedule"):
        if callable(one):
            values = [validation.finite_number(one(step), step, -1) for step in range(step_num)]
            rates.append((shown(one) if label is None or label.startswith("run ") else label, values))
        else:
            rates.append((label, runs_of(one, of)[0].history.lr))
    ax = axes_for(ax)
    for i, (label, values) in enumerate(rates):
        lines += ax.plot(values, label=label, linewidth=1.8, **style(i))
    ax.set(xlabel="step", ylabel="learning rate", title="The learning rate at each step")
    ax.set_ylim(bottom=min(0.0, ax.get_ylim()[0]))
    legend(ax, lines)
    return ax


def _label(run, values=(), scale="", exact=True):
    """The label of a run, and what its line does not show; None where there is nothing to say."""
    words = ["diverges"] if run.diverged else []
    zeros = np.flatnonzero(np.asarray(values) == 0)
    if scale == "log" and zeros.size and exact:
        rest = np.all(values[zeros[0] :] == 0)
        words.append(f"exactly 0 from step {zeros[0]}" if rest else f"0 at step {zeros[0]}")
    if not words:
        return run.label
    return f"{run.label or 'loss'} ({', '.join(words)})"


def _steps(run, count):
    """The steps, or the epochs, of the rows of a history."""
    return (
        run.history.step if "step" in run.history else np.arange(1, count + 1) if _of_epochs(run) else np.arange(count)
    )


def _of_epochs(run):
    return "seconds" in run.history


def _losses(run, minimum):
    """The losses of a run above the minimum, a number for each row, NaN where one cannot be drawn; at least one can."""
    if "fun" not in run.history and "loss" not in run.history:
        raise ValueError('the history holds no losses: run with history=True or "fun"')
    values = np.asarray(run.history["fun"], dtype=np.float64) - minimum
    if minimum:  # which has rounding errors of its own
        values[np.abs(values) <= 1e-13 * abs(minimum)] = 0
    values = without_overflow(values)
    if np.isnan(values).all():
        of = "the run" if run.label is None else run.label
        raise ValueError(f"{of} has no finite loss in its history, so there is nothing to draw")
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


def _set_axes(ax, scale, unit):
    if scale == "symlog":
        first = max(abs(line.get_ydata()[0]) for line in ax.lines)
        ax.set_yscale("symlog", linthresh=10.0 ** np.ceil(np.log10(first)) if 0 < first < np.inf else 1.0)
        ax.yaxis.get_major_locator().set_params(numticks=8)
    elif ax.get_yscale() != "symlog":
        ax.set_yscale(scale)
    ax.set_xlabel(unit)
    ax.set_ylabel("loss")
    ax.xaxis.get_major_locator().set_params(integer=True)
    ax.margins(x=0.02)


def _markers(count):
    """A dot at each step if there are few of them."""
    return {"marker": "o", "markersize": 4} if count <= 30 else {}
