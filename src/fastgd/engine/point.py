"""One point of a run."""

import math

from fastgd.linalg import euclidean_norm


class Point:
    """Where a run is after so many steps, in its variables.

    Attributes
    ----------
    step : int
    z, gradient : ndarray
        The point, and the gradient of the smooth part of F.
    fun : float or None
        F with all penalties; None where nobody asked for it.
    lr : float or None
        The rate of the step from here, once it is known.
    norm, least : float
        Norm of the gradient, and of the shortest subgradient where there is a penalty or a bound: what is zero at a
        minimum, and the same as `norm` elsewhere.
    """

    __slots__ = ("fun", "gradient", "least", "lr", "norm", "step", "z")

    def __init__(self, step, z, fun, gradient, lr=None, least=None, norm=None):
        self.step, self.z, self.fun, self.gradient, self.lr = step, z, fun, gradient, lr
        self.norm = euclidean_norm(gradient) if norm is None else norm
        self.least = self.norm if least is None else least

    @property
    def finite(self):
        return math.isfinite(self.norm) and (self.fun is None or math.isfinite(self.fun))

    @property
    def state(self):
        """What a checkpoint keeps."""
        return {name: getattr(self, name) for name in self.__slots__ if name != "norm"}

    @classmethod
    def of(cls, saved):
        return cls(**saved)
