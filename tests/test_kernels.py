"""Each compiled kernel against its twin and against exact values: names, signatures, values, side effects."""

import inspect
import itertools
import math

import mpmath
import numpy as np
import pytest

from fastgd import kernels
from fastgd.kernels import reference

# |error| ≤ TOLERANCE·Σ|terms|, for each entry of a result that is a sum.
TOLERANCE = {np.float64: 1e-12, np.float32: 1e-5}
ACTIVATIONS = tuple(reference.ACTIVATIONS.items())
SHAPES = [(1, 1, 1), (3, 2, 1), (4, 1, 2), (5, 3, 3), (67, 10, 1), (130, 50, 1), (131, 7, 16), (700, 9, 1), (9, 700, 1)]
LAYOUTS = ("C", "F", "strided", "reversed", "read-only", "offset")


def laid_out(array, layout):
    """The same values in another memory layout."""
    if layout == "F":
        return np.asfortranarray(array)
    if layout == "strided":
        wide = np.full((2 * array.shape[0], 3 * array.shape[1]), np.nan, array.dtype)
        wide[::2, 1::3] = array
        return wide[::2, 1::3]
    if layout == "reversed":
        return np.ascontiguousarray(array[::-1, ::-1])[::-1, ::-1]
    if layout == "read-only":
        array = array.copy()
        array.flags.writeable = False
    if layout == "offset":
        wide = np.full((array.shape[0], array.shape[1] + 1), np.nan, array.dtype)
        wide[:, 1:] = array
        return wide[:, 1:]
    return array


def problem(n, d, k, dtype, weighted=False, shifted=False, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, d)).astype(dtype)
    Y = rng.standard_normal((n, k)).astype(dtype)
    W = rng.standard_normal((d, k)).astype(dtype)
    b = rng.standard_normal(k).astype(dtype)
    shift = rng.standard_normal(d).astype(dtype) if shifted else np.empty(0, dtype)
    s = rng.integers(0, 4, n).astype(dtype) if weighted else np.empty(0, dtype)
    return X, Y, W, b, shift, s


def exact(X, Y, W, b, shift, s, activation):
    """Loss and gradients in 40 digits, with Σ|terms| of each entry, from the formulas and nothing of ours.

    The terms of an entry are those of the whole double sum: the rounding of h = XW + b belongs to its error.
    """
    f, f_prime = {
        "identity": (lambda h: h, lambda h: mpmath.mpf(1)),
        "sigmoid": (lambda h: 1 / (1 + mpmath.exp(-h)), lambda h: mpmath.exp(-h) / (1 + mpmath.exp(-h)) ** 2),
        "tanh": (mpmath.tanh, lambda h: 1 - mpmath.tanh(h) ** 2),
    }[activation]
    n, d = X.shape
    k = W.shape[1]
    with mpmath.workdps(40):
        loss, size = mpmath.mpf(0), mpmath.mpf(0)
        G, G_size = np.zeros((d, k), object), np.zeros((d, k), object)
        g, g_size = np.zeros(k, object), np.zeros(k, object)
        for i, c in itertools.product(range(n), range(k)):
            x = [mpmath.mpf(float(X[i, j])) - (mpmath.mpf(float(shift[j])) if shift.size else 0) for j in range(d)]
            terms = [x[j] * mpmath.mpf(float(W[j, c])) for j in range(d)] + [mpmath.mpf(float(b[c]))]
            h, h_size = mpmath.fsum(terms), mpmath.fsum(map(abs, terms))
            weight = mpmath.mpf(float(s[i])) if s.size else mpmath.mpf(1)
            y = mpmath.mpf(float(Y[i, c]))
            residual = f(h) - y
            spread = abs(f(h)) + abs(y) + h_size
            loss += weight * residual**2 / 2
            size += weight * spread**2
            delta = weight * residual * f_prime(h)
            g[c] += delta
            g_size[c] += weight * spread
            for j in range(d):
                G[j, c] += delta * x[j]
                G_size[j, c] += weight * spread * abs(x[j])
    return (loss, G, g), (size, G_size, g_size)


