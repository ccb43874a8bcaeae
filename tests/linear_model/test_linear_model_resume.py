"""Fits that are killed at any moment, with no chance to tidy up, come to the same weights by the bit."""

import os
import signal
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse
from numpy.testing import assert_array_equal
from sklearn.base import clone

from fastgd import DivergenceWarning, GDClassifier, GDRegressor, Status, schedules
from fastgd.engine import epochs
from fastgd.files import checkpoint

pytestmark = [pytest.mark.one_build, pytest.mark.timeout(900)]  # some hundred processes set it up
N, D = 120, 4
REGRESSION = ("squared_error", "huber", "poisson", "epsilon_insensitive")
KINKED = ("hinge", "epsilon_insensitive")
SGD = {"solver": "sgd", "batch_size": 8, "random_state": 1}
SOLVERS = {
    "auto": {},
    "preconditioned with l1": {"solver": "preconditioned", "penalty": "l1", "alpha": 0.01},
    "accelerated": {"solver": "accelerated", "penalty": "elasticnet", "alpha": 0.01},
    "gd": {"solver": "gd"},
    "gd with momentum and a rate": {"solver": "gd", "optimizer": "momentum", "learning_rate": 0.01},
    "gd on a plateau": {"solver": "gd", "learning_rate": schedules.plateau(0.02, patience=2)},
    "sgd": SGD,
    "sgd with adam": SGD | {"optimizer": "adam", "penalty": None},
    "sgd with a rate": SGD | {"learning_rate": 0.01, "optimizer": "momentum"},
    "sgd in order": SGD | {"learning_rate": schedules.inverse_time_decay(0.01, 0.01), "shuffle": False},
    "asgd": SGD | {"learning_rate": 0.01, "optimizer": "asgd", "penalty": None},
    "early stopping": {"early_stopping": True, "validation_fraction": 0.3, "random_state": 2},
    "early stopping of sgd": SGD | {"early_stopping": True, "validation_fraction": 0.3, "learning_rate": 0.01},
}  # fmt: skip


def runs():
    for loss in (*REGRESSION, "log_loss", "hinge", "squared_hinge"):
        for name, options in SOLVERS.items():
            if loss not in KINKED or options.get("solver") not in ("accelerated", "gd"):
                kind = GDRegressor if loss in REGRESSION else GDClassifier
                defaults = {"penalty": "l2", "alpha": 1e-3, "max_iter": 30, "tol": 1e-13}
                yield f"{loss}, {name}", (kind(loss, **defaults | options), "dense")
    yield "squared_error, gram", (GDRegressor(solver="gram"), "dense")
    yield "squared_error, gram with l1", (GDRegressor(solver="gram", penalty="l1", alpha=0.01, tol=1e-14), "dense")
    yield "in float32", (GDRegressor("huber", tol=1e-6), "single")
    yield "of CSR", (GDRegressor("huber", tol=1e-13), "sparse")
    yield "sgd of CSR", (GDRegressor(max_iter=9, tol=1e-13, **SGD), "sparse")
    yield "several targets", (GDRegressor("huber", tol=1e-13), "targets")
    yield "softmax", (GDClassifier(tol=1e-13), "classes")
    yield "one against the rest", (GDClassifier("hinge", tol=1e-9), "classes")
    yield "many columns", (GDRegressor("huber", penalty="l2", alpha=1e-3, tol=1e-10), "wide")
    yield "many columns with l1", (GDRegressor(penalty="l1", alpha=0.1, max_iter=40), "wide")


RUNS = dict(runs())


def data(model, kind):
    rng = np.random.default_rng(0)
    n, d = (30, 2100) if kind == "wide" else (N, D)
    X = rng.normal(size=(n, d)) * np.geomspace(0.1, 2, d) + 0.3
    h = X[:, :4] @ [3.0, -1.0, 0.5, 0.2] + 0.3 * rng.standard_t(3, size=n)
    y = {"poisson": np.round(np.exp(h / 2))}.get(model.loss, h if isinstance(model, GDRegressor) else h > 0.5)
    if kind == "classes":
        y = np.digitize(h, [-0.5, 1.0])
    return {
        "sparse": lambda: (scipy.sparse.csr_array(np.where(np.abs(X) < 0.2, 0, X)), y),
        "single": lambda: (X.astype(np.float32), y), "targets": lambda: (X, np.column_stack([y, -2 * y])),
    }.get(kind, lambda: (X, y))()  # fmt: skip


def fitted(name, callback=None, **options):
    model, kind = RUNS[name]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of fits that do not come to their ends
        return clone(model).set_params(callbacks=callback, **options).fit(*data(model, kind))


def kill():
    os.kill(os.getpid(), signal.SIGKILL)


def write_each_state():
    checkpoint.Checkpoint.due = property(lambda self: True)
    os.fsync = lambda descriptor: None  # the machine stays up
    epochs.BURST_WORK = 1 << 9  # so that several states are written within an epoch


