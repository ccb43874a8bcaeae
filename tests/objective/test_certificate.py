"""The duality gap: never less than the distance to the minimum, and nothing at the minimum."""

import itertools

import numpy as np
import pytest
import scipy.optimize
import scipy.sparse
from numpy.testing import assert_allclose

from fastgd import LinearObjective
from fastgd.objective import certificate
from fastgd.objective.standardised import Standardised

LOSSES = {
    "squared_error": "identity", "sse": "identity", "huber": "identity", "log": "sigmoid", "softmax": "softmax",
    "poisson": "exp", "squared_hinge": "identity", "hinge": "identity", "epsilon_insensitive": "identity",
    "quantile": "identity", "gamma": "exp", "tweedie": "exp",
    "negative_binomial": "exp", "probit": "identity", "cloglog": "identity", "modified_huber": "identity",
}  # fmt: skip
SMOOTH = [name for name in LOSSES if name not in ("hinge", "epsilon_insensitive", "quantile")]
PENALTIES = [(0.0, 0.3), (0.1, 0.0), (0.05, 0.2)]


def problem(name, l1, l2, fit_intercept, k=1, weighted=False, sparse=False, n=40, dtype=np.float64):
    rng = np.random.default_rng(4)
    X = rng.normal(size=(n, 4)).astype(dtype)
    k = 3 if name == "softmax" else k
    h = X @ rng.normal(size=(4, k)) + 0.5 + 0.5 * rng.normal(size=(n, k))
    y = h
    if name == "softmax":
        y = np.argmax(h, axis=1)
    elif name in ("log", "probit", "cloglog"):
        y = (h > 0) * 1.0
    elif name in ("poisson", "negative_binomial"):
        y = rng.poisson(np.exp(0.3 * h))
    elif name == "tweedie":
        y = rng.gamma(2, np.exp(0.3 * h)) * rng.integers(0, 2, h.shape)
    elif name == "gamma":
        y = rng.gamma(2, np.exp(0.3 * h))
    elif "hinge" in name or name == "modified_huber":
        y = np.where(h > 0, 1.0, -1.0)
    y = y[:, 0] if k == 1 and np.ndim(y) == 2 else y
    return LinearObjective(
        scipy.sparse.csr_array(X) if sparse else X, y, loss="log" if name == "softmax" else name,
        activation=LOSSES[name], fit_intercept=fit_intercept, l1=l1, l2=l2,
        sample_weight=rng.uniform(0.2, 3, n) if weighted else None,
    )  # fmt: skip


def value(o, W, b):
    return o.value(o.join(W, b).astype(o.dtype))


def minimum(o):
    """W, b and F by scipy: |w| as the sum of two parts that are not negative where there is an l1."""
    size, d = int(np.prod(o.shape)), o.rows.d * o.rows.k

    def smooth(w):
        fun, gradient = o.replace(l1=0.0).value_and_gradient(w.reshape(o.shape))
        return fun, gradient.reshape(-1)

    if not o.l1:
        found = scipy.optimize.minimize(smooth, np.zeros(size), jac=True, method="BFGS", options={"gtol": 1e-11})
        return *o.split(found.x.reshape(o.shape)), found.fun

    def parts(z):
        fun, gradient = smooth(np.concatenate([z[:d] - z[d : 2 * d], z[2 * d :]]))
        return fun + o.l1 * z[: 2 * d].sum(), np.concatenate([gradient[:d] + o.l1, o.l1 - gradient[:d], gradient[d:]])

    bounds = [(0, None)] * (2 * d) + [(None, None)] * (size - d)
    found = scipy.optimize.minimize(
        parts, np.zeros(size + d), jac=True, bounds=bounds, method="L-BFGS-B",
        options={"ftol": 1e-16, "gtol": 1e-12, "maxiter": 10_000, "maxfun": 100_000},
    )  # fmt: skip
    w = np.concatenate([found.x[:d] - found.x[d : 2 * d], found.x[2 * d :]])
    return *o.split(w.reshape(o.shape)), found.fun


def weights(o, count=8):
    """Points of all sizes."""
    rng = np.random.default_rng(1)
    for scale in np.geomspace(1e-3, 3, count):
        yield o.split(scale * rng.normal(size=o.shape))


