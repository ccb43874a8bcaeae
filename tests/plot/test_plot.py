"""What the pictures show: the data of each line, the kind of each axis, and what is refused."""

import re
import subprocess
import sys

import numpy as np
import pytest
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from numpy.testing import assert_allclose
from PIL import Image

from fastgd import DivergenceError, History, LinearObjective, Result, gradient_descent, plot

pytestmark = pytest.mark.one_build


def bowl(x):
    return x[0] ** 2 + x[1] ** 2


def parabola(x):
    return float(x[0] ** 2)


def run(f=bowl, start=(-3.0, 4.0), lr=0.1, step_num=10):
    """A run with its history, also where it diverges."""
    try:
        return gradient_descent(f, np.array(start), lr=lr, step_num=step_num, history=True)
    except DivergenceError as error:
        return error


def with_losses(*values):
    return History(x=np.zeros((len(values), 1)), fun=np.array(values, float), lr=np.full(len(values) - 1, 0.1))


def line(ax, label):
    (found,) = [line for line in ax.lines if line.get_label() == label]
    return found


def entries(ax):
    """What the legend says."""
    return [] if ax.get_legend() is None else [text.get_text() for text in ax.get_legend().get_texts()]


def drawn(ax, tmp_path):
    """The picture as it is saved: it must draw without a warning, and not be blank."""
    path = tmp_path / "picture.png"
    ax.figure.savefig(path, dpi=40)
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


@pytest.fixture(autouse=True)
def no_figure_is_left():
    yield
    plt.close("all")


@pytest.fixture
def ax():
    return Figure().add_subplot()


LINE = LinearObjective([[1.0], [2.0], [4.0]], [1.0, 3.0, 5.0], fit_intercept=True)
PLANE = LinearObjective([[1.0, 0.0], [2.0, 1.0], [4.0, -1.0]], [1.0, 3.0, 5.0])

EVERY_PICTURE = {
    "loss": lambda ax: plot.loss(run(), ax),
    "learning_rates": lambda ax: plot.learning_rates([run(), run(lr=1.1, step_num=60)], ax=ax),
    "fit of one feature": lambda ax: plot.fit(LINE, [1.0, 0.5], ax),
    "fit of several features": lambda ax: plot.fit(PLANE, [1.0, 0.5], ax),
    "contour": lambda ax: plot.contour(bowl, (-1, 2), (-3, 4), ax),
    "trajectory on contours": lambda ax: plot.trajectory(run(), bowl, ax),
    "trajectory on a curve": lambda ax: plot.trajectory(run(parabola, [3.0]), parabola, ax),
    "tangent": lambda ax: plot.tangent(lambda x: x**2, 1.5, ax),
    "animate": lambda ax: plot.animate(run(step_num=3), bowl, ax),
}


@pytest.mark.parametrize("draw", EVERY_PICTURE.values(), ids=EVERY_PICTURE)
def test_draws_on_a_given_axes_or_on_a_new_one(draw, ax, tmp_path):
    assert draw(ax) is ax
    new = draw(None)
    assert new is not ax
    assert isinstance(new.figure, Figure)
    for axes in (ax, new):
        assert axes.get_title()
        assert axes.get_xlabel()
        assert axes.get_ylabel()
        assert np.ptp(drawn(axes, tmp_path)) > 100


@pytest.mark.parametrize("draw", EVERY_PICTURE.values(), ids=EVERY_PICTURE)
def test_refuses_what_is_no_axes(draw):
    with pytest.raises(TypeError, match="ax must be a matplotlib Axes; got 'here'"):
        draw("here")


def test_surface_needs_a_three_dimensional_axes(ax, tmp_path):
    solid = Figure().add_subplot(projection="3d")
    assert plot.surface(bowl, (-1, 2), (-3, 4), solid) is solid
    new = plot.surface(bowl, (-1, 2), (-3, 4))
    assert new.get_zlabel()
    assert_allclose(new.get_zlim(), (0, 20), atol=0.5)
    assert np.ptp(drawn(new, tmp_path)) > 100
    with pytest.raises(ValueError, match=re.escape('3-D one: figure.add_subplot(projection="3d")')):
        plot.surface(bowl, (-1, 2), (-3, 4), ax)
    with pytest.raises(ValueError, match="ax must be a flat one; got Axes3D"):
        plot.contour(bowl, (-1, 2), (-3, 4), solid)


