"""Where the values and gradients of many runs on one objective come from: the routes of `sweep`.

    Passes       one pass over X for all runs; their weights are the columns of one matrix
    Quadratic    a squared loss with the identity as the quadratic function that it is, X read once

Weights are (columns, K runs, outputs), penalties (K,). The steps of the runs are taken in `sweep.py`.
"""

import functools
import itertools

import numpy as np

from fastgd.data import threads
from fastgd.objective import curvature

# A kernel call takes at most so many columns: with more, what it keeps for a block of rows leaves the near caches.
# Calls that follow each other take the same piece of the rows, which has so many values that it stays in cache.
CALL_COLUMNS = 32
PIECE_VALUES = 1 << 17


class Passes:
    """Values and gradients of all runs by one pass over X."""

    def __init__(self, objective):
        self.objective, self.dtype = objective, objective.dtype
        self._sources, self._curvatures = {}, {}

    def evaluate(self, weights, penalties):
        """Value of each run, (K,), and gradients, (columns, K, outputs), at the weights (columns, K, outputs)."""
        o = self.objective
        with np.errstate(all="ignore"):
            totals, gradient = self._sums(weights)
            return _penalise(o, o.factor * totals, o.factor * gradient, weights, penalties)

    def _sums(self, weights):
        """Σ loss of each run and its gradient by the weights, in float64; without the factor.

        No kernel call needs targets of its own in memory. Where the outputs stand alone, the runs are the columns of a
        call, one output at a time, and the targets are repeated with a stride of 0. A softmax keeps the outputs of a
        run together, and so do more outputs than runs: then each run has a call.
        """
        o, d = self.objective, self.objective.rows.d
        K, k = weights.shape[1:]
        by_output = k <= K and o.activation != "softmax"
        if by_output:
            groups = [np.s_[:, runs, c] for c in range(k) for runs in _even_slices(K, CALL_COLUMNS)]
        else:
            groups = [np.s_[:, run, :] for run in range(K)]
        calls = []
        for group in groups:
            part = np.ascontiguousarray(weights[group])
            columns = part.shape[1]
            intercepts = part[d] if o.fit_intercept else np.zeros(columns, part.dtype)
            source = self._repeated(group[2], columns) if by_output else o.rows
            calls.append((group, source, part[:d], intercepts))

        def sums(block):
            totals, gradient = np.zeros(K), np.zeros(weights.shape)
            for piece in _pieces(block, d) if len(calls) > 1 and o.rows.in_memory else [block]:
                for group, source, W, b in calls:
                    losses, grad_W, grad_b = source.sums(piece, W, b, None, *o.codes, True)
                    totals[group[1]] += losses if by_output else losses.sum()
                    part = gradient[group]
                    part[:d] += grad_W
                    if o.fit_intercept:
                        part[d] += grad_b
            return totals, gradient

        if not o.rows.in_memory:
            return sums(None)
        jobs = o._jobs if o.rows.values * K * k >= threads.THREAD_VALUES else 1
        return threads.tree_sum(threads.over_blocks(sums, o.rows.blocks(), jobs))

    def _repeated(self, output, runs):
        """The rows with the targets of one output for each of so many runs."""
        if (output, runs) not in self._sources:
            source = self.objective.rows
            self._sources[output, runs] = source.repeated(output, runs)
        return self._sources[output, runs]

    # ------------------------------------------------------------------------------------------------- curvature

    @functools.cached_property
    def gram(self):
        """AᵀA of the rows, with a column of ones where there is an intercept."""
        return self.objective.gram(np.zeros(self.objective.rows.d), np.ones(self.objective.rows.d), 1.0)

    def curvature(self, l2):
        """That of the objective with this l2 in place of its own."""
        if l2 == self.objective.l2:
            return self.objective.curvature
        if l2 not in self._curvatures:
            self._curvatures[l2] = self._curvature(l2)
        return self._curvatures[l2]

    def _curvature(self, l2):
        o = self.objective
        if np.isfinite(o.loss_curvature) and o.shape[0] <= curvature.EXACT_COLUMNS:  # then one Gram matrix serves all
            H = o.loss_curvature * self.gram + np.diag(l2 * _penalised_rows(o))
            return curvature.extremes(H, len(H), o.quadratic)
        return o.replace(l2=l2).curvature_in(np.zeros(o.rows.d), np.ones(o.rows.d), 1.0)


class Quadratic:
    """Values and gradients of a squared loss with the identity, from the Gram matrix G = f·AᵀA.

    With u = w − c the expansion around any point c is exact,

        F(w) = F(c) + ∇F(c)·u + ½·uᵀGu + ½·l2·‖w‖²,        ∇F(w) = ∇F(c) + Gu + l2·w,

    F(c) and ∇F(c) (of the loss alone) being computed by a pass over X. Around the minimum ∇F(c) is next to nothing and
    the other terms are not negative, so no digits cancel, however small F is there.
    """

    dtype = np.dtype(np.float64)

    def __init__(self, passes, penalties):
        o = self.objective = passes.objective
        self.curvature = passes.curvature
        self._gram = o.factor * passes.gram
        none = np.zeros(1)
        origin = np.zeros((o.shape[0], 1, o.rows.k), o.dtype)
        H = self._gram + np.diag(penalties.min() * _penalised_rows(o))
        eigenvalues = np.linalg.eigvalsh(H)
        self.condition = float(eigenvalues[-1] / eigenvalues[0]) if eigenvalues[0] > 0 else np.inf
        towards = -passes.evaluate(origin, none)[1][:, 0]
        centre = np.linalg.lstsq(H, towards, rcond=None)[0].astype(o.dtype)[:, None]
        self._value, self._slope = passes.evaluate(centre, none)
        self._centre = centre.astype(np.float64)

    def evaluate(self, weights, penalties):
        with np.errstate(all="ignore"):
            u = weights - self._centre
            bent = (self._gram @ u.reshape(len(u), -1)).reshape(u.shape)
            value = self._value + np.einsum("irk,irk->r", u, self._slope + 0.5 * bent)
            return _penalise(self.objective, value, self._slope + bent, weights, penalties)


def _even_slices(length, most):
    count = -(-length // most)
    edges = [length * i // count for i in range(count + 1)]
    return [slice(*pair) for pair in itertools.pairwise(edges)]


def _pieces(block, d):
    first, last = block
    edges = [*range(first, last, max(1, PIECE_VALUES // d)), last]
    return list(itertools.pairwise(edges))


def _penalised_rows(objective):
    """1 for each row of w that l2 is on, 0 for the intercept."""
    mask = np.ones(objective.shape[0])
    mask[objective.rows.d :] = 0
    return mask


def _penalise(objective, value, gradient, weights, penalties):
    """Value and gradient with ½·l2·‖w‖² of each run."""
    if penalties.any():
        W = weights[: objective.rows.d].astype(np.float64)
        value = value + 0.5 * penalties * np.einsum("irk,irk->r", W, W)
        gradient[: objective.rows.d] += penalties[:, None] * W
    return value, gradient
