"""The star's total count rate in one filter, and what it says of the flux calibration."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import scipy

from niriss_eestep.arrays import Array, Mask
from niriss_eestep.combine.mean import NORMAL_95, CombinedProfile, extra_light, scatter_factor, weighted_sum
from niriss_eestep.errors import ExposureError, ParameterError
from niriss_eestep.instrument import AB_ZERO_FLUX

Curve = Callable[[Array], Array]


def annulus_light(curve: Curve, ring_edges: Array, ring_coverage: Array) -> float | Array:
    """Mean fraction of the star's light per pixel in the part of an annulus that was used.

    Parameters
    ----------
    curve : callable
        EE of the PSF at radii [pix], 1 at infinity; or several curves, shape (n, n_curves).
    ring_edges : ndarray, shape (n_rings + 1,)
        [pix]; empty where the background does not come from an annulus.
    ring_coverage : ndarray, shape (n_rings,)
        Fraction of each ring that was used.

    Returns
    -------
    float, or ndarray of shape (n_curves,)
        [1/pix].

    Raises
    ------
    ParameterError
        If no part of the annulus was used.
    """
    if len(ring_edges) == 0:
        return 0.0
    area = np.pi * np.diff(np.square(ring_edges))
    used = float(np.sum(ring_coverage * area))
    if not used > 0:
        raise ParameterError(f"no part of the sky annulus from {ring_edges[0]:g} to {ring_edges[-1]:g} pix was used")
    light = np.asarray(ring_coverage) @ np.diff(curve(np.asarray(ring_edges)), axis=0) / used
    return light if np.ndim(light) else float(light)


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
        EE of the PSF at radii [pix]; 1 at infinity.
    radius, area : ndarray, shape (n_radii,)
        Radii [pix] and areas on the image [pix] of the apertures.
    ring_edges, ring_coverage : ndarray
        As in `annulus_light`.

    Returns
    -------
    ndarray, shape (n_radii,) or (n_radii, n_curves)
    """
    if len(ring_edges) == 0:
        return curve(radius)
    return curve(radius) - np.multiply.outer(area, annulus_light(curve, ring_edges, ring_coverage))


#: a total below this many standard errors is no star's: of 1,000 empty places none is so by chance
SIGNIFICANCE_MIN = 5.0

#: the spread over radii counts where chance alone would give it this rarely: 3 standard deviations
SPREAD_PROBABILITY = 0.0027

