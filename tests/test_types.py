"""What annotations say against what is so: keywords, names of choices, and the entries of results.

Whether type checkers read them as they are meant is for `snippets.py` to see.
"""

import inspect
import re
import typing

import numpy as np
import pytest

import fastgd
from fastgd import kernels, losses, optimizers, types
from fastgd.derivatives import gradient as numdiff
from fastgd.descent import starts
from fastgd.engine import plan
from fastgd.linear_model import parameters
from fastgd.losses import table

pytestmark = pytest.mark.one_build


def keywords(signature):
    """Default of each parameter of an overload, those of an unpacked TypedDict included, which have none."""
    found = {}
    for name, parameter in signature.parameters.items():
        if parameter.kind is parameter.VAR_KEYWORD:
            options = re.fullmatch(r"Unpack\[(\w+)\]", parameter.annotation)[1]
            found |= dict.fromkeys(typing.get_type_hints(getattr(types, options)), inspect.Parameter.empty)
        else:
            found[name] = parameter.default
    return found


@pytest.mark.parametrize(
    "name", ["numerical_gradient", "numerical_jacobian", "numerical_hessian", "gradient_descent", "sweep"]
)
def test_overloads_have_the_parameters_of_the_function(name):
    function = getattr(fastgd, name)
    parameters = inspect.signature(function).parameters
    overloads = typing.get_overloads(function)
    assert len(overloads) > 1
    for overload in overloads:
        found = keywords(inspect.signature(overload))
        assert set(found) == set(parameters)
        for parameter, default in found.items():
            assert default in (inspect.Parameter.empty, parameters[parameter].default)
        positional = [each.name for each in parameters.values() if each.kind is each.POSITIONAL_OR_KEYWORD]
        assert list(found)[: len(positional)] == positional


def test_keywords_of_multi_start():
    passed_on = set(typing.get_type_hints(types.StartOptions))
    starts._refuse_unknown(passed_on)
    own = set(inspect.signature(fastgd.multi_start).parameters)
    left_out = {"f", "init_x", "checkpoint", "resume", "precondition"}
    assert passed_on == set(inspect.signature(fastgd.gradient_descent).parameters) - own - left_out


@pytest.mark.parametrize(
    ("annotation", "names"),
    [
        (types.Scheme, numdiff.SCHEMES),
        (types.NanPolicy, numdiff.NAN_POLICIES),
        (types.Activation, kernels.codes.ACTIVATIONS),
        (table.LossName, losses.LOSSES),
        (table.RegressionLoss, losses.names("regression")),
        (table.ClassificationLoss, losses.names("classification")),
        (types.OptimizerName, optimizers.BY_NAME),
        (types.Penalty, [name for name in parameters.PENALTIES if name is not None]),
        (types.Solver, plan.NAMES),
        (typing.get_args(types.RateOfRun)[-1], ["auto", "bb", "armijo", "adgd"]),
    ],
)
def test_names_of_choices(annotation, names):
    assert set(typing.get_args(annotation)) == set(names)


def test_entries_of_results():
    def bowl(x):
        return x[0] ** 2 + x[1] ** 2

    def declared(kind):
        return {name for each in kind.__mro__ for name in getattr(each, "__annotations__", ()) if name[0] != "_"}

    best = fastgd.multi_start(bowl, ([-1.0, -1.0], [1.0, 1.0]), 2, lr=0.1, step_num=2, history=True)
    together = fastgd.multi_start(
        lambda points: np.sum(points**2, axis=1), ([-1.0, -1.0], [1.0, 1.0]), 2, lr=0.1, step_num=2, vectorized=True
    )
    assert declared(fastgd.Result) == set(best.runs[0]) == set(together.runs[0])
    assert declared(types.BestResult) == set(best) == set(together)
    assert declared(starts.Minimum) == set(best.minima[0])
    found = fastgd.classify(bowl, best.x)
    assert declared(type(found)) == set(found)
    seen = []
    model = fastgd.GDRegressor(callbacks=seen.append).fit(*fastgd.datasets.load_women())
    assert declared(fastgd.Result) == set(model.result_)
    assert declared(types.Epoch) == set(seen[0])
    # Two names of an entry are the same; an estimator and a run of descent have some of their own.
    history = set(best.history) | set(model.history_)
    assert declared(fastgd.History) == history
    assert set(best.history) >= {"x", "fun", "lr", "grad_norm", "step"}
    for each in (best.history, model.history_):
        assert each.loss is each.fun and each.lr is each.learning_rate
