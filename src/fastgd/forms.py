"""Parameters with names: a dict of arrays or a pandas.Series as one vector, and back."""

import numpy as np

from fastgd import validation


def flattened(x, name="x"):
    """Named parameters as one vector, and how to put one back into their form.

    Parameters
    ----------
    x : dict of array_like, or pandas.Series
        Entries of any shapes, numbers among them.

    Returns
    -------
    vector : (d,) float64
        A new array: the entries of all names, in their order.
    restore : Form
        restore(vector) has the form of x; restore.flat(tree) is the vector of another tree of that form.
    None
        In place of both, where x has no names.
    """
    if isinstance(x, dict):
        form = DictForm(x, name)
    elif type(x).__name__ == "Series" and hasattr(x, "index") and hasattr(x, "to_numpy"):
        form = SeriesForm(x)
    else:
        return None
    return form.flat(x, name), form


class DictForm:
    """A dict of arrays as a vector and back; see `flattened`."""

    def __init__(self, tree, name):
        if not tree:
            raise ValueError(f"{name} must have at least one entry; got an empty dict")
        arrays = {
            key: validation.real_array(value, f"{name}[{key!r}]", dtype=np.float64) for key, value in tree.items()
        }
        self.shapes = {key: array.shape for key, array in arrays.items()}
        self.ends = np.cumsum([array.size for array in arrays.values()]).tolist()

    def __call__(self, vector):
        """The dict of a vector (d,), of new arrays and of floats for numbers; or of (rows, d), of arrays (rows, …)."""
        rows, parts = vector.shape[:-1], np.split(vector, self.ends[:-1], axis=-1)
        named = zip(self.shapes.items(), parts, strict=True)
        tree = {key: part.reshape((*rows, *shape)).copy() for (key, shape), part in named}
        return tree if rows else {key: part if part.ndim else float(part) for key, part in tree.items()}

    def flat(self, tree, name, absent=None):
        """The vector of a dict with the same names; numbers stand for all entries of a name.

        A missing name is an error, unless there is a number for `absent` ones.
        """
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


class SeriesForm:
    """A pandas.Series as a vector and back; see `flattened`."""

    def __init__(self, series):
        self.series = series.astype(np.float64)
        if not self.series.index.is_unique:
            raise ValueError(f"the names of a Series must differ; got {validation.describe(list(self.series.index))}")

    def __call__(self, vector):
        """The Series of a vector (d,), or the DataFrame of (rows, d)."""
        names = self.series.index
        if vector.ndim == 1:
            return type(self.series)(vector.copy(), index=names, name=self.series.name)
        import pandas  # it is there: x is one of its Series

        return pandas.DataFrame(vector.copy(), columns=names)

    def flat(self, series, name, absent=None):
        """The vector of a Series with the same names, in any order; a missing one is an error without `absent`."""
        names = self.series.index
        if not isinstance(series, type(self.series)):
            raise TypeError(
                f"{name} must be a Series with the names of x, {list(names)}; got {validation.describe(series)}"
            )
        if len(series.index.difference(names)) or (absent is None and len(series) < len(names)):
            raise ValueError(f"{name} must have the names of x, {list(names)}; got {list(series.index)}")
        values = series.reindex(names, fill_value=absent).to_numpy()
        return np.array(validation.real_array(values, name, dtype=np.float64, finite=False))


class Named:
    """Named parameters as the vector `flat`, with what belongs to them.

    Attributes
    ----------
    flat : (d,) float64
    restore : callable
        A vector (d,), or rows of them, in the form of the parameters.
    """

    def __init__(self, flat, form):
        self.flat, self.restore = flat, form

    def flatten(self, value, name):
        """What has the names of the parameters, as a vector; anything else as it is."""
        return value if flattened(value, name) is None else self.restore.flat(value, name)

    def function(self, f):
        """A function of the parameters as one of a vector."""
        validation.callable_(f, "f")
        return lambda point, *args: f(self.restore(point), *args)


def named(x, name="x"):
    """`Named` if x is a dict or a pandas Series, else None."""
    found = None if type(x) is np.ndarray else flattened(x, name)
    return None if found is None else Named(*found)
