"""The star's total count rate in one filter, and what it says of the flux calibration."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import scipy

from niriss_eestep.arrays import Array, Mask
from niriss_eestep.combine.mean import NORMAL_95, CombinedProfile, extra_light, scatter_factor, weighted_sum
from niriss_eestep.errors import ExposureError, ParameterError
from niriss_eestep.flux.synthetic import ExpectedRate
from niriss_eestep.instrument import AB_ZERO_FLUX

Curve = Callable[[Array], Array]


def effective_ee(curve: Curve, radius: Array, area: Array, ring_edges: Array, ring_coverage: Array) -> Array:
    """Fraction of the star's light that remains in apertures after the annulus's mean is subtracted.

    The annulus in which the sky is measured holds starlight, and subtracting its mean takes

        EE_eff(r) = EE(r) - A(r) * sum_k c_k (EE(r_k+1) - EE(r_k)) / sum_k c_k a_k

    of the star's light from an aperture of area A(r), where ring k of the annulus, between r_k and r_k+1, has the area
    a_k, and the fraction c_k of it was used. With all of the annulus used this is the familiar
    EE(r) - pi r^2 (EE(r_out) - EE(r_in)) / (pi (r_out^2 - r_in^2)).

    Parameters
    ----------
    curve : callable
        EE of the PSF at radii [pix], 1 at infinity; or several curves, shape (n, n_curves).
    radius, area : ndarray, shape (n_radii,)
        Radii [pix] and areas on the image [pix] of the apertures.
    ring_edges : ndarray, shape (n_rings + 1,)
        [pix]; empty where the background does not come from an annulus.
    ring_coverage : ndarray, shape (n_rings,)
        Fraction of each ring that was used.

    Returns
    -------
    ndarray, shape (n_radii,) or (n_radii, n_curves)

    Raises
    ------
    ParameterError
        If no part of the annulus was used.

    Examples
    --------
    >>> def ee(radius):
    ...     return radius**2 / (radius**2 + 1)
    >>> radius = np.array([5.0, 10.0])
    >>> effective_ee(ee, radius, np.pi * radius**2, np.array([20.0, 25.0]), np.ones(1)).round(4)
    array([0.9614, 0.9897])
    """
    if len(ring_edges) == 0:
        return curve(radius)
    used = float(np.sum(ring_coverage * np.pi * np.diff(np.square(ring_edges))))
    if not used > 0:
        raise ParameterError(f"no part of the sky annulus from {ring_edges[0]:g} to {ring_edges[-1]:g} pix was used")
    per_pixel = np.asarray(ring_coverage) @ np.diff(curve(np.asarray(ring_edges)), axis=0) / used
    return curve(radius) - np.multiply.outer(area, per_pixel)


#: a total below this many standard errors is no star's: of 1,000 empty places none is so by chance
SIGNIFICANCE_MIN = 5.0

#: the spread over radii counts where chance alone would give it this rarely: 3 standard deviations
SPREAD_PROBABILITY = 0.0027

#: light within the one of these radii that is known best is compared [pix]; a group whose scatter is this improbable by
#: that of the others is odd: of 100 products of 12 groups one has such a group by chance
COMMON_RADII, ODD_PROBABILITY = (4.0, 10.0), 1e-4

#: dithers disagree beyond this many standard errors, and this share of the light that pixel phases are worth at most
DISCREPANT_SIGMA, DISCREPANT_SHARE = 5.0, 0.002

#: the total by each radius within this one may differ from the star's by a share over the radius [pix] at most, and 5
#: standard errors, or the light is spread as no star's: pixel phases move 2 % at 1 pix, wavefronts of 56-80 nm and
#: resampling 10 to 20 % there and 2 % at 5 pix
SHAPE_RADIUS, SHAPE_SHARE = 5.0, 0.3

#: a ratio this far from 1 is worth a warning: published in-flight factors lie within 10 % of 1
RATIO_FAR, RATIO_OFF, RATIO_SIGMA = 0.25, 0.10, 5.0

#: microjansky per square arcsecond in 1 MJy/sr: 1e12 uJy/MJy * (pi / 648000)^2 sr/arcsec^2
UJA2_PER_MJYSR = 1e12 * (np.pi / 648000) ** 2


@dataclass(frozen=True, slots=True, eq=False)
class TotalRate:
    """Total count rate of a star, from all the radii of a range.

    Parameters
    ----------
    radius : ndarray, shape (n_radii,)
        [pix].
    used : ndarray of bool, shape (n_radii,)
        Radii averaged.
    total, total_err : ndarray, shape (n_radii,)
        Count rate over effective EE at each radius, and its error without the aperture correction's [DN/s].
    ee_effective : ndarray, shape (n_radii,)
        Weighted mean of the exposures' effective EE.
    count_rate : float
        Mean over the radii used [DN/s].
    err_photon, err_radii, err_aperture : float
        Standard errors of ``count_rate`` [DN/s]: formal; what the spread over radii adds beyond chance; from the EE's
        own uncertainty.
    exposure_total, exposure_total_err, exposure_own_err : ndarray, shape (n_exposures,)
        Each exposure's own total, over those of the radii used that it does not flag, or over all of them where it
        flags all; its standard error without the aperture correction's; the part of this by which exposures may differ,
        for they share the rest, as on the same pixels of a flat [DN/s]. NaN where none was measured.
    kept : ndarray of bool, shape (n_exposures,)
        Exposures that are in the mean at one of the radii used at least.
    extra : ndarray, shape (n_exposures, n_radii)
        Light that one exposure has and the others have not; see `extra_light`.
    err_flat, err_sky : float
        From the errors of the flat field and of the sky, which are not in ``err_photon``; 0 where nobody knows them.
        See `formal_errors`.
    err_scatter : float
        What the scatter between dithers adds; see `scatter_factor`.
    modes : ndarray, shape (n_radii, n_modes), optional
        Fractional change of the effective EE per unit of each mode of the PSF's prior.
    arrays : dict of str to ndarray
        Of the product: ``aperture_modes``, the change of the total per unit of each mode, and what a fit gives.
    psf_chi2_dof : float
        Of a fit of the PSF, per degree of freedom.
    psf_index_shift : float
        How far ``count_rate`` would be off, as a fraction, if the mid frequencies of the PSF had an index of 2.8, which
        the fit would not find; see `niriss_eestep.flux.fitted`.
    warnings : tuple of str
        What the user should know about the fit.

    Attributes
    ----------
    count_rate_err : float
        Standard error with all terms but ``err_aperture`` [DN/s].
    significance : float
        ``count_rate`` over its standard error without the scatter between dithers, which are stars all the same.
    """

    radius: Array
    used: Mask
    total: Array
    total_err: Array
    ee_effective: Array
    count_rate: float
    err_photon: float
    err_radii: float
    err_aperture: float
    exposure_total: Array
    exposure_total_err: Array
    exposure_own_err: Array
    kept: Mask
    extra: Array
    err_flat: float = 0.0
    err_sky: float = 0.0
    err_scatter: float = 0.0
    modes: Array | None = None
    arrays: dict[str, Array] = field(default_factory=dict)
    psf_chi2_dof: float = float("nan")
    psf_index_shift: float = float("nan")
    warnings: tuple[str, ...] = ()
    count_rate_err: float = field(init=False)
    significance: float = field(init=False)

    def __post_init__(self) -> None:
        terms = self.err_photon, self.err_scatter, self.err_radii, self.err_flat, self.err_sky
        err = float(np.sqrt(sum(term**2 for term in terms)))
        formal = float(np.sqrt(max(0.0, err**2 - self.err_scatter**2)))
        object.__setattr__(self, "count_rate_err", err)
        object.__setattr__(self, "significance", self.count_rate / formal if formal > 0 else np.inf * self.count_rate)


def _agreement(total: Array, err: Array) -> tuple[float, int]:
    """Chi-squared of exposures' totals about their mean, and its degrees of freedom; NaN and 0 for fewer than two."""
    use = np.isfinite(total) & (err > 0)
    value, weight = total[use], err[use] ** -2.0
    if len(value) < 2:
        return float("nan"), 0
    return float(np.sum(weight * (value - np.average(value, weights=weight)) ** 2)), len(value) - 1


