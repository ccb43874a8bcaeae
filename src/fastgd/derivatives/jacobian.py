"""Jacobians of vector-valued functions by finite differences, dense or sparse.

Every entry ∂fᵢ/∂xⱼ is a slope of its own, so what `stencils` and `refine` do for the coordinates of a gradient they do
here for entries. `Entries` is the bridge: it looks like a sampler with one coordinate for each entry, and evaluates f
once for all entries whose columns can move together.
"""

from __future__ import annotations

import copy
import typing
from typing import Generic, Literal, NamedTuple, TypeVar, Unpack

import numpy as np

from fastgd import validation
from fastgd.derivatives import complex_step, refinement, stencils
from fastgd.derivatives import sparsity as patterns
from fastgd.derivatives.stencils import EPSILON, Stencil
from fastgd.derivatives.vectorial import VectorSampler

if typing.TYPE_CHECKING:
    from numpy.typing import ArrayLike
    from scipy.sparse import csr_array

    from fastgd.types import Doubles, SamplingOptions, Scheme, Sparse, VectorFunction

SCHEMES = (*stencils.SCHEMES, "richardson", "complex")
NAN_POLICIES = ("raise", "propagate")

# How far from real differences, as a share of max(1, |entry|), a complex step may be off.
NOT_COMPLEX_SAFE = 1e-5

# Entries that are looked at again at a time: their values on all steps are held in memory.
MOST_ENTRIES = 1 << 16

# What a pattern leaves out is noticed where it changes f by more than this share of what the pattern has in that row …
LEFT_OUT = 1e-3
# … and by more than a slope of this much.
LEAST_LEFT_OUT = 1e-5


Matrix = TypeVar("Matrix")  # an ndarray, or a CSR array where there is a pattern


class JacobianEstimate(NamedTuple, Generic[Matrix]):
    """A Jacobian with what is known of it.

    Attributes
    ----------
    jacobian : (m, d) ndarray or CSR array
    error : (m, d) ndarray or CSR array
        Estimated absolute error of each entry; NaN where the scheme has no estimate.
    steps : ndarray of the shape of x
        The step of each coordinate; the smallest where entries of its column have several.
    nfev : int
        How often f was called; how many points it was given where it is vectorized.
    """

    jacobian: Matrix
    error: Matrix
    steps: Doubles
    nfev: int


