"""Formulas such as `weight ~ height + C(sex)`, by formulaic (extra "formula")."""

import re
import typing
import warnings

import numpy as np

from fastgd.data import cells as one
from fastgd.data import encoding
from fastgd.data.tables import TableError, check_names, one_line
from fastgd.errors import import_extra


class Terms(typing.NamedTuple):
    """A table and the right side of a formula, in the place of X."""

    table: typing.Any
    text: str


def sides(formula):
    """(the target, the right side) of a formula."""
    left, tilde, right = str(formula).partition("~")
    target = left.strip().strip("`")
    if not tilde or not target or not right.strip() or "~" in right:
        raise TableError(f"the formula must be of the form 'target ~ column + C(column)'; got {formula!r}")
    return target, right.strip()


def needed(text, names):
    """The columns, of those with these names, that the right side of a formula takes."""
    # Formulas may come with a file, and formulaic evaluates what they say: besides columns only these may be named.
    functions = {"C", "I", "Q", "log", "log2", "log10", "exp", "sqrt", "abs", "contr", "treatment", "sum"}
    bare = re.sub(r"`[^`]*`|\"[^\"]*\"|'[^']*'", " ", text)
    words = re.findall(r"[^\W\d]\w*", bare)
    wrong = [word for word in words if word not in functions and word not in names and word not in ("np", "base")]
    if wrong:
        allowed = ", ".join(sorted(functions))
        raise TableError(f"the formula names {wrong[0]!r}, which is no column, and none of the functions {allowed}")
    formulaic = import_extra("formulaic", "formula", "a formula")
    try:
        found = [str(name) for name in formulaic.Formula(text).required_variables]
    except Exception as error:  # whatever its parser raises
        raise TableError(f"the formula {text!r} cannot be read: {one_line(error)}") from None
    return [name for name in names if name in found]


class Formula:
    """The right side of a formula, and the levels of the columns of text that it takes.

    It has what others need of an `encoding.Encoder`.

    Parameters
    ----------
    text : str
    levels : dict
        Of each column: its levels, or None for a column of numbers.
    rules : encoding.Rules
    """

    plain, columns = False, ()

    def __init__(self, text, levels, rules):
        self.text, self.levels, self.rules, self.names = text, levels, rules, list(levels)
        needed(text, self.names)
        # The encoded columns are found by encoding rows that contain every level of every column.
        made = self._made({name: known or [0.5, 1.5] for name, known in levels.items()})
        self.intercept = "Intercept" in made.columns
        self.encoded_names = [name for name in made.columns if name != "Intercept"]
        self.width = len(self.encoded_names)

    @classmethod
    def of(cls, text, table, rules, where="X"):
        """Learn the levels of the rows of a fit."""
        known = encoding.Encoder.of(table, needed(text, table.column_names), rules, where)
        return cls(text, {column.name: column.levels or None for column in known.columns}, rules)

    def replace_rules(self, rules):
        return type(self)(self.text, self.levels, rules)

    def encode(self, table, where="X"):
        """Encode a table that has these columns, in any order and among others, as numbers (n, d)."""
        check_names(table, self.names, where)
        columns = [encoding.Column(n, "category" if k else "number", k or []) for n, k in self.levels.items()]
        encoding.Encoder(columns, self.rules).encode(table, where)  # which refuses what was not in the fit
        cells = {
            name: one.labels(table.column(name)).astype(str) if known else one.numbers(table.column(name))
            for name, known in self.levels.items()
        }
        out = self._made(cells)[self.encoded_names].to_numpy(float)
        if not np.all(np.isfinite(out)):
            row, column = (int(i) for i in np.argwhere(~np.isfinite(out))[0])
            raise TableError(f"{where}: {self.encoded_names[column]} is {out[row, column]} in row {row + 1}")
        return out

    def _made(self, columns):
        """The columns of the formula, as a frame of pandas."""
        import formulaic
        import pandas

        rows = max(map(len, columns.values()), default=1)
        frame = {name: np.resize(values, rows) for name, values in columns.items()}
        frame |= {name: pandas.Categorical(frame[name], known) for name, known in self.levels.items() if known}
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            try:
                return formulaic.model_matrix(self.text, pandas.DataFrame(frame), na_action="ignore")
            except Exception as error:  # whatever the functions of a formula raise
                raise TableError(f"the formula {self.text!r} cannot be evaluated: {one_line(error)}") from None

    def notes(self, rows):
        return []

    def to_dict(self):
        return self.rules.to_dict() | {"formula": self.text, "levels": self.levels}

    @classmethod
    def from_dict(cls, content):
        return cls(str(content["formula"]), dict(content["levels"]), encoding.Rules.from_dict(content))
