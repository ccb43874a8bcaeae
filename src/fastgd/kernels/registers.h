/* Loops of which the compiler has to know how many rows, columns or outputs they hold in registers at once: they are
   written once, as macros, for any type T and register V. `lanes.pxi` defines the registers before it includes this. */

#if defined(__GNUC__) || defined(__clang__)
  #define FASTGD_INLINE static inline __attribute__((always_inline))
  #define FASTGD_ALONE restrict
#else
  #define FASTGD_INLINE static inline
  #define FASTGD_ALONE __restrict
#endif

/* ------------------------------------------------------------------- forward of some rows, backward of others

   h = Xw + b of m rows, and g += Zᵀδ of m rows that were read before, R at a time: one loop asks for rows that are new
   while it computes with rows that are in the nearest cache, so that the memory always has something to do. Returns how
   many rows it has done, a multiple of R.

   `in_line`: the memory is asked for what follows these R rows, in its order, FASTGD_BEYOND bytes further on. That is
   the fastest where R rows, as many before them and as many after them stay in the nearest cache, and from a memory
   beyond all caches. Else each row asks for its own numbers, FASTGD_SOON bytes before it needs them. */

#define FASTGD_BEYOND 4096
#define FASTGD_SOON 512

#define FASTGD_FORWARD_BACKWARD(NAME, T, V, R, SUMS)                                                                   \
  static ptrdiff_t NAME(const T *x, ptrdiff_t row, const T *z, ptrdiff_t z_row, const T *w, T b, const T *delta,       \
                        ptrdiff_t m, ptrdiff_t d, T *h, T *g, int in_line) {                                           \
      enum { L = sizeof(V) / sizeof(T) };                                                                              \
      const ptrdiff_t whole = d - d % L, last = d - L, bytes = row * (ptrdiff_t) sizeof(T);                            \
      const ptrdiff_t offset = in_line ? R * bytes + FASTGD_BEYOND : FASTGD_SOON;                                      \
      const ptrdiff_t between = in_line ? (ptrdiff_t) sizeof(V) : bytes;                                               \
      const ptrdiff_t step = (in_line ? R : 1) * (ptrdiff_t) sizeof(V);                                                \
      ptrdiff_t i, j;                                                                                                  \
      /* The last L numbers of a row; those that the whole registers have count with a weight of 0. */                 \
      V w_last = FASTGD_FILL(V, (T) 0), g_last = w_last;                                                               \
      for (j = whole; j < d; j++) ((T *) &w_last)[j - last] = w[j];                                                    \
      for (i = 0; i + R <= m; i += R) {                                                                                \
          const char *ahead = (const char *) x + offset;                                                               \
          V s[R], e[R];                                                                                                \
          int r;                                                                                                       \
          for (r = 0; r < R; r++) {                                                                                    \
              s[r] = FASTGD_FILL(V, (T) 0);                                                                            \
              e[r] = FASTGD_FILL(V, delta[i + r]);                                                                     \
          }                                                                                                            \
          if (whole < d)                                                                                               \
              for (r = 0; r < R; r++) {                                                                                \
                  s[r] = *(const V *) (x + r * row + last) * w_last;                                                   \
                  g_last += *(const V *) (z + r * z_row + last) * e[r];                                                \
              }                                                                                                        \
          for (j = 0; j < whole; j += L) {                                                                             \
              V v = *(const V *) (w + j), a = *(V *) (g + j);                                                          \
              for (r = 0; r < R; r++) {                                                                                \
                  s[r] += *(const V *) (x + r * row + j) * v;                                                          \
                  a += *(const V *) (z + r * z_row + j) * e[r];                                                        \
                  FASTGD_PREFETCH(ahead + r * between);                                                                \
              }                                                                                                        \
              *(V *) (g + j) = a;                                                                                      \
              ahead += step;                                                                                           \
          }                                                                                                            \
          SUMS                                                                                                         \
          for (r = 0; r < R; r++) h[i + r] += b;                                                                       \
          x += R * row;                                                                                                \
          z += R * z_row;                                                                                              \
      }                                                                                                                \
      for (j = whole; j < d; j++) g[j] += ((T *) &g_last)[j - last];                                                   \
      return i;                                                                                                        \
  }