def common_scatter(groups: Sequence[CombinedProfile]) -> float:
    """Scatter of dithers that the groups of a product have in common, beyond their errors.

    What makes dithers scatter, as an imperfect flat field, is much the same in all filters, and two dithers alone say
    little of it. It is the one that makes chi-squared of all groups' light within 4 to 10 pix its degrees of freedom
    (Paule & Mandel 1982, J. Res. NBS 87, 377). A group that scatters more than the others allow, as with a damaged
    exposure, does not count.

    Parameters
    ----------
    groups : sequence of CombinedProfile

    Returns
    -------
    float
        Fraction of the count rate, times Student's factor; 0 where chance explains the scatter, or there is one group.
    """
    used = []
    for group in groups:
        seen = (group.radius >= COMMON_RADII[0]) & (group.radius <= COMMON_RADII[1]) & (group.value > 0)
        if not seen.any():
            continue
        j = int(np.argmin(np.where(seen, group.err_formal / group.value, np.inf)))
        k = group.exposure_flag[:, j] > 0
        variance = np.maximum(group.exposure_err[k, j] ** 2 - max(0.0, group.parts()[3][j, j]), 0.0)
        if k.sum() > 1 and np.all(variance > 0):
            used.append((group.exposure_value[k, j] / group.value[j], np.sqrt(variance) / group.value[j]))
    while len(used) > 1:
        scatter, dof = _scatter_of(used)
        worst = max(range(len(used)), key=lambda k: _agreement(used[k][0], np.hypot(used[k][1], scatter))[0])
        (value, err), *others = used[worst], *used[:worst], *used[worst + 1 :]
        chi2, own_dof = _agreement(value, np.hypot(err, _scatter_of(others)[0]))
        if scipy.special.chdtrc(own_dof, chi2) >= ODD_PROBABILITY:
            return scatter * float(scipy.special.stdtrit(dof, 0.975)) / NORMAL_95
        used = others
    return 0.0


