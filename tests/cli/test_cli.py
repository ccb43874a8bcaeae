"""The command line as its users meet it: what is printed where, which files come out, and the exit status."""

import errno
import functools
import json
import os
import re
import signal
import subprocess
import sys
import types

import numpy as np
import pytest

import fastgd
from fastgd.cli import commands, tables
from fastgd.datasets import load_women, women_path
from fastgd.files import models

one_build = pytest.mark.one_build
WOMEN = str(women_path())
LINE = "x,y\n1,2\n2,4\n3,7\n"
FIT = ("fit", "data.csv", "--target", "y")


@pytest.fixture
def run(capsys, tmp_path, monkeypatch):
    """Run the command in a directory of its own → status, out, err; `data` is written to data.csv there before."""
    monkeypatch.chdir(tmp_path)

    def command(*arguments, data=None):
        if data is not None:
            (tmp_path / "data.csv").write_bytes(data if isinstance(data, bytes) else data.encode())
        with pytest.raises(SystemExit) as exit_:
            commands.cli.main([str(a) for a in arguments], prog_name="fastgd")
        captured = capsys.readouterr()
        return types.SimpleNamespace(status=exit_.value.code, out=captured.out, err=captured.err)

    return command


def entry(result, name):
    """The text after a name at the beginning of a line of the output."""
    lines = [line for line in result.out.splitlines() if line.startswith(f"{name} ")]
    assert len(lines) == 1, result.out
    return lines[0][len(name) :].strip()


def assert_refused(result, *words):
    """Exit status 2, nothing but one sentence on standard error, with these words in it."""
    assert (result.status, result.out) == (2, "")
    assert result.err.startswith("Error: ") and result.err.endswith("\n") and result.err.count("\n") == 1
    for word in words:
        assert word in result.err


def predictions(result):
    assert (result.status, result.err) == (0, "")
    header, *numbers = result.out.splitlines()
    assert header == "prediction"
    return [float(number) for number in numbers]


# ---------------------------------------------------------------------------------------------------------- fitting


def test_the_women_table(run):
    result = run("fit", WOMEN, "--target", "weight")
    assert (result.status, result.err) == (0, "")
    assert float(entry(result, "height")) == pytest.approx(3.45, rel=1e-9)
    assert float(entry(result, "intercept")) == pytest.approx(-87.51666666666667, rel=1e-9)
    assert entry(result, "loss") == "2.015555556 (mean squared error)"
    assert float(entry(result, "R²")) == pytest.approx(0.9910098326857506, abs=1e-9)
    assert entry(result, "rows").startswith("15 ")
    assert entry(result, "stopped").startswith("converged: ")
    assert int(entry(result, "steps")) > 0
    assert " s" in entry(result, "time")


def test_raw_diabetes_table_agrees_with_least_squares(run, tmp_path):
    from sklearn.datasets import load_diabetes

    X, y = load_diabetes(return_X_y=True, scaled=False)
    names = [f"c{i}" for i in range(X.shape[1])]
    text = "\n".join([",".join([*names, "y"]), *(",".join(map(repr, row)) for row in np.c_[X, y].tolist())])
    assert run(*FIT, "--save", "m.json", data=text).status == 0
    A = np.c_[X, np.ones(len(X))]
    exact = A @ np.linalg.lstsq(A, y, rcond=None)[0]
    assert np.abs(predictions(run("predict", "m.json", "data.csv")) - exact).max() <= 1e-4 * y.std()


