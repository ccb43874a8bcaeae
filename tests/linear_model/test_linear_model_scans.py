"""Data that are read in blocks: the same fits as in memory, within a limit, and what is wrong said by file and row."""

import os
import signal
import subprocess
import sys
import textwrap

import numpy as np
import pytest
import scipy.sparse
from numpy.testing import assert_allclose, assert_array_equal

import fastgd
from fastgd import GDClassifier, GDRegressor, LinearObjective, data, gradient_descent
from fastgd.data import spill
from fastgd.data.encoding import Rules

pa = pytest.importorskip("pyarrow", reason="the extra arrow is not installed")
pd = pytest.importorskip("pandas")
pl = pytest.importorskip("polars")
pq = pytest.importorskip("pyarrow.parquet")
pytestmark = pytest.mark.one_build

N, D = 4000, 6
NAMES = [f"x{j}" for j in range(D)]


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch):
    """Chunks of few rows, none of which are kept in memory."""
    monkeypatch.setattr(spill, "CHUNK_VALUES", 1500)
    monkeypatch.setattr(spill, "KEPT", 0.0)


@pytest.fixture(scope="module")
def made():
    rng = np.random.default_rng(7)
    X = rng.normal(size=(N, D)) * 10.0 ** np.arange(-2, 4) + np.arange(D)
    h = (X - X.mean(axis=0)) / X.std(axis=0) @ rng.normal(size=D)
    frame = pd.DataFrame(X, columns=NAMES)
    frame["y"], frame["c"] = h + rng.normal(size=N), (h + rng.logistic(size=N) > 0).astype(int)
    frame["s"] = rng.integers(0, 4, N).astype(float)
    frame["label"] = np.array(["no", "yes", "often"])[frame["c"] + (h > 2)]
    frame["town"], frame["wet"] = rng.choice([f"t{i:02}" for i in range(40)], N), rng.integers(0, 2, N) == 1
    return frame


def parquet(frame, path, rows=1100):
    frame.to_parquet(path, row_group_size=rows)
    return path


def scan(source, target="y", features=NAMES, **options):
    return data.scan(source, target=target, features=features, memory_limit="5MB", **options)


SOURCES = {
    "parquet": parquet,
    "csv": lambda frame, path: frame.to_csv(path, index=False) or path,
    "decimal commas": lambda frame, path: frame.to_csv(path, index=False, sep=";", decimal=",") or path,
    "gzip": lambda frame, path: frame.to_csv(path.with_suffix(".csv.gz"), index=False) or path.with_suffix(".csv.gz"),
    "feather": lambda frame, path: frame.to_feather(path) or path,
    "frame": lambda frame, path: frame,
    "table": lambda frame, path: pa.Table.from_pandas(frame),
    "reader": lambda frame, path: pa.Table.from_pandas(frame).to_reader(max_chunksize=700),
    "polars": lambda frame, path: pl.from_pandas(frame),
    "query of polars": lambda frame, path: pl.from_pandas(frame).lazy().filter(pl.col("x0") > -1e9),
    "query of polars over a file": lambda frame, path: pl.scan_parquet(parquet(frame, path)),
    "relation of DuckDB": lambda frame, path: duckdb().read_parquet(str(parquet(frame, path))),
}


def duckdb():
    return pytest.importorskip("duckdb").connect()


@pytest.mark.parametrize("kind", SOURCES)
def test_a_fit_is_that_in_memory(kind, made, tmp_path):
    rows = scan(SOURCES[kind](made, tmp_path / "a"), sample_weight="s")
    model, expected = GDRegressor().fit(rows), GDRegressor().fit(made[NAMES], made["y"], made["s"])
    assert_allclose(model.coef_, expected.coef_, rtol=1e-9)
    assert list(model.feature_names_in_) == NAMES
    assert rows.learn(Rules()).rows._chunks.spilled > 0


