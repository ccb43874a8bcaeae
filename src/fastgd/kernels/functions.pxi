# Runs of many steps on a C function, with its own gradient or central differences. What needs judgement is handed back.

from fastgd.kernels.callbacks cimport CCallback, Watch, begin, c_callback, c_gradient, c_value, heed
from fastgd.kernels.central cimport all_finite, probe_point, slopes_and_doubts, step_at, useless_step
from libc.math cimport NAN

# Why `descend_function` came back, besides ALL_STEPS; `reference/functions.py` has the same.
cdef enum:
    UNTOUCHED = 1
    EVALUATED = 2
    DOUBTFUL = 3

# Entries of its `state`.
cdef enum:
    RUN_OVERSHOOTS = 0      # steps in a row that overshot
    RUN_GROWTH = 1          # what they did to the gradient's norm
    RUN_CURVATURE = 2       # what the first, or the last before the run left for good, met
    RUN_NORM = 3            # the gradient's norm and the rate, one step before
    RUN_RATE = 4
    RUN_FIRST_NORM = 5      # the gradient's norm at the start of the run
    RUN_ROSE = 6            # whether the value may have risen
    RUN_STATE = 7

# `reference/functions.py` has the same.
cdef double LONGEST_CALL = 1.0


cdef double safe_norm(const double* g, Py_ssize_t size) noexcept nogil:
    """Euclidean norm, without overflow or underflow on the way."""
    cdef double norm = norm_of(g, size), most = 0, total = 0
    cdef Py_ssize_t i
    if norm != 0 and isfinite(norm):
        return norm
    for i in range(size):
        most = larger(most, -g[i] if g[i] < 0 else g[i])
    if most == 0 or not isfinite(most) or norm != norm:
        return norm
    for i in range(size):
        total += (g[i] / most) * (g[i] / most)
    return most * sqrt(total)


cdef int differences(const CCallback* f, const double* x, Py_ssize_t d, double* point, double* values,
                     double* slopes, Watch* watch) except -1 nogil:
    """f a step above and below x on each axis, the slopes, and f at their probes; `point` is scratch for d numbers."""
    cdef Py_ssize_t i, side
    cdef int which
    cdef double h
    for i in range(d):
        h = step_at(NULL, i, x[i])
        for side in range(2):
            memcpy(point, x, d * sizeof(double))  # f may write to what it is given
            point[i] = x[i] - h if side else x[i] + h
            values[2 * i + side] = c_value(f, d, point)
            heed(watch)
    slopes_and_doubts(x, NULL, values, NULL, d, slopes)
    for which in range(3):
        probe_point(x, NULL, slopes, d, which, point)
        values[2 * d + which] = c_value(f, d, point)
        heed(watch)
    return 0