@pytest.mark.one_build
@pytest.mark.parametrize(("l1", "l2"), PENALTIES)
@pytest.mark.parametrize("fit_intercept", [False, True])
@pytest.mark.parametrize("name", SMOOTH)
def test_the_gap_is_at_least_the_true_one_and_nothing_at_the_minimum(name, fit_intercept, l1, l2):
    for weighted, k in ((False, 1), (True, 2)):
        o = problem(name, l1, l2, fit_intercept, 1 if name == "poisson" and k == 2 else k, weighted)
        W, b, least = minimum(o)
        scale = value(o, np.zeros_like(W), np.zeros_like(b))
        finite = 0
        for point in weights(o):
            gap = certificate.duality_gap(o, *point)
            assert gap >= value(o, *point) - least - 1e-12 * scale
            finite += np.isfinite(gap)
        # Slopes of Huber's loss that are made to add up to 0 may leave its conjugate's domain, far from the minimum.
        assert finite >= (0 if name == "huber" and fit_intercept else 4)
        gaps = [certificate.duality_gap(o, W + t, b) for t in (1e-2, 1e-4, 0.0)]
        assert gaps[0] > gaps[1] > gaps[2]
        assert 0 <= gaps[2] + 4e-15 * scale < 1e-7 * scale


@pytest.mark.one_build
@pytest.mark.parametrize(("l1", "l2"), PENALTIES)
@pytest.mark.parametrize("fit_intercept", [False, True])
@pytest.mark.parametrize("name", ["hinge", "epsilon_insensitive"])
def test_the_gap_of_a_loss_with_a_kink_bounds_that_to_every_other_point(name, fit_intercept, l1, l2):
    o = problem(name, l1, l2, fit_intercept)
    rng = np.random.default_rng(2)
    points = list(weights(o, 12))
    # The lowest of many random steps, each from the lowest so far.
    lowest = min(points, key=lambda point: value(o, *point))
    for scale in np.geomspace(1, 1e-3, 600):
        other = lowest[0] + scale * rng.normal(size=lowest[0].shape), lowest[1] + scale * rng.normal(size=1)
        other = other if fit_intercept else (other[0], np.zeros(1))
        lowest = min(lowest, other, key=lambda point: value(o, *point))
    least = value(o, *lowest)
    gaps = [certificate.duality_gap(o, *point) for point in (*points, lowest)]
    assert np.isfinite(gaps).sum() >= 6
    for gap, point in zip(gaps, (*points, lowest), strict=True):
        assert gap >= value(o, *point) - least - 1e-12


@pytest.mark.one_build
@pytest.mark.parametrize("name", SMOOTH)
def test_the_gap_of_sparse_rows_is_that_of_an_array(name):
    for l1, l2 in PENALTIES:
        dense, sparse = (problem(name, l1, l2, True, weighted=True, sparse=sparse) for sparse in (False, True))
        for point in weights(dense, 4):
            assert certificate.duality_gap(sparse, *point) == pytest.approx(
                certificate.duality_gap(dense, *point), rel=1e-9
            )


@pytest.mark.one_build
@pytest.mark.parametrize("name", SMOOTH)
def test_the_gap_of_float32_data_bounds_that_of_the_same_numbers(name):
    for l1, l2 in PENALTIES:
        o = problem(name, l1, l2, True, dtype=np.float32)
        exact = LinearObjective(
            o.X.astype(float), o.y.astype(float), loss=o.loss, activation=o.activation, fit_intercept=True, l1=l1, l2=l2
        )
        W, b, least = minimum(exact)
        scale = exact.value(np.zeros(o.shape))
        for point in (*weights(o, 4), (W, b)):
            gap = certificate.duality_gap(o, *point)
            assert gap >= value(exact, *point) - least - 1e-5 * scale
        assert gap < 1e-4 * scale


@pytest.mark.one_build
def test_weights_without_a_finite_value_have_no_gap():
    o = problem("poisson", 0.0, 0.3, True)
    assert certificate.duality_gap(o, np.full((4, 1), 1e4), np.zeros(1)) == np.inf


# ------------------------------------------------------------------------------------------------ standardised columns