def test_files_are_rows_of_one_table(made, tmp_path):
    for year in (2001, 2002):
        (tmp_path / f"year={year}").mkdir()
        parquet(made[year % 2 :: 2], tmp_path / f"year={year}" / "a.parquet")
    expected = GDRegressor().fit(made[NAMES], made["y"])
    assert_allclose(GDRegressor().fit(scan(tmp_path / "*" / "*.parquet")).coef_, expected.coef_, rtol=1e-9)
    years = GDRegressor().fit(scan(tmp_path, features=[*NAMES, "year"]))
    assert years.coef_names_[-1] == "year=2002"
    import pyarrow.dataset as ds

    source = ds.dataset(tmp_path, partitioning="hive")
    assert_allclose(GDRegressor().fit(scan(source)).coef_, expected.coef_, rtol=1e-9)
    some = GDRegressor().fit(scan(source.filter(ds.field("x0") > 0)))
    assert_allclose(some.coef_, GDRegressor().fit(made[NAMES][made.x0 > 0], made.y[made.x0 > 0]).coef_, rtol=1e-9)


ESTIMATORS = {
    "huber": GDRegressor("huber", tol=1e-12),
    "quantile": GDRegressor("quantile", tol=1e-8),
    "lasso": GDRegressor(penalty="l1", alpha=0.01, tol=1e-12),
    "ridge": GDRegressor(penalty="l2", alpha=0.1, tol=1e-14),
    "sgd": GDRegressor(solver="sgd", max_iter=3, tol=None, random_state=0),
    "textbook": GDRegressor(solver="sgd", learning_rate=1e-9, batch_size=32, max_iter=2, tol=None, random_state=0),
    "threads": GDRegressor("huber", tol=1e-12, n_jobs=2),
    "accelerated": GDRegressor("huber", solver="accelerated", tol=1e-12),
}


@pytest.mark.parametrize("name", ESTIMATORS)
def test_every_solver(name, made, tmp_path):
    model = ESTIMATORS[name]
    expected = model.fit(made[NAMES], made["y"]).coef_
    found = model.fit(scan(parquet(made, tmp_path / "a.parquet"))).coef_
    assert_allclose(found, expected, rtol=1e-7 if model.tol else 1e-12)


@pytest.mark.parametrize("target", ["c", "label", "wet"])
def test_classes(target, made, tmp_path):
    rows = scan(parquet(made, tmp_path / "a.parquet"), target)
    y = made[target].to_numpy()
    model, expected = GDClassifier(tol=1e-13).fit(rows), GDClassifier(tol=1e-13).fit(made[NAMES], y)
    assert_array_equal(model.classes_, expected.classes_)
    assert_allclose(model.coef_, expected.coef_, rtol=1e-5)
    blocks = model.predict(rows)
    assert_array_equal(np.concatenate(list(blocks)), model.predict(made[NAMES]))
    assert_allclose(np.concatenate(list(model.predict_proba(rows))), model.predict_proba(made[NAMES]), rtol=1e-12)


@pytest.mark.parametrize("missing", [None, "mean", "indicator", "drop"])
@pytest.mark.parametrize("drop", ["first", None])
def test_text_and_missing_cells(missing, drop, made, tmp_path):
    made = made.copy()
    if missing:
        rng = np.random.default_rng(3)
        for name in ("x1", "town"):
            made.loc[rng.integers(0, N, 30), name] = None
    names = ["x1", "x2", "town", "wet"]
    rows = scan(parquet(made, tmp_path / "a.parquet"), features=names)
    model = GDRegressor(missing=missing, drop=drop, penalty="l2", alpha=0.01, tol=1e-14)
    expected = model.fit(made[names], made["y"])
    coef, columns, predicted = expected.coef_, expected.coef_names_, None
    if missing != "drop":
        predicted = model.predict(made[names])
    model.fit(rows)
    assert_array_equal(model.coef_names_, columns)
    assert_allclose(model.coef_, coef, rtol=1e-5, atol=1e-9)
    if predicted is not None:
        assert_allclose(np.concatenate(list(model.predict(rows))), predicted, atol=1e-5)
    assert rows.learn(Rules(missing, drop)).rows._sparse


