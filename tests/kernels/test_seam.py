"""The choice of a build at import, in processes of their own; and what an import brings with it."""

import copy
import importlib
import json
import os
import pickle
import subprocess
import sys

import numpy as np
import pytest

from fastgd import DivergenceError, Result, Status, kernels, show_config

pytestmark = pytest.mark.one_build

# Makes modules unimportable, as if they had not been built.
BLOCK = "import sys; sys.modules.update(dict.fromkeys({names!r}))\n"
COMPILED = [f"fastgd.kernels.{name}" for name in (*kernels.REQUIRES, "differences", "cpu")]


def run(program, **environment):
    clean = {name: value for name, value in os.environ.items() if name != "FASTGD_KERNELS"}
    return subprocess.run(
        [sys.executable, "-c", program], env={**clean, **environment}, capture_output=True, text=True, check=False
    )


def error_of(finished):
    assert finished.returncode != 0
    return finished.stderr.strip().splitlines()[-1]


@pytest.mark.parametrize("name", kernels.available())
def test_the_environment_forces_a_build(name):
    finished = run(
        "import fastgd; o = fastgd.LinearObjective([[1.0, 2.0]], [3.0]); "
        "print(fastgd.kernels.active.name, o.value([1.0, 2.0]), *o.gradient([1.0, 2.0]), "
        "*fastgd.numerical_gradient(lambda x: x @ x, [3.0, 4.0], 0.5), fastgd.show_config()['kernels'])",
        FASTGD_KERNELS=name,
    )
    assert finished.stderr == ""
    assert finished.stdout.split() == [name, "2.0", "2.0", "4.0", "6.0", "8.0", name]


@pytest.mark.parametrize("environment", [{}, {"FASTGD_KERNELS": ""}])
def test_without_it_the_fastest_that_runs_is_taken(environment):
    finished = run("import fastgd; print(fastgd.kernels.active.name)", **environment)
    assert finished.stdout.strip() == kernels.available()[-1]


def test_a_name_that_is_none_is_refused():
    message = error_of(run("import fastgd", FASTGD_KERNELS="fastest"))
    assert message == (
        "ValueError: FASTGD_KERNELS must be one of reference, baseline, x86_64_v3, x86_64_v4; got 'fastest'"
    )
    with pytest.raises(ValueError, match="got 'cpu'"):
        kernels.load("cpu")


@pytest.mark.parametrize("name, feature", [("x86_64_v3", "avx2, fma"), ("x86_64_v4", "avx512f")])
def test_a_level_that_the_cpu_lacks_is_an_error_that_names_what_is_missing(name, feature, monkeypatch):
    monkeypatch.setattr(kernels, "cpu_features", set)
    assert kernels.available() == ["reference", "baseline"]
    with pytest.raises(ImportError, match=rf"FASTGD_KERNELS={name} needs .*{feature}.* lacks; .*reference, baseline"):
        kernels.load(name)


def test_levels_follow_the_features(monkeypatch):
    monkeypatch.setattr(kernels, "cpu_features", lambda: {"avx2", "fma"})
    assert kernels.available() == ["reference", "baseline", "x86_64_v3"]
    monkeypatch.setattr(kernels, "cpu_features", lambda: {"avx512f", "avx2"})
    assert kernels.available() == ["reference", "baseline"]


def test_a_failed_choice_leaves_the_active_build_alone():
    before = kernels.active
    with pytest.raises(ValueError, match="must be one of"):
        kernels.select("none")
    assert kernels.active is before


@pytest.mark.parametrize("name", list(kernels.REQUIRES))
def test_a_missing_build_is_an_error_with_the_build_command(name, monkeypatch):
    def missing(module):
        if module == f"fastgd.kernels.{name}":
            raise ModuleNotFoundError(f"No module named {module!r}")
        return real(module)

    real = importlib.import_module
    monkeypatch.setattr(kernels, "cpu_features", lambda: kernels.REQUIRES[name])
    monkeypatch.setattr(importlib, "import_module", missing)
    with pytest.raises(ImportError, match=rf"'fastgd\.kernels\.{name}' cannot be loaded .*`pip install \.`"):
        kernels.load(name)


@pytest.mark.parametrize("environment", [{}, {"FASTGD_KERNELS": "baseline"}])
def test_an_installation_without_builds_says_so_at_import(environment):
    message = error_of(run(BLOCK.format(names=COMPILED) + "import fastgd", **environment))
    assert message.startswith("ImportError: the compiled kernels 'fastgd.kernels.")
    assert "build them with `pip install .`" in message
    assert "FASTGD_KERNELS=reference" in message


