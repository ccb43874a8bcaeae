"""Runs of many steps inside a kernel, dense and CSR: the same iterates as the specification takes, step by step."""

import functools
import itertools

import numpy as np
import pytest
from kernel_problems import (
    LAYOUTS,
    LOSSES,
    MODEL,
    PAIRS,
    TOLERANCE,
    assert_close,
    compiled_only,
    csr,
    laid_out,
    one_pass,
    problem,
    products,
    sizes,
    sparse_problem,
)

from fastgd.kernels.codes import ACTIVATIONS, PLAIN, OnRows
from fastgd.kernels.reference import one_layer as reference

pytestmark = pytest.mark.every_build

BEGINNING = (0, 0, 1, 0, 0, 0, 0, 0)
# Orders of ten rows, from an implementation of the published generator.
PINNED = ([2, 6, 0, 5, 1, 9, 3, 8, 4, 7], [108, 100, 103, 106, 104, 109, 107, 101, 102, 105])
# |error| ≤ DRIFT·largest |entry|: steps that contract keep the rounding of a few of them.
DRIFT = {np.float64: 1e-12, np.float32: 2e-5}


def assert_same_weights(ours, theirs, dtype):
    assert np.all(abs(ours.astype(float) - theirs) <= DRIFT[dtype] * max(1.0, abs(theirs).max()))


# ------------------------------------------------------------------------------------------------ full-batch descent


class Run:
    """One run of `descend`, in as many calls as there are entries in `calls`, and what it left behind."""

    def __init__(self, build, data, rates, calls=None, intercept=False, gemm=None, **options):
        X, Y, W, b, _, s = data
        self.w = np.vstack([W, b]) if intercept else W.copy()
        pair = options.pop("pair", ("identity", "squared"))
        keep = options.pop("keep", True)
        o = {"factor": 1 / len(X), "l2": 0.0, "offset": 0.0, "gap_factor": -1.0, "gap_floor": 0.0}
        o |= {"overshoots": np.inf, "overshoot_growth": np.inf, **options}
        rates = np.array(rates, float)
        self.state, self.gradient, self.previous = (
            np.array(BEGINNING, float),
            np.zeros_like(self.w),
            np.zeros_like(self.w),
        )
        self.funs, self.norms = np.full((2, len(rates)), np.nan)
        self.points = np.full((len(rates), *self.w.shape), np.nan, X.dtype)
        none = np.empty((0, 0, 0), X.dtype)
        self.step = 0
        for length in calls or [len(rates)]:
            part = slice(self.step, self.step + length)
            steps, self.reason = build.descend(
                X, Y, self.w, s, ACTIVATIONS[pair[0]], LOSSES[pair[1]], gemm, *(o[name] for name in list(o)[:3]),
                rates[part], *(o[name] for name in list(o)[3:]), self.state, self.gradient, self.previous,
                self.funs[part], self.norms[part], self.points[part] if keep else none, *PLAIN[X.dtype],
            )  # fmt: skip
            self.step += steps
            if self.reason:
                break


def assert_same_run(ours, theirs, dtype):
    assert (ours.step, ours.reason) == (theirs.step, theirs.reason)
    assert_same_weights(ours.w, theirs.w, dtype)
    # Rows that were not reached still hold NaN, in both.
    size = max(1.0, np.nanmax(np.abs(theirs.points)))
    np.testing.assert_allclose(ours.points, theirs.points, rtol=0, atol=DRIFT[dtype] * size)
    np.testing.assert_allclose(ours.funs, theirs.funs, rtol=20 * DRIFT[dtype], atol=DRIFT[dtype])
    np.testing.assert_allclose(ours.norms, theirs.norms, rtol=20 * DRIFT[dtype], atol=DRIFT[dtype])
    size = max(1.0, np.nanmax(theirs.norms))
    np.testing.assert_allclose(ours.gradient, theirs.gradient, rtol=0, atol=DRIFT[dtype] * size)
    np.testing.assert_allclose(ours.state, theirs.state, rtol=100 * DRIFT[dtype], atol=DRIFT[dtype])
    assert_same_weights(ours.previous, theirs.previous, dtype)


