"""The point sources of an image, and whether the one that was measured is the star."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import scipy

from niriss_eestep.arrays import Array
from niriss_eestep.errors import ExposureError
from niriss_eestep.measure.geometry import aperture_weights, distance_grid
from niriss_eestep.measure.position import fill_for_search, measure_centroid
from niriss_eestep.measure.stamp import Stamp

#: apertures by which a source is compared with the PSF, the second one for its flux, and the sky around it [pix]
RADII, SKY = (1.0, 3.0, 5.0), (8.0, 12.0)

#: a source's light within 1 pix over that within 3, and that over the light within 5, differ from the PSF's by this
#: share at most: pixel phases and wavefronts move it by a few percent, one hot pixel by 30 to 80 %
LIKE_SHARE = 0.2

#: where good pixels hold less of an aperture's light, it says nothing
HELD = 0.5

#: below this many standard errors there is no source, and beyond them none is like a star
SIGMA = 5.0

#: a star that is this many times brighter or fainter than its spectrum says may be another; one within this share of
#: what it says, at another place, is it. In-flight factors lie within 10 % of 1, and coarse photometry within 5 %
FAR, NEAR = 2.0, 0.3

#: a source unlike the PSF is none beside a star this many times brighter, whose wing it may be
WING = 100.0

#: sources looked at, the brightest first, and the distance between two of them [pix]
_LOOKED_AT, _APART = 20, 4


@dataclass(frozen=True, slots=True)
class Source:
    """A point source.

    Parameters
    ----------
    x, y : float
        Position [pix of the exposure, 0-indexed].
    rate, err : float
        Total count rate by the light within 3 pix, and its standard error [DN/s].
    is_star : bool
        It is significant, and its light is spread like the PSF's.
    """

    x: float
    y: float
    rate: float
    err: float
    is_star: bool

    @property
    def is_significant(self) -> bool:
        """Whether it stands out of the noise."""
        return self.rate > SIGMA * self.err


def source_at(exposure: Stamp, x: float, y: float, ee: Callable[..., Array], pixel: float = 1.0) -> Source:
    """Measure how bright a source is, coarsely.

    Parameters
    ----------
    exposure : Stamp
    x, y : float
        Its position [pix of the exposure].
    ee : callable
        EE of the PSF at radii [pix of the detector].
    pixel : float
        Size of the image's pixels [pix of the detector].

    Returns
    -------
    Source
    """
    radii, sky_radii = np.array(RADII) / pixel, np.array(SKY) / pixel
    i, j = x - exposure.x_origin, y - exposure.y_origin
    reach = int(sky_radii[1]) + 2
    i0, j0 = max(0, round(i) - reach), max(0, round(j) - reach)
    cut = (slice(j0, max(0, round(j) + reach + 1)), slice(i0, max(0, round(i) + reach + 1)))
    image, variance, good = exposure.image[cut], exposure.variance[cut], ~exposure.bad[cut]
    if not good.any():
        return Source(x, y, 0.0, np.inf, False)
    distance = distance_grid(image.shape, i - i0, j - j0)
    sky = image[good & (distance > sky_radii[0]) & (distance < sky_radii[1])]
    level, noise = (np.median(sky), 1.4826 * np.median(np.abs(sky - np.median(sky)))) if sky.size else (0.0, np.inf)
    weights = aperture_weights(image.shape, i - i0, j - j0, radii)
    used = weights * good
    # the light that bad pixels lack, were the PSF round
    edges = np.maximum(distance * pixel + np.array([[[-0.5]], [[0.5]]]), 0.0)
    density = np.diff(ee(edges.ravel()).reshape(edges.shape), axis=0)[0] / np.diff(edges**2, axis=0)[0]
    held = np.sum(used * density, axis=(1, 2)) / np.sum(weights * density, axis=(1, 2))
    light = np.sum(used * np.where(good, image - level, 0.0), axis=(1, 2))
    # the sky's scatter, where the variances say less; its median errs by 1.25 times a mean's error
    area = used.sum(axis=(1, 2))
    err = np.sqrt(np.maximum(np.sum(used**2 * np.where(good, variance, 0.0), axis=(1, 2)), area * noise**2))
    err = np.hypot(err, 1.2533 * area * noise / np.sqrt(max(1, sky.size)))
    with np.errstate(divide="ignore", invalid="ignore"):
        rates, errs = light / (held * ee(np.array(RADII))), err / (held * ee(np.array(RADII)))
        off = np.abs(rates[:-1] / rates[1:] - 1) > LIKE_SHARE + 3 * errs[1:] / rates[1:]
    k = 1 if held[1] > 1 - LIKE_SHARE else 2
    star = rates[k] > SIGMA * errs[k] and not np.any(off & (held[:-1] > HELD))
    return Source(x, y, float(np.nan_to_num(rates[k])), float(np.nan_to_num(errs[k], nan=np.inf)), bool(star))


def find_sources(exposure: Stamp, ee: Callable[..., Array], pixel: float = 1.0) -> list[Source]:
    """Find the significant sources of an image.

    Parameters
    ----------
    exposure : Stamp
    ee, pixel
        As for `source_at`.

    Returns
    -------
    list of Source
        The brightest first; 20 at most.
    """
    filled = fill_for_search(exposure.image, exposure.bad)
    level = np.median(filled)
    smooth = scipy.ndimage.uniform_filter(filled - level, 3, mode="constant")
    peaks = np.flatnonzero((smooth == scipy.ndimage.maximum_filter(smooth, 2 * _APART + 1)) & (smooth > 0))
    found: list[Source] = []
    for peak in peaks[np.argsort(smooth.flat[peaks])[::-1][:_LOOKED_AT]]:
        j, i = divmod(int(peak), smooth.shape[1])
        j0, i0 = max(0, j - 2 * _APART), max(0, i - 2 * _APART)
        cut = (slice(j0, j + 2 * _APART + 1), slice(i0, i + 2 * _APART + 1))
        image = exposure.image[cut] - level
        try:
            centre = measure_centroid(
                image, exposure.variance[cut], exposure.bad[cut], (i - i0, j - j0), box=5, search_radius=_APART / 2
            )
        except ExposureError:
            continue
        x, y = centre.x + i0 + exposure.x_origin, centre.y + j0 + exposure.y_origin
        found.append(source_at(exposure, x, y, ee, pixel))
    return sorted((source for source in found if source.is_significant), key=lambda source: -source.rate)


def the_star(first: Source, others: list[Source], expected: float | None) -> Source | None:
    """Choose the source that is the star.

    Parameters
    ----------
    first : Source
        At the first position.
    others : list of Source
        Elsewhere, the brightest first.
    expected : float or None
        Count rate that the star should give [DN/s]; None where its spectrum is not known.

    Returns
    -------
    Source or None
        None where none is.
    """
    limit = WING * first.rate if first.is_significant else 0.0
    brighter = next((s for s in others if s.is_star and s.rate > limit and not first.is_star), None)
    if expected is not None:
        near = [s for s in others if s.is_star and abs(s.rate / expected - 1) < NEAR]
        chosen = min(near, key=lambda s: abs(s.rate / expected - 1), default=None)
    else:
        chosen = brighter
    return first if chosen is None and brighter is None and first.is_significant else chosen
