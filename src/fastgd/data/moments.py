"""Means, standard deviations and second moments of the columns, from all rows or from a sample."""

import typing

import numpy as np

from fastgd.data.threads import larger

# Values of the pieces in which rows are converted to float64: 1 MB, which fits the second-level cache.
PIECE_VALUES = 1 << 17
# Multiplications of XᵀX from which BLAS's dsyrk is used: it halves them, but importing
# scipy.linalg takes 0.15 s, once.
SYRK_PRODUCTS = 1 << 30
# Rows per column from which the means and curvatures of a sample are exact enough for centring and preconditioning.
ROWS_PER_COLUMN = 8


class Products:
    """Σ AᵀA of pieces A of rows, (d, d) float64."""

    def __init__(self, d, values):
        self._sum, self._rank_k = np.zeros((d, d), order="F"), None
        if d * values >= SYRK_PRODUCTS:
            from scipy.linalg.blas import dsyrk

            self._rank_k = dsyrk

    def add(self, A):
        if self._rank_k is None:
            self._sum += A.T @ A
        else:
            self._sum = self._rank_k(1.0, A.T, 1.0, self._sum, overwrite_c=1)

    @property
    def total(self):
        if self._rank_k is None:
            return self._sum
        return np.triu(self._sum) + np.triu(self._sum, 1).T


class Moments(typing.NamedTuple):
    """The total weight, the means (d,) of the columns, and Σs(x − mean)(x − mean)ᵀ (d, d), all float64."""

    weight: float
    mean: np.ndarray
    centred: np.ndarray

    def about(self, shift):
        """Σs(x − shift)(x − shift)ᵀ."""
        offset = self.mean - shift
        with np.errstate(under="ignore"):
            return self.centred + self.weight * np.outer(offset, offset)


def slices(n, length):
    """Slices that cover 0 to n − 1, each of `length` rows, the last of what is left."""
    return [slice(start, min(start + length, n)) for start in range(0, n, length)]


