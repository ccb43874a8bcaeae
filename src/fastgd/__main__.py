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
    from fastgd.cli.commands import cli

    cli(prog_name="fastgd")


if __name__ == "__main__":
    main()
