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
from fastgd.linalg import one_blas_thread
from fastgd.linear_model import separation
from fastgd.objective import LinearObjective

if typing.TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from numpy.typing import ArrayLike, NDArray

    from fastgd.types import Doubles, Table


class Kept(typing.NamedTuple):
    """Private copies of the data of a small fit without a penalty, for `summary` to be asked for later."""

    X: np.ndarray
    y: np.ndarray
    sample_weight: np.ndarray
    record: losses.Loss
    fit_intercept: bool
    offset: np.ndarray | None = None

    @classmethod
    def of(cls, objective, offset=None):
        """Those of an objective; None where there are no statistics of it, or its data are too many or no array."""
        o = objective
        if not (o.record.loss.likelihood and o.rows.k == 1 and not (o.l1 or o.l2) and o.rows.one_array):
            return None
        if o.rows.n * (o.rows.d + 1) > 1 << 18:  # 2 MiB in float64: every model holds its own, and so does its pickle
            return None
        return cls(_frozen(o.X), _frozen(o.y), _frozen(o.rows.weights), o.record, o.fit_intercept, offset)

    def objective(self):
        return LinearObjective.of_arrays(
            self.X, self.y, self.sample_weight, self.record, fit_intercept=self.fit_intercept
        )  # fmt: skip


def _frozen(array):
    """A copy that cannot be written to."""
    copy = array.copy(order="K")
    copy.flags.writeable = False
    return copy


def likelihoods():
    """The names of the losses that are likelihoods."""
    return [name for name, loss in losses.LOSSES.items() if loss.likelihood and name == loss.name]


def _covariance(o, h, y, s):
    """The inverse of the Hessian of Σ s·loss at scores h; ValueError where statistics of the fit mean nothing."""
    size, n = o.shape[0], np.count_nonzero(s)
    if not n > size:
        raise ValueError(
            f"summary means nothing without more samples than weights; got {n} samples of a positive weight, for "
            f"{size} weights"
        )
    if o.activation == "exp" and not s @ y:
        raise ValueError("summary means nothing where all counts in y are 0: no finite weights are the best")
    if separation.direction(o, lambda: h[:, None]) is not None:
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
    return covariance


def _of_rows(o, W, b, offset):
    """Scores, targets and sample weights of the rows, and their offset or 0, (n,) each."""
    h, y = o.scores(W, b)[:, 0], o.Y[:, 0].astype(np.float64)
    fixed = np.zeros(len(y)) if offset is None else offset.astype(np.float64)
    return h + fixed, y, np.ones(len(y)) if o.sample_weight is None else o.sample_weight, fixed


def _of_constant(o, y, s, offset):
    """Scores of the best model without columns, (n,); without an intercept they are the offset."""
    if not o.fit_intercept:
        return offset
    mean = np.average(y, weights=s)
    best = mean if o.activation == "identity" else np.log(mean)
    best -= np.log1p(-mean) if o.activation == "sigmoid" else 0
    if offset.any():
        from scipy.optimize import brentq

        # The slopes rise with h: at `best` their sum is 0, so that it is between these where the offset is added.
        low, high = best - offset.max(), best - offset.min()
        if low < high:
            best = brentq(lambda b: s @ o.record.slope((offset + b)[:, None], y[:, None])[:, 0], low, high, xtol=1e-14)
        else:
            best = low
    return offset + best


def of_weights(o, W, b, offset=None):
    """Covariance of the weights of a squared error, variance of an observation, and degrees of freedom."""
    h, y, s, _ = _of_rows(o, W, b, offset)
    freedom = int(np.count_nonzero(s)) - o.shape[0]
    covariance = _covariance(o, h, y, s)
    variance = float(s @ np.square(y - h)) / freedom
    return covariance * variance, variance, freedom