#: light within the one of these radii that is known best is compared [pix]; a group whose scatter is this improbable by
#: that of the others is odd: of 100 products of 12 groups one has such a group by chance
COMMON_RADII, ODD_PROBABILITY, _HALVINGS = (4.0, 10.0), 1e-4, 20

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
    err_flat, err_sky : float
        From the errors of the flat field and of the sky, which are not in ``err_photon``; 0 where nobody knows them.
    exposure_total, exposure_total_err : ndarray, shape (n_exposures,)
        Each exposure's own total, over those of the radii used that it does not flag, or over all of them where it
        flags all, and its standard error without the aperture correction's [DN/s]; NaN where none was measured.
    kept : ndarray of bool, shape (n_exposures,)
        Exposures that are in the mean at one of the radii used at least.
    shared_err : float
        Part of each ``exposure_total_err`` that the exposures have in common, as on the same pixels of a flat [DN/s].
    common_scatter : float
        Scatter of dithers that the groups of a product have in common, as a fraction; from `common_scatter`.
    extra : ndarray, shape (n_exposures, n_radii)
        Light that one exposure has and the others have not; see `extra_light`.
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
    kept: Mask
    shared_err: float
    extra: Array
    err_flat: float = 0.0
    err_sky: float = 0.0
    common_scatter: float = 0.0

    @property
    def err_scatter(self) -> float:
        """Standard error of ``count_rate`` that the scatter between dithers adds [DN/s]; see `scatter_factor`."""
        added = self.common_scatter * self.count_rate
        err = np.hypot(self.exposure_own_err, added)
        factor = scatter_factor(*_agreement(np.where(self.kept, self.exposure_total, np.nan), err))
        # it says nothing of what all share
        own = max(0.0, self.err_photon**2 + self.err_flat**2 + self.err_sky**2 - self.shared_err**2)
        return float(np.sqrt((own + added**2 / max(1, self.kept.sum())) * factor**2 - own))

    @property
    def exposure_scatter(self) -> float:
        """Standard deviation between the exposures' own totals [DN/s]; NaN for fewer than two."""
        totals = self.exposure_total[self.kept]
        return float(np.std(totals, ddof=1)) if len(totals) > 1 else float("nan")

    @property
    def count_rate_err(self) -> float:
        """Standard error from the combination and the spread over radii [DN/s]."""
        terms = self.err_photon, self.err_scatter, self.err_radii, self.err_flat, self.err_sky
        return float(np.sqrt(sum(term**2 for term in terms)))

    @property
    def significance(self) -> float:
        """``count_rate`` over its standard error without the scatter between dithers, which are stars all the same."""
        err = float(np.sqrt(max(0.0, self.count_rate_err**2 - self.err_scatter**2)))
        return self.count_rate / err if err > 0 else float(np.inf * self.count_rate)

    @property
    def chi2_dof(self) -> float:
        """Chi-squared of the exposures' own totals about their mean per degree of freedom; NaN for fewer than two."""
        chi2, dof = _agreement(self.exposure_total, self.exposure_own_err)
        return chi2 / max(dof, 1)

    @property
    def exposure_own_err(self) -> Array:
        """Standard errors of the exposures' own totals by which these may differ [DN/s]."""
        return np.sqrt(np.maximum(self.exposure_total_err**2 - self.shared_err**2, 0.0))

    def discrepant(self) -> dict[int, float]:
        """Find the exposures whose totals differ from those of the others.

        Returns
        -------
        dict of int to float
            Their numbers, the furthest first, and how far they are from the median as a fraction of it; of two that
            differ, both, and how far each is from the other, for nothing tells which is right.
        """
        finite = np.flatnonzero(np.isfinite(self.exposure_total) & np.isfinite(self.exposure_total_err))
        if len(finite) < 2:
            return {}
        total, err = self.exposure_total[finite], self.exposure_own_err[finite]
        # the error of a median of normal values is 1.25 times the mean's
        middle = np.median(total), 1.2533 * np.sqrt(np.sum(err**2)) / len(finite)
        level, level_err = (total[::-1], err[::-1]) if len(finite) == 2 else np.broadcast_arrays(*middle)
        allowed = DISCREPANT_SIGMA * np.hypot(err, level_err) + DISCREPANT_SHARE * np.abs(level)
        apart = {int(k): float(off) for k, off in zip(finite, total / level - 1, strict=True)}
        told = finite[np.abs(total - level) > allowed]
        return {int(k): apart[k] for k in sorted(told, key=lambda k: -abs(apart[k]))}


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
    dof, low, high = sum(n for _, n in found), 0.0, max(float(np.ptp(value)) for value, _ in groups)
    if scatter_factor(sum(chi2 for chi2, _ in found), dof) == 1:
        return 0.0, dof
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        chi2 = sum(_agreement(value, np.hypot(err, middle))[0] for value, err in groups)
        low, high = (middle, high) if chi2 > dof else (low, middle)
    return high, dof


