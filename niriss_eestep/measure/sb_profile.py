"""Surface-brightness profile of one exposure."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from niriss_eestep.measure.background import Background
from niriss_eestep.measure.centroid import Centroid
from niriss_eestep.measure.ee_profile import status_text

__all__ = ["SBProfile"]


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