@pytest.mark.parametrize("activation", ["identity", "sigmoid", "tanh"])
def test_predictions_are_exactly_the_fitted_values(run, activation):
    rng = np.random.default_rng(3)
    X = rng.normal([5, -2e3, 0], [1, 1e3, 1e-3], (37, 3))
    y = 1 / (1 + np.exp(-(X - X.mean(axis=0)) / X.std(axis=0) @ [1, -2, 0.5])) + 0.1 * rng.normal(size=37)
    rows = [",".join(map(repr, row)) for row in np.c_[X, y].tolist()]
    text = "\n".join(["a,b,c,y", *rows])
    result = run(*FIT, "--activation", activation, "--save", "m.json", data=text)
    assert result.status == 0
    objective = fastgd.LinearObjective(X, y, activation=activation, loss="mse", fit_intercept=True)
    fitted = fastgd.gradient_descent(objective, lr="auto", tol=1e-12, step_num=1_000_000)
    assert fitted.success and np.ptp(objective.predict(fitted.x)) > 0.1
    assert predictions(run("predict", "m.json", "data.csv")) == objective.predict(fitted.x).tolist()
    assert entry(result, "loss").startswith(f"{fitted.fun:.10g} ")


@pytest.mark.parametrize(
    ("data", "coefficients"),
    [
        pytest.param("x,c,y\n1,7,5\n2,7,6\n3,7,9\n", {"x": 2, "c": 0, "intercept": 8 / 3}, id="constant column"),
        pytest.param(
            "x,y\n-1e12,5\n0,6\n1e12,10\n", {"x": 2.5e-12, "intercept": 7}, id="huge column"
        ),
        pytest.param("x,y\n1,4\n2,4\n3,4\n", {"x": 0, "intercept": 4}, id="constant target"),
    ],
)  # fmt: skip
def test_awkward_columns(run, data, coefficients):
    result = run(*FIT, data=data)
    assert result.status == 0
    for name, value in coefficients.items():
        assert float(entry(result, name)) == pytest.approx(value, rel=1e-6, abs=1e-9)


def test_a_relu_learns_from_its_start(run):
    """Its slope is 0 at zero weights."""
    result = run(*FIT, "--activation", "relu", data="x,y\n-1,0\n0,0\n1,2\n2,4\n3,6\n")
    assert result.status == 0
    assert float(entry(result, "x")) == pytest.approx(2, rel=1e-6)
    assert float(entry(result, "intercept")) == pytest.approx(0, abs=1e-6)


def test_collinear_columns_give_the_best_predictions(run):
    result = run(*FIT, "--save", "m.json", data="a,b,y\n1,2,5\n2,4,6\n3,6,9\n")
    assert result.status == 0
    assert predictions(run("predict", "m.json", "data.csv")) == pytest.approx([14 / 3, 20 / 3, 26 / 3], rel=1e-6)
    assert run(*FIT).err.startswith("Note: the features are collinear")


@one_build
def test_what_needs_a_remark(run):
    constant = run(*FIT, data="x,y\n1,4\n2,4\n")
    assert entry(constant, "R²") == "undefined: the target is constant"
    assert run(*FIT, data="x,c,y\n1,7,5\n2,7,6\n").err == "Note: c is constant, so its coefficient stays 0.\n"
    beyond = run(*FIT, "--activation", "sigmoid", "--max-steps", 1, data="x,y\n1,4\n2,5\n")
    assert "Note: y goes from 4 to 5, and a sigmoid only from 0 to 1." in beyond.err


@one_build
def test_features_are_chosen_by_name(run):
    data = 'name,"height, in",age,y\nAnn,1,9,3\nBob,2,9.5,5\nCy,3,7,7\n'
    result = run(*FIT, "--features", '"height, in"', data=data)
    assert result.status == 0
    assert float(entry(result, "height, in")) == pytest.approx(2)
    assert "age" not in result.out
    assert_refused(run(*FIT), "line 2, column 'name' is not a number: 'Ann'", "--features")


@one_build
def test_a_fit_that_does_not_converge_says_so_and_keeps_its_results(run, tmp_path):
    data = "a,b,y\n1,1,0.1\n2,2.1,0.2\n3,2.9,0.5\n4,4.2,0.3\n"
    options = "--activation", "sigmoid", "--max-steps", 3, "--save", "m.json", "--plot", "p.png"
    result = run(*FIT, *options, data=data)
    assert result.status == 1
    assert result.err == "Error: the fit has not converged: took all 3 steps without reaching --tol 1e-12; " + (
        "raise --max-steps\n"
    )
    assert entry(result, "stopped").startswith("NOT CONVERGED: ")
    assert entry(result, "steps") == "3"
    assert json.loads((tmp_path / "m.json").read_text())["fit"]["converged"] is False
    assert (tmp_path / "p.png").stat().st_size > 0


