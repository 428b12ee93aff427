"""Encircled energy (curve of growth) of one exposure, with the covariance between its apertures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from niriss_eestep.errors import ExposureError, ParameterError
from niriss_eestep.instrument import SATURATED
from niriss_eestep.measure.background import (
    Background,
    fixed_background,
    given_covariance,
    measure_background,
    sector_asymmetry,
)
from niriss_eestep.measure.core_repair import core_fit_pixels, fill_scale, model_misfit, scaled
from niriss_eestep.measure.geometry import aperture_weights, distance_grid
from niriss_eestep.measure.neighbours import core_offset, find_neighbour
from niriss_eestep.measure.pixels import PixelMap, pixel_map
from niriss_eestep.measure.position import Centroid, check_centroid, fit_psf, measure_centroid
from niriss_eestep.measure.repair import (
    BAD_PIXEL_METHODS,
    CoreReport,
    Repair,
    core_report,
    low_pixels,
    repair_pixels,
)
from niriss_eestep.measure.stamp import StarExposure
from niriss_eestep.measure.sums import covariance_of_sums, weighted_sums

__all__ = ["BACKGROUND_METHODS", "EEOptions", "EEProfile", "check_number", "check_radii", "failed_ee", "measure_ee"]

BACKGROUND_METHODS = ("annulus", "constant", "none")

#: diagonal of the detector's 2048x2048 pixels, rounded up [pix]
REACH_MAX = 2900.0

#: a sector of the annulus brighter than its mirror is worth a warning when it changes the count rate within the
#: aperture nearest to 10 pix by this fraction and stands out by this many standard errors
_ASYMMETRY_EFFECT = 0.003
_ASYMMETRY_SIGMA = 5.0

#: centroids in boxes of 3.5 and 7 pix agree within 0.1 pix for every filter and pixel phase
_CORE_OFFSET = 0.3

#: a larger share of the annulus than a few cosmic rays take
_MANY_REJECTED = 0.03

#: the centroid may be this far off [pix] (0.03 pix on the packaged PSFs, 0.15 on sharper ones): a bad pixel that lies
#: beyond the core must not fail an exposure for it
_CENTROID_MARGIN = 0.3

#: what falls below zero by this many standard errors is no noise
_SIGNIFICANT_FALL = 3.0

#: far below the structure of any PSF, far above rounding [pix]
_CENTRING_STEP = 0.02

EffectiveEE = Callable[
    [NDArray[np.float64], NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]], NDArray[np.float64]
]
Render = Callable[[float, float, tuple[int, int]], NDArray[np.float64]]


def check_radii(radii: Sequence[float], name: str = "radii") -> NDArray[np.float64]:
    """Check radii that a user gave.

    Parameters
    ----------
    radii : sequence of float
        [pix].
    name : str
        The parameter's name, for the message.

    Returns
    -------
    ndarray, shape (n_radii,)

    Raises
    ------
    ParameterError
        If they are not numbers, not positive, or not strictly increasing.
    """
    try:
        values = np.atleast_1d(np.array(radii, dtype=float))
    except (TypeError, ValueError) as error:
        raise ParameterError(f"{name} must be numbers [pix], got {radii!r}") from error
    if values.ndim != 1 or values.size == 0 or not np.all(np.isfinite(values)) or np.any(values <= 0):
        raise ParameterError(f"{name} must be one or more positive, finite numbers [pix], got {radii!r}")
    if np.any(np.diff(values) <= 0):
        raise ParameterError(f"{name} must increase strictly [pix], got {radii!r}")
    if values[-1] > REACH_MAX:
        raise ParameterError(
            f"{name} must not reach beyond {REACH_MAX:g} pix, the diagonal of the detector; got {radii!r}"
        )
    return values


def check_number(name: str, value: float, *, positive: bool = False) -> None:
    """Check a parameter that is a length, an error or the like.

    Parameters
    ----------
    name : str
        The parameter's name, for the message.
    value : float
    positive : bool
        Whether zero will not do.

    Raises
    ------
    ParameterError
        If it is not finite, or too small.
    """
    if not np.isfinite(value) or value < 0 or (positive and value == 0):
        raise ParameterError(f"{name} must be {'positive' if positive else 'zero or more'} and finite, got {value}")


@dataclass(frozen=True, slots=True)
class EEOptions:
    """How to measure an EE profile; the parameters of the step, in the method's order.

    Parameters
    ----------
    radii : tuple of float
        Aperture radii [pix].
    background_skip, background_width : float
        The sky annulus begins this far beyond the largest radius, and is this wide [pix].
    background_method : {'annulus', 'constant', 'none'}
        Where the background comes from.
    background_value, background_value_err : float
        The constant background and its standard error [DN/s].
    bad_pixel_method : {'surface', 'median', 'psf', 'none'}
        What to put in the place of bad pixels between the core and the largest radius.
    repair_low : bool
        Treat pixels below background - ``low_sigma`` standard deviations as bad; 'median' does so by itself.
    low_sigma : float
    repair_core : bool
        Allow the model PSF to replace bad pixels in the core.
    core_radius : float
        [pix].
    centroid_method : {'com', 'quadratic', '1dg', '2dg'}
    centroid_box : int
        [pix].
    search_radius : float
        The star is looked for within this distance of the first position [pix].
    max_shift : float
        A centroid further from the first position is worth a warning [pix].
    """

    radii: tuple[float, ...] = (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 15)
    background_skip: float = 5.0
    background_width: float = 5.0
    background_method: str = "annulus"
    background_value: float = 0.0
    background_value_err: float = 0.0
    bad_pixel_method: str = "surface"
    repair_low: bool = False
    low_sigma: float = 3.0
    repair_core: bool = False
    core_radius: float = 5.0
    centroid_method: str = "com"
    centroid_box: int = 7
    search_radius: float = 5.0
    max_shift: float = 3.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "radii", tuple(float(r) for r in check_radii(self.radii)))
        for name, choices in (("background_method", BACKGROUND_METHODS), ("bad_pixel_method", BAD_PIXEL_METHODS)):
            if getattr(self, name) not in choices:
                raise ParameterError(f"{name} must be one of {', '.join(choices)}; got {getattr(self, name)!r}")
        check_centroid(self.centroid_method, self.centroid_box)
        for name in ("background_width", "low_sigma", "core_radius", "search_radius"):
            check_number(name, getattr(self, name), positive=True)
        for name in ("background_skip", "background_value_err", "max_shift"):
            check_number(name, getattr(self, name))
        for name, reach in (("search_radius", self.search_radius), ("the sky annulus", self.sky_radii[1])):
            if reach > REACH_MAX:
                raise ParameterError(
                    f"{name} must not reach beyond {REACH_MAX:g} pix, the diagonal of the detector; got {reach:g}"
                )
        if not np.isfinite(self.background_value):
            raise ParameterError(f"background_value must be finite [DN/s/pix], got {self.background_value}")
        if self.centroid_box > 2 * self.sky_radii[0]:
            raise ParameterError(
                f"centroid_box must end before the sky annulus at {self.sky_radii[0]:g} pix, got {self.centroid_box}"
            )

    @property
    def sky_radii(self) -> tuple[float, float]:
        """Radii of the sky annulus [pix]."""
        r_in = max(self.radii) + self.background_skip
        return r_in, r_in + self.background_width


@dataclass(frozen=True, slots=True, eq=False)
class EEProfile:
    """Background-subtracted count rate of a star within circular apertures.

    Parameters
    ----------
    radius : ndarray, shape (n_radii,)
        Aperture radii [pix].
    count_rate : ndarray, shape (n_radii,)
        Background-subtracted count rate within each radius [DN/s]; NaN where it could not be measured.
    covariance : ndarray, shape (n_radii, n_radii)
        Covariance of ``count_rate`` [(DN/s)^2]; apertures share pixels and background.
    area : ndarray, shape (n_radii,)
        Area of each aperture on the image [pix].
    n_bad, n_repaired : ndarray of int, shape (n_radii,)
        Bad pixels that each aperture touches, and those of them that were repaired.
    centroid : Centroid
        The star's position.
    background : Background
        The background and the annulus it was measured in.
    core : CoreReport
        Flagged pixels in the core.
    gain : float
        [e-/DN].
    pixel_scale : float
        [arcsec/pix].
    bad_pixel_method : str
        How bad pixels were repaired.
    warnings : tuple of str
        What the user should know.
    failure : str
        Why the exposure is unusable; empty where it is not.
    pixels : PixelMap, optional
        What became of each pixel.
    common : ndarray, shape (n_radii, n_radii), optional
        The part of ``covariance`` that all integrations of an exposure share, as an unbiased estimate: of the flat
        field, of the repair and of a background that was given.
    """

    radius: NDArray[np.float64]
    count_rate: NDArray[np.float64]
    covariance: NDArray[np.float64]
    area: NDArray[np.float64]
    n_bad: NDArray[np.int64]
    n_repaired: NDArray[np.int64]
    centroid: Centroid
    background: Background
    core: CoreReport
    gain: float
    pixel_scale: float
    bad_pixel_method: str
    warnings: tuple[str, ...] = ()
    failure: str = ""
    pixels: PixelMap | None = None
    common: NDArray[np.float64] | None = None

    @property
    def count_rate_err(self) -> NDArray[np.float64]:
        """Standard error of ``count_rate`` [DN/s]."""
        return np.sqrt(np.diagonal(self.covariance))

    @property
    def electron_rate(self) -> NDArray[np.float64]:
        """Count rate converted to electrons [e-/s]."""
        return self.gain * self.count_rate

    @property
    def electron_rate_err(self) -> NDArray[np.float64]:
        """Standard error of ``electron_rate``, without the gain's [e-/s]."""
        return self.gain * self.count_rate_err

    @property
    def radius_arcsec(self) -> NDArray[np.float64]:
        """Aperture radii [arcsec]."""
        return self.pixel_scale * self.radius

    @property
    def status(self) -> str:
        """One of 'measured', 'measured with warnings: ...', 'failed: ...'."""
        return status_text(self.failure, self.warnings)


