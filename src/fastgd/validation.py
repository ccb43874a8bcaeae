"""The one place where arguments are coerced and shapes checked.

Every function takes the argument's name, so that an error says which argument, what it got and what it takes.
"""

import numbers
import operator

import numpy as np

# Rows are checked for NaN and infinity in pieces of this many values, so that the check needs no second copy of X.
CHECK_VALUES = 1 << 18


def describe(value):
    """A value as an error message shows it: short, with the shape of an array."""
    if isinstance(value, np.ndarray):
        return f"an array of shape {value.shape} and dtype {value.dtype}"
    text = repr(value)
    return f"{text if len(text) <= 60 else text[:57] + '...'} ({type(value).__name__})"


def show_point(x):
    """A point as an error message shows it: all of a short one, the ends of a long one."""
    return np.array2string(np.asarray(x), threshold=10, edgeitems=3, max_line_width=10_000, separator=", ")


def choice(value, name, options):
    """`value` if it is one of the names in `options`."""
    if not isinstance(value, str) or value not in options:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, options))}; got {describe(value)}")
    return value


def callable_(value, name):
    if not callable(value):
        raise TypeError(f"{name} must be callable; got {describe(value)}")
    return value


def boolean(value, name):
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{name} must be True or False; got {describe(value)}")
    return bool(value)


def scalar(value, name, *, minimum=None, positive=False):
    """A finite real number as a float, at least `minimum` (or above 0 with `positive`)."""
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, (numbers.Real, np.ndarray)) or np.ndim(value) > 0:
        raise TypeError(f"{name} must be a real number; got {describe(value)}")
    number = float(value)
    if not np.isfinite(number) or (positive and number <= 0) or (minimum is not None and number < minimum):
        bound = " and positive" if positive else "" if minimum is None else f" and at least {minimum}"
        raise ValueError(f"{name} must be finite{bound}; got {number!r}")
    return number


def count(value, name, *, minimum=0):
    """An integer of at least `minimum`."""
    if isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{name} must be an integer; got {describe(value)}")
    try:
        number = operator.index(value)
    except TypeError:
        raise TypeError(f"{name} must be an integer; got {describe(value)}") from None
    if number < minimum:
        raise ValueError(f"{name} must be at least {minimum}; got {number}")
    return number


