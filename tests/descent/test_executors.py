"""Runs that an executor makes: the same as here, as they end, and without those that fail."""

import concurrent.futures
import os
import time

import numpy as np
import pytest

from fastgd import LinearObjective, Status, multi_start, sweep
from fastgd.descent import executors

joblib = pytest.importorskip("joblib")

X = np.random.default_rng(0).normal(size=(300, 3))
OBJECTIVE = LinearObjective(X, X @ [1.0, 2.0, 3.0], loss="mse")
STARTS = np.array([[0.1, 0.1], [0.2, 0.2], [0.95, 0.1], [0.3, 0.3]])


def valley(x):
    if x[0] > 0.9:
        raise ValueError("out of the valley")
    return x[0] ** 2 + x[1] ** 2


def kills(x):
    if x[0] > 0.9:
        time.sleep(0.5)  # the others have ended
        os._exit(1)
    return x[0] ** 2 + x[1] ** 2


@pytest.fixture(params=["threads", "joblib", "generator"])
def executor(request):
    if request.param == "threads":
        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            yield pool
    else:
        kind = "generator" if request.param == "generator" else "list"
        yield joblib.Parallel(2, prefer="threads", return_as=kind)


@pytest.mark.one_build
def test_runs_of_an_executor_are_those_made_here(executor):
    options = {"lr": [0.01, 0.1, 50.0], "step_num": 30}
    here, there = sweep(OBJECTIVE, **options), sweep(OBJECTIVE, **options, executor=executor)
    assert [run.status for run in there] == [run.status for run in here]
    np.testing.assert_allclose(*([run.x for run in runs[:2]] for runs in (there, here)), rtol=1e-9)
    assert [run.settings for run in there] == [run.settings for run in here]
    grid = {"lr": [0.01, 0.1], "l2": [0.0, 1.0], "grid": True, "validation": 0.2, "step_num": 30}
    here, there = sweep(OBJECTIVE, **grid), sweep(OBJECTIVE, **grid, executor=executor)
    assert [run.settings for run in there] == [run.settings for run in here]
    best = multi_start(valley, STARTS, 4, lr=0.1, step_num=20, executor=executor)
    assert [run.status == Status.FAILED for run in best.runs] == [False, False, True, False]
    assert best.number == multi_start(valley, STARTS, 4, lr=0.1, step_num=20).number


@pytest.mark.one_build
def test_a_lost_process_leaves_the_other_runs():
    with concurrent.futures.ProcessPoolExecutor(2) as pool:
        best = multi_start(kills, STARTS[[0, 1, 3, 2]], 4, lr=0.1, step_num=20, executor=pool)
    assert [run.status == Status.FAILED for run in best.runs] == [False, False, False, True]
    assert "terminated" in best.runs[3].message


@pytest.mark.one_build
def test_runs_come_as_they_end():
    def run(seconds):
        time.sleep(seconds)
        return seconds

    with concurrent.futures.ThreadPoolExecutor(3) as pool:
        assert [n for n, _ in executors.as_they_end(run, [(0.4,), (0.0,), (0.2,)], pool)] == [1, 2, 0]


@pytest.mark.one_build
def test_what_is_no_executor_and_what_all_runs_raise():
    with pytest.raises(TypeError, match="executor must have submit"):
        sweep(OBJECTIVE, lr=[0.1], executor=3)
    with pytest.raises(ValueError, match="executor and workers say the same"):
        multi_start(valley, STARTS, 4, lr=0.1, step_num=3, workers=2, executor=3)
    with pytest.raises(ValueError, match="progress is for an executor"):
        sweep(OBJECTIVE, lr=[0.1], progress=True)
    with concurrent.futures.ThreadPoolExecutor(1) as pool, pytest.raises(ValueError, match="step_num must be at least"):
        sweep(OBJECTIVE, lr=[0.1, 0.2], step_num=-1, executor=pool)
