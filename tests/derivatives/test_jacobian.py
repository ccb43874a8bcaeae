"""Jacobians against exact ones, by every scheme, dense and by a pattern; the points that f gets; bad input."""

import concurrent.futures
import itertools
import operator

import numpy as np
import pytest
import scipy.sparse
from hypothesis import given, settings
from hypothesis import strategies as st

from fastgd import numerical_gradient, numerical_jacobian
from fastgd.derivatives import sparsity

pytestmark = pytest.mark.one_build

SCHEMES = ("forward", "backward", "central", "five-point", "richardson", "complex")
# For functions of ordinary scale: ε^(1/2), ε^(2/3), ε^(4/5), each with room for the derivatives that follow.
ACCURACY = {
    "forward": 1e-6,
    "backward": 1e-6,
    "central": 1e-9,
    "five-point": 1e-11,
    "richardson": 1e-9,
    "complex": 1e-14,
}
PROPERTY = settings(max_examples=25, derandomize=True, deadline=None, database=None)


class Curves:
    """Three variables, four values, and what they come to exactly; counts its calls."""

    x = np.array([0.7, -1.3, 2.1])

    def __init__(self):
        self.calls = 0

    def __call__(self, x):
        self.calls += 1
        return np.array([x[0] ** 2 * x[1], np.sin(x[0]) + x[2], x[1] * x[2], np.exp(x[0] - x[2])])

    @staticmethod
    def exact(x):
        e = np.exp(x[0] - x[2])
        return np.array([[2 * x[0] * x[1], x[0] ** 2, 0], [np.cos(x[0]), 0, 1], [0, x[2], x[1]], [e, 0, -e]])


def tridiagonal(n):
    """Broyden's tridiagonal function (Moré, Garbow & Hillstrom 1981, no. 30), its Jacobian and its pattern."""

    def f(x):
        y = (3 - 2 * x) * x + 1
        y[1:] -= x[:-1]
        y[:-1] -= 2 * x[1:]
        return y

    def exact(x):
        return scipy.sparse.diags_array([-np.ones(n - 1), 3 - 4 * x, -2 * np.ones(n - 1)], offsets=[-1, 0, 1])

    return f, exact, scipy.sparse.diags_array([np.ones(n - 1), np.ones(n), np.ones(n - 1)], offsets=[-1, 0, 1])


# -------------------------------------------------------------------------------------------------------------- values


@pytest.mark.parametrize("scheme", SCHEMES)
def test_every_scheme_agrees_with_the_exact_jacobian(scheme):
    f = Curves()
    np.testing.assert_allclose(
        numerical_jacobian(f, f.x, scheme=scheme), f.exact(f.x), rtol=ACCURACY[scheme], atol=ACCURACY[scheme]
    )


@pytest.mark.parametrize("scheme", ("forward", "backward", "central", "five-point"))
def test_every_row_is_the_gradient_of_that_value_to_the_last_bit(scheme):
    f = Curves()
    jacobian = numerical_jacobian(f, f.x, 1e-3, scheme=scheme)
    for i in range(4):
        row = numerical_gradient(lambda x, i=i: float(f(x)[i]), f.x, 1e-3, scheme=scheme)
        assert jacobian[i].tolist() == row.tolist()


@PROPERTY
@given(st.integers(0, 5), st.integers(1, 5), st.data())
def test_linear_maps_of_few_bits_are_exact(m, d, data):
    entries = st.integers(-64, 64)
    A = np.array(data.draw(st.lists(entries, min_size=m * d, max_size=m * d)), float).reshape(m, d)
    x = np.array(data.draw(st.lists(entries, min_size=d, max_size=d)), float)
    for scheme in ("forward", "backward", "central"):
        assert np.array_equal(numerical_jacobian(lambda p: A @ p, x, 2.0**-8, scheme=scheme), A)


def test_badly_scaled_columns_are_looked_at_again():
    def f(x):
        return np.array([np.log(x[0]) + 3 * x[1], x[1] ** 2, np.sqrt(x[2])])

    x = np.array([1e-6, 2.0, 1e-8])
    with np.errstate(invalid="ignore", divide="ignore"):
        found = numerical_jacobian(f, x, full_output=True)
    exact = np.array([[1e6, 3, 0], [0, 4, 0], [0, 0, 5e3]])
    np.testing.assert_allclose(found.jacobian, exact, rtol=1e-6, atol=1e-6)
    assert np.all(np.abs(found.jacobian - exact) <= 10 * found.error + 1e-9 * np.abs(exact))
    assert found.steps[0] < 1e-6 and found.steps[2] < 1e-8


def test_richardson_estimates_its_error():
    f = Curves()
    found = numerical_jacobian(f, f.x, scheme="richardson", full_output=True)
    assert np.all(np.abs(found.jacobian - f.exact(f.x)) <= 10 * found.error)
    assert np.max(found.error) < 1e-8


