# Forward and backward of models with one output, in vector registers: Xw + b, and g += Xᵀδ.
#
# - Four rows at a time: w and g are then loaded once for four, and four sums hide the latency of an addition.
# - What is left of a row behind its last whole register is taken by a register that reaches back over numbers that have
#   been counted, with weights of 0 for those: a scalar loop there would take as long as the rest.
# - Both stages go over rows that are in the nearest cache, all but the first time. So that the memory behind it has
#   something to do meanwhile, each asks for half of the block that comes next.

# ------------------------------------------------------------------------------------------------------------- sums

cdef inline floating dot(const floating* x, const floating* w, Py_ssize_t d) noexcept nogil:
    if floating is double:
        return dot_lanes(x, w, d, <doubles*> NULL)
    else:
        return dot_lanes(x, w, d, <floats*> NULL)


cdef inline floating dot_lanes(const floating* x, const floating* w, Py_ssize_t d, register_* like) noexcept nogil:
    cdef Py_ssize_t lanes = sizeof(register_) // sizeof(floating)
    cdef Py_ssize_t whole = d - d % lanes, j
    cdef register_ s
    cdef floating total = 0
    if whole:
        s = (<const register_*> x)[0] * (<const register_*> w)[0]
        j = lanes
        while j < whole:
            s += (<const register_*> (x + j))[0] * (<const register_*> (w + j))[0]
            j += lanes
        total = sum_of(s, total)
    for j in range(whole, d):
        total += x[j] * w[j]
    return total


cdef inline double total_of(const floating* x, Py_ssize_t m) noexcept nogil:
    """Σ x in double."""
    if floating is double:
        return total_of_doubles(x, m)
    else:
        return total_of_floats(x, m)


cdef inline void add_multiple(floating* g, floating factor, const floating* x, Py_ssize_t d) noexcept nogil:
    """g += factor·x."""
    cdef Py_ssize_t j
    for j in range(d):
        g[j] += factor * x[j]


# ----------------------------------------------------------------------------------------------------------- forward

cdef inline void forward_one(const floating* x, Py_ssize_t row, const floating* w, floating b, Py_ssize_t m,
                             Py_ssize_t d, floating* h, const char* ahead, Py_ssize_t ahead_row,
                             int fetched) noexcept nogil:
    """h = Xw + b for one output. `ahead` is where the rows of the next block are, `ahead_row` bytes apart; of each four
    so many are fetched here, and the others by whoever goes over the rows again."""
    if floating is double:
        forward_rows(x, row, w, b, m, d, h, ahead, ahead_row, fetched, <doubles*> NULL, <four_doubles*> NULL)
    else:
        forward_rows(x, row, w, b, m, d, h, ahead, ahead_row, fetched, <floats*> NULL, <four_floats*> NULL)


cdef inline void forward_rows(const floating* x, Py_ssize_t row, const floating* w, floating b, Py_ssize_t m,
                              Py_ssize_t d, floating* h, const char* ahead, Py_ssize_t ahead_row, int fetched,
                              register_* like, four_* like_four) noexcept nogil:
    """Four rows at a time: w is loaded once for four, and four sums hide the latency of an addition."""
    cdef Py_ssize_t lanes = sizeof(register_) // sizeof(floating)
    cdef Py_ssize_t whole = d - d % lanes, last = d - lanes, i = 0, j
    cdef Py_ssize_t bytes = d * <Py_ssize_t> sizeof(floating)
    cdef register_ s0, s1, s2, s3, v, zeros = filled(<floating> 0, like), w_last = zeros
    cdef floating t0, t1, t2, t3
    cdef const floating* x1
    cdef const floating* x2
    cdef const floating* x3
    if last < 0:  # narrower than a register
        while i + 4 <= m:
            x1 = x + row
            x2 = x1 + row
            x3 = x2 + row
            t0 = t1 = t2 = t3 = b
            for j in range(d):
                t0 += x[j] * w[j]
                t1 += x1[j] * w[j]
                t2 += x2[j] * w[j]
                t3 += x3[j] * w[j]
            h[i], h[i + 1], h[i + 2], h[i + 3] = t0, t1, t2, t3
            x += 4 * row
            i += 4
    else:
        # What the whole registers leave is in the last `lanes` numbers of a row, of which some have been seen: they
        # count with a weight of 0.
        for j in range(whole, d):
            (<floating*> &w_last)[j - last] = w[j]
        while i + 4 <= m:
            if ahead != NULL:
                prefetch_bytes(ahead, fetched * bytes if ahead_row == bytes else 0)
                ahead += 4 * ahead_row
            x1 = x + row
            x2 = x1 + row
            x3 = x2 + row
            s0 = s1 = s2 = s3 = zeros
            if whole < d:
                s0 = (<const register_*> (x + last))[0] * w_last
                s1 = (<const register_*> (x1 + last))[0] * w_last
                s2 = (<const register_*> (x2 + last))[0] * w_last
                s3 = (<const register_*> (x3 + last))[0] * w_last
            j = 0
            while j < whole:
                v = (<const register_*> (w + j))[0]
                s0 += (<const register_*> (x + j))[0] * v
                s1 += (<const register_*> (x1 + j))[0] * v
                s2 += (<const register_*> (x2 + j))[0] * v
                s3 += (<const register_*> (x3 + j))[0] * v
                j += lanes
            (<four_*> (h + i))[0] = four_sums(s0, s1, s2, s3, like_four)
            x += 4 * row
            i += 4
        for j in range(i):
            h[j] += b
    while i < m:
        h[i] = dot(x, w, d) + b
        x += row
        i += 1


