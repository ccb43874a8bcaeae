# Runs of many steps that stay in C: full-batch descent, and stochastic descent over rows in a given order.

from libc.math cimport isfinite, sqrt

cdef enum:
    MAX_TURNED_COLUMNS = 16
    MAX_TURNED_VALUES = 8192


# Why `descend` came back; `reference/one_layer.py` has the same.
cdef enum:
    ALL_STEPS = 0
    REACHED = 1
    NOT_FINITE = 2
    OVERSHOOTING = 3

# Entries of its `state`.
cdef enum:
    BEGUN = 0           # 1 once there is a gradient of a step before
    OVERSHOOTS = 1      # steps in a row that overshot
    GROWTH = 2          # what they did to the gradient's norm
    CURVATURE = 3       # the smallest that they met
    NORM = 4            # the gradient's norm and the rate, one step before
    RATE = 5
    FIRST_FUN = 6       # value at the start of the run
    FUN = 7             # value one step before


def descend(const floating[:, :] X not None, const floating[:, :] Y not None, floating[:, ::1] w not None,
            const floating[:] sample_weight not None, int activation, loss, gemm, double factor, double l2,
            double offset, const double[::1] rates not None, double gap_factor, double gap_floor, double overshoots,
            double overshoot_growth, double[::1] state not None, floating[:, ::1] gradient not None,
            floating[:, ::1] previous not None, double[::1] funs not None, double[::1] norms not None,
            floating[:, :, ::1] points not None, int kind, const double[::1] parameters not None,
            floating[:, ::1] moments not None, long long done, Py_ssize_t penalised, const floating[::1] lower not None,
            const floating[::1] upper not None):
    """Full-batch descent by a rule with the rates given, in w itself. See `reference.one_layer.descend`."""
    cdef Py_ssize_t d = X.shape[1], k = w.shape[1], length = w.shape[0] * w.shape[1]
    cdef Py_ssize_t step, i, steps = rates.shape[0]
    if w.shape[0] != d and w.shape[0] != d + 1:
        raise ValueError(f"w has {w.shape[0]} rows, X has {d} columns")
    if gradient.shape[0] != w.shape[0] or gradient.shape[1] != k or state.shape[0] != 8:
        raise ValueError("gradient must have the shape of w, and state 8 entries")
    if previous.shape[0] != w.shape[0] or previous.shape[1] != k:
        raise ValueError("previous must have the shape of w")
    if funs.shape[0] < steps or norms.shape[0] < steps or (points.shape[0] != 0 and points.shape[0] < steps):
        raise ValueError(f"funs, norms and points must have room for {steps} steps")
    if points.shape[0] and (points.shape[1] != w.shape[0] or points.shape[2] != k):
        raise ValueError("points must have the shape of w behind its first axis")
    cdef bint intercept = w.shape[0] > d
    cdef const floating[:, ::1] W = w[:d]
    cdef const floating[::1] one_row = w[0]
    cdef const floating[::1] no_shift = one_row[:0]
    cdef void* blas = pointer_in(gemm) if k > 1 else NULL
    check_shapes(X, Y, W, one_row, no_shift, sample_weight, k)
    cdef Formula model = formula_of(loss, activation)
    cdef Rows rows = rows_of(X, Y, sample_weight, 0, blas, model.piece)
    cdef Update rule = update_of(kind, parameters, moments, length, penalised, lower, upper)
    cdef SmallTable small
    cdef bint is_small_table = is_small(&rows, &model)
    cdef floating* turned = NULL
    cdef Work* work = NULL
    cdef double* sums = NULL
    cdef double* grad_W
    cdef double* grad_b
    cdef floating* none
    cdef floating* w_ = &w[0, 0]
    cdef floating* g = &gradient[0, 0]
    cdef floating* before = &previous[0, 0]
    cdef double fun, norm, least, distance, product, difference, value, penalty
    cdef int reason = ALL_STEPS
    cdef floating new
    small.memory = NULL
    try:
        # A small table with few columns is walked again and again: it is worth turning round once.
        if is_small_table:
            small_table(&rows, intercept, &small)
        elif k == 1 and d > 1 and d <= MAX_TURNED_COLUMNS and rows.n * d <= MAX_TURNED_VALUES and not rows.by_columns:
            turned = <floating*> malloc(rows.n * d * sizeof(floating))
            if turned == NULL:
                raise MemoryError("no memory for a block of rows")
            pack(rows.X, rows.X_column, rows.X_row, <const floating*> NULL, d, rows.n, turned)
            rows.X, rows.X_row, rows.X_column = <const char*> turned, sizeof(floating), rows.n * sizeof(floating)
            rows.X_direct = rows.by_columns = True
            rows.turned = False
            rows.block = min(rows.n, <Py_ssize_t> MAX_BLOCK_ROWS)
        work = new_work(&rows)
        # totals (k), grad_W (d, k), grad_b (k) in double; then intercepts (k) for a model that has none.
        sums = <double*> malloc((2 * k + d * k) * sizeof(double) + k * sizeof(floating))
        if sums == NULL:
            raise MemoryError("no memory for a gradient")
        grad_W = sums + k
        grad_b = grad_W + d * k
        none = <floating*> (grad_b + k)
        memset(none, 0, k * sizeof(floating))
        with nogil:
            step = 0
            while step < steps:
                if is_small_table:
                    fun = small_pass(&small, <const double*> w_, <double> w_[d] if intercept else 0.0, grad_W)
                else:
                    walk(&rows, <const floating*> w_, <const floating*> (w_ + d * k if intercept else none),
                         <const floating*> NULL, &model, blas, work, sums, grad_W, grad_b)
                    if model.error != NULL:
                        break
                    fun = 0
                    for i in range(k):
                        fun += sums[i]
                penalty = 0
                if l2 != 0:
                    for i in range(d * k):
                        penalty += <double> w_[i] * <double> w_[i]
                fun = offset + factor * fun + 0.5 * l2 * penalty
                if rule.parameters[L1] != 0:
                    fun += penalty_of(&rule, <const floating*> w_)
                norm = product = difference = 0
                for i in range(length):
                    value = factor * (grad_W[i] if i < d * k else grad_b[i - d * k])
                    if i < d * k and l2 != 0:
                        value += l2 * w_[i]
                    new = <floating> value
                    norm += <double> new * <double> new
                    product += <double> new * <double> g[i]
                    value = <double> new - <double> g[i]
                    difference += value * value
                    if i < d * k:
                        grad_W[i] = new
                    else:
                        grad_b[i - d * k] = new
                norm = sqrt(norm)
                funs[step] = fun
                norms[step] = norm
                if points.shape[0]:
                    for i in range(length):
                        (&points[step, 0, 0])[i] = w_[i]
                if not (isfinite(norm) and isfinite(fun)):
                    reason = NOT_FINITE
                    if state[BEGUN] != 0:  # back to the last point where all was finite; `gradient` is still its
                        for i in range(length):
                            w_[i] = before[i]
                    break
                for i in range(length):
                    g[i] = <floating> (grad_W[i] if i < d * k else grad_b[i - d * k])
                least = norm
                if not rule.plain:
                    least = norms[step] = least_norm(&rule, <const floating*> w_, <const floating*> g)
                if state[BEGUN] == 0:
                    state[FIRST_FUN] = fun
                elif norm > state[NORM] and (product < 0 or rule.may_rise) and state[RATE] * state[NORM] > 0:
                    state[OVERSHOOTS] += 1
                    state[GROWTH] *= norm / state[NORM]
                    # What it met nears the largest curvature from below, until the run has left the place for good.
                    if state[OVERSHOOTS] == 1 or state[GROWTH] < overshoot_growth * overshoot_growth * overshoot_growth:
                        distance = state[RATE] * state[NORM]
                        if not rule.plain:
                            distance = 0
                            for i in range(length):
                                value = <double> w_[i] - <double> before[i]
                                distance += value * value
                            distance = sqrt(distance)
                        state[CURVATURE] = sqrt(difference) / distance if distance > 0 else 0
                    if (state[OVERSHOOTS] >= overshoots and state[GROWTH] >= overshoot_growth
                            and fun > state[FIRST_FUN]):
                        reason = OVERSHOOTING
                        break
                else:
                    state[OVERSHOOTS] = 0
                    state[GROWTH] = 1
                value = max(fun, gap_floor * state[FIRST_FUN])
                if least * least <= gap_factor * value:
                    reason = REACHED
                    break
                for i in range(length):
                    before[i] = w_[i]
                take_step(&rule, w_, <const floating*> g, rates[step], done + step + 1)
                state[BEGUN] = 1
                state[NORM] = norm
                state[RATE] = rates[step]
                state[FUN] = fun
                step += 1
    finally:
        free(sums)
        free(turned)
        free(small.memory)
        free_update(&rule)
        if work != NULL:
            free_work(work)
    finish_formula(&model)
    return step, reason


