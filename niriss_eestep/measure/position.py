"""Where the star is on an image, and what other point sources there are."""

import math
import warnings
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace

import numpy as np
import scipy

from niriss_eestep.arrays import Array, Mask
from niriss_eestep.errors import ExposureError
from niriss_eestep.measure.geometry import aperture_weights, box_about, distance_grid
from niriss_eestep.measure.stamp import Stamp

Render = Callable[[float, float, tuple[int, int]], Array]
Point = tuple[float, float]

#: the centre of mass has converged when it moves by less than this [pix]; 1e-4 pix is worth < 1e-6 of any EE
_CONVERGED = 1e-4
_MAX_ITERATIONS = 100
#: a model PSF is fitted this far from where the star was found at most, along either axis [pix]
_FIT_REACH = 2.0


@dataclass(frozen=True, slots=True)
class Centroid:
    """A source's measured position, 0-indexed in the array it was measured on; how bright it is, by `source_at`.

    Parameters
    ----------
    x, y : float
        Position [pix].
    x_err, y_err : float
        Standard errors from the pixels' variances [pix]; NaN where the method gives none.
    shift : float
        Distance from the first position [pix].
    method : str
        Name of the centroid method.
    rate, rate_err : float
        Count rate, as a star's that has as much light within 3 pix, and its standard error [DN/s]; NaN where it has not
        been looked at.
    is_significant : bool
        It stands out of the noise.
    is_star : bool
        It does, and its light is spread like the PSF's.
    """

    x: float
    y: float
    x_err: float
    y_err: float
    shift: float
    method: str
    rate: float = np.nan
    rate_err: float = np.nan
    is_significant: bool = False
    is_star: bool = False


def _window(n: int, centre: float, half: float) -> tuple[slice, Array, Array]:
    """The pixels that a window touches along an axis, their lengths within it, and the middles of these [pix]."""
    first, end = max(0, math.floor(centre - half + 0.5)), min(n, math.floor(centre + half + 0.5) + 1)
    edges = np.arange(first - 0.5, end)
    low, high = np.maximum(edges[:-1], centre - half), np.minimum(edges[1:], centre + half)
    return slice(first, end), np.maximum(high - low, 0.0), 0.5 * (low + high)


def centre_of_mass(
    image: Array, variance: Array, x: float, y: float, *, box: float = 7.0
) -> tuple[float, float, float, float]:
    """Centre of mass in a square window that follows the star.

    The window's edges cut pixels in proportion. A window of whole pixels pulls the position of a red star towards
    the pixel's centre by up to 0.2 pix, since more of one wing than of the other lies inside.

    Parameters
    ----------
    image : ndarray, shape (ny, nx)
        Background-subtracted, finite count rates.
    variance : ndarray, shape (ny, nx)
        Their variances.
    x, y : float
        Starting position [pix].
    box : float
        Side of the window [pix].

    Returns
    -------
    x, y, x_err, y_err : float
        Position and standard errors [pix]; these are infinite where the light holds no position.

    Raises
    ------
    ExposureError
        If the window leaves the image or holds no net flux, or the position does not settle.
    """
    ny, nx = image.shape
    half = box / 2
    for _ in range(_MAX_ITERATIONS):
        if not (-0.5 <= x <= nx - 0.5 and -0.5 <= y <= ny - 0.5):
            break
        rows, weight_y, middle_y = _window(ny, y, half)
        columns, weight_x, middle_x = _window(nx, x, half)
        weight = weight_y[:, None] * weight_x
        light = weight * image[rows, columns]
        flux = light.sum()
        if not flux > 0:
            break
        with np.errstate(over="ignore"):  # a flux of nearly nothing has its centre nowhere
            new_x, new_y = (light * middle_x).sum() / flux, (light * middle_y[:, None]).sum() / flux
        settled = max(abs(new_x - x), abs(new_y - y)) < _CONVERGED
        x, y = float(new_x), float(new_y)
        if settled:
            noise, errs = variance[rows, columns], []
            profiles = np.sum(weight_y[:, None] * image[rows], axis=0), np.sum(weight_x * image[:, columns], axis=1)
            for centre, middle, profile in zip((x, y), (middle_x, middle_y[:, None]), profiles, strict=True):
                err = float(np.sqrt(np.sum((weight * (middle - centre)) ** 2 * noise)) / flux)
                # a step of a window that follows the light moves the centre of mass by k of that step, by the light at
                # its two edges; all steps together go 1 + k + k^2 + ... = 1 / (1 - k) as far as the first
                edges = np.round([centre - half, centre + half]).astype(int)
                pixels, length, _ = _window(len(profile), centre, half)
                on_image = edges[(edges >= 0) & (edges < len(profile))]
                k = half * np.sum(profile[on_image]) / np.sum(length * profile[pixels])
                errs.append(float(err / (1 - k)) if k < 1 else np.inf)
            return x, y, errs[0], errs[1]
    raise ExposureError(f"the centre of mass in a {box:g} pix box does not settle on a star near the first position")


