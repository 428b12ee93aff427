"""Flux calibration from many visits: stars, epochs and subarrays combined filter by filter.

Weights and significance rest on each visit's own errors (photon noise, dither scatter, spread over radii) and on a
scatter between visits that is estimated along with the factor, after Paule & Mandel (1982, J. Res. NBS 87, 377); where
few visits tell it, errors are widened after Hartung & Knapp (2001, Stat. Med. 20, 3875). What
visits share, the spectra's flux scale and the aperture correction, is not averaged down: it enters the error once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq, minimize_scalar
from scipy.stats import norm, t

from niriss_eestep.errors import ParameterError

__all__ = ["Factor", "Ratio", "Slope", "TimeDependence", "VisitCalibration", "combine_visits"]

Array = NDArray[np.float64]

OWN_TERMS = (
    "err_photon",
    "err_scatter",
    "err_radii",
    "err_flat",
    "err_sky",
)  # of the error budget: independent from visit to visit
TEXT_COLUMNS = ("target", "filter", "pupil", "subarray", "status")
NUMBER_COLUMNS = (
    "photmjsr",
    "photmjsr_err",
    "photmjsr_mono",
    "photuja2",
    "count_rate",
    "mjd",
    "err_aperture",
    "err_spectrum",
)
YEAR = 365.0  # [d] as jwst.photom.time_dependence has it
CLIP_MIN = 5  # among fewer visits, less what is fitted to them, no outlier can be told
MAD_TO_SIGMA = 1.4826  # of a normal distribution
MAD_EFFICIENCY = 0.37  # degrees of freedom of the scatter per visit: Huber (1981, Robust Statistics)
DELTA_BIC = 10.0  # "very strong" evidence: Kass & Raftery (1995, JASA 90, 773)
SAME_EPOCH = 1.0  # [d] visits closer than this are one epoch
STAR_TURNS = 20
#: a trend across stars that hardly overlap in time rests on their levels, which the errors of a trend take as known: in
#: two blocks the share is a quarter, and those errors are half of what they should be
LEAST_WITHIN_STARS = 0.5
SPARE_EPOCHS = 2  # epochs beyond a form's number of parameters that are asked for before it is tried
RATE_RANGE = 2.0  # count rates within this factor say nothing about linearity
FORMS = {"constant": 1, "linear": 2, "exponential": 3, "powerlaw": 3}  # parameters, the level included


@dataclass(frozen=True, slots=True)
class TimeDependence:
    """How a filter's sensitivity changes.

    The sensitivity (1 / PHOTMJSR) at time t is that at ``t0`` times a correction, as in `jwst.photom.time_dependence`:
    linear ``1 - lossperyear (t - t0) / 365``; exponential ``amplitude exp(-(t - t0) / tau) + const``; powerlaw
    ``year1value ((t - t0 + tsoft) / (365 + tsoft))^alpha``. The correction is 1 at t0.

    Parameters
    ----------
    form : str
        ``constant``, ``linear``, ``exponential`` or ``powerlaw``.
    t0 : float
        Reference day [MJD].
    parameters, errors : mapping of str to float
        The form's parameters and their standard errors; times in days.
    bic : mapping of str to float
        Bayesian information criterion of each form that was tried, less that of the constant.
    status : str
        What was found, or why it is not constrained.
    """

    form: str
    t0: float
    parameters: Mapping[str, float] = field(default_factory=dict)
    errors: Mapping[str, float] = field(default_factory=dict)
    bic: Mapping[str, float] = field(default_factory=dict)
    status: str = ""

    def correction(self, mjd: float | Array) -> Array:
        """Return sensitivity relative to that at ``t0``.

        Parameters
        ----------
        mjd : float or ndarray
            [MJD].

        Returns
        -------
        ndarray
        """
        days = np.asarray(mjd, dtype=np.float64) - self.t0
        p = self.parameters
        if self.form == "linear":
            return 1.0 - p["lossperyear"] * days / YEAR
        if self.form == "exponential":
            return p["amplitude"] * np.exp(-days / p["tau"]) + p["const"]
        if self.form == "powerlaw":
            return p["year1value"] * ((days + p["tsoft"]) / (YEAR + p["tsoft"])) ** p["alpha"]
        return np.ones_like(days)


@dataclass(frozen=True, slots=True)
class Factor:
    """The flux calibration of one filter.

    Parameters
    ----------
    filter, pupil : str
        The science filter, and the headers' PUPIL.
    photmjsr, photmjsr_err : float
        [MJy/sr per DN/s], from the band-averaged F_nu; at ``time.t0`` where the sensitivity changes. The error holds
        all terms below.
    photmjsr_mono : float
        The same from the monochromatic F_nu.
    photuja2, photuja2_err : float
        [uJy/arcsec2 per DN/s].
    err_visits, err_spectrum, err_aperture : float
        Fractional standard errors: of the mean over visits; of the stars' spectra; of the aperture correction. Of few
        visits the first is widened for a scatter that they hardly tell: 68 % confidence, with the tails of Student's t.
    scatter : float
        Fractional standard deviation between the visits kept, about the time dependence; NaN for fewer than two.
    excess : float
        The part of it (fractional) that the visits' own errors do not explain.
    n_visits, n_clipped : int
        Visits kept, and visits left out as outliers.
    targets, subarrays : tuple of str
        What the visits kept observed.
    time : TimeDependence
    """

    filter: str
    pupil: str
    photmjsr: float
    photmjsr_err: float
    photmjsr_mono: float
    photuja2: float
    photuja2_err: float
    err_visits: float
    err_spectrum: float
    err_aperture: float
    scatter: float
    excess: float
    n_visits: int
    n_clipped: int
    targets: tuple[str, ...]
    subarrays: tuple[str, ...]
    time: TimeDependence


@dataclass(frozen=True, slots=True)
class Ratio:
    """PHOTMJSR of one subarray, or star, over that of another.

    Parameters
    ----------
    kind : str
        ``subarray`` or ``target``.
    filter : str
        ``all`` for the mean over the filters.
    first, second : str
        What is divided by what.
    ratio, err : float
        With its standard error from the visits' own errors and the scatter between visits to one star in one subarray;
        NaN where not constrained. No two visits alike leave that scatter unknown, and then it is taken as none.
    err_spectrum : float
        What the stars' spectra add to it: 0 for subarrays, which are compared on the same star.
    n : int
        Pairs averaged.
    status : str
        ``measured``, or why it is not constrained.
    """

    kind: str
    filter: str
    first: str
    second: str
    ratio: float
    err: float
    err_spectrum: float
    n: int
    status: str


@dataclass(frozen=True, slots=True)
class Slope:
    """Change of PHOTMJSR with the star's count rate: of a linear detector, none.

    Parameters
    ----------
    filter : str
    slope, err : float
        Fractional change per factor of ten in count rate; NaN where not constrained. The error holds those of the
        stars' spectra: stars of different brightness tell no smaller slope than their spectra are good to.
    status : str
        ``measured``, or why it is not constrained.
    """

    filter: str
    slope: float
    err: float
    status: str


@dataclass(frozen=True, slots=True, eq=False)
class VisitCalibration:
    """What many visits say together.

    Parameters
    ----------
    factors : tuple of Factor
        One per filter, in the order of the rows.
    ratios : tuple of Ratio
        Subarray to subarray, then star to star.
    slopes : tuple of Slope
        One per filter.
    kept : ndarray of bool, shape (n_rows,)
        Rows that a factor rests on.
    reason : tuple of str
        Per row why it was left out; empty where it was not.
    """

    factors: tuple[Factor, ...]
    ratios: tuple[Ratio, ...]
    slopes: tuple[Slope, ...]
    kept: NDArray[np.bool_]
    reason: tuple[str, ...]


def combine_visits(table: Any, *, clip_sigma: float = 3.0, delta_bic: float = DELTA_BIC) -> VisitCalibration:
    """Combine the rows of many absolute-flux tables.

    Parameters
    ----------
    table : structured ndarray, Table, or mapping of str to array
        The columns of the absolute-flux table, one row per group and visit.
    clip_sigma : float, optional
        Visits further than this from the others are left out, where there are at least five.
    delta_bic : float, optional
        By how much the Bayesian information criterion must fall before a time dependence is taken for real.

    Returns
    -------
    VisitCalibration

    Raises
    ------
    ParameterError
        Where no row can be used, a column is missing, or a parameter is not positive.
    """
    for name, value in (("clip_sigma", clip_sigma), ("delta_bic", delta_bic)):
        if not value > 0:
            raise ParameterError(f"{name} must be positive, not {value}")
    rows = _columns(table)
    reason = _unusable(rows)
    usable = np.array([not text for text in reason], dtype=bool)
    if not usable.any():
        told = "; ".join(sorted(set(reason))) or "the tables are empty"
        raise ParameterError(f"none of the {len(reason)} rows can be used: {told}")
    factors, kept = [], usable.copy()
    for name in dict.fromkeys(rows["filter"][usable]):
        (index,) = np.nonzero(usable & (rows["filter"] == name))
        factor, inliers = _factor(name, _take(rows, index), clip_sigma, delta_bic)
        factors.append(factor)
        kept[index[~inliers]] = False
    for i in np.nonzero(usable & ~kept)[0]:
        reason[i] = f"outlier of more than {clip_sigma:g} sigma"
    good = _take(rows, np.nonzero(kept)[0])
    corrections = {factor.filter: factor.time for factor in factors}
    good["level"] = good["photmjsr"] * np.array(
        [corrections[name].correction(mjd) for name, mjd in zip(good["filter"], good["mjd"], strict=True)]
    )
    ratios = (*_ratios(good, "subarray", "target"), *_ratios(good, "target", "subarray"))
    slopes = tuple(_slope(good, factor) for factor in factors)
    return VisitCalibration(tuple(factors), ratios, slopes, kept, tuple(reason))


def _columns(table: Any) -> dict[str, Any]:
    """Return the columns needed as arrays, with each row's own fractional error."""
    try:
        rows: dict[str, Any] = {name: np.asarray(table[name]).astype(str) for name in TEXT_COLUMNS}
        own = [name for name in OWN_TERMS if name in table.dtype.names or name not in ("err_flat", "err_sky")]
        rows |= {name: np.asarray(table[name], dtype=np.float64) for name in (*NUMBER_COLUMNS, *own)}
    except (KeyError, ValueError, IndexError) as error:
        raise ParameterError(f"not a table of absolute fluxes: {error}") from error
    rows["own"] = np.sqrt(sum(np.nan_to_num(rows[name]) ** 2 for name in own))
    return rows


