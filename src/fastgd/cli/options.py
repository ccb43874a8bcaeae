"""The options that several commands share, and what they say."""

import csv
import functools

import click
import numpy as np

from fastgd import optimizers, schedules
from fastgd.cli import fitting, streams
from fastgd.data.encoding import Rules
from fastgd.data.tables import TableError
from fastgd.engine.plan import NAMES as SOLVERS
from fastgd.kernels.codes import ACTIVATIONS

# Schedules of a rate and a number of steps.
SCHEDULES = {
    "cosine": schedules.cosine_decay, "polynomial": schedules.polynomial_decay, "one-cycle": schedules.one_cycle,
}  # fmt: skip


def _options(*options):
    """Several options as one decorator, in this order in the help."""
    return lambda command: functools.reduce(lambda f, option: option(f), reversed(options), command)


of_text = _options(
    click.option("--separator", metavar="MARK", help="Between columns of text; found without it."),
    click.option("--decimal", metavar="MARK", help="The decimal mark of text; found without it."),
    click.option("--thousands", metavar="MARK", help="The mark between thousands in text; found without it."),
    click.option("--encoding", metavar="NAME", help="Of text, such as utf-8 or latin-1; found without it."),
    click.option("--memory-limit", metavar="SIZE", help="Read DATA in blocks, in so much memory, such as 2GB; DATA may "
                 "then be a folder or a pattern."),
)  # fmt: skip

of_columns = _options(
    click.option("--target", metavar="COLUMN", help="The column to predict."),
    click.option("--formula", metavar="'Y ~ A + C(B)'", help="The target and its terms, in place of --target."),
    click.option("--features", metavar="A,B,…", help="The columns to predict it from; all others without this option."),
    click.option("--exclude", metavar="A,B,…", help="Columns to leave out."),
    click.option("--weights", metavar="COLUMN", help="How often each row counts."),
    click.option("--offset", metavar="COLUMN", help="A known part of each row's score, added to the sum."),
    click.option("--exposure", metavar="COLUMN", help="Its logarithm is the offset: of counts, over how much time."),
    click.option("--missing", type=click.Choice(Rules.CHOICES["missing"][1:]), help="What to do with missing cells: "
                 "leave out their rows, fill in the mean, or fill and mark them."),
    click.option("--dates", type=click.Choice(Rules.CHOICES["dates"][1:]), help="Count dates in days."),
    click.option("--loss", type=click.Choice([*fitting.OF_NUMBERS, *fitting.OF_CLASSES]),
                 help="squared_error for numbers and log_loss for classes without it."),
    click.option("--activation", type=click.Choice([name for name in ACTIVATIONS if name != "softmax"]),
                 help="f in prediction = f(sum of coefficient * feature + intercept), of numbers."),
    click.option("--penalty", type=click.Choice(tuple(fitting.PENALTIES)),
                 help="none for numbers and l2 for classes without it."),
    click.option("--groups", metavar="'A,B;C,…'", help="Of the penalty group: columns that count together; each other "
                 "is a group of its own, with all its levels."),
    click.option("--alpha", type=click.FloatRange(0), default=1e-4, show_default=True,
                 help="Factor of the penalty."),
    click.option("--test-size", metavar="SHARE", type=click.FloatRange(0, 1, min_open=True, max_open=True),
                 help="The share of the rows to hold out, for a score on rows that the fit has not seen."),
)  # fmt: skip

of_runs = _options(
    click.option("--solver", type=click.Choice(SOLVERS), default="auto", show_default=True),
    click.option("--optimizer", type=click.Choice(tuple(optimizers.BY_NAME)), default="gd", show_default=True),
    click.option("--lr", metavar="RATE", help="Learning rate, a number; found without it."),
    click.option("--schedule", type=click.Choice(tuple(SCHEDULES)), help="How --lr falls over the --max-steps."),
    click.option("--batch-size", type=click.IntRange(1), help="Rows of a stochastic step."),
    click.option("--tol", type=float, default=1e-8, show_default=True, help="Relative gap to the least loss."),
    click.option("--max-steps", type=click.IntRange(1), default=10_000, show_default=True, help="Steps at most."),
    click.option("--seed", type=click.IntRange(0), default=0, show_default=True,
                 help="Of what --test-size holds out and of the order of stochastic steps."),
    click.option("--jobs", type=int, help="Threads; no result depends on them."),
)  # fmt: skip


def task_and_run(data, options):
    """The Task of the options that say what is to be fitted, and the others, as `fitting.fitted` takes them."""
    task = dict(options)
    of_run = ("penalty", "groups", "alpha", "jobs", "max_steps", "solver", "optimizer", "batch_size", "tol", "lr")
    run = {name: task.pop(name) for name in of_run} | {"seed": options["seed"]}
    if run["groups"] is not None:
        run["groups"] = [split_names(part, "--groups") for part in run["groups"].split(";")]
    if not 0 < run["tol"] < np.inf:
        raise TableError(f"--tol must be a positive number, and is {run['tol']}")
    run["lr"] = rate(options["lr"], "--lr")
    if (schedule := task.pop("schedule")) is not None:
        if options["lr"] is None:
            raise TableError("--schedule needs --lr, the rate that it begins from or rises to")
        run["lr"] = SCHEDULES[schedule](run["lr"], run["max_steps"])
    target, formula = options["target"], options["formula"]
    if (target is None) == (formula is None):
        raise click.UsageError("Missing option '--target', or '--formula': one of them")
    if formula is not None:
        from fastgd.data.formulas import sides

        target, formula = sides(formula)
    features, exclude = (split_names(options[name], f"--{name}") for name in ("features", "exclude"))
    offset, exposure = task.pop("offset"), task.pop("exposure")
    if offset is not None and exposure is not None:
        raise TableError("--offset and --exposure: give one of them, as the offset is the logarithm of the exposure")
    if offset is not None or exposure is not None:
        task["offset"] = {"column": offset or exposure, "log": exposure is not None}
    for name in (target, options["weights"], offset, exposure):
        if name is not None and name in (features or []):
            raise TableError(f"{name!r} is the target, the weights or the offset, and cannot be among --features too")
    rules = Rules(task.pop("missing"), dates=task.pop("dates"), shell=True)
    task |= {"target": target, "formula": formula, "features": features, "exclude": exclude or (), "rules": rules}
    limit = task.pop("memory_limit")
    if streams.is_stream(data, limit):
        return streams.task_of(data, **task, memory_limit=limit), run
    return fitting.task_of(data, **task), run


def rate(text, option):
    """A learning rate, "auto" without one."""
    if text is None:
        return "auto"
    try:
        number = float(text)
    except ValueError:
        number = np.nan
    if not 0 < number < np.inf:
        raise TableError(f"{option} must be a positive number, and is {text!r}")
    return number


def split_names(text, option):
    """The names in a list such as `height,"age, years"`."""
    if text is None:
        return None
    names = [name.strip() for name in next(csv.reader([text], skipinitialspace=True), [])]
    if not names or not all(names):
        raise TableError(f"{option} must be names of columns separated by commas, and is {text!r}")
    for name in names:
        if names.count(name) > 1:
            raise TableError(f"{option} names {name!r} more than once")
    return names