# ---------------------------------------------------------------------------------------------------- forms of CSV


@one_build
@pytest.mark.parametrize(
    "data",
    [
        pytest.param("x,y\n1,2\n2,4\n3,7", id="no newline at the end"),
        pytest.param("x;y\n1;2\n2;4\n3;7\n", id="semicolons"),
        pytest.param("x\ty\n1\t2\n2\t4\n3\t7\n", id="tabs"),
        pytest.param("\ufeffx,y\n1,2\n2,4\n3,7\n", id="byte order mark"),
        pytest.param("x,y\r\n1,2\r\n2,4\r\n3,7\r\n\r\n\r\n", id="CRLF and blank lines at the end"),
        pytest.param("\n\nx,y\n1,2\n\n2,4\n   \n3,7\n,\n", id="blank lines"),
        pytest.param('"x","y"\n"1","2"\n"2",4\n3,7\n', id="quotes"),
        pytest.param(" x , y\n 1, 2\n2 ,4e0\n+3.0,.7e1\n", id="spaces and exponents"),
        pytest.param("y,x\n2,1\n4,2\n7,3\n", id="target first"),
        pytest.param(',x,y\n"1",1,2\n"2",2,4\n"three",3,7\n', id="unnamed index"),
        pytest.param(",x,y\none,1,2\ntwo,2,4\nthree,3,7\n", id="unnamed index without quotes"),
    ],
)
def test_forms_of_csv(run, data):
    result = run(*FIT, data=data)
    assert (result.status, result.err) == (0, "")
    assert float(entry(result, "x")) == pytest.approx(2.5)
    assert float(entry(result, "intercept")) == pytest.approx(-2 / 3)
    assert entry(result, "rows").startswith("3 ")


@one_build
def test_both_readers_find_the_same_numbers(tmp_path):
    values = np.random.default_rng(0).normal(0, 1e3, (50, 3))
    rows = [f"{a!r},text,{b!r},{c!r}" for a, b, c in values.tolist()]
    plain, quoted = tmp_path / "plain.csv", tmp_path / "quoted.csv"
    plain.write_text("\n".join(["a,t,b,c", *rows]))
    quoted.write_text("\n".join(["a,t,b,c", *(row.replace("text", '"te""xt"') for row in rows)]))
    assert tables._read_quickly(quoted, 1, ",", 4, [0]) is None
    assert tables._read_quickly(plain, 1, ",", 4, [2, 0]).tolist() == values[:, [1, 0]].tolist()
    for path in (plain, quoted):
        table = tables.read_columns(path, lambda names: ["b", "a"])
        assert table.names == ["b", "a"]
        assert table.values.tolist() == values[:, [1, 0]].tolist()


# ------------------------------------------------------------------------------------------------------- bad input

