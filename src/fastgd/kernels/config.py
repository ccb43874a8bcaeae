"""Which build of the kernels runs, and on what."""

from __future__ import annotations

import platform

from fastgd import kernels
from fastgd._version import __version__


def show_config() -> Config:
    """What a bug report should say: kernels in use and available, CPU features, compiler, versions.

    It works on an installation without compiled kernels too, and says that they are missing.

    Returns
    -------
    Config
        A dict of str → str that prints as a table.

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
            **_compiled(),
            "machine": f"{platform.system()} {platform.machine()}",
            "python": platform.python_version(),
            "numpy": metadata.version("numpy"),
            "scipy": metadata.version("scipy"),
        }
    )


def _compiled():
    """What is known of the compiled kernels."""
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
