"""Mean brightness as a smooth function of the distance from the star."""

from __future__ import annotations

import numpy as np
import scipy

from niriss_eestep.measure.geometry import Array, Mask, weighted_sums

__all__ = ["radial_trend"]

#: width of the radial trend's Gaussian weights, and the step at which it is worked out [pix]; of 0.35, 0.45, 0.6 and
#: 0.8 the first two have the same errors within a tenth, the others larger ones (twice in F480M)
_TREND_WIDTH = 0.45
_TREND_STEP = 0.25
_TREND_BIN = 0.1
#: the trend is worked out at this many steps at a time, from the bins within this distance [pix], beyond which the
#: weights are below 1e-13: the work grows with the radius, not with its square
_TREND_BLOCK = 32
_TREND_REACH = 8 * _TREND_WIDTH


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


def _parabola_at_zero(moments: Array, sums: Array) -> tuple[Array, Mask]:
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
