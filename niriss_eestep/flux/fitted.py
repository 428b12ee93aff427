"""The PSF adjusted to what the star itself shows: modes of the EE fitted to the curves of growth of all filters.

One wavefront makes the PSFs of all filters of a visit. With z the observed total at each radius over the star's total,
less 1, and a the fractional changes of the effective EE per unit of each mode,

    z(filter, r) = a(filter, r) . (c + d(filter)) + noise

where the modes' coefficients c are common to all filters and d are a filter's own; both are normal about 0, of the
variances 1 - s^2 and s^2. The star's total in each filter is free. This is generalised least squares with the
covariance of z, which the prior gives; where the data say nothing, the prior stands.

Where the data contradict the prior, it is widened. With V the covariance of z whatever the totals are, the score
u = a' V^-1 z of a mode has the variance J = a' V^-1 a if the prior is right, and J + (w^2 - 1) J^2 if the mode's
standard deviation is w instead of 1. A mode whose u is in size more than `WIDENED` times the root of J has its prior
widened to the w by which it is just so many.

The last mode of the packaged reference is that of flatter mid frequencies, and nobody knows how likely they are. Its
prior is a mixture of normal distributions (`FLATTER`), narrow for most stars and wide for a few. The fit takes the
normal prior with which it has the mixture's posterior mean, and adds the variance that the mixture's posterior has
beyond. One red filter cannot tell such mid frequencies from others: how far the total would then be off is given beside
its error.

A companion at some distance is a step in all the curves there, which no wavefront makes: its score is that of a mode
too, and is looked at for each of `COMPANY`.

The total is the mean over the radii averaged, of the light over the EE so found: with trial stars it is as good as the
fit's own, to 0.001 %.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import scipy

from niriss_eestep.arrays import Array, Mask
from niriss_eestep.combine.mean import CombinedProfile
from niriss_eestep.errors import ExposureError
from niriss_eestep.flux.total_rate import TotalRate, formal_errors, total_rate

#: share s of a mode that each filter has for itself, so that one filter's errors, or a prior that is wrong, do not bind
#: the others; of 0.02 to 0.1 the totals of trial stars are best at the least, by < 0.01 %, and with 0.1 the errors of
#: the red filters are a third too large, with 0.02 those of other optics too small
OWN_SHARE = 0.05
#: standard deviation of the EE over pixel phases, by radius [pix]: root mean square over the filters, 36 phases of the
#: packaged PSF images
PHASE_RADIUS, PHASE_SD = (1.0, 2.0, 3.0, 4.0, 5.0, 6.0), (6.2e-3, 1.1e-3, 6.3e-4, 4.6e-4, 2.2e-4, 0.6e-4)
#: scores of modes beyond this many of their standard deviations are named: 320 stars of the prior have 7.1 at most, by
#: one filter or by 12; those whose mid frequencies have an index of 2.8 have 12.6
EDGE = 8.0
#: a less probable chi-squared makes the errors larger: that which is left when modes are widened, but where it was more
#: than so many per degree of freedom before, that one, for no prior holds such a star (320 stars of the prior have 2.7
#: at most by 12 filters, stars of independent optics 6 to 7)
LEAST_PROBABILITY, CHI2_UNLIKE = 1e-4, 3.0
#: ... and is reported from here on, per degree of freedom: one filter of those stars has 9 at most but for 10 of 3,840,
#: with a companion of 1 % at 8 pix 9 (F200W) to 50 (F480M). No mode is widened then: a neighbour too would pass for a
#: wavefront
CHI2_TOLD = 12.0
#: see above; the tails of what is not published are not a normal distribution's. When the index had no prior of its
#: own, stars of an index of 3.2 had pulls of 1.3 with 3 and of 1.1 with 2, and stars of the prior were off by 0.11
#: instead of 0.09 % in F090W
WIDENED = 2.0
#: ... but a mode of whose prior variance the curves know a smaller share J than this, as if they knew so much: else one
#: red filter, of which few modes are known, would be off by 0.18 instead of 0.15 % (F480M, 60 stars of the prior)
LEAST_KNOWN = 0.1
#: the linear fit is repeated about its result; changes of 3 % leave (3 %)^2 / 2 at first, nothing the third time. Then
#: modes are widened, and it is repeated as often
N_FIRM, N_ITERATIONS = 3, 6
#: prior of the mode of flatter mid frequencies: share of the stars, and standard deviation in units of what an index of
#: 2.8 changes; in units of the index 0.03, 0.24 and 0.72. Stars of an index of 2.8 have pulls of 2.4 with it by one
#: filter alone and 1.0 by 12, 3.1 and 1.4 with a prior of 1/16 alone; the errors of stars of the prior are 7 % larger
#: by one filter (F200W 19 %), and as large by 12
FLATTER = np.array([[0.92, 1 / 32], [0.04, 1 / 4], [0.04, 3 / 4]])
#: distances of companions [pix]: nearer ones pass for modes of the core, further ones stand alone on the image. One is
#: named beyond so many standard deviations of its score, by one curve, by two and by more: single wavefronts have 3.7,
#: 3.8 and 4.0 at most (1,920, 320, 240), those of independent optics 12.0 (red filters), 7.3 and 4.2 (576, 192, 208); a
#: companion of 1 % at 4 pix has 6 to 8 by one filter, 14 to 17 by three and 26 to 30 by 12
COMPANY, COMPANY_SIGMA = np.arange(2.5, 8.1, 0.5), (13.0, 8.0, 6.5)


#: a group's total with the PSF before the fit; its profile; its radii to fit; the other arguments of
#: `niriss_eestep.flux.total_rate.total_rate` that the total came from, with modes
Group = tuple[TotalRate, CombinedProfile, Mask, dict[str, Any]]


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
    company : ndarray, shape (n_radii, n_distances), optional
        Share of a companion's light, at each distance of `COMPANY`, within each radius, over the effective EE there.
    star : str, optional
        Whose curve it is: those of one star show its companion together.
    """

    radius: Array
    total: Array
    covariance: Array
    modes: Array
    n_exposures: int = 1
    fitted: Mask | bool = True
    averaged: Mask | bool = True
    company: Array | float = 0.0
    star: str = "the star"


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
        Chi-squared of the fit before modes are widened, the prior included.
    dof : int
        Its degrees of freedom.
    inflation : float
        Factor (>= 1) by which the errors honour a chi-squared that chance does not explain.
    warnings : tuple of str
        What the user should know.
    index_shift : ndarray, shape (n_groups,)
        How far the totals would be off, as fractions, if the mid frequencies had an index of 2.8, by what the fit would
        not find of it; NaN where no mode stands for it, or chi-squared is beyond reason.
    company : dict of str to float
        Share of a star's light that is reported as a companion's, by the star.
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
    inflation: float
    warnings: tuple[str, ...]
    index_shift: Array
    company: dict[str, float]
    before: list[Array]
    after: list[Array]


