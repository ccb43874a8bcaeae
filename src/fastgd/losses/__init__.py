"""What is known of a loss, in one table: `of(loss, activation)` gives the record of a pair."""

from fastgd.losses.table import LOSSES, Loss, of

__all__ = ["LOSSES", "Loss", "of"]
