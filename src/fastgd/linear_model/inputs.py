"""Tables, targets and weights as scikit-learn takes them; what is refused is refused in one sentence with a name.

scikit-learn converts what is no array of numbers yet. What else may be wrong is found in the data themselves, so that
no decision and no sentence depends on the words of another library's errors.
"""

import copy
import functools
import math
import typing

import numpy as np
from sklearn.utils import check_array
from sklearn.utils.validation import check_is_fitted, validate_data

from fastgd import validation
from fastgd.data import Scan, Sparse, collections
from fastgd.data.cells import complete
from fastgd.data.distributed import Column, Distributed
from fastgd.data.encoding import Encoder, Rules, check
from fastgd.data.formulas import Formula, Terms, needed
from fastgd.data.inputs import first_bad, rows_of_another_kind
from fastgd.data.streamed import Streamed
from fastgd.data.streams import Stream
from fastgd.data.tables import TableError, arrow, frame, is_frame, is_query

DTYPES = (np.dtype(np.float64), np.dtype(np.float32))

# Means of float32 columns, in standard deviations, from which on a fit is in float64: 1/100 of a standard deviation is
# then lost in rounding.
FAR_OFF = 1e5
# Values of a float32 table up to which its fit is in float64: 1 MB.
IN_DOUBLE = 1 << 17


def validated(model, X, *y, finite=True, reset=True):
    """(X, y), or X alone, as arrays: X (n, d) of float64 or float32, or CSR, or Rows; y (n,) or (n, k).

    Parameters
    ----------
    finite : bool
        Whether to refuse NaN and infinity in X; where that is left to the caller, y alone is looked at.
    reset : bool
        Whether the model takes the number and the names of the columns, or holds them against those it has.
    """
    if collections.is_collection(X):
        raise ValueError(
            f"{type(model).__name__} takes a dask collection in fit, predict and score; elsewhere pass one block at a "
            "time, in memory: X.blocks[0].compute()"
        )
    named = isinstance(X, (Stream, Distributed)) and "_encoder" in model.__dict__
    if _is_table(model, X):
        X, named = _encoded(model, X, reset)
    table = _table(model, X)
    if finite:
        refuse_infinite(table, "X", list(X.columns) if is_frame(X) and hasattr(X, "dtypes") else None)
    targets = [_targets(model, target) for target in y]
    if targets and len(targets[0]) != table.shape[0]:
        raise ValueError(f"X and y: inconsistent numbers of samples: [{table.shape[0]}, {len(targets[0])}]")
    if not named:
        _columns(model, X, reset)
    return (table, *targets) if targets else table


def _table(model, X):
    if Sparse.takes(X) and X.ndim != 2:  # of which some versions of scipy make no CSR
        table = X
    elif (table := rows_of_another_kind(X)) is None:
        table = _array(X, "X", DTYPES, accept_sparse="csr")
    if table.ndim != 2:
        got = validation.describe(np.asarray(X) if isinstance(X, (list, tuple)) else X)
        how = "X.reshape(-1, 1) for one column, X.reshape(1, -1) for one row"
        raise ValueError(f"X must be 2-dimensional; got {got}. Reshape your data: {how}")
    for number, what in zip(table.shape, ("sample", "feature"), strict=True):
        if not number:
            least = f"a minimum of 1 is required by {type(model).__name__}"
            raise ValueError(f"X: 0 {what}(s) (shape={table.shape}) while {least}")
    return table


def _columns(model, X, reset):
    """`n_features_in_` and `feature_names_in_` as scikit-learn sets and compares them."""
    if type(X) is np.ndarray:  # which has no names
        d, attributes = X.shape[1], model.__dict__
        if reset:
            attributes["n_features_in_"] = d
            attributes.pop("feature_names_in_", None)
            return
        if attributes.get("n_features_in_") == d and "feature_names_in_" not in attributes:
            return
    validate_data(model, X, reset=reset, skip_check_array=True)


def _targets(model, y):
    if isinstance(y, Column):
        return y
    if y is None:
        raise ValueError(f"{type(model).__name__} requires y to be passed, but the target y is None")
    numeric, given = model._task == "regression", y
    if not (type(y) is np.ndarray and y.dtype.kind in "fiub"):
        y = _array(y, "y", times=numeric)
        if numeric and y.dtype == object:
            y = _array(y, "y", DTYPES)
    if y.ndim == 0:
        raise TypeError(f"y must be a target for each sample; got a scalar, {validation.describe(given)}")
    if y.ndim > 2:
        raise ValueError(f"y: found dim {y.ndim} (shape={y.shape}) while dim <= 2 is required")
    if y.dtype.kind == "f":
        refuse_infinite(y, "y")
    return y


