"""Numerical gradients of a LinearObjective, with the differences for all weights from one pass over X."""

import numpy as np

from fastgd import validation
from fastgd.data import even_blocks, threads
from fastgd.derivatives import stencils
from fastgd.kernels.codes import RELATIVE_STEP

# A pass takes at least so many times what one for value and gradient does, so it is worth threads that much earlier.
PASSES = 4
# Rows of a block, at least: the kernel pads it to a multiple of 16 rows, which is then at most a quarter more.
LEAST_ROWS = 64


def central_differences(objective, w, h=None):
    """`LinearObjective.numerical_gradient`, (F(w + h·eⱼ) − F(w − h·eⱼ))/2h for each weight, always float64."""
    o = objective
    w = validation.weights(w, "w", o.shape, np.float64)
    h = stencils.sized(w, RELATIVE_STEP, h, of="w").reshape(w.shape)
    with np.errstate(all="ignore"):
        above, below = w + h, w - h
        distance = above - below
        for bad, what in (
            (distance == 0, "small to move it"),
            (~np.isfinite(distance), "large: w ± h overflows"),
        ):
            if bad.any():
                index = tuple(np.argwhere(bad)[0].tolist())
                raise ValueError(f"h is {h[index]:g} for {validation.entry('w', index)} = {w[index]:g}, too {what}")
        (W, b), (steps, step_b) = o.split(w), o.split(0.5 * distance)
        steps, step_b = np.ascontiguousarray(steps), step_b if o.fit_intercept else np.empty(0)
        by_W, by_b = threads.tree_sum(
            threads.over_blocks(
                lambda block: o.rows.differences(block, W, b, steps, step_b, *o.codes),
                even_blocks(o.rows.n, o.rows.values, o.rows.d, LEAST_ROWS),
                o.jobs(threads.THREAD_VALUES // PASSES),
            )
        )
        gradient = o.factor * o.join(by_W, by_b) / distance
        # The penalty's part, ½·l2·(above² − below²)/(above − below) = ½·l2·(above + below), without cancellation.
        W_above, W_below = o.split(above)[0], o.split(below)[0]
        o.split(gradient)[0][...] += 0.5 * o.penalty.l2_of_columns() * (W_above + W_below)
    bad = validation.first_bad(gradient)
    if bad is not None:
        moved = ""
        if np.isfinite(o.value(w)):
            moved = f", {validation.entry('w', bad)} having been moved by {h[bad]:g}"
        raise ValueError(f"the loss is not finite at w = {validation.show_point(w)}{moved}")
    return gradient
