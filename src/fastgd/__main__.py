"""The command `fastgd`, also as `python -m fastgd`."""

import sys

from fastgd.errors import import_extra


def main():
    """Run the command line, or say what it needs."""
    try:
        import_extra("click", "cli", "the command line")
        for package in ("tqdm", "rich", "pyarrow"):
            import_extra(package, "cli", "the command line")
    except ImportError as error:
        sys.exit(f"Error: {error}")
    _without_pandas()
    from fastgd.cli.commands import cli

    cli(prog_name="fastgd")


class _NoPandas:
    """Keeps pandas from being found."""

    @staticmethod
    def find_spec(name, path=None, target=None):
        if name == "pandas":
            raise ModuleNotFoundError(name=name)


def _without_pandas():
    """Hide pandas while pyarrow looks for it, at its first value: importing it takes longer than reading a table."""
    import pyarrow

    sys.meta_path.insert(0, _NoPandas)
    try:
        pyarrow.scalar(0)  # where it looks
    finally:
        sys.meta_path.remove(_NoPandas)


if __name__ == "__main__":
    main()
