"""The star on its stamp, beside its model image: where it is, bad pixels that no flag tells, and light of others.

A star's image differs from a model PSF by what the wavefront of its day does. Single in-flight wavefronts of 56, 68
and 80 nm rms, with and without inter-pixel capacitance, at random pixel phases in the 12 filters (576 images), stay
within

    tolerance = 0.35 m3 + 0.25 S / max(r, 2)^2 + 1e-4

of the star's light: m3 is the largest of the 3x3 pixels of the model about a pixel (errors of the position, the width
and the core), S the sum of the squares of the model (a sharp PSF has bright speckles), r the distance from the star
[pix], and the last term holds the speckles that red filters have far out. The worst of 576 noisy images of other
wavefronts reaches 0.81 of tolerance and noise together. What a pixel has beyond both is not the star's.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import scipy

from niriss_eestep.arrays import Array, Mask
from niriss_eestep.errors import ExposureError, ParameterError
from niriss_eestep.measure.background import Background
from niriss_eestep.measure.geometry import distance_grid
from niriss_eestep.measure.position import Centroid, Render, find_star, fit_psf, measure_centroid
from niriss_eestep.measure.stamp import EEOptions, Stamp

#: the centroid may be this far off [pix] (0.03 pix on the packaged PSFs, 0.15 on sharper ones): a bad pixel that lies
#: beyond the core must not fail an exposure for it
CENTROID_MARGIN = 0.3

#: coefficients of the tolerance; see the module's docstring
_LOCAL, _SPECKLE, _FLOOR = 0.35, 0.25, 1e-4

#: a good pixel keeps this share of the model's light at least: the images have 0.17 or more within this radius [pix]
_DARK, _DARK_RADIUS = 0.08, 10.0

#: of 1,000 pixels of normal noise 2e-6 lie beyond
_SIGMA = 6.0

#: the star's rate is that of the pixels within this radius [pix] that hold this share of the peak at least
_CORE, _CORE_SHARE = 4.0, 0.01

#: pixels within this distance decide where the star is [pix]
_PLACED_BY = 5.0

#: a pixel this many standard errors below the sky is not lit; what is less dark is found beside the star's model
_DEEP = 100.0
#: a value of so many pixels is none, where those are less than this share of all: of 1e4 numbers of 24 bits with normal
#: noise 0.1 to 5 pairs are equal, and one group of four in 1e9 images
_REPEATED, _FEW = 4, 0.1
#: a row or column with this share of unexplained pixels is bad, if it is that long [pix]
_MOSTLY, _LINE = 0.6, 11

#: rounds of fitting the star without the pixels that no star explains; more of those are no star's bad pixels
_ROUNDS, _MOST = 12, 60

#: a PSF explains this share of the squares of a star's 5x5 pixels, and up to 0.9 of a single hit's (F090W, centred); on
#: the core itself [pix] no other star is looked for
_STAR_LIKE, _STAR_FROM = 0.95, 1.5


#: so many pixels side by side that have this share of what stands out, 2.4 standard deviations, and one at least that
#: does, are a snowball; it is taken twice as wide, as jwst's jump step does (expand_factor)
_WIDE, _FAINT, _AROUND = 9, 0.4, np.ones((3, 3), dtype=bool)

#: what an aperture touches lies up to this far beyond its radius [pix]
HALF_DIAGONAL = 0.7

#: a status names this many pixels
_LISTED = 4


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
    ee: Callable[..., Array] | None = None
    ee_err: Callable[..., Array] | None = None
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
    sky : Background
    model : ndarray, shape (ny, nx), or None
        Fraction of its light in each pixel by the model PSF, less that in the sky annulus; None where there is no
        image of the PSF.
    tolerance : ndarray, shape (ny, nx), or None
        How far its light may differ from the model in each pixel, as a fraction of all of it.
    psf : PSFModel
    """

    x: float
    y: float
    distance: Array
    sky: Background
    model: Array | None
    tolerance: Array | None
    psf: PSFModel


