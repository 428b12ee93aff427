"""Light that bad pixels of the core lost, from the model PSF and the good pixels around them.

A star's image is its rate times the model PSF plus what the wavefront of its day changes. That change is taken as
normal with mean zero, and the lost pixels are what it and the good pixels within some radius make most likely
(Rasmussen and Williams 2006, Gaussian Processes for Machine Learning, chapter 2; the rate is free). Its prior
covariance has

- in each pixel of its own a fraction sqrt(c^2 + s^2) of the model's light, or of `_DARK` of the brightest of its 3x3
  pixels where that is more: c is 1.3 times the EE's fractional error within half a pixel, s = 0.6 S^0.5 g grows out of
  the core by g = min(1, (r / 2 R)^3.5), S is the sum of the squares of the model and R = (4 pi S)^-1/2 its size [pix];
  0.6 of it is alike in pixels within R of each other, as speckles are, whose amplitude goes with the wavefront error
  in wavelengths;
- S g times the model in all pixels together: the halo's light goes with the square of that;
- what moving the star by `_SHIFT` and blurring it by `_WIDTH` do.

How large the change is, in units of this prior, is what makes the star's own good pixels most likely.
"""

from functools import partial
from typing import Any

import numpy as np
import scipy
from numpy.typing import NDArray

from niriss_eestep.arrays import Array, Mask
from niriss_eestep.errors import ExposureError, ParameterError
from niriss_eestep.measure.position import fit_psf
from niriss_eestep.measure.repair import Repair, by_median, by_psf, by_surface, repair_pixels
from niriss_eestep.measure.stamp import EEOptions, Stamp
from niriss_eestep.measure.star_model import HALF_DIAGONAL, Star, compare, of_bad_pixels, star_at

#: coefficients of the prior, from 240 single wavefronts of 56 to 80 nm rms in the 12 filters, half of them without
#: C3's own error and a third without capacitance; `tests/benchmarks/bad_pixel_map.py` draws them
_CORE, _SPECKLE, _HALO, _HALO_RADIUS, _HALO_POWER, _DARK = 1.3, 0.6, 1.0, 2.0, 3.5, 0.15
#: this share of the change in each pixel is alike within so many sizes of the star
_ALIKE, _PATCH = 0.6, 1.0
#: a star whose core has bad pixels is found within this [pix]
_SHIFT = 0.1
#: half of the variance by which the star may be wider or narrower than the model [pix^2]: that of IPC is 0.005
_WIDTH = 0.005
#: by which a model PSF is moved for its derivatives [pix]
_STEP = 0.25
#: error of the core where the reference states none, over the square of S: 0.03 in F090W, 0.001 in F480M
_CORE_ERR = 1.6
#: the change may be this many times the prior's; its logarithm has this standard deviation beforehand
_AMPLITUDES = np.geomspace(0.03, 8.0, 29)
_AMPLITUDE_SPREAD = 0.5
#: numerical noise, as a fraction of the star's light
_NUMERICAL = 1e-5
#: pixels within this distance are compared with what the others predict [pix], if there are so many; a star that a bad
#: pixel draws to itself is this far off [pix]
_LOOKED_AT, _FEWEST, _LOST = 4.0, 20, 0.4
#: a pixel is doubtful beyond so many standard errors, of which so many are looked at again, and unlikely beyond those:
#: 720 images of 10 single wavefronts of 56 to 80 nm rms, by other optics than the package's, have 7.3 at most
_DOUBTFUL, _TRIED, _UNLIKELY = 3.0, 2, 8.0
#: ... and where it is off by this share of its light at least: charge that migrates takes up to 5 % off a peak
_MOVED = 0.1


def psf_covariance(model: Array, at: NDArray[np.int64], distance: Array, core_err: float) -> Array:
    """Prior covariance of a star's image about the model, for a star of rate 1.

    Parameters
    ----------
    model : ndarray, shape (ny, nx)
        Fraction of the star's light in each pixel.
    at : ndarray of int, shape (n,)
        Flat indices of the pixels wanted.
    distance : ndarray, shape (ny, nx)
        From the star [pix].
    core_err : float
        Fractional error of the light within half a pixel; 0 where it is not known.

    Returns
    -------
    ndarray, shape (n, n)
        Without the star's shift and blur.
    """
    sharpness = float(np.sum(model**2))
    rho = distance.flat[at] * np.sqrt(4 * np.pi * sharpness) / _HALO_RADIUS
    grown, light = np.minimum(1.0, rho**_HALO_POWER), model.flat[at]
    least = _DARK * scipy.ndimage.maximum_filter(model, 3, mode="nearest").flat[at]
    core, halo = _CORE * (core_err or _CORE_ERR * sharpness**2), _HALO * sharpness * grown * light
    own = np.maximum(light, least) * np.hypot(core, _SPECKLE * np.sqrt(sharpness) * grown)
    rows, columns = np.unravel_index(at, model.shape)
    apart = (rows[:, None] - rows) ** 2 + (columns[:, None] - columns) ** 2
    alike = _ALIKE * np.exp(-2 * np.pi * sharpness * apart / _PATCH**2) + (1 - _ALIKE) * (apart == 0)
    return np.outer(own, own) * alike + np.outer(halo, halo)


