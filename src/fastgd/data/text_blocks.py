"""Text in columns, read in blocks: its beginning decides on encoding, separator, marks and types."""

import csv
import io
import re

from fastgd.data import readers, tables, text
from fastgd.data.tables import TableError, arrow

# Bytes that the layout is judged by, and that are parsed at a time.
BLOCK = 1 << 20


def text_part(where, marks):
    """(schema, function that iterates over record batches of some columns) of a file of text in columns."""
    pa = arrow()
    from pyarrow import csv as reader

    try:
        with pa.input_stream(where, compression="detect") as file:
            head = file.read(BLOCK)
    except (OSError, pa.ArrowInvalid) as error:
        raise TableError(readers.cannot(where, error)) from None
    if not head.strip():
        raise TableError(f"{where} is empty")
    if len(head) == BLOCK:
        head = head[: head.rfind(b"\n") + 1]
    table, skipped, encoding, separator, decimal = _layout(head, where, marks)
    types = {field.name: _type(field.type) for field in table.schema}

    def batches(names):
        columns = [name for name in names if name in types]
        convert = reader.ConvertOptions(
            column_types={name: types[name] for name in columns}, include_columns=columns,
            null_values=tables.MISSING_NUMBERS, decimal_point=decimal,
            timestamp_parsers=[reader.ISO8601, "%Y/%m/%d", "%Y/%m/%d %H:%M", "%Y/%m/%d %H:%M:%S"],
        )  # fmt: skip
        read = reader.ReadOptions(
            column_names=table.column_names, skip_rows=skipped, block_size=BLOCK, encoding=encoding, use_threads=False
        )
        parse = reader.ParseOptions(delimiter=separator, newlines_in_values=b'"' in head)
        row = 0
        with pa.input_stream(where, compression="detect") as file:
            try:
                for batch in reader.open_csv(file, read, parse, convert):
                    row += len(batch)
                    found = text._with_numbers(pa.Table.from_batches([batch]), ".", None)
                    yield from found.combine_chunks().to_batches()
            except pa.ArrowInvalid as error:
                raise TableError(f"{where}, after row {row}: {tables.one_line(error)}") from None

    return pa.schema(list(types.items())), batches


def _type(kind):
    """The type that a column is read in: every number as a float, as later ones may have decimals."""
    pa = arrow()
    if pa.types.is_integer(kind) or pa.types.is_floating(kind):
        return pa.float64()
    return pa.string() if pa.types.is_null(kind) else kind


def _layout(head, where, marks):
    """(the table of the beginning, lines before its first row, encoding, separator, decimal mark)."""
    text._decoded(head, where, [], marks.get("encoding"))  # or an error
    guesses = [marks["encoding"]] if marks.get("encoding") else ["utf-8", "cp1252", "latin-1"]
    encoding = next(guess for guess in guesses if _decodes(head, guess))
    whole = "which is read into memory whole: leave out memory_limit, or make it Parquet"
    content = head.decode(encoding).lstrip("\ufeff")
    if "\0" in content:
        raise TableError(f"{where} is text in UTF-16, {whole}")
    separator = marks.get("separator") or text._separator(content)
    separator = "\t" if separator in ("\\t", "tab") else separator
    names, body, line = text._header(content, separator, where)
    if separator == " " or marks.get("thousands"):
        raise TableError(f"{where} has cells between runs of spaces, or marks between thousands, {whole}")
    if not body.strip():
        raise TableError(f"{where} has a header line and no rows of data")
    if all(re.match(tables.NUMBER, name) for name in names):
        names, body, line = [f"column_{i + 1}" for i in range(len(names))], content, 1
    elif len(next(csv.reader(io.StringIO(body), delimiter=separator), names)) == len(names) + 1:
        names = ["", *names]  # names of rows, as R writes them
    names[0] = names[0] or tables.INDEX
    decimal = marks.get("decimal") or "."
    table = text._parsed(body, where, names, separator, line, decimal)
    if not marks.get("decimal") and (decimal := text._decimal(table)) == ",":
        table = text._parsed(body, where, names, separator, line, ",")
    if text._thousands(table, decimal) is not None:
        raise TableError(f"{where} has marks between thousands, {whole}")
    return text._with_numbers(table, decimal, None), line - 1, encoding, separator, decimal


def _decodes(data, encoding):
    try:
        data.decode(encoding)
    except UnicodeError:
        return False
    return True
