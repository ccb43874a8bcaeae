"""Fits and predictions of tables that are read in blocks, for `fit`, `compare` and `predict`."""

import sys

from tqdm import tqdm

from fastgd.cli import fitting
from fastgd.data import streamed, tables
from fastgd.data.encoding import listed
from fastgd.data.tables import TableError


def is_stream(data, memory_limit):
    """Whether a table is read in blocks: with a limit, and where it is large for this machine."""
    return memory_limit is not None or streamed.is_large(data)


def scan(data, others, features, memory_limit, marks):
    """The StreamedTable of a file, a folder or a pattern."""
    if str(data) == "-":
        raise TableError("standard input is read into memory whole: write it to a file, or leave out --memory-limit")
    try:
        limit = streamed.bytes_of(memory_limit)
        return streamed.StreamedTable(str(data), others, features, limit, marks=marks)
    except (TypeError, ValueError) as error:
        raise TableError(str(error).replace("memory_limit", "--memory-limit")) from None


def task_of(
    data, target, *, formula, features, exclude, weights, loss, activation, rules, test_size, seed, memory_limit,
    offset=None, **marks,
):  # fmt: skip
    """`fitting.task_of` of a table that is read in blocks."""
    if formula is not None:
        raise TableError("--formula needs the table in memory: leave out --memory-limit")
    column = None if offset is None else offset["column"]
    rows = scan(data, (target, weights, column), features, memory_limit, marks)
    tables.check_names(streamed.Names(rows.parts[0].schema.names), exclude, str(data), once=False)
    if exclude:
        rows.features = [name for name in rows.features if name not in exclude]
        if not rows.features:
            raise TableError(f"{data} has no column besides {listed([target, *exclude])} to fit from")
    with tqdm(
        total=rows.total, unit=" rows", unit_scale=True, desc="reading", delay=1.0, leave=False, dynamic_ncols=True,
        mininterval=0.2 if sys.stderr.isatty() else 1.0,
    ) as bar:  # fmt: skip
        X, y, s, o, encoder = rows.learn(rules, bar)
    if len(X) < 2:
        raise TableError(f"{data} has a single row of data, and a fit needs at least two")
    notes, pa = encoder.notes(len(X)), tables.arrow()
    y, classes, loss, activation = fitting.target_of(
        pa.chunked_array([pa.array(y)]), target, loss, activation, str(data), rules, notes
    )
    if s is not None and (s.min() < 0 or not s.max() > 0):
        raise TableError(f"{data}: the weights {weights!r} must be finite, not negative and not all 0")
    o = None if offset is None else fitting.offset_of_numbers(o, offset, str(data))
    parts = [slice(None), None] if test_size is None else X.held_out(test_size, seed)
    fit, held = (
        None if p is None else fitting.Rows(X[p], y[p], *(None if part is None else part[p] for part in (s, o)))
        for p in parts
    )
    if test_size is None:
        fit.X = X
    return fitting.Task(str(data), target, loss, activation, classes, encoder, fit, held, notes, offset)
