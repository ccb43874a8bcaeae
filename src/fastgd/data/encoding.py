"""The columns of a table as numbers: one encoder for the command line, for estimators and for `fastgd.data.scan`."""

import dataclasses
import shlex

import numpy as np

from fastgd import validation
from fastgd.data import cells as one
from fastgd.data.tables import TableError, arrow, check_names

CHOICES = {"missing": (None, "drop", "mean", "indicator"), "dates": (None, "number"), "drop": ("first", None),
           "unknown": ("error", "zeros")}  # fmt: skip
# An encoded table of more numbers than this, 4 GiB of them, is refused.
MOST_VALUES = 1 << 29
SHOWN = 5  # levels that a sentence lists


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

    missing: str | None = None
    drop: str | None = "first"
    dates: str | None = None
    unknown: str = "error"
    shell: bool = False

    def __post_init__(self):
        for name, known in CHOICES.items():
            value = getattr(self, name)
            if not (value is None or isinstance(value, str)) or value not in known:
                names = ", ".join(map(repr, known))
                raise ValueError(f"{name} must be one of {names}; got {validation.describe(value)}")

    def option(self, name, value):
        return f"--{name} {value}" if self.shell else f"{name}={value!r}"

    def without(self, names):
        if self.shell:
            return f"--exclude {shlex.quote(','.join(quoted(name) for name in names))}"
        return f"leave out {listed(names)}"

    def refuse(self, where, problems, remedies):
        """Raise one sentence for all that is wrong, with what to add."""
        say = "add " if self.shell and remedies[0].startswith("--") else "pass "
        ways = (" " if self.shell else ", ").join(dict.fromkeys(remedies))
        raise TableError(f"{where}: {'; '.join(problems)}: {'' if ways.startswith('leave') else say}{ways}")


def quoted(name):
    """A name as an option that lists names takes it."""
    return '"' + name.replace('"', '""') + '"' if "," in name or '"' in name else name


def listed(names):
    return ", ".join(map(repr, names))


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
        """Learn levels and means from the rows of a fit, which `check` has passed."""
        self = cls([_learnt(table.column(name), name, rules) for name in names], rules)
        if self.width * table.num_rows > MOST_VALUES:
            most = sorted((c for c in self.columns if c.levels), key=lambda c: -len(c.levels))[:SHOWN]
            rules.refuse(
                where, [f"column {c.name!r} has {len(c.levels):,} levels" for c in most],
                [rules.without([c.name for c in most])],
            )  # fmt: skip
        return self

    @classmethod
    def of_numbers(cls, names):
        """That of a fit on columns of numbers."""
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
        """The numbers (n, d) of a table with these columns, and others.

        Raises
        ------
        TableError
            Columns are absent or of another kind, cells are missing, or levels unknown.
        """
        check_names(table, self.names, where)
        out = np.zeros((table.num_rows, self.width))
        problems, remedies, j = [], [], 0
        missing = {c.name: one.missing(table.column(c.name)) for c in self.columns if c.fill is None}
        missing = {name: count for name, count in missing.items() if count}
        if missing:
            problems.append("cells are missing in " + ", ".join(f"{name!r} ({n})" for name, n in missing.items()))
            remedies.append("rows where every cell is known, or fit with " + self.rules.option("missing", "mean"))
        for column in self.columns:
            width = len(self._encoded(column))
            problem = (
                None
                if column.name in missing
                else self._encode(column, table.column(column.name), out[:, j : j + width])
            )
            if problem:
                problems.append(problem[0])
                remedies.append(problem[1])
            j += width
        if problems:
            self.rules.refuse(where, problems, remedies)
        return out

    def _encode(self, column, cells, out):
        """Fill the columns `out` of one; (what is wrong, what helps) or None."""
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
                shown = listed(new[:SHOWN]) + (f" and {len(new) - SHOWN} more" if len(new) > SHOWN else "")
                problem = f"column {column.name!r} holds levels that the fit did not have, {shown}"
                return problem, self.rules.option("unknown", "zeros")
        first = len(column.levels) - len(self._kept(column))
        numbers = pc.fill_null(codes, -1).to_numpy() - first
        rows = np.flatnonzero(numbers >= 0)
        out[rows, numbers[rows]] = 1.0
        return None

    # ---------------------------------------------------------------------------------------------------------- remarks

    def notes(self, rows):
        """What can be fitted but is hardly meant, a sentence each."""
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
        rules = {name: getattr(self.rules, name) for name in CHOICES}
        return {**rules, "columns": [dataclasses.asdict(column) for column in self.columns]}

    @classmethod
    def from_dict(cls, content):
        """KeyError, TypeError or ValueError for what is none."""
        rules = Rules(**{name: content[name] for name in CHOICES})
        columns = [Column(**column) for column in content["columns"]]
        for c in columns:
            fill = c.fill is None or isinstance(c.fill, str if c.kind == "category" else (int, float))
            texts = [c.name, *c.levels]
            if c.kind not in ("number", "date", "category") or not fill or not all(isinstance(t, str) for t in texts):
                raise ValueError(f"the encoding of column {c.name!r} is none")
        return cls(columns, rules)


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
    if twice:
        problems = [f"there are {table.column_names.count(name)} columns named {name!r}" for name in twice]
        rules.refuse(where, problems, [rules.without(twice)])
    check_names(table, [*names, *also], where)
    problems, remedies, missing, exclude = [], [], {}, {}
    for name in names:
        kind, why = one.kind_of(table.column(name))
        if why:
            exclude[name] = why
        elif kind == "date" and rules.dates is None:
            problems.append(f"column {name!r} holds dates")
            remedies.append(rules.option("dates", "number"))
        elif kind == "category" and (marked := one.ambiguous(table.column(name))):
            mark, example = marked
            problems.append(
                f"column {name!r} holds numbers such as {example!r}, with {mark!r} for thousands or decimals"
            )
            either = f"--thousands {mark} or --decimal {mark}"
            remedies.append(either if rules.shell else f"{name!r} as numbers")
    if rules.missing is None:
        counts = {name: one.missing(table.column(name)) for name in [*also, *names] if name not in exclude}
        missing = {name: count for name, count in counts.items() if count}
    if missing:
        problems.append("cells are missing in " + ", ".join(f"{name!r} ({n})" for name, n in missing.items()))
        few = one.complete(table, missing).sum() <= 0.5 * table.num_rows
        remedies.append(rules.option("missing", "mean" if few else "drop"))
    if exclude:
        problems += [f"column {name!r} {why}" for name, why in exclude.items()]
        remedies.append(rules.without(list(exclude)))
    if problems:
        rules.refuse(where, problems, remedies)


def _learnt(cells, name, rules):
    kind, fills = one.kind_of(cells)[0], rules.missing in ("mean", "indicator")
    column = Column(name, kind, marked=rules.missing == "indicator" and one.missing(cells) > 0)
    if kind != "category":
        column.fill = float(np.nanmean(one.numbers(cells, kind))) if fills else None
        return column
    pa = arrow()
    values = cells.cast(cells.type.value_type) if pa.types.is_dictionary(cells.type) else cells
    counts = [(pair["values"], pair["counts"]) for pair in values.value_counts().to_pylist()]
    counts = sorted(pair for pair in counts if pair[0] is not None and pair[0] == pair[0])
    column.levels = one.as_text(pa.chunked_array([pa.array([level for level, _ in counts], values.type)])).to_pylist()
    if fills:
        most = max(range(len(counts)), key=lambda i: counts[i][1])
        column.fill = column.levels[most]
    return column
