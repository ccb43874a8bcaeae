"""The result of a run."""

from __future__ import annotations

import enum
import typing

import numpy as np

from fastgd.engine import display

if typing.TYPE_CHECKING:
    from numpy.typing import NDArray

    from fastgd.types import Floats


class Status(enum.IntEnum):
    """Why a run ended; the message says it in words, and what to do about it."""

    CONVERGED = 0  # the tolerance of the gradient, or of the gap to the minimum, is met; or the floor of rounding is
    STEP_LIMIT = 1
    STOPPED_BY_CALLBACK = 2
    TIME_LIMIT = 3
    DIVERGED = 4
    TARGET_REACHED = 5
    VALUE_SETTLED = 6  # it changes by less than f_tol
    POINT_SETTLED = 7  # it moves by less than x_tol
    NO_WAY_DOWN = 8  # no step against the gradient lowers the value
    INTERRUPTED = 9  # by Ctrl-C; the KeyboardInterrupt carries the result
    EARLY_STOPPED = 10  # the score of the held-out part no longer rises
    NO_PROGRESS = 11  # stochastic steps on a loss with a kink no longer lower it
    STALLED = (
        12  # no step gets nearer, and the gap or the gradient is larger than tol, or not known well enough to tell
    )
    FAILED = 13  # f or its gradient raised an exception: one of several starts, whose Result has it


class _Record(dict[str, typing.Any]):
    """A dict whose keys are attributes too, like scipy's OptimizeResult, which takes 0.3 s to import."""

    if not typing.TYPE_CHECKING:  # or any name would do for a type checker

        def __getattr__(self, name):
            try:
                return self[name]
            except KeyError:
                raise AttributeError(f"{type(self).__name__} has no {name!r}; it has {', '.join(self)}") from None

    def __setattr__(self, name, value):
        self[name] = value

    def __delattr__(self, name):
        try:
            del self[name]
        except KeyError:
            raise AttributeError(name) from None

    def __dir__(self):
        return [*super().__dir__(), *self]

    def __repr__(self):
        width = max(map(len, self), default=0)
        indent = "\n" + " " * (width + 2)
        shown = {name: str(self._shown(value)).replace("\n", indent) for name, value in self.items()}
        return "\n".join(f"{name:>{width}}: {text}" for name, text in shown.items())

    @staticmethod
    def _shown(value):
        if isinstance(value, Status):
            return value.name
        return np.array2string(value, threshold=20) if isinstance(value, np.ndarray) else repr(value)


class Result(_Record):
    """The end of a run. Every entry is an attribute and a key.

    Attributes
    ----------
    x : ndarray
        The point reached, in the user's own units.
    fun, jac : float, ndarray
        Value and gradient at exactly x.
    nit : int
        Steps taken.
    nfev, njev : int
        Evaluations of the function (those that a numerical gradient spends included) and of the gradient. A pass over
        the data of an objective that gives both counts once in each; batches count in njev by their share of the rows,
        so that it is a float where a run ends within an epoch.
    success : bool
        False where a tolerance was asked for and not reached.
    status : Status
    message : str
        Why the run ended and, where it ended short, what to do.
    history : History or None
    gap : float or None
        Of an objective: F(x) − min F, at most that or about that; None where nothing was said of it.
    certified : bool
        Whether `gap` is a bound.
    n_passes : int
        Passes over the rows of an objective.
    solver : str
        The one that was taken.
    settings, loss, validation_loss
        Only of `sweep`, which describes them.

    In a notebook it shows status, message and the losses of its history; of `multi_start` the minima, too.
    """

    x: Floats
    fun: float
    jac: Floats
    nit: int
    nfev: int
    njev: int
    success: bool
    status: Status
    message: str
    history: History | None
    gap: float | None
    certified: bool
    condition: float | None
    lost: int
    n_passes: int
    solver: str

    def to_frame(self) -> typing.Any:
        """A pandas DataFrame: of the runs of `multi_start`, else of the history.

        Raises
        ------
        ValueError
            There is no history.
        """
        if "runs" not in self and self.get("history") is None:
            raise ValueError("the result has no history to make a frame of: run with history=True")
        return self.get("runs", self.history).to_frame()

    def _repr_html_(self) -> str:
        history, minima, runs = self.get("history"), self.get("minima"), self.get("runs")
        numbers = {"steps": self.get("nit"), "value": self.get("fun"), "x": self._shown(np.asarray(self.get("x")))}
        parts = [
            f"<b>{getattr(self.get('status'), 'name', '')}</b>",
            display.paragraph(self.get("message", "")),
            display.table(("", ""), [(name, value) for name, value in numbers.items() if value is not None]),
        ]
        if minima is not None:
            parts.append(minima._repr_html_())
            parts.append(display.curve(np.sort([run.fun for run in runs]), "ends of the runs, sorted", dots=True))
        if history is not None:
            parts.append(history._repr_html_())
        return "".join(parts)


