"""Offsets: a known part of each score, against figures of statsmodels and against a column whose weight is 1."""

import numpy as np
import pytest
import scipy.sparse
from numpy.testing import assert_allclose

import fastgd
from fastgd import GDClassifier, GDRegressor, LinearObjective, losses

# statsmodels 0.15, GLM(y, add_constant(X), family, freq_weights=s, offset=o) of `table()`: parameters, intercept first,
# and deviance.
PUBLISHED = {
    "squared_error": (
        [-0.2804022058978322, 1.0816476947162033, -0.3331991372223687, 0.034619016417623785],
        47.92507241741936,
    ),
    "poisson": (
        [1.0728989488881702, 0.5317913254242134, -0.15315035915208364, 0.36572305488689055],
        53.822658604495714,
    ),
    "gamma": ([1.343232120185931, 0.5848038932354027, -0.2549454130899487, -0.043893617765896606], 28.307375249350798),
    "tweedie": ([1.2253341703641398, 0.46047627789380485, -0.2784202017487958, 0.12804709343945053], 87.78965210481248),
    "inverse_gaussian": (
        [1.052868121032538, 0.40262273823908284, -0.18400104339262915, 0.21245283733267706],
        7.3424941633080305,
    ),
    "negative_binomial": (
        [1.3326220463190046, 0.35518380827490426, -0.17973337573007034, 0.20927122161000522],
        43.31087541859608,
    ),
    "log_loss": ([0.4286787381837559, 3.368636142676582, -1.619030558845439, 0.5564783400691824], 33.18445773076962),
    "probit": ([0.41659594148676715, 2.0226257147716673, -0.8817097459054807, 0.2806632300300905], 38.76549148181608),
    "cloglog": ([-0.20821937075931773, 2.9272546113083813, -1.403663161490443, 0.3107236133173938], 33.397323341249525),
}


def table():
    """X, the targets of each family, weights and offsets."""
    rng = np.random.default_rng(11)
    X = np.round(rng.normal(size=(40, 3)), 3)
    mean = np.exp(X @ [0.5, -0.3, 0.2] + 1)
    counts = rng.poisson(mean)
    y = {"tweedie": np.round(np.array([rng.gamma(2, 0.5, count).sum() for count in counts]), 4)}
    s = np.round(rng.uniform(0.5, 2, 40), 2)
    y["inverse_gaussian"] = np.round(rng.wald(mean, 8), 4)
    y["negative_binomial"] = rng.negative_binomial(2, 2 / (2 + mean))
    y["probit"] = y["cloglog"] = y["log_loss"] = (rng.random(40) < 0.5 * (1 + np.tanh(X @ [1, -0.5, 0.3]))) * 1.0
    rng = np.random.default_rng(5)
    o = np.round(rng.normal(0, 0.7, 40), 3)
    y["poisson"] = rng.poisson(mean * np.exp(o))
    y["gamma"] = np.round(rng.gamma(2, mean / 2), 4)
    y["squared_error"] = np.round(X[:, 0] + o + rng.normal(size=40), 4)
    return X, y, s, o


def problem(name):
    X, targets, s, o = table()
    return X, targets[name], s, 0.2 * o if name == "inverse_gaussian" else o


def estimator(name, **options):
    kind = GDClassifier if losses.get(name).task == "classification" else GDRegressor
    return kind(name, **({"penalty": None} | options))