def repair_stamp(exposure: Stamp, bad: Mask, todo: Mask, core: Mask, star: Star, options: EEOptions) -> list[Repair]:
    """Repair the core by the model PSF, the rest by the method chosen.

    Parameters
    ----------
    exposure : Stamp
    bad, todo, core : ndarray of bool, shape (ny, nx)
        Every pixel not to trust, those of them to repair, and the core.
    star : Star
    options : EEOptions

    Returns
    -------
    list of Repair
        One or two.
    """
    repairs, rest = [], todo & ~core
    if (todo & core).any():
        repairs.append(repair_core(exposure, bad, todo & core, star, options.core_radius))
    if rest.any():
        by_model = partial(by_psf, model=star.model, background=star.sky.value)
        light: Array | float = 0.0
        if star.model is not None:
            rate, residual, ratio = compare(exposure, bad, star)
            light = max(0.0, rate) * star.model
            # the pixels that a repair looks at lie further out than those that were judged
            beyond = (star.distance > options.radii[-1] + HALF_DIAGONAL) & (ratio > 1)
            bad = bad | of_bad_pixels(beyond, residual, star)
        methods: dict[str, Any] = {"surface": partial(by_surface, light=light), "median": by_median, "psf": by_model}
        repairs.append(repair_pixels(exposure, bad, rest, star.distance, methods[options.bad_pixel_method]))
    return repairs


def shared_errors(repair: Repair, star: Star, weights: Array) -> dict[str, Array]:
    """Give what the repair of a core may have in common with those of its dithers: the star's PSF.

    Parameters
    ----------
    repair : Repair
    star : Star
    weights : ndarray, shape (n_radii, ny, nx)
        Of the apertures.

    Returns
    -------
    dict of str to ndarray
        The fields of an EE profile that begin with ``repair``.
    """
    j, i = np.unravel_index(repair.index, star.distance.shape)
    err, light = np.linalg.norm(weights[:, j, i] @ repair.common_err.T, axis=1), repair.value - star.sky.value
    return {"repair_err": err, "repair_x": i - star.x, "repair_y": j - star.y, "repair_light": light}


def repair_core(exposure: Stamp, bad: Mask, todo: Mask, star: Star, radius: float) -> Repair:
    """Repair bad pixels of the core.

    Parameters
    ----------
    exposure : Stamp
    bad, todo : ndarray of bool, shape (ny, nx)
        Every pixel not to trust, and those of them to repair.
    star : Star
        With a model.
    radius : float
        Good pixels within this distance from the star are used [pix].

    Returns
    -------
    Repair
        The method's covariance is in ``common_err``; noise of the good pixels and of the sky in the weights.

    Raises
    ------
    ParameterError
        If the star has no model.
    ExposureError
        If the good pixels hold no light of the star.
    """
    seen, lost, sky = np.flatnonzero(~bad & (star.distance <= radius)), np.flatnonzero(todo), star.sky
    data, prior, noise = _likeliest_prior(exposure, star, lost, seen, _SHIFT)
    n = len(lost)
    weights = np.linalg.solve(prior[n:, n:], prior[n:, :n]).T
    # noise that the weights carry is the pixels' own matter
    error = prior[:n, :n] - weights @ (prior[n:, n:] + np.diag(noise)) @ weights.T
    variance, axes = np.linalg.eigh(error)
    spread = np.zeros((n, *bad.shape))
    spread.reshape(n, -1)[:, seen] = weights
    spread += (1 - weights.sum(axis=1))[:, None, None] * sky.weights
    value = sky.value + np.einsum("kp,p->k", weights, data)
    return Repair(lost, value, spread, np.zeros(n), (axes * np.sqrt(np.maximum(variance, 0.0))).T)


