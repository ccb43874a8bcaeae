"""The gradient of an objective from its values alone: the kernels that move one weight at a time, and their user."""

import functools
import itertools
from pathlib import Path

import mpmath
import numpy as np
import pytest
import scipy.sparse
from kernel_problems import (
    LAYOUTS,
    LOSSES,
    MODEL,
    PAIRS,
    TOLERANCE,
    csr,
    exact_row,
    in_digits,
    laid_out,
    problem,
    sizes,
    sparse_problem,
    targets,
)

from fastgd import LinearObjective, kernels, numerical_gradient
from fastgd.data import rows, threads
from fastgd.kernels.codes import ACTIVATIONS
from fastgd.kernels.reference import perturbed as reference_perturbed
from fastgd.losses.table import LOSSES as TABLE
from fastgd.objective import perturbed

pytestmark = pytest.mark.every_build

# |error| ≤ ROUNDING·Σ|terms| of the losses on both sides, all in float64: so what is left of it in a gradient is
# that over the step, some 1e-10.
ROUNDING = 2e-15
EXACT_SHAPES = [(1, 1, 1), (23, 4, 1), (9, 17, 1), (5, 3, 2), (4, 2, 5)]
# Blocks of 240 rows and of fewer, filled up or not; whole registers of columns and some over; many outputs.
SHAPES = [(1, 1, 1), (16, 2, 1), (67, 10, 1), (500, 9, 1), (40, 700, 1), (6, 3, 2), (250, 7, 3), (7, 2, 60)]


def steps_for(W, b, intercept=True, seed=3):
    """Steps from those of a gradient up to some that no longer look alike on both sides."""
    rng = np.random.default_rng(seed)
    steps, step_b = 10.0 ** rng.uniform(-6, -0.5, W.shape), 10.0 ** rng.uniform(-6, -0.5, len(b))
    return steps, step_b if intercept else np.empty(0)


def in_double(data):
    X, Y, W, b, _, s = data
    return X, Y, W.astype(np.float64), b.astype(np.float64), s


def moved(build, data, steps, step_b, pair, index=None):
    """Differences by W and b, as written to memory that held NaN; by the CSR kernel with a type of `index`."""
    X, Y, W, b, s = data
    out_W, out_b = np.full(W.shape, np.nan), np.full(len(step_b), np.nan)
    rest = Y, W, b, steps, step_b, s, ACTIVATIONS[pair[0]], LOSSES[pair[1]], out_W, out_b
    if index is None:
        build.perturbed_pass(X, *rest)
    else:
        build.sparse_perturbed_pass(*csr(X, index), *rest)
    return out_W, out_b


def tolerance(data, steps, step_b, pair):
    """ROUNDING·Σ|terms| of the loss at the points that are looked at."""
    X, Y, W, b, s = (array.astype(np.float64) for array in data)
    reach = max(np.max(steps, initial=0) * np.max(np.abs(X)), np.max(step_b, initial=0))
    # A loss grows with |h| (with e^h, on one side), so that of points further out bounds it.
    size = sum(np.maximum(*(sizes(X, Y, W, b + t, np.empty(0), s, *pair)[0] for t in (reach, -reach))))
    return ROUNDING * 2 * size


@functools.cache
def exact(pair, n, d, k, dtype, weighted):
    """Differences in 40 digits, from the formulas and nothing of ours."""
    data = in_double(problem(n, d, k, dtype, weighted, activation=pair[0], loss=pair[1]))
    steps, step_b = steps_for(data[2], data[3])
    X, Y, W, b, s = map(in_digits, data)
    with mpmath.workdps(40):
        h, out = (X @ W + b).tolist(), []
        for x, moves in [*zip(X.T, in_digits(steps), strict=True), (in_digits(np.ones(n)), in_digits(step_b))]:
            out.append([])
            for c, t in enumerate(moves):
                total = mpmath.mpf(0)
                for i, y in enumerate(Y.tolist()):
                    side = [[v + (t * x[i] * sign if e == c else 0) for e, v in enumerate(h[i])] for sign in (1, -1)]
                    above, below = (sum(value for value, _ in exact_row(row, y, *pair)) for row in side)
                    total += (s[i] if weighted else 1) * (above - below)
                out[-1].append(total)
    return np.array(out)


