"""Tables and figures from books: Insurance (MASS), clotting times (McCullagh & Nelder), food of Engel's families."""

import numpy as np
import pytest
import scipy.optimize
from numpy.testing import assert_allclose

from fastgd import GDRegressor, losses

pytestmark = pytest.mark.one_build

# Baxter, Coutts & Ross (1980), as Insurance in Venables & Ripley, Modern Applied Statistics with S, 4th ed. (2002): car
# insurance policies and claims in 4 districts × 4 groups of cars × 4 ages of holders, in this order.
HOLDERS = """
197 264 246 1680 284 536 696 3582 133 286 355 1640 24 71 99 452 85 139 151 931 149 313 419 2443 66 175 221 1110 9 48
72 322 35 73 89 648 53 155 240 1635 24 78 121 692 7 29 43 245 20 33 40 316 31 81 122 724 18 39 68 344 3 16 25 114
"""
CLAIMS = """
38 35 20 156 63 84 89 400 19 52 74 233 4 18 19 77 22 19 22 87 25 51 49 290 14 46 39 143 4 15 12 53 5 11 10 67 10 24
37 187 8 19 24 101 3 2 8 37 2 5 4 36 7 10 22 102 5 7 16 63 0 6 8 33
"""
# Engel (1857), from Koenker & Bassett, Econometrica 50 (1982): income and expenditure for food of 235 Belgian families.
INCOME = """
420.16 541.41 901.16 639.08 750.88 945.8 829.4 979.16 1309.88 1492.4 502.84 616.72 790.92 555.88 713.44 838.76
535.08 596.44 924.56 487.76 692.64 997.88 507 654.16 933.92 433.68 587.6 896.47 454.48 585 800.8 502.44 713.52 906
880.6 796.83 854.88 1167.37 523.8 670.78 377.06 851.54 1121.09 625.52 805.54 558.58 884.4 1257.5 2051.18 1466.33
730.1 800.8 1245.7 1201 634.4 956.23 1148.6 1768.82 2822.53 922.35 2293.19 627.47 889.98 1162.2 1197.08 530.8
1142.15 1088 484.66 1536.02 678.9 671.88 690.47 860.69 873.31 894.46 1148.65 926.88 839.04 829.5 1264 1937.98 698.83
920.42 1897.57 891.68 889.68 1221.48 544.6 1031.45 1462.95 830.44 975.04 1338 867.64 725.75 989.01 1525 672.2 923.4
472.32 590.76 940.92 643.36 2551.66 1795.32 1165.77 815.62 1264.21 1095.41 447.45 1178.97 975.8 1017.85 423.88
558.78 943.25 1348.3 2340.62 587.18 1540.97 1115.85 1044.68 1389.79 2497.79 1585.38 1862.04 2008.85 697.31 571.25
598.35 461.1 977.11 883.98 718.36 543.9 1587.35 4957.81 969.68 420 562 689.6 1398.52 820.82 875.17 1392.45 1256.32
1362.86 1999.26 1209.47 1125.04 1827.4 1014.15 880.39 2432.39 1177.85 1222.59 1519.58 687.66 953.12 953.12 953.12
939.04 1283.4 1511.58 1342.58 511.8 689.8 1532.31 1056.08 387.32 387.32 411 832.76 615 887.47 1024.82 1006.44 726
494.42 748.64 987.64 788.1 831.8 1139.49 507.52 576.2 696.6 650.82 949.58 497.12 570.17 724.73 408.34 638.67 1225.79
715.37 800.47 975.6 1613.76 608.5 958.66 835.94 873.74 951.44 473 601 714 829.3 959.8 1212.96 958.87 1129.44 1943.04
539.64 463.6 562.64 736.76 1415.45 2208.79 636 759.4 1078.84 499.75 1020.02 1595.16 776.6 1230.92 1807.95 415.44
440.52 541.2 581.36 743.08 1057.68
"""
FOOD = """
255.84 310.96 485.68 403 495.56 633.8 630.76 700.44 830.96 815.36 338 412.36 520 452.4 512.72 658.84 392.6 443.56
640.12 333.84 466.96 543.4 317.72 424.32 518.96 338 419.64 476.32 386.36 423.28 503.36 354.64 497.32 588.52 654.6
550.73 528.38 640.48 401.32 436 276.56 588.35 664.2 444.86 462.9 377.78 553.15 810.9 1067.95 1049.88 522.7 572.08
907.4 811.58 427.8 650 860.6 1143.42 2032.68 590.62 1570.39 483.48 600.48 696.2 774.8 390.6 612.56 708.76 296.92
1071.46 496.6 503.4 357.64 430.34 624.7 582.54 580.22 543.88 588.64 628 712.1 968.39 482.58 593.17 1033.57 693.68
693.68 761.28 361.4 628.45 771.45 757.12 821.6 1022.32 679.44 538.75 680 977 561.2 728.4 372.32 361.52 517.92 459.82
863.92 831.44 534.76 392.05 934.98 813.31 263.71 769.08 630.59 645.99 319.56 348.45 614.51 662.01 1504.37 406.22
692.17 588.14 511.26 700.56 1301.15 879.07 912.89 1509.78 484.06 399.67 444.1 248.81 527.8 500.63 436.81 374.8
726.39 1827.2 523.49 335 473.2 581.2 929.75 591.2 637.55 674.95 776.76 959.52 1250.96 737.82 810.68 983 708.9 633.12
1424.8 830.96 925.58 1162 383.46 621.12 621.12 621.12 548.6 745.24 837.8 795.34 418.6 508.8 883.28 742.53 242.32
242.32 266 614.76 385.32 515.62 708.48 734.24 433 327.42 429.04 619.64 400.8 620.8 820 360.88 395.76 442 404.04
670.8 297.57 353.49 383.94 284.8 431.1 801.35 448.45 577.91 570.52 865.32 444.56 680.42 576.28 631.8 608.64 301 378
397 588.52 681.76 807.36 696.8 811.2 1305.72 442 353.6 468 526.76 890.24 1318.8 331 416.4 596.84 408.5 775.02
1138.16 485.52 772.76 993.96 305.44 306.52 299.2 468 522.6 750.32
"""


