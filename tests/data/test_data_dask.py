"""Dask: the same fits as in memory, to the last bit wherever the blocks are, and what becomes of lost workers."""

import contextlib
import contextvars
import os
import signal
import time
import warnings

import numpy as np
import pytest
import scipy.sparse

from fastgd import GDClassifier, GDRegressor, LinearObjective, gradient_descent, sweep
from fastgd.data import collections, places
from fastgd.data.blocks import added, joined, subtrees
from fastgd.data.threads import tree_sum
from fastgd.errors import ClusterError

dask = pytest.importorskip("dask")
da = pytest.importorskip("dask.array")
distributed = pytest.importorskip("distributed")

pytestmark = [pytest.mark.one_build, pytest.mark.filterwarnings("default")]  # distributed warns of its own

N, D = 6000, 7
RNG = np.random.default_rng(8)
X = RNG.normal(size=(N, D)) * RNG.uniform(0.1, 10, D) + 5 * RNG.normal(size=D)
H = (X - X.mean(axis=0)) @ RNG.normal(size=D) / 8
Y = H + RNG.normal(size=N)
LABELS = np.where(RNG.random(N) < 1 / (1 + np.exp(-H)), "yes", "no")
CLASSES = np.digitize(Y, [-1.0, 1.0])
COUNTS = RNG.poisson(np.exp(np.clip(H / 4, -3, 3))).astype(float)
WEIGHTS = RNG.integers(0, 4, N) / 2.0


def cut(array, rows=700):
    return da.from_array(array, chunks=(rows, *array.shape[1:]))


@pytest.fixture(scope="module")
def client():
    """Two processes of one thread."""
    options = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": None, "memory_limit": None}
    with distributed.LocalCluster(**options) as cluster, distributed.Client(cluster) as client:
        yield client


@pytest.mark.parametrize("count", [1, 2, 3, 7, 16, 37])
def test_the_sum_is_that_of_one_tree_wherever_the_blocks_are(count):
    rng = np.random.default_rng(count)
    leaves = [(rng.normal(size=3) * 10.0 ** rng.integers(-8, 8),) for _ in range(count)]
    whole = tree_sum(leaves)[0]
    for holders in (1, 2, 3, count):
        where = rng.integers(holders, size=count)
        parts = [{int(i): leaves[i] for i in np.flatnonzero(where == h)} for h in range(holders)]
        found = [part for own in parts for part in subtrees(own, count, added)]
        assert np.array_equal(joined(found, count, added)[0], whole)


@pytest.mark.parametrize(
    ("model", "y"),
    [
        (GDRegressor(tol=1e-10), Y),
        (GDRegressor(tol=1e-10, penalty="elasticnet", alpha=0.1), Y),
        (GDRegressor("poisson", tol=1e-10), COUNTS),
        (GDClassifier(tol=1e-10), LABELS),
        (GDClassifier(tol=1e-13, class_weight="balanced"), CLASSES),
        (GDClassifier(tol=1e-10, positive=True), LABELS),
        (GDClassifier("hinge", tol=1e-8), LABELS),
    ],
    ids=["squares", "elasticnet", "poisson", "log", "softmax", "bounds", "hinge"],
)
def test_a_fit_is_that_in_memory(model, y):
    here = type(model)(**model.get_params()).fit(X, y, WEIGHTS)
    there = model.fit(cut(X), cut(y), cut(WEIGHTS))
    np.testing.assert_allclose(there.coef_, here.coef_, rtol=0, atol=1e-7 * np.abs(here.coef_).max())
    assert abs(there.result_.n_passes - here.result_.n_passes) <= 1
    predicted = there.predict(cut(X))
    assert isinstance(predicted, da.Array)
    np.testing.assert_allclose(
        *(p if p.dtype.kind != "U" else p == "yes" for p in (predicted.compute(), there.predict(X)))
    )
    assert there.score(cut(X), cut(y), cut(WEIGHTS)) == pytest.approx(there.score(X, y, WEIGHTS), abs=1e-12)


