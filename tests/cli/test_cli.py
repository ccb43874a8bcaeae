"""The command line as its users meet it: what is printed where, which files come out, and the exit status."""

import csv
import errno
import functools
import io
import json
import os
import re
import signal
import subprocess
import sys
import types

import numpy as np
import pytest
from numpy.testing import assert_array_equal

import fastgd
from fastgd.cli import commands, fitting, line, printing
from fastgd.data import tables
from fastgd.datasets import load_women, women_path
from fastgd.files import models

for _package in ("click", "pyarrow", "rich", "tqdm"):
    pytest.importorskip(_package, reason="the extra cli is not installed")

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
            line.cli.main([str(a) for a in arguments], prog_name="fastgd")
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
    assert entry(result, "target") == "weight: a number, by squared error"
    assert entry(result, "fit") == "R² 0.9910098327, mean squared error 2.015555556"
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
    text = "\n".join(["a,b,c,y", *(",".join(map(repr, row)) for row in np.c_[X, y].tolist())])
    options = "--activation", activation, "--tol", 1e-12, "--save", "m.json"
    assert run(*FIT, *options, data=text).status == 0
    objective = fastgd.LinearObjective(X, y, activation=activation, loss="squared_error", fit_intercept=True)
    fitted = fastgd.gradient_descent(objective, lr="auto", tol=1e-12, step_num=10_000)
    assert fitted.success and np.ptp(objective.predict(fitted.x)) > 0.1
    assert predictions(run("predict", "m.json", "data.csv")) == pytest.approx(objective.predict(fitted.x), rel=1e-13)


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
    assert entry(constant, "fit").startswith("R² undefined (the target is constant)")
    noted = run(*FIT, data="x,c,y\n1,7,5\n2,7,6\n4,7,8\n").err
    assert noted == "Note: constant, so that the coefficient stays 0: 'c'.\n"
    beyond = run(*FIT, "--activation", "tanh", "--max-steps", 1, data="x,y\n1,4\n2,5\n").err
    assert "Note: y goes from 4 to 5, and a tanh only from -1 to 1.\n" in beyond
    assert "Note: the tanh is fitted by squared error (--loss chooses another).\n" in beyond
    counts = run(*FIT, data="x,y\n1,0\n2,1\n3,1\n4,5\n").err
    assert counts == "Note: y looks like counts, for which there is --loss poisson.\n"


@one_build
@pytest.mark.parametrize(
    ("values", "words"),
    [
        ("0,1,0,1,1,0", "2 classes (0, 1), by log loss"),
        ("yes,no,yes,no,no,yes", "2 classes (no, yes), by log loss"),
        ("true,false,true,false,false,true", "2 classes (False, True), by log loss"),
        ("b,a,c,c,a,b", "3 classes (a, b, c), by log loss"),
        ("0,1,2,1,2,0", "a number, by squared error"),
    ],
)  # fmt: skip
def test_the_task_is_noticed_and_said(run, values, words):
    data = "x,y\n" + "".join(f"{i * i % 5},{v}\n" for i, v in enumerate(values.split(",")))
    for options in ((), ("--activation", "sigmoid") if "log" in words else ()):
        assert entry(run(*FIT, *options, data=data), "target") == f"y: {words}"
    if "(0, 1)" in words:
        assert entry(run(*FIT, "--loss", "squared_error"), "target") == "y: a number, by squared error"


@one_build
def test_features_are_chosen_by_name(run):
    data = 'name,"height, in",age,y\nAnn,1,9,3\nBob,2,9.5,5\nCy,3,7,7\n'
    for options in (("--features", '"height, in"'), ("--exclude", "name,age")):
        result = run(*FIT, *options, data=data)
        assert result.status == 0
        assert float(entry(result, "height, in")) == pytest.approx(2)
        assert "age" not in result.out and "name" not in result.out


@one_build
def test_a_fit_that_does_not_converge_says_so_and_keeps_its_results(run, tmp_path):
    data = "a,b,y\n1,1,0.1\n2,2.1,0.2\n3,2.9,0.5\n4,4.2,0.3\n"
    options = "--activation", "tanh", "--loss", "squared_error", "--max-steps", 1, "--save", "m.json", "--plot", "p.png"
    result = run(*FIT, *options, data=data)
    assert result.status == 1
    assert result.err == "Error: the fit has not converged: took all 1 steps without reaching --tol 1e-08; " + (
        "raise --max-steps\n"
    )
    assert entry(result, "stopped").startswith("NOT CONVERGED: ")
    assert json.loads((tmp_path / "m.json").read_text())["fit"]["converged"] is False
    assert (tmp_path / "p.png").stat().st_size > 0


