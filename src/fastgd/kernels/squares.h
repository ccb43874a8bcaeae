/* The squared loss with identity activation and one output: forward, error term and backward of a few rows at once,
   while they are in registers or in the nearest cache, and the memory is asked for rows to come. The error term of this
   model is so short that its way through memory, block by block, would cost as much again.

   A row is taken as whole registers V of L lanes, and one more at its end that reaches back over numbers which have
   been seen: they count there with a weight of 0, and nothing of it goes to their gradient. See benchmarks/widths.py
   for the times of each way. */

#if FASTGD_REGISTER >= 32
  #define FASTGD_SHORT 8 /* registers of a row up to which there is a loop for their number */
#else
  #define FASTGD_SHORT 4
#endif
#define FASTGD_AGAIN 256            /* bytes from the numbers in use of rows seen before to those asked for again */

/* ----------------------------------------------------------------------------------------------------- short rows

   Four rows of N registers at a time, N known to the compiler: the rows, w and g stay in registers. Returns how many
   rows were done, a multiple of 4. g NULL: the value alone. */

#define FASTGD_SHORT_ROWS(NAME, T, V, V4, SUMS, WIDENED, MORE)                                                         \
  FASTGD_INLINE ptrdiff_t NAME##_of(const T *x, ptrdiff_t row, const T *w, T b, const T *y, const T *c, ptrdiff_t m,   \
                                    ptrdiff_t d, T *g, double *total, double *slopes, ptrdiff_t ahead,                 \
                                    const int N) {                                                                     \
      enum { L = sizeof(V) / sizeof(T), MOST = FASTGD_SHORT };                                                         \
      const ptrdiff_t last = d - L;                                                                                    \
      const int A = N <= 2 ? 4 : N <= 4 ? 2 : 1; /* sums of g side by side, so that none waits for another */          \
      V v[MOST], a[MOST][4];                                                                                           \
      fastgd_four_doubles squares = {0}, sums = squares, wide;                                                         \
      ptrdiff_t i, j;                                                                                                  \
      int k, r;                                                                                                        \
      for (k = 0; k < N; k++) {                                                                                        \
          for (r = 0; r < 4; r++) a[k][r] = FASTGD_FILL(V, (T) 0);                                                     \
          v[k] = FASTGD_FILL(V, (T) 0);                                                                                \
          if (k < N - 1) v[k] = *(const V *) (w + k * L);                                                              \
      }                                                                                                                \
      for (j = (N - 1) * L; j < d; j++) ((T *) &v[N - 1])[j - last] = w[j];                                            \
      for (i = 0; i + 4 <= m; i += 4) {                                                                                \
          V p[4][MOST], s[4];                                                                                          \
          V4 t;                                                                                                        \
          for (r = 0; r < 4; r++) {                                                                                    \
              for (k = 0; k < N; k++) p[r][k] = *(const V *) (x + r * row + (k < N - 1 ? k * L : last));               \
              s[r] = p[r][0] * v[0];                                                                                   \
              for (k = 1; k < N; k++) s[r] += p[r][k] * v[k];                                                          \
          }                                                                                                            \
          if (ahead)                                                                                                   \
              for (k = 0; k < N * 4 * (int) sizeof(V); k += 64)                                                        \
                  FASTGD_PREFETCH((const char *) x + ahead + k);                                                       \
          t = SUMS(s[0], s[1], s[2], s[3]) + b - *(const V4 *) (y + i);                                                \
          wide = WIDENED(t);                                                                                           \
          if (c) t *= *(const V4 *) (c + i);                                                                           \
          squares += wide * WIDENED(t);                                                                                \
          sums += WIDENED(t);                                                                                          \
          if (g)                                                                                                       \
              for (r = 0; r < 4; r++) {                                                                                \
                  V e = FASTGD_FILL(V, t[r]);                                                                          \
                  for (k = 0; k < N; k++) a[k][r % A] += p[r][k] * e;                                                  \
              }                                                                                                        \
          x += 4 * row;                                                                                                \
      }                                                                                                                \
      if (g) {                                                                                                         \
          for (k = 0; k < N; k++) a[k][0] = (a[k][0] + a[k][1]) + (a[k][2] + a[k][3]);                                 \
          for (k = 0; k < N - 1; k++) *(V *) (g + k * L) += a[k][0];                                                   \
          for (j = (N - 1) * L; j < d; j++) g[j] += ((T *) &a[N - 1][0])[j - last];                                    \
      }                                                                                                                \
      *total += 0.5 * ((squares[0] + squares[1]) + (squares[2] + squares[3]));                                         \
      *slopes += (sums[0] + sums[1]) + (sums[2] + sums[3]);                                                            \
      return i;                                                                                                        \
  }                                                                                                                    \
  static ptrdiff_t NAME(const T *x, ptrdiff_t row, const T *w, T b, const T *y, const T *c, ptrdiff_t m, ptrdiff_t d,  \
                        T *g, double *total, double *slopes, ptrdiff_t ahead) {                                        \
      const ptrdiff_t L = sizeof(V) / sizeof(T);                                                                       \
      switch ((d + L - 1) / L) {                                                                                       \
      case 1: return NAME##_of(x, row, w, b, y, c, m, d, g, total, slopes, ahead, 1);                                  \
      case 2: return NAME##_of(x, row, w, b, y, c, m, d, g, total, slopes, ahead, 2);                                  \
      MORE(NAME)                                                                                                       \
      }                                                                                                                \
      return 0;                                                                                                        \
  }