def descend_function(f, grad, double[::1] x not None, const double[::1] rates not None, double tol, double overshoots,
                     double overshoot_growth, long long every, double[::1] state not None,
                     double[::1] gradient not None, double[::1] previous not None, double[::1] found not None,
                     double[:, ::1] values not None, double[::1] funs not None, double[::1] norms not None,
                     double[:, ::1] points not None, long long[::1] spent not None, int kind,
                     const double[::1] parameters not None, double[:, ::1] moments not None, long long done,
                     Py_ssize_t penalised, const double[::1] lower not None, const double[::1] upper not None):
    """Descent on a C function by a rule with the rates given, in x itself. See `reference/functions.py`."""
    cdef Py_ssize_t d = x.shape[0], steps = rates.shape[0], step = 0, i
    cdef bint numeric = grad is None, limited, turned, wanted
    cdef CCallback value_of, gradient_of
    if gradient.shape[0] != d or previous.shape[0] != d or found.shape[0] != d or d == 0:
        raise ValueError(f"x has {d} entries, gradient {gradient.shape[0]}, previous {previous.shape[0]} and found "
                         f"{found.shape[0]}")
    if numeric and (values.shape[0] != d + 2 or values.shape[1] != 2):
        raise ValueError(f"values must have shape ({d + 2}, 2); got ({values.shape[0]}, {values.shape[1]})")
    if state.shape[0] != RUN_STATE or spent.shape[0] != 2:
        raise ValueError(f"state must have {<int> RUN_STATE} entries and spent 2")
    if funs.shape[0] < steps or norms.shape[0] < steps or (points.shape[0] != 0 and points.shape[0] < steps):
        raise ValueError(f"funs, norms and points must have room for {steps} steps")
    if points.shape[0] and points.shape[1] != d:
        raise ValueError("points must have the length of x behind its first axis")
    c_callback(f, &value_of)
    if not numeric:
        c_callback(grad, &gradient_of)
    cdef Update rule = update_of(kind, parameters, moments, d, penalised, lower, upper)
    cdef double* point = <double*> malloc(2 * d * sizeof(double))
    if point == NULL:
        free_update(&rule)
        raise MemoryError("no memory for a point")
    cdef double* x_ = &x[0]
    cdef double* g = &gradient[0]
    cdef double* new = &found[0]
    cdef double fun, norm, least, product, difference, distance, change, count, growth
    cdef int reason = ALL_STEPS
    cdef Watch watch
    limited = rule.parameters[L1] != 0 or rule.lower != NULL
    try:
        with nogil:
            begin(&watch)
            while step < steps:
                if not all_finite(x_, d) or (numeric and useless_step(x_, NULL, d) >= 0):
                    reason = UNTOUCHED
                    break
                fun = NAN
                wanted = every > 0 and (done + step) % every == 0
                if wanted:
                    memcpy(point, x_, d * sizeof(double))
                    fun = c_value(&value_of, d, point)
                    spent[0] += 1
                    heed(&watch)
                    if rule.parameters[L1] != 0:
                        fun += penalty_of(&rule, <const double*> x_)
                funs[step] = fun
                spent[1] += 1
                if numeric:
                    differences(&value_of, x_, d, point, &values[0, 0], new, &watch)
                    spent[0] += 2 * d + 3
                    if slopes_and_doubts(x_, NULL, &values[0, 0], &values[d, 0], d, new):
                        reason = DOUBTFUL
                        break
                else:
                    memcpy(point, x_, d * sizeof(double))
                    memset(point + d, 0, d * sizeof(double))
                    c_gradient(&gradient_of, d, point, point + d)
                    heed(&watch)
                    memcpy(new, point + d, d * sizeof(double))
                norm = least = safe_norm(<const double*> new, d)
                if limited:
                    least = least_norm(&rule, <const double*> x_, <const double*> new)
                norms[step] = least
                product = difference = distance = 0
                for i in range(d):
                    product += new[i] * g[i]
                    change = new[i] - g[i]
                    difference += change * change
                    change = x_[i] - previous[i]
                    distance += change * change
                turned = product < 0
                count, growth = 0, 1
                if norm > state[RUN_NORM] and (turned or rule.may_rise) and state[RUN_RATE] * state[RUN_NORM] > 0:
                    count, growth = state[RUN_OVERSHOOTS] + 1, state[RUN_GROWTH] * (norm / state[RUN_NORM])
                # What is not finite here need not be so elsewhere: sums of squares overflow at 1e154.
                if (least <= tol or not isfinite(norm * norm + product + difference + distance)
                        or (wanted and not isfinite(fun)) or (count >= overshoots and growth >= overshoot_growth)):
                    reason = EVALUATED
                    break
                # What it met nears the largest curvature from below, until the run has left the place for good.
                if count == 1 or (count > 1 and growth < overshoot_growth * overshoot_growth * overshoot_growth):
                    distance = state[RUN_RATE] * state[RUN_NORM] if rule.plain else sqrt(distance)
                    state[RUN_CURVATURE] = sqrt(difference) / distance if distance > 0 else 0
                if turned or norm > state[RUN_FIRST_NORM]:
                    state[RUN_ROSE] = 1
                state[RUN_OVERSHOOTS] = count
                state[RUN_GROWTH] = growth
                state[RUN_NORM] = norm
                state[RUN_RATE] = rates[step]
                if points.shape[0]:
                    memcpy(&points[step, 0], x_, d * sizeof(double))
                memcpy(&previous[0], x_, d * sizeof(double))
                memcpy(g, new, d * sizeof(double))
                take_step(&rule, x_, <const double*> g, rates[step], done + step + 1)
                step += 1
                if watch.read - watch.began > LONGEST_CALL:
                    break
    finally:
        free(point)
        free_update(&rule)
    return step, reason