#define FASTGD_EACH(SUM) for (r = 0; r < (int) (sizeof(s) / sizeof(s[0])); r++) h[i + r] = SUM(s[r]);
#if defined(__GNUC__) || defined(__clang__)
  #define FASTGD_FOUR(V4, SUMS) *(V4 *) (h + i) = SUMS(s[0], s[1], s[2], s[3]);
FASTGD_FORWARD_BACKWARD(fastgd_both_doubles_4, double, fastgd_doubles, 4,
                        FASTGD_FOUR(fastgd_four_doubles, fastgd_sums_doubles))
FASTGD_FORWARD_BACKWARD(fastgd_both_floats_4, float, fastgd_floats, 4,
                        FASTGD_FOUR(fastgd_four_floats, fastgd_sums_floats))
#else
FASTGD_FORWARD_BACKWARD(fastgd_both_doubles_4, double, fastgd_doubles, 4, FASTGD_EACH(fastgd_sum_doubles))
FASTGD_FORWARD_BACKWARD(fastgd_both_floats_4, float, fastgd_floats, 4, FASTGD_EACH(fastgd_sum_floats))
#endif
FASTGD_FORWARD_BACKWARD(fastgd_both_doubles_2, double, fastgd_doubles, 2, FASTGD_EACH(fastgd_sum_doubles))
FASTGD_FORWARD_BACKWARD(fastgd_both_floats_2, float, fastgd_floats, 2, FASTGD_EACH(fastgd_sum_floats))
FASTGD_FORWARD_BACKWARD(fastgd_both_doubles_1, double, fastgd_doubles, 1, FASTGD_EACH(fastgd_sum_doubles))
FASTGD_FORWARD_BACKWARD(fastgd_both_floats_1, float, fastgd_floats, 1, FASTGD_EACH(fastgd_sum_floats))

/* ------------------------------------------------------------------------------- columns of a few rows

   out (d, room) = the columns of m contiguous rows of d numbers. With a d that the compiler knows it moves them through
   registers. */

#define FASTGD_TURN(NAME, T)                                                                                           \
  FASTGD_INLINE void NAME##_of(const T *x, ptrdiff_t m, const int d, T *out, ptrdiff_t room) {                         \
      ptrdiff_t i;                                                                                                     \
      int j;                                                                                                           \
      for (i = 0; i < m; i++)                                                                                          \
          for (j = 0; j < d; j++) out[j * room + i] = x[i * d + j];                                                    \
  }                                                                                                                    \
  static void NAME(const T *FASTGD_ALONE x, ptrdiff_t m, ptrdiff_t d, T *FASTGD_ALONE out, ptrdiff_t room) {           \
      switch (d) {                                                                                                     \
      case 2: NAME##_of(x, m, 2, out, room); return;                                                                   \
      case 3: NAME##_of(x, m, 3, out, room); return;                                                                   \
      case 4: NAME##_of(x, m, 4, out, room); return;                                                                   \
      case 5: NAME##_of(x, m, 5, out, room); return;                                                                   \
      case 6: NAME##_of(x, m, 6, out, room); return;                                                                   \
      case 7: NAME##_of(x, m, 7, out, room); return;                                                                   \
      default: NAME##_of(x, m, (int) d, out, room);                                                                    \
      }                                                                                                                \
  }
FASTGD_TURN(fastgd_turn_doubles, double)
FASTGD_TURN(fastgd_turn_floats, float)

/* ------------------------------------------------------------------------------- rows whose columns are contiguous

   h = Xw + b, four columns at a time, so that h is read and written once for four; g += Xᵀδ with four sums a column,
   so that none waits for another. */

