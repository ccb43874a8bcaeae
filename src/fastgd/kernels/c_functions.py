"""C functions as users hold them: recognised, their signature read, and made into what the kernels call."""

import ctypes
import functools
import re
import sys

from fastgd import validation
from fastgd.kernels.c_code import CFunction, CGradient, CLoss, CValueAndGradient

# What is returned and what comes behind n, for each kind of C function; user_data may be left out.
SIGNATURES = {
    CFunction: ("double", ["double*"], "double (n, double *x, void *user_data)"),
    CGradient: ("void", ["double*", "double*"], "void (n, double *x, double *gradient, void *user_data)"),
    CLoss: (
        "void",
        ["double*"] * 4,
        "void (n, const double *h, const double *y, double *value, double *slope, void *user_data)",
    ),
    CValueAndGradient: (
        "double",
        ["double*", "double*"],
        "double (n, double *x, double *gradient, void *user_data)",
    ),
}

# Names of the types that n may have, with their sizes in bytes here.
INTEGERS = {
    "int": ctypes.sizeof(ctypes.c_int),
    "long": ctypes.sizeof(ctypes.c_long),
    "long int": ctypes.sizeof(ctypes.c_long),
    "long long": ctypes.sizeof(ctypes.c_longlong),
    **dict.fromkeys(("intptr_t", "ssize_t", "Py_ssize_t", "ptrdiff_t", "npy_intp"), ctypes.sizeof(ctypes.c_ssize_t)),
    "int32_t": 4,
    "int64_t": 8,
}
MOST_IN_AN_INT = 2 ** (8 * ctypes.sizeof(ctypes.c_int) - 1) - 1

_api = ctypes.pythonapi
_get_name = ctypes.PYFUNCTYPE(ctypes.c_char_p, ctypes.py_object)(("PyCapsule_GetName", _api))
_get_pointer = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.py_object, ctypes.c_char_p)(("PyCapsule_GetPointer", _api))
_get_context = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.py_object)(("PyCapsule_GetContext", _api))


def is_c(f):
    """Whether f is a scipy.LowLevelCallable or a numba cfunc, found out without importing either."""
    return _is(f, "scipy._lib._ccallback", "LowLevelCallable") or _is(f, "numba.core.ccallback", "CFunc")


def _is(f, module, name):
    # An object of the class cannot be there before its module is.
    kind = getattr(sys.modules.get(module), name, None)
    return kind is not None and isinstance(f, kind)


def c_function(f, d, name="f"):
    """`f` as the kernels take it, for points of d numbers.

    Raises
    ------
    TypeError
        Its signature is not `double (n, double *x, void *user_data)`.
    """
    return _known(f, d, name, CFunction)


def gradient_function(grad, d, args):
    """grad as something to call at points of d numbers: itself, or a C gradient, which takes no args."""
    if not isinstance(args, tuple):
        raise TypeError(f"args must be a tuple; got {validation.describe(args)}")
    if not is_c(grad):
        return grad
    if args:
        raise ValueError("a C function takes its user_data: no args")
    return c_gradient(grad, d)


def c_gradient(grad, d, name="grad"):
    """A gradient as the kernels take it: `void (n, double *x, double *gradient, void *user_data)`, else a TypeError."""
    return _known(grad, d, name, CGradient)


def c_loss(f, name="f"):
    """A loss as the kernels take it, else a TypeError; of a few thousand points at once at most."""
    return _known(f, 0, name, CLoss)


def c_value_and_gradient(f, d, name="f"):
    """An f that gives both: `double (n, double *x, double *gradient, void *user_data)`, else a TypeError."""
    return _known(f, d, name, CValueAndGradient)


def _known(f, d, name, kind):
    if _is(f, "numba.core.ccallback", "CFunc"):
        pointer = f.ctypes
        signature = _signature(pointer.restype, tuple(pointer.argtypes))
        address, data = f.address, None
    else:
        capsule = tuple.__getitem__(f, 0)
        name_of_it = _get_name(capsule)
        signature = (name_of_it or b"").decode()
        address, data = _get_pointer(capsule, name_of_it), _get_context(capsule)
    size, takes_data = read(signature, name, kind)
    if d > MOST_IN_AN_INT and size < 8:
        raise ValueError(f"{name} takes the length of x as a number of {8 * size} bits, which cannot hold {d}")
    return kind(address, size == 8, takes_data, data or 0, f)


@functools.lru_cache(maxsize=64)
def read(signature, name, kind=CFunction):
    """(bytes of n, whether user_data is taken) of a C signature, if it is one that is accepted."""
    result, arrays, accepted = SIGNATURES[kind]
    found = re.fullmatch(rf"\s*{result}\s*\((.*)\)\s*", signature)
    kinds = [_kind(word) for word in found.group(1).split(",")] if found else []
    if not kinds or kinds[0] not in INTEGERS or kinds[1:] not in (arrays, [*arrays, "void*"]):
        raise TypeError(
            f"{name} must have the C signature {accepted}, n an intptr_t, long or int; arrays may be const, user_data "
            f"left out; got {signature!r}"
        )
    return INTEGERS[kinds[0]], len(kinds) == len(arrays) + 2


def _kind(parameter):
    """The type of a parameter, without const, spaces and its name."""
    words = re.sub(r"\bconst\b", " ", parameter)
    pointer = "*" * words.count("*")
    words = words.replace("*", " * ").split()
    if pointer:
        return words[0] + pointer
    known = " ".join(words)
    return known if known in INTEGERS else " ".join(words[:-1])


@functools.lru_cache(maxsize=64)
def _signature(restype, argtypes):
    """The C signature of a ctypes function."""
    return f"{_type_name(restype)} ({', '.join(map(_type_name, argtypes))})"


def _type_name(kind):
    """The C name of a ctypes type, as far as the signatures here need it."""
    if kind is None:
        return "void"
    names = {ctypes.c_double: "double", ctypes.c_void_p: "void *", ctypes.POINTER(ctypes.c_double): "double *"}
    names |= {ctypes.c_int: "int", ctypes.c_long: "long", ctypes.c_longlong: "long long"}
    return names.get(kind, getattr(kind, "__name__", str(kind)))
