"""Jacobians of vector-valued functions by finite differences, dense or sparse.

Every entry ∂fᵢ/∂xⱼ is a slope of its own, so what `stencils` and `refine` do for the coordinates of a gradient they do
here for entries. `Entries` is the bridge: it looks like a sampler with one coordinate for each entry, and evaluates f
once for all entries whose columns can move together.
"""

from __future__ import annotations

import collections
import copy
import typing
from typing import Generic, Literal, NamedTuple, TypeVar, Unpack

import numpy as np

from fastgd import forms, validation
from fastgd.derivatives import complex_step, noise, refinement, stencils
from fastgd.derivatives import sparsity as patterns
from fastgd.derivatives.gradient import NAN_POLICIES, flat_options
from fastgd.derivatives.stencils import EPSILON, Stencil
from fastgd.derivatives.vectorial import VectorSampler
from fastgd.kernels.codes import MISFIT_OF_NOISE, RELATIVE_STEP, misfit_share

if typing.TYPE_CHECKING:
    from numpy.typing import ArrayLike
    from scipy.sparse import csr_array

    from fastgd.types import Doubles, SchemeOptions, Sparse, Steps, VectorFunction

Matrix = TypeVar("Matrix")  # an ndarray, or a CSR array where there is a pattern


class JacobianEstimate(NamedTuple, Generic[Matrix]):
    """A Jacobian with what is known of it.

    Attributes
    ----------
    jacobian : (m, d) ndarray or CSR array
    error : (m, d) ndarray or CSR array
        Estimated absolute error of each entry; inf where it cannot be determined.
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
    f: VectorFunction, x: ArrayLike, h: Steps = None,
    *, full_output: Literal[False] = False, sparsity: None = None, **options: Unpack[SchemeOptions],
) -> Doubles: ...  # fmt: skip
@typing.overload
def numerical_jacobian(
    f: VectorFunction, x: ArrayLike, h: Steps = None,
    *, full_output: Literal[False] = False, sparsity: Sparse | ArrayLike, **options: Unpack[SchemeOptions],
) -> csr_array: ...  # fmt: skip
@typing.overload
def numerical_jacobian(
    f: VectorFunction, x: ArrayLike, h: Steps = None,
    *, full_output: Literal[True], sparsity: None = None, **options: Unpack[SchemeOptions],
) -> JacobianEstimate[Doubles]: ...  # fmt: skip
@typing.overload
def numerical_jacobian(
    f: VectorFunction, x: ArrayLike, h: Steps = None,
    *, full_output: Literal[True], sparsity: Sparse | ArrayLike, **options: Unpack[SchemeOptions],
) -> JacobianEstimate[csr_array]: ...  # fmt: skip
def numerical_jacobian(
    f, x, h=None, *, scheme="central", bounds=None, typical_x=None, vectorized=False, workers=None, args=(),
    nan_policy="raise", full_output=False, sparsity=None,
):  # fmt: skip
    """Jacobian of a vector-valued function, by finite differences.

    Parameters
    ----------
    f : callable
        f(x, *args) returns an array of m real numbers. Arrays of more dimensions are flattened, and a number counts as
        m = 1. Each call gets a private copy of x, and what it returns is copied at once.
    x : array_like of float, dict or pandas Series
        d numbers of any shape. Never written to. With names as in `numerical_gradient`: the Jacobian is then a dict of
        arrays (m, *shape), or a DataFrame of m rows.
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
    validation.choice(scheme, "scheme", (*stencils.SCHEMES, "richardson", "complex"))
    validation.choice(nan_policy, "nan_policy", NAN_POLICIES)
    full_output = validation.boolean(full_output, "full_output")
    names = forms.flattened(x)
    if names is not None:
        if sparsity is not None:
            raise ValueError("sparsity is for an x that is an array: a sparse Jacobian has no names")
        options = flat_options(names, h, bounds, typical_x, vectorized)
        found = numerical_jacobian(
            names.function(f), names.flat, scheme=scheme, workers=workers, args=args, nan_policy=nan_policy,
            full_output=full_output, **options,
        )  # fmt: skip
        return JacobianEstimate(*map(names.restore, found[:3]), found.nfev) if full_output else names.restore(found)
    x = validation.real_array(x, "x", dtype=np.float64)
    limits = stencils.limits(bounds, x)
    sampler = VectorSampler(f, np.ascontiguousarray(x), args, vectorized, workers)
    positions = None if sparsity is None else patterns.pattern(sparsity, x.size)
    group = np.arange(x.size) if positions is None else patterns.group_columns(positions)
    want_error = full_output or positions is not None
    found, entries = slopes(sampler, group, positions, scheme, h, typical_x, limits, want_error)
    if nan_policy == "raise":
        entries.refuse_nonfinite(found.value)
    steps = np.full(x.size, np.inf)
    np.minimum.at(steps, entries.columns, found.step)
    if positions is not None:
        # Steps of forward differences are too short to show what a pattern leaves out.
        own = stencils.sized(x, RELATIVE_STEP)
        entries.check_pattern(found, np.maximum(steps, own) if scheme in ("forward", "backward") else steps, limits)
    steps[np.isinf(steps)] = np.nan  # a column without entries
    if not full_output:
        return entries.arranged(found.value)
    return JacobianEstimate(
        entries.arranged(found.value), entries.arranged(found.error), steps.reshape(x.shape), sampler.nfev
    )


