"""Tables that the command line reads in blocks: the same models and predictions as in memory, and one sentence."""

import json

import numpy as np
import pytest

pa = pytest.importorskip("pyarrow", reason="the extra arrow is not installed")

from numpy.testing import assert_allclose  # noqa: E402

from fastgd.cli import line  # noqa: E402

pytestmark = pytest.mark.one_build
LIMIT = ("--memory-limit", "5MB")


@pytest.fixture
def run(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def call(*arguments):
        with pytest.raises(SystemExit) as end:
            line.cli(list(map(str, arguments)))
        return end.value.code, *capsys.readouterr()

    return call


@pytest.fixture
def big(tmp_path):
    from pyarrow import csv, parquet

    rng, n = np.random.default_rng(4), 20_000
    kind, x = rng.choice(["a", "b", "c"], n), rng.normal(size=(n, 2))
    y = x @ [1.0, -2.0] + (kind == "b") + rng.normal(size=n)
    label = np.where(y > 0, "high", "low")
    table = pa.table({"x": x[:, 0], "z": x[:, 1], "kind": kind, "y": y, "label": label})
    parquet.write_table(table, tmp_path / "big.parquet", row_group_size=3000)
    csv.write_csv(table, tmp_path / "big.csv")
    return tmp_path


@pytest.mark.parametrize("target", ["y", "label"])
@pytest.mark.parametrize("name", ["big.parquet", "big.csv", "b*.parquet"])
def test_fit_and_predict(run, big, target, name):
    other = "label" if target == "y" else "y"
    of = ("--target", target, "--exclude", other, "--tol", "1e-12", "--json")
    status, out, _ = run("fit", name, *of, *LIMIT, "--save", "m.json")
    assert status == 0
    found, expected = json.loads(out), json.loads(run("fit", "big.parquet", *of)[1])
    for key in ("coefficients", "fit"):
        assert found[key] == pytest.approx(expected[key], rel=1e-6)
    expected = run("predict", "m.json", "big.csv")[1]
    assert run("predict", "m.json", name, *LIMIT)[1] == expected
    for suffix in (".csv", ".parquet", ".arrow", ".jsonl"):
        assert run("predict", "m.json", name, *LIMIT, "--out", f"p{suffix}")[0] == 0
    assert (big / "p.csv").read_text() == expected
    from pyarrow import parquet

    cells = expected.splitlines()[1:]
    assert list(map(str, parquet.read_table(big / "p.parquet")["prediction"].to_pylist())) == cells


def test_exposure_and_weights(run, big):
    from pyarrow import parquet

    table, rng = parquet.read_table(big / "big.parquet"), np.random.default_rng(5)
    hours = rng.uniform(0.5, 4.0, len(table))
    counts = rng.poisson(hours * np.exp(0.3 * table["x"].to_numpy()))
    parquet.write_table(table.append_column("hours", [hours]).append_column("calls", [counts]), big / "calls.parquet")
    of = ("--target", "calls", "--exposure", "hours", "--features", "x,kind", "--loss", "poisson", "--tol", "1e-12")
    status, out, error = run("fit", "calls.parquet", *of, *LIMIT, "--json", "--save", "m.json", "--test-size", "0.25")
    assert status == 0, error
    found, expected = json.loads(out), json.loads(run("fit", "calls.parquet", *of, "--json", "--test-size", "0.25")[1])
    for model in (found, expected):
        assert model["coefficients"]["x"] == pytest.approx(0.3, abs=0.02)
    assert run("predict", "m.json", "calls.parquet", *LIMIT)[1] == run("predict", "m.json", "calls.parquet")[1]
    parquet.write_table(
        table.append_column("hours", [hours * 0]).append_column("calls", [counts]), big / "none.parquet"
    )
    status, _, error = run("fit", "none.parquet", *of, *LIMIT)
    assert status == 2 and "the exposure 'hours' must be finite and positive in each row" in error


def test_held_out_and_losses(run, big):
    of = ("--target", "y", "--exclude", "label", *LIMIT)
    found = json.loads(run("fit", "big.parquet", *of, "--test-size", "0.2", "--json")[1])
    assert_allclose(found["held_out"]["r2"], found["fit"]["r2"], atol=0.02)
    status, out, _ = run("compare", "big.parquet", *of, "--losses", "squared_error,huber")
    assert status == 0 and out.count("R²") == 2


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("big.parquet", "--target", "w", *LIMIT), "big.parquet has no column 'w'"),
        (("big.parquet", "--target", "y", "--exclude", "w", *LIMIT), "big.parquet has no column 'w'"),
        (("big.parquet", "--target", "y", "--memory-limit", "1kB"), "--memory-limit must be at least"),
        (("big.parquet", "--target", "y", "--report", "a.html", *LIMIT), "--report need the table in memory"),
        (("big.parquet", "--formula", "y ~ x", *LIMIT), "--formula needs the table in memory"),
        (("-", "--target", "y", *LIMIT), "standard input is read into memory whole"),
        (("none.parquet", "--target", "y", *LIMIT), "none.parquet cannot be read"),
    ],
)
def test_one_sentence(run, big, arguments, words):
    pytest.importorskip("formulaic", reason="the extra formula is not installed")
    status, out, error = run("fit", *arguments)
    assert status == 2 and not out and words in error and error.count("\n") == 1
