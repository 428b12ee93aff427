"""What the user should know about a measurement: flagged cores, neighbours, falls, and a sky that is not even."""

import contextlib
from dataclasses import replace
from functools import partial

import numpy as np
import scipy

from niriss_eestep.arrays import Array, Mask
from niriss_eestep.errors import ExposureError
from niriss_eestep.measure.background import MAD_TO_STD, Background
from niriss_eestep.measure.geometry import aperture_weights, distance_grid
from niriss_eestep.measure.noise import correlated_covariance
from niriss_eestep.measure.position import centre_of_mass, fill_for_search
from niriss_eestep.measure.profile import EEProfile
from niriss_eestep.measure.stamp import EEOptions, Stamp
from niriss_eestep.measure.star_model import Star, compare

#: a sector of the annulus brighter than its mirror is worth a warning when it changes the count rate within the
#: aperture nearest to 10 pix by this fraction and stands out by this many standard errors
_ASYMMETRY_EFFECT, _ASYMMETRY_SIGMA = 0.003, 5.0
#: sectors of the annulus, an even number
_SECTORS = 8
#: a shape of the sky that noise makes less often than this is told, where it is worth more than the aperture's error:
#: with 1/f noise of 5 of 16 e- one exposure of 24 showed one worth half of it
_SKY_CHANCE = 1e-4
#: centroids in boxes of 3.5 and 7 pix agree within 0.1 pix for every filter and pixel phase
_CORE_OFFSET = 0.3
#: an error of repaired pixels of the core that is worth telling, as a fraction of the count rate
_CORE_WORTH = 0.005
#: a larger share of the annulus than a few cosmic rays take
_MANY_REJECTED = 0.03
#: the scatter of sky pixels and their stated errors agree within this factor: simulated ones have 0.98-1.05 (66 of a
#: commissioning program), 0.96-1.08 with 1/f noise of 3 to 14 of 15 e-, IPC and flat errors of 2.5 %; variances
#: that are 9 times too large 0.33-0.35, as much too small 2.96-3.14. Half-way between, in logarithms
_SCATTER_FACTOR = 1.7
#: a scatter below this part of the stated read noise is none: simulated scenes without noise have 0 to 3e-5
_NO_NOISE = 1e-3
#: fewer sky pixels do not give their scatter within 12 % (1.17 / sqrt(n), of a median absolute deviation)
_MIN_SCATTER_PIXELS = 100
#: what falls below zero by this many standard errors is no noise
_SIGNIFICANT_FALL = 3.0

#: light is compared within circles of this radius [pix], from this distance on, with that of the model, and without one
#: with that of the mirror image: of 2, 2.5 and 3 pix the radius with the least differences on the model PSFs; further
#: in, undersampled cores differ from their mirror images by several per cent. What stands out by so many standard
#: errors is no noise: of 10,000 places none is so by chance
_BY_MODEL, _BY_MIRROR = (1.5, 3.0, 6.0), (2.0, 4.0, 5.0)
#: beyond 0.5 of the brightest circle of the model within 2 pix, and 4e-4 of the star's light, is more than 324 images
#: of single wavefronts of 56 to 80 nm rms show (0.45 of it up to 10 pix)
_LOCAL, _FLOOR = 0.6, 4e-4
#: beside the mirror image light above this share of the star's is told, by the distance from it [pix]: twice what the
#: worst of 480 PSFs of single in-flight wavefronts shows (20 wavefronts of 68 nm rms, 8 filters, 3 pixel phases: 0.024
#: from 4 pix, 0.022 from 4.5, 0.019 from 5, 0.009 from 6, 0.007 from 7, 0.006 from 8, 0.005 from 10 pix, all in F277W
#: and redder), and more than 8 pre-launch ones of 117 nm show. Odd wavefront errors make the two sides of a star
#: unequal, in proportion to their rms; the mean of many wavefronts is symmetric and shows a fifth of it.
_LIMIT_DISTANCE = (4.0, 5.0, 6.0, 7.0, 8.0, 10.0)
_LIMIT_FRACTION = (0.05, 0.045, 0.035, 0.018, 0.014, 0.01)
#: a star's peak has a neighbour with this share of its light, as in `niriss_eestep.measure.position.find_star`
_PEAK_SHARE = 0.05
#: small and large box of the centroid [pix]
_BOXES = (3.5, 7.0)


