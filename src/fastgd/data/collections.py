"""From collections of dask (arrays, frames, lists of delayed blocks) to rows that stay where dask has them (extra
"dask").

dask itself is imported only where an argument is from it.
"""

import itertools
import sys

import numpy as np

from fastgd.data import encoding, partials
from fastgd.data.blocks import Step
from fastgd.data.cells import as_text
from fastgd.data.distributed import Column, Distributed
from fastgd.data.inputs import register
from fastgd.data.tables import TableError, arrow
from fastgd.errors import ClusterError, import_extra

# Kinds of columns in a sentence.
KINDS = {"number": "numbers", "date": "dates", "category": "texts"}


def is_collection(X):
    """Whether X is a collection of dask, or a list of delayed blocks."""
    base = sys.modules.get("dask.base")
    if base is None or type(X) is np.ndarray:
        return False
    if isinstance(X, (list, tuple)):
        return len(X) > 0 and all(base.is_dask_collection(block) for block in X)
    return base.is_dask_collection(X)


@register
class Collection(Distributed):
    """What stands for X before its blocks are held."""

    @classmethod
    def takes(cls, X):
        return is_collection(X)

    @classmethod
    def checked(cls, X, dtype=None):
        return Distributed.checked(together(X)[0], dtype)


def together(X, y=None, weights=None, rules=None, encoder=None):
    """(Distributed, Column of targets or None, Column of weights or None, Encoder or None) of a collection.

    Parameters
    ----------
    X : collection
    y, weights : collection or array_like, optional
        With the blocks of X; arrays are cut like X.
    rules : encoding.Rules, optional
        How columns of a frame become numbers.
    encoder : Encoder, optional
        Of a frame, where it is known.
    """
    import_extra("distributed", "dask", "a dask collection")
    from fastgd.data.places import place_of  # it takes asyncio

    blocks, lengths = _blocks_of(X, "X")
    columns = [_column_of(value, name, blocks, lengths) for value, name in ((y, "y"), (weights, "sample_weight"))]
    place = place_of(*_scheduler_of(X), list(zip(blocks, *columns, strict=True)))
    facts, edges = place.facts, _checked(place.facts)
    numbers = [number for number, fact in enumerate(facts) if fact["n"]]
    edges = np.unique(edges)  # blocks without rows are left out
    if not len(numbers):
        raise ValueError("X has no rows in any of its blocks")
    recipe, dtype, d = (), facts[numbers[0]]["dtype"], facts[numbers[0]]["d"]
    if dtype == "a frame":
        tables = Distributed(place, (), numbers, edges, d, np.float64, 1)
        if encoder is None:
            encoder = _learnt(tables, encoding.Rules() if rules is None else rules)
        dtype, d = np.dtype(np.float64), encoder.width
        recipe = (Step(place.new_key(), partials.encoded, (encoder, dtype), None),)
    rows = Distributed(place, recipe, numbers, edges, d, dtype, sum(fact["values"] for fact in facts) or 1)
    rows.sparse = any(fact["sparse"] for fact in facts)
    if recipe:
        rows.reduced(partials.nothing)  # what cannot be encoded is refused now
        rows.values = rows.n * d
    if y is not None:
        shapes = {fact["y"][0] for fact in facts}
        if len(shapes) > 1:
            raise ValueError(f"y must have as many columns in each block; got {sorted(map(len, shapes))}")
        shape = shapes.pop()
        rows.k, rows._y_dtype = (shape[0] if shape else 1), np.result_type(*(fact["y"][1] for fact in facts))
        y = Column(rows, "Y", 1 + len(shape))
    rows.weighted = weights is not None
    return rows, y, rows.weights if rows.weighted else None, encoder


def for_objective(X, y, weights, offset=None):
    """(rows, targets, weights) of an objective."""
    if offset is not None:
        raise ValueError("offset is for an X in memory; a dask collection takes none")
    if y is None:
        raise ValueError("y must be given: a collection, or an array, of a target for each row of X")
    rows, y, weights, _ = together(X, y, weights)
    if weights is not None and not 0 <= weights.min() <= weights.max() != 0:
        raise ValueError("sample_weight must not be negative, and at least one must be positive")
    return rows, y, weights


