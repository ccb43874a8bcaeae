"""What the commands print and draw."""

import sys
import warnings

import numpy as np

from fastgd.files import whole

LARGEST = 20  # coefficients that are printed of a wide table
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


def note(sentence):
    console(stderr=True).print(f"Note: {one_line(sentence)}.", style="dim")


def coefficients(fit, encoder, count=LARGEST):
    """Lines of name and coefficient, aligned at the decimal point; of many columns the largest."""
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
        names = {
            "feature_name": one_line(feature).replace("$", r"\$"),
            "target_name": one_line(target).replace("$", r"\$"),
        }
        plot.fit(objective, w, axes[0], **names)
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
