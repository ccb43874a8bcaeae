"""Tables of any kind as Arrow tables (extra "arrow"): files by what is in them, frames by the Arrow C stream.

A file is recognised by its first bytes: gzip, bzip2 or zstd around it; Parquet, Arrow IPC, Excel (extra "excel"), JSON,
or text in columns. Of text the encoding, the separator and the decimal mark are found from the content where they are
not given, and `Read.notes` says what was assumed.
"""

import codecs
import contextlib
import csv
import functools
import glob
import io
import json
import os
import re
import sys
import typing
from pathlib import Path

from fastgd.errors import import_extra

SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars", " ": "spaces"}
# Cells that say that a value is missing: in any column, and beside those in columns of numbers.
MISSING = ("", "NA", "N/A", "n/a", "#N/A", "NaN", "nan", "NULL", "null")
MISSING_NUMBERS = (*MISSING, "na", "None", "none", "missing", "?", "-", "--", ".")
NUMBER = r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$"
COMPRESSED = {b"\x1f\x8b": "gzip", b"BZh": "bz2", b"\x28\xb5\x2f\xfd": "zstd"}
# What a first column without a name is called, such as rows' names of other programs; no feature unless asked for.
INDEX = "index"
DATES = ("%Y/%m/%d", "%Y/%m/%d %H:%M", "%Y/%m/%d %H:%M:%S")  # beside ISO 8601
HEAD = 1 << 16  # letters that the separator is judged by


class TableError(ValueError):
    """A table that cannot be used. The message is one sentence for whoever gave it."""


class Read(typing.NamedTuple):
    """A pyarrow Table, and a sentence for each thing that was assumed."""

    table: typing.Any
    notes: list


def arrow(purpose="a table that is no array"):
    """The module pyarrow, or an error that names the extra."""
    return import_extra("pyarrow", "arrow", purpose)


def is_frame(X):
    """Whether X is a table of named columns that Arrow can read: of pandas, polars, pyarrow and others."""
    return hasattr(X, "__arrow_c_stream__")


def frame(X, name="X"):
    """The columns of a frame as a pyarrow Table; an index is not among them."""
    pa = arrow("a frame with columns that are not numbers")
    try:
        if hasattr(X, "iloc"):  # an index would become a column
            X = pa.Table.from_pandas(X.rename(columns=str), preserve_index=False)
        table = _plain_text(pa.table(X))
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError, TypeError) as error:
        why = " ".join(str(error.args[0] if error.args else error).split())
        where = f" ({error.args[-1]})" if len(error.args) > 1 else ""
        raise TableError(f"{name} has a column that is neither numbers nor text: {why}{where}") from None
    return _named(table, name, [])


def _plain_text(table):
    """The same with all text, and the levels of categories, in the one type of text that has every function."""
    pa, types = arrow(), arrow().types
    for i, column in enumerate(table.columns):
        kind = column.type
        inner = kind.value_type if types.is_dictionary(kind) else kind
        if not (types.is_string(inner) or types.is_large_string(inner) or types.is_string_view(inner)):
            continue
        chunks = column.chunks
        if inner is not kind:
            chunks = [
                pa.DictionaryArray.from_arrays(c.indices, c.dictionary.cast(pa.string())).dictionary_decode()
                for c in chunks
            ]
        chunks = [chunk.cast(pa.string()) for chunk in chunks]
        table = table.set_column(i, table.column_names[i], pa.chunked_array(chunks, pa.string()))
    return table


