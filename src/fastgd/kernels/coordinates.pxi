# Coordinate descent on a quadratic function with an l1 penalty: what is left of an objective on some of its columns.
#
#     ½ Σ cᵢ·(aᵢ·(v − v₀) + b)² + Σ uᵢ·(aᵢ·(v − v₀) + b) + Σ (½ρⱼ·vⱼ² + tⱼ·|vⱼ|)
#
# u are the slopes by h at v₀, and c the curvatures. Columns are gone through one after the other; u is kept that of the
# present v, and with an intercept b the best for it: a step of a coordinate is then one in the column less its mean.
# No loss is known here. `reference/coordinates.py` is the specification.

from libc.math cimport sqrt


cdef inline double along_one(double v, double gradient, double bend, double threshold) noexcept nogil:
    """The minimum along one coordinate."""
    cdef double z = bend * v - gradient
    if z > threshold:
        return (z - threshold) / bend
    if z < -threshold:
        return (z + threshold) / bend
    return 0.0


cdef inline double violated(double step, double bend, double threshold) noexcept nogil:
    """By how much the slope was beyond the threshold, of that."""
    return bend * (step if step > 0 else -step) / (threshold if threshold > 0 else 1.0)


cdef inline double dense_dot(const double* a, const double* b, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t lanes = sizeof(doubles) // sizeof(double), i = 0
    cdef doubles s0 = fill_doubles(0), s1 = fill_doubles(0), s2 = fill_doubles(0), s3 = fill_doubles(0)
    cdef double total
    while i + 4 * lanes <= n:
        s0 += (<const doubles*> (a + i))[0] * (<const doubles*> (b + i))[0]
        s1 += (<const doubles*> (a + i + lanes))[0] * (<const doubles*> (b + i + lanes))[0]
        s2 += (<const doubles*> (a + i + 2 * lanes))[0] * (<const doubles*> (b + i + 2 * lanes))[0]
        s3 += (<const doubles*> (a + i + 3 * lanes))[0] * (<const doubles*> (b + i + 3 * lanes))[0]
        i += 4 * lanes
    total = sum_doubles((s0 + s1) + (s2 + s3))
    while i < n:
        total += a[i] * b[i]
        i += 1
    return total


def coordinate_descent(const double[:, ::1] columns not None, const double[::1] curvature not None,
                       const double[::1] means not None, const double[::1] bends not None,
                       const double[::1] thresholds not None, const double[::1] ridges not None,
                       Py_ssize_t epochs, double small, bint zeros, double[::1] slopes not None,
                       double[::1] v not None):
    """Epochs of coordinate descent, until one finds no slope worse than `small`. See `reference.coordinates`."""
    cdef Py_ssize_t m = columns.shape[0], n = columns.shape[1], epoch = 0, i, j
    cdef double worst = 0, old, step, factor, mean
    cdef bint alike = curvature.shape[0] == 1
    cdef const double* a
    if not (slopes.shape[0] == n and (alike or curvature.shape[0] == n) and v.shape[0] == m and bends.shape[0] == m
            and means.shape[0] == m and thresholds.shape[0] == m and ridges.shape[0] == m):
        raise ValueError(f"arrays do not fit {m} columns of {n} rows")
    if n == 0 or m == 0 or epochs <= 0:
        return 0, 0.0
    cdef double* u = &slopes[0]
    cdef const double* c = &curvature[0]
    with nogil:
        while epoch < epochs:
            worst = 0
            for j in range(m):
                if bends[j] <= 0 or (v[j] == 0 and not zeros):
                    continue
                a, old, mean = &columns[j, 0], v[j], means[j]
                step = along_one(old, dense_dot(a, u, n) + ridges[j] * old, bends[j], thresholds[j]) - old
                if step == 0:
                    continue
                v[j] = old + step
                worst = max(worst, violated(step, bends[j], thresholds[j]))
                if alike:
                    factor = step * c[0]
                    for i in range(n):
                        u[i] += factor * (a[i] - mean)
                else:
                    for i in range(n):
                        u[i] += step * c[i] * (a[i] - mean)
            epoch += 1
            if not worst > small:
                break
    return epoch, worst


def column_moments(const double[:, ::1] columns not None, const double[::1] curvature not None,
                   double[::1] sums not None, double[::1] squares not None):
    """Σ c·a and Σ c·a² of each column, into `sums` and `squares`."""
    cdef Py_ssize_t m = columns.shape[0], n = columns.shape[1], lanes = sizeof(doubles) // sizeof(double), i, j
    cdef doubles first, second, a, c
    cdef double s1, s2
    if not (curvature.shape[0] == n and sums.shape[0] == m and squares.shape[0] == m):
        raise ValueError(f"arrays do not fit {m} columns of {n} rows")
    with nogil:
        for j in range(m):
            first, second, i = fill_doubles(0), fill_doubles(0), 0
            while i + lanes <= n:
                a = (<const doubles*> (&columns[j, 0] + i))[0]
                c = a * (<const doubles*> (&curvature[0] + i))[0]
                first += c
                second += a * c
                i += lanes
            s1, s2 = sum_doubles(first), sum_doubles(second)
            while i < n:
                s1 += curvature[i] * columns[j, i]
                s2 += curvature[i] * columns[j, i] * columns[j, i]
                i += 1
            sums[j], squares[j] = s1, s2


cdef inline double gathered_dot(const floating[::1] data, const index_type[::1] indices, Py_ssize_t first,
                                Py_ssize_t last, const double* u) noexcept nogil:
    cdef Py_ssize_t p = first
    cdef double s0 = 0, s1 = 0, s2 = 0, s3 = 0
    while p + 4 <= last:
        s0 += data[p] * u[indices[p]]
        s1 += data[p + 1] * u[indices[p + 1]]
        s2 += data[p + 2] * u[indices[p + 2]]
        s3 += data[p + 3] * u[indices[p + 3]]
        p += 4
    while p < last:
        s0 += data[p] * u[indices[p]]
        p += 1
    return (s0 + s1) + (s2 + s3)


def sparse_coordinate_descent(const floating[::1] data not None, const index_type[::1] indices not None,
                              const index_type[::1] indptr not None, const double[::1] curvature not None,
                              const double[::1] scales not None, const double[::1] sums not None,
                              const double[::1] means not None, const double[::1] bends not None,
                              const double[::1] thresholds not None, const double[::1] ridges not None,
                              Py_ssize_t epochs, double small, bint zeros, double[::1] level not None,
                              double[::1] slopes not None, double[::1] v not None):
    """`coordinate_descent` on CSC columns over `scales`; the slopes are slopes + level·curvature."""
    cdef Py_ssize_t m = v.shape[0], n = slopes.shape[0], epoch = 0, j, p
    cdef double worst = 0, old, step, factor, total
    cdef bint alike = curvature.shape[0] == 1
    if not (scales.shape[0] == m and sums.shape[0] == m and means.shape[0] == m and bends.shape[0] == m
            and thresholds.shape[0] == m and ridges.shape[0] == m and level.shape[0] == 1
            and (alike or curvature.shape[0] == n)):
        raise ValueError(f"arrays do not fit {m} columns of {n} rows")
    check_csr(data, indices, indptr, m, n)
    if n == 0 or m == 0 or epochs <= 0:
        return 0, 0.0
    cdef double* u = &slopes[0]
    cdef const double* c = &curvature[0]
    with nogil:
        while epoch < epochs:
            worst = 0
            for j in range(m):
                if bends[j] <= 0 or (v[j] == 0 and not zeros):
                    continue
                old = v[j]
                total = gathered_dot(data, indices, indptr[j], indptr[j + 1], u) / scales[j] + level[0] * sums[j]
                step = along_one(old, total + ridges[j] * old, bends[j], thresholds[j]) - old
                if step == 0:
                    continue
                v[j] = old + step
                worst = max(worst, violated(step, bends[j], thresholds[j]))
                factor = step / scales[j]
                level[0] -= step * means[j]
                if alike:
                    factor *= c[0]
                    for p in range(indptr[j], indptr[j + 1]):
                        u[indices[p]] += factor * data[p]
                else:
                    for p in range(indptr[j], indptr[j + 1]):
                        u[indices[p]] += factor * c[indices[p]] * data[p]
            epoch += 1
            if not worst > small:
                break
    return epoch, worst


def gram_coordinate_descent(const double[:, ::1] H not None, const double[::1] thresholds not None, Py_ssize_t epochs,
                            double small, double[::1] gradient not None, double[::1] v not None):
    """Coordinate descent on ½vᵀHv + cᵀv + Σ tⱼ·|vⱼ|; `gradient` is Hv + c, and is kept so."""
    cdef Py_ssize_t m = H.shape[0], epoch = 0, i, j
    cdef double worst = 0, old, step
    cdef const double* row
    if not (H.shape[1] == m and thresholds.shape[0] == m and gradient.shape[0] == m and v.shape[0] == m):
        raise ValueError(f"arrays do not fit a matrix of shape ({m}, {H.shape[1]})")
    if m == 0 or epochs <= 0:
        return 0, 0.0
    cdef double* g = &gradient[0]
    with nogil:
        while epoch < epochs:
            worst = 0
            for j in range(m):
                old = v[j]
                if (old == 0 and -thresholds[j] <= g[j] <= thresholds[j]) or H[j, j] <= 0:
                    continue
                step = along_one(old, g[j], H[j, j], thresholds[j]) - old
                if step == 0:
                    continue
                v[j] = old + step
                worst = max(worst, violated(step, H[j, j], thresholds[j]))
                row = &H[j, 0]
                for i in range(m):
                    g[i] += step * row[i]
            epoch += 1
            if not worst > small:
                break
    return epoch, worst


cdef inline double length_of_group(const double* r, const double* row, Py_ssize_t next_one, Py_ssize_t size,
                                   double threshold) noexcept nogil:
    """‖z‖ of the minimum z of Σ (½dᵢ·zᵢ² − rᵢ·zᵢ) + threshold·‖z‖, d being each `next_one`-th number of the row.

    It is the root ν of Σ (rᵢ/(dᵢ·ν + threshold))² = 1, of which the inverse of the left root is nearly linear: Newton
    steps from below, where the largest dᵢ stands for all.
    """
    cdef Py_ssize_t i, count
    cdef double most = 0, square = 0, length, phi, slope, q, step
    for i in range(size):
        most = max(most, row[i * next_one])
        square += r[i] * r[i]
    if most <= 0 or square <= threshold * threshold:
        return 0.0
    length = (sqrt(square) - threshold) / most
    for count in range(60):
        phi = slope = 0
        for i in range(size):
            q = r[i] / (row[i * next_one] * length + threshold)
            phi += q * q
            slope += q * q * row[i * next_one] / (row[i * next_one] * length + threshold)
        if not slope > 0:
            break
        step = (sqrt(phi) - 1) * phi / slope
        length += step
        if not step > 1e-15 * length:
            break
    return length


def gram_group_descent(const double[:, ::1] H not None, const Py_ssize_t[::1] starts not None,
                       const double[::1] thresholds not None, Py_ssize_t epochs, double small,
                       double[::1] gradient not None, double[::1] v not None):
    """Descent on ½vᵀHv + cᵀv + Σ tⱼ·‖vⱼ‖ by groups, whose own blocks of H are diagonal. See the reference."""
    cdef Py_ssize_t m = H.shape[0], groups = thresholds.shape[0], epoch = 0, a, i, j, first, size
    cdef double worst = 0, square, longest, length, t, new, step, bend
    cdef const double* row
    if not (H.shape[1] == m and starts.shape[0] == groups + 1 and gradient.shape[0] == m and v.shape[0] == m):
        raise ValueError(f"arrays do not fit a matrix of shape ({m}, {H.shape[1]})")
    if m == 0 or epochs <= 0:
        return 0, 0.0
    if starts[0] != 0 or starts[groups] != m:
        raise ValueError(f"groups must begin at 0 and end at {m}")
    for j in range(groups):
        if starts[j + 1] < starts[j]:
            raise ValueError("starts must not decrease")
    cdef double* g = &gradient[0]
    cdef double* r = <double*> malloc(m * sizeof(double))
    if r is NULL:
        raise MemoryError
    with nogil:
        while epoch < epochs:
            worst = 0
            for j in range(groups):
                first, size, t, longest = starts[j], starts[j + 1] - starts[j], thresholds[j], 0
                if size == 0:
                    continue
                for i in range(first, first + size):
                    r[i] = H[i, i] * v[i] - g[i]
                length = length_of_group(r + first, &H[first, first], m + 1, size, t) if t > 0 else 0
                square = 0
                for i in range(first, first + size):
                    bend = H[i, i]
                    if t > 0:
                        new = r[i] * length / (bend * length + t)
                    else:
                        new = r[i] / bend if bend > 0 else v[i]
                    step = new - v[i]
                    r[i] = step
                    square += bend * step * bend * step
                worst = max(worst, sqrt(square) / (t if t > 0 else 1.0))
                for i in range(first, first + size):
                    step = r[i]
                    if step == 0:
                        continue
                    v[i] += step
                    row = &H[i, 0]
                    for a in range(m):
                        g[a] += step * row[a]
            epoch += 1
            if not worst > small:
                break
    free(r)
    return epoch, worst


def take_columns(const floating[:, ::1] X not None, const Py_ssize_t[::1] numbers not None,
                 const double[::1] shift not None, const double[::1] scale not None, double[:, ::1] out not None):
    """out[j] = (X[:, numbers[j]] − shift[j])/scale[j], in blocks of rows that stay in a cache."""
    cdef Py_ssize_t n = X.shape[0], d = X.shape[1], m = numbers.shape[0], first, last, i, j, at
    cdef double mean, size
    if not (shift.shape[0] == m and scale.shape[0] == m and out.shape[0] == m and out.shape[1] == n):
        raise ValueError(f"arrays do not fit {m} columns of {n} rows")
    for j in range(m):
        if not 0 <= numbers[j] < d:
            raise ValueError(f"numbers must be columns, 0 to {d - 1}")
    with nogil:
        for first in range(0, n, 64):
            last = min(first + 64, n)
            for j in range(m):
                at, mean, size = numbers[j], shift[j], scale[j]
                for i in range(first, last):
                    out[j, i] = (X[i, at] - mean) / size


def column_sums(const floating[:, ::1] X not None, double[::1] sums not None, double[::1] squares not None):
    """Σ x and Σ x² of each column of X (n, d), into `sums` and `squares`."""
    cdef Py_ssize_t n = X.shape[0], d = X.shape[1], i, j
    cdef double x
    if not (sums.shape[0] == d and squares.shape[0] == d):
        raise ValueError(f"arrays do not fit {d} columns")
    sums[:] = 0
    squares[:] = 0
    if n == 0 or d == 0:
        return
    cdef double* s = &sums[0]
    cdef double* q = &squares[0]
    cdef const floating* row
    with nogil:
        for i in range(n):
            row = &X[i, 0]
            for j in range(d):
                x = row[j]
                s[j] += x
                q[j] += x * x
