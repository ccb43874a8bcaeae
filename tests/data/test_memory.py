"""What a fit takes beside its data: a file of 1 GB is walked where it lies."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest

pytestmark = [
    pytest.mark.one_build,
    pytest.mark.skipif(sys.platform != "linux", reason="private memory is read from /proc"),
]

ROWS, COLUMNS = 2_000_000, 64  # 1.02 GB of float64
# Pieces of some rows in float64 while XᵀX is formed, with copies of them; far less everywhere else.
MOST_ADDED = 48 << 20

SCRIPT = """
import json, sys, threading

import numpy as np

import fastgd

path, rows, columns = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])


def private():
    # Pages of a file belong to the page cache and may be dropped at any time: they do not count.
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) << 10 for line in status if line.startswith("RssAnon"))


class Peak(threading.Thread):
    def __init__(self):
        super().__init__(daemon=True)
        self.highest, self.ended = private(), threading.Event()

    def run(self):
        while not self.ended.wait(0.002):
            self.highest = max(self.highest, private())


X = np.memmap(path, np.float64, "r", shape=(rows, columns))
y = np.zeros(rows)
y[::1000] = 1.0
small = fastgd.LinearObjective(X[:5000], y[:5000], loss="mse")
fastgd.gradient_descent(small, lr="auto", solver="preconditioned", step_num=2)  # brings in the libraries


def make():
    global objective
    objective = fastgd.LinearObjective(X, y, loss="mse", fit_intercept=True)


def descend(**options):
    return lambda: fastgd.gradient_descent(objective, **options)


FITS = {
    "objective": make,
    "full batch": descend(lr=1e-6, step_num=2),
    "stochastic": descend(lr=1e-6, step_num=4000, batch_size=256),
    "gram route": descend(lr=1e-6, step_num=50),
    "preconditioned": descend(lr="auto", solver="preconditioned", step_num=2),
    "gram solver": descend(lr="auto", solver="gram", step_num=2),
    "sweep": lambda: fastgd.sweep(objective, lr=[1e-7, 1e-6, 1e-5], step_num=2, route="direct"),
}
begun = private()
ballast = np.ones(8 << 20)  # 64 MB, which the measurement must see
assert private() - begun > 60 << 20
del ballast
added = {}
for name, fit in FITS.items():
    before, peak = private(), Peak()
    peak.start()
    fit()
    peak.ended.set()
    peak.join()
    added[name] = max(peak.highest, private()) - before
print(json.dumps(added))
"""


@pytest.fixture(scope="module")
def added(tmp_path_factory):
    """Bytes of private memory that each fit added at its peak."""
    path = tmp_path_factory.mktemp("large") / "X.bin"
    with open(path, "wb") as file:
        file.truncate(ROWS * COLUMNS * 8)  # a sparse file: holes read as zeros and take no space
    X = np.memmap(path, np.float64, "r+", shape=(ROWS, COLUMNS))
    X[:5000] = np.random.default_rng(0).normal(size=(5000, COLUMNS))
    X[ROWS // 2 : ROWS // 2 + 1000] = 1.0
    X.flush()
    del X
    assert path.stat().st_blocks * 512 < 32 << 20
    # Where other tests keep the cores busy, threads of BLAS would wait for each other.
    alone = os.environ | {"OPENBLAS_NUM_THREADS": "1"}
    command = [sys.executable, "-c", SCRIPT, str(path), str(ROWS), str(COLUMNS)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=250, env=alone)
    path.unlink()
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize(
    "fit", ["objective", "full batch", "stochastic", "gram route", "preconditioned", "gram solver", "sweep"]
)
def test_a_fit_adds_no_more_than_blocks_to_its_data(added, fit):
    # Quasi-Newton steps begin on a copy of every sixteenth row.
    most = MOST_ADDED + (ROWS * COLUMNS * 8 // 16 if fit == "preconditioned" else 0)
    assert added[fit] <= most, f"{fit} took {added[fit] / 2**20:.0f} MB"
