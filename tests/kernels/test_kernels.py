"""The passes over the data, compiled and in NumPy, against exact values and against each other."""

import functools
import inspect
import itertools
import math

import mpmath
import numpy as np
import pytest
from kernel_problems import (
    LAYOUTS,
    LOSSES,
    MODEL,
    PAIRS,
    TOLERANCE,
    assert_close,
    exact_row,
    in_digits,
    laid_out,
    one_pass,
    problem,
    products,
    sizes,
)

from fastgd import kernels
from fastgd.kernels.codes import ACTIVATIONS, PLAIN
from fastgd.kernels.reference import one_layer as reference

pytestmark = pytest.mark.every_build


HUBER_DELTA, TUBE = LOSSES["huber"].parameter, LOSSES["epsilon_insensitive"].parameter
EXACT_SHAPES = [(1, 1, 1), (23, 4, 1), (9, 17, 1), (5, 3, 2), (6, 5, 5), (7, 3, 16), (3, 2, 200)]
# One row and several blocks of rows; fewer columns than a register has lanes and many more; outputs up to more than go
# through the error term together.
SHAPES = [
    (1, 1, 1), (3, 2, 1), (67, 10, 1), (130, 50, 1), (700, 9, 1), (9, 700, 1),
    (4, 1, 2), (1100, 3, 2), (5, 3, 5), (131, 7, 16), (20, 4, 200),
]  # fmt: skip


@functools.cache
def exact(activation, loss, n, d, k, dtype, weighted, shifted):
    """Totals and gradients of a `problem` in 40 digits, from the formulas and nothing of ours."""
    X, Y, W, b, shift, s = map(in_digits, problem(n, d, k, dtype, weighted, shifted, activation, loss))
    with mpmath.workdps(40):
        rows = X - shift if shifted else X
        points = [exact_row(h, y, activation, loss) for h, y in zip((rows @ W + b).tolist(), Y.tolist(), strict=True)]
        value, delta = np.moveaxis(np.array(points, object), -1, 0) * (s[:, None] if weighted else 1)
        return value.sum(axis=0), rows.T @ delta, delta.sum(axis=0)


@pytest.mark.one_build
def test_every_build_offers_the_kernels_of_the_specification_with_its_signatures():
    names = {*kernels.ONE_LAYER, *kernels.PERTURBED, *kernels.COORDINATES, *kernels.FUNCTIONS, *kernels.DIFFERENCES}
    specification = kernels.load("reference")
    for name in kernels.available():
        build = kernels.load(name)
        assert {n for n in vars(build) if n != "name"} == names
        for kernel in names:
            ours = list(inspect.signature(getattr(build, kernel)).parameters)
            assert ours == list(inspect.signature(getattr(specification, kernel)).parameters), (name, kernel)


@pytest.mark.one_build
def test_the_compiled_modules_hold_no_kernel_without_a_twin():
    for name in kernels.available()[1:]:
        public = {n for n in vars(kernels._compiled(name)) if not n.startswith("_")}
        public -= {"Calls", "c_code", "codes"}
        assert public == {*kernels.ONE_LAYER, *kernels.PERTURBED, *kernels.COORDINATES, *kernels.FUNCTIONS}, name
    public = {n for n in vars(kernels._compiled("differences")) if not n.startswith("_")}
    assert public - {"np", "Evaluator", "validation", "c_code", "codes"} == set(kernels.DIFFERENCES)


# ------------------------------------------------------------------------------------------- one pass over the data