#: what has been found of stamps, by all that decides it: the stamp with sound errors and without dead pixels; by the
#: pixels then taken as bad (as bytes), the centroid in the stamp's frame and its star; and by these the pixels of the
#: core that do not fit their neighbours
Known = dict[tuple[Any, ...], tuple[Stamp, dict[bytes, tuple[Centroid, Star]], dict[bytes, Mask]]]


def star_at(x: float, y: float, sky: Background, psf: PSFModel) -> Star:
    """Put a star's model where it is, less its own light in the sky annulus: what it leaves in the image less the sky.

    That light is 0.3 to 1 % of the pixels next to the peak in F480M; a model scaled to them without it is as much low.

    Parameters
    ----------
    x, y : float
        The star in the stamp's frame [pix].
    sky : Background
    psf : PSFModel

    Returns
    -------
    Star
    """
    shape = sky.weights.shape
    distance = distance_grid(shape, x, y)
    if psf.render is None:
        return Star(x, y, distance, sky, None, None, psf)
    model = psf.render(x, y, shape)
    model = np.asarray(model - np.sum(sky.weights * model))
    brightest = scipy.ndimage.maximum_filter(model, 3, mode="nearest")
    tolerance = _LOCAL * brightest + _SPECKLE * float(np.sum(model**2)) / np.maximum(distance, 2.0) ** 2 + _FLOOR
    return Star(x, y, distance, sky, model, tolerance, psf)


def locate_star(exposure: Stamp, options: EEOptions, psf: PSFModel | None = None) -> Centroid:
    """Measure the star's centroid, by the model PSF where bad pixels in the core bias any other.

    Parameters
    ----------
    exposure : Stamp
    options : EEOptions
    psf : PSFModel, optional

    Returns
    -------
    Centroid
        In the stamp's frame.

    Raises
    ------
    ExposureError
        If there is no star.
    """
    bad = exposure.bad
    if bad.all():
        raise ExposureError(f"every pixel near x={exposure.x:.1f}, y={exposure.y:.1f} is bad")
    # the faint quarter of a stamp is sky, whatever the star's wing does
    image = exposure.image - np.percentile(exposure.image[~bad], 25)
    first, reach = (exposure.x - exposure.x_origin, exposure.y - exposure.y_origin), options.search_radius
    render = psf.render if psf is not None and options.repair_core else None
    failure = None
    try:
        how = options.centroid_method, options.centroid_box, reach
        found = measure_centroid(image, exposure.variance, bad, first, *how)
    except ExposureError as error:
        # what is left of a saturated core need not settle anywhere; the model PSF does
        found = Centroid(*find_star(image, bad, near=first, radius=reach), np.nan, np.nan, np.nan, "psf")
        failure = error
    j, i = np.nonzero(bad)
    in_core = np.hypot(i - found.x, j - found.y) <= options.core_radius - CENTROID_MARGIN
    if render is not None and in_core.any():
        x, y, _ = fit_psf(image, bad, found.x, found.y, render, radius=options.core_radius)
        return Centroid(x, y, np.nan, np.nan, float(np.hypot(x - first[0], y - first[1])), "psf")
    if failure is not None:
        raise failure
    return found


