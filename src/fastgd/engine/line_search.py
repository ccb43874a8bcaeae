"""Steepest descent without a given rate: x ← x − λ·∇f(x), with λ computed from the last steps.

    bb       the inverse curvature along the last moves; the value may rise now and then
    armijo   twice the last λ, shortened until the value falls enough
    adgd     half the inverse curvature along the last move, with bounded growth; no values of f are needed

`rate_free` is the loop. A method proposes λ, and says with how many of the last values the new one is compared. `AUTO`
is the method of lr="auto" for a function. Evaluations of gradients until ‖∇f‖ ≤ 1e-6, from the usual starts:

    method    Rosenbrock   10 variables   Beale   quadratic, condition 1e4   logistic, correlated columns
    bb               153            572      33                       1077                            155
    armijo        11,978         18,376     712                   > 20,000                       > 20,000
    adgd           8,491         13,493     575                   > 20,000                       > 20,000
"""

import collections

import numpy as np

from fastgd.engine.result import Status
from fastgd.engine.tolerance import slope_from
from fastgd.linalg import euclidean_norm

# The factor of λ where the curvature along the last move is not positive.
GROWTH = 4.0
# Rounding error of the difference of two values, in units of |f|.
ROUNDING = 8 * float(np.finfo(np.float64).eps)
# A run whose lowest value has not fallen by more than rounding for so many steps ends.
PATIENCE = 50
WITHOUT_END = "the value falls without end"


class Armijo:
    """Backtracking: λ starts at twice the last one, and is shortened until f(x − λg) ≤ f(x) − 10⁻⁴·λ‖g‖².

    Armijo, "Minimization of functions having Lipschitz continuous first partial derivatives", Pacific Journal of
    Mathematics 16 (1966).
    """

    memory = 1

    def propose(self, point, last):
        return 2 * last.lr


class BarzilaiBorwein:
    """λ from s, the last move, and y, the change of the gradient over it: s·s / s·y, or the shortest of late s·y / y·y.

    Barzilai & Borwein, "Two-point step size gradient methods", IMA Journal of Numerical Analysis 8 (1988). The shorter
    length is taken where it is below τ times the longer one, then as the least of the last five: Frassoldati, Zanni &
    Zanghirati, "New adaptive stepsize selections in gradient methods", Journal of Industrial and Management
    Optimization 4 (2008); τ adapts as in Bonettini, Zanella & Zanni, Inverse Problems 25 (2009).

    The new value is compared with the largest of the last ten: Raydan, "The Barzilai and Borwein gradient method for
    the large scale unconstrained minimization problem", SIAM Journal on Optimization 7 (1997).
    """

    memory = 10

    def __init__(self):
        self.threshold = 0.5
        self.short = []

    def propose(self, point, last):
        move, change = point.z - last.z, point.gradient - last.gradient
        along, bent = float(np.vdot(move, change)), float(np.vdot(change, change))
        if not (along > 0 and bent > 0):
            return GROWTH * last.lr
        long, short = float(np.vdot(move, move)) / along, along / bent
        self.short = [*self.short[-4:], short]
        if short < self.threshold * long:
            self.threshold *= 0.9
            return min(self.short)
        self.threshold *= 1.1
        return long


class AdGD:
    """λ = min(√(1 + θ)·λ₋₁, ‖s‖ / 2‖y‖), θ = λ₋₁/λ₋₂, s being the last move and y the change of the gradient over it.

    Malitsky & Mishchenko, "Adaptive gradient descent without descent", ICML 2020, algorithm 1: it converges on convex
    functions whose curvature is bounded wherever the run is.
    """

    memory = 0

    def __init__(self):
        self.growth = None  # √(1 + θ), of the step before; nothing holds back the first

    def propose(self, point, last):
        move, change = euclidean_norm(point.z - last.z), euclidean_norm(point.gradient - last.gradient)
        longest = GROWTH if self.growth is None and change == 0 else self.growth
        rates = [0.5 * float(move / change)] if change > 0 else []
        rate = min([*rates, longest * last.lr] if longest is not None else rates)
        self.growth = float(np.sqrt(1 + rate / last.lr))
        return rate


# What a checkpoint keeps of the loop, besides the attributes of the method.
KEPT = ("step", "last", "lowest", "lowest_step", "point")
METHODS = {"bb": BarzilaiBorwein, "armijo": Armijo, "adgd": AdGD}
AUTO = "bb"


def rate_free(variables, monitor, method):
    """Steepest descent by one of the METHODS."""
    rule = METHODS[method]()
    monitor.advice = "Start elsewhere, or bound the variables: no rate is at fault."
    step, last, lowest, lowest_step = 0, None, np.inf, 0
    recent = collections.deque(maxlen=max(1, rule.memory))
    if kept := monitor.resumed:
        step, last, lowest, lowest_step, point = (kept[name] for name in KEPT)
        recent.extend(kept["recent"])
        vars(rule).update(kept["rule"])
    else:
        point = monitor.point(0, variables.start, want_fun=rule.memory > 0 or None)
    while True:
        kept = dict(zip(KEPT[1:], (last, lowest, lowest_step, point), strict=True))
        monitor.keep(step, **kept, recent=list(recent), rule=vars(rule))
        if rule.memory and last is not None and not point.finite:
            raise monitor.diverged(last, last.lr, WITHOUT_END, step=step)
        monitor.judge(point, last)
        if monitor.see(point):
            return
        if monitor.jump is not None:
            z, step, last, lowest, lowest_step = monitor.take_jump(step), step + 1, None, np.inf, step + 1
            recent.clear()
            point = monitor.point(step, z, want_fun=rule.memory > 0 or None)
            continue
        if point.least == 0:
            monitor.at_zero_gradient(point)
            return
        if rule.memory:
            recent.append(point.fun)
            if point.fun < lowest - ROUNDING * abs(point.fun):
                lowest, lowest_step = point.fun, step
            elif step - lowest_step >= PATIENCE:
                _no_way_down(variables, monitor, point, f"no step of the last {PATIENCE} lowered the value")
                return
        if step == monitor.limit:
            monitor.at_limit(point)
            return
        if last is None:
            # No curvature is known yet. Backtracking shortens a step that is too long; without it the first step is
            # short, and only measures the curvature.
            share = 0.1 if rule.memory else 1e-4
            point.lr = share * max(1.0, euclidean_norm(point.z)) / point.norm
        else:
            point.lr = rule.propose(point, last)
        found = _search(variables, monitor, point, max(recent)) if rule.memory else _probe(monitor, point)
        if found is None:
            _no_way_down(variables, monitor, point, "no step lowers the value")
            return
        monitor.took(step, point.lr)
        last, point = point, found
        step += 1


