"""Classification of stationary points by the Hessian's eigenvalues, and steps away from saddle points.

In many variables descent stalls at saddle points more often than at poor minima: Dauphin et al., "Identifying and
attacking the saddle point problem in high-dimensional non-convex optimization", NeurIPS 2014. All eigenvalues are
computed where there are few variables, and the smallest and largest by Lanczos' method where there are many. Products
with the Hessian are differences of gradients.
"""

from __future__ import annotations

import typing

import numpy as np

from fastgd import validation
from fastgd.engine.result import _Record
from fastgd.linalg import euclidean_norm, lanczos
from fastgd.objective import Function, LinearObjective
from fastgd.objective.variables import Columns, OfFunction

if typing.TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from fastgd.types import Doubles, Gradient, ScalarFunction

# Up to so many variables the Hessian is formed: it costs as many gradients as Lanczos' method takes otherwise.
DENSE_VARIABLES = 32


class Classification(_Record):
    """What the curvature at a point says of it. Every entry is an attribute and a key.

    Attributes
    ----------
    kind : {"minimum", "maximum", "saddle", "saddle or maximum", "flat"}
        By the eigenvalues λ of the Hessian, each with its own error: all positive; all negative; some of either sign;
        some negative and the others zero as far as can be told; or none negative and some zero as far as can be told,
        so that the second order does not decide. That the point is stationary is for the caller to know: see
        `grad_norm`.
    eigenvalues : ndarray
        All of them, ascending; of many variables, the smallest and the largest.
    direction : ndarray, of the shape of x
        The unit vector along which the curvature is smallest: from a saddle or a maximum, the way down.
    grad_norm : float
        The Euclidean norm of the gradient at the point.
    message : str
    nfev, njev : int
        Evaluations that this took.
    """

    kind: typing.Literal["minimum", "maximum", "saddle", "saddle or maximum", "flat"]
    eigenvalues: Doubles
    direction: Doubles
    grad_norm: float
    message: str
    nfev: int
    njev: int


def classify(
    f: ScalarFunction | LinearObjective, x: ArrayLike, grad: Gradient | None = None, *, seed: int | None = None
) -> Classification:
    """Whether x is a minimum, a maximum or a saddle of f, by the eigenvalues of its Hessian there.

    Up to 32 variables the Hessian is formed from 2d gradients, and another 4d tell its eigenvalues and their errors;
    beyond, Lanczos' method takes some tens of Hessian-vector products, of two gradients each, to the two ends of the
    spectrum.

    Parameters
    ----------
    f : callable or LinearObjective
        As for `gradient_descent`.
    x : array_like
        The point, in general the end of a run.
    grad : callable, optional
        The gradient of f. Without it gradients are numerical, which doubles the order of the differences and leaves
        about six digits.
    seed : int, optional
        Of the vector that Lanczos' method starts from; 0 without it.

    Returns
    -------
    Classification

    Raises
    ------
    TypeError, ValueError
        An argument is not what it should be, or f or its gradient is not finite around x.

    Examples
    --------
    >>> found = classify(lambda x: x[0] ** 2 - x[1] ** 2 + x[1] ** 4 / 4, [0.0, 0.0])
    >>> found.kind
    'saddle'
    >>> found.eigenvalues.round(3)
    array([-2.,  2.])
    >>> abs(found.direction).round(3)
    array([0., 1.])
    """
    seed = 0 if seed is None else validation.count(seed, "seed")
    if isinstance(f, LinearObjective):
        if grad is not None:
            raise TypeError("grad is for a function; an objective has its own gradient")
        variables = Columns(f, validation.weights(x, "x", f.shape, f.dtype))
    else:
        x = validation.real_array(x, "x", dtype=np.float64)
        variables = OfFunction(Function(f, grad, x.shape), x)
    z = variables.start
    if not z.size:
        raise ValueError("x must have at least one entry")
    _, gradient = variables.evaluate(z, False)
    norm = euclidean_norm(gradient)
    spectrum = Spectrum(variables, z, np.random.default_rng(seed))
    return Classification(
        kind=spectrum.kind,
        eigenvalues=spectrum.values,
        direction=spectrum.vectors[:, 0].reshape(z.shape),
        grad_norm=norm,
        message=f"{spectrum.sentence}; the gradient norm is {norm:.3g}",
        nfev=variables.nfev,
        njev=variables.njev,
    )