BAD_DATA = {
    "empty": ("", "is empty"),
    "blank lines only": ("\n\n", "is empty"),
    "header only": ("x,y\n", "no rows of data"),
    "single row": ("x,y\n1,2\n", "single row"),
    "no such column": ("x,z w\n1,2\n2,3\n", "no column 'y'; it has 'x', 'z w'"),
    "other capitals": ("x,Y\n1,2\n2,3\n", "it has 'x', 'Y' (capital letters count)"),
    "bars": ("x|y\n1|2\n2|3\n", "commas, semicolons or tabs, and here by bars"),
    "spaces": ("x y\n1 2\n2 3\n", "and here by spaces"),
    "no header": ("1,2\n2,3\n", "the first line must hold the names"),
    "duplicate feature": ("x,x,y\n1,2,3\n2,3,4\n", "2 columns named 'x'"),
    "duplicate target": ("x,y,y\n1,2,3\n2,3,4\n", "2 columns named 'y'"),
    "target only": ("y\n1\n2\n", "no column besides the target 'y'"),
    "text": ("x,y\n1,2\n\n2,two\n", "line 4, column 'y' is not a number: 'two'"),
    "long text": ("x,y\n1,2\n2," + "z" * 500, "z…'"),
    "decimal comma": ("x;y\n1;2\n2,5;3\n", "line 3, column 'x' is not a number: '2,5'; decimals"),
    "Python's underscore": ("x,y\n1,2\n2,1_0\n", "line 3, column 'y' is not a number: '1_0'"),
    "empty cell": ("x,y\n1,2\n,3\n", "line 3, column 'x' is empty; leave out the rows"),
    "missing feature": ("x,y\n1,2\nNA,3\n", "line 3, column 'x' is not a number: 'NA'; leave out the rows"),
    "empty row": ("x,y\n1,2\n,\n3,4\n", "line 3 is empty"),
    "nan": ("x,y\n1,2\n2,NaN\n", "line 3, column 'y' is not a finite number: 'NaN'; leave"),
    "inf": ("x,y\n-inf,2\n2,3\n", "line 2, column 'x' is not a finite number: '-inf'"),
    "beyond floating point": ("x,y\n1e999,2\n2,3\n", "line 2, column 'x' is not a finite number: '1e999'"),
    "ragged, longer": ("x,y\n1,2\n2,3,4\n", "line 3 has 3 cells, and the header has 2"),
    "ragged, shorter": ('x,"the\ny2",y\n1,2,3\n2\n', "line 4 has 1 cell, and the header has 3"),
    "open quotation": ('x,y\n1,2\n2,"3\n4,5\n', "line 3 cannot be read as CSV"),
    "binary": (b"\x89PNG\r\n\x1a\n\0\0", "not UTF-8 text"),
    "binary that decodes": (b"x\0\0\0y\n1,2\n", "not a text file"),
    "Latin-1": (b"x,y,z\n1,2,a\n2,3,\xe9\n", "line 3 is not UTF-8 text"),
    "too large to square": ("x,y\n1e200,2\n2,3\n", "column 'x' has numbers up to 1e+200"),
    "too small to square": ("x,y\n1e-200,2\n0,3\n", "column 'x' has numbers that differ by too little"),
}


@one_build
@pytest.mark.parametrize(("data", "words"), BAD_DATA.values(), ids=BAD_DATA)
def test_bad_data(run, data, words):
    assert_refused(run(*FIT, data=data), "data.csv", words)


BAD_ARGUMENTS = {
    "missing file": (("fit", "absent.csv", "--target", "y"), "absent.csv cannot be read: No such file"),
    "directory": (("fit", ".", "--target", "y"), ". is a directory"),
    "no target": (("fit", "data.csv"), "Missing option '--target'"),
    "no such option": ((*FIT, "--speed", "9"), "--speed"),
    "no such command": (("train", "data.csv"), "train"),
    "unknown activation": ((*FIT, "--activation", "cube"), "cube"),
    "target among the features": ((*FIT, "--features", "x,y"), "'y' is the target"),
    "feature twice": ((*FIT, "--features", "x,x"), "'x' more than once"),
    "no such feature": ((*FIT, "--features", "x,w"), "no column 'w'; it has 'x', 'y'"),
    "no feature": ((*FIT, "--features", ""), "--features"),
    "tol 0": ((*FIT, "--tol", "0"), "--tol"),
    "tol nan": ((*FIT, "--tol", "nan"), "--tol"),
    "no steps": ((*FIT, "--max-steps", "0"), "--max-steps"),
    "save in no directory": ((*FIT, "--save", "no/m.json"), "no/m.json cannot be written: there is no directory"),
    "save on a directory": ((*FIT, "--save", "."), ". is a directory"),
    "save on a device": ((*FIT, "--save", os.devnull), "not an ordinary file"),
    "save on the data": ((*FIT, "--save", "./data.csv"), "overwrite the data"),
    "plot in no directory": ((*FIT, "--plot", "no/p.png"), "no/p.png cannot be written: there is no directory"),
    "plot of no known kind": ((*FIT, "--plot", "p.txt"), "must end in one of .png"),
    "plot on the model": ((*FIT, "--plot", "m.png", "--save", "m.png"), "same file"),
    "demo in no directory": (("demo", "--plot", "no/p.png"), "there is no directory"),
}


