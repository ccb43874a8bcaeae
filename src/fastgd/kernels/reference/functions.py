"""The kernel of descent on a C function in plain NumPy: the specification of `functions.pxi`."""

import time

import numpy as np

from fastgd.kernels import codes
from fastgd.kernels.codes import OWN_STEPS, OnFunction
from fastgd.kernels.reference import differences
from fastgd.kernels.reference.updates import optimizer_step
from fastgd.linalg import euclidean_norm, least_subgradient


def descend_function(
    f, grad, x, shape, as_number, checked, found, values, spent, look, rate, rates, tol, overshoots, overshoot_growth,
    every, state, gradient, previous, funs, norms, points, kind, parameters, moments, done, penalised, lower, upper,
):  # fmt: skip
    """Descent on a function by a rule, x ← x − rate·∇f(x) or another one, in place, from its second point on.

    It takes steps as long as nothing is to be judged. Where something is, it comes back before it: the loop that called
    it looks at that point with the rules that it has for every other, and takes the step from there. What f, grad, look
    or rate raises reaches the caller; `spent` then says how far it has come.

    Parameters
    ----------
    f : CFunction, CValueAndGradient or callable
    grad : CGradient, callable, True or None
        True where f returns (value, gradient); None for central differences at the library's own steps. Where f and
        grad are C functions, nothing of Python is called but `look` and `rate`.
    x : (d,) float64, written to
        d is at least 1.
    shape : tuple
        The shape in which functions get x, each time a private copy.
    as_number : callable
        As in `differences.evaluate`.
    checked : callable
        checked(returned, point) makes a float64 array of that shape of what grad returned, or a pair (value, array) of
        what f returned with grad=True, or raises. It is not called where that is what was returned.
    found : (d,) float64, written to
        The gradient at the last point that was looked at.
    values : (d + 2, 2) float64, written to
        The values that a numerical gradient is made of, and behind them its three probes. Not looked at where there is
        a `grad`.
    spent : (4,) int64, written to
        VALUES and GRADIENTS, to which evaluations are added; STEPS, those taken; WHOLE, 1 where value and gradient at x
        are known and have been recorded.
    look : callable or None
        look(number of the step, x, fun, gradient, VALUES, GRADIENTS), with new arrays, is called at each point from
        which a step is to be taken; true ends the call.
    rate : callable or None
        rate(number of the step), asked for before the step is taken, in place of `rates`.
    rates : (steps,) float64, written to where there is a `rate`
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
    funs, norms : (steps,) float64, written to
        f + l1·‖x‖₁ at the point before each step, NaN where it is not evaluated, and the norm that `tol` is for.
    points : (steps, d) or (0, 0) float64, written to
        That point.
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
        DOUBTFUL: funs[step] is there, and the `values` of a numerical gradient that is not good enough;
        STOPPED: `look` has said so.
    """
    l1, limits = float(parameters[codes.L1]), (penalised, lower, upper)
    may_rise = kind not in (codes.RULES["gd"], codes.RULES["asgd"])
    call = _calls(f, grad, x, shape, as_number, checked, values, found, spent)
    spent[OnFunction.STEPS] = spent[OnFunction.WHOLE] = 0
    began = time.perf_counter()
    with np.errstate(all="ignore"):
        for step in range(len(rates)):
            if step and time.perf_counter() - began > OnFunction.LONGEST_CALL:
                return step, OnFunction.ALL_STEPS
            h = differences._steps(x, OWN_STEPS)
            distance = (x + h) - (x - h)
            if not np.all(np.isfinite(x)) or (grad is None and not np.all((distance != 0) & np.isfinite(distance))):
                return step, OnFunction.UNTOUCHED
            wanted = grad is True or (every and (done + step) % every == 0)
            fun, doubtful = call(wanted)
            funs[step] = fun = fun + (l1 * np.sum(np.abs(x[:penalised])) if l1 else 0.0)
            if doubtful:
                return step, OnFunction.DOUBTFUL
            norm = least = euclidean_norm(found)
            if l1 or lower.size:
                least = euclidean_norm(least_subgradient(x, found, l1, *limits))
            norms[step] = least
            change, move, product = found - gradient, x - previous, found @ gradient
            turned, before, count, growth = product < 0, state[OnFunction.NORM], 0, 1.0
            if norm > before and (turned or may_rise) and state[OnFunction.RATE] * before > 0:
                count, growth = state[OnFunction.OVERSHOOTS] + 1, state[OnFunction.GROWTH] * (norm / before)
            suspicious = count >= overshoots and growth >= overshoot_growth
            # What is not finite here need not be so elsewhere: sums of squares overflow at 1e154.
            fine = np.isfinite(norm * norm + product + (change @ change + move @ move if count else 0.0))
            if least <= tol or suspicious or not fine or (wanted and not np.isfinite(fun)):
                return step, OnFunction.EVALUATED
            if len(points):
                points[step] = x
            spent[OnFunction.WHOLE] = 1
            seen = spent[[OnFunction.VALUES, OnFunction.GRADIENTS]].tolist()
            if look is not None and look(done + step, x.reshape(shape).copy(), fun, found.reshape(shape).copy(), *seen):
                return step, OnFunction.STOPPED
            rates[step] = rates[step] if rate is None else rate(done + step)
            if count == 1 or (count > 1 and growth < overshoot_growth**3):
                length = euclidean_norm(move)
                state[OnFunction.CURVATURE] = euclidean_norm(change) / length if length else 0
            if turned or norm > state[OnFunction.FIRST_NORM]:
                state[OnFunction.ROSE] = 1
            state[[OnFunction.OVERSHOOTS, OnFunction.GROWTH]] = count, growth
            state[[OnFunction.NORM, OnFunction.RATE]] = norm, rates[step]
            previous[:], gradient[:] = x, found
            optimizer_step(kind, parameters, x, gradient, moments, rates[step], done + step + 1, *limits)
            spent[OnFunction.STEPS], spent[OnFunction.WHOLE] = step + 1, 0
    return len(rates), OnFunction.ALL_STEPS


def _calls(f, grad, x, shape, as_number, checked, values, found, spent):
    """What evaluates at x: a function of whether the value is wanted that returns it, and whether to doubt `found`."""

    def call(wanted):
        fun, doubtful, point = np.nan, 0, x.reshape(shape)
        if grad is True:
            fun, found.reshape(shape)[...] = checked(f(point.copy()), point)
        elif wanted:
            fun = differences.evaluate(f, x, shape, (), as_number)
        spent[OnFunction.VALUES] += bool(wanted)
        spent[OnFunction.GRADIENTS] += 1
        if grad is None:
            probes = values[-2:].reshape(-1)[:3]
            doubtful = differences.central_differences(
                f, x, OWN_STEPS, shape, (), as_number, values[:-2], probes, found
            )
            spent[OnFunction.VALUES] += 2 * x.size + 3
        elif grad is not True:
            found.reshape(shape)[...] = checked(grad(point.copy()), point)
        return float(fun), doubtful > 0

    return call
