"""Encircled energy (curve of growth) of one exposure, with the covariance between its apertures."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from niriss_eestep.instrument import SATURATED
from niriss_eestep.measure.apertures import (
    Apertures,
    Sums,
    apertures_about,
    covariance_of_centring,
    repaired_stamp,
    sum_apertures,
)
from niriss_eestep.measure.background import Sky, find_background, fixed_background, without_absurd_variances
from niriss_eestep.measure.core_repair import repair_core
from niriss_eestep.measure.geometry import Array, Mask, distance_grid, weighted_sums
from niriss_eestep.measure.low_pixels import with_low_pixels
from niriss_eestep.measure.options import EEOptions
from niriss_eestep.measure.pixels import pixel_map
from niriss_eestep.measure.position import CENTROID_MARGIN, Centroid, centre_of_mass, locate_star
from niriss_eestep.measure.profile import CoreReport, EEProfile
from niriss_eestep.measure.psf_model import PSFModel
from niriss_eestep.measure.quality import core_report, ee_warnings, scatter_warning
from niriss_eestep.measure.repair import Repair, by_median, by_psf, by_surface, repair_pixels
from niriss_eestep.measure.stamp import Stamp, with_flat_error
from niriss_eestep.measure.star_model import REACH, without_unexplained
from niriss_eestep.measure.surroundings import study_surroundings

__all__ = ["EEOptions", "EEProfile", "failed_ee", "measure_ee"]

#: the light within the smaller of two radii [pix] is compared with that within the larger: simulated stars of all
#: filters have 1.005-1.015 of what the PSF has; two stars of one brightness 4 pix apart have half of it
_GROWTH_RADII = ((2.0, 3.0), (5.0, 10.0))
_GROWTH_LEAST = 0.4
#: ... and stands out by this many standard errors
_SIGMA = 5.0


def measure_ee(exposure: Stamp, options: EEOptions | None = None, psf: PSFModel | None = None) -> EEProfile:
    """Measure the encircled energy of one exposure.

    Parameters
    ----------
    exposure : Stamp
    options : EEOptions, optional
    psf : PSFModel, optional
        For the method 'psf' and for ``repair_core``.

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

    Notes
    -----
    The method is that of CAP-020 (2021) with the errors propagated pixel by pixel: an aperture's variance is the sum
    of w_i^2 var_i (w_i, not w_i^2, as the 2021 report has it, overstates it where pixels are cut), plus the
    background's, the repaired pixels' own, and what the position's error moves into the aperture.
    """
    options = options or EEOptions()
    exposure = without_absurd_variances(with_flat_error(exposure, options.flat_err, options.flat_err_scale), options)
    centroid, core_is_bad = locate_star(exposure, options, psf)
    x, y, radii = centroid.x, centroid.y, np.array(options.radii)
    sky = find_background(exposure, x, y, options)
    if (explained := without_unexplained(exposure, sky, (x, y), psf, radii[-1] + REACH)) is not exposure:
        return measure_ee(explained, options, psf)
    distance = distance_grid(exposure.image.shape, x, y)
    bad = with_low_pixels(exposure, distance, sky.background, options)
    apertures = apertures_about(exposure.image.shape, x, y, radii)
    weights, area = apertures.weights, apertures.area
    touched = bad & (weights[-1] > 0)
    failure = _core_failure(exposure, sky, (x, y), options, psf) if core_is_bad else ""
    todo = _to_repair(touched, distance, options) & (not failure)
    repairs = _repair(exposure, bad, todo, (x, y), options, sky, psf)
    n_bad, n_left = (np.sum((weights > 0) & mask, axis=(1, 2)) for mask in (touched, touched & ~todo))
    # an aperture that leaves the image has lost light
    lost = (area < np.pi * radii**2 * (1 - 1e-9)) | (n_left > 0) | bool(failure)
    around = study_surroundings(exposure, bad, sky, x, y, psf, options)
    sums = sum_apertures(exposure, weights, sky, repairs, bad, around)
    star, count_rate = repaired_stamp(exposure, repairs, sky, bad), sums.values
    covariance = sums.covariance + covariance_of_centring(star.image, apertures, centroid.x_err, centroid.y_err)
    failure = _without(lost, count_rate, covariance, failure or _forbidden(radii, lost, sums, psf))
    profile = EEProfile(
        radius=radii,
        count_rate=count_rate,
        covariance=covariance,
        area=area,
        n_bad=n_bad,
        n_repaired=n_bad - n_left,
        centroid=replace(centroid, x=x + exposure.x_origin, y=y + exposure.y_origin),
        background=sums.background,
        **_settings(exposure, options, core_report(exposure.dq, distance, options.core_radius)),
        failure=failure,
        pixels=pixel_map(exposure, x, y, bad, sky, repairs, reach=radii[-1]),
        common=sums.common,
        sky_covariance=sums.sky_covariance,
        noise=around.correlation,
        sky_shape=around.shape,
        phase=_phase(apertures, centroid, options, psf),
    )
    told = exposure.warnings + scatter_warning(exposure, around, both=psf is not None)
    return replace(profile, warnings=told + ee_warnings(exposure, profile, star, sky, apertures, options, psf))


def _phase(apertures: Apertures, centroid: Centroid, options: EEOptions, psf: PSFModel | None) -> Array | None:
    """Encircled energy at the star's own pixel phase less that averaged over phases, by the model image.

    The apertures lie about a centroid, which is off the star by what it is off on the model's image.
    """
    if psf is None or psf.render is None or psf.mean_ee is None:
        return None
    x, y, shape = apertures.x, apertures.y, apertures.weights.shape[1:]
    image = psf.render(x, y, shape)
    if centroid.method == "com":
        # the star's own centre of mass is that of the model where the model lies where the star does
        seen = centre_of_mass(image, np.zeros(shape), x, y, box=options.centroid_box)
        image = psf.render(2 * x - seen[0], 2 * y - seen[1], shape)
    within = weighted_sums(apertures.weights.reshape(len(apertures.radii), -1), image.ravel())
    return np.asarray(within - psf.mean_ee(apertures.radii))


def _repair(
    exposure: Stamp,
    bad: Mask,
    todo: Mask,
    star: tuple[float, float],
    options: EEOptions,
    sky: Sky,
    psf: PSFModel | None,
) -> list[Repair]:
    """Repair the core by the model PSF, the rest by the method chosen: none, one or two."""
    repairs, distance = [], distance_grid(todo.shape, *star)
    core = todo & (distance <= options.core_radius - CENTROID_MARGIN)
    if core.any() and psf is not None:
        repairs.append(repair_core(exposure, bad, core, star, sky, psf, options.core_radius))
    if (todo & ~core).any():
        predict = {"surface": by_surface, "median": by_median}.get(options.bad_pixel_method)
        if predict is None:
            model = None if psf is None else psf.as_seen(*star, sky)
            predict = partial(by_psf, model=model, background=sky.background.value)
        repairs.append(repair_pixels(exposure, bad, todo & ~core, distance, predict))
    return repairs


def _settings(exposure: Stamp, options: EEOptions, core: CoreReport) -> dict[str, Any]:
    """What a profile keeps of the exposure and the options."""
    return {
        "core": core,
        "gain": exposure.gain,
        "pixel_scale": exposure.pixel_scale,
        "bad_pixel_method": options.bad_pixel_method,
    }


def _without(unusable: Mask, count_rate: Array, covariance: Array, failure: str) -> str:
    """Make NaN of what cannot be used, and of rates without error; why the profile failed."""
    unusable = unusable | ~np.isfinite(np.diagonal(covariance)) | bool(failure)
    count_rate[unusable] = np.nan
    covariance[unusable, :] = np.nan
    covariance[:, unusable] = np.nan
    if unusable.all() and not failure:
        return "no aperture could be measured: each leaves the image or holds bad pixels"
    return failure


def _forbidden(radii: Array, lost: Mask, sums: Sums, psf: PSFModel | None) -> str:
    """Why a curve of growth is no star's: too little light in the core, beside what the PSF has there."""
    inner, outer = (np.flatnonzero(~lost & (radii >= low) & (radii <= high)) for low, high in _GROWTH_RADII)
    if psf is None or psf.ee is None or not inner.size or not outer.size:
        return ""
    pair = [inner[0], outer[0]]
    light, err = sums.values[pair], np.sqrt(np.diagonal(sums.covariance)[pair])
    share = float(psf.ee(radii[pair[0]]) / psf.ee(radii[pair[1]]))
    if light[0] + _SIGMA * err[0] >= _GROWTH_LEAST * share * (light[1] - _SIGMA * err[1]):
        return ""
    near, far = radii[pair]
    return (
        f"{100 * light[0] / light[1]:.0f} % of the light within {far:g} pix is within {near:g} pix, where a star has "
        f"{100 * share:.0f} %: its core is saturated, or this is no star"
    )