#define FASTGD_COLUMNS(NAME, T, V, SUM)                                                                                \
  static void NAME##_forward(const T *x, ptrdiff_t column, const T *w, T b, ptrdiff_t m, ptrdiff_t d,                  \
                             T *FASTGD_ALONE h) {                                                                      \
      ptrdiff_t i, j = d % 4;                                                                                          \
      const T *x1 = x + column, *x2 = x1 + column;                                                                     \
      if (j == 0) for (i = 0; i < m; i++) h[i] = b;                                                                    \
      if (j == 1) for (i = 0; i < m; i++) h[i] = b + x[i] * w[0];                                                      \
      if (j == 2) for (i = 0; i < m; i++) h[i] = b + (x[i] * w[0] + x1[i] * w[1]);                                     \
      if (j == 3) for (i = 0; i < m; i++) h[i] = b + (x[i] * w[0] + x1[i] * w[1] + x2[i] * w[2]);                      \
      for (; j < d; j += 4) {                                                                                          \
          const T *a = x + j * column, *a1 = a + column, *a2 = a1 + column, *a3 = a2 + column;                         \
          for (i = 0; i < m; i++)                                                                                      \
              h[i] += (a[i] * w[j] + a1[i] * w[j + 1]) + (a2[i] * w[j + 2] + a3[i] * w[j + 3]);                        \
      }                                                                                                                \
  }                                                                                                                    \
  static void NAME##_backward(const T *x, ptrdiff_t column, const T *delta, ptrdiff_t m, ptrdiff_t d, T *g) {          \
      enum { L = sizeof(V) / sizeof(T) };                                                                              \
      ptrdiff_t i, j;                                                                                                  \
      for (j = 0; j < d; j++, x += column) {                                                                           \
          V s0 = FASTGD_FILL(V, (T) 0), s1 = s0, s2 = s0, s3 = s0;                                                     \
          T rest = 0;                                                                                                  \
          for (i = 0; i + 4 * L <= m; i += 4 * L) {                                                                    \
              s0 += *(const V *) (x + i) * *(const V *) (delta + i);                                                   \
              s1 += *(const V *) (x + i + L) * *(const V *) (delta + i + L);                                           \
              s2 += *(const V *) (x + i + 2 * L) * *(const V *) (delta + i + 2 * L);                                   \
              s3 += *(const V *) (x + i + 3 * L) * *(const V *) (delta + i + 3 * L);                                   \
          }                                                                                                            \
          for (; i + L <= m; i += L) s0 += *(const V *) (x + i) * *(const V *) (delta + i);                            \
          for (; i < m; i++) rest += x[i] * delta[i];                                                                  \
          s0 += s1;                                                                                                    \
          s2 += s3;                                                                                                    \
          s0 += s2;                                                                                                    \
          g[j] += SUM(s0) + rest;                                                                                      \
      }                                                                                                                \
  }
FASTGD_COLUMNS(fastgd_columns_doubles, double, fastgd_doubles, fastgd_sum_doubles)
FASTGD_COLUMNS(fastgd_columns_floats, float, fastgd_floats, fastgd_sum_floats)

/* ---------------------------------------------------------------------------------------------- sums in double

   Σ x, and the error term of the squared loss: Σ ½s(h − y)², while h becomes s(h − y) (s NULL: all ones). Four registers
   of sums, of which none waits for another. */

#if defined(__GNUC__) || defined(__clang__)
  typedef float fastgd_few_floats FASTGD_VECTOR(float, FASTGD_REGISTER / 2); /* as many as a register has doubles */
  #define FASTGD_IN_DOUBLE(v) __builtin_convertvector(v, fastgd_doubles)
#else
  typedef float fastgd_few_floats;
  #define FASTGD_IN_DOUBLE(v) ((double) (v))
#endif