@pytest.mark.one_build
def test_every_build_offers_the_kernels_of_the_specification_with_its_signatures():
    names = {*kernels.ONE_LAYER, *kernels.DIFFERENCES}
    for name in kernels.available():
        build = kernels.load(name)
        assert {n for n in vars(build) if n != "name"} == names
        for kernel in names:
            ours = list(inspect.signature(getattr(build, kernel)).parameters)
            assert ours == list(inspect.signature(getattr(reference, kernel)).parameters), (name, kernel)


@pytest.mark.one_build
def test_the_compiled_modules_hold_no_kernel_without_a_twin():
    for name in kernels.available()[1:]:
        public = {n for n in vars(kernels._compiled(name)) if not n.startswith("_")}
        assert public == set(kernels.ONE_LAYER), name
    public = {n for n in vars(kernels._compiled("differences")) if not n.startswith("_")}
    assert public - {"np", "Evaluator"} == set(kernels.DIFFERENCES)


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("activation, code", ACTIVATIONS)
@pytest.mark.parametrize("n, d, k", [(1, 1, 1), (5, 3, 2), (23, 4, 1), (9, 17, 1), (6, 5, 5)])
@pytest.mark.parametrize("weighted, shifted", [(False, False), (True, True)])
def test_loss_and_gradient_against_forty_digits(build, n, d, k, activation, code, weighted, shifted, dtype):
    data = problem(n, d, k, dtype, weighted, shifted)
    G, g = np.full((d, k), np.nan), np.full(k, np.nan)
    loss = build.total_loss_and_gradient(*data, code, 0, G, g)
    (true_loss, true_G, true_g), (size, G_size, g_size) = exact(*data, activation)
    tolerance = TOLERANCE[dtype]
    assert abs(loss - true_loss) <= tolerance * size
    assert np.all(abs(G - true_G) <= tolerance * G_size)
    assert np.all(abs(g - true_g) <= tolerance * g_size)
    assert abs(build.total_loss(*data, code, 0) - true_loss) <= tolerance * size


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("n, d, k", SHAPES)
def test_twins_agree_in_value_and_write_to_the_same_arguments_only(build, n, d, k, layout, dtype):
    for (_, code), weighted, shifted in itertools.product(ACTIVATIONS, (False, True), (False, True)):
        X, Y, W, b, shift, s = problem(n, d, k, dtype, weighted, shifted)
        data = laid_out(X, layout), laid_out(Y, layout), W, b, shift, s
        before = [array.copy() for array in data]
        results = []
        for twin in (build, reference):
            G, g = np.full((d, k), np.nan), np.full(k, np.nan)
            results.append((twin.total_loss_and_gradient(*data, code, 0, G, g), G, g, twin.total_loss(*data, code, 0)))
        for array, copy in zip(data, before, strict=True):
            np.testing.assert_array_equal(array, copy)
        # The size of the terms, for the tolerance: the same sums over absolute values.
        rows = np.abs(X - shift if shifted else X).astype(float)
        h_size = rows @ np.abs(W) + np.abs(b) + np.abs(Y) + 1
        weight = s[:, None] if weighted else 1.0
        scale = TOLERANCE[dtype] * (weight * h_size) if weighted else TOLERANCE[dtype] * h_size
        assert abs(results[0][0] - results[1][0]) <= 2 * np.sum(scale * h_size)
        assert abs(results[0][3] - results[1][3]) <= 2 * np.sum(scale * h_size)
        assert np.all(np.abs(results[0][1] - results[1][1]) <= 2 * rows.T @ scale)
        assert np.all(np.abs(results[0][2] - results[1][2]) <= 2 * scale.sum(axis=0))


