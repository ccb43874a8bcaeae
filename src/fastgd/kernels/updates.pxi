# Update rules: how a gradient moves the weights. A rule is one loop over the weights; a rule's number and its moments
# are those of `reference/updates.py`, which is the specification.
#
# Each loop moves w by t·p. Where there is an l1 penalty it leaves the rates t behind, and a second loop shrinks the
# weights by t·λ; another one moves them into their bounds. Most runs need neither, and then there is one loop.

from libc.math cimport INFINITY, isfinite, pow, sqrt, sqrtf

# The rows of RULES in `reference/updates.py`, by the same numbers.
cdef enum Rule:
    GD = 0
    MOMENTUM = 1
    NESTEROV = 2
    ADAGRAD = 3
    ADADELTA = 4
    RMSPROP = 5
    ADAM = 6
    ADAMAX = 7
    NADAM = 8
    AMSGRAD = 9
    ADAMW = 10
    ASGD = 11
    RULES = 12

# Entries of `parameters`.
cdef enum:
    DECAY = 0
    DECAY_SQUARE = 1
    EPS = 2
    EXTRA = 3
    CLIP_VALUE = 4
    CLIP_NORM = 5
    L1 = 6
    PARAMETERS = 7


cdef struct Update:
    int kind
    bint plain                      # w ← w − lr·g and no more
    bint may_rise                   # the rule may go uphill for a while
    double parameters[7]
    Py_ssize_t size, penalised
    void* moments                   # (rows, size)
    const void* lower               # (size,), or NULL where there are no bounds
    const void* upper
    void* clipped                   # (size,), or NULL where g is taken as it is
    void* rates                     # (size,), or NULL where nobody needs them


cdef inline Py_ssize_t moments_of(int kind) noexcept nogil:
    """The rows of moments that a rule keeps."""
    if kind == GD:
        return 0
    if kind == AMSGRAD:
        return 3
    return 2 if kind in (ADADELTA, ADAM, ADAMAX, NADAM, ADAMW) else 1


cdef Update update_of(int kind, const double[::1] parameters, floating[:, ::1] moments, Py_ssize_t size,
                      Py_ssize_t penalised, const floating[::1] lower, const floating[::1] upper) except *:
    """The rule with its lengths checked; `free_update` gives its memory back."""
    cdef Update u
    cdef Py_ssize_t i
    if kind < 0 or kind >= RULES:
        raise ValueError(f"kind must be a number from RULES; got {kind}")
    if parameters.shape[0] != PARAMETERS:
        raise ValueError(f"parameters must have {<int> PARAMETERS} entries; got {parameters.shape[0]}")
    if moments_of(kind) and (moments.shape[0] != moments_of(kind) or moments.shape[1] != size):
        raise ValueError(f"moments must have {moments_of(kind)} rows of {size} entries; got shape "
                         f"({moments.shape[0]}, {moments.shape[1]})")
    if lower.shape[0] != upper.shape[0] or (lower.shape[0] != 0 and lower.shape[0] != size):
        raise ValueError(f"lower and upper must have {size} entries or none; got {lower.shape[0]} and {upper.shape[0]}")
    if penalised < 0 or penalised > size:
        raise ValueError(f"penalised must be from 0 to {size} entries; got {penalised}")
    for i in range(PARAMETERS):
        u.parameters[i] = parameters[i]
    u.kind, u.size, u.penalised = kind, size, penalised
    u.moments = &moments[0, 0] if moments_of(kind) and size else NULL
    u.lower = &lower[0] if lower.shape[0] else NULL
    u.upper = &upper[0] if lower.shape[0] else NULL
    cdef bint clips = u.parameters[CLIP_VALUE] < INFINITY or u.parameters[CLIP_NORM] < INFINITY
    u.plain = kind == GD and not clips and u.parameters[L1] == 0 and u.lower == NULL
    u.may_rise = kind != GD and kind != ASGD
    u.clipped = u.rates = NULL
    if clips and size:
        u.clipped = malloc(size * sizeof(floating))
    if u.parameters[L1] != 0 and size:
        u.rates = malloc(size * sizeof(floating))
    if size and ((clips and u.clipped == NULL) or (u.parameters[L1] != 0 and u.rates == NULL)):
        free_update(&u)
        raise MemoryError("no memory for a step")
    return u


