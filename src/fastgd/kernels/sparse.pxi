# The same model on CSR rows (data, indices, indptr as scipy.sparse has them): a pass costs O(nnz·k), not O(n·d·k).
#
# Nothing is shifted here: a shifted sparse row is dense. Who wants centred columns gets them by algebra outside, from
# the gradients by W and b.

ctypedef fused index_type:
    int
    long long


cdef int check_csr(const floating[::1] data, const index_type[::1] indices, const index_type[::1] indptr, Py_ssize_t n,
                   Py_ssize_t d) except -1:
    """Refuse what would read or write out of bounds: every column and every row pointer is looked at."""
    cdef Py_ssize_t i
    cdef bint inside = True
    if indptr.shape[0] != n + 1:
        raise ValueError(f"indptr has {indptr.shape[0]} entries, Y has {n} rows")
    with nogil:
        for i in range(n):
            inside = inside and indptr[i] <= indptr[i + 1]
        inside = inside and indptr[0] >= 0 and indptr[n] <= indices.shape[0] and indptr[n] <= data.shape[0]
        inside = inside and (indptr[0] == indptr[n]
                             or columns_inside(&indices[0] + indptr[0], indptr[n] - indptr[0], d))
    if not inside:
        raise ValueError(f"indices must be columns, 0 to {d - 1}, and indptr must not decrease or pass their end")
    return 0


cdef inline bint columns_inside(const index_type* indices, Py_ssize_t length, Py_ssize_t d) noexcept nogil:
    # A negative number is a large one without its sign; the largest of all is found a register at a time.
    cdef Py_ssize_t p
    cdef unsigned int largest = 0
    cdef unsigned long long largest_wide = 0
    if index_type is int:
        for p in range(length):
            largest = max(largest, <unsigned int> indices[p])
        largest_wide = largest
    else:
        for p in range(length):
            largest_wide = max(largest_wide, <unsigned long long> indices[p])
    return length == 0 or largest_wide < <unsigned long long> d


cdef inline floating sparse_dot(const floating* data, const index_type* indices, Py_ssize_t length,
                                const floating* w) noexcept nogil:
    """xw for one sparse row x: eight sums, so that none waits for another."""
    cdef Py_ssize_t p = 0
    cdef floating s0 = 0, s1 = 0, s2 = 0, s3 = 0, s4 = 0, s5 = 0, s6 = 0, s7 = 0
    while p + 8 <= length:
        s0 += data[p] * w[indices[p]]
        s1 += data[p + 1] * w[indices[p + 1]]
        s2 += data[p + 2] * w[indices[p + 2]]
        s3 += data[p + 3] * w[indices[p + 3]]
        s4 += data[p + 4] * w[indices[p + 4]]
        s5 += data[p + 5] * w[indices[p + 5]]
        s6 += data[p + 6] * w[indices[p + 6]]
        s7 += data[p + 7] * w[indices[p + 7]]
        p += 8
    while p < length:
        s0 += data[p] * w[indices[p]]
        p += 1
    return ((s0 + s4) + (s1 + s5)) + ((s2 + s6) + (s3 + s7))


cdef inline void sparse_forward(const floating* data, const index_type* indices, Py_ssize_t length, const floating* W,
                                Py_ssize_t k, floating* h) noexcept nogil:
    """h += xW for one sparse row x."""
    cdef Py_ssize_t p
    if k == 1:
        h[0] += sparse_dot(data, indices, length, W)
        return
    if floating is double:
        sparse_forward_lanes(data, indices, length, W, k, h, <doubles*> NULL)
    else:
        sparse_forward_lanes(data, indices, length, W, k, h, <floats*> NULL)


