# pyright: strict
"""A user's program with every public name, for type checkers and to be run: what the main calls give has a type.

`assert_type` fails where a checker sees another type, Any included.
"""

import tempfile
from pathlib import Path
from typing import Any, assert_type

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

import fastgd
from fastgd import types
from fastgd.derivatives import check, jacobian
from fastgd.derivatives import gradient as numdiff

Floats = NDArray[np.floating[Any]]
Doubles = NDArray[np.float64]


def bowl(x: Doubles) -> float:
    return float(x[0] ** 2 + x[1] ** 2)


def bowl_gradient(x: Doubles) -> Doubles:
    return 2 * x


def square(x: float) -> float:
    return x * x


def derivatives() -> None:
    at = np.array([3.0, 4.0])
    assert_type(fastgd.numerical_diff(square, 1), float)
    assert_type(fastgd.numerical_diff(np.sin, at), Doubles)
    assert_type(fastgd.numerical_gradient(square, 2.0), float)
    assert_type(fastgd.numerical_gradient(bowl, [3, 4], scheme="five-point"), Doubles)
    assert_type(fastgd.numerical_gradient(square, 2.0, full_output=True), numdiff.Derivative[float])
    found = fastgd.numerical_gradient(bowl, at, 1e-4, bounds=(0, [9.0, 9.0]), full_output=True)
    assert_type(found, numdiff.Derivative[Doubles])
    assert_type(found.gradient, Doubles)
    assert_type(found.nfev, int)
    assert_type(fastgd.numerical_jacobian(bowl_gradient, at), Doubles)
    assert_type(fastgd.numerical_jacobian(bowl_gradient, at, full_output=True), jacobian.JacobianEstimate[Doubles])
    assert_type(fastgd.numerical_jacobian(bowl_gradient, at, sparsity=np.eye(2)).nnz, int)
    assert_type(fastgd.numerical_hessian(bowl, at), Doubles)
    assert_type(fastgd.numerical_hessian(bowl, at, full_output=True).error, Doubles)
    assert_type(fastgd.hessian_vector_product(bowl_gradient, at, [1, 0]), Doubles)
    assert_type(fastgd.check_gradient(bowl, bowl_gradient, at), check.GradientCheck)


def descent() -> None:
    result = fastgd.gradient_descent(bowl, [-3.0, 4.0], 0.1, 20, grad=bowl_gradient, optimizer="adam", tol=1e-3)
    assert_type(result, fastgd.Result)
    assert_type(result.x, Floats)
    assert_type(result.fun, float)
    assert_type(result.nit, int)
    assert_type(result.status, fastgd.Status)
    assert_type(result.history, fastgd.History | None)
    rate = fastgd.schedules.warmup(fastgd.schedules.cosine_decay(0.1, 20), 5)
    assert_type(rate(3), float)
    rule = fastgd.optimizers.Momentum(0.5)
    recorded = fastgd.gradient_descent(bowl, [-3.0, 4.0], rate, 20, optimizer=rule, history=True)
    assert_type(recorded.history, fastgd.History)
    assert_type(recorded.history.fun, Floats)
    assert_type(fastgd.gradient_descent(bowl, [1.0, 1.0], history=10).history.step, NDArray[np.int64])
    assert_type(fastgd.gradient_descent(bowl, [1.0, 1.0], keep="best", max_seconds=10), fastgd.Result)
    assert_type(rule.stable_rate(2.0), float)
    w = np.array([1.0, -2.0])
    moved, state = rule.step(w, 2 * w, rule.init(w), 0.25)
    assert_type(state.copy(), fastgd.optimizers.State)
    assert moved is w

    def watch(result: fastgd.Result) -> None:
        if result.fun < 1:
            raise StopIteration

    fastgd.gradient_descent(bowl, [-3.0, 4.0], lr="auto", callback=watch)
    best = fastgd.multi_start(bowl, ([-2.0, -2.0], [2.0, 2.0]), 4, lr=0.1, step_num=50, tol=1e-6)
    assert_type(best.x, Floats)
    assert_type(best.runs, list[fastgd.Result])
    assert_type(best.minima[0].count, int)
    found = fastgd.classify(bowl, best.x, bowl_gradient)
    assert_type(found.eigenvalues, Doubles)
    assert found.kind == "minimum"


