# Runs of many steps on a function, with its own gradient or central differences. What needs judgement is handed back.

from fastgd.kernels import c_code, codes
from fastgd.kernels.callbacks cimport (
    CCallback, Watch, begin, c_callback, c_gradient, c_value, c_value_and_gradient, heed
)
from fastgd.kernels.central cimport all_finite, probe_point, slopes_and_doubts, step_at, useless_step
from fastgd.kernels.differences cimport Evaluator, array_from, evaluator
from libc.math cimport NAN

# Why `descend_function` came back, besides ALL_STEPS; `reference/functions.py` has the same.
cdef enum:
    UNTOUCHED = 1
    EVALUATED = 2
    DOUBTFUL = 3
    STOPPED = 4

# Entries of its `spent`.
cdef enum:
    SPENT_VALUES = 0
    SPENT_GRADIENTS = 1
    SPENT_STEPS = 2
    SPENT_WHOLE = 3
    SPENT = 4

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

cdef double LONGEST_CALL = codes.OnFunction.LONGEST_CALL

# A step on a quick function costs what is done with its gradient: sums of two registers each, so that none waits for
# the one before, and as few passes over the memory as there can be.
cdef extern from *:
    """
    #define FASTGD_AT(V, array, i) (*(V *) ((array) + (i)))
    #define FASTGD_OVER(d, TERMS)                                                                  \
        enum { L = sizeof(fastgd_doubles) / sizeof(double) };                                      \
        fastgd_doubles s0 = FASTGD_FILL(fastgd_doubles, 0.0), s1 = s0, t0 = s0, t1 = s0;           \
        fastgd_doubles u0 = s0, u1 = s0;                                                           \
        double s = 0, t = 0, u = 0;                                                                \
        ptrdiff_t i = 0;                                                                           \
        for (; i + 2 * L <= d; i += 2 * L) {                                                       \
            TERMS(fastgd_doubles, i, s0, t0, u0)                                                   \
            TERMS(fastgd_doubles, i + L, s1, t1, u1)                                               \
        }                                                                                          \
        for (; i < d; i++) TERMS(double, i, s, t, u)                                               \
        s += fastgd_sum_doubles(s0 + s1);                                                          \
        t += fastgd_sum_doubles(t0 + t1);                                                          \
        u += fastgd_sum_doubles(u0 + u1);
    #define FASTGD_PRODUCTS(V, i, s, t, u) {                                                       \
        V a = FASTGD_AT(const V, g, i);                                                            \
        s += a * a;                                                                                \
        t += a * FASTGD_AT(const V, before, i); }
    #define FASTGD_PLAIN_STEP(V, i, s, t, u) {                                                     \
        V a = FASTGD_AT(const V, g, i), moved = FASTGD_AT(const V, x, i) + -rate * a;              \
        s += a * a;                                                                                \
        t += a * FASTGD_AT(const V, before, i);                                                    \
        u += 0 * moved;                                                                            \
        FASTGD_AT(V, next, i) = moved;                                                             \
        FASTGD_AT(V, copy, i) = moved; }
    #define FASTGD_DIFFERENCES(V, i, s, t, u) {                                                    \
        V a = FASTGD_AT(const V, g, i) - FASTGD_AT(const V, before, i);                            \
        s += a * a; }
    /* Σ g², and Σ g·before. */
    static double fastgd_products(const double *g, const double *before, ptrdiff_t d, double *product) {
        FASTGD_OVER(d, FASTGD_PRODUCTS)
        *product = t;
        return s + u;
    }
    /* The same, next = copy = x − rate·g, and whether that is finite. */
    static double fastgd_plain_step(const double *g, const double *before, ptrdiff_t d, double *product,
                                    const double *x, double rate, double *next, double *copy, int *finite) {
        FASTGD_OVER(d, FASTGD_PLAIN_STEP)
        *product = t;
        *finite = u == 0;  /* NaN otherwise */
        return s;
    }
    /* Σ (g − before)². */
    static double fastgd_distance(const double *g, const double *before, ptrdiff_t d) {
        FASTGD_OVER(d, FASTGD_DIFFERENCES)
        return s + t + u;
    }
    """
    double products_of "fastgd_products"(const double* g, const double* before, Py_ssize_t d,
                                         double* product) noexcept nogil
    double plain_step "fastgd_plain_step"(const double* g, const double* before, Py_ssize_t d, double* product,
                                          const double* x, double rate, double* next, double* copy,
                                          bint* finite) noexcept nogil
    double squared_distance "fastgd_distance"(const double* g, const double* before, Py_ssize_t d) noexcept nogil


