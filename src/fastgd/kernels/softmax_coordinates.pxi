# Coordinate descent on a quadratic model of a softmax: all classes of a column at once, for their weights depend on
# each other. `reference/coordinates.py` is the specification.

# Rows at once, whose numbers stay in the nearest cache.
cdef enum:
    ROWS_AT_ONCE = 512


cdef bint along_classes(double* v, double* gradient, double* step, const double* bends, double threshold,
                        Py_ssize_t k, double* worst) noexcept nogil:
    """Rounds of coordinate descent in the weights of one column; whether any moved."""
    cdef Py_ssize_t turn, c, e
    cdef double first = 0, most, change
    cdef bint moved = False
    for c in range(k):
        step[c] = 0
    for turn in range(10):
        most = 0
        for c in range(k):
            if bends[c * k + c] <= 0 or (v[c] == 0 and -threshold <= gradient[c] <= threshold):
                continue
            change = along_one(v[c], gradient[c], bends[c * k + c], threshold) - v[c]
            if change == 0:
                continue
            moved = True
            v[c] += change
            step[c] += change
            most = max(most, violated(change, bends[c * k + c], threshold))
            for e in range(k):
                gradient[e] += change * bends[c * k + e]
        worst[0] = max(worst[0], most)
        if turn == 0:
            first = most
        if most <= 0.1 * first:
            break
    return moved


cdef inline void add_products(const double* matrices, const double* b, double* out, Py_ssize_t k,
                              double sign) noexcept nogil:
    """out += sign·Mb, M (k, k)."""
    cdef Py_ssize_t c, e
    for c in range(k):
        for e in range(k):
            out[c] += sign * matrices[c * k + e] * b[e]


cdef void add_to_slopes(const double* a, const double* s, bint alike, const double* P, const double* step, double* u,
                        double* middle, double* weighted, Py_ssize_t n, Py_ssize_t k) noexcept nogil:
    """u_c += a·s·p_c·(step_c − Σ p·step) for all rows, P and u being (k, n)."""
    cdef Py_ssize_t start, rows, i, c
    cdef double change
    cdef const double* p
    cdef double* to
    start = 0
    while start < n:
        rows = min(n - start, <Py_ssize_t> ROWS_AT_ONCE)
        for i in range(rows):
            middle[i] = 0
            weighted[i] = a[start + i] * s[0 if alike else start + i]
        for c in range(k):
            change, p = step[c], P + c * n + start
            if change != 0:
                for i in range(rows):
                    middle[i] += change * p[i]
        for c in range(k):
            change, p, to = step[c], P + c * n + start, u + c * n + start
            for i in range(rows):
                to[i] += weighted[i] * p[i] * (change - middle[i])
        start += rows


def softmax_descent(const double[:, ::1] columns not None, const double[::1] weights not None,
                    const double[:, ::1] P not None, const double[:, :, ::1] sums not None,
                    const double[:, :, ::1] means not None, const double[:, :, ::1] bends not None,
                    const double[::1] thresholds not None, const double[::1] ridges not None, Py_ssize_t epochs,
                    double small, bint zeros, double[::1] level not None, double[:, ::1] slopes not None,
                    double[:, ::1] v not None):
    """Epochs of coordinate descent in the weights of all classes. See `reference.coordinates`."""
    cdef Py_ssize_t m = columns.shape[0], n = columns.shape[1], k = P.shape[0], epoch = 0, j, c
    cdef double worst = 0
    cdef bint alike = weights.shape[0] == 1, some
    check_classes(m, n, k, weights, sums, means, bends, thresholds, ridges, level, v)
    if not (P.shape[1] == n and slopes.shape[0] == k and slopes.shape[1] == n):
        raise ValueError(f"arrays do not fit {m} columns of {n} rows and {k} classes")
    if n == 0 or m == 0 or k == 0 or epochs <= 0:
        return 0, 0.0
    cdef double* gradient = <double*> malloc((2 * k + 2 * ROWS_AT_ONCE) * sizeof(double))
    if gradient is NULL:
        raise MemoryError
    cdef double* step = gradient + k
    cdef double* middle = step + k
    with nogil:
        while epoch < epochs:
            worst = 0
            for j in range(m):
                some = zeros
                for c in range(k):
                    some = some or v[j, c] != 0
                if not some:
                    continue
                for c in range(k):
                    gradient[c] = dense_dot(&columns[j, 0], &slopes[c, 0], n) + ridges[j] * v[j, c]
                add_products(&sums[j, 0, 0], &level[0], gradient, k, 1)
                if along_classes(&v[j, 0], gradient, step, &bends[j, 0, 0], thresholds[j], k, &worst):
                    add_products(&means[j, 0, 0], step, &level[0], k, -1)
                    add_to_slopes(&columns[j, 0], &weights[0], alike, &P[0, 0], step, &slopes[0, 0], middle,
                                  middle + ROWS_AT_ONCE, n, k)
            epoch += 1
            if not worst > small:
                break
    free(gradient)
    return epoch, worst