@pytest.mark.parametrize("activation, loss", PAIRS)
def test_loss_and_gradient_against_forty_digits(build, activation, loss):
    for dtype in TOLERANCE:
        for (n, d, k), (weighted, shifted) in itertools.product(EXACT_SHAPES, [(False, False), (True, True)]):
            data = problem(n, d, k, dtype, weighted, shifted, activation, loss)
            totals, G, g = exact(activation, loss, n, d, k, dtype, weighted, shifted)
            for gemm in products(k, dtype):
                ours = one_pass(build, data, activation, loss, gemm)
                size = sizes(*data, activation, loss)
                for value, true, terms in zip(ours, (totals, G, g, totals), (*size, size[0]), strict=True):
                    assert_close(value, true, terms, TOLERANCE[dtype])


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_twins_agree_in_value_and_write_to_the_same_arguments_only(build, layout, dtype):
    for n, d, k in SHAPES:
        options = itertools.cycle(itertools.product((False, True), (False, True)))
        for (activation, loss), (weighted, shifted) in zip(PAIRS, options, strict=False):
            X, Y, W, b, shift, s = problem(n, d, k, dtype, weighted, shifted, activation, loss)
            s = laid_out(s[:, None], layout)[:, 0] if weighted else s
            data = laid_out(X, layout), laid_out(Y, layout), W, b, shift, s
            before = [array.copy() for array in data]
            theirs = one_pass(reference, data, activation, loss)
            size = sizes(*data, activation, loss)
            for gemm in products(k, dtype):
                ours = one_pass(build, data, activation, loss, gemm)
                for value, true, terms in zip(ours, theirs, (*size, size[0]), strict=True):
                    assert_close(value, true, terms, 2 * TOLERANCE[dtype])
            for array, copy in zip(data, before, strict=True):
                np.testing.assert_array_equal(array, copy)


# Rows, columns, outputs and the edges of the blocks.
BLOCKS_OF_ROWS = [(40, 3, 1, [0, 40]), (133, 9, 1, [0, 1, 50, 51, 133]), (37, 5, 2, [3, 20, 30])]


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_sums_of_blocks_are_those_of_their_rows(build, layout, dtype):
    for (n, d, k, edges), (weighted, shifted) in itertools.product(BLOCKS_OF_ROWS, [(False, False), (True, True)]):
        X, Y, W, b, shift, s = problem(n, d, k, dtype, weighted, shifted, "sigmoid", "squared")
        X, edges = laid_out(X, layout), np.array(edges, np.int64)
        code = ACTIVATIONS["sigmoid"], LOSSES["squared"]
        for gemm in products(k, dtype):
            sums, totals = np.full((len(edges) - 1, 2 * k + d * k), np.nan), np.full((len(edges) - 1, k), np.nan)
            build.block_sums(X, Y, W, b, shift, s, *code, gemm, edges, sums)
            build.block_sums(X, Y, W, b, shift, s, *code, gemm, edges, totals)
            for row, alone, first, last in zip(sums, totals, edges[:-1], edges[1:], strict=True):
                data = X[first:last], Y[first:last], W, b, shift, s[first:last]
                theirs = one_pass(reference, data, "sigmoid", "squared")
                ours = row[:k], row[k:-k].reshape(d, k), row[-k:], alone
                size = sizes(*data, "sigmoid", "squared")
                for value, true, terms in zip(ours, theirs, (*size, size[0]), strict=True):
                    assert_close(value, true, terms, 2 * TOLERANCE[dtype])