cdef double safe_norm(double squares, const double* g, Py_ssize_t size) noexcept nogil:
    """Euclidean norm of g, given the sum of its squares, which may have become infinite or 0 where the norm is not."""
    cdef double most = 0, total = 0
    cdef Py_ssize_t i
    if squares != 0 and isfinite(squares):
        return sqrt(squares)
    for i in range(size):
        most = larger(most, -g[i] if g[i] < 0 else g[i])
    if most == 0 or not isfinite(most) or squares != squares:
        return sqrt(squares)
    for i in range(size):
        total += (g[i] / most) * (g[i] / most)
    return most * sqrt(total)


cdef class Calls:
    """What is called at each point: C functions, or functions of Python, which need the GIL."""

    cdef CCallback c_f, c_grad
    cdef Evaluator f, grad, asked           # asked: the one of them that gives the gradient
    cdef tuple shape
    cdef object checked, look, rate
    cdef object kept                        # the array that grad returned one step before, where it is used as it is
    cdef bint in_c, numeric, both           # numeric: differences of f; both: f returns value and gradient


cdef Calls calls_of(f, grad, const double[::1] x, tuple shape, as_number, checked, look, rate):
    cdef Calls c = Calls.__new__(Calls)
    c.numeric, c.both = grad is None, grad is True
    c.shape, c.checked, c.look, c.rate = shape, checked, look, rate
    c.in_c = (type(f) is c_code.CValueAndGradient if c.both
              else type(f) is c_code.CFunction and (c.numeric or type(grad) is c_code.CGradient))
    if not c.in_c:
        c.f = evaluator(f, x, shape, (), as_number)
        c.grad = None if c.numeric or c.both else evaluator(grad, x, shape, (), as_number)
        c.asked = c.f if c.grad is None else c.grad
        return c
    c_callback(f, &c.c_f)
    if not (c.numeric or c.both):
        c_callback(grad, &c.c_grad)
    return c


cdef struct Run:
    Py_ssize_t d, steps, step
    double* x
    const double* gradient          # of the point before x, and that point
    double* previous
    double* next                    # the point after x, where the step to it is taken ahead of the judgement
    bint ahead, finite              # whether it is; whether x is known to be finite
    const double* found             # the gradient at x
    double* room                    # for the gradient at x, and that after it
    double* next_room
    double* values
    double* scratch                 # for 2d numbers, and behind them a point
    double* state
    double* funs
    double* norms
    double* points                  # or NULL
    double* rates
    long long* spent
    double tol, overshoots, overshoot_growth
    long long every, done
    # At x: norm of the gradient, along the last step the squares of what it changed by and of the step, whether it has
    # turned back, and what this makes of `state`.
    double norm, change, distance, count, growth
    bint turned


cdef int evaluate_in_c(Calls c, Run* r, bint wanted, double* fun, Watch* watch) except -1 nogil:
    """Value, where it is wanted, and gradient at x; whether that gradient is to be doubted."""
    cdef Py_ssize_t i, d = r.d
    cdef int side
    cdef double h
    cdef double* point = r.scratch      # a function may write to what it is given
    r.found = r.room
    memcpy(point, r.x, d * sizeof(double))
    if c.both or not c.numeric:
        memset(point + d, 0, d * sizeof(double))
    if c.both:
        fun[0] = c_value_and_gradient(&c.c_f, d, point, point + d)
    elif wanted:
        fun[0] = c_value(&c.c_f, d, point)
        memcpy(point, r.x, d * sizeof(double))
        heed(watch)
    r.spent[SPENT_VALUES] += wanted
    r.spent[SPENT_GRADIENTS] += 1
    if not c.numeric:
        if not c.both:
            c_gradient(&c.c_grad, d, point, point + d)
        memcpy(r.room, point + d, d * sizeof(double))
        heed(watch)
        return 0
    for i in range(d):
        h = step_at(NULL, i, r.x[i])
        for side in range(2):
            memcpy(point, r.x, d * sizeof(double))
            point[i] = r.x[i] - h if side else r.x[i] + h
            r.values[2 * i + side] = c_value(&c.c_f, d, point)
            heed(watch)
    slopes_and_doubts(r.x, NULL, r.values, NULL, d, r.room)
    for side in range(3):
        probe_point(r.x, NULL, r.room, d, side, point)
        r.values[2 * d + side] = c_value(&c.c_f, d, point)
        heed(watch)
    r.spent[SPENT_VALUES] += 2 * d + 3
    return slopes_and_doubts(r.x, NULL, r.values, r.values + 2 * d, d, r.room) > 0


cdef int evaluate_in_python(Calls c, Run* r, bint wanted, double* fun) except -1 with gil:
    """The same of functions of Python."""
    r.found = r.room
    c.f.x = r.x
    if c.grad is not None:
        c.grad.x = r.x
    if c.both:
        fun[0] = c.f.value_and_gradient(c.checked, r.room)
    elif wanted:
        fun[0] = c.f.at(-1, 0.0)
    r.spent[SPENT_VALUES] += wanted
    r.spent[SPENT_GRADIENTS] += 1
    if c.numeric:
        doubtful = c.f.differences(NULL, r.values, r.values + 2 * r.d, 3, r.room)
        r.spent[SPENT_VALUES] += 2 * r.d + 3
        return doubtful > 0
    if not c.both:
        c.kept = c.grad.own
        r.found = c.grad.gradient(c.checked, r.room, c.look is None)
    return 0


