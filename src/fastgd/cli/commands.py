"""The command line: fit, predict, compare, check, demo, bench, info.

Exit status 0: done; 1: a fit did not converge, or a part of the installation is missing; 2: bad input, with one
sentence on standard error; 130: interrupted.
"""

import dataclasses
import functools
import subprocess
import sys
import time
from pathlib import Path

import click
import numpy as np
from tqdm import tqdm

from fastgd._version import __version__
from fastgd.cli import fitting, options, printing, streams, writers
from fastgd.cli.line import COMMANDS, stop
from fastgd.data import encoding, tables
from fastgd.data.spill import SpillError
from fastgd.data.tables import TableError
from fastgd.datasets import women_path
from fastgd.engine.result import Status
from fastgd.errors import DivergenceError, import_extra
from fastgd.files import models, whole
from fastgd.kernels.config import show_config

BAR_DELAY = 1.0  # seconds; shorter work needs no bar
PATH = click.Path(path_type=Path)


class _Command(click.Command):
    """A command; of bad input and of files that cannot be written its error is one sentence."""

    def invoke(self, context):
        try:
            return super().invoke(context)
        except (TableError, SpillError, whole.WriteError) as error:
            raise stop(str(error), 2) from error


def _command(name):
    return click.command(name, cls=_Command, short_help=COMMANDS[name])


# ---------------------------------------------------------------------------------------------------------------- fit


@_command("fit")
@click.argument("data", type=PATH)
@options.of_columns
@options.of_text
@options.of_runs
@click.option("--save", metavar="MODEL.json", type=PATH, help="Write the model, for `predict` and Python.")
@click.option("--plot", metavar="PNG", type=PATH, help="Draw the fit and the loss at each step.")
@click.option("--report", metavar="HTML", type=PATH, help="Write one HTML file about the fit.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead.")
@click.option("--progress/--no-progress", default=True, help="A progress bar on work longer than a second (default).")
def fit(data, save, plot, report, as_json, progress, **given):
    """Fit a linear model to a column of DATA by the others.

    DATA is a table: CSV and other text with names on the first line, Parquet, Arrow, JSON lines or Excel, compressed or
    not; `-` is standard input. A target of numbers is fitted by squared error, one of two values or of text as classes
    by log loss. Text columns have a coefficient for each value but the first, named column=value. Columns may have any
    scale; no learning rate is needed.

    \b
    Examples:
      fastgd fit women.csv --target weight --save model.json
      fastgd fit penguins.csv --target species --missing drop --test-size 0.2

    Exit status: 0 if converged; 1 if --max-steps were not enough (the model reached is saved and printed all the same);
    2 on bad input.
    """
    _check_outputs(data, save, plot, report)
    if (plot or report) and streams.is_stream(data, given["memory_limit"]):
        raise TableError("--plot and --report need the table in memory: leave out --memory-limit, or take a part of it")
    task, run = options.task_and_run(data, given)
    begun = time.perf_counter()
    printing.notes(task.notes)
    fit = _descend(task, run, progress, "fun" if plot or report else False)
    seconds = time.perf_counter() - begun
    if fit.result.lost:
        printing.notes([
            "the features are collinear to within rounding error, so that other coefficients predict as well; these "
            "have the smallest norm in standardised columns"
        ])  # fmt: skip
    fit.model.fit["fastgd"] = __version__
    if save is not None:
        fit.model.save(save)
    if plot is not None:
        feature, of_number = task.encoder.encoded_names[0], task.classes is None
        printing.draw(plot, fit.objective, fit.result.x, feature, task.target, fit.result.history, of_number=of_number)
    if report is not None:
        from fastgd.cli.report import write

        write(report, task, fit)
    why_not = None if fit.converged else fit.result.message
    if fit.result.status == Status.STEP_LIMIT:
        why_not = f"took all {fit.result.nit} steps without reaching --tol {run['tol']:g}; raise --max-steps"
    show = printing.fit_as_json if as_json else printing.fit
    show(task, fit, why_not, seconds, {"saved": save, "drawn": plot, "report": report})
    if why_not:
        raise stop(f"the fit has not converged: {why_not}", 1)


def _check_outputs(data, save, plot, report=None):
    """Raise an error before any work if the results could not be written."""
    for path, option in ((save, "--save"), (plot, "--plot"), (report, "--report")):
        if path is None:
            continue
        whole.check_writable(path)
        if path.resolve() == data.resolve():
            raise TableError(f"{option} {path} would overwrite the data")
    if save is not None:
        try:
            models.known(save)
        except ValueError as error:
            raise TableError(f"--save: {error}") from None
    if report is not None:
        from fastgd.cli.report import check_extras

        check_extras()
    if plot is None:
        return
    pictures = (".png", ".pdf", ".svg", ".jpg")
    if plot.suffix.lower() not in pictures:
        raise TableError(f"the name of the picture must end in one of {', '.join(pictures)}, and is {str(plot)!r}")
    import_extra("matplotlib.figure", "plot", "--plot")