def test_matplotlib_is_imported_when_drawn_with_and_not_before():
    program = (
        "import sys, fastgd\n"
        "plot = fastgd.plot\n"
        "assert 'matplotlib' not in sys.modules\n"
        "ax = plot.tangent(lambda x: x**2, 1.0)\n"
        "assert 'matplotlib' in sys.modules\n"
        "import matplotlib.pyplot as plt\n"
        "assert plt.gcf() is ax.figure  # which plt.show() shows\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_without_matplotlib_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.axes", None)
    with pytest.raises(ImportError, match=re.escape("drawing needs matplotlib: install it with `pip install 'fastgd[")):
        plot.tangent(lambda x: x**2, 1.0)


# ------------------------------------------------------------------------------------------------------ loss by step


def test_loss_is_the_history_by_step():
    result = run(step_num=7)
    for source in (result, result.history):
        ax = plot.loss(source, label="seven steps")
        x, y = line(ax, "seven steps").get_data()
        assert x.tolist() == list(range(8))
        assert_allclose(y, result.history.fun, rtol=0)
        assert entries(ax) == ["seven steps"]


@pytest.mark.parametrize(
    ("losses", "scale"),
    [
        ((3, 2, 1), "linear"),
        ((1, 1, 1), "linear"),
        ((0, 0), "linear"),
        ((5,), "linear"),
        ((100, 10, 0.1), "log"),
        ((100, 10, 0), "linear"),
        ((1000, 1, 0), "log"),
        ((1, -2, -5), "linear"),
        ((1, 0.5, -0.1, -1e9), "symlog"),
        ((1, 50, 1e199), "log"),
        ((1, 1e-300), "log"),
        ((1, 50, 1e300), "linear"),
    ],
)
def test_the_axis_is_logarithmic_where_losses_span_decades(losses, scale, tmp_path):
    ax = plot.loss(with_losses(*losses))
    assert ax.get_yscale() == scale
    drawn(ax, tmp_path)


def test_a_loss_of_zero_is_named_on_a_logarithmic_axis():
    ax = plot.loss(with_losses(100, 1e-3, 0, 0))
    assert entries(ax) == ["loss (exactly 0 from step 2)"]
    assert np.isnan(ax.lines[0].get_ydata()[2:]).all()
    assert entries(plot.loss(with_losses(100, 0, 1e-3))) == ["loss (0 at step 1)"]
    assert entries(plot.loss(with_losses(3, 2, 0))) == []


def test_losses_that_are_not_finite_leave_a_gap(tmp_path):
    ax = plot.loss(with_losses(5, np.nan, 3, np.inf))
    assert_allclose(ax.lines[0].get_ydata(), [5, np.nan, 3, np.nan])
    drawn(ax, tmp_path)


def test_learning_rates_names_rates_and_what_diverges():
    decaying = gradient_descent(bowl, [-3.0, 4.0], lr=lambda k: 0.1 / (k + 1), step_num=4, history=True)
    ax = plot.learning_rates([run(lr=0.01), decaying, run(lr=1.1, step_num=60)])
    assert entries(ax) == ["lr = 0.01", "lr = 0.1 to 0.025", "lr = 1.1 (diverges)"]
    ax = plot.learning_rates([run(), run(lr=0.2)], ["slow", "fast"])
    assert_allclose(line(ax, "fast").get_ydata(), run(lr=0.2).history.fun)
    assert len({line.get_color() for line in ax.lines}) == 2


def test_a_diverging_run_does_not_flatten_the_others():
    falling, rising = with_losses(*(10 * 0.5 ** np.arange(20))), with_losses(*(10 * 1e9 ** np.arange(20)))
    low, high = plot.learning_rates([falling, rising]).get_ylim()
    assert low < falling.fun.min()
    assert 10 < high < 1e9
    flat = with_losses(3, 2.5, 2.1, 2), with_losses(-1, 3, 40, 60)
    assert plot.learning_rates(flat).get_ylim()[1] < 30


def test_rounding_does_not_flatten_the_others():
    low, _ = plot.learning_rates([with_losses(10, 1, 0.1), with_losses(10, 1e-20, 1e-80)]).get_ylim()
    assert 1e-33 < low < 1e-20


