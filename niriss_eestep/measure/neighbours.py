"""Light near a star that is not the star's: neighbours, and companions in its core."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass

import numpy as np
import scipy
from numpy.typing import NDArray

from niriss_eestep.errors import ExposureError
from niriss_eestep.measure.geometry import aperture_weights, distance_grid
from niriss_eestep.measure.position import centre_of_mass, fill_for_search

__all__ = ["Neighbour", "core_offset", "find_neighbour"]

#: light is compared within circles of this radius [pix]; of 2, 2.5 and 3 pix the one with the least differences on the
#: model PSFs
_RADIUS = 2.0

#: the search begins here [pix]: further in, undersampled cores differ from their mirror images by several per cent
_R_MIN = 4.0

#: ... and reports this fraction of the star's light; the model PSFs of the 12 filters reach 0.0045 at 4 pix and 0.002
#: beyond 6 pix, at any pixel phase
_FRACTION = 0.01

#: ... where it is this significant; of 10,000 places none is by chance
_SIGMA = 5.0

#: a star's peak has a neighbour with this share of its light, as in `niriss_eestep.measure.position.find_star`
_PEAK_SHARE = 0.05

#: small and large box of the centroid [pix]
_BOXES = (3.5, 7.0)


@dataclass(frozen=True, slots=True)
class Neighbour:
    """Light that the other side of the star does not have.

    Parameters
    ----------
    fraction : float
        Its share of the star's light, both within circles of 2 pix.
    x, y : float
        Where it is, in the image's frame [pix].
    distance : float
        From the star [pix].
    """

    fraction: float
    x: float
    y: float
    distance: float


def _mirrored(image: NDArray[np.float64], x: float, y: float, order: int, outside: float) -> NDArray[np.float64]:
    """Image turned by 180 degrees about a point."""
    jj, ii = np.indices(image.shape)
    return scipy.ndimage.map_coordinates(image, [2 * y - jj, 2 * x - ii], order=order, mode="constant", cval=outside)


def _single_pixels(image: NDArray[np.float64], x: float, y: float) -> NDArray[np.bool_]:
    """Pixels that stand alone: hit, not lit by a star."""
    excess = image - _mirrored(image, x, y, 1, 0.0)
    cross = np.array([[0, 1, 0], [1, 0, 1], [0, 1, 0]], dtype=bool)
    return (excess > 0) & (scipy.ndimage.maximum_filter(excess, footprint=cross) < _PEAK_SHARE * excess)


def find_neighbour(
    image: NDArray[np.float64],
    variance: NDArray[np.float64],
    bad: NDArray[np.bool_],
    x: float,
    y: float,
    r_max: float,
    *,
    rejected: NDArray[np.bool_] | None = None,
) -> Neighbour | None:
    """Compare the light around a star with its mirror image, for the largest difference.

    A pupil function with little wavefront error has a point-symmetric PSF, and the rest of its asymmetry is below what
    is reported. The image is turned about the star's centre of mass: other centroids are up to 0.2 pix off the axis.

    Parameters
    ----------
    image, variance : ndarray, shape (ny, nx)
        Background-subtracted count rates [DN/s] and their variances.
    bad : ndarray of bool, shape (ny, nx)
    x, y : float
        The star [pix].
    r_max : float
        How far to look [pix].
    rejected : ndarray of bool, shape (ny, nx), optional
        Pixels that do not enter the measurement; those that stand alone are not looked at.

    Returns
    -------
    Neighbour or None
        None where nothing stands out.
    """
    filled = fill_for_search(image, bad)
    with contextlib.suppress(ExposureError):
        x, y, _, _ = centre_of_mass(filled, np.where(bad, 0.0, variance), x, y, box=_BOXES[1])
    if rejected is not None and rejected.any():
        bad = bad | (rejected & _single_pixels(filled, x, y))
        filled = fill_for_search(image, bad)
    kernel = aperture_weights((5, 5), 2.0, 2.0, np.array([_RADIUS]))[0]
    light = scipy.ndimage.convolve(filled, kernel, mode="constant")
    noise = scipy.ndimage.convolve(np.where(bad, 0.0, variance), kernel**2, mode="constant")
    star = float(scipy.ndimage.map_coordinates(light, [[y], [x]], order=3, mode="nearest")[0])
    distance = distance_grid(image.shape, x, y)
    # where a third of the circle is bad there is nothing to compare
    look = (
        (distance >= _R_MIN)
        & (distance <= r_max)
        & (scipy.ndimage.convolve((~bad).astype(float), kernel) > 0.67 * kernel.sum())
    )
    look &= _mirrored(look.astype(float), x, y, 0, 0.0) > 0
    if not star > 0 or not look.any():
        return None
    difference = np.where(look, light - _mirrored(light, x, y, 3, 0.0), 0.0)
    error = np.sqrt(noise + np.maximum(_mirrored(noise, x, y, 1, 0.0), 0.0))
    difference[difference < _SIGMA * error] = 0.0
    j, i = np.unravel_index(np.argmax(difference), difference.shape)
    fraction = float(difference[j, i] / star)
    return Neighbour(fraction, float(i), float(j), float(distance[j, i])) if fraction > _FRACTION else None


def core_offset(
    image: NDArray[np.float64], variance: NDArray[np.float64], bad: NDArray[np.bool_], x: float, y: float
) -> tuple[float, float]:
    """Distance between the centres of mass in a small and a large box: a sign of two stars in one core.

    Parameters
    ----------
    image, variance : ndarray, shape (ny, nx)
        Background-subtracted count rates [DN/s] and their variances.
    bad : ndarray of bool, shape (ny, nx)
    x, y : float
        The star [pix].

    Returns
    -------
    offset, err : float
        [pix]. Below 0.1 pix for the model PSFs of all filters at any phase; 1.2 to 2.0 pix for two equal stars 3 to
        4 pix apart. Zero where a box has no centre.
    """
    filled = fill_for_search(image, bad)
    noise = np.where(bad, 0.0, variance)
    reach = int(_BOXES[1])
    jj, ii = np.indices(image.shape)
    near = (np.abs(jj - y) <= reach / 2) & (np.abs(ii - x) <= reach / 2)
    peak_j, peak_i = np.unravel_index(np.argmax(np.where(near, filled, -np.inf)), image.shape)
    try:
        small = centre_of_mass(filled, noise, float(peak_i), float(peak_j), box=_BOXES[0])
        large = centre_of_mass(filled, noise, x, y, box=_BOXES[1])
    except ExposureError:
        return 0.0, 0.0
    return float(np.hypot(small[0] - large[0], small[1] - large[1])), float(np.hypot(*small[2:]))