# --------------------------------------------------------------------------------------------------------------- tables


def learn(model, X, y, sample_weight, offset=None):
    """(X, y, sample_weight, offset) of a fit.

    Of a table the model learns how its columns become numbers, and X is its rows. Rows with missing cells
    are left out where the model does so.
    """
    model.__dict__.pop("_encoder", None)
    if collections.is_collection(X):
        return _learn_collection(model, X, y, sample_weight, offset)
    if not _is_table(model, X):
        return X, y, sample_weight, offset
    rules = Rules(model.missing, model.drop, model.dates, model.unknown)
    if isinstance(X, Streamed):
        return _learn_stream(model, X, rules, y, sample_weight, offset)
    table, names = _columns_of_table(X)
    check(table, names, rules)
    if isinstance(X, Scan):
        y, sample_weight, offset = X.beside(y, sample_weight, offset)
    if rules.missing == "drop" and not (kept := complete(table, names)).all():
        if not kept.any():
            raise TableError('X: in every row a cell is missing: pass missing="mean"')
        table = table.filter(kept)
        y, sample_weight, offset = (_kept(part, kept) for part in (y, sample_weight, offset))
    encoder = Formula.of(X.text, table, rules) if isinstance(X, Terms) else Encoder.of(table, names, rules)
    model._encoder, model.n_features_in_ = encoder, len(names)
    model.__dict__.pop("feature_names_in_", None)
    if is_frame(X) or isinstance(X, (Scan, Terms)):
        model.feature_names_in_ = np.array(names, dtype=object)
    return table, y, sample_weight, offset


def _learn_stream(model, X, rules, *given):
    """`learn` of what is read in blocks."""
    if rules.missing == "drop" and any(part is not None for part in given):
        raise ValueError(
            'missing="drop" needs target, sample_weight and offset in the scan: their rows are left out too'
        )
    with X.bar(model.verbose) as bar:
        learnt = X.learn(rules, bar)
    if learnt.encoder is not None:
        model._encoder, model.n_features_in_ = learnt.encoder, len(X.features)
        model.feature_names_in_ = np.array(X.features, dtype=object)
    return learnt.arrays(given)


def _learn_collection(model, X, y, sample_weight, offset):
    """`learn` of a collection of dask."""
    if y is None:
        raise ValueError(f"{type(model).__name__} requires y to be passed, but the target y is None")
    if offset is not None:
        raise ValueError("offset is for an X in memory; a dask collection takes none")
    rules = Rules(model.missing, model.drop, model.dates, model.unknown)
    rows, y, sample_weight, encoder = collections.together(X, y, sample_weight, rules)
    if encoder is not None:
        model._encoder, model.n_features_in_ = encoder, len(encoder.names)
        model.feature_names_in_ = np.array(encoder.names, dtype=object)
    elif model.missing is not None:
        raise ValueError("missing is for a frame; fill the missing cells of a dask array in")
    return rows, y, sample_weight, None


def held(model, X, y, sample_weight):
    """(rows, targets, weights) of a collection to score."""
    encoder = model.__dict__.get("_encoder")
    rows, y, sample_weight, _ = collections.together(X, y, sample_weight, encoder=encoder)
    return validated(model, rows, reset=False), y, weights(sample_weight, rows, relative=True)


Method = typing.TypeVar("Method", bound=typing.Callable[..., typing.Any])


def by_blocks(method: Method) -> Method:
    """A method of X that gives an iterator over blocks for what is read in blocks, and a dask array for one of dask."""

    @functools.wraps(method)
    def of(self, X, offset=None):
        if collections.is_collection(X):
            if offset is not None:
                raise ValueError("offset is for an X in memory; a dask collection takes none")
            return _mapped(self, method, X)
        return X.each(functools.partial(method, self), offset) if isinstance(X, Streamed) else method(self, X, offset)

    return of  # type: ignore[return-value]


def gathered(model, X, given):
    """(scores, y, sample_weight, offset) of all rows of what is read in blocks, in one pass.

    Parameters
    ----------
    given : (y, sample_weight, offset)
        Each of all rows, or None for those that the source holds.
    """
    found = [(model._scores(block, others[-1]), *others) for block, *others in X.beside_blocks(*given)]
    h, y, *others = (None if column[0] is None else np.concatenate(column) for column in zip(*found, strict=True))
    return h, _targets(model, y), *others