def compare(exposure: Stamp, bad: Mask, star: Star) -> tuple[float, Array, Array]:
    """Compare an exposure with the model image of its star, pixel by pixel.

    The star's rate is the weighted median of the pixels' ratios to the model, which a few bad ones do not move.

    Parameters
    ----------
    exposure : Stamp
    bad : ndarray of bool, shape (ny, nx)
        Pixels that do not decide the star's rate.
    star : Star
        With a model.

    Returns
    -------
    rate : float
        Count rate of the star by the model [DN/s].
    residual : ndarray, shape (ny, nx)
        Image less background and model [DN/s].
    ratio : ndarray, shape (ny, nx)
        Its size over what the PSF and the noise allow; above 1 no star explains the pixel. Not of bad pixels alone.

    Raises
    ------
    ParameterError
        If the star has no model.
    """
    if star.model is None or star.tolerance is None:
        raise ParameterError("a comparison needs a model of the star")
    sky, model, distance = star.sky, star.model, star.distance
    image = exposure.image - sky.value
    use = ~bad & (distance <= _CORE) & (model > _CORE_SHARE * model.max())
    if not use.any():
        return 0.0, image, np.zeros(image.shape)
    ratio, weight = image[use] / model[use], np.sqrt(model[use])
    order = np.argsort(ratio)
    rate = float(ratio[order][np.searchsorted(np.cumsum(weight[order]), weight.sum() / 2)])
    light = max(rate, 0.0) * model
    allowed = max(rate, 0.0) * star.tolerance
    variance = np.where(exposure.bad, 0.0, exposure.variance)
    # a pixel that should be brighter has the noise that it would have then: an electron's variance, read noise and all
    electron = max(float(np.median(variance[use] / np.maximum(np.abs(image[use]), np.finfo(float).tiny))), 0.0)
    noise = np.maximum(variance, np.nan_to_num(sky.std) ** 2)
    dark = np.maximum(light - allowed, np.where(distance <= _DARK_RADIUS, _DARK * light, -np.inf))
    edge = np.where(image > light, light + allowed, dark)
    reach = np.abs(edge - light) + _SIGMA * np.sqrt(noise + electron * np.maximum(edge - image, 0.0))
    residual = np.where(exposure.bad, 0.0, image - rate * model)
    return rate, residual, np.abs(residual) / np.where(reach > 0, reach, np.inf)


def without_dead(exposure: Stamp) -> Stamp:
    """Take unflagged pixels as bad that no measurement gives, and say so.

    They lie as far below the sky as the star is above it, or share one value along a row or column: noise does not
    repeat itself.

    Parameters
    ----------
    exposure : Stamp

    Returns
    -------
    Stamp
    """
    if exposure.bad.all():
        return exposure
    image, seen = exposure.image, ~exposure.bad
    level = float(np.median(image[seen]))
    noise = np.sqrt(np.where(seen, exposure.variance, 0.0)) + float(np.median(np.abs(image[seen] - level)))
    dead = level - image > np.maximum(_DEEP * noise, image[seen].max() - level)
    value, count = np.unique(image[seen], return_counts=True)
    if (repeated := value[count >= _REPEATED]).size:
        same = np.isin(image, repeated) & seen
        lines = same & _full_lines(same, seen)
        # of whole numbers, and of a scene without noise, others are repeated too; a model's image ends in such a line
        if lines.sum() < _FEW * seen.sum() and np.array_equal(lines, same):
            dead[1:-1, 1:-1] |= lines[1:-1, 1:-1]
    dead &= seen
    return taken_as_bad(exposure, dead) if dead.any() else exposure


def _full_lines(part: Mask, whole: Mask) -> Mask:
    """The rows and columns of which a part is most of the pixels."""
    full = (part.sum(k, keepdims=True) > _MOSTLY * whole.sum(k, keepdims=True).clip(_LINE) for k in (0, 1))
    return np.logical_or(*full)


def taken_as_bad(exposure: Stamp, odd: Mask) -> Stamp:
    """Take unflagged pixels as bad, and say so.

    Parameters
    ----------
    exposure : Stamp
    odd : ndarray of bool, shape (ny, nx)

    Returns
    -------
    Stamp
    """
    every = odd if exposure.unexplained is None else odd | exposure.unexplained
    places = [f"x={i + exposure.x_origin}, y={j + exposure.y_origin}" for j, i in np.argwhere(every)]
    listed = "; ".join(places[:_LISTED]) + (f" and {len(places) - _LISTED} more" if len(places) > _LISTED else "")
    told = "unflagged pixel(s) that do not fit the star were treated as bad"
    earlier = tuple(warning for warning in exposure.warnings if told not in warning)
    warnings = (*earlier, f"{len(places)} {told}: {listed}")
    return replace(exposure, bad=exposure.bad | odd, unexplained=every, warnings=warnings)


