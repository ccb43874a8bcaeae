"""Types of the one-layer kernels; what they do is specified in `reference.py`."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Real = NDArray[np.float32] | NDArray[np.float64]
Doubles = NDArray[np.float64]
Rows = NDArray[np.int64]
Index = NDArray[np.int32] | NDArray[np.int64]

def total_loss(
    X: Real,
    Y: Real,
    W: Real,
    b: Real,
    shift: Real,
    sample_weight: Real,
    activation: int,
    loss: int,
    gemm: Any,
    totals: Doubles,
) -> None: ...
def total_loss_and_gradient(
    X: Real,
    Y: Real,
    W: Real,
    b: Real,
    shift: Real,
    sample_weight: Real,
    activation: int,
    loss: int,
    gemm: Any,
    totals: Doubles,
    grad_W: Doubles,
    grad_b: Doubles,
) -> None: ...
def block_sums(
    X: Real,
    Y: Real,
    W: Real,
    b: Real,
    shift: Real,
    sample_weight: Real,
    activation: int,
    loss: int,
    gemm: Any,
    edges: Rows,
    sums: Doubles,
) -> None: ...
def value_from_sums(
    sums: Doubles,
    w: Real,
    fit_intercept: bool,
    factor: float,
    l2: float,
    gradient: Real,
) -> float: ...
def value_and_gradient(
    X: Real,
    Y: Real,
    w: Real,
    sample_weight: Real,
    activation: int,
    loss: int,
    gemm: Any,
    factor: float,
    l2: float,
    edges: Rows,
    gradient: Real,
) -> float: ...
def predict(X: Real, W: Real, b: Real, activation: int, gemm: Any, out: Real) -> None: ...
def update(w: Real, g: Real, lr: float) -> None: ...
def apply_activation(h: Real, activation: int, out: Real) -> None: ...
def apply_derivative(h: Real, activation: int, out: Real) -> None: ...
def optimizer_step(
    kind: int,
    parameters: Doubles,
    w: Real,
    g: Real,
    moments: Real,
    lr: float,
    step: int,
    penalised: int,
    lower: Real,
    upper: Real,
) -> None: ...
def descend(
    X: Real,
    Y: Real,
    w: Real,
    sample_weight: Real,
    activation: int,
    loss: int,
    gemm: Any,
    factor: float,
    l2: float,
    offset: float,
    rates: Doubles,
    gap_factor: float,
    gap_floor: float,
    overshoots: float,
    overshoot_growth: float,
    state: Doubles,
    gradient: Real,
    previous: Real,
    funs: Doubles,
    norms: Doubles,
    points: Real,
    kind: int,
    parameters: Doubles,
    moments: Real,
    done: int,
    penalised: int,
    lower: Real,
    upper: Real,
) -> tuple[int, int]: ...
def shuffle(seed: int, epoch: int, block: int, first: int, out: Rows) -> None: ...
def stochastic(
    X: Real,
    Y: Real,
    w: Real,
    sample_weight: Real,
    activation: int,
    loss: int,
    factor: float,
    l2: float,
    order: Rows,
    batch: int,
    mean: bool,
    rates: Doubles,
    kind: int,
    parameters: Doubles,
    moments: Real,
    done: int,
    penalised: int,
    lower: Real,
    upper: Real,
) -> None: ...
def sparse_pass(
    data: Real,
    indices: Index,
    indptr: Index,
    Y: Real,
    W: Real,
    b: Real,
    sample_weight: Real,
    activation: int,
    loss: int,
    totals: Doubles,
    grad_W: Doubles,
    grad_b: Doubles,
) -> None: ...
def perturbed_pass(
    X: Real,
    Y: Real,
    W: Doubles,
    b: Doubles,
    steps: Doubles,
    step_b: Doubles,
    sample_weight: Real,
    activation: int,
    loss: int,
    out_W: Doubles,
    out_b: Doubles,
) -> None: ...
def sparse_perturbed_pass(
    data: Real,
    indices: Index,
    indptr: Index,
    Y: Real,
    W: Doubles,
    b: Doubles,
    steps: Doubles,
    step_b: Doubles,
    sample_weight: Real,
    activation: int,
    loss: int,
    out_W: Doubles,
    out_b: Doubles,
) -> None: ...
def sparse_stochastic(
    data: Real,
    indices: Index,
    indptr: Index,
    Y: Real,
    w: Real,
    d: int,
    sample_weight: Real,
    activation: int,
    loss: int,
    factor: float,
    l2: float,
    order: Rows,
    batch: int,
    mean: bool,
    rates: Doubles,
    kind: int,
    parameters: Doubles,
    moments: Real,
    done: int,
    penalised: int,
    lower: Real,
    upper: Real,
) -> None: ...