@pytest.mark.parametrize("pair", PAIRS, ids="-".join)
def test_differences_against_forty_digits(build, pair):
    for dtype in TOLERANCE:
        for (n, d, k), weighted in itertools.product(EXACT_SHAPES, (False, True)):
            data = in_double(problem(n, d, k, dtype, weighted, activation=pair[0], loss=pair[1]))
            steps = steps_for(data[2], data[3])
            true = exact(pair, n, d, k, dtype, weighted)
            for index in (None, np.int32):
                ours = np.vstack(moved(build, data, *steps, pair, index))
                assert np.all(np.abs(ours - true) <= tolerance(data, *steps, pair)), index
            # Where all outputs are on one side of their targets, the pinball loss of shares is that of their sum, 1.
            constant = pair == ("softmax", "quantile") or (k == 1 and pair[0] == "softmax")
            assert np.any(true != 0) or constant or n == 1


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_twins_agree_in_value_and_write_to_the_same_arguments_only(build, layout, dtype):
    for n, d, k in SHAPES:
        for i, pair in enumerate(PAIRS):
            if d * k > 100 and i % 9:  # the reference takes long for each weight
                continue
            weighted, intercept = i % 2 == 0, i % 3 == 0
            X, Y, W, b, s = in_double(problem(n, d, k, dtype, weighted, activation=pair[0], loss=pair[1]))
            s = laid_out(s[:, None], layout)[:, 0] if weighted else s
            data = laid_out(X, layout), laid_out(Y, layout), W, b, s
            steps = steps_for(W, b, intercept)
            before = [array.copy() for array in (*data, *steps)]
            theirs = moved(reference_perturbed, data, *steps, pair)
            for ours, true in zip(moved(build, data, *steps, pair), theirs, strict=True):
                assert np.all(np.abs(ours - true) <= 2 * tolerance(data, *steps, pair)), pair
            for array, copy in zip((*data, *steps), before, strict=True):
                np.testing.assert_array_equal(array, copy)


@pytest.mark.parametrize("pair", PAIRS, ids="-".join)
def test_sparse_rows_are_those_of_the_dense_array(build, pair):
    for dtype in TOLERANCE:
        shapes = [(1, 1, 1), (30, 8, 1), (700, 12, 1), (30, 8, 3), (6, 90, 2)]
        for (n, d, k), index in itertools.product(shapes, (np.int32, np.int64)):
            for weighted, intercept in [(False, False), (True, True)]:
                data = in_double(sparse_problem(n, d, k, dtype, weighted, *pair))
                steps = steps_for(data[2], data[3], intercept)
                before = [array.copy() for array in (*data, *steps)]
                dense = moved(build, data, *steps, pair)
                for ours, true in zip(moved(build, data, *steps, pair, index), dense, strict=True):
                    assert np.all(np.abs(ours - true) <= 2 * tolerance(data, *steps, pair))
                for array, copy in zip((*data, *steps), before, strict=True):
                    np.testing.assert_array_equal(array, copy)


def test_a_piece_of_indptr_points_into_the_middle_of_the_data(build):
    for first, last in [(0, 12), (0, 1), (5, 6), (7, 30), (29, 30)]:
        data = X, Y, W, b, s = in_double(sparse_problem(30, 8, 2, np.float64, weighted=True))
        steps, step_b = steps_for(W, b)
        values, indices, indptr = csr(X)
        out_W, out_b, piece = np.full(W.shape, np.nan), np.full(2, np.nan), slice(first, last)
        build.sparse_perturbed_pass(
            values,
            indices,
            indptr[first : last + 1],
            Y[piece],
            W,
            b,
            steps,
            step_b,
            s[piece],
            1,
            LOSSES["squared"],
            out_W,
            out_b,
        )
        theirs = moved(build, (X[piece], Y[piece], W, b, s[piece]), steps, step_b, ("sigmoid", "squared"))
        for ours, true in zip((out_W, out_b), theirs, strict=True):
            assert np.all(np.abs(ours - true) <= tolerance(data, steps, step_b, ("sigmoid", "squared")))


def test_an_entry_that_stands_twice_moves_once_for_each(build):
    """(½ − w)² + … by hand: the row is 2w, stored as w + w; moved entry by entry, not as a sum."""
    Y, W, zero, none = np.array([[1.0]]), np.array([[0.5]]), np.zeros(1), np.empty(0)
    out = np.empty((1, 1))
    arrays = np.ones(2), np.zeros(2, np.int32), np.array([0, 2], np.int32)
    build.sparse_perturbed_pass(*arrays, Y, W, zero, np.full((1, 1), 0.25), none, none, *MODEL, out, none)
    assert out.item() == 0.0  # h − y = 0, where the slope is