cdef inline void forward_columns(const floating* x, Py_ssize_t column, const floating* w, floating b,
                                 Py_ssize_t m, Py_ssize_t d, floating* h) noexcept nogil:
    """h = Xw + b where the columns of X are contiguous: no sums across a register, so no register is too wide."""
    if floating is double:
        columns_doubles_forward(x, column, w, b, m, d, h)
    else:
        columns_floats_forward(x, column, w, b, m, d, h)


# ---------------------------------------------------------------------------------------------------------- backward

cdef inline void backward_one(const floating* x, Py_ssize_t row, const floating* delta, Py_ssize_t m, Py_ssize_t d,
                              floating* g, const char* ahead, Py_ssize_t ahead_row) noexcept nogil:
    """g += Xᵀδ for one output. `ahead` is where the rows of the next block are, `ahead_row` bytes apart."""
    if floating is double:
        backward_rows(x, row, delta, m, d, g, ahead, ahead_row, <doubles*> NULL)
    else:
        backward_rows(x, row, delta, m, d, g, ahead, ahead_row, <floats*> NULL)


cdef inline void backward_rows(const floating* x, Py_ssize_t row, const floating* delta, Py_ssize_t m, Py_ssize_t d,
                               floating* g, const char* ahead, Py_ssize_t ahead_row, register_* like) noexcept nogil:
    """Four rows at a time: g is loaded and stored once for four.

    This stage finds its rows in the nearest cache; so that the memory behind it has something to do meanwhile, the next
    block is asked for.
    """
    cdef Py_ssize_t lanes = sizeof(register_) // sizeof(floating)
    cdef Py_ssize_t whole = d - d % lanes, last = d - lanes, i = 0, j
    cdef Py_ssize_t bytes = d * <Py_ssize_t> sizeof(floating)
    cdef register_ e0, e1, e2, e3, g_last = filled(<floating> 0, like)
    cdef const floating* x1
    cdef const floating* x2
    cdef const floating* x3
    if last < 0:
        whole = 0
    while i + 4 <= m:
        if ahead != NULL:
            prefetch_bytes(ahead + 2 * bytes, 2 * bytes if ahead_row == bytes else 0)
            ahead += 4 * ahead_row
        x1 = x + row
        x2 = x1 + row
        x3 = x2 + row
        e0 = filled(delta[i], like)
        e1 = filled(delta[i + 1], like)
        e2 = filled(delta[i + 2], like)
        e3 = filled(delta[i + 3], like)
        j = 0
        while j < whole:
            (<register_*> (g + j))[0] += (
                ((<const register_*> (x + j))[0] * e0 + (<const register_*> (x1 + j))[0] * e1)
                + ((<const register_*> (x2 + j))[0] * e2 + (<const register_*> (x3 + j))[0] * e3)
            )
            j += lanes
        if last < 0:
            for j in range(d):
                g[j] += (x[j] * delta[i] + x1[j] * delta[i + 1]) + (x2[j] * delta[i + 2] + x3[j] * delta[i + 3])
        elif whole < d:
            g_last += (
                ((<const register_*> (x + last))[0] * e0 + (<const register_*> (x1 + last))[0] * e1)
                + ((<const register_*> (x2 + last))[0] * e2 + (<const register_*> (x3 + last))[0] * e3)
            )
        x += 4 * row
        i += 4
    if last >= 0:
        for j in range(whole, d):
            g[j] += (<floating*> &g_last)[j - last]
    while i < m:
        add_multiple(g, delta[i], x, d)
        x += row
        i += 1