#define FASTGD_TOTALS(NAME, T, V)                                                                                      \
  static double NAME##_total(const T *x, ptrdiff_t m) {                                                                \
      enum { L = sizeof(fastgd_doubles) / sizeof(double) };                                                            \
      fastgd_doubles t[4];                                                                                             \
      double rest = 0;                                                                                                 \
      ptrdiff_t i;                                                                                                     \
      int r;                                                                                                           \
      if (m < 4 * L) {                                                                                                 \
          for (i = 0; i < m; i++) rest += x[i];                                                                        \
          return rest;                                                                                                 \
      }                                                                                                                \
      memset(t, 0, sizeof t);                                                                                          \
      for (i = 0; i + 4 * L <= m; i += 4 * L)                                                                          \
          for (r = 0; r < 4; r++) t[r] += FASTGD_IN_DOUBLE(*(const V *) (x + i + r * L));                              \
      for (; i < m; i++) rest += x[i];                                                                                 \
      return fastgd_sum_doubles((t[0] + t[1]) + (t[2] + t[3])) + rest;                                                 \
  }                                                                                                                    \
  FASTGD_INLINE double NAME##_squares_of(T *h, const T *y, const T *s, ptrdiff_t m) {                                  \
      enum { L = sizeof(fastgd_doubles) / sizeof(double) };                                                            \
      fastgd_doubles t[4];                                                                                             \
      double rest = 0;                                                                                                 \
      ptrdiff_t i;                                                                                                     \
      int r;                                                                                                           \
      if (m < 4 * L) {                                                                                                 \
          for (i = 0; i < m; i++) {                                                                                    \
              T e = h[i] - y[i];                                                                                       \
              h[i] = s ? s[i] * e : e;                                                                                 \
              rest += (double) h[i] * (double) e;                                                                      \
          }                                                                                                            \
          return 0.5 * rest;                                                                                           \
      }                                                                                                                \
      memset(t, 0, sizeof t);                                                                                          \
      for (i = 0; i + 4 * L <= m; i += 4 * L)                                                                          \
          for (r = 0; r < 4; r++) {                                                                                    \
              V e = *(V *) (h + i + r * L) - *(const V *) (y + i + r * L), f = e;                                      \
              if (s) f *= *(const V *) (s + i + r * L);                                                                \
              t[r] += FASTGD_IN_DOUBLE(e) * FASTGD_IN_DOUBLE(f);                                                       \
              *(V *) (h + i + r * L) = f;                                                                              \
          }                                                                                                            \
      for (; i < m; i++) {                                                                                             \
          T e = h[i] - y[i];                                                                                           \
          h[i] = s ? s[i] * e : e;                                                                                     \
          rest += (double) h[i] * (double) e;                                                                          \
      }                                                                                                                \
      return 0.5 * (fastgd_sum_doubles((t[0] + t[1]) + (t[2] + t[3])) + rest);                                         \
  }                                                                                                                    \
  static double NAME##_squares(T *h, const T *y, const T *s, ptrdiff_t m) {                                            \
      return s ? NAME##_squares_of(h, y, s, m) : NAME##_squares_of(h, y, NULL, m);                                     \
  }
FASTGD_TOTALS(fastgd_doubles_in_double, double, fastgd_doubles)
FASTGD_TOTALS(fastgd_floats_in_double, float, fastgd_few_floats)

/* Sixteen sums in double of every sixteenth number of x, or of xy, of which there are `count` or a few more; returns
   how many it has added. */

#define FASTGD_SIXTEEN(NAME, T, V)                                                                                     \
  static ptrdiff_t NAME##_sixteen(const T *x, const T *y, ptrdiff_t count, double *sums) {                             \
      enum { L = sizeof(fastgd_doubles) / sizeof(double), N = 16 / L };                                                \
      fastgd_doubles t[N];                                                                                             \
      ptrdiff_t i;                                                                                                     \
      int r;                                                                                                           \
      memset(t, 0, sizeof t);                                                                                          \
      for (i = 0; i + 16 <= count; i += 16)                                                                            \
          for (r = 0; r < N; r++) {                                                                                    \
              fastgd_doubles e = FASTGD_IN_DOUBLE(*(const V *) (x + i + r * L));                                       \
              if (y) e *= FASTGD_IN_DOUBLE(*(const V *) (y + i + r * L));                                              \
              t[r] += e;                                                                                               \
          }                                                                                                            \
      memcpy(sums, t, sizeof t);                                                                                       \
      return i;                                                                                                        \
  }
FASTGD_SIXTEEN(fastgd_doubles_in_double, double, fastgd_doubles)
FASTGD_SIXTEEN(fastgd_floats_in_double, float, fastgd_few_floats)

/* ------------------------------------------------------------------------------------------------ several outputs

   H = XW + b and G += Xᵀδ with outputs in the lanes of a register: each number of X is multiplied by L of W or δ at
   once, for R rows, or J columns, whose sums stay in registers. W, G and b have `width` ≥ L outputs; h and δ have k.
   What is stored behind the k-th is overwritten by the next row. Registers of outputs begin at 0, L, …; the last one
   reaches back over outputs that others have, and G gets nothing of it there. */

#define FASTGD_SUMS_HELD 8 /* R and J: as many additions are under way at once */

