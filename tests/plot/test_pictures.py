"""Pictures against pictures that a person has looked at, without their text, which no two machines draw alike.

`python tests/plot/test_pictures.py` draws those of `baseline/` anew; look at them before they are committed.
"""

import io
import sys
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from matplotlib import pyplot as plt
from matplotlib.text import Text
from PIL import Image

import fastgd
from fastgd import plot

pytestmark = pytest.mark.one_build
BASELINE = Path(__file__).parent / "baseline"


def rosenbrock(x):
    return 100 * (x[1] - x[0] ** 2) ** 2 + (1 - x[0]) ** 2


def bowl(x):
    return x[0] ** 2 + 10 * x[1] ** 2


def four_valleys(x):
    return float(np.sum(x**4 - 16 * x**2 + 5 * x) / 2)


def run(f, start, **settings):
    try:
        return fastgd.gradient_descent(f, np.array(start), history=True, **settings)
    except fastgd.DivergenceError as error:
        return error


RATES = {"too small": 0.003, "right": 0.08, "too large": 0.101}


def contour():
    return plot.contour(rosenbrock, (-2, 2), (-1, 3))


def surface():
    return plot.surface(bowl, run=run(bowl, [-3.0, 2.0], lr=0.09, step_num=20))


def rates():
    runs = {name: run(bowl, [-3.0, 2.0], lr=lr, step_num=15) for name, lr in RATES.items()}
    return plot.learning_rates(runs, f=bowl)[0]


def starts():
    found = fastgd.multi_start(four_valleys, ([-4, -4], [4, 4]), 8, lr=0.01, step_num=80, history=True)
    return plot.trajectories(found, four_valleys)


def losses():
    return plot.loss({name: run(bowl, [-3.0, 2.0], lr=lr, step_num=40) for name, lr in RATES.items()})


def bands():
    x, y = fastgd.datasets.load_women()
    return plot.fit(fastgd.GDRegressor(penalty=None).fit(x, y), x, y=y, level=0.95)


PICTURES = (contour, surface, rates, starts, losses, bands)


def without_text(draw):
    """The picture as small grey numbers, (height, width), without text and legends."""
    with matplotlib.rc_context(matplotlib.rcParamsDefault | {"backend": matplotlib.get_backend()}):
        figure = draw().figure
    for ax in figure.axes:
        if ax.get_legend() is not None:
            ax.get_legend().remove()
        ax.set(xlabel="", ylabel="", title="")
        ax.tick_params(labelbottom=False, labelleft=False, labelright=False)
    for legend in figure.legends:
        legend.remove()
    for text in figure.findobj(Text):
        text.set_visible(False)
    figure.set_layout_engine("none")
    columns = max(1, sum(ax.get_label() != "<colorbar>" for ax in figure.axes))
    places = {False: iter(range(columns)), True: iter(range(columns))}
    for ax in figure.axes:
        bar = ax.get_label() == "<colorbar>"
        left = next(places[bar]) / columns
        ax.set_axes_locator(None)
        ax.set_position((left + 0.88 / columns, 0.1, 0.04 / columns, 0.8) if bar else (left, 0.1, 0.85 / columns, 0.8))
    drawn = io.BytesIO()
    figure.savefig(drawn, dpi=40, format="png")
    plt.close(figure)
    with Image.open(drawn) as image:
        return image.convert("L")


@pytest.mark.parametrize("draw", PICTURES, ids=lambda draw: draw.__name__)
def test_a_picture_is_the_one_that_was_looked_at(draw):
    new = np.asarray(without_text(draw), dtype=float) / 255
    with Image.open(BASELINE / f"{draw.__name__}.png") as image:
        old = np.asarray(image, dtype=float) / 255
    assert new.shape == old.shape
    # A line that moves by a pixel changes little of a picture; one that is missing changes more.
    blocks = np.abs(new - old)[: old.shape[0] // 8 * 8, : old.shape[1] // 8 * 8]
    means = blocks.reshape(old.shape[0] // 8, 8, -1, 8).mean(axis=(1, 3))
    assert means.mean() < 0.01 and means.max() < 0.2


if __name__ == "__main__":
    BASELINE.mkdir(exist_ok=True)
    for draw in PICTURES:
        if not sys.argv[1:] or draw.__name__ in sys.argv[1:]:
            without_text(draw).save(BASELINE / f"{draw.__name__}.png", optimize=True)
