# The loops of a one-layer model  ŷ = f(XW + b), included by one .pyx file for each CPU level.
#
# Data come in as row blocks that fit the first-level cache, and each block goes through three stages while it is there,
# so that X is read from memory once for a value and a gradient together:
#
#     forward     h = XW + b
#     error term  the block's loss, and h becomes δ = ∂loss/∂h
#     backward    G += Xᵀδ
#
# Descent adds a fourth, `update`: w ← w − η·g.
#
# Why it is written like this:
# - Four rows at a time where there is one output: w and G are then loaded once for four rows, and four independent
#   sums hide the latency of an addition.
# - The switch over the activation stands outside the loop over the points, once a block: inside, `activation` is a
#   constant, and the compiler sees one straight formula to put into vector registers.
# - A block is copied into a buffer only where that is needed (rows that are not contiguous, or columns that are
#   shifted by their means). A copy of a block in cache is cheap; a copy of X is not made.
# - δ and G have the dtype of X inside a block and are added to float64 totals every FLUSH_ROWS rows, so that float32
#   keeps its speed and the totals keep their digits.
#
# `reference.py` is the specification: the same names, parameters and side effects in plain NumPy.

from cython cimport floating
from libc.stdlib cimport free, malloc
from libc.string cimport memset

from fastgd.kernels.formulas cimport (
    IDENTITY, SIGMOID, SQUARED, TANH, activate, activation_prime,
)

cdef enum:
    BLOCK_BYTES = 24576     # of X in a block: half of a first-level cache, the rest is for w, G and h
    MAX_BLOCK_ROWS = 256
    FLUSH_ROWS = 256        # rows whose gradient is summed in the dtype of X before it goes to float64


# ------------------------------------------------------------------------------------------------------------ stages

cdef inline void forward_one(const floating* x, Py_ssize_t row, const floating* w, floating b,
                             Py_ssize_t m, Py_ssize_t d, floating* h) noexcept nogil:
    """h = Xw + b for one output; four rows at a time."""
    cdef Py_ssize_t i = 0, j
    cdef floating s0, s1, s2, s3
    cdef const floating* x1
    cdef const floating* x2
    cdef const floating* x3
    while i + 4 <= m:
        x1 = x + row
        x2 = x1 + row
        x3 = x2 + row
        s0 = s1 = s2 = s3 = 0
        for j in range(d):
            s0 += x[j] * w[j]
            s1 += x1[j] * w[j]
            s2 += x2[j] * w[j]
            s3 += x3[j] * w[j]
        h[i] = s0 + b
        h[i + 1] = s1 + b
        h[i + 2] = s2 + b
        h[i + 3] = s3 + b
        x += 4 * row
        i += 4
    while i < m:
        s0 = 0
        for j in range(d):
            s0 += x[j] * w[j]
        h[i] = s0 + b
        x += row
        i += 1


cdef inline void backward_one(const floating* x, Py_ssize_t row, const floating* delta,
                              Py_ssize_t m, Py_ssize_t d, floating* g) noexcept nogil:
    """g += Xᵀδ for one output; four rows at a time."""
    cdef Py_ssize_t i = 0, j
    cdef floating e0, e1, e2, e3
    cdef const floating* x1
    cdef const floating* x2
    cdef const floating* x3
    while i + 4 <= m:
        x1 = x + row
        x2 = x1 + row
        x3 = x2 + row
        e0 = delta[i]
        e1 = delta[i + 1]
        e2 = delta[i + 2]
        e3 = delta[i + 3]
        for j in range(d):
            g[j] += (x[j] * e0 + x1[j] * e1) + (x2[j] * e2 + x3[j] * e3)
        x += 4 * row
        i += 4
    while i < m:
        e0 = delta[i]
        for j in range(d):
            g[j] += x[j] * e0
        x += row
        i += 1


