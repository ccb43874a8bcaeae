"""Tables as people have them, each fitted from the command line: y = 2x + 3 for rows of kind b, and one less for a."""

import bz2
import gzip
import io
import json
import sys
import types

import numpy as np
import pytest

pa = pytest.importorskip("pyarrow", reason="the extra arrow is not installed")

from fastgd.cli import line  # noqa: E402
from fastgd.data import tables  # noqa: E402

pytestmark = pytest.mark.one_build

X = [1.5, 2.25, 3.0, 4.75, 5.5, 7.0]
KIND = ["b", "a", "b", "b", "a", "a"]
Y = [2 * x + 3 - (kind == "a") for x, kind in zip(X, KIND, strict=True)]
ROWS = list(zip(X, KIND, Y, strict=True))
CSV = "x,kind,y\n" + "".join(f"{x},{kind},{y}\n" for x, kind, y in ROWS)


def lines(mark, end="\n", comma=False):
    text = CSV.replace(".", "…") if comma else CSV
    return text.replace(",", mark).replace("…", ",").replace("\n", end)


def written(write):
    sink = io.BytesIO()
    write(pa.table({"x": X, "kind": KIND, "y": Y}), sink)
    return sink.getvalue()


def parquet(table, sink):
    from pyarrow import parquet

    parquet.write_table(table, sink)


def ipc(table, sink):
    with pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)


def stream(table, sink):
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)


def excel():
    openpyxl = pytest.importorskip("openpyxl", reason="writes the Excel file of this test")
    pytest.importorskip("python_calamine", reason="the extra excel is not installed")
    book, sink = openpyxl.Workbook(), io.BytesIO()
    for row in [("x", "kind", "y"), *ROWS]:
        book.active.append(row)
    book.save(sink)
    return sink.getvalue()


def records(rows=ROWS):
    return [dict(zip(("x", "kind", "y"), row, strict=True)) for row in rows]


MESSY = {
    "text column": (CSV, ""), "semicolons": (lines(";"), "semicolons"), "tabs": (lines("\t"), "tabs"),
    "bars": (lines("|"), "bars"), "spaces": (lines(" "), "spaces"), "aligned": (lines("   "), "spaces"),
    "decimal commas": (lines(";", comma=True), "decimals are written with a comma"),
    "decimal commas and tabs": (lines("\t", comma=True), "decimals are written with a comma"),
    "quotes and spaces": ('"x" , "kind", y\n' + "".join(f'"{x}",{k},{y}\n' for x, k, y in ROWS), ""),
    "CRLF and blank lines": ("\r\n" + lines(",", "\r\n") + "\r\n\r\n", ""), "no newline at the end": (CSV[:-1], ""),
    "byte order mark": ("\ufeff" + CSV, ""), "UTF-16": (CSV.encode("utf-16"), "utf-16"),
    "UTF-16 without a mark": (CSV.encode("utf-16-be"), "utf-16-be"),
    "Latin-1": (CSV.replace("b,", "é,").replace("a,", "à,").encode("latin-1"), "cp1252"),
    "gzip": (gzip.compress(CSV.encode()), ""), "bzip2": (bz2.compress(CSV.encode()), ""),
    "zstd": (lambda: pa.compress(CSV.encode(), "zstd", asbytes=True), ""), "Parquet": (lambda: written(parquet), ""),
    "Arrow": (lambda: written(ipc), ""), "Arrow stream": (lambda: written(stream), ""), "Excel": (excel, ""),
    "JSON lines": ("".join(json.dumps(row) + "\n" for row in records()), ""),
    "a list of records": (json.dumps(records()), ""),
    "yes and no": (CSV.replace("b,", "yes,").replace("a,", "no,"), ""),
    "booleans": (CSV.replace("b,", "true,").replace("a,", "false,"), ""),
    "an index without a name": (",x,kind,y\n" + "".join(f"r{i},{x},{k},{y}\n" for i, (x, k, y) in enumerate(ROWS)),
                                "has no name and is left out (--features index takes it)"),
    "names of rows as R writes them": ("x kind y\n" + "".join(f"{i} {x} {k} {y}\n" for i, (x, k, y) in enumerate(ROWS)),
                                       "spaces"),
}  # fmt: skip