def rate_warnings(total: TotalRate, names: Sequence[str], ratio: float, ratio_err: float) -> tuple[str, ...]:
    """What the user should know about a group's total count rate.

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
    apart, found = total.discrepant(), []
    if apart:
        each = ", ".join(
            f"{names[k]} {100 * off:+.2g} %" + " (left out)" * (not total.kept[k]) for k, off in apart.items()
        )
        found.append(f"the dithers disagree (chi2/dof {total.chi2_dof:.3g}): {each} from the others' median")
    for k in map(int, np.flatnonzero(total.extra.any(axis=1))):
        j = int(np.argmax(total.extra[k]))
        found.append(
            f"{names[k]} has {100 * total.extra[k, j]:.2g} % of the star's light that the others have not, beyond "
            f"{total.radius[j - 1]:g} pix: persistence or a hit?"
        )
    off = abs(ratio - 1)
    if off > RATIO_FAR or (off > RATIO_OFF and off > RATIO_SIGMA * ratio_err):
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
    curve: Callable[[Array], Array],
    curve_err: Callable[[Array], Array],
    *,
    area: Array,
    rings: Sequence[tuple[Array, Array]],
    radius_min: float = 5.0,
    radius_max: float = 10.0,
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
    radius_min, radius_max : float
        Radii averaged, both included [pix].

    Returns
    -------
    TotalRate

    Raises
    ------
    ParameterError
        If no radius lies in the range.
    ExposureError
        If the group flags every radius of the range.

    Notes
    -----
    The radii share pixels: the error of their mean is that of fully covariant sums, which the profile's covariance
    gives, and is not smaller for more radii.
    """
    used, radius, weight = used_radii(combined, radius_min, radius_max), combined.radius, combined.exposure_weight
    annuli = [(radius, a, *ring) for a, ring in zip(area, rings, strict=True)]
    effective = np.array([effective_ee(curve, *annulus) for annulus in annuli])
    # a star on few pixels has the EE of its own place among them
    effective += 0.0 if combined.exposure_phase is None else np.nan_to_num(combined.exposure_phase)
    measured = weight.sum(axis=0) > 0
    total = np.where(measured, weighted_sum(weight, combined.exposure_value / effective), np.nan)
    mean_effective = np.where(measured, weighted_sum(weight, effective), np.nan)
    psf_err = np.abs(weighted_sum(weight, np.array([effective_ee(curve_err, *annulus) for annulus in annuli])))
    psf_err /= mean_effective
    scale, chosen = np.outer(mean_effective, mean_effective), np.ix_(used, used)
    photon, flat, sky, shared = (
        0.0 if part is None else max(0.0, float(np.mean((part / scale)[chosen]))) for part in combined.parts()
    )
    count_rate, kept = float(np.mean(total[used])), np.any(used & (combined.exposure_flag > 0), axis=1)
    exposure_total, exposure_total_err = _exposure_totals(combined, effective, used)
    _check_shape(radius, total / count_rate - 1, psf_err, combined.err / combined.value)
    return TotalRate(
        radius=radius,
        used=used,
        total=total,
        total_err=np.sqrt(np.diagonal(combined.covariance / scale)),
        ee_effective=mean_effective,
        count_rate=count_rate,
        err_photon=float(np.sqrt(max(0.0, photon - flat - sky))),
        err_flat=float(np.sqrt(flat)),
        err_sky=float(np.sqrt(sky)),
        err_radii=_excess_spread(total[used], (combined.covariance / scale)[chosen]),
        # a wrong wavefront moves the EE at all radii together
        err_aperture=abs(count_rate) * float(np.mean(psf_err[used])),
        exposure_total=exposure_total,
        exposure_total_err=exposure_total_err,
        kept=kept,
        shared_err=float(np.sqrt(shared)),
        extra=extra_light(radius, combined.exposure_value, combined.each_covariance()),
    )


def _check_shape(radius: Array, off: Array, psf_err: Array, err: Array) -> None:
    """Raise ExposureError where the light within 5 pix is spread as no star's."""
    with np.errstate(invalid="ignore"):
        bad = (radius <= SHAPE_RADIUS) & (np.abs(off) > SHAPE_SHARE / radius + 5 * np.hypot(psf_err, np.abs(err)))
    if bad.any():
        k = int(np.argmax(np.where(bad, np.abs(off), 0.0)))
        raise ExposureError(
            f"no star's light: the total by the light within {radius[k]:g} pix is {100 * off[k]:+.2g} % off from that "
            "by the radii averaged, more than the PSF can be: another source, two stars, or a damaged core?"
        )


