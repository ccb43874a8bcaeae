"""Tables, targets and weights as scikit-learn takes them; what it refuses is refused in one sentence with a name.

Its own messages print whole arrays, recommend other estimators, or leave open which argument is meant.
"""

import inspect
import math
import re

import numpy as np
from sklearn.utils import assert_all_finite
from sklearn.utils.validation import _check_sample_weight, validate_data

from fastgd import validation
from fastgd.data.inputs import stored

DTYPES = (np.float64, np.float32)
# Parts of the messages of NumPy and Python about what is no number.
NO_NUMBERS = ("could not convert", "float() argument", "array element with a sequence", "inhomogeneous", "too large to")
# Weights up to so much, and down to one part in so much, are taken as they are, by the size of their dtype.
MODERATE = {8: 1e30, 4: 1e9}
# Columns of such sizes have spreads in double precision, and so many rows tell a size.
SIZES, SIZE_ROWS = (1e-150, 1e150), 1024
TIMES = ("date", "time", "duration")


def validated(model, X, *y, **options):
    """`validate_data` of scikit-learn: (X, y), or X alone."""
    _refuse(X, "X")
    for target in y:
        _refuse(target, "y", times=options.get("y_numeric", False))
    try:
        return validate_data(model, X, *y, accept_sparse="csr", dtype=DTYPES, **options)
    except (ValueError, TypeError, OverflowError) as error:
        kind, message = _explained(error, X, *y)
        raise kind(message) from None


def finite(X, model):
    """Refuse NaN and infinity, naming the first."""
    try:
        assert_all_finite(X, input_name="X", estimator_name=type(model).__name__)
    except ValueError as error:
        kind, message = _explained(error, X)
        raise kind(message) from None


def weights(sample_weight, X, relative=False):
    """Weights of the rows of X in its dtype: finite, not negative, with a sum that is finite and not 0; or None.

    With `relative` only their ratios matter, and weights whose squares might overflow are brought to about 1.
    """
    if sample_weight is None:
        return None
    _refuse(sample_weight, "sample_weight")
    try:
        s = _check_sample_weight(sample_weight, X, dtype=np.float64, ensure_non_negative=True)
    except (ValueError, TypeError) as error:
        text = _first_line(error)
        named = re.search("sample.weight", text, re.IGNORECASE)
        raise type(error)(text if named else f"sample_weight must be a number for each sample: {text}") from None
    largest = float(np.max(s))
    if relative and not 1 / MODERATE[X.dtype.itemsize] < largest < MODERATE[X.dtype.itemsize]:
        s = np.ldexp(s, -math.frexp(largest)[1])
    with np.errstate(over="ignore"):
        s = s.astype(X.dtype, copy=False)
        if not np.isfinite(np.sum(s, dtype=np.float64)):
            raise ValueError(f"sample_weight must have a finite sum in {X.dtype}; its sum overflows")
    return s


def of_no_size(rows):
    """Numbers of the columns whose squares overflow or vanish, as far as a sample of rows tells."""
    sizes = rows.largest(slice(None, None, max(1, rows.n // SIZE_ROWS)))
    return np.flatnonzero((sizes > SIZES[1]) | ((sizes > 0) & (sizes < SIZES[0]))).tolist()


def of_one_argument(function, name, what):
    """A function of the user's, refused here and not in the middle of a fit if it cannot be called so."""
    validation.callable_(function, name)
    try:
        inspect.signature(function).bind(None)
    except TypeError as error:
        got = validation.describe(function)
        raise TypeError(f"{name} must be callable with one argument, {what}; got {got}: {error}") from None
    except ValueError:  # builtins need not tell what they take
        pass
    return function


def _refuse(value, name, times=True):
    """Refuse what would be taken for numbers that it is not."""
    if validation.has_masked(value):
        raise ValueError(f"{name} has masked values; leave them out or fill them, e.g. by {name}.filled(0.0)")
    if not times:
        return
    for dtype in list(value.dtypes) if hasattr(value, "columns") else [getattr(value, "dtype", None)]:
        if str(dtype).lower().startswith(TIMES):
            raise TypeError(f"{name} must hold real numbers; got dtype {dtype}: make dates a number of days, say")


def _explained(error, X, y=None):
    """The kind and the words of what is raised for an error of scikit-learn, NumPy or Python."""
    text, line = str(error), _first_line(error)
    if text.startswith("Expected 2D") or ("dim <= 2" in text and np.ndim(X) > 2):
        got = validation.describe(np.asarray(X) if isinstance(X, (list, tuple)) else X)
        how = "X.reshape(-1, 1) for one column, X.reshape(1, -1) for one row"
        return ValueError, f"X must be 2-dimensional; got {got}. Reshape your data: {how}"
    if "contains NaN" in line or "contains infinity" in line:
        return ValueError, line.removesuffix(".") + (_place(X, "X") if "X" in line else _place(y, "y"))
    if text.startswith("Complex data"):
        return ValueError, f"{'X' if np.iscomplexobj(X) else 'y'} must hold real numbers: {line}"
    if text.startswith("Found input variables"):
        return ValueError, f"X and y: {line}"
    if text.startswith("Found array"):
        return ValueError, f"{'y' if 'dim' in text else 'X'}: {line}"
    if isinstance(error, OverflowError) or any(words in text for words in NO_NUMBERS):
        kind = TypeError if isinstance(error, TypeError) else ValueError
        return kind, f"{'y' if _are_numbers(X) else 'X'} must hold real numbers: {line}"
    return type(error), text


def _first_line(error):
    return str(error).split("\n", 1)[0]


def _place(array, name):
    """Where the first value is that is not finite, if that is easily told."""
    bad = None
    if isinstance(array, np.ndarray) and array.dtype.kind == "f":
        bad = validation.first_bad(array)
    return "" if bad is None else f": {validation.entry(name, bad)} is {array[bad]}"


def _are_numbers(X):
    try:
        np.asarray(stored(X), dtype=np.float64)
    except (ValueError, TypeError, OverflowError):
        return False
    return True
