"""`show_config`: the build of the kernels in use, and versions."""

from __future__ import annotations

import os
import platform

from fastgd import kernels
from fastgd._version import __version__


def show_config() -> Config:
    """Kernels in use and available, CPU features, compiler and versions, for bug reports.

    If the compiled kernels are missing, the entries say so.

    Returns
    -------
    Config
        A dict of strings that prints as a table.

    Examples
    --------
    >>> show_config()["fastgd"] == __version__
    True
    """
    from importlib import metadata  # slow to import, and only needed here

    return Config(
        {
            "fastgd": __version__,
            "kernels": kernels.active.name,
            "chosen by": _chosen_by(),
            **_compiled(),
            "machine": f"{platform.system()} {platform.machine()}",
            "python": platform.python_version(),
            "numpy": metadata.version("numpy"),
            "scipy": metadata.version("scipy"),
        }
    )


def _chosen_by():
    """Why these kernels: see "Which build" in benchmarks/README.md for the measurements."""
    if os.environ.get("FASTGD_KERNELS"):
        return "FASTGD_KERNELS"
    if kernels.active.name != kernels.available()[-1]:
        return "fastgd.kernels.select"
    return "measurement: of those available, the fastest at most shapes"


def _compiled():
    """The entries on the compiled kernels."""
    try:
        cpu = kernels._compiled("cpu")
    except ImportError:
        missing = f"unknown: the compiled kernels are missing; build them with `{kernels.BUILD_COMMAND}`"
        return {"available": "reference", "cpu features": missing, "compiler": missing}
    names = [name if kernels.installed(name) else f"{name} (missing)" for name in kernels.available()]
    return {
        "available": ", ".join(names),
        "cpu features": ", ".join(sorted(cpu.features())) or "none beyond the baseline",
        "compiler": cpu.compiler(),
    }


class Config(dict[str, str]):
    """A dict that prints as a table, one entry a line."""

    def __repr__(self) -> str:
        width = max(map(len, self))
        return "\n".join(f"{name:<{width}}  {value}" for name, value in self.items())
