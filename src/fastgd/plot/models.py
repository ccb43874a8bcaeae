"""Figures of models and their data: `fit`, `residuals`, `decision_boundary`, `coefficients` and others."""

from __future__ import annotations

import typing
import warnings

import numpy as np

from fastgd import losses, validation
from fastgd.engine.result import Result
from fastgd.errors import import_extra
from fastgd.objective import LinearObjective
from fastgd.plot.shared import COLORS, CURVE_POINTS, GREY, MARKERS, axes_for, entries, fitted, legend, style

if typing.TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike

    from fastgd.plot.shared import AxesT, Estimator, Model, Runs, Weights
    from fastgd.types import Table


class _Fit(typing.NamedTuple):
    """A model with data: features (n, d), targets and predictions (n, k), and how it predicts."""

    rows: typing.Any
    actual: np.ndarray
    predicted: np.ndarray
    predict: typing.Any
    statistics: typing.Any


def fit(
    objective: Model,
    w: Weights | Table | None = None,
    y: ArrayLike | AxesT | None = None,
    ax: AxesT | None = None,
    *,
    level: float | None = None,
    feature_name: str = "x",
    target_name: str = "y",
) -> AxesT:
    """Plot a fitted model and its data.

    With one feature: the data points and the fitted curve. With several: the predicted against the actual target,
    and the diagonal on which both are equal. Many points are drawn as their density.

    Parameters
    ----------
    objective : LinearObjective or estimator
        An objective holds the data.
    w : array_like or Result
        Weights of the objective, or the result of the run that found them. With an estimator its X, which is not
        needed where the fit has kept its data, as those without a penalty of up to 262,144 numbers do.
    y : array_like, optional
        The targets, with an estimator: ``fit(model, X, y)``. With an objective the third argument may be the Axes.
    ax : matplotlib Axes, optional
    level : float, optional
        With one feature, for the squared error without a penalty: draw the band in which the line lies with this
        confidence, and the one in which a new observation does.
    feature_name, target_name : str
        For the labels of the axes; the feature's is used only if there is one feature.

    Returns
    -------
    Axes

    Raises
    ------
    TypeError, ValueError
        `objective` is neither, w does not have its shape, or there are no such bands.
    """
    found, ax = _with_data(objective, w, y, ax)
    d = found.rows.d
    if d != 1:
        if level is not None:
            raise ValueError(f"level is for one feature, of which a band can be drawn; this model has {d}")
        ax = axes_for(ax)
        _points(ax, found.actual, found.predicted)
        both = np.concatenate([found.actual, found.predicted])
        ends = [both.min(), both.max()]
        ax.plot(ends, ends, color=COLORS[0], linestyle="--", label="predicted = actual")
        ax.set(xlabel=f"actual {target_name}", ylabel=f"predicted {target_name}", title="Predicted against actual")
        legend(ax)
        return ax
    outputs, x = found.actual.shape[1], found.rows.columns([0])[:, 0]
    margin = 0.04 * float(x.max() - x.min()) or 0.5
    along = np.linspace(x.min() - margin, x.max() + margin, CURVE_POINTS)
    curve = np.asarray(found.predict(along[:, None]), np.float64).reshape(CURVE_POINTS, -1)
    bands = None if level is None else _bands(found, along, level)
    ax = axes_for(ax)
    _points(ax, np.repeat(x[:, None], outputs, axis=1), found.actual, "data")
    for j in range(outputs):
        color = COLORS[0] if outputs == 1 else COLORS[j % len(COLORS)]
        name = f"fit, output {j}" if outputs > 1 else "fit"
        ax.plot(along, curve[:, j], color=color, linewidth=2, label=name, linestyle=style(j)["linestyle"])
    for half, share, what in bands or ():
        band = {"color": COLORS[0], "alpha": share, "linewidth": 0, "label": f"{100 * level:g} % band of {what}"}
        ax.fill_between(along, curve[:, 0] - half, curve[:, 0] + half, zorder=0.5, **band)
    ax.set(xlabel=feature_name, ylabel=target_name, title=f"{target_name} fitted by {feature_name}")
    legend(ax)
    return ax