def test_arrays(made, tmp_path):
    X, y, s = np.ascontiguousarray(made[NAMES]), made["y"].to_numpy(), made["s"].to_numpy()
    expected = GDRegressor().fit(X, y, s).coef_
    blocks = [slice(i, i + 900) for i in range(0, N, 900)]
    for convert in (np.asarray, scipy.sparse.csr_matrix):
        rows = data.scan(lambda c=convert: ((c(X[b]), y[b], s[b]) for b in blocks), memory_limit="5MB")
        model = GDRegressor().fit(rows)
        assert_allclose(model.coef_, expected, rtol=1e-7)
        assert_allclose(np.concatenate(list(model.predict(rows))), model.predict(X), rtol=1e-9)
    np.save(tmp_path / "X.npy", X)
    model = GDRegressor().fit(data.scan(tmp_path / "X.npy"), y, s)
    assert_allclose(model.coef_, expected, rtol=1e-9)
    np.save(tmp_path / "F.npy", np.asfortranarray(np.column_stack([X, y, s])))
    rows = data.scan(tmp_path / "F.npy", target="x6", sample_weight="x7", memory_limit="5MB")
    assert_allclose(GDRegressor().fit(rows).coef_, expected, rtol=1e-9)
    single = data.scan(lambda: ((X[b].astype(np.float32), y[b]) for b in blocks), memory_limit="5MB")
    assert GDRegressor().fit(single).coef_.dtype == np.float32
    from sklearn.datasets import dump_svmlight_file

    for first in (0, 1):
        dump_svmlight_file(X, y, str(tmp_path / "a.svm"), zero_based=not first)
        model = GDRegressor().fit(data.scan(tmp_path / "a.svm"))
        assert_allclose(model.coef_, GDRegressor().fit(X, y).coef_, rtol=1e-7)
        assert_allclose(np.concatenate(list(model.predict(data.scan(tmp_path / "a.svm")))), model.predict(X), rtol=1e-7)


def test_objectives_early_stopping_and_blocks(made, tmp_path):
    rows = scan(parquet(made, tmp_path / "a.parquet"))
    objective = LinearObjective(rows, loss="squared_error", fit_intercept=True)
    found = gradient_descent(objective, lr="auto", tol=1e-12).x
    assert_allclose(found[:-1], GDRegressor().fit(made[NAMES], made["y"]).coef_, rtol=1e-7)
    w = np.linspace(0, 1e-3, D + 1)
    in_memory = LinearObjective(made[NAMES], made["y"], loss="squared_error", fit_intercept=True)
    assert_allclose(objective.numerical_gradient(w), in_memory.numerical_gradient(w), rtol=1e-6)
    again = [LinearObjective(rows, loss="huber", n_jobs=jobs).value_and_gradient(w[:-1]) for jobs in (1, 2)]
    assert again[0][0] == again[1][0]
    assert_array_equal(again[0][1], again[1][1])
    model = GDRegressor(early_stopping=True, random_state=1).fit(rows)
    coef = model.coef_
    assert_array_equal(model.fit(rows).coef_, coef)
    held = rows.learn(Rules()).rows.held_out(0.25, 0)[1]
    assert 0.2 * N < held.sum() < 0.3 * N and np.count_nonzero(np.diff(held.astype(int))) < 20  # whole chunks
    model = GDRegressor()
    for X, y, _ in rows:
        model.partial_fit(X, y)
    assert model.coef_.shape == (D,)


LOSSES = {
    "poisson": GDRegressor("poisson", tol=1e-13),
    "squared": GDRegressor(tol=1e-13),
    "lasso": GDRegressor(penalty="l1", alpha=0.01, tol=1e-13),
    "sgd": GDRegressor("poisson", solver="sgd", max_iter=2, tol=None, random_state=0),
    "log loss": GDClassifier(tol=1e-13),
}


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("features", [NAMES[:3], ["x1", "town"]])
def test_offsets_and_scores(name, features, made, tmp_path):
    model, target = LOSSES[name], {"poisson": "counts", "sgd": "counts", "log loss": "label2"}.get(name, "y")
    made = made.assign(o=np.sin(np.arange(N)), counts=np.arange(N) % 7, label2=np.where(made["c"] > 0, "yes", "no"))
    memory = data.scan(pa.Table.from_pandas(made), target=target, sample_weight="s", offset="o", features=features)
    rows = scan(parquet(made, tmp_path / "a"), target, features, sample_weight="s", offset="o")
    expected = model.fit(memory)
    coef, score, predicted = expected.coef_, expected.score(memory), expected.predict(memory)
    assert score == pytest.approx(expected.score(made[features], made[target], made["s"], made["o"]), rel=1e-12)
    model.fit(rows)
    assert_allclose(model.coef_, coef, rtol=1e-5, atol=1e-7)
    assert model.score(rows) == pytest.approx(score, rel=1e-5)
    found = np.concatenate(list(model.predict(rows)))
    if predicted.dtype.kind == "f":
        assert_allclose(found, predicted, rtol=1e-5, atol=1e-6)
    without = scan(tmp_path / "a", target, features)
    assert_array_equal(np.concatenate(list(model.predict(without, made["o"].to_numpy()))), found)
    assert model.score(without, made[target].to_numpy(), made["s"].to_numpy(), made["o"].to_numpy()) == pytest.approx(
        model.score(rows), rel=1e-12
    )


