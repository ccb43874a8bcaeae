"""Descent on C functions: the kernel and its twin, and runs that are those of the Python loop to the bit."""

import ctypes
import math
import signal
import sys
import threading

import numpy as np
import pytest
from scipy import LowLevelCallable

from fastgd import (
    DivergenceError,
    check_gradient,
    gradient_descent,
    hessian_vector_product,
    kernels,
    optimizers,
    schedules,
    validation,
)
from fastgd.engine.update import Update
from fastgd.kernels import c_functions
from fastgd.kernels.codes import OnFunction

numba = pytest.importorskip("numba")
DOUBLES = ctypes.POINTER(ctypes.c_double)
POINT = numba.types.CPointer(numba.types.float64)
VALUE = numba.types.float64(numba.types.intp, POINT, numba.types.voidptr)
GRADIENT = numba.types.void(numba.types.intp, POINT, POINT, numba.types.voidptr)


def rosenbrock(n, x, data):
    total = 0.0
    for i in range(n - 1):
        total += 100 * (x[i + 1] - x[i] * x[i]) ** 2 + (1 - x[i]) ** 2
    return total


def rosenbrock_gradient(n, x, gradient, data):
    for i in range(n):
        gradient[i] = 0
    for i in range(n - 1):
        a = x[i + 1] - x[i] * x[i]
        gradient[i] += -400 * x[i] * a - 2 * (1 - x[i])
        gradient[i + 1] += 200 * a


def steep(n, x, data):
    """Curvatures from 1 to 10⁴, and a value at the minimum that leaves few digits to differences."""
    total = 1e5
    for i in range(n):
        total += 0.5 * 10.0 ** (4 * i / max(1, n - 1)) * x[i] * x[i]
    return total


def steep_gradient(n, x, gradient, data):
    for i in range(n):
        gradient[i] = 10.0 ** (4 * i / max(1, n - 1)) * x[i]


def bounded_log(n, x, data):
    total = 0.0
    for i in range(n):
        total += math.log(x[i]) ** 2 if x[i] > 0 else math.nan
    return total


def bounded_log_gradient(n, x, gradient, data):
    for i in range(n):
        gradient[i] = 2 * math.log(x[i]) / x[i] if x[i] > 0 else math.nan


PROBLEMS = {
    "Rosenbrock": (rosenbrock, rosenbrock_gradient, [-1.2, 1.0, 0.5], 5e-4),
    "steep": (steep, steep_gradient, [1.0, -1.0, 2.0, 0.3], 1.5e-4),
    "log": (bounded_log, bounded_log_gradient, [0.3, 2.0], 0.02),
}
COMPILED = {name: (numba.cfunc(VALUE)(f), numba.cfunc(GRADIENT)(grad)) for name, (f, grad, _, _) in PROBLEMS.items()}


def pair(name, numeric):
    """(f, grad) in C, and the same as functions of Python around the C code, which no kernel sees through."""
    f, grad = COMPILED[name]
    d = len(PROBLEMS[name][2])
    value, gradient = c_functions.c_function(f, d), c_functions.c_gradient(grad, d)
    return (f, None if numeric else grad), (lambda x: value(x), None if numeric else lambda x: gradient(x))


def same(ours, theirs):
    assert (ours.nit, ours.nfev, ours.njev) == (theirs.nit, theirs.nfev, theirs.njev)
    assert (ours.status, ours.message, ours.success) == (theirs.status, theirs.message, theirs.success)
    for name in ("x", "fun", "jac"):
        np.testing.assert_array_equal(getattr(ours, name), getattr(theirs, name), err_msg=name)
    if theirs.history is None:
        assert ours.history is None
        return
    assert set(ours.history) == set(theirs.history)
    for name, column in theirs.history.items():
        # Norms are sums in another order, and a compiler may fuse the penalty with its addition.
        tolerance = {"grad_norm": 1e-14, "fun": 1e-15}.get(name, 0)
        np.testing.assert_allclose(ours.history[name], column, rtol=tolerance, err_msg=name)


# ---------------------------------------------------------------------------------------- runs, against the Python loop


@pytest.mark.parametrize("numeric", [False, True])
@pytest.mark.parametrize("problem", PROBLEMS)
@pytest.mark.parametrize("optimizer", ["gd", "momentum", "adam", "adagrad", "asgd"])
def test_a_run_in_c_is_that_of_the_python_loop(problem, optimizer, numeric):
    compiled, plain = pair(problem, numeric)
    _, _, start, lr = PROBLEMS[problem]
    runs = [gradient_descent(f, start, lr, 300, grad=grad, optimizer=optimizer) for f, grad in (compiled, plain)]
    same(*runs)


