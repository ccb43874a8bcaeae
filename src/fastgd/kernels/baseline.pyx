"""The one-layer kernels, compiled for any CPU of the platform."""
include "one_layer.pxi"