@pytest.mark.parametrize("fit_intercept", [False, True])
@pytest.mark.parametrize("name", LOSSES)
def test_the_gap_from_a_gradient_bounds_the_true_one_and_ends_at_nothing(name, fit_intercept):
    for (l1, l2), weighted in itertools.product(PENALTIES, (False, True)):
        o = problem(name, l1, l2, fit_intercept, weighted=weighted)
        if name in SMOOTH:
            W, b, least = minimum(o)
        else:
            W, b = np.zeros((4, 1)), np.zeros(1)
            least = min(value(o, *point) for point in weights(o, 30))
        variables = Standardised(o, (W, b))
        scale = o.value(np.zeros(o.shape))
        rng = np.random.default_rng(3)
        for size in (0.5, 0.05, 0.0):
            V = variables.start + size * rng.normal(size=variables.start.shape)
            fun, gradient = variables.evaluate(V)
            before = variables.passes
            gap = variables.duality_gap(V, gradient)
            assert gap >= fun - least - 1e-12 * scale
            assert variables.passes - before <= 3
            if o.l2 and not o.l1 and not fit_intercept:  # then the slopes are a point of the dual as they are
                assert gap == pytest.approx(variables.crude_gap(gradient), rel=1e-9, abs=1e-12 * scale)
        if name in SMOOTH:
            assert abs(gap) < 1e-7 * scale


@pytest.mark.parametrize("shifted", [False, True])
@pytest.mark.parametrize("name", ["squared_error", "log", "poisson"])
def test_sums_of_curvatures_are_those_of_a_formula(name, shifted):
    o = problem(name, 0.0, 0.1, True, weighted=True)
    shift = np.array([1.0, -2.0, 0.5, 0.0]) if shifted else None
    rng = np.random.default_rng(0)
    W, b = rng.normal(size=(4, 1)), rng.normal(size=1)
    by_W, by_b = certificate.curvature_sums(o, W, b, shift)
    X = o.X - (0 if shift is None else shift)
    h = X @ W + b  # the intercept is the one at the shift
    bend = {"squared_error": np.ones_like, "poisson": np.exp}.get(name, lambda h: 0.25 / np.cosh(h / 2) ** 2)(h)
    s = o.sample_weight[:, None] / o.sample_weight.sum()
    assert_allclose(by_W, X.T @ (s * bend), rtol=1e-12, atol=1e-14)
    assert_allclose(by_b, np.sum(s * bend, axis=0), rtol=1e-12)


# ----------------------------------------------------------------------------------------------------------- penalties


@pytest.mark.one_build
@pytest.mark.parametrize(("l1", "l2"), [(0.0, 0.3), (0.5, 0.3), (0.5, 0.0)])
def test_the_gap_of_a_penalty_is_its_value_and_its_conjugate(l1, l2):
    """Ω(W) + Ω*(−v) + W·v, with Ω*(u) = max_w u·w − l1·|w| − ½·l2·w² by a grid."""
    o = problem("squared_error", l1, l2, False)
    grid = np.linspace(-40, 40, 160_001)
    rng = np.random.default_rng(0)
    for _ in range(20):
        W = rng.normal(size=(4, 1)) * rng.integers(0, 2, (4, 1))
        v = rng.normal(size=(4, 1))
        v = v if l2 else np.clip(v, -l1, l1)
        conjugate = sum(np.max(-u * grid - l1 * np.abs(grid) - 0.5 * l2 * grid**2) for u in v[:, 0])
        expected = l1 * np.abs(W).sum() + 0.5 * l2 * np.sum(W**2) + conjugate + np.sum(W * v)
        found = o.penalty.fenchel_gap(W, v)
        assert found >= -1e-15
        assert found == pytest.approx(expected, rel=1e-6, abs=1e-6)


@pytest.mark.one_build
def test_the_gap_of_a_penalty_does_not_cancel():
    """At the v that belongs to W each part is 0 to the last digits, however large the penalty is."""
    o = problem("squared_error", 0.3, 2.0, False)
    W = np.array([[1e6], [-2.0], [1e-3], [0.0]])
    v = -(2.0 * W + 0.3 * np.sign(W))
    v[3] = 0.2
    assert 0 <= o.penalty.fenchel_gap(W, v) <= 1e-9 * 1e-3
