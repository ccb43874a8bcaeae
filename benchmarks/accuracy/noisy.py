"""Whether the error bars of numerical gradients are true, for functions of any precision.

    python benchmarks/accuracy/noisy.py             the coverage table and the noise table
    python benchmarks/accuracy/noisy.py --quick     fewer points
    python benchmarks/accuracy/noisy.py --sets CUTEst argmin scaled     those problems too (needs fastgd[accuracy])

Every function has its gradient in closed form. It is made noisy, or less precise, in one of many ways, and the true
error of each entry is held against the claimed one. Noise is relative to |f|: uniform in ±ε√3, so that its standard
deviation is ε, and a function of the point ("rounding") or of the call ("random").
"""

import argparse
import itertools
import time
import warnings
import zlib

import numpy as np
import problems

import fastgd

# ----------------------------------------------------------------------------------------- functions to be made noisy

RNG = np.random.default_rng(20)
DESIGN = RNG.standard_normal((40, 50)) / 3


def rosenbrock(x):
    return np.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2) + 1.0


def rosenbrock_gradient(x):
    g, inner = np.zeros_like(x), x[1:] - x[:-1] ** 2
    g[:-1] += -400 * x[:-1] * inner - 2 * (1 - x[:-1])
    g[1:] += 200 * inner
    return g


def logistic(x):
    return np.sum(np.logaddexp(0, DESIGN[:, : x.size] @ x))


def logistic_gradient(x):
    a = DESIGN[:, : x.size]
    return a.T @ (1 / (1 + np.exp(-(a @ x))))


def exponential(x):
    return np.exp(np.sum(x) / x.size) + np.sum(x**2)


def exponential_gradient(x):
    return np.exp(np.sum(x) / x.size) / x.size + 2 * x


# Name: f, its gradient, the scale of the points and the smallest number of variables.
FUNCTIONS = {
    "sin + x²": (lambda x: np.sum(np.sin(x) + x * x), lambda x: np.cos(x) + 2 * x, 1.0, 1),
    "1000 + |x|²": (lambda x: 1000 + x @ x, lambda x: 2 * x, 1.0, 1),
    "log cosh": (lambda x: np.sum(np.log(np.cosh(x))), np.tanh, 2.0, 1),
    "Rosenbrock": (rosenbrock, rosenbrock_gradient, 1.0, 2),
    "logistic": (logistic, logistic_gradient, 1.0, 1),
    "exp of the mean + |x|²": (exponential, exponential_gradient, 1.0, 1),
    "1/(1 + |x|²)": (lambda x: 1 / (1 + x @ x), lambda x: -2 * x / (1 + x @ x) ** 2, 1.0, 1),
    "log of mixed scales": (
        lambda x: np.sum(np.log(np.abs(x) + 10.0 ** -(np.arange(x.size) % 4))),
        lambda x: np.sign(x) / (np.abs(x) + 10.0 ** -(np.arange(x.size) % 4)), 3.0, 1,
    ),
    "1e6 (quadratic, x ~ 1e3)": (lambda x: 1e6 * np.sum((x / 1e3 - 0.3) ** 2), lambda x: 2e3 * (x / 1e3 - 0.3), 1e3, 1),
}  # fmt: skip
DIMENSIONS = (1, 2, 5, 50)


# ------------------------------------------------------------------------------------------------------- kinds of noise


def uniform(x):
    """A number in [−1, 1) that is a function of the point."""
    return zlib.crc32(x.tobytes()) / 2**31 - 1


def rounding(size):
    return lambda f, rng: lambda x: float(f(x)) * (1 + size * 3**0.5 * uniform(x))


def random(size):
    return lambda f, rng: lambda x: float(f(x)) * (1 + size * rng.standard_normal())


def solver(f, rng):
    """A value that a bisection finds to within 1e-9 of its size."""

    def found(x):
        value = float(f(x))
        quantum = 3e-9 * 2.0 ** np.ceil(np.log2(abs(value)))
        return np.floor(value / quantum) * quantum

    return found


def batches(f, rng):
    """The mean over four batches, each computed in float32 and added up in float64."""

    def summed(x):
        return sum(np.float32(share * f(x)).item() for share in (0.31, 0.22, 0.27, 0.2)) / 1.0

    return summed


MODELS = {
    "float64": lambda f, rng: lambda x: float(f(x)),
    **{f"rounding {10.0**-k:.0e}": rounding(10.0**-k) for k in range(16, 1, -1)},
    **{f"random {10.0**-k:.0e}": random(10.0**-k) for k in range(15, 1, -2)},
    "np.float32": lambda f, rng: lambda x: np.float32(f(x)),
    "float32 as float": lambda f, rng: lambda x: float(np.float32(f(x))),
    "float32 / 7": lambda f, rng: lambda x: float(np.float32(f(x))) / 7 * 7,
    "float32 + float64": lambda f, rng: lambda x: float(np.float32(f(x) - 0.01 * (x @ x))) + 0.01 * (x @ x),
    "float32 inside": lambda f, rng: lambda x: f(x.astype(np.float32)),
    "float32 batches": batches,
    "float16": lambda f, rng: lambda x: np.float16(f(x) / 1000) * np.float64(1000),
    "6 digits": lambda f, rng: lambda x: float(f"{f(x):.6g}"),
    "4 decimals": lambda f, rng: lambda x: round(float(f(x)), 4),
    "solver 1e-9": solver,
}