def effective_modes(
    modes_at: Callable[[Array], Array],
    total: TotalRate,
    weight: Array,
    area: Array,
    rings: Sequence[tuple[Array, Array]],
) -> Array:
    """Fractional change of a group's effective EE per unit of each mode of the PSF.

    Parameters
    ----------
    modes_at : callable
        Change of the EE at radii [pix], shape (n, n_modes), per unit of each mode.
    total : TotalRate
    weight : ndarray, shape (n_exposures, n_radii)
        Weights of the exposures at each radius.
    area, rings
        As for `total_rate`.

    Returns
    -------
    ndarray, shape (n_radii, n_modes)
        Less its mean over the radii averaged it is the change of the total, whose width under the prior is the root of
        the summed squares; totals of other filters share the modes.
    """
    each = zip(weight, np.nan_to_num(area), rings, strict=True)
    change = sum(share[:, None] * effective_ee(modes_at, total.radius, a, *ring) for share, a, ring in each)
    return np.asarray(change / total.ee_effective[:, None])


def used_radii(combined: CombinedProfile, radius_min: float, radius_max: float) -> Mask:
    """Radii of the range that the group does not flag; parameters and errors as of `total_rate`."""
    radius = combined.radius
    in_range = (radius >= radius_min) & (radius <= radius_max)
    if not in_range.any():
        raise ParameterError(
            f"no radius between radius_min={radius_min:g} and radius_max={radius_max:g} pix; the profile has {radius}"
        )
    used = in_range & (combined.n_good > 0) & np.isfinite(combined.value)
    if not used.any():
        raise ExposureError(
            f"no good radius between {radius_min:g} and {radius_max:g} pix: all are flagged in every exposure"
        )
    return np.asarray(used)


def _exposure_totals(combined: CombinedProfile, effective: Array, used: Mask) -> tuple[Array, Array]:
    """Each exposure's own total and its error, over the group's radii that it does not flag, or all if it flags all."""
    totals, errs = np.full((2, len(effective)), np.nan)
    for k, ee in enumerate(effective):
        measured = used & np.isfinite(combined.exposure_value[k])
        good = measured & (combined.exposure_flag[k] > 0) if np.any(combined.exposure_flag[k][measured]) else measured
        if good.any():
            totals[k] = np.mean((combined.exposure_value[k] / ee)[good])
            # apertures share their pixels: the variance of the mean is the mean of all of the covariance
            errs[k] = np.sqrt(np.mean((combined.each_covariance()[k] / np.outer(ee, ee))[np.ix_(good, good)]))
    return totals, errs


@dataclass(frozen=True, slots=True)
class Stimulus:
    """What the star should give in a filter.

    Parameters
    ----------
    electron_rate : float
        Expected rate [e-/s].
    spectrum_err, throughput_err : float
        Fractional standard errors from the star's spectrum and from the throughput.
    pivot : float
        Pivot wavelength [micron].
    fnu_band, fnu_mono : float
        Flux density [Jy], band-averaged and monochromatic at the pivot.
    """

    electron_rate: float
    spectrum_err: float
    throughput_err: float
    pivot: float
    fnu_band: float
    fnu_mono: float


@dataclass(frozen=True, slots=True)
class AbsFlux:
    """The flux calibration that one group gives.

    Parameters
    ----------
    count_rate, count_rate_err, count_rate_scatter : float
        Total count rate, its error from the combination and the spread over radii, and the standard deviation
        between dithers [DN/s].
    electron_rate, electron_rate_err : float
        [e-/s]; the error includes the gain's.
    expected_electron_rate, expected_electron_rate_err : float
        [e-/s]; NaN where there is no spectrum.
    ratio, ratio_err : float
        Measured over expected electron rate.
    photmjsr, photmjsr_err : float
        Band-averaged F_nu over count rate and pixel area [MJy/sr per DN/s].
    photmjsr_mono : float
        The same with the monochromatic F_nu.
    photuja2, photuja2_err : float
        ``photmjsr`` in microjansky per square arcsecond.
    zeropoint_ab : float
        AB magnitude of a source of 1 DN/s.
    pivot : float
        [micron].
    fnu_band, fnu_mono : float
        [Jy].
    pixar_sr : float
        Pixel area [sr].
    err_photon, err_scatter, err_radii, err_aperture, err_gain, err_spectrum, err_throughput, err_flat, err_sky : float
        The error budget, as fractions.
    """

    count_rate: float
    count_rate_err: float
    count_rate_scatter: float
    electron_rate: float
    electron_rate_err: float
    expected_electron_rate: float
    expected_electron_rate_err: float
    ratio: float
    ratio_err: float
    photmjsr: float
    photmjsr_err: float
    photmjsr_mono: float
    photuja2: float
    photuja2_err: float
    zeropoint_ab: float
    pivot: float
    fnu_band: float
    fnu_mono: float
    pixar_sr: float
    err_photon: float
    err_scatter: float
    err_radii: float
    err_aperture: float
    err_gain: float
    err_spectrum: float
    err_throughput: float
    err_flat: float = 0.0
    err_sky: float = 0.0


