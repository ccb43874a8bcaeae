"""What this CPU can do, and what compiled the kernels: asked once, at import."""

cdef extern from *:
    """
    /* Exactly where setup.py builds more levels than the baseline. */
    #if (defined(__GNUC__) || defined(__clang__)) && defined(__x86_64__) && !defined(_WIN32)
      #define FASTGD_ASK(feature) (__builtin_cpu_supports(feature) != 0)
      #define FASTGD_ASK_INIT() __builtin_cpu_init()
    #else
      #define FASTGD_ASK(feature) 0
      #define FASTGD_ASK_INIT() ((void) 0)
    #endif
    #if defined(__clang__)
      #define FASTGD_COMPILER "clang " __clang_version__
    #elif defined(__GNUC__)
      #define FASTGD_COMPILER "gcc " __VERSION__
    #elif defined(_MSC_VER)
      #define FASTGD_STRING_(x) #x
      #define FASTGD_STRING(x) FASTGD_STRING_(x)
      #define FASTGD_COMPILER "msvc " FASTGD_STRING(_MSC_VER)
    #else
      #define FASTGD_COMPILER "unknown"
    #endif
    """
    const char* FASTGD_COMPILER
    void FASTGD_ASK_INIT()
    # The argument must be a literal in C, so each feature is one name here.
    bint has_avx2 "FASTGD_ASK(\"avx2\")"
    bint has_fma "FASTGD_ASK(\"fma\")"
    bint has_avx512f "FASTGD_ASK(\"avx512f\")"
    bint has_avx512cd "FASTGD_ASK(\"avx512cd\")"
    bint has_avx512bw "FASTGD_ASK(\"avx512bw\")"
    bint has_avx512dq "FASTGD_ASK(\"avx512dq\")"
    bint has_avx512vl "FASTGD_ASK(\"avx512vl\")"


def features():
    """The features that a kernel build may need and this CPU (and its operating system) has, as a set of names."""
    FASTGD_ASK_INIT()
    answers = {
        "avx2": has_avx2, "fma": has_fma, "avx512f": has_avx512f, "avx512cd": has_avx512cd,
        "avx512bw": has_avx512bw, "avx512dq": has_avx512dq, "avx512vl": has_avx512vl,
    }
    return {name for name, has in answers.items() if has}


def compiler():
    """The compiler of the kernels, with its version."""
    return FASTGD_COMPILER.decode()