@typing.overload
def numerical_jacobian(
    f: VectorFunction,
    x: ArrayLike,
    h: ArrayLike | None = None,
    *,
    scheme: Scheme = "central",
    full_output: Literal[False] = False,
    sparsity: None = None,
    **options: Unpack[SamplingOptions],
) -> Doubles: ...
@typing.overload
def numerical_jacobian(
    f: VectorFunction,
    x: ArrayLike,
    h: ArrayLike | None = None,
    *,
    scheme: Scheme = "central",
    full_output: Literal[False] = False,
    sparsity: Sparse | ArrayLike,
    **options: Unpack[SamplingOptions],
) -> csr_array: ...
@typing.overload
def numerical_jacobian(
    f: VectorFunction,
    x: ArrayLike,
    h: ArrayLike | None = None,
    *,
    scheme: Scheme = "central",
    full_output: Literal[True],
    sparsity: None = None,
    **options: Unpack[SamplingOptions],
) -> JacobianEstimate[Doubles]: ...
@typing.overload
def numerical_jacobian(
    f: VectorFunction,
    x: ArrayLike,
    h: ArrayLike | None = None,
    *,
    scheme: Scheme = "central",
    full_output: Literal[True],
    sparsity: Sparse | ArrayLike,
    **options: Unpack[SamplingOptions],
) -> JacobianEstimate[csr_array]: ...
def numerical_jacobian(
    f,
    x,
    h=None,
    *,
    scheme="central",
    bounds=None,
    typical_x=None,
    vectorized=False,
    workers=None,
    args=(),
    nan_policy="raise",
    full_output=False,
    sparsity=None,
):
    """Jacobian of a vector-valued function, by finite differences.

    Parameters
    ----------
    f : callable
        f(x, *args) returns an array of m real numbers. Arrays of more dimensions are flattened, and a number counts as
        m = 1. Each call gets a private copy of x, and what it returns is copied at once.
    x : array_like of float
        d numbers of any shape. Never written to.
    h, scheme, bounds, typical_x, workers, args, nan_policy
        As in `numerical_gradient`. The scheme "central" without an h looks again at columns with an entry whose
        estimated error exceeds 1e-6·max(1, |entry|).
    vectorized : bool
        Whether f takes many points at once: (b, *shape of x) in, (b, m) out.
    full_output : bool
        Return a `JacobianEstimate` instead.
    sparsity : array_like or scipy.sparse array of (m, d), optional
        Where the Jacobian may be other than 0. Columns that share no row are then evaluated together, in so few groups
        G as a greedy colouring finds: 3 for a tridiagonal Jacobian of any size.

    Returns
    -------
    (m, d) ndarray of float64, or a CSR array with the pattern of `sparsity`.

    Raises
    ------
    TypeError, ValueError
        As `numerical_gradient` does; and where f returns another number of values than before, or a pattern leaves
        out an entry that is not 0: f is evaluated at two more points, with all coordinates moved at once, to see that.

    Notes
    -----
    Evaluations, with G = d unless there is a pattern (2 more with one): G + 1 forward and backward, 2G central, 4G
    five-point, from 6G Richardson. Columns near a bound need up to one more, and f(x) once. To judge its own steps
    the central scheme spends f(x) too, 2G + 1 in all, and about 10 for each group that it looks at again.

    Examples
    --------
    >>> numerical_jacobian(lambda x: [x[0] * x[1], x[0] + x[1]], [2.0, 3.0]).round(6)
    array([[3., 2.],
           [1., 1.]])
    """
    validation.callable_(f, "f")
    validation.choice(scheme, "scheme", SCHEMES)
    validation.choice(nan_policy, "nan_policy", NAN_POLICIES)
    full_output = validation.boolean(full_output, "full_output")
    x = validation.real_array(x, "x", dtype=np.float64)
    limits = stencils.limits(bounds, x)
    sampler = VectorSampler(f, np.ascontiguousarray(x), args, vectorized, workers)
    positions = None if sparsity is None else patterns.pattern(sparsity, x.size)
    group = np.arange(x.size) if positions is None else patterns.group_columns(positions)
    found, entries = slopes(sampler, group, positions, scheme, h, typical_x, limits)
    if nan_policy == "raise":
        entries.refuse_nonfinite(found.value)
    steps = np.full(x.size, np.inf)
    np.minimum.at(steps, entries.columns, found.step)
    steps[np.isinf(steps)] = np.nan  # a column without entries
    if positions is not None:
        entries.check_pattern(found.value, steps, limits)
    if not full_output:
        return entries.arranged(found.value)
    return JacobianEstimate(
        entries.arranged(found.value), entries.arranged(found.error), steps.reshape(x.shape), sampler.nfev
    )


def slopes(sampler, group, positions, scheme, h, typical_x, limits):
    """All entries, as `refinement.Slopes` and `Entries`."""
    x = sampler.x.reshape(sampler.shape)
    if scheme == "complex":
        return complex_slopes(sampler, group, positions, h, typical_x, limits)
    if scheme == "richardson":
        sampler.here()  # tells m
        entries = Entries(sampler, group, positions)
        base = stencils.sized(x, refinement.RICHARDSON_STEP, h, typical_x)
        return entries.extrapolated(base, limits, h is not None), entries
    steps = stencils.steps(x, scheme, h, typical_x)
    mending = scheme == "central" and h is None
    if scheme == "central" and positions is limits is None and x.size:
        found, values = central(sampler, steps, mending)
        entries = Entries(sampler, group, positions)
        return found or entries.differences(values, scheme, steps, limits, mending), entries
    stencil = Stencil(sampler.x, steps, scheme, limits)
    groups, points = members(group), stencil.points.shape[1]
    moves = [(columns, stencil.points[columns, k]) for columns in groups for k in range(points)]
    values = sampler.at(moves) if moves else np.empty((0, sampler.here().size))
    entries = Entries(sampler, group, positions)
    values = values.reshape(len(groups), points, sampler.m)
    return entries.differences(values, scheme, steps, limits, mending), entries