@pytest.mark.parametrize("dtype", TOLERANCE)
def test_value_from_sums_adds_them_up_in_one_tree(build, dtype):
    for blocks, intercept in itertools.product((1, 2, 3, 7, 64), (False, True)):
        rng, d, k = np.random.default_rng(blocks), 3, 2
        sums, w = rng.standard_normal((blocks, 2 * k + d * k)), rng.standard_normal((d + intercept, k)).astype(dtype)
        factor, l2 = 0.3, 0.7
        exact_sum = np.array([math.fsum(column) for column in sums.T])
        theirs, ours, gradients = sums.copy(), sums.copy(), np.full((2, *w.shape), np.nan, dtype)
        value = build.value_from_sums(ours, w, intercept, factor, l2, gradients[0])
        assert value == pytest.approx(
            reference.value_from_sums(theirs, w, intercept, factor, l2, gradients[1]), rel=1e-14
        )
        np.testing.assert_allclose(ours, theirs, rtol=1e-15)
        np.testing.assert_allclose(gradients[0], gradients[1], rtol=4 * np.finfo(dtype).eps, atol=np.finfo(dtype).eps)
        totals = np.ascontiguousarray(sums[:, :k])
        assert build.value_from_sums(totals, w, intercept, factor, l2, np.empty((0, k), dtype)) == value
        W = w[:d].astype(np.float64)
        assert value == pytest.approx(factor * exact_sum[:k].sum() + 0.5 * l2 * np.sum(W**2), rel=1e-12)
        expected = factor * exact_sum[k:].reshape(-1, k)
        expected[:d] += l2 * W
        np.testing.assert_allclose(
            gradients[0], expected[: len(w)], rtol=1e-12 if dtype == np.float64 else 1e-5, atol=1e-6
        )


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("intercept", [False, True])
@pytest.mark.parametrize(
    "n, d, k, edges",
    [
        (50, 3, 1, [0, 50]), (133, 17, 1, [0, 60, 133]), (37, 5, 3, [0, 9, 20, 37]), (37, 43, 2, [0, 9, 37]),
        (23, 65, 4, [0, 23]),
    ],
)  # fmt: skip
def test_value_and_gradient_is_a_pass_and_its_sum(build, n, d, k, edges, intercept, dtype):
    X, Y, W, b, _, s = problem(n, d, k, dtype, True, False, "tanh", "huber")
    w = np.concatenate([W, b[None]]) if intercept else W
    before = [array.copy() for array in (X, Y, w, s)]
    edges = np.array(edges, np.int64)
    numbers = ACTIVATIONS["tanh"], LOSSES["huber"]
    found = []
    for twin in (build, reference):
        gradient = np.full(w.shape, np.nan, dtype)
        arguments = X, Y, w.reshape(-1), s, *numbers, None, 0.5, 0.1, edges
        value = twin.value_and_gradient(*arguments, gradient.reshape(-1))
        assert twin.value_and_gradient(*arguments, gradient[:0, 0]) == pytest.approx(value, rel=1e-15)
        found.append((value, gradient))
    size = sizes(X, Y, W, b if intercept else np.zeros_like(b), np.empty(0), s, "tanh", "huber")
    assert_close(found[0][0], found[1][0], size[0].sum(), 2 * TOLERANCE[dtype])
    terms = np.concatenate([size[1], size[2][None]])[: len(w)] + abs(w)
    assert_close(found[0][1], found[1][1], terms, 2 * TOLERANCE[dtype])
    for array, copy in zip((X, Y, w, s), before, strict=True):
        np.testing.assert_array_equal(array, copy)


