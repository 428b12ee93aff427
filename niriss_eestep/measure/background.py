"""The background of a star's image, from an annulus around it, and the starlight that the annulus holds.

The annulus lies in the star's own wing. Which of its pixels were used is recorded ring by ring, so that the aperture
correction can take out the same light (`niriss_eestep.flux.aperture_correction`). A sigma clip would eat the
star's diffraction spikes and break that; `unflagged_outliers` says what is done instead.
"""

from dataclasses import dataclass, replace

import numpy as np
import scipy

from niriss_eestep.arrays import Array, Mask
from niriss_eestep.errors import ExposureError
from niriss_eestep.measure.geometry import aperture_weights, distance_grid
from niriss_eestep.measure.options import EEOptions
from niriss_eestep.measure.stamp import Stamp

#: an annulus must have at least this share of its area on good pixels; below it the wing's azimuthal structure,
#: which the aperture correction averages over, is no longer sampled
MIN_COVERAGE = 0.1
#: outliers stand out by this many standard deviations; of 1,000 Gaussian pixels 0.0006 are lost
_OUTLIER_SIGMA = 5.0
#: ... beyond this multiple of what the star shows at the mirrored place
_MIRROR_FACTOR = 2.0
#: ... and of the brightest of its eight neighbours
_BESIDE_FACTOR = 3.0
_BESIDE = np.array([[1, 1, 1], [1, 0, 1], [1, 1, 1]], dtype=bool)
#: a value this much nearer to the sky's level than its stated error, where the sky's scatter is as small, is not by
#: chance: 0.8 % of such values. Two groups left of a ramp of 32 have 74 times the read noise of all
_ABSURD = 0.01
#: standard deviation of a normal distribution over its median absolute deviation, 1 / Phi^-1(3/4)
_MAD_TO_STD = 1.482602218505602
#: fraction of a normal distribution that lies more than one standard deviation below its mean
_BELOW_ONE_SIGMA = 0.1587


@dataclass(frozen=True, slots=True, eq=False)
class Background:
    """Background per pixel, and which part of the annulus it was measured on.

    Parameters
    ----------
    value, err : float
        Background and its standard error [DN/s/pix].
    std : float
        Sigma-clipped standard deviation of the annulus's pixels [DN/s]; NaN where there is no annulus.
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
    dark : float
        How far below ``value`` a sixth (1 - 0.8413) of the annulus's pixels lie: the standard deviation where their
        distribution is normal [DN/s].
    """

    value: float
    err: float
    std: float
    npix: int
    n_rejected: int
    r_in: float
    r_out: float
    ring_edges: Array
    ring_coverage: Array
    method: str = "annulus"
    dark: float = np.nan

    def low_level(self, n_sigma: float) -> float:
        """Count rate below which a pixel is low.

        Parameters
        ----------
        n_sigma : float
            How far below the background [standard deviations].

        Returns
        -------
        float
            [DN/s]; NaN where the scatter is not known. The standard deviation is that of the dark side where it is the
            larger one: around a bright star the annulus is mostly its wing, whose dark parts are no bad pixels.
        """
        spread = self.std if np.isnan(self.dark) else max(self.std, self.dark)
        return self.value - n_sigma * spread


@dataclass(frozen=True, slots=True, eq=False)
class Sky:
    """The background of a stamp, and the pixels that it is the mean of.

    Parameters
    ----------
    background : Background
    weights : ndarray, shape (ny, nx)
        ``background.value`` is the sum of ``weights * image`` over the good pixels; zeros where it was given.
    """

    background: Background
    weights: Array


def fixed_background(value: float, err: float = 0.0, *, method: str = "constant") -> Background:
    """Background given from elsewhere.

    Parameters
    ----------
    value, err : float
        [DN/s/pix].
    method : str
        'constant' or 'none'.

    Returns
    -------
    Background
    """
    return Background(value, err, np.nan, 0, 0, 0.0, 0.0, np.zeros(0), np.zeros(0), method)


def given_covariance(background: Background, area: Array) -> Array:
    """Covariance that the error of a background given from elsewhere brings to apertures.

    Parameters
    ----------
    background : Background
    area : ndarray, shape (n_radii,)
        Areas of the apertures [pix].

    Returns
    -------
    ndarray, shape (n_radii, n_radii)
        [(DN/s)^2]; zero where the background was measured, whose error is that of the annulus's pixels.
    """
    err = 0.0 if background.method == "annulus" else background.err
    return np.outer(area, area) * err**2