@one_build
@pytest.mark.parametrize(("arguments", "words"), BAD_ARGUMENTS.values(), ids=BAD_ARGUMENTS)
def test_bad_arguments(run, tmp_path, monkeypatch, arguments, words):
    monkeypatch.setattr(commands, "gradient_descent", None)  # nothing is fitted before all is known to be right
    assert_refused(run(*arguments, data=LINE), words)
    assert (tmp_path / "data.csv").read_text() == LINE
    assert os.listdir(tmp_path) == ["data.csv"]


# ------------------------------------------------------------------------------------------------- models, predict


@pytest.fixture
def model(run, tmp_path):
    """A model of y by x and z."""
    assert run(*FIT, "--save", "m.json", data="x,z,y\n1,5,2\n2,3,4\n3,9,7\n4,1,8\n").status == 0
    return tmp_path / "m.json"


@one_build
def test_the_model_file(model):
    content = json.loads(model.read_text())
    assert content["format"] == "fastgd model"
    assert content["format_version"] == 1
    assert (content["features"], content["target"], content["activation"]) == (["x", "z"], "y", "identity")
    assert content["fit"]["rows"] == 4
    assert content["fit"]["converged"] is True
    assert models.load_model(model).coefficients == content["coefficients"]


@one_build
@pytest.mark.parametrize(
    "data",
    [
        "x,z,y\n1,5,\n4,1,\n",
        "z,x\n5,1\n1,4\n",
        "who,z,y,y,x\nAnn,5,unknown,,1\nBob,1,,nan,4\n",
        'who;y;z;x\n"A;n""n";"?";5;1\n\'B\';;1;4\n',
    ],
    ids=["empty target", "other order", "extra columns", "quoted text"],
)
def test_columns_are_found_by_name(run, model, data):
    fitted = models.load_model(model)
    expected = fitted.predict(np.array([[1.0, 5.0], [4.0, 1.0]])).tolist()
    assert abs(expected[0] - expected[1]) > 1
    assert predictions(run("predict", model, "data.csv", data=data)) == expected


@one_build
def test_predict_takes_a_single_row_and_a_pipe(run, model, tmp_path):
    (one,) = predictions(run("predict", model, "data.csv", data="x,z\n1,5\n"))
    if not hasattr(os, "mkfifo"):
        pytest.skip("no named pipes on this system")
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with subprocess.Popen([sys.executable, "-c", f"open({str(pipe)!r}, 'w').write('x,z\\n1,5\\n')"]) as writer:
        assert predictions(run("predict", model, pipe)) == [one]
    assert writer.returncode == 0


@one_build
def test_a_blank_line_among_the_numbers_of_a_single_column_is_a_missing_one(run):
    assert run(*FIT, "--save", "m.json", data=LINE).status == 0
    assert len(predictions(run("predict", "m.json", "data.csv", data="x\n1\n2\n\n\n"))) == 2
    assert_refused(run("predict", "m.json", "data.csv", data="x\n1\n\n2\n"), "line 3 is empty")


@one_build
@pytest.mark.parametrize(
    ("data", "words"),
    [
        ("x,y\n1,2\n", "no column 'z'; it has 'x', 'y'"),
        ("x,z,z\n1,2,3\n", "2 columns named 'z'"),
        ("x,z\n", "no rows"),
        ("x,z\n1,2\n1,b\n", "line 3, column 'z' is not a number: 'b'"),
        ("x,z,y\n1,2,3\n1,2\n", "line 3 has 2 cells"),
        ("x,z\n1,2\n1e308,-1e308\n", "row 2"),
    ],
)
def test_predict_refuses_bad_data(run, model, data, words):
    if "row 2" in words:
        content = json.loads(model.read_text())
        model.write_text(json.dumps({**content, "coefficients": [10, -10]}))
    assert_refused(run("predict", model, "data.csv", data=data), words)