def _photutils_centroid(image: Array, x: float, y: float, box: int, method: str) -> tuple[float, float]:
    """Centroid by one of photutils' functions, in a box of whole pixels that follows the star."""
    from astropy.utils.exceptions import AstropyUserWarning
    from photutils import centroids

    try:
        with warnings.catch_warnings():
            # a fit that does not converge is no centroid; one that divides by zero gives none, as is seen below
            warnings.simplefilter("error", AstropyUserWarning)
            warnings.simplefilter("ignore", RuntimeWarning)
            function = getattr(centroids, f"centroid_{method}")
            for _ in range(3):
                (x,), (y,) = centroids.centroid_sources(image, x, y, box_size=box, centroid_func=function)
    except (AstropyUserWarning, ArithmeticError, RuntimeError, TypeError, ValueError) as error:
        raise ExposureError(f"photutils' centroid_{method} fails near the first position: {error}") from error
    if not np.isfinite([x, y]).all():
        raise ExposureError(f"photutils' centroid_{method} finds no star near the first position")
    return float(x), float(y)


def fill_for_search(image: Array, bad: Mask) -> Array:
    """Replace bad pixels by the mean of their good neighbours (3x3, then 5x5, ...), for finding a star only.

    Parameters
    ----------
    image : ndarray, shape (ny, nx)
    bad : ndarray of bool, shape (ny, nx)
        Pixels not to trust, whatever their values.

    Returns
    -------
    ndarray, shape (ny, nx)
        Finite wherever a good pixel lies within 3 pixels, zero elsewhere.
    """
    filled = np.where(bad, 0.0, image)
    empty = bad.copy()
    for size in (3, 5, 7):
        if not empty.any():
            break
        share = scipy.ndimage.uniform_filter((~bad).astype(float), size, mode="constant")
        mean = scipy.ndimage.uniform_filter(np.where(bad, 0.0, image), size, mode="constant")
        now = empty & (share > 0.5 / size**2)
        filled[now] = mean[now] / share[now]
        empty &= ~now
    return filled


def find_star(image: Array, bad: Mask, *, near: Point | None = None, radius: float = np.inf) -> tuple[int, int]:
    """Brightest compact source: the brightest pixel after 3x3 smoothing.

    A hot pixel that carries no flag is told from a star by its neighbours: at least one of the four next to a star's
    peak holds over 5 % of the peak, in every NIRISS filter and at every pixel phase.

    Parameters
    ----------
    image : ndarray, shape (ny, nx)
        Of any unit; what is bad may have any value.
    bad : ndarray of bool, shape (ny, nx)
        Pixels not to trust.
    near : (float, float), optional
        Search about this position only, (x, y) [pix].
    radius : float
        Radius of that search [pix].

    Returns
    -------
    x, y : int
        0-indexed pixel.

    Raises
    ------
    ExposureError
        If no usable pixel stands out.

    Examples
    --------
    >>> j, i = np.indices((41, 41))
    >>> star = 1000 * np.exp(-((i - 20.3) ** 2 + (j - 19.1) ** 2) / 4)
    >>> find_star(star, star < 0)
    (20, 19)
    """
    i0 = j0 = 0
    if near is not None:
        x, y = near
        i0, j0 = max(0, int(np.ceil(x - radius)) - 2), max(0, int(np.ceil(y - radius)) - 2)
        cut = (slice(j0, max(0, int(y + radius) + 3)), slice(i0, max(0, int(x + radius) + 3)))
        image, bad = image[cut], bad[cut]
    if image.size == 0 or bad.all():
        where = "" if near is None else f" within {radius:g} pix of the first position"
        raise ExposureError(f"no usable pixel{where}: there is no star to measure")
    filled = fill_for_search(image, bad)
    level = float(np.median(filled))
    excess = filled - level
    neighbours = np.max([np.roll(excess, s, axis=a) for a in (0, 1) for s in (-1, 1)], axis=0)
    compact = scipy.ndimage.uniform_filter(np.where(neighbours > 0.05 * excess, excess, 0.0), 3, mode="constant")
    if near is not None:
        jj, ii = np.indices(compact.shape)
        compact[np.hypot(ii + i0 - near[0], jj + j0 - near[1]) > radius] = -np.inf
    peak = int(np.argmax(compact))
    if not compact.flat[peak] > 0:
        raise ExposureError("no pixel stands out above the background: there is no star to measure")
    jp, ip = divmod(peak, compact.shape[1])
    return ip + i0, jp + j0


