"""First and second moments of the columns: of all rows at once, or from some that tell roughly."""

import typing

import numpy as np

# Rows go through float64 in pieces of about this many values.
PIECE_VALUES = 1 << 17
# Products of pieces are quickest where these are about as long as wide, up to this many rows; and from so many
# multiplications on by BLAS's own routine for them.
PIECE_ROWS, SYRK_PRODUCTS = 1024, 1 << 30
# So many rows tell roughly where a column lies and how far it spreads.
SAMPLE_ROWS = 256
# A mean of up to so many spreads takes three digits from a variance that is computed about zero.
NEAR_ZERO = 10.0
# A spread below this may have lost some of its squares to underflow.
TINY_SPREAD = 1e-140
# A sum of squares below this may have lost some of them to underflow.
TINY_SQUARES = 1e-280
# Where less than this share of the squares of a column is left once it is centred, they are summed about its mean.
LEFT = 1e-4
# So many rows for each column tell the curvature well enough to step by it, and the means to centre the columns by.
ROWS_PER_COLUMN = 8


class Products:
    """Σ AᵀA of pieces A of rows, (d, d) float64."""

    def __init__(self, d, values):
        self._sum, self._rank_k = np.zeros((d, d), order="F"), None
        if d * values >= SYRK_PRODUCTS:  # it adds to half of the sum in place, but importing it takes its time
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
    """Slices of the rows 0 to n − 1, so many at a time."""
    return [slice(start, min(start + length, n)) for start in range(0, n, length)]


def parts(n, d):
    """Slices of n rows of d columns, PIECE_VALUES values at a time."""
    return slices(n, max(1, PIECE_VALUES // d))


def transformed(rows, shift, scale):
    """√s·(X − shift)/scale of a few rows at a time in float64, with √s and the slice."""
    for part in parts(rows.n, rows.d):
        A = rows.view(part).astype(np.float64)
        root = np.ones(len(A))
        A -= shift
        A /= scale
        if rows.weights.size:
            root = np.sqrt(rows.weights[part].astype(np.float64))
            A *= root[:, None]
        yield A, root, part


def moments_of(rows, origin=None):
    """The Moments, summed about `origin`: without it about zero, or about the means of some rows if these are far off.

    None where squares of the columns leave the range of floating point.
    """
    d = rows.d
    if origin is None:
        sample = rows.view(slice(None, None, max(1, rows.n // SAMPLE_ROWS))).astype(np.float64)
        with np.errstate(all="ignore"):
            origin = sample.mean(axis=0)
            # About zero a piece of float64 rows needs no copy.
            if np.all(np.abs(origin) <= NEAR_ZERO * sample.std(axis=0)):
                origin = np.zeros(d)
    first, second = np.zeros(d), Products(d, rows.values)
    length = max(1, PIECE_VALUES // d, min(d, PIECE_ROWS))
    ones = np.ones(min(length, rows.n))
    with np.errstate(all="ignore"):
        for part in slices(rows.n, length):
            A = rows.view(part)
            if A.dtype != np.float64 or origin.any():
                A = A - origin  # in float64, like the origin
            if rows.weights.size:
                root = np.sqrt(rows.weights[part].astype(np.float64))
                A = A * root[:, None]
                first += root @ A
            else:
                first += ones[: len(A)] @ A  # three times as quick as A.sum(axis=0) for few columns
            second.add(A)
    total = second.total
    found = centred(rows, origin, first, total)
    if found is None or not np.all(np.isfinite(found.mean)):
        return None
    # Where the origin was far off, the difference has lost too many digits; now the mean is known.
    far = np.any(np.diag(found.centred) < LEFT * np.diag(total)) and not np.array_equal(origin, found.mean)
    return moments_of(rows, found.mean) if far else found


def centred(rows, origin, first, second):
    """The Moments from Σs(x − origin) and Σs(x − origin)(x − origin)ᵀ; None where they cannot be had from these."""
    weight, squares = rows.total_weight, np.diag(second)
    tiny = np.flatnonzero(squares < TINY_SQUARES)
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
    part = slice(None, None, max(1, rows.n // sample))
    s = rows.shares(part)
    # With room for the intercept's ones, as a sample for curvature has it: BLAS rounds by the distance of rows, too.
    A = np.empty((len(s), rows.d + centring))[:, : rows.d]
    rows.write(part, A)
    alike = np.all(A[0] == A, axis=0) if part.step > 1 else False
    if centring:
        means = s @ A
        # Means of too few rows leave columns off centre, which bend together with the intercept.
        if part.step > 1 and len(A) < ROWS_PER_COLUMN * rows.d:
            means = rows.column_product(rows.shares(slice(None)).astype(rows.dtype))
        means = rounded(means, rows.dtype)
        A -= means
    return looked_into(rows, means, np.sqrt(np.einsum("i,ij,ij->j", s, A, A)), centring, alike)


def looked_into(rows, means, spreads, centring, alike=False):
    """`Rows.measures`, once columns are looked into that vary by no more than the rounding of a sum over all rows.

    They may be constant and only seem to vary, by the rounding of their means; or be `alike` in a sample and vary in
    other rows. About their first row, constant columns are 0, and no sum of them is rounded.
    """
    rounding = spreads <= rows.n * np.finfo(np.float64).eps * np.abs(means)
    doubtful = np.flatnonzero(rounding & (spreads > 0) | alike)
    if doubtful.size:
        # A few rows at a time: of a large table of rare indicators, most columns are doubtful.
        s, some = rows.shares(slice(None)), parts(rows.n, len(doubtful))
        first = rows.columns(doubtful, slice(0, 1))[0] if centring else np.zeros(len(doubtful))
        if centring:
            offset = sum(s[part] @ (rows.columns(doubtful, part) - first) for part in some)
            means[doubtful] = rounded(first + offset, rows.dtype)
        offset = means[doubtful] - first
        squares = sum(s[part] @ np.square(rows.columns(doubtful, part) - first - offset) for part in some)
        spreads[doubtful] = np.sqrt(squares)
    _measure_out_of_range(rows, means, spreads)
    return means, spreads, is_still(means, spreads, rows.dtype)


def _measure_out_of_range(rows, means, spreads):
    """Set the spreads of columns whose squares leave the floats: in units of their largest number they do not."""
    there = np.flatnonzero(~((spreads > TINY_SPREAD) & np.isfinite(spreads)))
    if not there.size:
        return
    s, some = rows.shares(slice(None)), parts(rows.n, len(there))
    unit = np.zeros(len(there))
    for part in some:
        np.maximum(unit, np.abs(rows.columns(there, part) - means[there]).max(axis=0), out=unit)
    varies = unit > 0
    there, unit = there[varies], unit[varies]
    squares = sum(s[part] @ np.square((rows.columns(there, part) - means[there]) / unit) for part in some)
    spreads[there] = unit * np.sqrt(squares)


def rounded(means, dtype):
    """Means as the kernels subtract them, in float64: the algebra must use the same numbers."""
    return means.astype(dtype).astype(np.float64)


def is_still(means, spreads, dtype):
    """Whether columns vary by no more than the rounding of their numbers."""
    return spreads <= float(np.finfo(dtype).eps) * np.abs(means)
