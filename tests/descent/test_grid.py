"""Sweeps over a grid: every pair, each the run that it would be alone, in the order of what they are worth."""

import itertools

import numpy as np
import pytest
from numpy.testing import assert_allclose

from fastgd import LinearObjective, gradient_descent, optimizers, sweep

RNG = np.random.default_rng(0)
X = RNG.normal(size=(60, 3))
Y = X @ [1.0, -2.0, 0.5] + RNG.normal(size=60)
PLAIN = LinearObjective(X, Y, loss="mse", fit_intercept=True)


def halving(step):
    return 0.1 * 0.5**step


@pytest.mark.with_reference
@pytest.mark.parametrize("loss", ["mse", "huber", "sse"])
def test_every_pair_is_the_run_that_it_is_alone(loss):
    objective = LinearObjective(X, Y, loss=loss, l2=0.3)
    rates, penalties = [1e-4, 1e-3, halving if loss == "mse" else 2e-3], [0.0, 0.5]
    rules = ["gd", "momentum", optimizers.Adam(beta1=0.8), "adagrad", "adamw"]
    runs = sweep(objective, grid=True, lr=rates, l2=penalties, optimizer=rules, step_num=12, history=True)
    found = {(str(r.settings["optimizer"]), r.settings["l2"], str(r.settings["lr"])) for r in runs}
    assert found == {(str(o), p, str(r)) for o, p, r in itertools.product(rules, penalties, rates)}
    assert len(runs) == 30
    for one in runs:
        s = one.settings
        alone = gradient_descent(objective.replace(l2=s["l2"]), lr=s["lr"], optimizer=s["optimizer"], step_num=12)
        assert_allclose(one.x, alone.x, rtol=1e-12, atol=1e-14)
        assert_allclose(one.fun, alone.fun, rtol=1e-12)
        assert_allclose(one.loss, objective.replace(l2=0.0).value(one.x), rtol=1e-14)
        assert len(one.history.x) == 13
    assert [one.loss for one in runs] == sorted(one.loss for one in runs)


@pytest.mark.one_build
def test_a_held_out_part_ranks():
    runs = sweep(PLAIN, grid=True, lr=[0.01, 0.2], l2=[0.0, 0.1, 3.0], step_num=50, validation=0.25, seed=3)
    order = np.random.default_rng(3).permutation(60)
    learn, held = np.sort(order[15:]), np.sort(order[:15])
    part = LinearObjective(X[learn], Y[learn], loss="mse", fit_intercept=True)
    other = LinearObjective(X[held], Y[held], loss="mse", fit_intercept=True)
    for one in runs:
        alone = gradient_descent(part.replace(l2=one.settings["l2"]), lr=one.settings["lr"], step_num=50)
        assert_allclose(one.x, alone.x, rtol=1e-12)
        assert_allclose(one.validation_loss, other.value(one.x), rtol=1e-14)
    assert [one.validation_loss for one in runs] == sorted(one.validation_loss for one in runs)
    weighted = LinearObjective(X, Y, loss="mse", sample_weight=np.arange(60.0), n_jobs=2)
    assert len(sweep(weighted, grid=True, lr=0.1, step_num=3, validation=0.5)) == 1


@pytest.mark.one_build
def test_automatic_rates_are_among_them_and_what_diverges_comes_last():
    runs = sweep(PLAIN, grid=True, lr=[0.1, 5.0, "auto"], l2=[0.0, 0.1], optimizer=["gd", "adam"], step_num=60)
    assert sum(one.settings["lr"] == "auto" for one in runs) == 2  # Adam has none
    assert len(runs) == 10
    statuses = [one.status.name for one in runs]
    diverged = statuses.index("DIVERGED")
    assert set(statuses[diverged:]) == {"DIVERGED"} and statuses.count("DIVERGED") >= 2
    best = gradient_descent(PLAIN, lr="auto", tol=1e-14)
    assert_allclose(runs[0].loss, best.fun, rtol=1e-6)


@pytest.mark.one_build
def test_functions_take_a_grid_too():
    def f(x):
        return float((x[0] - 1) ** 2 + 3 * x[1] ** 2)

    runs = sweep(f, grid=True, init_w=[3.0, 2.0], lr=[0.01, 0.1, 2.0], optimizer=["gd", "adam"], step_num=40)
    for one in runs:
        if one.status.name != "DIVERGED":
            s = one.settings
            alone = gradient_descent(f, [3.0, 2.0], lr=s["lr"], optimizer=s["optimizer"], step_num=40)
            assert_allclose(one.x, alone.x, rtol=0)
    assert "l2" not in runs[0].settings
    assert runs[-1].settings == {"lr": 2.0, "optimizer": "gd"}


@pytest.mark.one_build
def test_a_sweep_shows_a_line_for_each_and_is_a_table():
    runs = sweep(PLAIN, grid=True, lr=[0.01, halving], l2=[0.0, 0.1], step_num=5, validation=0.2)
    lines = repr(runs).splitlines()
    assert len(lines) == 4 and all("STEP_LIMIT" in line and "optimizer gd" in line for line in lines)
    frame = runs.to_frame()
    assert list(frame.columns[:5]) == ["lr", "l2", "optimizer", "loss", "validation_loss"]
    assert_allclose(frame[[f"x[{i}]" for i in range(4)]], [one.x for one in runs])
    assert set(frame["lr"]) == {0.01, "halving"}
    assert runs._repr_html_().count("<tr>") == 5
    assert len(repr(sweep(PLAIN, lr=[0.1, 0.2], step_num=3)).splitlines()) == 2


@pytest.mark.one_build
@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"validation": 1.5}, "validation must be a share of the rows, between 0 and 1; got 1.5"),
        ({"validation": 0.001}, "leaves 60 to learn from and 0 to hold out"),
        ({"lr": []}, "lr must have at least one entry"),
        ({"lr": [0.1, "fast"]}, r"lr\[1\] must be"),
        ({"l2": [-1.0]}, r"l2\[0\] must be"),
        ({"optimizer": ["gd", "sgdx"]}, "optimizer must be"),
        ({"optimizer": "asgd"}, "sweep takes no optimizer"),
        ({"grid": False, "validation": 0.2}, "validation is for grid=True"),
        ({"objective": lambda x: 0.0, "l2": [0.1], "init_w": [1.0]}, "l2 is for an objective"),
        ({"objective": lambda x: 0.0, "validation": 0.2, "init_w": [1.0]}, "a function has none"),
    ],
)
def test_what_is_no_grid_gets_a_sentence(options, words):
    options = {"lr": [0.1], "grid": True, "step_num": 3, "objective": PLAIN} | options
    with pytest.raises(ValueError, match=words):
        sweep(options.pop("objective"), **options)
