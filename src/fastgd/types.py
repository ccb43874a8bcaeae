"""Types that annotations of several modules share. A program never imports this: type checkers and editors do."""

import os
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal, Protocol, SupportsComplex, SupportsFloat, TypedDict, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastgd.data import Rows
from fastgd.descent.starts import Minimum
from fastgd.engine.result import History, Result, _Record
from fastgd.optimizers import Optimizer

Floats = NDArray[np.floating]  # float32 or float64, whichever the data are
Doubles = NDArray[np.float64]
Number = float | np.floating | np.integer
FloatsT = TypeVar("FloatsT", bound=Floats)

# ------------------------------------------------------------------------------------------------- what is descended


class LowLevelCallable(Protocol):
    """scipy.LowLevelCallable."""

    @property
    def signature(self) -> Any: ...
    @property
    def user_data(self) -> Any: ...


class CFunc(Protocol):
    """What numba.cfunc makes."""

    @property
    def address(self) -> int: ...
    @property
    def native_name(self) -> str: ...


class Sparse(Protocol):
    """A matrix or array of scipy.sparse."""

    @property
    def nnz(self) -> int: ...
    @property
    def tocsr(self) -> Callable[..., Any]: ...


CFunction = LowLevelCallable | CFunc
ScalarFunction = Callable[..., SupportsFloat | SupportsComplex] | CFunction
VectorFunction = Callable[..., ArrayLike]
Gradient = Callable[..., ArrayLike] | CFunction
Table = ArrayLike | Sparse | Rows  # (n, d); frames are converted by their __array__
Bounds = tuple[ArrayLike | None, ArrayLike | None]
Path = str | os.PathLike[str]


class Executor(Protocol):
    """A concurrent.futures executor, a Dask client, and their like."""

    @property
    def submit(self) -> Callable[..., Any]: ...


Map = Callable[..., Iterable[Any]]
Workers = int | Map | Executor | None

# --------------------------------------------------------------------------------------------------- names of choices

Scheme = Literal["central", "forward", "backward", "five-point", "richardson", "complex"]
NanPolicy = Literal["raise", "propagate"]
Activation = Literal["identity", "sigmoid", "tanh", "relu", "softplus", "exp", "softmax"]
LossName = Literal[
    "sse",
    "mse",
    "squared_error",
    "log",
    "log_loss",
    "huber",
    "poisson",
    "hinge",
    "squared_hinge",
    "epsilon_insensitive",
]
OptimizerName = Literal[
    "gd",
    "momentum",
    "nesterov",
    "adagrad",
    "adadelta",
    "rmsprop",
    "adam",
    "adamax",
    "nadam",
    "amsgrad",
    "adamw",
    "asgd",
]
Penalty = Literal["l2", "l1", "elasticnet"]
Solver = Literal["auto", "coordinate", "gram", "preconditioned", "accelerated", "gd", "sgd"]

Rate = float | Callable[[int], float]
RateOfRun = Rate | Literal["auto", "bb", "armijo", "adgd"]

# ---------------------------------------------------------------------------------------- keywords of several functions


class SamplingOptions(TypedDict, total=False):
    """How `numerical_gradient`, `numerical_jacobian` and `numerical_hessian` call f."""

    bounds: Bounds | None
    typical_x: ArrayLike | None
    vectorized: bool
    workers: int | Map | None
    args: tuple[Any, ...]
    nan_policy: NanPolicy


class DescentOptions(TypedDict, total=False):
    """Keywords that `gradient_descent` and `multi_start` share."""

    grad: Gradient | None
    optimizer: OptimizerName | Optimizer
    solver: Solver | None
    batch_size: int | None
    bounds: Bounds | None
    l1: float
    clip_value: float | None
    clip_norm: float | None
    tol: float | None
    f_tol: float | None
    x_tol: float | None
    target: float | None
    max_seconds: float | None
    callback: Callable[[Result], object] | None
    progress: bool
    verbose: int
    escape_saddles: bool
    keep: Literal["last", "best"]
    n_jobs: int | None


class StartOptions(DescentOptions, total=False):
    """Keywords that `multi_start` passes on."""

    history: bool | int | Literal["x", "fun"]


class RunOptions(DescentOptions, total=False):
    """Keywords of `gradient_descent` but `history`, which decides on the kind of the Result."""

    checkpoint: Path | None
    resume: bool
    seed: int | None
    precondition: None  # the former name of solver, which is refused


# ------------------------------------------------------------------------------- Results by what is known to be in them


class RecordedResult(Result):
    """The Result of a run with a history."""

    history: History


class BestResult(Result):
    """What `multi_start` returns."""

    runs: list[Result]
    number: int
    minima: list[Minimum]


class Epoch(_Record):
    """What the callbacks of an estimator get."""

    epoch: int
    coef: Floats
    intercept: Floats
    loss: float
    validation_score: float
    grad_norm: float
    learning_rate: float
    x: Floats
    fun: float
    nit: int
    nfev: int
    njev: int


Callbacks = Callable[[Epoch], object] | Sequence[Callable[[Epoch], object]]
