"""What is shown of a point: a line of a step or of an epoch, and what the callback of `gradient_descent` gets."""

import math

from fastgd import validation
from fastgd.engine.result import Result


def step_line(monitor, point, score):
    """The line of a step, as the textbook has it."""
    v = monitor.variables
    shown = validation.show_point(v.to_user(point.z)), validation.show_point(v.gradient_to_user(point.gradient))
    print(f"step {point.step}: x = {shown[0]}, gradient = {shown[1]}")


def epoch_line(monitor, point, score):
    """The line of an epoch."""
    if point.step:
        held_out = f", validation score {score:.6g}" if monitor.score is not None else ""
        norm, rate = monitor.user_norm(point), math.nan if monitor.last_rate is None else monitor.last_rate
        print(f"epoch {point.step}: loss {point.fun:.9g}, |gradient| {norm:.3g}, rate {rate:.3g}{held_out}")


def step_result(monitor, point, score):
    """What the callback of `gradient_descent` is called with: a Result of its own that may be kept."""
    v = monitor.variables
    jac = v.gradient_to_user(point.gradient).copy()
    nfev, njev, _ = v.spent
    return Result(x=v.to_user(point.z), fun=point.fun, jac=jac, nit=point.step, nfev=nfev, njev=njev)
