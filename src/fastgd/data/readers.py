"""Sources of a stream: tables as Arrow record batches, and blocks of arrays, each with the place that it was read from.

pyarrow reads and decodes; here stands what a source is, and where in it a row is found.
"""

import contextlib
import os
import queue
import threading
import typing
from urllib.parse import unquote

import numpy as np

from fastgd.data import tables
from fastgd.data.tables import TableError, arrow, one_line

# Bytes of svmlight text that are parsed at a time.
TEXT_BYTES = 1 << 22


class Place(typing.NamedTuple):
    """Where the first row of a block is: the file or what else is read, the row group if it has such, rows before."""

    where: str
    group: int | None = None
    row: int = 0

    def of(self, row):
        group = "" if self.group is None else f", row group {self.group + 1}"
        return f"{self.where}{group}, row {self.row + row + 1}"


class Part(typing.NamedTuple):
    """A file, or what else is a part of a source.

    Attributes
    ----------
    where : str
    schema : pyarrow.Schema
    rows : int or None
        None if that is known only after reading.
    read : callable
        read(names, size) iterates over (record batch of these columns, Place), of up to about `size` rows.
    """

    where: str
    schema: typing.Any
    rows: int | None
    read: typing.Callable


def ahead(blocks):
    """The same blocks, the next one read by a thread while the caller works on this one."""
    waiting, ended = queue.Queue(1), threading.Event()

    def put(item):
        while not ended.is_set():
            with contextlib.suppress(queue.Full):
                waiting.put(item, timeout=0.1)
                return

    def work():
        try:
            for block in blocks:
                put((block, None))
                if ended.is_set():
                    return
            put((None, None))
        except BaseException as error:
            put((None, error))

    thread = threading.Thread(target=work, name="fastgd-reads", daemon=True)
    thread.start()
    try:
        while True:
            block, error = waiting.get()
            if error is not None:
                raise error
            if block is None:
                return
            yield block
    finally:
        ended.set()
        thread.join()


# ------------------------------------------------------------------------------------------------------------- tables


def parts_of(source, marks=None):
    """The Parts of what holds a table; TableError, with the file, for what cannot be read or does not fit the first."""
    if hasattr(source, "get_fragments"):
        parts = _of_dataset(source)
    elif tables.is_frame(source):
        parts = [_of_frame(source)]
    elif tables.is_query(source):
        parts = [_of_query(source)]
    elif isinstance(source, (str, os.PathLike)):
        paths = tables.paths_of(source)
        parts = [_of_file(path, _partition(path), marks) for path in paths]
    else:
        raise TypeError(
            "source must be a path or pattern of files, a pyarrow dataset, a table that Arrow can read, or a callable "
            f"that iterates over blocks of arrays; got {type(source).__name__}"
        )
    first = parts[0]
    for part in parts[1:]:
        _hold_against(part, first)
    return parts


def kind_of_type(kind):
    """ "number", "date" or "category"; None for a type that is none."""
    types = arrow().types
    kind = kind.value_type if (coded := types.is_dictionary(kind)) else kind
    text_type = types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind)
    if coded or types.is_boolean(kind) or text_type:
        return "category"
    if types.is_integer(kind) or types.is_floating(kind) or types.is_decimal(kind):
        return "number"
    return "date" if types.is_temporal(kind) else None


def _hold_against(part, first):
    """Refuse a part that lacks a column of the first, or has it in another type."""
    for field in first.schema:
        if field.name not in part.schema.names:
            raise TableError(f"{part.where} has no column {field.name!r}, which {first.where} has")
        other = part.schema.field(field.name).type
        if kind_of_type(other) != kind_of_type(field.type):
            raise TableError(
                f"column {field.name!r} is of type {other} in {part.where}, and {field.type} in {first.where}"
            )


def _partition(path):
    """Columns that the names of folders give, such as year=2020."""
    return {key: unquote(value) for key, found, value in (p.partition("=") for p in path.parent.parts) if found}


