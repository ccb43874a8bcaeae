"""`fastgd fit --report`: one HTML file that needs nothing else (extra "report")."""

import datetime
import io
import shlex
import sys
import warnings
from pathlib import Path

import numpy as np

from fastgd._version import __version__
from fastgd.cli import printing
from fastgd.errors import import_extra
from fastgd.files import whole
from fastgd.files.models import outputs


def check_extras():
    """Say which extra is missing before any work."""
    import_extra("jinja2", "report", "--report")
    import_extra("matplotlib.figure", "report", "--report")


def write(path, task, fit):
    """Write the report of a fit."""
    jinja2 = import_extra("jinja2", "report", "--report")
    page = jinja2.Environment(autoescape=True).from_string(Path(__file__).with_name("report.jinja").read_text("utf-8"))
    shown = {printing.SCORES[name]: value for name, value in fit.scores.items()}
    shown |= {f"{printing.SCORES[name]}, held out": value for name, value in (fit.held_scores or {}).items()}
    rows, note = _coefficients(task, fit)
    html = page.render(
        task=task, fit=fit, rows=rows, note=note, scores=shown, version=__version__,
        columns=_columns(task), classes=None if task.classes is None else [str(c) for c in task.classes.tolist()],
        pictures=[(title, _svg(draw, *arguments)) for title, draw, *arguments in _pictures(task, fit)],
        command="fastgd " + shlex.join(sys.argv[1:]), now=f"{datetime.datetime.now():%Y-%m-%d %H:%M}",
    )  # fmt: skip
    whole.write_whole(path, html.encode())


def _columns(task):
    """(name, kind, what is in it) of each column of the table."""
    for column in task.encoder.columns:
        what = ", ".join(column.levels[:8]) + (f" and {len(column.levels) - 8} more" if len(column.levels) > 8 else "")
        if not column.levels:
            values = task.fit.X[:, task.encoder.encoded_names.index(column.name)]
            what = f"{values.min():.6g} to {values.max():.6g}, mean {values.mean():.6g}"
        yield printing.one_line(column.name), column.kind, what


def _coefficients(task, fit):
    """Rows of (name, coefficients, with standard error and interval where there are some), and why there are none."""
    coef, b = np.atleast_2d(fit.model.arrays["coef_"]), fit.model.arrays["intercept_"]
    names = [*map(printing.one_line, task.encoder.encoded_names), "intercept"]
    table = np.column_stack([coef, b]).T
    cells = [[f"{value:.6g}" for value in row] for row in table]
    summary, why = _summary(fit, names, table)
    if summary is not None:
        for row, error, (low, high) in zip(cells, summary.std_err, summary.conf_int, strict=True):
            row += [f"{error:.4g}", f"{low:.6g} to {high:.6g}"]
    return [(name, row) for name, row in zip(names, cells, strict=True)], why


def _summary(fit, names, table):
    """(Summary, "") of a fit that has standard errors, else (None, why not)."""
    if fit.objective.l1 or fit.objective.l2:
        return None, "A fit with a penalty has no standard errors."
    try:
        from fastgd.linear_model.summary import Summary

        record = fit.objective.record
        is_likelihood = record.loss.likelihood and record.activation == record.loss.link
        if not is_likelihood or table.shape[1] != 1 or not fit.objective.fit_intercept:
            return None, "Standard errors are for the squared error, the log loss of two classes and counts."
        return Summary(fit.objective, table[:-1], table[-1], names[:-1], 0.95), ""
    except (ImportError, ValueError) as error:
        return None, f"There are no standard errors: {error}."


def _pictures(task, fit):
    from fastgd import plot

    rows, of = (task.fit, "the rows of the fit") if task.held is None else (task.held, "held-out rows")
    h = fit.model.scores(rows.X, rows.offset)
    if task.classes is None:
        found = outputs(h, task.activation)
        yield f"Residuals of {of}", _residuals, found, rows.y - found
    elif task.activation != "identity":
        p = fit.model.probabilities(rows.X, rows.offset)
        yes = rows.y[:, None] == np.arange(len(task.classes))
        yield f"Calibration on {of}", _calibration, p.ravel(), yes.ravel()
    yield "Loss at each step", lambda ax: plot.loss(fit.result.history, ax).set_title("")


def _residuals(ax, predicted, residual):
    few = np.random.default_rng(0).permutation(len(predicted))[:2000]
    ax.plot(predicted[few], residual[few], ".", alpha=0.6)
    ax.axhline(0, color="black", linewidth=0.8)
    ax.set(xlabel="predicted", ylabel="residual")


def _calibration(ax, p, yes):
    """The share of rows of a class against its predicted probability, in ten bins."""
    bins = np.minimum((p * 10).astype(int), 9)
    counts = np.bincount(bins, minlength=10)
    with np.errstate(invalid="ignore"):
        ax.plot(np.bincount(bins, p, 10) / counts, np.bincount(bins, yes, 10) / counts, "o-")
    ax.plot([0, 1], [0, 1], color="black", linewidth=0.8)
    ax.set(xlabel="predicted probability", ylabel="share of rows")


def _svg(draw, *arguments):
    """A picture as an SVG element."""
    from markupsafe import Markup
    from matplotlib.figure import Figure

    figure, out = Figure(figsize=(5.4, 3.4), layout="constrained"), io.BytesIO()
    draw(figure.subplots(), *arguments)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        figure.savefig(out, format="svg", metadata={"Date": None})
    text = out.getvalue().decode()
    return Markup(text[text.index("<svg") :])  # matplotlib's own, with labels of ours