def ee_warnings(exposure: Stamp, profile: EEProfile, clean: Stamp, star: Star, options: EEOptions) -> tuple[str, ...]:
    """Collect what the user should know about a measured EE profile.

    Parameters
    ----------
    exposure : Stamp
    profile : EEProfile
    clean : Stamp
        The same, repaired and without the background; see `repaired_stamp`.
    star : Star
        Light is compared with its model; without one, with the star's own other side.
    options : EEOptions

    Returns
    -------
    tuple of str
    """
    found = []
    if profile.centroid.shift > options.max_shift:
        found.append(f"the centroid is {profile.centroid.shift:.1f} pix from the first position")
    if options.background_method == "constant" and not (options.background_value or options.background_value_err):
        found.append("the constant background is 0 DN/s/pix, as it is where background_value is not given")
    if profile.core_saturated:
        found.append(f"{profile.core_saturated} saturated pixel(s) in the core")
    if profile.core_charge_loss:
        beside = f"; beside the model image the peak is {100 * profile.core_peak:+.1f} % and its neighbours"
        beside += f" {100 * profile.core_sides:+.1f} %, which radii of 3 pix and more do not see"
        found.append(
            f"charge migration: {profile.core_charge_loss} pixel(s) in the core flagged CHARGELOSS"
            + (beside if np.isfinite(profile.core_peak) else "")
        )
    fixed = exposure.bad & ~clean.bad & (star.distance <= options.core_radius)
    if star.model is not None and not profile.failure and fixed.any():
        worth = np.sqrt(np.sum(clean.variance[fixed])) / np.nanmax(profile.count_rate)
        if worth > _CORE_WORTH:
            found.append(
                f"{fixed.sum()} bad pixel(s) in the core hold {100 * star.model[fixed].sum():.2g} % of the star's "
                f"light, which is the model PSF's: worth {100 * worth:.2g} % of the count rate"
            )
    lost = profile.radius[profile.area < np.pi * profile.radius**2 * (1 - 1e-9)]
    if lost.size:
        found.append(f"apertures from {lost[0]:g} pix extend beyond the image")
    variance, growth = np.diagonal(profile.covariance), np.diff(profile.count_rate)
    err = np.sqrt(np.maximum(variance[1:] + variance[:-1] - 2 * np.diagonal(profile.covariance, 1), 0.0))
    if not profile.failure and np.any((growth <= 0) & (growth <= -_SIGNIFICANT_FALL * err)):
        found.append("the count rate does not rise with every radius")
    if not np.any(exposure.variance[~exposure.bad] > 0):
        found.append("all variances are zero: the errors mean nothing")
    return tuple(found) + _surroundings(exposure, profile, clean, star)


def scatter_warning(exposure: Stamp, sky: Background, *, both: bool) -> tuple[str, ...]:
    """Compare the scatter of sky pixels with their variances.

    Parameters
    ----------
    exposure : Stamp
    sky : Background
    both : bool
        Tell too large a scatter too; without a model of the star's wing that is the wing.

    Returns
    -------
    tuple of str
        One warning, or none: resampled pixels share their noise, and scatter by less than each one's error.
    """
    residual, variance = sky.residual[sky.use], exposure.variance[sky.use]
    if exposure.resampled or residual.size < _MIN_SCATTER_PIXELS:
        return ()
    stated = float(np.sqrt(np.median(variance)))
    if not stated > 0:
        return ()
    photons = 0.0 if exposure.photon_variance is None else exposure.photon_variance[sky.use]
    seen = MAD_TO_STD * float(np.median(np.abs(residual - np.median(residual))))
    # a scene without noise is a model's
    noisy = seen > _NO_NOISE * np.sqrt(np.median(variance - photons))
    if not noisy or 1 / _SCATTER_FACTOR < stated / seen < _SCATTER_FACTOR or (seen > stated and not both):
        return ()
    return (
        f"the sky pixels scatter by {seen:.3g} DN/s and their variances say {stated:.3g}: the errors are wrong; "
        "look at VAR_POISSON, VAR_RNOISE and ERR",
    )