def parts(n, d):
    """Slices that cover n rows of d columns, each of about PIECE_VALUES values."""
    return slices(n, max(1, PIECE_VALUES // d))


def origin_of(sample):
    """Where squares are summed about: 0, or the mean of some rows if it is so large that the variance would cancel."""
    sample = sample.astype(np.float64)
    with np.errstate(all="ignore"):
        origin = sample.mean(axis=0)
        # About 0 float64 rows need no copy. With means of up to 10 standard deviations that costs the variance up to
        # two digits.
        return np.zeros(len(origin)) if np.all(np.abs(origin) <= 10.0 * sample.std(axis=0)) else origin


def are_few(rows):
    return rows.values <= PIECE_VALUES // 4


def has_quick_moments(rows):
    """Whether moments cost no more than `measures`, and are as exact: of few rows that are summed about their mean."""
    return rows.sums_about_mean and are_few(rows) and rows.n >= rows.d


def moments_of(rows, origin=None, sample=None):
    """The Moments, from sums of (x − origin) and (x − origin)²; None if the squares overflow or underflow.

    By default the origin is that of a `sample` of rows.
    """
    if origin is None and sample is None and are_few(rows):  # about the mean at once: a copy costs little
        A, s = rows.view(slice(None)).astype(np.float64), rows.weights.astype(np.float64)
        with np.errstate(all="ignore"):
            ones = s if s.size else np.ones(rows.n)  # a product takes a third of the time of A.sum(axis=0)
            origin = ones @ A / rows.total_weight
            A -= origin
            first = ones @ A
            A = A * np.sqrt(s)[:, None] if s.size else A
            return centred(rows, origin, first, A.T @ A)
    if origin is None:
        origin = origin_of(rows.view(slice(None, None, max(1, rows.n // 256))) if sample is None else sample)
    first, second = rows.sums_of_squares(origin)
    with np.errstate(all="ignore"):
        found = centred(rows, origin, first, second)
    if found is None or not np.all(np.isfinite(found.mean)):
        return None
    # If less than 1e-4 of the sum of squares is left, the variance has lost four digits: sum again, about the mean.
    far = np.any(np.diag(found.centred) < 1e-4 * np.diag(second)) and not np.array_equal(origin, found.mean)
    return moments_of(rows, found.mean) if far else found


def sums_of_squares(rows, origin):
    """See `Rows.sums_of_squares`."""
    first, second = np.zeros(rows.d), Products(rows.d, rows.values)
    # BLAS forms AᵀA fastest if A has about as many rows as columns.
    length = max(1, PIECE_VALUES // rows.d, min(rows.d, 1024))
    ones = np.ones(min(length, rows.n))
    with np.errstate(all="ignore"):
        for part in slices(rows.n, length):
            A = rows.view(part)
            if A.dtype != np.float64 or origin.any():
                A = A - origin  # becomes float64, the dtype of the origin
            if rows.weights.size:
                root = np.sqrt(rows.weights[part].astype(np.float64))
                A = A * root[:, None]
                first += root @ A
            else:
                first += ones[: len(A)] @ A  # for few columns three times as fast as A.sum(axis=0)
            second.add(A)
    return first, second.total


def centred(rows, origin, first, second):
    """The Moments from Σs(x − origin) and Σs(x − origin)(x − origin)ᵀ; None if these overflow or underflow."""
    weight, squares = rows.total_weight, np.diag(second)
    tiny = np.flatnonzero(squares < 1e-280)  # some of the squares may have underflowed
    if not np.all(np.isfinite(second)) or (tiny.size and rows.differs(tiny, origin)):
        return None
    with np.errstate(under="ignore"):
        return Moments(weight, origin + first / weight, second - np.outer(first, first) / weight)


def measured(rows, centring, sample=None):
    """See `Rows.measures`."""
    means = np.zeros(rows.d)
    if sample is None:
        if centring:
            means = rounded(rows.column_means(), rows.dtype)
        return looked_into(rows, means, rows.column_lengths(means) / np.sqrt(rows.total_weight), centring)
    some = rows.sampled(sample)
    s = some.shares(slice(None))
    # A view with the strides of a sample with an intercept column (`objective.sample`): the rounding of BLAS depends on
    # strides, and the results must not differ.
    A = np.empty((len(s), rows.d + centring))[:, : rows.d]
    some.write(slice(None), A)
    is_all = some.n == rows.n
    alike = False if is_all else np.all(A[0] == A, axis=0)
    if centring:
        means = s @ A
        # Means of too few rows are inexact, and columns off their mean are correlated with the intercept.
        if not is_all and len(A) < ROWS_PER_COLUMN * rows.d:
            means = rows.quick_means()
        means = rounded(means, rows.dtype)
        A -= means
    return looked_into(rows, means, np.sqrt(np.einsum("i,ij,ij->j", s, A, A)), centring, alike)


def measures_of_moments(rows, moments, centring):
    """`Rows.measures` from the Moments."""
    means = rounded(moments.mean, rows.dtype) if centring else np.zeros(rows.d)
    squares = np.diag(moments.about(means)) / moments.weight
    return looked_into(rows, means, np.sqrt(np.maximum(squares, 0.0)), centring)


def looked_into(rows, means, spreads, centring, alike=False):
    """`Rows.measures`, given estimates, after doubtful columns have been computed again from all rows.

    Doubtful are columns whose spread is within the rounding error of their mean (they may be constant), and columns
    that are constant in a sample (`alike`; they may vary elsewhere). They are summed about their first entry: of a
    constant column all differences are then 0, without rounding error.
    """
    rounding = spreads <= rows.n * np.finfo(np.float64).eps * np.abs(means)
    doubtful = np.flatnonzero(rounding & (spreads > 0) | alike)
    if doubtful.size:
        first = rows.columns(doubtful, slice(0, 1))[0] if centring else np.zeros(len(doubtful))
        offset, total = np.zeros(len(doubtful)), rows.total_weight
        if centring:
            (total_offset,) = rows.reduced(powers_about, doubtful, first, offset, 1.0, 1)
            means[doubtful] = rounded(first + total_offset / total, rows.dtype)
        offset = means[doubtful] - first
        (squares,) = rows.reduced(powers_about, doubtful, first, offset, 1.0, 2)
        spreads[doubtful] = np.sqrt(squares / total)
    _measure_out_of_range(rows, means, spreads)
    return means, spreads, is_still(means, spreads, rows.dtype)


def powers_about(rows, columns, origin, offset, unit, power):
    """Σ s·((x − origin − offset)/unit)^power of some columns, in pieces: in a large table of rare indicators most are
    asked for."""
    total = np.zeros(len(columns))
    for part in parts(rows.n, len(columns)):
        A = (rows.columns(columns, part) - origin - offset) / unit
        s = rows.weights[part].astype(np.float64) if rows.weights.size else np.ones(len(A))
        total += s @ (A if power == 1 else np.square(A))
    return (total,)


def largest_about(rows, columns, origin):
    """max |x − origin| of some columns."""
    found = np.zeros(len(columns))
    for part in parts(rows.n, len(columns)):
        np.maximum(found, np.abs(rows.columns(columns, part) - origin).max(axis=0), out=found)
    return (found,)


def unlike(rows, columns, numbers):
    """Which of some columns have an entry other than their number."""
    found = np.zeros(len(columns), bool)
    for part in parts(rows.n, len(columns)):
        found |= np.any(rows.columns(columns, part) != numbers, axis=0)
    return (found,)


def _measure_out_of_range(rows, means, spreads):
    """Compute the spreads of columns whose squares overflow or underflow again, in units of their largest entry."""
    there = np.flatnonzero(~((spreads > 1e-140) & np.isfinite(spreads)))
    if not there.size:
        return
    (unit,) = rows.reduced(largest_about, there, means[there], combine=larger)
    varies = unit > 0
    there, unit = there[varies], unit[varies]
    if there.size:
        (squares,) = rows.reduced(powers_about, there, means[there], 0.0, unit, 2)
        spreads[there] = unit * np.sqrt(squares / rows.total_weight)


def rounded(means, dtype):
    """Means rounded to the dtype of X, as the kernels subtract them, in float64."""
    return means.astype(dtype).astype(np.float64)


def is_still(means, spreads, dtype):
    """Whether columns vary by no more than the rounding error of their entries."""
    return spreads <= float(np.finfo(dtype).eps) * np.abs(means)
