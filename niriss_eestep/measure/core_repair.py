"""How much light a bad pixel of the core held: what the model PSF says, held to the curve of growth around it.

A model PSF that is a little too sharp or too wide errs most where it matters most, at the peak. The EE of the PSF,
which the aperture correction uses anyway, ties the light within a radius to the light beyond it: with C(r) the measured
count rate without the fill, V(r) the fill within r and E(r) the effective EE,

    C(r) + s V(r) = F E(r)

at every radius, for one factor s of the fill and one total rate F. The model's own value is s = 1, as sure as the model
fits the core's good pixels.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from niriss_eestep.measure.bad_pixels import Repair

__all__ = ["fill_scale", "model_misfit", "scaled"]

#: where in its pixel a star falls moves the count rate within a radius by about this many pixels of its slope, and by
#: this fraction of the total at least (measured on the packaged PSFs, 2 pix and beyond, all filters)
_PHASE_PIX = 0.02
_PHASE_FLOOR = 2e-4

#: below this radius the pixel phase is not small [pix]
_RADIUS_MIN = 2.0

#: pixels this near to the centre tell how well the model fits [pix]
_FIT_RADIUS = 2.5


def model_misfit(image: NDArray[np.float64], use: NDArray[np.bool_], model: NDArray[np.float64]) -> float:
    """Relative misfit of a model PSF to the good pixels of the core.

    Parameters
    ----------
    image : ndarray, shape (ny, nx)
        Background-subtracted count rates.
    use : ndarray of bool, shape (ny, nx)
        Good pixels of the core.
    model : ndarray, shape (ny, nx)
        Fraction of the star's light in each pixel.

    Returns
    -------
    float
        Root of the residuals' sum of squares over the model's; 1 where too few pixels are left.
    """
    data, light = image[use], model[use]
    if data.size < 4 or not np.any(light > 0):
        return 1.0
    fitted = light * np.sum(data * light) / np.sum(light**2)
    return min(1.0, float(np.sqrt(np.sum((data - fitted) ** 2) / np.sum(fitted**2))))


def fill_scale(
    radius: NDArray[np.float64],
    count_rate: NDArray[np.float64],
    fill: NDArray[np.float64],
    effective_ee: NDArray[np.float64],
    misfit: float,
) -> tuple[float, float]:
    """Factor of the fill that fits the curve of growth and the model.

    Parameters
    ----------
    radius : ndarray, shape (n_radii,)
        [pix].
    count_rate : ndarray, shape (n_radii,)
        Background-subtracted count rate without the fill [DN/s].
    fill : ndarray, shape (n_radii,)
        What the model fills in within each radius [DN/s].
    effective_ee : ndarray, shape (n_radii,)
        Fraction of the star's light that such an aperture keeps.
    misfit : float
        Relative standard error of the model's fill.

    Returns
    -------
    scale, err : float
        The factor and its standard error.
    """
    use = (radius >= _RADIUS_MIN) & np.isfinite(count_rate) & np.isfinite(effective_ee)
    if use.sum() < 3:
        return 1.0, misfit
    r, ee = radius[use], effective_ee[use]
    err = _PHASE_PIX * np.abs(np.gradient(ee, r)) + _PHASE_FLOOR
    total = (count_rate[use][-1] + fill[use][-1]) / ee[-1]
    # unknowns: the total rate in units of a first guess, and the factor; the last row is the model's word for itself
    design = np.column_stack([ee / err, -fill[use] / total / err])
    design = np.vstack([design, [0.0, 1.0 / misfit]])
    data = np.append(count_rate[use] / total / err, 1.0 / misfit)
    covariance = np.linalg.inv(design.T @ design)
    solution = covariance @ design.T @ data
    return float(solution[1]), float(np.sqrt(covariance[1, 1]))


def scaled(repair: Repair, background: float, scale: float, err: float) -> Repair:
    """Scale what a repair added above the background.

    Parameters
    ----------
    repair : Repair
    background : float
        [DN/s].
    scale, err : float
        Of `fill_scale`.

    Returns
    -------
    Repair
        Its variance is that of the factor.
    """
    light = repair.value - background
    return replace(
        repair,
        value=background + scale * light,
        # the factor is fitted to all of the curve of growth: its error stands for that of the pixels around
        weights=np.zeros_like(repair.weights),
        variance=(err * light) ** 2,
    )


def core_fit_pixels(bad: NDArray[np.bool_], distance: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Good pixels that tell how well a model fits the core.

    Parameters
    ----------
    bad : ndarray of bool, shape (ny, nx)
    distance : ndarray, shape (ny, nx)
        [pix].

    Returns
    -------
    ndarray of bool, shape (ny, nx)
    """
    return ~bad & (distance <= _FIT_RADIUS)
