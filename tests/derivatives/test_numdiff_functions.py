"""The kinds of functions that numerical_gradient takes: in batches, by a map or threads, and compiled ones."""

import concurrent.futures
import ctypes
import math
import multiprocessing
import signal
import sys

import numpy as np
import pytest
from scipy import LowLevelCallable

from fastgd import kernels, numerical_gradient
from fastgd.derivatives import sampling
from fastgd.derivatives.gradient import SCHEMES
from fastgd.kernels import c_functions

DIFFERENCES = [scheme for scheme in SCHEMES if scheme != "complex"]


def f(p):
    return float(np.sum(np.sin(p)) + p.ravel()[0] * p.ravel()[-1])


def rows(points):
    flat = points.reshape(len(points), -1)
    return np.sum(np.sin(flat), axis=1) + flat[:, 0] * flat[:, -1]


X = np.linspace(-1.0, 2.0, 12)


# ---------------------------------------------------------------------------------------------------------- vectorized


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("shape", [(12,), (3, 4)])
def test_batches_give_what_single_calls_give(scheme, shape, monkeypatch):
    monkeypatch.setattr(sampling, "BATCH_NUMBERS", 60)  # five points of twelve variables
    sizes = []

    def g(points):
        assert points.shape[1:] == shape
        sizes.append(len(points))
        values = rows(points)
        points[:] = np.nan  # they are its own
        return values

    x = X.reshape(shape)
    single = f if scheme != "complex" else lambda p: np.sum(np.sin(p)) + p.ravel()[0] * p.ravel()[-1]
    found = numerical_gradient(g, x, scheme=scheme, vectorized=True, full_output=True)
    expected = numerical_gradient(single, x, scheme=scheme, full_output=True)
    np.testing.assert_allclose(found.gradient, expected.gradient, rtol=0, atol=1e-8)
    assert max(sizes) <= 5
    assert found.nfev == sum(sizes)


def test_no_batch_is_the_whole_matrix_of_a_large_d():
    d = 3000
    sizes = []

    def g(points):
        sizes.append(points.size)
        return np.sum(points**2, axis=1)

    x = np.linspace(-1, 1, d)
    np.testing.assert_allclose(numerical_gradient(g, x, vectorized=True), 2 * x, atol=1e-6)
    assert max(sizes) <= max(d, sampling.BATCH_NUMBERS)


def test_a_number_and_a_reused_buffer_in_batches(monkeypatch):
    monkeypatch.setattr(sampling, "BATCH_NUMBERS", 1)
    buffer = np.empty(1)

    def g(points):
        buffer[:] = points**2
        return buffer

    assert numerical_gradient(g, 3.0, vectorized=True) == pytest.approx(6, abs=1e-8)


BAD_BATCHES = [
    (lambda p: None, TypeError, "it returned None"),
    (lambda p: 1.0, TypeError, r"it returned 1\.0"),
    (lambda p: [1.0] * len(p), ValueError, "it returned .*list"),
    (lambda p: np.ones(len(p) + 1), ValueError, r"it returned an array of shape \(5,\)"),
    (lambda p: np.ones((len(p), 1)), ValueError, r"it returned an array of shape \(4, 1\)"),
    (lambda p: np.ones(len(p), complex), TypeError, "complex"),
    (lambda p: np.array(["a"] * len(p)), ValueError, "it returned an array"),
    (lambda p: np.where(p[:, 0] > 1, np.nan, 1.0), ValueError, r"f returned nan at x = \[1\.0.*coordinate 0"),
]


@pytest.mark.parametrize("g, error, message", BAD_BATCHES)
def test_what_a_vectorized_f_must_return(g, error, message):
    with pytest.raises(error, match=message):
        numerical_gradient(g, [1.0, 2.0], 1e-3, vectorized=True)


# ------------------------------------------------------------------------------------------------------------- workers


@pytest.mark.parametrize("scheme", DIFFERENCES)
@pytest.mark.parametrize("workers", [1, 3, -1, map])
def test_workers_change_no_bit(scheme, workers):
    np.testing.assert_array_equal(
        numerical_gradient(f, X, scheme=scheme, workers=workers), numerical_gradient(f, X, scheme=scheme)
    )


@pytest.mark.one_build
def test_processes_by_their_map():
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        np.testing.assert_array_equal(numerical_gradient(f, X, workers=pool.map), numerical_gradient(f, X))


def fails(p):
    if p[1] > 2:
        raise KeyError("mine")
    return f(p)


@pytest.mark.parametrize("make", [lambda: 2, lambda: map])
def test_an_exception_says_which_point_raised_it(make):
    with pytest.raises(KeyError, match="mine") as raised:
        numerical_gradient(fails, [1.0, 2.0], 0.5, workers=make())
    assert any("x = [1. , 2.5], coordinate 1" in note for note in raised.value.__notes__)


