"""Coordinate descent on columns, on CSC columns and on a Gram matrix: the same weights, and those of a minimum."""

import itertools
import math

import numpy as np
import pytest
import scipy.sparse
from numpy.testing import assert_allclose

from fastgd.kernels.reference import coordinates

FIT = "do not fit|must not decrease|has 2 entries"


def problem(seed):
    """A (m, n) with curvatures, means, bends, thresholds, ridges, slopes that add up to 0 and weights."""
    rng = np.random.default_rng(seed)
    m, n = int(rng.integers(1, 9)), int(rng.integers(1, 40))
    A = rng.standard_normal((m, n)) * (rng.random((m, n)) < 0.6)
    c = rng.uniform(0.1, 2, n) if seed % 2 else np.array([0.7])
    total, sums = float(np.sum(c * np.ones(n))), A @ (c * np.ones(n))
    means = sums / total if seed % 3 else np.zeros(m)
    ridges = rng.uniform(0, 0.1, m)
    bends = (A**2) @ (c * np.ones(n)) - sums * means + ridges
    bends[bends < 1e-9] = 0.0
    u = rng.standard_normal(n)
    u -= (u.sum() / total) * c if seed % 3 else 0.0
    return A, c, sums, means, bends, rng.uniform(0.1, 1, m), ridges, u, rng.standard_normal(m)


@pytest.mark.parametrize("seed", range(30))
def test_three_ways_to_the_minimum_of_one_function(build, seed):
    A, c, sums, means, bends, t, ridges, u, v = problem(seed)
    m, w = len(A), c * np.ones(A.shape[1])
    at, slopes = v.copy(), u.copy()
    epochs, worst = build.coordinate_descent(A, c, means, bends, t, ridges, 4000, 1e-12, True, slopes, at)
    assert 1 <= epochs <= 4000
    assert worst <= 1e-12 or epochs == 4000
    # The slopes are kept those of the weights, and the weights are those of a minimum.
    step = at - v
    assert_allclose(slopes, u + c * (step @ A - means @ step), atol=1e-10)
    gradient = A @ slopes + ridges * at
    beyond = np.where(at != 0, np.abs(gradient + t * np.sign(at)), np.maximum(np.abs(gradient) - t, 0))
    assert np.max(beyond[bends > 0], initial=0.0) <= 1e-8

    X = scipy.sparse.csc_array(A.T)
    there, rest, level, ones = v.copy(), u.copy(), np.zeros(1), np.ones(m)
    build.sparse_coordinate_descent(
        X.data, X.indices, X.indptr, c, ones, sums, means, bends, t, ridges, 4000, 1e-12, True, level, rest, there
    )  # fmt: skip
    assert_allclose(there, at, atol=1e-8)
    assert_allclose(rest + level * c, slopes, atol=1e-8)

    H = (A * w) @ A.T - np.outer(sums, means) + np.diag(ridges)
    H[np.diag_indices(m)] = bends
    g, found = A @ u + ridges * v, v.copy()
    build.gram_coordinate_descent(H, t, 4000, 1e-12, g, found)
    assert_allclose(found, at, atol=1e-7)


@pytest.mark.parametrize("seed", range(4))
def test_weights_that_are_zero_stay_so_where_they_are_to(build, seed):
    A, c, sums, means, bends, t, ridges, u, v = problem(seed)
    v[::2] = 0.0
    X, at, slopes, there = scipy.sparse.csc_array(A.T), v.copy(), u.copy(), v.copy()
    build.coordinate_descent(A, c, means, bends, t, ridges, 50, 1e-12, False, slopes, at)
    build.sparse_coordinate_descent(
        X.data, X.indices, X.indptr, c, np.ones(len(v)), sums, means, bends, t, ridges, 50, 1e-12, False, np.zeros(1),
        u.copy(), there,
    )  # fmt: skip
    assert not at[v == 0].any()
    assert_allclose(there, at, atol=1e-9)
    gradient = A @ slopes + ridges * at
    assert np.max(np.abs(gradient + t * np.sign(at))[(at != 0) & (bends > 0)], initial=0.0) <= 1e-9


@pytest.mark.parametrize("shape", [(1, 1), (3, 0), (0, 5), (4, 7), (3, 70)])
def test_moments_of_columns(build, shape):
    rng = np.random.default_rng(sum(shape))
    A, c = rng.standard_normal(shape), rng.uniform(0.1, 2, shape[1])
    sums, squares = np.empty(shape[0]), np.empty(shape[0])
    build.column_moments(A, c, sums, squares)
    assert_allclose(sums, [math.fsum(row * c) for row in A], rtol=1e-12, atol=1e-12)
    assert_allclose(squares, [math.fsum(row * row * c) for row in A], rtol=1e-12)


def test_one_epoch_by_hand(build):
    """½(v₁ − 3)² + ½(v₂ + 1)² + |v₁| + 2|v₂| from 0: v₁ = 2, v₂ = 0."""
    g, v = np.array([-3.0, 1.0]), np.zeros(2)
    assert build.gram_coordinate_descent(np.eye(2), np.array([1.0, 2.0]), 1, 0.0, g, v) == (1, 2.0)
    assert_allclose(v, [2, 0])
    assert_allclose(g, [-1, 1])


