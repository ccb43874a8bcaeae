"""Types of the difference kernels; what they do is specified in `reference/differences.py`."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastgd.kernels.c_code import CFunction

Function = Callable[..., Any] | CFunction
Point = NDArray[np.float64]
AsNumber = Callable[[Any, Point, int], float]

def evaluate(f: Function, x: Point, shape: tuple[int, ...], args: tuple[Any, ...], as_number: AsNumber) -> float: ...
def sample(
    f: Function,
    x: Point,
    coordinates: NDArray[np.intp],
    values: Point,
    shape: tuple[int, ...],
    args: tuple[Any, ...],
    as_number: AsNumber,
    out: Point,
) -> None: ...
def central_differences(
    f: Function,
    x: Point,
    steps: Point,
    shape: tuple[int, ...],
    args: tuple[Any, ...],
    as_number: AsNumber,
    values: Point,
    probes: Point,
    out: Point,
) -> int: ...
def batched_differences(
    f: Callable[..., Any],
    x: Point,
    steps: Point,
    shape: tuple[int, ...],
    args: tuple[Any, ...],
    as_numbers: Callable[[Any, int], Point],
    size: int,
    values: Point,
    probes: Point,
    out: Point,
) -> int: ...
def central_slopes(x: Point, steps: Point, values: Point, probes: Point, out: Point) -> int: ...
