"""Figures of gradient descent, drawn with matplotlib (extra "plot"), which is imported with the first figure.

loss, learning_rates   loss against step, for one run and for several     losses.py
fit                    a model and its data                               models.py
contour, surface       a function of two variables                        functions.py
tangent                a function of one variable and its tangent         functions.py
trajectory, animate    the iterates of a run, as a still and animated     paths.py

Each function returns the Axes it drew on. Without `ax` it creates a Figure with one Axes, independent of pyplot: no
display is needed, and `ax.figure.savefig("picture.png")` saves it. To open a window, pass an Axes made by pyplot.
"""

import importlib
import typing

if typing.TYPE_CHECKING:
    from fastgd.plot.functions import contour, surface, tangent
    from fastgd.plot.losses import learning_rates, loss
    from fastgd.plot.models import fit
    from fastgd.plot.paths import animate, trajectory

__all__ = ["animate", "contour", "fit", "learning_rates", "loss", "surface", "tangent", "trajectory"]

# The module of each name, imported when the name is first used.
_HOMES = {
    "animate": "paths", "contour": "functions", "fit": "models", "learning_rates": "losses", "loss": "losses",
    "surface": "functions", "tangent": "functions", "trajectory": "paths",
}  # fmt: skip

if not typing.TYPE_CHECKING:  # a type checker would otherwise accept any name

    def __getattr__(name):
        if name not in _HOMES:
            raise AttributeError(f"module 'fastgd.plot' has no attribute {name!r}")
        function = globals()[name] = getattr(importlib.import_module(f"fastgd.plot.{_HOMES[name]}"), name)
        return function


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