@pytest.mark.parametrize("name", PUBLISHED)
@pytest.mark.parametrize("sparse", [False, True])
def test_weights_and_deviance_are_those_of_statsmodels(name, sparse):
    parameters, deviance = PUBLISHED[name]
    X, y, s, o = problem(name)
    data = scipy.sparse.csr_array(X) if sparse else X
    model = estimator(name, tol=1e-14).fit(data, y, s, offset=o)
    assert_allclose([*model.intercept_, *np.ravel(model.coef_)], parameters, rtol=2e-6)
    objective = LinearObjective(
        data, y, loss=name, activation=losses.get(name).link, fit_intercept=True, sample_weight=s, offset=o
    )
    w = np.r_[parameters[1:], parameters[0]]
    assert np.max(np.abs(objective.gradient(w))) < 1e-8
    if losses.get(name).deviance or losses.get(name).task == "classification":
        assert_allclose(objective.value(w), deviance / (2 * s.sum()), rtol=1e-12)
    for at in (w + 0.1, 0.3 * w):
        assert fastgd.check_gradient(objective.value, objective.gradient, at).ok
        assert_allclose(objective.numerical_gradient(at), objective.gradient(at), rtol=1e-7, atol=1e-9)
    h = X @ w[:3] + w[3] + o
    if losses.get(name).link == "exp":
        assert_allclose(model.predict(data, offset=o), np.exp(h), rtol=1e-5)
        assert_allclose(objective.predict(w), np.exp(h), rtol=1e-12)
        assert_allclose(objective.predict(w, data, o), np.exp(h), rtol=1e-12)
        assert_allclose(objective.predict(w, data), np.exp(h - o), rtol=1e-12)
        null = estimator(name, tol=1e-13).fit(np.zeros((40, 1)), y, s, offset=o)
        rest = LinearObjective(np.zeros((40, 1)), y, loss=name, fit_intercept=True, sample_weight=s, offset=o)
        if losses.get(name).deviance:
            most = rest.value([0.0, null.intercept_[0]])
            assert_allclose(model.score(data, y, s, o), 1 - deviance / (2 * s.sum()) / most, rtol=1e-6)


@pytest.mark.parametrize(
    "name", ["poisson", "log_loss", "probit", "negative_binomial", "hinge", "squared_hinge", "huber"]
)
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("sparse", [False, True])
def test_an_offset_is_a_column_whose_weight_is_one(name, dtype, sparse):
    X, targets, s, o = table()
    signed = losses.get(name).signed
    y = 2 * targets["probit"] - 1 if signed else targets.get(name, targets["squared_error"])
    X, o, s = (part.astype(dtype) for part in (X, o, s))
    data = scipy.sparse.csr_array(X) if sparse else X
    wide = np.column_stack([X, o])
    options = {"loss": name, "activation": losses.get(name).link, "fit_intercept": True, "l2": 0.1, "sample_weight": s}
    ours = LinearObjective(data, y, offset=o, **options)
    theirs = LinearObjective(scipy.sparse.csr_array(wide) if sparse else wide, y, **options)
    rng = np.random.default_rng(0)
    rtol = 1e-12 if dtype == np.float64 else 2e-5
    for _ in range(3):
        w = rng.normal(size=4).astype(dtype)
        beside = np.insert(w, 3, 1).astype(dtype)
        value, gradient = theirs.value_and_gradient(beside)
        assert_allclose(ours.value(w), value - 0.05, rtol=rtol)
        assert_allclose(ours.gradient(w), np.delete(gradient, 3), rtol=rtol, atol=rtol)
    tol = 1e-9 if dtype == np.float64 else 1e-4
    for solver in ("auto", "preconditioned") if name == "hinge" else ("auto", "gd", "accelerated", "preconditioned"):
        result = fastgd.gradient_descent(ours, lr="auto", solver=solver, step_num=5000, tol=tol)
        assert result.success
        if name != "hinge" and solver == "auto":
            assert result.certified
    if np.isfinite(theirs.lipschitz()):
        held = np.array([-np.inf] * 3 + [1.0, -np.inf]), np.array([np.inf] * 3 + [1.0, np.inf])
        best = fastgd.gradient_descent(theirs, lr="auto", bounds=held, step_num=5000, tol=tol)
        assert result.fun <= best.fun - 0.05 + 1e-3 * abs(best.fun)


