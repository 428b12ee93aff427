"""Exact overlap of pixels with circles and annuli."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["aperture_weights", "distance_grid"]


def aperture_weights(shape: tuple[int, int], x: float, y: float, radii: NDArray[np.float64]) -> NDArray[np.float64]:
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


def distance_grid(shape: tuple[int, int], x: float, y: float) -> NDArray[np.float64]:
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