cdef inline void forward_many(const floating* x, Py_ssize_t row, const floating* W, const floating* b,
                              Py_ssize_t m, Py_ssize_t d, Py_ssize_t k, floating* h) noexcept nogil:
    """h = XW + b for k outputs; h is (m, k)."""
    cdef Py_ssize_t i, j, c
    cdef floating v
    for i in range(m):
        for c in range(k):
            h[i * k + c] = b[c]
        for j in range(d):
            v = x[i * row + j]
            for c in range(k):
                h[i * k + c] += v * W[j * k + c]


cdef inline void backward_many(const floating* x, Py_ssize_t row, const floating* delta,
                               Py_ssize_t m, Py_ssize_t d, Py_ssize_t k, floating* g) noexcept nogil:
    """g += Xᵀδ for k outputs; δ is (m, k), g is (d, k)."""
    cdef Py_ssize_t i, j, c
    cdef floating v
    for i in range(m):
        for j in range(d):
            v = x[i * row + j]
            for c in range(k):
                g[j * k + c] += v * delta[i * k + c]


cdef inline double squared_error(floating* h, const floating* y, const floating* s, Py_ssize_t m, Py_ssize_t k,
                                 int activation) noexcept nogil:
    """Σ ½s(f(h) − y)² over a block, and h becomes δ = s(f(h) − y)f'(h). The error term of the textbook is −δ."""
    cdef Py_ssize_t i, c
    cdef floating r, weight
    cdef double total = 0
    for i in range(m):
        weight = s[i]
        for c in range(k):
            r = activate(h[i * k + c], activation) - y[i * k + c]
            total += (0.5 * weight) * (<double> r * r)
            h[i * k + c] = weight * r * activation_prime(h[i * k + c], activation)
    return total


cdef inline double error_term(floating* h, const floating* y, const floating* s, Py_ssize_t m, Py_ssize_t k,
                              int activation) noexcept nogil:
    """The stage's one switch: activation × loss, once a block, each with its constant inlined."""
    if activation == SIGMOID:
        return squared_error(h, y, s, m, k, SIGMOID)
    if activation == TANH:
        return squared_error(h, y, s, m, k, TANH)
    return squared_error(h, y, s, m, k, IDENTITY)


cdef inline void activate_block(floating* h, Py_ssize_t size, int activation) noexcept nogil:
    cdef Py_ssize_t i
    if activation == SIGMOID:
        for i in range(size):
            h[i] = activate(h[i], SIGMOID)
    elif activation == TANH:
        for i in range(size):
            h[i] = activate(h[i], TANH)


# ------------------------------------------------------------------------------------------------------------ blocks