class Spectrum:
    """Eigenvalues and eigenvectors of the Hessian at a point of a variables: all, or those at both ends."""

    def __init__(self, variables, z, rng):
        self._variables, self._z = variables, z
        eps = float(np.finfo(z.dtype).eps)
        numerical = getattr(variables.objective, "grad", True) is None
        # A numerical gradient carries an error of about eps^(2/3), which needs the wider step.
        self._width = eps**0.25 if numerical else eps ** (1 / 3)
        self.whole = z.size <= DENSE_VARIABLES
        _, vectors, residuals = self._dense() if self.whole else self._lanczos(rng)
        # An eigenvector of the whole matrix is hardly off, where an entry may be by more than the smaller eigenvalues.
        long = 2 * self._width * max(1.0, euclidean_norm(z))
        along, further = (np.array([v @ self._times(v, width) for v in vectors.T]) for width in (long / 2, long))
        # The error of an eigenvalue: what the curvature along its vector changes by over twice the width, and rounding
        # of the gradients, whose terms are no larger than the largest curvature makes them.
        terms = np.abs(along).max() * max(1.0, euclidean_norm(z))
        rounding = 8 * eps * terms / long
        if numerical:
            _, error = variables.gradient_and_error(z)
            rounding += 8 * euclidean_norm(error) / long
        order = np.argsort(along)
        self.values, self.vectors = along[order], vectors[:, order]
        self._nothing = (residuals + 2 * np.abs(further - along) + rounding)[order]

    def _gradient(self, z):
        with np.errstate(over="ignore", invalid="ignore"):
            gradient = self._variables.evaluate(z.astype(self._z.dtype), False)[1].reshape(-1).astype(np.float64)
        if not np.all(np.isfinite(gradient)):
            raise ValueError(f"the gradient is not finite near x = {validation.show_point(self._z)}, at {z}")
        return gradient

    def _times(self, v, width=None):
        """H·v, v being of unit length."""
        width = self._width * max(1.0, euclidean_norm(self._z)) if width is None else width
        move = (width * v).reshape(self._z.shape)
        return (self._gradient(self._z + move) - self._gradient(self._z - move)) / (2 * width)

    def _dense(self):
        d, flat = self._z.size, self._z.reshape(-1)
        H = np.empty((d, d))
        for i, unit in enumerate(np.eye(d)):
            H[i] = self._times(unit, self._width * max(1.0, abs(float(flat[i]))))
        return *np.linalg.eigh((H + H.T) / 2), 0.0

    def _lanczos(self, rng):
        """The smallest and the largest, by Lanczos' method."""
        ends = [0, -1]
        for T, basis, beta in lanczos(self._times, rng.standard_normal(self._z.size), min(self._z.size, 150)):  # noqa: B007
            values, vectors = np.linalg.eigh(T)
            residuals = beta * np.abs(vectors[-1, ends])
            if np.all(residuals <= 0.01 * np.abs(values[ends])):  # a residual bounds the error of its Ritz value
                break
        return values[ends], basis.T @ vectors[:, ends], residuals

    @property
    def negative(self):
        """Which eigenvalues are below zero by more than their error."""
        return self.values < -self._nothing

    @property
    def positive(self):
        return self.values > self._nothing

    @property
    def kind(self):
        if self.negative.any():
            if self.positive.any():
                return "saddle"
            return "maximum" if self.negative.all() else "saddle or maximum"
        return "minimum" if self.positive.all() else "flat"

    @property
    def sentence(self):
        smallest = f"the smallest curvature is {self.values[0]:.3g}"
        if self.kind == "flat":
            return f"{smallest}, which may be zero as far as can be told: the second order does not decide"
        if self.kind == "saddle or maximum":
            count = int(np.sum(~self.negative))
            return (
                f"{smallest}: at least one direction down, {'one' if count == 1 else count} undetermined, where the "
                "curvature may be zero as far as can be told"
            )
        return f"{smallest}, the largest {self.values[-1]:.3g}: a {self.kind}"


