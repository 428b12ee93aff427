"""What is known of the star's PSF beforehand: its image, its encircled energy, and how well that is known."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from niriss_eestep.measure.background import Sky
from niriss_eestep.measure.geometry import Array

__all__ = ["PSFModel", "Render"]

Render = Callable[[float, float, tuple[int, int]], Array]
Curve = Callable[..., Array]


@dataclass(frozen=True, slots=True)
class PSFModel:
    """The model PSF of an exposure's filter.

    Parameters
    ----------
    render : callable, optional
        ``render(x, y, shape)``: fraction of the star's light in each pixel of the stamp; for the method 'psf' and
        for ``repair_core``.
    ee, ee_err : callable, optional
        ``ee(radius)``: encircled energy, and its standard error: how well the core is known for ``repair_core``
        (`niriss_eestep.measure.core_repair`).
    mean_ee : callable, optional
        ``mean_ee(radius)``: encircled energy of ``render``'s images, averaged over pixel phases.
    """

    render: Render | None = None
    ee: Curve | None = None
    ee_err: Curve | None = None
    mean_ee: Curve | None = None

    def as_seen(self, x: float, y: float, sky: Sky) -> Array | None:
        """Image of the PSF less its own light in the sky annulus: what the star leaves in the image less the sky.

        That light is 0.3 to 1 % of the pixels next to the peak in F480M; a model scaled to them without it is as much
        low.

        Parameters
        ----------
        x, y : float
            The star in the stamp's frame [pix].
        sky : Sky

        Returns
        -------
        ndarray, shape (ny, nx), or None
            Fraction of the star's light in each pixel; None where there is no image of the PSF.
        """
        if self.render is None:
            return None
        model = self.render(x, y, sky.weights.shape)
        return np.asarray(model - np.sum(sky.weights * model))
