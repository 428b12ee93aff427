"""How much light a bad pixel of the core held: what the model PSF says, held to the curve of growth around it.

A model PSF that is a little too sharp or too wide errs most where it matters most, at the peak. The EE of the PSF,
which the aperture correction uses anyway, ties the light within a radius to the light beyond it: with C(r) the measured
count rate without the fill, V(r) the fill within r and E(r) the effective EE,

    C(r) + s V(r) = F E(r)

at every radius, for one factor s of the fill and one total rate F. The model's own value is s = 1, as sure as the model
fits the core's good pixels. Each radius counts as its noise allows, and the factor hands the noise of C(r) on to the
pixels that it scales.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from niriss_eestep.errors import ExposureError
from niriss_eestep.measure.apertures import Apertures, aperture_reach, sum_apertures
from niriss_eestep.measure.background import Sky
from niriss_eestep.measure.geometry import distance_grid, weighted_sums
from niriss_eestep.measure.psf_model import PSFModel
from niriss_eestep.measure.repair import Repair
from niriss_eestep.measure.stamp import Stamp

__all__ = ["FillScale", "fill_scale", "hold_to_growth", "model_misfit", "scaled"]

Reach = Callable[[Repair], NDArray[np.float64]]


#: where in its pixel a star falls moves the count rate within a radius by about this many pixels of its slope, and by
#: this fraction of the total at least (measured on the packaged PSFs, 2 pix and beyond, all filters)
_PHASE_PIX = 0.02
_PHASE_FLOOR = 2e-4
#: below this radius neither the pixel phase nor a model that errs in its centre (by 0.1 pix) is a small matter [pix]
_RADIUS_MIN = 3.0
#: pixels this near to the centre tell how well the model fits [pix]
_FIT_RADIUS = 2.5

#: a fill that falls below zero by this many standard errors is no noise
_SIGNIFICANT_FALL = 3.0


def model_misfit(
    image: NDArray[np.float64],
    variance: NDArray[np.float64],
    use: NDArray[np.bool_],
    model: NDArray[np.float64],
    light: float,
) -> float:
    """Relative misfit of a model PSF to the good pixels of the core that are about as bright as the lost ones.

    A PSF that is right within a tenth at its peak may be wrong by a factor of two in its skirts.

    Parameters
    ----------
    image, variance : ndarray, shape (ny, nx)
        Background-subtracted count rates and their variances.
    use : ndarray of bool, shape (ny, nx)
        Good pixels of the core.
    model : ndarray, shape (ny, nx)
        Fraction of the star's light in each pixel.
    light : float
        That fraction in the lost pixels.

    Returns
    -------
    float
        Root of the mean square of the residuals over the model, less what their noise explains. Each is weighted by
        the square of the ratio of its light to ``light`` or the inverse, whichever is less. 1 where too few pixels are
        left, or no light.
    """
    use = use & (model > 0)
    data, expected = image[use], model[use]
    scale = np.sum(data * expected) / np.sum(expected**2) if data.size >= 4 else 0.0
    if not (scale > 0 and light > 0):
        return 1.0
    excess = (data / (scale * expected) - 1) ** 2 - variance[use] / (scale * expected) ** 2
    weight = np.minimum(expected / light, light / expected) ** 2
    return float(np.sqrt(np.clip(np.sum(weight * excess) / np.sum(weight), 0.0, 1.0)))


@dataclass(frozen=True, slots=True, eq=False)
class FillScale:
    """Factor of the fill, and what it depends on.

    Parameters
    ----------
    value : float
    err : float
        Standard error that the model and the curve of growth leave; the noise of the count rates is not in it.
    slope : ndarray, shape (n_radii,)
        Change of the factor with the count rate within each radius [1/(DN/s)].
    """

    value: float
    err: float
    slope: NDArray[np.float64]


def fill_scale(
    radius: NDArray[np.float64],
    count_rate: NDArray[np.float64],
    covariance: NDArray[np.float64],
    fill: NDArray[np.float64],
    effective_ee: NDArray[np.float64],
    misfit: float,
    ee_err: NDArray[np.float64] | None = None,
) -> FillScale:
    """Factor of the fill that fits the curve of growth and the model, by generalised least squares.

    Parameters
    ----------
    radius : ndarray, shape (n_radii,)
        [pix].
    count_rate : ndarray, shape (n_radii,)
        Background-subtracted count rate without the fill [DN/s].
    covariance : ndarray, shape (n_radii, n_radii)
        Covariance of ``count_rate`` [(DN/s)^2].
    fill : ndarray, shape (n_radii,)
        What the model fills in within each radius [DN/s].
    effective_ee : ndarray, shape (n_radii,)
        Fraction of the star's light that such an aperture keeps.
    misfit : float
        Relative standard error of the model's fill.
    ee_err : ndarray, shape (n_radii,), optional
        Standard error of the EE, taken as one for all radii; zero by default.

    Returns
    -------
    FillScale
    """
    slope = np.zeros(len(radius))
    measured = np.isfinite(count_rate) & np.isfinite(np.diagonal(covariance))
    use = (radius >= _RADIUS_MIN) & measured & np.isfinite(effective_ee)
    if use.sum() < 3:
        return FillScale(1.0, misfit, slope)
    r, ee = radius[use], effective_ee[use]
    total = (count_rate[use][-1] + fill[use][-1]) / ee[-1]
    phase = np.diag((total * (_PHASE_PIX * np.abs(np.gradient(ee, r)) + _PHASE_FLOOR)) ** 2)
    if ee_err is not None:
        phase += np.outer(ee_err[use], ee_err[use]) * total**2
    # unknowns: the total rate, and the factor, of which the model has its own word
    design = np.column_stack([ee, -fill[use]])
    weighted = np.linalg.solve(covariance[np.ix_(use, use)] + phase, design).T
    inverse = np.linalg.inv(weighted @ design + np.diag([0.0, misfit**-2]))
    slope[use] = inverse[1] @ weighted
    model = inverse[1, 1] / misfit**2
    variance = (model * misfit) ** 2 + slope[use] @ phase @ slope[use]
    rate, value = inverse @ (weighted @ count_rate[use] + np.array([0.0, misfit**-2]))
    residual = count_rate[use] - design @ np.array([rate, value])
    chi2 = residual @ np.linalg.solve(covariance[np.ix_(use, use)] + phase, residual) + ((value - 1) / misfit) ** 2
    # an EE that is not the star's fits the curve of growth worse than its noise: all that was fitted is as uncertain
    variance += inverse[1, 1] * max(0.0, chi2 / (use.sum() - 1) - 1)
    return FillScale(float(value), float(np.sqrt(variance)), slope)


def scaled(repair: Repair, background: float, scale: FillScale, reach: Reach) -> Repair:
    """Scale what a repair added above the background.

    Parameters
    ----------
    repair : Repair
    background : float
        [DN/s].
    scale : FillScale
    reach : callable
        ``reach(repair)``: how the count rates depend on each pixel if that is the core's repair, shape (n_radii,
        n_pixels).

    Returns
    -------
    Repair
        Its weights are those of the fill and of the factor; its own error is the factor's, one for all pixels.
    """
    light = repair.value - background
    fill = replace(repair, value=background + scale.value * light, weights=scale.value * repair.weights)
    # more fill than before acts on the factor as more count rate does
    factor = np.einsum("k,kp->p", scale.slope, reach(fill)).reshape(repair.weights.shape[1:])
    return replace(
        fill,
        weights=fill.weights + light[:, None, None] * factor,
        variance=np.zeros_like(repair.variance),
        common_err=scale.err * light,
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


def hold_to_growth(
    exposure: Stamp,
    apertures: Apertures,
    lost: NDArray[np.bool_],
    sky: Sky,
    repairs: list[Repair],
    bad: NDArray[np.bool_],
    psf: PSFModel,
) -> Repair:
    """Scale the core's fill to the curve of growth around it.

    Parameters
    ----------
    exposure : Stamp
    apertures : Apertures
    lost : ndarray of bool, shape (n_radii,)
        Apertures that cannot be used.
    sky : Sky
    repairs : list of Repair
        The core's by the model PSF, then the others.
    bad : ndarray of bool, shape (ny, nx)
        Every pixel not to trust.
    psf : PSFModel
        With an image and an effective EE.

    Returns
    -------
    Repair
        The core's, scaled.

    Raises
    ------
    ExposureError
        If the curve of growth leaves the bad pixels less than no light.
    """
    core, *others = repairs
    background, weights, x, y = sky.background, apertures.weights, apertures.x, apertures.y
    model = psf.as_seen(x, y, sky)
    if model is None or psf.effective_ee is None:
        return core
    image = exposure.image - background.value
    use = core_fit_pixels(bad, distance_grid(image.shape, x, y))
    light = model.flat[core.index].max()
    misfit = max(2 * model_misfit(image, exposure.variance, use, model, light), 1e-3)
    fill = weighted_sums(weights.reshape(len(weights), -1)[:, core.index], core.value - background.value)
    # a bad pixel that awaits its fill is as dark as the sky
    dark = replace(core, value=np.full_like(core.value, background.value), weights=np.zeros_like(core.weights))
    dark = replace(dark, variance=np.zeros_like(core.variance))
    sums = sum_apertures(exposure, weights, sky, [dark, *others], bad)
    count_rate, covariance = sums.values, sums.covariance
    kept = psf.effective_ee(apertures.radii, apertures.area, background.ring_edges, background.ring_coverage)
    scale = fill_scale(
        apertures.radii,
        np.where(lost, np.nan, count_rate),
        covariance,
        fill,
        kept,
        misfit,
        None if psf.ee_err is None else psf.ee_err(apertures.radii),
    )
    # the noise of the curve of growth is not in the factor's own error
    err = np.sqrt(scale.err**2 + scale.slope @ np.nan_to_num(covariance) @ scale.slope)
    if scale.value < -_SIGNIFICANT_FALL * err:
        raise ExposureError(
            "repair_core: by the curve of growth the bad pixels of the core hold less than no light: the EE reference "
            "(psfee) is not that of this star; give its own"
        )

    def reach(repair: Repair) -> NDArray[np.float64]:
        return aperture_reach(weights, sky, [repair, *others], bad)

    return scaled(core, background.value, scale, reach)