@pytest.mark.one_build
def test_an_exception_of_another_process_says_which_point_raised_it():
    context = multiprocessing.get_context("spawn")
    with (
        concurrent.futures.ProcessPoolExecutor(1, mp_context=context) as pool,
        pytest.raises(KeyError, match="mine") as raised,
    ):
        numerical_gradient(fails, [1.0, 2.0], 0.5, workers=pool.map)
    assert any("x = [1. , 2.5], coordinate 1" in note for note in raised.value.__notes__)


def test_a_map_that_loses_or_swaps_results_is_noticed():
    with pytest.raises(ValueError, match="in order"):
        numerical_gradient(f, X, workers=lambda g, points: reversed([g(p) for p in points]))
    with pytest.raises(ValueError, match="a result for each point; it gave 3 of 24"):
        numerical_gradient(f, X, workers=lambda g, points: [g(p) for p in points][:3])


def test_points_in_threads_are_private():
    def g(p):
        value = f(p)
        p[:] = np.nan
        return value

    x = X.copy()
    np.testing.assert_array_equal(numerical_gradient(g, x, workers=4), numerical_gradient(f, X))
    np.testing.assert_array_equal(x, X)


# --------------------------------------------------------------------------------------------------------- C functions

DOUBLES = ctypes.POINTER(ctypes.c_double)


def low_level(python, *kinds, user_data=None):
    pointer = ctypes.CFUNCTYPE(ctypes.c_double, *kinds)(python)
    return LowLevelCallable(pointer, *(() if user_data is None else (user_data,)))


def body(n, x, *data):
    return math.fsum(math.sin(x[i]) for i in range(n)) + x[0] * x[n - 1]


COMPILED = {
    "long": lambda: low_level(body, ctypes.c_long, DOUBLES, ctypes.c_void_p),
    "int": lambda: low_level(body, ctypes.c_int, DOUBLES, ctypes.c_void_p),
    "intptr_t": lambda: low_level(body, ctypes.c_ssize_t, DOUBLES, ctypes.c_void_p),
    "no user_data": lambda: low_level(body, ctypes.c_ssize_t, DOUBLES),
}


@pytest.mark.parametrize("kind", COMPILED)
@pytest.mark.parametrize("scheme", DIFFERENCES)
def test_c_functions_give_what_python_functions_give(kind, scheme):
    function = COMPILED[kind]()
    expected = numerical_gradient(lambda p: body(len(p), p), X, scheme=scheme)
    for x in (X, X.tolist()):
        np.testing.assert_array_equal(numerical_gradient(function, x, scheme=scheme), expected)
    assert numerical_gradient(function, X, scheme=scheme, full_output=True).nfev >= len(X) + 1


def test_the_points_of_a_c_function_keep_within_bounds():
    seen = []

    def g(n, x):
        seen.append(x[:n])
        return body(n, x)

    function = low_level(g, ctypes.c_ssize_t, DOUBLES)
    numerical_gradient(function, X, bounds=(X, np.inf))
    assert len(seen) == 2 * len(X) + 1
    assert np.all(np.array(seen) >= X)


def test_user_data_reaches_the_function():
    scale = ctypes.c_double(3.0)

    def g(n, x, data):
        return ctypes.cast(data, DOUBLES)[0] * x[0] ** 2

    data = ctypes.cast(ctypes.pointer(scale), ctypes.c_void_p)
    function = low_level(g, ctypes.c_long, DOUBLES, ctypes.c_void_p, user_data=data)
    assert numerical_gradient(function, [2.0], 2.0**-8)[0] == 12


def test_a_capsule_with_a_signature_for_a_name():
    pointer = ctypes.CFUNCTYPE(ctypes.c_double, ctypes.c_int, DOUBLES, ctypes.c_void_p)(body)
    make = ctypes.pythonapi.PyCapsule_New
    make.restype, make.argtypes = ctypes.py_object, [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p]
    name = b"double (int n, const double *x, void *user_data)"
    function = LowLevelCallable(make(ctypes.cast(pointer, ctypes.c_void_p).value, name, None))
    np.testing.assert_allclose(numerical_gradient(function, X), numerical_gradient(f, X), atol=1e-8)


SIGNATURES = {
    "double (long, double *, void *)": (ctypes.sizeof(ctypes.c_long), True),
    "double(int n,const double*x)": (4, False),
    "double ( intptr_t n , double const * x , void * user_data )": (ctypes.sizeof(ctypes.c_ssize_t), True),
    "double (npy_intp, double *, void *)": (ctypes.sizeof(ctypes.c_ssize_t), True),
}


