"""Central differences of one point, apart from what calls the function: steps, slopes and which of them to doubt.

`reference.differences.central_slopes` is the specification. All is `cdef inline`, so that the kernels of differences
and those of descent share it, each compiled at its own instruction level.
"""

from libc.math cimport fabs, isfinite

cdef extern from *:
    """
    #ifndef FASTGD_CENTRAL
    #define FASTGD_CENTRAL
    /* The constants of codes.py. */
    #define FASTGD_EPSILON 2.220446049250313e-16
    #define FASTGD_RELATIVE_STEP 6.055454452393343e-06
    #define FASTGD_DOUBT 1e-6
    #define FASTGD_STEEP 10.0
    #define FASTGD_SMALL 2e-5
    /* A product that is rounded before it is added to: without this a compiler with fused operations would put points
       half a rounding elsewhere than one without, and runs on two builds would part. */
    static inline double fastgd_rounded(double x) { volatile double kept = x; return kept; }
    #endif
    """
    double EPSILON "FASTGD_EPSILON"
    double RELATIVE_STEP "FASTGD_RELATIVE_STEP"
    double DOUBT "FASTGD_DOUBT"
    double STEEP "FASTGD_STEEP"
    double SMALL "FASTGD_SMALL"
    double rounded "fastgd_rounded"(double) noexcept nogil


cdef inline double step_at(const double* steps, Py_ssize_t i, double x) noexcept nogil:
    """The step of a coordinate; the library's own where `steps` is NULL."""
    return steps[i] if steps != NULL else rounded(RELATIVE_STEP * max(1.0, fabs(x)))


cdef inline Py_ssize_t useless_step(const double* x, const double* steps, Py_ssize_t d) noexcept nogil:
    """The first coordinate whose two points are no difference apart, or −1."""
    cdef Py_ssize_t i
    cdef double h, distance
    for i in range(d):
        h = step_at(steps, i, x[i])
        distance = (x[i] + h) - (x[i] - h)
        if distance == 0 or not isfinite(distance):
            return i
    return -1


cdef inline bint all_finite(const double* x, Py_ssize_t d) noexcept nogil:
    cdef double total = 0
    cdef Py_ssize_t i
    for i in range(d):
        total += 0 * x[i]
    return total == 0  # NaN otherwise


cdef inline bint in_single(const double* values, Py_ssize_t d) noexcept nogil:
    """Whether f seems to return float32: all values are such numbers, and some pair differs."""
    cdef Py_ssize_t i
    cdef bint differ = False
    for i in range(2 * d):
        if <double> (<float> values[i]) != values[i]:
            return False
    for i in range(d):
        differ = differ or values[2 * i] != values[2 * i + 1]
    return differ


cdef inline Py_ssize_t slopes_and_doubts(const double* x, const double* steps, const double* values, Py_ssize_t d,
                                         double* mean, double* slopes) noexcept nogil:
    """Write the slopes and count the doubtful; `mean` is scratch for d numbers."""
    cdef Py_ssize_t i, count = 0
    cdef double h, half, scale, size, bend, middle
    for i in range(d):
        h = step_at(steps, i, x[i])
        slopes[i] = (values[2 * i] - values[2 * i + 1]) / ((x[i] + h) - (x[i] - h))
        mean[i] = values[2 * i] / 2 + values[2 * i + 1] / 2
        if not isfinite(slopes[i]):
            count += 1
    if count:  # a median among numbers that are none would mean nothing
        return count
    if in_single(values, d):
        return d
    middle = lower_median(mean, d)
    for i in range(d):
        h = step_at(steps, i, x[i])
        half = ((x[i] + h) - (x[i] - h)) / 2
        scale = max(1.0, fabs(slopes[i]))
        size = max(fabs(values[2 * i]), fabs(values[2 * i + 1]))
        bend = 2 * ((values[2 * i] / 2 + values[2 * i + 1] / 2) - middle) / half
        if (
            EPSILON * size / half > DOUBT * scale
            or bend * bend > 6 * DOUBT * max(STEEP, scale) * max(STEEP, scale)
            or fabs(slopes[i]) * min(h, fabs(x[i])) * min(h, fabs(x[i])) > SMALL * scale * x[i] * x[i]
        ):
            count += 1
    return count


cdef inline bint still_doubtful(const double* x, const double* steps, const double* values, Py_ssize_t d,
                                const double* slopes, double here) noexcept nogil:
    """Whether a slope is doubtful even with f(x) in place of the median. See `refine.central_errors`."""
    cdef Py_ssize_t i
    cdef double h, half, size, bend, limit, rounding, truncation
    if in_single(values, d):
        return True
    for i in range(d):
        h = step_at(steps, i, x[i])
        half = ((x[i] + h) - (x[i] - h)) / 2
        size = fabs(slopes[i])
        limit = DOUBT * max(1.0, size)
        rounding = EPSILON * max(fabs(values[2 * i]), fabs(values[2 * i + 1])) / half
        bend = ((values[2 * i] - here) + (values[2 * i + 1] - here)) / half / max(STEEP, size)
        truncation = bend * bend / 6 * max(1.0, size)
        if not (isfinite(slopes[i]) and rounding <= limit and truncation <= limit):
            return True
    return False


cdef inline double lower_median(double* v, Py_ssize_t n) noexcept nogil:
    """The ⌊(n−1)/2⌋-th smallest of v, which is left in another order (Hoare's selection)."""
    cdef Py_ssize_t wanted = (n - 1) // 2, low = 0, high = n - 1, i, j
    cdef double pivot, kept
    while low < high:
        pivot, i, j = v[wanted], low, high
        while i <= j:
            while v[i] < pivot:
                i += 1
            while pivot < v[j]:
                j -= 1
            if i <= j:
                kept = v[i]
                v[i] = v[j]
                v[j] = kept
                i += 1
                j -= 1
        if j < wanted:
            low = i
        if wanted < i:
            high = j
    return v[wanted]
