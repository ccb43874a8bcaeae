"""What results show in a notebook, as tables, and of themselves; and what the package says that it has."""

import pydoc
import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from concurrent.futures import ProcessPoolExecutor

import numpy as np
import pytest
from numpy.testing import assert_allclose

import fastgd
from fastgd import GDRegressor, LinearObjective, check_gradient, gradient_descent, multi_start
from fastgd.engine import display

pytestmark = pytest.mark.one_build


def double_well(x):
    return (x[0] ** 2 - 1) ** 2 - 0.1 * x[0]


def svgs(html):
    return [ET.fromstring(found) for found in re.findall("<svg.*?</svg>", html, flags=re.DOTALL)]


def test_a_result_shows_status_sentence_and_curve():
    result = gradient_descent(double_well, [2.0], lr=0.01, step_num=50, history=True)
    html = result._repr_html_()
    assert "STEP_LIMIT" in html and result.message in html
    (svg,) = svgs(html)
    points = svg.find("{http://www.w3.org/2000/svg}polyline").get("points").split()
    heights = np.array([float(point.split(",")[1]) for point in points])
    assert len(heights) == 51 and np.all(np.diff(heights) >= 0)  # down, as the loss
    assert svgs(gradient_descent(double_well, [2.0], step_num=3)._repr_html_()) == []
    every = gradient_descent(double_well, [2.0], lr=0.01, step_num=50, history=20)._repr_html_()
    assert [text.text for text in svgs(every)[0].iter("{http://www.w3.org/2000/svg}text")][1:] == ["0", "50"]


def test_everything_is_escaped():
    result = gradient_descent(double_well, [2.0], step_num=3, history=True)
    result.message = "<script>alert('x')</script> & more"
    html = result._repr_html_()
    assert "<script>" not in html and "&lt;script&gt;" in html and "&amp; more" in html
    frame = GDRegressor(penalty=None).fit(np.arange(12.0).reshape(6, 2) ** 2, np.arange(6.0))
    assert "<b>x" not in frame.summary(names=["<b>x", "y"])._repr_html_()
    assert display.table(["<a>"], [["&"]]).count("<a>") == 0


@pytest.mark.parametrize("values", [[1.0], [], [np.nan, np.inf], [1.0, np.nan, 2.0], [0.0, 0.0], [1e300, 1.0, 1e-9]])
def test_curves_of_any_numbers(values):
    found = svgs(display.curve(values, "loss"))
    assert len(found) == (np.sum(np.isfinite(values) & (np.abs(values) < 1e200)) >= 2)
    assert "nan" not in display.curve(values, "loss").lower()


def test_many_starts_show_their_minima_and_a_picture():
    best = multi_start(double_well, ([-2.0], [2.0]), 8, lr=0.05, step_num=100, history=True)
    html = best._repr_html_()
    assert html.count("<svg") == 2
    for minimum in best.minima:
        assert f"<td>{minimum.fun:.10g}</td>" in html and f"<td>{minimum.count}</td>" in html
    frame = best.to_frame()
    assert_allclose(frame["x[0]"], [run.x[0] for run in best.runs])
    assert len(frame) == 8


def test_frames_of_histories():
    result = gradient_descent(double_well, [2.0], lr=0.01, step_num=5, history=True)
    frame = result.to_frame()
    assert_allclose(frame["x[0]"], result.history.x[:, 0])
    assert_allclose(frame["lr"].iloc[:-1], result.history.lr)
    assert np.isnan(frame["lr"].iloc[-1]) and frame["step"].tolist() == list(range(6))
    X = np.random.default_rng(0).normal(size=(50, 2))
    model = GDRegressor(solver="sgd", max_iter=3, tol=None).fit(X, X @ [1.0, 2.0])
    assert_allclose(model.history_.to_frame()["loss"], model.history_.loss)
    with pytest.raises(ValueError, match="no history to make a frame of"):
        gradient_descent(double_well, [2.0], step_num=2).to_frame()