cdef void free_update(Update* u) noexcept nogil:
    free(u.clipped)
    free(u.rates)


cdef inline floating root(floating x) noexcept nogil:
    if floating is double:
        return sqrt(x)
    else:
        return sqrtf(x)


cdef inline floating larger(floating x, floating y) noexcept nogil:
    return x if x > y else y


cdef inline floating softened(floating w, floating a) noexcept nogil:
    """sign(w)·max(|w| − a, 0)."""
    return w - a if w > a else (w + a if w < -a else 0)


cdef inline double norm_of(const floating* g, Py_ssize_t size) noexcept nogil:
    """Euclidean norm in float64; four sums, so that none waits for the one before."""
    cdef double a = 0, b = 0, c = 0, d = 0
    cdef Py_ssize_t i
    for i in range(0, size - 3, 4):
        a += <double> g[i] * <double> g[i]
        b += <double> g[i + 1] * <double> g[i + 1]
        c += <double> g[i + 2] * <double> g[i + 2]
        d += <double> g[i + 3] * <double> g[i + 3]
    for i in range(size - size % 4, size):
        a += <double> g[i] * <double> g[i]
    return sqrt((a + b) + (c + d))


cdef const floating* clipped_gradient(Update* u, const floating* g) noexcept nogil:
    """A copy of g, its entries cut off at ±CLIP_VALUE, shortened to CLIP_NORM."""
    cdef floating* out = <floating*> u.clipped
    cdef floating most = <floating> u.parameters[CLIP_VALUE], factor = 1
    cdef double norm
    cdef Py_ssize_t i
    for i in range(u.size):
        out[i] = most if g[i] > most else (-most if g[i] < -most else g[i])
    if u.parameters[CLIP_NORM] < INFINITY:
        norm = norm_of(<const floating*> out, u.size)
        if norm > u.parameters[CLIP_NORM]:
            factor = <floating> (u.parameters[CLIP_NORM] / norm)
            for i in range(u.size):
                out[i] *= factor
    return out


cdef inline void same_rate(Update* u, floating rate) noexcept nogil:
    cdef floating* rates = <floating*> u.rates
    cdef Py_ssize_t i
    if rates != NULL:
        for i in range(u.size):
            rates[i] = rate


cdef void take_step(Update* u, floating* w, const floating* g, double rate, long long step) noexcept nogil:
    """Step number `step`, from 1, in w and in the moments. See `reference.updates.optimizer_step`."""
    cdef Py_ssize_t i, n = u.size
    cdef double share
    cdef floating* first
    cdef floating average
    if u.plain:
        add_multiple(w, <floating> -rate, g, n)
        return
    if u.clipped != NULL:
        g = clipped_gradient(u, g)
    if u.kind == GD or u.kind == ASGD:
        add_multiple(w, <floating> -rate, g, n)
        same_rate(u, <floating> rate)
    elif u.kind == MOMENTUM or u.kind == NESTEROV:
        momentum_step(u, w, g, rate)
    elif u.kind == ADAGRAD or u.kind == RMSPROP:
        scaled_step(u, w, g, rate)
    elif u.kind == ADADELTA:
        adadelta_step(u, w, g, rate)
    elif u.kind == ADAMAX:
        adamax_step(u, w, g, rate, step)
    else:
        adam_step(u, w, g, rate, step)
    if u.rates != NULL:
        shrink_weights(u, w)
    if u.lower != NULL:
        clamp_weights(u, w)
    if u.kind == ASGD:
        share = step - u.parameters[EXTRA]
        average = <floating> (1 / share if share > 1 else 1.0)
        first = <floating*> u.moments
        for i in range(n):
            first[i] += average * (w[i] - first[i])


cdef void shrink_weights(Update* u, floating* w) noexcept nogil:
    cdef floating* rates = <floating*> u.rates
    cdef floating l1 = <floating> u.parameters[L1]
    cdef Py_ssize_t i
    for i in range(u.penalised):  # in a loop of its own the product is rounded, as in steps that are written in NumPy
        rates[i] *= l1
    for i in range(u.penalised):
        w[i] = softened(w[i], rates[i])


