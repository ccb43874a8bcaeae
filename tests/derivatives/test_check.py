"""Right gradients pass, wrong ones are found where they are wrong, and an f without derivatives is told from both."""

import numpy as np
import pytest
from scipy.optimize import rosen, rosen_der

from fastgd import LinearObjective, check_gradient

X = np.array([0.6, -1.1, 0.3, 1.7, -0.4])


def altered(change):
    """Rosenbrock's gradient with a change made to it."""

    def grad(x):
        g = rosen_der(x)
        change(g)
        return g

    return grad


def objective(loss="log", activation="sigmoid", dtype=np.float64, k=1, **options):
    rng = np.random.default_rng(3)
    X = rng.normal(size=(60, 4))
    y = (X @ rng.normal(size=4) > 0) * 1.0 if k == 1 else rng.integers(0, k, size=60).astype(float)
    return LinearObjective(X.astype(dtype), y.astype(dtype), loss=loss, activation=activation, **options)


# ------------------------------------------------------------------------------------------------------ right gradients


@pytest.mark.parametrize("x", [X, np.ones(5), np.zeros(5), 1e3 * X, 1e-6 * X], ids=str)
def test_a_right_gradient_passes(x):
    check = check_gradient(rosen, rosen_der, x)
    assert check.ok and check and check.fault is None and check.max_error < 1e-6
    assert repr(check).startswith("GradientCheck(ok=True): all 5 components agree; coordinate ")


@pytest.mark.parametrize("scale", (1e-12, 1e-6, 1e6, 1e12))
def test_the_scale_of_f_and_of_x_does_not_matter(scale):
    assert check_gradient(lambda x: scale * rosen(x), lambda x: scale * rosen_der(x), X).ok
    stretched = check_gradient(lambda x: rosen(x / scale), lambda x: rosen_der(x / scale) / scale, scale * X)
    assert stretched.ok
    wrong = check_gradient(lambda x: rosen(x / scale), lambda x: 1.01 * rosen_der(x / scale) / scale, scale * X)
    assert not wrong.ok


def test_a_gradient_may_be_given_as_an_array():
    assert check_gradient(rosen, rosen_der(X), X).ok
    assert not check_gradient(rosen, rosen_der(X) + 0.1, X).ok


def test_x_of_other_shapes():
    A = np.arange(1.0, 7.0).reshape(2, 3)
    check = check_gradient(lambda x: float(np.sum(A * x**2)), lambda x: 2 * A * x, A)
    assert check.ok and check.gradient.shape == (2, 3) and len(check.worst_index) == 2
    assert check_gradient(lambda x: x**3, lambda x: 3 * x**2, 2.0).ok
    assert check_gradient(lambda x: 0.0, lambda x: x, np.empty(0)).ok


def test_args_bounds_and_batches_are_those_of_the_differences():
    assert check_gradient(lambda x, a: a * rosen(x), lambda x, a: a * rosen_der(x), X, args=(3.0,)).ok
    with np.errstate(invalid="raise"):
        assert check_gradient(
            lambda x: float(np.sum(np.sqrt(x))), lambda x: 0.5 / np.sqrt(x), [1e-3, 1.0], bounds=(0, np.inf)
        ).ok
    assert check_gradient(lambda p: np.array([rosen(x) for x in p]), rosen_der, X, vectorized=True).ok
    assert not check_gradient(lambda p: np.array([rosen(x) for x in p]), X, X, vectorized=True).ok


def test_every_evaluation_is_counted_and_x_is_left_alone():
    calls, x = 0, X.copy()

    def f(p):
        nonlocal calls
        calls += 1
        value = rosen(p)
        p[:] = 0
        return value

    def grad(p):
        g = rosen_der(p)
        p[:] = 0
        return g + np.array([0, 0, 1, 0, 0])

    check = check_gradient(f, grad, x)
    assert check.nfev == calls and check.worst_index == 2 and np.array_equal(x, X)


# ------------------------------------------------------------------------------------------------------ wrong gradients


@pytest.mark.parametrize("k", range(5))
@pytest.mark.parametrize("factor", (1 + 1e-6, 1.01, -1, 0))
def test_the_wrong_component_is_named(k, factor):
    def change(g):
        g[k] *= factor

    check = check_gradient(rosen, altered(change), X)
    exact = rosen_der(X)[k]
    assert not check.ok and not check and check.worst_index == k and check.fault == "gradient"
    assert check.wrong.tolist() == [i == k for i in range(5)]
    assert check.max_error == pytest.approx(abs(factor - 1) * abs(exact) / max(1, abs(exact)), rel=1e-3)
    assert f"coordinate {k}: gradient " in repr(check) and "1 of 5 components wrong" in repr(check)


@pytest.mark.parametrize(
    ("grad", "hint"),
    [
        (lambda x: -rosen_der(x), "the sign is flipped"),
        (lambda x: 2 * rosen_der(x), "the gradient is 2 times what it should be"),
        (lambda x: rosen_der(x) / 60, "the gradient is 0.01667 times what it should be"),
        (altered(lambda g: g.put(3, 0)), "the gradient is 0 in the wrong components: have they been left out?"),
        (altered(lambda g: g.put(3, np.nan)), "the gradient holds NaN"),
        (lambda x: rosen_der(x) + np.sin(x), ""),
    ],
)
def test_common_mistakes_have_a_name(grad, hint):
    check = check_gradient(rosen, grad, X)
    assert not check.ok and check.hint == hint and repr(check).endswith(hint)


