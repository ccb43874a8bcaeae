# The loops of a one-layer model  ŷ = f(XW + b), included by one .pyx file for each CPU level.
#
# Data come in as row blocks that fit a near cache, and each block goes through three stages while it is there, so that
# X is read from memory once for a value and a gradient together:
#
#     forward     h = XW + b
#     error term  the block's loss, and h becomes δ = ∂loss/∂h
#     backward    G += Xᵀδ
#
# Descent adds a fourth, `update`: w ← w − η·g.
#
# Why it is written like this:
# - One output goes through loops of our own, four rows at a time (`one_output.pxi`); with several outputs a block goes
#   through BLAS, where one is given.
# - The switch over activation and loss stands outside the loop over the points (`stages.pxi`): inside, the compiler
#   sees one straight formula to put into vector registers.
# - A block is copied into a buffer only where that is needed (rows that are not contiguous, or columns that are
#   shifted by their means). A copy of a block in cache is cheap; a copy of X is not made.
# - δ and G have the dtype of X inside a block and are added to float64 totals every FLUSH_ROWS rows, so that float32
#   keeps its speed and the totals keep their digits.
#
# `reference/one_layer.py` is the specification: the same names, parameters and side effects in plain NumPy.

from cpython.pycapsule cimport PyCapsule_GetName, PyCapsule_GetPointer
from cython cimport floating
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy, memset

include "lanes.pxi"
include "transcendental.pxi"
include "one_output.pxi"
include "losses.pxi"
include "stages.pxi"

cdef enum:
    BLOCK_BYTES = 16384         # of X in a block: with the block to come, two thirds of a first-level cache
    MAX_BLOCK_ROWS = 256
    GEMM_BLOCK_BYTES = 262144   # with several outputs: a second-level cache, because a product of matrices reuses it
    MAX_GEMM_ROWS = 512
    MANY_BLOCK_BYTES = 131072   # with several outputs in our own loops, which keep sums in registers over all its rows
    CACHED_BYTES = 1048576      # of an X that stays in a second-level cache from pass to pass
    AHEAD = 1                   # blocks from the one in use to the one that the memory is asked for
    WIDE_BYTES = 160            # of a row, from which on forward and backward go over two blocks in one loop
    WIDE_BLOCK_BYTES = 16384    # of such a block: two of them, and what the memory is asked for, in the nearest cache
    FOUR_ROWS_IN_LINE = 3072    # bytes of a row up to which 4 rows, 4 before and 4 after fit the nearest cache;
    FOUR_ROWS = 4352            # 4 and 4 before;
    TWO_ROWS = 8704             # 2 and 2 before. Beyond that all comes from the second one, and more rows need less
    FAR_BYTES = 16777216        # of an X that is read from memory, and from no cache
    TURNED_BLOCK_ROWS = 512     # rows of less than a register, of which the columns are gone along
    CACHE_LINE = 64             # bytes
    FLUSH_ROWS = 256            # rows whose gradient is summed in the dtype of X before it goes to float64
    SQUARES_ROWS = 1024         # the same of the squared loss in float64, whose rows are gone over in one loop
    SHORT_AHEAD = 2048          # bytes before short rows are used that a cache is asked for them in that loop,
    SHORT_FAR_AHEAD = 8192      # or the memory
    NEAR_BYTES = 32768          # of an X that stays in the nearest cache
    IN_LINE_BYTES = 2304        # of a row up to which that loop asks a cache for rows in their order


# ---------------------------------------------------------------------------------------------- what is walked over

cdef struct Rows:
    # The data of a pass, of any strides (in bytes), float32 or float64.
    Py_ssize_t n, d, k, size            # rows, columns, outputs, bytes of a number
    Py_ssize_t width                    # of W and the gradient inside: k, or as many as a register of outputs holds
    bint apart                          # whether they are (k, d) inside, see `registers.h`
    Py_ssize_t behind                   # rows that follow these and will be wanted next
    const char* X
    Py_ssize_t X_row, X_column
    const char* Y
    Py_ssize_t Y_row, Y_column
    const char* s                       # NULL: all weights are one
    Py_ssize_t s_row
    bint shifted
    Py_ssize_t block                    # rows in a block
    Py_ssize_t piece                    # points that go through the error term together
    Py_ssize_t ahead                    # rows from those in use to those that the memory is asked for
    bint X_direct, Y_direct, s_direct   # used where it is, without packing
    bint by_columns                     # columns are contiguous, and gone along
    bint turned                         # they are made so, block by block: rows are shorter than a register
    bint wide                           # forward, and backward of the block before, in one loop
    bint in_line                        # how that loop asks the memory (`registers.h`), and how many rows it takes
    int rows
    bint squares_in_line, far           # the same for the squared loss; whether X is read from memory
    int squares_rows
    Py_ssize_t squares_ahead