def fit_psf(curves: Sequence[GrowthCurve], flatter: float = 0.0) -> PSFFit:
    """Fit the modes of the PSF to the curves of growth of a visit's groups together.

    Parameters
    ----------
    curves : sequence of GrowthCurve
        One per group, each of one radius or more.
    flatter : float, optional
        Coefficient of the last mode at which the mid frequencies have an index of 2.8; 0 where no mode stands for it.

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
    member, cuts = (group[:, None] == np.arange(len(curves))).astype(float), np.flatnonzero(np.diff(group)) + 1
    observed, modes = (np.concatenate([getattr(curve, name) for curve in curves]) for name in ("total", "modes"))
    fits, averages = np.hstack([np.vstack(np.broadcast_arrays(c.fitted, c.averaged, c.radius)[:2]) for c in curves])
    phases = np.concatenate([np.interp(c.radius, PHASE_RADIUS, PHASE_SD) ** 2 / c.n_exposures for c in curves])
    average = member.T * averages / (member.T @ averages)[:, None]
    coefficients, shared = np.zeros((len(curves), modes.shape[1])), np.zeros(modes.shape[1])
    common, own_share, rows = 1 - OWN_SHARE**2, OWN_SHARE**2, np.split(np.arange(len(group)), cuts)
    dof, width, stretch, share = int(fits.sum()) - len(curves), np.ones_like(shared), 0.0 * shared, np.nan
    for iteration in range(N_ITERATIONS):
        shape = 1 + np.sum(modes * coefficients[group], axis=1)
        level, change = (average @ (observed / shape))[group] * shape, modes * width / shape[:, None]
        noise = [curve.covariance / np.outer(level[k], level[k]) for curve, k in zip(curves, rows, strict=True)]
        own = [own_share * change[k] @ change[k].T + np.diag(phases[k]) + n for n, k in zip(noise, rows, strict=True)]
        shapes = partial(_seen, own, np.split(fits, cuts), np.sqrt(common) * change)
        # about the PSF before the fit: the coefficients' prior is centred there
        z = observed / level - 1 + np.sum(change / width * coefficients[group], axis=1)
        shown, seen = shapes(z)
        left, score = float(z @ seen), np.sqrt(common) * change.T @ seen
        shared = np.sqrt(common) * width * score
        coefficients = shared + own_share * width * (member.T @ (change * seen[:, None]))
        known = np.sqrt(common) * change.T @ shown
        if iteration == N_FIRM - 1:
            chi2, firm = left, (score / np.sqrt(np.maximum(np.diagonal(known), 1e-12)), shapes, seen)
            if chi2 <= CHI2_TOLD * dof:
                width, stretch, share = _widths(score, known, flatter)
    fitted = observed / (1 + np.sum(modes * coefficients[group], axis=1))
    total, psf = average @ fitted, (common + own_share * member) * (change @ (average @ change).T)
    weights = average - shapes(psf)[1].T
    sensitivity = -np.sqrt(common) * weights @ (change * np.hypot(1.0, stretch))
    others = np.where(member.T > 0, 0.0, weights)
    rest = (weights * phases) @ weights.T
    for k, n in zip(rows, noise, strict=True):
        by_filter = weights[:, k] @ change[k]
        rest += own_share * by_filter @ by_filter.T + np.diag(np.sum(others[:, k] @ n * others[:, k], axis=1))
    covariance = common * np.outer(width, width) * (np.eye(len(shared)) - known)
    # symmetric root of the rest; rounding may leave an eigenvalue below 0
    values, vectors = np.linalg.eigh(0.5 * (rest + rest.T))
    return PSFFit(
        total=total, weights=[np.split(row, cuts) for row in weights], coefficients=coefficients, shared=shared,
        aperture_modes=np.hstack([sensitivity, (vectors * np.sqrt(np.maximum(values, 0.0))) @ vectors.T]),
        shared_covariance=covariance + (covariance * stretch**2 / width**2) @ covariance / common,
        index_shift=flatter * share * (weights @ (change / width))[:, -1:].sum(axis=1),
        before=np.split(observed / total[group] - 1, cuts), after=np.split(fitted / total[group] - 1, cuts),
        **_judged(curves, chi2, left, dof, *firm),
    )  # fmt: skip


def _seen(own: Sequence[Array], fits: Sequence[Mask], shared: Array, values: Array) -> tuple[Array, Array]:
    """What curves show of the modes ``shared`` and of ``values``, whatever the totals are.

    That is: times the inverse covariance, less the totals' part. The covariance is the groups' ``own`` and, by all
    modes that they have in common, ``shared @ shared.T``. By Woodbury's identity no matrix of all radii is made; of 33
    groups that took 8 MB and 0.1 s.
    """
    both, parts = np.column_stack([shared, values]), []
    rows = np.split(both, np.cumsum([len(covariance) for covariance in own])[:-1])
    for covariance, fitted, part in zip(own, fits, rows, strict=True):
        inverse, inside = np.zeros_like(covariance), np.ix_(fitted, fitted)
        inverse[inside] = np.linalg.inv(covariance[inside])
        total = inverse.sum(axis=0)
        parts.append((inverse - np.outer(total, total) / total.sum()) @ part)
    modes, alone = np.split(np.concatenate(parts), [shared.shape[1]], axis=1)
    modes = np.linalg.solve(np.eye(shared.shape[1]) + modes.T @ shared, modes.T).T
    return modes, np.asarray(alone - modes @ (shared.T @ alone)).reshape(values.shape)


def _widths(score: Array, known: Array, flatter: float) -> tuple[Array, Array, float]:
    """Standard deviations of the modes' priors by what the curves say of the modes.

    Parameters
    ----------
    score : ndarray, shape (n_modes,)
        Posterior mean by priors of standard deviation 1.
    known : ndarray, shape (n_modes, n_modes)
        Covariance of the scores: of one mode the share of its prior's variance that the curves take away.
    flatter : float
        As of `fit_psf`.

    Returns
    -------
    width : ndarray, shape (n_modes,)
    stretch : ndarray, shape (n_modes,)
        A mode's effect on the totals grows by the root of 1 + stretch^2: of the last mode, by the variance that the
        posterior of the mixture has beyond that by ``width``.
    share : float
        What the fit would leave of a coefficient of ``flatter``, over what it leaves by ``width``; NaN without.
    """
    stretch, share, informed = np.zeros_like(score), np.nan, np.diagonal(known)
    if flatter:
        # what the curves say of the last mode without a prior, here and of a star at ``flatter``: an estimate of the
        # variance 1 / information; each part of the mixture shrinks it and is as likely as it lets the estimate be
        own, (part, prior) = max(float(informed[-1]), 1e-12), FLATTER.T
        information, prior, estimate = own / (1 - own), (flatter * prior) ** 2, np.array([score[-1] / own, flatter])
        spread = prior + 1 / information
        evidence = part / np.sqrt(spread) * np.exp(0.5 * estimate[:, None] ** 2 * (1 / spread.max() - 1 / spread))
        evidence, shrunk = evidence / evidence.sum(axis=1, keepdims=True), prior / spread
        mean = evidence @ shrunk
        # of the normal prior that has the mixture's posterior mean, and what the mixture's variance has beyond
        variance, share = mean[0] / (1 - mean[0]) / information, (1 - mean[1]) / (1 - mean[0])
        beyond = evidence[0] @ (shrunk - mean[0]) ** 2 * estimate[0] ** 2
        stretch[-1] = np.sqrt(beyond / variance) / (1 - mean[0])
        # the other modes' scores by its new prior
        change = (variance - 1) * known[:, -1] / (1 + (variance - 1) * own)
        score, informed = score - change * score[-1], informed - change * known[:, -1]
    strain = score**2 / np.maximum(informed, 1e-12)
    width = np.sqrt(1 + np.maximum(0, strain / WIDENED**2 - 1) / np.maximum(informed, LEAST_KNOWN))
    if flatter:
        width[-1] = np.sqrt(variance)
    return width, stretch, share


def _judged(
    curves: Sequence[GrowthCurve],
    chi2: float,
    left: float,
    dof: int,
    strain: Array,
    shapes: Callable[[Array], tuple[Array, Array]],
    seen: Array,
) -> dict[str, Any]:
    """What chi-squared, before and after modes were widened, and the scores of modes and companions say of the fit.

    The ``strain`` of modes, ``shapes`` and what is ``seen`` of the curves are those before.
    """
    unexplained, told, company = chi2 if chi2 > CHI2_UNLIKE * dof else left, [], {}
    improbable = dof > 0 and scipy.special.chdtrc(dof, unexplained) < LEAST_PROBABILITY
    for star in sorted({curve.star for curve in curves}):
        # the companion that its curves show most
        of = [np.broadcast_to(c.company, (len(c.radius), len(COMPANY))) * (c.star == star) for c in curves]
        light, n_curves = np.vstack(of), sum(curve.star == star for curve in curves)
        information = np.maximum(np.sum(light * shapes(light)[1], axis=0), np.finfo(float).tiny)
        score = light.T @ seen / np.sqrt(information)
        k = int(np.argmax(score))
        if score[k] > COMPANY_SIGMA[min(n_curves, 3) - 1]:
            share, err = 100 * score[k] / np.sqrt(information[k]), 100 / np.sqrt(information[k])
            light_told = f"light of {share:.2g} +- {err:.1g} % of {star}'s at {COMPANY[k]:g} pix"
            told.append(f"{light_told} that is no PSF's: a companion")
            company[star] = share / 100
    if improbable and chi2 > CHI2_TOLD * dof:
        told.append(
            f"the fitted PSF leaves chi2/dof {chi2 / dof:.3g}: a neighbour, a damaged core, or a PSF "
            "that the reference's modes do not hold"
        )
    if (worst := np.abs(strain).max(initial=0.0)) > EDGE:
        told.append(f"the fitted PSF is {worst:.2g} standard deviations off in a mode: at the prior's edge")
    inflation = float(np.sqrt(unexplained / dof)) if improbable else 1.0
    return {"chi2": chi2, "dof": dof, "inflation": inflation, "warnings": tuple(told), "company": company}


def growth_curve(total: TotalRate, combined: CombinedProfile, fitted: Mask, star: str = "the star") -> GrowthCurve:
    """Give the curve of growth of a group at the radii that are fitted or averaged, as `fit_psf` takes it.

    Parameters
    ----------
    total : TotalRate
    combined : CombinedProfile
    fitted : ndarray of bool, shape (n_radii,)
        Radii to fit.
    star : str, optional

    Returns
    -------
    GrowthCurve
    """
    held, modes = fitted | total.used, np.zeros((len(fitted), 0)) if total.modes is None else total.modes
    covariance = (combined.covariance / np.outer(total.ee_effective, total.ee_effective))[np.ix_(held, held)]
    n_exposures, masks = max(1, int(combined.n_good[fitted].max())), (fitted[held], total.used[held])
    # rings of the companion's light, and the share of each that a circle about the star holds
    edges, known = np.arange(0.0, total.radius[-1] + 0.1, 0.25), np.isfinite(total.ee_effective)
    ee = np.interp(edges, np.append(0.0, total.radius[known]), np.append(0.0, total.ee_effective[known]))
    ring, apart, reach = edges[1:] - 0.125, COMPANY[:, None], total.radius[held, None, None]
    cosine = (apart**2 + ring**2 - reach**2) / (2 * apart * ring)
    company = np.arccos(np.clip(cosine, -1.0, 1.0)) @ np.diff(ee) / np.pi / total.ee_effective[held, None]
    return GrowthCurve(
        total.radius[held], total.total[held], covariance, modes[held], n_exposures, *masks, company, star
    )


def fitted_totals(groups: Sequence[Group], stars: Sequence[str] = (), flatter: float = 0.0) -> list[TotalRate]:
    """Fit the PSF to groups of a product together.

    Parameters
    ----------
    groups : sequence of Group
    stars : sequence of str, optional
        Each group's star; by default one.
    flatter : float, optional
        As of `fit_psf`.

    Returns
    -------
    list of TotalRate
        By the fitted PSF, with the fit's errors: ``err_radii`` is what a chi-squared that chance does not explain adds,
        which judges the spread over radii with what is not known of the PSF; the total's error is no larger by it than
        before the fit. The total before the fit where its errors are no larger, or the fitted PSF makes the light no
        star's. A companion that is reported is in the total, and its light in ``err_radii``.
    """
    stars, results = stars or ["the star"] * len(groups), []
    fit = fit_psf([growth_curve(*group[:3], star) for group, star in zip(groups, stars, strict=True)], flatter)
    for i, (before, combined, fitted, arguments) in enumerate(groups):
        coefficients, held, warnings = fit.coefficients[i], fitted | before.used, fit.warnings
        try:
            # its error is the fit's, not that of the modes' prior
            by_fit = {"curve": partial(_adjusted, arguments, coefficients), "modes_at": None}
            total = total_rate(combined, **arguments | by_fit)
        except ExposureError as error:  # the fit followed what is no star's light: two stars, or a damaged core
            results.append(replace(before, warnings=(*warnings, f"the fitted PSF was not taken: {error}")))
            continue
        own, inside = fit.weights[i][i] / total.ee_effective[held], np.ix_(held, held)
        formal = formal_errors([None if part is None else part[inside] for part in combined.parts()[:3]], own)
        aperture = total.count_rate * float(np.linalg.norm(fit.aperture_modes[i]))
        # chi-squared does not judge radii that were not fitted
        spread = 0.0 if fitted[before.used].all() else total.err_radii
        err = np.linalg.norm([formal["err_photon"], aperture, spread])
        known = np.linalg.norm([before.err_photon, before.err_aperture, before.err_radii])
        # what the fit leaves speaks against the reference's PSF no less, unless it is a neighbour or a damaged core
        if (fit.inflation if fit.chi2 > CHI2_TOLD * fit.dof else 1.0) * err < known:
            added = min(fit.inflation * err, known) ** 2 - err**2
            arrays = {"psf_modes": coefficients, "aperture_modes": fit.aperture_modes[i]}
            for name, residuals in (("psf_residual_prior", fit.before[i]), ("psf_residual", fit.after[i])):
                arrays[name] = np.full(len(held), np.nan)
                arrays[name][held] = residuals
            errors: dict[str, Any] = formal | {"err_aperture": aperture, "err_radii": np.sqrt(spread**2 + added)}
            before = replace(total, arrays=arrays, psf_index_shift=float(fit.index_shift[i]), **errors)
        elif warnings:
            warnings += ("the fitted PSF is no better than the reference's, which was taken",)
        spread = float(np.hypot(before.err_radii, fit.company.get(stars[i], 0.0) * before.count_rate))
        chi2_dof = fit.chi2 / max(fit.dof, 1)
        results.append(replace(before, psf_chi2_dof=chi2_dof, err_radii=spread, warnings=warnings))
    return results


def _adjusted(arguments: dict[str, Any], coefficients: Array, radius: Array) -> Array:
    """EE of a PSF adjusted by its modes."""
    return np.asarray(arguments["curve"](radius) + arguments["modes_at"](radius) @ coefficients)