def calibrate_rate(
    total: TotalRate, stimulus: Stimulus | None, *, gain: float, gain_err: float = 0.0, pixar_sr: float
) -> AbsFlux:
    """Compare a star's total count rate with what its spectrum predicts.

    PHOTMJSR and PHOTUJA2 relate the star's flux density to its count rate: neither the gain nor the level of the
    throughput enters, only the throughput's shape. The ratio of electron rates has the gain and the throughput in it.

    Parameters
    ----------
    total : TotalRate
    stimulus : Stimulus or None
        None where the star's spectrum is not known: expected rate and factors are NaN.
    gain, gain_err : float
        [e-/DN].
    pixar_sr : float
        Pixel area [sr].

    Returns
    -------
    AbsFlux

    Raises
    ------
    ExposureError
        If the rate is not significant.
    """
    nan = float("nan")
    rate = total.count_rate
    if not total.significance >= SIGNIFICANCE_MIN:
        raise ExposureError(
            f"no star: the total count rate is {rate:.3g} +- {total.count_rate_err:.2g} DN/s, less than "
            f"{SIGNIFICANCE_MIN:g} standard errors; check the positions (source_x, source_y) and the WCS"
        )
    own = ("err_photon", "err_scatter", "err_radii", "err_aperture", "err_flat", "err_sky")
    terms = {k: getattr(total, k) / abs(rate) for k in own}
    terms["err_gain"] = gain_err / gain
    stimulus = stimulus or Stimulus(nan, nan, nan, nan, nan, nan)
    terms["err_spectrum"], terms["err_throughput"] = stimulus.spectrum_err, stimulus.throughput_err
    measured = np.hypot(total.count_rate_err / abs(rate), terms["err_gain"])
    electron_rate = gain * rate
    ratio = electron_rate / stimulus.electron_rate
    photmjsr = stimulus.fnu_band / 1e6 / (rate * pixar_sr)
    photmjsr_err = photmjsr * np.sqrt(sum(terms[k] ** 2 for k in (*own, "err_spectrum")))
    one_dn = stimulus.fnu_band / rate
    return AbsFlux(
        count_rate=rate,
        count_rate_err=total.count_rate_err,
        count_rate_scatter=total.exposure_scatter,
        electron_rate=electron_rate,
        electron_rate_err=float(abs(electron_rate) * measured),
        expected_electron_rate=stimulus.electron_rate,
        expected_electron_rate_err=stimulus.electron_rate * stimulus.spectrum_err,
        ratio=ratio,
        ratio_err=float(abs(ratio) * np.sqrt(sum(v**2 for v in terms.values()))),
        photmjsr=photmjsr,
        photmjsr_err=float(photmjsr_err),
        photmjsr_mono=stimulus.fnu_mono / 1e6 / (rate * pixar_sr),
        photuja2=photmjsr * UJA2_PER_MJYSR,
        photuja2_err=float(photmjsr_err * UJA2_PER_MJYSR),
        zeropoint_ab=float(-2.5 * np.log10(one_dn / AB_ZERO_FLUX)) if one_dn > 0 else nan,
        pivot=stimulus.pivot,
        fnu_band=stimulus.fnu_band,
        fnu_mono=stimulus.fnu_mono,
        pixar_sr=pixar_sr,
        **terms,
    )