def read(source, *, separator=None, decimal=None, thousands=None, encoding=None):
    """Read a table from a file.

    Parameters
    ----------
    source : path-like
        "-" is standard input.
    separator, decimal, thousands, encoding : str, optional
        Of text; found from the content without them.

    Returns
    -------
    Read

    Raises
    ------
    TableError
        The file cannot be read, is damaged, or holds no rows of named columns.
    """
    where = "standard input" if str(source) == "-" else str(source)
    data = _contents(source, where)
    pa = arrow(f"reading {where}")
    for magic, codec in COMPRESSED.items():
        if data.startswith(magic):
            try:
                data = pa.CompressedInputStream(pa.BufferReader(data), codec).read()
            except (OSError, pa.ArrowInvalid) as error:
                raise TableError(f"{where} is damaged or was cut short: {_line(error)}") from None
    if not data.strip():
        raise TableError(f"{where} is empty")
    notes = []
    try:
        table = _arrow_file(data, where) or _json(data, where) or _text(
            data, where, notes, {"separator": separator, "decimal": decimal, "thousands": thousands}, encoding
        )  # fmt: skip
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, OSError) as error:
        raise TableError(f"{where} is damaged or cannot be read: {_line(error)}") from None
    table = _plain_text(_named(table, where, notes))
    if not table.num_rows:
        raise TableError(f"{where} has a header line and no rows of data")
    return Read(table, notes)


def read_all(source):
    """A pyarrow Table of a file, of a folder or pattern of files, of a dataset, or of a frame."""
    pa = arrow("fastgd.data.scan")
    if is_frame(source):
        return frame(source, "source")
    if hasattr(source, "to_table"):
        return _plain_text(_named(source.to_table(), "source", []))
    if not isinstance(source, (str, os.PathLike)):
        raise TypeError(
            "source must be a path or pattern of files, a pyarrow dataset or a table that Arrow can read; got "
            f"{type(source).__name__}"
        )
    path = Path(source)
    paths = [path]
    if path.is_dir():
        paths = sorted(p for p in path.rglob("*") if p.is_file() and not p.name.startswith((".", "_")))
    elif not path.exists() and glob.has_magic(str(path)):
        paths = sorted(map(Path, glob.glob(str(path), recursive=True)))
    if not paths:
        raise TableError(f"{source} holds no files")
    try:
        return pa.concat_tables([read(p).table for p in paths], promote_options="permissive")
    except pa.ArrowInvalid as error:
        raise TableError(f"the files of {source} have different columns: {_line(error)}") from None


def _line(error):
    return " ".join(str(error).split())[:200]


def _contents(source, where):
    try:
        if str(source) == "-":
            return sys.stdin.buffer.read()
        path = Path(source)
        if path.is_dir():
            raise TableError(f"{where} is a directory, not a table")
        return path.read_bytes()
    except OSError as error:
        raise TableError(f"{where} cannot be read: {error.strerror or error}") from None
    except ValueError as error:
        if isinstance(error, TableError):
            raise
        raise TableError(f"{where} cannot be read: {error}") from None


# ------------------------------------------------------------------------------------------------------ binary formats


def _arrow_file(data, where):
    """The table of a Parquet, Arrow or Excel file; None for another."""
    pa = arrow()
    if data.startswith(b"PAR1"):
        from pyarrow import parquet

        return parquet.ParquetFile(pa.BufferReader(data)).read()
    if data.startswith(b"ARROW1"):
        return pa.ipc.open_file(pa.BufferReader(data)).read_all()
    if data.startswith(b"\xff\xff\xff\xff"):
        return pa.ipc.open_stream(pa.BufferReader(data)).read_all()
    if data.startswith((b"PK\x03\x04", b"\xd0\xcf\x11\xe0")):
        return _excel(data, where)
    return None


def _excel(data, where):
    calamine = import_extra("python_calamine", "excel", f"reading {where}, an Excel file,")
    try:
        rows = calamine.CalamineWorkbook.from_filelike(io.BytesIO(data)).get_sheet_by_index(0).to_python()
    except Exception as error:  # whatever the bytes lead its reader to
        raise TableError(f"{where} is damaged or is no Excel file: {_line(error)}") from None
    if not rows:
        raise TableError(f"{where} has nothing on its first sheet")
    header = [str(cell).strip() for cell in rows[0]]
    return _of_objects(header, [[None if cell == "" else cell for cell in column] for column in zip(*rows[1:])])  # noqa: B905


