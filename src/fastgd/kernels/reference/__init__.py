"""Every kernel in NumPy: the specification of the compiled builds.

Names, parameters and side effects are the same. If a compiled kernel and the one here disagree by more than rounding
error, the compiled one is wrong.
"""

from fastgd.kernels.reference import coordinates, differences, functions, one_layer, perturbed, updates

__all__ = ["coordinates", "differences", "functions", "one_layer", "perturbed", "updates"]
