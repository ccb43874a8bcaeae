# A vector register as a type.
#
# A compiler puts `g[j] += e * x[j]` into vector registers by itself, but not a sum: it may not change the order of the
# additions, and the flags that let it would let it break the argument reduction of exp as well. So the order is written
# down: a dot product has as many partial sums as a register has lanes, and a tree adds them up. It is then the same for
# every compiler and every call.
#
# GCC and Clang have arithmetic on such types in C itself; elsewhere a "register" has one lane, and the loops stay as
# right.

from cython cimport floating

cdef extern from *:
    """
    #if defined(__GNUC__) || defined(__clang__)
      #if defined(__AVX512F__)
        #define FASTGD_REGISTER 64
      #elif defined(__AVX__)
        #define FASTGD_REGISTER 32
      #else
        #define FASTGD_REGISTER 16
      #endif
      /* aligned: as a number is, so that any address may be read; may_alias: it reads arrays of numbers. */
      #define FASTGD_VECTOR(T, bytes) __attribute__((vector_size(bytes), aligned(sizeof(T)), may_alias))
      typedef double fastgd_doubles FASTGD_VECTOR(double, FASTGD_REGISTER);
      /* Sixteen lanes would leave tables of ten columns to the scalar loop behind the registers. */
      typedef float fastgd_floats FASTGD_VECTOR(float, FASTGD_REGISTER > 32 ? 32 : FASTGD_REGISTER);
      #define FASTGD_FILL(V, x) ((x) - (V){0})  /* x + 0 is not x where x is -0 */
    #else
      typedef double fastgd_doubles;
      typedef float fastgd_floats;
      #define FASTGD_FILL(V, x) (x)
    #endif
    #include <string.h>
    #define FASTGD_SUM(T, V, NAME)                                         \
      static inline T NAME(V v) {                                          \
          enum { lanes = sizeof(V) / sizeof(T) };                          \
          T s[lanes];                                                      \
          int width, i;                                                    \
          memcpy(s, &v, sizeof(V));                                        \
          for (width = lanes / 2; width > 0; width /= 2)                   \
              for (i = 0; i < width; i++) s[i] += s[i + width];            \
          return s[0];                                                     \
      }
    FASTGD_SUM(double, fastgd_doubles, fastgd_sum_doubles)
    FASTGD_SUM(float, fastgd_floats, fastgd_sum_floats)
    /* Four numbers of four rows. The sums of four registers are had at once: halves of them share the instructions
       that move lanes about. */
    #if defined(__GNUC__) || defined(__clang__)
      typedef double fastgd_four_doubles FASTGD_VECTOR(double, 32);
      typedef float fastgd_four_floats FASTGD_VECTOR(float, 16);
      typedef float fastgd_all_floats FASTGD_VECTOR(float, FASTGD_REGISTER);
    #else
      typedef double fastgd_four_doubles;  /* not used: there are no registers of several lanes */
      typedef float fastgd_four_floats;
    #endif
    #if defined(__has_builtin)
      #if __has_builtin(__builtin_shufflevector)
        #define FASTGD_SHUFFLE __builtin_shufflevector
      #endif
    #endif
    #ifdef FASTGD_SHUFFLE
      /* Neighbours are added within parts of 16 bytes, for which there are fast instructions; then the parts. */
      #define FASTGD_FLOATS_4(a, b) (FASTGD_SHUFFLE(a, b, 0, 2, 4, 6) + FASTGD_SHUFFLE(a, b, 1, 3, 5, 7))
      #define FASTGD_FLOATS_8(a, b) \
          (FASTGD_SHUFFLE(a, b, 0, 2, 8, 10, 4, 6, 12, 14) + FASTGD_SHUFFLE(a, b, 1, 3, 9, 11, 5, 7, 13, 15))
      #define FASTGD_FLOATS_16(a, b) \
          (FASTGD_SHUFFLE(a, b, 0, 2, 16, 18, 4, 6, 20, 22, 8, 10, 24, 26, 12, 14, 28, 30) \
           + FASTGD_SHUFFLE(a, b, 1, 3, 17, 19, 5, 7, 21, 23, 9, 11, 25, 27, 13, 15, 29, 31))
      #define FASTGD_HALVES_8(v) (FASTGD_SHUFFLE(v, v, 0, 1, 2, 3) + FASTGD_SHUFFLE(v, v, 4, 5, 6, 7))
      #define FASTGD_HALVES_16(v) \
          (FASTGD_SHUFFLE(v, v, 0, 1, 2, 3, 4, 5, 6, 7) + FASTGD_SHUFFLE(v, v, 8, 9, 10, 11, 12, 13, 14, 15))
      #define FASTGD_DOUBLES_2(a, b) (FASTGD_SHUFFLE(a, b, 0, 2) + FASTGD_SHUFFLE(a, b, 1, 3))
      #define FASTGD_DOUBLES_4(a, b) (FASTGD_SHUFFLE(a, b, 0, 4, 2, 6) + FASTGD_SHUFFLE(a, b, 1, 5, 3, 7))
      #define FASTGD_DOUBLES_8(a, b) \
          (FASTGD_SHUFFLE(a, b, 0, 8, 2, 10, 4, 12, 6, 14) + FASTGD_SHUFFLE(a, b, 1, 9, 3, 11, 5, 13, 7, 15))
      #define FASTGD_PARTS(u, v) (FASTGD_SHUFFLE(u, v, 0, 1, 4, 5) + FASTGD_SHUFFLE(u, v, 2, 3, 6, 7))
      static inline fastgd_four_floats fastgd_sums_four_floats(fastgd_four_floats a, fastgd_four_floats b,
                                                               fastgd_four_floats c, fastgd_four_floats d) {
          fastgd_four_floats ab = FASTGD_FLOATS_4(a, b), cd = FASTGD_FLOATS_4(c, d);
          return FASTGD_FLOATS_4(ab, cd);
      }
      #if FASTGD_REGISTER >= 32
        static inline fastgd_four_floats fastgd_sums_floats(fastgd_floats a, fastgd_floats b, fastgd_floats c,
                                                            fastgd_floats d) {
            fastgd_floats ab = FASTGD_FLOATS_8(a, b), cd = FASTGD_FLOATS_8(c, d), all = FASTGD_FLOATS_8(ab, cd);
            return FASTGD_HALVES_8(all);
        }
        static inline fastgd_four_doubles fastgd_sums_four_doubles(fastgd_four_doubles a, fastgd_four_doubles b,
                                                                   fastgd_four_doubles c, fastgd_four_doubles d) {
            fastgd_four_doubles ab = FASTGD_DOUBLES_4(a, b), cd = FASTGD_DOUBLES_4(c, d);
            return FASTGD_PARTS(ab, cd);
        }
      #else
        #define fastgd_sums_floats fastgd_sums_four_floats
      #endif
      #if FASTGD_REGISTER == 64
        static inline fastgd_four_floats fastgd_sums_all_floats(fastgd_all_floats a, fastgd_all_floats b,
                                                                fastgd_all_floats c, fastgd_all_floats d) {
            fastgd_all_floats ab = FASTGD_FLOATS_16(a, b), cd = FASTGD_FLOATS_16(c, d), all = FASTGD_FLOATS_16(ab, cd);
            fastgd_floats half = FASTGD_HALVES_16(all);
            return FASTGD_HALVES_8(half);
        }
        static inline fastgd_four_doubles fastgd_sums_doubles(fastgd_doubles a, fastgd_doubles b, fastgd_doubles c,
                                                              fastgd_doubles d) {
            fastgd_doubles ab = FASTGD_DOUBLES_8(a, b), cd = FASTGD_DOUBLES_8(c, d);
            fastgd_four_doubles ab_half = FASTGD_HALVES_8(ab), cd_half = FASTGD_HALVES_8(cd);
            return FASTGD_PARTS(ab_half, cd_half);
        }
      #elif FASTGD_REGISTER == 32
        #define fastgd_sums_doubles fastgd_sums_four_doubles
      #else
        static inline fastgd_four_doubles fastgd_sums_doubles(fastgd_doubles a, fastgd_doubles b, fastgd_doubles c,
                                                              fastgd_doubles d) {
            fastgd_doubles ab = FASTGD_DOUBLES_2(a, b), cd = FASTGD_DOUBLES_2(c, d);
            return FASTGD_SHUFFLE(ab, cd, 0, 1, 2, 3);
        }
      #endif
    #else
      #define FASTGD_SUMS(T, V4, V, NAME)                                                       \
        static inline V4 NAME(V a, V b, V c, V d) {                                             \
            enum { lanes = sizeof(V) / sizeof(T), of = sizeof(V4) / sizeof(T) };                \
            T s[4][lanes], out[of];                                                             \
            V4 v;                                                                               \
            int width, i, r;                                                                    \
            memcpy(s[0], &a, sizeof(V));                                                        \
            memcpy(s[1], &b, sizeof(V));                                                        \
            memcpy(s[2], &c, sizeof(V));                                                        \
            memcpy(s[3], &d, sizeof(V));                                                        \
            for (r = 0; r < of; r++) {                                                          \
                for (width = lanes / 2; width > 0; width /= 2)                                  \
                    for (i = 0; i < width; i++) s[r][i] += s[r][i + width];                     \
                out[r] = s[r][0];                                                               \
            }                                                                                   \
            memcpy(&v, out, sizeof(v));                                                         \
            return v;                                                                           \
        }
      FASTGD_SUMS(double, fastgd_four_doubles, fastgd_doubles, fastgd_sums_doubles)
      FASTGD_SUMS(float, fastgd_four_floats, fastgd_floats, fastgd_sums_floats)
      #if FASTGD_REGISTER >= 32  /* 0 where there are no registers of several lanes */
        FASTGD_SUMS(float, fastgd_four_floats, fastgd_four_floats, fastgd_sums_four_floats)
      #endif
      #if FASTGD_REGISTER == 64
        FASTGD_SUMS(double, fastgd_four_doubles, fastgd_four_doubles, fastgd_sums_four_doubles)
        FASTGD_SUMS(float, fastgd_four_floats, fastgd_all_floats, fastgd_sums_all_floats)
      #endif
    #endif
    static inline fastgd_four_doubles fastgd_widened(fastgd_four_floats v) {
        float f[4] = {0};
        double d[4];
        fastgd_four_doubles wide;
        int i;
        memcpy(f, &v, sizeof(v));
        for (i = 0; i < 4; i++) d[i] = f[i];
        memcpy(&wide, d, sizeof(wide));
        return wide;
    }
    static inline fastgd_doubles fastgd_fill_doubles(double x) { return FASTGD_FILL(fastgd_doubles, x); }
    static inline fastgd_floats fastgd_fill_floats(float x) { return FASTGD_FILL(fastgd_floats, x); }
    """
    ctypedef double doubles "fastgd_doubles"
    ctypedef float floats "fastgd_floats"
    double sum_doubles "fastgd_sum_doubles"(doubles v) noexcept nogil
    float sum_floats "fastgd_sum_floats"(floats v) noexcept nogil
    ctypedef double four_doubles "fastgd_four_doubles"
    ctypedef float four_floats "fastgd_four_floats"
    four_doubles sums_doubles "fastgd_sums_doubles"(doubles a, doubles b, doubles c, doubles d) noexcept nogil
    four_floats sums_floats "fastgd_sums_floats"(floats a, floats b, floats c, floats d) noexcept nogil
    four_doubles widened_floats "fastgd_widened"(four_floats v) noexcept nogil
    doubles fill_doubles "fastgd_fill_doubles"(double x) noexcept nogil
    floats fill_floats "fastgd_fill_floats"(float x) noexcept nogil