def _surroundings(exposure: Stamp, profile: EEProfile, clean: Stamp, star: Star) -> tuple[str, ...]:
    """What lies about the star that should not."""
    found = []
    x, y, sky = star.x, star.y, profile.background
    annulus = (star.distance > sky.r_in + 1) & (star.distance < sky.r_out - 1)
    rejected = annulus & (sky.weights == 0) & ~clean.bad
    r_max = sky.r_out if sky.r_out > 0 else float(profile.radius[-1])
    if (beside := find_neighbour(clean, star, r_max, rejected)) is not None:
        fraction, i, j, apart = beside
        found.append(
            f"possible neighbour at x={i + exposure.x_origin:.0f}, y={j + exposure.y_origin:.0f} ({apart:.0f} pix "
            f"away), {100 * fraction:.3g} % of the star's light"
        )
    offset, err = core_offset(clean.image, clean.variance, clean.bad, x, y)
    if offset > max(_CORE_OFFSET, _ASYMMETRY_SIGMA * err):
        found.append(f"the core is {offset:.1f} pix off the centroid of a larger box: possibly two stars")
    if sky.n_rejected > _MANY_REJECTED * (sky.n_rejected + sky.npix):
        found.append(f"{sky.n_rejected} unflagged outliers left out of the sky annulus: possible neighbour")
    finite = np.flatnonzero(np.isfinite(profile.count_rate))
    if sky.weights.any() and finite.size:
        k = finite[np.argmin(np.abs(profile.radius[finite] - 10))]
        if sky.image is not None and sky.chance < _SKY_CHANCE:
            within = aperture_weights(clean.bad.shape, x, y, profile.radius[k : k + 1])[0]
            effect = np.sum((within - profile.area[k] * sky.weights) * sky.image) / profile.count_rate[k]
            if abs(effect) * abs(profile.count_rate[k]) > profile.count_rate_err[k]:
                found.append(
                    f"the sky is not flat: its slope and curvature are taken out, worth {100 * abs(effect):.2g} % of "
                    f"the count rate within {profile.radius[k]:g} pix"
                )
        bias, sigma = sector_asymmetry(exposure.image, exposure.variance, sky.weights > 0, x, y, sky.correlation)
        effect = bias * profile.area[k] / abs(profile.count_rate[k])
        if sigma > _ASYMMETRY_SIGMA and effect > _ASYMMETRY_EFFECT:
            found.append(
                f"the sky annulus is brighter on one side: a neighbour or a gradient, worth {100 * effect:.1f} % of "
                f"the count rate within {profile.radius[k]:g} pix"
            )
        coverage = float(np.average(sky.ring_coverage))
        if coverage < 0.5:
            found.append(f"only {100 * coverage:.0f} % of the sky annulus could be used")
    return tuple(found)


def _mirrored(image: Array, x: float, y: float, order: int, outside: float) -> Array:
    """Image turned by 180 degrees about a point."""
    jj, ii = np.indices(image.shape)
    return scipy.ndimage.map_coordinates(image, [2 * y - jj, 2 * x - ii], order=order, mode="constant", cval=outside)


def _single_pixels(image: Array, x: float, y: float) -> Mask:
    """Pixels that stand alone: hit, not lit by a star."""
    excess = image - _mirrored(image, x, y, 1, 0.0)
    cross = np.array([[0, 1, 0], [1, 0, 1], [0, 1, 0]], dtype=bool)
    return (excess > 0) & (scipy.ndimage.maximum_filter(excess, footprint=cross) < _PEAK_SHARE * excess)


def find_neighbour(
    clean: Stamp, star: Star, reach: float, rejected: Mask | None = None
) -> tuple[float, float, float, float] | None:
    """Find the place where light stands out most that is not the star's: beside its model, else its mirror image.

    A pupil function with little wavefront error has a point-symmetric PSF, and the rest of its asymmetry is below what
    is reported, at each distance. The image is turned about the star's centre of mass: other centroids are up to 0.2
    pix off the axis.

    Parameters
    ----------
    clean : Stamp
        Repaired, without the background.
    star : Star
    reach : float
        How far to look [pix].
    rejected : ndarray of bool, shape (ny, nx), optional
        Pixels that the sky leaves out; those that stand alone are hit, and are not looked at.

    Returns
    -------
    fraction, x, y, distance : float
        Its light as a fraction of the star's, if it is spread as the star's is, where it is in the stamp's frame, and
        its distance from the star [pix]. None where nothing stands out.
    """
    x, y, distance = star.x, star.y, star.distance
    radius, start, sigma = _BY_MIRROR if star.model is None else _BY_MODEL
    if rejected is not None and rejected.any():
        alone = rejected & _single_pixels(fill_for_search(clean.image, clean.bad), x, y)
        clean = replace(clean, bad=clean.bad | alone)
    kernel = aperture_weights((5, 5), 2.0, 2.0, np.array([radius]))[0]
    circles = partial(scipy.ndimage.correlate, mode="constant", weights=kernel)
    good = circles((~clean.bad).astype(float))
    noise = circles(np.where(clean.bad, 0.0, clean.variance), weights=kernel**2)
    if star.model is not None:
        rate, residual, _ = compare(clean, clean.bad, replace(star, sky=replace(star.sky, value=0.0)))
        light, expected = circles(residual), circles(rate * star.model)
        limit = _LOCAL * scipy.ndimage.maximum_filter(expected, 5, mode="nearest") + _FLOOR * rate
        whole = float(expected.max()) if rate > 0 else 0.0
    else:
        filled = fill_for_search(clean.image, clean.bad)
        with contextlib.suppress(ExposureError):
            x, y, _, _ = centre_of_mass(filled, np.where(clean.bad, 0.0, clean.variance), x, y, box=_BOXES[1])
        light, distance = circles(filled), distance_grid(filled.shape, x, y)
        whole = float(scipy.ndimage.map_coordinates(light, [[y], [x]], order=3, mode="nearest")[0])
        limit = np.interp(distance, _LIMIT_DISTANCE, _LIMIT_FRACTION) * whole
        light, good = light - _mirrored(light, x, y, 3, 0.0), np.minimum(good, _mirrored(good, x, y, 0, 0.0))
        noise += np.maximum(_mirrored(noise, x, y, 1, 0.0), 0.0)
    # where a third of the circle is bad there is nothing to compare
    look = (distance >= start) & (distance <= reach) & (good > 0.67 * kernel.sum())
    over = np.where(look, light - limit - sigma * np.sqrt(noise), -np.inf)
    j, i = np.unravel_index(np.argmax(over), over.shape)
    if not whole > 0 or not over[j, i] > 0:
        return None
    return float(light[j, i] / whole), float(i), float(j), float(distance[j, i])


