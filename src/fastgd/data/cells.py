"""One column of an Arrow table: what it holds, its missing cells, its numbers, its text."""

import numpy as np

from fastgd.data.tables import NUMBER, arrow


def complete(table, names):
    """Mask of the rows without a missing cell in these columns."""
    missing = np.zeros(table.num_rows, bool)
    for name in names:
        missing |= missing_mask(table.column(name))
    return ~missing


def kind_of(cells):
    """("number", "category" or "date", None), or (None, why the column cannot be used)."""
    types, kind = arrow().types, cells.type
    if missing(cells) == len(cells):
        return None, "has no values"
    if types.is_dictionary(kind) or types.is_boolean(kind):
        return "category", None
    if types.is_floating(kind) and np.isinf(numbers(cells)).any():
        return None, "holds infinity"
    if types.is_integer(kind) or types.is_floating(kind) or types.is_decimal(kind):
        return "number", None
    if types.is_temporal(kind):
        return "date", None
    if types.is_string(kind):
        why = _mixed(cells) or _too_many(cells)
        return (None, why) if why else ("category", None)
    return None, f"holds neither numbers nor text ({kind})"


def ambiguous(cells):
    """(mark, an example) if every cell is a number whose comma or point may separate thousands or decimals; or None."""
    import pyarrow.compute as pc

    if arrow().types.is_boolean(cells.type):
        return None
    cells = as_text(cells)
    marked = pc.match_substring_regex(cells, r"^[+-]?\d{1,3}([.,]\d{3})+$")
    if not pc.any(marked).as_py() or not pc.all(pc.or_(marked, pc.match_substring_regex(cells, NUMBER))).as_py():
        return None
    example = cells.filter(marked)[0].as_py()
    return "," if "," in example else ".", example


def _mixed(cells):
    """The error for a text column in which at least half of the cells are numbers; None for others."""
    import pyarrow.compute as pc

    cells = as_text(cells)
    numbers = pc.match_substring_regex(cells, NUMBER)
    share = pc.mean(numbers.cast("float64")).as_py()
    if share is None or not 0.5 <= share < 1 or ambiguous(cells):
        return None
    row = pc.index(numbers, False).as_py()
    text = cells[row].as_py()
    text = text if len(text) <= 40 else text[:39] + "…"
    return f"holds text among its numbers, {text!r} in row {row + 1}"


def _too_many(cells):
    """The error for a text column with more than 1000 levels, different in most rows; None for others."""
    count = len(cells.unique()) if len(cells) > 1000 else 0
    return f"holds {count:,} different texts in {len(cells):,} rows" if count > max(1000, 0.5 * len(cells)) else None


def missing(cells):
    """How many cells are missing."""
    return int(np.count_nonzero(missing_mask(cells)))


def missing_mask(cells):
    import pyarrow.compute as pc

    return np.asarray(pc.is_null(cells, nan_is_null=True))


def numbers(cells, kind="number"):
    """float64 with NaN where a cell is missing; dates in days since 1970-01-01, times and durations in days."""
    pa, unit = arrow(), cells.type
    if kind == "date":
        if pa.types.is_time(unit):
            unit = pa.time64("us")
        elif pa.types.is_duration(unit):
            unit = pa.duration("us")
        else:
            unit = pa.timestamp("us", getattr(unit, "tz", None))
        return numbers(cells.cast(unit, safe=False).cast(pa.int64())) / 86_400_000_000
    return (cells if pa.types.is_float64(unit) else cells.cast(pa.float64(), safe=False)).to_numpy()


def as_text(cells):
    """The cells as text; True and False as Python writes them."""
    pa = arrow()
    import pyarrow.compute as pc

    if pa.types.is_dictionary(cells.type):
        cells = cells.cast(cells.type.value_type)
    if pa.types.is_boolean(cells.type):
        return pc.if_else(cells, "True", "False")
    return cells.cast(pa.string())


def labels(cells):
    """The cells of a target as labels: an array of booleans, or of text."""
    if arrow().types.is_boolean(cells.type):
        return cells.to_numpy().astype(bool)
    return np.array(as_text(cells).to_pylist(), dtype=np.str_)
