"""Encircled energy (curve of growth) of one exposure; background-subtracted sums of pixels with their covariance."""

from contextlib import suppress
from dataclasses import replace
from typing import Any

import numpy as np
import scipy

from niriss_eestep.arrays import Array, Mask
from niriss_eestep.errors import ExposureError
from niriss_eestep.instrument import SATURATED
from niriss_eestep.measure import noise, star_model
from niriss_eestep.measure.background import Background, measure_background, with_sound_errors
from niriss_eestep.measure.core_repair import repair_stamp, shared_errors, unlikely_pixels
from niriss_eestep.measure.geometry import aperture_weights, box_about, covariance_of_sums
from niriss_eestep.measure.position import Centroid, centre_of_mass
from niriss_eestep.measure.profile import EEProfile
from niriss_eestep.measure.quality import ee_warnings, scatter_warning
from niriss_eestep.measure.repair import Repair, low_pixels, pixel_map
from niriss_eestep.measure.stamp import PLACING, EEOptions, Stamp
from niriss_eestep.measure.star_model import Known, PSFModel, Star

#: the light within the smaller of two radii [pix] is compared with that within the larger: simulated stars of all
#: filters have 1.005-1.015 of what the PSF has; two stars of one brightness 4 pix apart have half of it
_GROWTH_RADII = ((2.0, 3.0), (5.0, 10.0))
_GROWTH_LEAST = 0.4
#: ... and stands out by this many standard errors
_SIGMA = 5.0
#: more pixels of the core that do not fit their neighbours are no bad ones
_MOST_UNLIKELY = 3
#: more pixels that then go with them are the light of another star: two equal ones 4 pix apart have 34 (a choice)
_MOST_ODD = 12
#: apertures of this radius keep the charge that moves to a pixel's neighbours [pix]
_CHARGE_KEPT = 3.0
#: far below the structure of any PSF, far above rounding [pix]
_CENTRING_STEP = 0.02