def test_nothing_to_do(build):
    none, one = np.empty(0), np.ones(1)
    assert build.gram_coordinate_descent(np.empty((0, 0)), none, 5, 0.0, none, none) == (0, 0.0)
    assert build.coordinate_descent(np.empty((0, 3)), one, none, none, none, none, 5, 0.0, True, np.ones(3), none) == (
        0,
        0.0,
    )


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("index", [np.int32, np.int64])
def test_types_of_sparse_columns(build, dtype, index):
    A, c, sums, means, bends, t, ridges, u, v = problem(5)
    X = scipy.sparse.csc_array(A.T)
    found = v.copy()
    build.sparse_coordinate_descent(
        X.data.astype(dtype), X.indices.astype(index), X.indptr.astype(index), c, np.ones(len(v)), sums, means, bends,
        t, ridges, 500, 1e-9, True, np.zeros(1), u.copy(), found,
    )  # fmt: skip
    expected = v.copy()
    build.coordinate_descent(A, c, means, bends, t, ridges, 500, 1e-9, True, u.copy(), expected)
    assert_allclose(found, expected, atol=1e-5 if dtype == np.float32 else 1e-9)


def test_shapes_that_do_not_fit(build):
    one, two = np.ones(1), np.ones(2)
    with pytest.raises(ValueError, match=FIT):
        build.gram_coordinate_descent(np.ones((2, 3)), two, 1, 0.0, two, two)
    with pytest.raises(ValueError, match=FIT):
        build.column_moments(np.ones((2, 3)), two, two.copy(), two.copy())
    with pytest.raises(ValueError, match=FIT):
        build.coordinate_descent(np.ones((2, 3)), one, two, two, two, two, 1, 0.0, True, np.ones(4), two)
    for indices, pointers in (([0, 7], [0, 1, 2]), ([0, 1], [0, 2, 1]), ([0, 1], [0, 2])):
        with pytest.raises(ValueError, match=r"indices must be|indptr"):
            build.sparse_coordinate_descent(
                two, np.array(indices, np.int32), np.array(pointers, np.int32), one, two, two, two, two, two, two, 1,
                0.0, True, one.copy(), np.ones(3), two.copy(),
            )  # fmt: skip


@pytest.mark.parametrize("seed", range(8))
def test_groups_take_the_steps_of_the_reference(build, seed):
    rng = np.random.default_rng(seed)
    sizes = rng.integers(0, 5, int(rng.integers(1, 6)))
    starts = np.concatenate([[0], np.cumsum(sizes)]).astype(np.intp)
    m = int(starts[-1])
    A = rng.standard_normal((int(rng.integers(1, 20)), m))
    H, thresholds = A.T @ A, rng.uniform(0.1, 2, len(sizes)) * (rng.random(len(sizes)) < 0.8)
    for first, last in itertools.pairwise(starts):
        H[first:last, first:last] = np.diag(np.diag(H[first:last, first:last]))
    H += np.diag(np.abs(H).sum(axis=1))
    v, gradient = rng.standard_normal(m), rng.standard_normal(m)
    found, there = (v.copy(), gradient.copy()), (v.copy(), gradient.copy())
    few = build.gram_group_descent(H, starts, thresholds, 2, 0.0, *found[::-1])
    assert few == pytest.approx(coordinates.gram_group_descent(H, starts, thresholds, 2, 0.0, *there[::-1]), rel=1e-9)
    assert_allclose(found[0], there[0], atol=1e-12)
    assert_allclose(found[1], there[1], atol=1e-11)
    assert_allclose(found[1], gradient + H @ (found[0] - v), atol=1e-11)
    with pytest.raises(ValueError, match=r"fit a matrix|groups must begin|starts must not"):
        build.gram_group_descent(H, starts + 1, thresholds, 2, 0.0, gradient, v[:-1] if m else np.ones(1))


def classes(seed):
    """(columns, weights, P, sums, means, bends, thresholds, ridges, slopes, v) of a model of a softmax."""
    rng = np.random.default_rng(seed)
    m, n, k = int(rng.integers(1, 7)), int(rng.choice([1, 30, 1030])), int(rng.integers(2, 5))
    A = rng.standard_normal((m, n)) * (rng.random((m, n)) < 0.6)
    s = rng.uniform(0.1, 2, n) / n if seed % 2 else np.array([0.7 / n])
    P, ridges = rng.dirichlet(np.ones(k), n).T.copy(), rng.uniform(0, 0.01, m)
    H = (s * np.ones(n))[:, None, None] * (P.T[:, :, None] * np.eye(k) - P.T[:, :, None] * P.T[:, None, :])
    sums = np.einsum("jn,nce->jce", A, H)
    means = np.linalg.pinv(H.sum(axis=0)) @ sums if seed % 3 else np.zeros_like(sums)
    bends = np.einsum("jn,nce->jce", A**2, H) - sums @ means + ridges[:, None, None] * np.eye(k)
    slopes = rng.standard_normal((n, k)) / n
    slopes -= slopes.mean(axis=1, keepdims=True)
    slopes -= slopes.mean(axis=0)
    return A, s, P, sums, means, bends, rng.uniform(0.01, 0.1, m), ridges, slopes, rng.standard_normal((m, k)), H