def test_the_frame_of_a_summary_begins_with_the_intercept():
    X = np.random.default_rng(0).normal(size=(50, 2))
    summary = GDRegressor(penalty=None).fit(X, X @ [1.0, 2.0] + X[:, 0] ** 2).summary()
    frame = summary.to_frame()
    assert list(frame.columns) == ["coef", "std_error", "z", "p", "lower", "upper"]
    assert list(frame.index) == ["intercept", "x0", "x1"]
    assert_allclose(frame.loc["x1"], [a[1] for a in (summary.coef, summary.std_err, summary.statistic,
                    summary.p_values, summary.conf_int[:, 0], summary.conf_int[:, 1])])  # fmt: skip
    assert summary._repr_html_().count("<tr>") == 4


def test_a_check_shows_what_it_prints():
    check = check_gradient(double_well, lambda x: x, [2.0])
    assert check._repr_html_().startswith("<pre>GradientCheck(ok=False)")


def test_many_starts_have_one_bar_that_leaves_nothing_behind(capsys):
    multi_start(double_well, ([-2.0], [2.0]), 5, lr=0.05, step_num=3, progress=True)
    multi_start(lambda x: x[:, 0] ** 2, ([-2.0], [2.0]), 5, lr=0.05, step_num=7, vectorized=True, progress=True)
    shown = capsys.readouterr().err
    assert "/5 [" in shown and "/7 [" in shown and "/3 [" not in shown
    assert shown.rstrip("\r").endswith(" ") and "\n" not in shown


def test_dir_and_help_list_what_is_public():
    assert dir(fastgd) == fastgd.__all__ and dir(fastgd.plot) == fastgd.plot.__all__
    words = fastgd.__doc__
    for name in set(fastgd.__all__) - {"__version__"}:
        assert re.search(rf"^(\w+, )*{name}(, \w+)*  ", words, flags=re.MULTILINE), name
    assert "gradient_descent(" in pydoc.render_doc(fastgd)
    program = "import sys; sys.modules['sklearn'] = None\nimport pydoc, fastgd; pydoc.render_doc(fastgd)\n"
    subprocess.run([sys.executable, "-c", program + "assert 'GDRegressor' not in dir(fastgd)"], check=True)


def test_a_result_stands_for_its_weights():
    objective = LinearObjective([[1.0], [2.0]], [1.0, 3.0])
    result = gradient_descent(objective, lr=0.1, step_num=5)
    assert_allclose(objective.predict(result), objective.predict(result.x), rtol=0)
    assert objective.value(result) == result.fun


def test_a_lambda_for_another_process_gets_a_sentence():
    words = "f cannot be sent to another process .*: define it, and grad, with def at the top level of a module"
    with ProcessPoolExecutor(1) as pool:
        for workers in (pool, pool.map):
            with pytest.raises(TypeError, match=words):
                multi_start(lambda x: x[0] ** 2, ([-2.0], [2.0]), 2, lr=0.1, step_num=1, workers=workers)
        with pytest.raises(TypeError, match=words):
            fastgd.numerical_gradient(lambda x: x[0] ** 2, [1.0], workers=pool.map)


def test_a_checkpoint_of_another_start_is_refused_in_words(tmp_path):
    path = tmp_path / "run.npz"
    gradient_descent(double_well, [2.0], step_num=3, checkpoint=path)
    with pytest.raises(ValueError, match="init_x is another array there than here") as caught:
        gradient_descent(double_well, [1.0], step_num=3, checkpoint=path, resume=True)
    assert not re.search("[0-9a-f]{16}", str(caught.value).replace(str(path), ""))
    with pytest.raises(ValueError, match="bounds is absent there and an array here"):
        gradient_descent(double_well, [2.0], step_num=3, checkpoint=path, resume=True, bounds=(-3, 3))