def _mirror_extremes(image: Array, good: Mask, x: float, y: float) -> tuple[Array, Array]:
    """Highest and lowest good value in the 3x3 pixels about the point mirrored at the star; infinite where none."""
    jj, ii = np.indices(image.shape)
    at = np.array([2 * y - jj, 2 * x - ii])
    high = scipy.ndimage.maximum_filter(np.where(good, image, -np.inf), 3, mode="constant", cval=-np.inf)
    low = scipy.ndimage.minimum_filter(np.where(good, image, np.inf), 3, mode="constant", cval=np.inf)
    high = scipy.ndimage.map_coordinates(high, at, order=0, mode="constant", cval=-np.inf)
    low = scipy.ndimage.map_coordinates(low, at, order=0, mode="constant", cval=np.inf)
    return np.where(np.isfinite(high), high, np.inf), np.where(np.isfinite(low), low, -np.inf)


def unflagged_outliers(image: Array, variance: Array, use: Mask, x: float, y: float) -> Mask:
    """Pixels of the annulus that neither noise nor the star can explain: cosmic rays, hot pixels, other stars.

    A pupil function with little wavefront error has a point-symmetric PSF, so what a diffraction spike brings to one
    pixel it brings, within a factor of two, to the 3x3 pixels about the mirrored place. Only what stands out by 5
    standard deviations (both of the pixel's own error and of the annulus's robust spread) beyond twice the mirror's
    excess is left out; and the mirror excuses no more than three times what the pixel's own neighbours have, for a
    spike is as long as the annulus is wide, while two hits that happen to face each other stand alone. What stays
    undetected is below about ten times the wing's mean level, which in one pixel of 700 biases the total count rate
    by less than 2e-4.

    Parameters
    ----------
    image, variance : ndarray, shape (ny, nx)
        Count rates and variances.
    use : ndarray of bool, shape (ny, nx)
        Good pixels of the annulus.
    x, y : float
        The star [pix].

    Returns
    -------
    ndarray of bool, shape (ny, nx)
        True at outliers.
    """
    values = image[use]
    level = float(np.median(values))
    spread = _MAD_TO_STD * float(np.median(np.abs(values - level)))
    high, low = _mirror_extremes(image, use, x, y)
    margin = _OUTLIER_SIGMA * np.maximum(spread, np.sqrt(np.where(use, variance, 0.0)))
    beside = scipy.ndimage.maximum_filter(
        np.where(use, image, -np.inf), footprint=_BESIDE, mode="constant", cval=-np.inf
    )
    excused = np.minimum(_MIRROR_FACTOR * (high - level), _BESIDE_FACTOR * (beside - level))
    above = image - level > margin + np.maximum(excused, 0.0)
    below = level - image > margin + _MIRROR_FACTOR * np.maximum(level - low, 0.0)
    return use & (above | below)


def _clipped_std(values: Array, sigma: float = 3.0) -> float:
    """Standard deviation after iterated clipping about the mean; NaN of less than two values."""
    if values.size < 2:
        return np.nan
    while values.size > 2:
        keep = np.abs(values - values.mean()) <= sigma * values.std()
        # of equal values, rounding may leave none
        if keep.all() or not keep.any():
            break
        values = values[keep]
    return float(values.std())


def _ring_coverage(use: Mask, x: float, y: float, r_in: float, r_out: float) -> tuple[Array, Array]:
    """Edges of rings 1 pix wide, and the fraction of each ring's area that was used."""
    edges = np.linspace(r_in, r_out, max(1, int(np.ceil(r_out - r_in))) + 1)
    # one circle at a time: of a wide annulus on a full frame all together would fill the memory
    within = np.array([aperture_weights(use.shape, x, y, edges[k : k + 1])[0][use].sum() for k in range(len(edges))])
    return edges, np.diff(within) / (np.pi * np.diff(edges**2))