def test_the_bits_do_not_depend_on_where_the_blocks_are(client):
    names = list(client.scheduler_info()["workers"])
    data = [cut(X), cut(LABELS), cut(Y)]

    def fits(X, labels, y):
        fit = GDClassifier(tol=1e-10, penalty=None).fit(X, labels)
        objective = LinearObjective(X, y, loss="sse", l1=3.0)
        return fit.coef_, GDRegressor(tol=1e-12).fit(X, y).coef_, gradient_descent(objective, lr="auto", tol=1e-9).x

    with dask.config.set(scheduler="synchronous"):
        expected = fits(*data)
    for workers in (names, names[:1], names[1:]):
        for found, one in zip(fits(*client.persist(data, workers=workers)), expected, strict=True):
            assert np.array_equal(found, one)


@contextlib.contextmanager
def counted(scheduler):
    """Bytes that the client sends and receives: [by the scheduler, in all]."""
    from distributed.comm import tcp

    total, at = [0, 0], contextvars.ContextVar("comm", default=None)
    read, write, unpack = tcp.TCP.read, tcp.TCP.write, tcp.from_frames

    def add(comm, size):
        # The scheduler runs in this process, too: its own ends of the connections are not the client's.
        if comm is not None and comm.local_address != scheduler:
            total[0] += size * (comm.peer_address == scheduler)
            total[1] += size

    async def reading(self, *args, **kwargs):
        at.set(self)
        return await read(self, *args, **kwargs)

    async def writing(self, *args, **kwargs):
        size = await write(self, *args, **kwargs)
        add(self, size)
        return size

    async def unpacking(frames, *args, **kwargs):
        add(at.get(), sum(memoryview(frame).nbytes for frame in frames))
        return await unpack(frames, *args, **kwargs)

    tcp.TCP.read, tcp.TCP.write, tcp.from_frames = reading, writing, unpacking
    try:
        yield total
    finally:
        tcp.TCP.read, tcp.TCP.write, tcp.from_frames = read, write, unpack


@pytest.mark.parametrize("model", [GDClassifier(tol=1e-8), GDRegressor(), GDRegressor(penalty="l1", alpha=0.01)])
def test_little_is_sent_for_a_fit(client, model):
    rng = da.random.default_rng(0)
    many = rng.normal(size=(100_000, 50), chunks=(5000, 50))
    target = (many[:, 0] + rng.normal(size=100_000, chunks=5000) > 0).astype(float)
    many, target = client.persist([many, target])
    distributed.wait([many, target])
    with counted(client.scheduler.address) as total:
        model.fit(many, target)
    assert 0 < total[1] <= 2_000_000
    assert total[0] <= 200_000


@pytest.mark.parametrize("persisted", [True, False])
def test_a_killed_worker_costs_no_digit(client, persisted):
    expected = GDClassifier(tol=1e-12, penalty=None).fit(cut(X), cut(LABELS))
    data = [cut(X), cut(LABELS)]
    data = client.persist(data) if persisted else data
    killed = []

    def kill(epoch):
        if epoch.epoch == 2 and not killed:
            killed.append(min(client.run(os.getpid).values()))
            os.kill(killed[0], signal.SIGKILL)

    client.wait_for_workers(2, timeout=30)
    found = GDClassifier(tol=1e-12, penalty=None, callbacks=kill).fit(*data)
    assert killed
    assert np.array_equal(found.coef_, expected.coef_)
    assert found.n_iter_ == expected.n_iter_
    assert "worker" in found.result_.message


