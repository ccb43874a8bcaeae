# How the loss changes with each weight, from its values alone and in one pass over the data.
#
# A weight that moves by ±t moves h of row i by ±t·x and nothing else, so with h = XW + b at hand it costs O(n) to move
# one and O(n·d) to move each. The differences are formed row by row, l(h + a) − l(h − a), and then added up: two sums
# over all rows, subtracted, would have lost their last digits.
#
# No slope is used here, for what comes out is there to be compared with slopes.
#
# - Everything is in double, whatever the dtype of X.
# - A block of rows is turned round, so that a column lies together and the loops go along the rows, in whole registers
#   at any number of columns. It is filled up to a multiple of PAD rows, with rows of weight 0. Squares of h − y alone
#   are worth less than that: they are formed where the rows lie.
# - With the softmax, moving output c alone is a sigmoid: f_c = σ(h_c − L) with L = log Σ e^h over the others, which
#   keep their shares q of the rest, 1 − f_c. So a moved point costs one exponential, whatever the number of outputs.

from libc.stdlib cimport calloc

cdef enum:
    PAD = 16                    # two of the widest registers
    TURNED_ROWS = 240           # in a block, at most
    TURNED_BYTES = 4194304      # of X in a block, if that leaves PAD rows; what is done with a column takes its time


cdef struct Turned:
    # A block of rows in double; there is room for `room` of them, and `rows` are in use, the last ones maybe padding.
    void* memory
    Py_ssize_t room, rows
    double* X           # column by column, (d, room); what else it holds is said where that is so
    double* h           # (k, room)
    double* Y           # (k, room)
    double* s           # (room)
    double* up          # (room) of the points to move,
    double* down
    double* above       # and what comes of them
    double* below
    double* e           # scratch of the activations
    double* ones        # the column of the intercept
    double* rest        # softmax: log Σ e^h of the other outputs,
    double* share       # (k, room) their shares of it
    double* mass        # and Σ y over all outputs,
    double* target      # and the targets, values and losses of one output
    double* output
    double* loss
    Py_ssize_t* row     # (room) 0, 1, …: the row that each point of a column belongs to
    # The weights, output by output.
    double* W           # (k, d)
    double* step        # (k, d)
    double* out         # (k, d)


cdef Turned* new_turned(Py_ssize_t room, Py_ssize_t columns, Py_ssize_t d, Py_ssize_t k) except NULL:
    """For `room` rows, a multiple of PAD; of X there is room for so many columns."""
    cdef Turned* t = <Turned*> malloc(sizeof(Turned))
    cdef Py_ssize_t i, numbers = room * (columns + 3 * k + 13) + 3 * k * d
    if t == NULL:
        raise MemoryError("no memory for a block of rows")
    t.memory = calloc(numbers, sizeof(double))
    if t.memory == NULL:
        free(t)
        raise MemoryError(f"no memory for a block of {room} rows")
    t.room = t.rows = room
    t.X = <double*> t.memory
    t.h = t.X + columns * room
    t.Y = t.h + k * room
    t.share = t.Y + k * room
    t.s = t.share + k * room
    t.up, t.down, t.e = t.s + room, t.s + 2 * room, t.s + 3 * room
    t.ones, t.rest, t.mass = t.s + 4 * room, t.s + 5 * room, t.s + 6 * room
    t.row = <Py_ssize_t*> (t.s + 7 * room)
    t.above, t.below, t.target = t.s + 8 * room, t.s + 9 * room, t.s + 10 * room
    t.output, t.loss = t.s + 11 * room, t.s + 12 * room
    t.W = t.s + 13 * room
    t.step, t.out = t.W + k * d, t.W + 2 * k * d
    for i in range(room):
        t.ones[i] = 1
        t.row[i] = i
    return t


