"""Every loss by every solver that its record allows, in random combinations: `python benchmarks/audit_losses.py`.

Each fit is held to the same fit of another kind: CSR to dense, weights to repetitions, a constant offset to an
intercept that is moved by it, a file and an ONNX graph to the model, one solver to another, gradients to differences.
Printed are the worst deviations, and every error that is not a sentence of the documentation.
"""

import argparse
import collections
import tempfile
import traceback
import warnings

import numpy as np
import scipy.sparse
from fuzz_fits import CLASSIFICATION, KINKED, REGRESSION, refused, targets

import fastgd
from fastgd import GDClassifier, GDRegressor, LinearObjective, losses
from fastgd.engine.plan import NAMES


class Audit:
    """Deviations and errors by the names of the checks."""

    def __init__(self):
        self.worst, self.refused, self.errors = collections.defaultdict(lambda: (0.0, "")), collections.Counter(), []

    def note(self, what, found, expected, where, scale=1.0):
        difference = np.max(np.abs(np.asarray(found, float) - np.asarray(expected, float)), initial=0.0) / scale
        if not difference <= self.worst[what][0]:
            self.worst[what] = (float(difference), where)

    def run(self, what, where, call):
        try:
            return call()
        except Exception as error:
            if isinstance(error, ValueError) and refused(error, None):
                self.refused[what] += 1
            else:
                self.errors.append((what, where, f"{type(error).__name__}: {error}", traceback.format_exc()[-400:]))
            return None


def estimators(audit, random, loss):
    """Fits of an estimator."""
    n, d = int(random.integers(8, 60)), int(random.integers(1, 6))
    X, s, offset = random.standard_normal((n, d)), random.integers(1, 4, n).astype(float), random.standard_normal(n)
    h = X @ random.standard_normal(d) + 0.5 * random.standard_normal(n)
    classifies = loss.task == "classification"
    y = (h > np.median(h)).astype(int) if classifies else targets(random, loss, h)
    kind, solver = GDClassifier if classifies else GDRegressor, str(random.choice(NAMES))
    options = {"loss": loss, "penalty": str(random.choice(["l2", "l1", "elasticnet"])), "alpha": 0.05}
    options |= {"random_state": 0, "tol": 1e-8, "solver": solver, "max_iter": 3000}
    if loss.name == "perceptron":
        options |= {"solver": "sgd", "learning_rate": 0.1, "tol": None, "max_iter": 5}
    if solver in ("gd", "sgd", "accelerated"):
        options |= {"max_iter": 100}
    where = f"{loss!r} {options['solver']} {options['penalty']} {n} x {d}"
    first = audit.run("fit", where, lambda: kind(**options).fit(X, y, s))
    if first is None:
        return
    whole = first.result_.status.name == "CONVERGED" and first.result_.certified
    scale = abs(first.result_.fun) + 1e-12
    csr = audit.run("csr", where, lambda: kind(**options).fit(scipy.sparse.csr_array(X), y, s))
    often = np.repeat(np.arange(n), s.astype(int))
    repeated = audit.run("repeated", where, lambda: kind(**options).fit(X[often], y[often]))
    for name, other in (("dense and CSR: F", csr), ("weights and repetitions: F", repeated)):
        if other is not None and whole and other.result_.certified:
            audit.note(name, other.result_.fun, first.result_.fun, where, scale)
    moved = audit.run("offset", where, lambda: kind(**options).fit(X, y, s, offset=np.full(n, 0.7)))
    if moved is not None and whole and moved.result_.certified:
        audit.note("a constant offset: F", moved.result_.fun, first.result_.fun, where, scale)
    audit.run("offset", where, lambda: kind(**options).fit(X, y, s, offset=offset).score(X, y, s, offset=offset))
    audit.run("score", where, lambda: first.score(X, y, s))
    classes = {"classes": [0, 1]} if classifies else {}
    for rate in ("auto", 0.01):
        audit.run("partial_fit", where, lambda rate=rate: kind(loss, learning_rate=rate).partial_fit(X, y, **classes))
    if solver == "auto" and losses.of(loss, loss.link).smooth and first.result_.status.name == "CONVERGED":
        other = audit.run("other solver", where, lambda: kind(**{**options, "solver": "accelerated"}).fit(X, y, s))
        if other is not None and other.result_.certified and whole:
            audit.note("two solvers: F", other.result_.fun, first.result_.fun, where, scale)
    with tempfile.NamedTemporaryFile(suffix=".json") as file:
        audit.run("save", where, lambda: first.save(file.name))
        loaded = audit.run("load", where, lambda: kind.load(file.name))
        if loaded is not None:
            audit.note("a file: predictions", loaded.predict(X), first.predict(X), where)
    graph(audit, first, X, where)


