"""From a table to a fitted model, for the commands `fit` and `compare`; without scikit-learn."""

import dataclasses
import math

import numpy as np

from fastgd import losses
from fastgd.data import cells as columns
from fastgd.data import encoding, tables
from fastgd.data.tables import TableError
from fastgd.descent.single import gradient_descent
from fastgd.engine.result import Status
from fastgd.files.models import Model, chosen, outputs, probabilities
from fastgd.objective import LinearObjective

OF_NUMBERS, OF_CLASSES = losses.names("regression"), losses.names("classification")
PENALTIES = {"none": (0.0, 0.0), "l2": (0.0, 1.0), "l1": (1.0, 0.0), "elasticnet": (0.15, 0.85), "group": (1.0, 0.0)}


@dataclasses.dataclass
class Rows:
    """Encoded columns, targets as the objective takes them, and weights or None."""

    X: np.ndarray
    y: np.ndarray
    weights: np.ndarray | None
    offset: np.ndarray | None = None


@dataclasses.dataclass
class Task:
    """What is to be fitted: the rows, and how their target is taken.

    Attributes
    ----------
    where, target, loss, activation : str
    classes : ndarray or None
    encoder : Encoder
    fit, held : Rows
        held is None without a held-out part.
    notes : list of str
    """

    where: str
    target: str
    loss: str
    activation: str
    classes: np.ndarray | None
    encoder: encoding.Encoder
    fit: Rows
    held: Rows | None
    notes: list
    offset: dict | None = None  # {"column": name, "log": whether that is the exposure}

    @property
    def words(self):
        """The task in words, for the printed summary."""
        loss = self.loss.replace("_", " ")
        if self.classes is None:
            how = "" if self.activation in ("identity", "exp") else f" by a {self.activation}"
            return f"a number{how}, by {loss}"
        labels = [str(label) for label in self.classes[:6].tolist()] + ["…"] * (len(self.classes) > 6)
        return f"{len(self.classes)} classes ({', '.join(labels)}), by {loss}"


def task_of(
    data, target, *, formula=None, features=None, exclude=(), weights=None, offset=None, loss=None, activation=None,
    rules, test_size=None, seed=0, **marks,
):  # fmt: skip
    """Read a table, and choose the loss and the encoding of the target.

    Raises
    ------
    TableError
        The table cannot be read, or columns cannot be used.
    """
    table, notes = tables.read(data, **marks)
    where = "standard input" if str(data) == "-" else str(data)
    also = [target, *([] if weights is None else [weights]), *([] if offset is None else [offset["column"]])]
    tables.check_names(table, also, where)
    tables.check_names(table, [*(features or []), *exclude], where, once=False)
    names = [n for n in (features or dict.fromkeys(table.column_names)) if n not in (*also, *exclude)]
    if formula is not None:
        from fastgd.data import formulas

        names = formulas.needed(formula, names)
    elif features is None and table.column_names[0] == tables.INDEX and tables.INDEX in names:
        names.remove(tables.INDEX)
        notes += [f"the first column has no name and is left out (--features {tables.INDEX} takes it)"] if names else []
    if not names:
        way = f": add --features {tables.INDEX}" if tables.INDEX in table.column_names else ""
        raise TableError(f"{where} has no column with a name besides {encoding.listed(also)} to fit from{way}")
    kind, why = columns.kind_of(table.column(target))
    if why or kind == "date":
        raise TableError(f"{where}: the target {target!r} {why or 'holds dates, and must hold numbers or classes'}")
    encoding.check(table, names, rules, where, also)
    if rules.missing:
        kept = columns.complete(table, also + (names if rules.missing == "drop" else []))
        if not kept.all():
            notes.append(f"{len(kept) - kept.sum()} of {len(kept)} rows are left out: cells are missing there")
            table = table.filter(kept)
    if table.num_rows < 2:
        raise TableError(
            f"{where} has {'a single' if table.num_rows else 'no whole'} row of data, and a fit needs at least two"
        )
    y, classes, loss, activation = target_of(table.column(target), target, loss, activation, where, rules, notes)
    s = None if weights is None else _weights(table.column(weights), weights, where)
    o = None if offset is None else offset_of(table, offset, where)
    held = None if test_size is None else held_out(table.num_rows, test_size, seed)
    learnt = table if held is None else table.filter(~held)
    if formula is None:
        encoder = encoding.Encoder.of(learnt, names, rules, where)
    else:
        encoder = formulas.Formula.of(formula, learnt, rules, where)
    X = encoder.encode(learnt, where)
    for name, column in [*zip(encoder.encoded_names, X.T, strict=True), *([(target, y)] if classes is None else [])]:
        _check_magnitude(column, f"{where}, column {name!r}")
    notes += encoder.notes(len(X))
    constant = [name for name, c in zip(encoder.encoded_names, X.T, strict=True) if c.min() == c.max()]
    constant += [column.name for column in encoder.columns if len(column.levels) == 1]
    if constant:
        notes.append(f"constant, so that the coefficient stays 0: {encoding.listed(constant)}")
    task = Task(where, target, loss, activation, classes, encoder, None, None, notes, offset)
    kept = slice(None) if held is None else ~held
    task.fit = Rows(X, *(None if part is None else part[kept] for part in (y, s, o)))
    if held is not None:
        others = encoder.replace_rules(dataclasses.replace(rules, unknown="zeros"))
        X = others.encode(table.filter(held), where)
        task.held = Rows(X, *(None if part is None else part[held] for part in (y, s, o)))
    return task