def unexplained_pixels(exposure: Stamp, star: Star, radius: float) -> Mask:
    """Find the unflagged pixels that no star can explain, fitting the star without them until none stands out.

    Parameters
    ----------
    exposure : Stamp
    star : Star
        Where it was found.
    radius : float
        Pixels up to this distance from the star are judged [pix].

    Returns
    -------
    ndarray of bool, shape (ny, nx)
        None of them where there is no model, or no star that explains the other pixels: the image is of something
        else. Light that a second star would give is no bad pixel's.
    """
    nothing = np.zeros(exposure.bad.shape, dtype=bool)
    if star.psf.render is None:
        return nothing
    image, out = exposure.image - star.sky.value, nothing.copy()
    for _ in range(_ROUNDS):
        (rate, residual, ratio), near = compare(exposure, exposure.bad | out, star), star.distance <= radius
        ratio = np.where(near, ratio, 0.0)
        worst = float(np.max(ratio, where=~out, initial=0.0))
        if worst <= 1 and not out.any():
            return nothing
        if rate > 0 and worst <= 1:
            bad = of_bad_pixels(out & (ratio > 1), residual, star)
            # a snowball is wider than what stands out of the noise
            faint = (residual > 0) & (ratio > _FAINT)
            if (bad & faint).any():
                groups, _ = scipy.ndimage.label(scipy.ndimage.binary_propagation(bad & faint, _AROUND, faint), _AROUND)
                size = np.bincount(groups.ravel())[1:]
                wide, spread = np.isin(groups, np.flatnonzero(size >= _WIDE) + 1), np.sqrt(size.max() / np.pi)
                around = scipy.ndimage.binary_dilation(wide, _AROUND, int(np.ceil(spread)))
                bad |= around & (star.distance > _PLACED_BY / 2)
            return bad & near & ~exposure.bad
        out |= ratio > max(1.0, 0.5 * worst)
        # a row or column that is bad for the most part is so beyond the pixels looked at too, in the sky's annulus
        if (lines := _full_lines(out & near, near)).any():
            return lines & ~exposure.bad
        if not rate > 0 or out.sum() > _MOST:
            return nothing
        if (out & (star.distance <= _PLACED_BY)).any():
            try:
                x, y, _ = fit_psf(image, exposure.bad | out, star.x, star.y, star.psf.render, radius=_PLACED_BY)
            except ExposureError:
                return nothing
            star = star_at(x, y, star.sky, star.psf)
    return nothing


def of_bad_pixels(out: Mask, residual: Array, star: Star) -> Mask:
    """Those of the pixels that stand out which are not lit by another star: too dark ones, and single bright ones.

    Parameters
    ----------
    out : ndarray of bool, shape (ny, nx)
        Pixels that stand out.
    residual : ndarray, shape (ny, nx)
        Image less the model of the star [DN/s].
    star : Star

    Returns
    -------
    ndarray of bool, shape (ny, nx)
    """
    bad = out & (residual < 0)
    groups, n = scipy.ndimage.label(out & (residual > 0), structure=np.ones((3, 3)))
    for k in range(1, n + 1):
        j, i = np.unravel_index(np.argmax(np.where(groups == k, residual, -np.inf)), residual.shape)
        if star.distance[j, i] < _STAR_FROM or not _is_starlike(residual, int(j), int(i), star.psf):
            bad |= groups == k
    return bad


def _is_starlike(residual: Array, j: int, i: int, psf: PSFModel) -> bool:
    """Whether a PSF somewhere on a pixel explains the light about it."""
    cut = residual[max(j - 2, 0) : j + 3, max(i - 2, 0) : i + 3]
    y, x = min(j, 2), min(i, 2)
    phases = (-0.4, -0.2, 0.0, 0.2, 0.4)
    stars = [psf.render(x + dx, y + dy, cut.shape) for dx in phases for dy in phases] if psf.render else []
    explained = max((float(np.sum(star * cut)) ** 2 / float(np.sum(star**2)) for star in stars), default=0.0)
    return explained > _STAR_LIKE * float(np.sum(cut**2))
