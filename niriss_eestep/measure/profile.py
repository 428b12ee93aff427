"""What a measurement gives: the profile of one exposure, and its status.

Radii are in detector pixels everywhere: those of the aperture correction are. An image resampled to other pixels is
measured with radii scaled to its pixels, and the profile is scaled back.
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from niriss_eestep.arrays import Array
from niriss_eestep.errors import ParameterError
from niriss_eestep.measure.background import Background
from niriss_eestep.measure.position import Centroid
from niriss_eestep.measure.stamp import EEOptions, SBOptions, Stamp


def status_text(failure: str, warnings: tuple[str, ...] = ()) -> str:
    """Outcome of a measurement: 'measured', 'measured with warnings: ...' or 'failed: ...'.

    Parameters
    ----------
    failure : str
        Why it failed; empty where it did not.
    warnings : tuple of str
        What the user should know.

    Returns
    -------
    str
    """
    if failure:
        return f"failed: {failure}"
    return "measured with warnings: " + "; ".join(warnings) if warnings else "measured"


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Profile:
    """What the profiles of encircled energy and of surface brightness share.

    Parameters
    ----------
    radius : ndarray, shape (n_radii,)
        [pix].
    covariance : ndarray, shape (n_radii, n_radii)
        Of the measured quantity, in its unit squared.
    centroid : Centroid
        The star's position.
    background : Background
        The background and the annulus it was measured in.
    pixel_scale : float
        [arcsec/pix].
    warnings : tuple of str
        What the user should know.
    failure : str
        Why the exposure is unusable; empty where it is not.
    common : ndarray, shape (n_radii, n_radii), optional
        The part of ``covariance`` that all integrations of an exposure share, as an unbiased estimate: of the flat
        field, of the repair and of a background that was given.
    sound : Stamp, optional
        What was measured, or could not be, with sound errors and without dead pixels; None of a mean.
    """

    radius: Array
    covariance: Array
    centroid: Centroid
    background: Background
    pixel_scale: float
    warnings: tuple[str, ...] = ()
    failure: str = ""
    common: Array | None = None
    sound: Stamp | None = None

    @property
    def status(self) -> str:
        """One of 'measured', 'measured with warnings: ...', 'failed: ...'."""
        return status_text(self.failure, self.warnings)

    @property
    def err(self) -> Array:
        """Standard error of the measured quantity, in its unit, shape (n_radii,)."""
        return np.sqrt(np.diagonal(self.covariance))


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class EEProfile(Profile):
    """Background-subtracted count rate of a star within circular apertures; see `Profile` for the rest.

    Parameters
    ----------
    count_rate : ndarray, shape (n_radii,)
        Background-subtracted count rate within each radius [DN/s]; NaN where it could not be measured.
    area : ndarray, shape (n_radii,)
        Area of each aperture on the image [pix].
    n_bad, n_repaired : ndarray of int, shape (n_radii,)
        Bad pixels that each aperture touches, and those of them that were repaired.
    gain : float
        [e-/DN].
    bad_pixel_method : str
        How bad pixels were repaired.
    stamp, stamp_repaired : ndarray, shape (ny, nx), optional
        Count rates as they came, and with the values that were put in the place of bad pixels [DN/s].
    stamp_kind : ndarray of uint8, shape (ny, nx), optional
        What became of each pixel: bits of `niriss_eestep.measure.repair.PIXEL_KINDS`.
    stamp_x0, stamp_y0 : int, optional
        Position of the first of these pixels in the exposure's array [pix].
    stamp_flat_err : ndarray, shape (ny, nx), optional
        Error of each pixel from the flat field [DN/s]; None where that is not known.
    flat_err_scale : float, optional
        Scale over which those errors are correlated [pix].
    sky_covariance : ndarray, shape (n_radii, n_radii), optional
        The part of ``covariance`` that comes from the sky's level and shape, by the noise that each of its pixels has
        for itself [(DN/s)^2].
    phase : ndarray, shape (n_radii,), optional
        Encircled energy at the star's own pixel phase less that averaged over phases; None without a model image.
    repair_err : ndarray, shape (n_radii,), optional
        Error that the values put in the place of bad pixels give each aperture by what they have in common [DN/s]; None
        where there are none.
    repair_x, repair_y, repair_light : ndarray, shape (n_shared,), optional
        Where those pixels lie from the star [pix], and what was put there, without the background [DN/s].
    core_saturated, core_do_not_use, core_flagged : int
        Number of pixels within the core radius flagged SATURATED, DO_NOT_USE, or otherwise.
    core_charge_loss : int
        ... flagged CHARGELOSS: groups that had lost charge to their neighbours, or got some, are left out.
    core_peak, core_sides : float
        Light of the brightest pixel, and of its four neighbours together, over that of a model image with the same
        light within 3 pix, less 1; NaN without a model. Migrated charge makes the one low and the other high.
    core_peak_err, core_sides_err : float
        Their standard errors from the pixels' noise; the PSF's own uncertainty, some per cent, is not in them.
    count_rate_err : ndarray, shape (n_radii,)
        Standard error of ``count_rate`` [DN/s].
    """

    count_rate: Array
    area: Array
    n_bad: NDArray[np.int64]
    n_repaired: NDArray[np.int64]
    gain: float
    bad_pixel_method: str
    stamp: NDArray[np.float32] | None = None
    stamp_repaired: NDArray[np.float32] | None = None
    stamp_kind: NDArray[np.uint8] | None = None
    stamp_x0: int | None = None
    stamp_y0: int | None = None
    stamp_flat_err: NDArray[np.float32] | None = None
    flat_err_scale: float | None = None
    sky_covariance: Array | None = None
    phase: Array | None = None
    repair_err: Array | None = None
    repair_x: Array | None = None
    repair_y: Array | None = None
    repair_light: Array | None = None
    core_saturated: int = 0
    core_do_not_use: int = 0
    core_flagged: int = 0
    core_charge_loss: int = 0
    core_peak: float = np.nan
    core_peak_err: float = np.nan
    core_sides: float = np.nan
    core_sides_err: float = np.nan

    count_rate_err = Profile.err


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class SBProfile(Profile):
    """Background-subtracted mean surface brightness in concentric annuli; see `Profile` for the rest.

    Parameters
    ----------
    half_width : float
        Half-width of each annulus [pix].
    surface_brightness : ndarray, shape (n_radii,)
        [DN/s/pix]; NaN where an annulus has no usable pixel.
    n_used, n_clipped : ndarray of int, shape (n_radii,)
        Pixels used, and pixels left out as low outliers.
    photmjsr : float or None
        [MJy/sr per DN/s/pix].
    surface_brightness_err : ndarray, shape (n_radii,)
        Standard error of ``surface_brightness`` [DN/s/pix].
    """

    half_width: float
    surface_brightness: Array
    n_used: NDArray[np.int64]
    n_clipped: NDArray[np.int64]
    photmjsr: float | None

    surface_brightness_err = Profile.err


#: options of either measurement that are lengths in pixels
_LENGTHS = (
    "background_skip", "background_inner", "background_width", "half_width", "core_radius", "search_radius",
    "max_shift", "flat_err_scale",
)  # fmt: skip


def image_options(options: EEOptions | SBOptions, scale: float) -> EEOptions | SBOptions:
    """Scale the options of a measurement to the pixels of a resampled image.

    Parameters
    ----------
    options : EEOptions or SBOptions
        In detector pixels.
    scale : float
        Side of the image's pixels over that of the detector's.

    Returns
    -------
    EEOptions or SBOptions
        In the image's pixels; without the repair by the model PSF, which has the detector's.

    Raises
    ------
    ParameterError
        If the bad pixels are to be repaired by the model PSF, which is that of detector pixels.

    Examples
    --------
    >>> image_options(EEOptions(radii=(3, 5)), 0.5).radii
    (6.0, 10.0)
    """
    lengths = [name for name in _LENGTHS if hasattr(options, name)]
    changes: dict[str, Any] = {name: getattr(options, name) / scale for name in lengths}
    # the nearest odd number
    changes["centroid_box"] = max(3, 2 * round((options.centroid_box / scale - 1) / 2) + 1)
    changes["radii"] = tuple(radius / scale for radius in options.radii)
    if isinstance(options, EEOptions):
        if options.bad_pixel_method == "psf":
            raise ParameterError("the model PSF has detector pixels, not this image's: use bad_pixel_method=surface")
        # the model PSF has detector pixels; other values are given per detector pixel
        changes["repair_core"] = False
        changes["background_value"] = options.background_value * scale**2
        changes["background_value_err"] = options.background_value_err * scale**2
    return replace(options, **changes)


def native_profile(
    profile: EEProfile | SBProfile, options: EEOptions | SBOptions, scale: float
) -> EEProfile | SBProfile:
    """Scale a profile measured on a resampled image to detector pixels.

    Parameters
    ----------
    profile : EEProfile or SBProfile
        In the image's pixels.
    options : EEOptions or SBOptions
        Of the measurement, in detector pixels.
    scale : float
        Side of the image's pixels over that of the detector's.

    Returns
    -------
    EEProfile or SBProfile
        In detector pixels, but for the centroid, which is a position in the image.
    """
    background = profile.background
    rates = {name: getattr(background, name) / scale**2 for name in ("value", "err", "std", "dark")}
    lengths = {name: getattr(background, name) * scale for name in ("r_in", "r_out", "ring_edges")}
    # radii as they were asked for, to the last bit: groups are combined by them; a resampled image has no integrations
    # to share anything
    profile = replace(
        profile, radius=np.array(options.radii, dtype=float), background=replace(background, **rates, **lengths),
        pixel_scale=profile.pixel_scale / scale, common=None,
    )  # fmt: skip
    if isinstance(profile, EEProfile):
        # the map of the pixels is the image's own
        return replace(
            profile, area=profile.area * scale**2, stamp=None, stamp_repaired=None, stamp_kind=None, stamp_x0=None,
            stamp_y0=None, stamp_flat_err=None, flat_err_scale=None,
        )  # fmt: skip
    brightness, covariance = profile.surface_brightness / scale**2, profile.covariance / scale**4
    return replace(profile, half_width=profile.half_width * scale, surface_brightness=brightness, covariance=covariance)