def slopes(sampler, group, positions, scheme, h, typical_x, limits, want_error):
    """All entries, as `refinement.Slopes` and `Entries`."""
    x = sampler.x.reshape(sampler.shape)
    if scheme == "complex":
        return complex_slopes(sampler, group, positions, h, typical_x, limits)
    if scheme == "richardson":
        sampler.here()  # tells m
        entries = Entries(sampler, group, positions)
        base = stencils.sized(x, RELATIVE_STEP, h, typical_x)
        return entries.extrapolated(base, limits, h is not None), entries
    steps = stencils.steps(x, scheme, h, typical_x)
    stencil = Stencil(sampler.x, steps, scheme, limits)
    groups, points = members(group), stencil.points.shape[1]
    moves = [(columns, stencil.points[columns, k]) for columns in groups for k in range(points)]
    values = sampler.at(moves) if moves else np.empty((0, sampler.here().size))
    entries = Entries(sampler, group, positions)
    values = values.reshape(len(groups), points, sampler.m)
    if h is not None and not want_error and scheme == "central" and positions is limits is None:
        with np.errstate(all="ignore"):
            plain = ((values[:, 0] - values[:, 1]) / stencil.distance).T.reshape(-1)
        return refinement.Slopes(plain, plain, stencil.steps[entries.columns]), entries
    return entries.differences(values, scheme, steps, limits, h is None, want_error), entries


