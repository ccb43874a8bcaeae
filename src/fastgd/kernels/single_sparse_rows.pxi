# Stochastic descent on one CSR row at a time, for one output: `single_rows.pxi` of sparse rows.
#
# What a step waits for is memory: a row that comes in random order, and the weights of its columns, which are read for
# the product and again for the move. So each row is looked at once, while it is at hand: whether its columns are
# columns, which a pass over all indices would tell at the cost of reading them; and while its weights move, a line at a
# time, a row that comes later is asked for.

# Entries between the row at work and the one that is asked for, and rows at most.
cdef enum:
    ENTRIES_AHEAD = 200
    ROWS_AHEAD = 16


cdef int single_sparse_rows(const floating[::1] data, const index_type[::1] indices, const index_type[::1] indptr,
                            const floating[:, :] Y, floating[:, ::1] w, Py_ssize_t d,
                            const floating[:] sample_weight, Formula* l, double factor, double l2,
                            const long long[::1] order, const double[::1] rates) except -1:
    """`sparse_stochastic` for a batch of one row and one output. Rows out of bounds leave w as it was."""
    cdef Py_ssize_t n = Y.shape[0], entries = min(data.shape[0], indices.shape[0]), length = w.shape[0]
    cdef Py_ssize_t step = 0, steps = rates.shape[0], ahead, first, last, later, r, j
    cdef bint inside = True, intercept = length > d
    cdef const floating* x = &data[0] if entries else NULL
    cdef const index_type* columns = &indices[0] if entries else NULL
    cdef floating* w_ = &w[0, 0]
    # The weights are shrinkage·w_: l2 multiplies one number instead of d.
    cdef double shrinkage = 1, h, move, c = w_[d] if intercept else 0
    cdef floating* before = <floating*> malloc(length * sizeof(floating))
    if before == NULL:
        raise MemoryError("no memory for a copy of the weights")
    with nogil:
        memcpy(before, w_, length * sizeof(floating))
        ahead = max(<Py_ssize_t> 2, min(<Py_ssize_t> ROWS_AHEAD, ENTRIES_AHEAD * n // (entries + 1)))
        while step < steps:
            r = order[step]
            first, last = indptr[r], indptr[r + 1]
            inside = 0 <= first <= last <= entries and columns_inside(columns + first, last - first, d)
            if not inside:
                break
            h = sparse_dot(x + first, columns + first, last - first, <const floating*> w_)
            move = -rates[step] * factor * point_slope(shrinkage * h + c, Y[r, 0], l)
            if sample_weight.shape[0]:
                move *= sample_weight[r]
            shrinkage *= 1 - rates[step] * l2
            if fabs(shrinkage) < 1e-6 or fabs(shrinkage) > 1e6:  # before digits are lost, or all of them at 0
                for j in range(d):
                    w_[j] = <floating> (w_[j] * shrinkage)
                shrinkage = 1
            if intercept:
                c += move
            later = first
            if step + 2 * ahead < steps:
                prefetch(&indptr[order[step + 2 * ahead]])
                prefetch(&Y[order[step + ahead], 0])
                later = indptr[order[step + ahead]]
            add_sparse(w_, <floating> (move / shrinkage), x, columns, first, last, later)
            step += 1
        if inside:
            if shrinkage != 1:
                for j in range(d):
                    w_[j] = <floating> (w_[j] * shrinkage)
            if intercept:
                w_[d] = <floating> c
        else:
            memcpy(w_, before, length * sizeof(floating))
        free(before)
    if not inside:
        raise ValueError(f"indices must be columns, 0 to {d - 1}, and indptr must not decrease or pass their end")
    return 0


cdef inline void add_sparse(floating* w, floating move, const floating* data, const index_type* indices,
                            Py_ssize_t first, Py_ssize_t last, Py_ssize_t later) noexcept nogil:
    """w += move·x for a sparse row x, whose entries may stand twice. As many entries are asked for from `later` on."""
    cdef Py_ssize_t p = first, q
    later -= first
    while p + 8 <= last:
        prefetch(data + p + later)
        prefetch(indices + p + later)
        for q in range(p, p + 8):
            w[indices[q]] += move * data[q]
        p += 8
    prefetch(data + p + later)
    prefetch(indices + p + later)
    while p < last:
        w[indices[p]] += move * data[p]
        p += 1