def _take(rows: Mapping[str, Any], index: Any) -> dict[str, Any]:
    """Return some of the rows."""
    return {name: values[index] for name, values in rows.items()}


def _unusable(rows: Mapping[str, Any]) -> list[str]:
    """Return per row why it cannot be used; empty where it can."""
    reasons = []
    for status, photmjsr, own in zip(rows["status"], rows["photmjsr"], rows["own"], strict=True):
        reason = ""
        if status.startswith("failed"):
            reason = status
        elif not (np.isfinite(photmjsr) and photmjsr > 0):
            reason = f"PHOTMJSR is {photmjsr:g}"
        elif not own > 0:
            reason = "no error of its own"
        reasons.append(reason)
    return reasons


def _factor(name: str, rows: dict[str, Any], clip_sigma: float, delta_bic: float) -> tuple[Factor, NDArray[np.bool_]]:
    """Return the factor of one filter and which of its rows it rests on."""
    t0 = _reference_day(rows["mjd"])
    middle = float(np.median(rows["photmjsr"]))
    value = middle / rows["photmjsr"]
    data = _Series(rows["mjd"] - t0, value, rows["own"], np.unique(rows["target"], return_inverse=True)[1])
    inliers = _inliers(data.divided(_star_levels(data)), clip_sigma)
    kept, data = _take(rows, np.nonzero(inliers)[0]), data.take(inliers)
    time, time_err = _time_dependence(data, t0, delta_bic)
    fit = _fit(data.divided(time.correction(kept["mjd"])), "constant")
    weight = fit.weight / fit.weight.sum()
    residual = fit.residual / fit.level
    err_visits = max(fit.level_err / fit.level, time_err)
    shared = {term: float(np.sum(weight * np.nan_to_num(kept[term]))) for term in ("err_spectrum", "err_aperture")}
    photmjsr = middle / fit.level
    fraction = float(np.sqrt(err_visits**2 + sum(value**2 for value in shared.values())))
    per_band = {
        column: float(np.sum(weight * kept[column] / kept["photmjsr"])) for column in ("photmjsr_mono", "photuja2")
    }
    return Factor(
        filter=str(name),
        pupil=str(kept["pupil"][0]),
        photmjsr=photmjsr,
        photmjsr_err=photmjsr * fraction,
        photmjsr_mono=photmjsr * per_band["photmjsr_mono"],
        photuja2=photmjsr * per_band["photuja2"],
        photuja2_err=photmjsr * per_band["photuja2"] * fraction,
        err_visits=err_visits,
        **shared,
        scatter=float(np.std(residual, ddof=1)) if residual.size > 1 else np.nan,
        excess=fit.excess / fit.level,
        n_visits=int(residual.size),
        n_clipped=int(np.sum(~inliers)),
        targets=tuple(dict.fromkeys(map(str, kept["target"]))),
        subarrays=tuple(dict.fromkeys(map(str, kept["subarray"]))),
        time=time,
    ), inliers


