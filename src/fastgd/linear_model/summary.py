"""What statistics say of a fit: standard errors, tests and intervals of its weights, and how well it fits.

For the squared error with σ² = RSS/(n − p) and covariance σ²(XᵀX)⁻¹ (Student's t); for the log loss of two classes and
the Poisson deviance with the inverse of the Hessian of the log-likelihood (normal distribution). n are the rows,
whatever their weights: those of the squared error are 1/variance but for a factor, which changes nothing (as WLS of
statsmodels has it). In the other likelihoods a weight multiplies the log-likelihood of its row.
"""

from __future__ import annotations

import math
import typing
import warnings

import numpy as np

from fastgd import losses, validation
from fastgd.engine import display
from fastgd.linear_model import separation
from fastgd.objective import LinearObjective

if typing.TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike

    from fastgd.types import Doubles, Table

# A fit keeps a copy of its data for `summary` where they are no more numbers than this (2 MiB in float64): every model
# holds its own, and so does its pickle.
KEPT_NUMBERS = 1 << 18
# The shares of columns of length 1 that no others explain: above this, XᵀX has lost no more than four digits.
FAR_FROM_COLLINEAR = 1e-2
# Weights that are further from the highest likelihood than this share of a standard error are worth a warning, if more
# than rounding keeps them from it.
FAR_OFF, NO_DIGITS = 0.1, 1e-6
LIKELIHOODS = ("squared_error", "log_loss", "poisson")


class Kept(typing.NamedTuple):
    """Private copies of the data of a small fit without a penalty, for `summary` to be asked for later."""

    X: np.ndarray
    y: np.ndarray
    sample_weight: np.ndarray
    record: losses.Loss
    fit_intercept: bool

    @classmethod
    def of(cls, objective):
        """Those of an objective; None where there are no statistics of it, or its data are too many or no array."""
        o = objective
        if o.loss not in LIKELIHOODS or o.rows.k != 1 or o.has_dual or o.rows.n * (o.rows.d + 1) > KEPT_NUMBERS:
            return None
        if not o.rows.one_array:
            return None
        return cls(_frozen(o.X), _frozen(o.y), _frozen(o.rows.weights), o.record, o.fit_intercept)

    def objective(self):
        return LinearObjective.of_arrays(
            self.X, self.y, self.sample_weight, self.record, fit_intercept=self.fit_intercept
        )  # fmt: skip


def _frozen(array):
    """A copy that cannot be written to."""
    copy = array.copy(order="K")
    copy.flags.writeable = False
    return copy


class Statistics(typing.NamedTuple):
    """What `summary` is made of; the intercept is the last weight.

    `distance` is how far the weights are from the highest likelihood, in standard errors.
    """

    name: str
    covariance: np.ndarray
    n: float
    log_likelihood: float
    log_likelihood_of_constant: float
    residual_squares: float
    total_squares: float
    fit_intercept: bool
    distance: float

    @classmethod
    def of(cls, objective, W, b):
        """The statistics of weights of an objective of one output without a penalty.

        Raises
        ------
        ValueError
            They mean nothing: there are too few rows, or the data do not determine the weights.
        """
        o, s = objective, objective.sample_weight
        size, n = o.shape[0], o.rows.n if s is None else int(np.count_nonzero(s))
        if not n > size:
            raise ValueError(
                f"summary means nothing without more samples than weights; got {n} samples of a positive weight, for "
                f"{size} weights"
            )
        h, y = o.scores(W, b)[:, 0], o.Y[:, 0].astype(np.float64)
        s = np.ones(len(y)) if s is None else s
        total_weight = float(s.sum())
        mean = (s @ y) / total_weight
        if o.loss == "poisson" and mean == 0:
            raise ValueError("summary means nothing where all counts in y are 0: no finite weights are the best")
        if separation.direction(o, W, b) is not None:
            raise ValueError(
                "summary means nothing here: no finite weights are the best (some rows are fitted ever better and none "
                "worse); take a penalty, or leave out or merge what separates them"
            )
        covariance = _inverse_curvature(o, s * o.record.curvature(h[:, None], y[:, None])[:, 0])
        if covariance is None:
            raise ValueError(
                "summary means nothing here: the data do not determine the weights (the Hessian of the loss is "
                "singular or not finite, as with collinear columns); leave columns out, or take a penalty"
            )
        move = covariance @ _gradient(o, s * o.record.slope(h[:, None], y[:, None])[:, 0])
        residual = float(s @ (y - h) ** 2)
        total = float(s @ (y - mean) ** 2) if o.fit_intercept else float(s @ y**2)
        if o.loss == "squared_error":
            covariance = covariance * (residual / (n - size))
            with np.errstate(divide="ignore"):
                logs = 0.5 * float(np.sum(np.log(s[s > 0])))
                found, constant = (logs - 0.5 * n * (np.log(2 * np.pi * r / n) + 1) for r in (residual, total))
        elif o.loss == "log_loss":
            found = -float(s @ (np.logaddexp(0, h) - y * h))
            constant = -total_weight * (_entropy(mean) if o.fit_intercept else math.log(2))
        else:
            from scipy.special import gammaln

            rest = float(s @ gammaln(y + 1))
            found = float(s @ (y * h - np.exp(h))) - rest
            log_mean = math.log(mean) if o.fit_intercept else 0.0
            constant = float(s @ (y * log_mean)) - total_weight * math.exp(log_mean) - rest
        weights = np.append(W[:, 0], b) if o.fit_intercept else W[:, 0]
        return cls(
            o.loss, covariance, n, float(found), float(constant), residual, total, o.fit_intercept,
            _distance(move, covariance, weights),
        )  # fmt: skip