@pytest.mark.parametrize(
    ("x", "f", "shape"),
    [
        (3.0, lambda x: [x**2, x], (2, 1)),
        ([1.0, 2.0], lambda x: x @ x, (1, 2)),
        ([1.0, 2.0], lambda x: 5, (1, 2)),
        ([[1.0, 2.0], [3.0, 4.0]], lambda x: x.T @ x, (4, 4)),
        ([1, 2, 3], lambda x: (x[0], x[1] * x[2]), (2, 3)),
        ([1.0, 2.0], lambda x: np.empty(0), (0, 2)),
        (np.empty(0), lambda x: np.ones(3), (3, 0)),
    ],
)
def test_the_shape_is_always_m_by_d(x, f, shape):
    assert numerical_jacobian(f, x).shape == shape
    assert numerical_jacobian(f, x, 1e-3).shape == shape


# ---------------------------------------------------------------------------------------------- evaluations and points


@pytest.mark.parametrize(
    ("scheme", "h", "count"),
    [
        ("forward", None, 7),
        ("backward", None, 7),
        ("central", 1e-4, 9),
        ("central", None, 9),
        ("five-point", None, 15),
    ],
)
def test_evaluations_are_as_documented(scheme, h, count):
    f = Curves()
    found = numerical_jacobian(f, f.x, h, scheme=scheme, full_output=True)
    assert f.calls == found.nfev == count


@pytest.mark.parametrize("scheme", ("richardson", "complex"))
def test_all_evaluations_are_counted(scheme):
    f = Curves()
    assert numerical_jacobian(f, f.x, scheme=scheme, full_output=True).nfev == f.calls


@pytest.mark.parametrize("scheme", SCHEMES[:-1])
@pytest.mark.parametrize("sides", list(itertools.product((0.0, 1e-9, 1.0), repeat=2))[1:], ids=str)
def test_no_point_is_outside_the_bounds(scheme, sides):
    f, seen = Curves(), []
    lower, upper = f.x - sides[0], f.x + sides[1]

    def watched(x):
        seen.append(x.copy())
        return f(x)

    jacobian = numerical_jacobian(watched, f.x, scheme=scheme, bounds=(lower, upper))
    assert np.all(np.min(seen, axis=0) >= lower) and np.all(np.max(seen, axis=0) <= upper)
    if max(sides) == 1.0:
        np.testing.assert_allclose(jacobian, f.exact(f.x), rtol=2e-6, atol=2e-6)


def test_f_may_write_to_its_argument_and_return_one_buffer():
    exact, out = Curves.exact(Curves.x), np.empty(4)
    x = Curves.x.copy()

    def careless(p):
        out[:] = Curves()(p)
        p[:] = np.nan
        return out

    for options in ({}, {"scheme": "richardson"}, {"workers": 1}):
        np.testing.assert_allclose(numerical_jacobian(careless, x, **options), exact, atol=1e-8)
        assert np.array_equal(x, Curves.x)


@pytest.mark.parametrize("dtype", (np.float32, ">f8", np.int64))
def test_x_of_other_dtypes_and_strides(dtype):
    base = np.zeros((3, 2), dtype)
    base[:, 0] = [1, -2, 3]
    x = base[:, 0]
    x.flags.writeable = False
    np.testing.assert_allclose(
        numerical_jacobian(Curves(), x), Curves.exact(np.array([1.0, -2.0, 3.0])), rtol=1e-8, atol=1e-8
    )


@pytest.mark.parametrize("scheme", SCHEMES)
def test_vectorized_workers_and_maps_change_no_bit(scheme):
    f, plain = Curves(), numerical_jacobian(Curves(), Curves.x, scheme=scheme)

    def many(points):
        return np.stack([f(point) for point in points])

    assert np.array_equal(numerical_jacobian(many, f.x, scheme=scheme, vectorized=True), plain)
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        for workers in (2, -1, map, pool.map):
            assert np.array_equal(numerical_jacobian(f, f.x, scheme=scheme, workers=workers), plain)


def test_batches_hold_no_more_than_the_cache_does():
    d, sizes = 400, []

    def f(points):
        sizes.append(points.size)
        return points[:, :3] ** 2

    jacobian = numerical_jacobian(f, np.ones(d), 2.0**-8, vectorized=True)
    assert np.array_equal(jacobian, 2 * np.eye(3, d))
    assert max(sizes) <= 1 << 15 < sum(sizes)


def test_args_reach_f():
    assert numerical_jacobian(lambda x, a, b: [a * x[0], b], [1.0], 0.5, args=(3.0, 4.0)).tolist() == [[3.0], [0.0]]


