"""The five texts that the package grew out of: each number in them, by the public names, and the pages about them.

S0 one-layer network, S1 minimising the error, S2 linear regression, S3 numerical gradient, S4 three points.
"""

import contextlib
import importlib.util
import io
import re

import numpy as np
import pytest
from numpy.testing import assert_allclose
from snippets import PAGES, ROOT, blocks

from fastgd import (
    DivergenceError,
    LinearObjective,
    datasets,
    gradient_descent,
    numerical_diff,
    numerical_gradient,
    sigmoid,
    sigmoid_prime,
    sse,
)

DOCS = ROOT / "docs"
LAST_DIGITS = 4e-15  # relative; the texts print 16 digits


def bowl(x):
    return x[0] ** 2 + x[1] ** 2


# ------------------------------------------------------------------------- S0. one-layer network with squared errors

X0, Y0, W0 = np.array([[0.1, 0.3]]), np.array([0.2]), np.array([-0.8, 0.5])


def test_s0_forward_and_error_term():
    h = X0[0] @ W0
    output = sigmoid(h)
    error = Y0[0] - output
    assert_allclose(h, 0.07, rtol=LAST_DIGITS)
    assert_allclose(output, 0.5174928576663897, rtol=LAST_DIGITS)
    assert_allclose(error, -0.31749285766638974, rtol=LAST_DIGITS)
    assert_allclose(sigmoid_prime(h), 0.24969399993066344, rtol=LAST_DIGITS)
    assert_allclose(error * sigmoid_prime(h), -0.07927606158013766, rtol=LAST_DIGITS)
    assert_allclose(sse(X0, Y0, W0, activation="sigmoid"), 0.5 * 0.31749285766638974**2, rtol=LAST_DIGITS)


def test_s0_step():
    objective = LinearObjective(X0, Y0, activation="sigmoid")
    expected = [-0.00396380307900688, -0.01189140923702065]
    assert_allclose(-0.5 * objective.gradient(W0), expected, rtol=LAST_DIGITS)
    moved = gradient_descent(objective, W0, lr=0.5, step_num=1).x - W0
    # The weights carry an error of 1e-16 each, which is what their difference can be asked for.
    assert_allclose(moved, expected, rtol=0, atol=2.3e-16)


def test_s0_derivative_of_the_sigmoid():
    h = np.linspace(-6, 6, 25)
    assert_allclose(sigmoid_prime(h), sigmoid(h) * (1 - sigmoid(h)), rtol=1e-12)
    assert_allclose(sigmoid_prime(h), numerical_diff(sigmoid, h), atol=1e-9)


def test_s0_error_is_a_double_sum_over_points_and_outputs():
    rng = np.random.default_rng(0)
    X, Y, W = rng.normal(size=(5, 3)), rng.uniform(size=(5, 2)), rng.normal(size=(3, 2))
    total = 0.0
    for x, y in zip(X, Y, strict=True):
        for j in range(2):
            total += 0.5 * (y[j] - 1 / (1 + np.exp(-sum(W[i, j] * x[i] for i in range(3))))) ** 2
    assert_allclose(sse(X, Y, W, activation="sigmoid"), total, rtol=1e-13)


# --------------------------------------------------------------------------------- S1. learning to minimise the error


def test_s1_mean_squared_loss_of_a_sigmoid_unit():
    x, t = np.array([-2.0, -0.5, 0.3, 1.7]), np.array([0.0, 1.0, 0.0, 1.0])
    unit = LinearObjective(x[:, None], t, activation="sigmoid", loss="mse", fit_intercept=True)
    for w, b in [(0.0, 0.0), (0.7, -0.2), (-3.0, 2.0)]:
        value = sum((1 / (1 + np.exp(-(w * xi + b))) - ti) ** 2 for xi, ti in zip(x, t, strict=True)) / 4
        assert_allclose(unit.value([w, b]), value, rtol=1e-13)
        assert_allclose(unit.gradient([w, b]), numerical_gradient(unit.value, [w, b]), atol=1e-9)


def test_s1_a_fixed_rate_bounces_and_a_decaying_one_settles():
    def kink(w):
        return abs(w[0] - 1)

    fixed = gradient_descent(kink, [0.0], lr=0.3, step_num=60, history=True)
    assert_allclose(fixed.history.x[-4:, 0], [0.9, 1.2, 0.9, 1.2], atol=1e-6)
    decaying = gradient_descent(kink, [0.0], lr=lambda step: 0.3 / (1 + 0.3 * step), step_num=60, history=True)
    assert_allclose(decaying.history.lr, 0.3 / (1 + 0.3 * np.arange(60)), rtol=1e-15)
    # It is never further away than the step that led over the minimum was long.
    assert np.all(np.abs(decaying.history.x[-20:, 0] - 1) < 0.3 / (1 + 0.3 * 39))