def kill_after_states(count, path, name):
    """Fit, and be killed once so many states were written."""
    write_each_state()
    save, written = checkpoint.Checkpoint.save, []

    def counted(self, state):
        save(self, state)
        written.append(state["step"])
        if len(written) == count:
            kill()

    checkpoint.Checkpoint.save = counted
    fitted(name, checkpoint=path)


def kill_in_epoch(epoch, path, name):
    """Fit, and be killed while a callback looks at an epoch."""
    write_each_state()
    fitted(name, lambda state: kill() if state.epoch == epoch else None, checkpoint=path)


KILLS = {"states": kill_after_states, "epochs": kill_in_epoch}
EVERY_KILL = [("states", 2), ("states", 7), ("states", 40), ("epochs", 1), ("epochs", 12)]


def kills_of(number):
    """An early kill and a late one, for each run another pair."""
    return [EVERY_KILL[(0, 3)[number % 2]], EVERY_KILL[(1, 2, 4)[number % 3]]]


def kill_all(folder, every=False):
    """Make every fit in a process of its own, forked from this one, and have it killed or come to its end."""
    for number, name in enumerate(RUNS):
        for way, moment in EVERY_KILL if every else kills_of(number):
            child = os.fork()
            if not child:
                KILLS[way](moment, Path(folder, f"{number} {way} {moment}"), name)
                os._exit(0)
            status = os.waitpid(child, 0)[1]
            assert status == 0 or os.WTERMSIG(status) == signal.SIGKILL, (name, way, moment, status)
            print(f"{name}: {way} {moment}: {status}")


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """The folder with what fits have left that were killed, and which these are."""
    return killed_in(tmp_path_factory.mktemp("killed"))


def killed_in(folder, every=False):
    code = f"import test_linear_model_resume as these; these.kill_all({str(folder)!r}, {every})"
    paths = [str(Path(__file__).parent), *sys.path]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, paths))}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder, done.stdout


def assert_same_fit(found, expected):
    assert_array_equal(found.coef_, expected.coef_, strict=True)
    assert_array_equal(found.intercept_, expected.intercept_, strict=True)
    assert found.n_iter_ == expected.n_iter_
    assert found.history_.keys() == expected.history_.keys()
    for name, values in expected.history_.items():
        if name != "seconds":
            assert_array_equal(found.history_[name], values, strict=True, err_msg=name)
    assert np.all(np.diff(found.history_.seconds) >= 0)
    assert found.result_.keys() == expected.result_.keys()
    for name, value in expected.result_.items():
        if name != "history":
            assert_array_equal(found.result_[name], value, err_msg=name)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs kill -9")
@pytest.mark.parametrize("name", RUNS)
def test_a_fit_that_was_killed_goes_on_to_the_same_bits(name, files):
    assert_goes_on(name, kills_of(list(RUNS).index(name)), *files)


def assert_goes_on(name, kills, folder, said):
    number, expected = list(RUNS).index(name), fitted(name)
    for way, moment in kills:
        ended_before = f"{name}: {way} {moment}: 0\n" in said
        assert ended_before or f"{name}: {way} {moment}: 9\n" in said
        assert not ended_before or moment > 2 or expected.n_iter_ <= moment  # the early ones are sure to be met
        found = fitted(name, checkpoint=folder / f"{number} {way} {moment}", resume=True)
        assert_same_fit(found, expected)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs kill -9")
def test_fits_that_were_killed_at_every_moment_go_on_to_the_same_bits(tmp_path):
    folder, said = killed_in(tmp_path, every=True)
    for name in RUNS:
        assert_goes_on(name, EVERY_KILL, folder, said)


@pytest.mark.parametrize("name", RUNS)
def test_a_fit_that_is_at_its_end_gives_what_it_came_to_and_goes_on_where_more_is_allowed(name, tmp_path):
    path, seen = tmp_path / "fit", []
    short = fitted(name, checkpoint=path, max_iter=2)
    again = fitted(name, seen.append, checkpoint=path, max_iter=2, resume=True)
    assert_same_fit(again, short)
    if short.result_.status != Status.STEP_LIMIT:  # whose state may be older than its end
        assert not seen
    assert_same_fit(fitted(name, checkpoint=path, resume=True), fitted(name))


# ------------------------------------------------------------------------------------------------- whose file it is


OTHERS = [
    {"alpha": 0.5}, {"penalty": "l2", "l1_ratio": 0.15}, {"loss": "huber"}, {"loss": "huber", "epsilon": 2.0},
    {"fit_intercept": False}, {"learning_rate": 0.02}, {"optimizer": "momentum"}, {"batch_size": 4},
    {"random_state": 5}, {"shuffle": False}, {"early_stopping": True}, {"n_iter_no_change": 2},
]  # fmt: skip


