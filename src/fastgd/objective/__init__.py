"""What is minimised: rows × loss × penalty, or any function; and the variables in which that is done."""

from fastgd.objective.function import Function
from fastgd.objective.linear import LinearObjective

__all__ = ["Function", "LinearObjective"]
