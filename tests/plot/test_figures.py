"""Every figure: what is on it for each form of argument, that it can be read, and that nothing covers data."""

import base64
import itertools
import subprocess

import numpy as np
import pytest
from matplotlib import colors as mcolors
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from matplotlib.text import Text
from numpy.testing import assert_allclose
from PIL import Image
from scipy import ndimage, stats

import fastgd
from fastgd import GDClassifier, GDRegressor, LinearObjective, gradient_descent, multi_start, plot
from fastgd.plot.shared import COLORS, GREY, GROUND, plane, round_levels

pytestmark = pytest.mark.one_build


@pytest.fixture(autouse=True)
def no_figure_is_left():
    yield
    plt.close("all")


def bowl(x):
    return x[0] ** 2 + 10 * x[1] ** 2


def parabola(x):
    return float(x[0] ** 2)


def rosenbrock(x):
    return 100 * (x[1] - x[0] ** 2) ** 2 + (1 - x[0]) ** 2


def four_valleys(x):
    return float(np.sum(x**4 - 16 * x**2 + 5 * x) / 2)


def run(f=bowl, start=(-3.0, 2.0), lr=0.02, step_num=20, **options):
    try:
        return gradient_descent(f, np.array(start), lr=lr, step_num=step_num, history=True, **options)
    except fastgd.DivergenceError as error:
        return error


RATES = {"too small": 0.001, "right": 0.08, "too large": 0.101}
RNG = np.random.default_rng(0)
X = RNG.normal(size=(120, 2))
Y = X @ [1.0, -2.0] + 0.3 * RNG.normal(size=120)
LABELS = np.where(X @ [1.0, 1.0] + 0.3 * RNG.normal(size=120) > 0, "b", "a")
PLANE = LinearObjective(X, Y, loss="mse")
MODEL, CLASSIFIER = GDRegressor(penalty=None).fit(X, Y), GDClassifier().fit(X, LABELS)
STARTS = multi_start(four_valleys, ([-4, -4], [4, 4]), 8, lr=0.01, step_num=80, history=True)
GRID = fastgd.sweep(PLANE, grid=True, lr=[0.01, 0.1, 3.0], l2=[0.0, 0.1], step_num=30, history=True)


# ---------------------------------------------------------------------------------------------------------- legibility


def linear(color):
    c = np.array(mcolors.to_rgb(color))
    return np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4)


def contrast(color, ground):
    """WCAG 2: (L₁ + 0.05)/(L₂ + 0.05) of the relative luminances, which are what is left in grey."""
    bright = sorted(float(linear(c) @ [0.2126, 0.7152, 0.0722]) for c in (color, ground))
    return (bright[1] + 0.05) / (bright[0] + 0.05)


