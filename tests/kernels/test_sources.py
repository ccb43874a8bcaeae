"""The sources and what is built from them: no Python inside `nogil`, and complete distributions."""

import ast
import html
import importlib.metadata
import inspect
import re
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from fastgd import kernels

ROOT = Path(__file__).resolve().parents[2]
KERNELS = ROOT / "src" / "fastgd" / "kernels"
INCLUDED = (
    "one_layer", "lanes", "transcendental", "one_output", "stages", "updates", "small_table", "single_rows", "loops",
    "losses", "sparse", "single_sparse_rows", "perturbed", "functions", "coordinates", "softmax_coordinates",
)  # fmt: skip
pytestmark = pytest.mark.one_build


def annotated(source, folder):
    """(score, code) of each line of a Cython module and of what it includes, as `cython -a` scores them."""
    page = folder / f"{source.stem}.html"
    command = [sys.executable, "-m", "cython", "-3", "-a", "-I", KERNELS, "-o", page.with_suffix(".c")]
    directives = "boundscheck=False,wraparound=False,initializedcheck=False,cdivision=True"
    subprocess.run([*command, "-X", directives, source], check=True, cwd=ROOT / "src", capture_output=True)
    line = re.compile(r'<pre class="cython line score-(\d+)"[^>]*>[^<]*<span class="">\d+</span>: (.*?)</pre>', re.S)
    lines = [
        (int(score), html.unescape(re.sub(r"<[^>]*>", "", code))) for score, code in line.findall(page.read_text())
    ]
    assert len(lines) >= len(source.read_text().splitlines()), "the page of `cython -a` has changed its form"
    return lines


def inside_nogil(lines):
    """Lines in the bodies of `with nogil:` blocks and of functions declared nogil."""
    depth = None  # indentation of the line that opened the block
    signature = ""
    for score, code in lines:
        indent = len(code) - len(code.lstrip())
        if depth is not None and code.strip() and indent <= depth and not signature:
            depth = None
        if depth is not None and not signature:
            if code.strip() and not code.lstrip().startswith(('"""', "#")):
                yield score, code
            continue
        if (
            depth is None
            and not signature
            and re.match(r"\s*cdef (inline )?[^=]*\($|\s*cdef (inline )?[^=]*\(.*", code)
        ):
            signature, depth = code, indent
        elif signature:
            signature += code
        elif code.strip() == "with nogil:":
            depth = indent
        if signature and code.rstrip().endswith(":"):
            if not signature.rstrip().endswith("nogil:"):
                depth = None
            signature = ""


def expanded(path):
    """(name of the file, line) of a source with what it includes in place: `cython -a` shows one file alone."""
    for line in path.read_text().splitlines():
        included = re.match(r'include "(.*)"', line)
        if included:
            yield from expanded(path.with_name(included.group(1)))
        else:
            yield path.stem, line


def test_no_python_inside_nogil_of_the_one_layer_kernels(tmp_path):
    source = tmp_path / "one_layer.pyx"
    owners, text = zip(*expanded(KERNELS / "one_layer.pxi"), strict=True)
    assert set(owners) == set(INCLUDED) == {path.stem for path in KERNELS.glob("*.pxi")}
    source.write_text("\n".join(text) + "\n")
    lines = annotated(source, tmp_path)
    assert [code.strip() for _, code in lines[: len(text)]] == [code.strip() for code in text]
    owned = {name: [] for name in INCLUDED}
    # The owner goes along with the score, so that each file is known to have been looked at.
    for (owner, score), code in inside_nogil(
        [((owner, score), code) for owner, (score, code) in zip(owners, lines, strict=False)]
    ):
        owned[owner].append((score, code))
    assert [(owner, code) for owner, found in owned.items() for score, code in found if score > 0] == []
    assert [owner for owner, found in owned.items() if not found] == []
    # What computes is nearly all of it: a `nogil` that got lost would leave the check with nothing to look at.
    for owner in ("transcendental", "stages"):
        code = [line for name, line in zip(owners, text, strict=True) if name == owner and line.startswith("    ")]
        assert len(owned[owner]) > len(code) / 2, owner


@pytest.mark.parametrize("declarations, least", [("formulas", 10), ("callbacks", 8), ("central", 30)])
def test_no_python_inside_nogil_of_what_others_may_cimport(declarations, least, tmp_path):
    source = tmp_path / "points.pyx"  # a module with a .pxd of its name would take that in as well
    source.write_text((KERNELS / f"{declarations}.pxd").read_text())
    lines = list(inside_nogil(annotated(source, tmp_path)))
    assert len(lines) > least
    assert [code for score, code in lines if score > 0] == []