# ------------------------------------------------------------------------------------------------------------ patterns


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("kind", (np.asarray, scipy.sparse.csr_matrix, scipy.sparse.coo_array))
def test_a_pattern_gives_the_same_as_none(scheme, kind):
    f, exact, pattern = tridiagonal(8)
    x = np.random.default_rng(0).normal(size=8)
    sparse = numerical_jacobian(f, x, scheme=scheme, sparsity=kind(pattern.toarray()))
    assert isinstance(sparse, scipy.sparse.csr_array)
    np.testing.assert_allclose(sparse.toarray(), numerical_jacobian(f, x, scheme=scheme), rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(sparse.toarray(), exact(x).toarray(), rtol=1e-6, atol=1e-6)


def test_ten_thousand_variables_in_a_handful_of_evaluations():
    f, exact, pattern = tridiagonal(10_000)
    x = np.random.default_rng(1).normal(size=10_000)
    found = numerical_jacobian(f, x, sparsity=pattern, full_output=True)
    assert found.nfev == 3 * 2 + 3 + 2  # three groups, three points to judge them, two to check the pattern
    assert abs(found.jacobian - exact(x)).max() < 1e-8
    assert found.jacobian.nnz == found.error.nnz == 3 * 10_000 - 2


def test_doubtful_entries_of_a_sparse_jacobian_are_looked_at_again():
    n = 50
    x = np.geomspace(1e-7, 1e3, n)
    with np.errstate(invalid="ignore", divide="ignore"):
        found = numerical_jacobian(np.log, x, sparsity=scipy.sparse.eye_array(n), full_output=True)
    np.testing.assert_allclose(found.jacobian.diagonal(), 1 / x, rtol=3e-6)
    assert found.nfev < 80  # one group, however many of its entries are doubtful


@PROPERTY
@given(st.integers(1, 8), st.integers(1, 8), st.data())
def test_columns_of_a_group_share_no_row(m, d, data):
    pattern = np.array(data.draw(st.lists(st.booleans(), min_size=m * d, max_size=m * d))).reshape(m, d)
    groups = sparsity.group_columns(sparsity.pattern(pattern, d))
    for group in range(groups.max() + 1):
        assert pattern[:, groups == group].sum(axis=1).max() <= 1
    assert groups.max() + 1 >= max(1, pattern.sum(axis=1).max())  # a row of k entries needs k groups
    assert set(groups.tolist()) == set(range(groups.max() + 1))


@pytest.mark.parametrize("width", (0, 1, 2, 5))
def test_a_band_needs_as_many_groups_as_it_is_wide(width):
    i = np.arange(60)
    band = np.abs(i[:, None] - i) <= width
    assert sparsity.group_columns(sparsity.pattern(band, 60)).max() + 1 == 2 * width + 1


def test_explicit_zeros_and_repeated_entries_belong_to_the_pattern():
    rows, columns = [0, 0, 1, 1, 1], [0, 0, 0, 1, 1]
    pattern = scipy.sparse.coo_array((np.zeros(5), (rows, columns)), shape=(2, 2))
    jacobian = numerical_jacobian(lambda x: [x[0] ** 2, x[0] * x[1]], [1.0, 2.0], 2.0**-6, sparsity=pattern)
    assert jacobian.nnz == 3 and jacobian.toarray().tolist() == [[2.0, 0.0], [2.0, 1.0]]


def test_a_pattern_that_leaves_something_out_is_noticed():
    f, _, pattern = tridiagonal(30)
    x = np.random.default_rng(2).normal(size=30)
    for i, j in ((0, 1), (29, 28), (12, 12)):
        wrong = pattern.tolil()
        wrong[i, j] = 0
        wrong = wrong.tocsr()
        wrong.eliminate_zeros()
        with pytest.raises(ValueError, match=f"sparsity leaves out entries of row {i} "):
            numerical_jacobian(f, x, sparsity=wrong)


def test_a_pattern_with_more_than_there_is_does_no_harm():
    f, exact, _ = tridiagonal(6)
    x = np.arange(6.0)
    np.testing.assert_allclose(
        numerical_jacobian(f, x, sparsity=np.ones((6, 6))).toarray(), exact(x).toarray(), atol=1e-7
    )


def test_at_a_minimum_of_high_order_the_check_of_the_pattern_stays_calm():
    for power in (2, 3, 4):
        found = numerical_jacobian(lambda x, p=power: x**p, np.zeros(20), sparsity=np.eye(20))
        assert abs(found).max() < 1e-9


# ----------------------------------------------------------------------------------------------------------- bad input


def nan_at_one(x):
    return [x[0], np.nan if x[1] > 1 else x[1]]


BAD = {
    "f not callable": ((3, [1.0]), {}, TypeError, "f must be callable"),
    "x a string": ((np.sin, "abc"), {}, TypeError, "x must hold real numbers"),
    "x NaN": ((np.sin, [np.nan]), {}, ValueError, "x must be finite"),
    "scheme": ((np.sin, [1.0]), {"scheme": "2-point"}, ValueError, "scheme must be one of"),
    "nan_policy": ((np.sin, [1.0]), {"nan_policy": "omit"}, ValueError, "nan_policy must be one of"),
    "h negative": ((np.sin, [1.0], -1), {}, ValueError, "h must be positive"),
    "h of another shape": ((np.sin, [1.0, 2.0], [1, 2, 3]), {}, ValueError, "h must be a number or an array"),
    "h and typical_x": ((np.sin, [1.0], 1e-3), {"typical_x": 1.0}, ValueError, "h and typical_x"),
    "args": ((np.sin, [1.0]), {"args": [1]}, TypeError, "args must be a tuple"),
    "workers": ((np.sin, [1.0]), {"workers": "two"}, TypeError, "workers must be an integer or a map"),
    "workers and vectorized": ((np.sin, [1.0]), {"workers": 2, "vectorized": True}, ValueError, "without workers"),
    "vectorized": ((np.sin, [1.0]), {"vectorized": 1}, TypeError, "vectorized must be True or False"),
    "full_output": ((np.sin, [1.0]), {"full_output": 1}, TypeError, "full_output must be True or False"),
    "bounds": ((np.sin, [1.0]), {"bounds": (2, 3)}, ValueError, "do not hold x"),
    "bounds equal": ((np.sin, [1.0]), {"bounds": (1, 1)}, ValueError, "no room for a difference"),
    "None": ((lambda x: None, [1.0]), {}, TypeError, r"must hold real numbers; got None.*at x = \["),
    "text": ((lambda x: [1, "a"], [1.0]), {}, TypeError, r"must hold real numbers; got dtype .*at x = \["),
    "complex": ((lambda x: [1j], [1.0]), {}, TypeError, r"must hold real numbers; got dtype complex128, at x = \["),
    "ragged": ((lambda x: [[1], [1, 2]], [1.0]), {}, ValueError, r"rows of equal length.*at x = \["),
    "masked": ((lambda x: np.ma.array([1.0], mask=[True]), [1.0]), {}, ValueError, "masked values"),
    "another length": ((lambda x: np.ones(2 + (x[0] > 1)), [1.0]), {}, ValueError, "as many numbers each time"),
    "NaN": ((nan_at_one, [0.0, 1.0], 1e-3), {}, ValueError, "NaN or an infinity as entry 1, at x = .* coordinate 1"),
    "a row for each point": ((lambda p: p[:1], [1.0, 2.0]), {"vectorized": True}, ValueError, "a row for each of the"),
    "a map that loses some": (
        (np.sin, [1.0]), {"workers": lambda f, points: []}, ValueError, "workers must yield a result for each point",
    ),
    "pattern of text": ((np.sin, [1.0]), {"sparsity": [["a"]]}, TypeError, "sparsity must hold booleans or numbers"),
    "pattern a vector": ((np.sin, [1.0]), {"sparsity": [1]}, ValueError, "sparsity must be 2-dimensional"),
    "pattern too wide": ((np.sin, [1.0]), {"sparsity": [[1, 1]]}, ValueError, "a column for each of the 1 entries"),
    "pattern too high": ((np.sin, [1.0]), {"sparsity": [[1], [1]]}, ValueError, "a row for each of the 1 values"),
    "not analytic": ((np.abs, [-1.0]), {"scheme": "complex"}, TypeError, "carries complex numbers through"),
    "conjugates": (
        (lambda x: [x[0] * np.conj(x[0])], [1.5]), {"scheme": "complex"}, ValueError, "does not suit f: for entry 0",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_bad_input(case):
    arguments, options, error, message = BAD[case]
    with pytest.raises(error, match=message):
        numerical_jacobian(*arguments, **options)


def test_nan_propagates_if_asked_to():
    jacobian = numerical_jacobian(nan_at_one, [0.0, 1.0], 1e-3, nan_policy="propagate")
    assert np.isnan(jacobian[1, 1]) and jacobian[0].tolist() == [1.0, 0.0] and jacobian[1, 0] == 0


def test_exceptions_of_f_are_untouched_and_noted_only_behind_a_map():
    def f(x):
        raise ZeroDivisionError("mine")

    with pytest.raises(ZeroDivisionError, match="mine") as caught:
        numerical_jacobian(f, [1.0])
    assert not hasattr(caught.value, "__notes__")
    with pytest.raises(ZeroDivisionError, match="mine") as caught:
        numerical_jacobian(f, [1.0], workers=2)
    assert "raised by f at x = [" in caught.value.__notes__[0]


def test_full_output_has_names():
    found = numerical_jacobian(np.sin, [0.0], full_output=True)
    assert found._fields == ("jacobian", "error", "steps", "nfev")
    assert operator.attrgetter(*found._fields)(found) == tuple(found)
