# A small table that a run goes over again and again: the squared loss with identity activation of a few columns.
#
# A step on a table of a hundred rows takes tens of nanoseconds, in which nothing else may be done. So the table is
# copied once: turned, so that columns are contiguous and no sum across a register is needed but at the end of a pass;
# and filled up with rows of weight 0 to whole registers, so that there is no loop for what they leave.

cdef enum:
    SMALL_COLUMNS = 8           # their weights and gradients are held in registers
    SMALL_VALUES = 8192


cdef struct SmallTable:
    double* memory
    Py_ssize_t n, d             # rows with those that were added, columns
    double* X                   # (d, n)
    double* y                   # (n,)
    double* s                   # (n,)
    bint weighted               # or else the rows that were added are zeros, which weigh nothing without an intercept


cdef bint is_small(Rows* r, Formula* l) noexcept nogil:
    return (r.k == 1 and r.size == sizeof(double) and l.squares and not r.shifted
            and r.d <= SMALL_COLUMNS and r.n * r.d <= SMALL_VALUES)


cdef int small_table(Rows* r, bint intercept, SmallTable* t) except -1:
    """The table as it is gone over; `free(t.memory)` gives its memory back."""
    cdef Py_ssize_t lanes = sizeof(doubles) // sizeof(double), i
    t.n, t.d, t.weighted = (r.n + lanes - 1) // lanes * lanes, r.d, intercept or r.s != NULL
    t.memory = <double*> malloc(t.n * (t.d + 2) * sizeof(double))
    if t.memory == NULL:
        raise MemoryError("no memory for a small table")
    memset(t.memory, 0, t.n * (t.d + 2) * sizeof(double))
    t.X, t.y, t.s = t.memory, t.memory + t.n * t.d, t.memory + t.n * (t.d + 1)
    for i in range(t.d):
        pack(r.X + i * r.X_column, r.X_row, r.X_row, <const double*> NULL, r.n, 1, t.X + i * t.n)
    pack(r.Y, r.Y_row, r.Y_row, <const double*> NULL, r.n, 1, t.y)
    if r.s != NULL:
        pack(r.s, r.s_row, r.s_row, <const double*> NULL, r.n, 1, t.s)
    else:
        for i in range(r.n):
            t.s[i] = 1
    return 0


cdef double small_pass(const SmallTable* t, const double* w, double b, double* gradient) noexcept nogil:
    """Σ ½·s·(Xw + b − y)²; gradient (d + 1,) by w and, where `t.weighted`, by b."""
    # Each call has numbers that the compiler knows, so that the loops over columns vanish.
    if t.weighted:
        if t.d == 1:
            return small_pass_of(t, w, b, gradient, 1, True)
        elif t.d == 2:
            return small_pass_of(t, w, b, gradient, 2, True)
        elif t.d == 3:
            return small_pass_of(t, w, b, gradient, 3, True)
        elif t.d == 4:
            return small_pass_of(t, w, b, gradient, 4, True)
        elif t.d == 5:
            return small_pass_of(t, w, b, gradient, 5, True)
        elif t.d == 6:
            return small_pass_of(t, w, b, gradient, 6, True)
        elif t.d == 7:
            return small_pass_of(t, w, b, gradient, 7, True)
        return small_pass_of(t, w, b, gradient, 8, True)
    if t.d == 1:
        return small_pass_of(t, w, b, gradient, 1, False)
    elif t.d == 2:
        return small_pass_of(t, w, b, gradient, 2, False)
    elif t.d == 3:
        return small_pass_of(t, w, b, gradient, 3, False)
    elif t.d == 4:
        return small_pass_of(t, w, b, gradient, 4, False)
    elif t.d == 5:
        return small_pass_of(t, w, b, gradient, 5, False)
    elif t.d == 6:
        return small_pass_of(t, w, b, gradient, 6, False)
    elif t.d == 7:
        return small_pass_of(t, w, b, gradient, 7, False)
    return small_pass_of(t, w, b, gradient, 8, False)


cdef inline double small_pass_of(const SmallTable* t, const double* w, double b, double* gradient, Py_ssize_t d,
                                 bint weighted) noexcept nogil:
    cdef Py_ssize_t lanes = sizeof(doubles) // sizeof(double), n = t.n, i = 0, j
    cdef const double* x = t.X
    cdef const double* y = t.y
    cdef const double* s = t.s
    cdef doubles zeros = fill_doubles(0), b_ = fill_doubles(b), r, delta
    cdef doubles[SMALL_COLUMNS] w_
    cdef doubles[SMALL_COLUMNS + 4] parts       # of the gradient by w and b, and of the squares
    cdef double[SMALL_COLUMNS + 4] sums
    for j in range(d):
        w_[j] = fill_doubles(w[j])
    for j in range(SMALL_COLUMNS + 4):
        parts[j] = zeros
    while i < n:
        r = b_ - (<const doubles*> (y + i))[0]
        for j in range(d):
            r += (<const doubles*> (x + j * n + i))[0] * w_[j]
        delta = r
        if weighted:
            delta = r * (<const doubles*> (s + i))[0]
            parts[d] += delta
        parts[d + 1] += r * delta
        for j in range(d):
            parts[j] += (<const doubles*> (x + j * n + i))[0] * delta
        i += lanes
    j = 0
    while j < d + 2:
        if lanes > 1:
            (<four_doubles*> (sums + j))[0] = sums_doubles(parts[j], parts[j + 1], parts[j + 2], parts[j + 3])
            j += 4
        else:
            sums[j] = sum_doubles(parts[j])
            j += 1
    for j in range(d + weighted):
        gradient[j] = sums[j]
    return 0.5 * sums[d + 1]
