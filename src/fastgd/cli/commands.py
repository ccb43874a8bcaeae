"""The command line: fit, predict, demo, bench, info.

Exit status 0: done; 1: a fit did not converge, or a part of the installation is missing; 2: bad input, with one
sentence on standard error; 130: interrupted.
"""

import array
import csv
import subprocess
import sys
import time
import warnings
from pathlib import Path

import click
import numpy as np
from tqdm import tqdm

from fastgd._version import __version__
from fastgd.cli.tables import InputError, NotANumber, read_columns
from fastgd.datasets import load_women, women_path
from fastgd.derivatives.gradient import numerical_gradient
from fastgd.descent.single import gradient_descent
from fastgd.engine.result import History, Status
from fastgd.errors import DivergenceError, import_extra
from fastgd.files import models, whole
from fastgd.kernels.codes import ACTIVATIONS
from fastgd.kernels.config import show_config
from fastgd.objective import LinearObjective

BAR_DELAY = 1.0  # seconds; shorter work needs no bar
BAR_FORMAT = "{desc}: step {n_fmt} of at most {total_fmt} |{bar:20}| {elapsed}, {rate_noinv_fmt}{postfix}"
LONG_RUN = 101  # points; the axis of a longer run's loss is logarithmic
PICTURES = (".png", ".pdf", ".svg", ".jpg")
# What an activation can reach; the identity reaches everything.
RANGES = {"sigmoid": (0.0, 1.0), "tanh": (-1.0, 1.0)}


class _CommandLine(click.Group):
    """A group of commands whose errors are one sentence."""

    def main(self, *args, **extra):
        for stream in (sys.stdout, sys.stderr):
            if hasattr(stream, "reconfigure"):  # a console that lacks a letter still shows the rest
                stream.reconfigure(errors="backslashreplace")
        extra["standalone_mode"] = False
        try:
            sys.exit(super().main(*args, **extra) or 0)
        except click.Abort:
            _fail("interrupted", 130)
        except click.UsageError as error:
            command = error.ctx.command_path if error.ctx else "fastgd"
            _fail(f"{error.format_message().rstrip('.')} (see '{command} --help')", 2)
        except click.ClickException as error:
            _fail(error.format_message(), error.exit_code)
        except (InputError, whole.WriteError) as error:
            _fail(str(error), 2)
        except OSError as error:
            _fail(f"the output cannot be written: {error.strerror or error}", 1)


def _fail(sentence, status):
    click.echo(f"Error: {' '.join(sentence.split())}", err=True)
    sys.exit(status)


def _stop(sentence, status):
    """An exception that ends the command with a sentence and an exit status."""
    error = click.ClickException(sentence)
    error.exit_code = status
    return error


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


# ---------------------------------------------------------------------------------------------------------------- fit