#define FASTGD_NO_MORE(NAME)
#define FASTGD_CASE(NAME, N) case N: return NAME##_of(x, row, w, b, y, c, m, d, g, total, slopes, ahead, N);
#if FASTGD_SHORT == 8
  #define FASTGD_UP_TO_SHORT(NAME)                                                                                     \
      FASTGD_CASE(NAME, 3) FASTGD_CASE(NAME, 4) FASTGD_CASE(NAME, 5) FASTGD_CASE(NAME, 6) FASTGD_CASE(NAME, 7)         \
      FASTGD_CASE(NAME, 8)
#else
  #define FASTGD_UP_TO_SHORT(NAME) FASTGD_CASE(NAME, 3) FASTGD_CASE(NAME, 4)
#endif
#if FASTGD_REGISTER == 64 /* more go to wider registers */
  #define FASTGD_SHORT_FLOATS FASTGD_NO_MORE
#else
  #define FASTGD_SHORT_FLOATS FASTGD_UP_TO_SHORT
#endif

/* ------------------------------------------------------------------------------------------------------ long rows

   R rows at a time, and the backward of the R rows before in the same loop: w and g are loaded and stored once for R
   rows, and the memory always has something to do. `in_line` is that of the loop in `registers.h`. Returns how many
   rows were done, a multiple of 2. */