@pytest.mark.parametrize("module", ["differences", "cpu"])
def test_no_python_inside_nogil(module, tmp_path):
    source = tmp_path / f"{module}.pyx"
    source.write_text((KERNELS / f"{module}.pyx").read_text())
    if (declared := KERNELS / f"{module}.pxd").exists():
        source.with_suffix(".pxd").write_text(declared.read_text())
    assert [code for score, code in inside_nogil(annotated(source, tmp_path)) if score > 0] == []


def test_a_change_of_any_included_source_builds_the_kernels_anew():
    extensions = re.search(r"^extensions = .*?^\]", (ROOT / "setup.py").read_text(), re.S | re.M).group()
    declared = {"formulas.pxd", "callbacks.pxd", "central.pxd", "differences.pxd"}
    included = {f"{name}.pxi" for name in INCLUDED} | declared
    assert included <= set(re.findall(r'"([\w.]+)"', extensions))


@pytest.mark.parametrize(
    "stub, names",
    [
        ("baseline", (*kernels.ONE_LAYER, *kernels.PERTURBED, *kernels.FUNCTIONS, *kernels.COORDINATES)),
        ("differences", kernels.DIFFERENCES),
    ],
)
def test_the_stubs_declare_the_kernels_with_their_parameters(stub, names):
    body = ast.parse((KERNELS / f"{stub}.pyi").read_text()).body
    declared = {
        node.name: [argument.arg for argument in node.args.args] for node in body if isinstance(node, ast.FunctionDef)
    }
    specification = kernels.load("reference")
    assert declared == {name: list(inspect.signature(getattr(specification, name)).parameters) for name in names}


def test_the_check_for_python_inside_nogil_can_fail(tmp_path):
    source = tmp_path / "slow.pyx"
    source.write_text(
        "def f(double[::1] x not None):\n"
        "    cdef Py_ssize_t i\n"
        "    with nogil:\n"
        "        for i in range(x.shape[0]):\n"
        "            x[i] = 1\n"
        "        with gil:\n"
        "            print(x[0])\n"
        "    return None\n"
    )
    assert any("print" in code for score, code in inside_nogil(annotated(source, tmp_path)) if score > 0)


def test_an_sdist_holds_the_sources_and_nothing_generated(tmp_path):
    build = [sys.executable, "-m", "build", "--sdist", "--no-isolation", "--outdir", tmp_path, ROOT]
    subprocess.run(build, check=True, capture_output=True)
    with tarfile.open(next(tmp_path.glob("*.tar.gz"))) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    sources = {
        str(path.relative_to(ROOT))
        for folder in ("src/fastgd", "tests", "benchmarks")
        for path in (ROOT / folder).rglob("*")
        if path.suffix in {".py", ".pyi", ".pyx", ".pxi", ".pxd", ".csv", ".json"} or path.name == "py.typed"
    }
    assert sources <= names
    assert {"setup.py", "pyproject.toml", "MANIFEST.in", "README.md", "LICENSE", "CHANGELOG.md"} <= names
    assert "src/fastgd/cli/report.jinja" in names
    assert not [name for name in names if name.endswith((".c", ".so", ".pyc", ".html"))]


def test_the_installed_package_has_types_and_cython_declarations_and_no_sources():
    distribution = importlib.metadata.distribution("fastgd")
    names = {str(path) for path in distribution.files}
    if not any(name.startswith("fastgd/") for name in names):
        pytest.skip("an editable installation has no files of its own")
    wanted = ["py.typed", "cli/report.jinja", "kernels/formulas.pxd", "kernels/callbacks.pxd"]
    wanted += ["kernels/baseline.pyi", "kernels/differences.pyi"]
    assert {f"fastgd/{name}" for name in [*wanted, "datasets/women.csv", "datasets/SOURCES.md"]} <= names
    assert not [name for name in names if name.endswith((".c", ".pyx", ".pxi"))]


def test_the_runtime_needs_are_numpy_and_scipy_alone():
    requires = importlib.metadata.distribution("fastgd").requires
    core = {re.match(r"[\w.-]+", line).group() for line in requires if "extra ==" not in line}
    assert core == {"numpy", "scipy"}
    extras = set(importlib.metadata.metadata("fastgd").get_all("Provides-Extra"))
    assert extras == {
        "accuracy", "all", "arrow", "bench", "cli", "dask", "docs", "excel", "formula", "frame", "onnx", "plot",
        "report", "sklearn", "test", "video",
    }  # fmt: skip