# ----------------------------------------------------------------------------------------------------- order of rows

cdef inline unsigned long long mixed(unsigned long long z) noexcept nogil:
    """The finaliser of SplitMix64 (Steele, Lea & Flood 2014): a well-mixed function of a counter."""
    z = (z ^ (z >> 30)) * <unsigned long long> 0xBF58476D1CE4E5B9ULL
    z = (z ^ (z >> 27)) * <unsigned long long> 0x94D049BB133111EBULL
    return z ^ (z >> 31)


def shuffle(unsigned long long seed, unsigned long long epoch, unsigned long long block, long long first,
            long long[::1] out not None):
    """out = a permutation of first, first + 1, …, by (seed, epoch, block). See `reference.one_layer.shuffle`."""
    cdef Py_ssize_t i, j, size = out.shape[0]
    cdef unsigned long long key, draw
    cdef long long kept
    with nogil:
        key = mixed(mixed(mixed(seed + 0x9E3779B97F4A7C15ULL) + epoch + 1) + block + 1)
        for i in range(size):
            out[i] = first + i
        for i in range(size - 1, 0, -1):
            # The high 32 bits of a draw times i + 1: uniform on 0 … i but for i / 2³².
            draw = mixed(key + <unsigned long long> i * 0x9E3779B97F4A7C15ULL) >> 32
            j = <Py_ssize_t> ((draw * <unsigned long long> (i + 1)) >> 32)
            kept = out[i]
            out[i] = out[j]
            out[j] = kept