def test_the_reference_runs_without_any_build():
    finished = run(
        BLOCK.format(names=COMPILED) + "import fastgd; "
        "o = fastgd.LinearObjective(*fastgd.datasets.load_women(), fit_intercept=True); "
        "print(fastgd.kernels.active.name, fastgd.gradient_descent(o, lr='auto').x.round(6).tolist())",
        FASTGD_KERNELS="reference",
    )
    assert finished.stderr == ""
    assert finished.stdout.strip() == "reference [3.45, -87.516667]"


def test_an_import_brings_only_what_it_needs():
    finished = run("import fastgd, json, sys; print(json.dumps(sorted(sys.modules)))")
    modules = json.loads(finished.stdout)
    heavy = ("numpy", "scipy", "matplotlib", "sklearn", "click", "tqdm", "pandas", "dask")
    brought = [name for name in modules if name in heavy or name.split(".")[0] in heavy]
    assert brought == []


def test_the_reference_is_imported_where_it_is_asked_for_alone():
    finished = run("import fastgd, sys; fastgd.sigmoid(0.0); print('fastgd.kernels.reference' in sys.modules)")
    assert (finished.stderr, finished.stdout.strip()) == ("", "False")


def test_a_run_needs_nothing_more():
    finished = run(
        "import fastgd, sys\n"
        "o = fastgd.LinearObjective(*fastgd.datasets.load_women(), fit_intercept=True, activation='tanh')\n"
        "fastgd.gradient_descent(o, lr='auto', tol=1e-3, history=True)\n"
        "fastgd.gradient_descent(lambda x: x @ x, [1.0, 2.0])\n"
        "print(*(m for m in ('scipy.optimize', 'matplotlib', 'sklearn', 'click', 'tqdm') if m in sys.modules))"
    )
    assert finished.stderr == ""
    assert finished.stdout.strip() == ""


def test_show_config_names_what_runs():
    config = show_config()
    assert config["kernels"] == kernels.active.name
    assert config["available"].split(", ") == kernels.available()
    for name in ("fastgd", "chosen by", "cpu features", "compiler", "machine", "python", "numpy", "scipy"):
        assert config[name]
    assert all(isinstance(value, str) for value in config.values())
    lines = repr(config).splitlines()
    assert len(lines) == len(config)
    for (name, value), line in zip(config.items(), lines, strict=True):
        assert line.startswith(name)
        assert line.endswith(value)


def test_unknown_attributes_of_the_package_are_attribute_errors():
    import fastgd

    with pytest.raises(AttributeError, match="module 'fastgd' has no attribute 'gradient_decent'"):
        _ = fastgd.gradient_decent
    missing = [name for name in fastgd.__all__ if name != "plot" and not hasattr(fastgd, name)]
    assert missing == []


def test_show_config_works_on_an_installation_without_builds():
    finished = run(
        BLOCK.format(names=COMPILED) + "import fastgd; print(fastgd.show_config())", FASTGD_KERNELS="reference"
    )
    assert finished.stderr == ""
    lines = {line[:14].strip(): line[14:] for line in finished.stdout.splitlines()}
    assert lines["kernels"] == lines["available"] == "reference"
    for name in ("cpu features", "compiler"):
        assert lines[name] == "unknown: the compiled kernels are missing; build them with `pip install .`"


def test_show_config_names_a_single_build_that_is_missing():
    names = ["fastgd.kernels.baseline"]
    finished = run(
        BLOCK.format(names=names) + "import fastgd; print(fastgd.show_config()['available'])",
        FASTGD_KERNELS="reference",
    )
    assert finished.stderr == ""
    assert finished.stdout.strip().split(", ")[:2] == ["reference", "baseline (missing)"]


def test_an_error_of_divergence_survives_pickle_and_copy():
    result = Result(x=np.ones(2), status=Status.DIVERGED, message="diverged")
    error = DivergenceError("diverged at step 3", step=3, lr=0.5, stable_lr=0.1, result=result)
    for twin in (copy.copy(error), copy.deepcopy(error), pickle.loads(pickle.dumps(error))):
        assert type(twin) is DivergenceError
        assert str(twin) == "diverged at step 3"
        assert (twin.step, twin.lr, twin.stable_lr) == (3, 0.5, 0.1)
        assert twin.result.status is Status.DIVERGED
        assert twin.result.x.tolist() == [1, 1]
