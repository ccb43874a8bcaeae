"""Parameters with names: a dict of arrays or a pandas.Series as one vector, and back."""

import numpy as np

from fastgd import validation


def has_names(x):
    """Whether x is a dict or a pandas.Series."""
    return isinstance(x, dict) or (type(x).__name__ == "Series" and hasattr(x, "index") and hasattr(x, "to_numpy"))


def flattened(x, name="x"):
    """The Form of named parameters, a dict of array_like or a pandas.Series; None where x has no names."""
    if not has_names(x):
        return None
    return DictForm(x, name) if isinstance(x, dict) else SeriesForm(x, name)


class Form:
    """Named parameters as one vector, and a vector in their form.

    `restore(vector)` has that form: of a vector (d,), or of rows of them (rows, d). `vector(tree, name)` is the vector
    of another tree of that form, a new array; a missing name is an error unless a number stands for `absent` ones.

    Attributes
    ----------
    flat : (d,) float64
        The parameters: the entries of all names, in their order.
    """

    def flatten(self, value, name):
        """What has the names of the parameters, as a vector; anything else as it is."""
        return self.vector(value, name) if has_names(value) else value

    def function(self, f, name="f"):
        """A function of the parameters as one of a vector."""
        validation.callable_(f, name)
        return lambda point, *args: f(self.restore(point), *args)

    def gradient(self, grad, what="what grad returned"):
        """A gradient of the parameters as one of a vector."""
        restored = self.function(grad, "grad")
        return lambda point, *args: self.vector(restored(point, *args), what)


class DictForm(Form):
    """A dict of arrays; numbers stand for all entries of a name."""

    def __init__(self, tree, name):
        if not tree:
            raise ValueError(f"{name} must have at least one entry; got an empty dict")
        arrays = {
            key: validation.real_array(value, f"{name}[{key!r}]", dtype=np.float64) for key, value in tree.items()
        }
        self.shapes = {key: array.shape for key, array in arrays.items()}
        self.ends = np.cumsum([array.size for array in arrays.values()]).tolist()
        self.flat = np.concatenate([array.reshape(-1) for array in arrays.values()])

    def restore(self, vector):
        """A dict of new arrays, and of floats for numbers; of rows, arrays (rows, …)."""
        rows, parts = vector.shape[:-1], np.split(vector, self.ends[:-1], axis=-1)
        named = zip(self.shapes.items(), parts, strict=True)
        tree = {key: part.reshape((*rows, *shape)).copy() for (key, shape), part in named}
        return tree if rows else {key: part if part.ndim else float(part) for key, part in tree.items()}

    def vector(self, tree, name, absent=None):
        if not isinstance(tree, dict):
            raise TypeError(
                f"{name} must be a dict with the names of x, {list(self.shapes)}; got {validation.describe(tree)}"
            )
        if tree.keys() - self.shapes.keys() or (absent is None and self.shapes.keys() - tree.keys()):
            raise ValueError(f"{name} must have the names of x, {list(self.shapes)}; got {list(tree)}")
        parts = []
        for key, shape in self.shapes.items():
            value = validation.real_array(tree.get(key, absent), f"{name}[{key!r}]", dtype=np.float64, finite=False)
            if value.shape not in (shape, ()):
                raise ValueError(f"{name}[{key!r}] must have shape {shape}; got {value.shape}")
            parts.append(np.broadcast_to(value, shape).reshape(-1))
        return np.concatenate(parts)


class SeriesForm(Form):
    """A pandas.Series; the names of another may have any order, and rows make a DataFrame."""

    def __init__(self, series, name):
        self.series = series.astype(np.float64)
        if not self.series.index.is_unique:
            raise ValueError(f"the names of a Series must differ; got {validation.describe(list(self.series.index))}")
        self.flat = self.vector(series, name)

    def restore(self, vector):
        names = self.series.index
        if vector.ndim == 1:
            return type(self.series)(vector.copy(), index=names, name=self.series.name)
        import pandas  # it is there: x is one of its Series

        return pandas.DataFrame(vector.copy(), columns=names)

    def vector(self, series, name, absent=None):
        names = self.series.index
        if not isinstance(series, type(self.series)):
            raise TypeError(
                f"{name} must be a Series with the names of x, {list(names)}; got {validation.describe(series)}"
            )
        if len(series.index.difference(names)) or (absent is None and len(series) < len(names)):
            raise ValueError(f"{name} must have the names of x, {list(names)}; got {list(series.index)}")
        values = series.reindex(names, fill_value=absent).to_numpy()
        return np.array(validation.real_array(values, name, dtype=np.float64, finite=False))