def residuals(
    objective: Model, w: Weights | Table | None = None, y: ArrayLike | AxesT | None = None, ax: AxesT | None = None
) -> AxesT:
    """Plot actual minus predicted targets against the predicted ones.

    Parameters
    ----------
    objective, w, y, ax
        As for `fit`.

    Returns
    -------
    Axes

    Raises
    ------
    TypeError, ValueError
        As for `fit`.
    """
    found, ax = _with_data(objective, w, y, ax)
    ax = axes_for(ax)
    _points(ax, found.predicted, found.actual - found.predicted)
    ax.axhline(0, color=COLORS[0], linestyle="--", label="predicted = actual")
    ax.set(xlabel="predicted", ylabel="actual − predicted", title="Residuals")
    legend(ax)
    return ax


def decision_boundary(
    model: Model,
    X: Weights | Table,
    y: ArrayLike | None = None,
    ax: AxesT | None = None,
    *,
    feature_names: Sequence[str] = ("$x_0$", "$x_1$"),
) -> AxesT:
    """Draw the classes that a classifier of two features predicts, how sure it is of them, and its data.

    Parameters
    ----------
    model : estimator, or LinearObjective with activation "sigmoid" or "softmax"
    X, y : array_like
        The data, (n, 2) and (n,). With an objective, which holds the data, X is the weights or a Result.
    ax : matplotlib Axes, optional
    feature_names : pair of str

    Returns
    -------
    Axes
        The lines are those where the second of two classes has a probability P of 0.1, 0.5 and 0.9.

    Raises
    ------
    TypeError, ValueError
        The model is not a classifier, or has not two features.
    """
    if isinstance(model, LinearObjective):
        points, w = model.rows.dense(slice(None), np.float64), validation.weights(_of(X), "w", model.shape, model.dtype)
        y = model.Y.argmax(axis=1) if model.Y.shape[1] > 1 else model.Y[:, 0]
        classes = np.arange(model.Y.shape[1]) if model.Y.shape[1] > 1 else np.array([0, 1])
        probabilities = lambda grid: model.predict(w, grid).reshape(len(grid), -1)  # noqa: E731
    else:
        if not hasattr(fitted(model, "model"), "classes_"):
            raise TypeError(f"model must be a fitted classifier; got {validation.describe(model)}")
        points, classes = np.asarray(X, np.float64), model.classes_
        predict = getattr(model, "predict_proba", None) or (lambda grid: model.predict(grid)[:, None] == classes)
        probabilities = _quiet(predict)
    if points.ndim != 2 or points.shape[1] != 2:
        raise ValueError(f"X must have two columns for a plane to be drawn; got shape {points.shape}")
    lower, upper = points.min(axis=0), points.max(axis=0)
    margin = 0.06 * np.where(upper > lower, upper - lower, 1.0)
    x, z = (np.linspace(a, b, 200) for a, b in zip(lower - margin, upper + margin, strict=True))
    grid = np.column_stack([part.ravel() for part in np.meshgrid(x, z)])
    P = np.asarray(probabilities(grid), np.float64)
    P = np.column_stack([1 - P[:, 0], P[:, 0]]) if P.shape[1] == 1 else P
    ax = axes_for(ax)
    colors = import_extra("matplotlib.colors", "plot", "drawing")
    bases = np.array([colors.to_rgb(COLORS[i % len(COLORS)]) for i in range(P.shape[1])])
    order = np.argsort(P, axis=1)
    sure = (np.take_along_axis(P, order[:, -1:], 1) - 1 / P.shape[1]) / (1 - 1 / P.shape[1])
    ground = 1 - (1 - bases[order[:, -1]]) * (0.04 + 0.26 * sure.clip(0, 1))
    extent = (x[0], x[-1], z[0], z[-1])
    image = ground.reshape(200, 200, 3)
    ax.imshow(image, extent=extent, origin="lower", aspect="auto", interpolation="bilinear", zorder=0)
    if P.shape[1] == 2:
        lines = ax.contour(x, z, P[:, 1].reshape(200, 200), [0.1, 0.5, 0.9], colors="black", zorder=2)
        lines.set(linewidth=[0.7, 1.8, 0.7], linestyle=["--", "-", ":"])
        for share, dashes in ((0.1, "--"), (0.5, "-"), (0.9, ":")):
            ax.plot([], [], color="black", linestyle=dashes, linewidth=1.2, label=f"P = {share:g}")
    for i, name in enumerate(classes):
        mine = points[np.asarray(y) == name]
        few = len(points) <= 200
        edge = {"markeredgecolor": "white", "markeredgewidth": 0.6 if few else 0.2, "markersize": 6 if few else 4.5}
        ax.plot(
            *mine.T, ls="none", marker=MARKERS[i % len(MARKERS)], color=COLORS[i % len(COLORS)], label=str(name), **edge
        )
    ax.grid(False)
    ax.set(xlabel=feature_names[0], ylabel=feature_names[1], title="Predicted classes and probabilities")
    legend(ax)
    return ax