@one_build
def test_a_formula(run):
    pytest.importorskip("formulaic", reason="the extra formula is not installed")
    data = "x,kind,y\n" + "".join(f"{x},{'ab'[x % 2]},{3 * np.log(x) + x % 2}\n" for x in range(1, 9))
    result = run("fit", "data.csv", "--formula", "y ~ log(x) + kind", "--save", "m.json", data=data)
    assert float(entry(result, "log(x)")) == pytest.approx(3, rel=1e-9)
    assert float(entry(result, "kind[T.b]")) == pytest.approx(1, rel=1e-9)
    assert predictions(run("predict", "m.json", "data.csv", data="kind,x\nb,1\na,1\n")) == pytest.approx(
        [1, 0], abs=1e-9
    )
    assert_refused(run("fit", "data.csv", "--target", "y", "--formula", "y ~ x"), "one of them")


@one_build
def test_json_holds_what_is_printed_and_more(run):
    result = run("fit", WOMEN, "--target", "weight", "--json", "--test-size", 0.2)
    content = json.loads(result.out)
    assert result.status == 0 and content["converged"] and content["rows"] == 12
    assert content["coefficients"].keys() == {"height"} and content["held_out"]["r2"] > 0.9
    several = run(*FIT, "--json", data="x,y\n1,a\n2,b\n3,c\n1,a\n2,b\n4,c\n")
    assert json.loads(several.out)["intercept"].keys() == {"a", "b", "c"}


@one_build
def test_wide_tables_print_the_largest_coefficients(run):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(200, 30))
    y = X @ np.arange(30) + rng.normal(size=200)
    text = "\n".join([",".join([*(f"c{i}" for i in range(30)), "y"]), *(",".join(map(str, r)) for r in np.c_[X, y])])
    result = run(*FIT, data=text)
    assert "(20 of 30 coefficients, the largest by column spread; --save has all)" in result.out
    assert "c29 " in result.out and "c5 " not in result.out


@one_build
def test_an_exact_fit_ends_at_once(run):
    rows = "".join(f"{i},{i * 7 % 5},{1946 + i}\n" for i in range(1, 17))
    result = run(*FIT, data="a,b,y\n" + rows)
    assert result.status == 0 and int(entry(result, "steps")) < 10
    assert float(entry(result, "a")) == pytest.approx(1, rel=1e-9)


# ----------------------------------------------------------------------------------------------------- bad arguments

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
    "lr of text": ((*FIT, "--lr", "fast"), "--lr must be a positive number"),
    "save of no known kind": ((*FIT, "--save", "m.pkl"), "path must end in .json or .npz"),
    "no such exclusion": ((*FIT, "--exclude", "w"), "no column 'w'; it has 'x', 'y'"),
    "all excluded": ((*FIT, "--exclude", "x"), "no column with a name besides 'y'"),
    "poisson of negative": ((*FIT, "--loss", "poisson"), "for --loss poisson the target 'y' must"),
    "share of 1": ((*FIT, "--test-size", "1"), "--test-size"),
    "too few left": ((*FIT, "--test-size", "0.9"), "leaves 0 of 3 rows"),
    "save in no directory": ((*FIT, "--save", "no/m.json"), "no/m.json cannot be written: there is no directory"),
    "save on a directory": ((*FIT, "--save", "."), ". is a directory"),
    "save on a device": ((*FIT, "--save", os.devnull), "not an ordinary file"),
    "save on the data": ((*FIT, "--save", "./data.csv"), "overwrite the data"),
    "plot in no directory": ((*FIT, "--plot", "no/p.png"), "no/p.png cannot be written: there is no directory"),
    "plot of no known kind": ((*FIT, "--plot", "p.txt"), "must end in one of .png"),
    "demo in no directory": (("demo", "--plot", "no/p.png"), "there is no directory"),
}


@one_build
@pytest.mark.parametrize(("arguments", "words"), BAD_ARGUMENTS.values(), ids=BAD_ARGUMENTS)
def test_bad_arguments(run, tmp_path, monkeypatch, arguments, words):
    monkeypatch.setattr(fitting, "gradient_descent", None)  # nothing is fitted before all is known to be right
    data = LINE.replace(",2", ",-2") if "poisson" in words else LINE
    assert_refused(run(*arguments, data=data), words)
    assert (tmp_path / "data.csv").read_text() == data
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
    assert (content["format"], content["format_version"], content["class"]) == ("fastgd model", 2, "GDRegressor")
    assert (content["target"], content["activation"], content["encoding"]) == ("y", "identity", None)
    assert content["arrays"]["feature_names_in_"]["values"] == ["x", "z"]
    assert content["fit"]["rows"] == 4 and content["fit"]["converged"] is True


