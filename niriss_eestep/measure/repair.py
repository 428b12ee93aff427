"""Bad pixels: which they are, what to put in their place, and how well that does.

Every method is judged on the image itself: it also predicts the *good* pixels at the same distance from the star, each
from its neighbours alone, and the mean square of those residuals, less the pixels' own noise, is the variance that a
repaired pixel carries.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import scipy
from numpy.typing import NDArray

from niriss_eestep.errors import ExposureError, ParameterError
from niriss_eestep.instrument import DO_NOT_USE, SATURATED
from niriss_eestep.measure.geometry import distance_grid
from niriss_eestep.measure.sums import weighted_sums

__all__ = [
    "BAD_PIXEL_METHODS",
    "CoreReport",
    "Repair",
    "core_report",
    "expected_noise",
    "kept_noise",
    "low_pixels",
    "radial_trend",
    "repair_pixels",
    "repair_surrounded",
]

BAD_PIXEL_METHODS = ("surface", "median", "psf", "none")

#: side of the box around a bad pixel that repairs it [pix], and the degree of the surface (method of CAP-020, 2021)
BOX = 7
DEGREE = 3

#: Gaussian weights of the surface fit [pix]; of 1, 1.25, 1.5, 2 and equal weights this has the smallest errors on the
#: packaged PSFs (15 NaN + 5 low pixels at 5-16 pix) in F090W, F150W, F356W and F480M; in F277W equal weights do better
_SURFACE_SIGMA = 1.0

#: width of the radial trend's Gaussian weights, and the step at which it is worked out [pix]; of 0.35, 0.45, 0.6 and
#: 0.8 the first two have the same errors within a tenth, the others larger ones (twice in F480M)
_TREND_WIDTH = 0.45
_TREND_STEP = 0.25
_TREND_BIN = 0.1

#: the trend is worked out at this many steps at a time, from the bins within this distance [pix], beyond which the
#: weights are below 1e-13: the work grows with the radius, not with its square
_TREND_BLOCK = 32
_TREND_REACH = 8 * _TREND_WIDTH

#: each repaired pixel keeps its weights for every pixel of the stamp; 1 GB of them is no repair any more
_WEIGHTS_MAX = 1024**3 // 8

#: good pixels within this distance in radius are predicted too, to judge a method [pix]
_SIMILAR_RADIUS = 1.5

#: relative size of the rounding errors of a mean of some thousand pixels, with room to spare
_ROUNDING = 1e-9


@dataclass(frozen=True, slots=True)
class CoreReport:
    """Flagged pixels within the core radius.

    Parameters
    ----------
    saturated, do_not_use, flagged : int
        Number of pixels flagged SATURATED, DO_NOT_USE, or otherwise.
    """

    saturated: int
    do_not_use: int
    flagged: int


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
    common_err : ndarray, shape (n,)
        Standard error that is one and the same for all of them, whatever else each has.
    """

    index: NDArray[np.int64]
    value: NDArray[np.float64]
    weights: NDArray[np.float64]
    variance: NDArray[np.float64]
    common_err: NDArray[np.float64]


def core_report(dq: NDArray[np.uint32], distance: NDArray[np.float64], radius: float) -> CoreReport:
    """Count the flagged pixels of the core.

    Parameters
    ----------
    dq : ndarray of uint32, shape (ny, nx)
    distance : ndarray, shape (ny, nx)
        Distance from the star [pix].
    radius : float
        Core radius [pix].

    Returns
    -------
    CoreReport
    """
    core = dq[distance <= radius]
    saturated = (core & SATURATED) != 0
    do_not_use = (core & DO_NOT_USE) != 0
    other = (core & ~np.uint32(SATURATED | DO_NOT_USE)) != 0
    return CoreReport(int(saturated.sum()), int(do_not_use.sum()), int((other & ~saturated & ~do_not_use).sum()))


def low_pixels(
    image: NDArray[np.float64],
    bad: NDArray[np.bool_],
    distance: NDArray[np.float64],
    core_radius: float,
    level: float,
) -> NDArray[np.bool_]:
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