def _scatter_of(groups: Sequence[tuple[Array, Array]]) -> tuple[float, int]:
    """Scatter that makes chi-squared of groups its degrees of freedom, and these; 0 where chance explains it."""
    found = [_agreement(*group) for group in groups]
    dof, widest = sum(n for _, n in found), max(float(np.ptp(value)) for value, _ in groups)
    if scatter_factor(sum(chi2 for chi2, _ in found), dof) == 1:
        return 0.0, dof

    def unexplained(scatter: float) -> float:
        return sum(_agreement(value, np.hypot(err, scatter))[0] for value, err in groups) - dof

    return float(scipy.optimize.brentq(unexplained, 0.0, widest)), dof


def rate_warnings(total: TotalRate, names: Sequence[str], ratio: float, ratio_err: float) -> tuple[str, ...]:
    """What the user should know about a group's total count rate.

    Exposures whose totals differ from those of the others are named, the furthest first, with how far they are from the
    median; of two that differ, both, and how far each is from the other, since either may be right.

    Parameters
    ----------
    total : TotalRate
    names : sequence of str, length n_exposures
        The exposures.
    ratio, ratio_err : float
        Measured over expected electron rate; NaN where nothing is expected.

    Returns
    -------
    tuple of str
    """
    found, each, own_err = [], total.exposure_total, total.exposure_own_err
    finite = np.flatnonzero(np.isfinite(each) & np.isfinite(own_err))
    if len(finite) > 1:
        value, err = each[finite], own_err[finite]
        # the error of a median of normal values is 1.25 times the mean's
        middle = np.median(value), 1.2533 * np.sqrt(np.sum(err**2)) / len(finite)
        level, level_err = (value[::-1], err[::-1]) if len(finite) == 2 else np.broadcast_arrays(*middle)
        off, allowed = value / level - 1, DISCREPANT_SIGMA * np.hypot(err, level_err) + DISCREPANT_SHARE * np.abs(level)
        told = ", ".join(
            f"{names[finite[j]]} {100 * off[j]:+.2g} %" + " (left out)" * (not total.kept[finite[j]])
            for j in sorted(np.flatnonzero(np.abs(value - level) > allowed), key=lambda j: -abs(off[j]))
        )
        if told:
            chi2, dof = _agreement(each, own_err)
            found.append(f"the dithers disagree (chi2/dof {chi2 / dof:.3g}): {told} from the others' median")
    for k in map(int, np.flatnonzero(total.extra.any(axis=1))):
        j = int(np.argmax(total.extra[k]))
        found.append(
            f"{names[k]} has {100 * total.extra[k, j]:.2g} % of the star's light that the others have not, beyond "
            f"{total.radius[j - 1]:g} pix: persistence or a hit?"
        )
    if abs(ratio - 1) > RATIO_FAR or abs(ratio - 1) > max(RATIO_OFF, RATIO_SIGMA * ratio_err):
        found.append(
            f"measured / expected = {ratio:.3g} +- {ratio_err:.2g}: another star, a wrong spectrum, or a damaged core?"
        )
    return tuple(found)