def measure_ee(
    exposure: Stamp, options: EEOptions | None = None, psf: PSFModel | None = None, known: Known | None = None
) -> EEProfile:
    """Measure the encircled energy of one exposure.

    Parameters
    ----------
    exposure : Stamp
    options : EEOptions, optional
    psf : PSFModel, optional
        For the method 'psf' and for ``repair_core``.
    known : dict, optional
        What measurements have found, which this one goes on with, and adds to.

    Returns
    -------
    EEProfile
        Positions in the exposure's frame. Apertures that leave the image, or touch a bad pixel that is not
        repaired, are NaN. With a bad pixel in the core the whole profile is NaN and ``failure`` says so.

    Raises
    ------
    ExposureError
        If there is no star, or too little sky.
    ParameterError
        If an option needs what is not given.

    Examples
    --------
    >>> from niriss_eestep.measure.stamp import Stamp
    >>> from niriss_eestep.reference import load_psf_images
    >>> light = 5000 * load_psf_images()["F444W"].render(35.2, 34.9, (71, 71)) + 0.5  # a star and its sky [DN/s]
    >>> noise = np.sqrt(light) / 10
    >>> data = light + noise * np.random.default_rng(1).standard_normal(light.shape)
    >>> bad = np.zeros(light.shape, dtype=bool)
    >>> stamp = Stamp("star", data, noise**2, bad.astype("u4"), bad, 35.0, 35.0, 0, 0, 0.0656, 1.61, photmjsr=None)
    >>> measure_ee(stamp).count_rate[[4, 9]].round()  # within 5 and 10 pix
    array([3799., 4109.])

    Notes
    -----
    The method is that of CAP-020 (2021) with the errors propagated pixel by pixel: an aperture's variance is the sum
    of w_i^2 var_i (w_i, not w_i^2, as the 2021 report has it, overstates it where pixels are cut), plus the
    background's, the repaired pixels' own, and what the position's error moves into the aperture.
    """
    options, psf = options or EEOptions(), psf or PSFModel()
    radii = np.array(options.radii)
    touched_radius = options.radii[-1] + star_model.HALF_DIAGONAL
    stamp, centroid, star, sound = place_star(exposure, options, psf, touched_radius, known)
    x, y, bad, sky = star.x, star.y, stamp.bad, star.sky
    if options.repair_low or options.bad_pixel_method == "median":
        level = sky.value - options.low_sigma * sky.dark
        bad = bad | low_pixels(stamp.image, bad, star.distance, options.core_radius, level)
        sky = noise.study_surroundings(stamp, bad, star, options)
    weights = aperture_weights(bad.shape, x, y, radii)
    area, touched = weights.sum(axis=(1, 2)), bad & (weights[-1] > 0)
    core = star.distance <= options.core_radius - star_model.CENTROID_MARGIN
    failure = _core_failure(stamp, star, core, options) if np.any(stamp.bad & core) else ""
    todo = touched & (core | (options.bad_pixel_method != "none")) & (not failure)
    repairs = repair_stamp(stamp, bad, todo, core, star, options) if todo.any() else []
    n_bad, n_left = (np.sum((weights > 0) & mask, axis=(1, 2)) for mask in (touched, touched & ~todo))
    # an aperture that leaves the image has lost light
    lost = (area < np.pi * radii**2 * (1 - 1e-9)) | (n_left > 0) | bool(failure)
    sums = sum_apertures(stamp, weights, sky, repairs, bad)
    count_rate, covariance, common, sky_covariance, background_err = sums
    failure = failure or _growth_failure(radii, lost, count_rate, covariance, psf)
    clean = repaired_stamp(stamp, repairs, star.sky, bad)
    covariance = covariance + covariance_of_centring(clean.image, centroid, radii)
    # a rate without error cannot be used either
    unusable = lost | ~np.isfinite(np.diagonal(covariance)) | bool(failure)
    count_rate[unusable], covariance[unusable], covariance[:, unusable] = np.nan, np.nan, np.nan
    if unusable.all() and not failure:
        failure = "no aperture could be measured: each leaves the image or holds bad pixels"
    report = pixel_map(stamp, star, bad, repairs, reach=radii[-1], core_radius=options.core_radius)
    report |= _beside_model(clean, weights, centroid, options, star)
    report |= shared_errors(repairs[0], star, weights) if np.any(todo & core) else {}  # the core's is the first
    profile = EEProfile(
        radius=radii, count_rate=count_rate, covariance=covariance, area=area, n_bad=n_bad, n_repaired=n_bad - n_left,
        centroid=replace(centroid, x=x + stamp.x_origin, y=y + stamp.y_origin),
        background=replace(sky, value=sky.value - sky.uneven, err=background_err), gain=stamp.gain,
        pixel_scale=stamp.pixel_scale, bad_pixel_method=options.bad_pixel_method, failure=failure,
        common=common, sky_covariance=sky_covariance, sound=sound, **report,
    )  # fmt: skip
    warnings = stamp.warnings + scatter_warning(stamp, sky, both=star.model is not None)
    return replace(profile, warnings=warnings + ee_warnings(stamp, profile, clean, star, options))