@cli.command(short_help="Fit a model to a CSV file.")
@click.argument("data", type=click.Path(path_type=Path))
@click.option("--target", metavar="COLUMN", required=True, help="The column to predict.")
@click.option("--features", metavar="A,B,…", help="The columns to predict it from; all others without this option.")
@click.option(
    "--activation", type=click.Choice(tuple(ACTIVATIONS)), default="identity", show_default=True,
    help="f in prediction = f(sum of coefficient * feature + intercept).",
)  # fmt: skip
@click.option("--tol", type=float, default=1e-12, show_default=True, help="Relative gap to the least loss to stop at.")
@click.option("--max-steps", type=click.IntRange(1), default=1_000_000, show_default=True, help="Steps at most.")
@click.option("--save", metavar="MODEL.json", type=click.Path(path_type=Path), help="Write the model, for `predict`.")
@click.option("--plot", metavar="PNG", type=click.Path(path_type=Path), help="Draw the fit and the loss at each step.")
@click.option("--progress/--no-progress", default=True, help="A progress bar on work longer than a second (default).")
def fit(data, target, features, activation, tol, max_steps, save, plot, progress):
    """Fit a linear or one-layer model to the columns of DATA, a CSV file.

    Minimises the mean squared error by gradient descent until it is within --tol of the least that is possible. Columns
    may have any scale; no learning rate is needed.

    The first line of DATA holds the names of the columns, which are separated by commas, semicolons or tabs.

    Exit status: 0 if converged; 1 if --max-steps were not enough (the model reached is printed, saved and drawn all the
    same); 2 on bad input.
    """
    wanted = None if features is None else _split_names(features, target)
    if not 0 < tol < np.inf:
        raise InputError(f"--tol must be a positive number, and is {tol}")
    _check_outputs(data, save, plot)
    started = time.perf_counter()
    try:
        table = read_columns(data, lambda names: [*_features(names, target, wanted, data), target])
    except NotANumber as error:
        if wanted is not None or error.column == target or error.hint:
            raise
        raise InputError(f"{error} (--features chooses the columns to fit from)") from error
    names = table.names[:-1]
    X, y = np.ascontiguousarray(table.values[:, :-1]), table.values[:, -1].copy()
    if len(y) < 2:
        raise InputError(f"{data} has a single row of data, and a fit needs at least two")
    read = time.perf_counter()
    for name, column in zip(table.names, table.values.T, strict=True):
        _check_magnitude(column, f"{data}, column {name!r}")
    _remark_on(X, y, names, target, activation)
    objective, result, losses = _descend(X, y, activation, tol, max_steps, progress, keep_losses=plot is not None)
    seconds = time.perf_counter() - read
    if result.lost:
        click.echo(
            "Note: the features are collinear to within rounding error, so that other coefficients predict as well; "
            "these have the smallest norm in standardised columns.", err=True,
        )  # fmt: skip

    converged = result.status == Status.CONVERGED
    r2 = _r_squared(objective, result)
    _print_coefficients(names, result.x)
    formula = "" if activation == "identity" else f" = {activation}(sum of coefficient * feature + intercept)"
    click.echo()
    _print_row("rows", f"{len(y)} ({data})")
    _print_row("target", f"{target}{formula}")
    _print_row("loss", f"{result.fun:.10g} (mean squared error)")
    _print_row("R²", "undefined: the target is constant" if r2 is None else f"{r2:.10g}")
    _print_row("steps", result.nit)
    _print_row("stopped", f"converged: {result.message}" if converged else f"NOT CONVERGED: {_why_not(result, tol)}")
    _print_row("time", f"{seconds:.3g} s, after {read - started:.3g} s of reading")
    if save is not None:
        model = models.Model(target, names, activation, result.x[:-1].tolist(), float(result.x[-1]))
        facts = {"rows": len(y), "mean_squared_error": result.fun, "r_squared": r2, "steps": result.nit}
        models.save_model(save, model, {**facts, "converged": converged, "tol": tol, "fastgd": __version__})
        _print_row("saved", save)
    if plot is not None:
        _draw(plot, objective, result.x, names[0], target, History(fun=np.array(losses)))
        _print_row("drawn", plot)
    if not converged:
        raise _stop(f"the fit has not converged: {_why_not(result, tol)}", 1)


def _split_names(features, target):
    """The names in a list such as `height,"age, years"`."""
    names = [name.strip() for name in next(csv.reader([features], skipinitialspace=True), [])]
    if not names or not all(names):
        raise InputError(f"--features must be names of columns separated by commas, and is {features!r}")
    for name in names:
        if names.count(name) > 1:
            raise InputError(f"--features names {name!r} more than once")
    if target in names:
        raise InputError(f"{target!r} is the target and cannot be among --features too")
    return names


def _features(names, target, wanted, data):
    if wanted is not None:
        return wanted
    others = [name for name in names if name != target]
    if not others and target in names:
        raise InputError(f"{data} has no column besides the target {target!r} to fit it from")
    return others