cdef inline Py_ssize_t block_rows(Py_ssize_t n, Py_ssize_t row_bytes) noexcept nogil:
    """Rows in a block: a multiple of four that fits BLOCK_BYTES, at least four."""
    cdef Py_ssize_t rows = min(<Py_ssize_t> MAX_BLOCK_ROWS, BLOCK_BYTES // max(row_bytes, 1))
    return max(min((rows // 4) * 4, n), 4)


cdef inline void pack(const char* source, Py_ssize_t row_stride, Py_ssize_t column_stride, const floating* shift,
                      Py_ssize_t m, Py_ssize_t d, floating* out) noexcept nogil:
    """Copy m rows of any strides into contiguous rows, less the shift of each column where there is one."""
    cdef Py_ssize_t i, j
    if shift == NULL:
        for i in range(m):
            for j in range(d):
                out[i * d + j] = (<const floating*> (source + i * row_stride + j * column_stride))[0]
    else:
        for i in range(m):
            for j in range(d):
                out[i * d + j] = (<const floating*> (source + i * row_stride + j * column_stride))[0] - shift[j]


cdef inline void flush(floating* part, double* total, Py_ssize_t size) noexcept nogil:
    """total += part; part = 0."""
    cdef Py_ssize_t i
    for i in range(size):
        total[i] += part[i]
    memset(part, 0, size * sizeof(floating))


cdef int check_shapes(const floating[:, :] X, const floating[:, :] Y, const floating[:, ::1] W, const floating[::1] b,
                      const floating[::1] shift, const floating[:] sample_weight) except -1:
    """Bounds checks are off in the loops, so lengths are compared here, before the first of them."""
    if W.shape[0] != X.shape[1]:
        raise ValueError(f"W has {W.shape[0]} rows, X has {X.shape[1]} columns")
    if Y.shape[0] != X.shape[0]:
        raise ValueError(f"Y has {Y.shape[0]} rows, X has {X.shape[0]}")
    if Y.shape[1] != W.shape[1] or b.shape[0] != W.shape[1]:
        raise ValueError(f"Y has {Y.shape[1]} columns, W has {W.shape[1]} and b has {b.shape[0]}")
    if shift.shape[0] != 0 and shift.shape[0] != X.shape[1]:
        raise ValueError(f"shift has {shift.shape[0]} entries, X has {X.shape[1]} columns")
    if sample_weight.shape[0] != 0 and sample_weight.shape[0] != X.shape[0]:
        raise ValueError(f"sample_weight has {sample_weight.shape[0]} entries, X has {X.shape[0]} rows")
    return 0


cdef double walk(const floating[:, :] X, const floating[:, :] Y, const floating[:, ::1] W, const floating[::1] b,
                 const floating[::1] shift, const floating[:] sample_weight, int activation,
                 double* grad_W, double* grad_b) except? -1:
    """The pass over the row blocks. grad_W NULL: the loss alone."""
    cdef Py_ssize_t n = X.shape[0], d = X.shape[1], k = W.shape[1]
    if n == 0 or k == 0:
        return 0.0
    cdef Py_ssize_t size = sizeof(floating)
    cdef bint direct = (shift.shape[0] == 0 and X.strides[0] % size == 0 and (d <= 1 or X.strides[1] == size))
    cdef Py_ssize_t rows = block_rows(n, d * size)
    cdef Py_ssize_t start = 0, m, i, c, unflushed = 0
    cdef double total = 0
    cdef const floating* W_ = &W[0, 0] if d > 0 else NULL
    cdef const floating* b_ = &b[0]
    cdef const floating* shift_ = &shift[0] if shift.shape[0] else NULL
    cdef const char* X_ = <const char*> &X[0, 0] if d > 0 else NULL
    cdef const floating* x
    cdef Py_ssize_t row = X.strides[0] // size if direct else d

    # One allocation, cut into: h (rows, k), y (rows, k), s (rows), G (d, k), the packed rows (rows, d).
    cdef Py_ssize_t length = rows * (2 * k + 1) + d * k + (0 if direct else rows * d)
    cdef floating* h = <floating*> malloc(length * size)
    if h == NULL:
        raise MemoryError(f"no memory for a block of {rows} rows")
    cdef floating* y = h + rows * k
    cdef floating* s = y + rows * k
    cdef floating* g = s + rows
    cdef floating* packed = g + d * k
    with nogil:
        memset(g, 0, d * k * size)
        for i in range(rows):
            s[i] = 1
        while start < n:
            m = min(rows, n - start)
            if direct:
                x = <const floating*> (X_ + start * X.strides[0])
            else:
                pack(X_ + start * X.strides[0], X.strides[0], X.strides[1], shift_, m, d, packed)
                x = packed
            for i in range(m):
                for c in range(k):
                    y[i * k + c] = Y[start + i, c]
            if sample_weight.shape[0]:
                for i in range(m):
                    s[i] = sample_weight[start + i]

            if k == 1:
                forward_one(x, row, W_, b_[0], m, d, h)
            else:
                forward_many(x, row, W_, b_, m, d, k, h)
            total += error_term(h, y, s, m, k, activation)
            if grad_W != NULL:
                if k == 1:
                    backward_one(x, row, h, m, d, g)
                else:
                    backward_many(x, row, h, m, d, k, g)
                for i in range(m):
                    for c in range(k):
                        grad_b[c] += h[i * k + c]
                unflushed += m
                if unflushed >= FLUSH_ROWS:
                    flush(g, grad_W, d * k)
                    unflushed = 0
            start += m
        if grad_W != NULL:
            flush(g, grad_W, d * k)
    free(h)
    return total


# ----------------------------------------------------------------------------------------------------------- kernels

def total_loss(const floating[:, :] X not None, const floating[:, :] Y not None, const floating[:, ::1] W not None,
               const floating[::1] b not None, const floating[::1] shift not None,
               const floating[:] sample_weight not None, int activation, int loss):
    """Σ over rows and outputs of s·l(f((X − shift)W + b), Y). See `reference.total_loss`."""
    check_shapes(X, Y, W, b, shift, sample_weight)
    return walk(X, Y, W, b, shift, sample_weight, activation, NULL, NULL)


def total_loss_and_gradient(const floating[:, :] X not None, const floating[:, :] Y not None,
                            const floating[:, ::1] W not None, const floating[::1] b not None,
                            const floating[::1] shift not None, const floating[:] sample_weight not None,
                            int activation, int loss, double[:, ::1] grad_W not None, double[::1] grad_b not None):
    """The same sum, with its gradient written to grad_W and grad_b. See `reference.total_loss_and_gradient`."""
    check_shapes(X, Y, W, b, shift, sample_weight)
    if grad_W.shape[0] != W.shape[0] or grad_W.shape[1] != W.shape[1] or grad_b.shape[0] != W.shape[1]:
        raise ValueError("grad_W and grad_b must have the shapes of W and b")
    grad_W[:, :] = 0
    grad_b[:] = 0
    if grad_b.shape[0] == 0:
        return 0.0
    # With no columns grad_W holds nothing; any pointer but NULL then asks for the gradient of b.
    return walk(X, Y, W, b, shift, sample_weight, activation,
                &grad_W[0, 0] if grad_W.shape[0] else &grad_b[0], &grad_b[0])


def predict(const floating[:, :] X not None, const floating[:, ::1] W not None, const floating[::1] b not None,
            int activation, floating[:, ::1] out not None):
    """out = f(XW + b). See `reference.predict`."""
    cdef Py_ssize_t n = X.shape[0], d = X.shape[1], k = W.shape[1], i, j, c
    cdef floating v
    if W.shape[0] != d or b.shape[0] != k or out.shape[0] != n or out.shape[1] != k:
        raise ValueError("the shapes of X, W, b and out do not fit")
    if n == 0 or k == 0:
        return
    with nogil:
        for i in range(n):
            for c in range(k):
                out[i, c] = b[c]
            for j in range(d):
                v = X[i, j]
                for c in range(k):
                    out[i, c] += v * W[j, c]
        activate_block(&out[0, 0], n * k, activation)


def update(floating[::1] w not None, const floating[::1] g not None, double lr):
    """w ← w − lr·g, in place. See `reference.update`."""
    cdef Py_ssize_t j, d = w.shape[0]
    cdef floating rate = <floating> lr
    if g.shape[0] != d:
        raise ValueError(f"g has {g.shape[0]} entries, w has {d}")
    with nogil:
        for j in range(d):
            w[j] -= rate * g[j]


def apply_activation(const floating[::1] h not None, int activation, floating[::1] out not None):
    """out = f(h). See `reference.apply_activation`."""
    cdef Py_ssize_t i, size = h.shape[0]
    if out.shape[0] != size:
        raise ValueError(f"out has {out.shape[0]} entries, h has {size}")
    if size == 0:
        return
    with nogil:
        for i in range(size):
            out[i] = h[i]
        activate_block(&out[0], size, activation)


def apply_derivative(const floating[::1] h not None, int activation, floating[::1] out not None):
    """out = f'(h). See `reference.apply_derivative`."""
    cdef Py_ssize_t i, size = h.shape[0]
    if out.shape[0] != size:
        raise ValueError(f"out has {out.shape[0]} entries, h has {size}")
    with nogil:
        for i in range(size):
            out[i] = activation_prime(h[i], activation)
