"""Fits of a Parquet file that is larger than the memory they may take, beside pyarrow alone and scikit-learn.

    python benchmarks/stream.py [--columns 20 --limit 100MB]

The file has four times `--limit`, and one line for each of:

- first pass: its rate beside that of pyarrow, which decodes the file in batches to row-major float64;
- later passes: a value and gradient of the log loss from the temporary file, beside the same from an array;
- memory: the most anonymous memory that the process took for a fit beside what it had before (Linux);
- the coefficients beside those of a fit in memory;
- time to a log loss within 1e-3 of the least, beside scikit-learn's SGDClassifier.partial_fit over batches of pyarrow,
  Vowpal Wabbit (writing its text from the same batches, and up to 5 passes over its cache), and statsmodels'
  DistributedModel over chunks of DuckDB (the mean of the fits of the chunks): each where it is installed. What does not
  come so near says by how much it misses.
"""

import argparse
import os
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


def evicted(file, call):
    """Seconds of a call with none of a file in memory."""
    descriptor, seconds = file._file.fileno(), []
    for _ in range(3):
        os.fsync(descriptor)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        seconds.append(timed(call)[1])
    return min(seconds)


def read(file, step=1 << 20):
    for place in range(0, file.size, step):
        os.pread(file._file.fileno(), step, place)


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
    if hasattr(os, "posix_fadvise"):
        file = objective.rows._chunks._file
        alone, ours = (size / evicted(file, call) for call in (lambda: read(file), lambda: objective.value(w)))
        print(f"later pass from the disk  {ours:8.0f} MB/s, {ours / alone:.2f} of the rate at which it is read alone")
    expected = GDRegressor().fit(X, y)
    error = np.max(np.abs(streamed.coef_ / expected.coef_ - 1))
    print(f"coefficients              {error:8.1e} relative difference from a fit in memory")
    best_known = GDClassifier(penalty=None, tol=1e-10).fit(X, c)
    goal = in_memory.value(np.append(best_known.coef_.ravel(), best_known.intercept_)) * (1 + 1e-3)
    for name, peer in PEERS.items():
        try:
            found = peer(path, names, lambda w: in_memory.value(w) <= goal)
        except ImportError as error:
            print(f"{name:25s} is not installed: {error.name}")
            continue
        seconds, w = found
        value = in_memory.value(w)
        said = "" if value <= goal else f", not reached: {value / goal - 1:.1e} above"
        print(f"{name:25s} {seconds:8.2f} s to the log loss{said}")


def fastgd(path, names, reached):
    def fit():
        limit = path.stat().st_size // 4
        return GDClassifier(penalty=None, tol=1e-3).fit(data.scan(path, target="c", features=names, memory_limit=limit))

    model, seconds = timed(fit)
    return seconds, np.append(model.coef_.ravel(), model.intercept_)


def sklearn(path, names, reached, most=5):
    from sklearn.linear_model import SGDClassifier

    model, seconds = SGDClassifier("log_loss", penalty=None, random_state=0), 0.0
    for _ in range(most):
        begun = time.perf_counter()
        for batch in batches(path, [*names, "c"]):
            model.partial_fit(batch[:, :-1], batch[:, -1], classes=[0.0, 1.0])
        seconds += time.perf_counter() - begun
        w = np.append(model.coef_.ravel(), model.intercept_)
        if reached(w):
            break
    return seconds, w


def vowpal_wabbit(path, names, reached, most=5):
    from vowpalwabbit import Workspace

    text, begun = path.with_suffix(".vw"), time.perf_counter()
    line = "%d | " + " ".join(f"{name}:%.6g" for name in names) + "\n"
    with open(text, "w") as file:
        for batch in batches(path, [*names, "c"]):
            file.writelines(line % (2 * row[-1] - 1, *row[:-1]) for row in batch.tolist())
    written = time.perf_counter() - begun
    for passes in range(1, most + 1):
        options = f"-d {text} --loss_function logistic --passes {passes} -c -k --holdout_off --quiet"
        model, seconds = timed(lambda options=options: Workspace(options))
        w = np.array([model.get_weight_from_name(name) for name in [*names, "Constant"]])
        model.finish()
        if reached(w):
            break
    return written + seconds, w


def statsmodels(path, names, reached, rows=100_000):
    import duckdb
    import statsmodels.api as sm
    from statsmodels.base.distributed_estimation import DistributedModel

    def fit():
        columns, source = ", ".join([*names, "1.0::DOUBLE AS one", "c"]), f"read_parquet('{path}')"
        chunks = duckdb.sql(f"SELECT {columns} FROM {source}").to_arrow_reader(rows)
        arrays = (
            np.column_stack([column.to_numpy(zero_copy_only=False) for column in batch.columns]) for batch in chunks
        )
        pairs = ((chunk[:, -1], chunk[:, :-1]) for chunk in arrays)
        partitions = -(-pq.ParquetFile(path).metadata.num_rows // rows)
        model = DistributedModel(partitions, model_class=sm.Logit, estimation_method=naive, join_method=mean)
        return model.fit(pairs, fit_kwds={"disp": 0})

    naive = lambda model, *_, fit_kwds=None, **__: model.fit(**(fit_kwds or {})).params  # noqa: E731
    mean = lambda found, *_, **__: np.mean(found, axis=0)  # noqa: E731
    result, seconds = timed(fit)
    return seconds, np.asarray(getattr(result, "params", result))


PEERS = {
    "fastgd": fastgd,
    "scikit-learn partial_fit": sklearn,
    "Vowpal Wabbit": vowpal_wabbit,
    "statsmodels, DuckDB": statsmodels,
}


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