#define FASTGD_OUTPUTS(NAME, T, V)                                                                                     \
  FASTGD_INLINE void NAME##_rows(const T *x, ptrdiff_t row, const T *W, ptrdiff_t width, const T *b, ptrdiff_t d,      \
                                 T *h, ptrdiff_t k, const int R) {                                                     \
      V s[FASTGD_SUMS_HELD];                                                                                           \
      ptrdiff_t j;                                                                                                     \
      int r;                                                                                                           \
      for (r = 0; r < R; r++) s[r] = *(const V *) b;                                                                   \
      for (j = 0; j < d; j++) {                                                                                        \
          V w = *(const V *) (W + j * width);                                                                          \
          for (r = 0; r < R; r++) s[r] += FASTGD_FILL(V, x[r * row + j]) * w;                                          \
      }                                                                                                                \
      for (r = 0; r < R; r++) *(V *) (h + r * k) = s[r];                                                               \
  }                                                                                                                    \
  static void NAME##_forward(const T *x, ptrdiff_t row, const T *W, ptrdiff_t width, const T *b, ptrdiff_t m,          \
                             ptrdiff_t d, T *h, ptrdiff_t k) {                                                         \
      enum { L = sizeof(V) / sizeof(T), R = FASTGD_SUMS_HELD };                                                        \
      ptrdiff_t i, c, first;                                                                                           \
      for (i = 0; i + R <= m; i += R)                                                                                  \
          for (c = 0; c < width; c += L) {                                                                             \
              first = c + L <= width ? c : width - L;                                                                  \
              NAME##_rows(x + i * row, row, W + first, width, b + first, d, h + i * k + first, k, R);                  \
          }                                                                                                            \
      for (; i < m; i++)                                                                                               \
          for (c = 0; c < width; c += L) {                                                                             \
              first = c + L <= width ? c : width - L;                                                                  \
              NAME##_rows(x + i * row, row, W + first, width, b + first, d, h + i * k + first, k, 1);                  \
          }                                                                                                            \
  }                                                                                                                    \
  FASTGD_INLINE void NAME##_columns(const T *x, ptrdiff_t row, const T *delta, ptrdiff_t k, V mask, const int masked,  \
                                    ptrdiff_t m, T *g, ptrdiff_t width) {                                              \
      enum { J = FASTGD_SUMS_HELD };                                                                                   \
      V s[J], e;                                                                                                       \
      ptrdiff_t i;                                                                                                     \
      int j;                                                                                                           \
      for (j = 0; j < J; j++) s[j] = *(V *) (g + j * width);                                                           \
      for (i = 0; i < m; i++) {                                                                                        \
          e = *(const V *) (delta + i * k);                                                                            \
          if (masked) e *= mask;                                                                                       \
          for (j = 0; j < J; j++) s[j] += FASTGD_FILL(V, x[i * row + j]) * e;                                          \
      }                                                                                                                \
      for (j = 0; j < J; j++) *(V *) (g + j * width) = s[j];                                                           \
  }                                                                                                                    \
  FASTGD_INLINE void NAME##_column(const T *x, ptrdiff_t row, const T *delta, ptrdiff_t k, V mask, ptrdiff_t m,        \
                                   T *g) {                                                                             \
      V s[4];                                                                                                          \
      ptrdiff_t i;                                                                                                     \
      int r;                                                                                                           \
      for (r = 0; r < 4; r++) s[r] = FASTGD_FILL(V, (T) 0);                                                            \
      for (i = 0; i + 4 <= m; i += 4)                                                                                  \
          for (r = 0; r < 4; r++) s[r] += FASTGD_FILL(V, x[(i + r) * row]) * *(const V *) (delta + (i + r) * k);       \
      for (; i < m; i++) s[0] += FASTGD_FILL(V, x[i * row]) * *(const V *) (delta + i * k);                            \
      *(V *) g += ((s[0] + s[1]) + (s[2] + s[3])) * mask;                                                              \
  }                                                                                                                    \
  static void NAME##_backward(const T *x, ptrdiff_t row, const T *delta, ptrdiff_t k, ptrdiff_t m, ptrdiff_t d,        \
                              T *g, ptrdiff_t width) {                                                                 \
      enum { L = sizeof(V) / sizeof(T), J = FASTGD_SUMS_HELD };                                                        \
      ptrdiff_t j, c, first, t;                                                                                        \
      for (c = 0; c < width; c += L) {                                                                                 \
          V mask = FASTGD_FILL(V, (T) 1);                                                                              \
          first = c + L <= width ? c : width - L;                                                                      \
          for (t = 0; t < c - first; t++) ((T *) &mask)[t] = 0;                                                        \
          for (j = 0; j + J <= d; j += J) {                                                                            \
              if (first < c) NAME##_columns(x + j, row, delta + first, k, mask, 1, m, g + j * width + first, width);   \
              else NAME##_columns(x + j, row, delta + first, k, mask, 0, m, g + j * width + first, width);             \
          }                                                                                                            \
          for (; j < d; j++) NAME##_column(x + j, row, delta + first, k, mask, m, g + j * width + first);              \
      }                                                                                                                \
  }

