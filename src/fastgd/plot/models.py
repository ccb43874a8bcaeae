"""Figures of a model: `fit`, a model and its data."""

from __future__ import annotations

import typing

import numpy as np

from fastgd import validation
from fastgd.engine.result import Result
from fastgd.objective import LinearObjective
from fastgd.plot.shared import COLORS, CURVE_POINTS, axes_for

if typing.TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from fastgd.plot.shared import AxesT


def fit(
    objective: LinearObjective,
    w: ArrayLike | Result,
    ax: AxesT | None = None,
    *,
    feature_name: str = "x",
    target_name: str = "y",
) -> AxesT:
    """Plot a fitted model and its data.

    With one feature: the data points and the fitted curve. With several: the predicted against the actual target, and
    the diagonal on which both are equal.

    Parameters
    ----------
    objective : LinearObjective
        It holds the data.
    w : array_like or Result
        Weights, or the result of the run that found them.
    ax : matplotlib Axes, optional
    feature_name, target_name : str
        For the labels of the axes; the feature's is used only if there is one feature.

    Returns
    -------
    Axes

    Raises
    ------
    TypeError, ValueError
        `objective` is not a LinearObjective, or w does not have its shape.
    """
    if not isinstance(objective, LinearObjective):
        raise TypeError(f"objective must be a LinearObjective; got {validation.describe(objective)}")
    if isinstance(w, Result):
        w = w.x
    predicted = objective.predict(w)
    n, d = objective.X.shape
    actual, predicted = objective.y.reshape(n, -1), predicted.reshape(n, -1)
    outputs = actual.shape[1]
    ax = axes_for(ax)
    dots = {"linestyle": "none", "marker": "o", "markersize": 6 if n <= 100 else 3, "alpha": 0.8 if n <= 100 else 0.4}
    dots |= {"markeredgewidth": 0}
    if d == 1:
        x = objective.rows.columns([0])[:, 0]
        margin = 0.04 * float(x.max() - x.min()) or 0.5
        along = np.linspace(x.min() - margin, x.max() + margin, CURVE_POINTS)
        curve = objective.predict(w, along[:, None]).reshape(CURVE_POINTS, -1)
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