def _descend(task, run, progress, history):
    """Fit, with a progress bar if it takes longer than BAR_DELAY."""
    step = 0
    with tqdm(
        total=run["max_steps"], disable=not progress, delay=BAR_DELAY, unit=" steps", leave=False,
        bar_format="fitting: step {n_fmt} of at most {total_fmt} |{bar:20}| {elapsed}, {rate_noinv_fmt}{postfix}",
        mininterval=0.2 if sys.stderr.isatty() else 1.0, miniters=1, dynamic_ncols=True,
    ) as bar:  # fmt: skip

        def watch(result):
            nonlocal step
            step = result.nit
            if progress:
                bar.set_postfix_str(f"loss {result.fun:.6g}", refresh=False)
                bar.update()

        try:
            return fitting.fitted(task, callback=watch, history=history, **run)
        except KeyboardInterrupt:
            raise stop(f"interrupted at step {step}, nothing was written", 130) from None
        except DivergenceError as error:
            raise stop(str(error), 1) from error
        except ValueError as error:
            raise TableError(f"these numbers cannot be fitted: {error}") from error


# ------------------------------------------------------------------------------------------------------------ predict


@_command("predict")
@click.argument("model", type=PATH)
@click.argument("data", type=PATH)
@click.option("--proba", is_flag=True, help="The probability of each class instead of the label.")
@click.option(
    "--out", metavar="FILE", type=PATH, help="Write *.csv, *.parquet, *.arrow or *.jsonl instead of printing."
)
@click.option(
    "--unknown", type=click.Choice(encoding.Rules.CHOICES["unknown"]), help="Levels that the fit did not have."
)
@options.of_text
def predict(model, data, proba, out, unknown, memory_limit, **marks):
    """Predict the target for each row of DATA by MODEL, a file of `fit --save` or of an estimator's `save`.

    Prints CSV with one column, `prediction`. The columns of DATA are found by their names, where the model knows them;
    the order does not matter, and other columns, the target among them, are ignored.

    \b
    Examples:
      fastgd predict model.json new.csv
      fastgd predict model.json new.parquet --proba --out answers.parquet
    """
    if out is not None:
        whole.check_writable(out)
        if out.suffix not in writers.WRITERS:
            raise TableError(f"the name of --out must end in one of {', '.join(writers.WRITERS)}, and is {str(out)!r}")
    fitted = _load(model)
    if fitted.offset is not None and fitted.offset["column"] is None:
        raise TableError(f"{model} was fitted with an offset that no column is named for: predict(X, offset=)")
    if streams.is_stream(data, memory_limit):
        features = None if fitted.columns is None else fitted.columns.names
        if features is not None and fitted.offset is not None:
            features = [*features, fitted.offset["column"]]
        parts = streams.scan(data, (None, None, None), features, memory_limit, marks).inputs()
    else:
        parts = [tables.read(data, **marks).table]

    def blocks():
        first = 0
        for table in parts:
            where = f"{data}{f', after row {first}' if first else ''}"
            yield _predicted(fitted, model, table, where, proba, unknown, first)
            first += table.num_rows

    if out is not None:
        whole.write_whole(out, functools.partial(writers.WRITERS[out.suffix], blocks()))
        return
    for number, columns in enumerate(blocks()):
        click.echo(writers.as_csv(columns, header=not number), nl=False)


def _predicted(fitted, model, table, where, proba, unknown, first):
    """The columns of predictions for the rows of a table, of which `first` came before."""
    X = _encoded(fitted, tables.plain_text(table), where, unknown)
    offset = None if fitted.offset is None else fitting.offset_of(table, fitted.offset, where)
    try:
        found = fitted.probabilities(X, offset) if proba else fitted.predict(X, offset)[:, None]
    except ValueError as error:
        raise TableError(f"--proba: {model} holds none: {error}") from None
    if found.dtype.kind == "f" and not np.all(fine := np.isfinite(found).all(axis=1)):
        row = first + int(np.argmin(fine)) + 1
        raise TableError(f"the prediction for row {row} of {where} is beyond the range of floating point")
    names = [f"probability={label}" for label in fitted.classes.tolist()] if proba else ["prediction"]
    return dict(zip(names, found.T, strict=True))


def _load(path):
    try:
        return models.Model.load(path)
    except OSError as error:
        raise TableError(f"{path} cannot be read: {error.strerror or error}") from error
    except ValueError as error:
        raise TableError(str(error)) from error


def _encoded(model, table, where, unknown):
    """The numbers of a table, by names where the model knows them, else by position."""
    encoder, d = model.columns, model.n_features
    if encoder is None:
        names = [name for name in table.column_names if name != model.target]
        if len(names) != d:
            raise TableError(
                f"the model knows no names of columns and takes {d} by their position; {where} has {len(names)}"
            )
        encoder = encoding.Encoder.of_numbers(names)
    rules = dataclasses.replace(encoder.rules, shell=True, unknown=unknown or encoder.rules.unknown)
    return encoder.replace_rules(rules).encode(table, where)