def test_offsets_of_blocks_and_of_objectives(made, tmp_path):
    X, y, s, o = (np.ascontiguousarray(made[name]) for name in (NAMES, "c", "s", "x3"))
    expected = LinearObjective(X, y, loss="poisson", activation="exp", sample_weight=s, offset=o / 50)
    w = np.full(D, 1e-5)
    for convert in (np.asarray, scipy.sparse.csr_matrix):
        blocks = lambda c=convert: ((c(X[i : i + 900]), y[i : i + 900], s[i : i + 900], o[i : i + 900] / 50)  # noqa: E731
                                    for i in range(0, N, 900))  # fmt: skip
        objective = LinearObjective(data.scan(blocks, memory_limit="5MB"), loss="poisson", activation="exp")
        assert objective.value(w) == pytest.approx(expected.value(w), rel=1e-12)
        assert_allclose(objective.gradient(w), expected.gradient(w), rtol=1e-9)
    with pytest.raises(ValueError, match="offset must be a number for each of 4000 rows; got 3"):
        list(GDRegressor().fit(X, y).predict(scan(parquet(made, tmp_path / "a")), np.ones(3)))


@pytest.mark.parametrize("model", [GDClassifier(penalty=None), GDRegressor("poisson")])
def test_separation_is_named(model, made, tmp_path):
    """A level whose rows are all of one class, or have counts of 0."""
    made = made.assign(c=np.where(made["town"] == "t07", 0, made["c"]))
    memory, stream = made[["x1", "town"]], scan(parquet(made, tmp_path / "a"), "c", ["x1", "town"])
    for given in ((memory, made["c"]), (stream,)):
        with pytest.warns(fastgd.ConditionWarning, match=r"quasi-complete separation\): along column 'town=t07'"):
            model.fit(*given)


def test_what_a_score_and_a_query_refuse(made):
    model, table = GDRegressor().fit(made[NAMES], made["y"]), made.assign(y=made["y"].where(made.index != 9))
    with pytest.raises(ValueError, match=r"y contains NaN: y\[9\] is nan"):
        model.score(scan(table))
    for limit in ("5MB", None):
        with pytest.raises(ValueError, match="requires y to be passed"):
            model.score(data.scan(made, features=NAMES, memory_limit=limit))
        query = pl.from_pandas(made).lazy()
        with pytest.raises(ValueError, match=r"the query fails: .*zz[^\n]*$"):
            data.scan(query.select("zz"), target="y", memory_limit=limit)
        assert_allclose(model.score(data.scan(query, target="y", features=NAMES, memory_limit=limit)), 0.9, atol=0.1)
    with pytest.raises(TypeError, match=r"X is a LazyFrame: pass fastgd.data.scan\(X\), or X.collect\(\)"):
        model.fit(query, made["y"])
    with pytest.raises(ValueError, match="column 'label', of weights or offsets, must hold numbers"):
        model.fit(scan(made, offset="label"))


def test_no_temporary_file_where_it_is_refused(made, tmp_path):
    with pytest.raises(spill.SpillError, match="spill=False refuses a temporary file: raise memory_limit"):
        GDRegressor().fit(scan(parquet(made, tmp_path / "a"), spill=False))
    with pytest.raises(spill.SpillError, match="spill=False"):
        GDRegressor().fit(data.scan(lambda: [(scipy.sparse.csr_matrix(made[NAMES]), made["y"])], spill=False))