def _moved(monitor, point):
    """The end of a step from a point; None if it is the same point."""
    z = point.z.copy()
    with np.errstate(over="ignore", invalid="ignore"):
        monitor.update(z, point.gradient, point.lr)
    return None if np.array_equal(z, point.z) else z


def _search(variables, monitor, point, reference):
    """The next Point: the first λ from point.lr down that meets Armijo's condition; None if none does.

    λ is left in point.lr. A trial evaluates f, or f and its gradient together where they come in one pass.
    """
    rounding = ROUNDING * abs(point.fun)
    while (z := _moved(monitor, point)) is not None:
        new = None
        with np.errstate(over="ignore", invalid="ignore"):
            if variables.fun_is_free:
                new = monitor.point(point.step + 1, z, want_fun=True)
            fun = variables.value(z) if new is None else new.fun
            # A step that a bound or a penalty has shortened promises a smaller decrease.
            move = point.norm * point.lr if monitor.update.plain else euclidean_norm(z - point.z)
            promised = move / point.lr * move
        if fun <= reference - 1e-4 * promised + rounding:  # Armijo's condition
            new = monitor.point(point.step + 1, z, fun=fun) if new is None else new
            if np.isfinite(new.norm):
                return new
            fun = np.nan
        bend = fun - point.fun + promised
        shorter = 0.5 * promised / bend if np.isfinite(bend) and bend > 0 else 0.0
        point.lr *= min(max(shorter, 0.1), 0.5)  # the minimum of a parabola, within these shares of the last λ
    return None


def _probe(monitor, point):
    """The same for methods without values of f: λ is shortened only where the gradient is not finite."""
    new = None
    while (z := _moved(monitor, point)) is not None:
        if np.all(np.isfinite(z)):
            new = monitor.point(point.step + 1, z)
            if new.finite:
                return new
        point.lr *= 0.1
    if new is not None:
        raise monitor.not_finite(new, point)
    return None


def _no_way_down(variables, monitor, point, what):
    """End a run whose value no longer falls: it is at a minimum, or the gradient is not that of f.

    A central difference of f along the gradient decides. If the second difference is larger than the slope, the minimum
    is within its width.
    """
    if monitor.within_tolerance(point):
        return monitor.end(Status.CONVERGED, f"{what}, and {monitor.rule.sentence}", point)
    norm, slope, room = _slopes(variables, monitor, point)
    if abs(slope - norm) <= 0.5 * norm + room:
        if doubt := monitor.rule.doubt(point):
            return monitor.end(Status.STALLED, f"{what}, and {doubt}", point, success=False)
        return monitor.end(Status.CONVERGED, f"{what}: it is at its rounding error", point)
    if variables.numerical:
        message = (
            f"{what}, though the gradient norm is {norm:.3g}: f is not precise enough to search for the length of a "
            "step, or not smooth here. Give a rate, or an f of more digits"
        )
        return monitor.end(Status.STALLED, message, point, success=False)
    message = (
        f"stuck: {what}. Along the gradient the slope is {slope:.3g} by differences and {norm:.3g} by the "
        "gradient, so it is not the gradient of f (check_gradient shows where), or f is not smooth here"
    )
    return monitor.end(Status.NO_WAY_DOWN, message, point, success=False)


def _slopes(variables, monitor, point):
    """The slope along the gradient: by the gradient, by differences of f, and the error bound of the latter.

    With bounds or an l1 penalty it is the slope against the shortest subgradient, without the variables that would meet
    a bound or 0 within the difference's width.
    """
    rounding = 8 * float(np.finfo(point.z.dtype).eps)
    width = rounding ** (1 / 3) * max(1.0, euclidean_norm(point.z))
    here = variables.value(point.z) if point.fun is None else point.fun
    if here == -np.inf:
        raise monitor.diverged(point, monitor.last_rate, WITHOUT_END)
    if monitor.update.limited:
        way = monitor.update.free_subgradient(point.z, point.gradient, width)
        norm = euclidean_norm(way)
        if norm == 0:
            return 0.0, 0.0, 0.0
        slope, room = slope_from(variables, point.z, here, -way / norm, width)
        return norm, -slope, room
    direction = point.gradient / point.norm * width  # in this order: the norm may be next to nothing
    with np.errstate(over="ignore", invalid="ignore"):
        above, below = variables.value(point.z + direction), variables.value(point.z - direction)
    room = abs(above - 2 * here + below) / width + rounding * max(abs(above), abs(here), abs(below)) / width
    return point.norm, (above - below) / (2 * width), room
