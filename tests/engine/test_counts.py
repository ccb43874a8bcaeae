"""nfev and njev are the calls that were made, whatever the rule, the ending and what is looked at."""

import contextlib
import io

import numpy as np
import pytest

from fastgd import DivergenceError, gradient_descent, schedules

pytestmark = pytest.mark.one_build
ROUTES = {
    "plain": {"lr": 1e-3},
    "too large": {"lr": 0.02},
    "bb": {"lr": "bb"},
    "armijo": {"lr": "armijo"},
    "adgd": {"lr": "adgd"},
    "adam": {"lr": 1e-2, "optimizer": "adam"},
    "averaged": {"lr": 1e-3, "optimizer": "asgd"},
    "plateau": {"lr": schedules.plateau(1e-3)},
    "l1": {"lr": 1e-3, "l1": 0.1},
    "bb with l1": {"lr": "bb", "l1": 0.1},
    "bb within bounds": {"lr": "bb", "bounds": (-2, 0.5)},
    "clipped": {"lr": 1e-3, "clip_norm": 1.0},
    "leaving saddles": {"lr": 1e-3, "escape_saddles": True},
}
ENDINGS = [
    {}, {"history": True}, {"history": "x"}, {"history": 7}, {"tol": 0.1}, {"f_tol": 1e-6}, {"x_tol": 1e-4},
    {"target": 1.0}, {"callback": lambda result: None}, {"progress": True},
]  # fmt: skip


@pytest.mark.parametrize("numerical", [False, True])
@pytest.mark.parametrize("route", ROUTES)
def test_every_call_is_counted(route, numerical):
    pytest.importorskip("tqdm")
    for ending in ENDINGS:
        calls = [0, 0]

        def f(x, calls=calls):
            calls[0] += 1
            return (1 - x[0]) ** 2 + 100 * (x[1] - x[0] ** 2) ** 2

        def slope(x, calls=calls):
            calls[1] += 1
            return np.array([2 * (x[0] - 1) - 400 * x[0] * (x[1] - x[0] ** 2), 200 * (x[1] - x[0] ** 2)])

        grad = None if numerical else slope
        with contextlib.redirect_stderr(io.StringIO()):
            try:
                result = gradient_descent(f, [-1.2, 1.0], step_num=60, grad=grad, **ROUTES[route] | ending)
            except DivergenceError as error:
                result = error.result
        assert result.nfev == calls[0], ending
        assert numerical or result.njev == calls[1], ending