@pytest.fixture
def run(capsys, tmp_path, monkeypatch):
    """run(data, *options) fits data.csv and gives status, standard output and error."""
    monkeypatch.chdir(tmp_path)

    def command(data, *options, name="data.csv", target="y"):
        if data is not None:
            data = data() if callable(data) else data
            (tmp_path / name).write_bytes(data if isinstance(data, bytes) else data.encode())
        with pytest.raises(SystemExit) as exit_:
            line.cli.main(["fit", name, "--target", target, *options], prog_name="fastgd")
        captured = capsys.readouterr()
        return types.SimpleNamespace(status=exit_.value.code, out=captured.out, err=captured.err)

    return command


@pytest.mark.parametrize("name", MESSY)
def test_messy_tables_are_fitted_as_they_are(run, name):
    data, note = MESSY[name]
    result = run(data, "--json")
    assert result.status == 0, result.err
    (kind,) = {"yes and no": ["kind=yes"], "booleans": ["kind=True"], "Latin-1": ["kind=é"]}.get(name, ["kind=b"])
    found = json.loads(result.out)
    assert found["coefficients"] == pytest.approx({"x": 2, kind: 1}, rel=1e-6)
    assert found["intercept"] == pytest.approx(2, rel=1e-6)
    assert note in result.err and ("Note" in result.err) == bool(note)


def test_standard_input(run, monkeypatch):
    monkeypatch.setattr(sys, "stdin", types.SimpleNamespace(buffer=io.BytesIO(CSV.encode())))
    result = run(None, name="-")
    assert result.status == 0 and "6 (standard input)" in result.out


HOLES = "x,kind,when,y\n1,a,2020-01-01,2\n2,,2020-01-05,3\nNA,b,2020-02-01,5\n4,b,2020-03-01,6\n5,a,2020-04-02,9\n" * 2