def _excess_spread(total: Array, covariance: Array) -> float:
    """Standard error of a mean over radii, from their spread beyond what their covariance gives.

    It is the spread itself, not the spread over the root of their number: apertures hold each other, and whatever is
    wrong at one radius, as a neighbour within it, is wrong at all the larger ones.

    The sample variance is a quadratic form in the totals, x' M x / (n - 1) with M the centring matrix; for normal
    errors its mean is tr(M C) / (n - 1) and its variance 2 tr(M C M C) / (n - 1)^2. It is compared with the chi-squared
    distribution of that mean and variance (Satterthwaite 1946, Biometrics Bull. 2, 110).
    """
    n = len(total)
    if n < 2:
        return 0.0
    centred = covariance - covariance.mean(axis=0)
    centred -= centred.mean(axis=1)[:, None]
    expected = np.trace(centred) / (n - 1)
    variance = 2 * np.sum(centred * centred.T) / (n - 1) ** 2
    spread = float(np.var(total, ddof=1))
    if variance > 0 and expected > 0:
        dof = 2 * expected**2 / variance
        if scipy.special.chdtrc(dof, dof * spread / expected) >= SPREAD_PROBABILITY:
            return 0.0
    return float(np.sqrt(max(spread - expected, 0.0)))


def total_rate(
    combined: CombinedProfile,
    curve: Curve,
    curve_err: Curve,
    *,
    area: Array,
    rings: Sequence[tuple[Array, Array]],
    radii: tuple[float, float] = (5.0, 10.0),
    modes_at: Curve | None = None,
) -> TotalRate:
    """Correct a group's EE profile to infinity and average it over radii.

    Parameters
    ----------
    combined : CombinedProfile
        Of EE profiles.
    curve, curve_err : callable
        EE of the PSF at radii [pix], 1 at infinity, and its standard error.
    area : ndarray, shape (n_exposures, n_radii)
        Areas of the apertures [pix].
    rings : sequence of (ndarray, ndarray), length n_exposures
        Which part of its annulus each exposure used: edges [pix] and coverage of its rings.
    radii : (float, float)
        Range of the radii averaged, both included [pix].
    modes_at : callable, optional
        Change of the EE at radii, shape (n, n_modes), per unit of each mode of the PSF's prior: then ``err_aperture``
        is the width of this prior, and ``curve_err`` does not count.

    Returns
    -------
    TotalRate

    Raises
    ------
    ParameterError
        If no radius lies in the range.
    ExposureError
        If the group flags every radius of the range, or its light is spread as no star's.

    Notes
    -----
    The radii share pixels: the error of their mean is that of fully covariant sums, which the profile's covariance
    gives, and is not smaller for more radii.

    Examples
    --------
    >>> from niriss_eestep.combine.mean import combine_profiles
    >>> radius = np.array([3.0, 6.0, 10.0])
    >>> def ee(radius):
    ...     return radius**2 / (radius**2 + 1)
    >>> light = [100 * ee(radius), 101 * ee(radius)]  # of two exposures, without a sky
    >>> group = combine_profiles(["a", "b"], radius, light, [np.eye(3), np.eye(3)])
    >>> area, rings = np.tile(np.pi * radius**2, (2, 1)), [(np.zeros(0), np.zeros(0))] * 2
    >>> total = total_rate(group, ee, np.zeros_like, area=area, rings=rings)
    >>> round(total.count_rate, 3), total.used.tolist()
    (100.5, [False, True, True])
    """
    used, radius, weight = used_radii(combined, *radii), combined.radius, combined.exposure_weight
    annuli = [(radius, a, *ring) for a, ring in zip(np.nan_to_num(area), rings, strict=True)]
    effective = np.array([effective_ee(curve, *annulus) for annulus in annuli])
    # a star on few pixels has the EE of its own place among them
    effective += 0.0 if combined.exposure_phase is None else np.nan_to_num(combined.exposure_phase)
    measured = weight.sum(axis=0) > 0
    total = np.where(measured, weighted_sum(weight, combined.exposure_value / effective), np.nan)
    mean_effective = np.where(measured, weighted_sum(weight, effective), np.nan)
    change = weighted_sum(weight, np.array([effective_ee(curve_err, *annulus) for annulus in annuli]))
    psf_err, count_rate = np.abs(change) / mean_effective, float(np.mean(total[used]))
    off, err = total / count_rate - 1, np.abs(np.sqrt(np.diagonal(combined.covariance)) / combined.value)
    with np.errstate(invalid="ignore"):
        far = np.abs(off) > SHAPE_SHARE / radius + 5 * np.hypot(psf_err, err)
    if (far & (radius <= SHAPE_RADIUS)).any():
        k = int(np.argmax(np.where(far & (radius <= SHAPE_RADIUS), np.abs(off), 0.0)))
        raise ExposureError(
            f"no star's light: the total by the light within {radius[k]:g} pix is {100 * off[k]:+.2g} % off from that "
            "by the radii averaged, more than the PSF can be: another source, two stars, or a damaged core?"
        )
    # a wrong wavefront moves the EE at all radii together
    width, modes, arrays = float(np.mean(psf_err[used])), None, {}
    if modes_at is not None:
        changes = [w[:, None] * effective_ee(modes_at, *annulus) for w, annulus in zip(weight, annuli, strict=True)]
        modes = sum(changes) / mean_effective[:, None]
        arrays["aperture_modes"] = -np.mean(modes[used], axis=0)
        width = float(np.sqrt(np.sum(arrays["aperture_modes"] ** 2)))
    scale = np.outer(mean_effective, mean_effective)
    covariance = combined.covariance / scale
    return TotalRate(
        radius=radius, used=used, total=total, total_err=np.sqrt(np.diagonal(covariance)),
        ee_effective=mean_effective, count_rate=count_rate,
        err_radii=_excess_spread(total[used], covariance[np.ix_(used, used)]),
        err_aperture=abs(count_rate) * width, modes=modes, arrays=arrays,
        **_by_exposure(combined, effective, used, scale, count_rate),
    )  # fmt: skip


