"""A star whose encircled energy is known in closed form."""

from dataclasses import dataclass

import numpy as np
from scipy.special import ndtr

from niriss_eestep.arrays import Array


@dataclass(frozen=True, slots=True)
class GaussianPSF:
    """A round Gaussian, whose encircled energy is known in closed form.

    Parameters
    ----------
    sigma : float
        Standard deviation along each axis [pix].
    """

    sigma: float = 1.5

    def render(self, x: float, y: float, shape: tuple[int, int]) -> Array:
        """Integrate over each pixel, exactly.

        Parameters
        ----------
        x, y : float
            Position of the star, 0-indexed [pix].
        shape : tuple of int
            (ny, nx)

        Returns
        -------
        ndarray, shape (ny, nx)
            Fraction of the light.
        """
        at = ((np.arange(n + 1) - 0.5 - centre) / self.sigma for centre, n in zip((y, x), shape, strict=True))
        return np.outer(*(np.diff(ndtr(edges)) for edges in at))

    def ee(self, radius: Array | float) -> Array:
        """Fraction of the light within a radius [pix].

        Parameters
        ----------
        radius : ndarray or float
            [pix].

        Returns
        -------
        ndarray
            0 to 1.
        """
        return -np.expm1(-np.square(np.asarray(radius) / self.sigma) / 2)