@pytest.mark.parametrize("dtype", TOLERANCE)
def test_float32_sums_are_kept_in_float64(build, dtype):
    # Summed in float32, 300,000 equal terms are off in the fifth digit.
    n = 300_000
    X = np.full((n, 1), 0.1, dtype)
    none = np.empty(0, dtype)
    G, g = np.empty((1, 1)), np.empty(1)
    data = X, np.zeros((n, 1), dtype), np.ones((1, 1), dtype), np.zeros(1, dtype), none, none
    loss = build.total_loss_and_gradient(*data, 0, 0, G, g)
    x = float(dtype(0.1))
    assert loss == pytest.approx(0.5 * n * x * x, rel=1e-7)
    assert G[0, 0] == pytest.approx(n * x * x, rel=1e-5)
    assert g[0] == pytest.approx(n * x, rel=1e-5)


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("n, d, k", SHAPES)
@pytest.mark.parametrize("activation, code", ACTIVATIONS)
def test_predict(build, n, d, k, activation, code, dtype):
    X, _, W, b, _, _ = problem(n, d, k, dtype)
    out, twin = np.full((n, k), np.nan, dtype), np.full((n, k), np.nan, dtype)
    for layout in LAYOUTS:
        build.predict(laid_out(X, layout), W, b, code, out)
        reference.predict(X, W, b, code, twin)
        size = np.abs(X).astype(float) @ np.abs(W) + np.abs(b) + 1
        assert np.all(np.abs(out - twin) <= 2 * TOLERANCE[dtype] * size)


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("size", [0, 1, 3, 8, 1001])
def test_update_is_one_step_in_place(build, size, dtype):
    rng = np.random.default_rng(size)
    w, g = rng.standard_normal((2, size)).astype(dtype)
    twin, g_before = w.copy(), g.copy()
    build.update(w, g, 0.1)
    reference.update(twin, g, 0.1)
    np.testing.assert_allclose(w, twin, rtol=4 * np.finfo(dtype).eps, atol=np.finfo(dtype).eps)
    np.testing.assert_array_equal(g, g_before)


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("activation, code", ACTIVATIONS)
def test_activations_and_derivatives_against_mpmath(build, activation, code, dtype):
    points = np.concatenate([np.linspace(-30, 30, 241), [-700, -80, -1e-8, 0, 1e-8, 80, 700]]).astype(dtype)
    out, slope = np.empty_like(points), np.empty_like(points)
    build.apply_activation(points, code, out)
    build.apply_derivative(points, code, slope)
    with mpmath.workdps(400):  # tanh' = 1 − tanh² cancels some 300 digits at 700/2
        for h, ours, ours_slope in zip(points.tolist(), out, slope, strict=True):
            h = mpmath.mpf(h)
            e = mpmath.exp(-abs(h))
            true, true_slope = {
                "identity": (h, mpmath.mpf(1)),
                "sigmoid": (1 / (1 + mpmath.exp(-h)), e / (1 + e) ** 2),
                "tanh": (mpmath.tanh(h), 4 * e**2 / (1 + e**2) ** 2),
            }[activation]
            # Below the smallest normal number the digits run out; the relative error there is that of the format.
            tiny = float(np.finfo(dtype).tiny)
            assert abs(mpmath.mpf(float(ours)) - true) <= 4 * float(np.finfo(dtype).eps) * abs(true) + tiny
            assert abs(mpmath.mpf(float(ours_slope)) - true_slope) <= 8 * float(np.finfo(dtype).eps) * true_slope + tiny


@pytest.mark.parametrize("dtype", TOLERANCE)
def test_activations_at_the_ends_of_the_number_line(build, dtype):
    h = np.array([-np.inf, np.inf, np.nan, -0.0], dtype)
    out = np.empty_like(h)
    build.apply_activation(h, reference.ACTIVATIONS["sigmoid"], out)
    np.testing.assert_array_equal(out, np.array([0, 1, np.nan, 0.5], dtype))
    build.apply_derivative(h, reference.ACTIVATIONS["sigmoid"], out)
    np.testing.assert_array_equal(out, np.array([0, 0, np.nan, 0.25], dtype))
    build.apply_activation(h, reference.ACTIVATIONS["tanh"], out)
    np.testing.assert_array_equal(out, np.array([-1, 1, np.nan, 0], dtype))


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_not_finite_is_never_hidden(build, value, dtype):
    for index in (0, 5, 66):  # in the rows taken four at a time, and in those left over
        X, Y, W, b, shift, s = problem(67, 3, 1, dtype)
        X[index, 1] = value
        G, g = np.empty((3, 1)), np.empty(1)
        loss = build.total_loss_and_gradient(X, Y, W, b, shift, s, 0, 0, G, g)
        assert not math.isfinite(loss)
        assert not np.isfinite(G[1, 0])


