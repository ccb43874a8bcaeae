"""An objective in variables: what a solver walks on. Here the user's own; `standardised.py` has others.

Variables have

    objective               what is minimised
    start                   where the run begins, in these variables
    evaluate(z, want_fun)   F(z) with all penalties (None where it is neither wanted nor free), and the gradient of the
                            smooth part of F
    value(z)                F(z) alone
    l1_penalty(z)           the part of F that is not smooth
    subgradient(z, g)       the shortest subgradient of F, given the gradient of the smooth part
    to_user(z)              z in the user's units; gradient_to_user(g) for a gradient, user_norm(g) for its norm
    settle(z, fun, g)       z in the user's units, with value and gradient at exactly that point
    curvature()             bounds of the Hessian's eigenvalues in these variables, or None
    burst(z, rule, …)       many steps in one kernel, in z; `has_bursts` says whether there is one
    steps_in_c(z, …)        the same for a C function, which hands back what is to be judged; `in_c` says whether it can
    fun_is_free             whether a gradient brings the value with it
    in_user_units           whether they are the user's
    penalised               the l1 penalty is for so many entries of the flat z, from the first
    note                    what the user should know of them, for the message
    nfev, njev, passes      what the run has spent: values, gradients, passes over the rows
    batched, spent          rows of batches; and nfev, njev and passes with these
"""

import numpy as np

from fastgd import kernels
from fastgd.derivatives.gradient import mended_and_count
from fastgd.kernels.codes import OnFunction, OnRows
from fastgd.linalg import euclidean_norm, least_subgradient


class Variables:
    """What all kinds of them share: the counts, and what the identity does."""

    fun_is_free = in_user_units = True
    in_c = has_bursts = False
    note = ""

    def __init__(self, objective, start):
        self.objective, self.start = objective, start
        self.penalised = start.size
        self.nfev = self.njev = self.passes = self.batched = 0

    @property
    def spent(self):
        """nfev, njev and passes, with those that rows of batches add up to: whole numbers after whole epochs."""
        whole, rest = divmod(self.batched, self.objective.rows.n) if self.batched else (0, 0)
        share = whole + rest / self.objective.rows.n if rest else whole
        return self.nfev, self.njev + share, self.passes + share

    @property
    def l1(self):
        """The penalty's λ where it is the same for all variables."""
        return self.objective.l1

    def l1_penalty(self, z):
        return self.l1 * float(np.sum(np.abs(z.reshape(-1)[: self.penalised]), dtype=np.float64)) if self.l1 else 0.0

    def subgradient(self, z, gradient):
        if not self.l1:
            return gradient
        none = np.empty(0)
        flat = least_subgradient(z.reshape(-1), gradient.reshape(-1), self.l1, self.penalised, none, none)
        return flat.reshape(gradient.shape)

    def to_user(self, z):
        return z.copy()

    def gradient_to_user(self, gradient):
        return gradient

    def user_norm(self, gradient):
        return euclidean_norm(gradient)

    def curvature(self):
        return None


class OfFunction(Variables):
    """The variables of a Function."""

    fun_is_free = False

    def __init__(self, function, start):
        super().__init__(function, np.array(start, dtype=np.float64, order="C"))
        self.in_c = function.in_c

    def evaluate(self, x, want_fun=True):
        # What overflows in a run that diverges is named by the run; a warning for each overflow would be noise.
        with np.errstate(over="ignore", invalid="ignore"):
            fun = self.value(x) if want_fun else None
            self.njev += 1
            gradient, nfev = self.objective.gradient(x)
            self.nfev += nfev
            return fun, gradient

    def value(self, x):
        self.nfev += 1
        with np.errstate(over="ignore", invalid="ignore"):
            return self.objective.value(x) + self.l1_penalty(x)

    def settle(self, x, fun, gradient):
        return x, self.value(x) if fun is None else fun, gradient

    def steps_in_c(
        self, x, rates, tol, overshoots, growth, every, state, gradient, previous, funs, norms, points, rule
    ):
        """Steps by a kernel, in x; see `kernels.reference.functions` for what it takes.

        Returns the steps taken, and (value, gradient) at x if they have been evaluated there.
        """
        f, grad = self.objective.f, self.objective.grad
        d, spent = x.size, np.zeros(2, np.int64)
        found, values = np.empty(d), np.empty((d + 2 if grad is None else 0, 2))
        flat = (array.reshape(-1) for array in (gradient, previous))
        taken, reason = kernels.active.descend_function(
            f, grad, x.reshape(-1), rates, tol, overshoots, growth, every, state, *flat, found, values, funs,
            norms, points, spent, *rule,
        )  # fmt: skip
        self.nfev, self.njev = self.nfev + int(spent[0]), self.njev + int(spent[1])
        if reason not in (OnFunction.EVALUATED, OnFunction.DOUBTFUL):
            return taken, None
        if reason == OnFunction.DOUBTFUL:
            found, nfev = mended_and_count(f, x, values[:-2], values[-2:].reshape(-1)[:3], found)
            self.nfev += nfev
        fun = float(funs[taken])
        wanted = every and (rule[3] + taken) % every == 0
        return taken, (fun if wanted else None, found.reshape(x.shape))