/* The narrowest register that holds all outputs, or the widest that there is. */
#if defined(__GNUC__) || defined(__clang__)
  typedef double fastgd_two_doubles FASTGD_VECTOR(double, 16);
FASTGD_OUTPUTS(fastgd_doubles_16, double, fastgd_two_doubles)
FASTGD_OUTPUTS(fastgd_floats_16, float, fastgd_four_floats)
  #if FASTGD_REGISTER == 64
FASTGD_OUTPUTS(fastgd_doubles_32, double, fastgd_four_doubles)
FASTGD_OUTPUTS(fastgd_floats_32, float, fastgd_floats)
    #define FASTGD_HALF(T, WHAT) T##_32_##WHAT
  #else
    #define FASTGD_HALF(T, WHAT) T##_all_##WHAT
  #endif
FASTGD_OUTPUTS(fastgd_doubles_all, double, fastgd_doubles)
FASTGD_OUTPUTS(fastgd_floats_all, float, fastgd_all_floats)
  #define FASTGD_CHOSEN(T, WHAT, bytes)                                                                                \
      ((bytes) <= 16 ? T##_16_##WHAT : (bytes) <= 32 ? FASTGD_HALF(T, WHAT) : T##_all_##WHAT)
static ptrdiff_t fastgd_lanes_of_outputs(ptrdiff_t k, ptrdiff_t size) {
    ptrdiff_t bytes = k * size <= 16 ? 16 : k * size <= 32 ? 32 : 64;
    return (bytes < FASTGD_REGISTER ? bytes : FASTGD_REGISTER) / size;
}
#else
FASTGD_OUTPUTS(fastgd_doubles_all, double, double)
FASTGD_OUTPUTS(fastgd_floats_all, float, float)
  #define FASTGD_CHOSEN(T, WHAT, bytes) T##_all_##WHAT
static ptrdiff_t fastgd_lanes_of_outputs(ptrdiff_t k, ptrdiff_t size) { return 1; }
#endif

#define FASTGD_BY_WIDTH(NAME, T)                                                                                       \
  static void NAME##_many_forward(const T *x, ptrdiff_t row, const T *W, ptrdiff_t width, const T *b, ptrdiff_t m,     \
                                  ptrdiff_t d, T *h, ptrdiff_t k) {                                                    \
      FASTGD_CHOSEN(NAME, forward, k * (ptrdiff_t) sizeof(T))(x, row, W, width, b, m, d, h, k);                        \
  }                                                                                                                    \
  static void NAME##_many_backward(const T *x, ptrdiff_t row, const T *delta, ptrdiff_t k, ptrdiff_t m, ptrdiff_t d,   \
                                   T *g, ptrdiff_t width) {                                                            \
      FASTGD_CHOSEN(NAME, backward, k * (ptrdiff_t) sizeof(T))(x, row, delta, k, m, d, g, width);                      \
  }
FASTGD_BY_WIDTH(fastgd_doubles, double)
FASTGD_BY_WIDTH(fastgd_floats, float)

/* --------------------------------------------------------------------------------------------- two or four outputs

   H = XW + b and G += Xᵀδ with columns in the lanes of a register, for 2 or 4 outputs that are fewer than the lanes: W
   and G are (k, d), so each number of X is multiplied by k others and not by the L of a register of outputs. A row is
   taken as in `squares.h`. */