@pytest.mark.parametrize("name", ["poisson", "log_loss", "cloglog", "negative_binomial", "squared_hinge"])
@pytest.mark.parametrize("l2", [0.0, 0.01])
def test_an_l1_penalty_is_certified_beside_an_offset(name, l2):
    X, targets, s, o = table()
    y = 2 * targets["probit"] - 1 if losses.get(name).signed else targets[name]
    options = {"loss": name, "activation": losses.get(name).link, "fit_intercept": True, "l1": 0.02, "l2": l2}
    objective = LinearObjective(X, y, offset=o, sample_weight=s, **options)
    found = [
        fastgd.gradient_descent(objective, lr="auto", solver=solver, step_num=5000, tol=1e-8)
        for solver in ("coordinate", "preconditioned", "accelerated")
    ]
    assert found[0].certified and all(result.success for result in found)
    assert_allclose([result.fun for result in found], found[0].fun, rtol=1e-7)


@pytest.mark.parametrize("name", ["squared_error", "poisson", "log_loss", "negative_binomial"])
@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("optimizer", ["gd", "adam"])
def test_steps_on_rows_and_streams_take_the_offset(name, sparse, optimizer):
    X, y, _, o = problem(name)
    data = scipy.sparse.csr_matrix(X) if sparse else X
    options = {"learning_rate": 0.02, "optimizer": optimizer}
    fitted = estimator(name, solver="sgd", shuffle=False, max_iter=3, tol=None, **options).fit(data, y, offset=o)
    stream, w, b = estimator(name, **options), np.zeros(3), 0.0
    extra = {"classes": [0, 1]} if name == "log_loss" else {}
    for _ in range(3):
        stream.partial_fit(data, y, offset=o, **extra)
        extra = {}
    assert_allclose(stream.coef_, fitted.coef_, rtol=1e-11)
    if optimizer == "gd":
        slope = losses.of(name, losses.get(name).link).slope
        for i in [*range(40)] * 3:
            step = 0.02 * float(slope(np.array([[X[i] @ w + b + o[i]]]), np.array([[y[i]]]))[0, 0])
            w, b = w - step * X[i], b - step
        assert_allclose(np.ravel(fitted.coef_), w, rtol=1e-10)
        assert_allclose(fitted.intercept_, b, rtol=1e-10)
    automatic = estimator(name)
    extra = {"classes": [0, 1]} if name == "log_loss" else {}
    for _ in range(200):
        automatic.partial_fit(data, y, offset=o, **extra)
        extra = {}
    best = estimator(name, tol=1e-10).fit(data, y, offset=o)
    assert_allclose(automatic.coef_, best.coef_, atol=0.25)


def test_labels_probabilities_and_held_out_rows_have_the_offset():
    X, y, s, o = problem("log_loss")
    model = GDClassifier(early_stopping=True, random_state=0, validation_fraction=0.3).fit(X, y, s, o)
    h = X @ model.coef_[0] + model.intercept_ + o
    assert_allclose(model.decision_function(X, o), h)
    assert_allclose(model.predict_proba(X, o)[:, 1], 1 / (1 + np.exp(-h)))
    assert np.array_equal(model.predict(X, o), (h > 0) * 1.0)
    assert model.score(X, y, offset=o) == np.mean((h > 0) == y)


@pytest.mark.one_build
def test_what_an_offset_must_be_is_said():
    X, y, _, o = problem("poisson")
    many = GDRegressor("poisson")
    for call, match in (
        (lambda: many.fit(X, y, offset=o[:-1]), "offset must have a number for each of the 40 rows; got shape"),
        (lambda: many.fit(X, y, offset=np.where(o > 1, np.nan, o)), "offset contains NaN"),
        (lambda: many.fit(X, y, offset=1e4 * o), "offset must have an exponential in the range of float64"),
        (lambda: many.fit(X, np.column_stack([y, y]), offset=o), "offset is for one output"),
        (lambda: GDClassifier().fit(X, np.arange(40) % 3, offset=o), "offset is for one output"),
        (lambda: many.fit(X, y).predict(X, o[:3]), "offset must have a number for each of the 40 rows"),
        (lambda: LinearObjective(X, y, loss="poisson", offset="a"), "offset must hold real numbers"),
    ):
        with pytest.raises((ValueError, TypeError), match=match):
            call()