@one_build
@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"format": "other"}, "is not a fastgd model"),
        ({"format_version": 2}, "has format 2, and this fastgd reads formats up to 1"),
        ({"format_version": 0}, "'format_version'"),
        ({"format_version": None}, "'format_version'"),
        ({"features": ["x"]}, "'coefficients'"),
        ({"features": ["x", "x"]}, "'features'"),
        ({"features": "xz"}, "'features'"),
        ({"coefficients": [1.0, "2"]}, "'coefficients'"),
        ({"coefficients": [1.0, True]}, "'coefficients'"),
        ({"intercept": float("nan")}, "'intercept'"),
        ({"intercept": 10**400}, "'intercept'"),
        ({"activation": "cube"}, "'activation'"),
        ({"activation": []}, "'activation'"),
        ({"target": 1}, "'target'"),
    ],
)
def test_foreign_and_damaged_models(run, model, change, words):
    model.write_text(json.dumps({**json.loads(model.read_text()), **change}))
    assert_refused(run("predict", model, "data.csv"), str(model), words)


@one_build
@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "not JSON"),
        (b"\x80\x81", "not JSON"),
        (b"x,y\n1,2\n", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b"[1]", "is not a fastgd model"),
        (None, "cannot be read: No such file"),
    ],
)
def test_files_that_are_no_models(run, model, content, words):
    model.unlink()
    if content is not None:
        model.write_bytes(content)
    assert_refused(run("predict", model, "data.csv"), str(model), words)


@one_build
def test_a_truncated_model_is_refused_at_every_length(model, tmp_path):
    whole = model.read_bytes()
    for length in range(len(whole) - 2):
        model.write_bytes(whole[:length])
        with pytest.raises(ValueError, match=r"m\.json is not a fastgd model, or is damaged"):
            models.load_model(model)


@one_build
@pytest.mark.parametrize("option", ["--save", "--plot"])
def test_a_failed_write_leaves_the_old_file(run, tmp_path, monkeypatch, option):
    path = tmp_path / "out.png"
    path.write_bytes(b"old")

    def full(*paths):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    result = run(*FIT, option, "out.png", data=LINE)
    assert (result.status, result.err) == (2, "Error: out.png cannot be written: No space left on device\n")
    assert path.read_bytes() == b"old"
    assert sorted(os.listdir(tmp_path)) == ["data.csv", "out.png"]


# -------------------------------------------------------------------------------------------- pictures, demo, info


def png_size(path):
    content = path.read_bytes()
    assert content.startswith(b"\x89PNG\r\n\x1a\n")
    return int.from_bytes(content[16:20], "big"), int.from_bytes(content[20:24], "big")


@one_build
@pytest.mark.parametrize("data", [LINE, "x,$z$,y\n1,5,2\n2,3,4\n3,9,7\n4,1,8\n"], ids=["one feature", "several"])
def test_the_picture_has_the_fit_beside_the_loss(run, tmp_path, monkeypatch, data):
    from matplotlib.figure import Figure

    drawn = []
    savefig = Figure.savefig
    monkeypatch.setattr(Figure, "savefig", lambda self, *a, **k: (drawn.append(self), savefig(self, *a, **k))[1])
    result = run(*FIT, "--plot", "p.png", data=data)
    assert result.status == 0
    assert entry(result, "drawn") == "p.png"
    width, height = png_size(tmp_path / "p.png")
    assert width > 2 * height
    fit, loss = drawn[0].axes
    labels = (fit.get_xlabel(), fit.get_ylabel())
    assert labels == (("x", "y") if data is LINE else ("actual y", "predicted y"))
    assert loss.get_ylabel() == "mean squared error"
    (curve,) = loss.lines
    y = np.array([float(line.split(",")[-1]) for line in data.splitlines()[1:]])
    # From the loss of all weights zero to the loss reported, one point for each step.
    assert len(curve.get_ydata()) == int(entry(result, "steps")) + 1
    assert curve.get_ydata()[0] == pytest.approx(np.mean(y**2))
    assert curve.get_ydata()[-1] == pytest.approx(float(entry(result, "loss").split()[0]), rel=1e-6)


