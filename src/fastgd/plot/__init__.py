"""Figures of gradient descent, drawn with matplotlib (extra "plot"), which is imported with the first figure.

loss, learning_rates, schedules     what happens at each step            losses.py
contour, surface, tangent, basins   functions of one or two variables    functions.py
trajectory, trajectories, animate   the iterates of runs                 paths.py
fit, residuals, coefficients        a model and its data                 models.py
decision_boundary, confusion_matrix, calibration   a classifier          models.py
sweep, path, gradient_check         many runs, many numbers              grids.py

Where a function takes a run it takes a Result, a History, a DivergenceError or a fitted estimator; where it takes runs,
a list or a dict of them (its keys are the labels), what `sweep` gave, or the result of `multi_start`.

Each function returns the Axes it drew on. Without `ax` it creates a Figure of pyplot with one Axes: a notebook shows
it, and so does `plt.show()`; `ax.figure.savefig("picture.png")` saves it; `plt.close("all")` frees the memory of many.
Legends stand below the Axes, never on the data; a Figure without a layout engine gets matplotlib's constrained layout.
"""

import importlib
import typing

if typing.TYPE_CHECKING:
    from fastgd.plot.functions import basins, contour, surface, tangent
    from fastgd.plot.grids import gradient_check, path, sweep
    from fastgd.plot.losses import learning_rates, loss, schedules
    from fastgd.plot.models import calibration, coefficients, confusion_matrix, decision_boundary, fit, residuals
    from fastgd.plot.paths import animate, trajectories, trajectory

# The module of each name, imported when the name is first used.
_HOMES = {
    "animate": "paths", "basins": "functions", "calibration": "models", "coefficients": "models",
    "confusion_matrix": "models", "contour": "functions", "decision_boundary": "models", "fit": "models",
    "gradient_check": "grids", "learning_rates": "losses", "loss": "losses", "path": "grids", "residuals": "models",
    "schedules": "losses", "surface": "functions", "sweep": "grids", "tangent": "functions", "trajectories": "paths",
    "trajectory": "paths",
}  # fmt: skip

__all__ = [
    "animate", "basins", "calibration", "coefficients", "confusion_matrix", "contour", "decision_boundary", "fit",
    "gradient_check", "learning_rates", "loss", "path", "residuals", "schedules", "surface", "sweep", "tangent",
    "trajectories", "trajectory",
]  # fmt: skip

if not typing.TYPE_CHECKING:  # a type checker would otherwise accept any name

    def __getattr__(name):
        if name not in _HOMES:
            raise AttributeError(f"module 'fastgd.plot' has no attribute {name!r}")
        function = globals()[name] = getattr(importlib.import_module(f"fastgd.plot.{_HOMES[name]}"), name)
        return function


def __dir__() -> list[str]:
    return list(__all__)