cdef bint is_to_be_judged(Run* r, const Update* rule, double least, double squares, double product) noexcept nogil:
    """Look at the gradient at x, and along the last step: whether it is near enough, overshoots or is not finite."""
    cdef double* state = r.state
    r.turned = product < 0
    r.change = r.distance = r.count = 0
    r.growth = 1
    if r.norm > state[RUN_NORM] and (r.turned or rule.may_rise) and state[RUN_RATE] * state[RUN_NORM] > 0:
        r.count, r.growth = state[RUN_OVERSHOOTS] + 1, state[RUN_GROWTH] * (r.norm / state[RUN_NORM])
        r.change = squared_distance(r.found, r.gradient, r.d)
        r.distance = squared_distance(r.x, r.previous, r.d)
    # What is not finite here need not be so elsewhere: sums of squares overflow at 1e154.
    return (least <= r.tol or not isfinite(squares + product + r.change + r.distance)
            or (r.count >= r.overshoots and r.growth >= r.overshoot_growth))


cdef void step_from(Calls c, Run* r, Update* rule, double rate) noexcept nogil:
    """Remember x and what is known of the run there, and take the step from it."""
    cdef double* state = r.state
    cdef double length
    # What it met nears the largest curvature from below, until the run has left the place for good.
    if r.count == 1 or (r.count > 1 and r.growth < r.overshoot_growth * r.overshoot_growth * r.overshoot_growth):
        length = state[RUN_RATE] * state[RUN_NORM] if rule.plain else sqrt(r.distance)
        state[RUN_CURVATURE] = sqrt(r.change) / length if length > 0 else 0
    if r.turned or r.norm > state[RUN_FIRST_NORM]:
        state[RUN_ROSE] = 1
    state[RUN_OVERSHOOTS], state[RUN_GROWTH] = r.count, r.growth
    state[RUN_NORM], state[RUN_RATE] = r.norm, rate
    if r.ahead:
        r.previous, r.x, r.next = r.x, r.next, r.previous
        c.asked.holds_x = True
    else:
        memcpy(r.previous, r.x, r.d * sizeof(double))
        take_step(rule, r.x, r.found, rate, r.done + r.step + 1)
    r.gradient = r.found
    if r.found == r.room:
        r.room, r.next_room = r.next_room, r.room
    r.step += 1
    r.spent[SPENT_STEPS], r.spent[SPENT_WHOLE] = r.step, 0


cdef bint stops(Calls c, Run* r, double fun) except -1 with gil:
    """Show x to `look`; whether it ends the run."""
    found = None if c.grad is None else c.grad.own
    if found is None:
        found = array_from(r.found, r.d, c.shape)
    else:
        c.grad.own = None
    return c.look(r.done + r.step, array_from(r.x, r.d, c.shape), fun, found, r.spent[SPENT_VALUES],
                  r.spent[SPENT_GRADIENTS])


cdef int ask_rate(Calls c, Run* r) except -1 with gil:
    r.rates[r.step] = c.rate(r.done + r.step)
    return 0


cdef int take_steps(Calls c, Run* r, Update* rule, int asks) except -1 nogil:
    """All steps, or those until something is to be judged: why it came back."""
    cdef Watch watch
    cdef bint limited = rule.parameters[L1] != 0 or rule.lower != NULL, wanted
    cdef double fun, least, squares, product
    cdef int doubtful
    begin(&watch)
    while r.step < r.steps:
        if not (r.finite or all_finite(r.x, r.d)) or (c.numeric and useless_step(r.x, NULL, r.d) >= 0):
            return UNTOUCHED
        wanted = c.both or (r.every > 0 and (r.done + r.step) % r.every == 0)
        fun = NAN
        if c.in_c:
            doubtful = evaluate_in_c(c, r, wanted, &fun, &watch)
        else:
            doubtful = evaluate_in_python(c, r, wanted, &fun)
            heed(&watch)
        if wanted and rule.parameters[L1] != 0:
            fun += penalty_of(rule, <const double*> r.x)
        r.funs[r.step] = fun
        if doubtful:
            return DOUBTFUL
        if r.ahead:     # the point that the function will be given is written as well
            squares = plain_step(r.found, r.gradient, r.d, &product, r.x, r.rates[r.step], r.next, c.asked.memory,
                                 &r.finite)
        else:
            squares = products_of(r.found, r.gradient, r.d, &product)
        r.norm = least = safe_norm(squares, r.found, r.d)
        if limited:
            least = least_norm(rule, <const double*> r.x, r.found)
        r.norms[r.step] = least
        if is_to_be_judged(r, rule, least, squares, product) or (wanted and not isfinite(fun)):
            return EVALUATED
        if r.points != NULL:
            memcpy(r.points + r.step * r.d, r.x, r.d * sizeof(double))
        r.spent[SPENT_WHOLE] = 1
        if asks & 1 and stops(c, r, fun):
            return STOPPED
        if asks & 2:
            ask_rate(c, r)
        step_from(c, r, rule, r.rates[r.step])
        if watch.read - watch.began > LONGEST_CALL:
            break
    return ALL_STEPS