def _reference_day(mjd: Array) -> float:
    """Return the whole day before the first visit; a photom file keeps it in 32 bits."""
    return float(np.floor(np.nanmin(mjd))) if np.isfinite(mjd).any() else np.nan


@dataclass(frozen=True, slots=True, eq=False)
class _Series:
    """Relative sensitivity against time since the reference day [d]; ``star`` numbers the stars from 0."""

    days: Array
    value: Array
    err: Array
    star: NDArray[np.int64]

    def take(self, chosen: NDArray[np.bool_]) -> _Series:
        return _Series(self.days[chosen], self.value[chosen], self.err[chosen], self.star[chosen])

    def divided(self, by: Array) -> _Series:
        return _Series(self.days, self.value / by, self.err / by, self.star)


def _star_levels(data: _Series) -> Array:
    """Return for each visit the median of its star's visits."""
    levels = np.ones_like(data.value)
    for star in np.unique(data.star):
        levels[data.star == star] = np.median(data.value[data.star == star])
    return levels


@dataclass(frozen=True, slots=True, eq=False)
class _Fit:
    """A form fitted to a series: value at day 0 and its error, parameters, residuals, weights, scatter, -2 ln L."""

    level: float
    level_err: float
    parameters: Mapping[str, float]
    errors: Mapping[str, float]
    residual: Array
    weight: Array
    excess: float
    deviance: float