@pytest.mark.parametrize("activation, loss", PAIRS)
def test_descend_takes_the_steps_of_the_specification(build, activation, loss):
    for dtype in TOLERANCE:
        for n, d, k in [(40, 3, 1), (300, 9, 1), (60, 20, 1), (40, 3, 3), (30, 2, 200)]:
            rates = (2e-5 if activation == "exp" else 0.05) / np.arange(1, 13)  # exp is steep where h is large
            for intercept, weighted, l2 in [(False, False, 0.0), (True, True, 0.3)]:
                data = problem(n, d, k, dtype, weighted, activation=activation, loss=loss)
                data[2] /= 2  # h small enough for exp
                options = {"pair": (activation, loss), "intercept": intercept, "l2": l2, "offset": 0.25}
                theirs = Run(reference, data, rates, **options)
                for gemm in products(k, dtype):
                    before = [array.copy() for array in data]
                    assert_same_run(Run(build, data, rates, gemm=gemm, **options), theirs, dtype)
                    for array, copy in zip(data, before, strict=True):
                        np.testing.assert_array_equal(array, copy)
            assert theirs.reason == OnRows.ALL_STEPS
            assert np.isfinite(theirs.points).all()
            # Down, apart from the offset: else the test compared runs that went nowhere.
            assert theirs.funs[-1] < theirs.funs[0]


@pytest.mark.parametrize("dtype", TOLERANCE)
def test_descend_by_hand(build, dtype):
    """F = 10 + ½(2 − w)² + ½·3·w², so F' = 4w − 2: from 0 with rates ½ and ¼ to 1 and ½."""
    none = np.empty(0, dtype)
    data = np.ones((1, 1), dtype), np.full((1, 1), 2, dtype), np.zeros((1, 1), dtype), np.zeros(1, dtype), none, none
    run = Run(build, data, [0.5, 0.25, 0.25], l2=3.0, offset=10.0, factor=1.0)
    assert run.points.ravel().tolist() == [0, 1, 0.5]
    assert run.funs.tolist() == [12, 12, 11.5]
    assert run.norms.tolist() == [2, 2, 0]
    assert run.w.item() == 0.5


@pytest.mark.parametrize("layout", LAYOUTS)
def test_descend_on_other_layouts(build, layout):
    X, Y, W, b, shift, s = problem(50, 4, 2, np.float64, weighted=True)
    laid = laid_out(X, layout), laid_out(Y, layout), W, b, shift, laid_out(s[:, None], layout)[:, 0]
    copied = [np.array(array) for array in laid]
    assert_same_run(Run(build, laid, [0.1] * 10), Run(reference, copied, [0.1] * 10), np.float64)


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("k", [1, 3])
def test_descend_without_points_walks_the_same_way(build, k, dtype):
    data = problem(60, 5, k, dtype)
    with_points, without = (Run(build, data, [0.1] * 9, intercept=True, keep=keep) for keep in (True, False))
    np.testing.assert_array_equal(with_points.w, without.w)
    np.testing.assert_array_equal(with_points.funs, without.funs)
    assert np.isnan(without.points).all()


def largest_curvature(data):
    return np.linalg.eigvalsh(data[0].T.astype(float) @ data[0])[-1] / len(data[0])


@functools.cache
def runs_that_stop(dtype, k):
    """Options of runs that end for each reason, by name, with that reason."""
    data = problem(60, 5, k, dtype)
    rate = 1 / largest_curvature(data)
    return data, {
        "gap": ([rate] * 200, {"gap_factor": 1e-3}, OnRows.REACHED),
        "floor": ([rate] * 200, {"gap_factor": 1e-4, "gap_floor": 0.5, "offset": -1.0}, OnRows.REACHED),
        "at once": ([rate] * 200, {"gap_factor": 1e9}, OnRows.REACHED),
        "overshooting": ([2.5 * rate] * 400, {"overshoots": 5, "overshoot_growth": 30.0}, OnRows.OVERSHOOTING),
        "first overshoot": ([4 * rate] * 400, {"overshoots": 1, "overshoot_growth": 1.0}, OnRows.OVERSHOOTING),
        "a rate that grows": (
            1.8 * rate * 1.03 ** np.arange(200),
            {"overshoots": 4, "overshoot_growth": 8.0},
            OnRows.OVERSHOOTING,
        ),
        "infinite": ([1e4 * rate] * 400, {}, OnRows.NOT_FINITE),
        "infinite rate": ([rate, np.inf, rate], {}, OnRows.NOT_FINITE),
    }