def models(folder: Path) -> None:
    X, y = fastgd.datasets.load_women()
    assert_type(X, Doubles)
    objective = fastgd.LinearObjective(X, y, loss="mse", fit_intercept=True)
    assert_type(objective.value([0, 0]), float)
    assert_type(objective.gradient([0, 0]), Floats)
    assert_type(objective.value_and_gradient([0, 0]), tuple[float, Floats])
    assert_type(objective.numerical_gradient([0, 0]), Floats)
    assert_type(objective.lipschitz(), float)
    solved = fastgd.gradient_descent(objective, solver="preconditioned", tol=1e-6)
    assert_type(solved.gap, float | None)
    assert_type(solved.certified, bool)
    assert_type(solved.n_passes, int)
    assert_type(solved.solver, str)
    assert_type(fastgd.sweep(objective, lr=[1e-5, 1e-4]), types.Sweep[types.SweptResult])
    grid = fastgd.sweep(objective, grid=True, lr=[1e-5, "auto"], optimizer=["gd", "adam"], validation=0.2)
    fastgd.plot.sweep(grid, Figure().add_subplot())
    assert_type(fastgd.sweep(objective, lr=np.array([1e-5]), history=True)[0].history.lr, Doubles)
    try:
        fastgd.gradient_descent(objective, lr=0.1)
    except fastgd.DivergenceError as error:
        assert_type(error.step, int)
        assert_type(error.stable_lr, float | None)
        assert_type(error.result, fastgd.Result)
    assert_type(fastgd.sse(X, y, [1.0]), float)
    assert_type(fastgd.sigmoid(0.0), np.floating[Any])
    assert_type(fastgd.sigmoid_prime([0.0, 1.0]), Floats)

    def watch(epoch: types.Epoch) -> None:
        assert_type(epoch.coef, Floats)
        assert_type(epoch.learning_rate, float)

    path = folder / "run.npz"
    fastgd.GDRegressor(target=1e-9, max_seconds=60, checkpoint=path, resume=True, callbacks=watch).fit(X, y)
    model = fastgd.GDRegressor(learning_rate="auto").fit(X, y)
    assert_type(model, fastgd.GDRegressor)
    assert_type(model.coef_, Floats)
    assert_type(model.predict(X), Floats)
    assert_type(model.score(X, y), float)
    assert_type(model.history_, fastgd.History)
    assert_type(model.history_.loss, Doubles)
    assert_type(model.result_, fastgd.Result)
    assert_type(model.result_.status, fastgd.Status)
    assert_type(model.summary().p_values, Doubles)
    model.save(folder / "model.json")
    assert_type(fastgd.GDRegressor.load(folder / "model.json"), fastgd.GDRegressor)
    classifier = fastgd.GDClassifier(class_weight="balanced").fit(X, y > y.mean())
    assert_type(classifier.predict_proba(X), Floats)
    assert_type(classifier.classes_, NDArray[Any])
    assert issubclass(fastgd.DivergenceWarning, Warning)
    assert issubclass(fastgd.ConditionWarning, Warning)


def pictures() -> None:
    result = fastgd.gradient_descent(bowl, [-3.0, 4.0], 0.1, history=True)
    ax = fastgd.plot.trajectory(result, bowl)
    assert_type(ax.figure, Figure)
    assert_type(fastgd.plot.loss(result, Figure().add_subplot()), Axes)
    assert_type(fastgd.plot.surface(bowl, (-1, 1), (-1, 1)).figure, Figure)


if __name__ == "__main__":
    assert_type(fastgd.__version__, str)
    assert_type(fastgd.show_config()["kernels"], str)
    derivatives()
    descent()
    with tempfile.TemporaryDirectory() as name:
        models(Path(name))
    pictures()
