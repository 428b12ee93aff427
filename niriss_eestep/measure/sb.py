"""Surface-brightness profile of one exposure."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from niriss_eestep.errors import ParameterError
from niriss_eestep.measure.annuli import Annuli, annuli_about, mean_weights, unseen_variance
from niriss_eestep.measure.background import Background, fixed_background
from niriss_eestep.measure.ee import (
    EEOptions,
    check_number,
    check_radii,
    find_background,
    locate_star,
    status_text,
    sum_apertures,
)
from niriss_eestep.measure.geometry import distance_grid
from niriss_eestep.measure.position import Centroid
from niriss_eestep.measure.repair import (
    BOX,
    expected_noise,
    kept_noise,
    low_pixels,
    radial_trend,
    repair_surrounded,
)
from niriss_eestep.measure.stamp import StarExposure

__all__ = ["SBOptions", "SBProfile", "failed_sb", "measure_sb"]

#: below it the mean of an annulus is more guessed than seen
_COVERAGE_MIN = 0.5


@dataclass(frozen=True, slots=True)
class SBOptions:
    """How to measure an SB profile; the parameters of the step.

    Parameters
    ----------
    radii : tuple of float
        Mid-radii of the annuli [pix].
    half_width : float
        Half their width [pix].
    clip_low : bool
        Leave out pixels outside the core that lie below background - ``low_sigma`` standard deviations.
    low_sigma : float
    core_radius : float
        Pixels within it are never left out as low [pix].
    background_inner, background_width : float
        Inner radius and width of the sky annulus [pix]; by default that of the EE profile.
    centroid_method : {'com', 'quadratic', '1dg', '2dg'}
    centroid_box : int
        [pix].
    search_radius : float
        [pix].
    """

    radii: tuple[float, ...] = (5, 9, 13, 17, 21, 25)
    half_width: float = 2.0
    clip_low: bool = True
    low_sigma: float = 3.0
    core_radius: float = 5.0
    background_inner: float = 20.0
    background_width: float = 5.0
    centroid_method: str = "com"
    centroid_box: int = 7
    search_radius: float = 5.0

    def __post_init__(self) -> None:
        radii = check_radii(self.radii)
        object.__setattr__(self, "radii", tuple(float(r) for r in radii))
        if not 0 < self.half_width <= radii[0]:
            raise ParameterError(
                f"half_width must be positive and at most the smallest radius {radii[0]:g} pix, got {self.half_width}"
            )
        for name in ("low_sigma", "background_inner", "background_width"):
            check_number(name, getattr(self, name), positive=True)
        self.ee_options()

    def ee_options(self) -> EEOptions:
        """Return the options that finding the star and its sky share with the EE profile."""
        return EEOptions(
            radii=(self.background_inner,),
            background_skip=0.0,
            background_width=self.background_width,
            core_radius=self.core_radius,
            centroid_method=self.centroid_method,
            centroid_box=self.centroid_box,
            search_radius=self.search_radius,
        )


@dataclass(frozen=True, slots=True, eq=False)
class SBProfile:
    """Background-subtracted mean surface brightness in concentric annuli.

    Parameters
    ----------
    radius : ndarray, shape (n_radii,)
        Mid-radii of the annuli [pix].
    half_width : float
        Half-width of each annulus [pix].
    surface_brightness : ndarray, shape (n_radii,)
        [DN/s/pix]; NaN where an annulus has no usable pixel.
    covariance : ndarray, shape (n_radii, n_radii)
        Covariance of ``surface_brightness`` [(DN/s/pix)^2]; the annuli share the background.
    n_used, n_clipped : ndarray of int, shape (n_radii,)
        Pixels used, and pixels left out as low outliers.
    centroid : Centroid
    background : Background
    pixel_scale : float
        [arcsec/pix].
    photmjsr : float or None
        [MJy/sr per DN/s/pix].
    warnings : tuple of str
    failure : str
        Why the exposure is unusable; empty where it is not.
    common : ndarray, shape (n_radii, n_radii), optional
        The part of ``covariance`` that all integrations of an exposure share, as `EEProfile.common`.
    """

    radius: NDArray[np.float64]
    half_width: float
    surface_brightness: NDArray[np.float64]
    covariance: NDArray[np.float64]
    n_used: NDArray[np.int64]
    n_clipped: NDArray[np.int64]
    centroid: Centroid
    background: Background
    pixel_scale: float
    photmjsr: float | None
    warnings: tuple[str, ...] = ()
    failure: str = ""
    common: NDArray[np.float64] | None = None

    @property
    def surface_brightness_err(self) -> NDArray[np.float64]:
        """Standard error of ``surface_brightness`` [DN/s/pix]."""
        return np.sqrt(np.diagonal(self.covariance))

    @property
    def surface_brightness_mjysr(self) -> NDArray[np.float64]:
        """Surface brightness [MJy/sr]; NaN where the exposure has no flux calibration."""
        return self.surface_brightness * (np.nan if self.photmjsr is None else self.photmjsr)

    @property
    def radius_arcsec(self) -> NDArray[np.float64]:
        """Mid-radii [arcsec]."""
        return self.pixel_scale * self.radius

    @property
    def status(self) -> str:
        """One of 'measured', 'measured with warnings: ...', 'failed: ...'."""
        return status_text(self.failure, self.warnings)


def measure_sb(exposure: StarExposure, options: SBOptions | None = None) -> SBProfile:
    """Measure the surface brightness of one exposure.

    Each annulus is the mean over its whole area, pixels weighted by their exact overlap with it, less the background.
    Bad pixels and those left out as low are repaired by a surface where good ones surround them; the rest, and what
    lies off the image, is taken to be as bright as what is seen of its ring. The error knows both. Leaving out the low
    tail of the noise raises the mean of the pixels kept, by what `kept_noise` takes off again. The background annulus
    holds starlight too: the profile is relative to it, seen whole or not.

    Parameters
    ----------
    exposure : StarExposure
    options : SBOptions, optional

    Returns
    -------
    SBProfile
        Positions in the exposure's frame. NaN where an annulus has no good pixel.

    Raises
    ------
    ExposureError
        If there is no star, or too little sky.
    """
    options = options or SBOptions()
    radii = check_radii(options.radii)
    shared = options.ee_options()
    centroid, _ = locate_star(exposure, shared)
    x, y = centroid.x, centroid.y
    shape = exposure.image.shape
    background, sky = _whole_sky(exposure, *find_background(exposure, x, y, shared), x, y)
    distance = distance_grid(shape, x, y)
    level = _lowest(background, options)
    clipped = low_pixels(exposure.image, exposure.bad, distance, options.core_radius, level)
    missing = exposure.bad | clipped
    annuli = annuli_about(shape, x, y, radii - options.half_width, radii + options.half_width)
    trend = radial_trend(exposure.image, ~missing, distance, max(annuli.outer[-1], background.r_out) + BOX)
    kept = _without_excess(exposure, ~missing & (distance > options.core_radius), trend, level)
    values, covariance, common = _means(kept, missing, annuli, background, sky, trend)
    return SBProfile(
        radius=radii,
        half_width=options.half_width,
        surface_brightness=values,
        covariance=covariance,
        n_used=np.sum((annuli.overlap > 0) & ~missing, axis=(1, 2)),
        n_clipped=np.sum((annuli.overlap > 0) & clipped, axis=(1, 2)),
        centroid=replace(centroid, x=x + exposure.x_origin, y=y + exposure.y_origin),
        background=background,
        pixel_scale=exposure.pixel_scale,
        photmjsr=exposure.photmjsr,
        warnings=exposure.warnings + _warnings(exposure, distance, radii, annuli.coverage(~missing), options),
        common=common,
    )


def _whole_sky(
    exposure: StarExposure, background: Background, weights: NDArray[np.float64], x: float, y: float
) -> tuple[Background, NDArray[np.float64]]:
    """The background as a mean over its whole annulus, like the profile, and the weights of its pixels."""
    annulus = annuli_about(weights.shape, x, y, *np.array([[background.r_in], [background.r_out]]))
    used = weights > 0
    weights = mean_weights(annulus, used)[0]
    value = float(np.sum(weights[used] * exposure.image[used]))
    err = float(np.sqrt(np.sum(weights[used] ** 2 * exposure.variance[used])))
    return replace(background, value=value, err=err), weights


def _lowest(background: Background, options: SBOptions) -> float:
    """Count rate below which pixels are left out [DN/s]."""
    if options.clip_low and np.isfinite(background.std):
        return background.low_level(options.low_sigma)
    return -np.inf


def _without_excess(
    exposure: StarExposure, at_risk: NDArray[np.bool_], trend: NDArray[np.float64], level: float
) -> StarExposure:
    """The exposure less what leaving out the low tail of the noise adds, on the mean, to the pixels kept."""
    if not np.isfinite(level):
        return exposure
    image, expected = exposure.image.copy(), trend[at_risk]
    variance, skewness = expected_noise(image[at_risk], exposure.variance[at_risk], expected)
    image[at_risk] -= kept_noise(expected, variance, level, skewness)
    return replace(exposure, image=image)


def _means(
    exposure: StarExposure,
    missing: NDArray[np.bool_],
    annuli: Annuli,
    background: Background,
    sky: NDArray[np.float64],
    trend: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Background-subtracted means over whole annuli, their covariance, and its part that integrations share.

    NaN where no pixel of an annulus is left.
    """
    image, variance = (np.where(missing, 0.0, a) for a in (exposure.image, exposure.variance))
    x, y = annuli.x, annuli.y
    repairs = repair_surrounded(image, variance, missing, np.any(annuli.overlap > 0, axis=0), x, y, trend)
    available = ~missing
    for repair in repairs:
        image.flat[repair.index] = repair.value
        available.flat[repair.index] = True
    weights = mean_weights(annuli, available)
    weights[annuli.coverage(~missing) == 0] = np.nan
    values, covariance, common = sum_apertures(exposure, weights, background, sky, repairs, missing)
    # spikes cross several annuli, so that these errors are not independent; only the variances are known
    unseen = np.diag(unseen_variance(annuli, available, image - trend, variance))
    around = annuli_about(image.shape, x, y, *np.array([[background.r_in], [background.r_out]]))
    unseen += unseen_variance(around, available & (sky > 0), image - trend, variance)
    return values, covariance + unseen, common + unseen


