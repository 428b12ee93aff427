"""Exact overlap of pixels with circles, distances, and weighted sums over pixels with their covariance.

The sums are the same to the bit whatever the number of BLAS threads: a threaded BLAS adds the parts of a long sum in an
order that depends on its number of threads, so that a laptop and a worker process would differ in the last digits.
numpy's own loops have one order; for a dozen apertures they take a fraction of a millisecond.
"""

import numpy as np

from niriss_eestep.arrays import Array

#: numbers and masks by pixel, radius or whatever else


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
    """
    # importing photutils takes 0.2 s, which `--help` need not
    from photutils.geometry import circular_overlap_grid

    ny, nx = shape
    weights = np.zeros((len(radii), ny, nx))
    for k, radius in enumerate(radii):
        if radius <= 0:
            continue
        # only the circle's bounding box is worth the exact geometry
        i0, i1 = max(0, int(np.floor(x - radius - 1))), min(nx, int(np.ceil(x + radius + 2)))
        j0, j1 = max(0, int(np.floor(y - radius - 1))), min(ny, int(np.ceil(y + radius + 2)))
        if i0 >= i1 or j0 >= j1:
            continue
        weights[k, j0:j1, i0:i1] = circular_overlap_grid(
            i0 - 0.5 - x, i1 - 0.5 - x, j0 - 0.5 - y, j1 - 0.5 - y, i1 - i0, j1 - j0, radius, 1, 1
        )
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


def weighted_sums(weights: Array, values: Array) -> Array:
    """Sum of weights times values, for each row of weights.

    Parameters
    ----------
    weights : ndarray, shape (n_sums, n_pixels)
    values : ndarray, shape (n_pixels,)

    Returns
    -------
    ndarray, shape (n_sums,)
    """
    return np.einsum("ip,p->i", weights, values)


def covariance_of_sums(weights: Array, variance: Array) -> Array:
    """Covariance of `weighted_sums` of independent pixels: sum of w_i w_j var.

    Parameters
    ----------
    weights : ndarray, shape (n_sums, n_pixels)
    variance : ndarray, shape (n_pixels,)

    Returns
    -------
    ndarray, shape (n_sums, n_sums)
    """
    return np.einsum("ip,jp->ij", weights * variance, weights)
