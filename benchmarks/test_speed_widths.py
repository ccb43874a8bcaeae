"""Value and gradient of every loss at every width; see `widths.py` for the cases, and for tables of ratios."""

import math

import numpy as np
from widths import BEYOND_CACHE, GROUPS, IN_CACHE, SOME_WIDTHS, TARGETS, WIDTHS, Case

QUICK_VALUES, QUICK_WIDTHS = 2_000, (3, 33)
SPARSE_WIDTHS = 1_000, 10_000
READING = 0.8  # of the speed of reading X, far beyond the caches, from 16 columns on
WHO = ("ours", "reading X", "NumPy")


def pytest_generate_tests(metafunc):
    """All shapes where they are timed; in a test run two for each group."""
    option = metafunc.config.getoption
    quick = option("benchmark_disable") and not option("benchmark_enable")
    cases = []
    for group in GROUPS:
        widths = WIDTHS if group == "identity" else SPARSE_WIDTHS if group.startswith("CSR") else SOME_WIDTHS
        for dtype in ("float64",) if quick else ("float64", "float32"):
            for values in (
                (QUICK_VALUES,) if quick else (IN_CACHE, BEYOND_CACHE) if group == "identity" else (IN_CACHE,)
            ):
                for d in QUICK_WIDTHS if quick else widths:
                    cases += [(group, dtype, values, d, who) for who in WHO if not quick or who != "reading X"]
    metafunc.parametrize(("group", "dtype", "values", "d", "who"), cases)


def test_widths(compare, group, dtype, values, d, who):
    values *= 10 if group.startswith("CSR") else 1
    case = Case(group, d, values, np.dtype(dtype).type)
    target = {"NumPy": TARGETS[group, dtype][0]}
    if values == BEYOND_CACHE and d >= 16:
        target["reading X"] = READING
    compare(
        f"Every width: {group}", "in cache" if values < BEYOND_CACHE else "beyond the caches", who,
        {"ours": case.ours, "NumPy": case.peer}, case.peer(), shape=case.shape, dtype=dtype,
        floors={"reading X": (case.reading, math.fsum([case.reading()]))}, target=target, reads=case.bytes,
        tolerance=1e-10 if dtype == "float64" else 2e-3,
    )  # fmt: skip