def test_s1_many_starts_find_the_global_minimum():
    def four_valleys(x):
        return float(np.sum(x**4 - 16 * x**2 + 5 * x) / 2)

    rng = np.random.default_rng(0)
    runs = [gradient_descent(four_valleys, rng.uniform(-4, 4, 2), lr=0.01, step_num=200) for _ in range(20)]
    best = min(runs, key=lambda run: run.fun)
    # The roots of f' = 2x³ − 16x + 5/2, exact to their digits.
    deep, shallow = -2.903534027771177, 2.746802770990838
    assert_allclose(best.x, [deep, deep], atol=1e-7)
    assert_allclose(best.fun, -78.33233140754282, rtol=1e-12)
    ends = np.array([run.x for run in runs])
    assert_allclose(np.minimum(np.abs(ends - deep), np.abs(ends - shallow)), 0, atol=1e-6)
    caught = sum(run.fun > best.fun + 1 for run in runs)
    assert 0 < caught < len(runs)


def test_s1_a_saddle_point_holds_a_run_up():
    def saddle(x):
        return x[0] ** 2 + x[1] ** 4 / 4 - x[1] ** 2 / 2

    stuck = gradient_descent(saddle, [1.0, 0.0], lr=0.1, step_num=200)
    assert_allclose(stuck.x, [0, 0], atol=1e-12)
    escaped = gradient_descent(saddle, [1.0, 0.001], lr=0.1, step_num=200, history=True)
    assert_allclose(escaped.x, [0, 1], atol=1e-8)
    assert_allclose(escaped.fun, -0.25, rtol=1e-12)
    assert np.sum(np.abs(escaped.history.fun) < 0.002) > 25  # the plateau


# -------------------------------------------------------------------- S2. the mathematics behind it, linear regression


def women():
    X, y = datasets.load_women()
    return LinearObjective(X, y, loss="mse", fit_intercept=True)


def test_s2_the_table():
    X, y = datasets.load_women()
    assert X[:, 0].tolist() == list(range(58, 73))
    assert y.tolist() == [115, 117, 120, 123, 126, 129, 132, 135, 139, 142, 146, 150, 154, 159, 164]


def test_s2_partial_derivatives_of_the_cost():
    X, y = datasets.load_women()
    x, m, b = X[:, 0], 2.0, -3.0
    residual = y - (m * x + b)
    assert_allclose(women().value([m, b]), np.mean(residual**2), rtol=1e-13)
    assert_allclose(women().gradient([m, b]), [-2 * np.mean(x * residual), -2 * np.mean(residual)], rtol=1e-12)
    moved = gradient_descent(women(), [m, b], lr=1e-4, step_num=1).x
    assert_allclose(moved, [m + 2e-4 * np.mean(x * residual), b + 2e-4 * np.mean(residual)], rtol=1e-14)


def test_s2_a_rate_too_small_right_and_too_large():
    start = women().value([0, 0])
    small = gradient_descent(women(), lr=1e-6, step_num=60)
    right = gradient_descent(women(), lr=1e-4, step_num=60)
    assert right.fun < 36 < 5000 < small.fun < start
    with pytest.raises(
        DivergenceError, match=r"learning rate 0\.00025.*largest stable rate is about 0\.000236"
    ) as caught:
        gradient_descent(women(), lr=2.5e-4, step_num=60)
    assert_allclose(caught.value.stable_lr, 2.36e-4, rtol=2e-3)
    assert caught.value.lr == 2.5e-4


def test_s2_the_largest_stable_rate_is_two_over_the_curvature():
    X, _ = datasets.load_women()
    A = np.column_stack([X, np.ones(15)])
    limit = 2 / np.linalg.eigvalsh(2 / 15 * A.T @ A)[-1]
    assert_allclose(2 / women().lipschitz(), limit, rtol=1e-12)
    gradient_descent(women(), lr=0.999 * limit, step_num=3000)
    with pytest.raises(DivergenceError):
        gradient_descent(women(), lr=1.001 * limit, step_num=3000)