@pytest.mark.parametrize(
    ("data", "message", "fits"),
    [
        (HOLES.replace("x,kind,when,y\n", "", 2) and HOLES[: len(HOLES) // 2],
         "column 'when' holds dates; cells are missing in 'x' (1), 'kind' (1): add --dates number --missing drop",
         "--dates number --missing mean"),
        ("x,y\n1,2\n2,3\n3,\n4,7\n", "cells are missing in 'y' (1): add --missing drop", "--missing drop"),
        ('x,y\n"1,234",2\n"2,757",3\n"3,001",5\n', "holds numbers such as '1,234', with ',' for thousands or "
         "decimals: add --thousands , or --decimal ,", "--thousands ,"),
        ('x,y\n"1,234",2\n"2,757",3\n"3,001",5\n', "or --decimal ,", "--decimal ,"),
        ('"a, b",x,y\n1,1,2\ntwo,2,3\n3,4,7\n', "column 'a, b' holds text among its numbers, 'two' in row 2: add "
         "--exclude '\"a, b\"'", "--exclude '\"a, b\"'"),
        ("e,x,y\n,1,2\n,2,3\n,4,7\n", "column 'e' has no values: add --exclude e", "--exclude e"),
        ("e,x,y\n1,1,2\ninf,2,3\n2,4,7\n", "column 'e' holds infinity: add --exclude e", "--exclude e"),
        ("e,e,x,y\n1,3,1,2\n1,2,2,3\n2,4,4,7\n", "2 columns named 'e': add --exclude e", "--exclude e"),
        (",y\n1,2\n2,3\n3,7\n", "no column with a name besides 'y' to fit from: add --features index",
         "--features index"),
    ],
)  # fmt: skip
def test_all_that_is_wrong_is_named_with_the_option_that_helps(run, data, message, fits):
    import shlex

    result = run(data)
    assert (result.status, result.out) == (2, "") and result.err.count("\n") == 1
    assert message in result.err
    assert run(data, *shlex.split(fits)).status == 0


def test_thousands_that_can_be_nothing_else(run):
    for cells in (["1,234,567", "12,000", "7"], ["1,234.5", "900.25", "8,000.0"], ["1 234", "12 000", "7"]):
        data = "x;y\n" + "".join(f"{cell};{i * i}\n" for i, cell in enumerate(cells))
        result = run(data)
        assert result.status == 0 and "Note: thousands are separated by" in result.err
    assert "x=" not in result.out


@pytest.mark.parametrize("way", ["drop", "mean", "indicator"])
def test_missing_cells(run, way):
    data = "x,kind,y\n1,a,2\n2,,3\nNA,b,5\n4,b,6\n5,b,9\n7,a,8\n"
    found = json.loads(run(data, "--missing", way, "--json").out)
    names = ["x", "kind=b"] if way != "indicator" else ["x", "x=missing", "kind=b", "kind=missing"]
    assert sorted(found["coefficients"]) == sorted(names)
    x, b, y = np.array([1, 2, 3.8, 4, 5, 7]), np.array([0, 1, 1, 1, 1, 0]), np.array([2, 3, 5, 6, 9, 8])
    rows = np.array([0, 3, 4, 5]) if way == "drop" else np.arange(6)
    columns = [x, b, np.ones(6)]
    if way == "indicator":
        columns = [x, np.arange(6) == 2, b - (np.arange(6) == 1), np.arange(6) == 1, np.ones(6)]
    expected = np.linalg.lstsq(np.column_stack(columns)[rows].astype(float), y[rows], rcond=None)[0]
    assert found["coefficients"]["x"] == pytest.approx(expected[0], rel=1e-9)
    assert found["coefficients"]["kind=b"] == pytest.approx(expected[2 if way == "indicator" else 1], rel=1e-9)


BAD = {
    "empty": ("", "is empty"), "blank": ("\n \n", "is empty"),
    "header only": ("x,y\n", "has a header line and no rows"),
    "Parquet without rows": (lambda: written(lambda table, sink: parquet(table[:0], sink)), "no rows of data"),
    "single row": ("x,y\n1,2\n", "has a single row of data"),
    "other capitals": ("x,Y\n1,2\n2,3\n", "capital letters count"),
    "ragged, longer": ("x,y\n1,2\n2,3,4\n", "line 3 has 3 cells, and the header has 2"),
    "ragged, shorter": ('x,"the\ny2",y\n1,2,3\n2\n', "line 4 has 1 cell, and the header has 3"),
    "open quotation": ('x,y\n1,2\n2,"3\n4,5\n', "line 3 cannot be read as CSV"),
    "duplicate target": ("x,y,y\n1,2,3\n2,3,4\n", "2 columns named 'y'"),
    "target only": ("y\n1\n2\n", "no column with a name besides 'y'"),
    "text target of one value": ("x,y\n1,a\n2,a\n", "the target 'y' has one value only, 'a'"),
    "target of dates": ("x,y\n1,2020-01-01\n2,2020-01-02\n", "the target 'y' holds dates"),
    "target among text": ("x,y\n1,2\n2,two\n3,4\n", "the target 'y' holds text among its numbers, 'two' in row 2"),
    "all missing": ("x,y\nNA,NA\n,\n", "'y' has no values"),
    "none": ("x,y\nNA,1\n,2\n", "'x' has no values: add --exclude x"),
    "target all missing": ("x,y\n1,\n2,\n", "the target 'y' has no values"),
    "truncated gzip": (gzip.compress(CSV.encode())[:-9], "is damaged or was cut short"),
    "truncated Parquet": (lambda: written(parquet)[:-20], "is damaged or cannot be read"),
    "truncated Arrow": (lambda: written(ipc)[:300], "is damaged or cannot be read"),
    "truncated Excel": (lambda: excel()[:3000], "is damaged or is no Excel file"),
    "broken JSON": ('{"x": 1, "y": 2}\n{"x": 1,', "is damaged or is no JSON"),
    "binary": (b"\x89PNG\r\n\x1a\n\0\0\1\2", "is neither text nor in a format that is known"),
    "too large to square": ("x,y\n1e200,2\n2,3\n", "column 'x' has numbers up to 1e+200"),
    "too small to square": ("x,y\n1e-200,2\n0,3\n", "column 'x' has numbers that differ by too little"),
    "many texts": ("x,t,y\n" + "".join(f"{i},name {i},{i % 7}\n" for i in range(1500)), "--exclude t"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_bad_tables_are_one_sentence(run, tmp_path, name):
    data, message = BAD[name]
    result = run(data, "--save", "m.json")
    assert (result.status, result.out) == (2, "")
    assert result.err.startswith("Error: data.csv") and result.err.count("\n") == 1
    assert message in result.err
    assert [path.name for path in tmp_path.iterdir()] == ["data.csv"]


def test_names_with_line_breaks_and_folders(run, tmp_path):
    result = run('"a\nb","<c>",y\n1,5,2\n2,3,4\n3,9,7\n4,1,8\n')
    assert result.status == 0 and result.out.startswith("a b ")
    wrong = run(None, target="a\nbc")
    assert wrong.status == 2 and wrong.err.count("\n") == 1
    (tmp_path / "folder").mkdir()
    assert run(None, name="folder").err == "Error: folder is a directory, not a table\n"


def test_types_are_judged_by_all_rows(tmp_path):
    text = "x,y\n" + "1,2\n" * 400_000 + "1.5,2\n"
    (tmp_path / "long.csv").write_text(text)
    assert pa.types.is_floating(tables.read(tmp_path / "long.csv").table.column("x").type)
