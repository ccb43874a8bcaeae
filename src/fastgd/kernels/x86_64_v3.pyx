"""The one-layer kernels, compiled for x86-64 CPUs with AVX2 and FMA."""
include "one_layer.pxi"