def test_s2_below_the_limit_raw_columns_need_millions_of_steps():
    X, y = datasets.load_women()
    A = np.column_stack([X, np.ones(15)])
    H = 2 / 15 * A.T @ A
    best = np.linalg.solve(H, 2 / 15 * A.T @ y)
    eigenvalues, V = np.linalg.eigh(H)

    def after(steps, lr):
        """w* + Σ (1 − lr·λ)^steps v vᵀ(0 − w*): where descent from 0 is, without walking."""
        return best + V @ ((1 - lr * eigenvalues) ** steps * (V.T @ -best))

    walked = gradient_descent(women(), lr=1e-4, step_num=2000)
    assert_allclose(walked.x, after(2000, 1e-4), rtol=1e-9)
    fastest = 2 / (eigenvalues[0] + eigenvalues[-1])
    assert abs(after(1_000_000, fastest)[1] - best[1]) > 1
    assert abs(after(10_000_000, fastest)[1] - best[1]) < 1e-4


def test_s2_the_automatic_rate_finds_the_line():
    result = gradient_descent(women(), lr="auto", tol=1e-12, step_num=1000)
    assert result.success
    assert_allclose(result.x, [3.45, -87.51666666666667], rtol=1e-10)


def test_s2_stochastic_descent_takes_one_sample_at_a_time():
    X, y = datasets.load_women()
    z = (X - X.mean()) / X.std()
    samples = [LinearObjective(z[i : i + 1], y[i : i + 1], loss="mse", fit_intercept=True) for i in range(15)]
    batch = LinearObjective(z, y, loss="mse", fit_intercept=True)
    w = np.array([1.0, 2.0])
    # On the average a sample's gradient is that of the batch: that is why its noisy steps lead down.
    assert_allclose(np.mean([sample.gradient(w) for sample in samples], axis=0), batch.gradient(w), rtol=1e-13)
    rng = np.random.default_rng(0)
    w = np.zeros(2)
    for epoch in range(40):
        for i in rng.permutation(15):
            residual = y[i] - (w[0] * z[i, 0] + w[1])
            lr = 0.1 / (1 + epoch)
            stepped = gradient_descent(samples[i], w, lr=lr, step_num=1).x
            assert_allclose(stepped, w + 2 * lr * residual * np.array([z[i, 0], 1.0]), rtol=1e-12)
            w = stepped
    least = batch.value(gradient_descent(batch, lr="auto", tol=1e-12).x)
    assert_allclose(least, 30.233333333333 / 15, rtol=1e-10)
    assert least < batch.value(w) < 1.02 * least


# --------------------------------------------------------------------------------------------- S3. numerical gradient


def test_s3_derivative_of_one_variable():
    def f(x):
        return 0.01 * x**2 + 0.1 * x

    assert_allclose([numerical_diff(f, 5), numerical_diff(f, 10)], [0.2, 0.3], rtol=1e-9)


@pytest.mark.parametrize("h", [None, 1e-4])
@pytest.mark.parametrize(("x", "gradient"), [((3, 4), (6, 8)), ((0, 2), (0, 4)), ((3, 0), (6, 0))])
def test_s3_gradients(x, gradient, h):
    assert_allclose(numerical_gradient(bowl, np.array(x), h), gradient, atol=1e-9)


def test_s3_iterates():
    result = gradient_descent(bowl, init_x=np.array([-3.0, 4.0]), lr=0.1, step_num=100, history=True)
    assert_allclose(result.history.x[1:4], [[-2.4, 3.2], [-1.92, 2.56], [-1.536, 2.048]], rtol=1e-9)
    assert_allclose(result.history.x, 0.8 ** np.arange(101)[:, None] * [-3, 4], rtol=1e-8, atol=1e-12)


def test_s3_verbose_shows_step_x_and_gradient(capsys):
    gradient_descent(bowl, [-3.0, 4.0], lr=0.1, step_num=2, verbose=1)
    lines = capsys.readouterr().out.splitlines()
    shown = [[float(number) for number in re.findall(r"-?\d+\.?\d*(?:e-?\d+)?", line)] for line in lines]
    assert_allclose(shown, [[0, -3, 4, -6, 8], [1, -2.4, 3.2, -4.8, 6.4], [2, -1.92, 2.56, -3.84, 5.12]], atol=1e-7)


