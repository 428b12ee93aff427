"""What a measurement gives: the profile of one exposure, and its status."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from niriss_eestep.arrays import Array
from niriss_eestep.measure.background import Background, SkyShape
from niriss_eestep.measure.noise import PixelCorrelation
from niriss_eestep.measure.position import Centroid
from niriss_eestep.measure.repair import PixelMap


@dataclass(frozen=True, slots=True)
class CoreReport:
    """Flagged pixels within the core radius, and the peak beside the model image.

    Parameters
    ----------
    saturated, do_not_use, flagged : int
        Number of pixels flagged SATURATED, DO_NOT_USE, or otherwise.
    charge_loss : int
        Number of pixels flagged CHARGELOSS: groups that had lost charge to their neighbours, or got some, are left out.
    peak, sides : float
        Light of the brightest pixel, and of its four neighbours together, over that of a model image with the same
        light within 3 pix, less 1; NaN without a model. Migrated charge makes the one low and the other high.
    peak_err, sides_err : float
        Their standard errors from the pixels' noise; the PSF's own uncertainty, some per cent, is not in them.
    """

    saturated: int
    do_not_use: int
    flagged: int
    charge_loss: int = 0
    peak: float = np.nan
    peak_err: float = np.nan
    sides: float = np.nan
    sides_err: float = np.nan


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
    """

    radius: Array
    covariance: Array
    centroid: Centroid
    background: Background
    pixel_scale: float
    warnings: tuple[str, ...] = ()
    failure: str = ""
    common: Array | None = None

    @property
    def status(self) -> str:
        """One of 'measured', 'measured with warnings: ...', 'failed: ...'."""
        return status_text(self.failure, self.warnings)


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
    core : CoreReport
        Flagged pixels in the core.
    gain : float
        [e-/DN].
    bad_pixel_method : str
        How bad pixels were repaired.
    pixels : PixelMap, optional
        What became of each pixel.
    sky_covariance : ndarray, shape (n_radii, n_radii), optional
        The part of ``covariance`` that comes from the sky's level and shape [(DN/s)^2].
    noise : PixelCorrelation, optional
        How the pixels' noise is correlated.
    sky_shape : SkyShape, optional
        Gradient and curvature of the sky; None where they were not sought.
    phase : ndarray, shape (n_radii,), optional
        Encircled energy at the star's own pixel phase less that averaged over phases; None without a model image.
    """

    count_rate: Array
    area: Array
    n_bad: NDArray[np.int64]
    n_repaired: NDArray[np.int64]
    core: CoreReport
    gain: float
    bad_pixel_method: str
    pixels: PixelMap | None = None
    sky_covariance: Array | None = None
    noise: PixelCorrelation | None = None
    sky_shape: SkyShape | None = None
    phase: Array | None = None

    @property
    def count_rate_err(self) -> Array:
        """Standard error of ``count_rate`` [DN/s]."""
        return np.sqrt(np.diagonal(self.covariance))


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
    """

    half_width: float
    surface_brightness: Array
    n_used: NDArray[np.int64]
    n_clipped: NDArray[np.int64]
    photmjsr: float | None

    @property
    def surface_brightness_err(self) -> Array:
        """Standard error of ``surface_brightness`` [DN/s/pix]."""
        return np.sqrt(np.diagonal(self.covariance))