@pytest.mark.parametrize("numeric", [False, True])
@pytest.mark.parametrize(
    "options",
    [
        {"history": True}, {"history": "x"}, {"history": "fun"}, {"history": 7}, {"tol": 5.0}, {"tol": 1e-300},
        {"tol": 1.0, "history": True, "l1": 0.5}, {"bounds": (-0.5, [0.4, 2, 0.7])}, {"clip_norm": 1.0},
        {"clip_value": 0.3, "history": 3}, {"lr": schedules.exponential_decay(1e-3, 0.99)}, {"step_num": 0},
        {"step_num": 1}, {"step_num": 2, "history": True}, {"max_seconds": 1e-9}, {"f_tol": 1e-6},
        {"l1": 0.1, "bounds": (0.0, 1.0), "optimizer": "rmsprop", "history": True}, {"lr": 0.0}, {"progress": True},
    ],
)  # fmt: skip
def test_what_is_recorded_and_when_it_ends_are_those_of_the_python_loop(options, numeric):
    if "progress" in options:
        pytest.importorskip("tqdm")
    options = {"lr": 5e-4, "step_num": 200} | options
    compiled, plain = pair("Rosenbrock", numeric)
    start = PROBLEMS["Rosenbrock"][2]
    ours, theirs = (gradient_descent(f, start, grad=grad, **options) for f, grad in (compiled, plain))
    if "max_seconds" in options:  # the clock is no function of the run
        assert (ours.nit, ours.status) == (theirs.nit, theirs.status)
        return
    same(ours, theirs)


@pytest.mark.parametrize("numeric", [False, True])
@pytest.mark.parametrize("problem", PROBLEMS)
@pytest.mark.parametrize("optimizer", ["gd", "momentum", "adam"])
@pytest.mark.parametrize("lr", [0.1, 3.0, 1e3, 1e200])
def test_a_divergence_is_told_as_the_python_loop_tells_it(problem, optimizer, numeric, lr):
    outcomes = []
    for f, grad in pair(problem, numeric):
        try:
            outcomes.append(gradient_descent(f, PROBLEMS[problem][2], lr, 400, grad=grad, optimizer=optimizer))
        except DivergenceError as error:
            outcomes.append(error)
    ours, theirs = outcomes
    assert type(ours) is type(theirs)
    if isinstance(ours, DivergenceError):
        assert str(ours) == str(theirs)
        ours, theirs = ours.result, theirs.result
    same(ours, theirs)


def test_shapes_and_starts_of_integers_are_kept():
    f, grad = COMPILED["steep"]
    start = np.array([[1, 2], [3, 4]])
    result = gradient_descent(f, start, 1e-5, 50, grad=grad, history=True)
    assert result.x.shape == result.jac.shape == (2, 2)
    assert result.history.x.shape == (51, 2, 2)
    np.testing.assert_array_equal(start, [[1, 2], [3, 4]])
    curvature = 10.0 ** (4 * np.arange(4) / 3).reshape(2, 2)
    np.testing.assert_allclose(result.x, start * (1 - 1e-5 * curvature) ** 50, rtol=1e-12)


def test_no_variables_at_all():
    f, grad = COMPILED["steep"]
    result = gradient_descent(f, [], 0.1, 3, grad=grad)
    assert result.x.shape == (0,)
    assert result.fun == 1e5


@pytest.mark.parametrize("which", ["f", "grad"])
def test_a_mix_of_c_and_python_goes_through_the_python_loop(which):
    compiled, plain = pair("Rosenbrock", numeric=False)
    f, grad = (compiled[0], plain[1]) if which == "f" else (plain[0], compiled[1])
    start = PROBLEMS["Rosenbrock"][2]
    same(gradient_descent(f, start, 5e-4, 50, grad=grad), gradient_descent(plain[0], start, 5e-4, 50, grad=plain[1]))


def test_the_other_ways_of_descent_take_c_functions_too():
    f, grad = COMPILED["Rosenbrock"]
    seen = []
    for lr in ("auto", "armijo", "adgd"):
        result = gradient_descent(f, [-1.2, 1.0], lr, 5000, grad=grad, tol=1e-3)
        np.testing.assert_allclose(result.x, 1, atol=1e-2)
    gradient_descent(f, [-1.2, 1.0], 1e-4, 3, grad=grad, callback=seen.append)
    assert [result.nit for result in seen] == [1, 2, 3]


