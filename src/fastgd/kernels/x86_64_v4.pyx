"""The one-layer kernels, compiled for x86-64 CPUs with AVX-512."""
include "one_layer.pxi"