def _json(data, where):
    """The table of JSON lines, or of a list of records; None for what is no JSON."""
    start = data.lstrip(b"\xef\xbb\xbf \t\r\n")[:1]
    if start not in (b"{", b"["):
        return None
    pa = arrow()
    if start == b"{" and data.strip().count(b"\n"):
        from pyarrow import json as reader

        try:
            return reader.read_json(pa.BufferReader(data))
        except pa.ArrowInvalid:  # one object over several lines, or columns of several types
            pass
    try:
        content = json.loads(data)
    except ValueError:
        try:
            content = [json.loads(line) for line in data.splitlines() if line.strip()]
        except ValueError as error:
            raise TableError(f"{where} is damaged or is no JSON: {_line(error)}") from None
    if isinstance(content, dict) and all(isinstance(values, list) for values in content.values()):
        return _of_objects(list(content), list(content.values()))
    if not isinstance(content, list) or not all(isinstance(row, dict) for row in content):
        raise TableError(f"{where} is JSON, and neither lines nor a list of records with named fields")
    names = list(dict.fromkeys(name for row in content for name in row))
    return _of_objects(names, [[row.get(name) for row in content] for name in names])


def _of_objects(names, columns):
    """A table of Python values; a column of several types becomes text."""
    pa = arrow()
    made = []
    for values in columns:
        try:
            made.append(pa.array(values))
        except (pa.ArrowInvalid, pa.ArrowTypeError):
            made.append(pa.array([None if value is None else str(value) for value in values]))
    if len(made) != len(names):
        raise TableError("columns and names do not have the same number")
    return pa.table(made, names=names)


# ----------------------------------------------------------------------------------------------------------------- text


def _text(data, where, notes, marks, encoding):
    """The table of text in columns, the first line of which has their names."""
    text = _decoded(data, where, notes, encoding).lstrip("\ufeff")
    separator = marks["separator"] or _separator(text)
    separator = "\t" if separator in ("\\t", "tab") else separator
    if len(separator) != 1:
        raise TableError(f"the separator must be one character; got {separator!r}")
    if separator != "," and marks["separator"] is None:
        notes.append(f"columns are separated by {SEPARATORS[separator]} (--separator)")
    if separator == " ":
        text = _without_runs(text)
    names, body, line = _header(text, separator, where)
    if not body.strip():
        raise TableError(f"{where} has a header line and no rows of data")
    if all(re.match(NUMBER, name) for name in names):
        names, body, line = [f"column_{i + 1}" for i in range(len(names))], text, 1
        notes.append("the first line holds numbers, not names: the columns are column_1, column_2, …")
    elif len(next(csv.reader(io.StringIO(body), delimiter=separator), names)) == len(names) + 1:
        names = ["", *names]  # names of rows, as R writes them
    parse = functools.partial(_parsed, body, where, names, separator, line)
    decimal, thousands = marks["decimal"], marks["thousands"]
    table = parse(decimal or ".")
    if decimal is None and thousands is None:
        decimal = _decimal(table)
        if decimal == ",":
            table = parse(",")
            notes.append("decimals are written with a comma (--decimal)")
        thousands = _thousands(table, decimal)
        if thousands is not None:
            notes.append(f"thousands are separated by {thousands!r} (--thousands)")
    return _with_numbers(table, decimal or ".", thousands)


def _decoded(data, where, notes, encoding):
    if encoding is not None:
        try:
            return data.decode(encoding)
        except (LookupError, UnicodeError) as error:
            raise TableError(f"{where} is not text in the encoding {encoding!r}: {_line(error)}") from None
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        guesses = ("utf-16",)
    elif b"\0" in data[:200]:
        guesses = ("utf-16-le" if data[1:2] == b"\0" else "utf-16-be",)
    else:
        guesses = ("utf-8", "cp1252", "latin-1")
    for guess in guesses:
        with contextlib.suppress(UnicodeError):
            text = data.decode(guess)
            if "\0" in text[:HEAD]:
                break
            if guess != "utf-8":
                notes.append(f"the text is read as {guess} (--encoding)")
            return text
    raise TableError(f"{where} is neither text nor in a format that is known")


