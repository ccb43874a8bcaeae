"""GDRegressor and GDClassifier against certified values, with all parameters at their defaults but for the tolerance.

NIST Statistical Reference Datasets (https://www.itl.nist.gov/div898/strd/lls/lls.shtml, public domain): Norris,
Pontius, Longley, Wampler1 and Wampler2. Spector and Mazzeo's study of an economics course (J. Economic Education 11
(1980)), as in Greene, Econometric Analysis, table F14.1, whose logit the econometrics packages publish to these digits.
"""

import math

import numpy as np
import pytest
from certified_tables import SPECTOR_GPA, SPECTOR_GRADE, SPECTOR_TUCE, datasets, longley, numbers

from fastgd import GDClassifier, GDRegressor


def digits(found, certified):
    """Decimal digits that all of the numbers agree in: −log10 of the largest relative error (NIST's LRE)."""
    error = np.max(np.abs(np.asarray(found) / np.asarray(certified) - 1))
    return 16.0 if error == 0 else -math.log10(error)


@pytest.mark.parametrize("solver", ["auto", "gram"])
@pytest.mark.parametrize("name", datasets())
def test_certified_coefficients(name, solver):
    least, X, y, coefficients, intercept = datasets()[name]
    model = GDRegressor(solver=solver).fit(X, y)
    assert digits([*model.coef_, model.intercept_[0]], [*coefficients, intercept]) >= least


@pytest.mark.parametrize("name", datasets())
def test_certified_coefficients_in_other_orders_and_layouts(name):
    least, X, y, coefficients, intercept = datasets()[name]
    order = np.random.default_rng(0).permutation(len(X))
    model = GDRegressor().fit(np.asfortranarray(X[order, ::-1]), y[order])
    assert digits([*model.coef_[::-1], model.intercept_[0]], [*coefficients, intercept]) >= least


def test_certified_standard_errors_of_longley():
    X, y = longley()
    summary = GDRegressor().fit(X, y).summary()
    certified = [84.9149257747669, 0.334910077722432e-01, 0.488399681651699, 0.214274163161675, 0.226073200069370,
                 455.478499142212, 890420.383607373]  # fmt: skip
    assert digits(summary.std_err, certified) >= 8
    assert digits(summary.r2, 0.995479004577296) >= 10
    assert digits(summary.f_statistic, 330.285339234588) >= 8


def test_spector_logit():
    X = np.column_stack([numbers(SPECTOR_GPA), numbers(SPECTOR_TUCE), np.repeat([0.0, 1.0], [18, 14])])
    model = GDClassifier(penalty=None).fit(X, numbers(SPECTOR_GRADE))
    published = [2.82611297201, 0.0951576702557, 2.37868772835, -13.0213483201]
    found = np.array([*model.coef_[0], model.intercept_[0]])
    # Published from a solver that stopped at seven digits: Newton's method to its end gives others from the eighth on.
    assert digits(found, published) >= 6
    Z, y = np.column_stack([X, np.ones(32)]), numbers(SPECTOR_GRADE)
    exact = np.zeros(4)
    for _ in range(30):
        p = 1 / (1 + np.exp(-(Z @ exact)))
        exact += np.linalg.solve((Z.T * (p * (1 - p))) @ Z, Z.T @ (y - p))
    assert digits(found, exact) >= 9
    assert digits(model.summary().std_err, [1.2629409977, 0.1415542144, 1.06456429, 4.93132421]) >= 5
