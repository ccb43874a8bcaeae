"""Tables of numbers in CSV files: names on the first line, then one row for each sample.

The delimiter is a comma, a semicolon or a tab, whichever splits the first line into most names; the text is UTF-8, with
or without a byte order mark. Blank lines are skipped (in a file of one column, only at its end). Columns
that have no name (an index that other programs write) and columns that nobody asked for may hold anything.

NumPy's reader is quick and says little about what it cannot read. So it goes first, where it can, and the csv module
reads again whatever it refused: to find the bad cell, or to read after all what only csv understands.
"""

import array
import csv
import itertools
import math
import os
import typing
import warnings
from pathlib import Path

import numpy as np

DELIMITERS = ",;\t"
SCAN_BYTES = 1 << 20
SHOWN_TEXT = 40
# Marks that other programs put between cells, and what they write where a number is missing.
FOREIGN = {"|": "bars", " ": "spaces", ":": "colons"}
MISSING = ("na", "n/a", "#n/a", "null", "none", "missing", "?", "-", ".")
LEAVE_OUT = "leave out the rows where a number is missing, or fill it in"


class InputError(ValueError):
    """A file, or what was asked of it, that cannot be used. The message is one sentence for whoever gave it."""


class NotANumber(InputError):
    """A cell of the column `column` holds text; `hint` is what is known of how to mend it."""

    def __init__(self, message, column, hint=""):
        super().__init__(f"{message}; {hint}" if hint else message)
        self.column = column
        self.hint = hint


class Table(typing.NamedTuple):
    """Columns of a file: their names, and their values, (rows, columns) in float64."""

    names: list
    values: np.ndarray


def read_columns(path, choose):
    """Read some columns of a CSV file as finite numbers.

    Parameters
    ----------
    path : path-like
    choose : callable
        choose(names) → the names of the columns to read, in the order wanted; `names` are those in the file, unnamed
        columns left out.

    Returns
    -------
    Table
        The chosen columns, of at least one row.

    Raises
    ------
    InputError
        The file cannot be read, has no rows, lacks a column or has it twice, has rows of different lengths, or a cell
        of a chosen column that is not a finite number; lines are counted as an editor shows them.
    """
    path = Path(path)
    if path.is_dir():
        raise InputError(f"{path} is a directory, not a CSV file")
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            return _read(file, path, choose)
    except UnicodeDecodeError as error:
        raise InputError(f"{path}{_undecodable_line(path)} is not UTF-8 text; save it as CSV in UTF-8") from error
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}") from error


def _read(file, path, choose):
    head = _first_lines(file)
    if not head:
        raise InputError(f"{path} is empty")
    if "\0" in head[-1]:
        raise InputError(f"{path} is not a text file")
    delimiter = _delimiter(head[-1])
    records = _records(itertools.chain(head, file), delimiter, path)
    _, header_end, header = next(record for record in records if any(record[2]))
    header = [name.strip() for name in header]
    names = choose([name for name in header if name])
    columns = [_position(name, header, path) for name in names]
    values = None
    # A pipe cannot be read twice, and in a file of one column a blank line may be a missing number.
    if path.is_file() and len(header) > 1:
        values = _read_quickly(path, header_end, delimiter, len(header), columns)
    if values is None:
        values = _read_thoroughly(records, header, columns, path)
    if not len(values):
        raise InputError(f"{path} has a header line and no rows of data")
    return Table(names, values)


# -------------------------------------------------------------------------------------------------------- the header


def _first_lines(file):
    """The lines up to the first that is not blank, or none if there is no such line."""
    head = []
    for line in file:
        head.append(line)
        if line.strip(DELIMITERS + " \r\n"):
            return head
    return []


def _delimiter(line):
    """The mark that splits a line into most cells; a comma where none does."""
    widths = {}
    for mark in DELIMITERS:
        # A quoted name may hold a delimiter, so cells are counted, not characters.
        widths[mark] = len(next(csv.reader([line], delimiter=mark)))
    return max(widths, key=widths.get)  # the first of equals