@pytest.mark.parametrize("numeric", [False, True])
def test_a_run_that_was_cut_short_goes_on_to_the_same_end(numeric, tmp_path):
    (f, grad), _ = pair("Rosenbrock", numeric)
    start, options = PROBLEMS["Rosenbrock"][2], {"grad": grad, "optimizer": "adam", "history": 3}
    whole = gradient_descent(f, start, 1e-3, 500, **options)
    for steps in (120, 121, 500):
        resumed = gradient_descent(f, start, 1e-3, steps, checkpoint=tmp_path / "run", resume=True, **options)
    np.testing.assert_array_equal(resumed.x, whole.x)
    assert resumed.nit == whole.nit


def test_ctrl_c_is_heard_between_the_steps():
    slow = numba.cfunc(VALUE)(rosenbrock)
    started = threading.Event()

    def rate(step):
        started.set()
        return 1e-5

    def interrupt():
        started.wait()
        signal.raise_signal(signal.SIGINT)

    watcher = threading.Thread(target=interrupt)
    watcher.start()
    with pytest.raises(KeyboardInterrupt):
        gradient_descent(slow, np.zeros(50), rate, 10**9)
    watcher.join()


@pytest.mark.parametrize("numeric", [False, True])
def test_a_kernel_that_comes_back_early_changes_no_run(numeric, monkeypatch):
    (f, grad), _ = pair("Rosenbrock", numeric)
    arguments, options = (f, PROBLEMS["Rosenbrock"][2], 1e-3, 500), {"grad": grad, "optimizer": "adam", "history": 3}
    whole, kernel = gradient_descent(*arguments, **options), kernels.active.descend_function

    def early(*arguments):
        return kernel(*arguments[:11], arguments[11][:3], *arguments[12:])

    monkeypatch.setattr(kernels.active, "descend_function", early)
    same(gradient_descent(*arguments, **options), whole)


@pytest.mark.skipif(sys.platform == "win32", reason="sleeps by a function of POSIX")
def test_a_kernel_comes_back_between_the_steps_of_a_slow_function(build):
    usleep = ctypes.CDLL(None).usleep
    usleep.argtypes, usleep.restype = [ctypes.c_uint], ctypes.c_int

    @numba.cfunc(GRADIENT)
    def slow(n, x, gradient, data):
        usleep(100_000)
        gradient[0] = x[0]

    update, m = Update(optimizers.GD(), np.zeros(1)), 200
    x, spent = np.ones(1), np.zeros(4, np.int64)
    taken, reason = build.descend_function(
        c_functions.c_function(COMPILED["steep"][0], 1), c_functions.c_gradient(slow, 1), x, (1,), None, None,
        np.zeros(1), np.zeros((0, 2)), spent, None, None, np.full(m, 0.5), -1.0, 5, 100.0, 0,
        np.array([0, 1, 0, 1e3, 0, 1e3, 0], float), np.zeros(1), np.zeros(1), np.zeros(m), np.zeros(m),
        np.zeros((0, 0)), *update.kernel_arguments,
    )  # fmt: skip
    assert reason == OnFunction.ALL_STEPS
    assert 1 <= taken < 20  # of 20 s
    assert x[0] == 0.5**taken
    assert spent.tolist() == [0, taken, taken, 0]


def test_a_gradient_that_writes_to_its_point_or_not_at_all():
    def greedy(n, x, gradient, data):
        for i in range(n):
            gradient[i] = 2 * x[i]
            x[i] = 0.0

    f = COMPILED["steep"][0]
    result = gradient_descent(f, [3.0, 4.0], 0.1, 20, grad=numba.cfunc(GRADIENT)(greedy))
    np.testing.assert_allclose(result.x, 0.8**20 * np.array([3.0, 4.0]), rtol=1e-14)
    idle = numba.cfunc(GRADIENT)(lambda n, x, gradient, data: None)
    np.testing.assert_array_equal(gradient_descent(f, [3.0, 4.0], 0.1, 20, grad=idle).x, [3, 4])


# ------------------------------------------------------------------------------------------------------- C gradients


def gradient_of(kinds, body=lambda n, x, gradient, *data: gradient.__setitem__(0, 4 * x[0])):
    return LowLevelCallable(ctypes.CFUNCTYPE(None, *kinds)(body))


@pytest.mark.parametrize("n", [ctypes.c_int, ctypes.c_long, ctypes.c_ssize_t])
@pytest.mark.parametrize("data", [(), (ctypes.c_void_p,)])
def test_gradients_of_each_signature(n, data):
    f = LowLevelCallable(ctypes.CFUNCTYPE(ctypes.c_double, n, DOUBLES)(lambda n, x: 2 * x[0] ** 2))
    result = gradient_descent(f, [1.0], 0.125, 8, grad=gradient_of([n, DOUBLES, DOUBLES, *data]))
    assert result.x[0] == 2.0**-8