def _mapped(model, method, X):
    check_is_fitted(model, "coef_")
    lean = copy.copy(model)
    for name in ("_kept", "_online", "history_", "result_", "callbacks"):
        lean.__dict__.pop(name, None)
    bare = copy.copy(lean)
    for name in ("_encoder", "feature_names_in_"):
        bare.__dict__.pop(name, None)
    bare.n_features_in_ = model.coef_.shape[-1]
    dtype = np.float32 if getattr(X, "dtype", None) == np.float32 else np.float64
    like = method(bare, np.zeros((1, bare.n_features_in_), dtype))
    return collections.mapped(X, functools.partial(method, lean), like)


def _kept(values, kept):
    """The targets or weights of the rows that are kept."""
    if values is None or np.ndim(values) == 0:
        return values
    values = np.asarray(values)
    return values[kept] if len(values) == len(kept) else values


def _is_table(model, X):
    """Whether X is a table with columns that are not plain numbers, or is encoded as one."""
    if type(X) is np.ndarray:
        return model.missing is not None and X.ndim == 2 and X.dtype.kind in "fiu"
    if isinstance(X, (Scan, Terms)):
        return True
    if not is_frame(X):
        return False
    if model.missing is not None or "_encoder" in model.__dict__ or not hasattr(X, "dtypes"):
        return True
    return not all(_is_number(dtype) for dtype in X.dtypes)


def _is_number(dtype):
    return dtype.is_numeric() if hasattr(dtype, "is_numeric") else getattr(dtype, "kind", "O") in "iufc"


def _columns_of_table(X):
    """(pyarrow Table, names of the features); those of an array are x0, x1, …"""
    if isinstance(X, Scan):
        return X.table, X.features
    if isinstance(X, Terms):
        return X.table, needed(X.text, X.table.column_names)
    if is_frame(X):
        table = frame(X)
        return table, table.column_names
    names = [f"x{i}" for i in range(X.shape[1])]
    return arrow("missing").table([np.ascontiguousarray(column) for column in X.T], names=names), names


def _encoded(model, X, reset):
    """(the numbers of the rows of a table, whether the model knows the names of its columns)."""
    table, names = _columns_of_table(X)
    encoder = model.__dict__.get("_encoder")
    known = getattr(model, "feature_names_in_", None)
    if encoder is None and not reset and known is not None:
        encoder = Encoder.of_numbers(known)
    return (encoder or Encoder.of_numbers(names)).encode(table), encoder is not None


def weights(s, X, relative=False, name="sample_weight"):
    """Weights of the rows of X in its dtype: finite, not negative, with a sum that is finite and not 0; or None.

    With `relative` only their ratios matter: weights up to 1e±30 (1e±9 in float32) are not rescaled, others to about 1.
    """
    if s is None:
        return None
    if isinstance(s, Column):
        return _weights_elsewhere(s, name)
    s, n = _array(s, name, DTYPES[:1]), X.shape[0]
    s = np.full(n, s) if s.ndim == 0 else s
    if s.shape != (n,):
        raise ValueError(f"{name} must be a number for each sample, of shape ({n},); got shape {s.shape}")
    refuse_infinite(s, name)
    if np.any(s < 0):
        first = int(np.argmax(s < 0))
        raise ValueError(f"{name} must not be negative; {name}[{first}] is {s[first]}")
    largest = float(np.max(s))
    if not largest:
        raise ValueError(f"{name} must not be zero for all samples")
    limit = 1e30 if X.dtype == np.float64 else 1e9
    if relative and not 1 / limit < largest < limit:
        s = np.ldexp(s, -math.frexp(largest)[1])
    with np.errstate(over="ignore"):
        s = np.ascontiguousarray(s, X.dtype)
        if not np.isfinite(np.sum(s, dtype=np.float64)):
            raise ValueError(f"{name} must have a finite sum in {X.dtype}; its sum overflows")
    return s


