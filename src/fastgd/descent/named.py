"""Runs on parameters with names: a dict of arrays or a pandas.Series, which f gets and the result has."""

from fastgd import forms
from fastgd.engine.result import Result
from fastgd.errors import DivergenceError
from fastgd.kernels import c_functions
from fastgd.objective import LinearObjective


def descend_named(descend, form, arguments):
    """`gradient_descent` on the vector of what was given as init_x.

    Parameters
    ----------
    descend : callable
    form : forms.Form
        That of init_x.
    arguments : dict
        Those of `descend`; f, grad and callback take and return what has the form of init_x, and bounds may have it.
    """
    f, grad, callback = (arguments[name] for name in ("f", "grad", "callback"))
    if isinstance(f, LinearObjective):
        raise TypeError(f"init_x of an objective must be an array of shape {f.shape}; got parameters with names")
    given = {"init_x": form.flat, "bounds": _flat_bounds(arguments["bounds"], form)}
    if not c_functions.is_c(f):
        given["f"] = _both(form, f) if grad is True else form.function(f)
    if callable(grad) and not c_functions.is_c(grad):
        given["grad"] = form.gradient(grad)
    if callable(callback):
        given["callback"] = lambda result: callback(_renamed(result, form))
    try:
        return _renamed(descend(**{**arguments, **given}), form)
    except (DivergenceError, KeyboardInterrupt) as error:
        if getattr(error, "result", None) is not None:
            error.result = _renamed(error.result, form)
        raise


def _both(form, f):
    """An f that returns (value, gradient), of a vector."""
    restored = form.function(f)

    def both(vector):
        found = restored(vector)
        if isinstance(found, (tuple, list)) and len(found) == 2:
            return found[0], form.vector(found[1], "the gradient that f returned")
        return found

    return both


def _flat_bounds(bounds, form):
    """Bounds with sides of that form as a pair of vectors; names that are missing have none."""
    if not isinstance(bounds, tuple) or len(bounds) != 2:
        return bounds  # None, scipy's, or what is refused
    sides = zip(bounds, ("lower", "upper"), (-float("inf"), float("inf")), strict=True)
    return tuple(
        form.vector(side, f"bounds ({which})", absent) if forms.has_names(side) else side
        for side, which, absent in sides
    )


def _renamed(result, form):
    """A Result whose points have that form."""
    result = Result(result, x=form.restore(result.x), jac=form.restore(result.jac))
    if result.get("history") is not None and "x" in result.history:
        result.history.x = form.restore(result.history.x)
    return result