def _triangle(A):
    """R of A = QR: by Cholesky, in a fraction of the time, where the columns are far from collinear."""
    try:
        R = np.linalg.cholesky(A.T @ A).T
    except np.linalg.LinAlgError:
        R = None
    # The share of a column that no other explains: above 1e-2, AᵀA has lost no more than four digits.
    if R is None or not np.min(np.diag(R)) > 1e-2:
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
    half = np.linalg.inv(R) / scale[:, None]
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
    distance : float
        From the weights of the highest likelihood, in standard errors.
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
    distance: float

    def __init__(
        self, objective: LinearObjective, W: Doubles, b: Doubles, names: list[str], level: float,
        offset: NDArray[Any] | None = None,
    ) -> None:  # fmt: skip
        from scipy import stats

        o, loss = objective, objective.record.loss
        h, y, s, fixed = _of_rows(o, W, b, offset)
        covariance = _covariance(o, h, y, s)
        p, self.n, self.level = o.shape[0], int(np.count_nonzero(s)), level
        self.names = [*names, "intercept"] if o.fit_intercept else names
        self.coef = np.append(W[:, 0], b) if o.fit_intercept else W[:, 0].copy()
        self.df_resid, freedom = self.n - p, p - o.fit_intercept
        null = _of_constant(o, y, s, fixed)
        self.log_likelihood, constant = (loss.log_likelihood(scores, y, s) for scores in (h, null))
        self.aic, self.bic = 2 * p - 2 * self.log_likelihood, p * math.log(self.n) - 2 * self.log_likelihood
        self.adjusted_r2 = self.f_p_value = math.nan
        slopes = s * o.record.slope(h[:, None], y[:, None])[:, 0]
        gradient = o.rows.column_product(slopes)
        move = covariance @ (np.append(gradient, slopes.sum()) if o.fit_intercept else gradient)
        with np.errstate(divide="ignore", invalid="ignore"):
            if loss.estimates_variance:
                residual, total = (s @ np.square(y - prediction) for prediction in (h, null))
                variance = residual / self.df_resid
                covariance = covariance * variance
                self.r2 = float(1 - residual / total)
                self.adjusted_r2 = float(1 - variance * (self.n - o.fit_intercept) / total)
                self.f_statistic = float((total - residual) / freedom / variance) if freedom else math.nan
                law, test, self.kind = stats.t(self.df_resid), stats.f(freedom, self.df_resid), "t"
            else:
                self.r2 = float(1 - self.log_likelihood / np.float64(constant))
                self.f_statistic = 2 * (self.log_likelihood - constant)
                law, test, self.kind = stats.norm(), stats.chi2(freedom), "z"
            if freedom:
                self.f_p_value = float(test.sf(self.f_statistic))
            self.std_err = np.sqrt(np.diag(covariance))
            self.statistic = self.coef / self.std_err
            self.p_values = 2 * law.sf(np.abs(self.statistic))
        half = law.ppf(0.5 + level / 2) * self.std_err
        self.conf_int = np.column_stack([self.coef - half, self.coef + half])
        # A Newton step in standard errors, without the parts that change no digit of their weight: rounding error.
        changes = np.abs(move) > 1e-6 * np.abs(self.coef)
        self.distance = float(np.max((np.abs(move) / self.std_err)[changes], initial=0.0))

    def __str__(self) -> str:
        gaussian = self.kind == "t"
        r2, test = ("R²", "F") if gaussian else ("McFadden's R²", "likelihood ratio")
        adjusted = f", adjusted {self.adjusted_r2:.6g}" if gaussian else ""
        rows = [
            ("", "coef", "std err", self.kind, f"P>|{self.kind}|", f"[{0.5 - self.level / 2:.3g}",
             f"{0.5 + self.level / 2:.3g}]"),
            *(
                (name, f"{c:.6g}", f"{e:.4g}", f"{t:.4g}", f"{p:.3g}", f"{low:.6g}", f"{high:.6g}")
                for name, c, e, t, p, (low, high) in zip(
                    self.names, self.coef, self.std_err, self.statistic, self.p_values, self.conf_int, strict=True
                )
            ),
        ]  # fmt: skip
        first, *others = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = [
            f"{self.n:g} samples, {self.df_resid:g} degrees of freedom left",
            f"{r2} {self.r2:.6g}{adjusted}; {test} {self.f_statistic:.6g} (p = {self.f_p_value:.3g})",
            f"log-likelihood {self.log_likelihood:.6g}, AIC {self.aic:.6g}, BIC {self.bic:.6g}",
            "",
        ]
        for name, *cells in rows:
            line = [name.ljust(first), *map(str.rjust, cells, others)]
            lines.append("  ".join(line).rstrip())
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
        offset: ArrayLike | None = None,
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
        offset : array_like, (n,), optional
            Of the data, where the fit had one.

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
        if X is None and any(part is not None for part in (y, sample_weight, offset)):
            raise ValueError("X must be given with y, sample_weight and offset: all the data of the fit, or nothing")
        self._refuse_summary()
        names = list(map(str, self.coef_names_ if names is None else names))
        if len(names) != np.shape(self.coef_)[-1]:
            raise ValueError(f"names must be {np.shape(self.coef_)[-1]}, one for each coefficient; got {len(names)}")
        objective, offset = self._objective_of_summary(X, y, sample_weight, offset)
        with np.errstate(all="ignore"), one_blas_thread(objective.rows.n * objective.rows.d**2):
            found = Summary(objective, *self._weights_so_far(objective), names, level, offset)
        if found.distance > 0.1:
            warnings.warn(
                f"the weights are {found.distance:.2g} standard errors from those with the highest likelihood of these "
                "data, which the table is about: fit without early_stopping, to a smaller tol, or pass the data of "
                "the fit",
                ConvergenceWarning,
                stacklevel=2,
            )
        return found

    def covariance_of(self, X: Table, y: ArrayLike) -> tuple[Doubles, float, int]:
        """Covariance of the weights, variance of an observation, and degrees of freedom, for the squared error."""
        self._refuse_summary()
        if not losses.get(self.loss).estimates_variance:
            raise ValueError(f"level is for the squared error; this model has the loss {self.loss!r}")
        objective, offset = self._objective_of_summary(X, y, None)
        return of_weights(objective, *self._weights_so_far(objective), offset)

    def _refuse_summary(self):
        if self.penalty is not None:
            raise ValueError(
                f"a penalised fit has no standard errors: its weights are drawn to 0 (penalty={self.penalty!r}); "
                "fit with penalty=None"
            )
        if not losses.get(self.loss).likelihood or np.atleast_2d(self.coef_).shape[0] != 1:
            known = ", ".join(map(repr, likelihoods()))
            raise ValueError(f"summary is for one output and the losses {known}; got {self.loss!r}")
