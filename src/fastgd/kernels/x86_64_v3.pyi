from fastgd.kernels.baseline import *  # noqa: F403
