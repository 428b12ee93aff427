"""Exact overlap of pixels with circles, distances, and weighted sums over pixels with their covariance.

The sums are the same to the bit whatever the number of BLAS threads: a threaded BLAS adds the parts of a long sum in an
order that depends on its number of threads, so that a laptop and a worker process would differ in the last digits.
numpy's own loops have one order; for a dozen apertures they take a fraction of a millisecond.

Means over whole annuli of an image that does not show all of them.

A star's profile is steep: leaving pixels out of an annulus moves the mean distance of those that remain, and the mean
brightness with it. So the mean is taken ring by ring, each ring counting by its whole area, seen or not.
"""

from functools import lru_cache
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from niriss_eestep.arrays import Array, Mask

#: rings: the area of each, on the image or not [pix]; flat indices of the pixels that it touches; their areas within it
Annulus = list[tuple[float, NDArray[np.int64], Array]]


def aperture_weights(shape: tuple[int, int], x: float, y: float, radii: Array) -> Array:
    """Fraction of each pixel that lies within circles about one centre.

    Parameters
    ----------
    shape : (int, int)
        Shape of the image (ny, nx).
    x, y : float
        Centre, 0-indexed; pixel centres are integers [pix].
    radii : ndarray, shape (n_radii,)
        Radii of the circles [pix]; a radius of 0 gives zeros.

    Returns
    -------
    ndarray, shape (n_radii, ny, nx)
        Area of overlap [pix], 0 to 1.

    Examples
    --------
    >>> circles = aperture_weights((9, 9), 4.2, 3.9, np.array([1.0, 3.0]))
    >>> (circles.sum(axis=(1, 2)) / np.pi).round(12)
    array([1., 9.])
    """
    # importing photutils takes 0.3 s, which `--help` need not
    from photutils.geometry import circular_overlap_grid

    ny, nx = shape
    weights = np.zeros((len(radii), ny, nx))
    for k, radius in enumerate(radii):
        # only the circle's bounding box is worth the exact geometry
        i0, i1 = max(0, int(np.floor(x - radius - 1))), min(nx, int(np.ceil(x + radius + 2)))
        j0, j1 = max(0, int(np.floor(y - radius - 1))), min(ny, int(np.ceil(y + radius + 2)))
        if radius <= 0 or i0 >= i1 or j0 >= j1:
            continue
        edges = i0 - 0.5 - x, i1 - 0.5 - x, j0 - 0.5 - y, j1 - 0.5 - y
        weights[k, j0:j1, i0:i1] = circular_overlap_grid(*edges, i1 - i0, j1 - j0, radius, 1, 1)
    return weights


def distance_grid(shape: tuple[int, int], x: float, y: float) -> Array:
    """Distance of every pixel's centre from a point.

    Parameters
    ----------
    shape : (int, int)
        Shape of the image (ny, nx).
    x, y : float
        The point, 0-indexed [pix].

    Returns
    -------
    ndarray, shape (ny, nx)
        [pix].
    """
    j, i = np.ogrid[: shape[0], : shape[1]]
    return np.hypot(i - x, j - y)


def box_about(x: float, y: float, reach: int) -> tuple[slice, slice]:
    """Pixels of an image up to some number of lines from the one at a position.

    Parameters
    ----------
    x, y : float
        [pix].
    reach : int
        [pix].

    Returns
    -------
    rows, columns : slice
        From the image's first pixel on, at the least; they may go beyond its end.
    """
    rows, columns = (slice(max(0, round(at) - reach), max(0, round(at) + reach + 1)) for at in (y, x))
    return rows, columns


def covariance_of_sums(weights: Array, variance: Array) -> Array:
    """Covariance of weighted sums of independent pixels: sum of w_i w_j var.

    Parameters
    ----------
    weights : ndarray, shape (n_sums, n_pixels)
    variance : ndarray, shape (n_pixels,)
        Of each pixel.

    Returns
    -------
    ndarray, shape (n_sums, n_sums)
        In the unit of ``variance``.

    Examples
    --------
    >>> covariance_of_sums(np.array([[1.0, 0.5, 0.0], [1.0, 1.0, 1.0]]), np.array([4.0, 4.0, 9.0]))
    array([[ 5.,  6.],
           [ 6., 17.]])
    """
    covariance = np.empty((len(weights), len(weights)))
    for k, row in enumerate(weights * variance):
        covariance[k, k:] = covariance[k:, k] = np.einsum("p,jp->j", row, weights[k:])
    return covariance


#: width of the rings; the pixels blur a profile as much [pix]
_RING = 1.0

#: a ring seen less than this share counts less: the mean would be the noise of its few pixels
_MIN_COVERAGE = 0.1