cdef struct Work:
    # One allocation, cut into pieces.
    void* memory
    double* totals      # (k,), of a block
    Scratch scratch
    void* h             # (block, k), and room for a register
    void* delta         # (block, k), of the block before
    void* y             # (block, k), where Y must be packed
    void* s             # (block,)
    void* g             # (d, width)
    void* w             # (d + 1, width): the weights and intercepts, where a copy is needed
    void* packed        # (block, d), where X must be packed
    void* before        # (block, d), of the block before
    void* turned        # (d, block), columns


cdef Rows rows_of(const floating[:, :] X, const floating[:, :] Y, const floating[:] s, Py_ssize_t shifts,
                  void* gemm, Py_ssize_t piece) noexcept:
    cdef Rows r
    r.size = sizeof(floating)
    r.n, r.d, r.k, r.behind = X.shape[0], X.shape[1], Y.shape[1], 0
    cdef bint empty = r.n == 0 or r.d == 0
    r.apart = gemm == NULL and is_apart(r.k, r.d, r.size)
    r.width = r.k if r.k == 1 or gemm != NULL or r.apart else max(r.k, lanes_of_outputs(r.k, r.size))
    r.X = NULL if empty else <const char*> &X[0, 0]
    r.X_row, r.X_column = X.strides[0], X.strides[1]
    r.Y = NULL if r.n == 0 or r.k == 0 else <const char*> &Y[0, 0]
    r.Y_row, r.Y_column = Y.strides[0], Y.strides[1]
    r.s = NULL if s.shape[0] == 0 else <const char*> &s[0]
    r.s_row = s.strides[0] if s.shape[0] else 0
    r.shifted = shifts > 0
    r.X_direct = not r.shifted and (r.d <= 1 or r.X_column == r.size) and r.X_row % r.size == 0
    r.by_columns = (r.k == 1 and not r.shifted and r.X_row == r.size
                    and (r.d == 1 or r.X_column % r.size == 0))
    r.X_direct = r.X_direct or r.by_columns
    r.turned = r.k == 1 and not r.by_columns and r.d < lanes_of(<const floating*> NULL)
    choose_way(&r)
    if gemm != NULL:  # BLAS walks forwards only
        r.X_direct = r.X_direct and r.X_row >= r.d * r.size and r.X_row // r.size < 2**31
    r.Y_direct = (r.k == 1 or r.Y_column == r.size) and r.Y_row == r.k * r.size
    r.s_direct = r.s != NULL and r.s_row == r.size
    cdef Py_ssize_t row_bytes = max(r.d * r.size, <Py_ssize_t> 1)
    if gemm != NULL:
        r.block = max(min(<Py_ssize_t> MAX_GEMM_ROWS, GEMM_BLOCK_BYTES // row_bytes), <Py_ssize_t> 32)
    elif r.k > 1:
        r.block = max(min(<Py_ssize_t> MAX_BLOCK_ROWS, MANY_BLOCK_BYTES // row_bytes), <Py_ssize_t> 16)
    elif r.by_columns:  # long pieces of columns; they are read twice, so all of them should stay in a cache
        r.block = max(min(<Py_ssize_t> MAX_BLOCK_ROWS, GEMM_BLOCK_BYTES // row_bytes), <Py_ssize_t> 64)
    elif r.turned:
        r.block = TURNED_BLOCK_ROWS
    elif r.wide:
        r.block = min(<Py_ssize_t> MAX_BLOCK_ROWS, WIDE_BLOCK_BYTES // row_bytes)
        r.block = max(r.block // r.rows, <Py_ssize_t> 1) * r.rows
    else:
        r.block = max((min(<Py_ssize_t> MAX_BLOCK_ROWS, BLOCK_BYTES // row_bytes) // 4) * 4, <Py_ssize_t> 4)
    # A table that stays in a second-level cache needs no asking.
    r.ahead = AHEAD * r.block if r.n * row_bytes > CACHED_BYTES else <Py_ssize_t> 1 << 40
    r.piece = piece
    if piece > PIECE:  # a Python function, whose calls cost something
        r.block = max(r.block, piece // r.k)
    r.block = min(r.block, max(r.n, <Py_ssize_t> 1))
    return r


cdef void choose_way(Rows* r) noexcept nogil:
    """Set how a model of one output goes over long rows. See benchmarks/widths.py for the times of each way."""
    cdef Py_ssize_t bytes = r.d * r.size
    cdef bint far = r.n * bytes > FAR_BYTES, contiguous = r.X_direct and r.X_row == bytes
    r.wide = r.k == 1 and not r.by_columns and bytes > WIDE_BYTES
    r.in_line = contiguous and (far or bytes <= FOUR_ROWS_IN_LINE)
    r.rows = 2 if not far and FOUR_ROWS < bytes <= TWO_ROWS else 4
    r.far = far
    r.squares_in_line = contiguous and (far or bytes <= IN_LINE_BYTES)
    r.squares_rows = 2 if (bytes <= FOUR_ROWS if far else FOUR_ROWS < bytes <= TWO_ROWS) else 4
    r.squares_ahead = SHORT_FAR_AHEAD if far else SHORT_AHEAD if r.n * bytes > NEAR_BYTES else 0


cdef Work* new_work(Rows* r) except NULL:
    cdef Work* w = <Work*> malloc(sizeof(Work))
    if w == NULL:
        raise MemoryError("no memory for a block of rows")
    cdef Py_ssize_t points = max(r.piece, r.k), block = r.block * r.size, values = block * r.d
    cdef Py_ssize_t total = part(SCRATCHES * points * sizeof(double)) + part(r.k * sizeof(double))
    cdef Py_ssize_t weights = (r.d + 1) * r.width * r.size, outputs = (block * r.k) + r.width * r.size
    total += part(block) + 3 * part(outputs) + 2 * part(weights) + CACHE_LINE
    if not r.X_direct:
        total += (1 + r.wide) * part(values)
    if r.turned:
        total += part(values)
    w.memory = malloc(total)
    if w.memory == NULL:
        free(w)
        raise MemoryError(f"no memory for a block of {r.block} rows")
    cdef char* rest = <char*> w.memory
    rest += (CACHE_LINE - <size_t> rest % CACHE_LINE) % CACHE_LINE
    w.scratch = scratch_at(<double*> cut(&rest, SCRATCHES * points * sizeof(double)), points)
    w.totals = <double*> cut(&rest, r.k * sizeof(double))
    w.h = cut(&rest, outputs)
    w.delta = cut(&rest, outputs)
    w.y = cut(&rest, outputs)
    w.s = cut(&rest, block)
    w.g = cut(&rest, weights)
    w.w = cut(&rest, weights)
    memset(w.h, 0, outputs)  # what stands behind the last row is read
    w.packed = NULL if r.X_direct else cut(&rest, values)
    w.before = cut(&rest, values) if r.wide and not r.X_direct else NULL
    w.turned = cut(&rest, values) if r.turned else NULL
    return w


cdef inline Py_ssize_t part(Py_ssize_t size) noexcept nogil:
    """Bytes that a piece of scratch takes up: whole cache lines, so that no register of it lies in two."""
    return (size + CACHE_LINE - 1) // CACHE_LINE * CACHE_LINE


cdef inline void* cut(char** rest, Py_ssize_t size) noexcept nogil:
    """The next piece of scratch."""
    cdef void* piece = rest[0]
    rest[0] += part(size)
    return piece


cdef void free_work(Work* w) noexcept nogil:
    free(w.memory)
    free(w)


cdef inline void pack(const char* source, Py_ssize_t row_stride, Py_ssize_t column_stride, const floating* shift,
                      Py_ssize_t m, Py_ssize_t d, floating* out) noexcept nogil:
    """Copy m rows of any strides into contiguous rows, less the shift of each column where there is one."""
    cdef Py_ssize_t i, j
    cdef floating value
    if row_stride < column_stride:  # columns lie together: read along them
        for j in range(d):
            for i in range(m):
                out[i * d + j] = (<const floating*> (source + i * row_stride + j * column_stride))[0]
    elif column_stride == 0:  # one column, repeated
        for i in range(m):
            value = (<const floating*> (source + i * row_stride))[0]
            for j in range(d):
                out[i * d + j] = value
    elif column_stride == sizeof(floating):
        for i in range(m):
            for j in range(d):
                out[i * d + j] = (<const floating*> (source + i * row_stride))[j]
    else:
        for i in range(m):
            for j in range(d):
                out[i * d + j] = (<const floating*> (source + i * row_stride + j * column_stride))[0]
    if shift != NULL:
        for i in range(m):
            for j in range(d):
                out[i * d + j] -= shift[j]


cdef inline void flush(floating* part, double* total, Py_ssize_t d, Py_ssize_t k, Py_ssize_t width,
                       bint apart) noexcept nogil:
    """total (d, k) += part, which is (d, width) or, `apart`, (k, d); part = 0."""
    cdef Py_ssize_t i, c, column = 1 if apart else width, output = d if apart else 1
    if k == width and not apart:
        for i in range(d * k):
            total[i] += part[i]
    else:
        for i in range(d):
            for c in range(k):
                total[i * k + c] += part[i * column + c * output]
    memset(part, 0, d * width * sizeof(floating))


cdef inline void copy_weights(const floating* W, const floating* b, Py_ssize_t d, Py_ssize_t k, Py_ssize_t width,
                              bint apart, floating* out) noexcept nogil:
    """out = W (d, width), filled up with zeros, or, `apart`, (k, d); and b behind it."""
    cdef Py_ssize_t i, c
    if apart:
        for c in range(k):
            for i in range(d):
                out[c * d + i] = W[i * k + c]
        memcpy(out + d * k, b, k * sizeof(floating))
        return
    if k == width:
        memcpy(out, W, d * k * sizeof(floating))
        memcpy(out + d * k, b, k * sizeof(floating))
        return
    memset(out, 0, (d + 1) * width * sizeof(floating))
    for i in range(d + 1):
        for c in range(k):
            out[i * width + c] = W[i * k + c] if i < d else b[c]


# -------------------------------------------------------------------------------------------------------------- pass

cdef void walk(Rows* r, const floating* W, const floating* b, const floating* shift, Formula* l,
               void* gemm, Work* work, double* totals, double* grad_W, double* grad_b) noexcept nogil:
    """One pass over the blocks: totals (k,) and, where grad_W is not NULL, the gradients; all are overwritten."""
    cdef Py_ssize_t d = r.d, k = r.k, start = 0, m, c, row, unflushed = 0, column = r.X_column // r.size
    cdef floating* h = <floating*> work.h
    cdef floating* delta = <floating*> work.delta
    cdef floating* g = <floating*> work.g
    cdef const floating* x
    cdef const floating* y
    cdef const floating* s
    # The block before, where rows are wide: its backward is done with the forward of the next.
    cdef const floating* z = NULL
    cdef Py_ssize_t z_row = 0, z_m = 0, done
    cdef const char* ahead
    cdef double slopes
    cdef Py_ssize_t width = r.width, block = r.block
    cdef bint at_once = k == 1 and l.squares and not r.by_columns and d >= least_at_once(h)
    cdef bint wide = r.wide and grad_W != NULL and not at_once
    if at_once and r.X_direct and r.Y_direct and (r.s == NULL or r.s_direct):  # nothing is copied block by block
        block = SQUARES_ROWS if floating is double else FLUSH_ROWS
    memset(totals, 0, k * sizeof(double))
    if grad_W != NULL:
        memset(g, 0, d * width * sizeof(floating))
        memset(grad_W, 0, d * k * sizeof(double))
        memset(grad_b, 0, k * sizeof(double))
    if wide or width > k or r.apart or (at_once and r.wide):  # in lines of the cache, and filled up to a register
        copy_weights(W, b, d, k, width, r.apart, <floating*> work.w)
        W = <const floating*> work.w
        b = W + d * width
    while start < r.n:
        m = min(block, r.n - start)
        if r.X_direct:
            x, row = <const floating*> (r.X + start * r.X_row), r.X_row // <Py_ssize_t> sizeof(floating)
        else:
            if wide:  # the rows of the block before are still needed
                work.packed, work.before = work.before, work.packed
            pack(r.X + start * r.X_row, r.X_row, r.X_column, shift if r.shifted else NULL, m, d,
                 <floating*> work.packed)
            x, row = <const floating*> work.packed, d
        if r.turned and not at_once:
            turn_rows(x, row, m, d, <floating*> work.turned, r.block)
            x, column = <const floating*> work.turned, r.block
        y = <const floating*> (r.Y + start * r.Y_row)
        if not r.Y_direct:
            pack(<const char*> y, r.Y_row, r.Y_column, <const floating*> NULL, m, k, <floating*> work.y)
            y = <const floating*> work.y
        s = NULL if r.s == NULL else <const floating*> (r.s + start * r.s_row)
        if r.s != NULL and not r.s_direct:
            pack(<const char*> s, r.s_row, r.s_row, <const floating*> NULL, m, 1, <floating*> work.s)
            s = <const floating*> work.s

        # Where the memory may look ahead, while this block is gone over for the last time.
        ahead = r.X + (start + r.ahead) * r.X_row if start + r.ahead < r.n + r.behind else NULL

        memset(work.totals, 0, k * sizeof(double))
        if at_once:
            slopes = 0
            squares_one(x, row, W, b[0], y, s, m, d, g if grad_W != NULL else <floating*> NULL, work.totals, &slopes,
                        r.squares_ahead, r.squares_in_line, r.squares_rows, r.far)
            if grad_W != NULL:
                grad_b[0] += slopes
        else:
            if r.by_columns or r.turned:
                if r.turned and ahead != NULL and r.X_direct:  # half of the next block now, the rest before backward
                    prefetch_bytes(ahead, m * r.X_row // 2)
                forward_columns(x, column, W, b[0], m, d, h)
            elif z != NULL:
                done = forward_backward(x, row, z, z_row, W, b[0], <const floating*> delta, min(m, z_m), d, h, g,
                                        r.in_line, r.rows)
                if done < z_m:
                    backward_one(z + done * z_row, z_row, <const floating*> (delta + done), z_m - done, d, g,
                                 <const char*> NULL, 0)
            elif k == 1:
                forward_one(x, row, W, b[0], m, d, h, ahead, r.X_row, 2 if grad_W != NULL else 4)
            else:
                forward_many(x, row, W, width, b, m, d, k, h, gemm, r.apart)
            error_term(h, y, s, m, k, l, work.scratch, work.totals)
        for c in range(k):  # block by block, so that the error of a long sum stays that of its blocks
            totals[c] += work.totals[c]
        if grad_W != NULL:
            if at_once:
                pass
            elif r.by_columns or r.turned:
                if r.turned and ahead != NULL and r.X_direct:
                    prefetch_bytes(ahead + m * r.X_row // 2, m * r.X_row // 2)
                backward_columns(x, column, h, m, d, g)
            elif wide:
                z, z_row, z_m = x, row, m
            elif k == 1:
                backward_one(x, row, h, m, d, g, ahead, r.X_row)
            else:
                backward_many(x, row, h, m, d, k, g, width, gemm, r.apart)
            if not at_once:
                sum_rows(h, m, k, grad_b)
            if wide:
                h, delta = delta, h
            unflushed += m
            if unflushed >= FLUSH_ROWS:
                flush(g, grad_W, d, k, width, r.apart)
                unflushed = 0
        start += m
    if z != NULL:
        backward_one(z, z_row, <const floating*> delta, z_m, d, g, <const char*> NULL, 0)
    if grad_W != NULL:
        flush(g, grad_W, d, k, width, r.apart)


cdef inline Py_ssize_t least_at_once(const floating* like) noexcept nogil:
    """How many columns a row needs to go through all three stages at once: those of the narrowest register."""
    cdef Py_ssize_t lanes = lanes_of(like)
    return <Py_ssize_t> 1 << 62 if lanes == 1 else min(lanes, <Py_ssize_t> 4)


cdef inline void sum_rows(const floating* h, Py_ssize_t m, Py_ssize_t k, double* out) noexcept nogil:
    """out[c] += Σ of column c."""
    if k == 1:
        out[0] += total_of(h, m)
    else:
        add_by_output(h, <const floating*> NULL, m, k, 1, out)


cdef void* pointer_in(capsule) except? NULL:
    """The function in a PyCapsule; None gives NULL."""
    if capsule is None:
        return NULL
    return PyCapsule_GetPointer(capsule, PyCapsule_GetName(capsule))


cdef int check_rows(const floating[:, :] X, const floating[:, :] Y, const floating[:] sample_weight) except -1:
    if X.shape[0] == 0 or X.shape[1] == 0 or Y.shape[1] == 0:
        raise ValueError(f"X has shape ({X.shape[0]}, {X.shape[1]}) and Y {Y.shape[1]} columns: none may be 0")
    if Y.shape[0] != X.shape[0]:
        raise ValueError(f"Y has {Y.shape[0]} rows, X has {X.shape[0]}")
    if sample_weight.shape[0] != 0 and sample_weight.shape[0] != X.shape[0]:
        raise ValueError(f"sample_weight has {sample_weight.shape[0]} entries, X has {X.shape[0]} rows")
    return 0


cdef int check_shapes(const floating[:, :] X, const floating[:, :] Y, const floating[:, ::1] W, const floating[::1] b,
                      const floating[::1] shift, const floating[:] sample_weight, Py_ssize_t totals) except -1:
    """Bounds checks are off in the loops, so lengths are compared here, before the first of them."""
    check_rows(X, Y, sample_weight)
    if W.shape[0] != X.shape[1]:
        raise ValueError(f"W has {W.shape[0]} rows, X has {X.shape[1]} columns")
    if Y.shape[1] != W.shape[1] or b.shape[0] != W.shape[1] or totals != W.shape[1]:
        raise ValueError(f"Y has {Y.shape[1]} columns, W {W.shape[1]}, b has {b.shape[0]} entries and totals {totals}")
    if shift.shape[0] != 0 and shift.shape[0] != X.shape[1]:
        raise ValueError(f"shift has {shift.shape[0]} entries, X has {X.shape[1]} columns")
    return 0


# ----------------------------------------------------------------------------------------------------------- kernels

def total_loss(const floating[:, :] X not None, const floating[:, :] Y not None, const floating[:, ::1] W not None,
               const floating[::1] b not None, const floating[::1] shift not None,
               const floating[:] sample_weight not None, int activation, loss, gemm, double[::1] totals not None):
    """totals = Σ over rows of s·l(f((X − shift)W + b), Y). See `reference.one_layer.total_loss`."""
    check_shapes(X, Y, W, b, shift, sample_weight, totals.shape[0])
    cdef Formula model = formula_of(loss, activation)
    cdef void* blas = pointer_in(gemm) if W.shape[1] > 1 else NULL
    cdef Rows rows = rows_of(X, Y, sample_weight, shift.shape[0], blas, model.piece)
    cdef Work* work = new_work(&rows)
    cdef const floating* shift_ = &shift[0] if shift.shape[0] else NULL
    with nogil:
        walk(&rows, &W[0, 0], &b[0], shift_, &model, blas, work, &totals[0], NULL, NULL)
        free_work(work)
    finish_formula(&model)


def total_loss_and_gradient(const floating[:, :] X not None, const floating[:, :] Y not None,
                            const floating[:, ::1] W not None, const floating[::1] b not None,
                            const floating[::1] shift not None, const floating[:] sample_weight not None,
                            int activation, loss, gemm, double[::1] totals not None,
                            double[:, ::1] grad_W not None, double[::1] grad_b not None):
    """The same, with the gradients in grad_W and grad_b. See `reference.one_layer.total_loss_and_gradient`."""
    check_shapes(X, Y, W, b, shift, sample_weight, totals.shape[0])
    cdef Formula model = formula_of(loss, activation)
    if grad_W.shape[0] != W.shape[0] or grad_W.shape[1] != W.shape[1] or grad_b.shape[0] != W.shape[1]:
        raise ValueError("grad_W and grad_b must have the shapes of W and b")
    cdef void* blas = pointer_in(gemm) if W.shape[1] > 1 else NULL
    cdef Rows rows = rows_of(X, Y, sample_weight, shift.shape[0], blas, model.piece)
    cdef Work* work = new_work(&rows)
    cdef const floating* shift_ = &shift[0] if shift.shape[0] else NULL
    with nogil:
        walk(&rows, &W[0, 0], &b[0], shift_, &model, blas, work, &totals[0], &grad_W[0, 0], &grad_b[0])
        free_work(work)
    finish_formula(&model)


cdef int check_edges(const long long[::1] edges, Py_ssize_t n) except -1:
    cdef Py_ssize_t block
    if edges.shape[0] < 2 or edges[0] < 0 or edges[edges.shape[0] - 1] > n:
        raise ValueError(f"edges must be two numbers or more from 0 to {n}")
    for block in range(edges.shape[0] - 1):
        if edges[block] >= edges[block + 1]:
            raise ValueError("edges must rise")
    return 0


cdef void walk_blocks(Rows* rows, const floating* W, const floating* b, const floating* shift, Formula* l,
                      void* gemm, Work* work, const long long* edges, Py_ssize_t blocks, bint gradient,
                      double* sums) noexcept nogil:
    """A row of `sums` for each block: totals, grad_W and grad_b, or the totals alone."""
    cdef Rows part = rows[0]
    cdef Py_ssize_t k = rows.k, size = rows.d * rows.k, block
    for block in range(blocks):
        part.n, part.behind = edges[block + 1] - edges[block], rows.n - edges[block + 1]
        part.X = rows.X + edges[block] * rows.X_row
        part.Y = rows.Y + edges[block] * rows.Y_row
        if rows.s != NULL:
            part.s = rows.s + edges[block] * rows.s_row
        walk(&part, W, b, shift, l, gemm, work, sums, sums + k if gradient else NULL,
             sums + k + size if gradient else NULL)
        sums += 2 * k + size if gradient else k


cdef double finish(double* sums, Py_ssize_t blocks, Py_ssize_t width, const floating* w, Py_ssize_t size,
                   Py_ssize_t with_intercepts, Py_ssize_t k, double factor, double l2,
                   floating* gradient) noexcept nogil:
    """See `reference.one_layer.value_from_sums`; `size` is the number of weights without the intercepts."""
    cdef Py_ssize_t i, j
    cdef double value = 0, penalty = 0
    while blocks > 1:
        for i in range(blocks // 2):
            for j in range(width):
                sums[i * width + j] = sums[2 * i * width + j] + sums[(2 * i + 1) * width + j]
        if blocks % 2:
            memcpy(sums + (blocks // 2) * width, sums + (blocks - 1) * width, width * sizeof(double))
        blocks = (blocks + 1) // 2
    for i in range(k):
        value += sums[i]
    value *= factor
    if l2 != 0:
        for i in range(size):
            penalty += <double> w[i] * <double> w[i]
        value += 0.5 * l2 * penalty
    if gradient != NULL:
        for i in range(size):
            gradient[i] = <floating> (factor * sums[k + i] + l2 * w[i])
        for i in range(size, with_intercepts):
            gradient[i] = <floating> (factor * sums[k + i])
    return value


def block_sums(const floating[:, :] X not None, const floating[:, :] Y not None, const floating[:, ::1] W not None,
               const floating[::1] b not None, const floating[::1] shift not None,
               const floating[:] sample_weight not None, int activation, loss, gemm,
               const long long[::1] edges not None, double[:, ::1] sums not None):
    """Totals and gradients of blocks of rows, a row of `sums` for each. See `reference.one_layer.block_sums`."""
    cdef Py_ssize_t k = W.shape[1], width = 2 * k + W.shape[0] * k
    check_shapes(X, Y, W, b, shift, sample_weight, k)
    check_edges(edges, X.shape[0])
    cdef Formula model = formula_of(loss, activation)
    if sums.shape[0] != edges.shape[0] - 1 or (sums.shape[1] != width and sums.shape[1] != k):
        raise ValueError(f"{edges.shape[0]} edges need {edges.shape[0] - 1} rows of {k} or {width} sums")
    cdef void* blas = pointer_in(gemm) if k > 1 else NULL
    cdef Rows rows = rows_of(X, Y, sample_weight, shift.shape[0], blas, model.piece)
    cdef Work* work = new_work(&rows)
    cdef const floating* shift_ = &shift[0] if shift.shape[0] else NULL
    with nogil:
        walk_blocks(&rows, &W[0, 0], &b[0], shift_, &model, blas, work, &edges[0], sums.shape[0],
                    sums.shape[1] == width, &sums[0, 0])
        free_work(work)
    finish_formula(&model)


def value_from_sums(double[:, ::1] sums not None, const floating[:, ::1] w not None, bint fit_intercept, double factor,
                    double l2, floating[:, ::1] gradient not None):
    """The value and the gradient that the sums of blocks add up to. See `reference.one_layer.value_from_sums`."""
    cdef Py_ssize_t k = w.shape[1], size = (w.shape[0] - fit_intercept) * k, width = sums.shape[1]
    cdef bint wanted = gradient.shape[0] != 0
    if wanted and (gradient.shape[0] != w.shape[0] or gradient.shape[1] != k):
        raise ValueError("gradient must have the shape of w, or no rows")
    if sums.shape[0] == 0 or size <= 0 or width != (2 * k + size if wanted else k):
        raise ValueError(f"w of shape ({w.shape[0]}, {k}) needs rows of {2 * k + size} sums, or {k}; got {width}")
    return finish(&sums[0, 0], sums.shape[0], width, &w[0, 0], size, w.shape[0] * k, k, factor, l2,
                  &gradient[0, 0] if wanted else <floating*> NULL)


def value_and_gradient(const floating[:, :] X not None, const floating[:, :] Y not None, const floating[::1] w not None,
                       const floating[:] sample_weight not None, int activation, loss, gemm, double factor, double l2,
                       const long long[::1] edges not None, floating[::1] gradient not None):
    """Value of an objective, and its gradient in `gradient`. See `reference.one_layer.value_and_gradient`."""
    cdef Py_ssize_t d = X.shape[1], k = Y.shape[1], size = d * k, blocks = edges.shape[0] - 1
    cdef bint intercept = w.shape[0] != size, wanted = gradient.shape[0] != 0
    cdef Py_ssize_t width = 2 * k + size if wanted else k
    check_rows(X, Y, sample_weight)
    if (intercept and w.shape[0] != size + k) or (wanted and gradient.shape[0] != w.shape[0]):
        raise ValueError(f"w has {w.shape[0]} entries and gradient {gradient.shape[0]}: {size} or, with intercepts, "
                         f"{size + k} are those of {d} columns and {k} outputs")
    check_edges(edges, X.shape[0])
    cdef Formula model = formula_of(loss, activation)
    cdef void* blas = pointer_in(gemm) if k > 1 else NULL
    cdef Rows rows = rows_of(X, Y, sample_weight, 0, blas, model.piece)
    cdef Work* work = new_work(&rows)
    cdef double* sums = <double*> malloc(blocks * width * sizeof(double) + k * sizeof(floating))
    if sums == NULL:
        free_work(work)
        raise MemoryError("no memory for gradients of blocks")
    cdef floating* none = <floating*> (sums + blocks * width)
    cdef const floating* w_ = &w[0]
    cdef double value
    with nogil:
        memset(none, 0, k * sizeof(floating))
        walk_blocks(&rows, w_, w_ + size if intercept else none, <const floating*> NULL, &model, blas, work, &edges[0],
                    blocks, wanted, sums)
        value = finish(sums, blocks, width, w_, size, w.shape[0], k, factor, l2,
                       &gradient[0] if wanted else <floating*> NULL)
        free(sums)
        free_work(work)
    finish_formula(&model)
    return value


def predict(const floating[:, :] X not None, const floating[:, ::1] W not None, const floating[::1] b not None,
            int activation, gemm, floating[:, ::1] out not None):
    """out = f(XW + b). See `reference.one_layer.predict`."""
    cdef Py_ssize_t start = 0, m, row
    if W.shape[0] != X.shape[1] or b.shape[0] != W.shape[1] or out.shape[0] != X.shape[0] or out.shape[1] != b.shape[0]:
        raise ValueError("the shapes of X, W, b and out do not fit")
    if X.shape[1] == 0 or W.shape[1] == 0:
        raise ValueError("X and W must have columns")
    if X.shape[0] == 0:
        return
    cdef void* blas = pointer_in(gemm) if W.shape[1] > 1 else NULL
    cdef const floating[:, :] targets = out  # only its shape is used
    cdef const floating[:] no_weights = X[:0, 0]
    cdef Rows r = rows_of(X, targets, no_weights, 0, blas, PIECE)
    cdef Work* work = new_work(&r)
    cdef const floating* x
    cdef const floating* W_ = &W[0, 0]
    cdef const floating* b_ = &b[0]
    cdef floating* h
    with nogil:
        if r.width > r.k or r.apart:
            copy_weights(W_, b_, r.d, r.k, r.width, r.apart, <floating*> work.w)
            W_ = <const floating*> work.w
            b_ = W_ + r.d * r.width
        while start < r.n:
            m = min(r.block, r.n - start)
            x, row = <const floating*> (r.X + start * r.X_row), r.X_row // <Py_ssize_t> sizeof(floating)
            if not r.X_direct:
                pack(r.X + start * r.X_row, r.X_row, r.X_column, <const floating*> NULL, m, r.d,
                     <floating*> work.packed)
                x, row = <const floating*> work.packed, r.d
            if r.by_columns:
                forward_columns(x, r.X_column // r.size, &W[0, 0], b[0], m, r.d, &out[start, 0])
            elif r.turned:
                turn_rows(x, row, m, r.d, <floating*> work.turned, r.block)
                forward_columns(<const floating*> work.turned, r.block, &W[0, 0], b[0], m, r.d, &out[start, 0])
            elif r.k == 1:
                forward_one(x, row, &W[0, 0], b[0], m, r.d, &out[start, 0], <const char*> NULL, 0, 0)
            else:
                # Through scratch: there is no room for a whole register behind the last row of `out`.
                h = &out[start, 0] if blas != NULL else <floating*> work.h
                forward_many(x, row, W_, r.width, b_, m, r.d, r.k, h, blas, r.apart)
                if blas == NULL:
                    memcpy(&out[start, 0], h, m * r.k * sizeof(floating))
            activate_rows(&out[start, 0], m, r.k, activation, work.scratch)
            start += m
        free_work(work)


cdef inline void activate_rows(floating* h, Py_ssize_t m, Py_ssize_t k, int activation, Scratch q) noexcept nogil:
    """h = f(h) for m rows of k points, a few rows at a time."""
    cdef Py_ssize_t start = 0, rows, i
    cdef Py_ssize_t step = PIECE // k if k < PIECE else 1
    if activation == IDENTITY:
        return
    while start < m:
        rows = min(step, m - start)
        for i in range(rows * k):
            q.points[i] = h[start * k + i]
        if activation == SOFTMAX:
            softmax_rows(q.points, rows, k, q.value)
        else:
            activation_points(q.points, rows * k, activation, q.exponential, q.value, q.slope)
        for i in range(rows * k):
            h[start * k + i] = <floating> q.value[i]
        start += rows


def update(floating[::1] w not None, const floating[::1] g not None, double lr):
    """w ← w − lr·g, in place. See `reference.one_layer.update`."""
    if g.shape[0] != w.shape[0]:
        raise ValueError(f"g has {g.shape[0]} entries, w has {w.shape[0]}")
    if w.shape[0]:
        with nogil:
            add_multiple(&w[0], <floating> -lr, &g[0], w.shape[0])


def apply_activation(const floating[::1] h not None, int activation, floating[::1] out not None):
    """out = f(h). See `reference.one_layer.apply_activation`."""
    apply_points(h, activation, out, 0)


def apply_derivative(const floating[::1] h not None, int activation, floating[::1] out not None):
    """out = f'(h). See `reference.one_layer.apply_derivative`."""
    apply_points(h, activation, out, 1)


cdef int apply_points(const floating[::1] h, int activation, floating[::1] out, bint derivative) except -1:
    cdef Py_ssize_t size = h.shape[0], start = 0, m, i
    cdef double[SCRATCHES * PIECE] memory
    cdef Scratch q = scratch_at(memory, PIECE)
    cdef double* result = q.slope if derivative else q.value
    if out.shape[0] != size:
        raise ValueError(f"out has {out.shape[0]} entries, h has {size}")
    if activation == SOFTMAX:
        raise ValueError("softmax is not a function of one point")
    with nogil:
        while start < size:
            m = min(<Py_ssize_t> PIECE, size - start)
            for i in range(m):
                q.points[i] = h[start + i]
            activation_points(q.points, m, activation, q.exponential, q.value, q.slope)
            for i in range(m):
                out[start + i] = <floating> result[i]
            start += m
    return 0
include "updates.pxi"
include "small_table.pxi"
include "single_rows.pxi"
include "loops.pxi"
include "sparse.pxi"
include "single_sparse_rows.pxi"
include "perturbed.pxi"
include "functions.pxi"
include "coordinates.pxi"
include "softmax_coordinates.pxi"
