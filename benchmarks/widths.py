"""Value and gradient at every width: ratios to NumPy (scipy.sparse for CSR), with the worst and the geometric mean.

    python benchmarks/widths.py                        all groups, 400,000 values of X, every build of this CPU
    python benchmarks/widths.py identity --values 4e7  one group, far beyond the caches
    python benchmarks/widths.py log huber -d 3,50 --dtype float32 --layout F

`test_speed_widths.py` has the same cases as benchmark groups.
"""

import argparse
import os
import time

for variable in ("OMP", "OPENBLAS", "MKL"):
    os.environ.setdefault(f"{variable}_NUM_THREADS", "1")

import numpy as np  # noqa: E402

WIDTHS = (
    1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 13, 15, 16, 17, 20, 24, 25, 31, 32, 33, 40, 50, 63, 64, 65, 100, 130, 200, 333,
    500, 900, 1000, 2000,
)  # fmt: skip
SOME_WIDTHS = (1, 2, 3, 5, 8, 10, 16, 20, 33, 50, 100, 130, 333, 1000)
IN_CACHE, BEYOND_CACHE = 400_000, 40_000_000  # values of X
# Worst ratio and geometric mean to reach, by group and dtype.
TARGETS = {
    ("identity", "float64"): (1.5, 2.5),
    ("identity", "float32"): (1.0, 2.0),
    **{(group, dtype): (1.5, 2.5) for group in ("log", "huber", "poisson", "softmax 3", "softmax 10")
       for dtype in ("float64", "float32")},
    **{(f"{k} outputs", dtype): (1.5, 2.5) for k in (2, 4, 16) for dtype in ("float64", "float32")},
    **{(f"CSR {percent} %", dtype): (1.2, 1.5) for percent in ("0.1", "1", "10") for dtype in ("float64", "float32")},
}  # fmt: skip
GROUPS = tuple(dict.fromkeys(group for group, _ in TARGETS))
DELTA = 1.35
CHUNK = 1 << 16  # rows that are drawn at once
ROUND_SECONDS = 1e-3  # of a timed round: reading the clock takes no time beside it