def _check_outputs(data, save, plot):
    """All that could keep the results from being written, found out before the work."""
    for path, option in ((save, "--save"), (plot, "--plot")):
        if path is None:
            continue
        whole.check_writable(path)
        if path.resolve() == data.resolve():
            raise InputError(f"{option} {path} would overwrite the data")
    if plot is None:
        return
    if save is not None and save.resolve() == plot.resolve():
        raise InputError(f"--save and --plot are the same file, {plot}")
    if plot.suffix.lower() not in PICTURES:
        raise InputError(f"the name of the picture must end in one of {', '.join(PICTURES)}, and is {str(plot)!r}")
    try:
        import_extra("matplotlib.figure", "plot", "--plot")
    except ImportError as error:
        raise _stop(str(error), 1) from error


def _check_magnitude(column, where):
    """Refuse numbers whose squares leave the range of floating point."""
    with np.errstate(all="ignore"):
        total, spread = np.sum(column**2), np.sum((column - column.mean()) ** 2)
    if not np.isfinite(total):
        raise InputError(f"{where} has numbers up to {abs(column).max():g}, too large to be squared")
    if spread < np.finfo(float).tiny and column.min() < column.max():
        raise InputError(f"{where} has numbers that differ by too little to be squared")


def _remark_on(X, y, names, target, activation):
    """Say on standard error what can be fitted but hardly is what was meant."""
    for name, column in zip(names, X.T, strict=True):
        if column.min() == column.max():
            click.echo(f"Note: {name} is constant, so its coefficient stays 0.", err=True)
    low, high = RANGES.get(activation, (-np.inf, np.inf))
    if y.min() < low or y.max() > high:
        click.echo(
            f"Note: {target} goes from {y.min():g} to {y.max():g}, and a {activation} only from {low:g} to {high:g}.",
            err=True,
        )


def _descend(X, y, activation, tol, max_steps, progress, keep_losses):
    """The objective, the result, and the loss of every step where they are to be kept."""
    step = 0
    losses = array.array("d")  # a history would hold the weights of every step too
    with tqdm(
        total=max_steps, disable=not progress, delay=BAR_DELAY, desc="fitting", bar_format=BAR_FORMAT, unit=" steps",
        leave=False, mininterval=0.2 if sys.stderr.isatty() else 1.0, miniters=1, dynamic_ncols=True,
    ) as bar:  # fmt: skip

        def watch(result):
            nonlocal step
            step = result.nit
            if keep_losses:
                losses.append(result.fun)
            if progress:
                bar.set_postfix_str(f"loss {result.fun:.6g}", refresh=False)
                bar.update()

        try:
            objective = LinearObjective(X, y, activation=activation, loss="mse", fit_intercept=True)
            # At zero weights the slope of relu is 0 in every row: no step would be taken.
            start = objective.join(*objective.best_constant()) if activation == "relu" else np.zeros(objective.shape)
            if keep_losses:
                losses.append(objective.value(start))
            result = gradient_descent(objective, start, lr="auto", step_num=max_steps, tol=tol, callback=watch)
        except KeyboardInterrupt:
            raise _stop(f"interrupted at step {step}, nothing was written", 130) from None
        except DivergenceError as error:
            raise _stop(str(error), 1) from error
        except ValueError as error:
            raise InputError(f"these numbers cannot be fitted: {error}") from error
    if keep_losses and len(losses) <= result.nit:  # the step that converges is not called back for
        losses.append(result.fun)
    return objective, result, losses


def _r_squared(objective, result):
    """1 − Σ(y − ŷ)²/Σ(y − ȳ)², or None for a constant target."""
    y = objective.y
    if y.min() == y.max():
        return None
    return float(1 - result.fun / np.mean((y - y.mean()) ** 2))


def _why_not(result, tol):
    if result.status == Status.STEP_LIMIT:
        return f"took all {result.nit} steps without reaching --tol {tol:g}; raise --max-steps"
    return result.message


# ------------------------------------------------------------------------------------------------------------ predict


