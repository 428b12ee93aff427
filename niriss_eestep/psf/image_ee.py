"""Encircled energy of a given PSF image, by exact apertures on detector pixels."""

import numpy as np

from niriss_eestep.arrays import Array
from niriss_eestep.errors import ParameterError
from niriss_eestep.measure.position import centre_of_mass


def image_encircled_energy(image: Array, oversample: int, radius: Array) -> Array:
    """Measure the light within circles around the star, averaged over the pixel phases that the image resolves.

    For each phase the sub-pixels are summed to detector pixels, and these are measured as an exposure is: each in
    proportion to its exact overlap with the circle.

    Parameters
    ----------
    image : ndarray, shape (n, n)
        Light on each sub-pixel.
    oversample : int
        Sub-pixels per detector pixel; with 1 there is one phase, that of the image.
    radius : ndarray, shape (n_radii,)
        [pix].

    Returns
    -------
    ndarray, shape (n_radii,)
        In units of the image.

    Raises
    ------
    ParameterError
        If the image is not larger than the apertures.
    """
    from photutils.geometry import circular_overlap_grid

    x, y = _star(image, oversample)
    pixels = _box_sums(image, oversample)
    reach = min(x, y, image.shape[1] - 1 - x, image.shape[0] - 1 - y) / oversample - 0.5
    if radius.size and radius.max() > reach:
        raise ParameterError(
            f"a radius of {radius.max():g} pix does not fit on the image, which reaches {reach:.1f} pix from the star"
        )
    light = np.zeros(radius.size)
    for i in range(oversample):
        for j in range(oversample):
            phase = pixels[i::oversample, j::oversample]
            ny, nx = phase.shape
            # edges of the first detector pixel, from the star
            left, bottom = (j - 0.5 - x) / oversample, (i - 0.5 - y) / oversample
            for k, r in enumerate(radius):
                if r > 0:
                    overlap = circular_overlap_grid(left, left + nx, bottom, bottom + ny, nx, ny, r, 1, 1)
                    light[k] += np.vdot(overlap, phase)
    return light / oversample**2


def _star(image: Array, oversample: int) -> tuple[float, float]:
    """Position of the star [sub-pixel]: centre of mass in 7 x 7 pixels, as for an exposure."""
    y, x = np.unravel_index(int(np.argmax(image)), image.shape)
    x_star, y_star, _, _ = centre_of_mass(image, np.zeros_like(image), float(x), float(y), box=7.0 * oversample)
    return x_star, y_star


def _box_sums(image: Array, size: int) -> Array:
    """Sums of ``size`` x ``size`` neighbours; element (i, j) begins at sub-pixel (i, j)."""
    total = np.zeros((image.shape[0] + 1, image.shape[1] + 1))
    total[1:, 1:] = image.cumsum(axis=0).cumsum(axis=1)
    rows = total[size:] - total[:-size]
    return rows[:, size:] - rows[:, :-size]
