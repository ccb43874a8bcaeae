"""The columns of a table as numbers: one encoder for the command line, for estimators and for `fastgd.data.scan`."""

import dataclasses
import shlex
import typing

import numpy as np

from fastgd import validation
from fastgd.data import cells as one
from fastgd.data.tables import TableError, arrow, check_names, listed

# Levels of a category that are kept in memory, of what is read or held in blocks.
MOST_LEVELS = 1 << 16


@dataclasses.dataclass(frozen=True)
class Rules:
    """How columns that are not plain numbers are taken.

    Attributes
    ----------
    missing : None, "drop", "mean" or "indicator"
        Missing cells are refused; their rows left out; filled with the mean, or the most frequent level; or filled, and
        marked by a column `column=missing` of 0 and 1.
    drop : "first" or None
        Whether the first level of a category, in sorted order, is the reference and has no column.
    dates : None or "number"
        Dates are refused, or counted in days since 1970-01-01.
    unknown : "error" or "zeros"
        Levels that the fit did not have are refused, or have 0 in all columns of theirs.
    shell : bool
        Whether sentences name options of the command line, to be pasted, or arguments.
    """

    CHOICES: typing.ClassVar = {
        "missing": (None, "drop", "mean", "indicator"), "dates": (None, "number"), "drop": ("first", None),
        "unknown": ("error", "zeros"),
    }  # fmt: skip
    missing: str | None = None
    drop: str | None = "first"
    dates: str | None = None
    unknown: str = "error"
    shell: bool = False

    def __post_init__(self):
        for name, known in self.CHOICES.items():
            value = getattr(self, name)
            if not (value is None or isinstance(value, str)) or value not in known:
                raise ValueError(f"{name} must be one of {listed(known)}; got {validation.describe(value)}")

    def to_dict(self):
        return {name: getattr(self, name) for name in self.CHOICES}

    @classmethod
    def from_dict(cls, content):
        return cls(**{name: content[name] for name in cls.CHOICES})

    def option(self, name, value):
        return f"--{name} {value}" if self.shell else f"{name}={value!r}"

    def without(self, names):
        if self.shell:
            return f"--exclude {shlex.quote(','.join(quoted(name) for name in names))}"
        return f"leave out {listed(names)}"

    def refuse(self, where, problems):
        """Raise one sentence for all that is wrong, (what, remedy) each; do nothing where nothing is."""
        if not problems:
            return
        what, remedies = zip(*problems, strict=True)
        say = "add " if self.shell and remedies[0].startswith("--") else "pass "
        ways = (" " if self.shell else ", ").join(dict.fromkeys(remedies))
        raise TableError(f"{where}: {'; '.join(what)}: {'' if ways.startswith('leave') else say}{ways}")


def quoted(name):
    """A column name, quoted for an option that takes a list of names."""
    return '"' + name.replace('"', '""') + '"' if "," in name or '"' in name else name


def _missing(table, names):
    """({column: number of missing cells}, the error message about them)."""
    counts = {name: one.missing(table.column(name)) for name in names}
    counts = {name: count for name, count in counts.items() if count}
    return counts, "cells are missing in " + ", ".join(f"{name!r} ({n})" for name, n in counts.items())


@dataclasses.dataclass
class Column:
    """How a column becomes numbers.

    Attributes
    ----------
    name : str
    kind : "number", "date" or "category"
    levels : list of str
        Of a category, in their order.
    fill : float, str or None
        What stands for a missing cell.
    marked : bool
        Whether there is a column `name=missing`.
    """

    name: str
    kind: str
    levels: list = dataclasses.field(default_factory=list)
    fill: float | str | None = None
    marked: bool = False


