"""Targets and scores of data that are not in this process: dask's, block by block, where they are."""

import numpy as np
from sklearn.utils.multiclass import check_classification_targets

from fastgd import losses
from fastgd.data.distributed import Column
from fastgd.data.inputs import rows_of
from fastgd.data.partials import predictions
from fastgd.files.models import chosen
from fastgd.kernels.codes import ACTIVATIONS
from fastgd.objective import LinearObjective


def labels(y, model):
    """The sorted classes."""
    if y.ndim == 2 and y.rows.k > 1:
        raise ValueError("y of a dask collection must hold a label for each row, (n,); proportions are for y in memory")
    found = y.labels()[0]
    if found.dtype.kind == "f" and np.any(found != np.floor(found)):
        raise ValueError("y must hold labels, of a dask collection; it holds numbers that are not whole")
    check_classification_targets(found)
    if len(found) < 2:
        raise ValueError(
            f"{type(model).__name__} needs samples of at least 2 classes in the data, but the data contains only one "
            f"class: {found.tolist()[0]!r}"
        )
    return found


def numbered(y, classes):
    """The number of each label, as a Column."""
    return y.mapped(numbers_of, classes, k=1, ndim=1, dtype=np.int64)


def numbers_of(y, classes):
    y = y.reshape(len(y))
    if len(classes) == 2 and y.dtype == classes.dtype:  # sooner than by a search
        second = y == classes[1]
        numbers, known = second.astype(np.int8), bool((second | (y == classes[0])).all())
    else:
        numbers = np.minimum(np.searchsorted(classes, y), len(classes) - 1)
        known = bool(np.all(classes[numbers] == y))
    if not known:
        names = str(sorted(set(y.tolist()) - set(classes.tolist()))[:5])[1:-1]
        raise ValueError(f"y holds labels that are not among the classes {classes.tolist()}: {names}")
    return numbers


def counts(numbers, weights, minlength):
    """The weight of each class."""
    rows = numbers.rows if weights is None else numbers.rows.with_targets(numbers, weights)
    return rows.reduced(weight_of_classes, minlength)[0]


def weight_of_classes(rows, count):
    s = rows.weights if rows.weights.size else None
    return (np.bincount(rows.Y[:, 0], weights=s, minlength=count).astype(np.float64),)


def weighted(numbers, weights, sample_weight):
    """Sample weights times those of the classes, as a Column."""
    rows = numbers.rows if sample_weight is None else numbers.rows.with_targets(numbers, sample_weight)
    return rows.with_weights(weights_of, weights)


def weights_of(numbers, s, weights):
    return weights[numbers] if s is None else weights[numbers] * s


# --------------------------------------------------------------------------------------------------------------- scores


def accuracy(X, y, W, b, loss, sample_weight):
    """The share of the rows, by their weights, whose class is the chosen one."""
    hits, total = _with(X, y, sample_weight).reduced(hits_of, W, b, loss)
    return float(hits / total)


def hits_of(rows, W, b, loss):
    h = _scores(rows, W, b)
    s = rows.weights.astype(np.float64) if rows.weights.size else np.ones(rows.n)
    right = chosen(h[:, 0] if h.shape[1] == 1 else h, loss) == rows.Y[:, 0]
    return float(s @ right), float(s.sum())


def explained(X, y, W, b, loss, sample_weight):
    """R², or the fraction of the deviance explained where the loss is one with an exp: means over the outputs."""
    rows = _with(X, y, sample_weight)
    mean = Column(rows, "Y", 2).mean_of_weight()[0]
    with np.errstate(all="ignore"):
        rest, whole = rows.reduced(deviances, W, b, mean, loss if loss.link == "exp" else None)
        shares = np.where(whole > 0, 1 - rest / whole, np.where(rest <= 0, 1.0, 0.0))
    return float(np.mean(shares))


def deviances(rows, W, b, mean, loss):
    """Of each output: Σ s(y − ŷ)², or the deviance, of the model and of the constant."""
    h, Y = _scores(rows, W, b), rows.Y.astype(np.float64)
    s = rows.weights.astype(np.float64) if rows.weights.size else np.ones(rows.n)
    if loss is None:
        return s @ (Y - h) ** 2, s @ (Y - mean) ** 2
    with np.errstate(all="ignore"):
        constant = np.log(mean)
    pairs = [_deviance(at, Y[:, j : j + 1], s, loss) for at in (h, np.broadcast_to(constant, Y.shape))
             for j in range(Y.shape[1])]  # fmt: skip
    k = Y.shape[1]
    return np.array(pairs[:k]), np.array(pairs[k:])


def _deviance(h, y, s, loss):
    """Half the deviance of one output at scores (n, 1), by its sum over rows."""
    h = np.ascontiguousarray(h)
    o = LinearObjective.of_arrays(h, y[:, 0], s, losses.of(loss), fit_intercept=False, deviance=True)
    return (o.value_of_scores(h) + o.constant) * o.total_weight


def _with(X, y, sample_weight):
    return rows_of(X, y, np.empty(0, X.dtype) if sample_weight is None else sample_weight)


def _scores(rows, W, b):
    """h = Xw + b, (n, k) float64."""
    W, b = np.ascontiguousarray(W, rows.dtype), np.ascontiguousarray(b, rows.dtype)
    return predictions(rows, W, b, ACTIVATIONS["identity"]).astype(np.float64)