@one_build
@pytest.mark.parametrize("suffix", [".json", ".npz"])
@pytest.mark.parametrize("target", ["y", "label", "several"])
def test_a_model_of_the_shell_is_an_estimator_and_the_other_way_round(run, tmp_path, target, suffix):
    pandas = pytest.importorskip("pandas", reason="pandas is not needed and not installed")
    rng = np.random.default_rng(5)
    frame = pandas.DataFrame({"a": rng.normal(size=40), "sex": rng.choice(["f", "m"], 40), "b": rng.random(40) > 0.5})
    frame["y"] = frame.a + (frame.sex == "m") + rng.normal(size=40)
    frame["label"] = np.where(frame.y > 0, "high", "low")
    frame["several"] = np.array(["one", "two", "ü, 3"])[np.digitize(frame.y, [0, 1])]
    frame.to_csv(tmp_path / "data.csv", index=False)
    X = frame[["a", "sex", "b"]]
    saved = f"shell{suffix}"
    assert run("fit", "data.csv", "--target", target, "--features", "a,sex,b", "--save", saved).status == 0
    kind = fastgd.GDRegressor if target == "y" else fastgd.GDClassifier
    of_shell = kind.load(saved)
    ours = kind().fit(X, frame[target])
    assert list(of_shell.coef_names_) == list(ours.coef_names_) == ["a", "sex=m", "b=True"]
    assert of_shell.coef_ == pytest.approx(ours.coef_, rel=1e-2)
    ours.save(tmp_path / f"python{suffix}")
    for name, model in ((saved, of_shell), (f"python{suffix}", ours)):
        printed = list(csv.reader(run("predict", name, "data.csv").out.splitlines()))[1:]
        found = [row[0] for row in printed]
        expected = model.predict(X).tolist()
        assert (found == expected) if target != "y" else ([float(v) for v in found] == expected)
        if target != "y":
            assert run("predict", name, "data.csv", "--proba", "--out", "p.csv").status == 0
            table = np.loadtxt(tmp_path / "p.csv", delimiter=",", skiprows=1)
            assert_array_equal(table, model.predict_proba(X))


@one_build
def test_a_model_without_names_takes_columns_by_position(run, tmp_path):
    X, y = np.array([[1.0, 5], [2, 3], [3, 9], [4, 1]]), [2.0, 4, 7, 8]
    model = fastgd.GDRegressor().fit(X, y)
    model.save(tmp_path / "m.json")
    text = "p,q\n" + "".join(f"{a},{b}\n" for a, b in X)
    assert predictions(run("predict", "m.json", "data.csv", data=text)) == model.predict(X).tolist()
    assert_refused(run("predict", "m.json", "data.csv", data="p\n1\n"), "takes 2 by their position; data.csv has 1")


@one_build
@pytest.mark.parametrize("name", ["p.csv", "p.parquet", "p.arrow", "p.jsonl"])
def test_predictions_in_other_formats_are_read_again(run, model, tmp_path, name):
    text = "x,z\n1,5\n2,0.1\n"
    expected = predictions(run("predict", model, "data.csv", data=text))
    result = run("predict", model, "data.csv", "--out", name)
    assert (result.status, result.out) == (0, "")
    assert tables.read(tmp_path / name).table.column("prediction").to_pylist() == expected


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
    expected = models.Model.load(model).predict(np.array([[1.0, 5.0], [4.0, 1.0]])).tolist()
    assert abs(expected[0] - expected[1]) > 1
    assert predictions(run("predict", model, "data.csv", data=data)) == expected


@one_build
def test_predict_takes_a_single_row_and_a_pipe(run, model, monkeypatch):
    (one,) = predictions(run("predict", model, "data.csv", data="x,z\n1,5\n"))
    monkeypatch.setattr(sys, "stdin", types.SimpleNamespace(buffer=io.BytesIO(b"x,z\n1,5\n")))
    assert predictions(run("predict", model, "-")) == [one]


@one_build
@pytest.mark.parametrize(
    ("data", "words"),
    [
        ("x,y\n1,2\n", "no column 'z'; it has 'x', 'y'"),
        ("x,z,z\n1,2,3\n", "2 columns named 'z'"),
        ("x,z\n", "no rows"),
        ("x,z\n1,2\n1,b\n", "column 'z' holds text"),
        ("x,z\n1,2\n1,\n", "cells are missing in 'z' (1)"),
        ("x,z,y\n1,2,3\n1,2\n", "line 3 has 2 cells"),
        ("x,z\n1,2\n1e308,-1e308\n", "row 2"),
    ],
)
def test_predict_refuses_bad_data(run, model, data, words):
    if "row 2" in words:
        content = json.loads(model.read_text())
        content["arrays"]["coef_"]["values"] = [10, -10]
        model.write_text(json.dumps(content))
    assert_refused(run("predict", model, "data.csv", data=data), words)


