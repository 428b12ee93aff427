"""The background of a star's image, from an annulus around it, and the starlight that the annulus holds."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Background"]


@dataclass(frozen=True, slots=True, eq=False)
class Background:
    """Background per pixel, and which part of the annulus it was measured on.

    Parameters
    ----------
    value, err : float
        Background and its standard error [DN/s/pix].
    std : float
        Sigma-clipped standard deviation of the annulus's pixels [DN/s].
    npix : int
        Pixels used.
    n_rejected : int
        Unflagged outliers left out.
    r_in, r_out : float
        Radii of the annulus [pix]; 0 where the background is not from an annulus.
    ring_edges : ndarray, shape (n_rings + 1,)
        Edges of the concentric rings that the annulus is divided into [pix].
    ring_coverage : ndarray, shape (n_rings,)
        Fraction of each ring's area that was used, 0 to 1; below 1 where pixels were flagged or lie off the image.
    method : str
        'annulus', 'constant' or 'none'.
    """

    value: float
    err: float
    std: float
    npix: int
    n_rejected: int
    r_in: float
    r_out: float
    ring_edges: NDArray[np.float64]
    ring_coverage: NDArray[np.float64]
    method: str = "annulus"
