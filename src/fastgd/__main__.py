"""The command `fastgd`, also as `python -m fastgd`."""

import importlib.util
import sys

from fastgd.errors import import_extra


def main():
    """Run the command line, or say what it needs."""
    try:
        for package in ("click", "tqdm", "rich", "pyarrow"):
            if importlib.util.find_spec(package) is None:  # what is there is imported by the command that needs it
                import_extra(package, "cli", "the command line")
    except ImportError as error:
        sys.exit(f"Error: {error}")
    from fastgd.cli.line import cli

    cli(prog_name="fastgd")


if __name__ == "__main__":
    main()
