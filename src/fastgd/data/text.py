"""Text in columns as Arrow tables: encoding, separator and marks in numbers are found where they are not given."""

import codecs
import contextlib
import csv
import functools
import io
import re

from fastgd.data.tables import MISSING, MISSING_NUMBERS, NUMBER, TableError, arrow, one_line

SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars", " ": "spaces"}


def parsed(data, where, notes, separator, decimal, thousands, encoding):
    """The table of text in columns, the first line of which has their names."""
    text = _decoded(data, where, notes, encoding).lstrip("\ufeff")
    given, separator = separator, separator or _separator(text)
    separator = "\t" if separator in ("\\t", "tab") else separator
    if len(separator) != 1:
        raise TableError(f"the separator must be one character; got {separator!r}")
    if separator != "," and given is None:
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
            raise TableError(f"{where} is not text in the encoding {encoding!r}: {one_line(error)}") from None
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        guesses = ("utf-16",)
    elif b"\0" in data[:200]:
        guesses = ("utf-16-le" if data[1:2] == b"\0" else "utf-16-be",)
    else:
        guesses = ("utf-8", "cp1252", "latin-1")
    for guess in guesses:
        with contextlib.suppress(UnicodeError):
            text = data.decode(guess)
            if "\0" in text[: 1 << 16]:
                break
            if guess != "utf-8":
                notes.append(f"the text is read as {guess} (--encoding)")
            return text
    raise TableError(f"{where} is neither text nor in a format that is known")


def _separator(text):
    """The mark that splits all of the first lines into the same number of cells; of several, that with the most cells.

    A space is taken only where no other mark does, and a comma where none does.
    """
    head = text[: 1 << 16]
    lines = [line.strip(" \r\n") for line in head.splitlines() if line.strip()]
    lines = lines[:-1] if len(text) > len(head) else lines  # the last is cut short
    found = []
    for mark in SEPARATORS:
        with contextlib.suppress(csv.Error):
            widths = [len(row) for row in csv.reader(lines, delimiter=mark, skipinitialspace=True)]
            even = len(set(widths[1:])) <= 1 and widths[-1] - widths[0] in (0, 1) and widths[-1] > 1
            found.append((even and mark != " ", even, 0 if mark == " " and not even else widths[0], mark))
    return max(found, key=lambda f: f[:3], default=(",",))[-1]


def _without_runs(text):
    """Replace runs of spaces between cells by one space."""
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
        raise TableError(wrong)  # pyarrow would read everything after an unclosed quotation mark as one cell
    try:
        return reader.read_csv(
            pa.BufferReader(data),
            # Types are judged by the first block.
            read_options=reader.ReadOptions(column_names=names, block_size=min(len(data) + 1, (1 << 31) - 1)),
            parse_options=reader.ParseOptions(delimiter=separator, newlines_in_values='"' in body),
            convert_options=reader.ConvertOptions(
                null_values=MISSING_NUMBERS,
                decimal_point=decimal,
                timestamp_parsers=[reader.ISO8601, "%Y/%m/%d", "%Y/%m/%d %H:%M", "%Y/%m/%d %H:%M:%S"],
            ),
        )
    except pa.ArrowInvalid as error:
        raise TableError(_ragged(body, where, names, separator, line) or f"{where}: {one_line(error)}") from None


def _ragged(body, where, names, separator, line):
    """The error for the first row whose number of cells is not that of the header, or None."""
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
    """The decimal mark: a comma if some number is valid in no other reading, else a point."""
    pa = arrow()
    if any(pa.types.is_floating(column.type) for column in table.columns):
        return "."
    cells = [cell for column in _marked(table) for cell in column]
    comma = any(re.fullmatch(r"[+-]?(\d+|\d{1,3}([.  '’]\d{3})+),(\d{1,2}|\d{4,})", cell) for cell in cells)
    comma |= any(re.fullmatch(r"[+-]?\d{1,3}(\.\d{3})+,\d+", cell) for cell in cells)
    return "," if comma and not any(re.fullmatch(r".*,\d{3}(,|\.).*", cell) for cell in cells) else "."


def _thousands(table, decimal):
    """The thousands separator if no other reading is possible, or None."""
    pa = arrow()
    sure = decimal == "," or any(pa.types.is_floating(column.type) for column in table.columns)
    for cells in _marked(table):
        for mark in ("." if decimal == "," else ",", " ", "\u00a0", "'", "’"):
            m, d = re.escape(mark), re.escape(decimal)
            grouped = rf"[+-]?(\d+|\d{{1,3}}({m}\d{{3}})+)({d}\d+)?"
            if not (any(mark in cell for cell in cells) and all(re.fullmatch(grouped, cell) for cell in cells)):
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
