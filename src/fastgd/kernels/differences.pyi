"""Types of the difference kernels; what they do is specified in `reference.py`."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

Point = NDArray[np.float64]
AsNumber = Callable[[Any, Point, int], float]

def evaluate(
    f: Callable[..., Any], x: Point, shape: tuple[int, ...], args: tuple[Any, ...], as_number: AsNumber
) -> float: ...
def central_differences(
    f: Callable[..., Any],
    x: Point,
    steps: Point,
    shape: tuple[int, ...],
    args: tuple[Any, ...],
    as_number: AsNumber,
    out: Point,
) -> None: ...
def forward_differences(
    f: Callable[..., Any],
    x: Point,
    steps: Point,
    shape: tuple[int, ...],
    args: tuple[Any, ...],
    as_number: AsNumber,
    out: Point,
) -> None: ...