def central(sampler, steps, mending):
    """A dense Jacobian by central differences, as most are: its `Slopes` if no entry is doubtful, and values."""
    with np.errstate(all="ignore"):
        points = np.array([sampler.x + steps, sampler.x - steps])
        distance = points[0] - points[1]
    stencils.refuse_useless(sampler.x, steps, distance)
    moves = [(j, point) for j, pair in enumerate(points.T.tolist()) for point in pair]
    values = sampler.at(moves).reshape(len(steps), 2, sampler.m)
    above, below, distance = values[:, 0].T, values[:, 1].T, distance[None, :]
    with np.errstate(all="ignore"):
        slopes = (above - below) / distance
    error = np.full_like(slopes, np.nan)
    if mending:
        rounding, truncation = refinement.central_errors(above, below, distance, sampler.here()[:, None])
        with np.errstate(all="ignore"):
            limit = refinement.DOUBT * np.maximum(1.0, np.abs(slopes))
            if not np.all((rounding <= limit) & (truncation <= limit)):
                return None, values
        error, steps = rounding + truncation, np.abs(distance[0]) / 2
    return refinement.Slopes(
        *(part.reshape(-1) for part in (slopes, error, np.broadcast_to(steps, slopes.shape)))
    ), values


def complex_slopes(sampler, group, positions, h, typical_x, limits):
    """The Jacobian by the complex step, ∂fᵢ/∂xⱼ = Im fᵢ(x + ihⱼeⱼ)/hⱼ, one evaluation for each group of columns.

    It is wrong, without a sign of it, if f is not analytic, as with |x| or max(x). The entries of the first group are
    therefore compared with extrapolated differences of real values; ValueError if one disagrees. `group` and
    `positions` are as for `Entries`. Returns (Slopes, Entries).
    """
    x = sampler.x.reshape(sampler.shape)
    steps = stencils.sized(x, complex_step.STEP, h, typical_x)
    imaginary = VectorSampler(sampler.f, x.astype(complex), sampler.args, sampler.vectorized, sampler.workers)
    groups = members(group)
    values = imaginary.at([(columns, imaginary.x[columns] + 1j * steps[columns]) for columns in groups])
    sampler.m, sampler.nfev = imaginary.m, imaginary.nfev
    entries = Entries(sampler, group, positions)
    value = values.imag[entries.group[entries.columns], entries.rows] / steps[entries.columns]
    first = entries.part(np.flatnonzero(entries.group[entries.columns] == 0))
    real, error, _ = first.extrapolated(stencils.sized(x, refinement.RICHARDSON_STEP), limits, False)
    shown = value[entries.group[entries.columns] == 0]
    off = ~(np.abs(real - shown) <= 10 * error + NOT_COMPLEX_SAFE * np.maximum(1.0, np.abs(real)))
    off &= np.isfinite(shown)  # what is not finite is for `nan_policy`
    if off.any():
        e = int(np.argmax(off))
        raise ValueError(
            f"scheme='complex' does not suit f: for entry {first.rows[e]} and coordinate {first.columns[e]} it gives "
            f"{shown[e]:.6g}, where real differences give {real[e]:.6g}; abs, max and conj, say, are not analytic"
        )
    return refinement.Slopes(value, np.full(len(value), np.nan), steps[entries.columns]), entries


def members(group):
    """The columns of each group."""
    order = np.argsort(group, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(group[order])) + 1) if len(group) else []