def confusion_matrix(model: Estimator, X: Table, y: ArrayLike, ax: AxesT | None = None) -> AxesT:
    """Draw the numbers of samples of each class and each predicted class, by scikit-learn's ConfusionMatrixDisplay.

    Parameters
    ----------
    model : fitted classifier
    X, y : array_like
    ax : matplotlib Axes, optional

    Returns
    -------
    Axes
    """
    display = import_extra("sklearn.metrics", "sklearn", "a confusion matrix").ConfusionMatrixDisplay
    ax = axes_for(ax)
    display.from_estimator(model, X, y, ax=ax, cmap="Blues")
    ax.grid(False)
    ax.set_title("Confusion matrix")
    return ax


def calibration(model: Estimator, X: Table, y: ArrayLike, ax: AxesT | None = None, *, n_bins: int = 10) -> AxesT:
    """Draw how often the positive class occurs where it is predicted with a probability, by CalibrationDisplay.

    Parameters
    ----------
    model : fitted classifier of two classes
    X, y : array_like
    ax : matplotlib Axes, optional
    n_bins : int

    Returns
    -------
    Axes
    """
    display = import_extra("sklearn.calibration", "sklearn", "a calibration curve").CalibrationDisplay
    ax = axes_for(ax)
    display.from_estimator(model, X, y, n_bins=n_bins, ax=ax, color=COLORS[1])
    ax.set_title("Calibration")
    legend(ax)
    return ax


def coefficients(
    models: Runs, ax: AxesT | None = None, *, names: Sequence[str] | None = None, level: float = 0.95
) -> AxesT:
    """Plot the coefficients of a model, or of several side by side, with confidence intervals where there are any.

    The intercept of an estimator is left out, being of another size.

    Parameters
    ----------
    models : estimator, Summary or Result, or a list or dict of them, or a sweep
    ax : matplotlib Axes, optional
    names : sequence of str, optional
        Of the coefficients.
    level : float
        Of the intervals of estimators, which `summary` gives.

    Returns
    -------
    Axes

    Raises
    ------
    TypeError, ValueError
        An entry has no coefficients, or they have different numbers of them.
    """
    found = [(label, *_coefficients(one, of, level)) for of, label, one in entries(models, "models")]
    count = len(found[0][2])
    names = found[0][1] if names is None else list(map(str, names))
    if any(len(values) != count for _, _, values, _ in found) or len(names) != count:
        raise ValueError(f"all models and names must have {count} coefficients, as the first has")
    ax = axes_for(ax)
    ax.axvline(0, color=GREY, linewidth=1)
    for i, (label, _, values, half) in enumerate(found):
        places = np.arange(count) + 0.6 * ((i + 0.5) / len(found) - 0.5)
        bars = {
            "color": COLORS[i % len(COLORS)],
            "marker": MARKERS[i % len(MARKERS)],
            "linestyle": "none",
            "capsize": 3,
        }
        ax.errorbar(values, places, xerr=half, label=label, **bars)
    ax.set_yticks(range(count), names)
    ax.invert_yaxis()
    with_intervals = any(half is not None for *_, half in found)
    ax.set(xlabel="coefficient", title="Coefficients" + f" and {100 * level:g} % intervals" * with_intervals)
    ax.set_ylabel("column")
    legend(ax)
    return ax


def _quiet(predict):
    """A method of an estimator that takes arrays in place of the frame of the fit."""

    def predicted(X):
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "X does not have valid feature names", UserWarning)
            return np.asarray(predict(X), np.float64)

    return predicted


def _of(w):
    return w.x if isinstance(w, Result) else w