@pytest.mark.parametrize("index", [None, np.int32])
def test_differences_by_hand(build, index):
    """l = ½(h − y)², h = w₁ + 2w₂ + b = 3 with y = 1: ½(2 + a)² − ½(2 − a)² = 4a."""
    data = np.array([[1.0, 2.0]]), np.array([[1.0]]), np.array([[1.0], [0.5]]), np.ones(1), np.empty(0)
    W, b = moved(build, data, np.array([[0.5], [0.25]]), np.array([2.0]), ("identity", "squared"), index)
    assert (W.ravel().tolist(), b.tolist()) == ([2.0, 2.0], [8.0])
    # A hinge of y·h = 3 is 0 up to 1: only the last of the three moves reaches the other side.
    W, b = moved(build, data, np.array([[0.5], [0.25]]), np.array([4.0]), ("identity", "hinge"), index)
    assert (W.ravel().tolist(), b.tolist()) == ([0.0, 0.0], [-2.0])


SHAPES_OF_ARGUMENTS = {
    "X": (5, 3), "Y": (5, 2), "W": (3, 2), "b": (2,), "steps": (3, 2), "step_b": (2,), "s": (0,), "out_W": (3, 2),
    "out_b": (2,),
}  # fmt: skip


@pytest.mark.parametrize(
    "change",
    [
        *({"W": (4, 2)}, {"Y": (6, 2)}, {"Y": (5, 3)}, {"b": (3,)}, {"steps": (3, 1)}, {"steps": (2, 2)}),
        *({"step_b": (1,)}, {"step_b": (0,)}, {"out_b": (3,)}, {"s": (4,)}, {"out_W": (3, 3)}, {"out_W": (2, 2)}),
        *({"X": (5, 0), "W": (0, 2), "steps": (0, 2), "out_W": (0, 2)}, {"X": (0, 3), "Y": (0, 2)}),
    ],
    ids=str,
)
def test_shapes_that_do_not_fit_are_refused_before_the_loop(build, change):
    for index in (None, np.int32):
        if build.name == "reference":
            pytest.skip("it raises what NumPy raises; in the compiled builds bounds checks are off")
        X, *arrays = (np.ones(shape) for shape in (SHAPES_OF_ARGUMENTS | change).values())
        Y, W, b, steps, step_b, s, out_W, out_b = arrays
        with pytest.raises(ValueError):
            if index is None:
                build.perturbed_pass(X, Y, W, b, steps, step_b, s, *MODEL, out_W, out_b)
            else:  # the rows are those of Y
                Y = Y[: len(X)] if "Y" not in change else np.ones((len(X) + 1, Y.shape[1]))
                build.sparse_perturbed_pass(*csr(X), Y, W, b, steps, step_b, s, *MODEL, out_W, out_b)


@pytest.mark.one_build
def test_the_kernels_use_no_slope():
    # They are there to be held against slopes, so an error in one of those must not come back here.
    source = Path(__file__).resolve().parents[2] / "src" / "fastgd" / "kernels" / "perturbed.pxi"
    assert "slope" not in source.read_text().replace("slopes", "").replace("No slope", "")


# --------------------------------------------------------------------------------------------------------- objectives

MODELS = [(activation, name) for name, loss in TABLE.items() for activation in loss.activations]


def objective(activation="identity", loss="mse", n=60, d=7, k=None, sparse=False, dtype=np.float64, seed=0, **options):
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, d)).astype(dtype)
    if sparse:
        X = scipy.sparse.csr_array(np.where(rng.random((n, d)) < 0.4, X, 0).astype(dtype))
    shape = (n, k) if k else n
    y = rng.standard_normal(shape)
    if TABLE[loss].targets:
        y = targets(rng, n, k or 1, activation, TABLE[loss].kernel).reshape(shape)
    return LinearObjective(X, y, activation=activation, loss=loss, **options)


def assert_same_gradient(numerical, analytic, relative):
    scale = max(1.0, np.max(np.abs(analytic)))
    assert np.max(np.abs(numerical - analytic)) <= relative * scale


@pytest.mark.parametrize("activation, loss", MODELS)
def test_the_numerical_gradient_is_the_analytic_one(build, activation, loss):
    for sparse, dtype in itertools.product((False, True), TOLERANCE):
        options = {"activation": activation, "loss": loss, "sparse": sparse, "dtype": dtype}
        for k, weighted in [(3, True), (2, False)] if activation == "softmax" else [(None, True), (3, False)]:
            s = np.random.default_rng(1).uniform(0, 3, 60) if weighted else None
            o = objective(**options, k=k, fit_intercept=weighted, l2=0.3, sample_weight=s)
            w = 0.4 * np.random.default_rng(2).standard_normal(o.shape)
            numerical = o.numerical_gradient(w)
            assert numerical.dtype == dtype and numerical.shape == o.shape
            assert_same_gradient(numerical, o.gradient(w), 2e-9 if dtype == np.float64 else 2e-6)