def fit_psf(image: Array, bad: Mask, x: float, y: float, render: Render, *, radius: float = 5.0) -> tuple[float, ...]:
    """Position and flux of a model PSF, by least squares on the good pixels around the star.

    Pixels are weighted by the inverse square root of the model's light, so that neither the peak, where a foreign
    PSF errs most, nor the wing decides alone.

    Parameters
    ----------
    image : ndarray, shape (ny, nx)
        Background-subtracted count rates.
    bad : ndarray of bool, shape (ny, nx)
    x, y : float
        Starting position [pix].
    render : callable
        ``render(x, y, shape)`` gives the fraction of the star's light in each pixel.
    radius : float
        Pixels within this distance are fitted [pix].

    Returns
    -------
    x, y, flux : float
        Position [pix], and total count rate [DN/s].

    Raises
    ------
    ExposureError
        If the fit fails or leaves its neighbourhood.

    Examples
    --------
    >>> from niriss_eestep.reference import load_psf_images
    >>> render = load_psf_images()["F200W"].render
    >>> star = 5000 * render(30.3, 29.8, (61, 61))
    >>> bad = np.zeros(star.shape, dtype=bool)
    >>> bad[30, 30] = True  # its peak
    >>> np.round(fit_psf(star, bad, 30.0, 30.0, render), 3)
    array([  30.3,   29.8, 5000. ])
    """
    from scipy.optimize import least_squares

    # what lies beyond the radius is not worth its time
    j0, i0 = max(0, math.ceil(y - radius)), max(0, math.ceil(x - radius))
    near = slice(j0, max(0, int(y + radius) + 1)), slice(i0, max(0, int(x + radius) + 1))
    image, bad, x, y = image[near], bad[near], x - i0, y - j0
    use = (distance_grid(image.shape, x, y) <= radius) & ~bad
    data = image[use]
    if data.size < 10:
        raise ExposureError(f"{data.size} good pixels within {radius:g} pix of the star are too few to fit a model PSF")
    weight = 1 / np.sqrt(np.maximum(render(x, y, image.shape)[use], 1e-6))

    def flux_of(model: Array) -> float:
        return float(np.sum(weight**2 * model * data) / np.sum(weight**2 * model**2))

    def residual(offset: Array) -> Array:
        model = render(x + offset[0], y + offset[1], image.shape)[use]
        return weight * (data / flux_of(model) - model)

    # steps of 0.02 pix are far above the model's numerical noise and far below its structure
    fit = least_squares(residual, (0.0, 0.0), diff_step=0.02, bounds=(-_FIT_REACH, _FIT_REACH), xtol=1e-5, ftol=1e-6)
    if not fit.success:
        raise ExposureError(f"the model PSF cannot be fitted: {fit.message}")
    if np.any(np.abs(fit.x) > 0.99 * _FIT_REACH):
        raise ExposureError(f"the model PSF runs {_FIT_REACH:g} pix off x={x + i0:.1f}, y={y + j0:.1f} of the stamp")
    best_x, best_y = x + float(fit.x[0]), y + float(fit.x[1])
    return best_x + i0, best_y + j0, flux_of(render(best_x, best_y, image.shape)[use])


def measure_centroid(
    image: Array, variance: Array, bad: Mask, first: Point, method: str = "com", box: int = 7, radius: float = 5.0
) -> Centroid:
    """Find the star near a first position and measure its centroid.

    Parameters
    ----------
    image, variance : ndarray, shape (ny, nx)
        Background-subtracted count rates [DN/s] and their variances.
    bad : ndarray of bool, shape (ny, nx)
        Pixels not to trust; for the centroid they take the mean of their neighbours.
    first : (float, float)
        First position (x, y) [pix].
    method : {'com', 'quadratic', '1dg', '2dg'}
        Centre of mass (`centre_of_mass`), or photutils' ``centroid_*`` of that name.
    box : int
        Side of the centroid box [pix]; odd.
    radius : float
        The star is the brightest compact source within this distance of the first position [pix].

    Returns
    -------
    Centroid

    Raises
    ------
    ExposureError
        If there is no star.

    Examples
    --------
    >>> j, i = np.indices((41, 41))
    >>> star = 1000 * np.exp(-((i - 20.3) ** 2 + (j - 19.1) ** 2) / 4)
    >>> nothing = np.zeros(star.shape)
    >>> found = measure_centroid(star, nothing, nothing > 0, first=(22, 18))
    >>> round(found.x, 2), round(found.y, 2)
    (20.3, 19.1)
    """
    peak_x, peak_y = find_star(image, bad, near=first, radius=radius)
    filled = fill_for_search(image, bad)
    x_err = y_err = np.nan
    if method == "com":
        noise = np.where(bad, 0.0, variance)
        new_x, new_y, x_err, y_err = centre_of_mass(filled, noise, peak_x, peak_y, box=box)
    else:
        new_x, new_y = _photutils_centroid(filled, peak_x, peak_y, box, method)
    shift = float(np.hypot(new_x - first[0], new_y - first[1]))
    if shift > radius + box / 2:
        raise ExposureError(
            f"no star within search_radius={radius:g} pix: the centroid is {shift:.0f} pix off; give source_x, source_y"
        )
    return Centroid(new_x, new_y, x_err, y_err, shift, method)


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