#define FASTGD_APART(NAME, T, V, V4, SUMS)                                                                             \
  FASTGD_INLINE void NAME##_forward_of(const T *x, ptrdiff_t row, const T *W, const T *b, ptrdiff_t m, ptrdiff_t d,    \
                                       T *h, const int K) {                                                            \
      enum { L = sizeof(V) / sizeof(T) };                                                                              \
      const ptrdiff_t whole = d - d % L, last = d - L;                                                                 \
      const int R = FASTGD_SUMS_HELD / K;                                                                              \
      V s[FASTGD_SUMS_HELD], w_last[4];                                                                                \
      V4 biases, t;                                                                                                    \
      ptrdiff_t i, j;                                                                                                  \
      int r, c;                                                                                                        \
      for (c = 0; c < 4; c++) {                                                                                        \
          biases[c] = b[c % K];                                                                                        \
          w_last[c] = FASTGD_FILL(V, (T) 0);                                                                           \
          for (j = whole; j < d && c < K; j++) ((T *) &w_last[c])[j - last] = W[c * d + j];                            \
      }                                                                                                                \
      for (i = 0; i + R <= m; i += R) {                                                                                \
          for (r = 0; r < R; r++)                                                                                      \
              for (c = 0; c < K; c++) s[r * K + c] = *(const V *) (x + r * row + last) * w_last[c];                    \
          for (j = 0; j < whole; j += L)                                                                               \
              for (c = 0; c < K; c++) {                                                                                \
                  V w = *(const V *) (W + c * d + j);                                                                  \
                  for (r = 0; r < R; r++) s[r * K + c] += *(const V *) (x + r * row + j) * w;                          \
              }                                                                                                        \
          *(V4 *) (h + i * K) = SUMS(s[0], s[1], s[2], s[3]) + biases;                                                 \
          *(V4 *) (h + i * K + 4) = SUMS(s[4], s[5], s[6], s[7]) + biases;                                             \
          x += R * row;                                                                                                \
      }                                                                                                                \
      for (c = K; c < 4; c++) s[c] = FASTGD_FILL(V, (T) 0);                                                            \
      for (; i < m; i++) {                                                                                             \
          for (c = 0; c < K; c++) s[c] = *(const V *) (x + last) * w_last[c];                                          \
          for (j = 0; j < whole; j += L)                                                                               \
              for (c = 0; c < K; c++) s[c] += *(const V *) (x + j) * *(const V *) (W + c * d + j);                     \
          t = SUMS(s[0], s[1], s[2], s[3]) + biases;                                                                   \
          for (c = 0; c < K; c++) h[i * K + c] = t[c];                                                                 \
          x += row;                                                                                                    \
      }                                                                                                                \
  }                                                                                                                    \
  FASTGD_INLINE void NAME##_some_rows(const T *x, ptrdiff_t row, const T *delta, ptrdiff_t d, T *g, V *g_last,         \
                                      const int K, const int R) {                                                      \
      enum { L = sizeof(V) / sizeof(T) };                                                                              \
      const ptrdiff_t whole = d - d % L, last = d - L;                                                                 \
      V e[FASTGD_SUMS_HELD], p[4];                                                                                     \
      ptrdiff_t j;                                                                                                     \
      int r, c;                                                                                                        \
      for (r = 0; r < R * K; r++) e[r] = FASTGD_FILL(V, delta[r]);                                                     \
      for (j = 0; j < whole; j += L) {                                                                                 \
          for (r = 0; r < R; r++) p[r] = *(const V *) (x + r * row + j);                                               \
          for (c = 0; c < K; c++) {                                                                                    \
              V a = *(V *) (g + c * d + j);                                                                            \
              for (r = 0; r < R; r++) a += p[r] * e[r * K + c];                                                        \
              *(V *) (g + c * d + j) = a;                                                                              \
          }                                                                                                            \
      }                                                                                                                \
      if (whole < d)                                                                                                   \
          for (r = 0; r < R; r++)                                                                                      \
              for (c = 0; c < K; c++) g_last[c] += *(const V *) (x + r * row + last) * e[r * K + c];                   \
  }                                                                                                                    \
  FASTGD_INLINE void NAME##_backward_of(const T *x, ptrdiff_t row, const T *delta, ptrdiff_t m, ptrdiff_t d, T *g,     \
                                        const int K) {                                                                 \
      enum { L = sizeof(V) / sizeof(T) };                                                                              \
      const int R = FASTGD_SUMS_HELD / K;                                                                              \
      V g_last[4];                                                                                                     \
      ptrdiff_t i, j;                                                                                                  \
      int c;                                                                                                           \
      for (c = 0; c < K; c++) g_last[c] = FASTGD_FILL(V, (T) 0);                                                       \
      for (i = 0; i + R <= m; i += R) NAME##_some_rows(x + i * row, row, delta + i * K, d, g, g_last, K, R);           \
      for (; i < m; i++) NAME##_some_rows(x + i * row, row, delta + i * K, d, g, g_last, K, 1);                        \
      for (c = 0; c < K; c++)                                                                                          \
          for (j = d - d % L; j < d; j++) g[c * d + j] += ((T *) &g_last[c])[j - (d - L)];                             \
  }                                                                                                                    \
  static void NAME##_forward(const T *x, ptrdiff_t row, const T *W, const T *b, ptrdiff_t m, ptrdiff_t d, T *h,        \
                             ptrdiff_t k) {                                                                            \
      if (k == 2) NAME##_forward_of(x, row, W, b, m, d, h, 2);                                                         \
      else NAME##_forward_of(x, row, W, b, m, d, h, 4);                                                                \
  }                                                                                                                    \
  static void NAME##_backward(const T *x, ptrdiff_t row, const T *delta, ptrdiff_t k, ptrdiff_t m, ptrdiff_t d, T *g) {\
      if (k == 2) NAME##_backward_of(x, row, delta, m, d, g, 2);                                                       \
      else NAME##_backward_of(x, row, delta, m, d, g, 4);                                                              \
  }

