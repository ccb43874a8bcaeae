"""What a fit warns of: no convergence, divergence, weights that the data hardly determine."""

import contextlib
import math
import warnings

import numpy as np
from sklearn.exceptions import ConvergenceWarning

from fastgd.engine.result import Status
from fastgd.errors import ConditionWarning, DivergenceWarning
from fastgd.linear_model import separation


def warn_of(model, objective, result, error, checked):
    """Warn of what was found in a fit, where it was called."""
    name = type(model).__name__
    if result.status == Status.DIVERGED:
        rate = "" if error.lr is None else f" with learning_rate {error.lr:.3g}"
        _warn(
            f"{name} diverged in epoch {error.step}{rate}: {result.message}. The weights are the best seen, those "
            'of the start if none were better. Scale the features, take a smaller rate, or learning_rate="auto".',
            DivergenceWarning,
        )
    elif not result.success or (result.status == Status.STEP_LIMIT and checked.tol is not None):
        _warn(f"{name}: {result.message}.", ConvergenceWarning)
    separated = _separated(objective, result.history.loss)
    at_minimum = result.status in (Status.CONVERGED, Status.STEP_LIMIT) and result.solver != "sgd"
    if separated:
        _warn(
            f"the classes can be told apart without an error, so that no finite weights minimise the log loss: "
            f"these are where it was {result.history.loss[-1]:.1e}. Take a penalty."
        )
    elif at_minimum and (columns := _separating(objective, result)) is not None:
        what = f"along {_names(model, columns)}" if len(columns) else "along the intercept"
        _warn(
            f"no finite weights minimise the loss (quasi-complete separation): {what} some rows are fitted ever better "
            "and none worse, so that these weights only show where the fit was ended. Take a penalty, or leave out or "
            "merge what separates them."
        )
    if len(checked.dropped):
        _warn(
            f"{_names(model, checked.dropped)} of X var{'y' if len(checked.dropped) > 1 else 'ies'} by no more than "
            f"the rounding of {objective.dtype} at such a mean, and got a weight of 0: subtract the means in "
            "float64 first"
        )
    if result.lost:
        directions = f"{result.lost} direction{'s' * (result.lost != 1)}"
        _warn(
            f"the columns of X are collinear to within rounding error ({directions}): of the weights that fit "
            "equally well, those with the smallest norm were taken"
        )
    elif result.condition is not None and result.condition > 1e8:  # more than half of the digits are lost
        _warn(
            "the columns of X are nearly collinear: their condition number, centred and scaled, is "
            f"{result.condition:.1e}, and the weights have lost as many digits"
        )


def _warn(sentence, category=ConditionWarning):
    warnings.warn(sentence, category, stacklevel=4)  # where fit was called


def _names(model, columns, most=5):
    """Columns in words."""
    encoder = model.__dict__.get("_encoder")
    known = getattr(model, "feature_names_in_", None) if encoder is None else encoder.encoded_names
    names = [f"x{i}" if known is None else repr(str(known[i])) for i in columns[:most]]
    more = f" and {len(columns) - most} more" if len(columns) > most else ""
    return f"column{'s' * (len(columns) > 1)} {', '.join(names)}{more}"


def _separated(objective, losses):
    """Whether a log loss without a penalty is so small that every row must be on its side of the border."""
    o, s = objective, objective.rows.weights
    if not o.record.loss.separable or o.record.loss.task != "classification" or o.l1 or o.l2 or not len(losses):
        return False
    least = 1.0
    if s.size:
        least = float(s[s > 0].min() if o.rows.in_memory else s.min())
    return bool(losses[-1] * o.total_weight < math.log(2) * least)


def _separating(objective, result):
    """Numbers of the columns along which the loss falls without end, none for the intercept; else None."""
    if not objective.rows.in_memory:
        return None
    move = None
    with np.errstate(all="ignore"), contextlib.suppress(MemoryError):  # which must not take the fit with it
        move = separation.direction(objective, lambda: objective.scores(*objective.split(result.x)))
    if move is None:
        return None
    sizes = np.max(np.abs(move[: objective.rows.d]), axis=1, initial=0.0)
    return np.flatnonzero(sizes >= 0.1 * max(float(np.max(np.abs(move))), 1e-300))
