"""What the table says of each loss, against the kernel's own values: slopes, curvatures, conjugates, bounds."""

import copy
import math
import pickle

import mpmath
import numpy as np
import pytest
from kernel_problems import targets
from numpy.testing import assert_allclose

from fastgd import LinearObjective, losses
from fastgd.kernels.codes import ACTIVATIONS
from fastgd.kernels.reference import losses as reference

pytestmark = pytest.mark.with_reference

# The losses that a kernel has, each by one of its names, and other thresholds of those that have one.
NAMES = tuple({loss.kernel: name for name, loss in losses.LOSSES.items()}.values())
KINKED = ("hinge", "epsilon_insensitive", "quantile", "perceptron")
# The corners of losses of a margin, y·h.
CORNERS = {"hinge": (1,), "squared_hinge": (1,), "modified_huber": (1, -1), "perceptron": (0,)}
RECORDS = [losses.of(name, activation) for name in NAMES for activation in losses.LOSSES[name].activations]
RECORDS += [
    losses.of(losses.Huber(0.4)),
    losses.of(losses.Huber(0.4), "tanh"),
    losses.of(losses.EpsilonInsensitive(0.7)),
]
RECORDS += [losses.of(losses.Tweedie(1.1)), losses.of(losses.Tweedie(1.9)), losses.of("inverse_gaussian")]
RECORDS += [losses.of(losses.NegativeBinomial(0.01)), losses.of(losses.NegativeBinomial(7.0))]
RECORDS += [losses.of(losses.Quantile(0.9)), losses.of(losses.Quantile(0.9), "sigmoid")]
CONVEX = [record for record in RECORDS if record.convex]
STEP = 1e-5


def threshold(record):
    """The parameter of the loss, None where it has none."""
    return next(iter(record.loss.parameters.values()), None)


def name_of(record):
    return f"{record.name}-{record.activation}-{threshold(record)}"


def each(records):
    return pytest.mark.parametrize("record", records, ids=name_of)


def points(record, n=60, spread=2.0, seed=0):
    """h and y, (n, k), such as the loss takes, away from its kinks and corners."""
    rng = np.random.default_rng(seed)
    k = 3 if record.joint else 1
    h = rng.normal(0, spread, (n, k))
    y = targets(rng, n, k, record.activation, record.loss.kernel)
    kept = np.ones_like(h, bool)
    for corner in CORNERS.get(record.loss.kernel, ()):
        kept &= np.abs(y * h - corner) > 1e-3
    if record.activation == "relu":
        kept &= np.abs(h) > 1e-3
    if threshold(record) is not None:
        corner = 0.0 if record.loss.kernel == "quantile" else threshold(record)
        kept &= np.abs(np.abs(outputs(record, h) - y) - corner) > 1e-3
    kept = kept.all(axis=1)
    return h[kept], y[kept]


def outputs(record, h):
    """f(h), as in a book."""
    if record.joint:
        p = np.exp(h - h.max(axis=1, keepdims=True))
        return p / p.sum(axis=1, keepdims=True)
    return {
        "identity": lambda: h, "sigmoid": lambda: 1 / (1 + np.exp(-h)), "tanh": lambda: np.tanh(h),
        "relu": lambda: np.maximum(h, 0), "softplus": lambda: np.logaddexp(0, h), "exp": lambda: np.exp(h),
    }[record.activation]()  # fmt: skip


def value(record, h, y):
    """l of each row, (n,), by the kernel that runs: F of one row with h as its x."""
    k, found = h.shape[1], []
    for row, target in zip(h, y, strict=True):
        o = LinearObjective.of_arrays(
            np.ascontiguousarray(row[None, :]), target[None, :], np.empty(0), record, fit_intercept=False
        )
        found.append((o.sums(np.eye(k), np.zeros(k), gradient=False) - o.constant) / (record.times or 1.0))
    return np.array(found)


def moved(record, h, y, j, by):
    shifted = h.copy()
    shifted[:, j] += by
    return value(record, shifted, y)


# ------------------------------------------------------------------------------------------------------------ the table


@pytest.mark.one_build
def test_every_loss_of_the_kernels_has_a_record_with_every_activation_that_it_goes_with():
    assert {record.loss.kernel for record in RECORDS} == {*reference.LOSS_FORMULAS, *reference.LINKED}
    for name, loss in losses.LOSSES.items():
        for activation in loss.activations:
            record = losses.of(name, activation)
            assert (record.loss, record.activation, record.times) == (loss, activation, loss.times)
            assert record.codes == (ACTIVATIONS[activation], loss.point_loss)
            assert record is losses.of(type(loss)(), activation)
        for activation in ACTIVATIONS.keys() - set(loss.activations):
            with pytest.raises(ValueError, match=f"loss='{loss.name}' goes with activation .*; got '{activation}'"):
                losses.of(name, activation)


