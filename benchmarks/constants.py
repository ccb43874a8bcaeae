"""The module-level constants of the package, and measurements of those that were tuned.

    python benchmarks/constants.py                    every constant: where, its value, its unit and reason
    python benchmarks/constants.py THREAD_VALUES …    measure these: the value in the source, and what is measured now
    python benchmarks/constants.py --measure          measure all that have a measurement (about a minute)

Measured are thresholds and costs that depend on the machine (`measurements.py`), in one thread unless the constant is
about threads. Constants that are accuracies, or choices of an interface, have no measurement.
"""

import argparse
import ast
import re
from pathlib import Path
from typing import NamedTuple

from measurements import MEASURED
from threadpoolctl import threadpool_limits

import fastgd

PACKAGE = Path(fastgd.__file__).parent

# ---------------------------------------------------------------------------------------------------------- the list


class Constant(NamedTuple):
    """A name that a module of the package assigns in capitals."""

    name: str
    file: str
    line: int
    value: str
    comment: str


def constants():
    """All constants outside of `kernels`, in the order of the files."""
    for path in sorted(PACKAGE.rglob("*.py")):
        file = path.relative_to(PACKAGE)
        if file.parts[0] == "kernels":
            continue
        text = path.read_text(encoding="utf-8")
        for node in ast.parse(text).body:
            if isinstance(node, (ast.Assign, ast.AnnAssign)):
                targets = node.targets if isinstance(node, ast.Assign) else [node.target]
                for target in targets:
                    yield from _named(target, node.value, node.lineno, str(file), text.splitlines(), text)


def _named(target, value, line, file, lines, text):
    """The constants of one assignment; several names may be assigned from a tuple."""
    if isinstance(target, ast.Tuple):
        values = value.elts if isinstance(value, ast.Tuple) else [value] * len(target.elts)
        for name, part in zip(target.elts, values, strict=True):
            yield from _named(name, part, line, file, lines, text)
    elif isinstance(target, ast.Name) and re.fullmatch(r"[A-Z][A-Z0-9_]+", target.id):
        source = " ".join(ast.get_source_segment(text, value).split())
        yield Constant(target.id, file, line, source, _comment(lines, line - 1))


def _comment(lines, at):
    """The comment behind a line, or else the lines of comment above it."""
    if "  # " in lines[at]:
        return lines[at].partition("  # ")[2]
    above = []
    while at and lines[at - 1].startswith("# ") and not lines[at - 1].startswith("# --"):
        at -= 1
        above.insert(0, lines[at][2:])
    return " ".join(above)


def show_list():
    every = list(constants())
    print("| constant | file | value | unit and reason |\n| --- | --- | --- | --- |")
    for c in every:
        value = c.value if len(c.value) <= 40 else c.value[:37] + "..."
        print(f"| {c.name} | {c.file}:{c.line} | `{value}` | {c.comment.replace('|', chr(92) + '|')} |")
    bare = sum(not c.comment for c in every)
    print(f"\n{len(every)} constants, {bare} without a comment; measured here: {', '.join(MEASURED)}")


# -------------------------------------------------------------------------------------------------------- the command


def show_measured(names):
    every = {}
    for c in constants():
        every.setdefault(c.name, []).append(c)
    for name in names:
        where = "; ".join(f"{c.value} in {c.file}" for c in every[name])
        print(f"{name} = {where}\n    {MEASURED[name]()}", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="CONSTANT", help="constants to measure")
    parser.add_argument("--measure", action="store_true", help="measure all that have a measurement")
    options = parser.parse_args()
    if unknown := set(options.names) - set(MEASURED):
        parser.error(f"no measurement of {', '.join(sorted(unknown))}; there are {', '.join(MEASURED)}")
    if options.names or options.measure:
        with threadpool_limits(1, "blas"):
            show_measured(options.names or list(MEASURED))
    else:
        show_list()


if __name__ == "__main__":
    main()
