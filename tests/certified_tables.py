"""Tables with certified results.

NIST Statistical Reference Datasets (https://www.itl.nist.gov/div898/strd/lls/lls.shtml, public domain): Norris,
Pontius, Longley, Wampler1 and Wampler2. Spector and Mazzeo's study of an economics course (J. Economic Education 11
(1980)), as in Greene, Econometric Analysis, table F14.1, whose logit the econometrics packages publish to these digits.
"""

import fractions

import numpy as np

NORRIS_X = """0.2 337.4 118.2 884.6 10.1 226.5 666.3 996.3 448.6 777.0 558.2 0.4 0.6 775.5 666.9 338.0 447.5 11.6 556.0
228.1 995.8 887.6 120.2 0.3 0.3 556.8 339.1 887.2 999.0 779.0 11.1 118.3 229.2 669.1 448.9 0.5"""
NORRIS_Y = """0.1 338.8 118.1 888.0 9.2 228.1 668.5 998.5 449.1 778.9 559.2 0.3 0.1 778.1 668.8 339.3 448.9 10.8 557.7
228.3 998.0 888.8 119.6 0.3 0.6 557.6 339.3 888.0 998.5 778.9 10.2 117.6 228.9 668.4 449.2 0.2"""
PONTIUS_Y = """.11019 .21956 .32949 .43899 .54803 .65694 .76562 .87487 .98292 1.09146 1.20001 1.30822 1.41599 1.52399
1.63194 1.73947 1.84646 1.95392 2.06128 2.16844 .11052 .22018 .32939 .43886 .54798 .65739 .76596 .87474 .98300 1.09150
1.20004 1.30818 1.41613 1.52408 1.63159 1.73965 1.84696 1.95445 2.06177 2.16829"""
LONGLEY = """60323 83.0 234289 2356 1590 107608 1947 61122 88.5 259426 2325 1456 108632 1948 60171 88.2 258054 3682
1616 109773 1949 61187 89.5 284599 3351 1650 110929 1950 63221 96.2 328975 2099 3099 112075 1951 63639 98.1 346999
1932 3594 113270 1952 64989 99.0 365385 1870 3547 115094 1953 63761 100.0 363112 3578 3350 116219 1954 66019 101.2
397469 2904 3048 117388 1955 67857 104.6 419180 2822 2857 118734 1956 68169 108.4 442769 2936 2798 120445 1957 66513
110.8 444546 4681 2637 121950 1958 68655 112.6 482704 3813 2552 123366 1959 69564 114.2 502601 3931 2514 125368 1960
69331 115.7 518173 4806 2572 127852 1961 70551 116.9 554894 4007 2827 130081 1962"""
SPECTOR_GPA = """2.66 2.89 3.28 2.92 4.0 2.86 2.76 2.87 3.03 3.92 2.63 3.32 3.57 3.26 3.53 2.74 2.75 2.83 3.12 3.16 2.06
3.62 2.89 3.51 3.54 2.83 3.39 2.67 3.65 4.0 3.1 2.39"""
SPECTOR_TUCE = "20 22 24 12 21 17 17 21 25 29 20 23 23 25 26 19 25 19 23 25 22 28 14 26 24 27 17 24 21 23 21 19"
SPECTOR_GRADE = "0 0 0 0 1 0 0 0 0 1 0 0 0 1 0 0 0 0 0 1 0 1 0 0 1 1 1 0 1 1 0 1"


def numbers(text):
    return np.array(text.split(), dtype=np.float64)


def powers(x, degree):
    return np.column_stack([x**p for p in range(1, degree + 1)])


def wampler2():
    """y = Σ (x/10)^p for p = 0 to 5, which has five decimals: the numbers of the file, rounded once to binary."""
    exact = [sum(fractions.Fraction(x, 10) ** p for p in range(6)) for x in range(21)]
    return np.array([float(y) for y in exact])


def longley():
    table = numbers(LONGLEY).reshape(16, 7)
    return table[:, 1:], table[:, 0]


def datasets():
    x = np.arange(21.0)
    load = np.tile(np.arange(1, 21) * 150_000.0, 2)
    return {
        "Norris": (9, numbers(NORRIS_X)[:, None], numbers(NORRIS_Y), [1.00211681802045], -0.262323073774029),
        "Pontius": (
            8, powers(load, 2), numbers(PONTIUS_Y),
            [0.732059160401003e-06, -0.316081871345029e-14],
            0.673565789473684e-03,
        ),
        "Longley": (
            8, *longley(),
            [15.0618722713733, -0.358191792925910e-01, -2.02022980381683, -1.03322686717359, -0.511041056535807e-01,
             1829.15146461355],
            -3482258.63459582,
        ),
        "Wampler1": (6, powers(x, 5), sum(x**p for p in range(6)), [1.0] * 5, 1.0),
        "Wampler2": (6, powers(x, 5), wampler2(), [10.0**-p for p in range(1, 6)], 1.0),
    }  # fmt: skip
