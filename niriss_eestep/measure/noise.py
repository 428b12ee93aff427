"""Noise that neighbouring pixels, and pixels of one row or column, have in common: measured in the image itself.

The amplifiers' 1/f noise runs along the fast-read direction (columns, on NIRISS) and drifts from line to line; the
inter-pixel capacitance correlates neighbours. Either changes the variance of a sum far more than that of a pixel. The
products of all pairs of sky pixels, as a function of their separation, are fitted by a few shapes that such noise has,
none of them below zero; the shapes then give the covariance of any sums.

The same pixels tell whether the sky is flat. The annulus gives the sky at its own radius; where it is curved the star
stands on less, or more: a curvature of 5e-4 of the sky per pix^2 is a quarter of it between the star and an annulus at
20 to 25 pix. So a gradient and a curvature are fitted to the sky pixels beyond the star's wing.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache

import numpy as np
import scipy

from niriss_eestep.arrays import Array, Mask
from niriss_eestep.instrument import IPC_KERNEL
from niriss_eestep.measure.background import MAD_TO_STD, OUTLIER_SIGMA, Background
from niriss_eestep.measure.geometry import covariance_of_sums
from niriss_eestep.measure.stamp import EEOptions, Stamp
from niriss_eestep.measure.star_model import Star

SHAPES = ("column", "column_trend", "columns_drift", "row", "row_trend", "rows_drift", "neighbours", "excess")
"""What the noise of two pixels has in common: an offset of each column; what changes slowly along it; what changes
slowly from column to column; the same of rows; with the four neighbours; and the variance beyond the stated one."""

#: pairs of pixels further apart are not looked at [pix]: pulls of sums within 15 pix are the same with 48 and 24
_REACH = 32
#: pairs count less beyond this separation [pix]: a wave as long as the image is seen once, whatever its strength. Of
#: 3, 6, 12, 24 and no limit, 6 has pulls of 0.94-0.98 in white noise and 1.00-1.06 with 1/f noise of 0.2 to 0.6 of the
#: pixels' own; 3 costs 2 % larger errors in white noise, no limit has pulls to 1.16
_NEAR = 6.0
#: a shape must stand out by this many standard deviations of white noise before it counts, and counts by what it has
#: beyond them: halves what white noise, which no shape may make negative, adds to the errors
_SHRINK = 0.5
#: share of the four diagonal neighbours, from the published kernel of the inter-pixel capacitance
_DIAGONAL = 0.06
_NEIGHBOURS = ((_DIAGONAL, 1.0, _DIAGONAL), (1.0, 0.0, 1.0), (_DIAGONAL, 1.0, _DIAGONAL))
#: a plane and a curvature taken out of the image leave half of what changes slowly from line to line: 0.47 to 0.54 on
#: 51, 64 and 71 pixels, with noise along rows or columns
_DRIFT_LEFT = 0.5
#: shares of the capacitance below this do not matter: those left out sum to 2e-4
_IPC_LEAST = 1e-4
#: a shape of the sky must stand out of so many times that covariance: by chance 3 % of exposures with 1/f noise have
#: one then; with 1, 11 %, which lose with it what they know of their noise
_DOUBT = 3.0
#: a line with fewer sky pixels than this has no mean to speak of
_MIN_LINE = 8
#: the sky is taken as flat where chance alone makes such a fit this often (2.5 standard deviations of one number). The
#: correction's error is a fifth of a faint star's, so that one that chance asks for does no harm
_PROBABILITY = 0.0124
#: relative error of a model PSF's wing, which a fit takes for curvature; where it is more than half of a pixel's noise
#: the pixel is not sky
WING_ERROR = 0.2
#: length in which the sky's shape is fitted [pix]; of no effect
_UNIT = 25.0
#: the star's light within this radius scales the model of its wing [pix]
_SCALE_RADIUS = 5.0
#: without a model all of the wing's structure (spikes) is error, five times its mean at a radius at most
_STRUCTURE = 5.0 / WING_ERROR


@lru_cache(maxsize=32)
def shapes_within(ny: int, nx: int) -> Array:
    """Covariance of two pixels by their separation, for an amplitude of 1 of each of `SHAPES`.

    1/f noise has the covariance of a logarithm of the time between reads. A constant does not matter to sums from
    which the sky is subtracted.

    Parameters
    ----------
    ny, nx : int
        Separations along y and x are below this [pix].

    Returns
    -------
    ndarray, shape (8, ny, nx)
        Of separations 0, 1, 2... pix along y and x, in either direction.
    """
    v, u = np.mgrid[:ny, :nx]
    found = []
    for along, across in ((v, u), (u, v)):
        fall, drift = (0.25 * np.log(64 / np.maximum(lag, 0.5)) for lag in (along, across))
        found += [across == 0, np.where(across == 0, fall, 0.0), drift]
    found += [np.where(u + v == 1, 1.0, _DIAGONAL * ((u == 1) & (v == 1))), np.zeros((ny, nx))]
    shapes = np.array(found, dtype=float)
    # the variance of a pixel is one of them
    shapes[:, 0, 0] = np.arange(len(SHAPES)) == SHAPES.index("excess")
    return shapes


def sky_pixels(residual: Array, variance: Array, bad: Mask, light: Array) -> Mask:
    """Pixels that hold sky and noise alone, as far as a model of the star's light tells.

    Parameters
    ----------
    residual, variance : ndarray, shape (ny, nx)
        Count rates less sky and model [DN/s], and their variances.
    bad : ndarray of bool, shape (ny, nx)
    light : ndarray, shape (ny, nx)
        Model of the star's light [DN/s].

    Returns
    -------
    ndarray of bool, shape (ny, nx)
        True where the model's error is below half the noise, no hit or other star is near, and the pixel is good.
    """
    noise = np.sqrt(np.where(bad, 1.0, variance))
    sky = ~bad & (WING_ERROR * light < 0.5 * noise)
    if not sky.any():
        return sky
    centred = np.abs(residual - np.median(residual[sky]))
    scatter = MAD_TO_STD * np.median(centred[sky])
    hit = sky & (centred > OUTLIER_SIGMA * np.maximum(noise, scatter))
    return sky & ~scipy.ndimage.binary_dilation(hit, np.ones((3, 3), dtype=bool)) if hit.any() else sky


def estimate_correlation(residual: Array, variance: Array, use: Mask, shape_removed: bool = False) -> Array:
    """Measure how the noise of pixels is correlated.

    Parameters
    ----------
    residual, variance : ndarray, shape (ny, nx)
        Count rates without sky and star [DN/s], and their stated variances.
    use : ndarray of bool, shape (ny, nx)
        Sky pixels, from `sky_pixels`.
    shape_removed : bool
        Whether a gradient and a curvature have been taken out of ``residual``.

    Returns
    -------
    ndarray, shape (8,)
        Covariance of two pixels, beyond the stated variance of each: the amplitude of each of `SHAPES`, zero or more
        [(DN/s)^2]; all zero where fewer than a hundred pixels can be used, or they have no noise.

    Notes
    -----
    The mean product of pairs of each separation is fitted by the shapes and a constant, by least squares with
    amplitudes of zero or more (Lawson & Hanson 1974, NNLS). The constant takes up what the subtraction of the mean
    does. The shapes are made of logarithms since 1/f noise has them; whatever its slope, the covariance of sums at the
    scale of an aperture comes out within a few per cent.

    Examples
    --------
    >>> rng = np.random.default_rng(1)
    >>> noise = rng.normal(size=(71, 71)) + rng.normal(scale=0.3, size=71)  # each column has an offset
    >>> found = estimate_correlation(noise, np.ones((71, 71)), np.ones((71, 71), dtype=bool))
    >>> bool(0.04 < found[0] < 0.14)
    True
    """
    n = int(use.sum())
    if n < 100 or not np.any(variance[use] > 0):
        return np.zeros(len(SHAPES))
    level = float(variance[use].mean())
    values = np.where(use, residual - residual[use].mean(), 0.0)
    # sums of the products of all pairs of pixels, and their numbers, by separation
    size = [scipy.fft.next_fast_len(max(n, _REACH + 1) + _REACH, real=True) for n in use.shape]
    transform = scipy.fft.rfft2(np.array([values, use]), size, axes=(1, 2))
    sums = scipy.fft.irfft2(transform.real**2 + transform.imag**2, size, axes=(1, 2))
    products, pairs = np.roll(sums, _REACH, axis=1)[:, : 2 * _REACH + 1, : _REACH + 1]
    # the products of pixels with themselves hold their own noise, and are looked at apart; other pairs count once
    dy, dx = np.arange(-_REACH, _REACH + 1), np.arange(_REACH + 1)
    weight = 1 / (1 + (dy[:, None] ** 2 + dx**2) / _NEAR**2)
    weight[: _REACH + 1, 0] = 0.0
    flat, count = np.ones((len(SHAPES), weight.size)), (np.rint(pairs) * weight).ravel()
    flat[:-1] = shapes_within(_REACH + 1, _REACH + 1)[:-1, np.abs(dy)].reshape(len(SHAPES) - 1, -1)
    matrix = np.einsum("ip,jp->ij", flat * count, flat)
    vector = np.einsum("ip,p->i", flat, (products * weight).ravel())
    # a free constant, eliminated
    by_constant = matrix[:-1, -1] / matrix[-1, -1]
    reduced = matrix[:-1, :-1] - np.outer(by_constant, matrix[-1, :-1])
    scale = np.sqrt(np.maximum(np.diagonal(reduced), 1e-12))
    root = np.linalg.cholesky(reduced / np.outer(scale, scale) + 1e-9 * np.eye(len(scale)))
    target = np.linalg.solve(root, (vector[:-1] - by_constant * vector[-1]) / scale - _SHRINK * level)
    amplitude = scipy.optimize.nnls(root.T, target)[0] / scale
    constant = (vector[-1] - matrix[-1, :-1] @ amplitude) / matrix[-1, -1]
    excess = products[_REACH, 0] / n - level - constant - _SHRINK * np.sqrt(2 / n) * level
    amplitude = np.append(amplitude, max(excess, 0.0))
    if shape_removed:
        amplitude[[SHAPES.index("columns_drift"), SHAPES.index("rows_drift")]] /= _DRIFT_LEFT
    return np.asarray(amplitude)


def correlated_covariance(reach: Array, correlation: Array) -> Array:
    """Covariance that correlated noise adds to weighted sums of pixels.

    Parameters
    ----------
    reach : ndarray, shape (n_sums, ny, nx)
        How each sum depends on each pixel.
    correlation : ndarray, shape (8,)
        Amplitude of each of `SHAPES`, from `estimate_correlation`.

    Returns
    -------
    ndarray, shape (n_sums, n_sums)
        The sum of reach_i(p) C(p - q) reach_j(q), to be added to that of independent pixels [(DN/s)^2].
    """
    if not correlation.any():
        return np.zeros((len(reach), len(reach)))
    *_, neighbours, excess = correlation
    # how the noise of a sum goes with that of each pixel: all shapes but one are made of lines
    shared = excess * reach
    for axis, (offset, trend, drift) in ((1, correlation[:3]), (2, correlation[3:6])):
        each, into = (np.swapaxes(images, 1, axis) for images in (reach, shared))
        _, n, n_lines = each.shape
        if offset or drift:
            apart, line = np.abs(np.subtract.outer(range(n_lines), range(n_lines))), each.sum(axis=1)
            of_lines = shapes_within(2, n_lines)[2, 1]
            together = offset * line + drift * np.einsum("ix,xz->iz", line, of_lines[apart])
            into += together[:, None] - (offset + drift * of_lines[0]) * each
        if trend:
            size = scipy.fft.next_fast_len(2 * n - 1, real=True)
            lag = np.minimum(range(size), size - np.arange(size))
            power = trend * scipy.fft.rfft(shapes_within(size // 2 + 1, 1)[1, lag], axis=0).real
            for image, sums in zip(each, into, strict=True):
                sums += scipy.fft.irfft(scipy.fft.rfft(image, size, axis=0) * power, size, axis=0)[:n]
    if neighbours:
        shared += neighbours * seen_through(reach, _NEIGHBOURS)
    covariance = np.empty((len(reach), len(reach)))
    for k, one in enumerate(shared):
        covariance[k, k:] = covariance[k:, k] = np.einsum("yx,jyx->j", one, reach[k:])
    return covariance


def seen_through(reach: Array, kernel: Sequence[Sequence[float]] = IPC_KERNEL) -> Array:
    """How sums depend on the charge of each pixel, of which the neighbours show some.

    Parameters
    ----------
    reach : ndarray, shape (n_sums, ny, nx)
        How they depend on each pixel as it is read.
    kernel : sequence of sequence of float
        Share of a pixel's charge that itself and its neighbours show, an odd number of rows and columns; by default the
        inter-pixel capacitance.

    Returns
    -------
    ndarray, shape (n_sums, ny, nx)
    """
    result, middle = np.zeros_like(reach), len(kernel) // 2
    for dy, dx, share in ((j - middle, i - middle, v) for j, row in enumerate(kernel) for i, v in enumerate(row)):
        if share > _IPC_LEAST:
            read, charge = ([slice(max(0, s * d), min(0, s * d) or None) for d in (dy, dx)] for s in (1, -1))
            result[:, *charge] += share * reach[:, *read]
    return result


def flat_covariance(reach: Array, sigma: Array, scale: float = 0.0) -> Array:
    """Covariance that the error of the flat field gives to weighted sums of pixels.

    Parameters
    ----------
    reach : ndarray, shape (n_sums, ny, nx)
        How each sum depends on each pixel.
    sigma : ndarray, shape (ny, nx)
        Standard error of each pixel from the flat field [DN/s].
    scale : float
        The errors of two pixels d apart have a correlation of exp(-d^2 / 2 scale^2) [pix]; 0 for independent ones.

    Returns
    -------
    ndarray, shape (n_sums, n_sums)
        [(DN/s)^2].
    """
    near = each = reach * sigma
    if scale > 0:
        lag = np.arange(-int(np.ceil(4 * scale)), int(np.ceil(4 * scale)) + 1)
        kernel = np.exp(-0.5 * (lag / scale) ** 2)
        for axis in (1, 2):
            near = scipy.ndimage.correlate1d(near, kernel, axis=axis, mode="constant")
    return np.asarray(np.einsum("iyx,jyx->ij", each, near))


def corrected(sky: Background, reach: Array) -> tuple[Array, Array, Array]:
    """Take the sky's shape and the lines' noise out of sums, as far as asked for.

    Parameters
    ----------
    sky : Background
        From `study_surroundings`.
    reach : ndarray, shape (n_sums, ny, nx)
        How each sum depends on each pixel.

    Returns
    -------
    reach : ndarray, shape (n_sums, ny, nx)
        With what the corrections add.
    change : ndarray, shape (n_sums,)
        To be added to the sums [DN/s].
    slope : ndarray, shape (n_sums, n_terms)
        What the sums change with each coefficient of the sky's shape; of no terms where it is flat.
    """
    change, slope, residual = np.zeros(len(reach)), np.zeros((len(reach), 0)), sky.residual
    if sky.image is not None and sky.terms is not None and sky.term_weights is not None:
        residual = residual - sky.image
        change -= np.einsum("iyx,yx->i", reach, sky.image)
        slope = np.einsum("iyx,kyx->ik", reach, sky.terms)
        reach = reach - np.einsum("ik,kyx->iyx", slope, sky.term_weights)
    if sky.destripe != "none":
        before = reach
        for axis in {"columns": (0,), "rows": (1,), "both": (0, 1)}[sky.destripe]:
            count = sky.use.sum(axis=axis, keepdims=True)
            share = np.where(sky.use & (count >= _MIN_LINE), 1 / np.maximum(count, 1), 0.0)
            # the lines' means are noisy too
            reach = reach - reach.sum(axis=1 + axis, keepdims=True) * share
        change += np.einsum("iyx,yx->i", reach - before, np.where(sky.use, residual, 0.0))
    return reach, change, slope


def study_surroundings(stamp: Stamp, bad: Mask, star: Star, options: EEOptions) -> Background:
    """Look at the pixels around the star: what their noise has in common, and whether the sky is flat.

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
    Background
        The star's, with what was found.
    """
    distance, model = star.distance, star.model
    image, variance = (np.where(bad, 0.0, layer) for layer in (stamp.image - star.sky.value, stamp.variance))
    if model is not None:
        near = ~bad & (distance <= _SCALE_RADIUS)
        light = model * max(0.0, image[near].sum()) / max(model[near].sum(), 1e-3)
        residual, outside = np.where(bad, 0.0, image - light), 0.0
    else:
        ring = np.rint(distance).astype(np.int64)
        total, count = (np.bincount(ring.ravel(), values.ravel()) for values in (image, (~bad).astype(float)))
        mean, outside = total / np.maximum(count, 1), options.sky_radii[0]
        # beyond half-way to the annulus, whose own light the sky's level hides, the wing falls as r^-2 at least
        half = min(round(outside / 2), len(mean) - 1)
        light = _STRUCTURE * max(mean[half], 0.0) * (half / np.maximum(distance, 1.0)) ** 2
        # the wing's fall is no noise
        residual = np.where(bad, 0.0, image - mean[ring])
    use = sky_pixels(residual, variance, bad | (distance < outside), light)
    sky = replace(star.sky, residual=residual, use=use, correlation=np.zeros(len(SHAPES)), destripe=options.destripe)
    if stamp.resampled:
        return sky
    # without a model of the wing its fall looks like a curvature of the sky
    if model is not None and sky.method == "annulus":
        # the aperture correction knows what part of each ring was used, not where spikes are missing, or lie between
        ring = np.maximum(distance - sky.r_in, 0.0).astype(np.int64).ravel()
        whole, lit, used = (np.bincount(ring, a.ravel()) for a in (sky.overlap, sky.overlap * light, sky.weights))
        uneven = float(np.sum(sky.weights * light) - np.sum(used * lit / np.where(whole > 0, whole, 1.0)))
        sky = fit_sky(replace(sky, uneven=uneven), variance, light, (star.x, star.y), options.sky_radii[0])
    if sky.image is not None:
        # a shape taken out takes with it most of what the noise has on its scale, of which less is known then
        return sky
    return replace(sky, correlation=estimate_correlation(residual, variance, use))


def fit_sky(sky: Background, variance: Array, light: Array, at: tuple[float, float], r_min: float) -> Background:
    """Fit a gradient and a curvature to the sky, and test whether it has them.

    Parameters
    ----------
    sky : Background
        With its residual, and the pixels that hold sky alone.
    variance : ndarray, shape (ny, nx)
        Of the pixels' own noise [(DN/s)^2].
    light : ndarray, shape (ny, nx)
        Model of the star's light, of which a fifth may be wrong [DN/s].
    at : (float, float)
        The star (x, y) [pix].
    r_min : float
        Pixels nearer to the star than this are not used [pix].

    Returns
    -------
    Background
        With the verdict, and the shape and the noise's correlation beside it where it stands out; as given where
        fewer than a hundred pixels determine it, or they lie on one side.
    """
    (ny, nx), (x, y), residual = variance.shape, at, sky.residual
    v, u = np.broadcast_arrays((np.arange(ny)[:, None] - y) / _UNIT, (np.arange(nx) - x) / _UNIT)
    r2 = u**2 + v**2
    terms = np.array([np.ones((ny, nx)), u, v, r2, u**2 - v**2, u * v])
    each, seen = terms.reshape(len(terms), -1), (sky.use & (r2 > (r_min / _UNIT) ** 2)).ravel()
    matrix = covariance_of_sums(each, seen)
    if seen.sum() < 100 or np.linalg.cond(matrix) > 1e6:
        return sky
    inverse, of_seen = np.linalg.inv(matrix), each * seen
    layers = residual, WING_ERROR * light
    coefficient, wing = (inverse @ np.einsum("kp,p->k", of_seen, layer.ravel()) for layer in layers)
    covariance = inverse @ covariance_of_sums(of_seen, variance.ravel()) @ inverse + np.outer(wing, wing)
    for by_common_noise in (False, True):
        if by_common_noise:
            # what independent pixels explain needs no dearer test
            image = np.einsum("k,kyx->yx", coefficient, terms)
            weights = np.einsum("jk,kp->jp", inverse, of_seen).reshape(terms.shape)
            correlation = estimate_correlation(residual - image, variance, sky.use, shape_removed=True)
            covariance = covariance + _DOUBT * correlated_covariance(weights, correlation)
        own, asked, chance = np.diagonal(covariance), coefficient[1:], 1.0
        if np.all(own[1:] > 0):
            # pixels without noise may leave the matrix singular
            chi2 = asked @ np.linalg.pinv(covariance[1:, 1:], hermitian=True) @ asked
            # r^2 alone moves the sky under the star; the others do so where the annulus is not complete
            chance = float(scipy.special.chdtrc([len(asked), 1], [chi2, coefficient[3] ** 2 / own[3]]).min())
        value, err = (float(part) / _UNIT**2 for part in (coefficient[3], np.sqrt(own[3])))
        flat = replace(sky, chance=chance, curvature=value, curvature_err=err, is_flat=True)
        if chance >= _PROBABILITY:
            return flat
    return replace(
        flat, is_flat=False, correlation=correlation, image=image, terms=terms, term_weights=weights, wing=wing
    )
