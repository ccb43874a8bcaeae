"""Validation and conversion of arguments.

Every function takes the name of the argument, for an error that says which argument, what it takes and what it got.
"""

import decimal
import difflib
import functools
import math
import numbers
import operator
import typing
from collections.abc import Callable

import numpy as np

# Values, 2 MB, that are checked for NaN and infinity at a time, so that the check does not need a copy of X.
CHECK_VALUES = 1 << 18
# Entries up to which a sum of Python floats, of about 1 µs, is faster than NumPy with its warnings switched off.
FEW_VALUES = 256
FLOAT64 = np.dtype(np.float64)  # compared by identity, which is faster than ==


def describe(value):
    """A value for an error message: its repr, shortened, on one line; of an array the shape and dtype."""
    if isinstance(value, np.ndarray):
        masked = " with masked values" if has_masked(value) else ""
        return f"an array of shape {value.shape} and dtype {value.dtype}{masked}"
    try:
        text = " ".join(repr(value).split())
    except ValueError:  # Python does not convert integers of more than 4300 digits
        text = f"a number of {value.bit_length()} bits" if isinstance(value, int) else "something"
    return f"{text if len(text) <= 60 else text[:57] + '...'} ({type(value).__name__})"


def show_point(x):
    """A point for an error message: up to ten entries, of a longer one the first and last three."""
    return np.array2string(np.asarray(x), threshold=10, edgeitems=3, max_line_width=10_000, separator=", ")


def choice(value, name, options):
    """`value` if it is one of the names in `options`."""
    if not isinstance(value, str) or value not in options:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, options))}; got {describe(value)}")
    return value


def callable_(value, name):
    if not callable(value):
        method = "; pass its method `value`, which is" if callable(getattr(value, "value", None)) else ""
        raise TypeError(f"{name} must be callable; got {describe(value)}{method}")
    return value


def boolean(value, name) -> bool:
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{name} must be True or False; got {describe(value)}")
    return bool(value)


def scalar(value, name, *, minimum=None, positive=False) -> float:
    """A finite real number as a float, at least `minimum` (or above 0 with `positive`)."""
    if type(value) is float and math.isfinite(value) and value > 0 and (minimum is None or value >= minimum):
        return value  # the common case, fast
    number = value[()] if isinstance(value, np.ndarray) and value.ndim == 0 else value
    if isinstance(number, (bool, np.bool_)) or not isinstance(number, numbers.Real):
        raise TypeError(f"{name} must be a real number; got {describe(number)}")
    try:
        number = float(number)
        fine = math.isfinite(number)
    except OverflowError:
        fine = False
    if not fine or (positive and number <= 0) or (minimum is not None and number < minimum):
        bound = " and positive" if positive else "" if minimum is None else f" and at least {minimum}"
        got = repr(number) if isinstance(number, float) else f"{describe(number)}, which is too large for a float"
        raise ValueError(f"{name} must be finite{bound}; got {got}")
    return number


def count(value, name, *, minimum=0) -> int:
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


def bounds(value, shape=None, name="bounds"):
    """(lower, upper) as arrays of float64, or None where `value` is.

    Parameters
    ----------
    value : tuple (lower, upper) or scipy.optimize.Bounds
        Of numbers or arrays; None in place of either stands for no bound.
    shape : tuple of int, optional
        What both are broadcast to; without it the shape that both together have.

    Raises
    ------
    TypeError
        It is a list or an array: whether that is a pair for each variable, or all lower and all upper bounds, only its
        author knows. Or no pair of real numbers.
    ValueError
        A bound is NaN or does not fit the shape, or a lower one is above its upper.
    """
    if value is None:
        return None
    if hasattr(value, "lb") and hasattr(value, "ub"):  # scipy.optimize takes 0.3 s to import
        value = (value.lb, value.ub)
    if not isinstance(value, tuple) or len(value) != 2:
        raise TypeError(
            f"{name} must be a pair (lower, upper): a tuple of numbers or arrays, or a scipy.optimize.Bounds; got "
            f"{describe(value)}{_readings(value, name)}"
        )
    sides = []
    for side, absent, which in zip(value, (-np.inf, np.inf), ("lower", "upper"), strict=True):
        side = np.float64(absent) if side is None else side
        side = real_array(side, f"{name} ({which})", dtype=np.float64, finite=False)
        if np.any(np.isnan(side)):
            raise ValueError(f"{name} ({which}) must not be NaN; got {show_point(side)}")
        sides.append(side)
    try:
        shape = np.broadcast_shapes(sides[0].shape, sides[1].shape) if shape is None else shape
        lower, upper = (np.broadcast_to(side, shape) for side in sides)
    except ValueError:
        what = "be of one shape" if shape is None else f"fit the shape {shape}"
        raise ValueError(f"{name} must {what}; got {sides[0].shape} and {sides[1].shape}") from None
    if np.any(crossed := lower > upper):
        at = tuple(np.argwhere(crossed)[0].tolist())
        raise ValueError(f"{name}: lower must not be above upper; {entry('x', at)} is {lower[at]} to {upper[at]}")
    return lower, upper


