"""A notebook of every lesson, executed: its code runs, and figures and results show themselves without magic words."""

import base64
import os
import re
from pathlib import Path

import pytest
from snippets import ROOT, blocks

import fastgd

nbformat = pytest.importorskip("nbformat")
pytest.importorskip("nbconvert")
pytest.importorskip("ipykernel")

pytestmark = pytest.mark.one_build

# What a reader would draw after each lesson. The last line of a cell is shown, as in any notebook.
DRAWN = {
    "s0-one-layer-network": ["fastgd.plot.tangent(fastgd.sigmoid, 0.07, xlim=(-6, 6))"],
    "s1-minimising-the-error": [
        "path = fastgd.gradient_descent(unit, [-3.0, 4.0], lr=2.0, step_num=50, history=True)\n"
        "fastgd.plot.surface(unit, run=path)",
        "ax = fastgd.plot.trajectory(path, unit)",  # nothing is shown of a value that has a name, but the figure is
        "path",
        "fastgd.plot.animate(path, unit, max_frames=3)",
    ],
    "s2-linear-regression": [
        "fastgd.plot.fit(cost, result, level=0.95)",
        "runs = fastgd.sweep(cost, grid=True, lr=[1e-5, 1e-4], l2=[0.0, 1.0], step_num=20)\nfastgd.plot.sweep(runs)",
        "runs",
        "fastgd.GDRegressor(penalty=None).fit(X, y).summary()",
    ],
    "s3-numerical-gradient": [
        "def bowl(x):\n    return x[0] ** 2 + x[1] ** 2\n\n"
        "best = fastgd.multi_start(bowl, ([-3, -3], [3, 3]), 4, lr=0.1, step_num=5, history=True)\n"
        "fastgd.plot.trajectories(best, bowl)",
        "best",
    ],
    "s4-three-points": [
        "check = fastgd.check_gradient(lambda x: sum(x**3), lambda x: 3 * x**2, [1.0, 2.0])\n"
        "fastgd.plot.gradient_check(check)",
        "check",
    ],
}  # fmt: skip
LESSONS = sorted((ROOT / "docs").glob("s[0-9]-*.md"))


@pytest.mark.parametrize("page", LESSONS, ids=lambda page: page.stem)
def test_a_lesson_is_a_notebook_that_shows_its_figures(page, tmp_path, monkeypatch):
    from nbconvert.preprocessors import ExecutePreprocessor

    for name in ("MPLBACKEND", "JUPYTER_PATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(
        "PYTHONPATH", os.pathsep.join([str(Path(fastgd.__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
    )
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path))
    drawn = DRAWN[page.stem]
    code = [code for language, code in blocks(page) if language == "python"] + drawn
    cells = [nbformat.v4.new_code_cell(source) for source in code]
    notebook = nbformat.v4.new_notebook(cells=cells)
    ExecutePreprocessor(timeout=120, kernel_name="python3").preprocess(notebook, {"metadata": {"path": str(tmp_path)}})
    for cell in notebook.cells[len(code) - len(drawn) :]:
        shown = [output["data"] for output in cell.outputs if "data" in output]
        pictures = [base64.b64decode(data["image/png"]) for data in shown if "image/png" in data]
        if "animate" in cell.source:
            assert not pictures and any("anim_" in data.get("text/html", "") for data in shown)
        elif "fastgd.plot" in cell.source:
            assert len(pictures) == 1 and pictures[0].startswith(b"\x89PNG") and len(pictures[0]) > 3000
        else:
            assert any(re.search("<svg|<table|<pre", data.get("text/html", "")) for data in shown), cell.source
