"""Types of the one-layer kernels; what they do is specified in `reference.py`."""

import numpy as np
from numpy.typing import NDArray

Real = NDArray[np.float32] | NDArray[np.float64]

def total_loss(
    X: Real, Y: Real, W: Real, b: Real, shift: Real, sample_weight: Real, activation: int, loss: int
) -> float: ...
def total_loss_and_gradient(
    X: Real,
    Y: Real,
    W: Real,
    b: Real,
    shift: Real,
    sample_weight: Real,
    activation: int,
    loss: int,
    grad_W: NDArray[np.float64],
    grad_b: NDArray[np.float64],
) -> float: ...
def predict(X: Real, W: Real, b: Real, activation: int, out: Real) -> None: ...
def update(w: Real, g: Real, lr: float) -> None: ...
def apply_activation(h: Real, activation: int, out: Real) -> None: ...
def apply_derivative(h: Real, activation: int, out: Real) -> None: ...
