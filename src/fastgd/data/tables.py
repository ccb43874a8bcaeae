"""Tables of any kind as Arrow tables (extra "arrow"): files by what is in them, frames by the Arrow C stream.

A file is recognised by its first bytes: gzip, bzip2 or zstd around it; Parquet, Arrow IPC, Excel (extra "excel"), JSON,
or text in columns. Of text the encoding, the separator and the decimal mark are found from the content where they are
not given, and `Read.notes` says what was assumed.
"""

import glob
import io
import json
import os
import sys
import typing
from pathlib import Path

from fastgd.errors import import_extra

# Cells that say that a value is missing: in any column, and beside those in columns of numbers.
MISSING = ("", "NA", "N/A", "n/a", "#N/A", "NaN", "nan", "NULL", "null")
MISSING_NUMBERS = (*MISSING, "na", "None", "none", "missing", "?", "-", "--", ".")
NUMBER = r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$"
# Name of a first column without a name (row labels of other programs); a feature only if it is listed.
INDEX = "index"


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


def is_query(X):
    """Whether X is a LazyFrame of polars."""
    return hasattr(X, "collect_batches")


def answer(query):
    """The frame of a LazyFrame; TableError with the reason where it fails."""
    try:
        return query.collect()
    except Exception as error:  # polars has a class of its own for each
        reason = str(error).partition("\n")[0]  # the plan of the query follows
        raise TableError(f"source: the query fails: {reason}") from None


def frame(X, name="X"):
    """The columns of a frame as a pyarrow Table; an index is not among them."""
    pa = arrow("a frame with columns that are not numbers")
    try:
        if hasattr(X, "iloc"):  # an index would become a column
            X = pa.Table.from_pandas(X.rename(columns=str), preserve_index=False)
        table = plain_text(pa.table(X))
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError, TypeError) as error:
        why = " ".join(str(error.args[0] if error.args else error).split())
        where = f" ({error.args[-1]})" if len(error.args) > 1 else ""
        raise TableError(f"{name} has a column that is neither numbers nor text: {why}{where}") from None
    return _named(table, name, [])


def plain_text(table):
    """Convert all text, and the levels of categories, to the string type that all compute functions support."""
    pa, types = arrow(), arrow().types
    for i, column in enumerate(table.columns):
        is_category = types.is_dictionary(column.type)
        kind = column.type.value_type if is_category else column.type
        if types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind):
            chunks = [c.dictionary.cast(pa.string()).take(c.indices) if is_category else c for c in column.chunks]
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
    for magic, codec in {b"\x1f\x8b": "gzip", b"BZh": "bz2", b"\x28\xb5\x2f\xfd": "zstd"}.items():
        if data.startswith(magic):
            try:
                data = pa.CompressedInputStream(pa.BufferReader(data), codec).read()
            except (OSError, pa.ArrowInvalid) as error:
                raise TableError(f"{where} is damaged or was cut short: {one_line(error)}") from None
    if not data.strip():
        raise TableError(f"{where} is empty")
    from fastgd.data import text

    notes = []
    try:
        table = _arrow_file(data, where)
        table = _json(data, where) if table is None else table
        if table is None:
            table = text.parsed(data, where, notes, separator, decimal, thousands, encoding)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, OSError) as error:
        raise TableError(f"{where} is damaged or cannot be read: {one_line(error)}") from None
    table = plain_text(_named(table, where, notes))
    if not table.num_rows:
        raise TableError(f"{where} has names of columns and no rows of data")
    return Read(table, notes)


def read_all(source):
    """A pyarrow Table of a file, of a folder or pattern of files, of a dataset, or of a frame."""
    pa = arrow("fastgd.data.scan")
    if is_query(source):
        source = answer(source)
    if is_frame(source):
        return frame(source, "source")
    if hasattr(source, "to_table"):
        return plain_text(_named(source.to_table(), "source", []))
    if not isinstance(source, (str, os.PathLike)):
        raise TypeError(
            "source must be a path or pattern of files, a pyarrow dataset or a table that Arrow can read; got "
            f"{type(source).__name__}"
        )
    paths = paths_of(source)
    try:
        return pa.concat_tables([read(p).table for p in paths], promote_options="permissive")
    except pa.ArrowInvalid as error:
        raise TableError(f"the files of {source} have different columns: {one_line(error)}") from None


def paths_of(source):
    """The files that a path, a folder or a pattern names."""
    path = Path(source)
    paths = [path]
    if path.is_dir():
        paths = sorted(p for p in path.rglob("*") if p.is_file() and not p.name.startswith((".", "_")))
    elif not path.exists() and glob.has_magic(str(path)):
        paths = sorted(map(Path, glob.glob(str(path), recursive=True)))
    if not paths:
        raise TableError(f"{source} holds no files")
    return paths


def listed(names, most=None):
    """Names in a sentence, `most` of them."""
    more = f" and {len(names) - most} more" if most and len(names) > most else ""
    return ", ".join(map(repr, names[:most])) + more


def one_line(error):
    return " ".join(str(error).split())[:200]


def _contents(source, where):
    try:
        if str(source) == "-":
            return sys.stdin.buffer.read()
        if not Path(source).is_dir():
            return Path(source).read_bytes()
    except (OSError, ValueError) as error:
        raise TableError(f"{where} cannot be read: {getattr(error, 'strerror', None) or error}") from None
    raise TableError(f"{where} is a directory, not a table")


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
    except Exception as error:  # damaged bytes may make its reader raise anything
        raise TableError(f"{where} is damaged or is no Excel file: {one_line(error)}") from None
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
            raise TableError(f"{where} is damaged or is no JSON: {one_line(error)}") from None
    if isinstance(content, dict) and all(isinstance(values, list) for values in content.values()):
        return _of_objects(list(content), list(content.values()))
    if not isinstance(content, list) or not all(isinstance(row, dict) for row in content):
        raise TableError(f"{where} is JSON, and neither lines nor a list of records with named fields")
    names = list(dict.fromkeys(name for row in content for name in row))
    return _of_objects(names, [[row.get(name) for row in content] for name in names])


def _of_objects(names, columns):
    """A table of Python values; a column of several types becomes text."""
    pa = arrow()

    def column(values):
        try:
            return pa.array(values)
        except (pa.ArrowInvalid, pa.ArrowTypeError):
            return pa.array([None if value is None else str(value) for value in values])

    made = list(map(column, columns))
    if len(made) != len(names):
        raise TableError("columns and names do not have the same number")
    return pa.table(made, names=names)


# ---------------------------------------------------------------------------------------------------------------- names


def _named(table, where, notes):
    """Strip the names of columns. A first column without a name is called INDEX; others without a name are dropped."""
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
        close = {name.casefold() for name in has} & {name.casefold() for name in absent}
        hint = " (capital letters count)" if close else ""
        raise TableError(f"{where} has no column {listed(absent)}; it has {listed(has, 30)}{hint}")
    twice = [name for name in dict.fromkeys(names) if has.count(name) > 1]
    if twice and once:
        columns = " and ".join(f"{has.count(name)} columns named {name!r}" for name in twice)
        raise TableError(f"{where} has {columns}; names must be distinct")