def test_s3_the_numbers_of_the_text_come_from_a_coordinate_that_is_not_put_back():
    """After its two evaluations the text's loop leaves x[idx] at x[idx] − h, and then steps from there.

    The gradient itself is right for this f, but it is subtracted from a point that has moved: the iterates are those of
    x ← 0.8·x − 1e-4, whose fixed point is not the minimum.
    """

    def forgetful_gradient(f, x, h=1e-4):
        gradient = np.zeros_like(x)
        for idx in range(x.size):
            value = x[idx]
            x[idx] = value + h
            above = f(x)
            x[idx] = value - h
            below = f(x)
            gradient[idx] = (above - below) / (2 * h)
            # x[idx] = value is what is missing here
        return gradient

    x = np.array([-3.0, 4.0])
    printed = []
    for _ in range(2):
        x -= 0.1 * forgetful_gradient(bowl, x)
        printed.append(x.copy())
    assert_allclose(printed[0], [-2.4001, 3.1999], atol=1e-9)
    assert_allclose(printed[1], 0.8 * printed[0] - 1e-4, atol=1e-9)
    ours = gradient_descent(bowl, [-3.0, 4.0], lr=0.1, step_num=1).x
    assert_allclose(ours - printed[0], 1e-4, rtol=1e-4)


# ------------------------------------------------------------------------------------------ S4. three points, one step

X4, Y4 = np.array([[-1.0], [0.0], [1.0]]), np.array([-3.0, 0.0, 1.0])


def distance(w, b):
    """Summed squared distance: the text has no ½."""
    return 2 * sse(X4, Y4, [w], b)


def test_s4_one_step_from_one_point():
    assert distance(3.0, 1.0) == 11
    point = LinearObjective(X4[:1], Y4[:1], loss="mse", fit_intercept=True)
    assert_allclose(point.gradient([3.0, 1.0]), [-2, 2], rtol=1e-15)
    assert_allclose(point.numerical_gradient([3.0, 1.0]), [-2, 2], rtol=1e-9)
    after = gradient_descent(point, [3.0, 1.0], lr=0.5, step_num=1).x
    assert_allclose(after, [4, 0], atol=1e-15)
    assert distance(*after) == 10


def test_s4_slopes_of_a_cubic_and_the_wrong_formula():
    x = np.array([1.0, 0.0, -1.0, -2.0])
    slopes = numerical_diff(lambda x: x**3 + x**2 + x, x)
    assert_allclose(slopes, [6, 1, 2, 9], atol=2e-8)
    assert_allclose(slopes, 3 * x**2 + 2 * x + 1, atol=2e-8)
    by_hand = 3 * x + 2 * x + 1
    wrong = np.abs(by_hand - slopes) > 1e-6
    # At 1 and 0 the wrong formula happens to be right: a check needs more than one point.
    assert wrong.tolist() == [False, False, True, True]


# ---------------------------------------------------------------------------------------------------------- the pages


@pytest.mark.parametrize("page", PAGES, ids=lambda page: f"{page.parent.name}-{page.stem}")
def test_python_of_a_page_prints_what_the_page_shows(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    namespace = {"__name__": page.stem}
    found = blocks(page)
    for (language, code), (following, shown) in zip(found, [*found[1:], ("", "")], strict=True):
        if language != "python":
            continue
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile(code, f"{page.name}: {code.splitlines()[0]}", "exec"), namespace)
        assert printed.getvalue().splitlines() == (shown.splitlines() if following == "text" else [])


@pytest.mark.one_build
def test_pages_have_their_code_pictures_and_neighbours():
    names = [page.name for page in PAGES]
    for text in ("s0", "s1", "s2", "s3", "s4"):
        (page,) = [DOCS / name for name in names if name.startswith(text)]
        languages = [language for language, _ in blocks(page)]
        assert languages.count("python") >= 2
        assert languages.count("text") >= 2
        assert f"]({page.name})" in (DOCS / "README.md").read_text(encoding="utf-8")
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#]+)\)", page.read_text(encoding="utf-8")):
            assert "://" in target or (page.parent / target).exists(), f"{page.name} links to {target}"


def figures():
    spec = importlib.util.spec_from_file_location("figures", DOCS / "figures.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.one_build
def test_each_picture_is_drawn_by_the_script_and_shown_on_a_page(tmp_path):
    from matplotlib import pyplot
    from matplotlib.image import imread

    script = figures()
    drawn = {script.file_name(draw): draw for draw in script.FIGURES}
    found = (re.findall(r"!\[[^]]*\]\(images/([^)]+)\)", page.read_text("utf-8")) for page in PAGES)
    shown = {image for images in found for image in images}
    kept = {path.name for path in (DOCS / "images").iterdir()}
    assert set(drawn) == shown == kept
    for name, draw in drawn.items():
        script.save(draw(), tmp_path / name)
        pyplot.close("all")
        assert (DOCS / "images" / name).stat().st_size < 100_000
        new, old = (imread(path)[..., :3] for path in (tmp_path / name, DOCS / "images" / name))
        # A line more or less is some 0.5 % of a picture; another version of the library draws text elsewhere.
        assert new.shape == old.shape and np.abs(new - old).mean() < 0.005, name
