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
      #define FASTGD_FILL(V, x) ((V){0} + (x))
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
    static inline fastgd_doubles fastgd_fill_doubles(double x) { return FASTGD_FILL(fastgd_doubles, x); }
    static inline fastgd_floats fastgd_fill_floats(float x) { return FASTGD_FILL(fastgd_floats, x); }
    """
    ctypedef double doubles "fastgd_doubles"
    ctypedef float floats "fastgd_floats"
    double sum_doubles "fastgd_sum_doubles"(doubles v) noexcept nogil
    float sum_floats "fastgd_sum_floats"(floats v) noexcept nogil
    doubles fill_doubles "fastgd_fill_doubles"(double x) noexcept nogil
    floats fill_floats "fastgd_fill_floats"(float x) noexcept nogil

# The register that goes with each `floating`. A function over both is made for all four pairs; two of them are used.
ctypedef fused register_:
    doubles
    floats


cdef inline floating sum_of(register_ v, floating zero) noexcept nogil:
    """The sum of the lanes, halving them: a fixed tree."""
    if register_ is doubles:
        return <floating> sum_doubles(v)
    else:
        return <floating> sum_floats(v)


cdef inline register_ filled(floating x, register_* like) noexcept nogil:
    """x in every lane."""
    if register_ is doubles:
        return fill_doubles(x)
    else:
        return fill_floats(x)
