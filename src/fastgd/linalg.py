"""Linear algebra that several rooms use."""

import contextlib
import functools
import math

import numpy as np

# Eigenvalues below this share of the largest are rounding error: along their directions the columns are collinear, and
# no step is taken there.
ROUNDING = 1e-13


def euclidean_norm(array):
    """Euclidean norm in float64, without intermediate overflow or underflow."""
    if array.size <= 32:  # faster than the calls of NumPy below
        return math.hypot(*array.reshape(-1).tolist())
    with np.errstate(all="ignore"):
        flat = array.reshape(-1).astype(np.float64)
        norm = float(np.sqrt(flat @ flat))
        if norm == 0 or not np.isfinite(norm):
            largest = float(np.max(np.abs(flat), initial=0.0))
            if 0 < largest < np.inf:
                norm = largest * float(np.sqrt(np.sum((flat / largest) ** 2)))
        return norm


def soft_threshold(V, thresholds):
    """sign(V)·max(|V| − thresholds, 0): the proximal step of a penalty Σ thresholds·|V|."""
    return np.sign(V) * np.maximum(np.abs(V) - thresholds, 0)


def least_subgradient(w, g, l1, penalised, lower, upper):
    """The shortest subgradient of F + l1·‖w‖₁ within the bounds, given the gradient g of F; it is 0 at the minimum.

    The penalty applies to the first `penalised` entries; `lower` and `upper` are empty where there are no bounds.
    """
    least = g.astype(np.float64)
    if l1:
        p, inner = w[:penalised], least[:penalised]
        least[:penalised] = np.where(p == 0, soft_threshold(inner, l1), inner + l1 * np.sign(p))
    if lower.size:
        least[((w <= lower) & (least > 0)) | ((w >= upper) & (least < 0))] = 0
    return least


def softmax(h):
    """e^h / Σ e^h of each row."""
    e = np.array(h.T, order="C")  # NumPy is slow where it reduces few numbers at a time
    e -= e.max(axis=0)
    np.exp(e, out=e)
    e /= e.sum(axis=0)
    return np.ascontiguousarray(e.T)


def equilibrium(G):
    """Square roots of the diagonal of a positive semidefinite matrix, 1 where it is 0: G/(qqᵀ) has unit diagonal."""
    diagonal = np.diag(G)
    return np.sqrt(np.where(diagonal > 0, diagonal, 1.0))


def add_to_diagonal(G, values):
    """G + diag(values), in place."""
    np.einsum("ii->i", G)[...] += values


class Cholesky:
    """The factor of a positive definite matrix by LAPACK, without the checks of scipy.linalg's functions.

    Attributes
    ----------
    reciprocal : float
        About the reciprocal of the condition number in the 1-norm; 0 where the matrix is not positive definite.
    """

    def __init__(self, G, overwrite=False):
        from scipy.linalg import lapack  # takes 0.15 s the first time

        # The transpose of a symmetric matrix in C order is the same matrix in LAPACK's order: nothing is copied.
        norm = lapack.dlange("1", G.T)
        self._factor, failed = lapack.dpotrf(G.T, clean=0, overwrite_a=overwrite)
        self.reciprocal = 0.0 if failed else lapack.dpocon(self._factor, norm)[0]
        self._solve = lapack.dpotrs

    def solve(self, right):
        return self._solve(self._factor, right)[0]


class Inverse:
    """The function g → G⁻¹g; by a pseudo-inverse where G is singular to within rounding error.

    G is scaled to a diagonal of ones first, so that a large penalty on one column does not make the eigenvalues of the
    others look like rounding errors.

    Parameters
    ----------
    sampled : bool
        Whether G is of some rows only, so that F may have curvature along the directions that G lacks.
    ridge : (d,)
        The penalty's part of the diagonal, a lower bound of the curvature.

    Attributes
    ----------
    reciprocal : float
        About the reciprocal of the condition number of G; 0 for a pseudo-inverse.
    """

    def __init__(self, G, sampled, ridge):
        original, self._root = G, equilibrium(G)
        G = G / self._root
        G /= self._root[:, None]
        self._factor = Cholesky(G, overwrite=True)
        self.reciprocal = self._factor.reciprocal
        if not self.reciprocal > len(G) * ROUNDING:
            self.reciprocal, G = 0.0, original / self._root / self._root[:, None]
            least = (ridge / self._root**2)[ridge > 0]
            self._decompose(G, sampled, float(least.min()) if least.size else 0.0)

    def _decompose(self, G, sampled, least):
        sizes, basis = np.linalg.eigh(G)
        if sampled:
            sizes = np.maximum(sizes, 1e-6 * sizes[-1])  # the curvature taken where these rows show none
        floor = len(G) * ROUNDING * sizes[-1]
        if least > len(G) * np.finfo(np.float64).eps * sizes[-1]:  # smaller ones are the penalty and rounding
            sizes, floor = np.maximum(sizes, least), 0.0
        kept = sizes > floor
        self._basis, self._sizes = basis[:, kept], sizes[kept]

    def __call__(self, g):
        scale = self._root if g.ndim == 1 else self._root[:, None]
        if self.reciprocal > 0:
            return self._factor.solve(g / scale) / scale
        return self._basis @ ((self._basis.T @ (g / scale)).T / self._sizes).T / scale


def lanczos(multiply, start, steps):
    """Lanczos' method with full reorthogonalisation, for the ends of the spectrum of a symmetric operator.

    Parameters
    ----------
    multiply : callable
        v → Av.
    start : (d,) float64
    steps : int
        At most.

    Yields
    ------
    T : (k, k)
        After k steps: the operator in the basis, whose eigenvalues are the Ritz values.
    basis : (k, d)
    beta : float
        Norm of the residual; an eigenvector u of T has |Av − θv| = beta·|u[−1]|. At 0 the eigenvalues are exact.
    """
    basis = np.empty((steps, len(start)))
    basis[0] = start / euclidean_norm(start)
    T = np.zeros((steps, steps))
    for k in range(steps):
        v, earlier = multiply(basis[k]), basis[: k + 1]
        T[k, k] = v @ basis[k]
        # Twice, because cancellation in the first pass leaves rounding error ("twice is enough": Giraud, Langou &
        # Rozložník, Comput. Math. Appl. 50 (2005)); without it rounding makes copies of the largest eigenvalue.
        for _ in range(2):
            v = v - earlier.T @ (earlier @ v)
        beta = euclidean_norm(v)
        yield T[: k + 1, : k + 1], earlier, beta
        if k + 1 < steps:
            T[k, k + 1] = T[k + 1, k] = beta
            basis[k + 1] = v / beta


# Multiplications, some 25 µs of BLAS, from which setting its number of threads, which takes some 7 µs, is worth it.
MUCH_WORK = 1 << 20


def one_blas_thread(products):
    """A context in which BLAS uses one thread, if threadpoolctl is installed and there is enough work.

    BLAS threads synchronise after each piece of rows, which on a busy machine can take ten times as long as the
    product; and results would depend on their number.

    Parameters
    ----------
    products : int
        Multiplications that will be made in the context.
    """
    if products < MUCH_WORK:
        return contextlib.nullcontext()
    try:
        controller = _controller()
    except ImportError:
        return contextlib.nullcontext()
    return controller.limit(limits=1, user_api="blas")


@functools.cache
def _controller():
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()