@pytest.mark.parametrize(
    "change",
    [
        {"W": (4, 2)},
        {"Y": (6, 2)},
        {"Y": (5, 3)},
        {"b": (3,)},
        {"shift": (2,)},
        {"s": (4,)},
        {"G": (4, 2)},
        {"g": (1,)},
    ],
)
def test_shapes_that_do_not_fit_are_refused_before_the_loop(change):
    # The reference raises what NumPy raises, so this is about the compiled builds: their bounds checks are off.
    shapes = {"X": (5, 3), "Y": (5, 2), "W": (3, 2), "b": (2,), "shift": (0,), "s": (0,), "G": (3, 2), "g": (2,)}
    shapes.update(change)
    arrays = {name: np.zeros(shape) for name, shape in shapes.items()}
    data = [arrays[name] for name in ("X", "Y", "W", "b", "shift", "s")]
    for name in kernels.available()[1:]:
        with pytest.raises(ValueError, match=r"rows|columns|entries|shapes"):
            kernels.load(name).total_loss_and_gradient(*data, 0, 0, arrays["G"], arrays["g"])


# ------------------------------------------------------------------------------------------------ finite differences


def as_number(returned, point, i):
    return float(returned)


@pytest.mark.parametrize("kernel", ["central_differences", "forward_differences"])
@pytest.mark.parametrize("d", [0, 1, 2, 7])
def test_differences_evaluate_the_same_points_as_the_reference(build, kernel, d):
    x = np.linspace(-1, 2, d)
    steps = np.full(d, 1e-4)
    seen, outs = [], []
    for twin in (build, reference):
        points = []

        def f(point, scale, points=points):
            points.append(point.copy())
            return scale * float(np.sin(point).sum())

        out = np.full(d, np.nan)
        getattr(twin, kernel)(f, x, steps, (d,), (2.0,), as_number, out)
        seen.append(points)
        outs.append(out)
    np.testing.assert_array_equal(seen[0], seen[1])
    np.testing.assert_array_equal(outs[0], outs[1])
    np.testing.assert_array_equal(x, np.linspace(-1, 2, d))


def test_evaluate_gives_f_a_private_copy_in_its_shape(build):
    x = np.arange(6.0)

    def f(point):
        assert point.shape == (2, 3)
        value = point.sum()
        point[:] = 0
        return value

    assert build.evaluate(f, x, (2, 3), (), as_number) == 15.0
    np.testing.assert_array_equal(x, np.arange(6.0))


@pytest.mark.parametrize("keep", [lambda p: p, lambda p: p[1:], lambda p: p.reshape(-1, 1), memoryview])
def test_f_may_keep_what_it_is_given(build, keep):
    kept = []

    def f(point):
        kept.append(keep(point))
        return float(point @ point)

    out = np.empty(3)
    build.central_differences(f, np.array([1.0, 2.0, 3.0]), np.full(3, 0.5), (3,), (), as_number, out)
    values = [np.asarray(array).ravel()[-1] for array in kept]
    assert values == [3.0, 3.0, 3.0, 3.0, 3.5, 2.5]
    np.testing.assert_allclose(out, [2, 4, 6])


def test_f_cannot_resize_the_memory_it_is_lent(build):
    def f(point):
        with pytest.raises(ValueError):
            point.resize(10, refcheck=False)
        return 0.0

    build.evaluate(f, np.ones(3), (3,), (), as_number)


def test_a_step_that_vanishes_is_named(build):
    for kernel in (build.central_differences, build.forward_differences):
        with pytest.raises(ValueError, match="too small to move coordinate 1"):
            kernel(sum, np.array([0.0, 1e20]), np.ones(2), (2,), (), as_number, np.empty(2))