NAMES_THAT_STOP = tuple(runs_that_stop(np.float64, 1)[1])


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("name", NAMES_THAT_STOP)
def test_descend_stops_where_the_specification_does(build, name, dtype):
    for k, intercept in itertools.product((1, 3), (False, True)):
        data, runs = runs_that_stop(dtype, k)
        rates, options, reason = runs[name]
        theirs = Run(reference, data, rates, intercept=intercept, **options)
        ours = Run(build, data, rates, intercept=intercept, **options)
        assert (ours.step, ours.reason) == (theirs.step, reason)
        assert ours.step < len(rates)
        # Row `step` is the last one touched: at w, or, where that is of no use, one step further.
        last = ours.step - 1 if reason == OnRows.NOT_FINITE else ours.step
        np.testing.assert_array_equal(ours.points[last], ours.w)
        assert np.isfinite(ours.norms[: ours.step]).all()
        assert np.isnan(ours.funs[ours.step + 1 :]).all()
        assert np.isnan(ours.norms[ours.step + 1 :]).all()
        assert np.isnan(ours.points[ours.step + 1 :]).all()
        if reason == OnRows.NOT_FINITE:
            assert not (np.isfinite(ours.norms[ours.step]) and np.isfinite(ours.funs[ours.step]))
            np.testing.assert_array_equal(ours.previous, ours.w)
            assert ours.state[-1] == ours.funs[last]
            assert np.isclose(np.linalg.norm(ours.gradient.astype(float)), ours.norms[last], rtol=1e-6)
            continue
        # A run that overshoots has multiplied its rounding by its growth.
        growth = np.nanmax(theirs.norms) / np.nanmin(theirs.norms) if reason == OnRows.OVERSHOOTING else 1
        np.testing.assert_allclose(ours.w, theirs.w, rtol=0, atol=growth * DRIFT[dtype] * max(1, abs(theirs.w).max()))
        np.testing.assert_allclose(ours.state, theirs.state, rtol=100 * DRIFT[dtype] * growth, atol=DRIFT[dtype])
        if reason == OnRows.REACHED:
            bounds = options["gap_factor"] * np.maximum(ours.funs, options.get("gap_floor", 0) * ours.funs[0])
            assert np.flatnonzero(ours.norms**2 <= bounds)[0] == ours.step
        else:
            _, overshoots, growth, *_ = ours.state
            assert overshoots >= options["overshoots"]
            assert growth >= options["overshoot_growth"]
            assert ours.funs[ours.step] > ours.funs[0]


@pytest.mark.parametrize("dtype", TOLERANCE)
def test_descend_leaves_the_start_alone_where_already_that_is_not_finite(build, dtype):
    data = problem(6, 2, 1, dtype)
    data[0][3, 1] = np.nan
    run = Run(build, data, [0.1, 0.1])
    assert (run.step, run.reason) == (0, OnRows.NOT_FINITE)
    np.testing.assert_array_equal(run.w, data[2])
    np.testing.assert_array_equal(run.points[0], data[2])
    assert not run.gradient.any()
    assert tuple(run.state) == BEGINNING


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("name", NAMES_THAT_STOP)
def test_calls_that_hand_their_state_on_are_one_call(build, name, dtype):
    for calls in [1] * 400, [2, 1, 3, *[5] * 80], [0, 7, 0, *[50] * 8]:
        data, runs = runs_that_stop(dtype, 1)
        rates, options, reason = runs[name]
        calls = [
            min(length, max(0, len(rates) - done)) for length, done in zip(calls, np.cumsum([0, *calls]), strict=False)
        ]
        one, many = Run(build, data, rates, **options), Run(build, data, rates, calls, **options)
        assert (many.step, many.reason) == (one.step, reason)
        for attribute in ("w", "state", "gradient", "previous", "funs", "norms", "points"):
            np.testing.assert_array_equal(getattr(many, attribute), getattr(one, attribute))


DESCEND = {
    "X": (5, 3), "Y": (5, 2), "w": (3, 2), "s": (0,), "rates": (4,), "state": (8,), "gradient": (3, 2),
    "previous": (3, 2), "funs": (4,), "norms": (4,), "points": (4, 3, 2),
}  # fmt: skip