def _by_exposure(
    combined: CombinedProfile, effective: Array, used: Mask, scale: Array, count_rate: float
) -> dict[str, Any]:
    """Each exposure's own total; formal errors of the total, and what the scatter between the exposures adds.

    Parameters are as in `total_rate`; ``scale`` turns the mean's covariance into that of the totals by radius.
    """
    (*parts, common, each), inside = combined.parts(), np.ix_(used, used)
    parts = [None if part is None else (part / scale)[inside] for part in parts]
    errors, shared = formal_errors(parts, np.full(used.sum(), 1 / used.sum())), float(np.mean((common / scale)[inside]))
    shared = max(0.0, shared)
    totals, errs = np.full((2, len(effective)), np.nan)
    for k, (ee, covariance) in enumerate(zip(effective, each, strict=True)):
        measured = used & np.isfinite(combined.exposure_value[k])
        good = measured & (combined.exposure_flag[k] > 0) if np.any(combined.exposure_flag[k][measured]) else measured
        if good.any():
            totals[k] = np.mean((combined.exposure_value[k] / ee)[good])
            # apertures share their pixels: the variance of the mean is the mean of all of the covariance
            errs[k] = np.sqrt(np.mean((covariance / np.outer(ee, ee))[np.ix_(good, good)]))
    own_err, kept = np.sqrt(np.maximum(errs**2 - shared, 0.0)), np.any(used & (combined.exposure_flag > 0), axis=1)
    # the scatter says nothing of what all share
    added, own = combined.common_scatter * count_rate, max(0.0, sum(err**2 for err in errors.values()) - shared)
    factor = scatter_factor(*_agreement(np.where(kept, totals, np.nan), np.hypot(own_err, added)))
    extra = np.zeros_like(effective) if len(each) < 2 else extra_light(combined.radius, combined.exposure_value, each)
    return errors | {
        "err_scatter": float(np.sqrt((own + added**2 / max(1, kept.sum())) * factor**2 - own)),
        "exposure_total": totals, "exposure_total_err": errs, "exposure_own_err": own_err, "kept": kept, "extra": extra,
    }  # fmt: skip