#define FASTGD_LONG_ROWS(NAME, T, V, V4, SUMS, WIDENED)                                                                \
  FASTGD_INLINE ptrdiff_t NAME##_of(const T *x, ptrdiff_t row, const T *w, T b, const T *y, const T *c, ptrdiff_t m,   \
                                    ptrdiff_t d, T *g, double *total, double *slopes, int in_line, const int R) {      \
      enum { L = sizeof(V) / sizeof(T) };                                                                              \
      const ptrdiff_t whole = d - d % L, last = d - L, bytes = row * (ptrdiff_t) sizeof(T);                            \
      V w_last = FASTGD_FILL(V, (T) 0), g_last = w_last, e[4], s[4];                                                   \
      fastgd_four_doubles squares = {0}, sums = squares, wide;                                                         \
      const ptrdiff_t between = in_line ? (ptrdiff_t) sizeof(V) : bytes;                                               \
      const ptrdiff_t step = (in_line ? R : 1) * (ptrdiff_t) sizeof(V);                                                \
      const T *z = x;                                                                                                  \
      ptrdiff_t i, j;                                                                                                  \
      int r;                                                                                                           \
      for (j = whole; j < d; j++) ((T *) &w_last)[j - last] = w[j];                                                    \
      for (r = 0; r < 4; r++) s[r] = e[r] = FASTGD_FILL(V, (T) 0);                                                     \
      for (i = 0; i + R <= m; i += R) {                                                                                \
          const char *ahead = (const char *) x + (in_line ? R * bytes + FASTGD_BEYOND : FASTGD_SOON);                  \
          const char *again = (const char *) z + FASTGD_AGAIN;                                                         \
          V4 t;                                                                                                        \
          for (r = 0; r < R; r++) s[r] = *(const V *) (x + r * row + last) * w_last;                                   \
          if (!g)                                                                                                      \
              for (j = 0; j < whole; j += L) {                                                                         \
                  V v = *(const V *) (w + j);                                                                          \
                  for (r = 0; r < R; r++) {                                                                            \
                      s[r] += *(const V *) (x + r * row + j) * v;                                                      \
                      FASTGD_PREFETCH(ahead + r * between);                                                            \
                  }                                                                                                    \
                  ahead += step;                                                                                       \
              }                                                                                                        \
          else if (!in_line)                                                                                           \
              for (j = 0; j < whole; j += L) {                                                                         \
                  V v = *(const V *) (w + j), a = *(V *) (g + j);                                                      \
                  for (r = 0; r < R; r++) {                                                                            \
                      s[r] += *(const V *) (x + r * row + j) * v;                                                      \
                      a += *(const V *) (z + r * row + j) * e[r];                                                      \
                      FASTGD_PREFETCH(ahead + r * bytes);                                                              \
                      FASTGD_PREFETCH(again + r * bytes);                                                              \
                  }                                                                                                    \
                  *(V *) (g + j) = a;                                                                                  \
                  ahead += sizeof(V);                                                                                  \
                  again += sizeof(V);                                                                                  \
              }                                                                                                        \
          else                                                                                                         \
              for (j = 0; j < whole; j += L) {                                                                         \
                  V v = *(const V *) (w + j), a = *(V *) (g + j);                                                      \
                  for (r = 0; r < R; r++) {                                                                            \
                      s[r] += *(const V *) (x + r * row + j) * v;                                                      \
                      a += *(const V *) (z + r * row + j) * e[r];                                                      \
                      FASTGD_PREFETCH(ahead + r * (ptrdiff_t) sizeof(V));                                              \
                  }                                                                                                    \
                  *(V *) (g + j) = a;                                                                                  \
                  ahead += R * sizeof(V);                                                                              \
              }                                                                                                        \
          if (g && whole < d)                                                                                          \
              for (r = 0; r < R; r++) g_last += *(const V *) (z + r * row + last) * e[r];                              \
          t = SUMS(s[0], s[1], s[2], s[3]);                                                                            \
          for (r = 0; r < R; r++) t[r] += b - y[i + r];                                                                \
          wide = WIDENED(t);                                                                                           \
          if (c)                                                                                                       \
              for (r = 0; r < R; r++) t[r] *= c[i + r];                                                                \
          squares += wide * WIDENED(t);                                                                                \
          sums += WIDENED(t);                                                                                          \
          for (r = 0; r < R; r++) e[r] = FASTGD_FILL(V, t[r]);                                                         \
          z = x;                                                                                                       \
          x += R * row;                                                                                                \
      }                                                                                                                \
      if (g && i) {                                                                                                    \
          for (j = 0; j < whole; j += L)                                                                               \
              for (r = 0; r < R; r++) *(V *) (g + j) += *(const V *) (z + r * row + j) * e[r];                         \
          for (r = 0; r < R; r++) g_last += *(const V *) (z + r * row + last) * e[r];                                  \
          for (j = whole; j < d; j++) g[j] += ((T *) &g_last)[j - last];                                               \
      }                                                                                                                \
      *total += 0.5 * ((squares[0] + squares[1]) + (squares[2] + squares[3]));                                         \
      *slopes += (sums[0] + sums[1]) + (sums[2] + sums[3]);                                                            \
      return i;                                                                                                        \
  }                                                                                                                    \
  static ptrdiff_t NAME(const T *x, ptrdiff_t row, const T *w, T b, const T *y, const T *c, ptrdiff_t m, ptrdiff_t d,  \
                        T *g, double *total, double *slopes, int in_line, int rows) {                                  \
      ptrdiff_t i = 0;                                                                                                 \
      if (rows == 4) i = NAME##_of(x, row, w, b, y, c, m, d, g, total, slopes, in_line, 4);                            \
      return i + NAME##_of(x + i * row, row, w, b, y + i, c ? c + i : c, m - i, d, g, total, slopes, in_line, 2);      \
  }

/* ----------------------------------------------------------------------------------------------------- which loop

   The widest registers that a row fills; an X that is read from memory (`far`) is read faster through narrower ones.
   `ahead`: how many bytes before they are used the memory is asked for short rows; 0 for never. */

#if defined(__GNUC__) || defined(__clang__)
  #define FASTGD_SAME(v) (v)
FASTGD_SHORT_ROWS(fastgd_short_doubles, double, fastgd_doubles, fastgd_four_doubles, fastgd_sums_doubles, FASTGD_SAME,
                  FASTGD_UP_TO_SHORT)