@pytest.mark.parametrize("other", OTHERS, ids=lambda other: next(reversed(other)))
def test_the_file_of_another_fit_is_refused(other, tmp_path):
    options = {"checkpoint": tmp_path / "fit", "learning_rate": 0.01, "max_iter": 3, "tol": None} | SGD
    X, y = data(GDRegressor(), "dense")
    GDRegressor(**options).fit(X, y)
    model = GDRegressor(**options | other | {"resume": True})
    with pytest.raises(ValueError, match="belongs to another run: "):
        model.fit(X, y)
    assert not hasattr(model, "coef_")
    for table, target, s in ((X + 1, y, None), (X, y + 1, None), (X[1:], y[1:], None), (X, y, np.arange(1.0, N + 1))):
        with pytest.raises(ValueError, match="belongs to another run: "):
            GDRegressor(**options, resume=True).fit(table, target, sample_weight=s)


@pytest.mark.parametrize("solver", ["auto", "accelerated", "gd", "sgd"])
def test_a_fit_goes_on_where_a_tighter_tolerance_is_asked_for(solver, tmp_path):
    X, y = data(GDClassifier(), "dense")
    options = {"alpha": 0.01, "solver": solver, "random_state": 0, "max_iter": 3000}
    kept = {"checkpoint": tmp_path / "fit", "resume": True}
    loose = GDClassifier(tol=1e-1, **options, **kept).fit(X, y)
    tight = GDClassifier(tol=1e-7, **options, **kept).fit(X, y)
    assert loose.n_iter_ <= tight.n_iter_ and tight.result_.gap <= 1e-7 * tight.result_.fun
    again = GDClassifier(tol=1e-3, **options, **kept).fit(X, y)  # less is asked for than was reached
    assert_same_fit(again, tight)


def test_a_classifier_is_no_regressor_and_a_warm_start_is_another(tmp_path):
    options = {"checkpoint": tmp_path / "fit", "tol": 1e-13}
    X, y = data(GDClassifier(), "dense")
    model = GDClassifier(**options).fit(X, y)
    with pytest.raises(ValueError, match="estimator is 'GDClassifier' there and 'GDRegressor' here"):
        GDRegressor(**options, resume=True).fit(X, y * 1.0)
    with pytest.raises(ValueError, match="coef_ is absent there"):
        model.set_params(warm_start=True, resume=True).fit(X, y)


def test_without_a_file_a_fit_starts_afresh_and_without_resume_the_file_is_written_over(tmp_path):
    path, expected = tmp_path / "fit", fitted("huber, auto")
    assert_same_fit(fitted("huber, auto", checkpoint=path, resume=True), expected)
    fitted("huber, accelerated", checkpoint=path)
    assert_same_fit(fitted("huber, auto", checkpoint=path), expected)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ValueError, match="is no checkpoint of fastgd, or is damaged"):
        fitted("huber, auto", checkpoint=path, resume=True)


def test_a_divergence_is_told_again(tmp_path):
    X, y = data(GDRegressor(), "dense")
    found = []
    for resume in (False, True):
        model = GDRegressor(solver="gd", learning_rate=1e3, checkpoint=tmp_path / "fit", resume=resume)
        with pytest.warns(DivergenceWarning) as caught:
            found += [model.fit(X, y), str(caught[0].message) if caught else None]
    told, again = found[::2]
    assert again.result_.status == Status.DIVERGED
    assert_same_fit(again, told)


def test_where_the_clock_has_ended_a_fit_it_goes_on(tmp_path):
    path, name = tmp_path / "fit", "log_loss, gd"
    stopped = fitted(name, checkpoint=path, max_seconds=0)
    assert stopped.result_.status == Status.TIME_LIMIT and stopped.n_iter_ == 1
    assert_same_fit(fitted(name, checkpoint=path, resume=True), fitted(name))


def interrupt(state):
    if state.epoch == 3:
        raise KeyboardInterrupt


def test_more_epochs_in_the_file_than_are_allowed_are_named(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoint.Checkpoint, "due", True)
    path, name = tmp_path / "fit", "log_loss, gd"
    with pytest.raises(KeyboardInterrupt):
        fitted(name, interrupt, checkpoint=path)
    with pytest.raises(ValueError, match="max_iter = 2, but 3 epochs are in"):
        fitted(name, checkpoint=path, max_iter=2, resume=True)


def test_an_interrupted_fit_goes_on(tmp_path):
    path, name = tmp_path / "fit", "log_loss, preconditioned with l1"
    with pytest.raises(KeyboardInterrupt) as caught:
        fitted(name, interrupt, checkpoint=path)
    assert caught.value.result.nit == 3
    note = "GDClassifier.fit was interrupted after 3 epochs: it has the best weights so far; resume=True goes on from "
    assert caught.value.__notes__ == [f"{note}{str(path)!r}"]
    assert_same_fit(fitted(name, checkpoint=path, resume=True), fitted(name))


def test_where_no_file_can_be_written_the_fit_goes_on_with_a_warning(tmp_path, monkeypatch):
    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    model, kind = RUNS["huber, auto"]
    with pytest.warns(RuntimeWarning, match="No space left on device; the run goes on"):
        found = clone(model).set_params(checkpoint=tmp_path / "fit").fit(*data(model, kind))
    assert_same_fit(found, fitted("huber, auto"))
