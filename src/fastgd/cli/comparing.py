"""`fastgd compare` and `fastgd check`: several fits of one table; a gradient compared with finite differences."""

import importlib
import importlib.util
import sys
import time
from pathlib import Path

import numpy as np

from fastgd.cli import fitting, printing
from fastgd.data.tables import TableError
from fastgd.derivatives.check import check_gradient
from fastgd.errors import DivergenceError
from fastgd.files import whole


def fitted(task, value, run):
    """(value, Fit or the DivergenceError that ended it, seconds) of one of the fits."""
    started = time.perf_counter()
    try:
        fit = fitting.fitted(task, history="fun", **run)
    except DivergenceError as error:
        fit = error
    except ValueError as error:
        raise TableError(f"{value}: {error}") from None
    return value, fit, time.perf_counter() - started


def print_table(what, found):
    """A line for each fit."""
    out = printing.console()
    width = max(len(str(value)) for value, *_ in found)
    out.print(f"{what.removesuffix('s') if what != 'losses' else 'loss':<{width}}      steps     passes    seconds  ")
    for value, fit, seconds in found:
        if isinstance(fit, DivergenceError):
            out.print(f"{value!s:<{width}} {fit.step:>10} {'':>10} {seconds:>10.3g}  diverged: {fit}")
            continue
        words = printing.score_words(fit.held_scores or fit.scores) + (" held out" if fit.held_scores else "")
        ended = "" if fit.converged else "; not converged"
        r = fit.result
        out.print(f"{value!s:<{width}} {r.nit:>10} {r.n_passes:>10} {seconds:>10.3g}  {words}{ended}")


def draw(path, found):
    """The losses of all fits against the step."""
    from matplotlib.figure import Figure

    from fastgd import plot

    figure = Figure(figsize=(7, 4.4), layout="constrained")
    runs = [fit if isinstance(fit, DivergenceError) else fit.result for _, fit, _ in found]
    labels = [str(value) for value, *_ in found]
    drawable = [(r, n) for r, n in zip(runs, labels, strict=True) if (getattr(r, "result", r) or {}).get("history")]
    plot.learning_rates([r for r, _ in drawable], [n for _, n in drawable], figure.subplots())
    whole.write_whole(path, lambda file: figure.savefig(file, format=path.suffix[1:].lower(), dpi=150))


def check(target, gradient, at):
    """The GradientCheck of MODULE:FUNCTION, by a gradient of the same module or one that the function returns too."""
    place, colon, name = target.rpartition(":")
    if not colon or not place or not name:
        raise TableError(f"what to check must be MODULE:FUNCTION, such as model.py:loss; got {target!r}")
    module = _module(place)
    try:
        x = np.array([float(number) for number in at.split(",")])
    except ValueError:
        raise TableError(f"--at must be numbers separated by commas, such as 1,-0.5; got {at!r}") from None
    f = _function(module, name, place)
    if gradient is None:
        known = f"{name}_gradient", f"{name}_grad", f"gradient_{name}", f"grad_{name}", "gradient", "grad"
        gradient = next((name for name in known if hasattr(module, name)), None)
    if gradient is not None:
        return check_gradient(f, _function(module, gradient, place), x)
    value = f(x.copy())
    if not isinstance(value, tuple) or len(value) != 2:
        raise TableError(
            f"{place} has no gradient of {name}: name one by --gradient, or let {name} return (value, gradient)"
        )
    return check_gradient(lambda x: f(x)[0], lambda x: f(x)[1], x)


def _module(place):
    """A module by its name or by its file."""
    try:
        if not place.endswith(".py"):
            sys.path.insert(0, "")
            return importlib.import_module(place)
        path = Path(place)
        if not path.is_file():
            raise TableError(f"{place} cannot be read: there is no such file")
        spec = importlib.util.spec_from_file_location(path.stem, path)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module
    except (ImportError, SyntaxError) as error:
        raise TableError(f"{place} cannot be imported: {error}") from None


def _function(module, name, place):
    function = getattr(module, name, None)
    if not callable(function):
        raise TableError(f"{place} has no function {name!r}")
    return function
