"""The coercion of arguments: what is taken, what is refused, and the words of a refusal."""

import decimal
import fractions
import re

import numpy as np
import pytest
import scipy.optimize

import fastgd
from fastgd import validation

pytestmark = pytest.mark.one_build


@pytest.mark.parametrize(
    "value, number",
    [
        (1, 1.0),
        (0.5, 0.5),
        (np.float32(0.5), 0.5),
        (np.int8(3), 3.0),
        (np.array(2.5), 2.5),
        (fractions.Fraction(1, 4), 0.25),
        (np.longdouble(0.5), 0.5),
    ],
)
def test_scalar_takes_real_numbers(value, number):
    taken = validation.scalar(value, "lr")
    assert type(taken) is float
    assert taken == number


@pytest.mark.parametrize(
    "value", [True, np.True_, "0.1", None, 1j, [0.1], np.array([0.1]), decimal.Decimal(1)], ids=repr
)
def test_scalar_refuses_what_is_no_real_number(value):
    with pytest.raises(TypeError, match=r"^lr must be a real number; got "):
        validation.scalar(value, "lr")


@pytest.mark.parametrize(
    "value, limits, message",
    [
        (np.nan, {}, "lr must be finite; got nan"),
        (-np.inf, {}, "lr must be finite; got -inf"),
        (-1, {"minimum": 0}, "lr must be finite and at least 0; got -1.0"),
        (0, {"positive": True}, "lr must be finite and positive; got 0.0"),
    ],
)
def test_scalar_refuses_what_is_out_of_range(value, limits, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        validation.scalar(value, "lr", **limits)


def test_scalar_takes_its_limits():
    assert validation.scalar(0, "lr", minimum=0) == 0
    assert validation.scalar(5e-324, "lr", positive=True) == 5e-324


@pytest.mark.parametrize("value", [3, np.int64(3), np.uint8(3), np.array(3)])
def test_count_takes_integers(value):
    assert validation.count(value, "step_num") == 3


@pytest.mark.parametrize("value", [3.0, "3", None, True, np.True_, [3], np.array([3.0])], ids=repr)
def test_count_refuses_what_is_no_integer(value):
    with pytest.raises(TypeError, match=r"^step_num must be an integer; got "):
        validation.count(value, "step_num")


def test_count_refuses_what_is_too_small():
    with pytest.raises(ValueError, match="step_num must be at least 0; got -1"):
        validation.count(-1, "step_num")


def test_boolean_and_choice_and_callable():
    assert validation.boolean(np.True_, "history") is True
    for value in (0, 1, "yes", None):
        with pytest.raises(TypeError, match="history must be True or False; got"):
            validation.boolean(value, "history")
    assert validation.choice("a", "loss", ("a", "b")) == "a"
    for value in ("c", None, 3, ["a"]):
        with pytest.raises(ValueError, match="loss must be one of 'a', 'b'; got"):
            validation.choice(value, "loss", ("a", "b"))
    assert validation.callable_(len, "f") is len
    with pytest.raises(TypeError, match="f must be callable; got 3"):
        validation.callable_(3, "f")


@pytest.mark.parametrize("position", [(0, 0), (3, 2), (999, 4)])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_first_bad_finds_the_first(position, value, dtype, monkeypatch):
    monkeypatch.setattr(validation, "CHECK_VALUES", 16)
    array = np.zeros((1000, 5), dtype)
    array[position] = value
    assert validation.first_bad(array) == position
    array[-1, -1] = value
    assert validation.first_bad(array) == position
    assert validation.first_bad(np.asfortranarray(array)[:, ::-1]) == (position[0], 4 - position[1])


def test_first_bad_is_not_fooled_by_sums_that_overflow_or_cancel():
    assert validation.first_bad(np.full((10, 10), 1e308)) is None
    assert validation.first_bad(np.array([1e308, 1e308, -1e308, -1e308])) is None
    assert validation.first_bad(np.full((10, 10), 3e38, np.float32)) is None
    assert validation.first_bad(np.array([np.inf, -np.inf])) == (0,)
    assert validation.first_bad(np.full(10, 1e308)) is None
    assert validation.first_bad(np.full(1000, 1e308)) is None
    for n in (3, 1000):
        array = np.zeros(n)
        array[[1, 2]] = np.inf, -np.inf
        assert validation.first_bad(array) == (1,)
    assert validation.first_bad(np.array(np.nan)) == ()
    assert validation.first_bad(np.array(1.0)) is None
    for shape in ((0,), (0, 3), (3, 0)):
        assert validation.first_bad(np.empty(shape)) is None


@pytest.mark.parametrize(
    "given, kept",
    [
        *[("f8", "f8"), ("f4", "f4"), ("f2", "f4"), (">f8", "f8"), (">f4", "f4"), ("g", "f8")],
        *[("i8", "f8"), ("u1", "f8"), ("?", "f8")],
    ],
)
def test_real_array_dtypes(given, kept):
    array = validation.real_array(np.ones(3, given), "x")
    assert array.dtype == np.dtype(kept)
    assert array.dtype.isnative
    assert array.tolist() == [1, 1, 1]
    assert validation.real_array(np.ones(3, given), "x", dtype=np.float64).dtype == np.float64


def test_real_array_copies_only_where_it_must():
    for dtype in (np.float32, np.float64):
        x = np.ones((4, 6), dtype)
        for view in (x, x[::2, ::-3], x.T):
            assert np.shares_memory(validation.real_array(view, "x"), x)
    packed = np.zeros(3, np.dtype([("pad", "i1"), ("x", "f8")]))
    aligned = validation.real_array(packed["x"], "x")
    assert aligned.flags.aligned
    assert type(validation.real_array(np.ma.array([1.0]), "x")) is np.ndarray


def test_real_array_of_python_objects():
    exact = [fractions.Fraction(1, 4), decimal.Decimal("0.5"), 10**20]
    assert validation.real_array(np.array(exact, object), "x").tolist() == [0.25, 0.5, 1e20]
    others = [True, np.False_, np.float32(0.5), np.int8(3), np.longdouble(2)]
    assert validation.real_array(np.array(others, object), "x").tolist() == [1, 0, 0.5, 3, 2]
    assert validation.real_array(np.array([], object), "x").shape == (0,)


def test_weights_are_a_private_copy_in_the_given_shape_and_dtype():
    for w in (np.arange(6.0).reshape(3, 2), np.arange(6.0).reshape(2, 3).T):
        taken = validation.weights(w, "w", (3, 2), np.float64)
        assert taken.flags.c_contiguous
        assert taken.flags.writeable
        assert not np.shares_memory(taken, w)
    assert validation.weights([1, 2], "w", (2,), np.float32).dtype == np.float32


def test_intercepts_are_broadcast_into_a_private_array():
    for b, expected in ((2, [2.0, 2.0]), ([1, 2], [1.0, 2.0])):
        taken = validation.intercepts(b, "b", 2, np.float64)
        assert taken.tolist() == expected
        assert taken.flags.writeable
        assert taken.flags.c_contiguous


def test_words_for_values_stay_short():
    assert len(validation.describe("x" * 1000)) < 90
    assert validation.describe(np.zeros((2, 3))) == "an array of shape (2, 3) and dtype float64"
    assert validation.show_point([1.0, 2.0]) == "[1., 2.]"
    assert "\n" not in validation.show_point(np.arange(1e6))
    assert len(validation.show_point(np.arange(1e6))) < 100
    assert validation.describe(np.ma.masked).endswith("with masked values")
    assert validation.describe(10**5000) == "a number of 16610 bits (int)"


@pytest.mark.parametrize(
    "value", [10**400, 10**5000, fractions.Fraction(10**400)], ids=["int", "longer int", "Fraction"]
)
def test_scalar_too_large_for_a_float_is_named(value):
    with pytest.raises(ValueError, match=r"^lr must be finite; got .*, which is too large for a float$"):
        validation.scalar(value, "lr")


@pytest.mark.parametrize("value", [np.array("0.1"), np.array(True), np.array(1j), np.array(None)], ids=repr)
def test_scalar_looks_into_zero_dimensional_arrays(value):
    with pytest.raises(TypeError, match="lr must be a real number"):
        validation.scalar(value, "lr")


@pytest.mark.parametrize("value", [10**400, decimal.Decimal("1e400"), decimal.Decimal("sNaN")], ids=str)
def test_real_array_of_objects_that_are_no_finite_float_is_named(value):
    with pytest.raises(ValueError, match=r"^x must be finite; "):
        validation.real_array([value], "x")


@pytest.mark.parametrize("value", ["1", None, 1j, b"1", np.datetime64("2020"), [1.0]], ids=repr)
def test_real_array_of_objects_refuses_all_but_real_numbers(value):
    array = np.array([2.0, None], object)
    array[1] = value
    with pytest.raises(TypeError, match=rf"^x must hold real numbers; got {re.escape(repr(value))} \("):
        validation.real_array(array, "x", finite=False)


def test_real_array_refuses_masked_entries():
    masked = np.ma.array([1.0, 2.0], mask=[False, True])
    for value in (masked, np.ma.masked, [masked, masked], (np.ma.masked, 1.0)):
        with pytest.raises(ValueError, match=r"^x has masked values"):
            validation.real_array(value, "x")
    # A mask that hides nothing is no trouble.
    assert validation.real_array([np.ma.array([1.0], mask=[False])], "x").tolist() == [[1.0]]


@pytest.mark.parametrize("state", ["warn", "raise"])
def test_real_array_beyond_its_dtype_is_named(state):
    for finite in (True, False):
        with np.errstate(all=state), pytest.raises(ValueError, match=r"^x\[1\] is 1e\+300, .*too large for float32$"):
            validation.real_array([1.0, 1e300], "x", dtype=np.float32, finite=finite)
    with np.errstate(all=state):
        # What is too small becomes 0, and what is not finite already is left to the check of that.
        assert validation.real_array([1e-300, 1.0], "x", dtype=np.float32).tolist() == [0, 1]
        assert validation.real_array([np.inf, 1.0], "x", dtype=np.float32, finite=False).tolist() == [np.inf, 1]
        with pytest.raises(ValueError, match=r"^x must be finite; x\[0\] is inf$"):
            validation.real_array([np.inf, 1.0], "x", dtype=np.float32)


def test_words_for_a_table_stay_on_one_line():
    pandas = pytest.importorskip("pandas")
    assert "\n" not in validation.describe(pandas.DataFrame({"a": ["x", "y"]}))


# ------------------------------------------------------------------------------------------------------------- bounds


@pytest.mark.parametrize(
    "given, shape, lower, upper",
    [
        ((0, 1), (2,), [0, 0], [1, 1]),
        (([0, -1], 1.0), (2,), [0, -1], [1, 1]),
        (([0, -1], [2, 3]), None, [0, -1], [2, 3]),
        ((None, 3.0), (1,), [-np.inf], [3]),
        ((np.float32(0), np.arange(2)), (2,), [0, 0], [0, 1]),
        (scipy.optimize.Bounds([0, 1], [2, 3]), (2,), [0, 1], [2, 3]),
        (scipy.optimize.Bounds(0, np.inf), (2,), [0, 0], [np.inf, np.inf]),
    ],
)
def test_bounds_that_are_taken(given, shape, lower, upper):
    found = validation.bounds(given, shape)
    assert [side.tolist() for side in found] == [lower, upper]
    assert validation.bounds(None, shape) is None


@pytest.mark.parametrize(
    "given, kind, words",
    [
        ([(-5, 5), (0, 10)], TypeError, "for each variable, bounds=([-5.0, 0.0], [5.0, 10.0]), or all lower and all"),
        ([(-5, 5), (0, 10)], TypeError, "upper bounds, bounds=([-5.0, 5.0], [0.0, 10.0]): write what is meant"),
        (np.array([[0, 1]] * 3), TypeError, "a pair for each variable, bounds=([0.0, 0.0, 0.0], [1.0, 1.0, 1.0]):"),
        (((0, 1), (0, 2), (0, 3)), TypeError, "a pair for each variable, bounds=([0.0, 0.0, 0.0], [1.0, 2.0, 3.0])"),
        (np.zeros((2, 3)), TypeError, "all lower and all upper bounds, bounds=([0.0, 0.0, 0.0], [0.0, 0.0, 0.0]):"),
        ([0, 1], TypeError, "all lower and all upper bounds, bounds=(0.0, 1.0)"),
        ([(None, 1), (0, None)], TypeError, "must be a pair (lower, upper)"),
        (3, TypeError, "bounds must be a pair (lower, upper): a tuple of numbers or arrays"),
        ("ab", TypeError, "must be a pair"),
        (("a", 1), TypeError, "bounds (lower) must hold real numbers"),
        ((0, np.nan), ValueError, "bounds (upper) must not be NaN"),
        ((np.zeros(3), 1), ValueError, "bounds must fit the shape (2,); got (3,) and ()"),
        (([0, 2], 1), ValueError, "lower must not be above upper; x[1] is 2.0 to 1.0"),
    ],
)
def test_bounds_that_are_refused(given, kind, words):
    with pytest.raises(kind, match=re.escape(words)):
        validation.bounds(given, (2,))


# ---------------------------------------------------------------------------------------------- names of arguments


@pytest.mark.parametrize(
    ("call", "wrong", "right"),
    [
        (lambda **k: fastgd.gradient_descent(np.sum, [1.0], **k), "learning_rate", "lr"),
        (lambda **k: fastgd.gradient_descent(np.sum, [1.0], **k), "max_iter", "step_num"),
        (lambda **k: fastgd.gradient_descent(np.sum, [1.0], **k), "stp_num", "step_num"),
        (lambda **k: fastgd.LinearObjective([[1.0]], [1.0], **k), "alpha", "l2"),
        (lambda **k: fastgd.sweep(np.sum, **k), "learning_rate", "lr"),
        (lambda **k: fastgd.multi_start(np.sum, ([0.0], [1.0]), 3, **k), "max_iter", "step_num"),
        (lambda **k: fastgd.GDRegressor(**k), "lr", "learning_rate"),
        (lambda **k: fastgd.GDClassifier(**k), "step_num", "max_iter"),
        (lambda **k: fastgd.GDRegressor(**k), "seed", "random_state"),
        (lambda **k: fastgd.GDRegressor(**k), "l2", "alpha"),
    ],
)
@pytest.mark.one_build
def test_a_wrong_name_of_an_argument_is_told_the_right_one(call, wrong, right):
    with pytest.raises(TypeError, match=f"has no argument {wrong!r}; it is called {right!r}"):
        call(**{wrong: 0.1})


@pytest.mark.one_build
def test_an_unknown_name_of_an_argument_is_told_all():
    with pytest.raises(TypeError, match="LinearObjective has no argument 'colour'; there are X, y, activation, loss"):
        fastgd.LinearObjective([[1.0]], [1.0], colour=3)
