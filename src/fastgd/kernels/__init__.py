"""The seam between the Python API and the loops: picks one build of the kernels.

`active` is the build in use, loaded when it is first used; its attributes are the kernels, named and specified in
`reference/`. Other modules call `kernels.active.total_loss(…)` and never import a build themselves.

FASTGD_KERNELS=reference|baseline|x86_64_v3|x86_64_v4 forces one; without it the fastest that this CPU can run is taken.
A build that is missing, or that the CPU cannot run, is an error at import: never a silent slow path.
"""

import functools
import importlib
import importlib.util
import os
import types

# Compiled levels from slow to fast, with the CPU features that setup.py lets the compiler use in each.
REQUIRES = {
    "baseline": set(),
    "x86_64_v3": {"avx2", "fma"},
    "x86_64_v4": {"avx2", "fma", "avx512f", "avx512cd", "avx512bw", "avx512dq", "avx512vl"},
}
NAMES = ("reference", *REQUIRES)
BUILD_COMMAND = "pip install ."

# What a build must offer: all public functions of the specification that are kernels.
ONE_LAYER = (
    "total_loss",
    "total_loss_and_gradient",
    "block_sums",
    "value_from_sums",
    "value_and_gradient",
    "predict",
    "update",
    "apply_activation",
    "apply_derivative",
    "optimizer_step",
    "descend",
    "shuffle",
    "stochastic",
    "sparse_pass",
    "sparse_stochastic",
)
PERTURBED = ("perturbed_pass", "sparse_perturbed_pass")
FUNCTIONS = ("descend_function",)
COORDINATES = (
    "column_moments", "column_sums", "coordinate_descent", "sparse_coordinate_descent", "gram_coordinate_descent",
    "gram_group_descent", "take_columns", "softmax_descent", "sparse_softmax_descent",
)  # fmt: skip
DIFFERENCES = ("evaluate", "sample", "central_differences", "batched_differences", "central_slopes")


def _compiled(name):
    try:
        return importlib.import_module(f"fastgd.kernels.{name}")
    except ImportError as error:
        raise _not_loaded(name, error) from error


def _not_loaded(name, why):
    return ImportError(
        f"the compiled kernels 'fastgd.kernels.{name}' cannot be loaded ({why}); build them with "
        f"`{BUILD_COMMAND}` in the source directory, or set FASTGD_KERNELS=reference to run the slow ones in NumPy"
    )


def cpu_features():
    """Names of the CPU features that matter to the builds and are present here."""
    return _compiled("cpu").features()


def available():
    """Names of the builds that this installation has and this CPU runs, from slow to fast.

    A CPU names features only where setup.py builds the levels that use them (`cpu.pyx`), so a level that is listed here
    and not installed is a broken installation, and loading it says so.
    """
    names = ["reference", "baseline"]
    features = cpu_features()
    for name, needs in REQUIRES.items():
        if needs and needs <= features:
            names.append(name)
    return names


def installed(name):
    """Whether the build `name` can be loaded, all the modules that it needs being there."""
    try:
        load(name)
    except ImportError:
        return False
    return True


def load(name):
    """The build `name` as a namespace of kernels.

    Raises
    ------
    ValueError
        No build has that name.
    ImportError
        The build is not installed, or this CPU lacks a feature that it needs.
    """
    check(name)
    if name == "reference":
        reference = importlib.import_module("fastgd.kernels.reference")
        sources = (
            dict.fromkeys(ONE_LAYER, reference.one_layer)
            | dict.fromkeys(PERTURBED, reference.perturbed)
            | dict.fromkeys(FUNCTIONS, reference.functions)
            | dict.fromkeys(COORDINATES, reference.coordinates)
            | dict.fromkeys(DIFFERENCES, reference.differences)
        )
    else:
        sources = dict.fromkeys((*ONE_LAYER, *PERTURBED, *FUNCTIONS, *COORDINATES), _compiled(name))
        sources |= dict.fromkeys(DIFFERENCES, _compiled("differences"))
    return types.SimpleNamespace(name=name, **{kernel: getattr(module, kernel) for kernel, module in sources.items()})


def check(name):
    """Raise the errors of `load` that can be told without loading."""
    if name not in NAMES:
        raise ValueError(f"FASTGD_KERNELS must be one of {', '.join(NAMES)}; got {name!r}")
    if name == "reference":
        return
    if missing := REQUIRES[name] - cpu_features():
        raise ImportError(
            f"FASTGD_KERNELS={name} needs the CPU features {', '.join(sorted(missing))}, which this machine lacks; "
            f"it can run {', '.join(available())}"
        )
    for module in (name, "differences"):
        if importlib.util.find_spec(f"fastgd.kernels.{module}") is None:
            raise _not_loaded(module, "there is no such file")


@functools.cache
def gemm(dtype):
    """The matrix product of scipy's BLAS for a dtype, as the PyCapsule that kernels of several outputs take.

    Importing it takes 0.15 s, so it is imported when first asked for.
    """
    from scipy.linalg import cython_blas

    return cython_blas.__pyx_capi__["dgemm" if dtype == "float64" else "sgemm"]


def select(name):
    """Make `name` the active build for the whole process; returns it. Meant for tests and benchmarks."""
    global active
    active = load(name)
    return active


def __getattr__(name):
    if name == "active":  # loading a build imports NumPy, which the command line's help does not need
        return select(_chosen)
    raise AttributeError(f"module 'fastgd.kernels' has no attribute {name!r}")


_chosen = os.environ.get("FASTGD_KERNELS") or available()[-1]
check(_chosen)