def _separator(text):
    """The mark that splits all of the first lines into equally many cells; of several the one that makes most.

    A space is taken only where no other mark does, and a comma where none does.
    """
    lines = [line.strip(" \r\n") for line in text[:HEAD].splitlines() if line.strip()]
    lines = lines[:-1] if len(text) > HEAD else lines  # the last is cut short
    found = []
    for mark in SEPARATORS:
        with contextlib.suppress(csv.Error):
            widths = [len(row) for row in csv.reader(lines, delimiter=mark, skipinitialspace=True)]
            even = len(set(widths[1:])) <= 1 and widths[-1] - widths[0] in (0, 1) and widths[-1] > 1
            found.append((even and mark != " ", even, 0 if mark == " " and not even else widths[0], mark))
    return max(found, key=lambda f: f[:3], default=(",",))[-1]


def _without_runs(text):
    """The same with one space between cells."""
    out = io.StringIO()
    rows = csv.reader((line.strip() for line in io.StringIO(text)), delimiter=" ", skipinitialspace=True)
    csv.writer(out, delimiter=" ", lineterminator="\n").writerows(rows)
    return out.getvalue()


def _header(text, separator, where):
    """The names, the text after them, and the number of its first line."""
    buffer = io.StringIO(text, newline="")
    reader = csv.reader(buffer, delimiter=separator, skipinitialspace=True)
    try:
        names = next((row for row in reader if any(cell.strip() for cell in row)), [])
    except csv.Error as error:
        raise TableError(f"{where}, line {reader.line_num} cannot be read as CSV: {error}") from None
    return [name.strip() for name in names], buffer.read(), reader.line_num + 1


def _parsed(body, where, names, separator, line, decimal):
    """The table, text columns as they stand."""
    pa = arrow()
    from pyarrow import csv as reader

    data = body.encode()
    if body.count('"') % 2 and (wrong := _ragged(body, where, names, separator, line)):
        raise TableError(wrong)  # it would take a quotation that is never closed for text up to the end
    try:
        return reader.read_csv(
            pa.BufferReader(data),
            # Types are judged by the first block.
            read_options=reader.ReadOptions(column_names=names, block_size=min(len(data) + 1, (1 << 31) - 1)),
            parse_options=reader.ParseOptions(delimiter=separator, newlines_in_values='"' in body),
            convert_options=reader.ConvertOptions(
                null_values=MISSING_NUMBERS, decimal_point=decimal, timestamp_parsers=[reader.ISO8601, *DATES]
            ),
        )
    except pa.ArrowInvalid as error:
        raise TableError(_ragged(body, where, names, separator, line) or f"{where}: {_line(error)}") from None


def _ragged(body, where, names, separator, line):
    """A sentence about the first row that has not as many cells as the header, or None."""
    rows = csv.reader(io.StringIO(body, newline=""), delimiter=separator, strict=True)
    start = 0
    try:
        for row in rows:
            if row and len(row) != len(names):
                cells = f"{len(row)} cell{'s' * (len(row) != 1)}"
                return f"{where}, line {line + start} has {cells}, and the header has {len(names)}"
            start = rows.line_num
    except csv.Error as error:
        return f"{where}, line {line + start} cannot be read as CSV: {error}"
    return None


# ----------------------------------------------------------------------------------------------------- marks in numbers


def _texts(table):
    """(position, column) of the columns of text."""
    pa = arrow()
    return [(i, column) for i, column in enumerate(table.columns) if pa.types.is_string(column.type)]


def _marked(table):
    """The different cells of the columns that hold nothing but digits and marks between them."""
    for _, column in _texts(table):
        cells = [cell.strip() for cell in column.unique().to_pylist() if cell is not None]
        cells = [cell for cell in cells if cell not in MISSING_NUMBERS]
        if cells and all(re.fullmatch(r"[+-]?\d[\d., \u00a0'’]*", cell) for cell in cells):
            yield cells


