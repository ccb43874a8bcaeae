"""An objective as a function of the variables z that a solver iterates on: here the user's own.

Standardised columns are in `standardised.py`. The interface:

    objective               the objective F
    start                   z of the starting point
    evaluate(z, want_fun)   F(z) with all penalties (None if it is neither wanted nor free), and the gradient of the
                            smooth part of F
    value(z)                F(z) alone
    l1_penalty(z)           the part of F that is not smooth
    subgradient(z, g)       the shortest subgradient of F, given the gradient of the smooth part
    to_user(z)              z in the user's units; gradient_to_user(g) for a gradient, user_norm(g) for its norm
    settle(z, fun, g)       z in the user's units, and value and gradient at exactly that point, rounding included
    curvature()             bounds of the Hessian's eigenvalues in these variables, or None
    burst(z, rule, …)       many steps by one call of a kernel; `has_bursts` is True if there is such a kernel
    take_steps(z, …)        the same for a function, until Python has to decide; `has_steps` is True if it exists
    fun_is_free             True if the value comes with the gradient at no extra cost
    in_user_units           True if z is in the user's units
    penalised               number of entries of the flat z, from the first, that the l1 penalty applies to
    note                    a remark for the message of the result
    nfev, njev, passes      evaluations so far: values, gradients, passes over the rows
    batched                 rows of mini-batches so far
    spent                   (nfev, njev, passes) with the mini-batches, counted in passes
"""

import numpy as np

from fastgd import kernels, validation
from fastgd.derivatives.gradient import mended_and_count
from fastgd.kernels.codes import OnFunction, OnRows
from fastgd.linalg import euclidean_norm, least_subgradient


class Variables:
    """Base class: the counts of evaluations, and all methods for the identity z = w."""

    fun_is_free = in_user_units = True
    has_steps = has_bursts = False
    numerical = False  # whether gradients are differences of values
    note = ""

    def __init__(self, objective, start):
        self.objective, self.start = objective, start
        self.penalised = start.size
        self.nfev = self.njev = self.passes = self.batched = 0

    @property
    def spent(self):
        """(nfev, njev, passes), n rows of mini-batches counting as a pass: whole numbers after whole epochs."""
        whole, rest = divmod(self.batched, self.objective.rows.n) if self.batched else (0, 0)
        share = whole + rest / self.objective.rows.n if rest else whole
        return self.nfev, self.njev + share, self.passes + share

    @property
    def l1(self):
        """λ of the l1 penalty, if it is the same for all variables."""
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

    def __init__(self, function, start):
        super().__init__(function, np.array(start, dtype=np.float64, order="C"))
        self.has_steps, self.fun_is_free, self.numerical = function.has_steps, function.gives_both, function.numerical

    def evaluate(self, x, want_fun=True):
        # An overflow in a diverging run becomes a DivergenceError; NumPy's warnings would come on top of it.
        with np.errstate(over="ignore", invalid="ignore"):
            if self.fun_is_free:
                self.nfev, self.njev = self.nfev + 1, self.njev + 1
                fun, gradient = self.objective.value_and_gradient(x)
                return fun + self.l1_penalty(x), gradient
            fun = self.value(x) if want_fun else None
            self.njev += 1
            gradient, nfev = self.objective.gradient(x)
            self.nfev += nfev
            return fun, gradient

    def gradient_and_error(self, x, scheme="central"):
        """The numerical gradient by a scheme with an estimate, and the estimated error of each of its entries."""
        found = self._differences(x, scheme)
        return found.gradient, found.error

    def noise(self, x):
        """What values of f near x may be off by, as their differences show."""
        found = self._differences(x, "central")
        with np.errstate(all="ignore"):
            noise = (found.error * found.steps).reshape(-1)
        return float(np.max(noise, where=np.isfinite(noise), initial=0.0))

    def _differences(self, x, scheme):
        with np.errstate(over="ignore", invalid="ignore"):
            found = self.objective.differences(x, scheme)
        self.nfev += found.nfev
        return found

    def value(self, x):
        self.nfev += 1
        with np.errstate(over="ignore", invalid="ignore"):
            return self.objective.value(x) + self.l1_penalty(x)

    def settle(self, x, fun, gradient):
        return x, self.value(x) if fun is None else fun, gradient

    def take_steps(self, x, found, spent, *arguments):
        """Take steps on x, in place, by one call of a kernel: why it came back, and the gradient at x if it knows it.

        The parameters are those of `kernels.reference.functions.descend_function`, `arguments` from `look` on.
        """
        o = self.objective
        spent[: OnFunction.STEPS] = self.nfev, self.njev
        grad, values = True if o.gives_both else o.grad, np.empty((x.size + 2 if o.numerical else 0, 2))
        try:
            with np.errstate(over="ignore", invalid="ignore"):
                _, reason = kernels.active.descend_function(
                    o.f, grad, x.reshape(-1), x.shape, validation.any_number, o.checked, found, values, spent,
                    *arguments,
                )  # fmt: skip
                if reason == OnFunction.DOUBTFUL:
                    found, nfev = mended_and_count(o.f, x, values[:-2], values[-2:].reshape(-1)[:3], found)
                    spent[OnFunction.VALUES] += nfev
        finally:
            self.nfev, self.njev = spent[: OnFunction.STEPS].tolist()
        return reason, found.reshape(x.shape)


class Columns(Variables):
    """Weights of a LinearObjective, in its shape and dtype, for the columns as they are; the default start is 0."""

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
        """`evaluate` at each of several points; for an objective with one output in a single pass."""
        o = self.objective
        if len(points) < 2 or o.rows.k > 1:
            return [self.evaluate(w) for w in points]
        parts = [o.split(w) for w in points]
        W = np.concatenate([part for part, _ in parts], axis=1).astype(np.float64)
        b = np.concatenate([part for _, part in parts]).astype(np.float64)
        self.passes += 1
        self.nfev, self.njev = self.nfev + len(points), self.njev + len(points)
        values, grad_W, grad_b = o.sums_of_each(W, b)
        grad_W += o.penalty.l2_of_columns() * W
        found = zip(values, W.T, grad_W.T, grad_b, strict=True)
        return [
            (float(value) + o.penalty.value(w), o.join(by_W[:, None], by_b[None]).astype(o.dtype))
            for value, w, by_W, by_b in found
        ]

    def value_of_start(self):
        """F at the start; not counted as an evaluation."""
        return self.objective.value_at(self.start)

    def settle(self, w, fun, gradient):
        return w, *((fun, gradient) if fun is not None else self.evaluate(w))

    def curvature(self):
        return self.objective.curvature

    @property
    def has_bursts(self):
        """True for arrays of a single block; the passes over larger ones are shared among threads."""
        o = self.objective
        return o.rows.one_array and len(o.edges) == 2 and o.penalty_weights is None

    @property
    def burst_values(self):
        """Numbers that a step of a burst reads, n·d·k, the unit of its cost."""
        return self.objective.rows.values * self.objective.rows.k

    def burst(self, w, rule, *arguments, offset=0.0):
        """Take steps on w, in place; `arguments` are those of `kernels.reference.one_layer.descend` from `rates` on."""
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