def place_star(
    stamp: Stamp, options: EEOptions, psf: PSFModel, radius: float, known: Known | None = None
) -> tuple[Stamp, Centroid, Star, Stamp]:
    """Find the star of a stamp, and study its sky, without unflagged pixels that neither a star nor neighbours explain.

    Parameters
    ----------
    stamp : Stamp
    options : EEOptions
    psf : PSFModel
    radius : float
        Pixels up to this distance from the star are compared with its model [pix].
    known : dict, optional
        What measurements have found, which this one goes on with where stamp (the object), options, the PSF's image and
        its core's error are the same.

    Returns
    -------
    stamp : Stamp
        With sound errors, and those pixels as bad ones.
    centroid : Centroid
        In the stamp's frame.
    star : Star
    sound : Stamp
        With sound errors, and without dead pixels.

    Raises
    ------
    ExposureError
        If there is no star, or too little sky.
    """
    # by which the core's pixels are judged
    core_err = psf.ee and psf.ee_err and float(psf.ee_err(0.5) / psf.ee(0.5))
    key = () if known is None else (stamp, psf.render, core_err, *(getattr(options, name) for name in PLACING))
    known = {} if known is None else known
    if key not in known:
        known[key] = with_sound_errors(star_model.without_dead(stamp), options), {}, {}
    sound, stars, unlikely = known[key]
    stamp, fallback, bad_before, n_unlikely = sound, None, sound.bad, 0
    while True:
        bad = stamp.bad.tobytes()
        if bad not in stars:
            centroid = star_model.locate_star(stamp, options, psf)
            if options.background_method == "annulus":
                at = centroid.x, centroid.y
                sky = measure_background(stamp.image, stamp.variance, stamp.bad, *at, *options.sky_radii)
            else:
                given = options.background_method == "constant"
                value, err = (options.background_value, options.background_value_err) if given else (0.0, 0.0)
                nowhere = np.zeros(stamp.image.shape)
                sky = Background(value, err, method=options.background_method, weights=nowhere)
            stars[bad] = centroid, star_model.star_at(centroid.x, centroid.y, sky, psf)
        found = stamp, *stars[bad]
        odd = star_model.unexplained_pixels(stamp, found[2], radius)
        if not odd.any() and n_unlikely < _MOST_UNLIKELY:
            # what a star may have, and its neighbours deny
            if bad not in unlikely:
                unlikely[bad] = unlikely_pixels(stamp, found[2])
            odd = unlikely[bad]
            fallback, bad_before, n_unlikely = fallback or found, stamp.bad | odd, n_unlikely + 1
        if not odd.any():
            break
        stamp = star_model.taken_as_bad(stamp, odd)
        # without a pixel of the core another star may stand out: then that pixel was none to take out
        if fallback is not None and np.sum(stamp.bad & ~bad_before) > _MOST_ODD:
            found = fallback
            break
    stamp, centroid, star = found
    if star.sky.correlation is None:
        star = replace(star, sky=noise.study_surroundings(stamp, stamp.bad, star, options))
        stars[stamp.bad.tobytes()] = centroid, star
    return stamp, centroid, star, sound


def _beside_model(clean: Stamp, weights: Array, centroid: Centroid, options: EEOptions, star: Star) -> dict[str, Any]:
    """The core beside the model image at the star's own pixel phase, and that phase's effect on the EE.

    The apertures lie about a centroid, which is off the star by what it is off on the model's image.
    """
    psf = star.psf
    if star.model is None or psf.render is None or psf.mean_ee is None:
        return {}
    # what lies beyond the apertures is not worth its time
    cut = box_about(star.x, star.y, int(max(options.radii[-1], options.centroid_box)) + 2)
    x, y, shape = star.x - cut[1].start, star.y - cut[0].start, star.distance[cut].shape
    image = psf.render(x, y, shape)
    in_sky = image[0, 0] - star.model[cut][0, 0]
    if centroid.method == "com":
        # the star's own centre of mass is that of the model where the model lies where the star does
        with suppress(ExposureError):  # of a star at the image's edge
            found = centre_of_mass(image, np.zeros(shape), x, y, box=options.centroid_box)
            image = psf.render(2 * x - found[0], 2 * y - found[1], shape)
    phase = np.einsum("iyx,yx->i", weights[:, *cut], image) - psf.mean_ee(np.array(options.radii))
    report: dict[str, Any] = {"phase": phase}
    near, peak = (star.distance[cut] <= _CHARGE_KEPT) & ~clean.bad[cut], image == image.max()
    beside = np.array([peak, scipy.ndimage.binary_dilation(peak) & ~peak])
    layers = image - in_sky, clean.image[cut], clean.variance[cut]
    rate = layers[1][near].sum() / max(layers[0][near].sum(), 1e-3)
    if rate > 0 and not np.any(clean.bad[cut] & beside):
        light, got, variance = (np.sum(beside * layer, axis=(1, 2)) for layer in layers)
        light *= rate
        report["core_peak"], report["core_sides"] = (got / light - 1).tolist()
        report["core_peak_err"], report["core_sides_err"] = (np.sqrt(variance) / light).tolist()
    return report


