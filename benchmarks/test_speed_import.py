"""The time of `import fastgd`, in a process of its own."""

import subprocess
import sys

import pytest


def importing(name):
    return lambda: subprocess.run([sys.executable, "-c", f"import {name}"], check=True).returncode


@pytest.mark.parametrize("who", ("ours", "import numpy"))
def test_import(compare, who):
    compare(
        "A process that imports", "import fastgd", who, {"ours": importing("fastgd")}, 0,
        yardsticks={"import numpy": (importing("numpy"), 0)}, target={"import numpy": 1.5}, dtype="–", tolerance=0,
    )  # fmt: skip