@cli.command(short_help="Predict by a saved model.")
@click.argument("model", type=click.Path(path_type=Path))
@click.argument("data", type=click.Path(path_type=Path))
def predict(model, data):
    """Predict the target for each row of DATA by MODEL, a file that `fit --save` wrote.

    Prints CSV with one column, `prediction`. The columns of DATA are found by their names; the order does not matter,
    and other columns, the target among them, are ignored.
    """
    fitted = _load(model)
    table = read_columns(data, lambda names: fitted.features)
    predictions = fitted.predict(table.values)
    bad = np.flatnonzero(~np.isfinite(predictions))
    if bad.size:
        raise InputError(f"the prediction for row {bad[0] + 1} of {data} is beyond the range of floating point")
    click.echo("\n".join(["prediction", *map(repr, predictions.tolist())]))


def _load(path):
    try:
        return models.load_model(path)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}") from error
    except ValueError as error:
        raise InputError(str(error)) from error


# -------------------------------------------------------------------------------------------------- demo, bench, info


@cli.command(short_help="See it work on a small table.")
@click.option(
    "--plot", metavar="PNG", type=click.Path(path_type=Path), default="fastgd-demo.png", show_default=True,
    help="Where to draw the picture.",
)  # fmt: skip
def demo(plot):
    """Fit a line to 15 heights and weights, watch the loss fall, and check the gradient."""
    try:
        _check_outputs(women_path(), None, plot)
        no_picture = None
    except click.ClickException as missing:  # the rest is worth seeing without it
        no_picture = missing.format_message()
    X, y = load_women()
    objective, result, _ = _descend(X, y, "identity", 1e-12, 1000, progress=False, keep_losses=False)
    click.echo(
        f"1. A line through {len(y)} heights (inches) and average weights (pounds) of American women\n\n"
        f"   weight = {_line(*result.x)}\n\n"
        f"   Mean squared error {result.fun:.10g}, R² {_r_squared(objective, result):.6g}. No learning rate was\n"
        "   given: inside, the heights are centred and scaled, and then a line takes\n"
        f"   {_count(result.nit, 'step')}. The same from the shell:\n\n"
        f"   fastgd fit {women_path()} --target weight\n"
    )
    # That is over too soon to be watched, so here is the textbook's descent.
    mean, spread, rate, steps = X.mean(), X.std(), 0.1, 100
    textbook = LinearObjective((X - mean) / spread, y, loss="mse", fit_intercept=True)
    by_formula = gradient_descent(textbook, lr=rate, step_num=steps, history=True)
    click.echo(
        f"2. The loss falling step by step, at a fixed rate of {rate:g}\n\n"
        f"   Now the heights are standardised by hand, z = (height - {mean:g}) / {spread:.4f}, and a and b in\n"
        "   weight = a*z + b start at zero. The last column is the same line for heights in inches.\n\n"
        f"   step            loss  weight ="
    )
    for step in (0, 1, 2, 3, 5, 10, 20, 50, 100):
        a, b = by_formula.history.x[step]
        click.echo(f"   {step:4}  {by_formula.history.fun[step]:14.8f}  {_line(a / spread, b - a * mean / spread)}")
    if no_picture:
        click.echo(f"\n   No picture: {no_picture}\n")
    else:
        title = f"Loss at each step, rate {rate:g}, standardised heights"
        _draw(plot, objective, result.x, "height", "weight", by_formula.history, title)
        click.echo(f"\n   The line and the falling loss are drawn in {plot.resolve()}\n")

    by_differences = gradient_descent(textbook.value, np.zeros(2), lr=rate, step_num=steps, history=True)
    click.echo(
        "3. The same descent by numerical gradient\n\n"
        "   Each step follows the gradient, dL/da and dL/db: how fast the loss L changes with a and with b. Above, a\n"
        "   formula gave it. A numerical gradient needs only the loss: it moves each weight a little up and down and\n"
        "   looks how much L changes. At points of the path above both find the same:\n\n"
        "              by formula                      numerical\n"
        "   step          dL/da          dL/db          dL/da          dL/db"
    )
    for step in (0, 1, 10, 50):
        w = by_formula.history.x[step]
        _print_pairs(step, textbook.gradient(w), numerical_gradient(textbook.value, w))
    click.echo(
        "\n   And from the same start, at the same rate, it goes down the same path:\n\n"
        "              by formula                      numerical\n"
        "   step              a              b              a              b"
    )
    for step in (0, 1, 2, 10, 50, 100):
        _print_pairs(step, by_formula.history.x[step], by_differences.history.x[step])
    apart = float(np.abs(by_formula.history.x - by_differences.history.x).max())
    click.echo(f"\n   Over all {steps} steps the two paths are nowhere more than {apart:.1e} apart.")