def _growth_failure(radii: Array, lost: Mask, count_rate: Array, covariance: Array, psf: PSFModel) -> str:
    """Why a curve of growth is no star's: too little light in the core, beside what the PSF has there."""
    inner, outer = (np.flatnonzero(~lost & (radii >= low) & (radii <= high)) for low, high in _GROWTH_RADII)
    if psf.ee is None or not inner.size or not outer.size:
        return ""
    pair = [inner[0], outer[0]]
    light, err = count_rate[pair], np.sqrt(np.diagonal(covariance)[pair])
    share = float(psf.ee(radii[pair[0]]) / psf.ee(radii[pair[1]]))
    if light[0] + _SIGMA * err[0] >= _GROWTH_LEAST * share * (light[1] - _SIGMA * err[1]):
        return ""
    near, far = radii[pair]
    return (
        f"{100 * light[0] / light[1]:.0f} % of the light within {far:g} pix is within {near:g} pix, where a star has "
        f"{100 * share:.0f} %: its core is saturated, or this is no star"
    )


def _core_failure(exposure: Stamp, star: Star, core: Mask, options: EEOptions) -> str:
    """Why bad pixels in the core make the profile unusable; empty where a model PSF may replace them."""
    in_core = exposure.bad & core
    model, limit = star.model if options.repair_core else None, options.repair_core_max
    share = 1.0 if model is None else float(model[in_core].sum())
    if share <= limit and model is not None:
        return ""
    n_saturated = int(np.sum(in_core & ((exposure.dq & SATURATED) != 0)))
    saturated = f", {n_saturated} of them saturated" if n_saturated else ""
    remedy = "repair_core=True lets a model PSF replace them"
    if model is not None:
        remedy = f"they hold {100 * share:.0f} % of the star's light, more than repair_core_max={limit:g}"
    elif options.repair_core:
        remedy = "repair_core needs a model PSF for this filter"
    return f"{in_core.sum()} bad pixel(s) within {options.core_radius:g} pix of the centre{saturated}; {remedy}"


def failed_ee(exposure: Stamp, options: EEOptions, reason: str) -> EEProfile:
    """Profile of an exposure whose star could not be measured: NaN throughout.

    Parameters
    ----------
    exposure : Stamp
    options : EEOptions
    reason : str
        Why it could not be, for the status.

    Returns
    -------
    EEProfile
    """
    lost, nothing = np.full(len(options.radii), np.nan), np.zeros(len(options.radii), dtype=np.int64)
    sky = Background(np.nan, np.nan, method=options.background_method, weights=np.zeros(exposure.image.shape))
    star = star_model.star_at(exposure.x - exposure.x_origin, exposure.y - exposure.y_origin, sky, PSFModel())
    radii = {"reach": options.sky_radii[1], "core_radius": options.core_radius}
    report = pixel_map(exposure, star, exposure.bad, [], **radii)
    if n := report["core_saturated"]:
        reason += f" ({n} saturated pixel(s) within {options.core_radius:g} pix of the first position)"
    return EEProfile(
        radius=np.array(options.radii), count_rate=lost, covariance=np.outer(lost, lost), area=lost, n_bad=nothing,
        n_repaired=nothing, centroid=Centroid(exposure.x, exposure.y, np.nan, np.nan, np.nan, "none"),
        background=sky, gain=exposure.gain, pixel_scale=exposure.pixel_scale,
        bad_pixel_method=options.bad_pixel_method, warnings=exposure.warnings, failure=reason,
        sound=with_sound_errors(star_model.without_dead(exposure), options), **report,
    )  # fmt: skip