def expected_noise(
    image: NDArray[np.float64], variance: NDArray[np.float64], expected: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Variance and skewness of the noise that pixels have at their expected count rates.

    The variance rises with the signal by the DN/s of one electron. It is estimated from the noisy signal, so that it is
    low where the pixel is; at the expected signal it is not. The third central moment of a count is its mean; the read
    noise is symmetric.

    Parameters
    ----------
    image, variance : ndarray, shape (n,)
        Count rates [DN/s] and variances.
    expected : ndarray, shape (n,)
        What the pixels would be without noise [DN/s].

    Returns
    -------
    variance, skewness : ndarray, shape (n,)
    """
    contrast = image - image.mean()
    spread = float(np.sum(contrast**2))
    electron = max(float(np.sum(contrast * variance)) / spread, 0.0) if spread > 0 else 0.0
    at_expected = np.maximum(variance + electron * (expected - image), 0.0)
    third = electron**2 * np.maximum(expected, 0.0)
    return at_expected, third / np.where(at_expected > 0, at_expected, np.inf) ** 1.5


def kept_noise(
    expected: NDArray[np.float64],
    variance: NDArray[np.float64],
    level: float,
    skewness: NDArray[np.float64] | float = 0.0,
) -> NDArray[np.float64]:
    """Mean noise of pixels that were kept because they lie above a level.

    With z = (expected - level) / sigma the mean of a normal distribution cut at the level is sigma phi(z) / Phi(z):
    0.0044 sigma three standard deviations above it, nothing far above it. A skewness g changes it, to first order
    (Edgeworth), by the factor 1 - g z^3 / 6: at g = 0.1, that of a hundred electrons, it halves the low tail.

    Parameters
    ----------
    expected, variance : ndarray, shape (n,)
        What the pixels would be without noise [DN/s], and the noise's variance.
    level : float
        [DN/s].
    skewness : ndarray, shape (n,), or float
        Of the noise.

    Returns
    -------
    ndarray, shape (n,)
        [DN/s].
    """
    sigma = np.sqrt(variance)
    z = (expected - level) / np.where(sigma > 0, sigma, 1.0)
    # phi / Phi without underflow; a pixel without noise has no mean noise either
    normal = sigma * np.sqrt(2 / np.pi) / scipy.special.erfcx(-z / np.sqrt(2))
    return np.asarray(normal * np.maximum(1 - skewness * z**3 / 6, 0.0))


def _surface_kernel(good: NDArray[np.bool_]) -> NDArray[np.float64] | None:
    """Weights by which a polynomial fitted to the good pixels of a box predicts its centre; None if undetermined.

    Near pixels count more: Gaussian weights of `_SURFACE_SIGMA`.
    """
    half = good.shape[0] // 2
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


@lru_cache(maxsize=1)
def _full_surface_kernel() -> NDArray[np.float64]:
    """The surface's weights where every pixel of the box but the centre is good."""
    good = np.ones((BOX, BOX), dtype=bool)
    good[BOX // 2, BOX // 2] = False
    kernel = _surface_kernel(good)
    if kernel is None:  # pragma: no cover - 48 pixels determine any surface used here
        raise ParameterError(f"a {BOX}x{BOX} box does not determine a surface of degree {DEGREE}")
    return kernel


def radial_trend(
    image: NDArray[np.float64], good: NDArray[np.bool_], distance: NDArray[np.float64], reach: float
) -> NDArray[np.float64]:
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
    near = good & (distance <= reach + 3 * _TREND_WIDTH)
    # pixels go into narrow bins first, which changes nothing at this width and saves most of the work
    bins = (distance[near] / _TREND_BIN).astype(int)
    count = np.bincount(bins)
    filled = count > 0
    r = np.bincount(bins, distance[near])[filled] / count[filled]
    values = np.bincount(bins, image[near])[filled] / count[filled]
    at = np.arange(0.0, reach + _TREND_STEP, _TREND_STEP)
    moments, sums, points = np.zeros((5, len(at))), np.zeros((3, len(at))), np.zeros(len(at))
    count = count[filled]
    for k in range(0, len(at), _TREND_BLOCK):
        here = at[k : k + _TREND_BLOCK]
        first, last = np.searchsorted(r, [here[0] - _TREND_REACH, here[-1] + _TREND_REACH])
        offset = r[first:last] - here[:, None]
        weight = count[first:last] * np.exp(-0.5 * (offset / _TREND_WIDTH) ** 2)
        powers = [weight, weight * offset, weight * offset**2, weight * offset**3, weight * offset**4]
        moments[:, k : k + _TREND_BLOCK] = [power.sum(axis=1) for power in powers]
        sums[:, k : k + _TREND_BLOCK] = [weighted_sums(power, values[first:last]) for power in powers[:3]]
        points[k : k + _TREND_BLOCK] = np.sum(np.abs(offset) < 3 * _TREND_WIDTH, axis=1)
    # about a dozen pixels determine a parabola, if not all at one distance; nearer to the star, or where all is bad,
    # there are fewer
    parabola, is_determined = _parabola_at_zero(moments, sums)
    enough = (moments[0] > 4) & (points >= 3) & is_determined
    mean = np.where(moments[0] > 1e-6, sums[0] / np.maximum(moments[0], 1e-6), 0.0)
    trend = np.where(enough, parabola, mean)
    return np.asarray(scipy.interpolate.CubicSpline(at, trend)(np.minimum(distance, at[-1])))


def _parabola_at_zero(
    moments: NDArray[np.float64], sums: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Value at offset 0 of weighted least-squares parabolas, and where the points determine one.

    By Cramer's rule: three unknowns need no library, whose last digits would depend on the kind of processor.

    Parameters
    ----------
    moments : ndarray, shape (5, n)
        Sums of weight times offset to the powers 0 to 4.
    sums : ndarray, shape (3, n)
        Sums of weight times offset to the powers 0 to 2 times value.
    """
    m0, m1, m2, m3, m4 = moments
    cofactors = np.array([m2 * m4 - m3**2, m2 * m3 - m1 * m4, m1 * m3 - m2**2])
    determinant = m0 * cofactors[0] + m1 * cofactors[1] + m2 * cofactors[2]
    is_determined = determinant > 1e-12 * m0 * m2 * m4
    value = np.sum(sums * cofactors, axis=0) / np.where(is_determined, determinant, 1.0)
    return value, is_determined


def _box(good: NDArray[np.bool_], j: int, i: int, half: int) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """Where a box about a pixel lies on the image, and that part's place in the full box."""
    ny, nx = good.shape
    rows, cols = slice(max(0, j - half), min(ny, j + half + 1)), slice(max(0, i - half), min(nx, i + half + 1))
    within = (
        slice(rows.start - j + half, rows.stop - j + half),
        slice(cols.start - i + half, cols.stop - i + half),
    )
    return (rows, cols), within


def _surface_weights(good: NDArray[np.bool_], j: int, i: int) -> NDArray[np.float64]:
    """Weights over the whole image that predict pixel (j, i) by a surface; the box grows until it is determined."""
    weights = np.zeros(good.shape)
    for half in range(BOX // 2, max(good.shape)):
        on_image, within = _box(good, j, i, half)
        box = np.zeros((2 * half + 1, 2 * half + 1), dtype=bool)
        box[within] = good[on_image]
        box[half, half] = False
        kernel = _surface_kernel(box)
        if kernel is not None:
            weights[on_image] = kernel[within]
            return weights
    raise ExposureError("a bad pixel has no good pixel near it to be repaired from")


def _psf_weights(model: NDArray[np.float64], good: NDArray[np.bool_], j: int, i: int) -> NDArray[np.float64]:
    """Weights that scale a model PSF to the good pixels of the box and read it at pixel (j, i)."""
    weights = np.zeros(good.shape)
    on_image, _ = _box(good, j, i, BOX // 2)
    light = np.where(good, model, 0.0)[on_image]
    square = float(np.sum(light**2))
    if not square > 0:
        raise ExposureError(f"a bad pixel has no good pixel in its {BOX}x{BOX} box to scale the model PSF to")
    weights[on_image] = model[j, i] * light / square
    return weights


def _clean_boxes(good: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Good pixels whose whole box is good and on the image."""
    return np.asarray(scipy.ndimage.minimum_filter(good, BOX, mode="constant", cval=False))


def _method_variance(
    residual: NDArray[np.float64],
    noise: NDArray[np.float64],
    trial: NDArray[np.bool_],
    distance: NDArray[np.float64],
    at: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Mean square residual of the good pixels at similar radii, less what their noise explains.

    The search widens until 20 pixels are found, whose mean square is known to a third. What comes out below zero stays
    so, that the mean over many integrations is right.
    """
    r = distance[trial]
    square = residual[trial] ** 2
    expected = noise[trial]
    variance = np.zeros(len(at))
    for k, radius in enumerate(at):
        for width in (_SIMILAR_RADIUS, 2 * _SIMILAR_RADIUS, 4 * _SIMILAR_RADIUS, np.inf):
            near = np.abs(r - radius) <= width
            if near.sum() >= 20:
                break
        variance[k] = float(np.mean(square[near]) - np.mean(expected[near])) if near.any() else np.nan
    return variance


@dataclass(frozen=True, slots=True, eq=False)
class _Prediction:
    """One method's values for the bad pixels, and its residuals on the good ones.

    Parameters
    ----------
    value : ndarray, shape (n,)
    weights : ndarray, shape (n, ny, nx)
    residual : ndarray, shape (ny, nx)
        Value less prediction from the neighbours alone; valid where the whole box is good.
    expected : ndarray, shape (ny, nx)
        Variance that the noise alone gives those residuals.
    """

    value: NDArray[np.float64]
    weights: NDArray[np.float64]
    residual: NDArray[np.float64]
    expected: NDArray[np.float64]


def _by_surface(
    image: NDArray[np.float64],
    noise: NDArray[np.float64],
    good: NDArray[np.bool_],
    todo: NDArray[np.bool_],
    trend: NDArray[np.float64],
) -> _Prediction:
    """The trend, plus a surface fitted to what is left of it."""
    rest = np.where(good, image - trend, 0.0)
    weights = np.array([_surface_weights(good, j, i) for j, i in np.argwhere(todo)])
    value = trend[todo] + weighted_sums(weights.reshape(len(weights), -1), rest.ravel())
    kernel = _full_surface_kernel()
    return _Prediction(
        value, weights, rest - scipy.ndimage.correlate(rest, kernel), noise + scipy.ndimage.correlate(noise, kernel**2)
    )


def _by_psf(
    image: NDArray[np.float64],
    noise: NDArray[np.float64],
    good: NDArray[np.bool_],
    todo: NDArray[np.bool_],
    model: NDArray[np.float64],
    background: float,
) -> _Prediction:
    """The model PSF, scaled to the good pixels of each box."""
    light = np.where(good, image - background, 0.0)
    weights = np.array([_psf_weights(model, good, j, i) for j, i in np.argwhere(todo)])
    value = background + weighted_sums(weights.reshape(len(weights), -1), light.ravel())
    box = np.ones((BOX, BOX))
    box[BOX // 2, BOX // 2] = 0
    scale = model / np.maximum(scipy.ndimage.correlate(model**2, box), np.finfo(float).tiny)
    residual = light - scale * scipy.ndimage.correlate(model * light, box)
    return _Prediction(value, weights, residual, noise + scale**2 * scipy.ndimage.correlate(model**2 * noise, box))


def _by_median(
    image: NDArray[np.float64], noise: NDArray[np.float64], good: NDArray[np.bool_], todo: NDArray[np.bool_]
) -> _Prediction:
    """The median of the good pixels of each box."""
    value, weights = np.empty(todo.sum()), np.zeros((todo.sum(), *good.shape))
    for k, (j, i) in enumerate(np.argwhere(todo)):
        on_image, _ = _box(good, j, i, BOX // 2)
        near = good[on_image]
        if not near.any():
            raise ExposureError(f"a bad pixel has no good pixel in its {BOX}x{BOX} box; try bad_pixel_method=surface")
        value[k] = np.median(image[on_image][near])
        # a median's variance is pi/2 of the mean's (normal distribution, large samples)
        weights[k][on_image] = np.sqrt(np.pi / 2) * near / near.sum()
    # a pixel is judged as a bad one is replaced: from its neighbours alone
    around = np.ones((BOX, BOX), dtype=bool)
    around[BOX // 2, BOX // 2] = False
    clean = np.where(good, image, 0.0)
    residual = clean - scipy.ndimage.median_filter(clean, footprint=around)
    return _Prediction(
        value, weights, residual, noise + scipy.ndimage.correlate(noise, np.pi / 2 * around / around.sum() ** 2)
    )


def repair_pixels(
    image: NDArray[np.float64],
    variance: NDArray[np.float64],
    bad: NDArray[np.bool_],
    todo: NDArray[np.bool_],
    x: float,
    y: float,
    *,
    method: str,
    model: NDArray[np.float64] | None = None,
    background: float = 0.0,
    trend: NDArray[np.float64] | None = None,
) -> Repair:
    """Find values for bad pixels.

    Parameters
    ----------
    image, variance : ndarray, shape (ny, nx)
        Count rates [DN/s] and variances.
    bad : ndarray of bool, shape (ny, nx)
        Every pixel not to trust.
    todo : ndarray of bool, shape (ny, nx)
        Those of them to repair.
    x, y : float
        The star [pix].
    method : {'surface', 'median', 'psf'}
        'surface': the mean radial profile plus a polynomial surface of degree 3 fitted to what is left of it in a
        7x7 box; 'median': the median of the good pixels of the box; 'psf': the model PSF scaled to the box.
    model : ndarray, shape (ny, nx), optional
        Fraction of the star's light in each pixel; needed by 'psf'.
    background : float
        Added to the scaled model [DN/s].
    trend : ndarray, shape (ny, nx), optional
        From `radial_trend`, where it is known already; used by 'surface'.

    Returns
    -------
    Repair

    Raises
    ------
    ParameterError
        If the method is unknown, or 'psf' has no model.
    ExposureError
        If there is nothing to repair a pixel from.
    """
    if todo.sum() * todo.size > _WEIGHTS_MAX:
        raise ExposureError(
            f"{todo.sum()} bad pixels within the largest aperture are too many to repair; give smaller radii"
        )
    good = ~bad
    distance = distance_grid(image.shape, x, y)
    noise = np.where(good, variance, 0.0)
    if method == "surface":
        if trend is None:
            trend = radial_trend(image, good, distance, float(distance[todo].max()) + BOX)
        found = _by_surface(image, noise, good, todo, trend)
    elif method == "psf" and model is not None:
        found = _by_psf(image, noise, good, todo, model, background)
    elif method == "psf":
        raise ParameterError(
            "bad_pixel_method 'psf' needs a model PSF for the exposure's filter; give one, or take another method"
        )
    elif method == "median":
        found = _by_median(image, noise, good, todo)
    else:
        raise ParameterError(f"bad_pixel_method must be one of {', '.join(BAD_PIXEL_METHODS)}; got {method!r}")
    trial = _clean_boxes(good) & (distance <= distance[todo].max() + BOX // 2)
    own = _method_variance(found.residual, found.expected, trial, distance, distance[todo])
    return Repair(np.flatnonzero(todo), found.value, found.weights, own, np.zeros_like(own))


def repair_surrounded(
    image: NDArray[np.float64],
    variance: NDArray[np.float64],
    bad: NDArray[np.bool_],
    wanted: NDArray[np.bool_],
    x: float,
    y: float,
    trend: NDArray[np.float64],
) -> list[Repair]:
    """Repair by a surface the bad pixels that good ones surround, as far as good pixels can judge it.

    Parameters
    ----------
    image, variance : ndarray, shape (ny, nx)
        Count rates [DN/s] and variances.
    bad : ndarray of bool, shape (ny, nx)
        Every pixel not to trust.
    wanted : ndarray of bool, shape (ny, nx)
        Pixels that are needed.
    x, y : float
        The star [pix].
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
    index = index[np.argsort(distance_grid(image.shape, x, y).flat[index], kind="stable")]
    todo = np.zeros(image.shape, dtype=bool)
    todo.flat[index[: _WEIGHTS_MAX // image.size]] = True
    if not todo.any():
        return []
    repair = repair_pixels(image, variance, bad, todo, x, y, method="surface", trend=trend)
    return [repair] if np.all(np.isfinite(repair.variance)) else []
