# The three stages of a one-layer model on a block of rows that is in cache: forward, error term, backward.

from libc.math cimport INFINITY, exp, fabs, log

from fastgd.kernels.formulas cimport (
    EXP, IDENTITY, RELU, SIGMOID, SOFTMAX, SOFTPLUS, TANH, sigmoid_prime_of, tanh_prime_of,
)

# dgemm and sgemm of BLAS: every argument by its address, columns first.
ctypedef void (*dgemm_type)(char*, char*, int*, int*, int*, double*, const double*, int*, const double*, int*, double*,
                            double*, int*) noexcept nogil
ctypedef void (*sgemm_type)(char*, char*, int*, int*, int*, float*, const float*, int*, const float*, int*, float*,
                            float*, int*) noexcept nogil


cdef struct Scratch:
    # Arrays of doubles that the error term of a few rows goes through, of points_in_scratch(…) numbers each.
    double* points
    double* exponential
    double* value
    double* slope
    double* loss
    double* target

cdef enum:
    SCRATCHES = 6
    SUMS = 16           # of outputs, that are added up side by side


cdef inline Py_ssize_t points_in_scratch(Py_ssize_t k, const Formula* l) noexcept nogil:
    return max(l.piece, k)


cdef inline Scratch scratch_at(double* memory, Py_ssize_t size) noexcept nogil:
    cdef Scratch q
    q.points, q.exponential = memory, memory + size
    q.value, q.slope, q.loss, q.target = memory + 2 * size, memory + 3 * size, memory + 4 * size, memory + 5 * size
    return q


# ----------------------------------------------------------------------------------------------------------- forward

cdef inline void forward_many(const floating* x, Py_ssize_t row, const floating* W, Py_ssize_t width,
                              const floating* b, Py_ssize_t m, Py_ssize_t d, Py_ssize_t k, floating* h,
                              void* gemm, bint apart) noexcept nogil:
    """h = XW + b for k outputs; h is (m, k), with room for `width` numbers in its last row; W is (d, width), or (k, d)
    if `apart`."""
    cdef Py_ssize_t i, c
    if apart:
        if floating is double:
            doubles_apart_forward(x, row, W, b, m, d, h, k)
        else:
            floats_apart_forward(x, row, W, b, m, d, h, k)
        return
    if gemm == NULL:
        if floating is double:
            doubles_forward(x, row, W, width, b, m, d, h, k)
        else:
            floats_forward(x, row, W, width, b, m, d, h, k)
        return
    for i in range(m):
        for c in range(k):
            h[i * k + c] = b[c]
    multiply(gemm, b"N", k, m, d, W, k, x, row, h)


# ---------------------------------------------------------------------------------------------------------- backward

cdef inline void backward_many(const floating* x, Py_ssize_t row, const floating* delta, Py_ssize_t m, Py_ssize_t d,
                               Py_ssize_t k, floating* g, Py_ssize_t width, void* gemm, bint apart) noexcept nogil:
    """g += Xᵀδ for k outputs; δ is (m, k), with numbers to be read behind its last row, g is as W of `forward_many`."""
    if gemm != NULL:
        multiply(gemm, b"T", k, d, m, delta, k, x, row, g)
    elif apart:
        if floating is double:
            doubles_apart_backward(x, row, delta, k, m, d, g)
        else:
            floats_apart_backward(x, row, delta, k, m, d, g)
    elif floating is double:
        doubles_backward(x, row, delta, k, m, d, g, width)
    else:
        floats_backward(x, row, delta, k, m, d, g, width)


cdef inline void multiply(void* gemm, const char* transposed, Py_ssize_t rows, Py_ssize_t columns, Py_ssize_t inner,
                          const floating* A, Py_ssize_t A_row, const floating* B, Py_ssize_t B_row,
                          floating* C) noexcept nogil:
    """C += A·op(B) as BLAS sees it, which is the product of the transposes as we do."""
    cdef int r = <int> rows, c = <int> columns, i = <int> inner, a = <int> A_row, b = <int> B_row
    cdef floating one = 1
    if floating is double:
        (<dgemm_type> gemm)(<char*> b"N", <char*> transposed, &r, &c, &i, &one, A, &a, B, &b, &one, C, &r)
    else:
        (<sgemm_type> gemm)(<char*> b"N", <char*> transposed, &r, &c, &i, &one, A, &a, B, &b, &one, C, &r)