cdef inline void sparse_forward_lanes(const floating* data, const index_type* indices, Py_ssize_t length,
                                      const floating* W, Py_ssize_t k, floating* h, register_* like) noexcept nogil:
    """As many outputs at a time as a register holds; the last ones have some of those before them beside them."""
    cdef Py_ssize_t lanes = sizeof(register_) // sizeof(floating), c = 0, first, p, j
    cdef register_ even, odd, zeros = filled(<floating> 0, like)
    cdef floating s0, s1
    if k < lanes:
        for c in range(k):
            s0 = s1 = 0
            for p in range(0, length - 1, 2):
                s0 += data[p] * W[indices[p] * k + c]
                s1 += data[p + 1] * W[indices[p + 1] * k + c]
            if length % 2:
                s0 += data[length - 1] * W[indices[length - 1] * k + c]
            h[c] += s0 + s1
        return
    while c < k:
        first = min(c, k - lanes)
        even = odd = zeros
        for p in range(0, length - 1, 2):
            even += filled(data[p], like) * (<const register_*> (W + indices[p] * k + first))[0]
            odd += filled(data[p + 1], like) * (<const register_*> (W + indices[p + 1] * k + first))[0]
        if length % 2:
            even += filled(data[length - 1], like) * (<const register_*> (W + indices[length - 1] * k + first))[0]
        even += odd
        for j in range(c - first, lanes):
            h[first + j] += (<floating*> &even)[j]
        c = first + lanes


cdef inline void sparse_backward(const floating* data, const index_type* indices, Py_ssize_t length,
                                 const floating* delta, Py_ssize_t k, double* e, double* grad) noexcept nogil:
    """grad += xᵀδ in double for one sparse row x; e (k,) is scratch."""
    cdef Py_ssize_t lanes = sizeof(doubles) // sizeof(double), p, c
    cdef doubles factors
    cdef double* g
    cdef double alone
    if k == 1:  # without the multiplication in the index
        alone = delta[0]
        for p in range(length):
            grad[indices[p]] += alone * data[p]
        return
    for c in range(k):
        e[c] = delta[c]
    if k < lanes:
        for c in range(k):
            for p in range(length):
                grad[indices[p] * k + c] += e[c] * data[p]
        return
    for p in range(length):
        g = grad + indices[p] * k
        factors = filled(<double> data[p], <doubles*> NULL)
        c = 0
        while c + lanes <= k:
            (<doubles*> (g + c))[0] += factors * (<const doubles*> (e + c))[0]
            c += lanes
        while c < k:
            g[c] += e[c] * data[p]
            c += 1


