"""Exact overlap of pixels with circles, distances, and weighted sums over pixels with their covariance.

The sums are the same to the bit whatever the number of BLAS threads: a threaded BLAS adds the parts of a long sum in an
order that depends on its number of threads, so that a laptop and a worker process would differ in the last digits.
numpy's own loops have one order; for a dozen apertures they take a fraction of a millisecond.

Means over whole annuli of an image that does not show all of them.

A star's profile is steep: leaving pixels out of an annulus moves the mean distance of those that remain, and the mean
brightness with it. So the mean is taken ring by ring, each ring counting by its whole area, seen or not.
"""

from collections.abc import Iterator
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
    # photutils.geometry.circular_overlap_grid gives the same to 2e-14, in 0.1 instead of 0.16 ms for 12 circles, but
    # importing photutils takes 0.3 s and 8 MB, as much as 300 exposures would gain by it
    radii = np.maximum(radii, 0.0)
    reach, weights = radii.max(initial=0.0), np.zeros((len(radii), *shape))
    lines, near, far, farthest = [], [], [], []
    for n, at in zip(shape, (y, x), strict=True):
        # only the largest circle's bounding box is worth the exact geometry
        first, last = (min(n, max(0, round(at + side))) for side in (-reach - 1, reach + 2))
        if first == last:
            return weights
        # sides of rows and columns from the centre; that which holds it stands twice, for its parts on either side
        lines.append(np.append(np.arange(first, last), min(max(round(at), first), last - 1)))
        before, after = lines[-1] - 0.5 - at, lines[-1] + 0.5 - at
        near.append(np.maximum(np.maximum(before, -after), 0.0))
        farthest.append(np.maximum(-before, after))
        far.append(farthest[-1].copy())
        far[-1][-1] = max(min(-before[-1], after[-1]), near[-1][-1])
    squares = radii[:, None, None] ** 2
    inside = np.add.outer(farthest[0] ** 2, farthest[1] ** 2) <= squares
    weights[:, *(slice(line[0], line[-2] + 1) for line in lines)] = inside[:, :-1, :-1]
    # on the circles; np.nonzero takes five times as long for three dimensions
    cut = np.flatnonzero((np.add.outer(near[0] ** 2, near[1] ** 2) < squares) & ~inside)
    k, j, i = np.unravel_index(cut, inside.shape)
    r, low, high, left, right = radii[k], near[0][j], far[0][j], near[1][i], far[1][i]
    # a circle crosses a part from (x0, y0) to (x1, y1): the area below its chord, and that between chord and arc
    at_left, at_right, at_low, at_high = np.sqrt(np.maximum(r**2 - np.array([left, right, low, high]) ** 2, 0.0))
    (x0, x1), (y0, y1) = np.clip([at_high, at_low], left, right), np.clip([at_left, at_right], low, high)
    angle = 2 * np.arcsin(np.hypot(x1 - x0, y0 - y1) / (2 * r))
    area = (x0 - left) * (high - low) + (x1 - x0) * ((y0 + y1) / 2 - low) + r**2 / 2 * (angle - np.sin(angle))
    np.add.at(weights, (k, lines[0][j], lines[1][i]), area)
    return weights


def circles(shape: tuple[int, int], x: float, y: float, radii: Array) -> Iterator[Array]:
    """Give the overlap of pixels with circles as `aperture_weights`, one circle after the other.

    Of a wide annulus on a full frame all together would fill the memory.

    Parameters
    ----------
    shape, x, y, radii
        As there.

    Yields
    ------
    ndarray, shape (ny, nx)
    """
    # some share their arithmetic, as many as fill 0.5 MB
    n = max(1, 2**16 // (shape[0] * shape[1]))
    for first in range(0, len(radii), n):
        yield from aperture_weights(shape, x, y, radii[first : first + n])


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
    edges = [np.linspace(a, b, int(np.ceil((b - a) / _RING)) + 1) for a, b in zip(inner, outer, strict=True)]
    overlap, circle = np.zeros((len(inner), *shape)), circles(shape, x, y, np.concatenate(edges))
    annuli: list[Annulus] = [[] for _ in overlap]
    for annulus, rings, radii in zip(overlap, annuli, edges, strict=True):
        within = next(circle)
        for low, high in pairwise(radii.tolist()):
            inside, within = within, next(circle)
            ring = (within - inside).ravel()
            pixels = np.flatnonzero(ring > 0)
            rings.append((np.pi * (high**2 - low**2), pixels, ring[pixels]))
            annulus += ring.reshape(shape)
    return overlap, annuli


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