def test_files_graphs_scans_and_the_command_line_keep_the_offset(tmp_path, capsys):
    pytest.importorskip("click")
    from fastgd import data
    from fastgd.cli import line

    def run(*arguments):
        with pytest.raises(SystemExit) as exit_:
            line.cli.main([str(argument) for argument in arguments], prog_name="fastgd")
        captured = capsys.readouterr()
        return exit_.value.code, captured.out, captured.err

    X, y, _, o = problem("poisson")
    path, model = tmp_path / "counts.csv", tmp_path / "model.json"
    table = np.column_stack([X, y, o, np.exp(o)])
    np.savetxt(path, table, delimiter=",", header="a,b,c,y,o,time", comments="", fmt="%.17g")
    best = GDRegressor("poisson", tol=1e-10).fit(X, y, offset=o)
    scan = data.scan(path, target="y", offset="o", features=["a", "b", "c"])
    scanned = GDRegressor("poisson", tol=1e-10).fit(scan)
    assert_allclose(scanned.coef_, best.coef_, rtol=1e-6)
    assert_allclose(scanned.predict(scan), best.predict(X, o), rtol=1e-6)
    objective = LinearObjective(scan, loss="poisson", fit_intercept=True)
    assert_allclose(objective.gradient([*best.coef_, *best.intercept_]), 0, atol=1e-4)
    fit = "fit", path, "--target", "y", "--loss", "poisson"
    for option in (("--offset", "o", "--exclude", "time"), ("--exposure", "time", "--exclude", "o")):
        status, _, error = run(*fit, "--save", model, *option)
        assert status == 0, error
        printed = run("predict", model, path)[1].splitlines()
        assert_allclose([float(line) for line in printed[1:]], best.predict(X, o), rtol=1e-3)
    loaded = GDRegressor.load(model)
    assert_allclose(loaded.predict(scan), best.predict(X, o), rtol=1e-3)
    best.save(model)
    status, _, error = run("predict", model, path)
    assert status == 2 and "offset that no column is named for" in error
    again = GDRegressor.load(model)
    onnx = pytest.importorskip("onnx.reference")
    for estimator_ in (best, again):
        graph = onnx.ReferenceEvaluator(estimator_.to_onnx())
        assert_allclose(graph.run(None, {"X": X, "offset": o})[0], best.predict(X, o), rtol=1e-12)
    for options, words in (
        (("--offset", "o", "--exposure", "time"), "give one of them"),
        (("--exposure", "a"), "must be finite and positive"),
        (("--offset", "o", "--features", "a,o"), "cannot be among --features too"),
        (("--offset", "q"), "'q'"),
    ):
        status, _, error = run(*fit, *options)
        assert status == 2 and words in error, error


@pytest.mark.parametrize("loss", ["huber", losses.NegativeBinomial(0.7)])
def test_l1_of_sparse_rows_whose_working_set_grows(loss):
    rng = np.random.default_rng(2)
    X = rng.normal(size=(60, 150)) * (rng.random((60, 150)) < 0.3)
    o = rng.normal(size=60)
    y = rng.poisson(np.exp(0.5 * X[:, :5].sum(axis=1) + o)).astype(float)
    settings = {"loss": loss, "penalty": "l1", "alpha": 0.01, "tol": 1e-10}
    found = [GDRegressor(**settings).fit(rows, y, offset=o) for rows in (X, scipy.sparse.csr_matrix(X))]
    assert found[0].result_.solver == "coordinate"
    assert_allclose(found[1].coef_, found[0].coef_, atol=1e-4)
    assert found[1].result_.fun == pytest.approx(found[0].result_.fun, rel=1e-9)