def core_offset(image: Array, variance: Array, bad: Mask, x: float, y: float) -> tuple[float, float]:
    """Distance between the centres of mass in a small and a large box: a sign of two stars in one core.

    Parameters
    ----------
    image, variance : ndarray, shape (ny, nx)
        Background-subtracted count rates [DN/s] and their variances.
    bad : ndarray of bool, shape (ny, nx)
    x, y : float
        The star [pix].

    Returns
    -------
    offset, err : float
        [pix]. Below 0.1 pix for the model PSFs of all filters at any phase; 1.2 to 2.0 pix for two equal stars 3 to
        4 pix apart. Zero where a box has no centre.
    """
    filled, noise = fill_for_search(image, bad), np.where(bad, 0.0, variance)
    j, i = np.ogrid[: image.shape[0], : image.shape[1]]
    near = (np.abs(j - y) <= _BOXES[1] / 2) & (np.abs(i - x) <= _BOXES[1] / 2)
    peak_j, peak_i = np.unravel_index(np.argmax(np.where(near, filled, -np.inf)), image.shape)
    try:
        small = centre_of_mass(filled, noise, float(peak_i), float(peak_j), box=_BOXES[0])
        large = centre_of_mass(filled, noise, x, y, box=_BOXES[1])
    except ExposureError:
        return 0.0, 0.0
    return float(np.hypot(small[0] - large[0], small[1] - large[1])), float(np.hypot(*small[2:]))


def sector_asymmetry(
    image: Array, variance: Array, use: Mask, x: float, y: float, noise: Array | None = None
) -> tuple[float, float]:
    """Largest difference between a sector of the annulus and its mirror: a sign of a neighbour or of a gradient.

    Parameters
    ----------
    image, variance : ndarray, shape (ny, nx)
    use : ndarray of bool, shape (ny, nx)
        Pixels to compare.
    x, y : float
        The star [pix].
    noise : ndarray, shape (8,), optional
        What the pixels' noise has in common, which 1/f noise makes much of in a sector.

    Returns
    -------
    bias : float
        What that difference adds to the mean of the annulus [DN/s/pix].
    significance : float
        The difference over its standard error.
    """
    jj, ii = np.nonzero(use)
    angle = np.arctan2(jj - y, ii - x)
    sector = np.floor((angle + np.pi) / (2 * np.pi) * _SECTORS).astype(int) % _SECTORS
    count = np.bincount(sector, minlength=_SECTORS)
    mean = np.bincount(sector, image[jj, ii], _SECTORS) / np.maximum(count, 1)
    var = np.bincount(sector, variance[jj, ii], _SECTORS) / np.maximum(count, 1) ** 2
    half = _SECTORS // 2
    both = (count[:half] > 0) & (count[half:] > 0)
    difference = np.where(both, np.abs(mean[:half] - mean[half:]), 0.0)
    worst = int(np.argmax(difference))
    if difference[worst] == 0:
        return 0.0, 0.0
    share = min(count[worst], count[worst + half]) / len(jj)
    squared = var[worst] + var[worst + half]
    if noise is not None and noise.any():
        reach = np.zeros((1, *use.shape))
        for k, sign in ((worst, 1), (worst + half, -1)):
            reach[0, jj[sector == k], ii[sector == k]] = sign / count[k]
        squared += correlated_covariance(reach, noise)[0, 0]
    # without noise any difference is significant
    significance = difference[worst] / np.sqrt(squared) if squared > 0 else np.inf
    return float(difference[worst] * share), float(significance)
