"""What is known of the star's PSF beforehand: its image, its encircled energy, and how well that is known."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from niriss_eestep.arrays import Array
from niriss_eestep.measure.background import Sky
from niriss_eestep.measure.geometry import distance_grid

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
    mean_ee: Callable[[Array], Array] | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Star:
    """A star on a stamp.

    Parameters
    ----------
    x, y : float
        Where it is in the stamp's frame [pix].
    distance : ndarray, shape (ny, nx)
        Of each pixel from it [pix].
    sky : Sky
    model : ndarray, shape (ny, nx), or None
        Fraction of its light in each pixel by the model PSF, less that in the sky annulus; None where there is no
        image of the PSF.
    psf : PSFModel
    """

    x: float
    y: float
    distance: Array
    sky: Sky
    model: Array | None
    psf: PSFModel


def star_at(x: float, y: float, sky: Sky, psf: PSFModel) -> Star:
    """Put a star's model where it is, less its own light in the sky annulus: what it leaves in the image less the sky.

    That light is 0.3 to 1 % of the pixels next to the peak in F480M; a model scaled to them without it is as much low.

    Parameters
    ----------
    x, y : float
        The star in the stamp's frame [pix].
    sky : Sky
    psf : PSFModel

    Returns
    -------
    Star
    """
    shape = sky.weights.shape
    model = None if psf.render is None else psf.render(x, y, shape)
    if model is not None:
        model = np.asarray(model - np.sum(sky.weights * model))
    return Star(x, y, distance_grid(shape, x, y), sky, model, psf)