# The register that goes with each `floating`. A function over both is made for all four pairs; two of them are used.
ctypedef fused register_:
    doubles
    floats

ctypedef fused four_:
    four_doubles
    four_floats


cdef inline Py_ssize_t lanes_of(const floating* like) noexcept nogil:
    """How many numbers a register holds."""
    return sizeof(doubles) // sizeof(double) if floating is double else sizeof(floats) // sizeof(float)


cdef inline floating sum_of(register_ v, floating zero) noexcept nogil:
    """The sum of the lanes, halving them: a fixed tree."""
    if register_ is doubles:
        return <floating> sum_doubles(v)
    else:
        return <floating> sum_floats(v)


cdef inline four_ four_sums(register_ a, register_ b, register_ c, register_ d, four_* like) noexcept nogil:
    """The sums of the lanes of four registers."""
    if register_ is doubles and four_ is four_doubles:
        return sums_doubles(a, b, c, d)
    elif register_ is floats and four_ is four_floats:
        return sums_floats(a, b, c, d)
    else:
        return like[0]  # a pair that nobody calls


cdef inline four_doubles widened(four_ v) noexcept nogil:
    if four_ is four_doubles:
        return v
    else:
        return widened_floats(v)


cdef inline register_ filled(floating x, register_* like) noexcept nogil:
    """x in every lane."""
    if register_ is doubles:
        return fill_doubles(x)
    else:
        return fill_floats(x)