@pytest.mark.parametrize("edges", [[0], [0, 0], [0, 3, 2], [-1, 3], [0, 6]], ids=str)
def test_edges_that_are_no_blocks_are_refused(build, edges):
    if build.name == "reference":
        pytest.skip("it raises what NumPy raises, or sums nothing; in the compiled builds bounds checks are off")
    X, Y, w, none = np.zeros((5, 3)), np.zeros((5, 1)), np.zeros((3, 1)), np.empty(0)
    edges = np.array(edges, np.int64)
    with pytest.raises(ValueError, match="edges"):
        build.value_and_gradient(X, Y, w[:, 0], none, *MODEL, None, 1.0, 0.0, edges, w[:, 0].copy())
    with pytest.raises(ValueError, match="edges"):
        build.block_sums(X, Y, w, np.zeros(1), none, none, *MODEL, None, edges, np.empty((max(len(edges) - 1, 1), 1)))


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("weighted", [False, True])
def test_every_width_of_a_row(build, weighted, dtype):
    for d in (*range(1, 36), 63, 64, 65, 130, 333, 700, 1100, 2300):
        # Registers, what is left behind the last one, and rows narrower than one; and 0 to 3 rows behind the last four.
        # Long rows go through the loops for two, for four, and for one row at a time.
        for n in (1, 2, 3, 4, 7, 1100 if d in (5, 9, 70) else 262 if d < 100 else 21):
            for loss, shifted in (("squared", False), ("huber", True)):
                data = problem(n, d, 1, dtype, weighted, shifted, "identity", loss, seed=n)
                theirs, size = one_pass(reference, data, "identity", loss), sizes(*data, "identity", loss)
                for value, true, terms in zip(
                    one_pass(build, data, "identity", loss), theirs, (*size, size[0]), strict=True
                ):
                    assert_close(value, true, terms, 2 * TOLERANCE[dtype])


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("weighted", [False, True])
def test_every_number_of_outputs(build, weighted, dtype):
    for k in (*range(2, 19), 31, 32, 33, 70):
        for n, d in ((1, 1), (5, 3), (11, 8), (70, 9), (259, 2), (21, 40)):
            for loss, shifted in (("squared", False), ("huber", True)):
                data = problem(n, d, k, dtype, weighted, shifted, "identity", loss, seed=n)
                theirs, size = one_pass(reference, data, "identity", loss), sizes(*data, "identity", loss)
                for value, true, terms in zip(
                    one_pass(build, data, "identity", loss), theirs, (*size, size[0]), strict=True
                ):
                    assert_close(value, true, terms, 2 * TOLERANCE[dtype])
            X, _, W, b = problem(n, d, k, dtype)[:4]
            out, expected = np.full((n, k), np.nan, dtype), np.empty((n, k), dtype)
            build.predict(X, W, b, ACTIVATIONS["identity"], None, out)
            reference.predict(X, W, b, ACTIVATIONS["identity"], None, expected)
            assert_close(out, expected, np.abs(X) @ np.abs(W) + np.abs(b), 2 * TOLERANCE[dtype])


@pytest.mark.parametrize("dtype", TOLERANCE)
def test_a_memory_mapped_file_is_read_where_it_is(build, dtype, tmp_path):
    X, *rest = problem(300, 6, 1, dtype)
    (tmp_path / "X").write_bytes(b"a header" + X.tobytes())
    mapped = np.memmap(tmp_path / "X", dtype, "r", offset=8, shape=X.shape)
    for ours, copied in zip(
        one_pass(build, (mapped, *rest), "identity", "squared"),
        one_pass(build, (X, *rest), "identity", "squared"),
        strict=True,
    ):
        np.testing.assert_array_equal(ours, copied)


@pytest.mark.parametrize("dtype", TOLERANCE)
def test_huber_on_both_sides_of_its_corner(build, dtype):
    corner = dtype(HUBER_DELTA)
    side = np.array([0, 1, np.nextafter(corner, dtype(0)), corner, np.nextafter(corner, dtype(2)), 1.5, 1e4], dtype)
    residuals = np.concatenate([side, -side])
    none = np.empty(0, dtype)
    for r in residuals:
        data = np.ones((1, 1), dtype), np.zeros((1, 1), dtype), np.full((1, 1), r), np.zeros(1, dtype), none, none
        totals, _, g, _ = one_pass(build, data, "identity", "huber")
        a = abs(float(r))
        assert totals[0] == pytest.approx(a * a / 2 if a <= 1.35 else 1.35 * (a - 0.675), rel=1e-15)
        assert g[0] == pytest.approx(np.clip(float(r), -1.35, 1.35), rel=float(np.finfo(dtype).eps))


