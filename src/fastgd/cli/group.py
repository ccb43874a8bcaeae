"""The group of commands: each error is one sentence on standard error, and an exit status."""

import os
import sys

import click

from fastgd.cli import printing
from fastgd.data.tables import TableError
from fastgd.files import whole


class _Closed(Exception):
    """The reader of a pipe has closed it."""


class CommandLine(click.Group):
    """A group of commands whose errors are one sentence."""

    def invoke(self, context):
        try:
            found = super().invoke(context)
            sys.stdout.flush()
            return found
        except BrokenPipeError:  # of which click makes status 1
            raise _Closed from None

    def main(self, *args, **extra):
        for stream in (sys.stdout, sys.stderr):
            if hasattr(stream, "reconfigure"):  # a character that the console lacks is shown as an escape
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
        except (TableError, whole.WriteError) as error:
            _fail(str(error), 2)
        except OSError as error:
            _fail(f"the output cannot be written: {error.strerror or error}", 1)


def _fail(sentence, status):
    click.echo(f"Error: {printing.one_line(sentence)}", err=True)
    sys.exit(status)


def stop(sentence, status):
    """An exception that ends the command with a sentence and an exit status."""
    error = click.ClickException(sentence)
    error.exit_code = status
    return error