def _readings(value, name):
    """What a list or an array as bounds may mean, each written as a tuple."""
    try:
        array = np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError):
        return ""
    ways = []
    if array.ndim == 2 and array.shape[1] == 2:
        lower, upper = array.T.tolist()
        ways.append(f"a pair for each variable, {name}=({lower}, {upper})")
    if array.ndim and len(array) == 2:
        ways.append("all lower and all upper bounds, {}=({}, {})".format(name, *array.tolist()))
    if not ways or array.size > FEW_VALUES:
        return ""
    return f". It may mean {', or '.join(ways)}: write what is meant"


def first_bad(array):
    """Index of the first NaN or infinity, as a tuple, or None. Uses little extra memory."""
    if array.ndim == 1 and array.size <= 16 and math.isfinite(sum(array.tolist())):
        return None
    flat = array if array.flags.c_contiguous else array.T
    if array.dtype.kind == "f" and flat.flags.c_contiguous and math.isfinite(np.vdot(flat, flat)):
        return None  # the common case; vdot does not warn, and is slow where it has to copy
    flat_rows = max(1, CHECK_VALUES // max(1, array[0].size)) if array.ndim and len(array) else 1
    for start in range(0, len(array), flat_rows) if array.ndim else [None]:
        part = array if start is None else array[start : start + flat_rows]
        with np.errstate(all="ignore"):
            fine = np.isfinite(np.sum(part))
        if not fine:  # the sum of finite numbers may have overflowed, so look for the entry
            bad = np.argwhere(~np.isfinite(part))
            if len(bad):
                index = bad[0].copy()
                if start is not None:
                    index[0] += start
                return tuple(index.tolist())
    return None


def real_array(value, name, *, ndim=None, dtype=None, finite=True):
    """`value` as an aligned array of float32 or float64 in native byte order, without a copy if it is one already.

    Parameters
    ----------
    value : array_like
        Integers, booleans and long double become float64, float16 becomes float32. Arrays of objects are accepted if
        all entries are real numbers: `numbers.Real`, which includes fractions and booleans, or Decimal.
    ndim : int or tuple of int, optional
        The accepted numbers of dimensions.
    dtype : numpy dtype, optional
        The dtype to return; by default float32 stays float32 and everything else becomes float64.
    finite : bool
        Raise an error that names the first NaN or infinity.

    Raises
    ------
    TypeError
        The values are not real numbers.
    ValueError
        The values have an unexpected number of dimensions, or are not finite, masked, or too large for the dtype, or
        the rows are of different lengths.
    """
    if (
        type(value) is np.ndarray
        and value.dtype is FLOAT64
        and (dtype is None or dtype is np.float64 or dtype is FLOAT64)
        and (ndim is None or value.ndim == ndim)
        and value.flags.aligned
        and (not finite or first_bad(value) is None)
    ):
        return value  # the common case, fast; the code below would return the same
    if hasattr(value, "tocsr") and not hasattr(value, "__array__"):
        raise TypeError(f"{name} is sparse ({type(value).__name__}); pass a dense array, e.g. {name}.toarray()")
    if has_masked(value) or (isinstance(value, (list, tuple)) and any(map(has_masked, value))):
        raise ValueError(f"{name} has masked values; leave them out or fill them, e.g. by {name}.filled(0.0)")
    try:
        array = np.asarray(value)
    except ValueError as error:
        raise ValueError(f"{name} must be an array of numbers with rows of equal length: {error}") from None
    if array.dtype == object:
        array = from_objects(array, name)
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
    array = cast(array, name, np.dtype(dtype))
    if finite:
        bad = first_bad(array)
        if bad is not None:
            raise ValueError(f"{name} must be finite; {entry(name, bad)} is {array[bad]}")
    return array


def has_masked(value):
    """Whether value is a masked array with at least one masked entry."""
    return isinstance(value, np.ndarray) and isinstance(value, np.ma.MaskedArray) and bool(np.ma.is_masked(value))


def from_objects(array, name):
    """An array of Python objects as float64; TypeError unless all are real numbers."""
    real = (numbers.Real, decimal.Decimal, np.bool_)  # booleans too, as in other arrays
    refused = {kind for kind in set(map(type, array.flat)) if not issubclass(kind, real)}
    if refused:
        first = next(item for item in array.flat if type(item) in refused)
        raise TypeError(f"{name} must hold real numbers; got {describe(first)}")
    try:
        return array.astype(np.float64)
    except OverflowError:
        raise ValueError(f"{name} must be finite; it holds a number too large for a float") from None
    except ValueError:  # a signalling NaN of decimal
        raise ValueError(f"{name} must be finite; it holds a NaN") from None


def cast(array, name, dtype):
    """`array` as an aligned array of that dtype; underflow gives 0, overflow is an error."""
    with np.errstate(all="ignore"):
        result = np.require(array, dtype=dtype, requirements="A")
    if result is not array and array.dtype.kind == "f" and array.dtype.itemsize > dtype.itemsize:
        bad = first_bad(result)
        if bad is not None and (len(overflows := np.argwhere(np.isinf(result) & np.isfinite(array)))):
            bad = tuple(overflows[0].tolist())
            raise ValueError(f"{entry(name, bad)} is {array[bad]}, which is too large for {dtype}")
    return result


def entry(name, index):
    """The name of an entry of an array in an error message, such as X[3, 0]."""
    return f"{name}[{', '.join(map(str, index))}]" if index else name


def offset(values, n, dtype):
    """Offsets (n,) of that dtype, finite."""
    values = real_array(values, "offset", ndim=1, dtype=dtype)
    if len(values) != n:
        raise ValueError(f"offset must have a number for each of the {n} rows; got shape {values.shape}")
    return np.ascontiguousarray(values)


def penalty_weights(values, d):
    """A factor of the penalty for each of d coefficients, (d,) float64, not negative; None without."""
    if values is None:
        return None
    values = real_array(values, "penalty_weights", ndim=1, dtype=np.float64)
    if len(values) != d or np.any(values < 0):
        raise ValueError(f"penalty_weights must be a number for each of the {d} coefficients, and >= 0; got {values}")
    return values


def sample_weights(s, n, dtype):
    """Sample weights as an (n,) array: not negative, at least one positive."""
    s = real_array(s, "sample_weight", ndim=1, dtype=dtype)
    if len(s) != n:
        raise ValueError(f"sample_weight has {len(s)} entries, X has {n} rows: they must be equal")
    if np.any(s < 0) or not np.any(s > 0):
        raise ValueError("sample_weight must not be negative, and at least one must be positive")
    return s


def several(y, activation):
    """Refuse targets of fewer than two outputs."""
    if y.ndim != 2 or y.shape[1] < 2:
        raise ValueError(f"activation={activation!r} needs a y of two columns or more; got shape {y.shape}")
    return y


def classes(y, dtype):
    """Targets of the log loss with softmax, (n, k): given as probabilities (n, k) or as class numbers (n,)."""
    if y.ndim == 2:
        several(y, "softmax")
        sums = y.sum(axis=1, dtype=np.float64)
        if not np.allclose(sums, 1, atol=1e-5):
            row = int(np.argmax(np.abs(sums - 1)))
            raise ValueError(f"each row of y must add up to 1 for the softmax; row {row} adds up to {sums[row]:g}")
        return y
    numbers = y.astype(np.int64)
    if np.any(numbers != y) or numbers.min() < 0:
        raise ValueError("a y of one dimension must hold numbers of classes for the softmax: 0, 1, 2, …")
    if numbers.max() == 0:
        raise ValueError("y holds one class; the softmax needs two or more")
    return np.equal.outer(numbers, np.arange(numbers.max() + 1)).astype(dtype)


def weights(w, name, shape, dtype, finite=True, copy=True):
    """w, which must have exactly that shape, as a new C-contiguous array; with copy=False w itself if possible."""
    if type(w) is np.ndarray and w.dtype is dtype and w.shape == shape and not copy:
        flags = w.flags
        # vdot, unlike sum and dot, does not warn of an overflow; of few numbers the sum of a list takes half as long.
        few = w.size <= 16 and w.ndim == 1
        if flags.c_contiguous and flags.aligned and math.isfinite(sum(w.tolist()) if few else np.vdot(w, w)):
            return w  # the common case, in less than 1 µs
    if isinstance(w, dict):  # a Result stands for its x
        w = getattr(w, "x", w)
    w = real_array(w, name, dtype=dtype, finite=finite)
    if w.shape != shape:
        raise ValueError(f"{name} must have shape {shape}; got {w.shape}")
    return np.array(w, order="C") if copy else np.ascontiguousarray(w)


def intercepts(b, name, k, dtype):
    """A new (k,) array of intercepts, given as one number for all outputs or one for each."""
    b = real_array(b, name, dtype=dtype)
    if b.shape not in ((), (k,)):
        raise ValueError(f"{name} must be a number or have shape ({k},); got shape {b.shape}")
    return np.array(np.broadcast_to(b, (k,)))


def function_value(returned, what="f"):
    """The return value of a user's function as a float, which may be NaN or infinite.

    A real number is a Python or NumPy scalar, an array of one element, or a scalar of another library that has
    `__float__`, such as one of jax or torch.

    Raises
    ------
    TypeError
        It is not a real number: None, a list, a string, a bool, a complex number, a masked value.
    ValueError
        It is an array whose size is not 1.
    """
    if isinstance(returned, np.ndarray) or (hasattr(returned, "__array__") and not isinstance(returned, np.generic)):
        if has_masked(returned):
            raise TypeError(f"{what} must return one real number; it returned a masked value")
        try:
            array = np.asarray(returned)
        except Exception:  # a torch tensor that records gradients becomes no array, but a float
            array = None
        if array is not None:
            if array.size != 1:
                raise ValueError(f"{what} must return one real number; it returned {describe(array)}")
            returned = array.reshape(())[()]
    # Some types have `__float__`, and are no real numbers that a function may return.
    unreal = isinstance(returned, (bool, np.bool_, np.complexfloating, np.flexible, np.datetime64, np.timedelta64))
    if unreal or not hasattr(type(returned), "__float__"):
        raise TypeError(f"{what} must return one real number; it returned {describe(returned)}")
    try:
        return float(returned)
    except OverflowError:
        raise ValueError(f"{what} returned an integer too large for a float: {describe(returned)}") from None


def at_point(point, coordinate):
    """The end of an error message: the point, and the coordinate moved by the difference step (−1 for none)."""
    moved = "" if coordinate < 0 else f", coordinate {coordinate} having been moved by the difference step"
    return f"at x = {show_point(point)}{moved}"


def finite_number(returned, point, coordinate):
    """`function_value`, called by the kernels; NaN and infinities are errors too, and all errors name the point."""
    number = any_number(returned, point, coordinate)
    if not math.isfinite(number):
        raise ValueError(f"f returned {number} {at_point(point, coordinate)}; a derivative needs finite values there")
    return number


def any_number(returned, point, coordinate):
    """`finite_number` that accepts NaN and infinities."""
    try:
        return function_value(returned)
    except (TypeError, ValueError) as error:
        raise type(error)(f"{error}, {at_point(point, coordinate)}") from None


def refuse_step(distance, i, x, h):
    """Raise the error for a step with x + h = x − h in floating point, or an infinite distance between the two."""
    if distance == 0:
        raise ValueError(f"h = {h!r} is too small to move coordinate {i}, which is {x!r}")
    raise ValueError(f"h = {h!r} is too large for coordinate {i}, which is {x!r}: the points overflow")


# --------------------------------------------------------------------------------------------------- names of arguments

# Names that this package and others give to one thing.
SYNONYMS = (
    ("lr", "learning_rate", "eta", "eta0", "step_size", "rate"),
    ("step_num", "max_iter", "max_steps", "maxiter", "n_iter", "n_steps", "num_steps", "steps", "epochs", "iterations"),
    ("l2", "alpha", "weight_decay", "ridge"), ("l1", "lasso"), ("seed", "random_state"),
    ("init_x", "init_w", "x0", "w0"),
    ("grad", "jac", "gradient"), ("tol", "gtol", "gap_tol"), ("optimizer", "method"), ("callback", "callbacks"),
    ("fit_intercept", "intercept"), ("sample_weight", "sample_weights", "weights"), ("n_jobs", "jobs", "num_threads"),
    ("batch_size", "batch", "minibatch"), ("max_seconds", "max_time", "timeout"), ("solver", "algorithm"),
    ("epsilon", "delta"), ("loss", "criterion"),
)  # fmt: skip


FunctionT = typing.TypeVar("FunctionT", bound=Callable[..., object])


def names_arguments(function: FunctionT) -> FunctionT:
    """Decorator: an argument of a name that the function does not have is a TypeError that names the right one."""
    code = function.__code__
    known = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
    passed_on = code.co_flags & 0x08  # it takes others too
    named = frozenset(known)

    @functools.wraps(function)
    def call(*args, **kwargs):
        if kwargs and not named.issuperset(kwargs):
            for wrong in kwargs:
                right = None if wrong in named else _right_name(wrong, known, guess=not passed_on)
                if right or not (passed_on or wrong in named):
                    what = function.__qualname__.removesuffix(".__init__")
                    others = ", ".join(known).removeprefix("self, ")
                    raise TypeError(
                        f"{what} has no argument {wrong!r}; "
                        + (f"it is called {right!r}" if right else f"there are {others}")
                    )
        return function(*args, **kwargs)

    return typing.cast(FunctionT, call)


def _right_name(wrong, known, guess):
    """What a function calls the thing that others call `wrong`; None where that is not known."""
    for group in SYNONYMS:
        if wrong in group:
            return next((name for name in group if name in known), None)
    return next(iter(difflib.get_close_matches(wrong, known, 1)), None) if guess else None