# ------------------------------------------------------------------------------------------------- stochastic descent

def stochastic(const floating[:, :] X not None, const floating[:, :] Y not None, floating[:, ::1] w not None,
               const floating[:] sample_weight not None, int activation, loss, double factor, double l2,
               const long long[::1] order not None, Py_ssize_t batch, bint mean, const double[::1] rates not None,
               int kind, const double[::1] parameters not None, floating[:, ::1] moments not None, long long done,
               Py_ssize_t penalised, const floating[::1] lower not None, const floating[::1] upper not None):
    """Steps of stochastic descent over the rows in `order`, `batch` at a time. See `reference.one_layer.stochastic`."""
    cdef Py_ssize_t n = X.shape[0], d = X.shape[1], k = w.shape[1], size = sizeof(floating)
    cdef Py_ssize_t step = 0, steps = rates.shape[0], start, m, i, j, c, r, ahead
    check_order(order, n, batch, steps, w.shape[0], d)
    cdef bint intercept = w.shape[0] > d
    cdef const floating[:, ::1] W = w[:d]
    cdef const floating[::1] one_row = w[0]
    cdef const floating[::1] no_shift = one_row[:0]
    check_shapes(X, Y, W, one_row, no_shift, sample_weight, k)
    cdef Formula model = formula_of(loss, activation)
    batch = max(min(batch, order.shape[0]), <Py_ssize_t> 1)
    cdef bint direct = X.strides[1] == size or d == 1
    # A point's slope is a formula of that point.
    cdef bint alone = k == 1 and activation != SOFTMAX and model.slope_at != NULL
    cdef Rows single
    cdef bint failed
    cdef Py_ssize_t length = w.shape[0] * k
    cdef Update rule = update_of(kind, parameters, moments, length, penalised, lower, upper)
    if batch == 1 and alone and direct and X.strides[0] % size == 0 and rule.plain:
        single = rows_of(X, Y, sample_weight, 0, NULL, model.piece)
        with nogil:
            failed = steps_on_single_rows(&single, &w[0, 0], intercept, &model, factor,
                                          l2 if mean else l2 / n, &order[0] if steps else NULL, steps,
                                          &rates[0] if steps else NULL)
        if failed:
            raise MemoryError("no memory for a copy of the weights")
        finish_formula(&model)
        return
    # δ (batch, k), targets (batch, k), intercepts (k), gathered rows, the gradient that a rule needs whole; and the
    # scratch of the error term.
    cdef Py_ssize_t numbers = 2 * batch * k + k + (0 if direct else batch * d) + (0 if rule.plain else length)
    cdef char* memory = <char*> malloc(
        (SCRATCHES * points_in_scratch(k, &model) + k) * sizeof(double) + numbers * size + batch * sizeof(floating*))
    if memory == NULL:
        free_update(&rule)
        raise MemoryError("no memory for a batch")
    cdef Scratch q = scratch_at(<double*> memory, points_in_scratch(k, &model))
    cdef double* totals = <double*> memory + SCRATCHES * points_in_scratch(k, &model)
    cdef const floating** at = <const floating**> (totals + k)
    cdef floating* delta = <floating*> (at + batch)
    cdef floating* y = delta + batch * k
    cdef floating* b = y + batch * k
    cdef floating* packed = b + k
    cdef floating* w_ = &w[0, 0]
    # Plain descent moves the weights by each row as it comes; a rule is given the gradient of the batch.
    cdef floating* moved = w_ if rule.plain else packed + (0 if direct else batch * d)
    cdef const char* X_ = <const char*> &X[0, 0]
    cdef double scale, shrink, slope
    cdef floating move
    with nogil:
        memset(b, 0, k * sizeof(floating))
        while step < steps:
            start = step * batch
            m = min(batch, order.shape[0] - start)
            scale = (-rates[step] if rule.plain else 1) * (factor / m if mean else factor)
            shrink = (-rates[step] if rule.plain else 1) * (l2 if mean else l2 * m / n)
            for i in range(m):
                r = order[start + i]
                if direct:
                    at[i] = <const floating*> (X_ + r * X.strides[0])
                    ahead = start + i + 4
                    if ahead < order.shape[0]:  # the rows come in random order: ask for them before they are needed
                        for j in range(0, min(d * size, <Py_ssize_t> 512), 64):
                            prefetch(X_ + order[ahead] * X.strides[0] + j)
                else:
                    for j in range(d):
                        packed[i * d + j] = X[r, j]
                    at[i] = packed + i * d
            if alone:
                for i in range(m):
                    r = order[start + i]
                    slope = point_slope(dot(at[i], <const floating*> w_, d) + (w_[d] if intercept else 0), Y[r, 0],
                                        &model)
                    delta[i] = <floating> (slope * sample_weight[r] if sample_weight.shape[0] else slope)
            else:
                for i in range(m):
                    r = order[start + i]
                    for c in range(k):
                        delta[i * k + c] = w_[d * k + c] if intercept else 0
                        y[c] = Y[r, c]
                    for j in range(d):
                        add_multiple(delta + i * k, at[i][j], <const floating*> (w_ + j * k), k)
                    error_term(delta + i * k, <const floating*> y, <const floating*> NULL, 1, k, &model, q,
                               totals)
                    if sample_weight.shape[0]:
                        for c in range(k):
                            delta[i * k + c] *= sample_weight[r]
            if model.error != NULL:
                break
            begin_move(&rule, w_, moved, shrink, d * k)
            for i in range(m):
                if k == 1:
                    move = <floating> (scale * delta[i])
                    add_multiple(moved, move, at[i], d)
                    if intercept:
                        moved[d] += move
                else:
                    for c in range(k):
                        delta[i * k + c] *= <floating> scale
                    for j in range(d):
                        add_multiple(moved + j * k, at[i][j], <const floating*> (delta + i * k), k)
                    if intercept:
                        add_multiple(moved + d * k, <floating> 1, <const floating*> (delta + i * k), k)
            if not rule.plain:
                take_step(&rule, w_, <const floating*> moved, rates[step], done + step + 1)
            step += 1
        free(memory)
        free_update(&rule)
    finish_formula(&model)