@cli.command(short_help="Time it on this machine, beside NumPy and SciPy.")
@click.option(
    "--seconds", type=click.FloatRange(0, 3600), default=1.0, show_default=True, help="How long to time each case."
)  # fmt: skip
def bench(seconds):
    """Time some kernels on this machine, beside the same in NumPy or SciPy.

    Each time is the least of many calls in one thread. A ratio above 1 means that fastgd is faster. FASTGD_KERNELS in
    the environment chooses the build of the kernels (see `fastgd info`).
    """
    from fastgd.cli.bench import in_one_thread

    try:
        for line in in_one_thread(seconds):
            click.echo(line)
    except KeyboardInterrupt:
        raise _stop("interrupted", 130) from None
    except subprocess.CalledProcessError as error:
        raise _stop(f"the measurements failed, with exit status {error.returncode}", 1) from error


@cli.command(short_help="Which build of the kernels runs.")
def info():
    """Which build of the kernels runs, and on what: for bug reports."""
    click.echo(repr(show_config()))


# ------------------------------------------------------------------------------------------------- printing, drawing


def _print_coefficients(names, w):
    """Name and coefficient on each line, aligned at the decimal point."""
    numbers = [f"{value:.10g}" for value in w]
    before = [len(number.partition(".")[0].partition("e")[0]) for number in numbers]
    names = [*names, "intercept"]
    width, left = max(map(len, names)), max(before)
    for name, number, digits in zip(names, numbers, before, strict=True):
        click.echo(f"{name:<{width}}  {' ' * (left - digits)}{number}")


def _print_row(name, text):
    click.echo(f"{name:<7}  {text}")


def _line(slope, intercept):
    return f"{slope:.8f} * height {'-' if intercept < 0 else '+'} {abs(intercept):.8f}"


def _print_pairs(step, first, second):
    click.echo(f"   {step:4}" + "".join(f" {value:14.7f}" for value in (*first, *second)))


def _count(number, what):
    return f"{number} {what}{'s' * (number != 1)}"


def _draw(path, objective, w, feature, target, history, loss_title=None):
    """The fit beside the loss, as a picture file."""
    # matplotlib is slow to import, and only needed here.
    from matplotlib.figure import Figure

    from fastgd import plot

    figure = Figure(figsize=(11, 4.4), layout="constrained")
    left, right = figure.subplots(1, 2)
    # Between dollar signs matplotlib would read mathematics.
    names = {"feature_name": feature.replace("$", r"\$"), "target_name": target.replace("$", r"\$")}
    plot.fit(objective, w, left, **names)
    plot.loss(history, right)
    right.set_ylabel("mean squared error")
    if loss_title:
        right.set_title(loss_title)
    if len(history.fun) > LONG_RUN:  # nearly all of the fall is in the first few steps
        right.set_xscale("symlog", linthresh=1)
        right.set_xlim(left=0)  # its margin would be a decade of negative steps
        right.set_xlabel("step (logarithmic from 1 on)")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # a name has a letter that the font lacks
        whole.write_whole(path, lambda file: figure.savefig(file, format=path.suffix[1:].lower(), dpi=150))