# ---------------------------------------------------------------------------------------------------- what dask holds


def _blocks_of(X, name):
    """(delayed blocks, their lengths where all are known, else None)."""
    if isinstance(X, (list, tuple)):
        return list(X), None
    if hasattr(X, "npartitions") and hasattr(X, "to_delayed") and not hasattr(X, "chunks"):  # a frame or a column of it
        return list(X.to_delayed()), None
    if not hasattr(X, "chunks"):
        if hasattr(X, "to_delayed"):
            return list(X.to_delayed()), None
        return [X], None
    if name == "X" and X.ndim != 2:
        raise ValueError(f"X must be 2-dimensional; got a dask array of shape {X.shape}")
    if X.ndim not in (1, 2):
        raise ValueError(f"{name} must have 1 or 2 dimensions; got a dask array of shape {X.shape}")
    if X.ndim == 2 and len(X.chunks[1]) > 1:
        X = X.rechunk({1: -1})
    known = not any(np.isnan(X.chunks[0]))
    return list(X.to_delayed().ravel()), list(X.chunks[0]) if known else None


def _column_of(value, name, blocks, lengths):
    """The pieces of targets or weights that go with the blocks."""
    if value is None:
        return [None] * len(blocks)
    if not is_collection(value):
        lengths = _lengths(blocks) if lengths is None else lengths
        value = np.asarray(value)
        if value.ndim == 0 or len(value) != sum(lengths):
            raise ValueError(f"{name} has {value.shape} numbers, X has {sum(lengths)} rows: they must be equal")
        return [value[first:last] for first, last in itertools.pairwise(np.cumsum([0, *lengths]).tolist())]
    if hasattr(value, "chunks") and lengths is not None and list(value.chunks[0]) != lengths:
        if value.shape[0] != sum(lengths) and not np.isnan(value.shape[0]):
            raise ValueError(f"{name} has {value.shape[0]} rows, X has {sum(lengths)}: they must be equal")
        if not np.isnan(value.shape[0]):
            value = value.rechunk({0: tuple(lengths)})
    pieces = _blocks_of(value, name)[0]
    if len(pieces) != len(blocks):
        raise ValueError(f"{name} has {len(pieces)} blocks, X has {len(blocks)}: make them of the same rows each")
    return pieces


def _lengths(blocks):
    import dask

    return list(dask.compute(*(dask.delayed(_length)(block) for block in blocks)))


def _length(block):
    return block.shape[0]


def _scheduler_of(X):
    """(client or None, scheduler or None, threads) that computes a collection, as dask itself would choose."""
    import dask.base
    import dask.system

    parts = X if isinstance(X, (list, tuple)) else [X]
    client = None
    if "distributed" in sys.modules:
        held = sys.modules["distributed"].futures_of(parts)
        client = held[0].client if held else None
        if client is not None and client.status != "running":
            raise ClusterError(
                f"the blocks of X are on a cluster whose client is {client.status}: connect again and persist X there"
            )
    scheduler = None if client is not None else dask.base.get_scheduler(collections=parts)
    owner = getattr(scheduler, "__self__", None)
    if client is None and hasattr(owner, "scheduler_info"):
        client = owner
    one = getattr(scheduler, "__name__", "") == "get_sync"
    return client, scheduler, 1 if one else dask.config.get("num_workers", None) or dask.system.CPU_COUNT


# ------------------------------------------------------------------------------------------------ what blocks hold


def _checked(facts):
    """The edges of the blocks; ValueError for what does not fit together, by its block and rows."""
    edges = np.cumsum([0, *(fact.get("n", 0) for fact in facts)])
    first = next((fact for fact in facts if fact.get("n")), None)
    for number, fact in enumerate(facts):
        where = f"block {number} of X (rows {edges[number]:,} to {edges[number + 1] - 1:,})"
        if fact["bad"] is not None:
            raise ValueError(f"{where if 'n' in fact else f'block {number} of X'}: {fact['bad']}")
        if fact["n"] == 0:
            continue
        if fact["d"] != first["d"]:
            raise ValueError(f"{where} has {fact['d']} columns, and the blocks before have {first['d']}")
        if fact["dtype"] != first["dtype"]:
            raise ValueError(
                f"{where} is of dtype {fact['dtype']}, and the blocks before are of {first['dtype']}: X.astype(float) "
                "makes them alike"
            )
    if first is not None and first["d"] == 0:
        raise ValueError("X must have at least one row and one column; its blocks have no columns")
    return edges