@dataclasses.dataclass
class Encoder:
    """The columns of a table that a fit took, and how each becomes numbers.

    `Encoder.of(table, names, rules)` makes one from the rows of a fit; `encode(table)` gives (n, d) float64.
    """

    columns: list
    rules: Rules
    intercept = True

    @classmethod
    def of(cls, table, names, rules, where="X"):
        """Take levels and means from the rows of a fit, after `check`."""
        self = cls([_learnt(table.column(name), name, rules) for name in names], rules)
        if self.width * table.num_rows > 1 << 29:  # numbers, 4 GiB of them
            most = sorted((c for c in self.columns if c.levels), key=lambda c: -len(c.levels))[:5]
            remedy = rules.without([c.name for c in most])
            rules.refuse(where, [(f"column {c.name!r} has {len(c.levels):,} levels", remedy) for c in most])
        return self

    @classmethod
    def of_numbers(cls, names):
        """The encoder of a fit on columns of numbers."""
        return cls([Column(str(name), "number") for name in names], Rules())

    def replace_rules(self, rules):
        return dataclasses.replace(self, rules=rules)

    # ------------------------------------------------------------------------------------------------------- as numbers

    @property
    def names(self):
        """Of the columns of the table."""
        return [column.name for column in self.columns]

    @property
    def encoded_names(self):
        """Of the columns of numbers: `column`, `column=level` or `column=missing`."""
        return [name for column in self.columns for name in self._encoded(column)]

    @property
    def width(self):
        return sum(len(self._encoded(column)) for column in self.columns)

    @property
    def plain(self):
        """Whether the numbers are those of the table."""
        return all(column.kind == "number" and not column.marked for column in self.columns)

    def _kept(self, column):
        return column.levels[1:] if self.rules.drop == "first" else column.levels

    def _encoded(self, column):
        names = [column.name]
        if column.kind == "category":
            names = [f"{column.name}={level}" for level in self._kept(column)]
        return [*names, f"{column.name}=missing"] if column.marked else names

    def encode(self, table, where="X"):
        """Encode a table that has these columns, in any order and among others, as numbers (n, d).

        Raises
        ------
        TableError
            Columns are absent or of another kind, cells are missing, or levels unknown.
        """
        check_names(table, self.names, where)
        out, j, problems = np.zeros((table.num_rows, self.width)), 0, []
        missing, sentence = _missing(table, [column.name for column in self.columns if column.fill is None])
        if missing:
            remedy = "rows where every cell is known, or fit with " + self.rules.option("missing", "mean")
            problems.append((sentence, remedy))
        for column in self.columns:
            width = len(self._encoded(column))
            if column.name not in missing:
                problems.append(self._encode(column, table.column(column.name), out[:, j : j + width]))
            j += width
        self.rules.refuse(where, [problem for problem in problems if problem])
        return out

    def _encode(self, column, cells, out):
        """Write the encoded column to `out`; (problem, remedy) if that is impossible, or None."""
        kind, why = one.kind_of(cells)
        if kind != column.kind and one.missing(cells) < len(cells):
            was = {"number": "numbers", "date": "dates", "category": "text"}
            why = f"{why or 'holds ' + was[kind]}, and in the fit it held {was[column.kind]}"
            return f"column {column.name!r} {why}", "the column as it was"
        if column.marked:
            out[:, -1] = one.missing_mask(cells)
        if column.kind != "category":
            values = one.numbers(cells, column.kind)
            if np.isinf(values).any():
                return f"column {column.name!r} holds infinity", "finite numbers"
            out[:, 0] = values if column.fill is None else np.where(np.isnan(values), column.fill, values)
            return None
        return self._one_hot(column, cells, out)

    def _one_hot(self, column, cells, out):
        pa = arrow()
        import pyarrow.compute as pc

        cells = one.as_text(cells)
        if column.fill is not None and not column.marked:
            cells = pc.fill_null(cells, column.fill)
        levels = pa.array(column.levels, pa.string())
        codes = pc.index_in(cells, value_set=levels)
        if self.rules.unknown == "error":
            unknown = pc.and_(pc.is_null(codes), pc.is_valid(cells))
            if pc.any(unknown).as_py():
                new = sorted(cells.filter(unknown).unique().to_pylist())
                problem = f"column {column.name!r} holds levels that the fit did not have, {listed(new, 5)}"
                return problem, self.rules.option("unknown", "zeros")
        first = len(column.levels) - len(self._kept(column))
        numbers = pc.fill_null(codes, -1).to_numpy() - first
        rows = np.flatnonzero(numbers >= 0)
        out[rows, numbers[rows]] = 1.0
        return None

    # ---------------------------------------------------------------------------------------------------------- remarks

    def notes(self, rows):
        """Sentences about columns that can be fitted but are probably not meant as features."""
        rules, found = self.rules, []
        ids = [c.name for c in self.columns if c.kind == "category" and len(c.levels) > max(10, 0.9 * rows)]
        if ids:
            found.append(
                f"nearly every row has a text of its own in {listed(ids)}, which then tells rows apart and predicts no "
                f"others ({rules.without(ids)})"
            )
        if self.width >= rows:
            found.append(
                f"there are {self.width} columns and {rows} rows, so that many weights fit equally well "
                f"({rules.option('penalty', 'l2')})"
            )
        return found

    # ------------------------------------------------------------------------------------------------------------ files

    def to_dict(self):
        return self.rules.to_dict() | {"columns": [dataclasses.asdict(column) for column in self.columns]}

    @classmethod
    def from_dict(cls, content):
        """The inverse of `to_dict`; KeyError, TypeError or ValueError for invalid content."""
        columns = [Column(**column) for column in content["columns"]]
        for c in columns:
            fill = c.fill is None or isinstance(c.fill, str if c.kind == "category" else (int, float))
            texts = [c.name, *c.levels]
            if c.kind not in ("number", "date", "category") or not fill or not all(isinstance(t, str) for t in texts):
                raise ValueError(f"the encoding of column {c.name!r} is none")
        return cls(columns, Rules.from_dict(content))


