# Stochastic descent on one row at a time, for one output and rows that are contiguous.
#
# Each step waits for the one before: w is multiplied by a row, the sum goes across a register, through the slope of the
# loss, and back into w. That is a chain of some fifty cycles for rows of any width. Here four rows are taken at once.
# With h⁰ = Xw for the four, at the weights before them, and G = XXᵀ, which wait for nothing, the chain is of scalars:
#
#     hᵢ = h⁰ᵢ + Σ_{j<i} mⱼ·Gᵢⱼ,    mᵢ = −ηᵢ·∂l/∂h(hᵢ),    w ← w + Σ mᵢ·xᵢ
#
# It is the same sequence of steps; only the rounding is another.

# Rows of more bytes are asked for a line at a time.
cdef enum:
    WIDE = 512


cdef inline double point_slope(double h, double y, Formula* l) noexcept nogil:
    """∂l/∂h of one point: `point_losses` for the loop that takes one row at a time."""
    cdef double e, f, slope
    if l.squares:
        return h - y
    if l.activation == IDENTITY:
        return slope_of(l, h, y)
    if l.activation == RELU:
        f, slope = (0 if h < 0 else h), (1 if h > 0 else 0)
    elif l.activation == EXP:
        f = slope = exp(h)
    else:
        e = exp(-fabs(h))
        if l.activation == SIGMOID:
            f, slope = sigmoid_of(h, e), sigmoid_prime_of(e)
        elif l.activation == TANH:
            f, slope = tanh_of(h, e), tanh_prime_of(e)
        else:
            f, slope = softplus_of(h, log1p_of_unit(e)), sigmoid_of(h, e)
    return slope * slope_of(l, f, y)


cdef inline double move_of(double at, double y, double scale, Formula* l, bint squares) noexcept nogil:
    """−η·∂l/∂h; squares is l.squares, which a loop keeps in a register."""
    if squares:
        return scale * y - scale * at  # one operation behind `at`
    return -scale * point_slope(at, y, l)


cdef bint steps_on_single_rows(Rows* r, floating* w, bint intercept, Formula* l, double factor, double l2,
                               const long long* order, Py_ssize_t steps, const double* rates) noexcept nogil:
    """`stochastic` for one row at a time, one output and contiguous rows. Returns whether there was no memory."""
    cdef Py_ssize_t d = r.d, lanes = lanes_of(w), step = 0, whole = d - d % lanes, fours = 0
    cdef floating* v = NULL
    if d >= lanes and lanes > 1 and steps >= 4:
        v = <floating*> malloc((whole + lanes) * sizeof(floating))
        if v == NULL:
            return True
        to_registers(<const floating*> w, d, lanes, v)
        fours = steps // 4
        if floating is double:
            four_at_a_time(r, v, w, intercept, l, factor, l2, order, fours, steps, rates,
                           <doubles*> NULL, <four_doubles*> NULL)
        else:
            four_at_a_time(r, v, w, intercept, l, factor, l2, order, fours, steps, rates,
                           <floats*> NULL, <four_floats*> NULL)
        from_registers(<const floating*> v, d, lanes, w)
        free(v)
    for step in range(4 * fours, steps):
        one_step(r, w, intercept, l, factor, l2, order[step], rates[step])
    return False


cdef inline void to_registers(const floating* w, Py_ssize_t d, Py_ssize_t lanes, floating* v) noexcept nogil:
    """The weights as registers: the last one has those behind the whole ones, and zeros before them."""
    cdef Py_ssize_t whole = d - d % lanes, j
    memcpy(v, w, whole * sizeof(floating))
    memset(v + whole, 0, lanes * sizeof(floating))
    for j in range(whole, d):
        v[j + lanes - d + whole] = w[j]


cdef inline void from_registers(const floating* v, Py_ssize_t d, Py_ssize_t lanes, floating* w) noexcept nogil:
    cdef Py_ssize_t whole = d - d % lanes, j
    memcpy(w, v, whole * sizeof(floating))
    for j in range(whole, d):
        w[j] = v[j + lanes - d + whole]


