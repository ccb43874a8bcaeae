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

    return lambda file: parquet.write_table(tables.arrow().table(columns), file)


def _as_arrow(columns):
    from pyarrow import feather

    return lambda file: feather.write_feather(tables.arrow().table(columns), file, compression="uncompressed")


def _as_json_lines(columns):
    rows = tables.arrow().table(columns).to_pylist()
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()


# By the end of the name: the content for `whole.write_whole`.
WRITERS = {
    ".csv": lambda columns: as_csv(columns).encode(), ".parquet": _as_parquet, ".arrow": _as_arrow,
    ".jsonl": _as_json_lines,
}  # fmt: skip