# -------------------------------------------------------------------------------------------------------- error term

cdef inline void activation_points(const double* h, Py_ssize_t size, int activation, double* e, double* f,
                                   double* slope) noexcept nogil:
    """f(h) and f'(h) of `size` points; e is scratch. One loop for each activation, the formula inlined."""
    cdef Py_ssize_t i
    if activation == IDENTITY:
        for i in range(size):
            f[i] = h[i]
            slope[i] = 1
    elif activation == RELU:
        for i in range(size):  # written so that NaN stays
            f[i] = 0 if h[i] < 0 else h[i]
            slope[i] = 1 if h[i] > 0 else 0
    elif activation == EXP:
        exp_block(h, f, size)
        for i in range(size):
            slope[i] = f[i]
    else:
        for i in range(size):
            e[i] = -fabs(h[i])
        exp_block(e, e, size)
        if activation == SIGMOID:
            for i in range(size):
                f[i] = sigmoid_of(h[i], e[i])
                slope[i] = sigmoid_prime_of(e[i])
        elif activation == TANH:
            for i in range(size):
                f[i] = tanh_of(h[i], e[i])
                slope[i] = tanh_prime_of(e[i])
        else:
            for i in range(size):
                f[i] = softplus_of(h[i], log1p_of_unit(e[i]))
                slope[i] = sigmoid_of(h[i], e[i])


cdef inline void softmax_rows(double* h, Py_ssize_t m, Py_ssize_t k, double* f) noexcept nogil:
    """f = softmax of each row of h. h becomes log f."""
    cdef Py_ssize_t i, c
    cdef double largest, total
    cdef double* row
    for i in range(m):
        row = h + i * k
        largest = -INFINITY
        for c in range(k):
            largest = row[c] if row[c] > largest else largest
        for c in range(k):
            row[c] -= largest
    exp_block(h, f, m * k)
    for i in range(m):
        total = 0
        for c in range(k):
            total += f[i * k + c]
        for c in range(k):
            f[i * k + c] /= total
            h[i * k + c] -= log(total)


cdef inline void softmax_log_rows(const double* log_f, const double* y, Py_ssize_t m, Py_ssize_t k,
                                  Scratch q) noexcept nogil:
    """The cross-entropy of m rows, −Σ y·log f, of q.value = f."""
    cdef Py_ssize_t i, c
    cdef double target
    for i in range(m):
        target = 0
        for c in range(k):
            target += y[i * k + c]
        for c in range(k):
            # A class that is not the target's adds nothing, also where its log is −inf.
            q.loss[i * k + c] = -y[i * k + c] * log_f[i * k + c] if y[i * k + c] != 0 else 0
            q.slope[i * k + c] = q.value[i * k + c] * target - y[i * k + c]


cdef inline void point_losses(double* h, const double* y, Py_ssize_t m, Py_ssize_t k, Formula* l,
                              Scratch q) noexcept nogil:
    """q.loss = l(f(h), y) and q.slope = ∂l/∂h of m rows of k points; h may be overwritten."""
    cdef Py_ssize_t i, c, size = m * k
    cdef double total
    if l.activation == IDENTITY:
        l.points(l, size, h, y, q.loss, q.slope)
        return
    if l.activation != SOFTMAX:
        activation_points(h, size, l.activation, q.exponential, q.value, q.points)  # h is not needed any more
        l.points(l, size, q.value, y, q.loss, q.slope)
        for i in range(size):
            q.slope[i] *= q.points[i]
        return
    softmax_rows(h, m, k, q.value)
    if l.points == NULL:
        softmax_log_rows(h, y, m, k, q)
        return
    l.points(l, size, q.value, y, q.loss, q.slope)
    for i in range(m):  # ∂l/∂h_c = f_c·(l'_c − Σ_j l'_j f_j)
        total = 0
        for c in range(k):
            total += q.slope[i * k + c] * q.value[i * k + c]
        for c in range(k):
            q.slope[i * k + c] = q.value[i * k + c] * (q.slope[i * k + c] - total)