def refuse_levels(levels, name):
    """TableError where a column has more levels than are kept."""
    if len(levels) > MOST_LEVELS:
        raise TableError(f"column {name!r} holds more than {MOST_LEVELS:,} different texts: leave it out")


def check(table, names, rules, where="X", also=()):
    """Refuse all columns that cannot be encoded by these rules, in one sentence.

    Parameters
    ----------
    names : list of str
    also : list of str
        Columns that are not to be encoded, a target say: looked at for missing cells.

    Raises
    ------
    TableError
    """
    twice = [name for name in names if table.column_names.count(name) > 1]
    remedy = rules.without(twice)
    rules.refuse(where, [(f"there are {table.column_names.count(n)} columns named {n!r}", remedy) for n in twice])
    check_names(table, [*names, *also], where)
    problems, unfit = [], {}
    for name in names:
        kind, why = one.kind_of(table.column(name))
        if why:
            unfit[name] = why
        elif kind == "date" and rules.dates is None:
            problems.append((f"column {name!r} holds dates", rules.option("dates", "number")))
        elif kind == "category" and (marked := one.ambiguous(table.column(name))):
            mark, example = marked
            either = f"--thousands {mark} or --decimal {mark}" if rules.shell else f"{name!r} as numbers"
            what = f"column {name!r} holds numbers such as {example!r}, with {mark!r} for thousands or decimals"
            problems.append((what, either))
    missing, sentence = _missing(table, [name for name in [*also, *names] if name not in unfit])
    if missing and rules.missing is None:
        few = one.complete(table, missing).sum() <= 0.5 * table.num_rows
        problems.append((sentence, rules.option("missing", "mean" if few else "drop")))
    remedy = rules.without(list(unfit))
    rules.refuse(where, [*problems, *((f"column {name!r} {why}", remedy) for name, why in unfit.items())])


def _learnt(cells, name, rules):
    kind, fills = one.kind_of(cells)[0], rules.missing in ("mean", "indicator")
    column = Column(name, kind, marked=rules.missing == "indicator" and one.missing(cells) > 0)
    if kind != "category":
        column.fill = float(np.nanmean(one.numbers(cells, kind))) if fills else None
        return column
    pa = arrow()
    values = cells.cast(cells.type.value_type) if pa.types.is_dictionary(cells.type) else cells
    counts = {pair["values"]: pair["counts"] for pair in values.value_counts().to_pylist()}
    levels = sorted(level for level in counts if level is not None and level == level)
    column.levels = one.as_text(pa.chunked_array([pa.array(levels, values.type)])).to_pylist()
    if fills:
        column.fill = column.levels[int(np.argmax([counts[level] for level in levels]))]
    return column