def sum_apertures(
    exposure: Stamp, weights: Array, sky: Background, repairs: list[Repair], bad: Mask
) -> tuple[Array, Array, Array, Array, float]:
    """Background-subtracted sums and their covariance, each pixel's noise followed to every place that it reaches.

    Parameters
    ----------
    exposure : Stamp
    weights : ndarray, shape (n_sums, ny, nx)
        Of the pixels in each sum; zero where a bad pixel is not repaired.
    sky : Background
        Where its ``correlation`` is None the pixels share no noise but the photons'.
    repairs : list of Repair
    bad : ndarray of bool, shape (ny, nx)
        Pixels whose own values are not used.

    Returns
    -------
    values : ndarray, shape (n_sums,)
        Background-subtracted [DN/s].
    covariance : ndarray, shape (n_sums, n_sums)
        [(DN/s)^2].
    common : ndarray, shape (n_sums, n_sums)
        Its part that is the same in every integration of an exposure [(DN/s)^2].
    sky_covariance : ndarray, shape (n_sums, n_sums)
        What the sky's level and shape bring to it: of the pixels that they are measured on, the noise that each has for
        itself; and the error of the star's wing [(DN/s)^2].
    background_err : float
        Of the background, with what correlated noise adds [DN/s/pix].

    Notes
    -----
    A sum reaches the pixels by r = a - s, by the aperture's weights a and the s with which the sky is subtracted. With
    D the variance of each pixel and K what different pixels have in common, its variance r (D + K) r is
    a D a + s D s + r K r, where a and s share no pixel. The sky's part is s D s. That of its level by itself,
    s (D + K) s, holds noise that aperture and annulus share, which cancels in the difference: it may exceed the whole.
    """
    n, area, flat = len(weights), weights.sum(axis=(1, 2)), weights.reshape(len(weights), -1)
    sky_weights = sky.weights.reshape(1, -1)
    # a background from elsewhere errs in all apertures alike, as a wing does; the annulus's error is that of its pixels
    given = np.outer(area, area) * ((noise.WING_ERROR * sky.uneven) ** 2 if sky.method == "annulus" else sky.err**2)
    covariance, common, sky_covariance = given.copy(), given.copy(), given.copy()
    values = np.einsum("ip,p->i", flat, np.where(bad, 0.0, exposure.image).ravel()) - area * (sky.value - sky.uneven)
    # how each sum depends on each pixel, by all the places that the pixel reaches; the background is one sum more,
    # whose variance is its own
    for_sky = area[:, None] * sky_weights
    reach = np.concatenate([np.where(bad.ravel(), 0.0, flat) - for_sky, sky_weights])
    for repair in repairs:
        touched = flat[:, repair.index]
        values += np.einsum("ik,k->i", touched, repair.value)
        predictors = repair.weights.reshape(len(repair.index), -1)
        used = np.flatnonzero(predictors.any(axis=0))
        reach[:n, used] += np.einsum("ik,kp->ip", touched, predictors[:, used])
        together = np.einsum("ik,ck->ic", touched, repair.common_err)
        shared = np.einsum("ic,jc->ij", together, together)
        covariance += covariance_of_sums(touched, np.maximum(repair.variance, 0.0)) + shared
        common += covariance_of_sums(touched, repair.variance) + shared
    reach = reach.reshape(-1, *weights.shape[1:])
    reach[:n], change, slope = noise.corrected(sky, reach[:n])
    values += change
    if sky.wing is not None and sky.term_weights is not None:
        wing = np.outer(slope @ sky.wing, slope @ sky.wing)
        covariance, sky_covariance = covariance + wing, sky_covariance + wing
        for_sky = for_sky + slope @ sky.term_weights.reshape(slope.shape[1], -1)
    by_pixels = _noise_of_sums(exposure, reach, bad, sky.correlation)
    used = np.flatnonzero(for_sky.any(axis=0) & ~bad.ravel())
    sky_covariance += covariance_of_sums(for_sky[:, used], exposure.variance.ravel()[used])
    covariance += by_pixels[:n, :n]
    if exposure.flat_variance is not None:
        flat_err = np.sqrt(np.where(bad, 0.0, exposure.flat_variance))
        common += noise.flat_covariance(reach[:n], flat_err, exposure.flat_scale)
    background_err = float(np.sqrt(by_pixels[n, n])) if sky.method == "annulus" else sky.err
    return values, covariance, common, sky_covariance, background_err