@one_build
def test_a_long_loss_is_drawn_from_step_0_on(run, monkeypatch):
    from matplotlib.figure import Figure

    drawn = []
    monkeypatch.setattr(Figure, "savefig", lambda self, *a, **k: drawn.append(self))
    monkeypatch.setattr(commands, "LONG_RUN", 1)
    run(*FIT, "--plot", "p.png", data=LINE)
    loss = drawn[0].axes[1]
    assert loss.get_xscale() == "symlog"
    assert loss.get_xlim()[0] == 0


def test_demo(run, tmp_path):
    result = run("demo")
    assert (result.status, result.err) == (0, "")
    assert "weight = 3.45000000 * height - 87.51666667" in result.out
    assert str(tmp_path / "fastgd-demo.png") in result.out
    assert png_size(tmp_path / "fastgd-demo.png") > (500, 200)
    numbers = []
    for line in result.out.splitlines():
        if re.fullmatch(r" +\d+  ?[-+*. \dheight]+", line):  # a row of one of the three tables
            numbers.append([float(word) for word in re.sub(r"\*|height|- |\+ ", "", line).split()])
    falling = [row[1] for row in numbers if len(row) == 4]
    assert len(falling) == 9
    assert falling == sorted(falling, reverse=True)
    # By hand: the loss of the zero line is the mean of the squared weights.
    assert falling[0] == pytest.approx(np.mean(load_women()[1] ** 2))
    pairs = [row[1:] for row in numbers if len(row) == 5]
    assert len(pairs) == 10
    for a, b, numerical_a, numerical_b in pairs:
        assert [numerical_a, numerical_b] == pytest.approx([a, b], abs=1e-6)


