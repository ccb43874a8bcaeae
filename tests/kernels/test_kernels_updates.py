"""The kernels of the update rules against their specification."""

import itertools

import numpy as np
import pytest
from kernel_problems import MODEL, NAMES, SAME, close, compiled_only, csr, problem

from fastgd import optimizers
from fastgd.kernels import codes
from fastgd.kernels.codes import MOMENTS, RULES, OnRows
from fastgd.kernels.reference import one_layer as reference

pytestmark = pytest.mark.every_build

LIMITS = {
    "free": {},
    "l1": {codes.L1: 0.4},
    "clip value": {codes.CLIP_VALUE: 0.5},
    "clip norm": {codes.CLIP_NORM: 0.7},
    "all": {codes.L1: 0.2, codes.CLIP_VALUE: 0.6, codes.CLIP_NORM: 0.9},
}


def parameters_of(name, limits=()):
    parameters = np.array([*optimizers.BY_NAME[name]().kernel_constants, np.inf, np.inf, 0.0])
    for entry, value in dict(limits).items():
        parameters[entry] = value
    return parameters


def bounds_of(size, dtype, bounded):
    if not bounded:
        return np.empty(0, dtype), np.empty(0, dtype)
    return np.full(size, -0.3, dtype), np.linspace(0, 0.5, size).astype(dtype)


@pytest.mark.parametrize("dtype", SAME)
@pytest.mark.parametrize("name", RULES)
def test_optimizer_step_is_that_of_the_specification(build, name, dtype):
    for limits in LIMITS:
        for size, bounded in itertools.product((0, 1, 2, 7, 33), (False, True)):
            rng = np.random.default_rng(size)
            w = rng.normal(size=size).astype(dtype)
            moments = np.zeros((MOMENTS[name], size), dtype)
            lower, upper = bounds_of(size, dtype, bounded)
            args = [w, moments, lower, upper]
            twins = [array.copy() for array in args]
            parameters = parameters_of(name, LIMITS[limits])
            penalised = size - size // 3
            for step in range(1, 12):
                g = rng.normal(size=size).astype(dtype)
                kept, before = g.copy(), parameters.copy()
                for (to, state, low, high), kernel in ((args, build), (twins, reference)):
                    kernel.optimizer_step(RULES[name], parameters, to, g, state, 0.05, step, penalised, low, high)
                np.testing.assert_array_equal(g, kept)
                np.testing.assert_array_equal(parameters, before)
            for ours, theirs in zip(args, twins, strict=True):
                close(ours, theirs, SAME[dtype])
            if bounded:
                assert np.all((w >= lower) & (w <= upper))


@pytest.mark.parametrize(
    "change",
    [
        {"kind": -1}, {"kind": 12}, {"parameters": (6,)}, {"g": (4,)}, {"moments": (1, 5)}, {"moments": (2, 4)},
        {"lower": (5,)}, {"lower": (4,), "upper": (4,)}, {"penalised": 6}, {"penalised": -1},
    ],
    ids=str,
)  # fmt: skip
def test_optimizer_step_refuses_what_does_not_fit(build, change):
    compiled_only(build)
    shapes = {"parameters": (7,), "w": (5,), "g": (5,), "moments": (2, 5), "lower": (0,), "upper": (0,)}
    given = {"kind": RULES["adam"], "penalised": 5, **{name: np.ones(shape) for name, shape in shapes.items()}}
    given |= {name: np.ones(value) if isinstance(value, tuple) else value for name, value in change.items()}
    with pytest.raises(ValueError, match=r"kind|entries|rows"):
        build.optimizer_step(
            given["kind"], given["parameters"], given["w"], given["g"], given["moments"], 0.1, 1, given["penalised"],
            given["lower"], given["upper"],
        )  # fmt: skip
    np.testing.assert_array_equal(given["w"], 1)


def rule_of(name, size, dtype, limits, bounded, penalised):
    low, high = bounds_of(size, dtype, bounded)
    moments = np.zeros((MOMENTS[name], size), dtype)
    return [RULES[name], parameters_of(name, LIMITS[limits]), moments, 0, penalised, low, high]


@pytest.mark.parametrize("dtype", SAME)
@pytest.mark.parametrize("name", RULES)
def test_descend_by_every_rule(build, name, dtype):
    """In one call and in several, as the specification does: points, values, norms, moments."""
    for limits, bounded in [("free", False), ("all", False), ("l1", True)]:
        for k, intercept in ((1, False), (3, True)):
            X, Y, W, b, _, s = problem(40, 4, k, dtype, True)
            found = {}
            for kernel, calls in ((reference, [24]), (build, [24]), (build, [1, 9, 14])):
                w = np.vstack([W, b]) if intercept else W.copy()
                rule = rule_of(name, w.size, dtype, limits, bounded, W.size)
                state, rates = np.array([0, 0, 1, 0, 0, 0, 0, 0.0]), np.full(24, 0.05)
                gradient, previous, points = np.zeros_like(w), np.zeros_like(w), np.zeros((24, *w.shape), dtype)
                funs, norms = np.zeros(24), np.zeros(24)
                for length in calls:
                    part = slice(rule[3], rule[3] + length)
                    taken, reason = kernel.descend(
                        X, Y, w, s, *MODEL, None, 1 / 40, 0.3, 0.5, rates[part], -1.0, 0.0, np.inf, np.inf, state,
                        gradient, previous, funs[part], norms[part], points[part], *rule,
                    )  # fmt: skip
                    assert (taken, reason) == (length, OnRows.ALL_STEPS)
                    rule[3] += taken
                found[kernel.name if kernel is build else "twin", len(calls)] = (
                    w,
                    points,
                    funs,
                    norms,
                    rule[2],
                    previous,
                )
            theirs, *ours = found.values()
            for run in ours:
                for mine, its in zip(run, theirs, strict=True):
                    close(mine, its, 10 * SAME[dtype])


@pytest.mark.parametrize("dtype", SAME)
@pytest.mark.parametrize("name", RULES)
def test_stochastic_steps_by_every_rule(build, name, dtype):
    for limits, bounded in [("free", False), ("all", True)]:
        for k, intercept, batch, mean in ((1, False, 1, True), (1, True, 4, False), (3, True, 3, True)):
            X, Y, W, b, _, s = problem(23, 4, k, dtype, True)
            order = np.random.default_rng(2).permutation(46) % 23
            rates = np.full(-(-46 // batch), 0.01)
            found = []
            for kernel, sparse in ((reference, False), (build, False), (build, True), (reference, True)):
                w = np.vstack([W, b]) if intercept else W.copy()
                rule = rule_of(name, w.size, dtype, limits, bounded, W.size)
                rest = s, *MODEL, 0.7, 0.2, order, batch, mean, rates, *rule
                if sparse:
                    kernel.sparse_stochastic(*csr(X), Y, w, 4, *rest)
                else:
                    kernel.stochastic(X, Y, w, *rest)
                found.append((w, rule[2]))
            for w, moments in found[1:]:
                close(w, found[0][0], 10 * SAME[dtype])
                close(moments, found[0][1], 10 * SAME[dtype])


def test_the_tables_of_the_rules_agree():
    assert set(RULES) == set(MOMENTS) == set(NAMES)
    assert {rule.name: rule().kind for rule in optimizers.BY_NAME.values()} == RULES