@pytest.mark.parametrize(
    "kinds", [[ctypes.c_long, DOUBLES], [DOUBLES, DOUBLES], [ctypes.c_double, DOUBLES, DOUBLES], []]
)
def test_a_gradient_of_another_signature_is_refused_and_the_right_one_shown(kinds):
    f = COMPILED["steep"][0]
    with pytest.raises(TypeError, match=r"grad must have the C signature void \(n, double \*x, double \*gradient, "):
        gradient_descent(f, [1.0], grad=gradient_of(kinds))
    with pytest.raises(TypeError, match="f must have the C signature double"):
        gradient_descent(COMPILED["steep"][1], [1.0])
    with pytest.raises(TypeError, match="grad must have the C signature void"):
        gradient_descent(f, [1.0], grad=f)


def test_check_gradient_takes_a_c_gradient():
    f, grad = COMPILED["Rosenbrock"]
    x = PROBLEMS["Rosenbrock"][2]
    assert check_gradient(f, grad, x).ok
    check = check_gradient(f, COMPILED["steep"][1], x)
    assert not check.ok
    assert check.fault == "gradient"
    with pytest.raises(ValueError, match="user_data: no args"):
        check_gradient(lambda x, a: 0.0, grad, x, args=(1,))


def test_hessian_vector_product_takes_a_c_gradient():
    x = np.array([0.5, -1.0])
    exact = np.array([[1200 * 0.25 + 400 + 2, -200.0], [-200.0, 200.0]])
    v = np.array([1.0, -2.0])
    product = hessian_vector_product(COMPILED["Rosenbrock"][1], x, v)
    np.testing.assert_allclose(product, exact @ v, rtol=1e-8)
    with pytest.raises(ValueError, match="user_data: no args"):
        hessian_vector_product(COMPILED["Rosenbrock"][1], x, v, args=(1,))


# --------------------------------------------------------------------------------------------- the kernel and its twin


def steps_by(twin, problem, numeric, rates, x, optimizer="GD", tol=-1.0, every=1, keep=True, limits=None):
    """What a kernel returns and has written to, by name."""
    f, grad = COMPILED[problem]
    d, m = len(x), len(rates)
    update = Update(getattr(optimizers, optimizer)(), np.zeros(d), **(limits or {}))
    found = {
        "x": np.array(x, float), "state": np.array([0, 1, 0, 1e3, 1e-3, 1e3, 0], float), "gradient": np.ones(d),
        "previous": np.zeros(d), "found": np.full(d, 9.0), "values": np.full((d + 2, 2) if numeric else (0, 2), 9.0),
        "funs": np.full(m, 9.0), "norms": np.full(m, 9.0), "points": np.full((m, d) if keep else (0, d), 9.0),
        "spent": np.array([5, 7, 9, 9], np.int64),
    }  # fmt: skip
    kind, parameters, moments, *_ = update.kernel_arguments
    arrays = [found[name] for name in ("state", "gradient", "previous", "funs", "norms", "points")]
    found["returned"] = twin.descend_function(
        c_functions.c_function(f, d), None if numeric else c_functions.c_gradient(grad, d), found["x"], (d,),
        validation.any_number, lambda returned, point: returned, found["found"], found["values"], found["spent"], None,
        None, np.array(rates, float), tol, 5, 100.0, every, *arrays, kind, parameters, moments, 4,
        *update.kernel_arguments[4:],
    )  # fmt: skip
    return found | {"moments": moments}


