"""What the pixels without star tell of an exposure: how its noise is correlated, and whether its sky is flat."""

from dataclasses import dataclass

import numpy as np

from niriss_eestep.arrays import Array, Mask
from niriss_eestep.measure.flatness import N_TERMS, SkyShape, fit_sky, judged
from niriss_eestep.measure.geometry import covariance_of_sums
from niriss_eestep.measure.noise import (
    SHAPES,
    PixelCorrelation,
    correlated_covariance,
    destriped,
    estimate_correlation,
    sky_pixels,
)
from niriss_eestep.measure.options import EEOptions
from niriss_eestep.measure.psf_model import Star
from niriss_eestep.measure.stamp import Stamp

#: the star's light within this radius scales the model of its wing [pix]
_SCALE_RADIUS = 5.0

#: without a model, the wing's structure (spikes) may be this many times its mean at a radius
_STRUCTURE = 5.0


@dataclass(frozen=True, slots=True, eq=False)
class Surroundings:
    """What is known of the noise and the sky around a star.

    Parameters
    ----------
    residual : ndarray, shape (ny, nx)
        Count rates less the background and a model of the star [DN/s]; zero in bad pixels.
    use : ndarray of bool, shape (ny, nx)
        Pixels that hold sky and noise alone.
    correlation : PixelCorrelation
    shape : SkyShape, optional
        Gradient and curvature of the sky; None where they were not sought.
    destripe : {'none', 'rows', 'columns', 'both'}
    """

    residual: Array
    use: Mask
    correlation: PixelCorrelation
    shape: SkyShape | None = None
    destripe: str = "none"

    def corrected(self, reach: Array) -> tuple[Array, Array, Array]:
        """Take the sky's shape and the lines' noise out of sums, as far as asked for.

        Parameters
        ----------
        reach : ndarray, shape (n_sums, ny, nx)
            How each sum depends on each pixel.

        Returns
        -------
        reach : ndarray, shape (n_sums, ny, nx)
            With what the corrections add.
        change : ndarray, shape (n_sums,)
            To be added to the sums [DN/s].
        slope : ndarray, shape (n_sums, n_terms)
            What the sums change with each coefficient of the sky's shape; zero where that was not taken out.
        """
        change, slope, residual = np.zeros(len(reach)), np.zeros((len(reach), N_TERMS)), self.residual
        if self.shape is not None and self.shape.is_needed:
            residual = residual - self.shape.image
            slope = np.einsum("iyx,kyx->ik", reach, self.shape.terms)
            change -= slope @ self.shape.coefficient
            reach = reach - np.einsum("ik,kyx->iyx", slope, self.shape.weights)
        if self.destripe != "none":
            reach, more = destriped(reach, residual, self.use, self.destripe)
            change += more
        return reach, change, slope


def study_surroundings(stamp: Stamp, bad: Mask, star: Star, options: EEOptions) -> Surroundings:
    """Look at the pixels around the star.

    Parameters
    ----------
    stamp : Stamp
    bad : ndarray of bool, shape (ny, nx)
        Every pixel not to trust.
    star : Star
        Its model, scaled to it, tells which pixels hold sky alone; without one those beyond the inner radius of the
        annulus are taken.
    options : EEOptions

    Returns
    -------
    Surroundings
    """
    distance, model = star.distance, star.model
    variance = np.where(bad, 0.0, stamp.variance)
    image = np.where(bad, 0.0, stamp.image - star.sky.background.value)
    if model is not None:
        near = ~bad & (distance <= _SCALE_RADIUS)
        light = model * max(0.0, image[near].sum()) / max(model[near].sum(), 1e-3)
        residual, outside = np.where(bad, 0.0, image - light), 0.0
    else:
        ring = np.rint(distance).astype(np.int64)
        total, count = (np.bincount(ring.ravel(), values.ravel()) for values in (image, (~bad).astype(float)))
        mean = (total / np.maximum(count, 1))[ring]
        light = _STRUCTURE * np.maximum(mean, 0.0)
        # the wing's fall is no noise
        residual, outside = np.where(bad, 0.0, image - mean), options.sky_radii[0]
    use = sky_pixels(residual, variance, bad | (distance < outside), light)
    if stamp.resampled:
        return Surroundings(residual, use, PixelCorrelation(np.zeros(len(SHAPES))), None, options.destripe)
    # without a model of the wing its fall looks like a curvature of the sky
    if model is None or options.background_method != "annulus":
        return Surroundings(residual, use, estimate_correlation(residual, variance, use), None, options.destripe)
    shape = fit_sky(residual, use, star.x, star.y, options.sky_radii[0])
    rest = residual if shape is None else residual - shape.image
    correlation = estimate_correlation(rest, variance, use, shape_removed=shape is not None)
    if shape is not None:
        independent = covariance_of_sums(shape.weights.reshape(len(shape.weights), -1), variance.ravel())
        shape = judged(shape, light, independent)
        # what independent pixels explain needs no dearer test
        if shape.is_needed:
            shape = judged(shape, light, independent + correlated_covariance(shape.weights, correlation))
    return Surroundings(residual, use, correlation, shape, options.destripe)