def escape(variables, z, fun, rng):
    """A point below z, where z is near a saddle or a maximum; None where no curvature is negative.

    z is moved at random, uniformly in a small ball (Jin et al., "How to escape saddle points efficiently", ICML 2017),
    because at the saddle itself the gradient says nothing. From there goes, where the whole spectrum is known, a
    saddle-free Newton step −|H|⁻¹∇F (Dauphin et al. 2014), and then steps along its part of negative curvature, twice
    as long each time, for as long as the value falls. Where only the ends of the spectrum are known, that part is along
    the eigenvector of the smallest.

    Parameters
    ----------
    variables, z
        Variables and a point in them.
    fun : float or None
        The value at z; evaluated where it is None.
    rng : numpy Generator

    Returns
    -------
    (ndarray or None, Spectrum)
    """
    spectrum = Spectrum(variables, z, rng)
    if not spectrum.negative.any():
        return None, spectrum
    fun = variables.value(z) if fun is None else fun
    radius = 1e-4 * max(1.0, euclidean_norm(z))
    # Uniform in the ball: a direction, and a length whose d-th power is uniform.
    away = radius * rng.uniform() ** (1 / z.size) * _unit(rng.standard_normal(z.size))
    slope = spectrum.vectors.T @ spectrum._gradient(z + away.reshape(z.shape))
    values, vectors, negative = np.abs(spectrum.values), spectrum.vectors, spectrum.negative
    newton = -slope / np.maximum(values, 1e-7 * values.max())
    down = vectors @ np.where(negative, newton, 0.0)
    step = away + vectors @ newton if spectrum.whole else vectors @ (negative * (vectors.T @ away)) + down
    best, lowest = None, fun
    for sign in (1, -1):
        for doubling in range(40):
            new = z + (step + sign * (2.0**doubling - 1) * down).reshape(z.shape).astype(z.dtype)
            with np.errstate(over="ignore", invalid="ignore"):
                value = variables.value(new)
            if value < lowest:
                best, lowest = new, value
            elif best is not None or doubling == 12:  # no lower value on this side
                break
        if best is not None:
            break
    return best, spectrum


class Guard:
    """Moves a run away from saddle points and maxima.

    Attributes
    ----------
    left : int
        Saddles and maxima that the run has been led away from.
    """

    def __init__(self, seed):
        self._seed, self._at = seed, None
        self.left, self._longest, self._checked, self._spectrum = 0, 0.0, np.inf, None

    def way_on(self, variables, point, at_end):
        """Where to go on from a point near a saddle or a maximum; None from anywhere else."""
        self._longest = max(self._longest, point.norm)
        # Near a stationary point the gradient is a thousandth of the longest since the last one.
        is_near = point.norm <= 1e-3 * self._longest and (self._checked == np.inf or point.norm < 1e-3 * self._checked)
        if not (at_end or is_near):
            return None
        rng = np.random.default_rng([self._seed, self.left])
        found, self._spectrum = escape(variables, point.z, point.fun, rng)
        self._at = point.z
        if found is None:
            self._checked = point.norm
        else:
            self.left, self._longest, self._checked = self.left + 1, 0.0, np.inf
        return found

    def sentence(self, variables, z):
        """The part of the result's message about the curvature at the end of a run."""
        if self._at is not z:
            self._spectrum = Spectrum(variables, z, np.random.default_rng(self._seed))
        left = f"; {self.left} saddle(s) were left on the way" if self.left else ""
        advice = ", so raise step_num" if self._spectrum.negative.any() else ""
        return f"; {self._spectrum.sentence}{advice}{left}"

    @property
    def state(self):
        """What a checkpoint keeps."""
        return {"left": self.left, "_longest": self._longest, "_checked": self._checked}

    @state.setter
    def state(self, saved):
        vars(self).update(saved)


def _unit(v):
    return v / euclidean_norm(v)