@one_build
def test_demo_without_matplotlib_goes_on_without_the_picture(run, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    result = run("demo")
    assert result.status == 0
    assert "No picture: --plot needs matplotlib: install it with `pip install 'fastgd[plot]'`" in result.out
    assert "3. The same descent by numerical gradient" in result.out
    assert os.listdir(tmp_path) == []
    refused = run(*FIT, "--plot", "p.png", data=LINE)
    assert (refused.status, refused.out) == (1, "")
    assert "fastgd[plot]" in refused.err


@one_build
def test_info_help_and_version(run):
    assert run("info").out == f"{fastgd.show_config()!r}\n"
    assert run("--version").out.split()[-1] == fastgd.__version__
    for arguments in ((), ("--help",), ("-h",)):
        result = run(*arguments)
        assert result.status == 0
        assert all(command in result.out for command in ("fit", "predict", "demo", "bench", "info"))
    assert "Exit status" in run("fit", "--help").out


@one_build
def test_bench_compares_with_numpy_and_scipy(run):
    result = run("bench", "--seconds", "0.001")
    assert (result.status, result.err) == (0, "")
    head, _, columns, *rows = result.out.splitlines()
    assert "one thread" in head
    assert columns.split() == ["fastgd", "peer", "ratio"]
    assert len(rows) >= 4
    for row in rows:
        ours, unit, theirs, their_unit, ratio = re.search(r"(\S+) ([mµ]?s) +(\S+) ([mµ]?s) +(\S+)  \w", row).groups()
        scale = {"s": 1, "ms": 1e-3, "µs": 1e-6}
        expected = float(theirs) * scale[their_unit] / (float(ours) * scale[unit])
        assert float(ratio) == pytest.approx(expected, rel=0.02, abs=0.01)
    assert_refused(run("bench", "--seconds", "-1"), "--seconds")


# ------------------------------------------------------------------------------------------ progress, interruption


@one_build
def test_the_bar_is_for_long_work_only_and_can_be_turned_off(run, monkeypatch):
    assert run(*FIT, data=LINE).err == ""
    monkeypatch.setattr(commands, "BAR_DELAY", 0.0)
    assert "fitting: step " in run(*FIT).err
    assert run(*FIT, "--no-progress").err == ""


@one_build
def test_an_interruption_of_the_fit_is_one_sentence(run, tmp_path, monkeypatch):
    def interrupted(*arguments, callback, **options):
        callback(fastgd.Result(nit=7, fun=1.0))
        raise KeyboardInterrupt

    monkeypatch.setattr(commands, "gradient_descent", interrupted)
    result = run(*FIT, "--save", "m.json", data=LINE)
    assert (result.status, result.out) == (130, "")
    assert result.err == "Error: interrupted at step 7, nothing was written\n"
    assert os.listdir(tmp_path) == ["data.csv"]


@one_build
@pytest.mark.skipif(os.name != "posix", reason="sends a POSIX signal")
def test_ctrl_c_in_a_terminal(tmp_path):
    # A rate this small takes very many steps.
    program = (
        "from fastgd.cli import commands; descend = commands.gradient_descent; "
        "commands.gradient_descent = lambda *most, lr, **rest: descend(*most, lr=1e-9, **rest); commands.cli()"
    )
    (tmp_path / "data.csv").write_text("x,y\n1,2\n2,4\n3,7\n")
    command = [sys.executable, "-c", program, "fit", "data.csv", "--target", "y", "--max-steps", str(10**12)]
    heeds = functools.partial(
        signal.signal, signal.SIGINT, signal.SIG_DFL
    )  # also where the tests run in the background
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "preexec_fn": heeds}
    with subprocess.Popen(command, cwd=tmp_path, **pipes) as process:
        begin = process.stderr.read(30)  # the bar: it is at work
        process.send_signal(signal.SIGINT)
        out, err = process.communicate()
    assert b"fitting: step" in begin
    assert (process.returncode, out) == (130, b"")
    assert b"Traceback" not in err
    assert err.splitlines()[-1].startswith(b"Error: interrupted at step ")


# --------------------------------------------------------------------------------------------- as a program


@one_build
def test_python_m_fastgd(tmp_path):
    command = [sys.executable, "-m", "fastgd"]
    options = {"cwd": tmp_path, "capture_output": True, "text": True, "encoding": "utf-8"}
    fit = subprocess.run([*command, "fit", WOMEN, "--target", "weight", "--save", "m.json"], **options)
    assert (fit.returncode, fit.stderr) == (0, "")
    assert "height       3.45\nintercept  -87.51666667\n" in fit.stdout
    bad = subprocess.run([*command, "predict", "m.json", "absent.csv"], **options)
    assert (bad.returncode, bad.stdout) == (2, "")
    assert bad.stderr == "Error: absent.csv cannot be read: No such file or directory\n"


@one_build
@pytest.mark.parametrize("package", ["click", "tqdm"])
def test_a_missing_extra_is_named(package):
    code = f"import sys; sys.modules[{package!r}] = None; from fastgd.__main__ import main; main()"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.returncode == 1
    message = f"Error: the command line needs {package}: install it with `pip install 'fastgd[cli]'`\n"
    assert (result.stdout, result.stderr) == ("", message)


@one_build
def test_a_console_without_the_letters_still_shows_the_numbers(tmp_path):
    environment = {**os.environ, "PYTHONIOENCODING": "cp1251"}
    command = [sys.executable, "-m", "fastgd", "fit", WOMEN, "--target", "weight"]
    result = subprocess.run(command, capture_output=True, env=environment, cwd=tmp_path, check=False)
    assert (result.returncode, result.stderr) == (0, b"")
    assert b"R\\xb2" in result.stdout