KINKS = [
    # loss, y, f, l, slope: inside, at the kink, the next float beyond it, far, and what is not finite
    ("hinge", 1, [2, 1, 1 - 2**-20, -3, np.inf, -np.inf, np.nan], [0, 0, 2**-20, 4, 0, np.inf, np.nan],
     [0, 0, -1, -1, 0, -1, np.nan]),
    ("hinge", -1, [-2, -1, 2**-20 - 1, 3, -np.inf, np.inf], [0, 0, 2**-20, 4, 0, np.inf], [0, 0, 1, 1, 0, 1]),
    ("squared_hinge", 1, [2, 1, 1 - 2**-10, -3, np.inf, np.nan], [0, 0, 2**-20, 16, 0, np.nan],
     [0, 0, -(2**-9), -8, 0, np.nan]),
    ("squared_hinge", -1, [-2, -1, 2**-10 - 1, 3], [0, 0, 2**-20, 16], [0, 0, 2**-9, 8]),
    ("epsilon_insensitive", 0, [0, 0.05, -0.05, 5, -5, -np.inf, np.nan], [0, 0, 0, 4.9, 4.9, np.inf, np.nan],
     [0, 0, 0, 1, -1, -1, np.nan]),
]  # fmt: skip


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("loss, y, f, losses, slopes", KINKS)
def test_losses_on_both_sides_of_their_kinks(build, loss, y, f, losses, slopes, dtype):
    none = np.empty(0, dtype)
    column, plain = np.array(f, dtype), PLAIN[np.dtype(dtype)]
    for at, value, slope in zip(column, losses, slopes, strict=True):
        # By the intercept, so that what is not finite meets no 0·inf; and the same in one step of each other kernel.
        data = np.zeros((1, 1), dtype), np.full((1, 1), y, dtype), np.zeros((1, 1), dtype), at[None], none, none
        totals, _, g, alone = one_pass(build, data, "identity", loss)
        np.testing.assert_allclose([totals[0], alone[0], g[0]], [value, value, slope], rtol=1e-15)
        w = np.array([[0], [at]], dtype)
        order, rates = np.array([0]), np.array([1.0])
        build.stochastic(*data[:2], w, none, 0, LOSSES[loss], 1.0, 0.0, order, 1, True, rates, *plain)
        np.testing.assert_allclose(w[1], dtype(at) - dtype(slope))
        w[1] = at
        csr = np.zeros(0, dtype), np.zeros(0, np.int32), np.zeros(2, np.int32)
        build.sparse_stochastic(*csr, data[1], w, 1, none, 0, LOSSES[loss], 1.0, 0.0, order, 1, True, rates, *plain)
        np.testing.assert_allclose(w[1], dtype(at) - dtype(slope))


def test_the_tube_ends_where_it_should(build):
    none = np.empty(0)
    for side in (-1, 1):
        at = np.array([TUBE, np.nextafter(TUBE, 0), np.nextafter(TUBE, 1)]) * side
        slopes = []
        for f in at:
            data = np.zeros((1, 1)), np.zeros((1, 1)), np.zeros((1, 1)), f[None], none, none
            slopes.append(one_pass(build, data, "identity", "epsilon_insensitive")[2].item())
        assert slopes == [0, 0, side]


@pytest.mark.parametrize("dtype", TOLERANCE)
def test_softmax_of_rows_that_would_overflow(build, dtype):
    H = np.array([[1e4, 0, -1e4], [-1e4, -1e4, -1e4], [np.nan, 0, 1], [3, -np.inf, 3]], dtype)
    out = np.empty_like(H)
    none, zeros = np.empty(0, dtype), np.zeros(3, dtype)
    for row in range(len(H)):  # by the intercepts: 0·inf would be NaN in every output
        build.predict(np.zeros((1, 1), dtype), np.zeros((1, 3), dtype), H[row], 6, None, out[row : row + 1])
    np.testing.assert_allclose(out, [[1, 0, 0], [1 / 3] * 3, [np.nan] * 3, [0.5, 0, 0.5]], rtol=1e-6)
    # A class that is not the target's adds nothing to the loss, also where the log of its probability is −inf.
    Y = np.array([[1, 0, 0], [0, 1, 0], [1, 0, 0], [0, 0, 1]], dtype)
    losses = []
    for row in range(len(H)):
        data = np.zeros((1, 1), dtype), Y[row : row + 1], np.zeros((1, 3), dtype), H[row], none, none
        losses.append(one_pass(build, data, "softmax", "log")[0].sum())
    np.testing.assert_allclose(losses, [0, np.log(3), np.nan, np.log(2)], rtol=1e-6)
    data = np.zeros((1, 1), dtype), Y[2:3], np.zeros((1, 3), dtype), zeros, none, none
    _, _, g, _ = one_pass(build, data, "softmax", "log")
    np.testing.assert_allclose(g, [-2 / 3, 1 / 3, 1 / 3], rtol=1e-6)