cdef Py_ssize_t turned_rows(Py_ssize_t n, Py_ssize_t d) noexcept nogil:
    """Rows in a block: an odd multiple of PAD, for columns a power of two apart would fight for places in a cache."""
    cdef Py_ssize_t room = min(<Py_ssize_t> TURNED_ROWS, TURNED_BYTES // (8 * d)) // PAD
    room = max(min(room, (n + PAD - 1) // PAD), <Py_ssize_t> 1)
    return (room + 1 - room % 2) * PAD


cdef void free_turned(Turned* t) noexcept nogil:
    free(t.memory)
    free(t)


cdef void turn_weights(const double* W, const double* steps, Py_ssize_t d, Py_ssize_t k, Turned* t) noexcept nogil:
    cdef Py_ssize_t j, c
    for j in range(d):
        for c in range(k):
            t.W[c * d + j] = W[j * k + c]
            t.step[c * d + j] = steps[j * k + c]


cdef void turn_targets(const floating[:, :] Y, const floating[:] sample_weight, Py_ssize_t start, Py_ssize_t m,
                       Py_ssize_t k, Turned* t) noexcept nogil:
    """Y and the weights of the m rows from `start` on, with what fills them up."""
    cdef Py_ssize_t i, c, room = t.room
    t.rows = (m + PAD - 1) // PAD * PAD
    for i in range(t.rows):
        t.s[i] = 0 if i >= m else (sample_weight[start + i] if sample_weight.shape[0] else 1)
        t.mass[i] = 0
    for c in range(k):
        for i in range(t.rows):
            t.Y[c * room + i] = Y[start + min(i, m - 1), c]
            t.mass[i] += t.Y[c * room + i]


# ------------------------------------------------------------------------------------------------ values of the loss

cdef inline void exponentials(const double* h, Py_ssize_t m, double* e) noexcept nogil:
    """e = exp(−|h|)."""
    cdef Py_ssize_t i
    for i in range(m):
        e[i] = -fabs(h[i])
    exp_block(e, e, m)


cdef inline void losses_at(double* h, const double* y, Py_ssize_t m, Formula* l, double* e,
                           double* out) noexcept nogil:
    """out = l(f(h), y), for any activation but the softmax; h may be overwritten."""
    cdef Py_ssize_t i
    if l.activation == EXP:
        exp_block(h, h, m)
    elif l.activation == RELU:
        for i in range(m):  # written so that NaN stays
            h[i] = 0 if h[i] < 0 else h[i]
    elif l.activation != IDENTITY:
        exponentials(h, m, e)
        if l.activation == SIGMOID:
            for i in range(m):
                h[i] = sigmoid_of(h[i], e[i])
        elif l.activation == TANH:
            for i in range(m):
                h[i] = tanh_of(h[i], e[i])
        else:
            for i in range(m):
                h[i] = softplus_of(h[i], log1p_of_unit(e[i]))
    l.points(l, m, h, y, out, NULL)


cdef inline void set_apart(Turned* t, Py_ssize_t k, Py_ssize_t c) noexcept nogil:
    """t.rest and t.share: log Σ e^h over all outputs of a row but c, and the share of each in that sum."""
    cdef Py_ssize_t i, j, room = t.room
    cdef const double* h
    cdef double* share
    for i in range(t.rows):
        t.rest[i] = -INFINITY
        t.e[i] = 0
    for j in range(k):
        h = t.h + j * room
        if j != c:
            for i in range(t.rows):
                t.rest[i] = h[i] if h[i] > t.rest[i] else t.rest[i]
    for j in range(k):
        h, share = t.h + j * room, t.share + j * room
        if j != c:
            for i in range(t.rows):
                share[i] = h[i] - t.rest[i]
            exp_block(share, share, t.rows)
            for i in range(t.rows):
                t.e[i] += share[i]
    for j in range(k):
        share = t.share + j * room
        if j != c:
            for i in range(t.rows):
                share[i] /= t.e[i]
    for i in range(t.rows):
        t.rest[i] += log(t.e[i])


cdef inline void softmax_losses_at(double* h, const Py_ssize_t* row, Py_ssize_t m, Py_ssize_t k, Py_ssize_t c,
                                   Formula* l, const Turned* t, double* out) noexcept nogil:
    """out = the loss of the row of each point, less what h_c does not move, at h = h_c − t.rest of the row."""
    cdef Py_ssize_t i, j, room = t.room
    exponentials(h, m, t.e)
    if l.points == NULL:  # −Σ y log f = Σy·log(1 + e^h) − y_c·h + …
        for i in range(m):
            out[i] = t.mass[row[i]] * softplus_of(h[i], log1p_of_unit(t.e[i])) - t.Y[c * room + row[i]] * h[i]
        return
    for i in range(m):
        out[i] = 0
    for j in range(k):
        for i in range(m):
            t.target[i] = t.Y[j * room + row[i]]
            if j == c:
                t.output[i] = sigmoid_of(h[i], t.e[i])
            else:
                t.output[i] = sigmoid_of(-h[i], t.e[i]) * t.share[j * room + row[i]]
        l.points(l, m, t.output, t.target, t.loss, NULL)
        for i in range(m):
            out[i] += t.loss[i]


# ------------------------------------------------------------------------------------------------- sums of differences

cdef inline double weighted_difference(const double* up, const double* down, const double* s,
                                       Py_ssize_t m) noexcept nogil:
    """Σ s·(up − down) of a multiple of PAD rows."""
    cdef Py_ssize_t lanes = sizeof(doubles) // sizeof(double), i
    cdef const doubles* u = <const doubles*> up
    cdef const doubles* d = <const doubles*> down
    cdef const doubles* w = <const doubles*> s
    cdef doubles s0 = w[0] * (u[0] - d[0])
    cdef doubles s1 = w[1] * (u[1] - d[1])
    for i in range(1, m // (2 * lanes)):
        s0 += w[2 * i] * (u[2 * i] - d[2 * i])
        s1 += w[2 * i + 1] * (u[2 * i + 1] - d[2 * i + 1])
    return sum_doubles(s0 + s1)


cdef inline double difference_of_squares(const double* x, double t, const double* r, const double* s,
                                         Py_ssize_t m) noexcept nogil:
    """Σ s·((r + tx)² − (r − tx)²) of a multiple of PAD rows: the commonest model, without arrays in between."""
    cdef Py_ssize_t lanes = sizeof(doubles) // sizeof(double), i
    cdef const doubles* a = <const doubles*> x
    cdef const doubles* b = <const doubles*> r
    cdef const doubles* w = <const doubles*> s
    cdef doubles step = fill_doubles(t), s0 = fill_doubles(0), s1 = fill_doubles(0)
    cdef doubles u0, u1, v0, v1
    for i in range(m // (2 * lanes)):
        u0 = b[2 * i] + step * a[2 * i]
        v0 = b[2 * i] - step * a[2 * i]
        u1 = b[2 * i + 1] + step * a[2 * i + 1]
        v1 = b[2 * i + 1] - step * a[2 * i + 1]
        s0 += w[2 * i] * (u0 * u0 - v0 * v0)
        s1 += w[2 * i + 1] * (u1 * u1 - v1 * v1)
    return sum_doubles(s0 + s1)


cdef inline void squares_of_rows(const double* x, Py_ssize_t row, const double* step, const double* r, const double* s,
                                 Py_ssize_t m, Py_ssize_t d, double* g) noexcept nogil:
    """g[j] += Σ s·((r + step[j]·x[j])² − (r − step[j]·x[j])²) over rows as they lie, four at a time."""
    cdef Py_ssize_t lanes = sizeof(doubles) // sizeof(double), i = 0, j
    cdef Py_ssize_t whole = d - d % lanes
    cdef const double* x1
    cdef const double* x2
    cdef const double* x3
    cdef doubles r0, r1, r2, r3, s0, s1, s2, s3, a0, a1, a2, a3, t
    while i + 4 <= m:
        x1 = x + row
        x2 = x1 + row
        x3 = x2 + row
        r0, r1, r2, r3 = fill_doubles(r[i]), fill_doubles(r[i + 1]), fill_doubles(r[i + 2]), fill_doubles(r[i + 3])
        s0, s1, s2, s3 = fill_doubles(s[i]), fill_doubles(s[i + 1]), fill_doubles(s[i + 2]), fill_doubles(s[i + 3])
        j = 0
        while j < whole:
            t = (<const doubles*> (step + j))[0]
            a0 = t * (<const doubles*> (x + j))[0]
            a1 = t * (<const doubles*> (x1 + j))[0]
            a2 = t * (<const doubles*> (x2 + j))[0]
            a3 = t * (<const doubles*> (x3 + j))[0]
            (<doubles*> (g + j))[0] += (
                (s0 * ((r0 + a0) * (r0 + a0) - (r0 - a0) * (r0 - a0))
                 + s1 * ((r1 + a1) * (r1 + a1) - (r1 - a1) * (r1 - a1)))
                + (s2 * ((r2 + a2) * (r2 + a2) - (r2 - a2) * (r2 - a2))
                   + s3 * ((r3 + a3) * (r3 + a3) - (r3 - a3) * (r3 - a3)))
            )
            j += lanes
        for j in range(whole, d):
            g[j] += ((s[i] * squares(r[i], step[j] * x[j]) + s[i + 1] * squares(r[i + 1], step[j] * x1[j]))
                     + (s[i + 2] * squares(r[i + 2], step[j] * x2[j]) + s[i + 3] * squares(r[i + 3], step[j] * x3[j])))
        x += 4 * row
        i += 4
    while i < m:
        for j in range(d):
            g[j] += s[i] * squares(r[i], step[j] * x[j])
        x += row
        i += 1


cdef inline double squares(double r, double a) noexcept nogil:
    return (r + a) * (r + a) - (r - a) * (r - a)


cdef inline double moved(const double* x, double step, Turned* t, Py_ssize_t k, Py_ssize_t c,
                         Formula* l) noexcept nogil:
    """Σ s·(l(h + step·x) − l(h − step·x)) over the rows of a block, h being that of output c."""
    cdef Py_ssize_t i, m = t.rows
    cdef const double* h = t.h + c * t.room
    cdef const double* y = t.Y + c * t.room
    if l.squares:  # h is h − y, then
        return 0.5 * difference_of_squares(x, step, h, t.s, m)
    if l.activation == SOFTMAX:
        for i in range(m):
            t.up[i] = (h[i] - t.rest[i]) + step * x[i]
            t.down[i] = (h[i] - t.rest[i]) - step * x[i]
        softmax_losses_at(t.up, t.row, m, k, c, l, t, t.above)
        softmax_losses_at(t.down, t.row, m, k, c, l, t, t.below)
    else:
        for i in range(m):
            t.up[i] = h[i] + step * x[i]
            t.down[i] = h[i] - step * x[i]
        losses_at(t.up, y, m, l, t.e, t.above)
        losses_at(t.down, y, m, l, t.e, t.below)
    return weighted_difference(t.above, t.below, t.s, m)


cdef inline void prepare(Turned* t, Py_ssize_t k, Py_ssize_t c, Formula* l) noexcept nogil:
    """What the points of output c need beside h and y."""
    cdef Py_ssize_t i
    cdef double* h = t.h + c * t.room
    if l.activation == SOFTMAX:
        set_apart(t, k, c)
    elif l.squares:
        for i in range(t.rows):
            h[i] -= t.Y[c * t.room + i]


cdef int check_perturbed(Py_ssize_t n, const double[:, ::1] W, const double[::1] b, const double[:, ::1] steps,
                         const double[::1] step_b, Py_ssize_t Y_rows, Py_ssize_t Y_columns, Py_ssize_t weights,
                         const double[:, ::1] out_W, const double[::1] out_b) except -1:
    """Bounds checks are off in the loops, so lengths are compared here, before the first of them."""
    cdef Py_ssize_t d = W.shape[0], k = W.shape[1]
    if n == 0 or d == 0 or k == 0:
        raise ValueError(f"X has {n} rows and W has shape ({d}, {k}): none may be 0")
    if Y_rows != n or Y_columns != k or b.shape[0] != k:
        raise ValueError(f"Y has shape ({Y_rows}, {Y_columns}) and b {b.shape[0]} entries for {n} rows and {k} outputs")
    if steps.shape[0] != d or steps.shape[1] != k or out_W.shape[0] != d or out_W.shape[1] != k:
        raise ValueError("steps and out_W must have the shape of W")
    if (step_b.shape[0] != 0 and step_b.shape[0] != k) or out_b.shape[0] != step_b.shape[0]:
        raise ValueError(f"step_b has {step_b.shape[0]} entries and out_b {out_b.shape[0]} for {k} outputs")
    if weights != 0 and weights != n:
        raise ValueError(f"sample_weight has {weights} entries, X has {n} rows")
    return 0


# ----------------------------------------------------------------------------------------------------------- kernels

cdef inline void turn_eight(const floating* x, Py_ssize_t row, Py_ssize_t d, Py_ssize_t room,
                            double* out) noexcept nogil:
    """Eight rows: read along them, as memory is read fastest, and written a line of memory at a time."""
    cdef Py_ssize_t j
    cdef const floating* x4 = x + 4 * row
    for j in range(d):
        out[0] = x[j]
        out[1] = x[row + j]
        out[2] = x[2 * row + j]
        out[3] = x[3 * row + j]
        out[4] = x4[j]
        out[5] = x4[row + j]
        out[6] = x4[2 * row + j]
        out[7] = x4[3 * row + j]
        out += room


cdef inline void turn(const floating[:, :] X, Py_ssize_t start, Py_ssize_t m, Turned* t) noexcept nogil:
    """t.X, with padding."""
    cdef Py_ssize_t d = X.shape[1], room = t.room, size = sizeof(floating), i, j, done = 0
    if X.strides[1] == size and X.strides[0] % size == 0:
        while done + 8 <= m:
            turn_eight(&X[start + done, 0], X.strides[0] // size, d, room, t.X + done)
            done += 8
    for j in range(d):
        for i in range(done, m):
            t.X[j * room + i] = X[start + i, j]
        for i in range(m, t.rows):
            t.X[j * room + i] = 0


cdef inline void widen(const floating* x, Py_ssize_t row, Py_ssize_t m, Py_ssize_t d, double* out) noexcept nogil:
    cdef Py_ssize_t i, j
    for i in range(m):
        for j in range(d):
            out[i * d + j] = x[i * row + j]


cdef inline void move_squares(const floating[:, :] X, Py_ssize_t start, Py_ssize_t m, const double[::1] b,
                              const double[::1] step_b, double* out_b, Turned* t) noexcept nogil:
    """The block of m rows from `start` on, where the loss is squared and rows are contiguous."""
    cdef Py_ssize_t d = X.shape[1], k = b.shape[0], row = X.strides[0] // <Py_ssize_t> sizeof(floating), c, i
    cdef const double* x = <const double*> &X[start, 0]
    cdef double* h
    if floating is float:
        widen(&X[start, 0], row, m, d, t.X)
        x, row = t.X, d
    for c in range(k):
        h = t.h + c * t.room
        forward_one(x, row, <const double*> (t.W + c * d), b[c], m, d, h, <const char*> NULL, 0, 0)
        for i in range(t.rows):
            h[i] = h[i] - t.Y[c * t.room + i] if i < m else 0
        squares_of_rows(x, row, t.step + c * d, h, t.s, m, d, t.out + c * d)
        if step_b.shape[0]:
            out_b[c] += 0.5 * difference_of_squares(t.ones, step_b[c], h, t.s, t.rows)


def perturbed_pass(const floating[:, :] X not None, const floating[:, :] Y not None, const double[:, ::1] W not None,
                   const double[::1] b not None, const double[:, ::1] steps not None,
                   const double[::1] step_b not None, const floating[:] sample_weight not None, int activation,
                   loss, double[:, ::1] out_W not None, double[::1] out_b not None):
    """Differences of the loss between W ± steps, one weight at a time. See `reference.perturbed.perturbed_pass`."""
    cdef Py_ssize_t n = X.shape[0], d = X.shape[1], k = W.shape[1], size = sizeof(floating)
    cdef Py_ssize_t start = 0, m, j, c, block
    if X.shape[1] != W.shape[0]:
        raise ValueError(f"W has {W.shape[0]} rows, X has {X.shape[1]} columns")
    check_perturbed(n, W, b, steps, step_b, Y.shape[0], Y.shape[1], sample_weight.shape[0], out_W, out_b)
    cdef Formula model = formula_of(loss, activation)
    cdef bint as_rows = model.squares and X.strides[1] == size and X.strides[0] % size == 0
    cdef Turned* t
    if as_rows:
        block = min(max(<Py_ssize_t> BLOCK_BYTES // (8 * d) // 4 * 4, <Py_ssize_t> 4), <Py_ssize_t> TURNED_ROWS)
        t = new_turned((block + PAD - 1) // PAD * PAD, 0 if floating is double else d, d, k)
    else:
        block = turned_rows(n, d)
        t = new_turned(block, d, d, k)
    cdef double* out_b_ = &out_b[0] if out_b.shape[0] else NULL
    with nogil:
        turn_weights(&W[0, 0], &steps[0, 0], d, k, t)
        for c in range(out_b.shape[0]):
            out_b[c] = 0
        while start < n and not (activation == SOFTMAX and k == 1):  # that is 1, whatever h
            m = min(block, n - start)
            turn_targets(Y, sample_weight, start, m, k, t)
            if as_rows:
                move_squares(X, start, m, b, step_b, out_b_, t)
                start += m
                continue
            turn(X, start, m, t)
            for c in range(k):
                forward_columns(<const double*> t.X, t.room, <const double*> (t.W + c * d), b[c], t.rows, d,
                                t.h + c * t.room)
            for c in range(k):
                prepare(t, k, c, &model)
                for j in range(d):
                    t.out[c * d + j] += moved(t.X + j * t.room, t.step[c * d + j], t, k, c, &model)
                if step_b.shape[0]:
                    out_b[c] += moved(t.ones, step_b[c], t, k, c, &model)
            start += m
        for j in range(d):
            for c in range(k):
                out_W[j, c] = 0.5 * t.out[c * d + j] if as_rows else t.out[c * d + j]
        free_turned(t)
    finish_formula(&model)


cdef inline void move_entries(const floating* data, const index_type* indices, const index_type* indptr,
                              const double* step, Py_ssize_t m, Py_ssize_t k, Py_ssize_t c, Formula* l,
                              Turned* t, double* y, Py_ssize_t* row, double* out) noexcept nogil:
    """out[j] += Σ s·(l(h + step[j]·x) − l(h − step[j]·x)) over the entries of m CSR rows, `room` entries at a time."""
    cdef Py_ssize_t at = indptr[0], last = indptr[m], i = 0, q, count
    cdef const double* h = t.h + c * t.room
    cdef double a, base
    while at < last:
        count = min(t.room, last - at)
        for q in range(count):
            while indptr[i + 1] <= at + q:
                i += 1
            a = step[indices[at + q]] * data[at + q]
            base = h[i] - t.rest[i] if l.activation == SOFTMAX else h[i]
            row[q], y[q], t.up[q], t.down[q] = i, t.Y[c * t.room + i], base + a, base - a
        if l.activation == SOFTMAX:
            softmax_losses_at(t.up, row, count, k, c, l, t, t.above)
            softmax_losses_at(t.down, row, count, k, c, l, t, t.below)
        elif l.squares:  # h is h − y, then
            for q in range(count):
                t.above[q], t.below[q] = 0.5 * t.up[q] * t.up[q], 0.5 * t.down[q] * t.down[q]
        else:
            losses_at(t.up, y, count, l, t.e, t.above)
            losses_at(t.down, y, count, l, t.e, t.below)
        for q in range(count):
            out[indices[at + q]] += t.s[row[q]] * (t.above[q] - t.below[q])
        at += count


def sparse_perturbed_pass(const floating[::1] data not None, const index_type[::1] indices not None,
                          const index_type[::1] indptr not None, const floating[:, :] Y not None,
                          const double[:, ::1] W not None, const double[::1] b not None,
                          const double[:, ::1] steps not None, const double[::1] step_b not None,
                          const floating[:] sample_weight not None, int activation, loss,
                          double[:, ::1] out_W not None, double[::1] out_b not None):
    """`perturbed_pass` on CSR rows. See `reference.perturbed.sparse_perturbed_pass`."""
    cdef Py_ssize_t n = Y.shape[0], d = W.shape[0], k = W.shape[1], start = 0, m, i, j, c, p
    check_perturbed(n, W, b, steps, step_b, n, Y.shape[1], sample_weight.shape[0], out_W, out_b)
    check_csr(data, indices, indptr, n, d)
    cdef Formula model = formula_of(loss, activation)
    cdef Turned* t = new_turned(TURNED_ROWS, 2, d, k)
    cdef double* y = t.X
    cdef Py_ssize_t* row = <Py_ssize_t*> (t.X + t.room)
    cdef double* h
    cdef const floating* data_ = &data[0] if data.shape[0] else NULL
    cdef const index_type* indices_ = &indices[0] if indices.shape[0] else NULL
    with nogil:
        turn_weights(&W[0, 0], &steps[0, 0], d, k, t)
        for c in range(out_b.shape[0]):
            out_b[c] = 0
        while start < n and not (activation == SOFTMAX and k == 1):
            m = min(t.room, n - start)
            turn_targets(Y, sample_weight, start, m, k, t)
            for c in range(k):
                h = t.h + c * t.room
                for i in range(t.rows):
                    h[i] = b[c]
                    if i < m:
                        for p in range(indptr[start + i], indptr[start + i + 1]):
                            h[i] += data[p] * t.W[c * d + indices[p]]
            for c in range(k):
                prepare(t, k, c, &model)
                move_entries(data_, indices_, &indptr[start], t.step + c * d, m, k, c, &model, t, y, row,
                             t.out + c * d)
                if step_b.shape[0]:
                    out_b[c] += moved(t.ones, step_b[c], t, k, c, &model)
            start += m
        for j in range(d):
            for c in range(k):
                out_W[j, c] = t.out[c * d + j]
        free_turned(t)
    finish_formula(&model)