def first_bad(array):
    """Index of the first NaN or infinity, as a tuple, or None. Needs little memory beside the array."""
    flat_rows = max(1, CHECK_VALUES // max(1, array[0].size)) if array.ndim and len(array) else 1
    for start in range(0, len(array), flat_rows) if array.ndim else [None]:
        part = array if start is None else array[start : start + flat_rows]
        with np.errstate(all="ignore"):
            fine = np.isfinite(np.sum(part))
        if not fine:  # a sum may also overflow, so look closely before saying so
            bad = np.argwhere(~np.isfinite(part))
            if len(bad):
                index = bad[0].copy()
                if start is not None:
                    index[0] += start
                return tuple(index.tolist())
    return None


def real_array(value, name, *, ndim=None, dtype=None, finite=True):
    """`value` as an aligned native array of float32 or float64, without a copy where it is one already.

    Parameters
    ----------
    value : array_like
        Integers and booleans become float64, float16 becomes float32, long double float64.
    ndim : int or tuple of int, optional
        The numbers of dimensions that are taken.
    dtype : numpy dtype, optional
        The dtype to return; without it float32 stays float32 and all else becomes float64.
    finite : bool
        Refuse NaN and infinities, naming the first.

    Raises
    ------
    TypeError
        The values are not real numbers.
    ValueError
        The values have an unexpected number of dimensions, or are not finite, or the rows are of different lengths.
    """
    if hasattr(value, "tocsr") and not hasattr(value, "__array__"):
        raise TypeError(f"{name} is sparse ({type(value).__name__}); pass a dense array, e.g. {name}.toarray()")
    try:
        array = np.asarray(value)
    except ValueError as error:
        raise ValueError(f"{name} must be an array of numbers with rows of equal length: {error}") from None
    if array.dtype == object:
        try:
            array = array.astype(np.float64)
        except (TypeError, ValueError):
            raise TypeError(f"{name} must hold real numbers; got {describe(value)}") from None
    if array.dtype.kind not in "fiub":
        raise TypeError(f"{name} must hold real numbers; got dtype {array.dtype}")
    allowed = ndim if isinstance(ndim, tuple) else (ndim,)
    if ndim is not None and array.ndim not in allowed:
        wanted = " or ".join(f"{n}-dimensional" for n in allowed)
        columns = f"; for one column use {name}.reshape(-1, 1), for one row {name}.reshape(1, -1)"
        hint = columns if array.ndim == 1 else ""
        raise ValueError(f"{name} must be {wanted}; got shape {array.shape}{hint}")
    if dtype is None:
        dtype = np.float32 if array.dtype.kind == "f" and array.dtype.itemsize <= 4 else np.float64
    array = np.require(array, dtype=np.dtype(dtype), requirements="A")
    if finite:
        bad = first_bad(array)
        if bad is not None:
            where = f"{name}[{', '.join(map(str, bad))}]" if bad else name
            raise ValueError(f"{name} must be finite; {where} is {array[bad]}")
    return array


def data(X, y):
    """X as (n, d) and y as (n,) or (n, k) in the dtype of X, with as many rows."""
    X = real_array(X, "X", ndim=2)
    if 0 in X.shape:
        raise ValueError(f"X must have at least one row and one column; got shape {X.shape}")
    y = real_array(y, "y", ndim=(1, 2), dtype=X.dtype)
    if len(y) != len(X):
        raise ValueError(f"y has {len(y)} rows, X has {len(X)}: they must be equal")
    if y.ndim == 2 and y.shape[1] == 0:
        raise ValueError(f"y must have at least one column; got shape {y.shape}")
    return X, y


def weights(w, name, shape, dtype, finite=True):
    """A private copy of w, which must have exactly that shape."""
    w = real_array(w, name, dtype=dtype, finite=finite)
    if w.shape != shape:
        raise ValueError(f"{name} must have shape {shape}; got {w.shape}")
    return np.array(w, order="C")


def intercepts(b, name, k, dtype):
    """A private (k,) array of intercepts, from one for all outputs or one for each."""
    b = real_array(b, name, dtype=dtype)
    if b.shape not in ((), (k,)):
        raise ValueError(f"{name} must be a number or have shape ({k},); got shape {b.shape}")
    return np.array(np.broadcast_to(b, (k,)))


def function_value(returned, what="f"):
    """What a function returned, as a float (it may be NaN or infinite).

    Raises
    ------
    TypeError
        It is no real number: None, a list, a string, a bool, a complex number.
    ValueError
        It is an array of more or fewer than one element.
    """
    if isinstance(returned, np.ndarray) or (hasattr(returned, "__array__") and not isinstance(returned, np.generic)):
        array = np.asarray(returned)
        if array.size != 1:
            raise ValueError(f"{what} must return one real number; it returned {describe(array)}")
        returned = array.reshape(())[()]
    if isinstance(returned, (bool, np.bool_)) or not isinstance(returned, numbers.Real):
        raise TypeError(f"{what} must return one real number; it returned {describe(returned)}")
    try:
        return float(returned)
    except OverflowError:
        raise ValueError(f"{what} returned an integer too large for a float: {describe(returned)}") from None


def at_point(point, coordinate):
    """The words that name a point and the coordinate that was moved to get there."""
    moved = "" if coordinate < 0 else f", coordinate {coordinate} having been moved by the difference step"
    return f"at x = {show_point(point)}{moved}"


def finite_number(returned, point, coordinate):
    """`function_value` for a kernel of differences, refusing what is not finite; its errors name the point."""
    number = any_number(returned, point, coordinate)
    if not np.isfinite(number):
        raise ValueError(f"f returned {number} {at_point(point, coordinate)}; a derivative needs finite values there")
    return number


def any_number(returned, point, coordinate):
    """`finite_number` that lets NaN and infinities through."""
    try:
        return function_value(returned)
    except (TypeError, ValueError) as error:
        raise type(error)(f"{error}, {at_point(point, coordinate)}") from None
