"""The fixture `compare`, which makes groups of members; one thread; small sizes in a test run.

A group is the same work done by several members to the same answer. Each member is one benchmark, and each benchmark
asserts the answer before it is timed. `report.py` reads what `compare` leaves in `extra_info`.
"""

import contextlib
import importlib.metadata
import os
import sys

# BLAS reads these when NumPy loads it. If NumPy has been imported already, threadpoolctl sets the number later.
SET_IN_TIME = "numpy" not in sys.modules
for variable in ("OMP", "OPENBLAS", "MKL", "VECLIB_MAXIMUM"):
    os.environ[f"{variable}{'' if '_' in variable else '_NUM'}_THREADS"] = "1"

import numpy as np  # noqa: E402
import pytest  # noqa: E402
from workload import assert_same  # noqa: E402

import fastgd  # noqa: E402
from fastgd import kernels  # noqa: E402

QUICK_ROWS, QUICK_COLUMNS = 200, 20
# Relative differences of results from the answer: members sum in different orders. A larger one means different work.
TOLERANCE = {"float64": 1e-10, "float32": 1e-4}


@contextlib.contextmanager
def blas_threads(count, timed):
    """Limit BLAS to `count` threads."""
    try:
        from threadpoolctl import threadpool_limits
    except ImportError:
        if timed and not (SET_IN_TIME and count == 1):
            pytest.fail("the number of BLAS threads cannot be set any more: install threadpoolctl")
        yield
    else:
        with threadpool_limits(limits=count):
            yield


class Compare:
    """Times one member of a group, after comparing its result with the group's answer.

    `quick` is true in a test run, where nothing is timed and problems are small.
    """

    def __init__(self, benchmark):
        self.benchmark = benchmark
        self.quick = not benchmark.enabled

    def shape(self, n, d, *rest, least=QUICK_ROWS):
        """The shape to work on: the one given, or a small one in a test run, of `least` rows."""
        return (min(n, least), min(d, QUICK_COLUMNS), *rest) if self.quick else (n, d, *rest)

    def __call__(
        self, section, what, who, members, answer, *, shape=(), dtype="float64", threads=1, floors=None,
        yardsticks=None, target=None, judge=None, tolerance=None, reads=0, note="",
    ):  # fmt: skip
        """Assert the answer of the member `who`, then time it.

        Parameters
        ----------
        section, what : str
            The table and the row in it. A group is one row: `section`, `what`, `shape`, `dtype` and `threads` together.
        who : str
            The member to time, a key of `members`, `floors` or `yardsticks`.
        members : dict of str → callable
            They take nothing and return the answer. "ours" is the baseline, the others are peers.
        answer : array, number or tuple of them
            Computed apart from the timed calls, in float64.
        shape : tuple of int
            What is worked on; empty where there are no data.
        threads : int
            That members may use; the BLAS is held to it.
        floors : dict of str → (callable, answer), optional
            A part of the work that cannot be avoided, so that ours cannot be faster.
        yardsticks : dict of str → (callable, answer), optional
            Other work, of which ours may take so many times the time.
        target : dict of str → float, optional
            For members and floors: the ratio of their time to ours to reach. For yardsticks: the ratio of our time to
            theirs, at most.
        judge : callable, optional
            Applied to what a member returns, and not timed: the number or array that is held to the answer.
        tolerance : float, optional
            Largest difference, relative to the largest number in the answer; by dtype without it.
        reads : int, optional
            Bytes of X, where the work is one pass over X.
        note : str, optional
            What the reader of the row should know; the same for all members.
        """
        floors, yardsticks, target = floors or {}, yardsticks or {}, target or {}
        if unknown := target.keys() - members.keys() - floors.keys() - yardsticks.keys():
            raise ValueError(f"targets for {unknown}, who are not in the group")
        role = "floor" if who in floors else "yardstick" if who in yardsticks else "ours" if who == "ours" else "peer"
        run, expected = (floors | yardsticks).get(who) or (members[who], answer)
        self.benchmark.group = f"{section}: {what}, {shape}, {dtype}, {threads} thread{'s' * (threads > 1)}"
        self.benchmark.extra_info.update(
            section=section, what=what, who=who, role=role, shape=list(shape), dtype=dtype, threads=threads,
            kernels=kernels.active.name, target=target.get(who), reads=reads, note=note,
        )  # fmt: skip
        with blas_threads(threads, timed=not self.quick):
            found = run()
            found = judge(found) if judge is not None and who in members else found
            assert_same(found, expected, TOLERANCE[dtype] if tolerance is None else tolerance)
            self.benchmark(run)


@pytest.fixture
def compare(benchmark):
    return Compare(benchmark)


@pytest.hookimpl(optionalhook=True)
def pytest_benchmark_update_machine_info(machine_info):
    """Versions for the head of the report."""
    blas = np.show_config(mode="dicts")["Build Dependencies"]["blas"]
    peers = {name: installed(name) for name in ("scikit-learn", "torch", "cyanure", "skglm", "statsmodels")}
    machine_info["fastgd"] = dict(fastgd.show_config()) | {"blas": f"{blas['name']} {blas['version']}", "peers": peers}


def installed(name):
    """The version of a package, or None."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None