cdef void clamp_weights(Update* u, floating* w) noexcept nogil:
    cdef const floating* lower = <const floating*> u.lower
    cdef const floating* upper = <const floating*> u.upper
    cdef Py_ssize_t i
    for i in range(u.size):
        w[i] = lower[i] if w[i] < lower[i] else (upper[i] if w[i] > upper[i] else w[i])


cdef void momentum_step(Update* u, floating* w, const floating* g, double rate) noexcept nogil:
    """v ← μv + g;  w ← w − η·v, or, Nesterov's, w ← w − η(g + μv)."""
    cdef floating* v = <floating*> u.moments
    cdef floating mu = <floating> u.parameters[DECAY], lr = <floating> rate
    cdef Py_ssize_t i
    if u.kind == MOMENTUM:
        for i in range(u.size):
            v[i] = mu * v[i] + g[i]
            w[i] -= lr * v[i]
    else:
        for i in range(u.size):
            v[i] = mu * v[i] + g[i]
            w[i] -= lr * (g[i] + mu * v[i])
    same_rate(u, <floating> (rate / (1 - u.parameters[DECAY])))


cdef void scaled_step(Update* u, floating* w, const floating* g, double rate) noexcept nogil:
    """w ← w − η·g/(√s + ε), s being the sum (Adagrad) or a running mean (RMSprop) of g²."""
    cdef floating* s = <floating*> u.moments
    cdef floating* rates = <floating*> u.rates
    cdef bint sums = u.kind == ADAGRAD
    cdef floating rho = <floating> (1 if sums else u.parameters[DECAY])
    cdef floating share = <floating> (1 if sums else 1 - u.parameters[DECAY])
    cdef floating eps = <floating> u.parameters[EPS], lr = <floating> rate, t
    cdef Py_ssize_t i
    for i in range(u.size):
        s[i] = rho * s[i] + share * g[i] * g[i]
        t = lr / (root(s[i]) + eps)
        w[i] -= t * g[i]
        if rates != NULL:
            rates[i] = t


cdef void adadelta_step(Update* u, floating* w, const floating* g, double rate) noexcept nogil:
    """w ← w − η·t·g with t = √(d + ε)/√(s + ε), s and d being running means of g² and of (t·g)²."""
    cdef floating* s = <floating*> u.moments
    cdef floating* d = s + u.size
    cdef floating* rates = <floating*> u.rates
    cdef floating rho = <floating> u.parameters[DECAY], share = <floating> (1 - u.parameters[DECAY])
    cdef floating eps = <floating> u.parameters[EPS], lr = <floating> rate, t, move
    cdef Py_ssize_t i
    for i in range(u.size):
        s[i] = rho * s[i] + share * g[i] * g[i]
        t = root(d[i] + eps) / root(s[i] + eps)
        move = t * g[i]
        d[i] = rho * d[i] + share * move * move
        w[i] -= lr * move
        if rates != NULL:
            rates[i] = lr * t


cdef void adamax_step(Update* u, floating* w, const floating* g, double rate, long long step) noexcept nogil:
    """w ← w − η·m̂/u with m a running mean of g and u ← max(β₂u, |g| + ε)."""
    cdef floating* m = <floating*> u.moments
    cdef floating* most = m + u.size
    cdef floating* rates = <floating*> u.rates
    cdef double beta = u.parameters[DECAY]
    cdef floating keep = <floating> u.parameters[DECAY_SQUARE], share = <floating> (1 - beta)
    cdef floating correction = <floating> (1 / (1 - pow(beta, <double> step)))
    cdef floating eps = <floating> u.parameters[EPS], lr = <floating> rate, t
    cdef Py_ssize_t i
    for i in range(u.size):
        m[i] += share * (g[i] - m[i])
        most[i] = larger(keep * most[i], (-g[i] if g[i] < 0 else g[i]) + eps)
        t = lr / most[i]
        w[i] -= t * (correction * m[i])
        if rates != NULL:
            rates[i] = t


