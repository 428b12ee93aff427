"""Sums over apertures of a stamp, background-subtracted, and their covariance."""

from dataclasses import dataclass, replace

import numpy as np

from niriss_eestep.arrays import Array, Mask
from niriss_eestep.measure.background import Background, Sky
from niriss_eestep.measure.geometry import aperture_weights, bounding_box, box_about, covariance_of_sums
from niriss_eestep.measure.noise import Surroundings, correlated_covariance, flat_covariance, seen_through_ipc
from niriss_eestep.measure.position import Centroid
from niriss_eestep.measure.repair import Repair
from niriss_eestep.measure.stamp import Stamp

#: far below the structure of any PSF, far above rounding [pix]
_CENTRING_STEP = 0.02


@dataclass(frozen=True, slots=True, eq=False)
class Sums:
    """Sums over apertures.

    Parameters
    ----------
    values : ndarray, shape (n_sums,)
        Background-subtracted [DN/s].
    covariance : ndarray, shape (n_sums, n_sums)
        [(DN/s)^2].
    common : ndarray, shape (n_sums, n_sums)
        Its part that is the same in every integration of an exposure [(DN/s)^2].
    sky_covariance : ndarray, shape (n_sums, n_sums)
        What the sky's level and shape bring to it: of the pixels that they are measured on, the noise that each has for
        itself; and the error of the star's wing [(DN/s)^2].
    background : Background
        With the error that correlated noise gives it.
    """

    values: Array
    covariance: Array
    common: Array
    sky_covariance: Array
    background: Background


def sum_apertures(
    exposure: Stamp, weights: Array, sky: Sky, repairs: list[Repair], bad: Mask, around: Surroundings | None = None
) -> Sums:
    """Background-subtracted sums and their covariance, each pixel's noise followed to every place that it reaches.

    Parameters
    ----------
    exposure : Stamp
    weights : ndarray, shape (n_sums, ny, nx)
        Of the pixels in each sum; zero where a bad pixel is not repaired.
    sky : Sky
    repairs : list of Repair
    bad : ndarray of bool, shape (ny, nx)
        Pixels whose own values are not used.
    around : Surroundings, optional
        How the noise is correlated, and what the sky needs; by default pixels are independent and the sky is flat.

    Returns
    -------
    Sums

    Notes
    -----
    A sum reaches the pixels by r = a - s, by the aperture's weights a and the s with which the sky is subtracted. With
    D the variance of each pixel and K what different pixels have in common, its variance r (D + K) r is
    a D a + s D s + r K r, where a and s share no pixel. The sky's part is s D s. That of its level by itself,
    s (D + K) s, holds noise that aperture and annulus share, which cancels in the difference: it may exceed the whole.
    """
    n, area, flat = len(weights), weights.sum(axis=(1, 2)), weights.reshape(len(weights), -1)
    background, sky_weights = sky.background, sky.weights.reshape(1, -1)
    # a background from elsewhere errs in all apertures alike; the annulus's error is that of its pixels
    given = np.outer(area, area) * (0.0 if background.method == "annulus" else background.err**2)
    covariance, common, sky_covariance = given.copy(), given.copy(), given.copy()
    values = np.einsum("ip,p->i", flat, np.where(bad, 0.0, exposure.image).ravel()) - area * background.value
    # how each sum depends on each pixel, by all the places that the pixel reaches; the background is one sum more,
    # whose variance is its own
    for_sky = area[:, None] * sky_weights
    reach = np.concatenate([np.where(bad.ravel(), 0.0, flat) - for_sky, sky_weights])
    for repair in repairs:
        touched = flat[:, repair.index]
        values += np.einsum("ik,k->i", touched, repair.value)
        reach[:n] += np.einsum("ik,kp->ip", touched, repair.weights.reshape(len(repair.index), -1))
        together = np.einsum("ik,ck->ic", touched, repair.common_err)
        shared = np.einsum("ic,jc->ij", together, together)
        covariance += covariance_of_sums(touched, np.maximum(repair.variance, 0.0)) + shared
        common += covariance_of_sums(touched, repair.variance) + shared
    reach = reach.reshape(-1, *weights.shape[1:])
    if around is not None:
        reach[:n], change, slope = around.corrected(reach[:n])
        values += change
        if around.shape is not None:
            wing = np.outer(slope @ around.shape.wing, slope @ around.shape.wing)
            covariance, sky_covariance = covariance + wing, sky_covariance + wing
            for_sky = for_sky + slope @ around.shape.weights.reshape(slope.shape[1], -1)
    noise = _noise_of_sums(exposure, reach, bad, around)
    sky_covariance += covariance_of_sums(for_sky, np.where(bad, 0.0, exposure.variance).ravel())
    covariance += noise[:n, :n]
    if exposure.flat_variance is not None:
        common += flat_covariance(reach[:n], np.sqrt(np.where(bad, 0.0, exposure.flat_variance)), exposure.flat_scale)
    if background.method == "annulus":
        background = replace(background, err=float(np.sqrt(noise[n, n])))
    return Sums(values, covariance, common, sky_covariance, background)