cdef inline void one_step(Rows* r, floating* w, bint intercept, Formula* l, double factor, double l2,
                          long long i, double rate) noexcept nogil:
    cdef Py_ssize_t d = r.d, j
    cdef const floating* x = <const floating*> (r.X + i * r.X_row)
    cdef double slope = point_slope(dot(x, <const floating*> w, d) + (w[d] if intercept else 0),
                                    (<const floating*> (r.Y + i * r.Y_row))[0], l)
    cdef double scale = rate * factor
    if r.s != NULL:
        scale *= (<const floating*> (r.s + i * r.s_row))[0]
    cdef floating move = <floating> (-scale * slope), keep = <floating> (1 - rate * l2)
    if keep != 1:
        for j in range(d):
            w[j] = keep * w[j] + move * x[j]
    else:
        add_multiple(w, move, x, d)
    if intercept:
        w[d] += move


cdef inline void four_at_a_time(Rows* r, floating* v, floating* w, bint intercept, Formula* l,
                                double factor, double l2, const long long* order, Py_ssize_t fours, Py_ssize_t steps,
                                const double* rates, register_* like, four_* like_four) noexcept nogil:
    """The weights are in v, the intercept is behind those in w, which is scratch but for that."""
    cdef Py_ssize_t lanes = sizeof(register_) // sizeof(floating), d = r.d
    cdef Py_ssize_t whole = d - d % lanes, last = d - lanes, four, i, j, number
    cdef Py_ssize_t bytes = d * r.size, ahead = 8 if bytes <= 1024 else 4
    cdef bint wide = bytes > WIDE
    cdef register_ zeros = filled(<floating> 0, like), mask = zeros, v_, x0, x1, x2, x3
    cdef register_ s0, s1, s2, s3, g10, g20, g21, g30, g31, g32
    cdef floating[4] h
    cdef floating[8] g
    cdef double[4] y
    cdef double[4] scale
    cdef double[4] keep
    cdef double[4] rest
    cdef bint squares = l.squares
    cdef double at1, at2, at3, m0, m1, m2, m3, shrunk, one = intercept, c = w[d] if intercept else 0
    cdef const floating* x[4]
    cdef const floating* later[4]
    for j in range(lanes - (d - whole), lanes):
        (<floating*> &mask)[j] = 1
    for four in range(fours):
        # Rows come in random order: those that follow are asked for now, or, where all of them at once would hold up
        # what is wanted now, a line at a time while the weights move.
        if not wide:
            for i in range(4 * four + ahead, min(4 * four + ahead + 4, steps)):
                prefetch_bytes(r.X + order[i] * r.X_row, bytes)
                prefetch(r.Y + order[i] * r.Y_row)
        for i in range(4):
            x[i] = <const floating*> (r.X + order[4 * four + i] * r.X_row)
            later[i] = x[i]
            if wide and 4 * four + ahead + i < steps:
                later[i] = <const floating*> (r.X + order[4 * four + ahead + i] * r.X_row)
                prefetch(r.Y + order[4 * four + ahead + i] * r.Y_row)
        s0 = s1 = s2 = s3 = g10 = g20 = g21 = g30 = g31 = g32 = zeros
        j = 0
        while j < whole:
            v_ = (<const register_*> (v + j))[0]
            x0 = (<const register_*> (x[0] + j))[0]
            x1 = (<const register_*> (x[1] + j))[0]
            x2 = (<const register_*> (x[2] + j))[0]
            x3 = (<const register_*> (x[3] + j))[0]
            s0 += x0 * v_
            s1 += x1 * v_
            s2 += x2 * v_
            s3 += x3 * v_
            g10 += x1 * x0
            g20 += x2 * x0
            g21 += x2 * x1
            g30 += x3 * x0
            g31 += x3 * x1
            g32 += x3 * x2
            j += lanes
        if whole < d:
            v_ = (<const register_*> (v + whole))[0]
            x0 = (<const register_*> (x[0] + last))[0] * mask
            x1 = (<const register_*> (x[1] + last))[0] * mask
            x2 = (<const register_*> (x[2] + last))[0] * mask
            x3 = (<const register_*> (x[3] + last))[0] * mask
            s0 += x0 * v_
            s1 += x1 * v_
            s2 += x2 * v_
            s3 += x3 * v_
            g10 += x1 * x0
            g20 += x2 * x0
            g21 += x2 * x1
            g30 += x3 * x0
            g31 += x3 * x1
            g32 += x3 * x2
        (<four_*> h)[0] = four_sums(s0, s1, s2, s3, like_four)
        # The products of row 1 with row 0; of row 2 with 0 and 1; and of row 3 with 0, 1 and 2.
        (<four_*> g)[0] = four_sums(g10, g20, g21, zeros, like_four)
        (<four_*> (g + 4))[0] = four_sums(g30, g31, g32, zeros, like_four)
        if not isfinite(g[0] + g[1] + g[2] + g[4] + g[5] + g[6]):
            # Products of rows overflow long before rows do; then a move of 0 would come out as NaN.
            from_registers(<const floating*> v, d, lanes, w)
            if intercept:
                w[d] = <floating> c
            for i in range(4 * four, 4 * four + 4):
                one_step(r, w, intercept, l, factor, l2, order[i], rates[i])
            to_registers(<const floating*> w, d, lanes, v)
            c = w[d] if intercept else 0
            continue
        for i in range(4):
            number = order[4 * four + i]
            y[i] = (<const floating*> (r.Y + number * r.Y_row))[0]
            scale[i] = rates[4 * four + i] * factor
            if r.s != NULL:
                scale[i] *= (<const floating*> (r.s + number * r.s_row))[0]
            keep[i] = 1 - rates[4 * four + i] * l2
            rest[i] = rates[4 * four + i] * l2
        # The chain, with as little as can be between one move and the next. The intercept c is one more column, of
        # ones, but l2 does not shrink it: what a row gives becomes keep·(at − c) + c + move·(product + 1).
        at1, at2, at3 = h[1] + c, h[2] + c, h[3] + c
        m0 = move_of(h[0] + c, y[0], scale[0], l, squares)
        at1 = (keep[0] * at1 + rest[0] * c) + m0 * (g[0] + one)
        at2 = (keep[0] * at2 + rest[0] * c) + m0 * (g[1] + one)
        at3 = (keep[0] * at3 + rest[0] * c) + m0 * (g[4] + one)
        c += one * m0
        m1 = move_of(at1, y[1], scale[1], l, squares)
        at2 = (keep[1] * at2 + rest[1] * c) + m1 * (g[2] + one)
        at3 = (keep[1] * at3 + rest[1] * c) + m1 * (g[5] + one)
        c += one * m1
        m2 = move_of(at2, y[2], scale[2], l, squares)
        at3 = (keep[2] * at3 + rest[2] * c) + m2 * (g[6] + one)
        c += one * m2
        m3 = move_of(at3, y[3], scale[3], l, squares)
        c += one * m3
        shrunk = (keep[0] * keep[1]) * (keep[2] * keep[3])
        s0 = filled(<floating> (m0 * (keep[1] * (keep[2] * keep[3]))), like)
        s1 = filled(<floating> (m1 * (keep[2] * keep[3])), like)
        s2 = filled(<floating> (m2 * keep[3]), like)
        s3 = filled(<floating> m3, like)
        if shrunk != 1:
            for j in range(whole + lanes):
                v[j] *= <floating> shrunk
        j = 0
        while j < whole:
            if wide:
                prefetch(later[0] + j)
                prefetch(later[1] + j)
                prefetch(later[2] + j)
                prefetch(later[3] + j)
            # One after the other as they come: behind the last move there is one operation.
            v_ = (<const register_*> (v + j))[0]
            v_ += (<const register_*> (x[0] + j))[0] * s0
            v_ += (<const register_*> (x[1] + j))[0] * s1
            v_ += (<const register_*> (x[2] + j))[0] * s2
            v_ += (<const register_*> (x[3] + j))[0] * s3
            (<register_*> (v + j))[0] = v_
            j += lanes
        if whole < d:
            v_ = (<const register_*> (v + whole))[0]
            v_ += x0 * s0
            v_ += x1 * s1
            v_ += x2 * s2
            v_ += x3 * s3
            (<register_*> (v + whole))[0] = v_
    if intercept:
        w[d] = <floating> c