# Machado, Oliveira and Fernandes, 2009, severity 1: protanopia, deuteranopia, tritanopia.
BLINDNESS = [
    np.eye(3),
    np.array([[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]),
    np.array([[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]),
    np.array([[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]]),
]


def cielab(rgb):
    to_xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    t = to_xyz @ np.clip(rgb, 0, 1) / [0.9505, 1.0, 1.089]
    f = np.where(t > 0.008856, np.cbrt(t), 7.787 * t + 16 / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


def test_lines_stand_out_from_every_ground_and_from_each_other_for_any_eye():
    for color, ground in itertools.product((*COLORS, "black"), ("white", *GROUND)):
        assert contrast(color, ground) >= 3, (color, ground)
    assert contrast(GREY, "white") >= 3
    for a, b in itertools.combinations(COLORS, 2):
        for eye in BLINDNESS:
            assert np.linalg.norm(cielab(eye @ linear(a)) - cielab(eye @ linear(b))) > 17, (a, b)


def test_lines_on_figures_have_that_contrast_with_what_is_behind_them():
    ax = plot.trajectories({name: run(lr=lr) for name, lr in RATES.items()}, bowl)
    behind = ax.collections[0].get_facecolor()
    for line in ax.lines:
        if line.get_gid() == "path":
            assert min(contrast(line.get_color(), color) for color in behind) >= 3
    ax = plot.decision_boundary(CLASSIFIER, X, LABELS)
    shown = ax.images[0].get_array().reshape(-1, 3)[::97]
    for line in ax.lines:
        if line.get_linestyle() == "None":
            assert min(contrast(line.get_color(), color) for color in shown) >= 3


def test_numbers_on_a_heat_map_can_be_read():
    ax = plot.sweep(GRID)
    mesh = ax.collections[0]
    values = mesh.get_array().compressed()
    cells = mesh.cmap(mesh.norm(values))
    for text in ax.texts:
        near = next(c for c, v in zip(cells, values, strict=True) if f"{v:.3g}" == text.get_text())
        assert contrast(text.get_color(), near[:3]) >= 3


COVERING = {
    "losses": lambda: plot.loss({name: run(lr=lr) for name, lr in RATES.items()}),
    "race": lambda: plot.trajectories({f"run {i}": run(lr=0.01 * i) for i in range(1, 10)}, bowl),
    "minimum": lambda: plot.trajectory(run(lr=0.001), bowl),
    "curve": lambda: plot.trajectory(run(parabola, [3.0], lr=0.9), parabola),
    "fit": lambda: plot.fit(LinearObjective(X[:, :1], Y, loss="mse"), [1.0]),
    "classes": lambda: plot.decision_boundary(CLASSIFIER, X, LABELS),
    "many starts": lambda: plot.trajectories(STARTS, four_valleys),
    "given axes": lambda: plot.loss([run(), run(lr=0.05)], plt.subplots()[1]),
    "tangent": lambda: plot.tangent(lambda x: x**2, [-1.0, 1.0]),
}


@pytest.mark.parametrize("draw", COVERING.values(), ids=COVERING)
def test_no_legend_covers_data_or_leaves_the_figure(draw):
    ax = draw()
    figure = ax.figure
    figure.canvas.draw()
    renderer = figure.canvas.get_renderer()
    box = ax.get_legend().get_window_extent(renderer)
    assert not box.overlaps(ax.get_window_extent(renderer))
    inside = figure.bbox.padded(1)
    for part in (box, ax.title.get_window_extent(renderer), ax.xaxis.label.get_window_extent(renderer)):
        assert inside.x0 <= part.x0 and part.x1 <= inside.x1 and inside.y0 <= part.y0 and part.y1 <= inside.y1


@pytest.mark.parametrize("count", [6, 16, 24])
def test_many_lines_are_labelled_at_their_ends_and_no_label_covers_another(count):
    ax = plot.loss({f"run {i}": run(lr=0.002 + 0.0001 * i) for i in range(count)})
    ax.figure.canvas.draw()
    assert ax.get_legend() is None
    assert {text.get_text() for text in ax.texts} == {f"run {i}" for i in range(count)}
    boxes = sorted((Text.get_window_extent(text) for text in ax.texts), key=lambda box: box.y0)
    assert all(low.y1 <= high.y0 + 2 for low, high in itertools.pairwise(boxes))
    assert all(box.x0 >= ax.get_window_extent().x1 and box.x1 <= ax.figure.bbox.x1 + 1 for box in boxes)


# ------------------------------------------------------------------------------------------------- forms of an argument


SGD = GDRegressor(solver="sgd", max_iter=3, tol=None, random_state=0).fit(X, Y)
FORMS = {
    "Result": (run(), 1),
    "History": (run().history, 1),
    "DivergenceError": (run(lr=0.3, step_num=200), 1),
    "estimator": (SGD, 1),
    "list": ([run(), run(lr=0.05)], 2),
    "tuple": ((run(), run(lr=0.05)), 2),
    "iterator": (None, 2),
    "dict": ({"a": run(), "b": run(lr=0.05).history, 3: SGD}, 3),
    "sweep": (GRID, 6),
    "multi_start": (STARTS, 8),
}


@pytest.mark.parametrize("name", FORMS)
def test_losses_of_every_form(name):
    runs, count = FORMS[name]
    ax = plot.loss(iter(FORMS["list"][0]) if name == "iterator" else runs)
    assert len(ax.lines) == count
    assert len({(line.get_color(), str(line.get_linestyle())) for line in ax.lines}) == count


def test_the_steps_are_those_of_the_history():
    ax = plot.loss(gradient_descent(bowl, [1.0, 1.0], step_num=20, history=5))
    assert ax.lines[0].get_xdata().tolist() == [0, 5, 10, 15, 20]
    ax = plot.loss(SGD)
    assert (ax.lines[0].get_xdata().tolist(), ax.get_xlabel()) == ([1, 2, 3], "epoch")


def test_runs_of_a_sweep_are_named_by_what_distinguishes_them():
    same = [one for one in GRID if one.settings["l2"] == 0]
    labels = {line.get_label() for line in plot.loss(same).lines}
    assert labels == {"lr = 0.01", "lr = 0.1", "lr = 3 (diverges)"}
    assert "lr = 0.01, l2 = 0.1" in {line.get_label() for line in plot.loss(GRID).lines}


def test_losses_above_a_minimum():
    least = gradient_descent(PLANE, lr="auto", tol=1e-14).fun
    result = gradient_descent(PLANE, lr=0.2, step_num=300, history=True)
    ax = plot.loss(result, minimum=least)
    shown = ax.lines[0].get_ydata()
    assert ax.get_yscale() == "log" and ax.get_ylabel() == "loss above the minimum"
    assert_allclose(shown[:20], result.history.fun[:20] - least, rtol=1e-9)


def test_a_fit_has_no_points_to_draw_a_path_of():
    with pytest.raises(ValueError, match="the history holds no points: run gradient_descent with history=True"):
        plot.trajectory(SGD)
    with pytest.raises(ValueError, match="is not fitted"):
        plot.loss(GDRegressor())


# ------------------------------------------------------------------------------------------------ functions and paths


@pytest.mark.parametrize("limits", [((-2, 2), (-1, 3)), ((-1.5, 1.5), (-0.5, 2)), ((-3, 3), (-2, 8))])
def test_the_valley_of_rosenbrock_has_no_beads(limits):
    x, y, values = plane(rosenbrock, *limits)
    exact = rosenbrock(np.meshgrid(x, y))
    assert_allclose(values, exact, atol=2e-3 * np.ptp(limits[0]) ** 4)
    levels = round_levels(values, np.linspace(0, 1, 16) ** 2)
    for level in levels[1:]:
        assert ndimage.label(values <= level)[1] == ndimage.label(exact <= level)[1]


def test_kinks_are_not_rounded_by_splines():
    x, y, values = plane(lambda v: abs(v[0]) + abs(v[1]) ** 3, (-1, 1), (-1, 2))
    assert_allclose(values, np.abs(x) + np.abs(y[:, None]) ** 3, atol=1e-12)


@pytest.mark.parametrize("f", [bowl, rosenbrock, four_valleys, lambda x: -5e-9 * bowl(x), lambda x: 1e9 + bowl(x)])
def test_ticks_of_the_colour_bar_are_round(f):
    ax = plot.contour(f, (-2, 3), (-1, 3))
    bar = ax.figure.axes[1]
    for tick, label in zip(bar.get_yticks(), bar.get_yticklabels(), strict=True):
        text = label.get_text().replace("−", "-")
        assert_allclose(float(text), tick, rtol=1e-3, atol=1e-15)
        assert len(text.lstrip("-").replace(".", "").replace("0", "").partition("e")[0]) <= 3 or f(np.zeros(2)) > 1e8


def test_panels_of_rates_have_the_same_limits_and_show_the_minimum():
    axes = plot.learning_rates({name: run(lr=lr) for name, lr in RATES.items()}, f=bowl)
    assert [ax.get_title() for ax in axes] == ["too small", "right", "too large (diverges)"]
    assert len({(ax.get_xlim(), ax.get_ylim()) for ax in axes}) == 1
    (mark,) = [line for line in axes[0].lines if line.get_gid() == "minimum"]
    assert_allclose(mark.get_xydata(), [[0, 0]], atol=1e-5)
    axes = plot.learning_rates(
        [run(parabola, [-3.0], lr=lr) for lr in (0.01, 0.3)], f=parabola, ax=plt.subplots(1, 2)[1]
    )
    assert len({ax.get_xlim() for ax in axes}) == 1
    with pytest.raises(ValueError, match="ax must be 2 Axes, one for each run; got 1"):
        plot.learning_rates([run(), run()], f=bowl, ax=axes[0])


def test_a_run_that_is_too_slow_is_shown_with_the_minimum():
    ax = plot.trajectory(run(lr=0.0005), bowl)
    (mark,) = [line for line in ax.lines if line.get_gid() == "minimum"]
    assert ax.get_xlim()[0] < -3 < 0 < ax.get_xlim()[1]
    assert mark.get_label() == "minimum"
    # A function with no minimum, and one with none near by.
    for f in (lambda x: float(x[0] + x[1]), lambda x: float(np.exp(-x[0]) + x[1] ** 2)):
        ax = plot.trajectory(run(f, [0.0, 1.0], lr=0.01, step_num=3), f)
        assert not [line for line in ax.lines if line.get_gid() == "minimum"]


def test_paths_of_parameters_with_names():
    def f(p):
        return p["a"] ** 2 + 3 * p["b"] ** 2

    result = gradient_descent(f, {"a": 1.0, "b": 2.0}, lr=0.1, step_num=5, history=True)
    points = np.column_stack([result.history.x["a"], result.history.x["b"]])
    ax = plot.trajectory(result, f)
    assert_allclose(next(line for line in ax.lines if line.get_gid() == "path").get_xydata(), points)
    assert plot.surface(f, run=result).name == plot.trajectory(result, f, plot.surface(f, run=result)).name == "3d"
    assert list(result.history.to_frame().columns[-2:]) == ["x['a']", "x['b']"]


def test_arrows_point_along_the_path():
    result = run(lr=0.05, step_num=40)
    arrows = [text for text in plot.trajectory(result, bowl).texts if text.arrow_patch is not None]
    assert 1 <= len(arrows) <= 3
    steps = np.diff(result.history.x, axis=0)
    for arrow in arrows:
        direction = np.subtract(arrow.xy, arrow.xyann)
        cosines = steps @ direction / np.linalg.norm(steps, axis=1) / np.linalg.norm(direction)
        assert cosines.max() > 1 - 1e-9


def test_many_starts_are_coloured_by_their_minimum_which_is_numbered():
    ax = plot.trajectories(STARTS, four_valleys)
    paths = [line for line in ax.lines if line.get_gid() == "path"]
    marks = [line for line in ax.lines if line.get_gid() == "minimum"]
    assert len(paths) == 8 and len(marks) == len(STARTS.minima)
    for mark, minimum in zip(marks, STARTS.minima, strict=True):
        assert_allclose(mark.get_xydata()[0], minimum.x)
        assert len({paths[number].get_color() for number in minimum.runs}) == 1
    words = [text.get_text() for text in ax.get_legend().get_texts()]
    assert sum(word.startswith("minimum ") for word in words) == len(marks)


def on_the_surface(ax):
    return [line for line in ax.lines if line.get_gid() == "path"]


@pytest.mark.parametrize("f", [bowl, rosenbrock, four_valleys])
def test_a_path_lies_on_the_surface_between_its_steps_too(f):
    path = run(f, [-1.2, 1.6], lr=0.001, step_num=30)
    ax = plot.surface(f, run=path)
    lengths = 0
    for line in on_the_surface(ax):
        x, y, z = (np.asarray(part, float) for part in line.get_data_3d())
        seen = np.isfinite(z)
        assert_allclose(z[seen], [f(np.array(p)) for p in zip(x[seen], y[seen], strict=True)], rtol=1e-12)
        lengths += seen.sum()
    assert lengths >= len(path.history.x)
    assert len(ax.figure.axes) == 2 and len(plot.surface(f, run=path, colorbar=False).figure.axes) == 1


def test_the_surface_hides_what_is_behind_it_and_is_turned_so_that_little_is():
    def ridge(x):
        return 20 * np.exp(-4 * x[0] ** 2) + x[1] ** 2

    path = run(ridge, [-1.0, 1.0], lr=0.05, step_num=20)
    dotted = {}
    for azim in (0.0, 180.0, None):
        ax = plot.surface(ridge, (-2, 2), (-2, 2), run=path, azim=azim)
        dotted[azim] = sum(
            np.isfinite(line.get_data_3d()[2]).sum() for line in on_the_surface(ax) if line.get_ls() == ":"
        )
    assert dotted[0.0] > 10  # seen over the ridge
    assert dotted[180.0] == dotted[None] == 0
    with pytest.raises(ValueError, match="surface needs xlim and ylim, or a run"):
        plot.surface(ridge)


def test_tangents_at_several_points_and_along_a_run():
    ax = plot.tangent(lambda x: x**3, [1.0, -2.0])
    assert [line.get_label() for line in ax.lines if str(line.get_label()).startswith("tangent")] == [
        "tangent, slope 3", "tangent, slope 12",
    ]  # fmt: skip
    ax = plot.tangent(lambda x: x**2, run(parabola, [-3.0], lr=0.1))
    assert sum(str(line.get_label()).startswith("tangent") for line in ax.lines) == 6


def test_basins_are_those_of_the_minima():
    ax = plot.basins(four_valleys, (-4, 4), (-4, 4), points=9)
    reached = ax.collections[0].get_array().reshape(9, 9)
    corners = reached[0, 0], reached[0, -1], reached[-1, 0], reached[-1, -1]
    assert corners[0] == 0 and corners[3] == 3 and {corners[1], corners[2]} == {1, 2}
    side = np.linspace(-4, 4, 9) > 0.2
    assert np.all(reached[np.ix_(~side, ~side)] == 0) and np.all(reached[np.ix_(side, side)] == 3)
    starts = plot.basins(STARTS)
    colors = {line.get_color() for line in starts.lines if line.get_marker() == "s"}
    assert len(colors) == len(STARTS.minima)
    left = plot.basins(lambda x: float(x[0] ** 2 - x[1] ** 4), (-1, 1), (-1, 4), lr=0.3, points=5)
    assert "diverge" in [text.get_text() for text in left.get_legend().get_texts()][-1]


# ---------------------------------------------------------------------------------------------------- models and data


def test_bands_are_those_of_the_textbook():
    x, y = fastgd.datasets.load_women()
    table = LinearObjective(x, y, loss="mse", fit_intercept=True)
    line = stats.linregress(x[:, 0], y)
    n, level = len(y), 0.9
    t = stats.t(n - 2).ppf(0.5 + level / 2)
    noise = np.sum((y - line.slope * x[:, 0] - line.intercept) ** 2) / (n - 2)
    for ax in (
        plot.fit(table, gradient_descent(table, lr="auto", tol=1e-14), level=level),
        plot.fit(GDRegressor(penalty=None).fit(x, y), x, y=y, level=level),
    ):
        for band, extra in zip(ax.collections, (0.0, 1.0), strict=True):
            corners = band.get_paths()[0].vertices
            at = corners[np.argmin(np.abs(corners[:, 0] - 60)), 0]
            high, low = (corners[corners[:, 0] == at, 1].max(), corners[corners[:, 0] == at, 1].min())
            share = extra + 1 / n + (at - x.mean()) ** 2 / np.sum((x - x.mean()) ** 2)
            assert_allclose((high - low) / 2, t * np.sqrt(noise * share), rtol=1e-6)
    with pytest.raises(ValueError, match="without a penalty"):
        plot.fit(table.replace(l2=1.0), [1.0, 1.0], level=0.9)
    with pytest.raises(ValueError, match="level is for one feature"):
        plot.fit(PLANE, [1.0, 1.0], level=0.9)


def test_residuals_and_observed_against_predicted_of_an_estimator():
    predicted = MODEL.predict(X)
    assert_allclose(plot.residuals(MODEL, X, y=Y).lines[0].get_xydata(), np.column_stack([predicted, Y - predicted]))
    assert_allclose(plot.residuals(MODEL).lines[0].get_ydata(), Y - predicted)  # a small fit keeps its data
    axes = Figure().add_subplot()
    assert plot.fit(MODEL, X, Y, axes) is axes is plot.fit(PLANE, [1.0, 1.0], axes)
    assert_allclose(axes.lines[0].get_xydata(), np.column_stack([Y, predicted]))
    with pytest.raises(TypeError, match="X and y are needed"):
        plot.residuals(SGD)
    w = gradient_descent(PLANE, lr="auto", tol=1e-12)
    assert_allclose(plot.residuals(PLANE, w).lines[0].get_ydata(), Y - X @ w.x, rtol=1e-9)


def test_many_points_are_a_density():
    rng = np.random.default_rng(1)
    many = rng.normal(size=(200_000, 1))
    ax = plot.fit(LinearObjective(many, many[:, 0] + rng.normal(size=200_000), loss="mse"), [1.0])
    assert [line.get_label() for line in ax.lines] == ["fit"]
    assert ax.collections[0].get_array().sum() == 200_000


@pytest.mark.parametrize("classes", [2, 3])
def test_decision_boundary_is_that_of_the_model(classes):
    y = np.digitize(X[:, 0] + 2 * X[:, 1], np.quantile(X[:, 0] + 2 * X[:, 1], np.arange(1, classes) / classes))
    model = GDClassifier(alpha=0.001).fit(X, y)
    ax = plot.decision_boundary(model, X, y)
    points = [line for line in ax.lines if line.get_linestyle() == "None"]
    assert sum(len(line.get_xdata()) for line in points) == len(X) and len(points) == classes
    image, (x0, x1, y0, y1) = ax.images[0].get_array(), ax.images[0].get_extent()
    strongest = [np.array(mcolors.to_rgb(COLORS[i])) for i in range(classes)]
    for point in np.random.default_rng(3).uniform((x0, y0), (x1, y1), size=(50, 2)):
        if model.predict_proba([point]).max() > 0.9:
            pixel = image[int((point[1] - y0) / (y1 - y0) * 200), int((point[0] - x0) / (x1 - x0) * 200)]
            shades = [(1 - pixel) @ (1 - s) / np.linalg.norm(1 - s) for s in strongest]
            assert np.argmax(shades) == model.predict([point])[0]


def test_decision_boundary_of_an_objective_and_what_is_refused():
    logistic = LinearObjective(X, LABELS == "b", activation="sigmoid", loss="log", fit_intercept=True)
    ax = plot.decision_boundary(logistic, gradient_descent(logistic, lr="auto"))
    half = ax.collections[0].get_paths()[1].vertices
    w = gradient_descent(logistic, lr="auto").x
    assert_allclose(half @ w[:2] + w[2], 0, atol=1e-2)
    hinge = GDClassifier(loss="hinge", alpha=0.1).fit(X, LABELS)  # it has no probabilities
    assert len(plot.decision_boundary(hinge, X, LABELS).images) == 1
    with pytest.raises(TypeError, match="model must be a fitted classifier"):
        plot.decision_boundary(MODEL, X, Y)
    with pytest.raises(ValueError, match="X must have two columns"):
        plot.decision_boundary(GDClassifier().fit(X[:, :1], LABELS), X[:, :1], LABELS)
    with pytest.raises(TypeError, match="a classifier has no fitted curve"):
        plot.fit(CLASSIFIER, X, y=LABELS)


def test_confusion_matrix_and_calibration_are_those_of_scikit_learn():
    ax = plot.confusion_matrix(CLASSIFIER, X, LABELS)
    found = np.array([int(text.get_text()) for text in ax.texts]).reshape(2, 2)
    predicted = CLASSIFIER.predict(X)
    expected = [[np.sum((a == LABELS) & (predicted == b)) for b in "ab"] for a in "ab"]
    assert found.tolist() == expected
    assert len(plot.calibration(CLASSIFIER, X, LABELS, n_bins=4).lines) == 2


def test_coefficients_have_the_intervals_of_the_summary():
    summary = MODEL.summary()
    for models in (MODEL, summary, [MODEL]):
        (container,) = plot.coefficients(models).containers
        (segments,) = [bar.get_segments() for bar in container.lines[2]]
        assert_allclose([[low[0], high[0]] for low, high in segments], summary.conf_int[:2], rtol=1e-12)
    both = {"plain": MODEL, "ridge": GDRegressor(alpha=1.0, penalty="l2").fit(X, Y)}
    ax = plot.coefficients(both, names=["first", "second"])
    assert [text.get_text() for text in ax.get_yticklabels()] == ["first", "second"]
    with pytest.raises(ValueError, match="must have 2 coefficients"):
        plot.coefficients([MODEL, GDRegressor().fit(X[:, :1], Y)])


# ------------------------------------------------------------------------------------------------- many runs, numbers


def test_a_sweep_is_a_map_of_its_losses():
    ax = plot.sweep(GRID)
    shown = {text.get_text() for text in ax.texts}
    assert shown == {f"{one.loss:.3g}" for one in GRID if one.status.name != "DIVERGED"}
    assert {text.get_text() for text in ax.get_xticklabels()} == {"0.01", "0.1", "3"}
    words = [text.get_text() for text in ax.get_legend().get_texts()]
    assert words == ["best", "diverges"]
    (star,) = [line for line in ax.lines if line.get_label() == "best"]
    best = GRID[0].settings
    assert int(star.get_xdata()[0]) == [0.01, 0.1, 3.0].index(best["lr"])
    assert int(star.get_ydata()[0]) == [0.0, 0.1].index(best["l2"])
    mixed = fastgd.sweep(PLANE, grid=True, lr=[0.1, "auto"], optimizer=["gd", "adam"], step_num=9)
    assert len(plot.sweep(mixed).texts) == 3 and plot.sweep(mixed).get_legend().get_texts()[-1].get_text() == "best"
    one = [run for run in GRID if run.settings["l2"] == 0]
    assert plot.sweep(one).get_xlabel() == "lr"
    with pytest.raises(TypeError, match=r"what fastgd\.sweep returned"):
        plot.sweep([run()])


def test_weights_at_each_step_and_at_each_penalty():
    result = run()
    ax = plot.path(result, names=["a", "b"])
    lines = {line.get_label(): line.get_ydata() for line in ax.lines[1:]}
    assert_allclose(lines["b"], result.history.x[:, 1])
    models = [GDRegressor(penalty="l1", alpha=alpha).fit(X, Y) for alpha in (1.0, 0.01, 0.1)]
    ax = plot.path(models)
    assert ax.get_xscale() == "log"
    assert_allclose(ax.lines[1].get_xydata()[:, 0], [0.01, 0.1, 1.0])
    assert_allclose(ax.lines[1].get_ydata()[2], models[0].coef_[0])


def test_schedules_are_their_rates():
    s = fastgd.schedules
    ax = plot.schedules({"halves": s.step_decay(1.0, 10, 0.5), "run": run()}, 30)
    assert_allclose(ax.lines[0].get_ydata(), 0.5 ** (np.arange(30) // 10))
    assert_allclose(ax.lines[1].get_ydata(), run().history.lr)
    assert len(plot.schedules(s.cosine_decay(1.0, 10)).lines) == 1


def test_a_gradient_check_shows_where_the_fault_is():
    def f(x):
        return float(np.sum(x**3)) + abs(x[1, 2])

    x = np.random.default_rng(4).normal(size=(3, 4))
    x[1, 2] = 0.0
    check = fastgd.check_gradient(f, lambda x: 3 * x**2 * np.where(np.arange(4) == 3, 2, 1), x)
    ax = plot.gradient_check(check)
    marks = {line.get_label(): line.get_xydata().tolist() for line in ax.lines}
    assert marks == {"wrong": [[3, 0], [3, 1], [3, 2]], "unclear": [[2, 1]]}
    fine = fastgd.check_gradient(lambda x: float(x @ x), lambda x: 2 * x, np.ones(30))
    assert plot.gradient_check(fine).get_title() == "The gradient agrees with the differences"


# ---------------------------------------------------------------------------------------------------------- animations


ANIMATED = {
    "contours": (lambda: run(step_num=3), bowl, {}),
    "two runs": (lambda: {"a": run(step_num=3), "b": run(step_num=2, lr=0.05)}, bowl, {}),
    "a curve": (lambda: run(parabola, [-3.0], step_num=3, lr=0.1), parabola, {"tangents": True}),
    "a surface": (lambda: run(step_num=3), bowl, {"surface": True}),
}


@pytest.mark.parametrize("name", ANIMATED)
def test_an_animation_is_written_as_gif_and_html(name, tmp_path):
    runs, f, options = ANIMATED[name]
    ax = plot.animate(runs(), f, path=tmp_path / "descent.gif", **options)
    with Image.open(tmp_path / "descent.gif") as image:
        assert image.n_frames == 4
    plot.animate(runs(), f, Figure(figsize=(2, 2)).add_subplot(projection=ax.name if ax.name == "3d" else None),
                 path=tmp_path / "descent.html", **options)  # fmt: skip
    html = (tmp_path / "descent.html").read_text()
    assert html.count("data:image/png;base64") == 4 and base64.b64encode(b"\x89PNG\r\n")[:8].decode() in html


def test_an_animation_is_written_as_mp4(tmp_path):
    imageio_ffmpeg = pytest.importorskip("imageio_ffmpeg")
    path = tmp_path / "descent.mp4"
    plot.animate(run(step_num=3), bowl, path=path)
    shown = subprocess.run([imageio_ffmpeg.get_ffmpeg_exe(), "-i", str(path)], capture_output=True, text=True)
    assert "Video: h264" in shown.stderr


def test_an_animation_is_written_to_nothing_else(tmp_path):
    with pytest.raises(ValueError, match="the ending of path must be"):
        plot.animate(run(), bowl, path=tmp_path / "descent.avi")
    with pytest.raises(OSError, match="no directory"):
        plot.animate(run(), bowl, path=tmp_path / "nowhere" / "descent.gif")
    assert list(tmp_path.iterdir()) == []