def _of_file(path, keys, marks):
    pa, where = arrow(f"reading {path}"), str(path)
    try:
        with path.open("rb") as file:
            head = file.read(8)
        if head.startswith(b"PAR1"):
            return _parquet(where, where, None, keys)
        if head.startswith(b"ARROW1"):
            with pa.memory_map(where) as file:
                schema = pa.ipc.open_file(file).schema
            return Part(where, _with_keys(schema, keys), None, _reads_ipc(where, keys))
        if head.startswith(b"\xff\xff\xff\xff"):
            with pa.memory_map(where) as file:
                schema = pa.ipc.open_stream(file).schema
            return Part(where, _with_keys(schema, keys), None, _reads_ipc(where, keys, stream=True))
    except (OSError, pa.ArrowInvalid) as error:
        raise TableError(cannot(where, error)) from None
    if not head:
        raise TableError(f"{where} is empty")
    if head.startswith((b"PK\x03\x04", b"\xd0\xcf\x11\xe0")) or head.lstrip()[:1] in (b"{", b"["):
        raise TableError(
            f"{where} is a table of JSON or Excel, which is read into memory whole: leave out memory_limit, or make it "
            "Parquet"
        )
    from fastgd.data.text_blocks import text_part

    schema, batches = text_part(where, marks or {})
    read = lambda names, size: _guarded(where, _sliced(batches(names), where, size), keys, names)  # noqa: E731
    return Part(where, _with_keys(schema, keys), None, read)


def cannot(where, error):
    if isinstance(error, OSError) and error.errno is not None and error.strerror:
        return f"{where} cannot be read: {error.strerror}"
    return f"{where} is damaged or was cut short: {one_line(error)}"


def _with_keys(schema, keys):
    for name in keys:
        if name not in schema.names:
            schema = schema.append(arrow().field(name, arrow().string()))
    return schema


def _selected(batch, names, keys):
    """The columns of a batch by their names, those that the names of folders give among them."""
    pa = arrow()
    columns = [
        batch.column(name) if name in batch.schema.names else pa.array([keys[name]] * len(batch), pa.string())
        for name in names
    ]
    return pa.RecordBatch.from_arrays(columns, names=list(names))


