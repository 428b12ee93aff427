"""The background of a star's image, from an annulus around it, and the starlight that the annulus holds.

The annulus lies in the star's own wing. Which of its pixels were used is recorded ring by ring, so that the aperture
correction can take out the same light (`niriss_eestep.flux.total_rate`). A sigma clip would eat the
star's diffraction spikes and break that; `unflagged_outliers` says what is done instead.
"""

from dataclasses import dataclass, field, replace

import numpy as np
import scipy

from niriss_eestep.arrays import Array, Mask
from niriss_eestep.errors import ExposureError
from niriss_eestep.measure.geometry import aperture_weights, distance_grid
from niriss_eestep.measure.stamp import EEOptions, Stamp

#: an annulus must have at least this share of its area on good pixels; below it the wing's azimuthal structure,
#: which the aperture correction averages over, is no longer sampled
MIN_COVERAGE = 0.1
#: outliers stand out by this many standard deviations; of 1,000 Gaussian pixels 0.0006 are lost
OUTLIER_SIGMA = 5.0
#: ... beyond this multiple of what the star shows at the mirrored place
_MIRROR_FACTOR = 2.0
#: ... and of the brightest of its eight neighbours
_BESIDE_FACTOR = 3.0
_BESIDE = np.array([[1, 1, 1], [1, 0, 1], [1, 1, 1]], dtype=bool)
#: noise below this part of the stated error: two groups left of a ramp of 32 have 74 times the read noise of all;
#: pixels that stand out by so many times the sky's scatter say what an electron's variance is
_ABSURD, _BRIGHT = 0.01, 10.0
#: standard deviation of a normal distribution over its median absolute deviation, 1 / Phi^-1(3/4)
MAD_TO_STD = 1.482602218505602
#: the annulus's scatter is that of the pixels within so many standard deviations
_CLIP_SIGMA = 3.0
#: fraction of a normal distribution that lies more than one standard deviation below its mean
_BELOW_ONE_SIGMA = 0.1587


@dataclass(frozen=True, slots=True, eq=False)
class Background:
    """The sky around a star: its level, its shape, and what its noise has in common.

    The level comes first; `niriss_eestep.measure.noise.study_surroundings` adds the rest, from ``residual`` on.

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
        The larger one of ``std`` and how far below ``value`` a sixth (1 - 0.8413) of the annulus's pixels lie, which is
        the standard deviation where their distribution is normal [DN/s]: around a bright star the annulus is mostly its
        wing, whose dark parts are no bad pixels.
    weights : ndarray, shape (ny, nx)
        ``value`` is the sum of ``weights * image`` over the good pixels; zeros where it was given.
    overlap : ndarray, shape (ny, nx)
        Area of each pixel within the annulus, used or not [pix].
    uneven : float
        What the star's wing, by its model, adds to ``value`` beyond the mean of its rings as far as they lie on the
        image: where pixels are missing, its spikes or what lies between them [DN/s/pix].
    residual : ndarray, shape (ny, nx)
        Count rates less the background and a model of the star [DN/s]; zero in bad pixels.
    use : ndarray of bool, shape (ny, nx)
        Pixels that hold sky and noise alone.
    correlation : ndarray, shape (8,), optional
        Of the pixels' noise, from `niriss_eestep.measure.noise.estimate_correlation`; None where it was not sought.
    destripe : {'none', 'rows', 'columns', 'both'}
        Lines whose mean noise, by their sky pixels, is taken out.
    chance : float
        How often noise alone makes as much of a gradient or curvature in a flat sky.
    curvature, curvature_err : float, optional
        Coefficient of r^2 in the sky, and its standard error [DN/s/pix per pix^2]; None where it was not sought.
    is_flat : bool, optional
        Whether no shape of the sky stands out; None where it was not sought.
    image : ndarray, shape (ny, nx), optional
        The sky's shape that is taken out [DN/s/pix]; None where it is flat.
    terms, term_weights : ndarray, shape (n_terms, ny, nx), optional
        What ``image`` is made of, each times the sum of its weights and ``residual``.
    wing : ndarray, shape (n_terms,), optional
        What an error of the star's wing adds to these coefficients [DN/s/pix].
    """

    value: float
    err: float = 0.0
    std: float = np.nan
    npix: int = 0
    n_rejected: int = 0
    r_in: float = 0.0
    r_out: float = 0.0
    ring_edges: Array = field(default_factory=lambda: np.zeros(0))
    ring_coverage: Array = field(default_factory=lambda: np.zeros(0))
    method: str = "annulus"
    dark: float = np.nan
    weights: Array = field(default_factory=lambda: np.zeros((0, 0)))
    overlap: Array = field(default_factory=lambda: np.zeros((0, 0)))
    uneven: float = 0.0
    residual: Array = field(default_factory=lambda: np.zeros((0, 0)))
    use: Mask = field(default_factory=lambda: np.zeros((0, 0), dtype=bool))
    correlation: Array | None = None
    destripe: str = "none"
    chance: float = 1.0
    curvature: float | None = None
    curvature_err: float | None = None
    is_flat: bool | None = None
    image: Array | None = None
    terms: Array | None = None
    term_weights: Array | None = None
    wing: Array | None = None


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
    spread = MAD_TO_STD * float(np.median(np.abs(values - level)))
    margin = OUTLIER_SIGMA * np.maximum(spread, np.sqrt(np.where(use, variance, 0.0)))
    # two images of three have none that stands out at all
    far = use & (np.abs(image - level) > margin)
    if not far.any():
        return far
    bright, faint = np.where(use, image, -np.inf), np.where(use, image, np.inf)
    # highest and lowest good value in the 3x3 pixels about the point mirrored at the star; infinite where none
    ny, nx = image.shape
    at_y, at_x = 2 * y - np.arange(ny), 2 * x - np.arange(nx)
    inside = ((at_y >= 0) & (at_y <= ny - 1))[:, None] & (at_x >= 0) & (at_x <= nx - 1)
    place = np.ix_(*(np.clip(np.floor(at + 0.5).astype(int), 0, len(at) - 1) for at in (at_y, at_x)))
    high = scipy.ndimage.maximum_filter(bright, 3, mode="constant", cval=-np.inf)[place]
    low = scipy.ndimage.minimum_filter(faint, 3, mode="constant", cval=np.inf)[place]
    high, low = np.where(inside & np.isfinite(high), high, np.inf), np.where(inside & np.isfinite(low), low, -np.inf)
    beside = scipy.ndimage.maximum_filter(bright, footprint=_BESIDE, mode="constant", cval=-np.inf)
    excused = np.minimum(_MIRROR_FACTOR * (high - level), _BESIDE_FACTOR * (beside - level))
    above = image - level > margin + np.maximum(excused, 0.0)
    below = level - image > margin + _MIRROR_FACTOR * np.maximum(level - low, 0.0)
    return use & (above | below)