@pytest.mark.one_build
def test_what_is_in_no_table_is_refused():
    for wrong, error in (
        ("mae", r"loss must be one of 'mse', 'sse'.*got 'mae'"),
        (3, r"loss must be one of 'mse', 'sse'.*got 3"),
        (losses.Huber, r"got the class Huber: write Huber\(\)"),
        (abs, r"of a function make one: custom\(f\)"),
    ):
        with pytest.raises(ValueError, match=error):
            losses.of(wrong, "identity")
    with pytest.raises(ValueError, match=r"activation must be one of 'identity'.*got 'relu6'"):
        losses.of("sse", "relu6")


@pytest.mark.one_build
@pytest.mark.parametrize(
    ("make", "bad"),
    [
        (losses.Huber, [0, -1, np.nan, np.inf, "1", None, True, [1.0]]),
        (losses.EpsilonInsensitive, [-1e-9, np.nan, "a"]),
        (losses.Quantile, [0, 1, 1.5, -0.5, np.nan, "a"]),
        (losses.Tweedie, [0, 0.5, 1, 2, 3, -1, np.nan, "a"]),
        (losses.NegativeBinomial, [0, -1, np.inf, "a"]),
    ],
)
def test_parameters_out_of_range_are_refused(make, bad):
    (name,) = make().parameters
    for value in bad:
        with pytest.raises((ValueError, TypeError), match=f"{name} must be"):
            make(value)


@pytest.mark.one_build
def test_a_loss_is_a_value():
    assert losses.Huber(2) == losses.Huber(delta=2.0) == copy.deepcopy(losses.Huber(2.0)) != losses.Huber()
    assert losses.get("log") == losses.get("log_loss") == losses.LogLoss()
    assert len({losses.MSE(), losses.SSE(), losses.SquaredError(), losses.get("mse")}) == 3
    assert repr(losses.Huber(2)) == "Huber(delta=2.0)" and repr(losses.Hinge()) == "Hinge()"
    for loss in losses.LOSSES.values():
        assert losses.from_dict(losses.to_dict(loss)) == loss
    with pytest.raises(AttributeError):
        losses.Huber().delta = 3.0


@pytest.mark.one_build
@each(RECORDS)
def test_a_record_is_the_same_wherever_it_comes_from(record):
    again = losses.of(record.loss, record.activation)
    for other in (pickle.loads(pickle.dumps(record)), copy.copy(record), copy.deepcopy(record), again):
        assert other == record and hash(other) == hash(record)
    with pytest.raises(AttributeError):
        record.activation = "mse"
    assert [other for other in RECORDS if other == record] == [record]
    assert record != losses.of("mse" if record.name != "mse" else "sse", "relu")


# ----------------------------------------------------------------------------------------------- slopes and curvatures


@each(RECORDS)
def test_slopes_are_those_of_the_loss(record):
    h, y = points(record)
    slope = record.slope(h, y)
    assert slope.shape == h.shape
    rounding = 1e-10 * max(1.0, value(record, h, y).max())
    for j in range(h.shape[1]):
        difference = (moved(record, h, y, j, STEP) - moved(record, h, y, j, -STEP)) / (2 * STEP)
        assert_allclose(slope[:, j], difference, rtol=1e-7, atol=rounding)


@each(RECORDS)
def test_curvatures_are_those_of_the_loss_or_of_gauss_and_newton(record):
    h, y = points(record, spread=1.0)
    if not record.convex:  # where the residual is 0, Gauss and Newton's is the Hessian's
        y = outputs(record, h)
    curvature = record.curvature(h, y)
    assert np.all(curvature >= 0)
    assert np.all(record.curvature(*points(record, spread=5.0)) >= 0)
    if not record.convex and not record.smooth:
        assert not curvature.any()
        return
    for j in range(h.shape[1]):
        up, down = h.copy(), h.copy()
        up[:, j], down[:, j] = h[:, j] + STEP, h[:, j] - STEP
        difference = (record.slope(up, y)[:, j] - record.slope(down, y)[:, j]) / (2 * STEP)
        assert_allclose(curvature[:, j], difference, rtol=1e-6, atol=1e-8)


@pytest.mark.one_build
@each([record for record in RECORDS if not record.convex and record.loss.kernel == "huber" and not record.joint])
def test_the_curvature_of_gauss_and_newton_is_that_of_the_loss_by_f_times_the_slope_of_f_squared(record):
    h, y = points(record)
    r, prime = outputs(record, h) - y, (outputs(record, h + STEP) - outputs(record, h - STEP)) / (2 * STEP)
    assert_allclose(record.curvature(h, y), (np.abs(r) < threshold(record)) * prime**2, rtol=1e-6, atol=1e-9)
    outside = np.where(np.abs(r) > threshold(record), threshold(record) / np.abs(r), 0.0)
    assert_allclose(record.straight(h, y), outside * prime**2, rtol=1e-6, atol=1e-9)


