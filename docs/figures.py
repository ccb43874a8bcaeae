"""Draw the figures of these pages: python docs/figures.py [DIRECTORY]

Each function below draws one picture and returns its Figure; the name of the function is the name of the file.
"""

import argparse
from pathlib import Path

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from PIL import Image

import fastgd
from fastgd import plot


def run(f, init_x=None, **settings):
    """A run with its history: the Result, or the DivergenceError."""
    try:
        return fastgd.gradient_descent(f, init_x, history=True, **settings)
    except fastgd.DivergenceError as error:
        return error


def panels(count):
    """Axes side by side."""
    return list(Figure(figsize=(5.2 * count, 4.4), layout="compressed").subplots(1, count))


# ------------------------------------------------------------------------------------------------------ the functions


def sigmoid_unit(fit_intercept=True):
    """The mean squared loss of one sigmoid unit on eight points."""
    x = np.array([-3.0, -2.0, -1.5, -0.5, 0.5, 1.0, 2.0, 3.0])
    t = np.array([0.0, 0.0, 0.0, 1.0, 0.0, 1.0, 1.0, 1.0])
    return fastgd.LinearObjective(x[:, None], t, activation="sigmoid", loss="mse", fit_intercept=fit_intercept)


def four_valleys(x):
    """Σ (xᵢ⁴ − 16xᵢ² + 5xᵢ)/2, the function of Styblinski and Tang: of its minima only one is the lowest."""
    return float(np.sum(x**4 - 16 * x**2 + 5 * x) / 2)


def saddle(x):
    """Minima at (0, ±1), and between them a saddle point at the origin."""
    return x[0] ** 2 + x[1] ** 4 / 4 - x[1] ** 2 / 2


def bowl(x):
    return x[0] ** 2 + x[1] ** 2


def beale(v):
    """Σ (cᵢ − x + x·yⁱ)² with c = 1.5, 2.25, 2.625: steep walls, and a flat valley whose lowest point is (3, ½)."""
    x, y = v
    return sum((c - x + x * y**i) ** 2 for i, c in enumerate((1.5, 2.25, 2.625), start=1))


def women():
    X, y = fastgd.datasets.load_women()
    return fastgd.LinearObjective(X, y, loss="mse", fit_intercept=True)


# ------------------------------------------------------------------------------------------------------ the pictures


def s0_sigmoid():
    ax = plot.tangent(fastgd.sigmoid, 0.07, xlim=(-6, 6))
    ax.set(xlabel="h", ylabel="σ(h)", title="The sigmoid, and its slope at h = 0.07")
    return ax.figure


def s1_one_weight():
    unit = sigmoid_unit(fit_intercept=False)
    rates = {"Rate 1: down the slope": (1.0, 40), "Rate 20: over the minimum, and back": (20.0, 20)}
    paths = {name: run(unit, [-2.0], lr=lr, step_num=steps) for name, (lr, steps) in rates.items()}
    axes = plot.learning_rates(paths, f=unit)
    for ax in axes:
        ax.set(xlabel="weight", ylabel="loss")
    return axes[0].figure


def s1_surface():
    unit = sigmoid_unit()
    path = run(unit, [-3.0, 4.0], lr=2.0, step_num=150)
    ax = plot.surface(unit, (-4, 6), (-6, 6), run=path, elev=40)
    ax.set(xlabel="w", ylabel="b", zlabel="loss", title="The loss of a sigmoid unit, and a descent on it")
    return ax.figure


def s1_decay():
    def kink(w):
        return abs(w[0] - 1)

    rates = {"fixed rate, 0.3": 0.3, "decaying rate, 0.3 / (1 + 0.3·step)": lambda step: 0.3 / (1 + 0.3 * step)}
    ax = plot.path({name: run(kink, [0.0], lr=lr, step_num=60) for name, lr in rates.items()})
    ax.set_title("A fixed rate bounces around the minimum of |w − 1|, at 1")
    return ax.figure


def s1_minima():
    starts = {"to the global minimum": [-0.5, -1.0], "caught in a local one": [1.0, 0.8]}
    paths = {name: run(four_valleys, start, lr=0.01, step_num=60) for name, start in starts.items()}
    ax = plot.trajectories(paths, four_valleys, xlim=(-4.5, 4.5), ylim=(-4.5, 4.5))
    ax.set_title("Where a run ends depends on where it starts")
    return ax.figure


def s1_basins():
    left, right = panels(2)
    best = fastgd.multi_start(four_valleys, ([-4.5, -4.5], [4.5, 4.5]), 24, lr=0.01, step_num=100, history=True)
    plot.trajectories(best, four_valleys, left, xlim=(-4.5, 4.5), ylim=(-4.5, 4.5))
    left.set_title("24 starts, and the minima that they find")
    plot.basins(four_valleys, (-4.5, 4.5), (-4.5, 4.5), right, lr=0.01)
    return left.figure


def s1_saddle():
    left, right = panels(2)
    path = run(saddle, [1.0, 0.001], lr=0.1, step_num=140)
    plot.trajectory(path, saddle, left, xlim=(-1.2, 1.2), ylim=(-0.6, 1.4))
    left.set_title("The path turns at the saddle point")
    plot.loss(path, right)
    right.set_title("The plateau is the time spent there")
    return left.figure


def s2_parabola():
    ax = plot.tangent(lambda x: x**2, 1.5, xlim=(-3, 3))
    ax.set_title("The slope at a point says which way is down")
    return ax.figure


