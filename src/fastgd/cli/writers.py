"""Predictions as files."""

import csv
import io
import json

from fastgd.data import tables


def as_csv(columns, header=True):
    """CSV with all digits of the numbers."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    if header:
        writer.writerow(columns)
    numbers = [map(repr, v.tolist()) if v.dtype.kind == "f" else v.tolist() for v in columns.values()]
    writer.writerows(zip(*numbers, strict=True))
    return text.getvalue()


def _csv(blocks, file):
    for number, columns in enumerate(blocks):
        file.write(as_csv(columns, header=not number).encode())


def _tables(blocks, file, writer_of):
    """Write blocks by a writer that is made of the file and the first block's schema."""
    table = tables.arrow().table(next(blocks))
    with writer_of(file, table.schema) as writer:
        writer.write_table(table)
        for columns in blocks:
            writer.write_table(tables.arrow().table(columns))


def _parquet(blocks, file):
    from pyarrow import parquet

    _tables(blocks, file, parquet.ParquetWriter)


def _arrow(blocks, file):
    _tables(blocks, file, tables.arrow().ipc.new_file)


def _json_lines(blocks, file):
    for columns in blocks:
        rows = tables.arrow().table(columns).to_pylist()
        file.write("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode())


# By the end of the name: writes an iterator over blocks of columns to a file.
WRITERS = {".csv": _csv, ".parquet": _parquet, ".arrow": _arrow, ".jsonl": _json_lines}