cdef int check_classes(Py_ssize_t m, Py_ssize_t n, Py_ssize_t k, const double[::1] weights,
                       const double[:, :, ::1] sums, const double[:, :, ::1] means, const double[:, :, ::1] bends,
                       const double[::1] thresholds, const double[::1] ridges, const double[::1] level,
                       const double[:, ::1] v) except -1:
    cdef bint fits = sums.shape[0] == m and means.shape[0] == m and bends.shape[0] == m
    fits = fits and sums.shape[1] == k and means.shape[1] == k and bends.shape[1] == k
    fits = fits and sums.shape[2] == k and means.shape[2] == k and bends.shape[2] == k
    fits = fits and thresholds.shape[0] == m and ridges.shape[0] == m and level.shape[0] == k
    fits = fits and v.shape[0] == m and v.shape[1] == k and (weights.shape[0] == 1 or weights.shape[0] == n)
    if not fits:
        raise ValueError(f"arrays do not fit {m} columns of {n} rows and {k} classes")
    return 0


def sparse_softmax_descent(const floating[::1] data not None, const index_type[::1] indices not None,
                           const index_type[::1] indptr not None, const double[::1] scales not None,
                           const double[::1] weights not None, const double[:, ::1] P not None,
                           const double[:, :, ::1] sums not None, const double[:, :, ::1] means not None,
                           const double[:, :, ::1] bends not None, const double[::1] thresholds not None,
                           const double[::1] ridges not None, Py_ssize_t epochs, double small, bint zeros,
                           double[::1] level not None, double[:, ::1] slopes not None, double[:, ::1] v not None):
    """`softmax_descent` on CSC columns over `scales`, with P and slopes (n, k)."""
    cdef Py_ssize_t m = v.shape[0], n = P.shape[0], k = P.shape[1], epoch = 0, j, c, p
    cdef double worst = 0, x, middle
    cdef bint alike = weights.shape[0] == 1, some
    cdef const double* row
    cdef double* u
    check_classes(m, n, k, weights, sums, means, bends, thresholds, ridges, level, v)
    if not (scales.shape[0] == m and slopes.shape[0] == n and slopes.shape[1] == k):
        raise ValueError(f"arrays do not fit {m} columns of {n} rows and {k} classes")
    check_csr(data, indices, indptr, m, n)
    if n == 0 or m == 0 or k == 0 or epochs <= 0:
        return 0, 0.0
    cdef double* gradient = <double*> malloc(2 * k * sizeof(double))
    if gradient is NULL:
        raise MemoryError
    cdef double* step = gradient + k
    with nogil:
        while epoch < epochs:
            worst = 0
            for j in range(m):
                some = zeros
                for c in range(k):
                    some = some or v[j, c] != 0
                    gradient[c] = 0
                if not some:
                    continue
                for p in range(indptr[j], indptr[j + 1]):
                    u = &slopes[indices[p], 0]
                    for c in range(k):
                        gradient[c] += data[p] * u[c]
                for c in range(k):
                    gradient[c] = gradient[c] / scales[j] + ridges[j] * v[j, c]
                add_products(&sums[j, 0, 0], &level[0], gradient, k, 1)
                if not along_classes(&v[j, 0], gradient, step, &bends[j, 0, 0], thresholds[j], k, &worst):
                    continue
                add_products(&means[j, 0, 0], step, &level[0], k, -1)
                for p in range(indptr[j], indptr[j + 1]):
                    u, row, middle = &slopes[indices[p], 0], &P[indices[p], 0], 0
                    for c in range(k):
                        middle += row[c] * step[c]
                    x = data[p] / scales[j] * weights[0 if alike else indices[p]]
                    for c in range(k):
                        u[c] += x * row[c] * (step[c] - middle)
            epoch += 1
            if not worst > small:
                break
    free(gradient)
    return epoch, worst
