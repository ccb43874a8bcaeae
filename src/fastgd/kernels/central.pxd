"""Central differences of one point, apart from what calls the function: steps, slopes and which of them to doubt.

`reference.differences.central_slopes` is the specification. All is `cdef inline`, so that the kernels of differences
and those of descent share it, each compiled at its own instruction level.
"""

from libc.math cimport fabs, floor, isfinite, sqrt
from libc.stdint cimport uint64_t
from libc.string cimport memcpy

cdef extern from *:
    """
    #ifndef FASTGD_CENTRAL
    #define FASTGD_CENTRAL
    #include <stddef.h>
    #include <stdint.h>
    #include <string.h>
    /* The constants of codes.py. */
    #define FASTGD_EPSILON 2.220446049250313e-16
    #define FASTGD_RELATIVE_STEP 6.055454452393343e-06
    #define FASTGD_DOUBT 1e-6
    #define FASTGD_PROBE 16.0
    #define FASTGD_BESIDE 1.1368683772161603e-13
    #define FASTGD_ROUNDING 1.5
    #define FASTGD_JITTER 4.0
    #define FASTGD_MISFIT_OF_NOISE 2.0
    /* A product that is rounded before it is added to: without this a compiler with fused operations would put points
       half a rounding elsewhere than one without, and runs on two builds would part. */
    static inline double fastgd_rounded(double x) { volatile double kept = x; return kept; }
    /* Where all bits of an exponent are 1, adding one to it gives the bit of the sign: compilers put this into
       registers, at any level, which they do not with sums of floating-point numbers. */
    static inline int fastgd_all_finite(const double *x, ptrdiff_t d) {
        uint64_t bits, found = 0;
        ptrdiff_t i;
        for (i = 0; i < d; i++) {
            memcpy(&bits, x + i, sizeof(bits));
            found |= (bits & 0x7ff0000000000000u) + 0x0010000000000000u;
        }
        return !(found >> 63);
    }
    #endif
    """
    double EPSILON "FASTGD_EPSILON"
    double RELATIVE_STEP "FASTGD_RELATIVE_STEP"
    double DOUBT "FASTGD_DOUBT"
    double PROBE "FASTGD_PROBE"
    double BESIDE "FASTGD_BESIDE"
    double ROUNDING "FASTGD_ROUNDING"
    double JITTER "FASTGD_JITTER"
    double MISFIT_OF_NOISE "FASTGD_MISFIT_OF_NOISE"
    double rounded "fastgd_rounded"(double) noexcept nogil
    bint all_finite "fastgd_all_finite"(const double* x, Py_ssize_t d) noexcept nogil


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


cdef inline double probe_at(const double* steps, Py_ssize_t i, double x, double slope, double reach,
                            int which) noexcept nogil:
    """A coordinate of probe 0, 1 or 2; `reach` is PROBE/√d. See `reference.differences.probe_points`."""
    cdef double share = 0.6180339887498949 * (i + 1), point
    share = 0.5 + 0.5 * (share - floor(share))
    point = rounded(step_at(steps, i, x) * rounded((-share if slope < 0 else share) * reach))
    if which == 1:
        return x - point
    point = x + point
    return point + BESIDE * max(1.0, fabs(x)) if which == 2 else point


cdef inline void probe_point(const double* x, const double* steps, const double* slopes, Py_ssize_t d, int which,
                             double* point) noexcept nogil:
    cdef Py_ssize_t i
    cdef double reach = PROBE / sqrt(<double> d)
    for i in range(d):
        point[i] = probe_at(steps, i, x[i], slopes[i], reach, which)


cdef inline Py_ssize_t slopes_and_doubts(const double* x, const double* steps, const double* values,
                                         const double* probes, Py_ssize_t d, double* slopes) noexcept nogil:
    """Write the slopes and count the doubtful; `probes` may be NULL."""
    cdef Py_ssize_t i, count = 0
    cdef double h, ahead, change, size = 0, misfit, jitter, bend, most = 0, share, error, reach
    cdef uint64_t bits, used = 0
    cdef bint equal = True
    for i in range(d):
        h = step_at(steps, i, x[i])
        slopes[i] = (values[2 * i] - values[2 * i + 1]) / ((x[i] + h) - (x[i] - h))
        if not isfinite(slopes[i]):
            count += 1
    if count or probes == NULL or d == 0:
        return count
    for i in range(2 * d + 3):
        h = values[i] if i < 2 * d else probes[i - 2 * d]
        memcpy(&bits, &h, sizeof(double))
        used |= bits & 0xFFFF
        equal = equal and h == values[0]
        size = max(size, fabs(h))
    if equal or used == 0 or not isfinite(probes[0]) or not isfinite(probes[1]) or not isfinite(probes[2]):
        return d
    misfit, jitter, reach = 0, 0, PROBE / sqrt(<double> d)
    for i in range(d):
        ahead = probe_at(steps, i, x[i], slopes[i], reach, 0)
        misfit += slopes[i] * (ahead - probe_at(steps, i, x[i], slopes[i], reach, 1))
        change = probe_at(steps, i, x[i], slopes[i], reach, 2) - ahead
        jitter += slopes[i] * change
        most = max(most, fabs(change / (ahead - x[i])))
    misfit, jitter = fabs((probes[0] - probes[1]) - misfit), fabs((probes[2] - probes[0]) - jitter)
    bend = fabs((probes[0] - values[0]) + (probes[1] - values[1]))
    jitter = max(0.0, jitter - 4 * bend * most)
    share = MISFIT_OF_NOISE
    if jitter <= 2 * (EPSILON * size):
        share = min(share, d * sqrt(<double> d) / (4 * PROBE))
    error = ROUNDING * (EPSILON * size) + JITTER * jitter + share / (2 * PROBE) * misfit
    for i in range(d):
        h = step_at(steps, i, x[i])
        if not error <= DOUBT * max(1.0, fabs(slopes[i])) * (((x[i] + h) - (x[i] - h)) / 2):
            count += 1
    return count
