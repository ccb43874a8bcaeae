"""Small real data sets. Their sources are in `SOURCES.md`."""

from __future__ import annotations

import typing
from pathlib import Path

import numpy as np

if typing.TYPE_CHECKING:
    from fastgd.types import Doubles


def women_path() -> Path:
    """The CSV file of the women table, as a path (columns height, weight)."""
    return Path(__file__).with_name("women.csv")


def load_women() -> tuple[Doubles, Doubles]:
    """Average heights and weights of 15 American women (The World Almanac, 1975).

    Returns
    -------
    X : ndarray of float64, (15, 1)
        Height in inches.
    y : ndarray of float64, (15,)
        Weight in pounds.

    Examples
    --------
    >>> X, y = load_women()
    >>> X.shape, float(y[0])
    ((15, 1), 115.0)
    """
    with women_path().open() as file:
        table = np.loadtxt(file, delimiter=",", skiprows=1)
    return table[:, :1].copy(), table[:, 1].copy()
