# exp, log1p and tanh of a block of points, in double, so that the compiler can put each loop into vector registers.
#
# One polynomial each, no table and no branch; the coefficients are minimax fits on the interval that is named. The
# errors, against mpmath (tests/test_transcendental.py): exp ≤ 2 ulp, log1p ≤ 3, tanh ≤ 3.
#
# Numbers become whole by adding 1.5·2⁵², whose last digit is 1: the low bits of the sum are then that whole number, and
# no loop leaves the floating-point registers for it.

cdef enum:
    PIECE = 128             # points that go through the loops together


cdef inline double two_to(double shifted) noexcept nogil:
    """2ⁿ for −1022 ≤ n ≤ 1023, of n + 1.5·2⁵²: n goes into the bits of the exponent."""
    cdef unsigned long long bits
    cdef double power
    memcpy(&bits, &shifted, sizeof(double))
    bits = (bits + 1023) << 52
    memcpy(&power, &bits, sizeof(double))
    return power


cdef inline double expm1_polynomial(double r) noexcept nogil:
    """exp − 1 on [−0.353, 0.353] (a little more than ±½·ln 2): r + r²q(r), of 1 + that the relative error is 2e-17."""
    cdef double q = 2.5112381306258774964e-8
    q = q * r + 2.7622616321859207857e-7
    q = q * r + 2.7557236027174781457e-6
    q = q * r + 2.4801515873871841462e-5
    q = q * r + 1.9841269892281492621e-4
    q = q * r + 1.3888888920774500973e-3
    q = q * r + 8.3333333333203069504e-3
    q = q * r + 4.1666666666616851325e-2
    q = q * r + 1.6666666666666676243e-1
    q = q * r + 5.0000000000000012452e-1
    return r + (r * r) * q


cdef inline void exp_block(const double* x, double* out, Py_ssize_t size) noexcept nogil:
    """out = exp(x); overflows to inf, underflows through the subnormals to 0, NaN stays. out may be x."""
    cdef double log2_e = 1.4426950408889634074
    cdef double ln2_high = 6.93147180369123816490e-01   # the first 33 bits of ln 2: n·ln2_high is exact
    cdef double ln2_low = 1.90821492927058770002e-10
    cdef double shift = 6755399441055744.0              # 1.5·2⁵²
    cdef double kept[PIECE]                             # out may be x, which the compiler cannot know
    cdef Py_ssize_t start = 0, i, m
    cdef double v, n, half, r
    while start < size:
        m = min(<Py_ssize_t> PIECE, size - start)
        memcpy(kept, x + start, m * sizeof(double))
        for i in range(m):
            # Beyond these ends the answer is inf or 0 all the same; NaN becomes an end here and is put back below.
            v = kept[i] if kept[i] > -760.0 else -760.0
            v = v if v < 720.0 else 720.0
            n = (v * log2_e + shift) - shift
            r = 1.0 + expm1_polynomial((v - n * ln2_high) - n * ln2_low)
            # In two halves: 2ⁿ alone is out of range at both ends.
            half = (0.5 * n + shift) - shift
            r = (r * two_to(half + shift)) * two_to((n - half) + shift)
            out[start + i] = r if kept[i] == kept[i] else kept[i]
        start += m


cdef inline double log1p_of_unit(double e) noexcept nogil:
    """log(1 + e) for 0 ≤ e ≤ 1: 2·artanh(s) with s = e/(2 + e) ≤ ⅓, as 2s(1 + s²·p(s²)); relative error 2e-18."""
    cdef double s = e / (2.0 + e)
    cdef double t = s * s
    cdef double p = 8.4731006169963330763e-2
    p = p * t + 4.1908008398777020154e-2
    p = p * t + 6.0479639677982598857e-2
    p = p * t + 6.6511788578176204541e-2
    p = p * t + 7.6932226003476280289e-2
    p = p * t + 9.0908749289244234167e-2
    p = p * t + 1.1111111890557106334e-1
    p = p * t + 1.4285714275667312537e-1
    p = p * t + 2.0000000000062227754e-1
    p = p * t + 3.3333333333333208961e-1
    return 2.0 * s + 2.0 * s * t * p


cdef inline void log_block(const double* x, double* out, Py_ssize_t size) noexcept nogil:
    """out = log(x) of normal numbers: n·ln 2 + log m with m in [√½, √2), for which `log1p_of_unit` holds, too."""
    cdef double ln2_high = 6.93147180369123816490e-01
    cdef double ln2_low = 1.90821492927058770002e-10
    cdef long long half = 0x3fe6a09e00000000            # the bits of √½, but for the last 32
    cdef long long fraction = 0x000fffffffffffff, bits
    cdef double mantissa[PIECE]
    cdef int power[PIECE]
    cdef Py_ssize_t start = 0, i, m
    while start < size:
        m = min(<Py_ssize_t> PIECE, size - start)
        for i in range(m):
            memcpy(&bits, &x[start + i], sizeof(double))
            bits -= half
            power[i] = <int> (bits >> 52)
            bits = (bits & fraction) + half
            memcpy(&mantissa[i], &bits, sizeof(double))
        for i in range(m):
            out[start + i] = power[i] * ln2_high + (power[i] * ln2_low + log1p_of_unit(mantissa[i] - 1.0))
        start += m


cdef inline double tanh_of(double h, double e) noexcept nogil:
    """tanh h with e = exp(−|h|): (1 − e²)/(1 + e²), and for |h| < 0.55, where that cancels, h + h³·r(h²)."""
    cdef double a = fabs(h)
    cdef double q = e * e
    cdef double far = (1.0 - q) / (1.0 + q)
    cdef double t = h * h
    cdef double r = 5.1181529703157595487e-5
    r = r * t - 2.1054825145893532804e-4
    r = r * t + 5.7929790403461065347e-4
    r = r * t - 1.4532752211844003934e-3
    r = r * t + 3.5917325834970535744e-3
    r = r * t - 8.8631962699313348046e-3
    r = r * t + 2.1869486122913062687e-2
    r = r * t - 5.3968253883251944806e-2
    r = r * t + 1.3333333333186324760e-1
    r = r * t - 3.3333333333332472095e-1
    cdef double near = h + h * t * r
    return near if a < 0.55 else (-far if h < 0 else far)