def _guarded(where, blocks, keys, names):
    """Blocks of (batch, Place) with the columns asked for; what pyarrow raises is a sentence with the file."""
    pa = arrow()
    try:
        for batch, place in blocks:
            yield _selected(batch, names, keys), place
    except TableError:
        raise
    except (OSError, pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise TableError(cannot(where, error)) from None


def _parquet(where, path, filesystem, keys):
    from pyarrow import parquet

    options = {
        "filesystem": filesystem,
        "pre_buffer": False,
        "buffer_size": 1 << 17,
        "page_checksum_verification": True,
    }
    with parquet.ParquetFile(path, **options) as file:
        schema, rows = file.schema_arrow, file.metadata.num_rows
    # Text is decoded to numbers of its levels, as it is stored.
    coded = [field.name for field in schema if arrow().types.is_string(field.type)]

    # Of two cores one decodes while the other stores what was decoded before.
    threads = arrow().cpu_count() > 2

    def groups(names, size):
        with parquet.ParquetFile(path, read_dictionary=[name for name in coded if name in names], **options) as file:
            inside = [name for name in names if name in schema.names]
            for group in range(file.num_row_groups):
                row = 0
                for batch in file.iter_batches(size, row_groups=[group], columns=inside, use_threads=threads):
                    yield batch, Place(where, group, row)
                    row += len(batch)

    read = lambda names, size: _guarded(where, groups(names, size), keys, names)  # noqa: E731
    return Part(where, _with_keys(schema, keys), rows, read)


def _sliced(batches, where, size):
    row = 0
    for batch in batches:
        for first in range(0, len(batch), size):
            yield batch.slice(first, size), Place(where, None, row + first)
        row += len(batch)


def _reads_ipc(where, keys, *, stream=False):
    pa = arrow()

    def batches():
        with pa.memory_map(where) as file:
            if stream:
                yield from pa.ipc.open_stream(file)
                return
            reader = pa.ipc.open_file(file)
            yield from map(reader.get_batch, range(reader.num_record_batches))

    return lambda names, size: _guarded(where, _sliced(batches(), where, size), keys, names)


def _of_dataset(dataset):
    """Its files one by one where they are Parquet, of which a few rows are decoded at a time; else what it gives."""
    from pyarrow import dataset as ds

    filtered = getattr(dataset, "_scan_options", True)
    if type(dataset) is ds.FileSystemDataset and isinstance(dataset.format, ds.ParquetFileFormat) and not filtered:
        fragments = list(dataset.get_fragments())
        if not fragments:
            raise TableError("source holds no files")
        keys = [
            {name: str(value) for name, value in ds.get_partition_keys(f.partition_expression).items()}
            for f in fragments
        ]
        with _sentence("source"):
            return [_parquet(f.path, f.path, f.filesystem, k) for f, k in zip(fragments, keys, strict=True)]

    def read(names, size):
        batches = dataset.scanner(columns=names, batch_size=size, batch_readahead=1, fragment_readahead=1).to_batches()
        return _guarded("source", _sliced(batches, "source", size), {}, names)

    return [Part("source", dataset.schema, None, read)]


@contextlib.contextmanager
def _sentence(where):
    try:
        yield
    except (OSError, arrow().ArrowInvalid) as error:
        raise TableError(cannot(where, error)) from None


def _of_frame(X):
    pa = arrow()
    if hasattr(X, "iloc") or isinstance(X, pa.Table):
        X = tables.frame(X, "source")
    once = [pa.RecordBatchReader.from_stream(X)] if isinstance(X, pa.RecordBatchReader) else None
    schema = X.schema if isinstance(X, (pa.Table, pa.RecordBatchReader)) else pa.RecordBatchReader.from_stream(X).schema

    def read(names, size):
        if once is not None and not once:
            raise TableError("source is a stream that can be read only once, and has been read: make another")
        reader = pa.RecordBatchReader.from_stream(X) if once is None else once.pop()
        return _guarded("source", _sliced(reader, "source", size), {}, names)

    return Part("source", schema, X.num_rows if isinstance(X, pa.Table) else None, read)


def _of_query(X):
    """A LazyFrame of polars, which is run again for each reading."""
    pa = arrow()
    schema = pa.RecordBatchReader.from_stream(tables.answer(X.head(0))).schema

    def batches(names):
        for frame in X.select(names).collect_batches(maintain_order=True):
            yield from pa.RecordBatchReader.from_stream(frame)

    return Part(
        "source",
        schema,
        None,
        lambda names, size: _guarded("source", _sliced(batches(names), "source", size), {}, names),
    )


# ------------------------------------------------------------------------------------------------------------- arrays


def of_callable(make):
    """Blocks (X, y, sample_weight) of arrays from a callable, each with its Place."""
    number, blocks = 0, make()
    if not hasattr(blocks, "__iter__"):
        raise TypeError(f"source() must give an iterator over blocks (X, y); got {type(blocks).__name__}")
    for number, block in enumerate(blocks, start=1):
        if not isinstance(block, tuple) or not 2 <= len(block) <= 4:
            raise TypeError(
                "source() must give an iterator over (X, y), (X, y, sample_weight) or (X, y, sample_weight, offset); "
                f"block {number} is none of them"
            )
        yield (*block, None, None)[:4], Place(f"block {number} of source()")
    if not number:
        raise TableError("source() gave no blocks")


def npy(path):
    """The matrix in an .npy file, of which nothing is read yet."""
    try:
        X = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError) as error:
        raise TableError(cannot(str(path), error)) from None
    if X.ndim != 2 or X.dtype.kind not in "fiub" or not X.size:
        raise TableError(f"{path} must hold a matrix of numbers; it has shape {X.shape} and dtype {X.dtype}")
    return X


def of_npy(path, X, others, features):
    """Blocks of the columns x0, x1, … of a matrix in a file."""
    number = {f"x{j}": j for j in range(X.shape[1])}
    taken = [number[name] for name in features or number if name not in others]
    step = max(1, (1 << 18) // X.shape[1])
    for row in range(0, len(X), step):
        block = np.array(X[row : row + step])
        beside = [None if name is None else block[:, number[name]] for name in others]
        yield (block if len(taken) == X.shape[1] else block[:, taken], *beside), Place(str(path), None, row)


def of_svmlight(path):
    """Blocks of CSR rows, with columns counted from 0 as they stand in the file, and targets."""
    from scipy.sparse import csr_matrix
    from sklearn.datasets import load_svmlight_file

    row, size = 0, os.path.getsize(path)
    for offset in range(0, max(size, 1), TEXT_BYTES):
        try:
            with open(path, "rb") as file:
                X, y = load_svmlight_file(
                    file, n_features=2**31 - 1, zero_based=True, offset=offset, length=TEXT_BYTES
                )  # fmt: skip
            X = csr_matrix((X.data, X.indices, X.indptr), shape=(X.shape[0], int(X.indices.max(initial=0)) + 1))
        except (OSError, ValueError) as error:
            raise TableError(f"{path} cannot be read as svmlight, after row {row}: {one_line(error)}") from None
        if X.shape[0]:
            yield (X, y, None, None), Place(str(path), None, row)
        row += X.shape[0]
    if not row:
        raise TableError(f"{path} is empty")