#: sectors by whose scatter the unseen part is judged, 30 degrees each, half the angle between diffraction spikes. With
#: the packaged PSFs of five filters, cut by a straight edge, pulls of the annuli from 9 pix on have a standard
#: deviation of 0.9 to 1.2; with 8 sectors 0.4 to 1.1, with 6 sectors 0.7 to 1.4
_SECTORS = 12


def annuli_about(shape: tuple[int, int], x: float, y: float, inner: Array, outer: Array) -> tuple[Array, list[Annulus]]:
    """Lay annuli on an image, and divide them into rings.

    Parameters
    ----------
    shape : (int, int)
        Shape of the image (ny, nx).
    x, y : float
        Their centre [pix].
    inner, outer : ndarray, shape (n_annuli,)
        Their radii [pix].

    Returns
    -------
    overlap : ndarray, shape (n_annuli, ny, nx)
        Area of each pixel within each annulus [pix].
    rings : list of list of (float, ndarray of int, ndarray)
        The rings of each annulus, from the inside out: a ring's area, on the image or not [pix]; the flat indices of
        the pixels that it touches, shape (n,); and the area of each of them within it [pix].
    """
    # where a ring begins the one before ends; all circles of a wide annulus together would fill the memory
    circle = lru_cache(maxsize=2)(lambda radius: aperture_weights(shape, x, y, np.array([radius]))[0].ravel())
    # annuli may overlap, as the sky's does with the last ones of a profile
    rings: dict[tuple[float, float], tuple[float, NDArray[np.int64], Array]] = {}
    overlap = np.zeros((len(inner), shape[0] * shape[1]))
    annuli: list[Annulus] = [[] for _ in overlap]
    for annulus, own, first, last in zip(overlap, annuli, inner, outer, strict=True):
        for low, high in pairwise(np.linspace(first, last, int(np.ceil((last - first) / _RING)) + 1).tolist()):
            if (low, high) not in rings:
                within = circle(low)
                ring = circle(high) - within
                pixels = np.flatnonzero(ring > 0)
                rings[low, high] = np.pi * (high**2 - low**2), pixels, ring[pixels]
            own.append(rings[low, high])
            annulus[own[-1][1]] += own[-1][2]
    return overlap.reshape(-1, *shape), annuli


def mean_weights(rings: Annulus, available: Mask) -> Array:
    """Weights of the pixels in the mean over a whole annulus, each ring of which counts by its area.

    Parameters
    ----------
    rings : list of (float, ndarray of int, ndarray)
        The annulus, from `annuli_about`.
    available : ndarray of bool, shape (ny, nx)
        Pixels that have a value.

    Returns
    -------
    ndarray, shape (ny, nx)
        Add up to 1; NaN where the annulus has no available pixel.
    """
    weights = np.zeros(available.size)
    for area, pixels, overlap in rings:
        seen = overlap * available.ravel()[pixels]
        weights[pixels] += area * seen / max(seen.sum(), _MIN_COVERAGE * area)
    with np.errstate(invalid="ignore"):
        return np.asarray(weights / weights.sum()).reshape(available.shape)


def unseen_variance(
    overlap: Array, rings: Annulus, available: Mask, x: float, y: float, residual: Array, variance: Array
) -> float:
    """Variance of the mean over a whole annulus for want of the part that has no value.

    That part is taken to be as bright as the rest of its ring. How a star's light varies with the angle shows in the
    scatter between sectors; the mean of a share c of them errs like that of a sample without replacement, by their
    variance, less the noise's, over their number, times (1 - c) / c.

    Parameters
    ----------
    overlap : ndarray, shape (ny, nx)
    rings : list of (float, ndarray of int, ndarray)
        The annulus, from `annuli_about`.
    available : ndarray of bool, shape (ny, nx)
        Pixels that have a value.
    x, y : float
        The centre [pix].
    residual, variance : ndarray, shape (ny, nx)
        The image less its radial trend, and its variance.

    Returns
    -------
    float
        Zero where all of the annulus is available, NaN where nothing is.
    """
    j, i = np.nonzero(available & (overlap > 0))
    if not j.size:
        return np.nan
    sector = ((np.arctan2(j - y, i - x) / (2 * np.pi) + 0.5) * _SECTORS).astype(int) % _SECTORS
    weight = overlap[j, i]
    terms = weight, weight * residual[j, i], weight**2 * variance[j, i]
    seen, light, noise = (np.bincount(sector, term, _SECTORS) for term in terms)
    # sectors that are partly seen count by their area
    filled, share = seen > 0, min(seen.sum() / sum(area for area, _, _ in rings), 1.0)
    excess = np.sum((light[filled] ** 2 - noise[filled]) / seen[filled]) / seen.sum()
    return float(max(excess, 0.0) / _SECTORS * (1 - share) / share)