FASTGD_LONG_ROWS(fastgd_long_doubles, double, fastgd_doubles, fastgd_four_doubles, fastgd_sums_doubles, FASTGD_SAME)
FASTGD_SHORT_ROWS(fastgd_short_floats, float, fastgd_floats, fastgd_four_floats, fastgd_sums_floats, fastgd_widened,
                  FASTGD_SHORT_FLOATS)
  #if FASTGD_REGISTER >= 32
FASTGD_SHORT_ROWS(fastgd_short_four_floats, float, fastgd_four_floats, fastgd_four_floats, fastgd_sums_four_floats,
                  fastgd_widened, FASTGD_NO_MORE)
  #endif
  #if FASTGD_REGISTER == 64
FASTGD_SHORT_ROWS(fastgd_short_four_doubles, double, fastgd_four_doubles, fastgd_four_doubles, fastgd_sums_four_doubles,
                  FASTGD_SAME, FASTGD_NO_MORE)
FASTGD_LONG_ROWS(fastgd_far_doubles, double, fastgd_four_doubles, fastgd_four_doubles, fastgd_sums_four_doubles,
                 FASTGD_SAME)
FASTGD_SHORT_ROWS(fastgd_short_all_floats, float, fastgd_all_floats, fastgd_four_floats, fastgd_sums_all_floats,
                  fastgd_widened, FASTGD_UP_TO_SHORT)
FASTGD_LONG_ROWS(fastgd_long_all_floats, float, fastgd_all_floats, fastgd_four_floats, fastgd_sums_all_floats,
                 fastgd_widened)
  #endif
FASTGD_LONG_ROWS(fastgd_long_floats, float, fastgd_floats, fastgd_four_floats, fastgd_sums_floats, fastgd_widened)

static ptrdiff_t fastgd_doubles_squares(const double *x, ptrdiff_t row, const double *w, double b, const double *y,
                                        const double *c, ptrdiff_t m, ptrdiff_t d, double *g, double *total,
                                        double *slopes, ptrdiff_t ahead, int in_line, int rows, int far) {
  #if FASTGD_REGISTER == 64
    if (d < 8) return fastgd_short_four_doubles(x, row, w, b, y, c, m, d, g, total, slopes, ahead);
  #endif
    if (d <= (ptrdiff_t) (FASTGD_SHORT * sizeof(fastgd_doubles) / sizeof(double)))
        return fastgd_short_doubles(x, row, w, b, y, c, m, d, g, total, slopes, ahead);
  #if FASTGD_REGISTER == 64
    if (far) return fastgd_far_doubles(x, row, w, b, y, c, m, d, g, total, slopes, in_line, rows);
  #endif
    return fastgd_long_doubles(x, row, w, b, y, c, m, d, g, total, slopes, in_line, rows);
}

static ptrdiff_t fastgd_floats_squares(const float *x, ptrdiff_t row, const float *w, float b, const float *y,
                                       const float *c, ptrdiff_t m, ptrdiff_t d, float *g, double *total,
                                       double *slopes, ptrdiff_t ahead, int in_line, int rows, int far) {
  #if FASTGD_REGISTER >= 32
    if (d < 8) return fastgd_short_four_floats(x, row, w, b, y, c, m, d, g, total, slopes, ahead);
  #endif
  #if FASTGD_REGISTER == 64
    if (d >= 16 && d <= (ptrdiff_t) (FASTGD_SHORT * sizeof(fastgd_all_floats) / sizeof(float)))
        return fastgd_short_all_floats(x, row, w, b, y, c, m, d, g, total, slopes, ahead);
    if (d >= 16 && !far) return fastgd_long_all_floats(x, row, w, b, y, c, m, d, g, total, slopes, in_line, rows);
  #endif
    if (d <= (ptrdiff_t) (FASTGD_SHORT * sizeof(fastgd_floats) / sizeof(float)))
        return fastgd_short_floats(x, row, w, b, y, c, m, d, g, total, slopes, ahead);
    return fastgd_long_floats(x, row, w, b, y, c, m, d, g, total, slopes, in_line, rows);
}
#else
  #define FASTGD_NO_SQUARES(NAME, T) /* without registers of several lanes the stages go one after another */          \
    static ptrdiff_t NAME(const T *x, ptrdiff_t row, const T *w, T b, const T *y, const T *c, ptrdiff_t m,             \
                          ptrdiff_t d, T *g, double *total, double *slopes, ptrdiff_t ahead, int in_line, int rows,    \
                          int far) {                                                                                   \
        return 0;                                                                                                      \
    }
FASTGD_NO_SQUARES(fastgd_doubles_squares, double)
FASTGD_NO_SQUARES(fastgd_floats_squares, float)
#endif