@pytest.mark.parametrize("count", [1, 8])
def test_each_run_has_a_look_of_its_own(count):
    ax = plot.learning_rates([run()] * count)
    assert len({(line.get_color(), line.get_linestyle()) for line in ax.lines}) == count


# -------------------------------------------------------------------------------------------------- a model and data


def test_fit_of_one_feature_shows_points_and_curve():
    ax = plot.fit(LINE, [1.0, 0.5], feature_name="height", target_name="weight")
    assert_allclose(line(ax, "data").get_xydata(), [[1, 1], [2, 3], [4, 5]])
    x, y = line(ax, "fit").get_data()
    assert x.min() < 1 < 4 < x.max()
    assert_allclose(y, x + 0.5)
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("height", "weight")


def test_fit_of_several_features_shows_predicted_against_actual():
    ax = plot.fit(PLANE, [1.0, 0.5], target_name="weight")
    assert_allclose(ax.lines[0].get_xydata(), [[1, 1], [3, 2.5], [5, 3.5]])
    assert_allclose(line(ax, "predicted = actual").get_xydata(), [[1, 1], [5, 5]])
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("actual weight", "predicted weight")


def test_fit_of_several_outputs_shows_each():
    two = LinearObjective([[1.0], [2.0]], [[1.0, 5.0], [2.0, 4.0]])
    ax = plot.fit(two, [[1.0, 2.0]])
    assert_allclose(line(ax, "data, output 1").get_ydata(), [5, 4])
    x, y = line(ax, "fit, output 1").get_data()
    assert_allclose(y, 2 * x)
    assert line(ax, "data, output 0").get_color() != line(ax, "data, output 1").get_color()


def test_fit_takes_a_result_and_float32_and_a_constant_feature(tmp_path):
    result = gradient_descent(LINE, lr="auto", tol=1e-10, step_num=1000)
    assert_allclose(line(plot.fit(LINE, result), "fit").get_ydata()[0], LINE.predict(result.x, [[0.88]])[0])
    constant = LinearObjective(np.ones((3, 1), np.float32), [1, 2, 3])
    assert np.ptp(line(plot.fit(constant, [2.0]), "fit").get_xdata()) == 1
    drawn(plot.fit(constant, [2.0]), tmp_path)


# -------------------------------------------------------------------------------------------- functions and the paths


def test_contour_shows_the_limits_that_were_asked_for():
    ax = plot.contour(bowl, (-1, 2), (-3, 4))
    assert (ax.get_xlim(), ax.get_ylim()) == ((-1, 2), (-3, 4))
    assert len(ax.figure.axes) == 2
    assert len(plot.contour(bowl, (-1, 2), (-3, 4), colorbar=False).figure.axes) == 1


@pytest.mark.parametrize("draw", [plot.contour, plot.surface])
@pytest.mark.parametrize(
    "f",
    [
        lambda x: 3.0,
        lambda x: np.log(x[0]) + x[1],
        lambda x: np.exp(900 * x[0]),
        lambda x: 1e308 * (x[0] - x[1]),
        lambda x: -bowl(x),
    ],
    ids=["constant", "undefined on one side", "overflowing", "huge", "a hill"],
)
def test_functions_that_are_hard_to_draw(draw, f, tmp_path):
    assert np.ptp(drawn(draw(f, (-1, 1), (-1, 1)), tmp_path)) > 100


def test_a_spike_does_not_flatten_the_surface():
    ax = plot.surface(lambda x: bowl(x) + (1e12 if np.allclose(x, 0) else 0), (-1, 1), (-1, 1))
    assert ax.get_zlim()[1] < 30


def test_an_objective_of_two_weights_is_a_function_of_two_variables():
    result = gradient_descent(PLANE, lr=0.01, step_num=5, history=True)
    ax = plot.trajectory(result, PLANE)
    assert_allclose(line(ax, "path").get_xydata(), result.history.x)
    with pytest.raises(ValueError, match=r"f has weights of shape \(1,\); this picture is of 2 variable"):
        plot.contour(LinearObjective([[1.0]], [1.0]), (0, 1), (0, 1))


def test_f_may_write_to_its_argument():
    def careless(x):
        value = bowl(x)
        x[:] = 7
        return value

    clean, dirty = (plot.contour(f, (-1, 2), (-3, 4)).collections[0].levels for f in (bowl, careless))
    assert_allclose(clean, dirty, rtol=0)