def formal_errors(parts: Sequence[Array | None], weights: Array) -> dict[str, float]:
    """Standard errors of a weighted sum over radii: of the noise, of the flat field and of the sky.

    Parameters
    ----------
    parts : sequence of (ndarray, shape (n_radii, n_radii), or None)
        Formal covariance, and its parts from flat field and sky; None where nobody knows.
    weights : ndarray, shape (n_radii,)

    Returns
    -------
    dict of str to float
        ``err_photon``, ``err_flat`` and ``err_sky``; their squares add up to the formal variance. The sky's part is the
        noise that each pixel of the sky has for itself; what pixels have in common counts with the photons' and read
        noise, since aperture and annulus share most of it; see `niriss_eestep.measure.ee.sum_apertures`.

    Examples
    --------
    >>> formal, flat = np.full((2, 2), 25.0), np.full((2, 2), 9.0)  # of two radii that share all their noise
    >>> formal_errors([formal, flat, None], np.array([0.5, 0.5]))
    {'err_photon': 4.0, 'err_flat': 3.0, 'err_sky': 0.0}
    """
    formal, flat, sky = (0.0 if part is None else max(0.0, float(weights @ part @ weights)) for part in parts)
    flat = min(flat, formal)
    sky = min(sky, formal - flat)
    variances = {"err_photon": formal - flat - sky, "err_flat": flat, "err_sky": sky}
    return {name: float(np.sqrt(variance)) for name, variance in variances.items()}


def used_radii(combined: CombinedProfile, radius_min: float, radius_max: float, names: str = "radius") -> Mask:
    """Find the radii of a range that the group does not flag.

    Parameters
    ----------
    combined : CombinedProfile
    radius_min, radius_max : float
        [pix].
    names : str
        What the parameters are called in messages, before ``_min`` and ``_max``.

    Returns
    -------
    ndarray of bool, shape (n_radii,)

    Raises
    ------
    ParameterError
        If no radius lies in the range.
    ExposureError
        If the group flags every radius of the range.
    """
    radius = combined.radius
    in_range = (radius >= radius_min) & (radius <= radius_max)
    if not in_range.any():
        raise ParameterError(
            f"no radius between {names}_min={radius_min:g} and {names}_max={radius_max:g} pix; the profile has {radius}"
        )
    used = in_range & (combined.n_good > 0) & np.isfinite(combined.value)
    if not used.any():
        lost = "none was measured: the apertures leave the image, or hold bad pixels"
        why = "all are flagged in every exposure" if np.isfinite(combined.value[in_range]).any() else lost
        raise ExposureError(f"no good radius between {radius_min:g} and {radius_max:g} pix: {why}")
    return np.asarray(used)