def status_text(failure: str, warnings: tuple[str, ...]) -> str:
    """Put a measurement's outcome in words.

    Parameters
    ----------
    failure : str
        Why it failed; empty where it did not.
    warnings : tuple of str
        What the user should know.

    Returns
    -------
    str
        'measured', 'measured with warnings: ...' or 'failed: ...'.
    """
    if failure:
        return f"failed: {failure}"
    return "measured with warnings: " + "; ".join(warnings) if warnings else "measured"


def _without_background(exposure: StarExposure) -> NDArray[np.float64]:
    """The image less a rough background, for finding and centring the star."""
    good = exposure.image[~exposure.bad]
    if good.size == 0:
        raise ExposureError(f"every pixel near x={exposure.x:.1f}, y={exposure.y:.1f} is bad")
    # the faint quarter of a stamp is sky, whatever the star's wing does
    return exposure.image - np.percentile(good, 25)


def locate_star(exposure: StarExposure, options: EEOptions, render: Render | None = None) -> tuple[Centroid, bool]:
    """Measure the star's centroid, by the model PSF where bad pixels in the core bias any other.

    Parameters
    ----------
    exposure : StarExposure
    options : EEOptions
    render : callable, optional
        ``render(x, y, shape)``, the fraction of the star's light in each pixel.

    Returns
    -------
    centroid : Centroid
        In the stamp's frame.
    core_is_bad : bool
        Whether bad pixels lie within the core radius.

    Raises
    ------
    ExposureError
        If there is no star.
    """
    image = _without_background(exposure)
    x, y = exposure.x - exposure.x_origin, exposure.y - exposure.y_origin
    found = measure_centroid(
        image,
        exposure.variance,
        exposure.bad,
        x,
        y,
        method=options.centroid_method,
        box=options.centroid_box,
        search_radius=options.search_radius,
    )
    distance = distance_grid(image.shape, found.x, found.y)
    core_is_bad = bool(np.any(exposure.bad & (distance <= options.core_radius - _CENTROID_MARGIN)))
    if core_is_bad and options.repair_core and render is not None:
        fit_x, fit_y, _ = fit_psf(image, exposure.bad, found.x, found.y, render, radius=options.core_radius)
        found = Centroid(fit_x, fit_y, np.nan, np.nan, float(np.hypot(fit_x - x, fit_y - y)), "psf")
    return found, core_is_bad