class Case:
    """A group's problem at one shape: `ours`, `peer` and `reading`, functions without arguments."""

    def __init__(self, group, d, values, dtype, layout="C", weighted=False, seed=0):
        import fastgd

        rng = np.random.default_rng(seed)
        self.group, self.d, self.dtype = group, d, dtype
        k = int(group.split()[-1] if group.startswith("softmax") else group.split()[0] if "outputs" in group else 1)
        n = max(values // d, 1)
        self.shape = (n, d) if k == 1 else (n, d, k)
        self.w = (rng.normal(size=(d, k) if k > 1 else d) / np.sqrt(d)).astype(dtype)
        s = rng.random(n).astype(dtype) + dtype(0.5) if weighted else None
        if group.startswith("CSR"):
            import scipy.sparse

            density = float(group.split()[1]) / 100
            X = scipy.sparse.random(n, d, density, "csr", dtype, random_state=rng)
            X.sort_indices()
            numbers = X.data
        else:
            X = numbers = table(n, d, dtype, layout)
        self.X, self.s, h = X, s, X @ self.w
        noise = rng.normal(0, 0.5, h.shape).astype(dtype)
        activation, loss, y = "identity", "sse", h + noise
        if group == "log":
            activation, loss, y = "sigmoid", "log", (y > np.median(y)).astype(dtype)
        elif group == "huber":
            loss, y = "huber", h + 3 * noise
        elif group == "poisson":
            activation, loss, y = "exp", "poisson", rng.poisson(np.exp(np.clip(h, -3, 3))).astype(dtype)
        elif k > 1 and group.startswith("softmax"):
            activation, loss, y = "softmax", "log", np.eye(k, dtype=dtype)[np.argmax(y, axis=1)]
        self.y = y
        self.objective = fastgd.LinearObjective(X, y, activation=activation, loss=loss, sample_weight=s)
        self.w = self.w * dtype(0.9)
        self.factor = 1 if loss == "sse" else 1 / (n if s is None else np.sum(s, dtype=np.float64))
        self.reading = lambda: numbers.sum()
        flat = numbers.ravel("K")
        self.reading_by_dot = lambda: flat @ flat
        self.bytes = numbers.nbytes

    def ours(self):
        return self.objective.value_and_gradient(self.w)

    def peer(self):
        """The same formula in NumPy, or scipy.sparse for CSR."""
        h = self.X @ self.w
        value, delta = self._error_term(h)
        if self.s is not None:
            s = self.s if h.ndim == 1 else self.s[:, None]
            value, delta = value * s, delta * s
        return self.factor * value.sum(), self.dtype(self.factor) * (self.X.T @ delta)

    def _error_term(self, h):
        """Losses of the points, or their sum, and δ."""
        y, group = self.y, self.group
        if group == "log":
            return np.logaddexp(0, h) - y * h, 1 / (1 + np.exp(-h)) - y
        if group == "huber":
            r = h - y
            delta = np.clip(r, -DELTA, DELTA)
            return delta * (r - self.dtype(0.5) * delta), delta
        if group == "poisson":
            e = np.exp(h)
            return e - y * h, e - y
        if group.startswith("softmax"):
            h = h - h.max(axis=1, keepdims=True)
            e = np.exp(h)
            total = e.sum(axis=1, keepdims=True)
            return -y * (h - np.log(total)), e / total - y
        r = h - y
        return (self.dtype(0.5) * r * r if self.s is not None else 0.5 * np.vdot(r, r)), r

    def check(self):
        """Raise AssertionError unless both give the same value and gradient, up to rounding of sums."""
        (value, gradient), (other, expected) = self.ours(), self.peer()
        tolerance = 1e-10 if self.dtype == np.float64 else 2e-3
        np.testing.assert_allclose(value, other, rtol=tolerance)
        np.testing.assert_allclose(gradient, expected, rtol=0, atol=tolerance * np.abs(expected).max())


_memory = {}


def table(n, d, dtype, layout="C"):
    """Random X (n, d); all shapes share one allocation. Layouts: C, F, strided (every other row and column)."""
    size = n * d * (4 if layout == "strided" else 1)
    memory = _memory.get(dtype)
    if memory is None or memory.size < size:
        rng = np.random.default_rng(1)
        memory = _memory[dtype] = np.empty(size, dtype)
        for start in range(0, size, CHUNK):
            part = memory[start : start + CHUNK]
            part[:] = rng.random(part.size, np.float32) * 2 - dtype(0.7)
    if layout == "strided":
        return memory[:size].reshape(2 * n, 2 * d)[::2, ::2]
    return memory[:size].reshape((n, d), order=layout)


def times(functions, rounds):
    """The shortest time of each function, in s; they take turns, so that all meet the same machine."""
    counts, best = [], [np.inf] * len(functions)
    for run in functions:
        run()
        start = time.perf_counter()
        run()
        counts.append(max(1, int(ROUND_SECONDS / max(time.perf_counter() - start, 1e-9))))
    for _ in range(rounds):
        for i, run in enumerate(functions):
            start = time.perf_counter()
            for _ in range(counts[i]):
                run()
            best[i] = min(best[i], (time.perf_counter() - start) / counts[i])
    return best


def measure(case, builds, rounds):
    """Ratios of the peer's time to ours, by build, and the fraction of the speed of reading X that ours reaches."""
    from fastgd import kernels

    def by(build):
        def run():
            kernels.active = build
            return case.ours()

        return run

    loaded = [kernels.load(name) for name in builds]
    for build in loaded:
        kernels.active = build
        case.check()
    *ours, peer, total, dot = times([*map(by, loaded), case.peer, case.reading, case.reading_by_dot], rounds)
    return {name: (peer / t, min(total, dot) / t, t) for name, t in zip(builds, ours, strict=True)}


def main():
    from fastgd import kernels

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = ", ".join(GROUPS).replace("%", "%%")
    parser.add_argument("groups", nargs="*", help=f"of {names}; a name stands for all that begin with it")
    parser.add_argument("-d", dest="widths", help="widths, separated by commas")
    parser.add_argument("--values", type=float, default=IN_CACHE, help="values of X (default: %(default)s)")
    parser.add_argument("--dtype", choices=("float64", "float32"), help="by default both")
    parser.add_argument("--layout", choices=("C", "F", "strided"), default="C")
    parser.add_argument("--weighted", action="store_true", help="with sample weights")
    parser.add_argument("--builds", help="separated by commas; by default all compiled ones of this CPU")
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    builds = options.builds.split(",") if options.builds else [n for n in kernels.available() if n.startswith("x86")]
    builds = builds or [kernels.active.name]
    chosen = [g for g in GROUPS if not options.groups or any(g.startswith(name) for name in options.groups)]
    for dtype in [options.dtype] if options.dtype else ["float64", "float32"]:
        for group in chosen:
            widths = WIDTHS if group == "identity" else (1000, 10_000) if group.startswith("CSR") else SOME_WIDTHS
            if options.widths:
                widths = [int(d) for d in options.widths.split(",")]
            rows = {}
            for d in widths:
                values = int(options.values) * (10 if group.startswith("CSR") else 1)
                case = Case(group, d, values, np.dtype(dtype).type, options.layout, options.weighted)
                rows[d] = measure(case, builds, options.rounds)
            show(group, dtype, options, builds, rows)


def show(group, dtype, options, builds, rows):
    print(f"\n{group}, {dtype}, {options.values:.0e} values; target worst, mean: {TARGETS[group, dtype]}")
    print("d".rjust(22), *(str(d).rjust(5) for d in rows))
    for name in builds:
        for what, column in (("peer/ours", 0), ("of reading", 1)):
            ratios = np.array([row[name][column] for row in rows.values()])
            print(name.rjust(10), what.rjust(11), *(f"{r:5.2f}" for r in ratios), end="")
            print(f" | worst {ratios.min():.2f}, mean {np.exp(np.log(ratios).mean()):.2f}")
    if len(builds) > 1:
        best = np.array([max(row[name][0] for name in builds) for row in rows.values()])
        print("better build".rjust(22), *(f"{r:5.2f}" for r in best), end="")
        print(f" | worst {best.min():.2f}, mean {np.exp(np.log(best).mean()):.2f}", flush=True)


if __name__ == "__main__":
    main()