@one_build
@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"format": "other"}, "is not a fastgd model"),
        ({"format_version": 3}, "has format 3, and this fastgd reads format 2: install a newer one"),
        ({"format_version": 1}, "has format 1, and this fastgd reads format 2: fit and save the model again"),
        ({"activation": "cube"}, "is damaged"),
    ],
)
def test_foreign_and_damaged_models(run, model, change, words):
    model.write_text(json.dumps({**json.loads(model.read_text()), **change}))
    assert_refused(run("predict", model, "data.csv"), "m.json", words)
    model.unlink()
    assert_refused(run("predict", model, "data.csv"), "cannot be read: No such file")


@one_build
def test_a_truncated_model_is_refused_at_every_length(model):
    whole = model.read_bytes()
    for length in range(len(whole) - 2):
        model.write_bytes(whole[:length])
        with pytest.raises(ValueError, match=r"m\.json is not a fastgd model, or is damaged"):
            models.Model.load(model)


@one_build
def test_a_closed_pipe_loses_nothing(tmp_path):
    (tmp_path / "data.csv").write_text("x,z,y\n1,5,2\n2,3,4\n3,9,7\n4,1,8\n")
    command = [sys.executable, "-m", "fastgd", *FIT, "--save", "m.json"]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.close()
        err = process.stderr.read()
    assert (process.returncode, err) == (0, b"")
    assert models.Model.load(tmp_path / "m.json").fit["rows"] == 4


@one_build
@pytest.mark.parametrize("option", ["--save", "--plot"])
def test_a_failed_write_leaves_the_old_file(run, tmp_path, monkeypatch, option):
    name = "out.json" if option == "--save" else "out.png"
    path = tmp_path / name
    path.write_bytes(b"old")

    def full(*paths):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    result = run(*FIT, option, name, data=LINE)
    assert (result.status, result.err) == (2, f"Error: {name} cannot be written: No space left on device\n")
    assert path.read_bytes() == b"old"
    assert sorted(os.listdir(tmp_path)) == ["data.csv", name]


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
    assert loss.get_ylabel() == "loss"
    (curve,) = loss.lines
    y = np.array([float(line.split(",")[-1]) for line in data.splitlines()[1:]])
    # From the loss of the start to the loss reported, one point for each step.
    assert len(curve.get_ydata()) == int(entry(result, "steps")) + 1
    assert curve.get_ydata()[0] <= np.mean(y**2) / 2
    assert 2 * curve.get_ydata()[-1] == pytest.approx(float(entry(result, "fit").split()[-1]), rel=1e-6)


@one_build
def test_a_long_loss_is_drawn_from_step_0_on(run, monkeypatch):
    from matplotlib.figure import Figure

    drawn = []
    monkeypatch.setattr(Figure, "savefig", lambda self, *a, **k: drawn.append(self))
    monkeypatch.setattr(printing, "LONG_RUN", 0)
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
    for row in result.out.splitlines():
        if re.fullmatch(r" +\d+  ?[-+*. \dheight]+", row):  # a row of one of the three tables
            numbers.append([float(word) for word in re.sub(r"\*|height|- |\+ ", "", row).split()])
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

    monkeypatch.setattr(fitting, "gradient_descent", interrupted)
    result = run(*FIT, "--save", "m.json", data=LINE)
    assert (result.status, result.out) == (130, "")
    assert result.err == "Error: interrupted at step 7, nothing was written\n"
    assert os.listdir(tmp_path) == ["data.csv"]


@one_build
@pytest.mark.skipif(os.name != "posix", reason="sends a POSIX signal")
def test_ctrl_c_in_a_terminal(tmp_path):
    # A rate this small takes very many steps.
    program = (
        "from fastgd.cli import fitting, line; descend = fitting.gradient_descent; "
        "fitting.gradient_descent = lambda *most, lr, **rest: descend(*most, lr=1e-9, **rest); line.cli()"
    )
    (tmp_path / "data.csv").write_text("x,y\n1,2\n2,4\n3,7\n")
    command = [sys.executable, "-c", program, "fit", "data.csv", "--target", "y", "--max-steps", str(10**9)]
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
@pytest.mark.parametrize("package", ["click", "tqdm", "rich", "pyarrow"])
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