def _inliers(data: _Series, clip_sigma: float) -> NDArray[np.bool_]:
    """Return which visits agree with the most flexible curve that the data allow, so that no trend is clipped.

    A visit is left out that is both beyond its own error and beyond the scatter of the others. Among few visits that
    scatter is hardly known and only gross outliers are told (10 visits: 7 times the scatter, 30: 4 times), whether the
    visits' errors explain the scatter or not: their few small residuals would else condemn visits with real scatter.
    """
    inside = np.ones(data.value.size, dtype=bool)
    while True:
        part = data.take(inside)
        dated = bool(np.isfinite(part.days).all()) and _n_epochs(part.days) >= FORMS["exponential"] + 2 * SPARE_EPOCHS
        form = "exponential" if dated else "constant"
        # residuals that the stars' medians and the curve bring to zero say nothing of the scatter
        n_fitted = np.unique(part.star).size + FORMS[form] - 2
        if part.value.size - n_fitted < CLIP_MIN:
            break
        residual = _fit(part, form).residual
        residual = residual - np.median(residual)
        spread = np.sort(np.abs(residual))[n_fitted:]
        robust = MAD_TO_SIGMA * float(np.median(spread))
        excess = np.sqrt(max(0.0, robust**2 - float(np.median(part.err)) ** 2))
        # of the same chance as clip_sigma, for a scatter that is itself estimated
        far = float(t.isf(norm.sf(clip_sigma), MAD_EFFICIENCY * spread.size))
        pull = np.abs(residual) / np.maximum(clip_sigma * np.hypot(part.err, excess), far * robust)
        worst = int(np.argmax(pull))
        if pull[worst] <= 1.0:
            break
        inside[np.nonzero(inside)[0][worst]] = False
    return inside


def _n_epochs(days: Array) -> int:
    """Return the number of epochs: dates further apart than a day."""
    dates = np.sort(days[np.isfinite(days)])
    return int(dates.size > 0) + int(np.sum(np.diff(dates) > SAME_EPOCH))


def _time_within_stars(data: _Series) -> float:
    """Return the share of the dates' variance that is between visits to one star: 1 where stars take turns."""
    within = [data.days[data.star == star] - data.days[data.star == star].mean() for star in np.unique(data.star)]
    return float(np.sum(np.concatenate(within) ** 2) / np.sum((data.days - data.days.mean()) ** 2))