# ------------------------------------------------------------------------------------------------------ compare, check


@_command("compare")
@click.argument("data", type=PATH)
@options.of_columns
@options.of_text
@options.of_runs
@click.option("--losses", metavar="A,B,…", help="Losses to compare.")
@click.option("--optimizers", metavar="A,B,…", help="Optimizers to compare.")
@click.option("--rates", metavar="A,B,…", help="Learning rates to compare.")
@click.option("--plot", metavar="PNG", type=PATH, help="Draw the loss of each at each step.")
def compare(data, losses, optimizers, rates, plot, **given):
    """Fit a column of DATA by several losses, optimizers or learning rates: a line for each.

    \b
    Examples:
      fastgd compare cars.csv --target mpg --losses squared_error,huber --test-size 0.2
      fastgd compare cars.csv --target mpg --optimizers gd,momentum,adam --max-steps 500 --plot runs.png
    """
    from fastgd.cli import comparing

    _check_outputs(data, None, plot)
    lists = {"losses": losses, "optimizers": optimizers, "rates": rates}
    named = {name: options.split_names(text, f"--{name}") for name, text in lists.items() if text is not None}
    if len(named) != 1:
        raise click.UsageError("what to compare is one of --losses, --optimizers and --rates")
    ((what, values),) = named.items()
    values = [options.rate(value, "--rates") for value in values] if what == "rates" else values
    if what == "rates" and given["solver"] == "auto":
        given["solver"] = "gd"
    task, run = options.task_and_run(data, given if what != "losses" else given | {"loss": values[0]})
    printing.notes(task.notes)
    found = []
    for value in values:
        if what == "losses" and found:
            task, _ = options.task_and_run(data, given | {"loss": value})
        changed = {"optimizers": {"optimizer": value}, "rates": {"lr": value}}.get(what, {})
        found.append(comparing.fitted(task, value, run | changed))
    if plot is not None:
        comparing.draw(plot, found)
    comparing.print_table(what, found)


@_command("check")
@click.argument("what", metavar="MODULE:FUNCTION")
@click.option("--at", metavar="X,Y,…", required=True, help="The point to check at.")
@click.option("--gradient", metavar="NAME", help="The gradient, of the same module; found by its name without it.")
def check(what, at, gradient):
    """Hold the gradient of a Python function of an array against differences of its values.

    MODULE is a module, or a file such as model.py. Without --gradient the function may return (value, gradient), or the
    module has FUNCTION_gradient, grad_FUNCTION, gradient or the like.

    \b
    Example:
      fastgd check model.py:loss --gradient slope --at 0.5,-1,2

    Exit status: 0 if the gradient is right, 1 if not.
    """
    from fastgd.cli import comparing

    try:
        found = comparing.check(what, gradient, at)
    except TableError:
        raise
    except Exception as error:  # of the user's own function too
        raise TableError(f"{what}: {type(error).__name__}: {error}") from error
    click.echo(repr(found))
    if not found.ok:
        raise stop(f"the gradient of {what} is not right", 1)


# -------------------------------------------------------------------------------------------------- demo, bench, info


@_command("demo")
@click.option(
    "--plot", metavar="PNG", type=PATH, default="fastgd-demo.png", show_default=True, help="Where to draw the picture."
)  # fmt: skip
def demo(plot):
    """Fit a line to 15 heights and weights, watch the loss fall, and check the gradient.

    \b
    Example:
      fastgd demo --plot fall.png
    """
    from fastgd.cli.demo import show

    no_picture = None
    try:
        _check_outputs(women_path(), None, plot)
    except ImportError as missing:  # the rest is worth seeing without it
        no_picture = str(missing)
    show(plot, no_picture)


@_command("bench")
@click.option(
    "--seconds", type=click.FloatRange(0, 3600), default=1.0, show_default=True, help="How long to time each case."
)  # fmt: skip
def bench(seconds):
    """Time some kernels on this machine, beside the same in NumPy or SciPy.

    Each time is the least of many calls in one thread. A ratio above 1 means that fastgd is faster. FASTGD_KERNELS in
    the environment chooses the build of the kernels (see `fastgd info`).

    \b
    Example:
      fastgd bench --seconds 0.2
    """
    from fastgd.cli.bench import in_one_thread

    try:
        for line in in_one_thread(seconds):
            click.echo(line)
    except KeyboardInterrupt:
        raise stop("interrupted", 130) from None
    except subprocess.CalledProcessError as error:
        raise stop(f"the measurements failed, with exit status {error.returncode}", 1) from error


@_command("info")
def info():
    """Which build of the kernels runs, and on what: for bug reports.

    \b
    Example:
      fastgd info
    """
    click.echo(repr(show_config()))
