"""Which build of the kernels runs, and on what."""

import importlib.metadata
import platform

from fastgd import kernels
from fastgd._version import __version__


def show_config():
    """What a bug report should say: kernels in use and available, CPU features, compiler, versions.

    Returns
    -------
    Config
        A dict of str → str that prints as a table.

    Examples
    --------
    >>> show_config()["fastgd"] == __version__
    True
    """
    cpu = kernels._compiled("cpu")
    return Config(
        {
            "fastgd": __version__,
            "kernels": kernels.active.name,
            "available": ", ".join(kernels.available()),
            "cpu features": ", ".join(sorted(cpu.features())) or "none beyond the baseline",
            "compiler": cpu.compiler(),
            "machine": f"{platform.system()} {platform.machine()}",
            "python": platform.python_version(),
            "numpy": importlib.metadata.version("numpy"),
            "scipy": importlib.metadata.version("scipy"),
        }
    )


class Config(dict):
    """A dict that prints as a table, one entry a line."""

    def __repr__(self):
        width = max(map(len, self))
        return "\n".join(f"{name:<{width}}  {value}" for name, value in self.items())
