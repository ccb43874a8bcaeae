"""Builds the kernels: one shared source, compiled once for each CPU level, picked among at import.

Everything declarative is in pyproject.toml; here is only what needs a program: which levels this platform has, and the
compiler flags of each.
"""

import os
import platform
import sys

from Cython.Build import cythonize
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

KERNELS = "src/fastgd/kernels"

# What each level may use. `fastgd.kernels` asks the CPU for exactly these features before it loads the level, so the
# two lists (REQUIRES there) must name the same ones. Single features, not -march=x86-64-v3, because a -march name also
# lets the compiler emit instructions that nobody checked for.
LEVEL_FLAGS = {
    "baseline": [],
    "x86_64_v3": ["-mavx2", "-mfma"],
    "x86_64_v4": [
        "-mavx2",
        "-mfma",
        "-mavx512f",
        "-mavx512cd",
        "-mavx512bw",
        "-mavx512dq",
        "-mavx512vl",
        "-mprefer-vector-width=512",
    ],
}

# No -ffast-math and no part of it that reorders sums: it deletes tests for NaN, breaks the argument reduction of exp,
# and linking with it flushes subnormals in the whole process. What may run in parallel is written so in the source.
# Without -fno-trapping-math the compiler would not vectorise a choice between two numbers; nobody here looks at the
# floating-point exception flags.
# The limit of inlining leaves out a quarter of the code and of the time of a build; as many instructions are executed.
UNIX_FLAGS = ["-O3", "-finline-limit=100", "-g0", "-fno-math-errno", "-fno-trapping-math"]

DIRECTIVES = {
    "language_level": 3,
    "boundscheck": False,
    "wraparound": False,
    "initializedcheck": False,
    "cdivision": True,
    "embedsignature": True,
    "embedsignature.format": "python",
    "binding": True,
}
if os.environ.get("FASTGD_DEBUG_BUILD"):
    DIRECTIVES.update(boundscheck=True, wraparound=False, initializedcheck=True)


def levels():
    """The CPU levels that are built here: all three on x86-64, the baseline elsewhere (and with MSVC)."""
    x86 = platform.machine().lower() in ("x86_64", "amd64") and sys.platform != "win32"
    return list(LEVEL_FLAGS) if x86 else ["baseline"]


def extension(name, *depends, flags=()):
    return Extension(
        f"fastgd.kernels.{name}",
        [f"{KERNELS}/{name}.pyx"],
        depends=[f"{KERNELS}/{file}" for file in depends],
        include_dirs=[KERNELS],
        extra_compile_args=[] if sys.platform == "win32" else [*UNIX_FLAGS, *flags],
    )


class BuildInParallel(build_ext):
    """Compile one extension per core: the levels are independent of each other."""

    def finalize_options(self):
        super().finalize_options()
        if not self.parallel:
            self.parallel = os.cpu_count() or 1


extensions = [
    extension("cpu"),
    extension("differences", "differences.pxd", "callbacks.pxd", "central.pxd"),
    *(
        extension(
            level,
            "one_layer.pxi",
            "sparse.pxi",
            "loops.pxi",
            "updates.pxi",
            "small_table.pxi",
            "single_rows.pxi",
            "single_sparse_rows.pxi",
            "perturbed.pxi",
            "functions.pxi",
            "coordinates.pxi",
            "softmax_coordinates.pxi",
            "lanes.pxi",
            "registers.h",
            "squares.h",
            "one_output.pxi",
            "losses.pxi",
            "stages.pxi",
            "transcendental.pxi",
            "formulas.pxd",
            "callbacks.pxd",
            "central.pxd",
            "differences.pxd",
            flags=LEVEL_FLAGS[level],
        )
        for level in levels()
    ),
]

setup(
    # The C goes to build/, so that neither the source tree nor an sdist ever holds any.
    ext_modules=cythonize(extensions, build_dir="build/cython", compiler_directives=DIRECTIVES),
    cmdclass={"build_ext": BuildInParallel},
)