def test_a_transposed_gradient_is_called_so():
    A = np.array([[1.0, 2.0], [5.0, -3.0]])
    f = np.array([[0.3, 0.7], [1.1, -0.4]])
    assert check_gradient(lambda x: float(np.sum(A * x)), lambda x: A.T, f).hint == "the gradient is transposed"


def test_long_lists_of_wrong_components_are_cut():
    check = check_gradient(lambda x: float(x @ x), lambda x: 3 * x + 1, np.arange(1.0, 101.0))
    lines = repr(check).splitlines()
    assert len(lines) == 7 and lines[-1] == "  and 95 more" and "coordinate 0: gradient 4" in lines[1]


# ---------------------------------------------------------------------------------------- functions without derivatives


@pytest.mark.parametrize("slope", (-1.0, 0.5, 1.0))
def test_a_kink_at_x_is_the_fault_of_f(slope):
    check = check_gradient(lambda x: float(np.abs(x).sum()), [1.0, slope, -1.0], [2.0, 0.0, -3.0])
    assert not check.ok and check.fault == "f" and check.worst_index == 1 and not check.wrong.any()
    assert check.hint == "f has a kink at coordinate 1: its slope is -1 on one side and 1 on the other"


def test_a_kink_beside_x_does_no_harm():
    assert check_gradient(lambda x: float(np.abs(x - 1e-5).sum()), [1.0, -1.0, -1.0], [2.0, 0.0, -3.0]).ok


def test_noise_widens_the_tolerance_or_is_named():
    def noisy(x):
        return rosen(x) + noise * np.sin(1e9 * x.sum())

    noise = 1e-9
    check = check_gradient(noisy, rosen_der, X)
    assert check.ok and np.max(check.tolerance) < 1e-2
    assert check_gradient(noisy, lambda x: 1.01 * rosen_der(x), X).fault == "gradient"
    noise = 1.0
    check = check_gradient(noisy, rosen_der, X)
    assert check.ok and check.fault is None  # noise is nobody's fault, but the check says how little it could see
    assert check.hint.startswith("f is noisy or imprecise: coordinate")
    assert np.all(np.abs(check.numerical - rosen_der(X)) <= check.tolerance)


def test_f_that_rounds_to_float32():
    def single(x):
        return np.float32(np.sum(x * np.sin(x)))

    def grad(x):
        return np.sin(x) + x * np.cos(x)

    for seed in range(10):
        x = np.random.default_rng(seed).normal(size=5)
        assert check_gradient(single, grad, x).ok
        assert check_gradient(single, lambda x: 1.1 * grad(x), x).fault == "gradient"


def test_a_border_of_f_is_the_fault_of_f():
    with np.errstate(all="ignore"):
        check = check_gradient(lambda x: float(np.log(x).sum()), lambda x: 1 / x, [0.0, 2.0])
    assert not check.ok and check.fault == "f" and "f is NaN or infinite beside x" in repr(check)


# --------------------------------------------------------------------------------------------------------- objectives


@pytest.mark.parametrize("dtype", (np.float32, np.float64))
@pytest.mark.parametrize(
    ("activation", "loss", "k"),
    [
        ("identity", "sse", 1),
        ("identity", "mse", 1),
        ("sigmoid", "log", 1),
        ("tanh", "huber", 1),
        ("softplus", "mse", 1),
        ("exp", "poisson", 1),
        ("softmax", "log", 3),
    ],
)
def test_an_objective_in_one_line(activation, loss, k, dtype):
    model = objective(loss, activation, dtype, k, fit_intercept=True, l2=0.1)
    w = np.random.default_rng(4).normal(size=model.shape) / 3
    check = check_gradient(model, None, w)
    assert check.ok, check
    assert check_gradient(model.value, model.gradient, w).ok
    wrong = check_gradient(model, lambda w: 1.01 * model.gradient(w), w)
    assert not wrong.ok and wrong.hint == "the gradient is 1.01 times what it should be"


def test_a_float32_gradient_of_an_objective_is_held_to_float32_and_not_to_less():
    single, double = objective(dtype=np.float32), objective()
    w = np.full(4, 0.3)
    assert np.max(check_gradient(double, None, w).tolerance) < 1e-7
    assert 1e-6 < np.max(check_gradient(single, None, w).tolerance) < 1e-3


# ----------------------------------------------------------------------------------------------------------- bad input

BAD = {
    "f": ((3, rosen_der, X), {}, TypeError, "f must be callable"),
    "no gradient": ((rosen, None, X), {}, TypeError, "grad must be callable or an array"),
    "shape": ((rosen, lambda x: x[:2], X), {}, ValueError, r"shape of x, \(5,\); it returned shape \(2,\)"),
    "shape of an array": ((rosen, [1.0], X), {}, ValueError, r"shape of x, \(5,\); it returned shape \(1,\)"),
    "text": ((rosen, "abc", X), {}, TypeError, "what grad returned must hold real numbers"),
    "None": ((rosen, lambda x: None, X), {}, TypeError, "what grad returned must hold real numbers"),
    "x": ((rosen, rosen_der, [np.nan]), {}, ValueError, "x must be finite"),
    "args": ((rosen, rosen_der, X), {"args": [1]}, TypeError, "args must be a tuple"),
    "a vector": ((lambda x: x, rosen_der, X), {}, ValueError, "f must return one real number"),
    "w": ((objective(), None, [1.0]), {}, ValueError, r"x must have shape \(4,\)"),
    "args of an objective": ((objective(), None, np.ones(4)), {"args": (1,)}, ValueError, "takes no args"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input(case):
    arguments, options, error, message = BAD[case]
    with pytest.raises(error, match=message):
        check_gradient(*arguments, **options)
