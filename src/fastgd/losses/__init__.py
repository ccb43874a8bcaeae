"""Losses: what is known of each stands in one record; a name means the record with its defaults.

`of(loss, activation)` gives what the engine works with, a `DataTerm`.
"""

from fastgd.losses import likelihoods, margins, residuals
from fastgd.losses.custom import Custom, custom
from fastgd.losses.likelihoods import *  # noqa: F403
from fastgd.losses.margins import *  # noqa: F403
from fastgd.losses.record import DataTerm, Loss
from fastgd.losses.residuals import *  # noqa: F403
from fastgd.losses.table import LOSSES, from_dict, get, names, of, to_dict

__all__ = ["LOSSES", "Custom", "DataTerm", "Loss", "custom", "from_dict", "get", "names", "of", "to_dict"]
__all__ += residuals.__all__
__all__ += likelihoods.__all__
__all__ += margins.__all__