#if defined(__GNUC__) || defined(__clang__)
FASTGD_APART(fastgd_apart_doubles, double, fastgd_doubles, fastgd_four_doubles, fastgd_sums_doubles)
FASTGD_APART(fastgd_apart_floats, float, fastgd_floats, fastgd_four_floats, fastgd_sums_floats)
  #if FASTGD_REGISTER == 64
FASTGD_APART(fastgd_apart_four_doubles, double, fastgd_four_doubles, fastgd_four_doubles, fastgd_sums_four_doubles)
FASTGD_APART(fastgd_apart_all_floats, float, fastgd_all_floats, fastgd_four_floats, fastgd_sums_all_floats)
    #define FASTGD_APART_DOUBLES(WHAT) (d < 8 ? fastgd_apart_four_doubles_##WHAT : fastgd_apart_doubles_##WHAT)
    #define FASTGD_APART_FLOATS(WHAT) (d < 16 ? fastgd_apart_floats_##WHAT : fastgd_apart_all_floats_##WHAT)
  #else
    #define FASTGD_APART_DOUBLES(WHAT) fastgd_apart_doubles_##WHAT
    #define FASTGD_APART_FLOATS(WHAT) fastgd_apart_floats_##WHAT
  #endif
/* Whether that is for k outputs of d columns: where the products of a row, and the sums of registers, which take about
   as long as three products each way, are fewer than with outputs in the lanes. */
static int fastgd_is_apart(ptrdiff_t k, ptrdiff_t d, ptrdiff_t size) {
    ptrdiff_t lanes = (d * size < FASTGD_REGISTER && FASTGD_REGISTER > 32 ? 32 : FASTGD_REGISTER) / size;
    return (k == 2 || k == 4) && d >= lanes && k * ((d + lanes - 1) / lanes + 3) <= d;
}
#else
  #define FASTGD_APART_DOUBLES(WHAT) (void)
  #define FASTGD_APART_FLOATS(WHAT) (void)
static int fastgd_is_apart(ptrdiff_t k, ptrdiff_t d, ptrdiff_t size) { return 0; }
#endif
static void fastgd_doubles_apart_forward(const double *x, ptrdiff_t row, const double *W, const double *b, ptrdiff_t m,
                                         ptrdiff_t d, double *h, ptrdiff_t k) {
    FASTGD_APART_DOUBLES(forward)(x, row, W, b, m, d, h, k);
}
static void fastgd_doubles_apart_backward(const double *x, ptrdiff_t row, const double *delta, ptrdiff_t k, ptrdiff_t m,
                                          ptrdiff_t d, double *g) {
    FASTGD_APART_DOUBLES(backward)(x, row, delta, k, m, d, g);
}
static void fastgd_floats_apart_forward(const float *x, ptrdiff_t row, const float *W, const float *b, ptrdiff_t m,
                                        ptrdiff_t d, float *h, ptrdiff_t k) {
    FASTGD_APART_FLOATS(forward)(x, row, W, b, m, d, h, k);
}
static void fastgd_floats_apart_backward(const float *x, ptrdiff_t row, const float *delta, ptrdiff_t k, ptrdiff_t m,
                                         ptrdiff_t d, float *g) {
    FASTGD_APART_FLOATS(backward)(x, row, delta, k, m, d, g);
}