def test_trajectory_in_two_variables_is_the_path():
    result = run()
    ax = plot.trajectory(result, bowl)
    assert_allclose(line(ax, "path").get_xydata(), result.history.x)
    assert_allclose(line(ax, "start").get_xydata(), [[-3, 4]])
    assert_allclose(line(ax, "end").get_xydata(), [result.x])
    (low_x, high_x), (low_y, high_y) = ax.get_xlim(), ax.get_ylim()
    assert low_x < -3 < result.x[0] < high_x
    assert low_y < result.x[1] < 4 < high_y
    assert ax.get_aspect() == 1


def test_trajectory_in_one_variable_lies_on_the_curve():
    result = run(parabola, [3.0], lr=0.9)
    for ax in (plot.trajectory(result, parabola), plot.trajectory(result)):
        x, y = line(ax, "path").get_data()
        assert_allclose(x, result.history.x[:, 0])
        assert_allclose(y, x**2)
    assert_allclose(line(plot.trajectory(result, parabola, xlim=(-5, 5)), "f").get_xdata()[[0, -1]], [-5, 5])


def test_several_paths_on_one_picture_have_colours_and_one_entry_for_their_ends():
    ax = plot.contour(bowl, (-5, 5), (-5, 5))
    for i, start in enumerate(([-3.0, 4.0], [2.0, 2.0], [4.0, -3.0])):
        plot.trajectory(run(start=start), ax=ax, label=f"run {i}")
    assert len({line(ax, f"run {i}").get_color() for i in range(3)}) == 3
    assert entries(ax) == ["run 0", "run 1", "run 2", "start", "end"]
    assert (ax.get_xlim(), ax.get_ylim()) == ((-5, 5), (-5, 5))


@pytest.mark.parametrize(("f", "start"), [(bowl, [-3.0, 4.0]), (parabola, [3.0])], ids=["two variables", "one"])
def test_the_path_of_a_diverging_run_leaves_the_picture(f, start, tmp_path):
    error = run(f, start, lr=1.1, step_num=60)
    assert isinstance(error, DivergenceError)
    assert np.abs(error.result.history.x).max() > 100
    ax = plot.trajectory(error, f)
    assert max(np.abs(ax.get_xlim())) < 60
    assert any(re.fullmatch(r"path \(leaves the picture after step \d+\)", entry) for entry in entries(ax))
    assert "end" not in [line.get_label() for line in ax.lines]
    drawn(ax, tmp_path)


def test_a_run_of_no_step_is_a_point(tmp_path):
    drawn(plot.trajectory(run(step_num=0), bowl), tmp_path)
    drawn(plot.trajectory(run(parabola, [0.0], step_num=0), parabola), tmp_path)


def test_animation_goes_through_the_run_and_can_be_saved(tmp_path):
    result = run(step_num=6)
    ax = plot.animate(result, bowl)
    path = tmp_path / "descent.gif"
    ax.animation.save(path, writer="pillow", dpi=30)
    with Image.open(path) as image:
        assert image.n_frames == 7
    assert ax.get_title() == f"step 6, value {result.fun:.4g}"
    (trail,) = [line for line in ax.lines if line.get_gid() == "path"]
    assert_allclose(trail.get_xydata(), result.history.x)


def test_animation_of_a_long_run_skips_points_but_keeps_both_ends(tmp_path):
    ax = plot.animate(run(step_num=500), bowl, max_frames=5)
    frames = list(ax.animation.new_frame_seq())
    assert frames == [0, 125, 250, 375, 500]
    drawn(ax, tmp_path)


def test_a_still_of_an_animation_shows_the_whole_path():
    result = run(step_num=6)
    (trail,) = [line for line in plot.animate(result, bowl).lines if line.get_gid() == "path"]
    assert_allclose(trail.get_xydata(), result.history.x)


@pytest.mark.parametrize(("x", "slope"), [(1.0, 6), (0.0, 1), (-1.0, 2), (-2.0, 9)])
def test_tangent_touches_with_the_slope(x, slope):
    def cubic(x):
        return x**3 + x**2 + x

    ax = plot.tangent(cubic, x)
    touching = line(ax, f"tangent, slope {slope}").get_xydata()
    touching = touching[~np.isnan(touching[:, 1])]
    assert_allclose(touching[:, 1], cubic(x) + slope * (touching[:, 0] - x), atol=1e-6)
    assert touching[0, 0] < x < touching[-1, 0]
    curve = line(ax, "f").get_xydata()
    assert_allclose(curve[:, 1], cubic(curve[:, 0]))