def _decimal(table):
    """A comma where some number can be read in no other way, else a point."""
    pa = arrow()
    if any(pa.types.is_floating(column.type) for column in table.columns):
        return "."
    cells = [cell for column in _marked(table) for cell in column]
    comma = any(re.fullmatch(r"[+-]?(\d+|\d{1,3}([.  '’]\d{3})+),(\d{1,2}|\d{4,})", cell) for cell in cells)
    comma |= any(re.fullmatch(r"[+-]?\d{1,3}(\.\d{3})+,\d+", cell) for cell in cells)
    return "," if comma and not any(re.fullmatch(r".*,\d{3}(,|\.).*", cell) for cell in cells) else "."


def _thousands(table, decimal):
    """The mark between thousands, where it can be nothing else; None without one."""
    pa = arrow()
    sure = decimal == "," or any(pa.types.is_floating(column.type) for column in table.columns)
    for cells in _marked(table):
        for mark in ("." if decimal == "," else ",", " ", "\u00a0", "'", "’"):
            m, d = re.escape(mark), re.escape(decimal)
            if not all(re.fullmatch(rf"[+-]?(\d+|\d{{1,3}}({m}\d{{3}})+)({d}\d+)?", cell) for cell in cells):
                continue
            if not any(mark in cell for cell in cells):
                continue
            # "2,757" alone may also be a decimal.
            if sure or mark not in ".," or any(re.search(rf"{m}\d{{3}}{m}|{m}\d{{3}}{d}", cell) for cell in cells):
                return mark
    return None


def _with_numbers(table, decimal, thousands):
    """The same table: text without spaces around it, missing cells as such, and text that is numbers as numbers."""
    pa = arrow()
    import pyarrow.compute as pc

    for i, column in _texts(table):
        cells = pc.utf8_trim_whitespace(column)
        cells = pc.if_else(pc.is_in(cells, pa.array(MISSING)), None, cells)
        if thousands is not None or decimal != ".":
            m, d = re.escape(thousands or ""), re.escape(decimal)
            groups = rf"\d{{1,3}}({m}\d{{3}})+|" if m else ""
            numbers = pc.if_else(pc.is_in(cells, pa.array(MISSING_NUMBERS)), None, cells)
            if pc.all(pc.match_substring_regex(numbers, rf"^[+-]?({groups}\d+)?({d}\d+)?$")).as_py():
                numbers = pc.replace_substring(numbers, thousands, "") if thousands else numbers
                cells = pc.cast(pc.replace_substring(numbers, decimal, "."), pa.float64())
        table = table.set_column(i, table.column_names[i], cells)
    return table


# ---------------------------------------------------------------------------------------------------------------- names


def _named(table, where, notes):
    """The same with names without spaces around them; without a name the first is called INDEX, others are left out."""
    names = [str(name).strip() for name in table.column_names]
    names = ["" if name == "Unnamed: 0" else name for name in names]
    if not any(names):
        raise TableError(f"{where} has no columns with names")
    if not names[0] and INDEX not in names:
        names[0] = INDEX
    kept = [i for i, name in enumerate(names) if name]
    if len(kept) < len(names):
        notes.append("columns without names are left out")
    return table.select(kept).rename_columns([names[i] for i in kept])


def check_names(table, names, where, once=True):
    """Refuse names that a table does not have, or with `once` has more than once."""
    has = table.column_names
    absent = [name for name in dict.fromkeys(names) if name not in has]
    if absent:
        known = ", ".join(map(repr, has[:30])) + (f" and {len(has) - 30} more" if len(has) > 30 else "")
        close = {name.casefold(): name for name in has}
        hint = " (capital letters count)" if any(name.casefold() in close for name in absent) else ""
        columns = ", ".join(map(repr, absent))
        raise TableError(f"{where} has no column {columns}; it has {known}{hint}")
    twice = [name for name in dict.fromkeys(names) if has.count(name) > 1]
    if twice and once:
        columns = " and ".join(f"{has.count(name)} columns named {name!r}" for name in twice)
        raise TableError(f"{where} has {columns}; names must be distinct")