def _learnt(tables, rules):
    """The Encoder of the tables in all blocks."""
    summaries = [value for _, value in tables.of_blocks(summary, rules)]
    first = summaries[0]
    for number, other in zip(tables.numbers, summaries, strict=True):
        if list(other) != list(first):
            raise TableError(f"{tables.named(number)} has other columns than the blocks before")
    columns = [_merged(name, [one[name] for one in summaries], rules, tables) for name in first]
    return encoding.Encoder(columns, rules)


def summary(cells, rules):
    """{column: (kind, missing cells, counts of its levels, or sum and count of its numbers)} of a block."""
    if rules.missing == "drop":
        raise ValueError('missing="drop" would leave out rows of the targets too: drop them in the collection itself')
    table, found = cells.table, {}
    seen = [name for name in table.column_names if encoding.one.missing(table.column(name)) < len(table)]
    encoding.check(table, seen, rules, "X")
    for name in table.column_names:
        column = table.column(name)
        kind, missing = encoding.one.kind_of(column)[0], encoding.one.missing(column)
        if missing and rules.missing is None:
            encoding.check(table, [name], rules, "X")
        if kind == "category":
            pa = arrow()
            values = column.cast(column.type.value_type) if pa.types.is_dictionary(column.type) else column
            content = {pair["values"]: pair["counts"] for pair in values.value_counts().to_pylist()}
            content = {level: count for level, count in content.items() if level is not None and level == level}
            encoding.refuse_levels(content, name)
        else:
            known = encoding.one.numbers(column, kind)
            known = known[~np.isnan(known)]
            content = float(known.sum()), len(known)
        found[name] = kind, missing, len(table), content
    return found


def _merged(name, parts, rules, tables):
    """The encoding.Column of a column, from its summaries."""
    seen = zip(tables.numbers, parts, strict=True)
    kinds = {kind: number for number, (kind, missing, rows, _) in seen if missing < rows}
    if len(kinds) > 1:
        (kind, _), (other, number) = sorted(kinds.items(), key=lambda pair: pair[1])[:2]
        raise TableError(f"{tables.named(number)}: column {name!r} holds {KINDS[other]}, and {KINDS[kind]} before")
    kind = next(iter(kinds), parts[0][0])
    fills, contents = rules.missing in ("mean", "indicator"), [content for k, _, _, content in parts if k == kind]
    column = encoding.Column(name, kind)
    column.marked = rules.missing == "indicator" and any(missing for _, missing, _, _ in parts)
    if kind != "category":
        total, count = np.sum(contents, axis=0)
        column.fill = float(total / max(1, count)) if fills else None
        return column
    counts = {}
    for content in contents:
        for level, count in content.items():
            counts[level] = counts.get(level, 0) + count
    levels, pa = sorted(counts), arrow()
    column.levels = as_text(pa.chunked_array([pa.array(levels)])).to_pylist()
    if fills:
        column.fill = column.levels[int(np.argmax([counts[level] for level in levels]))]
    return column


# ---------------------------------------------------------------------------------------------------------- predictions


def mapped(X, function, like):
    """function(block) of each block of a collection as a dask array; `like` is what one row gives.

    Nothing is computed before the array is.
    """
    import dask
    import dask.array as da

    blocks, lengths = _blocks_of(X, "X")
    lengths = [np.nan] * len(blocks) if lengths is None else lengths
    shared, of_block = dask.delayed((function, like[:0]), pure=False, traverse=False), dask.delayed(of_one, pure=False)
    pieces = [
        da.from_delayed(of_block(shared, block), shape=(length, *like.shape[1:]), dtype=like.dtype)
        for block, length in zip(blocks, lengths, strict=True)
    ]
    return da.concatenate(pieces, allow_unknown_chunksizes=True)


def of_one(shared, block):
    """What a function gives of a block that may be empty."""
    function, empty = shared
    if hasattr(block, "tocsr"):
        block = block.tocsr()
    return function(block) if block.shape[0] else empty