@pytest.mark.parametrize("dtype", TOLERANCE)
def test_float32_sums_are_kept_in_float64(build, dtype):
    # Summed in float32, 300,000 equal terms are off in the fifth digit.
    n = 300_000
    none = np.empty(0, dtype)
    data = np.full((n, 1), 0.1, dtype), np.zeros((n, 1), dtype), np.ones((1, 1), dtype), np.zeros(1, dtype), none, none
    (total,), ((G,),), (g,), _ = one_pass(build, data, "identity", "squared")
    x = float(dtype(0.1))
    assert total == pytest.approx(0.5 * n * x * x, rel=1e-7)
    assert pytest.approx(n * x * x, rel=1e-5) == G
    assert g == pytest.approx(n * x, rel=1e-5)


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_predict(build, activation, dtype):
    for n, d, k in SHAPES:
        X, _, W, b, _, _ = problem(n, d, k, dtype)
        twin = np.full((n, k), np.nan, dtype)
        for layout, gemm in itertools.product(LAYOUTS, products(k, dtype)):
            data = laid_out(X, layout), W, b
            before = [array.copy() for array in data]
            out = np.full((n, k), np.nan, dtype)
            build.predict(*data, ACTIVATIONS[activation], gemm, out)
            reference.predict(*data, ACTIVATIONS[activation], None, twin)
            terms = (np.abs(data[0]).astype(float) @ np.abs(W) + np.abs(b)).max(axis=1, keepdims=True) + 1
            assert_close(out, twin, terms * np.maximum(twin, 1) if activation == "exp" else terms, 2 * TOLERANCE[dtype])
            for array, copy in zip(data, before, strict=True):
                np.testing.assert_array_equal(array, copy)


@pytest.mark.parametrize("dtype", TOLERANCE)
def test_predict_of_no_rows_writes_nothing(build, dtype):
    memory = np.full((4, 2), 7, dtype)
    for gemm in products(2, dtype):
        build.predict(
            np.empty((0, 3), dtype), np.ones((3, 2), dtype), np.ones(2, dtype), 0, gemm, memory[2:2]
        )  # fmt: skip
    np.testing.assert_array_equal(memory, 7)
    if build.name != "reference":  # where no rows stand beside room for one, nothing is written either
        with pytest.raises(ValueError, match="shapes"):
            build.predict(
                np.empty((0, 3), dtype), np.ones((3, 2), dtype), np.ones(2, dtype), 0, None, memory[1:2]
            )  # fmt: skip
        np.testing.assert_array_equal(memory, 7)


@pytest.mark.parametrize("dtype", TOLERANCE)
def test_update_is_one_step_in_place(build, dtype):
    for size in (0, 1, 3, 8, 1001):
        rng = np.random.default_rng(size)
        w, g = rng.standard_normal((2, size)).astype(dtype)
        twin, g_before = w.copy(), g.copy()
        build.update(w, g, 0.1)
        reference.update(twin, g, 0.1)
        np.testing.assert_allclose(w, twin, rtol=4 * np.finfo(dtype).eps, atol=np.finfo(dtype).eps)
        np.testing.assert_array_equal(g, g_before)


