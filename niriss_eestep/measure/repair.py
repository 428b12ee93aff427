"""Bad pixels: which they are, what to put in their place, and how well that does.

Every method is judged on the image itself: it also predicts the *good* pixels at the same distance from the star, each
from its neighbours alone, and the mean square of those residuals, less the pixels' own noise, is the variance that a
repaired pixel carries.

What became of each pixel around the star: for figures, and for people who ask why.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache, partial
from itertools import accumulate, product
from typing import Any

import numpy as np
import scipy
from numpy.typing import NDArray

from niriss_eestep.arrays import Array, Mask
from niriss_eestep.errors import ExposureError, ParameterError
from niriss_eestep.instrument import CHARGELOSS, DO_NOT_USE, SATURATED
from niriss_eestep.measure.stamp import BOX, Stamp
from niriss_eestep.measure.star_model import Star

#: degree of the surface through the pixels of a box (method of CAP-020, 2021)
DEGREE = 3
#: Gaussian weights of the surface fit [pix]; of 1, 1.25, 1.5, 2 and equal weights this has the smallest errors on the
#: packaged PSFs (15 NaN + 5 low pixels at 5-16 pix) in F090W, F150W, F356W and F480M; in F277W equal weights do better
_SURFACE_SIGMA = 1.0
#: each repaired pixel keeps its weights for every pixel of the stamp; 1 GB of them is no repair any more
_WEIGHTS_MAX = 1024**3 // 8
#: where less than this share of a box is good, errors of repaired pixels are judged together, where this share of their
#: pattern lies on good pixels
_CLUSTERED, _MOSTLY = 0.85, 0.8
#: the box without its centre: a good pixel is judged as a bad one is replaced, from its neighbours alone
_AROUND = np.ones((BOX, BOX), dtype=bool)
_AROUND[BOX // 2, BOX // 2] = False
#: good pixels within this distance in radius are predicted too, to judge a method [pix]
_SIMILAR_RADIUS = 1.5
#: width of the radial trend's Gaussian weights, and the step at which it is worked out [pix]; of 0.35, 0.45, 0.6 and
#: 0.8 the first two have the same errors within a tenth, the others larger ones (twice in F480M)
_TREND_WIDTH = 0.45
#: so far beyond the place where the trend is wanted it takes pixels in [pix]
TREND_MARGIN = 3 * _TREND_WIDTH
_TREND_STEP = 0.25
_TREND_BIN = 0.1
#: the trend is worked out at this many steps at a time, from the bins within this distance [pix], beyond which the
#: weights are below 1e-13: the work grows with the radius, not with its square
_TREND_BLOCK = 32
_TREND_REACH = 8 * _TREND_WIDTH

#: relative size of the rounding errors of a mean of some thousand pixels, with room to spare
_ROUNDING = 1e-9


@dataclass(frozen=True, slots=True, eq=False)
class Repair:
    """What was put in the place of bad pixels.

    Parameters
    ----------
    index : ndarray of int, shape (n,)
        Flat indices of the repaired pixels.
    value : ndarray, shape (n,)
        Their new count rates.
    weights : ndarray, shape (n, ny, nx)
        How each depends on the other pixels: noise of those is noise of the repaired one.
    variance : ndarray, shape (n,)
        Variance of the method itself, measured on the good pixels at the same distance from the star; below zero where
        chance lets those scatter less than their noise.
    common_err : ndarray, shape (n_causes, n)
        Standard errors that they share, whatever else each has: each row has one cause.
    """

    index: NDArray[np.int64]
    value: Array
    weights: Array
    variance: Array
    common_err: Array


#: one method's values for the bad pixels, shape (n,), and their weights, shape (n, ny, nx); and a function that gives
#: its residuals on the good ones, value less prediction from the neighbours alone, valid where the whole box is good,
#: and the variance that the noise alone gives those, shape (ny, nx)
Prediction = tuple[Array, Array, Callable[[], tuple[Array, Array]]]


@lru_cache(maxsize=1024)
def _surface_kernel(pattern: bytes) -> Array | None:
    """Weights by which a polynomial fitted to the good pixels of a square box predicts its centre.

    Near pixels count more: Gaussian weights of `_SURFACE_SIGMA`.

    Parameters
    ----------
    pattern : bytes
        Of the box, good pixels not 0.

    Returns
    -------
    ndarray or None
        None where they do not determine it.
    """
    half = math.isqrt(len(pattern)) // 2
    good = np.frombuffer(pattern, dtype=bool).reshape(2 * half + 1, -1)
    j, i = np.nonzero(good)
    u, v = i - half, j - half
    root = np.exp(-0.25 * (u**2 + v**2) / _SURFACE_SIGMA**2)
    for degree in range(DEGREE, -1, -1):
        terms = [root * u**p * v**q for p in range(degree + 1) for q in range(degree + 1 - p)]
        # half as many pixels again as coefficients, or the surface follows the noise
        if len(root) >= 1.5 * len(terms) and len(root) > 2:
            kernel = np.zeros(good.shape)
            # at the centre only the constant term is not zero
            kernel[good] = np.linalg.pinv(np.array(terms).T, rcond=1e-8)[0] * root
            return kernel
    return None


def by_surface(
    image: Array, noise: Array, good: Mask, todo: Mask, distance: Array, *,
    trend: Array | None = None, light: Array | float = 0.0,
) -> Prediction:  # fmt: skip
    """Predict by the mean radial profile, plus a surface of degree 3 fitted to what is left of it in a 7x7 box.

    Parameters
    ----------
    image, noise : ndarray, shape (ny, nx)
        Count rates [DN/s] and variances, these zero at bad pixels.
    good, todo : ndarray of bool, shape (ny, nx)
        Pixels to trust, and pixels to repair.
    distance : ndarray, shape (ny, nx)
        Distance from the star [pix].
    trend : ndarray, shape (ny, nx), optional
        From `radial_trend`, where it is known already.
    light : ndarray, shape (ny, nx), optional
        A model of the star, to which profile and surface are added: its spikes are no matter of the neighbours then.

    Returns
    -------
    Prediction

    Raises
    ------
    ExposureError
        If a bad pixel has no good pixel near it.
    """
    if trend is None:
        rest = np.where(good, image - light, 0.0)
        trend = light + radial_trend(rest, good, distance, float(distance[todo].max()) + BOX)
    rest = np.where(good, image - trend, 0.0)
    weights, pad = np.zeros((todo.sum(), *good.shape)), cache(partial(np.pad, good & ~todo))
    for k, (j, i) in enumerate(np.argwhere(todo)):
        for half in range(BOX // 2, max(good.shape)):  # the box grows until the surface is determined
            padded, box = pad(half), np.s_[j : j + 2 * half + 1, i : i + 2 * half + 1]
            kernel = _surface_kernel(padded[box].tobytes())
            if kernel is not None:
                whole = np.zeros(padded.shape)
                whole[box] = kernel
                weights[k] = whole[half:-half, half:-half]
                break
        else:
            raise ExposureError("a bad pixel has no good pixel near it to be repaired from")
    value = trend[todo] + np.einsum("kyx,yx->k", weights, rest)
    kernel = np.asarray(_surface_kernel(_AROUND.tobytes()), dtype=float)
    correlate = scipy.ndimage.correlate
    return value, weights, lambda: (rest - correlate(rest, kernel), noise + correlate(noise, kernel**2))


def by_psf(
    image: Array, noise: Array, good: Mask, todo: Mask, distance: Array, *, model: Array | None, background: float
) -> Prediction:
    """Predict by the model PSF, scaled to the good pixels of each 7x7 box.

    Parameters
    ----------
    image, noise, good, todo, distance
        As of `by_surface`.
    model : ndarray, shape (ny, nx)
        Fraction of the star's light in each pixel.
    background : float
        Added to the scaled model [DN/s].

    Returns
    -------
    Prediction

    Raises
    ------
    ParameterError
        If there is no model.
    ExposureError
        If a bad pixel has no good pixel in its box.
    """
    if model is None:
        raise ParameterError("bad_pixel_method 'psf' needs a model PSF for the filter; give one, or another method")
    light = np.where(good, image - background, 0.0)
    weights = np.zeros((todo.sum(), *good.shape))
    for k, (j, i) in enumerate(np.argwhere(todo)):
        on_image = np.s_[max(0, j - BOX // 2) : j + BOX // 2 + 1, max(0, i - BOX // 2) : i + BOX // 2 + 1]
        near = np.where(good, model, 0.0)[on_image]
        square = float(np.sum(near**2))
        if not square > 0:
            raise ExposureError(f"a bad pixel has no good pixel in its {BOX}x{BOX} box to scale the model PSF to")
        weights[k][on_image] = model[j, i] * near / square
    value = background + np.einsum("kyx,yx->k", weights, light)
    correlate = partial(scipy.ndimage.correlate, weights=_AROUND.astype(float))
    scale = model / np.maximum(correlate(model**2), np.finfo(float).tiny)
    residual, of_noise = partial(correlate, model * light), partial(correlate, model**2 * noise)
    return value, weights, lambda: (light - scale * residual(), noise + scale**2 * of_noise())


def by_median(image: Array, noise: Array, good: Mask, todo: Mask, distance: Array) -> Prediction:
    """Predict by the median of the good pixels of each 7x7 box.

    Parameters
    ----------
    image, noise, good, todo, distance
        As of `by_surface`.

    Returns
    -------
    Prediction

    Raises
    ------
    ExposureError
        If a bad pixel has no good pixel in its box.
    """
    value, weights = np.empty(todo.sum()), np.zeros((todo.sum(), *good.shape))
    for k, (j, i) in enumerate(np.argwhere(todo)):
        on_image = np.s_[max(0, j - BOX // 2) : j + BOX // 2 + 1, max(0, i - BOX // 2) : i + BOX // 2 + 1]
        near = good[on_image]
        if not near.any():
            raise ExposureError(f"a bad pixel has no good pixel in its {BOX}x{BOX} box; try bad_pixel_method=surface")
        value[k] = np.median(image[on_image][near])
        # a median's variance is pi/2 of the mean's (normal distribution, large samples)
        weights[k][on_image] = np.sqrt(np.pi / 2) * near / near.sum()
    clean, share = np.where(good, image, 0.0), np.pi / 2 * _AROUND / _AROUND.sum() ** 2
    seen = partial(scipy.ndimage.median_filter, clean, footprint=_AROUND)
    return value, weights, lambda: (clean - seen(), noise + scipy.ndimage.correlate(noise, share))


def repair_pixels(stamp: Stamp, bad: Mask, todo: Mask, distance: Array, predict: Callable[..., Prediction]) -> Repair:
    """Find values for bad pixels.

    Parameters
    ----------
    stamp : Stamp
    bad : ndarray of bool, shape (ny, nx)
        Every pixel not to trust.
    todo : ndarray of bool, shape (ny, nx)
        Those of them to repair.
    distance : ndarray, shape (ny, nx)
        Distance from the star [pix].
    predict : callable
        The method: `by_surface`, `by_median`, or `by_psf` with its model.

    Returns
    -------
    Repair

    Raises
    ------
    ParameterError
        If `by_psf` has no model.
    ExposureError
        If there is nothing to repair a pixel from.
    """
    if todo.sum() * todo.size > _WEIGHTS_MAX:
        raise ExposureError(f"{todo.sum()} bad pixels in the largest aperture, too many to repair: give smaller radii")
    good, noise = ~bad, np.where(bad, 0.0, stamp.variance)
    value, weights, judge = predict(stamp.image, noise, good, todo, distance)
    n, share = int(todo.sum()), scipy.ndimage.uniform_filter(good.astype(float), BOX, mode="constant")[todo]
    if n > 1 and share.min() < _CLUSTERED and len(errors := _errors_elsewhere(stamp, good, todo, distance, predict)):
        return Repair(np.flatnonzero(todo), value, weights, np.zeros(n), errors)
    # good pixels whose whole box is good and on the image
    trial = np.asarray(scipy.ndimage.minimum_filter(good, BOX, mode="constant", cval=False))
    trial &= distance <= distance[todo].max() + BOX // 2
    residual, expected = judge()
    r, excess, own = distance[trial], residual[trial] ** 2 - expected[trial], np.full(n, np.nan)
    for k, radius in enumerate(distance[todo]):
        # at similar radii; a mean square of 20 is known to a third. What comes out below zero stays so, that the mean
        # over many integrations is right
        for width in (_SIMILAR_RADIUS, 2 * _SIMILAR_RADIUS, 4 * _SIMILAR_RADIUS, np.inf):
            near = np.abs(r - radius) <= width
            if near.sum() >= 20:
                break
        own[k] = np.mean(excess[near]) if near.any() else np.nan
    return Repair(np.flatnonzero(todo), value, weights, own, np.zeros((0, n)))


def _errors_elsewhere(
    stamp: Stamp, good: Mask, todo: Mask, distance: Array, predict: Callable[..., Prediction]
) -> Array:
    """Errors of the same pattern of pixels, turned about the star and mirrored, on good pixels, shape (n_trials, n).

    Pixels side by side, as those of bad columns, have errors in common, and larger ones than a pixel whose neighbours
    are good. Of seven trials those count that lie on good pixels for the most part. They are divided by the root of
    their number, and shrunk by what the pixels' noise explains of the errors' sums.
    """
    centre = np.array(np.unravel_index(np.argmin(distance), distance.shape))
    places, found, noise = np.argwhere(todo) - centre, [], 0.0
    variance = np.where(good, stamp.variance, 0.0)
    for mirror, turn in product((1, -1), ((1, 0), (0, 1), (-1, 0), (0, -1))):
        j, i = np.transpose(places * (1, mirror) @ np.array([turn, (-turn[1], turn[0])])) + centre[:, None]
        inside = (j >= 0) & (i >= 0) & (j < good.shape[0]) & (i < good.shape[1])
        inside[inside] = good[j[inside], i[inside]]
        if inside.mean() < _MOSTLY:
            continue
        there, error = np.zeros_like(todo), np.zeros(todo.shape)
        there[j[inside], i[inside]] = True
        left = good & ~there
        value, weights, _ = predict(stamp.image, np.where(left, variance, 0.0), left, there, distance)
        error[there] = value - stamp.image[there]
        found.append(inside * error[j * inside, i * inside])
        noise += variance[there].sum() + np.sum(weights.sum(axis=0) ** 2 * variance)
    errors = np.array(found).reshape(len(found), len(places))
    seen = np.sum(errors.sum(axis=1) ** 2)
    return errors * np.sqrt(max(1 - noise / seen, 0.0) / len(found)) if seen > 0 else errors


def repair_surrounded(stamp: Stamp, bad: Mask, wanted: Mask, distance: Array, trend: Array) -> list[Repair]:
    """Repair by a surface the bad pixels that good ones surround, as far as good pixels can judge it.

    Parameters
    ----------
    stamp : Stamp
    bad : ndarray of bool, shape (ny, nx)
        Every pixel not to trust.
    wanted : ndarray of bool, shape (ny, nx)
        Pixels that are needed.
    distance : ndarray, shape (ny, nx)
        Distance from the star [pix].
    trend : ndarray, shape (ny, nx)
        From `radial_trend`, as far as the boxes of those pixels reach.

    Returns
    -------
    list of Repair
        One, or none where there is nothing to repair, or no way to.
    """
    # where less than half of the box is good the surface reaches beyond its pixels
    share = scipy.ndimage.uniform_filter((~bad).astype(float), BOX, mode="constant")
    index = np.flatnonzero(bad & wanted & (share > 0.5))
    # those nearest to the star, where its light varies most, as far as memory goes
    index = index[np.argsort(distance.flat[index], kind="stable")]
    todo = np.zeros(bad.shape, dtype=bool)
    todo.flat[index[: _WEIGHTS_MAX // bad.size]] = True
    if not todo.any():
        return []
    repair = repair_pixels(stamp, bad, todo, distance, partial(by_surface, trend=trend))
    return [repair] if np.all(np.isfinite(repair.variance)) else []


def radial_trend(image: Array, good: Mask, distance: Array, reach: float) -> Array:
    """Mean of the good pixels as a smooth function of the distance from the star.

    A local quadratic (Cleveland 1979, JASA 74, 829) with Gaussian weights: straight pieces would lie above every hollow
    of the profile and below every ring, and bias all repairs there alike.

    Parameters
    ----------
    image : ndarray, shape (ny, nx)
    good : ndarray of bool, shape (ny, nx)
    distance : ndarray, shape (ny, nx)
        [pix].
    reach : float
        Largest distance at which the trend is wanted; constant beyond [pix].

    Returns
    -------
    ndarray, shape (ny, nx)
        The trend at every pixel.
    """
    near = good & (distance <= reach + TREND_MARGIN)
    # pixels go into narrow bins first, which changes nothing at this width and saves most of the work
    bins = (distance[near] / _TREND_BIN).astype(int)
    count = np.bincount(bins)
    filled = count > 0
    r = np.bincount(bins, distance[near])[filled] / count[filled]
    values = np.bincount(bins, image[near])[filled] / count[filled]
    at = np.arange(0.0, reach + _TREND_STEP, _TREND_STEP)
    count, parts = count[filled], []
    for k in range(0, len(at), _TREND_BLOCK):
        here = at[k : k + _TREND_BLOCK]
        first, last = np.searchsorted(r, [here[0] - _TREND_REACH, here[-1] + _TREND_REACH])
        offset = r[first:last] - here[:, None]
        weight = count[first:last] * np.exp(-0.5 * (offset / _TREND_WIDTH) ** 2)
        powers = list(accumulate([offset] * 4, np.multiply, initial=weight))
        sums = [np.einsum("ip,p->i", power, values[first:last]) for power in powers[:3]]
        parts.append([*(p.sum(axis=1) for p in powers), *sums, np.sum(np.abs(offset) < TREND_MARGIN, axis=1)])
    # weighted least-squares parabolas at offset 0, by Cramer's rule: three unknowns need no library, whose last digits
    # would depend on the kind of processor
    m0, m1, m2, m3, m4, *sums, points = np.concatenate(parts, axis=1)
    cofactors = np.array([m2 * m4 - m3**2, m2 * m3 - m1 * m4, m1 * m3 - m2**2])
    determinant = m0 * cofactors[0] + m1 * cofactors[1] + m2 * cofactors[2]
    is_determined = determinant > 1e-12 * m0 * m2 * m4
    parabola = np.sum(np.array(sums) * cofactors, axis=0) / np.where(is_determined, determinant, 1.0)
    # about a dozen pixels determine one, if not all at one distance; nearer to the star, or where all is bad, there
    # are fewer
    mean = np.where(m0 > 1e-6, sums[0] / np.maximum(m0, 1e-6), 0.0)
    trend = np.where((m0 > 4) & (points >= 3) & is_determined, parabola, mean)
    result, within = np.full(distance.shape, trend[-1]), distance < at[-1]
    result[within] = scipy.interpolate.CubicSpline(at, trend)(distance[within])
    return result


def low_pixels(image: Array, bad: Mask, distance: Array, core_radius: float, level: float) -> Mask:
    """Unflagged pixels outside the core that lie below a level.

    Parameters
    ----------
    image : ndarray, shape (ny, nx)
    bad : ndarray of bool, shape (ny, nx)
    distance : ndarray, shape (ny, nx)
        Distance from the star [pix].
    core_radius : float
        [pix].
    level : float
        Background less some standard deviations [DN/s].

    Returns
    -------
    ndarray of bool, shape (ny, nx)
    """
    values = np.where(bad, np.inf, image)
    # a flat sky without noise differs from its own mean by a rounding error, and from zero by a model star's tail
    rounding = _ROUNDING * (abs(level) + 1e-3 * np.max(np.abs(image), where=~bad, initial=0.0))
    return ~bad & (distance > core_radius) & (level - values > rounding)


#: bits of `EEProfile.stamp_kind`: one of the chosen DQ flags; no finite value or error; unflagged, but lower than the
#: sky can be; repaired; left out of the background as an outlier; saturated; unflagged, but not what a star can show
_NAMES = ("flagged", "no value", "low", "repaired", "sky outlier", "saturated", "unexplained")
PIXEL_KINDS = {name: 1 << bit for bit, name in enumerate(_NAMES)}
"""The bits by name."""

#: beyond the sky annulus [pix]
_MARGIN = 2.0


def pixel_map(
    exposure: Stamp, star: Star, bad: Mask, repairs: Sequence[Repair], *, reach: float, core_radius: float
) -> dict[str, Any]:
    """Say what became of each pixel near the star, and count the flagged ones of the core.

    Parameters
    ----------
    exposure : Stamp
    star : Star
    bad : ndarray of bool, shape (ny, nx)
        Bad pixels of the stamp, the low ones that were found included.
    repairs : sequence of Repair
        What was put in the place of bad pixels.
    reach : float
        How far from the star the map should go, where the sky annulus does not reach further [pix].
    core_radius : float
        [pix].

    Returns
    -------
    dict of str to object
        The fields of an EE profile that begin with ``stamp``, cut to the sky annulus, and ``flat_err_scale``;
        ``core_saturated``, ``core_do_not_use``, ``core_flagged`` (otherwise) and ``core_charge_loss``.
    """
    sky, distance = star.sky, star.distance
    in_annulus = (distance >= sky.r_in) & (distance <= sky.r_out) & sky.weights.any()
    no_value = exposure.bad & ~(np.isfinite(exposure.image) & np.isfinite(exposure.variance))
    unexplained = np.zeros(bad.shape, dtype=bool) if exposure.unexplained is None else exposure.unexplained
    kind = np.zeros(bad.shape, dtype=np.uint8)
    for name, mask in (
        ("flagged", exposure.bad & ~no_value & ~unexplained),
        ("unexplained", unexplained),
        ("no value", no_value),
        ("low", bad & ~exposure.bad),
        ("sky outlier", in_annulus & ~bad & (sky.weights == 0)),
        ("saturated", (exposure.dq & SATURATED) != 0),
    ):
        kind[mask] |= PIXEL_KINDS[name]
    repaired = exposure.image.copy()
    for repair in repairs:
        repaired.ravel()[repair.index] = repair.value
        kind.ravel()[repair.index] |= PIXEL_KINDS["repaired"]
    reach = max(reach, sky.r_out) + _MARGIN
    at, size = np.array([star.y, star.x]), np.array(bad.shape)
    j, i = np.minimum(np.maximum(0, np.rint(at - reach)), size - 1).astype(int).tolist()  # one pixel at least
    rows, columns = (slice(k, max(k, round(end)) + 1) for k, end in zip((j, i), at + reach, strict=True))
    with np.errstate(over="ignore"):  # a pixel brighter than single precision can hold is infinite in a figure
        before, after = (image[rows, columns].astype(np.float32) for image in (exposure.image, repaired))
    flat = exposure.flat_variance
    flat_err = None if flat is None or not flat.any() else np.sqrt(flat[rows, columns]).astype(np.float32)
    core = exposure.dq[distance <= core_radius]
    counted = {"saturated": core & SATURATED, "do_not_use": core & DO_NOT_USE, "charge_loss": core & CHARGELOSS}
    counted["flagged"] = core * ((core & (SATURATED | DO_NOT_USE)) == 0)
    return {f"core_{name}": int(np.count_nonzero(pixels)) for name, pixels in counted.items()} | {
        "stamp": before, "stamp_repaired": after, "stamp_kind": kind[rows, columns],
        "stamp_x0": exposure.x_origin + i, "stamp_y0": exposure.y_origin + j,
        "stamp_flat_err": flat_err, "flat_err_scale": exposure.flat_scale,
    }  # fmt: skip
