"""Instructions that the kernels execute, counted by callgrind: repeatable where the clock is not.

    python benchmarks/instructions.py            compares with the counts in instructions.json; exit status 1 beyond 3 %
    python benchmarks/instructions.py --write    counts anew, after a change that was meant

Every case runs once on each build that valgrind can run (it has no AVX-512), in one process. Counts depend on the
compiler: with another one than that of the file there is nothing to compare, and without valgrind nothing to count; the
script then says so, and passes.
"""

import argparse
import gc
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

COUNTS = Path(__file__).with_suffix(".json")
TOLERANCE = 0.03
# A function that only `run` calls: callgrind writes its counts when it is entered, so it marks where a case begins and
# ends.
MARK = "*kernels_3cpu_*compiler"


def cases():
    """Names of small runs, and what they do with a build: functions of the build that return one without arguments."""
    import numpy as np

    from fastgd import datasets  # noqa: F401  (imports everything that a case needs before counting)
    from fastgd.kernels.codes import ACTIVATIONS, PLAIN, PointLoss

    def arrays(n, d, k=1, dtype=np.float64, loss="squared"):
        rng = np.random.default_rng(0)
        X, W, b = rng.normal(size=(n, d)), rng.normal(size=(d, k)) / np.sqrt(d), np.zeros(k)
        Y = rng.normal(size=(n, k))
        if loss == "log":
            Y = np.eye(k)[rng.integers(0, k, n)] if k > 1 else (Y > 0) * 1.0
        elif loss == "poisson":
            Y = np.abs(np.round(Y))
        return [a.astype(dtype) for a in (X, Y, W, b)]

    def gradient(n, d, k=1, dtype=np.float64, activation="identity", loss="squared", order="C", weighted=False):
        X, Y, W, b = arrays(n, d, k, dtype, loss)
        X, none = np.asarray(X, order=order), np.empty(0, dtype)
        s = np.linspace(0.5, 1.5, n).astype(dtype) if weighted else none
        out = np.empty(k), np.empty((d, k)), np.empty(k)
        codes = ACTIVATIONS[activation], PointLoss(loss, float(loss == "huber"))
        return lambda build: lambda: build.total_loss_and_gradient(X, Y, W, b, none, s, *codes, None, *out)

    def value(n, d):
        X, Y, W, b = arrays(n, d)
        none, out, codes = np.empty(0), np.empty(1), (ACTIVATIONS["identity"], PointLoss("squared"))
        return lambda build: lambda: build.total_loss(X, Y, W, b, none, none, *codes, None, out)

    def predict(n, d):
        X, Y, W, b = arrays(n, d)
        return lambda build: lambda: build.predict(X, W, b, ACTIVATIONS["sigmoid"], None, Y)

    def sparse(n, d, row, k=1):
        rng = np.random.default_rng(0)
        _, Y, W, b = arrays(n, d, k)
        indptr = np.arange(0, (n + 1) * row, row, dtype=np.int32)
        indices = np.sort(rng.integers(0, d, (n, row)), axis=1).astype(np.int32).reshape(-1)
        data, none = rng.normal(size=n * row), np.empty(0)
        out = np.empty(k), np.empty((d, k)), np.empty(k)
        codes = ACTIVATIONS["identity"], PointLoss("squared")
        return lambda build: lambda: build.sparse_pass(data, indices, indptr, Y, W, b, none, *codes, *out)

    def stochastic(n, d, batch):
        X, Y, W, _ = arrays(n, d)
        none, rates = np.empty(0), np.full(-(-n // batch), 1e-4)
        codes, order = (ACTIVATIONS["identity"], PointLoss("squared")), np.arange(n)
        rule = PLAIN[X.dtype]
        return lambda build: lambda: build.stochastic(X, Y, W, none, *codes, 1.0, 0.0, order, batch, True, rates, *rule)

    def exponential(size):
        h, out = np.linspace(-5, 5, size), np.empty(size)
        return lambda build: lambda: build.apply_activation(h, ACTIVATIONS["sigmoid"], out)

    def perturbed(n, d):
        X, Y, W, b = arrays(n, d)
        steps, none, out, out_b = np.full((d, 1), 1e-4), np.empty(0), np.empty((d, 1)), np.empty(0)
        codes = ACTIVATIONS["sigmoid"], PointLoss("log")
        Y = (Y > 0) * 1.0
        return lambda build: lambda: build.perturbed_pass(X, Y, W, b, steps, out_b, none, *codes, out, out_b)

    single = np.float32
    return {
        "value, 2,000 x 10": value(2000, 10),
        "gradient, 9,000 x 1": gradient(9000, 1),
        "gradient, 6,000 x 3": gradient(6000, 3),
        "gradient, 3,000 x 7": gradient(3000, 7),
        "gradient, 2,000 x 10": gradient(2000, 10),
        "gradient, 600 x 33": gradient(600, 33),
        "gradient, 200 x 130": gradient(200, 130),
        "gradient, 30 x 1,000": gradient(30, 1000),
        "gradient, 6,000 x 3, float32": gradient(6000, 3, dtype=single),
        "gradient, 2,000 x 10, float32": gradient(2000, 10, dtype=single),
        "gradient, 100 x 333, float32": gradient(100, 333, dtype=single),
        "gradient, 2,000 x 10, weighted": gradient(2000, 10, weighted=True),
        "gradient, 2,000 x 10, F order": gradient(2000, 10, order="F"),
        "gradient, log loss, 2,000 x 10": gradient(2000, 10, activation="sigmoid", loss="log"),
        "gradient, Huber, 2,000 x 10": gradient(2000, 10, loss="huber"),
        "gradient, Poisson, 2,000 x 10": gradient(2000, 10, activation="exp", loss="poisson"),
        "gradient, softmax of 3, 1,000 x 10": gradient(1000, 10, 3, activation="softmax", loss="log"),
        "gradient, 2 outputs, 1,000 x 20": gradient(1000, 20, 2),
        "gradient, 16 outputs, 500 x 20": gradient(500, 20, 16),
        "gradient, CSR, 400 rows of 30": sparse(400, 1000, 30),
        "gradient, CSR, 4 outputs": sparse(200, 1000, 30, 4),
        "predict, sigmoid, 2,000 x 10": predict(2000, 10),
        "sigmoid of 4,000": exponential(4000),
        "steps on single rows, 1,000 x 10": stochastic(1000, 10, 1),
        "steps on 32 rows, 1,000 x 10": stochastic(1000, 10, 32),
        "differences, log loss, 500 x 5": perturbed(500, 5),
    }


def run():
    """What is counted: every case, on every build, between two marks."""
    from fastgd import kernels

    mark = kernels._compiled("cpu").compiler
    builds = [kernels.load(name) for name in kernels.available() if name != "reference"]
    prepared = [run_on(build) for run_on in cases().values() for build in builds]
    gc.disable()
    for run in prepared:
        run()  # memory is touched, caches of the interpreter are filled
    for run in prepared:
        mark()
        run()
        mark()


def count():
    """{case: {build: instructions}}."""
    from fastgd import kernels

    names = [name for name in kernels.available() if name not in ("reference", "x86_64_v4")]
    with tempfile.TemporaryDirectory() as folder:
        command = ["valgrind", "--tool=callgrind", f"--dump-before={MARK}", f"--callgrind-out-file={folder}/counts"]
        environment = os.environ | {"PYTHONHASHSEED": "0", "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        for variable in ("OMP", "OPENBLAS", "MKL"):
            environment[f"{variable}_NUM_THREADS"] = "1"
        made = subprocess.run(
            [*command, sys.executable, __file__, "--run"], env=environment, capture_output=True, text=True
        )
        if made.returncode:
            sys.exit(f"the run under valgrind did not end well:\n{made.stderr[-2000:]}")
        parts = sorted(Path(folder).glob("counts.*"), key=lambda path: int(path.suffix[1:]))
        totals = [int(re.search(r"^(?:summary|totals): (\d+)", path.read_text(), re.M)[1]) for path in parts]
    # Parts that begin with the first mark of a case; before each is what lies between cases.
    expected = [(case, name) for case in cases() for name in names]
    counted = totals[1::2][: len(expected)]
    if len(counted) != len(expected):
        sys.exit(f"valgrind wrote {len(totals)} parts; {2 * len(expected)} or one more were expected")
    counts = {}
    for (case, name), instructions in zip(expected, counted, strict=True):
        counts.setdefault(case, {})[name] = instructions
    return counts


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help=f"write {COUNTS.name}")
    parser.add_argument("--run", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.run:
        return run()
    if shutil.which("valgrind") is None:
        return print("instructions are not counted: there is no valgrind on this machine (apt-get install valgrind)")
    from fastgd import show_config

    compiler = show_config()["compiler"]
    if options.write:
        COUNTS.write_text(json.dumps({"compiler": compiler, "counts": count()}, indent=1) + "\n")
        return print(f"wrote {COUNTS}")
    kept = json.loads(COUNTS.read_text())
    if kept["compiler"] != compiler:
        return print(
            f"instructions are not compared: the counts are of {kept['compiler']}, these kernels of {compiler}"
        )
    counts, worse = count(), 0
    for case, by_build in counts.items():
        for name, instructions in by_build.items():
            before = kept["counts"].get(case, {}).get(name)
            if before is None or abs(instructions / before - 1) > TOLERANCE:
                worse += 1
                print(f"{case}, {name}: {instructions:,} instructions, {before and f'{before:,}'} in {COUNTS.name}")
    if worse:
        sys.exit(f"{worse} counts differ by more than {TOLERANCE:.0%}; if that is meant: {sys.argv[0]} --write")
    print(f"instructions of {len(counts)} runs on {len(by_build)} builds are within {TOLERANCE:.0%}")


if __name__ == "__main__":
    main()