def test_a_checkpoint_goes_on_with_another_cluster(tmp_path, monkeypatch):
    monkeypatch.setattr(places, "PATIENCE", 0.5)
    options = {"tol": 1e-12, "penalty": None, "checkpoint": tmp_path / "fit.npz", "random_state": 0}
    expected = GDClassifier(tol=1e-12, penalty=None).fit(cut(X), cut(LABELS))
    local = {"n_workers": 2, "threads_per_worker": 1, "processes": False, "dashboard_address": None}
    with distributed.LocalCluster(**local) as cluster, distributed.Client(cluster) as client:
        data = client.persist([cut(X), cut(LABELS)])
        objective = LinearObjective(data[0], (data[1] == "yes").astype(float), activation="sigmoid", loss="log")

        def end(epoch):
            if epoch.epoch == 3:
                cluster.scale(0)
                while client.scheduler_info()["workers"]:
                    time.sleep(0.05)

        with pytest.raises(ClusterError, match=r"all workers of the cluster are gone .* checkpoint= goes on"):
            GDClassifier(**options, callbacks=end).fit(*data)
    with pytest.raises(ClusterError, match="the client of the cluster is closed"):
        objective.value(np.zeros(D))
    with pytest.raises(ClusterError, match="whose client is closed"):
        GDClassifier().fit(*data)
    found = GDClassifier(**options, resume=True).fit(cut(X), cut(LABELS))
    assert np.array_equal(found.coef_, expected.coef_)
    assert len(found.history_.loss) == len(expected.history_.loss)