@pytest.mark.parametrize("kind", [np.asfortranarray, lambda X: X[:, ::-1][:, ::-1], lambda X: np.repeat(X, 2, 0)[::2]])
def test_any_layout_of_the_data(build, kind):
    o = objective("tanh", "huber", n=300, d=5, fit_intercept=True)
    laid = LinearObjective(kind(o.X), o.y, activation="tanh", loss="huber", fit_intercept=True)
    w = np.linspace(-1, 1, 6)
    np.testing.assert_allclose(laid.numerical_gradient(w), o.numerical_gradient(w), rtol=0, atol=1e-11)


@pytest.mark.parametrize("h", [None, 1e-4, 0.5, "each"])
def test_the_step_is_the_one_asked_for(build, h):
    """Of e^h − y·h the difference over 2a is e^h·sinh(a)/a − y, at any a."""
    o = LinearObjective([[1.0, 2.0]], [3.0], activation="exp", loss="poisson")
    w = np.array([0.3, -0.1])
    step = np.array([0.25, 0.0625]) if h == "each" else h
    h = np.finfo(float).eps ** (1 / 3) if h is None else step
    x, at = np.array([1.0, 2.0]), 0.1
    expected = x * (np.exp(at) * np.sinh(h * x) / (h * x) - 3.0)
    np.testing.assert_allclose(o.numerical_gradient(w, step), expected, rtol=1e-9 if np.min(h) < 1e-3 else 1e-14)


def test_the_divisor_is_the_distance_of_the_points(build):
    # At 1e8 a step of 1e-4 is a multiple of 1.5e-8; 2h would be off in the fourth digit.
    o = LinearObjective([[1.0]], [0.0], loss="poisson", activation="exp")
    line = LinearObjective([[1.0]], [1e8 - 1.0])  # ½(w − 1e8 + 1)², a slope of 1 at 1e8
    assert line.numerical_gradient([1e8], 1.1e-4)[0] == pytest.approx(1.0, rel=1e-9)
    assert o.numerical_gradient([1.0], 1e-3)[0] == pytest.approx(np.exp(1.0), rel=1e-6)


def test_the_penalty_loses_no_digits(build):
    o = LinearObjective(np.zeros((2, 2)), [5.0, 5.0], fit_intercept=True, l2=3.0)
    assert o.numerical_gradient([1e12, -1e-12, 5.0]).tolist() == pytest.approx(
        [3e12, -3e-12, 0.0], rel=1e-15, abs=1e-20
    )


def test_rows_are_subtracted_one_by_one(build):
    """Two sums of 40,000 losses around 1e4 lose what their difference is made of."""
    o = objective("identity", "huber", n=40_000, d=3, fit_intercept=True)
    w = np.array([1.0, -2.0, 3.0, 1e4])
    truth = o.gradient(w)
    ours, sums = o.numerical_gradient(w), numerical_gradient(o.value, w)
    ours_error, sums_error = (np.max(np.abs(g - truth)) for g in (ours, sums))
    assert ours_error < 1e-8
    assert ours_error < sums_error


@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("activation, loss", [("identity", "mse"), ("sigmoid", "log"), ("softmax", "huber")])
def test_threads_change_no_bit(build, activation, loss, sparse, monkeypatch):
    monkeypatch.setattr(rows, "BLOCK_VALUES", 100)
    monkeypatch.setattr(threads, "THREAD_VALUES", 0)
    results = []
    for n_jobs in (None, 2, 3, 7):
        o = objective(activation, loss, n=1500, d=6, k=3, sparse=sparse, fit_intercept=True, l2=0.1, n_jobs=n_jobs)
        assert len(rows.even_blocks(1500, o.rows.values, 6, perturbed.LEAST_ROWS)) > 7
        results.append(o.numerical_gradient(np.full(o.shape, 0.1)).tobytes())
    assert len(set(results)) == 1


@pytest.mark.parametrize("sparse", [False, True])
def test_each_row_is_read_once_however_many_columns(sparse, monkeypatch):
    """One call of a kernel, at 10,000 columns; moving one weight after the other would be 20,000 passes."""
    name = "sparse_perturbed_pass" if sparse else "perturbed_pass"
    calls, kernel = [], getattr(kernels.active, name)
    if kernels.active.name == "reference":
        pytest.skip("it loops over the columns in Python")
    o = objective("sigmoid", "mse", n=60, d=10_000, sparse=sparse, fit_intercept=True)
    w = np.random.default_rng(0).standard_normal(10_001) / 100
    monkeypatch.setattr(kernels.active, name, lambda *arguments: calls.append(1) or kernel(*arguments))
    numerical = o.numerical_gradient(w)
    assert len(calls) == 1
    assert_same_gradient(numerical, o.gradient(w), 1e-9)