@pytest.mark.one_build
@each([record for record in CONVEX if record.straight is not None and record.loss.targets == ""])
def test_where_a_loss_is_straight_a_parabola_touches_it_from_above(record):
    grid = np.linspace(-8, 8, 1601)[:, None]
    y = np.zeros((1, 1))
    whole = value(record, grid, np.zeros_like(grid))
    for h in (-5.0, -1.5, 1.4, 3.0):
        at = np.array([[h]])
        c = float(record.straight(at, y)[0, 0])
        assert c > 0 and record.curvature(at, y) == 0
        parabola = value(record, at, y)[0] + 0.5 * c * (grid[:, 0] ** 2 - h**2)
        assert np.all(parabola >= whole - 1e-12)
        assert c * h == pytest.approx(float(record.slope(at, y)[0, 0]))
    assert record.straight(np.array([[0.5 * threshold(record)]]), y) == 0


@pytest.mark.one_build
@each(RECORDS)
def test_only_losses_with_a_kink_have_slopes_that_jump(record):
    assert record.smooth is (record.loss.kernel not in KINKED)
    assert record.quadratic is (record.loss.kernel == "squared" and record.activation == "identity")
    if record.activation in ("relu", "softmax"):
        return
    h = np.linspace(-4, 1.5 if record.activation == "exp" else 4, 80_001)[:, None]
    y = np.full_like(h, 0.3 if record.loss.targets == "" else 1.0)
    slope = record.slope(h, y)[:, 0]
    jump = np.max(np.abs(np.diff(slope)) / (1 + np.abs(slope[1:])))
    assert jump < 0.02 if record.smooth else jump > 0.02


@each(RECORDS)
def test_slopes_of_convex_losses_rise(record):
    h, y = points(record)
    other = h + np.random.default_rng(1).normal(size=h.shape)
    rise = np.sum((record.slope(other, y) - record.slope(h, y)) * (other - h), axis=1)
    if record.convex:
        assert np.all(rise >= -1e-12)
    else:
        assert np.any(rise < 0) or record.activation in ("relu", "exp", "softplus", "softmax")


# ----------------------------------------------------------------------------------------------------------- conjugates


@pytest.mark.one_build
def test_convex_losses_have_a_conjugate():
    assert all((record.conjugate is not None) is (record.convex and record.name != "perceptron") for record in RECORDS)
    assert {(record.loss.kernel, record.activation) for record in CONVEX} == {
        ("squared", "identity"), ("huber", "identity"), ("epsilon_insensitive", "identity"), ("log", "sigmoid"),
        ("log", "softmax"), ("poisson", "exp"), ("gamma", "exp"), ("tweedie", "exp"),
        ("negative_binomial", "exp"), ("probit", "identity"), ("cloglog", "identity"), ("modified_huber", "identity"),
        ("perceptron", "identity"),
        ("quantile", "identity"), ("hinge", "identity"), ("squared_hinge", "identity"),
    }  # fmt: skip


@each([record for record in CONVEX if record.conjugate])
def test_no_line_is_above_a_loss_and_its_conjugate_and_the_tangent_touches(record):
    """Fenchel and Young: l(h) + l*(u) ≥ u·h, with equality at u = ∂l/∂h."""
    h, y = points(record)
    u = record.slope(h, y)
    size = 1 + np.abs(u * h).sum(axis=1)
    touching = value(record, h, y) + record.conjugate(u, y).sum(axis=1) - (u * h).sum(axis=1)
    assert np.all(np.abs(touching) <= 1e-12 * size)
    for seed in range(3):
        other = points(record, len(h) + 200, 3.0, seed + 5)[0][: len(h)]
        gap = value(record, other, y) + record.conjugate(u, y).sum(axis=1) - (u * other).sum(axis=1)
        assert np.all(gap >= -1e-12 * (1 + np.abs(u * other).sum(axis=1)))


@pytest.mark.one_build
@each([record for record in CONVEX if record.conjugate and not record.joint])
def test_a_conjugate_is_the_largest_of_all_differences_and_inf_where_these_have_no_end(record):
    """Against max_h u·h − l(h) by a grid, for u inside and outside of the slopes that there are."""
    y = -1.0 if record.loss.kernel in CORNERS else 2.0 if record.loss.link == "exp" else 0.4
    h = np.concatenate([np.linspace(-30, 30, 20_001), np.geomspace(30, 600, 50), -np.geomspace(30, 1e4, 50)])[:, None]
    h = np.vstack([h, [[1.0]], [[-1.0]]])
    heights = value(record, h, np.full_like(h, y))
    for u in (-3.0, -1.2, -1.0, -0.5, -0.2, 0.0, 0.3, 0.65, 0.9, 1.0, 1.2, 2.5):
        found = float(record.conjugate(np.array([[u]]), np.array([[y]]))[0, 0])
        largest = float(np.max(u * h[:, 0] - heights))
        if math.isinf(found):
            assert largest > 25  # at the ends of the grid
        else:
            assert largest - 1e-9 <= found <= largest + 2e-3 * (1 + abs(found)), u


