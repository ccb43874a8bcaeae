"""The code on the pages. As a script: what pyright and mypy say of it, and of a program that uses every public name.

Both are asked about the installed package, as a user's editor would; `.ci/run` installs them.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
PROGRAM = "typed_program.py"
# Dask has no annotations: pyright takes chunks to be a str, as its default is one.
UNTYPED = {"import dask.array as da": "import typing; da: typing.Any = None"}
FENCED = re.compile(r"^```(\w+)\n(.*?)^```$", flags=re.MULTILINE | re.DOTALL)


def blocks(page):
    """(language, text) of each fenced block."""
    return FENCED.findall(page.read_text(encoding="utf-8"))


def as_module(page):
    """The Python of a page, every other line blank: the numbers of the lines are those on the page."""
    text = page.read_text(encoding="utf-8")
    lines = [""] * len(text.splitlines())
    for block in FENCED.finditer(text):
        if block[1] == "python":
            first, code = text.count("\n", 0, block.start(2)), block[2].splitlines()
            lines[first : first + len(code)] = [UNTYPED.get(line, line) for line in code]
    return "\n".join(lines) + "\n"


def main():
    with tempfile.TemporaryDirectory() as folder:
        for page in PAGES:
            Path(folder, f"{page.parent.name}-{page.stem}.py").write_text(as_module(page), encoding="utf-8")
        shutil.copy(ROOT / "tests" / PROGRAM, folder)
        # The program asks for "strict" by itself.
        Path(folder, "pyrightconfig.json").write_text('{"typeCheckingMode": "basic"}')
        commands = (
            ["-m", "pyright", "--pythonpath", sys.executable, "--warnings"],
            ["-m", "mypy", "--strict", "--cache-dir", os.devnull, PROGRAM],
            [PROGRAM],
        )
        environment = os.environ | {"PYRIGHT_PYTHON_IGNORE_WARNINGS": "1"}  # or it looks for a newer one on the network
        done = [subprocess.run([sys.executable, *command], cwd=folder, env=environment) for command in commands]
    return any(command.returncode for command in done)


if __name__ == "__main__":
    sys.exit(main())
