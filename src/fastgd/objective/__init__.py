"""Objectives: rows × loss × penalty, or any function; the variables of the solvers, curvature, certificates."""

from fastgd.objective.function import Function
from fastgd.objective.linear import LinearObjective

__all__ = ["Function", "LinearObjective"]