def _with_data(model, w, y, ax):
    """The `_Fit` of an objective and weights, or of an estimator, X and y; and the Axes, which may stand for y."""
    if hasattr(y, "add_artist"):
        y, ax = None, y
    if isinstance(model, LinearObjective):
        ax = ax if y is None else y  # which is refused where it is none
        if w is None:
            raise TypeError("w is needed: the weights of the objective, or a Result")
        w = validation.weights(_of(w), "w", model.shape, model.dtype)
        predicted = model.predict(w).reshape(model.rows.n, -1)

        def statistics():
            import_extra("sklearn", "sklearn", "a confidence band")
            from fastgd.linear_model.summary import of_weights

            if not model.quadratic or model.l1 or model.l2:
                raise ValueError("level is for the squared error with the identity, without a penalty")
            record = losses.of("squared_error", "identity")
            data = model.rows, model.y, model.rows.weights
            half = LinearObjective.of_arrays(*data, record, fit_intercept=model.fit_intercept)
            return of_weights(half, *(part.astype(np.float64) for part in half.split(w)))

        return _Fit(model.rows, model.Y, predicted, lambda X: model.predict(w, X), statistics), ax
    if not hasattr(fitted(model, "objective"), "predict"):
        raise TypeError(f"objective must be a LinearObjective or a fitted estimator; got {validation.describe(model)}")
    if hasattr(model, "classes_"):
        raise TypeError("a classifier has no fitted curve: see decision_boundary, confusion_matrix and calibration")
    predict = _quiet(model.predict)
    kept = getattr(model, "_kept", None)
    if w is None and y is None and kept is not None and kept.offset is None:
        w, y = kept.X, kept.y
    if w is None or y is None:
        raise TypeError("with this estimator X and y are needed, as its fit has kept no data: plot.fit(model, X, y)")
    predicted = predict(w)
    predicted = predicted.reshape(len(predicted), -1)
    data = LinearObjective(w, np.asarray(y, np.float64).reshape(predicted.shape), loss="mse")
    return _Fit(data.rows, data.Y, predicted, predict, lambda: model.covariance_of(w, y)), ax


def _bands(found, along, level):
    """Half widths of the bands of the line and of a new observation, with shade and name."""
    if not 0 < validation.scalar(level, "level") < 1:
        raise ValueError(f"level must be between 0 and 1, both excluded; got {level!r}")
    covariance, noise, freedom = found.statistics()
    from scipy import stats

    A = np.column_stack([along, np.ones_like(along)])[:, : len(covariance)]
    of_line = np.einsum("ij,jk,ik->i", A, covariance, A)
    t = stats.t(freedom).ppf(0.5 + level / 2)
    halves = t * np.sqrt(of_line), t * np.sqrt(of_line + noise)
    return (halves[0], 0.3, "the fit"), (halves[1], 0.12, "an observation")


def _points(ax, x, y, name=None):
    """Dots for each output, or their density where there are many."""
    n, outputs = y.shape
    if n * outputs > 5000:  # dots would cover each other
        density = ax.hexbin(x.ravel(), y.ravel(), gridsize=80, bins="log", mincnt=1, cmap="Greys", linewidths=0.1)
        ax.figure.colorbar(density, ax=ax, label="points in a cell")
        return
    dots = {"linestyle": "none", "markersize": 6 if n <= 100 else 3, "alpha": 0.9 if n <= 100 else 0.5}
    for j in range(outputs):
        label = name if outputs == 1 else f"{name}, output {j}" if name else f"output {j}"
        color = COLORS[1] if outputs == 1 else COLORS[j % len(COLORS)]
        ax.plot(x[:, j], y[:, j], color=color, label=label, marker=MARKERS[j % len(MARKERS)], markeredgewidth=0, **dots)


def _coefficients(model, name, level):
    """(names, values, half widths of the intervals or None) of an estimator, a Summary or a Result."""
    if hasattr(model, "conf_int"):
        d = len(model.names) - (model.names[-1] == "intercept")  # which would dwarf the others
        return model.names[:d], model.coef[:d], (model.conf_int[:d, 1] - model.conf_int[:d, 0]) / 2
    if isinstance(model, Result):
        values = np.asarray(model.x, np.float64).reshape(-1)
        return [f"w[{i}]" for i in range(len(values))], values, None
    if not hasattr(fitted(model, name), "coef_"):
        raise TypeError(f"{name} must be a fitted estimator, a Summary or a Result; got {validation.describe(model)}")
    try:
        return _coefficients(model.summary(level=level), name, level)
    except (AttributeError, ValueError):  # there are no intervals: a penalty, say, or too many data to be kept
        values = np.atleast_2d(model.coef_)
        columns = getattr(model, "coef_names_", [f"x{i}" for i in range(values.shape[1])])
        several = len(values) > 1
        return [f"{c}, output {j}" if several else c for j in range(len(values)) for c in columns], values.ravel(), None