class Entries:
    """The entries of a Jacobian as coordinates of their own, with the interface of `sampling.Sampler`.

    Entry e is ∂f[rows[e]]/∂x[columns[e]]; they are in the order of CSR. To move entry e is to move x[columns[e]] and to
    look at f[rows[e]]; entries whose columns can move together share an evaluation.

    Parameters
    ----------
    sampler : VectorSampler
        One that has been called, so that m is known.
    group : (d,) intp
        Columns of the same number can move together.
    positions : CSC array of (m, d) or None
        Which entries there are; None for all.
    """

    def __init__(self, sampler, group, positions):
        m, d = sampler.m, sampler.x.size
        self.sampler, self.group = sampler, group
        self.shape, self.sparse = (m, d), positions is not None
        if positions is None:
            self.rows, self.columns = np.repeat(np.arange(m), d), np.tile(np.arange(d), m)
        else:
            if positions.shape[0] != m:
                raise ValueError(
                    f"sparsity must have a row for each of the {m} values of f; got shape {positions.shape}"
                )
            by_row = positions.tocsr()
            self.indices, self.indptr = by_row.indices, by_row.indptr
            self.rows, self.columns = np.repeat(np.arange(m), np.diff(by_row.indptr)), by_row.indices.astype(np.intp)
        self.x = sampler.x[self.columns]
        self._forget()

    def _forget(self):
        # What f gave is in the rows of `seen`; for the column and value of keys[k] it is in row places[k].
        self.keys, self.places = np.empty(0, complex), np.empty(0, np.intp)
        self.seen = np.empty((0, self.shape[0]))

    def part(self, chosen):
        """Some of the entries, by number."""
        some = copy.copy(self)
        some.rows, some.columns, some.x = self.rows[chosen], self.columns[chosen], self.x[chosen]
        some._forget()
        return some

    def here(self):
        """f(x) for each entry."""
        return self.sampler.here()[self.rows]

    def at(self, entries, points):
        """f[rows] with x[columns] = points, for these entries."""
        keys = np.empty(len(points), complex)  # (column, value): complex numbers are sorted by both parts
        keys.real, keys.imag = self.columns[entries], points
        wanted, number = np.unique(keys, return_inverse=True)
        self._evaluate(np.setdiff1d(wanted, self.keys, assume_unique=True))
        place = self.places[np.searchsorted(self.keys, wanted)]
        return self.seen[place[number], self.rows[entries]]

    def _evaluate(self, keys):
        """See to it that f is known where these columns have these values: sorted, and not yet known."""
        if not len(keys):
            return
        columns = keys.real.astype(np.intp)
        group = self.group[columns]
        turn = np.arange(len(keys)) - np.searchsorted(columns, columns)  # a column has one value at a time
        order = np.lexsort((turn, group))
        starts = (np.diff(group[order], prepend=-1) != 0) | (np.diff(turn[order], prepend=-1) != 0)
        together = np.split(order, np.flatnonzero(starts)[1:])
        seen = self.sampler.at([(columns[some], keys[some].imag) for some in together])
        places = np.empty(len(keys), np.intp)
        places[order] = len(self.seen) + np.cumsum(starts) - 1
        self.seen = np.concatenate([self.seen, seen])
        keys, places = np.concatenate([self.keys, keys]), np.concatenate([self.places, places])
        order = np.argsort(keys)
        self.keys, self.places = keys[order], places[order]

    def limits(self, limits):
        return None if limits is None else tuple(bound[self.columns] for bound in limits)

    def differences(self, values, scheme, steps, limits, mending):
        """`refinement.Slopes` by one of the formulas of `stencils`.

        Parameters
        ----------
        values : (groups, points, m) float64
            What f gave at each point of a stencil, the columns of a group moved together.
        mending : bool
            Estimate the errors of central differences, and look again at the doubtful ones.
        """
        group = self.group[self.columns]
        values = np.stack([of_point[group, self.rows] for of_point in values.swapaxes(0, 1)], axis=1)
        stencil = Stencil(self.x, steps[self.columns], scheme, self.limits(limits))
        here = self.here() if stencil.needs_here or mending else None
        slopes = stencil.slopes(values, here[:, None] if stencil.needs_here else None)
        if not mending:
            return refinement.Slopes(slopes, np.full(len(slopes), np.nan), stencil.steps)
        above, below, distance, middle = stencil.ends(values, here)
        rounding, truncation = refinement.central_errors(above, below, distance, middle)
        with np.errstate(all="ignore"):
            limit = refinement.DOUBT * np.maximum(1.0, np.abs(slopes))
            if np.all((rounding <= limit) & (truncation <= limit)):
                return refinement.Slopes(slopes, rounding + truncation, np.abs(distance) / 2)
        return self.pieces(
            lambda some, e, bounds: refinement.mend(
                some, slopes[e], above[e], below[e], distance[e], middle[e], steps[some.columns], bounds
            ),
            limits,
        )

    def extrapolated(self, base, limits, fixed):
        """Richardson's scheme for each entry; see `refinement.richardson`."""
        return self.pieces(
            lambda some, e, bounds: refinement.richardson(some, base[some.columns], bounds, fixed, False), limits
        )

    def pieces(self, look, limits):
        """`refinement.Slopes` from look(some entries, their numbers, their bounds), a few groups at a time."""
        order = np.argsort(self.group[self.columns], kind="stable")
        borders = np.flatnonzero(np.diff(self.group[self.columns][order])) + 1
        counts = borders // MOST_ENTRIES
        found = refinement.Slopes(*(np.empty(len(self.x)) for _ in refinement.Slopes._fields))
        for e in np.split(order, borders[np.flatnonzero(np.diff(counts, prepend=0))]):
            if len(e):
                some = self.part(e)
                for whole, piece in zip(found, look(some, e, some.limits(limits)), strict=True):
                    whole[e] = piece
        return found

    def refuse_nonfinite(self, slopes):
        """Raise if a slope is no finite number."""
        bad = np.flatnonzero(~np.isfinite(slopes))
        if len(bad):
            i, j = int(self.rows[bad[0]]), int(self.columns[bad[0]])
            where = validation.at_point(self.sampler.point((slice(0, 0), 0.0)), j)
            raise ValueError(
                f"f returned NaN or an infinity as entry {i}, {where}; a derivative needs finite values there"
            )

    def check_pattern(self, slopes, steps, limits):
        """Raise if f changes otherwise than the entries say when all coordinates move at once."""
        x = self.sampler.x
        # Steps of the complex scheme move no real number.
        steps = np.where(x + steps == x, stencils.steps(x, "central"), np.nan_to_num(steps))
        if limits is not None:
            steps = np.minimum(steps, np.minimum(x - limits[0], limits[1] - x))
        share = np.random.default_rng(0).uniform(0.5, 1, x.size) * np.resize([1.0, -1.0, -1.0, 1.0, 1.0], x.size)
        above, below = x + share * steps, x - share * steps
        f_above, f_below = self.sampler.at([(slice(None), above), (slice(None), below)])
        with np.errstate(all="ignore"):
            terms = slopes * (above - below)[self.columns]
            predicted, size = (np.bincount(self.rows, values, self.shape[0]) for values in (terms, np.abs(terms)))
            rounding = 8 * EPSILON * (np.abs(f_above) + np.abs(f_below))
            allowed = LEFT_OUT * size + LEAST_LEFT_OUT * np.max(np.abs(above - below), initial=0.0) + rounding
            off = np.abs(f_above - f_below - predicted) > allowed
        if off.any():
            row = int(np.argmax(off))
            change = float(f_above[row] - f_below[row])
            raise ValueError(
                f"sparsity leaves out entries of row {row} that are not 0: with all of x moved, f[{row}] changes by "
                f"{change:.3g}, and by {float(predicted[row]):.3g} according to the entries that sparsity has"
            )

    def arranged(self, values):
        """Values of the entries as the user gets them."""
        if not self.sparse:
            return values.reshape(self.shape)
        import scipy.sparse

        return scipy.sparse.csr_array((values, self.indices, self.indptr), shape=self.shape)