def test_frames_and_sparse_blocks():
    pd, dd = pytest.importorskip("pandas"), pytest.importorskip("dask.dataframe")
    frame = pd.DataFrame({"x": X[:, 0], "kind": pd.Categorical(CLASSES), "text": np.where(X[:, 1] > 5, "b", "a")})
    frame.loc[[3, N - 3], "x"] = np.nan
    frame.loc[5, "text"] = None
    y = pd.Series(Y)
    options = {"tol": 1e-10, "missing": "indicator"}
    here, there = GDRegressor(**options).fit(frame, y), GDRegressor(**options)
    blocks = dd.from_pandas(frame, npartitions=4)
    there.fit(blocks, dd.from_pandas(y, npartitions=4))
    assert there.coef_names_.tolist() == here.coef_names_.tolist()
    np.testing.assert_allclose(there.coef_, here.coef_, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(there.predict(blocks).compute(), here.predict(frame), rtol=1e-9)

    rows = scipy.sparse.random(N, 40, density=0.1, format="csr", random_state=0)
    delayed = [dask.delayed(rows[first : first + 900]) for first in range(0, N, 900)]
    here, there = GDRegressor(tol=1e-12).fit(rows, Y), GDRegressor(tol=1e-12).fit(delayed, cut(Y, 900))
    np.testing.assert_allclose(there.coef_, here.coef_, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(there.predict(delayed).compute(), here.predict(rows), rtol=1e-9, atol=1e-12)


def test_unknown_lengths_columns_in_several_chunks_and_blocks_without_rows():
    kept = X[:, 0] > np.median(X[:, 0])
    some, target = cut(X)[cut(kept)], cut(Y)[cut(kept)]
    first = da.concatenate([cut(X)[:0], cut(X)])
    expected = GDRegressor(tol=1e-12).fit(X[kept], Y[kept]).coef_
    np.testing.assert_allclose(GDRegressor(tol=1e-12).fit(some, target).coef_, expected, rtol=1e-9)
    np.testing.assert_allclose(GDRegressor(tol=1e-12).fit(some, Y[kept]).coef_, expected, rtol=1e-9)
    whole = GDRegressor(tol=1e-12).fit(X, Y).coef_
    for blocks in (cut(X).rechunk((900, 3)), first):
        np.testing.assert_allclose(GDRegressor(tol=1e-12).fit(blocks, Y).coef_, whole, rtol=1e-9)


def test_columns_without_variation_and_collinear_ones():
    wide = np.column_stack([X, np.full(N, 3.0), X[:, 0] + X[:, 1]])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        here, there = GDRegressor(tol=1e-12).fit(wide, Y), GDRegressor(tol=1e-12).fit(cut(wide), cut(Y))
    assert there.result_.lost == here.result_.lost == 1
    np.testing.assert_allclose(there.coef_, here.coef_, rtol=0, atol=1e-7)


def test_early_stopping_holds_out_blocks_or_rows():
    for rows in (300, 2000):
        options = {"early_stopping": True, "random_state": 3, "solver": "accelerated"}
        fits = [GDClassifier(**options).fit(cut(X, rows), cut(LABELS, rows)) for _ in range(2)]
        assert np.array_equal(fits[0].coef_, fits[1].coef_)
        assert fits[0].history_.validation_score[-1] == pytest.approx(fits[0].score(X, LABELS), abs=0.03)


def test_objectives_of_blocks_in_descent_and_sweep():
    here, there = (LinearObjective(*data, loss="mse", fit_intercept=True) for data in ((X, Y), (cut(X), cut(Y))))
    w = np.linspace(-1, 1, D + 1)
    np.testing.assert_allclose(there.gradient(w), here.gradient(w), rtol=1e-12)
    np.testing.assert_allclose(there.numerical_gradient(w), here.numerical_gradient(w), rtol=1e-6)
    np.testing.assert_allclose(there.lipschitz(), here.lipschitz(), rtol=1e-12)
    np.testing.assert_allclose(there.predict(w), here.predict(w), rtol=1e-12)
    for options in ({"lr": 1e-4, "step_num": 40}, {"lr": "bb", "step_num": 10}):
        np.testing.assert_allclose(*(gradient_descent(o, **options).x for o in (there, here)), rtol=1e-9)
    runs = [sweep(o, lr=[1e-4, 1e-5], step_num=5) for o in (there, here)]
    np.testing.assert_allclose(*([run.x for run in each] for each in runs), rtol=1e-12)


NOT_FINITE = X.copy()
NOT_FINITE[1500, 2] = np.nan
HALVES = [X[:3000], X[3000:]]
BAD = [
    (
        GDRegressor,
        cut(NOT_FINITE),
        cut(Y),
        r"block 2 of X \(rows 1,400 to 2,099\): row 100 of it holds nan in column 2",
    ),
    (GDRegressor, cut(X), cut(np.where(np.arange(N) == 800, np.inf, Y)), r"block 1 of X .* row 100 .* inf in y"),
    (GDRegressor, cut(X), cut(Y[:-1]), r"y has 5999 rows, X has 6000"),
    (GDRegressor, cut(X), Y[:-1], r"y has .* X has 6000"),
    (GDRegressor, cut(X), None, r"requires y"),
    (GDRegressor, cut(X[:, 0]), cut(Y), r"X must be 2-dimensional"),
    (GDRegressor, cut(X)[:0], cut(Y)[:0], r"X has no rows in any of its blocks"),
    (GDRegressor, cut(X.astype(str)), cut(Y), r"block 0 of X: X must hold real numbers"),
    (lambda: GDRegressor(solver="sgd"), cut(X), cut(Y), r'solver="sgd" goes through .* partial_fit'),
    (lambda: GDRegressor("poisson"), cut(X), cut(Y), r"block 0 \(rows 0 to 699\): y must not be negative"),
    (lambda: GDRegressor(solver="coordinate", penalty="l1"), cut(X), cut(Y), r"needs all rows of X in one place"),
    (GDClassifier, cut(X), cut(Y), r"y must hold labels"),
    (GDClassifier, cut(X), cut(0 * CLASSES), r"only one class"),
]


@pytest.mark.parametrize(("make", "X", "y", "sentence"), BAD, ids=range(len(BAD)))
def test_bad_blocks_are_one_sentence(make, X, y, sentence):
    with pytest.raises((ValueError, TypeError), match=sentence):
        make().fit(X, y)


def test_delayed_blocks_that_do_not_fit_together():
    pieces = [dask.delayed(Y[:3000]), dask.delayed(Y[3000:])]
    for last, sentence in (
        (X[3000:, :5], r"block 1 of X \(rows 3,000 to 5,999\) has 5 columns, and the blocks before have 7"),
        (X[3000:].astype("f"), r"block 1 of X .* is of dtype float32, and the blocks before are of float64"),
        (X[3100:], r"block 1 of X .*: y has 3000 rows in it, X has 2900"),
    ):
        with pytest.raises(ValueError, match=sentence):
            GDRegressor().fit([dask.delayed(X[:3000]), dask.delayed(last)], pieces)


def test_dask_is_imported_only_for_its_own():
    assert not collections.is_collection(X)
    assert not collections.is_collection([[1.0, 2.0]])
    with pytest.raises(ValueError, match="takes a dask collection in fit, predict and score"):
        GDRegressor().partial_fit(cut(X), cut(Y))