def test_a_second_fit_does_not_read_again(made, tmp_path):
    path = parquet(made, tmp_path / "a.parquet")
    rows = scan(path)
    first = GDRegressor().fit(rows).coef_
    learnt = rows.learn(Rules())
    assert rows.learn(Rules()) is learnt
    parquet(made.assign(y=2 * made.y), path)
    os.utime(path, (1, 1))
    assert_allclose(GDRegressor().fit(rows).coef_, 2 * first, rtol=1e-9)  # the file is another now


# --------------------------------------------------------------------------------------------------------- bad input


def broken(made, tmp_path, change):
    one, two = parquet(made, tmp_path / "a.parquet"), parquet(made, tmp_path / "b.parquet")
    change(made.copy(), one, two)
    return tmp_path


def truncated(frame, one, two):
    content = two.read_bytes()
    two.write_bytes(content[: len(content) // 2])


def cut_in_a_group(frame, one, two):
    content = bytearray(two.read_bytes())
    content[4:64] = bytes(60)
    two.write_bytes(content)


def with_cell(value, row=2345):
    def change(frame, one, two):
        frame.loc[row, "x3"] = value
        parquet(frame, two)

    return change


BAD = {
    "truncated": (truncated, "b.parquet is damaged or was cut short"),
    "cut in a row group": (cut_in_a_group, "b.parquet is damaged or was cut short"),
    "empty": (lambda f, one, two: two.write_bytes(b""), "b.parquet is empty"),
    "a column less": (lambda f, one, two: parquet(f.drop(columns="x2"), two), "b.parquet has no column 'x2'"),
    "another type": (lambda f, one, two: parquet(f.assign(x2="a"), two), "column 'x2' is of type .* in .*b.parquet"),
    "missing": (with_cell(None), "b.parquet, row group 3, row 146: column 'x3' is missing: pass missing='mean'"),
    "infinite": (with_cell(np.inf), "b.parquet, row group 3, row 146: column 'x3' is infinity"),
    "infinite target": (
        lambda f, one, two: parquet(f.assign(y=np.where(f.index == 5, np.inf, f.y)), two),
        "b.parquet, row group 1, row 6: 'y' is infinity",
    ),
    "no rows": (lambda f, one, two: [parquet(f[:0], p) for p in (one, two)], "a.parquet has no rows"),
}


@pytest.mark.parametrize("what", BAD)
def test_bad_files(what, made, tmp_path):
    change, words = BAD[what]
    with pytest.raises(data.tables.TableError, match=words):
        GDRegressor().fit(scan(broken(made, tmp_path, change)))


def test_bad_text(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("x,y\n" + "1.5,2\n" * 400_000 + "oops,3\n")
    with pytest.raises(data.tables.TableError, match=r"a.csv, after row \d+: .*oops"):
        GDRegressor().fit(data.scan(path, target="y", memory_limit="5MB"))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"memory_limit": "much"}, "memory_limit must be a number of bytes"),
        ({"memory_limit": 10}, "memory_limit must be at least"),
        ({"memory_limit": True}, "memory_limit must be a number of bytes"),
        ({"target": "z"}, "has no column 'z'"),
        ({"features": ["x1", "y"]}, "'y' cannot be the target, the weights or the offset and among the features"),
        ({"features": ["x1", "w"]}, "has no column 'w'"),
    ],
)
def test_bad_arguments(options, words, made, tmp_path):
    with pytest.raises((TypeError, ValueError), match=words):
        data.scan(parquet(made, tmp_path / "a.parquet"), **({"target": "y", "memory_limit": "1.5 GiB"} | options))


@pytest.mark.parametrize(
    ("blocks", "words"),
    [
        ([(np.ones((3, 2)), np.ones(3)), (np.ones((3, 3)), np.ones(3))], "block 2 of source.. has 3 columns"),
        ([(np.ones((3, 2)), np.ones(3)), (np.ones((3, 2), np.float32), np.ones(3))], "block 2 .* of float32"),
        ([(np.ones((3, 2)), np.ones(4))], "block 1 of source.. has 3 rows of X and 4 of y"),
        ([(np.array([[1.0, np.nan]]), np.ones(1))], "block 1 of source.*nan"),
        ([(np.ones((3, 2)), np.array([1, 2, np.inf]))], "y in block 1 of source.*inf"),
        ([np.ones((3, 2))], r"source\(\) must give"),
        ([], r"source\(\) gave no blocks"),
    ],
)
def test_bad_blocks(blocks, words):
    with pytest.raises((TypeError, ValueError), match=words):
        GDRegressor().fit(data.scan(lambda: iter(blocks), memory_limit="5MB"))