def find_background(
    exposure: StarExposure, x: float, y: float, options: EEOptions
) -> tuple[Background, NDArray[np.float64]]:
    """Measure the background, or take the one given.

    Parameters
    ----------
    exposure : StarExposure
    x, y : float
        The star in the stamp's frame [pix].
    options : EEOptions

    Returns
    -------
    background : Background
    weights : ndarray, shape (ny, nx)
        Weights of the pixels it is the mean of; zeros where it was given.

    Raises
    ------
    ExposureError
        If too little of the annulus can be used.
    """
    if options.background_method == "annulus":
        return measure_background(exposure.image, exposure.variance, exposure.bad, x, y, *options.sky_radii)
    none = options.background_method == "none"
    value, err = (0.0, 0.0) if none else (options.background_value, options.background_value_err)
    return fixed_background(value, err, method=options.background_method), np.zeros(exposure.image.shape)


def _repair(
    exposure: StarExposure,
    bad: NDArray[np.bool_],
    todo: NDArray[np.bool_],
    x: float,
    y: float,
    options: EEOptions,
    background: Background,
    background_weights: NDArray[np.float64],
    render: Render | None,
) -> list[list[Repair]]:
    """Repair the core by the model PSF, the rest by the method chosen: none or one of either."""
    core = todo & (distance_grid(todo.shape, x, y) <= options.core_radius - _CENTROID_MARGIN)
    repairs: list[list[Repair]] = [[], []]
    for found, part, method in zip(repairs, (core, todo & ~core), ("psf", options.bad_pixel_method), strict=True):
        if part.any():
            model = _as_seen(render, x, y, background_weights) if method == "psf" and render is not None else None
            found.append(
                repair_pixels(
                    exposure.image,
                    exposure.variance,
                    bad,
                    part,
                    x,
                    y,
                    method=method,
                    model=model,
                    background=background.value,
                )
            )
    return repairs