def held_out(rows, share, seed):
    """Mask of the rows that are held out: a share of them, the same for the same seed."""
    number = max(1, round(share * rows))
    if rows - number < 2:
        raise TableError(f"--test-size {share:g} leaves {rows - number} of {rows} rows to fit to, and two are needed")
    mask = np.zeros(rows, bool)
    mask[np.random.default_rng(seed).permutation(rows)[:number]] = True
    return mask


def target_of(cells, name, loss, activation, where, rules, notes):
    """(y, classes, loss, activation) as the objective takes them; a class is its number."""
    kind, _ = columns.kind_of(cells)
    if kind == "category":
        if loss in OF_NUMBERS or activation not in (None, "sigmoid"):
            raise TableError(
                f"{where}: the target {name!r} holds text, and {loss or activation} is for numbers: take "
                f"--loss {' or '.join(OF_CLASSES)}"
            )
        labels = columns.labels(cells)
        loss = loss or "log_loss"
    else:
        labels = columns.numbers(cells)
        # Two numbers are classes, but in fewer than five rows.
        if loss is None and activation in (None, "sigmoid") and len(labels) >= 5 and len(np.unique(labels)) == 2:
            loss, (low, high) = "log_loss", np.unique(labels)
            notes.append(f"{name} is {low:g} or {high:g}, so these are classes (--loss squared_error fits a number)")
    if loss not in OF_CLASSES:
        return labels, None, *_of_numbers(labels, name, loss, activation, where, notes)
    if activation not in (None, "sigmoid"):
        raise TableError(f"--activation {activation} is for numbers, and --loss {loss} is for classes")
    if tables.arrow().types.is_integer(cells.type):
        labels = labels.astype(np.int64)
    classes, y = np.unique(labels, return_inverse=True)
    if len(classes) < 2:
        raise TableError(f"{where}: the target {name!r} has one value only, {str(classes[0])!r}")
    if len(classes) > 100 and 2 * len(classes) > len(y):
        raise TableError(
            f"{where}: the target {name!r} has {len(classes)} different values in {len(y)} rows, too many for classes"
        )
    record = losses.get(loss)
    if not record.signed and (len(classes) == 2 or "softmax" in record.activations):
        return y.astype(float), classes, loss, record.link if len(classes) == 2 else "softmax"
    signs = np.where(y[:, None] == np.arange(len(classes)), 1.0, -1.0 if record.signed else 0.0)
    return signs[:, 1] if len(classes) == 2 else signs, classes, loss, record.link


def _of_numbers(y, name, loss, activation, where, notes):
    """(loss, activation) of a numeric target; remarks are appended to `notes`."""
    least, most, whole = y.min(), y.max(), np.all(y == np.floor(y))
    if loss is None and whole and 0 <= least <= 1 and most > 2:
        notes.append(f"{name} looks like counts, for which there is --loss poisson")
    if loss is None and activation not in (None, "identity"):
        notes.append(f"the {activation} is fitted by squared error (--loss chooses another)")
    record = losses.get(loss or "squared_error")
    activation = activation or record.link
    if activation not in record.activations:
        raise TableError(f"--loss {loss} has the activation {record.link}, not {activation}")
    refused = record.refused(y)
    if refused is not None and refused.any():
        raise TableError(
            f"{where}: for --loss {loss} the target {name!r} must {record.targets}; it has {y[refused][0]:g}"
        )
    low = {"identity": -math.inf, "tanh": -1.0}.get(activation, 0.0)
    high = 1.0 if activation in ("sigmoid", "tanh") else math.inf
    if least < low or most > high:
        notes.append(f"{name} goes from {least:g} to {most:g}, and a {activation} only from {low:g} to {high:g}")
    return loss or "squared_error", activation


def offset_of(table, offset, where):
    """The offsets of the rows of a table; `offset` as in `Task`."""
    tables.check_names(table, [offset["column"]], where)
    return offset_of_numbers(columns.numbers(table.column(offset["column"])), offset, where)


def offset_of_numbers(values, offset, where):
    """The same of the numbers of its column."""
    with np.errstate(all="ignore"):
        values = np.log(values) if offset["log"] else values
    if not np.all(np.isfinite(values)):
        what = "exposure" if offset["log"] else "offset"
        raise TableError(
            f"{where}: the {what} {offset['column']!r} must be finite{' and positive' * offset['log']} in each row"
        )
    return values