def _gradient(o, slopes):
    """Xᵀ·slopes, and their sum for the intercept."""
    gradient = o.rows.column_product(slopes)
    return np.append(gradient, slopes.sum()) if o.fit_intercept else gradient


def _distance(move, covariance, weights):
    """The largest part of a Newton step in standard errors; parts that change no digits are rounding."""
    errors = np.sqrt(np.diag(covariance))
    changes = np.abs(move) > NO_DIGITS * np.abs(weights)
    return float(np.max(np.abs(move[changes]) / errors[changes], initial=0.0))


def _entropy(p):
    return -sum(q * math.log(q) for q in (p, 1 - p) if q > 0)


def _triangle(A):
    """R of A = QR: by Cholesky, in a fraction of the time, where the columns are far from collinear."""
    try:
        R = np.linalg.cholesky(A.T @ A).T
    except np.linalg.LinAlgError:
        R = None
    if R is None or not np.min(np.diag(R)) > FAR_FROM_COLLINEAR:
        return np.linalg.qr(A, mode="r")
    return R


def _inverse_curvature(o, curvature):
    """(Xᵀ diag(curvature) X)⁻¹ for (w, b), by way of centred and scaled columns; None if there is none."""
    d, X = o.rows.d, o.rows.dense(slice(None), np.float64)
    share = curvature / curvature.sum() if curvature.sum() > 0 else np.full(len(X), 1 / len(X))
    centre = share @ X if o.fit_intercept else np.zeros(d)
    A = X - centre
    A *= np.sqrt(curvature)[:, None]
    scale = np.sqrt(np.einsum("ij,ij->j", A, A))
    if not np.all((scale > 0) & np.isfinite(scale)) or len(X) < d:
        return None
    A /= scale
    R = _triangle(A)
    if not np.min(np.abs(np.diag(R))) > d * np.finfo(np.float64).eps * np.max(np.abs(R)):
        return None
    root = np.linalg.inv(R) / 1.0
    half = root / scale[:, None]
    covariance = half @ half.T
    if not o.fit_intercept:
        return covariance
    # b = β − centre·w, and β is independent of w: its curvature is the sum.
    cross = -covariance @ centre
    corner = 1 / curvature.sum() - centre @ cross
    return np.block([[covariance, cross[:, None]], [cross[None, :], np.array([[corner]])]])