def _as_seen(render: Render, x: float, y: float, background_weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """The model PSF less its own light in the sky annulus: what the star leaves in the image less the background.

    That light is 0.3 to 1 % of the pixels next to the peak in F480M; a model scaled to them without it is as much low.
    """
    model = render(x, y, background_weights.shape)
    return np.asarray(model - np.sum(background_weights * model))


def _hold_to_growth(
    exposure: StarExposure,
    bad: NDArray[np.bool_],
    weights: NDArray[np.float64],
    lost: NDArray[np.bool_],
    core: Repair,
    others: list[Repair],
    x: float,
    y: float,
    background: Background,
    background_weights: NDArray[np.float64],
    radii: NDArray[np.float64],
    render: Render,
    effective: EffectiveEE,
    ee_err: Callable[[NDArray[np.float64]], NDArray[np.float64]] | None,
) -> Repair:
    """Scale the core's fill to the curve of growth around it, by the apertures that are not lost."""
    image = exposure.image - background.value
    model = _as_seen(render, x, y, background_weights)
    use = core_fit_pixels(bad, distance_grid(image.shape, x, y))
    light = model.flat[core.index].max()
    misfit = max(2 * model_misfit(image, exposure.variance, use, model, light), 1e-3)
    fill = weighted_sums(weights.reshape(len(weights), -1)[:, core.index], core.value - background.value)
    # a bad pixel that awaits its fill is as dark as the sky
    dark = replace(core, value=np.full_like(core.value, background.value), weights=np.zeros_like(core.weights))
    dark = replace(dark, variance=np.zeros_like(core.variance))
    count_rate, covariance, _ = sum_apertures(exposure, weights, background, background_weights, [dark, *others], bad)
    kept = effective(radii, weights.sum(axis=(1, 2)), background.ring_edges, background.ring_coverage)
    scale = fill_scale(
        radii,
        np.where(lost, np.nan, count_rate),
        covariance,
        fill,
        kept,
        misfit,
        None if ee_err is None else ee_err(radii),
    )
    # the noise of the curve of growth is not in the factor's own error
    err = np.sqrt(scale.err**2 + scale.slope @ np.nan_to_num(covariance) @ scale.slope)
    if scale.value < -_SIGNIFICANT_FALL * err:
        raise ExposureError(
            "repair_core: by the curve of growth the bad pixels of the core hold less than no light: the EE reference "
            "(psfee) is not that of this star; give its own"
        )

    def reach(repair: Repair) -> NDArray[np.float64]:
        return _reach(weights, background_weights, [repair, *others], bad)

    return scaled(core, background.value, scale, reach)


def _reach(
    weights: NDArray[np.float64],
    background_weights: NDArray[np.float64],
    repairs: list[Repair],
    bad: NDArray[np.bool_],
) -> NDArray[np.float64]:
    """How each aperture's sum depends on each pixel, by all the places that the pixel reaches."""
    flat = weights.reshape(len(weights), -1)
    reach = np.where(bad.ravel(), 0.0, flat) - weights.sum(axis=(1, 2))[:, None] * background_weights.ravel()
    for repair in repairs:
        reach += np.einsum("ik,kp->ip", flat[:, repair.index], repair.weights.reshape(len(repair.index), -1))
    return reach


def sum_apertures(
    exposure: StarExposure,
    weights: NDArray[np.float64],
    background: Background,
    background_weights: NDArray[np.float64],
    repairs: list[Repair],
    bad: NDArray[np.bool_],
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Background-subtracted sums and their covariance, each pixel's noise followed to every place that it reaches.

    Parameters
    ----------
    exposure : StarExposure
    weights : ndarray, shape (n_sums, ny, nx)
        Of the pixels in each sum; zero where a bad pixel is not repaired.
    background : Background
    background_weights : ndarray, shape (ny, nx)
        Weights of the pixels that the background is the mean of.
    repairs : list of Repair
    bad : ndarray of bool, shape (ny, nx)
        Pixels whose own values are not used.

    Returns
    -------
    sums : ndarray, shape (n_sums,)
        [DN/s].
    covariance : ndarray, shape (n_sums, n_sums)
        [(DN/s)^2].
    common : ndarray, shape (n_sums, n_sums)
        Its part that is the same in every integration of an exposure [(DN/s)^2].
    """
    area = weights.sum(axis=(1, 2))
    flat = weights.reshape(len(weights), -1)
    variance = np.where(bad, 0.0, exposure.variance).ravel()
    reach = _reach(weights, background_weights, repairs, bad)
    given = given_covariance(background, area)
    covariance, common = covariance_of_sums(reach, variance) + given, given.copy()
    for repair in repairs:
        touched = flat[:, repair.index]
        one = weighted_sums(touched, repair.common_err)
        covariance += covariance_of_sums(touched, np.maximum(repair.variance, 0.0)) + np.outer(one, one)
        common += covariance_of_sums(touched, repair.variance) + np.outer(one, one)
    if exposure.flat_variance is not None:
        common += covariance_of_sums(reach, np.where(bad, 0.0, exposure.flat_variance).ravel())
    return weighted_sums(flat, _repaired(exposure, repairs, bad).ravel()) - area * background.value, covariance, common


def _repaired(exposure: StarExposure, repairs: list[Repair], bad: NDArray[np.bool_]) -> NDArray[np.float64]:
    """The image with the repaired pixels' new values, and zero in other bad ones."""
    image = np.where(bad, 0.0, exposure.image)
    for repair in repairs:
        image.flat[repair.index] = repair.value
    return image


def _covariance_of_centring(
    image: NDArray[np.float64], radii: NDArray[np.float64], x: float, y: float, x_err: float, y_err: float
) -> NDArray[np.float64]:
    """Covariance that the position's error gives the apertures' sums; none where the method gives no error.

    Parameters
    ----------
    image : ndarray, shape (ny, nx)
        Background-subtracted, repaired count rates.
    radii : ndarray, shape (n_radii,)
        [pix].
    x, y, x_err, y_err : float
        Position and its standard errors [pix].

    Returns
    -------
    ndarray, shape (n_radii, n_radii)
    """
    covariance = np.zeros((len(radii), len(radii)))
    for err, dx, dy in ((x_err, _CENTRING_STEP, 0.0), (y_err, 0.0, _CENTRING_STEP)):
        if np.isfinite(err):
            sides = [aperture_weights(image.shape, x + s * dx, y + s * dy, radii) for s in (-1, 1)]
            change = weighted_sums((sides[1] - sides[0]).reshape(len(radii), -1), image.ravel())
            slope = change / (2 * _CENTRING_STEP)
            covariance += np.outer(slope, slope) * err**2
    return covariance


def measure_ee(
    exposure: StarExposure,
    options: EEOptions | None = None,
    render: Render | None = None,
    effective: EffectiveEE | None = None,
    ee_err: Callable[[NDArray[np.float64]], NDArray[np.float64]] | None = None,
) -> EEProfile:
    """Measure the encircled energy of one exposure.

    Parameters
    ----------
    exposure : StarExposure
    options : EEOptions, optional
    render : callable, optional
        ``render(x, y, shape)``: fraction of the star's light in each pixel of the stamp; for the method 'psf' and
        for ``repair_core``.
    effective : callable, optional
        ``effective(radius, area, ring_edges, ring_coverage)``: effective EE; holds the light that ``repair_core``
        fills in to the curve of growth (`niriss_eestep.measure.core_repair`).
    ee_err : callable, optional
        ``ee_err(radius)``: standard error of that EE; none by default.

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
    radii = check_radii(options.radii)
    centroid, core_is_bad = locate_star(exposure, options, render)
    x, y = centroid.x, centroid.y
    background, background_weights = find_background(exposure, x, y, options)
    distance = distance_grid(exposure.image.shape, x, y)
    bad = _with_low_pixels(exposure, distance, background, options)
    weights = aperture_weights(exposure.image.shape, x, y, radii)
    area = weights.sum(axis=(1, 2))
    touched = bad & (weights[-1] > 0)
    failure = _core_failure(exposure, distance, options, render) if core_is_bad else ""
    todo = _to_repair(touched, distance, options) & (not failure)
    sky = background, background_weights
    in_core, outside = _repair(exposure, bad, todo, x, y, options, *sky, render)
    n_bad, n_left = (np.sum((weights > 0) & mask, axis=(1, 2)) for mask in (touched, touched & ~todo))
    # an aperture that leaves the image has lost light
    lost = (area < np.pi * radii**2 * (1 - 1e-9)) | (n_left > 0) | bool(failure)
    if in_core and render is not None and effective is not None:
        args = weights, lost, in_core[0], outside, x, y, *sky, radii, render, effective, ee_err
        in_core = [_hold_to_growth(exposure, bad, *args)]
    repairs = in_core + outside
    count_rate, covariance, common = sum_apertures(exposure, weights, *sky, repairs, bad)
    star = _repaired(exposure, repairs, bad) - background.value
    covariance += _covariance_of_centring(star, radii, x, y, centroid.x_err, centroid.y_err)
    unusable = _without(lost, count_rate, covariance)
    if unusable.all() and not failure:
        failure = "no aperture could be measured: each leaves the image or holds bad pixels"
    profile = EEProfile(
        radius=radii,
        count_rate=count_rate,
        covariance=covariance,
        area=area,
        n_bad=n_bad,
        n_repaired=n_bad - n_left,
        centroid=replace(centroid, x=x + exposure.x_origin, y=y + exposure.y_origin),
        background=background,
        core=core_report(exposure.dq, distance, options.core_radius),
        gain=exposure.gain,
        pixel_scale=exposure.pixel_scale,
        bad_pixel_method=options.bad_pixel_method,
        failure=failure,
        pixels=pixel_map(exposure, x, y, bad, background, background_weights, repairs, reach=radii[-1]),
        common=common,
    )
    return replace(
        profile,
        warnings=exposure.warnings + _warnings(exposure, profile, star, bad & ~todo, background_weights, x, y, options),
    )


def _without(
    unusable: NDArray[np.bool_], count_rate: NDArray[np.float64], covariance: NDArray[np.float64]
) -> NDArray[np.bool_]:
    """Make NaN of what cannot be used, and of rates without error: of a repair that no good pixel could judge."""
    unusable = unusable | ~np.isfinite(np.diagonal(covariance))
    count_rate[unusable] = np.nan
    covariance[unusable, :] = np.nan
    covariance[:, unusable] = np.nan
    return unusable


def _with_low_pixels(
    exposure: StarExposure, distance: NDArray[np.float64], background: Background, options: EEOptions
) -> NDArray[np.bool_]:
    """Bad pixels, with the low ones where they are to be repaired."""
    if not (options.repair_low or options.bad_pixel_method == "median"):
        return exposure.bad
    if not np.isfinite(background.std):
        if not options.repair_low:
            return exposure.bad
        raise ParameterError(
            "repair_low needs a sky annulus, whose scatter says how low is low; use background_method='annulus'"
        )
    level = background.low_level(options.low_sigma)
    return exposure.bad | low_pixels(exposure.image, exposure.bad, distance, options.core_radius, level)


def _core_failure(
    exposure: StarExposure, distance: NDArray[np.float64], options: EEOptions, render: Render | None
) -> str:
    """Why bad pixels in the core make the profile unusable; empty where a model PSF may replace them."""
    if options.repair_core and render is not None:
        return ""
    in_core = exposure.bad & (distance <= options.core_radius - _CENTROID_MARGIN)
    n_saturated = int(np.sum(in_core & ((exposure.dq & SATURATED) != 0)))
    saturated = f", {n_saturated} of them saturated" if n_saturated else ""
    remedy = "repair_core=True lets a model PSF replace them"
    if options.repair_core:
        remedy = "repair_core needs a model PSF for this filter"
    return f"{in_core.sum()} bad pixel(s) within {options.core_radius:g} pix of the centre{saturated}; {remedy}"


def _to_repair(touched: NDArray[np.bool_], distance: NDArray[np.float64], options: EEOptions) -> NDArray[np.bool_]:
    """Bad pixels within the apertures for which there is a method."""
    if options.bad_pixel_method == "none":
        return touched & (distance <= options.core_radius)
    return touched


def failed_ee(exposure: StarExposure, options: EEOptions, reason: str) -> EEProfile:
    """Profile of an exposure whose star could not be measured: NaN throughout.

    Parameters
    ----------
    exposure : StarExposure
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
        core=core,
        gain=exposure.gain,
        pixel_scale=exposure.pixel_scale,
        bad_pixel_method=options.bad_pixel_method,
        warnings=exposure.warnings,
        failure=reason,
        pixels=pixel_map(exposure, x, y, exposure.bad, background, reach=options.sky_radii[1]),
    )


def _warnings(
    exposure: StarExposure,
    profile: EEProfile,
    star: NDArray[np.float64],
    bad: NDArray[np.bool_],
    background_weights: NDArray[np.float64],
    x: float,
    y: float,
    options: EEOptions,
) -> tuple[str, ...]:
    """What the user should know about a measured profile.

    ``star`` is the repaired image less the background, ``bad`` what is not repaired of it.
    """
    found = []
    if profile.centroid.shift > options.max_shift:
        found.append(f"the centroid is {profile.centroid.shift:.1f} pix from the first position")
    if options.background_method == "constant" and not (options.background_value or options.background_value_err):
        found.append("the constant background is 0 DN/s/pix, as it is where background_value is not given")
    if profile.core.saturated:
        found.append(f"{profile.core.saturated} saturated pixel(s) in the core")
    lost = profile.radius[profile.area < np.pi * profile.radius**2 * (1 - 1e-9)]
    if lost.size:
        found.append(f"apertures from {lost[0]:g} pix leave the image")
    if _falls(profile) and not profile.failure:
        found.append("the count rate does not rise with every radius")
    if not np.any(exposure.variance[~exposure.bad] > 0):
        found.append("all variances are zero: the errors say nothing")
    return tuple(found) + _surroundings(exposure, profile, star, bad, background_weights, x, y)


def _falls(profile: EEProfile) -> bool:
    """Whether the count rate falls with the radius somewhere, by more than its noise."""
    variance, covariance = np.diagonal(profile.covariance), np.diagonal(profile.covariance, 1)
    err = np.sqrt(np.maximum(variance[1:] + variance[:-1] - 2 * covariance, 0.0))
    growth = np.diff(profile.count_rate)
    return bool(np.any((growth <= 0) & (growth <= -_SIGNIFICANT_FALL * err)))


def _surroundings(
    exposure: StarExposure,
    profile: EEProfile,
    star: NDArray[np.float64],
    bad: NDArray[np.bool_],
    background_weights: NDArray[np.float64],
    x: float,
    y: float,
) -> tuple[str, ...]:
    """What lies about the star that should not."""
    found = []
    variance, background = exposure.variance, profile.background
    distance = distance_grid(star.shape, x, y)
    annulus = (distance > background.r_in + 1) & (distance < background.r_out - 1)
    rejected = annulus & (background_weights == 0) & ~bad
    r_max = background.r_out if background.r_out > 0 else float(profile.radius[-1])
    neighbour = find_neighbour(star, variance, bad, x, y, r_max, rejected=rejected)
    if neighbour is not None:
        found.append(
            f"light of {100 * neighbour.fraction:.0f} % of the star's, {neighbour.distance:.0f} pix from it at "
            f"x={neighbour.x + exposure.x_origin:.0f}, y={neighbour.y + exposure.y_origin:.0f}, is not the star's: "
            "a neighbour?"
        )
    offset, err = core_offset(star, variance, bad, x, y)
    if offset > max(_CORE_OFFSET, _ASYMMETRY_SIGMA * err):
        found.append(f"the core is {offset:.1f} pix off the centroid of a larger box: two stars?")
    if background.n_rejected > _MANY_REJECTED * (background.n_rejected + background.npix):
        found.append(f"{background.n_rejected} unflagged outliers left out of the sky annulus: a neighbour?")
    finite = np.flatnonzero(np.isfinite(profile.count_rate))
    if background_weights.any() and finite.size:
        bias, sigma = sector_asymmetry(exposure.image, exposure.variance, background_weights > 0, x, y)
        k = finite[np.argmin(np.abs(profile.radius[finite] - 10))]
        effect = bias * profile.area[k] / abs(profile.count_rate[k])
        if sigma > _ASYMMETRY_SIGMA and effect > _ASYMMETRY_EFFECT:
            found.append(
                f"the sky annulus is brighter on one side: a neighbour or a gradient, worth {100 * effect:.1f} % of "
                f"the count rate within {profile.radius[k]:g} pix"
            )
        coverage = float(np.average(profile.background.ring_coverage))
        if coverage < 0.5:
            found.append(f"only {100 * coverage:.0f} % of the sky annulus could be used")
    return tuple(found)
