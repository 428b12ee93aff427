"""Encircled energy (curve of growth) of one exposure, with the covariance between its apertures."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from niriss_eestep.measure.background import Background
from niriss_eestep.measure.bad_pixels import CoreReport
from niriss_eestep.measure.centroid import Centroid

__all__ = ["EEProfile"]


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