def _time_dependence(data: _Series, t0: float, delta_bic: float) -> tuple[TimeDependence, float]:
    """Choose the simplest form that the data ask for; return it and the fractional error of the level at t0.

    Each star has a level of its own: a star whose spectrum is off, observed late, is no time dependence.
    """
    n_epochs, needed = _n_epochs(data.days), FORMS["linear"] + SPARE_EPOCHS
    if not np.all(np.isfinite(data.days)) or n_epochs < needed:
        status = f"not constrained: {n_epochs} epoch{'s' * (n_epochs != 1)}, at least {needed} are needed"
        return TimeDependence("constant", t0, status=status), 0.0
    if _time_within_stars(data) < LEAST_WITHIN_STARS:
        status = "not constrained: the stars were observed one after the other"
        return TimeDependence("constant", t0, status=status), 0.0
    fits = {form: _fit_with_stars(data, form) for form, k in FORMS.items() if n_epochs >= k + SPARE_EPOCHS}
    penalty = np.log(data.value.size)
    bic = {form: fit.deviance + FORMS[form] * penalty for form, fit in fits.items()}
    best = "constant"
    for form in fits:
        more = FORMS[form] > FORMS[best]
        if bic[form] < bic[best] - (delta_bic if more else 0.0):
            best = form
    change = {form: float(bic[form] - bic["constant"]) for form in fits if form != "constant"}
    if best == "constant":
        lowest = min(change, key=lambda form: change[form])
        status = f"constant: {lowest} changes the BIC by {change[lowest]:+.1f}, -{delta_bic:g} is asked for"
        return TimeDependence(best, t0, bic=change, status=status), 0.0
    fit, status = fits[best], f"{best}: changes the BIC by {change[best]:+.1f}"
    return TimeDependence(best, t0, fit.parameters, fit.errors, change, status), fit.level_err / fit.level


def _fit_with_stars(data: _Series, form: str) -> _Fit:
    """Fit a form and a level for each star in turns, until they agree."""
    stars, levels = np.unique(data.star), np.ones_like(data.value)
    fit = _fit(data, form)
    if stars.size == 1:
        return fit
    levels = _star_levels(data)
    for _ in range(STAR_TURNS):
        fit = _fit(data.divided(levels), form, n_more=stars.size - 1)
        # what the form leaves of each star goes into the star's level
        for star in stars:
            mine = data.star == star
            fitted = data.value[mine] / levels[mine] - fit.residual[mine]
            gain = np.average(1.0 + fit.residual[mine] / fitted, weights=fit.weight[mine])
            levels[mine] *= gain
    return fit


def _fit(data: _Series, form: str, *, n_more: int = 0, n_known: int = 0) -> _Fit:
    """Fit a form and the scatter between visits that it leaves; ``n_more`` parameters have been fitted elsewhere.

    ``n_known`` degrees of freedom elsewhere agree with the errors given.

    Errors are the wider of two: those of the visits' errors and scatter taken as known, and those of the residuals with
    Student's t for their few degrees of freedom (Hartung & Knapp 2001, Stat. Med. 20, 3875; Sidik & Jonkman 2002, Stat.
    Med. 21, 3153; the wider after Wiksten et al. 2016, Stat. Med. 35, 2503). They hold the truth in 68 % of cases for
    any scatter. The price: where the visits' own errors are all there is, the error of the mean of 2, 3, 5, 10 visits
    is too large by 23, 10, 5, 2 % (median), for the visits alone cannot tell. Beyond 68 % tails stay those of t.
    """
    n_free = data.value.size - FORMS[form] - n_more
    excess = 0.0
    for _ in range(2):  # weights and scatter settle at once, as the visits' errors are much alike
        shape = _fit_shape(data, np.hypot(data.err, excess), form)
        excess = _excess(data.value - shape.model(data.days), data.err, n_free)
    sigma = np.hypot(data.err, excess)
    shape = _fit_shape(data, sigma, form)
    residual = data.value - shape.model(data.days)
    deviance = float(np.sum((residual / sigma) ** 2 + 2 * np.log(sigma)))
    widening = _widening(float(np.sum((residual / sigma) ** 2)) + n_known, n_free + n_known)
    level, level_err, parameters, errors = shape.describe(data.days, sigma * widening)
    return _Fit(level, level_err, parameters, errors, residual, sigma**-2, excess, deviance)


def _widening(chi2: float, n_free: int) -> float:
    """Return what errors grow by for residuals whose scatter is known from few degrees of freedom."""
    if n_free < 1:
        return 1.0
    return max(1.0, float(t.isf(norm.sf(1.0), n_free)) * float(np.sqrt(chi2 / n_free)))


def _excess(residual: Array, err: Array, n_free: int) -> float:
    """Return the scatter that brings chi-squared to the number of degrees of freedom (Paule & Mandel 1982)."""

    def surplus(excess: float) -> float:
        return float(np.sum(residual**2 / (err**2 + excess**2))) - n_free

    return _settled(surplus, float(np.sqrt(np.sum(residual**2)))) if n_free > 0 else 0.0


