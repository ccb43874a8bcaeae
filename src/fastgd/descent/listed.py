"""Lists of Results that show a line for each, in a notebook a table, and become data frames."""

from __future__ import annotations

import typing

from fastgd.engine import display
from fastgd.engine.result import Result

ResultT = typing.TypeVar("ResultT", bound=Result)


class Runs(list[ResultT]):
    """A list of Results that shows how they ended instead of each of them."""

    def __repr__(self):
        names = [run.status.name for run in self]
        return f"{len(self)} runs: " + ", ".join(f"{names.count(name)} {name}" for name in dict.fromkeys(names))

    def to_frame(self) -> typing.Any:
        """A pandas DataFrame with a row for each run: settings, values, status, steps, and the point, x[0], x[1], …"""
        rows = [self._row(run) for run in self]
        for row, run in zip(rows, self, strict=True):
            row |= {f"x[{j}]": value for j, value in enumerate(run.x.reshape(-1).tolist())}
        return display.frame({name: [row[name] for row in rows] for name in (rows[0] if rows else ())})

    def _repr_html_(self) -> str:
        rows = [self._row(run) for run in self]
        columns = list(rows[0]) if rows else []
        return display.table(("", *columns), [(i, *map(shown, row.values())) for i, row in enumerate(rows)])

    @staticmethod
    def _row(run):
        row = {name: shown_setting(value) for name, value in run.get("settings", {}).items()}
        row |= {name: run[name] for name in ("loss", "validation_loss") if name in run}
        return row | {"fun": run.fun, "status": run.status.name, "nit": run.nit}


class Sweep(Runs[ResultT]):
    """The Results of a sweep. It shows a line for each."""

    def __repr__(self):
        rows = [[f"{name} {shown(value)}" for name, value in self._row(run).items()] for run in self]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        return "\n".join(
            ", ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
        )  # fmt: skip


def shown(value):
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def shown_setting(value):
    """A rate, a penalty or a rule: a number, or a name."""
    if isinstance(value, float):
        return value
    return getattr(value, "__name__", repr(value)) if callable(value) else str(value)
