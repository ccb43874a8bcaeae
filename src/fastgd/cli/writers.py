"""Predictions as files."""

import csv
import io
import json

from fastgd.data import tables


def as_csv(columns):
    """CSV with all digits of the numbers."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    numbers = [map(repr, v.tolist()) if v.dtype.kind == "f" else v.tolist() for v in columns.values()]
    writer.writerows(zip(*numbers, strict=True))
    return text.getvalue()


def _as_parquet(columns):
    from pyarrow import parquet

    sink = io.BytesIO()
    parquet.write_table(tables.arrow().table(columns), sink)
    return sink.getvalue()


def _as_arrow(columns):
    pa, sink = tables.arrow(), io.BytesIO()
    table = pa.table(columns)
    with pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue()


def _as_json_lines(columns):
    rows = zip(*(values.tolist() for values in columns.values()), strict=True)
    lines = (json.dumps(dict(zip(columns, row, strict=True)), ensure_ascii=False) for row in rows)
    return "".join(line + "\n" for line in lines).encode()


WRITERS = {
    ".csv": lambda columns: as_csv(columns).encode(), ".parquet": _as_parquet, ".arrow": _as_arrow,
    ".jsonl": _as_json_lines,
}  # fmt: skip