def _likeliest_prior(
    exposure: Stamp, star: Star, lost: NDArray[np.int64], seen: NDArray[np.int64], shift: float
) -> tuple[Array, Array, Array]:
    """Light of the pixels that are seen; covariance of lost and seen ones, with the noise of these; and that noise.

    The covariance is that by the star's rate, place and width, and by what the wavefront does, as large as makes the
    light most likely.
    """
    psf, model, sky = star.psf, star.model, star.sky
    if model is None or psf.render is None:
        raise ParameterError("repair_core needs a model PSF for the exposure's filter; give one, or turn it off")
    data, light = exposure.image.flat[seen] - sky.value, model.flat[seen]
    rate = float(np.sum(data * light) / max(np.sum(light**2), np.finfo(float).tiny))
    if not rate > 0:
        raise ExposureError("repair_core: the good pixels of the core hold no light of the star: give a smaller radius")
    at, noise = np.concatenate([lost, seen]), exposure.variance.flat[seen] + (_NUMERICAL * rate) ** 2
    rows, columns = np.unravel_index(at, model.shape)
    j, i = int(rows.min()), int(columns.min())
    shape = int(rows.max()) - j + 1, int(columns.max()) - i + 1
    steps = _STEP * np.array([(1, 0), (-1, 0), (0, 1), (0, -1), (0, 0)])
    images = np.array([psf.render(star.x - i + dx, star.y - j + dy, shape) for dx, dy in steps])
    *moved, still = images[:, rows - j, columns - i]
    slopes = shift * np.subtract(moved[::2], moved[1::2]) / (2 * _STEP)
    blur = _WIDTH * (np.sum(moved, axis=0) - 4 * still) / _STEP**2
    free = rate * np.vstack([10 * model.flat[at], slopes, blur])
    known = free.T @ free + np.diag(np.append(np.zeros(len(lost)), noise))
    core_err = float(psf.ee_err(0.5) / psf.ee(0.5)) if psf.ee is not None and psf.ee_err is not None else 0.0
    change, own = rate**2 * psf_covariance(model, at, star.distance, core_err), slice(len(lost), None)
    # how many times its prior the change makes the light most likely
    whiten = partial(scipy.linalg.solve_triangular, np.linalg.cholesky(known[own, own]), lower=True)
    power, axes = np.linalg.eigh(whiten(whiten(change[own, own]).T))
    white, variance = axes.T @ whiten(data), 1 + _AMPLITUDES[:, None] ** 2 * np.maximum(power, 0.0)
    likelihood = np.sum(white**2 / variance + np.log(variance), axis=1) + (np.log(_AMPLITUDES) / _AMPLITUDE_SPREAD) ** 2
    return data, known + _AMPLITUDES[np.argmin(likelihood)] ** 2 * change, noise


def unlikely_pixels(exposure: Stamp, star: Star) -> Mask:
    """Find a pixel of the core that is not what its neighbours and the model PSF make of it.

    Each pixel is compared with what the others predict, as a lost one is repaired. The few that stand out are compared
    again with a star placed without them, for a bright pixel draws the star to itself.

    Parameters
    ----------
    exposure : Stamp
    star : Star

    Returns
    -------
    ndarray of bool, shape (ny, nx)
        One pixel, or none.
    """
    odd = np.zeros(exposure.bad.shape, dtype=bool)
    seen = np.flatnonzero(~exposure.bad & (star.distance <= _LOOKED_AT))
    if star.model is None or star.psf.render is None or exposure.resampled or len(seen) < _FEWEST:
        return odd
    try:
        data, prior, _ = _likeliest_prior(exposure, star, seen[:0], seen, _LOST)
    except ExposureError:
        return odd
    inverse, image = np.linalg.inv(prior), exposure.image - star.sky.value
    pulls = np.abs(inverse @ data) / np.sqrt(np.diagonal(inverse))
    worst = _UNLIKELY
    for k in seen[np.argsort(-pulls)][: np.sum(pulls > _DOUBTFUL)][:_TRIED]:
        lost = np.arange(odd.size).reshape(odd.shape) == k
        bad = exposure.bad | lost
        try:
            x, y, _ = fit_psf(image, bad, star.x, star.y, star.psf.render)
            repair = repair_core(exposure, bad, lost, star_at(x, y, star.sky, star.psf), _LOOKED_AT)
        except ExposureError:
            continue
        variance = np.sum(repair.common_err**2) + np.sum(repair.weights**2 * np.where(bad, 0.0, exposure.variance))
        apart = abs(exposure.image.flat[k] - repair.value[0])
        sigma = apart / np.sqrt(variance + exposure.variance.flat[k])
        if sigma > worst and apart > _MOVED * (repair.value[0] - star.sky.value):
            odd, worst = lost, sigma
    return of_bad_pixels(odd, compare(exposure, exposure.bad | odd, star)[1], star) if odd.any() else odd
