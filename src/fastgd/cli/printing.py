"""What the commands print and draw."""

import json
import sys
import warnings

import numpy as np

from fastgd._version import __version__
from fastgd.files import whole

SCORES = {"r2": "R²", "mean_squared_error": "mean squared error", "accuracy": "accuracy", "log_loss": "log loss"}
LONG_RUN = 101  # points; the axis of a longer run's loss is logarithmic


def console(stderr=False):
    """Where to print: colours on a terminal only, and not where NO_COLOR is set."""
    from rich.console import Console

    file = sys.stderr if stderr else sys.stdout
    made = Console(file=file, highlight=False, markup=False, emoji=False, soft_wrap=True)
    made.on_broken_pipe = _broken_pipe  # its own ends with status 1
    return made


def _broken_pipe():
    raise BrokenPipeError


def one_line(name):
    """A name as it is printed; it may hold line breaks and control characters."""
    return "".join(c if c.isprintable() else " " for c in " ".join(str(name).split()))


def notes(sentences):
    for sentence in sentences:
        console(stderr=True).print(f"Note: {one_line(sentence)}.", style="dim")


def fit(task, fit, why_not, seconds, written):
    """Coefficients and a summary of a fit; `written` are the files by what was done to them."""
    out = console()
    for line in coefficients(fit, task.encoder):
        out.print(line)
    rows = {
        "rows": f"{len(task.fit.X)} ({task.where})", "target": f"{task.target}: {task.words}",
        "fit": score_words(fit.scores),
        "held out": fit.held_scores and f"{score_words(fit.held_scores)} ({len(task.held.X)} rows)",
        "steps": str(fit.result.nit),
        "stopped": f"NOT CONVERGED: {why_not}" if why_not else f"converged: {fit.result.message}",
        "time": f"{seconds:.3g} s", **written,
    }  # fmt: skip
    out.print()
    for name, text in rows.items():
        if text is not None:
            style = "bold red" if name == "stopped" and why_not else None
            out.print(f"{name:<8}  {one_line(text)}", style=style)


def fit_as_json(task, fit, why_not, seconds, written):
    """The same as one JSON object."""
    coef, intercept = np.atleast_2d(fit.model.arrays["coef_"]), fit.model.arrays["intercept_"].tolist()
    coef = [dict(zip(task.encoder.encoded_names, row, strict=True)) for row in coef.tolist()]
    classes = None if task.classes is None else task.classes.tolist()
    if len(coef) == 1:
        coef, intercept = coef[0], intercept[0]
    else:
        coef, intercept = (dict(zip(map(str, classes), values, strict=True)) for values in (coef, intercept))
    content = {
        "data": task.where, "target": task.target, "loss_name": task.loss, "activation": task.activation,
        "classes": classes, "coefficients": coef, "intercept": intercept,
        "rows": len(task.fit.X), "loss": fit.result.fun, "fit": fit.scores, "held_out": fit.held_scores,
        "steps": fit.result.nit, "converged": fit.converged, "message": fit.result.message, "notes": task.notes,
        "seconds": seconds, **{name: path and str(path) for name, path in written.items()}, "fastgd": __version__,
    }  # fmt: skip
    print(json.dumps(content, ensure_ascii=False, allow_nan=False))


def coefficients(fit, encoder, count=20):
    """Lines of name and coefficient, aligned at the decimal point; of many columns the `count` largest."""
    coef, intercept = np.atleast_2d(fit.model.arrays["coef_"]), fit.model.arrays["intercept_"]
    spread = fit.objective.rows.dense(slice(None), np.float64).std(axis=0)
    several = len(coef) > 1
    labels = [f"{one_line(label)}: " for label in fit.model.classes.tolist()] if several else [""]
    names, found = encoder.encoded_names, []
    for label, row in zip(labels, coef, strict=True):
        found += [(abs(c) * s, label + one_line(name), c) for name, c, s in zip(names, row, spread, strict=True)]
    shown = found
    if len(found) > count:
        least = sorted((size for size, *_ in found), reverse=True)[count - 1]
        shown = [entry for entry in found if entry[0] >= least][:count]
    rows = [entry[1:] for entry in shown]
    rows += [(label + "intercept", b) for label, b in zip(labels, intercept.tolist(), strict=True)]
    numbers = [f"{value:.10g}" for _, value in rows]
    before = [len(number.partition(".")[0].partition("e")[0]) for number in numbers]
    width, left = max(len(name) for name, _ in rows), max(before)
    lines = [
        f"{name:<{width}}  {' ' * (left - digits)}{number}"
        for (name, _), number, digits in zip(rows, numbers, before, strict=True)
    ]
    if len(shown) < len(found):
        lines.append(f"({len(shown)} of {len(found)} coefficients, the largest by column spread; --save has all)")
    return lines


def score_words(scores):
    """Scores of a fit in one line."""
    undefined = {"r2": "undefined (the target is constant)", "log_loss": "infinite"}
    return ", ".join(f"{SCORES[k]} {undefined[k] if v is None else f'{v:.10g}'}" for k, v in scores.items())


def draw(path, objective, w, feature, target, history, *, loss_title=None, of_number=True):
    """The fit, where it is of a number, beside the loss, as a picture file."""
    # matplotlib is slow to import, and only needed here.
    from matplotlib.figure import Figure

    from fastgd import plot

    figure = Figure(figsize=(11 if of_number else 5.5, 4.4), layout="constrained")
    axes = figure.subplots(1, 1 + of_number, squeeze=False)[0]
    if of_number:
        # Between dollar signs matplotlib would read mathematics.
        feature, target = (one_line(name).replace("$", r"\$") for name in (feature, target))
        plot.fit(objective, w, axes[0], feature_name=feature, target_name=target)
    right = axes[-1]
    plot.loss(history, right)
    right.set_ylabel("loss")
    if loss_title:
        right.set_title(loss_title)
    if len(history.fun) > LONG_RUN:  # nearly all of the fall is in the first few steps
        right.set_xscale("symlog", linthresh=1)
        right.set_xlim(left=0)  # its margin would be a decade of negative steps
        right.set_xlabel("step (logarithmic from 1 on)")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # a name has a letter that the font lacks
        whole.write_whole(path, lambda file: figure.savefig(file, format=path.suffix[1:].lower(), dpi=150))