def measure_background(image: Array, variance: Array, bad: Mask, x: float, y: float, r_in: float, r_out: float) -> Sky:
    """Mean of the good pixels of an annulus, each by its exact overlap.

    Parameters
    ----------
    image, variance : ndarray, shape (ny, nx)
        Count rates [DN/s] and variances.
    bad : ndarray of bool, shape (ny, nx)
    x, y : float
        The star [pix].
    r_in, r_out : float
        Radii of the annulus [pix].

    Returns
    -------
    Sky

    Raises
    ------
    ExposureError
        If less than a tenth of the annulus lies on good pixels.
    """
    inner, outer = aperture_weights(image.shape, x, y, np.array([r_in, r_out]))
    overlap = outer - inner
    area = np.pi * (r_out**2 - r_in**2)
    use = (overlap > 0) & ~bad
    if overlap[use].sum() < MIN_COVERAGE * area:
        share = 100 * overlap[use].sum() / area
        raise ExposureError(
            f"only {share:.0f} % of the sky annulus ({r_in:g} to {r_out:g} pix) lies on "
            "good pixels: the star is too near the edge, or give a smaller annulus or a constant background"
        )
    outlier = unflagged_outliers(image, variance, use, x, y)
    use &= ~outlier
    weights = np.where(use, overlap, 0.0)
    edges, coverage = _ring_coverage(use, x, y, r_in, r_out)
    total = weights.sum()
    weights /= total
    value = float(np.sum(weights[use] * image[use]))
    err = float(np.sqrt(np.sum(weights[use] ** 2 * variance[use])))
    inside = use & (overlap > 0.5)
    found = image[inside]
    background = Background(
        value=value,
        err=err,
        std=_clipped_std(found),
        npix=int(use.sum()),
        n_rejected=int(outlier.sum()),
        r_in=r_in,
        r_out=r_out,
        ring_edges=edges,
        ring_coverage=coverage,
        dark=value - float(np.percentile(found, 100 * _BELOW_ONE_SIGMA)) if found.size else np.nan,
    )
    return Sky(background, weights)


def without_absurd_variances(exposure: Stamp, options: EEOptions) -> Stamp:
    """Give pixels whose variance no noise explains the sky's own (spacetelescope/jwst issue 6367).

    Parameters
    ----------
    exposure : Stamp
    options : EEOptions

    Returns
    -------
    Stamp
        With a warning that counts them; the exposure itself where there are none, or where they are the half: see
        `niriss_eestep.measure.quality.scatter_warning`.
    """
    distance = distance_grid(exposure.image.shape, exposure.x - exposure.x_origin, exposure.y - exposure.y_origin)
    annulus = (distance > options.sky_radii[0]) & (distance < options.sky_radii[1]) & ~exposure.bad
    if not annulus.any():
        return exposure
    from_level = np.abs(exposure.image - np.median(exposure.image[annulus]))
    scatter = _MAD_TO_STD * float(np.median(from_level[annulus]))
    # what is bad has a variance of any kind
    absurd = ~exposure.bad & (np.maximum(from_level, scatter) < _ABSURD * np.sqrt(np.abs(exposure.variance)))
    if scatter == 0 or not absurd.any() or absurd[annulus].mean() > 0.5:
        return exposure
    told = f"{absurd.sum()} pixels have implausible variances; the sky's scatter was used instead"
    photons = exposure.photon_variance
    return replace(
        exposure,
        variance=np.where(absurd, scatter**2, exposure.variance),
        photon_variance=None if photons is None else np.where(absurd, 0.0, photons),
        warnings=(*exposure.warnings, told),
    )


def find_background(exposure: Stamp, x: float, y: float, options: EEOptions) -> Sky:
    """Measure the background, or take the one given.

    Parameters
    ----------
    exposure : Stamp
    x, y : float
        The star in the stamp's frame [pix].
    options : EEOptions

    Returns
    -------
    Sky

    Raises
    ------
    ExposureError
        If too little of the annulus can be used.
    """
    if options.background_method == "annulus":
        return measure_background(exposure.image, exposure.variance, exposure.bad, x, y, *options.sky_radii)
    none = options.background_method == "none"
    value, err = (0.0, 0.0) if none else (options.background_value, options.background_value_err)
    return Sky(fixed_background(value, err, method=options.background_method), np.zeros(exposure.image.shape))
