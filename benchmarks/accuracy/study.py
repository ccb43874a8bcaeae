"""How many published problems numerical gradients of several libraries solve, and with how many evaluations.

    python benchmarks/accuracy/study.py                 the table, and who fails where
    python benchmarks/accuracy/study.py --sets CUTEst --points start --ways fastgd "SciPy 3-point"

A problem is solved where max |g − e| / max(1, |e|) ≤ 1e-6 over the coordinates, e being the exact gradient. Needs
`pip install 'fastgd[accuracy]'`. JAX compiles each problem, which takes two minutes; with JAX_COMPILATION_CACHE_DIR
set to a folder and JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS to 0 it is for the first run only.
"""

import argparse
import collections
import dataclasses
import functools
import importlib.metadata
import statistics
import warnings

import numpy as np
import problems

import fastgd

TOLERANCE = 1e-6
MANY = 8  # names to show of those that were not solved, unless all are asked for

# ------------------------------------------------------------------------------------------------ ways to a gradient


def fast(**options):
    return lambda f, x: fastgd.numerical_gradient(f, x, **options)


def scipy_difference(method):
    def gradient(f, x):
        from scipy.optimize._numdiff import approx_derivative

        return approx_derivative(f, x, method=method)

    return gradient


def scipy_differentiate(f, x):
    from scipy.differentiate import jacobian

    return jacobian(lambda points: np.apply_along_axis(f, 0, points), x).df


def numdifftools_gradient(f, x):
    import numdifftools

    return numdifftools.Gradient(f)(x)


def optimagic_derivative(f, x):
    import optimagic

    return optimagic.first_derivative(f, x).derivative


def statsmodels_central(f, x):
    from statsmodels.tools.numdiff import approx_fprime

    return approx_fprime(x, f, centered=True)


def textbook(f, x, h=1e-4):
    x, gradient = x.copy(), np.zeros_like(x)
    for i in range(x.size):
        value = x[i]
        x[i] = value + h
        above = f(x)
        x[i] = value - h
        below = f(x)
        gradient[i] = (above - below) / (2 * h)
        x[i] = value
    return gradient


WAYS = {
    "fastgd": fast(),
    "fastgd richardson": fast(scheme="richardson"),
    "fastgd five-point": fast(scheme="five-point"),
    "fastgd forward": fast(scheme="forward"),
    "fastgd complex": fast(scheme="complex"),
    "fastgd h=1e-4": fast(h=1e-4),
    "SciPy 2-point": scipy_difference("2-point"),
    "SciPy 3-point": scipy_difference("3-point"),
    "SciPy cs": scipy_difference("cs"),
    "scipy.differentiate": scipy_differentiate,
    "numdifftools": numdifftools_gradient,
    "optimagic": optimagic_derivative,
    "statsmodels": statsmodels_central,
    "textbook, h=1e-4": textbook,
}
YARDSTICK = "SciPy 3-point"
PACKAGES = "fastgd numpy scipy numdifftools optimagic statsmodels sif2jax argmin-testfunctions-py"

# ------------------------------------------------------------------------------------------------------- one problem


@dataclasses.dataclass
class Outcome:
    """The outcome of one library on one problem."""

    problem: problems.Problem
    error: float
    evaluations: int
    raised: str = ""

    @property
    def solved(self):
        return self.error <= TOLERANCE

    @property
    def per_variable(self):
        return self.evaluations / self.problem.x.size

    def __str__(self):
        return f"{self.problem} ({self.raised or f'{self.error:.0e}'})"


def attempt(way, problem):
    """The outcome of a way on a problem, its evaluations counted in f itself."""
    evaluations = 0

    def f(x):
        nonlocal evaluations
        evaluations += 1
        return problem.f(x)

    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            error, raised = problem.error(way(f, problem.x.copy())), ""
        except Exception as exception:  # whatever a library raises is a result
            error, raised = np.inf, type(exception).__name__
    return Outcome(problem, error, evaluations, raised)


# --------------------------------------------------------------------------------------------------------- the table


def installed(name):
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def table(outcomes):
    """Markdown: a row for each way, a column for each set and kind of point."""
    groups = list(dict.fromkeys(group(outcome) for outcome in outcomes[YARDSTICK]))
    sizes = collections.Counter(map(group, outcomes[YARDSTICK]))
    head = [f"{name} ({sizes[name]})" for name in groups]
    lines = [
        "| | " + " | ".join(head) + " | evaluations per variable | mends | loses | raised |",
        "| --- |" + " ---: |" * (len(groups) + 4),
    ]
    yardstick = [outcome.solved for outcome in outcomes[YARDSTICK]]
    for way, results in outcomes.items():
        solved = collections.Counter(group(outcome) for outcome in results if outcome.solved)
        mends = sum(outcome.solved and not other for outcome, other in zip(results, yardstick, strict=True))
        loses = sum(other and not outcome.solved for outcome, other in zip(results, yardstick, strict=True))
        spent = [outcome.per_variable for outcome in results if not outcome.raised]
        typical = f"{statistics.median(spent):.3g} (≤ {max(spent):.3g})" if spent else "–"
        cells = [str(solved[name]) for name in groups]
        cells += [
            typical,
            f"{mends} of {yardstick.count(False)}",
            str(loses),
            str(sum(bool(o.raised) for o in results)),
        ]
        lines.append(f"| {way} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def group(outcome):
    return f"{outcome.problem.source}, {'start' if outcome.problem.point == 'start' else 'near it'}"


def failures(outcomes, everything):
    """For each way the problems that it did not solve, worst first."""
    lines = []
    for way, results in outcomes.items():
        failed = sorted((outcome for outcome in results if not outcome.solved), key=lambda outcome: -outcome.error)
        names = [str(outcome) for outcome in (failed if everything else failed[:MANY])]
        more = f" and {len(failed) - len(names)} more" if len(failed) > len(names) else ""
        lines.append(f"{way}: {', '.join(names) or 'none'}{more}")
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", nargs="+", choices=problems.SETS, default=list(problems.SETS))
    parser.add_argument("--points", nargs="+", choices=problems.POINTS, default=list(problems.POINTS))
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    parser.add_argument("--failures", action="store_true", help="name all problems that were not solved")
    options = parser.parse_args()

    taken, left_out = problems.load(options.sets, options.points)
    ways = dict.fromkeys([*options.ways, YARDSTICK])
    outcomes = {way: list(map(functools.partial(attempt, WAYS[way]), taken)) for way in ways}
    print(", ".join(f"{name} {version}" for name in PACKAGES.split() if (version := installed(name))))
    print(f"Problems left out because their exact gradients are in doubt: {', '.join(map(str, left_out)) or 'none'}")
    print(f"\nSolved to {TOLERANCE:g}; mends and loses: against {YARDSTICK}\n")
    print(table(outcomes))
    print("\nNot solved (error)\n")
    print(failures(outcomes, options.failures))


if __name__ == "__main__":
    main()
