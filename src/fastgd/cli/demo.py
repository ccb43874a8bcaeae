"""What `fastgd demo` shows: a line by descent on a small table, the loss as it falls, and the gradient checked."""

import click
import numpy as np

from fastgd.cli.printing import draw
from fastgd.datasets import load_women, women_path
from fastgd.derivatives.gradient import numerical_gradient
from fastgd.descent.single import gradient_descent
from fastgd.objective import LinearObjective


def show(plot, no_picture):
    """Print the three parts; `no_picture` is why there is none, or None."""
    X, y = load_women()
    objective = LinearObjective(X, y, loss="mse", fit_intercept=True)
    result = gradient_descent(objective, lr="auto", tol=1e-12)
    r2 = 1 - result.fun / y.var()
    steps = "1 step" if result.nit == 1 else f"{result.nit} steps"
    click.echo(
        f"1. A line through {len(y)} heights (inches) and average weights (pounds) of American women\n\n"
        f"   weight = {_line(*result.x)}\n\n"
        f"   Mean squared error {result.fun:.10g}, R² {r2:.6g}. No learning rate was\n"
        "   given: inside, the heights are centred and scaled, and then a line takes\n"
        f"   {steps}. The same from the shell:\n\n"
        f"   fastgd fit {women_path()} --target weight\n"
    )
    # One step shows no descent: repeat it with the fixed rate of a textbook.
    mean, spread, rate, count = X.mean(), X.std(), 0.1, 100
    textbook = LinearObjective((X - mean) / spread, y, loss="mse", fit_intercept=True)
    by_formula = gradient_descent(textbook, lr=rate, step_num=count, history=True)
    click.echo(
        f"2. The loss falling step by step, at a fixed rate of {rate:g}\n\n"
        f"   Now the heights are standardised by hand, z = (height - {mean:g}) / {spread:.4f}, and a and b in\n"
        "   weight = a*z + b start at zero. The last column is the same line for heights in inches.\n\n"
        f"   step            loss  weight ="
    )
    for step in (0, 1, 2, 3, 5, 10, 20, 50, 100):
        a, b = by_formula.history.x[step]
        click.echo(f"   {step:4}  {by_formula.history.fun[step]:14.8f}  {_line(a / spread, b - a * mean / spread)}")
    if no_picture:
        click.echo(f"\n   No picture: {no_picture}\n")
    else:
        title = f"Loss at each step, rate {rate:g}, standardised heights"
        draw(plot, objective, result.x, "height", "weight", by_formula.history, loss_title=title)
        click.echo(f"\n   The line and the falling loss are drawn in {plot.resolve()}\n")

    by_differences = gradient_descent(textbook.value, np.zeros(2), lr=rate, step_num=count, history=True)
    click.echo(
        "3. The same descent by numerical gradient\n\n"
        "   Each step follows the gradient, dL/da and dL/db: how fast the loss L changes with a and with b. Above, a\n"
        "   formula gave it. A numerical gradient needs only the loss: it moves each weight a little up and down and\n"
        "   looks how much L changes. At points of the path above both find the same:\n\n"
        "              by formula                      numerical\n"
        "   step          dL/da          dL/db          dL/da          dL/db"
    )
    for step in (0, 1, 10, 50):
        w = by_formula.history.x[step]
        _print_pairs(step, textbook.gradient(w), numerical_gradient(textbook.value, w))
    click.echo(
        "\n   And from the same start, at the same rate, it goes down the same path:\n\n"
        "              by formula                      numerical\n"
        "   step              a              b              a              b"
    )
    for step in (0, 1, 2, 10, 50, 100):
        _print_pairs(step, by_formula.history.x[step], by_differences.history.x[step])
    apart = float(np.abs(by_formula.history.x - by_differences.history.x).max())
    click.echo(f"\n   Over all {count} steps the two paths are nowhere more than {apart:.1e} apart.")


def _line(slope, intercept):
    return f"{slope:.8f} * height {'-' if intercept < 0 else '+'} {abs(intercept):.8f}"


def _print_pairs(step, first, second):
    click.echo(f"   {step:4}" + "".join(f" {value:14.7f}" for value in (*first, *second)))
