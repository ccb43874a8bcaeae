"""`fastgd.data.scan`: a table in local files, or in memory, that stands for X, or for X and y together."""

from __future__ import annotations

import typing

from fastgd import validation
from fastgd.data import encoding
from fastgd.data.tables import INDEX, TableError, check_names, read_all

if typing.TYPE_CHECKING:
    from collections.abc import Sequence


class Scan:
    """A table, and which of its columns are features, target and weights; `scan` makes it."""

    def __init__(self, table, others, features):
        self.table, (self.target, self.sample_weight, self.offset) = table, others
        others = [name for name in others if name is not None]
        check_names(table, [*others, *(features or [])], "the table")
        self.features = features or [name for name in dict.fromkeys(table.column_names) if name not in (*others, INDEX)]
        if not self.features:
            raise TableError("the table has no column beside the target")

    @property
    def others(self):
        """The names of the columns of targets, weights and offsets, None for what there is none of."""
        return self.target, self.sample_weight, self.offset

    def beside(self, *given):
        """[y, sample_weight, offset]: what is given, else the column of the table, else None."""
        return [
            self.column(name) if own is None and name is not None else own
            for own, name in zip(given, self.others, strict=True)
        ]

    def arrays(self, *given):
        """(X, y, sample_weight, offset): the encoded features, and what is `beside` them."""
        encoding.check(self.table, self.features, encoding.Rules(), "the table")
        X = encoding.Encoder.of(self.table, self.features, encoding.Rules(), "the table").encode(self.table)
        return X, *self.beside(*given)

    def column(self, name):
        """A column as a NumPy array."""
        column = self.table.column(name)
        if column.null_count:
            raise TableError(f"the table: cells are missing in {name!r} ({column.null_count})")
        return column.to_numpy()


def scan(
    source: typing.Any,
    *,
    target: str | None = None,
    sample_weight: str | None = None,
    features: Sequence[str] | None = None,
    offset: str | None = None,
    memory_limit: int | str | None = None,
    spill: bool = True,
) -> Scan:
    """A table of named columns to fit or predict from, in the place of X, or of X and y (extra "arrow").

    Parameters
    ----------
    source : path, pattern, folder, pyarrow dataset, frame, LazyFrame or callable
        CSV and other text in columns, Parquet, Arrow IPC, JSON lines and Excel files, compressed or not; several files
        are rows of one table, and folders named year=2020 are columns. Anything with `__arrow_c_stream__` is taken as
        it is; a LazyFrame of polars is run for each reading. An .npy file holds columns x0, x1, …, an .svmlight file
        targets and sparse rows. A callable returns an iterator over blocks (X, y), (X, y, sample_weight) or
        (X, y, sample_weight, offset) of arrays.
    target, sample_weight, offset : str, optional
        Names of columns.
    features : list of str, optional
        The columns to fit from; all others without it.
    memory_limit : int or str, optional
        Read the source in blocks, and keep no more of it in memory than so many bytes, or "2GB" say; what is beyond is
        written to the temporary folder as float64, and gone after the fit. Without it files up to a quarter of the
        memory of the machine are read whole, and others with a limit of half of it.
    spill : bool
        False: raise SpillError, and write nothing, where the rows take more than `memory_limit` allows to keep.

    Raises
    ------
    TableError
        The table cannot be read, or lacks a column.

    Notes
    -----
    A source is read once for a fit, and again for a score and for predictions, which are then an iterator over blocks.

    Examples
    --------
    >>> from fastgd import GDRegressor, data, datasets
    >>> GDRegressor().fit(data.scan(datasets.women_path(), target="weight")).coef_.round(6)
    array([3.45])
    """
    from fastgd.data import streamed

    spill = validation.boolean(spill, "spill")
    features = [features] if isinstance(features, str) else None if features is None else list(features)
    if memory_limit is not None or streamed.is_arrays(source) or streamed.is_large(source):
        return streamed.streamed(source, (target, sample_weight, offset), features, memory_limit, spill)
    return Scan(read_all(source), (target, sample_weight, offset), features)