cdef inline void begin_move(Update* rule, floating* w, floating* moved, double shrink,
                            Py_ssize_t weights) noexcept nogil:
    """The share of l2: w ← w + shrink·w in plain descent, where `moved` is w; else the gradient shrink·w."""
    cdef floating factor = <floating> (1 + shrink if rule.plain else shrink)
    cdef Py_ssize_t j
    if not rule.plain:
        for j in range(weights):
            moved[j] = factor * w[j]
        for j in range(weights, rule.size):
            moved[j] = 0
    elif shrink != 0:
        for j in range(weights):
            w[j] *= factor


cdef int check_order(const long long[::1] order, Py_ssize_t n, Py_ssize_t batch, Py_ssize_t steps, Py_ssize_t w_rows,
                     Py_ssize_t d) except -1:
    cdef Py_ssize_t i
    if w_rows != d and w_rows != d + 1:
        raise ValueError(f"w has {w_rows} rows, X has {d} columns")
    if batch < 1 or steps != (order.shape[0] + batch - 1) // batch:
        raise ValueError(f"{order.shape[0]} rows in batches of {batch} are not {steps} steps")
    cdef unsigned long long largest = 0  # a negative number is a large one without its sign
    with nogil:
        for i in range(order.shape[0]):
            largest = max(largest, <unsigned long long> order[i])
    if order.shape[0] and largest >= <unsigned long long> n:
        raise ValueError(f"order must hold numbers of rows, 0 to {n - 1}")
    return 0