CASES = {
    "to the end": ("Rosenbrock", [5e-4] * 20, [-1.2, 1.0, 0.5], {}, OnFunction.ALL_STEPS),
    "no steps": ("Rosenbrock", [], [-1.2, 1.0, 0.5], {}, OnFunction.ALL_STEPS),
    "values now and then": (
        "Rosenbrock", [5e-4] * 20, [-1.2, 1.0, 0.5], {"every": 3, "keep": False}, OnFunction.ALL_STEPS
    ),
    "no values": ("Rosenbrock", [5e-4] * 20, [-1.2, 1.0, 0.5], {"every": 0}, OnFunction.ALL_STEPS),
    "the tolerance": ("log", [0.05] * 400, [0.3, 2.0], {"tol": 0.1}, OnFunction.EVALUATED),
    "a stationary point": ("log", [0.05] * 4, [1.0, 1.0], {"tol": 0.0}, OnFunction.EVALUATED),
    "beyond the domain": ("log", [50.0] * 4, [0.3, 2.0], {}, OnFunction.EVALUATED),
    "overshooting": ("Rosenbrock", [0.1] * 40, [-1.2, 1.0, 0.5], {}, OnFunction.EVALUATED),
    "beyond the floats": ("Rosenbrock", [1e300, 1e300, 1e300], [-1.2, 1.0, 0.5], {}, None),
    "an x that is not finite": ("Rosenbrock", [0.1], [np.inf, 0.0, 0.0], {}, OnFunction.UNTOUCHED),
    "Adam": ("Rosenbrock", [1e-2] * 20, [-1.2, 1.0, 0.5], {"optimizer": "Adam"}, OnFunction.ALL_STEPS),
    "l1 and bounds": (
        "Rosenbrock", [5e-4] * 20, [0.2, 1.0, 0.5], {"limits": {"l1": 2.0, "bounds": (0.0, [0.3, 0.7, 2.0])}},
        OnFunction.ALL_STEPS,
    ),
    "clipping": ("steep", [1e-4] * 20, [1.0, -1.0, 2.0, 0.3], {"limits": {"clip_norm": 3.0}}, OnFunction.ALL_STEPS),
}  # fmt: skip


@pytest.mark.parametrize("numeric", [False, True])
@pytest.mark.parametrize("case", CASES)
def test_the_kernel_does_what_its_twin_does(case, numeric, build):
    problem, rates, x, options, reason = CASES[case]
    ours, theirs = (
        steps_by(twin, problem, numeric, rates, x, **options) for twin in (build, kernels.load("reference"))
    )
    assert ours["returned"] == theirs["returned"]
    if reason is not None and not numeric:
        assert ours["returned"][1] == reason
    for name in theirs:
        # A compiler may fuse the operations of a step; differences make of such a rounding some 1e-10.
        tolerance = 1e-7 if numeric else 1e-11
        np.testing.assert_allclose(ours[name], theirs[name], rtol=tolerance, atol=tolerance, err_msg=name)


def test_doubtful_slopes_are_handed_back_with_their_values(build):
    # Around 1e5 differences of the flat coordinate are good to 1e-5 alone.
    for twin in (build, kernels.load("reference")):
        found = steps_by(twin, "steep", True, [1e-5] * 5, [1.0, -1.0, 2.0, 0.3])
        assert found["returned"] == (0, OnFunction.DOUBTFUL)
        assert found["spent"].tolist() == [5 + 1 + 8 + 3, 8, 0, 0]
        assert np.all(np.isfinite(found["values"]))
        np.testing.assert_array_equal(found["x"], [1.0, -1.0, 2.0, 0.3])
        np.testing.assert_array_equal(found["gradient"], 1)


@pytest.mark.parametrize(
    "wrong, message",
    [
        ({"gradient": np.zeros(2)}, "x has 3 entries, gradient 2"),
        ({"values": np.zeros((3, 2))}, r"values must have shape \(5, 2\)"),
        ({"state": np.zeros(8)}, "state must have 7 entries"),
        ({"funs": np.zeros(1)}, "room for 2 steps"),
        ({"points": np.zeros((2, 5))}, "points must have the length of x"),
    ],
)
def test_a_kernel_refuses_arrays_that_do_not_fit(wrong, message, build):
    if build.name == "reference":
        pytest.skip("NumPy checks what it must")
    update = Update(optimizers.GD(), np.zeros(3))
    arrays = {
        "found": np.zeros(3), "values": np.zeros((5, 2)), "state": np.zeros(7), "gradient": np.zeros(3),
        "previous": np.zeros(3), "funs": np.zeros(2), "norms": np.zeros(2), "points": np.zeros((0, 0)),
    } | wrong  # fmt: skip
    found, values, *others = arrays.values()
    with pytest.raises(ValueError, match=message):
        build.descend_function(
            c_functions.c_function(COMPILED["steep"][0], 3), None, np.zeros(3), (3,), None, None, found, values,
            np.zeros(4, np.int64), None, None, np.zeros(2), -1.0, 5, 100.0, 0, *others, *update.kernel_arguments,
        )  # fmt: skip


def test_a_run_that_records_nothing_keeps_nothing(tmp_path):
    """Steps in a kernel are many: what nobody asked for must not pile up, nor go into checkpoints."""
    f, grad = COMPILED["steep"]
    path = tmp_path / "run.npz"
    gradient_descent(f, np.ones(3), 1e-6, 5000, grad=grad, checkpoint=path)
    assert path.stat().st_size < 20_000