@pytest.mark.one_build
def test_a_conjugate_of_entropies_loses_no_digits_near_the_ends():
    record = losses.of("log", "sigmoid")
    for u, y in ((1e-12, 0.0), (-1e-12, 1.0), (0.25, 0.5), (-0.3, 0.3)):
        with mpmath.workdps(50):
            q = mpmath.mpf(u) + mpmath.mpf(y)
            exact = sum(p * mpmath.log(p) if p > 0 else mpmath.mpf(0) for p in (q, 1 - q))
            found = float(record.conjugate(np.array([u]), np.array([y]))[0])
            assert abs(found - float(exact)) <= 1e-15


# -------------------------------------------------------------------------------------------------------------- bounds


@pytest.mark.one_build
@each(RECORDS)
def test_no_slope_changes_quicker_than_the_bound(record):
    low, high = (-1.0, 1.0) if record.loss.kernel in CORNERS else (-2.0, 3.0)
    if isinstance(record.loss, losses.likelihoods.Binary):
        low, high = 0.0, 1.0
    low = max(low, 0.0) if record.loss.link == "exp" else low
    bound = record.bound(low, high)
    if (
        not record.smooth
        or (record.activation == "exp" and record.name != "negative_binomial")
        or record.name == "cloglog"
    ):
        assert bound == math.inf
        return
    h = np.linspace(-12, 12, 24_001)[:, None]
    steepest = 0.0
    for y in (low, high, 0.5 * (low + high)) if record.loss.kernel not in CORNERS else (low, high):
        if record.joint:
            h3 = np.hstack([h, 0.5 * h[::-1], np.zeros_like(h)])
            target = np.tile([y, low, high] if record.loss.kernel != "log" else [1.0, 0.0, 0.0], (len(h), 1))
            change = np.linalg.norm(np.diff(record.slope(h3, target), axis=0), axis=1)
            steepest = max(steepest, np.max(change / np.linalg.norm(np.diff(h3, axis=0), axis=1)))
            continue
        change = np.abs(np.diff(record.slope(h, np.full_like(h, y))[:, 0])) / np.diff(h[:, 0])
        if record.activation == "relu":  # its slope jumps at 0
            change = change[np.abs(h[:-1, 0]) > 0.01]
        steepest = max(steepest, change.max())
    assert steepest <= bound * (1 + 1e-6)
    # Else 1e9 would do. Only those that add up the worst of several terms are further off.
    loose = record.joint or record.loss.kernel in ("huber", "probit")  # that of the probit is its limit far out
    assert bound <= steepest * (10 if loose else 1 + 1e-3)


# -------------------------------------------------------------------------------------------------- what solvers use


@pytest.mark.one_build
@each([record for record in RECORDS if record.by_pass is not None])
def test_slopes_at_another_target_are_curvatures(record):
    activation, kernel, target, unit = record.by_pass
    other = losses.of({"squared": "squared_error"}.get(kernel, kernel), activation)
    h, y = points(record)
    slope = other.slope(h, np.full_like(h, target))
    assert_allclose((slope - (h if record.quadratic else 0)) / unit, record.curvature(h, y), rtol=1e-14)


@pytest.mark.one_build
@pytest.mark.parametrize("weighted", [False, True])
@each(
    [
        record
        for record in RECORDS
        if (record.convex and record.loss.kernel in ("squared", "log")) or record.loss.link == "exp"
    ]
)
def test_the_best_constant_has_no_slope(record, weighted):
    _, y = points(record, 40)
    s = np.random.default_rng(2).uniform(0.5, 2, len(y)) if weighted else None
    start = np.broadcast_to(record.start(y, s), y.shape)
    slope = np.average(record.slope(start, y), axis=0, weights=s)
    assert_allclose(slope, 0, atol=1e-12)


@pytest.mark.one_build
@pytest.mark.parametrize("weighted", [False, True])
@each([losses.of("huber", "identity"), losses.of("epsilon_insensitive", "identity"), losses.of("quantile")])
def test_the_constant_of_a_loss_of_differences_is_a_median(record, weighted):
    y = np.arange(9.0)[:, None] ** 2
    s = np.r_[np.ones(8), 20.0] if weighted else None
    assert record.start(y, s).tolist() == [64.0 if weighted else 16.0]
