"""Losses: what is known of each stands in one record; a name means the record with its defaults.

`of(loss, activation)` gives what the engine works with, a `DataTerm`.
"""

from fastgd.losses.custom import Custom, custom
from fastgd.losses.likelihoods import Gamma, LogLoss, Poisson
from fastgd.losses.margins import Hinge, SquaredHinge
from fastgd.losses.record import DataTerm, Loss
from fastgd.losses.residuals import MSE, SSE, EpsilonInsensitive, Huber, Quantile, SquaredError
from fastgd.losses.table import LOSSES, from_dict, get, names, of, to_dict

__all__ = [
    "LOSSES", "MSE", "SSE", "Custom", "DataTerm", "EpsilonInsensitive", "Gamma", "Hinge", "Huber", "LogLoss", "Loss",
    "Poisson", "Quantile", "SquaredError", "SquaredHinge", "custom", "from_dict", "get", "names", "of", "to_dict",
]  # fmt: skip