@pytest.mark.parametrize(
    "change",
    [
        *({"w": (2, 2)}, {"w": (5, 2)}, {"w": (4, 2)}, {"w": (3, 3)}, {"Y": (4, 2)}, {"Y": (5, 1)}, {"s": (4,)}),
        *(
            {"gradient": (4, 2)},
            {"gradient": (3, 1)},
            {"state": (7,)},
            {"previous": (4, 2)},
            {"previous": (3, 1)},
            {"funs": (3,)},
            {"norms": (3,)},
        ),
        *({"points": (3, 3, 2)}, {"points": (4, 4, 2)}, {"points": (4, 3, 1)}),
        *(
            {"X": (0, 3), "Y": (0, 2)},
            {"X": (5, 0), "w": (0, 2), "gradient": (0, 2), "previous": (0, 2), "points": (0, 0, 0)},
        ),
    ],
    ids=str,
)
def test_descend_refuses_shapes_that_do_not_fit(build, change):
    compiled_only(build)
    X, Y, w, s, rates, state, gradient, previous, funs, norms, points = (
        np.zeros(shape) for shape in {**DESCEND, **change}.values()
    )
    with pytest.raises(ValueError, match=r"rows|columns|entries|shape|room"):
        build.descend(
            X, Y, w, s, *MODEL, None, 1, 0, 0, rates, -1, 0, 1, 1, state, gradient, previous, funs, norms, points,
            *PLAIN[X.dtype],
        )  # fmt: skip


# ----------------------------------------------------------------------------------------------------- order of rows


def order_of(build, seed, epoch, block, first, size):
    out = np.full(size, -1)
    build.shuffle(seed, epoch, block, first, out)
    return out


PLACES = [(0, 0), (3, 0), (0, 7), (2**32, 2**40)]  # epoch and block


@pytest.mark.parametrize("seed", [0, 1, 12345, 2**63, 2**64 - 1])
def test_shuffle_is_the_same_permutation_on_every_build(build, seed):
    for (epoch, block), (first, size) in itertools.product(PLACES, [(0, 0), (5, 1), (0, 2), (100, 33), (2**40, 1000)]):
        order = order_of(build, seed, epoch, block, first, size)
        np.testing.assert_array_equal(order, order_of(reference, seed, epoch, block, first, size))
        np.testing.assert_array_equal(np.sort(order), np.arange(first, first + size))


def test_shuffle_will_be_the_same_permutation_in_later_versions(build):
    # A run that is taken up again, from a file that an older version wrote, goes on in the order it began with.
    assert order_of(build, 0, 0, 0, 0, 10).tolist() == PINNED[0]
    assert order_of(build, 42, 1, 2, 100, 10).tolist() == PINNED[1]


def test_shuffle_depends_on_seed_epoch_and_block(build):
    keys = list(itertools.product(range(4), repeat=3))
    orders = {tuple(order_of(build, *key, 0, 20)) for key in keys}
    assert len(orders) == len(keys)
    # The order does not depend on where it begins.
    np.testing.assert_array_equal(order_of(build, 1, 2, 3, 50, 20), order_of(build, 1, 2, 3, 0, 20) + 50)


@pytest.mark.parametrize("vary", range(3), ids=["seed", "epoch", "block"])
def test_every_row_is_equally_likely_at_every_place(build, vary):
    size, draws = 8, 2000
    counts, steps = np.zeros((size, size)), np.zeros((size, size))
    for draw in range(draws):
        key = [5, 5, 5]
        key[vary] = draw
        order = order_of(build, *key, 0, size)
        counts[np.arange(size), order] += 1
        steps[order[0], order[1]] += 1  # what follows what
    expected = draws / size
    chi_square = np.sum((counts - expected) ** 2) / expected  # mean 49, standard deviation 9.9
    assert 15 < chi_square < 100
    expected = draws / (size * (size - 1))
    off_diagonal = steps[~np.eye(size, dtype=bool)]
    assert 20 < np.sum((off_diagonal - expected) ** 2) / expected < 110  # mean 55, standard deviation 10.5
    assert np.trace(steps) == 0


# ------------------------------------------------------------------------------------------------ stochastic descent


class Steps:
    """Stochastic steps of one problem, dense or CSR, by any build."""

    def __init__(self, data, pair, intercept, order, batch, mean, rates, factor=0.5, l2=0.0):
        X, self.Y, W, b, _, self.s = data
        self.X, self.d, self.sparse = X, X.shape[1], None
        self.start = np.vstack([W, b]) if intercept else W
        self.numbers = ACTIVATIONS[pair[0]], LOSSES[pair[1]], factor, l2
        self.order, self.batch, self.mean, self.rates = order, batch, mean, rates

    def weights(self, build, index=None, steps=None, first=0, start=None):
        """The weights after the first `steps` steps; with a type of `index`, by the CSR kernel."""
        w = (self.start if start is None else start).copy()
        last = len(self.rates) if steps is None else steps
        order, rates = self.order[first * self.batch : last * self.batch], self.rates[first:last]
        rest = *self.numbers, order, self.batch, self.mean, rates, *PLAIN[w.dtype]
        if index is None:
            build.stochastic(self.X, self.Y, w, self.s, *rest)
        else:
            build.sparse_stochastic(*csr(self.X, index), self.Y, w, self.d, self.s, *rest)
        return w

    def path(self):
        """The weights of the reference after each step, one step a call."""
        ends = [self.start]
        for step in range(len(self.rates)):
            ends.append(self.weights(reference, first=step, steps=step + 1, start=ends[-1]))
        return ends[1:]