class Summary:
    """The table of a fit. `print` shows it.

    Attributes
    ----------
    names : list of str
        Of the weights, the intercept last.
    coef, std_err, statistic, p_values : (p,)
        statistic is t for the squared error and z otherwise.
    conf_int : (p, 2)
    r2, adjusted_r2 : float
        For the squared error; else r2 is McFadden's, 1 − log L/log L₀, and adjusted_r2 is NaN.
    log_likelihood, aic, bic : float
    n, df_resid : float
    f_statistic, f_p_value : float
        That all weights but the intercept are 0; for the other losses the likelihood ratio and its χ² p value.
    """

    names: list[str]
    coef: Doubles
    std_err: Doubles
    statistic: Doubles
    p_values: Doubles
    conf_int: Doubles
    r2: float
    adjusted_r2: float
    log_likelihood: float
    aic: float
    bic: float
    n: float
    df_resid: float
    f_statistic: float
    f_p_value: float

    def __init__(self, statistics: Statistics, names: list[str], coef: Doubles, level: float) -> None:
        from scipy import stats

        q = statistics
        self.names, self.coef, self.level, self.n = names, coef, level, q.n
        p = len(coef)
        self.df_resid, freedom = q.n - p, p - q.fit_intercept
        self.std_err = np.sqrt(np.diag(q.covariance))
        with np.errstate(divide="ignore", invalid="ignore"):
            self.statistic = coef / self.std_err
        gaussian = q.name == "squared_error"
        law = stats.t(self.df_resid) if gaussian else stats.norm()
        self.kind = "t" if gaussian else "z"
        self.p_values = 2 * law.sf(np.abs(self.statistic))
        half = law.ppf(0.5 + level / 2) * self.std_err
        self.conf_int = np.column_stack([coef - half, coef + half])
        self.log_likelihood = q.log_likelihood
        self.aic, self.bic = 2 * p - 2 * q.log_likelihood, p * math.log(q.n) - 2 * q.log_likelihood
        self.adjusted_r2 = self.f_statistic = self.f_p_value = math.nan
        with np.errstate(divide="ignore", invalid="ignore"):
            if gaussian:
                unexplained = np.float64(q.residual_squares) / q.total_squares
                self.r2 = float(1 - unexplained)
                self.adjusted_r2 = float(1 - unexplained * (q.n - q.fit_intercept) / self.df_resid)
                if freedom:
                    self.f_statistic = float(
                        (q.total_squares - q.residual_squares)
                        / freedom
                        / (np.float64(q.residual_squares) / self.df_resid)
                    )
                    self.f_p_value = float(stats.f.sf(self.f_statistic, freedom, self.df_resid))
            else:
                self.r2 = float(1 - q.log_likelihood / np.float64(q.log_likelihood_of_constant))
                self.f_statistic = 2 * (q.log_likelihood - q.log_likelihood_of_constant)
                if freedom:
                    self.f_p_value = float(stats.chi2.sf(self.f_statistic, freedom))

    def __str__(self) -> str:
        test = "F" if self.kind == "t" else "likelihood ratio"
        of = "R²" if self.kind == "t" else "McFadden's R²"
        adjusted = f", adjusted {self.adjusted_r2:.6g}" if self.kind == "t" else ""
        lines = [
            f"{self.n:g} samples, {self.df_resid:g} degrees of freedom left",
            f"{of} {self.r2:.6g}{adjusted}; {test} {self.f_statistic:.6g} (p = {self.f_p_value:.3g})",
            f"log-likelihood {self.log_likelihood:.6g}, AIC {self.aic:.6g}, BIC {self.bic:.6g}",
            "",
        ]
        head = (
            "",
            "coef",
            "std err",
            self.kind,
            f"P>|{self.kind}|",
            f"[{0.5 - self.level / 2:.3g}",
            f"{0.5 + self.level / 2:.3g}]",
        )
        rows = [
            (name, f"{c:.6g}", f"{e:.4g}", f"{t:.4g}", f"{p:.3g}", f"{low:.6g}", f"{high:.6g}")
            for name, c, e, t, p, (low, high) in zip(
                self.names, self.coef, self.std_err, self.statistic, self.p_values, self.conf_int, strict=True
            )
        ]
        widths = [max(len(row[i]) for row in (head, *rows)) for i in range(len(head))]
        for row in (head, *rows):
            cells = [
                row[0].ljust(widths[0]),
                *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)),
            ]
            lines.append("  ".join(cells).rstrip())
        return "\n".join(lines)

    __repr__ = __str__

    def to_frame(self) -> typing.Any:
        """A pandas DataFrame with a row for each weight, the intercept first."""
        p = len(self.names)
        order = [p - 1, *range(p - 1)] if self.names[-1] == "intercept" else list(range(p))
        columns = {"coef": self.coef, "std_error": self.std_err, "z": self.statistic, "p": self.p_values}
        columns |= {"lower": self.conf_int[:, 0], "upper": self.conf_int[:, 1]}
        return display.frame(
            {name: values[order] for name, values in columns.items()}, index=[self.names[i] for i in order]
        )  # fmt: skip

    def _repr_html_(self) -> str:
        head = str(self).partition("\n\n")[0]
        names = ("", "coef", "std err", self.kind, f"P>|{self.kind}|", "lower", "upper")
        columns = [self.coef, self.std_err, self.statistic, self.p_values, *self.conf_int.T]
        rows = [(name, *(f"{x:.6g}" for x in row)) for name, *row in zip(self.names, *columns, strict=True)]
        return display.paragraph(*head.splitlines()) + display.table(names, rows)


