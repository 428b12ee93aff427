"""The PSF adjusted to what the star itself shows: modes of the EE fitted to the curves of growth of all filters.

One wavefront makes the PSFs of all filters of a visit. With z the observed total at each radius over the star's total,
less 1, and a the fractional changes of the effective EE per unit of each mode,

    z(filter, r) = a(filter, r) . (c + d(filter)) + noise

where the modes' coefficients c are common to all filters and d are a filter's own; both are normal about 0, of the
variances 1 - s^2 and s^2. The star's total in each filter is free. This is generalised least squares with the
covariance of z, which the prior gives; where the data say nothing, the prior stands. The total is the mean over the
radii averaged, of the light over the EE so found: with trial stars it is as good as the fit's own, to 0.001 %.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from operator import attrgetter
from typing import Any

import numpy as np
from scipy.linalg import block_diag
from scipy.special import chdtrc

from niriss_eestep.arrays import Array, Mask
from niriss_eestep.combine.mean import CombinedProfile
from niriss_eestep.flux.total_rate import TotalRate, effective_modes, total_rate

#: share s of a mode that each filter has for itself, so that one filter's errors, or a prior that is wrong, do not bind
#: the others; with 0.05 to 0.2 the totals of trial stars differ by < 0.02 % and are best at the least of them
OWN_SHARE = 0.1
#: standard deviation of the EE over pixel phases, by radius [pix]: root mean square over the filters, 36 phases of the
#: packaged PSF images
PHASE_RADIUS, PHASE_SD = (1.0, 2.0, 3.0, 4.0, 5.0, 6.0), (6.2e-3, 1.1e-3, 6.3e-4, 4.6e-4, 2.2e-4, 0.6e-4)
#: a coefficient beyond this many standard deviations of the prior: of 64, one in 250 fits has one by chance
EDGE = 4.0
#: the least probability of a chi-squared that is no reason for a warning
LEAST_PROBABILITY = 1e-4
#: the linear fit is repeated about its result; changes of 3 % leave (3 %)^2 / 2 at first, nothing the third time
N_ITERATIONS = 3


@dataclass(frozen=True, slots=True, eq=False)
class GroupTotal:
    """A group's total count rate, and what the PSF has to do with it.

    Parameters
    ----------
    total : TotalRate
    arrays : dict of str to ndarray
        Of the product: ``aperture_modes``, and what a fit gives.
    modes : ndarray, shape (n_radii, n_modes), optional
        Fractional change of the effective EE per unit of each mode of the PSF; None where the reference has none.
    modes_at : callable, optional
        Change of the EE at radii per unit of each mode.
    chi2_dof : float
        Of a fit, per degree of freedom.
    warnings : tuple of str
        What the user should know about the fit.
    """

    total: TotalRate
    arrays: dict[str, Array] = field(default_factory=dict)
    modes: Array | None = None
    modes_at: Callable[[Array], Array] | None = None
    chi2_dof: float = float("nan")
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class GrowthCurve:
    """Curve of growth of one group, over the PSF's before the fit.

    Parameters
    ----------
    radius : ndarray, shape (n_radii,)
        Radii of use [pix].
    total : ndarray, shape (n_radii,)
        Count rate over effective EE [DN/s]: constant where the PSF is right.
    covariance : ndarray, shape (n_radii, n_radii)
        Of ``total``.
    modes : ndarray, shape (n_radii, n_modes)
        Fractional change of the effective EE per unit of each mode of the prior.
    n_exposures : int
        Exposures averaged; each has its own pixel phase.
    fitted, averaged : ndarray of bool, shape (n_radii,), optional
        Radii that the PSF is fitted to, and radii whose mean is the total; all by default, one at least.
    """

    radius: Array
    total: Array
    covariance: Array
    modes: Array
    n_exposures: int = 1
    fitted: Mask | None = None
    averaged: Mask | None = None

    @property
    def phase_variance(self) -> Array:
        """Variance of ``total`` from the pixel phases, as a fraction."""
        return np.interp(self.radius, PHASE_RADIUS, PHASE_SD) ** 2 / self.n_exposures


@dataclass(frozen=True, slots=True, eq=False)
class PSFFit:
    """Result of a fit; errors are fractions of the totals.

    Parameters
    ----------
    total : ndarray, shape (n_groups,)
        Total count rates [DN/s].
    weights : list of list of ndarray, shape (n_radii,)
        Change of total i per fractional change of curve j at each radius.
    aperture_modes : ndarray, shape (n_groups, n_modes + n_groups)
        What remains of the PSF's uncertainty: change of the totals per unit of each mode; then of what the filters have
        for themselves, of the pixel phases, and of the other groups' noise. The product with its transpose is the
        covariance of the totals but for the noise of their own profiles.
    coefficients : ndarray, shape (n_groups, n_modes)
        Most probable coefficients of each group's PSF.
    shared, shared_covariance : ndarray, shape (n_modes,) and (n_modes, n_modes)
        The same of the wavefront that all have in common, and their covariance.
    chi2 : float
        Chi-squared of the fit, prior included.
    dof : int
        Its degrees of freedom.
    before, after : list of ndarray, shape (n_radii,)
        Residuals of the curves, as fractions, about their totals: with the prior's PSF and with the fitted one.
    """

    total: Array
    weights: list[list[Array]]
    aperture_modes: Array
    coefficients: Array
    shared: Array
    shared_covariance: Array
    chi2: float
    dof: int
    before: list[Array]
    after: list[Array]

    @property
    def inflation(self) -> float:
        """Factor (>= 1) by which the errors honour a chi-squared that chance does not explain."""
        return float(np.sqrt(self.chi2 / self.dof)) if self.is_improbable else 1.0

    @property
    def is_improbable(self) -> bool:
        """Whether chi-squared is beyond reason."""
        return bool(self.dof > 0 and chdtrc(self.dof, self.chi2) < LEAST_PROBABILITY)

    @property
    def warnings(self) -> tuple[str, ...]:
        """What the user should know."""
        found = []
        if self.is_improbable:
            found.append(
                f"the fitted PSF leaves chi2/dof {self.chi2 / self.dof:.3g}: a neighbour, a damaged core, or a PSF "
                "that the reference's modes do not hold"
            )
        worst = float(np.abs(self.coefficients).max(initial=0.0))
        if worst > EDGE:
            found.append(f"the fitted PSF is {worst:.2g} standard deviations off in a mode: at the prior's edge")
        return tuple(found)


def fit_psf(curves: Sequence[GrowthCurve]) -> PSFFit:
    """Fit the modes of the PSF to the curves of growth of a visit's groups together.

    Parameters
    ----------
    curves : sequence of GrowthCurve
        One per group, each of one radius or more.

    Returns
    -------
    PSFFit

    Examples
    --------
    >>> import numpy as np
    >>> radius, mode = np.array([2.0, 5.0, 10.0]), np.array([[-0.02], [-0.01], [-0.005]])
    >>> curve = GrowthCurve(radius, 1000 * (1 + mode[:, 0]), np.diag([1e-4, 1e-4, 1e-4]), mode, 1000)
    >>> fit = fit_psf([curve])
    >>> round(float(fit.coefficients[0, 0]), 2), round(float(fit.total[0]), 1)
    (1.0, 1000.0)
    """
    group = np.repeat(np.arange(len(curves)), [len(curve.radius) for curve in curves])
    member = (group[:, None] == np.arange(len(curves))).astype(float)
    same = member @ member.T
    observed = np.concatenate([curve.total for curve in curves])
    modes = np.concatenate([curve.modes for curve in curves])
    noise = block_diag(*(curve.covariance for curve in curves))
    phases = np.diag(np.concatenate([curve.phase_variance for curve in curves]))
    fits, averages = (
        np.concatenate([np.ones(len(c.radius), bool) if mask(c) is None else mask(c) for c in curves])
        for mask in (attrgetter("fitted"), attrgetter("averaged"))
    )
    average = member.T * averages / (member.T @ averages)[:, None]
    total = average @ observed
    coefficients, common, own_share = np.zeros((len(curves), modes.shape[1])), 1 - OWN_SHARE**2, OWN_SHARE**2
    inverse = np.zeros_like(same)
    for _ in range(N_ITERATIONS):
        shape = 1 + np.sum(modes * coefficients[group], axis=1)
        level = total[group] * shape
        change = modes / shape[:, None]
        psf = change @ change.T * (common + own_share * same)
        prior = psf + phases
        inverse[np.ix_(fits, fits)] = np.linalg.inv((noise / np.outer(level, level) + prior)[np.ix_(fits, fits)])
        # about the PSF before the fit: the coefficients' prior is centred there
        z = observed / level - 1 + np.sum(change * coefficients[group], axis=1)
        # what the curves say whatever their totals are
        shapes = inverse - inverse @ member @ np.linalg.inv(member.T @ inverse @ member) @ member.T @ inverse
        drawn = shapes @ z
        shared = common * change.T @ drawn
        coefficients = shared + own_share * member.T @ (change * drawn[:, None])
        total = average @ (observed / (1 + np.sum(modes * coefficients[group], axis=1)))
    weights = average - average @ psf @ shapes
    sensitivity = -np.sqrt(common) * weights @ change
    others = np.where(member.T > 0, 0.0, weights)
    own = weights @ prior @ weights.T - sensitivity @ sensitivity.T
    own += np.diag(np.sum(others @ (noise / np.outer(level, level)) * others, axis=1))
    cuts = np.cumsum([len(curve.radius) for curve in curves])[:-1]
    known = change.T @ shapes @ change
    return PSFFit(
        total=total,
        weights=[np.split(row, cuts) for row in weights],
        aperture_modes=np.hstack([sensitivity, _root(own)]),
        coefficients=coefficients,
        shared=shared,
        shared_covariance=common * np.eye(len(shared)) - common**2 * known,
        chi2=float(z @ drawn),
        dof=int(fits.sum()) - len(curves),
        before=np.split(observed / total[group] - 1, cuts),
        after=np.split(observed / (total[group] * (1 + np.sum(modes * coefficients[group], axis=1))) - 1, cuts),
    )


def _root(covariance: Array) -> Array:
    """Symmetric root of a covariance; rounding may leave an eigenvalue below 0."""
    values, vectors = np.linalg.eigh(0.5 * (covariance + covariance.T))
    return np.asarray((vectors * np.sqrt(np.maximum(values, 0.0))) @ vectors.T)


def group_total(
    combined: CombinedProfile, area: Array, correction: Mapping[str, Any], modes_at: Callable[[Array], Array] | None
) -> GroupTotal:
    """Total count rate of a group with the PSF of a reference, and what its modes do to it.

    Parameters
    ----------
    combined : CombinedProfile
    area : ndarray, shape (n_exposures, n_radii)
        Areas of the apertures [pix].
    correction : mapping
        The other arguments of `niriss_eestep.flux.total_rate.total_rate`.
    modes_at : callable, optional
        Change of the EE at radii [pix], shape (n, n_modes), per unit of each mode of the PSF's prior.

    Returns
    -------
    GroupTotal
        ``err_aperture`` of its total is the width of the prior.
    """
    total = total_rate(combined, area=area, **correction)
    if modes_at is None:
        return GroupTotal(total)
    modes = effective_modes(modes_at, total, combined.exposure_weight, area, correction["rings"])
    on_total = -np.mean(modes[total.used], axis=0)
    total = replace(total, err_aperture=abs(total.count_rate) * float(np.sqrt(np.sum(on_total**2))))
    return GroupTotal(total, {"aperture_modes": on_total}, modes, modes_at)


def fitted_groups(
    groups: Sequence[tuple[GroupTotal, CombinedProfile, Mask, Callable[[Array], TotalRate]]],
) -> list[GroupTotal]:
    """Fit the PSF to groups of a product together.

    Parameters
    ----------
    groups : sequence of (GroupTotal, CombinedProfile, ndarray of bool, callable)
        Each group's total with the PSF before the fit; its profile; its radii of use; its total for coefficients of
        the modes.

    Returns
    -------
    list of GroupTotal
        That of the fit; the one before it, with a warning, where its errors are no smaller.
    """
    fit, results = fit_psf([growth_curve(*group[:3]) for group in groups]), []
    for i, (group, combined, used, total_with) in enumerate(groups):
        held = used | group.total.used
        total = fitted_total(total_with(fit.coefficients[i]), combined, held, fit, i)
        arrays = {"psf_modes": fit.coefficients[i], "aperture_modes": fit.aperture_modes[i]}
        for name, values in (("psf_residual_prior", fit.before[i]), ("psf_residual", fit.after[i])):
            arrays[name] = np.full(len(used), np.nan)
            arrays[name][held] = values
        warnings = fit.warnings
        after, before = (np.linalg.norm([t.err_photon, t.err_radii, t.err_aperture]) for t in (total, group.total))
        if after >= before:
            total, arrays = group.total, arrays | group.arrays
            warnings += ("the fitted PSF is no better than the reference's, which was taken",)
        results.append(GroupTotal(total, arrays, chi2_dof=fit.chi2 / max(fit.dof, 1), warnings=warnings))
    return results


def growth_curve(group: GroupTotal, combined: CombinedProfile, fitted: Mask) -> GrowthCurve:
    """Give the curve of growth of a group at the radii that are fitted or averaged, as `fit_psf` takes it."""
    total, modes = group.total, np.zeros((len(fitted), 0)) if group.modes is None else group.modes
    held = fitted | total.used
    covariance = (combined.covariance / np.outer(total.ee_effective, total.ee_effective))[np.ix_(held, held)]
    n_exposures, masks = max(1, int(combined.n_good[fitted].max())), (fitted[held], total.used[held])
    return GrowthCurve(total.radius[held], total.total[held], covariance, modes[held], n_exposures, *masks)


def fitted_total(total: TotalRate, combined: CombinedProfile, held: Mask, fit: PSFFit, index: int) -> TotalRate:
    """Give a total by the fitted PSF its errors, the fit's among them.

    Parameters
    ----------
    total : TotalRate
        With the fitted PSF.
    combined : CombinedProfile
    held : ndarray of bool, shape (n_radii,)
        Radii of its curve of growth.
    fit : PSFFit
    index : int
        The group's number in the fit.

    Returns
    -------
    TotalRate
        ``err_radii`` is no less than what a chi-squared that chance does not explain adds.
    """
    own, inside = fit.weights[index][index] / total.ee_effective[held], np.ix_(held, held)
    formal = combined.covariance / np.outer(combined.inflation, combined.inflation)
    photon, flat, sky = (
        0.0 if part is None else max(0.0, float(own @ part[inside] @ own))
        for part in (formal, combined.flat_covariance, combined.sky_covariance)
    )
    found = replace(
        total,
        err_photon=float(np.sqrt(max(0.0, photon - flat - sky))),
        err_flat=float(np.sqrt(flat)),
        err_sky=float(np.sqrt(sky)),
        err_aperture=abs(total.count_rate) * float(np.sqrt(np.sum(fit.aperture_modes[index] ** 2))),
    )
    unexplained = np.sqrt(fit.inflation**2 - 1) * np.hypot(found.err_photon, found.err_aperture)
    return replace(found, err_radii=max(total.err_radii, float(unexplained)))
