"""The command line: which commands there are, and how errors are told. What a command needs is imported with it."""

import importlib
import os
import sys

import click

from fastgd._version import __version__

# What `fastgd --help` says of each; its function is in `commands.py`.
COMMANDS = {
    "bench": "Time it on this machine, beside NumPy and SciPy.",
    "check": "Whether a gradient is that of its function.",
    "compare": "Fit one table in several ways.",
    "demo": "See it work on a small table.",
    "fit": "Fit a model to a table.",
    "info": "Which build of the kernels runs.",
    "predict": "Predict by a saved model.",
}


class _Closed(Exception):
    """Whoever reads the output has read enough."""


class _CommandLine(click.Group):
    """The commands, whose errors are one sentence."""

    def list_commands(self, context):
        return list(COMMANDS)

    def get_command(self, context, name):
        if name not in COMMANDS:
            return None
        _without_pandas()
        return getattr(importlib.import_module("fastgd.cli.commands"), name)

    def format_commands(self, context, formatter):
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))

    def invoke(self, context):
        try:
            found = super().invoke(context)
            sys.stdout.flush()
            return found
        except BrokenPipeError:  # of which click makes status 1
            raise _Closed from None

    def main(self, *args, **extra):
        for stream in (sys.stdout, sys.stderr):
            if hasattr(stream, "reconfigure"):  # a console that lacks a letter still shows the rest
                stream.reconfigure(errors="backslashreplace")
        extra["standalone_mode"] = False
        try:
            sys.exit(super().main(*args, **extra) or 0)
        except _Closed:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(0)
        except click.Abort:
            _fail("interrupted", 130)
        except click.UsageError as error:
            command = error.ctx.command_path if error.ctx else "fastgd"
            _fail(f"{error.format_message().rstrip('.')} (see '{command} --help')", 2)
        except click.ClickException as error:
            _fail(error.format_message(), error.exit_code)
        except ImportError as error:  # an extra that is not there
            _fail(str(error), 1)
        except OSError as error:
            _fail(f"the output cannot be written: {error.strerror or error}", 1)


def _fail(sentence, status):
    from fastgd.cli import printing

    click.echo(f"Error: {printing.one_line(sentence)}", err=True)
    sys.exit(status)


def stop(sentence, status):
    """An exception that ends the command with a sentence and an exit status."""
    error = click.ClickException(sentence)
    error.exit_code = status
    return error


class _NoPandas:
    """Keeps pandas from being found."""

    @staticmethod
    def find_spec(name, path=None, target=None):
        if name == "pandas":
            raise ModuleNotFoundError(name=name)


def _without_pandas():
    """Let pyarrow look for pandas in vain: importing it with the first value takes longer than reading a table."""
    import pyarrow

    sys.meta_path.insert(0, _NoPandas)
    try:
        pyarrow.scalar(0)  # where it looks
    finally:
        sys.meta_path.remove(_NoPandas)


@click.group(
    cls=_CommandLine, context_settings={"help_option_names": ["-h", "--help"]}, invoke_without_command=True
)  # fmt: skip
@click.version_option(__version__, prog_name="fastgd")
@click.pass_context
def cli(context):
    """Gradient descent on tables of data.

    Start with `fastgd demo`.
    """
    if context.invoked_subcommand is None:
        click.echo(context.get_help())