def _core_failure(
    exposure: Stamp, sky: Sky, star: tuple[float, float], options: EEOptions, psf: PSFModel | None
) -> str:
    """Why bad pixels in the core make the profile unusable; empty where a model PSF may replace them."""
    in_core = exposure.bad & (distance_grid(exposure.bad.shape, *star) <= options.core_radius - CENTROID_MARGIN)
    model = psf.as_seen(*star, sky) if options.repair_core and psf is not None else None
    share = 1.0 if model is None else float(model[in_core].sum())
    if share <= options.repair_core_max and model is not None:
        return ""
    n_saturated = int(np.sum(in_core & ((exposure.dq & SATURATED) != 0)))
    saturated = f", {n_saturated} of them saturated" if n_saturated else ""
    remedy = "repair_core=True lets a model PSF replace them"
    if model is not None:
        remedy = (
            f"they hold {100 * share:.0f} % of the star's light, more than repair_core_max={options.repair_core_max:g}"
        )
    elif options.repair_core:
        remedy = "repair_core needs a model PSF for this filter"
    return f"{in_core.sum()} bad pixel(s) within {options.core_radius:g} pix of the centre{saturated}; {remedy}"


def _to_repair(touched: Mask, distance: Array, options: EEOptions) -> Mask:
    """Bad pixels within the apertures for which there is a method."""
    if options.bad_pixel_method == "none":
        return touched & (distance <= options.core_radius - CENTROID_MARGIN)
    return touched


