"""Unflagged pixels that are lower than the sky can be, and what leaving them out does to the mean of the others."""

from __future__ import annotations

import numpy as np
import scipy

from niriss_eestep.errors import ParameterError
from niriss_eestep.measure.background import Background
from niriss_eestep.measure.geometry import Array, Mask
from niriss_eestep.measure.options import EEOptions
from niriss_eestep.measure.stamp import Stamp

__all__ = ["expected_noise", "kept_noise", "low_pixels", "with_low_pixels"]

#: relative size of the rounding errors of a mean of some thousand pixels, with room to spare
_ROUNDING = 1e-9


def low_pixels(image: Array, bad: Mask, distance: Array, core_radius: float, level: float) -> Mask:
    """Unflagged pixels outside the core that lie below a level.

    Parameters
    ----------
    image : ndarray, shape (ny, nx)
    bad : ndarray of bool, shape (ny, nx)
    distance : ndarray, shape (ny, nx)
        Distance from the star [pix].
    core_radius : float
        [pix].
    level : float
        Background less some standard deviations [DN/s].

    Returns
    -------
    ndarray of bool, shape (ny, nx)
    """
    values = np.where(bad, np.inf, image)
    # a flat sky without noise differs from its own mean by a rounding error, and from zero by a model star's tail
    rounding = _ROUNDING * (abs(level) + 1e-3 * np.max(np.abs(image), where=~bad, initial=0.0))
    return ~bad & (distance > core_radius) & (level - values > rounding)


def with_low_pixels(exposure: Stamp, distance: Array, background: Background, options: EEOptions) -> Mask:
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


def expected_noise(image: Array, variance: Array, expected: Array) -> tuple[Array, Array]:
    """Variance and skewness of the noise that pixels have at their expected count rates.

    The variance rises with the signal by the DN/s of one electron. It is estimated from the noisy signal, so that it is
    low where the pixel is; at the expected signal it is not. The third central moment of a count is its mean; the read
    noise is symmetric.

    Parameters
    ----------
    image, variance : ndarray, shape (n,)
        Count rates [DN/s] and variances.
    expected : ndarray, shape (n,)
        What the pixels would be without noise [DN/s].

    Returns
    -------
    variance, skewness : ndarray, shape (n,)
    """
    contrast = image - image.mean()
    spread = float(np.sum(contrast**2))
    electron = max(float(np.sum(contrast * variance)) / spread, 0.0) if spread > 0 else 0.0
    at_expected = np.maximum(variance + electron * (expected - image), 0.0)
    third = electron**2 * np.maximum(expected, 0.0)
    return at_expected, third / np.where(at_expected > 0, at_expected, np.inf) ** 1.5


def kept_noise(expected: Array, variance: Array, level: float, skewness: Array | float = 0.0) -> Array:
    """Mean noise of pixels that were kept because they lie above a level.

    With z = (expected - level) / sigma the mean of a normal distribution cut at the level is sigma phi(z) / Phi(z):
    0.0044 sigma three standard deviations above it, nothing far above it. A skewness g changes it, to first order
    (Edgeworth), by the factor 1 - g z^3 / 6: at g = 0.1, that of a hundred electrons, it halves the low tail.

    Parameters
    ----------
    expected, variance : ndarray, shape (n,)
        What the pixels would be without noise [DN/s], and the noise's variance.
    level : float
        [DN/s].
    skewness : ndarray, shape (n,), or float
        Of the noise.

    Returns
    -------
    ndarray, shape (n,)
        [DN/s].
    """
    sigma = np.sqrt(variance)
    z = (expected - level) / np.where(sigma > 0, sigma, 1.0)
    # phi / Phi without underflow; a pixel without noise has no mean noise either
    normal = sigma * np.sqrt(2 / np.pi) / scipy.special.erfcx(-z / np.sqrt(2))
    return np.asarray(normal * np.maximum(1 - skewness * z**3 / 6, 0.0))