def cases(per_function, models, dimensions=DIMENSIONS, seed=0):
    """(class, f, x, exact) for each model, function, number of variables and point."""
    for model, (name, (f, gradient, scale, least)) in itertools.product(models, FUNCTIONS.items()):
        rng = np.random.default_rng([seed, zlib.crc32(model.encode()), zlib.crc32(name.encode())])
        for d in dimensions:
            if d < least:
                continue
            for _ in range(per_function):
                x = scale * rng.standard_normal(d)
                yield model, MODELS[model](f, rng), x, gradient(x)


# --------------------------------------------------------------------------------------------------------------- ways


def fast(**options):
    def way(f, x):
        found = fastgd.numerical_gradient(f, x, full_output=True, **options)
        return found.gradient, found.error, found.nfev

    return way


def counted(gradient):
    """A way without claims, its evaluations counted."""

    def way(f, x):
        calls = 0

        def g(x):
            nonlocal calls
            calls += 1
            return float(f(np.array(x, dtype=float).reshape(-1)))

        found, error = gradient(g, x)
        return np.reshape(found, x.shape), np.reshape(error, x.shape), calls

    return way


def scipy_3_point(f, x):
    from scipy.optimize._numdiff import approx_derivative

    return approx_derivative(f, x), np.full(x.size, np.nan)


def numdifftools(f, x):
    import numdifftools

    # Its Gradient cannot give the errors.
    found, error, *_ = numdifftools.Jacobian(f, full_output=True)(x)
    return found, error


WAYS = {
    "fastgd": fast(),
    "fastgd forward": fast(scheme="forward"),
    "fastgd five-point": fast(scheme="five-point"),
    "fastgd richardson": fast(scheme="richardson"),
    "SciPy 3-point": counted(scipy_3_point),
    "numdifftools": counted(numdifftools),
}


def measure(way, taken):
    """For each class: true and claimed errors of all entries, sizes of the gradients, evaluations less 2d."""
    found = {}
    for model, f, x, exact in taken:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            try:
                gradient, error, nfev = WAYS[way](f, x.copy())
            except Exception as exception:  # whatever a library raises is a finding
                print(f"{way}, {model}: {type(exception).__name__}: {exception}")
                gradient, error, nfev = np.full(x.size, np.nan), np.zeros(x.size), 0
        scale = np.max(np.abs(exact))
        true = np.nan_to_num(np.abs(gradient - exact), nan=np.inf)
        found.setdefault(model, []).append((true, error, np.full(x.size, scale), nfev - 2 * x.size))
    return {
        model: (
            *(np.concatenate(part) for part in list(zip(*rows, strict=True))[:3]),
            np.array([row[3] for row in rows]),
        )
        for model, rows in found.items()
    }


def table(results, title):
    columns = ["entries", "within the claim", "no claim (inf)", "median claim / error", "median error / max abs g"]
    columns += ["95 %", "evaluations − 2d: median", "most"]
    lines = [f"| {title} | {' | '.join(columns)} |", "| --- |" + " ---: |" * 8]
    every = []
    for model, (true, claim, scale, spent) in results.items():
        covered = true <= claim
        every.append(covered)
        finite = np.isfinite(claim) & (true > 0)
        ratio = np.median(claim[finite] / true[finite]) if finite.any() else np.nan
        relative = true / scale
        lines.append(
            f"| {model} | {len(true)} | {covered.mean():.1%} | {np.isinf(claim).mean():.1%} | {ratio:.1f} | "
            f"{np.median(relative):.1e} | {np.quantile(relative, 0.95):.1e} | {np.median(spent):.0f} | {spent.max()} |"
        )
    every = np.concatenate(every)
    lines.append(f"| all | {len(every)} | {every.mean():.2%} | | | | | | |")
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--points", type=int, help="points for each function and number of variables")
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=["fastgd", "SciPy 3-point", "numdifftools"])
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--sets", nargs="*", choices=problems.SETS, default=[])
    options = parser.parse_args()
    points = options.points or (2 if options.quick else 10)
    dimensions = DIMENSIONS[:3] if options.quick else DIMENSIONS
    for way in options.ways:
        began = time.perf_counter()
        results = measure(way, cases(points, options.models, dimensions))
        for name in options.sets:
            taken, _ = problems.load([name])
            results |= measure(way, [(name, problem.f, problem.x, problem.exact) for problem in taken])
        print("\n" + table(results, way))
        print(f"\n{time.perf_counter() - began:.0f} s")


if __name__ == "__main__":
    main()