def _settled(surplus: Callable[[float], float], most: float) -> float:
    """Return the scatter at which chi-squared has no surplus; 0 where it never has."""
    if surplus(0.0) <= 0:
        return 0.0
    while surplus(most) > 0:
        most *= 2
    return float(brentq(surplus, 0.0, most))


@dataclass(frozen=True, slots=True, eq=False)
class _Shape:
    """A form with its coefficients; ``curve`` takes days and coefficients."""

    curve: Callable[[Array, Array], Array]
    coefficients: Array
    parameters: Callable[[Array], Mapping[str, float]]

    def model(self, days: Array) -> Array:
        return self.curve(days, self.coefficients)

    def describe(self, days: Array, sigma: Array) -> tuple[float, float, Mapping[str, float], Mapping[str, float]]:
        """Return value and error on day 0, and parameters and errors, by linear propagation."""
        covariance = np.linalg.pinv(_information(lambda c: self.curve(days, c) / sigma, self.coefficients))

        def outcome(coefficients: Array) -> Array:
            level = float(self.curve(np.zeros(1), coefficients)[0])
            return np.array([level, *self.parameters(coefficients).values()])

        values, slopes = outcome(self.coefficients), _jacobian(outcome, self.coefficients)
        errors = np.sqrt(np.maximum(np.diagonal(slopes @ covariance @ slopes.T), 0.0))
        names = list(self.parameters(self.coefficients))
        parameters, parameter_errors = (dict(zip(names, map(float, v[1:]), strict=True)) for v in (values, errors))
        return float(values[0]), float(errors[0]), parameters, parameter_errors


def _jacobian(function: Callable[[Array], Array], at: Array) -> Array:
    """Return the derivatives of a vector by central differences."""
    columns = []
    for i, value in enumerate(at):
        step = np.zeros(at.size)
        step[i] = 1e-5 * max(abs(value), 1e-3)
        columns.append((function(at + step) - function(at - step)) / (2 * step[i]))
    return np.stack(columns, axis=1)


def _information(scaled: Callable[[Array], Array], at: Array) -> Array:
    """Return the Fisher information of a model in units of its errors."""
    slopes = _jacobian(scaled, at)
    return slopes.T @ slopes


def _fit_shape(data: _Series, sigma: Array, form: str) -> _Shape:
    """Fit one form with given errors."""
    if form == "constant":
        level = np.average(data.value, weights=sigma**-2)
        return _Shape(lambda days, c: np.full(days.shape, c[0]), np.array([level]), lambda c: {})
    if form == "linear":
        coefficients = _linear_fit([np.ones_like(data.days), data.days / YEAR], data.value, sigma)
        return _Shape(
            lambda days, c: c[0] + c[1] * days / YEAR, coefficients, lambda c: {"lossperyear": float(-c[1] / c[0])}
        )
    return _fit_exponential(data, sigma) if form == "exponential" else _fit_powerlaw(data, sigma)


def _fit_exponential(data: _Series, sigma: Array) -> _Shape:
    """Fit ``c0 exp(-days / tau) + c1``: linear but for tau."""

    def curve(days: Array, c: Array) -> Array:
        return c[0] * np.exp(-days / np.exp(c[2])) + c[1]

    def solve(log_tau: float) -> Array:
        basis = [np.exp(-data.days / np.exp(log_tau)), np.ones_like(data.days)]
        return np.append(_linear_fit(basis, data.value, sigma), log_tau)

    def parameters(c: Array) -> Mapping[str, float]:
        total = c[0] + c[1]
        return {"amplitude": float(c[0] / total), "tau": float(np.exp(c[2])), "const": float(c[1] / total)}

    return _Shape(curve, _scan(data, sigma, curve, solve), parameters)


def _fit_powerlaw(data: _Series, sigma: Array) -> _Shape:
    """Fit ``c0 (days / tsoft + 1)^c1``: linear in the logarithm but for tsoft."""

    def curve(days: Array, c: Array) -> Array:
        return c[0] * (days / np.exp(c[2]) + 1.0) ** c[1]

    def solve(log_tsoft: float) -> Array:
        basis = [np.ones_like(data.days), np.log1p(data.days / np.exp(log_tsoft))]
        logarithm = _linear_fit(basis, np.log(data.value), sigma / data.value)
        return np.array([np.exp(logarithm[0]), logarithm[1], log_tsoft])

    def parameters(c: Array) -> Mapping[str, float]:
        tsoft = float(np.exp(c[2]))
        return {"year1value": (YEAR / tsoft + 1.0) ** float(c[1]), "tsoft": tsoft, "alpha": float(c[1])}

    return _Shape(curve, _scan(data, sigma, curve, solve), parameters)