def test_the_two_halves_of_a_kink(build):
    """At a kink the difference sees both slopes, −1 and 0 or ±1 and 0, and the gradient the subgradient 0."""
    hinge = LinearObjective([[1.0]], [1.0], loss="hinge")
    assert hinge.numerical_gradient([1.0], 0.5).tolist() == [-0.5]
    assert hinge.gradient([1.0]).tolist() == [0.0]
    tube = LinearObjective([[1.0]], [0.0], loss="epsilon_insensitive")
    assert tube.numerical_gradient([0.1], 0.05)[0] == pytest.approx(0.5, rel=1e-12)
    assert tube.gradient([0.1]).tolist() == [0.0]


def test_what_is_given_is_not_written_to(build):
    o = objective(fit_intercept=True)
    w, h = np.ones(8), np.full(8, 1e-3)
    for array in (w, h):
        array.flags.writeable = False
    first = o.numerical_gradient(w, h)
    assert o.numerical_gradient(w.tolist(), 1e-3).tolist() == first.tolist()
    assert o.numerical_gradient(np.ones(8, int), np.float32(1e-3)).shape == (8,)


@pytest.mark.parametrize(
    "w, h, message",
    [
        ([1.0, 2.0], 0.0, "h must be positive; got 0"),
        ([1.0, 2.0], [1e-3, -1e-3], "h must be positive"),
        ([1.0, 2.0], [1e-3], r"h must be a number or an array of the shape of w, \(2,\); got shape \(1,\)"),
        ([1.0, 2.0], np.nan, "h must be finite"),
        ([1.0, 1e9], 1e-9, r"h is 1e-09 for w\[1\] = 1e\+09, too small to move it"),
        ([1.0, 2.0], 1e308, r"h is 1e\+308 for w\[0\] = 1, too large: w ± h overflows"),
        ([1.0], None, r"w must have shape \(2,\); got \(1,\)"),
        ([1.0, np.inf], None, r"w must be finite; w\[1\] is inf"),
    ],
)
def test_bad_input(w, h, message):
    with np.errstate(all="raise"), pytest.raises(ValueError, match=message):
        objective(d=2).numerical_gradient(w, h)


@pytest.mark.parametrize("sparse", [False, True])
def test_a_loss_that_is_not_finite_is_an_error(build, sparse):
    X = scipy.sparse.csr_array([[1.0, 0.0], [0.0, 1.0]]) if sparse else np.eye(2)
    o = LinearObjective(X, [1.0, 2.0], activation="exp", loss="poisson")
    with np.errstate(all="raise"):
        with pytest.raises(ValueError, match=r"the loss is not finite at w = \[  1., 800.\]$"):
            o.numerical_gradient([1.0, 800.0])
        with pytest.raises(ValueError, match=r"not finite at w = \[  1., 700.\], w\[1\] having been moved by 100$"):
            o.numerical_gradient([1.0, 700.0], [1.0, 100.0])


@pytest.mark.one_build
def test_softmax_of_rows_that_would_overflow():
    """Where one output has all the weight, another falls off the end of the floats."""
    o = LinearObjective([[1.0], [-1.0]], [0, 2], activation="softmax", loss="log")
    for w in ([[800.0, 0.0, -800.0]], [[30.0, 0.0, -30.0]], [[-1e5, 1e5, 0.0]]):
        assert_same_gradient(o.numerical_gradient(w), o.gradient(w), 1e-9 if np.max(w) < 1e3 else 1e-6)
    o = LinearObjective([[1.0], [-1.0]], [[1.0, 0, 3.0], [0.5, 2.0, 0]], activation="softmax", loss="mse")
    for w in ([[800.0, 0.0, -800.0]], [[30.0, 0.0, -30.0]]):
        assert_same_gradient(o.numerical_gradient(w), o.gradient(w), 1e-9)


@pytest.mark.one_build
def test_threads_are_worth_more_here(monkeypatch):
    seen = []

    def alone(function, blocks, jobs):
        seen.append(jobs)
        return [function(blocks[0])]

    monkeypatch.setattr(threads, "over_blocks", alone)
    o = objective(n=threads.THREAD_VALUES // 2 // 8, d=8, n_jobs=2)
    assert o.jobs(threads.THREAD_VALUES) == 1
    o.numerical_gradient(np.zeros(8))
    assert seen == [2] and perturbed.PASSES == 4