class Summarised:
    """`summary` of an estimator."""

    def summary(
        self,
        X: Table | None = None,
        y: ArrayLike | None = None,
        sample_weight: ArrayLike | None = None,
        *,
        level: float = 0.95,
        names: Sequence[str] | None = None,
    ) -> Summary:
        """Standard errors, tests and confidence intervals of the weights, and measures of the fit.

        For fits without a penalty of one output, by the squared error, the log loss of two classes or the Poisson
        deviance, with more samples than weights.

        Parameters
        ----------
        X, y, sample_weight : optional
            The data of the fit. Needed for more than 262,144 numbers, of which a fit keeps no copy, for CSR, for
            solver="sgd", after partial_fit and after load.
        level : float
            Of the intervals.
        names : list of str, optional
            Of the coefficients; `coef_names_` without it. After a ColumnTransformer its `get_feature_names_out()`.

        Returns
        -------
        Summary

        Raises
        ------
        ValueError
            There are no such statistics of this fit, or the data are needed.

        Warns
        -----
        ConvergenceWarning
            The weights are not those of the highest likelihood, within a tenth of a standard error.
        """
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.utils.validation import check_is_fitted

        check_is_fitted(self, "coef_")
        if not 0 < validation.scalar(level, "level") < 1:
            raise ValueError(f"level must be between 0 and 1, both excluded; got {level!r}")
        if X is None and (y is not None or sample_weight is not None):
            raise ValueError("X must be given with y and sample_weight: all the data of the fit, or nothing")
        if self.penalty is not None:
            raise ValueError(
                f"a penalised fit has no standard errors: its weights are drawn to 0 (penalty={self.penalty!r}); "
                "fit with penalty=None"
            )
        if losses.get(self.loss).name not in LIKELIHOODS or np.atleast_2d(self.coef_).shape[0] != 1:
            raise ValueError(
                "summary is for one output and the losses " + ", ".join(map(repr, LIKELIHOODS)) + f"; got {self.loss!r}"
            )
        found = self._statistics(X, y, sample_weight)
        if found.distance > FAR_OFF:
            warnings.warn(
                f"the weights are {found.distance:.2g} standard errors from those with the highest likelihood of these "
                "data, which the table is about: fit without early_stopping, to a smaller tol, or pass the data of "
                "the fit",
                ConvergenceWarning,
                stacklevel=2,
            )
        names = list(map(str, self.coef_names_ if names is None else names))
        if len(names) != np.shape(self.coef_)[-1]:
            raise ValueError(f"names must be {np.shape(self.coef_)[-1]}, one for each coefficient; got {len(names)}")
        coef = np.asarray(self.coef_, np.float64).reshape(-1)
        if found.fit_intercept:
            names, coef = [*names, "intercept"], np.append(coef, np.float64(self.intercept_[0]))
        return Summary(found, names, coef, level)