def _linear_fit(basis: list[Array], value: Array, sigma: Array) -> Array:
    """Return the weighted least-squares coefficients."""
    design = np.stack(basis, axis=1) / sigma[:, np.newaxis]
    return np.asarray(np.linalg.lstsq(design, value / sigma, rcond=None)[0])


def _scan(
    data: _Series, sigma: Array, curve: Callable[[Array, Array], Array], solve: Callable[[float], Array]
) -> Array:
    """Return the coefficients at the time scale of least chi-squared, between a 30th of the span and 3 spans."""

    def chi2(log_scale: float) -> float:
        return float(np.sum(((data.value - curve(data.days, solve(log_scale))) / sigma) ** 2))

    span = max(float(np.ptp(data.days)), SAME_EPOCH)
    grid = np.linspace(np.log(span / 30), np.log(3 * span), 25)
    best = int(np.argmin([chi2(scale) for scale in grid]))
    bounds = grid[max(best - 1, 0)], grid[min(best + 1, grid.size - 1)]
    return solve(float(minimize_scalar(chi2, bounds=bounds, method="bounded", options={"xatol": 1e-4}).x))


def _mean(value: Array, err: Array, n_known: int = 0) -> tuple[float, float]:
    """Return a weighted mean and its error, with the scatter that the errors do not explain."""
    series = _Series(np.zeros(value.size), value, err, np.zeros(value.size, dtype=int))
    fit = _fit(series, "constant", n_known=n_known)
    return fit.level, fit.level_err


def _repeatability(rows: Mapping[str, Any]) -> tuple[float, int]:
    """Return a filter's scatter between visits to one star in one subarray, and its degrees of freedom.

    Fractional, beyond the visits' own errors. All stars and subarrays tell it together, but for their differences.
    """
    names = [f"{target} {subarray}" for target, subarray in zip(rows["target"], rows["subarray"], strict=True)]
    sets = [np.nonzero(np.array(names) == name)[0] for name in dict.fromkeys(names)]
    n_free, excess = len(names) - len(sets), 0.0
    for _ in range(2):  # as in _fit
        residual, weight = np.empty(len(names)), 1.0 / (rows["own"] ** 2 + excess**2)
        for mine in sets:
            residual[mine] = rows["level"][mine] / np.average(rows["level"][mine], weights=weight[mine]) - 1.0
        excess = _excess(residual, rows["own"], n_free)
    return excess, n_free


def _ratios(rows: dict[str, Any], kind: str, within: str) -> Iterable[Ratio]:
    """Yield the ratios between subarrays on one star, or stars in one subarray, by filter and over all filters."""
    for first, second in combinations(sorted(set(map(str, rows[kind]))), 2):
        per_filter = [
            _ratio(_take(rows, rows["filter"] == name), kind, within, first, second, str(name))
            for name in dict.fromkeys(rows["filter"])
        ]
        yield from per_filter
        measured = [ratio for ratio in per_filter if ratio.n]
        if len(measured) > 1:
            values, errors = (np.array([getattr(ratio, key) for ratio in measured]) for key in ("ratio", "err"))
            mean, err = _mean(values, errors)
            # the spectra's errors are of the flux scale: common to the filters
            spectrum = float(np.mean([ratio.err_spectrum for ratio in measured]))
            n = sum(ratio.n for ratio in measured)
            yield Ratio(kind, "all", first, second, mean, err, spectrum, n, "measured")


