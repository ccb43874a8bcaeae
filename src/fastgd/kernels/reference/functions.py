"""The kernel of descent on a C function in plain NumPy: the specification of `functions.pxi`."""

import time

import numpy as np

from fastgd.kernels import codes
from fastgd.kernels.codes import OWN_STEPS, OnFunction
from fastgd.kernels.reference import differences
from fastgd.kernels.reference.updates import optimizer_step
from fastgd.linalg import euclidean_norm, least_subgradient


def descend_function(
    f,
    grad,
    x,
    rates,
    tol,
    overshoots,
    overshoot_growth,
    every,
    state,
    gradient,
    previous,
    found,
    values,
    funs,
    norms,
    points,
    spent,
    kind,
    parameters,
    moments,
    done,
    penalised,
    lower,
    upper,
):
    """Descent on a C function f by a rule, x ← x − rate·∇f(x) or another one, in place, from its second point on.

    It takes steps as long as nothing is to be judged. Where something is, it comes back before it: the loop that called
    it looks at that point with the rules that it has for every other, and takes the step from there.

    Parameters
    ----------
    f : CFunction
    grad : CGradient or None
        None for central differences at the library's own steps.
    x : (d,) float64, written to
        d is at least 1.
    rates : (steps,) float64
    tol : float
        Come back where the norm of the gradient (with l1 or bounds, of the shortest subgradient) is at most that.
    overshoots, overshoot_growth : float
        Come back once so many steps in a row have overshot (the gradient turned back and grew; for a rule that may go
        uphill for a while: it grew) and its norm has grown by that factor meanwhile.
    every : int
        f is evaluated at the points before steps whose number is a multiple of it; 0: at none.
    state : (7,) float64, written to
        OVERSHOOTS, GROWTH, CURVATURE, NORM, RATE, FIRST_NORM, ROSE: what is known of the run before `x`, and then of
        the run before the new x.
    gradient, previous : (d,) float64, written to
        The gradient one step before x, and that point.
    found : (d,) float64, written to
        The gradient at the last point that was looked at.
    values : (d + 2, 2) float64, written to
        The values that a numerical gradient is made of, and behind them its three probes. Not looked at where there is
        a `grad`.
    funs, norms : (steps,) float64, written to
        f + l1·‖x‖₁ at the point before each step, NaN where it is not evaluated, and the norm that `tol` is for.
    points : (steps, d) or (0, 0) float64, written to
        That point.
    spent : (2,) int64, written to
        Evaluations of f and of the gradient are added.
    kind, parameters, moments, penalised, lower, upper
        The rule; see `optimizer_step`.
    done : int
        Steps taken before this call.

    Returns
    -------
    step : int
        The steps taken.
    reason : int
        ALL_STEPS, or as many, at least one, as took LONGEST_CALL; or, for the point that `x` is now,
        UNTOUCHED: nothing was evaluated there, because x is not finite or a difference around it has no room;
        EVALUATED: `found` and funs[step] are there, and one of the conditions above holds or something is not finite;
        DOUBTFUL: funs[step] is there, and the `values` of a numerical gradient that is not good enough.
    """
    l1, limits = float(parameters[codes.L1]), (penalised, lower, upper)
    plain_rules = codes.RULES["gd"], codes.RULES["asgd"]
    may_rise = kind not in plain_rules
    began = time.perf_counter()
    with np.errstate(all="ignore"):
        for step, rate in enumerate(rates.tolist()):
            if step and time.perf_counter() - began > OnFunction.LONGEST_CALL:
                return step, OnFunction.ALL_STEPS
            h = differences._steps(x, OWN_STEPS)
            distance = (x + h) - (x - h)
            if not np.all(np.isfinite(x)) or (grad is None and not np.all((distance != 0) & np.isfinite(distance))):
                return step, OnFunction.UNTOUCHED
            fun = np.nan
            wanted = every and (done + step) % every == 0
            if wanted:
                fun = f(x.copy()) + (l1 * np.sum(np.abs(x[:penalised])) if l1 else 0.0)
                spent[0] += 1
            funs[step] = fun
            spent[1] += 1
            if grad is None:
                probes = values[-2:].reshape(-1)[:3]
                arguments = f, x, OWN_STEPS, x.shape, (), _as_it_is, values[:-2], probes, found
                spent[0] += 2 * x.size + 3
                if differences.central_differences(*arguments):
                    return step, OnFunction.DOUBTFUL
            else:
                found[:] = grad(x.copy())
            norm = least = euclidean_norm(found)
            if l1 or lower.size:
                least = euclidean_norm(least_subgradient(x, found, l1, *limits))
            norms[step] = least
            change, move = found - gradient, x - previous
            turned = found @ gradient < 0
            count, growth = 0, 1.0
            if (
                norm > state[OnFunction.NORM]
                and (turned or may_rise)
                and state[OnFunction.RATE] * state[OnFunction.NORM] > 0
            ):
                count, growth = (
                    state[OnFunction.OVERSHOOTS] + 1,
                    state[OnFunction.GROWTH] * (norm / state[OnFunction.NORM]),
                )
            suspicious = count >= overshoots and growth >= overshoot_growth
            # What is not finite here need not be so elsewhere: sums of squares overflow at 1e154.
            fine = np.isfinite(norm * norm + found @ gradient + change @ change + move @ move)
            fine = fine and (not wanted or np.isfinite(fun))
            if least <= tol or suspicious or not fine:
                return step, OnFunction.EVALUATED
            if count == 1 or (count > 1 and growth < overshoot_growth**3):
                length = euclidean_norm(move)
                state[OnFunction.CURVATURE] = euclidean_norm(change) / length if length else 0
            if turned or norm > state[OnFunction.FIRST_NORM]:
                state[OnFunction.ROSE] = 1
            state[OnFunction.OVERSHOOTS], state[OnFunction.GROWTH], state[OnFunction.NORM], state[OnFunction.RATE] = (
                count,
                growth,
                norm,
                rate,
            )
            if len(points):
                points[step] = x
            previous[:], gradient[:] = x, found
            optimizer_step(kind, parameters, x, gradient, moments, rate, done + step + 1, *limits)
    return len(rates), OnFunction.ALL_STEPS


def _as_it_is(returned, point, i):
    return returned
