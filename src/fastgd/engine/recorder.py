"""Histories of runs that are in progress: one row for each point, or for each epoch of an estimator."""

import numpy as np

from fastgd import validation
from fastgd.engine.result import History

COLUMNS = {True: ("x", "fun", "lr", "grad_norm"), "x": ("x", "lr", "grad_norm"), "fun": ("fun", "lr", "grad_norm")}
OF_EPOCHS = ("loss", "validation_score", "grad_norm", "learning_rate", "seconds")


class Epochs:
    """The history of an estimator's fit, with the interface of `Recorder`: a row for each epoch, none for the start."""

    on, every, wants_x, wants_fun = True, 1, False, True

    def __init__(self):
        self.rows = {name: [] for name in OF_EPOCHS}

    def takes(self, step):
        return step > 0

    @property
    def last(self):
        return len(self.rows["loss"])

    def epoch(self, *numbers):
        """Add a row: numbers in the order of OF_EPOCHS."""
        for name, number in zip(OF_EPOCHS, numbers, strict=True):
            self.rows[name].append(number)

    def rate(self, step, lr):
        """Nothing: the rate of an epoch is given with its row, by `epoch`."""

    def end_at(self, fun, norm):
        """Replace loss and gradient norm of the last row by those of the point that is reported."""
        self.rows["loss"][-1], self.rows["grad_norm"][-1] = fun, norm

    def cut(self, step):
        """Drop rows after the one of a step, and one that was not finished."""
        for values in self.rows.values():
            del values[min(step, len(self.rows["seconds"])) :]

    def history(self):
        return History({name: np.array(values, dtype=np.float64) for name, values in self.rows.items()})

    @property
    def state(self):
        return {name: np.array(values, dtype=np.float64) for name, values in self.rows.items()}

    @state.setter
    def state(self, saved):
        self.rows = {name: saved[name].tolist() for name in OF_EPOCHS}


class Recorder:
    """Rows for points, as a user of `gradient_descent` asked for them.

    Parameters
    ----------
    history : bool, "x", "fun" or int
        True: all columns of every point. "x": all but the values, which are then not evaluated. "fun": all but the
        points. A number k: all columns of the start, every k-th step, and the end.
    """

    def __init__(self, history):
        self.every = 1
        if history is False:
            self.on, self.rows, self.wants_x, self.wants_fun = False, {}, False, False
            return
        if isinstance(history, str):
            validation.choice(history, "history", [name for name in COLUMNS if name is not True])
        elif not isinstance(history, (bool, np.bool_)):
            try:
                self.every = validation.count(history, "history", minimum=1)
            except TypeError:
                raise TypeError(
                    f'history must be True, False, "x", "fun" or a number of steps; got {validation.describe(history)}'
                ) from None
            history = True
        self.on = bool(history)
        self.rows = {name: [] for name in (*COLUMNS[history if isinstance(history, str) else True], "step")}
        self.wants_x, self.wants_fun = self.on and "x" in self.rows, self.on and "fun" in self.rows

    def takes(self, step):
        """Whether the point of a step is recorded."""
        return self.on and step % self.every == 0

    @property
    def last(self):
        """The step of the last row."""
        return self.rows["step"][-1] if self.rows["step"] else None

    def point(self, step, x, fun, norm):
        """Add a row; only the columns that are kept are looked at."""
        self.rows["step"].append(step)
        for name, value in (("x", x), ("fun", fun), ("grad_norm", norm)):
            if name in self.rows:
                self.rows[name].append(value)

    def rate(self, step, lr):
        """The rate of the step from a point."""
        if self.takes(step):
            self.rows["lr"].append(lr)

    def burst(self, step, evaluated, taken, points, funs, norms, rates, to_user):
        """Rows for so many points from `step` on, and the rates of the steps that were taken, all in longer arrays.

        Without `to_user` the points are the user's already, and nobody writes to them any more.
        """
        if not self.on:
            return
        first = -step % self.every
        self.rows["step"].extend(range(step + first, step + evaluated, self.every))
        for name, values in (("fun", funs[:evaluated]), ("lr", rates[:taken]), ("grad_norm", norms[:evaluated])):
            if name in self.rows:
                self.rows[name].extend(values[first :: self.every].tolist())
        if self.wants_x:
            chosen = points[first : evaluated : self.every]
            if to_user is None:  # parts of them are copied, so that the others are not kept
                self.rows["x"].extend(chosen if self.every == 1 else chosen.copy())
            else:
                self.rows["x"].extend(map(to_user, chosen))

    def cut(self, step):
        """Drop what comes after the point of a step, and rows that were not finished."""
        if not self.on:
            return
        counts = [len(rows) for name, rows in self.rows.items() if name != "lr"]
        rows = sum(recorded <= step for recorded in self.rows["step"][: min(counts)])
        ends = rows > 0 and self.rows["step"][rows - 1] == step
        for name in self.rows:
            del self.rows[name][rows - ends if name == "lr" else rows :]

    def history(self):
        """What has been recorded, or None."""
        return History({name: np.array(rows) for name, rows in self.rows.items()}) if self.on else None

    @property
    def state(self):
        """What a checkpoint keeps."""
        return {name: np.array(rows) for name, rows in self.rows.items()}

    @state.setter
    def state(self, saved):
        self.rows = {name: list(rows) for name, rows in saved.items()}
