"""Types of the one-layer kernels; what they do is specified in `reference/one_layer.py`."""

from collections.abc import Callable
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from fastgd.kernels.codes import PointLoss

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
    loss: PointLoss,
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
    loss: PointLoss,
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
    loss: PointLoss,
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
    loss: PointLoss,
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
    loss: PointLoss,
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
    loss: PointLoss,
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
    loss: PointLoss,
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
    loss: PointLoss,
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
    loss: PointLoss,
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
    loss: PointLoss,
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
def descend_function(
    f: Callable[..., Any],
    grad: Callable[..., Any] | Literal[True] | None,
    x: Doubles,
    shape: tuple[int, ...],
    as_number: Callable[[Any, Doubles, int], float],
    checked: Callable[[Any, Doubles], Any],
    found: Doubles,
    values: Doubles,
    spent: NDArray[np.int64],
    look: Callable[[int, Doubles, float, Doubles, int, int], bool] | None,
    rate: Callable[[int], float] | None,
    rates: Doubles,
    tol: float,
    overshoots: float,
    overshoot_growth: float,
    every: int,
    state: Doubles,
    gradient: Doubles,
    previous: Doubles,
    funs: Doubles,
    norms: Doubles,
    points: Doubles,
    kind: int,
    parameters: Doubles,
    moments: Doubles,
    done: int,
    penalised: int,
    lower: Doubles,
    upper: Doubles,
) -> tuple[int, int]: ...
def column_moments(columns: Doubles, curvature: Doubles, sums: Doubles, squares: Doubles) -> None: ...
def take_columns(X: Real, numbers: NDArray[np.intp], shift: Doubles, scale: Doubles, out: Doubles) -> None: ...
def column_sums(X: Real, sums: Doubles, squares: Doubles) -> None: ...
def coordinate_descent(
    columns: Doubles,
    curvature: Doubles,
    means: Doubles,
    bends: Doubles,
    thresholds: Doubles,
    ridges: Doubles,
    epochs: int,
    small: float,
    zeros: bool,
    slopes: Doubles,
    v: Doubles,
) -> tuple[int, float]: ...
def sparse_coordinate_descent(
    data: Real,
    indices: Index,
    indptr: Index,
    curvature: Doubles,
    scales: Doubles,
    sums: Doubles,
    means: Doubles,
    bends: Doubles,
    thresholds: Doubles,
    ridges: Doubles,
    epochs: int,
    small: float,
    zeros: bool,
    level: Doubles,
    slopes: Doubles,
    v: Doubles,
) -> tuple[int, float]: ...
def gram_coordinate_descent(
    H: Doubles, thresholds: Doubles, epochs: int, small: float, gradient: Doubles, v: Doubles
) -> tuple[int, float]: ...
def gram_group_descent(
    H: Doubles,
    starts: NDArray[np.intp],
    thresholds: Doubles,
    epochs: int,
    small: float,
    gradient: Doubles,
    v: Doubles,
) -> tuple[int, float]: ...
