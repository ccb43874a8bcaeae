"""Types for annotations. Only type checkers and editors import this module, never a running program."""

import os
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal, Protocol, SupportsComplex, SupportsFloat, TypedDict, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastgd.data import Rows, Scan
from fastgd.descent.listed import Sweep as Sweep
from fastgd.descent.starts import Minimum
from fastgd.engine.result import History, Result, _Record
from fastgd.optimizers import Optimizer

Steps = ArrayLike | None  # a step, one for each coordinate, or the library's own
Floats = NDArray[np.floating]  # float32 or float64, as the data
Doubles = NDArray[np.float64]
Number = float | np.floating | np.integer
FloatsT = TypeVar("FloatsT", bound=Floats)

# ------------------------------------------------------------------------------------------------ functions and data


class LowLevelCallable(Protocol):
    """scipy.LowLevelCallable."""

    @property
    def signature(self) -> Any: ...
    @property
    def user_data(self) -> Any: ...


class CFunc(Protocol):
    """A function compiled by numba.cfunc."""

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


class Frame(Protocol):
    """A table of pandas, polars, pyarrow or others."""

    def __arrow_c_stream__(self, requested_schema: Any = None) -> Any: ...


CFunction = LowLevelCallable | CFunc
ScalarFunction = Callable[..., SupportsFloat | SupportsComplex] | CFunction
VectorFunction = Callable[..., ArrayLike]
Gradient = Callable[..., ArrayLike] | CFunction
ValueAndGradient = Callable[..., tuple[SupportsFloat, Any]]  # what f is with grad=True
Table = ArrayLike | Sparse | Rows | Frame | Scan  # (n, d)


class ScipyBounds(Protocol):
    """scipy.optimize.Bounds."""

    @property
    def lb(self) -> Any: ...
    @property
    def ub(self) -> Any: ...


Bounds = tuple[ArrayLike | None, ArrayLike | None] | ScipyBounds
Groups = ArrayLike | Sequence[Sequence[int | str]]  # labels of the columns, or the columns of each group
Path = str | os.PathLike[str]


class Executor(Protocol):
    """A concurrent.futures executor, a Dask client or anything else with `submit`."""

    @property
    def submit(self) -> Callable[..., Any]: ...


Map = Callable[..., Iterable[Any]]
Workers = int | Map | Executor | None

# --------------------------------------------------------------------------------------------------- names of choices

Scheme = Literal["central", "forward", "backward", "five-point", "richardson", "complex"]
NanPolicy = Literal["raise", "propagate"]
Activation = Literal["identity", "sigmoid", "tanh", "relu", "softplus", "exp", "softmax"]
OptimizerName = Literal[
    "gd", "momentum", "nesterov", "adagrad", "adadelta", "rmsprop", "adam", "adamax", "nadam", "amsgrad", "adamw",
    "asgd",
]  # fmt: skip
Penalty = Literal["l2", "l1", "elasticnet", "group"]
Solver = Literal["auto", "coordinate", "newton", "gram", "preconditioned", "accelerated", "gd", "sgd"]

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


class SchemeOptions(SamplingOptions, total=False):
    """The same with the scheme of the differences."""

    scheme: Scheme


class DescentOptions(TypedDict, total=False):
    """Keywords that `gradient_descent` and `multi_start` share."""

    grad: Gradient | Callable[..., Any] | Literal[True] | None
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
    verbose: int
    escape_saddles: bool
    keep: Literal["last", "best"]
    n_jobs: int | None


class StartOptions(DescentOptions, total=False):
    """Keywords that `multi_start` passes on."""

    history: bool | int | Literal["x", "fun"]


class RunOptions(DescentOptions, total=False):
    """Keywords of `gradient_descent` except `history`, on which the type of the result depends."""

    checkpoint: Path | None
    progress: bool
    resume: bool
    seed: int | None
    precondition: None  # the former name of solver, which is refused


# ------------------------------------------------------------------------------------------------- kinds of results


class RecordedResult(Result):
    """The Result of a run with a history."""

    history: History


class NamedResult(Result):
    """The Result of a run on a dict of arrays."""

    x: dict[str, Any]  # type: ignore[assignment]
    jac: dict[str, Any]  # type: ignore[assignment]
    history: Any


class SweptResult(Result):
    """A result of `sweep`; the losses are there with grid=True, the second with `validation`."""

    settings: dict[str, Any]
    loss: float
    validation_loss: float


class RecordedSweptResult(SweptResult, RecordedResult):
    """The same with a history."""


class BestResult(Result):
    """The result of `multi_start`."""

    runs: list[Result]
    number: int
    minima: list[Minimum]


class Epoch(_Record):
    """The argument of an estimator's callbacks."""

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