def some_order(n, epochs=2, seed=0):
    rng = np.random.default_rng(seed)
    return np.concatenate([rng.permutation(n) for _ in range(epochs)])


def rates_for(order, batch, first):
    return first / np.sqrt(np.arange(1, -(-len(order) // batch) + 1))


@pytest.mark.parametrize("activation, loss", PAIRS)
def test_stochastic_steps_are_those_of_the_specification(build, activation, loss):
    for dtype in TOLERANCE:
        for k, batch in itertools.product((1, 3), (1, 3, 11, 40)):
            n = 11
            for mean, weighted, intercept, l2 in [
                (True, False, False, 0.0),
                (False, True, True, 0.7),
                (True, True, True, 0.7),
            ]:
                data = sparse_problem(n, 6, k, dtype, weighted, activation, loss)
                data[2] /= 2
                order = some_order(n)
                rates = rates_for(order, batch, 0.05)
                steps = Steps(data, (activation, loss), intercept, order, batch, mean, rates, l2=l2)
                before = [array.copy() for array in data]
                path = steps.path()
                assert np.isfinite(path[-1]).all()
                assert_same_weights(steps.weights(reference), path[-1], dtype)
                for index in (None, np.int32, np.int64):
                    for step, theirs in enumerate(path, 1):
                        assert_same_weights(steps.weights(build, index, step), theirs, dtype)
                for array, copy in zip(data, before, strict=True):
                    np.testing.assert_array_equal(array, copy)


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("intercept, l2", [(False, 0.0), (True, 0.7)])
def test_stochastic_steps_on_wide_rows(build, intercept, l2, batch, dtype):
    """Rows of many lengths, empty ones among them, of which a kernel takes some entries at a time, and a rest."""
    n, d = 60, 90
    data = sparse_problem(n, d, 1, dtype, True, density=1)
    data[0][np.random.default_rng(2).random((n, d)) > np.linspace(0, 1, n)[:, None]] = 0
    order = some_order(n)
    steps = Steps(data, ("identity", "squared"), intercept, order, batch, True, rates_for(order, batch, 2e-3), l2=l2)
    theirs = steps.weights(reference)
    assert np.abs(theirs - steps.start).max() > 0.01
    for index in (None, np.int32, np.int64):
        assert_same_weights(steps.weights(build, index), theirs, dtype)


@pytest.mark.parametrize("index", [None, np.int32])
@pytest.mark.parametrize("dtype", TOLERANCE)
def test_stochastic_steps_by_hand(build, index, dtype):
    """h = wx + b, ½(h − y)²; w ← (1 − ηλ)w − ηδx, b ← b − ηδ, by rows 1, 0, 1 in batches of two and one."""
    none, column = np.empty(0, dtype), functools.partial(np.reshape, shape=(-1, 1))
    X, Y, W = (column(np.array(values, dtype)) for values in ([1, 2], [1, 3], [1]))
    data = X, Y, W, np.zeros(1, dtype), none, none
    order, rates = np.array([1, 0, 1]), np.array([0.5, 0.25])
    # Step 1: δ = −1 and 0, λ = 2: w = (1 − 1)·1 + ¼·2 = ½, b = ¼. Step 2: h = 1.25, δ = −1.75.
    mean = Steps(data, ("identity", "squared"), True, order, 2, True, rates, factor=1.0, l2=2.0)
    np.testing.assert_allclose(mean.weights(build, index).ravel(), [0.5 * 0.5 + 0.875, 0.25 + 0.4375], rtol=1e-6)
    # As a sum: w = (1 − ½·2)·1 + ½·2 = 1, b = ½; then h = 2.5, δ = −½, λ = 2·½.
    total = Steps(data, ("identity", "squared"), True, order, 2, False, rates, factor=1.0, l2=2.0)
    np.testing.assert_allclose(total.weights(build, index).ravel(), [0.75 + 0.25, 0.5 + 0.125], rtol=1e-6)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_stochastic_on_other_layouts(build, layout):
    for batch, k in [(1, 1), (4, 1), (4, 3)]:
        X, Y, W, b, shift, s = problem(23, 9, k, np.float64, weighted=True)
        laid = [laid_out(X, layout), laid_out(Y, layout), W, b, shift, laid_out(s[:, None], layout)[:, 0]]
        order = some_order(23)
        args = ("identity", "squared"), True, order, batch, True, rates_for(order, batch, 0.1)
        theirs = Steps([np.array(array) for array in laid], *args).weights(reference)
        assert_same_weights(Steps(laid, *args).weights(build), theirs, np.float64)


@pytest.mark.parametrize("batch", [1, 4])
def test_a_row_may_come_twice_or_never(build, batch):
    data = sparse_problem(9, 4, 1, np.float64)
    order = np.array([3, 3, 3, 8, 1, 3, 8])
    steps = Steps(data, ("identity", "squared"), True, order, batch, True, rates_for(order, batch, 0.1))
    for index in (None, np.int32):
        assert_same_weights(steps.weights(build, index), steps.weights(reference), np.float64)


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("shrinkage", [0.5, 1e-3, 1e-9, 0.0, -0.5, -1e-9, -1.5])
def test_l2_over_long_runs(build, shrinkage, dtype):
    """1 − rate·l2 far from 1: its product over the steps leaves the range of a float many times over."""
    for k, batch in itertools.product((1, 3), (1, 3)):
        n = 40
        data = sparse_problem(n, 12, k, dtype, weighted=True)
        order = some_order(n, 1 if shrinkage < -1 else 8)
        rates = np.full(-(-len(order) // batch), 0.125)
        steps = Steps(data, ("tanh", "squared"), True, order, batch, True, rates, l2=(1 - shrinkage) / 0.125)
        theirs = steps.weights(reference)
        assert np.isfinite(theirs).all()
        # Growing weights grow their rounding with them; what saturates at them does not fall back on it.
        size = max(1.0, np.abs(theirs).max())
        for index in (None, np.int32, np.int64):
            for step in (1, 2, len(rates) // 2, len(rates)):
                theirs = steps.weights(reference, None, step)
                size = max(1.0, np.abs(theirs).max())
                error = np.abs(steps.weights(build, index, step).astype(float) - theirs).max()
                assert error <= 10 * DRIFT[dtype] * size, (index, step)


def test_weights_of_columns_without_entries_only_shrink(build):
    X = np.zeros((6, 3))
    X[:, 0] = 1
    data = X, np.zeros((6, 1)), np.ones((3, 1)), np.zeros(1), np.empty(0), np.empty(0)
    order = np.arange(6)
    steps = Steps(data, ("identity", "squared"), False, order, 1, True, np.full(6, 0.5), factor=1.0, l2=0.5)
    for index in (None, np.int32):
        w = steps.weights(build, index)
        np.testing.assert_allclose(w[1:], 0.75**6, rtol=1e-14)
        np.testing.assert_allclose(w[0], 0.25**6, rtol=1e-14)


@pytest.mark.parametrize("index", [None, np.int32])
def test_a_batch_far_larger_than_the_data_needs_no_memory_of_its_size(build, index):
    data = sparse_problem(5, 3, 1, np.float64)
    order = np.arange(5)
    large, fitting = (
        Steps(data, ("identity", "squared"), True, order, batch, True, np.array([0.1])) for batch in (2**62, 5)
    )
    np.testing.assert_array_equal(large.weights(build, index), fitting.weights(build, index))


# --------------------------------------------------------------------------------------------------- refused at once

STOCHASTIC = {"Y": (5, 2), "w": (3, 2), "s": (0,), "order": np.arange(5), "batch": 2, "rates": (3,), "d": 3}
BAD_STEPS = [
    *({"w": (2, 2)}, {"w": (5, 2)}, {"w": (3, 1)}, {"Y": (4, 2)}, {"Y": (6, 2)}, {"Y": (5, 3)}, {"s": (4,)}),
    *({"rates": (2,)}, {"rates": (4,)}, {"batch": 0}, {"batch": -1}, {"batch": 3}),
    *({"order": np.array(order)} for order in ([0, 1, 2, 3, 5], [0, 1, 2, 3, -1], [2**40, 1, 2, 3, 4], [0] * 7)),
]


@pytest.mark.parametrize("sparse", [False, True], ids=["dense", "CSR"])
def test_stochastic_refuses_what_does_not_fit(build, sparse):
    compiled_only(build)
    for change in BAD_STEPS:
        given = {**STOCHASTIC, **change}
        Y, w, s, rates = (np.ones(given[name]) for name in ("Y", "w", "s", "rates"))
        X = np.ones((5, 3))
        rest = s, *MODEL, 1.0, 0.0, given["order"], given["batch"], True, rates, *PLAIN[w.dtype]
        with pytest.raises(ValueError, match=r"rows|columns|entries|order|batches"):
            if sparse:
                build.sparse_stochastic(*csr(X), Y, w, given["d"], *rest)
            else:
                build.stochastic(X, Y, w, *rest)
        np.testing.assert_array_equal(w, 1)


@pytest.mark.parametrize("shape", [(0, 3), (5, 0)])
def test_stochastic_refuses_data_without_rows_or_columns(build, shape):
    compiled_only(build)
    n, d = shape
    rest = np.empty(0), *MODEL, 1.0, 0.0, np.empty(0, np.int64), 1, True, np.empty(0), *PLAIN[np.dtype(float)]
    with pytest.raises(ValueError, match="0"):
        build.stochastic(np.ones(shape), np.ones((n, 1)), np.ones((d, 1)), *rest)
    with pytest.raises(ValueError, match=r"columns|shape"):
        build.sparse_stochastic(*csr(np.ones(shape)), np.ones((n, 1)), np.ones((d, 1)), d, *rest)


def bad_rows():
    """CSR arrays of 4 rows and 3 columns that would be read or written out of bounds, by name."""
    data, indices, indptr = np.ones(6), np.array([0, 2, 1, 0, 1, 2]), np.array([0, 2, 2, 3, 6])

    def changed(array, where, value):
        array = array.copy()
        array[where] = value
        return array

    return {
        "column too large": (data, changed(indices, 3, 3), indptr),
        "last column too large": (data, changed(indices, 5, 2**30), indptr),
        "negative column": (data, changed(indices, 0, -1), indptr),
        "decreasing": (data, indices, np.array([0, 4, 2, 3, 6])),
        "decreasing at the end": (data, indices, np.array([0, 2, 2, 6, 5])),
        "past the data": (data[:5], indices, indptr),
        "past the indices": (data, indices[:5], indptr),
        "before the data": (data, indices, changed(indptr, 0, -1)),
        "wildly decreasing": (data, indices, np.array([0, 2**30, 2, 3, 6])),
        "a row too few": (data, indices, indptr[:-1]),
        "a row too many": (data, indices, np.append(indptr, 6)),
        "no pointers": (data, indices, indptr[:0]),
    }


@pytest.mark.parametrize("name", bad_rows())
def test_csr_rows_that_point_out_of_bounds_are_refused(build, name):
    for index in (np.int32, np.int64):
        compiled_only(build)
        data, indices, indptr = bad_rows()[name]
        rows = data, indices.astype(index), indptr.astype(index)
        Y, w, none = np.ones((4, 1)), np.ones((3, 1)), np.empty(0)
        with pytest.raises(ValueError, match="indptr"):
            build.sparse_pass(*rows, Y, w, np.ones(1), none, *MODEL, np.empty(1), np.empty((3, 1)), np.empty(1))
        with pytest.raises(ValueError, match="indptr"):
            build.sparse_pass(*rows, Y, w, np.ones(1), none, *MODEL, np.empty(1), np.empty((0, 0)), np.empty(0))
        with pytest.raises(ValueError, match="indptr"):
            build.sparse_stochastic(
                *rows, Y, w, 3, none, *MODEL, 1.0, 0.0, np.arange(4), 1, True, np.ones(4), *PLAIN[w.dtype]
            )  # fmt: skip
        np.testing.assert_array_equal(w, 1)


# ---------------------------------------------------------------------------------------------------------- CSR rows


def one_sparse_pass(build, rows, Y, W, b, s, pair):
    totals, alone, G, g = (
        np.full(len(b), np.nan),
        np.full(len(b), np.nan),
        np.full(W.shape, np.nan),
        np.full(b.shape, np.nan),
    )
    numbers = ACTIVATIONS[pair[0]], LOSSES[pair[1]]
    build.sparse_pass(*rows, Y, W, b, s, *numbers, totals, G, g)
    build.sparse_pass(*rows, Y, W, b, s, *numbers, alone, np.empty((0, 0)), np.empty(0))
    return totals, G, g, alone


@pytest.mark.parametrize("activation, loss", PAIRS)
def test_a_sparse_pass_is_the_dense_pass(build, activation, loss):
    for dtype in TOLERANCE:
        shapes = [(1, 1, 1), (30, 8, 1), (700, 40, 1), (30, 8, 3), (300, 5, 16), (5, 4, 200)]
        for (n, d, k), index in itertools.product(shapes, (np.int32, np.int64)):
            for weighted in (False, True):
                data = sparse_problem(n, d, k, dtype, weighted, activation, loss)
                X, Y, W, b, _, s = data
                rows = csr(X, index)
                given = *rows, Y, W, b, s
                before = [array.copy() for array in given]
                ours = one_sparse_pass(build, rows, Y, W, b, s, (activation, loss))
                size = sizes(*data, activation, loss)
                for dense in (one_pass(reference, data, activation, loss), one_pass(build, data, activation, loss)):
                    for value, true, terms in zip(ours, dense, (*size, size[0]), strict=True):
                        assert_close(value, true, terms, 2 * TOLERANCE[dtype])
                for array, copy in zip(given, before, strict=True):
                    np.testing.assert_array_equal(array, copy)


@pytest.mark.parametrize("index", [np.int32, np.int64])
def test_a_piece_of_indptr_points_into_the_middle_of_the_data(build, index):
    for first, last in [(0, 12), (0, 1), (5, 6), (7, 30), (29, 30)]:
        X, Y, W, b, shift, s = sparse_problem(30, 8, 2, np.float64, weighted=True)
        values, indices, indptr = csr(X, index)
        piece = slice(first, last)
        rows = values, indices, indptr[first : last + 1]
        ours = one_sparse_pass(build, rows, Y[piece], W, b, s[piece], ("identity", "huber"))
        dense = one_pass(reference, (X[piece], Y[piece], W, b, shift, s[piece]), "identity", "huber")
        for value, true in zip(ours, dense, strict=True):
            np.testing.assert_allclose(value, true, rtol=1e-12, atol=1e-12)


def test_csr_rows_in_any_order_with_repeated_and_stored_zero_entries(build):
    """What scipy calls not canonical: columns unsorted, an entry in two parts, zeros that are stored."""
    values, indices, indptr = np.array([2.0, 1, 0.5, 0, -1]), np.array([2, 0, 2, 1, 1]), np.array([0, 3, 5])
    X = np.array([[1, 0, 2.5], [0, -1, 0]])
    Y, W, b, none = np.ones((2, 1)), np.array([[1.0], [2], [3]]), np.array([0.5]), np.empty(0)
    rows = values, indices.astype(np.int32), indptr.astype(np.int32)
    ours = one_sparse_pass(build, rows, Y, W, b, none, ("identity", "squared"))
    for value, true in zip(ours, one_pass(reference, (X, Y, W, b, none, none), "identity", "squared"), strict=True):
        np.testing.assert_allclose(value, true, rtol=1e-14)
    steps = np.arange(2), 1, True, np.full(2, 0.01), *PLAIN[W.dtype]
    w, twin = W.copy(), W.copy()
    build.sparse_stochastic(*rows, Y, w, 3, none, *MODEL, 1.0, 0.1, *steps)
    reference.stochastic(X, Y, twin, none, *MODEL, 1.0, 0.1, *steps)
    np.testing.assert_allclose(w, twin, rtol=1e-14)


@pytest.mark.parametrize(
    "change",
    [
        *({"W": (3, 1)}, {"Y": (4, 1)}, {"b": (1,)}, {"totals": (1,)}, {"s": (3,)}, {"G": (2, 2)}, {"G": (3, 1)}),
        *({"g": (1,)}, {"Y": (0, 2)}, {"W": (0, 2)}),
    ],
    ids=str,
)
def test_a_sparse_pass_refuses_shapes_that_do_not_fit(build, change):
    compiled_only(build)
    shapes = {"Y": (4, 2), "W": (3, 2), "b": (2,), "s": (0,), "totals": (2,), "G": (3, 2), "g": (2,), **change}
    Y, W, b, s, totals, G, g = (np.ones(shape) for shape in shapes.values())
    with pytest.raises(ValueError, match=r"rows|columns|entries|shapes"):
        build.sparse_pass(*csr(np.ones((4, 3))), Y, W, b, s, *MODEL, totals, G, g)