def _noise_of_sums(exposure: Stamp, reach: Array, bad: Mask, correlation: Array | None) -> Array:
    """Covariance that the pixels' noise gives to sums that reach them so."""
    # the part of the image that is reached, and two pixels more, as far as the capacitance
    (touched,) = scipy.ndimage.find_objects(reach.any(axis=0).astype(int)) or [(slice(0, 0), slice(0, 0))]
    n, cut = len(reach), tuple(slice(max(0, lines.start - 2), lines.stop + 2) for lines in touched)
    reach = np.ascontiguousarray(reach[:, *cut])
    layers, zeros = (exposure.variance, exposure.photon_variance, exposure.flat_variance), np.zeros(reach.shape[1:])
    variance, photons, flat = (zeros if layer is None else np.where(bad[cut], 0.0, layer[cut]) for layer in layers)
    covariance = covariance_of_sums(reach.reshape(n, -1), (variance - photons).ravel())
    if photons.any():
        # a photon's charge is seen in the neighbours too, which are read with noise of their own
        covariance += covariance_of_sums(noise.seen_through(reach).reshape(n, -1), photons.ravel())
    if correlation is not None:
        covariance += noise.correlated_covariance(reach, correlation)
    if flat.any() and exposure.flat_scale > 0:
        together, alone = (noise.flat_covariance(reach, np.sqrt(flat), scale) for scale in (exposure.flat_scale, 0.0))
        covariance += together - alone
    return covariance


def repaired_stamp(exposure: Stamp, repairs: list[Repair], sky: Background, bad: Mask) -> Stamp:
    """Put the star alone, repaired and without the background, in the place of a stamp's pixels.

    Parameters
    ----------
    exposure : Stamp
    repairs : list of Repair
    sky : Background
    bad : ndarray of bool, shape (ny, nx)
        Pixels whose own values are not used.

    Returns
    -------
    Stamp
        The variance of a repaired pixel is that of the pixels it is predicted from, and its method's own. What is not
        repaired, and what is repaired without an error, is bad.
    """
    image, variance, left = np.where(bad, 0.0, exposure.image), np.where(bad, 0.0, exposure.variance), bad.copy()
    before = variance.ravel().copy()
    for repair in repairs:
        image.flat[repair.index] = repair.value
        weights = repair.weights.reshape(len(repair.index), -1)
        own = np.maximum(repair.variance, 0.0) + np.sum(repair.common_err**2, axis=0)
        variance.flat[repair.index] = np.einsum("kp,kp,p->k", weights, weights, before) + own
        left.flat[repair.index] = ~np.isfinite(own)
    return replace(exposure, image=image - sky.value, variance=np.where(left, 0.0, variance), bad=left)


def covariance_of_centring(image: Array, star: Centroid, radii: Array) -> Array:
    """Covariance that the position's error gives the apertures' sums; none where the method gives no error.

    Parameters
    ----------
    image : ndarray, shape (ny, nx)
        Background-subtracted, repaired count rates.
    star : Centroid
        The position in the image's frame.
    radii : ndarray, shape (n_radii,)
        [pix].

    Returns
    -------
    ndarray, shape (n_radii, n_radii)
    """
    rows, columns = box_about(star.x, star.y, int(radii[-1]) + 2)
    image, x, y = image[rows, columns], star.x - columns.start, star.y - rows.start
    covariance = np.zeros((len(radii), len(radii)))
    for err, dx, dy in ((star.x_err, _CENTRING_STEP, 0.0), (star.y_err, 0.0, _CENTRING_STEP)):
        if np.isfinite(err):
            sides = [aperture_weights(image.shape, x + s * dx, y + s * dy, radii) for s in (-1, 1)]
            slope = np.einsum("iyx,yx->i", sides[1] - sides[0], image) / (2 * _CENTRING_STEP)
            covariance += np.outer(slope, slope) * err**2
    return covariance
