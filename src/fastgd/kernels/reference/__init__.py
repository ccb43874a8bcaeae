"""Every kernel in plain NumPy: the specification of the compiled builds.

Same names, same parameters, same side effects. Where a compiled kernel and its twin here disagree by more than
rounding, the kernel is wrong.
"""

from fastgd.kernels.reference import coordinates, differences, functions, one_layer, perturbed, updates

__all__ = ["coordinates", "differences", "functions", "one_layer", "perturbed", "updates"]