def _noise_of_sums(exposure: Stamp, reach: Array, bad: Mask, around: Surroundings | None) -> Array:
    """Covariance that the pixels' noise gives to sums that reach them so."""
    # the part of the image that is reached, and two pixels more, as far as the capacitance
    n, cut = len(reach), bounding_box(np.any(reach != 0, axis=0), 2)
    reach = np.ascontiguousarray(reach[:, *cut])
    variance, photons, flat = (
        np.zeros(reach.shape[1:]) if part is None else np.where(bad[cut], 0.0, part[cut])
        for part in (exposure.variance, None if around is None else exposure.photon_variance, exposure.flat_variance)
    )
    covariance = covariance_of_sums(reach.reshape(n, -1), (variance - photons).ravel())
    if photons.any():
        # a photon's charge is seen in the neighbours too, which are read with noise of their own
        covariance += covariance_of_sums(seen_through_ipc(reach).reshape(n, -1), photons.ravel())
    if around is not None:
        covariance += correlated_covariance(reach, around.correlation)
    if flat.any() and exposure.flat_scale > 0:
        covariance += flat_covariance(reach, np.sqrt(flat), exposure.flat_scale) - flat_covariance(reach, np.sqrt(flat))
    return covariance


def repaired_stamp(exposure: Stamp, repairs: list[Repair], sky: Sky, bad: Mask) -> Stamp:
    """Put the star alone, repaired and without the background, in the place of a stamp's pixels.

    Parameters
    ----------
    exposure : Stamp
    repairs : list of Repair
    sky : Sky
    bad : ndarray of bool, shape (ny, nx)
        Pixels whose own values are not used.

    Returns
    -------
    Stamp
        The variance of a repaired pixel is that of the pixels it is predicted from, and its method's own. What is not
        repaired, and what is repaired without an error, is bad.
    """
    image, variance, left = np.where(bad, 0.0, exposure.image), np.where(bad, 0.0, exposure.variance), bad.copy()
    noise = variance.ravel().copy()
    for repair in repairs:
        image.flat[repair.index] = repair.value
        weights = repair.weights.reshape(len(repair.index), -1)
        own = np.maximum(repair.variance, 0.0) + np.sum(repair.common_err**2, axis=0)
        variance.flat[repair.index] = np.einsum("kp,kp,p->k", weights, weights, noise) + own
        left.flat[repair.index] = ~np.isfinite(own)
    return replace(exposure, image=image - sky.background.value, variance=np.where(left, 0.0, variance), bad=left)


def covariance_of_centring(image: Array, star: Centroid, radii: Array) -> Array:
    """Covariance that the position's error gives the apertures' sums; none where the method gives no error.

    Parameters
    ----------
    image : ndarray, shape (ny, nx)
        Background-subtracted, repaired count rates.
    star : Centroid
        The position in the image's frame.
    radii : ndarray, shape (n_radii,)
        [pix].

    Returns
    -------
    ndarray, shape (n_radii, n_radii)
    """
    rows, columns = box_about(star.x, star.y, int(radii[-1]) + 2)
    image, x, y = image[rows, columns], star.x - columns.start, star.y - rows.start
    covariance = np.zeros((len(radii), len(radii)))
    for err, dx, dy in ((star.x_err, _CENTRING_STEP, 0.0), (star.y_err, 0.0, _CENTRING_STEP)):
        if np.isfinite(err):
            sides = [aperture_weights(image.shape, x + s * dx, y + s * dy, radii) for s in (-1, 1)]
            slope = np.einsum("iyx,yx->i", sides[1] - sides[0], image) / (2 * _CENTRING_STEP)
            covariance += np.outer(slope, slope) * err**2
    return covariance
