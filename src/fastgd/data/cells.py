"""One column of an Arrow table: what it holds, its missing cells, its numbers, its text."""

import numpy as np

from fastgd.data.tables import NUMBER, arrow

MOST_LEVELS = 1000  # of a text in half as many rows
DAY = 86_400_000_000  # microseconds


def complete(table, names):
    """Mask of the rows without a missing cell in these columns."""
    missing = np.zeros(table.num_rows, bool)
    for name in names:
        missing |= missing_mask(table.column(name))
    return ~missing


def kind_of(cells):
    """(kind, None), or (None, why there is none)."""
    pa = arrow()
    types, kind = pa.types, cells.type
    if types.is_dictionary(kind):
        kind = kind.value_type
    if not len(cells) or missing(cells) == len(cells):
        return None, "has no values"
    if types.is_dictionary(cells.type) or types.is_boolean(kind):
        return "category", None
    if types.is_integer(kind) or types.is_floating(kind) or types.is_decimal(kind):
        bad = types.is_floating(kind) and np.isinf(numbers(cells, "number")).any()
        return ("number", None) if not bad else (None, "holds infinity")
    if types.is_temporal(kind):
        return "date", None
    if types.is_string(kind):
        why = _mixed(cells) or _too_many(cells)
        return (None, why) if why else ("category", None)
    return None, f"holds neither numbers nor text ({kind})"


def ambiguous(cells):
    """(mark, a cell with it) of numbers in which a comma or point may be of thousands or decimals; None for others."""
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
    """What is wrong with text half of which is numbers; None where it is text."""
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
    """What is wrong with text that tells rows apart; None where it does not."""
    count = len(cells.unique()) if len(cells) > MOST_LEVELS else 0
    return (
        f"holds {count:,} different texts in {len(cells):,} rows"
        if count > max(MOST_LEVELS, 0.5 * len(cells))
        else None
    )


def missing(cells):
    return int(np.isnan(numbers(cells, "number")).sum()) if _floats(cells) else cells.null_count


def _floats(cells):
    return arrow().types.is_floating(cells.type)


def missing_mask(cells):
    import pyarrow.compute as pc

    return np.isnan(numbers(cells, "number")) if _floats(cells) else np.asarray(pc.is_null(cells))


def numbers(cells, kind="number"):
    """float64 with NaN where a cell is missing."""
    pa = arrow()
    if kind == "date":
        types, unit = pa.types, cells.type
        if types.is_date(unit):
            cells, unit = cells.cast(pa.timestamp("us")), pa.timestamp("us")
        if types.is_timestamp(unit):
            cells = cells.cast(pa.timestamp("us", unit.tz), safe=False)
        elif types.is_time(unit):
            cells = cells.cast(pa.time64("us"), safe=False)
        elif types.is_duration(unit):
            cells = cells.cast(pa.duration("us"), safe=False)
        values = np.asarray(cells.cast(pa.int64()).cast(pa.float64(), safe=False).to_numpy())
        return values / DAY
    if not pa.types.is_float64(cells.type):
        cells = cells.cast(pa.float64(), safe=False)
    return cells.to_numpy()


def as_text(cells):
    """The cells as text; True and False as Python writes them."""
    pa = arrow()
    import pyarrow.compute as pc

    if pa.types.is_dictionary(cells.type):
        cells = cells.cast(cells.type.value_type)
    if pa.types.is_boolean(cells.type):
        return pc.if_else(cells, "True", "False")
    return cells.cast(pa.string())


def whole(cells):
    """Whether a column is of integers."""
    return arrow().types.is_integer(cells.type)


def labels(cells):
    """The cells of a target as labels: an array of booleans, or of text."""
    if arrow().types.is_boolean(cells.type):
        return cells.to_numpy().astype(bool)
    return np.array(as_text(cells).to_pylist(), dtype=np.str_)