def source_at(exposure: Stamp, place: Centroid, ee: Callable[..., Array], pixel: float = 1.0) -> Centroid:
    """Measure how bright a source is, coarsely.

    Parameters
    ----------
    exposure : Stamp
        What is around it, 12 pix or more.
    place : Centroid
        Where it is [pix of the exposure].
    ee : callable
        EE of the PSF at radii [pix of the detector].
    pixel : float
        Size of the image's pixels [pix of the detector].

    Returns
    -------
    Centroid
        That place, with how bright the source is: by the light within 3 pix (5 where less than 80 % of it lies on good
        pixels) over the PSF's.
    """
    radii, sky_radii = np.array(RADII) / pixel, np.array(SKY) / pixel
    i, j = place.x - exposure.x_origin, place.y - exposure.y_origin
    cut = box_about(i, j, int(sky_radii[1]) + 2)
    image, variance, good = exposure.image[cut], exposure.variance[cut], ~exposure.bad[cut]
    if not good.any():
        return replace(place, rate=0.0, rate_err=np.inf)
    i, j = i - cut[1].start, j - cut[0].start
    distance = distance_grid(image.shape, i, j)
    sky = image[good & (distance > sky_radii[0]) & (distance < sky_radii[1])]
    level, noise = (np.median(sky), 1.4826 * np.median(np.abs(sky - np.median(sky)))) if sky.size else (0.0, np.inf)
    weights = aperture_weights(image.shape, i, j, radii)
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
    significant, like = bool(rates[k] > SIGMA * errs[k]), not np.any(off & (held[:-1] > HELD))
    rate, err = float(np.nan_to_num(rates[k])), float(np.nan_to_num(errs[k], nan=np.inf))
    return replace(place, rate=rate, rate_err=err, is_significant=significant, is_star=significant and like)


def find_sources(exposure: Stamp, ee: Callable[..., Array], pixel: float = 1.0) -> list[Centroid]:
    """Find the significant sources of an image.

    Parameters
    ----------
    exposure : Stamp
    ee, pixel
        As for `source_at`.

    Returns
    -------
    list of Centroid
        With how bright they are, the brightest first; 20 at most.
    """
    filled = fill_for_search(exposure.image, exposure.bad)
    level = np.median(filled)
    smooth = scipy.ndimage.uniform_filter(filled - level, 3, mode="constant")
    peaks = np.flatnonzero((smooth == scipy.ndimage.maximum_filter(smooth, 2 * _APART + 1)) & (smooth > 0))
    found: list[Centroid] = []
    for peak in peaks[np.argsort(smooth.flat[peaks])[::-1][:_LOOKED_AT]]:
        j, i = divmod(int(peak), smooth.shape[1])
        cut = box_about(i, j, 2 * _APART)
        image, i0, j0 = exposure.image[cut] - level, cut[1].start, cut[0].start
        with suppress(ExposureError):
            at, noise, bad = (i - i0, j - j0), exposure.variance[cut], exposure.bad[cut]
            centre = measure_centroid(image, noise, bad, at, box=5, radius=_APART / 2)
            x, y = centre.x + i0 + exposure.x_origin, centre.y + j0 + exposure.y_origin
            found.append(source_at(exposure, replace(centre, x=x, y=y), ee, pixel))
    return sorted((source for source in found if source.is_significant), key=lambda source: -source.rate)


def the_star(first: Centroid, others: list[Centroid], expected: float | None) -> Centroid | None:
    """Choose the source that is the star.

    Parameters
    ----------
    first : Centroid
        At the first position.
    others : list of Centroid
        Elsewhere, the brightest first.
    expected : float or None
        Count rate that the star should give [DN/s]; None where its spectrum is not known.

    Returns
    -------
    Centroid or None
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
