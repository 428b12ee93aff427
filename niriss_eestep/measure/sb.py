"""Surface-brightness profile of one exposure."""

from dataclasses import replace

import numpy as np
import scipy

from niriss_eestep.arrays import Array, Mask
from niriss_eestep.measure.background import Background, with_sound_errors
from niriss_eestep.measure.ee import place_star, sum_apertures
from niriss_eestep.measure.geometry import Annulus, annuli_about, mean_weights, unseen_variance
from niriss_eestep.measure.position import Centroid
from niriss_eestep.measure.profile import SBProfile
from niriss_eestep.measure.repair import TREND_MARGIN, low_pixels, radial_trend, repair_surrounded
from niriss_eestep.measure.stamp import BOX, SBOptions, Stamp
from niriss_eestep.measure.star_model import Known, PSFModel, Star, without_dead

#: below it the mean of an annulus is more guessed than seen
_COVERAGE_MIN = 0.5


def measure_sb(
    exposure: Stamp, options: SBOptions | None = None, psf: PSFModel | None = None, known: Known | None = None
) -> SBProfile:
    """Measure the surface brightness of one exposure.

    Each annulus is the mean over its whole area, pixels weighted by their exact overlap with it, less the background.
    Bad pixels and those left out as low are repaired by a surface where good ones surround them; the rest, and what
    lies off the image, is taken to be as bright as what is seen of its ring. The error knows both. Leaving out the low
    tail of the noise raises the mean of the pixels kept, by what `kept_noise` takes off again. The background annulus
    holds starlight too: the profile is relative to it, seen whole or not. As for the encircled energy the shape of a
    sky that is not flat is taken out, and the noise that pixels have in common is in the covariance.

    Parameters
    ----------
    exposure : Stamp
    options : SBOptions, optional
    psf : PSFModel, optional
        With an image: pixels that no star explains are then bad.
    known : dict, optional
        What measurements have found, which this one goes on with, and adds to.

    Returns
    -------
    SBProfile
        Positions in the exposure's frame. NaN where an annulus has no good pixel.

    Raises
    ------
    ExposureError
        If there is no star, or too little sky.

    Examples
    --------
    >>> from niriss_eestep.measure.stamp import Stamp
    >>> from niriss_eestep.reference import load_psf_images
    >>> light = 5000 * load_psf_images()["F444W"].render(35.2, 34.9, (71, 71)) + 0.5  # a star and its sky [DN/s]
    >>> bad = np.zeros(light.shape, dtype=bool)
    >>> stamp = Stamp("star", light, light / 100, bad.astype("u4"), bad, 35.0, 35.0, 0, 0, 0.0656, 1.61)
    >>> measure_sb(stamp).surface_brightness[:3].round(1)  # 5, 9 and 13 pix from it
    array([8.3, 0.9, 0.5])
    """
    options = options or SBOptions()
    radii, shared = np.array(options.radii), options.shared
    reach = max(radii[-1] + options.half_width, shared.sky_radii[1]) + BOX  # as far as the trend is wanted
    stamp, centroid, star, sound = place_star(exposure, shared, psf or PSFModel(), reach + TREND_MARGIN, known)
    distance, ee_sky, half = star.distance, star.sky, options.half_width
    # the last annulus is the background's, which is a mean over the whole of it, like the profile
    edges = np.append(radii - half, ee_sky.r_in), np.append(radii + half, ee_sky.r_out)
    overlap, rings = annuli_about(distance.shape, star.x, star.y, *edges)
    used = ee_sky.weights > 0
    weights = mean_weights(rings[-1], used)
    value = float(np.sum(weights[used] * stamp.image[used]))
    # `_means` says what is not known of the part that is not seen
    star = replace(star, sky=replace(ee_sky, value=value, weights=weights, uneven=0.0))
    level = value - options.low_sigma * ee_sky.dark if options.clip_low else -np.inf
    clipped = low_pixels(stamp.image, stamp.bad, distance, options.core_radius, level)
    missing = stamp.bad | clipped
    touched = overlap[:-1] > 0
    coverage = np.sum(overlap[:-1], axis=(1, 2), where=~missing) / (4 * np.pi * half * radii)
    trend = radial_trend(stamp.image, ~missing, distance, reach)
    image, at_risk = stamp.image.copy(), ~missing & (distance > options.core_radius) & np.isfinite(level)
    if at_risk.any():
        # leaving out the low tail of the noise adds this, on the mean, to the pixels kept
        image[at_risk] -= kept_noise(image[at_risk], stamp.variance[at_risk], trend[at_risk], level)
    unclipped = replace(stamp, image=image)
    values, covariance, common, background_err = _means(unclipped, missing, overlap, rings, star, trend)
    unseen = coverage == 0
    values[unseen], covariance[unseen], covariance[:, unseen] = np.nan, np.nan, np.nan
    common[unseen], common[:, unseen] = np.nan, np.nan
    warnings = list(stamp.warnings)
    if n_core := int(np.sum(stamp.bad & (distance <= options.core_radius))):
        where = "fitted by the model PSF" if centroid.method == "psf" else "which they may move"
        warnings.append(f"{n_core} bad pixel(s) within {options.core_radius:g} pix of the centre, {where}")
    if partial := ", ".join(f"{radius:g}" for radius in radii[coverage < _COVERAGE_MIN]):
        warnings.append(f"less than half of the annulus at {partial} pix could be used")
    return SBProfile(
        radius=radii, half_width=half, surface_brightness=values, covariance=covariance, common=common,
        n_used=np.sum(touched & ~missing, axis=(1, 2)), n_clipped=np.sum(touched & clipped, axis=(1, 2)),
        centroid=replace(centroid, x=star.x + stamp.x_origin, y=star.y + stamp.y_origin),
        background=replace(star.sky, err=background_err), pixel_scale=stamp.pixel_scale, photmjsr=stamp.photmjsr,
        warnings=tuple(warnings), sound=sound,
    )  # fmt: skip


