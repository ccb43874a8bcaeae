"""Fits of a Parquet file that is larger than the memory they may take, beside pyarrow alone and scikit-learn.

    python benchmarks/stream.py [--columns 20 --limit 100MB]

The file has four times `--limit`, and one line for each of:

- first pass: its rate beside that of pyarrow, which decodes the file in batches to row-major float64;
- later passes: a value and gradient of the log loss from the temporary file, beside the same from an array;
- memory: the most anonymous memory that the process took for a fit beside what it had before (Linux);
- the coefficients beside those of a fit in memory;
- time to a loss within 1e-3 of the least, beside SGDClassifier.partial_fit over batches of pyarrow.
"""

import argparse
import re
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from fastgd import GDClassifier, GDRegressor, LinearObjective, data
from fastgd.data.encoding import Rules
from fastgd.data.streamed import bytes_of


def write(path, size, d):
    """A file of about so many bytes, of d columns of normal numbers, a number and a class."""
    rng, rows = np.random.default_rng(0), size // (8 * (d + 1))
    w, writer = rng.normal(size=d) / np.sqrt(d), None
    for first in range(0, rows, 100_000):
        X = rng.normal(size=(min(100_000, rows - first), d))
        h = X @ w
        columns = {f"x{j}": X[:, j] for j in range(d)}
        table = pa.table(columns | {"y": h + rng.normal(size=len(h)), "c": (h > rng.logistic(size=len(h))) * 1})
        writer = writer or pq.ParquetWriter(path, table.schema)
        writer.write_table(table)
    writer.close()
    return rows


def batches(path, names, rows=8192):
    """pyarrow alone: batches as row-major float64."""
    for batch in pq.ParquetFile(path, pre_buffer=False, buffer_size=1 << 17).iter_batches(rows, columns=names):
        out = np.empty((len(batch), len(names)))
        for j, column in enumerate(batch.columns):
            out[:, j] = column.to_numpy()
        yield out


def timed(call):
    begun = time.perf_counter()
    result = call()
    return result, time.perf_counter() - begun


def best(call, times=3):
    return min(timed(call)[1] for _ in range(times))


class Memory:
    """The most anonymous memory of this process within a block, beside what it had at its beginning."""

    def __enter__(self):
        self._begun, self.most, self._ended = self._now(), 0, False
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def __exit__(self, *error):
        self._ended = True
        self._thread.join()

    @staticmethod
    def _now():
        return 1024 * int(re.search(r"RssAnon:\s+(\d+)", Path("/proc/self/status").read_text())[1])

    def _watch(self):
        while not self._ended:
            self.most = max(self.most, self._now() - self._begun)
            time.sleep(0.002)


def measure(path, limit, d, rows):
    names = [f"x{j}" for j in range(d)]
    scan = lambda target: data.scan(path, target=target, features=names, memory_limit=limit)  # noqa: E731
    with Memory() as memory:
        streamed = GDRegressor().fit(scan("y"))
    print(f"memory of a fit           {memory.most / limit:8.2f} of the limit")
    alone = best(lambda: [None for _ in batches(path, [*names, "c"])])
    first = best(lambda: scan("c").learn(Rules()))
    size = rows * d * 8 / 1e6
    print(f"first pass                {size / first:8.0f} MB/s, {alone / first:.2f} of the rate of pyarrow alone")
    objective = LinearObjective(scan("c"), loss="log_loss", activation="sigmoid", fit_intercept=True)
    table = pq.read_table(path).to_pandas()
    X, y, c = np.ascontiguousarray(table[names]), table["y"].to_numpy(), table["c"].to_numpy()
    in_memory = LinearObjective(X, c, loss="log_loss", activation="sigmoid", fit_intercept=True)
    w = np.zeros(d + 1)
    passes = [best(lambda o=o: o.value_and_gradient(w), 5) for o in (objective, in_memory)]
    print(f"later pass                {size / passes[0]:8.0f} MB/s, {passes[0] / passes[1]:.2f} of the time in memory")
    expected = GDRegressor().fit(X, y)
    error = np.max(np.abs(streamed.coef_ / expected.coef_ - 1))
    print(f"coefficients              {error:8.1e} relative difference from a fit in memory")
    model, seconds = timed(lambda: GDClassifier(penalty=None, tol=1e-3).fit(scan("c")))
    goal = in_memory.value(np.append(model.coef_.ravel(), model.intercept_)) * (1 + 1e-3)
    theirs, epochs, value = sklearn(path, names, in_memory, goal)
    print(f"log loss within 1e-3      {seconds:8.2f} s")
    print(f"partial_fit (sklearn)     {theirs:8.2f} s, {epochs} epochs, {value}")


def sklearn(path, names, objective, goal, most=5):
    from sklearn.linear_model import SGDClassifier

    model, seconds = SGDClassifier("log_loss", penalty=None, random_state=0), 0.0
    for epoch in range(1, most + 1):
        begun = time.perf_counter()
        for batch in batches(path, [*names, "c"]):
            model.partial_fit(batch[:, :-1], batch[:, -1], classes=[0.0, 1.0])
        seconds += time.perf_counter() - begun
        value = objective.value(np.append(model.coef_.ravel(), model.intercept_))
        if value <= goal:
            return seconds, epoch, "reached"
    return seconds, most, f"not reached: {value / goal - 1:.1e} above"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--columns", type=int, default=20)
    parser.add_argument("--limit", default="100MB")
    given = parser.parse_args()
    limit = bytes_of(given.limit)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "data.parquet"
        rows = write(path, 4 * limit, given.columns)
        times = path.stat().st_size / limit
        print(f"{rows:,} rows of {given.columns} columns, {times:.2f} times the limit of {given.limit}")
        measure(path, limit, given.columns, rows)


if __name__ == "__main__":
    main()