def sparse_pass(const floating[::1] data not None, const index_type[::1] indices not None,
                const index_type[::1] indptr not None, const floating[:, :] Y not None,
                const floating[:, ::1] W not None, const floating[::1] b not None,
                const floating[:] sample_weight not None, int activation, loss, double[::1] totals not None,
                double[:, ::1] grad_W not None, double[::1] grad_b not None):
    """`total_loss`, and with a grad_W of any rows its gradient, of CSR rows. See `reference.one_layer.sparse_pass`."""
    cdef Py_ssize_t n = Y.shape[0], k = Y.shape[1], d = W.shape[0], size = sizeof(floating)
    cdef Py_ssize_t start = 0, m, i, c, first, last, block = 256
    cdef bint with_gradient = grad_W.shape[0] > 0
    if n == 0 or k == 0 or d == 0:
        raise ValueError("Y must have rows and columns, and W rows")
    if W.shape[1] != k or b.shape[0] != k or totals.shape[0] != k:
        raise ValueError(f"Y has {k} columns, W {W.shape[1]}, b has {b.shape[0]} entries and totals {totals.shape[0]}")
    if with_gradient and (grad_W.shape[0] != d or grad_W.shape[1] != k or grad_b.shape[0] != k):
        raise ValueError("grad_W and grad_b must have the shapes of W and b")
    if sample_weight.shape[0] != 0 and sample_weight.shape[0] != n:
        raise ValueError(f"sample_weight has {sample_weight.shape[0]} entries, Y has {n} rows")
    check_csr(data, indices, indptr, n, d)
    cdef Formula model = formula_of(loss, activation)
    block = max(block, model.piece // k)
    cdef char* memory = <char*> malloc((SCRATCHES * points_in_scratch(k, &model) + 2 * k) * sizeof(double)
                                       + block * (2 * k + 1) * size)
    if memory == NULL:
        raise MemoryError("no memory for a block of rows")
    cdef Scratch q = scratch_at(<double*> memory, points_in_scratch(k, &model))
    cdef double* part = <double*> memory + SCRATCHES * points_in_scratch(k, &model)
    cdef double* e = part + k
    cdef floating* h = <floating*> (e + k)
    cdef floating* y = h + block * k
    cdef floating* s = y + block * k
    cdef const floating* W_ = &W[0, 0]
    with nogil:
        memset(&totals[0], 0, k * sizeof(double))
        if with_gradient:
            memset(&grad_W[0, 0], 0, d * k * sizeof(double))
            memset(&grad_b[0], 0, k * sizeof(double))
        while start < n:
            m = min(block, n - start)
            for i in range(m):
                for c in range(k):
                    h[i * k + c] = b[c]
                    y[i * k + c] = Y[start + i, c]
                first, last = indptr[start + i], indptr[start + i + 1]
                if last > first:
                    sparse_forward(&data[first], &indices[first], last - first, W_, k, h + i * k)
                if sample_weight.shape[0]:
                    s[i] = sample_weight[start + i]
            memset(part, 0, k * sizeof(double))
            error_term(h, <const floating*> y, <const floating*> (s if sample_weight.shape[0] else NULL), m, k,
                       &model, q, part)
            for c in range(k):
                totals[c] += part[c]
            if with_gradient:
                for i in range(m):
                    first, last = indptr[start + i], indptr[start + i + 1]
                    if last > first:
                        sparse_backward(&data[first], &indices[first], last - first, <const floating*> h + i * k, k,
                                        e, &grad_W[0, 0])
                sum_rows(<const floating*> h, m, k, &grad_b[0])
            start += m
        free(memory)
    finish_formula(&model)


def sparse_stochastic(const floating[::1] data not None, const index_type[::1] indices not None,
                      const index_type[::1] indptr not None, const floating[:, :] Y not None,
                      floating[:, ::1] w not None, Py_ssize_t d, const floating[:] sample_weight not None,
                      int activation, loss, double factor, double l2, const long long[::1] order not None,
                      Py_ssize_t batch, bint mean, const double[::1] rates not None, int kind,
                      const double[::1] parameters not None, floating[:, ::1] moments not None, long long done,
                      Py_ssize_t penalised, const floating[::1] lower not None, const floating[::1] upper not None):
    """`stochastic` on CSR rows; l2 costs nothing beyond the entries. See `reference.one_layer.sparse_stochastic`."""
    cdef Py_ssize_t n = Y.shape[0], k = Y.shape[1], step = 0, steps = rates.shape[0], start, m, i, j, c, p, r
    cdef Py_ssize_t first, last
    if n == 0 or k == 0 or d == 0 or w.shape[1] != k:
        raise ValueError(f"Y has shape ({n}, {k}), w {w.shape[1]} columns")
    if sample_weight.shape[0] != 0 and sample_weight.shape[0] != n:
        raise ValueError(f"sample_weight has {sample_weight.shape[0]} entries, Y has {n} rows")
    check_order(order, n, batch, steps, w.shape[0], d)
    cdef Formula model = formula_of(loss, activation)
    batch = max(min(batch, order.shape[0]), <Py_ssize_t> 1)
    cdef bint intercept = w.shape[0] > d
    cdef Py_ssize_t length = w.shape[0] * k
    cdef Update rule = update_of(kind, parameters, moments, length, penalised, lower, upper)
    if batch == 1 and k == 1 and activation != SOFTMAX and rule.plain and indptr.shape[0] == n + 1:
        single_sparse_rows(data, indices, indptr, Y, w, d, sample_weight, &model, factor,
                           l2 if mean else l2 / n, order, rates)
        return
    check_csr(data, indices, indptr, n, d)
    cdef char* memory = <char*> malloc((SCRATCHES * points_in_scratch(k, &model) + k) * sizeof(double)
                                       + ((batch + 1) * k + (0 if rule.plain else length)) * sizeof(floating))
    if memory == NULL:
        free_update(&rule)
        raise MemoryError("no memory for a batch")
    cdef Scratch q = scratch_at(<double*> memory, points_in_scratch(k, &model))
    cdef double* totals = <double*> memory + SCRATCHES * points_in_scratch(k, &model)
    cdef floating* delta = <floating*> (totals + k)
    cdef floating* y = delta + batch * k
    cdef floating* w_ = &w[0, 0]
    # What the rows are added to: the weights in plain descent, else the gradient that the rule is given, all of it.
    cdef floating* moved = w_ if rule.plain else y + k
    # The weights are shrinkage·w_: l2 multiplies one number instead of d.
    cdef double shrinkage = 1, scale, shrink, move
    cdef floating change
    with nogil:
        while step < steps:
            start = step * batch
            m = min(batch, order.shape[0] - start)
            scale = (-rates[step] if rule.plain else 1) * (factor / m if mean else factor)
            shrink = (-rates[step] if rule.plain else 1) * (l2 if mean else l2 * m / n)
            for i in range(m):
                r = order[start + i]
                first, last = indptr[r], indptr[r + 1]
                if start + i + 2 < order.shape[0]:  # the rows come in random order: ask before they are needed
                    p = indptr[order[start + i + 2]]
                    j = min(<Py_ssize_t> indptr[order[start + i + 2] + 1], p + 512)
                    if p < j:
                        prefetch_bytes(<const char*> &data[p], (j - p) * sizeof(floating))
                        prefetch_bytes(<const char*> &indices[p], (j - p) * sizeof(index_type))
                for c in range(k):
                    delta[i * k + c] = 0
                if last > first:
                    sparse_forward(&data[first], &indices[first], last - first, <const floating*> w_, k, delta + i * k)
                for c in range(k):
                    delta[i * k + c] = <floating> (shrinkage * delta[i * k + c] + (w_[d * k + c] if intercept else 0))
                    y[c] = Y[r, c]
                if k == 1 and activation != SOFTMAX and model.slope_at != NULL:
                    delta[i] = <floating> point_slope(delta[i], y[0], &model)
                else:
                    error_term(delta + i * k, <const floating*> y, <const floating*> NULL, 1, k, &model, q,
                               totals)
                if sample_weight.shape[0]:
                    for c in range(k):
                        delta[i * k + c] *= sample_weight[r]
            if model.error != NULL:
                break
            if not rule.plain:
                begin_move(&rule, w_, moved, shrink, d * k)
            elif shrink != 0:
                shrinkage *= 1 + shrink
                if fabs(shrinkage) < 1e-6 or fabs(shrinkage) > 1e6:  # before digits are lost, or all of them at 0
                    for j in range(d * k):
                        w_[j] = <floating> (w_[j] * shrinkage)
                    shrinkage = 1
            for i in range(m):
                r = order[start + i]
                for c in range(k):
                    move = scale * delta[i * k + c]
                    if intercept:
                        moved[d * k + c] += <floating> move
                    change = <floating> (move / shrinkage)
                    if k == 1:  # without the multiplication in the index
                        for p in range(indptr[r], indptr[r + 1]):
                            moved[indices[p]] += change * data[p]
                        continue
                    for p in range(indptr[r], indptr[r + 1]):
                        moved[indices[p] * k + c] += change * data[p]
            if not rule.plain:
                take_step(&rule, w_, <const floating*> moved, rates[step], done + step + 1)
            step += 1
        if shrinkage != 1:
            for j in range(d * k):
                w_[j] = <floating> (w_[j] * shrinkage)
        free(memory)
        free_update(&rule)
    finish_formula(&model)