def _warnings(
    exposure: StarExposure,
    distance: NDArray[np.float64],
    radii: NDArray[np.float64],
    coverage: NDArray[np.float64],
    options: SBOptions,
) -> tuple[str, ...]:
    """What the user should know about a measured profile."""
    found = []
    n_core = int(np.sum(exposure.bad & (distance <= options.core_radius)))
    if n_core:
        found.append(f"{n_core} bad pixel(s) within {options.core_radius:g} pix of the centre, which they may move")
    partial = radii[coverage < _COVERAGE_MIN]
    if partial.size:
        names = ", ".join(f"{radius:g}" for radius in partial)
        found.append(f"less than half of the annulus at {names} pix could be used")
    return tuple(found)


def failed_sb(exposure: StarExposure, options: SBOptions, reason: str) -> SBProfile:
    """Profile of an exposure whose star could not be measured: NaN throughout.

    Parameters
    ----------
    exposure : StarExposure
    options : SBOptions
    reason : str

    Returns
    -------
    SBProfile
    """
    n = len(options.radii)
    return SBProfile(
        radius=np.array(options.radii),
        half_width=options.half_width,
        surface_brightness=np.full(n, np.nan),
        covariance=np.full((n, n), np.nan),
        n_used=np.zeros(n, dtype=np.int64),
        n_clipped=np.zeros(n, dtype=np.int64),
        centroid=Centroid(exposure.x, exposure.y, np.nan, np.nan, np.nan, "none"),
        background=fixed_background(np.nan, np.nan, method="annulus"),
        pixel_scale=exposure.pixel_scale,
        photmjsr=exposure.photmjsr,
        warnings=exposure.warnings,
        failure=reason,
    )