cdef inline void backward_columns(const floating* x, Py_ssize_t column, const floating* delta,
                                  Py_ssize_t m, Py_ssize_t d, floating* g) noexcept nogil:
    """g += Xᵀδ where the columns of X are contiguous: a dot product for each."""
    if floating is double:
        columns_doubles_backward(x, column, delta, m, d, g)
    else:
        columns_floats_backward(x, column, delta, m, d, g)


# --------------------------------------------------------------------------------- forward and backward in one loop

cdef inline Py_ssize_t forward_backward(const floating* x, Py_ssize_t row, const floating* z, Py_ssize_t z_row,
                                        const floating* w, floating b, const floating* delta, Py_ssize_t m,
                                        Py_ssize_t d, floating* h, floating* g, bint in_line, int rows) noexcept nogil:
    """h = Xw + b of m rows and g += Zᵀδ of m others, `rows` (2 or 4) at a time; see `registers.h`."""
    cdef Py_ssize_t i
    if floating is double:
        if rows == 4:
            i = both_doubles_4(x, row, z, z_row, w, b, delta, m, d, h, g, in_line)
        else:
            i = both_doubles_2(x, row, z, z_row, w, b, delta, m, d, h, g, in_line)
        if i < m:
            both_doubles_1(x + i * row, row, z + i * z_row, z_row, w, b, delta + i, m - i, d, h + i, g, in_line)
    else:
        if rows == 4:
            i = both_floats_4(x, row, z, z_row, w, b, delta, m, d, h, g, in_line)
        else:
            i = both_floats_2(x, row, z, z_row, w, b, delta, m, d, h, g, in_line)
        if i < m:
            both_floats_1(x + i * row, row, z + i * z_row, z_row, w, b, delta + i, m - i, d, h + i, g, in_line)
    return m


cdef inline void turn_rows(const floating* x, Py_ssize_t row, Py_ssize_t m, Py_ssize_t d, floating* out,
                           Py_ssize_t room) noexcept nogil:
    """out (d, room) = the columns of m rows."""
    cdef Py_ssize_t i, j
    if row != d:
        for i in range(m):
            for j in range(d):
                out[j * room + i] = x[i * row + j]
    elif floating is double:
        turn_doubles(x, m, d, out, room)
    else:
        turn_floats(x, m, d, out, room)


# ----------------------------------------------------------------------------------------------- all stages at once

cdef inline void squares_one(const floating* x, Py_ssize_t row, const floating* w, floating b, const floating* y,
                             const floating* s, Py_ssize_t m, Py_ssize_t d, floating* g, double* total, double* slopes,
                             Py_ssize_t ahead, bint in_line, int rows, bint far) noexcept nogil:
    """All three stages of the squared loss with identity activation and one output; g NULL: the loss alone.

    See `squares.h`, which leaves a few rows at the end.
    """
    cdef Py_ssize_t i
    cdef floating r, delta
    if floating is double:
        i = squares_of_double_rows(x, row, w, b, y, s, m, d, g, total, slopes, ahead, in_line, rows, far)
    else:
        i = squares_of_float_rows(x, row, w, b, y, s, m, d, g, total, slopes, ahead, in_line, rows, far)
    for i in range(i, m):
        r = dot(x + i * row, w, d) + b - y[i]
        delta = r if s == NULL else s[i] * r
        total[0] += 0.5 * <double> delta * <double> r
        slopes[0] += delta
        if g != NULL:
            add_multiple(g, delta, x + i * row, d)


cdef inline void prefetch_bytes(const char* start, Py_ssize_t size) noexcept nogil:
    cdef Py_ssize_t j = 0
    while j < size:
        prefetch(start + j)
        j += 64