cdef void put_back(double* scratch, const double* first, const double* second, double* to_first, double* to_second,
                   Py_ssize_t d) noexcept nogil:
    """Copy two arrays, of which either may be where the other is to go."""
    memcpy(scratch, first, d * sizeof(double))
    memcpy(scratch + d, second, d * sizeof(double))
    memcpy(to_first, scratch, d * sizeof(double))
    memcpy(to_second, scratch + d, d * sizeof(double))


def descend_function(f, grad, double[::1] x not None, tuple shape, as_number, checked, double[::1] found not None,
                     double[:, ::1] values not None, long long[::1] spent not None, look, rate,
                     double[::1] rates not None, double tol, double overshoots, double overshoot_growth,
                     long long every, double[::1] state not None, double[::1] gradient not None,
                     double[::1] previous not None, double[::1] funs not None, double[::1] norms not None,
                     double[:, ::1] points not None, int kind, const double[::1] parameters not None,
                     double[:, ::1] moments not None, long long done, Py_ssize_t penalised,
                     const double[::1] lower not None, const double[::1] upper not None):
    """Descent on a function by a rule with the rates given, in x itself. See `reference/functions.py`."""
    cdef Py_ssize_t d = x.shape[0], steps = rates.shape[0]
    cdef int asks = (look is not None) + 2 * (rate is not None), reason = ALL_STEPS
    if gradient.shape[0] != d or previous.shape[0] != d or found.shape[0] != d or d == 0:
        raise ValueError(f"x has {d} entries, gradient {gradient.shape[0]}, previous {previous.shape[0]} and found "
                         f"{found.shape[0]}")
    if grad is None and (values.shape[0] != d + 2 or values.shape[1] != 2):
        raise ValueError(f"values must have shape ({d + 2}, 2); got ({values.shape[0]}, {values.shape[1]})")
    if state.shape[0] != RUN_STATE or spent.shape[0] != SPENT:
        raise ValueError(f"state must have {<int> RUN_STATE} entries and spent {<int> SPENT}")
    if funs.shape[0] < steps or norms.shape[0] < steps or (points.shape[0] != 0 and points.shape[0] < steps):
        raise ValueError(f"funs, norms and points must have room for {steps} steps")
    if points.shape[0] and points.shape[1] != d:
        raise ValueError("points must have the length of x behind its first axis")
    cdef Calls calls = calls_of(f, grad, x, shape, as_number, checked, look, rate)
    spent[SPENT_STEPS] = spent[SPENT_WHOLE] = 0
    if steps == 0:
        return 0, reason
    cdef Update rule = update_of(kind, parameters, moments, d, penalised, lower, upper)
    cdef Run r
    r.d, r.steps, r.step, r.every, r.done = d, steps, 0, every, done
    r.tol, r.overshoots, r.overshoot_growth = tol, overshoots, overshoot_growth
    r.x, r.gradient, r.previous, r.found = &x[0], &gradient[0], &previous[0], &found[0]
    r.room, r.next_room = &found[0], &gradient[0]
    r.values = &values[0, 0] if grad is None else NULL
    r.funs, r.norms, r.rates, r.state, r.spent = &funs[0], &norms[0], &rates[0], &state[0], &spent[0]
    r.points = &points[0, 0] if points.shape[0] else NULL
    r.scratch = <double*> malloc(3 * d * sizeof(double))
    r.next, r.finite = r.scratch + 2 * d, False
    r.ahead = rule.plain and not (calls.in_c or calls.numeric or asks)
    try:
        if r.scratch == NULL:
            raise MemoryError("no memory for a point")
        if calls.in_c:
            with nogil:
                reason = take_steps(calls, &r, &rule, asks)
        else:
            reason = take_steps(calls, &r, &rule, asks)
    finally:
        if r.scratch != NULL:
            put_back(r.scratch, r.found, r.gradient, &found[0], &gradient[0], d)
            if r.ahead:
                put_back(r.scratch, r.x, r.previous, &x[0], &previous[0], d)
        free(r.scratch)
        free_update(&rule)
    return r.step, reason