def s2_rates():
    rates = {"too small": 1e-6, "right": 1e-4, "too large": 2.5e-4}
    ax = plot.loss({f"{name}: {lr:g}": run(women(), lr=lr, step_num=60) for name, lr in rates.items()})
    ax.set_title("The women table on its raw columns")
    return ax.figure


def s2_fit():
    names = {"feature_name": "height [in]", "target_name": "weight [lb]"}
    ax = plot.fit(women(), run(women(), lr="auto"), level=0.95, **names)
    ax.set_title("weight = 3.45·height − 87.52")
    return ax.figure


def s2_noise():
    X = np.random.default_rng(0).normal(size=(500, 4))
    y = X @ [1.0, -2.0, 0.5, 3.0] + np.random.default_rng(1).normal(size=500)
    table = fastgd.LinearObjective(X, y, loss="mse")
    least = fastgd.gradient_descent(table, lr="auto", tol=1e-14).fun
    sizes = {"1 row": 1, "20 rows": 20, "all 500 rows": 500}
    runs = {name: run(table, lr=0.02, step_num=400, batch_size=size) for name, size in sizes.items()}
    ax = plot.loss(runs, minimum=least)
    ax.set_title("Steps on batches: the smaller, the noisier")
    return ax.figure


def s3_path():
    ax = plot.trajectory(run(bowl, [-3.0, 4.0], lr=0.1, step_num=30), bowl)
    ax.set_title("From (−3, 4): each step leaves 0.8 of the distance")
    return ax.figure


def s4_one_step():
    points = fastgd.LinearObjective([[-1.0], [0.0], [1.0]], [-3.0, 0.0, 1.0], loss="mse", fit_intercept=True)
    axes = panels(2)
    for ax, w, name in zip(axes, ([3.0, 1.0], [4.0, 0.0]), ("3x + 1, distance 11", "4x, distance 10"), strict=True):
        plot.fit(points, w, ax)
        ax.set(title=f"y = {name}", ylim=(-5, 5))
    return axes[0].figure


def s4_slopes():
    ax = plot.tangent(lambda x: x**3 + x**2 + x, [1.0, -1.0], xlim=(-2, 2))
    ax.set_title("x³ + x² + x at x = 1 and x = −1")
    return ax.figure


def descent_optimizers():
    settings = {
        "gd": {"lr": 0.01},
        "momentum": {"lr": 0.003, "optimizer": "momentum"},
        "adam": {"lr": 0.1, "optimizer": "adam"},
        'lr="auto"': {"lr": "auto"},
    }
    runs = {name: run(beale, [0.5, 1.3], step_num=100, **chosen) for name, chosen in settings.items()}
    runs = {f"{name}, f = {path.fun:.1g}": path for name, path in runs.items()}
    ax = plot.trajectories(runs, beale, xlim=(-0.5, 4.2), ylim=(-1.5, 1.6))
    ax.set_title("100 steps on Beale's function, from (0.5, 1.3) towards (3, 0.5)")
    return ax.figure


def descent_schedule():
    X = np.random.default_rng(0).normal(size=(500, 4))
    y = X @ [1.0, -2.0, 0.5, 3.0] + np.random.default_rng(1).normal(size=500)
    table = fastgd.LinearObjective(X, y, loss="mse")
    least = fastgd.gradient_descent(table, lr="auto", tol=1e-14).fun
    s = fastgd.schedules
    rates = {
        "constant": s.constant(0.1),
        "inverse_time_decay": s.inverse_time_decay(0.1, 0.02),
        "warmup, cosine_decay": s.warmup(s.cosine_decay(0.1, 900), 100),
    }
    left, right = panels(2)
    plot.schedules(rates, 1000, left)
    runs = {name: run(table, lr=rate, step_num=1000, batch_size=5) for name, rate in rates.items()}
    plot.loss(runs, right, minimum=least)
    right.set_title("Batches of 5 rows: the noise falls with the rate")
    return left.figure


def models_sweep():
    X, y = np.random.default_rng(0).normal(size=(40, 20)), np.random.default_rng(1).normal(size=40)
    table = fastgd.LinearObjective(X, y + X[:, 0], loss="mse")
    grid = {"lr": [0.001, 0.01, 0.1, 0.3], "l2": [0.01, 0.1, 1.0, 3.0]}
    ax = plot.sweep(fastgd.sweep(table, grid=True, **grid, step_num=200, validation=0.25))
    ax.set_title("Loss of the rows that were held out")
    return ax.figure


FIGURES = (
    s0_sigmoid, s1_one_weight, s1_surface, s1_decay, s1_minima, s1_basins, s1_saddle, s2_parabola, s2_rates, s2_fit,
    s2_noise, s3_path, s4_one_step, s4_slopes, descent_optimizers, descent_schedule, models_sweep,
)  # fmt: skip


def file_name(draw):
    return draw.__name__.replace("_", "-") + ".png"


def save(figure, path):
    """Save a figure in 128 colours: these drawings look the same in a third of the bytes."""
    figure.savefig(path, dpi=90)
    with Image.open(path) as image:
        image.convert("RGB").quantize(128, dither=Image.Dither.NONE).save(path, optimize=True)


def main():
    parser = argparse.ArgumentParser(description="Draw every picture of the documentation.")
    parser.add_argument("directory", type=Path, nargs="?", default=Path(__file__).parent / "images")
    directory = parser.parse_args().directory
    directory.mkdir(parents=True, exist_ok=True)
    for draw in FIGURES:
        save(draw(), directory / file_name(draw))
        plt.close("all")


if __name__ == "__main__":
    main()