def calibrate_rate(
    total: TotalRate,
    expected: ExpectedRate | None,
    *,
    gain: float,
    gain_err: float = 0.0,
    throughput_err: float = 0.0,
    pixar_sr: float,
) -> dict[str, float]:
    """Compare a star's total count rate with what its spectrum predicts.

    PHOTMJSR and PHOTUJA2 relate the star's flux density to its count rate: neither the gain nor the level of the
    throughput enters, only the throughput's shape. The ratio of electron rates has the gain and the throughput in it.

    Parameters
    ----------
    total : TotalRate
    expected : ExpectedRate or None
        None where the star's spectrum is not known: expected rate and factors are NaN.
    gain, gain_err : float
        [e-/DN].
    throughput_err : float
        Fractional standard error of the throughput.
    pixar_sr : float
        Pixel area [sr].

    Returns
    -------
    dict of str to float
        By column of the table of the ``absflux`` product, whose schema describes each.

    Raises
    ------
    ExposureError
        If the rate is not significant.
    """
    rate, kept, nan = total.count_rate, total.exposure_total[total.kept], float("nan")
    chi2, dof = _agreement(total.exposure_total, total.exposure_own_err)
    if not total.significance >= SIGNIFICANCE_MIN:
        raise ExposureError(
            f"no star: the total count rate is {rate:.3g} +- {total.count_rate_err:.2g} DN/s, less than "
            f"{SIGNIFICANCE_MIN:g} standard errors; check the positions (source_x, source_y) and the WCS"
        )
    own = ("err_photon", "err_scatter", "err_radii", "err_aperture", "err_flat", "err_sky")
    terms = {k: getattr(total, k) / abs(rate) for k in own} | {"err_gain": gain_err / gain}
    star = {key: nan if expected is None else getattr(expected, key) for key in ("pivot", "fnu_band", "fnu_mono")}
    electrons, err = (nan, nan) if expected is None else (expected.electron_rate, expected.electron_rate_err)
    terms |= {"err_spectrum": err / electrons, "err_throughput": nan if expected is None else throughput_err}
    ratio, photmjsr = gain * rate / electrons, star["fnu_band"] / 1e6 / (rate * pixar_sr)
    photmjsr_err = float(photmjsr * np.sqrt(sum(terms[k] ** 2 for k in (*own, "err_spectrum"))))
    return {
        "count_rate": rate, "count_rate_err": total.count_rate_err,
        "count_rate_scatter": float(np.std(kept, ddof=1)) if len(kept) > 1 else nan,
        "significance": total.significance, "chi2_dof": chi2 / max(dof, 1), "psf_chi2_dof": total.psf_chi2_dof,
        "psf_index_shift": total.psf_index_shift, "electron_rate": gain * rate,
        "electron_rate_err": float(np.hypot(gain * total.count_rate_err, gain_err * rate)),
        "expected_electron_rate": electrons, "expected_electron_rate_err": err,
        "ratio": ratio, "ratio_err": float(abs(ratio) * np.sqrt(sum(v**2 for v in terms.values()))),
        "photmjsr": photmjsr, "photmjsr_err": photmjsr_err,
        "photmjsr_mono": star["fnu_mono"] / 1e6 / (rate * pixar_sr),
        "photuja2": photmjsr * UJA2_PER_MJYSR, "photuja2_err": photmjsr_err * UJA2_PER_MJYSR,
        "zeropoint_ab": float(-2.5 * np.log10(star["fnu_band"] / rate / AB_ZERO_FLUX)), **star, **terms,
    }  # fmt: skip
