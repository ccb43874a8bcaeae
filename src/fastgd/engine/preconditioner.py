"""Quadratic models of an objective: the Hessian of a sample of rows, corrected by the last steps (L-BFGS)."""

import functools
import math

import numpy as np

from fastgd.engine import active_set
from fastgd.engine.lasso import minimise_with_l1
from fastgd.linalg import ROUNDING, Inverse, add_to_diagonal, soft_threshold, softmax

# The weights of all outputs of a softmax have one joint Hessian up to this many.
JOINT_WEIGHTS = 1024
# Columns up to which the minimum of a singular quadratic function with an l1 penalty is found by its active set, whose
# steps each solve equations.
SMALL = 64


class Preconditioner:
    """H ≈ the Hessian of F at V, from the rows of a sample.

    One matrix for each output, or one for all where they are equal; for a softmax of not too many weights one joint
    Hessian of all outputs (`joint`); the diagonal alone where asked for, and with too many columns.

    Parameters
    ----------
    sample : Sample
    V : (d', k)
    diagonal : bool
    damping : float
        Damping of the Hessian where the loss is linear, see `Loss.straight`: with 1 a step always lowers F, but slowly
        (iteratively reweighted least squares); 0 is Newton's method.
    """

    def __init__(self, sample, V, diagonal=False, damping=1.0):
        self.sample, self.variables = sample, sample.variables
        v, o = self.variables, self.variables.objective
        self._diagonal = v.diagonal()
        self.joint, self.matrices, self._single = False, [], False
        self.constant = o.quadratic  # the same at every V
        if diagonal or not sample.exists:
            self._diagonal = (self._diagonal + o.mass * sample.mean_curvature(V, damping))[:, None]
            return
        self.joint = is_joint(o, v.size)
        self.matrices = [self._softmax(V, o.mass)] if self.joint else self._separate(V, o.mass, damping)

    @functools.cached_property
    def _solvers(self):
        v, o = self.variables, self.variables.objective
        # Rows that are not in the sample, or are beyond a kink now, may have curvature where these have none.
        partial = not self.sample.is_all or not o.smooth
        ridge = np.tile(v.ridge(), o.rows.k if self.joint else 1)
        found = [Inverse(G, partial, ridge) for G in self.matrices]
        if self._single and min(inverse.reciprocal for inverse in found) < 1e-6:  # one digit would be left
            self._single = False
            self.matrices = [self._gram(*part) for part in self._parts]
            found = [Inverse(G, partial, ridge) for G in self.matrices]
        return found

    def _separate(self, V, mass, damping):
        """A matrix for each output."""
        sample, record = self.sample, self.variables.objective.record
        s = sample.weight
        if record.bends_everywhere or sample.is_all:
            (curvature, least), A = sample.curvature(V, damping), sample.design
            means = s @ curvature
            if curvature.shape[1] > 1 and (record.quadratic or record.joint):
                A = A * np.sqrt(s)[:, None]
                base, means = mass * (A.T @ A), np.maximum(means, least)
                alike = np.ptp(means) <= 1e-12 * means.max()
                return [self._held(base * m) for m in (means[:1] if alike else means)]
            rows = [(A, shares) for shares in (s[:, None] * curvature).T]  # their rows with curvature differ
        else:
            rows, least = sample.rows_that_bend(V, damping)
            means = np.array([shares.sum() for _, shares in rows])
        # A step needs a few digits of the Hessian: products in float32 take half of the time.
        self._single = V.shape[0] >= 50 and not self.variables.objective.l1 and not record.quadratic
        floors = mass * np.where(means < least, least, 0.0)
        self._parts = [(A, shares, mass, floor) for (A, shares), floor in zip(rows, floors, strict=True)]
        return [self._gram(*part) for part in self._parts]

    def _gram(self, A, shares, mass, floor):
        """mass·AᵀDA + floor and the diagonal of the penalty, D = shares."""
        largest = shares.max(initial=0.0) or 1.0  # float32 would underflow without it
        room = self.sample.room(A, np.float32 if self._single else np.float64)
        A = np.multiply(A, np.sqrt(shares / largest)[:, None], out=room, casting="same_kind")
        G = (A.T @ A).astype(np.float64, copy=False)
        G *= mass * largest
        add_to_diagonal(G, floor)
        return self._held(G)

    def _held(self, G):
        add_to_diagonal(G, self._diagonal)
        return G

    def _softmax(self, V, mass):
        """Σ s(diag(p) − ppᵀ) ⊗ xxᵀ, the weights of one output after those of the other."""
        o, s, size = self.variables.objective, self.sample.weight, self.variables.size
        A, k = self.sample.design, o.rows.k
        P = softmax(A @ V)
        H, alone = np.zeros((k * size, k * size)), np.zeros((size, k * size))
        rows = max(1, 2**18 // (k * size))  # 2 MB: a product of matrices then finds them in the cache
        for part in (slice(first, first + rows) for first in range(0, len(A), rows)):
            X, p, weight = A[part, None, :], P[part, :, None], mass * s[part, None, None]
            root = (np.sqrt(weight) * p * X).reshape(-1, k * size)
            H -= root.T @ root
            alone += A[part].T @ (weight * p * (1 - p) * X).reshape(-1, k * size)
        for a in range(k):
            own = slice(a * size, (a + 1) * size)
            H[own, own] = alone[:, own]
        # To add the same to the scores of all outputs does not change the loss: the Hessian is singular there, and is
        # made regular. No gradient points there, except that of an l1 penalty, which does change.
        alike = range(size - o.fit_intercept if o.l1 else 0, size)
        H.reshape(k, size, k, size)[:, alike, :, alike] += np.trace(H) / (k * k * size)
        add_to_diagonal(H, np.tile(self._diagonal, k))
        return H

    def _each(self, functions, V):
        """Apply to the weights of each output the function that is its own."""
        if self.joint:
            return functions[0](V.T.reshape(-1)).reshape(V.T.shape).T
        if len(functions) == 1:
            return functions[0](V)
        return np.column_stack([function(v) for function, v in zip(functions, V.T, strict=True)])

    @property
    def reciprocal(self):
        """The least reciprocal condition number of the matrices; 1 of a diagonal."""
        return min((inverse.reciprocal for inverse in self._solvers), default=1.0)

    def solve(self, gradient):
        """H⁻¹g."""
        return self._each(self._solvers, gradient) if self.matrices else gradient / self._diagonal

    def multiply(self, V):
        return self._each([H.__matmul__ for H in self.matrices], V) if self.matrices else self._diagonal * V

    def square(self, V):
        """VᵀHV."""
        return float(np.vdot(V, self.multiply(V)))

    def gap(self, gradient):
        """An estimate of F − min F: ½·gᵀH⁻¹g."""
        return 0.5 * float(np.vdot(gradient, self.solve(gradient)))

    def length(self, V, gradient):
        return self.gap(self.variables.subgradient(V, gradient))

    def _with_l1(self, c, gradient, t, start):
        """The minimum of the quadratic model of one output with the penalty."""
        H, d = self.matrices[c], len(start)
        if d <= SMALL and self._solvers[c].reciprocal <= 1e-10:
            nowhere, ridge = np.full(d, math.inf), np.resize(self.variables.ridge(), d)
            z, found = active_set.minimum(H, gradient - H @ start, t, -nowhere, nowhere, start, ridge)
            if found:
                return z
        return minimise_with_l1(H, gradient, t, start)

    def proximal_move(self, V, gradient):
        """The step to the minimum of the quadratic model with the l1 penalty; its slope; and the model's decrease."""
        t = np.broadcast_to(self.variables.thresholds(), V.shape)
        if not self.matrices:
            new = soft_threshold(V - gradient / self._diagonal, t / self._diagonal)
        elif self.joint:
            flat = [M.T.reshape(-1) for M in (gradient, t, V)]
            new = self._with_l1(0, *flat).reshape(V.T.shape).T
        else:
            one = len(self.matrices) == 1
            columns = enumerate(zip(gradient.T, t.T, V.T, strict=True))
            new = np.column_stack([self._with_l1(0 if one else c, *column) for c, column in columns])
        move = new - V
        slope = float(np.vdot(gradient, move)) + float(np.sum(t * (np.abs(new) - np.abs(V))))
        return move, slope, max(0.0, -slope - 0.5 * self.square(move))


class Model:
    """The quadratic model of F that a step minimises: a preconditioner, corrected by the steps since it was built.

    Attributes
    ----------
    move, slope : the step from the last point looked at, and F's slope along it.
    toward : the step by the preconditioner alone; `estimate` is the decrease of F that it promises.
    steps : how many were taken since the preconditioner was built.
    """

    def __init__(self, sample, V, diagonal=False, damping=1.0):
        self.sample, self.variables = sample, sample.variables
        self._make(V, diagonal, damping, ())

    def renew(self, V, damping):
        """Rebuild the preconditioner at V. Past steps are kept where they tell of rows that are not in the sample."""
        kept = self.variables.objective.record.bends_everywhere and self.sample.exists and not self.sample.is_all
        self._make(V, False, damping, self.memory.pairs if kept else ())

    def _make(self, V, diagonal, damping, pairs):
        self._made_of = {"V": V, "diagonal": diagonal, "damping": damping}
        self.preconditioner = Preconditioner(self.sample, V, diagonal, damping)
        self.memory, self.steps = Memory(self.preconditioner, pairs), 0
        self._least = 1.0  # the smallest curvature met, as a multiple of the preconditioner's

    def look(self, V, gradient):
        if self.variables.objective.l1:
            self.move, self.slope, self.estimate = self.preconditioner.proximal_move(V, gradient)
            self.toward = self.move
            return
        self.toward = -self.preconditioner.solve(gradient)
        self.estimate = -0.5 * float(np.vdot(gradient, self.toward)) / self._least
        self.move = -self.memory.apply(gradient) if self.memory.pairs else self.memory.scale * self.toward
        self.slope = float(np.vdot(gradient, self.move))

    def forget(self):
        """Forget the past steps, whose direction may point uphill where F is not convex."""
        self.memory = Memory(self.preconditioner, ())

    def took(self, step, change):
        """Remember a step and the change of the gradient along it."""
        self.steps += 1
        curvature, expected = float(np.vdot(step, change)), self.preconditioner.square(step)
        if curvature > 0 and expected > 0:  # without curvature there is nothing to learn
            self.memory.add(step, change, curvature)
            self._least = min(self._least, max(curvature / expected, 1e-8))

    @property
    def state(self):
        """What a checkpoint keeps: what the preconditioner is made of, and the past steps."""
        memory = {"pairs": [list(pair) for pair in self.memory.pairs], "scale": self.memory.scale}
        return {"made_of": self._made_of, "memory": memory, "steps": self.steps, "least": self._least}

    @classmethod
    def of(cls, sample, state):
        model = cls(sample, **state["made_of"])
        model.memory = Memory(model.preconditioner, [tuple(pair) for pair in state["memory"]["pairs"]])
        model.memory.scale, model.steps, model._least = state["memory"]["scale"], state["steps"], state["least"]
        return model


class Memory:
    """The inverse Hessian, corrected by the last ten steps (Nocedal 1980, the two-loop recursion).

    A diagonal is scaled to the curvature along the last step: that of a log loss falls on the way to the minimum.
    """

    def __init__(self, preconditioner, pairs):
        self.preconditioner, self.pairs, self.scale = preconditioner, list(pairs), 1.0

    def add(self, step, change, curvature):
        self.pairs = [*self.pairs[-9:], (step, change, 1 / curvature)]
        if not (self.preconditioner.matrices or self.preconditioner.constant):
            self.scale = curvature / float(np.vdot(change, self.preconditioner.solve(change)))

    def apply(self, gradient):
        q, scales = gradient, []
        for step, change, inverse in reversed(self.pairs):
            scales.append(inverse * float(np.vdot(step, q)))
            q = q - scales[-1] * change
        q = self.scale * self.preconditioner.solve(q)
        for (step, change, inverse), scale in zip(self.pairs, reversed(scales), strict=True):
            q = q + (scale - inverse * float(np.vdot(change, q))) * step
        return q


def is_joint(objective, size):
    """Whether the weights of all outputs have one joint Hessian."""
    return objective.record.categorical and objective.rows.k * size <= JOINT_WEIGHTS


def conditioning(sample, preconditioner):
    """Condition number of the centred and scaled columns, and the number of collinear directions; (None, 0) if unknown.

    Where the sample is not all rows, XᵀX of all is formed only if the sample's Hessian is nearly singular.
    """
    v = sample.variables
    if not sample.exists:
        return None, 0
    moving = np.flatnonzero(np.isfinite(v.scale))
    if sample.is_all:
        A = sample.design[:, moving] * np.sqrt(sample.weight)[:, None]
        G = A.T @ A
    elif preconditioner.reciprocal < 1e-11:
        G = v.objective.gram(v.shift, v.scale, 1.0)[np.ix_(moving, moving)]
    else:
        return None, 0
    sizes = np.linalg.eigvalsh(G)
    lost = int(np.sum(sizes <= len(sizes) * ROUNDING * sizes[-1:]))
    return (math.inf if lost else math.sqrt(sizes[-1] / sizes[0]) if len(sizes) else 1.0), lost