def precise(X):
    """X, in float64 where weights in float32 could not tell its rows apart.

    That is where the mean of a column is FAR_OFF times its standard deviation or more: the rounding of mean·w, which
    the intercept is to make up for, would be of the size of what the column says.
    """
    if not isinstance(X, np.ndarray) or X.dtype != np.float32:
        return X
    some = X[:: max(1, len(X) // 256)].astype(np.float64)
    if not np.all(np.isfinite(some)):
        return X
    varies = np.ptp(some, axis=0) > 0
    far_off = varies & (np.abs(some.mean(axis=0)) > FAR_OFF * some.std(axis=0))
    return X.astype(np.float64) if far_off.any() else X


def in_double(X, *beside):
    """X and what is beside its rows, in float64 where X is a small table of float32.

    These fit into the cache in float64 too, where the sums of a fit have twice as many digits at the same speed.
    """
    arrays = isinstance(X, np.ndarray) or Sparse.takes(X)
    small = arrays and X.dtype == np.float32 and X.size <= IN_DOUBLE
    parts = (X, *beside)
    return [part.astype(np.float64) if small and _is_single(part) else part for part in parts]


def _is_single(part):
    return part is not None and part.dtype == np.float32


def round_off(result, objective, dtype, tol):
    """Round the weights of a result to a dtype, and let it report what belongs to these.

    The weights stay as they are where their loss would rise by more than what the tolerance allows of the gap.
    """
    rounded = result.x.astype(dtype)
    fun, gradient = objective.value_and_gradient_at(rounded.astype(objective.dtype))
    rise, room = fun - result.fun, objective.resolution * abs(objective.value_at_zero)
    if rise <= max((1e-4 if tol is None else tol) * abs(fun), room):
        result.x, result.fun, result.jac = rounded, fun, gradient.astype(dtype)
        if result.gap is not None:
            result.gap += max(0.0, rise)


def _weights_elsewhere(s, name):
    least, largest = s.min(), s.max()
    if least < 0:
        raise ValueError(f"{name} must not be negative; the smallest is {least}")
    if not largest:
        raise ValueError(f"{name} must not be zero for all samples")
    return s


def offsets(values, X):
    """Offsets of the rows of X in its dtype; None without."""
    if values is None:
        return None
    values = _array(values, "offset", DTYPES)
    refuse_infinite(values, "offset")
    return validation.offset(values, X.shape[0], X.dtype)


def refuse_infinite(array, name, columns=None):
    """Refuse NaN and infinity in an array or in CSR, naming the first, or all columns where they have names."""
    found = first_bad(array)
    if found is None:
        return
    place, value = found
    if columns is not None and np.isnan(value) and array.ndim == 2 and not Sparse.takes(array):
        counts = np.isnan(array).sum(axis=0)
        what = ", ".join(f"{column!r} ({count})" for column, count in zip(columns, counts, strict=True) if count)
        raise ValueError(
            f'{name} contains NaN: cells are missing in {what}: pass missing="drop", "mean" or "indicator"; or fill '
            "them in"
        )
    what = "NaN" if np.isnan(value) else "infinity"
    raise ValueError(f"{name} contains {what}: {validation.entry(name, place)} is {value}; {name} must be finite")


def _array(value, name, dtypes=None, *, times=True, **options):
    """`value` as an array of one of the dtypes, or as CSR where that is accepted, by scikit-learn: it knows of frames.

    Shapes and values are not looked at: what it raises then is that `value` holds no such numbers.
    """
    if dtypes is not None and type(value) is np.ndarray and value.dtype in dtypes:
        return value  # as most are
    _refuse(value, name, times)
    try:
        return check_array(
            value, input_name=name, dtype=dtypes, ensure_2d=False, allow_nd=True, ensure_all_finite=False,
            ensure_min_samples=0, ensure_min_features=0, **options,
        )  # fmt: skip
    except (ValueError, TypeError, OverflowError) as error:
        kind = TypeError if isinstance(error, TypeError) else ValueError
        why = str(error).split("\n", 1)[0]  # some print whole arrays, or recommend other estimators, on further lines
        raise kind(f"{name} must hold real numbers: {why}") from None


def _refuse(value, name, times):
    """Refuse what would be taken for numbers that it is not; times only where labels may not be times."""
    if is_query(value):
        raise TypeError(f"{name} is a {type(value).__name__}: pass fastgd.data.scan({name}), or {name}.collect()")
    rows = value if isinstance(value, (list, tuple)) else (value,)
    if any(map(validation.has_masked, rows)):
        raise ValueError(f"{name} has masked values; leave them out or fill them, e.g. by {name}.filled(0.0)")
    if name != "X" and Sparse.takes(value):
        raise TypeError(f"{name} is sparse ({type(value).__name__}); pass a dense array, e.g. {name}.toarray()")
    if not times:
        return
    for dtype in list(value.dtypes) if hasattr(value, "columns") else [getattr(value, "dtype", None)]:
        if str(dtype).lower().startswith(("date", "time", "duration")):
            raise TypeError(f"{name} must hold real numbers; got dtype {dtype}: make dates a number of days, say")