@pytest.mark.parametrize("seed", range(4))
def test_classes_take_the_steps_of_the_reference_to_a_minimum(build, seed):
    A, s, P, *matrices, t, ridges, slopes, v, H = classes(seed)
    k, X = len(P), scipy.sparse.csc_array(A.T)
    sparse = X.data, X.indices, X.indptr, np.ones(len(A)), s, P.T.copy(), *matrices, t, ridges
    for epochs, small, zeros in ((2, 0.0, True), (3, 0.0, False), (3000, 1e-11, True)):
        first = v * ((np.arange(len(v)) % 2 == 0) | zeros)[:, None]
        there, found, by_rows = [[np.zeros(k), slopes.T.copy(), first.copy()] for _ in range(3)]
        by_rows[1] = slopes.copy()
        met = build.softmax_descent(A, s, P, *matrices, t, ridges, epochs, small, zeros, *found)
        expected = coordinates.softmax_descent(A, s, P, *matrices, t, ridges, epochs, small, zeros, *there)
        other = build.sparse_softmax_descent(*sparse, epochs, small, zeros, *by_rows)
        for each in (met, other):
            assert each == pytest.approx(expected, rel=1e-6) if epochs < 10 else each[1] <= small or each[0] == epochs
        for level, u, w in (found, [by_rows[0], by_rows[1].T, by_rows[2]]):
            assert_allclose(w, there[2], atol=1e-10 if epochs < 10 else 1e-6)
            # The slopes and the level are kept those of the weights.
            step = w - first
            assert_allclose(level, -np.einsum("jce,je->c", matrices[1], step), atol=1e-9)
            assert_allclose(u, (slopes + np.einsum("nce,jn,je->nc", H, A, step)).T, atol=1e-9)
            assert zeros or not w[1::2].any()
            if epochs > 10:
                g = (A @ (u.T + np.einsum("nce,e->nc", H, level))) + ridges[:, None] * w
                beyond = np.abs(g + t[:, None] * np.sign(w)), np.maximum(np.abs(g) - t[:, None], 0)
                inside = np.einsum("jcc->jc", matrices[2]) > 0
                assert np.max(np.where(w != 0, *beyond)[inside], initial=0.0) <= 1e-7
    for wrong in ([*found[:2], v[:, :-1].copy()], [found[0], found[1][:, :-1].copy(), found[2]]):
        with pytest.raises(ValueError, match=FIT):
            build.softmax_descent(A, s, P, *matrices, t, ridges, 1, 0.0, True, *wrong)
    with pytest.raises(ValueError, match=r"do not fit|indices must be|indptr"):
        build.sparse_softmax_descent(sparse[0], X.indices + 9999, *sparse[2:], 1, 0.0, True, *by_rows) if X.nnz else (
            build.softmax_descent(A, s, P, *matrices, t, ridges, 1, 0.0, True, *wrong)
        )


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_columns_are_taken_and_summed(build, dtype):
    """Into `out`, `sums` and `squares` alone; held to exact sums."""
    rng = np.random.default_rng(1)
    for n, d in ((1, 1), (3, 0), (0, 5), (63, 4), (64, 7), (130, 3)):
        X, m = (10 * rng.standard_normal((n, d))).astype(dtype), 2 * d
        numbers, shift, scale = rng.integers(0, max(1, d), m), rng.standard_normal(m), rng.uniform(0.1, 9, m)
        before, out, sums, squares = X.copy(), np.full((m, n), np.nan), np.full(d, np.nan), np.full(d, np.nan)
        build.take_columns(X, numbers, shift, scale, out)
        build.column_sums(X, sums, squares)
        wide = X.astype(np.float64)
        for j, number in enumerate(numbers):
            assert_allclose(out[j], (wide[:, number] - shift[j]) / scale[j], rtol=1e-14)
        for j in range(d):
            terms = [float(x) for x in wide[:, j]]
            assert abs(sums[j] - math.fsum(terms)) <= 1e-12 * math.fsum(map(abs, terms))
            assert squares[j] == pytest.approx(math.fsum(x * x for x in terms), rel=1e-12)
        assert np.array_equal(X, before)
    with pytest.raises(ValueError, match=r"numbers must be columns, 0 to 2"):
        build.take_columns(X, np.full(m, 3), shift, scale, out)
    for wrong in (out[:, :-1].copy(), out[:-1].copy()):
        with pytest.raises(ValueError, match=FIT):
            build.take_columns(X, numbers, shift, scale, wrong)
    with pytest.raises(ValueError, match=FIT):
        build.column_sums(X, sums, squares[:-1].copy())