ONE_SIDED = ("modified_huber", "perceptron", "probit", "cloglog")


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("k", [1, 3])
def test_what_is_not_finite_is_never_hidden(build, value, k, dtype):
    # An infinite h is a finite value of a sigmoid, and on the right side none of a margin: there only NaN has to stay.
    for (activation, loss), index in itertools.product(PAIRS, (0, 5, 66)):  # rows taken four at a time, and left over
        data = problem(67, 3, k, dtype, activation=activation, loss=loss)
        data[0][index, 1] = value
        for gemm in products(k, dtype):
            totals, G, _, alone = one_pass(build, data, activation, loss, gemm)
            if np.isnan(value) or (activation == "identity" and "hinge" not in loss and loss not in ONE_SIDED):
                assert not np.isfinite(totals.sum())
                assert not np.isfinite(alone.sum())
                assert not np.isfinite(G[1]).any()


PASS_SHAPES = {
    "X": (5, 3), "Y": (5, 2), "W": (3, 2), "b": (2,), "shift": (0,), "s": (0,), "totals": (2,), "G": (3, 2), "g": (2,),
}  # fmt: skip


@pytest.mark.parametrize(
    "change",
    [
        *({"W": (4, 2)}, {"Y": (6, 2)}, {"Y": (5, 3)}, {"b": (3,)}, {"shift": (2,)}, {"s": (4,)}, {"totals": (1,)}),
        *({"X": (5, 0), "W": (0, 2), "G": (0, 2)}, {"X": (0, 3), "Y": (0, 2)}),
    ],
    ids=str,
)
def test_shapes_that_do_not_fit_are_refused_before_the_loop(build, change):
    for gradient in (False, True):
        refuse_shapes(build, change, gradient)


@pytest.mark.parametrize("change", [{"G": (4, 2)}, {"G": (3, 1)}, {"g": (1,)}], ids=str)
def test_gradients_of_other_shapes_are_refused_before_the_loop(build, change):
    refuse_shapes(build, change, True)


def refuse_shapes(build, change, gradient):
    if build.name == "reference":
        pytest.skip("it raises what NumPy raises; in the compiled builds bounds checks are off")
    arrays = {name: np.zeros(shape) for name, shape in {**PASS_SHAPES, **change}.items()}
    X, Y, W, b, shift, s, totals, G, g = arrays.values()
    with pytest.raises(ValueError, match=r"rows|columns|entries|shapes"):
        if gradient:
            build.total_loss_and_gradient(X, Y, W, b, shift, s, *MODEL, None, totals, G, g)
        else:
            build.total_loss(X, Y, W, b, shift, s, *MODEL, None, totals)


@pytest.mark.parametrize("change", [{"W": (4, 2)}, {"b": (3,)}, {"out": (4, 2)}, {"out": (5, 3)}], ids=str)
def test_predict_refuses_shapes_that_do_not_fit(build, change):
    if build.name == "reference":
        pytest.skip("it raises what NumPy raises; in the compiled builds bounds checks are off")
    shapes = {"X": (5, 3), "W": (3, 2), "b": (2,), "out": (5, 2), **change}
    X, W, b, out = (np.zeros(shape) for shape in shapes.values())
    with pytest.raises(ValueError, match="shapes"):
        build.predict(X, W, b, 0, None, out)


@pytest.mark.parametrize("kernel", ["update", "apply_activation", "apply_derivative"])
def test_flat_arrays_of_different_lengths_are_refused(build, kernel):
    if build.name == "reference":
        pytest.skip("it raises what NumPy raises; in the compiled builds bounds checks are off")
    with pytest.raises(ValueError, match="entries"):
        getattr(build, kernel)(np.zeros(3), *((np.zeros(4), 0.1) if kernel == "update" else (0, np.zeros(4))))