def failed_ee(exposure: Stamp, options: EEOptions, reason: str) -> EEProfile:
    """Profile of an exposure whose star could not be measured: NaN throughout.

    Parameters
    ----------
    exposure : Stamp
    options : EEOptions
    reason : str

    Returns
    -------
    EEProfile
    """
    n = len(options.radii)
    x, y = exposure.x - exposure.x_origin, exposure.y - exposure.y_origin
    background = fixed_background(np.nan, np.nan, method=options.background_method)
    core = core_report(exposure.dq, distance_grid(exposure.image.shape, x, y), options.core_radius)
    if core.saturated:
        reason = (
            f"{reason} ({core.saturated} saturated pixel(s) within {options.core_radius:g} pix of the first position)"
        )
    return EEProfile(
        radius=np.array(options.radii),
        count_rate=np.full(n, np.nan),
        covariance=np.full((n, n), np.nan),
        area=np.full(n, np.nan),
        n_bad=np.zeros(n, dtype=np.int64),
        n_repaired=np.zeros(n, dtype=np.int64),
        centroid=Centroid(exposure.x, exposure.y, np.nan, np.nan, np.nan, "none"),
        background=background,
        **_settings(exposure, options, core),
        warnings=exposure.warnings,
        failure=reason,
        pixels=pixel_map(
            exposure, x, y, exposure.bad, Sky(background, np.zeros(exposure.image.shape)), reach=options.sky_radii[1]
        ),
    )