# Entries of a run on a function that keeps no history.
NOT_OF_ROWS = {
    "history": None, "gap": None, "certified": False, "condition": None, "n_passes": 0, "lost": 0, "solver": "gd",
}  # fmt: skip


class History(_Record):
    """The path of a run, a row for each point that was recorded.

    Every entry is an attribute and a key; what was not asked for is not there. With history=True in `gradient_descent`
    there is a row for each point, so that row i is the point after i steps; an estimator has a row for each epoch. The
    names fun and loss stand for the same entry, and so do lr and learning_rate.

    Attributes
    ----------
    x : ndarray, (rows, d)
        The points, in the user's units.
    fun : ndarray, (rows,)
        The value at each. To ask for it is to ask for evaluations: a function is evaluated at each point.
    lr : ndarray, (rows − 1,)
        The rate of the step from the point of row i; of an estimator, (rows,), that of the last step of the epoch.
    grad_norm : ndarray, (rows,)
        Euclidean norm of the gradient at each, in the user's units.
    step : ndarray of int, (rows,)
        The steps that led to each.
    validation_score, seconds : ndarray, (rows,)
        Of an estimator: what `score` gives on the held-out part, and the time since the fit began.
    """

    x: Floats
    fun: Floats
    lr: NDArray[np.float64]
    grad_norm: NDArray[np.float64]
    step: NDArray[np.int64]
    loss: NDArray[np.float64]
    learning_rate: NDArray[np.float64]
    validation_score: NDArray[np.float64]
    seconds: NDArray[np.float64]

    _OTHER_NAMES: typing.ClassVar = {"loss": "fun", "fun": "loss", "learning_rate": "lr", "lr": "learning_rate"}

    def to_frame(self) -> typing.Any:
        """A pandas DataFrame with a row for each point or epoch; a point of several weights has a column for each.

        The rate is that of the step from the point, and NaN in the last row.
        """
        entries = {name: values for name, values in self.items() if not isinstance(values, dict)}
        for name in self.keys() - entries.keys():  # points with names
            entries |= {f"{name}[{key!r}]": values for key, values in self[name].items()}
        rows, columns = max(map(len, entries.values()), default=0), {}
        for name, values in entries.items():
            flat = np.asarray(values, dtype=None if name == "step" else np.float64).reshape(len(values), -1)
            flat = flat if len(flat) == rows else np.vstack([flat, np.full((rows - len(flat), flat.shape[1]), np.nan)])
            several = flat.shape[1] > 1 or name == "x"
            columns |= {f"{name}[{j}]" if several else name: flat[:, j] for j in range(flat.shape[1])}
        return display.frame(columns)

    def _repr_html_(self) -> str:
        if "fun" not in self and "loss" not in self:
            return ""
        return display.curve(self["fun"], "loss", self.get("step"))

    def __missing__(self, name: str) -> typing.Any:
        other = self._OTHER_NAMES.get(name)
        if other is None or not dict.__contains__(self, other):
            raise KeyError(name)
        return self[other]