cdef extern from *:
    """
    #if defined(__GNUC__) || defined(__clang__)
      #define FASTGD_PREFETCH(p) __builtin_prefetch(p)
    #else
      #define FASTGD_PREFETCH(p) ((void) (p))
    #endif
    """
    void prefetch "FASTGD_PREFETCH"(const void* address) noexcept nogil


# Compiled loops over registers; what they do is said there.
cdef extern from "registers.h" nogil:
    Py_ssize_t both_doubles_4 "fastgd_both_doubles_4"(
        const double* x, Py_ssize_t row, const double* z, Py_ssize_t z_row, const double* w, double b,
        const double* delta, Py_ssize_t m, Py_ssize_t d, double* h, double* g, bint in_line) noexcept
    Py_ssize_t both_doubles_2 "fastgd_both_doubles_2"(
        const double* x, Py_ssize_t row, const double* z, Py_ssize_t z_row, const double* w, double b,
        const double* delta, Py_ssize_t m, Py_ssize_t d, double* h, double* g, bint in_line) noexcept
    Py_ssize_t both_doubles_1 "fastgd_both_doubles_1"(
        const double* x, Py_ssize_t row, const double* z, Py_ssize_t z_row, const double* w, double b,
        const double* delta, Py_ssize_t m, Py_ssize_t d, double* h, double* g, bint in_line) noexcept
    Py_ssize_t both_floats_4 "fastgd_both_floats_4"(
        const float* x, Py_ssize_t row, const float* z, Py_ssize_t z_row, const float* w, float b,
        const float* delta, Py_ssize_t m, Py_ssize_t d, float* h, float* g, bint in_line) noexcept
    Py_ssize_t both_floats_2 "fastgd_both_floats_2"(
        const float* x, Py_ssize_t row, const float* z, Py_ssize_t z_row, const float* w, float b,
        const float* delta, Py_ssize_t m, Py_ssize_t d, float* h, float* g, bint in_line) noexcept
    Py_ssize_t both_floats_1 "fastgd_both_floats_1"(
        const float* x, Py_ssize_t row, const float* z, Py_ssize_t z_row, const float* w, float b,
        const float* delta, Py_ssize_t m, Py_ssize_t d, float* h, float* g, bint in_line) noexcept
    void turn_doubles "fastgd_turn_doubles"(const double* x, Py_ssize_t m, Py_ssize_t d, double* out,
                                            Py_ssize_t room) noexcept
    void turn_floats "fastgd_turn_floats"(const float* x, Py_ssize_t m, Py_ssize_t d, float* out,
                                          Py_ssize_t room) noexcept
    void columns_doubles_forward "fastgd_columns_doubles_forward"(
        const double* x, Py_ssize_t column, const double* w, double b, Py_ssize_t m, Py_ssize_t d, double* h) noexcept
    void columns_doubles_backward "fastgd_columns_doubles_backward"(
        const double* x, Py_ssize_t column, const double* delta, Py_ssize_t m, Py_ssize_t d, double* g) noexcept
    double total_of_doubles "fastgd_doubles_in_double_total"(const double* x, Py_ssize_t m) noexcept
    double squares_of_doubles "fastgd_doubles_in_double_squares"(
        double* h, const double* y, const double* s, Py_ssize_t m) noexcept
    void doubles_forward "fastgd_doubles_many_forward"(
        const double* x, Py_ssize_t row, const double* W, Py_ssize_t width, const double* b, Py_ssize_t m, Py_ssize_t d,
        double* h, Py_ssize_t k) noexcept
    void doubles_backward "fastgd_doubles_many_backward"(
        const double* x, Py_ssize_t row, const double* delta, Py_ssize_t k, Py_ssize_t m, Py_ssize_t d, double* g,
        Py_ssize_t width) noexcept
    void columns_floats_forward "fastgd_columns_floats_forward"(
        const float* x, Py_ssize_t column, const float* w, float b, Py_ssize_t m, Py_ssize_t d, float* h) noexcept
    void columns_floats_backward "fastgd_columns_floats_backward"(
        const float* x, Py_ssize_t column, const float* delta, Py_ssize_t m, Py_ssize_t d, float* g) noexcept
    double total_of_floats "fastgd_floats_in_double_total"(const float* x, Py_ssize_t m) noexcept
    double squares_of_floats "fastgd_floats_in_double_squares"(
        float* h, const float* y, const float* s, Py_ssize_t m) noexcept
    void floats_forward "fastgd_floats_many_forward"(
        const float* x, Py_ssize_t row, const float* W, Py_ssize_t width, const float* b, Py_ssize_t m, Py_ssize_t d,
        float* h, Py_ssize_t k) noexcept
    void floats_backward "fastgd_floats_many_backward"(
        const float* x, Py_ssize_t row, const float* delta, Py_ssize_t k, Py_ssize_t m, Py_ssize_t d, float* g,
        Py_ssize_t width) noexcept
    Py_ssize_t lanes_of_outputs "fastgd_lanes_of_outputs"(Py_ssize_t k, Py_ssize_t size) noexcept
    Py_ssize_t sixteen_sums_of_doubles "fastgd_doubles_in_double_sixteen"(
        const double* x, const double* y, Py_ssize_t count, double* sums) noexcept
    Py_ssize_t sixteen_sums_of_floats "fastgd_floats_in_double_sixteen"(
        const float* x, const float* y, Py_ssize_t count, double* sums) noexcept
    bint is_apart "fastgd_is_apart"(Py_ssize_t k, Py_ssize_t d, Py_ssize_t size) noexcept
    void doubles_apart_forward "fastgd_doubles_apart_forward"(
        const double* x, Py_ssize_t row, const double* W, const double* b, Py_ssize_t m, Py_ssize_t d, double* h,
        Py_ssize_t k) noexcept
    void doubles_apart_backward "fastgd_doubles_apart_backward"(
        const double* x, Py_ssize_t row, const double* delta, Py_ssize_t k, Py_ssize_t m, Py_ssize_t d,
        double* g) noexcept
    void floats_apart_forward "fastgd_floats_apart_forward"(
        const float* x, Py_ssize_t row, const float* W, const float* b, Py_ssize_t m, Py_ssize_t d, float* h,
        Py_ssize_t k) noexcept
    void floats_apart_backward "fastgd_floats_apart_backward"(
        const float* x, Py_ssize_t row, const float* delta, Py_ssize_t k, Py_ssize_t m, Py_ssize_t d,
        float* g) noexcept

cdef extern from "squares.h" nogil:
    Py_ssize_t squares_of_double_rows "fastgd_doubles_squares"(
        const double* x, Py_ssize_t row, const double* w, double b, const double* y, const double* c, Py_ssize_t m,
        Py_ssize_t d, double* g, double* total, double* slopes, Py_ssize_t ahead, bint in_line, int rows,
        bint far) noexcept
    Py_ssize_t squares_of_float_rows "fastgd_floats_squares"(
        const float* x, Py_ssize_t row, const float* w, float b, const float* y, const float* c, Py_ssize_t m,
        Py_ssize_t d, float* g, double* total, double* slopes, Py_ssize_t ahead, bint in_line, int rows,
        bint far) noexcept