def measure_background(
    image: Array, variance: Array, bad: Mask, x: float, y: float, r_in: float, r_out: float
) -> Background:
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
    Background

    Raises
    ------
    ExposureError
        If less than a tenth of the annulus lies on good pixels.
    """
    overlap = np.subtract(*aperture_weights(image.shape, x, y, np.array([r_out, r_in])))
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
    edges = np.linspace(r_in, r_out, max(1, int(np.ceil(r_out - r_in))) + 1)  # of rings 1 pix wide
    # one circle at a time: of a wide annulus on a full frame all together would fill the memory
    within = np.array([aperture_weights(image.shape, x, y, edge)[0][use].sum() for edge in edges[:, None]])
    weights /= weights.sum()
    value = float(np.sum(weights[use] * image[use]))
    err = float(np.sqrt(np.sum(weights[use] ** 2 * variance[use])))
    kept = found = image[use & (overlap > 0.5)]
    while kept.size > 2:
        near = np.abs(kept - kept.mean()) <= _CLIP_SIGMA * kept.std()
        # of equal values, rounding may leave none
        if near.all() or not near.any():
            break
        kept = kept[near]
    std, coverage = float(kept.std()) if kept.size > 1 else np.nan, np.diff(within) / (np.pi * np.diff(edges**2))
    dark = max(std, value - float(np.percentile(found, 100 * _BELOW_ONE_SIGMA))) if found.size else np.nan
    more = {"dark": dark, "weights": weights, "overlap": overlap}
    return Background(value, err, std, int(use.sum()), int(outlier.sum()), r_in, r_out, edges, coverage, **more)


def with_sound_errors(exposure: Stamp, options: EEOptions) -> Stamp:
    """Give a flat field without known error one, and pixels of implausible variance that of their light and the sky.

    Parameters
    ----------
    exposure : Stamp
    options : EEOptions
        ``flat_err`` is not used where the exposure states its flat field's error.

    Returns
    -------
    Stamp
        With a warning that counts the implausible variances (spacetelescope/jwst issue 6367); where they are the half
        they stay, and `niriss_eestep.measure.quality.scatter_warning` shows it.
    """
    if options.flat_err > 0 and (exposure.flat_variance is None or not np.any(exposure.flat_variance > 0)):
        flat = np.where(exposure.bad, 0.0, (options.flat_err * exposure.image) ** 2)
        exposure = replace(exposure, flat_variance=flat, variance=exposure.variance + flat)
    exposure = replace(exposure, flat_scale=options.flat_err_scale)
    distance = distance_grid(exposure.image.shape, exposure.x - exposure.x_origin, exposure.y - exposure.y_origin)
    annulus = (distance > options.sky_radii[0]) & (distance < options.sky_radii[1]) & ~exposure.bad
    if not annulus.any():
        return exposure
    from_level = np.abs(exposure.image - np.median(exposure.image[annulus]))
    scatter = MAD_TO_STD * float(np.median(from_level[annulus]))
    # a pixel has the sky's noise and that of its light, by what most bright ones have
    own = np.abs(exposure.variance) - (0.0 if exposure.flat_variance is None else exposure.flat_variance)
    bright = ~exposure.bad & (from_level > _BRIGHT * scatter)
    per_electron = np.append(0.0, (own[bright] - scatter**2) / from_level[bright] if scatter > 0 else [])
    expected = scatter**2 + max(0.0, float(np.median(per_electron))) * np.where(exposure.bad, 0.0, from_level)
    # an image without noise has less than its variances say, which is told elsewhere; what is bad has any variance
    stated = max(0.0, float(np.median(own[annulus])) - scatter**2)
    absurd = ~exposure.bad & (expected + stated < _ABSURD**2 * own)
    if scatter == 0 or not absurd.any() or absurd[annulus].mean() > 0.5:
        return exposure
    told = f"{absurd.sum()} pixels have implausible variances; the noise of the sky and their light was used instead"
    variance, photons = np.where(absurd, expected, exposure.variance), exposure.photon_variance
    photons = None if photons is None else np.where(absurd, 0.0, photons)
    return replace(exposure, variance=variance, photon_variance=photons, warnings=(*exposure.warnings, told))