def test_a_source_that_can_be_read_once(made):
    rows = scan(pa.Table.from_pandas(made).to_reader())
    model = GDRegressor().fit(rows)
    assert_array_equal(GDRegressor().fit(rows).coef_, model.coef_)  # from what was kept
    with pytest.raises(ValueError, match="can be read only once"):
        list(model.predict(rows))


def test_a_file_that_changes_between_passes(made, tmp_path):
    X, path = np.ascontiguousarray(made[NAMES]), tmp_path / "X.npy"
    np.save(path, X)

    def change(state):
        np.save(path, X + 1)
        os.utime(path, (1, 1))

    with pytest.raises(OSError, match=r"X\.npy has changed since it was first read"):
        GDRegressor("huber", solver="accelerated", callbacks=change).fit(data.scan(path), made["y"])


# ------------------------------------------------------------------------------------------------ memory, disk, Ctrl-C


def in_a_process(program, *arguments, **options):
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(program), *map(str, arguments)], stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True, **options,
    )  # fmt: skip


LIMITED = """
    import resource, sys, numpy as np, pyarrow.parquet, pyarrow.compute, pyarrow.csv, scipy.linalg
    from fastgd import GDRegressor, data
    X = np.random.default_rng(0).normal(size=(5000, 6))
    GDRegressor().fit(X, X[:, 0])  # all libraries are loaded
    list(pyarrow.parquet.ParquetFile(sys.argv[1]).iter_batches(100, row_groups=[0]))
    used = int(next(line for line in open("/proc/self/status") if line.startswith("VmData")).split()[1]) * 1024
    resource.setrlimit(resource.RLIMIT_DATA, (used + 48_000_000,) * 2)
    rows = data.scan(sys.argv[1], target="y", memory_limit=48_000_000)
    print(*GDRegressor().fit(rows).coef_)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="limits of a process and /proc are Linux's")
def test_a_file_of_four_times_the_limit(tmp_path):
    rng, path, d = np.random.default_rng(1), tmp_path / "a.parquet", 6
    X = rng.normal(size=(3_400_000, d))
    y = X @ np.arange(1.0, d + 1) + rng.normal(size=len(X))
    table = pa.table({**{f"x{j}": X[:, j] for j in range(d)}, "y": y})
    pq.write_table(table, path, row_group_size=200_000)
    assert path.stat().st_size > 4 * 48_000_000 * 0.98
    process = in_a_process(LIMITED, path)
    out, error = process.communicate(timeout=100)
    assert process.returncode == 0, error
    expected = np.linalg.lstsq(np.column_stack([X, np.ones(len(X))]), y)[0][:-1]
    assert_allclose(np.array(out.split(), float), expected, rtol=1e-9)


FULL = """
    import resource, sys
    from fastgd import GDRegressor, data
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
    try:
        GDRegressor().fit(data.scan(sys.argv[1], target="y", features=["x1", "x2", "x3"], memory_limit="5MB"))
    except OSError as error:
        print(error)
"""
WAITS = """
    import sys, time
    from fastgd import GDRegressor, data
    def say(state):
        print("fitting", flush=True)
        time.sleep(60)
    GDRegressor("huber", callbacks=say).fit(data.scan(sys.argv[1], target="y", features=["x1"], memory_limit="5MB"))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="limits and signals are POSIX's")
def test_a_full_disk_and_ctrl_c_leave_nothing(made, tmp_path):
    path, folder = parquet(pd.concat([made] * 30), tmp_path / "a.parquet"), tmp_path / "temporary"
    folder.mkdir()
    environment = {**os.environ, "TMPDIR": str(folder)}
    process = in_a_process(FULL, path, env=environment)
    out, error = process.communicate(timeout=60)
    assert f"the temporary folder, and {folder} is full; set TMPDIR" in out and not error
    assert not list(folder.iterdir())
    process = in_a_process(WAITS, path, env=environment)
    assert process.stdout.readline() == "fitting\n"
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode != 0 and not list(folder.iterdir())