cdef void adam_step(Update* u, floating* w, const floating* g, double rate, long long step) noexcept nogil:
    """w ← w − η·p/(√v̂ + ε): p = m̂ (Adam), or a look ahead (Nadam); v̂ of the largest v so far (AMSGrad)."""
    cdef floating* m = <floating*> u.moments
    cdef floating* v = m + u.size
    cdef floating* most = v + u.size
    cdef floating* rates = <floating*> u.rates
    cdef double beta = u.parameters[DECAY], beta_square = u.parameters[DECAY_SQUARE], t = <double> step
    cdef floating share = <floating> (1 - beta), keep = <floating> beta_square
    cdef floating share_square = <floating> (1 - beta_square)
    cdef floating correction = <floating> (1 / (1 - pow(beta, t)))
    cdef floating correction_square = <floating> (1 / sqrt(1 - pow(beta_square, t)))
    cdef floating eps = <floating> u.parameters[EPS], lr = <floating> rate, own, here
    cdef Py_ssize_t i
    if u.kind == ADAMW:
        own = <floating> (1 - rate * u.parameters[EXTRA])
        for i in range(u.size):
            w[i] *= own
    if u.kind == NADAM:
        correction = <floating> (beta / (1 - pow(beta, t + 1)))
        here = <floating> ((1 - beta) / (1 - pow(beta, t)))
        for i in range(u.size):
            m[i] += share * (g[i] - m[i])
            v[i] = keep * v[i] + share_square * g[i] * g[i]
            own = lr / (root(v[i]) * correction_square + eps)
            w[i] -= own * (correction * m[i] + here * g[i])
            if rates != NULL:
                rates[i] = own
    elif u.kind == AMSGRAD:
        for i in range(u.size):
            m[i] += share * (g[i] - m[i])
            v[i] = keep * v[i] + share_square * g[i] * g[i]
            most[i] = larger(v[i], most[i])
            own = lr / (root(most[i]) * correction_square + eps)
            w[i] -= own * (correction * m[i])
            if rates != NULL:
                rates[i] = own
    else:
        for i in range(u.size):
            m[i] += share * (g[i] - m[i])
            v[i] = keep * v[i] + share_square * g[i] * g[i]
            own = lr / (root(v[i]) * correction_square + eps)
            w[i] -= own * (correction * m[i])
            if rates != NULL:
                rates[i] = own


cdef double penalty_of(Update* u, const floating* w) noexcept nogil:
    """l1·‖w‖₁."""
    cdef double total = 0
    cdef Py_ssize_t i
    for i in range(u.penalised):
        total += -w[i] if w[i] < 0 else w[i]
    return u.parameters[L1] * total


cdef double least_norm(Update* u, const floating* w, const floating* g) noexcept nogil:
    """Norm of the shortest subgradient within the bounds. See `linalg.least_subgradient`."""
    cdef const floating* lower = <const floating*> u.lower
    cdef const floating* upper = <const floating*> u.upper
    cdef double l1 = u.parameters[L1], total = 0, least
    cdef Py_ssize_t i
    for i in range(u.size):
        least = g[i]
        if l1 != 0 and i < u.penalised:
            least = least + l1 if w[i] > 0 else (least - l1 if w[i] < 0 else softened(least, l1))
        if lower != NULL and ((w[i] <= lower[i] and least > 0) or (w[i] >= upper[i] and least < 0)):
            least = 0
        total += least * least
    return sqrt(total)


def optimizer_step(int kind, const double[::1] parameters not None, floating[::1] w not None,
                   const floating[::1] g not None, floating[:, ::1] moments not None, double lr, long long step,
                   Py_ssize_t penalised, const floating[::1] lower not None, const floating[::1] upper not None):
    """One step of a rule, in place. See `reference.updates.optimizer_step`."""
    if g.shape[0] != w.shape[0]:
        raise ValueError(f"g has {g.shape[0]} entries, w has {w.shape[0]}")
    cdef Update u = update_of(kind, parameters, moments, w.shape[0], penalised, lower, upper)
    if w.shape[0]:
        with nogil:
            take_step(&u, &w[0], &g[0], lr, step)
            free_update(&u)