def graph(audit, model, X, where):
    """The ONNX graph as onnxruntime computes it."""
    try:
        import onnxruntime
    except ImportError:
        return
    made = audit.run("onnx", where, model.to_onnx)
    if made is None:
        return
    session = onnxruntime.InferenceSession(made.SerializeToString(), providers=["CPUExecutionProvider"])
    found = dict(zip([output.name for output in session.get_outputs()], session.run(None, {"X": X}), strict=True))
    if "prediction" in found:
        p = model.predict(X)
        audit.note("ONNX: predictions", found["prediction"], p, where, np.max(np.abs(p)) + 1e-300)
    elif "probabilities" in found:
        audit.note("ONNX: probabilities", found["probabilities"], model.predict_proba(X), where)


def objectives(audit, random, loss):
    """LinearObjective and what takes one."""
    n, d = int(random.integers(8, 60)), int(random.integers(1, 6))
    X = random.standard_normal((n, d))
    h = X @ random.standard_normal(d) + 0.5 * random.standard_normal(n)
    y = (h > np.median(h)) * 1.0 if loss.task == "classification" else targets(random, loss, h)
    y = 2 * y - 1 if loss.signed else y
    where = f"{loss!r} {n} x {d}"
    options = {"activation": loss.link, "fit_intercept": True, "l2": 0.1, "offset": 0.3 * random.standard_normal(n)}
    o = audit.run("objective", where, lambda: LinearObjective(X, y, loss=loss, **options))
    if o is None:
        return
    w = 0.3 * random.standard_normal(d + 1)
    if loss.name not in KINKED:
        found = audit.run("check_gradient", where, lambda: fastgd.check_gradient(o.value, o.gradient, w))
        audit.note("check_gradient not ok", float(not found.ok), 0.0, where)
        scale = 1 + np.max(np.abs(o.gradient(w)))
        audit.note("numerical gradient", o.numerical_gradient(w), o.gradient(w), where, scale)
    rates = [0.01, 0.05]
    runs = audit.run("sweep", where, lambda: fastgd.sweep(o, lr=rates, step_num=20))
    for rate, run in zip(rates, runs or [], strict=False):
        one = audit.run("descent", where, lambda rate=rate: fastgd.gradient_descent(o, lr=rate, step_num=20))
        if one is not None:
            audit.note("sweep and single runs", run.x, one.x, where)
    box = [np.full(d + 1, -1.0), np.full(d + 1, 1.0)]
    audit.run("multi_start", where, lambda: fastgd.multi_start(o, tuple(box), 3, lr=0.01, step_num=20, seed=0))


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    audit, every = Audit(), REGRESSION + CLASSIFICATION
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for number in range(arguments.count):
            random = np.random.default_rng([arguments.seed, number])
            loss = every[number % len(every)]
            (objectives if random.random() < 0.4 else estimators)(audit, random, loss)
    for what, (worst, where) in sorted(audit.worst.items()):
        print(f"{what:30} {worst:9.2e}  {where}")
    print("refused, by a documented sentence:", dict(audit.refused))
    for what, where, error, trace in audit.errors[:20]:
        print(f"ERROR in {what}: {where}: {error}", trace, sep="\n    ")
    print(f"{len(audit.errors)} errors")


if __name__ == "__main__":
    main()
