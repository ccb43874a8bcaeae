"""The time of `import fastgd` and of `fastgd --help`, in processes of their own."""

import subprocess
import sys

import pytest


def process(*arguments):
    return lambda: subprocess.run([sys.executable, *arguments], check=True, capture_output=True).returncode


@pytest.mark.parametrize("who", ("ours", "import numpy"))
def test_import(compare, who):
    compare(
        "A process that imports", "import fastgd", who, {"ours": process("-c", "import fastgd")}, 0,
        yardsticks={"import numpy": (process("-c", "import numpy"), 0)}, target={"import numpy": 1.3}, dtype="–",
        tolerance=0,
    )  # fmt: skip


@pytest.mark.parametrize("who", ("ours", "import click"))
def test_help(compare, who):
    pytest.importorskip("click")
    compare(
        "A process that imports", "fastgd --help", who, {"ours": process("-m", "fastgd", "--help")}, 0,
        yardsticks={"import click": (process("-c", "import click"), 0)}, target={"import click": 1.5}, dtype="–",
        tolerance=0,
    )  # fmt: skip
