"""The stamp around the star: all that is kept of an exposure."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from niriss_eestep.arrays import Array, Mask
from niriss_eestep.errors import ParameterError


@dataclass(frozen=True, slots=True, eq=False)
class Stamp:
    """The pixels around the star, in DN/s, and what is needed to measure them.

    Coordinates are 0-indexed pixels of the exposure's own array (a subarray's, where it is one); pixel centres are
    integers.

    Parameters
    ----------
    name : str
        Name of the exposure, for messages.
    image : ndarray, shape (ny, nx)
        Count rate of each pixel [DN/s].
    variance : ndarray, shape (ny, nx)
        Variance of ``image`` [(DN/s)^2], all terms added.
    dq : ndarray of uint32, shape (ny, nx)
        Data-quality bits.
    bad : ndarray of bool, shape (ny, nx)
        Pixels that cannot be used: one of the chosen DQ bits, or no finite value or variance.
    x, y : float
        First position of the star [pix].
    x_origin, y_origin : int
        Position of the stamp's first pixel in the exposure's array [pix].
    pixel_scale : float
        Mean pixel scale [arcsec/pix].
    gain : float
        Gain [e-/DN].
    photmjsr : float or None
        Flux calibration of the exposure [MJy/sr per DN/s]; None where the exposure has none.
    warnings : tuple of str
        What was odd about the exposure, for its status.
    flat_variance : ndarray, shape (ny, nx), optional
        The flat field's part of ``variance``, the same in all integrations of an exposure [(DN/s)^2]; None where that
        is not known.
    flat_scale : float
        Scale over which the flat field's error is correlated [pix].
    photon_variance : ndarray, shape (ny, nx), optional
        The photons' part of ``variance`` [(DN/s)^2]; None where that is not known.
    resampled : bool
        Whether the pixels are not the detector's: what they share is then the resampling's, not the detector's noise.
    unexplained : ndarray of bool, shape (ny, nx), optional
        Pixels of ``bad`` that no flag tells and no star explains; None where there are none.
    """

    name: str
    image: Array
    variance: Array
    dq: NDArray[np.uint32]
    bad: Mask
    x: float
    y: float
    x_origin: int
    y_origin: int
    pixel_scale: float
    gain: float
    photmjsr: float | None = None
    warnings: tuple[str, ...] = ()
    flat_variance: Array | None = None
    flat_scale: float = 0.0
    photon_variance: Array | None = None
    resampled: bool = False
    unexplained: Mask | None = None

    def __post_init__(self) -> None:
        shape = self.image.shape
        if self.image.ndim != 2 or 0 in shape:
            raise ParameterError(f"{self.name}: image must be two-dimensional and not empty, got shape {shape}")
        for label in ("variance", "dq", "bad", "flat_variance", "photon_variance"):
            array = getattr(self, label)
            if array is not None and array.shape != shape:
                raise ParameterError(f"{self.name}: {label} has shape {array.shape}, the image has {shape}")
        for label in ("pixel_scale", "gain"):
            if not 0 < getattr(self, label) < np.inf:
                raise ParameterError(f"{self.name}: {label} must be positive and finite, got {getattr(self, label)}")


#: its former name
StarExposure = Stamp