def _ratio(rows: dict[str, Any], kind: str, within: str, first: str, second: str, filter_name: str) -> Ratio:
    """Return one ratio, averaged over the stars (or subarrays) that both have.

    Either side may be a single visit: how visits scatter is known from all of the filter's.
    """
    excess, n_known = _repeatability(rows)
    values, errors, spectra = [], [], []
    for common in dict.fromkeys(rows[within]):
        sides = [_take(rows, (rows[kind] == side) & (rows[within] == common)) for side in (first, second)]
        if any(side["level"].size == 0 for side in sides):
            continue
        # one scale for either side's errors: weights that follow the value draw the mean down
        (above, above_err), (below, below_err) = (
            _mean(side["level"], np.median(side["level"]) * np.hypot(side["own"], excess), n_known) for side in sides
        )
        values.append(above / below)
        errors.append(above / below * np.hypot(above_err / above, below_err / below))
        spectra.append(np.hypot(*(np.mean(np.nan_to_num(side["err_spectrum"])) for side in sides)))
    if not values:
        what = "star in both subarrays" if kind == "subarray" else "subarray with both stars"
        status = f"not constrained: no {what}"
        return Ratio(kind, filter_name, first, second, np.nan, np.nan, np.nan, 0, status)
    mean, err = _mean(np.array(values), np.array(errors))
    spectrum = float(np.mean(spectra)) * mean if kind == "target" else 0.0
    return Ratio(kind, filter_name, first, second, mean, err, spectrum, len(values), "measured")


def _slope(rows: dict[str, Any], factor: Factor) -> Slope:
    """Return the change of a filter's factor with count rate."""
    part = _take(rows, rows["filter"] == factor.filter)
    rate = np.log10(part["count_rate"])
    if rate.size < 3 or np.ptp(rate) < np.log10(RATE_RANGE):
        reason = f"{rate.size} visits" if rate.size < 3 else f"count rates within a factor of {10 ** np.ptp(rate):.2f}"
        return Slope(factor.filter, np.nan, np.nan, f"not constrained: {reason}")
    names, star = np.unique(part["target"], return_inverse=True)
    for number in range(names.size):
        mine = star == number
        # what a visit's rate has too much its factor has too little: noise alone would be a slope
        if np.ptp(rate[mine]) < np.log10(RATE_RANGE):
            rate[mine] = rate[mine].mean()
    line = np.stack([np.ones(rate.size), rate - rate.mean()], axis=1)
    slope, err = _line_through_stars(line, part["level"] / factor.photmjsr, part["own"], star, part["err_spectrum"])
    return Slope(factor.filter, slope, err, "measured")


def _line_through_stars(
    line: Array, value: Array, own: Array, star: NDArray[np.int64], spectrum: Array
) -> tuple[float, float]:
    """Return slope and error of a line through visits to several stars.

    A star's visits share the error of its spectrum, which no number of visits averages down. The scatter between visits
    comes from how they scatter about their own star, and a scatter between stars, beyond the spectra's errors, from how
    the stars scatter about the line.

    Parameters
    ----------
    line : ndarray, shape (n, 2)
        One and the abscissa.
    value, own, spectrum : ndarray, shape (n,)
        Ordinate, each visit's own error and that of its star's spectrum.
    star : ndarray of int, shape (n,)
    """
    same = (star[:, np.newaxis] == star).astype(np.float64)
    known = same * np.outer(np.nan_to_num(spectrum), np.nan_to_num(spectrum))
    # the stars' levels free: the spectra's errors are out of the residuals
    levels = np.column_stack([np.eye(star.max() + 1)[star], line[:, 1]])
    rank = int(np.linalg.matrix_rank(levels))
    n_within, n_between = value.size - rank, rank - line.shape[1]

    def within(variance: Array) -> float:
        return _generalised(levels, value, np.diag(variance))[1]

    def across(variance: Array, excess: float = 0.0) -> tuple[Array, float, Array]:
        return _generalised(line, value, np.diag(variance) + known + excess**2 * same)

    most = float(np.max(np.abs(value - value.mean()) + own))
    excess = _settled(lambda x: within(own**2 + x**2) - n_within, most) if n_within > 0 else 0.0
    variance = own**2 + excess**2
    variance *= _widening(within(variance), n_within) ** 2
    inside = within(variance)
    excess = _settled(lambda x: across(variance, x)[1] - inside - n_between, most) if n_between > 0 else 0.0
    coefficients, chi2, covariance = across(variance, excess)
    return float(coefficients[1]), float(np.sqrt(covariance[1, 1])) * _widening(chi2 - inside, n_between)


def _generalised(design: Array, value: Array, covariance: Array) -> tuple[Array, float, Array]:
    """Return coefficients, chi-squared and covariance of a least-squares fit to values with correlated errors."""
    root = np.linalg.cholesky(covariance)
    scaled, target = np.linalg.solve(root, design), np.linalg.solve(root, value)
    coefficients = np.linalg.lstsq(scaled, target, rcond=None)[0]
    chi2 = float(np.sum((target - scaled @ coefficients) ** 2))
    return coefficients, chi2, np.linalg.pinv(scaled.T @ scaled)