def kept_noise(image: Array, variance: Array, expected: Array, level: float) -> Array:
    """Mean noise of pixels that were kept because they lie above a level.

    With z = (expected - level) / sigma the mean of a normal distribution cut at the level is sigma phi(z) / Phi(z):
    0.0044 sigma three standard deviations above it, nothing far above it. A skewness g changes it, to first order
    (Edgeworth), by the factor 1 - g z^3 / 6: at g = 0.1, that of a hundred electrons, it halves the low tail.

    Both are those of the noise at the expected count rates. The variance rises with the signal by the DN/s of one
    electron. It is estimated from the noisy signal, so that it is low where the pixel is; at the expected signal it is
    not. The third central moment of a count is its mean; the read noise is symmetric.

    Parameters
    ----------
    image, variance : ndarray, shape (n,)
        Count rates [DN/s] and variances.
    expected : ndarray, shape (n,)
        What the pixels would be without noise [DN/s].
    level : float
        [DN/s].

    Returns
    -------
    ndarray, shape (n,)
        [DN/s].
    """
    contrast = image - image.mean()
    spread = float(np.sum(contrast**2))
    electron = max(float(np.sum(contrast * variance)) / spread, 0.0) if spread > 0 else 0.0
    variance = np.maximum(variance + electron * (expected - image), 0.0)
    skewness = electron**2 * np.maximum(expected, 0.0) / np.where(variance > 0, variance, np.inf) ** 1.5
    sigma = np.sqrt(variance)
    z = (expected - level) / np.where(sigma > 0, sigma, 1.0)
    # phi / Phi without underflow; a pixel without noise has no mean noise either
    normal = sigma * np.sqrt(2 / np.pi) / scipy.special.erfcx(-z / np.sqrt(2))
    return np.asarray(normal * np.maximum(1 - skewness * z**3 / 6, 0.0))


def _means(
    exposure: Stamp, missing: Mask, overlap: Array, rings: list[Annulus], star: Star, trend: Array
) -> tuple[Array, Array, Array, float]:
    """Background-subtracted means of whole annuli, their covariance, its part that integrations share, the sky's error.

    The last of the annuli is the background's. NaN where no pixel of an annulus is left.
    """
    image, variance = (np.where(missing, 0.0, a) for a in (exposure.image, exposure.variance))
    repairs = repair_surrounded(exposure, missing, np.any(overlap[:-1] > 0, axis=0), star.distance, trend)
    available = ~missing
    for repair in repairs:
        image.flat[repair.index] = repair.value
        available.flat[repair.index] = True
    weights = np.array([mean_weights(annulus, available) for annulus in rings[:-1]])
    values, covariance, common, _, background_err = sum_apertures(exposure, weights, star.sky, repairs, missing)
    masks, last = [available] * len(weights) + [available & (star.sky.weights > 0)], (image - trend, variance)
    parts = zip(overlap, rings, masks, strict=True)
    # spikes cross several annuli, so that these errors are not independent; only the variances are known
    *unseen, of_sky = (unseen_variance(*part, star.x, star.y, *last) for part in parts)
    more = np.diag(unseen) + of_sky
    return values, covariance + more, common + more, background_err


def failed_sb(exposure: Stamp, options: SBOptions, reason: str) -> SBProfile:
    """Profile of an exposure whose star could not be measured: NaN throughout.

    Parameters
    ----------
    exposure : Stamp
    options : SBOptions
    reason : str
        Why it could not be, for the status.

    Returns
    -------
    SBProfile
    """
    lost, nothing = np.full(len(options.radii), np.nan), np.zeros(len(options.radii), dtype=np.int64)
    return SBProfile(
        radius=np.array(options.radii), half_width=options.half_width, surface_brightness=lost,
        covariance=np.outer(lost, lost), n_used=nothing, n_clipped=nothing,
        centroid=Centroid(exposure.x, exposure.y, np.nan, np.nan, np.nan, "none"),
        background=Background(np.nan, np.nan, method="annulus"), pixel_scale=exposure.pixel_scale,
        photmjsr=exposure.photmjsr, warnings=exposure.warnings, failure=reason,
        sound=with_sound_errors(without_dead(exposure), options.shared),
    )  # fmt: skip