def test_a_steep_tangent_does_not_flatten_the_curve():
    ax = plot.tangent(lambda x: np.tanh(100 * x), 0.0)
    assert np.ptp(ax.get_ylim()) < 3


# ------------------------------------------------------------------------------------------------------ bad arguments


def without_history():
    return gradient_descent(bowl, [1.0, 1.0], step_num=2)


THREE = History(x=np.zeros((2, 3)), fun=np.zeros(2), lr=np.zeros(1))

REFUSED = {
    "no history": (lambda: plot.loss(without_history()), ValueError, "run has no history: run with history=True"),
    "no history in one of several": (
        lambda: plot.learning_rates([run(), without_history()]),
        ValueError,
        r"run\[1\] has no history: run with history=True",
    ),
    "no history for a path": (lambda: plot.trajectory(without_history()), ValueError, "history=True"),
    "no run": (lambda: plot.loss([3, 2, 1]), TypeError, r"run\[0\] must be a Result, a History, a DivergenceError or"),
    "no losses": (lambda: plot.loss(with_losses(np.nan, np.nan)), ValueError, "no finite loss"),
    "an error without a result": (
        lambda: plot.loss(DivergenceError("gone", step=1, lr=1.0)),
        ValueError,
        "DivergenceError without a result",
    ),
    "no runs": (lambda: plot.learning_rates([]), ValueError, "at least one run"),
    "too few labels": (lambda: plot.learning_rates([run(), run()], ["a"]), ValueError, "labels must be 2 strings"),
    "one string for labels": (lambda: plot.learning_rates([run(), run()], "ab"), ValueError, "labels must be 2"),
    "no objective": (lambda: plot.fit(bowl, [1, 2]), TypeError, "objective must be a LinearObjective"),
    "weights of another shape": (lambda: plot.fit(LINE, [1.0]), ValueError, r"w must have shape \(2,\)"),
    "descending limits": (lambda: plot.contour(bowl, (2, 1), (0, 1)), ValueError, "xlim must be a pair"),
    "one limit": (lambda: plot.surface(bowl, (0, 1), 3), ValueError, "ylim must be 1-dimensional"),
    "limits of text": (lambda: plot.contour(bowl, ("a", "b"), (0, 1)), TypeError, "xlim must hold real numbers"),
    "infinite limits": (lambda: plot.contour(bowl, (0, np.inf), (0, 1)), ValueError, "xlim must be finite"),
    "no function": (lambda: plot.contour(3, (0, 1), (0, 1)), TypeError, "f must be callable"),
    "a function of no number": (lambda: plot.contour(lambda x: x, (0, 1), (0, 1)), ValueError, "one real number"),
    "nowhere finite": (lambda: plot.surface(lambda x: np.nan, (0, 1), (0, 1)), ValueError, "no finite value"),
    "three variables": (lambda: plot.trajectory(THREE), ValueError, "one or two variables; this run has 3"),
    "nothing to move over": (lambda: plot.animate(run(), None), TypeError, "f is needed"),
    "no frame": (lambda: plot.animate(run(), bowl, max_frames=1), ValueError, "max_frames must be at least 2"),
    "no time": (lambda: plot.animate(run(), bowl, interval=0), ValueError, "interval must be finite and positive"),
    "a tangent of two variables": (lambda: plot.tangent(bowl, 1.0), TypeError, "not subscriptable"),
    "a tangent at a pole": (lambda: plot.tangent(lambda x: np.nan, 1.0), ValueError, "f returned nan"),
}


@pytest.mark.parametrize(("draw", "error", "message"), REFUSED.values(), ids=REFUSED)
def test_bad_arguments_are_named(draw, error, message):
    with pytest.raises(error, match=message):
        draw()


def test_a_result_of_another_library_is_no_result():
    with pytest.raises(TypeError, match=r"run\['fun'\] must be a Result"):
        plot.loss({"fun": [1, 2]})
    assert issubclass(Result, dict)  # which is why the one above must be told apart by its class