cdef inline void squared_identity(floating* h, const floating* y, const floating* s, Py_ssize_t m, Py_ssize_t k,
                                  double* totals) noexcept nogil:
    """The error term of the commonest model, without the detour through arrays of doubles."""
    cdef Py_ssize_t i, c
    cdef floating r
    if k == 1:
        if floating is double:
            totals[0] += squares_of_doubles(h, y, s, m)
        else:
            totals[0] += squares_of_floats(h, y, s, m)
        return
    for i in range(m * k):
        h[i] -= y[i]
    if s == NULL:
        add_by_output(<const floating*> h, <const floating*> h, m, k, 0.5, totals)
        return
    for i in range(m):
        for c in range(k):
            r = h[i * k + c]
            h[i * k + c] = s[i] * r
            totals[c] += 0.5 * <double> h[i * k + c] * <double> r


cdef inline void add_by_output(const floating* x, const floating* y, Py_ssize_t m, Py_ssize_t k, double factor,
                               double* out) noexcept nogil:
    """out[c] += factor·Σ of xy over the rows of output c; y NULL: of x.

    Of few outputs several rows are added to sums of their own, so that an addition does not wait for the one before.
    """
    cdef double[SUMS] sums
    cdef Py_ssize_t rows = SUMS // k if k < SUMS else 1, size = rows * k, whole = (m - m % rows) * k, i = 0, t
    if k > SUMS:
        for i in range(m):
            for t in range(k):
                out[t] += factor * x[i * k + t] * (y[i * k + t] if y != NULL else 1)
        return
    memset(sums, 0, sizeof(sums))
    if size == SUMS:  # in registers
        if floating is double:
            i = sixteen_sums_of_doubles(x, y, whole, sums)
        else:
            i = sixteen_sums_of_floats(x, y, whole, sums)
    while i < whole:
        if y != NULL:
            for t in range(size):
                sums[t] += <double> x[i + t] * <double> y[i + t]
        else:
            for t in range(size):
                sums[t] += x[i + t]
        i += size
    while i < m * k:
        sums[i % k] += <double> x[i] * <double> y[i] if y != NULL else <double> x[i]
        i += 1
    for t in range(size):
        out[t % k] += factor * sums[t]


cdef inline void error_term(floating* h, const floating* y, const floating* s, Py_ssize_t m, Py_ssize_t k,
                            Formula* l, Scratch q, double* totals) noexcept nogil:
    """totals[c] += Σ s·l over a block, and h becomes δ = s·∂l/∂h. The error term of the textbook is −δ.

    s NULL: all ones.
    """
    cdef Py_ssize_t start = 0, rows, i, c
    cdef Py_ssize_t step = l.piece // k if k < l.piece else 1
    cdef floating* at
    cdef const double* target
    if l.squares:
        squared_identity(h, y, s, m, k, totals)
        return
    while start < m:
        rows = min(step, m - start)
        at = h + start * k
        for i in range(rows * k):
            q.points[i] = at[i]
        if floating is double:
            target = y + start * k
        else:
            for i in range(rows * k):
                q.target[i] = (y + start * k)[i]
            target = q.target
        point_losses(q.points, target, rows, k, l, q)
        if s != NULL:
            for i in range(rows):
                for c in range(k):
                    q.loss[i * k + c] *= s[start + i]
                    q.slope[i * k + c] *= s[start + i]
        for i in range(rows * k):
            at[i] = <floating> q.slope[i]
        if k == 1:
            totals[0] += total_of(<const double*> q.loss, rows)
        else:
            add_by_output(<const double*> q.loss, <const double*> NULL, rows, k, 1, totals)
        start += rows