def _position(name, header, path):
    """Where a column is."""
    found = header.count(name)
    if found > 1:
        raise InputError(f"{path} has {found} columns named {name!r}; names must be distinct")
    if not found:
        names = ", ".join(repr(other) for other in header if other)
        raise InputError(f"{path} has no column {name!r}; it has {names}{_why_absent(name, header)}")
    return header.index(name)


def _why_absent(name, header):
    """What is likely to be wrong with a name or a header, in brackets; nothing where it is not known."""
    if all(map(_is_number, header)):
        return " (the first line must hold the names)"
    if len(header) == 1:
        for mark, what in FOREIGN.items():
            if name in (part.strip() for part in header[0].split(mark)):
                return f" (cells are separated by commas, semicolons or tabs, and here by {what})"
    for other in header:
        if other.casefold() == name.casefold():
            return " (capital letters count)"
    return ""


# -------------------------------------------------------------------------------------------------------------- rows


def _read_quickly(path, header_end, delimiter, width, columns):
    """The columns as NumPy's reader finds them, (rows, columns); None where it finds anything amiss."""
    with path.open("rb") as file:
        quotes = sum(block.count(b'"') for block in iter(lambda: file.read(SCAN_BYTES), b""))
    if quotes:  # it would take a quotation that is never closed for text up to the end of the file
        return None
    # All cells count towards the length of a row, and those of other columns are not kept.
    fields = [(f"f{i}", np.float64 if i in columns else "U1") for i in range(width)]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # no rows of data
            rows = np.loadtxt(
                os.path.abspath(path),  # never taken for an address on the web
                dtype=fields, delimiter=delimiter, skiprows=header_end, comments=None, encoding="utf-8-sig", ndmin=1,
            )  # fmt: skip
    except (ValueError, OSError):
        return None
    values = np.column_stack([rows[f"f{i}"] for i in columns])
    return values if np.isfinite(values).all() else None


def _read_thoroughly(records, header, columns, path):
    """The same from the records, or an error that names the cell."""
    values = array.array("d")
    gap = None
    for line, _, row in records:
        if not any(cell.strip() for cell in row):
            # A blank line is nothing, unless it has cells or is one.
            if gap is None and (len(row) > 1 or len(header) == 1):
                gap = line
            continue
        if gap is not None:
            raise InputError(f"{path}, line {gap} is empty, and rows follow it")
        if len(row) != len(header):
            cells = f"{len(row)} cell{'s' * (len(row) != 1)}"
            raise InputError(f"{path}, line {line} has {cells}, and the header has {len(header)}")
        values.extend(_number(row[i], header[i], line, path) for i in columns)
    return np.array(values).reshape(-1, len(columns))


def _records(lines, delimiter, path):
    """The first line, the last line and the cells of each record."""
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    first = 1
    try:
        for row in reader:
            yield first, reader.line_num, row
            first = reader.line_num + 1
    except csv.Error as error:
        raise InputError(f"{path}, line {first} cannot be read as CSV: {error}") from error


def _number(text, column, line, path):
    """The number in a cell, or an error that says where it is and what it holds."""
    try:
        number = float(text)
        if math.isfinite(number) and "_" not in text:
            return number
    except ValueError:
        pass
    where = f"{path}, line {line}, column {column!r}"
    if not text.strip():
        raise InputError(f"{where} is empty; {LEAVE_OUT}")
    if text.strip().casefold() == "nan":
        raise InputError(f"{where} is not a finite number: {text.strip()!r}; {LEAVE_OUT}")
    if _is_number(text):
        raise InputError(f"{where} is not a finite number: {text.strip()!r}")
    shown = text if len(text) <= SHOWN_TEXT else text[: SHOWN_TEXT - 1] + "…"
    hint = ""
    if _is_number(text.replace(",", ".")):
        hint = "decimals are written with a point"
    elif text.strip().casefold() in MISSING:
        hint = LEAVE_OUT
    raise NotANumber(f"{where} is not a number: {shown!r}", column, hint)


def _is_number(text):
    try:
        float(text)
    except ValueError:
        return False
    return "_" not in text  # Python's own notation


def _undecodable_line(path):
    """Where in a file the first byte is that is not UTF-8, in words; nothing for a pipe."""
    if not path.is_file():
        return ""
    data = path.read_bytes()
    try:
        data.decode()
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        return f", line {line}"
    return ""