def _weights(cells, name, where):
    s = columns.numbers(cells)
    if not np.all(np.isfinite(s)) or s.min() < 0 or not s.max() > 0:
        raise TableError(f"{where}: the weights {name!r} must be finite, not negative and not all 0")
    return s


def _check_magnitude(column, where):
    """Refuse numbers whose squares leave the range of floating point."""
    with np.errstate(all="ignore"):
        total, spread = np.sum(column**2), np.sum((column - column.mean()) ** 2)
    if not np.isfinite(total):
        raise TableError(f"{where} has numbers up to {abs(column).max():g}, too large to be squared")
    if spread < np.finfo(float).tiny and column.min() < column.max():
        raise TableError(f"{where} has numbers that differ by too little to be squared")


# ------------------------------------------------------------------------------------------------------------------ fit


@dataclasses.dataclass
class Fit:
    """A task that was fitted.

    Attributes
    ----------
    model : Model
    result : Result
    scores, held_scores : dict
        r2 and mean_squared_error, or accuracy and log_loss; held_scores is None without a held-out part.
    """

    objective: LinearObjective
    model: Model
    result: object
    scores: dict
    held_scores: dict | None

    @property
    def converged(self):
        return self.result.status == Status.CONVERGED


def fitted(task, *, penalty, alpha, jobs, max_steps, groups=None, **options):
    """Fit a task; `options` are those of `gradient_descent`."""
    penalty = penalty or ("none" if task.classes is None else "l2")
    if groups is not None and penalty != "group":
        raise TableError(f"--groups is for --penalty group, which is {penalty} here")
    groups = _labels(task.encoder, groups or []) if penalty == "group" else None
    l1, l2 = (share * alpha for share in PENALTIES[penalty])
    try:
        objective = LinearObjective(
            task.fit.X, task.fit.y, activation=task.activation, loss=task.loss, l1=l1, l2=l2, n_jobs=jobs,
            fit_intercept=task.encoder.intercept, sample_weight=task.fit.weights,
            offset=task.fit.offset, groups=groups,
        )  # fmt: skip
    except ValueError as error:
        raise TableError(f"{task.where} cannot be fitted: {error}") from error
    # At zero weights the slope of relu is 0 in every row: no step would be taken.
    start = objective.join(*objective.best_constant()) if task.activation == "relu" else None
    result = gradient_descent(objective, start, step_num=max_steps, **options)
    W, b = objective.split(result.x)
    one = task.classes is None
    arrays = {"coef_": W[:, 0].copy() if one else W.T.copy(), "intercept_": b.copy()}
    arrays["feature_names_in_"] = np.array(task.encoder.names)
    if not one:
        arrays["classes_"] = task.classes
    model = Model(
        "GDRegressor" if one else "GDClassifier", task.activation, arrays,
        {"loss": task.loss, "penalty": None if penalty == "none" else penalty, "alpha": alpha,
         "fit_intercept": task.encoder.intercept} | ({} if groups is None else {"groups": groups}), [],
        None if task.encoder.plain else task.encoder, task.target, max(1, result.nit), len(task.encoder.names),
        offset=task.offset,
    )  # fmt: skip
    held = None if task.held is None else scores(model, task, task.held)
    fit = Fit(objective, model, result, scores(model, task, task.fit), held)
    model.fit = {
        "rows": task.fit.X.shape[0], "loss": result.fun, "steps": result.nit, "converged": fit.converged, **fit.scores,
        "held_out": held,
    }  # fmt: skip
    return fit


def _labels(encoder, groups):
    """The number of the group of each column of numbers; `groups` are lists of columns of the table."""
    names, encoded = encoder.names, encoder.encoded_names
    number, named = {name: at for at, name in enumerate(names)}, set()
    for group in groups:
        for name in group:
            if name not in number:
                raise TableError(f"--groups names {name!r}, which is no feature")
            if name in named:
                raise TableError(f"--groups names {name!r} in two groups")
            named.add(name)
            number[name] = number[group[0]]
    return [number[name if name in number else name.rsplit("=", 1)[0]] for name in encoded]


def scores(model, task, rows):
    """Scores of a model on rows; None where a score is not finite."""
    h, s = model.scores(rows.X, rows.offset), rows.weights
    if task.classes is None:
        y = rows.y
        mse = float(np.average((y - outputs(h, task.activation)) ** 2, weights=s))
        spread = float(np.average((y - np.average(y, weights=s)) ** 2, weights=s))
        return {"r2": 1 - mse / spread if spread > 0 else None, "mean_squared_error": mse}
    loss = losses.get(task.loss)
    number = rows.y if task.activation != "identity" else rows.y > 0 if rows.y.ndim == 1 else rows.y.argmax(axis=1)
    number = number.astype(int)
    found = {"accuracy": float(np.average(chosen(h, loss) == number, weights=s))}
    if loss.probabilities is not None:
        p = probabilities(h, task.activation, loss)[np.arange(len(h)), number]
        with np.errstate(divide="ignore"):
            loss = float(np.average(-np.log(p), weights=s))
        found["log_loss"] = loss if math.isfinite(loss) else None
    return found