def numbers(text):
    return np.array(text.split(), float)


def test_poisson_regression_of_insurance_claims():
    """glm(Claims ~ District + Group + Age + offset(log(Holders)), poisson) of MASS; groups and ages are ordered."""
    ordered = np.array([[-3, 1, -1], [-1, -1, 3], [1, -1, -3], [3, 1, 1]]) / np.sqrt([20, 4, 20])
    district, group, age = (part.ravel() for part in np.indices((4, 4, 4)))
    X = np.column_stack([*(district == i for i in (1, 2, 3)), ordered[group], ordered[age]]).astype(float)
    y, offset = numbers(CLAIMS), np.log(numbers(HOLDERS))
    model = GDRegressor("poisson", tol=1e-14).fit(X, y, offset=offset)
    assert_allclose(
        [*model.intercept_, *model.coef_],
        [-1.810508, 0.025868, 0.038524, 0.234205, 0.429708, 0.004632, -0.029294, -0.394432, -0.000355, -0.016737],
        atol=1.5e-6,
    )  # fmt: skip
    assert_allclose(2 * len(y) * model.result_.fun, 51.42003, rtol=1e-6)  # residual deviance
    assert_allclose(model.score(X, y, offset=offset), 1 - 51.42003 / 236.25896, rtol=1e-6)  # and that of the constant


@pytest.mark.parametrize(
    ("seconds", "parameters", "deviance"),
    [
        ([118, 58, 42, 35, 27, 25, 21, 19, 18], [5.50323022751596, -0.60191767174236], 0.1626082944973),
        ([69, 35, 26, 21, 18, 16, 13, 12, 12], [4.91875753412157, -0.567435603121297], 0.15315279232474),
    ],
)
def test_gamma_regression_of_clotting_times(seconds, parameters, deviance):
    """McCullagh & Nelder, Generalized Linear Models, 2nd ed. (1989), p. 300, for two lots of thromboplastin.

    With the log link; the figures are those of statsmodels 0.15.
    """
    u = np.log([5, 10, 15, 20, 30, 40, 60, 80, 100])[:, None]
    model = GDRegressor("gamma", tol=1e-14).fit(u, seconds)
    assert_allclose([*model.intercept_, *model.coef_], parameters, rtol=1e-7)
    assert_allclose(2 * 9 * model.result_.fun, deviance, rtol=1e-9)


@pytest.mark.parametrize(
    ("q", "parameters"), [(0.25, [95.4835, 0.4741]), (0.5, [81.4823, 0.5602]), (0.75, [62.3966, 0.6440])]
)
def test_quantile_regression_of_food(q, parameters):
    """The figures are those of Koenker, Quantile Regression (2005), and of its implementations."""
    x, y = numbers(INCOME)[:, None], numbers(FOOD)
    model = GDRegressor(losses.Quantile(q), tol=1e-9).fit(x, y)
    assert_allclose([*model.intercept_, *model.coef_], parameters, rtol=2e-3)
    A = np.column_stack([x, np.ones(235)])
    dual = scipy.optimize.linprog(-y, A_eq=A.T, b_eq=np.zeros(2), bounds=((q - 1) / 235, q / 235), method="highs")
    assert_allclose(model.result_.fun, -dual.fun, rtol=1e-6)