@pytest.mark.one_build
@pytest.mark.parametrize("signature", SIGNATURES)
def test_signatures_are_read(signature):
    assert c_functions.read(signature, "f") == SIGNATURES[signature]


@pytest.mark.one_build
@pytest.mark.parametrize(
    "signature",
    [
        "", "float (long, double *)", "double (long, float *)", "double (double *)", "double (long, double *, int)",
        "double (unsigned int, double *)", "double (long, double **)", "void (long, double *)", "double (long, double)",
    ],
)  # fmt: skip
def test_other_signatures_are_refused_and_the_accepted_ones_shown(signature):
    with pytest.raises(
        TypeError, match=r"f must have the C signature double \(n, double \*x, void \*user_data\), n an"
    ):
        c_functions.read(signature, "f")


def test_a_c_function_of_another_signature_is_refused_before_it_is_called():
    function = low_level(lambda x, n: 1 / 0, DOUBLES, ctypes.c_long)
    with pytest.raises(TypeError, match=r"got 'double \(double \*, long\)'"):
        numerical_gradient(function, [1.0])


@pytest.mark.parametrize("options", [{"vectorized": True}, {"args": (1.0,)}, {"workers": map}])
def test_what_is_for_python_functions_only(options):
    with pytest.raises(ValueError, match="are for Python functions"):
        numerical_gradient(COMPILED["long"](), X, **options)
    with pytest.raises(ValueError, match="a C function of double is not"):
        numerical_gradient(COMPILED["long"](), X, scheme="complex")


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_c_function_that_is_not_finite_is_named_with_its_point(bad):
    function = low_level(lambda n, x: bad if x[1] > 2 else x[0], ctypes.c_ssize_t, DOUBLES)
    with pytest.raises(ValueError, match=rf"f returned {bad} at x = \[1\. , 2\.5\], coordinate 1"):
        numerical_gradient(function, [1.0, 2.0], 0.5)
    assert not np.isfinite(numerical_gradient(function, [1.0, 2.0], nan_policy="propagate")[1])


@pytest.mark.parametrize("seconds", [0.0, math.inf])
def test_threads_change_no_bit_of_a_c_function(seconds, monkeypatch):
    monkeypatch.setattr(sampling, "WORTH_THREADS", seconds)
    function = COMPILED["long"]()
    for x in (X, X[:1]):
        np.testing.assert_array_equal(numerical_gradient(function, x, workers=3), numerical_gradient(function, x))


# ------------------------------------------------------------------------------------------------------- numba cfuncs


@pytest.fixture(scope="module")
def cfunc():
    numba = pytest.importorskip("numba")
    kinds = numba.types.float64(numba.types.intp, numba.types.CPointer(numba.types.float64), numba.types.voidptr)

    @numba.cfunc(kinds)
    def g(n, x, data):
        total = x[0] * x[n - 1]
        for i in range(n):
            total += math.sin(x[i])
        return total

    return g


def test_a_numba_cfunc(cfunc):
    np.testing.assert_allclose(numerical_gradient(cfunc, X), numerical_gradient(f, X), atol=1e-8)
    np.testing.assert_array_equal(numerical_gradient(LowLevelCallable(cfunc.ctypes), X), numerical_gradient(cfunc, X))


@pytest.mark.skipif(sys.platform == "win32", reason="needs the C library's raise")
def test_ctrl_c_is_heard_while_a_c_function_runs(build):
    if build.name == "reference":
        pytest.skip("Python hears it at any time")
    numba = pytest.importorskip("numba")
    kinds = numba.types.float64(numba.types.intp, numba.types.CPointer(numba.types.float64), numba.types.voidptr)
    ctrl_c, number = ctypes.CDLL(None)["raise"], int(signal.SIGINT)
    ctrl_c.argtypes, ctrl_c.restype = [ctypes.c_int], ctypes.c_int

    @numba.cfunc(kinds)
    def interrupted(n, x, data):  # a point whose first entry is above 1 is where Ctrl-C is pressed
        if x[0] > 1:
            ctrl_c(number)
        return math.sin(x[0]) + math.sin(x[n - 1])

    m = 4_000_000  # some tenths of a second: a look at signals every 50 ms
    out, steps = np.full(m, np.nan), np.zeros(m)
    steps[1000] = 2.0
    function = c_functions.c_function(interrupted, 2)
    with pytest.raises(KeyboardInterrupt):
        kernels.active.sample(function, np.zeros(2), np.zeros(m, int), steps, (2,), (), float, out)
    assert not np.isnan(out[1000]) and np.isnan(out[-1])