class Columns(Variables):
    """The user's own columns of a LinearObjective: weights of its shape and dtype; they start at zeros without any."""

    def __init__(self, objective, start=None):
        super().__init__(objective, np.zeros(objective.shape, objective.dtype) if start is None else start.copy())
        self.penalised = objective.rows.d * objective.rows.k

    def evaluate(self, w, want_fun=True):
        self.nfev, self.njev, self.passes = self.nfev + 1, self.njev + 1, self.passes + 1
        return self.objective.value_and_gradient_at(w)

    def value(self, w):
        self.nfev, self.passes = self.nfev + 1, self.passes + 1
        return self.objective.value_at(w)

    def evaluate_each(self, points):
        """`evaluate` at each of several points, of an objective with one output in one pass for all of them."""
        o = self.objective
        if len(points) < 2 or o.rows.k > 1:
            return [self.evaluate(w) for w in points]
        parts = [o.split(w) for w in points]
        W = np.concatenate([part for part, _ in parts], axis=1).astype(np.float64)
        b = np.concatenate([part for _, part in parts]).astype(np.float64)
        self.passes += 1
        self.nfev, self.njev = self.nfev + len(points), self.njev + len(points)
        values, grad_W, grad_b = o.sums_of_each(W, b)
        grad_W += o.l2 * W
        found = zip(values, W.T, grad_W.T, grad_b, strict=True)
        return [
            (float(value) + o.penalty(w), o.join(by_W[:, None], by_b[None]).astype(o.dtype))
            for value, w, by_W, by_b in found
        ]

    def value_of_start(self):
        """F where the run begins, which is not counted."""
        return self.objective.value_at(self.start)

    def settle(self, w, fun, gradient):
        return w, *((fun, gradient) if fun is not None else self.evaluate(w))

    def curvature(self):
        return self.objective.curvature

    @property
    def has_bursts(self):
        """Only where a pass is short: a long one is better shared out to threads."""
        o = self.objective
        return o.rows.one_array and len(o.edges) == 2 and o.record.unit == 1

    @property
    def burst_values(self):
        """How many numbers a step of a burst goes over."""
        return self.objective.rows.values * self.objective.rows.k

    def burst(self, w, rule, *arguments, offset=0.0):
        """See `kernels.reference.one_layer.descend` for what is behind the rule: rates and all that follows."""
        o = self.objective
        rates, *stop, state, gradient, previous, funs, norms, points = arguments
        X, Y, weights = o.rows.arrays((0, o.rows.n))
        shape = (o.shape[0], o.rows.k)
        recorded = (len(points), *(shape if len(points) else (0, 0)))
        taken, reason = kernels.active.descend(
            X, Y, w.reshape(shape), weights, *o.codes, o.rows.gemm, o.factor, o.l2, offset + o.constant, rates, *stop,
            state, gradient.reshape(shape), previous.reshape(shape), funs, norms, points.reshape(recorded), *rule,
        )  # fmt: skip
        spent = taken + (reason != OnRows.ALL_STEPS)
        self.nfev, self.njev, self.passes = self.nfev + spent, self.njev + spent, self.passes + spent
        return taken, reason