def complex_slopes(sampler, group, positions, h, typical_x, limits):
    """Im f(x + ihⱼeⱼ)/hⱼ, compared with real differences, as f may not be analytic."""
    x = sampler.x.reshape(sampler.shape)
    steps = stencils.sized(x, complex_step.STEP, h, typical_x)
    imaginary = VectorSampler(sampler.f, x.astype(complex), sampler.args, sampler.vectorized, sampler.workers)
    groups = members(group)
    values = imaginary.at([(columns, imaginary.x[columns] + 1j * steps[columns]) for columns in groups])
    sampler.m, sampler.nfev = imaginary.m, imaginary.nfev
    entries = Entries(sampler, group, positions)
    value = values.imag[entries.group[entries.columns], entries.rows] / steps[entries.columns]
    if len(value) and not entries.agree_along_a_line(value, limits):
        entries.refuse_not_analytic(value, limits)
    return refinement.Slopes(value, 16 * EPSILON * np.abs(value), steps[entries.columns]), entries


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

    not_analytic = 1e-5  # the share of max(1, |entry|) from which on a complex step differs from real differences

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
        self.seen, self.places = [], {}  # what f gave, and where in that list for column + 1j·value

    def part(self, chosen):
        """Some of the entries, by number."""
        some = copy.copy(self)
        some.rows, some.columns, some.x = self.rows[chosen], self.columns[chosen], self.x[chosen]
        some._forget()
        return some

    def here(self):
        """f(x) for each entry."""
        return self.sampler.here()[self.rows]

    def attempt(self, entries, points):
        """`at`, where f may raise what a border of its domain may be the reason of."""
        return self.at(entries, points)

    def at(self, entries, points):
        """f[rows] with x[columns] = points, for these entries."""
        keys = np.empty(len(points), complex)  # without arithmetic, which makes NaN of an infinite imaginary part
        keys.real, keys.imag = self.columns[entries], points
        wanted, number = np.unique(keys, return_inverse=True)
        self._evaluate([key for key in wanted.tolist() if key not in self.places])
        places = np.array([self.places[key] for key in wanted.tolist()], np.intp)
        return np.array(self.seen)[places[number], self.rows[entries]]

    def _evaluate(self, keys):
        """Evaluate f with these columns at these values: of each group at once, a column at one value at a time."""
        turns, together = collections.Counter(), {}
        for key in keys:
            column = int(key.real)
            together.setdefault((self.group[column], turns[column]), []).append(key)
            turns[column] += 1
        together = [np.array(together[turn]) for turn in sorted(together)]
        moves = [(some.real.astype(np.intp), some.imag) for some in together]
        for some, values in zip(together, self.sampler.attempt(moves) if moves else (), strict=True):
            self.places |= dict.fromkeys(some.tolist(), len(self.seen))
            self.seen.append(values)

    def limits(self, limits):
        return None if limits is None else tuple(bound[self.columns] for bound in limits)

    def differences(self, values, scheme, steps, limits, searches, want_error):
        """`refinement.Slopes` by one of the formulas of `stencils`.

        Parameters
        ----------
        values : (groups, points, m) float64
            What f gave at each point of a stencil, the columns of a group moved together.
        searches, want_error : bool
            Look again at doubtful ones; estimate the errors.
        """
        group, sampler = self.group[self.columns], self.sampler
        around = np.stack([of_point[group, self.rows] for of_point in values.swapaxes(0, 1)], axis=1)
        stencil = Stencil(self.x, steps[self.columns], scheme, self.limits(limits))
        here = self.here()[:, None] if stencil.needs_here else None
        slopes = stencil.slopes(around, here)
        if not len(slopes) or not (searches or want_error):
            return refinement.Slopes(slopes, slopes, stencil.steps)
        line = noise.Line(sampler.x, steps * stencil.central, np.zeros(sampler.x.size), limits)
        probes = sampler.on(line.points)
        middle = sampler.here() if stencil.needs_here or not line.two_sided else values[0, :2].mean(axis=0)
        every = np.concatenate(
            [values.reshape(-1, self.shape[0]), probes, [sampler.here()] if here is not None else probes[:0]]
        )
        misfits = line.misfits(self.arranged(slopes), probes, middle)
        share = misfit_share(sampler.x.size) if stencil.misfit_share < MISFIT_OF_NOISE else MISFIT_OF_NOISE
        found, doubt, _ = refinement.judged(stencil, around, slopes, here, every, misfits, share, self.rows)
        if not searches or not doubt.any():
            return found
        level, constant = self.level(every, limits, line, misfits[0], noise.largest(every), probes)
        flat = constant[self.rows]
        unseen = noise.unseen(self.x, self.here(), level[self.rows])
        found = refinement.Slopes(np.where(flat, 0.0, slopes), np.where(flat, unseen, found.error), found.step)
        base = stencil.central_steps()
        side = stencil.kept_side(self.limits(limits))
        again = np.flatnonzero(doubt & ~flat)
        return self.pieces(
            again,
            found,
            lambda some, e: refinement.mend(
                some,
                refinement.Slopes(*(part[e] for part in found)),
                np.arange(len(e)),
                level[some.rows],
                base[e],
                None if side is None else tuple(bound[e] for bound in side),
            ),
        )

    def level(self, every, limits, line=None, misfit=None, size=None, probes=None):
        """The noise of each row of f, and whether it is constant."""
        sampler = self.sampler
        level, constant = noise.level(sampler.on, sampler.x, every, limits)
        if line is not None and line.two_sided:
            hidden = misfit > noise.EXPLAINED * level
            if hidden.any():  # the jump is looked for in the row with the largest misfit alone
                row = int(np.argmax(np.where(hidden, misfit / size, 0.0)))
                found = noise.jump(
                    lambda points: sampler.on(points)[:, row],
                    sampler.x,
                    line.v,
                    (probes[1, row], probes[0, row]),
                    max(16 * EPSILON * size[row], misfit[row] / 2**16),
                )
                level = np.where(hidden, np.maximum(level, found / 2 / size[row] * size), level)
        return level, constant

    def extrapolated(self, base, limits, fixed):
        """Richardson's scheme for each entry; see `refinement.richardson`."""
        everything = np.arange(len(self.x))
        found = refinement.Slopes(*(np.empty(len(self.x)) for _ in range(3)))
        if not len(self.x):
            return found
        level, _ = self.level(self.sampler.here()[None], limits)
        return self.pieces(
            everything,
            found,
            lambda some, e: refinement.richardson(
                some, base[some.columns], level[some.rows], some.limits(limits), fixed, False
            ),
        )

    def pieces(self, chosen, found, look):
        """`found` with look(some entries, their numbers) in place of the chosen, a few groups at a time."""
        group = self.group[self.columns[chosen]]
        order = np.argsort(group, kind="stable")
        borders = np.flatnonzero(np.diff(group[order])) + 1
        counts = borders // (1 << 16)  # entries at a time: their values on all steps are held in memory
        found = refinement.Slopes(*(part.copy() for part in found))
        for e in np.split(chosen[order], borders[np.flatnonzero(np.diff(counts, prepend=0))]):
            if len(e):
                for whole, piece in zip(found, look(self.part(e), e), strict=True):
                    whole[e] = piece
        return found

    def _along(self, matrix, steps, limits):
        """By how much f changes otherwise than a Jacobian says along a line, (m,), its rounding there, and the Line."""
        line = noise.Line(self.sampler.x, steps, np.zeros(len(steps)), limits)
        ends = self.sampler.on(line.points[:2])
        here = ends[0] if line.two_sided else self.sampler.here()
        off, _ = line.misfits(matrix, (*ends, ends[0]), here)
        return off, 32 * EPSILON * np.max(np.abs(ends), axis=0), line

    def agree_along_a_line(self, value, limits):
        """Whether differences along a line on which all coordinates move are what the entries say."""
        sampler = self.sampler
        steps = RELATIVE_STEP / noise.PROBE * np.sqrt(sampler.x.size) * np.maximum(1.0, np.abs(sampler.x))
        changes = []
        with np.errstate(all="ignore"):
            for times in (4.0, 1.0):
                matrix = self.arranged(value)
                off, rounding, line = self._along(matrix, times * steps, limits)
                changes.append(off <= self.not_analytic * (abs(matrix) @ np.abs(line.v)) + 2 * rounding)
            return bool(np.all(changes[0] | changes[1]))

    def refuse_not_analytic(self, value, limits):
        """Raise for an entry that real differences do not confirm."""
        real, error, _ = self.extrapolated(stencils.sized(self.sampler.x, RELATIVE_STEP), limits, False)
        with np.errstate(all="ignore"):
            off = ~(np.abs(real - value) <= 10 * error + self.not_analytic * np.maximum(1.0, np.abs(real)))
        off &= np.isfinite(value)  # what is not finite is for `nan_policy`
        if off.any():
            e = int(np.argmax(off))
            complex_step.refuse(f"entry {self.rows[e]} and coordinate {self.columns[e]}", value[e], real[e])

    def refuse_nonfinite(self, slopes):
        """Raise if a slope is no finite number."""
        bad = np.flatnonzero(~np.isfinite(slopes))
        if len(bad):
            i, j = int(self.rows[bad[0]]), int(self.columns[bad[0]])
            where = validation.at_point(self.sampler.point((slice(0, 0), 0.0)), j)
            raise ValueError(
                f"f returned NaN or an infinity as entry {i}, {where}; a derivative needs finite values there"
            )

    def check_pattern(self, found, steps, limits):
        """Raise if f changes otherwise than the entries say when all coordinates move, those of a scale at a time."""
        x = self.sampler.x
        if not x.size:
            return
        # Steps of the complex scheme move no real number, and columns without entries have none.
        own = stencils.sized(x, RELATIVE_STEP)
        steps = np.where(np.isfinite(steps) & (x + steps != x), steps, own) * np.sqrt(x.size) / noise.PROBE
        scale = np.floor(np.log10(steps / np.min(steps)) / 2)
        matrix, errors = self.arranged(found.value), self.arranged(found.error)
        for one in np.unique(scale):
            for times in (1.0, 1 / 32):  # what is truncation is not there at a shorter step
                with np.errstate(all="ignore"):
                    off, rounding, line = self._along(matrix, np.where(scale == one, times * steps, 0.0), limits)
                    moved = np.abs(line.points[0] - x)
                    # Their errors, a small share of what the pattern has in that row, and rounding.
                    allowed = 8 * (errors @ moved) + 1e-6 * (abs(matrix) @ moved)
                    wrong = off > allowed + rounding
                if not wrong.any():
                    break
            if wrong.any():
                row = int(np.argmax(wrong))
                raise ValueError(
                    f"sparsity leaves out entries of row {row} that are not 0: with all of x moved, f[{row}] changes "
                    f"by {float(off[row]):.3g} more or less than the entries that sparsity has say"
                )

    def arranged(self, values):
        """Values of the entries as the user gets them."""
        if not self.sparse:
            return values.reshape(self.shape)
        import scipy.sparse

        return scipy.sparse.csr_array((values, self.indices, self.indptr), shape=self.shape)
