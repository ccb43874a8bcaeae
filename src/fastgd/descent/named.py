"""Runs on parameters with names: a dict of arrays or a pandas.Series, which f gets and the result has."""

from fastgd import validation
from fastgd.engine.result import Result
from fastgd.errors import DivergenceError
from fastgd.kernels import c_functions
from fastgd.objective import LinearObjective


def descend_named(descend, named, arguments):
    """`gradient_descent` on the vector of what was given as init_x.

    Parameters
    ----------
    descend : callable
    named : (vector, form)
        What `validation.flattened` made of init_x.
    arguments : dict
        Those of `descend`; f, grad and callback take and return what has the form of init_x, and bounds may have it.
    """
    (vector, form), f = named, arguments["f"]
    if isinstance(f, LinearObjective):
        raise TypeError(f"init_x of an objective must be an array of shape {f.shape}; got parameters with names")
    grad, callback = arguments["grad"], arguments["callback"]
    functions = {"f": _Of(f, form, gives_both=grad is True), "grad": grad}
    if callable(grad):
        functions["grad"] = _Of(grad, form, gives_gradient=True)
    if callable(callback):
        functions["callback"] = lambda result: callback(_renamed(result, form))
    given = {name: value for name, value in functions.items() if not c_functions.is_c(arguments[name])}
    bounds = _flat_bounds(arguments["bounds"], form)
    try:
        return _renamed(descend(**{**arguments, "init_x": vector, "bounds": bounds, **given}), form)
    except (DivergenceError, KeyboardInterrupt) as error:
        if getattr(error, "result", None) is not None:
            error.result = _renamed(error.result, form)
        raise


class _Of:
    """A function of named parameters as one of a vector."""

    def __init__(self, function, form, gives_both=False, gives_gradient=False):
        self.function, self.form = validation.callable_(function, "grad" if gives_gradient else "f"), form
        self.gives_both, self.gives_gradient = gives_both, gives_gradient

    def __call__(self, vector):
        found = self.function(self.form(vector))
        if self.gives_gradient:
            return self.form.flat(found, "what grad returned")
        if self.gives_both and isinstance(found, (tuple, list)) and len(found) == 2:
            return found[0], self.form.flat(found[1], "the gradient that f returned")
        return found


def _flat_bounds(bounds, form):
    """Bounds with sides of that form as a pair of vectors; names that are missing have none."""
    if not isinstance(bounds, tuple) or len(bounds) != 2:
        return bounds  # None, scipy's, or what is refused
    sides = zip(bounds, ("lower", "upper"), (-float("inf"), float("inf")), strict=True)
    return tuple(
        form.flat(side, f"bounds ({which})", absent) if validation.flattened(side) is not None else side
        for side, which, absent in sides
    )


def _renamed(result, form):
    """A Result whose points have that form."""
    result = Result(result, x=form(result.x), jac=form(result.jac))
    if result.get("history") is not None and "x" in result.history:
        result.history.x = form(result.history.x)
    return result
